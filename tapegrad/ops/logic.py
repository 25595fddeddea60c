"""Comparisons, logic, and selection."""

import math

import numpy as np

from tapegrad.ops import domains
from tapegrad.ops.declare import BOOLEAN, elementwise


@elementwise(reference=np.equal, result=BOOLEAN)
def eq(a, b):
    """`a == b`, elementwise; a bool tensor.

    >>> import tapegrad as tg
    >>> tg.eq(tg.tensor([1.0, 2.0, 3.0]), 2.0)
    tensor([False,  True, False])
    """
    return a == b


@elementwise(reference=np.not_equal, result=BOOLEAN, aliases=("not_equal",))
def ne(a, b):
    """`a != b`, elementwise; a bool tensor.

    >>> import tapegrad as tg
    >>> tg.ne(tg.tensor([1.0, 2.0, 3.0]), 2.0)
    tensor([ True, False,  True])
    """
    return a != b


@elementwise(reference=np.less, result=BOOLEAN, aliases=("less",))
def lt(a, b):
    """`a < b`, elementwise; a bool tensor.

    >>> import tapegrad as tg
    >>> tg.lt(tg.tensor([1.0, 2.0, 3.0]), 2.0)
    tensor([ True, False, False])
    """
    return a < b


@elementwise(reference=np.less_equal, result=BOOLEAN, aliases=("less_equal",))
def le(a, b):
    """`a <= b`, elementwise; a bool tensor.

    >>> import tapegrad as tg
    >>> tg.le(tg.tensor([1.0, 2.0, 3.0]), 2.0)
    tensor([ True,  True, False])
    """
    return a <= b


@elementwise(reference=np.greater, result=BOOLEAN, aliases=("greater",))
def gt(a, b):
    """`a > b`, elementwise; a bool tensor.

    >>> import tapegrad as tg
    >>> tg.gt(tg.tensor([1.0, 2.0, 3.0]), 2.0)
    tensor([False, False,  True])
    """
    return a > b


@elementwise(reference=np.greater_equal, result=BOOLEAN, aliases=("greater_equal",))
def ge(a, b):
    """`a >= b`, elementwise; a bool tensor.

    >>> import tapegrad as tg
    >>> tg.ge(tg.tensor([1.0, 2.0, 3.0]), 2.0)
    tensor([False,  True,  True])
    """
    return a >= b


@elementwise(reference=np.isnan, result=BOOLEAN, in_place=False)
def isnan(x):
    """True where `x` is nan.

    >>> import tapegrad as tg
    >>> tg.isnan(tg.tensor([1.0, tg.nan, tg.inf]))
    tensor([False,  True, False])
    """
    return x != x


@elementwise(reference=np.isinf, result=BOOLEAN, in_place=False)
def isinf(x):
    """True where `x` is inf or -inf.

    >>> import tapegrad as tg
    >>> tg.isinf(tg.tensor([1.0, tg.inf, -tg.inf]))
    tensor([False,  True,  True])
    """
    return (x == x) and (x - x != x - x)


@elementwise(reference=np.isfinite, result=BOOLEAN, in_place=False)
def isfinite(x):
    """True where `x` is neither inf, -inf nor nan.

    >>> import tapegrad as tg
    >>> tg.isfinite(tg.tensor([1.0, tg.nan, tg.inf]))
    tensor([ True, False, False])
    """
    return x - x == x - x


@elementwise(reference=np.isposinf, result=BOOLEAN, in_place=False)
def isposinf(x):
    """True where `x` is inf.

    >>> import tapegrad as tg
    >>> tg.isposinf(tg.tensor([1.0, tg.inf, -tg.inf]))
    tensor([False,  True, False])
    """
    return (x > 0) and (x - x != 0)


@elementwise(reference=np.isneginf, result=BOOLEAN, in_place=False)
def isneginf(x):
    """True where `x` is -inf.

    >>> import tapegrad as tg
    >>> tg.isneginf(tg.tensor([1.0, tg.inf, -tg.inf]))
    tensor([False, False,  True])
    """
    return (x < 0) and (x - x != 0)


@elementwise(reference=np.signbit, result=BOOLEAN, in_place=False)
def signbit(x):
    """True where `x` has a minus sign, zeros and nans too.

    >>> import tapegrad as tg
    >>> tg.signbit(tg.tensor([1.0, -1.0, -0.0]))
    tensor([False,  True,  True])
    """
    return math.copysign(1.0, x) < 0.0


@elementwise(reference=np.logical_and, result=BOOLEAN)
def logical_and(a, b):
    """True where both are non-zero.

    >>> import tapegrad as tg
    >>> tg.logical_and(tg.tensor([True, True, False]), tg.tensor([True, False, False]))
    tensor([ True, False, False])
    """
    return (a != 0) and (b != 0)


@elementwise(reference=np.logical_or, result=BOOLEAN)
def logical_or(a, b):
    """True where either is non-zero.

    >>> import tapegrad as tg
    >>> tg.logical_or(tg.tensor([True, True, False]), tg.tensor([True, False, False]))
    tensor([ True,  True, False])
    """
    return (a != 0) or (b != 0)


@elementwise(reference=np.logical_xor, result=BOOLEAN)
def logical_xor(a, b):
    """True where exactly one is non-zero.

    >>> import tapegrad as tg
    >>> tg.logical_xor(tg.tensor([True, True, False]), tg.tensor([True, False, False]))
    tensor([False,  True, False])
    """
    return (a != 0) != (b != 0)


@elementwise(reference=np.logical_not, result=BOOLEAN)
def logical_not(x):
    """True where `x` is zero.

    >>> import tapegrad as tg
    >>> tg.logical_not(tg.tensor([0.0, 2.0]))
    tensor([ True, False])
    """
    return x == 0


@elementwise(reference=np.bitwise_and, refuses=("float32", "float64"))
def bitwise_and(a, b):
    """`a & b`: of the bits of integers, or of bools.

    >>> import tapegrad as tg
    >>> tg.bitwise_and(tg.tensor([12, 5]), 6)
    tensor([4, 4])
    """
    return a & b


@elementwise(reference=np.bitwise_or, refuses=("float32", "float64"))
def bitwise_or(a, b):
    """`a | b`: of the bits of integers, or of bools.

    >>> import tapegrad as tg
    >>> tg.bitwise_or(tg.tensor([12, 5]), 6)
    tensor([14,  7])
    """
    return a | b


@elementwise(reference=np.bitwise_xor, refuses=("float32", "float64"))
def bitwise_xor(a, b):
    """`a ^ b`: of the bits of integers, or of bools.

    >>> import tapegrad as tg
    >>> tg.bitwise_xor(tg.tensor([12, 5]), 6)
    tensor([10,  3])
    """
    return a ^ b


@elementwise(reference=np.invert, refuses=("bool", "float32", "float64"))
def bitwise_not(x):
    """`~x`: the bits of integers flipped."""
    return ~x


@elementwise(refuses=("bool", "float32", "float64"), reference=np.left_shift)
def bitwise_left_shift(a, b):
    """`a << b`: the bits of integers moved to the left; 0 where `b` is negative, or all bits are gone.

    >>> import tapegrad as tg
    >>> tg.bitwise_left_shift(tg.tensor([1, 3]), 2)
    tensor([ 4, 12])
    """
    return a << b if 0 <= b < 64 else 0


@elementwise(refuses=("bool", "float32", "float64"), reference=np.right_shift)
def bitwise_right_shift(a, b):
    """`a >> b`: the bits of integers moved to the right; the sign alone where `b` is negative, or all are gone.

    >>> import tapegrad as tg
    >>> tg.bitwise_right_shift(tg.tensor([12, -8]), 2)
    tensor([ 3, -2])
    """
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
