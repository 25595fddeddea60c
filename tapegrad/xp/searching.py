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


def _place(name: str, said: str, shown: str) -> Any:
    def place(x: Any, /, *, axis: Any = None, keepdims: Any = False) -> Tensor:
        x = array(x)
        if axis is None:
            found = named[name](x.reshape(-1), 0)
            return found.reshape((1,) * x.ndim) if keepdims else found
        return named[name](x, axis, bool(keepdims))

    place.__name__ = place.__qualname__ = name
    place.__doc__ = __test__[name] = (
        f"Where the {said} element is, the first: along an axis, or of all.\n\n"
        f">>> from tapegrad import xp\n>>> xp.{name}(xp.asarray([[3, 1], [2, 4]]), axis=1)\n{shown}"
    )
    return place


__test__: dict[str, str] = {}  # what is made here has its examples checked too
argmax, argmin = _place("argmax", "largest", "tensor([0, 1])"), _place("argmin", "least", "tensor([1, 0])")


def count_nonzero(x: Any, /, *, axis: Any = None, keepdims: Any = False) -> Tensor:
    """How many elements are not zero.

    >>> from tapegrad import xp
    >>> xp.count_nonzero(xp.asarray([[0, 1], [2, 3]]), axis=1)
    tensor([1, 2])
    """
    return over(named["sum"], array(x) != 0, axis, keepdims)


def nonzero(x: Any, /) -> tuple[Tensor, ...]:
    """Where elements are not zero: the places along each axis.

    Raises
    ------
    ValueError
        Where there are no dimensions.

    >>> from tapegrad import xp
    >>> xp.nonzero(xp.asarray([[0, 1], [2, 0]]))
    (tensor([0, 1]), tensor([1, 0]))
    """
    x = array(x)
    if not x.ndim:
        raise ValueError(f"nonzero: {describe(x)} has no dimensions, at {location()}")
    return x.nonzero(as_tuple=True)


def searchsorted(x1: Any, x2: Any, /, *, side: str = "left", sorter: Any = None) -> Tensor:
    """Where values `x2` would stand in an ascending vector `x1`, or in that which `sorter` puts in order.

    nan comes last, as in `sort`, and is its own equal.

    >>> from tapegrad import xp
    >>> sorted = xp.asarray([1, 3, 5])
    >>> xp.searchsorted(sorted, xp.asarray([3, 4])), xp.searchsorted(sorted, xp.asarray([3, 4]), side="right")
    (tensor([1, 2]), tensor([2, 2]))
    """
    sorter = None if sorter is None else cast(array(sorter), INT64)
    x1, x2 = promoted(x1, x2)
    found = sorting.searchsorted(x1, x2, side=side, sorter=sorter)
    if side == "right" or not x1.dtype.is_floating_point:
        return found
    return elementwise.where(named["isnan"](x2), (x1 == x1).sum(), found)  # PyTorch puts them behind equal ones


def where(condition: Any, x1: Any, x2: Any, /) -> Tensor:
    """Elements of the first array where the condition holds, else of the second; one of them may be a number.

    >>> from tapegrad import xp
    >>> xp.where(xp.asarray([True, False]), xp.asarray([1.0, 2.0]), 0.0)
    tensor([1., 0.])
    """
    x1, x2 = promoted(x1, x2) if _has_array(x1, x2) else (x1, x2)
    return elementwise.where(cast(array(condition), BOOL), x1, x2)


def _has_array(*operands: Any) -> bool:
    return not all(isinstance(x, (bool, int, float)) for x in operands)


def sort(x: Any, /, *, axis: int = -1, descending: Any = False, stable: Any = True) -> Tensor:
    """The elements in their order along an axis.

    >>> from tapegrad import xp
    >>> xp.sort(xp.asarray([3, 1, 2]), descending=True)
    tensor([3, 2, 1])
    """
    return sorting.sort(array(x), axis, bool(descending), stable=bool(stable)).values


def argsort(x: Any, /, *, axis: int = -1, descending: Any = False, stable: Any = True) -> Tensor:
    """The places that put the elements in order along an axis; equal ones stay as they stand.

    >>> from tapegrad import xp
    >>> xp.argsort(xp.asarray([3, 1, 2]))
    tensor([1, 2, 0])
    """
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
    """Distinct elements, ascending, and how often each occurs.

    >>> from tapegrad import xp
    >>> xp.unique_counts(xp.asarray([3, 1, 3]))
    UniqueCountsResult(values=tensor([1, 3]), counts=tensor([1, 2]))
    """
    known = unique_all(x)
    return UniqueCountsResult(known.values, known.counts)


def unique_inverse(x: Any, /) -> UniqueInverseResult:
    """Distinct elements, ascending, and which of them each element is, in the shape of the array.

    >>> from tapegrad import xp
    >>> xp.unique_inverse(xp.asarray([3, 1, 3]))
    UniqueInverseResult(values=tensor([1, 3]), inverse_indices=tensor([1, 0, 1]))
    """
    known = unique_all(x)
    return UniqueInverseResult(known.values, known.inverse_indices)


def unique_values(x: Any, /) -> Tensor:
    """Distinct elements, ascending.

    >>> from tapegrad import xp
    >>> xp.unique_values(xp.asarray([3, 1, 3]))
    tensor([1, 3])
    """
    return unique_all(x).values
