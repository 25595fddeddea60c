"""Programs that are kept: what an observer was told of sweeps, done again. Compiled code.

A program is a text of int64: steps of twelve words, one after another, then what they refer to (walks, contexts of
array rows, images of regions, the bits that guards expect). A step is what was told (`observed.py`), and its numbers;
or one of

    GUARD    the bits at an address are those at another: address, address, bytes, a number
    END      the last
    MACHINE  all steps, as machine code: its address; of the arena, the frame, the tape, the text (replay/machine/)

An image of a region is what of the tables `run_chunk` and `settle` read, one table behind another:

    words before the tables | registers | code | setup | constants | ahead | walks

Behind the tables that replays have for their own stands the address of the image that was loaded last.

The text is copied and its addresses are made true once for each thread; then it is only read.
"""

from tapegrad.core.blocks import run_chunk, run_pieces, settle
from tapegrad.core.notes import STEP
from tapegrad.core.observed import (
    ADDED,
    ALONE,
    BOUND,
    CALLED6,
    CALLED8,
    COPIED,
    FILLED,
    GIVEN,
    IN_PIECES,
    MERGED,
    ONES,
    PUT_BACK,
    SETTLED,
)  # fmt: skip
from tapegrad.core.programs import drop_large_partials, hold_partials
from tapegrad.core.registers import copy, fill
from tapegrad.core.rows import FAILED, NO_MEMORY, OK
from tapegrad.core.scalars import add_element
from tapegrad.core.sweeps import add_given, add_ones, run_alone
from tapegrad.core.tables import Instruction, Pieces, Program, Register
from tapegrad.core.walks import put, scatter
from tapegrad.core.workers import share
from tapegrad.kernels import SETTLE, Context
from tapegrad.memory import address_of_part, call6, call8, i8, part, part5, u1
from tapegrad.tape import TABLES, Header

GUARD, END, MACHINE = 20, 21, 22
HEAD = Program.fields["registers"][0] // 8  # words of a program before its tables
REGISTER, CODE = Register.nbytes // 8, Instruction.nbytes // 8
CONTEXT, PIECES = Context.nbytes // 8, Pieces.nbytes // 8
MISSED = 64  # added to the number of a guard


@part
def replay(tape: Header, text, tables):
    """Run a program. OK; NO_MEMORY, FAILED; or MISSED + the number of the guard that did not hold."""
    before, step = _exchange(tape, tables), i8(text, STEP)
    is_machine = step[0] == MACHINE
    status = part5(step[1], step[2], step[3], step[4], step[5], 0) if is_machine else run_steps(tape, text)
    _exchange(tape, before)
    drop_large_partials(tape)
    return status


def _exchange(tape, tables):
    """Have other tables; what was there before."""
    before = tape.program_at
    tape.program_at = tables
    return before


@part
def run_steps(tape: Header, text):
    """Run steps until the last, or one that fails."""
    at, status = text, OK
    while status == OK:
        step = i8(at, STEP)
        what = step[0]
        if what == BOUND:
            status = run_region(tape, step[1])
        elif what == CALLED6:
            call6(step[1], step[2], step[3], step[4], step[5], step[6], step[7])
        elif what == CALLED8:
            call8(step[1], step[2], step[3], step[4], step[5], step[6], step[7], step[8], step[9])
        elif what == GUARD:
            if differ(step[1], step[2], step[3]):
                status = MISSED + step[4]
        elif what == END:
            break
        else:
            status = run_other_step(tape, at)
        at += 8 * STEP
    return status


@part
def run_other_step(tape: Header, at):
    """Run a step that is no call of a kernel."""
    step = i8(at, STEP)
    what, status = step[0], OK
    if what == FILLED:
        fill(step[1], step[2], step[3], step[4])
    elif what == COPIED:
        copy(step[1], step[2], step[3])
    elif what == ALONE or what == IN_PIECES:
        copy(tape.program.context_at, step[8], 8 * CONTEXT)
        if what == ALONE:
            status = run_alone(tape, step[1], step[2])
        else:
            copy(tape.program.pieces_at, step[9], 8 * PIECES)
            status = run_pieces(tape, step[1], step[2], step[3], step[4], step[5], step[6], step[7])
    elif what == SETTLED:
        call6(step[1], step[2], 1, step[3], step[4], step[2], SETTLE)
    elif what == ADDED:
        add_element(step[1], step[2], step[3])
    elif what == ONES:
        add_ones(step[1], step[2], step[3])
    elif what == GIVEN:
        add_given(tape, step[1], step[2], step[3], step[4], step[5])
    elif what == PUT_BACK:
        put(step[1], step[2], step[3], 0, step[4], step[5])
    elif what == MERGED:
        scatter(step[1], step[2], step[3], 0, step[4], step[5], step[6], step[7], step[8])
    else:
        status = FAILED
    return status


@part
def run_region(tape: Header, image):
    """Load the tables of a region, unless they are there from the last replay, and sweep it."""
    program, loaded = tape.program, i8(tape.program_at + 8 * TABLES, 1)
    if loaded[0] != image:
        copy(tape.program_at, image, 8 * HEAD)
        at = image + 8 * HEAD
        at = _load(program.registers_at, at, program.n_registers * REGISTER)
        at = _load(program.code_at, at, program.n_code * CODE)
        at = _load(program.setup_at, at, program.n_setup * CODE)
        at = _load(program.constants_at, at, program.n_constants)
        at = _load(program.ahead_at, at, program.n_ahead)
        _load(program.walks_at, at, program.walk_words)
        loaded[0] = image
    if not hold_partials(tape, program.shared_bytes + program.partial_bytes * program.n_chunks):
        return NO_MEMORY
    if program.n_chunks == 1:
        run_chunk(tape, 0, tape.scratch)
    else:
        work = program.n_chunks * program.chunk * program.inner * (1 + program.n_code)
        share(tape, address_of_part(run_chunk), 0, program.n_chunks, work)
    settle(tape)
    return OK


def _load(target, source, words):
    """Copy words; the address behind them."""
    to, of = i8(target, words), i8(source, words)
    for i in range(words):
        to[i] = of[i]
    return source + 8 * words


def differ(p, q, nbytes):
    """Whether bytes differ."""
    words, found = nbytes // 8, 0
    for i in range(words):
        found |= i8(p, words)[i] ^ i8(q, words)[i]
    for i in range(8 * words, nbytes):
        found |= u1(p, nbytes)[i] ^ u1(q, nbytes)[i]
    return found != 0
