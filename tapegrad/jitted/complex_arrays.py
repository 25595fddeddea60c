"""Linear algebra on arrays of complex numbers, by that of their parts.

      (A + iB)(x + iy) = Ax - By + i (Ay + Bx)         A + iB  as a real matrix   | A  -B |
                                                                                  | B   A |

Values are those of BLAS and LAPACK for complex numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numba.core import types

from tapegrad.jitted.active import Complex
from tapegrad.jitted.arrays import contiguous_values, dtype_of
from tapegrad.jitted.checking import ALLOWED
from tapegrad.jitted.complex_numbers import is_scalar, with_complex_value
from tapegrad.jitted.library import loop
from tapegrad.jitted.lifting import laid_out, with_value


def dims_of(*kinds: Any) -> tuple[int, ...] | None:
    """The dimensions of arrays, one of them of complex numbers with derivatives; None where there are others."""
    if not all(isinstance(k, types.Array) and is_scalar(k.dtype) for k in kinds) or dtype_of(*kinds) != "np.complex128":
        return None
    return tuple(k.ndim for k in kinds) if any(isinstance(k.dtype, Complex) for k in kinds) else None


def product(a: Any, b: Any) -> Any:
    """Products of vectors and matrices."""
    dims = dims_of(a, b)
    if dims not in ((1, 1), (2, 1), (1, 2), (2, 2)):
        return None
    return loop(_dot if dims == (1, 1) else _product, a, b)


def dot_with_conjugate(a: Any, b: Any) -> Any:
    """The product of vectors, of which the first is conjugated."""
    return loop(_vdot, a, b) if dims_of(a, b) == (1, 1) else None


def norm(x: Any, ord: Any) -> Any:
    """The Euclidean norm of all elements."""
    return loop(_norm, x) if ord is None and dims_of(x) is not None else None


def solve(a: Any, b: Any) -> Any:
    """The solution of a linear system."""
    return loop(_solve, a, b) if dims_of(a, b) in ((2, 1), (2, 2)) else None


def inv(a: Any) -> Any:
    """The inverse of a matrix."""
    return loop(_inv, a) if dims_of(a) == (2,) else None


def det(a: Any) -> Any:
    """The determinant of a matrix."""
    return loop(_det, a) if dims_of(a) == (2,) else None


def slogdet(a: Any) -> Any:
    """The determinant over its absolute value, and the logarithm of that."""
    return loop(_slogdet, a) if dims_of(a) == (2,) else None


@njit
def _joined(real, imag, plain):
    """An array of parts, with other values, and its own derivatives."""
    result = np.empty(real.shape, np.complex128)
    for at in np.ndindex(real.shape):
        result[at] = with_complex_value(complex(real[at], imag[at]), plain[at])
    return result


@njit
def _parts(a):
    return np.ascontiguousarray(np.real(a)), np.ascontiguousarray(np.imag(a))


@njit
def _dot(a, b):
    plain = np.dot(contiguous_values(a), contiguous_values(b))
    (p, q), (x, y) = _parts(a), _parts(b)
    return with_complex_value(complex(np.dot(p, x) - np.dot(q, y), np.dot(p, y) + np.dot(q, x)), plain)


@njit
def _vdot(a, b):
    plain = np.vdot(contiguous_values(a), contiguous_values(b))
    (p, q), (x, y) = _parts(a), _parts(b)
    return with_complex_value(complex(np.dot(p, x) + np.dot(q, y), np.dot(p, y) - np.dot(q, x)), plain)


@njit
def _product(a, b):
    plain = np.dot(contiguous_values(a), contiguous_values(b))
    (p, q), (x, y) = _parts(a), _parts(b)
    return _joined(np.dot(p, x) - np.dot(q, y), np.dot(p, y) + np.dot(q, x), plain)


@njit
def _norm(x):
    """As that of real numbers: no square over- or underflows."""
    plain = np.linalg.norm(contiguous_values(x))
    p, q = _parts(x)
    return with_value(np.linalg.norm(np.array([np.linalg.norm(p), np.linalg.norm(q)])), plain)


@njit
def _as_real(a):
    n = a.shape[0]
    (p, q), whole = _parts(a), np.empty((2 * n, 2 * n))
    whole[:n, :n] = p
    whole[:n, n:] = -q
    whole[n:, :n] = q
    whole[n:, n:] = p
    return whole


@njit
def _solve(a, b):
    plain = np.linalg.solve(contiguous_values(a), contiguous_values(b))
    n = a.shape[0]
    x = np.linalg.solve(_as_real(a), np.concatenate(_parts(b)))
    return laid_out(_joined(x[:n], x[n:], plain), plain)


@njit
def _inv(a):
    plain = np.linalg.inv(contiguous_values(a))
    n = a.shape[0]
    x = np.linalg.inv(_as_real(a))
    return laid_out(_joined(x[:n, :n], x[n:, :n], plain), plain)


@njit
def _expanded(a):
    """The determinant by cofactors, which are differentiated where it is 0 too: Bird's algorithm, as in `linalg.py`."""
    n = a.shape[0]
    f, m = a.copy(), np.zeros_like(a)
    zero = m[0, 0]
    for _ in range(n - 1):
        m[:] = zero
        trace = zero
        for i in range(n - 1, -1, -1):
            m[i, i] = -trace
            trace = trace + f[i, i]
            for j in range(i + 1, n):
                m[i, j] = f[i, j]
        for i in range(n):
            for j in range(n):
                total = zero
                for k in range(i, n):
                    total = total + m[i, k] * a[k, j]
                f[i, j] = total
    return f[0, 0] if n % 2 == 1 else -f[0, 0]


@njit
def _factors(a):
    """The diagonal of an upper triangle to which rows are brought, and the sign of their order."""
    n, sign, u = a.shape[0], 1.0, a.copy()
    for k in range(n):
        pivot = k
        for i in range(k + 1, n):
            if abs(u[i, k]) > abs(u[pivot, k]):
                pivot = i
        if pivot != k:
            sign = -sign
            for j in range(k, n):
                t = u[k, j]
                u[k, j] = u[pivot, j]
                u[pivot, j] = t
        for i in range(k + 1, n):
            f = u[i, k] / u[k, k]
            for j in range(k + 1, n):
                u[i, j] = u[i, j] - f * u[k, j]
    return np.diag(u), sign


@njit
def _det(a):
    plain = np.linalg.det(contiguous_values(a))
    if plain == 0.0:
        return with_complex_value(_expanded(a), plain)
    diagonal, sign = _factors(a)
    product = complex(sign, 0.0) * diagonal[0] if a.size else diagonal.sum()
    for i in range(1, a.shape[0]):
        product = product * diagonal[i]
    return with_complex_value(product, plain)


@njit
def _slogdet(a):
    sign, plain = np.linalg.slogdet(contiguous_values(a))
    if sign == 0.0:
        whole = _expanded(a)
        return with_complex_value(whole, sign), with_value(np.log(abs(whole)), plain)
    diagonal, own = _factors(a)
    total, phase = 0.0, diagonal.sum() * 0.0 + own
    for i in range(a.shape[0]):
        size = abs(diagonal[i])
        total += np.log(size)
        phase = phase * (diagonal[i] / size)
    return with_complex_value(phase, sign), with_value(total, plain)


ALLOWED.add(with_complex_value)
