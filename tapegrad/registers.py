"""Registers: the description of one region, which its sweeps then follow block by block.

A region's values live in registers: one a value, `n` lanes long, either in scratch memory (it exists only while its
block is swept) or directly in the memory where the value stays. `tables` describes the region being swept, int64 each:

    BASES, STEPS    a register's address, and how far it moves a lane (0: scratch)
    FORWARD         [kernel, a, b, c, y] a row to run
    REVERSE         [kernel, a, b, c, y, y_bar, k_bar] an operand that takes a partial
    LOADS           [register, how, source, dtype]: broadcast operands and immediates, brought to a register
    SCATTERS        [register, itemsize, walk, target, kernel]: what is added to memory of another shape
    WALKS           see `walks.py`
"""

from tapegrad.dtypes import DTYPES
from tapegrad.kernels import CELLS
from tapegrad.memory import (
    allocate,
    allocate_zeroed,
    call5,
    f4,
    f8,
    i4,
    i8,
    kinds_at,
    part7,
    part8,
    rows_at,
    slots_at,
    u1,
)
from tapegrad.op import ELEMENTWISE, REDUCTION
from tapegrad.schedule import (
    ADJOINT,
    COLUMNS,
    PLANNED,
    STORE,
    WANTED,
    arity,
    is_active,
    is_evaluated,
    operand,
    position,
    saved_by,
)
from tapegrad.tape import CONTIGUOUS, IMM_A, IMM_B, STORED, TABLES, H
from tapegrad.walks import (
    BASES, FORWARD, ITEMSIZE, LANES, LOADS, N_FORWARD, N_LOADS, N_LOCAL, N_REGISTERS, N_REVERSE, N_SCATTERS, N_ZEROED,
    REVERSE, SCATTERS, SPACE_KIND, STEPS, WALKS, ZEROED, broadcast_walk, enter_walk,
)  # fmt: skip

N_CODES = len(DTYPES)
# How a load is done: fill with an immediate, spread a single element, or follow a walk (its place in the tables is
# larger than these).
FILL, SPREAD = 0, 1


def _nbytes(kinds, kind):
    return kinds[kind]["numel"] * ITEMSIZE[kinds[kind]["dtype"]]


def hold_value(h, kinds, slots, slot):
    """Make memory for a value; False where there is none to be had."""
    if slots[slot]["primal"] == 0:
        slots[slot]["primal"] = allocate(h[H.allocate], _nbytes(kinds, slots[slot]["kind"]))
        h[H.allocated] += _nbytes(kinds, slots[slot]["kind"])
    return slots[slot]["primal"] != 0


def hold_adjoint(h, kinds, slots, slot):
    """Make memory for an adjoint, zero, contiguous; False where there is none to be had."""
    if slots[slot]["adjoint"] == 0:
        kind = slots[slot]["kind"]
        numel = kinds[kind]["numel"]
        slots[slot]["adjoint"] = allocate_zeroed(h[H.allocate_zeroed], max(numel, 1), ITEMSIZE[kinds[kind]["dtype"]])
    return slots[slot]["adjoint"] != 0


def kernel_cell(h, kinds, slots, row):
    """The row's place in the table of kernels, and the dtype it computes in."""
    by = i4(h[H.ops], 256 * COLUMNS)[row["opcode"] * COLUMNS + 5]
    code = kinds[slots[row["b"] if by == 1 else row["a"]]["kind"]]["dtype"]
    return (row["opcode"] * N_CODES + code) * CELLS, code


def open_region(h, first):
    """Begin to describe a region; returns its tables."""
    tables = i8(h[H.tables], TABLES)
    for i in range(N_ZEROED + 1):
        tables[i] = 0
    h[H.stamps] += 1
    rows, slots = rows_at(h[H.rows], h[H.end]), slots_at(h[H.slots], h[H.top])
    row = rows[i4(h[H.order], h[H.n_planned])[first]]
    family = i4(h[H.ops], 256 * COLUMNS)[row["opcode"] * COLUMNS]
    kind = row["kind"] if family == ELEMENTWISE else slots[row["a"]]["kind"]
    tables[SPACE_KIND] = kind
    tables[LANES] = kinds_at(h[H.kinds], h[H.n_kinds])[kind]["numel"]
    return tables


def new_register(tables, address, step):
    """A new register; without an address it is in scratch memory, placed by `_place`."""
    r = tables[N_REGISTERS]
    tables[N_REGISTERS] += 1
    if address:
        tables[BASES + r], tables[STEPS + r] = address, step
    else:
        tables[BASES + r], tables[STEPS + r] = -1 - tables[N_LOCAL], 0
        tables[N_LOCAL] += 1
    return r


def _load(tables, r, how, source, code):
    n = LOADS + 4 * tables[N_LOADS]
    tables[n], tables[n + 1], tables[n + 2], tables[n + 3] = r, how, source, code
    tables[N_LOADS] += 1


def _value_register(h, tables, kinds, slots, slot):
    """The register of an operand: made in this region, or stored before it."""
    if slot < 0:
        return 0
    stamp, register = i4(h[H.stamp], h[H.top]), i4(h[H.register], h[H.top])
    if stamp[slot] != h[H.stamps]:
        stamp[slot] = h[H.stamps]
        register[slot] = _stored_register(h, tables, kinds, slots, slot)
    return register[slot]


def _stored_register(h, tables, kinds, slots, slot):
    kind, space = slots[slot]["kind"], tables[SPACE_KIND]
    code = kinds[kind]["dtype"]
    if kinds[kind]["space"] == kinds[space]["space"] and kinds[kind]["flags"] & CONTIGUOUS:
        return new_register(tables, slots[slot]["primal"], ITEMSIZE[code])
    r = new_register(tables, 0, 0)
    if kinds[kind]["numel"] == 1:
        _load(tables, r, SPREAD, slots[slot]["primal"], code)
    else:
        # The walk's number in the place of `how`: a walk begins far behind the small numbers.
        _load(tables, r, broadcast_walk(h, tables, kinds, kind, space, False), slots[slot]["primal"], code)
    return r


def _immediate_register(h, tables, r, code):
    """A register filled with a row's immediate, in the dtype of the operation."""
    made = new_register(tables, 0, 0)
    _load(tables, made, FILL, i8(h[H.rows] + 24 * r + 8, 1)[0], code)
    return made


def _operands(h, tables, kinds, slots, row, r, code):
    """The registers of operands a, b, c of a row, in the order of the operation."""
    n = arity(h, row)
    if row["flags"] & IMM_A:
        return _immediate_register(h, tables, r, code), _value_register(h, tables, kinds, slots, row["a"]), 0
    a = _value_register(h, tables, kinds, slots, row["a"])
    if row["flags"] & IMM_B:
        return a, _immediate_register(h, tables, r, code), 0
    b = _value_register(h, tables, kinds, slots, row["b"]) if n > 1 else 0
    c = _value_register(h, tables, kinds, slots, row["c"]) if n > 2 else 0
    return a, b, c


def place(header):
    """Choose the block length, give scratch registers their addresses, do the loads that hold for all blocks.

    Returns the length.
    """
    h = i8(header, len(H))
    tables = i8(h[H.tables], TABLES)
    lanes = tables[LANES]
    block = max(8, min(2048, h[H.scratch_bytes] // (8 * max(tables[N_LOCAL], 1)) // 8 * 8))
    block = min(block, (lanes + 7) // 8 * 8)
    for r in range(tables[N_REGISTERS]):
        if tables[BASES + r] < 0:
            tables[BASES + r] = h[H.scratch] + (-1 - tables[BASES + r]) * block * 8
    for i in range(tables[N_LOADS]):
        at = LOADS + 4 * i
        how, code, target = tables[at + 1], tables[at + 3], tables[BASES + tables[at]]
        n = min(block, lanes)
        if how == FILL:
            value = f8(h[H.tables] + 8 * (at + 2), 1)[0]
            if code == 4:
                for j in range(n):
                    f8(target, n)[j] = value
            elif code == 3:
                for j in range(n):
                    f4(target, n)[j] = value
            elif code == 2:
                for j in range(n):
                    i8(target, n)[j] = int(value)
            elif code == 1:
                for j in range(n):
                    i4(target, n)[j] = int(value)
            else:
                for j in range(n):
                    u1(target, n)[j] = value != 0
        elif how == SPREAD:
            size = ITEMSIZE[code]
            for j in range(n):
                if size == 8:
                    i8(target, n)[j] = i8(tables[at + 2], 1)[0]
                elif size == 4:
                    i4(target, n)[j] = i4(tables[at + 2], 1)[0]
                else:
                    u1(target, n)[j] = u1(tables[at + 2], 1)[0]
    return block


def address(tables, r, start):
    return tables[BASES + r] + tables[STEPS + r] * start


def run_block(h, tables, start, n):
    """Load what changes from block to block, and run the forward rows."""
    for i in range(tables[N_LOADS]):
        at = LOADS + 4 * i
        if tables[at + 1] >= WALKS:
            part7(
                h[H.gather], h[H.tables], tables[at + 1], tables[at + 2], tables[BASES + tables[at]], start, n,
                ITEMSIZE[tables[at + 3]]
            )  # fmt: skip
    for i in range(tables[N_FORWARD]):
        at = FORWARD + 5 * i
        call5(
            tables[at], n, address(tables, tables[at + 1], start), address(tables, tables[at + 2], start),
            address(tables, tables[at + 3], start), address(tables, tables[at + 4], start),
        )  # fmt: skip


def scatter_block(h, tables, start, n):
    """Merge what the block has for memory of another shape."""
    for i in range(tables[N_SCATTERS]):
        at = SCATTERS + 5 * i
        part8(
            h[H.scatter], h[H.tables], tables[at + 2], address(tables, tables[at], start), tables[at + 3], start, n,
            tables[at + 1], tables[at + 4],
        )  # fmt: skip


def bind_forward(header, first, last):
    """Describe a region's forward sweep; 0 where memory is short."""
    h = i8(header, len(H))
    tables = open_region(h, first)
    rows, slots = rows_at(h[H.rows], h[H.end]), slots_at(h[H.slots], h[H.top])
    kinds, marks = kinds_at(h[H.kinds], h[H.n_kinds]), u1(h[H.marks], h[H.top])
    live, ops = u1(h[H.live], h[H.top]), i4(h[H.ops], 256 * COLUMNS)
    kernels = i8(h[H.kernels], 256 * N_CODES * CELLS)
    order, pool = i4(h[H.order], h[H.n_planned]), i8(h[H.pool], h[H.n_pool])
    for i in range(first, last):
        row = rows[order[i]]
        out = row["out"]
        if not is_evaluated(slots, marks, row):
            continue
        cell, code = kernel_cell(h, kinds, slots, row)
        if ops[row["opcode"] * COLUMNS] == REDUCTION:
            if not hold_value(h, kinds, slots, out):
                return 0
            x = _value_register(h, tables, kinds, slots, row["a"])
            space = slots[row["a"]]["kind"]
            walk = enter_walk(
                tables, pool, kinds[space]["dims"], kinds[space]["ndim"], pool, row["c"] + 1, ITEMSIZE[code]
            )
            if h[H.at_lane] == 0:
                _start_reduction(slots[out]["primal"], kinds[row["kind"]]["numel"], kernels[cell + 3], ITEMSIZE[code])
            _enter_scatter(tables, x, walk, slots[out]["primal"], kernels[cell], ITEMSIZE[code])
            continue
        a, b, c = _operands(h, tables, kinds, slots, row, order[i], code)
        address = 0
        if live[out] or marks[out] & STORE or slots[out]["primal"]:
            if not hold_value(h, kinds, slots, out):
                return 0
            address = slots[out]["primal"]
        y = new_register(tables, address, ITEMSIZE[kinds[row["kind"]]["dtype"]])
        i4(h[H.stamp], h[H.top])[out] = h[H.stamps]
        i4(h[H.register], h[H.top])[out] = y
        _enter_forward(tables, kernels[cell], a, b, c, y)
    return 1


def _enter_forward(tables, kernel, a, b, c, y):
    at = FORWARD + 5 * tables[N_FORWARD]
    tables[at], tables[at + 1], tables[at + 2], tables[at + 3], tables[at + 4] = kernel, a, b, c, y
    tables[N_FORWARD] += 1


def _enter_scatter(tables, r, walk, target, kernel, itemsize):
    at = SCATTERS + 5 * tables[N_SCATTERS]
    tables[at], tables[at + 1], tables[at + 2], tables[at + 3], tables[at + 4] = r, itemsize, walk, target, kernel
    tables[N_SCATTERS] += 1


def _start_reduction(address, n, bits, itemsize):
    for i in range(n):
        if itemsize == 8:
            i8(address, n)[i] = bits
        elif itemsize == 4:
            i4(address, n)[i] = bits
        else:
            u1(address, n)[i] = bits


def _adjoint_register(h, tables, kinds, slots, marks, slot, region):
    """The register to which partials are added for a slot, or -1 where memory is short."""
    stamp, register = i4(h[H.bar_stamp], h[H.top]), i4(h[H.bar_register], h[H.top])
    if stamp[slot] == h[H.stamps]:
        return register[slot]
    kind, space = slots[slot]["kind"], tables[SPACE_KIND]
    code = kinds[kind]["dtype"]
    inside = marks[slot] & PLANNED != 0 and i4(h[H.region], h[H.top])[slot] == region
    same = kinds[kind]["space"] == kinds[space]["space"]
    if inside and slots[slot]["adjoint"] == 0 and marks[slot] & WANTED == 0:
        r = new_register(tables, 0, 0)
        tables[ZEROED + tables[N_ZEROED]] = r
        tables[N_ZEROED] += 1
    else:
        if not hold_adjoint(h, kinds, slots, slot):
            return -1
        if same:
            r = new_register(tables, slots[slot]["adjoint"], ITEMSIZE[code])
        else:
            r = new_register(tables, 0, 0)
            tables[ZEROED + tables[N_ZEROED]] = r
            tables[N_ZEROED] += 1
            walk = broadcast_walk(h, tables, kinds, kind, space, True)
            kernel = i8(h[H.kernels], 256 * N_CODES * CELLS)[(h[H.sum_opcode] * N_CODES + code) * CELLS]
            _enter_scatter(tables, r, walk, slots[slot]["adjoint"], kernel, ITEMSIZE[code])
    stamp[slot] = h[H.stamps]
    register[slot] = r
    return r


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


def bind_reverse(header, first, last):
    """Describe a reverse sweep: values to compute again, then partials, newest row first. 0 where memory is short."""
    h = i8(header, len(H))
    tables, region = open_region(h, first), h[H.at_region]
    new_register(tables, h[H.scratch], 0)  # register 0 stands where a kernel has no such operand
    rows, slots = rows_at(h[H.rows], h[H.end]), slots_at(h[H.slots], h[H.top])
    kinds, marks = kinds_at(h[H.kinds], h[H.n_kinds]), u1(h[H.marks], h[H.top])
    ops, kernels = i4(h[H.ops], 256 * COLUMNS), i8(h[H.kernels], 256 * N_CODES * CELLS)
    order, want = i4(h[H.order], h[H.n_planned]), i4(h[H.want], h[H.top])
    _want_values(h, first, last)
    for i in range(first, last):
        row = rows[order[i]]
        out = row["out"]
        if want[out] != h[H.stamps] or slots[out]["flags"] & STORED or ops[row["opcode"] * COLUMNS] != ELEMENTWISE:
            continue
        cell, code = kernel_cell(h, kinds, slots, row)
        a, b, c = _operands(h, tables, kinds, slots, row, order[i], code)
        y = new_register(tables, 0, 0)
        i4(h[H.stamp], h[H.top])[out] = h[H.stamps]
        i4(h[H.register], h[H.top])[out] = y
        _enter_forward(tables, kernels[cell], a, b, c, y)
    for i in range(last - 1, first - 1, -1):
        row = rows[order[i]]
        out = row["out"]
        if not is_active(h, kinds, marks, row):
            continue
        cell, code = kernel_cell(h, kinds, slots, row)
        if ops[row["opcode"] * COLUMNS] == REDUCTION:
            if slots[out]["adjoint"] and not _bind_reduction(h, tables, kinds, slots, marks, row, cell, code, region):
                return 0
            continue
        y_bar = _adjoint_register(h, tables, kinds, slots, marks, out, region)
        if y_bar < 0:
            return 0
        for k in range(arity(h, row)):
            o = operand(row, k)
            if o < 0 or marks[o] & ADJOINT == 0:
                continue
            k_bar = _adjoint_register(h, tables, kinds, slots, marks, o, region)
            if k_bar < 0:
                return 0
            bits = ops[row["opcode"] * COLUMNS + 2 + position(row, k)]
            at = REVERSE + 7 * tables[N_REVERSE]
            tables[at] = kernels[cell + 1 + position(row, k)]
            if row["flags"] & (IMM_A | IMM_B):
                of_immediate, of_slot = (1, 2) if row["flags"] & IMM_A else (2, 1)
                first_r = second_r = 0
                if bits & of_immediate:
                    first_r = _immediate_register(h, tables, order[i], code)
                if bits & of_slot:
                    second_r = _value_register(h, tables, kinds, slots, row["a"])
                tables[at + 1], tables[at + 2] = (first_r, second_r) if row["flags"] & IMM_A else (second_r, first_r)
                tables[at + 3] = 0
            else:
                tables[at + 1] = _value_register(h, tables, kinds, slots, row["a"]) if bits & 1 else 0
                tables[at + 2] = _value_register(h, tables, kinds, slots, row["b"]) if bits & 2 else 0
                tables[at + 3] = _value_register(h, tables, kinds, slots, row["c"]) if bits & 4 else 0
            tables[at + 4] = _value_register(h, tables, kinds, slots, out) if bits & 8 else 0
            tables[at + 5], tables[at + 6] = y_bar, k_bar
            tables[N_REVERSE] += 1
    return 1


def _bind_reduction(h, tables, kinds, slots, marks, row, cell, code, region):
    """A reduction in reverse: its adjoint and its result are broadcast over the region."""
    pool, kernels = i8(h[H.pool], h[H.n_pool]), i8(h[H.kernels], 256 * N_CODES * CELLS)
    out, space, size = row["out"], slots[row["a"]]["kind"], ITEMSIZE[code]
    bits = i4(h[H.ops], 256 * COLUMNS)[row["opcode"] * COLUMNS + 2]
    k_bar = _adjoint_register(h, tables, kinds, slots, marks, row["a"], region)
    if k_bar < 0:
        return False
    walk = enter_walk(tables, pool, kinds[space]["dims"], kinds[space]["ndim"], pool, row["c"] + 1, size)
    y_bar = new_register(tables, 0, 0)
    _load(tables, y_bar, walk, slots[out]["adjoint"], code)
    n = new_register(tables, 0, 0)
    f8(h[H.scratch], 1)[0] = float(pool[row["c"]])
    _load(tables, n, FILL, i8(h[H.scratch], 1)[0], code)
    y = 0
    if bits & 8:
        y = new_register(tables, 0, 0)
        _load(tables, y, walk, slots[out]["primal"], code)
    at = REVERSE + 7 * tables[N_REVERSE]
    tables[at] = kernels[cell + 1]
    tables[at + 1] = _value_register(h, tables, kinds, slots, row["a"]) if bits & 1 else 0
    tables[at + 2], tables[at + 3], tables[at + 4], tables[at + 5], tables[at + 6] = n, 0, y, y_bar, k_bar
    tables[N_REVERSE] += 1
    return True
