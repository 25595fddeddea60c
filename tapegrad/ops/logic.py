"""Comparisons, logic, and selection."""

import math

import numpy as np

from tapegrad.ops import domains
from tapegrad.ops.declare import BOOLEAN, elementwise


@elementwise(reference=np.equal, result=BOOLEAN)
def eq(a, b):
    """`a == b`, elementwise; a bool tensor."""
    return a == b


@elementwise(reference=np.not_equal, result=BOOLEAN, aliases=("not_equal",))
def ne(a, b):
    """`a != b`, elementwise; a bool tensor."""
    return a != b


@elementwise(reference=np.less, result=BOOLEAN, aliases=("less",))
def lt(a, b):
    """`a < b`, elementwise; a bool tensor."""
    return a < b


@elementwise(reference=np.less_equal, result=BOOLEAN, aliases=("less_equal",))
def le(a, b):
    """`a <= b`, elementwise; a bool tensor."""
    return a <= b


@elementwise(reference=np.greater, result=BOOLEAN, aliases=("greater",))
def gt(a, b):
    """`a > b`, elementwise; a bool tensor."""
    return a > b


@elementwise(reference=np.greater_equal, result=BOOLEAN, aliases=("greater_equal",))
def ge(a, b):
    """`a >= b`, elementwise; a bool tensor."""
    return a >= b


@elementwise(reference=np.isnan, result=BOOLEAN, in_place=False)
def isnan(x):
    """True where `x` is nan."""
    return x != x


@elementwise(reference=np.isinf, result=BOOLEAN, in_place=False)
def isinf(x):
    """True where `x` is inf or -inf."""
    return (x == x) and (x - x != x - x)


@elementwise(reference=np.isfinite, result=BOOLEAN, in_place=False)
def isfinite(x):
    """True where `x` is neither inf, -inf nor nan."""
    return x - x == x - x


@elementwise(reference=np.isposinf, result=BOOLEAN, in_place=False)
def isposinf(x):
    """True where `x` is inf."""
    return (x > 0) and (x - x != 0)


@elementwise(reference=np.isneginf, result=BOOLEAN, in_place=False)
def isneginf(x):
    """True where `x` is -inf."""
    return (x < 0) and (x - x != 0)


@elementwise(reference=np.signbit, result=BOOLEAN, in_place=False)
def signbit(x):
    """True where `x` has a minus sign, zeros and nans too."""
    return math.copysign(1.0, x) < 0.0


@elementwise(reference=np.logical_and, result=BOOLEAN)
def logical_and(a, b):
    """True where both are non-zero."""
    return (a != 0) and (b != 0)


@elementwise(reference=np.logical_or, result=BOOLEAN)
def logical_or(a, b):
    """True where either is non-zero."""
    return (a != 0) or (b != 0)


@elementwise(reference=np.logical_xor, result=BOOLEAN)
def logical_xor(a, b):
    """True where exactly one is non-zero."""
    return (a != 0) != (b != 0)


@elementwise(reference=np.logical_not, result=BOOLEAN)
def logical_not(x):
    """True where `x` is zero."""
    return x == 0


@elementwise(reference=np.bitwise_and, refuses=("float32", "float64"))
def bitwise_and(a, b):
    """`a & b`: of the bits of integers, or of bools."""
    return a & b


@elementwise(reference=np.bitwise_or, refuses=("float32", "float64"))
def bitwise_or(a, b):
    """`a | b`: of the bits of integers, or of bools."""
    return a | b


@elementwise(reference=np.bitwise_xor, refuses=("float32", "float64"))
def bitwise_xor(a, b):
    """`a ^ b`: of the bits of integers, or of bools."""
    return a ^ b


@elementwise(reference=np.invert, refuses=("bool", "float32", "float64"))
def bitwise_not(x):
    """`~x`: the bits of integers flipped."""
    return ~x


@elementwise(refuses=("bool", "float32", "float64"), reference=np.left_shift)
def bitwise_left_shift(a, b):
    """`a << b`: the bits of integers moved to the left; 0 where `b` is negative, or all bits are gone."""
    return a << b if 0 <= b < 64 else 0


@elementwise(refuses=("bool", "float32", "float64"), reference=np.right_shift)
def bitwise_right_shift(a, b):
    """`a >> b`: the bits of integers moved to the right; the sign alone where `b` is negative, or all are gone."""
    return a >> (b if 0 <= b < 64 else 63)


@elementwise(
    partials=(lambda: 0.0, lambda a: where(a == 0.0, 1.0, 0.0)),
    reference=np.heaviside,
    exact=lambda mp, a, b: b if a == 0 else mp.mpf(a > 0),
    domain=(domains.kinked, domains.reals),
)
def heaviside(a, b):
    """0 where `a` is negative, 1 where it is positive, `b` where it is 0, elementwise; nan where `a` is."""
    return b if a == 0 else a if a != a else (a > 0) * 1


@elementwise(
    partials=(None, lambda a: where(a, 1.0, 0.0), lambda a: where(a, 0.0, 1.0)),
    signature=lambda code: (0, code, code, code),
    dtype_operand=1,
    exact=lambda mp, a, b, c: b if a else c,
    domain=(domains.reals, domains.reals, domains.reals),
    in_place=False,
)
def where(a, b, c):
    """`b` where `a` is True, else `c`, elementwise."""
    return b if a else c
