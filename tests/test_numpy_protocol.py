"""NumPy's functions and arrays beside tensors: what records, what gives arrays, what is refused."""

import numpy as np
import pytest

import tapegrad as tg

X = np.array([[0.5, 1.5, 2.0], [3.0, 0.25, 1.0]])


@pytest.mark.parametrize(
    "call",
    [
        np.sin,
        lambda x: np.add(x, 1.0),
        lambda x: np.power(2.0, x),
        lambda x: np.maximum(x, np.ones(3)),
        lambda x: np.ones(3) * x,
        lambda x: np.ones((2, 2)) @ x,
        lambda x: np.float64(2.0) - x,
        lambda x: np.arange(3.0) / x,
        np.sum,
        lambda x: np.mean(x, axis=0),
        lambda x: np.prod(x, 1, keepdims=True),
        lambda x: np.max(x, axis=1),
        lambda x: np.var(x, axis=0),
        lambda x: np.std(x, ddof=1),
        np.linalg.norm,
        lambda x: np.linalg.norm(x, 3, axis=1),
        lambda x: np.where(X > 1, x, 0.0),
        lambda x: np.clip(x, 0.6, 1.7),
        lambda x: np.concatenate([x, np.ones((1, 3))]),
        lambda x: np.stack([x, x], axis=1),
    ],
)
def test_what_records(call):
    """The value is NumPy's, and its gradient that of central differences along a direction."""
    x = tg.tensor(X, requires_grad=True)
    y = call(x)
    assert isinstance(y, tg.Tensor)
    np.testing.assert_allclose(y.detach().numpy(), call(X), rtol=1e-14)
    y.sum().backward()
    direction, step = np.cos(np.arange(6.0)).reshape(2, 3), 1e-6
    slope = (np.sum(call(X + step * direction)) - np.sum(call(X - step * direction))) / (2 * step)
    np.testing.assert_allclose(np.sum(x.grad.numpy() * direction), slope, rtol=1e-6, atol=1e-8)


def test_comparisons_with_an_array_give_tensors():
    x = tg.tensor(X)
    for y in (np.ones(3) < x, np.isnan(x), np.equal(X, x)):
        assert isinstance(y, tg.Tensor)
        assert y.dtype is tg.bool


def test_other_functions_give_arrays():
    x = tg.tensor(X)
    assert isinstance(np.sort_complex(x), np.ndarray)
    np.testing.assert_array_equal(np.sort_complex(x), np.sort_complex(X))
    assert np.add.reduce(x, axis=None) == X.sum()
    assert np.allclose(x, X)
    total = np.ones((2, 3))
    total += x
    np.testing.assert_array_equal(total, X + 1)


@pytest.mark.parametrize("call", [np.sort_complex, lambda x: np.add(X, x, out=X.copy())])
def test_other_functions_refuse_tensors_that_require_grad(call):
    with pytest.raises(RuntimeError, match=r"the derivative of .* would be lost|would lose the derivative of"):
        call(tg.tensor(X, requires_grad=True))


@pytest.mark.parametrize("order", [None, 1, -1, 2, -2, np.inf, -np.inf, "fro", "nuc"])
def test_norms_of_matrices_are_numpys(order):
    """To NumPy the 1-norm of a matrix is its largest column sum, to PyTorch's `norm` the sum of all elements."""
    x = tg.tensor(X, requires_grad=True)
    norm = np.linalg.norm(x, order)
    np.testing.assert_allclose(norm.item(), np.linalg.norm(X, order), rtol=1e-13)
    (slope,) = tg.autograd.grad(norm, x)
    np.testing.assert_allclose((slope * x).sum().item(), norm.item(), rtol=1e-12)  # norms are of degree 1
