"""Calls of compiled functions in native code: the Python half of `core/calling.py`, which says what is done there.

A program is given a plan for a thread once it has been run there, if its arguments are given by position and each is an
array, a Tensor, a number or an object that is always the same one; if its results are computed numbers, arrays and
Tensors; and if it is so short that the lock of the interpreter is not let go. All other calls are Python's.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import operator
import struct
import threading
import types
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tapegrad import batched, dtypes, locks
from tapegrad.core import calling
from tapegrad.core.calling import CallCheck, CallCopy, CallNumber, CallPlan, CallResult, Front, call_program
from tapegrad.cpython import UnknownLayoutError, function_address, is_usual, keep, slot_wrapper, words_at
from tapegrad.debug import MEMORY
from tapegrad.kernels import native
from tapegrad.kinds import Kind, address_of
from tapegrad.memory import index_of
from tapegrad.nn.module import changes
from tapegrad.replay import machine
from tapegrad.replay.standins import Again, Number, reflected
from tapegrad.replay.surroundings import Modes
from tapegrad.tape import H, Tape
from tapegrad.tensor import Tensor, handle, owning

C, P, F = index_of(calling.CallFacts), index_of(CallPlan), index_of(Front)
_FUNCTIONS = {
    C.thread: "PyThread_get_thread_ident", C.as_integer: "PyLong_AsSsize_t", C.new_object: "PyType_GenericAlloc",
    C.inc_ref: "Py_IncRef", C.dec_ref: "Py_DecRef", C.new_tuple: "PyTuple_New", C.set_item: "PyTuple_SetItem",
    C.call: "PyObject_Call", C.dict_size: "PyDict_Size",
}  # fmt: skip
_NEW_ARRAY = 93  # where NumPy's table of functions has PyArray_New
_FLAGS = 0x100 | 0x400  # of arrays: aligned, writeable
_MOST_NUMBERS = 256
MOST_BYTES = 1 << 17  # of the values and adjoints of a program that is short
_MOST_PLANS = 64
clock = np.zeros(1, np.int64).data  # calls so far


class Fronted:
    """An object that native code calls: it has the address of its front, or 0."""

    __slots__ = ("_front",)

    def __init__(self) -> None:
        self._front = 0


class UnplannedError(Exception):
    """Native code can't do it."""


_OPERATORS = {
    operator.add: calling.SUM, operator.sub: calling.DIFFERENCE, operator.mul: calling.PRODUCT,
    operator.truediv: calling.QUOTIENT, operator.neg: calling.NEGATIVE, operator.abs: calling.SIZE,
}  # fmt: skip
# What compares numbers: what is done, whether operands are exchanged, and the answer then.
_COMPARISONS: dict[Any, tuple[int, bool, bool]] = {
    operator.lt: (calling.LESS, False, True), operator.gt: (calling.LESS, True, True),
    operator.le: (calling.AT_MOST, False, True), operator.ge: (calling.AT_MOST, True, True),
    operator.eq: (calling.EQUAL, False, True), operator.ne: (calling.EQUAL, False, False),
}  # fmt: skip


class _Numbers:
    """What Python computes with the caller's numbers, for native code."""

    def __init__(self, leaves: Sequence[Any], most: int) -> None:
        self.leaves = leaves
        self.rows: list[list[Any]] = []
        self.values = np.zeros(most)
        self.known: dict[int, int] = {}  # by what makes a number, its address
        self.n = 0
        self.modes = -1  # where there is how often modules had changed their modes, if that matters

    def _place(self) -> int:
        if self.n == len(self.values):
            raise UnplannedError
        self.n += 1
        return address_of(self.values) + 8 * (self.n - 1)

    def of(self, x: Any) -> int:
        """The address of a number, or of what stands for one."""
        if type(x) is Number:
            return self.made_by(x.make)
        if type(x) not in (int, float) or (type(x) is int and abs(x) > 1 << 53):
            raise UnplannedError
        place = self._place()
        self.values[self.n - 1] = x
        return place

    def made_by(self, make: Any) -> int:
        """The address of the number that this makes of arguments."""
        if id(make) not in self.known:
            if not isinstance(make, Again):
                if not hasattr(make, "place") or type(self.leaves[make.place]) is not float:
                    raise UnplannedError
                what, given = calling.GIVEN, [make.place]
            else:
                given = [self.of(x) for x in make.given]
                function = make.function
                if function in reflected:
                    function, given = reflected[function], given[::-1]
                if function not in _OPERATORS or make.facts:
                    raise UnplannedError
                what = _OPERATORS[function]
            a, b = (*given, 0)[:2]
            self.known[id(make)] = target = self._place()
            self.rows.append(_row(CallNumber, what=what, a=a, b=b, target=target))
        return self.known[id(make)]

    def compare(self, make: Any, answer: Any) -> None:
        """Numbers have to compare as they did."""
        if isinstance(make, Modes):
            self.modes = self.n
            self.rows.append(_row(CallNumber, what=calling.SAME_BITS, a=address_of(changes), b=self._place()))
            return
        if not isinstance(make, Again):
            raise UnplannedError
        function, given = make.function, list(make.given)
        if function is bool:
            function, given = operator.ne, [*given, 0.0]
        if function not in _COMPARISONS:
            raise UnplannedError
        what, is_exchanged, holds = _COMPARISONS[function]
        a, b = (self.of(x) for x in given)
        if is_exchanged:
            a, b = b, a
        self.rows.append(_row(CallNumber, what=what, a=a, b=b, expected=int(answer is holds)))


class Entered:
    """A plan, and all that it has addresses of."""

    __slots__ = ("family", "held", "known", "memory", "n_results", "numbers", "program", "thread", "words")

    def __init__(self, program: Any, family: Any, tape: Tape, leaves: Sequence[Any]) -> None:
        memory, group = program.memories.of_thread, id(program.nodes[0])
        self.program, self.family, self.held, self.known = program, family, [tape.header, memory], (0, 0)
        self.memory = memory
        self.numbers = numbers = _Numbers(leaves, _MOST_NUMBERS)
        for make, answer in program.conditions:
            numbers.compare(make, answer)
        self.renew()
        tables = [
            _checks(program, leaves),
            _copies(program, memory, numbers),
            _made(program, memory),
            numbers.rows,
        ]
        self.n_results = 0 if program.structure is None else len(program.results)
        steps = [memory.text_at + 8 * step for step in program.guards]
        levels, finish = batched.levels(), _finisher(program)
        self.words = np.zeros(CallPlan.nbytes // 8, np.int64).data
        facts = {
            P.header: tape.header_address, P.tape: id(tape), P.lock: id(tape.lock), P.levels: id(levels),
            P.grad_enabled: id(tape.grad_enabled), P.default_dtype: dtypes.get_default_dtype().code, P.group: group,
            P.n_arguments: len(leaves), P.text: memory.run_at, P.tables: memory.tables_at, P.finish: _id(finish),
            P.warm: -1 if memory.calls < 0 else machine.HOT, P.n_guards: len(steps), P.guards: self._kept(steps),
        }  # fmt: skip
        places = (P.n_checks, P.checks), (P.n_copies, P.copies), (P.n_made, P.made), (P.n_numbers, P.numbers)
        for (n, at), table in zip(places, tables, strict=True):
            facts[n], facts[at] = len(table), self._kept([self._word(x) for row in table for x in row])
        for place, fact in facts.items():
            self.words[place] = fact
        self.held += [tape.lock, levels, finish]
        self.thread = tape.h  # 0 at `H.thread` once the thread has ended
        words = self.words
        self.held.append(weakref.ref(tape, lambda _: words.__setitem__(P.n_arguments, -1)))

    def renew(self) -> None:
        """The program is for the modes that modules are in now."""
        if self.numbers.modes >= 0:
            self.numbers.values.view(np.int64)[self.numbers.modes] = changes[0]

    def news(self) -> tuple[int, int]:
        """How many replays and misses there were since this was asked last; the program is as old as the last."""
        now = self.words[P.replays], self.words[P.misses]
        replays, misses = (a - b for a, b in zip(now, self.known, strict=True))
        if replays:
            self.known, self.family.kin.in_vain = now, 0
            self.program.used = max(self.program.used, self.words[P.used])
            self.family.used = max(self.family.used, self.words[P.used])
        return replays, misses

    def _word(self, x: Any) -> int:
        """A word of a table: a number, the address of an object, or of more words."""
        if x.__class__ is int:
            return x
        if x.__class__ is list:
            return self._kept(x)
        self.held.append(x.of)
        return id(x.of)

    def _kept(self, words: list[int]) -> int:
        array = np.array(words, np.int64)
        self.held.append(array)
        return address_of(array)


class _Object:
    """Of it a table has the address."""

    __slots__ = ("of",)

    def __init__(self, of: Any) -> None:
        self.of = of


def _id(o: Any) -> int:
    return 0 if o is None else id(o)


def _row(record: Any, **facts: Any) -> list[Any]:
    """A record, as words of a table."""
    words: list[Any] = [0] * (record.nbytes // 8)
    for name, fact in facts.items():
        words[record.fields[name][0] // 8] = fact
    return words


def _checks(program: Any, leaves: Sequence[Any]) -> list[list[Any]]:
    """What arguments and captured tensors have to be."""
    rows: list[list[Any]] = []
    first: dict[int, int] = {}
    for place, leaf in enumerate(leaves):
        facts = {"place": place, "type": _Object(type(leaf))}
        if type(leaf) is np.ndarray:
            facts |= _facts_of_array(leaf)
        elif isinstance(leaf, Tensor):
            like = first.setdefault(id(leaf), place)
            facts |= {"what": calling.TENSOR, "fact": _Object(leaf._kind), "like": like}
        elif type(leaf) is float:
            looked_at = place in program.numbers
            facts["what"] = calling.NUMBER if looked_at else calling.FLOAT
            facts["fact"] = struct.unpack("q", struct.pack("d", leaf))[0]
        else:
            facts |= {"what": calling.STATIC, "fact": _Object(leaf)}
        rows.append(_row(CallCheck, **facts))
    for _, _, t, kind in program.captured:
        if isinstance(t, Tensor):
            facts = {"what": calling.TENSOR, "object": _Object(t), "fact": _Object(kind), "type": _Object(type(t))}
            rows.append(_row(CallCheck, **facts))
    for _, _, source in program.copied:
        if type(source) is np.ndarray:
            rows.append(_row(CallCheck, object=_Object(source), type=_Object(np.ndarray), **_facts_of_array(source)))
    return rows


def _facts_of_array(array: np.ndarray) -> dict[str, Any]:
    return {
        "what": calling.ARRAY, "fact": _Object(array.dtype), "n_dimensions": array.ndim,
        "extents": [*array.shape, *array.strides], "flags": array.flags.num & _FLAGS,
    }  # fmt: skip


def _copies(program: Any, memory: Any, numbers: _Numbers) -> list[list[Any]]:
    """What is copied in."""
    rows = []
    for offset, kind, source in program.copied:
        facts: dict[str, Any] = {"target": memory.at + offset, "nbytes": kind.numel * kind.itemsize}
        place = getattr(source.make, "place", -1) if type(source) is not np.ndarray else -1
        if type(source) is Number:  # it stands where it would in a float
            what = calling.SINGLE if kind.dtype.numpy == np.float32 else calling.FLOAT
            facts |= {"what": what, "object": numbers.made_by(source.make) - _float_offset()}
        elif place >= 0:
            facts |= {"what": calling.ARRAY, "place": place}
        else:
            facts |= {"what": calling.ARRAY, "object": _Object(source)}
        rows.append(_row(CallCopy, **facts))
    for address, nbytes, t, _ in memory.captured:
        where = {"object": _Object(t)} if isinstance(t, Tensor) else {"place": t}
        rows.append(_row(CallCopy, what=calling.TENSOR, target=address, nbytes=nbytes, **where))
    return rows


def _made(program: Any, memory: Any) -> list[list[Any]]:
    """What is made."""
    rows = []
    for result in program.results:
        kind, numpy = result.kind, result.kind.dtype.numpy
        what = calling.NEW_ARRAY
        if result.like is float:
            what = calling.DOUBLE_NUMBER if numpy == np.float64 else calling.SINGLE_NUMBER
        facts = {
            "what": what, "source": memory.at + max(result.offset, 0), "nbytes": kind.numel * kind.itemsize,
            "n_dimensions": kind.ndim, "extents": [*kind.shape], "type_number": numpy.num,
        }  # fmt: skip
        rows.append(_row(CallResult, **facts))
    return rows


def _finisher(program: Any) -> Callable[[Any], Any] | None:
    """What has to be done by Python with what was made."""
    tensors = [result.like is Tensor for result in program.results]
    if program.structure is None:
        return _tensor_of if tensors[0] else None
    if not any(tensors):
        return None if program.build is tuple else program.build
    build = program.build
    return lambda made: build([_tensor_of(x) if is_one else x for x, is_one in zip(made, tensors, strict=True)])


def _tensor_of(array: np.ndarray) -> Tensor:
    return owning(array, dtypes.BY_NUMPY[array.dtype], False)


def is_plannable(program: Any, args: Any, kwargs: Any, leaves: Sequence[Any], tape: Tape) -> bool:
    """Whether native code can do what has just been done."""
    return bool(
        program.is_simple and not program.swept
        and not program.is_shared_out and program.size <= MOST_BYTES
        and not kwargs and len(args) == len(leaves) and all(map(operator.is_, args, leaves))
        and all(_is_copyable(kind, source, leaves) for _, kind, source in program.copied)
        and all(_is_makeable(result) for result in program.results)
        and all((t if isinstance(t, Tensor) else leaves[t])._tape is tape for _, _, t, _ in program.captured)
        and _linked() is not None
    )  # fmt: skip


def _is_copyable(kind: Any, source: Any, leaves: Sequence[Any]) -> bool:
    """Whether it is as many bytes, one behind the other; or a number, of which more is asked later."""
    if type(source) is Number:
        return bool(kind.shape == () and kind.dtype.is_floating_point)
    if type(source) is not np.ndarray:
        if not hasattr(source.make, "place"):
            return False
        source = leaves[source.make.place]
    return bool(
        type(source) is np.ndarray and source.flags.c_contiguous and kind.contiguous
        and source.dtype == kind.dtype.numpy and source.shape == kind.shape
    )  # fmt: skip


def _is_makeable(result: Any) -> bool:
    """Whether it is one number, or an array or a Tensor of elements in order."""
    kind, like = result.kind, result.like
    if like is float:
        return bool(kind.numel == 1 and kind.dtype.is_floating_point)
    return bool(kind.contiguous) and (like is Tensor or (isinstance(like, np.dtype) and like == kind.dtype.numpy))


def front_of(entered: Sequence[Entered]) -> tuple[int, Any]:
    """The address of a front of plans, the latest first, and what has to be held for it."""
    if not entered:
        return 0, None
    n_results = entered[0].n_results
    plans = np.array([address_of(np.asarray(e.words)) for e in entered if e.n_results == n_results], np.int64)
    words = np.zeros(Front.nbytes // 8, np.int64)
    words[F.n_results], words[F.n_plans], words[F.plans] = n_results, len(plans), address_of(plans)
    return address_of(words), (words, plans, tuple(entered))


def among(entered: Sequence[Entered], new: Entered) -> list[Entered]:
    """A new plan, and those of threads that have not ended."""
    return [new, *(e for e in entered if e.thread[H.thread])][:_MOST_PLANS]


# --- putting it in its place ------------------------------------------------------------------------------------------


def _offsets() -> dict[int, int]:
    """Where objects have what native code reads."""
    tape, slot, kind = Tape(), 1 << 20, Kind()
    t, marks = handle(tape, slot, kind), {name: object() for name in ("watch", "sweeping", "duals", "checks_nan")}
    truth = {name: getattr(tape, name) for name in (*marks, "grad_enabled")}
    marks["grad_enabled"] = object()
    for name, mark in marks.items():
        setattr(tape, name, mark)
    fronted, front, number, pair = Fronted(), object(), 1.2345e-67, (object(), object(), object(), object())
    fronted._front = front  # type: ignore[assignment]
    of_tape, of_tensor, of_fronted, of_float = words_at(tape), words_at(t), words_at(fronted), words_at(number)
    of_tuple = list((ctypes.c_int64 * (tuple.__basicsize__ // 8 + 4)).from_address(id(pair)))
    for name, value in truth.items():
        setattr(tape, name, value)
    t._slot = 0  # now its finaliser may run
    of_free, array = words_at(tape.lock), np.zeros((3, 5))
    with tape.lock:
        of_lock = words_at(tape.lock)
        owner = _only(of_lock, threading.get_ident())
    listed: list[Any] = []
    of_empty = words_at(listed)
    listed.append(0)
    size = [k for k, (a, b) in enumerate(zip(of_empty, words_at(listed), strict=True)) if (a, b) == (0, 1)]
    if of_free[owner // 8] or len(size) != 1:
        raise UnknownLayoutError
    of_array = words_at(array)
    data, dtype = _only(of_array, address_of(array)), _only(of_array, id(array.dtype))
    # What NumPy has promised of arrays: behind the data the number of dimensions, shape, strides, base, dtype, flags.
    n, shape, strides, base, behind = (of_array[data // 8 + k] for k in range(1, 6))
    flags = of_array[data // 8 + 6]
    is_as_promised = (
        n & 0xFFFFFFFF == 2 and base == 0 and behind == id(array.dtype) and flags & 0xFFFFFFFF == array.flags.num
        and strides == shape + 16 and list((ctypes.c_int64 * 4).from_address(shape)) == [3, 5, 40, 8]
    )  # fmt: skip
    if not is_as_promised:
        raise UnknownLayoutError
    return {
        C.type_offset: _only(of_float, id(float)), C.front_offset: _only(of_fronted, id(front)),
        C.float_offset: _only(of_float, struct.unpack("q", struct.pack("d", number))[0]),
        C.size_offset: _only(of_tuple, 4), C.items_offset: _only(of_tuple, id(pair[0])), C.list_offset: 8 * size[0],
        C.data_offset: data, C.dimensions_offset: data + 8, C.shape_offset: data + 16, C.strides_offset: data + 24,
        C.dtype_offset: dtype, C.flags_offset: data + 48, C.tape_offset: _only(of_tensor, id(tape)),
        C.slot_offset: _only(of_tensor, id(slot)), C.kind_offset: _only(of_tensor, id(kind)), C.owner_offset: owner,
        **{getattr(C, f"{name}_offset"): _only(of_tape, id(mark)) for name, mark in marks.items()},
    }  # fmt: skip


def _only(words: list[int], word: int) -> int:
    """The offset of the only word that is this one."""
    if words.count(word) != 1:
        raise UnknownLayoutError
    return 8 * words.index(word)


def _float_offset() -> int:
    linked = _linked()
    assert linked is not None
    return linked[1][C.float_offset]  # type: ignore[no-any-return]


def _new_array() -> int:
    """The address of NumPy's function that makes an array."""
    module = importlib.import_module("numpy._core._multiarray_umath")
    kind = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
    table = kind(("PyCapsule_GetPointer", ctypes.pythonapi))(module._ARRAY_API, None)
    return (ctypes.c_int64 * (_NEW_ARRAY + 1)).from_address(table)[_NEW_ARRAY]


def _stub() -> str:
    """LLVM assembly: a C function that adds the context to its arguments."""
    context, called = "i64 ptrtoint (ptr @context to i64)", f'@"{native.symbol(call_program.__name__, call_program)}"'
    return "\n".join(
        (
            f"@context = internal global [{calling.CallFacts.nbytes // 8} x i64] zeroinitializer",
            f"declare i64 {called}(i64, i64, i64, i64)",
            f"define i64 @programs() {{ ret {context} }}",
            "define i64 @call_compiled(i64 %f, i64 %a, i64 %k) {",
            f" %r = tail call i64 {called}(i64 %f, i64 %a, i64 %k, {context})\n ret i64 %r }}",
        )
    )


_lock = locks.lock()
_installed: list[type] = []


@functools.cache
def _linked() -> Any:
    """The function for `Compiled.__call__`, and its context; None where it can't be shown to work."""
    if not native.JIT or native.CHECKED or MEMORY or not is_usual():
        return None
    try:
        facts = {**_offsets(), C.new_array: _new_array()}
        build = functools.partial(native.rebind, call_program)
        native.link(call_program.__name__, 4, build, (call_program,), returns=True)
        code = native.link_assembly("programs", _stub)
    except (AttributeError, ImportError, UnknownLayoutError):
        return None
    address = native.callable_at(code.get_function_address("programs"), 0)()
    context = (ctypes.c_int64 * (calling.CallFacts.nbytes // 8)).from_address(address)
    facts |= {
        C.array: id(np.ndarray), C.float: id(float), C.none: id(None), C.false: id(False),
        C.default_dtype: address_of(dtypes.default_code), C.clock: address_of(np.asarray(clock)),
    }  # fmt: skip
    for place, name in _FUNCTIONS.items():
        facts[place] = function_address(name)
    for place, fact in facts.items():
        context[place] = fact
    keep((code, context))
    return code.get_function_address("call_compiled"), context


def install(owner: type) -> None:
    """Have native code called for objects of a class, before its `__call__` is."""
    with _lock:
        if not _installed and (linked := _linked()) is not None:
            _installed.append(owner)
            function, context = linked
            python = vars(owner)["__call__"]
            keep(python)
            context[C.python] = id(python)
            of_functions: Any = vars(types.FunctionType)
            setattr(owner, "__call__", slot_wrapper(owner, of_functions["__call__"], function))  # noqa: B010
