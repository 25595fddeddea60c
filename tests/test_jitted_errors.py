"""What can't be compiled is an error that names the construct and the user's line, whatever Numba says."""

import inspect

import numpy as np
import pytest
from numba import from_dtype, njit, stencil

import tapegrad as tg

X = np.array([1.0, 2.0, 3.0])
CASES = []


def case(construct, text):
    """A function that isn't compiled, what its error names, and a part of the line that it names."""

    def enter(function):
        CASES.append(pytest.param(function, construct, text, id=function.__name__))
        return function

    return enter


@case("nothing", "np.nothing(x)")
def an_attribute_that_is_not_there(x):
    return np.nothing(x)


@case("undefined", "def a_name")
def a_name_that_is_not_there(x):
    return x[0] * undefined  # noqa: F821


@case("UNPACK_EX", "a, *b = x")
def bytecode_that_is_not_supported(x):
    a, *b = x
    return a * len(b)


@case("this function", "def keyword_only(a, *, b)")
def a_function_with_keyword_only_arguments(x):
    def keyword_only(a, *, b):
        return a * b

    return keyword_only(x[0], b=2.0)


@case("polyval", "np.polyval")
def a_function_that_numba_does_not_know(x):
    return np.polyval(np.array([1.0, 2.0]), x[0])


@case("generator", "def a_generator")
def a_generator(x):
    yield x[0]


@case("tuple length", "a, b = (x[0], x[1], x[2])")
def an_unpacking_that_fails(x):
    a, b = (x[0], x[1], x[2])
    return a + b


@case("setitem", "np.array([x, x])")
def an_array_of_arrays(x):
    return np.array([x, x]).sum()


@njit("float64(float64)")
def square(v):
    return v * v


@njit("float64(float64)")
def cube(v):
    return v * v * v


TYPED = (square, cube)


@case("a function of a declared type", "TYPED[i]")
def functions_called_by_their_addresses(x):
    total = 0.0
    for i in range(2):
        total += TYPED[i](x[0])
    return total


RECORD = from_dtype(np.dtype([("a", np.float64), ("b", np.int64)]))


@case("a place for int64 that is given float64 with derivatives", "r[0].b = x[0]")
def an_integer_in_a_record(x):
    r = np.zeros(2, RECORD)
    r[0].a = x[0]
    r[0].b = x[0]
    return r[0].a


@stencil
def neighbours(a):
    return a[-1] + a[1]


@case("`neighbours`", "neighbours(x)")
def a_stencil(x):
    return neighbours(x).sum()


@pytest.mark.parametrize("transform", [tg.func.grad, tg.func.jacfwd])
@pytest.mark.parametrize(("function", "construct", "text"), CASES)
def test_named_with_its_line(function, construct, text, transform):
    with pytest.raises(tg.jitted.NotDifferentiableError) as caught:
        transform(njit(function))(X)
    lines, first = inspect.getsourcelines(function)
    n = first + max(i for i, line in enumerate(lines) if text in line)
    assert construct in caught.value.construct
    assert caught.value.where.startswith(f"{__file__}:{n}: ")
    assert "Taped" not in str(caught.value)
    assert "Dual" not in str(caught.value)


def test_also_where_jitted_code_asks_for_the_gradient():
    both = tg.jitted.value_and_grad(njit(an_array_of_arrays))
    for call in (both, njit(lambda x: both(x)[0])):
        with pytest.raises(tg.jitted.NotDifferentiableError, match="setitem"):
            call(X)


def test_parameters_that_are_not_given_by_position():
    for function, parameter in ((njit(lambda x, **others: x), "[*][*]others"), (njit(lambda *xs, k: k), "k")):
        with pytest.raises(tg.jitted.NotDifferentiableError, match=f"parameter `{parameter}`"):
            tg.func.grad(function)(1.0, k=2.0)


def test_a_result_that_is_no_number():
    with pytest.raises(RuntimeError, match="returns an array"):
        tg.jitted.value_and_grad(njit(lambda x: 2.0 * x))(X)


def test_what_stands_in_the_way_of_a_function_that_writes_to_an_argument():
    @njit
    def f(x, c):
        c[0] = x * x
        return c.view(np.int64)[0] * x

    with pytest.raises(tg.jitted.NotDifferentiableError, match="`view`") as caught:
        tg.func.grad(f)(2.0, np.ones(2))
    assert "setitem" in caught.value.__cause__.construct
