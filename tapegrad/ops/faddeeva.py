"""Faddeeva's function w(z) = exp(-z²) erfc(-i z), with its derivatives, and Voigt's profile, which is its real part.

Near 0 w is the integral 7.7.2 of the DLMF by the trapezoidal rule, with the residues of the poles that a line of nodes
passes: Al Azah and Chandler-Wilde (2021), whose nodes are N + 1 of distance sqrt(pi / (N + 1)). Far from it, it is its
asymptotic series (7.12.1). Profiles are SciPy's (`foreign.py`).
"""

import math

from tapegrad import vectormath
from tapegrad.foreign import Foreign
from tapegrad.ops.declare import FLOATING, elementwise
from tapegrad.ops.logic import where

_scipy_voigt_profile = Foreign("voigt_profile", 3)

_ROOT_PI = math.sqrt(math.pi)
_N = 11
_H = math.sqrt(math.pi / (_N + 1))
_MIDDLES = tuple(((k + 0.5) * _H) ** 2 for k in range(_N + 1))  # squares of nodes, and weights there
_OF_MIDDLES = tuple(math.exp(-node) for node in _MIDDLES)
_ENDS = tuple(((k + 1) * _H) ** 2 for k in range(_N))
_OF_ENDS = tuple(math.exp(-node) for node in _ENDS)
_FAR = 49.0  # |z|², from where on terms of the series fall below rounding


def _times_z(x, y, a, b):
    """i z (a + i b) 2 h / pi."""
    return -2.0 * _H / math.pi * (a * y + b * x), 2.0 * _H / math.pi * (a * x - b * y)


def _imaginary_part(x, y):
    """That of w, for x and y of at least 0, by the rule whose nodes are the further ones."""
    p, q = (x - y) * (x + y), 2.0 * x * y
    part = x / _H - math.floor(x / _H)
    at_ends = y < x and 0.25 <= part <= 0.75
    a = b = 0.0
    for k in range(_N if at_ends else _N + 1):
        apart = p - (_ENDS[k] if at_ends else _MIDDLES[k])
        weight = (_OF_ENDS[k] if at_ends else _OF_MIDDLES[k]) / (apart * apart + q * q)
        a += weight * apart
        b -= weight * q
    found = _times_z(x, y, a, b)[1]
    if at_ends:
        found += _H / math.pi * x / (x * x + y * y)
    if y >= max(x, math.pi / _H):
        return found
    sign = -1.0 if at_ends else 1.0  # 2 exp(-z²) / (1 + sign exp(-2 pi i z / h))
    growth, turn = vectormath.exp(2.0 * math.pi * y / _H), 2.0 * math.pi * x / _H
    c, d = 1.0 + sign * growth * vectormath.cos(turn), -sign * growth * vectormath.sin(turn)
    scale, angle = 2.0 * vectormath.exp(-p), -q
    return found + scale * (vectormath.sin(angle) * c - vectormath.cos(angle) * d) / (c * c + d * d)


def _near(n, x, y):
    """The derivative of order n, by that of each lower one: w' = 2 i / sqrt(pi) - 2 z w (7.10.2, 7.10.3)."""
    re, im = _ROOT_PI * _scipy_voigt_profile(x, math.sqrt(0.5), y), _imaginary_part(x, y)
    before_re, before_im = 0.0, 0.0
    for k in range(int(n)):
        next_re = -2.0 * (x * re - y * im) - 2.0 * k * before_re
        next_im = -2.0 * (x * im + y * re) - 2.0 * k * before_im + (2.0 / _ROOT_PI if k == 0 else 0.0)
        before_re, before_im, re, im = re, im, next_re, next_im
    return re, im


def _far(n, x, y):
    """Likewise, each term of the series differentiated."""
    square = x * x + y * y
    re, im = x / square, -y / square  # 1 / z
    c, d = (re - im) * (re + im), 2.0 * re * im
    a, b = 0.0, 1.0 / _ROOT_PI  # i (-1)^n n! / sqrt(pi) / z^(n + 1)
    for k in range(int(n) + 1):
        factor = -float(k) if k else 1.0
        a, b = factor * (a * re - b * im), factor * (a * im + b * re)
    total_re, total_im = a, b
    for k in range(40):  # (1/2)_k (2k + 1) ... (2k + n)
        factor = (k + 0.5) * ((2 * k + n + 1.0) * (2 * k + n + 2.0)) / ((2 * k + 1.0) * (2 * k + 2.0))
        a, b = factor * (a * c - b * d), factor * (a * d + b * c)
        total_re, total_im = total_re + a, total_im + b
        if abs(a) + abs(b) < 1e-17 * min(abs(total_re), abs(total_im)):
            break
    if y < 1e-5:  # what the series leaves out of the real part, exp(-z²)
        bell, before = vectormath.exp(-x * x), 0.0
        for k in range(int(n)):
            before, bell = bell, -2.0 * x * bell - 2.0 * k * before
        total_re += bell
    return total_re, total_im


def _derivative(n, x, y):
    """Both parts of the derivative of order n of w at x + i y, for y of at least 0."""
    if not y >= 0.0 or x != x:
        return math.nan, math.nan
    if abs(x) == math.inf or y == math.inf:
        return 0.0, 0.0
    far = x * x + y * y >= _FAR
    re, im = _far(n, abs(x), y) if far else _near(n, abs(x), y)
    if x >= 0.0:
        return re, im
    odd = 0.5 * n != math.floor(0.5 * n)
    return (-re, im) if odd else (re, -im)


@elementwise(
    partials=(
        None,
        lambda a, b, c: _faddeeva_real(a + 1.0, b, c),
        lambda a, b, c: -_faddeeva_imaginary(a + 1.0, b, c),
    ),
    result=FLOATING,
)
def _faddeeva_real(a, b, c):
    """The real part of the derivative of order a of w, at b + i c."""
    return _derivative(a, b, c)[0]


@elementwise(
    partials=(
        None,
        lambda a, b, c: _faddeeva_imaginary(a + 1.0, b, c),
        lambda a, b, c: _faddeeva_real(a + 1.0, b, c),
    ),
    result=FLOATING,
)
def _faddeeva_imaginary(a, b, c):
    """The imaginary part of it."""
    return _derivative(a, b, c)[1]


_ROOT_HALF = math.sqrt(0.5)
_OF_FIRST = 0.5 / _ROOT_PI  # of 1 / sigma²: that of z by x, sqrt(1/2) / sigma, times that of the profile by w


@elementwise(
    partials=(
        lambda a, b, c: where(
            b == 0.0,
            -2.0 / math.pi * a * c / ((a * a + c * c) * (a * a + c * c)),
            _OF_FIRST / (b * b) * _faddeeva_real(1.0, _ROOT_HALF * a / b, _ROOT_HALF * c / b),
        ),
        lambda a, b, c: where(  # sigma times the second derivative by x: Gaussians spread as heat does
            b == 0.0,
            0.0,
            _ROOT_HALF * _OF_FIRST / (b * b) * _faddeeva_real(2.0, _ROOT_HALF * a / b, _ROOT_HALF * c / b),
        ),
        lambda a, b, c: where(
            b == 0.0,
            (a - c) * (a + c) / (math.pi * (a * a + c * c) * (a * a + c * c)),
            -_OF_FIRST / (b * b) * _faddeeva_imaginary(1.0, _ROOT_HALF * a / b, _ROOT_HALF * c / b),
        ),
    ),  # 7.19.1
    scipy="voigt_profile",
    result=FLOATING,
)
def _voigt_profile(a, b, c):
    """Voigt's profile: a normal density of deviation sigma, convolved with a Cauchy density of scale gamma.

    >>> import tapegrad as tg
    >>> tg.special.voigt_profile(0.0, 1.0, tg.tensor([0.0, 0.5]))
    tensor([0.3989, 0.2790])
    """
    return _scipy_voigt_profile(a, b, c)
