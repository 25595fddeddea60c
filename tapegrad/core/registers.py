"""Registers: a region as a short program, which `blocks.py` runs block by block.

A register is where a value, or an adjoint, is while a block is swept: WORDS_A_REGISTER words,

    +------+------+---------+-------+---------+----------+-------+------+
    | BASE | STEP | SCRATCH | LEVEL | WIDENED | ITEMSIZE | BORN  | DIES |
    +------+------+---------+-------+---------+----------+-------+------+

at BASE + STEP * (first row of the block), either in memory, where the value stays, or in scratch memory (SCRATCH: 1),
which belongs to the thread. Its level says how many elements a block has of it:

    WIDE     one a lane                               NARROW   one a row of the region, for all lanes of the row
    VECTOR   a row of lanes, the same for every row   SINGLE   one for the whole sweep

WIDENED is the register that has it spread over the lanes, if it was needed so; BORN and DIES the instructions between
which it is alive. Scratch memory is shared out by these: a register that is dead gives its place to the next.

An instruction is WORDS words: what it is, a kernel, its mode, the level that says how many elements it works on, six
registers (A, B, C, Y and the adjoints G of the result and K of an operand), and numbers. The last is the row it is for,
with TAPEGRAD_DEBUG=memory.

    FORWARD  y = kernel(a, b, c)                      REVERSE  k (+)= g * partial(a, b, c, y)
    GATHER   y = lanes of a walk P from address Q     SCATTER  merge a into a walk P over states from address Q
    SPREAD   y = a, over the lanes                    REDUCE   y (+)= a, reduced row by row
    ALONG    y = kernel over the rows of a            BACK     the same in reverse: k += ...
    ZERO     y = 0                                    STREAM   memory at Q = a, past the caches

A SCATTER merges into states (see `kernels`), COUNT of them, begun with R. The numbers at its GOAL say what becomes of
them when the region is swept: where their results go, by what kernel (0: they are added), of how many terms each, and
the bytes of a state. States that are as large as results are at once where these go.
"""

from tapegrad.core.schedule import INSIDE, STORE, arity, is_evaluated
from tapegrad.core.walks import (
    BOUND_ROW,
    CODE,
    CONSTANTS,
    INNER,
    ITEMSIZE,
    KNOWN,
    MANY_KNOWN,
    N_CODE,
    N_CONSTANTS,
    N_REGISTERS,
    N_ROWS,
    N_SETUP,
    N_WALKS,
    ONE_ROW,
    REGISTER,
    SETUP,
    SPACE_KIND,
    SWEEPS,
    WALKS,
    WORDS,
    WORDS_A_REGISTER,
    broadcast_walk,
    enter_walk,
)  # fmt: skip
from tapegrad.debug import MEMORY
from tapegrad.dtypes import DTYPES
from tapegrad.kernels import CELLS
from tapegrad.kinds import CONTIGUOUS
from tapegrad.memory import f4, f8, i4, i8, kinds_at, ops_at, part3, rows_at, slots_at, u1
from tapegrad.ops.declare import ELEMENTWISE, REDUCTION
from tapegrad.tape import IMM_A, IMM_B, STORED, TABLES, H

N_CODES = len(DTYPES)
# What a sweep of a region does.
SWEEP_VALUES, SWEEP_ADJOINTS = 1, 2
# Words of a register,
BASE, STEP, SCRATCH, LEVEL, WIDENED, SIZE, BORN, DIES = range(8)
# its levels,
NARROW, WIDE, SINGLE, VECTOR = range(4)
# words of an instruction,
WHAT, KERNEL, MODE, WIDTH, A, B, C, Y, G, K, P, Q, R, PARTIAL, COUNT, GOAL, OF_ROW = range(17)
# and what it is.
FORWARD, REVERSE, GATHER, SCATTER, SPREAD, REDUCE, ALONG, BACK, ZERO, STREAM = range(10)

# What is at a goal.
TARGET, FINISH, TERMS, STATE = range(4)

NEW = 1 << 20  # beyond the number of any register

FEW_LANES = 64  # up to which registers are not shared


def nbytes(kinds, kind):
    return min(kinds[kind]["numel"], 1 << 50) * ITEMSIZE[kinds[kind]["dtype"]]  # no more can be had, and none overflows


def hold_value(h, kinds, slots, slot):
    """Make memory for a value; False where there is none to be had."""
    if slots[slot]["primal"] == 0:
        slots[slot]["primal"] = part3(h[H.obtain], h[H.self], nbytes(kinds, slots[slot]["kind"]), 0)
    return slots[slot]["primal"] != 0


def hold_adjoint(h, kinds, slots, slot):
    """Make memory for an adjoint, zero, contiguous; False where there is none to be had."""
    if slots[slot]["adjoint"] == 0:
        slots[slot]["adjoint"] = part3(h[H.obtain], h[H.self], nbytes(kinds, slots[slot]["kind"]), 1)
    return slots[slot]["adjoint"] != 0


def kernel_cell(h, kinds, slots, row):
    """The row's place in the table of kernels, and the dtype it computes in."""
    by = ops_at(h[H.ops], 256)[row["opcode"]]["dtype_operand"]
    code = kinds[slots[row["b"] if by == 1 else row["a"]]["kind"]]["dtype"]
    return (row["opcode"] * N_CODES + code) * CELLS, code


def sum_kernel(h, code):
    """The kernel that adds: see `kernels`."""
    return i8(h[H.kernels], 256 * N_CODES * CELLS)[(h[H.sum_opcode] * N_CODES + code) * CELLS]


def row_sum_kernel(h, code):
    """The kernel that sums rows."""
    return i8(h[H.kernels], 256 * N_CODES * CELLS)[(h[H.sum_opcode] * N_CODES + code) * CELLS + 4]


def state_bytes(h, opcode, code):
    """The bytes of a state of a reduction of this dtype."""
    return 8 * ops_at(h[H.ops], 256)[opcode]["parts"] if code == 4 else 8 if code == 3 else ITEMSIZE[code]


# --- registers and instructions ---------------------------------------------------------------------------------------


def new_register(tables, address, step, level, itemsize):
    """A new register; without an address it is in scratch memory."""
    r = tables[N_REGISTERS]
    at = REGISTER + WORDS_A_REGISTER * r
    tables[at + BASE], tables[at + STEP], tables[at + SCRATCH] = address, step, 0 if address else 1
    tables[at + LEVEL], tables[at + WIDENED], tables[at + SIZE] = level, 0, itemsize
    tables[at + BORN], tables[at + DIES] = -1, -1
    tables[N_REGISTERS] += 1
    return r


def level_of(tables, r):
    return tables[REGISTER + WORDS_A_REGISTER * r + LEVEL]


def memory_step(tables, level, itemsize):
    """How far a contiguous value moves from row to row."""
    return itemsize * tables[INNER] if level == WIDE else itemsize


def emit(tables, what, kernel, mode, width, a, b, c, y, g, k, p, q, start, count):
    _write(tables, CODE + WORDS * tables[N_CODE], what, kernel, mode, width, a, b, c, y, g, k, p, q, start, count)
    tables[N_CODE] += 1


def emit_scatter(tables, kernel, size, level, a, walk, start, count, target, finish, terms, state):
    """Emit a SCATTER, whose states go to `target` in the end."""
    goal = WALKS + tables[N_WALKS]
    tables[goal + TARGET], tables[goal + FINISH], tables[goal + TERMS], tables[goal + STATE] = (
        target, finish, terms, state
    )  # fmt: skip
    tables[N_WALKS] += 4
    tables[CODE + WORDS * tables[N_CODE] + GOAL] = goal
    emit(tables, SCATTER, kernel, size, level, a, 0, 0, 0, 0, 0, walk, target, start, count)


def _write(tables, at, what, kernel, mode, width, a, b, c, y, g, k, p, q, start, count):
    tables[at + WHAT], tables[at + KERNEL], tables[at + MODE], tables[at + WIDTH] = what, kernel, mode, width
    tables[at + A], tables[at + B], tables[at + C], tables[at + Y], tables[at + G], tables[at + K] = a, b, c, y, g, k
    tables[at + P], tables[at + Q], tables[at + R], tables[at + PARTIAL], tables[at + COUNT] = p, q, start, -1, count
    if MEMORY:
        tables[at + OF_ROW] = tables[BOUND_ROW]


def widened(tables, r, level):
    """The register with the elements of `r` spread over the lanes."""
    at = REGISTER + WORDS_A_REGISTER * r
    known = tables[at + WIDENED]
    if known and level_of(tables, known) == level:
        return known
    size = tables[at + SIZE]
    made = new_register(tables, 0, 0, level, size)
    if tables[at + LEVEL] == SINGLE and tables[at + SCRATCH] == 0:  # the same for all blocks
        _write(tables, SETUP + WORDS * tables[N_SETUP], SPREAD, 0, size, level, r, 0, 0, made, 0, 0, 0, 0, 0, 0)
        tables[N_SETUP] += 1
    else:
        emit(tables, SPREAD, 0, size, level, r, 0, 0, made, 0, 0, 0, 0, 0, 0)
    tables[at + WIDENED] = made
    return made


def is_single(tables, r, level):
    """Whether all lanes of a block read one element of `r`."""
    have = level_of(tables, r)
    return have == SINGLE or (have == NARROW and level == WIDE and tables[ONE_ROW] != 0)


def spread_over(tables, r, level):
    """`r`, or a register that has it over the lanes of `level`."""
    have = level_of(tables, r)
    return r if r == 0 or have == level or have == VECTOR else widened(tables, r, level)


# --- values -----------------------------------------------------------------------------------------------------------


def value(h, tables, kinds, slots, slot, space_kind, level):
    """The register of an operand of a row over `space_kind`: made in this region, or stored before it."""
    if slot < 0:
        return 0
    stamp, register = i4(h[H.stamp], h[H.top]), i4(h[H.register], h[H.top])
    if stamp[slot] == h[H.stamps]:
        have = level_of(tables, register[slot])
        if have == level or have == SINGLE or level == WIDE:
            return register[slot]
    r = _stored(h, tables, kinds, slots, slot, space_kind, level)
    stamp[slot], register[slot] = h[H.stamps], r
    return r


def _stored(h, tables, kinds, slots, slot, space_kind, level):
    kind = slots[slot]["kind"]
    size, address = ITEMSIZE[kinds[kind]["dtype"]], slots[slot]["primal"]
    if kinds[kind]["space"] == kinds[space_kind]["space"] and kinds[kind]["flags"] & CONTIGUOUS:
        return new_register(tables, address, memory_step(tables, level, size), level, size)
    if kinds[kind]["numel"] == 1:
        return new_register(tables, address, 0, SINGLE, size)
    return by_walk(tables, broadcast_walk(h, tables, kinds, kind, space_kind, 0), address, size, level)


def by_walk(tables, walk, address, size, level):
    """A register for memory of another layout: the memory itself where its rows are those of the region."""
    if level == WIDE and tables[walk] == 2 and tables[walk + 1] == tables[INNER]:
        within, along = tables[walk + 2], tables[walk + 4]
        if within == 0 and (along == size or tables[ONE_ROW]):
            return new_register(tables, address, along, NARROW, size)
        if within == size and tables[ONE_ROW]:
            return new_register(tables, address, along, WIDE if along else VECTOR, size)
    made = new_register(tables, 0, 0, level, size)
    emit(tables, GATHER, 0, size, level, 0, 0, 0, made, 0, 0, walk, address, 0, 0)
    return made


def _known(tables, p, q, found):
    """Where what has the key (p, q) is entered among what is computed once: the place of its register, 0 if it is new.

    -1 where nothing is entered: in a region of few lanes, looking would cost more than computing.
    """
    if tables[N_ROWS] * tables[INNER] <= FEW_LANES:
        return -1
    i = ((p * 0x1E3779B97F4A7C15 + q * 0x3F58476D1CE4E5B9) >> 32) % MANY_KNOWN
    for _ in range(8):
        at = KNOWN + 4 * i
        if tables[at + 3] != found:
            tables[at], tables[at + 1], tables[at + 2], tables[at + 3] = p, q, 0, found
            return at + 2
        if tables[at] == p and tables[at + 1] == q:
            return at + 2
        i = (i + 1) % MANY_KNOWN
    return -1


def write_number(address, value, code):
    """Write a float64 to memory as a number of the dtype with this code."""
    if code == 4:
        f8(address, 1)[0] = value
    elif code == 3:
        f4(address, 1)[0] = value
    elif code == 2:
        i8(address, 1)[0] = int(value)
    elif code == 1:
        i4(address, 1)[0] = int(value)
    else:
        u1(address, 1)[0] = value != 0


def constant(h, tables, value, code):
    """A register of one number."""
    n = CONSTANTS + tables[N_CONSTANTS]
    address = h[H.tables] + 8 * n
    tables[N_CONSTANTS] += 1
    write_number(address, value, code)
    return new_register(tables, address, 0, SINGLE, ITEMSIZE[code])


def immediate(h, tables, r, code):
    """A register of a row's immediate: the same for equal numbers."""
    at = _known(tables, i8(h[H.rows] + 24 * r + 8, 1)[0], -1 - code, h[H.stamps])
    if at >= 0 and tables[at]:
        return tables[at]
    made = constant(h, tables, f8(h[H.rows] + 24 * r + 8, 1)[0], code)
    if at >= 0:
        tables[at] = made
    return made


def _result(tables, kinds, slots, slot, level, stays):
    """A register for a value made in this region: in its memory where it stays."""
    size = ITEMSIZE[kinds[slots[slot]["kind"]]["dtype"]]
    address = slots[slot]["primal"] if stays else 0
    return new_register(tables, address, memory_step(tables, level, size) if address else 0, level, size)


def row_level(tables, kinds, kind):
    """WIDE for rows over the region's space, else NARROW."""
    return WIDE if kinds[kind]["space"] == kinds[tables[SPACE_KIND]]["space"] else NARROW


def _bind_value(h, tables, kinds, slots, row, r, level, stays):
    """The instruction of an elementwise row; returns its result's register, which may be that of a row just like it."""
    cell, code = kernel_cell(h, kinds, slots, row)
    kernel = i8(h[H.kernels], 256 * N_CODES * CELLS)[cell]
    kind, n = row["kind"], arity(h, row)
    b = c = 0
    if row["flags"] & IMM_A:
        a = immediate(h, tables, r, code)
        b = value(h, tables, kinds, slots, row["a"], kind, level)
    else:
        a = value(h, tables, kinds, slots, row["a"], kind, level)
        if row["flags"] & IMM_B:
            b = immediate(h, tables, r, code)
        elif n > 1:
            b = value(h, tables, kinds, slots, row["b"], kind, level)
            if n > 2:
                c = value(h, tables, kinds, slots, row["c"], kind, level)
    mode = 0
    if n == 2:
        if is_single(tables, b, level):
            mode = 2
        elif is_single(tables, a, level):
            mode = 1
    a = a if mode == 1 else spread_over(tables, a, level)
    b = b if mode == 2 else spread_over(tables, b, level)
    c = spread_over(tables, c, level)
    at = _known(tables, kernel, int(a) << 40 | int(b) << 20 | int(c), h[H.stamps]) if not stays else -1
    if at >= 0 and tables[at]:
        return tables[at]
    y = _result(tables, kinds, slots, row["out"], level, stays)
    if at >= 0:
        tables[at] = y
    emit(tables, FORWARD, kernel, mode, level, a, b, c, y, 0, 0, 0, 0, 0, 0)
    return y


def _bind_reduction(h, tables, kinds, slots, row, y):
    """The instruction of a reduction: of whole rows into the register `y`, or scattered to its memory where y is 0."""
    kernels, pool = i8(h[H.kernels], 256 * N_CODES * CELLS), i8(h[H.pool], h[H.n_pool])
    cell, code = kernel_cell(h, kinds, slots, row)
    space, size = slots[row["a"]]["kind"], ITEMSIZE[code]
    level = row_level(tables, kinds, space)
    x = spread_over(tables, value(h, tables, kinds, slots, row["a"], space, level), level)
    if y:
        emit(tables, REDUCE, kernels[cell + 4], size, level, x, 0, 0, y, 0, 0, 0, 0, 0, 0)
        return
    n, state, target = kinds[row["kind"]]["numel"], state_bytes(h, row["opcode"], code), slots[row["out"]]["primal"]
    walk = enter_walk(tables, pool, kinds[space]["dims"], kinds[space]["ndim"], pool, row["c"] + 1, min(state, 8))
    if state == size:
        fill(target, n, kernels[cell + 3], size)
    emit_scatter(
        tables, kernels[cell], size, level, x, walk, kernels[cell + 3], n, target, kernels[cell + 2], pool[row["c"]],
        state
    )  # fmt: skip


def fill(address, n, bits, itemsize):
    """Fill memory with `n` elements of these bits."""
    for i in range(n):
        if itemsize == 8:
            i8(address, n)[i] = bits
        elif itemsize == 4:
            i4(address, n)[i] = bits
        else:
            u1(address, n)[i] = bits


def _bind_along(h, tables, kinds, slots, row, y):
    """The instruction of an array row that works along the rows of the region."""
    cell, _ = kernel_cell(h, kinds, slots, row)
    space = slots[row["a"]]["kind"]
    x = spread_over(tables, value(h, tables, kinds, slots, row["a"], space, WIDE), WIDE)
    kernel = i8(h[H.kernels], 256 * N_CODES * CELLS)[cell]
    emit(tables, ALONG, kernel, 0, row_level(tables, kinds, row["kind"]), x, 0, 0, y, 0, 0, row["c"], 0, 0, 0)


def bind_values(header, first, last):
    """Bind what is computed: for the sweep of values, and again for the rules of active rows. 0: memory is short."""
    h = i8(header, len(H))
    tables = i8(h[H.tables], TABLES)
    rows, slots = rows_at(h[H.rows], h[H.end]), slots_at(h[H.slots], h[H.top])
    kinds, marks = kinds_at(h[H.kinds], h[H.n_kinds]), u1(h[H.marks], h[H.top])
    live, ops = u1(h[H.live], h[H.top]), ops_at(h[H.ops], 256)
    order, want = i4(h[H.order], h[H.n_planned]), i4(h[H.want], h[H.top])
    for i in range(first, last):
        row = rows[order[i]]
        out = row["out"]
        family, inside = ops[row["opcode"]]["family"], marks[out] & INSIDE
        evaluated = tables[SWEEPS] & SWEEP_VALUES and is_evaluated(slots, marks, row)
        if not evaluated and (want[out] != h[H.stamps] or slots[out]["flags"] & STORED or not inside):
            continue
        if MEMORY:
            tables[BOUND_ROW] = order[i]
        stays = evaluated and (live[out] or marks[out] & STORE or slots[out]["primal"])
        if stays and not hold_value(h, kinds, slots, out):
            return 0
        y, level = 0, row_level(tables, kinds, row["kind"])
        if family == ELEMENTWISE:
            y = _bind_value(h, tables, kinds, slots, row, order[i], level, stays)
        else:
            if inside:
                y = _result(tables, kinds, slots, out, level, stays)
            if family == REDUCTION:
                _bind_reduction(h, tables, kinds, slots, row, y)
            else:
                _bind_along(h, tables, kinds, slots, row, y)
        if inside:
            i4(h[H.stamp], h[H.top])[out] = h[H.stamps]
            i4(h[H.register], h[H.top])[out] = y
    return 1
