"""Parts of matrices, triangles and the trace; and matrices of a vector. They take contiguous arrays of any dtype."""

from __future__ import annotations

from typing import Any

import numpy as np

from tapegrad.ops.declare import SUMMED, Tensor, array_op, times_first
from tapegrad.ops.indexing import embed


def _of_matrices(name: str) -> Any:
    def call(input: Tensor, diagonal: int = 0) -> Any:
        if input.ndim < 2:
            raise RuntimeError(f"{name}: input tensor must have at least 2 dimensions")
        m, n = input.shape[-2:]
        return input.shape, (input.numel() // n if n else 0, m, n, diagonal)

    return call


_EXAMPLES = (((), (3, 4)), ((1,), (2, 3, 3)), ((-1,), (4, 2)))


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


@array_op(
    1,
    call=_of_matrices("tril"),
    vjps=(_tril_vjp,),
    partials=(lambda g, p: g.tril(p[3]),),
    reference=np.tril,
    examples=_EXAMPLES,
    parts=times_first,
    linear=True,
)
def tril(p, lo, hi, x, y):
    """The lower triangle of each matrix, zeros above; `diagonal` counts those above the main one that are kept.

    >>> import tapegrad as tg
    >>> tg.ones(2, 2).tril()
    tensor([[1., 0.],
            [1., 1.]])
    """
    # p: rows of all matrices, m, n, the diagonal
    n = p[2]
    for row in range(lo, hi):
        stop = min(max(row % p[1] + p[3] + 1, 0), n)
        for j in range(n):
            y[row * n + j] = x[row * n + j] if j < stop else 0


@array_op(
    1,
    call=_of_matrices("triu"),
    vjps=(_triu_vjp,),
    partials=(lambda g, p: g.triu(p[3]),),
    reference=np.triu,
    examples=_EXAMPLES,
    parts=times_first,
    linear=True,
)
def triu(p, lo, hi, x, y):
    """The upper triangle of each matrix, zeros below; `diagonal` counts those above the main one that go.

    >>> import tapegrad as tg
    >>> tg.triu(tg.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([[1., 2.],
            [0., 4.]])
    """
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


def _trace_call(input: Tensor) -> Any:
    if input.ndim != 2:
        raise RuntimeError(f"trace: expected a matrix, but got tensor with dim {input.ndim}")
    m, n = input.shape
    return (), (min(m, n), n + 1)


@array_op(
    1,
    call=_trace_call,
    operand=SUMMED,
    refuses=("bool",),
    reference=np.trace,
    examples=(((), (3, 4)), ((), (2, 2))),
    integer=_integer_trace,
    vjps=(_trace_vjp,),
    partials=(lambda g, p, s: embed(g.expand(p[0]), (0, 1, p[0], p[1]), s[0]),),
    linear=True,
)
def trace(p, x, y):
    """The sum of a matrix's diagonal.

    >>> import tapegrad as tg
    >>> tg.trace(tg.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor(5.)
    """
    # p: the diagonal's length, elements from one of its elements to the next
    total = np.float64(0)
    for i in range(p[0]):
        total += x[i * p[1]]
    y[0] = total


# --- one vector a matrix ----------------------------------------------------------------------------------------------


def _toeplitz_call(input: Tensor) -> Any:
    if not input.ndim:
        raise RuntimeError("toeplitz: input tensor must have at least 1 dimension")
    n = input.shape[-1]
    return (*input.shape, n), (input.numel() // n if n else 0, n)


def _toeplitz_vjp(p, lo, hi, x, y, y_bar, x_bar):
    n = p[1]
    for o in range(lo, hi):
        bar = x_bar[o * n : o * n + n]
        for i in range(n):
            row = y_bar[(o * n + i) * n : (o * n + i + 1) * n]
            for j in range(n):
                bar[abs(i - j)] += row[j]


def _toeplitz_rule(g, p, s):
    """The sums of diagonals: in rows of one element more, upper triangles are columns."""
    n = p[1]
    upper = g.reshape(p[0], n, n).triu() + g.reshape(p[0], n, n).tril(-1).mT
    sheared = g.new_zeros(p[0], n * (n + 1))
    sheared[:, : n * n] = upper.reshape(p[0], n * n)
    return sheared.reshape(p[0], n, n + 1)[:, :, :n].sum(1).reshape(s[0])


@array_op(
    1,
    call=_toeplitz_call,
    exact=lambda x: x[..., abs(np.subtract.outer(*(np.arange(x.shape[-1]),) * 2))],
    examples=(((), (2, 3, 4)), ((), (5,))),
    vjps=(_toeplitz_vjp,),
    partials=(_toeplitz_rule,),
    parts=times_first,
    linear=True,
)
def toeplitz(p, lo, hi, x, y):
    """The symmetric matrix whose diagonals are constant, of its first column: y[i, j] = x[|i - j|].

    >>> import tapegrad as tg
    >>> tg.toeplitz(tg.tensor([1.0, 0.5, 0.2]))
    tensor([[1.0000, 0.5000, 0.2000],
            [0.5000, 1.0000, 0.5000],
            [0.2000, 0.5000, 1.0000]])
    """
    # p: matrices, n
    n = p[1]
    for o in range(lo, hi):
        column = x[o * n : o * n + n]
        for i in range(n):
            row = y[(o * n + i) * n : (o * n + i + 1) * n]
            for j in range(n):
                row[j] = column[abs(i - j)]
