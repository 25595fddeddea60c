"""Numbers that are computed now, or written down as LLVM instructions: what `vectormath` is made of.

A function over these primitives and Python's operators runs two ways. Over NumPy scalars or arrays it computes, each
element in the width of the operands (constants are Python floats, which take that width). Over a `Lane` it emits LLVM
instructions, one for each operation, straight into the kernel that calls it: no branches, so LLVM's loop vectoriser
packs them, and no types to infer, so it costs Numba next to nothing.

`mad` rounds once where the machine can, else twice. What needs the rounding error itself asks `two_product` for it.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

import numpy as np

_INTEGER = {"double": "i64", "float": "i32"}


class Lane:
    """A number that a kernel will have in a register: an LLVM value, and the builder that is writing the kernel."""

    __slots__ = ("builder", "fused", "value")

    def __init__(self, builder: Any, value: Any, fused: bool) -> None:
        self.builder, self.value, self.fused = builder, value, fused

    def of(self, value: Any) -> Lane:
        """Another value in the same kernel."""
        return Lane(self.builder, value, self.fused)

    def like(self, other: Any) -> Any:
        """The LLVM value of an operand: a constant takes the type of this lane."""
        return other.value if isinstance(other, Lane) else self.value.type(other)

    def type_named(self, name: str) -> Any:
        """An LLVM type."""
        from llvmlite import ir

        types = {"double": ir.DoubleType(), "float": ir.FloatType(), "i64": ir.IntType(64), "i32": ir.IntType(32)}
        return types[name]

    def intrinsic(self, name: str, *operands: Any) -> Lane:
        """The result of an instruction that LLVM has under a name, for operands of one type."""
        from llvmlite import ir  # in the process whenever there is a lane

        kind = self.value.type
        signature = ir.FunctionType(kind, [kind] * len(operands))
        function = self.builder.module.declare_intrinsic(name, [kind], signature)
        return self.of(self.builder.call(function, [self.like(o) for o in operands]))

    def _binary(self, floating: str, integer: str, a: Any, b: Any) -> Lane:
        name = floating if self.is_floating else integer
        return self.of(getattr(self.builder, name)(self.like(a), self.like(b)))

    def _compare(self, symbol: str, other: Any) -> Lane:
        if not self.is_floating:
            return self.of(self.builder.icmp_signed(symbol, self.value, self.like(other)))
        compare = self.builder.fcmp_unordered if symbol == "!=" else self.builder.fcmp_ordered
        return self.of(compare(symbol, self.value, self.like(other)))

    @property
    def is_floating(self) -> bool:
        """Whether it is a float64 or a float32."""
        return str(self.value.type) in _INTEGER

    def __add__(self, other: Any) -> Lane:
        return self._binary("fadd", "add", self, other)

    def __radd__(self, other: Any) -> Lane:
        return self._binary("fadd", "add", other, self)

    def __sub__(self, other: Any) -> Lane:
        return self._binary("fsub", "sub", self, other)

    def __rsub__(self, other: Any) -> Lane:
        return self._binary("fsub", "sub", other, self)

    def __mul__(self, other: Any) -> Lane:
        return self._binary("fmul", "mul", self, other)

    def __rmul__(self, other: Any) -> Lane:
        return self._binary("fmul", "mul", other, self)

    def __truediv__(self, other: Any) -> Lane:
        return self._binary("fdiv", "", self, other)

    def __rtruediv__(self, other: Any) -> Lane:
        return self._binary("fdiv", "", other, self)

    def __lshift__(self, other: Any) -> Lane:
        return self._binary("", "shl", self, other)

    def __rshift__(self, other: Any) -> Lane:
        return self._binary("", "ashr", self, other)

    def __and__(self, other: Any) -> Lane:
        return self._binary("", "and_", self, other)

    def __or__(self, other: Any) -> Lane:
        return self._binary("", "or_", self, other)

    def __xor__(self, other: Any) -> Lane:
        return self._binary("", "xor", self, other)

    def __invert__(self) -> Lane:
        return self.of(self.builder.not_(self.value))

    def __neg__(self) -> Lane:
        return self.of(self.builder.fneg(self.value) if self.is_floating else self.builder.neg(self.value))

    def __abs__(self) -> Lane:
        return self.intrinsic("llvm.fabs", self)

    def __lt__(self, other: Any) -> Lane:
        return self._compare("<", other)

    def __le__(self, other: Any) -> Lane:
        return self._compare("<=", other)

    def __gt__(self, other: Any) -> Lane:
        return self._compare(">", other)

    def __ge__(self, other: Any) -> Lane:
        return self._compare(">=", other)

    def __eq__(self, other: object) -> Lane:  # type: ignore[override]
        return self._compare("==", other)

    def __ne__(self, other: object) -> Lane:  # type: ignore[override]
        return self._compare("!=", other)

    __hash__ = None  # type: ignore[assignment]


def _lane(*operands: Any) -> Lane | None:
    return next((o for o in operands if isinstance(o, Lane)), None)


def is_single(x: Any) -> bool:
    """Whether a number is a float32."""
    return str(x.value.type) == "float" if isinstance(x, Lane) else x.dtype == np.float32


def where(condition: Any, a: Any, b: Any) -> Any:
    """`a` where the condition holds, else `b`; both are computed."""
    lane = _lane(a, b)
    if lane is None:
        return np.where(condition, a, b)[()]
    return lane.of(lane.builder.select(condition.value, lane.like(a), lane.like(b)))


def mad(a: Any, b: Any, c: Any) -> Any:
    """`a * b + c`, rounded once where the machine has an instruction for it."""
    lane = _lane(a, b, c)
    if lane is None or not lane.fused:
        return a * b + c
    return lane.intrinsic("llvm.fma", a, b, c)


def two_product(a: Any, b: Any) -> tuple[Any, Any]:
    """`a * b` and its rounding error; without fused multiply-add by Dekker's splitting (1971), for |a|, |b| < 2^996."""
    p = a * b
    lane = _lane(a, b)
    if lane is not None and lane.fused:
        return p, mad(a, b, -p)
    (a1, a2), (b1, b2) = _split(a, p), _split(b, p)
    return p, ((a1 * b1 - p) + a1 * b2 + a2 * b1) + a2 * b2


def minus_product(x: Any, a: Any, b: Any) -> Any:
    """`x - a * b`, exact where that is a number of their width."""
    lane = _lane(a, b)
    if lane is not None and lane.fused:
        return mad(-a, b, x)
    p, e = two_product(a, b)
    return (x - p) - e


def _split(a: Any, like: Any) -> tuple[Any, Any]:
    shifted = a * (4097.0 if is_single(like) else 134217729.0)
    high = shifted - (shifted - a)
    return high, a - high


def two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """`a + b` and its rounding error, of any two numbers (Knuth)."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def fast_two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """`a + b` and its rounding error, where |a| >= |b| or a is 0 (Dekker)."""
    s = a + b
    return s, b - (s - a)


def square_root(x: Any) -> Any:
    """The square root."""
    return x.intrinsic("llvm.sqrt", x) if isinstance(x, Lane) else np.sqrt(x)


def floor(x: Any) -> Any:
    """The greatest integer not above `x`."""
    return x.intrinsic("llvm.floor", x) if isinstance(x, Lane) else np.floor(x)


def copysign(x: Any, sign: Any) -> Any:
    """`x` with the sign of the second."""
    lane = _lane(x, sign)
    return np.copysign(x, sign) if lane is None else lane.intrinsic("llvm.copysign", x, sign)


def bits(x: Any) -> Any:
    """The integer with the same bits as a float."""
    if not isinstance(x, Lane):
        return x.view(np.int32 if x.dtype == np.float32 else np.int64)
    return x.of(x.builder.bitcast(x.value, x.type_named(_INTEGER[str(x.value.type)])))


def from_bits(i: Any) -> Any:
    """The float with the same bits as an integer."""
    if not isinstance(i, Lane):
        return i.view(np.float32 if i.dtype == np.int32 else np.float64)
    return i.of(i.builder.bitcast(i.value, i.type_named("float" if str(i.value.type) == "i32" else "double")))


def widen(x: Any) -> Any:
    """A float32 as float64."""
    return x.of(x.builder.fpext(x.value, x.type_named("double"))) if isinstance(x, Lane) else x.astype(np.float64)


def narrow(x: Any) -> Any:
    """A float64 rounded to float32."""
    return x.of(x.builder.fptrunc(x.value, x.type_named("float"))) if isinstance(x, Lane) else x.astype(np.float32)


def lookup(table: tuple[float, ...], i: Any) -> Any:
    """The entry `i` of a table of float64."""
    if not isinstance(i, Lane):
        return np.array(table)[i]
    from llvmlite import ir

    kind = ir.ArrayType(ir.DoubleType(), len(table))
    name = f"table.{hash(table) & (2**64 - 1):x}"
    known = i.builder.module.globals
    if name not in known:
        constant = ir.GlobalVariable(i.builder.module, kind, name)
        constant.linkage, constant.global_constant, constant.initializer = "internal", True, kind(table)
    place = i.builder.gep(known[name], [i.value.type(0), i.value], inbounds=True)
    return i.of(i.builder.load(place))


def rarely(condition: Any, function: Callable[[Any], Any], x: Any, y: Any) -> Any:
    """`function(x)` where the condition holds, else `y`; the function is computed only there.

    It becomes a call without side effects in a branch of its own. Where LLVM packs the rest of a loop, it tests the
    condition lane by lane, which costs about a quarter of a nanosecond each.
    """
    if not isinstance(x, Lane):
        return np.where(condition, function(x), y)[()] if np.any(condition) else y
    from llvmlite import ir

    kind, module = x.value.type, x.builder.module
    name = f"{function.__module__}.{function.__qualname__}.{kind}"
    called = module.globals.get(name)
    if called is None:
        called = ir.Function(module, ir.FunctionType(kind, [kind]), name)
        called.linkage = "internal"
        for fact in ("noinline", "nounwind", "readnone"):
            called.attributes.add(fact)
        body = ir.IRBuilder(called.append_basic_block())
        body.ret(function(Lane(body, called.args[0], x.fused)).value)
    start = x.builder.block
    with x.builder.if_then(condition.value, likely=False):
        other, end = x.builder.call(called, [x.value]), x.builder.block
    chosen = x.builder.phi(kind)
    chosen.add_incoming(y.value, start)
    chosen.add_incoming(other, end)
    return x.of(chosen)


def polynomial(x: Any, coefficients: Iterable[float]) -> Any:
    """`c[0] + c[1] x + c[2] x² + ...`: by pairs, then pairs of pairs (Estrin 1960), so that few wait for another."""
    terms: list[Any] = list(coefficients)
    power = x
    while len(terms) > 1:
        terms = [mad(power, b, a) for a, b in zip(terms[::2], terms[1::2], strict=False)] + terms[len(terms) & ~1 :]
        power = power * power if len(terms) > 1 else power
    return terms[0]


def operation(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function over the primitives as one over Python's numbers too, which are taken for float64."""

    @functools.wraps(function)
    def over_numbers(*operands: Any) -> Any:
        known = (Lane, np.ndarray, np.generic)
        return function(*(o if isinstance(o, known) else np.float64(o) for o in operands))

    return over_numbers


def in_numba(functions: Iterable[Callable[..., Any]], fused: bool) -> ModuleType:
    """A module of the same functions for Numba's compiled code, typed by their operands' type.

    Integers and bools are raised to powers as `a ** b`; other functions of them are those of float64.
    """
    from numba import types
    from numba.extending import intrinsic

    def made(function: Callable[..., Any]) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            result = signature.return_type
            if not isinstance(result, types.Float):
                return context.compile_internal(builder, operator.pow, signature, args)
            given = zip(args, signature.args, strict=True)
            return function(*(Lane(builder, context.cast(builder, a, t, result), fused) for a, t in given)).value

        def typed(*operands: Any) -> Any:
            if function.__name__ == "pow" and not any(isinstance(t, types.Float) for t in operands):
                return operands[0](*operands), codegen
            single = all(t == types.float32 for t in operands)
            return (types.float32 if single else types.float64)(*operands), codegen

        if function.__code__.co_argcount == 1:
            return intrinsic(lambda typingctx, x: typed(x))
        return intrinsic(lambda typingctx, a, b: typed(a, b))

    module = ModuleType("vectormath")
    for function in functions:
        setattr(module, function.__name__, made(function.__wrapped__))  # type: ignore[attr-defined]
    return module
