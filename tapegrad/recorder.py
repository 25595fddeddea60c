"""Recording in native code: what `recording.py` does for `a * b` in Python, as C functions of the type.

In Python, recording a row and letting go of its handle takes 0.55 us, and of the 80 us that a chain of a hundred
operations on three numbers takes, 54 went there; here it takes 0.08 us (`bench_recording`). No C compiler is needed:
`record_operation` and `finalise_handle` are compiled by Numba, once a machine, and handle CPython's objects through its
C API.

      object     a Tensor or a Tape: what its `__slots__` hold is read at offsets that are measured, never assumed
      context    words of eight bytes: those offsets, the C functions, and where the look-up is
      look-up    what `recording.py` has in its memos, found by hashing an entry's first three words

      0          8      16     24       32      40         48      56       64
      +----------+------+------+--------+-------+----------+-------+--------+
      | opcode+1 |  a   |  b   |  kind  | index | passive  | index | number |
      +----------+------+------+--------+-------+----------+-------+--------+

`a` and `b` are addresses, of a tensor's kind or of a number's type, which the memos never let go of. Then come the
result's kind, with gradients and without, and what sort of number the row holds.

Views by an int or a slice are recorded here too: a second look-up has, by the base's kind and the bounds, what their
rows hold. The base is given weak references to them, in a list that `aliasing.py` reads.

So are operators in place, of a tensor that shares its elements with nobody: it is given the slot of the result, as
`aliasing.assign_alone` has it. A look-up of their own, with entries as above, has the kinds that it may then be of;
0 stands for a tensor that may not be written to in that mode.

Invariants
- Native code does what it has no doubt about. All else (an unknown pair, a subclass, another thread's tape, a number
  that is too large, no room) it leaves to the Python function whose place it has taken: there is one set of rules.
- Making an object may run the garbage collector, and so any code. The handle is made first, and from then on nothing
  can come between, Ctrl-C neither.
- Where it can't be shown to work, or Numba's compiler is off, Python's functions stay in their places.
"""

from __future__ import annotations

import ctypes
import functools
import struct
import sys
import threading
import types
from typing import Any, NamedTuple

import numpy as np

from tapegrad import locks
from tapegrad.cpython import UnknownLayoutError, function_address, is_usual, keep, slot_wrapper, words_at
from tapegrad.debug import MEMORY, SMALL
from tapegrad.kernels import native
from tapegrad.kinds import Kind, address_of
from tapegrad.memory import Record, call1, i4, i8, index_of, part0, part1, part2, part3, word
from tapegrad.ops import arithmetic
from tapegrad.ops.declare import OPS, Elementwise, Op
from tapegrad.recording import memos, quick, record_elementwise
from tapegrad.tape import IMM_A, IMM_B, Header, Row, Tape
from tapegrad.tensor import Tensor, handle


class Facts(Record):
    """What native code needs to know: see above."""

    tensor = word()  # objects; the last is called with what is left to Python
    true = word()
    false = word()
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
    retained_offset = word()
    leaves_offset = word()
    former_offset = word()
    start_offset = word()  # of a slice
    stop_offset = word()
    step_offset = word()
    entries = word()  # the look-up's address, and its length less one
    mask = word()
    view_entries = word()  # and that of views
    view_mask = word()
    write_entries = word()  # and that of operators in place
    write_mask = word()
    integer = word()  # Python's types, and None
    slice = word()
    none = word()
    get_item = word()  # the Python functions, called with what is left to them
    write = word()
    new_list = word()
    list_size = word()
    append = word()
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
    dict_size = word()
    dict_get = word()
    dict_set = word()


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


C = index_of(Facts)
_FUNCTIONS = {
    C.new_object: "PyType_GenericAlloc", C.inc_ref: "Py_IncRef", C.dec_ref: "Py_DecRef",
    C.as_integer: "PyLong_AsSsize_t", C.as_checked_integer: "PyLong_AsLongLongAndOverflow",
    C.from_integer: "PyLong_FromSsize_t", C.thread: "PyThread_get_thread_ident", C.new_tuple: "PyTuple_New",
    C.set_item: "PyTuple_SetItem", C.call: "PyObject_Call", C.new_list: "PyList_New", C.list_size: "PyList_Size",
    C.append: "PyList_Append", C.reference: "PyWeakref_NewRef", C.dict_size: "PyDict_Size",
    C.dict_get: "PyDict_GetItem", C.dict_set: "PyDict_SetItem",
}  # fmt: skip
_ENTRY, _VIEW_ENTRY = Entry.nbytes // 8, ViewEntry.nbytes // 8
_MOST_VIEWS = 8192  # that are known here; of each an object is kept
_NOTED = 64  # views that native code makes of a base before Python forgets those that are gone
# In the place of a bound: there is none; or the index is an int. No slice of a tensor has such bounds.
_NO_BOUND, _IS_INT = -(1 << 62), -(1 << 62) + 1
_FLOAT, _INTEGER = 1, 2  # kinds of number
_LEAF = 4  # in the entry of an operator in place: where gradients are not recorded, what is written to is a leaf
_NUMBERS: dict[type, int] = {float: _FLOAT, np.float64: _FLOAT, int: _INTEGER, bool: _INTEGER}
_MIX_OPCODE, _MIX_A, _MIX_B = 0x1E3779B97F4A7C15, 0x3F58476D1CE4E5B9, 0x14D049BB133111EB  # odd, from splitmix64
_OPERATORS = {
    "add": "add", "sub": "sub", "mul": "mul", "div": "truediv", "floor_divide": "floordiv", "remainder": "mod",
    "bitwise_and": "and", "bitwise_or": "or", "bitwise_xor": "xor", "neg": "neg", "abs": "abs",
}  # fmt: skip
_COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")


# --- native code: addresses are integers, and 0 is none ---------------------------------------------------------------


def at(address):
    """The word at an address."""
    return i8(address, 1)[0]


def record_operation(a, b, opcode, context: Facts):
    """The result of an operation on two objects, or on one and 0: a new reference, or 0 and an exception."""
    made = part2(context.new_object, context.tensor, 0)
    if made == 0:
        return 0
    done, tape, kind, slot_object, _ = _write(a, b, opcode, context, context.entries, context.mask)
    if done > 0:
        call1(context.inc_ref, tape)
        call1(context.inc_ref, kind)
        i8(made + context.tape_offset, 1)[0] = tape
        i8(made + context.slot_offset, 1)[0] = slot_object
        i8(made + context.kind_offset, 1)[0] = kind
        return made
    call1(context.dec_ref, made)
    return 0 if done < 0 else _leave_to_python(context.python, a, b, opcode, context)


def record_in_place(a, b, opcode, context: Facts):
    """The first of two objects, with the result as its own: a new reference, or 0 and an exception.

    No object is made that the garbage collector knows.
    """
    slot_at, kind_at, writes_at = a + context.slot_offset, a + context.kind_offset, a + context.writes_offset
    views = at(a + context.known_offset)
    if (
        at(a + context.type_offset) != context.tensor or at(a + context.base_offset) or at(writes_at) == 0
        or at(a + context.fresh_offset) or (views and views != context.none)
    ):  # fmt: skip
        return _leave_to_python(context.write, a, b, opcode, context)
    tape, was = at(a + context.tape_offset), at(slot_at)
    if tape == 0 or was == 0 or part1(context.dict_size, at(tape + context.retained_offset)):
        return _leave_to_python(context.write, a, b, opcode, context)
    writes = part1(context.from_integer, part1(context.as_integer, at(writes_at)) + 1)
    if writes == 0:
        return 0
    leaf = part2(context.dict_get, at(tape + context.leaves_offset), was)
    done, tape, kind, slot_object, is_leaf = _write(
        a, b, opcode, context, context.write_entries, context.write_mask, leaf != 0
    )
    if done > 0 and is_leaf:
        former, leaves = at(tape + context.former_offset), at(tape + context.leaves_offset)
        if part3(context.dict_set, former, was, leaf) or part3(context.dict_set, leaves, slot_object, leaf):
            done = -1
            _let_go(context, tape, slot_object)
            call1(context.dec_ref, slot_object)
    if done <= 0:
        call1(context.dec_ref, writes)
        return 0 if done < 0 else _leave_to_python(context.write, a, b, opcode, context)
    call1(context.inc_ref, kind)
    call1(context.inc_ref, a)
    of, written = at(kind_at), at(writes_at)
    i8(kind_at, 1)[0], i8(slot_at, 1)[0], i8(writes_at, 1)[0] = kind, slot_object, writes
    _let_go(context, tape, was)
    call1(context.dec_ref, of)
    call1(context.dec_ref, was)
    call1(context.dec_ref, written)
    return a


def _header(context, tape):
    """The header of a tape, an object."""
    return Header(part1(context.as_integer, at(tape + context.header_offset)))


def _let_go(context, tape, slot_object):
    """One holder less of a slot."""
    header = _header(context, tape)
    slot = part1(context.as_integer, slot_object)
    if 0 <= slot < header.recording.n_slots:
        header.live[slot] -= 1


def _write(a, b, opcode, context, entries, mask, has_leaf=False):
    """Write the row: whether that is done (1; 0: left to Python, -1: no memory), the tape, the result's kind and slot.

    The slot comes as an object, a new reference. At last, whether a leaf is written to: only where `has_leaf`.
    """
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
            return 0, 0, 0, 0, False
        else:
            number, flags = b, IMM_B
    if first == 0:
        return 0, 0, 0, 0, False
    tape = at(first + tape_at)
    if tape == 0 or (number == 0 and b != 0 and at(b + tape_at) != tape):
        return 0, 0, 0, 0, False
    header = _header(context, tape)
    recording = header.recording
    end, height = recording.filled, recording.n_free - 1
    if height < 0 or end + 24 > recording.row_bytes or recording.thread != part0(context.thread):
        return 0, 0, 0, 0, False

    i = (((opcode + 1) * _MIX_OPCODE + key_a * _MIX_A + key_b * _MIX_B) >> 32) & mask
    entry = Entry(entries + 64 * i)
    while entry.opcode != opcode + 1 or entry.a != key_a or entry.b != key_b:
        if entry.opcode == 0:
            return 0, 0, 0, 0, False
        i = (i + 1) & mask
        entry = Entry(entries + 64 * i)
    enabled, is_leaf = at(tape + context.grad_enabled_offset), False
    if enabled == context.true:
        kind, index = entry.kind, entry.index
    elif enabled == context.false:
        kind, index, is_leaf = entry.passive, entry.passive_index, entry.number >= _LEAF
    else:
        return 0, 0, 0, 0, False
    if kind == 0 or (is_leaf and not has_leaf):
        return 0, 0, 0, 0, False

    row = Row(header.rows_at + end)
    of = entry.number & 3
    if of == _FLOAT:
        row.bits = at(number + context.float_offset)
    elif of == _INTEGER:
        value = part2(context.as_checked_integer, number, context.overflow_at)
        if i4(context.overflow_at, 1)[0] != 0:
            return 0, 0, 0, 0, False
        row.immediate = value
    elif b != 0:
        row.bits = part1(context.as_integer, at(b + slot_at))
    else:
        row.bits = 0
    slot = recording.free[height]
    slot_object = part1(context.from_integer, slot)
    if slot_object == 0:
        return -1, 0, 0, 0, False
    row.opcode, row.flags, row.out = opcode, flags, slot
    row.a, row.kind = part1(context.as_integer, at(first + slot_at)), index
    recording.filled, recording.n_free = end + 24, height
    return 1, tape, kind, slot_object, is_leaf


def record_view(a, index, context: Facts):
    """A view by an int or a slice, of two objects: a new reference, or 0 and an exception."""
    made = part2(context.new_object, context.tensor, 0)
    if made == 0:
        return 0
    done = _write_view(a, index, context, made)
    if done > 0:
        return made
    call1(context.dec_ref, made)
    if done < 0:
        return 0
    arguments = part1(context.new_tuple, 2)
    if arguments == 0:
        return 0
    call1(context.inc_ref, a)
    call1(context.inc_ref, index)
    part3(context.set_item, arguments, 0, a)
    part3(context.set_item, arguments, 1, index)
    result = part3(context.call, context.get_item, arguments, 0)
    call1(context.dec_ref, arguments)
    return result


def _bound(context, o):
    """A bound of a slice, or an int, as a number; 0 in the context's `overflow` word where it is one."""
    if o == context.none:
        i4(context.overflow_at, 1)[0] = 0
        return _NO_BOUND
    if at(o + context.type_offset) != context.integer:
        i4(context.overflow_at, 1)[0] = 1
        return 0
    return part2(context.as_checked_integer, o, context.overflow_at)


def _write_view(a, index, context, made):
    """Write the row, and make `made` the handle of its result. 1: done, 0: left to Python, -1: no memory."""
    tape_at, slot_at, kind_at, fresh_at = (
        context.tape_offset, context.slot_offset, context.kind_offset, a + context.fresh_offset
    )  # fmt: skip
    if at(a + context.type_offset) != context.tensor or at(a + context.base_offset) != 0:
        return 0
    of, tape, type_of_index = at(a + kind_at), at(a + tape_at), at(index + context.type_offset)
    if tape == 0 or of == 0:
        return 0
    stop, step = _IS_INT, 0
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
    i = ((of * _MIX_A + start * _MIX_B + stop * _MIX_OPCODE + step) >> 32) & context.view_mask
    entry = ViewEntry(context.view_entries + 8 * _VIEW_ENTRY * i)
    while entry.base != of or entry.start != start or entry.stop != stop or entry.step != step:
        if entry.base == 0:
            return 0
        i = (i + 1) & context.view_mask
        entry = ViewEntry(context.view_entries + 8 * _VIEW_ENTRY * i)
    kind, kind_index, recipe, head, bits = entry.kind, entry.index, entry.recipe, entry.head, entry.bits
    enabled = at(tape + context.grad_enabled_offset)
    if enabled != context.true:
        if enabled != context.false:
            return 0
        kind, kind_index, recipe = entry.passive, entry.passive_index, entry.untracked

    # What the garbage collector may be run by comes before all else is looked at: see above.
    fresh = at(fresh_at)
    if fresh == 0:
        fresh = part1(context.new_list, 0)
        if fresh == 0:
            return -1
        if at(fresh_at) != 0:
            call1(context.dec_ref, fresh)
            return 0
        i8(fresh_at, 1)[0] = fresh
    elif part1(context.list_size, fresh) >= _NOTED:
        return 0
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
    header = _header(context, tape)
    recording = header.recording
    end, height = recording.filled, recording.n_free - 1
    if height < 0 or end + 24 > recording.row_bytes or recording.thread != part0(context.thread):
        return 0
    slot = recording.free[height]
    slot_object = part1(context.from_integer, slot)
    if slot_object == 0:
        return -1
    row = Row(header.rows_at + end)
    i4(header.rows_at + end, 1)[0] = head
    row.out, row.bits, row.kind = slot, bits, kind_index
    row.a = part1(context.as_integer, at(a + slot_at))
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


def _leave_to_python(function, a, b, opcode, context):
    """What a Python function answers."""
    code, arguments = part1(context.from_integer, opcode), part1(context.new_tuple, 2 if b == 0 else 3)
    if code == 0 or arguments == 0:
        return 0
    call1(context.inc_ref, a)
    part3(context.set_item, arguments, 0, code)
    part3(context.set_item, arguments, 1, a)
    if b != 0:
        call1(context.inc_ref, b)
        part3(context.set_item, arguments, 2, b)
    result = part3(context.call, function, arguments, 0)
    call1(context.dec_ref, arguments)
    return result


def finalise_handle(t, context: Facts):
    """One holder less of its slot, as `Tensor.__del__` has it; a handle not yet given a slot has none."""
    tape, slot_object = at(t + context.tape_offset), at(t + context.slot_offset)
    if tape != 0 and slot_object != 0:
        _let_go(context, tape, slot_object)
    return 0


def _stubs() -> str:
    """LLVM assembly: for each operation a C function that adds its opcode and the context to the arguments."""
    context = "i64 ptrtoint (ptr @context to i64)"
    record, write, view, finalise = (
        f'@"{native.symbol(f.__name__, f)}"' for f in (record_operation, record_in_place, record_view, finalise_handle)
    )
    lines = [
        f"@context = internal global [{Facts.nbytes // 8} x i64] zeroinitializer",
        f"declare i64 {record}(i64, i64, i64, i64)",
        f"declare i64 {write}(i64, i64, i64, i64)",
        f"declare i64 {view}(i64, i64, i64)",
        f"declare i64 {finalise}(i64, i64)",
        f"define i64 @recorder() {{ ret {context} }}",
        f"define i64 @view(i64 %a, i64 %i) {{\n %r = tail call i64 {view}(i64 %a, i64 %i, {context})\n ret i64 %r }}",
        f"define void @finalise(i64 %t) {{ %done = call i64 {finalise}(i64 %t, {context})\n ret void }}",
    ]
    for op in _recorded():
        b = "%b" if op.arity == 2 else "0"
        lines.append(
            f"define i64 @record_{op.opcode}(i64 %a, i64 %b) {{\n"
            f" %r = tail call i64 {record}(i64 %a, i64 {b}, i64 {op.opcode}, {context})\n ret i64 %r }}"
        )
        if op.name in _OPERATORS and op.arity == 2:
            lines.append(
                f"define i64 @write_{op.opcode}(i64 %a, i64 %b) {{\n"
                f" %r = tail call i64 {write}(i64 %a, i64 %b, i64 {op.opcode}, {context})\n ret i64 %r }}"
            )
    return "\n".join(lines)


# --- the look-up ------------------------------------------------------------------------------------------------------


class LookUp:
    """The memos of `recording.py` where native code finds them: open addressing, at most half full."""

    def __init__(self, context: Any, entries: int = C.entries, mask: int = C.mask) -> None:
        self._context = context
        self._places = entries, mask
        self._used = 0
        self._words = np.zeros(0, np.int64).data
        self._allocate(2 if SMALL else 1024)

    def _allocate(self, capacity: int) -> None:
        words = np.zeros(capacity * _ENTRY, np.int64)
        memory, mask = words.data, capacity - 1
        for start in range(0, len(self._words), _ENTRY):
            if self._words[start]:
                self._put(memory, self._words[start : start + _ENTRY].tolist())
        # Should a search come between these two, it finds nothing in the new entries with the old mask: no harm done.
        for place, fact in zip(self._places, (address_of(words), mask), strict=True):
            self._context[place] = fact
        self._words = memory

    def enter(self, op: Op, key: tuple[Any, ...], kind: Kind) -> None:
        """Enter the kind of an operation's result, for these kinds of tensors and types of numbers."""
        self._enter(op, key, kind, kind.passive, 0)

    def enter_written(self, op: Op, key: tuple[Any, ...], kind: Kind) -> None:
        """Enter that of an operator in place: what the first may be then, where it may be written to."""
        of = key[0]
        passive = of if of.is_leaf else kind.passive if not of.requires_grad else None
        self._enter(op, key, None if of.is_leaf else kind, passive, _LEAF if of.is_leaf else 0)

    def _enter(self, op: Op, key: tuple[Any, ...], kind: Kind | None, passive: Kind | None, flags: int) -> None:
        numbers = [k for k in key if not isinstance(k, Kind)]
        if len(key) > 2 or any(k not in _NUMBERS for k in numbers):
            return
        capacity = len(self._words) // _ENTRY
        if 2 * self._used >= capacity:
            self._allocate(2 * capacity)
        a, b = (*map(id, key), 0)[:2]
        number = flags | (_NUMBERS[numbers[0]] if numbers else 0)
        facts = (fact for k in (kind, passive) for fact in ((0, 0) if k is None else (id(k), k.index)))
        entry = [op.opcode + 1, a, b, *facts, number]
        self._used += self._put(self._words, entry)

    @staticmethod
    def _put(words: memoryview, entry: list[int]) -> bool:
        """Enter an entry; True if it is a new one."""
        mask = len(words) // _ENTRY - 1
        i = (entry[0] * _MIX_OPCODE + entry[1] * _MIX_A + entry[2] * _MIX_B) >> 32 & mask
        while words[_ENTRY * i] and words[_ENTRY * i : _ENTRY * i + 3].tolist() != entry[:3]:
            i = (i + 1) & mask
        is_new = not words[_ENTRY * i]
        for k in reversed(range(_ENTRY)):  # what makes it found comes last
            words[_ENTRY * i + k] = entry[k]
        return is_new


class ViewLookUp:
    """The ways in which views are recorded again (`aliasing.Again`), where native code finds them."""

    def __init__(self, context: Any) -> None:
        self._words = np.zeros(2 * _MOST_VIEWS * _VIEW_ENTRY, np.int64).data
        context[C.view_entries], context[C.view_mask] = address_of(np.asarray(self._words)), 2 * _MOST_VIEWS - 1

    def enter(self, of: Kind, bounds: Any, way: Any) -> None:
        """Enter the way for an int, or the bounds of a slice, of tensors of a kind."""
        numbers = (bounds, _IS_INT, 0) if isinstance(bounds, int) else [_NO_BOUND if n is None else n for n in bounds]
        if any(abs(n) > 1 << 62 for n in numbers):
            return
        words, mask, passive = self._words, 2 * _MOST_VIEWS - 1, way.kind.passive
        entry = [
            id(of), *numbers, id(way.kind), way.kind.index, id(passive), passive.index, id(way.recipe),
            id(way.untracked), way.word, way.bits,
        ]  # fmt: skip
        start, stop, step = numbers
        i = (id(of) * _MIX_A + start * _MIX_B + stop * _MIX_OPCODE + step) >> 32 & mask
        while words[_VIEW_ENTRY * i]:
            if words[_VIEW_ENTRY * i : _VIEW_ENTRY * i + 4].tolist() == entry[:4]:
                return
            i = (i + 1) & mask
        for k in reversed(range(_VIEW_ENTRY)):  # what makes it found comes last
            words[_VIEW_ENTRY * i + k] = entry[k]


# --- what is measured -------------------------------------------------------------------------------------------------


def _offsets() -> dict[int, int]:
    """Where objects have what native code reads: each is looked for in an object that has it in one place only."""
    tape, slot, kind, address, enabled, number = Tape(), 1 << 20, Kind(), 1 << 21, object(), 1.2345e-67
    t, truth = handle(tape, slot, kind), (tape.header_address, tape.grad_enabled)
    tape.header_address, tape.grad_enabled = address, enabled
    t._origin, t._recipe, t._fresh = base, recipe, fresh = object(), object(), object()
    t._known, t._writes = known, writes = object(), 1 << 22
    bounds = object(), object(), object()
    window = slice(*bounds)
    of_tensor, of_tape, of_float, of_slice = words_at(t), words_at(tape), words_at(number), words_at(window)
    tape.header_address, tape.grad_enabled = truth
    del t._origin, t._recipe, t._fresh, t._known, t._writes
    t._slot = 0  # now its finaliser may run
    places = {
        C.type_offset: (of_tensor, id(Tensor)), C.tape_offset: (of_tensor, id(tape)),
        C.slot_offset: (of_tensor, id(slot)), C.kind_offset: (of_tensor, id(kind)),
        C.base_offset: (of_tensor, id(base)), C.recipe_offset: (of_tensor, id(recipe)),
        C.fresh_offset: (of_tensor, id(fresh)), C.known_offset: (of_tensor, id(known)),
        C.writes_offset: (of_tensor, id(writes)), C.retained_offset: (of_tape, id(tape.retained)),
        C.leaves_offset: (of_tape, id(tape.leaves)), C.former_offset: (of_tape, id(tape.former)),
        **{
            place: (of_slice, id(bound))
            for place, bound in zip((C.start_offset, C.stop_offset, C.step_offset), bounds, strict=True)
        },
        C.header_offset: (of_tape, id(address)), C.grad_enabled_offset: (of_tape, id(enabled)),
        C.float_offset: (of_float, struct.unpack("q", struct.pack("d", number))[0]),
    }  # fmt: skip
    if any(words.count(word) != 1 for words, word in places.values()):
        raise UnknownLayoutError
    offsets = {place: 8 * words.index(word) for place, (words, word) in places.items()}
    if of_float[offsets[C.type_offset] // 8] != id(float):
        raise UnknownLayoutError
    return offsets


_object, _address = ctypes.py_object, ctypes.c_void_p


class _Method(ctypes.Structure):
    """PyMethodDef."""

    _fields_ = (
        ("name", ctypes.c_char_p), ("function", _address), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p),
    )  # fmt: skip


_NO_ARGUMENTS, _ONE_ARGUMENT = 4, 8  # METH_NOARGS, METH_O


def _method(op: Op, function: int) -> Any:
    """A method of Tensor for the C function at an address."""
    flags, arguments = (_ONE_ARGUMENT, "$self, other, /") if op.arity == 2 else (_NO_ARGUMENTS, "$self, /")
    document = f"{op.name}({arguments})\n--\n\n{op.docstring}"  # from its first line comes the signature
    definition = _Method(op.name.encode(), function, flags, document.encode())
    keep(definition)
    make = ctypes.PYFUNCTYPE(_object, _object, _address)(("PyDescr_NewMethod", ctypes.pythonapi))
    return make(Tensor, ctypes.addressof(definition))


# --- putting it in its place ------------------------------------------------------------------------------------------


def _recorded() -> list[Elementwise]:
    """The operations that are recorded here: those with one operand or two that programs are made of."""
    many = [op for op in OPS if isinstance(op, Elementwise) and op.arity < 3 and not op.name.startswith("to_")]
    return [op for op in many if op.is_public or op.switched]


def _ask_python(opcode: int, a: Any, *b: Any) -> Any:
    """What native code leaves to Python."""
    op: Any = OPS[opcode]
    return _python[opcode](a, *b) if isinstance(a, Tensor) else record_elementwise(op, a, *b)


def _ask_python_to_write(opcode: int, a: Any, b: Any) -> Any:
    """Likewise, of operators in place."""
    return _replaced[f"__i{_OPERATORS[OPS[opcode].name]}__"](a, b)


def _ask_python_for_view(a: Any, index: Any) -> Any:
    """Likewise, of views."""
    return _replaced["__getitem__"](a, index)


class _Way(NamedTuple):
    """As `aliasing.Again`."""

    kind: Kind
    word: int
    bits: int
    recipe: Any
    untracked: Any


class _Native:
    """The native code, linked: attributes for Tensor, methods by opcode, and their look-up."""

    def __init__(self) -> None:
        offsets = _offsets()
        functions = (record_operation, 4), (record_in_place, 4), (record_view, 3), (finalise_handle, 2)
        for function, n_arguments in functions:
            build = functools.partial(native.rebind, function)
            native.link(function.__name__, n_arguments, build, (function,), returns=True)
        code = native.link_assembly("recorder", _stubs)
        address = native.callable_at(code.get_function_address("recorder"), 0)()
        self.context = (ctypes.c_int64 * (Facts.nbytes // 8)).from_address(address)
        facts = {
            C.tensor: id(Tensor), C.true: id(True), C.false: id(False), C.python: id(_ask_python), C.integer: id(int),
            C.slice: id(slice), C.none: id(None), C.get_item: id(_ask_python_for_view),
            C.write: id(_ask_python_to_write), **offsets,
        }  # fmt: skip
        for place, name in _FUNCTIONS.items():
            facts[place] = function_address(name)
        for place, fact in facts.items():
            self.context[place] = fact
        self._make_look_ups()
        self.methods: dict[int, Any] = {}
        self.attributes: dict[str, Any] = {}
        for op in _recorded():
            function = code.get_function_address(f"record_{op.opcode}")
            self.methods[op.opcode] = method = _method(op, function)
            if op.name in _COMPARISONS:
                self.attributes[f"__{op.name}__"] = method
            elif op.name in _OPERATORS:
                for prefix in ("", "r")[: op.arity]:
                    name = f"__{prefix}{_OPERATORS[op.name]}__"
                    self.attributes[name] = slot_wrapper(Tensor, getattr(int, name), function)
                if op.arity == 2:
                    name = f"__i{_OPERATORS[op.name]}__"
                    function = code.get_function_address(f"write_{op.opcode}")
                    self.attributes[name] = slot_wrapper(Tensor, getattr(np.ndarray, name), function)
        of_generators: Any = vars(types.GeneratorType)
        self.attributes["__del__"] = slot_wrapper(
            Tensor, of_generators["__del__"], code.get_function_address("finalise")
        )
        of_mappings: Any = vars(types.MappingProxyType)
        self.attributes["__getitem__"] = slot_wrapper(
            Tensor, of_mappings["__getitem__"], code.get_function_address("view")
        )
        keep((self, code, _ask_python, _ask_python_to_write, _ask_python_for_view))

    def _make_look_ups(self) -> None:
        self.look_up, self.views = LookUp(self.context), ViewLookUp(self.context)
        self.written = LookUp(self.context, C.write_entries, C.write_mask)

    def works(self) -> bool:
        """Whether rows and their handles are as they should be, on a tape and of kinds that nobody else has."""
        add, neg, tape, kind, passive = arithmetic.add, arithmetic.neg, Tape(), Kind(), Kind()
        kind.index, kind.passive, passive.index, passive.passive = 5, passive, 6, passive
        passive.is_leaf = passive.requires_grad = False
        for op, key in (neg, (kind,)), (add, (kind, kind)), (add, (passive, float)), (add, (int, passive)):
            self.look_up.enter(op, key, kind)
        tape.resize_rows(8)
        tape.resize_slots(tape.top + 8)
        while tape.refill():
            pass
        holders = sys.getrefcount(tape)
        x = handle(tape, tape.free.pop(), kind)
        y = -x
        tape.grad_enabled = False
        z = x + y
        u = z + -0.5
        v = 3 + u
        of_x, *slots = (t._slot for t in (x, y, z, u, v))
        half, three = (struct.unpack("=ii", struct.pack("=d", number)) for number in (-0.5, 3.0))
        rows = [
            (neg.opcode, 0, slots[0], 0, 0, of_x, 5),
            (add.opcode, 0, slots[1], slots[0], 0, of_x, 6),
            (add.opcode, IMM_B, slots[2], *half, slots[1], 6),
            (add.opcode, IMM_A, slots[3], *three, slots[2], 6),
        ]
        kinds_agree = y._kind is kind and v._kind is passive
        recipe, untracked = object(), object()
        way = _Way(kind, neg.opcode, 7 << 32 | 9, recipe, untracked)
        self.views.enter(passive, 3, way)
        self.views.enter(passive, (None, -2, None), way)
        w, window = z[3], z[:-2]
        rows += [(neg.opcode, 0, t._slot, 9, 7, slots[1], 6) for t in (w, window)]
        kinds_agree &= w._kind is passive and w._origin is z and window._recipe is untracked
        kinds_agree &= [known() for known in z._fresh] == [w, window]
        slots += [w._slot, window._slot]
        self.written.enter_written(add, (passive, float), passive)
        v._writes, was, number = 7, v, v._slot
        v += -0.5
        rows.append((add.opcode, IMM_B, v._slot, *half, number, 6))
        kinds_agree &= v is was and v._writes == 8 and v._kind is passive and v._slot != number
        slots.append(v._slot)
        del was, w, window, x, y, z, u, v
        ended = not any(tape.live[slot] for slot in (of_x, *slots)) and sys.getrefcount(tape) == holders
        return tape.row_array().tolist() == rows and kinds_agree and ended

    def start(self) -> None:
        """Know what the memos know."""
        self._make_look_ups()
        for (op, *key), kind in _written.items():
            self.written.enter_written(op, (*key,), kind)
        for of, way in _ways.items():
            self.views.enter(*of, way)
        for op, memo in zip(OPS, memos, strict=True):
            for key, kind in memo.items():
                self.look_up.enter(op, key if op.arity > 1 else (key,), kind)


@functools.cache
def _linked() -> _Native | None:
    """The native code, or None where it can't be shown to work."""
    if not native.JIT or native.CHECKED or MEMORY or not is_usual():
        return None
    try:
        return _Native()
    except (AttributeError, UnknownLayoutError):
        return None


_ways: dict[tuple[Kind, Any], Any] = {}  # how views are recorded again: native code has the addresses of what is in it
_written: dict[tuple[Any, ...], Kind] = {}  # the results of operators in place, by these and their operands' kinds
_python: list[Any] = []  # by opcode, the Python functions that native code stands for
_replaced: dict[str, Any] = {}  # Tensor's attributes as they were, while native code is in their places
_decided = threading.Event()  # whether it is to be installed is no longer open
_lock = locks.lock()


def install() -> bool:
    """Put native code in the places of Python's functions; False where it can't be had."""
    with _lock:
        _decided.set()
        made = _linked()
        if made is None or _replaced:
            return made is not None
        _python[:] = quick
        for name, attribute in made.attributes.items():
            _replaced[name] = vars(Tensor)[name]
            setattr(Tensor, name, attribute)
        if not made.works():
            uninstall()
            return False
        made.start()
        for opcode, method in made.methods.items():
            quick[opcode] = method
        return True


def uninstall() -> None:
    """Put Python's functions back."""
    with _lock:
        _decided.set()
        for name, attribute in _replaced.items():
            setattr(Tensor, name, attribute)
        if _replaced:
            quick[:] = _python
        _replaced.clear()


def learn(op: Op, key: tuple[Any, ...], kind: Kind) -> None:
    """Enter in the look-up what enters a memo; the first time, install all this.

    So importing tapegrad doesn't wait for it.
    """
    with _lock:
        if not _decided.is_set():
            install()
        elif _replaced:
            made = _linked()
            assert made is not None
            made.look_up.enter(op, key, kind)


def learn_written(op: Op, key: tuple[Any, ...]) -> None:
    """Enter in the look-up of operators in place the kind of a result, which may take the first operand's place."""
    kind, of = memos[op.opcode].get(key), key[0]
    if kind is None or (op, *key) in _written or not of.contiguous or of.exported or op.name not in _OPERATORS:
        return  # where operands are converted, several rows are recorded
    with _lock:
        _written[op, *key] = kind
        if _replaced:
            made = _linked()
            assert made is not None
            made.written.enter_written(op, key, kind)


def learn_view(key: tuple[Kind, Any], way: Any) -> None:
    """Enter in the look-up of views how one of a kind is recorded again."""
    with _lock:
        if len(_ways) >= _MOST_VIEWS or key in _ways:
            return
        _ways[key] = way
        if _replaced:
            made = _linked()
            assert made is not None
            made.views.enter(*key, way)
