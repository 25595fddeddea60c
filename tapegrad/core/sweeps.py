"""The sweeps: forward computes values, reverse accumulates adjoints, region by region, block by block.

Forward: load, run the rows, store what must be stored. Reverse: load again, run the rows again, then the partials,
newest row first; add to the operands' adjoints. So a chain of K operations moves its inputs and outputs through memory,
not K times as much.
"""

from tapegrad.core.adjoints import APART, hold_adjoint, lend, nbytes
from tapegrad.core.blocks import run_pieces, show_views, sweep_region
from tapegrad.core.guards import BEHIND_WORK, GUARD, check_behind, fill_pattern
from tapegrad.core.observed import (
    ALONE,
    COPIED,
    FILLED,
    GIVEN,
    IN_PIECES,
    MERGED,
    ONES,
    PUT_BACK,
    SETTLED,
    tell,
)  # fmt: skip
from tapegrad.core.readers import count_down, is_last_reader
from tapegrad.core.registers import copy, fill, hold_value, kernels_of, sum_kernels
from tapegrad.core.rows import (
    ADJOINT,
    AT_HOST,
    DAMAGED,
    FAILED,
    MORE,
    MORE_WORKERS,
    NO_MEMORY,
    OK,
    WANTED,
    arity,
    complete,
    drop_adjoint,
    is_active,
    is_evaluated,
    operand,
)  # fmt: skip
from tapegrad.core.scalars import sweep_scalars
from tapegrad.core.schedule import NO_REGIONS, OF_MEMORY, finish, schedule
from tapegrad.core.segments import ends_with, let_go, n_steps_in_segments
from tapegrad.core.storage import check_blocks_let_go, check_guards, give_back, obtain
from tapegrad.core.tables import ITEMSIZE, SWEEP_ADJOINTS, SWEEP_VALUES, WORK_BYTES, Walk
from tapegrad.core.walks import enter_walk, gather, put, scatter
from tapegrad.core.workers import rest
from tapegrad.debug import MEMORY
from tapegrad.kernels import SETTLE
from tapegrad.kinds import CONTIGUOUS
from tapegrad.memory import call1, call6, f4, f8, part
from tapegrad.ops.declare import HOST, LAYOUT, ROOM_OF_A, UNITS_OF_B
from tapegrad.tape import FIRST, LAST, LENT, OWNED, PARAMS, PIECE, STORED, Header

# What `run` has done; REVERSE tells Python which way a host row is swept. Nothing is begun: IDLE.
PLAN, FORWARD_STEP, REVERSE_STEP, ABORT = 1, 2, 3, 4
_BLAS_SHARES = 10_000  # elements of the largest operand from which BLAS may take threads of its own
_AT_ONCE = 1_000_000  # lanes of an instruction that may be swept together with a sweep's end: less than a millisecond


@part
def run(tape: Header):
    """Plan and sweep until done (OK), out of budget (MORE) or at a row that Python computes (AT_HOST): then call again.

    Or an error, after which nothing has changed.
    """
    progress = tape.progress
    status, budget = OK, progress.budget
    if progress.phase == PLAN:
        status = schedule(tape)
        if status != OK:
            finish(tape, 0)
            return status
        if tape.plan.n_regions == NO_REGIONS:
            status = sweep_scalars(tape)
            if MEMORY and not check_guards(tape, -1):
                status = DAMAGED
            return status
        progress.at_step, progress.bound, progress.phase = 0, -1, FORWARD_STEP  # what comes after a pause goes on
        if tape.request.paced:
            return MORE
    n, fused = tape.plan.n_regions, tape.plan.fused
    in_segments = tape.segments.n_segments > 1
    n_steps = n if tape.request.n_seeds == 0 else 2 * n + (1 if fused < 0 else 0)
    if in_segments:
        n_steps = n_steps_in_segments(tape)
    while progress.at_step < n_steps and progress.phase != ABORT and status == OK:
        status = MORE if progress.budget < 0 else step_in_segments(tape, n) if in_segments else step(tape, n, fused)
        if MEMORY and not check_guards(tape, tape.guarded.at_row):
            status = DAMAGED
        if status == OK:
            progress.at_step += 1
            if tape.request.paced and progress.at_step < n_steps:
                return MORE
    if progress.phase == ABORT:
        status = NO_MEMORY
    elif status == OK and budget - progress.budget > _AT_ONCE:
        return MORE  # a signal that came meanwhile is met before anything is final
    if status != MORE and status != AT_HOST and status != MORE_WORKERS:
        if MEMORY:
            tape.guarded.at_row = -1
            check_blocks_let_go(tape)
        finish(tape, 1 if status == OK else 0)
    return status


def step(tape, n, fused):
    """One step: regions forward, the seeds, regions in reverse.

    Where a region is fused, the steps are: the regions before it forward, the seeds, those after it in reverse, the
    region itself both ways, those after it forward, and those before it in reverse.
    """
    s, turn = tape.progress.at_step, n if fused < 0 else fused
    if s < turn:
        return forward(tape, s)
    if s == turn:
        tape.progress.host_row = -1
        return seed(tape)
    if fused < 0:
        return reverse(tape, 2 * n - s)
    s -= turn + 1
    after = n - 1 - fused
    if s < after:
        return reverse(tape, n - 1 - s)
    if s == after:
        if MEMORY:
            tape.guarded.at_row = first_row(tape, fused)
        status = add_views(tape, fused)
        if status == OK:
            status = sweep_region(tape, fused, SWEEP_VALUES | SWEEP_ADJOINTS)
        if status == OK:
            release_adjoints(tape, fused)
        return status
    s -= after + 1
    return forward(tape, fused + 1 + s) if s < after else reverse(tape, fused - 1 - (s - after))


def step_in_segments(tape, n):
    """One step where values keep to a limit: see `segments.py`."""
    s, segments = tape.progress.at_step, tape.segments
    if s < n:
        status, done = forward(tape, s), ends_with(tape, s)
        if status == OK and done >= 0 and (done < segments.n_segments - 1 or tape.request.n_seeds == 0):
            let_go(tape, done)
        return status
    if s == n:
        tape.progress.host_row = -1
        return seed(tape)
    at, first = segments.at_segment, segments.first_step
    begin, end = segments.cuts[at], segments.cuts[at + 1]
    again = end - begin if at < segments.n_segments - 1 else 0  # regions whose values are to be computed again
    if s - first < again:
        return forward(tape, begin + s - first)
    region = end - 1 - (s - first - again)
    status = reverse(tape, region)
    if status == OK and region == begin:
        let_go(tape, at)
        segments.at_segment, segments.first_step = at - 1, s + 1
    return status


def forward(tape, region):
    """The values of a region."""
    if region == OF_MEMORY:
        return OK
    if MEMORY:
        tape.guarded.at_row = first_row(tape, region)
    tape.progress.phase = FORWARD_STEP
    if tape.plan.spaces[region] >= 0:
        return sweep_region(tape, region, SWEEP_VALUES)
    status = forward_whole(tape, first_row(tape, region))
    if status == OK:
        show_views(tape, region)
    return status


def reverse(tape, region):
    """The adjoints of a region's operands."""
    if MEMORY:
        tape.guarded.at_row = first_row(tape, region)
    tape.progress.phase = REVERSE_STEP
    status = add_views(tape, region)
    if status != OK or region == OF_MEMORY:
        return status
    if tape.plan.spaces[region] >= 0:
        status = sweep_region(tape, region, SWEEP_ADJOINTS)
    else:
        status = reverse_whole(tape, first_row(tape, region))
    if status == OK:
        release_adjoints(tape, region)
    return status


def first_row(tape, region):
    """The oldest row of a region."""
    return tape.plan.order[tape.plan.begin[region]]


@part
def seed(tape: Header):
    """Enter the given adjoints: ones, or the value of another slot."""
    request = tape.request
    for i in range(request.n_seeds):
        slot, given = request.lists[request.n_targets + 2 * i], request.lists[request.n_targets + 2 * i + 1]
        if tape.plan.marks[slot] & ADJOINT == 0:
            continue  # it leads to nothing that is wanted
        if given >= 0 and tape.slots[slot].adjoint == 0 and tape.kinds[tape.slots[given].kind].flags & CONTIGUOUS:
            if not _copy_value(tape, tape.slots[slot], tape.slots[given]):
                return NO_MEMORY
            continue
        if not hold_adjoint(tape, tape.slots[slot]):
            return NO_MEMORY
        if given < 0:
            _add_ones(tape, tape.slots[slot])
        else:
            _add_value(tape, tape.slots[slot], tape.slots[given])
    return OK


def _add_ones(tape, slot):
    """Add ones to an adjoint."""
    code, n = tape.kinds[slot.kind].dtype, tape.kinds[slot.kind].numel
    tell(tape, ONES, slot.adjoint, n, code)
    add_ones(slot.adjoint, n, code)


def _copy_value(tape, slot, given):
    """Begin an adjoint with the value of another slot, contiguous; False where there is no memory."""
    size = nbytes(tape.kinds[slot.kind])
    slot.adjoint = obtain(tape, size, 0)
    if slot.adjoint:
        tell(tape, COPIED, slot.adjoint, given.primal, size)
        copy(slot.adjoint, given.primal, size)
    return slot.adjoint != 0


def _add_value(tape, slot, given):
    """Add the value of another slot, which may have any strides, to an adjoint, which is contiguous."""
    source = tape.kinds[given.kind]
    code, n = tape.kinds[slot.kind].dtype, tape.kinds[slot.kind].numel
    tape.program.walk_words = 0
    walk = enter_walk(tape, source, source.dims + source.ndim, 1)
    tell(tape, GIVEN, walk, given.primal, slot.adjoint, n, code)
    add_given(tape, walk, given.primal, slot.adjoint, n, code)


def add_ones(target, n, code):
    """Add ones to contiguous floats."""
    for j in range(n):
        if code == 4:
            f8(target, n)[j] += 1.0
        else:
            f4(target, n)[j] += 1.0


def add_given(tape, walk, source, target, n, code):
    """Add what a walk from `source` meets to contiguous floats."""
    done = 0
    while done < n:
        length = min(n - done, 4096)
        gather(walk, source, tape.scratch, done, length, ITEMSIZE[code])
        for j in range(length):
            if code == 4:
                f8(target, n)[done + j] += f8(tape.scratch, length)[j]
            else:
                f4(target, n)[done + j] += f4(tape.scratch, length)[j]
        done += length


def release_adjoints(tape, region):
    """Let go of the adjoints that a region has passed on."""
    plan = tape.plan
    for i in range(plan.begin[region], plan.begin[region + 1]):
        row = tape.rows[plan.order[i]]
        if row.flags & PIECE and row.flags & FIRST == 0:
            continue  # a slot that several rows fill is done with the oldest
        if plan.marks[row.out] & WANTED == 0:
            drop_adjoint(tape, row.out)


# --- rows that are no part of a region --------------------------------------------------------------------------------


@part
def forward_whole(tape: Header, r):
    """The value of a row that is no part of a region."""
    row = tape.rows[r]
    op, slot, kind = tape.ops[row.opcode], tape.slots[row.out], tape.kinds[row.kind]
    if not is_evaluated(tape, row):
        return OK
    if op.family == HOST:
        tape.progress.host_row = r
        return AT_HOST  # called again when Python has stored the value
    if wants_workers(tape, row):
        return MORE_WORKERS
    written = tape.slots[row.a]
    moves = op.writes and slot.primal == 0 and is_last_reader(tape, row)
    if moves:
        slot.primal = written.primal
    elif not hold_value(tape, slot):
        return NO_MEMORY
    _give_context(tape, row)
    tape.program.context.begun = 1 if moves else 0
    summed = op.summed & 1
    if summed:
        tell(tape, FILLED, slot.primal, kind.numel, 0, ITEMSIZE[kind.dtype])
        fill(slot.primal, kind.numel, 0, ITEMSIZE[kind.dtype])
    status = _run_array(tape, row, kernels_of(tape, row).forward, 0, kind.numel if summed else 0, kind.dtype)
    if status != OK:
        tape.progress.error_row = r
        return status
    if moves:
        written.primal, written.flags = 0, written.flags & ~(STORED | OWNED)
    else:
        tape.progress.budget -= 4 * kind.numel
    stays = row.flags & PIECE == 0 or row.flags & LAST
    if stays:
        slot.flags |= STORED | OWNED
    if tape.plan.counted >= 0:
        count_down(tape, r, stays)
    return OK


def wants_workers(tape, row):
    """Whether an array row is worth starting threads that are not there yet."""
    numel = max(tape.kinds[row.kind].numel, tape.kinds[tape.slots[row.a].kind].numel)
    return tape.progress.missing_workers != 0 and numel > 50_000


def _run_array(tape, row, kernel, which, apart_count, apart_code):
    """Run an array kernel (0: the value; 1 + k: the adjoint of operand k), shared out where it can be."""
    op, context, pieces = tape.ops[row.opcode], tape.program.context, tape.program.pieces
    code, code_of_a = tape.kinds[row.kind].dtype, tape.kinds[tape.slots[row.a].kind].dtype
    context.n_memory = 0
    if op.working >> which & 1:
        context.n_memory = context.n_a if op.room - 1 == ROOM_OF_A else context.params[op.room - 1]
    if op.shared >> which & 1 == 0:
        context.n_sums = 0
        if op.adding >> which & 1 and ITEMSIZE[code] == 4:
            context.n_sums = context.n_y if which == 0 else context.n_k_bar
        tell(tape, ALONE, kernel, ITEMSIZE[code])
        return run_alone(tape, kernel, ITEMSIZE[code])
    elements = context.n_y
    for k in range(3):
        elements = max(elements, context.lengths[k])
    outer, units = op.along, context.n_b
    if outer or op.units < UNITS_OF_B:
        units = context.params[0 if outer else op.units]
    if outer and units:
        of_a, of_y = context.n_a // units * ITEMSIZE[code_of_a], context.n_y // units * ITEMSIZE[code]
        pieces.unit_bytes[0], pieces.unit_bytes[1], pieces.unit_bytes[2], pieces.unit_bytes[3] = of_a, 0, 0, of_y
        pieces.y_bar_bytes, pieces.k_bar_bytes = of_y, of_a
    pieces.room_bytes = context.n_memory * ITEMSIZE[code]
    of_adjoint = 1 if which else 0
    tell(tape, IN_PIECES, kernel, units, outer, of_adjoint, apart_count, apart_code, elements)
    return run_pieces(tape, kernel, units, outer, of_adjoint, apart_count, apart_code, elements)


@part
def run_alone(tape: Header, kernel, itemsize):
    """Run an array kernel on this thread, with memory to work in."""
    program, context = tape.program, tape.program.context
    context.failed_batch = context.memory = context.sums = 0
    if context.n_memory:
        context.memory = obtain(tape, context.n_memory * itemsize, 0)
        if context.memory == 0:
            return NO_MEMORY
    if context.n_sums:
        context.sums = obtain(tape, 8 * context.n_sums, 1)
        if context.sums == 0:
            if context.memory:
                give_back(tape, context.memory)
            return NO_MEMORY
    large = max(context.n_a, context.n_b, context.n_y) > _BLAS_SHARES
    if large:
        rest(tape.progress.crew, 1)
    if MEMORY:
        fill_pattern(program.before_work_at, WORK_BYTES + 2 * GUARD)
    call1(kernel, program.context_at)
    if MEMORY:
        check_behind(tape, BEHIND_WORK, tape.guarded.at_row, program.before_work_at, GUARD)
        check_behind(tape, BEHIND_WORK, tape.guarded.at_row, program.behind_work_at, GUARD)
    if large:
        rest(tape.progress.crew, 0)
    if context.memory:
        give_back(tape, context.memory)
    if context.sums:
        give_back(tape, context.sums)
    if context.failed_batch == 0:
        return OK
    tape.progress.error_batch, tape.progress.error_index = context.failed_batch - 1, context.failed_index
    return FAILED


def _give_context(tape, row):
    """What an array kernel is given."""
    program, context = tape.program, tape.program.context
    context.params_at = context.n_params = context.y_bar = context.k_bar = 0
    if row.flags & PARAMS:
        context.params_at, context.n_params = tape.pool_at + 8 * row.c, tape.pool[row.c - 1]
    context.gemm64, context.gemm32, context.lapack = tape.gemm64, tape.gemm32, tape.lapack
    context.work = program.work_at
    for k in range(3):
        o = operand(row, k) if k < arity(tape, row) else -1
        context.operands[k] = tape.slots[o].primal if o >= 0 else 0
        context.lengths[k] = _extent(tape, tape.kinds[tape.slots[o].kind]) if o >= 0 else 0
    context.y, context.n_y = tape.slots[row.out].primal, tape.kinds[row.kind].numel


def _extent(tape, kind):
    """How many elements lie between the first of a value and its last, both included; no stride is negative."""
    if kind.flags & CONTIGUOUS:
        return kind.numel
    pool, n, extent = tape.pool, kind.ndim, 1
    for d in range(n):
        extent += (pool[kind.dims + d] - 1) * pool[kind.dims + n + d] // ITEMSIZE[kind.dtype]
    return extent


@part
def reverse_whole(tape: Header, r):
    """The adjoints of the operands of a row that is no part of a region."""
    row = tape.rows[r]
    op, progress = tape.ops[row.opcode], tape.progress
    if tape.slots[row.out].adjoint == 0 or not is_active(tape, row):
        return OK
    complete(tape, tape.slots[row.out])
    if op.family == HOST:
        if progress.host_row == r:  # Python has been there
            progress.host_row = -1
            return OK
        progress.host_row = r
        for k in range(arity(tape, row)):
            if operand(row, k) >= 0 and tape.slots[operand(row, k)].adjoint:
                hold_adjoint(tape, tape.slots[operand(row, k)])
        return AT_HOST
    if wants_workers(tape, row):
        return MORE_WORKERS
    n = arity(tape, row)
    for i in range(n):
        k = n - 1 - i if op.writes else i  # the first may take over the memory of the result's adjoint
        o = operand(row, k)
        kernel = kernels_of(tape, row).reverse[k]
        if o < 0 or tape.plan.marks[o] & ADJOINT == 0 or kernel == 0:
            continue
        status = _reverse_array(tape, row, k, kernel)
        if status != OK:
            return status
    return OK


def _reverse_array(tape, row, k, kernel):
    """The adjoint of one operand of an array row."""
    op, slot, context = tape.ops[row.opcode], tape.slots[operand(row, k)], tape.program.context
    kind, begun, overwrites = tape.kinds[slot.kind], 1, op.beginning >> k & 1
    lent = lend(tape, operand(row, k), overwrites, 0)
    if lent > APART:
        begun = 1 - tape.program.places[lent - 1].fresh
    else:
        moves = op.writes and k == 0 and slot.adjoint == 0 and tape.plan.marks[row.out] & WANTED == 0
        if moves and lent == APART:
            begun, slot.adjoint, tape.slots[row.out].adjoint = 2, tape.slots[row.out].adjoint, 0
        elif slot.adjoint == 0 and overwrites:
            begun = 0
            slot.adjoint = obtain(tape, nbytes(kind), 0)
        if lent < APART or not hold_adjoint(tape, slot):
            return NO_MEMORY
    _give_context(tape, row)
    context.y_bar, context.k_bar = tape.slots[row.out].adjoint if begun < 2 else slot.adjoint, slot.adjoint
    context.begun, context.n_k_bar = begun, kind.numel
    summed = op.summed >> (1 + k) & 1
    tape.progress.budget -= 4 * kind.numel
    return _run_array(tape, row, kernel, 1 + k, kind.numel if summed else 0, kind.dtype)


@part
def add_views(tape: Header, region):
    """Pass on the adjoints of the views that are listed with a region, those that have memory of their own."""
    plan = tape.plan
    for i in range(plan.begin[region + 1] - 1, plan.begin[region] - 1, -1):
        row = tape.rows[plan.order[i]]
        slot = tape.slots[row.out]
        if tape.ops[row.opcode].family != LAYOUT or slot.adjoint == 0 or not is_active(tape, row):
            continue
        if MEMORY:
            tape.guarded.at_row = plan.order[i]
        if slot.flags & LENT == 0:
            complete(tape, slot)
            status = _add_view(tape, row)
            if status != OK:
                return status
        plan.marks[row.out] &= ~ADJOINT & 255  # it is passed on, should this be called again
        if plan.marks[row.out] & WANTED == 0:
            drop_adjoint(tape, row.out)
    return OK


def _add_view(tape, row):
    """Add a view's adjoint to its base's, through the view's strides over the contiguous adjoint of the base."""
    out, of, program = tape.slots[row.out], tape.slots[row.a], tape.program
    kind, base = tape.kinds[row.kind], tape.kinds[of.kind]
    size, n, n_base = ITEMSIZE[kind.dtype], kind.numel, base.numel
    whole = n == n_base and kind.flags & CONTIGUOUS
    if whole and row.flags & PARAMS == 0 and of.adjoint == 0 and tape.plan.marks[row.out] & WANTED == 0:
        of.adjoint, out.adjoint = out.adjoint, 0  # the same elements in the same order
        return OK
    if not hold_adjoint(tape, of):
        return NO_MEMORY
    program.walk_words = 0
    if row.flags & PARAMS:  # (offset in bytes, offset and strides in a contiguous base)
        offset, strides = tape.pool[row.c + 1], row.c + 2
    else:
        offset, strides = row.offset, kind.dims + kind.ndim
    walk = enter_walk(tape, kind, strides, 1)
    kernel = sum_kernels(tape, kind.dtype).accumulate
    tape.progress.budget -= n
    if not _repeats(Walk(walk), n, n_base):
        tell(tape, PUT_BACK, walk, out.adjoint, of.adjoint + offset, n, size)
        put(walk, out.adjoint, of.adjoint + offset, 0, n, size)
        return OK
    if size == 8:
        tell(tape, MERGED, walk, out.adjoint, of.adjoint + offset, n, size, 8, n_base, kernel)
        scatter(walk, out.adjoint, of.adjoint + offset, 0, n, size, 8, n_base, kernel)
        return OK
    sums = obtain(tape, 8 * n_base, 1)  # float64 for float32
    if sums == 0:
        return NO_MEMORY
    for d in range(Walk(walk).n_runs):
        Walk(walk).runs[d].stride *= 2
    tell(tape, MERGED, walk, out.adjoint, sums + 2 * offset, n, size, 8, n_base, kernel)
    scatter(walk, out.adjoint, sums + 2 * offset, 0, n, size, 8, n_base, kernel)
    tell(tape, SETTLED, kernel, n_base, sums, of.adjoint)
    call6(kernel, n_base, 1, sums, of.adjoint, n_base, SETTLE)
    give_back(tape, sums)
    return OK


def _repeats(walk, n, n_base):
    """Whether a walk over `n` elements of `n_base` may meet some of them several times."""
    for d in range(walk.n_runs):
        if walk.runs[d].stride == 0 and walk.runs[d].length > 1:
            return True
    return n > n_base
