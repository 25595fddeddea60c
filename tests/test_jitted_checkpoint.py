"""Checkpointed loops: the same gradients as the loop itself, in the memory of a square root."""

import math
from collections import namedtuple

import numpy as np
import pytest
from numba import njit
from thoroughness import thorough

import tapegrad as tg
from tapegrad.func import grad, hessian, hvp, jacfwd, jacrev, jvp, value_and_grad, vjp
from tapegrad.jitted import checkpoint_loop

pytestmark = pytest.mark.filterwarnings("ignore::numba.core.errors.NumbaPerformanceWarning")
Body = namedtuple("Body", "x v")
X = np.array([0.3, -0.7, 1.1])
W = np.array([[0.5, 0.1, -0.2], [0.0, 0.4, 0.3], [0.2, -0.1, 0.6]])


@njit
def logistic(x, i, rate):
    return x + rate * x * (1.0 - x)


@njit
def turned(x, i, w, f, passive, k):
    y = w @ x
    for j in range(x.size):
        x[j] = f(y[j]) + passive[i % 2] * x[j] / k
    return x


@njit
def drift(state, i, dt):
    (body, energy), count = state
    v = body.v - dt * np.sin(body.x)
    x = body.x + dt * v
    return (Body(x, v), energy + np.sum(v * v) * (1.0 + 0.01 * i)), count + 1


@njit
def smooth(v):
    return math.tanh(v)


PASSIVE = np.array([0.1, 0.2])


@njit
def checkpointed_number(x, rate, n):
    return checkpoint_loop(logistic, x, n, rate) * rate


@njit
def number(x, rate, n):
    for i in range(n):
        x = logistic(x, i, rate)
    return x * rate


@njit
def checkpointed_array(x, w, n):
    return checkpoint_loop(turned, x, n, w, smooth, PASSIVE, 2)


@njit
def array(x, w, n):
    x = x.copy()
    for i in range(n):
        x = turned(x, i, w, smooth, PASSIVE, 2)
    return x


@njit
def checkpointed_tuple(x, dt, n):
    (body, energy), count = checkpoint_loop(drift, ((Body(x, np.zeros(x.size)), 0.0), 0), n, dt)
    return energy * body.x[0] + count * body.v[1]


@njit
def tuple_of_states(x, dt, n):
    state = ((Body(x, np.zeros(x.size)), 0.0), 0)
    for i in range(n):
        state = drift(state, i, dt)
    (body, energy), count = state
    return energy * body.x[0] + count * body.v[1]


@njit
def first_of_array(x, w, n):
    return checkpointed_array(x, w, n)[0]


@njit
def first_of_plain(x, w, n):
    return array(x, w, n)[0]


@njit
def block(x, i, rate, n):
    return checkpoint_loop(logistic, x, n, rate)


@njit
def nested(x, rate, n):
    return checkpoint_loop(block, x, n, rate, n) * rate


@pytest.mark.parametrize("n", [0, 1, 2, 7, 50])
def test_numbers_to_the_bit(n):
    value, gradient = value_and_grad(number, argnums=(0, 1))(0.2, 0.3, n)
    of_checkpoints = value_and_grad(checkpointed_number, argnums=(0, 1))(0.2, 0.3, n)
    assert of_checkpoints[0] == checkpointed_number(0.2, 0.3, n) == value
    assert of_checkpoints[1] == pytest.approx(gradient, rel=1e-13)  # the plain loop's are added in another order


@pytest.mark.parametrize("n", [0, 1, 6, 23])
def test_arrays_in_place_by_every_transform(n):
    x = X.copy()
    expected = jacrev(array, argnums=(0, 1))(x, W, n)
    for transform in (jacrev, jacfwd):
        for found, wanted in zip(transform(checkpointed_array, argnums=(0, 1))(x, W, n), expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-13, atol=1e-16)
    seeds = np.array([1.0, -0.5, 2.0])
    output, pull = vjp(checkpointed_array, x, W, n)
    assert np.array_equal(output, array(X, W, n))
    for _ in range(2):  # any number of times
        np.testing.assert_allclose(pull(seeds)[1], np.tensordot(seeds, expected[1], 1), rtol=1e-13, atol=1e-15)
    _, tangent = jvp(checkpointed_array, (x, W, n), (seeds, None, None))
    np.testing.assert_allclose(tangent, expected[0] @ seeds, rtol=1e-13, atol=1e-15)
    assert np.array_equal(x, X)  # what was given is not written to


@pytest.mark.parametrize("n", [1, 20])
def test_tuples(n):
    wanted = value_and_grad(tuple_of_states, argnums=(0, 1))(X, 0.05, n)
    found = value_and_grad(checkpointed_tuple, argnums=(0, 1))(X, 0.05, n)
    assert found[0] == wanted[0]
    np.testing.assert_allclose(found[1][0], wanted[1][0], rtol=1e-13)
    assert found[1][1] == pytest.approx(wanted[1][1], rel=1e-13)


@njit
def choosy(state, i, mask, narrow, counts, nothing, is_on, pair):
    x, k = state
    if nothing is None and is_on:
        x = x * (pair[0] + narrow[i % 2]) + (1.0 if mask[i % 3] else 0.0) + 0.1 * counts[0, 1]
    return x, k + 1


PASSIVES = (np.array([True, False, True]), np.array([0.1, 0.2], np.float32), np.array([[1, 2], [3, 4]], np.uint8).T)


@njit
def checkpointed_choosy(x, t, mask, narrow, counts):
    y, k = checkpoint_loop(choosy, (x, 0), 7, mask, narrow, counts, None, True, (t, 1))
    return y * k


@njit
def plain_choosy(x, t, mask, narrow, counts):
    state = (x, 0)
    for i in range(7):
        state = choosy(state, i, mask, narrow, counts, None, True, (t, 1))
    return state[0] * state[1]


def test_parameters_of_every_kind():
    both = [value_and_grad(f, argnums=(0, 1)) for f in (checkpointed_choosy, plain_choosy)]
    found, wanted = (f(0.5, 0.9, *PASSIVES) for f in both)
    assert found == wanted


def test_against_complex_step():
    """The logistic map, in complex arithmetic."""
    step = 1e-200
    for place in range(2):
        x, rate = (complex(v, step * (k == place)) for k, v in enumerate((0.2, 0.3)))
        r = rate
        for _ in range(40):
            x = x + rate * x * (1.0 - x)
        slope = grad(checkpointed_number, argnums=place)(0.2, 0.3, 40)
        assert slope == pytest.approx((x * r).imag / step, rel=1e-13)


def test_second_derivatives():
    h = hessian(checkpointed_number, argnums=(0, 1))(0.2, 0.3, 30)
    np.testing.assert_allclose(h, hessian(number, argnums=(0, 1))(0.2, 0.3, 30), rtol=1e-13)
    along = (np.array([1.0, 0.5, -1.0]), None, None)
    value, product = hvp(checkpointed_tuple, (X, 0.05, 20), along)
    again, expected = hvp(tuple_of_states, (X, 0.05, 20), along)
    assert value == again
    np.testing.assert_allclose(product[0], expected[0], rtol=1e-12)


def test_loops_in_loops():
    n = 12
    value, gradient = value_and_grad(number, argnums=(0, 1))(0.2, 0.03, n * n)
    found = value_and_grad(nested, argnums=(0, 1))(0.2, 0.03, n)
    assert found[0] == value
    assert found[1] == pytest.approx(gradient, rel=1e-13)
    np.testing.assert_allclose(
        hessian(nested, argnums=(0, 1))(0.2, 0.03, n), hessian(number, argnums=(0, 1))(0.2, 0.03, n * n), rtol=1e-12
    )


@njit
def whirled(state, i, c):
    z, u, a = state
    for k in range(1, u.size):
        u[k] += c * np.float32(0.01) * (u[k - 1] - u[k])
    return z * (1.0 + 0.01j * c) + u[1], u, a * (0.99 + 0.1j * u[2])


@njit
def whirl(z, u, c, n):
    z, u, a = checkpoint_loop(whirled, (z, u, np.ones(2) * z), n, c)
    return abs(z) ** 2 + u[2] + abs(a[0] * a[1])


@njit
def whirl_plainly(z, u, c, n):
    u, a = u.copy(), np.ones(2) * z
    for i in range(n):
        z, u, a = whirled((z, u, a), i, c)
    return abs(z) ** 2 + u[2] + abs(a[0] * a[1])


@thorough
def test_complex_numbers_and_float32():
    args = 0.3 + 0.2j, X.astype(np.float32), np.float32(0.7), 30
    (found, slopes), (wanted, known) = (value_and_grad(f, argnums=(0, 1, 2))(*args) for f in (whirl, whirl_plainly))
    assert found == wanted == whirl(*args)
    for a, b in zip(slopes, known, strict=True):
        assert np.asarray(a).dtype == np.asarray(b).dtype
        np.testing.assert_allclose(a, b, rtol=1e-6)


def held(function, *args):
    tg.jitted.free()
    grad(function)(*args)
    found = tg.jitted.nbytes()
    tg.jitted.free()
    return found


def test_memory_grows_like_the_square_root():
    n = 16_000
    few, many = held(first_of_array, X, W, n), held(first_of_array, X, W, 16 * n)
    assert 2 < many / few < 8  # 4, up to the factor by which memory grows
    assert held(first_of_plain, X, W, n) > 40 * few


def test_plain_calls():
    x = X.copy()
    np.testing.assert_array_equal(checkpointed_array(x, W, 9), array(X, W, 9))
    assert np.array_equal(x, X)
    assert checkpoint_loop(logistic, 0.2, 5, 0.3) == number(0.2, 0.3, 5) / 0.3
    both = tg.jitted.value_and_grad(checkpointed_number)
    assert njit(lambda x: both(x, 0.3, 8)[1])(0.2) == grad(number)(0.2, 0.3, 8)
    assert checkpointed_number(0.2, 0.3, -3) == 0.2 * 0.3


def test_what_carries_no_derivatives_is_not_recorded():
    from tapegrad.jitted import engine
    from tapegrad.jitted import jacobian_tape as tape

    @njit
    def f(x):
        return x * checkpoint_loop(logistic, 0.2, 30, 0.1)

    recording = engine.Recording(engine.engine_of(f), engine.Form("record", 1, (0,)), [2.0])
    assert recording.words[tape.ROWS] == 3  # nobody's, that of x, and that of the product
    assert grad(f)(2.0) == number(0.2, 0.1, 30) / 0.1


# --- errors -----------------------------------------------------------------------------------------------------------

# As text: pytest puts more into a raise of a test's own than Numba compiles.
SCOPE = {"np": np, "checkpoint_loop": checkpoint_loop}
exec("""
def guarded(x, i, limit):
    if x > limit:
        raise ValueError("beyond the limit")
    return x * 1.5
""", SCOPE)  # fmt: skip
guarded = njit(SCOPE["guarded"])


@njit
def growing(x, limit):
    y = x * x
    return checkpoint_loop(guarded, y, 10, limit) + y


def test_an_exception_leaves_the_tape_clean():
    from tapegrad.jitted import jacobian_tape as tape

    for _ in range(2):
        with pytest.raises(ValueError, match="beyond the limit"):
            grad(growing)(2.0, 20.0)
        assert tape.header()[tape.ARGUMENTS] == 0
        assert tape.header()[tape.ROWS] <= 1
        assert grad(growing)(2.0, 1e9) == 4.0 * (1.5**10 + 1.0)


@njit
def noisy(x, i, scale):
    return x + scale * np.random.normal()


def test_a_step_that_does_not_do_the_same_again():
    from tapegrad.jitted import jacobian_tape as tape

    @njit
    def f(x):
        return checkpoint_loop(noisy, x, 10, 0.1) ** 2

    for transform in (grad, jacrev, hessian):
        with pytest.raises(RuntimeError, match="random numbers"):
            transform(f)(1.0)
        assert tape.header()[tape.ARGUMENTS] == 0
    _, pull = vjp(f, 1.0)
    with pytest.raises(RuntimeError, match="random numbers"):
        pull(1.0)
    assert jacfwd(njit(lambda x: checkpoint_loop(noisy, x, 10, 0.1)))(1.0) == 1.0  # the plain loop in forward mode


@njit
def writes(x, i, buffer):
    buffer[0] = x
    return x * buffer[0]


@njit
def grows(x, i):
    return np.append(x, 1.0)


@njit
def widens(x, i):
    return (x, x)


def test_what_a_step_may_not_do():
    def f(x):
        return checkpoint_loop(writes, x, 4, np.zeros(1))

    with pytest.raises(tg.jitted.NotDifferentiableError, match="can't be written to"):
        grad(njit(f))(1.0)
    with pytest.raises(ValueError, match="keeps its size"):
        grad(njit(lambda x: checkpoint_loop(grows, x, 4).sum()))(X)
    with pytest.raises(tg.jitted.NotDifferentiableError, match="after a step"):
        grad(njit(lambda x: checkpoint_loop(widens, x, 4)[0]))(1.0)
    with pytest.raises(tg.jitted.NotDifferentiableError, match="checkpointed loop"):
        grad(njit(lambda x: checkpoint_loop(logistic, [x, x], 4, 0.1)[0]))(1.0)
    with pytest.raises(tg.jitted.NotDifferentiableError, match=r"checkpoint_loop\(logistic, float64"):
        grad(njit(lambda x: checkpoint_loop(logistic, x, 4)))(1.0)
