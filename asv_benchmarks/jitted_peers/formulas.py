"""Steps that JAX and PyTorch run alike: `np` is a module with NumPy's names, or all is operators."""

from typing import Any


def volterra(x: Any, y: Any, p: Any) -> tuple[Any, Any]:
    """How many prey and predators come and go."""
    return p[0] * x - p[1] * x * y, p[3] * x * y - p[2] * y


def runge_kutta_step(x: Any, y: Any, p: Any, h: float) -> tuple[Any, Any]:
    """A step of the classical Runge-Kutta method for prey and predators."""
    k1 = volterra(x, y, p)
    k2 = volterra(x + 0.5 * h * k1[0], y + 0.5 * h * k1[1], p)
    k3 = volterra(x + 0.5 * h * k2[0], y + 0.5 * h * k2[1], p)
    k4 = volterra(x + h * k3[0], y + h * k3[1], p)
    dx, dy = (h / 6 * (a + 2 * b + 2 * c + d) for a, b, c, d in zip(k1, k2, k3, k4, strict=True))
    return x + dx, y + dy


def heston_step(np: Any, log_s: Any, v: Any, z1: Any, z2: Any, p: Any, dt: float) -> tuple[Any, Any]:
    """A step of all paths."""
    _, _, kappa, theta, xi, rho, r = p
    plus = np.maximum(v, 0.0)
    sigma = np.sqrt(plus + 1e-12)
    z2 = rho * z1 + np.sqrt(1.0 - rho * rho) * z2
    log_s = log_s + (r - 0.5 * plus) * dt + sigma * dt**0.5 * z1
    return log_s, v + kappa * (theta - plus) * dt + xi * sigma * dt**0.5 * z2


def chain_step(np: Any, y: Any, x: Any, h: float) -> Any:
    """A step of Runge and Kutta's method for a chain of linear equations."""

    def field(y: Any) -> Any:
        return np.concatenate([x[:1] + y[:1], x[1:] * y[:-1]])

    k1 = field(y)
    k2 = field(y + 0.5 * h * k1)
    k3 = field(y + 0.5 * h * k2)
    k4 = field(y + h * k3)
    return y + h / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)


def accelerations(x: Any, m: Any) -> Any:
    """Of bodies at `x` that attract each other."""
    d = x[None] - x[:, None]
    return (m[None, :, None] * d * ((d * d).sum(2, keepdims=True) + 0.01) ** -1.5).sum(1)


def leapfrog(x: Any, v: Any, a: Any, m: Any, h: float) -> tuple[Any, Any, Any]:
    """A step of bodies that attract each other."""
    v = v + 0.5 * h * a
    x = x + h * v
    a = accelerations(x, m)
    return x, v + 0.5 * h * a, a


# --- flows on grids ---------------------------------------------------------------------------------------------------


def source(u: Any, v: Any, dt: float, h: float) -> Any:
    """What the velocities would change in volume, in the inside."""
    ux, uy = (u[1:-1, 2:] - u[1:-1, :-2]) / (2 * h), (u[2:, 1:-1] - u[:-2, 1:-1]) / (2 * h)
    vx, vy = (v[1:-1, 2:] - v[1:-1, :-2]) / (2 * h), (v[2:, 1:-1] - v[:-2, 1:-1]) / (2 * h)
    return (ux + vy) / dt - ux * ux - 2 * uy * vx - vy * vy


def relaxed(q: Any, b: Any, h: float) -> Any:
    """A step towards Poisson's equation, in the inside."""
    return (q[1:-1, 2:] + q[1:-1, :-2] + q[2:, 1:-1] + q[:-2, 1:-1] - h * h * b) / 4.0


def carried(w: Any, u: Any, v: Any, dt: float, h: float) -> Any:
    """A component of the velocity after it was carried along and lost some to friction, in the inside."""
    here, west, south = w[1:-1, 1:-1], w[1:-1, :-2], w[:-2, 1:-1]
    along = u[1:-1, 1:-1] * (here - west) + v[1:-1, 1:-1] * (here - south)
    return here - dt / h * along + 0.1 * dt / h**2 * (west + w[1:-1, 2:] + south + w[2:, 1:-1] - 4 * here)


def limited_flux(np: Any, field: Any, c: float) -> Any:
    """The limited Laplacian of a Laplacian."""
    lap = 4.0 * field[1:-1, 1:-1] - (field[2:, 1:-1] + field[:-2, 1:-1] + field[1:-1, 2:] + field[1:-1, :-2])
    flux = lap[1:, 1:-1] - lap[:-1, 1:-1]
    across = lap[1:-1, 1:] - lap[1:-1, :-1]
    flux = np.where(flux * (field[2:-1, 2:-2] - field[1:-2, 2:-2]) > 0, 0.0, flux)
    across = np.where(across * (field[2:-2, 2:-1] - field[2:-2, 1:-2]) > 0, 0.0, across)
    return field[2:-2, 2:-2] - c * (flux[1:] - flux[:-1] + across[:, 1:] - across[:, :-1])


def smoothed_1d(a: Any) -> Any:
    """Means of three neighbours, in the inside."""
    return 0.33333 * (a[:-2] + a[1:-1] + a[2:])


def smoothed_2d(a: Any) -> Any:
    """Means of five neighbours, in the inside."""
    return 0.2 * (a[1:-1, 1:-1] + a[1:-1, :-2] + a[1:-1, 2:] + a[2:, 1:-1] + a[:-2, 1:-1])


def heated(a: Any) -> Any:
    """A step of the heat equation, in the inside."""
    here = a[1:-1, 1:-1, 1:-1]
    return here + 0.125 * (
        a[2:, 1:-1, 1:-1] + a[:-2, 1:-1, 1:-1] + a[1:-1, 2:, 1:-1] + a[1:-1, :-2, 1:-1] + a[1:-1, 1:-1, 2:]
        + a[1:-1, 1:-1, :-2] - 6.0 * here
    )  # fmt: skip


# --- models -----------------------------------------------------------------------------------------------------------


def mixture(np: Any, factor: Any, logits: Any, means: Any, factors: Any, x: Any) -> Any:
    """The log likelihood of a mixture and the prior's log density, of triangular factors that are matrices already."""
    d = means.shape[1]
    y = np.einsum("kij,nkj->nki", factor, x[:, None] - means)
    terms = logits + factors[:, :d].sum(1) - 0.5 * (y * y).sum(2)
    likelihood = np.logsumexp(terms, 1).sum() - len(x) * np.logsumexp(logits, 0)
    return likelihood - 0.5 * (factor * factor).sum()


def nearest(np: Any, centres: Any, x: Any) -> Any:
    """The sum of squared distances from points to the nearest of some centres."""
    return np.amin(((x[:, None] - centres) ** 2).sum(2), 1).sum()


def rotated(np: Any, r: Any, x: Any) -> Any:
    """Points in columns turned about an axis, by Rodrigues' formula."""
    theta = np.sqrt((r * r).sum() + 1e-30)
    c, s, w = np.cos(theta), np.sin(theta), r / theta
    dot = (w[0] * x[0] + w[1] * x[1] + w[2] * x[2]) * (1.0 - c)
    return np.stack([
        x[0] * c + (w[1] * x[2] - w[2] * x[1]) * s + w[0] * dot,
        x[1] * c + (w[2] * x[0] - w[0] * x[2]) * s + w[1] * dot,
        x[2] * c + (w[0] * x[1] - w[1] * x[0]) * s + w[2] * dot,
    ])  # fmt: skip


def reprojection(np: Any, block: Any, at: Any) -> Any:
    """Where a camera sees a point, less where it was seen, times a weight."""
    y = rotated(np, block[:3], block[11:14] - block[3:6])
    u = y[:2] / y[2]
    square = (u * u).sum()
    radial = 1.0 + block[9] * square + block[10] * square * square
    return block[14] * (block[6] * radial * u + block[7:9] - at)


def chained(np: Any, a: Any, b: Any) -> Any:
    """Affine maps one after another, as matrices of 3 x 4."""
    return np.concatenate([a[..., :3] @ b[..., :3], a[..., :3] @ b[..., 3:] + a[..., 3:]], -1)


def skin(np: Any, theta: Any, base: Any, inverse: Any, weights: Any, rest: Any) -> Any:
    """A hand's skin, moved with its bones; those of all fingers at once, joint by joint."""
    angles, of_fingers = theta[6:26].reshape(5, 4), base[1:].reshape(5, 4, 3, 4)
    still = np.zeros_like(angles[:, 0])
    before, world = base[0], []
    for joint in range(4):
        spread = angles[:, 0] if joint == 0 else still
        bend = angles[:, joint + 1] if joint < 3 else still
        c, s, cx, sx = np.cos(spread), np.sin(spread), np.cos(bend), np.sin(bend)
        turned = np.stack([c, -s * cx, s * sx, still, s, c * cx, -c * sx, still, still, sx, cx, still], 1)
        before = chained(np, before, chained(np, of_fingers[:, joint], turned.reshape(5, 3, 4)))
        world.append(before)
    maps = chained(np, np.concatenate([base[:1], np.stack(world, 1).reshape(20, 3, 4)]), inverse)
    x = np.einsum("bij,pj,bp->ip", maps[:, :, :3], rest, weights) + np.einsum("bi,bp->ip", maps[:, :, 3], weights)
    return rotated(np, theta[:3], x).T + theta[3:6]


def on_triangles(np: Any, p: Any, base: Any, inverse: Any, weights: Any, rest: Any, triangles: Any, places: Any) -> Any:
    """Points of the skin's triangles, at places that are moved."""
    corners = skin(np, p, base, inverse, weights, rest)[triangles]
    u, v = places[:, 0, None] + p[26], places[:, 1, None] + p[27]
    return u * corners[:, 0] + v * corners[:, 1] + (1.0 - u - v) * corners[:, 2]


def lstm_step(np: Any, hidden: Any, cell: Any, w: Any, x: Any, n_layers: int) -> tuple[Any, Any, Any]:
    """A letter of a text: the states of all layers, and what the net expects to come next."""
    given, hidden_after, cell_after = x * w[-3], [], []
    for layer in range(n_layers):
        gates = w[8 * layer : 8 * layer + 8]
        forget = np.sigmoid(given * gates[0] + gates[1])
        taken = np.sigmoid(hidden[layer] * gates[2] + gates[3])
        shown = np.sigmoid(given * gates[4] + gates[5])
        change = np.tanh(hidden[layer] * gates[6] + gates[7])
        cell_after.append(cell[layer] * forget + taken * change)
        given = shown * np.tanh(cell_after[-1])
        hidden_after.append(given)
    given = given * w[-2] + w[-1]
    return hidden_after, cell_after, given - np.log(np.exp(given).sum() + 2.0)
