"""The sweeps: forward computes values, reverse accumulates adjoints, region by region, block by block.

Forward: load, run the rows, store what must be stored. Reverse: load again, run the rows again, then the partials,
newest row first; add to the operands' adjoints. So a chain of K operations moves its inputs and outputs through memory,
not K times as much.

`run` and the functions that its header holds the addresses of (`PARTS`) are compiled each on its own and call each
other by address, with int64 only: compiled into one another they would take Numba three times as long.
"""

from tapegrad.core.blocks import (
    N_CONTEXT,
    UNIT_BYTES,
    reduce_rows,
    run_along,
    run_chunk,
    run_piece,
    run_pieces,
    spread,
    stream,
    sweep_region,
)  # fmt: skip
from tapegrad.core.guards import BEHIND_WORK, GUARD, check_behind, fill_pattern
from tapegrad.core.partials import bind_adjoints
from tapegrad.core.programs import bind, place
from tapegrad.core.registers import (
    N_CODES,
    SWEEP_ADJOINTS,
    SWEEP_VALUES,
    bind_values,
    fill,
    hold_adjoint,
    hold_value,
    kernel_cell,
    nbytes,
    sum_kernel,
)  # fmt: skip
from tapegrad.core.scalars import are_scalars, scalar_adjoints, scalar_values, sweep_scalars
from tapegrad.core.schedule import (
    ADJOINT,
    AT_HOST,
    DAMAGED,
    FAILED,
    MORE,
    MORE_WORKERS,
    NO_MEMORY,
    NO_REGIONS,
    OK,
    WANTED,
    arity,
    finish,
    is_active,
    is_evaluated,
    make_regions,
    mark_active,
    mark_values,
    operand,
    schedule,
)  # fmt: skip
from tapegrad.core.storage import check_blocks_let_go, check_guards, give_back, obtain
from tapegrad.core.walks import CONTEXT_AT, ITEMSIZE, N_WALKS, PIECES_AT, WORK_AT, enter_walk, gather, scatter
from tapegrad.core.workers import rest, share
from tapegrad.debug import MEMORY
from tapegrad.kernels import CELLS, SETTLE
from tapegrad.kinds import CONTIGUOUS
from tapegrad.memory import (
    call1,
    call6,
    f4,
    f8,
    i4,
    i8,
    kinds_at,
    ops_at,
    part1,
    part2,
    part3,
    part7,
    part8,
    part10,
    rows_at,
    slots_at,
    u1,
)  # fmt: skip
from tapegrad.ops.declare import HOST, LAYOUT, UNITS_OF_B
from tapegrad.tape import FIRST, LAST, OWNED, PARAMS, PIECE, STORED, TABLES, H

# What `run` has done; REVERSE tells Python which way a host row is swept. Nothing is begun: IDLE.
PLAN, FORWARD_STEP, REVERSE_STEP, ABORT = 1, 2, 3, 4
_BLAS_SHARES = 10_000  # elements of the largest operand from which BLAS may take threads of its own
WORK_BYTES = 128  # for the arguments of BLAS and LAPACK
assert CONTEXT_AT + N_CONTEXT <= WORK_AT - GUARD // 8
_AT_ONCE = 1_000_000  # lanes of an instruction that may be swept together with a sweep's end: less than a millisecond


def run(header):
    """Plan and sweep until done (OK), out of budget (MORE) or at a row that Python computes (AT_HOST): then call again.

    Or an error, after which nothing has changed.
    """
    h = i8(header, len(H))
    status, budget = OK, h[H.budget]
    if h[H.phase] == PLAN:
        status = part1(h[H.schedule], header)
        if status != OK:
            part2(h[H.finish], header, 0)
            return status
        if h[H.n_regions] == NO_REGIONS:
            status = part1(h[H.sweep_scalars], header)
            if MEMORY and not check_guards(h, -1):
                status = DAMAGED
            part2(h[H.finish], header, 1 if status == OK else 0)
            return status
        h[H.at_step], h[H.bound], h[H.phase] = 0, -1, FORWARD_STEP  # planned: what comes after a pause goes on
    n, fused = h[H.n_regions], h[H.fused]
    n_steps = n if h[H.n_seeds] == 0 else 2 * n + (1 if fused < 0 else 0)
    while h[H.at_step] < n_steps and h[H.phase] != ABORT and status == OK:
        status = MORE if h[H.budget] < 0 else step(h, n, fused)
        if MEMORY and not check_guards(h, h[H.at_row]):
            status = DAMAGED
        if status == OK:
            h[H.at_step] += 1
    if h[H.phase] == ABORT:
        status = NO_MEMORY
    elif status == OK and budget - h[H.budget] > _AT_ONCE:
        return MORE  # a signal that came meanwhile is met before anything is final
    if status != MORE and status != AT_HOST and status != MORE_WORKERS:
        if MEMORY:
            h[H.at_row] = -1
            check_blocks_let_go(h)
        part2(h[H.finish], header, 1 if status == OK else 0)
    return status


def step(h, n, fused):
    """One step: regions forward, the seeds, regions in reverse.

    Where a region is fused, the steps are: the regions before it forward, the seeds, those after it in reverse, the
    region itself both ways, those after it forward, and those before it in reverse.
    """
    s, turn = h[H.at_step], n if fused < 0 else fused
    if s < turn:
        return forward(h, s)
    if s == turn:
        h[H.host_row] = -1
        return part1(h[H.seed], h[H.self])
    if fused < 0:
        return reverse(h, 2 * n - s)
    s -= turn + 1
    after = n - 1 - fused
    if s < after:
        return reverse(h, n - 1 - s)
    if s == after:
        if MEMORY:
            h[H.at_row] = first_row(h, fused)
        status = part3(h[H.sweep_region], h[H.self], fused, SWEEP_VALUES | SWEEP_ADJOINTS)
        if status == OK:
            release_adjoints(h, fused)
        return status
    s -= after + 1
    return forward(h, fused + 1 + s) if s < after else reverse(h, fused - 1 - (s - after))


def forward(h, region):
    """The values of a region."""
    if MEMORY:
        h[H.at_row] = first_row(h, region)
    h[H.phase] = FORWARD_STEP
    if i4(h[H.spaces], h[H.n_regions])[region] >= 0:
        return part3(h[H.sweep_region], h[H.self], region, SWEEP_VALUES)
    return part2(h[H.forward_whole], h[H.self], first_row(h, region))


def reverse(h, region):
    """The adjoints of a region's operands."""
    if MEMORY:
        h[H.at_row] = first_row(h, region)
    h[H.phase] = REVERSE_STEP
    if i4(h[H.spaces], h[H.n_regions])[region] >= 0:
        status = part3(h[H.sweep_region], h[H.self], region, SWEEP_ADJOINTS)
    else:
        status = part2(h[H.reverse_whole], h[H.self], first_row(h, region))
    if status == OK:
        release_adjoints(h, region)
    return status


def first_row(h, region):
    return i4(h[H.order], h[H.n_planned])[i4(h[H.begin], h[H.n_regions] + 1)[region]]


def seed(header):
    """Enter the given adjoints: ones, or the value of another slot."""
    h = i8(header, len(H))
    slots, kinds = slots_at(h[H.slots], h[H.top]), kinds_at(h[H.kinds], h[H.n_kinds])
    n_targets, n_seeds = h[H.n_targets], h[H.n_seeds]
    lists, marks = i4(h[H.lists], n_targets + 2 * n_seeds), u1(h[H.marks], h[H.top])
    tables = i8(h[H.tables], TABLES)
    for i in range(n_seeds):
        slot, given = lists[n_targets + 2 * i], lists[n_targets + 2 * i + 1]
        if marks[slot] & ADJOINT == 0:
            continue  # it leads to nothing that is wanted
        if not hold_adjoint(h, kinds, slots, slot):
            return NO_MEMORY
        kind = slots[slot]["kind"]
        code, n = kinds[kind]["dtype"], kinds[kind]["numel"]
        at = slots[slot]["adjoint"]
        if given < 0:
            for j in range(n):
                if code == 4:
                    f8(at, n)[j] += 1.0
                else:
                    f4(at, n)[j] += 1.0
            continue
        # The given value may have any strides; the adjoint is contiguous. The roles of source and target are swapped in
        # the walk.
        source = slots[given]["kind"]
        tables[N_WALKS] = 0
        pool, dims = i8(h[H.pool], h[H.n_pool]), kinds[source]["dims"]
        walk = enter_walk(tables, pool, dims, kinds[source]["ndim"], pool, dims + kinds[source]["ndim"], 1)
        scratch = h[H.scratch]
        done = 0
        while done < n:
            length = min(n - done, 4096)
            part7(h[H.gather], h[H.tables], walk, slots[given]["primal"], scratch, done, length, ITEMSIZE[code])
            for j in range(length):
                if code == 4:
                    f8(at, n)[done + j] += f8(scratch, length)[j]
                else:
                    f4(at, n)[done + j] += f4(scratch, length)[j]
            done += length
    return OK


def release_adjoints(h, region):
    """Let go of the adjoints that a region has passed on."""
    begin = i4(h[H.begin], h[H.n_regions] + 1)
    rows, slots = rows_at(h[H.rows], h[H.end]), slots_at(h[H.slots], h[H.top])
    marks, order = u1(h[H.marks], h[H.top]), i4(h[H.order], h[H.n_planned])
    for i in range(begin[region], begin[region + 1]):
        row = rows[order[i]]
        out = row["out"]
        if row["flags"] & PIECE and row["flags"] & FIRST == 0:
            continue  # a slot that several rows fill is done with the oldest
        if slots[out]["adjoint"] != 0 and marks[out] & WANTED == 0:
            part2(h[H.give_back], h[H.self], slots[out]["adjoint"])
            slots[out]["adjoint"] = 0


def forward_whole(header, r):
    """The value of a row that is no part of a region."""
    h = i8(header, len(H))
    rows, slots = rows_at(h[H.rows], h[H.end]), slots_at(h[H.slots], h[H.top])
    kinds, marks = kinds_at(h[H.kinds], h[H.n_kinds]), u1(h[H.marks], h[H.top])
    row = rows[r]
    out = row["out"]
    if not is_evaluated(slots, marks, row):
        return OK
    family = ops_at(h[H.ops], 256)[row["opcode"]]["family"]
    if family == HOST:
        h[H.host_row] = r
        return AT_HOST  # called again when Python has stored the value
    if family == LAYOUT:
        base = slots[row["a"]]["base"]
        offset = i8(h[H.rows] + 24 * r + 8, 1)[0]
        if row["flags"] & PARAMS:
            offset = i8(h[H.pool], h[H.n_pool])[row["c"]]
        slots[out]["primal"] = slots[row["a"]]["primal"] + offset
        slots[out]["base"] = base if base >= 0 else row["a"]
        slots[out]["flags"] = slots[out]["flags"] | STORED
        return OK
    if wants_workers(h, kinds, slots, row):
        return MORE_WORKERS
    if not hold_value(h, kinds, slots, out):
        return NO_MEMORY
    cell, _ = kernel_cell(h, kinds, slots, row)
    _context(h, kinds, slots, row)
    numel, code = kinds[row["kind"]]["numel"], kinds[row["kind"]]["dtype"]
    summed = ops_at(h[H.ops], 256)[row["opcode"]]["summed"] & 1
    if summed:
        fill(slots[out]["primal"], numel, 0, ITEMSIZE[code])
    kernel = i8(h[H.kernels], 256 * N_CODES * CELLS)[cell]
    status = _run_array(h, kinds, slots, row, kernel, 0, 8, numel if summed else 0, code)
    if status != OK:
        h[H.error_row] = r
        return status
    h[H.budget] -= 4 * numel
    if row["flags"] & PIECE == 0 or row["flags"] & LAST:
        slots[out]["flags"] = slots[out]["flags"] | STORED | OWNED
    return OK


def wants_workers(h, kinds, slots, row):
    """Whether an array row is worth starting threads that are not there yet."""
    numel = max(kinds[row["kind"]]["numel"], kinds[slots[row["a"]]["kind"]]["numel"])
    return h[H.missing_workers] != 0 and numel > 50_000


def _run_array(h, kinds, slots, row, kernel, part, apart_at, apart_count, apart_code):
    """Run an array kernel (part 0: the value; 1 + k: the adjoint of operand k), shared out where it can be."""
    op, context = ops_at(h[H.ops], 256)[row["opcode"]], i8(h[H.tables] + 8 * CONTEXT_AT, N_CONTEXT)
    if op["shared"] >> part & 1 == 0:
        context[25] = 0
        if op["adding"] >> part & 1 and ITEMSIZE[kinds[row["kind"]]["dtype"]] == 4:
            context[25] = context[12] if part == 0 else kinds[slots[operand(row, part - 1)]["kind"]]["numel"]
        return _run_alone(h, kinds, row, kernel, op["room"] - 1 if op["working"] >> part & 1 else -1)
    elements = context[12]
    for k in range(3):
        elements = max(elements, context[9 + k])
    outer, units = op["along"], context[10]
    if outer or op["units"] < UNITS_OF_B:
        units = i8(context[0], context[1])[0 if outer else op["units"]]
    if outer and units:
        pieces = i8(h[H.tables] + 8 * PIECES_AT, 32)
        size = ITEMSIZE[kinds[slots[row["a"]]["kind"]]["dtype"]]
        pieces[UNIT_BYTES], pieces[UNIT_BYTES + 1], pieces[UNIT_BYTES + 2] = context[9] // units * size, 0, 0
        pieces[UNIT_BYTES + 3] = context[12] // units * ITEMSIZE[kinds[row["kind"]]["dtype"]]
        pieces[UNIT_BYTES + 4], pieces[UNIT_BYTES + 5] = pieces[UNIT_BYTES + 3], pieces[UNIT_BYTES]
    return part8(h[H.run_pieces], h[H.self], kernel, units, outer, apart_at, apart_count, apart_code, elements)


def _run_alone(h, kinds, row, kernel, room):
    """Run an array kernel on this thread, with memory to work in: its elements are parameter `room`, -1 for none."""
    context = i8(h[H.tables] + 8 * CONTEXT_AT, N_CONTEXT)
    context[17] = context[20] = 0
    if room >= 0:
        context[21] = i8(context[0], context[1])[room]
        context[20] = part3(h[H.obtain], h[H.self], context[21] * ITEMSIZE[kinds[row["kind"]]["dtype"]], 0)
        if context[20] == 0:
            return NO_MEMORY
    if context[25]:
        context[24] = part3(h[H.obtain], h[H.self], 8 * context[25], 1)
        if context[24] == 0:
            if context[20]:
                part2(h[H.give_back], h[H.self], context[20])
            return NO_MEMORY
    large = max(context[9], context[10], context[12]) > _BLAS_SHARES
    if large:
        rest(h[H.crew], 1)
    if MEMORY:
        fill_pattern(h[H.tables] + 8 * WORK_AT - GUARD, WORK_BYTES + 2 * GUARD)
    call1(kernel, h[H.tables] + 8 * CONTEXT_AT)
    if MEMORY:
        check_behind(h, BEHIND_WORK, h[H.at_row], h[H.tables] + 8 * WORK_AT - GUARD, GUARD)
        check_behind(h, BEHIND_WORK, h[H.at_row], h[H.tables] + 8 * WORK_AT + WORK_BYTES, GUARD)
    if large:
        rest(h[H.crew], 0)
    if context[20]:
        part2(h[H.give_back], h[H.self], context[20])
    if context[25]:
        part2(h[H.give_back], h[H.self], context[24])
    if context[17] == 0:
        return OK
    h[H.error_batch], h[H.error_index] = context[17] - 1, context[18]
    return FAILED


def _context(h, kinds, slots, row):
    """What an array kernel is given; returns its address."""
    context = i8(h[H.tables] + 8 * CONTEXT_AT, N_CONTEXT)
    n = arity(h, row)
    context[0] = context[1] = 0
    if row["flags"] & PARAMS:
        context[0] = h[H.pool] + 8 * row["c"]
        context[1] = i8(h[H.pool], h[H.n_pool])[row["c"] - 1]
    context[2], context[3] = h[H.gemm64], h[H.gemm32]
    context[4] = h[H.tables] + 8 * WORK_AT
    context[19] = h[H.lapack]
    for k in range(3):
        slot = operand(row, k) if k < n else -1
        context[5 + k] = slots[slot]["primal"] if slot >= 0 else 0
        context[9 + k] = _extent(h, kinds, slots[slot]["kind"]) if slot >= 0 else 0
    context[8], context[12] = slots[row["out"]]["primal"], kinds[row["kind"]]["numel"]
    return h[H.tables] + 8 * CONTEXT_AT


def _extent(h, kinds, kind):
    """How many elements lie between the first of a value and its last, both included; no stride is negative."""
    if kinds[kind]["flags"] & CONTIGUOUS:
        return kinds[kind]["numel"]
    pool, dims, n, extent = i8(h[H.pool], h[H.n_pool]), kinds[kind]["dims"], kinds[kind]["ndim"], 1
    for d in range(n):
        extent += (pool[dims + d] - 1) * pool[dims + n + d] // ITEMSIZE[kinds[kind]["dtype"]]
    return extent


def reverse_whole(header, r):
    """The adjoints of the operands of a row that is no part of a region."""
    h = i8(header, len(H))
    rows, slots = rows_at(h[H.rows], h[H.end]), slots_at(h[H.slots], h[H.top])
    kinds, marks = kinds_at(h[H.kinds], h[H.n_kinds]), u1(h[H.marks], h[H.top])
    row = rows[r]
    out = row["out"]
    if slots[out]["adjoint"] == 0 or not is_active(h, kinds, marks, row):
        return OK
    family = ops_at(h[H.ops], 256)[row["opcode"]]["family"]
    if family == HOST:
        if h[H.host_row] == r:  # Python has been there
            h[H.host_row] = -1
            return OK
        h[H.host_row] = r
        return AT_HOST
    if family == LAYOUT:
        return _reverse_layout(h, kinds, slots, marks, row, r)
    if wants_workers(h, kinds, slots, row):
        return MORE_WORKERS
    kernels = i8(h[H.kernels], 256 * N_CODES * CELLS)
    cell, _ = kernel_cell(h, kinds, slots, row)
    for k in range(arity(h, row)):
        o = operand(row, k)
        if o < 0 or marks[o] & ADJOINT == 0 or kernels[cell + 1 + k] == 0:
            continue
        begun = 1
        if slots[o]["adjoint"] == 0 and ops_at(h[H.ops], 256)[row["opcode"]]["beginning"] >> k & 1:
            begun = 0
            slots[o]["adjoint"] = part3(h[H.obtain], h[H.self], nbytes(kinds, slots[o]["kind"]), 0)
        if not hold_adjoint(h, kinds, slots, o):
            return NO_MEMORY
        context = i8(_context(h, kinds, slots, row), N_CONTEXT)
        numel, code = kinds[slots[o]["kind"]]["numel"], kinds[slots[o]["kind"]]["dtype"]
        context[13], context[14], context[22], context[23] = slots[out]["adjoint"], slots[o]["adjoint"], begun, numel
        summed = ops_at(h[H.ops], 256)[row["opcode"]]["summed"] >> (1 + k) & 1
        status = _run_array(h, kinds, slots, row, kernels[cell + 1 + k], 1 + k, 14, numel if summed else 0, code)
        if status != OK:
            return status
        h[H.budget] -= 4 * numel
    return OK


def _reverse_layout(h, kinds, slots, marks, row, r):
    """Add a view's adjoint to its base's, through the view's strides over the contiguous adjoint of the base."""
    out, a = row["out"], row["a"]
    kind, base_kind = row["kind"], slots[a]["kind"]
    size = ITEMSIZE[kinds[kind]["dtype"]]
    whole = kinds[kind]["numel"] == kinds[base_kind]["numel"] and kinds[kind]["flags"] & CONTIGUOUS
    if whole and row["flags"] & PARAMS == 0 and slots[a]["adjoint"] == 0 and marks[out] & WANTED == 0:
        slots[a]["adjoint"], slots[out]["adjoint"] = slots[out]["adjoint"], 0  # the same elements in the same order
        return OK
    if not hold_adjoint(h, kinds, slots, a):
        return NO_MEMORY
    tables, pool = i8(h[H.tables], TABLES), i8(h[H.pool], h[H.n_pool])
    tables[N_WALKS] = 0
    ndim, dims = kinds[kind]["ndim"], kinds[kind]["dims"]
    if row["flags"] & PARAMS:  # (offset in bytes, offset and strides in a contiguous base)
        offset = pool[row["c"] + 1]
        walk = enter_walk(tables, pool, dims, ndim, pool, row["c"] + 2, 1)
    else:
        offset = i8(h[H.rows] + 24 * r + 8, 1)[0]
        walk = enter_walk(tables, pool, dims, ndim, pool, dims + ndim, 1)
    kernel = sum_kernel(h, kinds[kind]["dtype"])
    n, n_base = kinds[kind]["numel"], kinds[base_kind]["numel"]
    given, target = slots[out]["adjoint"], slots[a]["adjoint"]
    h[H.budget] -= n
    if size == 8 or not _repeats(tables, walk, n, n_base):
        number = 8 if size == 8 else 0
        part10(h[H.scatter], h[H.tables], walk, given, target + offset, 0, n, size, number, n_base, kernel)
        return OK
    sums = part3(h[H.obtain], h[H.self], 8 * n_base, 1)  # float64 for float32
    if sums == 0:
        return NO_MEMORY
    for d in range(tables[walk]):
        tables[walk + 2 + 2 * d] *= 2
    part10(h[H.scatter], h[H.tables], walk, given, sums + 2 * offset, 0, n, size, 8, n_base, kernel)
    call6(kernel, n_base, 1, sums, target, n_base, SETTLE)
    part2(h[H.give_back], h[H.self], sums)
    return OK


def _repeats(tables, walk, n, n_base):
    """Whether a walk over `n` elements of `n_base` may meet some of them several times."""
    for d in range(tables[walk]):
        if tables[walk + 2 + 2 * d] == 0 and tables[walk + 1 + 2 * d] > 1:
            return True
    return n > n_base


# What is linked on its own: the function, and how many int64 it takes.
PARTS = {
    "obtain": (obtain, 3), "give_back": (give_back, 2), "schedule": (schedule, 1), "mark_active": (mark_active, 1),
    "mark_values": (mark_values, 3), "make_regions": (make_regions, 1), "finish": (finish, 2), "bind": (bind, 3),
    "bind_values": (bind_values, 3), "bind_adjoints": (bind_adjoints, 3), "place": (place, 1), "gather": (gather, 7),
    "scatter": (scatter, 10), "spread": (spread, 5), "stream": (stream, 5),
    "reduce_rows": (reduce_rows, 5), "run_along": (run_along, 5),
    "run_chunk": (run_chunk, 3), "run_piece": (run_piece, 3), "run_pieces": (run_pieces, 8), "share": (share, 5),
    "sweep_region": (sweep_region, 3), "seed": (seed, 1), "forward_whole": (forward_whole, 2),
    "reverse_whole": (reverse_whole, 2), "are_scalars": (are_scalars, 1), "sweep_scalars": (sweep_scalars, 1),
    "scalar_values": (scalar_values, 2), "scalar_adjoints": (scalar_adjoints, 2), "run": (run, 1),
}  # fmt: skip
