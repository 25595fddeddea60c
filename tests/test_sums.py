"""Sums lose nothing on the way: of float32 they are float64 until they are complete; means, variances and norms too.

The oracle is `math.fsum`, or the same in float64 (long double for float64) over the same numbers.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tapegrad as tg

RNG = np.random.default_rng(0)
NEAR = 3e-7  # half of float32's epsilon five times over; the sums themselves are good to 1e-8


def float32(n: int, mean: float = 0.0) -> np.ndarray:
    return (np.random.default_rng(n).standard_normal(n) + mean).astype(np.float32)


def near(found: Any, true: Any, tolerance: float = NEAR) -> None:
    np.testing.assert_allclose(np.float64(found), np.float64(true), rtol=tolerance, atol=tolerance * np.abs(true).max())


@pytest.mark.nojit
@pytest.mark.parametrize("n", [1, 2, 7, 300])
def test_short_sums(n: int):
    a = float32(n, 1000.0)
    x, true = tg.tensor(a), a.astype(float)
    near(x.sum().item(), true.sum())
    near(x.mean().item(), true.mean())
    near(x.norm().item(), math.sqrt((true * true).sum()))
    if n > 1:
        near(x.var().item(), true.var(ddof=1))
        near(x.std().item(), true.std(ddof=1))
    near(tg.logsumexp(x, 0).item(), true.max() + math.log(np.exp(true - true.max()).sum()))


@pytest.mark.parametrize("mean", [0.25, 1000.0, 1e5])
@pytest.mark.parametrize("n", [5000, 3_000_000])
def test_long_sums_of_float32(n: int, mean: float):
    a = float32(n, mean)
    x, true = tg.from_numpy(a), a.astype(float)
    near(x.sum().item(), math.fsum(a.tolist()))
    near(x.mean().item(), true.mean())
    near(x.norm().item(), math.sqrt((true * true).sum()))
    near(tg.dot(x, x).item(), (true * true).sum())
    near(x.var().item(), true.var(ddof=1))
    near(x.std().item(), true.std(ddof=1))
    weights = np.exp(true - true.max())
    near(tg.logsumexp(x, 0).item(), true.max() + math.log(weights.sum()))
    near(tg.softmax(x, 0).numpy().astype(float).sum(), 1.0)
    near(tg.log_softmax(x, 0).numpy(), true - true.max() - math.log(weights.sum()))


@pytest.mark.parametrize("mean", [0.0, 1000.0, 1e5])
def test_gradients_of_variances_keep_the_mean(mean: float):
    a = float32(100_000, mean)
    x, true = tg.tensor(a, requires_grad=True), a.astype(float)
    slope = 2 * (true - true.mean()) / (len(a) - 1)
    x.var().backward()
    near(x.grad.numpy(), slope)
    x.grad = None
    x.std().backward()
    near(x.grad.numpy(), slope / (2 * true.std(ddof=1)))


def test_the_variance_of_float64_keeps_a_large_mean():
    a = RNG.standard_normal(1_000_000) + 1e8
    true = float(np.var(a.astype(np.longdouble), ddof=1))
    assert tg.from_numpy(a).var().item() == pytest.approx(true, rel=4e-16 * 4)
    assert tg.from_numpy(a).reshape(-1, 1).expand(-1, 2).var(0)[1].item() == pytest.approx(true, rel=4e-16 * 4)


@pytest.mark.parametrize("dim", [0, 1, (0, 2), (0, 1, 2)])
def test_sums_over_dimensions(dim: Any):
    a = np.random.default_rng(1).random((300, 200, 7), dtype=np.float32) + np.float32(100)
    x, true = tg.from_numpy(a), a.astype(float)
    near(x.sum(dim).numpy(), true.sum(dim))
    near(x.mean(dim).numpy(), true.mean(dim))
    near(x.norm(dim=dim).numpy(), np.sqrt((true * true).sum(dim)))
    near(x.var(dim).numpy(), true.var(dim, ddof=1))


M = 400_000
Reverse = dict[str, Callable[[Any, Any], Any]]
# Each sums M adjoints an element of `w`.
REVERSE: Reverse = {
    "broadcast": lambda a, w: (a * w).sum(),
    "broadcast rows": lambda a, w: (a.T * w.reshape(8, 1)).sum(),
    "expand": lambda a, w: (w.expand(M, 8) * a).sum(),
    "a row of a matrix, expanded": lambda a, w: (tg.stack([w, w])[1:].expand(M, 8) * a).sum(),
    "mv": lambda a, w: tg.mv(a, w).sum(),
    "mv of columns": lambda a, w: tg.mv(a.T.contiguous().T, w).sum(),
    "gather": lambda a, w: (w[tg.arange(8 * M) % 8] * a.reshape(-1)).sum(),
    "narrow": lambda a, w: (a.T.contiguous() - (w * w).reshape(8, 1) / (w.reshape(8, 1))).sum() * -1.0,
}


@pytest.mark.parametrize("name", REVERSE)
def test_adjoints_are_summed_as_well(name: str):
    a = np.random.default_rng(2).random((M, 8), dtype=np.float32) + np.float32(0.1)
    true = a.astype(float).sum(0) if name != "narrow" else np.full(8, float(M))
    w = tg.ones(8, dtype=tg.float32).requires_grad_()
    REVERSE[name](tg.from_numpy(a), w).backward()
    near(w.grad.numpy(), true)
    if name in ("expand", "gather", "broadcast"):
        (recorded,) = tg.autograd.grad(REVERSE[name](tg.from_numpy(a), w), w, create_graph=True)
        near(recorded.detach().numpy(), true)


def test_products_of_a_long_vector():
    a = np.random.default_rng(3).random((8, 1_000_000), dtype=np.float32)
    x, ones = tg.from_numpy(a), tg.ones(1_000_000, dtype=tg.float32)
    near((x @ ones).numpy(), a.astype(float).sum(1))
    near((tg.from_numpy(np.asfortranarray(a)) @ ones).numpy(), a.astype(float).sum(1))


@pytest.mark.parametrize("dtype", [tg.int64, tg.int32], ids=repr)
def test_inner_products_of_many_integers(dtype: Any):
    a = np.arange(500_000) % 7
    x = tg.tensor(a, dtype=dtype)
    assert tg.dot(x, x).item() == int((a * a).sum())


def test_a_mean_may_exceed_what_its_sum_could():
    assert tg.full((4,), 3e38, dtype=tg.float32).mean().item() == pytest.approx(3e38, rel=1e-6)
    large = tg.full((100_000,), 3e38, dtype=tg.float32)
    assert large.mean().item() == pytest.approx(3e38, rel=1e-6)
    assert tg.cat([large, -large]).sum().item() == 0.0


def test_the_same_bits_whatever_the_threads():
    a, w = tg.from_numpy(float32(1_000_000, 3.0)), tg.from_numpy(float32(1000))
    found = []
    for n in (1, 2, 3, 2):
        tg.set_num_threads(n)
        leaf = w.clone().requires_grad_()
        (a.reshape(1000, 1000) * leaf).sum(0).norm().backward()
        found.append([a.sum().item(), a.var().item(), a.norm().item(), *leaf.grad.tolist()])
    tg.set_num_threads(2)
    assert found[0] == found[1] == found[2] == found[3]


# --- Euclidean norms --------------------------------------------------------------------------------------------------

SCALES = [(tg.float64, s) for s in (1e200, 1e-200, 1e307, 5e-320, 1.0)] + [
    (tg.float32, s) for s in (1e30, 1e-30, 1e-44)
]


@pytest.mark.nojit
@pytest.mark.parametrize(("dtype", "scale"), SCALES)
def test_norms_neither_overflow_nor_underflow(dtype: Any, scale: float):
    a = (np.array([[3.0, -4.0], [0.0, 1.0]]) * scale).astype(dtype.numpy)
    eps = 4 * float(max(np.finfo(dtype.numpy).eps, np.spacing(a[1, 1]) / a[1, 1] / 8))  # a subnormal has few bits
    for function, true in (
        (lambda x: tg.linalg.norm(x[0]), math.hypot(*a[0].tolist())),
        (lambda x: tg.linalg.vector_norm(x), math.hypot(*a.reshape(-1).tolist())),
        (lambda x: tg.linalg.matrix_norm(x), math.hypot(*a.reshape(-1).tolist())),
        (lambda x: x.norm(dim=1)[0], math.hypot(*a[0].tolist())),
        (lambda x: x.norm(dim=0)[1], math.hypot(*a[:, 1].tolist())),
    ):
        x = tg.tensor(a, requires_grad=True)
        y = function(x)
        assert y.item() == pytest.approx(true, rel=eps)
        y.backward()
        used = x.grad.numpy() != 0
        np.testing.assert_allclose(x.grad.numpy()[used], a[used] / np.float64(true), rtol=2 * eps)


@pytest.mark.parametrize("p", [0.5, 1.5, 3, -1])
@pytest.mark.parametrize("scale", [1e200, 1e-200])
def test_norms_of_any_order_neither_overflow_nor_underflow(p: float, scale: float):
    x, y = tg.tensor([3 * scale, 4 * scale], requires_grad=True), tg.tensor([3.0, 4.0], requires_grad=True)
    large, small = tg.linalg.norm(x, p), tg.linalg.norm(y, p)
    assert large.item() / scale == pytest.approx(small.item(), rel=1e-14)
    large.backward()
    small.backward()
    np.testing.assert_allclose(x.grad.tolist(), y.grad.tolist(), rtol=1e-14)


@pytest.mark.parametrize("n", [3, 1000, 70_000])
@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_norms_of_numbers_of_all_sizes(n: int, scale: float):
    rng = np.random.default_rng(n)
    a = rng.standard_normal(n) * 10.0 ** rng.integers(-100, 100, n) * scale
    a[rng.random(n) < 0.2] = 0.0
    largest = np.abs(a).max()
    assert tg.tensor(a).norm().item() == pytest.approx(largest * math.sqrt(math.fsum((a / largest) ** 2)), rel=1e-14)


@pytest.mark.nojit
def test_norms_of_what_is_not_finite():
    assert tg.tensor([math.inf, 1.0]).norm().item() == math.inf
    assert math.isnan(tg.tensor([math.nan, 1e300]).norm().item())
    assert tg.zeros(0).norm().item() == 0.0
    assert tg.zeros(0, 3).norm(dim=0).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 3), (5, 2), (9, 500), (40, 300), (3, 4000)])
def test_norms_of_columns_of_any_size(dtype: Any, shape: tuple[int, int]):
    """Whole rows are merged at once: also where some columns are 0, would overflow, or underflow."""
    sizes = [0.0, 1e-30, 1e-12, 1.0, 1e12, 1e36] if dtype is np.float32 else [0.0, 1e-310, 1e-200, 1.0, 1e150, 1e300]
    a = RNG.standard_normal(shape) * RNG.choice(sizes, shape[1])
    a = a.astype(dtype)
    with np.errstate(under="ignore"):
        true = np.sqrt((a.astype(np.longdouble) ** 2).sum(0)).astype(float)
    near(tg.from_numpy(a).norm(dim=0).numpy() / np.where(true == 0, 1, true), true != 0, 1e-6)
    assert math.isnan(tg.from_numpy(a * 0 + np.nan).norm(dim=0)[0].item())
    assert tg.from_numpy(np.full(shape, np.inf, dtype)).norm(dim=0)[-1].item() == math.inf


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(2, 3, 5), (1, 700, 3), (2, 40, 300), (3, 1, 129)])
def test_normalisers_along_outer_dimensions(dtype: Any, shape: tuple[int, ...]):
    """Columns side by side give what rows give, derivatives too."""
    a, seed = (RNG.standard_normal(shape).astype(dtype) for _ in range(2))
    a[0, 0, 0] = -np.inf if shape[1] > 1 else 0.0
    for function in (tg.softmax, tg.log_softmax, tg.logsumexp):
        x, turned = tg.tensor(a, requires_grad=True), tg.tensor(a, requires_grad=True)
        g = tg.tensor(seed if function is not tg.logsumexp else seed[:, 0])
        by_columns = function(x, 1)
        by_rows = function(turned.transpose(1, -1).contiguous(), -1)
        by_rows = by_rows if function is tg.logsumexp else by_rows.transpose(1, -1)
        by_columns.backward(g)
        by_rows.backward(g)
        tolerance = 1e-5 if dtype is np.float32 else 1e-12
        for found, true in ((by_columns.detach(), by_rows.detach()), (x.grad, turned.grad)):
            np.testing.assert_allclose(found.numpy(), true.numpy(), rtol=tolerance, atol=tolerance)


def test_sums_of_columns_do_not_overflow_on_the_way():
    a = np.tile(np.array([3e38, 3e38, -3e38, -3e38], np.float32)[:, None], (5, 10))
    assert (tg.from_numpy(a).sum(0).numpy() == 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("length", [5, 1000, 3000])
def test_sums_of_columns_of_any_number_of_rows(dtype: Any, length: int):
    """So many rows are merged at once as are left."""
    a = (RNG.standard_normal((45, length)) + 2).astype(dtype)
    a[3, -1], a[4, -1] = 2e38, -2e38
    for n in (1, 3, 4, 5, 7, 8, 9, 12, 13, 16, 45):
        x, true = tg.tensor(a[:n]), a[:n].astype(np.longdouble)
        near(x.sum(0).numpy()[:-1], true.sum(0)[:-1], 3e-7)
        norms, found = np.sqrt((true * true).sum(0)), x.norm(dim=0).numpy()
        near(found[:-1], norms[:-1], 3e-7)
        near(found[-1], norms[-1], 3e-7)
        b = tg.zeros(length, dtype=x.dtype, requires_grad=True)
        near(tg.autograd.grad(x * 2 + b, b, x)[0].numpy()[:-1], true.sum(0)[:-1], 3e-7)


@pytest.mark.parametrize("n", [3, 100, 5000])
@pytest.mark.parametrize("scale", [1e-44, 1e-30, 1e-12, 1.0, 1e18, 1e30])
def test_deviations_of_float32_of_all_sizes(n: int, scale: float):
    """Squares that overflow or underflow; few numbers beside a large one; equal numbers."""
    a = (float32(n) * scale).astype(np.float32)
    for given in (a, np.append(a, np.float32(1e4 * scale)), np.full(n, a[0])):
        near(tg.tensor(given).std().item(), np.float32(given.astype(float).std(ddof=1)))
        near(tg.tensor(np.stack([given] * 3, 1)).std(0).numpy(), np.float32(given.astype(float).std(ddof=1)))
