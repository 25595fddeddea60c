"""Carlson's symmetric elliptic integrals and the arithmetic-geometric mean; cited by the numbers of the DLMF.

Values are SciPy's (`foreign.py`); slopes are R_D, and its slopes are integrals of what is positive.
"""

import math

from tapegrad import vectormath
from tapegrad.foreign import Foreign
from tapegrad.ops.declare import FLOATING, elementwise
from tapegrad.ops.exponential import sqrt
from tapegrad.ops.logic import where
from tapegrad.ops.special import _unknown

_scipy_elliprc, _scipy_elliprf = Foreign("elliprc", 2), Foreign("elliprf", 3)
_scipy_elliprd, _scipy_elliprg, _scipy_agm = Foreign("elliprd", 3), Foreign("elliprg", 3), Foreign("agm", 2)


@elementwise(
    partials=(
        lambda a, b, c: _elliprd(b, c, a) / -6.0,
        lambda a, b, c: _elliprd(a, c, b) / -6.0,
        lambda a, b, c: _elliprd(a, b, c) / -6.0,
    ),  # 19.18.1
    scipy="elliprf",
    result=FLOATING,
)
def _elliprf(a, b, c):
    """Carlson's integral of the first kind R_F(x, y, z), elementwise (19.16.1)."""
    return _scipy_elliprf(a, b, c)


def _times_rd(x, y, z):
    """z R_D(x, y, z), which is 0 where z is."""
    return where(z == 0.0, 0.0, z * _elliprd(x, y, z))


@elementwise(
    partials=(
        lambda a, b, c: 0.25 * (_elliprf(a, b, c) - _times_rd(b, c, a) / 3.0),
        lambda a, b, c: 0.25 * (_elliprf(a, b, c) - _times_rd(a, c, b) / 3.0),
        lambda a, b, c: 0.25 * (_elliprf(a, b, c) - _times_rd(a, b, c) / 3.0),
    ),  # 19.16.3, differentiated
    scipy="elliprg",
    result=FLOATING,
)
def _elliprg(a, b, c):
    """Carlson's integral of the second kind R_G(x, y, z), symmetric in all, elementwise (19.16.3)."""
    return _scipy_elliprg(a, b, c)


@elementwise(
    partials=(
        lambda a, b: where(
            b < 0.0, 0.5 * (1.0 / sqrt(a) - _elliprc(a, b)) / (a - b), _elliprd(abs(b), abs(b), a) / -6.0
        ),
        lambda a, b: where(b < 0.0, 0.5 * (_elliprc(a, b) - sqrt(a) / b) / (a - b), _elliprd(a, abs(b), abs(b)) / -3.0),
    ),  # 19.18.1 of R_F(x, y, y); of a principal value 19.2.17 and 19.2.20, differentiated
    scipy="elliprc",
    result=FLOATING,
)
def _elliprc(a, b):
    """Carlson's degenerate integral R_C(x, y) = R_F(x, y, y), elementwise (19.2.17)."""
    return _scipy_elliprc(a, b)


@elementwise(
    partials=(
        lambda a, b, c: _slope_of_rd(a, b, c),
        lambda a, b, c: _slope_of_rd(b, a, c),
        lambda a, b, c: _last_slope_of_rd(a, b, c),
    ),
    scipy="elliprd",
    result=FLOATING,
)
def _elliprd(a, b, c):
    """Carlson's integral of the second kind R_D(x, y, z), elementwise (19.16.5)."""
    return _scipy_elliprd(a, b, c)


def _integral(p, x, q, y, r, z):
    """That of (t + x)^-p (t + y)^-q (t + z)^-r over t > 0, of t = exp(s) by the trapezoidal rule over all s.

    The integrand is analytic for |Im s| < pi: with steps of 1/2 the error is exp(-4 pi²).
    """
    if not (x >= 0.0 and y >= 0.0 and z >= 0.0) or x + y + z == math.inf:
        return math.nan
    most = max(x, y, z)
    if most == 0.0:
        return math.inf
    total, scale = 0.0, vectormath.pow(most, 1.0 - p - q - r)
    x, y, z = x / most, y / most, z / most
    for direction in (-0.5, 0.5):
        s = 0.0 if direction < 0.0 else 0.5
        while abs(s) < 700.0:
            t = vectormath.exp(s)
            term = t * vectormath.pow(t + x, -p) * vectormath.pow(t + y, -q) * vectormath.pow(t + z, -r)
            total += term
            if term <= 1e-18 * total and (t > 1.0 or t < 1e-3 * min(x, y, z) or t < 1e-40):
                break
            s += direction
    return 0.5 * total * scale


@elementwise(partials=(_unknown,) * 3, result=FLOATING)
def _slope_of_rd(a, b, c):
    """The slope of R_D(x, y, z) by x (19.16.5, differentiated); the next is not known."""
    return -0.75 * _integral(1.5, a, 0.5, b, 1.5, c)


@elementwise(partials=(_unknown,) * 3, result=FLOATING)
def _last_slope_of_rd(a, b, c):
    """The slope of R_D(x, y, z) by z; the next is not known."""
    return -2.25 * _integral(0.5, a, 0.5, b, 2.5, c)


@elementwise(
    partials=(
        lambda a, b, y: 2.0 / (3.0 * math.pi) * abs(a) * y * y * _elliprd(0.0, b * b, a * a),
        lambda a, b, y: 2.0 / (3.0 * math.pi) * abs(b) * y * y * _elliprd(0.0, a * a, b * b),
    ),  # 19.8.1, 19.25.1, 19.18.1
    scipy="agm",
    result=FLOATING,
)
def _agm(a, b):
    """The arithmetic-geometric mean of two numbers, elementwise."""
    return _scipy_agm(a, b)
