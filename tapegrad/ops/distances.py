"""Euclidean distances between all rows of matrices, from differences: products would lose digits.

One side is turned by the block, so that loops go over rows. Parameters `p` of a[batches, n, k], b[batches, m, k] and
y[batches, n, m]:

    (batches, n, m, k, elements of memory, units)

Units are rows of a, or of b as large a part. Squares of float32 are summed in float32 in parts, as everywhere.
"""

import numpy as np

from tapegrad.memory import larger, plus
from tapegrad.ops.arithmetic import _times
from tapegrad.ops.declare import PART, array_op
from tapegrad.ops.linalg import turn
from tapegrad.ops.logic import where

BATCHES, N, M, K, ROOM, UNITS = range(6)
_BLOCK = PART  # rows that are turned at once, and terms of a sum
# Roots of sums of squares, float64's and float32's, above which nothing that counts has underflowed.
_LEAST, _LEAST_SINGLE = 1e-140, 1e-12


def parameters(batches: int, n: int, m: int, k: int) -> tuple[int, ...]:
    """Those of matrices of such lengths."""
    return batches, n, m, k, _BLOCK * (k + 1), batches * n


def _scaled_norm(x, turned, j, count):
    """The norm of a difference whose squares would overflow or underflow, by its largest element."""
    largest, total = x.dtype.type(0), np.float64(0)
    for c in range(len(x)):
        largest = larger(largest, abs(x[c] - turned[c * count + j]))
    if largest == 0 or not largest < np.inf:
        return largest
    for c in range(len(x)):
        part = np.float64((x[c] - turned[c * count + j]) / largest)
        total += part * part
    return x.dtype.type(largest * np.sqrt(total))


def _add_squares(x, turned, first, last, y):
    """y[j] += the squares of x[c] - turned[c, j], c from first to last."""
    n = len(y)
    four = first + (last - first) // 4 * 4
    for c in range(first, four, 4):
        u, v = turned[c * n : (c + 1) * n], turned[(c + 1) * n : (c + 2) * n]
        w, z = turned[(c + 2) * n : (c + 3) * n], turned[(c + 3) * n : (c + 4) * n]
        of_u, of_v, of_w, of_z = x[c], x[c + 1], x[c + 2], x[c + 3]
        for j in range(n):
            d, e, f, g = of_u - u[j], of_v - v[j], of_w - w[j], of_z - z[j]
            y[j] += (d * d + e * e) + (f * f + g * g)
    for c in range(four, last):
        u, of_u = turned[c * n : (c + 1) * n], x[c]
        for j in range(n):
            d = of_u - u[j]
            y[j] += d * d


def _distances_of(x, turned, totals, y):
    """y[j] = |x - turned[., j]|"""
    k, n = len(x), len(y)
    y[:] = 0
    if k <= PART:
        _add_squares(x, turned, 0, k, y)
        for j in range(n):
            y[j] = np.sqrt(y[j])
    else:
        totals[:] = 0
        for c in range(0, k, PART):
            y[:] = 0
            _add_squares(x, turned, c, min(c + PART, k), y)
            for j in range(n):
                totals[j] += y[j]
        for j in range(n):
            y[j] = np.sqrt(totals[j])
    least, most, doubtful = y.dtype.type(_LEAST_SINGLE if y.itemsize == 4 else _LEAST), y.dtype.type(np.inf), 0
    for j in range(n):
        doubtful |= not ((y[j] > least) & (y[j] < most))
    if doubtful:
        for j in range(n):
            if not (y[j] > least and y[j] < most):
                y[j] = _scaled_norm(x, turned, j, n)


def _slopes(g, y, at, step, slopes):
    """g / y, which is 0 where the distance is."""
    one = slopes.dtype.type(1)
    for j in range(len(slopes)):
        i = np.uint64(at + j * step)
        is_zero = (y[i] == 0) | (g[i] == 0)
        slopes[j] = 0 if is_zero else g[i] / (one if is_zero else y[i])


def _pulled(x, column, slopes, g, y, at, step):
    """The sum of slopes times differences; where that isn't finite, of what was used, by quotients."""
    total = slopes.dtype.type(0)
    for j in range(len(slopes)):
        total = plus(total, slopes[j] * (x - column[j]))
    if total - total == 0:
        return total
    total = slopes.dtype.type(0)
    for j in range(len(slopes)):
        i = at + j * step
        if y[i] != 0:
            total += _times(g[i], (x - column[j]) / y[i])
    return total


def _pull(p, lo, hi, memory, rows, n, others, m, g, y, apart, step, bars):
    """bars += the sum of g / y (row - other), of rows lo to hi, n in a batch, and all m others in theirs.

    Their distances are so far apart, and a step for each other.
    """
    k, slopes, turned = p[K], memory[:_BLOCK], memory[_BLOCK:]
    row = lo
    while row < hi:
        batch = row // n
        last = min((batch + 1) * n, hi)
        for first in range(0, m, _BLOCK):
            count = min(_BLOCK, m - first)
            turn(others[(batch * m + first) * k :], count, k, k, turned)
            for r in range(row, last):
                at = batch * n * m + (r - batch * n) * apart + first * step
                _slopes(g, y, at, step, slopes[:count])
                for c in range(k):
                    column = turned[c * count : (c + 1) * count]
                    bars[r * k + c] += _pulled(rows[r * k + c], column, slopes[:count], g, y, at, step)
        row = last


def _b_vjp(p, lo, hi, memory, a, b, y, y_bar, b_bar):
    first, last = lo * p[BATCHES] * p[M] // p[UNITS], hi * p[BATCHES] * p[M] // p[UNITS]
    _pull(p, first, last, memory, b, p[M], a, p[N], y_bar, y, 1, p[M], b_bar)


def _pulls(g, y):
    is_zero = y == 0
    return _times(g, where(is_zero, 0.0, 1.0 / where(is_zero, 1.0, y))).unsqueeze(-1)


@array_op(
    2,
    vjps=(
        lambda p, lo, hi, memory, a, b, y, y_bar, a_bar: _pull(
            p, lo, hi, memory, a, p[N], b, p[M], y_bar, y, p[M], 1, a_bar
        ),
        _b_vjp,
    ),
    partials=(
        lambda a, b, y, g: _times(_pulls(g, y), a.unsqueeze(-2) - b.unsqueeze(-3)).sum(-2),
        lambda a, b, y, g: _times(_pulls(g, y), b.unsqueeze(-3) - a.unsqueeze(-2)).sum(-3),
    ),
    saves=(1 | 2 | 8, 1 | 2 | 8),
    room=ROOM,
    units=UNITS,
    summed=2 | 4,
    parts=lambda p, n: (n * p[BATCHES], *p[N:UNITS], n * p[UNITS]),
    grad_name="CdistBackward0",
)
def euclidean(p, lo, hi, memory, tile, a, b, y):
    """The distances between rows."""
    n, m, k, row = p[N], p[M], p[K], lo
    while row < hi:
        batch = row // n
        last = min((batch + 1) * n, hi)
        for first in range(0, m, _BLOCK):
            count = min(_BLOCK, m - first)
            turn(b[(batch * m + first) * k :], count, k, k, memory)
            for r in range(row, last):
                at = r * m + first
                _distances_of(a[r * k : (r + 1) * k], memory, tile[:count], y[at : at + count])
        row = last
