"""Eigenvalues, singular values, orthogonal factors, pseudoinverses, LU: what they are, and their derivatives.

Derivatives are compared with those of functions of NumPy arrays that take complex numbers (the complex step), of what
does not depend on the choice of a basis: projections and functions of values, which Newton's iterations below find.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.linalg

import tapegrad as tg

over_floats = pytest.mark.parametrize("dtype", [tg.float64, tg.float32], ids=repr)
SHAPES = [(3, 3), (4, 2), (2, 4), (2, 3, 2), (1, 1), (0, 3), (3, 0), (0, 2, 2), (2, 1, 3, 2)]


def drawn(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def turned(a: np.ndarray) -> np.ndarray:
    return a.swapaxes(-1, -2)


def with_values(values: Any, m: int, n: int, seed: int = 0) -> np.ndarray:
    """A matrix with these singular values."""
    rng = np.random.default_rng(seed)
    u, v = (np.linalg.qr(rng.normal(size=(k, k)))[0] for k in (m, n))
    r = min(m, n)
    return (u[:, :r] * np.asarray(values)) @ v[:, :r].T


def symmetric(values: Any, seed: int = 0) -> np.ndarray:
    """A symmetric matrix with these eigenvalues."""
    n = len(values)
    q = np.linalg.qr(drawn((n, n), seed))[0]
    a = (q * np.asarray(values, float)) @ q.T
    return (a + a.T) / 2


def close(got: Any, expected: Any, dtype: Any = tg.float64, factor: float = 200.0) -> None:
    tolerance = factor * np.finfo(dtype.numpy).eps
    np.testing.assert_allclose(np.asarray(got), expected, rtol=tolerance, atol=tolerance)


# --- what the factors are ---------------------------------------------------------------------------------------------


@over_floats
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("full", [True, False])
def test_singular_values_and_vectors(shape: tuple[int, ...], full: bool, dtype: Any):
    a = drawn(shape).astype(dtype.numpy)
    u, s, vh = tg.linalg.svd(tg.tensor(a), full)
    *batch, m, n = shape
    r = min(m, n)
    k, q = (m, n) if full else (r, r)
    assert [t.shape for t in (u, s, vh)] == [(*batch, m, k), (*batch, r), (*batch, q, n)]
    assert u.is_contiguous()
    assert s.is_contiguous()
    assert vh.is_contiguous()
    assert u.dtype is dtype
    close((u[..., :r] * s.unsqueeze(-2)) @ vh[..., :r, :], a, dtype)
    close(u.mT @ u, np.broadcast_to(np.eye(k), (*batch, k, k)), dtype)
    close(vh @ vh.mT, np.broadcast_to(np.eye(q), (*batch, q, q)), dtype)
    close(s, np.linalg.svd(a.astype(float), compute_uv=False), dtype)
    close(tg.linalg.svdvals(tg.tensor(a)), s, dtype)


@over_floats
@pytest.mark.parametrize("shape", [(3, 3), (2, 4, 4), (1, 1), (0, 0), (0, 2, 2), (2, 1, 3, 3)])
@pytest.mark.parametrize("uplo", ["L", "U"])
def test_eigenvalues_and_vectors(shape: tuple[int, ...], uplo: str, dtype: Any):
    a = drawn(shape).astype(dtype.numpy)
    a = a + turned(a)
    given = np.where(np.tri(shape[-1], dtype=bool) if uplo == "L" else np.tri(shape[-1], dtype=bool).T, a, np.nan)
    values, vectors = tg.linalg.eigh(tg.tensor(given.astype(dtype.numpy)), uplo)
    close((vectors * values.unsqueeze(-2)) @ vectors.mT, a, dtype)
    close(vectors.mT @ vectors, np.broadcast_to(np.eye(shape[-1]), shape), dtype)
    close(values, np.linalg.eigvalsh(a.astype(float)), dtype)
    close(tg.linalg.eigvalsh(tg.tensor(given), uplo), values, dtype)


@over_floats
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mode", ["reduced", "complete", "r"])
def test_orthogonal_and_triangular_factors(shape: tuple[int, ...], mode: str, dtype: Any):
    a = drawn(shape).astype(dtype.numpy)
    q, r = tg.linalg.qr(tg.tensor(a), mode)
    *batch, m, n = shape
    k = m if mode == "complete" else min(m, n)
    assert r.shape == (*batch, k, n)
    np.testing.assert_array_equal(np.triu(r), r)
    if mode == "r":
        assert q.shape == (0,)
        close(r.mT @ r, turned(a) @ a, dtype)
        return
    close(q @ r, a, dtype)
    close(q.mT @ q, np.broadcast_to(np.eye(k), (*batch, k, k)), dtype)


@over_floats
@pytest.mark.parametrize("shape", SHAPES)
def test_lu(shape: tuple[int, ...], dtype: Any):
    a = drawn(shape, 3).astype(dtype.numpy)
    p, l, u = tg.linalg.lu(tg.tensor(a))  # noqa: E741
    close(p @ l @ u, a, dtype)
    np.testing.assert_array_equal(np.tril(l), l)
    np.testing.assert_array_equal(np.triu(u), u)
    packed, pivots = tg.linalg.lu_factor(tg.tensor(a))
    assert pivots.dtype is tg.int32
    for mine, other in zip((p, l, u), tg.lu_unpack(packed, pivots), strict=True):
        np.testing.assert_array_equal(mine, other)
    if shape[-1] == shape[-2]:
        b = drawn((*shape[:-1], 2), 4).astype(dtype.numpy)
        for left, adjoint in ((True, False), (True, True), (False, False), (False, True)):
            of, right = (turned(a) if adjoint else a), (b if left else turned(b))
            x = tg.linalg.lu_solve(packed, pivots, tg.tensor(right), left=left, adjoint=adjoint).numpy()
            close(of @ x if left else x @ of, right, dtype, 2000)


@over_floats
@pytest.mark.parametrize("shape", [(3, 3), (2, 4, 4), (0, 0), (1, 1)])
def test_ldl(shape: tuple[int, ...], dtype: Any):
    a = drawn(shape).astype(dtype.numpy)
    a = a + turned(a) - 3 * np.eye(shape[-1], dtype=dtype.numpy) * (drawn(shape, 1) > 0)
    packed, pivots, info = tg.linalg.ldl_factor_ex(tg.tensor(a))
    assert pivots.dtype is info.dtype is tg.int32
    assert not info.any()
    b = tg.tensor(drawn((*shape[:-1], 2)), dtype=dtype, requires_grad=True)
    x = tg.linalg.ldl_solve(packed, pivots, b)
    close(a @ x.detach().numpy(), b.detach(), dtype, 5000)
    seed = tg.tensor(drawn((*shape[:-1], 2), 2), dtype=dtype)
    (g,) = tg.autograd.grad(x, b, seed, create_graph=True)
    (swept,) = tg.autograd.grad(x, b, seed)
    close(a @ g.detach().numpy(), seed, dtype, 5000)
    close(swept, g.detach(), dtype, 5000)


def test_ldl_of_a_matrix_that_has_none():
    assert tg.linalg.ldl_factor_ex(tg.zeros(2, 2)).info.item() == 1
    with pytest.raises(tg.linalg.LinAlgError, match="block that is zero"):
        tg.linalg.ldl_factor(tg.zeros(2, 2))
    with pytest.raises(NotImplementedError, match="is not implemented"):
        tg.linalg.ldl_factor(tg.eye(2).requires_grad_())


@over_floats
@pytest.mark.parametrize("shape", SHAPES)
def test_pseudoinverses(shape: tuple[int, ...], dtype: Any):
    a = drawn(shape, 1).astype(dtype.numpy)
    x = tg.linalg.pinv(tg.tensor(a)).numpy()
    for product, whole in ((a @ x @ a, a), (x @ a @ x, x), (a @ x, turned(a @ x)), (x @ a, turned(x @ a))):
        close(product, whole, dtype, 1000)


def test_tolerances_of_pseudoinverses_and_ranks():
    a = tg.tensor(np.stack([np.diag([4.0, 2.0, 1e-3]), np.diag([1.0, 1e-3, 1e-9])]))
    assert tg.linalg.matrix_rank(a).tolist() == [3, 3]
    assert tg.linalg.matrix_rank(a, rtol=0.1).tolist() == [2, 1]
    assert tg.linalg.matrix_rank(a, atol=tg.tensor([3.0, 1e-6]), rtol=0.0).tolist() == [1, 2]
    assert tg.linalg.matrix_rank(-a, hermitian=True, atol=1e-6).tolist() == [3, 2]
    for facts in ({"rtol": 0.1}, {"atol": 1e-6}, {"atol": 0.5, "rtol": 1e-5}):
        inverse = tg.linalg.pinv(a, **facts)
        assert tg.linalg.matrix_rank(inverse, rtol=1e-12).tolist() == tg.linalg.matrix_rank(a, **facts).tolist()
    close(tg.pinverse(a), np.linalg.pinv(a.numpy()))
    lower = tg.tensor([[2.0, math.nan], [1.0, 3.0]])
    close(tg.linalg.pinv(lower, hermitian=True), np.linalg.inv([[2.0, 1.0], [1.0, 3.0]]))


@over_floats
@pytest.mark.parametrize(("m", "n", "rank"), [(5, 3, 3), (3, 5, 3), (5, 4, 2), (3, 3, 3)])
def test_least_squares(m: int, n: int, rank: int, dtype: Any):
    a, b = with_values(np.arange(min(m, n), 0, -1.0) * (np.arange(min(m, n)) < rank), m, n), drawn((m, 2))
    found = tg.linalg.lstsq(tg.tensor(a, dtype=dtype), tg.tensor(b, dtype=dtype), 1e-5, driver="gelsd")
    expected = np.linalg.lstsq(a, b, 1e-5)
    close(found.solution, expected[0], dtype, 1000)
    close(found.residuals, expected[1], dtype, 1000)
    assert found.rank.item() == rank
    close(found.singular_values, expected[3], dtype)


def test_least_squares_of_a_matrix_that_is_nearly_singular():
    """As accurate as LAPACK's: |A X - B| is small though the inverse is large."""
    a, x = with_values(10.0 ** -np.arange(0, 10.0), 10, 10), drawn((10, 1))
    solution = tg.linalg.lstsq(tg.tensor(a), tg.tensor(a @ x)).solution.numpy()
    assert np.abs(solution - x).max() < 1e-5
    assert np.abs(a @ (solution - x)).max() < 1e-13


@over_floats
@pytest.mark.parametrize("scale", [0.0, 1e-8, 0.3, 5.0, 40.0])
def test_exponentials(scale: float, dtype: Any):
    a = (scale * drawn((2, 3, 3), 5)).astype(dtype.numpy)
    expected = np.array([scipy.linalg.expm(x.astype(float)) for x in a])
    got = tg.linalg.matrix_exp(tg.tensor(a)).numpy()
    assert np.abs(got - expected).max() <= 3000 * np.finfo(dtype.numpy).eps * max(scale, 1) * np.abs(expected).max()
    close(tg.matrix_exp(tg.zeros(2, 2, dtype=dtype)), np.eye(2), dtype)
    assert np.isnan(tg.matrix_exp(tg.tensor([[math.inf]], dtype=dtype)).item())


@pytest.mark.parametrize("shape", [(4, 2), (2, 3, 3), (3, 1), (2, 0)])
def test_reflections(shape: tuple[int, ...]):
    a = tg.tensor(drawn(shape))
    reflections, tau = tg.geqrf(a)
    *batch, m, n = shape
    q = tg.linalg.householder_product(reflections, tau)
    close(q.mT @ q, np.broadcast_to(np.eye(n), (*batch, n, n)))
    close(q @ reflections[..., : min(m, n), :].triu(), a)
    whole = tg.ormqr(reflections, tau, tg.eye(m).expand(*batch, m, m))
    close(whole[..., :n], q)
    other = tg.tensor(drawn((*batch, m, 2), 1))
    for left, transpose in ((True, False), (True, True), (False, False), (False, True)):
        of, b = (whole.mT if transpose else whole), (other if left else other.mT)
        close(tg.ormqr(reflections, tau, b, left, transpose), of @ b if left else b @ of)


def test_norms_and_conditions():
    a = drawn((2, 4, 3))
    s = np.linalg.svd(a, compute_uv=False)
    for ord, expected in {"nuc": s.sum(-1), 2: s[:, 0], -2: s[:, -1]}.items():
        close(tg.linalg.matrix_norm(tg.tensor(a), ord), expected)
        close(tg.linalg.matrix_norm(tg.tensor(a.transpose(1, 2, 0)), ord, (0, 1), True)[0, 0], expected)
        close(tg.linalg.norm(tg.tensor(a[0]), ord), expected[0])
    close(tg.norm(tg.tensor(a[0]), "nuc"), s[0].sum())
    square = a[:, :3]
    for p in (None, 2, -2, "fro", "nuc", 1, -1, math.inf, -math.inf):
        close(tg.linalg.cond(tg.tensor(square), p), np.linalg.cond(square, p), factor=2000)
    assert tg.linalg.cond(tg.ones(2, 2), 1).item() == math.inf


def test_what_has_no_factors_is_told_apart_by_info():
    a = tg.tensor(np.stack([np.eye(2), -np.eye(2), np.ones((2, 2))]), requires_grad=True)
    factor, info = tg.linalg.cholesky_ex(a)
    assert info.tolist() == [0, 1, 2]
    assert info.dtype is tg.int32
    np.testing.assert_array_equal(np.isnan(factor.detach()).all((1, 2)), [False, True, True])
    factor[0].sum().backward()
    inverse, info = tg.linalg.inv_ex(a)
    assert info.tolist() == [0, 0, 2]
    close(inverse[:2].detach(), a[:2].detach())
    _x, info = tg.linalg.solve_ex(a, tg.ones(3, 2))
    assert info.tolist() == [0, 0, 2]
    assert tg.linalg.lu_factor_ex(a).info.tolist() == [0, 0, 2]
    for call in (tg.linalg.cholesky_ex, tg.linalg.inv_ex, tg.linalg.lu_factor_ex):
        with pytest.raises(tg.linalg.LinAlgError, match=rf"linalg\.{call.__name__}: \(Batch element"):
            call(a, check_errors=True)
    with pytest.raises(tg.linalg.LinAlgError, match=r"\(Batch element 2\)"):
        tg.linalg.solve_ex(a, tg.ones(3, 2), check_errors=True)


# --- derivatives ------------------------------------------------------------------------------------------------------


def np_gram_schmidt(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Q and R of the first min(m, n) columns and of the others, with the signs of LAPACK's at real matrices."""
    m, n = a.shape
    r = min(m, n)
    signs = np.sign(np.diag(np.linalg.qr(a.real)[1]))
    q = np.zeros((m, r), a.dtype)
    for j in range(r):
        v = a[:, j].copy()
        for i in range(j):
            v = v - q[:, i] * (q[:, i] * v).sum()
        q[:, j] = signs[j] * v / np.sqrt((v * v).sum())
    return q, q.T @ a


def np_lu(a: np.ndarray) -> np.ndarray:
    """The packed factors, of rows exchanged as for the real part."""
    order = np.argmax(np.abs(scipy.linalg.lu(a.real)[0]), axis=0)
    a = a[order].copy()
    for k in range(min(a.shape)):
        a[k + 1 :, k] /= a[k, k]
        a[k + 1 :, k + 1 :] -= np.outer(a[k + 1 :, k], a[k, k + 1 :])
    return a


def np_projection(a: np.ndarray, chosen: slice) -> np.ndarray:
    """On eigenvectors, of a complex symmetric matrix: they are refined from those of the real part."""
    values, v = np.linalg.eigh(a.real)
    v = v.astype(complex)
    for _ in range(4):
        inside = np.linalg.solve(v.T @ v, v.T @ a @ v)
        gap = values[None] - values[:, None]
        np.fill_diagonal(gap, 1.0)
        step = inside / gap
        np.fill_diagonal(step, 0.0)
        same = np.abs(gap) < 1e-9
        step[same] = 0.0
        v = v + v @ step
        values = np.diag(inside)
    v = v[:, chosen]
    return v @ np.linalg.solve(v.T @ v, v.T)


def np_pinv(a: np.ndarray) -> np.ndarray:
    """Of full rank."""
    return np.linalg.solve(a.T @ a, a.T) if a.shape[0] >= a.shape[1] else np.linalg.solve(a @ a.T, a).T


def np_expm(a: np.ndarray) -> np.ndarray:
    total = term = np.eye(len(a), dtype=a.dtype)
    for k in range(1, 60):
        term = term @ a / k
        total = total + term
    return total


def spectral(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def of_a(a: Any) -> Any:
        values, vectors = tg.linalg.eigh((a + a.mT) / 2)
        return (vectors * f(values).unsqueeze(-2)) @ vectors.mT

    return of_a


def rebuilt(a: Any) -> Any:
    u, s, vh = tg.linalg.svd(a, full_matrices=False)
    return (u * (s**3).unsqueeze(-2)) @ vh


def complement(a: Any) -> Any:
    u = tg.linalg.svd(a).U[..., a.shape[-1] :]
    return u @ u.mT


def complement_of_qr(a: Any) -> Any:
    q = tg.linalg.qr(a, "complete").Q[..., a.shape[-1] :]
    return q @ q.mT


def symmetrised(f: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda a: f((a + a.T) / 2)


B = drawn((3, 2), 9)
CASES: dict[str, tuple[Callable[..., Any], Callable[..., Any], np.ndarray]] = {
    "eigh-function": (spectral(lambda values: values.exp()), symmetrised(np_expm), drawn((3, 3))),
    "eigh-projection": (
        lambda a: (v := tg.linalg.eigh((a + a.mT) / 2).eigenvectors[..., 1:]) @ v.mT,
        symmetrised(lambda a: np_projection(a, slice(1, None))),
        drawn((4, 4)),
    ),
    "eigvalsh": (
        lambda a: (tg.linalg.eigvalsh((a + a.mT) / 2) ** 3).sum(),
        symmetrised(lambda a: np.trace(a @ a @ a)),
        drawn((3, 3)),
    ),
    "svd": (rebuilt, lambda a: a @ a.T @ a, drawn((3, 3))),
    "svd-tall": (rebuilt, lambda a: a @ a.T @ a, drawn((4, 2))),
    "svd-wide": (rebuilt, lambda a: a @ a.T @ a, drawn((2, 4))),
    "svd-complement": (complement, lambda a: np.eye(4) - a @ np_pinv(a), drawn((4, 2))),
    "svd-values": (
        lambda a: (tg.linalg.svdvals(a) ** 4).sum(),
        lambda a: np.trace(a @ a.T @ a @ a.T),
        drawn((4, 2)),
    ),
    "qr-q": (lambda a: tg.linalg.qr(a).Q, lambda a: np_gram_schmidt(a)[0], drawn((3, 3))),
    "qr-r": (lambda a: tg.linalg.qr(a, "r").R, lambda a: np_gram_schmidt(a)[1], drawn((3, 3))),
    "qr-tall": (lambda a: tg.cat(tg.linalg.qr(a)), lambda a: np.vstack(np_gram_schmidt(a)), drawn((4, 2))),
    "qr-wide": (lambda a: tg.cat(tg.linalg.qr(a), 1), lambda a: np.hstack(np_gram_schmidt(a)), drawn((2, 4))),
    "qr-complete": (complement_of_qr, lambda a: np.eye(4) - a @ np_pinv(a), drawn((4, 2))),
    "pinv": (tg.linalg.pinv, np_pinv, drawn((3, 3))),
    "pinv-tall": (tg.linalg.pinv, np_pinv, drawn((4, 2))),
    "pinv-wide": (tg.linalg.pinv, np_pinv, drawn((2, 4))),
    "lstsq": (
        lambda a: tg.linalg.lstsq(a, tg.tensor(B, dtype=a.dtype)).solution,
        lambda a: np_pinv(a) @ B,
        drawn((3, 2)),
    ),
    "lu": (lambda a: tg.linalg.lu_factor(a).LU, np_lu, drawn((3, 3))),
    "lu-tall": (lambda a: tg.linalg.lu_factor(a).LU, np_lu, drawn((4, 2))),
    "lu-wide": (lambda a: tg.linalg.lu_factor(a).LU, np_lu, drawn((2, 4))),
    "lu_solve": (
        lambda a: tg.linalg.lu_solve(*tg.linalg.lu_factor(a), tg.tensor(B, dtype=a.dtype)),
        lambda a: np.linalg.solve(a, B),
        drawn((3, 3)),
    ),
    "matrix_exp": (tg.matrix_exp, np_expm, drawn((3, 3))),
    "matrix_exp-large": (lambda a: tg.matrix_exp(4 * a) / 100, lambda a: np_expm(4 * a) / 100, drawn((2, 2))),
    "cholesky_inverse": (
        tg.cholesky_inverse,
        lambda a: np.linalg.inv(np.tril(a) @ np.tril(a).T),
        drawn((3, 3)) + 3 * np.eye(3),
    ),
    "householder_product": (
        lambda a: tg.linalg.householder_product(a, tg.tensor([0.5, 0.7], dtype=a.dtype)),
        lambda a: np_reflected(a, [0.5, 0.7]),
        drawn((3, 2)),
    ),
    "det": (tg.linalg.det, np.linalg.det, drawn((3, 3))),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def np_reflected(a: np.ndarray, tau: list[float]) -> np.ndarray:
    q = np.eye(*a.shape).astype(a.dtype)
    for i in reversed(range(len(tau))):
        v = np.where(np.arange(len(a)) > i, a[:, i], 0) + (np.arange(len(a)) == i)
        q = q - tau[i] * np.outer(v, v @ q)
    return q


def jvp(function: Callable[..., Any], a: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.imag(function(a + 1e-30j * v)) / 1e-30


def gradient(function: Callable[..., Any], a: np.ndarray, seed: np.ndarray) -> np.ndarray:
    expected = np.zeros(a.shape)
    for at in np.ndindex(*a.shape):
        v = np.zeros(a.shape)
        v[at] = 1.0
        expected[at] = (seed * jvp(function, a, v)).sum()
    return expected


@every_case
@over_floats
def test_the_gradient_is_that_of_the_complex_step(case: Any, dtype: Any):
    ours, theirs, a = case
    x = tg.tensor(a, dtype=dtype, requires_grad=True)
    y = ours(x)
    close(y.detach(), theirs(a), dtype, 1000)
    seed = drawn(tuple(y.shape), 7)
    y.backward(tg.tensor(seed, dtype=dtype))
    close(x.grad, gradient(theirs, a, seed), dtype, 20_000)


@every_case
def test_recorded_it_is_the_same_and_gives_the_jvp(case: Any):
    ours, theirs, a = case
    x = tg.tensor(a, requires_grad=True)
    y = ours(x)
    seed = tg.tensor(drawn(tuple(y.shape), 7), requires_grad=True)
    (swept,) = tg.autograd.grad(y, x, seed, retain_graph=True)
    (recorded,) = tg.autograd.grad(y, x, seed, create_graph=True)
    close(recorded.detach(), swept, factor=10_000)
    v = drawn(a.shape, 8)
    (tangent,) = tg.autograd.grad(recorded, seed, tg.tensor(v))
    close(tangent, jvp(theirs, a, v), factor=20_000)


@every_case
def test_the_second_derivative_is_that_of_differences(case: Any):
    ours, _, a = case
    v, h = drawn(a.shape, 8), 1e-5

    def slope(a: np.ndarray) -> tuple[Any, Any]:
        x = tg.tensor(a, requires_grad=True)
        y = ours(x)
        (g,) = tg.autograd.grad(y, x, tg.tensor(drawn(tuple(y.shape), 7)), create_graph=True)
        return x, g

    x, g = slope(a)
    (second,) = tg.autograd.grad(g, x, tg.tensor(v))
    ahead, behind = (slope(a + t * v)[1].detach().numpy() for t in (h, -h))
    np.testing.assert_allclose(second.numpy(), (ahead - behind) / (2 * h), rtol=1e-5, atol=1e-5)


@every_case
def test_batches_and_strides(case: Any):
    ours, _, a = case
    both = np.stack([a, a + 0.1 * drawn(a.shape, 5)])
    stacked = tg.tensor(np.ascontiguousarray(turned(both)), requires_grad=True)
    try:
        y = ours(stacked.mT)
    except (IndexError, RuntimeError):
        pytest.skip("the case is of one matrix")
    if y.ndim == 0 or y.shape[0] != 2:
        pytest.skip("the case is of one matrix")
    y.sum().backward()
    for k, matrix in enumerate(both):
        x = tg.tensor(matrix, requires_grad=True)
        alone = ours(x)
        close(y[k].detach(), alone.detach(), factor=10_000)
        alone.sum().backward()
        close(stacked.grad[k].mT, x.grad, factor=10_000)


# --- where values are equal, or zero ----------------------------------------------------------------------------------

EQUAL = {
    "exactly": np.diag([2.0, 2.0, 5.0, 1.0]),
    "all": 3 * np.eye(4),
    "nearly": symmetric([2.0, 2.0, 5.0, 5.0]),
    "zeros": symmetric([0.0, 0.0, 1.0, 3.0]),
}


@over_floats
@pytest.mark.parametrize("a", EQUAL.values(), ids=EQUAL)
def test_gradients_where_eigenvalues_are_equal(a: np.ndarray, dtype: Any):
    """Of functions of eigenvalues that treat them alike, and of projections: finite, and right."""
    x = tg.tensor(a, dtype=dtype, requires_grad=True)
    values, vectors = tg.linalg.eigh(x)
    weights = drawn(a.shape, 3)
    (values**2).sum().backward(retain_graph=True)
    close(x.grad, 2 * a, dtype, 1000)
    x.grad = None
    one = ((vectors @ vectors.mT) * tg.tensor(weights, dtype=dtype)).sum()  # the identity
    (one + tg.linalg.eigvalsh(x).sum()).backward()
    close(x.grad, np.eye(4), dtype, 1000)


@over_floats
@pytest.mark.parametrize("name", ["exactly", "nearly", "zeros"])
def test_projections_on_spaces_of_equal_eigenvalues(name: str, dtype: Any):
    a = EQUAL[name]
    chosen = slice(1, 3) if name == "exactly" else slice(0, 2)
    weights = drawn(a.shape, 3)
    x = tg.tensor(a, dtype=dtype, requires_grad=True)
    v = tg.linalg.eigh(x).eigenvectors[:, chosen]
    ((v @ v.mT) * tg.tensor(weights, dtype=dtype)).sum().backward()
    # P' = sum over vectors v inside and w outside: (w w' dA v v' + v v' dA w w') / (l_v - l_w)
    values, vectors = np.linalg.eigh(a)
    inside = np.arange(4)[chosen]
    expected, both = np.zeros((4, 4)), (weights + weights.T) / 2
    for i in inside:
        for j in set(range(4)) - set(inside):
            p, q = np.outer(vectors[:, i], vectors[:, i]), np.outer(vectors[:, j], vectors[:, j])
            expected += (q @ both @ p + p @ both @ q) / (values[i] - values[j])
    close(x.grad, expected, dtype, 5000)


@over_floats
@pytest.mark.parametrize("shape", [(3, 3), (4, 3), (3, 4)])
@pytest.mark.parametrize("values", [(2.0, 2.0, 1.0), (2.0, 2.0, 2.0), (1.0, 0.0, 0.0)])
def test_gradients_where_singular_values_are_equal(shape: tuple[int, int], values: Any, dtype: Any):
    exact = np.zeros(shape)
    np.fill_diagonal(exact, values)
    for a in (exact, with_values(values, *shape)):
        x = tg.tensor(a, dtype=dtype, requires_grad=True)
        (tg.linalg.svdvals(x) ** 2).sum().backward()
        close(x.grad, 2 * a, dtype, 1000)
        if min(values) > 0:
            x.grad = None
            u, _, vh = tg.linalg.svd(x, full_matrices=False)
            weights = drawn(shape, 4)
            ((u @ vh) * tg.tensor(weights, dtype=dtype)).sum().backward()  # the polar factor
            expected = gradient(np_polar, a, weights)
            close(x.grad, expected, dtype, 5000)


def np_polar(a: np.ndarray) -> np.ndarray:
    """By Newton's iteration, which takes complex numbers, from the real part's."""
    vh = np.linalg.svd(a.real, full_matrices=False)[2]
    if a.shape[0] < a.shape[1]:
        return np_polar(a.T).T
    h = vh.T @ np.diag(np.linalg.svd(a.real)[1]) @ vh + 0j
    for _ in range(60):  # the root of a' a
        h = (h + np.linalg.solve(h, a.T @ a)) / 2
    return np.linalg.solve(h.T, a.T).T


def test_an_adjoint_that_is_zero_contributes_zero():
    x = tg.tensor(np.eye(3), requires_grad=True)
    values, vectors = tg.linalg.eigh(x)
    (values.sum() + (0.0 * vectors).sum()).backward()
    np.testing.assert_array_equal(x.grad, np.eye(3))
    y = tg.zeros(3, 2, requires_grad=True)
    u, s, vh = tg.linalg.svd(y)
    (0.0 * u.sum() + 0.0 * vh.sum() + s.sum() * 0.0).backward()
    np.testing.assert_array_equal(y.grad, np.zeros((3, 2)))
    z = tg.zeros(2, 2, requires_grad=True)
    (tg.linalg.qr(z).R * 0.0).sum().backward()
    np.testing.assert_array_equal(z.grad, np.zeros((2, 2)))


def test_a_loss_that_depends_on_the_basis_has_no_finite_gradient():
    x = tg.tensor(np.eye(3), requires_grad=True)
    (tg.linalg.eigh(x).eigenvectors * tg.tensor(drawn((3, 3)))).sum().backward()
    assert not np.isfinite(x.grad).all()


@pytest.mark.parametrize("rank", [1, 2])
def test_pseudoinverses_of_matrices_that_are_singular(rank: int):
    """The gradient is that among matrices of the rank: along A = L R."""
    left, right = drawn((4, rank)), drawn((rank, 3), 1)
    weights = drawn((3, 4), 2)
    p, q = (tg.tensor(t, requires_grad=True) for t in (left, right))
    (tg.linalg.pinv(p @ q) * tg.tensor(weights)).sum().backward()

    def theirs(pair: np.ndarray) -> np.ndarray:
        p, q = pair[: left.size].reshape(left.shape), pair[left.size :].reshape(right.shape)
        return np_pinv(q) @ np_pinv(p)

    expected = gradient(theirs, np.concatenate([left.ravel(), right.ravel()]), weights)
    close(np.concatenate([p.grad.numpy().ravel(), q.grad.numpy().ravel()]), expected, factor=20_000)


@pytest.mark.parametrize(
    "a",
    [
        np.zeros((2, 2)),
        np.ones((2, 2)),
        np.ones((3, 3)),
        with_values([2, 1, 0], 3, 3),
        with_values([2, 0, 0], 3, 3),
        np.zeros((3, 3)),
        np.zeros((1, 1)),
        np.diag([1.0, 0, 2, 0]),
    ],
)
@over_floats
def test_second_derivatives_of_determinants_of_singular_matrices(a: np.ndarray, dtype: Any):
    """A determinant is a polynomial: its second derivatives are minors."""
    n = len(a)
    expected = np.zeros((n,) * 4)
    for i, j, k, l in np.ndindex(n, n, n, n):  # noqa: E741
        if i != k and j != l:
            rows, columns = ([d for d in range(n) if d not in pair] for pair in ((i, k), (j, l)))
            sign = (-1) ** (i + j + k + l) * (1 if (i < k) == (j < l) else -1)
            expected[i, j, k, l] = sign * np.linalg.det(a[np.ix_(rows, columns)])
    x = tg.tensor(a, dtype=dtype, requires_grad=True)
    (g,) = tg.autograd.grad(tg.linalg.det(x), x, create_graph=True)
    for i, j in np.ndindex(n, n):
        (row,) = tg.autograd.grad(g[i, j], x, retain_graph=True)
        close(row, expected[i, j], dtype, 100)


def test_errors_are_caught_at_their_line():
    bad = tg.tensor([[[1.0, 0.0], [0.0, 1.0]], [[math.nan, 1.0], [1.0, 1.0]]])
    for call in (tg.linalg.svd, tg.linalg.svdvals, tg.linalg.pinv):
        with pytest.raises(tg.linalg.LinAlgError, match=r"^linalg.svd: \(Batch element 1\): .* non-finite values"):
            call(bad)
    assert np.isnan(tg.linalg.eigvalsh(bad)[1]).all()
    assert tg.linalg.eigvalsh(bad)[0].tolist() == [1.0, 1.0]
    for call in (tg.linalg.eig, tg.linalg.eigvals):
        with pytest.raises(RuntimeError, match="eigenvalues of a general matrix are complex"):
            call(tg.eye(2))
    with pytest.raises(NotImplementedError, match="derivative for 'geqrf' is not implemented"):
        tg.geqrf(tg.ones(2, 2, requires_grad=True))


def test_results_can_be_written_to():
    a = symmetric([1.0, 2.0, 4.0])
    x = tg.tensor(a, requires_grad=True)
    values, vectors = tg.linalg.eigh(x)
    values.mul_(values)
    values.sum().backward()
    close(x.grad, 2 * a)
    close((vectors.mT @ vectors).detach(), np.eye(3))


def test_low_rank():
    tg.manual_seed(0)
    a = with_values([5.0, 3.0, 1.0, 0, 0], 7, 5)
    for x in (a, a.T):
        u, s, v = tg.svd_lowrank(tg.tensor(x), 3)
        close((u * s) @ v.T, x, factor=1000)
    u, s, v = tg.pca_lowrank(tg.tensor(a), 3)
    close((u * s) @ v.T, a - a.mean(0), factor=1000)


def test_tensors_as_maps():
    a = drawn((2, 3, 6))
    inverse = tg.linalg.tensorinv(tg.tensor(a), ind=2)
    close(inverse, np.linalg.tensorinv(a, ind=2), factor=1000)
    b = drawn((2, 3))
    close(tg.linalg.tensorsolve(tg.tensor(a), tg.tensor(b)), np.linalg.tensorsolve(a, b), factor=1000)
    close(
        tg.linalg.tensorsolve(tg.tensor(a.transpose(2, 0, 1)), tg.tensor(b), dims=(0,)),
        np.linalg.tensorsolve(a.transpose(2, 0, 1), b, axes=(0,)),
        factor=1000,
    )


@pytest.mark.parametrize("shape", [(3, 3), (2, 4), (4, 2), (2, 3, 5)])
@pytest.mark.parametrize("full", [False, True])
def test_signs_of_singular_vectors_are_those_of_numpy(shape, full):
    a = np.random.default_rng(0).normal(size=shape)
    for want, found in zip(np.linalg.svd(a, full), tg.linalg.svd(tg.tensor(a), full), strict=True):
        np.testing.assert_allclose(found.numpy(), want, rtol=1e-12, atol=1e-14)
