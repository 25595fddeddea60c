"""Exponentials, logarithms, powers, roots, and the hyperbolic functions."""

import math

import numpy as np

from tapegrad import vectormath
from tapegrad.ops import domains
from tapegrad.ops.declare import FLOATING, elementwise
from tapegrad.ops.logic import where
from tapegrad.tape import IMM_A, IMM_B

_LN2, _LN10 = np.log(2.0), np.log(10.0)
_NAN, _TINY = float("nan"), 5e-324


@elementwise(partials=lambda y: y, reference=np.exp, domain=(domains.reals,), result=FLOATING)
def exp(x):
    """e to the power of `x`, elementwise.

    >>> import tapegrad as tg
    >>> tg.exp(tg.tensor([0.0, 1.0]))
    tensor([1.0000, 2.7183])
    """
    return vectormath.exp(x)


@elementwise(partials=lambda y: y + 1.0, reference=np.expm1, scipy="expm1", domain=(domains.reals,), result=FLOATING)
def expm1(x):
    """exp(x) - 1, exact also where `x` is small, elementwise.

    >>> import tapegrad as tg
    >>> tg.expm1(tg.tensor([0.0, 1.0]))
    tensor([0.0000, 1.7183])
    """
    return vectormath.expm1(x)


@elementwise(
    partials=lambda y: y * _LN2,
    reference=np.exp2,
    exact=lambda mp, x: mp.mpf(2) ** x,
    scipy="exp2",
    domain=(domains.reals,),
    result=FLOATING,
)
def exp2(x):
    """2 to the power of `x`, elementwise.

    >>> import tapegrad as tg
    >>> tg.exp2(tg.tensor([0.0, 3.0]))
    tensor([1., 8.])
    """
    return vectormath.exp2(x)


@elementwise(partials=lambda x: 1.0 / x, reference=np.log, domain=(domains.positive,), result=FLOATING)
def log(x):
    """Natural logarithm, elementwise.

    >>> import tapegrad as tg
    >>> tg.log(tg.tensor([1.0, 10.0]))
    tensor([0.0000, 2.3026])
    """
    return vectormath.log(x)


@elementwise(
    partials=lambda x: 1.0 / (1.0 + x),
    reference=np.log1p,
    scipy="log1p",
    domain=(domains.above_minus_one,),
    result=FLOATING,
)
def log1p(x):
    """log(1 + x), exact also where `x` is small, elementwise.

    >>> import tapegrad as tg
    >>> tg.log1p(tg.tensor([0.0, 1.0]))
    tensor([0.0000, 0.6931])
    """
    return vectormath.log1p(x)


@elementwise(
    partials=lambda x: 1.0 / (x * _LN2),
    reference=np.log2,
    exact=lambda mp, x: mp.log(x, 2),
    domain=(domains.positive,),
    result=FLOATING,
)
def log2(x):
    """Logarithm to base 2, elementwise.

    >>> import tapegrad as tg
    >>> tg.log2(tg.tensor([1.0, 8.0]))
    tensor([0., 3.])
    """
    return vectormath.log2(x)


@elementwise(partials=lambda x: 1.0 / (x * _LN10), reference=np.log10, domain=(domains.positive,), result=FLOATING)
def log10(x):
    """Logarithm to base 10, elementwise.

    >>> import tapegrad as tg
    >>> tg.log10(tg.tensor([1.0, 1000.0]))
    tensor([0., 3.])
    """
    return vectormath.log10(x)


@elementwise(partials=lambda y: 0.5 / y, reference=np.sqrt, domain=(domains.positive,), result=FLOATING)
def sqrt(x):
    """Square root, elementwise.

    >>> import tapegrad as tg
    >>> tg.sqrt(tg.tensor([4.0, 9.0]))
    tensor([2., 3.])
    """
    return vectormath.sqrt(x)


@elementwise(
    partials=lambda y: -0.5 * y * y * y, exact=lambda mp, x: 1 / mp.sqrt(x), domain=(domains.positive,), result=FLOATING
)
def rsqrt(x):
    """1 / sqrt(x), elementwise.

    >>> import tapegrad as tg
    >>> tg.rsqrt(tg.tensor([4.0, 9.0]))
    tensor([0.5000, 0.3333])
    """
    return vectormath.rsqrt(x)


@elementwise(
    partials=lambda y: 1.0 / y / y / 3.0,
    reference=np.cbrt,
    exact=lambda mp, x: mp.cbrt(x),
    scipy="cbrt",
    domain=(domains.positive,),
    result=FLOATING,
)
def _cbrt(x):
    """The cube root, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.cbrt(tg.tensor([8.0, -27.0]))
    tensor([ 2., -3.])
    """
    return vectormath.cbrt(x)


@elementwise(
    partials=(
        lambda a, y: where(y == 0.0, 0.0, a / y),
        lambda b, y: where(y == 0.0, 0.0, b / y),
    ),
    reference=np.hypot,
    domain=(domains.reals, domains.reals),
    result=FLOATING,
)
def hypot(a, b):
    """sqrt(a² + b²) without overflow, elementwise; its derivatives at (0, 0) are 0.

    >>> import tapegrad as tg
    >>> tg.hypot(tg.tensor([3.0]), tg.tensor([4.0]))
    tensor([5.])
    """
    return vectormath.hypot(a, b)


@elementwise(partials=lambda x: cosh(x), reference=np.sinh, domain=(domains.reals,), result=FLOATING)
def sinh(x):
    """Hyperbolic sine, elementwise.

    >>> import tapegrad as tg
    >>> tg.sinh(tg.tensor([-0.5, 0.5]))
    tensor([-0.5211,  0.5211])
    """
    return vectormath.sinh(x)


@elementwise(partials=lambda x: sinh(x), reference=np.cosh, domain=(domains.reals,), result=FLOATING)
def cosh(x):
    """Hyperbolic cosine, elementwise.

    >>> import tapegrad as tg
    >>> tg.cosh(tg.tensor([-0.5, 0.5]))
    tensor([1.1276, 1.1276])
    """
    return vectormath.cosh(x)


@elementwise(partials=lambda y: 1.0 - y * y, reference=np.tanh, domain=(domains.reals,), result=FLOATING)
def tanh(x):
    """Hyperbolic tangent, elementwise.

    >>> import tapegrad as tg
    >>> tg.tanh(tg.tensor([-0.5, 0.5]))
    tensor([-0.4621,  0.4621])
    """
    return vectormath.tanh(x)


@elementwise(
    partials=lambda x: rsqrt(x * x + 1.0),
    reference=np.arcsinh,
    domain=(domains.reals,),
    result=FLOATING,
    aliases=("arcsinh",),
)
def asinh(x):
    """Inverse hyperbolic sine, elementwise.

    >>> import tapegrad as tg
    >>> tg.asinh(tg.tensor([-0.5, 0.5]))
    tensor([-0.4812,  0.4812])
    """
    return vectormath.asinh(x)


@elementwise(
    partials=lambda x: rsqrt((x - 1.0) * (x + 1.0)),
    reference=np.arccosh,
    domain=(domains.above_one,),
    result=FLOATING,
    aliases=("arccosh",),
)
def acosh(x):
    """Inverse hyperbolic cosine, elementwise.

    >>> import tapegrad as tg
    >>> tg.acosh(tg.tensor([1.0, 2.0]))
    tensor([0.0000, 1.3170])
    """
    return vectormath.acosh(x)


@elementwise(partials=(lambda a: 2.0 * a, lambda b: -2.0 * b))
def _less_square(a, b):
    """a² - b², elementwise, without loss where they are near; nor is any in its derivatives."""
    return (a - b) * (a + b)


@elementwise(
    partials=lambda x: 1.0 / _less_square(1.0, x),
    reference=np.arctanh,
    domain=(domains.unit,),
    result=FLOATING,
    aliases=("arctanh",),
)
def atanh(x):
    """Inverse hyperbolic tangent, elementwise.

    >>> import tapegrad as tg
    >>> tg.atanh(tg.tensor([-0.5, 0.5]))
    tensor([-0.5493,  0.5493])
    """
    return vectormath.atanh(x)


@elementwise(
    partials=lambda y: y * (1.0 - y),
    exact=lambda mp, x: 1 / (1 + mp.exp(-x)),
    scipy="expit",
    domain=(domains.reals,),
    result=FLOATING,
)
def sigmoid(x):
    """1 / (1 + exp(-x)), elementwise.

    >>> import tapegrad as tg
    >>> tg.sigmoid(tg.tensor([-0.5, 0.5]))
    tensor([0.3775, 0.6225])
    """
    return vectormath.sigmoid(x)


@elementwise(partials=(lambda a, b: b - 2.0 * a, lambda a: a))
def _times_rest(a, b):
    """a (b - a), elementwise."""
    return a * (b - a)


@elementwise(
    partials=lambda x: where((x < 0.0) | (x > 1.0), math.nan, 1.0 / _times_rest(x, 1.0)),
    exact=lambda mp, x: mp.log(x / (1 - x)) if x != 1 else mp.inf,
    scipy="logit",
    domain=(domains.Domain(0.01, 0.99, edges=(0.0, 1.0, 0.5, -1.0, 2.0, _NAN, _TINY)),),
    result=FLOATING,
)
def logit(x):
    """log(x / (1 - x)), the inverse of `sigmoid`, elementwise."""
    return 2.0 * vectormath.atanh(2.0 * x - 1.0) if 0.25 <= x <= 0.75 else vectormath.log(x / (1.0 - x))


@elementwise(
    partials=(
        lambda a, b: where((a == 0.0) & (b <= 0.0), 0.0, log(b)),
        lambda a, b: a / b,
    ),
    exact=lambda mp, a, b: a * mp.log(b) if a or mp.isnan(b) else mp.mpf(0),
    scipy="xlogy",
    domain=(domains.reals, domains.positive),
    result=FLOATING,
)
def xlogy(a, b):
    """`a` log(`b`), elementwise, and 0 where `a` is 0.

    >>> import tapegrad as tg
    >>> tg.xlogy(tg.tensor([0.0, 2.0]), tg.tensor([0.0, 3.0]))
    tensor([0.0000, 2.1972])
    """
    return b if b != b else abs(a) if a == 0 else a * vectormath.log(b)


@elementwise(
    partials=(
        lambda a, b: where((a == 0.0) & (b <= -1.0), 0.0, log1p(b)),
        lambda a, b: a / (b + 1.0),
    ),
    exact=lambda mp, a, b: a * mp.log1p(b) if a or mp.isnan(b) else mp.mpf(0),
    scipy="xlog1py",
    domain=(domains.reals, domains.above_minus_one),
    result=FLOATING,
    in_place=False,
)
def _xlog1py(a, b):
    """`a` log(1 + `b`), elementwise, and 0 where `a` is 0.

    >>> import tapegrad as tg
    >>> tg.special.xlog1py(tg.tensor([0.0, 2.0]), tg.tensor([-1.0, 1.0]))
    tensor([0.0000, 1.3863])
    """
    return b if b != b else abs(a) if a == 0 else a * vectormath.log1p(b)


@elementwise(
    partials=lambda x: sigmoid(x),
    exact=lambda mp, x: mp.log1p(mp.exp(x)),
    domain=(domains.reals,),
    result=FLOATING,
    in_place=False,
)
def softplus(x):
    """log(1 + exp(x)), elementwise."""
    return vectormath.softplus(x)


@elementwise(
    partials=(lambda a, b: sigmoid(a - b), lambda a, b: sigmoid(b - a)),
    reference=np.logaddexp,
    exact=lambda mp, a, b: mp.log(mp.exp(a) + mp.exp(b)),
    domain=(domains.positive, domains.positive),
    result=FLOATING,
    in_place=False,
)
def logaddexp(a, b):
    """log(exp(a) + exp(b)), without overflow, elementwise.

    >>> import tapegrad as tg
    >>> tg.logaddexp(tg.tensor([0.0, 1.0]), tg.tensor([0.0, 2.0]))
    tensor([0.6931, 2.3133])
    """
    return (a if a > b else b) + (_LN2 if a == b else vectormath.softplus(-abs(a - b)))


@elementwise(
    partials=(lambda a, b: sigmoid((a - b) * _LN2), lambda a, b: sigmoid((b - a) * _LN2)),
    reference=np.logaddexp2,
    exact=lambda mp, a, b: mp.log(mp.mpf(2) ** a + mp.mpf(2) ** b, 2),
    domain=(domains.positive, domains.positive),
    result=FLOATING,
    in_place=False,
)
def logaddexp2(a, b):
    """log2(2 ** a + 2 ** b), without overflow, elementwise.

    >>> import tapegrad as tg
    >>> tg.logaddexp2(tg.tensor([0.0, 1.0]), tg.tensor([0.0, 2.0]))
    tensor([1.0000, 2.5850])
    """
    return (a if a > b else b) + (1.0 if a == b else vectormath.log1p(vectormath.exp2(-abs(a - b))) / _LN2)


@elementwise(
    partials=lambda y: where(y <= 0.0, 0.0, 1.0),
    exact=lambda mp, x: max(x, mp.mpf(0)),
    domain=(domains.kinked,),
    refuses=("bool",),
)
def relu(x):
    """max(x, 0), elementwise; its derivative at 0 is 0.

    >>> import tapegrad as tg
    >>> tg.relu(tg.tensor([-1.0, 0.0, 2.0]))
    tensor([0., 0., 2.])
    """
    return 0 if x < 0 else x


def _integer_pow(a, b):
    """The power by squaring, which wraps as products do; of a negative exponent the integer part."""
    if b < 0:
        return (a == 1) * 1 if a != -1 else 1 - 2 * (b & 1)
    power = 1
    while b > 0:
        if b & 1:
            power *= a
        a *= a
        b >>= 1
    return power


@elementwise(
    partials=(
        lambda a, b: where(b == 0.0, 0.0, b * pow_(a, b - 1.0)),
        lambda a, b, y: where((a == 0.0) & (b >= 0.0), 0.0, y * log(a)),
    ),
    reference=np.power,
    exact=lambda mp, a, b: a**b,
    domain=(domains.positive, domains.reals),
    refuses=("bool",),
    integer=_integer_pow,
    variants={IMM_B: "PowBackward0", IMM_A: "PowBackward2"},
    grad_name="PowBackward1",
)
def pow_(a, b):
    """`a ** b`, elementwise."""
    return vectormath.pow(a, b)
