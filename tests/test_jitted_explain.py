"""What a gradient records, by line: all that is on the tape, and no more."""

import inspect

import numpy as np
import pytest
from numba import njit

import tapegrad as tg
from tapegrad.jitted import jacobian_tape as tape
from tapegrad.jitted.engine import Recording, engine_of
from tapegrad.jitted.forms import Form


@tg.jitted.preaccumulate
@njit
def root(a):
    x, k = 1.0, 60
    while k > 0:
        x = 0.5 * (x + a / x)
        k -= 1
    return x


@njit
def step(x, i, rate):
    return x + rate * x * (1.0 - x)


@njit
def helper(x, k):
    for _ in range(3):
        x = x * k + np.sin(x)
    return x


@njit
def several(x, w):
    y = np.exp(x) * 2.0 + x * w
    total = np.sum(y)
    for i in range(x.size):
        total += root(x[i] + 1.0)
    total = helper(total, 0.01)
    total = tg.jitted.checkpoint_loop(step, total * 1e-3, 100, 0.01)
    if total < 0.0:
        raise ValueError("negative")
    return total


X = np.linspace(0.1, 1.0, 10)


@pytest.fixture(scope="module")
def found():
    return tg.jitted.explain(several)(X, 3.0)


def line_of(found, text):
    (line,) = [line for line in found.lines if text in line.text]
    return line


def test_lines_hold_all_that_is_on_the_tape(found):
    recording = Recording(engine_of(several), Form("record", 2, (0,)), (X, 3.0))
    assert found.rows == recording.words[tape.ROWS] - 1
    assert found.nbytes == found.rows + 12 * recording.words[tape.ARGUMENTS]


def test_lines_are_those_of_the_source(found):
    for line in found.lines[1:]:
        assert line.file == __file__
        assert inspect.getsource(inspect.getmodule(test_lines_are_those_of_the_source)).splitlines()[line.number - 1]
    assert [line.number for line in found.lines] == sorted(line.number for line in found.lines)
    assert found.lines[0].text == "the arguments"
    assert found.lines[0].rows == X.size


def test_a_statement_is_a_row_of_several_operations(found):
    line = line_of(found, "np.exp(x)")
    assert (line.rows, line.operations) == (10, 40)
    assert line_of(found, "np.sin(x)")[3:] == (3, 3 + 3 * 12, 9, 0)


def test_what_is_preaccumulated_is_counted_apart(found):
    line = line_of(found, "(x + a / x)")
    assert (line.rows, line.nbytes, line.inside, line.operations) == (0, 0, 600, 1800)
    called = line_of(found, "root(x[i] + 1.0)")
    assert (called.rows, called.inside) == (30, 10)  # the argument, the root and the sum; inside, the argument


def test_a_checkpointed_loop_is_its_states(found):
    assert line_of(found, "x + rate").rows == 0
    assert line_of(found, "checkpoint_loop").nbytes > 12 * 11


def test_a_sum_is_one_row_of_its_line():
    @njit
    def energy(x):
        s = 0.0
        for i in range(1, x.size):
            d = x[i] - x[i - 1]
            s += d * d
        return 2.0 * s

    lines = tg.jitted.explain(energy)(X).lines
    assert [(line.rows, line.operations) for line in lines] == [(10, 0), (0, 9), (1, 18), (1, 1)]


def test_a_nest_of_loops_is_one_row_of_its_line():
    @njit
    def energy(x):
        s = 0.0
        for i in range(x.size):
            for j in range(i):
                s += 1.0 / (1.0 + (x[i] - x[j]) ** 2)
        return 2.0 * s

    arguments, nest, rest = tg.jitted.explain(energy)(X).lines
    assert (arguments.rows, rest.rows, rest.operations) == (10, 1, 1)
    assert nest.text == "for i in range(x.size):"
    assert (nest.rows, nest.operations) == (1, 0)
    assert 12 * 10 < nest.nbytes < 12 * 20  # the elements, and a few words


def test_arguments_are_chosen_as_for_gradients():
    @njit
    def product(x, y, k=2.0):
        return x * y * k

    explain = tg.jitted.explain(product, argnums=(0, -2))
    assert explain(2.0, y=3.0).rows == 3
    assert tg.jitted.explain(lambda w: w["a"] * w["b"])({"a": 1.0, "b": 2.0}).rows == 3


def test_an_explanation_is_shown(found):
    text = str(found)
    assert text.startswith(f"several: {found.rows:,} rows of ")
    assert "inside" in text.splitlines()[1]
    assert found._repr_html_() == f"<pre>{text.replace('<', '&lt;')}</pre>"
    assert repr(found).startswith("<Explanation of several: ")


def test_errors_leave_nothing_behind(found):
    with pytest.raises(ValueError, match="negative"):
        tg.jitted.explain(several)(X, -1e6)
    assert str(tg.jitted.explain(several)(X, 3.0)) == str(found)
    with pytest.raises(tg.jitted.NotDifferentiableError):
        tg.jitted.explain(njit(lambda x: np.fft.fft(x)))(X)
    assert tape.header()[tape.PLACE] == 0
    with pytest.raises(RuntimeError, match="Got argnum=2, but only 2 positional inputs"):
        tg.jitted.explain(several, argnums=2)(X, 3.0)
    with pytest.raises(TypeError, match="are differentiated, but argument 0 is"):
        tg.jitted.explain(several)("X", 3.0)


def test_gradients_are_what_they_were(found):
    x = tg.func.grad(several)(X, 3.0)
    tg.jitted.explain(several)(X, 3.0)
    np.testing.assert_array_equal(tg.func.grad(several)(X, 3.0), x)
