"""Reclaiming: rows, values and slots that nothing can reach any more are dropped. Compiled code.

A slot goes on existing (REACH) while it has a handle, or a row that is kept names it; its elements are kept (VALUE)
while it has a handle, or a value that is not in memory is computed from them, or the rule of a row that is kept reads
them. A row is kept where its result is needed and not in memory, or a reverse sweep may come through it.
"""

from tapegrad.core.rows import (
    REACH,
    VALUE,
    arity,
    forget_reached,
    is_interior,
    operand,
    requires_grad,
    saved,
    saved_by,
    sync,
)  # fmt: skip
from tapegrad.core.storage import give_back, trim
from tapegrad.memory import part
from tapegrad.tape import CONSUMED, FREE, OWNED, ROW_BYTES, STORED, Header


@part
def reclaim(tape: Header):
    """Drop the rows that nothing needs, list the slots that this frees in `freed`; returns how many rows are left."""
    forget_reached(tape)
    sync(tape)
    for slot in range(tape.top):
        if tape.slots[slot].flags & FREE == 0 and tape.live[slot]:
            tape.plan.marks[slot] = VALUE | REACH
    for r in range(tape.end - 1, -1, -1):
        _mark_operands(tape, tape.rows[r])
    kept = 0
    for r in range(tape.end):
        row = tape.rows[r]
        if _is_needed(tape, row) or (tape.plan.marks[row.out] != 0 and is_interior(tape, row.kind)):
            _keep(tape, row, kept)
            kept += 1
        elif tape.plan.marks[row.out] != 0:
            tape.slots[row.out].row = -1
    tape.end = tape.synced = kept
    tape.settled = 0
    tape.recording.filled = kept * ROW_BYTES  # here, so that Ctrl-C can't come between
    _mark_bases(tape)
    _free_slots(tape)
    trim(tape)
    return kept


@part
def take_back(tape: Header, first, height, is_final):
    """Drop the rows from `first` on, and the slots taken since there were `height` free ones; 0 where one is held.

    The slots are still on the stack of free ones, behind its end. They go back, and what they own, when it is final.
    """
    recording, slots, live = tape.recording, tape.slots, tape.live
    if not is_final:
        for k in range(recording.n_free, height):
            if live[recording.free[k]]:
                return 0
        return 1
    tape.end = recording.filled // ROW_BYTES
    forget_reached(tape)
    sync(tape)
    for k in range(recording.n_free, height):
        slot = slots[recording.free[k]]
        if slot.flags & OWNED:
            give_back(tape, slot.primal)
        slot.primal, slot.flags, slot.base, live[recording.free[k]] = 0, FREE, -1, 1
    tape.end = tape.synced = first
    tape.settled = min(tape.settled, first)
    recording.filled, recording.n_free = first * ROW_BYTES, height  # here, so that Ctrl-C can't come between
    return 1


@part
def has_pending(tape: Header):
    """Whether some value that somebody holds is not in memory: a row makes it."""
    sync(tape)
    for r in range(tape.settled, tape.end):
        out = tape.rows[r].out
        if tape.live[out] and tape.slots[out].flags & (STORED | FREE) == 0:
            return 1
    tape.settled = tape.end  # what is live of them stays in memory, and what is not is held again only where it is lent
    return 0


def _is_needed(tape, row):
    """Whether a row's result must be computed once more."""
    return tape.plan.marks[row.out] & VALUE != 0 and tape.slots[row.out].flags & STORED == 0


def _mark_operands(tape, row):
    """Mark what a row that is kept needs of its operands."""
    marks = tape.plan.marks
    needed, reached = _is_needed(tape, row), marks[row.out] != 0 and is_interior(tape, row.kind)
    for k in range(arity(tape, row)):
        o = operand(row, k)
        if o < 0:
            continue
        if needed:
            marks[o] |= VALUE | REACH
        elif reached and row.flags & CONSUMED:
            if requires_grad(tape, o):
                marks[o] |= REACH  # what was let go still tells where it leads to
        elif reached:
            marks[o] |= REACH
            if requires_grad(tape, o):
                bits = saved_by(tape, row, k)
                for j in range(4):
                    if bits >> j & 1:
                        marks[saved(row, j)] |= VALUE | REACH
    # A saved result that is not in memory has to be computed again.
    if not needed and _is_needed(tape, row):
        for k in range(arity(tape, row)):
            if operand(row, k) >= 0:
                marks[operand(row, k)] |= VALUE | REACH


def _keep(tape, row, r):
    """Move a row to its new place; one that was swept in reverse lets go of operands that lead nowhere."""
    to = tape.rows[r]
    let_go = row.flags & CONSUMED and not _is_needed(tape, row)
    to.opcode, to.flags, to.out, to.kind = row.opcode, row.flags, row.out, row.kind
    to.a, to.b, to.c = row.a, row.b, row.c
    tape.slots[to.out].row = r
    for k in range(arity(tape, to) if let_go else 0):
        o = operand(to, k)
        if o >= 0 and not requires_grad(tape, o):
            if k == 0:
                to.a = -1
            elif k == 1:
                to.b = -1
            else:
                to.c = -1


def _mark_bases(tape):
    """Mark what views are of whose elements are kept."""
    for i in range(tape.top):
        slot = tape.slots[i]
        if slot.flags & FREE == 0 and slot.base >= 0 and tape.plan.marks[i] & VALUE and slot.flags & STORED:
            tape.plan.marks[slot.base] |= VALUE | REACH


def _free_slots(tape):
    """Free the memory of values, and the slots, that are not marked; clear the marks."""
    marks, live, storage = tape.plan.marks, tape.live, tape.storage
    n = 0
    for i in range(tape.top):
        slot = tape.slots[i]
        flags = slot.flags
        if flags & FREE:
            if i and live[i] == 0:  # taken, and let go before it was given a value
                live[i] = 1
                storage.freed[n] = i
                n += 1
            continue
        if marks[i] & VALUE == 0 and flags & OWNED:
            give_back(tape, slot.primal)
            slot.primal, slot.flags = 0, flags & ~(OWNED | STORED)
        elif marks[i] & VALUE == 0 and slot.base >= 0:
            slot.flags, slot.base, slot.primal = flags & ~STORED, -1, 0  # its base may go
        if marks[i] == 0:
            slot.flags, slot.base, live[i] = FREE, -1, 1
            storage.freed[n] = i
            n += 1
        marks[i] = 0
    storage.n_freed = n
