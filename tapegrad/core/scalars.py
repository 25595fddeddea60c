"""Scalars: a sweep of rows of one element each goes from row to row, without regions and programs. Compiled code.

What describes a region would cost several times what such a row does. So where every planned row is elementwise and has
one element, rows are swept as they are met: forward from the oldest planned row, in reverse from the newest. `values`
and `bars` have a place for each slot, of eight bytes, whatever the dtype. Rows of float64 go through the switch of
`kernels/switch.py` as far as it knows their operations, all others through their kernels. A view of one element is a
value like others, and adds its adjoint to that of its base.

All of it is planned in one go, from the newest row down; what is to be done then stands in lists:

    planned          rows that are swept in reverse, newest first
    region_of_row    those whose value is to be computed, likewise
    inner            of these, those whose value is to stay in memory
    region           slots that neither makes
"""

from tapegrad.core.adjoints import hold_adjoint, show
from tapegrad.core.observed import ADDED, CALLED6, CALLED8, COPIED, FILLED, ONES, note
from tapegrad.core.registers import code_of, copy_element, hold_value, kernels_of, write_number
from tapegrad.core.rows import (
    ADJOINT,
    IDLE,
    INSIDE,
    NO_MEMORY,
    OK,
    REACH,
    STORE,
    VALUE,
    WANTED,
    arity,
    drop_adjoint,
    is_interior,
    is_leaf,
    operand,
    position,
    requires_grad,
    saved_by,
)  # fmt: skip
from tapegrad.core.tables import ITEMSIZE
from tapegrad.kernels.loops import FRESH
from tapegrad.memory import call6, call8, f4, f8, i4, part, part5, part9
from tapegrad.ops.declare import ELEMENTWISE, LAYOUT
from tapegrad.tape import CONSUMED, IMM_A, IMM_B, OWNED, PARAMS, PIECE, STORED, Header

_FLOAT64 = 4  # dtype code
_ONE, _ONE_4 = 0x3FF0000000000000, 0x3F800000  # the bits of 1.0


def _copy(tape, target, source, itemsize):
    """Copy one element, as a step of the sweep."""
    note(tape, 0, COPIED, target, source, itemsize)
    copy_element(target, source, itemsize)


# --- planning ---------------------------------------------------------------------------------------------------------


def _load(tape, o):
    """Bring a value from memory to its place; of one that has other than one element, nothing."""
    slot = tape.slots[o]
    kind = tape.kinds[slot.kind]
    if slot.flags & STORED and kind.numel == 1:
        _copy(tape, _value_at(tape, o), slot.primal, ITEMSIZE[kind.dtype])


def _meet(tape, o, bits):
    """Mark a slot; the row that has to be found for it, or one behind all."""
    marks, slot = tape.plan.marks, tape.slots[o]
    known = marks[o]
    if known & bits == bits:
        return tape.end
    marks[o] = known | bits
    if bits & VALUE and known & VALUE == 0:
        _load(tape, o)
    if slot.row >= 0 and (slot.flags & STORED == 0 or (bits & ADJOINT and is_interior(tape, slot.kind))):
        if bits & ADJOINT & ~known and is_leaf(tape, o):  # it was written to, and its value is yet to be computed
            _list(tape, o)
        return int(slot.row)
    if known & (VALUE | ADJOINT) == 0:
        _list(tape, o)
    return tape.end


def _list(tape, o):
    """List a slot among those that were met, and that no planned row makes, or leaves an adjoint to."""
    tape.plan.region[tape.plan.n_met] = o
    tape.plan.n_met += 1


@part
def plan_scalars(tape: Header):
    """Plan the sweep; 0 where it is none of scalars: then nothing is marked."""
    rows, slots, plan, request = tape.rows, tape.slots, tape.plan, tape.request
    marks = plan.marks
    plan.n_met = plan.n_planned = plan.n_evaluated = plan.n_staying = 0
    newest, oldest, last_kind, suits, switched = -1, tape.end, -1, True, 1
    n_given = request.n_targets + 2 * request.n_seeds
    for i in range(n_given, n_given + request.n_inputs):
        marks[request.lists[i]] |= WANTED
    for i in range(n_given):
        slot = request.lists[i]
        if slot >= 0 and suits:
            suits = tape.kinds[slots[slot].kind].numel == 1
            bits = VALUE | STORE
            if i >= request.n_targets:
                bits = VALUE if (i - request.n_targets) & 1 else ADJOINT
            r = _meet(tape, slot, bits)
            if r < tape.end:
                newest, oldest = max(newest, r), min(oldest, r)
    suits = suits and newest >= 0
    r, n, n_evaluated, n_staying = newest, 0, 0, 0
    while suits and r >= oldest:
        row = rows[r]
        out = row.out
        mark = marks[out]
        if mark & (VALUE | ADJOINT) == 0:
            r -= 1
            continue
        slot = slots[out]
        if row.kind != last_kind:
            last_kind = row.kind
            kind = tape.kinds[last_kind]
            suits = kind.numel == 1
            if kind.dtype != _FLOAT64:
                switched = 0
        op = tape.ops[row.opcode]
        family, active = op.family, mark & ADJOINT != 0 and is_interior(tape, row.kind)
        if family == LAYOUT:
            of = slots[row.a]
            suits = suits and of.flags & STORED != 0 and (not active or is_leaf(tape, row.a))
            if suits and slot.flags & STORED == 0 and mark & VALUE:
                show(tape, row)
                _load(tape, out)
            if active:
                _meet(tape, row.a, ADJOINT)
                plan.planned[n] = r
                n += 1
            else:
                _list(tape, out)
            r -= 1
            continue
        if family != ELEMENTWISE or row.flags & PIECE or (active and row.flags & CONSUMED):
            suits = False
            break
        n_operands, saved = op.arity, 0
        for k in range(n_operands if active else 0):
            o = operand(row, k)
            if o >= 0 and requires_grad(tape, o):
                saved |= saved_by(tape, row, k)
        if active and mark & VALUE == 0 and (saved & 8 or tape.live[out]):
            marks[out] = mark = mark | VALUE
            _load(tape, out)
        evaluated = mark & VALUE != 0 and slot.flags & STORED == 0
        for k in range(n_operands):
            o = operand(row, k)
            if o >= 0:
                bits = VALUE if evaluated or saved >> k & 1 else 0
                if active and requires_grad(tape, o):
                    bits |= ADJOINT
                if bits:
                    oldest = min(oldest, _meet(tape, o, bits))
        if active:
            plan.planned[n] = r
            n += 1
        if evaluated:
            plan.region_of_row[n_evaluated] = r
            n_evaluated += 1
            if mark & STORE or tape.live[out]:
                plan.inner[n_staying] = r
                n_staying += 1
        r -= 1
    plan.n_planned, plan.n_evaluated, plan.n_staying, plan.switched = n, n_evaluated, n_staying, switched
    if suits:
        return 1
    for i in range(n_given + request.n_inputs):
        if request.lists[i] >= 0:
            marks[request.lists[i]] = 0
    for i in range(n):
        _unmark(tape, rows[plan.planned[i]])
    for i in range(n_evaluated):
        _unmark(tape, rows[plan.region_of_row[i]])
    for i in range(plan.n_met):
        marks[plan.region[i]] = 0
    plan.n_planned = 0
    return 0


def _unmark(tape, row):
    """Clear the marks of what a row makes and reads."""
    tape.plan.marks[row.out] = 0
    for k in range(arity(tape, row)):
        if operand(row, k) >= 0:
            tape.plan.marks[operand(row, k)] = 0


# --- sweeping ---------------------------------------------------------------------------------------------------------


@part
def sweep_scalars(tape: Header):
    """Sweep the planned rows: values, then adjoints."""
    plan = tape.plan
    tape.progress.budget -= 10 * (plan.n_planned + plan.n_evaluated)
    status = scalar_values(tape)
    if status == OK and tape.request.n_seeds:
        status = scalar_adjoints(tape)
    _finish(tape, status == OK)
    return status


def _value_at(tape, slot):
    """The address of a value's place."""
    return tape.plan.values_at + 8 * int(slot) if slot >= 0 else 0


def _bar_at(tape, slot):
    """The address of an adjoint's place."""
    return tape.plan.bars_at + 8 * int(slot)


def _immediate_at(tape, row):
    """The address of an immediate in the dtype of its kernel, made of the float64 that the row holds."""
    code = code_of(tape, row)
    if code == _FLOAT64:
        return row.immediate_at
    write_number(tape.scratch, row.immediate, code)
    return tape.scratch


def _bits(tape, row):
    """The bits of an immediate in the dtype of its kernel, whose address was asked for; 0 where there is none."""
    if row.flags & (IMM_A | IMM_B) == 0:
        return 0
    return row.bits if code_of(tape, row) == _FLOAT64 else i4(tape.scratch, 1)[0]


@part
def scalar_values(tape: Header):
    """The values that are to be computed, oldest first; those that stay in memory go there."""
    plan, i = tape.plan, tape.plan.n_evaluated - 1
    while i >= 0:
        if plan.switched and tape.switch_values and tape.observer == 0:
            i = part5(tape.switch_values, i, tape.rows_at, plan.region_of_row_at, plan.values_at, tape.top)
            if i < 0:
                break
        row = tape.rows[plan.region_of_row[i]]
        a, b, c = _operands_at(tape, row)
        note(tape, _bits(tape, row), CALLED6, kernels_of(tape, row).forward, 1, 0, a, b, c, _value_at(tape, row.out))
        call6(kernels_of(tape, row).forward, 1, 0, a, b, c, _value_at(tape, row.out))
        i -= 1
    for j in range(plan.n_staying):
        row = tape.rows[plan.inner[j]]
        slot = tape.slots[row.out]
        if not hold_value(tape, slot):
            return NO_MEMORY
        _copy(tape, slot.primal, _value_at(tape, row.out), ITEMSIZE[tape.kinds[slot.kind].dtype])
        slot.flags |= STORED | OWNED
    return OK


def _operands_at(tape, row):
    """The addresses of what a row is computed from."""
    if row.flags & IMM_A:
        return _immediate_at(tape, row), _value_at(tape, row.a), 0
    if row.flags & IMM_B:
        return _value_at(tape, row.a), _immediate_at(tape, row), 0
    n = arity(tape, row)
    return _value_at(tape, row.a), _value_at(tape, row.b) if n > 1 else 0, _value_at(tape, row.c) if n > 2 else 0


def _prune(tape):
    """Keep the adjoints of what leads to an input."""
    plan, marks, slots = tape.plan, tape.plan.marks, tape.slots
    for i in range(plan.n_met):
        o = plan.region[i]
        # What was met for its value, which is in memory, may have a planned row all the same.
        if marks[o] & WANTED == 0 and (slots[o].row < 0 or not is_interior(tape, slots[o].kind)):
            marks[o] &= ~ADJOINT & 255
    for i in range(plan.n_planned - 1, -1, -1):
        row, leads = tape.rows[plan.planned[i]], False
        for k in range(arity(tape, row)):
            o = operand(row, k)
            leads = leads or (o >= 0 and marks[o] & ADJOINT != 0 and marks[o] & (WANTED | REACH) != 0)
        if leads:
            marks[row.out] |= REACH
        elif marks[row.out] & WANTED == 0:
            marks[row.out] &= ~ADJOINT & 255


@part
def scalar_adjoints(tape: Header):
    """The adjoints of the planned rows' operands, newest row first; those that are taken go to memory."""
    plan, request = tape.plan, tape.request
    if request.prune:
        _prune(tape)
    for i in range(request.n_seeds):
        slot, given = request.lists[request.n_targets + 2 * i], request.lists[request.n_targets + 2 * i + 1]
        if plan.marks[slot] & ADJOINT:  # else it leads to nothing that is wanted
            _seed(tape, slot, given)
    if not _hold_adjoints(tape):
        return NO_MEMORY
    i = 0
    while i < plan.n_planned:
        if plan.switched and tape.switch_adjoints and tape.observer == 0:
            i = part9(
                tape.switch_adjoints, i, plan.n_planned, tape.rows_at, plan.planned_at, plan.values_at, plan.bars_at,
                plan.marks_at, tape.top, request.retain_graph,
            )  # fmt: skip
            if i == plan.n_planned:
                break
        row = tape.rows[plan.planned[i]]
        if plan.marks[row.out] & INSIDE:
            if tape.ops[row.opcode].family == LAYOUT:
                _add_to_base(tape, row)
            elif is_interior(tape, row.kind):
                _add_partials(tape, row)
        i += 1
    return OK


def _seed(tape, slot, given):
    """Add to the adjoint of a slot: 1, or the value of another."""
    begun, code = tape.plan.marks[slot] & INSIDE, tape.kinds[tape.slots[slot].kind].dtype
    if given >= 0:
        _add(tape, _bar_at(tape, slot), _value_at(tape, given), code, begun)
    elif begun:
        note(tape, 0, ONES, _bar_at(tape, slot), 1, code)
        if code == _FLOAT64:
            f8(_bar_at(tape, slot), 1)[0] += 1.0
        else:
            f4(_bar_at(tape, slot), 1)[0] += 1.0
    else:
        one = _ONE if code == _FLOAT64 else _ONE_4
        note(tape, 0, FILLED, _bar_at(tape, slot), 1, one, ITEMSIZE[code])
        write_number(_bar_at(tape, slot), 1.0, code)
    tape.plan.marks[slot] |= INSIDE


def _add(tape, target, source, code, begun):
    """Add a number to one that is begun, or begin it."""
    if begun == 0:
        _copy(tape, target, source, ITEMSIZE[code])
        return
    note(tape, 0, ADDED, target, source, code)
    add_element(target, source, code)


def add_element(target, source, code):
    """Add one float to another."""
    if code == _FLOAT64:
        f8(target, 1)[0] = f8(target, 1)[0] + f8(source, 1)[0]
    else:
        f4(target, 1)[0] = f4(target, 1)[0] + f4(source, 1)[0]


def _hold_adjoints(tape):
    """Make memory for the adjoints that may be taken; False where it is short."""
    plan, request = tape.plan, tape.request
    n_given, held = request.n_targets + 2 * request.n_seeds, True
    for i in range(plan.n_met):
        o = plan.region[i]
        if plan.marks[o] & ADJOINT and is_leaf(tape, o):
            held = held and hold_adjoint(tape, tape.slots[o])
    for i in range(n_given, n_given + request.n_inputs):
        o = request.lists[i]
        if plan.marks[o] & ADJOINT:
            held = held and hold_adjoint(tape, tape.slots[o])
    return held


def _add_partials(tape, row):
    """What a row's kernels add to the adjoints of its operands."""
    plan, kernels = tape.plan, kernels_of(tape, row)
    a, b, c = _operands_at(tape, row)
    g, y = _bar_at(tape, row.out), _value_at(tape, row.out)
    for k in range(arity(tape, row)):
        o = operand(row, k)
        kernel = kernels.reverse[position(row, k)]
        if o < 0 or plan.marks[o] & ADJOINT == 0 or kernel == 0:
            continue
        mode = 0 if plan.marks[o] & INSIDE else FRESH
        note(tape, _bits(tape, row), CALLED8, kernel, 1, mode, a, b, c, y, g, _bar_at(tape, o))
        call8(kernel, 1, mode, a, b, c, y, g, _bar_at(tape, o))
        plan.marks[o] |= INSIDE
        if tape.request.retain_graph == 0 and tape.ops[row.opcode].saves[position(row, k)]:
            row.flags |= CONSUMED


def _add_to_base(tape, row):
    """Add the adjoint of a view of one element to that of its base."""
    o = row.a
    slot, base = tape.slots[o], _bar_at(tape, o)
    if tape.plan.marks[o] & ADJOINT == 0:
        return
    begun = tape.plan.marks[o] & INSIDE
    if tape.kinds[slot.kind].numel != 1:
        base, begun = slot.adjoint + (tape.pool[row.c + 1] if row.flags & PARAMS else row.offset), 1
    _add(tape, base, _bar_at(tape, row.out), tape.kinds[row.kind].dtype, begun)
    tape.plan.marks[o] |= INSIDE


def _finish(tape, succeeded):
    """Clear the marks; list the adjoints that are taken in `reached`, or drop them."""
    plan, request = tape.plan, tape.request
    n_given = request.n_targets + 2 * request.n_seeds
    for i in range(plan.n_met):
        _settle(tape, plan.region[i], succeeded)
    for i in range(n_given + request.n_inputs):
        if request.lists[i] >= 0:
            _settle(tape, request.lists[i], succeeded)
    for i in range(plan.n_planned):
        plan.marks[tape.rows[plan.planned[i]].out] = 0
    for i in range(plan.n_evaluated):
        plan.marks[tape.rows[plan.region_of_row[i]].out] = 0
    tape.progress.phase = IDLE


def _settle(tape, o, succeeded):
    """One slot's part of it; does nothing the second time."""
    slot, mark = tape.slots[o], tape.plan.marks[o]
    tape.plan.marks[o] = 0
    if mark == 0 or slot.adjoint == 0:
        return
    if not succeeded or mark & INSIDE == 0:
        drop_adjoint(tape, o)
        return
    kind = tape.kinds[slot.kind]
    if kind.numel == 1:
        _copy(tape, slot.adjoint, _bar_at(tape, o), ITEMSIZE[kind.dtype])
    tape.progress.reached[tape.progress.n_reached] = o
    tape.progress.n_reached += 1
