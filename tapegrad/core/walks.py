"""Walks: how memory of another layout is met in the order of a region's lanes. And the tables that describe a region.

A walk is [ndim, length, stride, length, stride, ...], innermost dimension first, strides in bytes, neighbours that form
one run joined. A stride of 0 repeats an element: gathered, it is broadcast; scattered, it is summed (or merged as the
reduction says).

The tables of a tape, int64 each, describe the region being swept; `registers.py` fills them, `blocks.py` follows them:

    counters    below
    registers   REGISTER + WORDS_A_REGISTER * r: see `registers.py`
    code        CODE + WORDS * i: the instructions of a block; SETUP: those of a chunk, before its first block
    constants   immediates, in the dtype of their operation
    walks
"""

from tapegrad.core.schedule import OK
from tapegrad.dtypes import DTYPES
from tapegrad.kernels import ADD, TO_EACH, TO_ONE
from tapegrad.memory import call6, i4, i8, u1
from tapegrad.tape import TABLES, H

ITEMSIZE = tuple(d.itemsize for d in DTYPES)

# Counters: how much of each table is used,
N_REGISTERS, N_CODE, N_SETUP, N_CONSTANTS, N_TAIL, N_WALKS = range(6)
# the region's space: its kind, its lanes as so many rows of so many, and whether a block is one row,
SPACE_KIND, N_ROWS, INNER, ONE_ROW = range(6, 10)
# what a sweep of it does, how it is shared out (rows a block, rows a chunk, chunks), its scratch memory, how many
# registers are fetched ahead, and the bytes of states that chunks share.
SWEEPS, BLOCK, CHUNK, N_CHUNKS, PARTIAL_BYTES, N_WIDE_PLACES, N_NARROW_PLACES, N_AHEAD, SHARED_BYTES = range(10, 19)
BOUND_ROW = 19  # with TAPEGRAD_DEBUG=memory: the row that is being bound

WORDS_A_REGISTER, WORDS = 8, 17
MOST_REGISTERS, MOST_CODE, MOST_SETUP, MOST_CONSTANTS, MOST_TAIL = 6144, 6144, 2048, 2048, 1024
REGISTER = 32
CODE = REGISTER + WORDS_A_REGISTER * MOST_REGISTERS
SETUP = CODE + WORDS * MOST_CODE
CONSTANTS = SETUP + WORDS * MOST_SETUP
TAIL = CONSTANTS + MOST_CONSTANTS
PLACES = TAIL + 3 * MOST_TAIL
CONTEXT_AT = PLACES + 2 * MOST_REGISTERS
AHEAD = PLACES  # these, once places have been given
WORK_AT = CONTEXT_AT + 40  # for the arguments of BLAS and LAPACK
PIECES_AT = CONTEXT_AT + 64  # of an array row's work: see `blocks.py`
KNOWN = CONTEXT_AT + 96  # what the region computes, by what it is computed from: [p, q, register, stamp]
MANY_KNOWN = 1024
WALKS = KNOWN + 4 * MANY_KNOWN

# A walk for each of the operands and results of 256 rows, at 64 dimensions, and what a SCATTER has behind it.
assert TABLES - WALKS >= 1536 * (129 + 4)


def enter_walk(tables, pool, dims, ndim, stride_pool, strides, scale):
    """Enter a walk over `ndim` lengths with as many strides (times `scale`: bytes); returns its place."""
    at, n = WALKS + tables[N_WALKS], 0
    for d in range(ndim - 1, -1, -1):
        n = _enter_run(tables, at, n, pool[dims + d], stride_pool[strides + d] * scale)
    return _end_walk(tables, at, n)


def _enter_run(tables, at, n, length, stride):
    """One more dimension of a walk that has `n`: joined to the last where the two form one run."""
    if length == 1:
        return n
    if n and tables[at + 2 * n] * tables[at + 2 * n - 1] == stride:
        tables[at + 2 * n - 1] *= length
        return n
    tables[at + 1 + 2 * n] = length
    tables[at + 2 + 2 * n] = stride
    return n + 1


def _end_walk(tables, at, n):
    if n == 0:
        tables[at + 1], tables[at + 2], n = 1, 0, 1
    tables[at] = n
    tables[N_WALKS] += 1 + 2 * n
    return at


def broadcast_walk(h, tables, kinds, kind, space_kind, size):
    """A walk over the space for an operand that is broadcast to it; over states of `size` bytes for it, if not 0."""
    pool = i8(h[H.pool], h[H.n_pool])
    ndim, missing = kinds[space_kind]["ndim"], kinds[space_kind]["ndim"] - kinds[kind]["ndim"]
    space, shape = kinds[space_kind]["dims"], kinds[kind]["dims"]
    strides = shape + kinds[kind]["ndim"]
    at, n, step = WALKS + tables[N_WALKS], 0, size
    for d in range(ndim - 1, -1, -1):
        length, stride = pool[space + d], 0
        if d >= missing:
            own = pool[shape + d - missing]
            if own != 1:
                stride = step if size else pool[strides + d - missing]
            step *= own
        n = _enter_run(tables, at, n, length, stride)
    return _end_walk(tables, at, n)


def gather(at_tables, walk, source, target, start, n, itemsize):
    """Bring lanes [start, start + n) of a walk from `source` together at `target`."""
    tables = i8(at_tables, TABLES)
    inner, stride = tables[walk + 1], tables[walk + 2]
    done = 0
    while done < n:
        lane = start + done
        within = lane % inner
        offset = source + _outer_offset(tables, walk, lane // inner) + within * stride
        length = min(inner - within, n - done)
        if itemsize == 8:
            to = i8(target + done * 8, length)
            if stride == 0:
                value = i8(offset, 1)[0]
                for i in range(length):
                    to[i] = value
            elif stride == 8:
                of = i8(offset, length)
                for i in range(length):
                    to[i] = of[i]
            else:
                for i in range(length):
                    to[i] = i8(offset + i * stride, 1)[0]
        elif itemsize == 4:
            to4 = i4(target + done * 4, length)
            if stride == 4:
                of4 = i4(offset, length)
                for i in range(length):
                    to4[i] = of4[i]
            else:
                for i in range(length):
                    to4[i] = i4(offset + i * stride, 1)[0]
        else:
            to1 = u1(target + done, length)
            for i in range(length):
                to1[i] = u1(offset + i * stride, 1)[0]
        done += length
    return OK


def scatter(at_tables, walk, source, target, start, n, itemsize, number, count, kernel):
    """Merge lanes [start, start + n) at `source` into a walk over `count` states, of numbers of so many bytes.

    Or, where `number` is 0, into elements like those at `source`, each of which is met once.
    """
    tables = i8(at_tables, TABLES)
    inner, stride = tables[walk + 1], tables[walk + 2]
    size, step = (number, TO_EACH) if number else (itemsize, ADD)
    # Where the next dimension repeats the states, rows are merged together.
    rows = tables[walk + 3] if tables[walk] > 1 and tables[walk + 4] == 0 and number else 1
    done = 0
    while done < n:
        lane = start + done
        within, row = lane % inner, lane // inner
        given, offset = source + done * itemsize, target + _outer_offset(tables, walk, row) + within * stride
        length, m = min(inner - within, n - done), 1
        if stride == 0 and number:
            call6(kernel, length, 1, given, offset, count, TO_ONE)
        elif stride == size:
            if length == inner:
                m = min((n - done) // inner, rows - row % rows)
            call6(kernel, length, m, given, offset, count, step)
        else:
            for i in range(length):
                call6(kernel, 1, 1, given + i * itemsize, offset + i * stride, count, step)
        done += length * m
    return OK


def _outer_offset(tables, walk, index):
    """The offset of a run: its number, written in the lengths of the outer dimensions."""
    offset = 0
    for d in range(1, tables[walk]):
        if index == 0:
            break
        length = tables[walk + 1 + 2 * d]
        offset += index % length * tables[walk + 2 + 2 * d]
        index //= length
    return offset
