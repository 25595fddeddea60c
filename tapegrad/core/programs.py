"""Programs: a whole region, bound for a sweep: its instructions, where its registers are, its blocks and chunks."""

from tapegrad.core.guards import GAP, TABLE_FULL, note
from tapegrad.core.partials import want_values
from tapegrad.core.registers import (
    BASE,
    BORN,
    COUNT,
    DIES,
    FEW_LANES,
    FORWARD,
    GOAL,
    LEVEL,
    MODE,
    NARROW,
    PARTIAL,
    REVERSE,
    SCATTER,
    SCRATCH,
    SINGLE,
    SIZE,
    SPREAD,
    STATE,
    STEP,
    STREAM,
    SWEEP_ADJOINTS,
    WHAT,
    WIDE,
    WIDTH,
    A,
    K,
    P,
    Q,
    R,
    Y,
    emit,
    fill,
    new_register,
)  # fmt: skip
from tapegrad.core.schedule import MAX_INNER, MAX_WIDE, arity, operand
from tapegrad.core.walks import (
    AHEAD,
    BLOCK,
    BOUND_ROW,
    CHUNK,
    CODE,
    CONTEXT_AT,
    INNER,
    MOST_CODE,
    MOST_CONSTANTS,
    MOST_REGISTERS,
    MOST_SETUP,
    MOST_TAIL,
    N_AHEAD,
    N_CHUNKS,
    N_CODE,
    N_CONSTANTS,
    N_NARROW_PLACES,
    N_REGISTERS,
    N_ROWS,
    N_SETUP,
    N_TAIL,
    N_WALKS,
    N_WIDE_PLACES,
    ONE_ROW,
    PARTIAL_BYTES,
    PLACES,
    REGISTER,
    SETUP,
    SHARED_BYTES,
    SPACE_KIND,
    SWEEPS,
    WALKS,
    WORDS,
    WORDS_A_REGISTER,
    broadcast_walk,
)  # fmt: skip
from tapegrad.debug import MEMORY
from tapegrad.kernels.loops import FRESH
from tapegrad.kinds import CONTIGUOUS
from tapegrad.memory import i4, i8, kinds_at, ops_at, part1, part2, part3, rows_at, slots_at
from tapegrad.ops.declare import ELEMENTWISE
from tapegrad.tape import CONTEXT_BYTES, SCRATCH_BYTES, STORED, TABLES, H

LONG_ROW = 192  # lanes from which a row is a block of its own
CHUNK_WORK = 25_000  # lanes times instructions that are worth a chunk
MOST_CHUNKS = 64
MOST_PARTIAL_BYTES = 1 << 24


def bind(header, region, sweeps):
    """Describe a region for a sweep of its values, its adjoints, or both. 0 where memory is short."""
    h = i8(header, len(H))
    tables = i8(h[H.tables], TABLES)
    rows, slots = rows_at(h[H.rows], h[H.end]), slots_at(h[H.slots], h[H.top])
    kinds, ops = kinds_at(h[H.kinds], h[H.n_kinds]), ops_at(h[H.ops], 256)
    begin, order = i4(h[H.begin], h[H.n_regions] + 1), i4(h[H.order], h[H.n_planned])
    first, last = begin[region], begin[region + 1]
    for i in range(REGISTER):
        tables[i] = 0
    h[H.stamps] += 1
    h[H.binding] = region
    # A row over the region's space: of rows over another, narrow one, some reduction came first.
    space, wide = -1, i4(h[H.spaces], h[H.n_regions])[region]
    for i in range(first, last):
        row = rows[order[i]]
        kind = row["kind"] if ops[row["opcode"]]["family"] == ELEMENTWISE else slots[row["a"]]["kind"]
        if kinds[kind]["space"] == wide:
            space = kind
            break
    lanes, inner = kinds[space]["numel"], i4(h[H.inner], h[H.n_regions])[region]
    if inner == 1:
        inner = _row_of_operands(h, tables, kinds, slots, first, last, space)
    tables[SPACE_KIND], tables[INNER], tables[N_ROWS], tables[SWEEPS] = space, inner, lanes // inner, sweeps
    tables[ONE_ROW] = inner > 1 and (inner >= LONG_ROW or lanes == inner)
    new_register(tables, h[H.scratch], 0, SINGLE, 8)  # register 0 stands where a kernel has no such operand
    if sweeps & SWEEP_ADJOINTS:
        want_values(h, first, last)
    if not part3(h[H.bind_values], header, first, last):
        return 0
    if sweeps & SWEEP_ADJOINTS and not part3(h[H.bind_adjoints], header, first, last):
        return 0
    return part1(h[H.place], header)


def _row_of_operands(h, tables, kinds, slots, first, last, space):
    """How many lanes to sweep as a row, so that operands that are broadcast need not be gathered; 1 for no rows."""
    rows, order = rows_at(h[H.rows], h[H.end]), i4(h[H.order], h[H.n_planned])
    for i in range(first, last):
        row = rows[order[i]]
        for k in range(arity(h, row)):
            o = operand(row, k)
            if o < 0 or slots[o]["flags"] & STORED == 0 or kinds[slots[o]["kind"]]["numel"] == 1:
                continue
            kind = slots[o]["kind"]
            if kinds[kind]["space"] == kinds[space]["space"] and kinds[kind]["flags"] & CONTIGUOUS:
                continue
            if kinds[kind]["ndim"] > kinds[space]["ndim"]:
                continue
            walk = broadcast_walk(h, tables, kinds, kind, space, 0)
            n, inner = tables[walk], tables[walk + 1]
            tables[N_WALKS] = 0
            if n == 2 and LONG_ROW <= inner <= MAX_INNER and (last - first) * inner <= MAX_WIDE:
                return inner
    return 1


def _exceeds_caches(h, tables):
    """Whether the memory that the region reads and writes is more than the caches hold."""
    lanes, moved = tables[N_ROWS] * tables[INNER], 0
    for r in range(tables[N_REGISTERS]):
        at = REGISTER + WORDS_A_REGISTER * r
        if tables[at + LEVEL] == WIDE and tables[at + SCRATCH] == 0:
            moved += lanes * tables[at + SIZE]
    return moved > h[H.stream_bytes]


def _stream_results(tables):
    """Have results written past the caches.

    A line that is stored to is read from memory first, unless all of it is written at once and not kept: so results
    are made in scratch memory, and are a third cheaper to store.
    """
    for i in range(tables[N_CODE]):
        at = CODE + WORDS * i
        what, result = tables[at + WHAT], -1
        if what == FORWARD or what == SPREAD:
            result = tables[at + Y]
        elif what == REVERSE and tables[at + MODE] & FRESH:
            result = tables[at + K]
        if result < 0:
            continue
        to = REGISTER + WORDS_A_REGISTER * result
        if tables[to + LEVEL] == WIDE and tables[to + SCRATCH] == 0:
            size, address, step = tables[to + SIZE], tables[to + BASE], tables[to + STEP]
            emit(tables, STREAM, 0, size, WIDE, result, 0, 0, 0, 0, 0, step, address, 0, 0)
            tables[to + BASE], tables[to + STEP], tables[to + SCRATCH] = 0, 0, 1


def _fetch_ahead(tables):
    """Have what a block reads from memory fetched while the block before it is computed."""
    for r in range(tables[N_REGISTERS]):
        at = REGISTER + WORDS_A_REGISTER * r
        if tables[at + LEVEL] == WIDE and tables[at + SCRATCH] == 0:
            tables[AHEAD + tables[N_AHEAD]] = r
            tables[N_AHEAD] += 1


def _place_apart(tables):
    """A place for each scratch register: quick, where all of them take little memory."""
    for r in range(tables[N_REGISTERS]):
        at = REGISTER + WORDS_A_REGISTER * r
        if tables[at + SCRATCH]:
            counter = N_WIDE_PLACES if tables[at + LEVEL] == WIDE else N_NARROW_PLACES
            tables[at + BASE] = tables[counter]
            tables[counter] += 1


def _place_by_life(tables):
    """Places that are used again once a register is dead: as few as can be, so that blocks are long."""
    for i in range(tables[N_CODE]):
        for word in range(A, K + 1):
            at = REGISTER + WORDS_A_REGISTER * tables[CODE + WORDS * i + word]
            if tables[at + BORN] < 0:
                tables[at + BORN] = i
            tables[at + DIES] = i
    for i in range(tables[N_SETUP]):  # alive for good
        at = REGISTER + WORDS_A_REGISTER * tables[SETUP + WORDS * i + Y]
        tables[at + BORN], tables[at + DIES] = -2, tables[N_CODE]
        tables[at + BASE] = tables[N_WIDE_PLACES] if tables[at + LEVEL] == WIDE else tables[N_NARROW_PLACES]
        tables[N_WIDE_PLACES if tables[at + LEVEL] == WIDE else N_NARROW_PLACES] += 1
    free_wide, free_narrow = 0, 0  # stacks of places that are free, one after the other in PLACES
    half = (CONTEXT_AT - PLACES) // 2
    for i in range(tables[N_CODE]):
        for word in range(A, K + 1):
            at = REGISTER + WORDS_A_REGISTER * tables[CODE + WORDS * i + word]
            if tables[at + SCRATCH] == 0 or tables[at + BORN] != i:
                continue
            tables[at + BORN] = -2  # placed
            if tables[at + LEVEL] == WIDE:
                if free_wide:
                    free_wide -= 1
                    tables[at + BASE] = tables[PLACES + free_wide]
                else:
                    tables[at + BASE] = tables[N_WIDE_PLACES]
                    tables[N_WIDE_PLACES] += 1
            elif free_narrow:
                free_narrow -= 1
                tables[at + BASE] = tables[PLACES + half + free_narrow]
            else:
                tables[at + BASE] = tables[N_NARROW_PLACES]
                tables[N_NARROW_PLACES] += 1
        for word in range(A, K + 1):
            at = REGISTER + WORDS_A_REGISTER * tables[CODE + WORDS * i + word]
            if tables[at + SCRATCH] and tables[at + DIES] == i and tables[at + BORN] != -3:
                tables[at + BORN] = -3  # let go of, once
                if tables[at + LEVEL] == WIDE:
                    tables[PLACES + free_wide] = tables[at + BASE]
                    free_wide += 1
                else:
                    tables[PLACES + half + free_narrow] = tables[at + BASE]
                    free_narrow += 1


def place(header):
    """Give scratch registers their places, and choose how many rows a block and a chunk have. 0: memory is short."""
    h = i8(header, len(H))
    tables = i8(h[H.tables], TABLES)
    if tables[N_ROWS] * tables[INNER] <= FEW_LANES and not MEMORY:
        _place_apart(tables)
    elif _exceeds_caches(h, tables):
        _stream_results(tables)
        _place_by_life(tables)
        _fetch_ahead(tables)
    else:
        _place_by_life(tables)
    rows, inner = tables[N_ROWS], tables[INNER]
    a_row = 8 * (tables[N_WIDE_PLACES] * inner + tables[N_NARROW_PLACES])
    if tables[ONE_ROW]:
        block = 1
    elif inner > 1:
        block = max(1, min(h[H.cache_bytes] // max(a_row, 1), 2048 // inner))
    else:
        most, group = h[H.cache_bytes] // max(a_row, 8), _rows_merged(tables)
        block = max(64, min(most, 2048)) // 8 * 8
        # A sum alone holds nothing in the cache; for others, to exceed it a little is better than to merge row by row.
        if tables[N_CODE] == 1:
            block = max(1, 8192 // (2 * group)) * 2 * group
        elif group <= 2 * most:
            block = max(group, block // group * group)
    block = max(1, min(block, rows))
    tables[BLOCK] = block
    wide_bytes, narrow_bytes = place_bytes(tables, WIDE), place_bytes(tables, NARROW)
    for r in range(tables[N_REGISTERS]):
        at = REGISTER + WORDS_A_REGISTER * r
        if tables[at + SCRATCH]:
            if tables[at + LEVEL] == WIDE:
                tables[at + BASE] *= wide_bytes
            else:
                tables[at + BASE] = tables[N_WIDE_PLACES] * wide_bytes + tables[at + BASE] * narrow_bytes
    if MEMORY and not _has_room(h, tables):
        return 0
    return _plan_chunks(h, tables, rows, inner)


def place_bytes(tables, level):
    """The bytes of a place for a register of this level."""
    return (tables[BLOCK] * (tables[INNER] if level == WIDE else 1) * 8 + 63) // 64 * 64 + GAP


def all_places_bytes(tables):
    """The bytes of all places."""
    return tables[N_WIDE_PLACES] * place_bytes(tables, WIDE) + tables[N_NARROW_PLACES] * place_bytes(tables, NARROW)


def _has_room(h, tables):
    """Whether what describes a region, and its registers, are no more than there is room for."""
    if (
        tables[N_REGISTERS] > MOST_REGISTERS
        or tables[N_CODE] > MOST_CODE
        or tables[N_SETUP] > MOST_SETUP
        or tables[N_CONSTANTS] > MOST_CONSTANTS
        or tables[N_TAIL] > MOST_TAIL
        or WALKS + tables[N_WALKS] > TABLES
        or CONTEXT_BYTES + 64 + all_places_bytes(tables) > SCRATCH_BYTES
    ):
        note(h, TABLE_FULL, tables[BOUND_ROW], 0, 0, 0)
        return False
    return True


def _rows_merged(tables):
    """The lanes of so many rows as a SCATTER merges at once, if one does: a multiple of 8."""
    for i in range(tables[N_CODE]):
        walk = tables[CODE + WORDS * i + P]
        if tables[CODE + WORDS * i + WHAT] == SCATTER and tables[walk] > 1 and tables[walk + 4] == 0:
            return tables[walk + 1] * (4 if tables[walk + 1] % 2 == 0 else 8)
    return 8


def _plan_chunks(h, tables, rows, inner):
    """Share the rows out to chunks. Their number depends on the work alone: sums are the same on any number of threads.

    What chunks would merge into the same states is merged into states of each chunk's own first (PARTIAL: the offset
    there). States that are no results come before those, for all chunks.
    """
    lanes = rows * inner
    n_chunks = min(lanes * tables[N_CODE] // CHUNK_WORK, MOST_CHUNKS, (rows + tables[BLOCK] - 1) // tables[BLOCK])
    apart, partial_bytes, shared_bytes = 1, 0, 0  # chunks are a multiple of so many lanes
    for i in range(tables[N_CODE]):
        at = CODE + WORDS * i
        if tables[at + WHAT] != SCATTER:
            continue
        walk, period = tables[at + P], 1
        nbytes = (tables[at + COUNT] * tables[tables[at + GOAL] + STATE] + 63) // 64 * 64
        if tables[tables[at + GOAL] + STATE] != tables[at + MODE]:
            tables[at + Q] = shared_bytes
            shared_bytes += nbytes + GAP
        n = tables[walk]
        for d in range(n - 1):
            period *= tables[walk + 1 + 2 * d]
        period *= 1 if tables[at + WIDTH] == WIDE else inner
        common = _common_multiple(apart, period)
        if tables[walk + 2 * n] != 0 and common * 8 <= lanes:
            apart = common
        else:
            tables[at + PARTIAL] = partial_bytes
            partial_bytes += nbytes + GAP
    if partial_bytes:  # to begin and to join these is to be a small part of the work
        n_chunks = min(n_chunks, MOST_PARTIAL_BYTES // partial_bytes, lanes // partial_bytes)
    if n_chunks < 2:
        chunk, n_chunks, partial_bytes = rows, 1 if rows else 0, 0
        for i in range(tables[N_CODE]):
            tables[CODE + WORDS * i + PARTIAL] = -1
    else:
        step = max(1, _common_multiple(apart, inner) // inner)
        step = step if step > 1 else tables[BLOCK]  # whole blocks, where nothing else is asked for
        chunk = ((rows + n_chunks - 1) // n_chunks + step - 1) // step * step
        n_chunks = (rows + chunk - 1) // chunk
    tables[CHUNK], tables[N_CHUNKS], tables[PARTIAL_BYTES] = chunk, n_chunks, partial_bytes
    tables[SHARED_BYTES] = shared_bytes
    if not hold_partials(h, shared_bytes + partial_bytes * n_chunks):
        return 0
    for i in range(tables[N_CODE] if shared_bytes else 0):
        at = CODE + WORDS * i
        if tables[at + WHAT] == SCATTER and tables[tables[at + GOAL] + STATE] != tables[at + MODE]:
            tables[at + Q] += h[H.partials]
            begin_states(tables, at, tables[at + Q])
    return 1


def begin_states(tables, at, address):
    """Begin the states of a SCATTER."""
    state = tables[tables[at + GOAL] + STATE]
    unit = min(state, 8)
    fill(address, tables[at + COUNT] * (state // unit), tables[at + R], unit)


def hold_partials(h, nbytes):
    """Make memory for states; False where there is none to be had."""
    if nbytes > h[H.partial_bytes] or (MEMORY and nbytes):
        if h[H.partials]:
            part2(h[H.give_back], h[H.self], h[H.partials])
        h[H.partials] = part3(h[H.obtain], h[H.self], nbytes, 0)
        h[H.partial_bytes] = nbytes if h[H.partials] else 0
    return nbytes == 0 or h[H.partials] != 0


def drop_large_partials(h):
    """Give memory for states back where it is more than most sweeps need."""
    if h[H.partial_bytes] > MOST_PARTIAL_BYTES:
        part2(h[H.give_back], h[H.self], h[H.partials])
        h[H.partials] = h[H.partial_bytes] = 0


def _common_multiple(p, q):
    a, b = p, q
    while b:
        a, b = b, a % b
    return p // max(a, 1) * q
