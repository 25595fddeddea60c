"""What a gradient consists of, once recorded: the plan, the values, the adjoints. Compiled code for the most part.

A graph is swept once: values that have been computed are kept. So each sample is one run (`number`), and `setup`, which
comes before each, records anew.
"""

import functools

import tapegrad as tg
from tapegrad import engine
from tapegrad.tape import H, current_tape

from .works import LARGE

SCALARS = "10,000 rows of scalars"  # of these, 10 us are 1 ns a row
VECTORS = [title for title in LARGE if title.startswith("sum(exp(-x^2)")]
GRAPHS = (SCALARS, *VECTORS)


@functools.cache
def leaves(graph: str) -> list[tg.Tensor]:
    """What the graph begins with, the same for all samples."""
    arrays = [1.0] if graph == SCALARS else LARGE[graph].arrays()[0]
    return [tg.tensor(array, requires_grad=True) for array in arrays]


def chain(x: tg.Tensor, n_rows: int) -> tg.Tensor:
    """Half of the rows multiply, half add."""
    for _ in range(n_rows // 2):
        x = x * 0.999 + 0.001
    return x


def record(graph: str) -> tg.Tensor:
    """A loss that nobody has looked at yet."""
    return chain(*leaves(graph), 10_000) if graph == SCALARS else LARGE[graph].loss(tg, *leaves(graph))


class Scheduling:
    """The plan for a gradient, made and dropped."""

    params = (100, 10_000)
    param_names = ("rows",)

    def setup(self, n_rows):
        x = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
        chain(x, n_rows).sum().backward()  # compiles
        self.loss = chain(x, n_rows).sum()
        tape = current_tape()
        engine._prepare(tape)
        # One seed, 1, and no targets or inputs: what `loss.backward()` asks for.
        h, (tape.lists[0], tape.lists[1]) = tape.h, (self.loss._slot, -1)
        h[H.n_targets], h[H.n_seeds], h[H.n_inputs], h[H.prune], h[H.retain_graph] = 0, 1, 0, 0, 0
        self.header, self.schedule, self.finish = (
            tape.header_address,
            engine.compiled("schedule"),
            engine.compiled("finish"),
        )

    def time_schedule(self, _rows):
        self.schedule(self.header)
        self.finish(self.header, 0)


class _Sweep:
    """Either sweep or both; what kernels they need is compiled by then."""

    params = GRAPHS
    param_names = ("graph",)
    number = 1

    def setup(self, graph):
        tg.autograd.grad(record(graph), leaves(graph))
        self.loss = record(graph)


class Forward(_Sweep):
    """The loss alone."""

    def time_value(self, _graph):
        self.loss.item()


class Reverse(_Sweep):
    """The gradient of a loss that is known; values on the way to it are computed again, block by block."""

    def setup(self, graph):
        super().setup(graph)
        self.loss.item()

    def time_gradient(self, graph):
        tg.autograd.grad(self.loss, leaves(graph), retain_graph=True)


class Both(_Sweep):
    """The gradient of a loss that is not: one sweep serves both where the graph allows it."""

    def time_gradient(self, graph):
        tg.autograd.grad(self.loss, leaves(graph))
