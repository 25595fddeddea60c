"""The gamma function's kin: its inverse, beta, binomials, Pochhammer's symbol; cited by the numbers of the DLMF.

Values are SciPy's (`foreign.py`). Slopes are differences of digamma, taken as a whole, so that nothing cancels.
"""

import math

from tapegrad import vectormath
from tapegrad.foreign import Foreign
from tapegrad.ops.declare import FLOATING, elementwise
from tapegrad.ops.logic import where
from tapegrad.ops.special import _gamma, _tetragamma, _trigamma, digamma
from tapegrad.ops.trigonometric import cos, sinc

_scipy_rgamma, _scipy_loggamma = Foreign("rgamma"), Foreign("loggamma")
_scipy_beta, _scipy_betaln = Foreign("beta", 2), Foreign("betaln", 2)
_scipy_binom, _scipy_poch = Foreign("binom", 2), Foreign("poch", 2)

_LOG_2_PI = math.log(2.0 * math.pi)

# B_2k / 2k and B_2k, k from 1 (5.11.2, 5.15.8)
_OF_DIGAMMA = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12)
_OF_TRIGAMMA = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6)


def stirling(z):
    """log gamma(z) - (z - 1/2) log z + z - log(2 pi) / 2: what Stirling's formula leaves (5.11.1)."""
    if z < 10.0:
        return vectormath.lgamma(z + 1.0) - (z + 0.5) * vectormath.log(z) + z - 0.5 * _LOG_2_PI
    w = 1.0 / (z * z)
    return (
        1.0 / 12.0
        - w * (1.0 / 360.0 - w * (1.0 / 1260.0 - w * (1.0 / 1680.0 - w * (1.0 / 1188.0 - w * 691.0 / 360360.0))))
    ) / z


def digamma_apart(a, b):
    """digamma(a) - digamma(a + b), in terms that all have the factor b (5.5.2, 5.11.2)."""
    if not (a > 0.0 and a + b > 0.0):
        return vectormath.digamma(a) - vectormath.digamma(a + b)
    steps = 0.0
    while a < 10.0 or a + b < 10.0:
        steps += b / (a * (a + b))
        a += 1.0
    n = a + b
    u, v = 1.0 / (a * a), 1.0 / (n * n)
    apart = b * (a + n) * u * v  # u - v
    power, total, ratio = u, 0.0, 1.0
    for k in range(7):
        total += _OF_DIGAMMA[k] * ratio
        ratio, power = ratio * v + power, power * u  # (u^k - v^k) / (u - v), and u^k
    return -steps - vectormath.log1p(b / a) - 0.5 * b / (a * n) - apart * total


def _trigamma_difference(a, b):
    """trigamma(a) - trigamma(a + b), likewise (5.15.5, 5.15.8)."""
    if not (a > 0.0 and a + b > 0.0):
        return vectormath.trigamma(a) - vectormath.trigamma(a + b)
    steps = 0.0
    while a < 10.0 or a + b < 10.0:
        steps += b * (2.0 * a + b) / (a * a * (a + b) * (a + b))
        a += 1.0
    n = a + b
    u, v = 1.0 / (a * a), 1.0 / (n * n)
    apart, between = b * (a + n) * u * v, b / (a * n)  # u - v, 1/a - 1/n
    power, total, ratio = u, 0.0, 1.0
    for k in range(7):
        total += _OF_TRIGAMMA[k] * (power * between + apart * ratio / n)
        ratio, power = ratio * v + power, power * u
    return steps + between + 0.5 * apart + total


@elementwise(
    partials=(lambda a, b: _trigamma_apart(a, b), lambda a, b: -_trigamma(a + b)),
    result=FLOATING,
)
def _digamma_apart(a, b):
    """digamma(a) - digamma(a + b), elementwise."""
    return digamma_apart(a, b)


@elementwise(
    partials=(
        lambda a, b: _tetragamma(a) - _tetragamma(a + b),
        lambda a, b: -_tetragamma(a + b),
    ),
    result=FLOATING,
)
def _trigamma_apart(a, b):
    """trigamma(a) - trigamma(a + b), elementwise."""
    return _trigamma_difference(a, b)


@elementwise(
    # 5.5.3, differentiated, on the left, where the terms of -y digamma(x) cancel beside the poles
    partials=lambda x, y: where(
        x < 0.5, _gamma(1.0 - x) * (cos(math.pi * x) - x * sinc(x) * digamma(1.0 - x)), -y * digamma(x)
    ),
    scipy="rgamma",
    result=FLOATING,
)
def _rgamma(x):
    """1 / gamma(x), elementwise; 0 at the poles of gamma.

    >>> import tapegrad as tg
    >>> tg.special.rgamma(tg.tensor([0.0, 4.0]))
    tensor([0.0000, 0.1667])
    """
    return _scipy_rgamma(x)


@elementwise(partials=lambda x: where(x < 0.0, math.nan, digamma(x)), scipy="loggamma", result=FLOATING)
def _loggamma(x):
    """The logarithm of gamma, elementwise; nan where `x` is negative, where it is not real.

    >>> import tapegrad as tg
    >>> tg.special.loggamma(tg.tensor([0.5, 5.0]))
    tensor([0.5724, 3.1781])
    """
    return _scipy_loggamma(x)


@elementwise(
    partials=(lambda a, b, y: y * _digamma_apart(a, b), lambda a, b, y: y * _digamma_apart(b, a)),  # 5.12.1
    scipy="beta",
    result=FLOATING,
)
def _beta(a, b):
    """The beta function, gamma(a) gamma(b) / gamma(a + b), elementwise.

    >>> import tapegrad as tg
    >>> tg.special.beta(2.0, tg.tensor([1.0, 3.0]))
    tensor([0.5000, 0.0833])
    """
    return _scipy_beta(a, b)


@elementwise(
    partials=(lambda a, b: _digamma_apart(a, b), lambda a, b: _digamma_apart(b, a)),
    scipy="betaln",
    result=FLOATING,
)
def _betaln(a, b):
    """The logarithm of the beta function's absolute value, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.betaln(2.0, tg.tensor([1.0, 3.0]))
    tensor([-0.6931, -2.4849])
    """
    low, high = min(a, b), max(a, b)
    if not (low > 0.0 and 20.0 < high < math.inf):
        return _scipy_betaln(a, b)
    n = a + b  # 5.11.1, where logarithms of gamma would cancel
    rest = stirling(low) + stirling(high) - stirling(n) + 0.5 * (_LOG_2_PI - vectormath.log(high))
    return rest + (low - 0.5) * vectormath.log(low / n) + high * vectormath.log1p(-low / n)


@elementwise(
    partials=(
        lambda a, b, y: -y * _digamma_apart(a - b + 1.0, b),
        lambda a, b, y: -y * _digamma_apart(b + 1.0, a - 2.0 * b),
    ),
    scipy="binom",
    result=FLOATING,
)
def _binom(a, b):
    """The binomial coefficient of real numbers, gamma(a + 1) / gamma(b + 1) / gamma(a - b + 1), elementwise.

    >>> import tapegrad as tg
    >>> tg.special.binom(5.0, tg.tensor([2.0, 2.5]))
    tensor([10.0000, 10.8650])
    """
    return _scipy_binom(a, b)


@elementwise(
    partials=(lambda a, b, y: -y * _digamma_apart(a, b), lambda a, b, y: y * digamma(a + b)),
    scipy="poch",
    result=FLOATING,
)
def _poch(a, b):
    """Pochhammer's symbol, gamma(a + b) / gamma(a), elementwise (5.2.5).

    >>> import tapegrad as tg
    >>> tg.special.poch(3.0, tg.tensor([1.0, 2.0]))
    tensor([ 3., 12.])
    """
    return _scipy_poch(a, b)
