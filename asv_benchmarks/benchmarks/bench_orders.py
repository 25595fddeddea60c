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


def descended(function, x, bound=None):
    """Where the descent of Siskind and Pearlmutter's benchmarks ends: its steps grow, and shrink where it rises."""
    slope = grad(function)
    y, g, size, count = function(x), slope(x), 1e-5, 0
    steps = 0
    while (g * g).sum().item() > 1e-10 and steps != bound:
        steps += 1
        if count == 10:
            size, count = 2 * size, 0
            continue
        moved = x - size * g
        if ((moved - x) ** 2).sum().item() <= 1e-10:
            break
        lower = function(moved)
        if lower.item() < y.item():
            x, y, g, count = moved, lower, slope(moved), count + 1
        else:
            size, count = size / 2, 0
    return x


def saddle(start, bound=None):
    """Min over a, max over b, of |a|^2 - |b|^2: descent within a function that is differentiated."""

    def outer(a):
        b = descended(lambda b: (b * b).sum() - (a * a).sum(), start, bound)
        return (a * a).sum() - (b * b).sum()

    return descended(outer, start, bound)


def landing(w):
    """How far from 0 a particle lands that two charges repel, the first moved by w: a potential is differentiated."""
    first = tg.stack([tg.tensor(10.0), 10.0 - w[0]])
    charges = tg.stack([first, tg.tensor([10.0, 0.0])])

    def potential(x):
        return (1 / ((x - charges) ** 2).sum(1).sqrt()).sum()

    x, v, dt = tg.tensor([0.0, 8.0]), tg.tensor([0.75, 0.0]), 0.1
    while (x + dt * v)[1].item() > 0:
        x, v = x + dt * v, v - dt * grad(potential)(x)
    return (x - x[1] / v[1] * v)[0] ** 2


class Nested:
    """Gradients of functions that take gradients: some steps of gradbench's saddle and particle."""

    def time_saddle(self):
        saddle(tg.ones(2), 8)

    def time_particle(self):
        descended(landing, tg.zeros(1), 3)


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
