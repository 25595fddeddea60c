"""What differs between float64 and float32, and constants."""

from __future__ import annotations

from typing import Any, NamedTuple

from tapegrad.lanes import is_single

INF, NAN = float("inf"), float("nan")


class Width(NamedTuple):
    """What differs between float64 and float32, besides polynomials."""

    bits: int
    shift: int  # bits of the fraction
    bias: int  # of the exponent
    magic: float  # added to a small number, it leaves the nearest integer in the lowest bits
    magic_bits: int
    sqrt_half: int  # the bits of sqrt(1/2)
    least: float  # the least normal number
    lift: int  # times two to this, subnormals are normal
    overflow: float  # exp of it is inf
    underflow: float  # exp of it is 0
    saturation: float  # beyond it, 1 - exp(-x) is 1
    ln2: tuple[float, float]  # in two parts, the first times an exponent is exact
    log10_2: tuple[float, float]


F64 = Width(
    64, 52, 1023, 1.5 * 2.0**52, 0x4338000000000000, 0x3FE6A09E667F3BCD, 2.0**-1022, 54, 710.0, -746.0, 40.0,
    (0.693147180559663, 2.8235290563031577e-13), (0.30102999566383914, 1.42050232272661e-13),
)  # fmt: skip
F32 = Width(
    32, 23, 127, 1.5 * 2.0**23, 0x4B400000, 0x3F3504F3, 2.0**-126, 25, 89.0, -104.5, 20.0,
    (0.693145751953125, 1.428606765330187e-06), (0.301025390625, 4.605039066518657e-06),
)  # fmt: skip
LN2 = 0.6931471805599453
LOG2E, LOG10E = 1.4426950408889634, 0.4342944819032518


def width(x: Any) -> Width:
    """That of a number."""
    return F32 if is_single(x) else F64
