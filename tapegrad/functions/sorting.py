"""Sorting, selecting and searching, and scans that answer with places: values have derivatives, places have none."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from tapegrad import dtypes, writing
from tapegrad.arguments import EXACT, Number, Surface
from tapegrad.dtypes import BOOL, INT32, INT64
from tapegrad.functions import elementwise, reductions
from tapegrad.functions.making import return_type
from tapegrad.functions.shaping import contiguous
from tapegrad.ops import scan
from tapegrad.ops import sort as ops
from tapegrad.ops.declare import Array
from tapegrad.ops.layout import dimension
from tapegrad.recording import cast, promoted, record_array
from tapegrad.tensor import Tensor, constant, describe, from_array, location

if TYPE_CHECKING:
    from tapegrad.methods import Extremum  # a stub

functions = public = Surface(EXACT)
_NOT_GIVEN: Any = object()


def _lengths(x: Tensor, at: int) -> tuple[int, int, int]:
    """Those of a tensor around a dimension: outer, n, inner."""
    shape = x._kind.shape or (1,)
    return math.prod(shape[:at]), shape[at], math.prod(shape[at + 1 :])


def _replaced(x: Tensor, at: int, n: int) -> tuple[int, ...]:
    """The shape with another length in a dimension."""
    shape = x._kind.shape
    return (*shape[:at], n, *shape[at + 1 :]) if shape else ()


def _places(
    op: Array, x: Tensor, at: int, m: int, descending: bool, room: int, more: tuple[int, ...] = ()
) -> Tensor:  # fmt: skip
    """What an operation of places gives for each axis."""
    outer, n, inner = _lengths(x, at)
    params = (outer * inner, n, inner, -1 if descending else 0, room, *more)
    return record_array(op, _replaced(x, at, m), INT64, contiguous(x), params=params)


def in_order(x: Tensor, dim: int, descending: bool = False) -> Tensor:
    """The places of elements in their order."""
    at = dimension(dim, x.ndim)
    n = _lengths(x, at)[1]
    return _places(ops._argsort, x, at, n, descending, ops.room_to_sort(n))


def picked(x: Tensor, places: Tensor, dim: int, node: int = ops.SORT, repeats: bool = False) -> Tensor:
    """The elements at places along a dimension, which `repeats` says may be among them more than once."""
    at = dimension(dim, x.ndim)
    (outer, n, inner), m = _lengths(x, at), _lengths(places, at)[1]
    params = (outer if repeats else outer * m * inner, outer, n, inner, m, node)
    return record_array(ops.pick, places._kind.shape, x.dtype, contiguous(x), places, params=params)


def _put_back(g: Tensor, places: Tensor, p: tuple[int, ...]) -> Tensor:
    return record_array(ops._put_back, (p[1] * p[2] * p[3],), g.dtype, contiguous(g), contiguous(places), params=p)


def _pick_again(g: Tensor, places: Tensor, p: tuple[int, ...]) -> Tensor:
    return record_array(ops.pick, places._kind.shape, g.dtype, contiguous(g), contiguous(places), params=p)


def _recurrence(op: Array) -> Any:
    return lambda a, w, p: record_array(op, a._kind.shape, a.dtype, contiguous(a), contiguous(w), params=p[:3])


ops._put_back.record, ops.pick.record = _put_back, _pick_again
scan._recurrence.record, scan._recurrence_back.record = map(_recurrence, (scan._recurrence, scan._recurrence_back))


# --- sorting ----------------------------------------------------------------------------------------------------------

_Sorted = return_type("sort", "values", "indices")
_Topk = return_type("topk", "values", "indices")
_Kthvalue = return_type("kthvalue", "values", "indices")
_Median = return_type("median", "values", "indices")
_Nanmedian = return_type("nanmedian", "values", "indices")
_Mode = return_type("mode", "values", "indices")
_Cummax = return_type("cummax", "values", "indices")
_Cummin = return_type("cummin", "values", "indices")


@public
def sort(input: Tensor, dim: int = -1, descending: bool = False, *, stable: bool | None = None) -> Extremum:
    """The elements in ascending order along a dimension, and their indices; nan is the largest.

    Equal elements stay in their order, whatever `stable` says.

    >>> import tapegrad as tg
    >>> tg.sort(tg.tensor([3.0, 1.0, 2.0])).values
    tensor([1., 2., 3.])
    """
    where = in_order(input, dim, descending)
    return _Sorted(picked(input, where, dim), where)


@public
def argsort(input: Tensor, dim: int = -1, descending: bool = False, *, stable: bool = False) -> Tensor:
    """The indices that sort along a dimension; those of equal elements ascend.

    >>> import tapegrad as tg
    >>> tg.argsort(tg.tensor([3.0, 1.0, 2.0]))
    tensor([1, 2, 0])
    """
    return in_order(input, dim, descending)


@public
def msort(input: Tensor) -> Tensor:
    """The elements in ascending order along the first dimension.

    >>> import tapegrad as tg
    >>> tg.msort(tg.tensor([3.0, 1.0, 2.0]))
    tensor([1., 2., 3.])
    """
    return sort(input, 0).values


@public
def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Extremum:
    """The k largest (or smallest) elements along a dimension, in order, and their indices.

    Raises
    ------
    RuntimeError
        Where k is negative, or larger than the dimension is long.

    >>> import tapegrad as tg
    >>> tg.topk(tg.tensor([3.0, 1.0, 2.0]), 2).indices
    tensor([0, 2])
    """
    at = dimension(dim, input.ndim)
    n = _lengths(input, at)[1]
    if not 0 <= k <= n:
        raise RuntimeError(f"selected index k out of range: topk of {k} of {n}: {describe(input)}, at {location()}")
    if input.dtype is BOOL:
        raise _not_implemented("topk", input)
    if 4 * k > n or not input.ndim:
        where = in_order(input, dim, largest)
        where = where.narrow(at, 0, k) if input.ndim else where
    else:
        room, at_once = ops.room_for_few(k)
        where = _places(ops._topk, input, at, k, largest, room, (k, at_once))
    return _Topk(picked(input, where, dim, ops.TOPK), where)


def _not_implemented(name: str, x: Tensor) -> NotImplementedError:
    return NotImplementedError(
        f"\"{name}\" not implemented for '{x.dtype.scalar_type}': {describe(x)}, at {location()}"
    )


def _ranked(x: Tensor, at: int, keepdim: bool, rank: int, which: int) -> Tensor:
    """The place of one element of each axis."""
    n = _lengths(x, at)[1]
    where = _places(ops._place_of_rank, x, at, 1, False, ops.room_to_rank(n), (rank, which))
    return where if keepdim or not x.ndim else where.squeeze(at)


def _one_of_each(x: Tensor, where: Tensor, at: int, node: int) -> Tensor:
    """The elements at one place of each axis."""
    kept = where if where.ndim == x.ndim else where.unsqueeze(at)
    values = picked(x, kept, at, node)
    return values if where.ndim == x.ndim else values.squeeze(at)


def _check_length(name: str, x: Tensor, dim: int) -> int:
    at = dimension(dim, x.ndim)
    if x.ndim and not x._kind.shape[at]:
        raise IndexError(f"{name}(): Expected reduction dim {at} to have non-zero size. {describe(x)}, at {location()}")
    return at


@public
def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Extremum:
    """The k-th smallest element along a dimension, counted from 1, and its index.

    >>> import tapegrad as tg
    >>> tg.kthvalue(tg.tensor([3.0, 1.0, 2.0]), 2).values
    tensor(2.)
    """
    at = _check_length("kthvalue", input, dim)
    if input.dtype is BOOL:
        raise _not_implemented("kthvalue_cpu", input)
    n = _lengths(input, at)[1]
    if not 1 <= k <= n:
        raise RuntimeError(
            f"kthvalue(): selected number k out of range for dimension {at}: {k} of {n}: {describe(input)}, at "
            f"{location()}"
        )
    where = _ranked(input, at, keepdim, k - 1, ops.RANK)
    return _Kthvalue(_one_of_each(input, where, at, ops.KTHVALUE), where)


def _middle(name: str, of_all: Array, result: Any, which: int, node: int, doc: str) -> Any:
    @overload
    def median(input: Tensor) -> Tensor: ...
    @overload
    def median(input: Tensor, dim: int, keepdim: bool = False) -> Extremum: ...
    def median(input: Tensor, dim: int = _NOT_GIVEN, keepdim: bool = False) -> Any:
        if input.dtype is BOOL:
            raise _not_implemented("median_out" if dim is not _NOT_GIVEN else "median_cpu", input)
        if dim is not _NOT_GIVEN:
            at = _check_length(name, input, dim)
            where = _ranked(input, at, keepdim, 0, which)
            return result(_one_of_each(input, where, at, node), where)
        flat = input.reshape(-1)
        n = flat._kind.numel
        if not n:
            return constant(math.nan if input.dtype.is_floating_point else dtypes.limits(input.dtype)[0], input.dtype)
        value = _one_of_each(flat.detach(), _ranked(flat, 0, False, 0, which), 0, node)
        if not input.dtype.is_floating_point:
            return value
        return record_array(of_all, (), input.dtype, flat, value, params=(1, n, 1))

    median.__name__, median.__doc__ = name, doc
    return public(median)


median = _middle(
    "median", ops.median_of_all, _Median, ops.LOWER, ops.MEDIAN,
    """The lower of the two middle elements, nan where there is one; along `dim` a pair (values, indices).

    Of all elements, those that are equal to it share the gradient.

    >>> import tapegrad as tg
    >>> tg.median(tg.tensor([4.0, 1.0, 3.0, 2.0]))
    tensor(2.)
    """,
)  # fmt: skip
nanmedian = _middle(
    "nanmedian", ops.nanmedian_of_all, _Nanmedian, ops.LOWER_OF_NUMBERS, ops.NANMEDIAN,
    """`median` of what is not nan; nan where there is nothing else.

    >>> import tapegrad as tg
    >>> tg.nanmedian(tg.tensor([4.0, tg.nan, 3.0]))
    tensor(3.)
    """,
)  # fmt: skip


def middle_of_rows(rows: Tensor, ignores: bool) -> Tensor:
    """The means of the two middle elements of rows [r, n]: nan where a row has one, or of what is not."""
    both = (ops.LOWER_OF_NUMBERS, ops.UPPER_OF_NUMBERS) if ignores else (ops.LOWER, ops.UPPER)
    lower, upper = (
        _one_of_each(rows, _ranked(rows, 1, False, 0, which), 1, ops.NANMEDIAN if ignores else ops.MEDIAN)
        for which in both
    )
    return lower * 0.5 + upper * 0.5


@public
def mode(input: Tensor, dim: int = -1, keepdim: bool = False) -> Extremum:
    """The most frequent element along a dimension, the smallest of these, and its last index.

    >>> import tapegrad as tg
    >>> tg.mode(tg.tensor([3, 1, 3, 2])).values
    tensor(3)
    """
    at = _check_length("mode", input, dim)
    outer, n, inner = _lengths(input, at)
    x, params = contiguous(input), (outer * inner, n, inner)
    where = record_array(ops._place_of_mode, _replaced(x, at, 1), INT64, x, in_order(x, at), params=params)
    where = where if keepdim or not x.ndim else where.squeeze(at)
    return _Mode(_one_of_each(x, where, at, ops.MODE), where)


# --- searching --------------------------------------------------------------------------------------------------------


@public
def searchsorted(
    sorted_sequence: Tensor, input: Number | Tensor, *, out_int32: bool = False, right: bool = False,
    side: str | None = None, sorter: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Where values would be put into ascending rows to keep these in order: before equal elements, or (`right`) behind.

    Parameters
    ----------
    sorted_sequence
        One row, for all values; or a row for each row of the values.
    input
        The values.
    out_int32
        Whether the result is int32.
    right, side
        True, or "right": behind equal elements.
    sorter
        Indices that sort the sequence, where it is not in order.

    >>> import tapegrad as tg
    >>> tg.searchsorted(tg.tensor([1.0, 2.0, 3.0]), tg.tensor([0.5, 2.0]))
    tensor([0, 1])
    """
    sequence = sorted_sequence
    if side not in (None, "left", "right"):
        raise RuntimeError(f"searchsorted(): side can only be 'left' or 'right' but got {side}")
    if side == "left" and right:
        raise RuntimeError(
            "searchsorted(): side and right can't be set to opposites, got side of left while right was True"
        )
    values = input if isinstance(input, Tensor) else constant(input, sequence.dtype)
    if not isinstance(input, Tensor) and sequence.ndim != 1:
        raise RuntimeError(
            "searchsorted(): input value can be a scalar only when boundaries tensor dimension is 1, but we got "
            f"boundaries tensor dim({sequence.ndim}) and input value's dim(0) numel(1)"
        )
    dtype = promoted([sequence, values])
    sequence, values = cast(sequence, dtype), cast(values, dtype)
    shape, own = values._kind.shape, sequence._kind.shape
    if len(own) != 1 and (not own or len(own) != len(shape) or own[:-1] != shape[:-1]):
        raise RuntimeError(
            "searchsorted(): boundaries tensor should be 1 dimension or the first N-1 dimensions of boundaries tensor "
            f"and input value tensor must match, but we got boundaries tensor {list(own)} and input value tensor "
            f"{list(shape)}"
        )
    if sorter is not None:
        sequence = _by(sequence, sorter)
    n, m = own[-1], (values._kind.numel if len(own) == 1 else shape[-1])
    is_right = right or side == "right"
    at = record_array(
        ops._searchsorted, shape, INT64, contiguous(sequence.detach()), contiguous(values.detach()),
        params=(n, max(m, 1), is_right),
    )  # fmt: skip
    return cast(at, INT32) if out_int32 else at


def _by(sequence: Tensor, sorter: Tensor) -> Tensor:
    if sorter._kind.shape != sequence._kind.shape:
        raise RuntimeError(
            f"searchsorted(): boundary and sorter must have the same size, but got boundary tensor "
            f"{list(sequence._kind.shape)}and got sorter tensor {list(sorter._kind.shape)}"
        )
    if sorter.dtype is not INT64:
        raise RuntimeError(
            f"searchsorted(): sorter must be a tensor of long dtype but got dtype {sorter.dtype.scalar_type}"
        )
    places = sorter._array()
    if places.size and (places.min() < 0 or places.max() >= sequence._kind.shape[-1]):
        raise RuntimeError("searchsorted(): sorter index out of range")
    return picked(sequence.detach(), sorter, -1, repeats=True)


@public
def bucketize(input: Number | Tensor, boundaries: Tensor, *, out_int32: bool = False, right: bool = False) -> Tensor:
    """Between which boundaries, a row that ascends, values are: `searchsorted`.

    >>> import tapegrad as tg
    >>> tg.bucketize(tg.tensor([0.5, 2.0]), tg.tensor([1.0, 2.0, 3.0]), right=True)
    tensor([0, 2])
    """
    if boundaries.ndim != 1:
        raise RuntimeError(f"bucketize(): boundaries tensor must be 1 dimension, but got dim({boundaries.ndim})")
    dtype = promoted([boundaries, input])
    values = cast(input, dtype) if isinstance(input, Tensor) else constant(input, dtype)
    return searchsorted(cast(boundaries, dtype), values, out_int32=out_int32, right=right)


@public
def isin(
    elements: Number | Tensor, test_elements: Number | Tensor, *, assume_unique: bool = False, invert: bool = False
) -> Tensor:
    """Whether each element is among others.

    >>> import tapegrad as tg
    >>> tg.isin(tg.tensor([1, 2, 3]), tg.tensor([3, 5]))
    tensor([False, False,  True])
    """
    if not isinstance(elements, Tensor) and not isinstance(test_elements, Tensor):
        raise TypeError("isin() received an invalid combination of arguments: one must be a Tensor")
    dtype = promoted([elements, test_elements])
    x, others = (
        cast(t.detach(), dtype) if isinstance(t, Tensor) else constant(t, dtype) for t in (elements, test_elements)
    )
    n = others._kind.numel
    if not n:
        return x.new_full(x._kind.shape, invert, dtype=BOOL)
    run = sort(others.reshape(-1)).values
    flat = x.reshape(-1)
    near = searchsorted(run, flat).clamp(max=n - 1)
    found = picked(run, near, 0, repeats=True) == flat
    found = found.reshape(x._kind.shape)
    return ~found if invert else found


# --- what elements there are ------------------------------------------------------------------------------------------


def _first_of_runs(array: np.ndarray) -> np.ndarray:
    """Whether each row differs from that before it."""
    first = np.ones(len(array), bool)
    differ = array[1:] != array[:-1]
    first[1:] = differ.reshape(len(array) - 1, -1).any(1) if len(array) > 1 else []
    return first


def _answer(
    x: Tensor, at: int, first: np.ndarray, order: np.ndarray, shape: tuple[int, ...], wanted: tuple[bool, bool]
) -> Any:  # fmt: skip
    """The slices of x that are first of a run; where each slice is among them; and how many are in each run."""
    places = from_array(np.ascontiguousarray(order[first]))
    made = [x.index_select(at, places)]
    if wanted[0]:
        inverse = np.empty(len(first), np.int64)
        inverse[order] = np.cumsum(first) - 1
        made.append(from_array(inverse.reshape(shape)))
    if wanted[1]:
        made.append(from_array(np.diff(np.append(np.flatnonzero(first), len(first)))))
    return made[0] if len(made) == 1 else tuple(made)


@public
def unique(
    input: Tensor, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False,
    dim: int | None = None,
) -> Tensor | tuple[Tensor, ...]:  # fmt: skip
    """The distinct elements, or the distinct slices along a dimension, in ascending order.

    With `return_inverse` and `return_counts` a tuple: where each element is among them, and how often each occurs. The
    gradient of one flows to the first of the elements that are equal to it.

    >>> import tapegrad as tg
    >>> tg.unique(tg.tensor([3, 1, 3]), return_counts=True)
    (tensor([1, 3]), tensor([1, 2]))
    """
    wanted = return_inverse, return_counts
    if dim is None:
        flat = input.reshape(-1)
        known = flat.detach()
        where = in_order(known, 0)
        first = _first_of_runs(picked(known, where, 0)._array())
        return _answer(flat, 0, first, where._array(), input._kind.shape, wanted)
    rows, at = _rows(input, dim)
    order = np.lexsort(rows.reshape(len(rows), -1).T[::-1]) if rows.size else np.arange(len(rows))
    first = _first_of_runs(rows[order]) if rows.size or len(rows) < 2 else np.arange(len(rows)) == 0
    return _answer(input, at, first, order, first.shape, wanted)


def _rows(x: Tensor, dim: int) -> tuple[np.ndarray, int]:
    at = dimension(dim, x.ndim)
    if not x.ndim:
        raise IndexError(f"Dimension specified as {dim} but tensor has no dimensions: unique(), at {location()}")
    return np.moveaxis(x.detach()._array(), at, 0), at


@public
def unique_consecutive(
    input: Tensor, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Tensor | tuple[Tensor, ...]:
    """The first of each run of equal elements, or of equal slices along a dimension; otherwise as `unique`.

    >>> import tapegrad as tg
    >>> tg.unique_consecutive(tg.tensor([1, 1, 2, 1]))
    tensor([1, 2, 1])
    """
    x = input.reshape(-1) if dim is None else input
    rows, at = _rows(x, 0 if dim is None else dim)
    first = _first_of_runs(rows)
    shape = input._kind.shape if dim is None else first.shape
    return _answer(x, at, first, np.arange(len(first)), shape, (return_inverse, return_counts))


# --- scans ------------------------------------------------------------------------------------------------------------


def _extreme_so_far(name: str, op: Any, result: Any, node: int, which: str) -> Any:
    def cumulative(input: Tensor, dim: int) -> Extremum:
        at = dimension(dim, input.ndim)
        x = contiguous(input)
        where = record_array(op, x._kind.shape, INT64, x, params=_lengths(x, at))
        return result(picked(x, where, at, node, repeats=True), where)

    cumulative.__name__ = name
    cumulative.__doc__ = f"""The {which} of each element and all before it, and its index: the last of equal ones.

    From the first nan on, nan.

    >>> import tapegrad as tg
    >>> values, indices = tg.{name}(tg.tensor([2.0, 2.0, 2.0]), dim=0)
    >>> indices
    tensor([0, 1, 2])
    """
    return public(cumulative)


cummax = _extreme_so_far("cummax", scan._place_of_largest, _Cummax, ops.CUMMAX, "largest")
cummin = _extreme_so_far("cummin", scan._place_of_smallest, _Cummin, ops.CUMMIN, "smallest")


@public
def logcumsumexp(input: Tensor, dim: int) -> Tensor:
    """log(cumsum(exp(input))) along a dimension, without overflow.

    >>> import tapegrad as tg
    >>> tg.logcumsumexp(tg.tensor([1000.0, 1000.0]), 0)
    tensor([1000.0000, 1000.6931])
    """
    at = dimension(dim, input.ndim)
    if not input.dtype.is_floating_point:
        raise _not_implemented("logcumsumexp_out_cpu", input)
    outer, n, inner = _lengths(input, at)
    return record_array(
        scan.logcumsumexp, input._kind.shape, input.dtype, contiguous(input), params=(outer * inner, n, inner)
    )


def _in_place(name: str) -> Any:
    function = reductions.functions[name]

    def in_place(self: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
        writing.check_in_place(self, f"{name}_")
        wanted = self.dtype if dtype is None else dtypes.as_dtype(dtype)
        if wanted is not self.dtype:
            raise RuntimeError(
                f"provided dtype must match the dtype of self tensor in {name}. Got {self.dtype.scalar_type} and "
                f"{wanted.scalar_type}."
            )
        return writing.assign(self, cast(function(self, dim, dtype=wanted), self.dtype))

    in_place.__name__ = f"{name}_"
    in_place.__doc__ = f"`{name}`, in place."
    return in_place


Tensor.cumsum_, Tensor.cumprod_ = _in_place("cumsum"), _in_place("cumprod")


# --- quantiles --------------------------------------------------------------------------------------------------------

_INTERPOLATIONS = ("linear", "lower", "higher", "midpoint", "nearest")


def between(rows: Tensor, ranks: Tensor, interpolation: str) -> Tensor:
    """The elements at ranks, which need be no integers, of each ascending row; rows are [r, n], ranks [1 or r, k]."""
    if interpolation == "nearest":
        ranks = ranks.round()
    below, above = ranks.floor(), ranks.ceil()
    shape = (rows._kind.shape[0], ranks._kind.shape[1])
    low, high = (
        picked(rows, cast(places.detach(), INT64).expand(*shape), 1, repeats=True) for places in (below, above)
    )
    if interpolation in ("lower", "nearest"):
        return low
    if interpolation == "higher":
        return high
    if interpolation == "midpoint":
        return low + (high - low) * 0.5
    weight, apart = ranks - below, high - low
    return elementwise.where(weight < 0.5, low + weight * apart, high - apart * (1.0 - weight))


def rows_in_order(x: Tensor, at: int) -> Tensor:
    """The elements along a dimension, ascending, as rows [outer * inner, n]."""
    moved = x.movedim(at, -1) if x.ndim else x.reshape(1)
    n = moved._kind.shape[-1]
    return sort(moved.reshape(moved._kind.numel // max(n, 1), n)).values


def _quantile(
    name: str, x: Tensor, q: Any, dim: int | None, keepdim: bool, interpolation: str, ignores: bool
) -> Tensor:
    if not x._kind.numel and dim is None:
        raise RuntimeError(f"{name}() input tensor must be non-empty: {describe(x)}, at {location()}")
    if not x.dtype.is_floating_point:
        raise RuntimeError(
            f"{name}() input tensor must be either float or double dtype: {describe(x)}, at {location()}"
        )
    if isinstance(q, Tensor):
        if q.ndim > 1:
            raise RuntimeError(f"{name}() q must be a scalar or 1D tensor: {describe(q)}, at {location()}")
        if q.dtype is not x.dtype:
            raise RuntimeError(f"{name}() q tensor must be same dtype as the input tensor: {describe(x, q)}")
    if interpolation not in _INTERPOLATIONS:
        raise RuntimeError(
            f"{name}() interpolation must be one of linear, lower, higher, midpoint or nearest, but got {interpolation}"
        )
    values = q.detach()._array() if isinstance(q, Tensor) else np.asarray(q)
    if not ((values >= 0) & (values <= 1)).all():
        what = "q values must be in the range [0, 1]:" if values.ndim else "q must be in the range [0, 1] but got"
        raise RuntimeError(f"{name}() {what} {values}, at {location()}")
    at = 0 if dim is None else _check_length(name, x, dim)
    of = x.reshape(-1) if dim is None else x
    ranks = q.reshape(1, -1) if isinstance(q, Tensor) else constant(float(q), x.dtype).reshape(1, 1)
    result = of_rows(rows_in_order(of, at), ranks, interpolation, ignores)
    shape = list(of._kind.shape)
    kept = [1] * x.ndim if dim is None else _replaced(of, at, 1)
    rest = [*kept] if keepdim else [] if dim is None or not x.ndim else shape[:at] + shape[at + 1 :]
    return result.T.reshape(*(q._kind.shape if isinstance(q, Tensor) else ()), *rest)


def of_rows(rows: Tensor, fractions: Tensor, interpolation: str, ignores: bool) -> Tensor:
    """Quantiles [r, k] of ascending rows [r, n]: nan where a row has one, or of what is not."""
    n = rows._kind.shape[1]
    if ignores:
        numbers = cast((rows == rows).sum(1, keepdim=True), rows.dtype)
        return between(rows, fractions * (numbers - 1.0).clamp(min=0.0), interpolation)
    has_nan = rows.detach()[:, -1:].isnan()
    return between(rows, elementwise.where(has_nan, float(n - 1), fractions * float(n - 1)), interpolation)


@public
def quantile(
    input: Tensor, q: float | Tensor, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
) -> Tensor:
    """The elements below which the fraction `q` of all lies, over all dimensions or one; nan where there is a nan.

    Parameters
    ----------
    input
        Of floats.
    q
        A number from 0 to 1, or a vector of them in the dtype of `input`, which become the result's first dimension.
    dim
        The dimension.
    keepdim
        Whether the result has it too, with length 1.
    interpolation
        What is taken between two elements: "linear", "lower", "higher", "midpoint" or "nearest".

    >>> import tapegrad as tg
    >>> tg.quantile(tg.tensor([3.0, 1.0, 2.0, 4.0]), 0.5)
    tensor(2.5000)
    """
    return _quantile("quantile", input, q, dim, keepdim, interpolation, False)


@public
def nanquantile(
    input: Tensor, q: float | Tensor, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
) -> Tensor:
    """`quantile` of what is not nan.

    >>> import tapegrad as tg
    >>> tg.nanquantile(tg.tensor([1.0, 3.0, tg.nan]), 0.5)
    tensor(2.)
    """
    return _quantile("nanquantile", input, q, dim, keepdim, interpolation, True)
