"""NumPy's functions that sort, select, count, fill up and pass over nan, on tensors: NumPy's values, derivatives."""

import numpy as np
import pytest

import tapegrad as tg

RNG = np.random.default_rng(3)
X = RNG.permutation(np.linspace(-2.0, 3.0, 12))
M = RNG.permutation(np.linspace(-1.0, 2.0, 12)).reshape(3, 4)
C = RNG.permutation(np.linspace(-1.0, 2.0, 24)).reshape(2, 3, 4)
N = C.copy()
N[0, 1, 2] = N[1, 0, :] = np.nan
METHODS = (
    "inverted_cdf averaged_inverted_cdf closest_observation interpolated_inverted_cdf hazen weibull linear "
    "median_unbiased normal_unbiased lower higher midpoint nearest"
).split()

# What is called, and the operand that is differentiated by.
CALLS = {
    "sort all": (lambda x: np.sort(x, axis=None), C),
    "sort an axis": (lambda x: np.sort(x, 1, stable=True), C),
    "partition": (lambda x: np.partition(x, (1, 3), axis=1), M),
    "median of axes": (lambda x: np.median(x, (0, 2), keepdims=True), C),
    "median of an even number": (lambda x: np.median(x, axis=1), M),
    "median of nothing else than nan": (lambda x: np.nanmedian(x, axis=2), N),
    "median with nan": (lambda x: np.median(x, axis=2), N),
    "percentile of several": (lambda x: np.percentile(x, [[10, 50], [90, 100]], axis=(1, 2)), C),
    "nanquantile": (lambda x: np.nanquantile(x, [0.0, 0.4], axis=0, keepdims=True), N),
    "quantile with nan": (lambda x: np.quantile(x, 0.4, axis=1), N),
    "quantile by weights": (
        lambda x: np.quantile(x, [0.1, 0.5, 0.9], method="inverted_cdf", weights=np.arange(M.size).reshape(M.shape)), M
    ),
    "quantile by weights along an axis": (
        lambda x: np.quantile(x, 0.6, axis=1, method="inverted_cdf", weights=1.0 / np.arange(1, M.shape[1] + 1)), M
    ),
    "percentile by weights of two axes": (
        lambda x: np.percentile(
            x, [20, 70], (2, 0), method="inverted_cdf", weights=1.0 + np.arange(C[:, 0].size).reshape(C[:, 0].T.shape)
        ), C
    ),
    "nanquantile by weights": (
        lambda x: np.nanquantile(x, 0.5, axis=1, method="inverted_cdf", weights=np.arange(N.size).reshape(N.shape)), N
    ),
    "nanpercentile": (lambda x: np.nanpercentile(x, 30), N),
    "nanmean": (lambda x: np.nanmean(x, axis=(0, 1)), N),
    "nanvar": (lambda x: np.nanvar(x, axis=1, ddof=1, keepdims=True), N),
    "nanstd": (lambda x: np.nanstd(x), N),
    "nanmax": (lambda x: np.nanmax(x, axis=2), N),
    "nanmin": (lambda x: np.nanmin(x, axis=(0, 2)), N),
    "nanprod": (lambda x: np.nanprod(x, axis=(0, 2)), N),
    "nancumsum": (lambda x: np.nancumsum(x, axis=1), N),
    "nancumprod": (lambda x: np.nancumprod(x), N),
    "cumprod": (lambda x: np.cumprod(x, axis=1), M),
    "cumulative_prod": (lambda x: np.cumulative_prod(x, axis=1, include_initial=True), M),
    "diff with ends": (lambda x: np.diff(x, axis=1, prepend=0, append=[[1.0], [2.0], [3.0]]), M),
    "ediff1d": (lambda x: np.ediff1d(x, to_begin=[1.0, 2.0], to_end=9.0), M),
    "gradient": (lambda x: np.stack(np.gradient(x)), M),
    "gradient by distances": (lambda x: np.stack(np.gradient(x, 0.5, 2.0, edge_order=2)), M),
    "gradient at points": (lambda x: np.gradient(x, [0.0, 1.0, 3.0, 3.5], axis=1, edge_order=2), M),
    "interp by values": (lambda f: np.interp([[-9.0, 0.5], [2.5, 9.0]], np.arange(12.0), f), X),
    "interp by x": (lambda x: np.interp(x, [-1.0, 0.5, 2.0], [3.0, 1.0, 5.0], left=-7.0, right=8.0), X),
    "interp by points": (lambda p: np.interp([0.3, 1.9], np.sort(p), np.arange(12.0)), X),
    "interp periodic": (lambda x: np.interp(x + 0.05, [0.0, 1.0, 2.0], [3.0, 1.0, 5.0], period=3.0), X),
    "interp of one number": (lambda f: np.interp(1.5, np.arange(12.0), f), X),
    "rot90": (lambda x: np.rot90(x, 3, (2, 0)), C),
    "vander": (lambda x: np.vander(x, 3), X),
    "block": (lambda x: np.block([[x, np.ones((3, 1))], [np.zeros((1, 4)), 7.0]]), M),
    "block of vectors": (lambda x: np.block([x, 2 * x]), X),
    "meshgrid": (lambda x: np.stack(np.meshgrid(x, np.arange(3.0))), X),
    "meshgrid in order": (lambda x: np.stack(np.meshgrid(x, x, indexing="ij")), X),
    "cov": (lambda x: np.cov(x, rowvar=False, bias=True), M),
    "cov of two": (lambda x: np.cov(x, 2 * x * x), X),
    "cov by weights": (lambda x: np.cov(x, fweights=[1, 2, 0, 3], aweights=[0.5, 1.0, 2.0, 3.0], ddof=0), M),
    "corrcoef": (lambda x: np.corrcoef(x * x, rowvar=False), M),
    "bincount": (lambda w: np.bincount([0, 2, 2, 1, 0, 4, 4, 4, 1, 1, 0, 0], w, 7), X),
    "histogram": (lambda w: np.histogram(X, 4, weights=w)[0], X),
    "histogram of a density": (lambda w: np.histogram(X, [-2.0, 0.0, 1.5, 3.0], density=True, weights=w * w)[0], X),
    "histogram2d": (lambda w: np.histogram2d(X, X[::-1], [2, 3], weights=w)[0], X),
    "histogramdd": (lambda w: np.histogramdd(M, [2, 1, 2, 1], weights=w[:3])[0], X),
    "unique": (lambda x: np.unique(np.concatenate([x, x])), X),
    "unique rows": (lambda x: np.unique(np.concatenate([x, x]), axis=0), M),
    "union1d": (lambda x: np.union1d(x, [0.123, 9.0]), X),
    "setdiff1d": (lambda x: np.setdiff1d(x, [0.123, 9.0]), X),
    "pad by constants": (lambda x: np.pad(x, ((1, 0), (2, 3)), constant_values=((5.0, 6.0), (7.0, 8.0))), M),
    "pad by a dictionary": (lambda x: np.pad(x, {-1: (1, 2)}), M),
    "pad by the edge": (lambda x: np.pad(x, 2, "edge"), C),
    "pad by reflection": (lambda x: np.pad(x, ((2, 1), (0, 3)), "reflect"), M),
    "pad by symmetry": (lambda x: np.pad(x, (5, 4), "symmetric"), M),
    "pad by wrapping": (lambda x: np.pad(x, 5, mode="wrap"), M),
    "pad by ramps": (lambda x: np.pad(x, (2, 3), "linear_ramp", end_values=(1.0, -2.0)), M),
    "pad by the mean": (lambda x: np.pad(x, 2, "mean", stat_length=2), M),
    "pad by the median": (lambda x: np.pad(x, 1, "median"), M),
    "pad by the largest": (lambda x: np.pad(x, ((1, 2), (0, 1)), "maximum"), M),
    "pad by the smallest": (lambda x: np.pad(x, 1, "minimum", stat_length=((1, 2), (3, 1))), M),
} | {
    f"quantile {method}": (lambda x, how=method: np.quantile(x, [0.0, 0.05, 0.3, 0.5, 0.9, 1.0], 1, method=how), M)
    for method in METHODS
}  # fmt: skip
STEPS = {1: 3 / 4, 2: -3 / 20, 3: 1 / 60}  # central differences of the sixth order


@pytest.mark.filterwarnings("ignore:All-NaN|Mean of empty|Degrees of freedom:RuntimeWarning")
@pytest.mark.parametrize("name", CALLS)
def test_values_and_derivatives(name: str):
    function, operand = CALLS[name]
    t = tg.tensor(operand, requires_grad=True)
    result = function(t)
    assert isinstance(result, tg.Tensor)
    expected = function(operand)
    assert tuple(result.shape) == np.shape(expected)
    np.testing.assert_allclose(result.detach().numpy(), expected, rtol=1e-12, atol=1e-13)
    seen = np.isfinite(expected)
    weights = np.where(seen, RNG.normal(size=np.shape(expected)), 0.0)
    direction = np.where(np.isnan(operand), 0.0, RNG.normal(size=operand.shape))
    (g,) = tg.autograd.grad(result, t, tg.tensor(weights), retain_graph=True)
    (recorded,) = tg.autograd.grad(result, t, tg.tensor(weights), create_graph=True)
    np.testing.assert_allclose(recorded.detach().numpy(), g.numpy(), rtol=1e-12, atol=1e-13)
    h = 1e-3

    def weighted(by: float) -> float:
        return float((np.where(seen, function(operand + by * direction), 0.0) * weights).sum())

    slope = sum(w * (weighted(k * h) - weighted(-k * h)) / h for k, w in STEPS.items())
    np.testing.assert_allclose(float((g.numpy() * direction).sum()), slope, rtol=1e-7, atol=1e-7)


def test_what_numpy_says_of_sets_stays_with_the_values():
    x = tg.tensor([3.0, 1.0, 3.0], requires_grad=True)
    values, first, inverse, counts = np.unique(x, return_index=True, return_inverse=True, return_counts=True)
    assert values.requires_grad
    assert (first.tolist(), inverse.tolist(), counts.tolist()) == ([1, 0], [1, 0, 1], [1, 2])
    told = np.unique_counts(x)
    assert told.values.tolist() == [1.0, 3.0]
    assert told.counts.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("call", "error", "phrase"),
    [
        (lambda x: np.quantile(x, 1.5), ValueError, "must be in the range"),
        (lambda x: np.percentile(x, -1), ValueError, "must be in the range"),
        (lambda x: np.quantile(X, x), TypeError, "no derivative by"),
        (lambda x: np.quantile(x, 0.5, weights=np.ones(x.shape)), ValueError, "inverted_cdf"),
        (lambda x: np.quantile(x, 0.5, method="inverted_cdf", weights=[1.0]), TypeError, "Axis must be specified"),
        (lambda x: np.gradient(x, edge_order=3), ValueError, "edge_order"),
        (lambda x: np.gradient(x[:1]), ValueError, "too small"),
        (lambda x: np.interp(x, [1.0, 2.0], [1.0]), ValueError, "not of the same length"),
        (lambda x: np.pad(x, -1), ValueError, "negative"),
        (lambda x: np.pad(x, 1, "reflect", reflect_type="odd"), TypeError, "not understood"),
        (lambda x: np.pad(x, 1, "edge", constant_values=1), ValueError, "unsupported keyword"),
        (lambda x: np.sort(x, axis=1), np.exceptions.AxisError, "out of bounds"),
        (lambda x: np.sort(x, order="f"), TypeError, "order='f' is not understood"),
        (lambda x: np.intersect1d(x, x, return_indices=True), TypeError, "return_indices"),
    ],
)  # fmt: skip
def test_what_is_refused(call, error, phrase):
    with pytest.raises(error, match=phrase):
        call(tg.tensor(X, requires_grad=True))


def test_dtypes_are_numpys():
    whole = tg.tensor([3, 1, 2])
    assert np.sort(whole).dtype is tg.int64
    assert np.median(whole).dtype is tg.float64
    assert np.percentile(whole, 50).dtype is tg.float64
    assert np.quantile(tg.tensor([1.0, 2.0], dtype=tg.float32), 0.5).dtype is tg.float32


@pytest.mark.parametrize("density", [False, True])
def test_histograms_of_what_is_in_range(density):
    x = np.array([0.5, 1.5, 2.0, 3.5, 8.5, 9.0, 9.5])
    for weights in (x * x + 1, np.arange(7)):
        hist, _ = np.histogram(tg.tensor(x), 4, (1, 9), density, tg.tensor(weights))
        wanted, _ = np.histogram(x, 4, (1, 9), density, weights)
        assert np.asarray(hist).dtype == wanted.dtype
        np.testing.assert_allclose(hist, wanted, rtol=1e-14)
        for theirs, both in ((np.histogram2d, (x, x[::-1].copy())), (np.histogramdd, (np.stack([x, x * x], 1),))):
            ranges = [(1, 9), (0, 80)]
            facts = {"bins": 3, "range": ranges, "density": density}
            found = theirs(*map(tg.tensor, both), **facts, weights=tg.tensor(weights))[0]
            np.testing.assert_allclose(found, theirs(*both, **facts, weights=weights)[0], rtol=1e-14)
    w = tg.tensor(x, requires_grad=True)
    assert tg.autograd.gradcheck(lambda w: np.histogram(x, 4, (1, 9), density, w)[0], [w])
