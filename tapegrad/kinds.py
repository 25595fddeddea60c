"""Kinds: what is known of a value before it is computed.

A kind is a dtype, a shape, strides, and whether it requires grad. Kinds are interned for the whole process, so that
checking and deriving them is one look-up in a dictionary. Compiled code sees a record (32 bytes):

      0       4       8       12      16              24              32
      +-------+-------+-------+-------+---------------+---------------+
      | dtype | flags | space | ndim  |     numel     |     dims      |
      +-------+-------+-------+-------+---------------+---------------+

`space` is the shape's number; `dims` is where, in the pool of numbers, the shape and the strides stand. The pool holds
the parameters of rows too, each list once, its length before it.

Invariant: `objects[i]` is the kind whose record is `table.array[i]`; neither is ever changed or taken away. To let
go of kinds that nothing uses, rows and programs would have to count them: each row would pay for what few need.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from tapegrad import locks
from tapegrad.debug import SMALL
from tapegrad.dtypes import DTYPES, INT64, DType
from tapegrad.memory import Record

KIND = np.dtype([("dtype", "i4"), ("flags", "i4"), ("space", "i4"), ("ndim", "i4"), ("numel", "i8"), ("dims", "i8")])


class KindRecord(Record, dtype=KIND):
    """What compiled code knows of a kind."""


# Bits of `requires_grad`: gradients flow through a value, tangents do (`autograd/forward_ad.py`).
GRADIENTS, TANGENTS = 1, 2
# Of a tape's `grad_enabled`, beside False: what is recorded requires no grad, but tangents flow.
FORWARD = 0

# Flags of a kind.
REQUIRES_GRAD, LEAF, CONTIGUOUS, EXPORTED = 1, 2, 4, 8

_lock = locks.lock()


class Pool:
    """A growing array that is only ever appended to; superseded ones stay alive, since sweeps may read them."""

    def __init__(self, dtype: Any, capacity: int) -> None:
        self.array = np.zeros(capacity, dtype)
        self.used = 0
        self._superseded: list[np.ndarray] = []
        self.address = address_of(self.array)

    def append(self, values: Any) -> int:
        """Append `values`, and return the index of the first."""
        start, stop = self.used, self.used + len(values)
        if stop > len(self.array):
            larger = np.zeros(max(2 * len(self.array), stop), self.array.dtype)
            larger[:start] = self.array[:start]
            address = address_of(larger)
            self._superseded.append(self.array)
            self.array, self.address = larger, address
        self.array[start:stop] = values
        self.used = stop
        return start


class _Memory:
    """Memory seen by NumPy; `owner` is kept as long as some array sees it."""

    __slots__ = ("__array_interface__", "owner")

    def __init__(
        self, address: int, shape: tuple[int, ...], strides: tuple[int, ...] | None, dtype: Any, owner: Any
    ) -> None:  # fmt: skip
        self.owner = owner
        self.__array_interface__ = {
            "version": 3, "data": (address, False), "shape": shape, "strides": strides, "typestr": dtype.str,
        }  # fmt: skip


# All memory from an address on, as an array of each dtype: to look at an element, or at some in a row, takes a tenth of
# the time that making an array of an address does (2 us).
_FIRST = 64
_everywhere = [np.asarray(_Memory(_FIRST, ((1 << 62) // dtype.itemsize,), None, dtype.numpy, None)) for dtype in DTYPES]
_words = _everywhere[INT64.code]


def number_at(address: int, dtype: DType) -> Any:
    """The element at an address, as a Python number."""
    return _everywhere[dtype.code].item((address - _FIRST) // dtype.itemsize)


def _place_of_address() -> int | None:
    """Where an array, an object of Python's, has the address of its elements; None where it can't be told."""
    array = np.zeros(3)
    if sys.implementation.name != "cpython":
        return None
    words = _words[(id(array) - _FIRST) // 8 :][: array.__sizeof__() // 8].tolist()
    address = array.__array_interface__["data"][0]
    return words.index(address) - _FIRST // 8 if words.count(address) == 1 else None


_ADDRESS = _place_of_address()


def address_of(array: np.ndarray) -> int:
    """The address of an array's first element."""
    if _ADDRESS is None:
        return array.__array_interface__["data"][0]  # type: ignore[no-any-return]
    address: int = _words.item(id(array) // 8 + _ADDRESS)
    return address


class Kind:
    """What is known of a value before it is computed.

    Interned: two kinds are equal only if they are the same object.
    """

    __slots__ = (
        "contiguous", "dtype", "exported", "gradient", "index", "is_large", "is_leaf", "itemsize", "ndim", "numel",
        "passive", "requires_grad", "shape", "space", "strides",
    )  # fmt: skip

    dtype: DType
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in bytes
    ndim: int
    numel: int
    itemsize: int
    space: int  # the number of the shape
    index: int  # in `objects`
    requires_grad: int  # whether derivatives flow through it: False, True, or bits
    is_leaf: bool
    contiguous: bool
    exported: bool  # NumPy can write to the memory
    is_large: bool
    passive: Kind  # the same, not requiring grad
    gradient: Kind  # of this dtype and shape, contiguous, not requiring grad

    def __repr__(self) -> str:
        return f"Kind({self.dtype.name}, {self.shape}, requires_grad={self.requires_grad})"


def contiguous_strides(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Strides, in bytes, of a C-contiguous array."""
    strides, step = [], itemsize
    for length in reversed(shape):
        strides.append(step)
        step *= max(length, 1)
    return tuple(reversed(strides))


def array_at(address: int, kind: Kind, owner: Any) -> np.ndarray:
    """A NumPy array over the memory of a value; without an owner it is for the moment."""
    if owner is None and kind.contiguous and kind.numel:
        start = (address - _FIRST) // kind.itemsize
        flat: np.ndarray = _everywhere[kind.dtype.code][start : start + kind.numel]
        return flat if kind.ndim == 1 else flat.reshape(kind.shape)
    return np.asarray(_Memory(address, kind.shape, kind.strides, kind.dtype.numpy, owner))


LARGE = 1 << 16  # bytes from which a value is worth computing early to let go of others

_kinds: dict[tuple[Any, ...], Kind] = {}
_spaces: dict[tuple[int, ...], int] = {}
_numbers: dict[tuple[int, ...], int] = {}
table = Pool(KIND, 1 if SMALL else 4096)
objects: list[Kind] = []
pool = Pool(np.int64, 1 if SMALL else 1 << 14)


def kind_of(
    dtype: DType,
    shape: tuple[int, ...],
    strides: tuple[int, ...] | None = None,
    requires_grad: int = False,
    leaf: bool = False,
    exported: bool = False,
) -> Kind:
    """The interned kind. Strides are in bytes; None means C-contiguous."""
    known = _kinds.get((dtype.code, shape, strides, requires_grad, leaf, exported))
    if known is not None:
        return known
    natural = contiguous_strides(shape, dtype.itemsize)
    contiguous = (
        strides is None or 0 in shape or all(n == 1 or s == t for n, s, t in zip(shape, strides, natural, strict=True))
    )
    key = (dtype.code, shape, natural if contiguous else strides, requires_grad, leaf, exported)
    kind = _kinds.get(key)
    if kind is None:
        with _lock:
            kind = _kinds.get(key) or _intern(key, dtype, contiguous)
    if strides is None:
        _kinds[dtype.code, shape, None, requires_grad, leaf, exported] = kind
    return kind


def _intern(key: tuple[Any, ...], dtype: DType, contiguous: bool) -> Kind:
    _, shape, strides, requires_grad, leaf, exported = key
    kind = Kind()
    kind.dtype, kind.shape, kind.strides, kind.ndim, kind.itemsize = dtype, shape, strides, len(shape), dtype.itemsize
    kind.numel = 1
    for length in shape:
        kind.numel *= length
    kind.requires_grad = requires_grad if requires_grad > GRADIENTS else bool(requires_grad)
    kind.is_leaf, kind.contiguous, kind.exported = leaf, contiguous, exported
    kind.is_large = kind.numel * dtype.itemsize >= LARGE
    kind.space = _spaces.setdefault(shape, len(_spaces))
    flags = bool(requires_grad) * REQUIRES_GRAD | leaf * LEAF | contiguous * CONTIGUOUS | exported * EXPORTED
    dims = pool.append(shape + strides) if shape else 0
    kind.passive = kind
    if requires_grad:
        passive_key = (dtype.code, shape, strides, False, False, exported)
        kind.passive = _kinds.get(passive_key) or _intern(passive_key, dtype, contiguous)
    own = (dtype.code, shape, contiguous_strides(shape, dtype.itemsize), False, False, False)
    kind.gradient = kind if own == key else _kinds.get(own) or _intern(own, dtype, True)
    # Its place in `objects` is what makes it a kind: a record that was written before, and then Ctrl-C came, is
    # written over.
    kind.index = table.used = len(objects)
    table.append([(dtype.code, flags, kind.space, len(shape), kind.numel, dims)])
    objects.append(kind)
    _kinds[key] = kind
    return kind


def flowing(enabled: Any, bits: int) -> int:
    """The bits of what is recorded, by those of its operands and a tape's `grad_enabled`."""
    return bits if enabled else bits & TANGENTS if enabled is FORWARD else 0


def seen(enabled: Any, kind: Kind) -> Kind:
    """The kind of what is recorded, by what it is where gradients are."""
    if enabled or not kind.requires_grad:
        return kind
    bits = flowing(enabled, kind.requires_grad)
    return kind_of(kind.dtype, kind.shape, kind.strides, bits, False, kind.exported) if bits else kind.passive


def numbers(values: tuple[int, ...]) -> int:
    """The index in the pool of a row's parameters, interned."""
    index = _numbers.get(values)
    if index is None:
        with _lock:
            index = _numbers.get(values)
            if index is None:
                index = _numbers[values] = pool.append((len(values), *values)) + 1
    return index


# By blocks of positions, the index of the first one's parameters; 0 where there are none yet. Native code reads it.
PLACE_BITS = 10
places = np.zeros(1 << 12, np.int32).data


def place(position: int) -> int:
    """The index in the pool of a row's parameters for one element at a position of a tensor: (position, 0)."""
    block = position >> PLACE_BITS
    if block >= len(places):
        return numbers((position, 0))
    if not places[block]:
        with _lock:
            if not places[block]:
                n = 1 << PLACE_BITS
                values = np.zeros((n, 3), np.int64)
                values[:, 0], values[:, 1] = 2, np.arange(block * n, (block + 1) * n)
                places[block] = pool.append(values.reshape(-1)) + 1
    return places[block] + 3 * (position & ((1 << PLACE_BITS) - 1))


def numbers_at(index: int) -> tuple[int, ...]:
    """The parameters at an index of the pool: their count stands before them."""
    return tuple(pool.array[index : index + pool.array[index - 1]].tolist())


def n_spaces() -> int:
    """How many shapes are known; a space is a shape's number."""
    return len(_spaces)
