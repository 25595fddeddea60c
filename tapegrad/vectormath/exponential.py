"""Exponentials, hyperbolic functions, logarithms and powers."""

from __future__ import annotations

import decimal
import functools
from typing import Any, NamedTuple

from tapegrad.lanes import (
    apart,
    bits,
    copysign,
    fast_two_sum,
    floor,
    from_bits,
    is_floating,
    is_single,
    lookup,
    mad,
    minus_product,
    number,
    operation,
    outside,
    polynomial,
    rarely,
    square_root,
    two_product,
    where,
    whole,
)
from tapegrad.vectormath.widths import F64, INF, LOG2E, LOG10E, NAN, Width, width

_30_LN2 = 20.79441541679836
# Minimax polynomials, found by Remez's exchange in 240 bits (mpmath). For float64, for float32.
# (exp(r) - 1 - r) / r² on |r| <= log(2)/2
EXP = (
    (0.5000000000000001, 0.16666666666666674, 0.04166666666662412, 0.008333333333322207, 0.0013888888917217457,
     0.00019841269886591, 2.4801521290973345e-05, 2.7557242336680357e-06, 2.7620090518499427e-07,
     2.5110049895858716e-08),
    (0.5, 0.16666576, 0.041666374, 0.008363184, 0.0013941121),
)  # fmt: skip
# (2^r - 1) / r on |r| <= 1/2
_EXP2 = (
    (0.6931471805599453, 0.24022650695910097, 0.05550410866482166, 0.009618129107606854, 0.0013333558146395785,
     0.00015403530441795933, 1.5252733853407262e-05, 1.3215442550644925e-06, 1.0178051702220334e-07,
     7.072593488906041e-09, 4.4566764618976285e-10),
    (0.6931472, 0.2402265, 0.05550357, 0.00961803, 0.0013390891, 0.00015469891),
)  # fmt: skip
# For float64 (log((1+s)/(1-s)) - 2s) / s³ in s² <= (3 - sqrt(8))²; for float32 (log(1+f) - f) / f² on
# sqrt(1/2) <= 1 + f <= sqrt(2)
_LOG = (
    (0.666666666666667, 0.3999999999989829, 0.2857142862647463, 0.22222211059843547, 0.1818289420486734,
     0.15331563186642724, 0.1461829947635883),
    (-0.49999988, 0.33333325, -0.250016, 0.2000196, -0.16608717, 0.14182328, -0.13246422, 0.12900995, -0.076084934),
)  # fmt: skip
# log2(1+r) / r - 1 and log10(1+r) / r - 1/2 on |r| <= 1/32, for float32
_LOG2_NEAR_ONE = (0.44269505, -0.7213475, 0.48081678, -0.36087364, 0.37059787)
_LOG10_NEAR_ONE = (-0.065705515, -0.21714725, 0.14474475, -0.10859954, 0.1061036)
# (2r - r² - 2 log(1+r)) / r³ on |r| <= 1/32
_LOG_NEAR_ONE = (
    (-0.6666666666666666, 0.49999999999999467, -0.39999999999997754, 0.3333333334062398, -0.2857142858713445,
     0.24999973130658848, -0.22222182713155075, 0.20036668831911691, -0.18223196354402627),
    (-0.6666666, 0.5, -0.40030015, 0.3335179),
)  # fmt: skip
# (sinh(r) - r) / r³ and (cosh(r) - 1) / r² in r² on |r| <= log(2)/2
_SINH = (
    (0.16666666666666666, 0.008333333333333333, 0.00019841269841263285, 2.7557319247256763e-06, 2.5052071053795302e-08,
     1.6086642878619398e-10),
    (0.16666667, 0.0083333105, 0.00019891022),
)  # fmt: skip
_COSH = (
    (0.5, 0.04166666666666668, 0.0013888888888879051, 2.4801587336499618e-05, 2.7557263218022303e-07,
     2.091816022701275e-09),
    (0.5, 0.041666463, 0.0013933679),
)  # fmt: skip


# --- exponentials -----------------------------------------------------------------------------------------------------


def _clamped(x: Any, low: float, high: float) -> Any:
    """`x` limited to an interval; nan stays."""
    x = where(x > high, high, x)
    return where(x < low, low, x)


def reduced(x: Any) -> tuple[Any, Any]:
    """n and r with x = n log(2) + r, |r| <= log(2)/2; n in the lowest bits of an integer."""
    w = width(x)
    shifted = mad(x, LOG2E, w.magic)
    n = shifted - w.magic
    return bits(shifted), mad(n, -w.ln2[1], mad(n, -w.ln2[0], x))


def _power(n: Any, w: Width, less: int = 0) -> Any:
    """2^(n - less) for n in the lowest bits, within the normal numbers."""
    return from_bits((n + (w.bias - less)) << w.shift)


def scaled(y: Any, n: Any, w: Width) -> Any:
    """2^n y in two steps, neither of which overflows or underflows unless the result does."""
    half = n >> 1
    return y * _power(half, w) * _power(n - half, w)


@operation
def exp(x: Any) -> Any:
    """e^x = 2^n e^r; what is nothing is not computed, since numbers that underflow take some processors long."""
    w = width(x)
    vanishes = x < w.underflow
    n, r = reduced(where(vanishes, 0.0, where(x > w.overflow, w.overflow, x)))
    y = scaled(mad(r * r, polynomial(r, EXP[is_single(x)]), r) + 1.0, n, w)
    return where(vanishes, 0.0, y)


@operation
def exp2(x: Any) -> Any:
    """2^x = 2^n 2^r."""
    w = width(x)
    x = _clamped(x, w.underflow * LOG2E, w.overflow * LOG2E)
    shifted = x + w.magic
    r = x - (shifted - w.magic)
    return scaled(mad(r, polynomial(r, _EXP2[is_single(x)]), 1.0), bits(shifted), w)


def _expm1(x: Any, less: int = 0) -> tuple[Any, Any]:
    """(e^x - 1) / 2^less as a sum of two, the first much larger, where nothing overflows.

    With s = 2^n and r = t - n log(2)_low it is (s - 1 + s t) + s (r² P - n log(2)_low): t is exact, and rounds once.
    """
    w = width(x)
    shifted = mad(x, LOG2E, w.magic)
    n = shifted - w.magic
    s = _power(bits(shifted), w, less)
    t = mad(n, -w.ln2[0], x)
    low = n * -w.ln2[1]
    r = t + low
    return mad(s, t, s - 0.5**less), s * mad(r * r, polynomial(r, EXP[is_single(x)]), low)


@operation
def expm1(x: Any) -> Any:
    """e^x - 1."""
    w = width(x)
    high, low = _expm1(_clamped(x, -w.saturation, w.overflow), less=1)
    return where(abs(x) < 0.5**w.lift, x, (high + low) * 2.0)


@operation
def tanh(x: Any) -> Any:
    """t / (t + 2) with t = e^2|x| - 1; where that is small as t/2 - t/2 t/(t + 2), of which t/2 is nearly exact."""
    limit = width(x).saturation
    a = abs(x) * 2.0
    high, low = _expm1(where(a > limit, limit, a))
    t = high + low
    y = t / (t + 2.0)
    return copysign(where(t < 1.0, 0.5 * (high + mad(-t, y, low)), y), x)


@operation
def sigmoid(x: Any) -> Any:
    """With e = e^-|x| and y = e / (1 + e): 1 - y, or for negative `x` e - e y."""
    e = exp(-abs(x))
    most = where(x < 0.0, e, 1.0)
    return mad(-most, e / (e + 1.0), most)


@operation
def softplus(x: Any) -> Any:
    """log(1 + e^x) = max(x, 0) + log(1 + e^-|x|)."""
    return where(x < 0.0, 0.0, x) + _log1p(exp(-abs(x)))


def _hyperbolic(a: Any) -> tuple[Any, Any, Any, Any, Any, Any]:
    """p, q, t, l, S, C with 2 sinh(a) = p sinh(r) + q cosh(r), 2 cosh(a) = p cosh(r) + q sinh(r), halved twice.

    a = n log(2) + r >= 0, r = t + l, sinh(r) = t + S, cosh(r) = 1 + C; p = 2^n + 2^-n, q = 2^n - 2^-n.
    """
    w = width(a)
    a = where(a > w.overflow + 0.6, w.overflow + 0.6, a)
    shifted = mad(a, LOG2E, w.magic)
    n = shifted - w.magic
    grown = _power(bits(shifted), w, less=2)
    shrunk = where(a > w.saturation, 0.0, from_bits((w.bias - 2 + w.magic_bits - bits(shifted)) << w.shift))
    t = mad(n, -w.ln2[0], a)
    low = n * -w.ln2[1]
    r = t + low
    z = r * r
    single = is_single(a)
    s = mad(z * r, polynomial(z, _SINH[single]), low)
    return grown + shrunk, grown - shrunk, t, s, z * polynomial(z, _COSH[single]), w


@operation
def sinh(x: Any) -> Any:
    """q + p t first, which is most of it; for small `x` q is 0 and t is exact."""
    a = abs(x)
    p, q, t, s, c, w = _hyperbolic(a)
    y = 2.0 * (mad(p, t, q) + mad(p, s, q * c))
    return where(a < 0.5 ** (w.shift // 2 + 1), x, copysign(y, x))


@operation
def cosh(x: Any) -> Any:
    """p first, which is most of it."""
    p, q, t, s, c, _ = _hyperbolic(abs(x))
    return 2.0 * (p + mad(p, c, q * (t + s)))


# --- logarithms -------------------------------------------------------------------------------------------------------


def _parts(x: Any) -> tuple[Any, Any]:
    """e and f where x = 2^e (1 + f) and sqrt(1/2) <= 1 + f < sqrt(2), for normal x > 0."""
    w = width(x)
    i = bits(x) - w.sqrt_half
    m = from_bits(bits(x) - (i & (-1 << w.shift)))
    return whole(i >> w.shift), m - 1.0


class _Logarithms(NamedTuple):
    """For 16 intervals of m, an inverse such that m times it is 1 + r, |r| <= 1/32, and the inverse's logarithm."""

    inverse: tuple[float, ...]
    high: tuple[
        float, ...
    ]  # minus the logarithm, in two parts; the first plus an exponent times that of `two` is exact
    low: tuple[float, ...]
    two: tuple[float, float]  # the logarithm of 2


_FIRST_INTERVAL = (0x3FE6800000000000, 0x3F340000)  # the bits of 45/64; from there each has a sixteenth of an exponent


@functools.cache
def _logarithms(single: bool, base: int | None = None) -> _Logarithms:
    middles = [23 / 32 + j / 32 for j in range(9)] + [1.0] + [17 / 16 + j / 16 for j in range(6)]
    inverses = [round(256 / m) / 256 for m in middles]
    unit = 2.0 ** (-16 if single else -42)

    def parts(argument: float) -> tuple[float, float]:
        log = decimal.Decimal(argument).ln() / (decimal.Decimal(base).ln() if base else 1)
        high = round(log / decimal.Decimal(unit)) * unit
        return high, float(log - decimal.Decimal(high))

    high, low = zip(*(parts(v) for v in inverses), strict=True)
    return _Logarithms(tuple(inverses), tuple(-v for v in high), tuple(-v for v in low), parts(2.0))


def _interval_and_rest(x: Any) -> tuple[Any, Any, Any]:
    """e, j and m where x = 2^e m with m in interval j, for normal x > 0."""
    shift = width(x).shift
    i = bits(x) - _FIRST_INTERVAL[is_single(x)]
    return whole(i >> shift), (i >> (shift - 4)) & 15, from_bits(bits(x) - (i & (-1 << shift)))


def _log_by_table(x: Any, lifted: float, base: int, first: float, others: tuple[float, ...]) -> Any:
    """log(x) to a base, less `lifted` log(2), for float32: the table's, and r (first + others(r)) (after Tang 1990)."""
    table = _logarithms(True, base)
    e, j, m = _interval_and_rest(x)
    r = minus_product(-1.0, -lookup(table.inverse, j), m)
    e = e - lifted if lifted else e
    far = mad(e, table.two[0], lookup(table.high, j))
    far_low = mad(e, table.two[1], lookup(table.low, j)) if table.two[1] else lookup(table.low, j)
    return far + mad(r, first, mad(r, polynomial(r, others), far_low))


def raised(x: Any) -> tuple[Any, float]:
    """Subnormal `x` as a normal number, and how often it was doubled for that."""
    lift = float(width(x).lift)
    return x * 2.0**lift, lift


def _is_not_normal(x: Any) -> Any:
    """Whether `x` is anything but positive, finite, and normal."""
    return outside(x, width(x).least, INF)


def _log_limits(x: Any, y: Any) -> Any:
    y = where(x > 0.0, y, NAN)
    y = where(x == 0.0, -INF, y)
    return where(x == INF, INF, y)


def _curvature(f: Any) -> Any:
    """log(1 + f) - f."""
    if is_single(f):
        return f * f * polynomial(f, _LOG[1])
    s = f / (f + 2.0)
    half = 0.5 * f * f
    z = s * s
    return mad(s, mad(z, polynomial(z, _LOG[0]), half), -half)


def _log_of_parts(e: Any, f: Any, f_low: Any = None) -> Any:
    """e log(2) + log(1 + f + f_low)."""
    ln2 = width(f).ln2
    rest = _curvature(f) if f_low is None else _curvature(f) + f_low
    return mad(e, ln2[0], f + mad(e, ln2[1], rest))


def log_of(x: Any, lifted: float = 0.0) -> Any:
    """e log(2) + log(1 + f), for normal x > 0; e is less by `lifted`."""
    e, f = _parts(x)
    return _log_of_parts(e - lifted if lifted else e, f)


def _log2(x: Any, lifted: float = 0.0) -> Any:
    """e + log2(1 + f); the factor log2(e) of the first term is 1 + 0.44..., so that it rounds little."""
    if is_single(x):
        return _log_by_table(x, lifted, 2, 1.0, _LOG2_NEAR_ONE)
    e, f = _parts(x)
    return (e - lifted if lifted else e) + (f + mad(f, LOG2E - 1.0, LOG2E * _curvature(f)))


def _log10(x: Any, lifted: float = 0.0) -> Any:
    """e log10(2) + log10(1 + f); the factor log10(e) of the first term is 1/2 - 0.065..."""
    if is_single(x):
        return _log_by_table(x, lifted, 10, 0.5, _LOG10_NEAR_ONE)
    e, f = _parts(x)
    e = e - lifted if lifted else e
    rest = mad(f, LOG10E - 0.5, mad(e, F64.log10_2[1], LOG10E * _curvature(f)))
    return mad(e, F64.log10_2[0], mad(f, 0.5, rest))


def _log_of_rest(x: Any) -> Any:
    return _log_limits(x, log_of(*raised(x)))


def _log2_of_rest(x: Any) -> Any:
    return _log_limits(x, _log2(*raised(x)))


def _log10_of_rest(x: Any) -> Any:
    return _log_limits(x, _log10(*raised(x)))


@apart
def log(x: Any) -> Any:
    """The natural logarithm."""
    return rarely(_is_not_normal(x), _log_of_rest, log_of(x), x)


@apart
def log2(x: Any) -> Any:
    """The logarithm to base 2."""
    return rarely(_is_not_normal(x), _log2_of_rest, _log2(x), x)


@apart
def log10(x: Any) -> Any:
    """The logarithm to base 10."""
    return rarely(_is_not_normal(x), _log10_of_rest, _log10(x), x)


def _log1p(x: Any, low: Any = None) -> Any:
    """log(1 + x + low) for x > -1, below 2^1022 or 2^126: 1 + f = 2^-e + 2^-e x, of which f rounds once."""
    w = width(x)
    i = bits(x + 1.0) - w.sqrt_half
    scale = i & (-1 << w.shift)
    shrink = from_bits((w.bias << w.shift) - scale)
    f = from_bits(bits(x) - scale) + (shrink - 1.0)
    return _log_of_parts(whole(i >> w.shift), f, None if low is None else shrink * low)


def _log1p_of_rest(x: Any) -> Any:
    """Where x is -1 or less, or great; then it is log(x), or log(x / 2^30) + log(2^30) lest 2^e overflow."""
    y = _log1p(x * 2.0**-30) + _30_LN2
    y = where(x > -1.0, y, NAN)
    y = where(x == -1.0, -INF, y)
    return where(x == INF, x, y)


@apart
def log1p(x: Any) -> Any:
    """log(1 + x)."""
    y = where(x == 0.0, x, _log1p(x))
    return rarely(outside(x + 1.0, 2.0**-60, 2.0**100), _log1p_of_rest, y, x)


@operation
def asinh(x: Any) -> Any:
    """log(a + sqrt(1 + a²)) with a = |x|: log1p(a + a² / (1 + sqrt(1 + a²))), or log(a) + log(2) where a is huge."""
    a = abs(x)
    huge = a > 2.0 ** (width(x).shift + 40)
    square = a * a
    y = _log1p(where(huge, a * 2.0**-29, a + square / (square_root(square + 1.0) + 1.0)))
    y = where(huge, y + _30_LN2, y)
    return where((a > width(x).least) & (a < INF), copysign(y, x), x)


@operation
def acosh(x: Any) -> Any:
    """log(x + sqrt(x² - 1)) with t = x - 1: log1p(t + sqrt(2t + t²)), or log(x) + log(2) where that is huge."""
    huge = x > 2.0 ** (width(x).shift + 40)
    t = x - 1.0
    u, low = fast_two_sum(square_root(mad(t, t, t + t)), t)
    y = _log1p(where(huge, x * 2.0**-29, u), where(huge, 0.0, low))
    y = where(huge, y + _30_LN2, y)
    return where(x < INF, where(x < 1.0, NAN, y), x)


@operation
def atanh(x: Any) -> Any:
    """log((1 + a) / (1 - a)) / 2 = log1p(2a / (1 - a)) / 2 with a = |x|."""
    a = abs(x)
    d = 1.0 - a
    inverse = 1.0 / d
    twice = a + a
    u = twice * inverse
    low = inverse * mad(u, a - (1.0 - d), minus_product(twice, u, d))
    y = 0.5 * _log1p(u, low)
    y = where(a < 1.0, y, where(a == 1.0, number(INF, a), NAN))
    return where(a < width(x).least, x, copysign(y, x))


# --- powers -----------------------------------------------------------------------------------------------------------


def _log_pair(x: Any, lifted: Any = None) -> tuple[Any, Any]:
    """log(x), less `lifted` times log(2), as a sum with some 10 bits more, for normal x > 0 (after Tang 1990).

    With x = 2^e m, from the table log(m) = -log(inverse) + log(1 + r), the latter as r - r²/2 + r³ (...).
    """
    single = is_single(x)
    table = _logarithms(single)
    e, j, m = _interval_and_rest(x)
    e = e if lifted is None else e - lifted
    product, low = two_product(m, lookup(table.inverse, j))
    r = product - 1.0
    far = mad(e, table.two[0], lookup(table.high, j))
    far_low = mad(e, table.two[1], lookup(table.low, j))
    if single:
        square, least = r * r * -0.5, mad(-low, r, low)
    else:
        square, least = two_product(r * -0.5, r)
        least = least + mad(low, mad(square, -2.0, -r), low)
    near = r + square
    near_low = mad(square * r, polynomial(r, _LOG_NEAR_ONE[single]), ((r - near) + square) + least)
    high, rest = fast_two_sum(far, near)
    return high, rest + (near_low + far_low)


def _exp_of_pair(p: Any, low: Any) -> tuple[Any, Any]:
    """y and n with e^(p + low) = 2^n y; `low` may be a thousandth of `p`."""
    w = width(p)
    shifted = mad(p + low, LOG2E, w.magic)
    n = shifted - w.magic
    r = mad(n, -w.ln2[0], p) + mad(n, -w.ln2[1], low)
    return mad(r * r, polynomial(r, EXP[is_single(p)]), r) + 1.0, bits(shifted)


def _pow_of_rest(a: Any, b: Any) -> Any:
    """|a|^b with a sign, for all numbers and the many special cases of C99."""
    w = width(a)
    size = abs(a)
    small = size < w.least
    high, low = _log_pair(where(small, size * 2.0**w.lift, size), where(small, number(float(w.lift), a), 0.0))
    limited, end = _clamped(b, -(2.0**100), 2.0**100), w.overflow * 1.5
    p, p_low = two_product(limited, high)
    p_low = where(abs(p) < end, mad(limited, low, p_low), 0.0)
    y = scaled(*_exp_of_pair(_clamped(p, -end, end), p_low), w)
    half = b * 0.5
    is_whole, odd = floor(b) == b, floor(half) != half
    limit = where((size == 0.0) ^ (b < 0.0), number(0.0, a), INF)
    y = where((size == 0.0) | (size == INF), limit, y)
    y = where(size == 1.0, size, y)
    y = where((bits(a) < 0) & is_whole & odd, -y, y)
    y = where((a < 0.0) & (a > -INF) & ~is_whole, NAN, y)
    y = where((a != a) | (b != b), a + b, y)
    return where((b == 0.0) | (a == 1.0), 1.0, y)


@apart
def _floating_pow(a: Any, b: Any) -> Any:
    """e^(b log|a|), with a sign where `a` is negative and `b` odd."""
    w = width(a)
    size = abs(a)
    high, low = _log_pair(size)
    p, p_low = two_product(b, high)
    y, n = _exp_of_pair(p, mad(b, low, p_low))
    shifted = b + w.magic
    is_whole = (shifted - w.magic == b) & (abs(b) < 2.0 ** (w.shift - 1))
    sign = bits(a) & (bits(shifted) << (w.bits - 1))
    y = from_bits((bits(y) + (n << w.shift)) ^ sign)
    ordinary = (abs(p) < w.overflow - 3.0) & ((a > 0.0) | is_whole)
    return rarely(outside(size, w.least, INF) | ~ordinary, _pow_of_rest, y, a, b)


@operation
def pow(a: Any, b: Any) -> Any:
    """a^b; of integers, `a ** b`."""
    return _floating_pow(a, b) if is_floating(a) else a**b
