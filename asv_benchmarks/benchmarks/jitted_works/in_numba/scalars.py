"""Scalars in loops."""

import math

from numba import njit


@njit
def total(x):
    """The sum of a vector, in a loop."""
    s = 0.0
    for i in range(x.size):
        s += x[i]
    return s


@njit
def total_of_sines(x):
    """The sum of a vector's sines."""
    s = 0.0
    for i in range(x.size):
        s += math.sin(x[i])
    return s


@njit
def logistic_map(p, n):
    """`n` steps of a map from which chaos comes, for other parameters."""
    r, x = p[0], p[1]
    for _ in range(n):
        x = r * x * (1.0 - x)
    return x


@njit
def rosenbrock(x):
    """Rosenbrock's function."""
    s = 0.0
    for i in range(x.size - 1):
        s += 100.0 * (x[i + 1] - x[i] ** 2) ** 2 + (1.0 - x[i]) ** 2
    return s


@njit
def newton(c, tolerance):
    """A sum of roots, each by Newton's method in a while loop."""
    total = 0.0
    for i in range(len(c)):
        x, n = 1.0, 0
        while True:
            residual = x * x * x + c[i] * x - 1.0
            if abs(residual) < tolerance or n > 50:
                break
            x = x - residual / (3 * x**2 + c[i])
            n += 1
        total += x if i % 2 == 0 else -0.5 * x
    return total
