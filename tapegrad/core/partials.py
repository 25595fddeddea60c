"""Partials: the part of a region's program that takes adjoints from results to operands.

A register of an adjoint is written by the first row that adds to it (FRESH) and added to by the others. What is inside
the region only is in scratch memory; what leaves it is in the adjoint's memory, directly where the operand has the
shape of the region, else summed over what it was broadcast to, block by block.
"""

from tapegrad.core.registers import (
    BACK,
    N_CODES,
    NARROW,
    NEW,
    REDUCE,
    REVERSE,
    SCRATCH,
    SINGLE,
    SPREAD,
    VECTOR,
    WIDE,
    ZERO,
    by_walk,
    constant,
    emit,
    emit_scatter,
    hold_adjoint,
    immediate,
    is_single,
    kernel_cell,
    level_of,
    memory_step,
    nbytes,
    new_register,
    row_level,
    row_sum_kernel,
    spread_over,
    sum_kernel,
    value,
    widened,
)  # fmt: skip
from tapegrad.core.schedule import ADJOINT, INSIDE, PLANNED, WANTED, arity, is_active, operand, position, saved_by
from tapegrad.core.walks import (
    BOUND_ROW,
    ITEMSIZE,
    N_TAIL,
    REGISTER,
    TAIL,
    WORDS_A_REGISTER,
    broadcast_walk,
    enter_walk,
)
from tapegrad.debug import MEMORY
from tapegrad.kernels import CELLS
from tapegrad.kernels.loops import FRESH
from tapegrad.memory import i4, i8, kinds_at, ops_at, part3, rows_at, slots_at, u1
from tapegrad.ops.declare import ELEMENTWISE, REDUCTION
from tapegrad.tape import IMM_A, IMM_B, STORED, TABLES, H


def _adjoint_of_result(h, tables, kinds, slots, slot, level):
    """The register of the adjoint of a row's result; -1 where nothing has reached it."""
    stamp, register = i4(h[H.bar_stamp], h[H.top]), i4(h[H.bar_register], h[H.top])
    if stamp[slot] != h[H.stamps]:
        if slots[slot]["adjoint"] == 0:
            return -1
        size = ITEMSIZE[kinds[slots[slot]["kind"]]["dtype"]]
        stamp[slot] = h[H.stamps]
        register[slot] = new_register(tables, slots[slot]["adjoint"], memory_step(tables, level, size), level, size)
    return register[slot]


def _is_inside(h, marks, slot):
    """Whether a slot's value is made and read inside the region being bound."""
    return marks[slot] & PLANNED != 0 and marks[slot] & INSIDE != 0 and i4(h[H.region], h[H.top])[slot] == h[H.binding]


def _is_local(h, slots, marks, slot):
    """Whether an adjoint is passed on inside the region, and so needs no memory of its own."""
    return slots[slot]["adjoint"] == 0 and marks[slot] & WANTED == 0 and _is_inside(h, marks, slot)


def _adjoint(h, tables, kinds, slots, marks, slot, space_kind, level):
    """The register to which a row over `space_kind` adds for an operand; plus NEW where it is the first to do so.

    -1 where memory is short.
    """
    stamp, register = i4(h[H.bar_stamp], h[H.top]), i4(h[H.bar_register], h[H.top])
    kind = slots[slot]["kind"]
    if stamp[slot] == h[H.stamps] and level_of(tables, register[slot]) == level:
        return register[slot]
    size, fresh = ITEMSIZE[kinds[kind]["dtype"]], 1
    local = _is_local(h, slots, marks, slot)
    if kinds[kind]["space"] == kinds[space_kind]["space"]:
        if local:
            r = new_register(tables, 0, 0, level, size)
        else:
            if slots[slot]["adjoint"]:
                fresh = 0
            elif level == WIDE:  # every lane is written
                slots[slot]["adjoint"] = part3(h[H.obtain], h[H.self], nbytes(kinds, kind), 0)
            else:
                fresh = 0
                hold_adjoint(h, kinds, slots, slot)
            if slots[slot]["adjoint"] == 0:
                return -1
            r = new_register(tables, slots[slot]["adjoint"], memory_step(tables, level, size), level, size)
    else:  # broadcast: summed at the end of the block
        if not hold_adjoint(h, kinds, slots, slot):
            return -1
        r = new_register(tables, 0, 0, level, size)
        at = TAIL + 3 * tables[N_TAIL]
        tables[at], tables[at + 1], tables[at + 2] = r, slot, space_kind
        tables[N_TAIL] += 1
    stamp[slot], register[slot] = h[H.stamps], r
    return r + NEW if fresh else r


def _narrow_adjoint(h, tables, kinds, slots, marks, slot):
    """The same for a value of the region with one element a row."""
    return _adjoint(h, tables, kinds, slots, marks, slot, slots[slot]["kind"], NARROW)


def want_values(h, first, last):
    """Stamp the values that the region's rules read, and those that they are computed from."""
    rows, slots = rows_at(h[H.rows], h[H.end]), slots_at(h[H.slots], h[H.top])
    kinds, marks = kinds_at(h[H.kinds], h[H.n_kinds]), u1(h[H.marks], h[H.top])
    ops, order, want = ops_at(h[H.ops], 256), i4(h[H.order], h[H.n_planned]), i4(h[H.want], h[H.top])
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
    ops, order = ops_at(h[H.ops], 256), i4(h[H.order], h[H.n_planned])
    for i in range(last - 1, first - 1, -1):
        row = rows[order[i]]
        if not is_active(h, kinds, marks, row):
            continue
        if MEMORY:
            tables[BOUND_ROW] = order[i]
        family = ops[row["opcode"]]["family"]
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
        walk = broadcast_walk(h, tables, kinds, kind, space_kind, 8)
        emit_scatter(
            tables, sum_kernel(h, code), ITEMSIZE[code], level_of(tables, r), r, walk, 0, kinds[kind]["numel"],
            slots[slot]["adjoint"], 0, 0, 8
        )  # fmt: skip
    return 1


def _bind_partials(h, tables, kinds, slots, marks, row, r):
    """The partials of an elementwise row; False where memory is short."""
    kernels, ops = i8(h[H.kernels], 256 * N_CODES * CELLS), ops_at(h[H.ops], 256)
    stamp, register = i4(h[H.bar_stamp], h[H.top]), i4(h[H.bar_register], h[H.top])
    kind, out, n = row["kind"], row["out"], arity(h, row)
    level = row_level(tables, kinds, kind)
    y_bar = _adjoint_of_result(h, tables, kinds, slots, out, level)
    if y_bar < 0:
        return True
    cell, code = kernel_cell(h, kinds, slots, row)
    heir = -1  # an operand to which the adjoint is passed on as it is: its register, once the others have read it
    if tables[REGISTER + WORDS_A_REGISTER * y_bar + SCRATCH] and (n < 2 or operand(row, 0) != operand(row, 1)):
        for k in range(n):
            o = operand(row, k)
            if (
                o >= 0
                and marks[o] & ADJOINT
                and ops[row["opcode"]]["ones"] >> position(row, k) & 1
                and stamp[o] != h[H.stamps]
                and kinds[slots[o]["kind"]]["space"] == kinds[kind]["space"]
                and kinds[slots[o]["kind"]]["dtype"] == kinds[kind]["dtype"]
                and _is_local(h, slots, marks, o)
            ):
                heir = k
    for k in range(n):
        o, at = operand(row, k), position(row, k)
        if o < 0 or marks[o] & ADJOINT == 0 or kernels[cell + 1 + at] == 0 or k == heir:
            continue
        bits = ops[row["opcode"]]["saves"][at]
        a = b = c = 0
        if row["flags"] & (IMM_A | IMM_B):
            of_immediate, of_slot = (1, 2) if row["flags"] & IMM_A else (2, 1)
            if bits & of_immediate:
                a = immediate(h, tables, r, code)
            if bits & of_slot:
                b = value(h, tables, kinds, slots, row["a"], kind, level)
            if row["flags"] & IMM_B:
                a, b = b, a
        else:
            a = value(h, tables, kinds, slots, row["a"], kind, level) if bits & 1 else 0
            b = value(h, tables, kinds, slots, row["b"], kind, level) if bits & 2 else 0
            c = value(h, tables, kinds, slots, row["c"], kind, level) if bits & 4 else 0
        y = value(h, tables, kinds, slots, out, kind, level) if bits & 8 else 0
        mode = 0
        if bits == 1 or bits == 2 or bits == 4:  # a kernel for one number
            mode = bits if is_single(tables, a if bits == 1 else b if bits == 2 else c, level) else 0
        if mode == 0:
            a, b, c = spread_over(tables, a, level), spread_over(tables, b, level), spread_over(tables, c, level)
        y = spread_over(tables, y, level)
        if not _bind_partial(
            h, tables, kinds, slots, marks, o, kind, level, kernels[cell + 1 + at], mode, a, b, c, y, y_bar
        ):
            return False
    if heir >= 0:
        stamp[operand(row, heir)], register[operand(row, heir)] = h[H.stamps], y_bar
    return True


def _bind_partial(h, tables, kinds, slots, marks, o, space_kind, level, kernel, mode, a, b, c, y, y_bar):
    """A REVERSE instruction, and the sum over rows where the operand has one element a row."""
    code = kinds[slots[o]["kind"]]["dtype"]
    size = ITEMSIZE[code]
    if level == WIDE and _is_inside(h, marks, o) and row_level(tables, kinds, slots[o]["kind"]) == NARROW:
        r = _narrow_adjoint(h, tables, kinds, slots, marks, o)
        if r < 0:
            return False
        wide = new_register(tables, 0, 0, WIDE, size)
        emit(tables, REVERSE, kernel, mode | FRESH, WIDE, a, b, c, y, y_bar, wide, 0, 0, 0, 0)
        begun = 0 if r >= NEW else 1
        emit(tables, REDUCE, row_sum_kernel(h, code), size, WIDE, wide, 0, 0, r % NEW, 0, 0, 0, 0, 0, begun)
        return True
    r = _adjoint(h, tables, kinds, slots, marks, o, space_kind, level)
    if r < 0:
        return False
    fresh = FRESH if r >= NEW else 0
    emit(tables, REVERSE, kernel, mode | fresh, level, a, b, c, y, y_bar, r % NEW, 0, 0, 0, 0)
    return True


def _bind_reduction_partial(h, tables, kinds, slots, marks, row):
    """A reduction in reverse: its adjoint, and its result, are spread over what was reduced."""
    kernels, pool = i8(h[H.kernels], 256 * N_CODES * CELLS), i8(h[H.pool], h[H.n_pool])
    ops = ops_at(h[H.ops], 256)
    cell, code = kernel_cell(h, kinds, slots, row)
    out, o, space, size = row["out"], row["a"], slots[row["a"]]["kind"], ITEMSIZE[code]
    bits, level = ops[row["opcode"]]["saves"][0], row_level(tables, kinds, space)
    kernel, y = kernels[cell + 1], 0
    if kernel == 0:
        return True
    if marks[out] & INSIDE:
        y_bar = _adjoint_of_result(h, tables, kinds, slots, out, NARROW)
        if y_bar < 0:
            return True
        if bits & 8:
            y = value(h, tables, kinds, slots, out, row["kind"], NARROW)
    else:
        if slots[out]["adjoint"] == 0:
            return True
        y_bar = _reduced(h, tables, kinds, slots[out]["adjoint"], row, space, size, level)
        if bits & 8:
            y = _reduced(h, tables, kinds, slots[out]["primal"], row, space, size, level)
    n = constant(h, tables, float(pool[row["c"]]), code)
    if bits:
        x = spread_over(tables, value(h, tables, kinds, slots, o, space, level), level) if bits & 1 else 0
        y_bar, y = spread_over(tables, y_bar, level), spread_over(tables, y, level)
        n = spread_over(tables, n, level)
        return _bind_partial(h, tables, kinds, slots, marks, o, space, level, kernel, 0, x, n, 0, y, y_bar)
    width = level_of(tables, y_bar)
    if ops[row["opcode"]]["ones"] & 1 == 0:  # the same factor for all that went into one result
        if width == VECTOR:
            y_bar, width = spread_over(tables, widened(tables, y_bar, level), level), level
        scaled = new_register(tables, 0, 0, width, size)
        emit(tables, REVERSE, kernel, 2 | FRESH, width, 0, n, 0, 0, y_bar, scaled, 0, 0, 0, 0)
        y_bar = scaled
    r = _adjoint(h, tables, kinds, slots, marks, o, space, level)
    if r < 0:
        return False
    x_bar = r % NEW
    if r >= NEW and width != level:
        emit(tables, SPREAD, 0, size, level, y_bar, 0, 0, x_bar, 0, 0, 0, 0, 0, 0)
    else:
        add = kernels[(h[H.sum_opcode] * N_CODES + code) * CELLS + 1]
        fresh = FRESH if r >= NEW else 0
        emit(tables, REVERSE, add, fresh, level, 0, 0, 0, 0, spread_over(tables, y_bar, level), x_bar, 0, 0, 0, 0)
    return True


def _reduced(h, tables, kinds, address, row, space, size, level):
    """A register for what has the shape of a reduction's result, over the space that was reduced."""
    if kinds[row["kind"]]["numel"] == 1:
        return new_register(tables, address, 0, SINGLE, size)
    pool = i8(h[H.pool], h[H.n_pool])
    walk = enter_walk(tables, pool, kinds[space]["dims"], kinds[space]["ndim"], pool, row["c"] + 1, size)
    return by_walk(tables, walk, address, size, level)


def _bind_back(h, tables, kinds, slots, marks, row):
    """An array row along the rows of the region, in reverse."""
    cell, _ = kernel_cell(h, kinds, slots, row)
    out, o, space = row["out"], row["a"], slots[row["a"]]["kind"]
    kernel = i8(h[H.kernels], 256 * N_CODES * CELLS)[cell + 1]
    bits, level = ops_at(h[H.ops], 256)[row["opcode"]]["saves"][0], row_level(tables, kinds, row["kind"])
    y_bar = _adjoint_of_result(h, tables, kinds, slots, out, level)
    if y_bar < 0 or kernel == 0:
        return True
    x = spread_over(tables, value(h, tables, kinds, slots, o, space, WIDE), WIDE) if bits & 1 else 0
    y = value(h, tables, kinds, slots, out, row["kind"], level) if bits & 8 else 0
    r = _adjoint(h, tables, kinds, slots, marks, o, space, WIDE)
    if r < 0:
        return False
    k_bar = r % NEW
    if r >= NEW:
        emit(tables, ZERO, 0, ITEMSIZE[kinds[space]["dtype"]], WIDE, 0, 0, 0, k_bar, 0, 0, 0, 0, 0, 0)
    emit(tables, BACK, kernel, 0, level, x, 0, 0, y, y_bar, k_bar, row["c"], 0, 0, 0)
    return True
