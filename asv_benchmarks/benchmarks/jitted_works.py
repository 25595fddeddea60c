"""Functions jitted by Numba, as users write them, whose gradients are measured."""

import math

import numpy as np
from numba import njit


@njit
def lotka_volterra(x, y, a, b, c, d):
    return a * x - b * x * y, d * x * y - c * y


@njit
def runge_kutta(p, n, h):
    """Predator and prey, `n` steps of the classical Runge-Kutta method; parameters and start in `p`."""
    x, y = p[4], p[5]
    a, b, c, d = p[0], p[1], p[2], p[3]
    for _ in range(n):
        k1x, k1y = lotka_volterra(x, y, a, b, c, d)
        k2x, k2y = lotka_volterra(x + 0.5 * h * k1x, y + 0.5 * h * k1y, a, b, c, d)
        k3x, k3y = lotka_volterra(x + 0.5 * h * k2x, y + 0.5 * h * k2y, a, b, c, d)
        k4x, k4y = lotka_volterra(x + h * k3x, y + h * k3y, a, b, c, d)
        x = x + h / 6 * (k1x + 2 * k2x + 2 * k3x + k4x)
        y = y + h / 6 * (k1y + 2 * k2y + 2 * k3y + k4y)
    return x + y


@njit
def heston(p, z, strike, maturity):
    """The price of a call in Heston's model, by Monte Carlo with full truncation."""
    s0, v0, kappa, theta, xi, rho, r = p[0], p[1], p[2], p[3], p[4], p[5], p[6]
    dt = maturity / z.shape[1]
    root_dt, rest = math.sqrt(dt), np.sqrt(1.0 - rho * rho)
    total = 0.0
    for i in range(z.shape[0]):
        log_s, v = np.log(s0), v0
        for j in range(z.shape[1]):
            v_plus = max(v, 0.0)
            sigma = np.sqrt(v_plus + 1e-12)
            z1 = z[i, j, 0]
            z2 = rho * z1 + rest * z[i, j, 1]
            log_s += (r - 0.5 * v_plus) * dt + sigma * root_dt * z1
            v += kappa * (theta - v_plus) * dt + xi * sigma * root_dt * z2
        payoff = np.exp(log_s) - strike
        if payoff > 0:
            total += payoff
    return np.exp(-r * maturity) * total / z.shape[0]


@njit
def n_body(x, m):
    """The potential energy of bodies at `x`."""
    energy = 0.0
    for i in range(x.shape[0]):
        for j in range(i + 1, x.shape[0]):
            square = 1e-9
            for k in range(3):
                d = x[i, k] - x[j, k]
                square += d * d
            energy -= m[i] * m[j] / math.sqrt(square)
    return energy


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


def works():
    """Name: (function, arguments, the goal for gradient over primal time)."""
    rng = np.random.default_rng(0)
    b = rng.normal(size=(64, 64))
    parameters = np.array([100.0, 0.04, 1.5, 0.04, 0.3, -0.7, 0.02])
    return {
        "Lotka-Volterra, 10,000 steps": (runge_kutta, (np.array([1.5, 1.0, 3.0, 1.0, 10.0, 5.0]), 10_000, 1e-3), 4),
        "Heston, 2,000 paths x 50": (heston, (parameters, rng.normal(size=(2000, 50, 2)), 100.0, 1.0), 2),
        "N-body, 200": (n_body, (rng.normal(size=(200, 3)), np.ones(200)), 5),
        "Cholesky 64 in loops": (log_determinant, (b @ b.T + 64 * np.eye(64),), 6),
        "Newton, 10,000": (newton, (np.linspace(0.1, 3.0, 10_000), 1e-12), 6),
    }
