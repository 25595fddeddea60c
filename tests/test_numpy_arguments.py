"""NumPy's functions on tensors, argument by argument: the numbers are NumPy's, or the argument is refused."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np
import pytest

import tapegrad as tg
from tapegrad import numpy_protocol

RNG = np.random.default_rng(7)
MATRIX = RNG.normal(size=(3, 4)).round(1)
CUBE = RNG.normal(size=(2, 3, 4)).round(1)
MASK = np.array([True, False, True, True])
ARRAYS = {
    "f8": MATRIX, "f4": MATRIX.astype("f4"), "i8": (MATRIX * 5).astype("i8"), "i4": (MATRIX * 5).astype("i4"),
    "bool": MATRIX > 0, "cube": CUBE, "vector": MATRIX[0], "number": np.array(1.5), "empty": np.zeros((0, 3)),
}  # fmt: skip

AXES = [{}, {"axis": ()}, {"axis": 0}, {"axis": -1}, {"axis": (0, 1)}, {"axis": [0]}, {"axis": np.int64(0)}]
REDUCTIONS: dict[Any, list[dict[str, Any]]] = {
    np.sum: [{"keepdims": True}, {"dtype": "f4"}, {"initial": 2.5}, {"where": MASK}, {"where": MASK, "initial": 1.0}],
    np.prod: [{"keepdims": True}, {"dtype": "f8"}, {"initial": 2.5}, {"where": MASK}],
    np.mean: [{"keepdims": True}, {"dtype": "f4"}, {"where": MASK}],
    np.var: [{"keepdims": True}, {"ddof": 1}, {"correction": 1}, {"dtype": "f8"}, {"where": MASK}],
    np.std: [{"keepdims": True}, {"ddof": 1}, {"mean": 0.5}],
    np.max: [{"keepdims": True}, {"initial": 0.25}, {"where": MASK, "initial": -9.0}, {"where": MASK}],
    np.amin: [{"keepdims": True}, {"initial": 0.25}, {"where": MASK, "initial": 9.0}],
    np.any: [{"keepdims": True}, {"where": MASK}],
    np.all: [{"keepdims": True}, {"where": MASK}],
    np.argmax: [{"keepdims": True}],
    np.argmin: [{"keepdims": True}],
    np.linalg.norm: [{"keepdims": True}, {"ord": 1}, {"ord": np.inf}, {"ord": "fro"}, {"ord": 0}],
}


def outcome(call: Any, array: Any) -> Any:
    """What it gives as arrays, or the exception."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            found = call(array)
    except Exception as error:
        return error
    parts = found if isinstance(found, tuple) else (found,)
    return [np.asarray(p.detach() if isinstance(p, tg.Tensor) else p) for p in parts]


def compare(call: Any, array: np.ndarray, *, refusal: bool = True) -> None:
    """The numbers of NumPy; or TypeError, where it is refused; or an error, where NumPy raises one."""
    expected, got = outcome(call, array.copy()), outcome(call, tg.tensor(array))
    if isinstance(got, Exception):
        allowed = isinstance(expected, Exception) or (refusal and isinstance(got, (TypeError, IndexError)))
        assert allowed, f"{got!r}, NumPy {expected!r}"
        assert "tapegrad/" not in str(got)
        return
    assert not isinstance(expected, Exception), f"NumPy raises {expected!r}, here it is {got!r}"
    for theirs, ours in zip(expected, got, strict=True):
        assert ours.shape == theirs.shape
        assert ours.dtype.kind == theirs.dtype.kind
        np.testing.assert_allclose(
            ours, theirs, rtol=3e-6 if "f4" in (ours.dtype.str[1:], theirs.dtype.str[1:]) else 1e-12, atol=1e-15
        )


def called(function: Any, facts: dict[str, Any], a: Any) -> Any:
    return function(a, **facts)


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("function", REDUCTIONS, ids=lambda f: f.__name__)
def test_reductions(function: Any, name: str):
    for axes in AXES:
        for facts in [{}, *REDUCTIONS[function]]:
            compare(functools.partial(called, function, {**axes, **facts}), ARRAYS[name])


def test_reductions_over_no_axis_have_gradients():
    """Each element is reduced by itself."""
    for function, slope in (np.sum, 1.0), (np.prod, 1.0), (np.mean, 1.0), (np.max, 1.0), (np.var, 0.0):
        x = tg.tensor(MATRIX, requires_grad=True)
        function(x, axis=()).sum().backward()
        np.testing.assert_array_equal(x.grad.numpy(), np.full(MATRIX.shape, slope))


def test_masks_and_initial_values_have_gradients():
    x = tg.tensor(MATRIX, requires_grad=True)
    np.sum(x, axis=0, where=MASK, initial=3.0).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.broadcast_to(MASK.astype(float), MATRIX.shape))
    x.grad = None
    np.max(x, initial=100.0).backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.zeros(MATRIX.shape))


UFUNCS = sorted(numpy_protocol._UFUNCS, key=lambda f: f.__name__)


@pytest.mark.parametrize("ufunc", UFUNCS, ids=lambda f: f.__name__)
def test_ufuncs(ufunc: np.ufunc):
    edges = np.array([-2.0, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 2.5, np.inf, -np.inf, np.nan])
    arrays = [edges, edges.astype("f4"), np.arange(1, 5), np.arange(1, 5, dtype="i4"), np.array([True, False])]
    told: list[dict[str, Any]] = [
        {}, {"where": True}, {"where": np.array([True])}, {"casting": "same_kind"}, {"casting": "unsafe"},
        {"order": "F"}, {"order": "C"}, {"dtype": "f4"}, {"dtype": "f8"}, {"dtype": "i8"}, {"subok": False},
    ]  # fmt: skip
    for array in arrays:
        others = [()] if ufunc.nin == 1 else [(array[::-1].copy(),), (2,), (array.tolist(),)]
        for other in others:
            for facts in told:
                if "where" in facts and facts["where"] is not True:
                    with pytest.raises((TypeError, NotImplementedError, RuntimeError)):  # elsewhere is anything
                        ufunc(tg.tensor(array), *other, **facts)
                    continue
                compare_ufunc(lambda a, other=other, facts=facts: ufunc(a, *other, **facts), array, not facts)


def compare_ufunc(call: Any, array: np.ndarray, is_plain: bool) -> None:
    """As `compare`; PyTorch's refusals of bools and its floating point for them are right too."""
    expected, got = outcome(call, array.copy()), outcome(call, tg.tensor(array))
    if isinstance(got, Exception):
        told = isinstance(got, (TypeError, RuntimeError, type(expected)))
        told = told and (isinstance(expected, Exception) or array.dtype.kind != "f" or not is_plain)
        assert told, got
        return
    if isinstance(expected, Exception):
        raise AssertionError(f"NumPy raises {expected!r}, here it is {got!r}")
    theirs, ours = expected[0], got[0]
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(
            ours.astype("f8"), theirs.astype("f8"), rtol=2e-3 if theirs.dtype == "f2" else 2e-5 if "f4" in
            (ours.dtype.str[1:], theirs.dtype.str[1:]) else 1e-12
        )  # fmt: skip


_PRODUCTS = [np.dot, np.inner, np.matmul, np.outer, np.vecdot, np.matvec, np.vecmat]


@pytest.mark.parametrize("function", _PRODUCTS, ids=lambda f: f.__name__)
def test_products(function: Any):
    """All pairs of shapes: the values are NumPy's, and the gradient that of the same product with a unit matrix."""
    shapes = [(), (4,), (3, 4), (4, 3), (2, 3, 4), (5, 4, 3), (2, 1, 4, 3), (0, 4), (4, 0), (1, 4)]
    for p in shapes:
        for q in shapes:
            a, b = RNG.normal(size=p), RNG.normal(size=q)
            compare(lambda t, b=b: function(t, b), a, refusal=False)
            compare(lambda t, a=a: function(a, t), b, refusal=False)
            compare(lambda t, b=b: function(t, b.astype("f4")), a, refusal=False)
            x, y = tg.tensor(a, requires_grad=True), tg.tensor(b, requires_grad=True)
            try:
                expected = function(a, b)
            except ValueError:
                continue
            weights = RNG.normal(size=expected.shape)
            (function(x, y) * weights).sum().backward()
            # <w, f(a, b)> is linear in each: its gradients, at any points, give its value back.
            value = np.sum(expected * weights)
            np.testing.assert_allclose(np.sum(x.grad.numpy() * a), value, atol=1e-12)
            np.testing.assert_allclose(np.sum(y.grad.numpy() * b), value, atol=1e-12)


@pytest.mark.parametrize("function", [np.dot, np.inner])
@pytest.mark.parametrize("other", [2.0, 3, np.float64(0.5), [1.0, 2.0, 3.0, 4.0]])
def test_products_with_numbers_and_lists(function: Any, other: Any):
    compare(lambda a: function(a, other), MATRIX)
    compare(lambda a: function(other, a.T if np.ndim(other) else a), MATRIX)


OTHERS = """
np.round(a); np.round(a, 1); np.round(a * 100, -1); np.round(a, decimals=0); np.clip(a, -1, 1); np.clip(a, None, 0)
np.clip(a, min=0); np.clip(a, max=0.5); np.clip(a, 1, -1); np.clip(a, None, None); np.clip(a, -1, 1, dtype="f4")
np.where(a, a, 0); np.where(a > 0, a, [[9]]); np.where(a); np.where(a > 0, a); np.positive(a)
np.concatenate([a, a]); np.concatenate([a, a], axis=None); np.concatenate((a, a), 1)
np.concatenate([a, a], dtype="f4"); np.concatenate([a, a], casting="unsafe"); np.concatenate([a, [[1, 2, 3, 4]]])
np.stack([a, a]); np.stack((a, a), axis=-1); np.stack([a, a], 1, dtype="f4"); np.sum(a, 0, None, None, True)
np.max(a, 1, None, True); np.linalg.norm(a, None, 1, True); np.linalg.norm(a, 2, (0,)); np.linalg.norm(a, 2, (0, 1))
np.argmax(a, (0, 1)); np.sum(a, bogus=1); np.sum(a, 0, axis=0); np.matmul(a, a.T, axes=[(0, 1), (0, 1), (0, 1)])
"""


@pytest.mark.parametrize("call", OTHERS.strip().replace("\n", "; ").split("; "))
@pytest.mark.parametrize("name", ["f8", "f4", "i8", "bool"])
def test_other_functions(call: str, name: str):
    compare(lambda a: eval(call, {"np": np, "a": a}), ARRAYS[name])


# What NumPy's own tests call these with: all are taken, or refused as NumPy refuses them.
TAKEN = """
np.average(a, (0, 1), np.abs(W)); np.average(a, (1, 0), np.abs(W).T); np.average(a, 1, [1, 2, 3, 4], True)
np.average(a, weights=[1, 2, 3]); np.average(a, (0, 1), W.T); np.average(a, (-1,), [1, 2, 0, 1])
np.select([a[0] > 0, a[1] > 0], [a[1], a[2]], 7); np.select([a > 0], [a, a]); np.select([a * 1.0], [a])
np.insert(a[0], [], []); np.insert(a[:2], [1], [1, 2, 3], axis=1); np.insert(a[:, 0], [1], [7, 8, 9])
np.insert(a, [1], [[1], [0], [1]], axis=1); np.insert(a, 1, [1, 0, 1], axis=1); np.insert(a, [0, 2], 1, axis=0)
np.gradient(a * 1.0, [1.0, 2.0, 4.0, 8.0]); np.gradient(a * 1.0, 2.0); np.gradient(a * 1.0, [1, 2, 4], axis=0)
np.trim_zeros(a[0] * 0, "B"); np.trim_zeros(a[0] * 0, "f"); np.trim_zeros(a[0], "F"); np.trim_zeros(a[0], "ff")
np.take_along_axis(a, np.array([[1, 2]]), None); np.take_along_axis(a, np.array([1, 2]), None)
np.put_along_axis(a, np.array([[1, 2]]), 1, None); np.put_along_axis(a, np.array([1.0, 2.0]), 1, None)
np.apply_along_axis(lambda v: v.sum(), 1, a[:, :0] * 1.0); np.apply_along_axis(lambda v: v[:0], 1, a)
np.zeros_like(a, np.float32); np.ones_like(a, dtype=int, order="C", subok=False, shape=(2,)); np.full_like(a, 1, "f4")
np.zeros_like(a, None, "K", True, (2, 2)); np.full_like(a, fill_value=1, device="cpu"); np.zeros_like(a=a)
np.percentile(a, 50, method="lower"); np.quantile(a, [0.2, 0.5], axis=0, method="nearest", keepdims=True)
np.quantile(a, 0.5, method="inverted_cdf"); np.percentile(a, [50], overwrite_input=True); np.quantile(a, 1.5)
np.broadcast_to(a, (2, 3, 4), subok=True); np.broadcast_arrays(a, a[0], subok=True)[1]
np.piecewise([0, 1], a[0, :2] > 0, [5, 6]); np.cov(a * 1.0, fweights=[1.5, 1, 2, 1]); np.cov(a, fweights=[2.0, 1, 2, 1])
np.compress([True, False, True], a, 0, np.zeros((2, 4))); np.cumulative_sum(a[0] * 1.0, out=np.zeros(4))
np.var(a, ddof=1, correction=1); np.std(a, correction=1); np.nanvar(a * 1.0, ddof=1, correction=0); np.var(a, ddof=1)
np.ediff1d(a, to_end=[1, 2], to_begin=0); np.ediff1d(a, to_end=np.nan); np.ediff1d(a, to_begin=[0.5])
np.broadcast_to(a, -1); np.broadcast_to(a, (-1, 3, 4)); np.nanpercentile(a[:0] * 1.0, 40, axis=0)
np.nanquantile(a[:0] * 1.0, [0.1, 0.2], keepdims=True); np.multiply(a, a, where=np._NoValue, casting="unsafe")
np.divide(a * 1.0, 3, out=np.zeros((3, 4)), casting="unsafe"); np.nanstd(a * 1.0)
np.hstack([a, a * 0.5], dtype=int, casting="unsafe"); np.vstack([a, a * 0.5], dtype=int); np.vstack([a, a], dtype="f8")
np.concatenate([a * 0.5, a], dtype=int); np.stack([a * 0.5, a], dtype=int, casting="unsafe"); (np.copyto(a, 0.5), a)[1]
(np.copyto(a, [1, 2, 3, 4], "no"), a)[1]; (np.copyto(a, 0.5, casting="unsafe"), a)[1]
np.logspace(1, 2, 3, base=abs(a) + 1); np.logspace(abs(a[0]), 2, 1, base=2.0, axis=-1)
np.logspace(1, a[0], 2, base=a + 7)
(np.copyto(a, a[0] > 1, where=a > 0), a)[1]
np.unwrap((a * 100) // 1, period=255); np.unwrap(np.round(a * 7.0), axis=0, period=5)
np.cross(a, a); np.cross(a[:, :3], a[:, 1:])
np.clip(a, 0); np.clip(a, a_max=0); np.clip(a, 0, 1, max=2); np.clip(a); np.clip(a, a_min=None, a_max=1)
np.rollaxis(a, 0, -3); np.rollaxis(a, 0, 3); np.rollaxis(a, 0, 2); np.rollaxis(a, 1, -2)
np.full_like(a, a[0]); np.full_like(a, [[2.75]]); np.full_like(a, a[:, :2], shape=(3, 2), dtype="f4")
np.delete(a, ()); np.delete(a, [], axis=0); (np.putmask(a, [True], 5), a)[1]; (np.putmask(a, a > 0, 5), a)[1]
np.add.reduceat(a, []); np.add.reduceat(a, (), axis=1); np.logical_and.reduce(a, dtype=bool, axis=None)
np.maximum.reduce(a, dtype=None); np.minimum.reduce(a, 1, dtype="f4", keepdims=True); np.maximum.reduce(a, None, float)
np.logical_or.reduce(a, dtype=np.dtype(bool), keepdims=True); (np.put(a, [0], []), a)[1]
"""
OF_PLANE_VECTORS = """
np.cross(a[:, :2], a[:, 2:]); np.cross(a[:, :2], a[:, 1:]); np.cross(a[:, 1:], a[0, :2])
np.cross(a[:2, :3], a[:2, 1:], axisa=0, axisb=0); np.cross(a[:2], a[:2, 0], axisa=0)
"""
if np.lib.NumpyVersion(np.__version__) < "2.5.0":  # which has no others than of space
    TAKEN += OF_PLANE_VECTORS.lstrip()


@pytest.mark.parametrize("call", TAKEN.strip().replace("\n", "; ").split("; "))
@pytest.mark.parametrize("name", ["f8", "i8"])
def test_arguments_that_are_taken(call: str, name: str):
    compare(lambda a: eval(call, {"np": np, "W": MATRIX, "a": a}), ARRAYS[name], refusal=False)


@pytest.mark.parametrize("points", [(0.0, 1.0), (-np.inf, np.inf), (-np.inf, 1.0), (0.0, np.inf)])
def test_interpolation_between_infinities(points: tuple[float, float]):
    x = np.array([0.0, 0.5, 1.0, np.nan, np.inf, -np.inf])
    heights = [
        (0.0, 10.0),
        (10.0, 10.0),
        (-np.inf, 10.0),
        (np.inf, 10.0),
        (np.inf, np.inf),
        (0.0, np.inf),
        (np.nan, 1.0),
    ]
    for f in heights:
        compare(lambda a, f=f: np.interp(a, points, f), x, refusal=False)
    t = tg.tensor([10.0, 10.0], requires_grad=True)
    np.interp(0.5, points, t).backward()
    assert np.isfinite(t.grad.numpy()).all()


PADDED = [
    ("constant", {}), ("linear_ramp", {"end_values": 3}), ("mean", {}), ("mean", {"stat_length": 2}), ("median", {}),
    ("maximum", {}), ("minimum", {"stat_length": 3}), ("edge", {}), ("reflect", {}),
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["f8", "i8", "i1", "u1"])
def test_padding(dtype: str):
    """Of integers, too, with means rounded, ramps towards what is larger, and where an axis is empty."""
    whole = np.array([[7, -3, 2, 5], [-8, 1, -5, 0], [4, 9, -6, -1]])
    array = (abs(whole) if dtype == "u1" else whole).astype(dtype)
    for mode, facts in PADDED:
        for width in (3, [(2, 1), (0, 0)], [(0, 0), (1, 2)], 0, 2.5, [(1, 2.0)]):
            for part in (array, array[:, :0]):
                compare(lambda a, m=mode, f=facts, w=width: np.pad(a, w, m, **f), part, refusal=False)
    assert np.pad(tg.tensor(array), 1, "empty")[1:-1, 1:-1].tolist() == array.tolist()


def test_bounds_beyond_the_range_of_integers_are_none():
    array = np.array([0, 5, 128, 129, 130, 255], "u1")
    for bounds in ((-1, 129), (-1, None), (None, 300), (3, 300), (-5, 1000)):
        compare(lambda a, b=bounds: np.clip(a, *b), array, refusal=False)
    compare(lambda a: np.clip(a, -200, 100), array.astype("i1"), refusal=False)


MASKS = [{"where": W} for W in (MASK, MATRIX > 0, MATRIX > 9)]


@pytest.mark.parametrize("function", [np.nansum, np.nanprod, np.nanmean, np.nanvar, np.nanstd, np.nanmax, np.nanmin])
@pytest.mark.parametrize("name", ["f8", "f4", "i8"])
def test_masks_and_initial_values_beside_nan(function: Any, name: str):
    array = ARRAYS[name].copy()
    if array.dtype.kind == "f":
        array[0, 1] = array[2] = np.nan
    begins = [{"initial": 2.0 if array.dtype.kind == "f" else 2}]
    begins = [] if function in (np.nanmean, np.nanvar, np.nanstd) else begins
    for facts in [*MASKS, *begins, *({**m, **b} for m in MASKS for b in begins)]:
        for axis in ({}, {"axis": 1}, {"axis": 0, "keepdims": True}):
            compare(lambda a, f=facts | axis: function(a, **f), array, refusal=False)
    if array.dtype.kind == "f" and function is not np.nanmax and function is not np.nanmin:
        x = tg.tensor(array, requires_grad=True)
        function(x, where=MASK).sum().backward()
        assert np.isfinite(x.grad).all()
        assert not np.any(x.grad[:, ~MASK])
        assert np.any(x.grad)


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8"])
def test_quotients_of_the_least_integer(dtype: str):
    least = np.iinfo(dtype).min
    a, b = np.array([least, least, least, 7, -7, least + 1], dtype), np.array([-1, 3, least, -1, 2, -1], dtype)
    for function in (np.floor_divide, np.remainder, np.fmod):
        compare(lambda x, f=function: f(x, b), a, refusal=False)
        compare(lambda x, f=function: f(x, -1), a, refusal=False)
    quotients = tg.div(tg.tensor(a), tg.tensor(b), rounding_mode="trunc")
    np.testing.assert_array_equal(quotients, [least, -(-least // 3), 1, -7, -3, -(least + 1)])


def test_positive_is_a_copy():
    x = tg.tensor(MATRIX)
    y = np.positive(x)
    y += 1.0
    np.testing.assert_array_equal(x.numpy(), MATRIX)


def test_out_is_written_and_returned():
    x, out = tg.tensor(MATRIX, requires_grad=True), tg.zeros(3, 4)
    y = np.multiply(x, 2.0, out=out)
    assert y is out
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.full(MATRIX.shape, 2.0))
    total = tg.zeros(4)
    assert np.sum(tg.tensor(MATRIX), axis=0, out=total) is total
    np.testing.assert_allclose(total.numpy(), MATRIX.sum(0))
    array = np.zeros(4)
    assert np.sum(tg.tensor(MATRIX), axis=0, out=array) is array
    np.testing.assert_allclose(array, MATRIX.sum(0))
    totals = tg.zeros(4)
    assert np.cumulative_sum(x[0], out=totals) is totals
    assert totals.requires_grad
    np.testing.assert_allclose(totals.detach().numpy(), MATRIX[0].cumsum())
    ints = tg.zeros(3, 4, dtype=tg.int64)
    with pytest.raises(TypeError, match="can't hold"):
        np.multiply(x, 2.0, out=ints)
    with pytest.raises(TypeError, match="can't hold"):
        np.sum(x, out=tg.zeros(3))


BESIDE = """
np.multiply(t, a); a * t; t * a; np.dot(a, t); a @ t; t @ a; np.where(a > 0, a * t, t); np.inner(t, a); t.pow(a)
np.stack([t * a, a]); tg.where(t > 0, t * a, a); product(t, a); np.arctan2(t, a); tg.maximum(t * 2, a); a / t
"""


@pytest.mark.parametrize("call", BESIDE.strip().replace("\n", "; ").split("; "))
def test_arrays_beside_tensors_are_taken_as_they_are_when_it_is_recorded(call: str):
    """Small and large, with gradients and without; whatever is written to them later."""
    product = tg.autograd.host_function(np.multiply, lambda g, y, p, q: (g * q, g * p))
    for n in (3, 20_000):
        for requires_grad in (True, False):
            found = []
            for later in (3.0, 7.0):
                array, t = np.full(n, 3.0), tg.full((n,), 2.0, requires_grad=requires_grad)
                y = eval(call, {"np": np, "tg": tg, "t": t, "a": array, "product": product})
                array[:] = later
                found.append(y.detach().numpy().copy())
                if requires_grad:
                    y.sum().backward()
                    found.append(t.grad.numpy().copy())
            half = len(found) // 2
            np.testing.assert_array_equal(np.ravel(found[0]), np.ravel(found[half]))
            if requires_grad:
                np.testing.assert_array_equal(found[1], found[3])
