"""The tape from jitted code: its address, its words, and its parts (`tape.py`)."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from tapegrad.jitted import tape
from tapegrad.jitted.scalars import DOUBLE, WORD
from tapegrad.jitted.statements import shared


def _external(builder: Any, name: str, n: int) -> Any:
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(WORD, [WORD] * n), name)


@intrinsic
def open_tape(typingctx: Any, kind: Any) -> Any:
    """The address of this thread's tape for a taped type."""
    offset = tape.TANGENT if kind.instance_type.n_tangents else tape.PLAIN

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
    @intrinsic
    def part1(typingctx: Any, a: Any) -> Any:
        return types.int64(types.int64), codegen

    @intrinsic
    def part2(typingctx: Any, a: Any, b: Any) -> Any:
        return types.int64(types.int64, types.int64), codegen

    @intrinsic
    def part3(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
        return types.int64(types.int64, types.int64, types.int64), codegen

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.call(_external(builder, f"tapegrad_{name}", n), args)

    @intrinsic
    def part4(typingctx: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
        return types.int64(types.int64, types.int64, types.int64, types.int64), codegen

    return (part1, part2, part3, part4)[n - 1]


reserve, take_rows, zero_adjoints = _part("reserve", 4), _part("take_rows", 3), _part("zero_adjoints", 2)
dispose = _part("dispose", 1)
sweep, sweep_with_tangents = _part("sweep", 2), _part("sweep_with_tangents", 2)


@intrinsic
def get_word(typingctx: Any, address: Any, k: Any) -> Any:
    """A word at an address."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(builder.gep(builder.inttoptr(args[0], WORD.as_pointer()), [args[1]]))

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def put_word(typingctx: Any, address: Any, k: Any, word: Any) -> Any:
    """Set a word at an address."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[2], builder.gep(builder.inttoptr(args[0], WORD.as_pointer()), [args[1]]))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic
def get_number(typingctx: Any, address: Any, k: Any) -> Any:
    """A float64 at an address."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(builder.gep(builder.inttoptr(args[0], DOUBLE.as_pointer()), [args[1]]))

    return types.float64(types.int64, types.int64), codegen


@intrinsic
def put_number(typingctx: Any, address: Any, k: Any, number: Any) -> Any:
    """Set a float64 at an address."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[2], builder.gep(builder.inttoptr(args[0], DOUBLE.as_pointer()), [args[1]]))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.float64), codegen
