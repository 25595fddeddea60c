"""Segments: what a sweep does whose values would take more memory than they may.

The regions of a plan are cut into segments. What only rows of its own segment read is let go as soon as the segment is
done, and computed again when its turn to be swept in reverse has come; what others read is kept:

    forward    0 1 2 | 3 4 5 | 6 7 8
    reverse                          8 7 6 | 3 4 5, 5 4 3 | 0 1 2, 2 1 0

So at a time there are the values that segments hand on, and those of one segment: with as many segments as the square
root of the number of regions of a chain, little more than two such roots of what there would be. Each value is computed
by the same region as without, twice at most: gradients are the same, bit for bit.

A value that somebody holds, or that Python has computed, stays. Where elements are written over, nothing is cut: what
was there could not be made again.
"""

from tapegrad.core.adjoints import nbytes
from tapegrad.core.rows import (
    ADJOINT,
    MAY_GO,
    STORE,
    VALUE,
    arity,
    is_active,
    is_evaluated,
    operand,
    saved,
    saved_by,
)
from tapegrad.core.storage import give_back
from tapegrad.memory import part
from tapegrad.ops.declare import HOST, LAYOUT
from tapegrad.tape import FIRST, LAST, OWNED, PIECE, STORED, Header

_FOR_EVER = 1 << 30


@part
def cut(tape: Header):
    """Cut a plan into the fewest segments with which its values keep to the limit, if there are such; their number.

    Else into those with which there are fewest bytes at a time. One where there is no limit, or no need.
    """
    segments, n = tape.segments, tape.plan.n_regions
    segments.n_segments = 1
    if segments.limit == 0 or tape.request.paced or tape.observer or tape.plan.counted >= 0 or n < 3:
        return 1
    total = _total(tape)
    if total <= segments.limit:
        return 1
    best, least, k = 1, total, 2
    while k <= n:
        made = _divide(tape, k, total)
        most = _most(tape, made)
        if most < least:
            best, least = k, most
        if most <= segments.limit:
            break
        k += (k + 1) // 2
    if best == 1:
        segments.n_segments = 1
        return 1
    segments.n_segments = _divide(tape, best, total)
    _most(tape, segments.n_segments)
    _mark(tape)
    segments.at_segment, segments.first_step = segments.n_segments - 1, n + 1
    return segments.n_segments


def _size(tape, row):
    """The bytes of the value that a row will have stored in memory of its own; 0 of others."""
    stored = is_evaluated(tape, row) and tape.plan.marks[row.out] & STORE and tape.ops[row.opcode].family != LAYOUT
    whole = row.flags & PIECE == 0 or row.flags & LAST
    return nbytes(tape.kinds[row.kind]) if stored and whole else 0


def _total(tape):
    """The bytes of all values of the plan."""
    total = 0
    for i in range(tape.plan.n_planned):
        total += _size(tape, tape.rows[tape.plan.order[i]])
    return total


def _divide(tape, k, total):
    """Cut into about so many segments, of as many bytes each, but none of what rows fill together; their number."""
    plan, cuts = tape.plan, tape.segments.cuts
    n, size = 0, 0
    cuts[0] = 0
    for g in range(plan.n_regions - 1):
        for i in range(plan.begin[g], plan.begin[g + 1]):
            size += _size(tape, tape.rows[plan.order[i]])
        following = tape.rows[plan.order[plan.begin[g + 1]]]
        if size * k >= (n + 1) * total and (following.flags & PIECE == 0 or following.flags & FIRST):
            n += 1
            cuts[n] = g + 1
    cuts[n + 1] = plan.n_regions
    return n + 1


def _most(tape, n_segments):
    """The most bytes that there are at a time: what segments hand on, and all of one. Notes who reads each value."""
    plan, segments, request = tape.plan, tape.segments, tape.request
    until = segments.until
    for i in range(plan.n_planned):
        row = tape.rows[plan.order[i]]
        until[row.out] = -1
        for k in range(arity(tape, row)):
            if operand(row, k) >= 0:
                until[operand(row, k)] = -1
    for i in range(request.n_targets + 2 * request.n_seeds + request.n_inputs):
        if request.lists[i] >= 0:
            until[request.lists[i]] = _FOR_EVER
    handed_on, most = 0, 0
    for s in range(n_segments - 1, -1, -1):
        own = 0
        for i in range(plan.begin[segments.cuts[s + 1]] - 1, plan.begin[segments.cuts[s]] - 1, -1):
            row = tape.rows[plan.order[i]]
            _read(tape, row, s)
            if _may_go(tape, row, s):
                own += _size(tape, row)
            else:
                handed_on += _size(tape, row)
        most = max(most, own)
    return handed_on + most


def _read(tape, row, s):
    """Note that a row of segment `s` reads its operands; what is read of a view is read of its base."""
    until = tape.segments.until
    if tape.live[row.out]:
        until[row.out] = _FOR_EVER
    if tape.ops[row.opcode].family == LAYOUT:
        until[row.a] = max(until[row.a], until[row.out], s)
        return
    bits = 0
    for k in range(arity(tape, row)):
        o = operand(row, k)
        if o >= 0 and is_evaluated(tape, row):
            until[o] = max(until[o], s)
        if o >= 0 and is_active(tape, row) and tape.plan.marks[o] & ADJOINT:
            bits |= saved_by(tape, row, k)
    for j in range(4):
        if bits >> j & 1:
            until[saved(row, j)] = max(until[saved(row, j)], s)


def _may_go(tape, row, s):
    """Whether nobody but segment `s`, which makes it, reads a row's value, so that it may go with that."""
    family = tape.ops[row.opcode].family
    return family != LAYOUT and family != HOST and is_evaluated(tape, row) and tape.segments.until[row.out] <= s


def _mark(tape):
    """Mark the values that go with their segments."""
    plan, segments = tape.plan, tape.segments
    for s in range(segments.n_segments):
        for i in range(plan.begin[segments.cuts[s]], plan.begin[segments.cuts[s + 1]]):
            row = tape.rows[plan.order[i]]
            if _may_go(tape, row, s):
                plan.marks[row.out] |= MAY_GO


def n_steps_in_segments(tape):
    """The steps of a sweep in segments: all regions forward, the seeds, all but the last segment's again, and back."""
    n, segments = tape.plan.n_regions, tape.segments
    if tape.request.n_seeds == 0:
        return n
    return n + 1 + 2 * n - (n - segments.cuts[segments.n_segments - 1])


def ends_with(tape, region):
    """The segment that ends with a region, or -1."""
    segments = tape.segments
    low, high = 0, segments.n_segments
    while low < high:
        middle = (low + high) // 2
        if segments.cuts[middle + 1] <= region:
            low = middle + 1
        else:
            high = middle
    return low if segments.cuts[low + 1] == region + 1 else -1


def let_go(tape, s):
    """Let the values go that only segment `s` reads, and the views of them."""
    plan, slots = tape.plan, tape.slots
    for i in range(plan.begin[tape.segments.cuts[s]], plan.begin[tape.segments.cuts[s + 1]]):
        row = tape.rows[plan.order[i]]
        slot = slots[row.out]
        if tape.ops[row.opcode].family == LAYOUT:
            if plan.marks[row.out] & VALUE and slots[row.a].flags & STORED == 0:
                slot.primal, slot.base, slot.flags = 0, -1, slot.flags & ~STORED
        elif plan.marks[row.out] & MAY_GO and slot.flags & (STORED | OWNED) == STORED | OWNED:
            give_back(tape, slot.primal)
            slot.primal, slot.flags = 0, slot.flags & ~(STORED | OWNED)
