"""Jitted code at kinks, ties and masks: what was not taken leaves no nan, and what is infinite stays so."""

import math

import numpy as np
import pytest
from numba import njit

import tapegrad as tg

FIRST_ORDER = [tg.func.grad, tg.func.jacfwd]


@njit
def masked(x, way):
    """Of x[0] < 0 and x[1] > 0: each hides an infinite partial behind what it doesn't take, or takes 0 times."""
    a, b = x[0], x[1]
    if way == 0:
        return math.sqrt(max(a, 0.0)) + b
    if way == 1:
        return np.sqrt(np.maximum(x, 0.0)).sum()
    if way == 2:
        return np.log(np.where(x > 0.0, x, 1.0)).sum()
    if way == 3:
        return (np.clip(x, 0.0, 9.0) ** 0.5).sum()
    if way == 4:
        return 0.0 * math.sqrt(max(a, 0.0) * b) + b * b
    if way == 5:
        return np.where(x > 0.0, np.sqrt(x), 0.0).sum()
    if way == 6:
        return 1.0 / (b - b * b) * (a * 0.0) + 0.0 * math.log(a - a) + b if b != 1.0 else b
    if way == 7:
        return np.maximum(np.minimum(a, 0.0), -0.0) * 0.0 + min(max(np.sqrt(b - 2.0), 1.0), b) * b
    return max(a * b, 0.0) ** 0.5 + np.fmax(a, 0.0) ** 0.5 + b**1.5


MASKED = {  # the derivative by x[1], and its own, at x[1] = 2
    0: (1.0, 0.0), 1: (0.5 / 2**0.5, -0.25 / 2**1.5), 2: (0.5, -0.25), 3: (0.5 / 2**0.5, -0.25 / 2**1.5),
    4: (4.0, 2.0), 5: (0.5 / 2**0.5, -0.25 / 2**1.5), 8: (1.5 * 2**0.5, 0.75 / 2**0.5),
}  # fmt: skip


@pytest.mark.parametrize("way", MASKED)
def test_what_was_not_taken_leaves_no_nan(way):
    x = np.array([-1.0, 2.0])
    for transform in FIRST_ORDER:
        np.testing.assert_allclose(transform(masked)(x, way), [0.0, MASKED[way][0]])
    np.testing.assert_allclose(tg.func.hessian(masked)(x, way), [[0.0, 0.0], [0.0, MASKED[way][1]]])


@njit
def infinite(x, way):
    if way == 0:
        return math.sqrt(x)
    if way == 1:
        return math.log(x)
    return x**0.5


def test_what_is_infinite_stays_so():
    for way in range(3):
        for transform in FIRST_ORDER:
            assert transform(infinite)(0.0, way) == np.inf


@njit
def kink(x, way):
    if way == 0:
        return np.linalg.norm(x)
    if way == 1:
        return np.std(x)
    if way == 2:
        return np.arctan2(x[0], x[1]) + math.atan2(x[0], x[1])
    return math.hypot(x[0], x[1])


def test_kinks():
    for transform in FIRST_ORDER:
        for way in range(4):
            np.testing.assert_array_equal(transform(kink)(np.zeros(2), way), [0.0, 0.0])
        np.testing.assert_array_equal(transform(kink)(np.ones(2), 1), [0.0, 0.0])


@njit
def tied(x, way):
    if way == 0:
        return np.maximum(x[0], x[1])
    if way == 1:
        return np.minimum(x[0], x[1])
    if way == 2:
        return np.max(x)
    if way == 3:
        return np.min(x)
    if way == 4:
        return np.fmax(x[0], x[1])
    if way == 5:
        return np.max(x.reshape(1, -1)[:, ::-1])
    if way == 6:
        return max(x[0], x[1])
    if way == 7:
        return min(x[0], x[1])
    if way == 8:
        return np.clip(x, 1.0, 2.0).sum() + np.clip(x, None, 1.0).sum() + np.clip(x, 1.0, None).sum()
    return np.clip(np.full(3, 1.5), x[0], x[1]).sum()


def test_ties_share():
    for transform in FIRST_ORDER:
        for x, wanted in (
            (
                [1.0, 1.0, 0.0],
                {0: [0.5, 0.5, 0], 1: [0.5, 0.5, 0], 2: [0.5, 0.5, 0], 3: [0, 0, 1], 4: [1, 0, 0], 6: [0.5, 0.5, 0],
                 7: [0.5, 0.5, 0], 8: [3, 3, 1], 9: [0, 3, 0]},
            ),
            ([2.0, 2.0, 2.0], {2: [1 / 3] * 3, 3: [1 / 3] * 3, 5: [1 / 3] * 3}),
            ([0.0, 3.0, 3.0], {0: [0, 1, 0], 1: [1, 0, 0], 2: [0, 0.5, 0.5], 3: [1, 0, 0]}),
            ([np.nan, 3.0, 3.0], {4: [0, 1, 0], 6: [1, 0, 0], 7: [1, 0, 0]}),
            ([3.0, np.nan, 3.0], {4: [1, 0, 0], 6: [1, 0, 0], 7: [1, 0, 0]}),
        ):  # fmt: skip
            for way, slopes in wanted.items():
                np.testing.assert_allclose(transform(tied)(np.array(x), way), slopes)


@njit
def chosen(x, way):
    if way == 0:
        return max(x[0] * x[1], 0.5) * x[0]
    if way == 1:
        return np.maximum(x[0] * x[1], 0.5) * x[0]
    if way == 2:
        return max(x[0] * x[1], 0.1, x[1]) * x[0]
    return np.minimum(x * x[::-1], 5.0).sum() * 0.5 * x[0] + np.sum(np.clip(x, 0.0, 0.5))


def test_second_derivatives_of_choices():
    x = np.array([1.5, 2.0])
    for way in range(4):
        wanted = [[2 * x[1], 2 * x[0]], [2 * x[0], 0.0]]
        np.testing.assert_allclose(tg.func.hessian(chosen)(x, way), wanted)
        np.testing.assert_allclose(tg.func.hvp(chosen, (x, way), (np.array([1.0, 0.0]), None))[1][0], wanted[0])


@njit
def power(x, n, way):
    if way == 0:
        s = 0.0
        for k in range(n):
            s += (k + 1.0) * x[0] ** k
        return s
    if way == 1:
        return (x ** (n - 3)).sum()
    if way == 2:
        return (x ** np.arange(n)[: x.size]).sum()
    if way == 3:
        return x[0] ** 0 + x[1] ** 3 + x[2] ** 1
    return x[1] ** (n - 5)


def test_integer_powers_at_zero_and_elsewhere():
    x = np.array([0.0, 2.0, 3.0])
    for way, slopes, curvatures in (
        (0, [2.0, 0, 0], [6.0, 0, 0]), (1, [0.0, 0, 0], [0.0, 0, 0]), (2, [0.0, 1, 6], [0.0, 0, 2]),
        (3, [0.0, 12, 1], [0.0, 12, 0]), (4, [0.0, -2 / 8, 0], [0.0, 6 / 16, 0]),
    ):  # fmt: skip
        for transform in FIRST_ORDER:
            np.testing.assert_allclose(transform(power)(x, 3, way), slopes)
        np.testing.assert_allclose(tg.func.hessian(power)(x, 3, way), np.diag(curvatures))
    tiny = np.array([0.0, 1e-200, 1.0])
    assert tg.func.grad(power)(tiny, 4, 4)[1] == -np.inf  # its square underflows, and is no division by zero


def test_powers_by_their_exponents():
    by_exponent = tg.func.grad(njit(lambda x, p: x**p), argnums=1)
    assert by_exponent(0.0, 2.0) == 0.0
    assert by_exponent(0.0, -1.0) == -np.inf
    assert np.isnan(by_exponent(-2.0, 2.0))
    np.testing.assert_allclose(by_exponent(2.0, 3.0), 8 * math.log(2.0))


norm = njit(lambda x: np.linalg.norm(x))
det = njit(lambda a: np.linalg.det(a))


def test_norms_of_extreme_numbers():
    for scale in (1e200, 1e-200, 1.0, 5e-324):
        x = np.array([3.0, 4.0]) * scale
        for gradient in (tg.func.grad(norm)(x), tg.func.jacfwd(norm)(x)):
            np.testing.assert_allclose(gradient, [0.6, 0.8], rtol=1e-14)
        if scale == 1.0:
            unit = x / 5.0
            np.testing.assert_allclose(tg.func.hessian(norm)(x), (np.eye(2) - np.outer(unit, unit)) / 5.0, atol=1e-15)


def cofactors(a):
    n = len(a)

    def minor(i, j):
        return np.linalg.det(np.delete(np.delete(a, i, 0), j, 1)) if n > 1 else 1.0

    return np.array([[(-1.0) ** (i + j) * minor(i, j) for j in range(n)] for i in range(n)])


def test_determinants_of_singular_matrices():
    rng = np.random.default_rng(0)
    row = rng.integers(-3, 4, size=(4, 4)).astype(float)
    for a in (np.array([[0.0]]), np.array([[1.0, 2.0], [2.0, 4.0]]), np.zeros((2, 2)), np.zeros((3, 3)),
              np.array([[1.0, 2, 3], [4, 5, 6], [5, 7, 9]]), np.diag([1.0, 2.0, 0.0]), np.diag([1.0, 0.0, 0.0]),
              np.vstack([row[:3], row[0] + row[1]]), row):  # fmt: skip
        for transform in FIRST_ORDER:
            np.testing.assert_allclose(transform(det)(a), cofactors(a), atol=1e-12)
    a = np.array([[1.0, 2.0], [2.0, 4.0]])
    wanted = np.zeros((2, 2, 2, 2))
    wanted[0, 0, 1, 1] = wanted[1, 1, 0, 0] = 1.0
    wanted[0, 1, 1, 0] = wanted[1, 0, 0, 1] = -1.0
    np.testing.assert_allclose(tg.func.hessian(det)(a), wanted, atol=1e-14)


@njit
def factor_sum(x, y, z):
    a = np.array([[x, z], [z, y]])
    return np.linalg.cholesky(a).sum()


@njit
def factor(a):
    return np.linalg.cholesky(a)


def test_a_cholesky_factor_is_that_of_a_symmetric_matrix():
    rng = np.random.default_rng(5)
    b, weights = rng.normal(size=(3, 3)), rng.normal(size=(3, 3))
    a = b @ b.T + 3.0 * np.eye(3)
    upper = a + np.triu(np.ones((3, 3)), 1)  # is not read
    value, jacobian = factor(a), tg.func.jacrev(factor)(a)
    tensor = tg.tensor(a, requires_grad=True)
    (tg.linalg.cholesky(tensor) * tg.tensor(weights)).sum().backward()
    np.testing.assert_allclose(np.tensordot(weights, jacobian), tensor.grad.numpy(), rtol=1e-12)
    np.testing.assert_array_equal(jacobian, jacobian.swapaxes(2, 3))
    np.testing.assert_allclose(tg.func.jacfwd(factor)(a), jacobian, rtol=1e-12, atol=1e-14)
    for given, tangent in (tg.func.jvp(factor, (upper,), (weights,)), tg.func.jvp(factor, (a,), (weights.T,))):
        np.testing.assert_array_equal(given, value)
        np.testing.assert_allclose(tangent, np.tensordot(jacobian, weights), rtol=1e-12, atol=1e-14)
    x, y, z = 2.0, 3.0, 1.0  # the sum is sqrt(x) + z / sqrt(x) + sqrt(y - z z / x)
    last = (y - z * z / x) ** -0.5 / 2
    exact = x**-0.5 / 2 - z * x**-1.5 / 2 + last * z * z / x**2, last, x**-0.5 - 2 * last * z / x
    for transform in (tg.func.grad, tg.func.jacfwd):
        np.testing.assert_allclose(transform(factor_sum, argnums=(0, 1, 2))(x, y, z), exact, rtol=1e-14)
