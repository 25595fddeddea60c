"""`tapegrad.nn.functional` by its mathematics: definitions in NumPy, derivatives by complex steps, extremes by mpmath.

What PyTorch gives for the same calls is compared in `tests/parity/test_nn_functional*.py`.
"""

import itertools
import math
import warnings
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

import tapegrad as tg
import tapegrad.nn.functional as F
from tapegrad.nn.functional.mapping import along, matrix_of_rows
from tapegrad.ops import convolution, normalisation, windows
from tapegrad.ops.declare import Op


def reals(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-2, 2, shape)


def gradients(call: Callable[..., Any], *arrays: np.ndarray, dtype: str = "float64") -> tuple[np.ndarray, ...]:
    """The value and the gradients of its weighted sum, by the compiled sweep; recorded ones must be the same."""
    inputs = [tg.tensor(a, dtype=dtype, requires_grad=True) for a in arrays]
    y = call(*inputs)
    seed = tg.tensor(weights(y.shape), dtype=dtype)
    found = tg.autograd.grad(y, inputs, seed, retain_graph=True)
    recorded = tg.autograd.grad(y, inputs, seed, create_graph=True)
    for g, again in zip(found, recorded, strict=True):
        rtol = 1e-12 if dtype == "float64" else 1e-5
        scale = abs(g.numpy()).max(initial=0, where=np.isfinite(g.numpy()))  # what cancels
        np.testing.assert_allclose(again.detach().numpy(), g.numpy(), rtol=rtol, atol=rtol * scale / 10)
    return y.detach().numpy(), *(g.numpy() for g in found)


def weights(shape: tuple[int, ...]) -> np.ndarray:
    return (1 + np.arange(math.prod(shape)) % 13 / 7).reshape(shape)


def by_complex_steps(call: Callable[..., Any], *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    """The same of a NumPy function: the imaginary part of f(x + ih) / h is exact to the last digits."""
    value = call(*arrays)
    found = []
    for k, array in enumerate(arrays):
        gradient = np.zeros(array.shape)
        for i in np.ndindex(array.shape):
            stepped = [a.astype(complex) for a in arrays]
            stepped[k][i] += 1e-30j
            gradient[i] = (call(*stepped).imag * weights(value.shape)).sum() / 1e-30
        found.append(gradient)
    return value, *found


def compare(ours: Callable[..., Any], theirs: Callable[..., Any], *arrays: np.ndarray) -> None:
    expected = by_complex_steps(theirs, *arrays)
    for dtype, tolerance in (("float64", 1e-12), ("float32", 2e-5)):
        for got, wanted in zip(gradients(ours, *arrays, dtype=dtype), expected, strict=True):
            np.testing.assert_allclose(
                got, wanted, rtol=tolerance, atol=tolerance * max(1, np.abs(wanted).max(initial=1))
            )


# --- convolution ------------------------------------------------------------------------------------------------------

GEOMETRIES = [
    # lengths, kernel, stride, padding, dilation, groups
    ((7,), (3,), (2,), (1,), (2,), 1),
    ((5, 4), (3, 3), (1, 1), (1, 1), (1, 1), 1),  # planes are runs of memory
    ((5, 4), (2, 3), (1, 1), (0, 1), (2, 1), 2),
    ((4, 6), (1, 1), (1, 1), (0, 0), (1, 1), 2),
    ((3, 3), (2, 2), (3, 1), (4, 2), (1, 3), 1),  # windows that lie outside
    ((3, 4, 2), (2, 2, 2), (1, 2, 1), (1, 0, 1), (1, 1, 1), 1),
]


def convolved(x: np.ndarray, w: np.ndarray, stride: Any, padding: Any, dilation: Any, groups: int) -> np.ndarray:
    """The definition, window by window."""
    padded = np.pad(x, ((0, 0), (0, 0), *((q, q) for q in padding)))
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, w.shape[2:], strict=True)]
    m = [(n - s) // step + 1 for n, s, step in zip(padded.shape[2:], spans, stride, strict=True)]
    out, of_group = w.shape[0] // groups, w.shape[1]
    y = np.zeros((x.shape[0], w.shape[0], *m), np.result_type(x, w))
    for i in itertools.product(*map(range, m)):
        places = tuple(
            slice(a * step, a * step + s, d) for a, step, s, d in zip(i, stride, spans, dilation, strict=True)
        )
        window = padded[(slice(None), slice(None), *places)]
        for g in range(groups):
            part, filters = window[:, g * of_group : (g + 1) * of_group], w[g * out : (g + 1) * out]
            axes = tuple(range(1, part.ndim))
            y[(slice(None), slice(g * out, (g + 1) * out), *i)] = np.tensordot(part, filters, (axes, axes))
    return y


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_convolutions_are_their_definition(geometry):
    n, k, stride, padding, dilation, groups = geometry
    function = (F.conv1d, F.conv2d, F.conv3d)[len(n) - 1]
    compare(
        lambda x, w: function(x, w, None, stride, padding, dilation, groups),
        lambda x, w: convolved(x, w, stride, padding, dilation, groups),
        reals(2, 4, *n), reals(2 * groups, 4 // groups, *k, seed=1),
    )  # fmt: skip


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_transposed_convolutions_are_adjoints(geometry):
    """<y, conv(x, w)> = <conv_transpose(y, w), x>"""
    n, k, stride, padding, dilation, groups = geometry
    function = (F.conv1d, F.conv2d, F.conv3d)[len(n) - 1]
    transposed = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[len(n) - 1]
    x, w = tg.tensor(reals(2, 4, *n)), tg.tensor(reals(2 * groups, 4 // groups, *k, seed=1))
    y = function(x, w, None, stride, padding, dilation, groups)
    seed = tg.tensor(reals(*y.shape, seed=2))
    shortest = [
        (m - 1) * s - 2 * q + d * (length - 1) + 1
        for m, s, q, d, length in zip(y.shape[2:], stride, padding, dilation, k, strict=True)
    ]
    more = [own - least for own, least in zip(n, shortest, strict=True)]
    back = transposed(seed, w, None, stride, padding, more, groups, dilation)
    assert back.shape == x.shape
    assert (seed * y).sum().item() == pytest.approx((back * x).sum().item(), rel=1e-12)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_derivatives_of_convolutions_are_those_of_a_form_that_is_linear_in_each(geometry):
    """With T(x, w, u) = <u, conv(x, w)>: the derivative by w of its derivative by x along v is that of T(v, w, u)."""
    n, k, stride, padding, dilation, groups = geometry
    function = (F.conv1d, F.conv2d, F.conv3d)[len(n) - 1]

    def conv(x, w):
        return function(x, w, None, stride, padding, dilation, groups)

    x, v = (tg.tensor(reals(2, 4, *n, seed=s), requires_grad=True) for s in (0, 1))
    w, h = (tg.tensor(reals(2 * groups, 4 // groups, *k, seed=s), requires_grad=True) for s in (2, 3))
    y = conv(x, w)
    u = tg.tensor(reals(*y.shape, seed=4), requires_grad=True)
    by_x, by_w = tg.autograd.grad((u * y).sum(), [x, w], create_graph=True)
    found = tg.autograd.grad((by_x * v).sum(), [w, u], retain_graph=True)
    expected = tg.autograd.grad((u * conv(v, w)).sum(), [w, u])
    for g, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(g.numpy(), wanted.numpy(), rtol=1e-10, atol=1e-12)
    found = tg.autograd.grad((by_w * h).sum(), [x, u], create_graph=True)
    expected = tg.autograd.grad((u * conv(x, h)).sum(), [x, u])
    for g, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(g.detach().numpy(), wanted.numpy(), rtol=1e-10, atol=1e-12)
    (third,) = tg.autograd.grad((found[0] * v).sum(), [u])  # of T(v, h, u), by u
    np.testing.assert_allclose(third.numpy(), conv(v, h).detach().numpy(), rtol=1e-10, atol=1e-12)


def test_unfold_and_fold_are_adjoints():
    x = tg.tensor(reals(2, 3, 5, 6), requires_grad=True)
    facts = {"kernel_size": (2, 3), "dilation": (2, 1), "padding": (1, 2), "stride": (1, 2)}
    y = F.unfold(x, **facts)
    seed = tg.tensor(reals(*y.shape, seed=1), requires_grad=True)
    back = F.fold(seed, (5, 6), **facts)
    assert (seed * y).sum().item() == pytest.approx((back * x).sum().item(), rel=1e-12)
    (g,) = tg.autograd.grad((seed * y).sum(), [x])
    np.testing.assert_array_equal(g.numpy(), back.detach().numpy())
    (g,) = tg.autograd.grad((x * back).sum(), [seed])
    np.testing.assert_array_equal(g.numpy(), y.detach().numpy())


# --- linear maps, largest elements, rows ------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 5), (5,), (2, 5, 4), (1, 5, 256), (2, 0, 5, 3)])
def test_maps_along_an_axis_are_products_with_a_matrix(shape):
    dim = shape.index(5)
    rng = np.random.default_rng(0)
    dense = rng.uniform(-1, 1, (4, 5)) * (rng.random((4, 5)) < 0.5)
    dense[2] = 0  # an empty row, and a column
    dense[:, 1] = 0
    columns = [np.flatnonzero(row) for row in dense]
    matrix = matrix_of_rows(columns, [row[c] for row, c in zip(dense, columns, strict=True)], 5)
    x = reals(*shape)
    ours = gradients(lambda t: along(t, dim, matrix), x)
    np.testing.assert_allclose(ours[0], np.moveaxis(np.moveaxis(x, dim, -1) @ dense.T, -1, dim), rtol=1e-13, atol=1e-14)
    seed = np.moveaxis(weights(ours[0].shape), dim, -1)
    np.testing.assert_allclose(ours[1], np.moveaxis(seed @ dense, -1, dim), rtol=1e-13, atol=1e-14)


def test_sums_of_windows_of_float32_are_float64_until_they_are_complete():
    x = np.full((1, 1000), 0.1, np.float32)
    mean = F.avg_pool1d(tg.tensor(x), 1000)
    assert mean.item() == np.float32(x.astype(np.float64).mean())
    rows = tg.ones(3, 2, dtype=tg.float32, requires_grad=True)
    seed = tg.tensor(np.concatenate([[[1e8, 1.0]], np.ones((1000, 2))]).astype(np.float32))
    (g,) = tg.autograd.grad(F.embedding(tg.tensor([1] * 1001), rows), [rows], seed)
    np.testing.assert_array_equal(g.numpy()[1], np.float32([1e8 + 1000, 1001]))


@pytest.mark.parametrize("threads", [1, 2])
def test_results_are_the_same_with_any_number_of_threads(threads):
    before = tg.get_num_threads()
    x = reals(40, 8, 30, 30)
    try:
        found = []
        for n in (1, threads):
            tg.set_num_threads(n)
            found.append(
                gradients(lambda t: F.max_pool2d(F.avg_pool2d(F.pad(t, (1, 1, 1, 1), mode="reflect"), 3, 1), 2), x)
            )
    finally:
        tg.set_num_threads(before)
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_every_operation_with_a_derivative_is_tested():
    x, w = tg.tensor(reals(1, 2, 4, 4), requires_grad=True), tg.tensor(reals(2, 2, 2, 2), requires_grad=True)
    table = tg.tensor(reals(3, 2), requires_grad=True)
    y = F.conv2d(x, w).sum() ** 2 + (F.unfold(x, 2) ** 2).sum() + (F.avg_pool2d(x, 2) ** 2).sum()
    y = y + (F.embedding(tg.tensor([1, 1]), table) ** 2).sum() + (F.layer_norm(x, (4,)) ** 3).sum()
    y = y + (F.batch_norm(x, None, None, training=True) ** 3).sum()
    first = tg.autograd.grad(y, [x, w, table], create_graph=True)
    again = tg.autograd.grad(sum((g * g).sum() for g in first), [x, w, table], create_graph=True)
    recorded = set(tg.current_tape().row_array()["opcode"].tolist())
    ops = [op for module in (convolution, normalisation, windows) for op in vars(module).values() if isinstance(op, Op)]
    assert [op.name for op in ops if any(op.partials) and op.opcode not in recorded] == []
    del again


# --- normalisation ----------------------------------------------------------------------------------------------------


def standardized(x: np.ndarray, eps: float = 1e-5) -> np.ndarray:
    deviation = x - x.mean(-1, keepdims=True)
    return deviation / np.sqrt((deviation * deviation).mean(-1, keepdims=True) + eps)


@pytest.mark.parametrize("shape", [(3, 5), (2, 1), (2, 3, 40)])
def test_normalisation_is_its_definition(shape):
    compare(lambda x: F.layer_norm(x, shape[-1:]), standardized, reals(*shape))
    compare(
        lambda x, w, b: F.layer_norm(x, shape[-1:], w, b), lambda x, w, b: standardized(x) * w + b,
        reals(*shape), reals(shape[-1], seed=1), reals(shape[-1], seed=2),
    )  # fmt: skip


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_group_normalisation_is_its_definition(groups):
    """A unit has several channels of several elements; with a group a channel it is instance normalisation."""

    def exact(x, w, b):
        rows = standardized(x.reshape(x.shape[0], groups, -1)).reshape(x.shape)
        return rows * w.reshape(-1, 1, 1) + b.reshape(-1, 1, 1)

    arrays = reals(2, 6, 5, 3), reals(6, seed=1), reals(6, seed=2)
    compare(lambda x, w, b: F.group_norm(x, groups, w, b), exact, *arrays)
    if groups == 6:
        compare(lambda x, w, b: F.instance_norm(x, weight=w, bias=b), exact, *arrays)


def test_rows_that_are_not_taken_leave_no_nan():
    for dtype in ("float64", "float32"):
        x = tg.tensor([[1.0, 2.0, 4.0], [math.nan, math.inf, 0.0]], dtype=dtype, requires_grad=True)
        w, b = (tg.ones(3, dtype=dtype, requires_grad=True) for _ in range(2))
        F.layer_norm(x, (3,), w, b)[0].sum().backward()
        assert x.grad.isfinite().all()
        assert w.grad.isfinite().all()
        assert b.grad.tolist() == [1.0, 1.0, 1.0]
        assert x.grad[1].tolist() == [0.0, 0.0, 0.0]


def test_normalisation_keeps_large_means():
    noise = np.random.default_rng(0).standard_normal((4, 300))
    for dtype, mean, tolerance in (("float64", 1e9, 1e-12), ("float32", 1e4, 1e-5)):
        x = (noise + mean).astype(dtype)
        exact = standardized((x.astype(np.longdouble) - mean), 1e-5).astype(np.float64)
        for function in (
            lambda t: F.layer_norm(t, (300,)),
            lambda t: F.instance_norm(t.unsqueeze(0))[0],
            lambda t: F.batch_norm(t.T, None, None, training=True).T,
        ):
            np.testing.assert_allclose(function(tg.tensor(x)).numpy(), exact, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("shape", [(7, 3), (300, 270), (3, 4, 1100)])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_moments_of_channels_that_begin_unlike_they_go_on(shape, dtype):
    """The mean of the first elements is far from that of all, or squares underflow: sums are taken anew."""
    noise = np.random.default_rng(0).standard_normal(shape)
    noise[0] += 1e4
    for x in (noise, noise * 1e-18, np.zeros(shape)):
        x = x.astype(dtype)
        running = [tg.zeros(shape[1], dtype=dtype) for _ in range(2)]
        F.batch_norm(tg.tensor(x), *running, training=True, momentum=1.0)
        rows = np.moveaxis(x, 1, 0).reshape(shape[1], -1).astype(np.longdouble)
        tolerance = 1e-13 if dtype == "float64" else 1e-6
        for found, exact in zip(running, (rows.mean(1), rows.var(1, ddof=1)), strict=True):
            np.testing.assert_allclose(found.numpy(), exact.astype(dtype), rtol=tolerance)


@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 7), (2, 2100)])
def test_batch_normalisation_is_its_definition(shape):
    n, (x, w, b) = shape[1], (reals(*shape), reals(shape[1], seed=1), reals(shape[1], seed=2))

    def channels(t):
        return t.reshape(-1, *(1,) * (len(shape) - 2))

    def exact(x, w, b):
        rows = standardized(np.moveaxis(x, 1, 0).reshape(n, -1)).reshape(n, shape[0], *shape[2:])
        return np.moveaxis(rows, 0, 1) * channels(w) + channels(b)

    if n < 100:
        compare(lambda x, w, b: F.batch_norm(x, None, None, w, b, True), exact, x, w, b)
    else:  # two points, whose gradient is next to nothing
        np.testing.assert_allclose(
            F.batch_norm(*map(tg.tensor, (x,)), None, None, training=True).numpy(),
            exact(x, np.ones(n), np.zeros(n)),
            rtol=1e-9,
        )
    of_mean, of_variance = (tg.tensor(reals(n, seed=k) ** 2 + 0.5) for k in (3, 4))
    compare(
        lambda x, w, b: F.batch_norm(x, of_mean.to(x.dtype), of_variance.to(x.dtype), w, b),
        lambda x, w, b: (x - channels(of_mean.numpy())) / np.sqrt(channels(of_variance.numpy()) + 1e-5) * channels(w)
        + channels(b),
        x, w, b,
    )  # fmt: skip


def test_normalisation_takes_tensors_of_one_dtype():
    x, w = tg.ones(4, 3, 3), tg.ones(3, dtype=tg.float32)
    for call in (F.batch_norm, F.instance_norm):
        with pytest.raises(RuntimeError, match="mixed dtype"):
            call(x, None, None, w, None, True)
    for call in (lambda: F.layer_norm(x, (3,), w), lambda: F.group_norm(x, 3, None, w)):
        with pytest.raises(RuntimeError, match="mixed dtype"):
            call()
    assert F.rms_norm(x, (3,), w).dtype is tg.float64


# --- extremes ---------------------------------------------------------------------------------------------------------


def exactly(function: Callable[..., Any], *points: float) -> tuple[float, float]:
    """The value and the derivative by the first number, with 60 digits; -inf and inf are limits."""
    with mpmath.workdps(60):
        value = function(*map(mpmath.mpf, points))
        slope = mpmath.diff(lambda v: function(v, *map(mpmath.mpf, points[1:])), mpmath.mpf(points[0]))
        return float(value), float(slope)


def mp_softplus(v: Any) -> Any:
    return mpmath.log1p(mpmath.exp(v))


EXTREME = {
    "gelu": (F.gelu, lambda v: v * mpmath.ncdf(v)),
    "gelu tanh": (
        lambda x: F.gelu(x, approximate="tanh"),
        lambda v: v / 2 * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (v + mpmath.mpf(0.044715) * v**3))),
    ),
    "logsigmoid": (F.logsigmoid, lambda v: -mp_softplus(-v)),
    "softplus": (lambda x: F.softplus(x, threshold=1e9), mp_softplus),
    "silu": (F.silu, lambda v: v / (1 + mpmath.exp(-v))),
    "mish": (F.mish, lambda v: v * mpmath.tanh(mp_softplus(v))),
    "soft_margin": (lambda x: F.soft_margin_loss(x, tg.ones(x.shape), reduction="none"), lambda v: mp_softplus(-v)),
    "logits 1": (
        lambda x: F.binary_cross_entropy_with_logits(x, tg.ones(x.shape), reduction="none"), lambda v: mp_softplus(-v)
    ),
    "logits 0": (
        lambda x: F.binary_cross_entropy_with_logits(x, tg.zeros(x.shape), reduction="none"), lambda v: mp_softplus(v)
    ),
    "cross_entropy": (
        lambda x: F.cross_entropy(tg.stack([x, 0 * x], 1), tg.zeros(x.shape, dtype=tg.int64), reduction="none"),
        lambda v: mp_softplus(-v),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EXTREME)
def test_values_and_slopes_are_exact_at_extremes(name):
    ours, theirs = EXTREME[name]
    points = np.array([-700.0, -300.0, -36.0, -8.0, -1.0, -1e-3, 1e-8, 0.5, 3.0, 20.0, 36.0, 300.0, 700.0])
    if name.startswith("gelu"):
        points = points[(points > -30) & (points < 300)]
    if name == "cross_entropy":  # the sum of exponentials has the digits of 1
        points = points[points < 10]
    x = tg.tensor(points, requires_grad=True)
    y = ours(x)
    (slope,) = tg.autograd.grad(y.sum(), [x])
    expected = np.array([exactly(theirs, p) for p in points])
    # The argument of an exponential is rounded: what is relative to it is its size times a rounding.
    rounding = 1e-15 * np.maximum(4, np.abs(points)) if "gelu" not in name else 1e-14 * (1 + points**2)
    for got, wanted in ((y, expected[:, 0]), (slope, expected[:, 1])):
        error = np.abs(got.detach().numpy() - wanted)
        assert (error <= rounding * np.abs(wanted) + 1e-300 + 1e-16 * (np.abs(wanted) > 1e-3)).all(), (got, wanted)


def test_what_is_not_taken_leaves_no_nan():
    x = tg.tensor([-np.inf, np.inf, -1e308, 1e308], requires_grad=True)
    for function in (F.relu6, F.elu, F.selu, F.celu, F.hardswish, F.hardsigmoid, F.hardtanh, F.softplus, F.leaky_relu):
        (g,) = tg.autograd.grad(function(x).sum(), [x])
        assert np.isfinite(g.numpy()).all(), function
    q, mask = tg.tensor(reals(2, 3), requires_grad=True), tg.tensor([[True, False], [False, False]])
    y = F.scaled_dot_product_attention(q, q, q, mask)
    assert y.tolist()[1] == [0.0, 0.0, 0.0]
    assert np.isfinite(tg.autograd.grad(y.sum(), [q])[0].numpy()).all()
    x = tg.tensor([[1.0, -np.inf], [0.0, 1.0]], requires_grad=True)
    loss = F.cross_entropy(x, tg.tensor([1, 0]), ignore_index=1)
    (g,) = tg.autograd.grad(loss, [x])
    assert np.isfinite(loss.item())
    assert g.tolist()[0] == [0.0, 0.0]


# --- sequences --------------------------------------------------------------------------------------------------------


def all_alignments(log_p: np.ndarray, target: list[int], blank: int = 0) -> np.ndarray:
    """Minus the logarithm of the sum over all paths that read as the target."""
    total: Any = 0.0
    for path in itertools.product(range(log_p.shape[1]), repeat=len(log_p)):
        read = [c for i, c in enumerate(path) if i == 0 or c != path[i - 1]]
        if [c for c in read if c != blank] == target:
            total = total + np.exp(sum(log_p[t, c] for t, c in enumerate(path)))
    return -np.log(total)


@pytest.mark.parametrize("target", [[1, 2], [1, 1], [2], []], ids=str)
def test_ctc_loss_sums_over_all_alignments(target):
    compare(
        lambda x: F.ctc_loss(x, tg.tensor(target, dtype=tg.int64), [4], [len(target)], reduction="none"),
        lambda x: all_alignments(x, target),
        np.log(np.random.default_rng(0).uniform(0.1, 1, (4, 3))),
    )


# --- what is random ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "draw",
    [
        lambda x: F.dropout(x, 0.3),
        lambda x: F.dropout1d(x, 0.3),
        lambda x: F.dropout3d(x.unsqueeze(-1).unsqueeze(-1), 0.3),
        lambda x: F.alpha_dropout(x, 0.3, training=True),
        lambda x: F.feature_alpha_dropout(x, 0.3, training=True),
        lambda x: F.rrelu(x, training=True),
        lambda x: F.gumbel_softmax(x, hard=True),
        lambda x: F.fractional_max_pool2d(x, 2, output_size=(2, 4)),
    ],
)
def test_what_is_drawn_is_drawn_again_after_the_same_seed(draw):
    x = tg.tensor(reals(20, 10, 10))
    seen = []
    for seed in (1, 1, 2):
        tg.manual_seed(seed)
        seen.append(draw(x).numpy().copy())
    np.testing.assert_array_equal(seen[0], seen[1])
    assert (seen[0] != seen[2]).any()


def test_dropout_keeps_the_mean_and_scales_gradients():
    tg.manual_seed(0)
    x = tg.ones(100_000, requires_grad=True)
    y = F.dropout(x, 0.25)
    (g,) = tg.autograd.grad(y.sum(), [x])
    assert set(np.unique(y.detach().numpy())) == {0.0, 1 / 0.75}
    np.testing.assert_array_equal(g.numpy(), y.detach().numpy())
    assert y.detach().numpy().mean() == pytest.approx(1, abs=0.01)
    normal = tg.randn(200_000)
    kept = F.alpha_dropout(F.selu(normal), 0.2, training=True).numpy()
    assert kept.mean() == pytest.approx(0, abs=0.01)
    assert kept.var() == pytest.approx(1, abs=0.02)
    whole = F.dropout2d(tg.ones(50, 40, 3, 3), 0.5).numpy()
    assert (whole == whole[:, :, :1, :1]).all()
    assert F.dropout(x, training=False) is x
    assert F.dropout(tg.tensor([np.inf]), 1.0).item() == 0.0


def test_hard_samples_are_one_hot_and_have_soft_gradients():
    tg.manual_seed(0)
    logits = tg.tensor(reals(50, 4), requires_grad=True)
    y = F.gumbel_softmax(logits, hard=True)
    assert set(np.unique(y.detach().numpy().round(12))) == {0.0, 1.0}
    np.testing.assert_allclose(y.detach().numpy().sum(1), 1)
    (g,) = tg.autograd.grad((y * tg.arange(4)).sum(), [logits])
    assert (g.numpy() != 0).all()


# --- state ------------------------------------------------------------------------------------------------------------


def test_batch_norm_updates_running_moments_in_place_outside_the_graph():
    x = tg.tensor(reals(6, 2, 3), requires_grad=True)
    m, v = tg.zeros(2), tg.ones(2)
    y = F.batch_norm(x, m, v, training=True, momentum=0.25)
    np.testing.assert_allclose(m.numpy(), 0.25 * x.detach().numpy().mean((0, 2)), rtol=1e-13)
    np.testing.assert_allclose(v.numpy(), 0.75 + 0.25 * x.detach().numpy().var((0, 2), ddof=1), rtol=1e-13)
    assert not m.requires_grad
    np.testing.assert_allclose(y.detach().numpy().mean((0, 2)), 0, atol=1e-13)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        F.batch_norm(x[:1, :, :1], m, v, training=True)


def test_rows_in_use_are_shortened_of_leaves_too():
    table = tg.tensor([[3.0, 4.0], [0.3, 0.4], [30.0, 40.0]], requires_grad=True)
    y = F.embedding(tg.tensor([0, 1, 0]), table, max_norm=1.0)
    np.testing.assert_allclose(table.detach().numpy(), [[0.6, 0.8], [0.3, 0.4], [30, 40]], rtol=1e-6)
    y.sum().backward()
    assert table.grad.tolist() == [[2.0, 2.0], [1.0, 1.0], [0.0, 0.0]]


WITH_PARAMETERS = [
    "Linear(4, 3)", "Bilinear(4, 3, 2)", "Conv1d(4, 3, 2)", "Conv2d(4, 3, 2)", "Conv3d(4, 3, 2)", "PReLU()",
    "ConvTranspose1d(4, 3, 2)", "ConvTranspose2d(4, 3, 2)", "ConvTranspose3d(4, 3, 2)", "Embedding(5, 3, 0)",
    "EmbeddingBag(5, 3, padding_idx=0)", "BatchNorm1d(4)", "BatchNorm2d(4)", "BatchNorm3d(4)", "SyncBatchNorm(4)",
    "InstanceNorm1d(4, affine=True, track_running_stats=True)", "InstanceNorm2d(4, affine=True)",
    "InstanceNorm3d(4, affine=True)", "LayerNorm((4, 3))", "RMSNorm(4)", "GroupNorm(2, 4)",
    "RNN(4, 3, 2, bidirectional=True)", "GRU(4, 3, 2)", "LSTM(4, 3, 2, proj_size=2)", "RNNCell(4, 3)", "GRUCell(4, 3)",
    "LSTMCell(4, 3)", "MultiheadAttention(4, 2)", "MultiheadAttention(4, 2, kdim=3, vdim=5, add_bias_kv=True)",
    "AdaptiveLogSoftmaxWithLoss(8, 10, [2, 5])", "TransformerEncoderLayer(4, 2)", "TransformerDecoderLayer(4, 2)",
    "Transformer(4, 2, 1, 1, 8)", "LazyLinear(3)(x)", "LazyConv1d(3, 1)(x)", "LazyBatchNorm1d()(x)",
    "LazyInstanceNorm1d(affine=True)(x)",
]  # fmt: skip


@pytest.mark.parametrize("made", WITH_PARAMETERS)
def test_no_parameter_is_left_without_values(made, monkeypatch):
    empty = np.empty

    def poisoned(*args: Any, **kwargs: Any) -> np.ndarray:
        memory = empty(*args, **kwargs)
        if memory.dtype.kind == "f":
            memory.fill(np.nan)
        return memory

    monkeypatch.setattr(np, "empty", poisoned)
    module = eval(f"nn.{made.removesuffix('(x)')}", {"nn": tg.nn})
    if made.endswith("(x)"):
        module(tg.ones(2, 4, 4))
    tensors = (*module.parameters(), *module.buffers())
    assert tensors
    assert all(np.isfinite(t.detach().numpy()).all() for t in tensors)


def test_arguments_of_old_warn():
    with pytest.warns(UserWarning, match="please use reduction='sum' instead"):
        assert F.mse_loss(tg.ones(2), tg.zeros(2), size_average=False).item() == 2.0
    with pytest.warns(UserWarning, match="different to the input size"):
        F.l1_loss(tg.ones(2), tg.zeros(3, 2))
    with pytest.warns(UserWarning, match="Implicit dimension choice"):
        F.softmax(tg.ones(2))


# --- forward mode -----------------------------------------------------------------------------------------------------

ACTIVE = {
    "conv2d": (lambda x: F.conv2d(x, x[:2, :, :2, :2]), (2, 3, 4, 4)),
    "conv_transpose2d": (lambda x: F.conv_transpose2d(x, x[:, :2].transpose(0, 1)[:, :, :2, :2].mT), (2, 2, 4, 4)),
    "max_pool2d": (lambda x: F.max_pool2d(x, 2, 1), (2, 4, 4)),
    "avg_pool2d": (lambda x: F.avg_pool2d(x * x, 3, 2, 1), (2, 4, 4)),
    "bicubic": (lambda x: F.interpolate(x * x, (3, 7), mode="bicubic"), (1, 2, 4, 4)),
    "grid_sample": (lambda x: F.grid_sample(x, x.permute(0, 2, 3, 1) / 2, align_corners=False), (2, 2, 4, 4)),
    "grid_sample of cubes": (
        lambda x: F.grid_sample(x, x.permute(0, 2, 3, 1) / 2, "bicubic", "reflection", False),
        (2, 2, 4, 4),
    ),
    "grid_sample of volumes": (
        lambda x: F.grid_sample(x, x.permute(0, 2, 3, 4, 1) / 2, padding_mode="border", align_corners=True),
        (1, 3, 2, 3, 2),
    ),
    "embedding": (lambda x: F.embedding(tg.tensor([1, 0, 1]), x * x), (2, 3)),
    "cross_entropy": (lambda x: F.cross_entropy(x, tg.tensor([1, 0]), label_smoothing=0.1), (2, 3)),
    "layer_norm": (lambda x: F.layer_norm(x, (3,), x[0], x[1]), (2, 3)),
    "batch_norm": (lambda x: F.batch_norm(x, None, None, training=True), (4, 3)),
    "attention": (lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True), (4, 3)),
    "pad": (lambda x: F.pad(x * x, (1, 2, 0, 1), value=2.0), (4, 3)),
}


@pytest.mark.parametrize("name", ACTIVE)
def test_forward_mode_and_reverse_mode_agree(name):
    """<u, J v> = <J' u, v>, at the first order and at the second."""
    function, shape = ACTIVE[name]
    x, v = reals(*shape), reals(*shape, seed=1)
    y, product = tg.func.jvp(function, (tg.tensor(x),), (tg.tensor(v),))
    u = tg.tensor(weights(y.shape))
    leaf = tg.tensor(x, requires_grad=True)
    (g,) = tg.autograd.grad(function(leaf), [leaf], u, create_graph=True)
    assert (u * product).sum().item() == pytest.approx((g.detach() * tg.tensor(v)).sum().item(), rel=1e-10)
    if not g.requires_grad:  # piecewise linear
        return
    (second,) = tg.autograd.grad((g * tg.tensor(v)).sum(), [leaf])

    def gradient(t):
        return tg.func.vjp(function, t)[1](u)[0]

    _, forward = tg.func.jvp(gradient, (tg.tensor(x),), (tg.tensor(v),))
    np.testing.assert_allclose(forward.numpy(), second.numpy(), rtol=1e-9, atol=1e-10)


def attended(q, k, v, added=None, causal=False, scale=None):
    """Attention by its definition, which is recorded; a query from which all is hidden sees nothing."""
    scores = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    if causal:
        scores = scores + tg.full(scores.shape[-2:], -math.inf, dtype=q.dtype).triu(1)
    if added is None:
        return scores.softmax(-1) @ v
    largest = (scores + added).amax(-1, keepdim=True)
    return tg.where(largest == -math.inf, 0.0, (scores + added).softmax(-1)) @ v


ATTENTION = {
    "several tiles": ((2,), (70, 40, 5, 5), None, {}),
    "causal": ((2,), (70, 70, 5, 3), None, {"is_causal": True}),
    "causal, more keys": ((), (3, 50, 2, 2), None, {"is_causal": True, "scale": -0.7}),
    "few queries": ((3, 4), (2, 33, 4, 6), None, {}),
    "wide": ((), (40, 20, 600, 2), None, {"scale": 0.1}),
    "hidden": ((2, 3), (35, 20, 3, 3), (35, 20), {}),
    "hidden keys": ((2, 3), (4, 20, 3, 2), (2, 1, 1, 20), {"scale": 2.0}),
    "hidden queries": ((2, 3), (4, 5, 3, 2), (3, 4, 1), {}),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ATTENTION)
def test_attention_by_tiles_is_attention(name, dtype):
    batch, (n, m, e, v), mask, facts = ATTENTION[name]
    arrays = [reals(*batch, *shape, seed=i) for i, shape in enumerate(((n, e), (m, e), (m, v)))]
    masks = [None]
    if mask is not None:
        added = reals(*mask, seed=4)
        added[added < -0.5] = -np.inf
        added[..., 0, :] = -np.inf
        masks = [tg.tensor(added, dtype=dtype), tg.tensor(np.isfinite(added))]
    rtol = 1e-12 if dtype == "float64" else 2e-5
    for given in masks:
        as_added = tg.where(given, 0.0, -math.inf).to(dtype) if given is not None and given.dtype is tg.bool else given
        rest = {"causal" if k == "is_causal" else k: f for k, f in facts.items()}
        expected = gradients(lambda *t, o=as_added, rest=rest: attended(*t, o, **rest), *arrays, dtype=dtype)
        got = gradients(lambda *t, o=given: F.scaled_dot_product_attention(*t, o, **facts), *arrays, dtype=dtype)
        for ours, theirs in zip(got, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol * max(abs(theirs).max(), 1))


def test_attention_is_differentiated_and_mapped_as_its_definition():
    rng = np.random.default_rng(5)
    q, k, v, u = (tg.tensor(rng.normal(size=(2, n, 3))) for n in (4, 5, 5, 4))
    mask = tg.tensor(rng.random((2, 1, 5)) > 0.4)
    for facts in ({"is_causal": True}, {"attn_mask": mask}):

        def ours(*t, facts=facts):
            return F.scaled_dot_product_attention(*t, **facts)

        leaves = [t.clone().requires_grad_() for t in (q, k, v)]
        assert tg.autograd.gradcheck(ours, leaves, check_forward_ad=True)
        assert tg.autograd.gradgradcheck(ours, leaves)
    mapped = tg.func.vmap(F.scaled_dot_product_attention)(q, k, v)
    np.testing.assert_allclose(mapped, attended(q, k, v), rtol=1e-13)
    hidden = tg.tensor([True, False, True, True, False])
    found = tg.func.vmap(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, hidden))(q, k, v)
    np.testing.assert_allclose(found, attended(q, k, v, tg.where(hidden, 0.0, -math.inf)), rtol=1e-13)
    added = tg.tensor(rng.normal(size=(4, 5)), requires_grad=True)
    (g,) = tg.autograd.grad(F.scaled_dot_product_attention(q, k, v, added), [added], u)
    (h,) = tg.autograd.grad(attended(q, k, v, added), [added], u)
    np.testing.assert_allclose(g, h, rtol=1e-12, atol=1e-14)


def test_a_query_of_nan_that_is_not_used_leaves_no_nan():
    """But for the adjoints of keys, which are products with it by BLAS."""
    q = reals(3, 2)
    q[1] = np.nan
    q, k, v = tg.tensor(q, requires_grad=True), tg.tensor(reals(4, 2, seed=1)), tg.tensor(reals(4, 2, seed=2))
    v.requires_grad_()
    y = F.scaled_dot_product_attention(q, k, v)
    assert np.isnan(y.detach().numpy()).any(-1).tolist() == [False, True, False]
    for g in tg.autograd.grad(y[::2].sum(), [q, v]):
        assert np.isfinite(g.numpy()).all()


def test_no_warnings_of_numpy_come_through():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        F.interpolate(tg.ones(1, 1, 1), 4, mode="linear", align_corners=True).numpy()
        F.embedding_bag(tg.tensor([0]), tg.ones(2, 2), tg.tensor([0, 0])).numpy()
        F.nll_loss(tg.ones(1, 2), tg.tensor([-100])).item()


def test_cross_entropy_of_a_linear_layer_in_chunks():
    """The same loss, whose derivatives of every kind are the same."""
    rng = np.random.default_rng(3)
    x, w, b, v = (tg.tensor(rng.normal(size=s)) for s in ((7, 3), (5, 3), (5,), (7, 3)))
    target = tg.tensor([0, 4, -100, 2, 2, 1, 3])

    def loss(options, x, w=w, b=b, target=target):
        return F.linear_cross_entropy(x, w, target, linear_bias=b, options=options)

    for facts in ({"batch_chunk_size": 3}, {"chunking_method": "aspect_ratio:2"}):
        options = tg.nn.LinearCrossEntropyOptions(**facts)
        inputs = [t.clone().requires_grad_() for t in (x, w, b)]
        assert tg.autograd.gradcheck(lambda *t, o=options: loss(o, *t), inputs)
        assert tg.autograd.gradgradcheck(lambda *t, o=options: loss(o, *t), inputs)
        for whole, chunked in zip(
            *(tg.func.jvp(lambda x, o=o: loss(o, x), (x,), (v,)) for o in (None, options)), strict=True
        ):
            np.testing.assert_allclose(chunked, whole, rtol=1e-13)
        single = loss(options, x[0], target=target[0])
        np.testing.assert_allclose(single, loss(None, x[0], target=target[0]), rtol=1e-15)
    with pytest.warns(UserWarning, match="``options`` ignored"):
        F.linear_cross_entropy(x, w, target, label_smoothing=0.1, options=options)
    with pytest.raises(IndexError, match="Target 5 is out of bounds"):
        loss(options, x[:1], target=tg.tensor([5]))
    with pytest.raises(TypeError, match="must be a LinearCrossEntropyOptions, not int"):
        loss(3, x)
    with pytest.raises(ValueError, match="different chunk sizes"):
        loss(tg.nn.LinearCrossEntropyOptions(batch_chunk_size=3, chunking_method="aspect_ratio:100"), x)
    for wrong in (
        {"batch_chunk_size": 0},
        {"chunking_method": "rows"},
        {"acc_policy": "best"},
        {"acc_dtype": tg.int64},
    ):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}"):
            tg.nn.LinearCrossEntropyOptions(**wrong)
