"""The works as users of JAX write them: loops are `scan` and `fori_loop`, arrays whole; all of it compiled."""

import importlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from benchmarks.jitted_works.table import Work

jax.config.update("jax_enable_x64", True)


def derivative(work: Work) -> Callable[[], Any]:
    """What computes the derivative of a work, once it has compiled at its first call."""
    function = getattr(importlib.import_module(f"{__name__}.{work.family}"), work.function)
    args = work.arguments()
    static = tuple(i for i, a in enumerate(args) if not isinstance(a, np.ndarray))
    args = tuple(jax.numpy.asarray(a) if isinstance(a, np.ndarray) else a for a in args)
    if work.way == "jacobian":
        found = jax.jacfwd(function)
    elif work.way == "blocks":
        found = jax.vmap(jax.jacrev(function))
    else:
        found = jax.value_and_grad(function, argnums=work.by)
    compiled = jax.jit(found, static_argnums=static)
    return lambda: jax.tree.map(np.asarray, jax.block_until_ready(compiled(*args)))
