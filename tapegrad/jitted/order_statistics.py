"""NumPy's quantiles, partitions, and what passes over nan, of arrays of active scalars.

Each is a loop in plain code (see `library.py`), in Numba's own order; where Numba selects by its own algorithm, values
are Numba's, and derivatives those of the elements that are found in their order.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numba.core import types

from tapegrad.jitted.active import is_active_array
from tapegrad.jitted.arrays import values
from tapegrad.jitted.inner import define
from tapegrad.jitted.library import loop, replaces
from tapegrad.jitted.lifting import with_value
from tapegrad.jitted.rearrangements import _diff
from tapegrad.jitted.reductions import _of_ties

# --- reductions that pass over nan ------------------------------------------------------------------------------------


@njit
def _nansum(a):
    total = 0.0
    for x in a.flat:
        if not np.isnan(x):
            total += x
    return total


@njit
def _nanprod(a):
    product = 1.0
    for x in a.flat:
        if not np.isnan(x):
            product = product * x
    return product


@njit
def _nanmean(a):
    total, count = 0.0, 0
    for x in a.flat:
        if not np.isnan(x):
            total += x
            count += 1
    return np.divide(total, count)


@njit
def _nanvar(a):
    mean = _nanmean(a)
    squares, count = 0.0, 0
    for x in a.flat:
        if not np.isnan(x):
            squares += (x - mean) * (x - mean)
            count += 1
    return np.divide(squares, count)


@njit
def _nanstd(a):
    variance = _nanvar(a)
    return 0.0 if variance == 0.0 else variance**0.5  # as of `std`


@njit
def _nanmax(a):
    return _of_ties(a, np.nanmax(values(a)))


@njit
def _nanmin(a):
    return _of_ties(a, np.nanmin(values(a)))


@njit
def _numbers_in_order(a):
    """Where numbers are in their order, those that are equal as they were, and how many there are."""
    flat = values(a.ravel())
    order = np.argsort(flat, kind="mergesort")
    count = 0
    for v in flat:
        if not np.isnan(v):
            count += 1
    return order, count


@njit
def _nanmedian(a):
    plain = np.nanmedian(values(a))
    order, n = _numbers_in_order(a)
    flat = a.ravel()
    if n == 0:
        return np.nan
    return with_value(0.5 * (flat[order[(n - 1) // 2]] + flat[order[n // 2]]), plain)


@njit
def _nancumsum(a):
    result, total = a.flatten(), 0.0
    for i in range(result.size):
        if not np.isnan(result[i]):
            total = total + result[i]
        result[i] = total
    return result


@njit
def _nancumprod(a):
    result, product = a.flatten(), 1.0
    for i in range(result.size):
        if not np.isnan(result[i]):
            product = product * result[i]
        result[i] = product
    return result


def _declare(function, of_all):
    @replaces(function)
    def reduction(a):
        return loop(of_all, a) if is_active_array(a) else None


for _function, _of_all in {
    np.nansum: _nansum, np.nanprod: _nanprod, np.nanmean: _nanmean, np.nanvar: _nanvar, np.nanstd: _nanstd,
    np.nanmax: _nanmax, np.nanmin: _nanmin, np.nanmedian: _nanmedian, np.nancumsum: _nancumsum,
    np.nancumprod: _nancumprod,
}.items():  # fmt: skip
    _declare(_function, _of_all)


# --- quantiles --------------------------------------------------------------------------------------------------------

_OF_SEVERAL = """
def several(a, q):
 plain, fractions = function(values(a), values(q)), values(q).ravel()
 order, n = _numbers_in_order(a)
 flat, result = a.ravel(), np.empty(plain.size)
 for i in range(plain.size):
  result[i] = _at_rank(flat, order, n, fractions[i] / {scale}, plain[i])
 return result
"""
_OF_ONE = """
def one(a, q):
 order, n = _numbers_in_order(a)
 return _at_rank(a.ravel(), order, n, values_of_one(q) / {scale}, function(values(a), values_of_one(q)))
"""


@njit
def _at_rank(flat, order, n, fraction, plain):
    """Between the two elements next to a rank; with Numba's value."""
    if n == 0 or np.isnan(plain):
        return with_value(flat[order[order.size - 1]] + 0.0, plain)
    rank = (n - 1) * fraction
    k = min(int(rank), n - 1)
    weight = rank - k
    return with_value(flat[order[k]] * (1.0 - weight) + flat[order[min(k + 1, n - 1)]] * weight, plain)


@njit
def _value_of_one(q):
    return q


def _declare_quantile(function, scale):
    scope = {
        "np": np, "values": values, "function": function, "_numbers_in_order": _numbers_in_order, "_at_rank": _at_rank,
        "values_of_one": _value_of_one,
    }  # fmt: skip
    one, several = (
        njit(define(text.format(scale=scale), name, dict(scope)))
        for text, name in ((_OF_ONE, "one"), (_OF_SEVERAL, "several"))
    )

    @replaces(function)
    def quantile(a, q):
        if not is_active_array(a):
            return None
        if isinstance(q, (types.Integer, types.Float, int, float)):
            return loop(one, a)
        return loop(several, a) if isinstance(q, types.Array) else None


for _function, _scale in {np.percentile: 100.0, np.quantile: 1.0, np.nanpercentile: 100.0, np.nanquantile: 1.0}.items():
    _declare_quantile(_function, _scale)


# --- partitions and differences ---------------------------------------------------------------------------------------


@replaces(np.partition)
def partition(a, kth):
    """A vector with one element, or several, where all in order would have it."""
    return loop(_partition, a) if is_active_array(a) and a.ndim == 1 else None


@njit
def _partition(a, kth):
    plain = np.partition(values(a), kth)
    order, places = np.argsort(values(a), kind="mergesort"), np.argsort(plain, kind="mergesort")
    result = np.empty(a.size)
    for i in range(a.size):
        result[places[i]] = a[order[i]]
    return result


@replaces(np.ediff1d)
def ediff1d(ary, to_end=None, to_begin=None):
    """The differences of neighbours among all elements."""
    if not is_active_array(ary) or to_end is not None or to_begin is not None:
        return None
    differences = loop(_diff, ary)
    return lambda ary: differences(ary.ravel())


# --- counting and taking ----------------------------------------------------------------------------------------------


@replaces(np.bincount)
def bincount(a, weights=None, minlength=0):
    """Sums of weights, by the numbers beside them."""
    return loop(_bincount, weights) if is_active_array(weights) and weights.ndim == 1 else None


@njit
def _bincount(a, weights, minlength):
    result = np.zeros(np.bincount(a, values(weights), minlength).size)
    for i in range(a.size):
        result[a[i]] += weights[i]
    return result


@replaces(np.take, method="take")
def take(a, indices, axis=None):
    """The elements at places among all."""
    is_of_places = isinstance(indices, types.Array) and isinstance(indices.dtype, types.Integer)
    if axis is not None or not is_active_array(a) or not is_of_places:
        return None
    return loop(_take, a)


@njit
def _take(a, indices):
    np.take(values(a), indices)  # raises what it raises
    result, flat, i = np.empty(indices.size), a.ravel(), 0
    for place in indices.flat:
        result[i] = flat[place]
        i += 1
    return result.reshape(indices.shape)


@replaces(np.trapezoid)
def trapezoid(y, x=None, dx=1.0):
    """The integral of a vector by the trapezoidal rule."""
    if any(isinstance(k, types.Array) and k.ndim != 1 for k in (y, x)) or not isinstance(y, types.Array):
        return None
    if x is None:
        return loop(_trapezoid, y, dx)
    return loop(_trapezoid_of_points, y, x) if isinstance(x, types.Array) else None


@njit
def _trapezoid(y, x, dx):
    total = 0.0
    for i in range(y.size - 1):
        total += dx * (y[i + 1] + y[i]) / 2.0
    return total


@njit
def _trapezoid_of_points(y, x):
    total = 0.0
    for i in range(y.size - 1):
        total += (x[i + 1] - x[i]) * (y[i + 1] + y[i]) / 2.0
    return total
