"""Parts of matrices: triangles, and the trace. They take contiguous arrays of any dtype."""

import numpy as np

from tapegrad.ops.declare import array_op
from tapegrad.ops.indexing import embed


def _tril_vjp(p, lo, hi, x, y, y_bar, x_bar):
    n = p[2]
    for row in range(lo, hi):
        for j in range(row * n, row * n + min(max(row % p[1] + p[3] + 1, 0), n)):
            x_bar[j] += y_bar[j]


def _triu_vjp(p, lo, hi, x, y, y_bar, x_bar):
    n = p[2]
    for row in range(lo, hi):
        for j in range(row * n + min(max(row % p[1] + p[3], 0), n), (row + 1) * n):
            x_bar[j] += y_bar[j]


@array_op(1, vjps=(_tril_vjp,), partials=(lambda g, p: g.tril(p[3]),))
def tril(p, lo, hi, x, y):
    """Zeros above a diagonal. `p`: (rows of all matrices, m, n, the diagonal)."""
    n = p[2]
    for row in range(lo, hi):
        stop = min(max(row % p[1] + p[3] + 1, 0), n)
        for j in range(n):
            y[row * n + j] = x[row * n + j] if j < stop else 0


@array_op(1, vjps=(_triu_vjp,), partials=(lambda g, p: g.triu(p[3]),))
def triu(p, lo, hi, x, y):
    """Zeros below a diagonal. `p`: (rows of all matrices, m, n, the diagonal)."""
    n = p[2]
    for row in range(lo, hi):
        first = min(max(row % p[1] + p[3], 0), n)
        for j in range(n):
            y[row * n + j] = x[row * n + j] if j >= first else 0


def _trace_vjp(p, x, y, y_bar, x_bar):
    for i in range(p[0]):
        x_bar[i * p[1]] += y_bar[0]


def _integer_trace(p, x, y):
    total = y.dtype.type(0)
    for i in range(p[0]):
        total += x[i * p[1]]
    y[0] = total


@array_op(
    1,
    integer=_integer_trace,
    vjps=(_trace_vjp,),
    partials=(lambda g, p, s: embed(g.expand(p[0]), (0, 1, p[0], p[1]), s[0]),),
)
def trace(p, x, y):
    """The sum of a matrix's diagonal. `p`: (its length, elements from one of its elements to the next)."""
    total = np.float64(0)
    for i in range(p[0]):
        total += x[i * p[1]]
    y[0] = total
