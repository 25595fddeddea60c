"""Array expressions of slices, on grids."""

import numpy as np
from numba import njit


@njit
def jacobi_1d(a, n):
    """Means of three neighbours, to and fro."""
    a, b = a.copy(), a.copy()
    for _ in range(n):
        b[1:-1] = 0.33333 * (a[:-2] + a[1:-1] + a[2:])
        a[1:-1] = 0.33333 * (b[:-2] + b[1:-1] + b[2:])
    return np.sum(a)


@njit
def jacobi_2d(a, n):
    """Means of five neighbours, to and fro."""
    a, b = a.copy(), a.copy()
    for _ in range(n):
        b[1:-1, 1:-1] = 0.2 * (a[1:-1, 1:-1] + a[1:-1, :-2] + a[1:-1, 2:] + a[2:, 1:-1] + a[:-2, 1:-1])
        a[1:-1, 1:-1] = 0.2 * (b[1:-1, 1:-1] + b[1:-1, :-2] + b[1:-1, 2:] + b[2:, 1:-1] + b[:-2, 1:-1])
    return np.sum(a)


@njit
def heat_3d(a, n):
    """Second differences along three axes."""
    a, b = a.copy(), a.copy()
    for _ in range(n):
        b[1:-1, 1:-1, 1:-1] = (
            0.125 * (a[2:, 1:-1, 1:-1] - 2.0 * a[1:-1, 1:-1, 1:-1] + a[:-2, 1:-1, 1:-1])
            + 0.125 * (a[1:-1, 2:, 1:-1] - 2.0 * a[1:-1, 1:-1, 1:-1] + a[1:-1, :-2, 1:-1])
            + 0.125 * (a[1:-1, 1:-1, 2:] - 2.0 * a[1:-1, 1:-1, 1:-1] + a[1:-1, 1:-1, :-2])
            + a[1:-1, 1:-1, 1:-1]
        )
        a, b = b, a
    return np.sum(a)


@njit
def fdtd_2d(hz, n):
    """Electric and magnetic fields on a staggered grid."""
    hz = hz.copy()
    ex, ey = np.zeros_like(hz), np.zeros_like(hz)
    for t in range(n):
        ey[0, :] = float(t)
        ey[1:, :] -= 0.5 * (hz[1:, :] - hz[:-1, :])
        ex[:, 1:] -= 0.5 * (hz[:, 1:] - hz[:, :-1])
        hz[:-1, :-1] -= 0.7 * (ex[:-1, 1:] - ex[:-1, :-1] + ey[1:, :-1] - ey[:-1, :-1])
    return np.sum(hz)


@njit
def horizontal_diffusion(field, c):
    """The limited Laplacian of a Laplacian."""
    lap = 4.0 * field[1:-1, 1:-1] - (field[2:, 1:-1] + field[:-2, 1:-1] + field[1:-1, 2:] + field[1:-1, :-2])
    flux = lap[1:, 1:-1] - lap[:-1, 1:-1]
    across = lap[1:-1, 1:] - lap[1:-1, :-1]
    flux = np.where(flux * (field[2:-1, 2:-2] - field[1:-2, 2:-2]) > 0, 0.0, flux)
    across = np.where(across * (field[2:-2, 2:-1] - field[2:-2, 1:-2]) > 0, 0.0, across)
    found = field[2:-2, 2:-2] - c * (flux[1:, :] - flux[:-1, :] + across[:, 1:] - across[:, :-1])
    return np.sum(found * found)


@njit
def cavity(u, v, n):
    """Flow in a cavity: `n` steps of pressure and of momentum, each in array expressions."""
    u, v = u.copy(), v.copy()
    p, b = np.zeros_like(u), np.zeros_like(u)
    dt, h, nu = 0.001, 2.0 / (u.shape[0] - 1), 0.1
    for _ in range(n):
        b[1:-1, 1:-1] = (
            ((u[1:-1, 2:] - u[1:-1, :-2]) + (v[2:, 1:-1] - v[:-2, 1:-1])) / (2 * h * dt)
            - ((u[1:-1, 2:] - u[1:-1, :-2]) / (2 * h)) ** 2
            - 2 * ((u[2:, 1:-1] - u[:-2, 1:-1]) / (2 * h) * (v[1:-1, 2:] - v[1:-1, :-2]) / (2 * h))
            - ((v[2:, 1:-1] - v[:-2, 1:-1]) / (2 * h)) ** 2
        )
        for _ in range(10):
            q = p.copy()
            p[1:-1, 1:-1] = (q[1:-1, 2:] + q[1:-1, :-2] + q[2:, 1:-1] + q[:-2, 1:-1] - h * h * b[1:-1, 1:-1]) / 4.0
            p[:, -1] = p[:, -2]
            p[0, :] = p[1, :]
            p[:, 0] = p[:, 1]
            p[-1, :] = 0.0
        un, vn = u.copy(), v.copy()
        u[1:-1, 1:-1] = (
            un[1:-1, 1:-1]
            - dt / h * un[1:-1, 1:-1] * (un[1:-1, 1:-1] - un[1:-1, :-2])
            - dt / h * vn[1:-1, 1:-1] * (un[1:-1, 1:-1] - un[:-2, 1:-1])
            - dt / (2 * h) * (p[1:-1, 2:] - p[1:-1, :-2])
            + nu * dt / h**2 * (un[1:-1, 2:] + un[1:-1, :-2] + un[2:, 1:-1] + un[:-2, 1:-1] - 4 * un[1:-1, 1:-1])
        )
        v[1:-1, 1:-1] = (
            vn[1:-1, 1:-1]
            - dt / h * un[1:-1, 1:-1] * (vn[1:-1, 1:-1] - vn[1:-1, :-2])
            - dt / h * vn[1:-1, 1:-1] * (vn[1:-1, 1:-1] - vn[:-2, 1:-1])
            - dt / (2 * h) * (p[2:, 1:-1] - p[:-2, 1:-1])
            + nu * dt / h**2 * (vn[1:-1, 2:] + vn[1:-1, :-2] + vn[2:, 1:-1] + vn[:-2, 1:-1] - 4 * vn[1:-1, 1:-1])
        )
    return np.sum(u * u + v * v)


@njit
def alternating_directions(u, n):
    """Implicit steps along one axis and then along the other: recurrences over columns."""
    u = u.copy()
    m = u.shape[0]
    v, p, q = np.zeros_like(u), np.zeros_like(u), np.zeros_like(u)
    a, d = -0.3, 1.6
    for _ in range(n):
        v[0, 1:-1] = 1.0
        p[1:-1, 0] = 0.0
        q[1:-1, 0] = v[0, 1:-1]
        for j in range(1, m - 1):
            p[1:-1, j] = -a / (a * p[1:-1, j - 1] + d)
            q[1:-1, j] = (0.3 * u[j, :-2] + 0.4 * u[j, 1:-1] + 0.3 * u[j, 2:] - a * q[1:-1, j - 1]) / (
                a * p[1:-1, j - 1] + d
            )
        v[m - 1, 1:-1] = 1.0
        for j in range(m - 2, 0, -1):
            v[j, 1:-1] = p[1:-1, j] * v[j + 1, 1:-1] + q[1:-1, j]
        u[1:-1, 0] = 1.0
        q[1:-1, 0] = u[1:-1, 0]
        for j in range(1, m - 1):
            q[1:-1, j] = (0.3 * v[:-2, j] + 0.4 * v[1:-1, j] + 0.3 * v[2:, j] - a * q[1:-1, j - 1]) / (
                a * p[1:-1, j - 1] + d
            )
        u[1:-1, m - 1] = 1.0
        for j in range(m - 2, 0, -1):
            u[1:-1, j] = p[1:-1, j] * u[1:-1, j + 1] + q[1:-1, j]
    return np.sum(u * u)


@njit
def build_up(b, u, v, dt, h):
    """The source of the pressure: what the velocities would change in volume."""
    b[1:-1, 1:-1] = (
        ((u[1:-1, 2:] - u[1:-1, :-2]) + (v[2:, 1:-1] - v[:-2, 1:-1])) / (2 * h * dt)
        - ((u[1:-1, 2:] - u[1:-1, :-2]) / (2 * h)) ** 2
        - 2 * ((u[2:, 1:-1] - u[:-2, 1:-1]) / (2 * h) * (v[1:-1, 2:] - v[1:-1, :-2]) / (2 * h))
        - ((v[2:, 1:-1] - v[:-2, 1:-1]) / (2 * h)) ** 2
    )


@njit
def wrap(field):
    """The outer columns, which are those of the other end: what flows out there comes in here."""
    field[:, 0] = field[:, -2]
    field[:, -1] = field[:, 1]


@njit
def balance(p, b, h):
    """The pressure, by some steps towards Poisson's equation."""
    for _ in range(5):
        q = p.copy()
        p[1:-1, 1:-1] = (q[1:-1, 2:] + q[1:-1, :-2] + q[2:, 1:-1] + q[:-2, 1:-1] - h * h * b[1:-1, 1:-1]) / 4.0
        wrap(p)
        p[0, :] = p[1, :]
        p[-1, :] = p[-2, :]


@njit
def channel_flow(u, v, n):
    """Flow through a channel that a force drives: `n` steps, in functions that write to arrays."""
    u, v = u.copy(), v.copy()
    p, b = np.zeros_like(u), np.zeros_like(u)
    dt, h, nu, force = 0.001, 2.0 / (u.shape[0] - 1), 0.1, 1.0
    for _ in range(n):
        build_up(b, u, v, dt, h)
        wrap(b)
        balance(p, b, h)
        un, vn = u.copy(), v.copy()
        u[1:-1, 1:-1] = (
            un[1:-1, 1:-1]
            - dt / h * un[1:-1, 1:-1] * (un[1:-1, 1:-1] - un[1:-1, :-2])
            - dt / h * vn[1:-1, 1:-1] * (un[1:-1, 1:-1] - un[:-2, 1:-1])
            - dt / (2 * h) * (p[1:-1, 2:] - p[1:-1, :-2])
            + nu * dt / h**2 * (un[1:-1, 2:] + un[1:-1, :-2] + un[2:, 1:-1] + un[:-2, 1:-1] - 4 * un[1:-1, 1:-1])
            + force * dt
        )
        v[1:-1, 1:-1] = (
            vn[1:-1, 1:-1]
            - dt / h * un[1:-1, 1:-1] * (vn[1:-1, 1:-1] - vn[1:-1, :-2])
            - dt / h * vn[1:-1, 1:-1] * (vn[1:-1, 1:-1] - vn[:-2, 1:-1])
            - dt / (2 * h) * (p[2:, 1:-1] - p[:-2, 1:-1])
            + nu * dt / h**2 * (vn[1:-1, 2:] + vn[1:-1, :-2] + vn[2:, 1:-1] + vn[:-2, 1:-1] - 4 * vn[1:-1, 1:-1])
        )
        wrap(u)
        wrap(v)
        u[0, :] = 0.0
        u[-1, :] = 0.0
        v[0, :] = 0.0
        v[-1, :] = 0.0
    return np.sum(u * u + v * v)
