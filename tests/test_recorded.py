"""Recorded gradients cost what lies between outputs and inputs, whatever was recorded before."""

import numpy as np
import pytest

import tapegrad as tg
from tapegrad.autograd import recorded, walk


@pytest.fixture
def visited(monkeypatch):
    """How many rows are gone through."""
    seen = []

    def counted(*args):
        for row in behind(*args):
            seen.append(row)
            yield row

    behind = walk.rows_behind
    monkeypatch.setattr(walk, "rows_behind", counted)
    monkeypatch.setattr(recorded, "rows_behind", counted)
    return seen


@pytest.mark.parametrize("dtype", [tg.float64, tg.float32])
def test_an_inner_gradient_of_an_unrolled_descent_goes_through_its_own_rows_only(visited, dtype):
    x, rate, counts = tg.ones(3, dtype=dtype, requires_grad=True) * 1.5, tg.tensor(0.1, dtype=dtype), []
    rate.requires_grad_()
    for _ in range(40):
        visited.clear()
        (g,) = tg.autograd.grad((x**4 / 4).sum(), x, create_graph=True)
        counts.append(len(visited))
        x = x - rate * g
    assert set(counts) == {counts[0]}
    x.sum().backward()
    # The same by hand: x' = x - r x^3, and its derivative by r.
    value, slope = np.full(3, 1.5), np.zeros(3)
    for _ in range(40):
        value, slope = value - 0.1 * value**3, slope - value**3 - 0.1 * 3 * value**2 * slope
    tolerance = 1e-12 if dtype is tg.float64 else 1e-5
    np.testing.assert_allclose(x.detach().numpy(), value, rtol=tolerance)
    np.testing.assert_allclose(rate.grad.item(), slope.sum(), rtol=tolerance)


def test_nested_transforms_go_through_their_own_rows_only(visited):
    counts = []

    def steps(x):
        for _ in range(10):
            visited.clear()
            x = x - 0.1 * tg.func.grad(lambda y: (y.sin() * y).sum())(x)
            counts.append(len(visited))
        return x.sum()

    gradient = tg.func.grad(steps)(tg.tensor([1.0, 0.5]))
    assert len(set(counts)) == 1
    value, slope = np.array([1.0, 0.5]), np.ones(2)
    for _ in range(10):
        slope *= 1 - 0.1 * (2 * np.cos(value) - value * np.sin(value))
        value = value - 0.1 * (np.sin(value) + value * np.cos(value))
    np.testing.assert_allclose(gradient.numpy(), slope, rtol=1e-13)


def test_pieces_and_rows_beside_the_graph():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    y = x * 2
    beside = [y * k for k in range(5)]
    z = tg.cat([y, y.exp(), y]).reshape(3, 2)[1:]
    between = walk.rows_between(tg.current_tape(), [z._slot], {y._slot})
    assert between[0][2] == z._slot
    assert not {t._slot for t in beside} & {row[2] for row in between}
    (g,) = tg.autograd.grad((z**2).sum(), y, create_graph=True)
    array = y.detach().numpy()
    np.testing.assert_allclose(g.detach().numpy(), 2 * np.exp(2 * array) + 2 * array, rtol=1e-14)
    (h,) = tg.autograd.grad(g.sum(), x)
    np.testing.assert_allclose(h.numpy(), 2 * (4 * np.exp(2 * array) + 2), rtol=1e-14)
    assert len(beside) == 5


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dim", [0, 1, (0, 2), None])
@pytest.mark.parametrize("name", ["sum", "logsumexp", "mean", "norm"])
def test_recorded_gradients_of_reductions_are_those_of_the_sweep(name, dim, keepdim):
    rng = np.random.default_rng(7)
    x = tg.tensor(rng.normal(size=(2, 3, 2)), requires_grad=True)
    dims = (0, 1, 2) if dim is None else dim
    y = x.norm(2, dims, keepdim) if name == "norm" else getattr(x, name)(dims, keepdim)
    seed = tg.tensor(rng.normal(size=y.shape))
    if y.ndim > 1:
        seed = seed.T.contiguous().T if y.ndim == 2 else seed.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    (swept,) = tg.autograd.grad(y, x, seed, retain_graph=True)
    (recorded_,) = tg.autograd.grad(y, x, seed, create_graph=True)
    np.testing.assert_array_equal(recorded_.detach().numpy(), swept.numpy())
