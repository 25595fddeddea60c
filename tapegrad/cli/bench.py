"""Measure gradients on this machine, small and large, beside the libraries that are installed."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

import tapegrad as tg

SECONDS = 0.5  # that a figure takes
AGREEMENT = 1e-9

Loss = Callable[..., Any]
Both = Callable[[np.ndarray], tuple[float, np.ndarray]]


# --- the works: losses of a vector, for a module with NumPy's names ---------------------------------------------------


def rosenbrock(m: Any, x: Any) -> Any:
    """A sum of neighbours' terms, by slices."""
    return m.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def chain(m: Any, x: Any) -> Any:
    """A hundred operations, one after the other."""
    y = x
    for _ in range(50):
        y = m.sin(y) + x
    return m.sum(y)


def elementwise(m: Any, x: Any) -> Any:
    """A handful of operations that fit in one region."""
    return m.sum(m.exp(-x * x) * m.tanh(0.5 * x + 0.1))


WORKS: dict[str, tuple[Loss, int]] = {
    "Rosenbrock, n = 2": (rosenbrock, 2),
    "Rosenbrock, n = 1,000": (rosenbrock, 1000),
    "100 operations on 3 numbers": (chain, 3),
    "sum(exp(-x^2) tanh(x/2 + 0.1)), n = 10^6": (elementwise, 1_000_000),
}


# --- the libraries: how each makes value and gradient, NumPy in and out -----------------------------------------------


def _tapegrad(loss: Loss) -> Both:
    made: Both = tg.func.value_and_grad(lambda x: loss(tg, x))
    return made


def _replayed(loss: Loss) -> Both:
    made: Both = tg.compile(tg.func.value_and_grad(lambda x: loss(tg, x)))
    return made


def _torch(loss: Loss) -> Both:
    torch: Any = __import__("torch")

    def both(x: np.ndarray) -> tuple[float, np.ndarray]:
        leaf = torch.from_numpy(x).requires_grad_()
        value = loss(torch, leaf)
        value.backward()
        return value.item(), leaf.grad.numpy()

    return both


def _jax(loss: Loss) -> Both:
    jax: Any = __import__("jax")
    jax.config.update("jax_enable_x64", True)
    made = jax.jit(jax.value_and_grad(lambda x: loss(jax.numpy, x)))

    def both(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = made(x)
        return float(value), np.asarray(gradient)

    return both


def _autograd(loss: Loss) -> Both:
    autograd: Any = __import__("autograd.numpy")
    made: Both = autograd.value_and_grad(lambda x: loss(autograd.numpy, x))
    return made


LIBRARIES: dict[str, tuple[str, Callable[[Loss], Both]]] = {  # title: the module that must be there, and how
    "tapegrad": ("tapegrad", _tapegrad),
    "tg.compile": ("tapegrad", _replayed),
    "PyTorch": ("torch", _torch),
    "jax.jit": ("jax", _jax),
    "autograd": ("autograd", _autograd),
}


# --- measuring --------------------------------------------------------------------------------------------------------


def main() -> int:
    """Print a table; the status is 1 where a library gives another gradient."""
    titles = [title for title, (module, _) in LIBRARIES.items() if find_spec(module)]
    found = {}
    for title in titles:  # a process each: libraries with threads disturb each other
        command = [sys.executable, "-c", f"from tapegrad.cli import bench; bench.report({title!r}, {SECONDS})"]
        child = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False)
        if child.returncode:
            print(f"{title}: {child.stderr.strip().splitlines()[-1]}")
            continue
        found[title] = json.loads(child.stdout.splitlines()[-1])
    print(f"Value and gradient, float64, NumPy in and out, {tg.get_num_threads()} threads; medians\n")
    print(" " * 42 + "".join(f"{title:>14}" for title in found))
    for work in WORKS:
        print(f"{work:<42}" + "".join(f"{_time(took[work]):>14}" for took in found.values()))
    return 0 if len(found) == len(titles) else 1


def report(title: str, seconds: float) -> None:
    """Print what a library takes for each work, in seconds, as JSON."""
    print(json.dumps({work: measured(title, work, seconds) for work in WORKS}))


def measured(title: str, work: str, seconds: float) -> float:
    """The median time of a call, once the gradient was found to be that of tapegrad."""
    loss, n = WORKS[work]
    x = np.random.default_rng(0).normal(size=n)
    run = LIBRARIES[title][1](loss)
    for _ in range(3):  # what is compiled is compiled now
        _, gradient = run(x)
    _, expected = _tapegrad(loss)(x)
    if not np.allclose(gradient, expected, rtol=AGREEMENT, atol=AGREEMENT * np.abs(expected).max()):
        raise ArithmeticError(f"{title} gives another gradient of {work}")
    times, end = list[float](), time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        run(x)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} us" if seconds < 1e-3 else f"{seconds * 1e3:.2f} ms"
