"""The elementwise operations of the op table as functions, methods and operators."""

from __future__ import annotations

import builtins
import math
from typing import Any, overload

import numpy as np

from tapegrad import dtypes, recorder
from tapegrad.arguments import Number, Surface, checked, method
from tapegrad.conversion import NUMBERS, as_operand, check_device, is_array, leaf_of, repair
from tapegrad.dtypes import BOOL, FLOAT64, INT64, DType
from tapegrad.ops import arithmetic, exponential, logic
from tapegrad.ops.declare import OPS, Elementwise
from tapegrad.recording import binary, cast, learners, operand, promoted, quick, record_elementwise
from tapegrad.tensor import Tensor, describe, location

functions = public = Surface()
_NOT_GIVEN: Any = object()
Operand = Any  # a Tensor, an array or a number


def _document(function: Any, op: Elementwise, arguments: str) -> Any:
    function.__name__ = function.__qualname__ = op.name
    function.__module__ = "tapegrad"
    function.__doc__ = (
        f"{op.docstring}\n\n    Also a method of Tensor. Broadcasts, promotes dtypes and records as in PyTorch: "
        f"`{op.name}({arguments})`.\n    "
    )
    return function


def _taken(name: str, *operands: Any) -> tuple[Any, ...]:
    """What may stand for tensors: arrays and numbers too, of which the first becomes one where all are numbers."""
    tensors = [isinstance(o, Tensor) or is_array(o) for o in operands]
    for place, o in enumerate(operands):
        if not tensors[place] and not isinstance(o, NUMBERS):
            raise TypeError(
                f"{name.lstrip('_')}(): argument '{('input', 'other')[place]}' (position {place + 1}) must be Tensor, "
                f"not {type(o).__name__}{repair(o)}"
            )
    if any(tensors):
        return operands
    first, *others = (leaf_of(o) if isinstance(o, np.generic) else o for o in operands)
    return leaf_of(first), *others


def _unary_function(op: Elementwise) -> Any:
    opcode = op.opcode

    def function(input: Any) -> Any:
        if input.__class__ is Tensor:
            return quick[opcode](input)
        return record_elementwise(op, *_taken(op.name, input))

    return _document(function, op, "input")


def _binary_function(op: Elementwise) -> tuple[Any, Any]:
    """The public function, and the one of rules and of NumPy's functions, which takes numbers everywhere."""
    opcode = op.opcode

    def record(input: Any, other: Any) -> Any:
        if input.__class__ is Tensor:
            result = quick[opcode](input, other)
            if result is not NotImplemented:
                return result
        return record_elementwise(op, input, other)

    def function(input: Any, other: Any) -> Any:
        if input.__class__ is Tensor:
            result = quick[opcode](input, other)
            if result is not NotImplemented:
                return result
        return record_elementwise(op, *_taken(op.name, input, other))

    return _document(function, op, "input, other"), record


_operators: dict[str, tuple[Any, Any]] = {}
OPERATIONS = [op for op in OPS if isinstance(op, Elementwise) and op not in arithmetic.CASTS]
for _op in OPERATIONS:
    if not _op.is_public:
        if _op.arity == 2:
            _op.record = binary(_op)[0]  # only rules use it
        continue
    if _op.arity == 1:
        functions[_op.name] = _unary_function(_op)
    elif _op.arity == 2:
        _operators[_op.name] = binary(_op)
        functions[_op.name], _op.record = _binary_function(_op)

OPERATORS = {
    "add": "add", "sub": "sub", "mul": "mul", "truediv": "div", "floordiv": "floor_divide", "mod": "remainder",
    "pow": "pow", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor",
}  # fmt: skip
for _python, _name in OPERATORS.items():
    _method, _reflected = _operators[_name]
    setattr(Tensor, f"__{_python}__", _method)
    setattr(Tensor, f"__r{_python}__", _reflected)
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Tensor, f"__{_name}__", _operators[_name][0])
Tensor.__hash__ = lambda self: id(self)  # noqa: PLW0108 (a builtin does not become a method)
Tensor.__neg__ = functions["neg"]
Tensor.__pos__ = lambda self: self  # type: ignore[return-value]
Tensor.__abs__ = functions["abs"]

_plain_add, _plain_sub, _plain_pow = functions["add"], functions["sub"], functions["pow"]
_plain_round, _plain_softplus, _plain_div, _plain_square = (
    functions[name] for name in ("round", "softplus", "div", "square")
)


def _scaled(name: str, input: Any, other: Any, alpha: Any) -> Any:
    """`alpha * other`, in the dtype of the sum."""
    operands = [t for t in map(operand, (input, other)) if t is not None]
    if len(operands) < 2:
        return other  # to be refused
    dtype = promoted(operands)
    if name == "sub" and any(_is_bool(o) for o in operands):
        return other  # likewise
    if isinstance(alpha, bool) and dtype is not BOOL:
        raise RuntimeError(f"Boolean alpha only supported for Boolean results: {name}({describe(input, other)})")
    if isinstance(alpha, float) and not dtype.is_floating_point:
        raise RuntimeError(
            f"For integral input tensors, argument alpha must not be a floating point number: "
            f"{name}({describe(input, other)}), alpha={alpha}"
        )
    other = operands[1]
    return cast(cast(other, dtype) * alpha, dtype) if isinstance(other, Tensor) else other * alpha


def _is_bool(value: Any) -> bool:
    return value.dtype is BOOL if isinstance(value, Tensor) else isinstance(value, bool)


def add(input: Any, other: Any, *, alpha: Number = 1) -> Any:
    """`input + alpha * other`, elementwise.

    >>> import tapegrad as tg
    >>> tg.add(tg.ones(2), tg.ones(2), alpha=3)
    tensor([4., 4.])
    """
    return _plain_add(input, other) if alpha.__class__ is int and alpha == 1 else _add(input, other, alpha=alpha)


@checked
def _add(input: Any, other: Any, *, alpha: Number) -> Any:
    return _plain_add(input, _scaled("add", input, other, alpha))


def sub(input: Any, other: Any, *, alpha: Number = 1) -> Any:
    """`input - alpha * other`, elementwise."""
    return _plain_sub(input, other) if alpha.__class__ is int and alpha == 1 else _sub(input, other, alpha=alpha)


@checked
def _sub(input: Any, other: Any, *, alpha: Number) -> Any:
    return _plain_sub(input, _scaled("sub", input, other, alpha))


@public
def rsub(input: Tensor, other: Any, *, alpha: Number = 1) -> Any:
    """`other - alpha * input`, elementwise."""
    return sub(other, input, alpha=alpha)


def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Any:
    """`input / other`, elementwise; `rounding_mode` is None, "floor" or "trunc", and makes it a step function.

    >>> import tapegrad as tg
    >>> tg.div(tg.tensor([7, -7]), 2, rounding_mode="trunc")
    tensor([ 3, -3])
    """
    if rounding_mode is None:
        return _plain_div(input, other)
    if not isinstance(rounding_mode, str):
        raise TypeError(f"div(): argument 'rounding_mode' must be str, not {type(rounding_mode).__name__}")
    if rounding_mode not in _ROUNDED:
        raise RuntimeError(
            f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found '{rounding_mode}'"
        )
    return record_elementwise(_ROUNDED[rounding_mode], *_taken("div", input, other))


_ROUNDED = {"trunc": arithmetic._div_trunc, "floor": arithmetic.floor_divide}


def pow(input: Operand, exponent: Any) -> Any:
    """`input ** exponent`, elementwise.

    Raises
    ------
    RuntimeError
        Where integers are raised to a negative integer power.

    >>> import tapegrad as tg
    >>> tg.tensor([1.0, 2.0, 3.0]) ** 2
    tensor([1., 4., 9.])
    """
    if not isinstance(input, Tensor):
        input, exponent = _taken("pow", input, exponent)
        input = input if isinstance(exponent, Tensor) else as_operand(input, False)
    if isinstance(exponent, (int, float, np.integer)) and isinstance(input, Tensor):
        if exponent == 2 and input._kind.dtype.is_floating_point:
            return _plain_square(input)
        if exponent < 0 and not isinstance(exponent, float) and not input._kind.dtype.is_floating_point:
            raise RuntimeError("Integers to negative integer powers are not allowed.")
    return _plain_pow(input, exponent)


def _pow_rule(a: Any, b: Any) -> Any:
    """Of rules, whose operands may be numbers."""
    return pow(a, b) if isinstance(a, Tensor) else record_elementwise(exponential.pow_, a, b)


def float_power(input: Operand, exponent: Any) -> Any:
    """`input ** exponent` in float64, elementwise.

    >>> import tapegrad as tg
    >>> tg.float_power(tg.tensor([4, 9]), 0.5)
    tensor([2., 3.])
    """
    given = (operand(x) for x in _taken("float_power", input, exponent))
    base, power = (cast(x, FLOAT64) if isinstance(x, Tensor) else x for x in given)
    return _pow_rule(base, power)


_SQUARE = arithmetic.square.opcode


def _operator_pow(self: Tensor, exponent: Any) -> Any:
    if exponent.__class__ is int and exponent == 2 and self.__class__ is Tensor and self._kind.dtype.is_floating_point:
        return quick[_SQUARE](self)  # as `pow` does, three calls sooner: 0.13 us for 0.30
    if isinstance(exponent, (int, float, np.integer)):
        return pow(self, exponent)
    return _operators["pow"][0](self, exponent)


Tensor.__pow__ = _operator_pow


@public
def square(input: Tensor) -> Any:
    """`input * input`, elementwise; bools are squared as int64."""
    return _plain_square(cast(input, INT64) if input.dtype is BOOL else input)


def _where_rule(condition: Any, input: Any, other: Any) -> Any:
    """Of rules, whose operands may all be numbers."""
    if isinstance(condition, bool):
        return input if condition else other
    return record_elementwise(logic.where, condition, input, other)


logic.where.record = _where_rule


@overload
def where(condition: Tensor) -> tuple[Tensor, ...]: ...
@overload
def where(condition: Tensor, input: Operand, other: Operand) -> Tensor: ...
@checked
def where(condition: Tensor, input: Any = _NOT_GIVEN, other: Any = _NOT_GIVEN) -> Any:
    """`input` where `condition` is True, else `other`, elementwise; with the condition alone, the indices of True.

    >>> import tapegrad as tg
    >>> tg.where(tg.tensor([True, False]), 1.0, 0.0)
    tensor([1., 0.])
    """
    if input is _NOT_GIVEN and other is _NOT_GIVEN:
        return condition.nonzero(as_tuple=True)
    for name, value in (("input", input), ("other", other)):
        if not isinstance(value, (Tensor, *NUMBERS)) and not is_array(value):
            given = "nothing" if value is _NOT_GIVEN else type(value).__name__
            raise TypeError(f"where(): argument '{name}' must be Tensor or Number, not {given}{repair(value)}")
    return record_elementwise(logic.where, condition, input, other)


def clamp_rule(input: Any, min: Any, max: Any) -> Any:
    """`clamp`, where numbers and tensors may stand side by side, as NumPy's do."""
    if min is None and max is None:
        raise RuntimeError("clamp: At least one of 'min' or 'max' must not be None")
    dtype = promoted([operand(v) for v in (input, min, max) if v is not None])
    low, high = (
        v if v is None or isinstance(v, Tensor) or dtype.is_floating_point else dtypes.in_range(v, dtype)
        for v in (min, max)
    )
    least, most = dtypes.limits(dtype)
    return record_elementwise(arithmetic.clamp, input, least if low is None else low, most if high is None else high)


@public
def clamp(input: Tensor, min: Number | Tensor | None = None, max: Number | Tensor | None = None) -> Any:
    """`input` limited to [`min`, `max`]: two numbers or two tensors, either of which may be left out.

    Nan where a bound is nan.

    Raises
    ------
    RuntimeError
        Where no bound is given, or one doesn't fit the dtype.

    >>> import tapegrad as tg
    >>> tg.clamp(tg.tensor([-2.0, 0.5, 2.0]), -1, 1)
    tensor([-1.0000,  0.5000,  1.0000])
    """
    if min is not None and max is not None and isinstance(min, Tensor) is not isinstance(max, Tensor):
        raise TypeError(
            f"clamp() received an invalid combination of arguments: min ({type(min).__name__}) and max "
            f"({type(max).__name__}) must both be Tensors, or both be Numbers"
        )
    return clamp_rule(input, min, max)


@public
def round(input: Tensor, *, decimals: int = 0) -> Any:
    """The nearest integer, or the nearest number with that many decimals; ties to even."""
    if decimals == 0:
        return _plain_round(input)
    if not input.dtype.is_floating_point:
        raise NotImplementedError(f'"round" with decimals is not implemented for {input.dtype}')
    scale = 10.0 ** builtins.abs(decimals) if builtins.abs(decimals) < 309 else math.inf
    return _plain_round(input * scale) / scale if decimals > 0 else _plain_round(input / scale) * scale


@public
def softplus(input: Tensor, beta: Number = 1.0) -> Any:
    """log(1 + exp(beta x)) / beta, elementwise, without overflow."""
    return _plain_softplus(input) if beta == 1 else _plain_softplus(input * beta) / beta


_plain_bitwise_not = functions["bitwise_not"]


@public
def bitwise_not(input: Tensor) -> Any:
    """`~input`: bools negated, the bits of integers flipped."""
    return functions["logical_not"](input) if input.dtype is BOOL else _plain_bitwise_not(input)


_NAMES_OF_DTYPES = {dtype.name for dtype in dtypes.DTYPES}


@checked
def to(self: Tensor, *args: Any, dtype: DType | None = None, device: Any = None, copy: bool = False) -> Tensor:
    """The tensor in another dtype (or that of another tensor); itself where it has it already and `copy` is False."""
    for given in args:
        if isinstance(given, Tensor):
            dtype = given.dtype
        elif isinstance(given, bool):
            copy = given
        elif isinstance(given, str) and given not in _NAMES_OF_DTYPES:
            check_device(given)
        elif given is not None:
            dtype = dtypes.as_dtype(given)
    wanted = self.dtype if dtype is None else dtypes.as_dtype(dtype)
    if wanted is self.dtype:
        return clone(self) if copy else self
    return cast(self, wanted)


clone = functions["clone"]


@checked
def _type_as(self: Tensor, other: Tensor) -> Tensor:
    return to(self, other.dtype)


@checked
def _where(self: Tensor, condition: Tensor, other: Any) -> Tensor:
    return where(condition, self, other)


functions |= {"add": add, "sub": sub, "div": div, "pow": pow, "float_power": float_power, "where": where}
functions |= {alias: functions[op.name] for op in OPERATIONS for alias in op.aliases}


def _converter(name: str, dtype: str) -> Any:
    def convert(self: Tensor) -> Tensor:
        return to(self, dtype)

    convert.__name__ = convert.__qualname__ = name
    return convert


def _invert(self: Tensor) -> Any:
    if self._kind.dtype.is_floating_point:
        raise TypeError(
            f"~ (operator.invert) is only implemented on integer and Boolean-type tensors: {describe(self)}, at "
            f"{location()}"
        )
    return bitwise_not(self)


Tensor.__invert__ = _invert
Tensor.__round__ = lambda self, ndigits=0: round(self, decimals=ndigits or 0)
for _name, _function in functions.items():
    if _name != "where":
        setattr(Tensor, _name, method(_function))
Tensor.where = _where
Tensor.to = to

for _name, _dtype in {"double": "float64", "float": "float32", "long": "int64", "int": "int32", "bool": "bool"}.items():
    setattr(Tensor, _name, _converter(_name, _dtype))
Tensor.type_as = _type_as
functions["logical_not"].__name__ = "logical_not"
exponential.pow_.record = _pow_rule
learners.append(recorder.learn)  # native code takes the places of these operators
