"""Sums and largest elements of windows, and rows by their numbers.

A linear map along an axis, whose matrix has few elements a row, is what padding, averages over windows and
interpolation are, an axis at a time. The matrix is there twice, by rows and by columns, so that a value and an adjoint
are gathered alike: no two units write to the same element.
"""

import numpy as np

from tapegrad.memory import f8
from tapegrad.ops.declare import TILE, UNITS_OF_B, array_op, times_first

_POSITIONS = 2  # dtype code: int64


def _gather(p, lo, hi, tile, at, of_rows, x, y, adding):
    """y[o, i, c] (+)= sum over the elements of row i of weight x[o, place, c]

    `at` holds (where rows begin, one more, places), by rows, then by columns, and then the weights of both, float64;
    units are parts of the inner axis `c`.
    """
    n, m, inner, parts, nonzero = p[1], p[2], p[3], p[4], p[5]
    weights = f8(at.ctypes.data + 8 * (m + n + 2 + 2 * nonzero), 2 * nonzero)
    begin = 0 if of_rows else m + 1 + nonzero
    rows, columns = (m, n) if of_rows else (n, m)
    places, factors = begin + rows + 1, 0 if of_rows else nonzero
    for unit in range(lo, hi):
        o, part = unit // parts, unit % parts
        for i in range(rows):
            first, last = at[begin + i], at[begin + i + 1]
            to = ((o * rows + i) * parts + part) * inner
            if inner == 1:
                total = np.float64(0)
                for t in range(first, last):
                    total += weights[factors + t] * x[(o * columns + at[places + t]) * parts + part]
                y[to] = y[to] + total if adding else total
                continue
            for start in range(0, inner, TILE):
                result = y[to + start : to + min(start + TILE, inner)]
                if last - first == 1:
                    source = ((o * columns + at[places + first]) * parts + part) * inner + start
                    run, weight = x[source : source + len(result)], x.dtype.type(weights[factors + first])
                    if adding:
                        for c in range(len(result)):
                            result[c] += weight * run[c]
                    else:
                        for c in range(len(result)):
                            result[c] = weight * run[c]
                    continue
                sums = tile[: len(result)]
                sums[:] = 0
                for t in range(first, last):
                    source = ((o * columns + at[places + t]) * parts + part) * inner + start
                    run, factor = x[source : source + len(result)], weights[factors + t]
                    for c in range(len(result)):
                        sums[c] += factor * run[c]
                if adding:
                    for c in range(len(result)):
                        result[c] += sums[c]
                else:
                    for c in range(len(result)):
                        result[c] = sums[c]


@array_op(
    2,
    vjps=(
        lambda p, lo, hi, tile, x, at, y, y_bar, x_bar: _gather(p, lo, hi, tile, at, p[6] == 1, y_bar, x_bar, 1),
        None,
    ),
    partials=(lambda b, g, p, s: map_along(g, b, (*p[:6], 1 - p[6]), s[0]), None),
    signature=lambda code: (code, _POSITIONS, code),
    parts=times_first,
    for_all=(1,),
    linear=True,
)
def map_along(p, lo, hi, tile, x, at, y):
    """y[o, i, c] = sum over j of matrix[i, j] x[o, j, c], or of matrix[j, i] where it is transposed.

    `p`: (outer times parts of the inner axis, columns of the matrix, rows, elements in a part, parts, nonzero elements,
    is transposed); `at` is the matrix, see `_gather`.
    """
    _gather(p, lo, hi, tile, at, p[6] == 0, x, y, 0)


# --- largest elements -------------------------------------------------------------------------------------------------


@array_op(2, signature=lambda code: (code, _POSITIONS, _POSITIONS))
def largest_in_windows(p, lo, hi, x, ranges, y):
    """The flat position of the largest element of each window; of equal ones the first, of nans the last.

    `p`: (planes, lengths of their three axes, numbers of windows along them, steps within a window, 1 where each plane
    has ranges of its own). `ranges` has for each axis where its windows begin, then where they end.
    """
    n1, n2, n3, m1, m2, m3 = p[1], p[2], p[3], p[4], p[5], p[6]
    at = lo * m1 * m2 * m3
    for plane in range(lo, hi):
        first = plane * p[10] * 2 * (m1 + m2 + m3)
        second, third = first + 2 * m1, first + 2 * (m1 + m2)
        for i in range(m1):
            for j in range(m2):
                for l in range(m3):  # noqa: E741 - after i and j
                    place = -1
                    best = x.dtype.type(0)
                    for u in range(ranges[first + i], ranges[first + m1 + i], p[7]):
                        for v in range(ranges[second + j], ranges[second + m2 + j], p[8]):
                            row = ((plane * n1 + u) * n2 + v) * n3
                            for w in range(ranges[third + l], ranges[third + m3 + l], p[9]):
                                value = x[row + w]
                                if place < 0 or value > best or value != value:
                                    place, best = row + w, value
                    y[at] = place
                    at += 1


# --- rows by their numbers --------------------------------------------------------------------------------------------


def _add_rows(target, sums, at, x, inner):
    """target[at[i], :] += x[i, :]"""
    if len(sums) == 0:
        for i in range(len(at)):
            row, run = target[at[i] * inner : (at[i] + 1) * inner], x[i * inner : (i + 1) * inner]
            for c in range(inner):
                row[c] += run[c]
        return
    for i in range(len(at)):
        row, run = sums[at[i] * inner : (at[i] + 1) * inner], x[i * inner : (i + 1) * inner]
        for c in range(inner):
            row[c] += run[c]
    for i in range(len(target)):
        target[i] += sums[i]


@array_op(
    2,
    vjps=(lambda p, sums, x, at, y, y_bar, x_bar: _add_rows(x_bar, sums, at, y_bar, p[0]), None),
    partials=(lambda b, g, p, s: rows_added(g, b, p, s[0]), None),
    units=UNITS_OF_B,
    signature=lambda code: (code, _POSITIONS, code),
    grad_name="EmbeddingBackward0",
    positions=(1, 0),
    linear=True,
)
def rows_taken(p, lo, hi, x, at, y):
    """y[i, :] = x[at[i], :]; `p`: (elements in a row,)."""
    inner = p[0]
    for i in range(lo, hi):
        run, row = y[i * inner : (i + 1) * inner], x[at[i] * inner : (at[i] + 1) * inner]
        for c in range(inner):
            run[c] = row[c]


def _rows_added_vjp(p, lo, hi, x, at, y, y_bar, x_bar):
    inner = p[0]
    for i in range(lo, hi):
        bar, row = x_bar[i * inner : (i + 1) * inner], y_bar[at[i] * inner : (at[i] + 1) * inner]
        for c in range(inner):
            bar[c] += row[c]


@array_op(
    2,
    vjps=(_rows_added_vjp, None),
    partials=(lambda b, g, p, s: rows_taken(g, b, p, s[0]), None),
    units=UNITS_OF_B,
    signature=lambda code: (code, _POSITIONS, code),
    positions=(1, -1),
    linear=True,
)
def rows_added(p, sums, x, at, y):
    """Zeros, with x[i, :] added at row at[i]: the adjoint of `rows_taken`."""
    y[:] = 0
    _add_rows(y, sums, at, x, p[0])
