"""Numbers that are computed now, or written down as LLVM instructions: what `vectormath` is made of.

A function over these primitives and Python's operators runs two ways. Over NumPy scalars or arrays it computes, each
element in the width of the operands (constants are Python floats, which take that width). Over a `Lane` it emits LLVM
instructions, one for each operation: no types to infer, so it costs Numba next to nothing.

    @operation   straight into the kernel that calls it: no branches, so LLVM's loop vectoriser packs it
    @apart       into a function of its own, for one number and for a register of them: it may branch (`rarely`), and
                 the loop vectoriser has a packed loop call the one for a register

`mad` rounds once where the machine can, else twice. What needs the rounding error itself asks `two_product` for it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

_INTEGER = {"double": "i64", "float": "i32"}


class Machine(NamedTuple):
    """What the code that is written depends on."""

    fused: bool  # whether there are instructions for a * b + c
    register: int = 16  # bytes in a register
    convention: str = "ccc"  # of calls that preserve some registers for vectors


class Lane:
    """A number that a kernel will have in a register, or a vector of them: an LLVM value, and the kernel's builder."""

    __slots__ = ("builder", "machine", "value")

    def __init__(self, builder: Any, value: Any, machine: Machine) -> None:
        self.builder, self.value, self.machine = builder, value, machine

    @property
    def kind(self) -> str:
        """The LLVM type of a number."""
        return str(getattr(self.value.type, "element", self.value.type))

    @property
    def count(self) -> int:
        """How many numbers: 0 for one that isn't in a vector."""
        return getattr(self.value.type, "count", 0)

    @property
    def is_floating(self) -> bool:
        """Whether it is a float64 or a float32."""
        return self.kind in _INTEGER

    @property
    def fused(self) -> bool:
        """Whether there are instructions for a * b + c."""
        return self.machine.fused

    def of(self, value: Any) -> Lane:
        """Another value in the same kernel."""
        return Lane(self.builder, value, self.machine)

    def like(self, other: Any) -> Any:
        """The LLVM value of an operand: a constant takes the type of this lane."""
        return other.value if isinstance(other, Lane) else self.value.type(other)

    def type_named(self, name: str) -> Any:
        """An LLVM type, for as many numbers as here."""
        from llvmlite import ir

        types = {"double": ir.DoubleType(), "float": ir.FloatType(), "i64": ir.IntType(64), "i32": ir.IntType(32)}
        return ir.VectorType(types[name], self.count) if self.count else types[name]

    def intrinsic(self, name: str, *operands: Any) -> Lane:
        """The result of an instruction that LLVM has under a name, for operands of one type."""
        from llvmlite import ir  # in the process whenever there is a lane

        kind, module = self.value.type, self.builder.module
        name = f"{name}.{f'v{self.count}' if self.count else ''}{'f64' if self.kind == 'double' else 'f32'}"
        if name not in module.globals:
            ir.Function(module, ir.FunctionType(kind, [kind] * len(operands)), name)
        return self.of(self.builder.call(module.globals[name], [self.like(o) for o in operands]))

    def _binary(self, floating: str, integer: str, a: Any, b: Any) -> Lane:
        name = floating if self.is_floating else integer
        return self.of(getattr(self.builder, name)(self.like(a), self.like(b)))

    def _compare(self, symbol: str, other: Any) -> Lane:
        if not self.is_floating:
            return self.of(self.builder.icmp_signed(symbol, self.value, self.like(other)))
        compare = self.builder.fcmp_unordered if symbol == "!=" else self.builder.fcmp_ordered
        return self.of(compare(symbol, self.value, self.like(other)))

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
    return x.kind == "float" if isinstance(x, Lane) else x.dtype == np.float32


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


def outside(x: Any, low: float, high: float) -> Any:
    """Whether not low <= x < high, for 0 < low; nan and negative numbers are outside. It is one comparison of bits."""
    if not isinstance(x, Lane):
        return ~((x >= low) & (x < high))
    kinds = (np.float32, np.int32) if is_single(x) else (np.float64, np.int64)
    first, end = (int(kinds[0](limit).view(kinds[1])) for limit in (low, high))
    above = bits(x) - first
    return x.of(x.builder.icmp_unsigned(">=", above.value, above.like(end - first)))


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
    return x.of(x.builder.bitcast(x.value, x.type_named(_INTEGER[x.kind])))


def from_bits(i: Any) -> Any:
    """The float with the same bits as an integer."""
    if not isinstance(i, Lane):
        return i.view(np.float32 if i.dtype == np.int32 else np.float64)
    return i.of(i.builder.bitcast(i.value, i.type_named("float" if i.kind == "i32" else "double")))


def whole(i: Any) -> Any:
    """An integer, of less than 52 bits if it has 64, as a float of the same width."""
    if not isinstance(i, Lane):
        return i.astype(np.float32 if i.dtype == np.int32 else np.float64)
    if i.kind == "i32":
        return i.of(i.builder.sitofp(i.value, i.type_named("float")))
    return from_bits(i + 0x4338000000000000) - 1.5 * 2.0**52  # few processors have an instruction for it


def widen(x: Any) -> Any:
    """A float32 as float64."""
    return x.of(x.builder.fpext(x.value, x.type_named("double"))) if isinstance(x, Lane) else x.astype(np.float64)


def narrow(x: Any) -> Any:
    """A float64 rounded to float32."""
    return x.of(x.builder.fptrunc(x.value, x.type_named("float"))) if isinstance(x, Lane) else x.astype(np.float32)


def lookup(table: tuple[float, ...], i: Any) -> Any:
    """The entry `i` of a table of floats as wide as that integer; a table of 16 stays in registers with AVX-512."""
    if not isinstance(i, Lane):
        return np.array(table, np.float32 if i.dtype == np.int32 else np.float64)[i]
    if i.count and i.machine.register == 64 and len(table) == 16:
        return _permuted(table, i)
    from llvmlite import ir

    module, kind = i.builder.module, ir.FloatType() if i.kind == "i32" else ir.DoubleType()
    name = f"table.{hash(table) & (2**64 - 1):x}_{kind}"
    if name not in module.globals:
        constant = ir.GlobalVariable(module, ir.ArrayType(kind, len(table)), name)
        constant.linkage, constant.global_constant = "internal", True
        constant.initializer = constant.value_type(table)

    def entry(at: Any) -> Any:
        return i.builder.load(i.builder.gep(module.globals[name], [at.type(0), at], inbounds=True))

    if not i.count:
        return i.of(entry(i.value))
    result = ir.Constant(ir.VectorType(kind, i.count), ir.Undefined)
    for k in map(ir.IntType(32), range(i.count)):
        result = i.builder.insert_element(result, entry(i.builder.extract_element(i.value, k)), k)
    return i.of(result)


def _permuted(table: tuple[float, ...], i: Lane) -> Lane:
    """Look up from one register, or two, by an instruction over as many indices as a whole one holds."""
    from llvmlite import ir

    kind, count = (ir.FloatType(), 16) if i.kind == "i32" else (ir.DoubleType(), 8)
    vector = ir.VectorType(kind, count)
    integers = ir.VectorType(ir.IntType(32), count)
    index = i.value
    if i.count < count:
        index = i.builder.shuffle_vector(index, index, integers([k % i.count for k in range(count)]))
    if count == 16:
        name, given = "llvm.x86.avx512.permvar.sf.512", [vector(table), index]
    else:
        name, given = "llvm.x86.avx512.vpermi2var.pd.512", [vector(table[:8]), index, vector(table[8:])]
    known = i.builder.module.globals
    if name not in known:
        ir.Function(i.builder.module, ir.FunctionType(vector, [value.type for value in given]), name)
    entries = i.builder.call(known[name], given)
    if i.count < count:
        entries = i.builder.shuffle_vector(
            entries, entries, ir.VectorType(ir.IntType(32), i.count)(list(range(i.count)))
        )
    return i.of(entries)


def rarely(condition: Any, function: Callable[..., Any], y: Any, *operands: Any) -> Any:
    """`function(*operands)` where the condition holds, else `y`: for what is slow, as it is computed only there.

    It is a branch, which for a vector is taken if any lane needs it: for use in what is `apart`.
    """
    lane = _lane(*operands)
    if lane is None:
        return np.where(condition, function(*operands), y)[()] if np.any(condition) else y
    builder, start = lane.builder, lane.builder.block
    given = [lane.like(o) for o in operands]
    if lane.count:
        where_set = builder.bitcast(condition.value, _integer(lane.count))
        needed = builder.icmp_unsigned("!=", where_set, where_set.type(0))
    else:
        needed = condition.value
    with builder.if_then(needed, likely=False):
        if lane.count:
            called = builder.call(_one_by_one(lane, function, len(operands)), [y.value, where_set, *given])
        else:
            called = builder.call(_defined(lane, function, len(operands)), given)
        end = builder.block
    chosen = builder.phi(y.value.type)
    chosen.add_incoming(y.value, start)
    chosen.add_incoming(called, end)
    return lane.of(chosen)


def _integer(width: int) -> Any:
    from llvmlite import ir

    return ir.IntType(width)


def _name(lane: Lane, function: Callable[..., Any]) -> str:
    """The name of the function for one number of this width."""
    return f"{function.__name__.strip('_')}_{lane.kind}{'' if lane.fused else '_unfused'}"


def _begun(module: Any, name: str, result: Any, operands: list[Any], convention: str) -> tuple[Any, Any]:
    """A function without a body, and a builder for that; of those that modules bring along, the linker keeps one."""
    from llvmlite import ir

    made = ir.Function(module, ir.FunctionType(result, operands), name)
    made.linkage = "linkonce_odr"
    made.calling_convention = convention
    # `willreturn` is unknown to llvmlite's own check; LLVM won't compute a call where it isn't needed without it.
    made.attributes.update(("noinline", "nounwind", "readnone", "willreturn"))
    return made, ir.IRBuilder(made.append_basic_block())


def _defined(lane: Lane, function: Callable[..., Any], arity: int, count: int = 0) -> Any:
    """The LLVM function for one number, or for a vector of `count`."""
    from llvmlite import ir

    module, kind = lane.builder.module, lane.value.type
    name = _name(lane, function) + (f"_{count}" if count else "")
    if name not in module.globals:
        kind = getattr(kind, "element", kind)
        kind = ir.VectorType(kind, count) if count else kind
        made, builder = _begun(module, name, kind, [kind] * arity, lane.machine.convention if count else "ccc")
        builder.ret(function(*(Lane(builder, a, lane.machine) for a in made.args)).value)
    return module.globals[name]


def _one_by_one(lane: Lane, function: Callable[..., Any], arity: int) -> Any:
    """The LLVM function that changes those numbers of a vector whose bits are set."""
    module, vector, name = lane.builder.module, lane.value.type, f"{_name(lane, function)}_of_{lane.count}"
    if name in module.globals:
        return module.globals[name]
    one, integer = _defined(lane, function, arity), _integer(lane.count)
    made, builder = _begun(module, name, vector, [vector, integer, *[vector] * arity], lane.machine.convention)
    start, loop, end = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("end")
    builder.branch(loop)
    builder.position_at_end(loop)
    y, left = builder.phi(vector), builder.phi(integer)
    at = builder.cttz(left, _integer(1)(1))
    changed = builder.insert_element(y, builder.call(one, [builder.extract_element(a, at) for a in made.args[2:]]), at)
    fewer = builder.and_(left, builder.sub(left, integer(1)))
    for phi, first, next_one in ((y, made.args[0], changed), (left, made.args[1], fewer)):
        phi.add_incoming(first, start)
        phi.add_incoming(next_one, loop)
    builder.cbranch(builder.icmp_unsigned("!=", fewer, integer(0)), loop, end)
    builder.position_at_end(end)
    builder.ret(changed)
    return made


def _called(function: Callable[..., Any], lane: Lane, operands: tuple[Any, ...]) -> Lane:
    """A call of what is `apart`; of one number, a call that the loop vectoriser may make one of a vector.

    It is told by LLVM's "vector function ABI": the call names the functions for vectors. Half a register is for loops
    over numbers of both widths, and for processors that had better not use the whole.
    """
    arity = len(operands)
    called = lane.builder.call(_defined(lane, function, arity, lane.count), [lane.like(o) for o in operands])
    if not lane.count:
        whole = lane.machine.register // (8 if lane.kind == "double" else 4)
        counts, name = [n for n in (whole, whole // 2) if n > 1], _name(lane, function)
        known = ",".join(f"_ZGV_LLVM_N{n}{'v' * arity}_{name}({name}_{n})" for n in counts)
        called.attributes.update([f'"vector-function-abi-variant"="{known}"'])  # unknown to llvmlite's own check
        _keep(lane.builder.module, [_defined(lane, function, arity, n) for n in counts])
    return lane.of(called)


def _keep(module: Any, functions: list[Any]) -> None:
    """Have functions stay until a loop may want them."""
    from llvmlite import ir

    pointers = [f.bitcast(ir.IntType(8).as_pointer()) for f in functions]
    name = "llvm.compiler.used"
    used = module.globals.get(name)
    if used is not None:
        known = used.initializer.constant
        pointers = [*known, *(p for p in pointers if p not in known)]
    kind = ir.ArrayType(ir.IntType(8).as_pointer(), len(pointers))
    if used is None:
        used = ir.GlobalVariable(module, kind, name)
        used.linkage, used.section = "appending", "llvm.metadata"
    used.value_type, used.type, used.initializer = kind, kind.as_pointer(), kind(pointers)  # there is only one


def polynomial(x: Any, coefficients: Iterable[float]) -> Any:
    """`c[0] + c[1] x + c[2] x² + ...`: pairs, or pairs of pairs, by themselves, and these from the last to the first.

    So few wait for another (Estrin 1960), but there are no more powers of `x` to compute than one, or two.
    """
    terms: list[Any] = list(coefficients)
    power = x
    for _ in range(2 if len(terms) > 12 else 1):
        terms = [mad(power, b, a) for a, b in zip(terms[::2], terms[1::2], strict=False)] + terms[len(terms) & ~1 :]
        power = power * power
    return functools.reduce(lambda total, term: mad(power, total, term), reversed(terms))


def operation(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function over the primitives as one over Python's numbers too, which are taken for float64."""

    @functools.wraps(function)
    def over_numbers(*operands: Any) -> Any:
        known = (Lane, np.ndarray, np.generic)
        return function(*(o if isinstance(o, known) else np.float64(o) for o in operands))

    return over_numbers


def apart(function: Callable[..., Any]) -> Callable[..., Any]:
    """An `operation` that compiled code doesn't hold but calls."""

    @functools.wraps(function)
    def over_numbers(*operands: Any) -> Any:
        lane = _lane(*operands)
        return over_plain(*operands) if lane is None else _called(function, lane, operands)

    over_plain = operation(function)
    return over_numbers


def in_numba(functions: Iterable[Callable[..., Any]], machine: Machine) -> ModuleType:
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
            return function(*(Lane(builder, context.cast(builder, a, t, result), machine) for a, t in given)).value

        def typed(*operands: Any) -> Any:
            if function.__name__ == "pow" and not any(isinstance(t, types.Float) for t in operands):
                return operands[0](*operands), codegen
            single = all(t == types.float32 for t in operands)
            return (types.float32 if single else types.float64)(*operands), codegen

        if len(inspect.signature(function).parameters) == 1:
            return intrinsic(lambda typingctx, x: typed(x))
        return intrinsic(lambda typingctx, a, b: typed(a, b))

    module = ModuleType("vectormath")
    for function in functions:
        setattr(module, function.__name__, made(function))
    return module
