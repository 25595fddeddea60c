"""Parts of the rows of nests in jitted code: see `nest_text.py`.

n_out rows | length 0 ... 0 BLOCK | the elements of arrays that are written to; numbers that are read behind
arguments  | row, value           | of the elements of each array; rows only where they don't follow each other
           | -, slot              | what the reverse needs besides
           | -, parameter         | shapes, places, numbers from before
           | n, address           | as of each block (`block_rows.py`)
"""

from __future__ import annotations

import functools
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np import arrayobj

from tapegrad.jitted.access import get_index, get_number, put_index, put_number
from tapegrad.jitted.active import Taped
from tapegrad.jitted.emission import Emitter, on, weighed
from tapegrad.jitted.inner import define, inside
from tapegrad.jitted.lifting import make, row_of, value_of
from tapegrad.jitted.names import RULES, whole_power

KIND = Taped(0)

# --- numbers ----------------------------------------------------------------------------------------------------------

# Adjoints are added in any order, as vectors do; products and sums of them may be rounded once.
_ADDS, _MULTIPLIES = ("reassoc", "nsz", "contract"), ("nsz", "contract")


@intrinsic
def plus(typingctx, a, b):
    """The sum of adjoints."""
    sig = types.float64(types.float64, types.float64)
    return sig, lambda context, builder, sig, args: builder.fadd(*args, flags=_ADDS)


@intrinsic
def plus_product(typingctx, a, b, c):
    """An adjoint, and a partial derivative times another."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.fadd(args[0], builder.fmul(args[1], args[2], flags=_MULTIPLIES), flags=_ADDS)

    return types.float64(types.float64, types.float64, types.float64), codegen


@inside
def chosen(p, bar):
    """A partial derivative of what chooses, times an adjoint."""
    return p * bar if p != 0.0 else 0.0


@functools.cache
def weighing(function: Any, i: int, exponent: int | None) -> Any:
    """An intrinsic: the adjoint of a result, times the partial derivative by its operand `i`."""
    rule = RULES[function] if exponent is None else whole_power(exponent)
    n = len(rule.partials)
    names = [f"x{k}" for k in range(n)]

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emitter = Emitter(context, builder)
        bar, *operands, y = map(emitter.single, args)
        return on(emitter, weighed(rule.partials[i](*operands, y), bar, operands)).value

    scope = {"found": (types.float64(*[types.float64] * (n + 2)), codegen)}
    text = f"def weighed(typingctx, bar, {', '.join(names)}, y):\n return found"
    return intrinsic(define(text, "weighed", scope))


# --- elements ---------------------------------------------------------------------------------------------------------


@intrinsic
def view(typingctx, kind, address, shape):
    """Memory as an array, which nobody owns."""
    element = kind.dtype if isinstance(kind, types.DType) else kind.instance_type
    made = types.Array(element, len(shape), "C")

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        array = arrayobj.make_array(made)(context, builder)
        lengths = cgutils.unpack_tuple(builder, args[2])
        size = context.get_constant(types.intp, 8)
        strides, step = [], size
        for length in reversed(lengths):
            strides.insert(0, step)
            step = builder.mul(step, length)
        data = builder.inttoptr(args[1], array.data.type)
        arrayobj.populate_array(array, data, lengths, strides, size, None)
        return array._getvalue()

    return made(kind, address, shape), codegen


def _element(context: Any, builder: Any, kind: Any, args: Any, wraps: bool) -> Any:
    made = arrayobj.make_array(kind)(context, builder, args[0])
    return cgutils.get_item_pointer(
        context, builder, kind, made, cgutils.unpack_tuple(builder, args[1]), wraparound=wraps, boundscheck=False
    )


def _elements(wraps: bool) -> tuple[Any, Any, Any, Any]:
    """Intrinsics for elements: get, put, add to an adjoint, take an adjoint away; whether an index may be negative.

    Indices are within bounds.
    """

    @intrinsic
    def get(typingctx: Any, a: Any, index: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            pointer = _element(context, builder, sig.args[0], args, wraps)
            return arrayobj.load_item(context, builder, sig.args[0], pointer)

        return a.dtype(a, index), codegen

    @intrinsic
    def put(typingctx: Any, a: Any, index: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            pointer = _element(context, builder, sig.args[0], args, wraps)
            arrayobj.store_item(context, builder, sig.args[0], args[2], pointer)
            return context.get_dummy_value()

        return types.void(a, index, a.dtype), codegen

    @intrinsic
    def add(typingctx: Any, a: Any, index: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            pointer = _element(context, builder, sig.args[0], args, wraps)
            builder.store(builder.fadd(builder.load(pointer), args[2], flags=_ADDS), pointer)
            return context.get_dummy_value()

        return types.void(a, index, a.dtype), codegen

    @intrinsic
    def take(typingctx: Any, a: Any, index: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            pointer = _element(context, builder, sig.args[0], args, wraps)
            found = builder.load(pointer)
            builder.store(ir.Constant(found.type, 0.0), pointer)
            return found

        return a.dtype(a, index), codegen

    return get, put, add, take


get, put, add, take = _elements(False)
get_any, put_any, add_any, take_any = _elements(True)


@intrinsic
def overlap(typingctx, a, b):
    """Whether arrays may share memory."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        ends = []
        for kind, value in zip(sig.args, args, strict=True):
            array = arrayobj.make_array(kind)(context, builder, value)
            lengths, strides = (cgutils.unpack_tuple(builder, part) for part in (array.shape, array.strides))
            ends += arrayobj.get_array_memory_extents(context, builder, kind, array, lengths, strides, array.data)
        return arrayobj.extents_may_overlap(context, builder, *ends)

    return types.boolean(a, b), codegen


# --- arrays -----------------------------------------------------------------------------------------------------------


def _nested(ndim: int, head: str, body: str, tail: str, scope: dict[str, Any]) -> Any:
    """A function of loops over all elements, whose index is `at`."""
    lines = head.splitlines()
    for k in range(ndim):
        lines.append(" " * (k + 1) + f"for i{k} in range(a.shape[{k}]):")
    indent = " " * (ndim + 1)
    lines.append(f"{indent}at = ({''.join(f'i{k}, ' for k in range(ndim))})")
    lines += [indent + line for line in body.splitlines()]
    lines += tail.splitlines()
    return inside(define("\n".join(lines), "over", scope))


_SCOPE = {"get": get, "put": put, "value_of": value_of, "row_of": row_of, "make": make, "KIND": KIND,
          "put_index": put_index}  # fmt: skip


@functools.cache
def taking_in(ndim: int) -> Any:
    """A function that copies the values of active elements; returns how their rows are.

    That is the first row, where they follow each other; 0 where none has one; -1 else, and they are put down.
    """
    find = _nested(
        ndim,
        "def over(a, v, first):\n differs, any_row, e = 0, 0, 0",
        "x = get(a, at)\nput(v, at, value_of(x))\nrow = row_of(x)\n"
        "differs |= row ^ (first + e)\nany_row |= row\ne += 1",
        " return differs, any_row",
        _SCOPE,
    )
    note = _nested(ndim, "def over(a, index):\n e = 0", "put_index(index, e, row_of(get(a, at)))\ne += 1", "", _SCOPE)
    zeros = "0, " * ndim
    return inside(
        define(
            f"def take_in(a, v, index):\n"
            f" if a.size == 0:\n  return 0\n"
            f" first = row_of(get(a, ({zeros})))\n"
            f" differs, any_row = find(a, v, first)\n"
            f" if any_row == 0:\n  return 0\n"
            f" if differs == 0:\n  return first\n"
            f" note(a, index)\n return -1",
            "take_in",
            {"row_of": row_of, "get": get, "find": find, "note": note},
        )
    )


@functools.cache
def copying(ndim: int) -> Any:
    """A function that copies plain elements."""
    return _nested(ndim, "def over(a, v):", "put(v, at, get(a, at))", "", _SCOPE)


@functools.cache
def giving_back(ndim: int) -> Any:
    """A function that gives active elements their new values, and rows from one on; row 0 where there is no step."""
    body = "put(a, at, make(KIND, get(v, at), first + step * e, 0))\ne += 1"
    return _nested(ndim, "def over(a, v, first, step):\n e = 0", body, "", _SCOPE)


@inside
def are_zero(bars, first, n):
    """Whether the adjoints of all results are 0."""
    differs = 0
    for k in range(first, first + n):
        differs |= get_number(bars, k) != 0.0
    return differs == 0


@inside
def add_to_rows(bars, rows, index, found, n):
    """Add the adjoints of elements, at the address `found`, to those of their rows."""
    if rows > 0:
        for e in range(n):
            put_number(bars, rows + e, get_number(bars, rows + e) + get_number(found, e))
    elif rows < 0:
        for e in range(n):
            row = get_index(index, e)
            if row != 0:
                put_number(bars, row, get_number(bars, row) + get_number(found, e))


@intrinsic
def address_in(typingctx, vector):
    """Where a vector's memory is; it lives on as long as it is used."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.ptrtoint(arrayobj.make_array(sig.args[0])(context, builder, args[0]).data, ir.IntType(64))

    return types.int64(vector), codegen


@intrinsic
def keep_alive(typingctx, vector):
    """Nothing: a vector is used here."""
    return types.void(vector), lambda context, builder, sig, args: context.get_dummy_value()
