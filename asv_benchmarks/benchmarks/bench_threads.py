"""How a large gradient's time falls with the number of threads."""

import tapegrad as tg

from .works import LARGE, gradient


class Threads:
    """A million elements, each on its own."""

    params = (1, 2)
    param_names = ("threads",)

    def setup(self, n_threads):
        tg.set_num_threads(n_threads)
        self.compute = gradient(tg, LARGE["sum(exp(-x^2) tanh(wx + b)), n = 10^6"])
        self.compute()

    def time_gradient(self, _threads):
        self.compute()
