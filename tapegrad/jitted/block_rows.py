"""Block rows: a whole operation as one row, with a function that takes its adjoints back.

      n_out rows | length 0 ... 0 BLOCK | the results, whose adjoints are in order; the last stands for the operation
      arguments  | index, partial       | whatever the operation keeps: rows and values of its operands, its results
                 | n, address           | how many of those there are, and the function's address, in place of a partial

The reverse sweep calls the function with the header, the last row, and where the trailer is; it adds to the operands'
adjoints, and returns where its arguments begin.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import types
from numba.core.typing import signature
from numba.extending import intrinsic

from tapegrad.jitted import jacobian_tape as tape
from tapegrad.jitted.access import get_word, put_byte, put_index, put_word, reserve
from tapegrad.jitted.active import WORD
from tapegrad.jitted.inner import inside

ROWS, ARGUMENTS, LENGTH, INDEX, PARTIAL, BLOCK = (
    tape.ROWS, tape.ARGUMENTS, tape.LENGTH, tape.INDEX, tape.PARTIAL, tape.BLOCK,
)  # fmt: skip


@intrinsic
def address_of(typingctx, function):
    """The address of a jitted function of three int64, for the sweep to call."""
    sig = function.get_call_type(typingctx, (types.int64,) * 3, {})

    def codegen(context, builder, call, args):
        result = function.dispatcher.get_compile_result(sig)
        context.active_code_library.add_linking_library(result.library)
        name = f"tapegrad_reverse_{result.fndesc.mangled_name}"
        if name not in builder.module.globals:
            wrapper = ir.Function(builder.module, ir.FunctionType(WORD, [WORD] * 3), name)
            wrapper.linkage = "linkonce_odr"
            inner = ir.IRBuilder(wrapper.append_basic_block())
            status, value = context.call_internal_no_propagate(inner, result.fndesc, sig, wrapper.args)
            inner.ret(inner.select(status.is_error, WORD(tape.NO_MEMORY), value))
        return builder.ptrtoint(builder.module.globals[name], WORD)

    return signature(types.int64, function), codegen


@inside
def begin_block(header, n_kept, n_out, width=1):
    """Room for a block; returns where its arguments begin. Fill them, then `end_block`."""
    if reserve(header, n_out, n_kept + 1, width) == 0:
        raise MemoryError("no memory for the tape")
    return get_word(header, ARGUMENTS)


@inside
def end_block(header, n_kept, n_out, address, width=1):
    """Append the rows; returns the first one's number."""
    trailer = get_word(header, ARGUMENTS) + n_kept
    put_index(get_word(header, INDEX), trailer, n_kept)
    put_word(get_word(header, PARTIAL), trailer * width, address)
    put_word(header, ARGUMENTS, trailer + 1)
    first = get_word(header, ROWS)
    for k in range(n_out):
        put_byte(get_word(header, LENGTH), first + k, BLOCK if k == n_out - 1 else 0)
    put_word(header, ROWS, first + n_out)
    return first
