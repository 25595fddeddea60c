"""Scalars: a sweep of rows of one element each goes from row to row, without regions and programs. Compiled code.

What describes a region would cost several times what such a row does. So where every planned row is elementwise and
has one element, its kernels are called as they are met: forward from the oldest planned row, in reverse from the
newest. Each planned row has a record, by its place in the plan, which `region` holds for the slots of such rows. An
adjoint that something was added to has the mark INSIDE.
"""

from tapegrad.core.adjoints import hold_adjoint
from tapegrad.core.registers import code_of, hold_value, kernels_of, write_number
from tapegrad.core.rows import (
    ADJOINT,
    INSIDE,
    NO_MEMORY,
    OK,
    PLANNED,
    STORE,
    WANTED,
    arity,
    is_active,
    is_evaluated,
    operand,
    position,
)  # fmt: skip
from tapegrad.core.storage import give_back, obtain
from tapegrad.debug import MEMORY
from tapegrad.kernels import Kernels
from tapegrad.kernels.loops import FRESH
from tapegrad.memory import Record, call6, call8, f4, f8, part, word
from tapegrad.tape import IMM_A, IMM_B, OWNED, STORED, Header

FEW_ROWS = 1000  # whose records are in the thread's scratch memory


class Scalar(Record):
    """A planned row: its value and its adjoint, where nobody looks at them, and what its kernels are called with."""

    primal = word()
    bar = word()
    immediate = word()  # in the dtype of its kernels
    a = word()  # addresses of its operands, of its result, and of its kernels
    b = word()
    c = word()
    y = word()
    kernels = word()


_BYTES = Scalar.nbytes


@part
def sweep_scalars(tape: Header):
    """Sweep the planned rows: values, then adjoints."""
    n = tape.plan.n_planned
    few = n <= FEW_ROWS and not MEMORY
    scalars = tape.scratch if few else obtain(tape, _BYTES * n, 0)
    if scalars == 0:
        return NO_MEMORY
    status = scalar_values(tape, scalars)
    if status == OK and tape.request.n_seeds:
        status = scalar_adjoints(tape, scalars)
    if not few:
        give_back(tape, scalars)
    tape.progress.budget -= 10 * n
    return status


def _scalar(scalars, i):
    """The record of a planned row."""
    return Scalar(scalars + _BYTES * int(i))


def _value_at(tape, scalars, slot):
    """The address of an operand's value."""
    if slot < 0:
        return 0
    if tape.slots[slot].flags & STORED:
        return tape.slots[slot].primal
    return _scalar(scalars, tape.plan.region[slot]).primal_at


def _immediate_at(row, scalar, code):
    """The address of an immediate in the dtype of its kernel, made of the float64 that the row holds."""
    if code == 4:
        return row.immediate_at
    write_number(scalar.immediate_at, row.immediate, code)
    return scalar.immediate_at


@part
def scalar_values(tape: Header, scalars):
    """The records of the planned rows, and their values, oldest first."""
    plan = tape.plan
    for i in range(plan.n_planned - 1, -1, -1):
        row, scalar = tape.rows[plan.planned[i]], _scalar(scalars, i)
        out = row.out
        plan.region[out] = i
        plan.marks[out] |= PLANNED
        kernels = kernels_of(tape, row)
        a, b, c = _value_at(tape, scalars, row.a), 0, 0
        if row.flags & (IMM_A | IMM_B):
            b = _immediate_at(row, scalar, code_of(tape, row))
            if row.flags & IMM_A:
                a, b = b, a
        else:
            n_operands = arity(tape, row)
            if n_operands > 1:
                b = _value_at(tape, scalars, row.b)
                if n_operands > 2:
                    c = _value_at(tape, scalars, row.c)
        evaluated, y = is_evaluated(tape, row), _value_at(tape, scalars, out)
        if evaluated and (tape.live[out] or plan.marks[out] & STORE):
            slot = tape.slots[out]
            if not hold_value(tape, slot):
                return NO_MEMORY
            y = slot.primal
            slot.flags |= STORED | OWNED
        if evaluated:
            call6(kernels.forward, 1, 0, a, b, c, y)
        scalar.a, scalar.b, scalar.c, scalar.y, scalar.kernels = a, b, c, y, kernels
    return OK


def _adjoint_at(tape, scalars, slot):
    """The address of an adjoint: in the row's record, if nobody takes it; 0 where memory is short."""
    if tape.plan.marks[slot] & (PLANNED | WANTED) == PLANNED:
        return _scalar(scalars, tape.plan.region[slot]).bar_at
    return tape.slots[slot].adjoint if hold_adjoint(tape, tape.slots[slot]) else 0


def _seed(tape, scalars, slot, given):
    """Add to the adjoint of a slot: 1, or the value of another; False where memory is short."""
    bar, begun = _adjoint_at(tape, scalars, slot), tape.plan.marks[slot] & INSIDE
    if bar == 0:
        return False
    if tape.kinds[tape.slots[slot].kind].dtype == 4:
        seed = 1.0 if given < 0 else f8(tape.slots[given].primal, 1)[0]
        f8(bar, 1)[0] = f8(bar, 1)[0] + seed if begun else seed
    else:
        seed = 1.0 if given < 0 else f4(tape.slots[given].primal, 1)[0]
        f4(bar, 1)[0] = f4(bar, 1)[0] + seed if begun else seed
    tape.plan.marks[slot] |= INSIDE
    return True


@part
def scalar_adjoints(tape: Header, scalars):
    """The adjoints of the planned rows' operands, newest row first."""
    plan, request = tape.plan, tape.request
    marks = plan.marks
    for i in range(request.n_seeds):
        slot, given = request.lists[request.n_targets + 2 * i], request.lists[request.n_targets + 2 * i + 1]
        if marks[slot] & ADJOINT and not _seed(tape, scalars, slot, given):  # else it leads to nothing that is wanted
            return NO_MEMORY
    for i in range(plan.n_planned):
        row = tape.rows[plan.planned[i]]
        if marks[row.out] & INSIDE == 0 or not is_active(tape, row):
            continue
        scalar = _scalar(scalars, i)
        kernels, y_bar = Kernels(scalar.kernels), _adjoint_at(tape, scalars, row.out)
        for k in range(arity(tape, row)):
            o = operand(row, k)
            kernel = kernels.reverse[position(row, k)]
            if o < 0 or marks[o] & ADJOINT == 0 or kernel == 0:
                continue
            bar = _adjoint_at(tape, scalars, o)
            if bar == 0:
                return NO_MEMORY
            fresh = 0 if marks[o] & INSIDE else FRESH
            call8(kernel, 1, fresh, scalar.a, scalar.b, scalar.c, scalar.y, y_bar, bar)
            marks[o] |= INSIDE
    return OK
