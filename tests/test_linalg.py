"""Factorizations, solutions, determinants, triangles and diagonals: values, both sweeps, second order, errors.

`CASES` gives each a function of Tensors and the same of NumPy arrays, in operations that take complex numbers: their
imaginary part gives exact derivatives (see `tests/test_ops.py`).
"""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tapegrad as tg
from tapegrad import engine
from tapegrad.kernels import native
from tapegrad.ops import factorization, triangles
from tapegrad.ops.declare import Op
from tapegrad.ops.factorization import BLOCK


def np_cholesky(a: np.ndarray) -> np.ndarray:
    """Of complex symmetric matrices too; of the mean of `a` and its transpose, as PyTorch's gradient has it."""
    a = (a + a.swapaxes(-1, -2)) / 2
    l, n = np.zeros_like(a), a.shape[-1]  # noqa: E741 - the factor's name
    for j in range(n):
        l[..., j, j] = np.sqrt(a[..., j, j] - (l[..., j, :j] ** 2).sum(-1))
        for i in range(j + 1, n):
            l[..., i, j] = (a[..., i, j] - (l[..., i, :j] * l[..., j, :j]).sum(-1)) / l[..., j, j]
    return l


def np_log_abs_det(a: np.ndarray) -> np.ndarray:
    det = np.linalg.det(a)
    return np.log(np.where(det.real < 0, -det, det))


def triangular(upper: bool, left: bool, unit: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def theirs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        t = np.triu(a) if upper else np.tril(a)
        if unit:
            eye = np.eye(a.shape[-1])
            t = t * (1 - eye) + eye
        return (
            np.linalg.solve(t, b) if left else np.linalg.solve(t.swapaxes(-1, -2), b.swapaxes(-1, -2)).swapaxes(-1, -2)
        )

    return lambda a, b: tg.linalg.solve_triangular(a, b, upper=upper, left=left, unitriangular=unit), theirs


Case = tuple[Callable[..., Any], Callable[..., Any], tuple[tuple[int, ...], ...]]
SQUARE = {"1x1": (1, 1), "4x4": (4, 4), "batch": (2, 3, 3, 3), "0x0": (0, 0), "no-matrix": (0, 3, 3)}
CASES: dict[str, Case] = (
    {
        f"{name}-{size}": (*functions, (shape,))
        for size, shape in SQUARE.items()
        for name, functions in {
            "cholesky": (tg.linalg.cholesky, np_cholesky),
            "cholesky-upper": (lambda a: tg.linalg.cholesky(a, upper=True), lambda a: np_cholesky(a).swapaxes(-1, -2)),
            "inv": (tg.linalg.inv, np.linalg.inv),
            "det": (tg.linalg.det, np.linalg.det),
            "logabsdet": (lambda a: tg.linalg.slogdet(a).logabsdet, np_log_abs_det),
            "logdet": (tg.logdet, lambda a: np.log(np.linalg.det(a))),
            "tril": (tg.tril, np.tril),
            "triu": (lambda a: tg.triu(a, 1), lambda a: np.triu(a, 1)),
            "diagonal": (lambda a: a.diagonal(1, -1, -2), lambda a: a.diagonal(1, -1, -2)),
        }.items()
    }
    | {
        f"triangular{'-upper' * u}{'-right' * (not left)}{'-unit' * unit}-{size}": (*triangular(u, left, unit), shapes)
        for u in (False, True)
        for left in (True, False)
        for unit in (False, True)
        for size, shapes in {
            "vector": ((3, 3), (3, 1) if left else (1, 3)),
            "matrix": ((3, 3), (3, 2) if left else (2, 3)),
            "broadcast": ((2, 1, 3, 3), (4, 3, 2) if left else (4, 2, 3)),
            "empty": ((0, 0), (0, 2) if left else (2, 0)),
        }.items()
    }
    | {
        "toeplitz": (
            tg.toeplitz,
            lambda a: a[..., abs(np.subtract.outer(*[np.arange(a.shape[-1])] * 2))],
            ((2, 4),),
        ),
        "solve-vector": (tg.linalg.solve, np.linalg.solve, ((4, 4), (4,))),
        "solve-matrix": (tg.linalg.solve, np.linalg.solve, ((4, 4), (4, 3))),
        "solve-vectors": (tg.linalg.solve, lambda a, b: np.linalg.solve(a, b[..., None])[..., 0], ((3, 2, 2), (3, 2))),
        "solve-broadcast": (tg.linalg.solve, np.linalg.solve, ((2, 1, 3, 3), (4, 3, 2))),
        "solve-right": (
            lambda a, b: tg.linalg.solve(a, b, left=False),
            lambda a, b: np.linalg.solve(a.T, b.T).T,
            ((3, 3), (2, 3)),
        ),
        "solve-1": (tg.linalg.solve, np.linalg.solve, ((1, 1), (1, 1))),
        "solve-transposed": (
            lambda a, b: tg.linalg.solve(a.T, b),
            lambda a, b: np.linalg.solve(a.T, b),
            ((3, 3), (3, 2)),
        ),
        "solve-stepped": (
            lambda a, b: tg.linalg.solve(a[:3, ::2], b[:, 1:]),
            lambda a, b: np.linalg.solve(a[:3, ::2], b[:, 1:]),
            ((5, 5), (3, 3)),
        ),
        "triangular-of-a-transpose": (
            lambda a, b: tg.linalg.solve_triangular(a.T, b, upper=True),
            lambda a, b: np.linalg.solve(np.tril(a).T, b),
            ((3, 3), (3, 2)),
        ),
        "triangular-right-of-a-transpose": (
            lambda a, b: tg.linalg.solve_triangular(a.mT, b, upper=False, left=False),
            lambda a, b: np.linalg.solve(np.triu(a), b.swapaxes(-1, -2)).swapaxes(-1, -2),
            ((2, 3, 3), (2, 2, 3)),
        ),
        "cholesky_solve": (
            tg.cholesky_solve,
            lambda b, a: np.linalg.solve(np.tril(a) @ np.tril(a).T, b),
            ((3, 2), (3, 3)),
        ),
        "cholesky_solve-upper": (
            lambda b, a: tg.cholesky_solve(b, a, upper=True),
            lambda b, a: np.linalg.solve(np.triu(a).T @ np.triu(a), b),
            ((3, 2), (3, 3)),
        ),
        "cholesky-of-a-transpose": (lambda a: tg.linalg.cholesky(a.T), lambda a: np_cholesky(a.T), ((4, 4),)),
        "diagonal-below": (lambda a: a.diagonal(-1, 0, 2), lambda a: a.diagonal(-1, 0, 2), ((4, 2, 3),)),
        "diagonal-of-a-slice": (lambda a: a[1:, ::2].T.diagonal(), lambda a: a[1:, ::2].T.diagonal(), ((4, 5),)),
        "diagonal-outside": (lambda a: a.diagonal(7), lambda a: a.diagonal(7), ((3, 3),)),
        "diag": (lambda a: tg.diag(a, 1), lambda a: np.diag(a, 1), ((3, 4),)),
        "diag-of-a-vector": (lambda a: tg.diag(a, -1), lambda a: np.diag(a, -1), ((3,),)),
        "diag_embed": (
            lambda a: tg.diag_embed(a, 1),
            lambda a: np.stack([np.diag(v, 1) for v in a]),
            ((2, 3),),
        ),
        "trace": (tg.trace, np.trace, ((3, 4),)),
        "tril-of-a-rectangle": (lambda a: tg.tril(a.mT, -1), lambda a: np.tril(a.swapaxes(-1, -2), -1), ((2, 4, 3),)),
        "matrix_norm": (lambda a: tg.linalg.norm(a, 1), lambda a: np.where(a.real > 0, a, -a).sum(0).max(), ((3, 3),)),
    }
)
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
over_floats = pytest.mark.parametrize("dtype", [tg.float64, tg.float32], ids=repr)


def points(case: Case, seed: int) -> list[np.ndarray]:
    """Square matrices are symmetric and positive-definite; other operands are drawn freely."""
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=shape) for shape in case[2]]
    return [
        (a + a.swapaxes(-1, -2)) / 4 + 2 * np.eye(a.shape[-1]) if a.ndim > 1 and a.shape[-1] == a.shape[-2] else a
        for a in arrays
    ]


def np_jvp(function: Callable[..., Any], arrays: list[np.ndarray], tangents: list[np.ndarray]) -> np.ndarray:
    h = 1e-30
    return function(*(a + 1j * h * v for a, v in zip(arrays, tangents, strict=True))).imag / h


def leaves(arrays: list[np.ndarray], dtype: Any = tg.float64) -> list[Any]:
    return [tg.tensor(a, dtype=dtype, requires_grad=True) for a in arrays]


@every_case
@over_floats
def test_values(case: Case, dtype: Any):
    arrays = [a.astype(dtype.numpy) for a in points(case, 0)]
    result, expected = case[0](*map(tg.tensor, arrays)), case[1](*(a.astype(float) for a in arrays))
    assert result.dtype is dtype
    assert tuple(result.shape) == np.shape(expected)
    tolerance = 200 * np.finfo(dtype.numpy).eps
    np.testing.assert_allclose(result.numpy(), expected, rtol=tolerance, atol=tolerance)


@every_case
@over_floats
def test_the_vjp_is_that_of_the_complex_step(case: Case, dtype: Any):
    arrays, rng = points(case, 1), np.random.default_rng(2)
    inputs = leaves(arrays, dtype)
    y = case[0](*inputs)
    seed = rng.normal(size=y.shape)
    y.backward(tg.tensor(seed, dtype=dtype))
    for k, x in enumerate(inputs):
        expected = np.zeros(x.shape)
        for at in np.ndindex(*x.shape):
            tangents = [np.zeros(a.shape) for a in arrays]
            tangents[k][at] = 1.0
            expected[at] = (seed * np_jvp(case[1], arrays, tangents)).sum()
        assert x.grad.dtype is dtype
        tolerance = 1e-11 if dtype is tg.float64 else 1e-3
        np.testing.assert_allclose(x.grad.numpy(), expected, rtol=tolerance, atol=tolerance)


@every_case
def test_recorded_in_reverse_it_gives_the_same_and_the_jvp(case: Case):
    """The adjoints are linear in the seed; differentiating them by it gives the JVP, and <u, J v> = <J' u, v>."""
    arrays, rng = points(case, 3), np.random.default_rng(4)
    inputs = leaves(arrays)
    y = case[0](*inputs)
    seed = tg.tensor(rng.normal(size=y.shape), requires_grad=True)
    swept = [g.numpy() for g in tg.autograd.grad(y, inputs, seed, retain_graph=True)]
    recorded = tg.autograd.grad(y, inputs, seed, create_graph=True)
    for s, r in zip(swept, recorded, strict=True):
        np.testing.assert_allclose(r.detach().numpy(), s, rtol=1e-11, atol=1e-12)
    tangents = [rng.normal(size=a.shape) for a in arrays]
    (jvp,) = tg.autograd.grad(recorded, seed, [tg.tensor(v) for v in tangents], retain_graph=True)
    np.testing.assert_allclose(jvp.numpy(), np_jvp(case[1], arrays, tangents), rtol=1e-10, atol=1e-11)
    inner = sum((s * v).sum() for s, v in zip(swept, tangents, strict=True))
    np.testing.assert_allclose((seed.detach().numpy() * jvp.numpy()).sum(), inner, rtol=1e-10, atol=1e-11)


@every_case
def test_the_second_derivative_is_that_of_differences(case: Case):
    arrays, tangents = points(case, 5), points(case, 6)  # symmetric, as Cholesky's gradient takes for granted
    rng, h = np.random.default_rng(7), 1e-5
    seed = tg.tensor(rng.normal(size=case[0](*map(tg.tensor, arrays)).shape))

    def gradient(t: float) -> list[np.ndarray]:
        inputs = leaves([a + t * v for a, v in zip(arrays, tangents, strict=True)])
        return [g.numpy() for g in tg.autograd.grad(case[0](*inputs), inputs, seed)]

    inputs = leaves(arrays)
    first = tg.autograd.grad(case[0](*inputs), inputs, seed, create_graph=True)
    along = sum(((g * tg.tensor(v)).sum() for g, v in zip(first, tangents, strict=True)), tg.zeros(()))
    second: Any = [None] * len(inputs)
    if along.requires_grad:
        second = tg.autograd.grad(along, inputs, allow_unused=True)
    for s, ahead, behind in zip(second, gradient(h), gradient(-h), strict=True):
        found = np.zeros(ahead.shape) if s is None else s.numpy()
        np.testing.assert_allclose(found, (ahead - behind) / (2 * h), rtol=1e-5, atol=1e-6)


def test_every_operation_on_matrices_is_tested():
    recorded = set()
    for case in CASES.values():
        inputs = leaves(points(case, 8))
        y = case[0](*inputs)
        recorded |= set(tg.current_tape().row_array()["opcode"].tolist())
        del y
    recorded |= {factorization.sign_of_det.opcode}  # test_determinants_that_are_zero_or_negative
    declared = [
        op
        for module in (factorization, triangles)
        for op in vars(module).values()
        if isinstance(op, Op) and op.is_public
    ]
    assert [op.name for op in declared if op.opcode not in recorded] == []


@pytest.mark.parametrize("n", [BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5])
@pytest.mark.parametrize("upper", [False, True])
def test_choleskys_adjoint_in_blocks(n: int, upper: bool):
    """Against l^-T phi(l' l_bar) l^-1, whole."""
    rng = np.random.default_rng(n)
    a = rng.normal(size=(n, n))
    a, bar = a @ a.T + n * np.eye(n), rng.normal(size=(n, n))
    (g,) = tg.autograd.grad(tg.linalg.cholesky(x := tg.tensor(a, requires_grad=True), upper=upper), x, tg.tensor(bar))
    l, low = np.linalg.cholesky(a), bar.T if upper else bar  # noqa: E741
    phi = np.tril(l.T @ np.tril(low))
    phi -= np.diag(np.diag(phi)) / 2
    s = np.linalg.solve(l.T, np.linalg.solve(l.T, phi.T).T)
    np.testing.assert_allclose(g.numpy(), (s + s.T) / 2, rtol=1e-10, atol=1e-12)


def test_the_gradient_of_a_singular_determinant_is_the_matrix_of_cofactors():
    for dtype, tolerance in ((tg.float64, 1e-13), (tg.float32, 1e-5)):
        x = tg.tensor([[[1.0, 2.0], [2.0, 4.0]], [[0.0, 0.0], [0.0, 3.0]]], dtype=dtype, requires_grad=True)
        tg.linalg.det(x).sum().backward()
        np.testing.assert_allclose(x.grad, [[[4, -2], [-2, 1]], [[3, 0], [0, 0]]], rtol=tolerance, atol=tolerance)


def test_determinants_that_are_zero_or_negative():
    x = tg.tensor([[[0.0, 1.0], [1.0, 0.0]], [[1.0, 1.0], [1.0, 1.0]]])
    sign, logabsdet = tg.linalg.slogdet(x)
    assert sign.tolist() == [-1.0, 0.0]
    assert logabsdet.tolist() == [0.0, -np.inf]
    np.testing.assert_array_equal(tg.logdet(x), [np.nan, -np.inf])


def test_only_the_triangle_is_read():
    a = np.array([[2.0, np.nan], [1.0, 3.0]])
    assert np.isfinite(tg.linalg.cholesky(tg.tensor(a)).numpy()).all()
    assert np.isfinite(tg.linalg.cholesky(tg.tensor(a.T), upper=True).numpy()).all()
    assert np.isfinite(tg.linalg.solve_triangular(tg.tensor(a), tg.ones(2, 1), upper=False).numpy()).all()


def test_a_diagonal_is_a_view():
    k = tg.zeros(3, 3)
    k.diagonal().add_(2.0)
    k.diagonal(1)[0] = 5.0
    assert k.tolist() == [[2.0, 5.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 2.0]]
    x = tg.ones(2, 2, requires_grad=True)
    y = x * 3
    y.diagonal().mul_(tg.tensor([1.0, 5.0]))
    y.sum().backward()
    assert x.grad.tolist() == [[3.0, 3.0], [3.0, 15.0]]


@pytest.mark.parametrize("dtype", [tg.int64, tg.int32, tg.bool], ids=repr)
def test_triangles_and_diagonals_of_integers(dtype: Any):
    a = np.arange(12).reshape(3, 4).astype(dtype.numpy)
    x = tg.tensor(a)
    for k in (-4, -1, 0, 2, 5):
        np.testing.assert_array_equal(x.tril(k).numpy(), np.tril(a, k))
        np.testing.assert_array_equal(x.triu(k).numpy(), np.triu(a, k))
        np.testing.assert_array_equal(x.diag(k).numpy(), np.diag(a, k))
    if dtype is not tg.bool:
        assert x.trace().dtype is tg.int64
        assert x.trace().item() == np.trace(a)


# --- errors that depend on values -------------------------------------------------------------------------------------

INDEFINITE = [[1.0, 2.0], [2.0, 1.0]]


def failing(name: str, x: Any) -> Any:
    more = [tg.ones(2)] if name == "solve" else []
    return getattr(tg.linalg, name)(x, *more)


@pytest.mark.parametrize(
    ("name", "values", "phrase"),
    [
        ("cholesky", INDEFINITE, "linalg.cholesky: The factorization could not be completed because the input is not "
         "positive-definite (the leading minor of order 2 is not positive-definite). "
         "cholesky, giving float64[2, 2], recorded"),
        ("inv", [[1.0, 1.0], [1.0, 1.0]], "linalg.inv: The diagonal element 2 is zero, the inversion could not be "
         "completed because the input matrix is singular. inv, giving float64[2, 2], recorded"),
        ("solve", [[1.0, 1.0], [1.0, 1.0]], "torch.linalg.solve: The solver failed because the input matrix is "
         "singular. solve, giving float64[2, 1], recorded"),
    ],
)  # fmt: skip
def test_errors_come_at_the_line_and_leave_everything_as_it_was(name: str, values: Any, phrase: str):
    x = tg.tensor(values, requires_grad=True)
    good = x * 2
    engine.reclaim(tg.current_tape())  # now, not in between: earlier tests decide when it is due
    before = len(tg.current_tape())
    with pytest.raises(tg.linalg.LinAlgError) as raised:
        failing(name, x)
    assert str(raised.value).startswith(phrase)
    assert str(raised.value).endswith(f"{__file__}:{failing.__code__.co_firstlineno + 2}")
    exported = tg.ones(2).numpy()  # all that is pending is computed for it: the failure is not met again
    assert exported.tolist() == [1.0, 1.0]
    del raised
    engine.reclaim(tg.current_tape())
    assert len(tg.current_tape()) == before
    assert x.grad is None
    assert good.tolist() == (2 * np.array(values)).tolist()
    good.sum().backward()
    assert x.grad.tolist() == [[2.0, 2.0], [2.0, 2.0]]


def test_a_failure_is_caught_where_it_is_waited_for():
    a = tg.tensor([[1.0, 1.0], [1.0, 1.0 - 1e-9]], requires_grad=True)
    jitter = [0.0, *(10.0**k for k in range(-12, 0))]
    tried = 0
    for step in jitter:
        try:
            factor = tg.linalg.cholesky(a + step * tg.eye(2))
        except tg.linalg.LinAlgError:
            tried += 1
        else:
            break
    assert step == pytest.approx(1e-9)
    assert tried == jitter.index(step)
    factor.sum().backward()
    shifted = (a.detach() + step * tg.eye(2)).requires_grad_()
    tg.linalg.cholesky(shifted).sum().backward()
    np.testing.assert_array_equal(a.grad.numpy(), shifted.grad.numpy())


def test_recorded_derivatives_fail_at_their_line_too():
    x = tg.tensor(0.0, requires_grad=True)
    (slope,) = tg.autograd.grad((x - 1.0) ** 2, x, create_graph=True)
    with pytest.raises(tg.linalg.LinAlgError, match="singular"):
        tg.linalg.inv((slope + 2.0).reshape(1, 1))
    (curvature,) = tg.autograd.grad(slope, x)
    assert curvature.item() == 2.0


def test_errors_name_the_matrix_of_a_batch():
    x = tg.tensor(np.stack([np.eye(3), np.eye(3), -np.eye(3)]))
    with pytest.raises(RuntimeError, match=r"^linalg.cholesky: \(Batch element 2\): .* minor of order 1 is not"):
        tg.linalg.cholesky(x).numpy()


def test_a_failed_row_does_not_stop_others():
    x, total = tg.ones(2), tg.zeros(2)
    with pytest.raises(tg.linalg.LinAlgError) as raised:
        tg.linalg.cholesky(tg.tensor(INDEFINITE))
    for _ in range(70_000):  # more than pile up before they are swept unasked
        total = total + x
    assert total.tolist() == [70_000.0, 70_000.0]
    assert "positive-definite" in str(raised.value)


@pytest.mark.skipif(native.CHECKED, reason="Numba, which reports what is out of bounds, imports SciPy")
def test_scipy_is_imported_when_it_is_needed():
    program = (
        "import sys, tapegrad as tg; assert 'scipy' not in sys.modules; tg.ones(2).sum().item(); "
        "assert 'scipy' not in sys.modules; tg.linalg.cholesky(tg.eye(2)).numpy(); assert 'scipy.linalg' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
