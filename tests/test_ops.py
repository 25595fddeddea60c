"""Every operation against mathematics: values, derivatives forward and backward, second derivatives.

The table of operations drives it: what is declared is tested here, with no further word. Values and derivatives of
elementwise operations are compared with those of mpmath at the points declared (`exact`). What works over dimensions,
layouts and array operations are cases: a function of Tensors with NumPy's, which takes complex numbers: the imaginary
part of f(x + i h v) / h is the derivative along v, exact to rounding (Squire and Trapp 1998). Functions written by hand
have cases of their own below. A test sees to it that no operation is left out.
"""

import functools
import inspect
import itertools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import mpmath
import numpy as np
import pytest
import scipy.special

import tapegrad as tg
from tapegrad import dtypes
from tapegrad.ops import (
    attention,
    convolution,
    distances,
    factorization,
    indexing,
    matrix_exponential,
    normalisation,
    orthogonal,
    pivoted,
    sampling,
    spectral,
    windows,
)  # fmt: skip
from tapegrad.ops.declare import (
    BOOLEAN,
    CONVERTED,
    FLOATING,
    OPS,
    REFUSED,
    SUMMED,
    TRUTH,
    Array,
    Elementwise,
    Host,
    Layout,
    Op,
    OverDimensions,
)

FLOATS = (tg.float64, tg.float32)
INTEGERS = (tg.int64, tg.int32)
ULPS = 4.0  # allowed in values: a composed function may round a few times


def exact(op: Elementwise) -> Callable[..., Any]:
    """The function over mpmath's numbers: as declared, or mpmath's of that name, if NumPy's is the same."""
    if op.exact is not None:
        return functools.partial(op.exact, mpmath)
    namesake = getattr(mpmath, op.name, None)
    assert namesake is not None, f"mpmath has no {op.name}: declare exact="
    if op.reference is not None:
        at = [domain.draw(5, np.random.default_rng(0)) for domain in op.domain or ()]
        mine = [float(namesake(*mp_numbers(*column))) for column in zip(*at, strict=True)]
        np.testing.assert_allclose(mine, op.reference(*at), rtol=1e-12, err_msg=f"mpmath.{op.name} is another function")
    return namesake


def is_cast(op: Op) -> bool:
    return op.name.startswith("to_")


COMPUTED = [op for op in OPS if isinstance(op, Elementwise) and not is_cast(op)]
DRAWN = [op for op in COMPUTED if op.domain]
DIFFERENTIABLE = [op for op in DRAWN if any(op.partials)]
WITH_REFERENCE = [op for op in COMPUTED if op.reference]


def by_name(ops: Sequence[Op]) -> Any:
    return pytest.mark.parametrize("op", ops, ids=lambda op: op.name)


over_floats = pytest.mark.parametrize("dtype", FLOATS, ids=repr)


def draw(op: Elementwise, n: int, dtype: Any, seed: int = 0) -> list[np.ndarray]:
    """Points of an operation's operands; a condition is drawn by its sign."""
    rng = np.random.default_rng([seed, op.opcode])
    points = [domain.draw(n, rng).astype(dtype.numpy) for domain in op.domain]
    return [points[0] > 0, *points[1:]] if op.dtype_operand else points


def leaves(op: Elementwise, arrays: list[np.ndarray]) -> list[Any]:
    return [tg.tensor(a, requires_grad=rule is not None) for a, rule in zip(arrays, op.partials, strict=True)]


def mp_numbers(*values: Any) -> list[Any]:
    return [mpmath.mpf(float(v)) for v in values]


def mp_partial(function: Callable[..., Any], at: list[Any], k: int) -> Any:
    return mpmath.diff(lambda x: function(*at[:k], x, *at[k + 1 :]), at[k])


# --- elementwise: values ----------------------------------------------------------------------------------------------


@by_name(DRAWN)
@over_floats
def test_values_are_within_a_few_ulps(op: Elementwise, dtype: Any):
    arrays = draw(op, 64, dtype)
    result = op(*map(tg.tensor, arrays))
    assert result.dtype is dtype
    with mpmath.workprec(120):
        for *at, y in zip(*arrays, result.tolist(), strict=True):
            true = exact(op)(*mp_numbers(*at))
            assert abs(y - true) <= op.ulps * float(np.spacing(dtype.numpy.type(abs(true)))), (at, y, float(true))


def edge_points(op: Elementwise) -> list[tuple[float, ...]]:
    """All combinations of edge points and a few others."""
    ordinary = (-2.5, -1.0, 0.5, 1.0, 3.0)
    every = (0.0, -0.0, math.inf, -math.inf, math.nan, 5e-324, -5e-324)
    domains = op.domain or (None,) * op.arity
    return list(itertools.product(*(ordinary + (domain.edges if domain else every) for domain in domains)))


@by_name([op for op in WITH_REFERENCE if "float64" not in op.refuses])
@over_floats
def test_edge_points_are_as_in_numpy(op: Elementwise, dtype: Any):
    arrays = [np.array(column, dtype.numpy) for column in zip(*edge_points(op), strict=True)]
    with np.errstate(all="ignore"):
        expected = op.reference(*arrays)
    result = np.array(op(*map(tg.tensor, arrays)).tolist(), expected.dtype)
    tolerance = 0 if expected.dtype == bool else ULPS * np.finfo(dtype.numpy).eps
    np.testing.assert_allclose(result, expected, rtol=tolerance, atol=0)
    # Zeros of remainder have the sign that PyTorch gives them, and so have those of fmax and fmin beside -0.
    if expected.dtype != bool and op.name not in ("remainder", "fmax", "fmin"):
        zeros = expected == 0
        np.testing.assert_array_equal(np.signbit(result[zeros]), np.signbit(expected[zeros]))


@by_name([op for op in DRAWN if not op.reference and not op.dtype_operand])
@over_floats
def test_edge_points_without_a_numpy_function(op: Elementwise, dtype: Any):
    points = np.array(edge_points(op), dtype.numpy)
    if op.name == "clamp":  # bounds that are nan or in disorder are PyTorch's to define
        points = points[points[:, 1] <= points[:, 2]]
    result = op(*map(tg.tensor, points.T.copy()))
    for at, y in zip(points, result.tolist(), strict=True):
        if np.isnan(at).any() and not op.name.startswith("_builtin"):  # these choose by one comparison
            assert math.isnan(y), at
            continue
        try:
            true = exact(op)(*mp_numbers(*at))
        except ZeroDivisionError:
            true = math.copysign(math.inf, at[0])
        if isinstance(true, mpmath.mpc):
            true = math.nan
        np.testing.assert_allclose(
            y, float(true), rtol=op.ulps * np.finfo(dtype.numpy).eps, atol=np.finfo(dtype.numpy).tiny
        )


INTEGER_POINTS = (-7, -3, -2, -1, 0, 1, 2, 3, 7, 100)


@by_name([op for op in WITH_REFERENCE if "int64" not in op.refuses])
@pytest.mark.parametrize("dtype", INTEGERS, ids=repr)
def test_integers_are_as_in_numpy(op: Elementwise, dtype: Any):
    points = list(itertools.product(INTEGER_POINTS, repeat=op.arity))
    if op.name == "pow":
        points = [(a, b) for a, b in points if 0 <= b <= 7]
    if op.divides:
        points = [(a, b) for a, b in points if b]
    arrays = [np.array(column, dtype.numpy) for column in zip(*points, strict=True)]
    result = op(*map(tg.tensor, arrays))
    floating = op.result == FLOATING
    assert result.dtype is (tg.float64 if floating else tg.bool if op.result == BOOLEAN else dtype)
    with np.errstate(all="ignore"):
        expected = op.reference(*(a.astype(float) if floating else a for a in arrays))
    np.testing.assert_allclose(result.tolist(), expected, rtol=1e-15)


@by_name([op for op in WITH_REFERENCE if "bool" not in op.refuses])
def test_bools_are_as_in_numpy(op: Elementwise):
    arrays = [np.array(column) for column in zip(*itertools.product((False, True), repeat=op.arity), strict=True)]
    result = op(*map(tg.tensor, arrays))
    floating = op.result == FLOATING
    with np.errstate(all="ignore"):
        expected = op.reference(*(a.astype(float if floating else np.int64) for a in arrays))
    np.testing.assert_allclose(
        np.array(result.tolist(), float), expected if floating else expected.astype(bool), rtol=1e-15
    )


@pytest.mark.parametrize("source", [tg.bool, tg.int32, tg.int64, tg.float32, tg.float64], ids=repr)
@pytest.mark.parametrize("target", [tg.bool, tg.int32, tg.int64, tg.float32, tg.float64], ids=repr)
def test_conversions_are_as_in_numpy(source: Any, target: Any):
    array = np.array([-2.75, -1.0, -0.5, -0.0, 0.0, 0.25, 1.0, 3.5, 127.0]).astype(source.numpy)
    result = tg.tensor(array).to(target)
    assert result.dtype is target
    np.testing.assert_array_equal(result.tolist(), array.astype(target.numpy))


def test_conversions_take_gradients_back_to_their_dtype():
    x = tg.tensor([0.5, -1.5], dtype=tg.float32, requires_grad=True)
    y = x.to(tg.float64) * tg.tensor([0.1, 0.2])
    (g,) = tg.autograd.grad(y.sum(), x, create_graph=True)
    y.sum().backward()
    assert x.grad.dtype is g.dtype is tg.float32
    np.testing.assert_array_equal(x.grad.tolist(), np.float32([0.1, 0.2]))
    np.testing.assert_array_equal(g.tolist(), np.float32([0.1, 0.2]))


# --- elementwise: derivatives -----------------------------------------------------------------------------------------


@by_name(DIFFERENTIABLE)
@over_floats
def test_gradients_are_the_partial_derivatives(op: Elementwise, dtype: Any):
    arrays = draw(op, 16, dtype, seed=1)
    operands = leaves(op, arrays)
    op(*operands).sum().backward()
    with mpmath.workprec(120):
        for k, rule in enumerate(op.partials):
            if rule is None:
                continue
            true = [float(mp_partial(exact(op), mp_numbers(*at), k)) for at in zip(*arrays, strict=True)]
            rtol = 1e-13 if dtype is tg.float64 else 1e-5
            assert operands[k].grad.dtype is dtype
            np.testing.assert_allclose(operands[k].grad.tolist(), true, rtol=rtol, atol=rtol)


@by_name(DIFFERENTIABLE)
def test_second_derivatives(op: Elementwise):
    arrays = draw(op, 8, tg.float64, seed=2)
    operands = leaves(op, arrays)
    active = [k for k, rule in enumerate(op.partials) if rule is not None]
    inputs = [operands[k] for k in active]
    first = tg.autograd.grad(op(*operands).sum(), inputs, create_graph=True)
    with mpmath.workprec(120):
        for k, g in zip(active, first, strict=True):
            second = [None] * len(inputs)
            if g.requires_grad:
                second = tg.autograd.grad(g.sum(), inputs, allow_unused=True, retain_graph=True)
            for j, h in zip(active, second, strict=True):
                true = [
                    float(mp_partial(lambda *at, k=k: mp_partial(exact(op), list(at), k), mp_numbers(*at), j))
                    for at in zip(*arrays, strict=True)
                ]
                np.testing.assert_allclose(np.zeros(8) if h is None else h.tolist(), true, rtol=1e-11, atol=1e-11)


@by_name(DIFFERENTIABLE)
@over_floats
def test_the_sweep_and_its_recording_agree(op: Elementwise, dtype: Any):
    operands = leaves(op, draw(op, 40, dtype, seed=3))
    inputs = [t for t in operands if t.requires_grad]
    seed = tg.tensor(np.random.default_rng(4).normal(size=40), dtype=dtype)
    y = op(*operands)
    swept = tg.autograd.grad(y, inputs, seed, retain_graph=True)
    recorded = tg.autograd.grad(y, inputs, seed, create_graph=True)
    for s, r in zip(swept, recorded, strict=True):
        np.testing.assert_array_equal(s.tolist(), r.tolist())  # constants have the row's dtype in both


@by_name([op for op in DRAWN if op.is_public and op.in_place])
@over_floats
def test_in_place_it_writes_the_same_and_gradients_flow(op: Elementwise, dtype: Any):
    """A truth has no gradient: what is written in its place is 0 or 1, and what was there gets zeros."""
    arrays = draw(op, 8, dtype, seed=6)
    inputs, expected = leaves(op, arrays), op(*map(tg.tensor, arrays))
    written = inputs[0] * 1
    assert getattr(written, f"{op.name}_")(*inputs[1:]) is written
    np.testing.assert_array_equal(written.tolist(), np.array(expected.tolist(), dtype.numpy))
    written.sum().backward()
    again = leaves(op, arrays)
    op(*again).sum().backward() if op.result != BOOLEAN else None
    for x, y in zip(inputs, again, strict=True):
        if x.requires_grad:
            np.testing.assert_array_equal(x.grad.tolist(), y.grad.tolist())


@pytest.mark.parametrize("op", [op for op in COMPUTED if op.is_public and op.in_place], ids=lambda op: op.name)
def test_every_name_has_its_method_in_place(op: Elementwise):
    for name in (op.name, *op.aliases):
        assert callable(getattr(tg, name))
        assert hasattr(tg.Tensor, name)
        assert hasattr(tg.Tensor, f"{name}_")


@by_name([op for op in COMPUTED if op.is_public and op.result == BOOLEAN and op.in_place])
def test_truths_in_place_cut_gradients_off(op: Elementwise):
    x = tg.tensor([0.5, -1.0, 0.0], requires_grad=True)
    y = x * 2
    getattr(y, f"{op.name}_")(*(tg.tensor([1.0, -2.0, 0.0]),) * (op.arity - 1))
    expected = op(x.detach() * 2, *(tg.tensor([1.0, -2.0, 0.0]),) * (op.arity - 1))
    np.testing.assert_array_equal(y.tolist(), np.array(expected.tolist(), float))
    assert y.dtype is tg.float64
    (y * x).sum().backward()
    np.testing.assert_array_equal(x.grad.tolist(), y.tolist())


@by_name(DIFFERENTIABLE)
def test_a_number_in_the_place_of_an_operand(op: Elementwise):
    """It becomes a row's immediate where the operation has two operands."""
    if op.arity == 1 or op.name.startswith("_"):
        pytest.skip("one operand, or an operation of rules and jitted code")
    arrays = draw(op, 8, tg.float64, seed=5)
    for k in range(op.dtype_operand, op.arity):
        numbers = [float(a[0]) if j != k and j >= op.dtype_operand else None for j, a in enumerate(arrays)]
        full = leaves(op, [np.full(8, n) if n is not None else a for a, n in zip(arrays, numbers, strict=True)])
        mixed = [t if n is None else n for t, n in zip(leaves(op, arrays), numbers, strict=True)]
        expected, y = op(*full), op(*mixed)
        np.testing.assert_array_equal(y.tolist(), expected.tolist())
        expected.sum().backward()
        (g,) = tg.autograd.grad(y.sum(), mixed[k], create_graph=True)
        y.sum().backward()
        np.testing.assert_allclose(mixed[k].grad.tolist(), full[k].grad.tolist(), rtol=1e-14)
        np.testing.assert_allclose(g.tolist(), full[k].grad.tolist(), rtol=1e-14)


def gradient_at(function: Callable[..., Any], *points: float) -> list[float]:
    inputs = [tg.tensor(p, requires_grad=True) for p in points]
    y = function(*inputs)
    recorded = tg.autograd.grad(y, inputs, create_graph=True)
    y.backward()
    swept = [x.grad.item() for x in inputs]
    np.testing.assert_array_equal([g.item() for g in recorded], swept)
    return swept


@pytest.mark.nojit
def test_conventions_where_there_is_no_derivative():
    assert gradient_at(tg.abs, 0.0) == [0.0]
    assert gradient_at(tg.relu, 0.0) == [0.0]
    assert gradient_at(tg.sign, 0.0) == [0.0]
    assert gradient_at(tg.sqrt, 0.0) == [math.inf]
    assert gradient_at(tg.norm, 0.0) == [0.0]
    assert gradient_at(tg.maximum, 1.0, 1.0) == gradient_at(tg.minimum, 1.0, 1.0) == [0.5, 0.5]
    for x in (-1.0, 1.0):
        assert gradient_at(lambda x: tg.clamp(x, -1, 1), x) == [1.0]
    for x in (-1.5, 1.5):
        assert gradient_at(lambda x: tg.clamp(x, -1, 1), x) == [0.0]


@pytest.mark.nojit
def test_powers_at_zero():
    assert gradient_at(lambda x: x**2, 0.0) == [0.0]
    assert gradient_at(lambda x: x**1, 0.0) == [1.0]
    assert gradient_at(lambda x: x**0, 0.0) == [0.0]
    assert gradient_at(lambda x: x**3, -2.0) == [12.0]
    assert gradient_at(lambda x: x**0.5, 0.0) == [math.inf]
    assert gradient_at(tg.pow, 0.0, 2.0) == [0.0, 0.0]
    assert gradient_at(lambda b: 0.0**b, 2.0) == [0.0]


# --- the other operations: cases --------------------------------------------------------------------------------------

# name -> (function of Tensors, the same of NumPy arrays that may be complex, shapes of the operands)
Case = tuple[Callable[..., Any], Callable[..., Any], tuple[tuple[int, ...], ...]]


OVER = [op for op in OPS if isinstance(op, OverDimensions) and (op.form is not None or op.exact is not None)]
AXES: tuple[Any, ...] = (None, 0, 1, -1, (0, 1), (1, 2), (0, 2), (-1, 0), (0, 1, 2))
SHAPE = (3, 2, 4)


def arguments_over(op: OverDimensions) -> list[dict[str, Any]]:
    """All combinations that the public function takes: of `axis` and `keepdims`, which NumPy's takes too."""
    takes = inspect.signature(getattr(tg, op.name)).parameters
    several, optional = "Dims" in takes["dim"].annotation, "None" in takes["dim"].annotation
    axes = [axis for axis in AXES if (several or not isinstance(axis, tuple)) and (optional or axis is not None)]
    if "keepdim" not in takes:
        return [{"axis": axis} for axis in axes]
    return [{"axis": axis, "keepdims": keepdims} for axis in axes for keepdims in (False, True)]


def theirs_of(op: Op) -> Callable[..., Any]:
    """NumPy's function."""
    return op.exact or op.reference


def then(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Callable[..., Any]:
    """The function of operands alone."""
    return lambda *operands: function(*operands, *arguments)


def declared_cases() -> dict[str, Case]:
    """Those of what works over dimensions, of layouts, and of array operations."""
    cases: dict[str, Case] = {}
    for op in OPS:
        ours, theirs = getattr(tg, op.name, None), theirs_of(op)
        for facts in arguments_over(op) if op in OVER and any(op.partials) else ():
            name = f"{op.name}-{'-'.join(map(str, facts.values()))}"
            cases[name] = functools.partial(ours, **facts), functools.partial(theirs, **facts), (SHAPE,)
        for arguments, theirs, shape in op.examples if isinstance(op, Layout) else ():
            cases[f"{op.name}-{arguments}-{shape}"] = then(ours, arguments), theirs, (shape,)
        for arguments, *shapes in op.examples if isinstance(op, Array) else ():
            cases[f"{op.name}-{arguments}-{shapes}"] = then(ours, arguments), then(theirs, arguments), tuple(shapes)
    return cases


def np_norm(x: np.ndarray, p: float, **facts: Any) -> np.ndarray:
    return (np.where(x.real > 0, x, -x) ** p).sum(**facts) ** (1 / p)


BY_HAND: dict[str, Case] = {
    f"norm{p}-{axis}-{keepdims}": (
        lambda x, p=p, axis=axis, keepdims=keepdims: tg.norm(x, p, axis=axis, keepdims=keepdims),
        lambda x, p=p, axis=axis, keepdims=keepdims: np_norm(x, p, axis=axis, keepdims=keepdims),
        (SHAPE,),
    )
    for p in (1, 3)
    for axis in AXES
    for keepdims in (False, True)
} | {
    f"{name}-{axis}": (
        lambda x, name=name, axis=axis: getattr(x, name)(axis).values,
        lambda x, name=name, axis=axis: getattr(x, name)(axis),
        (SHAPE,),
    )
    for name in ("max", "min")
    for axis in (0, 1, -1)
}
for _name in ("max", "min"):
    BY_HAND[_name] = (lambda x, name=_name: getattr(x, name)(), lambda x, name=_name: getattr(x, name)(), (SHAPE,))


LAYOUTS: dict[str, Case] = {
    "view": (lambda x: x.view(4, 6), lambda x: x.reshape(4, 6), ((2, 3, 4),)),
    "view-of-a-transpose": (lambda x: x.T.view(2, 2, 3), lambda x: x.T.reshape(2, 2, 3), ((3, 4),)),
    "reshape-copies": (
        lambda x: x.permute(2, 0, 1).reshape(3, 8),
        lambda x: x.transpose(2, 0, 1).reshape(3, 8),
        ((2, 3, 4),),
    ),
    "reshape-to-0d": (lambda x: x.reshape(()), lambda x: x.reshape(()), ((1, 1),)),
    "flatten": (lambda x: x.flatten(1), lambda x: x.reshape(2, 12), ((2, 3, 4),)),
    "expand": (lambda x: x.expand(4, 2, 3), lambda x: np.broadcast_to(x, (4, 2, 3)), ((2, 1),)),
    "expand-a-slice": (lambda x: x[1:2].expand(4, 3), lambda x: np.broadcast_to(x[1:2], (4, 3)), ((3, 3),)),
    "permute": (lambda x: x.permute(1, 2, 0), lambda x: x.transpose(1, 2, 0), ((2, 3, 4),)),
    "movedim": (lambda x: x.movedim(0, -1), lambda x: np.moveaxis(x, 0, -1), ((2, 3, 4),)),
    "squeeze": (lambda x: x.squeeze(), lambda x: x.squeeze(), ((1, 3, 1, 2),)),
    "squeeze-dim": (lambda x: x.squeeze(2), lambda x: x.squeeze(2), ((1, 3, 1, 2),)),
    "select": (lambda x: x[1, -1], lambda x: x[1, -1], ((2, 3, 4),)),
    "slice": (lambda x: x[:, 1:, ::2], lambda x: x[:, 1:, ::2], ((2, 3, 5),)),
    "slice-of-a-transpose": (lambda x: x.T[1:, ::2], lambda x: x.T[1:, ::2], ((3, 4),)),
    "slice-of-a-slice": (lambda x: x[1:][::2][:, 1], lambda x: x[1:][::2][:, 1], ((5, 3),)),
    "new-axes": (lambda x: x[None, ..., 0, None], lambda x: x[None, ..., 0, None], ((2, 3, 4),)),
    "empty-slice": (lambda x: x[2:2], lambda x: x[2:2], ((3, 2),)),
    "alias": (lambda x: x[...], lambda x: x, ((2, 3),)),
    "contiguous": (lambda x: x.T.contiguous(), lambda x: x.T.copy(), ((2, 3),)),
    "split": (lambda x: x.split([1, 3])[1], lambda x: x[1:], ((4, 2),)),
    "repeat": (lambda x: x.repeat(2, 1, 3), lambda x: np.tile(x, (2, 1, 3)), ((2, 3),)),
    "overlapping-views": (lambda x: x[1:] * x[:-1] + x[0], lambda x: x[1:] * x[:-1] + x[0], ((5, 2),)),
    "cat": (lambda x, y: tg.cat([x, y, x], 1), lambda x, y: np.concatenate([x, y, x], 1), ((2, 3), (2, 1))),
    "cat-of-views": (
        lambda x, y: tg.cat([x.T, y[:, ::2]]),
        lambda x, y: np.concatenate([x.T, y[:, ::2]]),
        ((2, 3), (2, 3)),
    ),
    "stack": (lambda x, y: tg.stack([x, y, x], -1), lambda x, y: np.stack([x, y, x], -1), ((2, 3), (2, 3))),
}

MASK = np.array([[True, False, True], [False, True, True]])


def assigned(x: Any, index: Any, value: Any) -> Any:
    """A copy with something put in it; of a Tensor or of an array."""
    copy = x.clone() if isinstance(x, tg.Tensor) else x.astype(np.result_type(x, value))
    copy[index] = value
    return copy


def indexed(*index: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def get(x: Any) -> Any:
        return x[index]

    return get, get


INDEXING: dict[str, Case] = {
    "take": (*indexed([2, 0, 0, -1]), ((3, 2),)),
    "take-of-a-vector": (*indexed(np.array([[2, 0], [1, 2]])), ((4,),)),
    "take-pairs": (*indexed([0, 1, 1], [2, 0, 0]), ((2, 3),)),
    "take-with-a-slice": (*indexed([1, 0, 1], slice(None), 0), ((2, 3, 4),)),
    "take-apart": (*indexed([1, 0], slice(None), [0, 3]), ((2, 3, 4),)),
    "take-nothing": (*indexed(np.zeros(0, int)), ((3,),)),
    "mask": (*indexed(MASK), ((2, 3),)),
    "mask-of-rows": (*indexed(MASK[:, 1]), ((2, 3),)),
    "take-of-a-transpose": (lambda x: x.T[[2, 0, 2]], lambda x: x.T[[2, 0, 2]], ((2, 3),)),
    "masked_select": (lambda x: tg.masked_select(x, tg.tensor(MASK)), lambda x: x[MASK], ((2, 3),)),
    "index_select": (lambda x: tg.index_select(x, 1, tg.tensor([2, 2, 0])), lambda x: x[:, [2, 2, 0]], ((2, 3),)),
    "gather": (
        lambda x: tg.gather(x, 1, tg.tensor([[0, 0], [2, 1]])),
        lambda x: np.take_along_axis(x, np.array([[0, 0], [2, 1]]), 1),
        ((2, 3),),
    ),
    "put-a-slice": (*(lambda x, v: assigned(x, (slice(None), 1), v),) * 2, ((3, 2), (3,))),
    "put-broadcast": (*(lambda x, v: assigned(x, slice(1, None), v),) * 2, ((3, 2), (2,))),
    "put-at": (*(lambda x, v: assigned(x, [2, 0], v),) * 2, ((3, 2), (2, 2))),
    "put-twice": (*(lambda x, v: assigned(x, [1, 1, 0], v),) * 2, ((3,), (3,))),
    "put-by-mask": (*(lambda x, v: assigned(x, MASK, v),) * 2, ((2, 3), (4,))),
}

PRODUCTS: dict[str, Case] = {
    name: (operator.matmul, operator.matmul, shapes)
    for name, shapes in {
        "dot": ((4,), (4,)),
        "mv": ((3, 4), (4,)),
        "vm": ((3,), (3, 4)),
        "mm": ((3, 4), (4, 2)),
        "mm-1": ((1, 4), (4, 1)),
        "mm-inner-1": ((3, 1), (1, 2)),
        "mm-of-nothing": ((3, 0), (0, 2)),
        "bmm": ((2, 3, 4), (2, 4, 2)),
        "bmm-broadcast": ((2, 1, 3, 4), (5, 4, 2)),
        "bmm-by-a-matrix": ((2, 3, 4), (4, 2)),
        "matrix-by-bmm": ((3, 4), (2, 4, 2)),
        "bmm-by-a-vector": ((2, 3, 4), (4,)),
        "vector-by-bmm": ((3,), (2, 3, 4)),
    }.items()
} | {
    "mm-of-transposes": (lambda a, b: a.T @ b.T, lambda a, b: a.T @ b.T, ((4, 3), (2, 4))),
    "mm-of-steps": (lambda a, b: a[::2] @ b[:, ::2], lambda a, b: a[::2] @ b[:, ::2], ((5, 4), (4, 5))),
    "mm-of-columns": (lambda a, b: a[:, 1:] @ b[:-1, 1:], lambda a, b: a[:, 1:] @ b[:-1, 1:], ((3, 4), (4, 3))),
    "mm-of-expanded": (
        lambda a, b: a.expand(3, 4) @ b,
        lambda a, b: np.broadcast_to(a, (3, 4)) @ b,
        ((1, 4), (4, 2)),
    ),
    "mv-of-a-transpose": (lambda a, b: a.T @ b[::2], lambda a, b: a.T @ b[::2], ((2, 3), (4,))),
    "bmm-of-permuted": (
        lambda a, b: a.permute(2, 0, 1) @ b.transpose(0, 2),
        lambda a, b: a.transpose(2, 0, 1) @ b.swapaxes(0, 2),
        ((3, 4, 2), (5, 4, 2)),
    ),
    "mm-with-itself": (lambda a: a @ a.T, lambda a: a @ a.T, ((3, 2),)),
    "outer": (tg.outer, np.outer, ((3,), (2,))),
}


def np_sorted(x: np.ndarray, axis: int) -> np.ndarray:
    """By real parts."""
    return np.take_along_axis(x, np.argsort(x.real, axis, kind="stable"), axis)


def np_largest_so_far(x: np.ndarray, axis: int) -> np.ndarray:
    largest = np.maximum.accumulate(x.real, axis)
    return np.take_along_axis(x, np.maximum.accumulate(np.where(x.real == largest, np_places(x, axis), 0), axis), axis)


def np_places(x: np.ndarray, axis: int) -> np.ndarray:
    return np.indices(x.shape)[axis]


SORTING: dict[str, Case] = {
    f"{name}-{axis}": (functools.partial(ours, axis=axis), functools.partial(theirs, axis=axis), (SHAPE,))
    for name, (ours, theirs) in {
        "sort": (lambda x, axis: tg.sort(x, axis).values, np_sorted),
        "topk": (
            lambda x, axis: tg.topk(x, 2, axis).values,
            lambda x, axis: np.flip(np_sorted(x, axis), axis).take([0, 1], axis),
        ),
        "kthvalue": (lambda x, axis: tg.kthvalue(x, 2, axis).values, lambda x, axis: np_sorted(x, axis).take(1, axis)),
        "median": (
            lambda x, axis: tg.median(x, axis).values,
            lambda x, axis: np_sorted(x, axis).take((x.shape[axis] - 1) // 2, axis),
        ),
        "mode": (lambda x, axis: tg.mode(x, axis).values, lambda x, axis: np_sorted(x, axis).take(0, axis)),
        "cummax": (lambda x, axis: tg.cummax(x, axis).values, np_largest_so_far),
        "cummin": (lambda x, axis: tg.cummin(x, axis).values, lambda x, axis: -np_largest_so_far(-x, axis)),
        "logcumsumexp": (
            lambda x, axis: tg.logcumsumexp(x, axis),
            lambda x, axis: np.log(np.cumsum(np.exp(x), axis)),
        ),
        "quantile": (
            lambda x, axis: tg.quantile(x, 0.5, axis),
            lambda x, axis: (
                (
                    np_sorted(x, axis).take((x.shape[axis] - 1) // 2, axis)
                    + np_sorted(x, axis).take(x.shape[axis] // 2, axis)
                )
                / 2
            ),
        ),
    }.items()
    for axis in (0, 1, -1)
} | {
    "median-of-all": (tg.median, lambda x: np_sorted(x.reshape(-1), 0)[(x.size - 1) // 2], (SHAPE,)),
    "nanmedian-of-all": (tg.nanmedian, lambda x: np_sorted(x.reshape(-1), 0)[(x.size - 1) // 2], (SHAPE,)),
}


JOINING: dict[str, Case] = {
    "flip": (lambda x: x.flip(0, 2), lambda x: np.flip(x, (0, 2)), (SHAPE,)),
    "flip-of-a-transpose": (lambda x: x.T.flip(0), lambda x: np.flip(x.T, 0), ((2, 3),)),
    "rot90": (lambda x: x.rot90(-1, (0, 2)), lambda x: np.rot90(x, -1, (0, 2)), (SHAPE,)),
    "roll": (lambda x: x.roll((1, -2), (0, 2)), lambda x: np.roll(x, (1, -2), (0, 2)), (SHAPE,)),
    "roll-all": (lambda x: x.roll(5), lambda x: np.roll(x, 5), (SHAPE,)),
    "tile": (lambda x: x.tile(2, 1, 3), lambda x: np.tile(x, (2, 1, 3)), ((2, 3),)),
    "repeat_interleave": (lambda x: x.repeat_interleave(2, 1), lambda x: np.repeat(x, 2, 1), (SHAPE,)),
    "repeat_interleave-each": (
        lambda x: x.repeat_interleave(tg.tensor([2, 0, 1]), 0),
        lambda x: np.repeat(x, [2, 0, 1], 0),
        (SHAPE,),
    ),
    "unfold-overlapping": (
        lambda x: x.unfold(1, 3, 2),
        lambda x: np.lib.stride_tricks.sliding_window_view(x, 3, 1)[:, ::2],
        ((2, 7),),
    ),
    "as_strided": (
        lambda x: x.as_strided((3, 2), (1, 2), 1),
        lambda x: np.stack([x.reshape(-1)[1 + k :][:3:2] for k in range(3)]),
        ((2, 3),),
    ),
    "as_strided-of-a-view": (
        lambda x: x[1:].T.as_strided((2, 2), (1, 1)),
        lambda x: x.reshape(-1)[[[3, 4], [4, 5]]],
        ((3, 3),),
    ),
    "unflatten": (lambda x: x.unflatten(2, (2, 2)), lambda x: x.reshape(3, 2, 2, 2), (SHAPE,)),
    "tensor_split": (lambda x: x.tensor_split(3, 2)[1], lambda x: np.array_split(x, 3, 2)[1], (SHAPE,)),
    "vstack": (lambda x, y: tg.vstack([x, y]), lambda x, y: np.vstack([x, y]), ((3,), (2, 3))),
    "column_stack": (lambda x, y: tg.column_stack([x, y]), lambda x, y: np.column_stack([x, y]), ((3,), (3, 2))),
    "block_diag": (
        lambda x, y: tg.block_diag(x, y),
        lambda x, y: np.block([[x, np.zeros((2, 1))], [np.zeros((1, 3)), y]]),
        ((2, 3), (1, 1)),
    ),
    "meshgrid": (
        lambda x, y: tg.stack(tg.meshgrid(x, y, indexing="xy")),
        lambda x, y: np.stack(np.meshgrid(x, y)),
        ((3,), (2,)),
    ),
    "diff": (lambda x: x.diff(2, 1), lambda x: np.diff(x, 2, 1), ((2, 4),)),
    "trapezoid": (lambda y, x: tg.trapezoid(y, x), lambda y, x: np.trapezoid(y, x), ((2, 4), (4,))),
    "gradient": (
        lambda y: tg.gradient(y, spacing=0.5, edge_order=2, dim=1)[0],
        lambda y: np.gradient(y, 0.5, edge_order=2, axis=1),
        ((2, 4),),
    ),
    "gradient-of-points": (
        lambda y: tg.gradient(y, spacing=(y.new_tensor([0.0, 1.0, 1.5, 4.0]),), edge_order=2, dim=1)[0],
        lambda y: np.gradient(y, [0.0, 1.0, 1.5, 4.0], edge_order=2, axis=1),
        ((2, 4),),
    ),
    "cov": (
        tg.cov,
        lambda x: (x - x.mean(1, keepdims=True)) @ (x - x.mean(1, keepdims=True)).T / (x.shape[1] - 1),
        ((3, 5),),
    ),
}

CASES = declared_cases() | BY_HAND | LAYOUTS | INDEXING | PRODUCTS | SORTING | JOINING


def points(case: Case, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.uniform(0.3, 1.5, shape) * rng.choice([-1, 1], shape) for shape in case[2]]


def np_jvp(function: Callable[..., Any], arrays: list[np.ndarray], tangents: list[np.ndarray]) -> np.ndarray:
    h = 1e-30
    return function(*(a + 1j * h * v for a, v in zip(arrays, tangents, strict=True))).imag / h


def tg_leaves(arrays: list[np.ndarray], dtype: Any = tg.float64) -> list[Any]:
    return [tg.tensor(a, dtype=dtype, requires_grad=True) for a in arrays]


def np_of(tensors: Any) -> list[np.ndarray]:
    return [t.detach().numpy() for t in tensors]


every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@every_case
@over_floats
def test_case_has_the_values_of_numpy(case: Case, dtype: Any):
    ours, theirs, _ = case
    arrays = [a.astype(dtype.numpy) for a in points(case, 0)]
    result, expected = ours(*map(tg.tensor, arrays)), theirs(*(a.astype(float) for a in arrays))
    assert result.dtype is dtype
    assert tuple(result.shape) == expected.shape
    np.testing.assert_allclose(
        result.numpy(), expected, rtol=32 * np.finfo(dtype.numpy).eps, atol=np.finfo(dtype.numpy).eps
    )


@every_case
@over_floats
def test_case_has_the_vjp_of_the_complex_step(case: Case, dtype: Any):
    ours, theirs, _ = case
    arrays, rng = points(case, 1), np.random.default_rng(2)
    inputs = tg_leaves(arrays, dtype)
    y = ours(*inputs)
    seed = rng.normal(size=y.shape)
    y.backward(tg.tensor(seed, dtype=dtype))
    for k, x in enumerate(inputs):
        expected = np.zeros(x.shape)
        for at in np.ndindex(*x.shape):
            tangents = [np.zeros(a.shape) for a in arrays]
            tangents[k][at] = 1.0
            expected[at] = (seed * np_jvp(theirs, arrays, tangents)).sum()
        assert x.grad.dtype is dtype
        tolerance = 1e-12 if dtype is tg.float64 else 2e-5
        np.testing.assert_allclose(x.grad.numpy(), expected, rtol=tolerance, atol=tolerance)


@every_case
def test_case_recorded_in_reverse_gives_the_same_and_the_jvp(case: Case):
    """The adjoints are linear in the seed; differentiating them by it gives the JVP, and <u, J v> = <J' u, v>."""
    ours, theirs, _ = case
    arrays, rng = points(case, 3), np.random.default_rng(4)
    inputs = tg_leaves(arrays)
    y = ours(*inputs)
    seed = tg.tensor(rng.normal(size=y.shape), requires_grad=True)
    swept = np_of(tg.autograd.grad(y, inputs, seed, retain_graph=True))
    recorded = tg.autograd.grad(y, inputs, seed, create_graph=True)
    for s, r in zip(swept, np_of(recorded), strict=True):
        np.testing.assert_allclose(r, s, rtol=1e-12, atol=1e-13)
    tangents = [rng.normal(size=a.shape) for a in arrays]
    (jvp,) = tg.autograd.grad(recorded, seed, [tg.tensor(v) for v in tangents], retain_graph=True)
    np.testing.assert_allclose(jvp.numpy(), np_jvp(theirs, arrays, tangents), rtol=1e-11, atol=1e-12)
    inner = sum((s * v).sum() for s, v in zip(swept, tangents, strict=True))
    np.testing.assert_allclose((seed.detach().numpy() * jvp.numpy()).sum(), inner, rtol=1e-11, atol=1e-12)


@every_case
def test_case_has_the_second_derivative_of_differences(case: Case):
    """Along v, of <u, f>: the gradient's directional derivative against central differences of the gradient."""
    ours, _, _ = case
    arrays, rng, h = points(case, 5), np.random.default_rng(6), 1e-6
    tangents = [rng.normal(size=a.shape) for a in arrays]
    seed = tg.tensor(rng.normal(size=ours(*map(tg.tensor, arrays)).shape))

    def gradient(t: float) -> list[np.ndarray]:
        inputs = tg_leaves([a + t * v for a, v in zip(arrays, tangents, strict=True)])
        return np_of(tg.autograd.grad(ours(*inputs), inputs, seed))

    inputs = tg_leaves(arrays)
    first = tg.autograd.grad(ours(*inputs), inputs, seed, create_graph=True)
    along = sum(((g * tg.tensor(v)).sum() for g, v in zip(first, tangents, strict=True)), tg.zeros(()))
    second: Any = [None] * len(inputs)
    if along.requires_grad:
        second = tg.autograd.grad(along, inputs, allow_unused=True)
    for s, ahead, behind in zip(second, gradient(h), gradient(-h), strict=True):
        found = np.zeros(ahead.shape) if s is None else s.numpy()
        np.testing.assert_allclose(found, (ahead - behind) / (2 * h), rtol=1e-6, atol=1e-7)


def test_every_operation_with_a_derivative_is_tested():
    tested = {op.opcode for op in DIFFERENTIABLE}
    for case in CASES.values():
        inputs = tg_leaves(points(case, 7))
        y = case[0](*inputs)
        seed = tg.ones(*y.shape, requires_grad=True)
        first = tg.autograd.grad(y, inputs, seed, create_graph=True)
        again = tg.autograd.grad(first, seed, [tg.ones_like(g) for g in first], create_graph=True)
        tested |= set(tg.current_tape().row_array()["opcode"].tolist())
        del again
    public = [op for op in OPS if op.is_public and not isinstance(op, Host) and not is_cast(op)]
    missing = [op for op in public if (isinstance(op, Layout) or any(op.partials)) and op.opcode not in tested]
    # See test_linalg.py, test_decompositions.py, test_nn_functional.py, test_scattering.py, test_special.py.
    elsewhere = (
        factorization, spectral, orthogonal, pivoted, matrix_exponential, attention, convolution, normalisation,
        windows, indexing, sampling, distances,
    )  # fmt: skip
    there = {op.opcode for module in elsewhere for op in vars(module).values() if isinstance(op, Op)}
    others = {"detach", "igamma", "igammac", "nextafter"}
    assert [op.name for op in missing if op.name not in others and op.opcode not in there] == []


def test_the_slopes_of_neighbours_are_one_and_zero_but_for_the_number_itself():
    a, b = (tg.tensor(values, requires_grad=True) for values in ([1.0, -2.0, 0.0], [2.0, -3.0, 0.0]))
    y = tg.nextafter(a, b)
    assert y.tolist() == np.nextafter([1.0, -2.0, 0.0], [2.0, -3.0, 0.0]).tolist()
    assert [g.tolist() for g in tg.autograd.grad(y.sum(), (a, b))] == [[1.0, 1.0, 0.0], [0.0] * 3]


@pytest.mark.parametrize("number", [2**40, -(2**40), 2**31, -(2**31) - 1, 2**63 - 1])
def test_integers_are_compared_with_numbers_beyond_their_dtype(number: int):
    values = [-(2**31), -1, 0, 2**31 - 1]
    x = tg.tensor(values, dtype=tg.int32)
    for compare in (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne):
        assert compare(x, number).tolist() == [compare(v, number) for v in values]
    for compare in (np.less, np.equal):
        assert compare(number, x).tolist() == [bool(compare(number, v)) for v in values]


# --- what families promise --------------------------------------------------------------------------------------------

MADE = [op for op in OVER if op.form is not None]


@by_name(MADE)
@pytest.mark.parametrize("dtype", [*INTEGERS, tg.bool], ids=repr)
def test_dtypes_over_dimensions(op: OverDimensions, dtype: Any):
    array = np.array([[3, -1, 0], [2, 0, 1]]).astype(dtype.numpy)
    x, function = tg.tensor(array), getattr(tg, op.name)
    if op.operand == REFUSED or dtype.name in op.refuses:
        with pytest.raises(RuntimeError, match=op.name):
            function(x, 1)
        return
    result = function(x, 1)
    done = {TRUTH: tg.bool, SUMMED: tg.int64, CONVERTED: tg.float64}.get(op.operand, dtype)
    assert result.dtype is dtypes.DTYPES[op.signature(done.code)[-1]]
    np.testing.assert_allclose(result.tolist(), theirs_of(op)(array.astype(done.numpy), axis=1), rtol=1e-15)


@by_name([op for op in MADE if "dtype" in inspect.signature(op.form).parameters])
def test_another_dtype_over_dimensions(op: OverDimensions):
    array = np.array([[3, -1, 2], [2, 0, 1]])
    result = getattr(tg, op.name)(tg.tensor(array), 0, dtype=tg.float32)
    assert result.dtype is tg.float32
    np.testing.assert_allclose(result.tolist(), theirs_of(op)(array.astype(np.float32), axis=0), rtol=1e-6)


@by_name([op for op in MADE if op.reference])
@over_floats
def test_edge_points_over_dimensions_are_as_in_numpy(op: OverDimensions, dtype: Any):
    nan, inf = math.nan, math.inf
    array = np.array([[1.0, nan, 3.0], [inf, 2.0, -inf], [-inf, -inf, -inf], [0.0, -0.0, 0.0], [1e-30, -1e30, 1.0]])
    array = array.astype(dtype.numpy)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(getattr(tg, op.name)(tg.tensor(array), 1).tolist(), op.reference(array, axis=1))


@by_name([op for op in MADE if op.reference])
def test_numpys_function_over_dimensions_records(op: OverDimensions):
    array = np.random.default_rng(0).uniform(0.3, 1.5, SHAPE)
    x = tg.tensor(array, requires_grad=True)
    for axis in (None, 0, -1):
        result = op.reference(x, axis=axis)
        assert isinstance(result, tg.Tensor)
        assert result.requires_grad == any(op.partials)
        np.testing.assert_allclose(result.tolist(), op.reference(array, axis=axis), rtol=1e-14)


@by_name([op for op in DRAWN if op.scipy])
def test_scipys_function_records(op: Elementwise):
    function, arrays = getattr(scipy.special, op.scipy), draw(op, 8, tg.float64)
    result = function(*leaves(op, arrays))
    assert isinstance(result, tg.Tensor)
    assert result.requires_grad == any(op.partials)
    np.testing.assert_allclose(result.tolist(), function(*arrays), rtol=1e-13, atol=1e-15)


@by_name([op for op in OPS if isinstance(op, Array) and op.call is not None and op.reference])
def test_numpys_array_function_records(op: Array):
    for arguments, *shapes in op.examples:
        arrays = [np.random.default_rng(0).uniform(0.3, 1.5, shape) for shape in shapes]
        operands = tg_leaves(arrays)
        result = op.reference(*operands, *arguments)
        assert isinstance(result, tg.Tensor)
        assert result.requires_grad == any(op.partials)
        np.testing.assert_allclose(result.tolist(), op.reference(*arrays, *arguments), rtol=1e-14)


@by_name([op for op in OPS if isinstance(op, Array) and op.call is not None])
@pytest.mark.parametrize("dtype", INTEGERS, ids=repr)
def test_array_operations_on_integers(op: Array, dtype: Any):
    for arguments, *shapes in op.examples:
        arrays = [np.arange(math.prod(shape)).reshape(shape).astype(dtype.numpy) - 3 for shape in shapes]
        result = getattr(tg, op.name)(*map(tg.tensor, arrays), *arguments)
        assert result.dtype is (tg.int64 if op.operand == SUMMED else dtype)
        np.testing.assert_array_equal(result.tolist(), theirs_of(op)(*arrays, *arguments))


@by_name([op for op in OPS if op.is_public and op.aliases])
def test_other_names_are_the_same_function(op: Op):
    for alias in op.aliases:
        assert getattr(tg, alias) is getattr(tg, op.name)
        assert hasattr(tg.Tensor, alias)
