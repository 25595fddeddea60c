"""The error function and the logarithm of the gamma function, with their kin."""

import math

import numpy as np

from tapegrad import vectormath
from tapegrad.ops import domains
from tapegrad.ops.declare import FLOATING, elementwise
from tapegrad.ops.exponential import exp

_TWO_OVER_ROOT_PI = 2.0 / math.sqrt(math.pi)


def _is_pole(x):
    """Whether the gamma function has a pole there."""
    return x <= 0 and (x == -math.inf or x == math.floor(x))


@elementwise(partials=lambda x: _TWO_OVER_ROOT_PI * exp(-(x * x)), domain=(domains.reals,), result=FLOATING)
def erf(x):
    """The error function, elementwise: the integral of 2 exp(-t²) / sqrt(pi) from 0 to `x`."""
    return vectormath.erf(x)


@elementwise(partials=lambda x: -_TWO_OVER_ROOT_PI * exp(-(x * x)), domain=(domains.reals,), result=FLOATING)
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
    domain=(domains.positive,),
    result=FLOATING,
)
def lgamma(x):
    """The logarithm of the gamma function's absolute value, elementwise."""
    return vectormath.lgamma(x)


@elementwise(
    partials=lambda x: _trigamma(x),
    exact=lambda mp, x: (mp.nan if x else -mp.inf) if _is_pole(x) else mp.digamma(x),
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


@elementwise(result=FLOATING)
def _tetragamma(x):
    """The derivative of trigamma, elementwise."""
    return vectormath.tetragamma(x)
