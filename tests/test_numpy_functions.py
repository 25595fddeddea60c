"""NumPy's functions on tensors, the compositions: values against NumPy's own, derivatives against complex steps."""

import numpy as np
import pytest

import tapegrad as tg

RNG = np.random.default_rng(11)
A = RNG.normal(size=(3, 3)) + 4 * np.eye(3)
B = RNG.normal(size=(2, 3))
X = RNG.normal(size=4)
C = RNG.normal(size=(2, 3, 4))


def by_cases(a, b):
    """A function of numbers."""
    return a * b if a.real < b else a - b


# What is called, and the operand that is differentiated by.
CALLS = {
    "vectorize": (lambda x: np.vectorize(by_cases)(x, 0.2).sum(), X),
    "vectorize, by names, beside an array": (lambda x: np.vectorize(by_cases)(b=X[1], a=x) @ X, X),
    "vectorize two results": (lambda x: sum(y.sum() for y in np.vectorize(lambda v: (v, v * v))(x)), X),
    "vectorize with a signature": (lambda b: np.vectorize(lambda r, v: r @ v, signature="(n),(n)->()")(b, A[0]) * 1, B),
    "vectorize without some": (lambda x: np.exp(np.vectorize(lambda v, p: v * p[0], excluded=[1])(x, [2.0])), X),
    "frompyfunc": (lambda x: sum(np.frompyfunc(by_cases, 2, 1)(x, 0.2)), X),
    "frompyfunc outer": (lambda x: np.frompyfunc(by_cases, 2, 1).outer(x, X[:2]).sum(), X),
    "r_": (lambda x: np.r_[0.5, x, 1:3, x**2], X),
    "r_ of matrices": (lambda b: np.r_["1", b, np.ones((2, 1))], B),
    "c_": (lambda x: np.c_[np.ones(4), x, X] @ A, X),
    "linalg.det": (np.linalg.det, A),
    "linalg.inv": (np.linalg.inv, A),
    "linalg.solve": (lambda a: np.linalg.solve(a, np.arange(3.0)), A),
    "linalg.solve a matrix": (lambda a: np.linalg.solve(a, a.T), A),
    "linalg.solve of as many matrices as rows": (lambda b: np.linalg.solve(np.stack([A, A.T, 2 * A]), b), A),
    "linalg.solve by b": (lambda b: np.linalg.solve(A, b), X[:3]),
    "linalg.cholesky": (lambda a: np.linalg.cholesky(a @ a.T), A),
    "linalg.matrix_power": (lambda a: np.linalg.matrix_power(a, 5), A),
    "linalg.matrix_power 0": (lambda a: np.linalg.matrix_power(a, 0) * a, A),
    "linalg.matrix_power -2": (lambda a: np.linalg.matrix_power(a, -2), A),
    "linalg.multi_dot": (lambda a: np.linalg.multi_dot([B, a, a]), A),
    "linalg.outer": (lambda x: np.linalg.outer(x, x), X),
    "linalg.trace": (lambda a: np.linalg.trace(a, offset=1), A),
    "linalg.diagonal": (np.linalg.diagonal, C),
    "linalg.matrix_transpose": (np.linalg.matrix_transpose, C),
    "linalg.tensordot": (lambda c: np.linalg.tensordot(c, c, axes=([0, 2], [0, 2])), C),
    "reshape": (lambda c: np.reshape(c, (4, -1)), C),
    "reshape to an int": (lambda c: np.reshape(c, -1), C),
    "transpose": (np.transpose, C),
    "transpose axes": (lambda c: np.transpose(c, (1, -1, 0)), C),
    "ravel": (np.ravel, C),
    "squeeze": (lambda x: np.squeeze(x[None, :, None]), X),
    "squeeze an axis": (lambda x: np.squeeze(x[None, :, None], axis=-1), X),
    "expand_dims": (lambda x: np.expand_dims(x, (0, -1)), X),
    "moveaxis": (lambda c: np.moveaxis(c, (0, 1), (-1, 0)), C),
    "rollaxis": (lambda c: np.rollaxis(c, 2), C),
    "swapaxes": (lambda c: np.swapaxes(c, 0, -1), C),
    "broadcast_to": (lambda x: np.broadcast_to(x, (2, 4)), X),
    "diagonal": (lambda c: np.diagonal(c, 1, 1, 2), C),
    "trace": (np.trace, C),
    "diag": (lambda x: np.diag(x, -1), X),
    "diag of a matrix": (np.diag, A),
    "atleast_2d": (np.atleast_2d, X),
    "atleast_3d": (np.atleast_3d, B),
    "flip": (np.flip, C),
    "flip an axis": (lambda c: np.flip(c, (0, 2)), C),
    "flipud": (np.flipud, B),
    "fliplr": (np.fliplr, B),
    "roll": (lambda c: np.roll(c, 5), C),
    "roll axes": (lambda c: np.roll(c, (1, -2), axis=(0, 2)), C),
    "roll one axis twice": (lambda c: np.roll(c, (1, 1), axis=(2, 2)), C),
    "take": (lambda c: np.take(c, [[0, -1], [5, 0]]), C),
    "take along an axis": (lambda c: np.take(c, [2, 0, 2], axis=1), C),
    "repeat": (lambda b: np.repeat(b, 2), B),
    "repeat along an axis": (lambda b: np.repeat(b, [1, 0, 3], axis=1), B),
    "tile": (lambda b: np.tile(b, (2, 1, 3)), B),
    "tile fewer": (lambda b: np.tile(b, 2), B),
    "split": (lambda x: np.split(x, 2)[1], X),
    "split at places": (lambda c: np.split(c, [1, 3], axis=2)[2], C),
    "array_split": (lambda x: np.array_split(x, 3)[0], X),
    "vstack": (lambda x: np.vstack([x, 2 * X, x * x]), X),
    "hstack": (lambda b: np.hstack((b, b)), B),
    "hstack of vectors": (lambda x: np.hstack([x, x]), X),
    "dstack": (lambda b: np.dstack([b, b * b]), B),
    "column_stack": (lambda x: np.column_stack([x, X, x * x]), X),
    "append": (lambda x: np.append(x, [1.0, 2.0]), X),
    "append along an axis": (lambda b: np.append(b, b, axis=0), B),
    "vdot": (lambda b: np.vdot(b.conj() if np.iscomplexobj(b) else b, b), B),
    "kron": (lambda b: np.kron(b, A), B),
    "tensordot": (lambda c: np.tensordot(c, c, axes=([2, 0], [2, 0])), C),
    "tensordot of an int": (lambda b: np.tensordot(b, A, 1), B),
    "cross": (lambda b: np.cross(b, A[:2]), B),
    "diff": (np.diff, C),
    "diff twice": (lambda c: np.diff(c, n=2, axis=2), C),
    "trapezoid": (np.trapezoid, C),
    "trapezoid by x": (lambda x: np.trapezoid(x * x, x), X),
    "trapezoid along an axis": (lambda c: np.trapezoid(c, np.array([0.0, 1.0, 3.0]), axis=1), C),
    "average": (lambda c: np.average(c, axis=1), C),
    "average by weights": (lambda x: np.average(X, weights=x * x), X),
    "average by weights along an axis": (lambda c: np.average(c, axis=1, weights=np.array([1.0, 2.0, 5.0])), C),
    "polyval": (lambda x: np.polyval([1.0, -2.0, 0.5], x), X),
    "polyval by its coefficients": (lambda p: np.polyval(p, X), X),
    "copy": (np.copy, B),
    "select": (lambda x: np.select([np.real(x) > 0.5, np.real(x) > 0], [x * x, 3 * x], default=-1.0), X),
    "cumsum": (lambda c: np.cumsum(c, axis=1), C),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_values_and_derivatives(name):
    function, operand = CALLS[name]
    t = tg.tensor(operand, requires_grad=True)
    result = function(t)
    assert isinstance(result, tg.Tensor)
    expected = function(operand)
    assert tuple(result.shape) == np.shape(expected)
    np.testing.assert_allclose(result.detach().numpy(), expected, rtol=1e-12, atol=1e-13)
    weights = RNG.normal(size=result.shape)
    (result * tg.tensor(weights)).sum().backward()
    steps = [1e-30j * unit.reshape(operand.shape) for unit in np.eye(operand.size)]
    moved = [(function(operand + step).imag * weights).sum() / 1e-30 for step in steps]
    if name == "vdot":  # NumPy takes the complex conjugate of the first: undone above
        moved = (2 * operand * weights).reshape(-1)
    elif name == "linalg.cholesky":  # NumPy's of complex numbers is Hermitian: by the identity L L' = A
        return
    np.testing.assert_allclose(t.grad.numpy().reshape(-1), moved, rtol=1e-11, atol=1e-12)


def test_cholesky_has_the_gradient_of_its_square():
    t = tg.tensor(A, requires_grad=True)
    factor = np.linalg.cholesky(t @ t.T)
    ((factor @ factor.T) * tg.tensor(A)).sum().backward()
    np.testing.assert_allclose(t.grad.numpy(), (A + A.T) @ A, rtol=1e-12)
    upper = np.linalg.cholesky((t @ t.T).detach(), upper=True)
    np.testing.assert_allclose(upper.numpy(), np.linalg.cholesky(A @ A.T).T, rtol=1e-13)


def test_norms_and_log_determinants():
    t = tg.tensor(A, requires_grad=True)
    sign, log = np.linalg.slogdet(t)
    assert sign.item() == np.sign(np.linalg.det(A))
    log.backward()
    np.testing.assert_allclose(t.grad.numpy(), np.linalg.inv(A).T, rtol=1e-12)
    for norm in (np.linalg.matrix_norm, np.linalg.vector_norm):
        np.testing.assert_allclose(norm(t).item(), norm(A), rtol=1e-14)
        np.testing.assert_allclose(norm(tg.tensor(C), keepdims=True).numpy(), norm(C, keepdims=True), rtol=1e-14)


def test_largest_less_least_and_replaced_numbers():
    x = tg.tensor([1.0, np.nan, -np.inf, np.inf, 3.0], requires_grad=True)
    made = np.nan_to_num(x, nan=7.0, posinf=8.0)
    np.testing.assert_array_equal(made.detach().numpy(), np.nan_to_num(x.detach().numpy(), nan=7.0, posinf=8.0))
    made.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [1.0, 0.0, 0.0, 0.0, 1.0])
    y = tg.tensor(C, requires_grad=True)
    spread = np.ptp(y, axis=(0, 2))
    np.testing.assert_array_equal(spread.detach().numpy(), np.ptp(C, axis=(0, 2)))
    spread.sum().backward()
    assert y.grad.sum().item() == 0.0
    assert y.grad.abs().sum().item() == 6.0
    np.testing.assert_array_equal(np.heaviside(tg.tensor([-1.0, 0.0, 2.0, np.nan]), 0.5).numpy(), [0, 0.5, 1, np.nan])


def test_what_is_read_of_values():
    x = tg.tensor(B, requires_grad=True)
    assert np.shape(x) == (2, 3)
    assert (np.ndim(x), np.size(x)) == (2, 6)
    assert np.allclose(x, B)
    assert np.array_equal(x, B)
    assert np.isclose(x, B).all()
    assert np.count_nonzero(x) == 6
    np.testing.assert_array_equal(np.argsort(x), np.argsort(B))
    np.testing.assert_array_equal(np.argwhere(x > 0), np.argwhere(B > 0))
    assert np.zeros_like(x).tolist() == [[0.0] * 3] * 2
    assert np.full_like(x, 2.5, dtype=np.float32).dtype is tg.float32
    assert np.ones_like(x, shape=(2,)).tolist() == [1.0, 1.0]
    assert not np.iscomplexobj(x)


@pytest.mark.parametrize(
    ("call", "phrase"),
    [
        (np.roots, "np.roots is not recorded, and would lose the derivative of float64[3]"),
        (np.roots, "(what records: np."),
        (np.sort_complex, "or detach() the tensor where only values are wanted"),
    ],
)
def test_what_does_not_record_names_itself_and_what_does(call, phrase):
    x = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    with pytest.raises(RuntimeError) as caught:
        call(x)
    assert phrase in str(caught.value)
    assert f"{__file__}:" in str(caught.value)
    assert isinstance(call(x.detach()), (np.ndarray, float))


@pytest.mark.parametrize(
    ("call", "error", "phrase"),
    [
        (lambda c: np.reshape(c, (5, 5)), RuntimeError, "shape"),
        (lambda c: np.squeeze(c, axis=0), ValueError, "cannot select an axis to squeeze out"),
        (lambda c: np.moveaxis(c, (0, 1), 2), ValueError, "must have the same number of elements"),
        (lambda c: np.transpose(c, (0, 1)), ValueError, "axes don't match"),
        (lambda c: np.take(c, 99), IndexError, "out of bounds"),
        (lambda c: np.split(c, 2, axis=1), ValueError, "equal division"),
        (lambda c: np.tensordot(c, c, 1), ValueError, "shape-mismatch"),
        (lambda c: np.flip(c, 3), np.exceptions.AxisError, "out of bounds"),
        (lambda c: np.reshape(c, -1, copy=True), TypeError, "copy=True is not understood for tensors"),
    ],
)
def test_what_is_refused(call, error, phrase):
    t = tg.tensor(C, requires_grad=True)
    with pytest.raises(error, match=phrase):
        call(t)


FACTORISED = {
    "eigh": lambda a: np.linalg.eigh(a + a.T),
    "eigh of the upper triangle": lambda a: np.linalg.eigh(a, "U"),
    "eigvalsh": np.linalg.eigvalsh,
    "svd": np.linalg.svd,
    "svd of a tall matrix": lambda a: np.linalg.svd(a[:, :2]),
    "svd, thin": lambda a: np.linalg.svd(a[:, :2], full_matrices=False),
    "svd, values": lambda a: np.linalg.svd(a, compute_uv=False),
    "svdvals": np.linalg.svdvals,
    "qr": np.linalg.qr,
    "qr, complete": lambda a: np.linalg.qr(a[:, :2], "complete"),
    "qr, r": lambda a: np.linalg.qr(a[:2], mode="r"),
    "lstsq": lambda a: np.linalg.lstsq(a[:, :2], a[:, 2], rcond=None),
    "lstsq of a matrix": lambda a: np.linalg.lstsq(a[:, :2], a),
    "lstsq of a wide matrix": lambda a: np.linalg.lstsq(a[:2], a[:2]),
    "pinv": lambda a: np.linalg.pinv(a[:2]),
    "pinv by rtol": lambda a: np.linalg.pinv(a, rtol=0.5),
    "cond": lambda a: [np.linalg.cond(a, p) for p in (None, 2, -2, "fro", "nuc", 1, -1, np.inf, -np.inf)],
    "matrix_rank": np.linalg.matrix_rank,
    "tensorinv": lambda a: np.linalg.tensorinv(a, ind=1),
    "tensorsolve": lambda a: np.linalg.tensorsolve(a, a[0]),
    "norm": lambda a: [np.linalg.norm(a, p) for p in (None, 2, -2, "fro", "nuc", 1, -1, np.inf, -np.inf)],
    "norm of vectors": lambda a: [np.linalg.norm(a, p, axis=1, keepdims=True) for p in (None, 3, 1, np.inf)],
    "matrix_norm": lambda a: [np.linalg.matrix_norm(a, ord=p, keepdims=True) for p in (2, "nuc", 1)],
}


@pytest.mark.parametrize("name", FACTORISED)
@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
def test_factorisations_have_numpys_results(name, dtype):
    a = np.rint(4 * A).astype(dtype)
    found, expected = FACTORISED[name](tg.tensor(a)), FACTORISED[name](a)
    if hasattr(expected, "_fields"):
        assert type(found) is type(expected)
    both = zip(found, expected, strict=True) if isinstance(expected, (tuple, list)) else [(found, expected)]
    for ours, theirs in both:
        assert np.shape(ours) == np.shape(theirs)
        ours = ours.numpy() if isinstance(ours, tg.Tensor) else ours
        tolerance = 1e-11 if dtype != "float32" else 1e-3
        np.testing.assert_allclose(np.abs(ours), np.abs(theirs), rtol=tolerance, atol=tolerance)  # up to signs


def test_eigenvalues_that_would_be_complex_are_refused():
    for function in (np.linalg.eig, np.linalg.eigvals):
        with pytest.raises(RuntimeError, match="of a general matrix are complex"):
            function(tg.tensor(A, requires_grad=True))


def test_arrays_are_split_where_tensors_say():
    x = tg.arange(4.0)
    for parts in np.split(x, tg.tensor(2)), np.array_split(x, tg.tensor([2])):
        assert [part.tolist() for part in parts] == [[0.0, 1.0], [2.0, 3.0]]
