"""Distances between points, and mixtures."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp

from jitted_peers import formulas

NAMES = SimpleNamespace(**vars(jnp) | {"logsumexp": jax.nn.logsumexp})


def mixture(logits: Any, means: Any, factors: Any, x: Any) -> Any:
    d = means.shape[1]
    below, diagonal = jnp.tril_indices(d, -1), jnp.arange(d)
    factor = jnp.zeros((len(means), d, d)).at[:, diagonal, diagonal].set(jnp.exp(factors[:, :d]))
    return formulas.mixture(NAMES, factor.at[:, *below].set(factors[:, d:]), logits, means, factors, x)


mixture_of_arrays = mixture


def k_means(centres: Any, x: Any) -> Any:
    return formulas.nearest(jnp, centres, x)


def n_body(x: Any, m: Any) -> Any:
    i, j = jnp.triu_indices(len(x), 1)
    d = x[i] - x[j]
    return -jnp.sum(m[i] * m[j] / jnp.sqrt((d * d).sum(1) + 1e-9))
