"""Blocks: runs the program that was made of a region, and shares its chunks out to threads.

A block is so many rows of the region that its registers fit in the cache; a chunk is so many rows that are worth a
thread. Chunks may run in any order and on any thread: each has scratch memory of its thread, and what several chunks
add to is joined at the end, in the order of the chunks.

Array rows are shared out likewise, in pieces of their own units: see the end.
"""

from tapegrad.core.adjoints import show
from tapegrad.core.guards import BEHIND_REGISTER, BEHIND_SUM, GAP, check_behind, fill_pattern
from tapegrad.core.observed import BOUND, tell
from tapegrad.core.programs import (
    MOST_CHUNKS,
    MOST_PARTIAL_BYTES,
    all_places_bytes,
    begin_states,
    bind,
    drop_large_partials,
    hold_partials,
    place_bytes,
)  # fmt: skip
from tapegrad.core.readers import count_down
from tapegrad.core.registers import fill, sum_kernels
from tapegrad.core.rows import MORE, MORE_WORKERS, NO_MEMORY, OK, is_evaluated
from tapegrad.core.storage import check_guards_of, give_back, obtain
from tapegrad.core.tables import (
    BACK,
    FORWARD,
    GATHER,
    NARROW,
    PUT,
    REDUCE,
    REVERSE,
    SCATTER,
    SINGLE,
    SPREAD,
    STREAM,
    SWEEP_VALUES,
    VECTOR,
    WIDE,
    ZERO,
    Instruction,
    Program,
)  # fmt: skip
from tapegrad.core.walks import copy1, copy2, copy4, copy8, gather, put, scatter
from tapegrad.core.workers import WORTH_WAKING, Crew, share
from tapegrad.debug import MEMORY
from tapegrad.kernels import JOIN, SETTLE, Context
from tapegrad.memory import (
    address_of_part,
    call1,
    call4,
    call5,
    call6,
    call8,
    fetch_line,
    i8,
    part,
    stream_line,
    u1,
)  # fmt: skip
from tapegrad.ops.declare import LAYOUT
from tapegrad.tape import CONTEXT_BYTES, OWNED, STORED, Header

_CONTEXT_WORDS = Context.nbytes // 8
_PARAMS_AT = 256  # bytes behind a thread's context
_MOST_PARAMS = 32
assert Context.nbytes <= _PARAMS_AT <= CONTEXT_BYTES - 8 * _MOST_PARAMS


@part
def sweep_region(tape: Header, region, sweeps):
    """Sweep a region: its values, its adjoints, or both; MORE where the budget ran out before its end."""
    progress, program = tape.progress, tape.program
    if progress.bound != region:
        if not bind(tape, region, sweeps):
            return NO_MEMORY
        progress.bound, progress.at_chunk = region, 0
        tell(tape, BOUND)
    cost = program.chunk * program.inner * (1 + program.n_code)
    while progress.at_chunk < program.n_chunks:
        if progress.budget < 0:
            return MORE
        n = min(program.n_chunks - progress.at_chunk, 1 + max(progress.budget // max(cost, 1), 0))
        if n > 1 and progress.missing_workers and n * cost > WORTH_WAKING:
            return MORE_WORKERS
        share(tape, address_of_part(run_chunk), progress.at_chunk, n, n * cost)
        progress.budget -= n * cost
        progress.at_chunk += n
    settle(tape)
    drop_large_partials(tape)
    progress.bound = -1
    if sweeps & SWEEP_VALUES:
        _complete(tape, region)
    return OK


def settle(tape):
    """Join the states that chunks had apart, in their order, and make results of states."""
    program = tape.program
    for i in range(program.n_code):
        code = program.code[i]
        if code.what != SCATTER:
            continue
        for chunk in range(program.n_chunks if code.partial >= 0 else 0):
            own = _partials_of(tape, chunk) + code.partial
            if MEMORY:
                nbytes = code.count * code.state
                check_behind(tape, BEHIND_SUM, code.of_row, own + nbytes, -nbytes % 64 + GAP)
            call6(code.kernel, code.count, 1, own, code.address, code.count, JOIN)
        if code.finish:
            call4(code.finish, code.count, code.address, code.terms, code.target)
        elif code.address != code.target:
            call6(code.kernel, code.count, 1, code.address, code.target, code.count, SETTLE)


def _partials_of(tape, chunk):
    """Where a chunk has states of its own."""
    return tape.storage.partials + tape.program.shared_bytes + chunk * tape.program.partial_bytes


def _complete(tape, region):
    """Mark what is now in memory."""
    plan = tape.plan
    for i in range(plan.begin[region + 1] - 1, plan.begin[region] - 1, -1):
        row = tape.rows[plan.order[i]]
        slot = tape.slots[row.out]
        if tape.ops[row.opcode].family == LAYOUT or not is_evaluated(tape, row):
            continue
        if plan.counted >= 0:
            count_down(tape, plan.order[i], 1 if slot.primal else 0)
        if slot.primal != 0:
            slot.flags |= STORED | OWNED
    show_views(tape, region)


def show_views(tape, region):
    """Make the views of what a region has computed."""
    plan = tape.plan
    for i in range(plan.begin[region], plan.begin[region + 1]):
        row = tape.rows[plan.order[i]]
        if tape.ops[row.opcode].family == LAYOUT and is_evaluated(tape, row):
            show(tape, row)


def _address(program, r, row, scratch):
    """Where a register's elements for a block are."""
    return program.registers[r].base + program.registers[r].step * row + program.registers[r].scratch * scratch


def _n_elements(program, level, n_rows):
    """How many elements so many rows have of a register of this level."""
    return n_rows * program.inner if level == WIDE else n_rows if level == NARROW else 1


@part
def run_chunk(tape: Header, chunk, scratch):
    """Run a region's program over the rows of a chunk; `scratch` is the thread's memory."""
    program = tape.program
    row = chunk * program.chunk
    stop = min(row + program.chunk, program.n_rows)
    block = min(program.block, stop - row)
    if MEMORY:
        fill_pattern(scratch, all_places_bytes(program))
    for i in range(program.n_setup):
        spread(program, program.setup[i], row, block, scratch)
    partials = _partials_of(tape, chunk)
    for i in range(program.n_code if program.partial_bytes else 0):
        if program.code[i].partial >= 0:
            begin_states(program.code[i], partials + program.code[i].partial)
    while row < stop:
        n_rows = min(block, stop - row)
        for i in range(program.n_code):
            code = program.code[i]
            n = _n_elements(program, code.width, n_rows)
            if code.what == FORWARD:
                call6(
                    code.kernel, n, code.mode, _address(program, code.a, row, scratch),
                    _address(program, code.b, row, scratch), _address(program, code.c, row, scratch),
                    _address(program, code.y, row, scratch),
                )  # fmt: skip
            elif code.what == REVERSE:
                call8(
                    code.kernel, n, code.mode, _address(program, code.a, row, scratch),
                    _address(program, code.b, row, scratch), _address(program, code.c, row, scratch),
                    _address(program, code.y, row, scratch), _address(program, code.g, row, scratch),
                    _address(program, code.k, row, scratch),
                )  # fmt: skip
            else:
                run_other(tape, code, row, n_rows, scratch, partials)
            if MEMORY:
                _check_instruction(tape, code, row, n_rows, scratch)
                _fill_dead(program, i, scratch)
            if program.n_ahead and row + n_rows < stop:
                _fetch(program, row, n_rows, i)
        row += n_rows
    return OK


@part
def run_other(tape: Header, code: Instruction, row, n_rows, scratch, partials):
    """Run an instruction other than FORWARD and REVERSE over rows of a block."""
    program, what = tape.program, code.what
    n, first = _n_elements(program, code.width, n_rows), row * program.inner if code.width == WIDE else row
    if what == SCATTER:
        target = code.address if code.partial < 0 else partials + code.partial
        source, number = _address(program, code.a, row, scratch), min(code.state, 8)
        scatter(code.walk, source, target, first, n, code.mode, number, code.count, code.kernel)
    elif what == GATHER:
        gather(code.walk, code.address, _address(program, code.y, row, scratch), first, n, code.mode)
    elif what == PUT:
        put(code.walk, _address(program, code.a, row, scratch), code.address, first, n, code.mode)
    elif what == SPREAD:
        spread(program, code, row, n_rows, scratch)
    elif what == STREAM:
        _stream(program, code, row, n_rows, scratch)
    elif what == REDUCE:
        source, target = _address(program, code.a, row, scratch), _address(program, code.y, row, scratch)
        call5(code.kernel, n_rows, program.inner, source, target, code.count)
    elif what == ZERO:
        fill(_address(program, code.y, row, scratch), n, 0, code.mode)
    else:
        _run_along(tape, code, row, n_rows, scratch)
    return OK


def _check_instruction(tape, code, row, n_rows, scratch):
    """Whether an instruction has kept within the memory of its result."""
    program = tape.program
    if code.what == PUT or (code.what == STREAM and program.registers[code.a].within):
        return  # in a part of an adjoint; all guards are checked after each step
    if code.what == STREAM:
        check_guards_of(tape, code.of_row, code.address)
        return
    if code.what == SCATTER:
        if code.partial >= 0:
            return  # until the sums of chunks are joined
        if code.address == code.target:
            check_guards_of(tape, code.of_row, code.address)
        else:
            nbytes = code.count * code.state
            check_behind(tape, BEHIND_SUM, code.of_row, code.address + nbytes, -nbytes % 64 + GAP)
        return
    r = code.k if code.what == REVERSE or code.what == BACK else code.y
    result = program.registers[r]
    if result.scratch == 0:
        if result.within == 0:
            check_guards_of(tape, code.of_row, result.base)
        return
    written = _n_elements(program, result.level, n_rows) * result.size
    begin, whole = _address(program, r, row, scratch), place_bytes(program, result.level)
    check_behind(tape, BEHIND_REGISTER, code.of_row, begin + written, whole - written)


def _fill_dead(program, i, scratch):
    """After instruction i of a block, fill the registers that nothing reads any more."""
    for j in range(6):
        register = program.registers[program.code[i].registers[j]]
        if register.scratch and register.dies == i:
            fill_pattern(scratch + register.base, place_bytes(program, register.level))


def _fetch(program, row, n_rows, i):
    """After instruction i of a block, ask for its share of what the next block reads."""
    n = program.n_code
    for k in range(program.n_ahead):
        register = program.registers[program.ahead[k]]
        begin, lines = register.base + register.step * (row + n_rows), register.step * n_rows // 64
        for line in range(lines * i // n, lines * (i + 1) // n):
            fetch_line(begin + 64 * line)


@part
def spread(program: Program, code: Instruction, row, n_rows, scratch):
    """Bring a register's elements to all lanes that read them."""
    register, size = program.registers[code.a], code.mode
    lanes = program.inner if code.width == WIDE else 1
    source, target = _address(program, code.a, row, scratch), _address(program, code.y, row, scratch)
    # A single element fills all, an element a row fills its row; a row is repeated.
    step = stride = 0
    if register.level == SINGLE:
        lanes, n_rows = lanes * n_rows, 1
    elif register.level == VECTOR:
        stride = size
    else:
        step = register.size
    if size == 8:
        copy8(source, step, stride, target, n_rows, lanes)
    elif size == 4:
        copy4(source, step, stride, target, n_rows, lanes)
    elif size == 2:
        copy2(source, step, stride, target, n_rows, lanes)
    else:
        copy1(source, step, stride, target, n_rows, lanes)
    return OK


def _stream(program, code, row, n_rows, scratch):
    """Write a register to memory past the caches: whole lines of them, the ends as usual.

    Such writes may become visible late; the atomic addition by which a worker says that its chunk is done orders them.
    """
    nbytes = n_rows * program.inner * code.mode
    source, target = _address(program, code.a, row, scratch), code.address + code.step * row
    begin = min(-target % 64, nbytes)
    end = begin + (nbytes - begin) // 64 * 64
    for i in range(begin):
        u1(target, nbytes)[i] = u1(source, nbytes)[i]
    for i in range(begin, end, 64):
        stream_line(target + i, source + i)
    for i in range(end, nbytes):
        u1(target, nbytes)[i] = u1(source, nbytes)[i]


def _run_along(tape, code, row, n_rows, scratch):
    """An array operation along the rows of a block, in reverse too; its context lies before the registers."""
    program, pool = tape.program, tape.pool
    at = scratch - CONTEXT_BYTES
    for i in range(_CONTEXT_WORDS):
        i8(at, _CONTEXT_WORDS)[i] = 0
    context = Context(at)
    n_params = pool[code.params - 1]
    for i in range(n_params):
        i8(at + _PARAMS_AT, _MOST_PARAMS)[i] = pool[code.params + i]
    i8(at + _PARAMS_AT, _MOST_PARAMS)[0] = n_rows
    context.params_at, context.n_params = at + _PARAMS_AT, n_params
    context.a, context.y = _address(program, code.a, row, scratch), _address(program, code.y, row, scratch)
    context.n_a, context.n_y = n_rows * program.inner, _n_elements(program, code.width, n_rows)
    if code.what == BACK:
        context.y_bar, context.k_bar = _address(program, code.g, row, scratch), _address(program, code.k, row, scratch)
        context.n_k_bar = n_rows * program.inner
    call1(code.kernel, at)


# --- array rows -------------------------------------------------------------------------------------------------------

PIECE_WORK = 20_000  # elements that are worth a piece
_PIECES_A_THREAD = 4  # at most, where each has memory to work in


@part
def run_pieces(tape: Header, kernel, units, outer, of_adjoint, apart_count, apart_code, elements):
    """Call an array kernel for all its units, shared out in pieces; what they sum is joined in their order.

    Sums of floats are float64, of integers in one piece. Of no units there is no piece and no sum of one: what is
    summed into stays as it is.
    """
    if units == 0:
        return OK
    context, pieces = tape.program.context, tape.program.pieces
    n_pieces = max(1, min(elements // PIECE_WORK, MOST_CHUNKS, units))
    apart_bytes = (apart_count * 8 + 63) // 64 * 64 + GAP if apart_count and 3 <= apart_code <= 4 else 0
    if apart_count and apart_bytes == 0:
        n_pieces = 1
    if apart_bytes and apart_bytes * n_pieces > MOST_PARTIAL_BYTES:
        n_pieces = max(1, MOST_PARTIAL_BYTES // apart_bytes)
    if pieces.room_bytes:
        n_pieces = min(n_pieces, _PIECES_A_THREAD * (1 + _n_workers(tape)))
    a_piece = (units + n_pieces - 1) // n_pieces
    n_pieces = (units + a_piece - 1) // a_piece
    pieces.kernel, pieces.units, pieces.a_piece, pieces.n_pieces = kernel, units, a_piece, n_pieces
    pieces.outer, pieces.apart, pieces.apart_count, pieces.of_adjoint = outer, 0, apart_count, of_adjoint
    pieces.apart_bytes = apart_bytes
    if apart_bytes and (n_pieces > 1 or apart_code == 3):
        if not hold_partials(tape, apart_bytes * n_pieces):
            return NO_MEMORY
        pieces.apart = tape.storage.partials
    pieces.rooms = 0
    if pieces.room_bytes:
        pieces.room_bytes = (pieces.room_bytes + 63) // 64 * 64 + GAP
        pieces.rooms = obtain(tape, pieces.room_bytes * n_pieces, 0)
        if pieces.rooms == 0:
            return NO_MEMORY
    share(tape, address_of_part(run_piece), 0, n_pieces, elements * 8)
    if pieces.rooms:
        give_back(tape, pieces.rooms)
    if pieces.apart:
        add = sum_kernels(tape, apart_code).accumulate
        for i in range(n_pieces):
            if MEMORY:
                behind, nbytes = pieces.apart + i * apart_bytes + apart_count * 8, -apart_count * 8 % 64 + GAP
                check_behind(tape, BEHIND_SUM, tape.guarded.at_row, behind, nbytes)
            if i > 0:
                call6(add, apart_count, 1, pieces.apart + i * apart_bytes, pieces.apart, apart_count, JOIN)
        target = context.k_bar if of_adjoint else context.y
        call6(add, apart_count, 1, pieces.apart, target, apart_count, SETTLE)
        drop_large_partials(tape)
    return OK


def _n_workers(tape):
    return Crew(tape.progress.crew).n_workers if tape.progress.crew else 0


@part
def run_piece(tape: Header, index, scratch):
    """Run a piece of an array row's work, with a context of its own."""
    shared, pieces, at = tape.program.context, tape.program.pieces, scratch - CONTEXT_BYTES
    lo = index * pieces.a_piece
    hi = min(lo + pieces.a_piece, pieces.units)
    for i in range(_CONTEXT_WORDS):
        i8(at, _CONTEXT_WORDS)[i] = i8(tape.program.context_at, _CONTEXT_WORDS)[i]
    context = Context(at)
    context.lo, context.hi, context.tile = lo, hi, scratch
    context.memory = pieces.rooms + index * pieces.room_bytes if pieces.rooms else 0
    if pieces.outer:
        for i in range(shared.n_params):
            i8(at + _PARAMS_AT, _MOST_PARAMS)[i] = shared.params[i]
        i8(at + _PARAMS_AT, _MOST_PARAMS)[0] = hi - lo
        context.params_at = at + _PARAMS_AT
        for i in range(4):
            context.operands[i] += lo * pieces.unit_bytes[i]
            context.lengths[i] = shared.lengths[i] // pieces.units * (hi - lo)
        context.y_bar += lo * pieces.y_bar_bytes
        context.k_bar += lo * pieces.k_bar_bytes
        context.n_k_bar = shared.n_k_bar // pieces.units * (hi - lo)
    if pieces.apart:
        own = pieces.apart + index * pieces.apart_bytes
        fill(own, pieces.apart_count, 0, 8)
        if pieces.of_adjoint:
            context.k_bar = own
        else:
            context.y = own
    call1(pieces.kernel, at)
    return OK
