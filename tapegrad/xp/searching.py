"""Places, orders, sets."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tapegrad.conversion import as_operand
from tapegrad.dtypes import BOOL, INT64
from tapegrad.functions import elementwise, sorting
from tapegrad.recording import cast
from tapegrad.tensor import Tensor, describe, location
from tapegrad.xp.operands import array, named, over, promoted


def _place(name: str) -> Any:
    def place(x: Any, /, *, axis: Any = None, keepdims: Any = False) -> Tensor:
        x = array(x)
        if axis is None:
            found = named[name](x.reshape(-1), 0)
            return found.reshape((1,) * x.ndim) if keepdims else found
        return named[name](x, axis, bool(keepdims))

    place.__name__ = place.__qualname__ = name
    place.__doc__ = (
        f"Where the {'largest' if name == 'argmax' else 'least'} element is, the first: along an axis, or of all."
    )
    return place


argmax, argmin = _place("argmax"), _place("argmin")


def count_nonzero(x: Any, /, *, axis: Any = None, keepdims: Any = False) -> Tensor:
    """How many elements are not zero."""
    return over(named["sum"], array(x) != 0, axis, keepdims)


def nonzero(x: Any, /) -> tuple[Tensor, ...]:
    """Where elements are not zero: the places along each axis.

    Raises
    ------
    ValueError
        Where there are no dimensions.
    """
    x = array(x)
    if not x.ndim:
        raise ValueError(f"nonzero: {describe(x)} has no dimensions, at {location()}")
    return x.nonzero(as_tuple=True)


def searchsorted(x1: Any, x2: Any, /, *, side: str = "left", sorter: Any = None) -> Tensor:
    """Where values `x2` would stand in an ascending vector `x1`, or in that which `sorter` puts in order.

    nan comes last, as in `sort`, and is its own equal.
    """
    sorter = None if sorter is None else cast(array(sorter), INT64)
    x1, x2 = promoted(x1, x2)
    found = sorting.searchsorted(x1, x2, side=side, sorter=sorter)
    if side == "right" or not x1.dtype.is_floating_point:
        return found
    return elementwise.where(named["isnan"](x2), (x1 == x1).sum(), found)  # PyTorch puts them behind equal ones


def where(condition: Any, x1: Any, x2: Any, /) -> Tensor:
    """Elements of the first array where the condition holds, else of the second; one of them may be a number."""
    x1, x2 = promoted(x1, x2) if _has_array(x1, x2) else (x1, x2)
    return elementwise.where(cast(array(condition), BOOL), x1, x2)


def _has_array(*operands: Any) -> bool:
    return not all(isinstance(x, (bool, int, float)) for x in operands)


def sort(x: Any, /, *, axis: int = -1, descending: Any = False, stable: Any = True) -> Tensor:
    """The elements in their order along an axis."""
    return sorting.sort(array(x), axis, bool(descending), stable=bool(stable)).values


def argsort(x: Any, /, *, axis: int = -1, descending: Any = False, stable: Any = True) -> Tensor:
    """The places that put the elements in order along an axis; equal ones stay as they stand."""
    return sorting.argsort(array(x), axis, bool(descending), stable=bool(stable))


class UniqueAllResult(NamedTuple):
    """Distinct elements, the first place of each, which of them each element is, and how often each occurs."""

    values: Tensor
    indices: Tensor
    inverse_indices: Tensor
    counts: Tensor


class UniqueCountsResult(NamedTuple):
    """Distinct elements, and how often each occurs."""

    values: Tensor
    counts: Tensor


class UniqueInverseResult(NamedTuple):
    """Distinct elements, and which of them each element is."""

    values: Tensor
    inverse_indices: Tensor


def unique_all(x: Any, /) -> UniqueAllResult:
    """Distinct elements, ascending; nan is never another's equal.

    >>> from tapegrad import xp
    >>> xp.unique_all(xp.asarray([3, 1, 3])).counts
    tensor([1, 2])
    """
    x = array(x)
    _, first, inverse, counts = np.unique(
        x._array(), return_index=True, return_inverse=True, return_counts=True, equal_nan=False
    )
    places, which, numbers = (as_operand(np.asarray(v, np.int64), False) for v in (first, inverse, counts))
    return UniqueAllResult(named["take"](x, places), places, which.reshape(tuple(x.shape)), numbers)


def unique_counts(x: Any, /) -> UniqueCountsResult:
    """Distinct elements, ascending, and how often each occurs."""
    known = unique_all(x)
    return UniqueCountsResult(known.values, known.counts)


def unique_inverse(x: Any, /) -> UniqueInverseResult:
    """Distinct elements, ascending, and which of them each element is, in the shape of the array."""
    known = unique_all(x)
    return UniqueInverseResult(known.values, known.inverse_indices)


def unique_values(x: Any, /) -> Tensor:
    """Distinct elements, ascending."""
    return unique_all(x).values
