"""Larger problems, where arithmetic and memory count: a loss and its gradient."""

import tapegrad as tg

from .works import LARGE, PEAKS, gradient

MODELS = LARGE | PEAKS


class Models:
    """Elementwise expressions, regressions, a network, a Gaussian process."""

    params = tuple(MODELS)
    param_names = ("work",)

    def setup(self, work):
        if not MODELS[work].is_possible_with(tg):  # asv measures older commits too
            raise NotImplementedError
        self.compute = gradient(tg, MODELS[work])
        self.compute()

    def time_gradient(self, _work):
        self.compute()

    def peakmem_gradient(self, _work):
        self.compute()
