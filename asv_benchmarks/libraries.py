"""The libraries that are compared: how each is given a work, as its users would.

The text of a loss has PyTorch's names. JAX and HIPS autograd, which have NumPy's, are given a module with the few that
NumPy lacks, each in the library's own way. CasADi, whose functions are compiled before, is only beside what compiled
code calls: its buffered calls are of memory that is given once.
"""

import importlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
from benchmarks.works import Work, Written, asian_option, gradient, training_step

TENSORS_START = "import {} as tg; x = tg.ones(3, requires_grad=True); (x * x).sum().backward()"
FUNCTIONS_START = "from {} import grad, numpy as np; grad(lambda x: np.sum(x * x))(np.ones(3))"


@dataclass(frozen=True)
class Library:
    """Its name, a program from import to first gradient, the module for losses, and what computes gradients.

    `written` makes of the module and a loss of a vector a function of NumPy arrays that gives a number and an array.
    """

    title: str
    start: str
    module: Callable[[], Any]
    gradient: Callable[[Any, Work], Callable[[], list[Any]]]
    written: Callable[[Any, Callable[[Any], Any]], Callable[[np.ndarray], tuple[float, np.ndarray]]]
    constant: Callable[[Any, np.ndarray], Any]
    takes: Callable[[Work | Written], bool] = lambda _: True

    def compute(self, work: Work | Written) -> Callable[[], list[Any]]:
        """A function that computes the work's gradients once; of a written one, its value too."""
        m = self.module()
        if isinstance(work, Work):
            return self.gradient(m, work)
        if work.rate:
            return training_step(m, work)
        theta, constants = work.arrays()
        if work.mapped:
            return mapped(m, work, theta)
        if work.paths:
            return PRICED[m.__name__](m, work, theta, *constants)
        if work.jitted:
            return CALLED[m.__name__](m, work, theta)
        fixed = [self.constant(m, array) for array in constants]
        differentiated = self.written(m, lambda vector: work.loss(m, vector, *fixed))
        if work.compiled and hasattr(m, "compile"):  # JAX's is
            differentiated = m.compile(differentiated)
        vectors = itertools.cycle([theta, theta.copy()])
        return lambda: list(differentiated(next(vectors)))


def tensors(name: str) -> Any:
    """The module of tapegrad or of PyTorch, computing in float64."""
    module = importlib.import_module(name)
    module.set_default_dtype(module.float64)
    return module


def mapped(m: Any, work: Written, columns: np.ndarray) -> Callable[[], list[Any]]:
    """A function of numbers for each of many, with all gradients: tapegrad's `map`, JAX's `vmap`."""
    numbers = tuple(range(len(columns)))
    if hasattr(m, "compile"):
        compiled = m.compile(m.func.value_and_grad(partial(work.loss, m), numbers))
        return lambda: flat(compiled.map(*columns))
    import jax

    batched = jax.jit(jax.vmap(jax.value_and_grad(partial(work.loss, m), numbers)))
    return lambda: flat(jax.block_until_ready(batched(*columns)))


def tapegrad_priced(m: Any, work: Written, trades: np.ndarray, paths: np.ndarray) -> Callable[[], list[Any]]:
    """A function of a path and numbers, mapped over paths; trade by trade."""
    n = len(trades)
    compiled = m.compile(m.func.value_and_grad(partial(work.loss, m), tuple(range(n))))

    def compute() -> list[Any]:
        found = [compiled.map(*trade, paths, in_axes=(None,) * n + (0,)) for trade in trades.T.tolist()]
        return list(np.array([[column.mean() for column in flat(of)] for of in found]).T)

    return compute


def torch_priced(m: Any, work: Written, trades: np.ndarray, paths: np.ndarray) -> Callable[[], list[Any]]:
    """All trades and paths at once, as arrays."""
    steps = m.tensor(np.ascontiguousarray(paths.T))

    def compute() -> list[Any]:
        given = [m.tensor(column[:, None], requires_grad=True) for column in trades]
        values = work.loss(m, *given, steps).mean(1)
        values.sum().backward()
        return [values.detach(), *(x.grad[:, 0] for x in given)]

    return compute


def jax_priced(m: Any, work: Written, trades: np.ndarray, paths: np.ndarray) -> Callable[[], list[Any]]:
    """A function of a path and numbers, mapped over both; compiled at its first call.

    Its loop is a scan: written out, as the work has it, 252 steps take more than five minutes to compile.
    """
    import jax

    def loss(spot: Any, strike: Any, rate: Any, volatility: Any, path: Any) -> Any:
        drift, spread = (rate - 0.5 * volatility**2) / 252, volatility / 252**0.5

        def step(state: Any, z: Any) -> Any:
            price = state[0] * m.exp(drift + spread * z)
            return (price, state[1] + price), None

        (_, total), _ = jax.lax.scan(step, (spot, 0.0), path)
        return m.exp(-rate) * m.relu(total / 252 - strike)

    assert work.loss is asian_option
    n = len(trades)
    of_paths = jax.vmap(jax.value_and_grad(loss, tuple(range(n))), (None,) * n + (0,))
    of_trades = jax.vmap(lambda *given: [x.mean() for x in flat(of_paths(*given))], (0,) * n + (None,))
    compiled = jax.jit(of_trades)
    return lambda: list(jax.block_until_ready(compiled(*trades, paths)))


PRICED = {"tapegrad": tapegrad_priced, "torch": torch_priced, "jax.numpy": jax_priced}


def tapegrad_called(m: Any, work: Written, theta: np.ndarray) -> Callable[[], list[Any]]:
    """A loop of Numba's that calls a compiled function."""
    import numba

    jitted = m.compile(m.func.value_and_grad(partial(work.loss, m))).jitted(theta)
    gradient = np.zeros_like(theta)

    @numba.njit
    def loop(x: Any, gradient: Any, n: int) -> Any:
        value = 0.0
        for _ in range(n):
            value = jitted(x, gradient)
        return value

    return lambda: [loop(theta, gradient, work.jitted), gradient]


def casadi_called(m: Any, work: Written, theta: np.ndarray) -> Callable[[], list[Any]]:
    """Buffered calls, from Python: there are no others."""
    x = m.SX.sym("x", len(theta))
    loss = work.loss(m, x)
    function = m.Function("function", [x], [loss, m.densify(m.gradient(loss, x))])
    given, value, gradient = theta.copy(), np.zeros(1), np.zeros_like(theta)
    buffer, trigger = function.buffer()
    buffer.set_arg(0, memoryview(given))
    buffer.set_res(0, memoryview(value))
    buffer.set_res(1, memoryview(gradient))

    def compute() -> list[Any]:
        for _ in range(work.jitted):
            trigger()
        return [value[0], gradient]

    compute.keeps = function, buffer  # type: ignore[attr-defined]  # calls refer to their memory
    return compute


def casadi_module() -> Any:
    """CasADi, with the name that it lacks of PyTorch's."""
    module = importlib.import_module("casadi")
    module.sum = module.sum1  # type: ignore[attr-defined]
    return module


CALLED = {"tapegrad": tapegrad_called, "casadi": casadi_called}


def flat(found: tuple[Any, tuple[Any, ...]]) -> list[Any]:
    """The value, and the gradients."""
    return [found[0], *found[1]]


def tapegrad_written(m: Any, loss: Callable[[Any], Any]) -> Any:
    """As SciPy's solvers are given it."""
    return m.func.value_and_grad(loss)


def torch_written(m: Any, loss: Callable[[Any], Any]) -> Any:
    """A leaf of the vector, and what comes of it as a number and an array."""

    def differentiated(vector: np.ndarray) -> tuple[float, np.ndarray]:
        x = m.tensor(vector, requires_grad=True)
        value = loss(x)
        value.backward()
        return value.item(), x.grad.numpy()

    return differentiated


def as_tensor(m: Any, array: np.ndarray) -> Any:
    """A constant of tapegrad's or of PyTorch's."""
    return m.tensor(array)


# --- JAX --------------------------------------------------------------------------------------------------------------


def jax_module() -> Any:
    """jax.numpy in float64, and what it lacks of PyTorch's names."""
    import jax
    from jax import numpy
    from jax.scipy.linalg import solve_triangular

    jax.config.update("jax_enable_x64", True)
    return SimpleNamespace(
        **vars(numpy)
        | {
            "__name__": "jax.numpy",
            "relu": jax.nn.relu,
            "erfc": jax.scipy.special.erfc,
            "log_softmax": jax.nn.log_softmax,
            "linalg": SimpleNamespace(
                cholesky=numpy.linalg.cholesky,
                solve_triangular=lambda a, b, upper: solve_triangular(a, b, lower=not upper),
            ),
        }
    )


def jax_gradient(m: Any, work: Work) -> Callable[[], list[Any]]:
    """Loss and gradients in one function, compiled at its first call."""
    import jax

    parameters, constants = work.arrays()
    arrays = [m.asarray(array) for array in (*parameters, *constants)]
    argnums = tuple(range(len(parameters)))
    differentiated = jax.jit(jax.value_and_grad(lambda *arrays: work.loss(m, *arrays), argnums))
    return lambda: jax.block_until_ready(differentiated(*arrays))[1]


def jax_written(_m: Any, loss: Callable[[Any], Any]) -> Any:
    """Compiled at its first call; what comes of it as a number and an array."""
    import jax

    compiled = jax.jit(jax.value_and_grad(loss))

    def differentiated(vector: np.ndarray) -> tuple[float, np.ndarray]:
        value, found = compiled(vector)
        return float(value), np.asarray(found)

    return differentiated


# --- HIPS autograd ----------------------------------------------------------------------------------------------------


def autograd_module() -> Any:
    """autograd.numpy, and what it lacks of PyTorch's names."""
    from autograd import numpy
    from autograd.scipy.linalg import solve_triangular
    from autograd.scipy.special import logsumexp

    return SimpleNamespace(
        **vars(numpy)
        | {
            "relu": lambda x: numpy.maximum(x, 0.0),
            "log_softmax": lambda x, axis: x - logsumexp(x, axis=axis, keepdims=True),
            "diagonal": lambda x: numpy.diagonal(x, axis1=-1, axis2=-2),  # the only axes it differentiates
            "linalg": SimpleNamespace(
                cholesky=numpy.linalg.cholesky,
                solve_triangular=lambda a, b, upper: solve_triangular(a, b, lower=not upper),
            ),
        }
    )


def autograd_gradient(m: Any, work: Work) -> Callable[[], list[Any]]:
    """Of a function of all parameters."""
    from autograd import grad

    parameters, constants = work.arrays()
    differentiated = grad(lambda parameters: work.loss(m, *parameters, *constants))
    return lambda: differentiated(parameters)


def autograd_written(_m: Any, loss: Callable[[Any], Any]) -> Any:
    """Its own transform, which takes and gives arrays."""
    from autograd import value_and_grad

    return value_and_grad(loss)


def unsupported(*_: Any) -> Any:
    """What a library has no part in."""
    raise NotImplementedError


LIBRARIES = {
    "tapegrad": Library(
        "tapegrad", TENSORS_START.format("tapegrad"), partial(tensors, "tapegrad"), gradient, tapegrad_written,
        as_tensor,
    ),
    "torch": Library(
        "PyTorch", TENSORS_START.format("torch"), partial(tensors, "torch"), gradient, torch_written, as_tensor
    ),
    "jax": Library(
        "JAX", FUNCTIONS_START.format("jax") + ".block_until_ready()", jax_module, jax_gradient, jax_written,
        lambda m, array: m.asarray(array),
    ),
    "autograd": Library(
        "HIPS autograd", FUNCTIONS_START.format("autograd"), autograd_module, autograd_gradient, autograd_written,
        lambda _, array: array,
    ),
    "casadi": Library(
        "CasADi", "", casadi_module, unsupported, unsupported, unsupported,
        lambda work: isinstance(work, Written) and work.jitted > 0,
    ),
}  # fmt: skip
