"""Special functions for jitted code, with their derivatives.

`math` has erf, erfc, gamma and lgamma, which are differentiated; here is what it lacks. They are compiled into the code
that calls them, differentiated or not:

>>> from tapegrad import func
>>> from tapegrad.jitted import special
>>> func.grad(lambda x: special.ndtr(x))(0.0)
0.39894228...
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit


def digamma_of(x: float) -> float:
    """The derivative of log gamma, by recurrence and the asymptotic series; about 1e-14 away from its poles."""
    if x <= 0.0 and x == math.floor(x):
        return np.nan
    y = 0.0
    if x < 0.0:
        y = -math.pi / math.tan(math.pi * x)
        x = 1.0 - x
    while x < 10.0:
        y -= 1.0 / x
        x += 1.0
    r = 1.0 / (x * x)
    series = r * (1 / 12 - r * (1 / 120 - r * (1 / 252 - r * (1 / 240 - r * (1 / 132 - r * (691 / 32760 - r / 12))))))
    return y + math.log(x) - 0.5 / x - series


def trigamma_of(x: float) -> float:
    """The derivative of digamma."""
    if x <= 0.0 and x == math.floor(x):
        return np.inf
    y, sign = 0.0, 1.0
    if x < 0.0:
        s = math.sin(math.pi * x)
        y = math.pi * math.pi / (s * s)
        x, sign = 1.0 - x, -1.0
    z = 0.0
    while x < 10.0:
        z += 1.0 / (x * x)
        x += 1.0
    r = 1.0 / (x * x)
    series = 1 / 6 - r * (1 / 30 - r * (1 / 42 - r * (1 / 30 - r * (5 / 66 - r * (691 / 2730 - r * 7 / 6)))))
    return y + sign * (z + 1.0 / x + 0.5 * r + series * r / x)


@njit
def ndtr(x):
    """The distribution function of the standard normal distribution."""
    return 0.5 * math.erfc(-x * math.sqrt(0.5))


@njit
def expit(x):
    """The logistic function, without overflow."""
    if x >= 0.0:
        return 1.0 / (1.0 + math.exp(-x))
    e = math.exp(x)
    return e / (1.0 + e)


@njit
def logit(p):
    """The inverse of the logistic function."""
    return math.log(p) - math.log1p(-p)


@njit
def betaln(a, b):
    """The logarithm of the beta function, of positive numbers."""
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


@njit
def digamma(x):
    """The derivative of the logarithm of the gamma function."""
    return _digamma(x)


_digamma = njit(digamma_of)
