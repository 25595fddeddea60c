"""What other libraries bring: tables, sparse matrices, np.matrix, and functions that ask for arrays or numbers."""

from __future__ import annotations

import math
import warnings

import numba
import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
import scipy.special

import tapegrad as tg

A = np.array([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]])
SPARSE = ["csr_matrix", "csc_matrix", "coo_matrix", "csr_array", "csc_array", "coo_array", "bsr_array", "lil_array"]


@pytest.mark.parametrize("name", SPARSE)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_products_with_sparse_matrices(name: str, dtype: type):
    S, a = getattr(scipy.sparse, name)(A.astype(dtype)), tg.tensor(A.astype(dtype))
    for shape, product in (
        ((3,), lambda m, t: m @ t), ((3, 2), lambda m, t: m @ t), ((2,), lambda m, t: t @ m),
        ((4, 2), lambda m, t: t @ m), ((3, 0), lambda m, t: m @ t),
    ):  # fmt: skip
        points = np.random.default_rng(0).normal(size=shape).astype(np.float32 if dtype is np.float32 else np.float64)
        x, y = (tg.tensor(points, requires_grad=True) for _ in range(2))
        got, expected = product(S, x), product(a.to(y.dtype), y)
        assert isinstance(got, tg.Tensor)
        assert isinstance(product(S, tg.tensor(points)), tg.Tensor)
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
        tolerance = {"rtol": 1e-6 if dtype is np.float32 else 1e-14}
        np.testing.assert_allclose(got.detach().numpy(), expected.detach().numpy(), **tolerance)
        for t, z in ((got, x), (expected, y)):
            (first,) = tg.autograd.grad((t**3).sum(), z, create_graph=True)
            (first**2).sum().backward()
        np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=1e-4 if dtype is np.float32 else 1e-12)


def test_where_a_position_stands_twice_elements_add_up():
    S = scipy.sparse.coo_array((np.array([1.0, 2.0, 4.0]), ([0, 0, 1], [1, 1, 0])), shape=(2, 2))
    x = tg.tensor([1.0, 10.0], requires_grad=True)
    y = S @ x
    assert y.tolist() == [30.0, 4.0]
    y.sum().backward()
    assert x.grad.tolist() == [4.0, 3.0]
    assert tg.func.hessian(lambda v: ((S @ v) ** 2).sum())(np.ones(2)).tolist() == [[32.0, 0.0], [0.0, 18.0]]


def test_what_sparse_matrices_do_not_do_says_so():
    S, x = scipy.sparse.csr_array(A[:, :2]), tg.ones(2, 2, requires_grad=True)
    calls = [lambda: x * S, lambda: x + S, lambda: S + x, lambda: x / S, lambda: tg.exp(S), lambda: tg.matmul(S, x)]
    for call in [*calls, lambda: tg.maximum(x, S), lambda: x - S]:
        with pytest.raises(TypeError, match=r"a sparse matrix takes part in @ only, its \.toarray\(\) in all else"):
            call()
    with pytest.raises(RuntimeError, match=r"toarray\(\)"):
        tg.tensor(S)
    with pytest.raises(RuntimeError, match=r"shape \[2, 2\] can't be multiplied with float64\[3\], at .*test_foreign"):
        S @ tg.ones(3)


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_np_matrix_says_why():
    m, t = np.asmatrix(np.eye(2) * 2.0), tg.ones(2, 2, requires_grad=True)
    for call in (lambda: m * t, lambda: t * m, lambda: t**m, lambda: tg.mul(t, m)):
        with pytest.raises(TypeError, match=r"np.asarray\(\) makes an array of it, and @ multiplies matrices"):
            call()
    for y in (m + t, t + m, t - m, m @ t, t @ m, t / m, tg.exp(m)):
        assert isinstance(y, tg.Tensor)
    assert (m @ t).tolist() == [[2.0, 2.0], [2.0, 2.0]]


def test_functions_that_numba_vectorises_are_told_of():
    square = numba.vectorize(lambda x: x * x)
    total = numba.guvectorize([(numba.float64[:], numba.float64[:])], "(n)->()")(_add_up)
    assert square(tg.tensor([1.0, 2.0])).tolist() == [1.0, 4.0]
    for function in (square, total):
        with pytest.raises(RuntimeError, match=rf"is not recorded.*float64\[2\], at {__file__}:.*Numba has vectorised"):
            tg.func.grad(lambda x, of=function: np.sum(of(x)))(np.array([1.0, 2.0]))
    jitted = numba.njit(lambda x: np.sum(square(x)))
    assert tg.func.grad(jitted)(np.array([1.0, 2.0])).tolist() == [2.0, 4.0]


def _add_up(x, y):
    y[0] = x.sum()


def test_tables_of_pandas_are_arrays():
    pandas = pytest.importorskip("pandas")
    s, t = pandas.Series([1.0, 2.0, 3.0], index=[5, 6, 7]), tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    for operation in (
        lambda a, b: a * b, lambda a, b: a - b, lambda a, b: a / b, lambda a, b: a**b, lambda a, b: a < b,
        lambda a, b: np.add(a, b), lambda a, b: np.maximum(a, b), tg.maximum, tg.add,
    ):  # fmt: skip
        for a, b in ((s, t), (t, s)):
            array = tuple(np.asarray(v) if v is s else v for v in (a, b))
            got = operation(a, b)
            assert isinstance(got, tg.Tensor)
            assert got.tolist() == operation(*array).tolist()
    frame = pandas.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0], "c": [5.0, 6.0]})
    assert (frame * t).tolist() == (t * frame).tolist() == (frame.to_numpy() * t).tolist()
    assert (t @ frame.T).tolist() == (t @ frame.to_numpy().T).tolist()
    assert tg.matmul(frame, t).tolist() == (frame.to_numpy() @ t).tolist()
    assert t[s > 1.5].tolist() == [2.0, 3.0]
    assert tg.func.grad(lambda x: (x**2).sum())(s).tolist() == [2.0, 4.0, 6.0]
    with pytest.raises(RuntimeError, match=r"pandas.* asked for an array of float64.* use tapegrad.matmul, "):
        frame @ t
    with pytest.raises(ValueError, match=r"got <class 'pandas.*DataFrame'> \(its to_numpy\(\) gives an array\)"):
        tg.func.grad(lambda x: (x**2).sum())(frame)
    with pytest.raises(RuntimeError, match="Could not infer dtype of Series"):
        t * pandas.Series(["a", "b", "c"])


def test_a_tensor_that_becomes_a_number_warns_at_the_users_line():
    t = tg.tensor(1.5, requires_grad=True)
    for number in (float, int, complex, math.sin, math.floor, np.float64, lambda v: np.zeros(2).__setitem__(0, v)):
        with pytest.warns(UserWarning, match="Converting a tensor with requires_grad=True to a scalar") as caught:
            number(t)
        assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for quiet in (bool, lambda v: v.item(), lambda v: v.tolist(), lambda v: f"{v:.2f}", repr):
            quiet(t)
        float(t.detach())
        with tg.no_grad():
            float(t)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        for _ in range(5):
            float(t)
    assert len(told) == 1


def test_functions_that_ask_for_arrays_are_named():
    t = tg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    for call, name in (
        (lambda: scipy.linalg.expm(t), r"scipy\.linalg\.expm"),
        (lambda: scipy.special.logsumexp(t), r"scipy\.special\.logsumexp"),
        (lambda: np.asarray(t), r"numpy\.asarray"),
        (lambda: np.array(t), r"numpy\.array"),
        (lambda: np.array([t[0], t[1]]), r"numpy\.array"),
    ):
        with pytest.raises(RuntimeError, match=f"^Can't call numpy.* {name} asked for an array of .*{__file__}"):
            call()
    for call, name in (
        (lambda: np.fft.fft(t), r"np\.fft\.fft is not recorded"),
        (lambda: scipy.special.mathieu_a(t, 1.0), r"scipy\.special\.mathieu_a is not recorded"),
    ):
        with pytest.raises(RuntimeError, match=f"{name}, and would lose the derivative of float64"):
            call()
    assert np.array(t.detach()).tolist() == t.tolist()


# --- what fails by its values -----------------------------------------------------------------------------------------

INDEFINITE, SINGULAR = np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([[1.0, 2.0], [2.0, 4.0]])
FAILING = {
    "linalg.cholesky": (lambda m, a: m.linalg.cholesky(a), INDEFINITE),
    "linalg.inv": (lambda m, a: m.linalg.inv(a), SINGULAR),
    "linalg.solve": (lambda m, a: m.linalg.solve(a, np.ones((2, 1))), SINGULAR),
    "matrix_power": (lambda m, a: np.linalg.matrix_power(a, -2), SINGULAR),
}


@pytest.mark.parametrize("library", [tg, np], ids=["tapegrad", "numpy"])
@pytest.mark.parametrize("name", FAILING)
def test_what_fails_by_its_values_does_so_where_it_can_be_caught(name: str, library):
    function, matrix = FAILING[name]

    def jittered(a):
        for k in range(9):
            try:
                return function(library, a + (10.0 ** (k - 9) if k else 0.0) * 10 * np.eye(2)), k
            except np.linalg.LinAlgError:  # of arrays, and of tensors
                continue
        raise AssertionError

    for given in (tg.tensor(matrix, requires_grad=True), tg.tensor(matrix), matrix):
        y, k = jittered(given)
        assert k > 0
        assert np.isfinite(np.asarray(y.detach() if isinstance(y, tg.Tensor) else y)).all()
    rows = len(tg.current_tape())
    for error in (tg.linalg.LinAlgError, RuntimeError, ValueError):
        with pytest.raises(error, match=__file__):
            function(library, tg.tensor(matrix, requires_grad=True))
    assert len(tg.current_tape()) <= rows + 12
    gradient = tg.func.grad(lambda a: jittered(a)[0].sum())(matrix)
    assert np.isfinite(gradient).all()


def test_other_errors_of_values_come_at_their_lines_too():
    i, x = tg.tensor([1, 2]), tg.tensor([1.0, 2.0], requires_grad=True)

    def refuse(_):
        raise KeyError("user")

    for call, error in (
        (lambda: i // tg.tensor([1, 0]), RuntimeError),
        (lambda: i % 0, RuntimeError),
        (lambda: x[tg.tensor([0, 5])], IndexError),
        (lambda: tg.gather(x, 0, tg.tensor([3])), RuntimeError),
        (lambda: tg.index_select(x, 0, tg.tensor([-1])), IndexError),
        (lambda: tg.autograd.host_function(refuse)(x), KeyError),
        (lambda: tg.autograd.host_function(lambda a: a[:1])(x), ValueError),
    ):
        with pytest.raises(error):
            call()
    assert (x * 2).tolist() == [2.0, 4.0]
