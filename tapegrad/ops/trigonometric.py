"""Circular functions and their inverses."""

import numpy as np

from tapegrad import vectormath
from tapegrad.ops import domains
from tapegrad.ops.declare import FLOATING, NOWHERE, elementwise
from tapegrad.ops.exponential import rsqrt
from tapegrad.ops.logic import where


@elementwise(partials=lambda x: cos(x), reference=np.sin, domain=(domains.reals,), result=FLOATING)
def sin(x):
    """Sine, elementwise; `x` in radians."""
    return vectormath.sin(x)


@elementwise(partials=lambda x: -sin(x), reference=np.cos, domain=(domains.reals,), result=FLOATING)
def cos(x):
    """Cosine, elementwise; `x` in radians."""
    return vectormath.cos(x)


@elementwise(partials=lambda y: 1.0 + y * y, reference=np.tan, domain=(domains.branch,), result=FLOATING)
def tan(x):
    """Tangent, elementwise; `x` in radians."""
    return vectormath.tan(x)


@elementwise(
    partials=lambda x: rsqrt((1.0 - x) * (1.0 + x)),
    reference=np.arcsin,
    domain=(domains.unit,),
    result=FLOATING,
    aliases=("arcsin",),
)
def asin(x):
    """Inverse sine, in radians, elementwise."""
    return vectormath.asin(x)


@elementwise(
    partials=lambda x: -rsqrt((1.0 - x) * (1.0 + x)),
    reference=np.arccos,
    domain=(domains.unit,),
    result=FLOATING,
    aliases=("arccos",),
)
def acos(x):
    """Inverse cosine, in radians, elementwise."""
    return vectormath.acos(x)


@elementwise(
    partials=lambda x: 1.0 / (1.0 + x * x),
    reference=np.arctan,
    domain=(domains.reals,),
    result=FLOATING,
    aliases=("arctan",),
)
def atan(x):
    """Inverse tangent, in radians, elementwise."""
    return vectormath.atan(x)


@elementwise(
    partials=(
        lambda a, b: where(a * a + b * b == 0.0, 0.0, b / (a * a + b * b)),
        lambda a, b: where(a * a + b * b == 0.0, 0.0, -a / (a * a + b * b)),
    ),
    numbers=NOWHERE,
    reference=np.arctan2,
    domain=(domains.nonzero, domains.nonzero),
    result=FLOATING,
    aliases=("arctan2",),
)
def atan2(a, b):
    """The angle of the point (`b`, `a`), in radians, elementwise."""
    return vectormath.atan2(a, b)
