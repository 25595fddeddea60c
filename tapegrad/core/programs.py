"""Programs: a whole region, bound for a sweep: its instructions, where its registers are, its blocks and chunks."""

from tapegrad.core.guards import GAP, TABLE_FULL, note
from tapegrad.core.partials import bind_adjoints, want_values
from tapegrad.core.registers import FEW_LANES, bind_values, emit, fill, new_register
from tapegrad.core.rows import arity, operand
from tapegrad.core.storage import give_back, obtain
from tapegrad.core.tables import (
    FORWARD,
    MAX_INNER,
    MAX_WIDE,
    MOST_CODE,
    MOST_CONSTANTS,
    MOST_REGISTERS,
    MOST_SETUP,
    MOST_TAILS,
    MOST_WALK_WORDS,
    REVERSE,
    SCATTER,
    SINGLE,
    SPREAD,
    STREAM,
    SWEEP_ADJOINTS,
    WIDE,
    Walk,
)  # fmt: skip
from tapegrad.core.walks import broadcast_walk
from tapegrad.debug import MEMORY
from tapegrad.kernels.loops import FRESH
from tapegrad.kinds import CONTIGUOUS
from tapegrad.memory import part
from tapegrad.ops.declare import ELEMENTWISE, LAYOUT
from tapegrad.tape import CONTEXT_BYTES, SCRATCH_BYTES, STORED, Header

LONG_ROW = 192  # lanes from which a row is a block of its own
CHUNK_WORK = 25_000  # lanes times instructions that are worth a chunk
MOST_CHUNKS = 64
MOST_PARTIAL_BYTES = 1 << 24


@part
def bind(tape: Header, region, sweeps):
    """Describe a region for a sweep of its values, its adjoints, or both. 0 where memory is short."""
    program, plan = tape.program, tape.plan
    first, last = plan.begin[region], plan.begin[region + 1]
    _clear(program)
    tape.binding.stamps += 1
    tape.binding.binding = region
    program.space_kind = _space_kind(tape, first, last, plan.spaces[region])
    lanes, inner = tape.kinds[program.space_kind].numel, plan.inner[region]
    if inner == 1:
        inner = _row_of_operands(tape, first, last)
    program.inner, program.n_rows, program.sweeps = inner, lanes // inner, sweeps
    program.one_row = inner > 1 and (inner >= LONG_ROW or lanes == inner)
    new_register(program, SINGLE, 8, tape.scratch)  # register 0 stands where a kernel has no such operand
    if sweeps & SWEEP_ADJOINTS:
        want_values(tape, first, last)
    if not bind_values(tape, first, last):
        return 0
    if sweeps & SWEEP_ADJOINTS and not bind_adjoints(tape, first, last):
        return 0
    return place(tape)


def _clear(program):
    program.n_registers = program.n_code = program.n_setup = program.n_constants = program.n_tails = 0
    program.walk_words = program.n_wide_places = program.n_narrow_places = program.n_ahead = 0
    program.partial_bytes = program.shared_bytes = program.n_places = 0


def _space_kind(tape, first, last, space):
    """A kind of the region's space: of rows over another, narrow one, some reduction came first."""
    for i in range(first, last):
        row = tape.rows[tape.plan.order[i]]
        family = tape.ops[row.opcode].family
        kind = row.kind if family == ELEMENTWISE else tape.slots[row.a].kind
        if family != LAYOUT and tape.kinds[kind].space == space:
            return kind
    return -1


def _row_of_operands(tape, first, last):
    """How many lanes to sweep as a row, so that operands that are broadcast need not be gathered; 1 for no rows."""
    space = tape.kinds[tape.program.space_kind]
    for i in range(first, last):
        row = tape.rows[tape.plan.order[i]]
        for k in range(arity(tape, row) if tape.ops[row.opcode].family != LAYOUT else 0):
            o = operand(row, k)
            if o < 0 or tape.slots[o].flags & STORED == 0:
                continue
            kind = tape.kinds[tape.slots[o].kind]
            if kind.numel == 1 or kind.ndim > space.ndim or (kind.space == space.space and kind.flags & CONTIGUOUS):
                continue
            walk = Walk(broadcast_walk(tape, kind, space, 0))
            tape.program.walk_words, inner = 0, walk.runs[0].length
            if walk.n_runs == 2 and LONG_ROW <= inner <= MAX_INNER and (last - first) * inner <= MAX_WIDE:
                return inner
    return 1


# --- places -----------------------------------------------------------------------------------------------------------


def _exceeds_caches(tape):
    """Whether the memory that the region reads and writes is more than the caches hold."""
    program, moved = tape.program, 0
    for r in range(program.n_registers):
        register = program.registers[r]
        if register.level == WIDE and register.scratch == 0:
            moved += program.n_rows * program.inner * register.size
    return moved > tape.stream_bytes


def _stream_results(program):
    """Have results written past the caches.

    A line that is stored to is read from memory first, unless all of it is written at once and not kept: so results
    are made in scratch memory, and are a third cheaper to store.
    """
    for i in range(program.n_code):
        code, r = program.code[i], -1
        if code.what == FORWARD or code.what == SPREAD:
            r = code.y
        elif code.what == REVERSE and code.mode & FRESH:
            r = code.k
        if r < 0:
            continue
        result = program.registers[r]
        if result.level == WIDE and result.scratch == 0:
            stream = emit(program, STREAM, mode=result.size, a=r)
            stream.step, stream.address = result.step, result.base
            result.base, result.step, result.scratch = 0, 0, 1


def _fetch_ahead(program):
    """Have what a block reads from memory fetched while the block before it is computed."""
    for r in range(program.n_registers):
        if program.registers[r].level == WIDE and program.registers[r].scratch == 0:
            program.ahead[program.n_ahead] = r
            program.n_ahead += 1


def _new_place(program, register):
    """A place that no register has had."""
    if register.level == WIDE:
        register.base = program.n_wide_places
        program.n_wide_places += 1
    else:
        register.base = program.n_narrow_places
        program.n_narrow_places += 1


def _place_apart(program):
    """A place for each scratch register: quick, where all of them take little memory."""
    for r in range(program.n_registers):
        if program.registers[r].scratch:
            _new_place(program, program.registers[r])


_FOR_GOOD, _PLACED, _LET_GO = -2, -2, -3  # what becomes of `born`


def _place_by_life(program):
    """Places that are used again once a register is dead, as few as can be, so that blocks are long.

    This is register allocation: the live range of a register is that between the instructions `born` and `dies`.
    """
    for i in range(program.n_code):
        for j in range(6):
            register = program.registers[program.code[i].registers[j]]
            if register.born < 0:
                register.born = i
            register.dies = i
    for i in range(program.n_setup):
        register = program.registers[program.setup[i].y]
        register.born, register.dies = _FOR_GOOD, program.n_code
        _new_place(program, register)
    n_wide = n_narrow = 0  # places that are free
    for i in range(program.n_code):
        for j in range(6):
            register = program.registers[program.code[i].registers[j]]
            if register.scratch == 0 or register.born != i:
                continue
            register.born = _PLACED
            if register.level == WIDE and n_wide:
                n_wide -= 1
                register.base = program.wide_places[n_wide]
            elif register.level != WIDE and n_narrow:
                n_narrow -= 1
                register.base = program.narrow_places[n_narrow]
            else:
                _new_place(program, register)
        for j in range(6):
            register = program.registers[program.code[i].registers[j]]
            if register.scratch == 0 or register.dies != i or register.born == _LET_GO:
                continue
            register.born = _LET_GO
            if register.level == WIDE:
                program.wide_places[n_wide] = register.base
                n_wide += 1
            else:
                program.narrow_places[n_narrow] = register.base
                n_narrow += 1


@part
def place(tape: Header):
    """Give scratch registers their places, and choose how many rows a block and a chunk have. 0: memory is short."""
    program = tape.program
    if program.n_rows * program.inner <= FEW_LANES and not MEMORY:
        _place_apart(program)
    elif _exceeds_caches(tape):
        _stream_results(program)
        _place_by_life(program)
        _fetch_ahead(program)
    else:
        _place_by_life(program)
    program.block = max(1, min(_block(tape), program.n_rows))
    wide_bytes, narrow_bytes = place_bytes(program, WIDE), place_bytes(program, SINGLE)
    for r in range(program.n_registers):
        register = program.registers[r]
        if register.scratch:
            if register.level == WIDE:
                register.base *= wide_bytes
            else:
                register.base = program.n_wide_places * wide_bytes + register.base * narrow_bytes
    if MEMORY and not _has_room(tape):
        return 0
    return _plan_chunks(tape)


def _block(tape):
    """How many rows of the region have registers that fit in the cache."""
    program = tape.program
    inner = program.inner
    a_row = 8 * (program.n_wide_places * inner + program.n_narrow_places)
    if program.one_row:
        return 1
    if inner > 1:
        return max(1, min(tape.cache_bytes // max(a_row, 1), 2048 // inner))
    most, group = tape.cache_bytes // max(a_row, 8), _rows_merged(program)
    block = max(64, min(most, 2048)) // 8 * 8
    # A sum alone holds nothing in the cache; for others, to exceed it a little is better than to merge row by row.
    if program.n_code == 1:
        return max(1, 8192 // (2 * group)) * 2 * group
    return max(group, block // group * group) if group <= 2 * most else block


def _rows_merged(program):
    """The lanes of so many rows as a SCATTER merges at once, if one does: a multiple of 8."""
    for i in range(program.n_code):
        if program.code[i].what == SCATTER:
            walk = Walk(program.code[i].walk)
            if walk.n_runs > 1 and walk.runs[1].stride == 0:
                return walk.runs[0].length * (4 if walk.runs[0].length % 2 == 0 else 8)
    return 8


def place_bytes(program, level):
    """The bytes of a place for a register of this level."""
    return (program.block * (program.inner if level == WIDE else 1) * 8 + 63) // 64 * 64 + GAP


def all_places_bytes(program):
    """The bytes of all places."""
    return program.n_wide_places * place_bytes(program, WIDE) + program.n_narrow_places * place_bytes(program, SINGLE)


def _has_room(tape):
    """Whether what describes a region, and its registers, are no more than there is room for."""
    program = tape.program
    if (
        program.n_registers > MOST_REGISTERS
        or program.n_code > MOST_CODE
        or program.n_setup > MOST_SETUP
        or program.n_constants > MOST_CONSTANTS
        or program.n_tails > MOST_TAILS
        or program.walk_words > MOST_WALK_WORDS
        or CONTEXT_BYTES + 64 + all_places_bytes(program) > SCRATCH_BYTES
    ):
        note(tape, TABLE_FULL, program.bound_row, 0, 0, 0)
        return False
    return True


# --- chunks -----------------------------------------------------------------------------------------------------------


def _plan_chunks(tape):
    """Share the rows out to chunks. Their number depends on the work alone: sums are the same on any number of threads.

    What chunks would merge into the same states is merged into states of each chunk's own first (`partial`: the offset
    there). States that are no results come before those, for all chunks.
    """
    program = tape.program
    rows, inner = program.n_rows, program.inner
    lanes = rows * inner
    n_chunks = min(lanes * program.n_code // CHUNK_WORK, MOST_CHUNKS, (rows + program.block - 1) // program.block)
    apart = _divide_states(program)
    partial_bytes = program.partial_bytes
    if partial_bytes:  # to begin and to join these is to be a small part of the work
        n_chunks = min(n_chunks, MOST_PARTIAL_BYTES // partial_bytes, lanes // partial_bytes)
    if n_chunks < 2:
        program.chunk, program.n_chunks, program.partial_bytes = rows, 1 if rows else 0, 0
        for i in range(program.n_code):
            program.code[i].partial = -1
    else:
        step = max(1, _common_multiple(apart, inner) // inner)
        step = step if step > 1 else program.block  # whole blocks, where nothing else is asked for
        program.chunk = ((rows + n_chunks - 1) // n_chunks + step - 1) // step * step
        program.n_chunks = (rows + program.chunk - 1) // program.chunk
    if not hold_partials(tape, program.shared_bytes + program.partial_bytes * program.n_chunks):
        return 0
    for i in range(program.n_code if program.shared_bytes else 0):
        code = program.code[i]
        if code.what == SCATTER and code.state != code.mode:
            code.address += tape.storage.partials
            begin_states(code, code.address)
    return 1


def _divide_states(program):
    """Where states are: apart for each chunk, or met by one chunk each. Chunks then are a multiple of so many lanes."""
    apart, lanes = 1, program.n_rows * program.inner
    for i in range(program.n_code):
        code = program.code[i]
        if code.what != SCATTER:
            continue
        walk, period = Walk(code.walk), 1
        nbytes = (code.count * code.state + 63) // 64 * 64 + GAP
        if code.state != code.mode:
            code.address = program.shared_bytes
            program.shared_bytes += nbytes
        outermost = walk.n_runs - 1
        for d in range(outermost):
            period *= walk.runs[d].length
        period *= 1 if code.width == WIDE else program.inner
        common = _common_multiple(apart, period)
        if walk.runs[outermost].stride != 0 and common * 8 <= lanes:
            apart = common
        else:
            code.partial = program.partial_bytes
            program.partial_bytes += nbytes
    return apart


def begin_states(code, address):
    """Begin the states of a SCATTER."""
    unit = min(code.state, 8)
    fill(address, code.count * (code.state // unit), code.start, unit)


def hold_partials(tape, nbytes):
    """Make memory for states; False where there is none to be had."""
    storage = tape.storage
    if nbytes > storage.partial_bytes or (MEMORY and nbytes):
        if storage.partials:
            give_back(tape, storage.partials)
        storage.partials = obtain(tape, nbytes, 0)
        storage.partial_bytes = nbytes if storage.partials else 0
    return nbytes == 0 or storage.partials != 0


def drop_large_partials(tape):
    """Give memory for states back where it is more than most sweeps need."""
    storage = tape.storage
    if storage.partial_bytes > MOST_PARTIAL_BYTES:
        give_back(tape, storage.partials)
        storage.partials = storage.partial_bytes = 0


def _common_multiple(p, q):
    a, b = p, q
    while b:
        a, b = b, a % b
    return p // max(a, 1) * q
