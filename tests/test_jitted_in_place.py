"""Arguments that are read in place: which they are, and that derivatives, values and errors are as of lifted ones."""

import numpy as np
import pytest
from numba import njit

from tapegrad import func
from tapegrad.jitted.independents import Reading, only_read


def _elements(x, k):
    s = x[0, 1] * x[-1, k]
    for i in range(len(x)):
        for j in range(x.shape[1]):
            s += x[i, j] * x[j - 1, i] - x[i, -2] ** 2
    return s * x.size


def _by_another_name(x):
    y = x
    s = 0.0
    for i in range(y.size):
        s += y[i] * x[i]
    return s


def _chosen(x, rows):
    s = 0.0
    for i in range(rows.shape[0]):
        s += np.sum(x[rows[i]] * x[rows[i]])
    return s


def _all_of_it(x):
    return x[0] * x.sum()


def _sliced(x):
    return x[0] * x[1:][0]


def _bound_anew(x):
    x = x * 2.0
    return x[0]


def _written(x):
    x[0] = 1.0
    return x[1]


def _gone_through(x):
    s = x[0]
    for v in x:
        s += v
    return s


def _by_what_it_may_be(x, make):
    return x[make()]


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (_elements, {0: Reading(2, (1,))}),
        (_by_another_name, {0: Reading(1, ())}),
        (_chosen, {0: Reading(1, ()), 1: Reading(1, ())}),
        (_all_of_it, {}),
        (_sliced, {}),
        (_bound_anew, {}),
        (_written, {}),
        (_gone_through, {}),
        (_by_what_it_may_be, {}),
    ],
)
def test_what_is_only_read_is_known_from_code(function, found):
    """Elements and lengths may be read; all else may need an array of active scalars."""
    jitted = njit(function)
    if hasattr(jitted, "py_func"):  # there is nothing to find where nothing is compiled
        assert only_read(jitted) == found


elements = njit(_elements)


def _expected(x, k):
    """The gradient, by complex steps."""
    steps = x.size
    found = np.empty(steps)
    for e in range(steps):
        at = x.astype(complex)
        at.flat[e] += 1e-30j
        found[e] = _elements(at, k).imag / 1e-30
    return found.reshape(x.shape)


@pytest.mark.parametrize("n", [3, 9])  # in rows, and as a nest
def test_gradients_of_what_is_read_in_place(n):
    """Indices from the end, lengths, arrays that are in Fortran's order, strided, read only, of single precision."""
    x = np.random.default_rng(n).normal(size=(n, n))
    expected = _expected(x, 1)
    frozen, wide = x.copy(), np.zeros((n, 2 * n))
    frozen.flags.writeable, wide[:, ::2] = False, x
    for given in (x, frozen, np.asfortranarray(x), wide[:, ::2]):
        value, found = func.value_and_grad(elements)(given, 1)
        assert value == elements(given, 1)
        np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-13)
    value, found = func.value_and_grad(elements)(x.astype(np.float32), 1)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(func.jacrev(elements)(x, 1), func.grad(elements)(x, 1))


def test_elements_chosen_by_arrays_are_copies():
    """What is chosen by an array of indices is differentiated as ever."""
    x, rows = np.arange(1.0, 6.0), np.array([[0, 1], [4, 4]])
    np.testing.assert_array_equal(func.grad(njit(_chosen))(x, rows), [2.0, 4.0, 0.0, 0.0, 20.0])


def test_slices_that_are_arguments():
    """An argument that chooses may be a slice: the array is lifted then."""

    @njit
    def chosen(x, which):
        return np.sum(x[which] ** 2)

    np.testing.assert_array_equal(func.grad(chosen)(np.arange(4.0), slice(1, 3)), [0.0, 2.0, 4.0, 0.0])
    np.testing.assert_array_equal(func.grad(chosen)(np.arange(4.0), 3), [0.0, 0.0, 0.0, 6.0])


def test_an_index_beyond_the_end_is_an_error_where_it_was():
    """As the plain function under `boundscheck` has it, and the next call is right."""

    @njit(boundscheck=True)
    def read(x, k):
        return x[k] * x[0]

    with pytest.raises(IndexError):
        func.grad(read)(np.ones(3), 3)
    np.testing.assert_array_equal(func.grad(read)(np.array([2.0, 3.0]), -1), [3.0, 2.0])


def test_memory_that_another_argument_writes_to():
    """An array that is read through one argument and written to through another has the values that were written."""

    @njit
    def shifted(x, out):
        for i in range(x.size - 1):
            out[i + 1] = x[i] * x[i]
        return x[x.size - 1] * out[1]

    x = np.full(40, 0.9)
    expected = shifted(x.copy(), x.copy()), shifted(y := x.copy(), y)
    apart = func.value_and_grad(shifted, argnums=(0, 1))(x.copy(), x.copy())
    same = x.copy()
    shared = func.value_and_grad(shifted, argnums=(0, 1))(same, same)
    assert (apart[0], shared[0]) == expected
    assert apart[1][0][0] == 2 * 0.9 * 0.9
    assert shared[1][0][0] != apart[1][0][0]
    np.testing.assert_array_equal(same, x)


def test_gradients_that_are_asked_for_in_jitted_code():
    """A driver that jitted code calls reads in place, too; what it was given may be gone before the next."""
    gradient = func.grad(njit(_by_another_name))
    x = np.arange(50.0)
    for _ in range(3):
        np.testing.assert_array_equal(gradient(x.copy()), 2 * x)
    output, pull = func.vjp(njit(_by_another_name), y := x.copy())
    y[:] = 0.0  # the tape outlives the call: it has values of its own
    np.testing.assert_array_equal(pull(1.0)[0], 2 * x)
    assert output == x @ x
