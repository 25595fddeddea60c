"""The sweeps: forward computes values, reverse accumulates adjoints, region by region, block by block.

A region's values live in registers: one a value, `n` lanes long, either in scratch memory (it exists only while its block is swept) or directly
in the memory where the value stays. `tables` describes the region being swept, int64 each:

    BASES, STEPS    a register's address, and how far it moves a lane (0: scratch)
    FORWARD         [kernel, a, b, c, y] a row to run
    REVERSE         [kernel, a, b, c, y, y_bar, k_bar] an operand that takes a partial
    LOADS           [register, how, source, dtype]: broadcast operands and immediates, brought to a register
    SCATTERS        [register, walk, target, kernel]: what is added to memory of another shape
    WALKS           [ndim, lengths, strides], innermost first: how a tensor of another layout is met in the order of the lanes

Forward: load, run the rows, store what must be stored. Reverse: load again, run the rows again, then the partials, newest row first;
add to the operands' adjoints. So a chain of K operations moves its inputs and outputs through memory, not K times as much.
"""

from __future__ import annotations

from tapegrad.dtypes import DTYPES
from tapegrad.kernels import CELLS, CONTEXT
from tapegrad.memory import (
    allocate,
    allocate_zeroed,
    call1,
    call3,
    call4,
    call5,
    call7,
    f4,
    f8,
    i4,
    i8,
    kinds_at,
    release,
    rows_at,
    slots_at,
    u1,
)
from tapegrad.op import ARRAY, ELEMENTWISE, LAYOUT, REDUCTION
from tapegrad.schedule import (
    ADJOINT,
    MORE,
    NO_MEMORY,
    OK,
    PLANNED,
    STORE,
    WANTED,
    arity,
    finish,
    is_active,
    is_evaluated,
    operand,
    position,
    saved_by,
    schedule,
)
from tapegrad.tape import CONTIGUOUS, FIRST, H, IMM_A, IMM_B, LAST, OWNED, PARAMS, PIECE, STORED, TABLES

_COLUMNS, _N_CODES = 8, len(DTYPES)
_ITEMSIZE = tuple(d.itemsize for d in DTYPES)
_N_CONTEXT = len(CONTEXT)

# Where each table begins, and the counters before them.
N_REGISTERS, N_FORWARD, N_REVERSE, N_LOADS, N_SCATTERS, N_WALKS, N_LOCAL, N_ZEROED, LANES, SPACE_KIND = range(10)
_MANY = 2304
BASES = 16
STEPS = BASES + _MANY
FORWARD = STEPS + _MANY
REVERSE = FORWARD + 5 * 256
LOADS = REVERSE + 7 * 768
SCATTERS = LOADS + 4 * 1100
ZEROED = SCATTERS + 4 * 1100
CONTEXT_AT = ZEROED + _MANY
WALKS = CONTEXT_AT + 64

# How a load is done.
FILL, SPREAD, WALK = 0, 1, 2
# The phases of `run`.
PLAN, SWEEP_FORWARD, SWEEP_REVERSE, ABORT = 0, 1, 2, 3

assert TABLES - WALKS >= 1100 * 66  # a walk for each load and scatter of the largest region, at 32 dimensions


def run(header):
    """Plan and sweep, until done (OK) or the budget is spent (MORE: call again); or an error, after which nothing has changed."""
    h = i8(header, len(H))
    if h[H.phase] == PLAN:
        status = schedule(h)
        if status != OK:
            finish(h, False)
            return status
        h[H.phase], h[H.at_region], h[H.at_lane] = SWEEP_FORWARD, 0, 0
    if h[H.phase] == SWEEP_FORWARD:
        status = sweep_forward(h)
        if status == OK and h[H.n_seeds]:
            status = _seed(h)
            h[H.phase], h[H.at_region], h[H.at_lane] = SWEEP_REVERSE, h[H.n_regions] - 1, 0
    else:
        status = OK
    if h[H.phase] == SWEEP_REVERSE and status == OK:
        status = sweep_reverse(h)
    if h[H.phase] == ABORT:
        status = NO_MEMORY
    if status != MORE:
        finish(h, status == OK)
    return status


def sweep_forward(h):
    """Values, from the oldest region to the newest."""
    while h[H.at_region] < h[H.n_regions]:
        if h[H.budget] < 0:
            return MORE
        begin = i4(h[H.begin], h[H.n_regions] + 1)
        first, last = begin[h[H.at_region]], begin[h[H.at_region] + 1]
        if i4(h[H.spaces], h[H.n_regions])[h[H.at_region]] >= 0:
            status = _forward_region(h, first, last)
        else:
            status = _forward_whole(h, i4(h[H.order], h[H.n_planned])[first])
        if status != OK:
            return status
        h[H.at_region] += 1
        h[H.at_lane] = 0
    return OK


def sweep_reverse(h):
    """Adjoints, from the newest region to the oldest."""
    while h[H.at_region] >= 0:
        if h[H.budget] < 0:
            return MORE
        begin = i4(h[H.begin], h[H.n_regions] + 1)
        first, last = begin[h[H.at_region]], begin[h[H.at_region] + 1]
        if i4(h[H.spaces], h[H.n_regions])[h[H.at_region]] >= 0:
            status = _reverse_region(h, first, last)
        else:
            status = _reverse_whole(h, i4(h[H.order], h[H.n_planned])[first])
        if status != OK:
            return status
        _release_adjoints(h, first, last)
        h[H.at_region] -= 1
        h[H.at_lane] = 0
    return OK


# --- memory of values and adjoints -----------------------------------------------------------------------------------


def _nbytes(kinds, kind):
    return kinds[kind]["numel"] * _ITEMSIZE[kinds[kind]["dtype"]]


def _hold_value(h, kinds, slots, slot):
    """Make memory for a value; False where there is none to be had."""
    if slots[slot]["primal"] == 0:
        slots[slot]["primal"] = allocate(h[H.allocate], _nbytes(kinds, slots[slot]["kind"]))
    return slots[slot]["primal"] != 0


def _hold_adjoint(h, kinds, slots, slot):
    """Make memory for an adjoint, zero, contiguous; False where there is none to be had."""
    if slots[slot]["adjoint"] == 0:
        kind = slots[slot]["kind"]
        numel = kinds[kind]["numel"]
        slots[slot]["adjoint"] = allocate_zeroed(h[H.allocate_zeroed], max(numel, 1), _ITEMSIZE[kinds[kind]["dtype"]])
    return slots[slot]["adjoint"] != 0


def _release_adjoints(h, first, last):
    """Let go of the adjoints that a region has passed on."""
    rows, slots = rows_at(h[H.rows], h[H.end]), slots_at(h[H.slots], h[H.top])
    marks, order = u1(h[H.marks], h[H.top]), i4(h[H.order], h[H.n_planned])
    for i in range(first, last):
        row = rows[order[i]]
        out = row["out"]
        if row["flags"] & PIECE and row["flags"] & FIRST == 0:
            continue  # a slot that several rows fill is done with the oldest
        if slots[out]["adjoint"] != 0 and marks[out] & WANTED == 0:
            release(h[H.release], slots[out]["adjoint"])
            slots[out]["adjoint"] = 0


def _seed(h):
    """Enter the given adjoints: ones, or the value of another slot."""
    slots, kinds = slots_at(h[H.slots], h[H.top]), kinds_at(h[H.kinds], h[H.n_kinds])
    n_targets, n_seeds = h[H.n_targets], h[H.n_seeds]
    lists = i4(h[H.lists], n_targets + 2 * n_seeds)
    tables = i8(h[H.tables], TABLES)
    for i in range(n_seeds):
        slot, given = lists[n_targets + 2 * i], lists[n_targets + 2 * i + 1]
        if not _hold_adjoint(h, kinds, slots, slot):
            return NO_MEMORY
        kind = slots[slot]["kind"]
        code, n = kinds[kind]["dtype"], kinds[kind]["numel"]
        at = slots[slot]["adjoint"]
        if given < 0:
            for j in range(n):
                if code == 4:
                    f8(at, n)[j] += 1.0
                else:
                    f4(at, n)[j] += 1.0
            continue
        # The given value may have any strides; the adjoint is contiguous. The roles of source and target are swapped in the walk.
        source = slots[given]["kind"]
        tables[N_WALKS] = 0
        pool, dims = i8(h[H.pool], h[H.n_pool]), kinds[source]["dims"]
        walk = _walk(tables, pool, dims, kinds[source]["ndim"], pool, dims + kinds[source]["ndim"], 1)
        scratch = h[H.scratch]
        done = 0
        while done < n:
            length = min(n - done, 4096)
            _gather(tables, walk, slots[given]["primal"], scratch, done, length, _ITEMSIZE[code])
            for j in range(length):
                if code == 4:
                    f8(at, n)[done + j] += f8(scratch, length)[j]
                else:
                    f4(at, n)[done + j] += f4(scratch, length)[j]
            done += length
    return OK


# --- walks: tensors of other layouts, in the order of the lanes -------------------------------------------------------


def _walk(tables, pool, dims, ndim, stride_pool, strides, scale):
    """Enter a walk over `ndim` lengths with as many strides (times `scale`: bytes), neighbours that form one run joined."""
    at = WALKS + tables[N_WALKS]
    n = 0
    for d in range(ndim - 1, -1, -1):
        length, stride = pool[dims + d], stride_pool[strides + d] * scale
        if length == 1:
            continue
        if n and tables[at + 2 + 2 * (n - 1)] * tables[at + 1 + 2 * (n - 1)] == stride:
            tables[at + 1 + 2 * (n - 1)] *= length
        else:
            tables[at + 1 + 2 * n] = length
            tables[at + 2 + 2 * n] = stride
            n += 1
    if n == 0:
        tables[at + 1], tables[at + 2], n = 1, 0, 1
    tables[at] = n
    tables[N_WALKS] += 1 + 2 * n
    return at


def _broadcast_walk(h, tables, kinds, kind, space_kind, contiguous):
    """A walk over the space for an operand that is broadcast to it; over its adjoint's memory where `contiguous`."""
    pool = i8(h[H.pool], h[H.n_pool])
    ndim, missing = kinds[space_kind]["ndim"], kinds[space_kind]["ndim"] - kinds[kind]["ndim"]
    space, shape = kinds[space_kind]["dims"], kinds[kind]["dims"]
    strides = shape + kinds[kind]["ndim"]
    at, n, step = WALKS + tables[N_WALKS], 0, _ITEMSIZE[kinds[kind]["dtype"]]
    for d in range(ndim - 1, -1, -1):
        length, stride = pool[space + d], 0
        if d >= missing:
            own = pool[shape + d - missing]
            if own != 1:
                stride = step if contiguous else pool[strides + d - missing]
            step *= own
        if length == 1:
            continue
        if n and tables[at + 2 + 2 * (n - 1)] * tables[at + 1 + 2 * (n - 1)] == stride:
            tables[at + 1 + 2 * (n - 1)] *= length
        else:
            tables[at + 1 + 2 * n] = length
            tables[at + 2 + 2 * n] = stride
            n += 1
    if n == 0:
        tables[at + 1], tables[at + 2], n = 1, 0, 1
    tables[at] = n
    tables[N_WALKS] += 1 + 2 * n
    return at


def _gather(tables, walk, source, target, start, n, itemsize):
    """Bring lanes [start, start + n) of a walk from `source` together at `target`."""
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
            for i in range(length):
                to4[i] = i4(offset + i * stride, 1)[0]
        else:
            to1 = u1(target + done, length)
            for i in range(length):
                to1[i] = u1(offset + i * stride, 1)[0]
        done += length


def _scatter(tables, walk, source, target, start, n, itemsize, kernel, scratch):
    """Merge lanes [start, start + n) at `source` into a walk from `target`."""
    inner, stride = tables[walk + 1], tables[walk + 2]
    done = 0
    while done < n:
        lane = start + done
        within = lane % inner
        offset = target + _outer_offset(tables, walk, lane // inner) + within * stride
        length = min(inner - within, n - done)
        if stride == 0:
            call4(kernel, length, source + done * itemsize, offset, 0)
        elif stride == itemsize:
            call4(kernel, length, source + done * itemsize, offset, 1)
        else:
            for i in range(length):
                call4(kernel, 1, source + (done + i) * itemsize, offset + i * stride, 1)
        done += length


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


# --- registers ---------------------------------------------------------------------------------------------------------


def _open(h, first):
    """Begin to describe a region; returns its tables."""
    tables = i8(h[H.tables], TABLES)
    for i in range(N_ZEROED + 1):
        tables[i] = 0
    h[H.stamps] += 1
    rows, slots = rows_at(h[H.rows], h[H.end]), slots_at(h[H.slots], h[H.top])
    row = rows[i4(h[H.order], h[H.n_planned])[first]]
    family = i4(h[H.ops], 256 * _COLUMNS)[row["opcode"] * _COLUMNS]
    kind = row["kind"] if family == ELEMENTWISE else slots[row["a"]]["kind"]
    tables[SPACE_KIND] = kind
    tables[LANES] = kinds_at(h[H.kinds], h[H.n_kinds])[kind]["numel"]
    return tables


def _register(tables, address, step):
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
        return _register(tables, slots[slot]["primal"], _ITEMSIZE[code])
    r = _register(tables, 0, 0)
    if kinds[kind]["numel"] == 1:
        _load(tables, r, SPREAD, slots[slot]["primal"], code)
    else:
        # The walk's number in the place of `how`: a walk begins far behind the small numbers.
        _load(tables, r, _broadcast_walk(h, tables, kinds, kind, space, False), slots[slot]["primal"], code)
    return r


def _immediate_register(h, tables, r, code):
    """A register filled with a row's immediate, in the dtype of the operation."""
    made = _register(tables, 0, 0)
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


def _kernel_cell(h, kinds, slots, row):
    """The row's place in the table of kernels, and the dtype it computes in."""
    by = i4(h[H.ops], 256 * _COLUMNS)[row["opcode"] * _COLUMNS + 6]
    code = kinds[slots[row["b"] if by == 1 else row["a"]]["kind"]]["dtype"]
    return (row["opcode"] * _N_CODES + code) * CELLS, code


def _place(h, tables):
    """Choose the block length, give scratch registers their addresses, do the loads that hold for all blocks. Returns the length."""
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
            size = _ITEMSIZE[code]
            for j in range(n):
                if size == 8:
                    i8(target, n)[j] = i8(tables[at + 2], 1)[0]
                elif size == 4:
                    i4(target, n)[j] = i4(tables[at + 2], 1)[0]
                else:
                    u1(target, n)[j] = u1(tables[at + 2], 1)[0]
    return block


def _address(tables, r, start):
    return tables[BASES + r] + tables[STEPS + r] * start


def _run_block(tables, start, n):
    """Load what changes from block to block, and run the forward rows."""
    for i in range(tables[N_LOADS]):
        at = LOADS + 4 * i
        if tables[at + 1] >= WALKS:
            _gather(tables, tables[at + 1], tables[at + 2], tables[BASES + tables[at]], start, n, _ITEMSIZE[tables[at + 3]])
    for i in range(tables[N_FORWARD]):
        at = FORWARD + 5 * i
        call5(
            tables[at], n, _address(tables, tables[at + 1], start), _address(tables, tables[at + 2], start),
            _address(tables, tables[at + 3], start), _address(tables, tables[at + 4], start),
        )  # fmt: skip


# --- regions ---------------------------------------------------------------------------------------------------------


def _bind_forward(h, tables, first, last):
    """Describe a region's forward sweep; False where memory is short."""
    rows, slots = rows_at(h[H.rows], h[H.end]), slots_at(h[H.slots], h[H.top])
    kinds, marks = kinds_at(h[H.kinds], h[H.n_kinds]), u1(h[H.marks], h[H.top])
    live, ops = u1(h[H.live], h[H.top]), i4(h[H.ops], 256 * _COLUMNS)
    kernels = i8(h[H.kernels], 256 * _N_CODES * CELLS)
    order, pool = i4(h[H.order], h[H.n_planned]), i8(h[H.pool], h[H.n_pool])
    for i in range(first, last):
        row = rows[order[i]]
        out = row["out"]
        if not is_evaluated(slots, marks, row):
            continue
        cell, code = _kernel_cell(h, kinds, slots, row)
        if ops[row["opcode"] * _COLUMNS] == REDUCTION:
            if not _hold_value(h, kinds, slots, out):
                return False
            x = _value_register(h, tables, kinds, slots, row["a"])
            space = slots[row["a"]]["kind"]
            walk = _walk(tables, pool, kinds[space]["dims"], kinds[space]["ndim"], pool, row["c"] + 1, _ITEMSIZE[code])
            if h[H.at_lane] == 0:
                _start_reduction(slots[out]["primal"], kinds[row["kind"]]["numel"], kernels[cell + 3], _ITEMSIZE[code])
            _enter_scatter(tables, x, walk, slots[out]["primal"], kernels[cell], _ITEMSIZE[code])
            continue
        a, b, c = _operands(h, tables, kinds, slots, row, order[i], code)
        address = 0
        if live[out] or marks[out] & STORE or slots[out]["primal"]:
            if not _hold_value(h, kinds, slots, out):
                return False
            address = slots[out]["primal"]
        y = _register(tables, address, _ITEMSIZE[kinds[row["kind"]]["dtype"]])
        i4(h[H.stamp], h[H.top])[out] = h[H.stamps]
        i4(h[H.register], h[H.top])[out] = y
        _enter_forward(tables, kernels[cell], a, b, c, y)
    return True


def _enter_forward(tables, kernel, a, b, c, y):
    at = FORWARD + 5 * tables[N_FORWARD]
    tables[at], tables[at + 1], tables[at + 2], tables[at + 3], tables[at + 4] = kernel, a, b, c, y
    tables[N_FORWARD] += 1


def _enter_scatter(tables, r, walk, target, kernel, itemsize):
    at = SCATTERS + 4 * tables[N_SCATTERS]
    tables[at], tables[at + 1], tables[at + 2], tables[at + 3] = r | (itemsize << 32), walk, target, kernel
    tables[N_SCATTERS] += 1


def _start_reduction(address, n, bits, itemsize):
    for i in range(n):
        if itemsize == 8:
            i8(address, n)[i] = bits
        elif itemsize == 4:
            i4(address, n)[i] = bits
        else:
            u1(address, n)[i] = bits


def _scatter_block(h, tables, start, n):
    for i in range(tables[N_SCATTERS]):
        at = SCATTERS + 4 * i
        r, itemsize = tables[at] & 0xFFFFFFFF, tables[at] >> 32
        _scatter(
            tables, tables[at + 1], _address(tables, r, start), tables[at + 2], start, n, itemsize, tables[at + 3], h[H.scratch]
        )  # fmt: skip


def _forward_region(h, first, last):
    """Values of a region, block by block."""
    tables = _open(h, first)
    if not _bind_forward(h, tables, first, last):
        return NO_MEMORY
    block, lanes = _place(h, tables), tables[LANES]
    while h[H.at_lane] < lanes:
        if h[H.budget] < 0:
            return MORE
        start = h[H.at_lane]
        n = min(block, lanes - start)
        _run_block(tables, start, n)
        _scatter_block(h, tables, start, n)
        h[H.budget] -= n * (1 + tables[N_FORWARD])
        h[H.at_lane] += n
    _complete_region(h, first, last)
    return OK


def _complete_region(h, first, last):
    """Finish the region's reductions, and mark what is now in memory."""
    rows, slots = rows_at(h[H.rows], h[H.end]), slots_at(h[H.slots], h[H.top])
    kinds, marks = kinds_at(h[H.kinds], h[H.n_kinds]), u1(h[H.marks], h[H.top])
    ops, kernels = i4(h[H.ops], 256 * _COLUMNS), i8(h[H.kernels], 256 * _N_CODES * CELLS)
    order, pool = i4(h[H.order], h[H.n_planned]), i8(h[H.pool], h[H.n_pool])
    for i in range(first, last):
        row = rows[order[i]]
        out = row["out"]
        if slots[out]["primal"] == 0 or not is_evaluated(slots, marks, row):
            continue
        if ops[row["opcode"] * _COLUMNS] == REDUCTION:
            cell, _ = _kernel_cell(h, kinds, slots, row)
            if kernels[cell + 2]:
                call3(kernels[cell + 2], kinds[row["kind"]]["numel"], slots[out]["primal"], pool[row["c"]])
        slots[out]["flags"] = slots[out]["flags"] | STORED | OWNED


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
        r = _register(tables, 0, 0)
        tables[ZEROED + tables[N_ZEROED]] = r
        tables[N_ZEROED] += 1
    else:
        if not _hold_adjoint(h, kinds, slots, slot):
            return -1
        if same:
            r = _register(tables, slots[slot]["adjoint"], _ITEMSIZE[code])
        else:
            r = _register(tables, 0, 0)
            tables[ZEROED + tables[N_ZEROED]] = r
            tables[N_ZEROED] += 1
            walk = _broadcast_walk(h, tables, kinds, kind, space, True)
            kernel = i8(h[H.kernels], 256 * _N_CODES * CELLS)[(h[H.sum_opcode] * _N_CODES + code) * CELLS]
            _enter_scatter(tables, r, walk, slots[slot]["adjoint"], kernel, _ITEMSIZE[code])
    stamp[slot] = h[H.stamps]
    register[slot] = r
    return r


def _want_values(h, first, last):
    """Stamp the values that the region's rules read, and those that they are computed from."""
    rows, slots = rows_at(h[H.rows], h[H.end]), slots_at(h[H.slots], h[H.top])
    kinds, marks = kinds_at(h[H.kinds], h[H.n_kinds]), u1(h[H.marks], h[H.top])
    ops, order, want = i4(h[H.ops], 256 * _COLUMNS), i4(h[H.order], h[H.n_planned]), i4(h[H.want], h[H.top])
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


def _bind_reverse(h, tables, first, last, region):
    """Describe a region's reverse sweep: the values to compute again, then the partials, newest row first."""
    rows, slots = rows_at(h[H.rows], h[H.end]), slots_at(h[H.slots], h[H.top])
    kinds, marks = kinds_at(h[H.kinds], h[H.n_kinds]), u1(h[H.marks], h[H.top])
    ops, kernels = i4(h[H.ops], 256 * _COLUMNS), i8(h[H.kernels], 256 * _N_CODES * CELLS)
    order, want, pool = i4(h[H.order], h[H.n_planned]), i4(h[H.want], h[H.top]), i8(h[H.pool], h[H.n_pool])
    _want_values(h, first, last)
    for i in range(first, last):
        row = rows[order[i]]
        out = row["out"]
        if want[out] != h[H.stamps] or slots[out]["flags"] & STORED or ops[row["opcode"] * _COLUMNS] != ELEMENTWISE:
            continue
        cell, code = _kernel_cell(h, kinds, slots, row)
        a, b, c = _operands(h, tables, kinds, slots, row, order[i], code)
        y = _register(tables, 0, 0)
        i4(h[H.stamp], h[H.top])[out] = h[H.stamps]
        i4(h[H.register], h[H.top])[out] = y
        _enter_forward(tables, kernels[cell], a, b, c, y)
    for i in range(last - 1, first - 1, -1):
        row = rows[order[i]]
        out = row["out"]
        if not is_active(h, kinds, marks, row):
            continue
        cell, code = _kernel_cell(h, kinds, slots, row)
        if ops[row["opcode"] * _COLUMNS] == REDUCTION:
            if slots[out]["adjoint"] and not _bind_reduction(h, tables, kinds, slots, marks, row, cell, code, region):
                return False
            continue
        y_bar = _adjoint_register(h, tables, kinds, slots, marks, out, region)
        if y_bar < 0:
            return False
        for k in range(arity(h, row)):
            o = operand(row, k)
            if o < 0 or marks[o] & ADJOINT == 0:
                continue
            k_bar = _adjoint_register(h, tables, kinds, slots, marks, o, region)
            if k_bar < 0:
                return False
            bits = ops[row["opcode"] * _COLUMNS + 2 + position(row, k)]
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
    return True


def _bind_reduction(h, tables, kinds, slots, marks, row, cell, code, region):
    """A reduction in reverse: its adjoint and its result are broadcast over the region."""
    pool, kernels = i8(h[H.pool], h[H.n_pool]), i8(h[H.kernels], 256 * _N_CODES * CELLS)
    out, space, size = row["out"], slots[row["a"]]["kind"], _ITEMSIZE[code]
    bits = i4(h[H.ops], 256 * _COLUMNS)[row["opcode"] * _COLUMNS + 2]
    k_bar = _adjoint_register(h, tables, kinds, slots, marks, row["a"], region)
    if k_bar < 0:
        return False
    walk = _walk(tables, pool, kinds[space]["dims"], kinds[space]["ndim"], pool, row["c"] + 1, size)
    y_bar = _register(tables, 0, 0)
    _load(tables, y_bar, walk, slots[out]["adjoint"], code)
    n = _register(tables, 0, 0)
    f8(h[H.scratch], 1)[0] = float(pool[row["c"]])
    _load(tables, n, FILL, i8(h[H.scratch], 1)[0], code)
    y = 0
    if bits & 8:
        y = _register(tables, 0, 0)
        _load(tables, y, walk, slots[out]["primal"], code)
    at = REVERSE + 7 * tables[N_REVERSE]
    tables[at] = kernels[cell + 1]
    tables[at + 1] = _value_register(h, tables, kinds, slots, row["a"]) if bits & 1 else 0
    tables[at + 2], tables[at + 3], tables[at + 4], tables[at + 5], tables[at + 6] = n, 0, y, y_bar, k_bar
    tables[N_REVERSE] += 1
    return True


def _reverse_region(h, first, last):
    """Adjoints of a region, block by block: values again, then partials."""
    tables = _open(h, first)
    _register(tables, h[H.scratch], 0)  # register 0 stands where a kernel has no such operand
    if not _bind_reverse(h, tables, first, last, h[H.at_region]):
        return NO_MEMORY
    block, lanes = _place(h, tables), tables[LANES]
    while h[H.at_lane] < lanes:
        if h[H.budget] < 0:
            return MORE
        start = h[H.at_lane]
        n = min(block, lanes - start)
        _run_block(tables, start, n)
        for i in range(tables[N_ZEROED]):
            zeroed = i8(tables[BASES + tables[ZEROED + i]], n)
            for j in range(n):
                zeroed[j] = 0
        for i in range(tables[N_REVERSE]):
            at = REVERSE + 7 * i
            call7(
                tables[at], n, _address(tables, tables[at + 1], start), _address(tables, tables[at + 2], start),
                _address(tables, tables[at + 3], start), _address(tables, tables[at + 4], start),
                _address(tables, tables[at + 5], start), _address(tables, tables[at + 6], start),
            )  # fmt: skip
        _scatter_block(h, tables, start, n)
        h[H.budget] -= n * (1 + tables[N_FORWARD] + tables[N_REVERSE])
        h[H.at_lane] += n
    return OK


# --- layout and array rows -----------------------------------------------------------------------------------------------


def _forward_whole(h, r):
    """The value of a row that is no part of a region."""
    rows, slots = rows_at(h[H.rows], h[H.end]), slots_at(h[H.slots], h[H.top])
    kinds, marks = kinds_at(h[H.kinds], h[H.n_kinds]), u1(h[H.marks], h[H.top])
    row = rows[r]
    out = row["out"]
    if not is_evaluated(slots, marks, row):
        return OK
    if i4(h[H.ops], 256 * _COLUMNS)[row["opcode"] * _COLUMNS] == LAYOUT:
        base = slots[row["a"]]["base"]
        offset = i8(h[H.rows] + 24 * r + 8, 1)[0]
        if row["flags"] & PARAMS:
            offset = i8(h[H.pool], h[H.n_pool])[row["c"]]
        slots[out]["primal"] = slots[row["a"]]["primal"] + offset
        slots[out]["base"] = base if base >= 0 else row["a"]
        slots[out]["flags"] = slots[out]["flags"] | STORED
        return OK
    if not _hold_value(h, kinds, slots, out):
        return NO_MEMORY
    cell, _ = _kernel_cell(h, kinds, slots, row)
    call1(i8(h[H.kernels], 256 * _N_CODES * CELLS)[cell], _context(h, kinds, slots, row))
    h[H.budget] -= 4 * kinds[row["kind"]]["numel"]
    if row["flags"] & PIECE == 0 or row["flags"] & LAST:
        slots[out]["flags"] = slots[out]["flags"] | STORED | OWNED
    return OK


def _context(h, kinds, slots, row):
    """What an array kernel is given; returns its address."""
    context = i8(h[H.tables] + 8 * CONTEXT_AT, _N_CONTEXT)
    n = arity(h, row)
    context[0] = context[1] = 0
    if row["flags"] & PARAMS:
        context[0] = h[H.pool] + 8 * row["c"]
        context[1] = i8(h[H.pool], h[H.n_pool])[row["c"] - 1]
    context[2], context[3] = h[H.gemm64], h[H.gemm32]
    context[4] = h[H.tables] + 8 * (CONTEXT_AT + 32)
    for k in range(3):
        slot = operand(row, k) if k < n else -1
        context[5 + k] = slots[slot]["primal"] if slot >= 0 else 0
        context[9 + k] = kinds[slots[slot]["kind"]]["numel"] if slot >= 0 else 0
    context[8], context[12] = slots[row["out"]]["primal"], kinds[row["kind"]]["numel"]
    return h[H.tables] + 8 * CONTEXT_AT


def _reverse_whole(h, r):
    """The adjoints of the operands of a row that is no part of a region."""
    rows, slots = rows_at(h[H.rows], h[H.end]), slots_at(h[H.slots], h[H.top])
    kinds, marks = kinds_at(h[H.kinds], h[H.n_kinds]), u1(h[H.marks], h[H.top])
    row = rows[r]
    out = row["out"]
    if slots[out]["adjoint"] == 0 or not is_active(h, kinds, marks, row):
        return OK
    if i4(h[H.ops], 256 * _COLUMNS)[row["opcode"] * _COLUMNS] == LAYOUT:
        return _reverse_layout(h, kinds, slots, marks, row, r)
    kernels = i8(h[H.kernels], 256 * _N_CODES * CELLS)
    cell, _ = _kernel_cell(h, kinds, slots, row)
    for k in range(arity(h, row)):
        o = operand(row, k)
        if o < 0 or marks[o] & ADJOINT == 0 or kernels[cell + 1 + k] == 0:
            continue
        if not _hold_adjoint(h, kinds, slots, o):
            return NO_MEMORY
        at = _context(h, kinds, slots, row)
        context = i8(at, _N_CONTEXT)
        context[13], context[14] = slots[out]["adjoint"], slots[o]["adjoint"]
        call1(kernels[cell + 1 + k], at)
        h[H.budget] -= 4 * kinds[slots[o]["kind"]]["numel"]
    return OK


def _reverse_layout(h, kinds, slots, marks, row, r):
    """Add a view's adjoint to its base's, through the view's strides over the contiguous adjoint of the base."""
    out, a = row["out"], row["a"]
    kind, base_kind = row["kind"], slots[a]["kind"]
    size = _ITEMSIZE[kinds[kind]["dtype"]]
    whole = kinds[kind]["numel"] == kinds[base_kind]["numel"] and kinds[kind]["flags"] & CONTIGUOUS
    if whole and row["flags"] & PARAMS == 0 and slots[a]["adjoint"] == 0 and marks[out] & WANTED == 0:
        slots[a]["adjoint"], slots[out]["adjoint"] = slots[out]["adjoint"], 0  # the same elements in the same order
        return OK
    if not _hold_adjoint(h, kinds, slots, a):
        return NO_MEMORY
    tables, pool = i8(h[H.tables], TABLES), i8(h[H.pool], h[H.n_pool])
    tables[N_WALKS] = 0
    ndim, dims = kinds[kind]["ndim"], kinds[kind]["dims"]
    if row["flags"] & PARAMS:  # (offset in bytes, offset and strides in a contiguous base)
        offset = pool[row["c"] + 1]
        walk = _walk(tables, pool, dims, ndim, pool, row["c"] + 2, 1)
    else:
        offset = i8(h[H.rows] + 24 * r + 8, 1)[0]
        walk = _walk(tables, pool, dims, ndim, pool, dims + ndim, 1)
    kernel = i8(h[H.kernels], 256 * _N_CODES * CELLS)[(h[H.sum_opcode] * _N_CODES + kinds[kind]["dtype"]) * CELLS]
    n = kinds[kind]["numel"]
    _scatter(tables, walk, slots[out]["adjoint"], slots[a]["adjoint"] + offset, 0, n, size, kernel, h[H.scratch])
    h[H.budget] -= n
    return OK
