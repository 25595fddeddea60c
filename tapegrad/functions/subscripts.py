"""What stands in brackets: indices of tensors as NumPy's, and the positions that they name.

Its errors are PyTorch's; for functions of arrays, an index means what it means to NumPy.
"""

from __future__ import annotations

import operator
import warnings
from typing import Any, NoReturn

import numpy as np

from tapegrad.conversion import is_array
from tapegrad.tape import current_tape
from tapegrad.tensor import Tensor, depth_of_user, is_users, location


def of_list(index: list[Any]) -> Any:
    """As PyTorch reads a list: as a tuple where it has sequences, tensors or slices, but for long ones.

    Elsewhere, and by functions of arrays, it is read as an array, as by NumPy.
    """
    are_several = len(index) < _LONG and any(
        item is None or item is Ellipsis or isinstance(item, (Tensor, slice, list, tuple, range, str)) or is_array(item)
        for item in index
    )
    return tuple(index) if are_several and not current_tape().of_arrays else index


_LONG = 32


def normalised(index: Any) -> tuple[Any, ...]:
    """An index as a tuple of ints, slices, None, Ellipsis and NumPy arrays."""
    items = index if isinstance(index, tuple) else (index,)
    return tuple(_normal_item(item) for item in items)


def _normal_item(item: Any) -> Any:
    if item is None or item is Ellipsis:
        return item
    if isinstance(item, slice):
        bounds = [_normal_bound(v) for v in (item.start, item.stop, item.step)]
        if bounds[2] == 0:
            raise ValueError("slice step cannot be zero")
        if bounds[2] is not None and bounds[2] < 0 and not current_tape().of_arrays:
            raise ValueError("step must be greater than zero")
        return slice(*bounds)
    if isinstance(item, (bool, np.bool_)):
        return np.array(bool(item))
    if isinstance(item, (int, np.integer)):
        return int(item)
    if isinstance(item, Tensor):
        array: Any = item._array().copy()
    elif isinstance(item, (list, tuple, range)) or is_array(item):
        array = np.array(  # a copy: it may be written to before the row is swept
            [v.item() if isinstance(v, Tensor) else v for v in item]
            if isinstance(item, (list, tuple)) and any(issubclass(own, Tensor) for own in {*map(type, item)})
            else item
        )
        if array.size == 0 and not isinstance(item, np.ndarray):
            array = array.astype(np.int64)
        if array.dtype.kind in "US" and not is_array(item):
            raise TypeError(f"new(): invalid data type '{type(item[0]).__name__}', in an index, at {location()}")
    elif isinstance(item, (str, bytes)) and not current_tape().of_arrays:
        raise TypeError(f"new(): invalid data type '{type(item).__name__}', as an index, at {location()}")
    else:
        raise IndexError(
            f"only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are valid indices (got "
            f"{type(item).__name__})"
        )
    if array.dtype == np.uint8 and (isinstance(item, Tensor) or not current_tape().of_arrays):
        warnings.warn(
            "indexing with dtype tapegrad.uint8 is now deprecated, please use a dtype tapegrad.bool instead: it is a "
            "mask, not positions",
            UserWarning,
            stacklevel=depth_of_user(),
        )
        array = array.astype(bool)
    is_short = isinstance(item, Tensor) and array.ndim and array.dtype.name in {"int8", "int16"}
    if array.dtype == bool or (np.issubdtype(array.dtype, np.integer) and not is_short):
        return int(array) if array.ndim == 0 and array.dtype != bool else array
    raise IndexError(
        f"tensors used as indices must be long, int, byte or bool tensors, but one is {array.dtype}, at {location()}"
    )


def _normal_bound(bound: Any) -> int | None:
    try:
        return None if bound is None else operator.index(bound)
    except TypeError:
        raise TypeError("slice indices must be integers or None or have an __index__ method") from None


def upwards(self: Tensor, index: tuple[Any, ...]) -> tuple[list[int], tuple[Any, ...]]:
    """The dimensions along which a slice goes down, as those of arrays may, and the index of what is flipped there."""
    if not any(isinstance(item, slice) and (item.step or 1) < 0 for item in index):
        return [], index
    dims, items, d = list[int](), list[Any](), 0
    for item in expanded(index, self._kind.shape):
        if isinstance(item, slice) and (item.step or 1) < 0:
            n = self._kind.shape[d]
            start, stop, step = item.indices(n)
            length = len(range(start, stop, step))
            items.append(slice(n - 1 - start, n - 1 - start - length * step, -step) if length else slice(0, 0))
            dims.append(d)
        else:
            items.append(item)
        d += 0 if item is None else item.ndim if isinstance(item, np.ndarray) and item.dtype == bool else 1
    return dims, tuple(items)


def is_advanced(index: tuple[Any, ...]) -> bool:
    """Whether arrays are among the indices."""
    return any(isinstance(i, np.ndarray) for i in index)


def expanded(index: tuple[Any, ...], shape: tuple[int, ...]) -> list[Any]:
    """The index with its Ellipsis written out, and slices for what it leaves out."""
    used = sum(
        0 if i is None else i.ndim if isinstance(i, np.ndarray) and i.dtype == bool else 1
        for i in index
        if i is not Ellipsis
    )
    if used > len(shape):
        raise IndexError(f"too many indices for tensor of dimension {len(shape)}: {list(shape)}, at {location()}")
    at = next((n for n, i in enumerate(index) if i is Ellipsis), None)
    rest = [slice(None)] * (len(shape) - used)
    if at is None:
        return [*index, *rest]
    behind = list(index[at + 1 :])
    if Ellipsis in [i for i in behind if not isinstance(i, np.ndarray)]:
        behind = _without_ellipsis(behind, bool(rest))
    return [*index[:at], *rest, *behind]


def _without_ellipsis(index: list[Any], is_used: bool) -> list[Any]:
    """What is behind a first Ellipsis without others: they stand for nothing, if nothing comes behind or is left."""
    first = next(n for n, i in enumerate(index) if i is Ellipsis)
    if is_used and (current_tape().of_arrays or any(i is not None and i is not Ellipsis for i in index[first:])):
        raise IndexError("an index can only have a single ellipsis ('...') before what it names")
    return [i for i in index if i is not Ellipsis]


def checked(array: np.ndarray, n: int, dim: int) -> np.ndarray:
    """Positions along a dimension of length `n`, those that count from its end wrapped."""
    if array.dtype.kind == "i" and array.size and array.view(f"u{array.itemsize}").max() < n:
        return array  # unsigned, negative numbers are large ones
    wrapped = np.where(array < 0, array + n, array)
    wrong = (wrapped < 0) | (wrapped >= n)
    if wrong.any():
        if not n:
            raise IndexError(f"index is out of bounds for dimension with size 0: dimension {dim}, at {location()}")
        _out_of_bounds(array[wrong].flat[0], n, dim)
    return wrapped


def positions_named(shape: tuple[int, ...], index: tuple[Any, ...]) -> tuple[np.ndarray, tuple[int, ...]]:
    """Flat positions that an index names. NumPy does the indexing, on coordinates that take no memory.

    Ints, slices and None come first, arrays after them: to NumPy an int beside an array is an array too, to PyTorch it
    is not. In functions of arrays it is.
    """
    items = expanded(index, shape)
    _check_arrays(items, shape)
    if current_tape().of_arrays and _is_apart(items):
        return _coordinates(shape, [tuple(items)])
    if len(index) == 1 and isinstance(index[0], np.ndarray) and index[0].shape == shape and index[0].dtype == bool:
        chosen = np.flatnonzero(index[0])
        return chosen, chosen.shape
    first: list[Any] = []
    second: list[Any] = []
    for item in items:
        if isinstance(item, np.ndarray):
            first += [slice(None)] * (item.ndim if item.dtype == bool else 1)
            second.append(item)
        else:
            first.append(item)
            second += [] if isinstance(item, int) else [slice(None)]
    return _coordinates(shape, [tuple(first), tuple(second)])


def _coordinates(shape: tuple[int, ...], indices: list[tuple[Any, ...]]) -> tuple[np.ndarray, tuple[int, ...]]:
    """Flat positions of what NumPy's indices name, one after the other."""

    def named(array: Any) -> Any:
        for index in indices:
            array = array[index]
        return array

    positions: Any = named(np.broadcast_to(np.int64(0), shape))
    stride = 1
    for d in range(len(shape) - 1, -1, -1):
        ladder = np.arange(shape[d]).reshape((-1,) + (1,) * (len(shape) - 1 - d))
        positions = positions + named(np.broadcast_to(ladder, shape)) * stride
        stride *= shape[d]
    positions = np.asarray(positions)
    return positions, positions.shape


def _is_apart(items: list[Any]) -> bool:
    """Whether ints part arrays, or are apart from them: NumPy puts the dimensions of arrays first then. It is told."""
    of_arrays = [k for k, item in enumerate(items) if isinstance(item, np.ndarray)]
    of_all = [k for k, item in enumerate(items) if isinstance(item, (np.ndarray, int))]
    is_together = len(of_arrays) == len(of_all) or of_all[-1] - of_all[0] + 1 == len(of_all)
    if is_together or not is_users():
        return False
    warnings.warn(
        "an index with ints apart from arrays, in a function of arrays that is differentiated: the arrays' dimensions "
        "come first, as NumPy's; those of tensors come in the place of the arrays",
        UserWarning,
        stacklevel=depth_of_user(),
    )
    return True


def _check_arrays(items: list[Any], shape: tuple[int, ...]) -> None:
    d = 0
    wide: list[tuple[int, ...]] = []
    for item in items:
        if item is None:
            continue
        if isinstance(item, np.ndarray) and item.dtype == bool:
            for k, n in enumerate(item.shape):
                if n != shape[d + k]:
                    raise IndexError(
                        f"The shape of the mask {list(item.shape)} at index {k} does not match the shape of the "
                        f"indexed tensor {list(shape)} at index {d + k}: at {location()}"
                    )
            d += item.ndim
            continue
        if isinstance(item, np.ndarray):
            checked(item, shape[d], d)
            wide.append(item.shape)
        elif isinstance(item, int):
            checked_int(item, shape[d], d)
        d += 1
    try:
        np.broadcast_shapes(*wide)
    except ValueError:
        raise IndexError(
            f"shape mismatch: indexing tensors could not be broadcast together with shapes "
            f"{', '.join(str(list(s)) for s in wide)}, at {location()}"
        ) from None


def checked_int(i: int, n: int, dim: int) -> int:
    """A position along a dimension of length `n`, wrapped where it counts from its end."""
    if not -n <= i < n:
        _out_of_bounds(i, n, dim)
    return i % n


def _out_of_bounds(i: int, n: int, dim: int) -> NoReturn:
    raise IndexError(f"index {i} is out of bounds for dimension {dim} with size {n}, at {location()}")
