"""Numbers that are computed now, or written down as LLVM instructions: what `vectormath` is made of.

A function over these primitives and Python's operators runs two ways. Over NumPy scalars or arrays it computes, each
element in the width of the operands (constants are Python floats, which take that width). Over a `Lane` it emits LLVM
instructions, one for each operation, straight into the kernel that calls it: no branches, so LLVM's loop vectoriser
packs them, and no types to infer, so it costs Numba next to nothing.

`mad` rounds once where the machine can, else twice. What needs the rounding error itself asks `two_product` for it.
"""

from __future__ import annotations

import functools
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


def is_floating(x: Any) -> bool:
    """Whether a number is a float64 or a float32."""
    return x.is_floating if isinstance(x, Lane) else x.dtype.kind == "f"


def number(value: float, like: Any) -> Any:
    """A constant in the width of another number."""
    return like.of(like.like(value)) if isinstance(like, Lane) else like.dtype.type(value)


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
    factor = 4097.0 if is_single(like) else 134217729.0
    if type(a) is float:  # a constant has the width of the other operand, and so have its parts
        a = np.float32(a) if is_single(like) else np.float64(a)
        high, low = _split(a, a)
        return float(high), float(low)
    shifted = a * factor
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

    It becomes a call in a branch of its own. LLVM packs a loop with such a call in it if it is told of functions that
    do the same for 2, 4, 8 or 16 lanes under a mask (its "vector function ABI"), so those are there too: they call the
    one for a lane where the mask is set, and mostly nothing at all.
    """
    if not isinstance(x, Lane):
        return np.where(condition, function(x), y)[()] if np.any(condition) else y
    kind, module = x.value.type, x.builder.module
    name = f"{function.__name__.strip('_')}_{kind}"
    if name not in module.globals:
        _define_rare(module, name, function, x)
    start = x.builder.block
    with x.builder.if_then(condition.value, likely=False):
        called, end = x.builder.call(module.globals[name], [x.value]), x.builder.block
        known = ",".join(f"_ZGV_LLVM_M{n}v_{name}({name}_{n})" for n in _LANES)
        called.attributes.update([f'"vector-function-abi-variant"="{known}"'])  # unknown to llvmlite's own check
    chosen = x.builder.phi(kind)
    chosen.add_incoming(y.value, start)
    chosen.add_incoming(called, end)
    return x.of(chosen)


_LANES = (2, 4, 8, 16)


def _define_rare(module: Any, name: str, function: Callable[[Any], Any], x: Lane) -> None:
    """A function of a lane, and the same for several lanes under a mask."""
    from llvmlite import ir

    def define(name: str, result: Any, *operands: Any) -> tuple[Any, Any]:
        made = ir.Function(module, ir.FunctionType(result, operands), name)
        made.linkage = "internal"
        for fact in ("noinline", "nounwind", "readnone"):
            made.attributes.add(fact)
        return made, ir.IRBuilder(made.append_basic_block())

    kind = x.value.type
    one, builder = define(name, kind, kind)
    builder.ret(function(Lane(builder, one.args[0], x.fused)).value)
    several = []
    for n in _LANES:
        vector, mask = ir.VectorType(kind, n), ir.VectorType(ir.IntType(1), n)
        made, builder = define(f"{name}_{n}", vector, vector, mask)
        several.append(made)
        result = made.args[0]
        set_bits = builder.bitcast(made.args[1], ir.IntType(n))
        with builder.if_then(builder.icmp_unsigned("==", set_bits, ir.IntType(n)(0)), likely=True):
            builder.ret(result)
        for k in range(n):
            at = ir.IntType(32)(k)
            start = builder.block
            with builder.if_then(builder.extract_element(made.args[1], at)):
                value = builder.call(one, [builder.extract_element(made.args[0], at)])
                changed, end = builder.insert_element(result, value, at), builder.block
            chosen = builder.phi(vector)
            chosen.add_incoming(result, start)
            chosen.add_incoming(changed, end)
            result = chosen
        builder.ret(result)
    _keep(module, several)


def _keep(module: Any, functions: list[Any]) -> None:
    """Have functions stay until a loop may want them."""
    from llvmlite import ir

    pointers = [f.bitcast(ir.IntType(8).as_pointer()) for f in functions]
    name = "llvm.compiler.used"
    if name in module.globals:
        used = module.globals.pop(name)
        pointers = [*used.initializer.constant, *pointers]
    kind = ir.ArrayType(ir.IntType(8).as_pointer(), len(pointers))
    used = ir.GlobalVariable(module, kind, name)
    used.linkage, used.section, used.initializer = "appending", "llvm.metadata", kind(pointers)


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
                return context.compile_internal(builder, lambda a, b: a**b, signature, args)
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
