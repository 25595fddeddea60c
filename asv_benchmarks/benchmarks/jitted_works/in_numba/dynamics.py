"""Steps in time: differential equations, and Monte Carlo."""

import math

import numpy as np
from numba import njit

from tapegrad.jitted import checkpoint_loop


@njit
def lotka_volterra(x, y, a, b, c, d):
    """How many prey and predators come and go."""
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
def field(y, x, out):
    """The derivative of the chain's state."""
    out[0] = x[0] + y[0]
    for i in range(1, y.size):
        out[i] = x[i] * y[i - 1]


@njit
def ode(x, steps):
    """Runge and Kutta's method for a chain of linear equations, each driven by the one before."""
    n, h = x.size, 1.0 / steps
    y, z = np.zeros(n), np.empty(n)
    k1, k2, k3, k4 = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    for _ in range(steps):
        field(y, x, k1)
        for i in range(n):
            z[i] = y[i] + 0.5 * h * k1[i]
        field(z, x, k2)
        for i in range(n):
            z[i] = y[i] + 0.5 * h * k2[i]
        field(z, x, k3)
        for i in range(n):
            z[i] = y[i] + h * k3[i]
        field(z, x, k4)
        for i in range(n):
            y[i] += h / 6.0 * (k1[i] + 2.0 * k2[i] + 2.0 * k3[i] + k4[i])
    return y[0] + y[1]


@njit
def swing(state, _, h, p):
    """A step of a damped pendulum, by the leapfrog scheme."""
    angle, speed = state
    speed += 0.5 * h * (-p[0] * math.sin(angle) - p[1] * speed)
    angle += h * speed
    speed += 0.5 * h * (-p[0] * math.sin(angle) - p[1] * speed)
    return angle, speed


@njit
def pendulum(p, n, h):
    """Where a pendulum is after `n` steps, which are all kept."""
    state = p[2], p[3]
    for i in range(n):
        state = swing(state, i, h, p)
    return state[0] + state[1]


@njit
def checkpointed_pendulum(p, n, h):
    """The same, of whose steps few are kept."""
    state = checkpoint_loop(swing, (p[2], p[3]), n, h, p)
    return state[0] + state[1]


@njit
def accelerations(x, m, out):
    """Of bodies at `x` that attract each other."""
    out[:] = 0.0
    for i in range(x.shape[0]):
        for j in range(i + 1, x.shape[0]):
            d0, d1, d2 = x[j, 0] - x[i, 0], x[j, 1] - x[i, 1], x[j, 2] - x[i, 2]
            inverse = (d0 * d0 + d1 * d1 + d2 * d2 + 0.01) ** -1.5
            out[i, 0] += m[j] * inverse * d0
            out[i, 1] += m[j] * inverse * d1
            out[i, 2] += m[j] * inverse * d2
            out[j, 0] -= m[i] * inverse * d0
            out[j, 1] -= m[i] * inverse * d1
            out[j, 2] -= m[i] * inverse * d2


@njit
def gravitation(x, v, m, n, h):
    """The kinetic energy of bodies that attract each other, after `n` steps of the leapfrog scheme."""
    x, v = x.copy(), v.copy()
    a = np.empty_like(x)
    accelerations(x, m, a)
    for _ in range(n):
        for i in range(x.shape[0]):
            for k in range(3):
                v[i, k] += 0.5 * h * a[i, k]
                x[i, k] += h * v[i, k]
        accelerations(x, m, a)
        for i in range(x.shape[0]):
            for k in range(3):
                v[i, k] += 0.5 * h * a[i, k]
    energy = 0.0
    for i in range(x.shape[0]):
        energy += 0.5 * m[i] * (v[i, 0] ** 2 + v[i, 1] ** 2 + v[i, 2] ** 2)
    return energy
