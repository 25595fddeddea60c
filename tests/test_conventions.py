"""Derivatives at kinks, ties and edges: the table of conventions in `tapegrad.ops`.

What was not taken leaves no nan: a zero in the products of the chain rule makes them zero, whatever the other factor.
Each convention is met by the compiled sweep (of scalars, short and long vectors), by its recording, and in forward
mode; the three agree for every operation of the table at its edge points.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tapegrad as tg
from tapegrad.ops.declare import ELEMENTWISE, OPS, Op

inf, nan = math.inf, math.nan
over_floats = pytest.mark.parametrize("dtype", [tg.float64, tg.float32], ids=repr)


def gradients(function: Callable[..., Any], x: np.ndarray, dtype: Any) -> dict[str, np.ndarray]:
    """The derivative of the sum, taken in three ways, and what its own sum has."""
    swept = tg.tensor(x, dtype=dtype, requires_grad=True)
    function(swept).sum().backward()
    leaf = tg.tensor(x, dtype=dtype, requires_grad=True)
    (recorded,) = tg.autograd.grad(function(leaf).sum(), leaf, create_graph=True)
    second = tg.zeros_like(leaf)
    if recorded.requires_grad:
        (second,) = tg.autograd.grad(recorded.sum(), leaf, materialize_grads=True)
    return {"swept": swept.grad.numpy(), "recorded": recorded.detach().numpy(), "second": second.numpy()}


def along(function: Callable[..., Any], x: np.ndarray, dtype: Any) -> np.ndarray:
    """The product of the Jacobian with a vector of ones."""
    t = tg.tensor(x, dtype=dtype)
    return tg.func.jvp(function, (t,), (tg.ones_like(t),))[1].numpy()


# --- what was not taken -----------------------------------------------------------------------------------------------

# function, points, first and second derivatives there
MASKED: dict[str, tuple[Callable[..., Any], list[float], list[float], list[float]]] = {
    "sqrt(relu(x))": (lambda x: tg.sqrt(tg.relu(x)), [-1, 0, 4], [0, 0, 0.25], [0, 0, -1 / 32]),
    "clamp(x, min=0) ** .5": (lambda x: tg.clamp(x, min=0) ** 0.5, [-1, 4], [0, 0.25], [0, -1 / 32]),
    "log(maximum(x, 0))": (lambda x: tg.log(tg.maximum(x, tg.zeros_like(x))), [-1, 2], [0, 0.5], [0, -0.25]),
    "1 / masked_fill": (lambda x: 1 / x.masked_fill(x < 0, 0.0), [-1, 2], [0, -0.25], [0, 0.25]),
    "where(x > 0, sqrt(x), 0)": (lambda x: tg.where(x > 0, tg.sqrt(x), 0.0), [-1, 0, 4], [0, 0, 0.25], [0, 0, -1 / 32]),
    "where(x > 0, log(x), 0)": (lambda x: tg.where(x > 0, tg.log(x), 0.0), [-1, 0, 2], [0, 0, 0.5], [0, 0, -0.25]),
    "where(x > 0, x ** -1.5, 0)": (
        lambda x: tg.where(x > 0, x**-1.5, 0.0), [-1, 0, 1], [0, 0, -1.5], [0, 0, 3.75]
    ),
    "sin(x) / x": (
        lambda x: tg.where(x == 0, 1.0, tg.sin(x) / x),
        [0, 1],
        [0, math.cos(1) - math.sin(1)],
        [0, -math.sin(1) - 2 * (math.cos(1) - math.sin(1))],
    ),
    "sqrt(0 x)": (lambda x: tg.sqrt(x * 0.0), [-1, 0, 1], [0, 0, 0], [0, 0, 0]),
    "0 sqrt(x)": (lambda x: tg.sqrt(x) * 0.0, [0, 1], [0, 0], [0, 0]),
    "sqrt(floor(x))": (lambda x: tg.sqrt(tg.floor(x)), [0.5, 1.5], [0, 0], [0, 0]),
    "x sqrt(x)": (lambda x: x * tg.sqrt(x), [0, 4], [0, 3], [inf, 0.375]),
    "x ** 3": (lambda x: x**3, [0, 2], [0, 12], [0, 12]),
    "sqrt(x)": (lambda x: tg.sqrt(x), [0, 4], [inf, 0.25], [-inf, -1 / 32]),  # infinite it stays
}  # fmt: skip


@pytest.mark.parametrize("name", MASKED)
@pytest.mark.parametrize("n", [1, 5000])
@over_floats
def test_what_was_not_taken_leaves_no_nan(name: str, n: int, dtype: Any):
    function, points, first, second = MASKED[name]
    x = np.tile(np.array(points, float), n)
    found = gradients(function, x, dtype)
    rtol = 1e-14 if dtype is tg.float64 else 2e-6
    np.testing.assert_allclose(found["swept"], np.tile(first, n), rtol=rtol)
    np.testing.assert_allclose(found["recorded"], np.tile(first, n), rtol=rtol)
    np.testing.assert_allclose(found["second"], np.tile(second, n), rtol=rtol, atol=rtol)
    np.testing.assert_allclose(along(function, x, dtype), np.tile(first, n), rtol=rtol)


@pytest.mark.parametrize("name", MASKED)
@over_floats
def test_scalars_too(name: str, dtype: Any):
    function, points, first, second = MASKED[name]
    for x, slope, curvature in zip(points, first, second, strict=True):
        found = gradients(function, np.float64(x), dtype)
        rtol = 1e-14 if dtype is tg.float64 else 2e-6
        np.testing.assert_allclose([found["swept"], found["recorded"]], slope, rtol=rtol)
        np.testing.assert_allclose(found["second"], curvature, rtol=rtol, atol=rtol)


def test_what_is_not_indexed():
    x = tg.tensor([0.0, 4.0], requires_grad=True)
    (tg.sqrt(x)[1:].sum() + tg.log(x)[tg.tensor([1])].sum()).backward()
    assert x.grad.tolist() == [0.0, 0.5]


def test_a_zero_adjoint_does_not_hide_higher_derivatives():
    """A product that is zero has derivatives by both of its factors."""
    x = tg.tensor([0.0, 1.0], requires_grad=True)
    g = (x**4 + x**3 * tg.sin(x)).sum()
    for true in ([0.0, 4 + 3 * math.sin(1) + math.cos(1)], None, None, [48.0, None]):
        (g,) = tg.autograd.grad(g.sum(), x, create_graph=True)
        for k, expected in enumerate(true or ()):
            if expected is not None:
                assert g[k].item() == pytest.approx(expected, rel=1e-12)
    hessian = tg.func.hessian(lambda x: ((x - 1) ** 2).sum() * (x[0] - 1) + (x[0] * x[1] - 1) ** 2)(tg.ones(2))
    assert hessian.tolist() == [[2.0, 2.0], [2.0, 2.0]]


# Rows whose results, or partials, are not finite; and others.
NOT_USED: dict[str, tuple[Callable[..., Any], list[list[float]]]] = {
    "logsumexp": (lambda x: tg.logsumexp(x, 1), [[-inf, -inf], [1.0, 2.0], [inf, 1.0]]),
    "softmax": (lambda x: tg.softmax(x, 1), [[-inf, -inf], [1.0, 2.0], [inf, 1.0]]),
    "log_softmax": (lambda x: tg.log_softmax(x, 1), [[-inf, -inf], [1.0, 2.0], [nan, 1.0]]),
    "norm": (lambda x: x.norm(dim=1), [[inf, inf], [3.0, 4.0], [nan, 1.0]]),
    "norm3": (lambda x: x.norm(3, dim=1), [[inf, inf], [3.0, 4.0], [nan, 1.0]]),
    "prod": (lambda x: x.prod(1), [[inf, inf], [3.0, 4.0], [nan, 0.0]]),
    "var": (lambda x: x.var(1), [[inf, inf], [3.0, 4.0], [nan, 1.0]]),
    "std": (lambda x: x.std(1), [[inf, inf], [3.0, 4.0], [nan, 1.0]]),
    "amax": (lambda x: x.amax(1), [[nan, inf], [3.0, 4.0], [nan, 1.0]]),
    "mean": (lambda x: (1 / x).mean(1), [[0.0, 0.0], [3.0, 4.0], [nan, 1.0]]),
    "logdet": (
        lambda x: tg.linalg.slogdet(tg.stack([x, x[:, tg.tensor([1, 0])]], 1))[1],
        [[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]],
    ),
}


@pytest.mark.parametrize("name", NOT_USED)
@pytest.mark.parametrize("across", [False, True])
@over_floats
def test_rows_that_are_not_used_have_gradients_of_zero(name: str, across: bool, dtype: Any):
    function, rows = NOT_USED[name]
    whole, used = (tg.tensor(v, dtype=dtype, requires_grad=True) for v in (rows, rows[1:2]))
    if across:  # the same axis, not a run of memory
        function, straight = (lambda x: straight(x.T.contiguous().T)), function
    weights = tg.tensor([1.0, 3.0], dtype=dtype)
    (function(whole)[1:2].reshape(-1, 1) * weights).sum().backward()
    (function(used).reshape(-1, 1) * weights).sum().backward()
    np.testing.assert_array_equal(whole.grad[0].tolist(), [0.0, 0.0])
    np.testing.assert_array_equal(whole.grad[2].tolist(), [0.0, 0.0])
    np.testing.assert_allclose(whole.grad[1].tolist(), used.grad[0].tolist(), rtol=1e-6)
    if name != "logdet":
        loss = (function(whole)[1:2].reshape(-1, 1) * weights).sum()
        (recorded,) = tg.autograd.grad(loss, whole, create_graph=True)
        np.testing.assert_allclose(recorded.tolist(), whole.grad.tolist(), rtol=1e-5)


# --- the three ways agree ---------------------------------------------------------------------------------------------


def edges(op: Op) -> list[tuple[float, ...]]:
    """All combinations of the edge points of an operation's operands and a few others."""
    return list(itertools.product(*((-1.0, 0.5, 1.0, 2.0, *domain.edges) for domain in op.domain)))


@pytest.mark.parametrize(
    "op", [op for op in OPS if op.family == ELEMENTWISE and op.domain and any(op.partials)], ids=lambda op: op.name
)
@over_floats
def test_sweep_recording_and_forward_mode_agree_at_edges(op: Op, dtype: Any):
    columns = [np.array(column) for column in zip(*edges(op), strict=True)]
    for k, rule in enumerate(op.partials):
        if rule is None:
            continue
        others = [
            tg.tensor(c > 0 if op.dtype_operand and j == 0 else c.astype(dtype.numpy)) for j, c in enumerate(columns)
        ]

        def function(x: Any, k: int = k, others: list[Any] = others) -> Any:
            return op(*others[:k], x, *others[k + 1 :])

        found = gradients(function, columns[k], dtype)
        eps = 8 * np.finfo(dtype.numpy).eps
        np.testing.assert_allclose(found["recorded"], found["swept"], rtol=eps)
        np.testing.assert_allclose(along(function, columns[k], dtype), found["swept"], rtol=eps)


SPECIAL: dict[str, tuple[Callable[..., Any], list[list[float]]]] = {
    **{
        f"norm {p}": (
            lambda x, p=p: x.norm(p), [[0.0, 0.0, 0.0], [0.0, 1.0, 2.0], [1.0, -1.0, 1.0], [0.0], [-2.0, 2.0, 0.0]]
        )
        for p in (0, 0.5, 1, 1.5, 2, 3, inf, -inf, -1)
    },
    "std": (lambda x: x.std(), [[1.0, 1.0, 1.0], [0.0, 0.0], [1.0, 2.0]]),
    "var": (lambda x: x.var(), [[1.0, 1.0, 1.0], [0.0, 0.0], [1.0, 2.0]]),
    "std of one": (lambda x: x.std(correction=0), [[1.0], [0.0]]),
    "prod": (lambda x: x.prod(), [[0.0, 0.0, 1.0], [0.0, 2.0, 3.0], [1.0, 2.0, 3.0], [0.0]]),
    "amax": (lambda x: x.amax(), [[1.0, 1.0, 0.0], [2.0, 1.0, 2.0], [1.0]]),
    "amin": (lambda x: x.amin(), [[1.0, 1.0, 0.0], [2.0, 1.0, 2.0], [1.0]]),
    "max": (lambda x: x.max(), [[1.0, 1.0, 0.0], [2.0, 1.0, 2.0]]),
    "max along": (lambda x: x.max(0).values, [[1.0, 1.0, 0.0], [2.0, 1.0, 2.0]]),
    "logsumexp": (lambda x: tg.logsumexp(x, 0), [[0.0, 0.0], [-inf, 0.0], [-1000.0, 1000.0]]),
    "softmax": (lambda x: tg.softmax(x, 0), [[0.0, 0.0], [-inf, 0.0], [-1000.0, 1000.0]]),
    "log_softmax": (lambda x: tg.log_softmax(x, 0), [[0.0, 0.0], [-1000.0, 1000.0]]),
    "maximum": (lambda x: tg.maximum(x, x[tg.tensor([1, 0])]), [[1.0, 1.0], [1.0, 2.0]]),
}  # fmt: skip


@pytest.mark.parametrize("name", SPECIAL)
def test_jacobians_of_both_modes_agree_at_special_points(name: str):
    function, points = SPECIAL[name]
    for point in points:
        x = tg.tensor(point)
        reverse, forward = tg.func.jacrev(function)(x), tg.func.jacfwd(function)(x)
        np.testing.assert_allclose(forward.tolist(), reverse.tolist(), rtol=1e-14, err_msg=str(point))
        assert np.isfinite(reverse.numpy()).all(), point


def test_the_standard_deviation_has_a_kink_where_all_are_equal():
    """Reverse mode and forward mode give 0 there, so that other terms stay (pytorch/pytorch#4320)."""
    for mode in (tg.func.jacrev, tg.func.jacfwd):
        assert mode(lambda x: x.std() + x.sum())(tg.ones(3)).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("p", "x", "slope"),
    [
        (0.5, [0.0, 1.0, 2.0], [0.0, 1 + math.sqrt(2), 1 + 1 / math.sqrt(2)]),
        (-1, [0.0, 1.0, 2.0], [0.0, 0.0, 0.0]),
        (1, [0.0, -3.0], [0.0, -1.0]),
        (0, [0.0, -3.0], [0.0, 0.0]),
        (2, [0.0, 0.0], [0.0, 0.0]),
        (3, [0.0, 0.0], [0.0, 0.0]),
        (inf, [2.0, -2.0, 1.0], [0.5, -0.5, 0.0]),
        (-inf, [2.0, -2.0, 3.0], [0.5, -0.5, 0.0]),
    ],
)
def test_norms_where_elements_vanish_or_tie(p: float, x: list[float], slope: list[float]):
    found = gradients(lambda x: x.norm(p), np.array(x), tg.float64)
    np.testing.assert_allclose(found["swept"], slope, rtol=1e-14)
    np.testing.assert_allclose(found["recorded"], slope, rtol=1e-14)
