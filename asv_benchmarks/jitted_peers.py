"""The works of `benchmarks/jitted_works.py` as users of JAX and PyTorch would write them: steps in loops, arrays whole.

Each function computes what the jitted one of the same name does, of the same arguments, and is differentiated by the
first. A text in the place of a function says why a library can't.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np


def field(x: Any, y: Any, p: Any) -> tuple[Any, Any]:
    """Predator and prey."""
    return p[0] * x - p[1] * x * y, p[3] * x * y - p[2] * y


def runge_kutta_step(x: Any, y: Any, p: Any, h: float) -> tuple[Any, Any]:
    """A step of the classical Runge-Kutta method."""
    k1 = field(x, y, p)
    k2 = field(x + 0.5 * h * k1[0], y + 0.5 * h * k1[1], p)
    k3 = field(x + 0.5 * h * k2[0], y + 0.5 * h * k2[1], p)
    k4 = field(x + h * k3[0], y + h * k3[1], p)
    dx, dy = (h / 6 * (a + 2 * b + 2 * c + d) for a, b, c, d in zip(k1, k2, k3, k4, strict=True))
    return x + dx, y + dy


def heston_step(np: Any, log_s: Any, v: Any, z1: Any, z2: Any, p: Any, dt: float) -> tuple[Any, Any]:
    """A step of all paths; `np` has NumPy's names."""
    _, _, kappa, theta, xi, rho, r = p
    plus = np.maximum(v, 0.0)
    sigma = np.sqrt(plus + 1e-12)
    z2 = rho * z1 + np.sqrt(1.0 - rho * rho) * z2
    log_s = log_s + (r - 0.5 * plus) * dt + sigma * dt**0.5 * z1
    return log_s, v + kappa * (theta - plus) * dt + xi * sigma * dt**0.5 * z2


# --- JAX --------------------------------------------------------------------------------------------------------------


def jax_functions() -> dict[str, Callable[..., Any] | str]:
    """By name; loops are `scan` and `fori_loop`."""
    import jax
    import jax.numpy as jnp

    def runge_kutta(p: Any, n: int, h: float) -> Any:
        def step(state: Any, _: Any) -> Any:
            return runge_kutta_step(*state, p, h), None

        (x, y), _ = jax.lax.scan(step, (p[4], p[5]), None, length=n)
        return x + y

    def heston(p: Any, z: Any, strike: float, maturity: float) -> Any:
        def step(state: Any, zj: Any) -> Any:
            return heston_step(jnp, *state, zj[0], zj[1], p, maturity / z.shape[1]), None

        start = (jnp.full(z.shape[0], jnp.log(p[0])), jnp.full(z.shape[0], p[1]))
        (log_s, _), _ = jax.lax.scan(step, start, jnp.asarray(z).transpose(1, 2, 0))
        return jnp.exp(-p[6] * maturity) * jnp.mean(jnp.maximum(jnp.exp(log_s) - strike, 0.0))

    def n_body(x: Any, m: Any) -> Any:
        i, j = np.triu_indices(len(x), 1)
        d = x[i] - x[j]
        return -jnp.sum(m[i] * m[j] / jnp.sqrt((d * d).sum(1) + 1e-9))

    def log_determinant(a: Any) -> Any:
        below = jnp.arange(len(a))

        def eliminate(j: Any, state: Any) -> Any:
            a, total = state
            pivot = jnp.sqrt(a[j, j])
            column = jnp.where(below > j, a[:, j] / pivot, 0.0)
            return a - jnp.outer(column, column), total + 2 * jnp.log(pivot)

        return jax.lax.fori_loop(0, len(a), eliminate, (a, 0.0))[1]

    return {
        "runge_kutta": runge_kutta, "heston": heston, "n_body": n_body, "log_determinant": log_determinant,
        "newton": "not possible: `while_loop` has no reverse mode",
    }  # fmt: skip


def jax_gradient(name: str, args: tuple[Any, ...]) -> Callable[[], Any] | str:
    """The gradient's computation, compiled at its first call."""
    import jax

    jax.config.update("jax_enable_x64", True)
    function = jax_functions()[name]
    if isinstance(function, str):
        return function
    static = tuple(i for i, a in enumerate(args) if not isinstance(a, np.ndarray))
    gradient = jax.jit(jax.grad(function), static_argnums=static)
    args = tuple(jax.numpy.asarray(a) if isinstance(a, np.ndarray) else a for a in args)
    return lambda: np.asarray(jax.block_until_ready(gradient(*args)))


# --- PyTorch, eager ---------------------------------------------------------------------------------------------------


def torch_functions() -> dict[str, Callable[..., Any] | str]:
    """By name; loops are Python's."""
    import torch

    names = SimpleNamespace(sqrt=torch.sqrt, maximum=lambda x, least: x.clamp(min=least))

    def runge_kutta(p: Any, n: int, h: float) -> Any:
        p = p.unbind()
        x, y = p[4], p[5]
        for _ in range(n):
            x, y = runge_kutta_step(x, y, p, h)
        return x + y

    def heston(p: Any, z: Any, strike: float, maturity: float) -> Any:
        p = p.unbind()
        log_s, v = p[0].log().expand(len(z)), p[1].expand(len(z))
        for j in range(z.shape[1]):
            log_s, v = heston_step(names, log_s, v, z[:, j, 0], z[:, j, 1], p, maturity / z.shape[1])
        return torch.exp(-p[6] * maturity) * (log_s.exp() - strike).clamp(min=0.0).mean()

    def n_body(x: Any, m: Any) -> Any:
        i, j = torch.triu_indices(len(x), len(x), 1)
        d = x[i] - x[j]
        return -(m[i] * m[j] / ((d * d).sum(1) + 1e-9).sqrt()).sum()

    def log_determinant(a: Any) -> Any:
        total = 0.0
        while len(a):
            pivot = a[0, 0].sqrt()
            column = a[1:, 0] / pivot
            a = a[1:, 1:] - column.outer(column)
            total = total + 2 * pivot.log()
        return total

    def newton(c: Any, tolerance: float) -> Any:
        x = torch.ones_like(c)
        for _ in range(51):
            residual = x * x * x + c * x - 1.0
            is_active = residual.abs() >= tolerance
            if not is_active.any():
                break
            x = torch.where(is_active, x - residual / (3 * x**2 + c), x)
        return x[::2].sum() - 0.5 * x[1::2].sum()

    return {
        "runge_kutta": runge_kutta, "heston": heston, "n_body": n_body, "log_determinant": log_determinant,
        "newton": newton,
    }  # fmt: skip


def torch_gradient(name: str, args: tuple[Any, ...]) -> Callable[[], Any] | str:
    """The gradient's computation, recorded at every call."""
    import torch

    function = torch_functions()[name]
    if isinstance(function, str):
        return function
    first, *others = (torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in args)
    first.requires_grad_()

    def compute() -> Any:
        return torch.autograd.grad(function(first, *others), first)[0].numpy()

    return compute


# --- tapegrad ---------------------------------------------------------------------------------------------------------


def tapegrad_gradient(name: str, args: tuple[Any, ...]) -> Callable[[], Any]:
    """The gradient of the jitted function itself."""
    from benchmarks import jitted_works

    from tapegrad import func

    gradient = func.grad(getattr(jitted_works, name))
    return lambda: gradient(*args)


GRADIENTS = {"tapegrad": tapegrad_gradient, "torch": torch_gradient, "jax": jax_gradient}
TITLES = {"tapegrad": "tapegrad", "torch": "PyTorch", "jax": "JAX"}
