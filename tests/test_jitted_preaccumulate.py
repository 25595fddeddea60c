"""Marked functions: the same derivatives, from a row for each number that they return."""

from collections import namedtuple

import numpy as np
import pytest
from numba import njit

import tapegrad as tg
from tapegrad.func import grad, hessian, hvp, jacfwd, value_and_grad, vjp
from tapegrad.jitted import checkpoint_loop, preaccumulate

Root = namedtuple("Root", "x slope steps")
X = np.array([0.4, 0.9, 1.6, 2.5])


def newton(a, b, start=1.0):
    """The root of x**3 + a x = b, and the slope there."""
    x, n = start, 0
    while abs(x**3 + a * x - b) > 1e-14 * abs(b) and n < 50:
        x -= (x**3 + a * x - b) / (3.0 * x * x + a)
        n += 1
    return Root(x, 3.0 * x * x + a, n)


def smoothed(x, weights):
    y = x.copy()
    for _ in range(6):
        for i in range(1, y.size - 1):
            y[i] = weights[0] * y[i - 1] + weights[1] * y[i] + weights[0] * y[i + 1]
    return y[1:3], np.sum(y * y)


plain_newton, plain_smoothed = njit(newton), njit(smoothed)
marked_newton, marked_smoothed = preaccumulate(njit(newton)), preaccumulate(smoothed)


def of_roots(solve):
    @njit
    def f(x):
        total = 0.0
        for i in range(1, x.size):
            root = solve(x[i], x[0])
            total += root.x * root.slope + solve(2.0, x[i], start=x[0]).x
            if root.steps > 40:
                total = 0.0
        return total + solve(2.0, 3.0).x

    return f


def of_arrays(smooth):
    @njit
    def f(x, w):
        y, s = smooth(x, (w, 1.0 - 2.0 * w))
        return y[0] * y[1] * s

    return f


def n_rows(function, *args):
    from tapegrad.jitted import engine
    from tapegrad.jitted import jacobian_tape as tape

    recording = engine.Recording(engine.engine_of(function), engine.Form("record", len(args), (0,)), list(args))
    return recording.words[tape.ROWS], recording.words[tape.ARGUMENTS]


def test_fewer_rows_and_the_same_gradient():
    plain, marked = of_roots(plain_newton), of_roots(marked_newton)
    value, gradient = value_and_grad(marked)(X)
    again, expected = value_and_grad(plain)(X)
    assert value == again == plain(X)
    np.testing.assert_allclose(gradient, expected, rtol=1e-13)
    (few, arguments), (many, _) = n_rows(marked, X), n_rows(plain, X)
    assert few < many / 2
    assert arguments < 3 * few
    np.testing.assert_allclose(jacfwd(marked)(X), gradient, rtol=1e-12)


def test_by_the_implicit_function_theorem():
    x, slope, _ = newton(0.7, 2.0)
    by_a, by_b = grad(njit(lambda a, b: marked_newton(a, b).x), argnums=(0, 1))(0.7, 2.0)
    assert by_a == pytest.approx(-x / slope, rel=1e-13)
    assert by_b == pytest.approx(1.0 / slope, rel=1e-13)
    second = hessian(njit(lambda b: marked_newton(0.7, b).x))(2.0)
    assert second == pytest.approx(-6.0 * x / slope**3, rel=1e-12)


def test_arrays_and_tuples():
    plain, marked = of_arrays(plain_smoothed), of_arrays(marked_smoothed)
    (_, found), (_, expected) = (hvp(f, (X, 0.2), (X[::-1].copy(), 1.0)) for f in (marked, plain))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-12)
    assert found[1] == pytest.approx(expected[1], rel=1e-12)
    (y, _), pull = vjp(marked_smoothed, X, (0.2, 0.6))  # also by itself
    assert np.array_equal(y, plain_smoothed(X, (0.2, 0.6))[0])
    x_bar, w_bar = pull((np.array([1.0, -1.0]), 0.5))
    x_expected, w_expected = vjp(plain_smoothed, X, (0.2, 0.6))[1]((np.array([1.0, -1.0]), 0.5))
    np.testing.assert_allclose(x_bar, x_expected, rtol=1e-13, atol=1e-16)
    np.testing.assert_allclose(w_bar, w_expected, rtol=1e-13)


@njit
def marked_step(x, i, a):
    return marked_newton(a, x + 0.1).x


@njit
def plain_step(x, i, a):
    return plain_newton(a, x + 0.1).x


def test_in_a_checkpointed_loop():
    found = value_and_grad(njit(lambda x, a: checkpoint_loop(marked_step, x, 20, a)), argnums=(0, 1))(2.0, 0.3)
    expected = value_and_grad(njit(lambda x, a: checkpoint_loop(plain_step, x, 20, a)), argnums=(0, 1))(2.0, 0.3)
    assert found[0] == expected[0]
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-12)


# As text: pytest puts more into a raise of a test's own than Numba compiles.
SCOPE = {}
exec("""
def raises(x):
    y = x * x
    if y > 4.0:
        raise ValueError("too much")
    return y * x
""", SCOPE)  # fmt: skip
raises = preaccumulate(SCOPE["raises"])


@preaccumulate
def writes(x):
    x[0] = 1.0
    return x[0]


def test_errors():
    from tapegrad.jitted import jacobian_tape as tape

    for _ in range(2):
        with pytest.raises(ValueError, match="too much"):
            grad(njit(lambda x: raises(x * x)))(3.0)
        assert tape.header()[tape.ARGUMENTS] == 0
        assert grad(njit(lambda x: raises(x * x)))(1.0) == 6.0
    with pytest.raises(tg.jitted.NotDifferentiableError, match="can't be written to"):
        grad(njit(lambda x: writes(x)))(X)
