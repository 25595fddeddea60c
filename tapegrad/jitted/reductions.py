"""NumPy's reductions of arrays of active scalars, of all elements or along an axis, and running sums.

Each is a loop in plain code (see `library.py`), in Numba's own order of summation.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import numpy as np
from numba import njit
from numba.core import types

from tapegrad.jitted.active import PASSIVE, Active, is_active_array, is_complex_array, is_narrow_array
from tapegrad.jitted.arrays import dtype_of, values
from tapegrad.jitted.inner import define
from tapegrad.jitted.library import BY_NAME, constant, loop, replaces
from tapegrad.jitted.lifting import with_value


def _reduction(a: Any, axis: Any, of_all: Any) -> Any:
    """The loop over all elements; or along axes, which are known when compiling."""
    if isinstance(a, Active) and axis is None:
        return loop(_of_number(of_all), a)
    if is_narrow_array(a):
        of_all = _NARROW.get(of_all)
    elif is_complex_array(a):
        of_all = _OF_COMPLEX.get(of_all)
    elif not is_active_array(a):
        of_all = None
    if of_all is None:
        return None
    if axis is not None:
        try:
            axes = tuple(map(constant, axis)) if isinstance(axis, types.BaseTuple) else (constant(axis),)
        except TypeError:
            return None
        known = frozenset(k % a.ndim for k in axes if -a.ndim <= k < a.ndim)
        if len(known) < len(axes):  # an error of Numba's
            return (lambda a, axis: np.sum(values(a), axis)) if of_all in (_sum, _narrow_sum) else None
        if not axes:
            return lambda a: a.copy()
        if len(axes) < a.ndim:
            return loop(_along(of_all, a.ndim, known, dtype_of(a), a.layout == "F"), a)
    reduce = loop(of_all, a)
    return (lambda a: reduce(a.T)) if a.layout == "F" else (lambda a: reduce(a))


@functools.cache
def _of_number(of_all: Any) -> Any:
    """A number is reduced as an array of one."""
    return njit(define("def alone(a):\n return of_all(np.array([a]))", "alone", {"np": np, "of_all": of_all}))


@functools.cache
def _along(of_all: Any, ndim: int, axes: frozenset[int], dtype: str, is_transposed: bool) -> Any:
    """A loop that reduces what lies along axes, in the order of memory."""
    shape = "".join(f"a.shape[{i}], " for i in range(ndim) if i not in axes)
    names = [f"i{i}" for i in range(ndim)]
    outer = [name for i, name in enumerate(names) if i not in axes]
    part = ", ".join(":" if i in axes else name for i, name in enumerate(names))
    lines = ["def along(a):", f" out = np.empty(({shape}), {dtype})"]
    for depth, name in enumerate(outer):
        lines.append(" " * (depth + 1) + f"for {name} in range(a.shape[{name[1:]}]):")
    order = ".T" if is_transposed and len(axes) > 1 else ""
    lines.append(" " * (len(outer) + 1) + f"out[{', '.join(outer)}] = of_all(a[{part}]{order})")
    scope = {"np": np, "of_all": of_all}
    return njit(define("\n".join([*lines, " return out"]), "along", scope))


@njit
def _sum(a):
    total = 0.0
    for x in a.flat:
        total += x
    return total


@njit
def _mean(a):
    total = 0.0
    for x in a.flat:
        total += x
    return np.divide(total, a.size)


@njit
def _prod(a):
    product = 1.0
    for x in a.flat:
        product = product * x
    return product


@njit
def _var(a):
    mean = _mean(a)
    squares = 0.0
    for x in a.flat:
        squares += (x - mean) * (x - mean)
    return squares / a.size


@njit
def _std(a):
    variance = _var(a)
    return 0.0 if variance == 0.0 else variance**0.5  # there its derivative is infinite; 0 is between its sides'


@njit
def _max(a):
    return _of_ties(a, np.max(values(a)))


@njit
def _min(a):
    return _of_ties(a, np.min(values(a)))


@njit
def _of_ties(a, best):
    """The best element, as the mean of those that tie, which share its derivative; if it is nan, of the nans."""
    total, ties = 0.0, 0
    for x in a.flat:
        if x == best or (x != x and best != best):
            total += x
            ties += 1
    return with_value(np.divide(total, ties), best)


@njit
def _ptp(a):
    if a.size == 0:
        raise ValueError("zero-size array reduction not possible")
    return _max(a) - _min(a)


@njit
def _median(a):
    if a.size == 0:
        return np.nan
    plain = np.median(values(a))
    order = np.argsort(values(a.ravel()))
    flat, n = a.ravel(), a.size
    if n % 2 == 1:
        return with_value(flat[order[n // 2]] + 0.0, plain)
    return with_value(0.5 * (flat[order[n // 2 - 1]] + flat[order[n // 2]]), plain)


# --- of complex numbers -----------------------------------------------------------------------------------------------


@njit
def _complex_var(a):
    mean = _mean(a)
    squares = 0.0
    for x in a.flat:
        away = x - mean
        squares += away.real * away.real + away.imag * away.imag
    return squares / a.size


@njit
def _complex_std(a):
    variance = _complex_var(a)
    return 0.0 if variance == 0.0 else variance**0.5


_OF_COMPLEX = {_sum: _sum, _mean: _mean, _prod: _prod, _var: _complex_var, _std: _complex_std}


# --- of single precision, in which Numba adds up too ------------------------------------------------------------------


@njit
def _narrow_sum(a):
    total = np.float32(0.0)
    for x in a.flat:
        total = total + x
    return total


@njit
def _narrow_mean(a):
    return np.float32(np.divide(_narrow_sum(a), a.size))


@njit
def _narrow_prod(a):
    product = np.float32(1.0)
    for x in a.flat:
        product = product * x
    return product


@njit
def _narrow_max(a):
    return np.float32(_max(a))


@njit
def _narrow_min(a):
    return np.float32(_min(a))


_NARROW = {_sum: _narrow_sum, _mean: _narrow_mean, _prod: _narrow_prod, _max: _narrow_max, _min: _narrow_min}


def _declare_reduction(of_all: Any, *functions: Any, method: str | None) -> None:
    @replaces(*functions, method=method, is_single=True)
    def reduction(a, axis=None):
        return _reduction(a, axis, of_all)


_declare_reduction(_sum, np.sum, method="sum")
_declare_reduction(_mean, np.mean, method="mean")
_declare_reduction(_prod, np.prod, method="prod")
_declare_reduction(_var, np.var, method="var")
_declare_reduction(_std, np.std, method="std")
_declare_reduction(_max, np.max, np.amax, method="max")
_declare_reduction(_min, np.min, np.amin, method="min")
_declare_reduction(_ptp, np.ptp, method=None)
_declare_reduction(_median, np.median, method=None)


def _declare_of_values(function: Any, method: str | None, parameters: str) -> None:
    """A function that gives plain results, of the values."""
    names = [p.split("=")[0] for p in parameters.split(", ")]
    call = ", ".join(f"values({n})" if n in ("a", "b", "v") else f"{n}={n}" if n in BY_NAME else n for n in names)
    scope: dict[str, Any] = {"values": values, "function": function}
    choose_all = define(
        f"def choose({parameters}):\n return lambda {', '.join(names)}: function({call})", "choose", scope
    )
    short = [n for n in names if n in ("a", "b", "v")]
    plain = ", ".join(f"values({n})" for n in short)
    text = f"def choose({parameters}):\n return lambda {', '.join(short)}: function({plain})"
    choose_short = define(text, "choose", scope)

    def choose(**kinds: Any) -> Any:
        given = all(kinds[n] is not None for n in names)
        return (choose_all if given else choose_short)(**kinds)

    choose.__signature__ = inspect.signature(choose_all)
    replaces(function, method=method, is_single=True)(choose)


for _function, _method, _parameters in (
    (np.argmax, "argmax", "a, axis=None"), (np.argmin, "argmin", "a, axis=None"),
    (np.argpartition, None, "a, kth"),
    (np.argsort, "argsort", "a, kind=None"),
    (np.any, "any", "a"), (np.all, "all", "a"), (np.count_nonzero, None, "a, axis=None"), (np.nonzero, "nonzero", "a"),
    (np.searchsorted, None, "a, v, side=None"), (np.allclose, None, "a, b, rtol=None, atol=None"),
    (np.isclose, None, "a, b, rtol=None, atol=None"), (np.array_equal, None, "a, b"), (np.argwhere, None, "a"),
    (np.flatnonzero, None, "a"),
):  # fmt: skip
    _declare_of_values(_function, _method, _parameters)


def is_sequence(kind: Any) -> bool:
    """Whether a type is that of a sequence of numbers of one type."""
    if isinstance(kind, types.Array):
        return bool(kind.ndim == 1)
    return isinstance(kind, (types.List, types.ListType, types.UniTuple)) and isinstance(kind.dtype, Active)


@replaces(sum)
def sum_of_items(iterable, start=0):
    """A sum of items, from left to right."""
    if is_sequence(iterable):
        return loop(_sum_of_items, iterable, start)
    if isinstance(iterable, types.BaseTuple) and all(isinstance(k, (Active, *PASSIVE)) for k in iterable):
        return loop(_sum_of_tuple(len(iterable)), iterable, start)
    return None


@njit
def _sum_of_items(iterable, start):
    total = start
    for item in iterable:
        total = total + item
    return total


@functools.cache
def _sum_of_tuple(n: int) -> Any:
    items = "".join(f" + iterable[{k}]" for k in range(n))
    return njit(define(f"def total(iterable, start):\n return start{items}", "total", {}))
