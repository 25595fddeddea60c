"""Functions that densities are made of, exact where their parts are large and cancel."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tapegrad.distributions import operations as tg
from tapegrad.distributions.distribution import HALF_LOG_2PI
from tapegrad.distributions.transforms import softplus
from tapegrad.tensor import Tensor, from_array

_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)  # DLMF 5.11.1
_LEAST = 10.0


def _remainder(x: Tensor) -> Tensor:
    """lgamma(x) - (x - 1/2) log x + x - log(2 pi) / 2, by Stirling's series; of x of 10 and more."""
    x = tg.where(x < _LEAST, _LEAST, x)
    y = 1.0 / (x * x)
    total = tg.zeros_like(x) + _STIRLING[-1]
    for c in _STIRLING[-2::-1]:
        total = total * y + c
    return total / x


def lbeta(a: Tensor, b: Tensor) -> Tensor:
    """Log B(a, b) = lgamma(a) + lgamma(b) - lgamma(a + b).

    Where an argument is large these cancel; there Stirling's formulas for them are subtracted term by term.
    """
    a, b = tg.broadcast_tensors(a, b)
    low, high = tg.where(a <= b, a, b), tg.where(a <= b, b, a)
    both = low + high
    ratio = tg.log1p(low / high)
    near = tg.lgamma(low) + tg.lgamma(high) - tg.lgamma(both)
    shared = _remainder(high) - _remainder(both) - (high - 0.5) * ratio
    one = tg.lgamma(low) + shared + low - low * tg.log(both)
    two = HALF_LOG_2PI + _remainder(low) + shared - 0.5 * tg.log(low) - low * tg.log(both / low)
    return tg.where(high < _LEAST, near, tg.where(low < _LEAST, one, two))


def log_of_one_and_square(z: Tensor) -> Tensor:
    """log(1 + z^2), which does not overflow."""
    large = tg.abs(z) > 1e8
    inside, outside = tg.where(large, 0.0, z), tg.where(large, tg.abs(z), 1.0)
    return tg.where(large, 2.0 * tg.log(outside), tg.log1p(inside * inside))


def times(n: Tensor, log: Tensor) -> Tensor:
    """N log, 0 where n is 0 and the logarithm that of 0."""
    return tg.where((n == 0.0) & tg.isinf(log), 0.0, n * log)


def log_sinhc(h: Tensor) -> Tensor:
    """log(sinh(h) / h), which is even: by its series (DLMF 4.19.7) up to 1."""
    size = tg.abs(h)
    far = tg.where(size < 1.0, 1.0, size)
    return tg.where(size < 1.0, _even(_LOG_SINHC, h), far + tg.log1p(-tg.exp(-2.0 * far)) - tg.log(2.0 * far))


def langevin(h: Tensor) -> Tensor:
    """coth(h) - 1 / h, the derivative of log(sinh(h) / h)."""
    far = tg.where(tg.abs(h) < 1.0, 1.0, h)
    return tg.where(tg.abs(h) < 1.0, h * _even(_LANGEVIN, h), 1.0 / tg.tanh(far) - 1.0 / far)


def langevin_slope(h: Tensor) -> Tensor:
    """1 / h^2 - 1 / sinh(h)^2, the derivative of `langevin`."""
    far = tg.where(tg.abs(h) < 1.0, 1.0, tg.abs(h))
    half = 1.0 - tg.exp(-2.0 * far)
    away = 1.0 / (far * far) - 4.0 * tg.exp(-2.0 * far) / (half * half)
    return tg.where(tg.abs(h) < 1.0, _even(_LANGEVIN_SLOPE, h), away)


def _zeta(s: int) -> float:
    return math.fsum([*(k**-s for k in range(1, 40)), 39.5 ** (1 - s) / (s - 1)]) if s > 2 else math.pi**2 / 6


def _log_sinhc_terms() -> list[float]:
    """log(sinh(h) / h) = sum_n (-1)^(n + 1) zeta(2 n) / n (h / pi)^(2 n)."""
    return [0.0, *((-1) ** (n + 1) * _zeta(2 * n) / n / math.pi ** (2 * n) for n in range(1, 18))]


_LOG_SINHC = _log_sinhc_terms()
_LANGEVIN = [2 * n * c for n, c in enumerate(_LOG_SINHC)][1:]
_LANGEVIN_SLOPE = [(2 * n + 1) * c for n, c in enumerate(_LANGEVIN)]


def _even(coefficients: list[float], h: Tensor) -> Tensor:
    """A polynomial in h^2; of h beyond 1 it isn't asked for."""
    y = tg.where(tg.abs(h) < 1.0, h * h, 0.0)
    total = tg.zeros_like(h) + coefficients[-1]
    for c in coefficients[-2::-1]:
        total = total * y + c
    return total


def _of_scipy(name: str, slope: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A function of SciPy's, elementwise, whose derivative is one of Tensors: of every order."""

    class Made(tg.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            import scipy.special

            ctx.save_for_backward(x)
            return from_array(np.asarray(getattr(scipy.special, name)(x._array()), x.dtype.numpy))

        @staticmethod
        def backward(ctx: Any, y_bar: Tensor) -> Tensor:
            return y_bar * slope(*ctx.saved_tensors)

    Made.__name__ = Made.__qualname__ = name
    return Made.apply


def _square_root_2pi_exp(x: Tensor) -> Tensor:
    y = ndtri(x)
    return tg.exp(0.5 * y * y + HALF_LOG_2PI)


ndtri = _of_scipy("ndtri", _square_root_2pi_exp)
erfinv: Callable[[Tensor], Tensor] = _of_scipy("erfinv", lambda x: 0.5 * math.sqrt(math.pi) * tg.exp(erfinv(x) ** 2))
_i0e: Callable[[Tensor], Tensor] = _of_scipy("i0e", lambda x: _i1e(x) - _i0e(x))  # of x > 0; DLMF 10.29.3
_i1e: Callable[[Tensor], Tensor] = _of_scipy("i1e", lambda x: _i0e(x) - _i1e(x) / x - _i1e(x))  # 10.29.2


def log_i0e(x: Tensor) -> Tensor:
    """Log I0(x) - x, with the modified Bessel function of order 0; of x > 0."""
    return tg.log(_i0e(x))


def bessel_ratio(x: Tensor) -> Tensor:
    """I1(x) / I0(x), of x > 0."""
    return _i1e(x) / _i0e(x)


__all__ = [
    "bessel_ratio",
    "erfinv", "langevin", "langevin_slope", "lbeta", "log_i0e", "log_of_one_and_square", "log_sinhc", "ndtri",
    "softplus", "times",
]  # fmt: skip
