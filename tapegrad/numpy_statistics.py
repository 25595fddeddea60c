"""NumPy's functions that sort, select and count, fill up, and difference; and those that pass over nan.

What is chosen, where, and how often, NumPy itself says of the values that there are now: by that, tensors are gathered.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from tapegrad import creation, dtypes
from tapegrad.conversion import as_operand
from tapegrad.functions import elementwise, indexing, joining, reductions, shaping, sorting, statistics
from tapegrad.functions.contractions import functions as contractions
from tapegrad.numpy_functions import as_tensor, floating, of_one_dtype, of_values
from tapegrad.recording import cast
from tapegrad.tensor import Tensor, describe, location

_where = elementwise.where
_reduce = reductions.functions


def _array(value: Any) -> Any:
    return value._array() if isinstance(value, Tensor) else np.asarray(value)


def _numbers(name: str, value: Any) -> np.ndarray:
    """What is no operand but says what is asked for."""
    if isinstance(value, Tensor) and value.requires_grad:
        raise TypeError(f"np.{name}: no derivative by {describe(value)} is recorded, at {location()}: detach() it")
    return np.asarray(_array(value))


def _chosen(a: Tensor, places: np.ndarray, axis: int) -> Tensor:
    return indexing.index_select(a, axis, as_operand(np.asarray(places, np.int64).reshape(-1), False))


# --- sorting ----------------------------------------------------------------------------------------------------------


def sort(a: Tensor, axis: Any = -1, kind: Any = None, stable: Any = None) -> Tensor:
    """The elements in their order along an axis, or all of them."""
    if axis is None:
        a, axis = a.reshape(-1), -1
    return sorting.sort(a, normalize_axis_index(axis, a.ndim)).values


def partition(a: Tensor, kth: Any, axis: Any = -1, kind: Any = "introselect") -> Tensor:
    """Those of some ranks where they were if all were in order, the smaller before, the larger behind."""
    if axis is None:
        a, axis = a.reshape(-1), -1
    axis = normalize_axis_index(axis, a.ndim)
    places = np.argpartition(a._array(), kth, axis, kind)
    return sorting.picked(a, as_operand(np.asarray(places, np.int64), False), axis)


def unique(
    ar: Tensor, return_index: Any = False, return_inverse: Any = False, return_counts: Any = False, axis: Any = None,
    equal_nan: Any = True, sorted: Any = True,
) -> Any:  # fmt: skip
    """The distinct elements, each the first of its like; what NumPy says of them is a constant."""
    _, first, *others = np.unique(
        ar._array(), return_index=True, return_inverse=return_inverse, return_counts=return_counts, axis=axis,
        equal_nan=equal_nan,
    )  # fmt: skip
    values = _chosen(ar.reshape(-1), first, 0) if axis is None else _chosen(ar, first, axis)
    made = (values, *((first,) if return_index else ()), *others)
    return made if len(made) > 1 else values


def _unique_of(theirs: Callable[..., Any]) -> Callable[..., Any]:
    """Of the array API's four: the same named tuples, with the values recorded."""

    def distinct(x: Any) -> Any:
        told = theirs(x._array())
        values = _chosen(x.reshape(-1), np.unique(x._array(), return_index=True, equal_nan=False)[1], 0)
        return type(told)(values, *told[1:]) if isinstance(told, tuple) else values

    return distinct


def _of_two(theirs: Callable[..., Any]) -> Callable[..., Any]:
    """A set made of two: the elements of both that NumPy's has."""

    def made(ar1: Any, ar2: Any, *args: Any, **facts: Any) -> Any:
        if facts.get("return_indices"):
            raise TypeError(f"np.{theirs.__name__}: return_indices is not understood for tensors, at {location()}")
        both = [t.reshape(-1) for t in of_one_dtype(ar1, ar2)]
        values = theirs(*(t._array() for t in both), *args, **facts)
        all_, first = np.unique(np.concatenate([t._array() for t in both]), return_index=True)
        return _chosen(shaping.cat(both), first[np.searchsorted(all_, values)], 0)

    return made


# --- order statistics -------------------------------------------------------------------------------------------------


def _rows(a: Tensor, axis: Any) -> tuple[Tensor, tuple[int, ...], tuple[int, ...]]:
    """The elements along axes as rows [r, n]; the shape without the axes, and with them as 1."""
    axes = tuple(range(a.ndim)) if axis is None else normalize_axis_tuple(axis, a.ndim)
    kept = [d for d in range(a.ndim) if d not in axes]
    shape, n = tuple(a.shape[d] for d in kept), math.prod(a.shape[d] for d in axes)
    rows = a.permute((*kept, *axes)).reshape(math.prod(shape), n) if a.ndim else a.reshape(1, 1)
    return rows, shape, tuple(1 if d in axes else m for d, m in enumerate(a.shape))


def _positions(counts: np.ndarray, q: np.ndarray, method: str) -> np.ndarray:
    """Where quantiles lie among so many elements in order: NumPy's own of 0, 1, 2 ..., a row for each count."""
    quantile: Any = np.quantile
    rows = {n: quantile(np.arange(float(max(n, 1))), q, method=method) for n in np.unique(counts).tolist()}
    return np.stack([rows[n] for n in counts.tolist()]) if len(counts) else np.zeros((0, q.size))


def _quantiles(name: str, scale: float, ignores: bool) -> Callable[..., Any]:
    def quantiles(
        a: Tensor, q: Any, axis: Any = None, method: Any = "linear", keepdims: Any = False, weights: Any = None
    ) -> Tensor:  # fmt: skip
        if not a.dtype.is_floating_point:  # without derivatives: NumPy's own, whose dtype the method says
            q, weights = (_numbers(name, v) if isinstance(v, Tensor) else v for v in (q, weights))
            made = getattr(np, name)(a._array(), q, axis, method=method, keepdims=bool(keepdims), weights=weights)
            return as_operand(np.asarray(made), False)
        fractions = np.asarray(_numbers(name, q), np.float64) / scale
        if not ((fractions >= 0) & (fractions <= 1)).all():
            raise ValueError(f"{name.removeprefix('nan').title()}s must be in the range [0, {scale:g}]")
        if ignores and not a.numel():
            return nanmean(a, axis, None, keepdims)
        weighs = None if weights is None else _weights(a, axis, _numbers(name, weights))
        return _at_fractions(floating(a), fractions, axis, method, keepdims, ignores, weighs)

    return quantiles


def _weights(a: Tensor, axis: Any, given: np.ndarray) -> np.ndarray:
    """A weight for each element, in rows as `_rows` has them."""
    if given.shape != tuple(a.shape):
        if axis is None:
            raise TypeError("Axis must be specified when shapes of a and weights differ.")
        axes = normalize_axis_tuple(axis, a.ndim)
        if given.shape != tuple(a.shape[d] for d in axes):
            raise ValueError("Shape of weights must be consistent with shape of a along specified axis.")
        moved = given.transpose(np.argsort(axes))
        given = np.broadcast_to(moved.reshape([n if d in axes else 1 for d, n in enumerate(a.shape)]), tuple(a.shape))
    return _rows(as_operand(np.array(given, np.float64), False), axis)[0].numpy()


def _weighted_positions(
    order: np.ndarray, counts: np.ndarray, q: np.ndarray, method: str, weights: np.ndarray
) -> np.ndarray:  # fmt: skip
    """Where weighted quantiles lie among the first elements in order of each row: NumPy's own of 0, 1, 2 ..."""
    quantile: Any = np.quantile
    rows = [
        quantile(np.arange(float(n)), q, method=method, weights=w[places[:n]])
        for places, n, w in zip(order, counts.tolist(), weights, strict=True)
    ]
    return np.stack(rows) if rows else np.zeros((0, q.size))


def _at_fractions(
    a: Tensor, fractions: np.ndarray, axis: Any, method: str, keepdims: Any, ignores: bool, weights: np.ndarray | None
) -> Tensor:  # fmt: skip
    rows, shape, kept = _rows(a, axis)
    r, n = rows.shape
    if not n:
        raise IndexError("cannot do a non-empty take from an empty axes.")
    ordered, order = sorting.sort(rows, 1)
    last = ordered._array()
    numbers = n - np.isnan(last).sum(1)
    counts, q = np.maximum(numbers, 1) if ignores else np.full(r, n), fractions.reshape(-1)
    if weights is None:
        at = _positions(counts, q, method)
    else:
        at = _weighted_positions(order._array(), counts, q, method, weights)
    at = np.where((numbers == n)[:, None], at, at if ignores else n - 1)
    made = sorting.between(ordered, as_operand(at.astype(rows.dtype.numpy), False), "linear")
    return made.T.reshape((*fractions.shape, *(kept if keepdims else shape)))


def _median(ignores: bool) -> Callable[..., Any]:
    """The mean of the two middle elements; where there are two, by selection."""

    def median(a: Tensor, axis: Any = None, overwrite_input: Any = False, keepdims: Any = False) -> Tensor:
        rows, shape, kept = _rows(floating(a), axis)
        if not rows.shape[1]:
            return rows.sum(1).reshape(kept if keepdims else shape) + math.nan
        return sorting.middle_of_rows(rows, ignores).reshape(kept if keepdims else shape)

    return median


# --- what passes over nan ---------------------------------------------------------------------------------------------


def _over(function: Callable[..., Any], a: Tensor, axis: Any, keepdims: Any) -> Tensor:
    return function(a, tuple(range(a.ndim)) if axis is None else axis, bool(keepdims))


def _is_number(a: Tensor) -> Tensor:
    return a == a


def _filled(a: Tensor, value: float) -> Tensor:
    return _where(_is_number(a), a, value) if a.dtype.is_floating_point else a


def _without_nan(function: Any, neutral: float) -> Callable[..., Any]:
    """A sum or a product of what is not nan."""

    def total(
        a: Tensor, axis: Any = None, dtype: Any = None, keepdims: Any = False, initial: Any = None, where: Any = True
    ) -> Any:
        return function(_filled(a, neutral), axis, dtype, keepdims=keepdims, initial=initial, where=where)

    return total


def _taking_part(a: Tensor, where: Any) -> Tensor:
    """Floats, nan where they don't take part."""
    return a if where is True else _where(cast(as_tensor(where), dtypes.BOOL), a, math.nan).expand(a.shape)


def _counts(a: Tensor, axis: Any, keepdims: Any) -> Tensor:
    return cast(_over(_reduce["sum"], _is_number(a), axis, keepdims), a.dtype)


def nanmean(a: Tensor, axis: Any = None, dtype: Any = None, keepdims: Any = False, where: Any = True) -> Tensor:
    """The mean of what is not nan."""
    a = _taking_part(floating(a) if dtype is None else cast(a, dtypes.as_dtype(dtype)), where)
    return _over(_reduce["sum"], _filled(a, 0.0), axis, keepdims) / _counts(a, axis, keepdims)


def corrected(ddof: Any, correction: Any) -> Any:
    """What is taken from the number of terms, by the one name or the other."""
    if correction is None:
        return ddof
    if ddof != 0:
        raise ValueError("ddof and correction can't be provided simultaneously.")
    return correction


def nanvar(
    a: Tensor, axis: Any = None, dtype: Any = None, ddof: Any = 0, keepdims: Any = False, correction: Any = None,
    where: Any = True,
) -> Tensor:  # fmt: skip
    """The variance of what is not nan; nan where there is too little."""
    a = _taking_part(floating(a) if dtype is None else cast(a, dtypes.as_dtype(dtype)), where)
    deviation = _filled(a - nanmean(a, axis, None, True), 0.0)
    left = _counts(a, axis, keepdims) - corrected(ddof, correction)
    squares = _over(_reduce["sum"], deviation * deviation, axis, keepdims)
    return squares / _where(left > 0, left, math.nan)


def nanstd(
    a: Tensor, axis: Any = None, dtype: Any = None, ddof: Any = 0, keepdims: Any = False, correction: Any = None,
    where: Any = True,
) -> Tensor:  # fmt: skip
    """The standard deviation of what is not nan; its derivative where it is 0 is 0."""
    variance = nanvar(a, axis, dtype, ddof, keepdims, correction, where)
    return _where(variance == 0, 0.0, _where(variance == 0, 1.0, variance).sqrt())


def _extremum(plain: Any, choose: Any, name: str, neutral: float) -> Callable[..., Any]:
    """The largest or smallest of what is not nan, and of `initial`."""

    def extremum(a: Tensor, axis: Any = None, keepdims: Any = False, initial: Any = None, where: Any = True) -> Any:
        if not a.dtype.is_floating_point:
            return plain(a, axis, keepdims=keepdims, initial=initial, where=where)
        if where is not True and initial is None:
            raise ValueError(
                f"reduction operation '{choose.__name__}' does not have an identity, so to use a where mask one has "
                "to specify 'initial'"
            )
        a = _taking_part(a, where)
        made = _over(_reduce[name], _filled(a, neutral), axis, keepdims)
        made = _where(_counts(a, axis, keepdims) > 0, made, math.nan)
        return made if initial is None else choose(made, initial)

    return extremum


def _running(name: str, neutral: float) -> Callable[..., Any]:
    def running(a: Tensor, axis: Any = None, dtype: Any = None) -> Tensor:
        x = _filled(a, neutral)
        x, axis = (x.reshape(-1), 0) if axis is None else (x, axis)
        return _reduce[name](x, axis, dtype=None if dtype is None else dtypes.as_dtype(dtype))

    return running


# --- differences ------------------------------------------------------------------------------------------------------


def diff(a: Tensor, n: Any = 1, axis: Any = -1, prepend: Any = None, append: Any = None) -> Tensor:
    """Differences of neighbours along an axis, n times; what is to be joined before may be single numbers."""
    if n < 0:
        raise ValueError(f"order must be non-negative but got {n}")
    if not a.ndim:
        raise ValueError("diff requires input that is at least one dimensional")
    axis = normalize_axis_index(axis, a.ndim)

    def end(value: Any) -> Tensor:
        t = as_tensor(value)
        return t if t.ndim else t.expand(tuple(1 if d == axis else m for d, m in enumerate(a.shape)))

    ends = [None if v is None or v is np._NoValue else end(v) for v in (prepend, append)]
    pieces = of_one_dtype(*(t for t in (ends[0], a, ends[1]) if t is not None))
    return statistics.diff(shaping.cat(pieces, axis) if len(pieces) > 1 else a, n, axis)


def ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Tensor:
    """The differences of neighbours among all elements, with others on both sides."""
    made = statistics.diff(as_tensor(ary).reshape(-1))
    parts = [v if v is None else as_tensor(v).reshape(-1) for v in (to_begin, to_end)]
    for name, part in zip(("to_begin", "to_end"), parts, strict=True):
        if part is not None and part.dtype.category > made.dtype.category:
            raise TypeError(f"dtype of `{name}` must be compatible with input `ary` under the `same_kind` rule.")
    return shaping.cat([cast(t, made.dtype) for t in (parts[0], made, parts[1]) if t is not None])


def gradient(f: Any, *varargs: Any, axis: Any = None, edge_order: Any = 1) -> Any:
    """Central differences along each axis, or those given; `varargs` are the distances, or the points."""
    f = floating(f)
    axes = tuple(range(f.ndim)) if axis is None else normalize_axis_tuple(axis, f.ndim)
    if len(varargs) not in (0, len(axes)) and (len(varargs) > 1 or np.ndim(_array(varargs[0]))):
        raise TypeError("invalid number of arguments")  # one for several axes is a number
    if edge_order not in (1, 2):
        raise ValueError("'edge_order' greater than 2 not supported")
    spaces = [*varargs] if len(varargs) == len(axes) else [varargs[0] if varargs else 1.0] * len(axes)
    made = []
    for at, space in zip(axes, spaces, strict=True):
        n = f.shape[at]
        if n < edge_order + 1:
            raise ValueError(
                "Shape of array too small to calculate a numerical gradient, at least (edge_order + 1) elements are "
                "required."
            )
        points = as_tensor(space) if np.ndim(_array(space)) else space
        if isinstance(points, Tensor) and points.ndim:
            if points.ndim > 1 or points.shape[0] != n:
                raise ValueError("when 1d, distances must match the length of the corresponding dimension")
            points = floating(points)
        made.append(statistics.slope(f, at, points, edge_order))
    return made[0] if len(made) == 1 else tuple(made)


def interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None) -> Tensor:
    """Linear between given points; outside, their ends, or `left` and `right`. It has slopes by all three."""
    is_number = np.ndim(_array(x)) == 0
    x, xp, fp = (floating(t) for t in of_one_dtype(x, xp, fp))
    shape = tuple(x.shape)
    x = x.reshape(-1)
    if xp.ndim != 1 or fp.ndim != 1 or xp.shape != fp.shape:
        raise ValueError("fp and xp are not of the same length.")
    if not xp.shape[0]:
        raise ValueError("array of sample points is empty")
    if period is not None:
        if period == 0:
            raise ValueError("period must be a non-zero value")
        period, left, right = abs(period), None, None
        x, xp = x % period, xp % period
        order = np.argsort(xp._array())
        xp, fp = _chosen(xp, order, 0), _chosen(fp, order, 0)
        xp = shaping.cat([xp[-1:] - period, xp, xp[:1] + period])
        fp = shaping.cat([fp[-1:], fp, fp[:1]])
    n = xp.shape[0]
    first = fp[0] if left is None else left
    last = fp[n - 1] if right is None else right
    at = np.clip(np.searchsorted(xp._array(), x._array(), "right") - 1, 0, max(n - 2, 0))
    if n > 1:
        x0, x1, f0, f1 = (_chosen(t, at + k, 0) for t in (xp, fp) for k in (0, 1))
        made = f0 + (f1 - f0) * ((x - x0) / (x1 - x0))
        # Between infinities, too, what is known of one side says what is there.
        other = f1 + (f1 - f0) * ((x - x1) / (x1 - x0))
        made = _where((made != made) & (x == x), _where((x == x0) | (f0 == f1), f0, other), made)
        made = _where(x == xp[n - 1], fp[n - 1], made)
    else:
        made = fp.expand(x.shape[0])
    made = _where(x < xp[0], first, _where(x > xp[n - 1], last, made))
    return made.reshape(() if is_number else shape)


# --- filling up -------------------------------------------------------------------------------------------------------


def _pairs(value: Any, ndim: int) -> list[Any]:
    """A pair for each axis, as NumPy broadcasts what is given."""
    return [tuple(pair) for pair in np.broadcast_to(np.asarray(value), (ndim, 2)).tolist()]


def pad(array: Any, pad_width: Any, mode: Any = "constant", **facts: Any) -> Tensor:
    """More elements on all sides: constants, those of the edge or the other side, or what is said of them."""
    array = as_tensor(array)
    if isinstance(pad_width, dict):
        pad_width = [pad_width.get(d, pad_width.get(d - array.ndim, (0, 0))) for d in range(array.ndim)]
        pad_width = [(w, w) if isinstance(w, int) else w for w in pad_width]
    if np.asarray(_array(pad_width)).dtype.kind not in "iu":
        raise TypeError("`pad_width` must be of integral type.")
    widths = _pairs(_array(pad_width), array.ndim)
    if any(w < 0 for pair in widths for w in pair):
        raise ValueError("index can't contain negative values")
    mirrors = mode in ("reflect", "symmetric") and facts.get("reflect_type", "even") == "even"
    if mirrors or (mode in ("edge", "wrap") and not facts):
        for d, width in enumerate(widths):
            if any(width):
                array = _chosen(array, np.pad(np.arange(array.shape[d]), width, mode), d)
        return array
    if mode in ("edge", "wrap"):
        raise ValueError(f"unsupported keyword arguments for mode '{mode}': {set(facts)}")
    if mode == "empty":  # anything may stand there
        mode = "constant"
    makers = {"constant": _constants, "linear_ramp": _ramps, **dict.fromkeys(_STATISTICS, _statistic)}
    if mode not in makers:
        raise TypeError(f"np.pad: mode={mode!r}, {facts} is not understood for tensors, at {location()}")
    names = {"constant": "constant_values", "linear_ramp": "end_values"}
    given = facts.pop(names.get(mode, "stat_length"), 0 if mode in names else None)
    if facts:
        raise ValueError(f"unsupported keyword arguments for mode '{mode}': {set(facts)}")
    each = _pairs(given, array.ndim) if given is not None else [(None, None)] * array.ndim
    for d, (width, values) in enumerate(zip(widths, each, strict=True)):
        if not any(width):
            continue
        if not array.shape[d] and mode != "constant":
            raise ValueError(f"can't extend empty axis {d} using modes other than 'constant' or 'empty'")
        before, after = (makers[mode](array, d, k, width[k], values[k], mode) for k in (0, 1))
        array = shaping.cat([before, array, after], d)
    return array


def _along(array: Tensor, d: int, n: int) -> tuple[int, ...]:
    return tuple(n if k == d else m for k, m in enumerate(array.shape))


def _constants(array: Tensor, d: int, side: int, n: int, value: Any, mode: str) -> Tensor:
    return creation.full(_along(array, d, n), dtypes.in_range(value, array.dtype), dtype=array.dtype)


def _ramps(array: Tensor, d: int, side: int, n: int, value: Any, mode: str) -> Tensor:
    edge = array.narrow(d, 0 if side == 0 else array.shape[d] - 1, 1)
    weights = np.arange(n) / max(n, 1)
    weights = weights if side == 0 else weights[::-1]
    shape = tuple(-1 if k == d else 1 for k in range(array.ndim))
    w = as_operand(weights.reshape(shape), False)
    if array.dtype.is_floating_point:
        return cast(value + (edge - value) * w, array.dtype)
    return cast(elementwise.functions["floor"](value + (floating(edge) - value) * w), array.dtype)


_STATISTICS = ("maximum", "minimum", "mean", "median")


def _statistic(array: Tensor, d: int, side: int, n: int, length: Any, mode: str) -> Tensor:
    length = array.shape[d] if length is None else min(length, array.shape[d])
    of = array.narrow(d, 0 if side == 0 else array.shape[d] - length, length)
    if mode == "median":
        made = _median(False)(of, d, keepdims=True)
    else:
        of = floating(of) if mode == "mean" else of
        made = _reduce[{"maximum": "amax", "minimum": "amin", "mean": "mean"}[mode]](of, d, True)
    if made.dtype is not array.dtype:  # of integers: the nearest
        made = cast(elementwise.functions["round"](made), array.dtype)
    return made.expand(_along(array, d, n))


def block(arrays: Any) -> Tensor:
    """Blocks side by side: the lists within lists along the last axis, those around them along the one before."""

    def depth(value: Any) -> int:
        return 1 + max(map(depth, value)) if isinstance(value, list) and value else 0

    def leaves(value: Any) -> list[Any]:
        return [leaf for v in value for leaf in leaves(v)] if isinstance(value, list) else [value]

    n = depth(arrays)
    tensors = iter(of_one_dtype(*leaves(arrays)))
    parts = list(tensors)
    ndim = max(n, *(t.ndim for t in parts))
    given = iter(t.reshape((1,) * (ndim - t.ndim) + tuple(t.shape)) for t in parts)

    def join(value: Any, level: int) -> Tensor:
        if not isinstance(value, list):
            return next(given)
        return shaping.cat([join(v, level - 1) for v in value], ndim - level)

    return join(arrays, n)


def meshgrid(*xi: Any, copy: Any = True, sparse: Any = False, indexing: Any = "xy") -> tuple[Tensor, ...]:
    """The coordinates of a grid."""
    if indexing not in ("xy", "ij"):
        raise ValueError("Valid values for `indexing` are 'xy' and 'ij'.")
    tensors = [as_tensor(x).reshape(-1) for x in xi]
    n = len(tensors)
    order = [1, 0, *range(2, n)] if indexing == "xy" and n > 1 else list(range(n))
    shape = [tensors[k].shape[0] for k in order]
    apart = [t.reshape([-1 if k == order.index(i) else 1 for k in range(n)]) for i, t in enumerate(tensors)]
    return tuple(apart if sparse else [t.expand(shape).clone() for t in apart])


def rot90(m: Tensor, k: Any = 1, axes: Any = (0, 1)) -> Tensor:
    """Turned by right angles in the plane of two axes."""
    if len(axes) != 2:
        raise ValueError("len(axes) must be 2.")
    if axes[0] == axes[1] or abs(axes[0] - axes[1]) == m.ndim:
        raise ValueError("Axes must be different.")
    return joining.rot90(m, k, tuple(axes))


# --- moments and counts -----------------------------------------------------------------------------------------------


def _variables(m: Any, y: Any, rowvar: Any) -> Tensor:
    def rows(value: Any) -> Tensor:
        t = as_tensor(value)
        if t.ndim > 2:
            raise ValueError("m has more than 2 dimensions")
        t = t.reshape(1, -1) if t.ndim < 2 else t
        return t.T if not rowvar and np.ndim(_array(value)) == 2 else t

    x = rows(m)
    if y is None:
        return floating(x)
    return shaping.cat([floating(t) for t in of_one_dtype(x, rows(y))])


def cov(
    m: Any, y: Any = None, rowvar: Any = True, bias: Any = False, ddof: Any = None, fweights: Any = None,
    aweights: Any = None, *, dtype: Any = None,
) -> Tensor:  # fmt: skip
    """The covariances of variables, a row each."""
    x = _variables(m, y, rowvar)
    x = x if dtype is None else cast(x, dtypes.as_dtype(dtype))
    if fweights is not None and (_array(fweights) != np.around(_array(fweights))).any():
        raise TypeError("fweights must be integer")
    weights = {
        name: None if w is None else cast(as_tensor(w), dtypes.INT64) if name == "fweights" else floating(w)
        for name, w in (("fweights", fweights), ("aweights", aweights))
    }
    return statistics.cov(x, correction=int(not bias) if ddof is None else ddof, **weights)


def corrcoef(x: Any, y: Any = None, rowvar: Any = True, *, dtype: Any = None) -> Tensor:
    """The correlation coefficients of variables, a row each."""
    variables = _variables(x, y, rowvar)
    return statistics.corrcoef(variables if dtype is None else cast(variables, dtypes.as_dtype(dtype)))


def bincount(x: Any, weights: Any = None, minlength: Any = 0) -> Any:
    """How often each number occurs, or the sums of weights, by which it has derivatives."""
    if not isinstance(weights, Tensor):
        return np.bincount(_array(x), weights, minlength)
    places = _array(x)
    n = max(len(np.bincount(places)), minlength)
    return statistics.counted(as_operand(np.asarray(places, np.int64), False), n, weights, dtypes.FLOAT64)


def _histogram(theirs: Callable[..., Any], several: bool) -> Callable[..., Any]:
    """NumPy's own; where the weights require grad, sums of them in the bins that it says."""
    named = inspect.signature(theirs)

    def histogram(sample: Any, *args: Any, **facts: Any) -> Any:
        given = named.bind(sample, *args, **facts).arguments
        weights = given.get("weights")
        told = of_values(theirs)(sample, *args, **facts)
        if not isinstance(weights, Tensor) or not weights.dtype.is_floating_point:
            return told
        edges = list(told[1]) if several else [*told[1:]]
        if theirs is np.histogram2d:
            columns = [_array(sample), _array(given["y"])]
        else:
            values = _array(sample)
            columns = [values.reshape(-1)] if theirs is np.histogram else [*np.atleast_2d(values.T).astype(float)]
        lengths = [len(edge) - 1 for edge in edges]
        at: Any = 0
        inside: Any = True
        for column, edge, n in zip(columns, edges, lengths, strict=True):
            place = np.where(column == edge[-1], n - 1, np.searchsorted(edge, column, "right") - 1)
            at, inside = at * n + place, inside & (place >= 0) & (place < n)
        places = as_operand(np.where(inside, at, -1).astype(np.int64), False)
        hist = statistics.counted(places, math.prod(lengths), weights, dtypes.FLOAT64).reshape(lengths)
        if given.get("density"):
            hist = hist / hist.sum()
            for d, edge in enumerate(edges):
                hist = hist / as_operand(np.diff(edge).reshape([-1 if k == d else 1 for k in range(len(edges))]), False)
        return (hist, *told[1:])

    return histogram


# By parameters of NumPy's names: `numpy_protocol.py` looks at which are given.
FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.sort: sort,
    np.partition: partition,
    np.unique: unique,
    np.median: _median(False),
    np.nanmedian: _median(True),
    np.quantile: _quantiles("quantile", 1.0, False),
    np.percentile: _quantiles("percentile", 100.0, False),
    np.nanquantile: _quantiles("nanquantile", 1.0, True),
    np.nanpercentile: _quantiles("nanpercentile", 100.0, True),
    np.nansum: _without_nan(np.sum, 0.0),
    np.nanprod: _without_nan(np.prod, 1.0),
    np.nanmean: nanmean,
    np.nanvar: nanvar,
    np.nanstd: nanstd,
    np.nanmax: _extremum(np.max, np.fmax, "amax", -math.inf),
    np.nanmin: _extremum(np.min, np.fmin, "amin", math.inf),
    np.nancumsum: _running("cumsum", 0.0),
    np.nancumprod: _running("cumprod", 1.0),
    np.diff: diff,
    np.rot90: rot90,
    np.vander: lambda x, N=None, increasing=False: contractions["vander"](x, N, increasing),
}
# Called as NumPy's are: their operands stand anywhere among the arguments.
CALLED: dict[Any, Callable[..., Any]] = {
    np.gradient: gradient,
    np.ediff1d: ediff1d,
    np.interp: interp,
    np.block: block,
    np.meshgrid: meshgrid,
    np.pad: pad,
    np.cov: cov,
    np.corrcoef: corrcoef,
    np.bincount: bincount,
    np.histogram: _histogram(np.histogram, False),
    np.histogram2d: _histogram(np.histogram2d, False),
    np.histogramdd: _histogram(np.histogramdd, True),
    np.union1d: _of_two(np.union1d),
    np.intersect1d: _of_two(np.intersect1d),
    np.setdiff1d: _of_two(np.setdiff1d),
    np.setxor1d: _of_two(np.setxor1d),
}
CALLED |= {
    function: _unique_of(function)
    for name in ("unique_all", "unique_counts", "unique_inverse", "unique_values")
    if (function := getattr(np, name, None)) is not None
}
