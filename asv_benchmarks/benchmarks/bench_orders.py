"""Derivatives as multiples of the function's own time, on an elementwise chain of a million; steps of optimisers."""

import time

import numpy as np

import tapegrad as tg
from tapegrad.func import grad, hvp, jvp

N = 1_000_000


def chain(x):
    """Ten rounds of sines and products."""
    for _ in range(10):
        x = x.sin() * 1.1 + 0.1 * x
    return x.sum()


def least(function, rounds=4):
    """The least processor time of several rounds."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


class Orders:
    """Goals: a gradient 4, a Hessian-vector product 8, a JVP 2.5 times the function."""

    def setup(self):
        rng = np.random.default_rng(0)
        self.x, self.v = tg.tensor(rng.standard_normal(N)), tg.tensor(rng.standard_normal(N))
        self.primal = least(lambda: chain(self.x).item())

    def track_gradient(self):
        return least(lambda: grad(chain)(self.x).sum().item()) / self.primal

    def track_jvp(self):
        def product():
            _, tangent = jvp(chain, (self.x,), (self.v,))
            return tangent.item()

        return least(product) / self.primal

    def track_hvp(self):
        return least(lambda: hvp(chain, (self.x,), (self.v,))[1].sum().item()) / self.primal


class Steps:
    """A step on 4 parameters."""

    params = ("SGD", "Adam")

    def setup(self, name):
        parameters = [tg.ones(3, requires_grad=True) for _ in range(4)]
        self.optimizer = getattr(tg.optim, name)(parameters, lr=0.01)
        for p in parameters:
            p.grad = tg.ones(3) * 0.1

    def time_step(self, name):  # noqa: ARG002
        self.optimizer.step()
