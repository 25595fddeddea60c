"""Readers: whether anybody will still read a value, so that a write in place costs its elements. Compiled code.

A row that writes to some elements of its operand has a new slot for its result: a copy, in principle. Where nobody will
read the operand again, its memory becomes the result's. Rows that are swept later, and rules, must find what they read:
so the reads that are still to come are counted, for all rows from the oldest such operand on, and counted down while
the sweep goes on. A row reads its operands

    once for its value         where that is not in memory, and is live or will be read
    once for its rules         those that they read, as long as a reverse sweep may come
    for as long as it exists   the base of a view that is live or will be read
"""

from tapegrad.core.rows import arity, is_interior, operand, requires_grad, saved_by
from tapegrad.memory import part
from tapegrad.ops.declare import LAYOUT
from tapegrad.tape import CONSUMED, OWNED, STORED, Header


def kept_for_rules(tape, row):
    """What the rules of a row read, as bits of its fields."""
    bits = 0
    if row.flags & CONSUMED == 0 and is_interior(tape, row.kind):
        for k in range(arity(tape, row)):
            if operand(row, k) >= 0 and requires_grad(tape, operand(row, k)):
                bits |= saved_by(tape, row, k)
    return bits


def _count(tape, o, change):
    """Count a reader more, or less, of a slot; one whose own row is gone is read where its base has it."""
    readers, slot = tape.plan.readers, tape.slots[o]
    readers[o] += change
    if slot.row < 0 and slot.base >= 0:
        readers[slot.base] += change


@part
def count_readers(tape: Header, start):
    """Count the reads that are still to come, by rows from `start` on."""
    rows, plan, slots = tape.rows, tape.plan, tape.slots
    readers = plan.readers
    for r in range(start, tape.end):
        row = rows[r]
        readers[row.out] = 0
        for k in range(arity(tape, row)):
            o = operand(row, k)
            if o >= 0:
                readers[o] = 0
                if slots[o].base >= 0:
                    readers[slots[o].base] = 0
    for r in range(tape.end - 1, start - 1, -1):
        row = rows[r]
        kept = kept_for_rules(tape, row)
        if kept & 8:
            readers[row.out] += 1
        reads = readers[row.out] > 0 or tape.live[row.out] != 0
        if tape.ops[row.opcode].family != LAYOUT:
            reads = reads and slots[row.out].flags & STORED == 0
        for k in range(arity(tape, row)):
            if operand(row, k) >= 0 and (reads or kept >> k & 1):
                _count(tape, operand(row, k), 1)
    plan.counted = start
    return 0


@part
def count_down(tape: Header, r, stays):
    """What a row has read it reads no more: it was evaluated, and its value stays in memory, or is needed no more."""
    row = tape.rows[r]
    if r < tape.plan.counted or (stays == 0 and (tape.plan.readers[row.out] or tape.live[row.out])):
        return 0
    kept = kept_for_rules(tape, row)
    for k in range(arity(tape, row)):
        if operand(row, k) >= 0 and kept >> k & 1 == 0:
            _read(tape, operand(row, k))
    return 0


def _read(tape, o):
    """One reader less; a view that nobody reads any more reads its base no more."""
    _count(tape, o, -1)
    while tape.plan.readers[o] == 0 and tape.live[o] == 0 and tape.slots[o].row >= tape.plan.counted:
        row = tape.rows[tape.slots[o].row]
        if tape.ops[row.opcode].family != LAYOUT:
            break
        o = row.a
        _count(tape, o, -1)


def is_last_reader(tape, row):
    """Whether a row that writes to its first operand is the last to read it, so that it may have its memory."""
    slot = tape.slots[row.a]
    return (
        tape.plan.counted >= 0
        and slot.flags & (STORED | OWNED) == STORED | OWNED
        and max(slot.row, 0) >= tape.plan.counted
        and tape.live[row.a] == 0
        and tape.plan.readers[row.a] == 1
    )
