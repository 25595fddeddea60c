"""Larger problems, where arithmetic and memory count: a loss and its gradient."""

import tapegrad as tg

from .works import LARGE, gradient


class Models:
    """Elementwise expressions, a network, a regression."""

    params = tuple(LARGE)
    param_names = ("work",)

    def setup(self, work):
        self.compute = gradient(tg, LARGE[work])
        self.compute()

    def time_gradient(self, _work):
        self.compute()

    def peakmem_gradient(self, _work):
        self.compute()
