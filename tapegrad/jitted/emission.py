"""Numbers that emit machine code: what the operations' partials are called with while a user's function is compiled.

A partial such as `lambda y: 1.0 - y * y` is plain arithmetic. Called with floats it gives a number; called with a
`Single` it emits the instructions that will; called with a `Jet` it emits those for a value and its tangents, which is
how one rulebook serves reverse mode, forward mode, and forward over reverse. The operations that a partial names emit
Numba's own code for the function that they are (`names.py`), or that of their own kernel (`staged`).

Partials are multiplied by tangents and adjoints in one way, `weighed`: one that is exactly 0 contributes exactly 0,
even where the partial is infinite. What was not taken leaves no nan. Of a product, whose partials are its own operands,
none is infinite unless the value is; it goes unguarded, which is what loops of plain arithmetic live on.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any, NamedTuple, Union

from llvmlite import ir
from numba.core import types

from tapegrad.jitted.active import DOUBLE, WORD, Active, Taped
from tapegrad.kernels import scalar
from tapegrad.ops import arithmetic, exponential, logic
from tapegrad.ops.declare import Op, parameters

Number = Union["Single", "Jet", float]


class Emitter:
    """Where instructions go."""

    def __init__(self, context: Any, builder: Any) -> None:
        self.context, self.builder = context, builder

    def single(self, value: Any) -> Single:
        """A number of an LLVM value, or of a float."""
        return Single(self, ir.Constant(DOUBLE, float(value)) if isinstance(value, (int, float)) else value)

    def call(self, function: Any, *arguments: Single) -> Single:
        """Numba's own code for a function of float64."""
        kinds = [types.float64] * len(arguments)
        found = self.context.typing_context.resolve_value_type(function)
        call_type = found.get_call_type(self.context.typing_context, kinds, {})
        implementation = self.context.get_function(found, call_type)
        result = implementation(self.builder, [a.value for a in arguments])
        return Single(self, self.context.cast(self.builder, result, call_type.return_type, types.float64))

    def unpack(self, kind: Any, value: Any) -> Single | Jet:
        """The number in a value of an active type, or of a plain one."""
        if not isinstance(kind, Active):
            return Single(self, self.context.cast(self.builder, value, kind, types.float64))
        number = Single(self, self.builder.extract_value(value, 0))
        if not kind.n_tangents:
            return number
        tangents = self.builder.extract_value(value, 1)
        if kind.is_wide:
            return Jet(number, [Single(self, tangents)])
        parts = [Single(self, self.builder.extract_value(tangents, k)) for k in range(kind.n_tangents)]
        return made_of([number, *parts], kind)

    def row_of(self, kind: Taped, value: Any) -> Any:
        """The row of a taped value."""
        return self.builder.extract_value(value, 2 if kind.n_tangents else 1)

    def pack(self, kind: Active, number: Single | Jet, row: Any = None) -> Any:
        """A value of an active type. Without a row it is one that nobody asks for its row."""
        value, *parts = parts_of(number, kind)
        packed = ir.Constant(self.context.get_value_type(kind), ir.Undefined)
        packed = self.builder.insert_value(packed, value.value, 0)
        if kind.is_wide:
            packed = self.builder.insert_value(packed, parts[0].value, 1)
        for k, part in enumerate([] if kind.is_wide else parts):
            packed = self.builder.insert_value(packed, part.value, [1, k])
        if row is not None:
            packed = self.builder.insert_value(packed, row, 2 if kind.n_tangents else 1)
        return packed


class _Arithmetic:
    """Operators, in terms of `_binary`."""

    def _binary(self, op: Any, other: Any, reflected: bool = False) -> Any:
        raise NotImplementedError

    def __add__(self, other: Any) -> Any:
        return self._binary(operator.add, other)

    def __radd__(self, other: Any) -> Any:
        return self._binary(operator.add, other, True)

    def __sub__(self, other: Any) -> Any:
        return self._binary(operator.sub, other)

    def __rsub__(self, other: Any) -> Any:
        return self._binary(operator.sub, other, True)

    def __mul__(self, other: Any) -> Any:
        return self._binary(operator.mul, other)

    def __rmul__(self, other: Any) -> Any:
        return self._binary(operator.mul, other, True)

    def __truediv__(self, other: Any) -> Any:
        return self._binary(operator.truediv, other)

    def __rtruediv__(self, other: Any) -> Any:
        return self._binary(operator.truediv, other, True)

    def __pow__(self, other: Any) -> Any:
        return staged(exponential.pow_)(self, other)

    def __abs__(self) -> Any:
        return staged(arithmetic.abs_)(self)

    def __lt__(self, other: Any) -> Condition:
        return _compared("<", self, other)

    def __le__(self, other: Any) -> Condition:
        return _compared("<=", self, other)

    def __gt__(self, other: Any) -> Condition:
        return _compared(">", self, other)

    def __ge__(self, other: Any) -> Condition:
        return _compared(">=", self, other)

    def __eq__(self, other: object) -> Condition:  # type: ignore[override]
        return _compared("==", self, other)

    def __ne__(self, other: object) -> Condition:  # type: ignore[override]
        return _compared("!=", self, other)

    __hash__ = object.__hash__
    __array_ufunc__ = None  # NumPy's numbers leave operators to these


class Compound(_Arithmetic):
    """A number that is made of others: `complex_numbers.py`."""

    def applied(self, op: Op, operands: Sequence[Any]) -> Any:
        """An operation of operands, of which this is one."""
        raise NotImplementedError

    def chosen(self, condition: Condition, a: Any, b: Any) -> Any:
        """One of two, of which this is one."""
        raise NotImplementedError


class Condition:
    """A bool in a register, or a vector of them: what a comparison of numbers gives."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def __and__(self, other: Condition) -> Condition:
        return Condition(self.builder, self.builder.and_(*_as_wide(self.builder, self.value, other.value)))

    def __or__(self, other: Condition) -> Condition:
        return Condition(self.builder, self.builder.or_(*_as_wide(self.builder, self.value, other.value)))

    def __invert__(self) -> Condition:
        return Condition(self.builder, self.builder.not_(self.value))


def _compared(sign: str, a: Any, b: Any) -> Condition:
    """Of the values; but for `!=`, false where either is nan."""
    emitter = a.emitter
    builder, x, y = emitter.builder, primal(on(emitter, a)), primal(on(emitter, b))
    compare = builder.fcmp_unordered if sign == "!=" else builder.fcmp_ordered
    return Condition(builder, compare(sign, *_as_wide(builder, x.value, y.value)))


def _as_wide(builder: Any, *values: Any) -> list[Any]:
    """LLVM values, each as a vector where another is one."""
    count = max(x.type.count if isinstance(x.type, ir.VectorType) else 0 for x in values)
    return [x if isinstance(x.type, ir.VectorType) else wide(builder, x, count) if count else x for x in values]


def wide(builder: Any, value: Any, count: int) -> Any:
    """A vector of one value."""
    kind = ir.VectorType(value.type, count)
    if isinstance(value, ir.Constant):
        return ir.Constant(kind, [value.constant] * count)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.IntType(32)(0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(ir.IntType(32), count), [0] * count))


class Single(_Arithmetic):
    """A float64 in a register, or a vector of them: tangents along several directions.

    It is fixed if it is the same for all elements of an array expression.
    """

    def __init__(self, emitter: Emitter, value: Any, is_fixed: bool = False) -> None:
        self.emitter, self.value = emitter, value
        self.is_fixed = is_fixed or isinstance(value, ir.Constant)

    @property
    def constant(self) -> float | None:
        """Its number, where it is known now."""
        value = self.value
        return value.constant if isinstance(value, ir.Constant) and isinstance(value.constant, float) else None

    def _binary(self, op: Any, other: Any, reflected: bool = False) -> Any:
        if isinstance(other, Jet):
            return NotImplemented
        other = on(self.emitter, other)
        a, b = (other, self) if reflected else (self, other)
        if op is operator.mul and 1.0 in (a.constant, b.constant):
            return b if a.constant == 1.0 else a
        if op is operator.mul and -1.0 in (a.constant, b.constant):
            return -(b if a.constant == -1.0 else a)
        builder = self.emitter.builder
        instruction = {
            operator.add: builder.fadd, operator.sub: builder.fsub, operator.mul: builder.fmul,
            operator.truediv: builder.fdiv,
        }[op]  # fmt: skip
        return Single(self.emitter, instruction(*_as_wide(builder, a.value, b.value)), a.is_fixed and b.is_fixed)

    def __neg__(self) -> Single:
        if self.constant is not None:
            return self.emitter.single(-self.constant)
        return Single(self.emitter, self.emitter.builder.fneg(self.value), self.is_fixed)


class Jet(_Arithmetic):
    """A number and its tangents, in registers: of several directions one vector of a width that there is, or each.

    At depths above 1 all of them are jets in turn. What meets in an operation is of one depth, or has no tangents.
    """

    def __init__(self, value: Any, tangents: Sequence[Any]) -> None:
        self.value, self.tangents = value, list(tangents)

    @property
    def emitter(self) -> Emitter:
        """Where its instructions go."""
        found: Emitter = self.value.emitter
        return found

    @property
    def constant(self) -> float | None:
        """A jet is never a constant."""
        return None

    def _jet(self, other: Any) -> Jet:
        if isinstance(other, Jet):
            return other
        other = on(self.emitter, other)
        return Jet(other, [self.emitter.single(0.0)] * len(self.tangents))

    def _binary(self, op: Any, other: Any, reflected: bool = False) -> Any:
        a, b = (self._jet(other), self) if reflected else (self, self._jet(other))
        x, y = a.value, b.value
        pairs = list(zip(a.tangents, b.tangents, strict=True))
        if op is operator.mul:
            return Jet(x * y, [_sum(weighed(y, u), weighed(x, v)) for u, v in pairs])
        if op is operator.truediv:
            return _quotient(a, b, operator.truediv)
        return Jet(op(x, y), [_sum(u, v if op is operator.add else -v) for u, v in pairs])

    def __neg__(self) -> Jet:
        return Jet(-self.value, [-t for t in self.tangents])


def made_of(numbers: Sequence[Single], kind: Active) -> Single | Jet:
    """A number of its value and its tangents, as a value of an active type has them one after another."""
    if not kind.is_wide:
        return _made_of(numbers, kind.depth)
    emitter = numbers[0].emitter
    vector = ir.Constant(ir.VectorType(DOUBLE, kind.n_tangents), ir.Undefined)
    for k, number in enumerate(numbers[1:]):
        vector = emitter.builder.insert_element(vector, number.value, WORD(k))
    return Jet(numbers[0], [Single(emitter, vector)])


def _made_of(numbers: Sequence[Single], depth: int) -> Single | Jet:
    if len(numbers) == 1 or depth == 1:
        return Jet(numbers[0], numbers[1:]) if len(numbers) > 1 else numbers[0]
    half = len(numbers) // 2  # the last direction is the outermost
    return Jet(_made_of(numbers[:half], depth - 1), [_made_of(numbers[half:], depth - 1)])


def parts_of(number: Single | Jet, kind: Active) -> list[Single]:
    """The value and the tangents of a number, as an active type has them: one vector, or one after another."""
    if not kind.is_wide:
        return _parts(number, kind.depth, 1 + kind.n_tangents)
    value, tangents = _parts(number, 1, 2)
    if not isinstance(tangents.value.type, ir.VectorType):
        tangents = Single(tangents.emitter, wide(tangents.emitter.builder, tangents.value, kind.n_tangents))
    return [value, tangents]


def _parts(number: Any, depth: int, n: int) -> list[Single]:
    if not isinstance(number, Jet):
        return [number] + [number.emitter.single(0.0)] * (n - 1)
    if depth == 1:
        return [number.value, *number.tangents]
    return [*_parts(number.value, depth - 1, n // 2), *_parts(number.tangents[0], depth - 1, n // 2)]


def primal(number: Single | Jet) -> Single:
    """The value without any tangent."""
    while isinstance(number, Jet):
        number = number.value
    return number


def _sum(a: Any, b: Any) -> Any:
    """A sum of tangents: one that is known to be 0 is left out."""
    if 0.0 in (a.constant, b.constant):
        return b if a.constant == 0.0 else a
    return a + b


def _quotient(a: Jet, b: Jet, divide: Callable[[Any, Any], Any]) -> Jet:
    """A quotient, whose value is divided in a way of its own."""
    q = divide(a.value, b.value)
    pairs = zip(a.tangents, b.tangents, strict=True)
    return Jet(q, [_shared_out(_sum(u, -weighed(q, v)), b.value) for u, v in pairs])


def _shared_out(a: Any, b: Any) -> Any:
    """A tangent over a number: 0 where it is exactly 0."""
    if a.constant == 0.0:
        return a
    for x in (a, b):
        if isinstance(x, Jet):
            return _quotient(x._jet(a), x._jet(b), _shared_out)
    return where(a == 0.0, 0.0, a / b)


def weighed(partial: Any, bar: Single | Jet, operands: Sequence[Any] = ()) -> Any:
    """A partial times an adjoint or a tangent: 0 where that is exactly 0, or where another operand was chosen."""
    if isinstance(partial, Choice):
        return where(partial.condition, weighed(partial.a, bar), weighed(partial.b, bar))
    if isinstance(partial, (int, float)):
        return bar.emitter.single(0.0) if partial == 0.0 else bar * partial
    return _times(partial, bar, _product if any(partial is x for x in operands) else _guarded)


def _times(partial: Any, bar: Any, product: Callable[[Single, Single], Single]) -> Any:
    """A product by the product rule, where one has tangents; `product` is that of numbers that have none."""
    if not isinstance(partial, Jet) and not isinstance(bar, Jet):
        return product(partial, bar)
    p, b = (partial, partial._jet(bar)) if isinstance(partial, Jet) else (bar._jet(partial), bar)
    tangents = []
    for p_dot, b_dot in zip(p.tangents, b.tangents, strict=True):
        varied = _times(b.value, p_dot, product)
        if product is _guarded and varied.constant is None and isinstance(b.value, Single) and b.value.constant is None:
            varied = where(b.value == 0.0, 0.0, varied)
        tangents.append(_sum(_times(p.value, b_dot, product), varied))
    return Jet(_times(p.value, b.value, product), tangents)


def _product(a: Single, b: Single) -> Single:
    return b if b.constant == 0.0 else a * b


def _guarded(partial: Single, bar: Single) -> Single:
    product = _product(partial, bar)
    if partial.constant is not None or bar.constant is not None:
        return product
    return where((bar == 0.0) | (partial == 0.0), 0.0, product)


def where(condition: Any, a: Any, b: Any) -> Any:
    """`a` where the condition holds, else `b`; both are computed."""
    if not isinstance(condition, Condition):  # of numbers that are known
        return a if condition else b
    for x in (a, b):
        if isinstance(x, Compound):
            return x.chosen(condition, a, b)
    numbers = [x for x in (a, b) if isinstance(x, (Single, Jet))]
    if not numbers:
        return Choice(condition, a, b)
    emitter = numbers[0].emitter
    if any(isinstance(x, Jet) for x in numbers):
        jet = next(x for x in numbers if isinstance(x, Jet))
        first, second = jet._jet(a), jet._jet(b)
        pairs = zip(first.tangents, second.tangents, strict=True)
        return Jet(where(condition, first.value, second.value), [where(condition, u, v) for u, v in pairs])
    first, second = _as_wide(emitter.builder, on(emitter, a).value, on(emitter, b).value)
    if isinstance(condition.value.type, ir.VectorType):
        first, second, _ = _as_wide(emitter.builder, first, second, condition.value)
    return Single(emitter, emitter.builder.select(condition.value, first, second))


class Choice:
    """Between constants: as a partial, whether an operand was taken. It becomes a number where it is used as one."""

    def __init__(self, condition: Condition, a: Any, b: Any) -> None:
        self.condition, self.a, self.b = condition, a, b

    def on(self, emitter: Emitter) -> Single:
        """The number."""
        first, second = on(emitter, self.a), on(emitter, self.b)
        return Single(emitter, emitter.builder.select(self.condition.value, first.value, second.value))

    def is_taken(self, builder: Any) -> Any:
        """An LLVM bool: whether it isn't 0."""
        first, second = (
            x.is_taken(builder) if isinstance(x, Choice) else ir.Constant(ir.IntType(1), x != 0.0)
            for x in (self.a, self.b)
        )
        return builder.select(self.condition.value, first, second)


def on(emitter: Emitter, number: Any) -> Single | Jet:
    """What a rule gave, as a number: it may be a float, or a choice between floats."""
    if isinstance(number, Choice):
        return number.on(emitter)
    return emitter.single(number) if isinstance(number, (int, float)) else number


# --- rules ------------------------------------------------------------------------------------------------------------


class Rule(NamedTuple):
    """A function of scalars: `value(*operands)`, and `partials[i](*operands, result)`."""

    value: Callable[..., Any]
    partials: tuple[Callable[..., Any], ...]


def chain(rule: Rule, *operands: Any) -> Any:
    """The function at numbers that emit code: jets go by the chain rule."""
    jets = [x for x in operands if isinstance(x, Jet)]
    if not jets:
        return rule.value(*operands)
    emitter = jets[0].emitter
    values = [x.value if isinstance(x, Jet) else x.on(emitter) if isinstance(x, Choice) else x for x in operands]
    y = chain(rule, *values)
    tangents: list[Any] = [None] * len(jets[0].tangents)
    for x, partial in zip(operands, rule.partials, strict=True):
        if isinstance(x, Jet):
            p = partial(*values, y)
            for k, tangent in enumerate(x.tangents):
                term = weighed(p, tangent, values)
                tangents[k] = term if tangents[k] is None else tangents[k] + term
    return Jet(y, tangents)


def numba_function(function: Any) -> Callable[..., Any]:
    """A function that emits Numba's code for `function`, at values."""

    def emit(*operands: Any) -> Any:
        emitter = next(x.emitter for x in operands if isinstance(x, Single))
        return emitter.call(function, *(on(emitter, x) for x in operands))

    return emit


VALUES: dict[Op, Callable[..., Any]] = {}  # what emits an operation's value where a partial names it: see `names.py`


def rule_of(op: Op, value: Callable[..., Any]) -> Rule:
    """The rule of a function that is an operation: its own value, and the operation's partials."""
    return Rule(value, tuple(_of_all_operands(partial, op.arity) for partial in op.partials))


def _of_all_operands(partial: Callable[..., Any] | None, arity: int) -> Callable[..., Any]:
    """A partial, which names what it needs, as a function of all operands and the result, that emits code."""
    if partial is None:
        return lambda *_: 0.0
    needed = [{"x": 0, "a": 0, "b": 1, "c": 2, "d": 3, "y": arity}[name] for name in parameters(partial)]
    emitting = _emitting(partial)
    return lambda *numbers: emitting(*(numbers[k] for k in needed))


def _emitting(function: Any) -> Callable[..., Any]:
    """A function of `ops` for numbers that emit code: the operations that it names are `staged`."""
    names = dict(function.__globals__)
    for name in function.__code__.co_names:
        value = names.get(name)
        if isinstance(value, Op):
            names[name] = staged(value)
        elif isinstance(value, FunctionType) and value.__module__.startswith("tapegrad.ops."):
            names[name] = _emitting(value)
    return FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)


@functools.cache
def staged(op: Op) -> Callable[..., Any]:
    """An operation as a function of numbers that emit code, whose value, if no name says how, is its kernel's."""
    if op is logic.where:
        return where

    def emit(*operands: Any) -> Any:
        if all(isinstance(x, (int, float)) for x in operands):
            return float(op.function(*map(float, operands)))
        for x in operands:
            if isinstance(x, Compound):
                return x.applied(op, operands)
        return chain(rule(), *operands)

    @functools.cache
    def rule() -> Rule:  # operations name each other, in circles
        return rule_of(op, VALUES.get(op) or numba_function(scalar(op, by_address=True)))

    return emit


ZERO_ROW = ir.Constant(WORD, 0)
