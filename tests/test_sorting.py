"""Sorting, selecting, searching, and scans, against NumPy and mpmath: ties, nan, infinities, long and short axes."""

import math
from typing import Any

import hypothesis.strategies as st
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

import tapegrad as tg

INF, NAN = math.inf, math.nan
DTYPES = ("float64", "float32", "int64", "int32", "bool")
over_dtypes = pytest.mark.parametrize("dtype", DTYPES)
over_floats = pytest.mark.parametrize("dtype", DTYPES[:2])
# Few are sorted by insertion, more by digits of 8 and of 11 bits.
LENGTHS = (0, 1, 2, 31, 33, 300, 2047, 5000)


def drawn(shape: Any, dtype: str, seed: int = 0, ties: bool = False) -> np.ndarray:
    """Numbers of all sizes, nan and zeros of both signs among them; with ties, few different ones."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape) * 10.0 ** rng.integers(-9, 9, shape)
    x = np.round(rng.normal(size=shape)) if ties else x
    if dtype == "bool":
        return x > 0
    if dtype[0] == "f" and x.size > 20:
        x.flat[::9], x.flat[1::11], x.flat[2::13], x.flat[3::17] = NAN, 0.0, -0.0, INF
    return x.astype(dtype)


def descending(x: np.ndarray, axis: int) -> np.ndarray:
    """The stable order from the largest, nan first."""
    flipped = np.flip(x, axis)
    order = np.flip(np.argsort(flipped, axis, kind="stable"), axis)
    return x.shape[axis] - 1 - order


@over_dtypes
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n", LENGTHS)
def test_orders_are_stable_and_nan_is_largest(n: int, ties: bool, dtype: str):
    x = drawn(n, dtype, n, ties)
    t = tg.tensor(x)
    for flag, order in ((False, np.argsort(x, kind="stable")), (True, descending(x, 0))):
        values, indices = t.sort(descending=flag)
        np.testing.assert_array_equal(indices.numpy(), order)
        np.testing.assert_array_equal(values.numpy(), x[order])
        np.testing.assert_array_equal(t.argsort(descending=flag).numpy(), order)


@over_floats
def test_keys_that_agree_in_their_first_digits_are_told_apart(dtype: str):
    """Neighbours among numbers far apart: what the first digits leave open, the rest decides."""
    rng = np.random.default_rng(0)
    one = np.ones(1, dtype)[0]
    steps = one + np.arange(3000).astype(dtype) * np.finfo(dtype).eps
    x = np.concatenate([steps, [-1e30, 1e30], -steps[:40]]).astype(dtype)
    x = rng.permutation(x)
    np.testing.assert_array_equal(tg.argsort(tg.tensor(x)).numpy(), np.argsort(x, kind="stable"))
    y = x[:200]
    np.testing.assert_array_equal(tg.argsort(tg.tensor(y)).numpy(), np.argsort(y, kind="stable"))


@pytest.mark.parametrize("ends", [(-(2**63), 2**63 - 1), (-5, 5), (2**62, 2**62 + 1)])
def test_integers_of_any_range(ends: tuple[int, int]):
    x = np.random.default_rng(0).integers(*ends, 4000, endpoint=True)
    np.testing.assert_array_equal(tg.argsort(tg.tensor(x)).numpy(), np.argsort(x, kind="stable"))


@over_floats
@pytest.mark.parametrize("shape", [(7, 50, 3), (3, 0), (0, 3), (2, 1), (1, 300, 40)])
def test_along_every_dimension_and_of_views(shape: tuple[int, ...], dtype: str):
    x = drawn(shape, dtype)
    for axis in range(-1, x.ndim - 1):
        order = np.argsort(x, axis, kind="stable")
        np.testing.assert_array_equal(tg.tensor(x).sort(axis).indices.numpy(), order)
        view = tg.tensor(np.ascontiguousarray(x.T)).T
        np.testing.assert_array_equal(view.sort(axis).values.numpy(), np.take_along_axis(x, order, axis))


@over_dtypes
@pytest.mark.parametrize("n", LENGTHS[1:])
def test_the_first_few_are_those_of_the_whole_order(n: int, dtype: str):
    if dtype == "bool":
        return
    x = drawn(n, dtype, n, ties=n % 2 == 0)
    up, down = np.argsort(x, kind="stable"), descending(x, 0)
    for k in {0, 1, min(5, n), n // 5, n}:
        np.testing.assert_array_equal(tg.tensor(x).topk(k).indices.numpy(), down[:k])
        np.testing.assert_array_equal(tg.tensor(x).topk(k, largest=False).indices.numpy(), up[:k])
    for k in {1, (n + 1) // 2, n}:
        values, index = tg.tensor(x).kthvalue(k)
        np.testing.assert_array_equal(values.item(), x[up[k - 1]])
        assert index.item() == up[k - 1]


@over_floats
def test_descending_runs_are_worst_for_the_first_few(dtype: str):
    x = np.arange(5000, dtype=dtype)
    np.testing.assert_array_equal(tg.tensor(x).topk(7).indices.numpy(), np.arange(4999, 4992, -1))


@over_floats
@pytest.mark.parametrize("n", [1, 2, 7, 40, 501])
def test_medians(n: int, dtype: str):
    x = np.random.default_rng(n).normal(size=(n, 3)).astype(dtype)
    np.testing.assert_array_equal(tg.median(tg.tensor(x), 0).values.numpy(), np.sort(x, 0)[(n - 1) // 2])
    np.testing.assert_array_equal(tg.median(tg.tensor(x)).item(), np.sort(x, None)[(3 * n - 1) // 2])
    x[0, 0] = NAN
    assert math.isnan(tg.median(tg.tensor(x)).item())
    assert tg.median(tg.tensor(x), 0).indices.numpy()[0] == 0
    np.testing.assert_array_equal(tg.nanmedian(tg.tensor(x)).item(), np.sort(x, None)[(3 * n - 2) // 2])
    column = np.sort(x[:, 0])[max(n - 2, 0) // 2]
    np.testing.assert_array_equal(tg.nanmedian(tg.tensor(x), 0).values.numpy()[0], column)


def test_what_is_equal_to_the_median_shares_its_gradient():
    x = tg.tensor([0.1, 2.0, 0.1, -1.0, 0.1], requires_grad=True)
    y = x.median()
    assert y.item() == 0.1
    y.backward()
    np.testing.assert_allclose(x.grad.numpy(), [1 / 3, 0, 1 / 3, 0, 1 / 3])
    z = tg.tensor([1.0, NAN, NAN], requires_grad=True)
    z.median().backward()
    np.testing.assert_array_equal(z.grad.numpy(), [0, 0.5, 0.5])


@given(arrays(np.int64, st.integers(1, 60), elements=st.integers(-4, 4)))
@settings(deadline=None, max_examples=50)
def test_the_mode_is_the_smallest_of_the_most_frequent(x: np.ndarray):
    values, counts = np.unique(x, return_counts=True)
    mode, index = tg.mode(tg.tensor(x))
    assert mode.item() == values[counts.argmax()]
    assert index.item() == np.flatnonzero(x == mode.item())[-1]


@over_dtypes
@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("n", [0, 1, 2, 100, 1000])
def test_searching_is_as_in_numpy(n: int, right: bool, dtype: str):
    run, values = np.sort(drawn(n, dtype, 1)), drawn((20, 30), dtype, 2)
    run = run[run == run]
    side = "right" if right else "left"
    at = tg.searchsorted(tg.tensor(run), tg.tensor(values), right=right)
    np.testing.assert_array_equal(at.numpy(), np.searchsorted(run, values, side))
    assert tg.searchsorted(tg.tensor(run), tg.tensor(values), side=side, out_int32=True).dtype is tg.int32
    np.testing.assert_array_equal(tg.bucketize(tg.tensor(values), tg.tensor(run), right=right).numpy(), at.numpy())


def test_rows_are_searched_each_in_its_own():
    rng = np.random.default_rng(0)
    runs, values = rng.normal(size=(2, 3, 40)), rng.normal(size=(2, 3, 7))
    order = np.argsort(runs, -1)
    at = tg.searchsorted(tg.tensor(runs), tg.tensor(values), sorter=tg.tensor(order)).numpy()
    for i in np.ndindex(2, 3):
        np.testing.assert_array_equal(at[i], np.searchsorted(runs[i], values[i], sorter=order[i]))


@over_dtypes
def test_which_elements_are_among_others(dtype: str):
    x, others = drawn((30, 4), dtype, 1, ties=True), drawn(9, dtype, 2, ties=True)
    for some in (others, others[:1], others[:0]):
        np.testing.assert_array_equal(tg.isin(tg.tensor(x), tg.tensor(some)).numpy(), np.isin(x, some))
        inverted = tg.isin(tg.tensor(x), tg.tensor(some), invert=True)
        np.testing.assert_array_equal(inverted.numpy(), np.isin(x, some, invert=True))
    assert tg.isin(tg.tensor([1, 2]), 2).tolist() == [False, True]


@over_dtypes
def test_distinct_elements(dtype: str):
    x = drawn((40, 3), dtype, 1, ties=True)
    values, inverse, counts = tg.unique(tg.tensor(x), return_inverse=True, return_counts=True)
    expected = np.unique(x, return_inverse=True, return_counts=True, equal_nan=False)
    for ours, theirs in zip((values, counts), expected[::2], strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs)
    np.testing.assert_array_equal(values.numpy()[inverse.numpy()], x)
    if dtype[0] == "f":  # rows with nan are all different, in an order that is not defined
        x = np.nan_to_num(x)
    for axis in (0, 1):
        rows, inverse, counts = tg.unique(tg.tensor(x), return_inverse=True, return_counts=True, dim=axis)
        expected = np.unique(x, return_inverse=True, return_counts=True, axis=axis)
        np.testing.assert_array_equal(rows.numpy(), expected[0])
        np.testing.assert_array_equal(inverse.numpy(), expected[1].reshape(-1))
        np.testing.assert_array_equal(counts.numpy(), expected[2])
    runs, inverse, counts = tg.unique_consecutive(tg.tensor([3, 3, 1, 3]), return_inverse=True, return_counts=True)
    assert (runs.tolist(), inverse.tolist(), counts.tolist()) == ([3, 1, 3], [0, 0, 1, 2], [2, 1, 1])


def test_gradients_of_distinct_elements_flow_to_the_first_that_is_equal():
    x = tg.tensor([3.0, 1.0, 3.0, 2.0, 2.0], requires_grad=True)
    rows = tg.tensor([[1.0, 2.0], [1.0, 2.0], [0.0, 5.0]], requires_grad=True)
    for y, expected, of in (
        (tg.unique(x), [3.0, 1.0, 0.0, 2.0, 0.0], x),
        (tg.unique_consecutive(x), [1.0, 2.0, 3.0, 4.0, 0.0], x),
        (tg.unique(rows, dim=0)[:, 0], [[2.0, 0.0], [0.0, 0.0], [1.0, 0.0]], rows),
    ):
        (g,) = tg.autograd.grad((y * tg.arange(1.0, len(y) + 1)).sum(), of)
        np.testing.assert_array_equal(g.numpy(), expected)


@over_floats
@pytest.mark.parametrize("interpolation", ["linear", "lower", "higher", "midpoint", "nearest"])
def test_quantiles_are_numpys(interpolation: str, dtype: str):
    x = np.random.default_rng(0).normal(size=(6, 5)).astype(dtype)
    q = np.array([0.0, 0.13, 0.5, 0.77, 1.0], dtype)
    for axis in (None, 0, 1):
        for keep in (False, True):
            ours = tg.quantile(tg.tensor(x), tg.tensor(q), axis, keep, interpolation=interpolation)
            theirs = np.quantile(x, q, axis, method=interpolation, keepdims=keep)
            np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-6 if dtype == "float32" else 1e-14)
    x[2, 3] = NAN
    assert np.isnan(tg.quantile(tg.tensor(x), 0.5, 1).numpy()).tolist() == [False, False, True, False, False, False]
    ours = tg.nanquantile(tg.tensor(x), tg.tensor(q), 1, interpolation=interpolation)
    np.testing.assert_allclose(ours.numpy(), np.nanquantile(x, q, 1, method=interpolation), rtol=1e-6)


def test_quantiles_have_a_derivative_by_their_fraction():
    """Between two elements it is n - 1 times what they are apart."""
    q = tg.tensor([0.3], requires_grad=True)
    tg.quantile(tg.tensor([1.0, 2.0, 4.0, 8.0, 16.0]), q).sum().backward()
    assert q.grad.tolist() == [pytest.approx(4 * 2.0)]


# --- scans ------------------------------------------------------------------------------------------------------------


def product_derivatives(x: np.ndarray, g: np.ndarray) -> list[float]:
    """By the definition: the products of the others."""
    return [
        sum(g[k] * np.prod(np.delete(x[: k + 1], i)) for k in range(i, len(x))) for i in range(len(x))
    ]  # fmt: skip


@over_floats
@pytest.mark.parametrize("zeros", [(), (0,), (2,), (4,), (1, 3), (0, 1), (0, 1, 2, 3, 4)])
def test_derivatives_of_products_are_exact_where_elements_are_zero(zeros: tuple[int, ...], dtype: str):
    x = np.array([2.0, -3.0, 0.5, 4.0, -1.5], dtype)
    x[list(zeros)] = 0
    g = np.array([1.0, -2.0, 3.0, 0.25, 5.0], dtype)
    for inner in (1, 3):
        t = tg.tensor(np.repeat(x[:, None], inner, 1), requires_grad=True)
        weights = tg.tensor(np.repeat(g[:, None], inner, 1))
        swept = tg.autograd.grad(t.cumprod(0), t, weights)[0].numpy()
        (recorded,) = tg.autograd.grad(t.cumprod(0), t, weights, create_graph=True)
        for column in range(inner):
            np.testing.assert_allclose(swept[:, column], product_derivatives(x, g), rtol=1e-6)
        np.testing.assert_array_equal(recorded.detach().numpy(), swept)


@pytest.mark.parametrize("zeros", [(), (1,), (1, 3)])
def test_second_derivatives_of_products_with_zeros(zeros: tuple[int, ...]):
    x = np.array([2.0, -3.0, 0.5, 4.0])
    x[list(zeros)] = 0
    hessian = tg.func.hessian(lambda x: x.cumprod(0)[-1])(tg.tensor(x)).numpy()
    expected = [[0 if i == j else np.prod(np.delete(x, [i, j])) for j in range(4)] for i in range(4)]
    np.testing.assert_allclose(hessian, expected, rtol=1e-14)


def test_derivatives_of_products_do_not_overflow_by_division():
    x = tg.tensor([1e-300, 1e-200, 3.0], requires_grad=True)
    tg.cumprod(x, 0).sum().backward()
    assert x.grad.tolist() == [1.0, 4e-300, 0.0]


@over_floats
@pytest.mark.parametrize("shift", [0.0, 500.0, -500.0])
def test_sums_of_exponentials_against_mpmath(shift: float, dtype: str):
    rng = np.random.default_rng(0)
    for spread in (1.0, 300.0):
        x = (rng.normal(size=60) * spread + shift).astype(dtype)
        with mpmath.workprec(2000):
            sums = [mpmath.mpf(0)]
            for v in x:
                sums.append(sums[-1] + mpmath.exp(mpmath.mpf(float(v))))
            true = [float(mpmath.log(s)) for s in sums[1:]]
            slopes = [float(sum(mpmath.exp(mpmath.mpf(float(x[i]))) / s for s in sums[i + 1 :])) for i in range(len(x))]
        t = tg.tensor(x, requires_grad=True)
        rtol = 1e-14 if dtype == "float64" else 3e-7
        np.testing.assert_allclose(t.logcumsumexp(0).detach().numpy(), true, rtol=rtol, atol=rtol)
        t.logcumsumexp(0).sum().backward()
        rtol = 1e-11 if dtype == "float64" else 1e-3
        np.testing.assert_allclose(t.grad.numpy(), slopes, rtol=rtol, atol=1e-30 if dtype == "float64" else 1e-6)


def test_sums_of_infinities():
    x = [-INF, -INF, 1.0, INF, 2.0, NAN, 3.0]
    np.testing.assert_array_equal(tg.tensor(x).logcumsumexp(0).tolist(), [-INF, -INF, 1.0, INF, INF, NAN, NAN])
    t = tg.tensor(x[:3], requires_grad=True)
    t.logcumsumexp(0)[2].backward()
    assert t.grad.tolist() == [0, 0, 1]


@over_dtypes
def test_scans_along_every_dimension(dtype: str):
    if dtype == "bool":
        return
    x = np.random.default_rng(0).integers(-3, 4, (3, 300, 5)).astype(dtype)
    for axis in range(3):
        for ours, theirs in ((tg.cumsum, np.cumsum), (tg.cumprod, np.cumprod)):
            expected = theirs(x, axis, dtype=x.dtype if dtype[0] == "f" else np.int64)
            np.testing.assert_array_equal(ours(tg.tensor(x), axis).numpy(), expected)
        values, indices = tg.cummax(tg.tensor(x), axis)
        np.testing.assert_array_equal(values.numpy(), np.maximum.accumulate(x, axis))
        np.testing.assert_array_equal(np.take_along_axis(x, indices.numpy(), axis), values.numpy())
        np.testing.assert_array_equal(tg.cummin(tg.tensor(x), axis)[0].numpy(), np.minimum.accumulate(x, axis))


def test_the_largest_so_far_is_the_last_of_equal_ones_and_gets_all_gradients():
    x = tg.tensor([1.0, 3.0, 3.0, 2.0, NAN, 5.0], requires_grad=True)
    values, indices = tg.cummax(x, 0)
    assert indices.tolist() == [0, 1, 2, 2, 4, 4]
    (g,) = tg.autograd.grad(values, x, tg.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0]))
    assert g.tolist() == [1, 2, 12, 0, 48, 0]


@over_floats
def test_long_rows_are_the_same_on_all_threads(dtype: str):
    """More than one piece of work, with memory to work in for each."""
    x = drawn((50, 4000), dtype)
    order = np.argsort(x, 1, kind="stable")
    np.testing.assert_array_equal(tg.argsort(tg.tensor(x), 1).numpy(), order)
    np.testing.assert_array_equal(tg.argsort(tg.tensor(x.T.copy()), 0).numpy(), order.T)
    np.testing.assert_array_equal(tg.topk(tg.tensor(x), 3, largest=False).indices.numpy(), order[:, :3])


# --- what is refused --------------------------------------------------------------------------------------------------

X = tg.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
REFUSED: list[tuple[Any, type[Exception], str]] = [
    (lambda: X.sort(2), IndexError, "Dimension out of range"),
    (lambda: X.topk(4), RuntimeError, "selected index k out of range"),
    (lambda: X.topk(-1), RuntimeError, "selected index k out of range"),
    (lambda: X.kthvalue(0), RuntimeError, "selected number k out of range"),
    (lambda: X.kthvalue(4), RuntimeError, "selected number k out of range"),
    (lambda: tg.zeros(2, 0).kthvalue(1), IndexError, "Expected reduction dim 1 to have non-zero size"),
    (lambda: tg.zeros(2, 0).median(1), IndexError, "Expected reduction dim 1 to have non-zero size"),
    (lambda: tg.zeros(2, 0).mode(1), IndexError, "Expected reduction dim 1 to have non-zero size"),
    (lambda: tg.quantile(X, 1.5), RuntimeError, r"q must be in the range \[0, 1\] but got 1.5"),
    (lambda: tg.quantile(X, NAN), RuntimeError, r"q must be in the range \[0, 1\] but got nan"),
    (lambda: tg.quantile(X, tg.tensor([0.5, NAN])), RuntimeError, r"q values must be in the range \[0, 1\]"),
    (lambda: tg.quantile(X.to(tg.int64), 0.5), RuntimeError, "must be either float or double"),
    (lambda: tg.quantile(X, 0.5, interpolation="cubic"), RuntimeError, "interpolation must be one of"),
    (lambda: tg.quantile(tg.zeros(0), 0.5), RuntimeError, "must be non-empty"),
    (lambda: tg.quantile(X, tg.tensor([0.5], dtype=tg.float32)), RuntimeError, "must be same dtype"),
    (lambda: tg.searchsorted(X, X[:1]), RuntimeError, "first N-1 dimensions"),
    (lambda: tg.searchsorted(X[0], X, side="left", right=True), RuntimeError, "can't be set to opposites"),
    (lambda: tg.searchsorted(X[0], X, sorter=tg.tensor([0, 1, 3])), RuntimeError, "index out of range"),
    (lambda: tg.bucketize(X, X), RuntimeError, "must be 1 dimension"),
    (lambda: tg.logcumsumexp(tg.tensor([1]), 0), NotImplementedError, "not implemented for 'Long'"),
    (lambda: tg.cumprod(X, 2), IndexError, "Dimension out of range"),
    (lambda: tg.cummax(X, 2), IndexError, "Dimension out of range"),
    (lambda: tg.cumprod(X), TypeError, "dim"),
]


@pytest.mark.parametrize(("call", "error", "words"), REFUSED)
def test_bad_arguments_are_refused(call: Any, error: type[Exception], words: str):
    with pytest.raises(error, match=words):
        call()


def test_in_place():
    x = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = x * 1
    y.cumprod_(0).sum().backward()
    assert y.tolist() == [1, 2, 6]
    assert x.grad.tolist() == [9, 4, 2]
    z = tg.tensor([1, 2, 3], dtype=tg.int32)
    assert z.cumsum_(0).dtype is tg.int32
    assert z.tolist() == [1, 3, 6]
