"""Replays of compiled functions: what a call costs from Python, and what a recording does."""

import numpy as np

import tapegrad as tg


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
