"""Graphs of one-element rows: they are swept row by row, and give what the same rows give in regions, bit for bit."""

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings

import tapegrad as tg
from tapegrad import tape
from tapegrad.core import schedule
from tapegrad.tape import H

UNARY: list[Callable[[Any], Any]] = [
    lambda x: x.exp(), lambda x: x.tanh(), lambda x: -x, lambda x: x.sin(), lambda x: x.relu(), lambda x: x.sigmoid(),
    lambda x: x * 0.75, lambda x: 2 - x, lambda x: x**2, lambda x: x + 1, lambda x: 0.5 / (x * x + 1), lambda x: x + x,
    lambda x: x.float(), lambda x: x.double(), lambda x: x.abs(), lambda x: x.clamp(-0.5, 0.5),
]  # fmt: skip
BINARY: list[Callable[[Any, Any], Any]] = [
    lambda x, y: x + y, lambda x, y: x - y, lambda x, y: x * y, lambda x, y: x / (y * y + 1),
    lambda x, y: tg.where(x > y, x * y, y), lambda x, y: tg.maximum(x, y), lambda x, y: x * (y > 0),
    lambda x, y: y + x * (y > 0), lambda x, y: tg.where(y > 0, x, 0.5) - y,
]  # fmt: skip
step = st.tuples(st.integers(0, len(UNARY) + len(BINARY) - 1), st.integers(0, 99), st.integers(0, 99))


def grown(values: list[Any], steps: list[tuple[int, int, int]]) -> list[Any]:
    """The values and what a program makes of them, each step of one or two of the last six."""
    for op, i, j in steps:
        x, y = (values[-1 - k % min(len(values), 6)] for k in (i, j))
        values = [*values, UNARY[op](x) if op < len(UNARY) else BINARY[op - len(UNARY)](x, y)]
    return values


def regions_planned() -> int:
    return tape.current_tape().h[H.n_regions]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(step, min_size=1, max_size=25), st.integers(0, 3), st.booleans(), st.data())
def test_a_program_of_scalars_is_the_program_of_pairs(
    steps: list[tuple[int, int, int]], shape: int, single: bool, data: st.DataObject
):
    rng = np.random.default_rng(len(steps))
    dtype = tg.float32 if single else tg.float64
    given_values = [*rng.uniform(-2, 2, 3), -0.0]
    looked_at = data.draw(st.integers(0, len(steps) - 1))
    only = data.draw(st.sampled_from([[0], [1, 2], [0, 1, 2]]))
    in_memory = data.draw(st.one_of(st.just(range(len(steps))), st.sets(st.integers(0, len(steps) - 1), max_size=3)))

    def swept(form: tuple[int, ...]) -> list[Any]:
        leaves = [tg.full(form, v, dtype=dtype, requires_grad=i < 3) for i, v in enumerate(given_values)]
        values = grown(leaves, steps)
        y, middle = values[-1], values[len(leaves) + looked_at]
        for k in in_memory:
            values[len(leaves) + k].tolist()
        if not y.requires_grad:
            return [y]
        found = [*tg.autograd.grad(y, [leaves[i] for i in only], tg.ones_like(y), True, materialize_grads=True)]
        how = regions_planned()
        if middle.requires_grad and not middle.is_leaf:
            middle.retain_grad()
        seen = middle.detach()
        y.backward(tg.full_like(y, 0.5), retain_graph=True)
        y.backward(tg.full_like(y, 0.25))
        assert form == (2,) or how in (schedule.NO_REGIONS, 1)  # 1: the inputs are not behind it
        return [y.detach(), seen, *found, *(x.grad for x in leaves), middle.grad]

    for one, pair in zip(swept((1,) * shape), swept((2,)), strict=True):
        assert (one is None) == (pair is None)
        if one is not None:
            assert one.dtype == pair.dtype
            assert one.numpy().tobytes() == pair[:1].numpy().tobytes()


@pytest.mark.nojit
def test_a_value_in_memory_that_is_met_for_its_value_first_still_passes_its_adjoint_on():
    x, t = (tg.tensor(v, requires_grad=True) for v in (0.3, 0.5))
    a = x * 2
    assert a.item() == 0.6
    y = a.exp() + t * (a > 0)  # the rule by t reads a before the adjoint of exp reaches it
    of_x, of_t = tg.autograd.grad(y, [x, t])
    assert (of_x.item(), of_t.item()) == (pytest.approx(2 * np.exp(0.6), rel=1e-15), 1.0)


@pytest.mark.nojit
def test_an_iteration_has_the_derivative_that_mathematics_gives_it():
    """Newton's square root of a, 1 / (2 sqrt(a)), through 60 rows; and its second derivative."""
    a = tg.tensor(2.0, dtype=tg.float64, requires_grad=True)
    x = a
    for _ in range(20):
        x = 0.5 * (x + a / x)
    (first,) = tg.autograd.grad(x, a, create_graph=True)
    (second,) = tg.autograd.grad(first, a)
    with mpmath.workdps(30):
        assert first.item() == pytest.approx(float(1 / (2 * mpmath.sqrt(2))), rel=1e-15)
        assert second.item() == pytest.approx(float(-1 / (4 * mpmath.mpf(2) ** 1.5)), rel=1e-13)


@pytest.mark.roomy
def test_values_that_nobody_looks_at_are_not_kept():
    x = tg.tensor(0.5, requires_grad=True)
    y = x
    for _ in range(1000):
        y = (y * 0.99).sin()
    y.backward(retain_graph=True)
    flags = tape.current_tape().slots["flags"]
    rows = tape.current_tape().row_array()[-2000:]
    assert (flags[rows["out"]] & tape.STORED != 0).sum() == 1  # the last, which has a handle
    value = x.grad.item()
    y.backward()
    assert x.grad.item() == 2 * value


@pytest.mark.nojit
def test_a_seed_may_be_the_leaf_itself_and_come_twice():
    x = tg.tensor(3.0, requires_grad=True)
    y = x * x
    tg.autograd.backward([x, y, y], [tg.tensor(1.0), tg.tensor(10.0), tg.tensor(100.0)])
    assert x.grad.item() == 1 + 110 * 6


def test_a_graph_let_go_is_refused_and_nothing_changes():
    x = tg.tensor(3.0, requires_grad=True)
    y = (x * x).exp()
    y.backward()
    before = x.grad.item()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        (y * 2).backward()
    assert x.grad.item() == before
