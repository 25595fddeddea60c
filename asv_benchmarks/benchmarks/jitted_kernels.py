"""Small kernels of the kinds that benchmarks of loops and arrays are made of, jitted by Numba.

Each returns a number, and is differentiated by its first argument. What a kernel writes to is its own copy.
"""

import math
from typing import Any

import numpy as np
from numba import njit

# --- scalars in loops -------------------------------------------------------------------------------------------------


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
    """`n` steps of a chaotic map."""
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


# --- array expressions ------------------------------------------------------------------------------------------------


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
    """Flow in a cavity: a pressure step, and momentum by differences, `n` times."""
    u, v = u.copy(), v.copy()
    p = np.zeros_like(u)
    dt, h, rho, nu = 0.001, 2.0 / (u.shape[0] - 1), 1.0, 0.1
    for _ in range(n):
        b = np.zeros_like(u)
        b[1:-1, 1:-1] = rho * (
            1.0 / dt * ((u[1:-1, 2:] - u[1:-1, :-2]) / (2 * h) + (v[2:, 1:-1] - v[:-2, 1:-1]) / (2 * h))
            - ((u[1:-1, 2:] - u[1:-1, :-2]) / (2 * h)) ** 2
            - 2 * ((u[2:, 1:-1] - u[:-2, 1:-1]) / (2 * h) * (v[1:-1, 2:] - v[1:-1, :-2]) / (2 * h))
            - ((v[2:, 1:-1] - v[:-2, 1:-1]) / (2 * h)) ** 2
        )
        for _ in range(10):
            q = p.copy()
            p[1:-1, 1:-1] = (q[1:-1, 2:] + q[1:-1, :-2] + q[2:, 1:-1] + q[:-2, 1:-1]) / 4.0 - h * h / 4.0 * b[
                1:-1, 1:-1
            ]
            p[:, -1] = p[:, -2]
            p[0, :] = p[1, :]
            p[:, 0] = p[:, 1]
            p[-1, :] = 0.0
        un, vn = u.copy(), v.copy()
        u[1:-1, 1:-1] = (
            un[1:-1, 1:-1]
            - un[1:-1, 1:-1] * dt / h * (un[1:-1, 1:-1] - un[1:-1, :-2])
            - vn[1:-1, 1:-1] * dt / h * (un[1:-1, 1:-1] - un[:-2, 1:-1])
            - dt / (2 * rho * h) * (p[1:-1, 2:] - p[1:-1, :-2])
            + nu * (dt / h**2 * (un[1:-1, 2:] - 2 * un[1:-1, 1:-1] + un[1:-1, :-2]))
        )
        v[1:-1, 1:-1] = (
            vn[1:-1, 1:-1]
            - un[1:-1, 1:-1] * dt / h * (vn[1:-1, 1:-1] - vn[1:-1, :-2])
            - vn[1:-1, 1:-1] * dt / h * (vn[1:-1, 1:-1] - vn[:-2, 1:-1])
            - dt / (2 * rho * h) * (p[2:, 1:-1] - p[:-2, 1:-1])
            + nu * (dt / h**2 * (vn[2:, 1:-1] - 2 * vn[1:-1, 1:-1] + vn[:-2, 1:-1]))
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


# --- loops over stencils ----------------------------------------------------------------------------------------------


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


# --- inner products and distances in loops ----------------------------------------------------------------------------


@njit
def mixture(means, logits, factors, x):
    """The log likelihood of a mixture of normal distributions, whose precisions have triangular factors."""
    k_all, d = means.shape
    terms, y = np.empty(k_all), np.empty(d)
    likelihood = 0.0
    for i in range(x.shape[0]):
        for k in range(k_all):
            square, diagonal, at = 0.0, 0.0, d
            for a in range(d):
                y[a] = x[i, a] - means[k, a]
                diagonal += factors[k, a]
            for a in range(d):
                s = math.exp(factors[k, a]) * y[a]
                for b in range(a):
                    s += factors[k, at + b] * y[b]
                at += a
                square += s * s
            terms[k] = logits[k] + diagonal - 0.5 * square
        largest = terms[0]
        for k in range(1, k_all):
            largest = max(largest, terms[k])
        s = 0.0
        for k in range(k_all):
            s += math.exp(terms[k] - largest)
        likelihood += largest + math.log(s)
    return likelihood


@njit
def k_means(centres, x):
    """The sum of squared distances from points to the nearest of some centres."""
    cost = 0.0
    for i in range(x.shape[0]):
        nearest = np.inf
        for k in range(centres.shape[0]):
            square = 0.0
            for a in range(x.shape[1]):
                d = x[i, a] - centres[k, a]
                square += d * d
            nearest = min(nearest, square)
        cost += nearest
    return cost


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
def syr2k(a, b):
    """A symmetric update of rank 2k, by rows."""
    n, m = a.shape
    c = np.zeros((n, n))
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
def gemm(a, b):
    """A product of matrices in plain loops."""
    c = np.zeros((a.shape[0], b.shape[1]))
    for i in range(a.shape[0]):
        for k in range(a.shape[1]):
            for j in range(b.shape[1]):
                c[i, j] += a[i, k] * b[k, j]
    return np.sum(c * c)


# --- models -----------------------------------------------------------------------------------------------------------


@njit
def rotated(r, x, out):
    """A point turned about an axis, by Rodrigues' formula."""
    square = r[0] * r[0] + r[1] * r[1] + r[2] * r[2]
    theta = math.sqrt(square + 1e-30)
    c, s = math.cos(theta), math.sin(theta)
    w0, w1, w2 = r[0] / theta, r[1] / theta, r[2] / theta
    dot = (w0 * x[0] + w1 * x[1] + w2 * x[2]) * (1.0 - c)
    out[0] = x[0] * c + (w1 * x[2] - w2 * x[1]) * s + w0 * dot
    out[1] = x[1] * c + (w2 * x[0] - w0 * x[2]) * s + w1 * dot
    out[2] = x[2] * c + (w0 * x[1] - w1 * x[0]) * s + w2 * dot


@njit
def bundle_adjustment(cameras, points, seen, at):
    """The squared reprojection errors of points that cameras have seen."""
    cost = 0.0
    x, y = np.empty(3), np.empty(3)
    for k in range(seen.shape[0]):
        c, p = cameras[seen[k, 0]], points[seen[k, 1]]
        for i in range(3):
            x[i] = p[i] - c[3 + i]
        rotated(c[:3], x, y)
        u, v = y[0] / y[2], y[1] / y[2]
        square = u * u + v * v
        radial = 1.0 + c[9] * square + c[10] * square * square
        du = c[6] * radial * u + c[7] - at[k, 0]
        dv = c[6] * radial * v + c[8] - at[k, 1]
        cost += du * du + dv * dv
    return cost


@njit
def hand(theta, base, weights, targets):
    """A skeleton posed by angles, its skin moved with it, and the squared distances to what was seen."""
    n_bones, n = base.shape[0], weights.shape[1]
    world = np.zeros((n_bones, 3, 4))
    for b in range(n_bones):
        c, s = math.cos(theta[b]), math.sin(theta[b])
        for i in range(3):
            for j in range(4):
                local = base[b, i, j]
                if i == 0:
                    local = c * base[b, 0, j] - s * base[b, 1, j]
                elif i == 1:
                    local = s * base[b, 0, j] + c * base[b, 1, j]
                world[b, i, j] = local
        if b % 4 != 0:
            turned = np.zeros((3, 4))
            for i in range(3):
                for j in range(4):
                    v = world[b - 1, i, 3] if j == 3 else 0.0
                    for k in range(3):
                        v += world[b - 1, i, k] * world[b, k, j]
                    turned[i, j] = v
            world[b] = turned
    cost = 0.0
    for p in range(n):
        for i in range(3):
            v = 0.0
            for b in range(n_bones):
                t = world[b, i, 3]
                for k in range(3):
                    t += world[b, i, k] * targets[p, k]
                v += weights[b, p] * t
            d = v - targets[p, i]
            cost += d * d
    return cost


@njit
def lstm(w, x, n_layers):
    """The log likelihood of a text under a recurrent net with gates that look at their own unit alone."""
    n = x.shape[1]
    hidden, cell = np.zeros((n_layers, n)), np.zeros((n_layers, n))
    loss = 0.0
    for t in range(x.shape[0] - 1):
        given = np.empty(n)
        for j in range(n):
            given[j] = x[t, j]
        for layer in range(n_layers):
            for j in range(n):
                forget = 1.0 / (1.0 + math.exp(-(given[j] * w[layer, 0, j] + w[layer, 1, j])))
                taken = 1.0 / (1.0 + math.exp(-(hidden[layer, j] * w[layer, 2, j] + w[layer, 3, j])))
                shown = 1.0 / (1.0 + math.exp(-(given[j] * w[layer, 4, j] + w[layer, 5, j])))
                change = math.tanh(hidden[layer, j] * w[layer, 6, j] + w[layer, 7, j])
                cell[layer, j] = cell[layer, j] * forget + taken * change
                hidden[layer, j] = shown * math.tanh(cell[layer, j])
                given[j] = hidden[layer, j]
        s = 0.0
        for j in range(n):
            s += math.exp(given[j])
        s = math.log(s + 2.0)
        for j in range(n):
            loss += x[t + 1, j] * (given[j] - s)
    return loss


def kernels() -> dict[str, tuple[Any, tuple[Any, ...], float]]:
    """Name: (function, arguments, the goal for gradient over primal time)."""
    rng = np.random.default_rng(1)
    normal = rng.normal
    uniform = rng.uniform
    d, k, n = 10, 25, 200
    factors = 0.1 * normal(size=(k, d * (d + 1) // 2))
    cameras = np.concatenate([normal(size=(20, 6)) * 0.1, np.tile([500.0, 0.5, 0.5, 0.01, 0.001], (20, 1))], 1)
    points = normal(size=(500, 3)) + np.array([0.0, 0.0, 8.0])
    seen = np.stack([rng.integers(0, 20, 2000), rng.integers(0, 500, 2000)], 1)
    base = normal(size=(20, 3, 4)) * 0.3
    lower = np.tril(normal(size=(400, 400)) * 0.05) + np.eye(400)
    return {
        "sum of 1,000": (total, (normal(size=1000),), 1.5),
        "sum of 1,000 sines": (total_of_sines, (normal(size=1000),), 2),
        "logistic map, 1,000 steps": (logistic_map, (np.array([3.7, 0.4]), 1000), 3),
        "Rosenbrock, 3": (rosenbrock, (normal(size=3),), 3),
        "Rosenbrock, 1,000": (rosenbrock, (normal(size=1000),), 3),
        "jacobi_1d, 4,000 x 50": (jacobi_1d, (normal(size=4000), 50), 4),
        "jacobi_2d, 150 x 50": (jacobi_2d, (normal(size=(150, 150)), 50), 4),
        "heat_3d, 25 x 50": (heat_3d, (normal(size=(25, 25, 25)), 50), 4),
        "fdtd_2d, 120 x 150 x 50": (fdtd_2d, (normal(size=(120, 150)), 50), 4),
        "hdiff, 260 x 260": (horizontal_diffusion, (normal(size=(260, 260)), 0.025), 4),
        "cavity, 61 x 20": (cavity, (normal(size=(61, 61)) * 0.1, normal(size=(61, 61)) * 0.1, 20), 4),
        "adi, 100 x 20": (alternating_directions, (normal(size=(100, 100)), 20), 4),
        "seidel_2d, 100 x 20": (seidel_2d, (normal(size=(100, 100)), 20), 4),
        "ode, 1,000 x 100": (ode, (uniform(0, 1, 1000), 100), 4),
        "GMM d10 K25 200": (mixture, (normal(size=(k, d)), normal(size=k), factors, normal(size=(n, d))), 3),
        "kmeans 10 x 2,000": (k_means, (normal(size=(10, 4)), normal(size=(2000, 4))), 3),
        "floyd_warshall 120": (floyd_warshall, (uniform(1, 10, (120, 120)),), 5),
        "trisolv 400": (triangular_solution, (lower, normal(size=400)), 4),
        "syr2k 100": (syr2k, (normal(size=(100, 80)), normal(size=(100, 80))), 4),
        "durbin 400": (durbin, (uniform(0, 1, 400) * 0.01,), 5),
        "gemm 80 in loops": (gemm, (normal(size=(80, 80)), normal(size=(80, 80))), 4),
        "BA 2,000": (bundle_adjustment, (cameras, points, seen, normal(size=(2000, 2))), 5),
        "hand 500": (hand, (normal(size=20) * 0.3, base, uniform(0, 1, (20, 500)) / 20, normal(size=(500, 3))), 8),
        "LSTM 2 x 100": (lstm, (normal(size=(2, 8, 14)), uniform(0, 1, (100, 14)), 2), 1.3),
    }  # fmt: skip
