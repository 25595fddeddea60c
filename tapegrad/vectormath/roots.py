"""Roots."""

from __future__ import annotations

from typing import Any

from tapegrad.lanes import (
    apart,
    bits,
    copysign,
    from_bits,
    is_single,
    mad,
    minus_product,
    narrow,
    number,
    operation,
    outside,
    polynomial,
    rarely,
    square_root,
    where,
    widen,
)
from tapegrad.vectormath.widths import INF, width

# Minimax polynomials, found by Remez's exchange in 240 bits (mpmath). For float64, for float32.
# ((1 - h)^(-1/3) - 1) / h on |h| <= 0.1026
_RCBRT = (
    (0.33333334606082304, 0.22222224818230796, 0.1728297114255018, 0.1440197063847002, 0.1266933650619783,
     0.11295169650258516),
    (0.33332977, 0.2234873, 0.17441557),
)  # fmt: skip


@operation
def sqrt(x: Any) -> Any:
    """The machine's own."""
    return square_root(x)


@operation
def rsqrt(x: Any) -> Any:
    """1 / sqrt(x)."""
    return 1.0 / square_root(x)


@operation
def hypot(a: Any, b: Any) -> Any:
    """sqrt(a² + b²): in float64 for float32, else with both scaled by a power of 2 where squares could be beyond."""
    if is_single(a):
        p, q = widen(a), widen(b)
        y = narrow(square_root(mad(p, p, q * q)))
    else:
        p, q = abs(a), abs(b)
        most = where(p > q, p, q)
        great, small = most > 2.0**510, most < 2.0**-480
        scale = where(great, 2.0**-600, where(small, 2.0**600, number(1.0, a)))
        back = where(great, 2.0**600, where(small, 2.0**-600, number(1.0, a)))
        p, q = p * scale, q * scale
        y = square_root(mad(p, p, q * q)) * back
    return where((abs(a) == INF) | (abs(b) == INF), INF, y)


# The bits of a float count its logarithm, roughly: those of x^(-1/3), without the lowest, are c - bits(x) / 3. Here are
# the bits that are dropped, and c plus 4/3 of the width's `magic`, such that |1 - x y³| is least: 0.1022.
_RCBRT_START = ((32, 9007200684927352.0), (10, 18163838.0))

# For these the remainder of the root's cube is exact enough, and how many times 2^3 others are scaled.
_CBRT_LIMITS = ((2.0**-900, 2.0**900, 200), (2.0**-80, 2.0**80, 24))


def _root(a: Any) -> Any:
    """a^(1/3) = a y² with y = a^(-1/3), better by one of Newton's steps.

    y is a guess from the bits (as Blinn 1997 for the square root), y0, times (1 - h)^(-1/3) where h = 1 - a y0³.
    """
    dropped, start = _RCBRT_START[is_single(a)]
    shifted = from_bits((bits(a) >> dropped) + width(a).magic_bits)
    y = from_bits(bits(mad(shifted, -1.0 / 3.0, start)) << dropped)
    h = mad(-(a * y * y), y, 1.0)
    y = mad(y * h, polynomial(h, _RCBRT[is_single(a)]), y)
    square = y * y
    root = a * square
    rest = minus_product(a, root * root, root)
    return mad(rest, square * (1.0 / 3.0), root)


def _cbrt_of_rest(x: Any) -> Any:
    thirds = _CBRT_LIMITS[is_single(x)][2]
    a = abs(x)
    small = a < 1.0
    y = _root(a * where(small, number(8.0**thirds, a), 8.0**-thirds)) * where(
        small, number(0.5**thirds, a), 2.0**thirds
    )
    return where((a > 0.0) & (a < INF), copysign(y, x), x)


@apart
def cbrt(x: Any) -> Any:
    """The cube root of |x|, with the sign."""
    low, high, _ = _CBRT_LIMITS[is_single(x)]
    a = abs(x)
    return rarely(outside(a, low, high), _cbrt_of_rest, copysign(_root(a), x), x)
