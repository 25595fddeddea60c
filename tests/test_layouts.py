"""Operands of every layout: what is computed from a view is what is computed from a contiguous copy of it."""

from typing import Any

import numpy as np
import pytest

import tapegrad as tg

over_floats = pytest.mark.parametrize("dtype", [tg.float64, tg.float32], ids=repr)


# --- products: their adjoints are contiguous, whatever the strides of the operands ------------------------------------


def junk() -> None:
    """Leave adjoints of many sizes behind, full of large numbers, for the next to be made of."""
    for n in (1, 2, 4, 9, 12, 40, 600, 2048):
        x = tg.full((n,), 1e6, requires_grad=True)
        ((x * x).sum() * 1e6).backward()


VIEWS = {
    "expanded": ((1, 2, 3), lambda t: t.expand(4, 2, 3)),
    "sliced": ((4, 5, 7), lambda t: t[:, :2, :3]),
    "every second": ((8, 4, 6), lambda t: t[::2, ::2, ::2]),
    "transposed": ((3, 2, 4), lambda t: t.permute(2, 1, 0)),
    "one expanded matrix": ((2, 3), lambda t: t.expand(4, 2, 3)),
}


@pytest.mark.parametrize("layout", VIEWS)
@pytest.mark.parametrize("side", [0, 1], ids=("left", "right"))
@over_floats
def test_adjoints_of_batched_products_of_views(layout: str, side: int, dtype: Any):
    shape, view = VIEWS[layout]
    rng = np.random.default_rng(7)
    x = tg.tensor(rng.normal(size=shape), dtype=dtype, requires_grad=True)
    other = tg.tensor(rng.normal(size=(4, 3, 5) if side == 0 else (4, 6, 2)), dtype=dtype)
    weights = tg.tensor(rng.normal(size=(4, 2, 5) if side == 0 else (4, 6, 3)), dtype=dtype)

    def gradient(of: Any) -> np.ndarray:
        x.grad = None
        junk()
        product = of(view(x)) @ other if side == 0 else other @ of(view(x))
        (product * weights).sum().backward()
        return x.grad.numpy().copy()

    np.testing.assert_allclose(
        gradient(lambda t: t), gradient(lambda t: t.clone()), rtol=0, atol=1e4 * np.finfo(dtype.numpy).eps
    )


@over_floats
def test_hessian_vector_product_of_a_broadcast_product(dtype: Any):
    rng = np.random.default_rng(7)
    K, W = tg.tensor(rng.normal(size=(3, 2, 2)), dtype=dtype), tg.tensor(rng.normal(size=(2, 2)), dtype=dtype)
    v = tg.tensor(rng.normal(size=(2, 2)), dtype=dtype)

    def f(W: Any) -> Any:
        return (tg.tanh(K @ W) ** 2).sum()

    expected = tg.func.hessian(f)(W).reshape(4, 4) @ v.reshape(4)
    for _ in range(3):
        junk()
        _, product = tg.func.jvp(tg.func.grad(f), (W,), (v,))
        np.testing.assert_allclose(
            product.reshape(4).numpy(), expected.numpy(), rtol=0, atol=100 * np.finfo(dtype.numpy).eps
        )
