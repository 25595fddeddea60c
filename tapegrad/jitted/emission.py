"""Numbers that emit machine code: what the rules are called with while a user's function is compiled.

A rule such as `lambda x, y: 1.0 - y * y` is plain arithmetic. Called with floats it gives a number; called with a
`Single` it emits the instructions that will; called with a `Jet` it emits those for a value and its tangents, which is
how one table of rules serves reverse mode, forward mode, and forward over reverse.

Partials are multiplied by tangents and adjoints in one way, `weighed`: one that is exactly 0 contributes exactly 0,
even where the partial is infinite. What was not taken leaves no nan. Of a product, whose partials are its own operands,
none is infinite unless the value is; it goes unguarded, which is what loops of plain arithmetic live on.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, Union

from llvmlite import ir
from numba.core import types
from numba.core.typing import signature

from tapegrad.jitted.active import DOUBLE, WORD, Active, Taped

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

    def compiled(self, function: Callable[..., Any], *arguments: Single) -> Single:
        """Code compiled from a Python function of float64."""
        kinds = [types.float64] * len(arguments)
        values = [a.value for a in arguments]
        code = self.context.compile_internal(self.builder, function, signature(types.float64, *kinds), values)
        return Single(self, code)

    def unpack(self, kind: Any, value: Any) -> Single | Jet:
        """The number in a value of an active type, or of a plain one."""
        if not isinstance(kind, Active):
            return Single(self, self.context.cast(self.builder, value, kind, types.float64))
        number = Single(self, self.builder.extract_value(value, 0))
        if not kind.n_tangents:
            return number
        tangents = self.builder.extract_value(value, 1)
        parts = [Single(self, self.builder.extract_value(tangents, k)) for k in range(kind.n_tangents)]
        return Jet(number, parts)

    def row_of(self, kind: Taped, value: Any) -> Any:
        """The row of a taped value."""
        return self.builder.extract_value(value, 2 if kind.n_tangents else 1)

    def pack(self, kind: Active, number: Single | Jet, row: Any = None) -> Any:
        """A value of an active type. Without a row it is one that nobody asks for its row."""
        jet = number if isinstance(number, Jet) else Jet(number, [self.single(0.0)] * kind.n_tangents)
        packed = ir.Constant(self.context.get_value_type(kind), ir.Undefined)
        packed = self.builder.insert_value(packed, jet.value.value, 0)
        if kind.n_tangents:
            tangents = ir.Constant(ir.ArrayType(DOUBLE, kind.n_tangents), ir.Undefined)
            for k, part in enumerate(jet.tangents):
                tangents = self.builder.insert_value(tangents, part.value, k)
            packed = self.builder.insert_value(packed, tangents, 1)
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


class Single(_Arithmetic):
    """A float64 in a register."""

    def __init__(self, emitter: Emitter, value: Any) -> None:
        self.emitter, self.value = emitter, value

    @property
    def constant(self) -> float | None:
        """Its number, where it is known now."""
        value = self.value
        return value.constant if isinstance(value, ir.Constant) and isinstance(value.constant, float) else None

    def _binary(self, op: Any, other: Any, reflected: bool = False) -> Any:
        if isinstance(other, Jet):
            return NotImplemented
        other = other if isinstance(other, Single) else self.emitter.single(other)
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
        return Single(self.emitter, instruction(a.value, b.value))

    def __neg__(self) -> Single:
        if self.constant is not None:
            return self.emitter.single(-self.constant)
        return Single(self.emitter, self.emitter.builder.fneg(self.value))

    def compared(self, sign: str, other: Any) -> Any:
        """An LLVM bool; false where either is nan."""
        other = _value(self.emitter, other)
        return self.emitter.builder.fcmp_ordered(sign, self.value, other.value)


class Jet(_Arithmetic):
    """A float64 and its tangents, in registers."""

    def __init__(self, value: Single, tangents: Sequence[Single]) -> None:
        self.value, self.tangents = value, list(tangents)

    @property
    def emitter(self) -> Emitter:
        """Where its instructions go."""
        return self.value.emitter

    @property
    def constant(self) -> float | None:
        """A jet is never a constant."""
        return None

    def _jet(self, other: Any) -> Jet:
        if isinstance(other, Jet):
            return other
        other = other if isinstance(other, Single) else self.emitter.single(other)
        return Jet(other, [self.emitter.single(0.0)] * len(self.tangents))

    def _binary(self, op: Any, other: Any, reflected: bool = False) -> Any:
        a, b = (self._jet(other), self) if reflected else (self, self._jet(other))
        x, y = a.value, b.value
        pairs = list(zip(a.tangents, b.tangents, strict=True))
        if op is operator.mul:
            return Jet(x * y, [_sum(weighed(y, u), weighed(x, v)) for u, v in pairs])
        if op is operator.truediv:
            q = x / y
            return Jet(q, [_shared_out(_sum(u, -weighed(q, v)), y) for u, v in pairs])
        return Jet(op(x, y), [_sum(u, v if op is operator.add else -v) for u, v in pairs])

    def __neg__(self) -> Jet:
        return Jet(-self.value, [-t for t in self.tangents])

    def compared(self, sign: str, other: Any) -> Any:
        """An LLVM bool, of the values."""
        return self.value.compared(sign, other)


def _value(emitter: Emitter, number: Any) -> Single:
    if isinstance(number, (Single, Jet)):
        return number.value if isinstance(number, Jet) else number
    return emitter.single(number)


def _sum(a: Single, b: Single) -> Single:
    """A sum of tangents: one that is known to be 0 is left out."""
    if 0.0 in (a.constant, b.constant):
        return b if a.constant == 0.0 else a
    return a + b


def _shared_out(a: Single, b: Single) -> Single:
    """A tangent over a number: 0 where it is exactly 0."""
    if a.constant == 0.0:
        return a
    return Single(a.emitter, a.emitter.builder.select(a.compared("==", 0.0), DOUBLE(0.0), (a / b).value))


def weighed(partial: Any, bar: Single | Jet, operands: Sequence[Any] = ()) -> Any:
    """A partial times an adjoint or a tangent: 0 where that is exactly 0, or where another operand was chosen."""
    if isinstance(partial, Choice):
        return where(partial.condition, weighed(partial.a, bar), weighed(partial.b, bar))
    if isinstance(partial, (int, float)):
        return bar.emitter.single(0.0) if partial == 0.0 else bar * partial
    product = _product if any(partial is x for x in operands) else _guarded
    if not isinstance(partial, Jet) and not isinstance(bar, Jet):
        return product(partial, bar)
    p, b = (partial, partial._jet(bar)) if isinstance(partial, Jet) else (bar._jet(partial), bar)
    tangents = []
    for p_dot, b_dot in zip(p.tangents, b.tangents, strict=True):
        varied = product(b.value, p_dot)
        if product is _guarded and varied.constant is None and b.value.constant is None:
            varied = where(b.value.compared("==", 0.0), 0.0, varied)
        tangents.append(_sum(product(p.value, b_dot), varied))
    return Jet(product(p.value, b.value), tangents)


def _product(a: Single, b: Single) -> Single:
    return b if b.constant == 0.0 else a * b


def _guarded(partial: Single, bar: Single) -> Single:
    product = _product(partial, bar)
    if partial.constant is not None or bar.constant is not None:
        return product
    return Single(bar.emitter, bar.emitter.builder.select(bar.compared("==", 0.0), DOUBLE(0.0), product.value))


def where(condition: Any, a: Any, b: Any) -> Any:
    """`a` where the condition holds, else `b`; both are computed."""
    if isinstance(condition, bool):
        return a if condition else b
    numbers = [x for x in (a, b) if isinstance(x, (Single, Jet))]
    if not numbers:
        return Choice(condition, a, b)
    emitter = numbers[0].emitter
    if any(isinstance(x, Jet) for x in numbers):
        jet = next(x for x in numbers if isinstance(x, Jet))
        first, second = jet._jet(a), jet._jet(b)
        pairs = zip(first.tangents, second.tangents, strict=True)
        return Jet(where(condition, first.value, second.value), [where(condition, u, v) for u, v in pairs])
    first, second = (x if isinstance(x, Single) else emitter.single(x) for x in (a, b))
    return Single(emitter, emitter.builder.select(condition, first.value, second.value))


class Choice:
    """Between constants: as a partial, whether an operand was taken. It becomes a number where it is used as one."""

    def __init__(self, condition: Any, a: Any, b: Any) -> None:
        self.condition, self.a, self.b = condition, a, b

    def on(self, emitter: Emitter) -> Single:
        """The number."""
        first, second = on(emitter, self.a), on(emitter, self.b)
        return Single(emitter, emitter.builder.select(self.condition, first.value, second.value))

    def is_taken(self, builder: Any) -> Any:
        """An LLVM bool: whether it isn't 0."""
        first, second = (
            x.is_taken(builder) if isinstance(x, Choice) else ir.Constant(ir.IntType(1), x != 0.0)
            for x in (self.a, self.b)
        )
        return builder.select(self.condition, first, second)


def on(emitter: Emitter, number: Any) -> Single | Jet:
    """What a rule gave, as a number: it may be a float, or a choice between floats."""
    if isinstance(number, Choice):
        return number.on(emitter)
    return emitter.single(number) if isinstance(number, (int, float)) else number


ZERO_ROW = ir.Constant(WORD, 0)
