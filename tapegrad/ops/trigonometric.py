"""Circular functions and their inverses."""

import math

import numpy as np

from tapegrad import vectormath
from tapegrad.ops import domains
from tapegrad.ops.declare import FLOATING, elementwise
from tapegrad.ops.exponential import _less_square, rsqrt
from tapegrad.ops.logic import where

_DEGREE, _PI2 = math.pi / 180.0, math.pi**2
# sinc'(x) / x in x²
_SINC_SLOPE = tuple((-1.0) ** k * 2 * k * math.pi ** (2 * k) / math.factorial(2 * k + 1) for k in range(14, 0, -1))


@elementwise(
    partials=lambda: _DEGREE,
    reference=np.deg2rad,
    exact=lambda mp, x: mp.radians(x),
    domain=(domains.reals,),
    result=FLOATING,
)
def deg2rad(x):
    """`x` degrees in radians, elementwise.

    >>> import tapegrad as tg
    >>> tg.deg2rad(tg.tensor([90.0, 180.0]))
    tensor([1.5708, 3.1416])
    """
    return x * _DEGREE


@elementwise(
    partials=lambda: 1.0 / _DEGREE,
    reference=np.rad2deg,
    exact=lambda mp, x: mp.degrees(x),
    domain=(domains.reals,),
    result=FLOATING,
)
def rad2deg(x):
    """`x` radians in degrees, elementwise.

    >>> import tapegrad as tg
    >>> tg.rad2deg(tg.tensor([1.0, 3.0]))
    tensor([ 57.2958, 171.8873])
    """
    return x * (180.0 / math.pi)


@elementwise(
    partials=lambda: 0.0,
    exact=lambda mp, x: mp.pi if x < 0 else mp.mpf(0),
    domain=(domains.kinked,),
    result=FLOATING,
    in_place=False,
)
def angle(x):
    """The angle of a number on the real line: pi where it is negative, else 0, elementwise.

    >>> import tapegrad as tg
    >>> tg.angle(tg.tensor([-1.0, 2.0]))
    tensor([3.1416, 0.0000])
    """
    return x if x != x else math.pi if x < 0 else 0.0


@elementwise(partials=lambda x: cos(x), reference=np.sin, domain=(domains.reals,), result=FLOATING)
def sin(x):
    """Sine, elementwise; `x` in radians.

    >>> import tapegrad as tg
    >>> tg.sin(tg.tensor([0.5, 1.0]))
    tensor([0.4794, 0.8415])
    """
    return vectormath.sin(x)


@elementwise(partials=lambda x: -sin(x), reference=np.cos, domain=(domains.reals,), result=FLOATING)
def cos(x):
    """Cosine, elementwise; `x` in radians.

    >>> import tapegrad as tg
    >>> tg.cos(tg.tensor([0.5, 1.0]))
    tensor([0.8776, 0.5403])
    """
    return vectormath.cos(x)


@elementwise(partials=lambda y: 1.0 + y * y, reference=np.tan, domain=(domains.branch,), result=FLOATING)
def tan(x):
    """Tangent, elementwise; `x` in radians.

    >>> import tapegrad as tg
    >>> tg.tan(tg.tensor([0.5, 1.0]))
    tensor([0.5463, 1.5574])
    """
    return vectormath.tan(x)


@elementwise(
    partials=lambda x: rsqrt(_less_square(1.0, x)),
    reference=np.arcsin,
    domain=(domains.unit,),
    result=FLOATING,
    aliases=("arcsin",),
)
def asin(x):
    """Inverse sine, in radians, elementwise.

    >>> import tapegrad as tg
    >>> tg.asin(tg.tensor([-0.5, 0.5]))
    tensor([-0.5236,  0.5236])
    """
    return vectormath.asin(x)


@elementwise(
    partials=lambda x: -rsqrt(_less_square(1.0, x)),
    reference=np.arccos,
    domain=(domains.unit,),
    result=FLOATING,
    aliases=("arccos",),
)
def acos(x):
    """Inverse cosine, in radians, elementwise.

    >>> import tapegrad as tg
    >>> tg.acos(tg.tensor([-0.5, 0.5]))
    tensor([2.0944, 1.0472])
    """
    return vectormath.acos(x)


@elementwise(
    partials=lambda x: 1.0 / (1.0 + x * x),
    reference=np.arctan,
    domain=(domains.reals,),
    result=FLOATING,
    aliases=("arctan",),
)
def atan(x):
    """Inverse tangent, in radians, elementwise.

    >>> import tapegrad as tg
    >>> tg.atan(tg.tensor([-0.5, 0.5]))
    tensor([-0.4636,  0.4636])
    """
    return vectormath.atan(x)


@elementwise(
    partials=(
        lambda a, b: _over_square(a, b),
        lambda a, b: -_over_square(b, a),
    ),
    reference=np.arctan2,
    domain=(domains.nonzero, domains.nonzero),
    result=FLOATING,
    aliases=("arctan2",),
)
def atan2(a, b):
    """The angle of the point (`b`, `a`), in radians, elementwise.

    >>> import tapegrad as tg
    >>> tg.atan2(tg.tensor([1.0, -1.0]), tg.tensor([-1.0, -1.0]))
    tensor([ 2.3562, -2.3562])
    """
    return vectormath.atan2(a, b)


@elementwise(
    partials=(
        lambda a, b, y: -2.0 * y * _over_square(b, a),
        lambda a, b, y: (_over_square(b, a) - y) * (_over_square(b, a) + y),
    ),
    result=FLOATING,
)
def _over_square(a, b):
    """b / (a² + b²), elementwise, without overflow; 0 at (0, 0)."""
    big, small = (a, b) if abs(a) > abs(b) else (b, a)
    ratio = small / big
    top = ratio if abs(a) > abs(b) else 1.0
    return 0.0 if abs(a) + abs(b) == 0.0 else top / (big + small * ratio)


@elementwise(
    partials=lambda x: _sinc_slope(x),
    exact=lambda mp, x: mp.nan if mp.isinf(x) else mp.sincpi(x),
    domain=(domains.reals,),
    result=FLOATING,
)
def sinc(x):
    """sin(pi x) / (pi x), and 1 at 0, elementwise.

    >>> import tapegrad as tg
    >>> tg.sinc(tg.tensor([0.0, 0.5]))
    tensor([1.0000, 0.6366])
    """
    return vectormath.sinc(x)


@elementwise(
    partials=lambda x, y: where(x == 0.0, -_PI2 / 3.0, -_PI2 * sinc(x) - 2.0 * y / x), grad_name="SincBackward0"
)
def _sinc_slope(x):
    """The derivative of `sinc`: (cos(pi x) - sinc(x)) / x, by its series where these cancel."""
    if abs(x) < 0.5:
        total = 0.0 * x
        for factor in _SINC_SLOPE:
            total = total * (x * x) + factor
        return x * total
    return (vectormath.cos((x - 2.0 * np.floor(0.5 * x + 0.5)) * math.pi) - vectormath.sinc(x)) / x
