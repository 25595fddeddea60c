"""What a step of training does for each parameter, in native code: gradients are given to leaves, and updates recorded.

What an optimiser's step has recorded for one parameter is recorded again for the others: the same rows, with other
slots. And what a reverse sweep has left becomes the gradients of leaves that have none yet. Objects are handled as in
`native_recording.py`, and what is doubtful is left to Python.
"""

from __future__ import annotations

from tapegrad.memory import call1, i4, i8, part0, part1, part2, part3
from tapegrad.native_recording import SLOT_BYTES, Facts, at, count, header_of, hold, is_alone
from tapegrad.ops.declare import ELEMENTWISE
from tapegrad.tape import IMM_A, IMM_B, OWNED, PARAMS, ROW_BYTES, STORED, Row, Slot

# --- recording again --------------------------------------------------------------------------------------------------


def record_again(handles, results, width, start, end, context: Facts):
    """Record the rows from `start` to `end` for others: how many of these, from the first on; -1 and an exception.

    `handles` is a list of so many (`width`) for the one of which the rows were recorded, a leaf, what was its gradient,
    and its state; then for each other. `results` are those of the first: the leaf's new value, and its state's. The
    others are given theirs. All rows are elementwise and of the leaf's shape and dtype, so that they are the same but
    for their slots. Nobody else holds the state: a list of what is kept, and this one.
    """
    n, first = part1(context.list_size, handles) // width, part2(context.item_of_list, handles, 0)
    tape = at(first + context.tape_offset)
    if tape == 0 or not _is_leaf_with(context, handles, width, 0, tape):
        return 0
    header = header_of(context, tape)
    recording = header.recording
    if (
        recording.thread != part0(context.thread) or at(tape + context.grad_enabled_offset) != context.false
        or part1(context.dict_size, at(tape + context.retained_offset)) != 0
        or start < header.synced * ROW_BYTES or start >= end or end > recording.filled
    ):  # fmt: skip
        return 0
    index = _passive_index(context, first)
    for source in range(start, end, ROW_BYTES):
        row = Row(header.rows_at + source)
        op = context.ops[row.opcode]
        if row.kind != index or row.flags & PARAMS or op.family != ELEMENTWISE or op.arity > 2:
            return 0
    for i in range(1, n):
        done = 0
        if _is_leaf_with(context, handles, width, i, tape):
            done = _again(context, header, tape, handles, results, width, start, end, i)
        if done <= 0:
            return done if done < 0 else i - 1
    return n - 1


def _passive_index(context, leaf):
    """The index of the kind of a leaf's values where gradients are not recorded."""
    return part1(
        context.as_integer, at(at(at(leaf + context.kind_offset) + context.passive_offset) + context.index_offset)
    )


def _is_leaf_with(context, handles, width, i, tape):
    """Whether these are a leaf that shares its elements with nobody, and a gradient and a state of its kind."""
    leaf = part2(context.item_of_list, handles, i * width)
    if at(leaf + context.type_offset) != context.tensor:
        return False
    kind = at(leaf + context.kind_offset)
    if (
        at(kind + context.is_leaf_offset) != context.true or at(kind + context.contiguous_offset) != context.true
        or at(kind + context.exported_offset) != context.false or at(leaf + context.base_offset) != 0
        or at(leaf + context.tape_offset) != tape or not is_alone(context, leaf, 0)
    ):  # fmt: skip
        return False
    for k in range(1, width):
        other = part2(context.item_of_list, handles, i * width + k)
        if (
            at(other + context.type_offset) != context.tensor or at(other + context.tape_offset) != tape
            or at(other + context.kind_offset) != at(kind + context.passive_offset)
            or (k > 1 and (i4(other, 1)[0] != 2 or at(other + context.base_offset) != 0))
        ):  # fmt: skip
            return False
    return True


def _slot_of(context, handles, i):
    """The slot of a handle in a list."""
    return part1(context.as_integer, at(part2(context.item_of_list, handles, i) + context.slot_offset))


def _made_again(context, header, handles, width, start, source, i, slot):
    """What is of the other with the number `i` what a slot is of the first, at the row from `source` on; or -1."""
    target = header.recording.filled
    for before in range(source - ROW_BYTES, start - 1, -ROW_BYTES):
        if Row(header.rows_at + before).out == slot:
            return Row(header.rows_at + target + before - start).out
    for k in range(width):
        if _slot_of(context, handles, k) == slot:
            return _slot_of(context, handles, i * width + k)
    return -1


def _again(context, header, tape, handles, results, width, start, end, i):
    """1: recorded for the other with this number, 0: left to Python, -1: no memory."""
    recording = header.recording
    target, n_rows = recording.filled, (end - start) // ROW_BYTES
    height = recording.n_free - n_rows
    if height < 0 or target + end - start > recording.row_bytes:
        return 0
    leaf = part2(context.item_of_list, handles, i * width)
    index = _passive_index(context, leaf)
    for r in range(n_rows):
        source = start + ROW_BYTES * r
        of, row = Row(header.rows_at + source), Row(header.rows_at + target + ROW_BYTES * r)
        row.opcode, row.flags, row.bits, row.kind = of.opcode, of.flags, of.bits, index
        row.out, row.a = (
            recording.free[height + r],
            _made_again(context, header, handles, width, start, source, i, of.a),
        )
        if context.ops[of.opcode].arity == 2 and not of.flags & (IMM_A | IMM_B):
            row.b = _made_again(context, header, handles, width, start, source, i, of.b)
            if row.b < 0:
                return 0
        if row.a < 0:
            return 0
    made = part1(context.new_tuple, width - 1)
    if made == 0:
        return -1
    done = _results_again(context, header, tape, results, start, end, leaf, made)
    if done > 0:
        recording.filled, recording.n_free = target + end - start, height
        last = Row(header.rows_at + target - start + _row_of(header, _slot_of(context, results, 0), start, end))
        last.kind = part1(context.as_integer, at(at(leaf + context.kind_offset) + context.index_offset))
        for r in range(n_rows):
            header.live[recording.free[height + r]] = 0
        for k in range(width - 1):
            number, t = part2(context.item_of_tuple, made, k), leaf
            if k > 0:
                t = part2(context.item_of_list, handles, i * width + k + 1)
            call1(context.inc_ref, number)
            header.live[part1(context.as_integer, number)] = 1
            hold(context, header, t, number, at(t + context.kind_offset))
    call1(context.dec_ref, made)
    return done


def _row_of(header, slot, start, end):
    """Where the row that makes a slot's value begins, among these; or -1."""
    for source in range(end - ROW_BYTES, start - 1, -ROW_BYTES):
        if Row(header.rows_at + source).out == slot:
            return source
    return -1


def _results_again(context, header, tape, results, start, end, leaf, made):
    """Put the slots of an other's results in the tuple `made`; its leaf is known by the first. 1, 0, -1: see above."""
    target = header.recording.filled
    for k in range(part1(context.list_size, results)):
        source = -1
        if at(part2(context.item_of_list, results, k) + context.type_offset) == context.tensor:
            source = _row_of(header, _slot_of(context, results, k), start, end)
        if source < 0:
            return 0
        number = part1(context.from_integer, Row(header.rows_at + target + source - start).out)
        if number == 0:
            return -1
        part3(context.set_item, made, k, number)
    was, leaves = at(leaf + context.slot_offset), at(tape + context.leaves_offset)
    known = part2(context.item_of_dict, leaves, was)
    if known == 0:
        return 0
    if (
        part3(context.set_item_of_dict, at(tape + context.former_offset), was, known) != 0
        or part3(context.set_item_of_dict, leaves, part2(context.item_of_tuple, made, 0), known) != 0
        or not count(context, leaf)
    ):  # fmt: skip
        return -1
    return 1


# --- gradients of leaves ----------------------------------------------------------------------------------------------


def give_gradients(tape, context: Facts):
    """Make what a reverse sweep has left the gradients of leaves: 1, or 0 where that is not all there is to do.

    It is all where each is a leaf's that has no gradient yet. -1 and an exception: there is no memory. As in
    `tensor.adopt`, gradients have the tape's low slots, as long as there are some.
    """
    header, low = header_of(context, tape), at(tape + context.low_offset)
    recording, progress = header.recording, header.progress
    n, n_low = progress.n_reached, part1(context.list_size, low)
    if recording.thread != part0(context.thread) or recording.n_free + n_low < n:
        return 0
    made = part1(context.new_tuple, n)
    if made == 0:
        return -1
    for i in range(n):
        t = part2(context.new_object, context.tensor, 0)  # this may run the garbage collector, and so any code
        if t == 0:
            call1(context.dec_ref, made)
            return -1
        part3(context.set_item, made, i, t)
    # From here on nothing can come between.
    n_low, given = part1(context.list_size, low), progress.n_reached == n
    given = given and recording.n_free + n_low >= n
    for i in range(n if given else 0):
        owner = _owner(context, tape, progress.reached[i])
        if owner == 0 or (at(owner + context.grad_offset) != 0 and at(owner + context.grad_offset) != context.none):
            given = False
    for i in range(n if given else 0):
        if i < n_low:
            number = part2(context.item_of_list, low, n_low - 1 - i)
            call1(context.inc_ref, number)
        else:
            number = part1(context.from_integer, recording.free[recording.n_free - 1 - (i - n_low)])
        if number == 0:
            call1(context.dec_ref, made)
            return -1
        i8(part2(context.item_of_tuple, made, i) + context.slot_offset, 1)[0] = number
    if given:
        for i in range(n):
            _give(context, header, tape, progress.reached[i], part2(context.item_of_tuple, made, i))
            if i < n_low:
                part2(context.drop_item, low, n_low - 1 - i)
        recording.n_free -= max(n - n_low, 0)
        progress.n_reached = 0
    call1(context.dec_ref, made)
    return 1 if given else 0


def _owner(context, tape, slot):
    """The leaf that a slot is of; or 0."""
    number = part1(context.from_integer, slot)
    if number == 0:
        return 0
    reference = part2(context.item_of_dict, at(tape + context.leaves_offset), number)
    call1(context.dec_ref, number)
    owner = 0 if reference == 0 else at(reference + context.referent_offset)
    return 0 if owner == context.none else owner


def _give(context, header, tape, slot, t):
    """Make a handle, which has the number of its slot, that of another slot's adjoint, and its leaf's gradient."""
    of = Slot(header.slots_at + SLOT_BYTES * slot)
    kind = at(part2(context.item_of_list, context.kinds, of.kind) + context.gradient_offset)
    gradient = Slot(header.slots_at + SLOT_BYTES * part1(context.as_integer, at(t + context.slot_offset)))
    gradient.kind, gradient.row = part1(context.as_integer, at(kind + context.index_offset)), -1
    gradient.primal, gradient.adjoint, gradient.base, gradient.flags = of.adjoint, 0, -1, STORED | OWNED
    of.adjoint = 0
    call1(context.inc_ref, tape)
    call1(context.inc_ref, kind)
    i8(t + context.tape_offset, 1)[0] = tape
    i8(t + context.kind_offset, 1)[0] = kind
    held = _owner(context, tape, slot) + context.grad_offset
    before = at(held)
    call1(context.inc_ref, t)
    i8(held, 1)[0] = t
    if before != 0:
        call1(context.dec_ref, before)
