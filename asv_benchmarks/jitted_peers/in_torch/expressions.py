"""Array expressions of slices, on grids: what a step computes is put in its place, in arrays of the function's own."""

from typing import Any

import torch

from jitted_peers import formulas


def jacobi_1d(a: Any, n: int) -> Any:
    a, b = a.clone(), a.clone()
    for _ in range(n):
        b[1:-1] = formulas.smoothed_1d(a)
        a[1:-1] = formulas.smoothed_1d(b)
    return a.sum()


def jacobi_2d(a: Any, n: int) -> Any:
    a, b = a.clone(), a.clone()
    for _ in range(n):
        b[1:-1, 1:-1] = formulas.smoothed_2d(a)
        a[1:-1, 1:-1] = formulas.smoothed_2d(b)
    return a.sum()


def heat_3d(a: Any, n: int) -> Any:
    a, b = a.clone(), a.clone()
    for _ in range(n):
        b[1:-1, 1:-1, 1:-1] = formulas.heated(a)
        a, b = b, a
    return a.sum()


def fdtd_2d(hz: Any, n: int) -> Any:
    hz = hz.clone()
    ex, ey = torch.zeros_like(hz), torch.zeros_like(hz)
    for t in range(n):
        ey[0] = float(t)
        ey[1:] -= 0.5 * (hz[1:] - hz[:-1])
        ex[:, 1:] -= 0.5 * (hz[:, 1:] - hz[:, :-1])
        hz[:-1, :-1] -= 0.7 * (ex[:-1, 1:] - ex[:-1, :-1] + ey[1:, :-1] - ey[:-1, :-1])
    return hz.sum()


def horizontal_diffusion(field: Any, c: float) -> Any:
    return (formulas.limited_flux(torch, field, c) ** 2).sum()


def flow(u: Any, v: Any, n: int, n_balancing: int, edges: Any, at_walls: Any, force: float) -> Any:
    """The energy of a flow after `n` steps, with functions that write what is at the edges."""
    dt, h = 0.001, 2.0 / (u.shape[0] - 1)
    u, v, p = u.clone(), v.clone(), torch.zeros_like(u)
    for _ in range(n):
        b = formulas.source(u, v, dt, h)
        for _ in range(n_balancing):
            q, p = p, p.clone()
            p[1:-1, 1:-1] = formulas.relaxed(q, b, h)
            edges(p)
        across, along = p[1:-1, 2:] - p[1:-1, :-2], p[2:, 1:-1] - p[:-2, 1:-1]
        un, vn = u, v
        u, v = un.clone(), vn.clone()
        u[1:-1, 1:-1] = formulas.carried(un, un, vn, dt, h) - dt / (2 * h) * across + force * dt
        v[1:-1, 1:-1] = formulas.carried(vn, un, vn, dt, h) - dt / (2 * h) * along
        at_walls(u)
        at_walls(v)
    return (u * u + v * v).sum()


def cavity(u: Any, v: Any, n: int) -> Any:
    def edges(p: Any) -> None:
        p[:, -1] = p[:, -2]
        p[0] = p[1]
        p[:, 0] = p[:, 1]
        p[-1] = 0.0

    return flow(u, v, n, 10, edges, lambda _: None, 0.0)


def wrap(field: Any) -> None:
    """What flows out at one end comes in at the other."""
    field[:, 0] = field[:, -2]
    field[:, -1] = field[:, 1]


def channel_flow(u: Any, v: Any, n: int) -> Any:
    def edges(p: Any) -> None:
        wrap(p)
        p[0] = p[1]
        p[-1] = p[-2]

    def at_walls(u: Any) -> None:
        wrap(u)
        u[[0, -1]] = 0.0

    return flow(u, v, n, 5, edges, at_walls, 1.0)


def alternating_directions(u: Any, n: int) -> Any:
    a, d = -0.3, 1.6

    def swept(rhs: Any) -> Any:
        """The inside, of right-hand sides in rows; 1 at both ends."""
        p, q, x = 0.0, torch.ones_like(rhs[0]), torch.ones_like(rhs[0])
        kept, found = [], []
        for r in rhs:
            p, q = -a / (a * p + d), (r - a * q) / (a * p + d)
            kept.append((p, q))
        for p, q in reversed(kept):
            x = p * x + q
            found.append(x)
        return torch.stack(found[::-1])

    def mixed(w: Any) -> Any:
        """Of each three neighbours in a row."""
        return 0.3 * w[:, :-2] + 0.4 * w[:, 1:-1] + 0.3 * w[:, 2:]

    u = u.clone()
    for _ in range(n):
        inside = swept(mixed(u[1:-1]))
        ones = torch.ones_like(inside[:1])
        v = torch.cat([ones, inside, ones])  # its columns are those of the inside
        u[1:-1, 1:-1] = swept(mixed(v.T)).T
        u[1:-1, [0, -1]] = 1.0
    return (u * u).sum()
