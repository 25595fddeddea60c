"""Blocks: runs the program that `registers.py` made of a region, and shares its chunks out to threads.

A block is so many rows of the region that its registers fit in the cache; a chunk is so many rows that are worth a
thread. Chunks may run in any order and on any thread: each has scratch memory of its thread, and what several chunks
add to is joined at the end, in the order of the chunks.

Array rows are shared out likewise, in pieces of their own units: see the end.
"""

from tapegrad.core.guards import BEHIND_REGISTER, BEHIND_SUM, GAP, check_behind, fill_pattern
from tapegrad.core.programs import (
    MOST_CHUNKS,
    MOST_PARTIAL_BYTES,
    all_places_bytes,
    begin_states,
    drop_large_partials,
    hold_partials,
    place_bytes,
)  # fmt: skip
from tapegrad.core.registers import (
    BACK,
    BASE,
    COUNT,
    DIES,
    FINISH,
    FORWARD,
    GATHER,
    GOAL,
    KERNEL,
    LEVEL,
    MODE,
    NARROW,
    OF_ROW,
    PARTIAL,
    REDUCE,
    REVERSE,
    SCATTER,
    SCRATCH,
    SINGLE,
    SIZE,
    SPREAD,
    STATE,
    STEP,
    STREAM,
    SWEEP_VALUES,
    TARGET,
    TERMS,
    VECTOR,
    WHAT,
    WIDE,
    WIDTH,
    ZERO,
    A,
    B,
    C,
    G,
    K,
    P,
    Q,
    Y,
    fill,
    sum_kernel,
)  # fmt: skip
from tapegrad.core.schedule import MORE, MORE_WORKERS, NO_MEMORY, OK, is_evaluated
from tapegrad.core.storage import check_guards_of
from tapegrad.core.walks import (
    AHEAD,
    BLOCK,
    CHUNK,
    CODE,
    CONTEXT_AT,
    INNER,
    N_AHEAD,
    N_CHUNKS,
    N_CODE,
    N_ROWS,
    N_SETUP,
    PARTIAL_BYTES,
    PIECES_AT,
    REGISTER,
    SETUP,
    SHARED_BYTES,
    WORDS,
    WORDS_A_REGISTER,
)  # fmt: skip
from tapegrad.core.workers import WORTH_WAKING
from tapegrad.debug import MEMORY
from tapegrad.kernels import CONTEXT, JOIN, SETTLE
from tapegrad.memory import (
    call1,
    call4,
    call5,
    call6,
    call8,
    fetch_line,
    i4,
    i8,
    part3,
    part5,
    part7,
    part10,
    rows_at,
    slots_at,
    stream_line,
    u1,
)  # fmt: skip
from tapegrad.tape import CONTEXT_BYTES, OWNED, STORED, TABLES, H

N_CONTEXT = len(CONTEXT)
_MOST_PARAMS = 32


def sweep_region(header, region, sweeps):
    """Sweep a region: its values, its adjoints, or both; MORE where the budget ran out before its end."""
    h = i8(header, len(H))
    if h[H.bound] != region:
        if not part3(h[H.bind], header, region, sweeps):
            return NO_MEMORY
        h[H.bound], h[H.at_chunk] = region, 0
    tables = i8(h[H.tables], TABLES)
    n_chunks = tables[N_CHUNKS]
    cost = tables[CHUNK] * tables[INNER] * (1 + tables[N_CODE])
    while h[H.at_chunk] < n_chunks:
        if h[H.budget] < 0:
            return MORE
        n = min(n_chunks - h[H.at_chunk], 1 + max(h[H.budget] // max(cost, 1), 0))
        if n > 1 and h[H.missing_workers] and n * cost > WORTH_WAKING:
            return MORE_WORKERS
        part5(h[H.share], header, h[H.run_chunk], h[H.at_chunk], n, n * cost)
        h[H.budget] -= n * cost
        h[H.at_chunk] += n
    _settle(h, tables)
    drop_large_partials(h)
    h[H.bound] = -1
    if sweeps & SWEEP_VALUES:
        _complete(h, region)
    return OK


def _settle(h, tables):
    """Join the states that chunks had apart, in their order, and make results of states."""
    for i in range(tables[N_CODE]):
        at = CODE + WORDS * i
        if tables[at + WHAT] != SCATTER:
            continue
        kernel, count, states, goal = tables[at + KERNEL], tables[at + COUNT], tables[at + Q], tables[at + GOAL]
        for chunk in range(tables[N_CHUNKS] if tables[at + PARTIAL] >= 0 else 0):
            own = h[H.partials] + tables[SHARED_BYTES] + chunk * tables[PARTIAL_BYTES] + tables[at + PARTIAL]
            if MEMORY:
                nbytes = count * tables[goal + STATE]
                check_behind(h, BEHIND_SUM, tables[at + OF_ROW], own + nbytes, -nbytes % 64 + GAP)
            call6(kernel, count, 1, own, states, count, JOIN)
        if tables[goal + FINISH]:
            call4(tables[goal + FINISH], count, states, tables[goal + TERMS], tables[goal + TARGET])
        elif states != tables[goal + TARGET]:
            call6(kernel, count, 1, states, tables[goal + TARGET], count, SETTLE)


def _complete(h, region):
    """Mark what is now in memory."""
    rows, slots = rows_at(h[H.rows], h[H.end]), slots_at(h[H.slots], h[H.top])
    marks = u1(h[H.marks], h[H.top])
    order, begin = i4(h[H.order], h[H.n_planned]), i4(h[H.begin], h[H.n_regions] + 1)
    for i in range(begin[region], begin[region + 1]):
        row = rows[order[i]]
        out = row["out"]
        if slots[out]["primal"] != 0 and is_evaluated(slots, marks, row):
            slots[out]["flags"] = slots[out]["flags"] | STORED | OWNED


def _address(tables, r, row, scratch):
    at = REGISTER + WORDS_A_REGISTER * r
    return tables[at + BASE] + tables[at + STEP] * row + tables[at + SCRATCH] * scratch


def run_chunk(header, chunk, scratch):
    """Run a region's program over the rows of a chunk; `scratch` is the thread's memory."""
    h = i8(header, len(H))
    tables = i8(h[H.tables], TABLES)
    inner = tables[INNER]
    row = chunk * tables[CHUNK]
    stop = min(row + tables[CHUNK], tables[N_ROWS])
    block = min(tables[BLOCK], stop - row)
    if MEMORY:
        fill_pattern(scratch, all_places_bytes(tables))
    for i in range(tables[N_SETUP]):
        at = SETUP + WORDS * i
        part5(h[H.spread], h[H.tables], at, row, block, scratch)
    partials = h[H.partials] + tables[SHARED_BYTES] + chunk * tables[PARTIAL_BYTES]
    if tables[PARTIAL_BYTES]:
        for i in range(tables[N_CODE]):
            at = CODE + WORDS * i
            if tables[at + PARTIAL] >= 0:
                begin_states(tables, at, partials + tables[at + PARTIAL])
    while row < stop:
        n_rows = min(block, stop - row)
        for i in range(tables[N_CODE]):
            at = CODE + WORDS * i
            what, kernel, width = tables[at + WHAT], tables[at + KERNEL], tables[at + WIDTH]
            n = n_rows * inner if width == WIDE else n_rows if width == NARROW else 1
            if what == FORWARD:
                call6(
                    kernel, n, tables[at + MODE], _address(tables, tables[at + A], row, scratch),
                    _address(tables, tables[at + B], row, scratch), _address(tables, tables[at + C], row, scratch),
                    _address(tables, tables[at + Y], row, scratch),
                )  # fmt: skip
            elif what == REVERSE:
                call8(
                    kernel, n, tables[at + MODE], _address(tables, tables[at + A], row, scratch),
                    _address(tables, tables[at + B], row, scratch), _address(tables, tables[at + C], row, scratch),
                    _address(tables, tables[at + Y], row, scratch), _address(tables, tables[at + G], row, scratch),
                    _address(tables, tables[at + K], row, scratch),
                )  # fmt: skip
            elif what == SCATTER:
                target = tables[at + Q] if tables[at + PARTIAL] < 0 else partials + tables[at + PARTIAL]
                part10(
                    h[H.scatter], h[H.tables], tables[at + P], _address(tables, tables[at + A], row, scratch), target,
                    row * inner if width == WIDE else row, n, tables[at + MODE],
                    min(tables[tables[at + GOAL] + STATE], 8), tables[at + COUNT], kernel,
                )  # fmt: skip
            elif what == GATHER:
                part7(
                    h[H.gather], h[H.tables], tables[at + P], tables[at + Q],
                    _address(tables, tables[at + Y], row, scratch), row * inner if width == WIDE else row, n,
                    tables[at + MODE],
                )  # fmt: skip
            elif what == SPREAD:
                part5(h[H.spread], h[H.tables], at, row, n_rows, scratch)
            elif what == STREAM:
                part5(h[H.stream], h[H.tables], at, row, n_rows, scratch)
            elif what == REDUCE:
                part5(h[H.reduce_rows], h[H.tables], at, row, n_rows, scratch)
            else:
                part5(h[H.run_along], header, at, row, n_rows, scratch)
            if MEMORY:
                _check_instruction(h, tables, at, row, n_rows, scratch)
                _fill_dead(tables, i, scratch)
            if tables[N_AHEAD] and row + n_rows < stop:
                _fetch(tables, row, n_rows, i)
        row += n_rows
    return OK


def _check_instruction(h, tables, at, row, n_rows, scratch):
    """Whether an instruction has kept within the memory of its result."""
    what = tables[at + WHAT]
    if what == STREAM:
        check_guards_of(h, tables[at + OF_ROW], tables[at + Q])
        return
    if what == SCATTER:
        if tables[at + PARTIAL] >= 0:
            return  # until the sums of chunks are joined
        if tables[at + Q] == tables[tables[at + GOAL] + TARGET]:
            check_guards_of(h, tables[at + OF_ROW], tables[at + Q])
        else:
            nbytes = tables[at + COUNT] * tables[tables[at + GOAL] + STATE]
            check_behind(h, BEHIND_SUM, tables[at + OF_ROW], tables[at + Q] + nbytes, -nbytes % 64 + GAP)
        return
    r = tables[at + K] if what == REVERSE or what == BACK else tables[at + Y]
    to = REGISTER + WORDS_A_REGISTER * r
    if tables[to + SCRATCH] == 0:
        check_guards_of(h, tables[at + OF_ROW], tables[to + BASE])
        return
    level = tables[to + LEVEL]
    n = n_rows * tables[INNER] if level == WIDE else n_rows if level == NARROW else 1
    written = n * tables[to + SIZE]
    begin, place = _address(tables, r, row, scratch), place_bytes(tables, level)
    check_behind(h, BEHIND_REGISTER, tables[at + OF_ROW], begin + written, place - written)


def _fill_dead(tables, i, scratch):
    """After instruction i of a block, fill the registers that nothing reads any more."""
    for word in range(A, K + 1):
        r = REGISTER + WORDS_A_REGISTER * tables[CODE + WORDS * i + word]
        if tables[r + SCRATCH] and tables[r + DIES] == i:
            fill_pattern(scratch + tables[r + BASE], place_bytes(tables, tables[r + LEVEL]))


def _fetch(tables, row, n_rows, i):
    """After instruction i of a block, ask for its share of what the next block reads."""
    n = tables[N_CODE]
    for k in range(tables[N_AHEAD]):
        at = REGISTER + WORDS_A_REGISTER * tables[AHEAD + k]
        begin, lines = tables[at + BASE] + tables[at + STEP] * (row + n_rows), tables[at + STEP] * n_rows // 64
        for line in range(lines * i // n, lines * (i + 1) // n):
            fetch_line(begin + 64 * line)


def spread(at_tables, at, row, n_rows, scratch):
    """Bring a register's elements to all lanes that read them."""
    tables = i8(at_tables, TABLES)
    level = tables[REGISTER + WORDS_A_REGISTER * tables[at + A] + LEVEL]
    size, lanes = tables[at + MODE], tables[INNER] if tables[at + WIDTH] == WIDE else 1
    source = _address(tables, tables[at + A], row, scratch)
    target = _address(tables, tables[at + Y], row, scratch)
    # A single element fills all, an element a row fills its row; a row is repeated.
    if level == SINGLE:
        lanes, n_rows = lanes * n_rows, 1
    for r in range(n_rows):
        to = target + r * lanes * size
        of = source if level == VECTOR else source + r * tables[REGISTER + WORDS_A_REGISTER * tables[at + A] + SIZE]
        if level == VECTOR:
            words = lanes * size
            for j in range(words):
                u1(to, words)[j] = u1(of, words)[j]
        elif size == 8:
            fill(to, lanes, i8(of, 1)[0], 8)
        elif size == 4:
            fill(to, lanes, i4(of, 1)[0], 4)
        else:
            fill(to, lanes, u1(of, 1)[0], 1)
    return OK


def stream(at_tables, at, row, n_rows, scratch):
    """Write a register to memory past the caches: whole lines of them, the ends as usual.

    Such writes may become visible late; the atomic addition by which a worker says that its chunk is done orders them.
    """
    tables = i8(at_tables, TABLES)
    nbytes = n_rows * tables[INNER] * tables[at + MODE]
    source, target = _address(tables, tables[at + A], row, scratch), tables[at + Q] + tables[at + P] * row
    begin = min(-target % 64, nbytes)
    end = begin + (nbytes - begin) // 64 * 64
    for i in range(begin):
        u1(target, nbytes)[i] = u1(source, nbytes)[i]
    for i in range(begin, end, 64):
        stream_line(target + i, source + i)
    for i in range(end, nbytes):
        u1(target, nbytes)[i] = u1(source, nbytes)[i]
    return OK


def reduce_rows(at_tables, at, row, n_rows, scratch):
    """Reduce each row to an element, which is begun anew or (COUNT: 1 for a sum that goes on) added to."""
    tables = i8(at_tables, TABLES)
    source = _address(tables, tables[at + A], row, scratch)
    target = _address(tables, tables[at + Y], row, scratch)
    call5(tables[at + KERNEL], n_rows, tables[INNER], source, target, tables[at + COUNT])
    return OK


def run_along(header, at, row, n_rows, scratch):
    """An array operation along the rows of a block, in reverse too; its context lies before the registers."""
    h = i8(header, len(H))
    tables = i8(h[H.tables], TABLES)
    inner, what = tables[INNER], tables[at + WHAT]
    if what == ZERO:
        fill(_address(tables, tables[at + Y], row, scratch), n_rows * inner, 0, tables[at + MODE])
        return OK
    pool = i8(h[H.pool], h[H.n_pool])
    context, params = i8(scratch - CONTEXT_BYTES, N_CONTEXT), i8(scratch - CONTEXT_BYTES + 256, _MOST_PARAMS)
    n_params = pool[tables[at + P] - 1]
    for i in range(n_params):
        params[i] = pool[tables[at + P] + i]
    params[0] = n_rows
    n_results = n_rows * inner if tables[at + WIDTH] == WIDE else n_rows
    for i in range(N_CONTEXT):
        context[i] = 0
    context[0], context[1] = scratch - CONTEXT_BYTES + 256, n_params
    context[5], context[8] = (
        _address(tables, tables[at + A], row, scratch),
        _address(tables, tables[at + Y], row, scratch),
    )
    context[9], context[12] = n_rows * inner, n_results
    if what == BACK:
        context[13] = _address(tables, tables[at + G], row, scratch)
        context[14], context[23] = _address(tables, tables[at + K], row, scratch), n_rows * inner
    call1(tables[at + KERNEL], scratch - CONTEXT_BYTES)
    return OK


# --- array rows -------------------------------------------------------------------------------------------------------

# What the pieces of an array row's work have in common: the kernel; how many units there are, and in a piece; how many
# pieces; whether they are outer parts of arrays, with the bytes of a unit of each; and the memory to which each piece
# adds apart: how many elements, bytes in all and of one, and of which array of the context. The context lies before.
PIECE_KERNEL, UNITS, A_PIECE, N_PIECES, OUTER, APART, APART_COUNT, APART_BYTES, APART_AT = range(9)
UNIT_BYTES = 10  # of a, b, c, y, y_bar, k_bar
_PIECE_WORK = 20_000  # elements that are worth a piece


def run_pieces(header, kernel, units, outer, apart_at, apart_count, apart_code, elements):
    """Call an array kernel for all its units, shared out in pieces; what they sum is joined in their order.

    Sums of floats are float64, of integers in one piece.
    """
    h = i8(header, len(H))
    i8(h[H.tables], TABLES)
    context, pieces = i8(h[H.tables] + 8 * CONTEXT_AT, N_CONTEXT), i8(h[H.tables] + 8 * PIECES_AT, 32)
    n_pieces = max(1, min(elements // _PIECE_WORK, MOST_CHUNKS, units))
    apart_bytes = (apart_count * 8 + 63) // 64 * 64 + GAP if apart_count and apart_code >= 3 else 0
    if apart_count and apart_bytes == 0:
        n_pieces = 1
    if apart_bytes and apart_bytes * n_pieces > MOST_PARTIAL_BYTES:
        n_pieces = max(1, MOST_PARTIAL_BYTES // apart_bytes)
    a_piece = (units + n_pieces - 1) // max(n_pieces, 1)
    n_pieces = (units + a_piece - 1) // max(a_piece, 1)
    pieces[PIECE_KERNEL], pieces[UNITS], pieces[A_PIECE], pieces[N_PIECES] = kernel, units, a_piece, n_pieces
    pieces[OUTER], pieces[APART], pieces[APART_COUNT], pieces[APART_AT] = outer, 0, apart_count, apart_at
    pieces[APART_BYTES] = apart_bytes
    if apart_bytes and (n_pieces > 1 or apart_code == 3):
        if not hold_partials(h, apart_bytes * n_pieces):
            return NO_MEMORY
        pieces[APART] = h[H.partials]
    part5(h[H.share], header, h[H.run_piece], 0, n_pieces, elements * 8)
    if pieces[APART]:
        add = sum_kernel(h, apart_code)
        for i in range(n_pieces):
            if MEMORY:
                nbytes = apart_count * 8
                check_behind(h, BEHIND_SUM, h[H.at_row], pieces[APART] + i * apart_bytes + nbytes, -nbytes % 64 + GAP)
            if i > 0:
                call6(add, apart_count, 1, pieces[APART] + i * apart_bytes, pieces[APART], apart_count, JOIN)
        call6(add, apart_count, 1, pieces[APART], context[apart_at], apart_count, SETTLE)
        drop_large_partials(h)
    return OK


def run_piece(header, index, scratch):
    """Run a piece of an array row's work, with a context of its own."""
    h = i8(header, len(H))
    shared, pieces = i8(h[H.tables] + 8 * CONTEXT_AT, N_CONTEXT), i8(h[H.tables] + 8 * PIECES_AT, 32)
    context, params = i8(scratch - CONTEXT_BYTES, N_CONTEXT), i8(scratch - CONTEXT_BYTES + 256, _MOST_PARAMS)
    lo = index * pieces[A_PIECE]
    hi = min(lo + pieces[A_PIECE], pieces[UNITS])
    for i in range(N_CONTEXT):
        context[i] = shared[i]
    context[15], context[16], context[26] = lo, hi, scratch
    if pieces[OUTER]:
        for i in range(shared[1]):
            params[i] = i8(shared[0], shared[1])[i]
        params[0] = hi - lo
        context[0] = scratch - CONTEXT_BYTES + 256
        for i in range(4):  # a, b, c, y and how many elements they have
            context[5 + i] += lo * pieces[UNIT_BYTES + i]
            context[9 + i] = shared[9 + i] // pieces[UNITS] * (hi - lo)
        context[13] += lo * pieces[UNIT_BYTES + 4]
        context[14] += lo * pieces[UNIT_BYTES + 5]
        context[23] = shared[23] // pieces[UNITS] * (hi - lo)
    if pieces[APART]:
        own = pieces[APART] + index * pieces[APART_BYTES]
        fill(own, pieces[APART_COUNT], 0, 8)
        context[pieces[APART_AT]] = own
    call1(pieces[PIECE_KERNEL], scratch - CONTEXT_BYTES)
    return OK
