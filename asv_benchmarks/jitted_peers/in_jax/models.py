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
    return seen - formulas.on_triangles(jnp, p, base, inverse, weights, rest, triangles, places)


def lstm(w: Any, x: Any, n_layers: int) -> Any:
    def step(state: Any, x: Any) -> Any:
        hidden, cell, expected = formulas.lstm_step(NAMES, *state, w, x, n_layers)
        return (jnp.stack(hidden), jnp.stack(cell)), expected

    start = (jnp.zeros((n_layers, x.shape[1])),) * 2
    expected = jax.lax.scan(step, start, x[:-1])[1]
    return jnp.sum(x[1:] * expected) / len(x)
