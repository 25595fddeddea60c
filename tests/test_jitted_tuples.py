"""Tuples that loops carry: values as the plain function has them to the last bit, derivatives by complex steps."""

import math
from collections import namedtuple
from types import FunctionType

import numpy as np
import pytest
from numba import njit, prange, types

from tapegrad import func, jitted

State = namedtuple("State", "x v")
START = (0.5, 2)


def stepped(state, h):
    x, v = state
    return x + h * v, v - h * (x - x * x * x / 6.0)


def turned(state, h):
    return State(state.x + h * state.v, v=state[1] - h * state.x)


def of_numbers(a, b, n):
    """Integers that become floats at a loop's head, bools, tuples in tuples, tuples exchanged, and of other loops."""
    s, t, u = (0, True, a), (b, 1.5), ((a, b), (1, (b, 2.0)))
    e, best = START, (0.0, 0)
    for i in range(n):
        if i % 4 == 1:
            s = (2, 0.5 * b, s[2] * a)
        elif i % 4 == 2:
            s = (i, i, s[2] + b)
        t = t[1] * 0.9, t[0] + s[0] // 1
        (p, q), (k, (r, w)) = u
        u = ((q, p * 0.9 + r), (k + 1, (w * 0.5, r + p)))
        for j in range(2):
            t, e = (e[0], t[1] * 0.3 + j), stepped((t[0], e[1]), 0.1)
            best = (best[0] + e[0] * s[1], i) if k > 2 else best
    return s[0] * s[1] * s[2] + t[0] * t[-1] + u[0][0] * u[1][1][0] + u[1][0] * u[0][1] + e[1] + best[0] * best[1]


def read_whole(a, b, n):
    """Tuples in a list, as keys and values of dictionaries, compared, iterated, concatenated, cut, passed, returned."""
    s, kept, key, known = (a, b, 1.0), [(a, 2.0, 3.0)], (0, 1), {(0, 1): (b, a * b, a)}
    named, total, end = State(v=a, x=b), 0.0, (0.0, 0.0)
    for i in range(n):
        s = (s[1], s[0] * 0.9, s[2] * b)
        key = key[1], (key[0] + key[1]) % 3
        named = turned(named, 0.1)
        kept.append(s)
        known[key] = s
        total = total + len(s) + s[i % 3] + (0.9 if s == kept[0] else s[1]) + sum_of(named) * named[i % 2]
        for item in s:
            total += item * item
        cut = s[1:] + s[:1]
        end = stepped(cut[:2], 0.2)
        if i == 3:
            s, named = kept[1], State(named.v, 0.5)
    return total + kept[-2][0] * kept[2][1] + known[(1, 1)][2] + named.v * named.x + end[0]


def sum_of(state):
    total = 0.0
    for i in range(len(state)):
        total += state[i] * (i + 1)
    return total


def in_flow(a, b, n):
    """In loops that are left, of generators, with exceptions; one that a loop makes first."""
    s, i, total = (a, b), 0, 0.0
    while True:
        i += 1
        if i > n:
            break
        if i % 3 == 1:
            s = (s[0] * 0.8, s[1])
            continue
        s = stepped(s, 0.3)
        try:
            if i == 5:
                raise ValueError
            s = (s[0] * 1.05, s[1] + 0.1)
        except Exception:
            s = (s[1], s[0])
    for p, q in states(a, b, n):
        total += p * q * q
    for i in range(n):
        if i == 0:
            made = (a, 1)
        made = (made[0] * 0.5 + b, made[1] + i)
    return s[0] * s[1] + total + made[0] * made[1]


def states(a, b, n):
    s = (a, b)
    for i in range(n):
        yield s
        s = (s[1] * 0.8, s[0] + 0.1) if i != 3 else stepped(s, 0.2)


def of_arrays(a, b, n):
    """Arrays in tuples, one twice, written to through them."""
    x = np.array([a, b, a * b])
    s, t = (x * 2.0, 0, b), (x, x, 0.5)
    for i in range(n):
        s = (s[0] * 0.9 + s[2], s[1] + 1, s[0].sum() * 0.1)
        s[0][s[1] % 3] = s[2] * x[1]
        t[0][i % 3] *= 0.9
        t = (t[1], t[0], t[0][(i + 1) % 3]) if i % 2 == 0 else (t[0], x, t[2] * 0.5)
    return s[0].sum() * s[1] + s[2] + t[0].sum() * t[2]


def given(state, b, n):
    """Tuples that are arguments, with tuples in them, or known outside."""
    (x, v), named = state
    s = START
    for _ in range(n):
        state = (stepped(state[0], 0.1), turned(state[1], 0.2))
        s = (s[1] * 0.7, s[0] + b)
    return state[0][0] * state[0][1] + state[1].x * v + named.v * x + s[0] * s[1]


def swung(a, b, n):
    s = (a, b)
    for i in range(n):
        s = stepped(s, 0.1)
        if i % 7 == 3:
            s = 0.5 * s[1] + a * b, s[0]
    return s[0] * s[1]


NAMES = {f.__name__: njit(f) for f in (stepped, turned, sum_of)}


def compiled(function):
    return njit(FunctionType(function.__code__, {**globals(), **NAMES}))


NAMES["states"] = compiled(states)


def slopes(function, a, b, *rest):
    """By complex steps."""
    return [function(a + 1e-40j, complex(b), *rest).imag / 1e-40, function(complex(a), b + 1e-40j, *rest).imag / 1e-40]


@pytest.mark.parametrize("function", [of_numbers, read_whole, in_flow, of_arrays])
def test_derivatives(function):
    f, n = compiled(function), 9
    value, found = func.value_and_grad(f, argnums=(0, 1))(0.4, 0.2, n)
    assert value == f(0.4, 0.2, n)
    if function is in_flow or function is of_arrays:
        wanted = slopes(function, 0.4, 0.2, n)
    else:  # comparisons and floors, which complex numbers have not
        wanted = func.jacfwd(f, argnums=(0, 1))(0.4, 0.2, n)
        for k, a in enumerate(wanted):
            h = 1e-5 * np.eye(2)[k]
            assert math.isclose(a, (f(0.4 + h[0], 0.2 + h[1], n) - f(0.4 - h[0], 0.2 - h[1], n)) / 2e-5, rel_tol=1e-6)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    few = 0 if function is of_numbers else 4
    assert func.value_and_grad(f, argnums=(0, 1))(0.4, 0.2, few)[0] == f(0.4, 0.2, few)


def test_transforms():
    """Forward mode, second derivatives, memory that is limited, loops that are checkpointed."""
    f, point, n = compiled(swung), np.array([0.4, 0.2]), 3000
    wanted = slopes(swung, *point, n)
    np.testing.assert_allclose(func.jacfwd(f, argnums=(0, 1))(*point, n), wanted, rtol=1e-12)
    h = 1e-5 * np.array([1.0, 0.0])
    by_difference = (np.array(slopes(swung, *(point + h), n)) - slopes(swung, *(point - h), n)) / 2e-5
    np.testing.assert_allclose(func.hessian(f, argnums=(0, 1))(*point, n)[0], by_difference, rtol=1e-6)
    with jitted.memory_limit(200_000):
        value, found = func.value_and_grad(f, argnums=(0, 1))(*point, n)
    assert value == f(*point, n)
    np.testing.assert_allclose(found, wanted, rtol=1e-11)


def test_arguments():
    f, state = compiled(given), ((0.4, 0.2), State(0.3, -0.5))
    value, (by_state, by_b) = func.value_and_grad(f, argnums=(0, 1))(state, 0.7, 6)
    assert value == f(state, 0.7, 6)
    assert isinstance(by_state[1], State)

    def step(k):
        point = np.array([0.4, 0.2, 0.3, -0.5, 0.7], complex)
        point[k] += 1e-40j
        return given(((point[0], point[1]), State(point[2], point[3])), point[4], 6).imag / 1e-40

    np.testing.assert_allclose([*by_state[0], *by_state[1], by_b], [step(k) for k in range(5)], rtol=1e-12)


def test_declared_types():
    """A signature, and what users declare of variables, which is refused where it is another type."""

    def f(a, n):
        s = (a, 1)
        for _ in range(n):
            s = (s[0] * 0.7, s[1] + 1)
        return s[0] * s[1]

    value, gradient = func.value_and_grad(njit(["float64(float64, int64)"])(f))(0.3, 5)
    assert math.isclose(value, 0.3 * gradient, rel_tol=1e-15)
    assert math.isclose(gradient, 6 * 0.7**5, rel_tol=1e-15)
    declared = njit(locals={"s": types.Tuple((types.float32, types.int64))})(f)
    with pytest.raises(jitted.NotDifferentiableError, match=r"declared Tuple\(float32, int64\)"):
        func.grad(declared)(0.3, 5)


def test_parallel_loops():
    @njit(parallel=True)
    def f(x, out):
        for k in prange(out.size):
            s = (x[k % 3], 0)
            for _ in range(4):
                s = (math.sin(s[0]) + x[1], s[1] + k)
            out[k] = s[0] * s[1]
        return out[0] + 2.0 * out[1] + 3.0 * out[2] + 4.0 * out[3]

    x = np.array([0.3, -0.7, 1.2])
    value, found = func.value_and_grad(f)(x, np.zeros(4))
    assert value == f(x, np.zeros(4))
    wanted = np.zeros(3)
    for k in range(1, 4):  # by hand
        s, by_s, by_1 = x[k % 3], 1.0, 0.0
        for _ in range(4):
            s, by_s, by_1 = math.sin(s) + x[1], math.cos(s) * by_s, math.cos(s) * by_1 + 1.0
        wanted[k % 3] += 4 * k * (k + 1) * by_s
        wanted[1] += 4 * k * (k + 1) * by_1
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_errors():
    """What Numba says of tuples that are as long in one place and longer in another."""

    @njit
    def lengths(a, n):
        s = (a, a)
        for _ in range(n):
            s = (s[0], s[1], a)
        return s[0]

    with pytest.raises(
        jitted.NotDifferentiableError, match=r"`s`, which is UniTuple.* x 2\) in one place and UniTuple"
    ):
        func.grad(lengths)(0.3, 2)

    @njit
    def beyond(a, n):
        s = (a, a)
        for _ in range(n):
            s = (s[1], s[0])
        return s[2]

    with pytest.raises(jitted.NotDifferentiableError, match="tuple index out of range"):
        func.grad(beyond)(0.3, 2)

    @njit
    def divided(a, n):
        s = (a, 1)
        for i in range(n):
            s = (s[0] / (3 - i), s[1])
        return s[0]

    with pytest.raises(ZeroDivisionError, match="division by zero"):
        func.grad(divided)(0.3, 5)
