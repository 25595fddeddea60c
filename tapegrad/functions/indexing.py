"""Indexing and item assignment.

Ints, slices, None and Ellipsis make views. Arrays (of ints or bools, tensors, lists) gather: their positions are worked
out by NumPy when the row is recorded, so that an index out of range is an error at its line.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal, overload

import numpy as np

from tapegrad import aliasing, batched, dtypes, recorder, writing
from tapegrad.arguments import EXACT, Surface, node, number
from tapegrad.batched import Batched, elements
from tapegrad.conversion import as_operand, is_array
from tapegrad.dtypes import BOOL, INT32, INT64
from tapegrad.functions.shaping import contiguous, dimension, over_contiguous
from tapegrad.functions.subscripts import (
    checked,
    checked_int,
    expanded,
    is_advanced,
    normalised,
    of_list,
    positions_named,
    upwards,
)
from tapegrad.kinds import Kind, contiguous_strides, flowing, numbers_at
from tapegrad.ops import indexing, layout
from tapegrad.ops.declare import Op
from tapegrad.recording import appended, broadcast_shapes, cast, of_two_in_one_step, record_array
from tapegrad.tape import PARAMS, current_tape
from tapegrad.tensor import Tensor, constant, constants, describe, from_array, location, owning

functions = public = Surface(EXACT)


def getitem(self: Tensor, index: Any) -> Tensor:
    """`self[index]`: a view for ints, slices, None and Ellipsis; a copy where arrays are among them.

    Raises
    ------
    IndexError
        Where an index is out of range, there are too many, or the shapes of arrays disagree.
    """
    if index.__class__ is list:
        index = of_list(index)
    if (position := _element(self, index)) >= 0 and (element := aliasing.element(self, position)) is not None:
        return element
    key = _key(self, index)
    if self.__class__ is Batched or (key is None and _has_samples(index)):
        return _of_samples(self, index)
    if (seen := _seen.get(key)) is not None:
        again, op, *layout_of = seen
        made = aliasing.view_again(again, self)
        return aliasing.view(op, self, *layout_of) if made is None else made
    if key is None and (taken := _taken_at_once(self, index)) is not None:
        return taken
    normal = normalised(index)
    if current_tape().of_arrays:
        dims, normal = upwards(self, normal)
        if dims:
            return getitem(self.flip(dims), normal)
    if not is_advanced(normal):
        op, shape, strides, offset, steps = _shown(self, normal)
        adjoint, start = over_contiguous(self, steps)
        made = aliasing.view(op, self, shape, strides, offset, adjoint, start)
        if key is not None:
            if len(_seen) >= _MOST_SEEN:
                _seen.clear()
            way = aliasing.again(made, self)
            if way is not None and way.below is not None:  # of a view of this one's base: the key doesn't tell where
                way = None
            _seen[key] = (way, op, shape, strides, offset, adjoint, start)
            if position >= 0:
                aliasing.learn_element(self._kind)
            elif way is not None and index.__class__ in (int, slice):
                recorder.learn_view(key, way)
        return made
    positions, shape = _places(self, normal)
    return _take(self, positions, shape)


def _places(a: Tensor, index: tuple[Any, ...]) -> tuple[np.ndarray, tuple[int, ...]]:
    """Flat positions of elements, or of runs of them, that an index with arrays names, and the shape of these."""
    shape = a._kind.shape
    if shape and len(index) == 1 and index[0].dtype != bool:
        return checked(index[0], shape[0], 0), index[0].shape + shape[1:]
    return positions_named(shape, index)


def _take(a: Tensor, positions: np.ndarray, shape: tuple[int, ...]) -> Tensor:
    """Elements, or runs of them, at flat positions that nobody else has."""
    return _take_at(a, owning(np.ascontiguousarray(positions, np.int64).reshape(-1), INT64, False), shape)


@of_two_in_one_step
def _take_at(a: Tensor, at: Tensor, shape: tuple[int, ...]) -> Tensor:
    return record_array(indexing.take, shape, a.dtype, contiguous(a), at)


def _taken_at_once(self: Tensor, index: Any) -> Tensor | None:
    """`self[index]` by the indices that are met most: integers for the first dimensions, or for one, or a mask of all.

    They are arrays of int64, and ints beside them, that count from the beginning. None is the answer to all else, and
    to what is wrong.
    """
    shape = self._kind.shape
    if index.__class__ is not tuple:
        array = _array_of(index)
        if array is None:
            return None
        if array.dtype == bool:
            if array.shape != shape or not shape:
                return None
            chosen = np.flatnonzero(array)
            return _take(self, chosen, chosen.shape)
        index = (array,)
    items = list(index)
    while items and _is_whole(items[-1]):
        items.pop()
    dim = next((d for d, item in enumerate(items) if not _is_whole(item)), 0)
    if len(items) > len(shape) or (dim and len(items) != dim + 1):
        return None
    positions: Any = 0
    for item, n in zip(items[dim:], shape[dim:], strict=False):
        if item.__class__ is int:
            if not 0 <= item < n:
                return None
        else:
            item = _array_of(item)
            if item is None or item.dtype == bool or not _is_within(item, n):
                return None
        try:
            positions = positions * n + item
        except ValueError:  # their shapes disagree
            return None
    if positions.__class__ is not np.ndarray:
        return None
    whole = shape[:dim] + positions.shape + shape[len(items) :]
    if not dim:
        return _take(self, positions, whole)
    at = owning(np.ascontiguousarray(positions).reshape(-1), INT64, False)
    return _select_along(self, at, dim, whole)


def _is_whole(item: Any) -> bool:
    return item.__class__ is slice and item == slice(None)


def _array_of(index: Any) -> np.ndarray | None:
    """An index as an array of int64 or bools, where it is one, or a list of ints."""
    if index.__class__ is list:
        if not index or any(i.__class__ is not int for i in index):
            return None
        array = np.array(index)
    elif index.__class__ is np.ndarray:
        array = index
    elif index.__class__ is Tensor and index._kind.dtype in (INT64, BOOL):
        array = index._array()
    else:
        return None
    return array if array.dtype == np.int64 or array.dtype == bool else None


def _is_within(array: np.ndarray, n: int) -> bool:
    """Whether positions, of which there are some, along a dimension of length `n` are in it."""
    return bool(array.ndim and array.size and array.view(np.uint64).max() < n)


def _has_samples(index: Any) -> bool:
    """Whether a batched tensor is among the indices."""
    return index.__class__ is Batched or (index.__class__ is tuple and any(i.__class__ is Batched for i in index))


def _of_samples(self: Tensor, index: Any) -> Tensor:
    """`self[index]`, one of them batched."""
    if _has_samples(index):
        return batched.rules["getitem"](self, index)
    normal = normalised(index)
    if current_tape().of_arrays:
        dims, normal = upwards(self, normal)
        if dims:
            return _of_samples(self.flip(dims), normal)
    if is_advanced(normal):
        positions, shape = positions_named(self._kind.shape, normal)
        return _record_take(self, from_array(np.ascontiguousarray(positions, np.int64).reshape(-1)), shape)
    op, shape, strides, offset, steps = _shown(self, normal)
    return aliasing.view(op, self, shape, strides, offset, *over_contiguous(self, steps))


def _set_of_samples(self: Tensor, index: Any, value: Any) -> None:
    """`self[index] = value`, one of them batched."""
    if _has_samples(index):
        batched.rules["setitem"](self, index, value)
        return
    normal = normalised(index)
    if current_tape().of_arrays and _is_set_turned(self, normal, value):
        return
    if not isinstance(value, Tensor):
        value = (
            as_operand(value, False)
            if is_array(value)
            else constant(dtypes.in_range(number(value), self.dtype), self.dtype)
        )
    if is_advanced(normal):
        writing.check_in_place(self, "item assignment")
        writing.assign(self, put(self, normal, value))
        return
    shown = _of_samples(self, index)
    if shown is not value:
        shown.copy_(_fitted(value, shown._kind.shape, self, False))


# What ints and slices show of tensors of a kind, by the kind and these: it is worked out once.
_seen: dict[Any, tuple[Any, ...]] = {}
_MOST_SEEN = 4096


def _key(self: Tensor, index: Any) -> Any:
    """What `_seen` knows an index by; None for what is not of plain ints, slices, None and Ellipsis."""
    if index.__class__ is int:
        return self._kind, index
    if index.__class__ is tuple:
        items = tuple([_item_key(item) for item in index])
        return None if None in items else (self._kind, items)
    item = _item_key(index)
    return None if item is None else (self._kind, item)


def _item_key(item: Any) -> Any:
    if item.__class__ is int or item is Ellipsis:
        return item
    if item is None:
        return "None"
    if item.__class__ is slice:
        start, stop, step = item.start, item.stop, item.step
        if (
            (start is None or start.__class__ is int)
            and (stop is None or stop.__class__ is int)
            and (step is None or step.__class__ is int)
        ):
            return start, stop, step
    return None


def _shown(a: Tensor, index: tuple[Any, ...]) -> tuple[Op, tuple[int, ...], tuple[int, ...], int, list[Any]]:
    """What such an index shows of `a`: see `restride`."""
    kind = a._kind
    if kind.ndim == 0 and any(isinstance(i, int) for i in index):
        raise IndexError(
            "invalid index of a 0-dim tensor. Use `tensor.item()` in Python or `tensor.item<T>()` in C++ to convert a "
            "0-dim tensor to a number"
        )
    shape, strides, steps, offset, start = [], [], [], 0, 0
    op: Op = layout.alias
    d = 0
    natural = 1
    elements = [0] * kind.ndim
    for k in range(kind.ndim - 1, -1, -1):
        elements[k] = natural
        natural *= max(kind.shape[k], 1)
    for item in expanded(index, kind.shape):
        if item is None:
            op = layout.unsqueeze
            shape.append(1)
            strides.append(kind.strides[d] * kind.shape[d] if d < kind.ndim else kind.itemsize)
            steps.append((-1, 0))
            continue
        n, stride = kind.shape[d], kind.strides[d]
        if isinstance(item, int):
            i = checked_int(item, n, d)
            op = layout.select
            offset += i * stride
            start += i * elements[d]
        else:
            first, last, step = item.indices(n)
            length = len(range(first, last, step))
            if item != slice(None):
                op = layout.slice_
            if length:
                offset += first * stride
                start += first * elements[d]
            shape.append(length)
            strides.append(stride * step)
            steps.append((d, step))
        d += 1
    return op, tuple(shape), tuple(strides), offset, [*steps, (-1, start)]


def setitem(self: Tensor, index: Any, value: Any) -> None:
    """`self[index] = value`: `value` is broadcast to the shape of `self[index]` and converted to its dtype.

    Raises
    ------
    RuntimeError
        Where `self` is a leaf that requires grad, or the shapes disagree.
    """
    if index.__class__ is list:
        index = of_list(index)
    if (position := _element(self, index)) >= 0 and _set_element(self, position, value):
        return
    key = _key(self, index)
    if self.__class__ is Batched or value.__class__ is Batched or (key is None and _has_samples(index)):
        _set_of_samples(self, index, value)
        return
    if key is not None:
        if _is_shown_by(self, key, value):  # as after `self[index] += 1`
            writing.check_in_place(self, "item assignment", "a view of a leaf")
            writing.count_write(writing.counter_of(self))
            return
        if writing.stands_alone(self) and _written_again(self, key, value):
            return
    normal = normalised(index)
    if current_tape().of_arrays and _is_set_turned(self, normal, value):
        return
    # An index out of range is the first fault.
    if is_advanced(normal):
        expanded(normal, self._kind.shape)
    else:
        _shown(self, normal)
        ndim = value.ndim if isinstance(value, Tensor) else np.ndim(value)
        if ndim == 0 and 0 in self._kind.strides:
            getitem(self, normal).fill_(value)  # one value may be given to elements that repeat
            return
    if aliasing.is_view(self) and writing.repeats(self._kind):
        if is_advanced(normal):
            writing.check_overlap(self, "index_put_")
        elif 0 not in self._kind.strides:  # an element's other places are written to as well
            self, normal, key = getitem(self, normal), (Ellipsis,), None
    writing.check_in_place(self, "item assignment", "a leaf" if is_advanced(normal) else "a view of a leaf")
    is_other = isinstance(value, Tensor) and value.dtype.category > self.dtype.category
    if is_other and is_advanced(normal) and not current_tape().of_arrays:
        _check_kept(self, normal, value)
    given = value
    if not isinstance(value, Tensor):
        if is_array(value):
            value = as_operand(value, False)
        elif isinstance(value, (bool, int, float, complex, np.generic)):
            value = constant(dtypes.in_range(number(value), self.dtype), self.dtype)
        else:
            raise TypeError(f"can't assign a {type(value).__name__} to a tensor of {self.dtype}")
    result = put(self, normal, value)
    if key is not None:
        _note_write(key, given, result)
    writing.assign(self, result)


def _check_kept(a: Tensor, index: tuple[Any, ...], value: Tensor) -> None:
    """Values for an index of tensors keep what they are: but for one, which fills what a mask shows."""
    if value._kind.numel == 1 and any(isinstance(item, np.ndarray) and item.dtype == bool for item in index):
        return
    raise unlike(a, value)


def unlike(a: Tensor, value: Tensor) -> RuntimeError:
    """The error for values of another dtype than what they are put into."""
    return RuntimeError(
        f"Index put requires the source and destination dtypes match, got {a.dtype.scalar_type} for the destination "
        f"and {value.dtype.scalar_type} for the source: at {location()}; convert with .to({a.dtype})"
    )


def _element(self: Tensor, index: Any) -> int:
    """The position, in their order, of the one element that ints name; -1 of all other indices."""
    shape = self._kind.shape
    if index.__class__ is int:
        index = (index,)
    if index.__class__ is not tuple or len(index) != len(shape) or self.__class__ is not Tensor:
        return -1
    position = 0
    for i, n in zip(index, shape):  # noqa: B905 (they are as long)
        if i.__class__ is not int or not -n <= i < n:
            return -1
        position = position * n + (i if i >= 0 else i + n)
    return position


def _set_element(self: Tensor, position: int, value: Any) -> bool:
    """Assign an element of a tensor that stands alone, as was done before; False where that is not all there is to do.

    After `self[index] += 1` it is done already: `self[index]` shows what is assigned.
    """
    if not writing.stands_alone(self):
        return False
    if value.__class__ is float:
        tape, dtype = self._tape, self._kind.dtype
        if not dtype.is_floating_point or dtypes.in_range(value, dtype) != value:
            return False
        value = constants(tape, dtype).of(tape, value)
    elif value.__class__ is not Tensor:
        return False
    elif getattr(value, "_origin", None) is self:
        recipe = value._recipe
        if recipe.window != ((), (), position * self._kind.itemsize) or recipe.detached:
            return False
        writing.count_write(self)
        return True
    result = writing.written_again(self, value, position)
    if result is None:
        return False
    writing.assign_alone(self, result)
    return True


def _is_set_turned(self: Tensor, index: tuple[Any, ...], value: Any) -> bool:
    """Assign where slices go down; False where none does."""
    dims, index = upwards(self, index)
    if dims:
        turned = self.flip(dims)
        setitem(turned, index, value)
        self.copy_(turned.flip(dims))
    return bool(dims)


# Rows that assigned one element, or what has the shape of the elements assigned to: by the kind of the tensor and the
# index, and the kind of the value or the type of the number, whether the result requires grad: its kind and parameters.
_ways: dict[Any, tuple[Kind, int]] = {}


def _note_write(key: Any, value: Any, result: Tensor) -> None:
    """Know how an item was assigned, by a row that is the last of the tape."""
    rows = result._tape.row_array()
    _, _, out, of_value, params, *_ = rows[-1].tolist() if len(rows) else (0,) * 7
    kind = key[0]
    if out != result._slot or rows["opcode"][-1] != indexing.write.opcode or kind.is_leaf:
        return
    of: Any = value.__class__
    if of is Tensor and of_value == value._slot:
        of = value._kind
    elif of is not float or numbers_at(params)[1]:
        return
    if len(_ways) >= _MOST_SEEN:
        _ways.clear()
    _ways[key, of, result._kind.requires_grad] = result._kind, params


def _written_again(self: Tensor, key: Any, value: Any) -> bool:
    """Assign an item as one was assigned before, to a tensor that shares elements with nobody; False if that fails."""
    tape: Any = self._tape
    of: Any = value.__class__
    if of is Tensor:
        if value._tape is not tape or value._kind.exported:
            return False
        of, tracked = value._kind, self._kind.requires_grad | value._kind.requires_grad
    elif of is float:
        tracked = self._kind.requires_grad
    else:
        return False
    way = _ways.get((key, of, flowing(tape.grad_enabled, tracked)))
    if way is None:
        return False
    if of is float:
        value = constant(dtypes.in_range(value, self._kind.dtype), self._kind.dtype)
    kind, params = way
    writing.assign_alone(self, appended(tape, indexing.write, kind, self, value, params, PARAMS))
    return True


def _is_shown_by(self: Tensor, key: Any, value: Any) -> bool:
    """Whether what is assigned is a view of the elements that are assigned to, and so has their values."""
    recipe = getattr(value, "_recipe", None)
    if recipe is None or recipe.detached or value._origin is not self or key not in _seen:
        return False
    *_, shape, _, _, strides, start = _seen[key]
    return bool(recipe.window == (shape, strides, start))


def put(a: Tensor, index: tuple[Any, ...], value: Tensor) -> Tensor:
    """A copy of `a` with `value` at an index."""
    if not is_advanced(index):
        _, shape, _, _, steps = _shown(a, index)
        value = cast(_fitted(value, shape, a, False), a.dtype)
        natural = contiguous_strides(a._kind.shape, a._kind.itemsize)
        strides = tuple(0 if d < 0 else natural[d] * step for d, step in steps[:-1])
        return writing.written(a, value, shape, strides, steps[-1][1] * a._kind.itemsize)
    return put_at(a, *placed(a, index, value))


def placed(a: Tensor, index: tuple[Any, ...], value: Tensor) -> tuple[Tensor, Tensor]:
    """The values for an index, and their flat positions."""
    positions, shape = _places(a, index)
    value = cast(_fitted(value, shape, a, True), a.dtype)
    return contiguous(value).reshape(-1), from_array(np.ascontiguousarray(positions, np.int64).reshape(-1))


def put_at(a: Tensor, value: Tensor, at: Tensor) -> Tensor:
    """A copy of `a` with `value[i]` at position `at[i]`; of equal positions the last has it, and the gradient.

    Positions are those of elements, or of runs of as many values as fall to each.
    """
    return _record_put(a, value, at, a._kind.shape)


def _fitted(value: Tensor, shape: tuple[int, ...], a: Tensor, advanced: bool) -> Tensor:
    """A value broadcast to the shape of what it is assigned to; lengths of 1 too many in front are dropped."""
    own = value._kind.shape
    while len(own) > len(shape) and own[0] == 1:
        own = own[1:]
    if own == value._kind.shape == shape:
        return value
    fits = len(own) <= len(shape) and all(n in (1, m) for n, m in zip(reversed(own), reversed(shape), strict=False))
    if not fits and advanced:
        raise RuntimeError(
            f"shape mismatch: value tensor of shape {list(value._kind.shape)} cannot be broadcast to indexing result "
            f"of shape {list(shape)}: "
            f"{describe(a)}, at {location()}"
        )
    return (value.reshape(own) if fits else value).expand(*shape)


@public
@node("IndexSelectBackward0")
def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The slices along a dimension that a vector of indices names.

    Raises
    ------
    IndexError, RuntimeError
        Where an index is out of range or negative, or `index` is no vector of integers.

    >>> import tapegrad as tg
    >>> tg.tensor([[1.0, 2.0], [3.0, 4.0]]).index_select(1, tg.tensor([1, 1]))
    tensor([[2., 2.],
            [4., 4.]])
    """
    at = dimension(dim, input.ndim)
    if index.ndim > 1:
        raise IndexError(
            f"index_select(): Index is supposed to be a vector, but got dim: {index.ndim}: {describe(input, index)}, "
            f"at {location()}"
        )
    if index.dtype not in (INT64, INT32):
        raise RuntimeError(f"index_select(): Expected dtype int32 or int64 for index, but got {index.dtype}")
    n = index._kind.numel
    if not input.ndim:
        if n != 1:
            raise RuntimeError(
                f"index_select(): Index to scalar can have only 1 value, got {n} value(s): "
                f"{describe(input, index)}, at {location()}"
            )
        return index_select(input.reshape(1), 0, index.reshape(1)).reshape(())
    if n and not input._kind.shape[at]:
        raise RuntimeError(
            f"index_select(): self indexing axis dim should be positive: {describe(input, index)}, at {location()}"
        )
    check_range("index_select", elements(index), input._kind.shape[at], at, IndexError)
    shape = (*input._kind.shape[:at], n, *input._kind.shape[at + 1 :])
    return _select_along(input, index, at, shape)


@of_two_in_one_step
def _select_along(input: Tensor, index: Tensor, dim: int, shape: tuple[int, ...]) -> Tensor:
    if (p := along(input, index, dim, True)) is not None:
        return _record_take_along(input, steady_positions(index), p, shape)
    return _record_take(input, runs(index, input._kind.shape, dim), shape)


@public
def select(input: Tensor, dim: int, index: int) -> Tensor:
    """One slice along a dimension; a view.

    >>> import tapegrad as tg
    >>> tg.select(tg.tensor([[1.0, 2.0], [3.0, 4.0]]), 0, 1)
    tensor([3., 4.])
    """
    if not input.ndim:
        raise IndexError("select() cannot be applied to a 0-dim tensor.")
    at = dimension(dim, input.ndim)
    n = input._kind.shape[at]
    if not -n <= index < n:
        raise IndexError(
            f"select(): index {index} out of range for tensor of size {list(input._kind.shape)} at dimension {at}"
        )
    return getitem(input, (slice(None),) * at + (index,))


@public
@node("GatherBackward0")
def gather(input: Tensor, dim: int, index: Tensor, *, sparse_grad: bool = False) -> Tensor:
    """Elements whose index along a dimension is given for each place of `index`.

    Gradients are dense, whatever `sparse_grad` says.

    Raises
    ------
    RuntimeError
        Where `index` has another number of dimensions, is longer in one that isn't `dim`, or out of range.

    >>> import tapegrad as tg
    >>> tg.gather(tg.arange(6).reshape(2, 3), 1, tg.tensor([[2], [0]]))
    tensor([[2],
            [3]])
    """
    at = dimension(dim, input.ndim)
    if not index._kind.numel:
        return input.reshape(-1)[:0].reshape(index._kind.shape).clone()
    shape, own = input._kind.shape or (1,), index._kind.shape or (1,)
    if index.dtype not in (INT64, INT32):
        wrong = "gather(): Expected dtype int32/int64 for index"
    elif len(own) != len(shape):
        wrong = "Index tensor must have the same number of dimensions as input tensor"
    elif (beyond := next((d for d, n in enumerate(own) if d != at and n > shape[d]), None)) is not None:
        wrong = (
            f"Size does not match at dimension {beyond} expected index {list(own)} to be no larger than self "
            f"{list(shape)} apart from dimension {at}"
        )
    else:
        wrong = ""
    if wrong:
        raise RuntimeError(f"{wrong}: {describe(input, index)}, at {location()}")
    check_range("gather", elements(index), shape[at], at, RuntimeError)
    return _gather_along(input, index, at, own)


@of_two_in_one_step
def _gather_along(input: Tensor, index: Tensor, dim: int, shape: tuple[int, ...]) -> Tensor:
    if (p := along(input, index, dim, False)) is not None:
        return _record_take_along(input, steady_positions(index), p, shape)
    at_index = positions(index.reshape(shape), input._kind.shape or (1,), dim)
    return _record_take(input.reshape(-1), at_index, index._kind.shape)


def steady_positions(index: Tensor) -> Tensor:
    """An index as int64, in order, in memory that NumPy does not write to."""
    return contiguous(cast(index.clone() if index._kind.exported else index, INT64))


def positions(index: Tensor, shape: tuple[int, ...], dim: int) -> Tensor:
    """Flat positions, in a contiguous tensor of a shape, of what an index along one dimension names for each place."""
    index = steady_positions(index)
    if len(shape) == 1:
        return index if index._kind.ndim == 1 else index.reshape(-1)
    strides = contiguous_strides(shape, 1)
    apart = index if strides[dim] == 1 else index * strides[dim]
    own = index._kind.shape
    before, behind = (
        sum(
            (np.arange(own[d]).reshape((-1,) + (1,) * (len(own) - 1 - d)) * strides[d] for d in dims),
            np.zeros((1,) * len(own), np.int64),
        )
        for dims in (range(dim), range(dim + 1, len(own)))
    )
    for offsets in (before, behind):
        if offsets.size > 1 or offsets.any():
            apart = apart + from_array(np.ascontiguousarray(offsets))
    return contiguous(apart).reshape(-1)


def runs(index: Tensor, shape: tuple[int, ...], dim: int) -> Tensor:
    """The numbers of the runs, over the dimensions behind `dim`, that a vector of indices names for each in front."""
    own = (*shape[:dim], index._kind.numel)
    return positions(index.reshape(-1).expand(*own) if dim else index, shape[: dim + 1], dim)


def along(t: Tensor, index: Tensor, dim: int, together: bool) -> tuple[int, ...] | None:
    """The parameters of `take_along` and `add_along`, of elements that go together or by themselves.

    None where flat positions do as well, or where that is what there is.
    """
    shape, own = t._kind.shape, index._kind.shape
    outer, inner = math.prod(shape[:dim]), math.prod(shape[dim + 1 :])
    if (
        index.__class__ is Batched
        or outer < 2
        or not t._kind.numel
        or not index._kind.numel
        or not indexing.fits_along(t._kind.itemsize, shape[dim])
    ):
        return None
    if together:
        return outer, shape[dim], index._kind.numel, inner, 1, 1
    if own[:dim] + own[dim + 1 :] != shape[:dim] + shape[dim + 1 :]:
        return None
    return outer, shape[dim], own[dim], inner, outer, 0


def check_range(name: str, where: np.ndarray, n: int, dim: int, error: type[Exception]) -> None:
    """An index along a dimension of length `n` is within it, and counts from its beginning."""
    unsigned = where.view(f"u{where.itemsize}")  # negative numbers are large ones
    if where.size and unsigned.max() >= n:
        wrong = (where < 0) | (where >= n)
        said = "index out of range in self: " if error is IndexError else ""
        raise error(
            f"{said}index {where[wrong].flat[0]} is out of bounds for dimension {dim} with size {n}: {name}(), at "
            f"{location()}"
        )


@public
@node("MaskedSelectBackward0")
def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements where a bool tensor is True, in one dimension.

    >>> import tapegrad as tg
    >>> tg.masked_select(tg.tensor([1.0, 2.0, 3.0]), tg.tensor([True, False, True]))
    tensor([1., 3.])
    """
    if mask.dtype is not BOOL:
        raise RuntimeError(f"masked_select: expected BoolTensor for mask, but got {mask.dtype}")
    shape = broadcast_shapes("masked_select", [input, mask])
    return getitem(input.expand(*shape), mask.expand(*shape))


@overload
def nonzero(input: Tensor, *, as_tuple: Literal[False] = False) -> Tensor: ...
@overload
def nonzero(input: Tensor, *, as_tuple: Literal[True]) -> tuple[Tensor, ...]: ...
@public
def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """The indices of the non-zero elements: a row each, or a vector for each dimension.

    >>> import tapegrad as tg
    >>> tg.nonzero(tg.tensor([0.0, 2.0, 3.0]))
    tensor([[1],
            [2]])
    """
    found = np.nonzero(input._array().reshape(input._kind.shape or (1,)))
    if as_tuple:
        return tuple(from_array(np.ascontiguousarray(f)) for f in found)
    where = np.stack(found, 1)
    return from_array(np.ascontiguousarray(where if input.ndim else where[:, :0]))


Tensor.__getitem__ = getitem
Tensor.__setitem__ = setitem


def _iterate(self: Tensor) -> Iterator[Tensor]:
    if self.ndim == 0:
        raise TypeError("iteration over a 0-d tensor")
    return iter([getitem(self, i) for i in range(self._kind.shape[0])])


def _length(self: Tensor) -> int:
    if self.ndim == 0:
        raise TypeError("len() of a 0-d tensor")
    return self._kind.shape[0]


def _contains(self: Tensor, item: Any) -> bool:
    if not isinstance(item, (Tensor, bool, int, float, np.number, np.bool_)):
        raise RuntimeError(f"Tensor.__contains__ only supports Tensor or scalar, but you passed in a {type(item)}.")
    return bool((self == item).any())


def _reversed(self: Tensor) -> Tensor:
    """With the slices of the first dimension the other way round."""
    return self.flip(0) if self.ndim else self


Tensor.__reversed__ = _reversed
Tensor.__iter__ = _iterate
Tensor.__len__ = _length
Tensor.__contains__ = _contains


def _record_take(g: Tensor, at: Tensor, shape: tuple[int, ...]) -> Tensor:
    return record_array(indexing.take, tuple(shape), g.dtype, contiguous(g), contiguous(at))


def _record_take_along(x: Tensor, at: Tensor, p: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    return record_array(indexing.take_along, tuple(shape), x.dtype, contiguous(x), contiguous(at), params=p)


def _record_add_along(v: Tensor, at: Tensor, p: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    return record_array(indexing.add_along, tuple(shape), v.dtype, contiguous(v), contiguous(at), params=p)


def _record_scatter_add(g: Tensor, at: Tensor, shape: tuple[int, ...]) -> Tensor:
    return record_array(indexing.scatter_add, tuple(shape), g.dtype, contiguous(g), contiguous(at))


def _record_plus(a: Tensor, v: Tensor, at: Tensor) -> Tensor:
    return record_array(indexing.plus_at, a._kind.shape, a.dtype, contiguous(a), contiguous(v), at)


def _record_put(a: Tensor, v: Tensor, at: Tensor, shape: tuple[int, ...]) -> Tensor:
    return record_array(indexing.put, tuple(shape), a.dtype, contiguous(a), contiguous(v), at)


def _record_take_put(a: Tensor, at: Tensor, shape: tuple[int, ...]) -> Tensor:
    return record_array(indexing._take_put, tuple(shape), a.dtype, contiguous(a), at)


indexing.take.record = _record_take
indexing.take_along.record = _record_take_along
indexing.add_along.record = _record_add_along
indexing.scatter_add.record = _record_scatter_add
indexing.put.record = _record_put
indexing._take_put.record = _record_take_put
indexing.plus_at.record = _record_plus
