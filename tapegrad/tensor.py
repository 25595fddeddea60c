"""Tensor: the handle of a slot, which a user holds.

A Tensor holds three things: its tape, its slot, its kind. Here it is made and looked at; what is done with it is
installed as methods by the modules above: `recording.py`, `writing.py`, `interop.py`, `functions/`.
"""

from __future__ import annotations

import math
import operator
import struct
import sys
import weakref
from _thread import get_ident
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from tapegrad import devices, engine, pages
from tapegrad import tape as tapes
from tapegrad.debug import MEMORY, SMALL
from tapegrad.dtypes import BY_NUMPY, DType
from tapegrad.kinds import GRADIENTS, Kind, address_of, array_at, kind_of, number_at
from tapegrad.kinds import objects as kind_objects
from tapegrad.tape import H, Tape, current_tape

_new, _of_lengths = object.__new__, tuple.__new__  # a shape that is known is not looked at again
_weakly = weakref.ref


# Of a slot, by `slot_words` and by `slot_ints`: how many, and where.
_WORDS, _PRIMAL, _ADJOINT = 4, 1, 2
_INTS, _KIND, _ROW, _BASE, _FLAGS = 8, 0, 1, 6, 7
_STORED, _OWNED = tapes.STORED, tapes.STORED | tapes.OWNED
_SLOT_BYTES, _pack_slot = tapes.SLOT.itemsize, struct.Struct("=iiqqii").pack_into
_N_FREE, _ALLOCATED, _FILLED, _SETTLED = H.n_free, H.allocated, H.filled, H.settled


if TYPE_CHECKING:
    from tapegrad.methods import Methods  # a stub
else:
    Methods = object


_shape = tuple.__new__


class Size(tuple[int, ...]):
    """A shape.

    >>> import tapegrad as tg
    >>> tg.ones(2, 3).shape
    tapegrad.Size([2, 3])
    """

    __slots__ = ()

    def __new__(cls, sizes: Iterable[Any] = ()) -> Size:
        """A shape of ints.

        Raises
        ------
        TypeError
            Where one is no int.
        ValueError
            Where it doesn't fit 64 bits.
        """
        lengths = []
        try:
            given = iter(sizes)
        except TypeError as error:
            raise TypeError(f"{error}: tapegrad.Size() takes an iterable of 'int'") from None
        for place, n in enumerate(given):
            try:
                lengths.append(operator.index(n))
            except TypeError:
                raise TypeError(
                    f"tapegrad.Size() takes an iterable of 'int' (item {place} is '{type(n).__name__}')"
                ) from None
            if not -(1 << 63) <= lengths[-1] < 1 << 63:
                raise ValueError(f"Overflow when unpacking long long: {n} does not fit 64 bits")
        return tuple.__new__(cls, lengths)

    # Parts of shapes, and what they are joined to, are shapes.

    def __getitem__(self, place: Any) -> Any:
        found = tuple.__getitem__(self, place)
        return _shape(Size, found) if found.__class__ is tuple else found

    def __add__(self, other: Any) -> Any:
        return Size((*self, *other)) if isinstance(other, tuple) else NotImplemented

    def __radd__(self, other: Any) -> Any:
        return Size((*other, *self)) if isinstance(other, tuple) else NotImplemented

    def __mul__(self, n: Any) -> Any:
        return _shape(Size, tuple.__mul__(self, n))

    __rmul__ = __mul__

    def __repr__(self) -> str:
        return f"tapegrad.Size({list(self)})"

    def numel(self) -> int:
        """The number of elements."""
        return math.prod(self)


class Tensor(Methods):
    """A value on the tape: like `torch.Tensor`, computed when someone looks.

    Made by `tapegrad.tensor` and its like, and by operations on tensors.

    >>> import tapegrad as tg
    >>> x = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    tensor([2., 4., 6.])
    """

    # Those but `_tape`, `_slot` and `_kind` are set only where they are needed: handles are made by the million.
    __slots__ = (
        "__weakref__", "_called", "_fresh", "_grad", "_hooks", "_kind", "_known", "_note", "_origin", "_recipe",
        "_seen", "_slot", "_tape", "_views", "_writes",
    )  # fmt: skip

    _tape: Tape
    _slot: int
    _kind: Kind
    _grad: Any
    _hooks: Any
    _called: str  # what PyTorch calls the node of it, where several rows compute what one of its nodes does
    _note: str  # what `nn` knows of it; or NUMBER
    _origin: Any  # what it shares the elements of: see `aliasing.py`
    _recipe: Any
    _seen: Any
    _fresh: Any
    _known: Any
    _views: Any
    _writes: int  # how often its elements were written to; of what shares them, the origin knows

    def __del__(self) -> None:
        try:
            self._tape.live[self._slot] -= 1
        except AttributeError:  # Ctrl-C came before it was given a slot
            return

    # --- what is known without computing -----------------------------------------------------------------------------

    @property
    def shape(self) -> Size:
        """The lengths of the dimensions."""
        return _of_lengths(Size, self._kind.shape)

    @property
    def dtype(self) -> DType:
        """The type of the elements."""
        return self._kind.dtype

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return self._kind.ndim

    def numel(self) -> int:
        """The number of elements."""
        return self._kind.numel

    nelement = numel

    def dim(self) -> int:
        """The number of dimensions."""
        return self._kind.ndim

    def element_size(self) -> int:
        """Bytes an element."""
        return self._kind.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self._kind.numel * self._kind.itemsize

    def is_floating_point(self) -> bool:
        """Whether the elements are floating-point numbers."""
        return self._kind.dtype.is_floating_point

    @property
    def device(self) -> devices.device:
        """Where the elements are: always on the CPU."""
        return devices.CPU

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow to or through this tensor. Can be set on leaves."""
        return self._kind.requires_grad & GRADIENTS != 0

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if not isinstance(value, bool):
            raise RuntimeError(f"requires_grad must be a bool, not {type(value).__name__}")
        if not self.is_leaf:
            raise RuntimeError(
                "you can only change requires_grad flags of leaf variables: this one was computed; detach() it first"
            )
        self.requires_grad_(value)

    @property
    def is_leaf(self) -> bool:
        """True where no recorded operation made it: gradients accumulate in leaves that require them."""
        return self._kind.is_leaf or not self._kind.requires_grad & GRADIENTS

    def _set_kind(self, **changes: bool) -> None:
        """Have the value under another kind of the same layout."""
        old = self._kind
        if self._tape.watch is not None:
            self._tape.watch.changes(self)
        facts: dict[str, Any] = {
            "requires_grad": old.requires_grad,
            "leaf": old.is_leaf,
            "exported": old.exported,
            **changes,
        }
        kind = kind_of(old.dtype, old.shape, old.strides, **facts)
        tape, slot, reference = self._tape, self._slot, weakref.ref(self)
        tape.synced_row(slot)
        if kind.is_leaf:
            tape.leaves[slot] = reference
        self._kind = kind
        tape.slot_ints[_INTS * slot + _KIND] = kind.index

    @property
    def grad(self) -> Tensor | None:
        """The accumulated gradient, or None. Can be set, and set to None."""
        if self._tape.watch is not None:
            self._tape.watch.reads_grad(self)
        return getattr(self, "_grad", None)

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                raise TypeError(
                    f"assigned grad expected to be a Tensor or None but got grad of type {type(value).__name__}"
                )
            if value.shape != self.shape:
                raise RuntimeError(
                    f"attempting to assign a gradient of size '{list(value.shape)}' to a tensor of size "
                    f"'{list(self.shape)}'. "
                    "Please ensure that the gradient and the tensor are the same size"
                )
            if value.dtype is not self.dtype:
                raise RuntimeError(
                    f"attempting to assign a gradient with dtype {value.dtype} to a tensor with dtype {self.dtype}"
                )
            if value is self:
                raise RuntimeError("can't assign Variable as its own grad")
        if self._tape.watch is not None:
            self._tape.watch.writes_grad(self)
        self._grad = value

    @grad.deleter
    def grad(self) -> None:
        self.grad = None

    # --- looking ------------------------------------------------------------------------------------------------------

    def _array(self) -> np.ndarray:
        """The elements as a NumPy view of the tape's memory: for the moment, since the tape may take it back."""
        tape, slot, kind = self._tape, self._slot, self._kind
        if tape.thread != get_ident():
            return copied(self)[0]
        address = engine.evaluate(tape, slot)
        if tape.watch is not None:
            tape.watch.learns(self)
        return array_at(address, kind, None)

    def item(self) -> Any:
        """The only element, as a Python number.

        Raises
        ------
        RuntimeError
            Where there is not exactly one element.
        """
        tape, slot, kind = self._tape, self._slot, self._kind
        if kind.numel != 1:
            raise RuntimeError(
                f"a Tensor with {kind.numel} elements cannot be converted to Scalar; its shape is {list(kind.shape)}"
            )
        if tape.thread != get_ident():
            return copied(self)[0].item()
        address = engine.evaluate(tape, slot)
        if tape.watch is not None:
            tape.watch.learns(self)
        return number_at(address, kind.dtype)

    def __repr__(self) -> str:
        from tapegrad.printing import format_tensor

        text = format_tensor(self)
        return f"Parameter containing:\n{text}" if getattr(self, "_note", None) == "Parameter" else text


# --- making handles ---------------------------------------------------------------------------------------------------


def handle(tape: Tape, slot: int, kind: Kind) -> Tensor:
    """A new handle; the slot's byte in `live` is set already."""
    t = _new(Tensor)
    t._tape, t._slot, t._kind = tape, slot, kind
    return t


def lend(tape: Tape, slot: int, kind: Kind) -> Tensor:
    """Another handle of a slot."""
    t = _new(Tensor)
    t._tape, t._kind = tape, kind
    tape.live[slot] += 1
    tape.h[_SETTLED] = 0
    t._slot = slot
    return t


def stored(tape: Tape, kind: Kind, address: int, array: Any, is_leaf: bool = False) -> Tensor:
    """The handle of a new value without a row, whose elements are at an address: an array has them, or (None) it."""
    h = tape.h
    if SMALL or not h[_N_FREE]:
        engine.make_room(tape, 0, 1)
    t = _new(Tensor)
    t._tape, t._kind = tape, kind
    if is_leaf:
        t._grad = t._known = t._hooks = None  # to be found: what is not set takes 0.2 us to ask for
    reference = _weakly(t) if is_leaf else None
    height, index = h[_N_FREE] - 1, kind.index
    # From here on nothing can come between (see `tape.py`).
    t._slot = slot = tape.free.memory[height]
    h[_N_FREE] = height
    if array is not None:
        tape.arrays[slot] = array
    if reference is not None:
        tape.leaves[slot] = reference
    _pack_slot(tape.slot_words, _SLOT_BYTES * slot, index, -1, address, 0, -1, _OWNED if array is None else _STORED)
    if tape.watch is not None:
        tape.watch.holds(t, address, array)
    return t


def adopt(tape: Tape, found: dict[int, Tensor], low: Any = None) -> None:
    """Give owners to the adjoints that a reverse sweep left in slots: tensors, entered in `found`.

    They have the tape's low slots, or those given: gradients that go soon need none.
    """
    h, reached = tape.h, tape.reached
    low = tape.low if low is None else low
    if h[_N_FREE] + len(low) < len(reached):
        engine.make_room(tape, 0, len(reached))
    words, ints, free = tape.slot_words, tape.slot_ints, tape.free.memory
    for slot in reached:
        if slot in found:
            continue
        t, kind = _new(Tensor), kind_objects[ints[_INTS * slot + _KIND]].gradient
        index = kind.index
        # From here on nothing can come between (see `tape.py`).
        t._tape, t._kind = tape, kind
        if low:
            t._slot = made = low[-1]
            del low[-1]
        else:
            height = h[_N_FREE] - 1
            t._slot = made = free[height]
            h[_N_FREE] = height
        address = words[_WORDS * slot + _ADJOINT]
        words[_WORDS * slot + _ADJOINT] = 0
        found[slot] = t
        _pack_slot(words, _SLOT_BYTES * made, index, -1, address, 0, -1, _OWNED)
        if tape.watch is not None:
            tape.watch.makes(made)


def exchange(t: Tensor, u: Tensor) -> None:
    """Let two handles exchange what they hold, with no call among it: nothing comes between, and no other thread."""
    if t._tape.watch is not None:
        t._tape.watch.changes(t)
    tape, slot, kind = t._tape, t._slot, t._kind
    t._tape, t._slot, t._kind = u._tape, u._slot, u._kind
    u._tape, u._slot, u._kind = tape, slot, kind


def from_array(array: np.ndarray, requires_grad: bool = False, exported: bool = False) -> Tensor:
    """A leaf that borrows a NumPy array of one of the dtypes, in native byte order."""
    tape = current_tape()
    if tape.watch is not None:
        return tape.watch.copies(_from_array, array, requires_grad, exported)  # type: ignore[no-any-return]
    return _from_array(array, requires_grad, exported)


def _from_array(array: np.ndarray, requires_grad: bool, exported: bool) -> Tensor:
    tape, dtype = current_tape(), BY_NUMPY[array.dtype]
    tape.h[_ALLOCATED] += array.nbytes
    engine.reclaim_if_due(tape)
    if MEMORY and not exported:
        kind = kind_of(dtype, array.shape, None, requires_grad, requires_grad)
        return stored(tape, kind, engine.guarded_copy(tape, array), None, requires_grad)
    kind = kind_of(dtype, array.shape, array.strides, requires_grad, requires_grad, exported)
    return stored(tape, kind, address_of(array), array, requires_grad)


def owning(array: np.ndarray, dtype: DType, requires_grad: bool) -> Tensor:
    """A leaf that has an array, in order, which nobody else has: as `from_array` makes it, in half the time."""
    tape, key = current_tape(), (dtype, array.shape, requires_grad)
    h, kind = tape.h, _kinds_of_leaves.get(key)
    if kind is None or MEMORY or SMALL or not h[_N_FREE]:
        if len(_kinds_of_leaves) < _MOST_KINDS:
            _kinds_of_leaves[key] = kind_of(dtype, array.shape, None, requires_grad, requires_grad)
        return from_array(array, requires_grad)
    h[_ALLOCATED] = allocated = h[_ALLOCATED] + array.nbytes
    if allocated > _MUCH or h[_FILLED] > _MUCH_RECORDED:
        engine.reclaim_if_due(tape)
    address, t = address_of(array), _new(Tensor)
    t._tape, t._kind = tape, kind
    if requires_grad:
        t._grad = t._known = t._hooks = None  # as in `stored`
    reference, height, index = _weakly(t) if requires_grad else None, h[_N_FREE] - 1, kind.index
    # From here on nothing can come between (see `tape.py`).
    t._slot = slot = tape.free.memory[height]
    h[_N_FREE] = height
    tape.arrays[slot] = array
    if reference is not None:
        tape.leaves[slot] = reference
    _pack_slot(tape.slot_words, _SLOT_BYTES * slot, index, -1, address, 0, -1, _STORED)
    if tape.watch is not None:
        tape.watch.holds(t, address, array)
    return t


_kinds_of_leaves: dict[Any, Kind] = {}
_MOST_KINDS = 4096
_MUCH, _MUCH_RECORDED = engine._RECLAIM_BYTES, engine._FEW_ROWS


def constant(value: Any, dtype: DType) -> Tensor:
    """A 0-d tensor of a Python number; an int that is too long for the dtype wraps, as results of arithmetic do."""
    watch = current_tape().watch
    return _constant(value, dtype) if watch is None else watch.constant(_constant, value, dtype)


def _constant(value: Any, dtype: DType) -> Tensor:
    if dtype.category == 1:
        value = np.uint64(int(value) % (1 << 64)).astype(dtype.numpy)
    with np.errstate(over="ignore"):  # what float32 has no number for is infinite
        made = from_array(np.array(value, dtype.numpy))
    made._note = NUMBER
    return made


NUMBER = "number"  # the note of a tensor that stands for a Python number


class Constants:
    """0-d tensors of a dtype whose numbers lie beside one another in a small array: they are made in little time.

    For operands of rows, that no one else is given: an array ends with the last of them.
    """

    _LENGTH = 64

    def __init__(self, dtype: DType) -> None:
        self._dtype, self._kind = dtype, kind_of(dtype, ())
        self._next = self._LENGTH

    def of(self, tape: Tape, value: float) -> Tensor:
        """One of a number."""
        at = self._next
        if at == self._LENGTH:
            self._array = np.zeros(self._LENGTH, self._dtype.numpy)
            self._address, at = address_of(self._array), 0
            self._memory: Any = self._array.data
        self._memory[at] = value
        self._next = at + 1
        return stored(tape, self._kind, self._address + at * self._kind.itemsize, self._array)


def constants(tape: Tape, dtype: DType) -> Constants:
    """What makes those of a tape."""
    made: Constants | None = tape.constants.get(dtype)
    if made is None:
        made = tape.constants[dtype] = Constants(dtype)
    return made


# --- memory and slots ------------------------------------------------------------------------------------------------


def copied(t: Tensor) -> tuple[np.ndarray, Tape, int, Kind]:
    """The elements of a tensor of any thread, with the tape, slot and kind that it had then.

    Its own thread may be recording, which a sweep of what is behind the tensor doesn't mind: all of that is there. Its
    sweeps and reclaimings are waited for. Its tape does not change, but that the value is in memory from now on.
    """
    if (watch := current_tape().watch) is not None:
        watch.fail("reads a tensor of another thread", False)
    while True:
        tape = t._tape
        engine.wait_for(tape)
        with tape.lock:
            if t._tape is tape:
                slot, kind = t._slot, t._kind
                return array_at(engine.evaluate_there(tape, slot), kind, None).copy(), tape, slot, kind


def owner_of(t: Tensor) -> int:
    """The slot whose memory an evaluated tensor's elements are in."""
    base = int(t._tape.slots["base"][t._slot])
    return t._slot if base < 0 else base


def over_memory(t: Tensor) -> np.ndarray:
    """An array over memory that is NumPy's."""
    tape, slot = t._tape, t._slot
    return array_at(int(tape.slots["primal"][slot]), t._kind, tape.arrays[owner_of(t)])


def slot_in(tape: Tape, t: Tensor) -> int:
    """The slot of an operand on this thread's tape, which a write on another thread may just have taken it from."""
    slot = t._slot
    if t._tape is not tape:
        raise RuntimeError(
            "a tensor was changed in place by another thread while this one recorded an operation on it, or a write: "
            f"{describe(t)}, at {location()}{pages.THREADS}"
        )
    return slot


# --- words for errors -------------------------------------------------------------------------------------------------


_BETWEEN = {__name__.rpartition(".")[0], "contextlib", "copy", "functools", "numba", "numpy", "scipy"}


def depth_of_user() -> int:
    """How many frames above the caller's the innermost call from outside the package stands, counted from 1.

    Modules that call what they were given, such as decorated functions, are between it and the user.
    """
    frame, depth = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _BETWEEN:
        frame, depth = frame.f_back, depth + 1
    return depth


_WAYS_IN = {
    f"{__name__.rpartition('.')[0]}.{name}"
    for name in ("array_methods", "functions.indexing", "functions.subscripts", "recorder")
}


def is_users() -> bool:
    """Whether a method that may mean what those of arrays mean is called by other code than the package's own."""
    frame: Any = sys._getframe(1)
    while (name := frame.f_globals.get("__name__", "")) in _WAYS_IN:
        frame = frame.f_back
    return bool(name.partition(".")[0] != "tapegrad")


def location() -> str:
    """The user's line: where the innermost call from outside the package stands."""
    frame = sys._getframe(depth_of_user() - 1)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def describe(*operands: Any) -> str:
    """Operands in an error message: dtype and shape of each."""
    return ", ".join(
        f"{o.dtype.name}{list(o.shape)}" if isinstance(o, Tensor) else f"{type(o).__name__} {o!r}" for o in operands
    )
