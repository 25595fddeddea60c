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
      | next | previous | nbytes | state | raw | class | written, | elements      | pattern    |
      |      |          |        |       |     |       | pattern  |               |            |
      +------+----------+--------+-------+-----+-------+----------+---------------+------------+

`MEMORY` is a constant to compiled code: where the mode is off, what it asks for is left out when code is compiled.
"""

import numpy as np

from tapegrad.debug import MEMORY
from tapegrad.memory import Record, i8, inside, u1, word

PATTERN = 0x7FF4DEAD7FA0BEEF
GUARD = 64  # bytes of the pattern behind what is guarded, at least
GAP = GUARD if MEMORY else 0  # between registers, and between sums
BEFORE_WORDS = 3  # of the pattern
_BEFORE = 8 * BEFORE_WORDS
MOST_LET_GO = 1 << 20  # bytes of blocks let go that are kept
_MOST_FILLED = 1 << 28  # bytes of a block that is filled: more would touch memory that nobody asked for
_IN_USE, _UNUSED = 0x11FE, 0x60AE
# What has happened.
BEFORE, BEHIND, LET_GO, TWICE, BEHIND_REGISTER, BEHIND_SUM, BEHIND_WORK, TABLE_FULL = range(1, 9)


class Block(Record):
    """What is before the elements of a block: in the mode, all of it; else what comes last."""

    next = word()  # the addresses of blocks in use, or of those let go
    previous = word()
    asked = word()  # bytes
    state = word()
    unused = inside(np.int64, 4)
    raw = word()  # what the allocator gave
    size_class = word()
    written_from = word()  # of an adjoint that is begun in parts: the bytes that are, of so many; see `adjoints.py`
    written_to = word()
    whole = word()
    pattern = inside(np.int64, BEFORE_WORDS)


def block_of(address):
    """The block whose elements begin at an address."""
    return Block(address - 128)


def fill_pattern(address, nbytes):
    """Fill bytes with the pattern, which begins at each multiple of eight."""
    for i in range(min(-address % 8, nbytes)):
        u1(address, nbytes)[i] = PATTERN >> 8 * ((address + i) % 8) & 255
    begin, end = (address + 7) // 8 * 8, (address + nbytes) // 8 * 8
    for i in range((end - begin) // 8):
        i8(begin, 1 + i)[i] = PATTERN
    for at in range(max(begin, end), address + nbytes):
        u1(at, 1)[0] = PATTERN >> 8 * (at % 8) & 255


def first_changed(address, nbytes):
    """The first of these bytes that are not as `fill_pattern` has left them; -1 where all are."""
    begin, end = (address + 7) // 8 * 8, (address + nbytes) // 8 * 8
    if begin < end:
        changed = 0
        for i in range((end - begin) // 8):
            changed |= i8(begin, 1 + i)[i] ^ PATTERN
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


def note(tape, what, row, address, nbytes, offset):
    """Note what has happened, for Python to tell: the first such thing only."""
    guarded, slots = tape.guarded, tape.slots
    if guarded.fault:
        return
    guarded.fault, guarded.fault_row, guarded.fault_nbytes, guarded.fault_offset = what, row, nbytes, offset
    guarded.fault_slot = -1
    for slot in range(tape.top if address else 0):
        if slots[slot].primal == address or slots[slot].adjoint == address:
            guarded.fault_slot = 2 * slot + (1 if slots[slot].adjoint == address else 0)


def open_block(tape, address, nbytes, size):
    """Guard a new block of a class of this size, and list it."""
    block, guarded = block_of(address), tape.guarded
    fill_pattern(address - _BEFORE, _BEFORE)
    fill_pattern(address, min(size, _MOST_FILLED))
    fill_pattern(address + nbytes, size - nbytes)
    block.next, block.previous, block.asked, block.state = guarded.blocks, 0, nbytes, _IN_USE
    if guarded.blocks:
        block_of(guarded.blocks).previous = address
    guarded.blocks = address


def unlist(tape, address):
    """Take a block off the list."""
    before, behind = block_of(address).previous, block_of(address).next
    if before:
        block_of(before).next = behind
    else:
        tape.guarded.blocks = behind
    if behind:
        block_of(behind).previous = before


def close_block(tape, address, size):
    """Check a block, take it off the list, and fill it; 0 where it was let go before."""
    block = block_of(address)
    if block.state != _IN_USE:
        note(tape, TWICE, tape.guarded.at_row, address, block.asked, 0)
        return 0
    check_block(tape, tape.guarded.at_row, address, size)
    unlist(tape, address)
    fill_pattern(address, min(size, _MOST_FILLED))
    block.state = _UNUSED
    return 1


def check_block(tape, row, address, size):
    """Whether what is before and behind a block is as it was."""
    nbytes = block_of(address).asked
    before = first_changed(address - _BEFORE, _BEFORE)
    behind = first_changed(address + nbytes, size - nbytes)
    if before >= 0:
        note(tape, BEFORE, row, address, nbytes, before - _BEFORE)
    if behind >= 0:
        note(tape, BEHIND, row, address, nbytes, behind)


def check_let_go(tape, address, size):
    """Whether nobody has written to a block since it was let go."""
    changed = first_changed(address, min(size, _MOST_FILLED))
    if changed >= 0:
        note(tape, LET_GO, tape.guarded.at_row, 0, block_of(address).asked, changed)


def check_behind(tape, what, row, address, nbytes):
    """Whether these bytes are still the pattern."""
    changed = first_changed(address, nbytes)
    if changed >= 0:
        note(tape, what, row, 0, nbytes, changed)
