"""The table of rules: what scalar functions do, and their partial derivatives.

A rule is written once, as mathematics of its operands and its result, and is called with numbers that emit code
(`emission.py`): `lambda x, y: 1.0 - y * y` is the derivative of tanh in reverse mode, in forward mode, and in forward
over reverse, where it is differentiated again.

`RULES` maps a function, as the user's code names it, to its rule. `PIECEWISE` are the functions whose derivative is
zero wherever it exists: comparisons, rounding, conversion to int. They read values only, and give plain numbers.
Arrays are `arrays.py`'s business.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tapegrad.jitted import special
from tapegrad.jitted.emission import Jet, Single, on, weighed, where

Partial = Callable[..., Any]


class Rule(NamedTuple):
    """A function of scalars: `value(*operands)`, and `partials[i](*operands, result)`."""

    value: Callable[..., Any]
    partials: tuple[Partial, ...]


RULES: dict[Any, Rule] = {}


def rule(*functions: Any, value: Any, partials: Partial | tuple[Partial, ...]) -> None:
    """Enter the functions, which are synonyms, into the table."""
    entry = Rule(value, partials if isinstance(partials, tuple) else (partials,))
    RULES.update(dict.fromkeys(functions, entry))


def chain(entry: Rule, *operands: Any) -> Any:
    """The function at numbers that emit code: jets go by the chain rule."""
    jets = [x for x in operands if isinstance(x, Jet)]
    if not jets:
        return entry.value(*operands)
    emitter = jets[0].emitter
    values = [x.value if isinstance(x, Jet) else on(emitter, x) for x in operands]
    y = entry.value(*values)
    tangents: list[Any] = [None] * len(jets[0].tangents)
    for x, partial in zip(operands, entry.partials, strict=True):
        if isinstance(x, Jet):
            p = partial(*values, y)
            for k, tangent in enumerate(x.tangents):
                term = weighed(p, tangent, values)
                tangents[k] = term if tangents[k] is None else tangents[k] + term
    return Jet(y, tangents)


def numba_function(function: Any) -> Callable[..., Any]:
    """A function that emits Numba's code for `function`, and is differentiated by the table."""

    def emit(*operands: Any) -> Any:
        if any(isinstance(x, Jet) for x in operands):
            return chain(RULES[function], *operands)
        emitter = next(x.emitter for x in operands if isinstance(x, Single))
        return emitter.call(function, *(on(emitter, x) for x in operands))

    return emit


def compiled_function(function: Any) -> Callable[..., Any]:
    """The same for a Python function of floats that is compiled on its own."""

    def emit(*operands: Any) -> Any:
        if any(isinstance(x, Jet) for x in operands):
            return chain(RULES[function], *operands)
        emitter = next(x.emitter for x in operands if isinstance(x, Single))
        return emitter.compiled(function, *(on(emitter, x) for x in operands))

    return emit


divide = numba_function(operator.truediv)
sin, cos, tan = map(numba_function, (math.sin, math.cos, math.tan))
exp, log, sqrt = map(numba_function, (math.exp, math.log, math.sqrt))
sinh, cosh, power = map(numba_function, (math.sinh, math.cosh, math.pow))
lgamma, gamma = map(numba_function, (math.lgamma, math.gamma))
digamma, trigamma = map(compiled_function, (special.digamma_of, special.trigamma_of))

# --- arithmetic -------------------------------------------------------------------------------------------------------

rule(operator.add, np.add,
     value=lambda a, b: a + b, partials=(lambda a, b, y: 1.0, lambda a, b, y: 1.0))  # fmt: skip
rule(operator.sub, np.subtract,
     value=lambda a, b: a - b, partials=(lambda a, b, y: 1.0, lambda a, b, y: -1.0))  # fmt: skip
rule(operator.mul, np.multiply,
     value=lambda a, b: a * b, partials=(lambda a, b, y: b, lambda a, b, y: a))  # fmt: skip
_quotient_partials = (lambda a, b, y: 1.0 / b, lambda a, b, y: -y / b)
rule(operator.truediv, value=divide, partials=_quotient_partials)  # a division by zero is what the function's error
rule(np.divide, np.true_divide, value=lambda a, b: a / b, partials=_quotient_partials)  # model says; of NumPy's, inf
rule(operator.neg, np.negative, value=lambda x: -x, partials=lambda x, y: -1.0)
rule(operator.pos, np.positive, float, value=lambda x: x, partials=lambda x, y: 1.0)


def _sign(x: Any) -> Any:
    return where(x.compared(">", 0.0), 1.0, where(x.compared("<", 0.0), -1.0, 0.0))


rule(
    abs,
    operator.abs,
    np.abs,
    np.absolute,
    np.fabs,
    math.fabs,
    value=numba_function(math.fabs),
    partials=lambda x, y: on(x.emitter, _sign(x)),
)
rule(np.square, value=lambda x: x * x, partials=lambda x, y: 2.0 * x)
rule(np.reciprocal, value=lambda x: 1.0 / x, partials=lambda x, y: -(y * y))
rule(np.radians, np.deg2rad, math.radians, value=numba_function(math.radians), partials=lambda x, y: math.pi / 180)
rule(np.degrees, np.rad2deg, math.degrees, value=numba_function(math.degrees), partials=lambda x, y: 180 / math.pi)


def _quotient(a: Any, b: Any, y: Any) -> Any:
    return (a - y) / b  # an integer, up to rounding


for _function in (operator.mod, np.remainder, math.fmod, np.fmod):
    rule(_function, value=numba_function(_function),
         partials=(lambda a, b, y: 1.0, lambda a, b, y: -_quotient(a, b, y)))  # fmt: skip

# --- powers -----------------------------------------------------------------------------------------------------------
# The derivative by the base is 0 for the exponent 0, also at 0; by the exponent it is 0 at the base 0, unless the
# exponent is negative.

for _function in (operator.pow, pow, math.pow, np.power, np.float_power):
    rule(_function, value=power, partials=(
        lambda a, b, y: where(b.compared("==", 0.0), 0.0, b * power(a, b - 1.0)),
        lambda a, b, y: where(a.compared("==", 0.0), where(b.compared(">=", 0.0), 0.0, y * log(a)), y * log(a)),
    ))  # fmt: skip
POWERS = (operator.pow, pow, math.pow)  # these know an integer exponent


def integer_power(x: Any, n: int) -> Any:
    """A power with an exponent that is known, by the multiplications that Numba takes."""
    y, factor, m = None, x, abs(n)
    while m:
        if m & 1:
            y = factor if y is None else y * factor
        m >>= 1
        if m:
            factor = factor * factor
    if y is None:
        return x.emitter.single(1.0)
    return 1.0 / y if n < 0 else y


def integer_power_rule(n: int) -> Rule:
    """The rule of `x ** n`."""
    return Rule(lambda x: integer_power(x, n), (lambda x, y: float(n) * integer_power(x, n - 1) if n else 0.0,))


rule(math.sqrt, np.sqrt, value=sqrt, partials=lambda x, y: 0.5 / y)
rule(np.cbrt, value=numba_function(np.cbrt), partials=lambda x, y: 1.0 / (3.0 * (y * y)))
for _function in (math.hypot, np.hypot):
    rule(_function, value=numba_function(_function), partials=(
        lambda a, b, y: where(y.compared("==", 0.0), 0.0, a / y),
        lambda a, b, y: where(y.compared("==", 0.0), 0.0, b / y)))  # fmt: skip

# --- exponential ------------------------------------------------------------------------------------------------------

rule(math.exp, np.exp, value=exp, partials=lambda x, y: y)
rule(np.exp2, value=numba_function(np.exp2), partials=lambda x, y: math.log(2.0) * y)
rule(math.expm1, np.expm1, value=numba_function(math.expm1), partials=lambda x, y: y + 1.0)
rule(math.log, np.log, value=log, partials=lambda x, y: 1.0 / x)
rule(math.log2, np.log2, value=numba_function(np.log2), partials=lambda x, y: (1 / math.log(2.0)) / x)
rule(math.log10, np.log10, value=numba_function(math.log10), partials=lambda x, y: (1 / math.log(10.0)) / x)
rule(math.log1p, np.log1p, value=numba_function(math.log1p), partials=lambda x, y: 1.0 / (1.0 + x))
rule(
    np.logaddexp, value=numba_function(np.logaddexp), partials=(lambda a, b, y: exp(a - y), lambda a, b, y: exp(b - y))
)
rule(np.logaddexp2, value=numba_function(np.logaddexp2), partials=(
    lambda a, b, y: exp(math.log(2.0) * (a - y)), lambda a, b, y: exp(math.log(2.0) * (b - y))))  # fmt: skip

# --- trigonometric and hyperbolic -------------------------------------------------------------------------------------

rule(math.sin, np.sin, value=sin, partials=lambda x, y: cos(x))
rule(math.cos, np.cos, value=cos, partials=lambda x, y: -sin(x))
rule(math.tan, np.tan, value=tan, partials=lambda x, y: 1.0 + y * y)
rule(math.asin, np.arcsin, np.asin, value=numba_function(math.asin), partials=lambda x, y: 1.0 / sqrt(1.0 - x * x))
rule(math.acos, np.arccos, np.acos, value=numba_function(math.acos), partials=lambda x, y: -1.0 / sqrt(1.0 - x * x))
rule(math.atan, np.arctan, np.atan, value=numba_function(math.atan), partials=lambda x, y: 1.0 / (1.0 + x * x))


def _angle_slope(a: Any, b: Any, numerator: Any) -> Any:
    square = a * a + b * b
    return where(square.compared("==", 0.0), 0.0, numerator / square)


rule(math.atan2, np.arctan2, np.atan2, value=numba_function(math.atan2), partials=(
    lambda a, b, y: _angle_slope(a, b, b), lambda a, b, y: _angle_slope(a, b, -a)))  # fmt: skip
rule(math.sinh, np.sinh, value=sinh, partials=lambda x, y: cosh(x))
rule(math.cosh, np.cosh, value=cosh, partials=lambda x, y: sinh(x))
rule(math.tanh, np.tanh, value=numba_function(math.tanh), partials=lambda x, y: 1.0 - y * y)
rule(math.asinh, np.arcsinh, np.asinh, value=numba_function(math.asinh), partials=lambda x, y: 1.0 / sqrt(x * x + 1.0))
rule(math.acosh, np.arccosh, np.acosh, value=numba_function(math.acosh), partials=lambda x, y: 1.0 / sqrt(x * x - 1.0))
rule(math.atanh, np.arctanh, np.atanh, value=numba_function(math.atanh), partials=lambda x, y: 1.0 / (1.0 - x * x))


def _sinc_slope(x: Any, y: Any) -> Any:
    away = x.compared("!=", 0.0)
    return where(away, (cos(math.pi * x) - y) / where(away, x, 1.0), 0.0)


rule(np.sinc, value=numba_function(np.sinc), partials=_sinc_slope)

# --- choices ----------------------------------------------------------------------------------------------------------
# Where both are equal, the compiled `max` and `min` choose the first, as `a if a >= b else b` would; NumPy's functions
# share between both. Where one is nan, NumPy's propagate it or ignore it.


def _chosen_first(sign: str) -> tuple[Partial, ...]:
    return (
        lambda a, b, y: where(b.compared(sign, a), 0.0, 1.0),
        lambda a, b, y: where(b.compared(sign, a), 1.0, 0.0),
    )


def _shared(sign: str, ignores_nan: bool) -> tuple[Partial, ...]:
    def of_first(a: Any, b: Any) -> Any:
        loses = where(b.compared(sign, a), 0.0, where(a.compared("==", b), 0.5, 1.0))
        return where(a.compared("==", a), loses, where(b.compared("==", b), 0.0, 0.5)) if ignores_nan else loses

    return lambda a, b, y: of_first(a, b), lambda a, b, y: of_first(b, a)


for _function, _function_of_both, _ignoring, _sign_of in (
    (max, np.maximum, np.fmax, ">"), (min, np.minimum, np.fmin, "<")
):  # fmt: skip
    rule(
        _function,
        value=lambda a, b, sign=_sign_of: where(b.compared(sign, a), b, a),
        partials=_chosen_first(_sign_of),
    )
    rule(_function_of_both, value=numba_function(_function_of_both), partials=_shared(_sign_of, False))
    rule(_ignoring, value=numba_function(_ignoring), partials=_shared(_sign_of, True))


def shared(best: Any, x: Any, n: Any) -> Any:
    """The best of `n` that tie so far, of which `x` is the last: they share its derivative."""
    raise NotImplementedError


rule(shared, value=lambda best, x, n: best, partials=(
    lambda best, x, n, y: 1.0 - 1.0 / n, lambda best, x, n, y: 1.0 / n, lambda best, x, n, y: 0.0))  # fmt: skip
rule(math.copysign, np.copysign, value=numba_function(math.copysign), partials=(
    lambda a, b, y: where((y * a).compared(">=", 0.0), 1.0, where((y * a).compared("<", 0.0), -1.0, 0.0)),
    lambda a, b, y: 0.0))  # fmt: skip

# --- special ----------------------------------------------------------------------------------------------------------

rule(math.erf, value=numba_function(math.erf), partials=lambda x, y: 2 / math.sqrt(math.pi) * exp(-(x * x)))
rule(math.erfc, value=numba_function(math.erfc), partials=lambda x, y: -2 / math.sqrt(math.pi) * exp(-(x * x)))
rule(math.gamma, value=gamma, partials=lambda x, y: y * digamma(x))
rule(math.lgamma, value=lgamma, partials=lambda x, y: digamma(x))
rule(special.digamma_of, value=digamma, partials=lambda x, y: trigamma(x))

# --- functions of values only -----------------------------------------------------------------------------------------

PIECEWISE = (
    int, bool, round, operator.truth, operator.not_, operator.floordiv,
    operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne,
    math.floor, math.ceil, math.trunc, math.isnan, math.isinf, math.isfinite,
    np.floor, np.ceil, np.trunc, np.rint, np.sign, np.isnan, np.isinf, np.isfinite, np.signbit, np.floor_divide,
    np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal, np.logical_not, np.logical_and,
    np.logical_or,
)  # fmt: skip
