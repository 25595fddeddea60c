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
registers (A, B, C, Y and the adjoints G of the result and K of an operand), and numbers.

    FORWARD  y = kernel(a, b, c)                      REVERSE  k (+)= g * partial(a, b, c, y)
    GATHER   y = lanes of a walk P from address Q     SCATTER  merge a into a walk P from address Q
    SPREAD   y = a, over the lanes                    REDUCE   y = a, reduced row by row, from R on, and finished by Q
    ALONG    y = kernel over the rows of a            BACK     the same in reverse: k += ...
    ZERO     y = 0
"""

from tapegrad.dtypes import DTYPES
from tapegrad.kernels import CELLS
from tapegrad.kernels.loops import FRESH
from tapegrad.memory import (
    f4,
    f8,
    i4,
    i8,
    kinds_at,
    part1,
    part3,
    part2,
    rows_at,
    slots_at,
    u1,
)
from tapegrad.op import ARRAY, ELEMENTWISE, REDUCTION
from tapegrad.schedule import (
    ADJOINT, COLUMNS, INSIDE, MAX_INNER, MAX_WIDE, PLANNED, STORE, WANTED, arity, is_active, is_evaluated, operand,
    position, saved_by,
)  # fmt: skip
from tapegrad.tape import CONTIGUOUS, IMM_A, IMM_B, STORED, TABLES, H
from tapegrad.walks import (
    BLOCK, CHUNK, CODE, CONSTANTS, CONTEXT_AT, INNER, ITEMSIZE, KNOWN, MANY_KNOWN, N_CHUNKS, N_CODE, N_CONSTANTS, N_NARROW_PLACES, N_REGISTERS,
    N_ROWS, N_SETUP, N_TAIL, N_WALKS, N_WIDE_PLACES, ONE_ROW, PARTIAL_BYTES, PLACES, REGISTER, SETUP, SPACE_KIND,
    SWEEPS, TAIL, WALKS, WORDS, WORDS_A_REGISTER, broadcast_walk, enter_walk,
)  # fmt: skip

N_CODES = len(DTYPES)
# What a sweep of a region does.
SWEEP_VALUES, SWEEP_ADJOINTS = 1, 2
# Words of a register,
BASE, STEP, SCRATCH, LEVEL, WIDENED, SIZE, BORN, DIES = range(8)
# its levels,
NARROW, WIDE, SINGLE, VECTOR = range(4)
# words of an instruction,
WHAT, KERNEL, MODE, WIDTH, A, B, C, Y, G, K, P, Q, R, PARTIAL, COUNT = range(15)
# and what it is.
FORWARD, REVERSE, GATHER, SCATTER, SPREAD, REDUCE, ALONG, BACK, ZERO = range(9)

NEW = 1 << 20  # beyond the number of any register

FEW_LANES = 64  # up to which registers are not shared
LONG_ROW = 192  # lanes from which a row is a block of its own
CHUNK_WORK = 25_000  # lanes times instructions that are worth a chunk
MOST_CHUNKS = 64
MOST_PARTIAL_BYTES = 1 << 24


def _nbytes(kinds, kind):
    return min(kinds[kind]["numel"], 1 << 50) * ITEMSIZE[kinds[kind]["dtype"]]  # no more can be had, and none overflows


def hold_value(h, kinds, slots, slot):
    """Make memory for a value; False where there is none to be had."""
    if slots[slot]["primal"] == 0:
        slots[slot]["primal"] = part3(h[H.obtain], h[H.self], _nbytes(kinds, slots[slot]["kind"]), 0)
    return slots[slot]["primal"] != 0


def hold_adjoint(h, kinds, slots, slot):
    """Make memory for an adjoint, zero, contiguous; False where there is none to be had."""
    if slots[slot]["adjoint"] == 0:
        slots[slot]["adjoint"] = part3(h[H.obtain], h[H.self], _nbytes(kinds, slots[slot]["kind"]), 1)
    return slots[slot]["adjoint"] != 0


def kernel_cell(h, kinds, slots, row):
    """The row's place in the table of kernels, and the dtype it computes in."""
    by = i4(h[H.ops], 256 * COLUMNS)[row["opcode"] * COLUMNS + 5]
    code = kinds[slots[row["b"] if by == 1 else row["a"]]["kind"]]["dtype"]
    return (row["opcode"] * N_CODES + code) * CELLS, code


def sum_kernel(h, code):
    """The kernel that adds: see `kernels`."""
    return i8(h[H.kernels], 256 * N_CODES * CELLS)[(h[H.sum_opcode] * N_CODES + code) * CELLS]


# --- registers and instructions ---------------------------------------------------------------------------------------


def _register(tables, address, step, level, itemsize):
    """A new register; without an address it is in scratch memory."""
    r = tables[N_REGISTERS]
    at = REGISTER + WORDS_A_REGISTER * r
    tables[at + BASE], tables[at + STEP], tables[at + SCRATCH] = address, step, 0 if address else 1
    tables[at + LEVEL], tables[at + WIDENED], tables[at + SIZE] = level, 0, itemsize
    tables[at + BORN], tables[at + DIES] = -1, -1
    tables[N_REGISTERS] += 1
    return r


def _level(tables, r):
    return tables[REGISTER + WORDS_A_REGISTER * r + LEVEL]


def _memory_step(tables, level, itemsize):
    """How far a contiguous value moves from row to row."""
    return itemsize * tables[INNER] if level == WIDE else itemsize


def _emit(tables, what, kernel, mode, width, a, b, c, y, g, k, p, q, start, count):
    _write(tables, CODE + WORDS * tables[N_CODE], what, kernel, mode, width, a, b, c, y, g, k, p, q, start, count)
    tables[N_CODE] += 1


def _write(tables, at, what, kernel, mode, width, a, b, c, y, g, k, p, q, start, count):
    tables[at + WHAT], tables[at + KERNEL], tables[at + MODE], tables[at + WIDTH] = what, kernel, mode, width
    tables[at + A], tables[at + B], tables[at + C], tables[at + Y], tables[at + G], tables[at + K] = a, b, c, y, g, k
    tables[at + P], tables[at + Q], tables[at + R], tables[at + PARTIAL], tables[at + COUNT] = p, q, start, -1, count


def _widened(tables, r, level):
    """The register with the elements of `r` spread over the lanes."""
    at = REGISTER + WORDS_A_REGISTER * r
    known = tables[at + WIDENED]
    if known and _level(tables, known) == level:
        return known
    size = tables[at + SIZE]
    made = _register(tables, 0, 0, level, size)
    if tables[at + LEVEL] == SINGLE and tables[at + SCRATCH] == 0:  # the same for all blocks
        _write(tables, SETUP + WORDS * tables[N_SETUP], SPREAD, 0, size, level, r, 0, 0, made, 0, 0, 0, 0, 0, 0)
        tables[N_SETUP] += 1
    else:
        _emit(tables, SPREAD, 0, size, level, r, 0, 0, made, 0, 0, 0, 0, 0, 0)
    tables[at + WIDENED] = made
    return made


def _is_single(tables, r, level):
    """Whether all lanes of a block read one element of `r`."""
    have = _level(tables, r)
    return have == SINGLE or (have == NARROW and level == WIDE and tables[ONE_ROW] != 0)


def _spread(tables, r, level):
    """`r`, or a register that has it over the lanes of `level`."""
    have = _level(tables, r)
    return r if r == 0 or have == level or have == VECTOR else _widened(tables, r, level)


# --- values -----------------------------------------------------------------------------------------------------------


def _value(h, tables, kinds, slots, slot, space_kind, level):
    """The register of an operand of a row over `space_kind`: made in this region, or stored before it."""
    if slot < 0:
        return 0
    stamp, register = i4(h[H.stamp], h[H.top]), i4(h[H.register], h[H.top])
    if stamp[slot] == h[H.stamps]:
        have = _level(tables, register[slot])
        if have == level or have == SINGLE or level == WIDE:
            return register[slot]
    r = _stored(h, tables, kinds, slots, slot, space_kind, level)
    stamp[slot], register[slot] = h[H.stamps], r
    return r


def _stored(h, tables, kinds, slots, slot, space_kind, level):
    kind = slots[slot]["kind"]
    size, address = ITEMSIZE[kinds[kind]["dtype"]], slots[slot]["primal"]
    if kinds[kind]["space"] == kinds[space_kind]["space"] and kinds[kind]["flags"] & CONTIGUOUS:
        return _register(tables, address, _memory_step(tables, level, size), level, size)
    if kinds[kind]["numel"] == 1:
        return _register(tables, address, 0, SINGLE, size)
    return _by_walk(tables, broadcast_walk(h, tables, kinds, kind, space_kind, False), address, size, level)


def _by_walk(tables, walk, address, size, level):
    """A register for memory of another layout: the memory itself where its rows are those of the region."""
    if level == WIDE and tables[walk] == 2 and tables[walk + 1] == tables[INNER]:
        within, along = tables[walk + 2], tables[walk + 4]
        if within == 0 and (along == size or tables[ONE_ROW]):
            return _register(tables, address, along, NARROW, size)
        if within == size and tables[ONE_ROW]:
            return _register(tables, address, along, WIDE if along else VECTOR, size)
    made = _register(tables, 0, 0, level, size)
    _emit(tables, GATHER, 0, size, level, 0, 0, 0, made, 0, 0, walk, address, 0, 0)
    return made


def _known(tables, p, q, found):
    """Where what has the key (p, q) is entered among what this region computes once: the place of its register, 0 if new.

    Nothing is, in a region of few lanes: looking would cost more than computing.
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


def _constant(h, tables, value, code):
    """A register of one number."""
    n = CONSTANTS + tables[N_CONSTANTS]
    address = h[H.tables] + 8 * n
    tables[N_CONSTANTS] += 1
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
    return _register(tables, address, 0, SINGLE, ITEMSIZE[code])


def _immediate(h, tables, r, code):
    """A register of a row's immediate: the same for equal numbers."""
    at = _known(tables, i8(h[H.rows] + 24 * r + 8, 1)[0], -1 - code, h[H.stamps])
    if at >= 0 and tables[at]:
        return tables[at]
    made = _constant(h, tables, f8(h[H.rows] + 24 * r + 8, 1)[0], code)
    if at >= 0:
        tables[at] = made
    return made


def _result(tables, kinds, slots, slot, level, stays):
    """A register for a value made in this region: in its memory where it stays."""
    size = ITEMSIZE[kinds[slots[slot]["kind"]]["dtype"]]
    address = slots[slot]["primal"] if stays else 0
    return _register(tables, address, _memory_step(tables, level, size) if address else 0, level, size)


def _row_level(tables, kinds, kind):
    """WIDE for rows over the region's space, else NARROW."""
    return WIDE if kinds[kind]["space"] == kinds[tables[SPACE_KIND]]["space"] else NARROW


def _bind_value(h, tables, kinds, slots, row, r, level, stays):
    """The instruction of an elementwise row; returns its result's register, which may be that of a row just like it."""
    cell, code = kernel_cell(h, kinds, slots, row)
    kernel = i8(h[H.kernels], 256 * N_CODES * CELLS)[cell]
    kind, n = row["kind"], arity(h, row)
    b = c = 0
    if row["flags"] & IMM_A:
        a = _immediate(h, tables, r, code)
        b = _value(h, tables, kinds, slots, row["a"], kind, level)
    else:
        a = _value(h, tables, kinds, slots, row["a"], kind, level)
        if row["flags"] & IMM_B:
            b = _immediate(h, tables, r, code)
        elif n > 1:
            b = _value(h, tables, kinds, slots, row["b"], kind, level)
            if n > 2:
                c = _value(h, tables, kinds, slots, row["c"], kind, level)
    mode = 0
    if n == 2:
        if _is_single(tables, b, level):
            mode = 2
        elif _is_single(tables, a, level):
            mode = 1
    a = a if mode == 1 else _spread(tables, a, level)
    b = b if mode == 2 else _spread(tables, b, level)
    c = _spread(tables, c, level)
    at = _known(tables, kernel, int(a) << 40 | int(b) << 20 | int(c), h[H.stamps]) if not stays else -1
    if at >= 0 and tables[at]:
        return tables[at]
    y = _result(tables, kinds, slots, row["out"], level, stays)
    if at >= 0:
        tables[at] = y
    _emit(tables, FORWARD, kernel, mode, level, a, b, c, y, 0, 0, 0, 0, 0, 0)
    return y


def _bind_reduction(h, tables, kinds, slots, row, y):
    """The instruction of a reduction: of whole rows into the register `y`, or scattered to its memory where y is 0."""
    kernels, pool = i8(h[H.kernels], 256 * N_CODES * CELLS), i8(h[H.pool], h[H.n_pool])
    cell, code = kernel_cell(h, kinds, slots, row)
    space, size = slots[row["a"]]["kind"], ITEMSIZE[code]
    level = _row_level(tables, kinds, space)
    x = _spread(tables, _value(h, tables, kinds, slots, row["a"], space, level), level)
    if y:
        _emit(
            tables, REDUCE, kernels[cell], size, level, x, 0, 0, y, 0, 0, 0, kernels[cell + 2], kernels[cell + 3],
            pool[row["c"]]
        )  # fmt: skip
        return
    out, n = row["out"], kinds[row["kind"]]["numel"]
    walk = enter_walk(tables, pool, kinds[space]["dims"], kinds[space]["ndim"], pool, row["c"] + 1, size)
    fill(slots[out]["primal"], n, kernels[cell + 3], size)
    _emit(
        tables, SCATTER, kernels[cell], size, level, x, 0, 0, 0, 0, 0, walk, slots[out]["primal"], kernels[cell + 3], n
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
    x = _spread(tables, _value(h, tables, kinds, slots, row["a"], space, WIDE), WIDE)
    kernel = i8(h[H.kernels], 256 * N_CODES * CELLS)[cell]
    _emit(tables, ALONG, kernel, 0, _row_level(tables, kinds, row["kind"]), x, 0, 0, y, 0, 0, row["c"], 0, 0, 0)


def bind_values(header, first, last):
    """Bind what is computed: for the sweep of values, and again for the rules of active rows. 0: memory is short."""
    h = i8(header, len(H))
    tables = i8(h[H.tables], TABLES)
    rows, slots = rows_at(h[H.rows], h[H.end]), slots_at(h[H.slots], h[H.top])
    kinds, marks = kinds_at(h[H.kinds], h[H.n_kinds]), u1(h[H.marks], h[H.top])
    live, ops = u1(h[H.live], h[H.top]), i4(h[H.ops], 256 * COLUMNS)
    order, want = i4(h[H.order], h[H.n_planned]), i4(h[H.want], h[H.top])
    for i in range(first, last):
        row = rows[order[i]]
        out = row["out"]
        family, inside = ops[row["opcode"] * COLUMNS], marks[out] & INSIDE
        evaluated = tables[SWEEPS] & SWEEP_VALUES and is_evaluated(slots, marks, row)
        if not evaluated and (want[out] != h[H.stamps] or slots[out]["flags"] & STORED or not inside):
            continue
        stays = evaluated and (live[out] or marks[out] & STORE or slots[out]["primal"])
        if stays and not hold_value(h, kinds, slots, out):
            return 0
        y, level = 0, _row_level(tables, kinds, row["kind"])
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


# --- adjoints ---------------------------------------------------------------------------------------------------------


def _adjoint_of_result(h, tables, kinds, slots, slot, level):
    """The register of the adjoint of a row's result; -1 where nothing has reached it."""
    stamp, register = i4(h[H.bar_stamp], h[H.top]), i4(h[H.bar_register], h[H.top])
    if stamp[slot] != h[H.stamps]:
        if slots[slot]["adjoint"] == 0:
            return -1
        size = ITEMSIZE[kinds[slots[slot]["kind"]]["dtype"]]
        stamp[slot] = h[H.stamps]
        register[slot] = _register(tables, slots[slot]["adjoint"], _memory_step(tables, level, size), level, size)
    return register[slot]


def _is_inside(h, marks, slot):
    """Whether a slot's value is made and read inside the region being bound."""
    return marks[slot] & PLANNED != 0 and marks[slot] & INSIDE != 0 and i4(h[H.region], h[H.top])[slot] == h[H.binding]


def _adjoint(h, tables, kinds, slots, marks, slot, space_kind, level):
    """The register to which a row over `space_kind` adds for an operand; plus NEW where it is the first to do so.

    -1 where memory is short.
    """
    stamp, register = i4(h[H.bar_stamp], h[H.top]), i4(h[H.bar_register], h[H.top])
    kind = slots[slot]["kind"]
    if stamp[slot] == h[H.stamps] and _level(tables, register[slot]) == level:
        return register[slot]
    size, fresh = ITEMSIZE[kinds[kind]["dtype"]], 1
    local = slots[slot]["adjoint"] == 0 and marks[slot] & WANTED == 0 and _is_inside(h, marks, slot)
    if kinds[kind]["space"] == kinds[space_kind]["space"]:
        if local:
            r = _register(tables, 0, 0, level, size)
        else:
            if slots[slot]["adjoint"]:
                fresh = 0
            elif level == WIDE:  # every lane is written
                slots[slot]["adjoint"] = part3(h[H.obtain], h[H.self], _nbytes(kinds, kind), 0)
            else:
                fresh = 0
                hold_adjoint(h, kinds, slots, slot)
            if slots[slot]["adjoint"] == 0:
                return -1
            r = _register(tables, slots[slot]["adjoint"], _memory_step(tables, level, size), level, size)
    else:  # broadcast: summed at the end of the block
        if not hold_adjoint(h, kinds, slots, slot):
            return -1
        r = _register(tables, 0, 0, level, size)
        at = TAIL + 3 * tables[N_TAIL]
        tables[at], tables[at + 1], tables[at + 2] = r, slot, space_kind
        tables[N_TAIL] += 1
    stamp[slot], register[slot] = h[H.stamps], r
    return r + NEW if fresh else r


def _narrow_adjoint(h, tables, kinds, slots, marks, slot):
    """The same for a value of the region with one element a row."""
    return _adjoint(h, tables, kinds, slots, marks, slot, slots[slot]["kind"], NARROW)


def _want_values(h, first, last):
    """Stamp the values that the region's rules read, and those that they are computed from."""
    rows, slots = rows_at(h[H.rows], h[H.end]), slots_at(h[H.slots], h[H.top])
    kinds, marks = kinds_at(h[H.kinds], h[H.n_kinds]), u1(h[H.marks], h[H.top])
    ops, order, want = i4(h[H.ops], 256 * COLUMNS), i4(h[H.order], h[H.n_planned]), i4(h[H.want], h[H.top])
    now = h[H.stamps]
    for i in range(last - 1, first - 1, -1):
        row = rows[order[i]]
        if is_active(h, kinds, marks, row):
            for k in range(arity(h, row)):
                o = operand(row, k)
                if o >= 0 and marks[o] & ADJOINT:
                    bits = saved_by(ops, row, k)
                    if bits & 1:
                        want[row["a"]] = now
                    if bits & 2:
                        want[row["b"]] = now
                    if bits & 4:
                        want[row["c"]] = now
                    if bits & 8:
                        want[row["out"]] = now
        if want[row["out"]] == now and slots[row["out"]]["flags"] & STORED == 0:
            for k in range(arity(h, row)):
                if operand(row, k) >= 0:
                    want[operand(row, k)] = now


def bind_adjoints(header, first, last):
    """Bind the partials of a region's active rows, newest row first. 0 where memory is short."""
    h = i8(header, len(H))
    tables = i8(h[H.tables], TABLES)
    rows, slots = rows_at(h[H.rows], h[H.end]), slots_at(h[H.slots], h[H.top])
    kinds, marks = kinds_at(h[H.kinds], h[H.n_kinds]), u1(h[H.marks], h[H.top])
    ops, order = i4(h[H.ops], 256 * COLUMNS), i4(h[H.order], h[H.n_planned])
    for i in range(last - 1, first - 1, -1):
        row = rows[order[i]]
        if not is_active(h, kinds, marks, row):
            continue
        family = ops[row["opcode"] * COLUMNS]
        if family == ELEMENTWISE:
            bound = _bind_partials(h, tables, kinds, slots, marks, row, order[i])
        elif family == REDUCTION:
            bound = _bind_reduction_partial(h, tables, kinds, slots, marks, row)
        else:
            bound = _bind_back(h, tables, kinds, slots, marks, row)
        if not bound:
            return 0
    for i in range(tables[N_TAIL]):
        r, slot, space_kind = tables[TAIL + 3 * i], tables[TAIL + 3 * i + 1], tables[TAIL + 3 * i + 2]
        kind = slots[slot]["kind"]
        code = kinds[kind]["dtype"]
        walk = broadcast_walk(h, tables, kinds, kind, space_kind, True)
        _emit(
            tables, SCATTER, sum_kernel(h, code), ITEMSIZE[code], _level(tables, r), r, 0, 0, 0, 0, 0, walk,
            slots[slot]["adjoint"], 0, kinds[kind]["numel"]
        )  # fmt: skip
    return 1


def _bind_partials(h, tables, kinds, slots, marks, row, r):
    """The partials of an elementwise row; False where memory is short."""
    kernels, ops = i8(h[H.kernels], 256 * N_CODES * CELLS), i4(h[H.ops], 256 * COLUMNS)
    stamp, register = i4(h[H.bar_stamp], h[H.top]), i4(h[H.bar_register], h[H.top])
    kind, out, n = row["kind"], row["out"], arity(h, row)
    level = _row_level(tables, kinds, kind)
    y_bar = _adjoint_of_result(h, tables, kinds, slots, out, level)
    if y_bar < 0:
        return True
    cell, code = kernel_cell(h, kinds, slots, row)
    last = -1
    for k in range(n):
        o = operand(row, k)
        if o >= 0 and marks[o] & ADJOINT and kernels[cell + 1 + position(row, k)]:
            last = k
    for k in range(last + 1):
        o, at = operand(row, k), position(row, k)
        if o < 0 or marks[o] & ADJOINT == 0 or kernels[cell + 1 + at] == 0:
            continue
        of = slots[o]["kind"]
        local = slots[o]["adjoint"] == 0 and marks[o] & WANTED == 0 and _is_inside(h, marks, o)
        if (
            k == last
            and local
            and stamp[o] != h[H.stamps]
            and kinds[of]["space"] == kinds[kind]["space"]
            and kinds[of]["dtype"] == kinds[kind]["dtype"]
            and ops[row["opcode"] * COLUMNS + 6] >> at & 1
            and tables[REGISTER + WORDS_A_REGISTER * y_bar + SCRATCH]
        ):
            stamp[o], register[o] = h[H.stamps], y_bar  # nobody else reads it from here on
            continue
        bits = ops[row["opcode"] * COLUMNS + 2 + at]
        a = b = c = 0
        if row["flags"] & (IMM_A | IMM_B):
            of_immediate, of_slot = (1, 2) if row["flags"] & IMM_A else (2, 1)
            if bits & of_immediate:
                a = _immediate(h, tables, r, code)
            if bits & of_slot:
                b = _value(h, tables, kinds, slots, row["a"], kind, level)
            if row["flags"] & IMM_B:
                a, b = b, a
        else:
            a = _value(h, tables, kinds, slots, row["a"], kind, level) if bits & 1 else 0
            b = _value(h, tables, kinds, slots, row["b"], kind, level) if bits & 2 else 0
            c = _value(h, tables, kinds, slots, row["c"], kind, level) if bits & 4 else 0
        y = _value(h, tables, kinds, slots, out, kind, level) if bits & 8 else 0
        mode = 0
        if bits == 1 or bits == 2 or bits == 4:  # a kernel for one number
            mode = bits if _is_single(tables, a if bits == 1 else b if bits == 2 else c, level) else 0
        if mode == 0:
            a, b, c = _spread(tables, a, level), _spread(tables, b, level), _spread(tables, c, level)
        y = _spread(tables, y, level)
        if not _bind_partial(
            h, tables, kinds, slots, marks, o, kind, level, kernels[cell + 1 + at], mode, a, b, c, y, y_bar
        ):
            return False
    return True


def _bind_partial(h, tables, kinds, slots, marks, o, space_kind, level, kernel, mode, a, b, c, y, y_bar):
    """A REVERSE instruction, and the sum over rows where the operand has one element a row."""
    code = kinds[slots[o]["kind"]]["dtype"]
    size = ITEMSIZE[code]
    if level == WIDE and _is_inside(h, marks, o) and _row_level(tables, kinds, slots[o]["kind"]) == NARROW:
        r = _narrow_adjoint(h, tables, kinds, slots, marks, o)
        if r < 0:
            return False
        wide = _register(tables, 0, 0, WIDE, size)
        _emit(tables, REVERSE, kernel, mode | FRESH, WIDE, a, b, c, y, y_bar, wide, 0, 0, 0, 0)
        _emit(tables, REDUCE, sum_kernel(h, code), size, WIDE, wide, 0, 0, r % NEW, 0, 0, 0, 0, 0, 0 if r >= NEW else 1)
        return True
    r = _adjoint(h, tables, kinds, slots, marks, o, space_kind, level)
    if r < 0:
        return False
    fresh = FRESH if r >= NEW else 0
    _emit(tables, REVERSE, kernel, mode | fresh, level, a, b, c, y, y_bar, r % NEW, 0, 0, 0, 0)
    return True


def _bind_reduction_partial(h, tables, kinds, slots, marks, row):
    """A reduction in reverse: its adjoint, and its result, are spread over what was reduced."""
    kernels, pool = i8(h[H.kernels], 256 * N_CODES * CELLS), i8(h[H.pool], h[H.n_pool])
    ops = i4(h[H.ops], 256 * COLUMNS)
    cell, code = kernel_cell(h, kinds, slots, row)
    out, o, space, size = row["out"], row["a"], slots[row["a"]]["kind"], ITEMSIZE[code]
    bits, level = ops[row["opcode"] * COLUMNS + 2], _row_level(tables, kinds, space)
    kernel, y = kernels[cell + 1], 0
    if kernel == 0:
        return True
    if marks[out] & INSIDE:
        y_bar = _adjoint_of_result(h, tables, kinds, slots, out, NARROW)
        if y_bar < 0:
            return True
        if bits & 8:
            y = _value(h, tables, kinds, slots, out, row["kind"], NARROW)
    else:
        if slots[out]["adjoint"] == 0:
            return True
        y_bar = _reduced(h, tables, kinds, slots[out]["adjoint"], row, space, size, level)
        if bits & 8:
            y = _reduced(h, tables, kinds, slots[out]["primal"], row, space, size, level)
    n = _constant(h, tables, float(pool[row["c"]]), code)
    if bits:
        x = _spread(tables, _value(h, tables, kinds, slots, o, space, level), level) if bits & 1 else 0
        y_bar, y = _spread(tables, y_bar, level), _spread(tables, y, level)
        n = _spread(tables, n, level)
        return _bind_partial(h, tables, kinds, slots, marks, o, space, level, kernel, 0, x, n, 0, y, y_bar)
    width = _level(tables, y_bar)
    if ops[row["opcode"] * COLUMNS + 6] & 1 == 0:  # the same factor for all that went into one result
        if width == VECTOR:
            y_bar, width = _spread(tables, _widened(tables, y_bar, level), level), level
        scaled = _register(tables, 0, 0, width, size)
        _emit(tables, REVERSE, kernel, 2 | FRESH, width, 0, n, 0, 0, y_bar, scaled, 0, 0, 0, 0)
        y_bar = scaled
    r = _adjoint(h, tables, kinds, slots, marks, o, space, level)
    if r < 0:
        return False
    x_bar = r % NEW
    if r >= NEW and width != level:
        _emit(tables, SPREAD, 0, size, level, y_bar, 0, 0, x_bar, 0, 0, 0, 0, 0, 0)
    else:
        add = kernels[(h[H.sum_opcode] * N_CODES + code) * CELLS + 1]
        fresh = FRESH if r >= NEW else 0
        _emit(tables, REVERSE, add, fresh, level, 0, 0, 0, 0, _spread(tables, y_bar, level), x_bar, 0, 0, 0, 0)
    return True


def _reduced(h, tables, kinds, address, row, space, size, level):
    """A register for what has the shape of a reduction's result, over the space that was reduced."""
    if kinds[row["kind"]]["numel"] == 1:
        return _register(tables, address, 0, SINGLE, size)
    pool = i8(h[H.pool], h[H.n_pool])
    walk = enter_walk(tables, pool, kinds[space]["dims"], kinds[space]["ndim"], pool, row["c"] + 1, size)
    return _by_walk(tables, walk, address, size, level)


def _bind_back(h, tables, kinds, slots, marks, row):
    """An array row along the rows of the region, in reverse."""
    cell, _ = kernel_cell(h, kinds, slots, row)
    out, o, space = row["out"], row["a"], slots[row["a"]]["kind"]
    kernel = i8(h[H.kernels], 256 * N_CODES * CELLS)[cell + 1]
    bits, level = i4(h[H.ops], 256 * COLUMNS)[row["opcode"] * COLUMNS + 2], _row_level(tables, kinds, row["kind"])
    y_bar = _adjoint_of_result(h, tables, kinds, slots, out, level)
    if y_bar < 0 or kernel == 0:
        return True
    x = _spread(tables, _value(h, tables, kinds, slots, o, space, WIDE), WIDE) if bits & 1 else 0
    y = _value(h, tables, kinds, slots, out, row["kind"], level) if bits & 8 else 0
    r = _adjoint(h, tables, kinds, slots, marks, o, space, WIDE)
    if r < 0:
        return False
    k_bar = r % NEW
    if r >= NEW:
        _emit(tables, ZERO, 0, ITEMSIZE[kinds[space]["dtype"]], WIDE, 0, 0, 0, k_bar, 0, 0, 0, 0, 0, 0)
    _emit(tables, BACK, kernel, 0, level, x, 0, 0, y, y_bar, k_bar, row["c"], 0, 0, 0)
    return True


# --- the whole region -------------------------------------------------------------------------------------------------


def bind(header, region, sweeps):
    """Describe a region for a sweep of its values, its adjoints, or both. 0 where memory is short."""
    h = i8(header, len(H))
    tables = i8(h[H.tables], TABLES)
    rows, slots = rows_at(h[H.rows], h[H.end]), slots_at(h[H.slots], h[H.top])
    kinds, ops = kinds_at(h[H.kinds], h[H.n_kinds]), i4(h[H.ops], 256 * COLUMNS)
    begin, order = i4(h[H.begin], h[H.n_regions] + 1), i4(h[H.order], h[H.n_planned])
    first, last = begin[region], begin[region + 1]
    for i in range(REGISTER):
        tables[i] = 0
    h[H.stamps] += 1
    h[H.binding] = region
    # A row over the region's space: of rows over another, narrow one, some reduction came first.
    space, wide = -1, i4(h[H.spaces], h[H.n_regions])[region]
    for i in range(first, last):
        row = rows[order[i]]
        kind = row["kind"] if ops[row["opcode"] * COLUMNS] == ELEMENTWISE else slots[row["a"]]["kind"]
        if kinds[kind]["space"] == wide:
            space = kind
            break
    lanes, inner = kinds[space]["numel"], i4(h[H.inner], h[H.n_regions])[region]
    if inner == 1:
        inner = _row_of_operands(h, tables, kinds, slots, first, last, space)
    tables[SPACE_KIND], tables[INNER], tables[N_ROWS], tables[SWEEPS] = space, inner, lanes // inner, sweeps
    tables[ONE_ROW] = inner > 1 and (inner >= LONG_ROW or lanes == inner)
    _register(tables, h[H.scratch], 0, SINGLE, 8)  # register 0 stands where a kernel has no such operand
    if sweeps & SWEEP_ADJOINTS:
        _want_values(h, first, last)
    if not part3(h[H.bind_values], header, first, last):
        return 0
    if sweeps & SWEEP_ADJOINTS and not part3(h[H.bind_adjoints], header, first, last):
        return 0
    return part1(h[H.place], header)


def _row_of_operands(h, tables, kinds, slots, first, last, space):
    """How many lanes to sweep as a row, so that operands that are broadcast need not be gathered; 1 for no rows."""
    rows, order = rows_at(h[H.rows], h[H.end]), i4(h[H.order], h[H.n_planned])
    for i in range(first, last):
        row = rows[order[i]]
        for k in range(arity(h, row)):
            o = operand(row, k)
            if o < 0 or slots[o]["flags"] & STORED == 0 or kinds[slots[o]["kind"]]["numel"] == 1:
                continue
            kind = slots[o]["kind"]
            if kinds[kind]["space"] == kinds[space]["space"] and kinds[kind]["flags"] & CONTIGUOUS:
                continue
            if kinds[kind]["ndim"] > kinds[space]["ndim"]:
                continue
            walk = broadcast_walk(h, tables, kinds, kind, space, False)
            n, inner = tables[walk], tables[walk + 1]
            tables[N_WALKS] = 0
            if n == 2 and LONG_ROW <= inner <= MAX_INNER and (last - first) * inner <= MAX_WIDE:
                return inner
    return 1


def _place_apart(tables):
    """A place for each scratch register: quick, where all of them take little memory."""
    for r in range(tables[N_REGISTERS]):
        at = REGISTER + WORDS_A_REGISTER * r
        if tables[at + SCRATCH]:
            counter = N_WIDE_PLACES if tables[at + LEVEL] == WIDE else N_NARROW_PLACES
            tables[at + BASE] = tables[counter]
            tables[counter] += 1


def _place_by_life(tables):
    """Places that are used again once a register is dead: as few as can be, so that blocks are long."""
    for i in range(tables[N_CODE]):
        for word in range(A, K + 1):
            at = REGISTER + WORDS_A_REGISTER * tables[CODE + WORDS * i + word]
            if tables[at + BORN] < 0:
                tables[at + BORN] = i
            tables[at + DIES] = i
    for i in range(tables[N_SETUP]):  # alive for good
        at = REGISTER + WORDS_A_REGISTER * tables[SETUP + WORDS * i + Y]
        tables[at + BORN], tables[at + DIES] = -2, tables[N_CODE]
        tables[at + BASE] = tables[N_WIDE_PLACES] if tables[at + LEVEL] == WIDE else tables[N_NARROW_PLACES]
        tables[N_WIDE_PLACES if tables[at + LEVEL] == WIDE else N_NARROW_PLACES] += 1
    free_wide, free_narrow = 0, 0  # stacks of places that are free, one after the other in PLACES
    half = (CONTEXT_AT - PLACES) // 2
    for i in range(tables[N_CODE]):
        for word in range(A, K + 1):
            at = REGISTER + WORDS_A_REGISTER * tables[CODE + WORDS * i + word]
            if tables[at + SCRATCH] == 0 or tables[at + BORN] != i:
                continue
            tables[at + BORN] = -2  # placed
            if tables[at + LEVEL] == WIDE:
                if free_wide:
                    free_wide -= 1
                    tables[at + BASE] = tables[PLACES + free_wide]
                else:
                    tables[at + BASE] = tables[N_WIDE_PLACES]
                    tables[N_WIDE_PLACES] += 1
            elif free_narrow:
                free_narrow -= 1
                tables[at + BASE] = tables[PLACES + half + free_narrow]
            else:
                tables[at + BASE] = tables[N_NARROW_PLACES]
                tables[N_NARROW_PLACES] += 1
        for word in range(A, K + 1):
            at = REGISTER + WORDS_A_REGISTER * tables[CODE + WORDS * i + word]
            if tables[at + SCRATCH] and tables[at + DIES] == i:
                tables[at + DIES] = -2  # let go of, once
                if tables[at + LEVEL] == WIDE:
                    tables[PLACES + free_wide] = tables[at + BASE]
                    free_wide += 1
                else:
                    tables[PLACES + half + free_narrow] = tables[at + BASE]
                    free_narrow += 1


def place(header):
    """Give scratch registers their places, and choose how many rows a block and a chunk have. 0: memory is short."""
    h = i8(header, len(H))
    tables = i8(h[H.tables], TABLES)
    if tables[N_ROWS] * tables[INNER] <= FEW_LANES:
        _place_apart(tables)
    else:
        _place_by_life(tables)
    rows, inner = tables[N_ROWS], tables[INNER]
    a_row = 8 * (tables[N_WIDE_PLACES] * inner + tables[N_NARROW_PLACES])
    if tables[ONE_ROW]:
        block = 1
    elif inner > 1:
        block = max(1, min(h[H.cache_bytes] // max(a_row, 1), 2048 // inner))
    else:
        block = max(64, min(h[H.cache_bytes] // max(a_row, 8), 2048)) // 8 * 8
    block = max(1, min(block, rows))
    wide_bytes, narrow_bytes = (block * inner * 8 + 63) // 64 * 64, (block * 8 + 63) // 64 * 64
    for r in range(tables[N_REGISTERS]):
        at = REGISTER + WORDS_A_REGISTER * r
        if tables[at + SCRATCH]:
            if tables[at + LEVEL] == WIDE:
                tables[at + BASE] *= wide_bytes
            else:
                tables[at + BASE] = tables[N_WIDE_PLACES] * wide_bytes + tables[at + BASE] * narrow_bytes
    tables[BLOCK] = block
    return _plan_chunks(h, tables, rows, inner)


def _plan_chunks(h, tables, rows, inner):
    """Share the rows out to chunks, whose number depends on the work alone: so sums are the same on any number of threads.

    What chunks would add to the same memory is added to memory of each chunk's own first (PARTIAL: the offset there).
    """
    lanes = rows * inner
    n_chunks = min(lanes * tables[N_CODE] // CHUNK_WORK, MOST_CHUNKS, (rows + tables[BLOCK] - 1) // tables[BLOCK])
    apart, partial_bytes = 1, 0  # chunks are a multiple of so many lanes
    for i in range(tables[N_CODE] if n_chunks > 1 else 0):
        at = CODE + WORDS * i
        if tables[at + WHAT] != SCATTER:
            continue
        walk, period = tables[at + P], 1
        n = tables[walk]
        for d in range(n - 1):
            period *= tables[walk + 1 + 2 * d]
        period *= 1 if tables[at + WIDTH] == WIDE else inner
        common = _common_multiple(apart, period)
        if tables[walk + 2 * n] != 0 and common * 8 <= lanes:
            apart = common
        else:
            tables[at + PARTIAL] = partial_bytes
            partial_bytes += (tables[at + COUNT] * tables[at + MODE] + 63) // 64 * 64
    if partial_bytes:
        n_chunks = min(n_chunks, MOST_PARTIAL_BYTES // partial_bytes)
    if n_chunks < 2:
        tables[CHUNK], tables[N_CHUNKS] = rows, 1 if rows else 0
        for i in range(tables[N_CODE]):
            tables[CODE + WORDS * i + PARTIAL] = -1
        return 1
    step = max(1, _common_multiple(apart, inner) // inner)
    chunk = ((rows + n_chunks - 1) // n_chunks + step - 1) // step * step
    n_chunks = (rows + chunk - 1) // chunk
    tables[CHUNK], tables[N_CHUNKS], tables[PARTIAL_BYTES] = chunk, n_chunks, partial_bytes
    return 1 if hold_partials(h, partial_bytes * n_chunks) else 0


def hold_partials(h, nbytes):
    """Make memory for what chunks add apart; False where there is none to be had."""
    if nbytes > h[H.partial_bytes]:
        if h[H.partials]:
            part2(h[H.give_back], h[H.self], h[H.partials])
        h[H.partials] = part3(h[H.obtain], h[H.self], nbytes, 0)
        h[H.partial_bytes] = nbytes if h[H.partials] else 0
    return nbytes == 0 or h[H.partials] != 0


def _common_multiple(p, q):
    a, b = p, q
    while b:
        a, b = b, a % b
    return p // max(a, 1) * q
