"""The exponential of matrices: scaling, a Padé approximant, and squaring (Higham, 2005)."""

import math

import numpy as np

from tapegrad.ops.declare import array_op, times_first
from tapegrad.ops.factorization import factorise, lu_solve
from tapegrad.ops.indexing import embed
from tapegrad.ops.linalg import product_into
from tapegrad.ops.logic import where
from tapegrad.ops.spectral import largest, vanishes

# Of the approximant of order 13, divided by the first: numerator and denominator are the sums of b_k (+-a)^k.
_ONE_NORM = 5.371920351148152  # up to which it is exact in float64
_B = [1.0]
for _k in range(1, 14):
    _B.append(_B[-1] * (14 - _k) / (_k * (27 - _k)))
B1, B2, B3, B4, B5, B6, B7, B8, B9, B10, B11, B12, B13 = _B[1:]


def expm_room(n: int) -> int:
    """How many elements its kernels work in: those of the derivative have matrices of twice the size."""
    return 8 * n * n + 7 * 4 * n * n + 2 * n


def _one_norm(a, n):
    most = a.dtype.type(0)
    for j in range(n):
        total = a.dtype.type(0)
        for i in range(n):
            total += abs(a[i * n + j])
        if not total <= most:  # or nan
            most = total
    return most


def _exponential(gemm, lapack, work, n, a, y, memory):
    """y = exp(a); nan where that is not finite."""
    norm = _one_norm(a, n)
    if not norm < np.inf:
        for i in range(n * n):
            y[i] = np.nan
        return
    size = n * n
    x, a2, a4, a6 = memory[:size], memory[size : 2 * size], memory[2 * size : 3 * size], memory[3 * size : 4 * size]
    t, u, lu = memory[4 * size : 5 * size], memory[5 * size : 6 * size], memory[6 * size : 7 * size + n]
    squarings = 0
    if norm > _ONE_NORM:
        squarings = math.ceil(math.log2(norm / _ONE_NORM))
    scale = a.dtype.type(0.5) ** squarings
    for i in range(size):
        x[i] = a[i] * scale
    product_into(gemm, work, n, n, n, 1.0, x, 0, x, 0, 0.0, a2)
    product_into(gemm, work, n, n, n, 1.0, a2, 0, a2, 0, 0.0, a4)
    product_into(gemm, work, n, n, n, 1.0, a2, 0, a4, 0, 0.0, a6)
    number = a.dtype.type
    for i in range(size):
        u[i] = number(B13) * a6[i] + number(B11) * a4[i] + number(B9) * a2[i]
        t[i] = number(B7) * a6[i] + number(B5) * a4[i] + number(B3) * a2[i]
    for i in range(n):
        t[i * n + i] += number(B1)
    product_into(gemm, work, n, n, n, 1.0, a6, 0, u, 0, 1.0, t)
    product_into(gemm, work, n, n, n, 1.0, x, 0, t, 0, 0.0, u)  # the odd terms
    for i in range(size):
        x[i] = number(B12) * a6[i] + number(B10) * a4[i] + number(B8) * a2[i]
        t[i] = number(B6) * a6[i] + number(B4) * a4[i] + number(B2) * a2[i]
    for i in range(n):
        t[i * n + i] += number(1)
    product_into(gemm, work, n, n, n, 1.0, a6, 0, x, 0, 1.0, t)  # the even ones
    for i in range(size):
        lu[i] = t[i] - u[i]
        y[i] = t[i] + u[i]
    factorise(lapack, work, n, n, lu.ctypes.data, lu.ctypes.data + lu.itemsize * size, lu.itemsize)
    lu_solve(lapack, work, n, n, 0, lu, 0, y)
    for _ in range(squarings):
        for i in range(size):
            x[i] = y[i]
        product_into(gemm, work, n, n, n, 1.0, x, 0, x, 0, 0.0, y)


def _exp_vjp(p, gemm, lapack, work, memory, a, y, y_bar, a_bar):
    """a_bar += the upper right part of exp([[a', y_bar], [0, a']]), which is linear in y_bar: Mathias (1996)."""
    n = p[1]
    both, made, left = memory[: 4 * n * n], memory[4 * n * n : 8 * n * n], memory[8 * n * n :]
    for batch in range(p[0]):
        first = batch * n * n
        bar = y_bar[first : first + n * n]
        if vanishes(bar):
            continue
        scale = largest(bar)
        for i in range(n):
            for j in range(n):
                both[i * 2 * n + j] = both[(n + i) * 2 * n + n + j] = a[first + j * n + i]
                both[i * 2 * n + n + j] = bar[i * n + j] / scale
                both[(n + i) * 2 * n + j] = 0
        _exponential(gemm, lapack, work, 2 * n, both, made, left)
        for i in range(n):
            for j in range(n):
                a_bar[first + i * n + j] += scale * made[i * 2 * n + n + j]


def _placed(x, i, j):
    """Zeros of twice the size, with the matrices at row and column i n, j n."""
    *batch, n, _ = x.shape
    shape = (*batch, 2 * n, 2 * n)
    steps, step = [2 * n, 1], 4 * n * n
    for length in reversed(batch):
        steps.insert(0, step)
        step *= length
    return embed(x.contiguous(), (i * 2 * n * n + j * n, x.ndim, *x.shape, *steps), shape)


def _exp_rule(a, g):
    n = a.shape[-1]
    if a.numel() == 0:
        return g
    turned, most = a.mT, g.detach().abs().amax((-2, -1), True)
    scale = where(most > 0, most, 1.0)  # else the adjoint would decide how often the exponential is squared
    return scale * matrix_exp(_placed(turned, 0, 0) + _placed(turned, 1, 1) + _placed(g / scale, 0, 1))[..., :n, n:]


@array_op(1, vjps=(_exp_vjp,), partials=(_exp_rule,), room=2, grad_name="LinalgMatrixExpBackward0", parts=times_first)
def matrix_exp(p, gemm, lapack, work, memory, a, y):
    """The exponential. `p`: (n_batch, n, elements of memory)."""
    n = p[1]
    for batch in range(p[0]):
        at = batch * n * n
        _exponential(gemm, lapack, work, n, a[at : at + n * n], y[at : at + n * n], memory)
