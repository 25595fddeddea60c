"""What a step of training does for each parameter, in native code: gradients are given to leaves, and these updated.

What an optimiser does with a parameter is a list of operations (`optim/traces.py`): their kernels are called for all
parameters that are alike, as soon as they are told, and no row is recorded. And what a reverse sweep has left becomes
the gradients of leaves that have none yet. Objects are handled as in `native_recording.py`, and what is doubtful is
left to Python.
"""

from __future__ import annotations

from tapegrad.core.storage import give_back, obtain
from tapegrad.memory import Record, array, call1, call6, f4, f8, i4, i8, part0, part1, part2, part3, word
from tapegrad.native_recording import SLOT_BYTES, Facts, at, count, header_of, hold, is_alone
from tapegrad.tape import OWNED, STORED, Slot

# --- updates ----------------------------------------------------------------------------------------------------------

PIECE = 256  # elements that operations are done on one after another: values between them stay in the cache


class Operation(Record):
    """An operation on elements: its kernel and that one's mode, operands as in `traces.py`."""

    kernel = word()
    mode = word()
    a = word()
    b = word()
    c = word()
    result = word()  # which result it makes, or -1


class Update(Record):
    """What becomes of a parameter and its state."""

    width = word()  # what is given: a parameter, its gradient, its state; results are one fewer
    itemsize = word()
    n_numbers = word()
    n_operations = word()
    operations = array("Operation", "n_operations")


def update(handles, numbers, address, context: Facts):
    """Update parameters by an `Update`: how many, from the first on; -1 and an exception.

    `handles` is a list of so many (`width`) for each: a leaf, its gradient, and its state, whose values are in memory.
    They have one layout and dtype. Nobody else holds the state: a list of what is kept, and this one. All are given new
    memory: others may read what they were.
    """
    of = Update(address)
    n, first = part1(context.list_size, handles) // of.width, part2(context.item_of_list, handles, 0)
    tape = at(first + context.tape_offset)
    if tape == 0:
        return 0
    header = header_of(context, tape)
    recording = header.recording
    if (
        recording.thread != part0(context.thread) or at(tape + context.grad_enabled_offset) != context.false
        or recording.n_before != 0 or header.storage.allocate == 0  # it was never swept
        or part1(context.dict_size, at(tape + context.retained_offset)) != 0
    ):  # fmt: skip
        return 0
    # In the memory of registers: addresses of what is given and made, of results; numbers; values between operations.
    memory = header.scratch
    results = memory + 8 * (of.width + of.n_operations)
    given = results + 8 * of.width
    for i in range(of.n_numbers):
        number = f8(part2(context.item_of_tuple, numbers, i) + context.float_offset, 1)[0]
        if of.itemsize == 8:
            f8(given + 8 * i, 1)[0] = number
        else:
            f4(given + 8 * i, 1)[0] = number
    done, i = 1, 0
    while done > 0 and i < n:
        done = _update_one(context, header, tape, handles, of, i, memory, results, given)
        i += done > 0
    return done if done < 0 else i


def _update_one(context, header, tape, handles, of, i, memory, results, given):
    """1: updated, 0: left to Python, -1: no memory."""
    width, recording = of.width, header.recording
    if recording.n_free < width - 1 or not _is_leaf_with(context, handles, width, i, tape):
        return 0
    for k in range(width):
        slot = Slot(header.slots_at + SLOT_BYTES * _slot_of(context, handles, i * width + k))
        if slot.flags & STORED == 0:
            return 0
        i8(memory + 8 * k, 1)[0] = slot.primal
    leaf = part2(context.item_of_list, handles, i * width)
    n, made = part1(context.as_integer, at(at(leaf + context.kind_offset) + context.numel_offset)), 0
    while made < width - 1:
        block = obtain(header, n * of.itemsize, 0)
        if block == 0:
            break
        i8(results + 8 * made, 1)[0] = block
        made += 1
    done = 0
    if made == width - 1:
        _operate(of, n, memory, results, given)
        done = _hand_over(context, header, tape, handles, width, i, results)
    for k in range(made if done <= 0 else 0):
        give_back(header, at(results + 8 * k))
    return done


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


def _operate(of, n, memory, results, given):
    """Do the operations on all elements, piece by piece."""
    size, between = of.itemsize, given + 8 * of.n_numbers
    for start in range(0, n, PIECE):
        m = min(PIECE, n - start)
        for r in range(of.n_operations):
            it = of.operations[r]
            y = between + 8 * PIECE * r
            if it.result >= 0:
                y = at(results + 8 * it.result) + start * size
            i8(memory + 8 * (of.width + r), 1)[0] = y
            a = _operand(of.width, memory, given, it.a, start * size)
            b = _operand(of.width, memory, given, it.b, start * size)
            c = _operand(of.width, memory, given, it.c, start * size)
            call6(it.kernel, m, it.mode, a, b, c, y)


def _operand(width, memory, given, x, offset):
    """The address of an operand, for elements that begin there."""
    if x >= width:
        return at(memory + 8 * x)
    if x >= 0:
        return at(memory + 8 * x) + offset
    return 0 if x == -1 else given + 8 * (-2 - x)


def _hand_over(context, header, tape, handles, width, i, results):
    """Give a leaf and its state new slots, whose elements are there: 1; 0: left to Python, -1: no memory."""
    recording = header.recording
    height = recording.n_free - (width - 1)
    leaf = part2(context.item_of_list, handles, i * width)
    was, leaves = at(leaf + context.slot_offset), at(tape + context.leaves_offset)
    known = part2(context.item_of_dict, leaves, was)
    if known == 0:
        return 0
    made = part1(context.new_tuple, width - 1)
    if made == 0:
        return -1
    for k in range(width - 1):
        number = part1(context.from_integer, recording.free[height + k])
        if number == 0:
            call1(context.dec_ref, made)
            return -1
        part3(context.set_item, made, k, number)
    if (
        part3(context.set_item_of_dict, at(tape + context.former_offset), was, known) != 0
        or part3(context.set_item_of_dict, leaves, part2(context.item_of_tuple, made, 0), known) != 0
        or not count(context, leaf)
    ):  # fmt: skip
        call1(context.dec_ref, made)
        return -1
    recording.n_free = height
    for k in range(width - 1):
        number, t = part2(context.item_of_tuple, made, k), leaf
        if k > 0:
            t = part2(context.item_of_list, handles, i * width + k + 1)
        slot = Slot(header.slots_at + SLOT_BYTES * recording.free[height + k])
        slot.kind = part1(context.as_integer, at(at(t + context.kind_offset) + context.index_offset))
        slot.row, slot.primal, slot.adjoint, slot.base, slot.flags = -1, at(results + 8 * k), 0, -1, STORED | OWNED
        call1(context.inc_ref, number)
        header.live[recording.free[height + k]] = 1
        hold(context, header, t, number, at(t + context.kind_offset))
    call1(context.dec_ref, made)
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
