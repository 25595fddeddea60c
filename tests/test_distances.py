"""Distances between rows: by the norms of differences, as definitions have it."""

import math

import numpy as np
import pytest

import tapegrad as tg

SHAPES = {
    "blocks": ((3, 5), (600, 5)),
    "long rows": ((2, 1100), (3, 1100)),
    "batches": ((2, 1, 4, 9), (3, 5, 9)),
    "rows of three": ((7, 3), (4, 3)),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", SHAPES)
def test_distances_are_norms_of_differences(name, dtype):
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=shape) + 100 for shape in SHAPES[name])
    b[..., 0, :] = a[..., 0, :] if a.ndim == b.ndim else a[0, 0, 0]
    x, y = (tg.tensor(v, dtype=dtype, requires_grad=True) for v in (a, b))
    weights = tg.tensor(rng.normal(size=(*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-2])))
    for function in (tg.cdist, lambda x, y: tg.linalg.norm(x.unsqueeze(-2) - y.unsqueeze(-3), dim=-1)):
        distances = function(x, y)
        value, *found = distances, *tg.autograd.grad((distances * weights).sum(), (x, y), retain_graph=True)
        recorded = tg.autograd.grad((distances * weights).sum(), (x, y), create_graph=True)
        if function is tg.cdist:
            ours = (value, *found)
            for g, again in zip(found, recorded, strict=True):
                np.testing.assert_allclose(again.detach(), g, rtol=0, atol=1e-12 if dtype == "float64" else 1e-3)
    rtol = 1e-12 if dtype == "float64" else 2e-5
    for got, expected in zip(ours, (value, *found), strict=True):
        scale = abs(expected.detach().numpy()).max()
        np.testing.assert_allclose(got.detach(), expected.detach(), rtol=rtol, atol=rtol * scale)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_distances_of_what_is_huge_tiny_equal_or_infinite(dtype):
    size = 1e200 if dtype == "float64" else 1e30
    a = tg.tensor([[3 * size, 4 * size], [3 / size, 4 / size], [0, 0], [math.inf, 1]], dtype=dtype, requires_grad=True)
    y = tg.cdist(a, tg.zeros(1, 2, dtype=dtype))
    expected = [5 * size, 5 / size, 0.0, math.inf]
    np.testing.assert_allclose(y.detach().numpy()[:, 0], expected, rtol=1e-15 if dtype == "float64" else 1e-6)
    y.sum().backward()
    np.testing.assert_allclose(a.grad, [[0.6, 0.8], [0.6, 0.8], [0, 0], [math.nan, 0]], rtol=1e-6)


def test_distances_are_differentiated_twice_forward_and_mapped():
    rng = np.random.default_rng(1)
    a, b = (tg.tensor(rng.normal(size=s), requires_grad=True) for s in ((3, 2), (4, 2)))
    assert tg.autograd.gradcheck(tg.cdist, (a, b), check_forward_ad=True)
    assert tg.autograd.gradgradcheck(tg.cdist, (a, b))
    many = tg.tensor(rng.normal(size=(5, 3, 2)))
    expected = [tg.cdist(x, b.detach()).numpy() for x in many]
    np.testing.assert_allclose(tg.func.vmap(tg.cdist, (0, None))(many, b.detach()), expected, rtol=1e-15)
