"""Recorded gradients cost what lies between outputs and inputs, whatever was recorded before."""

import numpy as np
import pytest

import tapegrad as tg
from tapegrad import engine
from tapegrad.autograd import walk


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


def program(x, w):
    y = tg.cat([x.exp(), w.T, (x * w.T)[1:]])
    z = (y @ w).logsumexp(0) + y.T.reshape(3, -1)[:, ::2].sum(1)
    return z.relu().norm() + z[0] * y.max() + x.var()


def test_a_sweep_that_hooks_watch_gives_what_the_compiled_one_gives():
    rng = np.random.default_rng(3)
    given = [tg.tensor(rng.normal(size=size), requires_grad=True) for size in ((3, 3), (3, 3))]
    expected = tg.autograd.grad(program(*given), given)
    x, w = given
    y = x * 1.0
    handle = y.register_hook(lambda g: None)
    total = program(y, w)
    got = tg.autograd.grad(total, given)
    for a, b in zip(expected, got, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-14)
    with pytest.raises(RuntimeError, match="a second time"):
        total.backward()
    handle.remove()
    program(x * 1.0, w).backward()
    np.testing.assert_allclose(x.grad.numpy(), expected[0].numpy(), rtol=1e-14)


def test_functions_that_are_gone_are_let_go_with_what_they_saved():
    class Sine(tg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.sin()

        @staticmethod
        def backward(ctx, y_bar):
            return y_bar * ctx.saved_tensors[0].cos()

    of = tg.current_tape()
    x = tg.tensor(0.5, requires_grad=True)
    y, value, slope = x, 0.5, 1.0
    for _ in range(300):
        y = Sine.apply(y)
        slope, value = slope * np.cos(value), np.sin(value)
    y.backward()
    np.testing.assert_allclose([y.item(), x.grad.item()], [value, slope], rtol=1e-12)
    del y
    engine.reclaim(of)
    assert not any(node.function is Sine for node in of.nodes.values())


def test_a_rule_by_its_jvp_alone_is_transposed():
    class Cube(tg.autograd.Function):
        @staticmethod
        def forward(ctx, x, k):
            ctx.save_for_forward(x)
            ctx.k = k
            return x**3 * k

        @staticmethod
        def jvp(ctx, x_dot, _):
            (x,) = ctx.saved_tensors
            return 3 * x**2 * ctx.k * x_dot

    x = tg.tensor([1.0, 2.0], requires_grad=True)
    (g,) = tg.autograd.grad(Cube.apply(x, 2.0).sum(), x, create_graph=True)
    (h,) = tg.autograd.grad(g.sum(), x)
    assert g.tolist() == [6.0, 24.0]
    assert h.tolist() == [12.0, 24.0]


def test_functions_among_transforms():
    class Cube(tg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, y_bar):
            return 3 * ctx.saved_tensors[0] ** 2 * y_bar

    x = np.array([1.0, 2.0])
    np.testing.assert_allclose(tg.func.grad(lambda x: Cube.apply(x).sum())(x), 3 * x**2)
    np.testing.assert_allclose(tg.func.hessian(lambda x: Cube.apply(x).sum())(x), np.diag(6 * x))
    np.testing.assert_allclose(tg.func.jvp(Cube.apply, (tg.tensor(x),), (tg.ones(2),))[1].numpy(), 3 * x**2)
    np.testing.assert_allclose(tg.func.jacrev(lambda x: Cube.apply(x * 2))(x), np.diag(24 * x**2))


def test_a_hook_that_raises_leaves_all_as_it_was():
    def refuse(gradient):
        raise ValueError("no")

    x = tg.tensor([1.0, 2.0], requires_grad=True)
    y = x * x
    handle = y.register_hook(refuse)
    with pytest.raises(ValueError, match="no"):
        y.sum().backward()
    assert x.grad is None
    handle.remove()
    y.sum().backward()
    assert x.grad.tolist() == [2.0, 4.0]
