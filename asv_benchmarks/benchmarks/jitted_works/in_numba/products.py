"""Loops over matrices and vectors: stencils in place, inner products, recurrences."""

import numpy as np
from numba import njit


@njit
def seidel_2d(a, n):
    """Means of nine neighbours, in place."""
    a = a.copy()
    for _ in range(n):
        for i in range(1, a.shape[0] - 1):
            for j in range(1, a.shape[1] - 1):
                a[i, j] = (
                    a[i - 1, j - 1] + a[i - 1, j] + a[i - 1, j + 1] + a[i, j - 1] + a[i, j] + a[i, j + 1]
                    + a[i + 1, j - 1] + a[i + 1, j] + a[i + 1, j + 1]
                ) / 9.0  # fmt: skip
    return np.sum(a)


@njit
def floyd_warshall(paths):
    """The lengths of shortest paths between all pairs."""
    d = paths.copy()
    for k in range(d.shape[0]):
        for i in range(d.shape[0]):
            for j in range(d.shape[0]):
                d[i, j] = min(d[i, j], d[i, k] + d[k, j])
    return np.sum(d)


@njit
def triangular_solution(lower, b):
    """Forward substitution, by inner products."""
    x = np.empty(b.size)
    for i in range(b.size):
        s = b[i]
        for j in range(i):
            s -= lower[i, j] * x[j]
        x[i] = s / lower[i, i]
    return np.sum(x)


@njit
def syr2k(a, b, c):
    """A symmetric update of rank 2k, by rows."""
    n, m = a.shape
    c = c.copy()
    for i in range(n):
        for j in range(i + 1):
            c[i, j] *= 1.2
        for k in range(m):
            for j in range(i + 1):
                c[i, j] += a[j, k] * 1.5 * b[i, k] + b[j, k] * 1.5 * a[i, k]
    return np.sum(c)


@njit
def durbin(r):
    """The Yule-Walker equations, by Durbin's recurrence."""
    n = r.size
    y, z = np.empty(n), np.empty(n)
    y[0] = -r[0]
    alpha, beta = -r[0], 1.0
    for k in range(1, n):
        beta *= 1.0 - alpha * alpha
        s = r[k]
        for i in range(k):
            s += r[k - i - 1] * y[i]
        alpha = -s / beta
        for i in range(k):
            z[i] = y[i] + alpha * y[k - i - 1]
        for i in range(k):
            y[i] = z[i]
        y[k] = alpha
    return np.sum(y)


@njit
def log_determinant(a):
    """The logarithm of a determinant, by a Cholesky factorisation in plain loops."""
    n = a.shape[0]
    factor = np.zeros((n, n))
    for i in range(n):
        for j in range(i + 1):
            s = 0.0
            for k in range(j):
                s += factor[i, k] * factor[j, k]
            if i == j:
                factor[i, i] = np.sqrt(a[i, i] - s)
            else:
                factor[i, j] = (a[i, j] - s) / factor[j, j]
    total = 0.0
    for i in range(n):
        total += 2 * np.log(factor[i, i])
    return total


@njit
def gemm(a, b):
    """A product of matrices in plain loops."""
    c = np.zeros((a.shape[0], b.shape[1]))
    for i in range(a.shape[0]):
        for k in range(a.shape[1]):
            for j in range(b.shape[1]):
                c[i, j] += a[i, k] * b[k, j]
    return np.sum(c * c)
