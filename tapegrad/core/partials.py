"""Partials: the part of a region's program that takes adjoints from results to operands.

A register of an adjoint is written by the first row that adds to it (FRESH) and added to by the others. What is inside
the region only is in scratch memory; what leaves it is in the adjoint's memory, directly where the operand has the
shape of the region, else summed over what it was broadcast to, block by block.
"""

from tapegrad.core.adjoints import hold_adjoint, lend, nbytes
from tapegrad.core.registers import (
    NEW,
    by_walk,
    code_of,
    constant,
    emit,
    emit_scatter,
    immediate,
    is_single,
    kernels_of,
    is_over,
    level_of,
    memory_step,
    new_register,
    row_level,
    spread_over,
    sum_kernels,
    value,
    widened,
)  # fmt: skip
from tapegrad.core.rows import (
    ADJOINT,
    INSIDE,
    PLANNED,
    WANTED,
    arity,
    complete,
    is_active,
    operand,
    position,
    saved,
    saved_by,
)  # fmt: skip
from tapegrad.core.storage import obtain
from tapegrad.core.tables import BACK, ITEMSIZE, NARROW, PUT, REDUCE, REVERSE, SINGLE, SPREAD, VECTOR, WIDE, ZERO
from tapegrad.core.walks import broadcast_walk, enter_walk
from tapegrad.debug import MEMORY
from tapegrad.kernels.loops import FRESH
from tapegrad.memory import part
from tapegrad.ops.declare import ELEMENTWISE, LAYOUT, REDUCTION
from tapegrad.tape import IMM_A, IMM_B, STORED, Header


def _adjoint_of_result(tape, o, level):
    """The register of the adjoint of a row's result; -1 where nothing has reached it."""
    binding, slot = tape.binding, tape.slots[o]
    if binding.bar_stamp[o] != binding.stamps:
        if slot.adjoint == 0:
            return -1
        complete(tape, slot)
        size = ITEMSIZE[tape.kinds[slot.kind].dtype]
        binding.bar_stamp[o] = binding.stamps
        step = memory_step(tape.program, level, size)
        binding.bar_register[o] = new_register(tape.program, level, size, slot.adjoint, step)
    return int(binding.bar_register[o])


def _is_inside(tape, o):
    """Whether a slot's value is made and read inside the region being bound."""
    plan = tape.plan
    return plan.marks[o] & PLANNED != 0 and plan.marks[o] & INSIDE != 0 and plan.region[o] == tape.binding.binding


def _is_local(tape, o):
    """Whether an adjoint is passed on inside the region, and so needs no memory of its own."""
    return tape.slots[o].adjoint == 0 and tape.plan.marks[o] & WANTED == 0 and _is_inside(tape, o)


def _adjoint(tape, o, space_kind, level):
    """The register to which a row over `space_kind` adds for an operand; plus NEW where it is the first to do so.

    -1 where memory is short.
    """
    program, binding, slot, space = tape.program, tape.binding, tape.slots[o], tape.kinds[space_kind]
    known = int(binding.bar_register[o]) if binding.bar_stamp[o] == binding.stamps else 0
    if known and level_of(program, known) == level and is_over(program, known, space):
        return known
    kind = tape.kinds[slot.kind]
    size, fresh = ITEMSIZE[kind.dtype], 1
    if kind.space != space.space:  # broadcast: summed at the end of the block
        if not hold_adjoint(tape, slot):
            return -1
        r = new_register(program, level, size)
        _add_tail(program, r, o, space_kind, -1)
    elif _is_local(tape, o):
        r = new_register(program, level, size)
    else:
        lent = lend(tape, o, level == WIDE, level == WIDE)
        if lent > 0:
            return _adjoint_in_base(tape, o, program.places[lent - 1], level)
        if lent < 0:
            return -1
        if slot.adjoint:
            hold_adjoint(tape, slot)
            fresh = 0
        elif level == WIDE:  # every lane is written
            slot.adjoint = obtain(tape, nbytes(kind), 0)
        else:
            fresh = 0
            hold_adjoint(tape, slot)
        if slot.adjoint == 0:
            return -1
        r = new_register(program, level, size, slot.adjoint, memory_step(program, level, size))
    program.registers[r].ndim = space.ndim
    binding.bar_stamp[o], binding.bar_register[o] = binding.stamps, r
    return r + NEW if fresh else r


def _add_tail(program, r, o, space_kind, strides):
    """Have a register dealt with when a block ends."""
    tail = program.tails[program.n_tails]
    tail.register, tail.slot, tail.space_kind, tail.strides = r, o, space_kind, strides
    program.n_tails += 1


def _adjoint_in_base(tape, o, place, level):
    """The register for a view's adjoint that is a place in its base's: it may have been met; plus NEW."""
    program, size, fresh = tape.program, ITEMSIZE[tape.kinds[place.kind].dtype], 0
    if place.register == 0:
        if place.strided:
            place.register, fresh = new_register(program, level, size), 1
            _add_tail(program, place.register, o, -1, place.strides)
        else:
            fresh = place.fresh
            place.register = new_register(program, level, size, place.low, memory_step(program, level, size))
            program.registers[place.register].within = 1
    program.registers[place.register].ndim = tape.kinds[place.kind].ndim
    tape.binding.bar_stamp[o], tape.binding.bar_register[o] = tape.binding.stamps, place.register
    return int(place.register) + (NEW if fresh else 0)


@part
def want_values(tape: Header, first, last):
    """Stamp the values that the region's rules read, and those that they are computed from; and what they add to."""
    marks, want, taken, now = tape.plan.marks, tape.binding.want, tape.binding.taken, tape.binding.stamps
    for i in range(last - 1, first - 1, -1):
        row = tape.rows[tape.plan.order[i]]
        if tape.ops[row.opcode].family == LAYOUT:
            continue
        for k in range(arity(tape, row) if is_active(tape, row) else 0):
            o = operand(row, k)
            if o >= 0 and marks[o] & ADJOINT:
                taken[o] = now
                bits = saved_by(tape, row, k)
                for j in range(4):
                    if bits >> j & 1:
                        want[saved(row, j)] = now
        if want[row.out] == now and tape.slots[row.out].flags & STORED == 0:
            for k in range(arity(tape, row)):
                if operand(row, k) >= 0:
                    want[operand(row, k)] = now
    return 1


@part
def bind_adjoints(tape: Header, first, last):
    """Bind the partials of a region's active rows, newest row first. 0 where memory is short."""
    program = tape.program
    for i in range(last - 1, first - 1, -1):
        row = tape.rows[tape.plan.order[i]]
        family = tape.ops[row.opcode].family
        if family == LAYOUT or not is_active(tape, row):
            continue
        if MEMORY:
            program.bound_row = tape.plan.order[i]
        if family == ELEMENTWISE:
            bound = _bind_partials(tape, row)
        elif family == REDUCTION:
            bound = _bind_reduction_partial(tape, row)
        else:
            bound = _bind_back(tape, row)
        if not bound:
            return 0
    for i in range(program.n_tails):
        tail = program.tails[i]
        slot, width = tape.slots[tail.slot], level_of(program, tail.register)
        kind = tape.kinds[slot.kind]
        if tail.strides >= 0:
            made = emit(program, PUT, mode=ITEMSIZE[kind.dtype], width=width, a=tail.register)
            made.walk, made.address = enter_walk(tape, kind, tail.strides, 1), slot.adjoint
            continue
        walk = broadcast_walk(tape, kind, tape.kinds[tail.space_kind], 8)
        kernel, size = sum_kernels(tape, kind.dtype).accumulate, ITEMSIZE[kind.dtype]
        emit_scatter(program, kernel, size, width, tail.register, walk, 0, kind.numel, slot.adjoint, 0, 0, 8)
    return 1


def _heir(tape, row, y_bar):
    """The field of an operand to which the adjoint is passed on as it is, once the others have read it; or -1."""
    heir, kind, n = -1, tape.kinds[row.kind], arity(tape, row)
    if tape.program.registers[y_bar].scratch and (n < 2 or operand(row, 0) != operand(row, 1)):
        for k in range(n):
            o = operand(row, k)
            if (
                o >= 0
                and tape.plan.marks[o] & ADJOINT
                and tape.ops[row.opcode].ones >> position(row, k) & 1
                and tape.binding.bar_stamp[o] != tape.binding.stamps
                and tape.kinds[tape.slots[o].kind].space == kind.space
                and tape.kinds[tape.slots[o].kind].dtype == kind.dtype
                and _is_local(tape, o)
            ):
                heir = k
    return heir


def _bind_partials(tape, row):
    """The partials of an elementwise row; False where memory is short."""
    binding, kernels = tape.binding, kernels_of(tape, row)
    level = row_level(tape, tape.kinds[row.kind])
    y_bar = _adjoint_of_result(tape, row.out, level)
    if y_bar < 0:
        return True
    heir = _heir(tape, row, y_bar)
    for k in range(arity(tape, row)):
        o, at = operand(row, k), position(row, k)
        if o < 0 or tape.plan.marks[o] & ADJOINT == 0 or kernels.reverse[at] == 0 or k == heir:
            continue
        if not _bind_rule(tape, row, o, at, level, y_bar):
            return False
    if heir >= 0:
        o = operand(row, heir)
        binding.bar_stamp[o], binding.bar_register[o] = binding.stamps, y_bar
    return True


def _bind_rule(tape, row, o, at, level, y_bar):
    """The partial of an elementwise row by the operand in slot `o`, which is that of the operation at `at`."""
    program, kind, code = tape.program, tape.kinds[row.kind], code_of(tape, row)
    bits = tape.ops[row.opcode].saves[at]
    a = b = c = 0
    if row.flags & (IMM_A | IMM_B):
        of_immediate, of_slot = (1, 2) if row.flags & IMM_A else (2, 1)
        if bits & of_immediate:
            a = immediate(tape, row, code)
        if bits & of_slot:
            b = value(tape, row.a, kind, level)
        if row.flags & IMM_B:
            a, b = b, a
    else:
        a = value(tape, row.a, kind, level) if bits & 1 else 0
        b = value(tape, row.b, kind, level) if bits & 2 else 0
        c = value(tape, row.c, kind, level) if bits & 4 else 0
    y = value(tape, row.out, kind, level) if bits & 8 else 0
    mode = 0
    if bits == 1 or bits == 2 or bits == 4:  # a kernel for one number
        mode = bits if is_single(program, a if bits == 1 else b if bits == 2 else c, level) else 0
    if mode == 0:
        a, b, c = spread_over(program, a, level), spread_over(program, b, level), spread_over(program, c, level)
    y = spread_over(program, y, level)
    return _bind_partial(tape, o, row.kind, level, kernels_of(tape, row).reverse[at], mode, a, b, c, y, y_bar)


def _bind_partial(tape, o, space_kind, level, kernel, mode, a, b, c, y, y_bar):
    """A REVERSE instruction, and the sum over rows where the operand has one element a row."""
    program, kind = tape.program, tape.slots[o].kind
    code = tape.kinds[kind].dtype
    if level == WIDE and _is_inside(tape, o) and row_level(tape, tape.kinds[kind]) == NARROW:
        r = _adjoint(tape, o, kind, NARROW)
        if r < 0:
            return False
        wide = new_register(program, WIDE, ITEMSIZE[code])
        emit(program, REVERSE, kernel=kernel, mode=mode | FRESH, a=a, b=b, c=c, y=y, g=y_bar, k=wide)
        total = emit(program, REDUCE, kernel=sum_kernels(tape, code).rows, mode=ITEMSIZE[code], a=wide, y=r % NEW)
        total.count = 0 if r >= NEW else 1
        return True
    r = _adjoint(tape, o, space_kind, level)
    if r < 0:
        return False
    fresh = FRESH if r >= NEW else 0
    emit(program, REVERSE, kernel=kernel, mode=mode | fresh, width=level, a=a, b=b, c=c, y=y, g=y_bar, k=r % NEW)
    return True


def _bind_reduction_partial(tape, row):
    """A reduction in reverse: its adjoint, and its result, are spread over what was reduced."""
    program, code, kernel = tape.program, code_of(tape, row), kernels_of(tape, row).reverse[0]
    slot, o, op = tape.slots[row.out], row.a, tape.ops[row.opcode]
    space_kind, bits, y = tape.slots[o].kind, op.saves[0], 0
    space = tape.kinds[space_kind]
    level = row_level(tape, space)
    if kernel == 0:
        return True
    if tape.plan.marks[row.out] & INSIDE:
        y_bar = _adjoint_of_result(tape, row.out, NARROW)
        if y_bar < 0:
            return True
        if bits & 8:
            y = value(tape, row.out, tape.kinds[row.kind], NARROW)
    else:
        if slot.adjoint == 0:
            return True
        complete(tape, slot)
        y_bar = _reduced(tape, row, slot.adjoint, space, level)
        if bits & 8:
            y = _reduced(tape, row, slot.primal, space, level)
    n = constant(program, float(tape.pool[row.c]), code)
    if bits:
        x = spread_over(program, value(tape, o, space, level), level) if bits & 1 else 0
        y_bar, y = spread_over(program, y_bar, level), spread_over(program, y, level)
        n = spread_over(program, n, level)
        return _bind_partial(tape, o, space_kind, level, kernel, 0, x, n, 0, y, y_bar)
    width, size = level_of(program, y_bar), ITEMSIZE[code]
    if op.ones & 1 == 0:  # the same factor for all that went into one result
        if width == VECTOR:
            y_bar, width = spread_over(program, widened(program, y_bar, level), level), level
        scaled = new_register(program, width, size)
        emit(program, REVERSE, kernel=kernel, mode=2 | FRESH, width=width, b=n, g=y_bar, k=scaled)
        y_bar = scaled
    r = _adjoint(tape, o, space_kind, level)
    if r < 0:
        return False
    if r >= NEW and width != level:
        emit(program, SPREAD, mode=size, width=level, a=y_bar, y=r % NEW)
    else:
        add, fresh = sum_kernels(tape, code).reverse[0], FRESH if r >= NEW else 0
        emit(program, REVERSE, kernel=add, mode=fresh, width=level, g=spread_over(program, y_bar, level), k=r % NEW)
    return True


def _reduced(tape, row, address, space, level):
    """A register for what has the shape of a reduction's result, over the space that was reduced."""
    size = ITEMSIZE[code_of(tape, row)]
    if tape.kinds[row.kind].numel == 1:
        return new_register(tape.program, SINGLE, size, address)
    return by_walk(tape.program, enter_walk(tape, space, row.c + 1, size), address, size, level)


def _bind_back(tape, row):
    """An array row along the rows of the region, in reverse."""
    program, kernel = tape.program, kernels_of(tape, row).reverse[0]
    o, bits, kind = row.a, tape.ops[row.opcode].saves[0], tape.kinds[row.kind]
    space_kind, level = tape.slots[o].kind, row_level(tape, kind)
    space = tape.kinds[space_kind]
    y_bar = _adjoint_of_result(tape, row.out, level)
    if y_bar < 0 or kernel == 0:
        return True
    x = spread_over(program, value(tape, o, space, WIDE), WIDE) if bits & 1 else 0
    y = value(tape, row.out, kind, level) if bits & 8 else 0
    r = _adjoint(tape, o, space_kind, WIDE)
    if r < 0:
        return False
    if r >= NEW:
        emit(program, ZERO, mode=ITEMSIZE[space.dtype], y=r % NEW)
    emit(program, BACK, kernel=kernel, width=level, a=x, y=y, g=y_bar, k=r % NEW).params = row.c
    return True
