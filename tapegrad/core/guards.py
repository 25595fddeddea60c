"""Guards: what TAPEGRAD_DEBUG=memory adds to the memory that kernels are given. Compiled code.

Memory is filled with a pattern when it is had, and again when it is let go: as floats the pattern is nan, whatever
their size, as an integer it is beyond all indices. So what is read before it was written is seen in what comes out.
More of the pattern lies before and behind; that it is still there is what is checked:

    blocks       of `storage.py`, which are listed in `blocks`, after each step of a sweep and when they are let go
    registers    after each instruction; they hold the pattern again once they are dead
    sums apart   that chunks and pieces have each for its own, when they are joined
    work space   that BLAS's arguments are put into, after each array kernel
    tables       that describe a region, once they are filled
    tapes        of jitted functions, see `jitted/guards.py`

A block let go is not used again, but kept for a while, to see whether somebody still writes to it.

      address - 128                      address - 64             address       + nbytes       + size of the class
      +------+----------+--------+-------+-----+-------+----------+---------------+------------+
      | next | previous | nbytes | state | raw | class | pattern  | elements      | pattern    |
      +------+----------+--------+-------+-----+-------+----------+---------------+------------+

`MEMORY` is a constant to compiled code: where the mode is off, what it asks for is left out when code is compiled.
"""

from tapegrad.debug import MEMORY
from tapegrad.memory import i8, slots_at, u1
from tapegrad.tape import H

PATTERN = 0x7FF4DEAD7FA0BEEF
GUARD = 64  # bytes of the pattern behind what is guarded, at least
GAP = GUARD if MEMORY else 0  # between registers, and between sums
MOST_LET_GO = 1 << 20  # bytes of blocks let go that are kept
_MOST_FILLED = 1 << 28  # bytes of a block that is filled: more would touch memory that nobody asked for
_NEXT, _PREVIOUS, _NBYTES, _STATE = range(4)
_IN_USE, _UNUSED = 0x11FE, 0x60AE
# What has happened.
BEFORE, BEHIND, LET_GO, TWICE, BEHIND_REGISTER, BEHIND_SUM, BEHIND_WORK, TABLE_FULL = range(1, 9)


def fill_pattern(address, nbytes):
    """Fill bytes with the pattern, which begins at each multiple of eight."""
    for i in range(min(-address % 8, nbytes)):
        u1(address, nbytes)[i] = PATTERN >> 8 * ((address + i) % 8) & 255
    begin, end = (address + 7) // 8 * 8, (address + nbytes) // 8 * 8
    for word in range((end - begin) // 8):
        i8(begin, 1 + word)[word] = PATTERN
    for at in range(max(begin, end), address + nbytes):
        u1(at, 1)[0] = PATTERN >> 8 * (at % 8) & 255


def first_changed(address, nbytes):
    """The first of these bytes that are not as `fill_pattern` has left them; -1 where all are."""
    begin, end = (address + 7) // 8 * 8, (address + nbytes) // 8 * 8
    if begin < end:
        changed = 0
        for word in range((end - begin) // 8):
            changed |= i8(begin, 1 + word)[word] ^ PATTERN
        if changed == 0:
            for at in range(address, begin):
                changed |= u1(at, 1)[0] ^ (PATTERN >> 8 * (at % 8) & 255)
            for at in range(end, address + nbytes):
                changed |= u1(at, 1)[0] ^ (PATTERN >> 8 * (at % 8) & 255)
        if changed == 0:
            return -1
    for i in range(nbytes):
        if u1(address + i, 1)[0] != PATTERN >> 8 * ((address + i) % 8) & 255:
            return i
    return -1


def note(h, what, row, address, nbytes, offset):
    """Note what has happened, for Python to tell: the first such thing only."""
    if h[H.fault]:
        return
    h[H.fault], h[H.fault_row], h[H.fault_nbytes], h[H.fault_offset] = what, row, nbytes, offset
    h[H.fault_slot] = -1
    slots = slots_at(h[H.slots], h[H.top])
    for slot in range(h[H.top] if address else 0):
        if slots[slot]["primal"] == address or slots[slot]["adjoint"] == address:
            h[H.fault_slot] = 2 * slot + (1 if slots[slot]["adjoint"] == address else 0)


def open_block(h, address, nbytes, size):
    """Guard a new block of a class of this size, and list it."""
    words = i8(address - 128, 4)
    fill_pattern(address - 48, 48)
    fill_pattern(address, min(size, _MOST_FILLED))
    fill_pattern(address + nbytes, size - nbytes)
    words[_NEXT], words[_PREVIOUS], words[_NBYTES], words[_STATE] = h[H.blocks], 0, nbytes, _IN_USE
    if h[H.blocks]:
        i8(h[H.blocks] - 128, 4)[_PREVIOUS] = address
    h[H.blocks] = address


def unlist(h, address):
    """Take a block off the list."""
    before, behind = i8(address - 128, 4)[_PREVIOUS], i8(address - 128, 4)[_NEXT]
    if before:
        i8(before - 128, 4)[_NEXT] = behind
    else:
        h[H.blocks] = behind
    if behind:
        i8(behind - 128, 4)[_PREVIOUS] = before


def close_block(h, address, size):
    """Check a block, take it off the list, and fill it; 0 where it was let go before."""
    words = i8(address - 128, 4)
    if words[_STATE] != _IN_USE:
        note(h, TWICE, h[H.at_row], address, words[_NBYTES], 0)
        return 0
    check_block(h, h[H.at_row], address, size)
    unlist(h, address)
    fill_pattern(address, min(size, _MOST_FILLED))
    words[_STATE] = _UNUSED
    return 1


def check_block(h, row, address, size):
    """Whether what is before and behind a block is as it was."""
    nbytes = i8(address - 128, 4)[_NBYTES]
    before, behind = first_changed(address - 48, 48), first_changed(address + nbytes, size - nbytes)
    if before >= 0:
        note(h, BEFORE, row, address, nbytes, before - 48)
    if behind >= 0:
        note(h, BEHIND, row, address, nbytes, behind)


def check_let_go(h, address, size):
    """Whether nobody has written to a block since it was let go."""
    changed = first_changed(address, min(size, _MOST_FILLED))
    if changed >= 0:
        note(h, LET_GO, h[H.at_row], 0, i8(address - 128, 4)[_NBYTES], changed)


def check_behind(h, what, row, address, nbytes):
    """Whether these bytes are still the pattern."""
    changed = first_changed(address, nbytes)
    if changed >= 0:
        note(h, what, row, 0, nbytes, changed)
