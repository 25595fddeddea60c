"""Gamma variates and their derivative by the concentration a: implicit, of the distribution function P(a, x).

With p the density, dx/da = -(dP/da) / p(x) (Figurnov, Mohamed and Mnih 2018, *Implicit reparameterization gradients*).
Each of the forms below is a sum or an integral whose terms have one sign, nearly: so nothing cancels, in either tail.

    x >= exp(psi(a + 1))    x int_0^oo exp(a v - x (e^v - 1)) (log x + v - psi(a)) dv         from dQ/da, t = x e^v
    else, a <= 4            sum_n x^(n+1) G(a) / G(a + n + 1) (psi(a + n + 1) - log x)        DLMF 8.7.1, by a
    else                    x int_0^oo exp(-a v + x (1 - e^-v)) (psi(a) - log x + v) dv       from dP/da, t = x e^-v
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from tapegrad import creation
from tapegrad.autograd.host import host_function
from tapegrad.distributions.distribution import expanded
from tapegrad.tensor import Tensor

_NODES = 64
_TERMS = 48
_CHUNK = 4096
_DEPTH = 42.0  # e^-42 is below the last place


def _end(slope: np.ndarray, exponent: Any) -> np.ndarray:
    """Where a concave exponent, 0 at 0, has come down to -_DEPTH: by doubling, then by halving."""
    high = np.ones_like(slope)
    for _ in range(64):
        if (short := exponent(high) > -_DEPTH).any():
            high = np.where(short, 2.0 * high, high)
        else:
            break
    low = np.zeros_like(high)
    for _ in range(60):
        middle = 0.5 * (low + high)
        if (high - low <= 0.01 * high).all():
            break
        beyond = exponent(middle) < -_DEPTH
        low, high = np.where(beyond, low, middle), np.where(beyond, middle, high)
    return high


def _by_quadrature(a: np.ndarray, log_x: np.ndarray, sign: float) -> np.ndarray:
    """(dx/da) / x by Gauss and Legendre's rule, on the side of the tail that `sign` gives."""
    from scipy.special import psi

    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    x, offset = np.exp(log_x), sign * (log_x - psi(a))
    end = _end(a, lambda v: sign * (a * v - x * np.expm1(sign * v)) if sign > 0 else -a * v - x * np.expm1(-v))
    v = 0.5 * end[:, None] * (1.0 + nodes)
    exponent = sign * a[:, None] * v - x[:, None] * np.expm1(sign * v)
    return np.asarray(0.5 * end * ((np.exp(exponent) * (offset[:, None] + v)) @ weights))


def _by_series(a: np.ndarray, log_x: np.ndarray) -> np.ndarray:
    """(dx/da) / x by the series."""
    from scipy.special import psi

    x = np.exp(log_x)
    term, digamma, total = 1.0 / a, psi(a + 1.0), np.zeros_like(a)
    for n in range(_TERMS):
        total += term * (digamma - log_x)
        digamma = digamma + 1.0 / (a + n + 1.0)
        term = term * x / (a + n + 1.0)
    return total


def slope_of_log(a: np.ndarray, log_x: np.ndarray) -> np.ndarray:
    """d(log x)/da at one value P of the distribution function: of float64 arrays of one shape."""
    from scipy.special import psi

    shape = a.shape
    a, log_x = (np.ascontiguousarray(v, np.float64).reshape(-1) for v in (a, log_x))
    result = np.full(a.shape, np.nan)
    with np.errstate(all="ignore"):
        right = log_x >= psi(a + 1.0)
        series = ~right & (a <= 4.0)
        for mask, rule in (
            (right, functools.partial(_by_quadrature, sign=1.0)),
            (series, _by_series),
            (~right & (a > 4.0), functools.partial(_by_quadrature, sign=-1.0)),
        ):
            chosen = np.flatnonzero(mask)
            for start in range(0, len(chosen), _CHUNK):
                at = chosen[start : start + _CHUNK]
                result[at] = rule(a[at], log_x[at])
    return result.reshape(shape)


def _standard_gamma(input: Tensor, generator: creation.Generator | None = None) -> Tensor:
    """Gamma variates of rate 1, for `rsample` of others."""
    return log_standard_gamma(input, input.shape, generator).exp()


def log_standard_gamma(concentration: Tensor, shape: Any, generator: creation.Generator | None = None) -> Tensor:
    """The logarithm of gamma variates of rate 1: finite also where they are below the least number.

    With a concentration a below 1, x(a) = x(a + 1) U^(1/a) with U uniform. The derivative is the implicit one; it has
    none in its turn, and asking for it is an error.
    """
    a = expanded(concentration, shape)
    drawn = creation.random(generator)

    def draw(values: np.ndarray) -> np.ndarray:
        values64 = values.astype(np.float64)
        small = values64 < 1.0
        with np.errstate(divide="ignore", invalid="ignore"):
            log_x = np.log(drawn.standard_gamma(np.where(small, values64 + 1.0, values64)))
            if small.any():
                log_x = log_x - np.where(small, drawn.standard_exponential(values64.shape) / values64, 0.0)
        return np.asarray(log_x, values.dtype)

    def pulled(y_bar: np.ndarray, y: np.ndarray, values: np.ndarray) -> np.ndarray:
        return np.asarray(y_bar * slope_of_log(values, y), values.dtype)

    return host_function(draw, pulled)(a)
