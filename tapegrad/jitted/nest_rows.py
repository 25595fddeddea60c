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

from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np import arrayobj

from tapegrad.jitted import jacobian_tape as tape
from tapegrad.jitted.access import BYTE, get_index, get_number, get_word, put_byte, put_index, put_number, put_word
from tapegrad.jitted.active import DOUBLE, WORD, Taped
from tapegrad.jitted.emission import Choice, Emitter, on, weighed
from tapegrad.jitted.inner import define
from tapegrad.jitted.lifting import make, row_of, value_of
from tapegrad.jitted.names import RULES, whole_power
from tapegrad.jitted.nest_lowering import ADDS, MULTIPLIES, Text

KIND = Taped(0)

# --- numbers ----------------------------------------------------------------------------------------------------------


@intrinsic
def plus(typingctx, a, b):
    """The sum of adjoints."""
    sig = types.float64(types.float64, types.float64)
    return sig, lambda context, builder, sig, args: builder.fadd(*args, flags=ADDS)


@intrinsic
def plus_product(typingctx, a, b, c):
    """An adjoint, and a partial derivative times another."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.fadd(args[0], builder.fmul(args[1], args[2], flags=MULTIPLIES), flags=ADDS)

    return types.float64(types.float64, types.float64, types.float64), codegen


@intrinsic
def chosen(typingctx, p, bar):
    """A partial derivative of what chooses, times an adjoint: 0 where it is 0."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        zero = DOUBLE(0.0)
        return builder.select(builder.fcmp_ordered("==", args[0], zero), zero, builder.fmul(*args))

    return types.float64(types.float64, types.float64), codegen


@intrinsic
def weighed_by(typingctx, p, bar):
    """A partial derivative that was kept, times an adjoint."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emitter = Emitter(context, builder)
        return on(emitter, weighed(*map(emitter.single, args))).value

    return types.float64(types.float64, types.float64), codegen


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


@functools.cache
def choosing(function: Any) -> Any:
    """An intrinsic: keep twice the partial derivative by the first of two, one of which is chosen, in a byte."""
    partial = RULES[function].partials[0]

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address, k, *operands = args

        def twice(p: Any) -> Any:
            if not isinstance(p, Choice):
                return BYTE(int(2 * p))
            return builder.select(p.condition.value, twice(p.a), twice(p.b))

        emitter = Emitter(context, builder)
        found = twice(partial(*map(emitter.single, operands), None))
        builder.store(found, builder.gep(builder.inttoptr(address, BYTE.as_pointer()), [k]))
        return context.get_dummy_value()

    scope = {"found": (types.void(types.int64, types.int64, types.float64, types.float64), codegen)}
    return intrinsic(define("def choose(typingctx, address, k, a, b):\n return found", "choose", scope))


@intrinsic
def get_byte(typingctx, address, k):
    """What was kept there, as it is."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.zext(builder.load(builder.gep(builder.inttoptr(args[0], BYTE.as_pointer()), [args[1]])), WORD)

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def get_choice(typingctx, address, k):
    """The partial derivative that was kept there."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = builder.gep(builder.inttoptr(args[0], BYTE.as_pointer()), [args[1]])
        return builder.fmul(builder.uitofp(builder.load(place), DOUBLE), DOUBLE(0.5))

    return types.float64(types.int64, types.int64), codegen


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


@intrinsic
def new_array(typingctx, shape):
    """A new array of active numbers, to be given its elements."""
    made = types.Array(KIND, len(shape), "C")

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return arrayobj._empty_nd_impl(context, builder, made, cgutils.unpack_tuple(builder, args[0]))._getvalue()

    return made(shape), codegen


@intrinsic
def no_array(typingctx, shape):
    """What is in the place of such an array where there is none."""
    made = types.Array(KIND, len(shape), "C")
    return made(shape), lambda context, builder, sig, args: context.get_constant_null(made)


@intrinsic
def address_of(typingctx, a):
    """Where the elements of an array begin."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.ptrtoint(arrayobj.make_array(a)(context, builder, args[0]).data, WORD)

    return types.int64(a), codegen


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

_SCOPE = {
    "value_of": value_of, "row_of": row_of, "make": make, "KIND": KIND, "get_word": get_word,
    "put_word": put_word, "get_number": get_number, "put_number": put_number, "get_index": get_index,
    "put_index": put_index, "put_byte": put_byte, "ROWS": tape.ROWS, "ARGUMENTS": tape.ARGUMENTS,
    "LENGTH": tape.LENGTH, "INDEX": tape.INDEX, "PARTIAL": tape.PARTIAL, "BLOCK": tape.BLOCK,
}  # fmt: skip


def _nested(ndim: int, head: str, body: str, tail: str) -> Text:
    """A function of loops over all elements, whose index is {at}."""
    lines = head.splitlines()
    for k in range(ndim):
        lines.append(" " * (k + 1) + f"for i{k} in range(a.shape[{k}]):")
    indent = " " * (ndim + 1)
    at = f"({''.join(f'i{k}, ' for k in range(ndim))})"
    lines += [indent + line.format(at=at) for line in body.splitlines()]
    return Text("\n".join([*lines, tail]), _SCOPE)


@functools.cache
def finding_rows(ndim: int) -> Text:
    """A function that tells how rows are: the first, if they follow each other; 0 if there is none; -1 else."""
    zeros = "0, " * ndim
    return _nested(
        ndim,
        f"def find_rows(a):\n if a.size == 0:\n  return 0\n first = row_of(get(a, ({zeros})))\n"
        " differs, any_row, e = 0, 0, 0",
        "row = row_of(get(a, {at}))\ndiffers |= row ^ (first + e)\nany_row |= row\ne += 1",
        " return 0 if any_row == 0 else (first if differs == 0 else -1)",
    )


@functools.cache
def noting_rows(ndim: int) -> Text:
    """A function that puts the rows of elements down."""
    head, body = "def note_rows(a, index):\n e = 0", "put_index(index, e, row_of(get(a, {at})))\ne += 1"
    return _nested(ndim, head, body, " return 0")


@functools.cache
def copying(ndim: int, is_active: bool) -> Text:
    """A function that copies elements, or the values of active ones."""
    value = "value_of(get(a, {at}))" if is_active else "get(a, {at})"
    return _nested(ndim, "def copy(a, v):", f"put(v, {{at}}, {value})", " return 0")


@functools.cache
def giving_back(ndim: int) -> Text:
    """A function that gives active elements their new values, and rows from one on; row 0 where there is no step."""
    body = "put(a, {at}, make(KIND, get(v, {at}), first + step * e, 0))\ne += 1"
    return _nested(ndim, "def give_back(a, v, first, step):\n e = 0", body, " return 0")


# Copy numbers from one address to another.
copying_numbers = Text(
    """def copy_numbers(given, found, n):
    for e in range(n):
        put_number(found, e, get_number(given, e))
    return 0
""",
    _SCOPE,
)

# Whether the adjoints of all results are 0.
are_zero = Text(
    """def are_zero(bars, first, n):
    differs = 0
    for k in range(first, first + n):
        differs |= get_number(bars, k) != 0.0
    return differs == 0
""",
    _SCOPE,
)

# Add the adjoints of elements, at the address `found`, to those of their rows.
add_to_rows = Text(
    """def add_to_rows(bars, rows, index, found, n):
    if rows > 0:
        for e in range(n):
            put_number(bars, rows + e, get_number(bars, rows + e) + get_number(found, e))
    if rows < 0:
        for e in range(n):
            row = get_index(index, e)
            if row != 0:
                put_number(bars, row, get_number(bars, row) + get_number(found, e))
    return 0
""",
    _SCOPE,
)

# Append the rows of a block (`block_rows.py`); returns the first one's number.
end_rows = Text(
    """def end_rows(header, n_kept, n_out, address):
    trailer = get_word(header, ARGUMENTS) + n_kept
    put_index(get_word(header, INDEX), trailer, n_kept)
    put_word(get_word(header, PARTIAL), trailer, address)
    put_word(header, ARGUMENTS, trailer + 1)
    first = get_word(header, ROWS)
    for k in range(first, first + n_out):
        put_byte(get_word(header, LENGTH), k, 0)
    put_byte(get_word(header, LENGTH), first + n_out - 1, BLOCK)
    put_word(header, ROWS, first + n_out)
    return first
""",
    _SCOPE,
)


@intrinsic
def scratch(typingctx, n):
    """The address of memory for `n` floats, which are 0."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        n_bytes = builder.mul(builder.add(args[0], WORD(1)), WORD(8))
        memory = context.nrt.allocate(builder, n_bytes)
        cgutils.memset(builder, memory, n_bytes, 0)
        return builder.ptrtoint(memory, WORD)

    return types.int64(n), codegen


@intrinsic
def release(typingctx, address):
    """Give such memory back."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        context.nrt.free(builder, builder.inttoptr(args[0], cgutils.voidptr_t))
        return context.get_dummy_value()

    return types.void(address), codegen
