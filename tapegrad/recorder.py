"""Recording in native code: what `recording.py` does for `a * b` in Python, as C functions of the type.

In Python, recording a row and letting go of its handle takes 0.55 us, and of the 80 us that a chain of a hundred
operations on three numbers takes, 54 went there; here it takes 0.08 us (`bench_recording`). No C compiler is needed:
the functions of `native_recording.py` and `native_steps.py` are compiled by Numba, once a machine, and handle CPython's
objects through its C API.

      object     a Tensor or a Tape: what its `__slots__` hold is read at offsets that are measured, never assumed
      context    words of eight bytes: those offsets, the C functions, and where the look-up is (`Facts`)
      look-up    what `recording.py` has in its memos, found by hashing an entry's first three words

      0          8      16     24       32      40         48      56       64
      +----------+------+------+--------+-------+----------+-------+--------+
      | opcode+1 |  a   |  b   |  kind  | index | passive  | index | number |
      +----------+------+------+--------+-------+----------+-------+--------+

`a` and `b` are addresses, of a tensor's kind or of a number's type, which the memos never let go of. Then come the
result's kind, with gradients and without, and what sort of number the row holds.

Views by an int or a slice are recorded here too: a second look-up has, by the base's kind and the bounds, what their
rows hold. The base is given weak references to them, in a list that `aliasing.py` reads. A third has, by a kind, how
its elements are shown; these can be written to here.

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
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tapegrad import engine, kinds, locks
from tapegrad.cpython import UnknownLayoutError, function_address, is_usual, keep, slot_wrapper, words_at
from tapegrad.debug import MEMORY, SMALL
from tapegrad.dtypes import FLOAT64
from tapegrad.kernels import native
from tapegrad.kinds import Kind, address_of
from tapegrad.native_recording import (
    FLOAT,
    INTEGER,
    IS_INT,
    MIX_A,
    MIX_B,
    MIX_OPCODE,
    NO_BOUND,
    C,
    ElementEntry,
    Entry,
    Facts,
    ViewEntry,
    finalise_handle,
    record_operation,
    record_view,
    write_in_place,
    write_item,
)
from tapegrad.native_steps import give_gradients, update
from tapegrad.ops import arithmetic, declare, indexing, layout
from tapegrad.ops.declare import OPS, Elementwise, Op
from tapegrad.recording import memos, quick, record_elementwise
from tapegrad.tape import IMM_A, IMM_B, OWNED, PARAMS, STORED, TRACED, UNTRACED, H, Tape
from tapegrad.tensor import Tensor, handle

_FUNCTIONS = {
    C.new_object: "PyType_GenericAlloc", C.inc_ref: "Py_IncRef", C.dec_ref: "Py_DecRef",
    C.as_integer: "PyLong_AsSsize_t", C.as_checked_integer: "PyLong_AsLongLongAndOverflow",
    C.from_integer: "PyLong_FromSsize_t", C.thread: "PyThread_get_thread_ident", C.new_tuple: "PyTuple_New",
    C.set_item: "PyTuple_SetItem", C.call: "PyObject_Call", C.new_list: "PyList_New", C.list_size: "PyList_Size",
    C.append: "PyList_Append", C.drop_item: "PySequence_DelItem", C.reference: "PyWeakref_NewRef",
    C.tuple_size: "PyTuple_Size",
    C.item_of_tuple: "PyTuple_GetItem", C.item_of_list: "PyList_GetItem", C.dict_size: "PyDict_Size",
    C.item_of_dict: "PyDict_GetItem", C.set_item_of_dict: "PyDict_SetItem",
}  # fmt: skip
_ENTRY, _VIEW_ENTRY, _ELEMENT_ENTRY = (record.nbytes // 8 for record in (Entry, ViewEntry, ElementEntry))
_MOST_VIEWS = 8192  # that are known here; of each an object is kept
_MOST_KINDS = 2048  # of what elements are shown
_ROOM = 512  # numbers to an array
_N_REACHED = H.n_reached
_NUMBERS: dict[type, int] = {float: FLOAT, np.float64: FLOAT, int: INTEGER, bool: INTEGER}
_OPERATORS = {
    "add": "add", "sub": "sub", "mul": "mul", "div": "truediv", "floor_divide": "floordiv", "remainder": "mod",
    "bitwise_and": "and", "bitwise_or": "or", "bitwise_xor": "xor", "neg": "neg", "abs": "abs",
}  # fmt: skip
_COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")


def _stubs() -> str:
    """LLVM assembly: for each operation a C function that adds its opcode and the context to the arguments."""
    context = "i64 ptrtoint (ptr @context to i64)"
    record, view, finalise, item, in_place = (
        f'@"{native.symbol(f.__name__, f)}"'
        for f in (record_operation, record_view, finalise_handle, write_item, write_in_place)
    )
    change, give = (f'@"{native.symbol(f.__name__, f)}"' for f in (update, give_gradients))
    lines = [
        f"@context = internal global [{Facts.nbytes // 8} x i64] zeroinitializer",
        f"declare i64 {record}(i64, i64, i64, i64)",
        f"declare i64 {view}(i64, i64, i64)",
        f"declare i64 {finalise}(i64, i64)",
        f"declare i64 {item}(i64, i64, i64, i64)",
        f"declare i64 {in_place}(i64, i64, i64, i64)",
        f"declare i64 {change}(i64, i64, i64, i64)",
        "define i64 @update(i64 %h, i64 %n, i64 %u) {\n"
        f" %done = tail call i64 {change}(i64 %h, i64 %n, i64 %u, {context})\n ret i64 %done }}",
        f"declare i64 {give}(i64, i64)",
        f"define i64 @give(i64 %t) {{\n %done = tail call i64 {give}(i64 %t, {context})\n ret i64 %done }}",
        f"define i64 @recorder() {{ ret {context} }}",
        f"define i64 @view(i64 %a, i64 %i) {{\n %r = tail call i64 {view}(i64 %a, i64 %i, {context})\n ret i64 %r }}",
        f"define i32 @set_item(i64 %a, i64 %i, i64 %v) {{\n %r = call i64 {item}(i64 %a, i64 %i, i64 %v, {context})\n"
        " %s = trunc i64 %r to i32\n ret i32 %s }",
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
                f"define i64 @in_place_{op.opcode}(i64 %a, i64 %b) {{\n"
                f" %r = tail call i64 {in_place}(i64 %a, i64 %b, i64 {op.opcode}, {context})\n ret i64 %r }}"
            )
    return "\n".join(lines)


# --- the look-up ------------------------------------------------------------------------------------------------------


class LookUp:
    """The memos of `recording.py` where native code finds them: open addressing, at most half full."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._used = 0
        self._words = np.zeros(0, np.int64).data
        self._allocate(2 if SMALL else 1024)

    def _allocate(self, capacity: int) -> None:
        words = np.zeros(capacity * _ENTRY, np.int64)
        memory, address, context, mask = words.data, address_of(words), self._context, capacity - 1
        for start in range(0, len(self._words), _ENTRY):
            if self._words[start]:
                self._put(memory, self._words[start : start + _ENTRY].tolist())
        # Should a search come between these two, it finds nothing in the new entries with the old mask: no harm done.
        context[C.entries] = address
        context[C.mask] = mask
        self._words = memory

    def enter(self, op: Op, key: tuple[Any, ...], kind: Kind) -> None:
        """Enter the kind of an operation's result, for these kinds of tensors and types of numbers."""
        numbers = [k for k in key if not isinstance(k, Kind)]
        if len(key) > 2 or any(k not in _NUMBERS for k in numbers):
            return
        capacity = len(self._words) // _ENTRY
        if 2 * self._used >= capacity:
            self._allocate(2 * capacity)
        a, b = (*map(id, key), 0)[:2]
        number = _NUMBERS[numbers[0]] if numbers else 0
        entry = [op.opcode + 1, a, b, id(kind), kind.index, id(kind.passive), kind.passive.index, number]
        self._used += self._put(self._words, entry)

    @staticmethod
    def _put(words: memoryview, entry: list[int]) -> bool:
        """Enter an entry; True if it is a new one."""
        mask = len(words) // _ENTRY - 1
        i = (entry[0] * MIX_OPCODE + entry[1] * MIX_A + entry[2] * MIX_B) >> 32 & mask
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
        numbers = (bounds, IS_INT, 0) if isinstance(bounds, int) else [NO_BOUND if n is None else n for n in bounds]
        if any(abs(n) > 1 << 62 for n in numbers):
            return
        words, mask, passive = self._words, 2 * _MOST_VIEWS - 1, way.kind.passive
        entry = [
            id(of), *numbers, id(way.kind), way.kind.index, id(passive), passive.index, id(way.recipe),
            id(way.untracked), way.word, way.bits,
        ]  # fmt: skip
        start, stop, step = numbers
        i = (id(of) * MIX_A + start * MIX_B + stop * MIX_OPCODE + step) >> 32 & mask
        while words[_VIEW_ENTRY * i]:
            if words[_VIEW_ENTRY * i : _VIEW_ENTRY * i + 4].tolist() == entry[:4]:
                return
            i = (i + 1) & mask
        for k in reversed(range(_VIEW_ENTRY)):  # what makes it found comes last
            words[_VIEW_ENTRY * i + k] = entry[k]


class ElementLookUp:
    """How elements of tensors of a kind are shown, where native code finds it."""

    def __init__(self, context: Any) -> None:
        self._words = np.zeros(2 * _MOST_KINDS * _ELEMENT_ENTRY, np.int64).data
        context[C.element_entries], context[C.element_mask] = address_of(np.asarray(self._words)), 2 * _MOST_KINDS - 1

    def enter(self, of: Kind, kind: Kind, head: int) -> None:
        """Enter the kind of a view of an element of a contiguous tensor of a kind, and the first word of its row."""
        dims = int(kinds.table.array[of.index]["dims"])
        written = 0 if of.is_leaf or of.exported else 2 if of.requires_grad else 1
        entry = [
            id(of), of.ndim, kinds.pool.address + 8 * dims, id(of.strides), of.itemsize, of.dtype.code, id(kind),
            kind.index, id(kind.passive), kind.passive.index, head, written,
        ]  # fmt: skip
        words, mask = self._words, 2 * _MOST_KINDS - 1
        i = id(of) * MIX_A >> 32 & mask
        while words[_ELEMENT_ENTRY * i]:
            if words[_ELEMENT_ENTRY * i] == id(of):
                return
            i = (i + 1) & mask
        for k in reversed(range(_ELEMENT_ENTRY)):  # what makes it found comes last
            words[_ELEMENT_ENTRY * i + k] = entry[k]


# --- what is measured -------------------------------------------------------------------------------------------------


class _Mark:
    """An object that is in one place only, and can be referred to weakly."""


def _offsets() -> dict[int, int]:
    """Where objects have what native code reads: each is looked for in an object that has it in one place only."""
    tape, slot, kind, address, enabled, number = Tape(), 1 << 20, Kind(), 1 << 21, object(), 1.2345e-67
    t, truth = handle(tape, slot, kind), (tape.header_address, tape.grad_enabled)
    tape.header_address, tape.grad_enabled = address, enabled
    t._origin, t._recipe, t._fresh, t._known = base, recipe, fresh, known = _Mark(), object(), object(), object()
    t._writes, t._grad = writes, grad = object(), object()  # type: ignore[assignment]
    kind.contiguous, kind.is_leaf = is_contiguous, is_leaf = object(), object()  # type: ignore[assignment]
    kind.exported, kind.gradient = exported, gradient = object(), object()  # type: ignore[assignment]
    kind.passive, kind.index = passive, index = Kind(), 1 << 22
    kind.numel = numel = 1 << 23
    reference = weakref.ref(base)
    bounds = object(), object(), object()
    window = slice(*bounds)
    of_tensor, of_tape, of_float, of_slice = words_at(t), words_at(tape), words_at(number), words_at(window)
    of_kind, of_reference = words_at(kind), words_at(reference)
    tape.header_address, tape.grad_enabled = truth
    del t._origin, t._recipe, t._fresh, t._known, t._writes, t._grad
    t._slot = 0  # now its finaliser may run
    places = {
        C.type_offset: (of_tensor, id(Tensor)), C.tape_offset: (of_tensor, id(tape)),
        C.slot_offset: (of_tensor, id(slot)), C.kind_offset: (of_tensor, id(kind)),
        C.base_offset: (of_tensor, id(base)), C.recipe_offset: (of_tensor, id(recipe)),
        C.fresh_offset: (of_tensor, id(fresh)), C.known_offset: (of_tensor, id(known)),
        C.grad_offset: (of_tensor, id(grad)), C.gradient_offset: (of_kind, id(gradient)),
        C.low_offset: (of_tape, id(tape.low)), C.writes_offset: (of_tensor, id(writes)),
        C.contiguous_offset: (of_kind, id(is_contiguous)),
        C.is_leaf_offset: (of_kind, id(is_leaf)), C.passive_offset: (of_kind, id(passive)),
        C.exported_offset: (of_kind, id(exported)), C.index_offset: (of_kind, id(index)),
        C.numel_offset: (of_kind, id(numel)),
        C.leaves_offset: (of_tape, id(tape.leaves)),
        C.former_offset: (of_tape, id(tape.former)), C.retained_offset: (of_tape, id(tape.retained)),
        C.arrays_offset: (of_tape, id(tape.arrays)),
        C.referent_offset: (of_reference, id(base)),
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


_object, _address, _size = ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t


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


def _ask_python_for_view(a: Any, index: Any) -> Any:
    """Likewise, of views."""
    return _replaced["__getitem__"](a, index)


def _ask_python_to_set(a: Any, index: Any, *value: Any) -> None:
    """Likewise, of items that are assigned; or deleted."""
    if not value:
        raise TypeError("Tensor does not support deleting items")
    _replaced["__setitem__"](a, index, *value)


def _ask_python_in_place(opcode: int, a: Any, b: Any) -> Any:
    """Likewise, of operators in place."""
    return _replaced[f"__i{_OPERATORS[OPS[opcode].name]}__"](a, b)


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
        self.more_numbers = self._more_numbers  # its address is known
        engine.compile_ahead("run")
        for function, n_arguments in (
            (record_operation, 4), (record_view, 3), (finalise_handle, 2), (write_item, 4), (write_in_place, 4),
            (update, 4), (give_gradients, 2),
        ):  # fmt: skip
            build = functools.partial(native.rebind, function)
            native.link(function.__name__, n_arguments, build, (function,), returns=True)
        code = native.link_assembly("recorder", _stubs)
        address = native.callable_at(code.get_function_address("recorder"), 0)()
        self.context = (ctypes.c_int64 * (Facts.nbytes // 8)).from_address(address)
        facts = {
            C.tensor: id(Tensor), C.true: id(True), C.false: id(False), C.traced: id(TRACED),
            C.untraced: id(UNTRACED), C.python: id(_ask_python), C.integer: id(int),
            C.slice: id(slice), C.none: id(None), C.get_item: id(_ask_python_for_view), C.tuple: id(tuple),
            C.float: id(float), C.select: id(layout.select), C.empty: id(()), C.write: indexing.write.opcode,
            C.set_item_in_python: id(_ask_python_to_set), C.in_place: id(_ask_python_in_place),
            C.more_numbers: id(self.more_numbers), C.places: address_of(np.asarray(kinds.places)),
            C.n_places: len(kinds.places), C.ops: address_of(declare.table),
            C.kinds: id(kinds.objects), C.outdated: id(classes_of_views[0]), C.recipe: id(classes_of_views[1]),
            **offsets,
        }  # fmt: skip
        for place, name in _FUNCTIONS.items():
            facts[place] = function_address(name)
        for place, fact in facts.items():
            self.context[place] = fact
        self._look_up()
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
                    name, function = f"__i{_OPERATORS[op.name]}__", code.get_function_address(f"in_place_{op.opcode}")
                    self.attributes[name] = slot_wrapper(Tensor, getattr(np.ndarray, name), function)
        self.update = ctypes.PYFUNCTYPE(_size, _object, _object, _size)(code.get_function_address("update"))
        self.give = ctypes.PYFUNCTYPE(_size, _object)(code.get_function_address("give"))
        of_generators: Any = vars(types.GeneratorType)
        self.attributes["__del__"] = slot_wrapper(
            Tensor, of_generators["__del__"], code.get_function_address("finalise")
        )
        of_mappings: Any = vars(types.MappingProxyType)
        self.attributes["__getitem__"] = slot_wrapper(
            Tensor, of_mappings["__getitem__"], code.get_function_address("view")
        )
        self.attributes["__setitem__"] = slot_wrapper(
            Tensor, vars(dict)["__setitem__"], code.get_function_address("set_item")
        )
        keep((self, code, _ask_python, _ask_python_for_view, _ask_python_to_set, _ask_python_in_place))

    def _look_up(self) -> None:
        self.look_up, self.views = LookUp(self.context), ViewLookUp(self.context)
        self.elements = ElementLookUp(self.context)

    def _more_numbers(self) -> None:
        """Have room for numbers: what has one keeps the array."""
        self.array = array = np.zeros(_ROOM)
        address = address_of(array)
        context = self.context
        context[C.numbers], context[C.next_number], context[C.last_number] = id(array), address, address + 8 * _ROOM

    def works(self) -> bool:
        """Whether some rows and their handles are as they should be, on a tape that nobody else has."""
        add, neg, write, select = arithmetic.add, arithmetic.neg, indexing.write, layout.select
        tape, kind, passive = Tape(), Kind(), Kind()
        kind.index, kind.passive, passive.index, passive.passive = 5, passive, 6, passive
        for op, key in (neg, (kind,)), (add, (kind, kind)), (add, (passive, float)), (add, (int, passive)):
            self.look_up.enter(op, key, kind)
        tape.resize_rows(16)
        tape.resize_slots(tape.top + 16)
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
        of, shown = kinds.kind_of(FLOAT64, (2, 4)), kinds.kind_of(FLOAT64, ())
        self.elements.enter(of, shown, select.opcode)
        self.look_up.enter(write, (of, shown), of)
        self.look_up.enter(add, (shown, float), shown)
        params = kinds.place(7), kinds.place(2)
        m, start = handle(tape, tape.free.pop(), of), len(rows)
        before = m._slot
        m[1, -1] = 2.5
        m[0, 2] += -0.5
        made = tape.row_array()[start:]["out"].tolist()
        number = tape.row_array()[start]["b"].item()
        rows += [
            (write.opcode, PARAMS, made[0], number, params[0], before, of.index),
            (select.opcode, 0, made[1], 16, 0, made[0], shown.index),
            (add.opcode, IMM_B, made[2], *half, made[1], shown.index),
            (write.opcode, PARAMS, made[3], made[2], params[1], made[0], of.index),
            (select.opcode, 0, made[4], 16, 0, made[3], shown.index),
        ]
        kinds_agree &= m._slot == made[3] and m._kind is of and m._writes == 3 and tape.arrays[number] is self.array
        kinds_agree &= kinds.number_at(int(tape.slots[number]["primal"]), FLOAT64) == 2.5
        slots += [before, number, *made]
        kinds_agree &= self._gives(tape)
        del m, w, window, x, y, z, u, v
        ended = not any(tape.live[slot] for slot in (of_x, *slots)) and sys.getrefcount(tape) == holders
        return tape.row_array().tolist() == rows and kinds_agree and ended

    def _gives(self, tape: Tape) -> bool:
        """Whether what a sweep could have left becomes a leaf's gradient."""
        of, elements = kinds.kind_of(FLOAT64, (), None, True, True), np.zeros(1)
        leaf = handle(tape, tape.free.pop(), of)
        tape.leaves[leaf._slot] = weakref.ref(leaf)
        tape.slots[leaf._slot] = of.index, -1, 0, address_of(elements), -1, 0
        tape._reached[0], tape.h[_N_REACHED] = leaf._slot, 1
        if self.give(tape) != 1:
            return False
        gradient = leaf._grad
        assert gradient is not None
        known = of.gradient.index, -1, address_of(elements), 0, -1, STORED | OWNED
        return (gradient._tape, gradient._kind) == (tape, of.gradient) and tape.slots[gradient._slot].tolist() == known

    def start(self) -> None:
        """Know what the memos know."""
        self._look_up()
        for of, way in _ways.items():
            self.views.enter(*of, way)
        for base, (kind, head) in elements.items():
            self.elements.enter(base, kind, head)
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
elements: dict[Kind, tuple[Kind, int]] = {}  # likewise, of elements, by the base's kind: the view's, and its row's head
classes_of_views: list[Any] = []  # filled by `aliasing.py`: that of views that are outdated, that of how one is made
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
        update_all[0], give[0] = made.update, made.give
        return True


def _nothing_updated(handles: list[Tensor], numbers: tuple[float, ...], address: int) -> int:
    """What stands for `native_steps.update` while there is no native code: all is left to Python."""
    del handles, numbers, address
    return 0


def _nothing_given(tape: Tape) -> int:
    """Likewise, for `give_gradients`."""
    del tape
    return 0


# The ones in use.
update_all: list[Callable[[list[Tensor], tuple[float, ...], int], int]] = [_nothing_updated]
give: list[Callable[[Tape], int]] = [_nothing_given]


def uninstall() -> None:
    """Put Python's functions back."""
    with _lock:
        update_all[0], give[0] = _nothing_updated, _nothing_given
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


def learn_element(of: Kind, kind: Kind, head: int) -> None:
    """Enter in the look-up of elements how those of tensors of a kind are shown."""
    with _lock:
        if len(elements) >= _MOST_KINDS or of in elements:
            return
        elements[of] = kind, head
        if _replaced:
            made = _linked()
            assert made is not None
            made.elements.enter(of, kind, head)
