"""Methods and indices of arrays in functions that are differentiated: the values are those of the plain function."""

import threading
import warnings

import numpy as np
import pytest
import scipy.interpolate
import scipy.linalg
import scipy.optimize
import scipy.special
from numba import njit

import tapegrad as tg

A = np.arange(6.0).reshape(2, 3) + 0.27
W = np.arange(1.0, 7.0).reshape(2, 3)
CUBE = np.arange(24.0).reshape(2, 3, 4)


def assigned(x, index, value):
    y = x * 1.0
    y[index] = value
    return (y * W).sum()


def in_place(x, name, *args):
    y = x * 1.0
    getattr(y, name)(*args)
    return (y * W).sum()


def flat_set(x):
    y = x.T * 1.0
    y.flat[1] = x[0, 0] * 5.0
    return (y * W.T).sum()


PROGRAMS = {
    "transpose()": lambda x: (x.transpose() * W.T).sum(),
    "transpose(tuple)": lambda x: (x.transpose((1, 0)) * W.T).sum(),
    "transpose(1, 0)": lambda x: (x.transpose(1, 0) * W.T).sum(),
    "transpose(2, 0, 1)": lambda x: (x[None].transpose(2, 0, 1) * W.reshape(3, 1, 2)).sum(),
    "reshape(order)": lambda x: (x.reshape(3, 2, order="F") * W.reshape(3, 2)).sum(),
    "reshape(tuple, order)": lambda x: (x.reshape((3, 2), order="F") * W.reshape(3, 2)).sum(),
    "flatten(F)": lambda x: (x.flatten("F") * W.ravel()).sum(),
    "ravel(F)": lambda x: (x.ravel("F") * W.ravel()).sum() + x.ravel(order="C")[0],
    "copy": lambda x: assigned(x.copy(), 0, 2.0),
    "astype": lambda x: (x.astype(float) * x.astype(np.float64, copy=False)).sum(),
    "fill": lambda x: in_place(x, "fill", 2.0) + x.sum(),
    "partition": lambda x: in_place(x, "partition", 1),
    "argpartition": lambda x: x[0][x[0].argpartition(1)[0]],
    "compress": lambda x: (x.compress([True, False, True], axis=1) ** 2).sum(),
    "choose": lambda x: (x > 1).astype(int).choose([x, 2.0 * x]).sum(),
    "conjugate": lambda x: (x.conjugate() * x).sum(),
    "flat": lambda x: sum(i * v for i, v in enumerate(x.flat)) + x.flat[4] ** 2 + len(x.flat),
    "flat set": flat_set,
    "take(axis)": lambda x: (x.take([0, 2], axis=1) * W[:, :2]).sum(),
    "take": lambda x: (x.take([5, 0]) * W[0, :2]).sum(),
    "cumsum()": lambda x: (x.cumsum() * W.ravel()).sum(),
    "cumsum(axis)": lambda x: (x.cumsum(axis=1) * W).sum(),
    "cumprod()": lambda x: (x.cumprod() * W.ravel()).sum(),
    "trace": lambda x: x.trace(1) + 2.0 * x.trace(),
    "dot": lambda x: (x.dot(x.T) * W[:, :2]).sum() + x[0].dot(x[1]),
    "round": lambda x: (x.round(1) * x).sum(),
    "view": lambda x: (x.view() * x).sum(),
    "size": lambda x: (x**2).sum() / x.size,
    "nonzero": lambda x: (x[(x > 2).nonzero()] ** 2).sum(),
    "max(axis)": lambda x: (x.max(axis=0) * W[0]).sum() - x.min(axis=1, keepdims=True).sum(),
    "cross(axisc)": lambda x: (np.cross(x, x[::-1], axisc=0) * W.T).sum(),
    "[::-1]": lambda x: (x[::-1] * W).sum(),
    "[::-1, ::-2]": lambda x: (x[::-1, ::-2] * W[:, :2]).sum(),
    "[1:0:-1, 2:0:-1]": lambda x: (x[1:0:-1, 2:0:-1] * W[:1, :2]).sum(),
    "[..., None, ::-1]": lambda x: (x[..., None, ::-1] * W[:, None]).sum(),
    "[list, ::-1]": lambda x: (x[[1, 0], ::-1] * W).sum() + (x[np.array([True, False]), ::-1] * W[:1]).sum(),
    "[0:1:-1]": lambda x: x[0:1:-1].sum() + x.sum(),
    "[::-1] = v": lambda x: assigned(x, np.s_[::-1], x * W),
    "[0, ::-2] = v": lambda x: assigned(x, np.s_[0, ::-2], 5.0 * x[1, :2]),
    "[[1, 0], ::-1] = v": lambda x: assigned(x, ([1, 0], slice(None, None, -1)), x**2),
}
APART = {
    "[0, :, list]": lambda x: (x[0, :, [1, 3]] * W).sum(),
    "[:, 0, :, list]": lambda x: (x[:, None][:, 0, :, [3, 1, 0]] * CUBE[0, :, :2, None] * W.T[..., None]).sum(),
    "[list, :, 1]": lambda x: (x[[1, 0, 0], :, 1] * W.reshape(3, 2)[:, :1]).sum(),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_methods_and_indices_are_those_of_arrays(name):
    function = PROGRAMS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value, gradient = tg.func.value_and_grad(function)(A)
        along = tg.func.jvp(function, (A,), (W,))[1]
        rows = tg.func.vmap(function)(np.stack([A, 2.0 * A]))
    assert value == pytest.approx(function(A), rel=1e-14)
    assert along == pytest.approx((gradient * W).sum(), rel=1e-12)
    assert rows == pytest.approx([function(A), function(2.0 * A)], rel=1e-14)
    h = 1e-6
    for place in np.ndindex(A.shape):
        up, down = A.copy(), A.copy()
        up[place] += h
        down[place] -= h
        assert gradient[place] == pytest.approx((function(up) - function(down)) / (2 * h), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("name", APART)
def test_ints_apart_from_arrays_put_the_dimensions_of_arrays_first(name):
    function = APART[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value, gradient = tg.func.value_and_grad(function)(CUBE)
    assert value == function(CUBE)
    units = np.eye(CUBE.size).reshape(-1, *CUBE.shape)  # these functions are linear
    assert gradient.ravel().tolist() == [function(unit) for unit in units]


def test_what_tensors_and_arrays_mean_differently_warns():
    x = np.arange(4.0).reshape(2, 2)
    programs = {
        "std": lambda x: x.std(),
        "repeat": lambda x: x[0].repeat(2).sum(),
        "sort": lambda x: x.sort()[0].sum(),
        "transpose": lambda x: x.transpose(0, 1).sum(),
        "ints apart": lambda x: x[None, None][0, :, [0]].sum(),
    }
    for function in programs.values():
        with pytest.warns(UserWarning, match="in a function of arrays"):
            tg.func.grad(function)(x)
    with pytest.raises(AttributeError, match="'max' object has no attribute 'sum': it holds values, indices"):
        tg.func.grad(lambda x: x.max(0).sum())(x)


def test_the_packages_own_code_keeps_to_pytorch():
    tg.manual_seed(0)
    attention = tg.nn.MultiheadAttention(4, 2, batch_first=True, dtype=tg.float64).requires_grad_(False)
    rare = tg.nn.AdaptiveLogSoftmaxWithLoss(4, 6, [2, 4], div_value=1.0, dtype=tg.float64).requires_grad_(False)

    def loss(x):
        x = tg.nn.functional.softmax(x + 0.0, dim=-1)
        found, _ = attention(x[None], x[None], x[None])
        return found.sum() + rare(x, tg.tensor([0, 3, 5])).loss + tg.quantile(x, 0.3)

    x = np.random.default_rng(0).normal(size=(3, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gradient = tg.func.grad(loss)(x)
    of_tensor = tg.func.grad(loss)(tg.tensor(x))
    np.testing.assert_allclose(gradient, of_tensor.numpy(), rtol=1e-14)


def test_tensors_keep_to_pytorch():
    x = tg.arange(6.0).reshape(2, 3)
    assert x[None][0, :, [1, 0]].shape == (2, 2)
    assert x.nonzero().shape == (5, 2)
    with pytest.raises(ValueError, match="step must be greater than zero"):
        x[::-1]
    for wrong in (lambda: x.transpose(), lambda: x.cumsum(), lambda: x.ravel("F"), lambda: x.round(1)):
        with pytest.raises(TypeError):
            wrong()
    gradient = tg.func.grad(lambda x: (x[0, :, [1, 0]] * tg.tensor([[1.0, 2.0], [3.0, 4.0]])).sum())(x[None])
    assert gradient.tolist() == [[[2.0, 1.0, 0.0], [4.0, 3.0, 0.0]]]
    assert x.astype(np.float32).dtype is tg.float32
    assert x.copy() is not x
    assert x.tobytes() == x.numpy().tobytes()
    with pytest.raises(TypeError, match="astype"):
        x.astype(complex)
    with pytest.raises(TypeError, match="Cannot cast"):
        x.astype(int, casting="safe")


# --- arrays of tensors ------------------------------------------------------------------------------------------------

X = np.array([0.5, 1.5, 2.5])
OF_TENSORS = {
    "array": lambda x: np.array([x[0] * 2.0, x[1] ** 2]).sum(),
    "rotation": lambda x: (np.array([[np.cos(x[0]), -np.sin(x[0])], [np.sin(x[0]), np.cos(x[0])]]) @ x[1:]).prod(),
    "with numbers": lambda x: (np.array([[x[0], 1.0], [0.0, x[1]]]) @ x[:2]).sum(),
    "dot": lambda x: np.dot(np.array([x[0], x[1]]), np.array([x[1], x[2]])),
    "rows": lambda x: (np.array([x, x**2]) * W).sum(),
    "asarray": lambda x: (np.asarray(x) ** 2).sum() + np.exp(np.asarray(x))[1],
    "solve": lambda x: np.linalg.solve(np.array([[x[0], 1.0], [0.0, x[1]]]), x[:2]).sum(),
    "concatenate": lambda x: (np.concatenate([np.array([x[0] * x[1]]), x]) * np.arange(4.0)).sum(),
    "where": lambda x: np.where(np.array([x[0], x[1]]) > 1.0, np.array([x[0], x[1]]), 0.0).sum(),
    "mean, std": lambda x: np.mean(np.array([x[0], x[1] ** 2, x[2]])) + np.array([x[0], x[1] ** 2, x[2]]).std(),
    "norm": lambda x: np.linalg.norm(np.array([x[0], x[1], x[2]])),
    "sort": lambda x: (np.sort(np.array([x[2], x[1], x[0]])) * X).sum(),
    "sum, prod": lambda x: np.sum([x[0], x[1] * x[2]]) + np.prod([x[0], x[1]]),
    "einsum": lambda x: np.einsum("i,i", np.array([x[0], x[1]]), x[:2]),
    "0-d": lambda x: np.array(x[0]) * x[1],
    "functions of mixed elements": lambda x: np.exp(np.array([1.0, x[0]])).sum() + np.log(np.array([x[1], 2])).sum(),
    "determinant": lambda x: np.linalg.det(np.array([[x[0], 1.0], [2, x[1]]])),
    "factors": lambda x: np.linalg.cholesky(np.array([[x[1], 0.1], [0.1, x[2]]])).sum(),
    "special": lambda x: scipy.special.gammaln(np.array([x[0], x[1]])).sum(),
    "interpolation": lambda x: np.interp(np.array([x[0], x[1]]), [0.0, 1.0, 2.0], [1.0, 2.0, 5.0]).sum(),
    "floats": lambda x: np.asarray(x, dtype=float).prod() + np.array([x[0], x[1]], dtype="float64").prod(),
    "own": lambda x: (np.array(x) + np.ascontiguousarray(x)).prod(),
    "nested": lambda x: np.array([x[:2], [1.0, x[0] * x[1]], np.array([2, 3])]).prod(),
    "dimensions": lambda x: (np.array([x[0], x[1]], ndmin=3) ** 2)[0, 0, 1],
    "full": lambda x: (np.full((2, 3), x[0]) * W[:, :3]).prod(),
    "means of lists": lambda x: np.mean([x[0], x[1] ** 2]) * np.max([x[0], 0.25]) + np.std([x[0], x[2], 1]),
    "methods of arrays": lambda x: np.array([x, x**2]).max(0).sum() * np.asarray(x).var() * np.array(x).repeat(2)[1],
    "object": lambda x: np.array([x[0], x[1]], dtype=object).prod(),
}
REFUSED = {
    "solved by SciPy": lambda x: scipy.linalg.solve(np.array([[x[0], 1.0], [0.0, x[1]]]), X[:2]).sum(),
    "exponential by SciPy": lambda x: scipy.linalg.expm(np.array([[x[0], 1.0], [0.0, x[1]]])).sum(),
    "interpolated": lambda x: scipy.interpolate.CubicSpline(X, np.array([x[0], x[1], x[2]]))(1.0),
    "ragged": lambda x: np.array([[x[0], x[1]], [1.0]]).sum(),
}


@pytest.mark.parametrize("name", OF_TENSORS)
def test_arrays_of_tensors_keep_derivatives(name):
    function = OF_TENSORS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value, gradient = tg.func.value_and_grad(function)(X)
        along = tg.func.jvp(function, (X,), (X,))[1]
        hessian = tg.func.hessian(function)(X)
    assert value == pytest.approx(function(X), rel=1e-14)
    assert along == pytest.approx(gradient @ X, rel=1e-12)
    slopes = [tg.func.grad(function)(X + d) - tg.func.grad(function)(X - d) for d in 1e-6 * np.eye(3)]
    assert hessian == pytest.approx(np.array(slopes) / 2e-6, rel=1e-6, abs=1e-6)
    h = 1e-6
    assert gradient == pytest.approx(
        [(function(X + d) - function(X - d)) / (2 * h) for d in h * np.eye(3)], rel=1e-6, abs=1e-6
    )


def squares(x):
    out = np.zeros(3)
    for i in range(3):
        out[i] = x[i] ** 2
    return out.std() + out.prod()


def parts(x):
    out = np.zeros((2, 3))
    out[0] = x
    out[1, 1:] = x[:2] * 2.0
    out += x
    out.T[0, 1] *= x[1]
    row = out[1]
    row[2] -= out[0, 0]
    return (out**2).sum() * out.max(0)[1]


def steps(x):
    states = np.empty((5, 2))
    states[0] = np.array([1.0, 0.5])
    for i in range(1, 5):
        position, speed = states[i - 1]
        states[i] = states[i - 1] + 0.1 * np.array([speed, -x[0] * np.sin(position) - x[1] * speed])
    return np.sum((states[:, 0] - np.linspace(1.0, 0.0, 5)) ** 2)


def system(x):
    matrix, given = np.eye(3), np.ones(3)
    for i in range(3):
        matrix[i, i] += x[i]
        matrix[i, (i + 1) % 3] = -x[0]
    found = np.linalg.solve(matrix, given)
    return found @ found


def elsewhere(x):
    out = np.ones_like(X)
    written_to(out, x)
    return np.add(out, x, out=out).prod()


def written_to(out, x):
    out[1:] = x[:-1]


FILLED = (squares, parts, steps, system, elsewhere)


@pytest.mark.parametrize("function", FILLED)
def test_arrays_that_a_function_makes_may_be_written_tensors(function):
    for x in (X, X[::-1] ** 2):  # the first call finds out
        value, gradient = tg.func.value_and_grad(function)(x)
        assert value == pytest.approx(function(x), rel=1e-15)
        h = 1e-6
        differences = [(function(x + d) - function(x - d)) / (2 * h) for d in h * np.eye(3)]
        assert gradient == pytest.approx(differences, rel=1e-6, abs=1e-6)
    assert tg.func.jvp(function, (X,), (X,))[1] == pytest.approx(tg.func.grad(function)(X) @ X, rel=1e-12)
    slopes = [tg.func.grad(function)(X + d) - tg.func.grad(function)(X - d) for d in h * np.eye(3)]
    assert tg.func.hessian(function)(X) == pytest.approx(np.array(slopes) / 2e-6, rel=1e-6, abs=1e-6)
    many = np.array([X, 2.0 * X])
    np.testing.assert_allclose(tg.func.vmap(function)(many), [function(x) for x in many], rtol=1e-14)
    each = tg.func.vmap(tg.func.grad(function))(many)
    np.testing.assert_allclose(each, [tg.func.grad(function)(x) for x in many], rtol=1e-12)
    np.testing.assert_allclose(tg.compile(tg.func.grad(function))(X), tg.func.grad(function)(X), rtol=1e-14)


def test_a_function_is_called_twice_at_most_once():
    calls = []

    def counted(x):
        calls.append(len(calls))
        return squares(x)

    for _ in range(3):
        tg.func.grad(counted)(X)
    assert len(calls) == 4


@pytest.mark.parametrize(
    ("given", "wanted"),
    [([0, 1.0], np.float64), ([np.float32(1), 0], np.float64), ([np.float32(1)], np.float32), ([0, True], np.float64)],
)
def test_arrays_of_tensors_have_the_dtype_of_arrays_of_numbers(given, wanted):
    found = []

    def function(x):
        found.append(np.array([x[0], *given]).dtype)
        return x.sum()

    tg.func.grad(function)(X.astype(np.float32))
    assert found == [wanted == np.array([np.float32(0), *given]).dtype and wanted]


def test_numpys_functions_have_their_names_back():
    its = {name: getattr(np, name) for name in ("array", "asarray", "full", "mean", "zeros", "eye")}

    def function(x):
        assert np.array is not its["array"]
        assert np.array([1, 2]).dtype == np.array([1, 2], int).dtype
        assert type(np.zeros(2)) is type(np.array([0.5])) is np.ndarray
        return tg.func.grad(np.prod)(x).sum() * its["array"]([x[0], x[1]]).sum()

    tg.func.grad(function)(X)
    with pytest.raises(ZeroDivisionError):
        tg.func.grad(lambda x: np.array([x[0], 1 // 0]))(X)
    assert all(getattr(np, name) is theirs for name, theirs in its.items())


def test_numba_compiles_with_numpys_functions_meanwhile():
    def jitted_inside(x):
        @njit
        def numbers(n):
            made = np.zeros(2)
            made[0] = n
            return np.mean(np.array([1.0, n])) + made.sum() + np.full(2, n)[0]

        return x[0] * numbers(3.0) + np.exp(np.array([x[1], 1.0])).sum() + tg.func.grad(numbers)(2.0) * x[2]

    assert tg.func.grad(jitted_inside)(X) == pytest.approx([8.0, np.exp(1.5), 2.5], rel=1e-14)


def test_threads_beside_have_numpys_functions():
    begun, done, found = threading.Event(), threading.Event(), []

    def beside():
        begun.wait(60)
        found.extend((np.array([1.0, 2.0]), np.zeros(2)))
        done.set()

    def function(x):
        begun.set()
        done.wait(60)
        return squares(x)

    thread = threading.Thread(target=beside)
    thread.start()
    tg.func.grad(function)(X)
    thread.join()
    assert [type(a) for a in found] == [np.ndarray, np.ndarray]


@pytest.mark.parametrize("name", REFUSED)
def test_arrays_of_tensors_are_no_numbers(name):
    with pytest.raises((RuntimeError, ValueError, TypeError)):
        tg.func.grad(REFUSED[name])(X)


def test_systems_of_equations_as_they_are_written():
    def system(t, y, rate):
        return np.array([y[1], rate * (1.0 - y[0] ** 2) * y[1] - y[0]])

    found = tg.func.jacobian(system, 1)(0.0, np.array([0.5, -1.0]), 3.0)
    assert found.tolist() == [[0.0, 1.0], [2.0, 2.25]]
    solved = scipy.optimize.root(
        lambda x: np.array([x[0] + 0.5 * (x[0] - x[1]) ** 3 - 1.0, 0.5 * (x[1] - x[0]) ** 3 + x[1]]), [0.0, 0.0],
        jac=tg.func.jacobian(
            lambda x: np.array([x[0] + 0.5 * (x[0] - x[1]) ** 3 - 1.0, 0.5 * (x[1] - x[0]) ** 3 + x[1]])
        ),
    )  # fmt: skip
    assert solved.success
    assert solved.x == pytest.approx([0.8411639, 0.1588361], rel=1e-6)
    with pytest.raises(RuntimeError, match=r"Can't call numpy\(\) on Tensor that requires grad"):
        np.array([tg.ones((), requires_grad=True), 1.0])  # outside of a function of arrays it is PyTorch's refusal
