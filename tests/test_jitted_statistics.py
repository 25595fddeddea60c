"""Quantiles, partitions, counts and what passes over nan in jitted code: Numba's values, gradients of both engines."""

import numpy as np
import pytest
from plain_functions import njit
from thoroughness import further

import tapegrad as tg

RNG = np.random.default_rng(8)
X = RNG.permutation(np.linspace(-1.5, 2.0, 9))
WITH_NAN = X.copy()
WITH_NAN[[2, 5]] = np.nan
Q, AT, TAKEN = np.array([0.0, 0.3, 0.55, 1.0]), np.array([0, 2, 2, 1, 0, 4, 4, 1, 0]), np.array([[3, 0], [0, -1]])


def numbers(x):
    reduced = np.nansum(x) * 0.3 + np.nanprod(x) + np.nanmean(x) ** 2 + np.nanvar(x) + np.nanstd(x)
    return reduced + np.nanmax(x) * np.nanmin(x) + np.nanmedian(x) ** 2


def runs(x):
    return np.sum(np.nancumsum(x) ** 2) + np.sum(np.nancumprod(x) ** 2)


def quantiles(x):
    several = np.sum(np.quantile(x, Q) ** 2) + np.sum(np.nanpercentile(x, 100 * Q) ** 2)
    return several + np.percentile(x, 40.0) ** 2 + np.nanquantile(x, 0.77) ** 2


def nan_quantiles(x):
    return np.sum(np.nanquantile(x, Q) ** 2) + np.nanpercentile(x, 33.0)


def moved(x):
    ranked = np.partition(x, 3)  # those on one side of a rank are in no order
    parts = ranked[3] * 3.0 + np.sum(ranked[:3] ** 2) + np.sum(np.ediff1d(x) ** 2) + np.sum(np.take(x, TAKEN) ** 2)
    return parts + np.sum(np.bincount(AT, x, 7) ** 2) + np.trapezoid(x * x) + np.trapezoid(x, x * x)


@pytest.mark.parametrize(
    ("function", "x"),
    [
        (numbers, X),
        (numbers, WITH_NAN),
        (runs, WITH_NAN),
        (nan_quantiles, WITH_NAN),
        *further((quantiles, X), (moved, X)),
    ],
)
def test_both_engines_agree(function, x):
    jitted = njit(function)
    value, gradient = tg.func.value_and_grad(jitted)(x)
    assert value == jitted(x)
    recorded = tg.func.grad(function)(x)
    np.testing.assert_allclose(gradient, recorded, rtol=1e-12, atol=1e-13)


def test_nan_in_a_quantile_is_handed_on():
    f = njit(lambda x: np.percentile(x, 50.0))
    assert np.isnan(tg.func.value_and_grad(f)(WITH_NAN)[0])
    all_nan = njit(lambda x: np.nanmedian(x))
    assert np.isnan(tg.func.value_and_grad(all_nan)(np.full(3, np.nan))[0])


def test_what_numba_raises_is_raised():
    f = njit(lambda x: np.sum(np.bincount(np.array([0, -1]), x)))
    with pytest.raises(ValueError, match="non-negative"):
        tg.func.grad(f)(np.ones(2))
