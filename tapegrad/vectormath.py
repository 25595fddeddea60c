"""Elementary functions without branches, for float64 and float32."""

from __future__ import annotations

import functools
import math
from types import ModuleType
from typing import Any, NamedTuple

from tapegrad.lanes import (
    bits,
    copysign,
    fast_two_sum,
    floor,
    from_bits,
    in_numba,
    is_single,
    lookup,
    mad,
    minus_product,
    narrow,
    operation,
    polynomial,
    rarely,
    square_root,
    two_product,
    two_sum,
    where,
    widen,
)

_INF, _NAN = float("inf"), float("nan")


class Width(NamedTuple):
    """What differs between float64 and float32, besides polynomials."""

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


_F64 = Width(
    52, 1023, 1.5 * 2.0**52, 0x4338000000000000, 0x3FE6A09E667F3BCD, 2.0**-1022, 54, 710.0, -746.0, 40.0,
    (0.693147180559663, 2.8235290563031577e-13), (0.30102999566383914, 1.42050232272661e-13),
)  # fmt: skip
_F32 = Width(
    23, 127, 1.5 * 2.0**23, 0x4B400000, 0x3F3504F3, 2.0**-126, 25, 89.0, -104.5, 20.0,
    (0.693145751953125, 1.428606765330187e-06), (0.301025390625, 4.605039066518657e-06),
)  # fmt: skip
_LOG2E, _LOG10E = 1.4426950408889634, 0.4342944819032518

# Minimax polynomials, found by Remez's exchange in 240 bits (mpmath). For float64, for float32.
# (exp(r) - 1 - r) / r² on |r| <= log(2)/2
_EXP = (
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
    (-0.5, 0.3333331, -0.25000027, 0.20002222, -0.16667694, 0.14217639, -0.1240723, 0.119011685, -0.11676807,
     0.06725498),
)  # fmt: skip
# (sin(r) - r) / r³ in r² on |r| <= pi/2
_SIN = (
    (-0.16666666666666666, 0.008333333333333333, -0.00019841269841269806, 2.7557319223971277e-06,
     -2.5052108382393583e-08, 1.6059043479601668e-10, -7.647139130512762e-13, 2.8104689853218295e-15,
     -8.006090406027311e-18),
    (-0.16666667, 0.008333333, -0.00019841087, 2.753649e-06, -2.4080716e-08),
)  # fmt: skip


def _width(x: Any) -> Width:
    return _F32 if is_single(x) else _F64


# --- exponentials -----------------------------------------------------------------------------------------------------


def _clamped(x: Any, low: float, high: float) -> Any:
    """`x` limited to an interval; nan stays."""
    x = where(x > high, high, x)
    return where(x < low, low, x)


def _reduced(x: Any) -> tuple[Any, Any]:
    """n and r with x = n log(2) + r, |r| <= log(2)/2; n in the lowest bits of an integer."""
    w = _width(x)
    shifted = mad(x, _LOG2E, w.magic)
    n = shifted - w.magic
    return bits(shifted), mad(n, -w.ln2[1], mad(n, -w.ln2[0], x))


def _power(n: Any, w: Width, less: int = 0) -> Any:
    """2^(n - less) for n in the lowest bits, within the normal numbers."""
    return from_bits((n + (w.bias - less)) << w.shift)


def _scaled(y: Any, n: Any, w: Width) -> Any:
    """2^n y in two steps, neither of which overflows or underflows unless the result does."""
    half = n >> 1
    return y * _power(half, w) * _power(n - half, w)


@operation
def exp(x: Any) -> Any:
    """e^x = 2^n e^r."""
    w = _width(x)
    n, r = _reduced(_clamped(x, w.underflow, w.overflow))
    return _scaled(mad(r * r, polynomial(r, _EXP[is_single(x)]), r) + 1.0, n, w)


@operation
def exp2(x: Any) -> Any:
    """2^x = 2^n 2^r."""
    w = _width(x)
    x = _clamped(x, w.underflow * _LOG2E, w.overflow * _LOG2E)
    shifted = x + w.magic
    r = x - (shifted - w.magic)
    return _scaled(mad(r, polynomial(r, _EXP2[is_single(x)]), 1.0), bits(shifted), w)


def _expm1(x: Any, less: int = 0) -> tuple[Any, Any]:
    """(e^x - 1) / 2^less as a sum of two, the first much larger, where nothing overflows.

    With s = 2^n and r = t - n log(2)_low it is (s - 1 + s t) + s (r² P - n log(2)_low): t is exact, and rounds once.
    """
    w = _width(x)
    shifted = mad(x, _LOG2E, w.magic)
    n = shifted - w.magic
    s = _power(bits(shifted), w, less)
    t = mad(n, -w.ln2[0], x)
    low = n * -w.ln2[1]
    r = t + low
    return mad(s, t, s - 0.5**less), s * mad(r * r, polynomial(r, _EXP[is_single(x)]), low)


@operation
def expm1(x: Any) -> Any:
    """e^x - 1."""
    w = _width(x)
    high, low = _expm1(_clamped(x, -w.saturation, w.overflow), less=1)
    return where(abs(x) < 0.5**w.lift, x, (high + low) * 2.0)


@operation
def tanh(x: Any) -> Any:
    """t / (t + 2) with t = e^2|x| - 1; where that is small as t/2 - t/2 t/(t + 2), of which t/2 is nearly exact."""
    limit = _width(x).saturation
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
    return where(x < 0.0, 0.0, x) + log1p(exp(-abs(x)))


# --- logarithms -------------------------------------------------------------------------------------------------------


def _parts(x: Any) -> tuple[Any, Any, Any]:
    """e as an integer, e as a float, and m, where x = 2^e m with sqrt(1/2) <= m < sqrt(2), for normal x > 0."""
    w = _width(x)
    i = bits(x) - w.sqrt_half
    e = i >> w.shift
    m = from_bits((i & ((1 << w.shift) - 1)) + w.sqrt_half)
    return e, from_bits(e + w.magic_bits) - w.magic, m


def _curvature(f: Any) -> Any:
    """log(1 + f) - f."""
    if is_single(f):
        return f * f * polynomial(f, _LOG[1])
    s = f / (f + 2.0)
    half = 0.5 * f * f
    z = s * s
    return mad(s, mad(z, polynomial(z, _LOG[0]), half), -half)


def _exponent_and_rest(x: Any) -> tuple[Any, Any]:
    """e and f where x = 2^e (1 + f), for all x > 0."""
    w = _width(x)
    small = x < w.least
    _, e, m = _parts(where(small, x * 2.0**w.lift, x))
    return where(small, e - float(w.lift), e), m - 1.0


def _log_limits(x: Any, y: Any) -> Any:
    y = where(x > 0.0, y, _NAN)
    y = where(x == 0.0, -_INF, y)
    return where(x == _INF, _INF, y)


@operation
def log(x: Any) -> Any:
    """log(x) = e log(2) + log(m)."""
    e, f = _exponent_and_rest(x)
    return _log_limits(x, _log_of_parts(e, f, _width(x)))


def _log_of_parts(e: Any, f: Any, w: Width) -> Any:
    return mad(e, w.ln2[0], f + mad(e, w.ln2[1], _curvature(f)))


@operation
def log2(x: Any) -> Any:
    """e + log2(m); the factor log2(e) of the first term is 1 + 0.44..., so that it rounds little."""
    e, f = _exponent_and_rest(x)
    rest = mad(f, _LOG2E - 1.0, _LOG2E * _curvature(f))
    return _log_limits(x, e + (f + rest))


@operation
def log10(x: Any) -> Any:
    """e log10(2) + log10(m); the factor log10(e) of the first term is 1/2 - 0.065..."""
    w = _width(x)
    e, f = _exponent_and_rest(x)
    rest = mad(f, _LOG10E - 0.5, mad(e, w.log10_2[1], _LOG10E * _curvature(f)))
    return _log_limits(x, mad(e, w.log10_2[0], mad(f, 0.5, rest)))


@operation
def log1p(x: Any) -> Any:
    """log(1 + x), with m - 1 = (2^-e - 1) + 2^-e x, which rounds once."""
    w = _width(x)
    u = x + 1.0
    i, e, _ = _parts(u)
    shrunk = from_bits(bits(x) - (i << w.shift))  # 2^-e x: where e is not 0, x is of the order of 1 or more
    s = where(x > 2.0 ** (w.bias - 2), 0.0, from_bits((w.bias - i) << w.shift))
    f = where(e == 0.0, x, shrunk + (s - 1.0))
    y = _log_of_parts(e, f, w)
    y = where(x > -1.0, y, _NAN)
    y = where(x == -1.0, -_INF, y)
    return where((x == _INF) | (x == 0.0), x, y)


# --- roots ------------------------------------------------------------------------------------------------------------


@operation
def sqrt(x: Any) -> Any:
    """The machine's own."""
    return square_root(x)


@operation
def rsqrt(x: Any) -> Any:
    """1 / sqrt(x)."""
    return 1.0 / square_root(x)


# --- circular functions -----------------------------------------------------------------------------------------------


_PI = (3.141592653589793, 1.2246467991473532e-16, -2.9947698097183397e-33)
_HUGE = 2.0**30  # beyond it, multiples of pi are not exact enough
# 1 / pi times 2^1280
_INVERSE_PI = int(
    "517cc1b727220a94fe13abe8fa9a6ee06db14acc9e21c820ff28b1d5ef5de2b0db92371d2126e9700324977504e8c90e"
    "7f0ef58e5894d39f74411afa975da24274ce38135a2fbf209cc8eb1cc1a99cfa4e422fc5defc941d8ffc4bffef02cc07"
    "f79788c5ad05368fb69b3f6793e584dba7a31fb34f2ff516ba93dd63f5f2f8bd9e839cfbc529497535fdafd88fc6ae84"
    "2b0198237e3db5d5f867de104d7a1b0e",
    16,
)


@functools.cache
def _multiples_of_inverse_pi() -> tuple[float, ...]:
    """2^(16 i - 52) / pi modulo 2, for i = 0 ... 63, each as a sum of four float64."""
    table = []
    for i in range(64):
        rest = (_INVERSE_PI << 16 * i) % (1 << 1280 + 52 + 1)
        for _ in range(4):
            spare = max(rest.bit_length() - 53, 0)
            table.append(math.ldexp(rest >> spare, spare - 1280 - 52))
            rest &= (1 << spare) - 1
    return tuple(table)


def _half_turns(x: Any, offset: float) -> tuple[Any, Any, Any]:
    """x / pi + offset = n + f + f_low, n modulo 2 and |f| <= 1/2, for 2^20 <= |x| (Payne and Hanek 1983).

    x = m 2^(16 i - 52) with an integer m < 2^69. The table has the bits of 1/pi that matter: those above are worth even
    multiples, and those below less than 2^-140.
    """
    i = ((((bits(x) >> 52) & 2047) - 1023) >> 4) & 63
    m = x * from_bits((1023 + 52 - (i << 4)) << 52)
    s0, s1, s2 = m * 0.0 + offset, m * 0.0, m * 0.0
    for k in range(4):
        for part in two_product(m, lookup(_multiples_of_inverse_pi(), (i << 2) + k)):
            s0, e = two_sum(s0, part - 2.0 * floor(part * 0.5 + 0.5))
            s1, e = two_sum(s1, e)
            s2 = s2 + e
    n = floor(s0 + 0.5)
    f, low = two_sum(s0 - n, s1)
    return n - 2.0 * floor(n * 0.5), f, low + s2


def _reduced_huge(x: Any, offset: float) -> tuple[Any, Any, Any]:
    """n modulo 2, and r in two parts, of x + offset pi = n pi + r."""
    n, f, f_low = _half_turns(x, offset)
    p, e = two_product(f, _PI[0])
    r, low = fast_two_sum(p, e + (f * _PI[1] + f_low * _PI[0]))
    return n, r, low


def _reduced_by_pi(x: Any, half: bool) -> tuple[Any, Any, Any]:
    """n in the lowest bits of an integer, and r in two parts, of x = n pi + r or (n - 1/2) pi + r, for |x| <= 2^30."""
    shifted = mad(x, 1.0 / _PI[0], 0.5) + _F64.magic if half else mad(x, 1.0 / _PI[0], _F64.magic)
    n = shifted - _F64.magic
    if half:
        n = n - 0.5
    t = minus_product(x, n, _PI[0])
    p, e = two_product(n, _PI[1])
    r, low = two_sum(t, -p)
    return bits(shifted), r, low - mad(n, _PI[2], e)


def _sine_64(r: Any, low: Any) -> Any:
    z = r * r
    return r + mad(z * r, polynomial(z, _SIN[0]), low * mad(z, -0.5, 1.0))


def _with_sign_of(n: Any, y: Any) -> Any:
    """(-1)^n y."""
    return from_bits(bits(y) ^ (n << 63))


def _sine(x: Any, half: bool) -> Any:
    """sin(x), or cos(x) = sin(x + pi/2): (-1)^n sin(r)."""

    def of_huge(x: Any) -> Any:
        n, r, low = _reduced_huge(widen(x) if is_single(x) else x, 0.5 if half else 0.0)
        y = where(n == 0.0, 1.0, -1.0 + n * 0.0) * _sine_64(r, low)
        return narrow(y) if is_single(x) else y

    if is_single(x):
        wide = widen(x)
        shifted = mad(wide, 1.0 / _PI[0], 0.5) + _F64.magic if half else mad(wide, 1.0 / _PI[0], _F64.magic)
        n = shifted - _F64.magic
        if half:
            n = n - 0.5
        r = mad(n, -_PI[1], minus_product(wide, n, _PI[0]))
        r = narrow(_with_sign_of(bits(shifted), r))
        z = r * r
        y = mad(z * r, polynomial(z, _SIN[1]), r)
    else:
        n, r, low = _reduced_by_pi(x, half)
        y = _with_sign_of(n, _sine_64(r, low))
    of_huge.__qualname__ = "cos_of_huge" if half else "sin_of_huge"
    return rarely(abs(x) > _HUGE, of_huge, x, y)


@operation
def sin(x: Any) -> Any:
    """x = n pi + r and (-1)^n sin(r)."""
    return where(x == 0.0, x, _sine(x, half=False))


@operation
def cos(x: Any) -> Any:
    """x = (n - 1/2) pi + r and (-1)^n sin(r)."""
    return _sine(x, half=True)


FUNCTIONS = (exp, exp2, expm1, tanh, sigmoid, softplus, log, log2, log10, log1p, sqrt, rsqrt, sin, cos)


def compiled(triple: str, _cpu: str, features: str) -> ModuleType:
    """These functions for Numba's compiled code on a machine."""
    return in_numba(FUNCTIONS, fused=triple.startswith(("aarch64", "arm64")) or "+fma," in f"{features},")
