"""Array operations as block rows, whose adjoints the kernels of `ops` take back.

A product, a solution or a factorisation is one block row of the tape (`block_rows.py`), whatever its size. What is
kept of it lies in the tape as the operation's VJP kernels read arrays, so these work in place:

      n_y rows  | length 0 ... 0 BLOCK | the result, whose adjoints are in order
      arguments | rows, values of a    | n_a of them; or the values of y
                | rows, values of b    | n_b of them; or the values of y
                | n_a, n_b, n_y        | beside them the parameters of `ops`, in place of partials: N_PARAMS arguments
                | 0, address           | the operation's record
                | n, address           | how many of those there are, and of `reverse`

An operation's record is at a symbol of its own, WORDS_OF_ONE int64: addresses of kernels and routines, entered when
code that names it is compiled, or comes from the disk.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numpy import int64

from tapegrad import engine, kernels
from tapegrad.dtypes import FLOAT64
from tapegrad.jitted import jacobian_tape as tape
from tapegrad.jitted.access import get_word, known_row, open_tape, put_index, put_number, put_word
from tapegrad.jitted.active import WORD, Taped
from tapegrad.jitted.allocation import array_like, flat_view, vector_of
from tapegrad.jitted.block_rows import begin_block, end_block
from tapegrad.jitted.disk import OPERATION
from tapegrad.jitted.inner import define, inside
from tapegrad.jitted.lifting import laid_out, make, row_of
from tapegrad.kernels import Context, native
from tapegrad.kinds import address_of
from tapegrad.memory import allocate_zeroed, call1, f8, i4, i8, release
from tapegrad.ops import factorization, linalg, orthogonal, spectral
from tapegrad.ops.declare import Op

KIND = Taped(0)
INDEX, PARTIAL, ADJOINT, NO_MEMORY, N_WORDS = tape.INDEX, tape.PARTIAL, tape.ADJOINT, tape.NO_MEMORY, tape.WORDS
REVERSE, SUPPLY, FACTOR, VJP_A, VJP_B, ROOM, GEMM, LAPACK, ALLOCATE, RELEASE = range(10)
WORDS_OF_ONE = 10
N_PARAMS, N_WORK = 8, 16

_OPS = (
    linalg.mm, factorization.solve, factorization.inv, factorization.det, factorization.log_abs_det,
    factorization.cholesky, spectral.eigh, spectral.svd, orthogonal.qr, spectral.pinv,
)  # fmt: skip
_FACTORED = (factorization.solve, factorization.det, factorization.log_abs_det)  # their adjoints are made of factors

N_CONTEXT = Context.nbytes // 8


def reverse(header, last, trailer):
    """Add to the adjoints of an operation's operands; returns where its arguments begin."""
    h = i8(header, N_WORDS)
    index, word = i4(h[INDEX], trailer + 1), i8(h[PARTIAL], trailer + 1)
    begin, at = trailer - int64(index[trailer]), trailer - N_PARAMS - 1
    n_a, n_b, n_y = int64(index[at]), int64(index[at + 1]), int64(index[at + 2])
    op, y_bar = i8(word[trailer - 1], WORDS_OF_ONE), h[ADJOINT] + 8 * (last - n_y + 1)
    if _first_other(f8(y_bar, n_y), n_y) == n_y:
        return begin
    n_factors = n_a + word[at + 1] if op[FACTOR] else 0
    n_memory = word[at + op[ROOM]] if op[ROOM] else 0
    memory = allocate_zeroed(op[ALLOCATE], N_CONTEXT + N_WORK + n_factors + n_memory + max(n_a, n_b), 8)
    if memory == 0:
        return NO_MEMORY
    work = memory + 8 * N_CONTEXT
    factors = work + 8 * N_WORK
    k_bar = factors + 8 * (n_factors + n_memory)
    context, first = Context(memory), h[PARTIAL] + 8 * begin
    context.params_at, context.n_params, context.begun = h[PARTIAL] + 8 * at, N_PARAMS, 1
    context.gemm64, context.lapack, context.work = op[GEMM], op[LAPACK], work
    context.memory, context.n_memory, context.k_bar = factors + 8 * n_factors, n_memory, k_bar
    context.a, context.n_a, context.b, context.n_b = first, n_a, first + 8 * n_a, n_b
    if op[FACTOR]:
        context.y, context.n_y = factors, n_factors
        call1(op[FACTOR], memory)
        context.a, context.n_a = factors, n_factors
    context.y, context.n_y, context.y_bar = first + 8 * n_a if n_b > 0 else first, n_y, y_bar
    for k in range(2):
        n, start = n_b if k else n_a, begin + n_a if k else begin
        rows, bars = i4(h[INDEX] + 4 * start, n), f8(k_bar, n)
        if _first_other(rows, n) < n:
            for i in range(n if k else 0):
                bars[i] = 0.0
            context.n_k_bar = n
            call1(op[VJP_A + k], memory)
            adjoint = f8(h[ADJOINT], last + 1)
            for i in range(n):
                if rows[i] != 0:
                    adjoint[rows[i]] += bars[i]
    release(op[RELEASE], memory)
    return begin


def _first_other(values, n):
    """Where the first is that isn't 0; n where all are."""
    for i in range(n):
        if values[i] != 0:
            return i
    return n


# --- Python's side: records -------------------------------------------------------------------------------------------

_records = {op.name: (ctypes.c_int64 * WORDS_OF_ONE)() for op in _OPS}


def supply(name: str) -> None:
    """Enter what an operation's adjoints need into its record."""
    op = next(op for op in _OPS if op.name == name)
    words, code = _records[name], FLOAT64.code
    if words[REVERSE]:
        return
    kernels.require(op, code, reverse=True)
    if op in _FACTORED:
        kernels.require(factorization.lu_factor, code, reverse=False)
        words[FACTOR] = kernels.table[_cell(factorization.lu_factor)]
    for k in range(op.arity):
        words[VJP_A + k] = kernels.table[_cell(op) + 1 + k]
    words[ROOM] = op.room or 0
    routines, python = engine.routines(), native.functions_of_python()
    words[GEMM], words[LAPACK] = int(routines[0]), address_of(routines)
    words[ALLOCATE], words[RELEASE] = python["allocate_zeroed"].address, python["release"].address
    rebound = functools.partial(native.rebind, reverse)
    words[REVERSE] = native.link("tapegrad_array_reverse", 3, rebound, (reverse,), returns=True)


def _cell(op: Op) -> int:
    return (op.opcode * len(kernels.DTYPES) + FLOAT64.code) * kernels.CELLS


@ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)
def _supply_at(address: int) -> int:
    """What code calls that came from Numba's own cache, of which nobody has looked what it names."""
    supply(next(name for name, words in _records.items() if ctypes.addressof(words) == address))
    return 1


for _name, _words in _records.items():
    _words[SUPPLY] = ctypes.cast(_supply_at, ctypes.c_void_p).value or 0
    llvm.add_symbol(f"{OPERATION}{_name}", ctypes.addressof(_words))


def _record_of(op: Op) -> Any:
    """A function for jitted code: the address of an operation's record."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        supply(op.name)
        name = f"{OPERATION}{op.name}"
        if name not in builder.module.globals:
            ir.GlobalVariable(builder.module, ir.ArrayType(WORD, WORDS_OF_ONE), name)
        return builder.ptrtoint(builder.module.globals[name], WORD)

    return intrinsic(define("def record(typingctx):\n return found", "record", {"found": (types.int64(), codegen)}))


mm, solve, inv, det, log_abs_det, cholesky, eigh, svd, qr, pinv = map(_record_of, _OPS)


@intrinsic
def _call_supply(typingctx, function, record):
    """Call a function at an address."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], ir.FunctionType(WORD, [WORD]).as_pointer())
        return builder.call(pointer, [args[1]])

    return types.int64(types.int64, types.int64), codegen


# --- in jitted code ---------------------------------------------------------------------------------------------------


@inside
def _keep(header, at, x, kept):
    """Keep the rows of an array's elements, and beside them the values of another."""
    index, partial = get_word(header, INDEX), get_word(header, PARTIAL)
    i = at
    for element in x.flat:
        put_index(index, i, known_row(header, row_of(element)))
        i += 1
    i = at
    for value in kept.flat:
        put_number(partial, i, value)
        i += 1


@inside
def _results(y, first):
    """Active results: rows from `first` on."""
    result = array_like(KIND, y)
    flat, i = flat_view(result), 0
    for value in y.flat:
        flat[i] = make(KIND, value, first + i, 0)
        i += 1
    return result


@inside
def binary(record, params, a, kept_a, b, kept_b, y):
    """The result of an operation on two arrays, as a row; `kept_a` and `kept_b` are the values that it keeps."""
    if y.size == 0:
        return laid_out(_results(y, 0), y)
    if get_word(record, REVERSE) == 0:
        _call_supply(get_word(record, SUPPLY), record)
    header, n_kept = open_tape(KIND), a.size + b.size + N_PARAMS + 1
    at = begin_block(header, n_kept, y.size)
    _keep(header, at, a, kept_a)
    _keep(header, at + a.size, b, kept_b)
    at += a.size + b.size
    index, partial = get_word(header, INDEX), get_word(header, PARTIAL)
    for k in range(N_PARAMS):
        put_index(index, at + k, 0)
        put_word(partial, at + k, params[k])
    put_index(index, at, a.size)
    put_index(index, at + 1, b.size)
    put_index(index, at + 2, y.size)
    put_index(index, at + N_PARAMS, 0)
    put_word(partial, at + N_PARAMS, record)
    return laid_out(_results(y, end_block(header, n_kept, y.size, get_word(record, REVERSE))), y)


@inside
def unary(record, params, a, kept, y):
    """The result of an operation on one array."""
    nothing = vector_of(0)
    return binary(record, params, a, kept, nothing, nothing, y)


@inside
def number(record, params, a, kept, y):
    """The result of an operation on one array that gives a number."""
    result = vector_of(1)
    result[0] = y
    return unary(record, params, a, kept, result)[0]
