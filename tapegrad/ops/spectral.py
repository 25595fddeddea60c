"""Eigenvalues of symmetric matrices, singular values of all, their vectors, and pseudoinverses, by LAPACK.

An operation that has several results fills one row, in which they lie one after another, each for the whole batch:

    eigh    v [batch, n, n]   l [batch, n]                          a = v diag(l) v'
    svd     u [batch, m, k]   s [batch, r]   vh [batch, k', n]      a = u diag(s) vh;  r = min(m, n)

Users hold layout rows over it. So factors are computed once, and a rule sees the adjoints of all of them.

Vectors of values that are equal are a basis of their space, which LAPACK chooses: a loss has a derivative only if it
does not depend on that choice. Its adjoint then has nothing that turns vectors of equal values into each other, and
what rounding leaves of that is not divided by their difference, but is zero: see `_over`. Where the loss does depend on
the choice, the quotient stays what it is, huge or infinite.

Of a loss that has such vectors and their values too, v f(l) v', the adjoints don't say by how much values of mixed
vectors would part (f'), and there it is nan: see `_is_mixed`. Of values alone (sums of f(l)), of vectors alone
(projections, polar factors), and where all values are apart, everything is known.
"""

import numpy as np

from tapegrad.memory import call11, call14, i4, i8, u1
from tapegrad.ops.declare import array_op, layout, times_first
from tapegrad.ops.linalg import ROUTINES, product_into
from tapegrad.ops.logic import where

SYEVD, GESDD = (2 * ROUTINES.index(name) for name in ("syevd", "gesdd"))
_CLOSE, _NOISE = 8.0, 64.0  # times n eps: values that are not told apart; what of an adjoint is rounding
NOT_CONVERGED = (
    ": {batch}The algorithm failed to converge because the input matrix is ill-conditioned or has too many repeated "
)
NOT_FINITE = ": {batch}The algorithm failed to converge because the input matrix contained non-finite values."


def routine_of(lapack, routine, itemsize):
    """The address of a routine for floats of this size."""
    return i8(lapack + 8 * (routine if itemsize == 8 else routine + 1), 1)[0]


def largest(x):
    """The largest magnitude; 0 of none."""
    most = x.dtype.type(0)
    for i in range(len(x)):
        most = max(most, abs(x[i]))
    return most


def is_finite(x):
    """Whether all elements are."""
    for i in range(len(x)):  # noqa: SIM110 (compiled)
        if x[i] - x[i] != 0:
            return False
    return True


def vanishes(x):
    """Whether all elements are zero."""
    for i in range(len(x)):  # noqa: SIM110 (compiled)
        if x[i] != 0:
            return False
    return True


def identity(x, n):
    """Fill x[n, n]."""
    for i in range(n * n):
        x[i] = 0
    for i in range(n):
        x[i * n + i] = 1


def _epsilon(x):
    return x.dtype.type(2.220446049250313e-16 if x.itemsize == 8 else 1.1920928955078125e-07)


def _over(x, gap, noise, close):
    """x / gap; but 0 where both are rounding."""
    if abs(x) <= noise and abs(gap) <= close:
        return x - x
    return x / gap


def _is_mixed(gap, close, turn, back, noise, bar, other):
    """Whether a loss mixes two vectors of equal values (as `turn`, `back` of v' v_bar say), and has the values too."""
    return abs(gap) <= close and abs(turn + back) > 2 * noise and (bar != 0 or other != 0)


def _mixed_rule(turn, noise, gap, close, bars):
    of_two = gap.new_ones(gap.shape[-1]).diag_embed() == 0
    return of_two & (gap.abs() <= close) & ((turn + turn.mT).abs() > 2 * noise) & ((bars != 0) | (bars.mT != 0))


def _over_rule(x, gap, noise, close):
    none = (x.abs() <= noise) & (gap.abs() <= close)
    return where(none, 0.0, x) / where(none, 1.0, gap)


def _bound(x, factor, n):
    """A multiple of n eps |x|, of each matrix or vector of a batch, as [batch, 1, 1]."""
    epsilon = float(np.finfo(x.dtype.numpy).eps)
    return factor * n * epsilon * x.detach().abs().reshape(x.shape[0], -1).amax(-1).reshape(-1, 1, 1)


# --- eigenvalues of symmetric matrices --------------------------------------------------------------------------------


@layout(grad_name="LinalgEighBackward0")
def _of_eigh():
    """A result of it."""


@layout(grad_name="LinalgSvdBackward0")
def _of_svd():
    """A result of it."""


def _syevd(lapack, work, n, upper, vectors, v, l, memory):  # noqa: E741 - eigenvalues
    """The eigenvalues, and in place of the transpose v[n, n] the vectors, as rows; returns what LAPACK says."""
    integers, letters = i4(work, 5), u1(work + 24, 2)
    letters[0], letters[1] = 86 if vectors else 78, 85 if upper else 76  # V, N; U, L
    integers[0], integers[1], integers[2], integers[3], integers[4] = n, n, 1 + 70 * n + 2 * n * n, 3 + 5 * n, 0
    size, at = v.itemsize, memory.ctypes.data
    call11(
        routine_of(lapack, SYEVD, size), work + 24, work + 25, work, v.ctypes.data, work + 4, l.ctypes.data, at,
        work + 8, at + size * integers[2], work + 12, work + 16
    )  # fmt: skip
    return integers[4]


def eigh_room(n: int) -> int:
    """How many elements its kernels work in."""
    return 4 * n * n + 75 * n + 4


def _eigh_vjp(p, gemm, work, memory, a, y, y_bar, a_bar):
    """a_bar += v (diag(l_bar) + w) v', where w_ij = (m_ij - m_ji) / 2 (l_j - l_i) and m = v' v_bar"""
    n_batch, n = p[0], p[1]
    w, t = memory[: n * n], memory[n * n : 2 * n * n]
    for batch in range(n_batch):
        first = batch * n * n
        at_l = n_batch * n * n + batch * n
        v, v_bar = y[first : first + n * n], y_bar[first : first + n * n]
        l, l_bar = y[at_l : at_l + n], y_bar[at_l : at_l + n]  # noqa: E741
        if vanishes(v_bar):
            for i in range(n * n):
                w[i] = 0
        else:
            product_into(gemm, work, n, n, n, 1.0, v, 1, v_bar, 0, 0.0, t)
            noise = _NOISE * n * _epsilon(v) * largest(t)
            close = _CLOSE * n * _epsilon(v) * largest(l)
            for i in range(n):
                for j in range(n):
                    w[i * n + j] = _over((t[i * n + j] - t[j * n + i]) / 2, l[j] - l[i], noise, close)
                    mixed = _is_mixed(l[j] - l[i], close, t[i * n + j], t[j * n + i], noise, l_bar[i], l_bar[j])
                    if mixed and i != j:
                        w[i * n + j] = np.nan
        for i in range(n):
            w[i * n + i] = l_bar[i]
        product_into(gemm, work, n, n, n, 1.0, v, 0, w, 0, 0.0, t)
        product_into(gemm, work, n, n, n, 1.0, t, 0, v, 1, 1.0, a_bar[first : first + n * n])


def _eigh_rule(y, g, p, s):
    n_batch, n = p[0], p[1]
    if n_batch * n == 0:
        return g.new_zeros(s[0])
    split = n_batch * n * n
    v, v_bar = (x[:split].reshape(n_batch, n, n) for x in (y, g))
    l, l_bar = (x[split:].reshape(n_batch, 1, n) for x in (y, g))  # noqa: E741
    m = v.mT @ v_bar
    noise, close = _bound(m, _NOISE, n), _bound(l, _CLOSE, n)
    w = _over_rule((m - m.mT) / 2, l - l.mT, noise, close)
    w = where(_mixed_rule(m, noise, l - l.mT, close, l_bar), np.nan, w)
    w = w + l_bar.squeeze(1).diag_embed()
    return (v @ w @ v.mT).reshape(s[0])


@array_op(
    1,
    vjps=(_eigh_vjp,),
    partials=(_eigh_rule,),
    room=3,
    failure="linalg.eigh" + NOT_CONVERGED + "eigenvalues (error code: {index}).",
    grad_name="LinalgEighBackward0",
    parts=times_first,
)
def eigh(p, lapack, work, memory, status, a, y):
    """Eigenvalues, ascending, and eigenvectors of a symmetric matrix, of which only a triangle is read.

    `p`: (n_batch, n, upper, elements of memory).
    """
    n_batch, n = p[0], p[1]
    for batch in range(n_batch):
        first = batch * n * n
        v, at_l = y[first : first + n * n], n_batch * n * n + batch * n
        info = _eigenvalues(lapack, work, n, p[2], 1, a[first : first + n * n], v, y[at_l : at_l + n], memory)
        if info:
            status[0], status[1] = 1 + batch, info
            return
        for i in range(n):
            for j in range(i):
                v[i * n + j], v[j * n + i] = v[j * n + i], v[i * n + j]


def _eigenvalues(lapack, work, n, upper, vectors, a, v, l, memory):  # noqa: E741
    """Eigenvalues of `a`, and its vectors as rows of `v`: nan where what is read is not finite."""
    good = True
    for i in range(n):
        for j in range(n):
            v[j * n + i] = a[i * n + j]
            if (j >= i if upper else j <= i) and a[i * n + j] - a[i * n + j] != 0:
                good = False
    if good and n:
        return _syevd(lapack, work, n, upper, vectors, v, l, memory)
    for i in range(n * n):
        v[i] = np.nan
    for i in range(n):
        l[i] = np.nan
    return 0


@array_op(
    1,
    room=3,
    failure="linalg.eigh" + NOT_CONVERGED + "eigenvalues (error code: {index}).",
    parts=times_first,
)
def _eigvalsh(p, lapack, work, memory, status, a, y):
    """The eigenvalues alone. `p` is that of `eigh`."""
    n = p[1]
    v = memory[: n * n]
    for batch in range(p[0]):
        l, first = y[batch * n : (batch + 1) * n], batch * n * n  # noqa: E741
        info = _eigenvalues(lapack, work, n, p[2], 0, a[first : first + n * n], v, l, memory[n * n :])
        if info:
            status[0], status[1] = 1 + batch, info
            return


# --- singular values --------------------------------------------------------------------------------------------------


def gesdd(lapack, work, job, m, n, k, a, u, s, vh, memory):
    """The decomposition of a[m, n], which is lost: u[m, k], s, and vh; returns what LAPACK says.

    To LAPACK `a` is its transpose, so that `u` and `vh` change places, and lie as they should.
    """
    integers, letters = i4(work, 7), u1(work + 32, 1)
    r = min(m, n)
    letters[0] = job
    integers[0], integers[1], integers[2], integers[3], integers[4] = n, m, n, n, max(k, 1)
    integers[5], integers[6] = gesdd_room(m, n), 0
    size, at = a.itemsize, memory.ctypes.data
    if r:
        call14(
            routine_of(lapack, GESDD, size), work + 32, work, work + 4, a.ctypes.data, work + 8, s.ctypes.data,
            vh.ctypes.data, work + 12, u.ctypes.data, work + 16, at, work + 20, at + size * integers[5], work + 24
        )  # fmt: skip
    return integers[6]


def gesdd_room(m: int, n: int) -> int:
    """How many elements LAPACK works in."""
    r, most = min(m, n), max(m, n)
    return 4 * r * r + 7 * r + most + 64 * (m + n) + 1


def svd_room(m: int, n: int, full: bool) -> int:
    """How many elements its kernels work in."""
    r = min(m, n)
    k, q = (m, n) if full else (r, r)
    return max(m * n + m * k + q * n + gesdd_room(m, n) + 8 * r, svd_vjp_room(m, n, full))


def svd_vjp_room(m: int, n: int, full: bool) -> int:
    """How many that of its adjoint works in."""
    r = min(m, n)
    k, q = (m, n) if full else (r, r)
    return k * k + q * q + k * q + max(m * q, m * r, r * n)


ALL, SOME, NONE = 65, 83, 78  # A, S, N


@array_op(
    1, room=4, failure=("linalg.svd" + NOT_CONVERGED + "singular values.", "linalg.svd" + NOT_FINITE), parts=times_first
)
def _svdvals(p, lapack, work, memory, status, a, y):
    """The singular values alone. `p` is that of `svd`."""
    m, n = p[1], p[2]
    r, copy = min(m, n), memory[: m * n]
    for batch in range(p[0]):
        of = a[batch * m * n : (batch + 1) * m * n]
        if not is_finite(of):
            status[0], status[1] = 1 + batch, -1
            return
        for i in range(m * n):
            copy[i] = of[i]
        info = gesdd(lapack, work, NONE, m, n, 1, copy, copy, y[batch * r : (batch + 1) * r], copy, memory[m * n :])
        if info:
            status[0], status[1] = 1 + batch, info
            return


def _svd_vjp(p, gemm, work, memory, a, y, y_bar, a_bar):
    """a_bar += u w vh, and what leads out of the spaces of `u` and `v`.

    With the skew parts q = u' u_bar - u_bar' u and q' = v' v_bar - v_bar' v, for two singular values

        w_ij = (q + q')_ij / 2 (s_j - s_i) + (q - q')_ij / 2 (s_j + s_i),   w_ii = s_bar_i

    which is (q_ij s_j + s_i q'_ij) / (s_j^2 - s_i^2) without a difference of squares; for a vector of `u` or of `v`
    that has none, w_ij = q_ij / s_j and w_ij = q'_ji / s_i.
    """
    n_batch, m, n, full = p[0], p[1], p[2], p[3]
    r = min(m, n)
    k, q = (m, n) if full else (r, r)
    turn_u, turn_v = memory[: k * k], memory[k * k : k * k + q * q]
    w, t = memory[k * k + q * q : k * k + q * q + k * q], memory[k * k + q * q + k * q :]
    at_s, at_v = n_batch * m * k, n_batch * (m * k + r)
    for batch in range(n_batch):
        u, u_bar = y[batch * m * k : (batch + 1) * m * k], y_bar[batch * m * k : (batch + 1) * m * k]
        s = y[at_s + batch * r : at_s + (batch + 1) * r]
        s_bar = y_bar[at_s + batch * r : at_s + (batch + 1) * r]
        vh = y[at_v + batch * q * n : at_v + (batch + 1) * q * n]
        vh_bar = y_bar[at_v + batch * q * n : at_v + (batch + 1) * q * n]
        bar = a_bar[batch * m * n : (batch + 1) * m * n]
        of_u, of_v = not vanishes(u_bar), not vanishes(vh_bar)
        for i in range(k * q):
            w[i] = 0
        if of_u or of_v:
            product_into(gemm, work, k, k, m, 1.0, u, 1, u_bar, 0, 0.0, turn_u)
            product_into(gemm, work, q, q, n, 1.0, vh, 0, vh_bar, 1, 0.0, turn_v)
            most = max(largest(turn_u), largest(turn_v))
            noise = _NOISE * max(m, n) * _epsilon(s) * most
            close = _CLOSE * max(m, n) * _epsilon(s) * largest(s)
            for i in range(k):
                for j in range(q):
                    by_u = by_v = s.dtype.type(0)
                    if i < k and j < k:
                        by_u = turn_u[i * k + j] - turn_u[j * k + i]
                    if i < q and j < q:
                        by_v = turn_v[i * q + j] - turn_v[j * q + i]
                    if i < r and j < r:
                        w[i * q + j] = _over((by_u + by_v) / 2, s[j] - s[i], noise, close)
                        w[i * q + j] += _over((by_u - by_v) / 2, s[j] + s[i], noise, close)
                        gap, bar_i, bar_j = s[j] - s[i], s_bar[i], s_bar[j]
                        mixed = _is_mixed(gap, close, turn_u[i * k + j], turn_u[j * k + i], noise, bar_i, bar_j)
                        mixed |= _is_mixed(gap, close, turn_v[i * q + j], turn_v[j * q + i], noise, bar_i, bar_j)
                        if mixed and i != j:
                            w[i * q + j] = np.nan
                    elif j < r:
                        w[i * q + j] = _over(by_u, s[j], noise, close)
                    elif i < r:
                        w[i * q + j] = _over(-by_v, s[i], noise, close)
        for i in range(r):
            w[i * q + i] = s_bar[i]
        product_into(gemm, work, m, q, k, 1.0, u, 0, w, 0, 0.0, t)
        product_into(gemm, work, m, n, q, 1.0, t, 0, vh, 0, 1.0, bar)
        if of_u and m > k:  # (u_bar - u u' u_bar) / s
            for i in range(m * k):
                t[i] = u_bar[i]
            product_into(gemm, work, m, k, k, -1.0, u, 0, turn_u, 0, 1.0, t)
            noise = _NOISE * m * _epsilon(s) * largest(u_bar)
            close = _CLOSE * max(m, n) * _epsilon(s) * largest(s)
            for i in range(m):
                for j in range(k):
                    t[i * k + j] = _over(t[i * k + j], s[j], noise, close)
            product_into(gemm, work, m, n, k, 1.0, t, 0, vh, 0, 1.0, bar)
        if of_v and n > q:
            for i in range(q * n):
                t[i] = vh_bar[i]
            product_into(gemm, work, q, n, q, -1.0, turn_v, 1, vh, 0, 1.0, t)
            noise = _NOISE * n * _epsilon(s) * largest(vh_bar)
            close = _CLOSE * max(m, n) * _epsilon(s) * largest(s)
            for i in range(q):
                for j in range(n):
                    t[i * n + j] = _over(t[i * n + j], s[i], noise, close)
            product_into(gemm, work, m, n, q, 1.0, u, 0, t, 0, 1.0, bar)


def _svd_rule(y, g, p, s):
    n_batch, m, n, full = p[:4]
    r = min(m, n)
    if n_batch * r == 0:
        return g.new_zeros(s[0])
    k, q = (m, n) if full else (r, r)
    at_s, at_v = n_batch * m * k, n_batch * (m * k + r)
    u, u_bar = (x[:at_s].reshape(n_batch, m, k) for x in (y, g))
    values, s_bar = (x[at_s:at_v].reshape(n_batch, 1, r) for x in (y, g))
    vh, vh_bar = (x[at_v:].reshape(n_batch, q, n) for x in (y, g))
    turn_u, turn_v = u.mT @ u_bar, vh @ vh_bar.mT
    by_u, by_v = turn_u - turn_u.mT, turn_v - turn_v.mT
    most = max(m, n)
    noise = _bound(turn_u, _NOISE, most).maximum(_bound(turn_v, _NOISE, most))
    close = _bound(values, _CLOSE, most)
    both, apart = by_u[:, :r, :r] + by_v[:, :r, :r], by_u[:, :r, :r] - by_v[:, :r, :r]
    w = _over_rule(both / 2, values - values.mT, noise, close) + _over_rule(apart / 2, values + values.mT, noise, close)
    mixed = _mixed_rule(turn_u[:, :r, :r], noise, values - values.mT, close, s_bar)
    mixed = mixed | _mixed_rule(turn_v[:, :r, :r], noise, values - values.mT, close, s_bar)
    w = where(mixed, np.nan, w) + s_bar.squeeze(1).diag_embed()
    bar = u[:, :, :r] @ w @ vh[:, :r]
    if k > r:
        bar = bar + u[:, :, r:] @ _over_rule(by_u[:, r:, :r], values, noise, close) @ vh[:, :r]
    if q > r:
        bar = bar + u[:, :, :r] @ _over_rule(-by_v[:, :r, r:], values.mT, noise, close) @ vh[:, r:]
    if m > k:
        left = u_bar - u @ turn_u
        bar = bar + _over_rule(left, values, _bound(u_bar, _NOISE, m), close) @ vh
    if n > q:
        left = vh_bar - turn_v.mT @ vh
        bar = bar + u @ _over_rule(left, values.mT, _bound(vh_bar, _NOISE, n), close)
    return bar.reshape(s[0])


@array_op(
    1,
    vjps=(_svd_vjp,),
    partials=(_svd_rule,),
    room=4,
    failure=("linalg.svd" + NOT_CONVERGED + "singular values.", "linalg.svd" + NOT_FINITE),
    grad_name="LinalgSvdBackward0",
    parts=times_first,
)
def svd(p, lapack, work, memory, status, a, y):
    """Singular values, descending, and their vectors. `p`: (n_batch, m, n, full, elements of memory).

    LAPACK is given columns, as NumPy and PyTorch give it: so the signs of vectors are theirs.
    """
    n_batch, m, n, full = p[0], p[1], p[2], p[3]
    r = min(m, n)
    k, q = (m, n) if full else (r, r)
    copy, at_s, at_v = memory[: m * n], n_batch * m * k, n_batch * (m * k + r)
    columns, rows = memory[m * n : m * (n + k)], memory[m * (n + k) : m * (n + k) + q * n]
    left = memory[m * (n + k) + q * n :]
    for batch in range(n_batch):
        of = a[batch * m * n : (batch + 1) * m * n]
        u, vh = y[batch * m * k : (batch + 1) * m * k], y[at_v + batch * q * n : at_v + (batch + 1) * q * n]
        if not is_finite(of):
            status[0], status[1] = 1 + batch, -1
            return
        if r == 0:
            identity(u, k if full else 0)
            identity(vh, q if full else 0)
            continue
        for i in range(m):
            for j in range(n):
                copy[j * m + i] = of[i * n + j]
        s = y[at_s + batch * r : at_s + (batch + 1) * r]
        info = gesdd(lapack, work, ALL if full else SOME, n, m, q, copy, rows, s, columns, left)
        if info:
            status[0], status[1] = 1 + batch, info
            return
        for i in range(m):
            for j in range(k):
                u[i * k + j] = columns[j * m + i]
        for i in range(q):
            for j in range(n):
                vh[i * n + j] = rows[j * q + i]


# --- pseudoinverses ---------------------------------------------------------------------------------------------------


def pinv_room(m: int, n: int) -> int:
    """How many elements its kernels work in."""
    r = min(m, n)
    return max(m * n + (m + n + 9) * r + gesdd_room(m, n), pinv_vjp_room(m, n))


def pinv_vjp_room(m: int, n: int) -> int:
    """How many that of its adjoint works in."""
    return 3 * n * n + m * n


def _pinv_vjp(p, gemm, work, memory, a, b, y, y_bar, a_bar):
    """a_bar += y' (g' - g - g' y a) + (1 - a y) y_bar' y y', where g = y_bar y': Golub and Pereyra (1973).

    That is so while the rank does not change.
    """
    m, n = p[1], p[2]
    g, h, t, d = memory[: n * n], memory[n * n : 2 * n * n], memory[2 * n * n : 3 * n * n], memory[3 * n * n :]
    for batch in range(p[0]):
        at = batch * m * n
        x, inverse, bar = a[at : at + m * n], y[at : at + m * n], y_bar[at : at + m * n]
        to = a_bar[at : at + m * n]
        product_into(gemm, work, n, n, m, 1.0, bar, 0, inverse, 1, 0.0, g)
        product_into(gemm, work, n, n, m, 1.0, inverse, 0, x, 0, 0.0, t)
        for i in range(n):
            for j in range(n):
                h[i * n + j] = g[j * n + i] - g[i * n + j]
        product_into(gemm, work, n, n, n, -1.0, g, 1, t, 0, 1.0, h)
        product_into(gemm, work, m, n, n, 1.0, inverse, 1, h, 0, 1.0, to)
        product_into(gemm, work, n, n, m, 1.0, inverse, 0, inverse, 1, 0.0, t)
        product_into(gemm, work, m, n, n, 1.0, bar, 1, t, 0, 0.0, d)
        product_into(gemm, work, n, n, m, 1.0, inverse, 0, d, 0, 0.0, t)
        product_into(gemm, work, m, n, n, -1.0, x, 0, t, 0, 1.0, d)
        for i in range(m * n):
            to[i] += d[i]


def _pinv_rule(a, y, g):
    turned = g @ y.mT
    d = g.mT @ (y @ y.mT)
    return y.mT @ (turned.mT - turned - turned.mT @ (y @ a)) + d - a @ (y @ d)


@array_op(
    2,
    vjps=(_pinv_vjp, None),
    partials=(_pinv_rule, None),
    room=3,
    failure=("linalg.svd" + NOT_CONVERGED + "singular values.", "linalg.svd" + NOT_FINITE),
    grad_name="LinalgPinvBackward0",
)
def pinv(p, gemm, lapack, work, memory, status, a, b, y):
    """The pseudoinverse; singular values up to max(b, b' s_max) count as zero, two numbers for each matrix.

    `p`: (n_batch, m, n, elements of memory, symmetric): then only the lower triangle is read.
    """
    m, n = p[1], p[2]
    r = min(m, n)
    copy, u, s = memory[: m * n], memory[m * n : m * n + m * r], memory[m * n + m * r : m * n + m * r + r]
    vh, left = memory[m * n + (m + 1) * r : m * n + (m + 1 + n) * r], memory[m * n + (m + 1 + n) * r :]
    for batch in range(p[0]):
        of, inverse = a[batch * m * n : (batch + 1) * m * n], y[batch * m * n : (batch + 1) * m * n]
        for i in range(m):
            for j in range(n):
                copy[i * n + j] = of[j * n + i] if p[4] and j > i else of[i * n + j]
        if not is_finite(copy):
            status[0], status[1] = 1 + batch, -1
            return
        info = gesdd(lapack, work, SOME, m, n, r, copy, u, s, vh, left)
        if info:
            status[0], status[1] = 1 + batch, info
            return
        tolerance = max(b[batch], b[p[0] + batch] * largest(s))
        for j in range(r):
            factor = 1 / s[j] if s[j] > tolerance else s.dtype.type(0)
            for i in range(m):
                u[i * r + j] *= factor
        product_into(gemm, work, n, m, r, 1.0, vh, 1, u, 1, 0.0, inverse)
