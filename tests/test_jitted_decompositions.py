"""Factorisations in jitted functions: values are Numba's, derivatives those of the same code over Tensors."""

from typing import Any

import numpy as np
import pytest
from plain_functions import njit
from thoroughness import thorough

import tapegrad as tg

RNG = np.random.default_rng(3)
SQUARE, TALL, WIDE = RNG.normal(size=(3, 3)), RNG.normal(size=(4, 2)), RNG.normal(size=(2, 4))
WEIGHTS = RNG.normal(size=(4, 4))


def symmetric(a):
    w, v = np.linalg.eigh(a + a.T)
    return (np.dot(v * np.exp(0.3 * w), v.T) * WEIGHTS[:3, :3]).sum() + np.linalg.eigvalsh(a + a.T)[0]


def singular(a):
    u, s, vh = np.linalg.svd(a, False)
    return (np.dot(u * s * s * s, vh) * WEIGHTS[: a.shape[0], : a.shape[1]]).sum() + s[0]


def complements(a):
    u, s, vh = np.linalg.svd(a)
    k = s.shape[0]
    p, q = 1.0 * u[:, k:], 1.0 * vh[k:]
    left, right = np.dot(p, p.T), np.dot(q.T, q)
    return (left * WEIGHTS[: a.shape[0], : a.shape[0]]).sum() + (right * WEIGHTS[: a.shape[1], : a.shape[1]]).sum()


def orthogonal(a):
    q, r = np.linalg.qr(a)
    return (q * WEIGHTS[: q.shape[0], : q.shape[1]]).sum() + (r * WEIGHTS[: r.shape[0], : r.shape[1]]).sum()


def inverse(a):
    return (np.linalg.pinv(a) * WEIGHTS[: a.shape[1], : a.shape[0]]).sum() + np.linalg.cond(a)


def least_squares(a):
    x, left, _, s = np.linalg.lstsq(a, a[:, 0] * a[:, 1] + 1.0, -1.0)
    return (x * WEIGHTS[0, : a.shape[1]]).sum() + left.sum() + s[0]


FUNCTIONS = {f.__name__: (f, njit(f)) for f in (symmetric, singular, complements, orthogonal, inverse, least_squares)}
CASES = [("symmetric", SQUARE)] + [(name, a) for name in list(FUNCTIONS)[1:] for a in (SQUARE, TALL, WIDE)]
every_case = pytest.mark.parametrize(("name", "a"), CASES, ids=[f"{n}-{a.shape[0]}x{a.shape[1]}" for n, a in CASES])


def over_tensors(function: Any, a: np.ndarray) -> tuple[float, np.ndarray]:
    x = tg.tensor(a, requires_grad=True)
    y = function(x)
    y.backward()
    return y.item(), x.grad.numpy()


@every_case
def test_gradients(name: str, a: np.ndarray):
    function, jitted = FUNCTIONS[name]
    value, gradient = tg.func.value_and_grad(jitted)(a)
    assert value == pytest.approx(jitted(a), rel=1e-15)  # sums of products of two layouts may differ in their order
    np.testing.assert_allclose(gradient, over_tensors(function, a)[1], rtol=1e-9, atol=1e-10)


@thorough
@every_case
def test_tangents(name: str, a: np.ndarray):
    function, jitted = FUNCTIONS[name]
    v = RNG.normal(size=a.shape)
    value, tangent = tg.func.jvp(jitted, (a,), (v,))
    assert value == pytest.approx(jitted(a), rel=1e-15)  # sums of products of two layouts may differ in their order
    np.testing.assert_allclose(tangent, (over_tensors(function, a)[1] * v).sum(), rtol=1e-9, atol=1e-10)


@thorough
@pytest.mark.parametrize(("name", "a"), [("symmetric", SQUARE), ("singular", TALL)])
def test_second_derivatives(name: str, a: np.ndarray):
    function, jitted = FUNCTIONS[name]
    hessian = tg.func.hessian(jitted)(a)
    h, v = 1e-5, RNG.normal(size=a.shape)
    ahead, behind = over_tensors(function, a + h * v)[1], over_tensors(function, a - h * v)[1]
    along = np.tensordot(hessian, v, 2)
    np.testing.assert_allclose(along, (ahead - behind) / (2 * h), rtol=1e-6, atol=1e-6)


@njit
def of_equal_values(a, part):
    w, v = np.linalg.eigh(a)
    q = 1.0 * v[:, :2]
    p, total = np.dot(q, q.T), 0.0
    for i in range(3):
        for j in range(3):
            total += WEIGHTS[i, j] * p[i, j]
    return total * (part != 1) + (w * w).sum() * (part != 0)


def test_eigenvalues_that_are_equal():
    a, w = np.diag([1.0, 1.0, 3.0]), (WEIGHTS + WEIGHTS.T)[:3, :3] / 2
    of_space = np.zeros((3, 3))
    of_space[:2, 2] -= w[:2, 2] / 2
    of_space[2, :2] -= w[2, :2] / 2
    v = RNG.normal(size=(3, 3))
    for part, expected in ((0.0, of_space), (1.0, 2 * a)):
        np.testing.assert_allclose(tg.func.grad(of_equal_values)(a, part), expected, rtol=1e-13, atol=1e-13)
        tangent = tg.func.jvp(of_equal_values, (a, part), (v, 0.0))[1]
        np.testing.assert_allclose(tangent, (expected * v).sum(), rtol=1e-12)
    # Of both, the adjoints of vectors and values don't tell how vectors of one value part.
    assert np.isnan(tg.func.grad(of_equal_values)(a, 2.0)[:2, :2]).any()


COMPLEX = RNG.normal(size=(3, 2)) + 1j * RNG.normal(size=(3, 2))
TWO, THREE = COMPLEX[:2], COMPLEX[:, 0].copy()


@thorough
def test_complex_hermitian_matrices():
    """The square of a matrix by its eigenvectors, and the matrix and its determinant by its Cholesky factor."""
    x = np.array([0.5 - 1.0j, 2.0 + 0.3j])

    @njit
    def f(h):
        w, v = np.linalg.eigh(h)
        factor = np.linalg.cholesky(h)
        square = np.dot(v * (w * w), np.conj(v.T)) + np.dot(factor, np.conj(factor.T))
        return np.vdot(x, np.dot(square, x)).real + 2.0 * np.log(np.diag(factor).real).sum()

    h = np.dot(TWO, TWO.conj().T) + np.eye(2)
    value, gradient = tg.func.value_and_grad(f)(h)
    hx, outer = h @ x, np.outer(x, x.conj())
    wanted = np.outer(hx, x.conj()) + np.outer(x, hx.conj()) + outer + np.linalg.inv(h)
    assert value == f(h)
    np.testing.assert_allclose(gradient, wanted, rtol=1e-12)


@thorough
@pytest.mark.filterwarnings("ignore::numba.core.errors.NumbaPerformanceWarning")
def test_complex_singular_vectors_and_orthonormal_columns():
    """A A' A by singular vectors, and A by its factors."""

    @njit
    def f(a):
        u, s, vh = np.linalg.svd(a, False)
        q, r = np.linalg.qr(a)
        cube = np.dot(u * (s * s * s), vh) + np.dot(q, r)
        return np.vdot(x, np.dot(cube, y)).real + np.log(np.abs(np.diag(r))).sum()

    x, y, a = THREE, np.array([1.0 + 1.0j, 0.5j]), COMPLEX
    value, gradient = tg.func.value_and_grad(f)(a)
    outer, adjoint = np.outer(x, y.conj()), a.conj().T
    cubed = outer @ adjoint @ a + a @ outer.conj().T @ a + a @ adjoint @ outer
    np.testing.assert_allclose(gradient, cubed + outer + np.linalg.pinv(a).conj().T, rtol=1e-12)
    assert value == f(a)


@thorough
def test_factors_in_single_precision():
    @njit
    def f(a):
        w, v = np.linalg.eigh(a)
        u, s, vh = np.linalg.svd(a, False)
        return np.dot(v * w * w, v.T)[0, 1] + np.dot(u * s * s * s, vh)[0, 1]

    a = np.array([[2.0, 0.5], [0.5, -1.0]], np.float32)
    value, gradient = tg.func.value_and_grad(f)(a)
    assert type(value) is type(f(a))
    assert value == f(a)
    e = np.array([[0.0, 1.0], [0.0, 0.0]])
    wide = a.astype(np.float64)
    square = (e @ wide + wide @ e + e.T @ wide + wide @ e.T) / 2
    np.testing.assert_allclose(gradient, square + e @ wide @ wide + wide @ e.T @ wide + wide @ wide @ e, rtol=1e-5)


@thorough
def test_least_squares_of_complex_matrices():
    a, b, a_dot, b_dot = (RNG.normal(size=shape) + 1j * RNG.normal(size=shape) for shape in ((4, 2), 4, (4, 2), 4))
    f = njit(lambda a, b: np.linalg.lstsq(a, b))
    found, dots = tg.func.jvp(f, (a, b), (a_dot, b_dot))
    assert all(np.array_equal(x, y) for x, y in zip(found, f(a, b), strict=True))
    x, inverse, left = found[0], np.linalg.pinv(a), b - a @ found[0]
    u, _, vh = np.linalg.svd(a, full_matrices=False)
    x_dot = inverse @ (b_dot - a_dot @ x) + inverse @ inverse.conj().T @ a_dot.conj().T @ left
    np.testing.assert_allclose(dots[0], x_dot, rtol=1e-11)
    np.testing.assert_allclose(dots[1], 2 * np.real(left.conj() @ (b_dot - a_dot @ x)), rtol=1e-11)
    np.testing.assert_allclose(dots[3], np.real(np.diag(u.conj().T @ a_dot @ vh.conj().T)), rtol=1e-11)
