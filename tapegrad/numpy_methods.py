"""Methods of NumPy's elementwise functions on tensors: `np.maximum.accumulate(t)`, `np.hypot.reduce(t)`.

By their definition, from the first to the last, a row each, whatever the function; those that have an operation of
their own are it. (`np.add.reduce` is `np.sum`: see `numpy_protocol.py`.)
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from tapegrad import dtypes
from tapegrad.functions import reductions, shaping, sorting
from tapegrad.recording import cast
from tapegrad.tensor import Tensor, describe, location

Join = Callable[[Any, Any], Any]
_IN_ANY_ORDER = (np.maximum, np.minimum, np.fmax, np.fmin, np.logaddexp, np.logaddexp2, np.hypot)
_REDUCED: dict[Any, Callable[..., Any]] = {
    np.logaddexp: reductions.functions["logsumexp"],
    np.hypot: lambda a, dims: reductions.norm(a, 2, dims),
}
_ACCUMULATED: dict[Any, Callable[..., Any]] = {
    np.maximum: lambda a, axis: sorting.cummax(a, axis)[0],
    np.minimum: lambda a, axis: sorting.cummin(a, axis)[0],
    np.logaddexp: sorting.logcumsumexp,
}


def _taken(array: Tensor, dtype: Any) -> Tensor:
    return array if dtype is None else cast(array, dtypes.as_dtype(dtype))


def reduce(
    ufunc: Any, join: Join, array: Tensor, axis: Any = 0, dtype: Any = None, keepdims: Any = False, initial: Any = None
) -> Tensor:
    """What is left when all along some axes are joined, one after another."""
    a = _taken(array, dtype)
    axes = tuple(range(a.ndim)) if axis is None else normalize_axis_tuple(axis, a.ndim)
    if len(axes) > 1 and ufunc.identity is None and ufunc not in _IN_ANY_ORDER:
        raise ValueError(
            f"reduction operation '{ufunc.__name__}' is not reorderable, so at most one axis may be specified"
        )
    rest = tuple(n for d, n in enumerate(a.shape) if d not in axes)
    shape = tuple(1 if d in axes else n for d, n in enumerate(a.shape)) if keepdims else rest
    if ufunc in _REDUCED and initial is None and axes and a.dtype.is_floating_point and a.numel():
        return _REDUCED[ufunc](a, axes).reshape(shape)
    n = math.prod(a.shape[d] for d in axes)
    first = ufunc.identity if initial is None else initial
    if n == 0 and first is None:
        raise ValueError(
            f"zero-size array to reduction operation {ufunc.__name__} which has no identity: {describe(a)}, at "
            f"{location()}"
        )
    parts = shaping.movedim(a, axes, tuple(range(len(axes)))).reshape((n, *rest)).unbind(0)
    if first is not None:
        parts = (a.new_full(rest, first), *parts)
    return functools.reduce(join, parts).reshape(shape)


def accumulate(ufunc: Any, join: Join, array: Tensor, axis: Any = 0, dtype: Any = None) -> Tensor:
    """What each and all before it along an axis come to."""
    a = _taken(array, dtype)
    axis = normalize_axis_index(axis, a.ndim)
    if ufunc in _ACCUMULATED and a.dtype.is_floating_point:
        return _ACCUMULATED[ufunc](a, axis)
    if not a.shape[axis]:
        return a.clone()
    return shaping.stack(list(itertools.accumulate(a.unbind(axis), join)), axis)


def reduceat(ufunc: Any, join: Join, array: Tensor, indices: Any, axis: Any = 0, dtype: Any = None) -> Tensor:
    """The reductions of what lies from each index to the next; of one that does not ascend the element there."""
    a = _taken(array, dtype)
    axis, places = normalize_axis_index(axis, a.ndim), [*map(int, np.asarray(indices).tolist())]
    n = a.shape[axis]
    if any(not 0 <= i < n for i in places):
        raise IndexError(
            f"index {next(i for i in places if not 0 <= i < n)} out-of-bounds in {ufunc.__name__}.reduceat [0, {n})"
        )
    if not places:
        return a.narrow(axis, 0, 0).clone()
    found = []
    for first, last in zip(places, [*places[1:], n], strict=True):
        part = a.narrow(axis, first, max(last - first, 1))
        if ufunc is np.add and part.dtype.is_floating_point:
            found.append(part.sum(axis))
        else:
            found.append(functools.reduce(join, part.unbind(axis)))
    return shaping.stack(found, axis)


METHODS: dict[str, Callable[..., Tensor]] = {"reduce": reduce, "accumulate": accumulate, "reduceat": reduceat}
