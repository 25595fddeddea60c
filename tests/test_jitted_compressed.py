"""Sparse Jacobians of jitted functions: groups of columns at once, and what a pattern must be."""

import numpy as np
import pytest
import scipy.sparse
from numba import njit
from scipy.optimize import least_squares

import tapegrad as tg

N = 30
PATTERN = scipy.sparse.hstack(
    [scipy.sparse.diags_array([1.0, 1.0, 1.0], offsets=[-1, 0, 1], shape=(N, N)), np.ones((N, 1))]
)
X = np.random.default_rng(0).normal(size=N)


@njit
def broyden(x, scale, runs):
    """Broyden's tridiagonal function, which counts its runs."""
    runs[0] += 1
    y = np.empty(x.size)
    for i in range(x.size):
        y[i] = (3.0 - 2.0 * x[i]) * x[i] + 1.0
        if i > 0:
            y[i] -= x[i - 1]
        if i < x.size - 1:
            y[i] -= 2.0 * scale * x[i + 1]
    return y


def _dense(x, scale):
    by_x = np.diag(3.0 - 4.0 * x) - np.eye(N, k=-1) - 2.0 * scale * np.eye(N, k=1)
    return np.column_stack([by_x, np.append(-2.0 * x[1:], 0.0)])


@pytest.mark.parametrize("kind", [scipy.sparse.coo_array, scipy.sparse.csc_matrix, lambda a: a.toarray() > 0.5])
def test_elements_are_derivatives(kind):
    """In two runs, of which nobody sees but one."""
    runs = np.zeros(1, np.int64)
    found = tg.jitted.jacobian(broyden, kind(PATTERN), argnums=(0, 1))(X, 0.7, runs)
    assert isinstance(found, scipy.sparse.csr_array)
    assert found.shape == PATTERN.shape
    assert found.dtype == np.float64
    assert found.nnz == PATTERN.nnz  # of which one is 0
    np.testing.assert_allclose(found.toarray(), _dense(X, 0.7), rtol=1e-15, atol=1e-15)
    assert runs[0] == 1


def test_more_elements_than_there_are_derivatives():
    rng = np.random.default_rng(1)
    more = (PATTERN + scipy.sparse.random_array((N, N + 1), density=0.2, rng=rng)).tocsr()
    found = tg.jitted.jacobian(broyden, more, argnums=(0, 1))(X, 0.7, np.zeros(1, np.int64))
    assert found.nnz == more.nnz
    np.testing.assert_allclose(found.toarray(), _dense(X, 0.7), rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("left_out", [(3, 3), (4, 5), (7, N), (0, 1)])
def test_a_pattern_that_leaves_out_a_derivative(left_out):
    less = PATTERN.toarray()
    less[left_out] = 0.0
    with pytest.raises(ValueError, match=f"result {left_out[0]} depends on numbers for which `sparsity` has no"):
        tg.jitted.jacobian(broyden, less, argnums=(0, 1))(X, 0.7, np.zeros(1, np.int64))


def test_what_is_refused():
    runs, pattern = np.zeros(1, np.int64), PATTERN.toarray()
    for sparsity, text in (
        (pattern[1:], "returns 30 numbers, but `sparsity` has 29 rows"),
        (pattern[:, 1:], "have 31 numbers to differentiate by, but `sparsity` has 30 columns"),
    ):
        with pytest.raises(ValueError, match=text):
            tg.jitted.jacobian(broyden, sparsity, argnums=(0, 1))(X, 0.7, runs)
    with pytest.raises(ValueError, match="not of 1 dimensions"):
        tg.jitted.jacobian(broyden, pattern[0])
    with pytest.raises(RuntimeError, match="Got argnum=3"):
        tg.jitted.jacobian(broyden, pattern, argnums=3)(X, 0.7, runs)
    with pytest.raises(TypeError, match="argument 2"):
        tg.jitted.jacobian(broyden, pattern, argnums=2)(X, 0.7, runs)


def test_least_squares():
    args = 1.0, np.zeros(1, np.int64)
    found = least_squares(broyden, -np.ones(N), tg.jitted.jacobian(broyden, PATTERN.tocsc()[:, :N]), args=args)
    np.testing.assert_allclose(broyden(found.x, *args), 0.0, atol=1e-8)
