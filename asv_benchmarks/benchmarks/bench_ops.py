"""Operations of the op table on some 100,000 elements: those that are declared with points or examples to draw."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import tapegrad as tg
from tapegrad.dtypes import BOOL, FLOAT64
from tapegrad.ops.declare import OPS, Array, Elementwise, Op, OverDimensions

from .common import QUICK

N = 100_000


def drawn(op: Elementwise) -> list[np.ndarray]:
    """Operands of the dtypes that the operation takes where the result is float64."""
    rng = np.random.default_rng(0)
    points = (domain.draw(N, rng) for domain in op.domain)
    return [p > 0 if code == BOOL.code else p for p, code in zip(points, op.signature(FLOAT64.code), strict=False)]


def called(op: Op) -> tuple[Callable[..., Any], list[np.ndarray]] | None:
    """A function of tensors, and its operands as arrays; None for operations that users don't call as they are."""
    if not op.is_public:
        return None
    if isinstance(op, Elementwise):
        return (op, drawn(op)) if op.domain else None
    if isinstance(op, OverDimensions) and op.form is not None:
        function = getattr(tg, op.name)
        return lambda x: function(x, -1), [np.random.default_rng(0).uniform(0.5, 1.5, (N // 100, 100))]
    if isinstance(op, Array) and op.examples:
        function, (arguments, *shapes) = getattr(tg, op.name), op.examples[0]
        sizes = [
            tuple(length * round((N / math.prod(shape)) ** (1 / len(shape))) for length in shape) for shape in shapes
        ]
        return lambda *x: function(*x, *arguments), [np.random.default_rng(0).uniform(0.5, 1.5, size) for size in sizes]
    return None


CALLED = {op.name: op for op in OPS if called(op) is not None}
DIFFERENTIABLE = {name: op for name, op in CALLED.items() if any(op.partials)}


EVERY = "every operation"


def names(table: dict[str, Op]) -> tuple[str, ...]:
    """What is measured by itself; in short, all as one, since each takes a process."""
    return (EVERY,) if QUICK else tuple(table)


def named(table: dict[str, Op], name: str) -> list[tuple[Callable[..., Any], list[np.ndarray]]]:
    """What is called, and with which arrays."""
    works = (called(op) for op in (table.values() if name == EVERY else [table[name]]))
    return [work for work in works if work is not None]


class Forward:
    """The values."""

    params = names(CALLED)
    param_names = ("op",)

    def setup(self, name):
        self.works = [(function, list(map(tg.tensor, arrays))) for function, arrays in named(CALLED, name)]
        self.time_forward(name)

    def time_forward(self, _name):
        for function, operands in self.works:
            function(*operands).numpy()


class Reverse:
    """The sum of the values, and its gradient."""

    params = names(DIFFERENTIABLE)
    param_names = ("op",)

    def setup(self, name):
        self.works = []
        for function, arrays in named(DIFFERENTIABLE, name):
            operands = [tg.tensor(array, requires_grad=array.dtype != bool) for array in arrays]
            self.works.append((function, operands, [t for t in operands if t.requires_grad]))
        self.time_gradient(name)

    def time_gradient(self, _name):
        for function, operands, inputs in self.works:
            tg.autograd.grad(function(*operands).sum(), inputs, allow_unused=True)
