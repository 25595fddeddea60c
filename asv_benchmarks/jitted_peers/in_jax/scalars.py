"""Scalars in loops."""

from typing import Any

import jax
import jax.numpy as jnp


def total(x: Any) -> Any:
    return jnp.sum(x)


def total_of_sines(x: Any) -> Any:
    return jnp.sum(jnp.sin(x))


def logistic_map(p: Any, n: int) -> Any:
    return jax.lax.fori_loop(0, n, lambda _, x: p[0] * x * (1.0 - x), p[1])


def rosenbrock(x: Any) -> Any:
    return jnp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)
