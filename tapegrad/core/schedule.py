"""The schedule: which rows a sweep needs, and in which regions. Compiled code over the tape's arrays.

A region is a run of rows over one iteration space (one shape), swept together block by block; most array rows are a
region of their own. A row joins the latest region of its space unless an operand is only complete after that. So
regions are in an order in which they can be swept: forward as they are, in reverse backwards.

A view moves no data: its row is listed with the region that makes its base, and there when that is complete. Views of
what is in memory are there at once: the first region is theirs (OF_MEMORY), and has no other rows.

A region whose reductions run over trailing dimensions of no more than MAX_INNER elements is swept in whole rows:

    wide     [outer..., inner...]     the region's space
    narrow   [outer...] or [outer..., 1...]     what is reduced, and what is computed from that: one element a row

There a reduced value is complete as soon as its row is, and rows that read it are in the same region (INSIDE): softmax,
layer normalisation and their like cross memory once.

One region is swept forward and in reverse at once where the adjoints that reach it do not depend on its values: the
gradient of a sum, say, reads each operand once (`fused`).
"""

from tapegrad.core.rows import (
    ADJOINT,
    IDLE,
    INSIDE,
    OK,
    PLANNED,
    REACH,
    STORE,
    SWEPT_TWICE,
    VALUE,
    WANTED,
    arity,
    complete,
    defines,
    drop_adjoint,
    forget_reached,
    is_active,
    is_evaluated,
    is_interior,
    operand,
    position,
    requires_grad,
    saved,
    saved_by,
    sync,
)  # fmt: skip
from tapegrad.core.adjoints import show
from tapegrad.core.readers import count_readers
from tapegrad.core.scalars import plan_scalars
from tapegrad.core.segments import cut
from tapegrad.core.storage import give_back
from tapegrad.core.tables import MAX_INNER, MAX_WIDE
from tapegrad.kinds import LEAF
from tapegrad.memory import part
from tapegrad.ops.declare import ARRAY, ELEMENTWISE, LAYOUT, REDUCTION
from tapegrad.tape import CONSUMED, OWNED, PARAMS, STORED, Header

MAX_ROWS = 256  # of a region

NO_REGIONS = -1  # in the place of their number: rows are swept one by one, see `scalars.py`
_CONSUMED_BEFORE = -2
OF_MEMORY = 0


@part
def schedule(tape: Header):
    """Plan the sweeps for the targets (values) and seeds (adjoints) in `lists`."""
    forget_reached(tape)
    sync(tape)
    plan, request = tape.plan, tape.request
    if plan_scalars(tape):
        plan.n_regions = NO_REGIONS
        return OK
    plan.n_planned = plan.n_regions = 0
    for i in range(request.n_inputs):
        plan.marks[request.lists[request.n_targets + 2 * request.n_seeds + i]] |= WANTED
    newest = -1
    n_active = 0
    if request.n_seeds:
        newest = mark_active(tape)
        if newest == _CONSUMED_BEFORE:
            return SWEPT_TWICE
        n_active = plan.n_planned
    mark_values(tape, newest, n_active)
    return make_regions(tape)


# --- which rows -------------------------------------------------------------------------------------------------------


@part
def mark_active(tape: Header):
    """Mark what seeds lead to. Returns the newest row among it, or -2 where the graph was let go."""
    rows, slots, plan, request = tape.rows, tape.slots, tape.plan, tape.request
    marks, planned = plan.marks, plan.planned
    waiting, newest, n = 0, -1, 0
    for i in range(request.n_seeds):
        slot = request.lists[request.n_targets + 2 * i]
        if marks[slot] & ADJOINT == 0:
            marks[slot] |= ADJOINT
            if is_interior(tape, slots[slot].kind):
                waiting += 1
                newest = max(newest, slots[slot].row)
            elif request.prune == 0:
                marks[slot] |= WANTED
    r = newest
    while waiting > 0:
        row = rows[r]
        if marks[row.out] & ADJOINT and is_interior(tape, row.kind):
            planned[n] = r
            n += 1
            if row.flags & CONSUMED and request.prune == 0:
                tape.progress.error_row, plan.n_planned = r, n
                return _CONSUMED_BEFORE
            waiting -= defines(tape, row, r)
            for k in range(arity(tape, row)):
                o = operand(row, k)
                if o >= 0 and requires_grad(tape, o) and marks[o] & ADJOINT == 0:
                    marks[o] |= ADJOINT
                    if is_interior(tape, slots[o].kind):
                        waiting += 1
                    elif request.prune == 0:
                        marks[o] |= WANTED  # a leaf, whose value may be yet to be computed: it was written to
        r -= 1
    plan.n_planned = n
    if request.prune:
        _prune(tape, n)
        for i in range(plan.n_planned):  # a graph that was let go is no fault where no path to an input enters it
            if rows[planned[i]].flags & CONSUMED:
                tape.progress.error_row = planned[i]
                return _CONSUMED_BEFORE
    return newest


def _prune(tape, n):
    """Keep only the active rows that lead to a wanted slot."""
    rows, marks, planned = tape.rows, tape.plan.marks, tape.plan.planned
    for i in range(n - 1, -1, -1):
        row = rows[planned[i]]
        for k in range(arity(tape, row)):
            o = operand(row, k)
            if o >= 0 and marks[o] & ADJOINT and marks[o] & (WANTED | REACH):
                marks[row.out] |= REACH
    kept = 0
    for i in range(n):
        row = rows[planned[i]]
        for k in range(arity(tape, row)):
            o = operand(row, k)
            if o >= 0 and marks[o] & (WANTED | REACH) == 0:
                marks[o] &= ~ADJOINT & 255
        if marks[row.out] & REACH:
            planned[kept] = planned[i]
            kept += 1
        elif marks[row.out] & WANTED == 0:
            marks[row.out] &= ~ADJOINT & 255
    tape.plan.n_planned = kept


def _need(tape, slot):
    """Mark a value as needed; 1 where its row must be found."""
    marks, slots = tape.plan.marks, tape.slots
    if marks[slot] & VALUE:
        return 0
    marks[slot] |= VALUE
    return 0 if slots[slot].flags & STORED or slots[slot].row < 0 else 1


def _need_saved(tape, row):
    """Mark the values that the rules of an active row read; how many rows must be found."""
    waiting = _need(tape, row.out) if tape.live[row.out] else 0
    for k in range(arity(tape, row)):
        o = operand(row, k)
        if o >= 0 and tape.plan.marks[o] & ADJOINT:
            bits = saved_by(tape, row, k)
            for j in range(4):
                if bits >> j & 1:
                    waiting += _need(tape, saved(row, j))
    return waiting


@part
def mark_values(tape: Header, newest, n_active):
    """Mark the values needed for the targets and for the rules of active rows; plan all needed rows, newest first."""
    rows, plan, request = tape.rows, tape.plan, tape.request
    waiting, n = 0, 0
    for i in range(request.n_targets):
        waiting += _need(tape, request.lists[i])
        plan.marks[request.lists[i]] |= STORE
        newest = max(newest, tape.slots[request.lists[i]].row)
    r = newest
    while waiting > 0 or n_active > 0:
        row = rows[r]
        active = is_active(tape, row)
        if active:
            n_active -= 1
            waiting += _need_saved(tape, row)
        evaluated = is_evaluated(tape, row)
        if evaluated:
            waiting -= defines(tape, row, r)
            for k in range(arity(tape, row)):
                if operand(row, k) >= 0:
                    waiting += _need(tape, operand(row, k))
        if active or evaluated:
            plan.planned[n] = r
            n += 1
        r -= 1
    plan.n_planned = n
    return OK


# --- regions ----------------------------------------------------------------------------------------------------------


@part
def make_regions(tape: Header):
    """Share the planned rows out to regions; `order` lists them region by region, oldest first."""
    plan = tape.plan
    plan.n_regions, plan.spaces[OF_MEMORY], plan.inner[OF_MEMORY] = 1, -1, 1
    plan.begin[0] = plan.begin[1] = 0
    since = tape.end  # the row from which on readers of what is written to have come
    for i in range(plan.n_planned - 1, -1, -1):
        row = tape.rows[plan.planned[i]]
        if tape.ops[row.opcode].writes and is_evaluated(tape, row) and _may_go(tape, row.a):
            since = min(since, max(tape.slots[row.a].row, 0))
        chosen = _list_view(tape, row) if tape.ops[row.opcode].family == LAYOUT else _join(tape, row)
        plan.region_of_row[i] = chosen
        plan.begin[chosen + 1] += 1
        _store_for(tape, row, chosen)
        plan.region[row.out] = chosen
    _sort(tape)
    plan.counted = -1
    if since < tape.end:
        count_readers(tape, since)
    plan.fused = -1
    if cut(tape) == 1 and tape.request.n_seeds:
        plan.fused = _fused_region(tape)
    return OK


def _may_go(tape, slot):
    """Whether a value may go once it is read: nobody holds it, and its memory is, or will be, its own."""
    return tape.live[slot] == 0 and (tape.plan.marks[slot] & PLANNED != 0 or tape.slots[slot].flags & OWNED != 0)


def _list_view(tape, row):
    """The region with which a view is listed."""
    plan, a = tape.plan, row.a
    if is_evaluated(tape, row):
        if tape.slots[a].flags & STORED:
            show(tape, row)
        else:
            plan.marks[a] |= STORE
    plan.marks[row.out] |= PLANNED | STORE
    return int(plan.region[a]) if plan.marks[a] & PLANNED else OF_MEMORY


def _join(tape, row):
    """The region that a row joins: the latest over its space where it fits in, else a new one."""
    plan = tape.plan
    family = tape.ops[row.opcode].family
    length = 0 if family == ELEMENTWISE else _row_length(tape, row, family)
    blockwise = family == ELEMENTWISE or family == REDUCTION or length > 1
    iterated = row.kind if family == ELEMENTWISE or not blockwise else tape.slots[row.a].kind
    space = tape.kinds[iterated].space if blockwise else -1
    chosen = plan.latest[space] if blockwise else -1
    rows = plan.begin[chosen + 1] + 1
    fits = chosen >= _earliest(tape, row, space, iterated) and rows <= MAX_ROWS
    if fits and plan.inner[chosen] > 1:
        fits = rows * plan.inner[chosen] <= MAX_WIDE
    whole = length > 1  # taken in as a row that needs whole rows of the space
    if fits and whole:
        known = plan.inner[chosen]
        whole = plan.spaces[chosen] == space and (known == 1 or known == length) and rows * length <= MAX_WIDE
        fits = whole or family == REDUCTION
    if not fits:
        chosen = plan.n_regions
        plan.n_regions += 1
        plan.spaces[chosen], plan.inner[chosen], plan.begin[chosen + 1] = space, 1, 0
        whole = length > 1
        if blockwise:
            plan.latest[space] = chosen
    if whole:
        plan.inner[chosen] = length
        plan.latest[tape.kinds[row.kind].space] = chosen
    plan.marks[row.out] |= PLANNED | (INSIDE if family == ELEMENTWISE or whole else STORE)
    return chosen


def _earliest(tape, row, space, iterated):
    """The first region that comes once a row's operands are complete."""
    plan, earliest = tape.plan, 0
    for k in range(arity(tape, row)):
        o = operand(row, k)
        if o >= 0 and plan.marks[o] & PLANNED:
            there = plan.region[o]
            inside = space >= 0 and plan.marks[o] & INSIDE
            inside = inside and _is_read_inside(tape, tape.slots[o].kind, space, plan.spaces[there], iterated)
            earliest = max(earliest, there if inside else there + 1)
    return earliest


def _is_read_inside(tape, kind, space, wide, iterated):
    """Whether a row over `space` may read, in a region over `wide`, a value of this kind that is made there.

    A narrow value is read as one element a row, so its shape must be [outer..., 1...]: the result of a reduction over
    dimensions that had to be moved to the end may have others.
    """
    kinds, pool = tape.kinds, tape.pool
    if kinds[kind].space == space:
        return True
    if space != wide or kinds[kind].numel == 1 or kinds[kind].ndim != kinds[iterated].ndim:
        return space == wide and kinds[kind].numel == 1
    is_outer = True
    for d in range(kinds[kind].ndim):
        n = pool[kinds[kind].dims + d]
        is_outer = is_outer and n == pool[kinds[iterated].dims + d]
        if n != 1 and not is_outer:
            return False
    return True


def _row_length(tape, row, family):
    """How many elements a row of the region must have for this reduction or array row to join it inside; else 0."""
    if row.flags & PARAMS == 0:
        return 0
    at, kind, pool = row.c, tape.kinds[tape.slots[row.a].kind], tape.pool
    if kind.numel == 0:
        return 0
    if family == REDUCTION:
        length, d = 1, kind.ndim
        while d > 0 and (pool[at + d] == 0 or pool[kind.dims + d - 1] == 1):
            length *= pool[kind.dims + d - 1]
            d -= 1
        return length if 1 < length <= MAX_INNER and length == pool[at] else 0
    if family != ARRAY or tape.ops[row.opcode].along == 0:
        return 0
    length = pool[at + 1]
    return length if pool[at + 2] == 1 and 1 < length <= MAX_INNER and pool[at] * length == kind.numel else 0


def _store_for(tape, row, region):
    """Have the values stored that a row of this region reads from others."""
    plan = tape.plan
    for k in range(arity(tape, row)):
        o = operand(row, k)
        if o >= 0 and plan.marks[o] & PLANNED and plan.region[o] != region and _reads(tape, row, k):
            plan.marks[o] |= STORE


def _reads(tape, row, k):
    """Whether a row, or one of its rules, reads its operand at field `k`."""
    if is_evaluated(tape, row):
        return True
    for j in range(arity(tape, row) if is_active(tape, row) else 0):
        o = operand(row, j)
        if o >= 0 and tape.plan.marks[o] & ADJOINT and saved_by(tape, row, j) >> k & 1:
            return True
    return False


def _sort(tape):
    """A counting sort: `begin` moves to each region's end while it is filled, and is put back."""
    plan = tape.plan
    begin = plan.begin
    for g in range(plan.n_regions):
        if plan.spaces[g] >= 0:
            plan.latest[plan.spaces[g]] = -1
        begin[g + 1] += begin[g]
    for i in range(plan.n_planned - 1, -1, -1):
        g, r = plan.region_of_row[i], plan.planned[i]
        plan.order[begin[g]] = r
        begin[g] += 1
        plan.latest[tape.kinds[tape.rows[r].kind].space] = -1
    for g in range(plan.n_regions, 0, -1):
        begin[g] = begin[g - 1]
    begin[0] = 0


def _fused_region(tape):
    """The region to be swept forward and in reverse at once: the largest that can be; -1 where there is none.

    All regions after it are swept in reverse before their values are there.
    """
    plan, request = tape.plan, tape.request
    for i in range(request.n_seeds):
        given = request.lists[request.n_targets + 2 * i + 1]
        if given >= 0 and tape.slots[given].flags & STORED == 0:
            return -1
    best, largest = -1, 0
    for g in range(plan.n_regions - 1, -1, -1):
        evaluates, sweeps, fuses, independent, lanes = False, False, plan.spaces[g] >= 0, True, 0
        for i in range(plan.begin[g], plan.begin[g + 1]):
            row = tape.rows[plan.order[i]]
            if tape.ops[row.opcode].family == LAYOUT:
                continue
            evaluates = evaluates or is_evaluated(tape, row)
            sweeps = sweeps or is_active(tape, row)
            fuses = fuses and _is_fusible(tape, row)
            independent = independent and _is_independent(tape, row)
            iterated = row.kind if tape.ops[row.opcode].family == ELEMENTWISE else tape.slots[row.a].kind
            lanes = max(lanes, tape.kinds[iterated].numel)
        work = lanes * (plan.begin[g + 1] - plan.begin[g])
        if fuses and evaluates and sweeps and work > largest:
            best, largest = g, work
        if not independent:
            break
    return best


def _saved_in_reverse(tape, row):
    """What the rules of a row that is swept in reverse read, as bits of its fields."""
    bits = 0
    for k in range(arity(tape, row) if is_active(tape, row) else 0):
        o = operand(row, k)
        if o >= 0 and tape.plan.marks[o] & ADJOINT:
            bits |= saved_by(tape, row, k)
    return bits


def _is_fusible(tape, row):
    """Whether what a row's rules read of its own region is there as soon as the row is."""
    return _saved_in_reverse(tape, row) & 8 == 0 or tape.plan.marks[row.out] & INSIDE != 0


def _is_independent(tape, row):
    """Whether a row's rules read nothing that has yet to be computed."""
    bits, independent = _saved_in_reverse(tape, row), True
    for j in range(4):
        independent = independent and (bits >> j & 1 == 0 or tape.slots[saved(row, j)].flags & STORED != 0)
    return independent


# --- the end ----------------------------------------------------------------------------------------------------------


@part
def finish(tape: Header, succeeded):
    """Clear the marks; list the wanted adjoints in `reached`, or drop them where the sweep did not succeed."""
    plan, request = tape.plan, tape.request
    for i in range(plan.n_planned if succeeded and request.retain_graph == 0 else 0):
        _consume(tape, tape.rows[plan.planned[i]])
    for i in range(plan.n_planned):
        row = tape.rows[plan.planned[i]]
        _settle(tape, row.out, succeeded)
        for k in range(arity(tape, row)):
            if operand(row, k) >= 0:
                _settle(tape, operand(row, k), succeeded)
    for i in range(request.n_targets + 2 * request.n_seeds + request.n_inputs):
        if request.lists[i] >= 0:
            _settle(tape, request.lists[i], succeeded)
    plan.n_planned, tape.progress.phase = 0, IDLE
    return OK


def _consume(tape, row):
    """Let go of what the rules of a row that was swept in reverse have saved.

    Whatever they read counts, an immediate included: then PyTorch too refuses a second sweep.
    """
    for k in range(arity(tape, row) if is_active(tape, row) else 0):
        o = operand(row, k)
        if o >= 0 and tape.plan.marks[o] & ADJOINT and tape.ops[row.opcode].saves[position(row, k)]:
            row.flags |= CONSUMED


def _settle(tape, slot, succeeded):
    """One slot's part of `finish`; does nothing the second time."""
    of, mark = tape.slots[slot], tape.plan.marks[slot]
    if mark == 0:
        return
    tape.plan.marks[slot] = 0
    if of.adjoint != 0:
        if succeeded and (mark & WANTED or tape.kinds[of.kind].flags & LEAF):
            complete(tape, of)
            tape.progress.reached[tape.progress.n_reached] = slot
            tape.progress.n_reached += 1
        else:
            drop_adjoint(tape, slot)
    if of.primal != 0 and of.flags & STORED == 0:  # a value that was not finished
        give_back(tape, of.primal)
        of.primal = 0
