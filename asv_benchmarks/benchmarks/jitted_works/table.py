"""The works whose derivatives are measured: what is computed, of which numbers, and how fast it should be.

The kernels are of the kinds that NPBench, gradbench and ADBench collect, at sizes like theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

CALLS = 1000  # by jitted code, where the way is "calls"


@dataclass(frozen=True)
class Work:
    """A function, named "family.function", and its arguments.

    Ways of differentiating: "gradient", with the value; "calls", the same, which tapegrad computes where jitted code
    calls for it, `CALLS` times; "jacobian" by the first argument; "blocks", of which only what isn't zero: there the
    function has a row for each of the first argument, peers have a function of one row, and tapegrad's users write a
    loop, which is called "function_blocks".

    Goals are the most that a derivative may take: "function", of the function's own time; "torch", "jax", of theirs;
    "seconds"; "bytes", of the tape.
    """

    name: str
    draw: Callable[[np.random.Generator], tuple[Any, ...]]
    goals: Mapping[str, float]
    by: tuple[int, ...] = (0,)
    way: Literal["gradient", "calls", "jacobian", "blocks"] = "gradient"
    without: Mapping[str, str] = field(default_factory=dict)  # library: why it has no part
    is_telling: bool = False  # in the short table

    @property
    def family(self) -> str:
        """The file in which the function is."""
        return self.name.split(".")[0]

    @property
    def function(self) -> str:
        """The function's name there."""
        return self.name.split(".")[1]

    def arguments(self) -> tuple[Any, ...]:
        """The same at every call."""
        return self.draw(np.random.default_rng(0))


# --- arguments --------------------------------------------------------------------------------------------------------


def normal(*shape: int, scale: float = 1.0) -> Callable[[np.random.Generator], Any]:
    """Draws an array."""
    return lambda rng: scale * rng.normal(size=shape)


def uniform(low: float, high: float, *shape: int) -> Callable[[np.random.Generator], Any]:
    """Draws an array."""
    return lambda rng: rng.uniform(low, high, shape)


def of(*arguments: Any) -> Callable[[np.random.Generator], tuple[Any, ...]]:
    """Draws those that are drawn."""
    return lambda rng: tuple(a(rng) if callable(a) else a for a in arguments)


def lower_triangle(rng: np.random.Generator) -> np.ndarray:
    """Of a well-conditioned matrix of 400 rows."""
    return np.tril(0.05 * rng.normal(size=(400, 400))) + np.eye(400)


def positive_definite(rng: np.random.Generator) -> np.ndarray:
    """A matrix of 64 rows."""
    b = rng.normal(size=(64, 64))
    return b @ b.T + 64 * np.eye(64)


def mixture_of(d: int, n_components: int, n: int) -> Callable[[np.random.Generator], tuple[Any, ...]]:
    """Logits, means, factors of precisions; and points."""
    return of(
        normal(n_components), normal(n_components, d), normal(n_components, d * (d + 1) // 2, scale=0.1), normal(n, d)
    )


def photographs(rng: np.random.Generator) -> tuple[Any, ...]:
    """31,843 observations of 7,776 points by 49 cameras, a block each; and where the points were seen."""
    n = 31_843
    cameras = np.hstack([0.1 * rng.normal(size=(49, 6)), np.tile([500.0, 0.5, 0.5, 0.01, 0.001], (49, 1))])
    points = rng.normal(size=(7776, 3)) + np.array([0.0, 0.0, 8.0])
    seen_by, seen = rng.integers(0, 49, n), rng.integers(0, 7776, n)
    return np.hstack([cameras[seen_by], points[seen], rng.uniform(0.5, 1.0, (n, 1))]), rng.normal(size=(n, 2))


def hand(rng: np.random.Generator, on_triangles: bool) -> tuple[Any, ...]:
    """Angles; the bones, of which the middle finger's base turns them all, and the skin; what was seen of it."""
    n_bones, n, n_seen = 21, 544, 100
    base = np.zeros((n_bones, 3, 4))
    for bone in range(n_bones):
        base[bone, :, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        base[bone, :, 3] = 0.3 * rng.normal(size=3)
    inverse = np.concatenate([base[:, :, :3].transpose(0, 2, 1), 0.3 * rng.normal(size=(n_bones, 3, 1))], 2)
    weights = rng.uniform(0.0, 1.0, (n_bones, n))
    theta, rest, seen = 0.3 * rng.normal(size=28), rng.normal(size=(n, 3)), rng.normal(size=(n_seen, 3))
    model = base, inverse, weights / weights.sum(0), rest
    if on_triangles:
        return theta, *model, rng.integers(0, n, (n_seen, 3)), rng.uniform(0.0, 0.5, (n_seen, 2)), seen
    return theta[:26], *model, rng.integers(0, n, n_seen), seen


def text(n_layers: int, n: int) -> Callable[[np.random.Generator], tuple[Any, ...]]:
    """Weights of a recurrent net, and letters of 14 numbers."""
    return of(normal(8 * n_layers + 3, 14), uniform(0.0, 1.0, n, 14), n_layers)


# --- the works --------------------------------------------------------------------------------------------------------

MARKET = np.array([100.0, 0.04, 1.5, 0.04, 0.3, -0.7, 0.02])
PREY = np.array([1.5, 1.0, 3.0, 1.0, 10.0, 5.0])
PENDULUM = np.array([9.81, 1e-3, 0.5, 0.0])
ONE_BY_ONE = "not sensible: element by element"
MINUTES = "not run: minutes"

# What array expressions should take: 4 times the function's own time, and half of JAX's.
ON_ARRAYS = {"function": 4.0, "jax": 0.5}

WORKS = {
    "sum of 1,000, from jitted code": Work(
        "scalars.total", of(normal(1000)), {"function": 1.5}, way="calls", is_telling=True
    ),
    "sum of 1,000 sines, from jitted code": Work(
        "scalars.total_of_sines", of(normal(1000)), {"function": 2}, way="calls"
    ),
    "logistic map, 1,000 steps, from jitted code": Work(
        "scalars.logistic_map", of(np.array([3.4, 0.4]), 1000), {"function": 3}, way="calls", is_telling=True
    ),
    "Rosenbrock, n = 3, from Python": Work(
        "scalars.rosenbrock", of(normal(3)), {"seconds": 1.5e-6}, is_telling=True
    ),
    "Rosenbrock, n = 1,000": Work("scalars.rosenbrock", of(normal(1000)), {"function": 3}),
    "Newton, 10,000": Work(
        "scalars.newton", of(np.linspace(0.1, 3.0, 10_000), 1e-12), {"function": 6}, is_telling=True,
        without={"jax": "not possible: `while_loop` has no reverse mode"},
    ),
    "jacobi_1d, 4,000 x 50": Work("expressions.jacobi_1d", of(normal(4000), 50), ON_ARRAYS),
    "jacobi_2d, 150 x 150 x 50": Work(
        "expressions.jacobi_2d", of(normal(150, 150), 50), ON_ARRAYS | {"bytes": 375e6 / 4}, is_telling=True
    ),
    "heat_3d, 25 x 25 x 25 x 50": Work("expressions.heat_3d", of(normal(25, 25, 25), 50), ON_ARRAYS),
    "fdtd_2d, 120 x 150 x 50": Work("expressions.fdtd_2d", of(normal(120, 150), 50), ON_ARRAYS),
    "adi, 100 x 100 x 20": Work("expressions.alternating_directions", of(normal(100, 100), 20), ON_ARRAYS),
    "cavity flow, 61 x 61 x 20": Work(
        "expressions.cavity", of(normal(61, 61, scale=0.1), normal(61, 61, scale=0.1), 20), ON_ARRAYS, by=(0, 1)
    ),
    "hdiff, 260 x 260": Work(
        "expressions.horizontal_diffusion", of(normal(260, 260), 0.025), ON_ARRAYS, is_telling=True
    ),
    "channel flow, 61 x 61 x 500": Work(
        "expressions.channel_flow", of(normal(61, 61, scale=0.1), normal(61, 61, scale=0.1), 500),
        ON_ARRAYS | {"bytes": 6.6e9 / 4}, by=(0, 1),
    ),
    "seidel_2d, 100 x 100 x 20": Work(
        "products.seidel_2d", of(normal(100, 100), 20), {"function": 4}, is_telling=True,
        without={"torch": ONE_BY_ONE},
    ),
    "ode, n = 1,000, 100 steps": Work("dynamics.ode", of(uniform(0, 1, 1000), 100), {"function": 4}),
    "ode, n = 10,000, 100 steps": Work("dynamics.ode", of(uniform(0, 1, 10_000), 100), {"function": 4}),
    "GMM d10 K25 1k, in loops": Work(
        "points.mixture", mixture_of(10, 25, 1000), {"function": 3, "torch": 1}, by=(0, 1, 2), is_telling=True
    ),
    "GMM d20 K50 1k, in loops": Work(
        "points.mixture", mixture_of(20, 50, 1000), {"function": 3, "torch": 1}, by=(0, 1, 2)
    ),
    "GMM d10 K25 10k, in loops": Work(
        "points.mixture", mixture_of(10, 25, 10_000), {"function": 3, "torch": 1, "bytes": 761e6 / 4}, by=(0, 1, 2)
    ),
    "GMM d10 K25 1k, in array style": Work(
        "points.mixture_of_arrays", mixture_of(10, 25, 1000), {"torch": 1}, by=(0, 1, 2)
    ),
    "GMM d20 K50 1k, in array style": Work(
        "points.mixture_of_arrays", mixture_of(20, 50, 1000), {"torch": 1}, by=(0, 1, 2)
    ),
    "kmeans, 10 centres, 2,000 points": Work("points.k_means", of(normal(10, 4), normal(2000, 4)), {"function": 3}),
    "N-body, 25 bodies, 100 steps": Work(
        "dynamics.gravitation", of(normal(25, 3), normal(25, 3, scale=0.1), uniform(0.1, 0.3, 25), 100, 0.01),
        {"function": 4},
    ),
    "N-body, 200, energy": Work("points.n_body", of(normal(200, 3), np.ones(200)), {"function": 4}, is_telling=True),
    "floyd_warshall, 120": Work("products.floyd_warshall", of(uniform(1, 10, 120, 120)), {"function": 5}),
    "trisolv, 400": Work("products.triangular_solution", of(lower_triangle, normal(400)), {"function": 4}),
    "syr2k, 100 x 80": Work(
        "products.syr2k", of(normal(100, 80), normal(100, 80), normal(100, 100)), {"function": 4}
    ),
    "durbin, 400": Work("products.durbin", of(uniform(0, 0.01, 400)), {"function": 4}),
    "matrix product, 80, in loops": Work("products.gemm", of(normal(80, 80), normal(80, 80)), {"function": 4}),
    "Cholesky 64, in loops": Work("products.log_determinant", of(positive_definite), {"function": 5}, is_telling=True),
    "bundle adjustment, Jacobian of 31,843 blocks": Work(
        "models.reprojections", photographs, {"function": 5}, way="blocks", is_telling=True
    ),
    "hand tracking, simple, Jacobian": Work(
        "models.hand", lambda rng: hand(rng, False), {"function": 8}, way="jacobian", is_telling=True
    ),
    "hand tracking, complicated, Jacobian": Work(
        "models.hand_on_triangles", lambda rng: hand(rng, True), {"function": 8}, way="jacobian"
    ),
    "LSTM 2 x 1,024": Work("models.lstm", text(2, 1024), {"function": 1.3}, is_telling=True),
    "LSTM 4 x 4,096": Work("models.lstm", text(4, 4096), {"function": 1.3}, without={"torch": MINUTES}),
    "Heston, 2,000 paths x 50": Work(
        "dynamics.heston", of(MARKET, normal(2000, 50, 2), 100.0, 1.0), {"function": 2}, is_telling=True
    ),
    "Lotka-Volterra, 10,000 steps": Work(
        "dynamics.runge_kutta", of(PREY, 10_000, 1e-3), {"function": 3}, is_telling=True
    ),
    "pendulum, 10^6 steps": Work(
        "dynamics.pendulum", of(PENDULUM, 10**6, 1e-5), {"function": 2}, without={"torch": MINUTES}
    ),
    "pendulum, 10^6 steps, checkpointed": Work(
        "dynamics.checkpointed_pendulum", of(PENDULUM, 10**6, 1e-5), {"function": 2}, without={"torch": MINUTES}
    ),
    "pendulum, 10^7 steps": Work(
        "dynamics.pendulum", of(PENDULUM, 10**7, 1e-6), {"function": 2.5}, without={"torch": MINUTES}
    ),
    "pendulum, 10^7 steps, checkpointed": Work(
        "dynamics.checkpointed_pendulum", of(PENDULUM, 10**7, 1e-6), {"function": 2.5}, without={"torch": MINUTES}
    ),
}  # fmt: skip
