"""Elliptic integrals, of the parameter m = k^2; formulas are cited by the numbers of the DLMF.

Values are SciPy's (`foreign.py`); slopes are Carlson's R_D, and theirs integrals of its kind, in which nothing cancels.
"""

import math

import numpy as np

from tapegrad import vectormath
from tapegrad.foreign import Foreign
from tapegrad.ops import domains
from tapegrad.ops.arithmetic import square
from tapegrad.ops.carlson import integral
from tapegrad.ops.declare import FLOATING, elementwise
from tapegrad.ops.exponential import pow_, sqrt
from tapegrad.ops.special import _unknown
from tapegrad.ops.trigonometric import sin

_scipy_ellipk, _scipy_ellipkm1, _scipy_ellipe = (Foreign(name) for name in ("ellipk", "ellipkm1", "ellipe"))
_scipy_ellipkinc, _scipy_ellipeinc = Foreign("ellipkinc", 2), Foreign("ellipeinc", 2)
_scipy_elliprd, _scipy_hyp2f1 = Foreign("elliprd", 3), Foreign("hyp2f1", 4)


@elementwise(
    partials=(_unknown, _unknown, lambda a, b, c: a * b / (b + 0.5) * _gauss(a + 1.0, b + 1.0, c)),  # 15.5.1
    result=FLOATING,
)
def _gauss(a, b, c):
    """Gauss' function 2F1(a, b; b + 1/2; c), of which slopes of elliptic integrals are made, for c of at most 1."""
    return _scipy_hyp2f1(a, b, b + 0.5, c) if c <= 1.0 else math.nan


@elementwise(partials=lambda a: 9.0 * math.pi / 64.0 * _gauss(2.5, 2.5, a), result=FLOATING)
def _slope_of_k(a):
    """R_D(0, 1, 1 - m) / 6, the slope of K."""
    return _scipy_elliprd(0.0, 1.0, 1.0 - a) / 6.0 if a <= 1.0 else math.nan


@elementwise(partials=lambda a: 9.0 * math.pi / 64.0 * _gauss(2.5, 2.5, 1.0 - a), result=FLOATING)
def _slope_by_complement(a):
    """-R_D(0, 1, 1 - m) / 6, the slope of K by 1 - m."""
    return -_scipy_elliprd(0.0, 1.0, a) / 6.0 if a >= 0.0 else math.nan


@elementwise(partials=lambda a: -3.0 * math.pi / 64.0 * _gauss(1.5, 2.5, a), result=FLOATING)
def _slope_of_e(a):
    """-R_D(0, 1 - m, 1) / 6, the slope of E."""
    return -_scipy_elliprd(0.0, 1.0 - a, 1.0) / 6.0 if a <= 1.0 else math.nan


@elementwise(
    partials=lambda x: _slope_of_k(x),  # 19.18.1, 19.25.1
    exact=lambda mp, x: mp.ellipk(x),
    scipy="ellipk",
    domain=(domains.Domain(-3.0, 0.9, edges=(0.0, 1.0, math.nan)),),
    result=FLOATING,
    ulps=16.0,
)
def _ellipk(x):
    """The complete elliptic integral of the first kind, K(m), elementwise.

    >>> import tapegrad as tg
    >>> tg.special.ellipk(tg.tensor([0.0, 0.5]))
    tensor([1.5708, 1.8541])
    """
    return _scipy_ellipk(x)


@elementwise(
    partials=lambda x: _slope_by_complement(x),
    exact=lambda mp, x: mp.ellipk(1 - x),
    scipy="ellipkm1",
    domain=(domains.Domain(0.1, 3.0, edges=(1.0, math.nan)),),
    result=FLOATING,
    ulps=16.0,
)
def _ellipkm1(x):
    """The complete elliptic integral of the first kind at m = 1 - x, exact where x is small, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.ellipkm1(tg.tensor([1e-10, 0.5]))
    tensor([12.8992,  1.8541])
    """
    return _scipy_ellipkm1(x)


@elementwise(
    partials=lambda x: _slope_of_e(x),  # 19.18.1, 19.25.1
    exact=lambda mp, x: mp.ellipe(x),
    scipy="ellipe",
    domain=(domains.Domain(-3.0, 0.9, edges=(0.0, 1.0, math.nan)),),
    result=FLOATING,
    ulps=16.0,
)
def _ellipe(x):
    """The complete elliptic integral of the second kind, E(m), elementwise.

    >>> import tapegrad as tg
    >>> tg.special.ellipe(tg.tensor([0.0, 0.5]))
    tensor([1.5708, 1.3506])
    """
    return _scipy_ellipe(x)


def _from_nearest_turn(a):
    """Sine and cosine of what is left of an angle beside the nearest multiple of pi, and this, in pi."""
    turns = np.floor(a / math.pi + 0.5)
    rest = a - turns * math.pi
    return vectormath.sin(rest), vectormath.cos(rest), turns


@elementwise(
    partials=(
        lambda a, b: sin(a) * sin(a) / (2.0 * (1.0 - b * sin(a) * sin(a)) * sqrt(1.0 - b * sin(a) * sin(a))),
        lambda a, b: _curvature_of_f(a, b),
    ),
    result=FLOATING,
)
def _slope_of_f(a, b):
    """The slope of F by the parameter: s^3 R_D(c^2, 1, 1 - m s^2) / 6 from the nearest multiple of pi, and K's."""
    s, c, turns = _from_nearest_turn(a)
    slope = s * s * s * _scipy_elliprd(c * c, 1.0, 1.0 - b * s * s) / 6.0 if s != 0.0 else 0.0
    return slope + turns / 3.0 * _scipy_elliprd(0.0, 1.0, 1.0 - b) if turns != 0.0 else slope


@elementwise(
    partials=(
        lambda a, b: -sin(a) * sin(a) / (2.0 * sqrt(1.0 - b * sin(a) * sin(a))),
        lambda a, b: _curvature_of_incomplete_e(a, b),
    ),
    result=FLOATING,
)
def _slope_of_incomplete_e(a, b):
    """The slope of E(phi, m) by the parameter: -s^3 R_D(c^2, 1 - m s^2, 1) / 6, and that of E."""
    s, c, turns = _from_nearest_turn(a)
    slope = -s * s * s * _scipy_elliprd(c * c, 1.0 - b * s * s, 1.0) / 6.0 if s != 0.0 else 0.0
    return slope - turns / 3.0 * _scipy_elliprd(0.0, 1.0 - b, 1.0) if turns != 0.0 else slope


@elementwise(
    partials=(
        lambda a, b: 0.75 * square(square(sin(a))) * pow_(1.0 - b * square(sin(a)), -2.5),
        lambda a, b: _unknown(b),
    ),
    result=FLOATING,
)
def _curvature_of_f(a, b):
    """The second derivative of F by the parameter; the third is not known."""
    s, c, turns = _from_nearest_turn(a)
    found = 0.375 * s * s * s * s * s * integral(0.5, c * c, 0.5, 1.0, 2.5, 1.0 - b * s * s) if s != 0.0 else 0.0
    return found + 0.75 * turns * integral(0.5, 0.0, 0.5, 1.0, 2.5, 1.0 - b) if turns != 0.0 else found


@elementwise(
    partials=(
        lambda a, b: -0.25 * square(square(sin(a))) * pow_(1.0 - b * square(sin(a)), -1.5),
        lambda a, b: _unknown(b),
    ),
    result=FLOATING,
)
def _curvature_of_incomplete_e(a, b):
    """The second derivative of E(phi, m) by the parameter; the third is not known."""
    s, c, turns = _from_nearest_turn(a)
    found = -0.125 * s * s * s * s * s * integral(0.5, c * c, 1.5, 1.0 - b * s * s, 1.5, 1.0) if s != 0.0 else 0.0
    return found - 0.25 * turns * integral(0.5, 0.0, 1.5, 1.0 - b, 1.5, 1.0) if turns != 0.0 else found


@elementwise(
    partials=(lambda a, b: 1.0 / sqrt(1.0 - b * sin(a) * sin(a)), lambda a, b: _slope_of_f(a, b)),
    scipy="ellipkinc",
    result=FLOATING,
)
def _ellipkinc(a, b):
    """The elliptic integral of the first kind, F(phi, m), elementwise.

    >>> import tapegrad as tg
    >>> tg.special.ellipkinc(1.0, tg.tensor([0.0, 0.5]))
    tensor([1.0000, 1.0832])
    """
    return _scipy_ellipkinc(a, b)


@elementwise(
    partials=(lambda a, b: sqrt(1.0 - b * sin(a) * sin(a)), lambda a, b: _slope_of_incomplete_e(a, b)),
    scipy="ellipeinc",
    result=FLOATING,
)
def _ellipeinc(a, b):
    """The elliptic integral of the second kind, E(phi, m), elementwise.

    >>> import tapegrad as tg
    >>> tg.special.ellipeinc(1.0, tg.tensor([0.0, 0.5]))
    tensor([1.0000, 0.9273])
    """
    return _scipy_ellipeinc(a, b)
