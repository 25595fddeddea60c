"""Special functions: the error function, gamma and zeta, with their kin.

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
_scipy_gamma, _scipy_zetac = Foreign("gamma"), Foreign("zetac")


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
    """The error function, elementwise: the integral of 2 exp(-t²) / sqrt(pi) from 0 to `x`.

    >>> import tapegrad as tg
    >>> tg.erf(tg.tensor([0.5, 1.0]))
    tensor([0.5205, 0.8427])
    """
    return vectormath.erf(x)


@elementwise(
    partials=lambda x: -_TWO_OVER_ROOT_PI * exp(-(x * x)), scipy="erfc", domain=(domains.reals,), result=FLOATING
)
def erfc(x):
    """1 - erf(x), exact also where that is small, elementwise.

    >>> import tapegrad as tg
    >>> tg.erfc(tg.tensor([0.5, 1.0]))
    tensor([0.4795, 0.1573])
    """
    return vectormath.erfc(x)


@elementwise(
    partials=lambda x, y: y * digamma(x),
    exact=lambda mp, x: (mp.nan if x else 1 / x) if _is_pole(x) else mp.gamma(x),
    scipy="gamma",
    domain=(domains.Domain(0.5, 4.0, edges=()),),
    result=FLOATING,
)
def _gamma(x):
    """The gamma function, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.gamma(tg.tensor([0.5, 5.0]))
    tensor([ 1.7725, 24.0000])
    """
    return _scipy_gamma(x)


@elementwise(
    partials=lambda x: digamma(x),
    exact=lambda mp, x: mp.inf if _is_pole(x) else mp.log(abs(mp.gamma(x))),
    scipy="gammaln",
    domain=(domains.positive,),
    result=FLOATING,
)
def lgamma(x):
    """The logarithm of the gamma function's absolute value, elementwise.

    >>> import tapegrad as tg
    >>> tg.lgamma(tg.tensor([0.5, 3.0]))
    tensor([0.5724, 0.6931])
    """
    return vectormath.lgamma(x)


@elementwise(
    partials=lambda x: _trigamma(x),
    exact=lambda mp, x: (mp.nan if x else -mp.inf) if _is_pole(x) else mp.digamma(x),
    scipy="psi",
    domain=(domains.above_zero,),
    result=FLOATING,
)
def digamma(x):
    """The derivative of the gamma function's logarithm, elementwise; it has two derivatives in turn.

    >>> import tapegrad as tg
    >>> tg.digamma(tg.tensor([0.5, 3.0]))
    tensor([-1.9635,  0.9228])
    """
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
    """The inverse of `erf`, elementwise; inf at 1, -inf at -1, nan beyond.

    >>> import tapegrad as tg
    >>> tg.erfinv(tg.tensor([-0.5, 0.5]))
    tensor([-0.4769,  0.4769])
    """
    return x if x == 0 else _scipy_erfinv(x)  # of SciPy's the sign of zero is lost


@elementwise(
    partials=lambda x: _erfcx_slope(x),
    exact=lambda mp, x: mp.exp(x * x) * mp.erfc(x),
    scipy="erfcx",
    domain=(domains.moderate,),
    result=FLOATING,
    ulps=16.0,
)
def _erfcx(x):
    """exp(x²) erfc(x), elementwise.

    >>> import tapegrad as tg
    >>> tg.special.erfcx(tg.tensor([0.0, 30.0]))
    tensor([1.0000, 0.0188])
    """
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
    """The distribution function of the standard normal distribution, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.ndtr(tg.tensor([-1.96, 0.0]))
    tensor([0.0250, 0.5000])
    """
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
    """The inverse of `ndtr`, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.ndtri(tg.tensor([0.025, 0.5]))
    tensor([-1.9600,  0.0000])
    """
    return _scipy_ndtri(x)


@elementwise(
    partials=lambda x: _ROOT_2_OVER_PI / _erfcx(-_ROOT_HALF * x),
    exact=lambda mp, x: mp.log(mp.erfc(-x / mp.sqrt(2)) / 2) if x < 0 else mp.log1p(-mp.erfc(x / mp.sqrt(2)) / 2),
    scipy="log_ndtr",
    domain=(domains.moderate,),
    result=FLOATING,
    ulps=16.0,
)
def _log_ndtr(x):
    """The logarithm of `ndtr`, exact also where that is small, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.log_ndtr(tg.tensor([-2.0, 0.0]))
    tensor([-3.7832, -0.6931])
    """
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
    """-`x` log(`x`), elementwise; 0 at 0, and -inf where `x` is negative.

    >>> import tapegrad as tg
    >>> tg.special.entr(tg.tensor([0.0, 0.5]))
    tensor([0.0000, 0.3466])
    """
    return -math.inf if x < 0 else x if x == 0 else -x * vectormath.log(x)


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
    """Hurwitz' zeta function: the sum of (b + k)^-a over k from 0, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.zeta(2.0, tg.tensor([1.0, 2.0]))
    tensor([1.6449, 0.6449])
    """
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


def _hurwitz_by_order(a, b):
    """The derivative of 25.11.5 by a, term by term, for b > 0; a from -2 on."""
    total, w = 0.0, b
    least = 10.0 + 0.7 * max(a, 0.0)
    while w < least:
        total -= vectormath.log(w) * vectormath.pow(w, -a)
        w += 1.0
    scale, lw = vectormath.pow(w, -a), vectormath.log(w)
    factor, slope = a / w, 1.0 / w
    tail = -0.5 * lw
    for j in range(12):
        tail += _BERNOULLI[j] * (slope - factor * lw)
        u, v = (a + 2 * j + 1) / w, (a + 2 * j + 2) / w
        slope = slope * u * v + factor * (u + v) / w
        factor *= u * v
    return total + scale * (tail - w * (lw / (a - 1.0) + 1.0 / ((a - 1.0) * (a - 1.0))))


@elementwise(partials=(_unknown, lambda a, b: -_zeta(a + 1.0, b) - a * _zeta_by_order(a + 1.0, b)), result=FLOATING)
def _zeta_by_order(a, b):
    """The derivative of zeta by its order. The next is not known."""
    return _hurwitz_by_order(a, b) if a > 1.0 and b > 0.0 else math.nan


@elementwise(partials=_unknown, result=FLOATING)
def _riemann_slope(x):
    """The derivative of Riemann's zeta function: on the left that of its reflection (25.4.1). The next is not known."""
    if not x < -1.0:
        return -math.inf if x == 1.0 else 0.0 if x == math.inf else _hurwitz_by_order(x, 1.0)
    t = 1.0 - x
    turned = 0.5 * math.pi * (t - 4.0 * np.floor(0.25 * t))
    s, c = vectormath.sin(turned), vectormath.cos(turned)
    zeta, slope = _hurwitz(t, 1.0), _hurwitz_by_order(t, 1.0)
    inner = zeta * (c * (vectormath.digamma(t) - math.log(2.0 * math.pi)) - 0.5 * math.pi * s) + c * slope
    return -2.0 * vectormath.exp(vectormath.lgamma(t) - t * math.log(2.0 * math.pi)) * inner


@elementwise(partials=lambda x: _riemann_slope(x), scipy="zetac", result=FLOATING)
def _zetac(x):
    """Riemann's zeta function less 1, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.zetac(tg.tensor([2.0, 4.0]))
    tensor([0.6449, 0.0823])
    """
    return _scipy_zetac(x)


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
