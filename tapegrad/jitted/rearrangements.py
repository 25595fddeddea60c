"""NumPy's functions that move elements of arrays of active scalars: sorting, joining, repeating, triangles.

Each is a loop in plain code (see `library.py`), or, where elements are only moved, NumPy's own function.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import njit
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.arrayobj import load_item, make_array, store_item

from tapegrad.jitted.active import Active, Narrow, is_active_array, is_narrow_array
from tapegrad.jitted.arrays import dtype_of, values
from tapegrad.jitted.checking import ALLOWED
from tapegrad.jitted.complex_numbers import is_scalar
from tapegrad.jitted.inner import define, inside
from tapegrad.jitted.library import constant, loop, replaces
from tapegrad.jitted.lifting import with_value
from tapegrad.jitted.reductions import is_sequence


@njit
def _sort(a):
    order = np.argsort(values(a))
    result = np.empty_like(a)
    for i in range(a.size):
        result[i] = a[order[i]]
    return result


@replaces(None, method="sort", is_single=True)
def sort_in_place(a, key=None, reverse=False):
    """Sort a vector, or a list, in place."""
    if isinstance(a, (types.List, types.ListType)):
        is_plain = key is None and isinstance(a.dtype, (Active, Narrow))  # not tuples, which are compared by items
        return loop(_sort_list, a) if is_plain else (lambda a, key, reverse: a.sort(key=key, reverse=reverse))
    return loop(_sort_in_place, a) if (is_active_array(a) or is_narrow_array(a)) and a.ndim == 1 else None


@njit
def _sort_in_place(a):
    a[:] = np.sort(a)


@njit
def _sort_list(a, reverse):
    items = _sorted(a, reverse)
    for i in range(len(a)):
        a[i] = items[i]


@replaces(sorted)
def sorted_list(iterable, key=None, reverse=False):
    """A sorted list of a vector's, or a list's, items."""
    if key is not None:
        return lambda iterable, key, reverse: sorted(iterable, key=key, reverse=reverse)
    return loop(_sorted, iterable) if is_sequence(iterable) else None


@njit
def _sorted(iterable, reverse):
    items = np.empty(len(iterable))
    for i in range(items.size):
        items[i] = iterable[i]
    order, plain = _in_order(values(items), reverse)
    return [with_value(items[order[i]], plain[i]) for i in range(items.size)]


@inside
def _in_order(items, reverse):
    """The order of items, in which equal ones stay as they are, and the list in it."""
    plain = list(items)
    plain.sort(reverse=reverse)
    return (-items if reverse else items).argsort(kind="mergesort"), plain


@replaces(np.diff)
def diff(a, n=1):
    """Differences of a vector's neighbours."""
    return loop(_diff, a) if is_active_array(a) and a.ndim == 1 and n == 1 else None


@njit
def _diff(a):
    result = np.empty(max(a.size - 1, 0))
    for i in range(result.size):
        result[i] = a[i + 1] - a[i]
    return result


def _joined(arrays: Any) -> int | None:
    """The number of dimensions of arrays in a tuple, if they are of numbers and all have as many."""
    if not _are_numbers(arrays):
        return None
    dims = {a.ndim for a in arrays}
    return dims.pop() if len(dims) == 1 else None


def _are_numbers(arrays: Any) -> bool:
    """Whether it is a tuple of arrays of numbers."""
    return isinstance(arrays, types.BaseTuple) and all(
        isinstance(a, types.Array) and (is_scalar(a.dtype) or isinstance(a.dtype, Narrow)) for a in arrays
    )


@replaces(np.concatenate, is_single=True)
def concatenate(arrays, axis=0):
    """Arrays one after the other along an axis."""
    ndim = _joined(arrays)
    if ndim is None or ndim == 0:
        return None
    try:
        at = constant(axis) % ndim
    except TypeError:
        return None
    return loop(_concatenation(len(arrays), ndim, at, dtype_of(*arrays)), arrays)


@intrinsic
def copy_into(typingctx: Any, out: Any, a: Any) -> Any:
    """The elements of an array, into one of the same shape.

    An assignment to a slice does that too, but the text of its error, with both shapes, takes as long to compile as all
    the rest of a function.
    """

    def copy(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        into, source = (make_array(kind)(context, builder, array) for kind, array in zip(sig.args, args, strict=True))
        with cgutils.loop_nest(builder, cgutils.unpack_tuple(builder, source.shape), cgutils.intp_t) as indices:
            at = cgutils.get_item_pointer(context, builder, a, source, indices)
            element = context.cast(builder, load_item(context, builder, a, at), a.dtype, out.dtype)
            store_item(context, builder, out, element, cgutils.get_item_pointer(context, builder, out, into, indices))
        return context.get_dummy_value()

    return types.void(out, a), copy


ALLOWED.add(copy_into)
OTHER_SHAPE = "np.stack(): all input arrays must have the same shape"  # as Numba says
_SCOPE = {"np": np, "copy_into": copy_into}


@functools.cache
def _concatenation(n: int, ndim: int, axis: int, dtype: str) -> Any:
    lines = ["def joined(arrays):"]
    for k in range(1, n):
        for i in set(range(ndim)) - {axis}:
            text = f"np.concatenate(): input sizes over dimension {i} do not match"
            lines += [f" if arrays[{k}].shape[{i}] != arrays[0].shape[{i}]:", f'  raise ValueError("{text}")']
    lines.append(f" n = {' + '.join(f'arrays[{k}].shape[{axis}]' for k in range(n))}")
    shape = "".join("n, " if i == axis else f"arrays[0].shape[{i}], " for i in range(ndim))
    lines += [f" out = np.empty(({shape}), {dtype})", " at = 0"]
    for k in range(n):
        window = ", ".join(f"at : at + arrays[{k}].shape[{axis}]" if i == axis else ":" for i in range(ndim))
        lines += [f" copy_into(out[{window}], arrays[{k}])", f" at += arrays[{k}].shape[{axis}]"]
    return njit(define("\n".join([*lines, " return out"]), "joined", _SCOPE))


@functools.cache
def stacking(n: int, ndim: int, dtype: str, axis: int = 0) -> Any:
    """A loop that puts arrays beside each other along a new axis."""
    lengths = [f"arrays[0].shape[{i}]" for i in range(ndim)]
    shape = ", ".join([*lengths[:axis], str(n), *lengths[axis:]])
    lines = ["def stacked(arrays):"]
    for k in range(1, n):
        lines += [f" if arrays[{k}].shape != arrays[0].shape:", f'  raise ValueError("{OTHER_SHAPE}")']
    lines += [f" out = np.empty(({shape}{',' * (ndim == 0)}), {dtype})"]
    for k in range(n):
        place = ", ".join([":"] * axis + [str(k)])
        lines.append(f" copy_into(out[{place}], arrays[{k}])" if ndim else f" out[{place}] = arrays[{k}][()]")
    return njit(define("\n".join([*lines, " return out"]), "stacked", _SCOPE))


@replaces(np.vstack, *filter(None, [getattr(np, "row_stack", None)]), is_single=True)  # which NumPy 2.5 has no more
def vstack(tup):
    """Rows on top of each other."""
    ndim = _joined(tup)
    if ndim == 1:
        return loop(stacking(len(tup), 1, dtype_of(*tup)), tup)
    return loop(_concatenation(len(tup), ndim, 0, dtype_of(*tup)), tup) if ndim else None


@replaces(np.hstack, is_single=True)
def hstack(tup):
    """Arrays beside each other."""
    ndim = _joined(tup)
    return loop(_concatenation(len(tup), ndim, int(ndim > 1), dtype_of(*tup)), tup) if ndim else None


@replaces(np.column_stack, is_single=True)
def column_stack(tup):
    """Vectors as columns, beside columns that are there."""
    ndim = _joined(tup)
    if ndim == 1:
        rows = loop(stacking(len(tup), 1, dtype_of(*tup)), tup)
        return lambda tup: rows(tup).T.copy()
    if ndim == 2:
        return loop(_concatenation(len(tup), 2, 1, dtype_of(*tup)), tup)
    return loop(_beside(tuple(k.ndim for k in tup), dtype_of(*tup)), tup) if _are_numbers(tup) else None


@functools.cache
def _beside(dims: tuple[int, ...], dtype: str) -> Any:
    """A loop that puts vectors and matrices beside each other, vectors as columns."""
    columns = ", ".join(f"tup[{k}].reshape(tup[{k}].size, 1)" if n == 1 else f"tup[{k}]" for k, n in enumerate(dims))
    scope = {"joined": _concatenation(len(dims), 2, 1, dtype)}
    return njit(define(f"def beside(tup):\n return joined(({columns},))", "beside", scope))


@replaces(np.append)
def append(arr, values, axis=None):
    """Numba's own code: it needs an axis that is known when compiling."""


@replaces(np.repeat, method="repeat")
def repeat(a, repeats):
    """Each element so many times."""
    return loop(_repeat, a) if is_active_array(a) and isinstance(repeats, types.Integer) else None


@njit
def _repeat(a, repeats):
    result = np.empty(a.size * repeats)
    flat = a.ravel()
    for i in range(a.size):
        for k in range(repeats):
            result[i * repeats + k] = flat[i]
    return result


@replaces(np.roll)
def roll(a, shift):
    """Elements moved on, the last ones to the front."""
    return loop(_roll, a) if is_active_array(a) else None


@njit
def _roll(a, shift):
    result = np.empty(a.size)
    flat = a.ravel()
    for i in range(a.size):
        result[(i + shift) % a.size] = flat[i]
    return result.reshape(a.shape)


@replaces(np.diag)
def diag(v, k=0):
    """The diagonal of a matrix, or the matrix of a diagonal."""
    if not is_active_array(v) or v.ndim > 2:
        return None
    return loop(_diag_matrix if v.ndim == 1 else _diag_of, v)


@njit
def _diag_matrix(v, k):
    n = v.size + abs(k)
    result = np.zeros((n, n))
    for i in range(v.size):
        result[i + max(-k, 0), i + max(k, 0)] = v[i]
    return result


@njit
def _diag_of(v, k):
    row, column = max(-k, 0), max(k, 0)
    result = np.empty(max(min(v.shape[0] - row, v.shape[1] - column), 0))
    for i in range(result.size):
        result[i] = v[row + i, column + i]
    return result


@replaces(np.triu)
def triu(m, k=0):
    """The upper triangle."""
    return loop(_triu, m) if is_active_array(m) and m.ndim == 2 else None


@njit
def _triu(m, k):
    result = np.zeros(m.shape)
    for i in range(m.shape[0]):
        for j in range(max(i + k, 0), m.shape[1]):
            result[i, j] = m[i, j]
    return result


@replaces(np.tril)
def tril(m, k=0):
    """The lower triangle."""
    return loop(_tril, m) if is_active_array(m) and m.ndim == 2 else None


@njit
def _tril(m, k):
    result = np.zeros(m.shape)
    for i in range(m.shape[0]):
        for j in range(min(i + k + 1, m.shape[1])):
            result[i, j] = m[i, j]
    return result


@replaces(None, method="item")
def item(a):
    """The one element."""
    return loop(_item, a) if is_active_array(a) else None


@njit
def _item(a):
    if a.size != 1:
        raise ValueError("item(): cannot convert array to a scalar")
    return a.flat[0] + 0.0
