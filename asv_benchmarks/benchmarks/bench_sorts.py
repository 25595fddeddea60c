"""Sorts, searches and scans of 10^6 elements: of one long axis, of many rows, of many columns."""

from collections.abc import Callable
from typing import Any

import numpy as np

import tapegrad as tg

from .common import DTYPES

N = 1_000_000
WORKS: dict[str, Callable[[Any], Any]] = {
    "sort": lambda x: x.sort(0).values,
    "argsort": lambda x: x.argsort(0),
    "topk": lambda x: x.topk(10, 0).values,
    "median": lambda x: x.median(0).values,
    "quantile": lambda x: x.quantile(0.3, 0),
    "searchsorted": lambda x: tg.searchsorted(tg.linspace(-3, 3, 1000, dtype=x.dtype), x),
    "cumsum": lambda x: x.cumsum(0),
    "cumprod": lambda x: x.cumprod(0),
    "cummax": lambda x: x.cummax(0).values,
    "logcumsumexp": lambda x: x.logcumsumexp(0),
    "flip": lambda x: x.flip(0),
    "roll": lambda x: x.roll(1, 0),
    "diff": lambda x: x.diff(dim=0),
}
FORMS = {"one axis": (N,), "rows": (1000, 1000), "columns": (1000, 1000)}


class Forward:
    """The values."""

    params = (tuple(WORKS), tuple(FORMS), DTYPES)
    param_names = ("work", "form", "dtype")

    def setup(self, work, form, dtype):
        x = tg.tensor(np.random.default_rng(0).normal(size=FORMS[form]), dtype=dtype)
        self.x = x.T if form == "rows" else x  # what is worked along is a run of memory
        self.time_forward(work, form, dtype)

    def time_forward(self, work, _form, _dtype):
        WORKS[work](self.x).numpy()


class Reverse:
    """The values, and the gradient of their sum of squares."""

    params = (("sort", "cumsum", "cumprod", "cummax", "logcumsumexp"), tuple(FORMS))
    param_names = ("work", "form")

    def setup(self, work, form):
        x = tg.tensor(np.random.default_rng(0).normal(size=FORMS[form]) * 0.01 + 1.0)
        self.x = (x.T if form == "rows" else x).detach().requires_grad_()
        self.time_reverse(work, form)

    def time_reverse(self, work, _form):
        (WORKS[work](self.x) ** 2).sum().backward()
        self.x.grad = None
