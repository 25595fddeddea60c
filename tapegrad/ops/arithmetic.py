"""Arithmetic, rounding, and conversion between dtypes."""

import math

import numpy as np

from tapegrad import vectormath
from tapegrad.dtypes import DTYPES, INTEGERS, DType
from tapegrad.ops import domains
from tapegrad.ops.declare import FLOATING, elementwise
from tapegrad.ops.logic import where
from tapegrad.tape import IMM_A


@elementwise(
    switched=True,
    partials=(lambda: 1.0, lambda: 1.0),
    reference=np.add,
    exact=lambda mp, a, b: a + b,
    domain=(domains.reals, domains.reals),
)
def add(a, b):
    """`a + b`, elementwise."""
    return a + b


@elementwise(partials=(lambda b: b, lambda a: a), grad_name="MulBackward0")
def _times(a, b):
    """`a * b` as in the chain rule: zero where either is zero, whatever the other is."""
    return a if a == 0 else b if b == 0 else a * b


@elementwise(
    switched=True,
    partials=(lambda: 1.0, lambda: -1.0),
    reference=np.subtract,
    exact=lambda mp, a, b: a - b,
    domain=(domains.reals, domains.reals),
    refuses=("bool",),
    refuses_any_bool=True,
    variants={IMM_A: "RsubBackward1"},
    aliases=("subtract",),
)
def sub(a, b):
    """`a - b`, elementwise."""
    return a - b


@elementwise(
    switched=True,
    partials=(lambda b: b, lambda a: a),
    reference=np.multiply,
    exact=lambda mp, a, b: a * b,
    domain=(domains.reals, domains.reals),
    aliases=("multiply",),
)
def mul(a, b):
    """`a * b`, elementwise.

    >>> import tapegrad as tg
    >>> tg.mul(tg.tensor([1.0, 2.0]), tg.tensor([3.0, 4.0]))
    tensor([3., 8.])
    """
    return a * b


@elementwise(
    switched=True,
    partials=(lambda b: 1.0 / b, lambda b, y: -y / b),
    reference=np.true_divide,
    exact=lambda mp, a, b: a / b,
    domain=(domains.reals, domains.nonzero),
    result=FLOATING,
    variants={IMM_A: "MulBackward0"},
    aliases=("divide", "true_divide"),
)
def div(a, b):
    """`a / b`, elementwise; integers are converted to floating point."""
    return a / b


def _floored(a, b):
    """The quotient of integers, rounded towards minus infinity; that of the least by -1 wraps."""
    return -a if b == -1 else a // b


def _truncated(a, b):
    """The quotient of integers, rounded towards 0; that of the least by -1 wraps."""
    quotient = _floored(a, b)
    return quotient + (b != -1 and quotient < 0 and quotient * b != a)


@elementwise(
    partials=(lambda: 0.0, lambda: 0.0),
    reference=np.floor_divide,
    exact=lambda mp, a, b: mp.floor(a / b),
    domain=(domains.Domain(0.1, 0.9), domains.Domain(1.0, 3.0)),
    refuses=("bool",),
    divides=True,
    integer=_floored,
    grad_name="DivBackward1",
)
def floor_divide(a, b):
    """`a // b`: the quotient rounded towards minus infinity, elementwise; a step function, of derivatives 0.

    >>> import tapegrad as tg
    >>> tg.floor_divide(tg.tensor([-7.0, 7.0]), 3.0)
    tensor([-3.,  2.])
    """
    return a // b


@elementwise(
    partials=(lambda: 0.0, lambda: 0.0),
    refuses=("bool",),
    divides=True,
    integer=_truncated,
    grad_name="DivBackward1",
)
def _div_trunc(a, b):
    """The integer part of `a / b`, a step function: its derivatives are 0."""
    return np.trunc(a / b)


@elementwise(
    partials=(lambda: 1.0, lambda a, b: -floor_divide(a, b)),  # not floor(a / b), whose quotient may round up
    reference=np.remainder,
    exact=lambda mp, a, b: a % b,
    domain=(domains.Domain(0.1, 0.9), domains.nonzero),
    refuses=("bool",),
    divides=True,
)
def remainder(a, b):
    """`a % b`: the remainder of floor division, with the sign of `b` (of `a` where it is zero), elementwise.

    >>> import tapegrad as tg
    >>> tg.remainder(tg.tensor([-7.0, 7.0]), 3.0)
    tensor([2., 1.])
    """
    left = a % b
    return a * 0 if left == 0 else left


@elementwise(
    partials=(lambda: 1.0, lambda a, b: -trunc(a / b)),
    reference=np.fmod,
    exact=lambda mp, a, b: a - b * (mp.sign(a / b) * mp.floor(abs(a / b))),
    domain=(domains.Domain(0.1, 0.9), domains.nonzero),
    refuses=("bool",),
    divides=True,
    integer=lambda a, b: a * 0 if b == -1 else a - b * _truncated(a, b),
)
def fmod(a, b):
    """The remainder of the integer part of `a / b`, with the sign of `a`, elementwise.

    >>> import tapegrad as tg
    >>> tg.fmod(tg.tensor([-7.0, 7.0]), 3.0)
    tensor([-1.,  1.])
    """
    return math.copysign(abs(a) % abs(b), a)


@elementwise(
    switched=True,
    partials=lambda: -1.0,
    reference=np.negative,
    exact=lambda mp, x: -x,
    domain=(domains.reals,),
    refuses=("bool",),
    aliases=("negative",),
)
def neg(x):
    """`-x`, elementwise.

    >>> import tapegrad as tg
    >>> tg.neg(tg.tensor([-2.0, 3.0]))
    tensor([ 2., -3.])
    """
    return -x


@elementwise(
    partials=lambda x: where(x > 0.0, 1.0, where(x < 0.0, -1.0, 0.0)),
    reference=np.abs,
    exact=lambda mp, x: abs(x),
    domain=(domains.kinked,),
    refuses=("bool",),
    aliases=("absolute",),
)
def abs_(x):
    """Absolute value, elementwise; its derivative at 0 is 0.

    >>> import tapegrad as tg
    >>> tg.abs(tg.tensor([-2.0, 0.0, 3.0]))
    tensor([2., 0., 3.])
    """
    return abs(x)


@elementwise(partials=lambda: 0.0, reference=np.sign, domain=(domains.kinked,), aliases=("sgn",))
def sign(x):
    """-1, 0 or 1, elementwise; nan for nan.

    >>> import tapegrad as tg
    >>> tg.sign(tg.tensor([-2.0, 0.0, 3.0]))
    tensor([-1.,  0.,  1.])
    """
    return x if x != x else (x > 0) * 1 - (x < 0) * 1


@elementwise(
    partials=(lambda a, y: where(a == 0.0, 0.0, y / a), lambda: 0.0),
    reference=np.copysign,
    exact=lambda mp, a, b: abs(a) * mp.sign(b),
    domain=(domains.kinked, domains.kinked),
    result=FLOATING,
)
def copysign(a, b):
    """The size of `a` with the sign of `b`, elementwise; its derivative at `a` = 0 is 0.

    >>> import tapegrad as tg
    >>> tg.copysign(tg.tensor([1.0, -2.0]), tg.tensor(-3.0))
    tensor([-1., -2.])
    """
    return math.copysign(a, b)


@elementwise(
    switched=True,
    partials=lambda y: -y * y,
    reference=np.reciprocal,
    exact=lambda mp, x: 1 / x,
    domain=(domains.nonzero,),
    result=FLOATING,
)
def reciprocal(x):
    """`1 / x`, elementwise.

    >>> import tapegrad as tg
    >>> tg.reciprocal(tg.tensor([2.0, -4.0]))
    tensor([ 0.5000, -0.2500])
    """
    return 1.0 / x


@elementwise(partials=lambda x: 0.0 * _zeroth_power(x))
def _zeroth_power(x):
    """1: the derivative of `_first_power`, and itself differentiable as often as one likes."""
    return x * 0 + 1 if x - x == 0 else 1


@elementwise(partials=lambda x: _zeroth_power(x))
def _first_power(x):
    """`x`: so that derivatives of a square that have become constant still require grad, as those of a power do."""
    return x


@elementwise(
    switched=True,
    partials=lambda x: 2.0 * _first_power(x),
    reference=np.square,
    exact=lambda mp, x: x * x,
    domain=(domains.reals,),
    grad_name="PowBackward0",
)
def square(x):
    """`x * x`, elementwise."""
    return x * x


@elementwise(
    switched=True,
    partials=lambda x: 3.0 * square(x),
    reference=lambda x: x * x * x,
    exact=lambda mp, x: x * x * x,
    domain=(domains.reals,),
    grad_name="PowBackward0",
)
def _cube(x):
    """`x ** 3`, as PyTorch computes it: a power takes ten times as long."""
    return x * x * x


@elementwise(partials=lambda: 0.0, reference=np.floor, domain=(domains.steps,), refuses=("bool",), integer=lambda x: x)
def floor(x):
    """The largest integer not above `x`, elementwise.

    >>> import tapegrad as tg
    >>> tg.floor(tg.tensor([-1.5, 0.5, 2.7]))
    tensor([-2.,  0.,  2.])
    """
    return np.floor(x)


@elementwise(partials=lambda: 0.0, reference=np.ceil, domain=(domains.steps,), refuses=("bool",), integer=lambda x: x)
def ceil(x):
    """The smallest integer not below `x`, elementwise.

    >>> import tapegrad as tg
    >>> tg.ceil(tg.tensor([-1.5, 0.5, 2.7]))
    tensor([-1.,  1.,  3.])
    """
    return np.ceil(x)


@elementwise(
    partials=lambda: 0.0,
    reference=np.round,
    scipy="round",
    exact=lambda mp, x: mp.nint(x),
    domain=(domains.steps,),
    refuses=("bool",),
    integer=lambda x: x,
)
def round_(x):
    """The nearest integer, ties to even, elementwise."""
    return np.rint(x)


@elementwise(
    partials=lambda: 0.0,
    reference=np.trunc,
    exact=lambda mp, x: mp.sign(x) * mp.floor(abs(x)),
    domain=(domains.steps,),
    refuses=("bool",),
    integer=lambda x: x,
    aliases=("fix",),
)
def trunc(x):
    """The integer part, elementwise.

    >>> import tapegrad as tg
    >>> tg.trunc(tg.tensor([-1.5, 0.5, 2.7]))
    tensor([-1.,  0.,  2.])
    """
    return np.trunc(x)


@elementwise(
    partials=(
        lambda a, b: where(a == b, 0.5, where(a < b, 0.0, 1.0)),
        lambda a, b: where(a == b, 0.5, where(a > b, 0.0, 1.0)),
    ),
    reference=np.maximum,
    exact=lambda mp, a, b: max(a, b),
    domain=(domains.reals, domains.reals),
    in_place=False,
)
def maximum(a, b):
    """The larger, elementwise; nan where either is nan. Equal operands share the gradient.

    >>> import tapegrad as tg
    >>> tg.maximum(tg.tensor([1.0, tg.nan]), tg.tensor([2.0, 3.0]))
    tensor([2., nan])
    """
    return a if (a > b or a != a) else b


@elementwise(
    partials=(
        lambda a, b: where(a == b, 0.5, where(a > b, 0.0, 1.0)),
        lambda a, b: where(a == b, 0.5, where(a < b, 0.0, 1.0)),
    ),
    reference=np.minimum,
    exact=lambda mp, a, b: min(a, b),
    domain=(domains.reals, domains.reals),
    in_place=False,
)
def minimum(a, b):
    """The smaller, elementwise; nan where either is nan. Equal operands share the gradient.

    >>> import tapegrad as tg
    >>> tg.minimum(tg.tensor([1.0, tg.nan]), tg.tensor([2.0, 3.0]))
    tensor([1., nan])
    """
    return a if (a < b or a != a) else b


@elementwise(
    partials=(
        lambda a, b: where((a >= b) | (b != b), 1.0, 0.0),
        lambda a, b: where((a >= b) | (b != b), 0.0, 1.0),
    ),
    reference=np.fmax,
    exact=lambda mp, a, b: max(a, b),
    domain=(domains.reals, domains.reals),
    in_place=False,
)
def fmax(a, b):
    """The larger, elementwise; nan only where both are nan. Where they are equal, `a` has the gradient.

    >>> import tapegrad as tg
    >>> tg.fmax(tg.tensor([1.0, tg.nan]), tg.tensor([2.0, 3.0]))
    tensor([2., 3.])
    """
    return a if (a >= b or b != b) else b


@elementwise(
    partials=(
        lambda a, b: where((a <= b) | (b != b), 1.0, 0.0),
        lambda a, b: where((a <= b) | (b != b), 0.0, 1.0),
    ),
    reference=np.fmin,
    exact=lambda mp, a, b: min(a, b),
    domain=(domains.reals, domains.reals),
    in_place=False,
)
def fmin(a, b):
    """The smaller, elementwise; nan only where both are nan. Where they are equal, `a` has the gradient.

    >>> import tapegrad as tg
    >>> tg.fmin(tg.tensor([1.0, tg.nan]), tg.tensor([2.0, 3.0]))
    tensor([1., 3.])
    """
    return a if (a <= b or b != b) else b


@elementwise(
    partials=(
        lambda a, b: where(a == b, 0.5, where(b > a, 0.0, 1.0)),
        lambda a, b: where(a == b, 0.5, where(b > a, 1.0, 0.0)),
    ),
    exact=lambda mp, a, b: max(a, b),
    domain=(domains.reals, domains.reals),
)
def _builtin_max(a, b):
    """Python's `max(a, b)`: `a` unless `b` is larger, and so `a` where either is nan."""
    return b if b > a else a


@elementwise(
    partials=(
        lambda a, b: where(a == b, 0.5, where(b < a, 0.0, 1.0)),
        lambda a, b: where(a == b, 0.5, where(b < a, 1.0, 0.0)),
    ),
    exact=lambda mp, a, b: min(a, b),
    domain=(domains.reals, domains.reals),
)
def _builtin_min(a, b):
    """Python's `min(a, b)`: `a` unless `b` is smaller, and so `a` where either is nan."""
    return b if b < a else a


@elementwise(
    partials=(
        lambda a, b, c: where((a >= b) & (a <= c), 1.0, 0.0),
        lambda a, b, c: where((a < b) & (b < c), 1.0, 0.0),
        lambda a, b, c: where((a > c) | (b > c), 1.0, 0.0),
    ),
    exact=lambda mp, a, b, c: min(max(a, b), c),
    domain=(domains.reals, domains.Domain(-2.0, -0.5), domains.Domain(0.5, 2.0)),
    refuses=("bool",),
    grad_name="ClampBackward1",
    aliases=("clip",),
)
def clamp(a, b, c):
    """`a` limited to [`b`, `c`], elementwise; nan where any of them is nan."""
    low = b if (a < b or b != b) else a
    return c if (low > c or c != c) else low


@elementwise(
    partials=(lambda c: 1.0 - c, lambda c: c, lambda a, b: b - a),
    exact=lambda mp, a, b, c: a + c * (b - a),
    domain=(domains.Domain(0.1, 4.0, edges=()), domains.Domain(0.1, 4.0, edges=()), domains.Domain(0.0, 1.0, edges=())),
    refuses=("bool", *INTEGERS),
)
def _lerp(a, b, c):
    """`a + c (b - a)`, from the end that is nearer: exact at `c` = 0 and 1, elementwise."""
    return a + c * (b - a) if abs(c) < 0.5 else b - (b - a) * (1 - c)


@elementwise(
    partials=lambda: 1.0,
    exact=lambda mp, x: mp.nan if mp.isinf(x) else x - mp.sign(x) * mp.floor(abs(x)),
    domain=(domains.steps,),
    refuses=("bool", *INTEGERS),
)
def frac(x):
    """What is left of `x` without its integer part, with its sign, elementwise.

    >>> import tapegrad as tg
    >>> tg.frac(tg.tensor([-1.5, 0.5, 2.7]))
    tensor([-0.5000,  0.5000,  0.7000])
    """
    return x - np.trunc(x)


@elementwise(
    partials=(lambda a, b: where(a == b, 0.0, 1.0), lambda: 0.0),
    reference=np.nextafter,
    refuses=("bool", *INTEGERS),
    grad_name="NextafterBackward0",
)
def nextafter(a, b):
    """The next number of the dtype after `a` towards `b`, elementwise; derivatives are those of `a`, and 0 at `b`.

    >>> import tapegrad as tg
    >>> tg.nextafter(tg.tensor([1.0]), tg.tensor([2.0])) - 1.0
    tensor([2.2204e-16])
    """
    return vectormath.nextafter(a, b)


@elementwise(
    partials=lambda x, y: where((x == 0.0) | (x - x != 0.0), 1.0, y / x),
    exact=lambda mp, x: mp.frexp(x)[0] if mp.isfinite(x) else x,
    domain=(domains.nonzero,),
    grad_name="FrexpBackward0",
)
def _mantissa(x):
    """`x` over a power of 2, in [1/2, 1), with its sign, elementwise."""
    return vectormath.mantissa(x)


@elementwise(signature=lambda code: (code, 1))
def _exponent(x):
    """The exponent that belongs to the mantissa, int32, elementwise."""
    return 0 if x == 0 or x - x != 0 else vectormath.exponent(x)


def _gcd(a, b):
    a, b = abs(a), abs(b)
    while b != 0:
        a, b = b, a % b
    return a


@elementwise(reference=np.gcd, refuses=("bool", "float32", "float64"))
def gcd(a, b):
    """The greatest common divisor of integers, elementwise.

    >>> import tapegrad as tg
    >>> tg.gcd(tg.tensor([12, 18]), tg.tensor([8, 27]))
    tensor([4, 9])
    """
    return _gcd(a, b)


@elementwise(reference=np.lcm, refuses=("bool", "float32", "float64"))
def lcm(a, b):
    """The least common multiple of integers, elementwise; 0 where either is.

    >>> import tapegrad as tg
    >>> tg.lcm(tg.tensor([12, 18]), tg.tensor([8, 27]))
    tensor([24, 54])
    """
    divisor = _gcd(a, b)
    return abs(a // divisor * b) if divisor != 0 else divisor


@elementwise(partials=lambda: 1.0, exact=lambda mp, x: x, domain=(domains.reals,), in_place=False)
def clone(x):
    """A copy, through which gradients flow."""
    return x


@elementwise(partials=(lambda: 1.0, None), grad_name="CopyBackward0")
def _overwritten(a, b):
    """`b`, in place of an `a` written to while nothing was recorded: gradients flow on to `a` as if it were not."""
    return b


@elementwise(partials=(lambda: 0.0, lambda: 1.0), grad_name="CopyBackwards")
def _replaced(a, b):
    """`b`, in place of an `a` whose elements are all written to."""
    return b


def _same(x):
    return x


def _many_bits(x):
    """A float goes to few bits by way of many, the last of which are left."""
    return np.int64(x)


def _cast(dtype: DType):
    made = elementwise(
        partials=lambda: 1.0,
        signature=lambda source: (source, dtype.code),
        integer=_same,
        grad_name="ToCopyBackward0",
    )(_many_bits if dtype.category == 1 and dtype.itemsize < 4 else _same)
    made.name = f"to_{dtype.name}"
    made.docstring = f"`x` as {dtype.name}."
    return made


CASTS = [_cast(dtype) for dtype in DTYPES]
