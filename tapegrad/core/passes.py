"""Passes over the steps of a program (`replaying.py`) that change no bit of what it computes. Compiled code.

Scalars have cells of eight bytes in the arena, which nothing but steps of scalars touches. These steps, `CALLED6`,
`CALLED8`, `COPIED`, `ADDED`, `FILLED`, `ONES` and `GUARD` of one element, are what is looked at:

    forward    oldest first: what is computed again, or copied, is read where it is already; what is computed of
               constants alone is marked, to be computed once
    backward   newest first: steps whose results nothing reads are marked
    compact    what is marked goes, and cells that are no longer needed are used again

No sum is taken in another order: adjoints are added as they were, one after another.

A place is eight bytes of the arena. Two steps compute the same where their kernels, modes and operands are the same,
and no step writes to these operands any more: `last` is the last that does. Cells are `free`, and so is other memory of
one element that is neither given nor a result: to be read elsewhere, to be left out, to be used again. Other places are
what they are.
"""

from __future__ import annotations

import numpy as np

from tapegrad.core.notes import ARENA, NOWHERE, STEP, TEXT
from tapegrad.core.observed import ADDED, CALLED6, CALLED8, COPIED, FILLED, ONES
from tapegrad.core.replaying import GUARD
from tapegrad.kernels.loops import FRESH
from tapegrad.memory import Record, array, i8, part, u1, word

A, B, C, Y, G, K = 4, 5, 6, 7, 8, 9  # words of a step that calls a kernel
# Laws of a kernel: its result is an operand, where the other is a number; or the adjoint, where it begins one.
NO_LAW, LEFT, RIGHT, EITHER, PASSED = 0, 1, 2, 3, 4
KEPT, FOLDED, LEFT_OUT = 0, 1, 2  # what becomes of a step


class Law(Record):
    """What is known of a kernel."""

    kernel = word()
    reads = word()  # which of `a`, `b`, `c`, `y` it reads, as bits
    law = word()
    number = word()  # the bits of the number, and which of them count
    mask = word()
    quiets = word()  # whether its result is no signalling nan, whatever it is given


_LAW = Law.nbytes


class Passes(Record):
    """What the passes look at, and what they find."""

    fixed = True
    steps = word()  # the address, and how many there are
    n_steps = word()
    bases = word()
    held = array(np.int64, "n_held")  # numbers behind the steps
    n_held = word()
    fates = array(np.uint8, "n_steps")
    laws = word()  # the address of laws, by their kernels' addresses in a table of open addressing
    mask = word()  # its length less one
    n_places = word()
    free = array(np.uint8, "n_places")
    constant = array(np.uint8, "n_places")  # it is the same at each call
    quiet = array(np.uint8, "n_places")  # it is the result of arithmetic, and no signalling nan
    last = array(np.int32, "n_places")  # the last step that writes to it, or -1; n_steps for what is not followed
    n_writes = array(np.int32, "n_places")
    source = array(np.int32, "n_places")  # where it is read instead, or -1
    live = array(np.uint8, "n_places")  # what is there is yet to be read
    until = array(np.int32, "n_places")  # the last step that reads or writes it, or -1
    cell = array(np.int32, "n_places")  # where it is after all
    spare = array(np.int32, "n_places")  # cells that may be used again: a stack
    n_spare = word()
    known = array(np.int32, "n_known")  # steps by what they compute, and 1: a table of open addressing
    n_known = word()


# --- steps ------------------------------------------------------------------------------------------------------------


def _target(what):
    """The word that has the address of what a step writes to; 0 where it is none, or not followed."""
    if what == CALLED6:
        return Y
    if what == CALLED8:
        return K
    return 1 if what == COPIED or what == ADDED or what == FILLED or what == ONES else 0


def _is_scalar(step):
    """Whether a step is one of scalars."""
    what = step[0]
    if what == CALLED6 or what == CALLED8:
        return step[2] == 1
    if what == COPIED:
        return step[3] <= 8
    if what == FILLED:
        return step[2] * step[4] <= 8
    if what == GUARD:
        return step[3] <= 8
    return what == ADDED or (what == ONES and step[2] == 1)


def _begins(step):
    """Whether what a step writes does not depend on what was there."""
    what = step[0]
    return what == CALLED6 or what == COPIED or what == FILLED or (what == CALLED8 and step[3] & FRESH != 0)


def _law(passes, kernel):
    """What is known of a kernel."""
    i = (kernel >> 4) & passes.mask
    law = Law(passes.laws + _LAW * i)
    while law.kernel != kernel:
        i = (i + 1) & passes.mask
        law = Law(passes.laws + _LAW * i)
    return law


def _reads(passes, step):
    """The words of a step that have addresses of what it reads, as bits, the target apart."""
    what = step[0]
    if what == COPIED or what == ADDED:
        return 1 << 2
    if what == GUARD:
        return 1 << 1
    if what == CALLED6:
        return (_law(passes, step[1]).reads & 7) << A
    if what == CALLED8:
        return _law(passes, step[1]).reads << A | 1 << G
    return 0


@part
def collect_kernels(steps, n_steps, kernels, mask):
    """Enter the kernels that steps call in a table of open addressing; how many, or -1 where they are too many."""
    n, table = 0, i8(kernels, mask + 1)
    for s in range(n_steps):
        step = i8(steps + 8 * STEP * s, STEP)
        if step[0] == CALLED6 or step[0] == CALLED8:
            i = (step[1] >> 4) & mask
            while table[i] != 0 and table[i] != step[1]:
                i = (i + 1) & mask
            if table[i] == 0:
                table[i] = step[1]
                n += 1
                if 2 * n > mask:
                    return -1
    return n


@part
def count_writes(passes: Passes):
    """Enter the last step that writes to each place, and how many do; as live, what steps have to do with.

    Places of what is not followed are not free.
    """
    for s in range(passes.n_steps):
        step, bases = i8(passes.steps + 8 * STEP * s, STEP), u1(passes.bases + STEP * s, STEP)
        is_scalar = _is_scalar(step)
        target = _target(step[0]) if is_scalar else 0
        for k in range(1, STEP):
            if bases[k] == ARENA:
                place = step[k] >> 3
                passes.live[place] = 1
                if not is_scalar or step[k] & 7:
                    passes.free[place] = 0
                    if step[0] != GUARD:  # it may be written to
                        passes.last[place] = passes.n_steps
                elif k == target:
                    passes.last[place] = max(passes.last[place], s)
                    passes.n_writes[place] += 1
    return 0


# --- forward ----------------------------------------------------------------------------------------------------------


@part
def pass_forward(passes: Passes):
    """Have steps read what is the same elsewhere, and mark those that are folded: how many are."""
    n_folded = 0
    for s in range(passes.n_steps):
        step, bases = i8(passes.steps + 8 * STEP * s, STEP), u1(passes.bases + STEP * s, STEP)
        if not _is_scalar(step):
            continue
        target = _target(step[0])
        is_constant, is_steady, reads = True, True, _reads(passes, step)
        for k in range(1, STEP):
            if reads >> k & 1 and bases[k] == ARENA:
                place = step[k] >> 3
                if step[k] & 7 == 0 and passes.source[place] >= 0:
                    place = passes.source[place]
                    step[k] = 8 * place
                is_constant = is_constant and step[k] & 7 == 0 and passes.constant[place] != 0
                is_steady = is_steady and passes.last[place] < s
            elif reads >> k & 1 and bases[k] != TEXT and step[k] != 0:
                is_constant, is_steady = False, False
        if bases[target] != ARENA or step[target] & 7:
            continue
        place = step[target] >> 3
        passes.source[place] = -1
        passes.quiet[place] = step[0] == CALLED6 and _law(passes, step[1]).quiets != 0
        if passes.free[place] == 0 or not _begins(step):
            continue
        if is_constant and passes.n_writes[place] == 1 and step[0] != CALLED8:
            passes.fates[s], passes.constant[place] = FOLDED, 1
            n_folded += 1
        if is_steady and step[0] != FILLED:
            passes.source[place] = _same(passes, s, step, bases)
    return n_folded


def _same(passes, s, step, bases):
    """The place that has what a step computes, and keeps it; -1 where there is none."""
    if step[0] == COPIED:
        return step[2] >> 3 if bases[2] == ARENA and step[2] & 7 == 0 else -1
    law = _law(passes, step[1])
    if step[0] == CALLED8:
        return step[G] >> 3 if law.law == PASSED and bases[G] == ARENA and step[G] & 7 == 0 else -1
    place = -1
    if law.law == LEFT or law.law == EITHER:
        place = _other(passes, law, step, bases, A, B)
    if law.law == EITHER and place < 0:
        place = _other(passes, law, step, bases, B, A)
    if place >= 0:
        return place
    i = _hash(passes, step, bases) & (passes.n_known - 1)
    while passes.known[i] != 0:
        other = passes.known[i] - 1
        known, of_known = i8(passes.steps + 8 * STEP * other, STEP), u1(passes.bases + STEP * other, STEP)
        if _agree(passes, step, bases, known, of_known):
            return known[Y] >> 3 if passes.last[known[Y] >> 3] == other else -1
        i = (i + 1) & (passes.n_known - 1)
    passes.known[i] = s + 1
    return -1


def _other(passes, law, step, bases, k, of_number):
    """The place of the operand `k`, which the result is, as the other is the number of the law; else -1."""
    if bases[of_number] != TEXT or (passes.held[step[of_number] >> 3] ^ law.number) & law.mask != 0:
        return -1
    is_quiet = bases[k] == ARENA and step[k] & 7 == 0 and passes.quiet[step[k] >> 3] != 0
    return step[k] >> 3 if is_quiet else -1


def _bits(passes, word, base):
    """An operand by its place, or its bits."""
    return passes.held[word >> 3] if base == TEXT else word


def _hash(passes, step, bases):
    h = step[1] ^ step[3]
    for k in range(A, Y):
        bits = _bits(passes, step[k], bases[k])
        h = ((h ^ bits ^ (bits >> 31)) & 0x7FFFFFFF) * 0x5851F42D
        h ^= h >> 17
    return h


def _agree(passes, step, bases, known, of_known):
    """Whether two steps compute the same."""
    if step[1] != known[1] or step[3] != known[3]:
        return False
    for k in range(A, Y):
        if bases[k] != of_known[k] or _bits(passes, step[k], bases[k]) != _bits(passes, known[k], of_known[k]):
            return False
    return True


# --- backward ---------------------------------------------------------------------------------------------------------


@part
def pass_backward(passes: Passes):
    """Mark steps whose results nothing reads; enter the last step that has to do with each place."""
    for s in range(passes.n_steps - 1, -1, -1):
        step, bases = i8(passes.steps + 8 * STEP * s, STEP), u1(passes.bases + STEP * s, STEP)
        if passes.fates[s] != KEPT or not _is_scalar(step):
            continue
        target, begins = _target(step[0]), _begins(step)
        place = _free(passes, step[target], bases[target])
        if place >= 0:
            if passes.live[place] == 0:
                passes.fates[s] = LEFT_OUT
                continue
            passes.live[place] = not begins
            passes.until[place] = max(passes.until[place], s)
        reads = _reads(passes, step)
        for k in range(1, STEP):
            if reads >> k & 1:
                place = _free(passes, step[k], bases[k])
                if place >= 0:
                    passes.live[place] = 1
                    passes.until[place] = max(passes.until[place], s)
    return 0


def _free(passes, word, base):
    """The place of an operand that is a cell to be used as one likes; -1 for others."""
    return word >> 3 if base == ARENA and word & 7 == 0 and passes.free[word >> 3] != 0 else -1


# --- what is left -----------------------------------------------------------------------------------------------------


@part
def compact(passes: Passes):
    """Put the steps that are left one behind another, and their cells where others were; how many there are."""
    n = 0
    for s in range(passes.n_steps):
        if passes.fates[s] != KEPT:
            continue
        step, bases = i8(passes.steps + 8 * STEP * s, STEP), u1(passes.bases + STEP * s, STEP)
        if _is_scalar(step):
            _place_again(passes, s, step, bases)
        to, of_to = i8(passes.steps + 8 * STEP * n, STEP), u1(passes.bases + STEP * n, STEP)
        for k in range(STEP):
            to[k], of_to[k] = step[k], bases[k]
        n += 1
    return n


def _place_again(passes, s, step, bases):
    """Give a step other cells: that of its result first, which is none of an operand; what it does not read, none."""
    target, reads = _target(step[0]), _reads(passes, step)
    result = _free(passes, step[target], bases[target])
    if result >= 0:
        step[target] = 8 * _cell(passes, result)
    for k in range(1, STEP):
        if k == target or bases[k] != ARENA:
            continue
        if reads >> k & 1 == 0:
            step[k], bases[k] = 0, NOWHERE
            continue
        place = _free(passes, step[k], bases[k])
        if place >= 0:
            step[k] = 8 * _cell(passes, place)
            if place != result:
                _give_back(passes, place, s)
    if result >= 0:
        _give_back(passes, result, s)


def _cell(passes, place):
    """The cell of a place, which it is given where it is first met."""
    if passes.cell[place] < 0:
        passes.n_spare -= 1
        passes.cell[place] = passes.spare[passes.n_spare]
    return int(passes.cell[place])


def _give_back(passes, place, s):
    """Let others have a cell after the last step that needs it."""
    if passes.until[place] == s:
        passes.until[place] = -1
        passes.spare[passes.n_spare] = passes.cell[place]
        passes.n_spare += 1
