"""Circular functions and their inverses."""

from __future__ import annotations

import functools
import math
from typing import Any

from tapegrad.lanes import (
    apart,
    bits,
    copysign,
    fast_two_sum,
    floor,
    from_bits,
    is_single,
    lookup,
    mad,
    minus_product,
    narrow,
    number,
    operation,
    polynomial,
    rarely,
    square_root,
    two_product,
    two_sum,
    where,
    widen,
)
from tapegrad.vectormath.widths import F64, INF, width

# Minimax polynomials, found by Remez's exchange in 240 bits (mpmath). For float64, for float32.
# (sin(r) - r) / r³ and (cos(r) - 1 + r²/2) / r⁴ in r² on |r| <= pi/4 (a little more for float32)
_SIN = (
    (-0.16666666666666632, 0.008333333333322418, -0.00019841269829812047, 2.75573136934064e-06,
     -2.5050758349231674e-08, 1.5896809284384955e-10),
    (-0.16666654, 0.008332109, -0.00019507727),
)  # fmt: skip
_COS = (
    (0.0416666666666666, -0.0013888888888874127, 2.4801587289483407e-05, -2.7557314352677883e-07,
     2.087572332343707e-09, -1.1359650709308679e-11),
    (0.041666646, -0.0013887276, 2.44277e-05),
)  # fmt: skip
# (tan(r) - r) / r³ in r² on |r| <= pi/4 (a little more for float32)
_TAN = (
    (0.3333333333333279, 0.13333333333413597, 0.05396825392708493, 0.021869489600141893, 0.008863219277822845,
     0.003592288129920118, 0.001454763371634968, 0.0005950432174525237, 0.00022244042077811734,
     0.00013640537562603958, -2.6222122945048748e-05, 8.930561451699008e-05, -4.479918343216846e-05,
     2.0845024787548517e-05),
    (0.33333355, 0.13332435, 0.05408529, 0.021152627, 0.011168688, -0.00032941232, 0.004581688),
)  # fmt: skip
# (asin(r) - r) / r³ in r² on |r| <= 1/2
_ASIN = (
    (0.16666666666665383, 0.07500000000343048, 0.04464285682351539, 0.03038195932918686, 0.02237175358033324,
     0.017359770217387795, 0.01388460704701405, 0.01217322635729671, 0.006511063120236523, 0.01957339088498771,
     -0.016293360779988827, 0.031958542525331285),
    (0.16666754, 0.07495241, 0.04547725, 0.024146855, 0.04221981),
)  # fmt: skip
# (atan(r) - r) / r³ in r² on |r| <= 1
_ATAN = (
    (-0.33333333333331994, 0.19999999999774956, -0.14285714272361752, 0.11111110705713523, -0.09090901660497294,
     0.07692217344092424, -0.06665892350383071, 0.05877476000202267, -0.052398921069199245, 0.046759068984637026,
     -0.04097089266166022, 0.03414564048492515, -0.025931218148299014, 0.01708455239195473, -0.00926566010562524,
     0.0039005946831623486, -0.0011808233472121506, 0.0002268614969785417, -2.0663644304209193e-05),
    (-0.33333167, 0.19994137, -0.14214204, 0.10678908, -0.07580487, 0.043552253, -0.016580299, 0.0029743505),
)  # fmt: skip


# --- circular functions -----------------------------------------------------------------------------------------------


def _inverse(x: Any, low: Any) -> Any:
    """1 / (x + low), by one of Newton's steps."""
    y = 1.0 / x
    return mad(y, mad(-y, low, minus_product(1.0, y, x)), y)


_HALF_PI = ((1.5707963267948966, 6.123233995736766e-17), (1.5707963705062866, -4.371138828673793e-08))

# In three parts, each rounded down so that the next is positive: then n of them leave -0 of -0 for n = 0.
_HALF_PI_FROM_BELOW = (
    (1.5707963267948966, 6.123233995736765e-17, 1.082856673921914e-32),
    (1.570796251296997, 7.549789415861596e-08, 5.390302953474238e-15),
)

# Beyond these, multiples of pi/2 are not exact enough. What is left of an argument may be smaller than these: then the
# third part of the multiple counts, and the rounding error of the rest doesn't (and could not be told).
_HUGE, _CANCELLED = (2.0**30, 2.0**17), (2.0**-21, 2.0**-6)

# 1 / pi times 2^1280
_INVERSE_PI = int(
    "517cc1b727220a94fe13abe8fa9a6ee06db14acc9e21c820ff28b1d5ef5de2b0db92371d2126e9700324977504e8c90e"
    "7f0ef58e5894d39f74411afa975da24274ce38135a2fbf209cc8eb1cc1a99cfa4e422fc5defc941d8ffc4bffef02cc07"
    "f79788c5ad05368fb69b3f6793e584dba7a31fb34f2ff516ba93dd63f5f2f8bd9e839cfbc529497535fdafd88fc6ae84"
    "2b0198237e3db5d5f867de104d7a1b0e",
    16,
)


@functools.cache
def _two_over_pi() -> tuple[float, ...]:
    """2^(16 i - 52) 2/pi modulo 4, for i = 0 ... 63, each as a sum of four float64."""
    table = []
    for i in range(64):
        rest = (_INVERSE_PI << 16 * i + 1) % (1 << 1280 + 52 + 2)
        for _ in range(4):
            spare = max(rest.bit_length() - 53, 0)
            table.append(math.ldexp(rest >> spare, spare - 1280 - 52))
            rest &= (1 << spare) - 1
    return tuple(table)


def _reduced_huge(x: Any) -> tuple[Any, Any, Any]:
    """n modulo 4, and r in two parts, of x = n pi/2 + r, for |x| >= 2^16 (Payne and Hanek 1983).

    x = m 2^(16 i - 52) with an integer m < 2^69. The table has the bits of 2/pi that matter: those above are worth
    multiples of 4, and those below less than 2^-140.
    """
    i = ((((bits(x) >> 52) & 2047) - 1023) >> 4) & 63
    m = x * from_bits((1023 + 52 - (i << 4)) << 52)
    s0 = s1 = s2 = number(0.0, m)
    for k in range(4):
        for part in two_product(m, lookup(_two_over_pi(), (i << 2) + k)):
            s0, e = two_sum(s0, part - 4.0 * floor(part * 0.25 + 0.5))
            s1, e = two_sum(s1, e)
            s2 = s2 + e
    n = floor(s0 + 0.5)
    f, f_low = two_sum(s0 - n, s1)
    p, e = two_product(f, _HALF_PI[0][0])
    r, low = fast_two_sum(p, e + (f * _HALF_PI[0][1] + (f_low + s2) * _HALF_PI[0][0]))
    return bits(n + F64.magic), r, low


def _half_pi(x: Any) -> tuple[float, float]:
    return _HALF_PI[is_single(x)]


def _reduced_quarter(x: Any, precise: bool) -> tuple[Any, Any, Any]:
    """n in the lowest bits of an integer, and r in two parts, of x = n pi/2 + r, where `x` is not huge."""
    magic, (first, second, third) = width(x).magic, _HALF_PI_FROM_BELOW[is_single(x)]
    shifted = mad(x, 1.0 / first, magic)
    n = shifted - magic
    t = minus_product(x, n, first)
    if not precise:
        p, e = two_product(n, second)
        return bits(shifted), (t - p) - mad(n, third, e), 0.0
    r = minus_product(t, n, second)
    ordinary = abs(r) > _CANCELLED[is_single(x)]
    part = where(ordinary, number(second, r), third)
    return bits(shifted), r, minus_product(where(ordinary, t - r, -0.0), n, part)


def _sine(n: Any, r: Any, low: Any) -> Any:
    """sin(n pi/2 + r): sin(r) or cos(r), with a sign."""
    single = is_single(r)
    if single:
        z = r * r
        sine = mad(z * r, polynomial(z, _SIN[1]), r)
        cosine = mad(z, mad(z, polynomial(z, _COS[1]), -0.5), 1.0)
    else:
        z = r * r
        sine = r + mad(z * r, polynomial(z, _SIN[0]), low)
        most = mad(z, -0.5, 1.0)
        rest = mad(z, -0.5, 1.0 - most)
        cosine = most + (rest + mad(z * z, polynomial(z, _COS[0]), -r * low))
    return from_bits(bits(where((n & 1) == 0, sine, cosine)) ^ ((n & 2) << (30 if single else 62)))


def _tangent(n: Any, r: Any, low: Any) -> Any:
    """tan(n pi/2 + r) = tan(r) or -1 / tan(r)."""
    z = r * r
    y, y_low = fast_two_sum(r, mad(z * r, polynomial(z, _TAN[is_single(r)]), low))
    return where((n & 1) == 0, y, -_inverse(y, y_low))


def _circular(x: Any, function: Any, n_more: int, huge: Any) -> Any:
    """`function` of x + n_more pi/2, reduced."""
    n, r, low = _reduced_quarter(x, precise=function is _tangent or not is_single(x))
    return rarely(abs(x) > _HUGE[is_single(x)], huge, function(n + n_more if n_more else n, r, low), x)


def _of_huge(x: Any, function: Any, n_more: int) -> Any:
    """`function` of x + n_more pi/2, by Payne and Hanek's reduction, in float64 throughout."""
    n, r, low = _reduced_huge(widen(x) if is_single(x) else x)
    y = function(n + n_more, r, low)
    return narrow(y) if is_single(x) else y


def _sin_of_huge(x: Any) -> Any:
    return _of_huge(x, _sine, 0)


def _cos_of_huge(x: Any) -> Any:
    return _of_huge(x, _sine, 1)


def _tan_of_huge(x: Any) -> Any:
    return _of_huge(x, _tangent, 0)


@apart
def sin(x: Any) -> Any:
    """With x = n pi/2 + r, sin(r) or cos(r)."""
    return where(x == 0.0, x, _circular(x, _sine, 0, _sin_of_huge))


@apart
def cos(x: Any) -> Any:
    """sin(x + pi/2)."""
    return _circular(x, _sine, 1, _cos_of_huge)


@apart
def tan(x: Any) -> Any:
    """With x = n pi/2 + r, tan(r) or -1 / tan(r)."""
    return _circular(x, _tangent, 0, _tan_of_huge)


# --- their inverses ---------------------------------------------------------------------------------------------------


def _arc(x: Any) -> tuple[Any, Any, Any]:
    """Whether |x| > 1/2, and asin(x) as a sum; where |x| > 1/2 acos(|x|) = 2 asin(sqrt((1 - |x|) / 2))."""
    a = abs(x)
    big = a > 0.5
    z = where(big, mad(a, -0.5, 0.5), x * x)
    root = square_root(z)
    m = where(big, root + root, x)
    return big, m, m * z * polynomial(z, _ASIN[is_single(x)])


def _difference(a: float, b: Any, c: Any) -> Any:
    """a - b - c for a > b > c, rounded once or nearly so."""
    d = a - b
    return d + (((a - d) - b) - c)


@operation
def asin(x: Any) -> Any:
    """asin(x), or pi/2 - acos(|x|) with the sign of `x`."""
    high, low = _half_pi(x)
    big, m, rest = _arc(x)
    return copysign(where(big, _difference(high, m, rest - low), m + rest), x)


@operation
def acos(x: Any) -> Any:
    """pi/2 - asin(x), or acos(|x|), or pi less that."""
    high, low = _half_pi(x)
    big, m, rest = _arc(x)
    near_zero = high - (m + (rest - low))
    return where(big, where(x < 0.0, 2.0 * high - (m + (rest - 2.0 * low)), m + rest), near_zero)


def _atan_of_ratio(a: Any, b: Any) -> tuple[Any, Any]:
    """atan(a / b) where 0 <= a <= b, as a sum."""
    u = a / b
    z = u * u
    return u, u * z * polynomial(z, _ATAN[is_single(u)])


@operation
def atan(x: Any) -> Any:
    """atan(a) with a = |x|, or pi/2 - atan(1 / a)."""
    high, low = _half_pi(x)
    a = abs(x)
    big = a > 1.0
    u, rest = _atan_of_ratio(where(big, 1.0, a), where(big, a, 1.0))
    return copysign(where(big, _difference(high, u, rest - low), u + rest), x)


@operation
def atan2(a: Any, b: Any) -> Any:
    """atan of the smaller by the greater, plus or minus, from 0, pi/2 or pi."""
    high, low = _half_pi(a)
    steep, left = abs(a) > abs(b), bits(b) < 0
    small, great = where(steep, abs(b), abs(a)), where(steep, abs(a), abs(b))
    u, rest = _atan_of_ratio(where(small == INF, 1.0, small), where((great == 0.0) | (small == INF), 1.0, great))
    sign = where(steep ^ left, -1.0, number(1.0, u))
    start, more = (
        where(steep, high, where(left, 2.0 * high, number(0.0, u))),
        where(steep, low, where(left, 2.0 * low, number(0.0, u))),
    )
    y = copysign(mad(sign, u, start) + mad(sign, rest, more), a)
    return where((a != a) | (b != b), a + b, y)
