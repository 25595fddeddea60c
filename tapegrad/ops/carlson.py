"""Carlson's symmetric elliptic integrals and the arithmetic-geometric mean; cited by the numbers of the DLMF.

Values are SciPy's (`foreign.py`); slopes are R_D. First and second derivatives of that are integrals of what is
positive, by quadrature: nothing cancels where arguments are equal. Its third ones are not known.
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
    """Carlson's integral of the first kind R_F(x, y, z), elementwise (19.16.1).

    >>> import tapegrad as tg
    >>> tg.special.elliprf(1.0, 2.0, tg.tensor([3.0, 4.0]))
    tensor([0.7269, 0.6851])
    """
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
    """Carlson's integral of the second kind R_G(x, y, z), symmetric in all, elementwise (19.16.3).

    >>> import tapegrad as tg
    >>> tg.special.elliprg(1.0, 2.0, tg.tensor([3.0, 4.0]))
    tensor([1.4018, 1.5053])
    """
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
    """Carlson's degenerate integral R_C(x, y) = R_F(x, y, y), elementwise (19.2.17).

    >>> import tapegrad as tg
    >>> tg.special.elliprc(1.0, tg.tensor([2.0, 3.0]))
    tensor([0.7854, 0.6755])
    """
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
    """Carlson's integral of the second kind R_D(x, y, z), elementwise (19.16.5).

    >>> import tapegrad as tg
    >>> tg.special.elliprd(1.0, 2.0, tg.tensor([3.0, 4.0]))
    tensor([0.2905, 0.2184])
    """
    return _scipy_elliprd(a, b, c)


def integral(p, x, q, y, r, z):
    """That of (t + x)^-p (t + y)^-q (t + z)^-r over t > 0, of t = exp(s) by the trapezoidal rule over all s.

    The integrand is analytic for |Im s| < pi, where it has poles of order p + q + r at most: with steps of 3/8 the
    error is exp(-16/3 pi²) times a power of these, below rounding.
    """
    if not (x >= 0.0 and y >= 0.0 and z >= 0.0) or x + y + z == math.inf:
        return math.nan
    if (p if x == 0.0 else 0.0) + (q if y == 0.0 else 0.0) + (r if z == 0.0 else 0.0) >= 1.0:
        return math.inf
    most = max(x, y, z)
    total, scale = 0.0, vectormath.pow(most, 1.0 - p - q - r)
    x, y, z = x / most, y / most, z / most
    for direction in (-0.375, 0.375):
        s = 0.0 if direction < 0.0 else 0.375
        while abs(s) < 700.0:
            t = vectormath.exp(s)
            term = t * vectormath.pow(t + x, -p) * vectormath.pow(t + y, -q) * vectormath.pow(t + z, -r)
            total += term
            if term <= 1e-18 * total and (t > 1.0 or t < 1e-3 * min(x, y, z) or t < 1e-40):
                break
            s += direction
    return 0.375 * total * scale


@elementwise(
    partials=(
        lambda a, b, c: _rd_by_first_twice(a, b, c),
        lambda a, b, c: _rd_by_first_and_second(a, b, c),
        lambda a, b, c: _rd_by_first_and_last(a, b, c),
    ),
    result=FLOATING,
)
def _slope_of_rd(a, b, c):
    """The slope of R_D(x, y, z) by x (19.16.5, differentiated)."""
    return -0.75 * integral(1.5, a, 0.5, b, 1.5, c)


@elementwise(
    partials=(
        lambda a, b, c: _rd_by_first_and_last(a, b, c),
        lambda a, b, c: _rd_by_first_and_last(b, a, c),
        lambda a, b, c: _rd_by_last_twice(a, b, c),
    ),
    result=FLOATING,
)
def _last_slope_of_rd(a, b, c):
    """The slope of R_D(x, y, z) by z."""
    return -2.25 * integral(0.5, a, 0.5, b, 2.5, c)


@elementwise(partials=(_unknown,) * 3, result=FLOATING)
def _rd_by_first_twice(a, b, c):
    """The second derivative of R_D(x, y, z) by x and x."""
    return 1.125 * integral(2.5, a, 0.5, b, 1.5, c)


@elementwise(partials=(_unknown,) * 3, result=FLOATING)
def _rd_by_first_and_second(a, b, c):
    """That by x and y."""
    return 0.375 * integral(1.5, a, 1.5, b, 1.5, c)


@elementwise(partials=(_unknown,) * 3, result=FLOATING)
def _rd_by_first_and_last(a, b, c):
    """That by x and z."""
    return 1.125 * integral(1.5, a, 0.5, b, 2.5, c)


@elementwise(partials=(_unknown,) * 3, result=FLOATING)
def _rd_by_last_twice(a, b, c):
    """That by z and z."""
    return 5.625 * integral(0.5, a, 0.5, b, 3.5, c)


@elementwise(
    partials=(
        lambda a, b, y: 2.0 / (3.0 * math.pi) * abs(a) * y * y * _elliprd(0.0, b * b, a * a),
        lambda a, b, y: 2.0 / (3.0 * math.pi) * abs(b) * y * y * _elliprd(0.0, a * a, b * b),
    ),  # 19.8.1, 19.25.1, 19.18.1
    scipy="agm",
    result=FLOATING,
)
def _agm(a, b):
    """The arithmetic-geometric mean of two numbers, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.agm(1.0, tg.tensor([2.0, 4.0]))
    tensor([1.4568, 2.2430])
    """
    return _scipy_agm(a, b)
