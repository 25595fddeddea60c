"""Derivatives where they are not asked for by `tapegrad.func`: inside jitted code, and as a row of the Tensor tape."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numba.core.registry import CPUDispatcher

from tapegrad import func
from tapegrad.autograd.host import host_function
from tapegrad.jitted import engine
from tapegrad.jitted.drivers import Form, driver


def value_and_grad(function: Any, argnums: int | tuple[int, ...] = 0) -> Any:
    """A jitted function of the same arguments that returns the value of a jitted function, and its gradient.

    Unlike that of `tapegrad.func` it can be called from other jitted code, also from many threads, and takes all
    arguments by position.

    >>> from numba import njit
    >>> import numpy as np
    >>> import tapegrad as tg
    >>> @njit
    ... def energy(x):
    ...     return np.sum((x - 1.0) ** 2)
    >>> energy_and_slope = tg.jitted.value_and_grad(energy)
    >>> @njit
    ... def descend(x, n):
    ...     for _ in range(n):
    ...         value, slope = energy_and_slope(x)
    ...         x = x - 0.25 * slope
    ...     return x
    >>> descend(np.zeros(2), 60).round(6)
    array([1., 1.])
    """
    made = function if isinstance(function, CPUDispatcher) else njit(function)
    n = len(inspect.signature(made.py_func).parameters)
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    if any(not 0 <= place < n for place in numbers):
        raise ValueError(f"argnums are from 0 to {n - 1}, not {argnums}")
    if list(numbers) != sorted(numbers):
        raise ValueError("argnums are in the order of the arguments here")
    return driver(made, Form("value_and_grad", n, numbers, is_single=isinstance(argnums, int)))


def operation(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of tensors of a jitted function of arrays: one row of the tape, with its gradient.

    Parameters
    ----------
    function : jitted function, or one that can be
        It takes one to three float64 arrays and returns an array, or a number.

    Returns
    -------
    callable
        A function of tensors. Its own derivative isn't known: differentiating it twice is an error; see
        `tapegrad.func.hessian`.

    >>> from numba import njit
    >>> import tapegrad as tg
    >>> @njit
    ... def decay(x):
    ...     y = x.copy()
    ...     for k in range(1, y.size):
    ...         y[k] += 0.5 * y[k - 1]
    ...     return y
    >>> x = tg.ones(3, requires_grad=True)
    >>> tg.jitted.operation(decay)(x).sum().backward()
    >>> x.grad
    tensor([1.7500, 1.5000, 1.0000])
    """
    jitted = engine.engine_of(function).function

    def forward(*arrays: np.ndarray) -> np.ndarray:
        return np.asarray(jitted(*(a.copy() for a in arrays)))

    def vjp(y_bar: np.ndarray, y: np.ndarray, *arrays: np.ndarray) -> tuple[Any, ...]:
        value, pull = func.vjp(jitted, *arrays)
        found: tuple[Any, ...] = pull(y_bar if isinstance(value, np.ndarray) else float(y_bar))
        return found

    def applied(*tensors: Any) -> Any:
        arrays = [np.asarray(t.detach().numpy() if hasattr(t, "detach") else t, float) for t in tensors]
        shape = np.shape(jitted(*(a.copy() for a in arrays)))
        return host_function(forward, vjp, shape=lambda *_: shape)(*tensors)

    applied.__name__ = getattr(function, "__name__", "operation")
    applied.__doc__ = function.__doc__
    return applied
