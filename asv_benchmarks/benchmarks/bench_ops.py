"""Every elementwise operation of the op table, on 100,000 elements drawn from its domain."""

import numpy as np

import tapegrad as tg
from tapegrad.dtypes import BOOL, FLOAT64
from tapegrad.ops.declare import ELEMENTWISE, OPS, Op

N = 100_000
DRAWN = {op.name: op for op in OPS if op.family == ELEMENTWISE and op.domain is not None}
DIFFERENTIABLE = {name: op for name, op in DRAWN.items() if any(op.partials)}


def operands(op: Op, requires_grad: bool) -> list[tg.Tensor]:
    """Tensors of the dtypes that the operation takes where the result is float64."""
    rng = np.random.default_rng(0)
    drawn = [
        points > 0 if code == BOOL.code else points
        for points, code in zip((d.draw(N, rng) for d in op.domain), op.signature(FLOAT64.code), strict=False)
    ]
    return [tg.tensor(points, requires_grad=requires_grad and points.dtype != bool) for points in drawn]


class Forward:
    """The values."""

    params = tuple(DRAWN)
    param_names = ("op",)

    def setup(self, name):
        self.op = DRAWN[name]
        self.operands = operands(self.op, requires_grad=False)
        self.time_forward(name)

    def time_forward(self, _name):
        self.op(*self.operands).numpy()


class Reverse:
    """The sum of the values, and its gradient."""

    params = tuple(DIFFERENTIABLE)
    param_names = ("op",)

    def setup(self, name):
        self.op = DIFFERENTIABLE[name]
        self.operands = operands(self.op, requires_grad=True)
        self.inputs = [t for t in self.operands if t.requires_grad]
        self.time_gradient(name)

    def time_gradient(self, _name):
        tg.autograd.grad(self.op(*self.operands).sum(), self.inputs, allow_unused=True)
