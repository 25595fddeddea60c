"""Small problems, where the costs of Python and of dispatch are all there is: a loss and its gradient."""

import tapegrad as tg

from .works import SMALL, gradient


class Small:
    """50 times `x = x * 1.01 + 0.1` on three numbers, and its like."""

    params = tuple(SMALL)
    param_names = ("work",)

    def setup(self, work):
        self.compute = gradient(tg, SMALL[work])
        self.compute()

    def time_gradient(self, _work):
        self.compute()
