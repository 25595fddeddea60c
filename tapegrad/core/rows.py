"""Rows as compiled code sees them: their operands, what their rules read, and how a plan marks their slots.

Marks, a byte a slot, live from `schedule` to `finish`:

    VALUE    the value is needed             ADJOINT  the adjoint is needed
    STORE    and must be in memory, since another region reads it
    PLANNED  a planned row makes it          WANTED   the caller takes the adjoint
    REACH    a path leads from it to a wanted slot
    INSIDE   rows of its own region may read it
    MAY_GO   it goes with its segment: see `segments.py`
"""

from tapegrad.core.guards import block_of
from tapegrad.core.observed import FILLED, tell
from tapegrad.core.storage import give_back
from tapegrad.kinds import LEAF, REQUIRES_GRAD
from tapegrad.memory import i4, i8
from tapegrad.tape import FIRST, IMM_A, IMM_B, LENT, PARTLY, PIECE, STORED

VALUE, ADJOINT, STORE, PLANNED, WANTED, REACH, INSIDE, MAY_GO = 1, 2, 4, 8, 16, 32, 64, 128

# What a part of a sweep answers.
OK, MORE, NO_MEMORY, SWEPT_TWICE, AT_HOST, MORE_WORKERS, FAILED, DAMAGED = range(8)

IDLE = 0  # the phase in which no sweep has begun


def sync(tape):
    """Enter new rows in the slots they define."""
    rows, slots = tape.rows, tape.slots
    for r in range(tape.synced, tape.end):
        slot = slots[rows[r].out]
        slot.kind, slot.row, slot.primal, slot.adjoint, slot.base, slot.flags = rows[r].kind, r, 0, 0, -1, 0
    tape.synced = tape.end


def forget_reached(tape):
    """Drop adjoints that nobody has taken: Ctrl-C came after the last sweep."""
    progress = tape.progress
    for i in range(progress.n_reached):
        drop_adjoint(tape, progress.reached[i])
    progress.n_reached = 0


def drop_adjoint(tape, slot):
    """Give back the memory of an adjoint, if it has any of its own."""
    of = tape.slots[slot]
    if of.adjoint:
        if of.flags & LENT == 0:
            give_back(tape, of.adjoint)
        of.adjoint, of.flags = 0, of.flags & ~(LENT | PARTLY)


def clear(tape, address, nbytes):
    """Zero bytes, whose number and address are multiples of four."""
    tell(tape, FILLED, address, nbytes, 0, 1)
    begin, end = (address + 7) // 8 * 8, (address + nbytes) // 8 * 8
    if nbytes > 0 and begin > address:
        i4(address, 1)[0] = 0
    for i in range((end - begin) // 8):
        i8(begin, i + 1)[i] = 0
    if address + nbytes > max(begin, end):
        i4(end, 1)[0] = 0


def complete(tape, slot):
    """Zero what nothing was added to of an adjoint that is begun in parts."""
    if slot.flags & PARTLY:
        block = block_of(slot.adjoint)
        clear(tape, slot.adjoint, block.written_from)
        clear(tape, slot.adjoint + block.written_to, block.whole - block.written_to)
        slot.flags &= ~PARTLY


def arity(tape, row):
    """How many fields of a row hold operands."""
    return tape.ops[row.opcode].arity


def operand(row, k):
    """The slot at field `k` of a row, or -1: where an operand is an immediate, the other is in field 0."""
    return row.a if k == 0 else -1 if row.flags & (IMM_A | IMM_B) else row.b if k == 1 else row.c


def position(row, k):
    """Which operand of the operation the slot at field `k` is."""
    return 1 if row.flags & IMM_A else k


def saved(row, j):
    """What bit `j` of `saved_by` stands for: an operand, or the result."""
    return row.a if j == 0 else row.b if j == 1 else row.c if j == 2 else row.out


def saved_by(tape, row, k):
    """The operands and the result that the rule for the slot at field `k` reads, as bits of the row's own fields."""
    return _in_fields(tape.ops[row.opcode].saves[position(row, k)], row.flags)


def _in_fields(bits, flags):
    """Bits of operands as bits of fields: beside an immediate, which is not kept, the other operand is in field 0."""
    return (bits & 8) | ((bits >> 1) & 1) if flags & IMM_A else bits & 9 if flags & IMM_B else bits


def defines(tape, row, r):
    """1 for a slot's oldest row: of the rows that fill a slot together, only the last is entered in it."""
    return (1 if row.flags & FIRST else 0) if row.flags & PIECE else 1 if tape.slots[row.out].row == r else 0


def requires_grad(tape, slot):
    """Whether a slot's value requires grad."""
    return tape.kinds[tape.slots[slot].kind].flags & REQUIRES_GRAD != 0


def is_leaf(tape, slot):
    """Whether a slot's value is a leaf that requires grad."""
    return tape.kinds[tape.slots[slot].kind].flags & LEAF != 0


def is_interior(tape, kind):
    """Whether a value of this kind requires grad and was computed."""
    return tape.kinds[kind].flags & (REQUIRES_GRAD | LEAF) == REQUIRES_GRAD


def is_active(tape, row):
    """Whether the reverse sweep goes through this row."""
    return (
        tape.plan.marks[row.out] & ADJOINT != 0
        and is_interior(tape, row.kind)
        and (tape.request.prune == 0 or tape.plan.marks[row.out] & REACH != 0)
    )


def is_evaluated(tape, row):
    """Whether the forward sweep runs this row."""
    return tape.plan.marks[row.out] & VALUE != 0 and tape.slots[row.out].flags & STORED == 0
