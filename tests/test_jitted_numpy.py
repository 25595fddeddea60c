"""NumPy's functions that Numba has, in differentiated code: values to the last bit, gradients by complex steps of
NumPy's own functions, or of a formula where these take no complex numbers."""

import numpy as np
import pytest
from plain_functions import njit
from thoroughness import further, thorough

import tapegrad as tg

pytestmark = pytest.mark.filterwarnings("ignore::numba.core.errors.NumbaWarning")
X = np.array([1.3, 0.4, 3.1, -0.7, 2.2, 0.9])
OF_ONE = [
    "np.delete(x, np.array([0, 2]))", "np.insert(x, 1, x[0])", "np.unique(x)", "np.nan_to_num(x)", "np.corrcoef(m)",
    "np.vander(x, 3, True)", "np.histogram(x, 4)[1]", "np.sort(m)", "np.cumsum(m, 0)", "np.around(x, 1) * x",
    "np.average(x, weights=np.abs(x))", "np.real(x) + x.real + x.imag + x.conj()", "np.convolve(x, x[:3], 'same')",
    "np.extract(x > 0, x)", "np.logspace(x[0], x[1], 5)", "np.ldexp(x, 2)", "np.select([x > 1, x > 0], [x * 2, x * 3])",
    "np.unwrap(x * 5)", "np.dot(s, s, np.empty((3, 3)))", "np.linalg.norm(x, 3)", "np.append(m, m, 1)",
    "np.stack((x, x), axis=-1)", "x.take(np.array([0, 3]))", "np.diff(m, 2)", "np.arange(x[1], x[2], 0.5)",
    "np.random.permutation(x)", "np.divmod(x, 2.0)[1]", "np.dstack((m, m))", "np.hypot(x, x[0])",
    "np.cross([0, 0, 1], x[:3])", "np.cross(m, x[3:])", "np.cross((x[0], 1.0), m)", "np.append([1.0], x[2])",
    "np.stack((np.asarray(x[0] * x[1]), np.asarray(x[2])), -1)", "np.column_stack((x[:3], s))",
    "x.take(2) * x.repeat(2)[:6]", "np.take(m, 1, axis=1)",
    "np.sum(m, (0, 1))", "np.sum(np.dstack((m, m)).T, (0, 2))", "np.linalg.matrix_power(s, -3)",
    "np.convolve(x, x)", "np.linspace(x[0], x[1], 7)",
]  # fmt: skip
ANALYTIC = {
    "np.corrcoef(m)": "(c := m - m.mean(1, keepdims=True)) @ c.T / np.sqrt(np.outer(d := (c * c).sum(1), d))",
    "np.average(x, weights=np.abs(x))": "np.sum(x * x * np.sign(x.real)) / np.sum(x * np.sign(x.real))",
    "np.real(x) + x.real + x.imag + x.conj()": "3 * x",
    "np.histogram(x, 4)[1]": "np.linspace(x[3], x[2], 5)",
    "np.ldexp(x, 2)": "4 * x",
    "np.unwrap(x * 5)": "x * 5 + (np.unwrap(x.real * 5) - x.real * 5)",
    "np.dot(s, s, np.empty((3, 3)))": "s @ s",
    "np.linalg.norm(x, 3)": "np.sum((x * np.sign(x.real)) ** 3) ** (1 / 3)",
    "np.cross((x[0], 1.0), m)": "np.cross([x[0], 1.0, 0.0], m)",
    "np.arange(x[1], x[2], 0.5)": "x[1] + 0.5 * np.arange(6)",
    "np.hypot(x, x[0])": "np.sqrt(x * x + x[0] * x[0])",
    "np.divmod(x, 2.0)[1]": "x - 2 * np.floor(x.real / 2)",
}


@njit
def weighed(r):
    total = 0.0
    for k, v in enumerate(np.asarray(r * 1.0).ravel()):
        total += v * v * (1 + k % 3) + v
    return total


def defined(texts):
    """A jitted function of several expressions, each weighed."""
    lines = [
        "def f(x):", " m = x.reshape(2, 3) * 1.0", " s = np.eye(3) * 2.0 + np.outer(x[:3], x[3:]) * 0.3",
        f" out = np.empty({len(texts)})", " np.random.seed(3)",
        *(f" out[{k}] = weighed({text})" for k, text in enumerate(texts)), " return out",
    ]  # fmt: skip
    names = {"np": np, "weighed": weighed}
    exec("\n".join(lines), names)
    return njit(names["f"])


def by_complex_steps(text):
    """The gradient of one, weighed, by NumPy."""
    of_one = eval(f"lambda x, m, s: {ANALYTIC.get(text, text)}", {"np": np})
    slope = []
    for unit in np.eye(6):
        x = X + 1e-30j * unit
        np.random.seed(3)
        y = of_one(x, x.reshape(2, 3) * 1.0, np.eye(3) * 2.0 + np.outer(x[:3], x[3:]) * 0.3)
        slope.append(weighed.py_func(y).imag / 1e-30)
    return slope


@pytest.mark.parametrize("part", [0, *further(1)])
def test_functions(part):
    texts = OF_ONE[part::2]
    f = defined(texts)
    wanted, (values, pull) = f(X), tg.func.vjp(f, X)
    for k, text in enumerate(texts):
        assert values[k] == wanted[k], text
        (gradient,) = pull(np.eye(len(texts))[k])
        np.testing.assert_allclose(gradient, by_complex_steps(text), rtol=1e-11, atol=1e-11, err_msg=text)


def test_forward_mode():
    f = defined(OF_ONE[::7])
    np.testing.assert_allclose(tg.func.jacfwd(f)(X), tg.func.jacrev(f)(X), rtol=1e-12, atol=1e-12)


@thorough
def test_eigenvectors_of_a_matrix_whose_eigenvalues_are_real():
    f = njit(lambda a: np.linalg.eig(a)[1][0, 1] ** 2 * np.linalg.eig(a)[0][0])
    a = np.array([[2.0, 1.0, 0.3], [0.2, -1.0, 0.5], [0.1, 0.4, 0.7]])
    vectors, values, left = np.linalg.eig(a)[1], np.linalg.eig(a)[0], np.linalg.inv(np.linalg.eig(a)[1])
    slope = np.empty((3, 3))
    for i, j in np.ndindex(3, 3):  # d v_k = sum over l != k of v_l (w_l dA v_k) / (lambda_k - lambda_l), of length 1
        unit = np.zeros((3, 3))
        unit[i, j] = 1.0
        turned = left @ unit @ vectors
        moved = sum(vectors[:, k] * turned[k, 1] / (values[1] - values[k]) for k in (0, 2))
        moved = moved - vectors[:, 1] * (vectors[:, 1] @ moved)
        slope[i, j] = 2 * vectors[0, 1] * moved[0] * values[0] + vectors[0, 1] ** 2 * turned[0, 0]
    np.testing.assert_allclose(tg.func.grad(f)(a), slope, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(tg.func.jacfwd(f)(a), slope, rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match="domain change"):
        tg.func.grad(f)(np.array([[0.0, -1.0], [1.0, 0.0]]))


def test_what_numba_says_in_its_own_code_is_said_of_the_users_line():
    f = njit(lambda x: np.interp(x, x, x[:1]).sum())
    with pytest.raises(ValueError, match="same size"):
        tg.func.grad(f)(X)
    with pytest.raises(np.exceptions.AxisError, match="axis 2 is out of bounds"):
        tg.func.grad(njit(lambda x: np.sum(x.reshape(2, 3), axis=2)[0] + x[0]))(X)
    with pytest.raises(tg.jitted.NotDifferentiableError) as caught:
        tg.func.grad(njit(lambda x: np.random.gamma(x[0])))(X)
    assert caught.value.where.startswith(__file__)


@njit
def folded(a):
    """Of all elements, in the order in which Numba goes through memory."""
    total = 0.0
    for item in np.nditer(a):
        total = 0.7 * total + item.item()
    return total


@njit
def in_order(m, w):
    """What Numba makes of arrays in Fortran's order is in it too, or is not; `w` is in C's."""
    copy, total = m.copy(), 0.0
    for k in range(3):
        copy = copy * 0.9 + m
        copy[1:-1] += 0.1 * (copy[2:] - copy[:-2])
        total += np.sum(copy * m) + k * (m + k).mean()
    total += folded(copy) + folded(np.maximum(m, 0.1)) + 2 * folded(m + w) + 3 * folded(m + m[0])
    total += folded(np.where(m > 0, m, 0.5)) + folded(m.clip(-0.5, 0.5)) + folded(np.concatenate((m, m * 2.0)))
    return total


def test_arrays_in_fortrans_order():
    """Values to the last bit: in another order a sum is another number."""
    generator = np.random.default_rng(3)
    m, w = np.asfortranarray(generator.uniform(-1.5, 1.5, (5, 4))), generator.uniform(-1.5, 1.5, (5, 4))
    value, found = tg.func.value_and_grad(in_order, argnums=(0, 1))(m, w)
    assert value == in_order(m, w)
    for along in generator.standard_normal((3, 2, 5, 4)):
        step = 1e-6 * along
        above, below = (in_order(np.asfortranarray(m + sign * step[0]), w + sign * step[1]) for sign in (1, -1))
        np.testing.assert_allclose(np.sum(found * along), (above - below) / 2e-6, rtol=1e-7)
