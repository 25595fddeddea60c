"""The tape from jitted code: its address, its words, and its parts (`jacobian_tape.py`)."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.imputils import impl_ret_borrowed
from numba.extending import intrinsic

from tapegrad.core.workers import MOST_WORKERS
from tapegrad.jitted import jacobian_tape as tape
from tapegrad.jitted.active import DOUBLE, WORD, Active
from tapegrad.jitted.inner import define
from tapegrad.jitted.statements import known, shared

INDEX, BYTE = ir.IntType(32), ir.IntType(8)


def _external(builder: Any, name: str, n: int) -> Any:
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(WORD, [WORD] * n), name)


@intrinsic
def open_tape(typingctx: Any, kind: Any) -> Any:
    """The address of this thread's tape for a taped type."""
    offset = tape.place_of(kind.instance_type.n_tangents)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        key = shared(builder.module)
        header = builder.call(_external(builder, "tapegrad_get_specific", 1), [builder.load(key)])
        result = cgutils.alloca_once_value(builder, header)
        with cgutils.if_unlikely(builder, builder.icmp_signed("==", header, WORD(0))):
            address = builder.ptrtoint(key, WORD)
            builder.store(builder.call(_external(builder, "tapegrad_open_tapes", 1), [address]), result)
        return builder.add(builder.load(result), WORD(offset))

    return types.int64(kind), codegen


def _part(name: str, n: int) -> Any:
    """An intrinsic that calls a part with `n` int64. Its parameters have names, since Numba asks for them."""
    parameters = ", ".join(f"a{i}" for i in range(n))

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.call(_external(builder, f"tapegrad_{name}", n), args)

    scope = {"found": (types.int64(*[types.int64] * n), codegen)}
    return intrinsic(define(f"def {name}(typingctx, {parameters}):\n return found", name, scope))


reserve, take_rows, zero_adjoints = _part("reserve", 4), _part("take_rows", 3), _part("zero_adjoints", 2)
dispose = _part("dispose", 1)
sweep, sweep_with_tangents, sweep_mixed = (_part(name, 2) for name in ("sweep", "sweep_with_tangents", "sweep_mixed"))


def _part_of_crew(name: str, n: int) -> Any:
    """An intrinsic that calls a part with `n` int64, the crew, and how many workers there may be at most.

    These are those of `tapegrad.set_num_threads`, no more than `numba.set_num_threads` says on this thread.
    """
    parameters = ", ".join(f"a{i}" for i in range(n))

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        crew, limit = (builder.load(builder.gep(_words(builder, "tapegrad_crew"), [WORD(k)])) for k in range(2))
        most = cgutils.alloca_once_value(builder, WORD(MOST_WORKERS))
        with builder.if_then(builder.icmp_signed("!=", limit, WORD(0))):
            function = builder.inttoptr(limit, ir.FunctionType(INDEX, []).as_pointer())
            builder.store(builder.sub(builder.sext(builder.call(function, []), WORD), WORD(1)), most)
        return builder.call(_external(builder, f"tapegrad_{name}", n + 2), [*args, crew, builder.load(most)])

    scope = {"found": (types.int64(*[types.int64] * n), codegen)}
    return intrinsic(define(f"def {name}(typingctx, {parameters}):\n return found", name, scope))


# Of loops that run in chunks (`chunks.py`).
run_chunks, share_out = _part_of_crew("run_chunks", 3), _part_of_crew("share_out", 2)
end_chunks, sweep_chunk, add_whole, add_chunks = (
    _part(name, n) for name, n in (("end_chunks", 2), ("sweep_chunk", 5), ("add_whole", 3), ("add_chunks", 5))
)
plan_chunks, weigh, put_aside, put_back = (
    _part(name, n) for name, n in (("plan_chunks", 4), ("weigh", 3), ("put_aside", 3), ("put_back", 3))
)


def _words(builder: Any, name: str) -> Any:
    known = builder.module.globals.get(name)
    return ir.GlobalVariable(builder.module, WORD, name) if known is None else known


def sweep_of(kind: Active) -> Any:
    """The reverse sweep of a type's tape."""
    if not kind.n_tangents:
        return sweep
    return sweep_with_tangents if kind.depth == 1 else sweep_mixed


@intrinsic
def known_row(typingctx: Any, header: Any, row: Any) -> Any:
    """A row that there is; nobody's for any other, which may have been read beyond an array's end."""
    return types.int64(types.int64, types.int64), lambda context, builder, sig, args: known(builder, *args)


# --- memory at an address: element `k` of an array that begins there ------------------------------------------------


def _getter(element: Any, kind: Any) -> Any:
    @intrinsic
    def get(typingctx: Any, address: Any, k: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            found = builder.load(builder.gep(builder.inttoptr(args[0], element.as_pointer()), [args[1]]))
            return builder.sext(found, WORD) if element == INDEX else found

        return kind(types.int64, types.int64), codegen

    return get


def _putter(element: Any, kind: Any) -> Any:
    @intrinsic
    def put(typingctx: Any, address: Any, k: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            given = builder.trunc(args[2], element) if element in (INDEX, BYTE) else args[2]
            builder.store(given, builder.gep(builder.inttoptr(args[0], element.as_pointer()), [args[1]]))
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, kind), codegen

    return put


get_word, put_word = _getter(WORD, types.int64), _putter(WORD, types.int64)
get_number, put_number = _getter(DOUBLE, types.float64), _putter(DOUBLE, types.float64)
get_index, put_index = _getter(INDEX, types.int64), _putter(INDEX, types.int64)
put_byte = _putter(BYTE, types.int64)


# --- values -----------------------------------------------------------------------------------------------------------


@intrinsic
def place_of(typingctx: Any, x: Any) -> Any:
    """The address of a value, in this function's memory."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.ptrtoint(cgutils.alloca_once_value(builder, args[0]), WORD)

    return types.int64(x), codegen


@intrinsic
def value_at(typingctx: Any, kind: Any, address: Any) -> Any:
    """The value of a type that is at an address."""
    made = kind.instance_type

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = builder.inttoptr(args[1], context.get_value_type(made).as_pointer())
        return impl_ret_borrowed(context, builder, made, builder.load(place, align=8))

    return made(kind, address), codegen


@intrinsic
def held(typingctx: Any, x: Any, y: Any) -> Any:
    """Have values live up to here."""
    return types.void(x, y), lambda context, builder, sig, args: context.get_dummy_value()
