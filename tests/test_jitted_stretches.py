"""Straight code of array expressions, as nests: values are the plain call's to the last bit, gradients those of forward
mode, which computes element by element.
"""

import numpy as np
import pytest
from numba import njit
from thoroughness import further

from tapegrad import func, jitted


@njit
def of_many_forms(x, w, v, s, p):
    """Arrays that are named and read several times, parts of them, choices, sums, numbers, passive and broadcast ones.

    There are over eight arrays in one stretch.
    """
    t = 4.0 * x[1:-1, 1:-1] - (x[2:, 1:-1] + x[:-2, 1:-1] * w[1:-1, 2:])
    along, across = t[1:] - t[:-1], t[:, 1:] * t[:, :-1]
    along = np.where(along * w[1:-2, 1:-1] > s, 0.0, along)
    across = np.where(across < across * across, across, s)
    other = np.exp(0.1 * x) - p / (2.0 + w * w)
    columns, rows = np.sum(other * other, axis=0), np.sum(other - v, axis=1)
    mean = np.sum(rows) / rows.size
    scaled = (columns - mean) * np.log(2.0 + mean * mean)
    larger = np.maximum(scaled, v) + p[1]
    again = larger
    return np.sum(along**2) + (across * s).sum() + np.sum(rows * rows) + scaled[2] + np.sum(again * larger), again


@njit
def first_of(x, w, v, s, p):
    return of_many_forms(x, w, v, s, p)[0]


@njit
def written_to(x, w, v, s, p):
    """Arrays that a stretch makes are the user's own: written to, handed on, made anew in each turn of a loop."""
    a = x * w + s
    a[0] = v
    total, b = 0.0, a - 0.5
    for k in range(3):
        b = np.tanh(b * a) + p
        if k == 1:
            b[2:4] *= v
        total += np.sum(b * b)
    return total


def _given(n, m):
    rng = np.random.default_rng(n)
    x, w, p = rng.normal(size=(3, n, m))
    return x, w, rng.normal(size=m), 0.3, p


@pytest.mark.parametrize("function", [first_of, *further(written_to)])
def test_values_and_gradients(function):
    x, w, v, s, p = _given(9, 7)
    apart = np.repeat(x, 2, axis=1)[:, ::2]
    for args in ((x, w, v, s, p), (apart, w, v, s, p), (x, x, v, s, p), _given(4, 4)):
        value, found = func.value_and_grad(function, argnums=(0, 1, 2, 3))(*args)
        assert value == function(*args)
        for one, by in zip(found, func.jacfwd(function, argnums=(0, 1, 2, 3))(*args), strict=True):
            np.testing.assert_allclose(one, by, rtol=1e-11, atol=1e-12)


@njit
def infinite(x, w):
    t = x * w
    return np.sum(np.where(w < 1.0, t, 2.0 * x)) + np.sum(np.where(x > 0.0, np.sqrt(x), 0.0))


def test_what_is_not_taken_leaves_no_nan():
    x = np.arange(40.0)
    w = np.where(x < 20, 0.5, np.inf)
    found = func.grad(infinite)(x, w)
    slope = np.where(x > 0, 0.5 / np.sqrt(np.maximum(x, 1e-300)), 0.0)
    np.testing.assert_allclose(found, np.where(x < 20, 0.5, 2.0) + slope, rtol=1e-14)


@njit
def joined(a, b):
    c = a * b
    return np.sum(c * c + b)


def test_shapes_that_are_broadcast_and_that_disagree():
    """What isn't of the same lengths is left to the plain statements; so are few elements, and none."""
    rng = np.random.default_rng(3)
    a = rng.normal(size=(8, 9))
    for b in (rng.normal(size=(8, 9)), rng.normal(size=(1, 9)), rng.normal(size=(8, 1))):
        value, (by_a, by_b) = func.value_and_grad(joined, argnums=(0, 1))(a, b)
        assert value == joined(a, b)
        np.testing.assert_allclose(by_a, 2.0 * a * b * b, rtol=1e-14)
        along = tuple(k for k in range(2) if b.shape[k] == 1)
        expected = np.sum(2.0 * a * a * b + 1.0, axis=along, keepdims=True)
        np.testing.assert_allclose(by_b, expected, rtol=1e-13)
    value, found = func.value_and_grad(joined)(a[:0], a[:0])
    assert value == 0.0
    assert found.shape == (0, 9)
    for function in (joined, func.grad(joined)):
        with pytest.raises(ValueError, match="broadcast"):
            function(a, a[1:])


@njit
def squares(a):
    b = a * a
    c = b - 0.5 * a
    return np.sum(c * b)


def test_elements_have_no_rows():
    """The tape holds the arrays, the argument's and two that are named: with room to grow, 18 bytes an element."""
    kept = []
    for n in (10_000, 20_000):
        jitted.free()
        func.grad(squares)(np.linspace(1.0, 2.0, n))
        kept.append(jitted.nbytes())
    assert kept[1] - kept[0] < 10_000 * (4 * 18 + 8)


def test_second_order():
    a = np.linspace(0.1, 1.0, 40)
    expected = np.diag(12.0 * a**2 - 3.0 * a)
    np.testing.assert_allclose(func.hessian(squares)(a), expected, rtol=1e-12, atol=1e-13)
