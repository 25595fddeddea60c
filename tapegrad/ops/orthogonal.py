"""Orthogonal and triangular factors by LAPACK's reflections.

`qr` fills one row with q [batch, m, k] and then r [batch, k, n], as `spectral.py` says; k is min(m, n), or m where all
of q is wanted. LAPACK takes matrices by columns, so that they are transposed on the way in and out.
"""

from tapegrad.memory import call8, call9, i4
from tapegrad.ops.declare import array_op, layout, times_first
from tapegrad.ops.factorization import TRSM, beside, solve_triangular, triangular_into
from tapegrad.ops.linalg import ROUTINES, gemm_into
from tapegrad.ops.spectral import identity, routine_of, vanishes

GEQRF, ORGQR = (2 * ROUTINES.index(name) for name in ("geqrf", "orgqr"))
_WIDTH = 64  # columns that LAPACK treats together


@layout(grad_name="LinalgQrBackward0")
def _of_qr():
    """A result of it."""


def qr_room(m: int, n: int, full: bool) -> int:
    """How many elements its kernels work in."""
    r, most = min(m, n), max(m, n)
    k = m if full else r
    return max(m * max(n, k) + r + _WIDTH * most + 1, qr_vjp_room(m, n))


def qr_vjp_room(m: int, n: int) -> int:
    """How many that of its adjoint works in."""
    r = min(m, n)
    return m * r + r * r + (m - r) * r


def _geqrf(lapack, work, m, n, columns, tau, left):
    """Reflections in place of the columns of a matrix."""
    integers, size = i4(work, 5), columns.itemsize
    integers[0], integers[1], integers[2], integers[3], integers[4] = m, n, max(m, 1), _WIDTH * max(m, n) + 1, 0
    call8(
        routine_of(lapack, GEQRF, size), work, work + 4, columns.ctypes.data, work + 8, tau.ctypes.data,
        left.ctypes.data, work + 12, work + 16
    )  # fmt: skip


def _orgqr(lapack, work, m, n, r, columns, tau, left):
    """The first n columns of the product of r reflections, in their place."""
    integers, size = i4(work, 6), columns.itemsize
    integers[0], integers[1], integers[2], integers[3] = m, n, r, max(m, 1)
    integers[4], integers[5] = _WIDTH * max(m, n) + 1, 0
    call9(
        routine_of(lapack, ORGQR, size), work, work + 4, work + 8, columns.ctypes.data, work + 12, tau.ctypes.data,
        left.ctypes.data, work + 16, work + 20
    )  # fmt: skip


def _qr_vjp(p, gemm, lapack, work, memory, a, y, y_bar, a_bar):
    """a_bar += [(b + q s) r^-T, q r2_bar], where s = tril(t) + tril(t, -1)', t = r r_bar' - b' q: Walter (2012).

    Where `a` is wide, r = [r, r2], and b = q_bar + a2 r2_bar'. Where there is more of q than `a` spans, b = q_bar -
    q2 q2_bar' q.
    """
    n_batch, m, n, full = p[0], p[1], p[2], p[3]
    r = min(m, n)
    k, size = m if full else r, a.itemsize
    b, s, t = memory[: m * r], memory[m * r : m * r + r * r], memory[m * r + r * r :]
    at_b, at_s, at_t = b.ctypes.data, s.ctypes.data, t.ctypes.data
    for batch in range(n_batch):
        q, q_bar = y[batch * m * k : (batch + 1) * m * k], y_bar[batch * m * k : (batch + 1) * m * k]
        first = n_batch * m * k + batch * k * n
        right, right_bar = y[first : first + k * n], y_bar[first : first + k * n]
        if vanishes(q_bar) and vanishes(right_bar):
            continue
        at_a, at_to = a.ctypes.data + size * batch * m * n, a_bar.ctypes.data + size * batch * m * n
        at_q, at_q_bar, at_r, at_r_bar = q.ctypes.data, q_bar.ctypes.data, right.ctypes.data, right_bar.ctypes.data
        for i in range(m):
            for j in range(r):
                b[i * r + j] = q_bar[i * k + j]
        if k > r:
            rest = size * r
            gemm_into(gemm, work, size, k - r, r, m, 1.0, at_q_bar + rest, 1, k, at_q, k, 1, 0.0, at_t, r)
            gemm_into(gemm, work, size, m, r, k - r, -1.0, at_q + rest, k, 1, at_t, r, 1, 1.0, at_b, r)
        if n > r:
            rest = size * r
            gemm_into(gemm, work, size, m, r, n - r, 1.0, at_a + rest, n, 1, at_r_bar + rest, 1, n, 1.0, at_b, r)
            gemm_into(gemm, work, size, m, n - r, r, 1.0, at_q, k, 1, at_r_bar + rest, n, 1, 1.0, at_to + rest, n)
        gemm_into(gemm, work, size, r, r, r, 1.0, at_r, n, 1, at_r_bar, 1, n, 0.0, at_s, r)
        gemm_into(gemm, work, size, r, r, m, -1.0, at_b, 1, r, at_q, k, 1, 1.0, at_s, r)
        for i in range(r):
            for j in range(i):
                s[j * r + i] = s[i * r + j]
        gemm_into(gemm, work, size, m, r, r, 1.0, at_q, k, 1, at_s, r, 1, 1.0, at_b, r)
        triangular_into(lapack, TRSM, work, size, 0, 1, 1, 0, m, r, at_r, n, at_b, r)
        for i in range(m):
            for j in range(r):
                a_bar[(batch * m + i) * n + j] += b[i * r + j]


def _qr_rule(a, y, g, p, s):
    n_batch, m, n, full = p[:4]
    r = min(m, n)
    if n_batch * r == 0:
        return g.new_zeros(s[0])
    k = m if full else r
    split = n_batch * m * k
    q, b = (x[:split].reshape(n_batch, m, k) for x in (y, g))
    right, right_bar = (x[split:].reshape(n_batch, k, n)[:, :r] for x in (y, g))
    q, rest, b, rest_bar = q[:, :, :r], q[:, :, r:], b[:, :, :r], b[:, :, r:]
    if k > r:
        b = b - rest @ (rest_bar.mT @ q)
    if n > r:
        b = b + a.reshape(n_batch, m, n)[:, :, r:] @ right_bar[:, :, r:].mT
    t = right[:, :, :r] @ right_bar[:, :, :r].mT - b.mT @ q
    b = b + q @ (t.tril() + t.tril(-1).mT)
    facts = (n_batch, r, m, 1, 0, 0, 1, n_batch * r * m + r * r)
    bar = solve_triangular(right[:, :, :r].contiguous(), b.contiguous(), facts)
    if n > r:
        wide = (q @ right_bar[:, :, r:]).mT
        bar = beside(bar.mT, wide).mT
    return bar.reshape(s[0])


@array_op(1, vjps=(_qr_vjp,), partials=(_qr_rule,), room=4, grad_name="LinalgQrBackward0", parts=times_first)
def qr(p, lapack, work, memory, a, y):
    """Orthonormal columns and a triangle whose product is `a`. `p`: (n_batch, m, n, full, elements of memory)."""
    n_batch, m, n, full = p[0], p[1], p[2], p[3]
    r = min(m, n)
    k = m if full else r
    columns, left = memory[: m * max(n, k)], memory[m * max(n, k) :]
    tau, left = left[:r], left[r:]
    for batch in range(n_batch):
        q, first = y[batch * m * k : (batch + 1) * m * k], n_batch * m * k + batch * k * n
        right = y[first : first + k * n]
        if r == 0:
            identity(q, k)
            continue
        for i in range(m):
            for j in range(n):
                columns[j * m + i] = a[(batch * m + i) * n + j]
        _geqrf(lapack, work, m, n, columns, tau, left)
        for i in range(k):
            for j in range(n):
                right[i * n + j] = columns[j * m + i] if i <= j else 0
        _orgqr(lapack, work, m, k, r, columns, tau, left)
        for i in range(m):
            for j in range(k):
                q[i * k + j] = columns[j * m + i]


@array_op(1, room=3, parts=times_first)
def geqrf(p, lapack, work, memory, a, y):
    """Reflections below the diagonal, the triangle above it, and then their factors: a [batch, m, n], tau [batch, r].

    `p`: (n_batch, m, n, elements of memory).
    """
    n_batch, m, n = p[0], p[1], p[2]
    r = min(m, n)
    columns, left = memory[: m * n], memory[m * n :]
    for batch in range(n_batch):
        first = n_batch * m * n + batch * r
        for i in range(m):
            for j in range(n):
                columns[j * m + i] = a[(batch * m + i) * n + j]
        if r:
            _geqrf(lapack, work, m, n, columns, y[first : first + r], left)
        for i in range(m):
            for j in range(n):
                y[(batch * m + i) * n + j] = columns[j * m + i]
