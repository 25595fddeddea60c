"""Loops over matrices and vectors."""

from typing import Any

import jax
import jax.numpy as jnp


def seidel_2d(a: Any, n: int) -> Any:
    def row(above: Any, here_and_below: Any) -> Any:
        here, below = here_and_below
        known = above[:-2] + above[1:-1] + above[2:] + here[1:-1] + here[2:] + below[:-2] + below[1:-1] + below[2:]

        def element(left: Any, known: Any) -> Any:
            found = (known + left) / 9.0
            return found, found

        inside = jax.lax.scan(element, here[0], known)[1]
        row = here.at[1:-1].set(inside)
        return row, row

    def step(_: int, a: Any) -> Any:
        return a.at[1:-1].set(jax.lax.scan(row, a[0], (a[1:-1], a[2:]))[1])

    return jnp.sum(jax.lax.fori_loop(0, n, step, a))


def floyd_warshall(paths: Any) -> Any:
    return jnp.sum(jax.lax.fori_loop(0, len(paths), lambda k, d: jnp.minimum(d, d[:, k, None] + d[k]), paths))


def triangular_solution(lower: Any, b: Any) -> Any:
    return jnp.sum(jax.scipy.linalg.solve_triangular(lower, b, lower=True))


def syr2k(a: Any, b: Any, c: Any) -> Any:
    return jnp.sum(jnp.tril(1.2 * c + 1.5 * (b @ a.T + a @ b.T)) + jnp.triu(c, 1))


def durbin(r: Any) -> Any:
    n = len(r)
    numbers = jnp.arange(n)

    def step(state: Any, k: Any) -> Any:
        y, alpha, beta = state
        beta = beta * (1.0 - alpha * alpha)
        mirrored = jnp.clip(k - 1 - numbers, 0)
        alpha = -(r[k] + jnp.sum(jnp.where(numbers < k, r[mirrored] * y, 0.0))) / beta
        y = jnp.where(numbers < k, y + alpha * y[mirrored], y)
        return (y.at[k].set(alpha), alpha, beta), None

    start = (jnp.zeros(n).at[0].set(-r[0]), -r[0], jnp.ones(()))
    return jnp.sum(jax.lax.scan(step, start, jnp.arange(1, n))[0][0])


def log_determinant(a: Any) -> Any:
    below = jnp.arange(len(a))

    def eliminate(j: Any, state: Any) -> Any:
        a, total = state
        pivot = jnp.sqrt(a[j, j])
        column = jnp.where(below > j, a[:, j] / pivot, 0.0)
        return a - jnp.outer(column, column), total + 2 * jnp.log(pivot)

    return jax.lax.fori_loop(0, len(a), eliminate, (a, 0.0))[1]


def gemm(a: Any, b: Any) -> Any:
    return jnp.sum((a @ b) ** 2)
