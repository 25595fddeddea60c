"""The way in from NumPy and the way out, with few tensors alive and with many; and works as users write them.

A thousand a run, so milliseconds read as microseconds each.
"""

import numpy as np

import tapegrad as tg

from .works import WRITTEN, training_step

THOUSAND = range(1000)


class Boundary:
    """Three numbers each; nothing may take longer for the leaves that are alive beside them."""

    params = (1, 10_000)
    param_names = ("leaves",)

    def setup(self, n):
        self.leaves = [tg.ones(1, requires_grad=True) for _ in range(n)]
        self.array = np.array([1.0, 2.0, 3.0])
        self.x = tg.tensor(self.array, requires_grad=True)
        self.value, self.total = tg.tensor(self.array) * 2, (tg.tensor(self.array) * 2).sum()
        self.value.numpy()
        self.total.item()
        self.shared = tg.from_numpy(self.array)
        self.gradient = tg.func.value_and_grad(lambda x: (x * x).sum())
        self.time_1000_backward(n)
        self.time_1000_slices(n)
        self.time_1000_gradients_of_arrays(n)

    def time_1000_tensors(self, _):
        array = self.array
        for _ in THOUSAND:
            tg.tensor(array)

    def time_1000_items(self, _):
        total = self.total
        for _ in THOUSAND:
            total.item()

    def time_1000_arrays(self, _):
        value = self.value
        for _ in THOUSAND:
            value.numpy()

    def time_1000_first_arrays(self, _):
        array = self.array
        for _ in THOUSAND:
            tg.tensor(array).numpy()

    def time_1000_first_arrays_of_detached(self, _):
        array = self.array
        for _ in THOUSAND:
            tg.tensor(array, requires_grad=True).detach().numpy()

    def time_1000_elements(self, _):
        x = self.x
        for _ in THOUSAND:
            x[0]

    def time_1000_slices(self, _):
        x = self.x
        for _ in THOUSAND:
            x[1:]

    def time_1000_operations_on_shared_memory(self, _):
        shared = self.shared
        for _ in THOUSAND:
            shared * 2.0

    def time_1000_backward(self, _):
        x = self.x
        for _ in THOUSAND:
            x.grad = None
            (x * x).sum().backward()

    def time_1000_gradients_of_arrays(self, _):
        gradient, array = self.gradient, self.array
        for _ in THOUSAND:
            gradient(array)


class Written:
    """A value and a gradient, NumPy in and out; or a step of training."""

    params = tuple(  # of the others: bench_compile.py
        title for title, work in WRITTEN.items() if not (work.mapped or work.paths or work.compiled or work.jitted)
    )
    param_names = ("work",)

    def setup(self, title):
        work = WRITTEN[title]
        theta, constants = work.arrays()
        fixed = [tg.tensor(array) for array in constants]
        differentiated = tg.func.value_and_grad(lambda vector: work.loss(tg, vector, *fixed))
        self.compute = training_step(tg, work) if work.rate else lambda: differentiated(theta)
        self.compute()

    def time_value_and_gradient(self, _work):
        self.compute()
