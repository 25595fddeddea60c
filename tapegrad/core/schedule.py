"""The schedule: which rows a sweep needs, and in which regions. Compiled code over the tape's arrays.

Marks, a byte a slot, live from `schedule` to `finish`:

    VALUE    the value is needed             ADJOINT  the adjoint is needed
    STORE    and must be in memory, since another region reads it
    PLANNED  a planned row makes it          WANTED   the caller takes the adjoint
    REACH    a path leads from it to a wanted slot
    INSIDE   rows of its own region may read it

A region is a run of rows over one iteration space (one shape), swept together block by block; a layout row, and most
array rows, are a region of their own. A row joins the latest region of its space unless an operand is only complete
after that. So regions are in an order in which they can be swept: forward as they are, in reverse backwards.

A region whose reductions run over trailing dimensions of no more than MAX_INNER elements is swept in whole rows:

    wide     [outer..., inner...]     the region's space
    narrow   [outer...] or [outer..., 1...]     what is reduced, and what is computed from that: one element a row

There a reduced value is complete as soon as its row is, and rows that read it are in the same region (INSIDE): softmax,
layer normalisation and their like cross memory once.

One region is swept forward and in reverse at once where the adjoints that reach it do not depend on its values: the
gradient of a sum, say, reads each operand once (`fused`).
"""

from tapegrad.kinds import LEAF, REQUIRES_GRAD
from tapegrad.memory import i4, i8, kinds_at, ops_at, part1, part2, part3, rows_at, slots_at, u1
from tapegrad.ops.declare import ARRAY, ELEMENTWISE, REDUCTION
from tapegrad.tape import CONSUMED, FIRST, FREE, IMM_A, IMM_B, OWNED, PARAMS, PIECE, ROW_BYTES, STORED, H

VALUE, ADJOINT, STORE, PLANNED, WANTED, REACH, INSIDE = 1, 2, 4, 8, 16, 32, 64
MAX_ROWS = 256  # of a region
MAX_INNER = 4096  # of the elements that a row of a region swept in whole rows has
MAX_WIDE = (
    100_000  # of the elements that all rows of such a region have together: their registers fit in scratch memory
)

NO_REGIONS = -1  # in the place of their number: rows are swept one by one, see `scalars.py`

IDLE = 0  # the phase in which no sweep has begun

OK, MORE, NO_MEMORY, SWEPT_TWICE, AT_HOST, MORE_WORKERS, FAILED, DAMAGED = range(8)


def sync(h):
    """Enter new rows in the slots they define."""
    rows = rows_at(h[H.rows], h[H.end])
    slots = slots_at(h[H.slots], h[H.top])
    for r in range(h[H.synced], h[H.end]):
        slot = rows[r]["out"]
        slots[slot]["kind"] = rows[r]["kind"]
        slots[slot]["row"] = r
        slots[slot]["primal"] = 0
        slots[slot]["adjoint"] = 0
        slots[slot]["base"] = -1
        slots[slot]["flags"] = 0
    h[H.synced] = h[H.end]


def arity(h, row):
    """How many fields of a row hold operands."""
    return ops_at(h[H.ops], 256)[row["opcode"]]["arity"]


def operand(row, k):
    """The slot at field `k` of a row, or -1: where an operand is an immediate, the other is in field 0."""
    return row["a"] if k == 0 else -1 if row["flags"] & (IMM_A | IMM_B) else row["b"] if k == 1 else row["c"]


def position(row, k):
    """Which operand of the operation the slot at field `k` is."""
    return 1 if row["flags"] & IMM_A else k


def defines(slots, row, r):
    """1 for a slot's oldest row: of the rows that fill a slot together, only the last is entered in it."""
    return (1 if row["flags"] & FIRST else 0) if row["flags"] & PIECE else 1 if slots[row["out"]]["row"] == r else 0


def is_interior(kinds, kind):
    """Whether a value requires grad and was computed."""
    return kinds[kind]["flags"] & (REQUIRES_GRAD | LEAF) == REQUIRES_GRAD


def is_active(h, kinds, marks, row):
    """Whether the reverse sweep goes through this row."""
    return (
        marks[row["out"]] & ADJOINT != 0
        and is_interior(kinds, row["kind"])
        and (h[H.prune] == 0 or marks[row["out"]] & REACH != 0)
    )


def is_evaluated(slots, marks, row):
    """Whether the forward sweep runs this row."""
    return marks[row["out"]] & VALUE != 0 and slots[row["out"]]["flags"] & STORED == 0


def saved_by(ops, row, k):
    """The operands and the result that the rule for the slot at field `k` reads, as bits of the row's own fields."""
    return _in_fields(ops[row["opcode"]]["saves"][position(row, k)], row["flags"])


def _in_fields(bits, flags):
    """Bits of operands as bits of fields: beside an immediate, which is not kept, the other operand is in field 0."""
    return (bits & 8) | ((bits >> 1) & 1) if flags & IMM_A else bits & 9 if flags & IMM_B else bits


def schedule(header):
    """Plan the sweeps for the targets (values) and seeds (adjoints) in `lists`."""
    h = i8(header, len(H))
    _forget_reached(h)
    sync(h)
    h[H.n_planned] = h[H.n_regions] = 0
    n_targets, n_seeds, n_inputs = h[H.n_targets], h[H.n_seeds], h[H.n_inputs]
    lists = i4(h[H.lists], n_targets + 2 * n_seeds + n_inputs)
    marks = u1(h[H.marks], h[H.top])
    for i in range(n_inputs):
        marks[lists[n_targets + 2 * n_seeds + i]] |= WANTED
    newest = -1
    n_active = 0
    if n_seeds:
        newest = part1(h[H.mark_active], header)
        if newest == -2:
            return SWEPT_TWICE
        n_active = h[H.n_planned]
    part3(h[H.mark_values], header, newest, n_active)
    if part1(h[H.are_scalars], header):
        h[H.n_regions] = NO_REGIONS
        return OK
    return part1(h[H.make_regions], header)


def _forget_reached(h):
    """Drop adjoints that nobody has taken: Ctrl-C came after the last sweep."""
    slots, reached = slots_at(h[H.slots], h[H.top]), i4(h[H.reached], h[H.top])
    for i in range(h[H.n_reached]):
        if slots[reached[i]]["adjoint"]:
            part2(h[H.give_back], h[H.self], slots[reached[i]]["adjoint"])
            slots[reached[i]]["adjoint"] = 0
    h[H.n_reached] = 0


def mark_active(header):
    """Mark what seeds lead to. Returns the newest row among it, or -2 where the graph was let go."""
    h = i8(header, len(H))
    n_targets, n_seeds = h[H.n_targets], h[H.n_seeds]
    lists = i4(h[H.lists], n_targets + 2 * n_seeds)
    rows, slots = rows_at(h[H.rows], h[H.end]), slots_at(h[H.slots], h[H.top])
    kinds, marks = kinds_at(h[H.kinds], h[H.n_kinds]), u1(h[H.marks], h[H.top])
    planned = i4(h[H.planned], h[H.end])
    waiting, newest, n = 0, -1, 0
    for i in range(n_seeds):
        slot = lists[n_targets + 2 * i]
        if marks[slot] & ADJOINT == 0:
            marks[slot] |= ADJOINT
            if is_interior(kinds, slots[slot]["kind"]):
                waiting += 1
                newest = max(newest, slots[slot]["row"])
    r = newest
    while waiting > 0:
        row = rows[r]
        if marks[row["out"]] & ADJOINT and is_interior(kinds, row["kind"]):
            planned[n] = r
            n += 1
            if row["flags"] & CONSUMED and h[H.prune] == 0:
                h[H.error_row], h[H.n_planned] = r, n
                return -2
            waiting -= defines(slots, row, r)
            for k in range(3):
                o = operand(row, k) if k < arity(h, row) else -1
                if o >= 0 and kinds[slots[o]["kind"]]["flags"] & REQUIRES_GRAD and marks[o] & ADJOINT == 0:
                    marks[o] |= ADJOINT
                    if is_interior(kinds, slots[o]["kind"]):
                        waiting += 1
        r -= 1
    h[H.n_planned] = n
    if h[H.prune]:
        _prune(h, n)
        for i in range(h[H.n_planned]):  # a graph that was let go is no fault where no path to an input enters it
            if rows[planned[i]]["flags"] & CONSUMED:
                h[H.error_row] = planned[i]
                return -2
    return newest


def _prune(h, n):
    """Keep only the active rows that lead to a wanted slot."""
    rows, marks = rows_at(h[H.rows], h[H.end]), u1(h[H.marks], h[H.top])
    planned = i4(h[H.planned], h[H.end])
    for i in range(n - 1, -1, -1):
        row = rows[planned[i]]
        for k in range(arity(h, row)):
            o = operand(row, k)
            if o >= 0 and marks[o] & ADJOINT and marks[o] & (WANTED | REACH):
                marks[row["out"]] |= REACH
    kept = 0
    for i in range(n):
        row = rows[planned[i]]
        for k in range(arity(h, row)):
            o = operand(row, k)
            if o >= 0 and marks[o] & (WANTED | REACH) == 0:
                marks[o] &= ~ADJOINT & 255
        if marks[row["out"]] & REACH:
            planned[kept] = planned[i]
            kept += 1
        elif marks[row["out"]] & WANTED == 0:
            marks[row["out"]] &= ~ADJOINT & 255
    h[H.n_planned] = kept


def _need(slots, marks, slot):
    """Mark a value as needed; 1 where its row must be found."""
    if marks[slot] & VALUE:
        return 0
    marks[slot] |= VALUE
    return 0 if slots[slot]["flags"] & STORED or slots[slot]["row"] < 0 else 1


def mark_values(header, newest, n_active):
    """Mark the values needed for the targets and for the rules of active rows; plan all needed rows, newest first."""
    h = i8(header, len(H))
    n_targets = h[H.n_targets]
    lists = i4(h[H.lists], n_targets)
    rows, slots = rows_at(h[H.rows], h[H.end]), slots_at(h[H.slots], h[H.top])
    kinds, marks = kinds_at(h[H.kinds], h[H.n_kinds]), u1(h[H.marks], h[H.top])
    live = u1(h[H.live], h[H.top])
    ops = ops_at(h[H.ops], 256)
    planned = i4(h[H.planned], h[H.end])
    waiting, n = 0, 0
    for i in range(n_targets):
        waiting += _need(slots, marks, lists[i])
        marks[lists[i]] |= STORE
        newest = max(newest, slots[lists[i]]["row"])
    r = newest
    while waiting > 0 or n_active > 0:
        row = rows[r]
        out = row["out"]
        active = is_active(h, kinds, marks, row)
        if active:
            n_active -= 1
            if live[out]:
                waiting += _need(slots, marks, out)
            for k in range(arity(h, row)):
                o = operand(row, k)
                if o >= 0 and marks[o] & ADJOINT:
                    bits = saved_by(ops, row, k)
                    if bits & 1:
                        waiting += _need(slots, marks, row["a"])
                    if bits & 2:
                        waiting += _need(slots, marks, row["b"])
                    if bits & 4:
                        waiting += _need(slots, marks, row["c"])
                    if bits & 8:
                        waiting += _need(slots, marks, out)
        evaluated = is_evaluated(slots, marks, row)
        if evaluated:
            waiting -= defines(slots, row, r)
            for k in range(arity(h, row)):
                o = operand(row, k)
                if o >= 0:
                    waiting += _need(slots, marks, o)
        if active or evaluated:
            planned[n] = r
            n += 1
        r -= 1
    h[H.n_planned] = n
    return OK


def make_regions(header):
    """Share the planned rows out to regions; `order` lists them region by region, oldest first."""
    h = i8(header, len(H))
    rows, slots = rows_at(h[H.rows], h[H.end]), slots_at(h[H.slots], h[H.top])
    kinds, marks = kinds_at(h[H.kinds], h[H.n_kinds]), u1(h[H.marks], h[H.top])
    ops = ops_at(h[H.ops], 256)
    n = h[H.n_planned]
    planned, region_of_row, order = i4(h[H.planned], n), i4(h[H.region_of_row], n), i4(h[H.order], n)
    begin, spaces, inner = i4(h[H.begin], n + 1), i4(h[H.spaces], n), i4(h[H.inner], n)
    region, latest = i4(h[H.region], h[H.top]), i4(h[H.latest], h[H.n_latest])
    n_regions = 0
    begin[0] = 0
    for i in range(n - 1, -1, -1):
        row = rows[planned[i]]
        out = row["out"]
        family = ops[row["opcode"]]["family"]
        length = 0 if family == ELEMENTWISE else _row_length(h, kinds, slots, row, family)
        blockwise = family == ELEMENTWISE or family == REDUCTION or length > 1
        space = chosen = -1
        if blockwise:
            iterated = row["kind"] if family == ELEMENTWISE else slots[row["a"]]["kind"]
            space = kinds[iterated]["space"]
            chosen = latest[space]
        evaluated, active = is_evaluated(slots, marks, row), is_active(h, kinds, marks, row)
        earliest = 0
        for k in range(arity(h, row)):
            o = operand(row, k)
            if o >= 0 and marks[o] & PLANNED:
                there = region[o]
                joins = (
                    blockwise
                    and marks[o] & INSIDE
                    and _is_read_inside(kinds, slots[o]["kind"], space, spaces[there], iterated)
                )
                earliest = max(earliest, there if joins else there + 1)
        fits = chosen >= earliest and begin[chosen + 1] < MAX_ROWS
        if fits and inner[chosen] > 1:
            fits = (begin[chosen + 1] + 1) * inner[chosen] <= MAX_WIDE
        whole = length > 1  # taken in as a row that needs whole rows of the space
        if fits and whole:
            whole = (
                spaces[chosen] == space
                and (inner[chosen] == 1 or inner[chosen] == length)
                and (begin[chosen + 1] + 1) * length <= MAX_WIDE
            )
            fits = whole or family == REDUCTION
        if not fits:
            chosen = n_regions
            n_regions += 1
            spaces[chosen], inner[chosen] = space, 1
            begin[chosen + 1] = 0
            whole = length > 1
            if blockwise:
                latest[space] = chosen
        if whole:
            inner[chosen] = length
            latest[kinds[row["kind"]]["space"]] = chosen
        begin[chosen + 1] += 1
        region_of_row[i] = chosen
        for k in range(arity(h, row)):
            o = operand(row, k)
            if o < 0:
                continue
            if marks[o] & PLANNED and region[o] != chosen:
                reads = evaluated
                if active and not reads:
                    for j in range(arity(h, row)):
                        at = operand(row, j)
                        if at >= 0 and marks[at] & ADJOINT and saved_by(ops, row, j) & (1 << k):
                            reads = True
                if reads:
                    marks[o] |= STORE
        region[out] = chosen
        marks[out] |= PLANNED
        marks[out] |= INSIDE if family == ELEMENTWISE or whole else STORE
    for g in range(n_regions):
        if spaces[g] >= 0:
            latest[spaces[g]] = -1
        begin[g + 1] += begin[g]
    # A counting sort: `begin` moves to each region's end while it is filled, and is put back.
    for i in range(n - 1, -1, -1):
        g = region_of_row[i]
        order[begin[g]] = planned[i]
        begin[g] += 1
        latest[kinds[rows[planned[i]]["kind"]]["space"]] = -1
    for g in range(n_regions, 0, -1):
        begin[g] = begin[g - 1]
    begin[0] = 0
    h[H.n_regions] = n_regions
    h[H.fused] = _fused_region(h) if h[H.n_seeds] else -1
    return OK


def _row_length(h, kinds, slots, row, family):
    """How many elements a row of the region must have for this reduction or array row to join it inside; else 0."""
    if row["flags"] & PARAMS == 0:
        return 0
    at, kind = row["c"], slots[row["a"]]["kind"]
    pool, numel = i8(h[H.pool], h[H.n_pool]), kinds[kind]["numel"]
    if numel == 0:
        return 0
    if family == REDUCTION:
        length, d = 1, kinds[kind]["ndim"]
        dims = kinds[kind]["dims"]
        while d > 0 and (pool[at + d] == 0 or pool[dims + d - 1] == 1):
            length *= pool[dims + d - 1]
            d -= 1
        return length if 1 < length <= MAX_INNER and length == pool[at] else 0
    if family != ARRAY or ops_at(h[H.ops], 256)[row["opcode"]]["along"] == 0:
        return 0
    length = pool[at + 1]
    return length if pool[at + 2] == 1 and 1 < length <= MAX_INNER and pool[at] * length == numel else 0


def _is_read_inside(kinds, kind, space, wide, iterated):
    """Whether a row over `space` may read, in a region over `wide`, a value of this kind that is made there."""
    if kinds[kind]["space"] == space:
        return True
    return space == wide and (kinds[kind]["ndim"] == kinds[iterated]["ndim"] or kinds[kind]["numel"] == 1)


def _fused_region(h):
    """The region to be swept forward and in reverse at once: the largest that can be; -1 where there is none.

    All regions after it are swept in reverse before their values are there.
    """
    rows, slots = rows_at(h[H.rows], h[H.end]), slots_at(h[H.slots], h[H.top])
    kinds, marks = kinds_at(h[H.kinds], h[H.n_kinds]), u1(h[H.marks], h[H.top])
    n_targets, n_seeds, n_regions = h[H.n_targets], h[H.n_seeds], h[H.n_regions]
    lists, ops = i4(h[H.lists], n_targets + 2 * n_seeds), ops_at(h[H.ops], 256)
    order, begin = i4(h[H.order], h[H.n_planned]), i4(h[H.begin], n_regions + 1)
    spaces, _region = i4(h[H.spaces], n_regions), i4(h[H.region], h[H.top])
    for i in range(n_seeds):
        given = lists[n_targets + 2 * i + 1]
        if given >= 0 and slots[given]["flags"] & STORED == 0:
            return -1
    best, largest = -1, 0
    for g in range(n_regions - 1, -1, -1):
        evaluates, sweeps, fuses, independent, lanes = False, False, spaces[g] >= 0, True, 0
        for i in range(begin[g], begin[g + 1]):
            row = rows[order[i]]
            evaluates = evaluates or is_evaluated(slots, marks, row)
            family = ops[row["opcode"]]["family"]
            lanes = max(lanes, kinds[row["kind"] if family == ELEMENTWISE else slots[row["a"]]["kind"]]["numel"])
            if not is_active(h, kinds, marks, row):
                continue
            sweeps = True
            for k in range(arity(h, row)):
                o = operand(row, k)
                if o < 0 or marks[o] & ADJOINT == 0:
                    continue
                bits = saved_by(ops, row, k)
                fuses = fuses and (bits & 8 == 0 or marks[row["out"]] & INSIDE != 0)
                independent = (
                    independent
                    and (bits & 1 == 0 or slots[row["a"]]["flags"] & STORED)
                    and (bits & 2 == 0 or slots[row["b"]]["flags"] & STORED)
                    and (bits & 4 == 0 or slots[row["c"]]["flags"] & STORED)
                    and (bits & 8 == 0 or slots[row["out"]]["flags"] & STORED)
                )
        if fuses and evaluates and sweeps and lanes * (begin[g + 1] - begin[g]) > largest:
            best, largest = g, lanes * (begin[g + 1] - begin[g])
        if not independent:
            break
    return best


def finish(header, succeeded):
    """Clear the marks; list the wanted adjoints in `reached`, or drop them where the sweep did not succeed."""
    h = i8(header, len(H))
    rows, slots = rows_at(h[H.rows], h[H.end]), slots_at(h[H.slots], h[H.top])
    kinds, marks = kinds_at(h[H.kinds], h[H.n_kinds]), u1(h[H.marks], h[H.top])
    ops = ops_at(h[H.ops], 256)
    n_targets, n_seeds, n_inputs = h[H.n_targets], h[H.n_seeds], h[H.n_inputs]
    lists = i4(h[H.lists], n_targets + 2 * n_seeds + n_inputs)
    planned = i4(h[H.planned], h[H.n_planned])
    for i in range(h[H.n_planned]):
        row = rows[planned[i]]
        if succeeded and h[H.retain_graph] == 0 and is_active(h, kinds, marks, row):
            for k in range(arity(h, row)):
                o = operand(row, k)
                # Whatever the rule reads counts, an immediate included: then PyTorch too refuses a second sweep.
                if o >= 0 and marks[o] & ADJOINT and ops[row["opcode"]]["saves"][position(row, k)]:
                    rows[planned[i]]["flags"] = row["flags"] | CONSUMED
    for i in range(h[H.n_planned]):
        row = rows[planned[i]]
        _settle(h, kinds, slots, marks, row["out"], succeeded)
        for k in range(arity(h, row)):
            if operand(row, k) >= 0:
                _settle(h, kinds, slots, marks, operand(row, k), succeeded)
    for i in range(n_targets + 2 * n_seeds + n_inputs):
        if lists[i] >= 0:
            _settle(h, kinds, slots, marks, lists[i], succeeded)
    h[H.n_planned], h[H.phase] = 0, IDLE
    return OK


def _settle(h, kinds, slots, marks, slot, succeeded):
    """One slot's part of `finish`; does nothing the second time."""
    mark = marks[slot]
    if mark == 0:
        return
    marks[slot] = 0
    if slots[slot]["adjoint"] != 0:
        if succeeded and (mark & WANTED or kinds[slots[slot]["kind"]]["flags"] & LEAF):
            i4(h[H.reached], h[H.top])[h[H.n_reached]] = slot
            h[H.n_reached] += 1
        else:
            part2(h[H.give_back], h[H.self], slots[slot]["adjoint"])
            slots[slot]["adjoint"] = 0
    if slots[slot]["primal"] != 0 and slots[slot]["flags"] & STORED == 0:  # a value that was not finished
        part2(h[H.give_back], h[H.self], slots[slot]["primal"])
        slots[slot]["primal"] = 0


def reclaim(header):
    """Drop the rows that nothing needs, and list the slots that this frees in `freed`.

    Returns how many rows are left.
    """
    h = i8(header, len(H))
    _forget_reached(h)
    sync(h)
    rows, slots = rows_at(h[H.rows], h[H.end]), slots_at(h[H.slots], h[H.top])
    kinds, marks = kinds_at(h[H.kinds], h[H.n_kinds]), u1(h[H.marks], h[H.top])
    live, ops = u1(h[H.live], h[H.top]), ops_at(h[H.ops], 256)
    # Here REACH marks slots that must go on existing, VALUE those whose elements too.
    for slot in range(h[H.top]):
        if slots[slot]["flags"] & FREE == 0 and live[slot]:
            marks[slot] = VALUE | REACH
    for r in range(h[H.end] - 1, -1, -1):
        row = rows[r]
        out = row["out"]
        needed = marks[out] & VALUE != 0 and slots[out]["flags"] & STORED == 0
        reached = marks[out] != 0 and is_interior(kinds, row["kind"])
        for k in range(arity(h, row)):
            o = operand(row, k)
            if o < 0:
                continue
            active = kinds[slots[o]["kind"]]["flags"] & REQUIRES_GRAD != 0
            if needed:
                marks[o] |= VALUE | REACH
            elif reached and row["flags"] & CONSUMED:
                if active:
                    marks[o] |= REACH  # what was let go still tells where it leads to
            elif reached:
                marks[o] |= REACH
                if active:
                    bits = saved_by(ops, row, k)
                    if bits & 1:
                        marks[row["a"]] |= VALUE | REACH
                    if bits & 2:
                        marks[row["b"]] |= VALUE | REACH
                    if bits & 4:
                        marks[row["c"]] |= VALUE | REACH
                    if bits & 8:
                        marks[out] |= VALUE | REACH
        # A saved result that is not in memory has to be computed again.
        if not needed and marks[out] & VALUE and slots[out]["flags"] & STORED == 0:
            for k in range(arity(h, row)):
                if operand(row, k) >= 0:
                    marks[operand(row, k)] |= VALUE | REACH
    kept = 0
    for r in range(h[H.end]):
        row = rows[r]
        out = row["out"]
        needed = marks[out] & VALUE != 0 and slots[out]["flags"] & STORED == 0
        if needed or (marks[out] != 0 and is_interior(kinds, row["kind"])):
            if kept != r:
                rows[kept]["opcode"] = row["opcode"]
                rows[kept]["flags"] = row["flags"]
                rows[kept]["out"] = out
                rows[kept]["a"] = row["a"]
                rows[kept]["b"] = row["b"]
                rows[kept]["c"] = row["c"]
                rows[kept]["kind"] = row["kind"]
            if not needed and rows[kept]["flags"] & CONSUMED:
                for k in range(arity(h, row)):
                    o = operand(rows[kept], k)
                    if o >= 0 and kinds[slots[o]["kind"]]["flags"] & REQUIRES_GRAD == 0:
                        if k == 0:
                            rows[kept]["a"] = -1
                        elif k == 1:
                            rows[kept]["b"] = -1
                        else:
                            rows[kept]["c"] = -1
            slots[out]["row"] = kept
            kept += 1
        elif marks[out] != 0:
            slots[out]["row"] = -1
    h[H.end] = h[H.synced] = kept
    h[H.filled] = kept * ROW_BYTES  # here, so that Ctrl-C can't come between
    _free_slots(h)
    return kept


def _free_slots(h):
    """Free the memory of values, and the slots, that `reclaim` did not mark; clear its marks."""
    slots, marks = slots_at(h[H.slots], h[H.top]), u1(h[H.marks], h[H.top])
    live, freed = u1(h[H.live], h[H.top]), i4(h[H.freed], h[H.top])
    for slot in range(h[H.top]):
        base = slots[slot]["base"]
        if slots[slot]["flags"] & FREE == 0 and base >= 0 and marks[slot] & VALUE and slots[slot]["flags"] & STORED:
            marks[base] |= VALUE | REACH
    n = 0
    for slot in range(h[H.top]):
        flags, base = slots[slot]["flags"], slots[slot]["base"]
        if flags & FREE:
            if slot and live[slot] == 0:  # taken, and let go before it was given a value
                live[slot] = 1
                freed[n] = slot
                n += 1
            continue
        if marks[slot] & VALUE == 0 and flags & OWNED:
            part2(h[H.give_back], h[H.self], slots[slot]["primal"])
            slots[slot]["primal"] = 0
            slots[slot]["flags"] = flags & ~(OWNED | STORED)
        elif marks[slot] & VALUE == 0 and base >= 0:
            slots[slot]["flags"], slots[slot]["base"], slots[slot]["primal"] = flags & ~STORED, -1, 0  # its base may go
        if marks[slot] == 0:
            slots[slot]["flags"] = FREE
            slots[slot]["base"] = -1
            live[slot] = 1
            freed[n] = slot
            n += 1
        marks[slot] = 0
    h[H.n_freed] = n
