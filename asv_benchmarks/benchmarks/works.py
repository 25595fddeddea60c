"""The works that are timed, here and beside other libraries: a loss each, and the arrays it is given.

`m` is the module that computes: tapegrad, PyTorch, or NumPy as HIPS autograd wraps it. So each runs the same text.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Draw = Callable[[np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Work:
    """`loss(m, *parameters, *constants)`, and what divides a call's time."""

    loss: Callable[..., Any]
    parameters: list[Draw]
    constants: list[Draw]
    per: int = 1

    def arrays(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Parameters and constants, the same in every process."""
        rng = np.random.default_rng(0)
        return [draw(rng) for draw in self.parameters], [draw(rng) for draw in self.constants]


def gradient(m: Any, work: Work) -> Callable[[], list[Any]]:
    """A function that computes the work's gradients once: with tapegrad or with PyTorch."""
    parameters, constants = work.arrays()
    leaves = [m.tensor(array, requires_grad=True) for array in parameters]
    fixed = [m.tensor(array) for array in constants]

    def compute() -> list[Any]:
        for leaf in leaves:
            leaf.grad = None
        work.loss(m, *leaves, *fixed).backward()
        return [leaf.grad for leaf in leaves]

    return compute


# --- losses -----------------------------------------------------------------------------------------------------------


def small_chain(m, x):
    """A hundred operations on few elements."""
    for _ in range(50):
        x = x * 1.01 + 0.1
    return m.sum(x)


def recording(m, x):
    """A thousand operations that are recorded, then dropped unseen."""
    for _ in range(1000):
        _ = x * x
    return m.sum(x)


def rosenbrock(m, x):
    """Rosenbrock's function: slices, and no more than n elements."""
    return m.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def elementwise(m, x, w, b):
    """Seven elementwise operations and a sum."""
    return m.sum(m.exp(-(x**2)) * m.tanh(w * x + b))


def mlp(m, w1, b1, w2, b2, images, targets):
    """A hidden layer, and cross entropy."""
    hidden = m.relu(images @ w1 + b1)
    return -m.mean(m.sum(targets * m.log_softmax(hidden @ w2 + b2, 1), 1))


def logistic_regression(m, w, b, points, signs):
    """The mean logistic loss."""
    return m.mean(m.log1p(m.exp(-signs * (points @ w + b))))


# --- what they are given ----------------------------------------------------------------------------------------------


def normal(*shape: int, scale: float = 1.0) -> Draw:
    """Normally distributed numbers."""
    return lambda rng: np.asarray(scale * rng.normal(size=shape))


def signs(n: int) -> Draw:
    """`n` times -1 or 1."""
    return lambda rng: rng.choice([-1.0, 1.0], n)


def one_hot(n: int, classes: int) -> Draw:
    """`n` rows with one 1 each."""
    return lambda rng: np.eye(classes)[rng.integers(classes, size=n)]


SMALL = {
    "100 ops on 3 numbers": Work(small_chain, [normal(3)], []),
    "Rosenbrock, n = 2": Work(rosenbrock, [normal(2)], []),
    "Rosenbrock, n = 100": Work(rosenbrock, [normal(100)], []),
}
LARGE = {
    "sum(exp(-x^2) tanh(wx + b)), n = 10^4": Work(elementwise, [normal(10_000)] * 3, []),
    "sum(exp(-x^2) tanh(wx + b)), n = 10^6": Work(elementwise, [normal(1_000_000)] * 3, []),
    "MLP 784-256-10, batch of 128": Work(
        mlp,
        [normal(784, 256, scale=0.04), normal(256), normal(256, 10, scale=0.06), normal(10)],
        [normal(128, 784), one_hot(128, 10)],
    ),
    "logistic regression, 100,000 x 50": Work(
        logistic_regression, [normal(50, scale=0.1), normal()], [normal(100_000, 50), signs(100_000)]
    ),
}
WORKS = {"recording an op": Work(recording, [normal(3)], [], per=1000)} | SMALL | LARGE
