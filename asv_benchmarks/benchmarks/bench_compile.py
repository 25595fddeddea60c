"""Replays of compiled functions: what a call costs from Python, and what a recording does."""

import functools
import io

import numba
import numpy as np

import tapegrad as tg
from tapegrad.replay import machine

from .works import WRITTEN


def rosenbrock(x):
    """Rosenbrock's function of a vector."""
    return tg.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


class Replays:
    """Value and gradient of Rosenbrock's function, of a NumPy array."""

    params = (2, 100, 10_000)
    param_names = ("n",)

    def setup(self, n):
        self.compiled, self.x = tg.compile(tg.func.value_and_grad(rosenbrock)), np.linspace(0.0, 1.0, n)
        self.compiled(self.x)

    def time_replay(self, _n):
        self.compiled(self.x)

    def time_recording(self, _n):
        tg.compile(tg.func.value_and_grad(rosenbrock))(self.x)


class Machine:
    """A program of scalars, as machine code; and what that takes to make."""

    params = (100, 1000, 10_000)
    param_names = ("rows",)

    def setup(self, n):
        def rows(x):
            known = [x[i] for i in range(10)]
            for i in range(n // 2):
                a, b = known[-1 - i % 7], known[-1 - i % 5]
                known.append(a * b + 0.1 if i % 3 else (a - b) * 0.7)
            return sum(known[-20:])

        self.compiled, self.x = tg.compile(tg.func.value_and_grad(rows)), np.linspace(0.2, 0.9, 10)
        for _ in range(machine.HOT + 3):
            self.compiled(self.x)
        assert self.compiled.stats()["machine"]

    def time_replay(self, _n):
        self.compiled(self.x)

    def time_making_code(self, _n):
        machine.lower(self.compiled._programs[0][0])


class Elsewhere:
    """The same in jitted code, a thousand times; and from a file."""

    params = (2, 100)
    param_names = ("n",)

    def setup(self, n):
        self.compiled, self.x = tg.compile(tg.func.value_and_grad(rosenbrock)), np.linspace(0.0, 1.0, n)
        replayed, self.slope = self.compiled.jitted(self.x), np.empty(n)

        @numba.njit
        def repeated(x, slope):
            total = 0.0
            for _ in range(1000):
                total += replayed(x, slope)
            return total

        self.repeated = repeated
        self.repeated(self.x, self.slope)
        file = io.BytesIO()
        self.compiled.save(file)
        self.content = file.getvalue()

    def time_a_thousand_in_jitted_code(self, _n):
        self.repeated(self.x, self.slope)

    def time_save(self, _n):
        self.compiled.save(io.BytesIO())

    def time_load(self, _n):
        tg.load(io.BytesIO(self.content))


class Steps:
    """A step of gradient descent, with its update in place."""

    def setup(self):
        self.w, self.x = tg.ones(10, requires_grad=True), tg.ones(10)

        def step(w, x):
            ((w - x) ** 2).sum().backward()
            with tg.no_grad():
                w -= 0.1 * w.grad
            w.grad = None

        self.step = tg.compile(step)
        self.step(self.w, self.x)

    def time_replay(self):
        self.step(self.w, self.x)


class Optimisers:
    """A step of an optimiser for a small network."""

    params = ("SGD", "Adam")
    param_names = ("method",)

    def setup(self, method):
        tg.manual_seed(0)
        self.net = tg.nn.Sequential(tg.nn.Linear(8, 16), tg.nn.Tanh(), tg.nn.Linear(16, 1))
        self.optimiser = getattr(tg.optim, method)(self.net.parameters(), lr=0.01)
        self.x = tg.ones(32, 8)
        self.compiled = tg.compile(self.step)
        for _ in range(3):
            self.compiled(self.x)

    def step(self, x):
        self.optimiser.zero_grad()
        (self.net(x) ** 2).mean().backward()
        self.optimiser.step()

    def time_replay(self, _method):
        self.compiled(self.x)


class Branches:
    """A guard that misses at every other call, and is healed."""

    def setup(self):
        self.compiled = tg.compile(tg.func.value_and_grad(lambda x: (x**2).sum() if x[0] > 0 else x.exp().sum()))
        self.inputs = np.array([1.0, 2.0]), np.array([-1.0, 2.0])
        for _ in range(3):
            self.time_both()

    def time_both(self):
        for x in self.inputs:
            self.compiled(x)


class Maps:
    """A function of numbers for each of many, with all gradients."""

    params = tuple(title for title, work in WRITTEN.items() if work.mapped)
    param_names = ("work",)

    def setup(self, work):
        self.columns = WRITTEN[work].arrays()[0][:, :20_000]
        loss = functools.partial(WRITTEN[work].loss, tg)
        self.compiled = tg.compile(tg.func.value_and_grad(loss, tuple(range(len(self.columns)))))
        self.compiled.map(*self.columns)

    def time_map(self, _work):
        self.compiled.map(*self.columns)
