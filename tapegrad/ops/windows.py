"""Sums and largest elements of windows, and rows by their numbers.

A linear map along an axis, whose matrix has few elements a row, is what padding, averages over windows and
interpolation are, an axis at a time. The matrix is there twice, by rows and by columns, so that a value and an adjoint
are gathered alike: no two units write to the same element.
"""

import numpy as np

from tapegrad.memory import f8
from tapegrad.ops.declare import TILE, UNITS_OF_B, array_op, times_first

_POSITIONS = 2  # dtype code: int64


_LEAST_RUN = 8


def _length_of_run(at, weights, begin, places, i, rows):
    """How many rows, from the i-th on, have one element each, in adjoining places and with one weight."""
    n = 0
    first = at[begin + i]
    while (
        i + n < rows
        and at[begin + i + n + 1] - at[begin + i + n] == 1
        and at[places + first + n] == at[places + first] + n
        and weights[first + n] == weights[first]
    ):
        n += 1
    return n


def _map_run(begins, places, weights, x, y, adding):
    """y[i] (+)= sum over the elements of row i of weight x[place]; rows of one or two elements are written out."""
    first, k = begins[0], begins[1] - begins[0]
    i = 1
    while i < len(y) and begins[i + 1] - begins[i] == k:
        i += 1
    if i >= len(y) and k == 1:
        for j in range(len(y)):
            value = weights[first + j] * x[np.uint64(places[first + j])]
            y[j] = y[j] + value if adding else value
    elif i >= len(y) and k == 2:
        for j in range(len(y)):
            t = first + 2 * j
            value = weights[t] * x[np.uint64(places[t])] + weights[t + 1] * x[np.uint64(places[t + 1])]
            y[j] = y[j] + value if adding else value
    else:
        for j in range(len(y)):
            total = np.float64(0)
            for t in range(begins[j], begins[j + 1]):
                total += weights[t] * x[np.uint64(places[t])]
            y[j] = y[j] + total if adding else total


def _copy_run(x, y, weight, adding):
    """y (+)= weight x"""
    if adding:
        for c in range(len(y)):
            y[c] += weight * x[c]
    else:
        for c in range(len(y)):
            y[c] = weight * x[c]


def _gather(p, lo, hi, tile, at, of_rows, x, y, adding):
    """y[o, i, c] (+)= sum over the elements of row i of weight x[o, place, c]

    `at` holds (where rows begin, one more, places), by rows, then by columns, and then the weights of both, float64;
    units are parts of the inner axis `c`.
    """
    n, m, inner, parts, nonzero = p[1], p[2], p[3], p[4], p[5]
    begin = 0 if of_rows else m + 1 + nonzero
    rows, columns = (m, n) if of_rows else (n, m)
    places = begin + rows + 1
    weights = f8(at.ctypes.data + 8 * (m + n + 2 + (2 if of_rows else 3) * nonzero), nonzero)
    if inner == 1:
        i = 0
        while i < rows:  # rows that are a copy, or all up to the next that are
            count = _length_of_run(at, weights, begin, places, i, rows)
            is_copy = count >= _LEAST_RUN
            if not is_copy:
                count = max(count, 1)
                while i + count < rows and (
                    i + count + _LEAST_RUN > rows
                    or _length_of_run(at, weights, begin, places, i + count, i + count + _LEAST_RUN) < _LEAST_RUN
                ):
                    count += 1
            is_one = count == 1 and at[begin + i + 1] - at[begin + i] == 1
            source, weight = at[places + at[begin + i]], x.dtype.type(weights[at[begin + i]])
            for o in range(lo, hi):
                of, to = o * columns, o * rows + i
                if is_copy:
                    _copy_run(x[of + source : of + source + count], y[to : to + count], weight, adding)
                elif is_one:
                    value = weight * x[np.uint64(of + source)]
                    y[to] = y[to] + value if adding else value
                else:
                    _map_run(
                        at[begin + i : begin + i + count + 1], at[places : places + nonzero], weights,
                        x[of : of + columns], y[to : to + count], adding
                    )  # fmt: skip
            i += count
        return
    for unit in range(lo, hi):
        o, part = unit // parts, unit % parts
        for i in range(rows):
            first, last = at[begin + i], at[begin + i + 1]
            to = ((o * rows + i) * parts + part) * inner
            for start in range(0, inner, TILE):
                result = y[to + start : to + min(start + TILE, inner)]
                if last - first == 1:
                    source = ((o * columns + at[places + first]) * parts + part) * inner + start
                    _copy_run(x[source : source + len(result)], result, x.dtype.type(weights[first]), adding)
                    continue
                sums = tile[: len(result)]
                sums[:] = 0
                for t in range(first, last):
                    source = ((o * columns + at[places + t]) * parts + part) * inner + start
                    run, factor = x[source : source + len(result)], weights[t]
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


def _take_larger(x, begins, row, places):
    """The places of larger elements, `row` behind where windows begin; without branches, often taken by mistake."""
    for l in range(len(places)):  # noqa: E741 - as below
        place = row + begins[l]
        value, best = x[np.uint64(place)], x[np.uint64(places[l])]
        mask = -np.int64((value > best) | (value != value))
        places[l] = (place & mask) | (places[l] & ~mask)


def _take_larger_inside(x, begins, ends, row, w, places):
    """Of those windows that go so far."""
    for l in range(len(places)):  # noqa: E741
        place = row + begins[l] + w
        if begins[l] + w < ends[l]:
            value = x[np.uint64(place)]
            if value > x[np.uint64(places[l])] or value != value:
                places[l] = place


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
        begins, ends = ranges[third : third + m3], ranges[third + m3 : third + 2 * m3]
        narrowest, widest = n3, 0
        for l in range(m3):  # noqa: E741 - after i and j
            narrowest, widest = min(narrowest, ends[l] - begins[l]), max(widest, ends[l] - begins[l])
        for i in range(m1):
            for j in range(m2):
                places = y[at : at + m3]
                at += m3
                row = ((plane * n1 + ranges[first + i]) * n2 + ranges[second + j]) * n3
                for l in range(m3):  # noqa: E741
                    places[l] = row + begins[l]
                for u in range(ranges[first + i], ranges[first + m1 + i], p[7]):
                    for v in range(ranges[second + j], ranges[second + m2 + j], p[8]):
                        row = ((plane * n1 + u) * n2 + v) * n3
                        for w in range(0, widest, p[9]):
                            if w < narrowest:
                                _take_larger(x, begins, row + w, places)
                            else:
                                _take_larger_inside(x, begins, ends, row, w, places)


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
