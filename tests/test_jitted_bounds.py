"""What is read beyond an array's end, and exceptions in the middle of a row: the tape stays whole."""

import numpy as np
import pytest
from numba import njit
from numba.extending import overload

from tapegrad.func import grad, hvp, jacfwd, jacrev, vjp
from tapegrad.jitted import checkpoint_loop

X = np.array([1.0, 2.0, 3.0])


def stray(x, row):
    """A number with a row that may not exist: what lies beyond an array's end can look like this."""
    return x


def declare_stray():
    from tapegrad.jitted import checking, lifting
    from tapegrad.jitted.active import Taped

    @overload(stray)
    def typed(x, row):
        if not isinstance(x, Taped):
            return lambda x, row: 2.0 * x
        kind = x
        return lambda x, row: lifting.make(kind, 2.0 * lifting.value_of(x), row, -1)

    checking.make_known(stray)


declare_stray()


@njit
def kept_in_many_ways(x, row):
    y = np.zeros((2, 2))
    y[0, 0] = stray(x[0], row)
    y[1, 1] = x[1]
    total = stray(x[0], row)
    for v in x:
        total += v * v
    return total + stray(x[2], row) * x[1] + (y @ y).sum()


@njit
def with_stray_step(x, i, row):
    return x * x + 0.1 * stray(x, row)


@pytest.mark.parametrize("row", [2**40, -7, 2**31 + 1, -(2**63)])
def test_a_row_that_is_not_there_is_nobodys(row):
    """The partials by all that has a row are as they should be; the others go nowhere."""
    value, pull = vjp(kept_in_many_ways, X, row)
    assert value == kept_in_many_ways(X, row)
    assert pull(1.0)[0].tolist() == [2.0, 4.0 + 6.0 + 4.0, 6.0]
    assert grad(kept_in_many_ways)(X, row).tolist() == pull(1.0)[0].tolist()
    assert jacrev(njit(lambda x, row: (stray(x[0], row), x[1])))(X, row)[0].tolist() == [0.0, 0.0, 0.0]
    assert grad(njit(lambda x, row: stray(x[0], row)))(X, row).tolist() == [0.0, 0.0, 0.0]
    assert grad(njit(lambda x, row: checkpoint_loop(with_stray_step, x[0], 1, row)))(X, row).tolist() == [2.0, 0.0, 0.0]
    assert hvp(njit(lambda x, row: x[0] ** 3 + stray(x[1], row)), (X, row), (X, None))[1][0].tolist() == [6.0, 0.0, 0.0]


@njit(boundscheck=True)
def sum_of_squares(x, n):
    total = 5.0 * x[0]
    for i in range(n):
        total += x[i] * x[i]
    return total


def test_an_index_error_leaves_the_tape_clean():
    from tapegrad.jitted import jacobian_tape as tape

    for _ in range(2):
        with pytest.raises(IndexError):
            grad(sum_of_squares)(X, 7)
        assert tape.header()[tape.ARGUMENTS] == 0
        assert tape.header()[tape.ROWS] <= 1
        assert grad(sum_of_squares)(X, 3).tolist() == [7.0, 4.0, 6.0]


# As text: pytest puts more into a raise of a test's own than Numba compiles.
SCOPE = {"njit": njit, "sum_of_squares": sum_of_squares}
exec("""
@njit
def refuses(i):
    if i == 2:
        raise ValueError("no")
    return 1.0 + i

@njit
def weighted(x, n):
    total = x[0] * x[1]
    for i in range(n):
        total -= x[i] * refuses(i)
    return total

def caught(x, n):
    z = 5.0 * x[2] * x[0]
    try:
        a = weighted(x, n)
    except Exception:
        a = 1.0
    try:
        b = sum_of_squares(x, 7)
    except Exception:
        b = 2.0
    return a * x[0] + b * x[1] ** 2 + z
""", SCOPE)  # fmt: skip
caught = njit(SCOPE["caught"])


CAUGHT = [(2, [13.0, 7.0, 5.0], [17.0, 8.0, 5.0]), (3, [16.0, 8.0, 5.0], [15.0, 8.0, 5.0])]


@pytest.mark.parametrize(("n", "expected", "product"), CAUGHT)
def test_an_exception_that_is_caught_takes_the_terms_of_its_sum_back(n, expected, product):
    """(x0 x1 - x0 - 2 x1) x0, or x0, and 2 x1**2 + 5 x0 x2."""
    assert jacfwd(caught)(X, n).tolist() == expected
    assert grad(caught)(X, n).tolist() == expected
    assert hvp(caught, (X, n), (X, None))[1][0].tolist() == product
