"""Linear algebra on active arrays.

In plain reverse mode a product, a solution or a factorisation is one block row (`block_rows.py`), computed by BLAS and
LAPACK in both directions. For the other active types there are the textbook's loops, which the rules differentiate;
their values are replaced by those of BLAS and LAPACK, so that every transform has the values of the plain function.
"""

from __future__ import annotations

import operator

import numpy as np
from numba import njit
from numba.core import types
from numba.extending import overload

from tapegrad.jitted.access import known_row, open_tape
from tapegrad.jitted.active import PASSIVE, Active, Taped, is_active_array
from tapegrad.jitted.arrays import values
from tapegrad.jitted.block_rows import (
    add_bar,
    address_of,
    bar_of,
    begin_block,
    end_block,
    end_long,
    keep,
    kept_row,
    kept_value,
)  # fmt: skip
from tapegrad.jitted.checking import ALLOWED
from tapegrad.jitted.inner import OPTIONS, inside
from tapegrad.jitted.library import active_in, loop, replaces
from tapegrad.jitted.lifting import make, row_of, with_value


def _dims(*kinds):
    """The dimensions of arrays of floats, one of them active; None where there are others."""
    if not all(isinstance(k, types.Array) and isinstance(k.dtype, (Active, *PASSIVE)) for k in kinds):
        return None
    return tuple(k.ndim for k in kinds) if any(map(is_active_array, kinds)) else None


def _contiguous(a):
    """The plain values of an array, as BLAS takes them."""
    raise NotImplementedError


@overload(_contiguous, OPTIONS)
def _contiguous_values(a):
    return (lambda a: np.ascontiguousarray(values(a))) if a.layout == "A" else (lambda a: values(a))


def _revalued(result, plain):
    """An active array with other values, and its own derivatives."""
    raise NotImplementedError


@overload(_revalued, OPTIONS)
def _revalue(result, plain):
    if not is_active_array(result):
        return lambda result, plain: plain

    def revalue(result, plain):
        for at in np.ndindex(result.shape):
            result[at] = with_value(result[at], plain[at])
        return result

    return revalue


def _product(a, b):
    dims = _dims(a, b)
    if dims in ((2, 1), (1, 2), (2, 2)) and active_in(a, b) == Taped(0):
        return {(2, 1): _block_matrix_vector, (1, 2): _block_vector_matrix, (2, 2): _block_product}[dims]
    known = {(1, 1): _dot, (2, 1): _matrix_vector, (1, 2): _vector_matrix, (2, 2): _matrix_matrix}
    kernel = known.get(dims or ())
    return None if kernel is None else loop(kernel, a, b)


@replaces(np.dot, method="dot")
def dot(a, b):
    """Products of vectors and matrices."""
    return _product(a, b)


@replaces(np.vdot)
def vdot(a, b):
    """The product of vectors."""
    return _product(a, b) if _dims(a, b) == (1, 1) else None


@overload(operator.matmul)
def matmul(a, b):
    """`a @ b`."""
    product = _product(a, b)
    return None if product is None else lambda a, b: product(a, b)


@njit
def _dot(a, b):
    if a.shape[0] != b.shape[0]:
        raise ValueError("incompatible array sizes for np.dot(a, b) (vector * vector)")
    total = 0.0
    for k in range(a.shape[0]):
        total += a[k] * b[k]
    return with_value(total, np.dot(_contiguous(a), _contiguous(b)))


@njit
def _matrix_vector(a, b):
    if a.shape[1] != b.shape[0]:
        raise ValueError("incompatible array sizes for np.dot(a, b) (matrix * vector)")
    result = np.empty(a.shape[0])
    for i in range(a.shape[0]):
        total = 0.0
        for k in range(a.shape[1]):
            total += a[i, k] * b[k]
        result[i] = total
    return _revalued(result, np.dot(_contiguous(a), _contiguous(b)))


@njit
def _vector_matrix(a, b):
    if a.shape[0] != b.shape[0]:
        raise ValueError("incompatible array sizes for np.dot(a, b) (vector * matrix)")
    result = np.empty(b.shape[1])
    for j in range(b.shape[1]):
        total = 0.0
        for k in range(b.shape[0]):
            total += a[k] * b[k, j]
        result[j] = total
    return _revalued(result, np.dot(_contiguous(a), _contiguous(b)))


@njit
def _matrix_matrix(a, b):
    if a.shape[1] != b.shape[0]:
        raise ValueError("incompatible array sizes for np.dot(a, b) (matrix * matrix)")
    result = np.empty((a.shape[0], b.shape[1]))
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            total = 0.0
            for k in range(a.shape[1]):
                total += a[i, k] * b[k, j]
            result[i, j] = total
    return _revalued(result, np.dot(_contiguous(a), _contiguous(b)))


@replaces(np.outer)
def outer(a, b):
    """Products of all pairs."""
    return loop(_outer, a, b) if _dims(a, b) else None


@njit
def _outer(a, b):
    x, y = a.ravel(), b.ravel()
    result = np.empty((x.size, y.size))
    for i in range(x.size):
        for j in range(y.size):
            result[i, j] = x[i] * y[j]
    return result


@replaces(np.kron)
def kron(a, b):
    """The Kronecker product of matrices."""
    return loop(_kron, a, b) if _dims(a, b) == (2, 2) else None


@njit
def _kron(a, b):
    p, q = b.shape
    result = np.empty((a.shape[0] * p, a.shape[1] * q))
    for i in range(result.shape[0]):
        for j in range(result.shape[1]):
            result[i, j] = a[i // p, j // q] * b[i % p, j % q]
    return result


@replaces(np.cross)
def cross(a, b):
    """The product of two vectors of three elements."""
    return loop(_cross, a, b) if _dims(a, b) == (1, 1) else None


@njit
def _cross(a, b):
    if a.size != 3 or b.size != 3:
        raise ValueError("np.cross is differentiated for vectors of three elements")
    result = np.empty(3)
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        result[i] = a[j] * b[k] - a[k] * b[j]
    return result


@replaces(np.convolve)
def convolve(a, v):
    """The full discrete convolution of vectors."""
    return loop(_convolve, a, v) if _dims(a, v) == (1, 1) else None


@njit
def _convolve(a, v):
    plain = np.convolve(_contiguous(a), _contiguous(v))
    result = np.empty(a.size + v.size - 1)
    for i in range(result.size):
        total = 0.0
        for k in range(max(0, i - v.size + 1), min(i + 1, a.size)):
            total += a[k] * v[i - k]
        result[i] = total
    return _revalued(result, plain)


@replaces(np.trace)
def trace(a):
    """The sum of the diagonal."""
    return loop(_trace, a) if _dims(a) == (2,) else None


@njit
def _trace(a):
    total = 0.0
    for i in range(min(a.shape)):
        total += a[i, i]
    return total


@replaces(np.linalg.norm)
def norm(x, ord=None):
    """The Euclidean norm of all elements; of a vector also those of order 1 and infinity."""
    return loop(_norm, x) if ord is None and isinstance(x, types.Array) else None


@njit
def _norm(x):
    """By the largest element, so that no square over- or underflows; at 0 the derivative is 0."""
    plain = np.linalg.norm(_contiguous(x))
    scale = 0.0
    for e in _contiguous(x).flat:
        scale = max(scale, abs(e))
    if scale == 0.0:
        return plain
    scale = max(scale, 1e-300) if np.isfinite(scale) else 1.0  # 1 / scale is finite
    total = 0.0
    for e in x.flat:
        total += (e / scale) * (e / scale)
    return with_value(scale * np.sqrt(total), plain)


@njit
def _factorised(a):
    """P A = L U in place of a copy: (LU, the order of the rows, the sign of that order)."""
    n = a.shape[0]
    if a.shape[1] != n:
        raise np.linalg.LinAlgError("Last 2 dimensions of the array must be square.")
    lu, order, sign = a.copy(), np.arange(n), 1.0
    for k in range(n):
        pivot = k
        for i in range(k + 1, n):
            if abs(lu[i, k]) > abs(lu[pivot, k]):
                pivot = i
        if lu[pivot, k] == 0.0:
            raise np.linalg.LinAlgError("Matrix is singular to machine precision.")
        if pivot != k:
            sign = -sign
            order[k], order[pivot] = order[pivot], order[k]
            for j in range(n):
                t = lu[k, j]
                lu[k, j] = lu[pivot, j]
                lu[pivot, j] = t
        for i in range(k + 1, n):
            f = lu[i, k] / lu[k, k]
            lu[i, k] = f
            for j in range(k + 1, n):
                lu[i, j] = lu[i, j] - f * lu[k, j]
    return lu, order, sign


@njit
def _solve_factorised(lu, order, b):
    n = lu.shape[0]
    x = np.empty(n)
    for i in range(n):
        total = b[order[i]] + 0.0
        for k in range(i):
            total -= lu[i, k] * x[k]
        x[i] = total
    for i in range(n - 1, -1, -1):
        total = x[i] + 0.0
        for k in range(i + 1, n):
            total -= lu[i, k] * x[k]
        x[i] = total / lu[i, i]
    return x


@replaces(np.linalg.solve)
def solve(a, b):
    """The solution of a linear system."""
    dims = _dims(a, b)
    if dims is None or dims[0] != 2 or dims[1] not in (1, 2):
        return None
    if active_in(a, b) == Taped(0):
        return _block_solve_vector if dims[1] == 1 else _block_solve
    return loop(_solve_vector if dims[1] == 1 else _solve_matrix, a, b)


@njit
def _solve_vector(a, b):
    plain = np.linalg.solve(_contiguous(a), _contiguous(b))
    lu, order, _ = _factorised(a)
    return _revalued(_solve_factorised(lu, order, b), plain)


@njit
def _solve_matrix(a, b):
    plain = np.linalg.solve(_contiguous(a), _contiguous(b))
    lu, order, _ = _factorised(a)
    x = np.empty(b.shape)
    for j in range(b.shape[1]):
        x[:, j] = _solve_factorised(lu, order, b[:, j])
    return _revalued(x, plain)


@replaces(np.linalg.inv)
def inv(a):
    """The inverse of a matrix."""
    if _dims(a) != (2,):
        return None
    return _block_inv if a.dtype == Taped(0) else loop(_inv, a)


@njit
def _inv(a):
    plain = np.linalg.inv(_contiguous(a))
    return _revalued(_solve_matrix(a, np.eye(a.shape[0])), plain)


@replaces(np.linalg.det)
def det(a):
    """The determinant of a matrix; of one that is singular, its derivative is by cofactors."""
    if _dims(a) != (2,):
        return None
    return _block_det if a.dtype == Taped(0) else loop(_det, a)


@njit
def _det(a):
    plain = np.linalg.det(_contiguous(a))
    if plain == 0.0:
        return with_value(_det_without_division(a), plain)
    lu, _, sign = _factorised(a)
    product = sign
    for i in range(a.shape[0]):
        product = product * lu[i, i]
    return with_value(product, plain)


@njit
def _det_without_division(a):
    """Bird's algorithm (A simple division-free algorithm for computing determinants, 2011): for any matrix."""
    n = a.shape[0]
    f = a.copy()
    for _ in range(n - 1):
        m = np.zeros((n, n))
        trace = 0.0
        for i in range(n - 1, -1, -1):
            m[i, i] = -trace
            trace = trace + f[i, i]
            for j in range(i + 1, n):
                m[i, j] = f[i, j]
        for i in range(n):
            for j in range(n):
                total = 0.0
                for k in range(i, n):
                    total += m[i, k] * a[k, j]
                f[i, j] = total
    return f[0, 0] if n % 2 == 1 else -f[0, 0]


@replaces(np.linalg.slogdet)
def slogdet(a):
    """The sign and the logarithm of a determinant."""
    if _dims(a) != (2,):
        return None
    return _block_slogdet if a.dtype == Taped(0) else loop(_slogdet, a)


@njit
def _slogdet(a):
    sign, plain = np.linalg.slogdet(_contiguous(a))
    lu, _, _ = _factorised(a)
    total = 0.0
    for i in range(a.shape[0]):
        total += np.log(abs(lu[i, i]))
    return sign, with_value(total, plain)


@replaces(np.linalg.cholesky)
def cholesky(a):
    """The Cholesky factor, of the lower triangle; its gradient is that by a symmetric matrix, half in each triangle."""
    if _dims(a) != (2,):
        return None
    return _block_cholesky if a.dtype == Taped(0) else loop(_cholesky, a)


@njit
def _cholesky(a):
    lower = _contiguous(a)
    plain = np.linalg.cholesky(lower)
    n = a.shape[0]
    factor = np.zeros((n, n))
    for i in range(n):
        for j in range(i + 1):
            total = with_value(0.5 * (a[i, j] + a[j, i]), lower[i, j])
            for k in range(j):
                total -= factor[i, k] * factor[j, k]
            if i != j:
                factor[i, j] = total / factor[j, j]
            elif total > 0.0:
                factor[i, i] = np.sqrt(total)
            else:
                raise np.linalg.LinAlgError("Matrix is not positive definite.")
    return _revalued(factor, plain)


# --- as blocks --------------------------------------------------------------------------------------------------------

KIND = Taped(0)


@inside
def _keep_matrix(header, at, rows, kept):
    """Keep the rows of one matrix with the values of another."""
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            keep(header, at, known_row(header, row_of(rows[i, j])), kept[i, j])
            at += 1
    return at


@inside
def _results(values, first):
    """Active results: rows from `first` on."""
    result = np.empty(values.shape, KIND)
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            result[i, j] = make(KIND, values[i, j], first + i * values.shape[1] + j, 0)
    return result


@inside
def _kept_matrix(header, at, n, m):
    result = np.empty((n, m))
    for i in range(n):
        for j in range(m):
            result[i, j] = kept_value(header, at + i * m + j)
    return result


@inside
def _bars(header, first, n, m):
    result = np.empty((n, m))
    for i in range(n):
        for j in range(m):
            result[i, j] = bar_of(header, first + i * m + j)
    return result


@inside
def _add_bars(header, at, bars):
    for i in range(bars.shape[0]):
        for j in range(bars.shape[1]):
            add_bar(header, kept_row(header, at + i * bars.shape[1] + j), bars[i, j])


@inside
def _block_product(a, b):
    return _product_row(a, b, np.dot(_contiguous(a), _contiguous(b)))


@inside
def _product_row(a, b, result):
    """A product's value as the results of a block."""
    n, k, m = a.shape[0], a.shape[1], b.shape[1]
    if result.size == 0:
        return _results(result, 0)
    header = open_tape(KIND)
    n_kept = n * k + k * m + 2
    at = begin_block(header, n_kept, n * m)
    at = _keep_matrix(header, at, a, values(a))
    at = _keep_matrix(header, at, b, values(b))
    keep(header, at, n, 0.0)
    keep(header, at + 1, k, 0.0)
    return _results(result, end_block(header, n_kept, n * m, address_of(_product_reverse)))


@inside
def _product_reverse(header, last, trailer):
    """Y = A B: A_bar += Y_bar B^T, B_bar += A^T Y_bar."""
    n, k = kept_row(header, trailer - 2), kept_row(header, trailer - 1)
    n_kept = kept_row(header, trailer)
    m = (n_kept - 2 - n * k) // k if k else 0
    at = trailer - n_kept
    a, b = _kept_matrix(header, at, n, k), _kept_matrix(header, at + n * k, k, m)
    y_bar = _bars(header, last - n * m + 1, n, m)
    if not np.any(y_bar):
        return at
    _add_bars(header, at, np.dot(y_bar, b.T))
    _add_bars(header, at + n * k, np.dot(a.T, y_bar))
    return at


@inside
def _block_matrix_vector(a, b):
    result = np.dot(_contiguous(a), _contiguous(b)).reshape((-1, 1))
    return _product_row(a, b.copy().reshape((b.size, 1)), result)[:, 0]


@inside
def _block_vector_matrix(a, b):
    result = np.dot(_contiguous(a), _contiguous(b)).reshape((1, -1))
    return _product_row(a.copy().reshape((1, a.size)), b, result)[0]


@inside
def _block_solve(a, b):
    return _solution(a, b, np.linalg.solve(_contiguous(a), _contiguous(b)))


@inside
def _solution(a, b, solution):
    """A solution's value as the results of a block."""
    n, m = solution.shape
    header = open_tape(KIND)
    n_kept = n * n + n * m + 1
    at = begin_block(header, n_kept, n * m)
    at = _keep_matrix(header, at, a, values(a))
    at = _keep_matrix(header, at, b, solution)
    keep(header, at, n, 0.0)
    return _results(solution, end_block(header, n_kept, n * m, address_of(_solve_reverse)))


@inside
def _solve_reverse(header, last, trailer):
    """A X = B: B_bar += A^-T X_bar, A_bar -= (A^-T X_bar) X^T."""
    n, n_kept = kept_row(header, trailer - 1), kept_row(header, trailer)
    m, at = (n_kept - 1 - n * n) // n, trailer - n_kept
    a, x = _kept_matrix(header, at, n, n), _kept_matrix(header, at + n * n, n, m)
    x_bar = _bars(header, last - n * m + 1, n, m)
    if not np.any(x_bar):
        return at
    b_bar = np.linalg.solve(np.ascontiguousarray(a.T), x_bar)
    _add_bars(header, at + n * n, b_bar)
    _add_bars(header, at, -np.dot(np.ascontiguousarray(b_bar), x.T))
    return at


@inside
def _block_solve_vector(a, b):
    solution = np.linalg.solve(_contiguous(a), _contiguous(b)).reshape((-1, 1))
    return _solution(a, b.copy().reshape((b.size, 1)), solution)[:, 0]


@inside
def _block_inv(a):
    return _solution(a, np.eye(a.shape[0]), np.linalg.inv(_contiguous(a)))


@inside
def _block_det(a):
    x = _contiguous(a)
    determinant = np.linalg.det(x)
    if determinant == 0.0:
        return _with_partials(a, determinant, _cofactors(np.ascontiguousarray(x)))
    return _with_partials(a, determinant, determinant * np.linalg.inv(x).T)


@inside
def _cofactors(x):
    """The cofactors of a square matrix, whatever its rank: of X = U diag(s) V^T, det(U V) U diag(prod s / s_i) V^T."""
    u, s, v = np.linalg.svd(x)
    n = s.size
    products = np.ones(n)
    for i in range(n):
        for j in range(n):
            if j != i:
                products[i] *= s[j]
    return np.linalg.det(u) * np.linalg.det(v) * np.dot(u * products, v)


@inside
def _block_slogdet(a):
    x = _contiguous(a)
    sign, logarithm = np.linalg.slogdet(x)
    return sign, _with_partials(a, logarithm, np.linalg.inv(x).T)


@inside
def _with_partials(a, value, partials):
    """A number with given partials by the elements of a matrix: one row."""
    header = open_tape(KIND)
    begin_block(header, a.size, 1)
    _keep_matrix(header, _arguments(header), a, partials)
    return make(KIND, value, end_long(header, a.size), 0)


@inside
def _arguments(header):
    return begin_block(header, 0, 0)


@inside
def _block_cholesky(a):
    factor = np.linalg.cholesky(_contiguous(a))
    n = factor.shape[0]
    header = open_tape(KIND)
    at = begin_block(header, n * n + 1, n * n)
    at = _keep_matrix(header, at, a, factor)
    keep(header, at, n, 0.0)
    return _results(factor, end_block(header, n * n + 1, n * n, address_of(_cholesky_reverse)))


@inside
def _cholesky_reverse(header, last, trailer):
    """L L^T = A: (S + S^T) / 2 of S = L^-T phi(L^T L_bar) L^-1; phi halves the diagonal of the lower part."""
    n = kept_row(header, trailer - 1)
    at = trailer - n * n - 1
    factor = _kept_matrix(header, at, n, n)
    factor_bar = _bars(header, last - n * n + 1, n, n)
    if not np.any(factor_bar):
        return at
    phi = np.dot(np.ascontiguousarray(factor.T), np.tril(factor_bar))
    for i in range(n):
        phi[i, i] *= 0.5
        for j in range(i + 1, n):
            phi[i, j] = 0.0
    inverse = np.linalg.inv(factor)
    s = np.dot(np.dot(np.ascontiguousarray(inverse.T), phi), inverse)
    _add_bars(header, at, 0.5 * (s + s.T))
    return at


ALLOWED.update({_contiguous, _revalued, with_value})
