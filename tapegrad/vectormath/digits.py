"""What the digits of a float are: mantissa and exponent, and the neighbour."""

from __future__ import annotations

from typing import Any

from tapegrad.lanes import bits, copysign, from_bits, number, operation, where, whole
from tapegrad.vectormath.exponential import raised
from tapegrad.vectormath.widths import INF, NAN, width


def _normal(x: Any) -> tuple[Any, Any]:
    """The bits of |x|, or of a multiple that is normal, and how often it was doubled."""
    a = abs(x)
    small, (lifted, lift) = a < width(x).least, raised(a)
    return bits(where(small, lifted, a)), where(small, number(lift, x), 0.0)


@operation
def mantissa(x: Any) -> Any:
    """x / 2^n in [1/2, 1), with its sign; what is 0 or not finite is itself."""
    w = width(x)
    i, _ = _normal(x)
    y = from_bits((i & ((1 << w.shift) - 1)) | ((w.bias - 1) << w.shift))
    return where((x == 0.0) | (abs(x) == INF) | (x != x), x, copysign(y, x))


@operation
def exponent(x: Any) -> Any:
    """The n of the mantissa, of what is finite and not 0."""
    w = width(x)
    i, lift = _normal(x)
    return whole((i >> w.shift) - (w.bias - 1)) - lift


@operation
def nextafter(a: Any, b: Any) -> Any:
    """The neighbour of `a` on the side of `b`: the next greater or smaller integer of the same sign."""
    i = bits(a)
    grows = (b > a) & (a > 0.0) | (b < a) & (a < 0.0)
    y = where(grows, from_bits(i + 1), from_bits(i - 1))
    one = bits(number(0.0, a)) + 1
    y = where(a == 0.0, copysign(from_bits(one), b), y)
    return where((a != a) | (b != b), NAN, where(a == b, b, y))
