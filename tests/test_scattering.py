"""Scatter and its kin against NumPy's `ufunc.at`, and their derivatives: duplicates, ties, zeros, runs, both dtypes."""

import math
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import tapegrad as tg

drawn = settings(max_examples=60, deadline=None, derandomize=True, database=None)
AT: dict[str, Any] = {"sum": np.add, "prod": np.multiply, "amax": np.maximum, "amin": np.minimum}
NEUTRAL = {"sum": 0.0, "prod": 1.0, "amax": -math.inf, "amin": math.inf, "mean": 0.0}


@st.composite
def scatters(draw: Any) -> tuple[np.ndarray, int, np.ndarray, np.ndarray]:
    """An operand, a dimension, an index, and values; the index may be shorter than both."""
    ndim = draw(st.integers(1, 3))
    shape = draw(st.lists(st.integers(1, 4), min_size=ndim, max_size=ndim))
    dim = draw(st.integers(0, ndim - 1))
    own = [draw(st.integers(1, 6)) if d == dim else draw(st.integers(1, n)) for d, n in enumerate(shape)]
    of_src = [n + draw(st.integers(0, 1)) for n in own]
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    values = rng.integers(-2, 3, of_src) / 2.0  # ties and zeros
    return rng.normal(size=shape), dim, rng.integers(0, shape[dim], own), values


def places(dim: int, index: np.ndarray) -> tuple[np.ndarray, ...]:
    grid = list(np.indices(index.shape))
    grid[dim] = index
    return tuple(grid)


def np_reduced(base: np.ndarray, at: Any, values: np.ndarray, reduce: str, include: bool) -> np.ndarray:
    y = base.copy()
    if not include:
        y[at] = NEUTRAL[reduce]
    AT["sum" if reduce == "mean" else reduce].at(y, at, values)
    if reduce == "mean":
        n = np.full(base.shape, float(include))
        np.add.at(n, at, 1.0)
        y /= np.maximum(n, 1)
    return y


@drawn
@given(scatters(), st.sampled_from(["sum", "prod", "mean", "amax", "amin"]), st.booleans())
def test_scatter_reduce(case: Any, reduce: str, include: bool):
    base, dim, index, src = case
    values = src[tuple(map(slice, index.shape))]
    for dtype, tolerance in ((tg.float64, 1e-13), (tg.float32, 1e-5)):
        x, v = (tg.tensor(a, dtype=dtype, requires_grad=True) for a in (base, src))
        y = tg.scatter_reduce(x, dim, tg.tensor(index), v, reduce, include_self=include)
        expected = np_reduced(base, places(dim, index), values, reduce, include)
        assert y.dtype is dtype
        np.testing.assert_allclose(y.detach().numpy(), expected, rtol=tolerance, atol=tolerance)
        plain = tg.scatter_reduce(x.detach(), dim, tg.tensor(index), v.detach(), reduce, include_self=include)
        np.testing.assert_array_equal(plain.numpy(), y.detach().numpy())


@drawn
@given(scatters(), st.sampled_from(["sum", "prod", "mean"]), st.booleans())
def test_gradients_of_scatter_reduce_are_complex_steps(case: Any, reduce: str, include: bool):
    """Where it is smooth; products with zeros among their factors too."""
    base, dim, index, src = case
    at, rng, h = places(dim, index), np.random.default_rng(0), 1e-30
    window = tuple(map(slice, index.shape))
    x, v = tg.tensor(base, requires_grad=True), tg.tensor(src, requires_grad=True)
    weights, u, w = rng.normal(size=base.shape), rng.normal(size=base.shape), rng.normal(size=src.shape)
    y = tg.scatter_reduce(x, dim, tg.tensor(index), v, reduce, include_self=include)
    recorded = tg.autograd.grad((y * tg.tensor(weights)).sum(), (x, v), create_graph=True, materialize_grads=True)
    (y * tg.tensor(weights)).sum().backward()
    moved = np_reduced(base + 1j * h * u, at, (src + 1j * h * w)[window], reduce, include)
    slope = (weights * moved.imag).sum() / h
    for a, b in ((g.detach().numpy() for g in recorded), (x.grad.numpy(), v.grad.numpy())):
        np.testing.assert_allclose((a * u).sum() + (b * w).sum(), slope, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("reduce", ["amax", "amin"])
@pytest.mark.parametrize("include", [True, False])
def test_ties_share_the_gradient(reduce: str, include: bool):
    x = tg.tensor([3.0, 1.0, 7.0], requires_grad=True)
    v = tg.tensor([3.0, 3.0, 1.0, 2.0], requires_grad=True)
    index = tg.tensor([0, 0, 1, 1])
    y = tg.scatter_reduce(x, 0, index, v, reduce, include_self=include)
    y.sum().backward()
    three = 1 / 3 if include else 0.5
    best = {"amax": ([0.0, 1.0], [0.0]), "amin": ([1.0, 0.0], [0.5])}[reduce]
    if include and reduce == "amin":
        best = ([0.5, 0.0], [0.5])
    np.testing.assert_allclose(v.grad.tolist(), [three, three, *best[0]])
    np.testing.assert_allclose(x.grad.tolist(), [three if include else 0.0, best[1][0] if include else 0.0, 1.0])


def test_the_largest_hands_nan_and_infinities_on():
    x, v = tg.tensor([1.0, 2.0, -math.inf], requires_grad=True), tg.tensor([math.nan, 3.0, -math.inf])
    y = tg.scatter_reduce(x, 0, tg.tensor([0, 1, 2]), v, "amax")
    np.testing.assert_array_equal(y.tolist(), [math.nan, 3.0, -math.inf])
    y[2].backward()
    np.testing.assert_array_equal(x.grad.tolist(), [0.0, 0.0, 0.5])


def test_products_are_differentiated_twice_where_factors_are_zero():
    def f(x: Any, v: Any) -> Any:
        return tg.scatter_reduce(x, 0, tg.tensor([0, 0, 0, 1]), v, "prod")[0]

    x, v = tg.tensor([2.0, 1.0], requires_grad=True), tg.tensor([0.0, 3.0, 0.0, 5.0], requires_grad=True)
    (g,) = tg.autograd.grad(f(x, v), v, create_graph=True)
    assert g.tolist() == [0.0, 0.0, 0.0, 0.0]
    (h,) = tg.autograd.grad(g[0], v)  # d²(x a b c) / da dc = x b
    assert h.tolist() == [0.0, 0.0, 6.0, 0.0]


def test_products_that_underflow_or_overflow_have_their_derivatives():
    """Which are products of the others, and not quotients."""
    x, v = tg.tensor([1e-200, 1e200, 3.0], requires_grad=True), tg.tensor([1e-200, 1e200, 1e-200], requires_grad=True)
    y = tg.scatter_reduce(x, 0, tg.tensor([0, 1, 0]), v, "prod")
    assert y.tolist() == [0.0, math.inf, 3.0]
    for create_graph in (False, True):
        gx, gv = tg.autograd.grad(y.sum(), (x, v), retain_graph=True, create_graph=create_graph)
        np.testing.assert_allclose(gx.tolist(), [0.0, 1e200, 1.0])
        np.testing.assert_allclose(gv.tolist(), [0.0, 1e200, 0.0])
    y = tg.scatter_reduce(x, 0, tg.tensor([0]), v, "prod")
    np.testing.assert_allclose(tg.autograd.grad(y[0], v)[0].tolist(), [1e-200, 0.0, 0.0])


@drawn
@given(scatters())
def test_of_several_the_last_has_the_place_and_the_gradient(case: Any):
    base, dim, index, src = case
    values = src[tuple(map(slice, index.shape))]
    expected, winner = base.copy(), np.full(base.shape, -1)
    order = np.arange(index.size).reshape(index.shape)
    for k in range(index.size):  # in order, one by one
        at = tuple(p.flat[k] for p in places(dim, index))
        expected[at], winner[at] = values.flat[k], order.flat[k]
    x, v = tg.tensor(base, requires_grad=True), tg.tensor(src, requires_grad=True)
    for y in (x.scatter(dim, tg.tensor(index), v), (x * 1).scatter_(dim, tg.tensor(index, dtype=tg.int32), v)):
        x.grad = v.grad = None
        np.testing.assert_array_equal(y.detach().numpy(), expected)
        weights = np.arange(1.0, base.size + 1).reshape(base.shape)
        y.backward(tg.tensor(weights))
        np.testing.assert_array_equal(x.grad.numpy(), np.where(winner < 0, weights, 0))
        of_values = np.zeros(index.size)
        of_values[winner[winner >= 0]] = weights[winner >= 0]
        np.testing.assert_array_equal(v.grad.numpy()[tuple(map(slice, index.shape))].ravel(), of_values)


NP: dict[str, Callable[..., Any]] = {
    "index_add": lambda y, at, v: np.add.at(y, at, v),
    "index_copy": lambda y, at, v: y.__setitem__(at, v),
}


@pytest.mark.parametrize("name", NP)
@pytest.mark.parametrize("dim", [0, 1, 2, -1])
def test_slices_are_runs_or_elements(name: str, dim: int):
    rng = np.random.default_rng(3)
    for dtype in (tg.float64, tg.float32):
        base = rng.normal(size=(3, 4, 2)).astype(dtype.numpy)
        index = rng.integers(0, base.shape[dim], 5)
        source = rng.normal(size=np.moveaxis(np.empty((5, *np.delete(base.shape, dim))), 0, dim).shape).astype(
            dtype.numpy
        )
        at = (slice(None),) * (dim % 3) + (index,)
        expected = base.copy()
        NP[name](expected, at, source)
        x, v = tg.tensor(base, requires_grad=True), tg.tensor(source, requires_grad=True)
        y = getattr(tg, name)(x, dim, tg.tensor(index), v)
        np.testing.assert_allclose(y.detach().numpy(), expected, rtol=1e-6)
        weights = rng.normal(size=base.shape).astype(dtype.numpy)
        y.backward(tg.tensor(weights))
        if name == "index_add":
            np.testing.assert_array_equal(x.grad.numpy(), weights)
            np.testing.assert_array_equal(v.grad.numpy(), weights[at])
        else:
            last = {int(i): k for k, i in enumerate(index)}
            cleared = weights.copy()
            cleared[at] = 0
            np.testing.assert_array_equal(x.grad.numpy(), cleared)
            kept = np.isin(np.arange(5), list(last.values())).reshape((1,) * (dim % 3) + (-1,) + (1,) * (2 - dim % 3))
            np.testing.assert_array_equal(v.grad.numpy(), np.where(kept, weights[at], 0))


@pytest.mark.parametrize("dtype", [tg.float64, tg.float32], ids=repr)
def test_rows_are_taken_and_their_gradients_added(dtype: Any):
    rng = np.random.default_rng(4)
    table, index = rng.normal(size=(5, 3, 2)).astype(dtype.numpy), rng.integers(-5, 5, (4, 2))
    x = tg.tensor(table, requires_grad=True)
    y = x[tg.tensor(index)]
    np.testing.assert_array_equal(y.detach().numpy(), table[index])
    weights = rng.normal(size=y.shape).astype(dtype.numpy)
    y.backward(tg.tensor(weights))
    expected = np.zeros(table.shape)
    np.add.at(expected, index, weights)
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-6, atol=1e-6)
    z = x[np.zeros((0, 2), int)]
    assert tuple(z.shape) == (0, 2, 3, 2)
    rows = tg.tensor(table)
    rows[tg.tensor([1, 1, 3])] = tg.tensor(np.arange(18.0).reshape(3, 3, 2), dtype=dtype)
    expected = table.copy()
    expected[[1, 1, 3]] = np.arange(18.0).reshape(3, 3, 2)
    np.testing.assert_array_equal(rows.numpy(), expected)


@pytest.mark.parametrize(("shape", "dim"), [((3, 4), 1), ((2, 3, 700), 1), ((2, 1500, 3), 1), ((2, 2500), 1)])
@pytest.mark.parametrize("dtype", [tg.float64, tg.float32])
def test_reading_and_adding_along_a_dimension(shape: Any, dim: int, dtype: Any):
    """Each is the adjoint of the other, of one sample and of several, and sums of float32 are float64."""
    rng, rtol = np.random.default_rng(3), 1e-12 if dtype is tg.float64 else 2e-6
    own = (*shape[:dim], 9, *shape[dim + 1 :])
    index, vector = rng.integers(0, shape[dim], own), rng.integers(0, shape[dim], 9)
    x, v = (tg.tensor(rng.normal(size=n), dtype=dtype) for n in (shape, own))
    wide = np.broadcast_to(vector.reshape(-1, *(1,) * (len(shape) - 1 - dim)), own)
    of_elements = lambda x: x.gather(dim, tg.tensor(index)), lambda x, v: x.scatter_add(dim, tg.tensor(index), v)
    of_slices = lambda x: x.index_select(dim, tg.tensor(vector)), lambda x, v: x.index_add(dim, tg.tensor(vector), v)
    for (take, add), at in ((of_elements, index), (of_slices, wide)):
        np.testing.assert_array_equal(take(x).numpy(), np.take_along_axis(x.numpy(), at, dim))
        expected = x.numpy().astype(np.float64)
        np.add.at(expected, places(dim, at), v.numpy().astype(np.float64))
        added = add(x, v)
        np.testing.assert_allclose(added.numpy(), expected, rtol=rtol, atol=rtol / 10)
        np.testing.assert_array_equal(tg.func.vmap(take)(tg.stack([x, 2 * x]))[1].numpy(), 2 * take(x).numpy())
        both = tg.func.vmap(add)(tg.stack([x, 2 * x]), tg.stack([v, 2 * v]))
        np.testing.assert_allclose(both[1].numpy(), 2 * added.numpy(), rtol=rtol)
        # <take' v, x> = <v, take x>, and of the sum of cubes the second derivative is that of its terms
        adjoint = tg.func.vjp(take, x)[1](v)[0]
        np.testing.assert_allclose(adjoint.numpy(), add(x * 0, v).numpy(), rtol=rtol, atol=rtol / 10)
        np.testing.assert_array_equal(tg.func.vjp(lambda v, add=add: add(x, v), v)[1](x)[0].numpy(), take(x).numpy())
        slope = tg.func.grad(lambda x, take=take: (take(x) ** 3).sum())
        second = tg.func.vjp(slope, x)[1](x)[0]
        np.testing.assert_allclose(second.numpy(), add(x * 0, 6 * take(x) ** 2).numpy(), rtol=rtol, atol=rtol)


@pytest.mark.parametrize("dtype", [np.int64, np.int32])
def test_an_index_that_numpy_writes_to_later_is_what_it_was(dtype: Any):
    index = np.array([0, 2], dtype)
    x = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = x.gather(0, tg.from_numpy(index)) + x.scatter_add(0, tg.from_numpy(index), tg.ones(2))[:2]
    index[:] = 1
    y.sum().backward()
    assert x.grad.tolist() == [2.0, 1.0, 1.0]


def test_sums_of_float32_are_float64_until_they_are_complete():
    n = 100_000
    v = tg.full((n,), 0.1, dtype=tg.float32)
    total = tg.scatter_add(tg.zeros(1, dtype=tg.float32), 0, tg.zeros(n, dtype=tg.int64), v)
    assert total.item() == np.float32(np.float32(0.1).astype(float) * n)


def test_integers():
    x, index, v = tg.tensor([5, -5, 7]), tg.tensor([0, 0, 1]), tg.tensor([4, -9, 2])
    for reduce, expected in {
        "sum": [0, -3, 7], "prod": [-180, -10, 7], "amax": [5, 2, 7], "amin": [-9, -5, 7], "mean": [0, -2, 7],
    }.items():  # fmt: skip
        assert tg.scatter_reduce(x, 0, index, v, reduce).tolist() == expected
    assert tg.scatter_reduce(x, 0, index, v, "amax", include_self=False).tolist() == [4, 2, 7]


def test_masked_scatter_and_windows():
    x, v = tg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True), tg.tensor([7.0, 8.0, 9.0], requires_grad=True)
    y = x.masked_scatter(x > 1.5, v)
    assert y.tolist() == [[1.0, 7.0], [8.0, 9.0]]
    y.backward(tg.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert x.grad.tolist() == [[1.0, 0.0], [0.0, 0.0]]
    assert v.grad.tolist() == [2.0, 3.0, 4.0]
    x.grad = v.grad = None
    z = tg.as_strided_scatter(x, v, (3,), (1,), 1)
    assert z.tolist() == [[1.0, 7.0], [8.0, 9.0]]
    z.backward(tg.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert x.grad.tolist() == [[1.0, 0.0], [0.0, 0.0]]  # what was overwritten has none
    assert v.grad.tolist() == [2.0, 3.0, 4.0]


def test_bad_input_loses_nothing():
    x = tg.zeros(3)
    for wrong in (lambda: x.scatter_(0, tg.tensor([3]), 1.0), lambda: x.index_add_(0, tg.tensor([-1]), tg.ones(1))):
        with pytest.raises(RuntimeError, match="out of bounds"):
            wrong()
    assert x.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("n_positions", [3, 40])
def test_sums_of_few_and_of_many_positions_are_the_same(n_positions: int):
    """With few, only these are looked at; with many, all elements in order. What nothing is added to stays as it is."""
    rng = np.random.default_rng(4)
    at, values = rng.integers(0, 30, n_positions), rng.normal(size=n_positions).astype(np.float32)
    base = np.where(np.arange(64) % 2, np.float32(-0.0), np.float32(1.5))
    exact = base.astype(np.float64)
    np.add.at(exact, at, values.astype(np.float64))
    x, v = tg.tensor(base, requires_grad=True), tg.tensor(values, requires_grad=True)
    y = x.index_add(0, tg.tensor(at), v)
    np.testing.assert_allclose(y.detach().numpy(), exact, rtol=1e-6)
    untouched = np.setdiff1d(np.arange(64), at)
    assert (np.signbit(y.detach().numpy()[untouched]) == np.signbit(base[untouched])).all()
    y.backward(tg.arange(64.0, dtype=tg.float32))
    np.testing.assert_array_equal(v.grad.numpy(), at.astype(np.float32))
    z = x.detach().requires_grad_()
    (grad,) = tg.autograd.grad(z[tg.tensor(at)], z, v.detach())
    summed = np.zeros(64)
    np.add.at(summed, at, values.astype(np.float64))
    np.testing.assert_allclose(grad.numpy(), summed, rtol=1e-6, atol=1e-7)


def test_indices_and_classes_are_those_of_the_call():
    """What is given may be written to, or be gone, before the row is swept."""
    x, places = tg.tensor([[1.0, 2.0, 4.0], [3.0, 5.0, 0.0]], requires_grad=True), np.array([1, 1])
    weight, classes = tg.tensor([1.0, 2.0, 3.0]), tg.tensor([2, 0])
    y = x[places]
    loss = tg.nn.functional.cross_entropy(x, classes, weight)
    expected = tg.nn.functional.cross_entropy(x.detach(), tg.tensor([2, 0]), weight).item()
    places[:] = 0
    classes.fill_(1)
    del classes
    assert y.tolist() == [[3.0, 5.0, 0.0]] * 2
    assert loss.item() == pytest.approx(expected, rel=1e-15)
    assert tg.autograd.grad(y.sum(), x)[0].tolist() == [[0.0] * 3, [2.0] * 3]
