"""Factors with interchanges, as users hold them: LU with its rows exchanged, and L D L'.

One row holds the packed factors of the whole batch, and then int32 for each matrix, LAPACK's interchanges, each in the
place of an element. LAPACK takes matrices by columns, so that they are transposed on the way in and out.
"""

from tapegrad.memory import call8, call9, i4, u1
from tapegrad.ops.declare import array_op, layout
from tapegrad.ops.factorization import (
    INT32,
    TRMM,
    TRSM,
    beside,
    factorise,
    interchange,
    solve_triangular,
    triangular_into,
)
from tapegrad.ops.linalg import ROUTINES, gemm_into
from tapegrad.ops.spectral import identity, routine_of, vanishes

SYTRF, SYTRS = (2 * ROUTINES.index(name) for name in ("sytrf", "sytrs"))
_WIDTH = 64  # columns that LAPACK treats together


# --- LU: a = p l u, l with ones on its diagonal -----------------------------------------------------------------------


@layout(grad_name="LinalgLuFactorExBackward0")
def _of_lu():
    """The packed factors."""


def _exchanged_vjp(p, gemm, lapack, work, memory, a, y, y_bar, a_bar):
    """a_bar += p l^-T (tril(l' l_bar, -1) + triu(u_bar u')) u^-T, for a square matrix.

    Of one that is not, there is another part of u or of l: u2 = l^-1 p' a2, which takes u2_bar u2' from the lower
    triangle, or l2 = a2 u^-1, which takes l2' l2_bar from the upper one.
    """
    n_batch, m, n = p[0], p[1], p[2]
    r, size = min(m, n), a.itemsize
    bar, low, up = memory[: m * n], memory[m * n : m * n + r * r], memory[m * n + r * r :]
    at, at_low, at_up, rest = bar.ctypes.data, low.ctypes.data, up.ctypes.data, size * r
    for batch in range(n_batch):
        g = y_bar[batch * m * n : (batch + 1) * m * n]
        at_y, at_g = y.ctypes.data + size * batch * m * n, g.ctypes.data
        if vanishes(g):
            continue
        for i in range(m * n):
            bar[i] = g[i]
        for i in range(r):
            for j in range(r):
                low[i * r + j] = g[i * n + j] if j < i else 0
                up[i * r + j] = g[i * n + j] if j >= i else 0
        triangular_into(lapack, TRMM, work, size, 1, 0, 1, 1, r, r, at_y, n, at_low, r)
        triangular_into(lapack, TRMM, work, size, 0, 1, 1, 0, r, r, at_y, n, at_up, r)
        if n > r:
            gemm_into(gemm, work, size, r, r, n - r, -1.0, at_g + rest, n, 1, at_y + rest, 1, n, 1.0, at_low, r)
            triangular_into(lapack, TRSM, work, size, 1, 0, 1, 1, r, n - r, at_y, n, at + rest, n)
        if m > r:
            rest = size * r * n
            gemm_into(gemm, work, size, r, r, m - r, -1.0, at_y + rest, 1, n, at_g + rest, n, 1, 1.0, at_up, r)
            triangular_into(lapack, TRSM, work, size, 0, 1, 1, 0, m - r, r, at_y, n, at + rest, n)
        for i in range(r):
            for j in range(r):
                bar[i * n + j] = low[i * r + j] if j < i else up[i * r + j]
        triangular_into(lapack, TRSM, work, size, 1, 0, 1, 1, r, r, at_y, n, at, n)
        triangular_into(lapack, TRSM, work, size, 0, 1, 1, 0, r, r, at_y, n, at, n)
        interchange(i4(_order_at(y, n_batch, m, n, batch), r), r, n, bar, 1)
        for i in range(m * n):
            a_bar[batch * m * n + i] += bar[i]


def _order_at(y, n_batch, m, n, batch):
    """The address of the interchanges of one matrix."""
    return y.ctypes.data + y.itemsize * n_batch * m * n + 4 * batch * min(m, n)


def _exchanged_rule(y, g, p, s):
    n_batch, m, n = p[:3]
    r = min(m, n)
    if n_batch * r == 0:
        return g.new_zeros(s[0])
    factors, bar = (x[: n_batch * m * n].reshape(n_batch, m, n) for x in (y, g))
    square, g_square = factors[:, :r, :r].contiguous(), bar[:, :r, :r]
    low, up = square.tril(-1).mT @ g_square.tril(-1) + g_square.tril(-1), g_square.triu() @ square.triu().mT

    def lower(b):
        """l^-T b"""
        return solve_triangular(square, b.contiguous(), _facts(b, 0, 1, 1))

    def upper(b):
        """b u^-T"""
        return solve_triangular(square, b.contiguous(), _facts(b, 1, 0, 0))

    right, below = bar[:, :r, r:], bar[:, r:, :r]
    if n > r:
        low = low - right @ factors[:, :r, r:].mT
    if m > r:
        up = up - factors[:, r:, :r].mT @ below
    made = upper(lower(low.tril(-1) + up.triu()))
    if n > r:
        made = beside(made.mT, lower(right).mT).mT
    if m > r:
        made = beside(made, upper(below))
    exchanged = permutation_matrix(integers_of(y, (n_batch, n_batch * m * n, r, 0, r)).to(g.dtype), m) @ made
    return exchanged.reshape(s[0])


def _facts(b, upper, left, unit):
    """The parameters of a solution by the transpose of a triangle."""
    n_batch, p, q = b.shape
    n, columns = (p, q) if left else (q, p)
    return (n_batch, n, columns, upper, left, unit, 1, n_batch * n * columns + n * n)


@array_op(1, vjps=(_exchanged_vjp,), partials=(_exchanged_rule,), room=3, grad_name="LinalgLuFactorExBackward0")
def lu_exchanged(p, lapack, work, memory, a, y):
    """The packed factors, and the interchanges: see above. `p`: (n_batch, m, n, elements of memory)."""
    n_batch, m, n = p[0], p[1], p[2]
    for batch in range(n_batch):
        for i in range(m):
            for j in range(n):
                memory[j * m + i] = a[(batch * m + i) * n + j]
        factorise(lapack, work, m, n, memory.ctypes.data, _order_at(y, n_batch, m, n, batch), a.itemsize)
        for i in range(m):
            for j in range(n):
                y[(batch * m + i) * n + j] = memory[j * m + i]


@array_op(1, signature=lambda code: (code, INT32))
def integers_of(p, x, y):
    """Some of the integers in such a row. `p`: (n_batch, elements before them, how many a matrix, the first, count)."""
    n_batch, before, n, first, count = p[0], p[1], p[2], p[3], p[4]
    given = i4(x.ctypes.data + x.itemsize * before, n_batch * n)
    for batch in range(n_batch):
        for i in range(count):
            y[batch * count + i] = given[batch * n + first + i]


@array_op(1)
def permutation_matrix(p, x, y):
    """The matrix that interchanges [n_batch, r] stand for: rows are exchanged, the last first. `p`: (n_batch, m, r)"""
    m, r = p[1], p[2]
    for batch in range(p[0]):
        made = y[batch * m * m : (batch + 1) * m * m]
        identity(made, m)
        for step in range(r):
            i = r - 1 - step
            other = int(x[batch * r + i]) - 1
            if other != i and 0 <= other < m:
                for j in range(m):
                    made[i * m + j], made[other * m + j] = made[other * m + j], made[i * m + j]


# --- L D L': a = l d l' of symmetric matrices, d with blocks of one or two, after interchanges ------------------------


def ldl_room(n: int) -> int:
    """How many elements its kernels work in."""
    return n * n + _WIDTH * n + 1


@array_op(1, room=2)
def ldl_factor(p, lapack, work, memory, a, y):
    """The packed factors, the interchanges, and what LAPACK says. `p`: (n_batch, n, elements of memory).

    Only the lower triangle is read.
    """
    n_batch, n, size = p[0], p[1], a.itemsize
    integers, letters = i4(work, 4), u1(work + 24, 1)
    at = memory.ctypes.data
    for batch in range(n_batch):
        at_order = y.ctypes.data + size * n_batch * n * n + 4 * batch * (n + 1)
        for i in range(n):
            for j in range(n):
                memory[j * n + i] = a[(batch * n + i) * n + j]
        letters[0] = 76  # L
        integers[0], integers[1], integers[2], integers[3] = n, n, _WIDTH * n + 1, 0
        if n:
            call8(
                routine_of(lapack, SYTRF, size), work + 24, work, at, work + 4, at_order, at + size * n * n, work + 8,
                work + 12
            )  # fmt: skip
        i4(at_order, n + 1)[n] = integers[3]
        for i in range(n):
            for j in range(n):
                y[(batch * n + i) * n + j] = memory[j * n + i] if j <= i else 0


def _ldl_b_vjp(p, lapack, work, memory, a, b, y, y_bar, b_bar):
    """b_bar += w, where a w = y_bar"""
    w = memory[: len(y)]
    _ldl_solve(p, lapack, work, memory[len(y) :], a, y_bar, w)
    for i in range(len(y)):
        b_bar[i] += w[i]


def ldl_solve_room(n_batch: int, n: int, columns: int) -> int:
    """How many elements its kernels work in."""
    return n_batch * n * columns + n * n + n * columns + n


def _ldl_solve(p, lapack, work, memory, a, b, y):
    n_batch, n, columns, size = p[0], p[1], p[2], a.itemsize
    integers, letters = i4(work, 5), u1(work + 24, 1)
    factors, right = memory[: n * n], memory[n * n : n * n + n * columns]
    at_order = memory.ctypes.data + size * (n * n + n * columns)
    order = i4(at_order, n)
    for batch in range(n_batch):
        for i in range(n):
            order[i] = int(a[n_batch * n * n + batch * n + i])
            for j in range(n):
                factors[j * n + i] = a[(batch * n + i) * n + j]
            for j in range(columns):
                right[j * n + i] = b[(batch * n + i) * columns + j]
        letters[0] = 76  # L
        integers[0], integers[1], integers[2], integers[3], integers[4] = n, columns, n, n, 0
        if n and columns:
            call9(
                routine_of(lapack, SYTRS, size), work + 24, work, work + 4, factors.ctypes.data, work + 8, at_order,
                right.ctypes.data, work + 12, work + 16
            )  # fmt: skip
        for i in range(n):
            for j in range(columns):
                y[(batch * n + i) * columns + j] = right[j * n + i]


@array_op(2, vjps=(None, _ldl_b_vjp), partials=(None, lambda a, g, p: ldl_solve(a, g, p)), room=3)
def ldl_solve(p, lapack, work, memory, a, b, y):
    """The solution of a y = b; the first operand holds the factors of the batch, and then its interchanges.

    `p`: (n_batch, n, columns of b, elements of memory).
    """
    _ldl_solve(p, lapack, work, memory, a, b, y)
