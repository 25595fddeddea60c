"""Array expressions of jitted functions: values are the plain function's, gradients those of complex steps."""

import numpy as np
import pytest
from numba import njit
from thoroughness import further

from tapegrad import func, jitted


@njit
def stencils(x, w, c):
    """Views of one array, forwards, backwards and strided; a broadcast row; numbers; powers; a chain of results."""
    a = 0.25 * (x[:, :-2] + 2.0 * x[:, 1:-1] + x[:, 2:])
    b = np.exp(-a * a) * c + w[1:-1] / (1.5 + x[:, 1:-1] ** 2)
    d = b[:, ::-1] * a - (x[:, :-2] ** 3 + x[0, 1]) * x[:, 2:] ** 0.5
    e = np.sin(d) / (c + d**2) + (-a) * w[2:]
    return np.sum(e * e) + np.sum(e[:, ::2] * 3.0) + e[-1, -1] * b[0, 0]


@njit
def transposed(x, w, c):
    """Operands in different orders of memory."""
    a = x.T * c + x.T * x.T
    b = (a.T - x) * a.T
    return np.sum(b[1:] * b[:-1]) + np.sum(w * x[0])


@njit
def sweeps(x, w, c):
    """Expressions over columns, which are read of an array that is written to."""
    y = x.copy()
    for j in range(1, y.shape[1]):
        y[:, j] = (c * y[:, j - 1] + w[j]) / (2.0 + y[:, j])
    for i in range(y.shape[0] - 1, 0, -1):
        y[i - 1] += y[i - 1] * y[i] * 0.5
        y[i, 1:] = y[i, :-1] * 0.5 + y[i - 1, 1:]
    y -= 0.1 * x
    y /= 1.0 + w * w
    y *= c
    return np.sum(y * y)


def complex_steps(function, x):
    """The gradient of a plain function, to the last digits."""
    found = np.empty_like(x)
    for place in np.ndindex(x.shape):
        z = x.astype(complex)
        z[place] += 1e-30j
        found[place] = function(z).imag / 1e-30
    return found


@pytest.mark.parametrize("function", [stencils, *further(transposed, sweeps)])
@pytest.mark.parametrize("shape", [(1, 40), (3, 20), (20, 3), (2, 4), (12, 12)])
def test_values_and_gradients(function, shape):
    rng = np.random.default_rng(7)
    x, w, c = rng.uniform(0.5, 2.0, shape), rng.uniform(0.5, 2.0, shape[1]), 0.7
    for laid in (x[::-1], np.repeat(x, 2, axis=1)[:, ::2], np.pad(x, 1)[1:-1, 1:-1]):
        value, (by_x, by_w, by_c) = func.value_and_grad(function, argnums=(0, 1, 2))(laid, w, c)
        assert value == function(laid, w, c)
        z = laid.astype(complex)
        of_x = complex_steps(lambda z: function.py_func(z, w, c), laid)
        of_w = complex_steps(lambda w, z=z: function.py_func(z, w, c), w)
        np.testing.assert_allclose(by_x, of_x, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(by_w, of_w, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(by_c, function.py_func(z, w, c + 1e-30j).imag / 1e-30, rtol=1e-12)


def test_second_order():
    """Rows with tangents are no lines: they are swept by themselves."""
    rng = np.random.default_rng(8)
    x, w, v = rng.uniform(0.5, 2.0, (2, 14))[::-1], rng.uniform(0.5, 2.0, 14), rng.normal(size=(2, 14))
    gradient, h = func.grad(stencils, argnums=(0, 1, 2)), 1e-5
    above, below = ((x + d * v)[::-1][::-1] for d in (h, -h))
    differences = (gradient(above, w, 0.7)[0] - gradient(below, w, 0.7)[0]) / (2 * h)
    _, product = func.hvp(stencils, (x, w, 0.7), (v, np.zeros(14), 0.0))
    np.testing.assert_allclose(product[0], differences, rtol=1e-6, atol=1e-6)


@njit
def overlapping(x, k):
    """What is written is read again, element by element as Numba has it: sums and products of every k-th."""
    y = x.copy()
    y[k:] += y[:-k]
    y[:-k] *= y[k:]
    y += y
    y[k:] -= y[:-k] / 3.0
    return np.sum(y * y)


@pytest.mark.parametrize("k", [1, 7, 8, 20])
def test_in_place_operations_that_read_what_they_wrote(k):
    """Forward mode has no tape."""
    x = np.random.default_rng(11).uniform(0.5, 0.9, 50)
    value, gradient = func.value_and_grad(overlapping)(x, k)
    assert value == overlapping(x, k)
    np.testing.assert_allclose(gradient, func.jacfwd(overlapping)(x, k), rtol=1e-12)


@njit
def scaled(x, c):
    y = x * c
    return y[3]


@njit
def scaled_by_each(x, c):
    y = x * (c / (x - 1.0))
    return y[3]


def test_what_was_not_taken_leaves_no_nan():
    x = np.full(40, 2.0)
    x[20:] = 1.0
    for function, c, slope in ((scaled, np.inf, np.inf), (scaled_by_each, 1.0, -1.0)):
        gradient = func.grad(function)(x, c)
        assert gradient[3] == slope
        assert not np.delete(gradient, 3).any()


@njit
def numbers(x, i, s):
    y = (i * i) * x  # integers: they overflow
    z = (s * s) * x + s * x  # single precision: it is rounded
    return np.sum(y), np.sum(z), np.sum(x / (x - x)), np.sum((i**2) * x), np.sum((i / 3) * x)


@njit
def twice(x, i, s):
    values = numbers(x, i, s)
    return values, values


def test_values_are_those_of_the_plain_function():
    rng = np.random.default_rng(9)
    x = rng.normal(size=30)
    i, s = rng.integers(2**31, 2**40, 30), rng.normal(size=30).astype(np.float32)
    jacobian, values = func.jacrev(twice, has_aux=True)(x, i, s)
    np.testing.assert_array_equal(values, numbers(x, i, s))
    np.testing.assert_array_equal(jacobian[0], (i * i).astype(float))
    np.testing.assert_array_equal(jacobian[3], (i**2).astype(float))


@njit
def passive_and_active(x, w, n):
    """What an array holds is active from one element on."""
    y = np.zeros(w.size)
    y[n:] = x[: w.size - n] * w[n:]
    z = y * y + w
    return np.sum(z * z)


def test_arrays_that_are_active_in_part():
    rng = np.random.default_rng(10)
    x, w = rng.normal(size=60), rng.normal(size=60)
    for n in (0, 1, 9, 30, 59):
        gradient = func.grad(passive_and_active)(x, w, n)
        y = np.concatenate([np.zeros(n), x[: w.size - n] * w[n:]])
        expected = np.zeros(60)
        expected[: 60 - n] = (4.0 * (y * y + w) * y * w)[n:]
        np.testing.assert_allclose(gradient, expected, rtol=1e-12, atol=1e-14)


@njit
def smoothed(x, n):
    a = x.copy()
    for _ in range(n):
        a[1:-1] = 0.25 * (a[:-2] + 2.0 * a[1:-1] + a[2:])
    return np.sum(a * a)


def test_linear_stencils_store_a_few_bytes_an_element():
    jitted.free()
    func.grad(smoothed)(np.linspace(0.0, 1.0, 10_000), 40)
    assert jitted.nbytes() < 25 * 40 * 10_000  # rows by themselves: 65
