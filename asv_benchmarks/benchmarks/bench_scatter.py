"""Reads and writes at positions: a million elements, or a thousand rows of a thousand."""

from collections.abc import Callable
from typing import Any

import numpy as np

import tapegrad as tg

N, ROWS = 1_000_000, 1000
WORKS: dict[str, Callable[..., Any]] = {
    "scatter": lambda w: w.x.scatter(0, w.at, w.v),
    "scatter_add": lambda w: w.x.scatter_add(0, w.at, w.v),
    "scatter_reduce-amax": lambda w: w.x.scatter_reduce(0, w.at, w.v, "amax"),
    "scatter_reduce-mean": lambda w: w.x.scatter_reduce(0, w.at, w.v, "mean"),
    "gather": lambda w: w.x.gather(0, w.at),
    "take": lambda w: w.x.take(w.at),
    "index_add-rows": lambda w: w.x.reshape(ROWS, -1).index_add(0, w.row, w.v.reshape(ROWS, -1)),
    "index_copy-rows": lambda w: w.x.reshape(ROWS, -1).index_copy(0, w.row, w.v.reshape(ROWS, -1)),
    "index_select-rows": lambda w: w.x.reshape(ROWS, -1).index_select(0, w.row),
    "index_select-columns": lambda w: w.x.reshape(ROWS, -1).index_select(1, w.row),
    "gather-rows": lambda w: w.x.reshape(ROWS, -1).gather(1, w.along),
    "scatter_add-rows": lambda w: w.x.reshape(ROWS, -1).scatter_add(1, w.along, w.v.reshape(ROWS, -1)),
    "index_add-columns": lambda w: w.x.reshape(ROWS, -1).index_add(1, w.row, w.v.reshape(ROWS, -1)),
    "masked_scatter": lambda w: w.x.masked_scatter(w.x.detach() > 0, w.v),
}


class Scatter:
    """Positions drawn at random, some of them several times."""

    params = tuple(WORKS)
    param_names = ("work",)

    def setup(self, work):
        rng = np.random.default_rng(0)
        self.x, self.v = (tg.tensor(rng.normal(size=N), requires_grad=True) for _ in range(2))
        self.at, self.row = tg.tensor(rng.integers(0, N, N)), tg.tensor(rng.integers(0, ROWS, ROWS))
        self.along = tg.tensor(rng.integers(0, N // ROWS, (ROWS, N // ROWS)))
        self.time_values(work)
        self.time_gradient(work)

    def _result(self, work):
        return WORKS[work](self)

    def time_values(self, work):
        with tg.no_grad():
            self._result(work).numpy()

    def time_gradient(self, work):
        tg.autograd.grad(self._result(work).sum(), (self.x, self.v), allow_unused=True)
