"""Adjoints: where their memory is. Compiled code.

A view is a strided operand, and so is its adjoint: a place in that of its base, to which rows add at once (LENT). The
base's memory is not zeroed first: the block says which bytes of it are written (PARTLY, one run of them). A row that
writes every element of a place next to the run, and nothing in it, extends it; what is skipped or left is zeroed. So
slices that tile a vector of parameters are written once each, and nothing else is.

      written_from          written_to
    . . . |======== x[3:8] =====|---- x[8:12]: is written ----| . . .

What a region adds to is met lane by lane, by several threads, in any order. So in one region no two places may have an
element in common, unless they are the same: a view whose place has, one with elements that repeat, one that was asked
for, has memory of its own (it is apart), which is added to its base's when all rows that read it are done.
"""

from tapegrad.core.guards import block_of
from tapegrad.core.rows import ADJOINT, WANTED, clear, complete, is_active
from tapegrad.core.storage import obtain
from tapegrad.core.tables import ITEMSIZE, MOST_PLACES
from tapegrad.kinds import CONTIGUOUS
from tapegrad.memory import part
from tapegrad.ops.declare import LAYOUT
from tapegrad.tape import LENT, PARAMS, PARTLY, STORED, Header

APART, NO_ROOM = 0, -1


def nbytes(kind):
    """The bytes of a value."""
    return min(kind.numel, 1 << 50) * ITEMSIZE[kind.dtype]  # no more can be had, and none overflows


def hold_adjoint(tape, slot):
    """Make memory of its own for an adjoint, zero, contiguous; False where there is none to be had."""
    if slot.flags & LENT:
        slot.adjoint, slot.flags = 0, slot.flags & ~LENT
    if slot.adjoint == 0:
        slot.adjoint = obtain(tape, nbytes(tape.kinds[slot.kind]), 1)
    complete(tape, slot)
    return slot.adjoint != 0


def show(tape, row):
    """A view of what is in memory."""
    slot, of = tape.slots[row.out], tape.slots[row.a]
    slot.primal = of.primal + offset_of(tape, row)
    slot.base = of.base if of.base >= 0 else row.a
    slot.flags |= STORED


def offset_of(tape, row):
    """The bytes from the first element of a base to that of its view."""
    return tape.pool[row.c] if row.flags & PARAMS else row.offset


def _is_lent(tape, o):
    """Whether the adjoint of a slot is a part of another's, or may be."""
    slot = tape.slots[o]
    if slot.row < 0 or tape.plan.marks[o] & WANTED or (slot.adjoint != 0 and slot.flags & LENT == 0):
        return False
    row = tape.rows[slot.row]
    return tape.ops[row.opcode].family == LAYOUT and is_active(tape, row) and tape.plan.marks[row.a] & ADJOINT != 0


@part
def lend(tape: Header, o, overwrites, is_region):
    """Let the adjoint of a view be a place in its base's: 1 + the number of the place among those of the program.

    APART where it needs memory of its own, NO_ROOM where there is none. `overwrites`: each of its elements is written.
    """
    program, slot = tape.program, tape.slots[o]
    if program.n_places == MOST_PLACES or tape.kinds[slot.kind].numel == 0 or not _is_lent(tape, o):
        return APART
    spot = program.places[program.n_places]
    root = _root_of(tape, o, spot)
    if root < 0 or not _measure(tape, tape.kinds[slot.kind], spot):
        return APART
    if spot.strided and not is_region:
        return APART
    of = tape.slots[root]
    if is_region and tape.binding.taken[root] == tape.binding.stamps:
        return APART
    if of.adjoint == 0:
        whole = nbytes(tape.kinds[of.kind])
        of.adjoint = obtain(tape, whole, 0)
        if of.adjoint == 0:
            return NO_ROOM
        block = block_of(of.adjoint)
        block.written_from, block.written_to, block.whole = 0, 0, whole
        of.flags |= PARTLY
    spot.low += of.adjoint
    spot.high += of.adjoint
    spot.kind = slot.kind
    place = _entered(program, spot) if is_region else program.n_places
    if place < 0:
        return APART
    if place == program.n_places:
        spot.register = 0
        spot.fresh = _begin(tape, of, spot.low, spot.high, overwrites and spot.strided == 0)
        if is_region:
            program.n_places += 1
    slot.adjoint, slot.flags = spot.low, slot.flags | LENT
    return 1 + place


def _root_of(tape, o, spot):
    """The slot in whose adjoint a view has its place, its offset there, and its strides; -1 for none."""
    row = tape.rows[tape.slots[o].row]
    offset, root, depth = offset_of(tape, row), int(row.a), 1
    while _is_lent(tape, root):
        above = tape.rows[tape.slots[root].row]
        offset, root, depth = offset + offset_of(tape, above), int(above.a), depth + 1
    kind = tape.kinds[tape.slots[o].kind]
    if tape.kinds[tape.slots[root].kind].flags & CONTIGUOUS:
        spot.low, spot.strides = offset, kind.dims + kind.ndim
        return root
    if depth > 1:
        return -1
    spot.low, spot.strides = tape.pool[row.c + 1], row.c + 2  # as if the base were contiguous
    return root


def _measure(tape, kind, spot):
    """Where a place ends, and whether it is runs of `width` bytes, `pitch` apart; False if elements repeat."""
    pool, n, size = tape.pool, kind.ndim, ITEMSIZE[kind.dtype]
    span, pitch, width, last, natural = size, 0, size, 0, size
    spot.strided = 0
    for d in range(n - 1, -1, -1):
        length = pool[kind.dims + d]
        if length > 1 and pool[spot.strides + d] != natural:
            spot.strided = 1
        natural *= length
    if spot.strided == 0:
        spot.high, spot.pitch, spot.width = spot.low + natural, 0, natural
        return True
    left = 0
    for d in range(n):
        left += 1 if pool[kind.dims + d] > 1 else 0
    while left > 0:  # by ascending strides
        step, length = 0, 0
        for d in range(n):
            stride = pool[spot.strides + d]
            if pool[kind.dims + d] > 1 and stride > last and (step == 0 or stride < step):
                step, length = stride, pool[kind.dims + d]
        if step < span:
            return False
        if pitch == 0:
            width = span
            if step > span:
                pitch = step
        elif step % pitch:
            pitch = -1
        span += (length - 1) * step
        last = step
        left -= 1
    spot.high, spot.pitch, spot.width = spot.low + span, pitch, width if pitch > 0 else span
    return True


def _entered(program, spot):
    """The number of a place among those of a region: it may be there already; -1 where it meets another."""
    for i in range(program.n_places):
        known = program.places[i]
        if spot.high <= known.low or known.high <= spot.low:
            continue
        if known.low == spot.low and known.kind == spot.kind and known.strides == spot.strides:
            return i
        if spot.pitch <= 0 or spot.pitch != known.pitch:
            return -1
        between = (spot.low - known.low) % spot.pitch
        if between < known.width or between + spot.width > spot.pitch:
            return -1
    return program.n_places


def _begin(tape, of, low, high, overwrites):
    """Have the bytes from `low` to `high` of an adjoint begun; 1 where they are to be overwritten, else 0."""
    if of.flags & PARTLY == 0:
        return 0
    block, begin = block_of(of.adjoint), of.adjoint
    low, high, first, stop = low - begin, high - begin, block.written_from, block.written_to
    fresh = 1 if overwrites and (first == stop or high <= first or stop <= low) else 0
    if first == stop:
        first, stop = low, low
    if high < first:
        clear(tape, begin + high, first - high)
    elif stop < low:
        clear(tape, begin + stop, low - stop)
    if fresh == 0:
        clear(tape, begin + low, min(first, high) - low)
        clear(tape, begin + max(stop, low), high - max(stop, low))
    block.written_from, block.written_to = min(first, low), max(stop, high)
    if block.written_from == 0 and block.written_to == block.whole:
        of.flags &= ~PARTLY
    return fresh
