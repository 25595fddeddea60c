"""The elementwise operations of the op table as functions, methods and operators."""

from __future__ import annotations

import builtins
import functools
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, overload

import numpy as np

from tapegrad import dtypes, overrides, recorder
from tapegrad.arguments import CAST, Number, Surface, checked, method, node, taking_out
from tapegrad.conversion import NUMBERS, as_operand, is_array, leaf_of, repair
from tapegrad.dtypes import BOOL, FLOAT64, INT64, DType
from tapegrad.ops import arithmetic, exponential, logic, special
from tapegrad.ops.declare import OPS, Elementwise
from tapegrad.outputs import write
from tapegrad.recording import binary, cast, learners, operand, promoted, quick, record_elementwise
from tapegrad.tensor import Tensor, describe, location

functions = public = Surface(CAST)
_NOT_GIVEN: Any = object()
Operand = Any  # a Tensor, an array or a number


_IN_CODE, _OPERAND = re.compile("`[^`]*`"), re.compile(r"[A-Za-z_]+")


def naming(text: str, names: Mapping[str, str]) -> str:
    """A text whose operands have the names that a function gives them, in what stands as code."""
    return _IN_CODE.sub(lambda code: _OPERAND.sub(lambda name: names.get(name[0], name[0]), code[0]), text)


def before_examples(docstring: str, said: str) -> str:
    """The text of an operation, with more that is said before its examples."""
    text, prompt, examples = docstring.partition(">>> ")
    indent = text[len(text.rstrip(" ")) :]
    return f"{text.rstrip()}\n\n{indent}{said}\n\n{indent}{prompt}{examples}"


def _document(function: Any, op: Elementwise, arguments: str) -> Any:
    function.__name__ = function.__qualname__ = op.name
    function.__module__ = "tapegrad"
    said = f"Also a method of Tensor. Broadcasts, promotes dtypes and records as in PyTorch: `{op.name}({arguments})`."
    names = dict(zip("x" if op.arity == 1 else "abc", arguments.split(", "), strict=False))
    function.__doc__ = before_examples(naming(op.docstring or "", names), said)
    return function


def _taken(name: str, *operands: Any, parameters: tuple[str, ...] = ("input", "other")) -> tuple[Any, ...]:
    """What may stand for tensors: arrays and numbers too, of which the first becomes one where all are numbers."""
    tensors = [isinstance(o, Tensor) or is_array(o) for o in operands]
    for place, o in enumerate(operands):
        if (not tensors[place] and not isinstance(o, NUMBERS)) or overrides.answers(o):
            raise overrides.refused(
                f"{name.lstrip('_')}(): argument '{parameters[place]}' (position {place + 1}) must be Tensor, "
                f"not {type(o).__name__}{repair(o)}",
                o,
            )
    if any(tensors):
        return operands
    first, *others = (leaf_of(o) if isinstance(o, np.generic) else o for o in operands)
    return leaf_of(first), *others


def _recorded(op: Elementwise, name: str, *operands: Any, parameters: tuple[str, ...] = ("input", "other")) -> Any:
    """The operation on what may stand for tensors."""
    try:
        taken = _taken(name, *operands, parameters=parameters)
    except overrides.OverriddenError:
        return overrides.answered(overrides.public(name), operands, {})
    return record_elementwise(op, *taken)


def _unary_function(op: Elementwise) -> Any:
    opcode = op.opcode

    def function(input: Any, *, out: Any = None) -> Any:
        if out is not None:
            return write(op.name, out, CAST, (input,), lambda: function(input))
        if input.__class__ is Tensor:
            return quick[opcode](input)
        return _recorded(op, op.name, input)

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

    def function(input: Any, other: Any, *, out: Any = None) -> Any:
        if out is not None:
            return write(op.name, out, CAST, (input, other), lambda: function(input, other))
        if input.__class__ is Tensor:
            result = quick[opcode](input, other)
            if result is not NotImplemented:
                return result
        return _recorded(op, op.name, input, other)

    return _document(function, op, "input, other"), record


def _function_of_three(op: Elementwise) -> Any:
    def function(a: Any, b: Any, c: Any, *, out: Any = None) -> Any:
        if out is not None:
            return write(op.name, out, CAST, (a, b, c), lambda: function(a, b, c))
        return _recorded(op, op.name, a, b, c, parameters=("a", "b", "c"))

    return _document(function, op, "a, b, c")


def refusing(op: Elementwise, function: Any) -> Any:
    """The function, where derivatives that are not known would be asked for: they are refused."""

    @functools.wraps(function)
    def guarded(*operands: Any, **facts: Any) -> Any:
        for name, given in zip(op.unknown, operands, strict=False):
            if isinstance(given, Tensor) and given._kind.requires_grad:
                raise NotImplementedError(
                    f"the derivative for '{op.scipy}: {name}' is not implemented: give it {name}.detach(), at "
                    f"{location()}"
                )
        return function(*operands, **facts)

    return guarded


_operators: dict[str, tuple[Any, Any]] = {}
made: dict[Elementwise, Any] = {}  # the function of each operation, also of those that are public elsewhere
OPERATIONS = [op for op in OPS if isinstance(op, Elementwise) and op not in arithmetic.CASTS]
for _op in OPERATIONS:
    if _op.arity == 1:
        made[_op] = _unary_function(_op)
    elif _op.arity == 2:
        _operators[_op.name] = binary(_op)
        made[_op], _op.record = _binary_function(_op)
    elif _op.scipy:
        made[_op] = _function_of_three(_op)
    if _op.unknown:
        made[_op] = refusing(_op, made[_op])
    if _op in made and _op.is_public:
        functions[_op.name] = made[_op]

OPERATORS = {
    "add": "add", "sub": "sub", "mul": "mul", "truediv": "div", "floordiv": "floor_divide", "mod": "remainder",
    "pow": "pow", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor", "lshift": "bitwise_left_shift",
    "rshift": "bitwise_right_shift",
}  # fmt: skip
for _python, _name in OPERATORS.items():
    _method, _reflected = _operators[_name]
    setattr(Tensor, f"__{_python}__", _method)
    setattr(Tensor, f"__r{_python}__", _reflected)
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Tensor, f"__{_name}__", _operators[_name][0])
Tensor.__hash__ = lambda self: id(self)  # noqa: PLW0108 (a builtin does not become a method)
Tensor.__neg__ = functions["neg"]
Tensor.__abs__ = functions["abs"]

_plain_add, _plain_sub, _plain_pow = functions["add"], functions["sub"], functions["pow"]
_plain_round, _plain_softplus, _plain_div, _plain_square, _plain_logit, _plain_heaviside = (
    functions[name] for name in ("round", "softplus", "div", "square", "logit", "heaviside")
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


def add(input: Any, other: Any, *, alpha: Number = 1, out: Any = None) -> Any:
    """`input + alpha * other`, elementwise.

    >>> import tapegrad as tg
    >>> tg.add(tg.ones(2), tg.ones(2), alpha=3)
    tensor([4., 4.])
    """
    plain = alpha.__class__ is int and alpha == 1 and out is None
    return _plain_add(input, other) if plain else _add(input, other, alpha=alpha, out=out)


@taking_out(CAST)
def _add(input: Any, other: Any, *, alpha: Number) -> Any:
    return _plain_add(input, _scaled("add", input, other, alpha))


def sub(input: Any, other: Any, *, alpha: Number = 1, out: Any = None) -> Any:
    """`input - alpha * other`, elementwise.

    >>> import tapegrad as tg
    >>> tg.sub(tg.ones(2), tg.ones(2), alpha=3)
    tensor([-2., -2.])
    """
    plain = alpha.__class__ is int and alpha == 1 and out is None
    return _plain_sub(input, other) if plain else _sub(input, other, alpha=alpha, out=out)


@taking_out(CAST)
def _sub(input: Any, other: Any, *, alpha: Number) -> Any:
    return _plain_sub(input, _scaled("sub", input, other, alpha))


@public
def rsub(input: Tensor, other: Any, *, alpha: Number = 1) -> Any:
    """`other - alpha * input`, elementwise.

    >>> import tapegrad as tg
    >>> tg.rsub(tg.ones(2), 3.0)
    tensor([2., 2.])
    """
    return sub(other, input, alpha=alpha)


def div(input: Any, other: Any, *, rounding_mode: str | None = None, out: Any = None) -> Any:
    """`input / other`, elementwise; `rounding_mode` is None, "floor" or "trunc", and makes it a step function.

    >>> import tapegrad as tg
    >>> tg.div(tg.tensor([7, -7]), 2, rounding_mode="trunc")
    tensor([ 3, -3])
    """
    if out is not None:
        return write("div", out, CAST, (input, other), lambda: div(input, other, rounding_mode=rounding_mode))
    if rounding_mode is None:
        return _plain_div(input, other)
    if not isinstance(rounding_mode, str):
        raise TypeError(f"div(): argument 'rounding_mode' must be str, not {type(rounding_mode).__name__}")
    if rounding_mode not in _ROUNDED:
        raise RuntimeError(
            f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found '{rounding_mode}'"
        )
    return _recorded(_ROUNDED[rounding_mode], "div", input, other)


_ROUNDED = {"trunc": arithmetic._div_trunc, "floor": arithmetic.floor_divide}


def pow(input: Operand, exponent: Any, *, out: Any = None) -> Any:
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
        try:
            input, exponent = _taken("pow", input, exponent)
        except overrides.OverriddenError:
            return overrides.answered(pow, (input, exponent), {})
        input = input if isinstance(exponent, Tensor) else as_operand(input, False)
    if out is not None:
        return write("pow", out, CAST, (input, exponent), lambda: pow(input, exponent))
    if isinstance(exponent, (int, float, np.integer)) and isinstance(input, Tensor):
        if input._kind.dtype.is_floating_point:
            for whole, op in _BY_PRODUCTS.items():
                if exponent == whole:  # not by a look-up: that asks a number that `compile` stands for for its bits
                    return op.record(input)
        if exponent < 0 and not isinstance(exponent, float) and not input._kind.dtype.is_floating_point:
            raise RuntimeError("Integers to negative integer powers are not allowed.")
    return _plain_pow(input, exponent)


def _pow_rule(a: Any, b: Any) -> Any:
    """Of rules, whose operands may be numbers."""
    return pow(a, b) if isinstance(a, Tensor) else record_elementwise(exponential.pow_, a, b)


def float_power(input: Operand, exponent: Any, *, out: Any = None) -> Any:
    """`input ** exponent` in float64, elementwise.

    >>> import tapegrad as tg
    >>> tg.float_power(tg.tensor([4, 9]), 0.5)
    tensor([2., 3.])
    """
    if out is not None:
        return write("float_power", out, CAST, (input, exponent), lambda: float_power(input, exponent))
    given = (operand(x) for x in _taken("float_power", input, exponent))
    base, power = (cast(x, FLOAT64) if isinstance(x, Tensor) else x for x in given)
    return _pow_rule(base, power)


# Powers that are products.
_BY_PRODUCTS: dict[Any, Any] = {2: arithmetic.square, 3: arithmetic._cube}
_QUICK = {exponent: op.opcode for exponent, op in _BY_PRODUCTS.items()}


def _operator_pow(self: Tensor, exponent: Any) -> Any:
    opcode = _QUICK.get(exponent) if type(exponent) is int and self.__class__ is Tensor else None
    if opcode is not None and self._kind.dtype.is_floating_point:
        return quick[opcode](self)  # as `pow` does, three calls sooner: 0.13 us for 0.30
    if isinstance(exponent, (int, float, np.integer)):
        return pow(self, exponent)
    return _operators["pow"][0](self, exponent)


Tensor.__pow__ = _operator_pow


@public
def square(input: Tensor) -> Any:
    """`input * input`, elementwise; bools are squared as int64.

    >>> import tapegrad as tg
    >>> tg.square(tg.tensor([2.0, -3.0]))
    tensor([4., 9.])
    """
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
@taking_out(CAST)
def where(condition: Tensor, input: Any = _NOT_GIVEN, other: Any = _NOT_GIVEN) -> Any:
    """`input` where `condition` is True, else `other`, elementwise; with the condition alone, the indices of True.

    >>> import tapegrad as tg
    >>> tg.where(tg.tensor([True, False]), 1.0, 0.0)
    tensor([1., 0.])
    """
    if input is _NOT_GIVEN and other is _NOT_GIVEN:
        return condition.nonzero(as_tuple=True)
    for name, value in (("input", input), ("other", other)):
        if (not isinstance(value, (Tensor, *NUMBERS)) and not is_array(value)) or overrides.answers(value):
            given = "nothing" if value is _NOT_GIVEN else type(value).__name__
            raise overrides.refused(
                f"where(): argument '{name}' must be Tensor or Number, not {given}{repair(value)}", value
            )
    return record_elementwise(logic.where, condition, input, other)


def _given(*bounds: Any) -> list[Any]:
    return [v for v in bounds if v is not None]


def clamp_rule(input: Any, min: Any, max: Any) -> Any:
    """`clamp`, where numbers and tensors may stand side by side, as NumPy's do."""
    if min is None and max is None:
        raise RuntimeError("clamp: At least one of 'min' or 'max' must not be None")
    if input.__class__ is Tensor and {float, int, None.__class__}.issuperset((min.__class__, max.__class__)):
        dtype = input._kind.dtype if input._kind.dtype.is_floating_point else promoted([input, *_given(min, max)])
    else:
        dtype = promoted([operand(v) for v in (input, *_given(min, max))])
    if dtype is BOOL and all(v is None or isinstance(v, Tensor) for v in (min, max)):
        input = input if min is None else functions["maximum"](input, min)
        return input if max is None else functions["minimum"](input, max)
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
        of: Any = min if isinstance(min, Tensor) else max
        if of.ndim or of.requires_grad:
            raise TypeError(
                f"clamp() received an invalid combination of arguments: min ({type(min).__name__}) and max "
                f"({type(max).__name__}) must both be Tensors, or both be Numbers"
            )
        min, max = (bound.item() if bound is of else bound for bound in (min, max))
    return clamp_rule(input, min, max)


@public
def round(input: Tensor, *, decimals: int = 0) -> Any:
    """The nearest integer, or the nearest number with that many decimals; ties to even.

    >>> import tapegrad as tg
    >>> tg.round(tg.tensor([0.5, 1.5, 2.46])), tg.round(tg.tensor([2.46]), decimals=1)
    (tensor([0., 2., 2.]), tensor([2.5000]))
    """
    if decimals == 0:
        return _plain_round(input)
    if not input.dtype.is_floating_point:
        raise NotImplementedError(f'"round" with decimals is not implemented for {input.dtype}')
    scale = 10.0 ** builtins.abs(decimals) if builtins.abs(decimals) < 309 else math.inf
    return _plain_round(input * scale) / scale if decimals > 0 else _plain_round(input / scale) * scale


@public
def softplus(input: Tensor, beta: Number = 1.0) -> Any:
    """log(1 + exp(beta x)) / beta, elementwise, without overflow.

    >>> import tapegrad as tg
    >>> tg.nn.functional.softplus(tg.tensor([-1.0, 0.0, 1.0]))
    tensor([0.3133, 0.6931, 1.3133])
    """
    return _plain_softplus(input) if beta == 1 else _plain_softplus(input * beta) / beta


_plain_bitwise_not = functions["bitwise_not"]


@public
def bitwise_not(input: Tensor) -> Any:
    """`~input`: bools negated, the bits of integers flipped.

    >>> import tapegrad as tg
    >>> tg.bitwise_not(tg.tensor([0, 5])), tg.bitwise_not(tg.tensor([True, False]))
    (tensor([-1, -6]), tensor([False,  True]))
    """
    return functions["logical_not"](input) if input.dtype is BOOL else _plain_bitwise_not(input)


# --- compositions -----------------------------------------------------------------------------------------------------


def _of_one_dtype(expected: Any, *others: tuple[str, Tensor]) -> None:
    """PyTorch's error where operands are not of the first one's dtype."""
    for name, other in others:
        if other.dtype is not expected.dtype:
            raise RuntimeError(
                f"expected dtype {expected.dtype.c_type} for `{name}` but got dtype {other.dtype.c_type}: "
                f"{describe(expected, other)}, at {location()}"
            )


def _factor(name: str, value: Any, dtype: DType) -> Any:
    """The factor of a product that is added to tensors of a dtype: an integer where these are."""
    if dtype is BOOL:
        raise NotImplementedError(f"\"{name}_cpu_out\" not implemented for 'Bool', at {location()}")
    return int(value) if isinstance(value, float) and not dtype.is_floating_point else value


@public
@node("AddcmulBackward0")
def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Number = 1) -> Tensor:
    """`input + value * tensor1 * tensor2`, elementwise.

    >>> import tapegrad as tg
    >>> tg.addcmul(tg.ones(2), tg.tensor([1.0, 2.0]), tg.tensor([3.0, 4.0]), value=0.5)
    tensor([2.5000, 5.0000])
    """
    value = _factor("addcmul", value, promoted([input, tensor1, tensor2]))
    product = tensor1 * tensor2
    return input + (product if value == 1 else product * value)


@public
@node("AddcdivBackward0")
def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Number = 1) -> Tensor:
    """`input + value * tensor1 / tensor2`, elementwise.

    Raises
    ------
    RuntimeError
        Where both `tensor1` and `tensor2` are of integers.

    >>> import tapegrad as tg
    >>> tg.addcdiv(tg.ones(2), tg.tensor([1.0, 2.0]), tg.tensor([4.0, 4.0]), value=2.0)
    tensor([1.5000, 2.0000])
    """
    if not tensor1.dtype.is_floating_point and not tensor2.dtype.is_floating_point:
        raise RuntimeError(
            "Integer division with addcdiv is no longer supported: write input + value * tapegrad.trunc(tensor1 / "
            f"tensor2), or convert to floating point: {describe(input, tensor1, tensor2)}, at {location()}"
        )
    value = _factor("addcdiv", value, promoted([input, tensor1, tensor2]))
    return input + (tensor1 if value == 1 else tensor1 * value) / tensor2


@public
def lerp(input: Tensor, end: Tensor, weight: Number | Tensor) -> Tensor:
    """`input + weight * (end - input)`, elementwise; exactly `end` where `weight` is 1.

    Raises
    ------
    RuntimeError
        Where the dtypes differ.

    >>> import tapegrad as tg
    >>> tg.lerp(tg.tensor([0.0, 1.0]), tg.tensor([2.0, 3.0]), 0.25)
    tensor([0.5000, 1.5000])
    """
    others = [("end", end)]
    if isinstance(weight, Tensor) and weight.ndim:
        others.append(("weight", weight))
    _of_one_dtype(input, *others)
    if not input.dtype.is_floating_point:
        raise NotImplementedError(
            f"\"lerp\" not implemented for '{input.dtype.scalar_type}': {describe(input)}, at {location()}"
        )
    if isinstance(weight, Tensor):
        weight = cast(weight, input.dtype)
    return record_elementwise(arithmetic._lerp, input, end, weight)


@public
def isclose(input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """Where elements agree: |input - other| <= atol + rtol |other|, or both are equal.

    Raises
    ------
    RuntimeError
        Where the dtypes differ, or a tolerance is negative.

    >>> import tapegrad as tg
    >>> tg.isclose(tg.tensor([1.0, 2.0]), tg.tensor([1.0 + 1e-9, 2.1]))
    tensor([ True, False])
    """
    if input.dtype is not other.dtype:
        names = [t.dtype.scalar_type for t in (input, other)]
        raise RuntimeError(f"{names[0]} did not match {names[1]}: isclose({describe(input, other)}), at {location()}")
    for name, tolerance in (("rtol", rtol), ("atol", atol)):
        if not tolerance >= 0:
            raise RuntimeError(f"{name} must be greater than or equal to zero, but got {tolerance}: at {location()}")
    close = functions["eq"](input, other)
    if equal_nan and input.dtype.is_floating_point:
        close = close | (functions["isnan"](input) & functions["isnan"](other))
    if rtol == 0 and atol == 0:
        return close
    a, b = (t.detach() if t.dtype.is_floating_point else cast(t, FLOAT64) for t in (input, other))
    apart = functions["abs"](a - b)
    return close | (functions["isfinite"](apart) & (apart <= atol + functions["abs"](rtol * b)))


@public
@node("NanToNumBackward0")
def nan_to_num(
    input: Tensor, nan: Number | None = None, posinf: Number | None = None, neginf: Number | None = None
) -> Tensor:
    """`input` with other numbers in the place of nan (0), inf and -inf (the greatest and least of the dtype).

    >>> import tapegrad as tg
    >>> tg.nan_to_num(tg.tensor([1.0, tg.nan, tg.inf]), posinf=9.0)
    tensor([1., 0., 9.])
    """
    if not input.dtype.is_floating_point:
        return quick[arithmetic.clone.opcode](input)
    known = np.finfo(input.dtype.numpy)
    most, least = (float(known.max) if posinf is None else posinf, float(known.min) if neginf is None else neginf)
    y = where(functions["isnan"](input), 0.0 if nan is None else nan, input)
    return where(functions["isposinf"](input), most, where(functions["isneginf"](input), least, y))


@public
@node("LdexpBackward0")
def ldexp(input: Tensor, other: Tensor) -> Tensor:
    """`input * 2 ** other`, elementwise, in two steps: no power is beyond what the dtype holds unless the result is.

    >>> import tapegrad as tg
    >>> tg.ldexp(tg.tensor([1.0, 3.0]), tg.tensor([3, -1]))
    tensor([8.0000, 1.5000])
    """
    if other.dtype is BOOL and input.dtype.is_floating_point:
        raise NotImplementedError(
            f"\"ldexp_cpu_exp\" not implemented for 'Bool': ldexp({describe(input, other)}), at {location()}"
        )
    if not input.dtype.is_floating_point:
        input = cast(input, other.dtype if other.dtype.is_floating_point else dtypes.get_default_dtype())
    dtype = promoted([input, other])
    input, other = cast(input, dtype), cast(other, dtype)
    half = functions["trunc"](other.detach() * 0.5)
    return input * functions["exp2"](half) * functions["exp2"](other - half)


class FrexpResult(NamedTuple):
    """What `frexp` returns."""

    mantissa: Tensor
    exponent: Tensor

    def __repr__(self) -> str:
        return f"tapegrad.return_types.frexp(\nmantissa={self[0]!r},\nexponent={self[1]!r})"


FrexpResult.__module__, FrexpResult.__qualname__ = "tapegrad.return_types", "frexp"


@public
def frexp(input: Tensor) -> FrexpResult:
    """Mantissas in [1/2, 1), with their signs, and exponents: `input = mantissa * 2 ** exponent`, elementwise.

    >>> import tapegrad as tg
    >>> tg.frexp(tg.tensor([8.0, -3.0])).exponent
    tensor([4, 2], dtype=tapegrad.int32)
    """
    if not input.dtype.is_floating_point:
        raise RuntimeError(
            f"torch.frexp() only supports floating-point dtypes: {describe(input)}, at {location()}".replace(
                "torch.", ""
            )
        )
    return FrexpResult(record_elementwise(arithmetic._mantissa, input), record_elementwise(arithmetic._exponent, input))


@public
def logit(input: Tensor, eps: Number | None = None) -> Tensor:
    """log(x / (1 - x)), elementwise, the inverse of `sigmoid`; with `eps`, of `input` limited to [eps, 1 - eps].

    >>> import tapegrad as tg
    >>> tg.logit(tg.tensor([0.5, 1.0]))
    tensor([0., inf])
    """
    if eps is not None and eps >= 0:
        input = cast(input, dtypes.get_default_dtype()) if not input.dtype.is_floating_point else input
        input = where(input < eps, eps, where(input > 1 - eps, 1 - eps, input))
    return _plain_logit(input)


@public
def mvlgamma(input: Tensor, p: int) -> Tensor:
    """The logarithm of the multivariate gamma function of dimension `p`, elementwise.

    >>> import tapegrad as tg
    >>> tg.mvlgamma(tg.tensor([3.0]), 2)
    tensor([1.5502])
    """
    if input.dtype is BOOL:
        raise RuntimeError(f"The input tensor may not be a boolean tensor. mvlgamma, at {location()}")
    if p < 1:
        raise RuntimeError(f"p has to be greater than or equal to 1, but got {p}: at {location()}")
    total = functions["lgamma"](input)
    for j in range(1, p):
        total = total + functions["lgamma"](input - 0.5 * j)
    return total + 0.25 * p * (p - 1) * math.log(math.pi) if p > 1 else total


@checked
def polygamma(n: int, input: Tensor) -> Tensor:
    """The derivative of `digamma` of order `n`, elementwise; of order 0 `digamma` itself.

    >>> import tapegrad as tg
    >>> tg.polygamma(1, tg.tensor([1.0, 0.5]))
    tensor([1.6449, 4.9348])
    """
    if n < 0:
        raise RuntimeError(f"polygamma(n, x) does not support negative n: {n}, at {location()}")
    if n < 2:
        derivative: Tensor = functions["digamma"](input) if n == 0 else special._trigamma(input)
        return derivative
    return made[special._polygamma](float(n), input)


@public
def real(input: Tensor) -> Tensor:
    """The real part: the tensor itself.

    >>> import tapegrad as tg
    >>> tg.real(tg.tensor([1.0, -2.0]))
    tensor([ 1., -2.])
    """
    return input


@public
def imag(input: Tensor) -> Tensor:
    """The imaginary part, which real tensors do not have.

    Raises
    ------
    RuntimeError
        Always: there are no complex dtypes.
    """
    raise RuntimeError(
        f"imag is not implemented for tensors with non-complex dtypes: {describe(input)}, at {location()}"
    )


@public
def conj(input: Tensor) -> Tensor:
    """The complex conjugate: of real numbers they themselves.

    >>> import tapegrad as tg
    >>> tg.conj(tg.tensor([1.0, -2.0]))
    tensor([ 1., -2.])
    """
    return input


@public
def isreal(input: Tensor) -> Tensor:
    """True everywhere: there are no complex dtypes.

    >>> import tapegrad as tg
    >>> tg.isreal(tg.tensor([1.0, -2.0]))
    tensor([True, True])
    """
    return functions["eq"](input, input) | True


@public
def positive(input: Tensor) -> Tensor:
    """`+input`: the tensor itself.

    >>> import tapegrad as tg
    >>> tg.positive(tg.tensor([1.0, -2.0]))
    tensor([ 1., -2.])
    """
    if input.dtype is BOOL:
        raise RuntimeError(f"The `+` operator, on a bool tensor is not supported: {describe(input)}, at {location()}")
    return input


Tensor.__pos__ = positive


@public
def clamp_min(input: Tensor, min: Number | Tensor) -> Tensor:
    """`clamp` with a lower bound.

    >>> import tapegrad as tg
    >>> tg.clamp_min(tg.tensor([-1.0, 0.5, 2.0]), 0.0)
    tensor([0.0000, 0.5000, 2.0000])
    """
    return clamp_rule(input, min, None)


@public
def clamp_max(input: Tensor, max: Number | Tensor) -> Tensor:
    """`clamp` with an upper bound.

    >>> import tapegrad as tg
    >>> tg.clamp_max(tg.tensor([-1.0, 0.5, 2.0]), 1.0)
    tensor([-1.0000,  0.5000,  1.0000])
    """
    return clamp_rule(input, None, max)


@public
def is_complex(input: Tensor) -> bool:
    """False: there are no complex dtypes.

    >>> import tapegrad as tg
    >>> tg.is_complex(tg.ones(2))
    False
    """
    return input._kind.dtype not in dtypes.DTYPES


@checked
def is_floating_point(input: Tensor) -> bool:
    """Whether the dtype is one of floating point.

    >>> import tapegrad as tg
    >>> tg.is_floating_point(tg.ones(2)), tg.is_floating_point(tg.tensor([1, 2]))
    (True, False)
    """
    return input._kind.dtype.is_floating_point


@checked
def numel(input: Tensor) -> int:
    """How many elements there are.

    >>> import tapegrad as tg
    >>> tg.numel(tg.ones(2, 3))
    6
    """
    return input._kind.numel


@public
def is_same_size(input: Tensor, other: Tensor) -> bool:
    """Whether the shapes are the same.

    >>> import tapegrad as tg
    >>> tg.is_same_size(tg.ones(2, 3), tg.zeros(2, 3))
    True
    """
    return input._kind.shape == other._kind.shape


@public
def is_nonzero(input: Tensor) -> bool:
    """Whether the only element is not 0.

    Raises
    ------
    RuntimeError
        Where there are more, or none.

    >>> import tapegrad as tg
    >>> tg.is_nonzero(tg.tensor([2.0])), tg.is_nonzero(tg.tensor(0))
    (True, False)
    """
    return bool(input)


@public
def heaviside(input: Tensor, values: Tensor) -> Tensor:
    """0 where `input` is negative, 1 where it is positive, `values` where it is 0, elementwise.

    Gradients go to `values`, where `input` is 0.

    Raises
    ------
    RuntimeError
        Where the dtypes differ.

    >>> import tapegrad as tg
    >>> tg.heaviside(tg.tensor([-1.0, 0.0, 2.0]), tg.tensor(0.5))
    tensor([0.0000, 0.5000, 1.0000])
    """
    if input.dtype is not values.dtype:
        raise RuntimeError(
            f"heaviside is not yet implemented for tensors with different dtypes: {describe(input, values)}, at "
            f"{location()}"
        )
    return _plain_heaviside(input, values)


functions |= {"conj_physical": conj, "resolve_conj": conj, "resolve_neg": conj}


@checked
def _where(self: Tensor, condition: Tensor, other: Any) -> Tensor:
    return where(condition, self, other)


def result_type(tensor1: Operand, tensor2: Operand) -> DType:
    """The dtype of what is computed of two tensors, arrays or numbers: kinds count before dimensions.

    >>> import tapegrad as tg
    >>> tg.result_type(tg.tensor([1, 2]), 1.5), tg.result_type(tg.ones(2, dtype=tg.float32), tg.tensor(1.0))
    (tapegrad.float64, tapegrad.float32)
    """
    taken = _taken("result_type", tensor1, tensor2)
    return promoted([operand(o) if is_array(o) else o for o in taken])


functions |= {"add": add, "sub": sub, "div": div, "pow": pow, "float_power": float_power, "where": where}
functions |= {alias: functions[op.name] for op in OPERATIONS for alias in op.aliases}


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


@checked
def _polygamma(self: Tensor, n: int) -> Tensor:
    """`polygamma`, of the tensor."""
    return polygamma(n, self)


Tensor.polygamma = _polygamma
Tensor.real = property(real, doc="The real part: the tensor itself.")
Tensor.imag = property(imag, doc="The imaginary part, which real tensors do not have.")
functions["logical_not"].__name__ = "logical_not"
functions |= {
    "is_floating_point": is_floating_point,
    "numel": numel,
    "polygamma": polygamma,
    "result_type": result_type,
}  # the methods stand in `tensor.py`
exponential.pow_.record = _pow_rule
learners.append(recorder.learn)  # native code takes the places of these operators
