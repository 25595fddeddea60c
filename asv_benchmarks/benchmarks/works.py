"""The works that are measured, here and beside other libraries: a loss each, and the arrays it is given.

`m` is the module that computes, with PyTorch's names: tapegrad, PyTorch, or NumPy as other libraries wrap it
(`libraries.py`). So each runs the same text.

A `Work` has its leaves made once, and its gradients are left as tensors: that is the core. A `Written` one is what
users write: a NumPy vector comes in, parameters are slices of it, and the value and the gradient go out as a number and
an array; or parameters are trained in place.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
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


@dataclass(frozen=True)
class Written:
    """`loss(m, theta, *constants)`, differentiated by one vector or array that is new in each call.

    With `rate`, `loss(m, *parameters, *constants)`, the parameters those of `theta`, each a scalar of its own that is
    updated in place: a step of training. What is `compiled` is recorded once, and replayed; what is `mapped`, a
    function of numbers, is done for each column of `theta`; with `paths`, of numbers and a path, for each of these and
    each row of the constant, and means are taken over the rows. What is `jitted` is called so many times by compiled
    code, without Python, or as a library has it that comes nearest. `goal` is in seconds; for `needs` and `without` see
    `Work`.
    """

    loss: Callable[..., Any]
    theta: Draw
    constants: list[Draw] = field(default_factory=list)
    goal: float = 0.0
    rate: float = 0.0
    compiled: bool = False
    mapped: bool = False
    paths: bool = False
    jitted: int = 0
    needs: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    per: int = 1

    def arrays(self) -> tuple[np.ndarray, list[np.ndarray]]:
        """The vector and the constants, the same in every process."""
        rng = np.random.default_rng(0)
        return self.theta(rng), [draw(rng) for draw in self.constants]

    is_possible_with = Work.is_possible_with


def training_step(m: Any, work: Written) -> Callable[[], list[Any]]:
    """A function that takes a step of training, with tapegrad or with PyTorch."""
    start, constants = work.arrays()
    parameters = [m.tensor(value, requires_grad=True) for value in start.tolist()]
    fixed = [m.tensor(array) for array in constants]

    def compute() -> list[Any]:
        work.loss(m, *parameters, *fixed).backward()
        with m.no_grad():
            for p in parameters:
                p -= work.rate * p.grad
                p.grad = None
        return parameters

    return m.compile(compute) if work.compiled else compute


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


def long_program(m, *x):
    """A thousand operations on numbers, each on others at random."""
    known, rng = list(x), np.random.default_rng(1)
    del m
    for what, p, q in rng.integers(0, 1 << 30, (500, 3)).tolist():
        a, b = known[-1 - p % min(len(known), 40)], known[-1 - q % min(len(known), 40)]
        steps = (
            lambda a, b: (a + b) * 0.5,
            lambda a, b: (a - b) * 0.5,
            lambda a, b: a * b * 0.9,
            lambda a, _: (a + 0.3) * 0.7,
            lambda a, _: 0.5 - a * 0.5,
        )
        known.append(steps[what % 5](a, b))
    return sum(known[-20:])


def black_scholes(m, price, strike, time, rate, volatility):
    """The price of a call."""
    spread = volatility * m.sqrt(time)
    d = (m.log(price / strike) + (rate + volatility * volatility * 0.5) * time) / spread

    def normal_cdf(x):
        return 0.5 * m.erfc(x * -(0.5**0.5))

    return price * normal_cdf(d) - strike * m.exp(-rate * time) * normal_cdf(d - spread)


def options(rng):
    """So many of each of its arguments."""
    low, high = np.array([[80.0, 80.0, 0.1, 0.0, 0.1], [120.0, 120.0, 2.0, 0.05, 0.5]])[:, :, None]
    return rng.uniform(low, high, (5, 1_000_000))


def asian_option(m, spot, strike, rate, volatility, path):
    """What an option on the mean price at 252 times within a year pays on a path of normally distributed numbers."""
    price, total = spot, 0.0
    drift, spread = (rate - 0.5 * volatility**2) / 252, volatility / 252**0.5
    for k in range(252):
        price = price * m.exp(drift + spread * path[k])
        total = total + price
    return m.exp(-rate) * m.relu(total / 252 - strike)


def trades(rng):
    """So many of each of its arguments but the last."""
    low, high = np.array([[90.0, 90.0, 0.0, 0.1], [110.0, 110.0, 0.05, 0.5]])[:, :, None]
    return rng.uniform(low, high, (4, 100))


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


# --- losses of one vector ---------------------------------------------------------------------------------------------


def elementwise_of_rows(m, theta):
    """`elementwise` of three rows."""
    return elementwise(m, theta[0], theta[1], theta[2])


def mlp_of_vector(m, theta, images, targets):
    """`mlp`, its layers 784-256-10 in one vector."""
    w1, b1 = theta[:200_704].reshape(784, 256), theta[200_704:200_960]
    w2, b2 = theta[200_960:203_520].reshape(256, 10), theta[203_520:]
    return mlp(m, w1, b1, w2, b2, images, targets)


def gaussian_process_of_vector(m, theta, points, y, identity):
    """A Gaussian process's negative log likelihood by three scales, its amplitude and its noise."""
    scaled = points * m.exp(theta[:3])
    squares = m.sum((scaled[:, None, :] - scaled[None, :, :]) ** 2, -1)
    covariance = m.exp(theta[3]) * m.exp(-0.5 * squares) + m.exp(theta[4]) * identity
    factor = m.linalg.cholesky(covariance)
    a = m.linalg.solve_triangular(factor, y[:, None], upper=False)
    return 0.5 * m.sum(a * a) + m.sum(m.log(m.diagonal(factor)))


def polynomial(m, a, b, c, d, x, y):
    """The mean square error of a polynomial of degree three."""
    return m.mean((a + b * x + c * x**2 + d * x**3 - y) ** 2)


def long_program_of_vector(m, x):
    """`long_program` of ten numbers in a vector."""
    return long_program(m, *(x[i] for i in range(10)))


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

WRITTEN = {
    "100 ops on 3 numbers": Written(small_chain, normal(3), goal=40e-6),
    "Rosenbrock, n = 2": Written(rosenbrock, normal(2), goal=25e-6),
    "Rosenbrock, n = 100": Written(rosenbrock, normal(100), goal=25e-6),
    "sum(exp(-x0^2) tanh(x1 x0 + x2)), x of 3 x 10^4": Written(elementwise_of_rows, normal(3, 10_000), goal=70e-6),
    "sum(exp(-x0^2) tanh(x1 x0 + x2)), x of 3 x 10^6": Written(elementwise_of_rows, normal(3, 1_000_000), goal=5e-3),
    "MLP 784-256-10 from one vector, batch of 128": Written(
        mlp_of_vector, normal(203_530, scale=0.05), [normal(128, 784), one_hot(128, 10)], goal=1.5e-3
    ),
    "Gaussian process, 200 points, 5 parameters": Written(
        gaussian_process_of_vector,
        always([0.1, -0.2, 0.3, 0.0, -2.0]),
        [normal(200, 3), normal(200), always(np.eye(200))],
        needs=("linalg.cholesky", "linalg.solve_triangular", "diagonal"),
        goal=1.5e-3,
    ),
    "a step of a polynomial on 2,000 points, 4 scalars": Written(
        polynomial,
        always([0.1, 0.2, -0.1, 0.05]),
        [always(np.linspace(-2.0, 2.0, 2000)), always(np.sin(np.linspace(-2.0, 2.0, 2000)))],
        rate=1e-3,
        without=("jax", "autograd"),
        goal=30e-6,
    ),
}
# A function of numbers, for each of many, with all gradients.
WRITTEN |= {
    f"{title}, mapped": Written(loss, theta, goal=goal, mapped=True, without=("torch", "autograd"))
    for title, loss, theta, goal in (
        ("1,000 ops on 10 numbers, 10^5 times", long_program, normal(10, 100_000, scale=0.3), 60e-3),
        ("Black-Scholes and five Greeks, 10^6 options", black_scholes, options, 0.1),
    )
}
WRITTEN["Asian option and four Greeks, 100 trades x 1,000 paths x 252 steps"] = Written(
    asian_option, trades, [normal(1000, 252)], goal=0.5, paths=True, without=("autograd",)
)
# What records once runs these; the others have no part in it.
WRITTEN |= {
    f"{title}, compiled": replace(WRITTEN[title], goal=goal, compiled=True, without=("torch", "autograd", *without))
    for title, goal, without in (
        ("100 ops on 3 numbers", 1.5e-6, ()),
        ("Rosenbrock, n = 2", 0.6e-6, ()),
        ("Rosenbrock, n = 100", 1e-6, ()),
        ("sum(exp(-x0^2) tanh(x1 x0 + x2)), x of 3 x 10^4", 45e-6, ()),
        ("a step of a polynomial on 2,000 points, 4 scalars", 20e-6, ("jax",)),
    )
}
WRITTEN["1,000 ops on 10 numbers, compiled"] = Written(
    long_program_of_vector, normal(10, scale=0.3), goal=1.5e-6, compiled=True, without=("torch", "autograd")
)
WRITTEN |= {
    f"{title}, called from jitted code": replace(
        WRITTEN[title], goal=goal, jitted=1000, per=1000, without=("torch", "jax", "autograd")
    )
    for title, goal in (("Rosenbrock, n = 2", 0.2e-6), ("Rosenbrock, n = 100", 0.7e-6))
}
