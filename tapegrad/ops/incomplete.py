"""The incomplete gamma and beta functions and their inverses; formulas are cited by the numbers of the DLMF.

Derivatives by a shape are integrals of the density times a logarithm (8.6.1, 8.17.1, differentiated), from the side
on which the logarithm keeps its sign, so that nothing cancels:

    dP(a, x) / da = integral from 0 to x of p(t) (log t - digamma(a)) dt = -(that from x to infinity)

With t = x exp(-w), or x exp(w), the density falls from w = 0 on as exp(-E(w)), and w = L exp(s - exp(-s)) makes an
integral over all s that the trapezoidal rule takes to rounding (Takahasi and Mori 1974).
"""

import math

import numpy as np

from tapegrad import vectormath
from tapegrad.dtypes import INTEGERS
from tapegrad.foreign import Foreign
from tapegrad.ops.declare import FLOATING, elementwise
from tapegrad.ops.exponential import log
from tapegrad.ops.gamma import digamma_apart, stirling
from tapegrad.ops.logic import where
from tapegrad.ops.special import _trigamma, _unknown, digamma

_scipy_gammainc, _scipy_gammaincc = Foreign("gammainc", 2), Foreign("gammaincc", 2)
_scipy_gammaincinv, _scipy_gammainccinv = Foreign("gammaincinv", 2), Foreign("gammainccinv", 2)
_scipy_betainc, _scipy_betaincc = Foreign("betainc", 3), Foreign("betaincc", 3)
_scipy_betaincinv, _scipy_betainccinv = Foreign("betaincinv", 3), Foreign("betainccinv", 3)
_STEP, _STEPS, _MOST_STEPS = 0.0625, 72, 20000


def _minus_log1p(z, whole):
    """z - log(1 + z), for z > -1, where `whole` is 1 + z."""
    if abs(z) > 0.3:
        return z - vectormath.log(whole)
    r = z / (2.0 + z)
    w, total = r * r, 0.0
    for k in range(12, 0, -1):
        total = total * w + 1.0 / (2 * k + 1)
    return r * (z - 2.0 * w * total)


def _gamma_weight(a, x):
    """x^a exp(-x) / gamma(a), without loss for great `a` (Loader 2000)."""
    return vectormath.exp(-a * _minus_log1p((x - a) / a, x / a) - stirling(a)) * np.sqrt(a / (2.0 * math.pi))


def _curved(w):
    """exp(-w) - 1 + w."""
    if abs(w) > 0.3:
        return vectormath.expm1(-w) + w
    total = 0.0
    for k in range(13, 1, -1):
        total = (total + 1.0) * (-w) / k
    return -w * total


def _power_series_by_a(a, x, order):
    """The derivative of P by `a`, of order 1 or 2, for small ones: 8.7.1 differentiated."""
    factor, slope = 1.0, vectormath.log(x) - vectormath.digamma(a + 1.0)
    bend = slope * slope - vectormath.trigamma(a + 1.0)
    total = slope if order == 1 else bend
    for n in range(1, 40):
        factor *= -x / n
        of_a = n / ((a + n) * (a + n))  # the derivative of a / (a + n)
        if order == 1:
            total += factor * (a / (a + n) * slope + of_a)
        else:
            total += factor * (a / (a + n) * bend + 2.0 * of_a * (slope - 1.0 / (a + n)))
    return total * vectormath.exp(a * vectormath.log(x) - vectormath.lgamma(a + 1.0))


def _gammainc_by_shape(a, x, order):
    """The derivative of P by `a`, of order 1 or 2."""
    if not a > 0.0 or not x >= 0.0:
        return math.nan
    if x == 0.0 or x - x != 0 or a - a != 0:
        return 0.0
    if a <= 1.0 and x <= 1.0:
        return _power_series_by_a(a, x, order)
    a = max(a, 1e-290)  # to rounding the limit, without overflow
    weight = _gamma_weight(a, x)
    if weight == 0.0:
        return 0.0
    start = vectormath.log(x) - vectormath.digamma(a)
    most, least = vectormath.log(x) - vectormath.digamma(a + 1.0), vectormath.trigamma(a + 1.0)
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
        value = start - sign * w
        if order == 2:  # value² - trigamma(a), without the 1 / a² that both have (5.5.2, 5.15.5)
            rest = most - sign * w
            value = rest * (rest + 2.0 / a) - least
        term = value * vectormath.exp(-falls) * w * (1.0 + small)
        total += term
        if falls > 40.0 and abs(term) <= 1e-18 * abs(total):
            break
    return sign * weight * total * _STEP


@elementwise(partials=(lambda b: b, lambda a: a))
def _weighted(a, b):
    """`a` times `b`, and 0 where the weight `a` is, whatever `b`: a power at 0 outweighs a logarithm or a pole."""
    return 0.0 if a == 0.0 else a * b


@elementwise(
    partials=(
        lambda a, b: _gammainc_by_a(a, b),
        lambda a, b: _gamma_density(a, b),
    ),
    scipy="gammainc",
    result=FLOATING,
    refuses=("bool", *INTEGERS),
)
def igamma(a, b):
    """The regularised lower incomplete gamma function P(a, b), elementwise; differentiable by both (8.2.4).

    >>> import tapegrad as tg
    >>> tg.igamma(tg.tensor([1.0, 2.0]), tg.tensor([1.0, 1.0]))
    tensor([0.6321, 0.2642])
    """
    return _scipy_gammainc(a, b)


@elementwise(
    partials=(
        lambda a, b: -_gammainc_by_a(a, b),
        lambda a, b: -_gamma_density(a, b),
    ),
    scipy="gammaincc",
    result=FLOATING,
    refuses=("bool", *INTEGERS),
)
def igammac(a, b):
    """The regularised upper incomplete gamma function Q(a, b) = 1 - P(a, b), elementwise.

    >>> import tapegrad as tg
    >>> tg.igammac(tg.tensor([1.0, 2.0]), tg.tensor([1.0, 1.0]))
    tensor([0.3679, 0.7358])
    """
    return _scipy_gammaincc(a, b)


@elementwise(
    partials=(
        lambda a, b, y: _weighted(y, log(b) - digamma(a)),
        lambda a, b, y: where(a > 1.0, _gamma_density(a - 1.0, b), _weighted(a - 1.0, y / b)) - y,
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
        lambda a, b: _weighted(_gamma_density(a, b), log(b) - digamma(a)),
    ),
    result=FLOATING,
)
def _gammainc_by_a(a, b):
    """The derivative of P(a, b) by `a`."""
    return _gammainc_by_shape(a, b, 1)


@elementwise(
    partials=(
        _unknown,
        lambda a, b: _weighted(_gamma_density(a, b), (log(b) - digamma(a)) * (log(b) - digamma(a)) - _trigamma(a)),
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
    """The x at which P(a, x) is `b`, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.gammaincinv(2.0, tg.tensor([0.1, 0.5]))
    tensor([0.5318, 1.6783])
    """
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
    """The x at which Q(a, x) is `b`, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.gammainccinv(2.0, tg.tensor([0.1, 0.5]))
    tensor([3.8897, 1.6783])
    """
    return _scipy_gammainccinv(a, b)


def _beta_weight(a, b, x, y):
    """x^a y^b / B(a, b), where y = 1 - x, without loss for great `a` and `b` (Loader 2000)."""
    n = a + b
    p, q = a / n, b / n
    away = x - p if x < 0.5 else q - y
    falls = a * _minus_log1p(away / p, x / p) + b * _minus_log1p(-away / q, y / q)
    rest = stirling(n) - stirling(a) - stirling(b)
    return vectormath.exp(rest - falls) * np.sqrt(a * (b / (2.0 * math.pi * n)))


def _betainc_by_shape(a, b, x, y, second):
    """The derivative of I_x(a, b) by `a`; then again by `a` (second 1), or by `b` (2). y = 1 - x."""
    if not (a > 0.0 and b > 0.0 and x >= 0.0 and y >= 0.0):
        return math.nan
    if x == 0.0 or y == 0.0 or a - a != 0 or b - b != 0:
        return 0.0
    weight = _beta_weight(a, b, x, y)
    if weight == 0.0:
        return 0.0
    middle, other = digamma_apart(a, b), digamma_apart(b, a)
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
    """The regularised incomplete beta function I_c(a, b), elementwise; differentiable by all (DLMF 8.17.2).

    >>> import tapegrad as tg
    >>> tg.special.betainc(2.0, 3.0, tg.tensor([0.2, 0.5]))
    tensor([0.1808, 0.6875])
    """
    return _scipy_betainc(a, b, c)


@elementwise(
    partials=(
        lambda a, b, c, y: _weighted(y, log(c) - digamma(a) + digamma(a + b)),
        lambda a, b, c, y: _weighted(y, log(1.0 - c) - digamma(b) + digamma(a + b)),
        lambda a, b, c, y: (
            where(a > 1.0, (a + b - 1.0) * _beta_density(a - 1.0, b, c), _weighted(a - 1.0, y / c))
            - where(b > 1.0, (a + b - 1.0) * _beta_density(a, b - 1.0, c), _weighted(b - 1.0, y / (1.0 - c)))
        ),
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
        lambda a, b, c: _weighted(_beta_density(a, b, c), log(c) - digamma(a) + digamma(a + b)),
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
        lambda a, b, c: _weighted(_beta_density(a, b, c), log(1.0 - c) - digamma(b) + digamma(a + b)),
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
    """The x at which I_x(a, b) is `c`, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.betaincinv(2.0, 3.0, tg.tensor([0.2, 0.5]))
    tensor([0.2123, 0.3857])
    """
    return _scipy_betaincinv(a, b, c)


@elementwise(
    partials=(
        lambda a, b, c: -_betainc_by_a(a, b, c),
        lambda a, b, c: -_betainc_by_b(a, b, c),
        lambda a, b, c: -_beta_density(a, b, c),
    ),
    scipy="betaincc",
    result=FLOATING,
)
def _betaincc(a, b, c):
    """1 - I_c(a, b), exact also where that is small, elementwise; differentiable by all.

    >>> import tapegrad as tg
    >>> tg.special.betaincc(2.0, 3.0, tg.tensor([0.2, 0.5]))
    tensor([0.8192, 0.3125])
    """
    return _scipy_betaincc(a, b, c)


@elementwise(
    partials=(
        lambda a, b, y: -_betainc_by_a(a, b, y) / _beta_density(a, b, y),
        lambda a, b, y: -_betainc_by_b(a, b, y) / _beta_density(a, b, y),
        lambda a, b, y: -1.0 / _beta_density(a, b, y),
    ),
    scipy="betainccinv",
    result=FLOATING,
)
def _betainccinv(a, b, c):
    """The x at which 1 - I_x(a, b) is `c`, elementwise; differentiable by all.

    >>> import tapegrad as tg
    >>> tg.special.betainccinv(2.0, 3.0, tg.tensor([0.2, 0.5]))
    tensor([0.5825, 0.3857])
    """
    return _scipy_betainccinv(a, b, c)
