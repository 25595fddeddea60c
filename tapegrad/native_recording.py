"""Recording in native code: the C functions that `recorder.py` puts in the places of Python's.

They are compiled by Numba. What they are given are addresses: of objects, and of `Facts`. Addresses are integers, and 0
is none.

An element that is assigned, or added to, is recorded as Python would: a row that makes a copy of the tensor with the
element written (the sweep writes it where it lies), whose slot the handle gets:

    x[i, j] += v      %4 = select(%3, position)       x[i, j], the handle of a view
                      %5 = add(%4, v)
                      %6 = write(%3, %5, position)    what x holds now
                      %7 = select(%6, position)       what the view holds now
                                                      x[i, j] = the view: which it is already

So it is where nobody else shares the elements: no other view is alive, NumPy doesn't have the memory.
"""

from __future__ import annotations

from tapegrad.dtypes import FLOAT32, FLOAT64, INT32, INT64
from tapegrad.kinds import PLACE_BITS
from tapegrad.memory import Record, array, call1, f4, f8, i4, i8, index_of, part0, part1, part2, part3, word
from tapegrad.tape import IMM_A, IMM_B, OPCODES, PARAMS, STORED, UNMET, Header, Row, Slot

NOTED = 16  # views of a base that are noted before those that are gone are forgotten
# In the place of a bound: there is none; or the index is an int. No slice of a tensor has such bounds.
NO_BOUND, IS_INT = -(1 << 62), -(1 << 62) + 1
FLOAT, INTEGER = 1, 2  # kinds of number
PLAIN, GRADED, WATCHED = 0, 1, 2  # how rows are recorded: without gradients, with, or without where a watch looks on
MIX_OPCODE, MIX_A, MIX_B = 0x1E3779B97F4A7C15, 0x3F58476D1CE4E5B9, 0x14D049BB133111EB  # odd, from splitmix64
_WRITE_FLAGS = PARAMS << 16
_FLOAT64, _FLOAT32, _INT64, _INT32 = FLOAT64.code, FLOAT32.code, INT64.code, INT32.code
_LARGEST_FLOAT32, _INFINITY = 3.4028234663852886e38, float("inf")
_EXACT = 1 << 24  # ints up to here are float32 numbers
_OF_SHAPE, _OF_START, _OF_DETACHED, _OF_RECORDED, _RECIPE = 1, 5, 7, 8, 9  # of a recipe: see `aliasing.Recipe`


class Facts(Record):
    """What native code needs to know: see above."""

    tensor = word()  # objects; the last is called with what is left to Python
    true = word()
    false = word()
    traced = word()  # in the places of these, where something looks on
    untraced = word()
    python = word()
    type_offset = word()
    float_offset = word()
    tape_offset = word()
    slot_offset = word()
    kind_offset = word()
    header_offset = word()
    grad_enabled_offset = word()
    base_offset = word()
    recipe_offset = word()
    fresh_offset = word()
    known_offset = word()
    writes_offset = word()
    grad_offset = word()
    contiguous_offset = word()  # of a kind
    is_leaf_offset = word()
    exported_offset = word()
    passive_offset = word()
    gradient_offset = word()
    index_offset = word()
    numel_offset = word()
    retained_offset = word()  # of a tape
    arrays_offset = word()
    leaves_offset = word()
    former_offset = word()
    low_offset = word()
    referent_offset = word()  # of a weak reference
    start_offset = word()  # of a slice
    stop_offset = word()
    step_offset = word()
    ops = array("OpRecord", OPCODES)  # a tape's header has them only when it is swept
    entries = word()  # the look-up's address, and its length less one
    mask = word()
    view_entries = word()  # and that of views
    view_mask = word()
    element_entries = word()  # that of elements
    element_mask = word()
    places = word()  # the address of `kinds.places`, by blocks of positions, and how many there may be
    n_places = word()
    float = word()  # Python's types, and None
    integer = word()
    slice = word()
    none = word()
    tuple = word()
    outdated = word()  # the type of views that are outdated, and that of how a view is made
    recipe = word()
    kinds = word()  # the list of all
    select = word()
    empty = word()
    write = word()  # the opcode
    get_item = word()  # Python functions, called with what is left to them
    set_item_in_python = word()
    in_place = word()
    more_numbers = word()  # called where there is no room for numbers
    numbers = word()  # an array that has room for numbers, where the next goes, and where it ends
    next_number = word()
    last_number = word()
    new_list = word()
    list_size = word()
    append = word()
    drop_item = word()
    reference = word()
    overflow = word()  # where the C API reports that an integer is too large
    new_object = word()  # functions of the C API
    inc_ref = word()
    dec_ref = word()
    as_integer = word()
    as_checked_integer = word()
    from_integer = word()
    thread = word()
    new_tuple = word()
    set_item = word()
    call = word()
    tuple_size = word()
    item_of_tuple = word()
    item_of_list = word()
    dict_size = word()
    item_of_dict = word()
    set_item_of_dict = word()


class Entry(Record):
    """An entry of the look-up."""

    opcode = word()  # and 1
    a = word()
    b = word()
    kind = word()
    index = word()
    passive = word()
    passive_index = word()
    number = word()


class ViewEntry(Record):
    """An entry of the look-up of views."""

    base = word()  # the address of a kind
    start = word()
    stop = word()
    step = word()
    kind = word()  # of the view, then as above
    index = word()
    passive = word()
    passive_index = word()
    recipe = word()  # objects: how it is made of its base, with gradients and without
    untracked = word()
    head = word()  # of the row: opcode and flags, and then `b` and `c`
    bits = word()


class ElementEntry(Record):
    """An entry of the look-up of elements: how one of a contiguous tensor is shown, and whether one is written here."""

    base = word()  # the address of a kind
    ndim = word()
    shape = word()  # the address of the lengths
    strides = word()  # an object
    itemsize = word()
    dtype = word()  # its code
    kind = word()  # of the view, then as above
    index = word()
    passive = word()
    passive_index = word()
    head = word()  # of the row
    written = word()  # never (0), always (1), or where gradients are recorded (2)


C = index_of(Facts)
_ROW_BYTES, SLOT_BYTES, _ENTRY_BYTES, _VIEW_BYTES, _ELEMENT_BYTES = (
    record.nbytes for record in (Row, Slot, Entry, ViewEntry, ElementEntry)
)  # fmt: skip


def at(address):
    """The word at an address."""
    return i8(address, 1)[0]


def record_operation(a, b, opcode, context: Facts):
    """The result of an operation on two objects, or on one and 0: a new reference, or 0 and an exception."""
    made = part2(context.new_object, context.tensor, 0)
    if made == 0:
        return 0
    done = _write(a, b, opcode, context, made)
    if done > 0:
        return made
    call1(context.dec_ref, made)
    return 0 if done < 0 else _ask(a, b, opcode, context, context.python)


def header_of(context, tape):
    """The header of a tape, an object."""
    return Header(part1(context.as_integer, at(tape + context.header_offset)))


def _mode(context, header, tape):
    """How rows are recorded; -1 where Python does it, which notes more."""
    enabled, watched = at(tape + context.grad_enabled_offset), header.recording.n_before != 0
    if enabled == context.true or (watched and enabled == context.traced):
        return GRADED
    if enabled == context.false:
        return PLAIN
    return WATCHED if watched and enabled == context.untraced else -1


def _is_known(context, recording, t):
    """Whether a watch, where there is one, knows where the elements of a tensor of this tape come from."""
    if recording.n_before == 0:
        return True
    slot = part1(context.as_integer, at(t + context.slot_offset))
    return slot >= recording.n_before or recording.before[slot] != UNMET


def _note_slot(recording, slot):
    """Note that a slot is new, where a watch looks on."""
    if slot < recording.n_before:
        recording.before[slot] = 0


def _entry(context, opcode, a, b):
    """The entry of an operation on operands of these kinds or types; its opcode is 0 where there is none."""
    i = (((opcode + 1) * MIX_OPCODE + a * MIX_A + b * MIX_B) >> 32) & context.mask
    entry = Entry(context.entries + _ENTRY_BYTES * i)
    while entry.opcode != 0 and (entry.opcode != opcode + 1 or entry.a != a or entry.b != b):
        i = (i + 1) & context.mask
        entry = Entry(context.entries + _ENTRY_BYTES * i)
    return entry


def _second(context, row, sort, number, b):
    """Enter what comes second in a row: a number of a sort, a tensor's slot, or nothing. False: it is too large."""
    if sort == FLOAT:
        row.bits = at(number + context.float_offset)
    elif sort == INTEGER:
        value = part2(context.as_checked_integer, number, context.overflow_at)
        if i4(context.overflow_at, 1)[0] != 0:
            return False
        row.immediate = value
    elif b != 0:
        row.bits = part1(context.as_integer, at(b + context.slot_offset))
    else:
        row.bits = 0
    return True


def _write(a, b, opcode, context, made):
    """Write the row, and make `made` the handle of its result. 1: done, 0: left to Python, -1: no memory."""
    tensor, kind_at, tape_at, slot_at = context.tensor, context.kind_offset, context.tape_offset, context.slot_offset
    first, number, flags = a, 0, 0
    key_a, key_b = at(a + context.type_offset), 0
    if key_a == tensor:
        key_a = at(a + kind_at)
    else:
        first, number, flags = b, a, IMM_A
    if b != 0:
        key_b = at(b + context.type_offset)
        if key_b == tensor:
            key_b = at(b + kind_at)
        elif number != 0:
            return 0
        else:
            number, flags = b, IMM_B
    if first == 0:
        return 0
    tape = at(first + tape_at)
    if tape == 0 or (number == 0 and b != 0 and at(b + tape_at) != tape):
        return 0
    header = header_of(context, tape)
    recording = header.recording
    end, height = recording.filled, recording.n_free - 1
    if height < 0 or end + 24 > recording.row_bytes or recording.thread != part0(context.thread):
        return 0
    if not _is_known(context, recording, first) or (number == 0 and b != 0 and not _is_known(context, recording, b)):
        return 0

    entry, mode = _entry(context, opcode, key_a, key_b), _mode(context, header, tape)
    if entry.opcode == 0 or mode < 0 or (mode == WATCHED and entry.kind != entry.passive):  # there may be tangents
        return 0
    kind, index = entry.kind, entry.index
    if mode != GRADED:
        kind, index = entry.passive, entry.passive_index

    row = Row(header.rows_at + end)
    if not _second(context, row, entry.number, number, b):
        return 0
    slot = recording.free[height]
    slot_object = part1(context.from_integer, slot)
    if slot_object == 0:
        return -1
    row.opcode, row.flags, row.out = opcode, flags, slot
    row.a, row.kind = part1(context.as_integer, at(first + slot_at)), index
    _note_slot(recording, slot)
    recording.filled, recording.n_free = end + 24, height
    call1(context.inc_ref, tape)
    call1(context.inc_ref, kind)
    i8(made + tape_at, 1)[0] = tape
    i8(made + slot_at, 1)[0] = slot_object
    i8(made + kind_at, 1)[0] = kind
    return 1


def record_view(a, index, context: Facts):
    """A view by an int or a slice, of two objects: a new reference, or 0 and an exception."""
    made = part2(context.new_object, context.tensor, 0)
    if made == 0:
        return 0
    done = _write_view(a, index, context, made)
    if done > 0:
        return made
    call1(context.dec_ref, made)
    return 0 if done < 0 else _call(context, context.get_item, a, index, 0)


def _bound(context, o):
    """A bound of a slice, or an int, as a number; 0 in the context's `overflow` word where it is one."""
    if o == context.none:
        i4(context.overflow_at, 1)[0] = 0
        return NO_BOUND
    if at(o + context.type_offset) != context.integer:
        i4(context.overflow_at, 1)[0] = 1
        return 0
    return part2(context.as_checked_integer, o, context.overflow_at)


def _write_view(a, index, context, made):
    """Write the row, and make `made` the handle of its result. 1: done, 0: left to Python, -1: no memory."""
    if at(a + context.type_offset) != context.tensor or at(a + context.base_offset) != 0:
        return 0
    of, tape, type_of_index = at(a + context.kind_offset), at(a + context.tape_offset), at(index + context.type_offset)
    if tape == 0 or of == 0:
        return 0
    element = _element_entry(context, of)
    position = _position(context, element, index)
    if position >= 0:
        return _write_element(a, position, context, element, tape, made)
    stop, step = IS_INT, 0
    if type_of_index == context.integer:
        start = _bound(context, index)
    elif type_of_index == context.slice:
        start = _bound(context, at(index + context.start_offset))
        if i4(context.overflow_at, 1)[0] == 0:
            stop = _bound(context, at(index + context.stop_offset))
        if i4(context.overflow_at, 1)[0] == 0:
            step = _bound(context, at(index + context.step_offset))
    else:
        return 0
    if i4(context.overflow_at, 1)[0] != 0:
        return 0
    i = ((of * MIX_A + start * MIX_B + stop * MIX_OPCODE + step) >> 32) & context.view_mask
    entry = ViewEntry(context.view_entries + _VIEW_BYTES * i)
    while entry.base != of or entry.start != start or entry.stop != stop or entry.step != step:
        if entry.base == 0:
            return 0
        i = (i + 1) & context.view_mask
        entry = ViewEntry(context.view_entries + _VIEW_BYTES * i)
    kind, kind_index, recipe, head, bits = entry.kind, entry.index, entry.recipe, entry.head, entry.bits
    mode = _mode(context, header_of(context, tape), tape)
    if mode < 0 or (mode == WATCHED and kind != entry.passive):
        return 0
    if mode != GRADED:
        kind, kind_index, recipe = entry.passive, entry.passive_index, entry.untracked

    return _view_of(a, context, of, tape, made, kind, kind_index, recipe, head, bits)


def _view_of(a, context, of, tape, made, kind, kind_index, recipe, head, bits):
    """Write the row of a view of `a`, and make `made` the handle of its result. 1, 0, -1: see above."""
    tape_at, slot_at, kind_at, fresh_at = (
        context.tape_offset, context.slot_offset, context.kind_offset, a + context.fresh_offset
    )  # fmt: skip
    # What the garbage collector may be run by comes before all else is looked at: see above.
    if at(fresh_at) != 0 and part1(context.list_size, at(fresh_at)) >= NOTED and not _forget(context, a):
        return 0
    fresh = at(fresh_at)
    if fresh == 0:
        fresh = part1(context.new_list, 0)
        if fresh == 0:
            return -1
        if at(fresh_at) != 0:
            call1(context.dec_ref, fresh)
            return 0
        i8(fresh_at, 1)[0] = fresh
    reference = part2(context.reference, made, 0)
    if reference == 0:
        return -1
    call1(context.inc_ref, fresh)
    failed = part2(context.append, fresh, reference)
    call1(context.dec_ref, fresh)
    call1(context.dec_ref, reference)
    if failed != 0:
        return -1
    if (
        at(fresh_at) != fresh or at(a + kind_at) != of or at(a + tape_at) != tape
        or at(a + context.type_offset) != context.tensor
    ):  # fmt: skip
        return 0
    header = header_of(context, tape)
    recording = header.recording
    end, height = recording.filled, recording.n_free - 1
    if height < 0 or end + 24 > recording.row_bytes or recording.thread != part0(context.thread):
        return 0
    if not _is_known(context, recording, a):
        return 0
    slot = recording.free[height]
    slot_object = part1(context.from_integer, slot)
    if slot_object == 0:
        return -1
    row = Row(header.rows_at + end)
    i4(header.rows_at + end, 1)[0] = head
    row.out, row.bits, row.kind = slot, bits, kind_index
    row.a = part1(context.as_integer, at(a + slot_at))
    _note_slot(recording, slot)
    recording.filled, recording.n_free = end + 24, height
    call1(context.inc_ref, tape)
    call1(context.inc_ref, kind)
    call1(context.inc_ref, a)
    call1(context.inc_ref, recipe)
    i8(made + tape_at, 1)[0] = tape
    i8(made + slot_at, 1)[0] = slot_object
    i8(made + kind_at, 1)[0] = kind
    i8(made + context.base_offset, 1)[0] = a
    i8(made + context.recipe_offset, 1)[0] = recipe
    return 1


def _write_element(a, position, context, element, tape, made):
    """Likewise, of the view of one element."""
    kind, kind_index, recorded = element.kind, element.index, context.true
    mode = _mode(context, header_of(context, tape), tape)
    if mode < 0 or (mode == WATCHED and kind != element.passive):
        return 0
    if mode != GRADED:
        kind, kind_index, recorded = element.passive, element.passive_index, context.false
    offset = position * element.itemsize
    start, recipe = part1(context.from_integer, offset), part2(context.new_object, context.recipe, _RECIPE)
    if start == 0 or recipe == 0:
        return -1
    for i in range(_RECIPE):
        item = context.empty
        if i == 0:
            item = context.select
        elif i == 3 or i == _OF_START:
            item = start
        elif i == 6:
            item = element.strides
        elif i == _OF_DETACHED:
            item = context.false
        elif i == _OF_RECORDED:
            item = recorded
        call1(context.inc_ref, item)
        part3(context.set_item, recipe, i, item)
    call1(context.dec_ref, start)
    done = _view_of(a, context, element.base, tape, made, kind, kind_index, recipe, element.head, offset)
    call1(context.dec_ref, recipe)
    return done


def _ask(a, b, opcode, context, function):
    """What a Python function of operations answers: it is told which."""
    code = part1(context.from_integer, opcode)
    if code == 0:
        return 0
    result = _call(context, function, code, a, b)
    call1(context.dec_ref, code)
    return result


def _call(context, function, a, b, c):
    """What a Python function answers to three objects, or to two and 0: a new reference, or 0 and an exception."""
    arguments = part1(context.new_tuple, 2 if c == 0 else 3)
    if arguments == 0:
        return 0
    call1(context.inc_ref, a)
    call1(context.inc_ref, b)
    part3(context.set_item, arguments, 0, a)
    part3(context.set_item, arguments, 1, b)
    if c != 0:
        call1(context.inc_ref, c)
        part3(context.set_item, arguments, 2, c)
    result = part3(context.call, function, arguments, 0)
    call1(context.dec_ref, arguments)
    return result


def finalise_handle(t, context: Facts):
    """One holder less of its slot, as `Tensor.__del__` has it; a handle not yet given a slot has none."""
    tape, slot_object = at(t + context.tape_offset), at(t + context.slot_offset)
    if tape != 0 and slot_object != 0:
        header = header_of(context, tape)
        slot = part1(context.as_integer, slot_object)
        if 0 <= slot < header.recording.n_slots:
            header.live[slot] -= 1
    return 0


# --- writing elements -------------------------------------------------------------------------------------------------


def _element_entry(context, kind):
    """The entry of elements of tensors of a kind; its `base` is 0 where there is none."""
    i = (kind * MIX_A >> 32) & context.element_mask
    entry = ElementEntry(context.element_entries + _ELEMENT_BYTES * i)
    while entry.base != 0 and entry.base != kind:
        i = (i + 1) & context.element_mask
        entry = ElementEntry(context.element_entries + _ELEMENT_BYTES * i)
    return entry


def _coordinate(context, o, n):
    """An index along a dimension of length n, counted from its beginning; -1 where it isn't an int, or is out of it."""
    if at(o + context.type_offset) != context.integer:
        return -1
    i = part2(context.as_checked_integer, o, context.overflow_at)
    if i4(context.overflow_at, 1)[0] != 0 or i < -n or i >= n:
        return -1
    return i + n if i < 0 else i


def _position(context, element, index):
    """The position of the one element that an index names, in their order; -1 of all other indices."""
    if element.base == 0:
        return -1
    shape = i8(element.shape, element.ndim)
    if at(index + context.type_offset) != context.tuple:
        return _coordinate(context, index, shape[0]) if element.ndim == 1 else -1
    if part1(context.tuple_size, index) != element.ndim:
        return -1
    position = 0
    for d in range(element.ndim):
        i = _coordinate(context, part2(context.item_of_tuple, index, d), shape[d])
        if i < 0:
            return -1
        position = position * shape[d] + i
    return position


def is_alone(context, a, view):
    """Whether nobody shares the elements of `a`, but for a view of it."""
    known, fresh = at(a + context.known_offset), at(a + context.fresh_offset)
    if known != 0 and known != context.none:
        return False
    found = view == 0
    for i in range(0 if fresh == 0 else part1(context.list_size, fresh)):
        other = at(part2(context.item_of_list, fresh, i) + context.referent_offset)
        if other != context.none and other != view:
            return False
        found = found or other == view
    return found


def _forget(context, a):
    """Forget the views of `a` that native code has noted, where all are gone."""
    fresh = at(a + context.fresh_offset)
    for i in range(part1(context.list_size, fresh)):
        if at(part2(context.item_of_list, fresh, i) + context.referent_offset) != context.none:
            return False
    i8(a + context.fresh_offset, 1)[0] = 0
    call1(context.dec_ref, fresh)
    return True


def _may_write(context, element, tape, enabled):
    """Whether to write to a tensor is to give it another slot: see `writing.stands_alone`, and `_is_alone`."""
    return (
        (element.written == 1 and (enabled == context.true or enabled == context.false))
        or (element.written == 2 and enabled == context.true)
    ) and part1(context.dict_size, at(tape + context.retained_offset)) == 0  # fmt: skip


def count(context, a):
    """Count a write. False: no memory."""
    counted = at(a + context.writes_offset)
    n = part1(context.from_integer, 1 + (0 if counted == 0 else part1(context.as_integer, counted)))
    if n == 0:
        return False
    i8(a + context.writes_offset, 1)[0] = n
    if counted != 0:
        call1(context.dec_ref, counted)
    return True


def hold(context, header, a, slot_object, kind):
    """Let the handle `a` have another slot, and kind; the reference to its number is used up."""
    slot_at, kind_at = a + context.slot_offset, a + context.kind_offset
    before, kind_before = at(slot_at), at(kind_at)
    call1(context.inc_ref, kind)
    i8(slot_at, 1)[0], i8(kind_at, 1)[0] = slot_object, kind
    header.live[part1(context.as_integer, before)] -= 1
    call1(context.dec_ref, before)
    call1(context.dec_ref, kind_before)


def write_item(a, index, value, context: Facts):
    """Assign an item of three objects, or delete that of two: 0, or -1 and an exception."""
    if value != 0:
        done = _assign(a, index, value, context)
        if done != 0:
            return 0 if done > 0 else -1
    result = _call(context, context.set_item_in_python, a, index, value)
    if result == 0:
        return -1
    call1(context.dec_ref, result)
    return 0


def _assign(a, index, value, context):
    """1: done, 0: left to Python, -1: no memory."""
    if at(a + context.type_offset) != context.tensor or at(a + context.base_offset) != 0:
        return 0
    of, type_of_value = at(a + context.kind_offset), at(value + context.type_offset)
    is_number = type_of_value == context.float or type_of_value == context.integer
    if is_number and context.next_number == context.last_number:  # anything may happen in the call
        made = part3(context.call, context.more_numbers, context.empty, 0)
        if made == 0:
            return -1
        call1(context.dec_ref, made)
    tape, element = at(a + context.tape_offset), _element_entry(context, of)
    position = _position(context, element, index)
    if position < 0 or tape == 0 or at(a + context.kind_offset) != of:
        return 0
    enabled = at(tape + context.grad_enabled_offset)
    header = header_of(context, tape)
    recording = header.recording
    if (
        recording.thread != part0(context.thread)
        or recording.n_before != 0
        or not _may_write(context, element, tape, enabled)
    ):
        return 0
    is_tensor = type_of_value == context.tensor
    if (is_tensor or type_of_value == context.outdated) and at(value + context.base_offset) == a:
        if not _shows(context, value, position * element.itemsize):
            return 0
        return 1 if count(context, a) else -1
    if not (is_tensor or is_number) or not is_alone(context, a, 0):
        return 0
    end, height = recording.filled, recording.n_free - 2
    if height < 0 or end + _ROW_BYTES > recording.row_bytes:
        return 0
    params = _params_of(context, position)
    if params == 0:
        return 0
    of_value = element.passive
    if is_tensor:
        if at(value + context.tape_offset) != tape:
            return 0
        of_value = at(value + context.kind_offset)
    entry = _entry(context, context.write, of, of_value)
    if entry.opcode == 0:
        return 0
    kind, kind_index = entry.kind, entry.index
    if enabled == context.false:
        kind, kind_index = entry.passive, entry.passive_index
    if is_tensor:
        second, height = part1(context.as_integer, at(value + context.slot_offset)), height + 1
    else:
        second = recording.free[height + 1]
        if not _put_number(context, value, type_of_value, element.dtype):
            return 0
        number_object = part1(context.from_integer, second)
        if number_object == 0:
            return -1
        failed = part3(context.set_item_of_dict, at(tape + context.arrays_offset), number_object, context.numbers)
        call1(context.dec_ref, number_object)
        if failed != 0:
            return -1
    slot = recording.free[height]
    slot_object = part1(context.from_integer, slot)
    if slot_object == 0 or not count(context, a):
        return -1
    if not is_tensor:
        number = Slot(header.slots_at + SLOT_BYTES * second)
        number.kind, number.row, number.primal = element.passive_index, -1, context.next_number
        number.adjoint, number.base, number.flags = 0, -1, STORED
        header.live[second] = 0
        context.next_number += 8
    _write_row(context, header, end, slot, a, second, params, kind_index)
    recording.filled, recording.n_free = end + _ROW_BYTES, height
    hold(context, header, a, slot_object, kind)
    return 1


def _write_row(context, header, end, slot, a, second, params, kind_index):
    """The row of a copy of `a` with one element written."""
    row = Row(header.rows_at + end)
    i4(header.rows_at + end, 1)[0] = context.write | _WRITE_FLAGS
    row.out, row.b, row.c, row.kind = slot, second, params, kind_index
    row.a = part1(context.as_integer, at(a + context.slot_offset))


def _params_of(context, position):
    """The index of a row's parameters for a position; 0 where there are none yet."""
    block = position >> PLACE_BITS
    first = i4(context.places, context.n_places)[block] if block < context.n_places else 0
    return 0 if first == 0 else first + 3 * (position & ((1 << PLACE_BITS) - 1))


def _shows(context, view, start):
    """Whether a view shows the one element that is so many bytes from the first, with the graph of its base."""
    recipe = at(view + context.recipe_offset)
    return (
        recipe != 0
        and at(recipe + context.type_offset) == context.recipe
        and part1(context.tuple_size, part2(context.item_of_tuple, recipe, _OF_SHAPE)) == 0
        and part1(context.as_integer, part2(context.item_of_tuple, recipe, _OF_START)) == start
        and part2(context.item_of_tuple, recipe, _OF_DETACHED) == context.false
    )


def _put_number(context, value, type_of_value, dtype):
    """Put a number where the next goes, in a dtype that can hold it; False where that is not all there is to do."""
    target = context.next_number
    if type_of_value == context.float:
        number = f8(value + context.float_offset, 1)[0]
        if dtype == _FLOAT64:
            f8(target, 1)[0] = number
            return True
        if dtype == _FLOAT32 and not (_LARGEST_FLOAT32 < abs(number) < _INFINITY):
            f4(target, 1)[0] = number
            return True
        return False
    whole = part2(context.as_checked_integer, value, context.overflow_at)
    if i4(context.overflow_at, 1)[0] != 0:
        return False
    if dtype == _FLOAT64:
        f8(target, 1)[0] = whole
    elif dtype == _FLOAT32 and -_EXACT <= whole <= _EXACT:
        f4(target, 1)[0] = whole
    elif dtype == _INT64:
        i8(target, 1)[0] = whole
    elif dtype == _INT32 and -(1 << 31) <= whole < 1 << 31:
        i4(target, 1)[0] = whole
    else:
        return False
    return True


def write_in_place(a, b, opcode, context: Facts):
    """`a` with what an operation gives in its place: a reference to it, or 0 and an exception."""
    done = _replace(a, b, opcode, context)
    if done > 0:
        call1(context.inc_ref, a)
        return a
    return 0 if done < 0 else _ask(a, b, opcode, context, context.in_place)


def _replace(a, b, opcode, context):
    """1: done, 0: left to Python, -1: no memory. `a` shares its elements with nobody, or is an element of such."""
    if at(a + context.type_offset) != context.tensor:
        return 0
    tape, kind, base = at(a + context.tape_offset), at(a + context.kind_offset), at(a + context.base_offset)
    number, key, flags = b, at(b + context.type_offset), IMM_B
    if key == context.tensor:
        if at(b + context.tape_offset) != tape:
            return 0
        number, key, flags = 0, at(b + context.kind_offset), 0
    if tape == 0:
        return 0
    entry, enabled = _entry(context, opcode, kind, key), at(tape + context.grad_enabled_offset)
    if entry.opcode == 0 or at(kind + context.contiguous_offset) != context.true:
        return 0
    recorded = enabled == context.true
    if not recorded and enabled != context.false:
        return 0
    result, kind_index = (entry.kind, entry.index) if recorded else (entry.passive, entry.passive_index)
    is_leaf = at(kind + context.is_leaf_offset) == context.true
    if is_leaf and not recorded and base == 0 and result == at(kind + context.passive_offset):  # it stays one
        kind_index = part1(context.as_integer, at(kind + context.index_offset))
    elif result != kind:
        return 0
    header = header_of(context, tape)
    recording = header.recording
    if recording.thread != part0(context.thread) or part1(context.dict_size, at(tape + context.retained_offset)) != 0:
        return 0
    if recording.n_before != 0:
        return 0
    end, height = recording.filled, recording.n_free - 1
    if base != 0:
        return _replace_element(a, b, opcode, context, base, header, entry, number, flags, recorded)
    if height < 0 or end + _ROW_BYTES > recording.row_bytes or not is_alone(context, a, 0):
        return 0
    if not _operate(context, header, end, opcode, flags, recording.free[height], a, entry, number, b, kind_index):
        return 0
    leaf, was, leaves = 0, at(a + context.slot_offset), at(tape + context.leaves_offset)
    if is_leaf:
        leaf = part2(context.item_of_dict, leaves, was)
        if leaf == 0:
            return 0
    slot_object = part1(context.from_integer, recording.free[height])
    if slot_object == 0:
        return -1
    if is_leaf and (
        part3(context.set_item_of_dict, at(tape + context.former_offset), was, leaf) != 0
        or part3(context.set_item_of_dict, leaves, slot_object, leaf) != 0
    ):
        return -1
    if not count(context, a):
        return -1
    recording.filled, recording.n_free = end + _ROW_BYTES, height
    hold(context, header, a, slot_object, kind)
    return 1


def _operate(context, header, end, opcode, flags, slot, a, entry, number, b, kind_index):
    """The row of an operation on `a` and a number or a tensor; False where the number is too large."""
    row = Row(header.rows_at + end)
    row.opcode, row.flags, row.out, row.kind = opcode, flags, slot, kind_index
    row.a = part1(context.as_integer, at(a + context.slot_offset))
    return _second(context, row, entry.number, number, b)


def _replace_element(a, b, opcode, context, base, header, entry, number, flags, recorded):
    """Likewise, of the view `a` of one element of `base`: three rows, of which the view gets the last."""
    tape, kind, of, recording = (
        at(a + context.tape_offset), at(a + context.kind_offset), at(base + context.kind_offset), header.recording
    )  # fmt: skip
    element = _element_entry(context, of)
    if (
        element.base == 0 or at(base + context.type_offset) != context.tensor
        or at(base + context.base_offset) != 0 or at(base + context.tape_offset) != tape
    ):  # fmt: skip
        return 0
    recipe = at(a + context.recipe_offset)
    if recipe == 0 or at(recipe + context.type_offset) != context.recipe:
        return 0
    start = part1(context.as_integer, part2(context.item_of_tuple, recipe, _OF_START))
    enabled = context.true if recorded else context.false
    if (
        kind != (element.kind if recorded else element.passive)
        or not _shows(context, a, start)
        or (recorded and part2(context.item_of_tuple, recipe, _OF_RECORDED) != context.true)
        or not _may_write(context, element, tape, enabled)
        or not is_alone(context, base, a)
    ):
        return 0
    written = _entry(context, context.write, of, kind)
    if written.opcode == 0 or (written.kind if recorded else written.passive) != of:
        return 0
    params = _params_of(context, start // element.itemsize)
    end, height = recording.filled, recording.n_free - 3
    if params == 0 or height < 0 or end + 3 * _ROW_BYTES > recording.row_bytes:
        return 0
    result, whole, shown = recording.free[height + 2], recording.free[height + 1], recording.free[height]
    kind_index = element.index if recorded else element.passive_index
    if not _operate(context, header, end, opcode, flags, result, a, entry, number, b, kind_index):
        return 0
    whole_object, shown_object = part1(context.from_integer, whole), part1(context.from_integer, shown)
    if whole_object == 0 or shown_object == 0 or not count(context, base):
        return -1
    of_whole = written.index if recorded else written.passive_index
    _write_row(context, header, end + _ROW_BYTES, whole, base, result, params, of_whole)
    last = end + 2 * _ROW_BYTES
    row = Row(header.rows_at + last)
    i4(header.rows_at + last, 1)[0] = element.head
    row.out, row.bits, row.a, row.kind = shown, start, whole, kind_index
    header.live[result] = 0
    recording.filled, recording.n_free = last + _ROW_BYTES, height
    hold(context, header, base, whole_object, of)
    hold(context, header, a, shown_object, kind)
    return 1
