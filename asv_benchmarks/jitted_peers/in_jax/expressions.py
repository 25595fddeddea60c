"""Array expressions of slices, on grids."""

from typing import Any

import jax
import jax.numpy as jnp

from jitted_peers import formulas

IN = slice(1, -1)  # what isn't at an edge


def jacobi_1d(a: Any, n: int) -> Any:
    def step(_: int, ab: Any) -> Any:
        a, b = ab
        b = b.at[IN].set(formulas.smoothed_1d(a))
        return a.at[IN].set(formulas.smoothed_1d(b)), b

    return jnp.sum(jax.lax.fori_loop(0, n, step, (a, a))[0])


def jacobi_2d(a: Any, n: int) -> Any:
    def step(_: int, ab: Any) -> Any:
        a, b = ab
        b = b.at[IN, IN].set(formulas.smoothed_2d(a))
        return a.at[IN, IN].set(formulas.smoothed_2d(b)), b

    return jnp.sum(jax.lax.fori_loop(0, n, step, (a, a))[0])


def heat_3d(a: Any, n: int) -> Any:
    return jnp.sum(jax.lax.fori_loop(0, n, lambda _, a: a.at[IN, IN, IN].set(formulas.heated(a)), a))


def fdtd_2d(hz: Any, n: int) -> Any:
    def step(t: Any, state: Any) -> Any:
        ex, ey, hz = state
        ey = ey.at[0].set(t)
        ey = ey.at[1:].add(-0.5 * (hz[1:] - hz[:-1]))
        ex = ex.at[:, 1:].add(-0.5 * (hz[:, 1:] - hz[:, :-1]))
        hz = hz.at[:-1, :-1].add(-0.7 * (ex[:-1, 1:] - ex[:-1, :-1] + ey[1:, :-1] - ey[:-1, :-1]))
        return ex, ey, hz

    return jnp.sum(jax.lax.fori_loop(0, n, step, (jnp.zeros_like(hz), jnp.zeros_like(hz), hz))[2])


def horizontal_diffusion(field: Any, c: float) -> Any:
    return jnp.sum(formulas.limited_flux(jnp, field, c) ** 2)


def flow(u: Any, v: Any, n: int, n_balancing: int, edges: Any, at_walls: Any, force: float) -> Any:
    """The energy of a flow after `n` steps, with functions for what is at the edges of pressure and velocities."""
    dt, h = 0.001, 2.0 / (u.shape[0] - 1)

    def step(_: int, state: Any) -> Any:
        u, v, p = state
        b = formulas.source(u, v, dt, h)
        p = jax.lax.fori_loop(0, n_balancing, lambda _, p: edges(p.at[IN, IN].set(formulas.relaxed(p, b, h))), p)
        across, along = p[1:-1, 2:] - p[1:-1, :-2], p[2:, 1:-1] - p[:-2, 1:-1]
        u_new = formulas.carried(u, u, v, dt, h) - dt / (2 * h) * across + force * dt
        v_new = formulas.carried(v, u, v, dt, h) - dt / (2 * h) * along
        return at_walls(u.at[IN, IN].set(u_new)), at_walls(v.at[IN, IN].set(v_new)), p

    u, v, _ = jax.lax.fori_loop(0, n, step, (u, v, jnp.zeros_like(u)))
    return jnp.sum(u * u + v * v)


def cavity(u: Any, v: Any, n: int) -> Any:
    def edges(p: Any) -> Any:
        p = p.at[:, -1].set(p[:, -2])
        p = p.at[0].set(p[1])
        p = p.at[:, 0].set(p[:, 1])
        return p.at[-1].set(0.0)

    return flow(u, v, n, 10, edges, lambda u: u, 0.0)


def wrapped(field: Any) -> Any:
    """What flows out at one end comes in at the other."""
    field = field.at[:, 0].set(field[:, -2])
    return field.at[:, -1].set(field[:, 1])


def channel_flow(u: Any, v: Any, n: int) -> Any:
    def edges(p: Any) -> Any:
        p = wrapped(p)
        p = p.at[0].set(p[1])
        return p.at[-1].set(p[-2])

    return flow(u, v, n, 5, edges, lambda u: wrapped(u).at[jnp.array([0, -1])].set(0.0), 1.0)


def alternating_directions(u: Any, n: int) -> Any:
    a, d = -0.3, 1.6

    def swept(rhs: Any) -> Any:
        """The inside, of right-hand sides in rows; 1 at both ends."""

        def forth(pq: Any, r: Any) -> Any:
            p, q = pq
            p, q = -a / (a * p + d), (r - a * q) / (a * p + d)
            return (p, q), (p, q)

        def back(x: Any, pq: Any) -> Any:
            x = pq[0] * x + pq[1]
            return x, x

        ones = jnp.ones(rhs.shape[1])
        _, kept = jax.lax.scan(forth, (0.0 * ones, ones), rhs)
        return jax.lax.scan(back, ones, kept, reverse=True)[1]

    def mixed(w: Any) -> Any:
        """Of each three neighbours in a row."""
        return 0.3 * w[:, :-2] + 0.4 * w[:, 1:-1] + 0.3 * w[:, 2:]

    def step(_: int, u: Any) -> Any:
        inside = swept(mixed(u[1:-1]))
        ones = jnp.ones((1, inside.shape[1]))
        v = jnp.concatenate([ones, inside, ones])  # its columns are those of the inside
        u_inside = swept(mixed(v.T)).T
        u = u.at[IN, 0].set(1.0).at[IN, -1].set(1.0)
        return u.at[IN, IN].set(u_inside)

    u = jax.lax.fori_loop(0, n, step, u)
    return jnp.sum(u * u)
