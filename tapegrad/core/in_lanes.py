"""Programs in lanes: the same program for many rows of arguments, each of which is a lane. Compiled code.

The text of a program in lanes is that of a program (`replaying.py`), written anew by `tapegrad/replay/lowered.py`: each
element has as many lanes as a block, side by side, so what a kernel did to n elements it does to n times as many. Its
addresses are offsets in an arena. Behind what has lanes lies what is the same for all, as in the program itself. What
kernels may not do side by side without other bits, to sum, is done lane by lane.

Besides the steps that are told of sweeps there are

    SPREAD   elements that are the same for all, brought to all lanes: target, source, n, step, bytes of one
    GUARD    elements of which each lane is to have the bits at an address: elements, bits, n, bytes of one, a number
    MERGE    elements merged into the states of each lane, as a SCATTER does
    RESULT   states made results, lane by lane
    REDUCE   rows of elements reduced, lane by lane
    WHOLE    an array kernel called, lane by lane
    CODED    machine code of several, called for so many lanes at a time: code, times, bytes from lanes to lanes

A chunk is so many rows that are worth a thread; it has an arena of its own, and runs block by block. A lane in which a
guard does not hold goes on like the others, but is noted: what it computes is left to another program.
"""

import numpy as np

from tapegrad.core.observed import ADDED, CALLED6, CALLED8, COPIED, FILLED, ONES
from tapegrad.core.registers import copy, copy_element, fill
from tapegrad.core.notes import STEP
from tapegrad.core.replaying import CONTEXT, END, GUARD
from tapegrad.core.rows import OK
from tapegrad.core.sweeps import add_ones
from tapegrad.core.tables import WORK_BYTES
from tapegrad.core.walks import scatter
from tapegrad.core.workers import share
from tapegrad.kernels import SETTLE, Context
from tapegrad.memory import (
    Record,
    address_of_part,
    array,
    call1,
    call4,
    call5,
    call6,
    call8,
    f4,
    f8,
    i4,
    i8,
    part,
    u1,
    u2,
    word,
)  # fmt: skip
from tapegrad.ops.declare import TILE
from tapegrad.tape import Header

SPREAD, MERGE, RESULT, REDUCE, WHOLE, CODED = 30, 31, 32, 33, 34, 35
FAILED_THERE = -1  # in the place of the number of a guard: a kernel can't compute its value


class Carried(Record):
    """Elements that are brought in, or out: those of a row of the caller's lie one behind the other."""

    offset = word()  # in the arena
    address = word()  # the caller's
    stride = word()  # bytes from row to row
    n = word()
    size = word()


class Operand(Record):
    """An operand, or the result, of an array kernel: elements of a lane."""

    place = word()  # the place of its address in the context
    offset = word()
    n = word()
    size = word()
    varies = word()  # 0 for what is the same for all lanes
    writes = word()  # 1 for the result


_OPERAND_BYTES = Operand.nbytes


class Batch(Record):
    """Rows that a program is to be run for."""

    n_rows = word()
    block = word()  # lanes
    a_chunk = word()  # rows
    arenas = word()
    arena_bytes = word()
    text = word()
    n_inputs = word()
    n_outputs = word()
    inputs = array("Carried", "n_inputs")
    outputs = array("Carried", "n_outputs")
    rows = array(np.int64, "n_rows")  # their numbers among the caller's
    # Of each row of the caller's: 0; the number of the first guard that did not hold, and 1; or FAILED_THERE.
    missed = word()
    has_missed = word()  # 1 if there is one
    found = word()  # and what was found
    found_bytes = word()


@part
def run_batch(tape: Header, address, cost):
    """Run a program for the rows of a batch, on as many threads as there are."""
    batch = Batch(address)
    tape.program.pieces.kernel = address
    n_chunks = (batch.n_rows + batch.a_chunk - 1) // batch.a_chunk
    share(tape, address_of_part(run_lanes), 0, n_chunks, cost)
    return OK


@part
def run_lanes(tape: Header, index, scratch):
    """Run a program for the rows of a chunk, block by block."""
    batch = Batch(tape.program.pieces.kernel)
    arena, block = batch.arenas + index * batch.arena_bytes, batch.block
    first = index * batch.a_chunk
    stop = min(first + batch.a_chunk, batch.n_rows)
    while first < stop:
        n, rows = min(block, stop - first), batch.rows_at + 8 * first
        for i in range(batch.n_inputs):
            _bring_in(batch.inputs[i], rows, n, block, arena)
        run_lane_steps(batch, arena, rows, n, scratch)
        for i in range(batch.n_outputs):
            _bring_out(batch.outputs[i], rows, n, block, arena)
        first += n
    return OK


def _follow_one_another(rows, n):
    """Whether rows, which ascend, are without a gap."""
    return i8(rows, n)[n - 1] - i8(rows, n)[0] == n - 1


def _bring_in(carried, rows, n, block, arena):
    """Bring the elements of so many rows to as many lanes; lanes that are left have those of the last row."""
    target, size, stride = arena + carried.offset, carried.size, carried.stride
    first = carried.address + i8(rows, n)[0] * stride
    if _follow_one_another(rows, n):
        if stride == size:
            copy(target, first, n * size)
        elif size == 8:
            for e in range(carried.n):
                to, of = f8(target + e * block * 8, block), first + e * 8
                for lane in range(n):
                    to[lane] = f8(of + lane * stride, 1)[0]
        else:
            for e in range(carried.n):
                for lane in range(n):
                    copy_element(target + (e * block + lane) * size, first + lane * stride + e * size, size)
    else:
        for e in range(carried.n):
            for lane in range(n):
                source = carried.address + i8(rows, n)[lane] * stride + e * size
                copy_element(target + (e * block + lane) * size, source, size)
    for e in range(carried.n):
        last = target + (e * block + n - 1) * size
        for lane in range(n, block):
            copy_element(target + (e * block + lane) * size, last, size)


def _bring_out(carried, rows, n, block, arena):
    """Bring elements of lanes to the caller's rows."""
    source, size = arena + carried.offset, carried.size
    if carried.stride == size and _follow_one_another(rows, n):
        copy(carried.address + i8(rows, n)[0] * size, source, n * size)
    else:
        for lane in range(n):
            target = carried.address + i8(rows, n)[lane] * carried.stride
            for e in range(carried.n):
                copy_element(target + e * size, source + (e * block + lane) * size, size)


@part
def run_lane_steps(batch: Batch, arena, rows, n, scratch):
    """Run the steps for a block, in which `n` lanes count."""
    at, more = batch.text, True
    while more:
        step = i8(at, STEP)
        what = step[0]
        if what == CALLED8:
            call8(
                step[1], step[2], step[3], arena + step[4], arena + step[5], arena + step[6], arena + step[7],
                arena + step[8], arena + step[9],
            )  # fmt: skip
        elif what == CALLED6:
            call6(step[1], step[2], step[3], arena + step[4], arena + step[5], arena + step[6], arena + step[7])
        elif what == FILLED:
            fill(arena + step[1], step[2], step[3], step[4])
        elif what == COPIED:
            copy(arena + step[1], arena + step[2], step[3])
        elif what == CODED:
            for i in range(step[2]):
                call4(step[1], arena + i * step[3], arena, 0, 0)
        elif what == END:
            more = False
        else:
            run_other_lane_step(batch, at, arena, rows, n, scratch)
        at += 8 * STEP
    return OK


@part
def run_other_lane_step(batch: Batch, at, arena, rows, n, scratch):
    """Run a step that is not among the most frequent."""
    step, block = i8(at, STEP), batch.block
    what = step[0]
    if what == ADDED:
        _add(arena + step[1], arena + step[2], step[3], step[4])
    elif what == ONES:
        add_ones(arena + step[1], step[2], step[3])
    elif what == SPREAD:
        for e in range(step[3]):
            _spread(arena + step[1] + e * block * step[5], arena + step[2] + e * step[4], block, step[5])
    elif what == GUARD:
        _look(batch, arena + step[1], arena + step[2], step[3], step[4], step[5], rows, n)
    elif what == MERGE:
        # walk, source, first, n, bytes of one, states, their numbers, bytes of a number, of a lane's (0: of elements)
        m, size, own = step[4], step[5], step[9]
        for lane in range(block):
            states, source = arena + step[6] + lane * own, arena + step[2] + lane * size
            _bring_together(scratch, source, m, block, size)
            if own == 0:
                states = scratch + 8 * m
                _bring_together(states, arena + step[6] + lane * step[8], step[7], block, step[8])
            scatter(arena + step[1], scratch, states, step[3], m, size, step[8], step[7], step[10])
            if own == 0:
                _bring_apart(states, arena + step[6] + lane * step[8], step[7], block, step[8])
    elif what == RESULT:
        # kernel, whether it finishes, states of a lane, their bytes, their place, terms, target, bytes of a result
        m, size = step[3], step[8]
        if step[4] == 0:  # states are where results go
            call4(step[1], m * block, arena + step[5], step[6], arena + step[7])
        for lane in range(block if step[4] else 0):
            states, target = arena + step[5] + lane * step[4], arena + step[7] + lane * size
            if step[2]:
                call4(step[1], m, states, step[6], scratch)
            else:
                _bring_together(scratch, target, m, block, size)
                call6(step[1], m, 1, states, scratch, m, SETTLE)
            _bring_apart(scratch, target, m, block, size)
    elif what == REDUCE:
        # kernel, rows, elements of one, source, bytes of one, target, of one, whether it adds to what is there
        m, size = step[3], step[5]
        for row in range(step[2]):
            source = arena + step[4] + row * m * block * size
            for lane in range(block):
                _bring_together(scratch + lane * m * size, source + lane * size, m, block, size)
            call5(step[1], block, m, scratch, arena + step[6] + row * block * step[7], step[8])
    elif what == WHOLE:
        for lane in range(block):
            failed = _call_whole(
                step[1], arena + step[2], step[3], arena + step[4], step[5], arena, lane, block, scratch
            )
            if failed and lane < n:
                missed = i8(batch.missed + 8 * i8(rows, n)[lane], 1)
                missed[0] = FAILED_THERE if missed[0] == 0 else missed[0]
                batch.has_missed = 1
    return OK


def _call_whole(kernel, context_at, memory_bytes, operands, n_operands, arena, lane, block, scratch):
    """Call an array kernel for a lane; whether it has failed."""
    at = scratch + 8 * CONTEXT
    copy(scratch, context_at, 8 * CONTEXT)
    context = Context(scratch)
    if context.n_params:
        context.params_at = arena + context.params_at
    context.work, context.tile = at, at + WORK_BYTES
    at += WORK_BYTES + 8 * TILE
    context.memory = at
    context.sums = at + memory_bytes
    fill(context.sums, context.n_sums, 0, 8)
    at += memory_bytes + 8 * context.n_sums
    for i in range(n_operands):
        of = Operand(operands + i * _OPERAND_BYTES)
        if of.varies:
            i8(scratch, CONTEXT)[of.place] = at
            _bring_together(at, arena + of.offset + lane * of.size, of.n, block, of.size)
            at += (of.n * of.size + 63) // 64 * 64
        else:
            i8(scratch, CONTEXT)[of.place] = arena + of.offset
    call1(kernel, scratch)
    for i in range(n_operands):
        of = Operand(operands + i * _OPERAND_BYTES)
        if of.writes:
            _bring_apart(i8(scratch, CONTEXT)[of.place], arena + of.offset + lane * of.size, of.n, block, of.size)
    return context.failed_batch != 0


def _add(target, source, n, code):
    """Add floats to others."""
    if code == 4:
        to, of = f8(target, n), f8(source, n)
        for i in range(n):
            to[i] = to[i] + of[i]
    else:
        to4, of4 = f4(target, n), f4(source, n)
        for i in range(n):
            to4[i] = to4[i] + of4[i]


def _spread(target, source, n, size):
    """Fill `n` lanes with an element."""
    if size == 8:
        fill(target, n, i8(source, 1)[0], 8)
    elif size == 4:
        fill(target, n, i4(source, 1)[0], 4)
    elif size == 2:
        fill(target, n, u2(source, 1)[0], 2)
    else:
        fill(target, n, u1(source, 1)[0], 1)


def _bring_together(target, source, n, block, size):
    """Elements of a lane, one behind the other."""
    for e in range(n):
        copy_element(target + e * size, source + e * block * size, size)


def _bring_apart(source, target, n, block, size):
    """Elements of a lane, where the others have theirs."""
    for e in range(n):
        copy_element(target + e * block * size, source + e * size, size)


def _look(batch, at, expected, m, size, number, rows, n):
    """Note the lanes whose bits are others than is expected."""
    for lane in range(n):
        differing = 0
        for e in range(m):
            here, want = at + (e * batch.block + lane) * size, expected + e * size
            if size == 8:
                differing |= i8(here, 1)[0] ^ i8(want, 1)[0]
            else:
                for k in range(size):
                    differing |= u1(here + k, 1)[0] ^ u1(want + k, 1)[0]
        if differing:
            row = i8(rows, n)[lane]
            missed = i8(batch.missed + 8 * row, 1)
            batch.has_missed = 1
            if missed[0] == 0:
                missed[0] = number + 1
                _bring_together(batch.found + row * batch.found_bytes, at + lane * size, m, batch.block, size)
