"""Models whose Jacobians are asked for, and a recurrent net."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp

from jitted_peers import formulas

NAMES = SimpleNamespace(**vars(jnp) | {"sigmoid": jax.nn.sigmoid})


def reprojections(block: Any, at: Any) -> Any:
    return formulas.reprojection(jnp, block, at)


def hand(theta: Any, base: Any, inverse: Any, weights: Any, rest: Any, points: Any, seen: Any) -> Any:
    return seen - formulas.skin(jnp, theta, base, inverse, weights, rest)[points]


def hand_on_triangles(
    p: Any, base: Any, inverse: Any, weights: Any, rest: Any, triangles: Any, places: Any, seen: Any
) -> Any:
    corners = formulas.skin(jnp, p, base, inverse, weights, rest)[triangles]
    u, v = places[:, 0, None] + p[26], places[:, 1, None] + p[27]
    return seen - (u * corners[:, 0] + v * corners[:, 1] + (1.0 - u - v) * corners[:, 2])


def lstm(w: Any, x: Any, n_layers: int) -> Any:
    def step(state: Any, x: Any) -> Any:
        hidden, cell, expected = formulas.lstm_step(NAMES, *state, w, x, n_layers)
        return (jnp.stack(hidden), jnp.stack(cell)), expected

    start = (jnp.zeros((n_layers, x.shape[1])),) * 2
    expected = jax.lax.scan(step, start, x[:-1])[1]
    return jnp.sum(x[1:] * expected) / len(x)
