"""Calls of compiled functions, in native code: arguments are looked at, copied in, a program is run, results are made.

`Compiled.__call__` is this function of the type (`replay/entry.py` puts it there). What it knows of the world is in
`CallFacts`, what it knows of a compiled function in its `Front`: plans, each of which says for what arguments a program
is, where they are copied to, and of what results are made.

Native code does what it has no doubt about: everything else is left to the Python function whose place it has taken. A
program's guards decide whether its results hold; where one misses, the plan whose guard expects what was found is next.

Making an object that the garbage collector knows may run any code. So the tuple of results is made first; from then on
nothing can come between until the arguments have been used and the results are made.
"""

import numpy as np

from tapegrad.core.registers import copy
from tapegrad.core.replaying import MISSED, differ, replay
from tapegrad.core.rows import OK
from tapegrad.memory import Record, array, at, call1, f4, f8, i4, i8, part0, part1, part2, part3, part9, word
from tapegrad.tape import STORED, Header

# What is looked at: see `CallCheck`; and what is copied.
ARRAY, TENSOR, FLOAT, NUMBER, STATIC, SINGLE = range(6)
# What Python computes with numbers of the caller's: floats at addresses, see `CallNumber`.
GIVEN, SUM, DIFFERENCE, PRODUCT, QUOTIENT, NEGATIVE, SIZE, LESS, AT_MOST, EQUAL, SAME_BITS = range(11)
# What is made.
DOUBLE_NUMBER, SINGLE_NUMBER, NEW_ARRAY = range(3)


class CallFacts(Record):
    """What is so for the life of the process."""

    array = word()  # objects: types, and functions that are called with what is left to Python
    float = word()
    python = word()
    none = word()
    false = word()
    default_dtype = word()  # the address of its code
    clock = word()  # that of the number of calls
    type_offset = word()  # of what objects hold
    front_offset = word()
    float_offset = word()
    size_offset = word()
    items_offset = word()  # of a tuple
    list_offset = word()
    data_offset = word()  # of an array
    dimensions_offset = word()
    shape_offset = word()
    strides_offset = word()
    dtype_offset = word()
    flags_offset = word()
    tape_offset = word()  # of a tensor
    slot_offset = word()
    kind_offset = word()
    watch_offset = word()  # of a tape
    sweeping_offset = word()
    duals_offset = word()
    grad_enabled_offset = word()
    checks_nan_offset = word()
    owner_offset = word()  # of a lock
    thread = word()  # functions of the C API
    as_integer = word()
    new_object = word()
    inc_ref = word()
    dec_ref = word()
    new_tuple = word()
    set_item = word()
    call = word()
    dict_size = word()
    new_array = word()


class CallCheck(Record):
    """What an argument, or an object that the function reads, has to be."""

    what = word()
    object = word()  # 0: the argument at
    place = word()
    type = word()
    fact = word()  # the dtype, the kind, the bits, or the object itself
    n_dimensions = word()
    extents = word()  # the address of shape and strides
    flags = word()
    like = word()  # of tensors: the place of the first argument that is the same object


class CallNumber(Record):
    """A number that is computed of one or two others; or that they compare as is `expected`."""

    what = word()
    a = word()  # addresses; of the argument GIVEN, its place
    b = word()
    target = word()
    expected = word()


class CallCopy(Record):
    """Elements to be copied in."""

    what = word()
    object = word()
    place = word()
    target = word()
    nbytes = word()


class CallResult(Record):
    """A result."""

    what = word()
    source = word()
    nbytes = word()
    n_dimensions = word()
    extents = word()
    type_number = word()


class CallPlan(Record):
    """What calls a program belongs to, on one thread."""

    header = at(Header)
    tape = word()  # objects
    lock = word()
    levels = word()
    grad_enabled = word()
    default_dtype = word()
    group = word()  # the same for programs that go apart at guards
    n_arguments = word()
    n_checks = word()
    n_numbers = word()
    n_copies = word()
    n_guards = word()
    n_made = word()
    checks = array("CallCheck", "n_checks")
    numbers = array("CallNumber", "n_numbers")
    copies = array("CallCopy", "n_copies")
    guards = array(np.int64, "n_guards")  # the addresses of the steps
    made = array("CallResult", "n_made")
    text = word()
    tables = word()
    finish = word()  # an object that makes the result of these, or 0
    replays = word()
    misses = word()
    used = word()
    warm = word()  # so many replays, and Python makes machine code of the program


class Front(Record):
    """What is known of a compiled function."""

    n_results = word()  # of a tuple; 0 for what is none
    n_plans = word()
    plans = array(np.int64, "n_plans")  # their addresses


PLAIN = 0


def word_at(address):
    """The word at an address."""
    return i8(address, 1)[0]


def call_program(compiled, args, kwargs, context: CallFacts):
    """What a compiled function returns: a new reference, or 0 and an exception. `kwargs` may be 0."""
    address = front_of(compiled, context)
    if kwargs and part1(context.dict_size, kwargs):
        address = 0
    if address:
        n_results, results = Front(address).n_results, 0
        if n_results:
            results = part1(context.new_tuple, n_results)
            if results == 0:
                return 0
        plan = run_plan(compiled, args, n_results, context)
        if plan > 0:
            return make_results(plan, results, context)
        if results:
            call1(context.dec_ref, results)
    return leave_to_python(compiled, args, kwargs, context)


def front_of(compiled, context):
    """The address of what is known of a compiled function, or 0."""
    o = word_at(compiled + context.front_offset)
    return part1(context.as_integer, o) if o else 0


def leave_to_python(compiled, args, kwargs, context):
    """What the Python function answers."""
    n, items = word_at(args + context.size_offset), args + context.items_offset
    arguments = part1(context.new_tuple, n + 1)
    if arguments == 0:
        return 0
    call1(context.inc_ref, compiled)
    part3(context.set_item, arguments, 0, compiled)
    for i in range(n):
        call1(context.inc_ref, word_at(items + 8 * i))
        part3(context.set_item, arguments, i + 1, word_at(items + 8 * i))
    result = part3(context.call, context.python, arguments, kwargs)
    call1(context.dec_ref, arguments)
    return result


def run_plan(compiled, args, n_results, context):
    """Find a plan for arguments, and run its program: the plan, or PLAIN."""
    address = front_of(compiled, context)
    if address == 0:
        return PLAIN
    front = Front(address)
    thread, n = part0(context.thread), word_at(args + context.size_offset)
    items, chosen = args + context.items_offset, -1
    for i in range(front.n_plans if front.n_results == n_results else 0):
        if fits(CallPlan(front.plans[i]), thread, n, items, context):
            chosen = i
            break
    misses = 0
    while chosen >= 0 and misses <= front.n_plans:
        plan = CallPlan(front.plans[chosen])
        if plan.replays == plan.warm or not copy_in(plan, items, context):
            return PLAIN
        status = replay(plan.header, plan.text, plan.tables)
        if status == OK:
            clock = i8(context.clock, 1)
            clock[0] += 1
            plan.replays, plan.misses, plan.used = plan.replays + 1, plan.misses + misses, clock[0]
            return front.plans[chosen]
        if status < MISSED:
            return PLAIN
        misses += 1
        chosen = _next(front, chosen, status - MISSED, thread, n, items, context)
    return PLAIN


def _next(front, missed, guard, thread, n, items, context):
    """The plan of the group whose guard expects what was found; -1 where there is none."""
    plan, found = CallPlan(front.plans[missed]), -1
    step = i8(plan.guards[guard], 5)
    for i in range(front.n_plans):
        other = CallPlan(front.plans[i])
        if i == missed or other.group != plan.group or other.n_guards <= guard or found >= 0:
            continue
        expected = i8(other.guards[guard], 5)
        is_expected = expected[3] == step[3] and not differ(step[1], expected[2], step[3])
        if is_expected and fits(other, thread, n, items, context):
            found = i
    return found


def fits(plan, thread, n, items, context):
    """Whether a plan is for these arguments, here and now."""
    if plan.header.recording.thread != thread or plan.n_arguments != n:
        return False
    tape = plan.tape
    if (
        word_at(tape + context.watch_offset) != context.none
        or word_at(tape + context.sweeping_offset) != context.none
        or word_at(tape + context.duals_offset) != context.none
        or word_at(tape + context.grad_enabled_offset) != plan.grad_enabled
        or word_at(tape + context.checks_nan_offset) != context.false
        or word_at(plan.lock + context.owner_offset) != 0
        or word_at(plan.levels + context.list_offset) != 0
        or word_at(context.default_dtype) != plan.default_dtype
    ):
        return False
    fit = True
    for i in range(plan.n_checks):
        check = plan.checks[i]
        o = check.object
        if o == 0:
            o = word_at(items + 8 * check.place)
        if word_at(o + context.type_offset) != check.type:
            fit = False
        elif check.what == ARRAY:
            fit = _is_such_array(o, check, context)
        elif check.what == NUMBER:
            fit = word_at(o + context.float_offset) == check.fact
        elif check.what == TENSOR:
            fit = word_at(o + context.kind_offset) == check.fact and word_at(o + context.tape_offset) == tape
            for k in range(check.place if check.object == 0 else 0):
                if (word_at(items + 8 * k) == o) != (k == check.like):
                    fit = False
        elif check.what == STATIC:
            fit = o == check.fact
        if not fit:
            break
    if fit:
        fit = _are_such_numbers(plan, items, context)
    return fit


def _are_such_numbers(plan, items, context):
    """Compute with the caller's numbers as Python would; False where they compare otherwise, or Python would raise."""
    fit = True
    for i in range(plan.n_numbers):
        number = plan.numbers[i]
        if number.what == GIVEN:
            i8(number.target, 1)[0] = word_at(word_at(items + 8 * number.a) + context.float_offset)
        else:
            fit = computes(number)
        if not fit:
            break
    return fit


def computes(number):
    """Compute a number of one or two others; False where they compare otherwise, or Python would raise."""
    what, a, b, fit = number.what, number.a, number.b, True
    if what == SUM:
        f8(number.target, 1)[0] = f8(a, 1)[0] + f8(b, 1)[0]
    elif what == DIFFERENCE:
        f8(number.target, 1)[0] = f8(a, 1)[0] - f8(b, 1)[0]
    elif what == PRODUCT:
        f8(number.target, 1)[0] = f8(a, 1)[0] * f8(b, 1)[0]
    elif what == QUOTIENT:
        if word_at(b) << 1 == 0:
            fit = False
        else:
            f8(number.target, 1)[0] = f8(a, 1)[0] / f8(b, 1)[0]
    elif what == NEGATIVE:
        i8(number.target, 1)[0] = word_at(a) ^ (-(1 << 63))
    elif what == SIZE:
        i8(number.target, 1)[0] = word_at(a) & ((1 << 63) - 1)
    elif what == LESS:
        fit = (f8(a, 1)[0] < f8(b, 1)[0]) == (number.expected != 0)
    elif what == AT_MOST:
        fit = (f8(a, 1)[0] <= f8(b, 1)[0]) == (number.expected != 0)
    elif what == EQUAL:
        fit = (f8(a, 1)[0] == f8(b, 1)[0]) == (number.expected != 0)
    else:
        fit = word_at(a) == word_at(b)
    return fit


def _is_such_array(o, check, context):
    """Whether an array has the dtype, the shape, the strides and the flags that a check says."""
    n = check.n_dimensions
    if (
        word_at(o + context.dtype_offset) != check.fact
        or i4(o + context.dimensions_offset, 1)[0] != n
        or i4(o + context.flags_offset, 1)[0] & 0x500 != check.flags
    ):
        return False
    differing = 0
    shape, strides = word_at(o + context.shape_offset), word_at(o + context.strides_offset)
    for k in range(n):
        differing |= word_at(shape + 8 * k) ^ word_at(check.extents + 8 * k)
        differing |= word_at(strides + 8 * k) ^ word_at(check.extents + 8 * (n + k))
    return differing == 0


def copy_in(plan, items, context):
    """CallCopy what a program reads; False where that has to be computed first."""
    header = plan.header
    for i in range(plan.n_copies):
        copied = plan.copies[i]
        o = copied.object
        if o == 0:
            o = word_at(items + 8 * copied.place)
        if copied.what == ARRAY:
            copy(copied.target, word_at(o + context.data_offset), copied.nbytes)
        elif copied.what == FLOAT:
            i8(copied.target, 1)[0] = word_at(o + context.float_offset)
        elif copied.what == SINGLE:
            f4(copied.target, 1)[0] = f8(o + context.float_offset, 1)[0]
        else:
            slot = header.slots[part1(context.as_integer, word_at(o + context.slot_offset))]
            if not slot.flags & STORED:
                return False
            copy(copied.target, slot.primal, copied.nbytes)
    return True


def make_results(address, results, context):
    """The result of a plan that was run. `results` is a tuple for them, or 0."""
    plan, o = CallPlan(address), results
    finish, n = plan.finish, plan.n_made
    for i in range(n):
        made = plan.made[i]
        if made.what == NEW_ARRAY:
            o = part9(
                context.new_array, context.array, made.n_dimensions, made.extents, made.type_number, 0, 0, 0, 0, 0
            )
            if o:
                copy(word_at(o + context.data_offset), made.source, made.nbytes)
        else:
            o = part2(context.new_object, context.float, 0)
            if o and made.what == DOUBLE_NUMBER:
                i8(o + context.float_offset, 1)[0] = word_at(made.source)
            elif o:
                f8(o + context.float_offset, 1)[0] = f4(made.source, 1)[0]
        if o == 0:
            break
        if results:
            part3(context.set_item, results, i, o)
            o = results
    if o and finish:
        call1(context.inc_ref, finish)
        o = _finished(finish, o, context)
        call1(context.dec_ref, finish)
    elif o == 0 and results:
        call1(context.dec_ref, results)
    return o


def _finished(finish, o, context):
    """What Python makes of the result; its reference is taken."""
    arguments = part1(context.new_tuple, 1)
    if arguments == 0:
        call1(context.dec_ref, o)
        return 0
    part3(context.set_item, arguments, 0, o)
    result = part3(context.call, finish, arguments, 0)
    call1(context.dec_ref, arguments)
    return result
