"""The works that are measured, here and beside other libraries: a loss each, and the arrays it is given.

`m` is the module that computes, with PyTorch's names: tapegrad, PyTorch, or NumPy as other libraries wrap it
(`libraries.py`). So each runs the same text.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import numpy as np

Draw = Callable[[np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Work:
    """`loss(m, *parameters, *constants)`, differentiated by the parameters, and how it is measured.

    per       divides a call's time
    needs     functions that a library may lack: then it is left out
    without   libraries that are left out anyway
    goals     the most that a gradient should take, as multiples of other libraries' times
    """

    loss: Callable[..., Any]
    parameters: list[Draw]
    constants: list[Draw] = field(default_factory=list)
    per: int = 1
    needs: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    goals: Mapping[str, float] = field(default_factory=dict)

    def arrays(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Parameters and constants, the same in every process."""
        rng = np.random.default_rng(0)
        return [draw(rng) for draw in self.parameters], [draw(rng) for draw in self.constants]

    def least_bytes(self) -> int:
        """The size of what any library must hold: all arrays and the gradients."""
        parameters, constants = self.arrays()
        return sum(2 * array.nbytes for array in parameters) + sum(array.nbytes for array in constants)

    def is_possible_with(self, m: Any) -> bool:
        """Whether a library has the functions that the work needs."""
        try:
            for name in self.needs:
                attrgetter(name)(m)
        except AttributeError:
            return False
        return True


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


def pairwise(m, x, b):
    """Every element of one vector with every element of another."""
    return m.sum(m.exp(-((x[:, None] - b) ** 2)))


def logistic_regression(m, w, b, points, signs):
    """The mean logistic loss."""
    return m.mean(m.log1p(m.exp(-signs * (points @ w + b))))


def cross_entropy(m, scores, targets):
    """Softmax cross entropy."""
    return -m.mean(m.sum(targets * m.log_softmax(scores, 1), 1))


def mlp(m, w1, b1, w2, b2, images, targets):
    """A hidden layer, and cross entropy."""
    hidden = m.relu(images @ w1 + b1)
    return cross_entropy(m, hidden @ w2 + b2, targets)


def gaussian_process(m, x, log_scale, log_noise, y, identity):
    """A Gaussian process's negative log likelihood, up to a constant; derived by its points and hyperparameters."""
    covariance = m.exp(-((x[:, None] - x) ** 2) * m.exp(log_scale)) + m.exp(log_noise) * identity
    factor = m.linalg.cholesky(covariance)
    a = m.linalg.solve_triangular(factor, y[:, None], upper=False)
    return 0.5 * m.sum(a * a) + m.sum(m.log(m.diagonal(factor)))


def long_chain(m, x):
    """Fifty elementwise operations, most of which a library keeps the operand or the result of."""
    for _ in range(10):
        x = m.tanh(m.exp(-(x * x)) + 0.1)
    return m.sum(x)


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


def always(value: Any) -> Draw:
    """The same each time."""
    return lambda _: np.array(value)


# --- the works --------------------------------------------------------------------------------------------------------

# JAX records once, when it compiles.
RECORDING = {"recording an op": Work(recording, [normal(3)], per=1000, without=("jax",))}
SMALL = {
    "100 ops on 3 numbers": Work(small_chain, [normal(3)], goals={"torch": 0.1}),
    "Rosenbrock, n = 2": Work(rosenbrock, [normal(2)]),
    "Rosenbrock, n = 100": Work(rosenbrock, [normal(100)]),
}
LARGE = {
    "sum(exp(-x^2) tanh(wx + b)), n = 10^4": Work(elementwise, [normal(10_000)] * 3, goals={"torch": 0.25, "jax": 0.6}),
    "sum(exp(-x^2) tanh(wx + b)), n = 10^6": Work(
        elementwise, [normal(1_000_000)] * 3, goals={"torch": 0.25, "jax": 0.6}
    ),
    "sum(exp(-(x_i - b_j)^2)), 1000 x 1000": Work(pairwise, [normal(1000)] * 2, goals={"torch": 0.25, "jax": 0.7}),
    "logistic regression, 100,000 x 50": Work(
        logistic_regression,
        [normal(50, scale=0.1), normal()],
        [normal(100_000, 50), signs(100_000)],
        goals={"torch": 0.5, "jax": 1.0},
    ),
    "MLP 784-256-10, batch of 128": Work(
        mlp,
        [normal(784, 256, scale=0.04), normal(256), normal(256, 10, scale=0.06), normal(10)],
        [normal(128, 784), one_hot(128, 10)],
        goals={"torch": 0.7, "jax": 1.1},
    ),
    "softmax cross entropy, 10,000 x 1,000": Work(
        cross_entropy, [normal(10_000, 1000)], [one_hot(10_000, 1000)], goals={"torch": 0.5, "jax": 1.0}
    ),
    "Gaussian process likelihood, 200 points": Work(
        gaussian_process,
        [normal(200), always(0.0), always(-2.0)],
        [normal(200), always(np.eye(200))],
        needs=("linalg.cholesky", "linalg.solve_triangular", "diagonal"),
        goals={"torch": 1.0},
    ),
}
# Of these the peak of memory is measured; the goal is no more than SPARE_BYTES above what any library must hold.
# HIPS autograd keeps every value, 4 GB, which not every machine has.
PEAKS = {
    "peak memory, 50 elementwise ops on 10^7 numbers": Work(long_chain, [normal(10_000_000)], without=("autograd",))
}
SPARE_BYTES = 64_000_000
WORKS = RECORDING | SMALL | LARGE | PEAKS
