"""Which operation a name means in jitted code: a name of Python's, `math`'s or NumPy's.

Derivatives stand in `ops/`, and nowhere else. A function that is named here has the value that Numba's own code gives
it, to the last bit, and the partials of its operation. `RULES` maps it to both; `PIECEWISE` are the functions whose
derivative is zero wherever it exists: comparisons, rounding, conversion to int. They read values only, and give plain
numbers. Arrays are `arrays.py`'s business.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core import types
from numba.np import ufunc_db

from tapegrad.jitted.active import DOUBLE
from tapegrad.jitted.emission import VALUES, Condition, Rule, Single, numba_function, rule_of, where
from tapegrad.kernels import scalar
from tapegrad.ops.declare import OPS, Elementwise, Op


def clamped(x: Any, low: Any, high: Any) -> Any:
    """`min(max(x, low), high)`, as `np.clip` has it of each element."""
    raise NotImplementedError


POWERS = (operator.pow, pow, math.pow)  # these know an integer exponent

# The value is that of Numba's code for the first name; of each name's own for those of BY_NAME.
NAMES: dict[str, tuple[Any, ...]] = {
    "add": (operator.add, np.add),
    "sub": (operator.sub, np.subtract),
    "mul": (operator.mul, np.multiply),
    "div": (np.divide, operator.truediv),
    "neg": (operator.neg, np.negative),
    "clone": (operator.pos, np.positive, float, np.conjugate),
    "abs": (math.fabs, abs, np.absolute, np.fabs),
    "square": (np.square,),
    "reciprocal": (np.reciprocal,),
    "remainder": (operator.mod, np.remainder),
    "fmod": (np.fmod,),
    "deg2rad": (math.radians, np.radians, np.deg2rad),
    "rad2deg": (math.degrees, np.degrees, np.rad2deg),
    "copysign": (math.copysign, np.copysign),
    "maximum": (np.maximum,),
    "minimum": (np.minimum,),
    "fmax": (np.fmax,),
    "fmin": (np.fmin,),
    "_builtin_max": (max,),
    "_builtin_min": (min,),
    "clamp": (clamped,),
    "pow": (math.pow, operator.pow, pow, np.power, np.float_power),
    "sqrt": (math.sqrt, np.sqrt),
    "_cbrt": (np.cbrt,),
    "hypot": (math.hypot, np.hypot),
    "exp": (math.exp, np.exp),
    "exp2": (np.exp2,),
    "expm1": (math.expm1, np.expm1),
    "log": (math.log, np.log),
    "log2": (np.log2, math.log2),
    "log10": (math.log10, np.log10),
    "log1p": (math.log1p, np.log1p),
    "logaddexp": (np.logaddexp,),
    "logaddexp2": (np.logaddexp2,),
    "sin": (math.sin, np.sin),
    "cos": (math.cos, np.cos),
    "tan": (math.tan, np.tan),
    "asin": (math.asin, np.arcsin),
    "acos": (math.acos, np.arccos),
    "atan": (math.atan, np.arctan),
    "atan2": (math.atan2, np.arctan2),
    "sinc": (np.sinc,),
    "sinh": (math.sinh, np.sinh),
    "cosh": (math.cosh, np.cosh),
    "tanh": (math.tanh, np.tanh),
    "asinh": (math.asinh, np.arcsinh),
    "acosh": (math.acosh, np.arccosh),
    "atanh": (math.atanh, np.arctanh),
    "erf": (math.erf,),
    "erfc": (math.erfc,),
    "_gamma": (math.gamma,),
    "lgamma": (math.lgamma,),
    # without derivatives
    "floor": (np.floor, math.floor),
    "ceil": (np.ceil, math.ceil),
    "trunc": (np.trunc, math.trunc),
    "round": (np.rint, round),
    "sign": (np.sign,),
    "floor_divide": (np.floor_divide, operator.floordiv),
    "signbit": (np.signbit,),
    "isnan": (np.isnan, math.isnan),
    "isinf": (np.isinf, math.isinf),
    "isfinite": (np.isfinite, math.isfinite),
    "lt": (operator.lt, np.less),
    "le": (operator.le, np.less_equal),
    "gt": (operator.gt, np.greater),
    "ge": (operator.ge, np.greater_equal),
    "eq": (operator.eq, np.equal),
    "ne": (operator.ne, np.not_equal),
    "logical_not": (operator.not_, np.logical_not),
    "logical_and": (np.logical_and,),
    "logical_or": (np.logical_or,),
    "logical_xor": (np.logical_xor,),
}
BY_NAME = ("div", "remainder", "fmod", "hypot")
OPERATIONS = {op.name: op for op in OPS if isinstance(op, Elementwise)}
_COMPILED = set(ufunc_db.get_ufuncs())  # by Numba
for _op in OPERATIONS.values():  # one that is declared as a function of NumPy's needs no line above
    if any(_op.partials) and _op.reference in _COMPILED:
        NAMES.setdefault(_op.name, (_op.reference,))


def _is_flat(op: Op) -> bool:
    """Whether an operation has no derivative but zero."""
    return all(partial is None or (not partial.__code__.co_argcount and partial() == 0.0) for partial in op.partials)


_FLAT = [name for op, names in NAMES.items() if _is_flat(OPERATIONS[op]) for name in names]
PIECEWISE = (int, bool, operator.truth, *_FLAT)


# --- values that are written down here --------------------------------------------------------------------------------


class Whole:
    """An integer in a register: an exponent, for the rule of powers."""

    def __init__(self, emitter: Any, value: Any) -> None:
        self.emitter, self.value = emitter, value

    def __eq__(self, other: object) -> Condition:  # type: ignore[override]
        builder = self.emitter.builder
        return Condition(builder, builder.icmp_signed("==", self.value, self.value.type(int(other))))  # type: ignore[call-overload]

    __hash__ = object.__hash__

    def __sub__(self, other: float) -> Whole:
        return Whole(self.emitter, self.emitter.builder.sub(self.value, self.value.type(int(other))))

    def __mul__(self, other: Any) -> Any:
        return Single(self.emitter, self.emitter.builder.sitofp(self.value, DOUBLE)) * other


def whole_power(n: int | Whole) -> Rule:
    """The rule of `x ** n`: that of powers, with an exponent that is an integer and known, or in a register."""
    value = _power_by_squares if isinstance(n, int) else _power_by_numba
    by_base = RULES[math.pow].partials[0]
    return Rule(lambda x: value(x, n), (lambda x, y: by_base(x, n, y),))


def _power(a: Any, b: Any) -> Any:
    """A power, where partials may name it with an exponent that is an integer."""
    if isinstance(b, Whole):
        return _power_with_any_sign(a, b)
    return _power_by_squares(a, int(b)) if isinstance(b, (int, float)) and b == int(b) else _float_power(a, b)


_float_power = numba_function(math.pow)


def _power_by_squares(x: Any, n: int) -> Any:
    """With an exponent that is known, by the multiplications that Numba takes."""
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


def _power_by_numba(x: Any, n: Whole) -> Any:
    """Numba's own, which may divide by zero, as an error."""
    context = x.emitter.context
    found = context.typing_context.resolve_value_type(operator.pow)
    code = context.get_function(found, found.get_call_type(context.typing_context, (types.float64, types.int64), {}))
    return Single(x.emitter, code(x.emitter.builder, [x.value, n.value]))


def _power_with_any_sign(x: Any, n: Whole) -> Any:
    """Numba's own, and where the exponent is negative one by it, which is no error."""
    builder = x.emitter.builder
    is_negative = Condition(builder, builder.icmp_signed("<", n.value, n.value.type(0)))
    size = builder.select(is_negative.value, builder.neg(n.value), n.value)
    magnitude = _power_by_numba(x, Whole(x.emitter, size))
    return where(is_negative, 1.0 / magnitude, magnitude)


_WRITTEN: dict[Any, Callable[..., Any]] = {
    operator.add: lambda a, b: a + b,
    operator.sub: lambda a, b: a - b,
    operator.mul: lambda a, b: a * b,
    np.divide: lambda a, b: a / b,  # a division by zero is inf; by `/` it is what the function's error model says
    operator.neg: lambda x: -x,
    operator.pos: lambda x: x,
    np.square: lambda x: x * x,
    np.reciprocal: lambda x: 1.0 / x,
    max: lambda a, b: where(b > a, b, a),
    min: lambda a, b: where(b < a, b, a),
    clamped: lambda x, low, high: where(high < (raised := where(low > x, low, x)), high, raised),
    math.pow: _power,
    # In partials; Numba's rounds the quotient first. Asked for late: the kernels' functions take a while to import.
    np.floor_divide: lambda a, b: numba_function(scalar(OPERATIONS["floor_divide"], by_address=True))(a, b),
}

RULES: dict[Any, Rule] = {}
for _called, _names in NAMES.items():
    for _name in _names:
        _code = _name if _called in BY_NAME or _name in _WRITTEN else _names[0]
        _value = _WRITTEN.get(_code) or numba_function(_code)
        VALUES.setdefault(OPERATIONS[_called], _value)
        if _name not in PIECEWISE:
            RULES[_name] = rule_of(OPERATIONS[_called], _value)
VALUES[OPERATIONS["rsqrt"]] = lambda x: 1.0 / numba_function(math.sqrt)(x)
