"""Reductions at their edges, and broadcasting and programs that are drawn: values and derivatives."""

import math
import operator
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from test_ops import INTEGERS, np_jvp, np_of, tg_leaves

import tapegrad as tg

# --- reductions at their edges ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("zeros", range(4))
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_the_gradient_of_a_product_with_zeros(zeros: int, axis: int | None):
    array = np.random.default_rng(zeros).uniform(0.5, 2.0, (3, 3))
    array.flat[[4, 1, 3][:zeros]] = 0.0
    facts = {} if axis is None else {"axis": axis}
    x = tg.tensor(array, requires_grad=True)
    (recorded,) = tg.autograd.grad(tg.prod(x, **facts).sum(), x, create_graph=True)
    tg.prod(x, **facts).sum().backward()
    expected, curvature = np.zeros((3, 3)), np.zeros((3, 3))
    for at in np.ndindex(3, 3):
        step = np.zeros((3, 3))
        step[at] = 1.0
        expected[at] = np_jvp(lambda a: np.prod(a, **facts).sum(), [array], [step])
        # A product is linear in each factor: this difference of its derivative is exact.
        curvature += step * 0
        for other in np.ndindex(3, 3):
            shift = np.zeros((3, 3))
            shift[other] = 1.0
            curvature[other] += np_jvp(lambda a: np.prod(a, **facts).sum(), [array + shift / 2], [step])
            curvature[other] -= np_jvp(lambda a: np.prod(a, **facts).sum(), [array - shift / 2], [step])
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-13)
    np.testing.assert_allclose(recorded.detach().numpy(), expected, rtol=1e-13)
    (second,) = tg.autograd.grad(recorded.sum(), x)
    np.testing.assert_allclose(second.numpy(), curvature, rtol=1e-12, atol=1e-12)


@pytest.mark.nojit
@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 3)])
def test_reductions_of_nothing(shape: tuple[int, ...]):
    x = tg.zeros(*shape, requires_grad=True)
    assert x.sum().item() == 0.0
    assert x.prod().item() == 1.0
    assert math.isnan(x.mean().item())
    assert x.norm().item() == 0.0
    assert x.logsumexp(tuple(range(len(shape)))).item() == -math.inf
    for axis in range(len(shape)):
        expected = np.zeros(shape).sum(axis)
        np.testing.assert_array_equal(x.sum(axis).detach().numpy(), expected)
        np.testing.assert_array_equal(x.prod(axis).detach().numpy(), np.zeros(shape).prod(axis))
    (x.sum() + x.prod() + x.norm() + x.mean() + x.softmax(0).sum()).backward()
    assert x.grad.shape == shape


@pytest.mark.parametrize("order", [1.0, 2.0, math.inf, "fro", "nuc", -1.0, -2.0, -math.inf])
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 3, 0)])
def test_norms_of_matrices_without_elements(shape: tuple[int, ...], order: float | str):
    x = tg.zeros(*shape, requires_grad=True)
    try:
        exact = np.linalg.norm(np.zeros(shape), order, axis=(-2, -1))
    except ValueError:  # of no values there is no smallest
        with pytest.raises(IndexError, match="Expected reduction dim"):
            tg.linalg.matrix_norm(x, order)
        return
    y = tg.linalg.matrix_norm(x, order)
    np.testing.assert_array_equal(y.detach().numpy(), exact)
    (slope,) = tg.autograd.grad(y.sum(), x)
    assert slope.shape == shape


def test_norms_of_vectors_without_elements():
    assert tg.linalg.vector_norm(tg.zeros(0, 3), 2.5, 0).tolist() == [0.0] * 3
    assert tg.linalg.vector_norm(tg.zeros(0, 3), -1, 1).tolist() == []
    for order in (-1, -2.5, math.inf, -math.inf):
        with pytest.raises(RuntimeError, match=rf"cannot compute the {order:g} norm on the dimension 0"):
            tg.linalg.vector_norm(tg.zeros(0, 3), order, 0)
        with pytest.raises(RuntimeError, match=rf"cannot compute the {order:g} norm on an empty tensor"):
            tg.norm(tg.zeros(0, 3), order)


def test_areas_under_small_integers_do_not_wrap():
    y = tg.tensor([1, 200, 255, 0], dtype=tg.uint8)
    assert tg.trapezoid(y).item() == 100.5 + 227.5 + 127.5
    assert tg.trapezoid(y, y).item() == 100.5 * 199 + 227.5 * 55 - 127.5 * 255
    assert tg.cumulative_trapezoid(y, dx=2).tolist() == [201.0, 656.0, 911.0]


# function of one operand, its second derivative
CURVED = {
    "asin": (tg.asin, lambda x: x / mpmath.sqrt(1 - x**2) ** 3),
    "acos": (tg.acos, lambda x: -x / mpmath.sqrt(1 - x**2) ** 3),
    "atanh": (tg.atanh, lambda x: 2 * x / (1 - x**2) ** 2),
    "logit": (tg.logit, lambda x: (2 * x - 1) / (x * (1 - x)) ** 2),
    "atan2": (lambda y: tg.atan2(y, 2.0 * y.detach()), lambda x: -4 / (25 * x**2)),
    "atan2-over": (lambda x: tg.atan2(2.0 * x.detach(), x), lambda x: 4 / (25 * x**2)),
}


@pytest.mark.parametrize("dtype", [tg.float64, tg.float32])
@pytest.mark.parametrize("name", CURVED)
def test_second_derivatives_near_zero_and_one(name: str, dtype: Any):
    f, exact = CURVED[name]
    x = tg.tensor([1e-8, 3e-5, 0.3, 1 - 1e-4, 1e-18, 1e-30], dtype=dtype, requires_grad=True)
    (slope,) = tg.autograd.grad(f(x).sum(), x, create_graph=True)
    (curvature,) = tg.autograd.grad(slope.sum(), x)
    with mpmath.workdps(60), np.errstate(over="ignore"):
        true = np.array([float(exact(mpmath.mpf(at))) for at in x.tolist()]).astype(dtype.numpy)
    np.testing.assert_allclose(curvature.numpy(), true, rtol=1e-15 * (20 if dtype is tg.float64 else 4e9))


def test_the_slope_of_an_angle_near_the_origin_and_far_away():
    for scale in (1e-300, 1e-160, 1e160, 1e300):
        y, x = tg.tensor(3 * scale, requires_grad=True), tg.tensor(4 * scale, requires_grad=True)
        by_y, by_x = tg.autograd.grad(tg.atan2(y, x), (y, x))
        assert [by_y.item(), by_x.item()] == pytest.approx([4 / 25 / scale, -3 / 25 / scale], rel=1e-15)


@pytest.mark.nojit
def test_reductions_of_a_number():
    x = tg.tensor(-3.0, requires_grad=True)
    for name in ("sum", "mean", "prod", "amax", "amin", "max", "min"):
        y = getattr(x, name)()
        assert y.item() == -3.0
        x.grad = None
        y.backward()
        assert x.grad.item() == 1.0, name
    assert x.softmax(0).item() == 1.0
    assert x.sum(0).item() == x.sum(-1).item() == -3.0


@pytest.mark.nojit
@pytest.mark.parametrize("name", ["amax", "amin", "max", "min"])
def test_ties_share_the_gradient(name: str):
    x = tg.tensor([2.0, 5.0, 5.0, 2.0], requires_grad=True)
    y = getattr(x, name)()
    (recorded,) = tg.autograd.grad(y, x, create_graph=True)
    y.backward()
    expected = [0.0, 0.5, 0.5, 0.0] if name.endswith("max") else [0.5, 0.0, 0.0, 0.5]
    assert x.grad.tolist() == recorded.tolist() == expected


def test_nan_and_infinities_in_reductions():
    nan, inf = math.nan, math.inf
    x = tg.tensor([[1.0, nan, 3.0], [inf, 2.0, -inf], [-inf, -inf, -inf]])
    for name in ("sum", "mean", "prod", "amax", "amin"):
        with np.errstate(invalid="ignore"):
            np.testing.assert_array_equal(getattr(x, name)(1).tolist(), getattr(np, name)(x.numpy(), 1))
    assert x.argmax(1).tolist() == [1, 0, 0]
    assert x.argmin(1).tolist() == [1, 2, 0]
    np.testing.assert_array_equal(x.logsumexp(1).tolist(), [nan, inf, -inf])
    np.testing.assert_allclose(tg.tensor([1000.0, 1000.0]).logsumexp(0).item(), 1000 + math.log(2))
    np.testing.assert_allclose(
        tg.tensor([1000.0, 1001.0]).softmax(0).tolist(), [1 / (1 + math.e), math.e / (1 + math.e)]
    )
    np.testing.assert_allclose(tg.tensor([0.0, -1000.0]).log_softmax(0).tolist(), [0.0, -1000.0])


def test_integers_and_bools_are_reduced_as_in_numpy():
    array = np.random.default_rng(0).integers(-5, 6, (3, 4))
    for dtype in INTEGERS:
        x = tg.tensor(array, dtype=dtype)
        for axis in (None, 0, 1):
            facts = {} if axis is None else {"axis": axis}
            assert x.sum(**facts).dtype is x.prod(**facts).dtype is tg.int64
            np.testing.assert_array_equal(x.sum(**facts).tolist(), array.sum(**facts))
            np.testing.assert_array_equal(x.prod(**facts).tolist(), array.prod(**facts))
            np.testing.assert_array_equal(x.argmax(**facts).tolist(), array.argmax(**facts))
            np.testing.assert_array_equal(x.argmin(**facts).tolist(), array.argmin(**facts))
            np.testing.assert_array_equal(x.amax(**facts).tolist(), array.max(**facts))
            np.testing.assert_array_equal((x > 2).any(**facts).tolist(), (array > 2).any(**facts))
            np.testing.assert_array_equal((x > -5).all(**facts).tolist(), (array > -5).all(**facts))
            np.testing.assert_array_equal((x > 0).sum(**facts).tolist(), (array > 0).sum(**facts))
        np.testing.assert_array_equal((x @ x.T).tolist(), array @ array.T)


def test_sums_are_accurate():
    """Eight partial sums in each block, so that the error grows with n / 8 at most."""
    array = np.random.default_rng(0).uniform(size=100_000)
    assert abs(tg.tensor(array).sum().item() - math.fsum(array)) < 1e-12 * math.fsum(array)


# --- broadcasting and programs, drawn ---------------------------------------------------------------------------------

drawn = settings(max_examples=60, deadline=None, derandomize=True, database=None)


@st.composite
def broadcastable(draw: Any, n: int) -> list[tuple[int, ...]]:
    """Shapes that can be broadcast together: some dimensions 1, some left out in front."""
    full = draw(st.lists(st.integers(0, 4), max_size=4))
    shapes = []
    for _ in range(n):
        ones = draw(st.lists(st.booleans(), min_size=len(full), max_size=len(full)))
        shape = [1 if one else length for one, length in zip(ones, full, strict=True)]
        shapes.append(tuple(shape[draw(st.integers(0, len(shape))) :]))
    return shapes


@st.composite
def laid_out(draw: Any, shape: tuple[int, ...]) -> tuple[tuple[int, ...], Callable[[Any], Any]]:
    """The shape of a base, and how to see `shape` in it through other strides: permuted, stepped over, repeated."""
    order = draw(st.permutations(range(len(shape))))
    steps = [draw(st.integers(1, 2)) for _ in shape]
    starts = [draw(st.integers(0, 1)) for _ in shape]
    repeated = [draw(st.booleans()) and length > 0 for length in shape]
    base = [1 if repeated[d] else starts[d] + shape[d] * steps[d] for d in order]
    window = tuple(slice(None) if repeated[d] else slice(starts[d], None, steps[d]) for d in order)
    inverse = [order.index(d) for d in range(len(shape))]

    def see(x: Any) -> Any:
        if isinstance(x, tg.Tensor):
            return x[window].permute(*inverse).expand(*shape) if shape else x
        return np.broadcast_to(x[window].transpose(inverse), shape) if shape else x

    return tuple(base), see


BINARY = {"add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": lambda a, b: a / (b * b + 1.0)}


@drawn
@given(st.data())
def test_any_shapes_and_strides_broadcast(data: st.DataObject):
    shapes = data.draw(broadcastable(2))
    seen = [data.draw(laid_out(shape)) for shape in shapes]
    function = BINARY[data.draw(st.sampled_from(sorted(BINARY)))]
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    arrays = [rng.normal(size=base) for base, _ in seen]
    inputs = tg_leaves(arrays)

    def model(*values: np.ndarray) -> np.ndarray:
        return function(*(see(v) for (_, see), v in zip(seen, values, strict=True)))

    y = function(*(see(x) for (_, see), x in zip(seen, inputs, strict=True)))
    np.testing.assert_allclose(y.detach().numpy(), model(*arrays), rtol=1e-14)
    seed = rng.normal(size=y.shape)
    recorded = tg.autograd.grad(y, inputs, tg.tensor(seed), create_graph=True)
    y.backward(tg.tensor(seed))
    for k, x in enumerate(inputs):
        np.testing.assert_allclose(x.grad.numpy(), complex_step(model, arrays, seed, k), rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(recorded[k].detach().numpy(), x.grad.numpy(), rtol=1e-12, atol=1e-13)


def complex_step(model: Callable[..., Any], arrays: list[np.ndarray], seed: np.ndarray, k: int) -> np.ndarray:
    """The adjoint of array `k`, an element at a time."""
    expected = np.zeros(arrays[k].shape)
    for at in np.ndindex(*expected.shape):
        tangents = [np.zeros(a.shape) for a in arrays]
        tangents[k][at] = 1.0
        expected[at] = (seed * np_jvp(model, arrays, tangents)).sum()
    return expected


UNARY: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "sin": (tg.sin, np.sin),
    "tanh": (tg.tanh, np.tanh),
    "exp": (lambda x: tg.exp(-x * x), lambda x: np.exp(-x * x)),
    "log": (lambda x: tg.log1p(x * x), lambda x: np.log(1.0 + x * x)),
    "sigmoid": (tg.sigmoid, lambda x: 1.0 / (1.0 + np.exp(-x))),
    "abs": (tg.abs, lambda x: np.where(x.real > 0, x, -x)),
    "where": (lambda x: tg.where(x > 0.3, x * x, -x), lambda x: np.where(x.real > 0.3, x * x, -x)),
    "immediate": (lambda x: 1.5 - 0.5 * x, lambda x: 1.5 - 0.5 * x),
    "atan": (tg.atan, np.arctan),
    "clone": (lambda x: x.clone(), lambda x: x.copy()),
}


def np_logsumexp(x: np.ndarray, **facts: Any) -> np.ndarray:
    return np.log(np.exp(x).sum(**facts))


REDUCE = {
    "sum": (tg.sum, np.sum),
    "mean": (tg.mean, np.mean),
    "logsumexp": (tg.logsumexp, np_logsumexp),
    "amax": (tg.amax, np.amax),
    "norm": (tg.norm, lambda x, **f: np.sqrt((x * x).sum(**f))),
}


def step(
    data: st.DataObject, values: list[np.ndarray]
) -> tuple[str, Callable[[list[Any]], Any], Callable[[list[Any]], Any]]:
    """One more operation on what a program has so far: for Tensors, and for arrays."""
    at = data.draw(st.integers(0, len(values) - 1))
    x = values[at]
    kind = data.draw(
        st.sampled_from(
            ["unary", "unary", "binary", "binary", "reduce", "permute", "slice", "expand", "reshape", "take"]
        )
    )
    if kind == "unary":
        name = data.draw(st.sampled_from(sorted(UNARY)))
        ours, theirs = UNARY[name]
        return name, lambda v: ours(v[at]), lambda v: theirs(v[at])
    if kind == "binary":
        fitting = [i for i, v in enumerate(values) if _broadcasts(v.shape, x.shape)]
        other = data.draw(st.sampled_from(fitting))
        name = data.draw(st.sampled_from(sorted(BINARY)))
        return name, lambda v: BINARY[name](v[at], v[other]), lambda v: BINARY[name](v[at], v[other])
    if kind == "reduce" and x.ndim and x.size:
        name = data.draw(st.sampled_from(sorted(REDUCE)))
        axis = tuple(data.draw(st.sets(st.integers(0, x.ndim - 1), min_size=1)))
        facts = {"axis": axis, "keepdims": data.draw(st.booleans())}
        ours, theirs = REDUCE[name]
        return name, lambda v: ours(v[at], **facts), lambda v: theirs(v[at], **facts)
    if kind == "permute":
        order = data.draw(st.permutations(range(x.ndim)))
        return kind, lambda v: v[at].permute(*order) if order else v[at], lambda v: v[at].transpose(order)
    if kind == "slice" and x.ndim:
        first = data.draw(st.integers(0, max(x.shape[0] - 1, 0)))
        window = (slice(first, None, data.draw(st.integers(1, 2))),)
        return kind, lambda v: v[at][window], lambda v: v[at][window]
    if kind == "expand" and x.ndim < 4:
        shape = (data.draw(st.integers(1, 3)), *x.shape)
        return kind, lambda v: v[at].expand(*shape), lambda v: np.broadcast_to(v[at], shape)
    if kind == "take" and x.ndim and x.shape[0]:
        rows = data.draw(st.lists(st.integers(0, x.shape[0] - 1), min_size=1, max_size=3))
        return kind, lambda v: v[at][rows], lambda v: v[at][rows]
    return "reshape", lambda v: v[at].reshape(-1), lambda v: v[at].reshape(-1)


def _broadcasts(p: tuple[int, ...], q: tuple[int, ...]) -> bool:
    try:
        np.broadcast_shapes(p, q)
    except ValueError:
        return False
    return True


@drawn
@given(st.data())
def test_any_program_has_the_values_and_gradients_of_numpy(data: st.DataObject):
    shapes = data.draw(broadcastable(2))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    arrays = [rng.uniform(-1.2, 1.2, shape) for shape in shapes]
    values, ours, theirs, names = list(arrays), [], [], []
    for _ in range(data.draw(st.integers(1, 8))):
        name, on_tensors, on_arrays = step(data, values)
        value = on_arrays(values)
        if value.size > 2000:
            break
        values.append(value)
        ours.append(on_tensors)
        theirs.append(on_arrays)
        names.append(name)
    seeds = [rng.normal(size=v.shape) for v in values[2:]]

    def objective(start: list[Any], steps: list[Callable[..., Any]], weights: list[Any]) -> Any:
        found = list(start)
        for s in steps:
            found.append(s(found))
        return sum((v * w).sum() for v, w in zip(found[2:], weights, strict=True))

    inputs = tg_leaves(arrays)
    y = objective(inputs, ours, [tg.tensor(s) for s in seeds])
    if not isinstance(y, tg.Tensor) or not y.requires_grad:
        return
    tangents = [rng.normal(size=a.shape) for a in arrays]
    recorded = tg.autograd.grad(y, inputs, create_graph=True, materialize_grads=True)
    y.backward()
    np.testing.assert_allclose(y.item(), objective(arrays, theirs, seeds), rtol=1e-11, atol=1e-11, err_msg=str(names))
    slope = np_jvp(lambda *a: np.asarray(objective(list(a), theirs, seeds)), arrays, tangents)
    swept = [np.zeros(x.shape) if x.grad is None else x.grad.numpy() for x in inputs]
    for s, r in zip(swept, np_of(recorded), strict=True):
        np.testing.assert_allclose(s, r, rtol=1e-10, atol=1e-10, err_msg=str(names))
    along = sum((s * v).sum() for s, v in zip(swept, tangents, strict=True))
    np.testing.assert_allclose(along, slope, rtol=1e-9, atol=1e-9, err_msg=str(names))
