"""Notes of what was done with scalars (`observed.py`) become steps of a program (`replaying.py`). Compiled code.

A place of `values` or of `bars` is a cell in the arena of the program, of eight bytes; each time that it begins anew,
another one, so that what was in it can be read later (`passes.py`). Of each word of a step is said what it is an offset
from, in a byte.
"""

from __future__ import annotations

import numpy as np

from tapegrad.core.observed import ADDED, CALLED6, CALLED8, COPIED, FILLED, NOTE
from tapegrad.kernels.loops import FRESH
from tapegrad.memory import Record, array, i8, part, u1, word

STEP = 12  # words
NOWHERE, ARENA, TEXT, TABLES, SCRATCH = 255, 0, 1, 2, 3  # what a word is an offset from


class Notes(Record):
    """What is read, and what is written."""

    fixed = True
    notes = word()  # the address, and how many there are
    n_notes = word()
    n_read = word()
    steps = word()  # addresses, of steps and of what their words are offsets from
    bases = word()
    n_steps = word()
    held = array(np.int64, "n_notes")  # immediates, which go behind the steps of the program,
    n_held = word()
    begin = word()  # behind so many words
    values = word()  # addresses, and of how many slots
    bars = word()
    n_slots = word()
    value_cells = array(np.int64, "n_slots")  # offsets in the arena, now; or -1
    bar_cells = array(np.int64, "n_slots")
    size = word()  # of the arena
    ranges = word()  # other memory that has its place in the arena, by addresses: these, bytes, and offsets
    n_ranges = word()
    rows = word()
    row_bytes = word()
    scratch = word()


@part
def read_notes(notes: Notes):
    """Write steps until all notes are read: 0; or until one has an address of which more must be known: 1."""
    while notes.n_read < notes.n_notes:
        note = i8(notes.notes + 8 * NOTE * notes.n_read, NOTE)
        step = i8(notes.steps + 8 * STEP * notes.n_steps, STEP)
        bases = u1(notes.bases + STEP * notes.n_steps, STEP)
        for k in range(STEP):
            step[k], bases[k] = note[k] if k < NOTE - 1 else 0, NOWHERE
        what = note[0]
        first, last, held, begun = 1, 2, 0, 1 if what == COPIED or what == FILLED else 0
        if what == CALLED6:
            first, last, begun = 4, 8, 7
        elif what == CALLED8:
            first, last, begun = 4, 10, 9 if note[3] & FRESH != 0 else 0
        elif what == COPIED or what == ADDED:
            last = 3
        for k in range(first, last):
            if note[k] != 0:
                offset = _cell(notes, note[k], k == begun)
                if offset < 0:
                    offset = _placed(notes, note[k])
                step[k], bases[k] = offset, ARENA
                if offset < 0:
                    if what != CALLED6 and what != CALLED8:
                        return 1
                    if not _is_immediate(notes, note[k]):
                        return 1
                    step[k], bases[k] = 8 * (notes.begin + notes.n_held), TEXT
                    held = 1
        if held:
            notes.held[notes.n_held] = note[NOTE - 1]
            notes.n_held += 1
        notes.n_steps += 1
        notes.n_read += 1
    return 0


@part
def find_addresses(words, bases, n, behind, places, found):
    """Enter where of `n` words addresses are, and what they are offsets from; the text's begin so many bytes on."""
    text, of, k = i8(words, n), u1(bases, n), 0
    for i in range(n):
        if of[i] != NOWHERE:
            if of[i] == TEXT:
                text[i] += behind
            i8(places, k + 1)[k], i8(found, k + 1)[k] = i, of[i]
            k += 1
    return k


def _cell(notes, address, begins):
    """The offset of the cell for an address, a new one where it begins; -1 if it is no place of `values` or `bars`."""
    slot, of_bars = (address - notes.values) >> 3, 0
    if slot < 0 or slot >= notes.n_slots:
        slot, of_bars = (address - notes.bars) >> 3, 1
        if slot < 0 or slot >= notes.n_slots:
            return -1
    offset = notes.bar_cells[slot] if of_bars else notes.value_cells[slot]
    if offset < 0 or begins:
        offset = notes.size
        notes.size = offset + 8
        if of_bars:
            notes.bar_cells[slot] = offset
        else:
            notes.value_cells[slot] = offset
    return offset


def _placed(notes, address):
    """The offset of other memory; -1 where it has none."""
    low, high = 0, notes.n_ranges
    while low < high:
        middle = (low + high) // 2
        if i8(notes.ranges + 24 * middle, 3)[0] <= address:
            low = middle + 1
        else:
            high = middle
    known = i8(notes.ranges + 24 * (low - 1), 3)
    if low == 0 or address >= known[0] + known[1]:
        return -1
    return known[2] + address - known[0]


def _is_immediate(notes, address):
    """Whether an operand is the immediate of a row: it is read there, or in scratch memory."""
    return 0 <= address - notes.rows < notes.row_bytes or address == notes.scratch
