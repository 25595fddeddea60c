"""Linear algebra on active arrays, as loops.

A product records a row for each element of the result, with all the arguments of its sum; a factorisation is the
textbook's, row by row. They serve every active type.
"""

from __future__ import annotations

import operator

import numpy as np
from numba import njit
from numba.core import types
from numba.extending import overload

from tapegrad.jitted.library import loop, replaces
from tapegrad.jitted.scalars import PASSIVE, Active, is_active_array


def _dims(*kinds):
    """The dimensions of arrays of floats, one of them active; None where there are others."""
    if not all(isinstance(k, types.Array) and isinstance(k.dtype, (Active, *PASSIVE)) for k in kinds):
        return None
    return tuple(k.ndim for k in kinds) if any(map(is_active_array, kinds)) else None


def _product(a, b):
    known = {(1, 1): _dot, (2, 1): _matrix_vector, (1, 2): _vector_matrix, (2, 2): _matrix_matrix}
    kernel = known.get(_dims(a, b) or ())
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
    return total


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
    return result


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
    return result


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
    return result


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
    result = np.empty(a.size + v.size - 1)
    for i in range(result.size):
        total = 0.0
        for k in range(max(0, i - v.size + 1), min(i + 1, a.size)):
            total += a[k] * v[i - k]
        result[i] = total
    return result


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
    total = 0.0
    for e in x.flat:
        total += e * e
    return np.sqrt(total)


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
    return loop(_solve_vector if dims[1] == 1 else _solve_matrix, a, b)


@njit
def _solve_vector(a, b):
    lu, order, _ = _factorised(a)
    return _solve_factorised(lu, order, b)


@njit
def _solve_matrix(a, b):
    lu, order, _ = _factorised(a)
    x = np.empty(b.shape)
    for j in range(b.shape[1]):
        x[:, j] = _solve_factorised(lu, order, b[:, j])
    return x


@replaces(np.linalg.inv)
def inv(a):
    """The inverse of a matrix."""
    return loop(_inv, a) if _dims(a) == (2,) else None


@njit
def _inv(a):
    return _solve_matrix(a, np.eye(a.shape[0]))


@replaces(np.linalg.det)
def det(a):
    """The determinant of a matrix that is not singular."""
    return loop(_det, a) if _dims(a) == (2,) else None


@njit
def _det(a):
    lu, _, sign = _factorised(a)
    product = sign + 0.0 * lu[0, 0]
    for i in range(a.shape[0]):
        product = product * lu[i, i]
    return product


@replaces(np.linalg.slogdet)
def slogdet(a):
    """The sign and the logarithm of a determinant."""
    return loop(_slogdet, a) if _dims(a) == (2,) else None


@njit
def _slogdet(a):
    lu, _, sign = _factorised(a)
    total = 0.0
    for i in range(a.shape[0]):
        if lu[i, i] < 0.0:
            sign = -sign
        total += np.log(abs(lu[i, i]))
    return sign, total


@replaces(np.linalg.cholesky)
def cholesky(a):
    """The Cholesky factor, of the lower triangle."""
    return loop(_cholesky, a) if _dims(a) == (2,) else None


@njit
def _cholesky(a):
    n = a.shape[0]
    if a.shape[1] != n:
        raise np.linalg.LinAlgError("Last 2 dimensions of the array must be square.")
    factor = np.zeros((n, n))
    for i in range(n):
        for j in range(i + 1):
            total = a[i, j] + 0.0
            for k in range(j):
                total -= factor[i, k] * factor[j, k]
            if i != j:
                factor[i, j] = total / factor[j, j]
            elif total > 0.0:
                factor[i, i] = np.sqrt(total)
            else:
                raise np.linalg.LinAlgError("Matrix is not positive definite.")
    return factor
