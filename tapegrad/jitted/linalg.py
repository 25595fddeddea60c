"""Linear algebra on active arrays.

In plain reverse mode a product, a solution or a factorisation is one block row, which the kernels of `ops` take back
(`array_rows.py`). For the other active types there are the textbook's loops, which the rules differentiate; their
values are replaced by those of BLAS and LAPACK, so that every transform has the values of the plain function.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numba import njit
from numba.core import types
from numba.extending import overload

from tapegrad.jitted import array_rows as rows
from tapegrad.jitted import complex_arrays, rewriting
from tapegrad.jitted.active import PASSIVE, Active, Complex, Taped, is_active_array, is_complex_array, is_narrow_array
from tapegrad.jitted.arrays import contiguous_values, values
from tapegrad.jitted.checking import ALLOWED
from tapegrad.jitted.complex_numbers import with_complex_value
from tapegrad.jitted.inner import OPTIONS, inside
from tapegrad.jitted.library import active_in, loop, replaces
from tapegrad.jitted.lifting import laid_out, with_value
from tapegrad.ops.factorization import BLOCK


def dims_of(*kinds):
    """The dimensions of arrays of floats, one of them active; None where there are others."""
    if not all(isinstance(k, types.Array) and isinstance(k.dtype, (Active, *PASSIVE)) for k in kinds):
        return None
    return tuple(k.ndim for k in kinds) if any(map(is_active_array, kinds)) else None


def revalued(result, plain):
    """A number, or an array, with other values, and its own derivatives."""
    raise NotImplementedError


@overload(revalued, OPTIONS)
def _revalue(result, plain):
    if isinstance(result, Complex):
        return lambda result, plain: with_complex_value(result, plain)
    if isinstance(result, Active):
        return lambda result, plain: with_value(result, plain)
    if not is_active_array(result) and not is_complex_array(result):
        return lambda result, plain: plain

    def revalue(result, plain):
        for at in np.ndindex(result.shape):
            result[at] = revalued(result[at], plain[at])
        return result

    return revalue


def _product(a, b):
    dims = dims_of(a, b)
    if dims in ((2, 1), (1, 2), (2, 2)) and active_in(a, b) == Taped(0):
        return {(2, 1): _block_matrix_vector, (1, 2): _block_vector_matrix, (2, 2): _block_product}[dims]
    known = {(1, 1): _dot, (2, 1): _matrix_vector, (1, 2): _vector_matrix, (2, 2): _matrix_matrix}
    kernel = known.get(dims or ())
    return _in_single_precision(a, b) or complex_arrays.product(a, b) if kernel is None else loop(kernel, a, b)


def _in_single_precision(a: Any, b: Any) -> Any:
    """The product of arrays of single precision: its derivatives are those of the wider one."""
    if not all(isinstance(k, types.Array) and rewriting.plain(k.dtype) == types.float32 for k in (a, b)):
        return None
    if not (is_narrow_array(a) or is_narrow_array(b)) or max(a.ndim, b.ndim) > 2 or min(a.ndim, b.ndim) == 0:
        return None
    return loop(_narrow_dot if a.ndim == b.ndim == 1 else _narrow_product, a, b)


@njit
def _narrow_dot(a, b):
    plain = np.dot(contiguous_values(a), contiguous_values(b))
    return np.float32(with_value(np.dot(a.astype(np.float64), b.astype(np.float64)), plain))


@njit
def _narrow_product(a, b):
    plain = np.dot(contiguous_values(a), contiguous_values(b))
    return revalued(np.dot(a.astype(np.float64), b.astype(np.float64)), plain).astype(np.float32)


def dot(a, b):
    """Products of vectors and matrices."""
    return _product(a, b)


@replaces(np.vdot)
def vdot(a, b):
    """The product of vectors."""
    return _product(a, b) if dims_of(a, b) == (1, 1) else complex_arrays.dot_with_conjugate(a, b)


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
    return with_value(total, np.dot(contiguous_values(a), contiguous_values(b)))


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
    return revalued(result, np.dot(contiguous_values(a), contiguous_values(b)))


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
    return revalued(result, np.dot(contiguous_values(a), contiguous_values(b)))


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
    return revalued(result, np.dot(contiguous_values(a), contiguous_values(b)))


def outer(a, b):
    """Products of all pairs."""
    return loop(_outer, a, b) if dims_of(a, b) else None


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
    return loop(_kron, a, b) if dims_of(a, b) == (2, 2) else None


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
    """Products of vectors of two or three elements, of one for each index of the leading dimensions."""
    dims = dims_of(a, b)
    if dims == (1, 1):
        return loop(_cross, a, b)
    if dims is not None:
        return loop(_cross_of_many, a, b)
    return loop(_cross_of_sequences, a, b) if all(map(_may_be_vectors, (a, b))) else None


def _may_be_vectors(kind: Any) -> bool:
    return isinstance(kind, (types.Array, types.Sequence, types.BaseTuple))


@njit
def _cross(a, b):
    if a.size != 3 or b.size != 3:
        return _cross_of_many(a, b)
    result = np.empty(3)
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        result[i] = a[j] * b[k] - a[k] * b[j]
    return result


@njit
def _cross_of_many(a, b):
    plain = np.cross(values(a), values(b))  # raises what it does of others
    result = np.empty(plain.shape)
    x, y = np.broadcast_to(a, (*plain.shape[:-1], a.shape[-1])), np.broadcast_to(b, (*plain.shape[:-1], b.shape[-1]))
    for at in np.ndindex(plain.shape[:-1]):
        p, q = x[at], y[at]
        for i in range(3):
            j, k = (i + 1) % 3, (i + 2) % 3
            product = 0.0  # the third element of a vector of two is zero
            if j < p.size and k < q.size:
                product += p[j] * q[k]
            if k < p.size and j < q.size:
                product -= p[k] * q[j]
            result[at][i] = product
    return revalued(result, plain)


@njit
def _cross_of_sequences(a, b):
    return np.cross(np.asarray(a), np.asarray(b))


@replaces(np.convolve)
def convolve(a, v, mode="full"):
    """The full discrete convolution of vectors."""
    return loop(_convolve, a, v) if dims_of(a, v) == (1, 1) and mode == "full" else None


@njit
def _convolve(a, v):
    plain = np.convolve(contiguous_values(a), contiguous_values(v))
    result = np.empty(a.size + v.size - 1)
    for i in range(result.size):
        total = 0.0
        for k in range(max(0, i - v.size + 1), min(i + 1, a.size)):
            total += a[k] * v[i - k]
        result[i] = total
    return revalued(result, plain)


@replaces(np.trace)
def trace(a):
    """The sum of the diagonal."""
    return loop(_trace, a) if dims_of(a) == (2,) else None


@njit
def _trace(a):
    total = 0.0
    for i in range(min(a.shape)):
        total += a[i, i]
    return total


@replaces(np.linalg.norm)
def norm(x, ord=None):
    """The Euclidean norm of all elements; of a vector also those of order 1 and infinity."""
    return loop(_norm, x) if ord is None and dims_of(x) is not None else complex_arrays.norm(x, ord)


@njit
def _norm(x):
    """By the largest element, so that no square over- or underflows; at 0 the derivative is 0."""
    plain = np.linalg.norm(contiguous_values(x))
    scale = 0.0
    for e in contiguous_values(x).flat:
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
    dims = dims_of(a, b)
    if dims is None or dims[0] != 2 or dims[1] not in (1, 2):
        return complex_arrays.solve(a, b)
    if active_in(a, b) == Taped(0):
        return _block_solve
    return loop(_solve_vector if dims[1] == 1 else _solve_matrix, a, b)


@njit
def _solve_vector(a, b):
    plain = np.linalg.solve(contiguous_values(a), contiguous_values(b))
    lu, order, _ = _factorised(a)
    return revalued(_solve_factorised(lu, order, b), plain)


@njit
def _solve_matrix(a, b):
    plain = np.linalg.solve(contiguous_values(a), contiguous_values(b))
    lu, order, _ = _factorised(a)
    x = np.empty(b.shape)
    for j in range(b.shape[1]):
        x[:, j] = _solve_factorised(lu, order, b[:, j])
    return laid_out(revalued(x, plain), plain)


@replaces(np.linalg.inv)
def inv(a):
    """The inverse of a matrix."""
    if dims_of(a) != (2,):
        return complex_arrays.inv(a)
    return _block_inv if a.dtype == Taped(0) else loop(_inv, a)


@njit
def _inv(a):
    plain = np.linalg.inv(contiguous_values(a))
    return laid_out(revalued(_solve_matrix(a, np.eye(a.shape[0])), plain), plain)


@replaces(np.linalg.det)
def det(a):
    """The determinant of a matrix; of one that is singular, its derivative is by cofactors."""
    if dims_of(a) != (2,):
        return complex_arrays.det(a)
    return _block_det if a.dtype == Taped(0) else loop(_det, a)


@njit
def _det(a):
    plain = np.linalg.det(contiguous_values(a))
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
    if dims_of(a) != (2,):
        return complex_arrays.slogdet(a)
    return _block_slogdet if a.dtype == Taped(0) else loop(_slogdet, a)


@njit
def _slogdet(a):
    sign, plain = np.linalg.slogdet(contiguous_values(a))
    if sign == 0.0:
        return sign, with_value(np.log(abs(_det_without_division(a))), plain)
    lu, _, _ = _factorised(a)
    total = 0.0
    for i in range(a.shape[0]):
        total += np.log(abs(lu[i, i]))
    return sign, with_value(total, plain)


@replaces(np.linalg.cholesky)
def cholesky(a):
    """The Cholesky factor, of the lower triangle; its gradient is that by a symmetric matrix, half in each triangle."""
    if dims_of(a) != (2,) and complex_arrays.dims_of(a) != (2,):
        return None
    return _block_cholesky if a.dtype == Taped(0) else loop(_cholesky, a)


@njit
def _cholesky(a):
    lower = contiguous_values(a)
    plain = np.linalg.cholesky(lower)
    n = a.shape[0]
    factor = np.zeros_like(a)
    for i in range(n):
        for j in range(i + 1):
            total = revalued(0.5 * (a[i, j] + np.conj(a[j, i])), lower[i, j])
            for k in range(j):
                total -= factor[i, k] * np.conj(factor[j, k])
            if i != j:
                factor[i, j] = total / factor[j, j]
            elif np.real(total) > 0.0:
                factor[i, i] = np.sqrt(np.real(total))
            else:
                raise np.linalg.LinAlgError("Matrix is not positive definite.")
    return revalued(factor, plain)


# --- as block rows ----------------------------------------------------------------------------------------------------
# Parameters are those of the operations' kernels: see `ops/linalg.py` and `ops/factorization.py`.


@inside
def _block_product(a, b):
    n, k, m = a.shape[0], a.shape[1], b.shape[1]
    x, y = contiguous_values(a), contiguous_values(b)
    return rows.binary(rows.mm(), (0, n, m, k, k, 1, m, 1), a, x, b, y, np.dot(x, y))


@inside
def _block_matrix_vector(a, b):
    n, k = a.shape
    x, y = contiguous_values(a), contiguous_values(b)
    return rows.binary(rows.mm(), (0, n, 1, k, k, 1, 1, 1), a, x, b, y, np.dot(x, y))


@inside
def _block_vector_matrix(a, b):
    k, m = b.shape
    x, y = contiguous_values(a), contiguous_values(b)
    return rows.binary(rows.mm(), (0, 1, m, k, k, 1, m, 1), a, x, b, y, np.dot(x, y))


@inside
def _block_solve(a, b):
    x = contiguous_values(a)
    y = np.linalg.solve(x, contiguous_values(b))
    n = a.shape[0]
    m = b.size // max(n, 1)
    return rows.binary(rows.solve(), (1, n, m, 0, b.size, 0, 0, 0), a, x, b, y, y)


@inside
def _block_inv(a):
    y, n = np.linalg.inv(contiguous_values(a)), a.shape[0]
    return rows.unary(rows.inv(), (1, n, n * n, 0, 0, 0, 0, 0), a, y, y)


@inside
def _block_det(a):
    x, n = contiguous_values(a), a.shape[0]
    return rows.number(rows.det(), _of_factors(n), a, x, np.linalg.det(x))


@inside
def _block_slogdet(a):
    x, n = contiguous_values(a), a.shape[0]
    sign, logarithm = np.linalg.slogdet(x)
    return sign, rows.number(rows.log_abs_det(), _of_factors(n), a, x, logarithm)


@inside
def _of_factors(n):
    return 1, n, n * n + (n + 1) * n, 0, 0, 0, 0, 0


@inside
def _block_cholesky(a):
    y, n = np.linalg.cholesky(contiguous_values(a)), a.shape[0]
    return rows.unary(rows.cholesky(), (1, n, 0, n * n + BLOCK * BLOCK, 0, 0, 0, 0), a, y, y)


ALLOWED.update({laid_out, revalued, with_value})
