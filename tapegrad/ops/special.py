"""Special functions: the error function, gamma, zeta, Bessel's, orthogonal polynomials, with their kin.

Formulas of derivatives are those of the Digital Library of Mathematical Functions, by whose numbers they are cited.
Values that are not of `vectormath` are SciPy's (`foreign.py`).
"""

import math

import numpy as np

from tapegrad import vectormath
from tapegrad.foreign import Foreign
from tapegrad.ops import domains
from tapegrad.ops.declare import FLOATING, elementwise
from tapegrad.ops.exponential import exp, log
from tapegrad.ops.logic import where

_TWO_OVER_ROOT_PI = 2.0 / math.sqrt(math.pi)


def _unknown(a):
    """A derivative for which there is no formula here: nan, and not nothing."""
    return a * math.nan


def _is_pole(x):
    """Whether the gamma function has a pole there."""
    return x <= 0 and (x == -math.inf or x == math.floor(x))


@elementwise(
    partials=lambda x: _TWO_OVER_ROOT_PI * exp(-(x * x)), scipy="erf", domain=(domains.reals,), result=FLOATING
)
def erf(x):
    """The error function, elementwise: the integral of 2 exp(-t²) / sqrt(pi) from 0 to `x`."""
    return vectormath.erf(x)


@elementwise(
    partials=lambda x: -_TWO_OVER_ROOT_PI * exp(-(x * x)), scipy="erfc", domain=(domains.reals,), result=FLOATING
)
def erfc(x):
    """1 - erf(x), exact also where that is small, elementwise."""
    return vectormath.erfc(x)


@elementwise(
    partials=lambda x, y: y * digamma(x),
    exact=lambda mp, x: (mp.nan if x else 1 / x) if _is_pole(x) else mp.gamma(x),
    domain=(domains.Domain(0.5, 4.0, edges=()),),
    result=FLOATING,
)
def _gamma(x):
    """The gamma function, elementwise."""
    if x <= 0.0 and x == np.floor(x):
        return 1.0 / x if x == 0.0 else np.nan
    y = vectormath.exp(vectormath.lgamma(x))
    return -y if x < 0.0 and 0.5 * np.floor(x) != np.floor(0.5 * x) else y


@elementwise(
    partials=lambda x: digamma(x),
    exact=lambda mp, x: mp.inf if _is_pole(x) else mp.log(abs(mp.gamma(x))),
    scipy="gammaln",
    domain=(domains.positive,),
    result=FLOATING,
)
def lgamma(x):
    """The logarithm of the gamma function's absolute value, elementwise."""
    return vectormath.lgamma(x)


@elementwise(
    partials=lambda x: _trigamma(x),
    exact=lambda mp, x: (mp.nan if x else -mp.inf) if _is_pole(x) else mp.digamma(x),
    scipy="psi",
    domain=(domains.above_zero,),
    result=FLOATING,
)
def digamma(x):
    """The derivative of the gamma function's logarithm, elementwise; it has two derivatives in turn."""
    return vectormath.digamma(x)


@elementwise(partials=lambda x: _tetragamma(x), result=FLOATING)
def _trigamma(x):
    """The derivative of digamma, elementwise."""
    return vectormath.trigamma(x)


@elementwise(partials=lambda x: _polygamma(3.0, x), result=FLOATING)
def _tetragamma(x):
    """The derivative of trigamma, elementwise."""
    return vectormath.tetragamma(x)


# --- the normal distribution and the error function's kin -------------------------------------------------------------

_ROOT_PI, _ROOT_2_PI, _ROOT_2_OVER_PI = math.sqrt(math.pi), math.sqrt(2.0 * math.pi), math.sqrt(2.0 / math.pi)
_ROOT_HALF = math.sqrt(0.5)
_scipy_erfinv, _scipy_erfcx, _scipy_ndtri, _scipy_log_ndtr = (
    Foreign(name) for name in ("erfinv", "erfcx", "ndtri", "log_ndtr")
)
_inside = domains.Domain(-0.95, 0.95, edges=(0.0, -0.0, 1.0, -1.0, 2.0, -2.0, math.nan))
_probability = domains.Domain(0.02, 0.98, edges=(0.5, 0.0, 1.0, -1.0, 2.0, math.nan))
_moderate = domains.Domain(-3.0, 3.0, edges=(0.0, 1.0, -1.0, math.nan))
_above = domains.Domain(0.3, 6.0, edges=(1.0, math.nan))


def _outside(mp, x, least, low, most, high, inside):
    return mp.nan if x < least or x > most else low if x == least else high if x == most else inside(x)


@elementwise(
    partials=lambda y: 0.5 * _ROOT_PI * exp(y * y),
    exact=lambda mp, x: _outside(mp, x, -1, -mp.inf, 1, mp.inf, mp.erfinv),
    scipy="erfinv",
    domain=(_inside,),
    result=FLOATING,
    ulps=16.0,
)
def erfinv(x):
    """The inverse of `erf`, elementwise; inf at 1, -inf at -1, nan beyond."""
    return _scipy_erfinv(x)


@elementwise(
    partials=lambda x: _erfcx_slope(x),
    exact=lambda mp, x: mp.exp(x * x) * mp.erfc(x),
    scipy="erfcx",
    domain=(_moderate,),
    result=FLOATING,
    ulps=16.0,
)
def _erfcx(x):
    """exp(x²) erfc(x), elementwise."""
    return _scipy_erfcx(x)


# (2k + 1)!! (-1)^k, k from 0: 7.12.1, differentiated
_ERFCX_SLOPE = tuple((-1.0) ** k * math.prod(range(1, 2 * k + 2, 2)) for k in range(16))


@elementwise(partials=lambda x, y: 2.0 * _erfcx(x) + 2.0 * x * y, result=FLOATING)
def _erfcx_slope(x):
    """The derivative of erfcx: 2 x erfcx(x) - 2 / sqrt(pi), by its asymptotic series where these cancel."""
    if x < 9.0:
        return 2.0 * x * _scipy_erfcx(x) - 2.0 / _ROOT_PI
    w, total = 0.5 / x / x, 0.0
    for k in range(15, -1, -1):
        total = total * w + _ERFCX_SLOPE[k]
    return -2.0 / _ROOT_PI * w * total


@elementwise(
    partials=lambda x: exp(-0.5 * x * x) / _ROOT_2_PI,
    exact=lambda mp, x: mp.erfc(-x / mp.sqrt(2)) / 2 if mp.isfinite(x) else mp.mpf(x > 0),
    scipy="ndtr",
    domain=(domains.reals,),
    result=FLOATING,
)
def _ndtr(x):
    """The distribution function of the standard normal distribution, elementwise."""
    return vectormath.ndtr(x)


@elementwise(
    partials=lambda y: _ROOT_2_PI * exp(0.5 * y * y),
    exact=lambda mp, x: _outside(mp, x, 0, -mp.inf, 1, mp.inf, lambda p: mp.sqrt(2) * mp.erfinv(2 * p - 1)),
    scipy="ndtri",
    domain=(_probability,),
    result=FLOATING,
    ulps=16.0,
)
def _ndtri(x):
    """The inverse of `ndtr`, elementwise."""
    return _scipy_ndtri(x)


@elementwise(
    partials=lambda x: _ROOT_2_OVER_PI / _erfcx(-_ROOT_HALF * x),
    exact=lambda mp, x: mp.log(mp.erfc(-x / mp.sqrt(2)) / 2) if x < 0 else mp.log1p(-mp.erfc(x / mp.sqrt(2)) / 2),
    scipy="log_ndtr",
    domain=(_moderate,),
    result=FLOATING,
    ulps=16.0,
)
def _log_ndtr(x):
    """The logarithm of `ndtr`, exact also where that is small, elementwise."""
    return _scipy_log_ndtr(x) if x < -1.0 else vectormath.log1p(-vectormath.ndtr(-x))


@elementwise(
    partials=lambda x: where(x < 0.0, math.nan, -1.0 - log(x)),
    exact=lambda mp, x: -mp.inf if x < 0 or x == mp.inf else -x * mp.log(x) if x else mp.mpf(0),
    scipy="entr",
    domain=(domains.positive,),
    result=FLOATING,
    ulps=16.0,
)
def _entr(x):
    """-`x` log(`x`), elementwise; 0 at 0, and -inf where `x` is negative."""
    return -math.inf if x < 0 else x if x == 0 else -x * vectormath.log(x)


# --- Bessel functions and Airy's --------------------------------------------------------------------------------------

_scipy_j0, _scipy_j1, _scipy_y0, _scipy_y1 = (Foreign(name) for name in ("j0", "j1", "y0", "y1"))
_scipy_i0, _scipy_i1, _scipy_i0e, _scipy_i1e = (Foreign(name) for name in ("i0", "i1", "i0e", "i1e"))
_scipy_k0, _scipy_k1, _scipy_k0e, _scipy_k1e = (Foreign(name) for name in ("k0", "k1", "k0e", "k1e"))
_scipy_jv, _scipy_kv = Foreign("jv", 2), Foreign("kv", 2)


@elementwise(
    partials=lambda x: -_bessel_j1(x),  # 10.6.3
    exact=lambda mp, x: mp.besselj(0, x),
    scipy="j0",
    domain=(domains.Domain(-2.0, 2.0, edges=(0.0, 1.0, -1.0, math.nan)),),
    result=FLOATING,
    ulps=16.0,
)
def _bessel_j0(x):
    """Bessel's function of the first kind, of order 0, elementwise."""
    return _scipy_j0(x)


@elementwise(
    partials=lambda x, y: where(x == 0.0, 0.5, _bessel_j0(x) - y / x),  # 10.6.2
    exact=lambda mp, x: mp.besselj(1, x),
    scipy="j1",
    domain=(_moderate,),
    result=FLOATING,
    ulps=16.0,
)
def _bessel_j1(x):
    """Bessel's function of the first kind, of order 1, elementwise."""
    return _scipy_j1(x)


@elementwise(
    partials=lambda x: -_bessel_y1(x),  # 10.6.3
    exact=lambda mp, x: mp.bessely(0, x),
    scipy="y0",
    domain=(domains.Domain(1.2, 3.2, edges=(1.5, math.nan)),),
    result=FLOATING,
    ulps=16.0,
)
def _bessel_y0(x):
    """Bessel's function of the second kind, of order 0, elementwise."""
    return _scipy_y0(x)


@elementwise(
    partials=lambda x, y: _bessel_y0(x) - y / x,  # 10.6.2
    exact=lambda mp, x: mp.bessely(1, x),
    scipy="y1",
    domain=(domains.Domain(0.3, 1.8, edges=(1.0, math.nan)),),
    result=FLOATING,
    ulps=16.0,
)
def _bessel_y1(x):
    """Bessel's function of the second kind, of order 1, elementwise."""
    return _scipy_y1(x)


@elementwise(
    partials=lambda x: _modified_bessel_i1(x),  # 10.29.3
    exact=lambda mp, x: mp.besseli(0, x),
    scipy="i0",
    domain=(_moderate,),
    result=FLOATING,
    ulps=16.0,
)
def i0(x):
    """The modified Bessel function of the first kind, of order 0, elementwise."""
    return _scipy_i0(x)


@elementwise(
    partials=lambda x, y: where(x == 0.0, 0.5, i0(x) - y / x),  # 10.29.2
    exact=lambda mp, x: mp.besseli(1, x),
    scipy="i1",
    domain=(_moderate,),
    result=FLOATING,
    ulps=16.0,
)
def _modified_bessel_i1(x):
    """The modified Bessel function of the first kind, of order 1, elementwise."""
    return _scipy_i1(x)


@elementwise(
    partials=lambda x, y: _i1e(x) - where(x < 0.0, -y, y),
    exact=lambda mp, x: mp.exp(-abs(x)) * mp.besseli(0, x),
    scipy="i0e",
    domain=(domains.Domain(-3.0, 3.0, edges=(1.0, -1.0, math.nan), kinks=(0.0,)),),
    result=FLOATING,
    ulps=16.0,
)
def _i0e(x):
    """exp(-|x|) times the modified Bessel function of order 0, elementwise."""
    return _scipy_i0e(x)


@elementwise(
    partials=lambda x, y: where(x == 0.0, 0.5, _i0e(x) - y / x - where(x < 0.0, -y, y)),
    exact=lambda mp, x: mp.exp(-abs(x)) * mp.besseli(1, x),
    scipy="i1e",
    domain=(domains.Domain(-3.0, 3.0, edges=(0.0, 1.0, -1.0, math.nan), kinks=(0.0,)),),
    result=FLOATING,
    ulps=16.0,
)
def _i1e(x):
    """exp(-|x|) times the modified Bessel function of order 1, elementwise."""
    return _scipy_i1e(x)


@elementwise(
    partials=lambda x: -_modified_bessel_k1(x),  # 10.29.3
    exact=lambda mp, x: mp.besselk(0, x),
    scipy="k0",
    domain=(_above,),
    result=FLOATING,
    ulps=16.0,
)
def _modified_bessel_k0(x):
    """The modified Bessel function of the second kind, of order 0, elementwise."""
    return _scipy_k0(x)


@elementwise(
    partials=lambda x, y: -_modified_bessel_k0(x) - y / x,  # 10.29.2
    exact=lambda mp, x: mp.besselk(1, x),
    scipy="k1",
    domain=(_above,),
    result=FLOATING,
    ulps=16.0,
)
def _modified_bessel_k1(x):
    """The modified Bessel function of the second kind, of order 1, elementwise."""
    return _scipy_k1(x)


@elementwise(
    partials=lambda x, y: y - _scaled_modified_bessel_k1(x),
    exact=lambda mp, x: mp.exp(x) * mp.besselk(0, x),
    scipy="k0e",
    domain=(_above,),
    result=FLOATING,
    ulps=16.0,
)
def _scaled_modified_bessel_k0(x):
    """exp(x) times the modified Bessel function of the second kind, of order 0, elementwise."""
    return _scipy_k0e(x)


@elementwise(
    partials=lambda x, y: y - _scaled_modified_bessel_k0(x) - y / x,
    exact=lambda mp, x: mp.exp(x) * mp.besselk(1, x),
    scipy="k1e",
    domain=(_above,),
    result=FLOATING,
    ulps=16.0,
)
def _scaled_modified_bessel_k1(x):
    """exp(x) times the modified Bessel function of the second kind, of order 1, elementwise."""
    return _scipy_k1e(x)


@elementwise(
    partials=lambda x: _spherical_slope(x),
    exact=lambda mp, x: mp.sin(x) / x if x else mp.mpf(1),
    domain=(_moderate,),
    result=FLOATING,
)
def _spherical_bessel_j0(x):
    """sin(x) / x, and 1 at 0, elementwise."""
    return 0.0 * x + 1.0 if x == 0.0 else 0.0 if x - x != 0 and x == x else vectormath.sin(x) / x


# (sin(x) / x)' / x in x²
_SPHERICAL_SLOPE = tuple((-1.0) ** k * 2 * k / math.factorial(2 * k + 1) for k in range(12, 0, -1))


@elementwise(
    partials=lambda x, y: where(x == 0.0, -1.0 / 3.0, -_spherical_bessel_j0(x) - 2.0 * y / x),  # 10.47.1
    result=FLOATING,
)
def _spherical_slope(x):
    """The derivative of sin(x) / x, by its series where its terms cancel."""
    if abs(x) < 1.5:
        total = 0.0 * x
        for factor in _SPHERICAL_SLOPE:
            total = total * (x * x) + factor
        return x * total
    return (vectormath.cos(x) - vectormath.sin(x) / x) / x


_AIRY_0, _AIRY_SLOPE_0 = 0.3550280538878172, -0.2588194037928068  # 9.2.3, 9.2.4


@elementwise(
    partials=lambda x: _airy_slope(x),
    exact=lambda mp, x: mp.airyai(x),
    domain=(domains.Domain(-1.5, 3.0, edges=(0.0, 1.0, math.nan)),),
    result=FLOATING,
    ulps=512.0,
)
def _airy_ai(x):
    """Airy's function, elementwise."""
    if abs(x) < 1e-9:
        return _AIRY_0 + x * _AIRY_SLOPE_0
    zeta = 2.0 / 3.0 * abs(x) * np.sqrt(abs(x))
    if x > 0:  # 9.6.2
        return np.sqrt(x / 3.0) / math.pi * _scipy_kv(1.0 / 3.0, zeta)
    return np.sqrt(-x) / 3.0 * (_scipy_jv(1.0 / 3.0, zeta) + _scipy_jv(-1.0 / 3.0, zeta))  # 9.6.6


@elementwise(partials=lambda x: x * _airy_ai(x), result=FLOATING)  # 9.2.1
def _airy_slope(x):
    """The derivative of Airy's function."""
    if abs(x) < 1e-9:
        return _AIRY_SLOPE_0 + 0.0 * x
    zeta = 2.0 / 3.0 * abs(x) * np.sqrt(abs(x))
    if x > 0:  # 9.6.3
        return -x / (math.pi * np.sqrt(3.0)) * _scipy_kv(2.0 / 3.0, zeta)
    return -x / 3.0 * (_scipy_jv(2.0 / 3.0, zeta) - _scipy_jv(-2.0 / 3.0, zeta))  # 9.6.7


# --- zeta and polygamma -----------------------------------------------------------------------------------------------

# B_2j / (2j)!, of Euler and Maclaurin's formula (25.11.5 and 2.10.1)
_BERNOULLI = (
    8.333333333333333e-02, -1.388888888888889e-03, 3.306878306878307e-05, -8.267195767195768e-07,
    2.08767569878681e-08, -5.284190138687493e-10, 1.3382536530684679e-11, -3.3896802963225827e-13,
    8.586062056277845e-15, -2.1748686985580619e-16, 5.5090028283602295e-18, -1.3954464685812522e-19,
)  # fmt: skip


def _hurwitz(s, x):
    """x^(s - 1) zeta(s, x), for s > 1 and x > 0."""
    total, w, term = 0.0, x, 1.0
    least = 10.0 + 0.7 * s
    while w < least:
        total += term
        w += 1.0
        term = vectormath.pow(x / w, s)
        if term < 1e-18 * total:
            return total / x
    factor, tail = s / w, 0.5
    for j in range(12):
        tail += _BERNOULLI[j] * factor
        factor *= (s + 2 * j + 1) / w * ((s + 2 * j + 2) / w)
    return total / x + term * (w / x / (s - 1.0) + tail / x)


def _hurwitz_of_negative(s, x):
    """zeta(s, x), for an integer s > 1 and x < 0 that is none: the terms on both sides of 0, and those that are not."""
    a = -x
    first = a - np.floor(a)  # the distance of the last negative term from 0
    sign = 1.0 if 0.5 * s == np.floor(0.5 * s) else -1.0
    beyond = np.floor(a) + 1.0 + first
    return (
        vectormath.pow(1.0 - first, 1.0 - s) * _hurwitz(s, 1.0 - first)
        + sign * vectormath.pow(first, 1.0 - s) * _hurwitz(s, first)
        - sign * vectormath.pow(beyond, 1.0 - s) * _hurwitz(s, beyond)
    )


@elementwise(
    partials=(lambda a, b: _zeta_by_order(a, b), lambda a, b: -a * _zeta(a + 1.0, b)),  # 25.11.17
    result=FLOATING,
)
def _zeta(a, b):
    """Hurwitz' zeta function: the sum of (b + k)^-a over k from 0, elementwise."""
    if a != a or b != b or a < 1.0:
        return math.nan
    if a == 1.0:
        return math.inf
    if b <= 0.0:
        if b == np.floor(b):
            return math.inf
        return _hurwitz_of_negative(a, b) if a == np.floor(a) else math.nan
    if b - b != 0:
        return 0.0
    return vectormath.pow(b, 1.0 - a) * _hurwitz(a, b)


@elementwise(partials=(_unknown, lambda a, b: -_zeta(a + 1.0, b) - a * _zeta_by_order(a + 1.0, b)), result=FLOATING)
def _zeta_by_order(a, b):
    """The derivative of zeta by its order: that of each term of the same formula. The next is not known."""
    if not a > 1.0 or not b > 0.0:
        return math.nan
    total, w = 0.0, b
    least = 10.0 + 0.7 * a
    while w < least:
        total -= vectormath.log(w) * vectormath.pow(w, -a)
        w += 1.0
    scale, lw = vectormath.pow(w, -a), vectormath.log(w)
    factor, slope = a / w, 1.0 / a
    tail = -0.5 * lw
    for j in range(12):
        tail += _BERNOULLI[j] * factor * (slope - lw)
        factor *= (a + 2 * j + 1) / w * ((a + 2 * j + 2) / w)
        slope += 1.0 / (a + 2 * j + 1) + 1.0 / (a + 2 * j + 2)
    return total + scale * (tail - w * (lw / (a - 1.0) + 1.0 / ((a - 1.0) * (a - 1.0))))


@elementwise(partials=(None, lambda a, b: _polygamma(a + 1.0, b)), result=FLOATING, grad_name="PolygammaBackward0")
def _polygamma(a, b):
    """The derivative of digamma of order a >= 1: (-1)^(a + 1) a! zeta(a + 1, b), elementwise (5.15.1)."""
    if b != b or b == -math.inf:
        return math.nan
    sign = 1.0 if 0.5 * a != np.floor(0.5 * a) else -1.0
    if b - b != 0:
        return sign * 0.0
    if b <= 0.0 and b == np.floor(b):
        return sign * math.inf
    x, n = (b if b > 0.0 else 1.0), int(a)
    factorial = 1.0
    for k in range(1, n + 1):
        factorial *= k / x
    return sign * factorial * (_hurwitz(a + 1.0, b) if b > 0.0 else _hurwitz_of_negative(a + 1.0, b))


# --- orthogonal polynomials of degree b, which is cut to an integer; 0 where it is negative ---------------------------


@elementwise(partials=(None, None, lambda a, b, c: 2.0 * a * _gegenbauer(a + 1.0, b - 1.0, c)), result=FLOATING)
def _gegenbauer(a, b, c):
    """Gegenbauer's polynomials of degree b in c (18.9.1, 18.9.19): of a = 1/2 Legendre's, of 1 Chebyshev's U."""
    n = int(b) if b == b else 0
    before, value = 0.0 * c, 0.0 * c + 1.0
    for k in range(1, n + 1):
        before, value = value, (2.0 * (k + a - 1.0) * c * value - (k + 2.0 * a - 2.0) * before) / k
    return value if n >= 0 else 0.0 * c


@elementwise(partials=(lambda a, b: b * _gegenbauer(1.0, b - 1.0, a), None), result=FLOATING)
def _chebyshev_t(a, b):
    """Chebyshev's polynomials of the first kind (18.9.21), elementwise."""
    n = int(b) if b == b else 0
    before, value = a, 0.0 * a + 1.0
    for _ in range(n):
        before, value = value, 2.0 * a * value - before
    return value if n >= 0 else 0.0 * a


@elementwise(partials=(None, None, lambda a, b, c: -_laguerre(a + 1.0, b - 1.0, c)), result=FLOATING)
def _laguerre(a, b, c):
    """Laguerre's polynomials of degree b in c, with the parameter a (18.9.1, 18.9.23), elementwise."""
    n = int(b) if b == b else 0
    before, value = 0.0 * c, 0.0 * c + 1.0
    for k in range(n):
        before, value = value, ((2 * k + 1 + a - c) * value - (k + a) * before) / (k + 1)
    return value if n >= 0 else 0.0 * c


@elementwise(partials=(None, None, lambda a, b, c: a * b * _hermite(a, b - 1.0, c)), result=FLOATING)
def _hermite(a, b, c):
    """Hermite's polynomials of degree b in c (18.9.1, 18.9.25): of a = 2 the physicists', of 1 the others."""
    n = int(b) if b == b else 0
    before, value = 0.0 * c, 0.0 * c + 1.0
    for k in range(n):
        before, value = value, a * (c * value - k * before)
    return value if n >= 0 else 0.0 * c


# --- incomplete gamma and beta ----------------------------------------------------------------------------------------
#
# Derivatives by a shape are integrals of the density times a logarithm (8.6.1, 8.17.1, differentiated), from the side
# on which the logarithm keeps its sign, so that nothing cancels:
#
#     dP(a, x) / da = integral from 0 to x of p(t) (log t - digamma(a)) dt = -(that from x to infinity)
#
# With t = x exp(-w), or x exp(w), the density falls from w = 0 on as exp(-E(w)), and w = L exp(s - exp(-s)) makes an
# integral over all s that the trapezoidal rule takes to rounding (Takahasi and Mori 1974).

_scipy_gammainc, _scipy_gammaincc = Foreign("gammainc", 2), Foreign("gammaincc", 2)
_scipy_gammaincinv, _scipy_gammainccinv = Foreign("gammaincinv", 2), Foreign("gammainccinv", 2)
_scipy_betainc, _scipy_betaincc = Foreign("betainc", 3), Foreign("betaincc", 3)
_scipy_betaincinv = Foreign("betaincinv", 3)
_STEP, _STEPS, _MOST_STEPS = 0.0625, 72, 20000
_LOG_2_PI = math.log(2.0 * math.pi)


def _minus_log1p(z, whole):
    """z - log(1 + z), for z > -1, where `whole` is 1 + z."""
    if abs(z) > 0.3:
        return z - vectormath.log(whole)
    r = z / (2.0 + z)
    w, total = r * r, 0.0
    for k in range(12, 0, -1):
        total = total * w + 1.0 / (2 * k + 1)
    return r * (z - 2.0 * w * total)


def _stirling(z):
    """log gamma(z) - (z - 1/2) log z + z - log(2 pi) / 2: what Stirling's formula leaves (5.11.1)."""
    if z < 10.0:
        return vectormath.lgamma(z + 1.0) - (z + 0.5) * vectormath.log(z) + z - 0.5 * _LOG_2_PI
    w = 1.0 / (z * z)
    return (
        1.0 / 12.0
        - w * (1.0 / 360.0 - w * (1.0 / 1260.0 - w * (1.0 / 1680.0 - w * (1.0 / 1188.0 - w * 691.0 / 360360.0))))
    ) / z


def _gamma_weight(a, x):
    """x^a exp(-x) / gamma(a), without loss for great `a` (Loader 2000)."""
    return vectormath.exp(-a * _minus_log1p((x - a) / a, x / a) - _stirling(a)) * np.sqrt(a / (2.0 * math.pi))


def _curved(w):
    """exp(-w) - 1 + w."""
    if abs(w) > 0.3:
        return vectormath.expm1(-w) + w
    total = 0.0
    for k in range(13, 1, -1):
        total = (total + 1.0) * (-w) / k
    return -w * total


def _power_series_by_a(a, x):
    """The derivative of P by `a`, for small ones: 8.7.1 differentiated."""
    factor, slope = 1.0, vectormath.log(x) - vectormath.digamma(a + 1.0)
    total = slope
    for n in range(1, 40):
        factor *= -x / n
        total += factor * a / (a + n) * (slope + 1.0 / a - 1.0 / (a + n))
    return total * vectormath.exp(a * vectormath.log(x) - vectormath.lgamma(a + 1.0))


def _gammainc_by_shape(a, x, order):
    """The derivative of P by `a`, of order 1 or 2."""
    if not a > 0.0 or not x >= 0.0:
        return math.nan
    if x == 0.0 or x - x != 0 or a - a != 0:
        return 0.0
    if order == 1 and a <= 1.0 and x <= 1.0:
        return _power_series_by_a(a, x)
    middle, spread = vectormath.digamma(a), vectormath.trigamma(a)
    weight = _gamma_weight(a, x)
    if weight == 0.0:
        return 0.0
    start = vectormath.log(x) - middle
    if abs(x / a - 1.0) < 0.1 and a > 10.0:  # log(x / a) and log(a) - digamma(a), each without loss
        u = 1.0 / (a * a)
        start = (
            vectormath.log1p((x - a) / a)
            + 0.5 / a
            + u * (1.0 / 12.0 - u * (1.0 / 120.0 - u * (1.0 / 252.0 - u * (1.0 / 240.0 - u / 132.0))))
        )
    below = start <= 0.0 if order == 1 else x <= a
    sign = 1.0 if below else -1.0
    slope = (a - x) * sign
    length = 1.0 / max(slope, np.sqrt(x))
    total = 0.0
    for k in range(-_STEPS, _MOST_STEPS):
        s = k * _STEP
        small = vectormath.exp(-s)
        w = length * vectormath.exp(s - small)
        falls = slope * w + x * (_curved(w) if below else _curved(-w))
        height = start - sign * w
        value = height if order == 1 else height * height - spread
        term = value * vectormath.exp(-falls) * w * (1.0 + small)
        total += term
        if falls > 40.0 and abs(term) <= 1e-18 * abs(total):
            break
    return sign * weight * total * _STEP


@elementwise(
    partials=(
        lambda a, b: _gammainc_by_a(a, b),
        lambda a, b: _gamma_density(a, b),
    ),
    scipy="gammainc",
    result=FLOATING,
    refuses=("int32", "int64", "bool"),
)
def igamma(a, b):
    """The regularised lower incomplete gamma function P(a, b), elementwise; differentiable by both (8.2.4)."""
    return _scipy_gammainc(a, b)


@elementwise(
    partials=(
        lambda a, b: -_gammainc_by_a(a, b),
        lambda a, b: -_gamma_density(a, b),
    ),
    scipy="gammaincc",
    result=FLOATING,
    refuses=("int32", "int64", "bool"),
)
def igammac(a, b):
    """The regularised upper incomplete gamma function Q(a, b) = 1 - P(a, b), elementwise."""
    return _scipy_gammaincc(a, b)


@elementwise(
    partials=(
        lambda a, b, y: y * (log(b) - digamma(a)),
        lambda a, b, y: y * ((a - 1.0) / b - 1.0),
    ),
    result=FLOATING,
)
def _gamma_density(a, b):
    """b^(a - 1) exp(-b) / gamma(a), elementwise."""
    if not a > 0.0 or not b >= 0.0:
        return math.nan
    if b == 0.0:
        return math.inf if a < 1.0 else 1.0 if a == 1.0 else 0.0
    return 0.0 if b - b != 0 else _gamma_weight(a, b) / b


@elementwise(
    partials=(
        lambda a, b: _gammainc_by_a_twice(a, b),
        lambda a, b: _gamma_density(a, b) * (log(b) - digamma(a)),
    ),
    result=FLOATING,
)
def _gammainc_by_a(a, b):
    """The derivative of P(a, b) by `a`."""
    return _gammainc_by_shape(a, b, 1)


@elementwise(
    partials=(
        _unknown,
        lambda a, b: _gamma_density(a, b) * ((log(b) - digamma(a)) * (log(b) - digamma(a)) - _trigamma(a)),
    ),
    result=FLOATING,
)
def _gammainc_by_a_twice(a, b):
    """The second derivative of P(a, b) by `a`."""
    return _gammainc_by_shape(a, b, 2)


@elementwise(
    partials=(
        lambda a, y: -_gammainc_by_a(a, y) / _gamma_density(a, y),
        lambda a, y: 1.0 / _gamma_density(a, y),
    ),
    scipy="gammaincinv",
    result=FLOATING,
)
def _gammaincinv(a, b):
    """The x at which P(a, x) is `b`, elementwise."""
    return _scipy_gammaincinv(a, b)


@elementwise(
    partials=(
        lambda a, y: -_gammainc_by_a(a, y) / _gamma_density(a, y),
        lambda a, y: -1.0 / _gamma_density(a, y),
    ),
    scipy="gammainccinv",
    result=FLOATING,
)
def _gammainccinv(a, b):
    """The x at which Q(a, x) is `b`, elementwise."""
    return _scipy_gammainccinv(a, b)


def _beta_weight(a, b, x, y):
    """x^a y^b / B(a, b), where y = 1 - x, without loss for great `a` and `b` (Loader 2000)."""
    n = a + b
    p, q = a / n, b / n
    away = x - p if x < 0.5 else q - y
    falls = a * _minus_log1p(away / p, x / p) + b * _minus_log1p(-away / q, y / q)
    rest = _stirling(n) - _stirling(a) - _stirling(b)
    return vectormath.exp(rest - falls) * np.sqrt(a * (b / (2.0 * math.pi * n)))


def _digamma_apart(a, b):
    """digamma(a) - digamma(a + b), in terms of one sign (5.5.2, 5.11.2)."""
    steps = 0.0
    while a < 10.0:
        steps += b / (a * (a + b))
        a += 1.0
    n, total = a + b, 0.0
    u, v = 1.0 / (a * a), 1.0 / (n * n)
    for of, sign in ((u, -1.0), (v, 1.0)):
        total += sign * of * (1.0 / 12.0 - of * (1.0 / 120.0 - of * (1.0 / 252.0 - of * (1.0 / 240.0 - of / 132.0))))
    return total - steps - vectormath.log1p(b / a) - 0.5 * b / (a * n)


def _betainc_by_shape(a, b, x, y, second):
    """The derivative of I_x(a, b) by `a`; then again by `a` (second 1), or by `b` (2). y = 1 - x."""
    if not (a > 0.0 and b > 0.0 and x >= 0.0 and y >= 0.0):
        return math.nan
    if x == 0.0 or y == 0.0 or a - a != 0 or b - b != 0:
        return 0.0
    weight = _beta_weight(a, b, x, y)
    if weight == 0.0:
        return 0.0
    middle, other = _digamma_apart(a, b), _digamma_apart(b, a)
    less = vectormath.trigamma(a + b)
    spread = less - vectormath.trigamma(a) if second == 1 else less
    log_x = vectormath.log(x) if x < 0.5 else vectormath.log1p(-y)
    log_y = vectormath.log(y) if y < 0.5 else vectormath.log1p(-x)
    below = log_x <= middle if second == 0 else x * (a + b) <= a
    # On [0, x] t = x exp(-w), and on [x, 1] 1 - t = y exp(-w): c is the exponent of what falls, d that of the rest.
    sign, near, far, c, d = (1.0, x, y, a, b) if below else (-1.0, y, x, b, a)
    slope = c - (d - 1.0) * near / far
    length = 1.0 / max(slope, np.sqrt(abs(d - 1.0) * near) / far, 1e-300)
    total = 0.0
    for k in range(-_STEPS, _MOST_STEPS):
        s = k * _STEP
        small = vectormath.exp(-s)
        w = length * vectormath.exp(s - small)
        gone = near * -vectormath.expm1(-w)
        ratio = vectormath.log1p(gone / far)  # log of what the rest is, over what it was
        falls = c * w - (d - 1.0) * ratio
        height = (log_x - w if below else log_x + ratio) - middle
        value = height
        if second == 1:
            value = height * height + spread
        elif second == 2:
            value = height * ((log_y + ratio if below else log_y - w) - other) + spread
        term = value * vectormath.exp(-falls) * w * (1.0 + small)
        total += term
        if falls > 40.0 and abs(term) <= 1e-18 * abs(total):
            break
    return sign * weight / far * total * _STEP


@elementwise(
    partials=(
        lambda a, b, c: _betainc_by_a(a, b, c),
        lambda a, b, c: _betainc_by_b(a, b, c),
        lambda a, b, c: _beta_density(a, b, c),
    ),
    scipy="betainc",
    result=FLOATING,
)
def _betainc(a, b, c):
    """The regularised incomplete beta function I_c(a, b), elementwise; differentiable by all (8.17.2)."""
    return _scipy_betainc(a, b, c)


@elementwise(
    partials=(
        lambda a, b, c, y: y * (log(c) - digamma(a) + digamma(a + b)),
        lambda a, b, c, y: y * (log(1.0 - c) - digamma(b) + digamma(a + b)),
        lambda a, b, c, y: y * ((a - 1.0) / c - (b - 1.0) / (1.0 - c)),
    ),
    result=FLOATING,
)
def _beta_density(a, b, c):
    """c^(a - 1) (1 - c)^(b - 1) / B(a, b), elementwise."""
    if not (a > 0.0 and b > 0.0 and 0.0 <= c <= 1.0):
        return math.nan
    if c == 0.0 or c == 1.0:
        shape, rest = (a, b) if c == 0.0 else (b, a)
        return math.inf if shape < 1.0 else rest if shape == 1.0 else 0.0
    return _beta_weight(a, b, c, 1.0 - c) / c / (1.0 - c)


@elementwise(
    partials=(
        lambda a, b, c: _betainc_by_a_again(a, b, c),
        lambda a, b, c: _betainc_by_both(a, b, c),
        lambda a, b, c: _beta_density(a, b, c) * (log(c) - digamma(a) + digamma(a + b)),
    ),
    result=FLOATING,
)
def _betainc_by_a(a, b, c):
    """The derivative of I_c(a, b) by `a`."""
    return _betainc_by_shape(a, b, c, 1.0 - c, 0)


@elementwise(
    partials=(
        lambda a, b, c: _betainc_by_both(a, b, c),
        lambda a, b, c: -_betainc_by_a_again(b, a, 1.0 - c),
        lambda a, b, c: _beta_density(a, b, c) * (log(1.0 - c) - digamma(b) + digamma(a + b)),
    ),
    result=FLOATING,
)
def _betainc_by_b(a, b, c):
    """The derivative of I_c(a, b) by `b`: less that of I_(1 - c)(b, a) (8.17.4)."""
    return -_betainc_by_shape(b, a, 1.0 - c, c, 0)


@elementwise(partials=(_unknown,) * 3, result=FLOATING)
def _betainc_by_a_again(a, b, c):
    """The second derivative of I_c(a, b) by `a`."""
    return _betainc_by_shape(a, b, c, 1.0 - c, 1)


@elementwise(partials=(_unknown,) * 3, result=FLOATING)
def _betainc_by_both(a, b, c):
    """The derivative of I_c(a, b) by `a` and `b`."""
    return _betainc_by_shape(a, b, c, 1.0 - c, 2)


@elementwise(
    partials=(
        lambda a, b, y: -_betainc_by_a(a, b, y) / _beta_density(a, b, y),
        lambda a, b, y: -_betainc_by_b(a, b, y) / _beta_density(a, b, y),
        lambda a, b, y: 1.0 / _beta_density(a, b, y),
    ),
    scipy="betaincinv",
    result=FLOATING,
)
def _betaincinv(a, b, c):
    """The x at which I_x(a, b) is `c`, elementwise."""
    return _scipy_betaincinv(a, b, c)
