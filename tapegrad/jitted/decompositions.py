"""Eigenvalues, singular values, orthogonal factors, pseudoinverses and least squares of active arrays.

In plain reverse mode each is one block row, with the results one after another, as `ops` has them. For the other active
types plain factors are refined: a step of Newton's kind from factors of the values leaves the values as they are, and
makes derivatives right, to the first order in one step, and to the third in two. Steps are products, sums and
quotients, which have their rules; values are replaced by LAPACK's.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numba.core import types
from numba.extending import overload

from tapegrad.jitted import array_rows as rows
from tapegrad.jitted import checking, complex_arrays
from tapegrad.jitted.active import Active, Complex, Taped, is_complex_array, is_narrow_array
from tapegrad.jitted.allocation import vector_of
from tapegrad.jitted.inner import OPTIONS, inside
from tapegrad.jitted.library import loop, replaces
from tapegrad.jitted.lifting import laid_out, with_value
from tapegrad.jitted.linalg import contiguous_values, dims_of, revalued
from tapegrad.ops import orthogonal, spectral

_CLOSE = 8 * float(np.finfo(np.float64).eps)  # times the size: values that are not told apart, as in `ops/spectral.py`
_CLOSE_SINGLE = 8 * float(np.finfo(np.float32).eps)


def _of_one_matrix(a, block, refined):
    """The code for a matrix of active scalars, or of complex numbers."""
    if not _is_matrix(a):
        return None
    return block if a.dtype == Taped(0) else loop(refined, a)


def _is_matrix(a):
    return (2,) in (dims_of(a), complex_arrays.dims_of(a))


def _is_single(a):
    return is_narrow_array(a) and a.ndim == 2


@replaces(np.linalg.eigh, is_single=True)
def eigh(a):
    """Eigenvalues and eigenvectors of a symmetric matrix."""
    if _is_single(a):
        return loop(_single_eigh, a)
    return _of_one_matrix(a, _block_eigh, _eigh)


@replaces(np.linalg.eigvalsh)
def eigvalsh(a):
    """The eigenvalues alone."""
    return _of_one_matrix(a, _block_eigvalsh, _eigvalsh)


@replaces(np.linalg.eig, is_single=True)
def eig(a):
    """Eigenvalues and eigenvectors; of a real matrix they are real, Numba raises for others."""
    if _is_single(a):
        return loop(_single_eig, a)
    return loop(_eig, a) if _is_matrix(a) else None


@replaces(np.linalg.eigvals)
def eigvals(a):
    """The eigenvalues alone."""
    return loop(_eigvals, a) if _is_matrix(a) else None


@replaces(np.linalg.svd, is_single=True)
def svd(a, full_matrices=True):
    """Singular values and their vectors."""
    if _is_single(a):
        return loop(_single_svd if isinstance(full_matrices, types.Type) else _single_full_svd, a)
    if not _is_matrix(a):
        return None
    block = a.dtype == Taped(0)
    if isinstance(full_matrices, types.Type):
        return _block_svd if block else loop(_svd, a)
    return _block_full_svd if block else loop(_full_svd, a)


@replaces(np.linalg.qr)
def qr(a):
    """Orthonormal columns and a triangle."""
    return _of_one_matrix(a, _block_qr, _qr)


@replaces(np.linalg.pinv)
def pinv(a, rcond=1e-15):
    """The pseudoinverse."""
    if not _is_matrix(a):
        return None
    block = a.dtype == Taped(0)
    if isinstance(rcond, types.Type):
        return _block_pinv if block else loop(_pinv, a)
    return _block_usual_pinv if block else loop(_usual_pinv, a)


@replaces(np.linalg.lstsq)
def lstsq(a, b, rcond=-1.0):
    """The least-squares solution, squares of what is left, the rank, and singular values."""
    dims = dims_of(a, b) or complex_arrays.dims_of(a, b)
    if dims is None or dims[0] != 2 or dims[1] not in (1, 2):
        return None
    given = isinstance(rcond, types.Type)
    if dims[1] == 1:
        return loop(_lstsq_vector if given else _usual_lstsq_vector, a, b)
    return loop(_lstsq_matrix if given else _usual_lstsq_matrix, a, b)


@replaces(np.linalg.cond)
def cond(x, p=None):
    """The condition number: of singular values."""
    return loop(_cond, x) if p is None and _is_matrix(x) else None


@replaces(np.linalg.matrix_rank)
def matrix_rank(A):
    """The rank, which is no function of real numbers."""
    return (lambda A: np.linalg.matrix_rank(contiguous_values(A))) if dims_of(A) == (2,) else None


# --- as block rows ----------------------------------------------------------------------------------------------------
# Results are kept in the place of a second operand, which is passive: there are more of them than of the first.

_eigh_room, _svd_room = inside(spectral.eigh_room), inside(spectral.svd_vjp_room)
_qr_room, _pinv_room = inside(orthogonal.qr_vjp_room), inside(spectral.pinv_vjp_room)


@inside
def _put(packed, at, x):
    for value in x.flat:
        packed[at] = value
        at += 1
    return at


@inside
def _block_eigh(a):
    x, n = contiguous_values(a), a.shape[0]
    values, vectors = np.linalg.eigh(x)
    y = vector_of(n * n + n)
    _put(y, _put(y, 0, vectors), values)
    both = rows.binary(rows.eigh(), (1, n, 0, _eigh_room(n), 0, 0, 0, 0), a, x, y, y, y)
    return both[n * n :], laid_out(both[: n * n].reshape(n, n), vectors)


@inside
def _block_eigvalsh(a):
    return revalued(_block_eigh(a)[0], np.linalg.eigvalsh(contiguous_values(a)))


@inside
def _block_svd(a, full_matrices):
    x = contiguous_values(a)
    m, n = a.shape
    u, s, vh = np.linalg.svd(x, full_matrices)
    k, q, r, full = u.shape[1], vh.shape[0], s.shape[0], 1 if full_matrices else 0
    y = vector_of(m * k + r + q * n)
    _put(y, _put(y, _put(y, 0, u), s), vh)
    every = rows.binary(rows.svd(), (1, m, n, full, _svd_room(m, n, full), 0, 0, 0), a, x, y, y, y)
    left, right = every[: m * k].reshape(m, k), every[m * k + r :].reshape(q, n)
    return laid_out(left, u), every[m * k : m * k + r], laid_out(right, vh)


@inside
def _block_full_svd(a):
    return _block_svd(a, True)


@inside
def _block_qr(a):
    x = contiguous_values(a)
    m, n = a.shape
    q, r = np.linalg.qr(x)
    k = q.shape[1]
    y = vector_of(m * k + k * n)
    _put(y, _put(y, 0, q), r)
    both = rows.binary(rows.qr(), (1, m, n, 0, _qr_room(m, n), 0, 0, 0), a, x, y, y, y)
    return laid_out(both[: m * k].reshape(m, k), q), laid_out(both[m * k :].reshape(k, n), r)


@inside
def _block_pinv(a, rcond):
    x = contiguous_values(a)
    m, n = a.shape
    y = np.linalg.pinv(x, rcond)
    return rows.binary(rows.pinv(), (1, m, n, _pinv_room(m, n), 0, 0, 0, 0), a, x, y, y, y)


@inside
def _block_usual_pinv(a):
    return _block_pinv(a, 1e-15)


# --- refined ----------------------------------------------------------------------------------------------------------
# From factors of the values, of real matrices and of complex ones.


def adjoint(x):
    """The conjugate transpose."""
    raise NotImplementedError


@overload(adjoint, OPTIONS)
def _adjoint(x):
    return (lambda x: np.conj(x.T)) if is_complex_array(x) else (lambda x: x.T)


def phase(t, s):
    """What turns a singular vector, half of what an imaginary part of `t` asks for: 0 of real numbers."""
    raise NotImplementedError


@overload(phase, OPTIONS)
def _phase(t, s):
    return (lambda t, s: 0.25 * (t - np.conj(t)) / s) if isinstance(t, Complex) else (lambda t, s: 0.0)


def turned(v, k):
    """A vector turned so that its element `k` is real, as LAPACK has eigenvectors of complex matrices."""
    raise NotImplementedError


@overload(turned, OPTIONS)
def _turned(v, k):
    return (lambda v, k: v * (np.conj(v[k]) / np.abs(v[k]))) if is_complex_array(v) else (lambda v, k: v)


def steps_of(a):
    """How many steps make derivatives right: each takes the order that is right, and one more, to twice that."""
    raise NotImplementedError


@overload(steps_of, OPTIONS)
def _steps_of(a):
    part = a.dtype.part if is_complex_array(a) else a.dtype
    n = max(2, math.ceil(math.log2(part.depth + 2))) if isinstance(part, Active) else 2
    return lambda a: n


@njit
def _from_plain(like, plain):
    """An array of plain numbers, to which derivatives can be given."""
    made = np.zeros_like(like)
    for at in np.ndindex(plain.shape):
        made[at] = plain[at]
    return made


@njit
def _eigh(a):
    plain, plain_vectors = np.linalg.eigh(contiguous_values(a))
    return _refined_eigh(a, plain, plain_vectors, _CLOSE)


@njit
def _single_eigh(a):
    plain, plain_vectors = np.linalg.eigh(contiguous_values(a))
    wide = plain.astype(np.float64), plain_vectors.astype(np.float64)
    values, v = _refined_eigh(a.astype(np.float64), wide[0], wide[1], _CLOSE_SINGLE)
    return values.astype(np.float32), laid_out(v.astype(np.float32), plain_vectors)


@njit
def _refined_eigh(a, plain, plain_vectors, closeness):
    """Ogita and Aishima, Iterative refinement for symmetric eigenvalue decomposition (2018)."""
    lower, n = contiguous_values(a), a.shape[0]
    s, v, e, values = np.zeros_like(a), _from_plain(a, plain_vectors), np.zeros_like(a), np.empty(n)
    for i in range(n):
        for j in range(i + 1):
            s[i, j] = revalued(0.5 * (a[i, j] + np.conj(a[j, i])), lower[i, j])
            s[j, i] = np.conj(s[i, j])
        s[i, i] = np.real(s[i, i])
    close = closeness * n * np.max(np.abs(plain)) if n else 0.0
    for _ in range(steps_of(a)):
        b, g = np.dot(adjoint(v), np.dot(s, v)), np.dot(adjoint(v), v)
        for i in range(n):
            values[i] = np.real(b[i, i]) / np.real(g[i, i])
        for i in range(n):
            for j in range(n):
                r = (1.0 if i == j else 0.0) - g[i, j]
                if abs(plain[j] - plain[i]) <= close:
                    e[i, j] = 0.5 * r
                else:
                    e[i, j] = (b[i, j] + values[j] * r) / (values[j] - values[i])
        v = revalued(v + np.dot(v, e), plain_vectors)
    return revalued(values, plain), laid_out(v, plain_vectors)


@njit
def _eig(a):
    plain, plain_vectors = np.linalg.eig(contiguous_values(a))
    return _refined_eig(a, plain, plain_vectors, _CLOSE)


@njit
def _single_eig(a):
    plain, plain_vectors = np.linalg.eig(contiguous_values(a))
    wide = plain.astype(np.float64), plain_vectors.astype(np.float64)
    values, v = _refined_eig(a.astype(np.float64), wide[0], wide[1], _CLOSE_SINGLE)
    return values.astype(np.float32), laid_out(v.astype(np.float32), plain_vectors)


@njit
def _refined_eig(a, plain, plain_vectors, closeness):
    """Newton's steps for all eigenvectors at once, each of length 1, as LAPACK has them."""
    n = a.shape[0]
    v, e = _from_plain(a, plain_vectors), np.zeros_like(a)
    values = np.zeros_like(np.diag(e))
    close = closeness * n * np.max(np.abs(plain)) if n else 0.0
    for _ in range(steps_of(a)):
        b = np.linalg.solve(v, np.dot(a, v))
        for i in range(n):
            values[i] = b[i, i]
        for i in range(n):
            for j in range(n):
                if abs(plain[j] - plain[i]) > close:
                    e[i, j] = b[i, j] / (values[j] - values[i])
                else:
                    e[i, j] = 0.0
        v = v + np.dot(v, e)
        for j in range(n):
            w = turned(v[:, j].copy(), np.argmax(np.abs(plain_vectors[:, j])))
            v[:, j] = w / np.linalg.norm(w)
        v = revalued(v, plain_vectors)
    return revalued(values, plain), laid_out(v, plain_vectors)


@njit
def _eigvals(a):
    return revalued(_eig(a)[0], np.linalg.eigvals(contiguous_values(a)))


@njit
def _eigvalsh(a):
    return revalued(_eigh(a)[0], np.linalg.eigvalsh(contiguous_values(a)))


@njit
def _svd(a, full_matrices):
    plain_u, plain, plain_vh = np.linalg.svd(contiguous_values(a), full_matrices)
    return _refined_svd(a, plain_u, plain, plain_vh, _CLOSE)


@njit
def _single_svd(a, full_matrices):
    plain_u, plain, plain_vh = np.linalg.svd(contiguous_values(a), full_matrices)
    wide = plain_u.astype(np.float64), plain.astype(np.float64), plain_vh.astype(np.float64)
    u, s, vh = _refined_svd(a.astype(np.float64), wide[0], wide[1], wide[2], _CLOSE_SINGLE)
    u, s, vh = u.astype(np.float32), s.astype(np.float32), vh.astype(np.float32)
    return laid_out(u, plain_u), s, laid_out(vh, plain_vh)


@njit
def _single_full_svd(a):
    return _single_svd(a, True)


@njit
def _refined_svd(a, plain_u, plain, plain_vh, closeness):
    """Ogita and Aishima, Iterative refinement of singular vectors (2020), by sums and differences of both updates."""
    m, n = a.shape
    r = min(m, n)
    u, v, s = _from_plain(a[:, :r], plain_u[:, :r]), _from_plain(a[:r].T, np.conj(plain_vh[:r].T)), np.empty(r)
    e, f = np.zeros_like(a[:r, :r]), np.zeros_like(a[:r, :r])
    p, q = np.zeros_like(u), np.zeros_like(v)
    close = closeness * max(m, n) * plain[0] if r else 0.0
    for _ in range(steps_of(a)):
        onto, back = np.dot(a, v), np.dot(adjoint(a), u)
        t, gu, gv = np.dot(adjoint(u), onto), np.dot(adjoint(u), u), np.dot(adjoint(v), v)
        for i in range(r):
            s[i] = 2.0 * np.real(t[i, i]) / (np.real(gu[i, i]) + np.real(gv[i, i]))
        for i in range(r):
            for j in range(r):
                of_u, of_v = (1.0 if i == j else 0.0) - gu[i, j], (1.0 if i == j else 0.0) - gv[i, j]
                alpha, beta = t[i, j] + s[j] * of_u, np.conj(t[j, i]) + s[j] * of_v
                both, apart = 0.5 * (of_u + of_v), 0.5 * (of_u - of_v)
                if abs(plain[j] - plain[i]) > close:
                    both = (alpha + beta) / (s[j] - s[i])
                if i != j and plain[j] + plain[i] > close:
                    apart = (alpha - beta) / (s[j] + s[i])
                e[i, j], f[i, j] = 0.5 * (both + apart), 0.5 * (both - apart)
            if plain[i] > close:
                turn = phase(t[i, i], s[i])
                e[i, i] += turn
                f[i, i] -= turn
        # what leads out of the spaces of columns that are orthonormal to the first order: (u' u)^-1 is 2 - u' u
        left = onto - np.dot(u, 2.0 * t - np.dot(gu, t))
        right = back - np.dot(v, 2.0 * adjoint(t) - np.dot(gv, adjoint(t)))
        for j in range(r):
            if plain[j] > close:
                for i in range(m):
                    p[i, j] = left[i, j] / s[j]
                for i in range(n):
                    q[i, j] = right[i, j] / s[j]
        u = revalued(u + np.dot(u, e) + p, plain_u[:, :r])
        v = revalued(v + np.dot(v, f) + q, np.conj(plain_vh[:r].T))
    left, right = _completed(u, plain_u), adjoint(_completed(v, np.conj(plain_vh.T)))
    return laid_out(left, plain_u), revalued(s, plain), laid_out(right, plain_vh)


@njit
def _full_svd(a):
    return _svd(a, True)


@njit
def _completed(u, plain):
    """Orthonormal columns, with those that stand beside them in plain ones: what is left of space."""
    m, r, k = plain.shape[0], u.shape[1], plain.shape[1]
    whole = _from_plain(np.empty((m, k), u.dtype), plain)
    rest = whole[:, r:].copy()
    for _ in range(steps_of(u)):
        rest = rest - np.dot(u, np.dot(adjoint(u), rest))
        g = np.dot(adjoint(rest), rest)
        rest = revalued(1.5 * rest - 0.5 * np.dot(rest, g), plain[:, r:])
    whole[:, :r] = u
    whole[:, r:] = rest
    return whole


@njit
def _qr(a):
    """By Gram and Schmidt: of values they are LAPACK's."""
    plain_q, plain_r = np.linalg.qr(contiguous_values(a))
    m, n = a.shape
    k = min(m, n)
    q, r = np.zeros_like(a[:, :k]), np.zeros_like(a[:k])
    for j in range(n):
        w = a[:, j].copy()
        for l in range(min(j, k)):  # noqa: E741 - an index
            total = 0.0
            for i in range(m):
                total += np.conj(q[i, l]) * w[i]
            r[l, j] = total
            for i in range(m):
                w[i] -= total * q[i, l]
        if j < k:
            length = np.linalg.norm(w)
            r[j, j] = -length if np.real(plain_r[j, j]) < 0.0 else length
            for i in range(m):
                q[i, j] = w[i] / r[j, j]
    return laid_out(revalued(q, plain_q), plain_q), laid_out(revalued(r, plain_r), plain_r)


@njit
def _pinv(a, rcond):
    """(a' a)^-1 a', the inverse by Newton's iteration from that of the values; of a wide matrix the other way round."""
    x = contiguous_values(a)
    plain = np.linalg.pinv(x, rcond)
    m, n = a.shape
    if m < n:
        return laid_out(revalued(adjoint(_pinv(adjoint(a), rcond)), plain), plain)
    if np.max(np.abs(np.dot(plain, x) - np.eye(n))) > 1e-6 if n else False:
        raise np.linalg.LinAlgError("pinv is differentiated forward, or twice, where the rank is full")
    square, start = np.dot(adjoint(a), a), np.dot(plain, np.conj(plain.T))
    g = _from_plain(square, start)
    for _ in range(steps_of(a)):
        g = revalued(2.0 * g - np.dot(g, np.dot(square, g)), start)
    return laid_out(revalued(np.dot(g, adjoint(a)), plain), plain)


@njit
def _usual_pinv(a):
    return _pinv(a, 1e-15)


@njit
def _lstsq_parts(a, b, rcond):
    """The solution, and singular values."""
    bound = rcond if rcond >= 0.0 else 2.220446049250313e-16
    return np.dot(np.linalg.pinv(a, bound), b), np.linalg.svd(a, False)[1]


@njit
def _lstsq_vector(a, b, rcond):
    x, s = _lstsq_parts(a, b, rcond)
    plain = np.linalg.lstsq(contiguous_values(a), contiguous_values(b), rcond)
    rank, left = plain[2], np.empty(plain[1].shape[0])
    if left.shape[0]:
        d = np.dot(a, x) - b
        left[0] = np.real(np.vdot(d, d))
    return revalued(x, plain[0]), revalued(left, plain[1]), rank, revalued(s, plain[3])


@njit
def _usual_lstsq_vector(a, b):
    return _lstsq_vector(a, b, -1.0)


@njit
def _lstsq_matrix(a, b, rcond):
    x, s = _lstsq_parts(a, b, rcond)
    plain = np.linalg.lstsq(contiguous_values(a), contiguous_values(b), rcond)
    rank, left = plain[2], np.empty(plain[1].shape[0])
    if left.shape[0]:
        d = np.dot(a, x) - b
        for j in range(b.shape[1]):
            left[j] = np.real(np.vdot(d[:, j], d[:, j]))
    return revalued(x, plain[0]), revalued(left, plain[1]), rank, revalued(s, plain[3])


@njit
def _usual_lstsq_matrix(a, b):
    return _lstsq_matrix(a, b, -1.0)


@njit
def _cond(x):
    s = np.linalg.svd(x, False)[1]
    return with_value(s[0] / s[s.shape[0] - 1], np.linalg.cond(contiguous_values(x)))


checking.ALLOWED.update({adjoint, phase, steps_of, turned})
