"""Loops over a whole axis at once, for kernels over `x[outer, n, inner]`: their parameters `p` begin with these three.

With an inner length of 1, by far the most frequent, an axis is a run of memory, and gets loops that LLVM vectorises;
else axes are columns, of which so many are taken at once that the loops over these are vectorised.

Whatever the dtype, sums are float64 until they are complete, but for parts so short that float32 loses nothing.
"""

import numpy as np

from tapegrad import vectormath
from tapegrad.memory import larger, plus
from tapegrad.ops.arithmetic import _times
from tapegrad.ops.declare import PART, TILE


def extreme(run, better):
    """The largest or smallest element of a run, nan where there is one; of none, 0."""
    best = run[0] if len(run) > 0 else run.dtype.type(0)
    for k in range(len(run)):  # from the first: as many as registers hold, as a rule
        best = better(best, run[k])
    return best


# Sums of float32 are float64, but for parts so short that float32 loses nothing; of float64, a run is one part. Here a
# loop takes longer to begin than in `kernels`.
LONG_PART = 2 * PART


def _part(run):
    total = run.dtype.type(0)
    for k in range(len(run)):
        total = plus(total, run[k])
    return total


def total_of(run):
    """The sum of a run, in float64."""
    if run.itemsize == 8:
        return _part(run)
    total = np.float64(0)
    for first in range(0, len(run), LONG_PART):
        total += _part(run[first : first + LONG_PART])
    return total


def _part_of_exp(run, shift):
    total = run.dtype.type(0)
    for k in range(len(run)):
        total = plus(total, vectormath.exp(run[k] - shift))
    return total


def total_of_exp(run, shift):
    """The sum of exp(run - shift), in float64."""
    if run.itemsize == 8:
        return _part_of_exp(run, shift)
    total = np.float64(0)
    for first in range(0, len(run), LONG_PART):
        total += _part_of_exp(run[first : first + LONG_PART], shift)
    return total


def _part_of_products(run, other):
    total = run.dtype.type(0)
    for k in range(len(run)):
        total = plus(total, _times(run[k], other[k]))
    return total


def total_of_products(run, other):
    """The sum of run * other, in float64, where zero times anything is zero."""
    if run.itemsize == 8:
        return _part_of_products(run, other)
    total = np.float64(0)
    for first in range(0, len(run), LONG_PART):
        total += _part_of_products(run[first : first + LONG_PART], other[first : first + LONG_PART])
    return total


def run_of(x, p, o):
    """The elements of an axis that is a run of memory."""
    return x[o * p[1] : (o + 1) * p[1]]


def axis_of(x, p, o, i):
    """The elements of any axis, so many apart."""
    return x[o * p[1] * p[2] + i : (o + 1) * p[1] * p[2] : p[2]]


# How many columns are taken at once: as many as two numbers for each have room in a tile, or less.
COLUMNS = TILE // 16


def row_of(x, p, o, k, first, m):
    """The elements of columns [first, first + m), the axes' k-th."""
    at = (o * p[1] + k) * p[2] + first
    return x[at : at + m]


def peaks_of(x, p, o, first, peaks):
    """The largest elements of columns, into `peaks`."""
    for i in range(len(peaks)):
        peaks[i] = -np.inf
    for k in range(p[1]):
        row = row_of(x, p, o, k, first, len(peaks))
        for i in range(len(row)):
            peaks[i] = larger(peaks[i], np.float64(row[i]))


def totals_of_exp(x, p, o, first, shifts, totals):
    """The sums of exp(columns - shifts), into `totals`."""
    for i in range(len(totals)):
        totals[i] = 0
    for k in range(p[1]):
        row = row_of(x, p, o, k, first, len(totals))
        for i in range(len(row)):
            totals[i] += vectormath.exp(row[i] - x.dtype.type(shifts[i]))


def along_axis(x, p):
    """A Tensor as [outer, n, inner]."""
    return x.reshape(p[0], p[1], p[2])


def across_axis(y, p):
    """A reduced Tensor as [outer, 1, inner]."""
    return y.reshape(p[0], 1, p[2])


def above(v, best):
    """Whether an element is larger than the largest so far."""
    return v > best


def below(v, best):
    """Whether an element is smaller than the smallest so far."""
    return v < best
