"""Gradients of jitted functions: the language, construct by construct, in reverse and forward mode."""

import gc
import math
import threading
import weakref
from collections import namedtuple
from math import sin as imported_sin

import numpy as np
import pytest
from numba import njit, prange, types
from numba.typed import Dict, List
from numpy import exp as imported_exp
from numpy import zeros as imported_zeros

import tapegrad as tg

X = np.linspace(0.3, 1.7, 6)
M = np.random.default_rng(0).normal(size=(4, 3))
PLAIN = np.arange(6.0)
SCALE = 2.5
Pair = namedtuple("Pair", "a b")

pytestmark = pytest.mark.filterwarnings("ignore::numba.core.errors.NumbaPerformanceWarning")
CASES = []


def case(*args):
    """A function to be differentiated by its first argument, and its arguments."""

    def enter(function):
        CASES.append(pytest.param(njit(function), args, id=function.__name__))
        return function

    return enter


@njit
def power(v, p=2.0):
    return v**p


@njit
def recursive(v, n):
    if n == 0:
        return v
    return v * recursive(v * 1.1, n - 1)


@njit
def squares(x):
    for v in x:
        yield v * v


@njit
def squared(x):
    y = np.zeros(len(x))
    for i in range(len(x)):
        y[i] = x[i] ** 2
    return y


@njit
def several(x):
    return x[1:], x[0] * 2, np.zeros(2)


@njit
def into(t, y, out):
    out[0] = y[1]
    out[1] = -y[0] * t


@njit
def apply(function, x):
    return function(x)


@njit
def weighed(array):
    """Of all elements, each otherwise. Sums of NumPy's take long to compile, and have a case of their own."""
    s = 0.0
    for k, v in enumerate(array.flat):
        s += (k + 1.0) * v * v
    return s


def made(c):
    @njit
    def inner(x):
        return c * x * x

    return inner


tripled = made(3.0)


@case(X)
def plain_numbers_become_active(x):
    s, t = 0.0, 0
    for i in range(len(x)):
        s += x[i]
    for v in x:
        t = t + v * v
    return s * s + t


@case(X)
def creation(x):
    y, z, w, o = np.zeros(len(x)), np.empty_like(x), np.zeros_like(x), np.ones(3)
    e, f, g = np.eye(2), np.full(2, 3.0), np.full_like(x, 2.0)
    e[0, 1], f[0], g[2] = x[0], x[1], x[2]
    p = imported_zeros(x.shape[0])
    p[2] = imported_exp(x[1]) * imported_sin(x[0])
    typed, like = np.zeros(3, dtype=np.float64), np.zeros(3, dtype=x.dtype)
    typed[0] = like[1] = x[0]
    for i in range(len(x)):
        y[i] = x[i] ** 2
        z[i] = y[i] * x[i]
        w[i] += z[i]
    t = np.linspace(0.0, x[0], 4)
    return weighed(w) * o[1] + weighed(e) * weighed(f) + weighed(g) + p[2] + typed[0] * like[1] + t[2]


@case(M)
def matrices(m):
    r = np.zeros((m.shape[1], m.shape[0]))
    for i in range(m.shape[0]):
        for j in range(m.shape[1]):
            r[j, i] = m[i, j] * (i + 1)
    s = weighed(r)
    for row in m:
        s += np.dot(row, row)
    c, t, k, f = m[:, 1], m.T[0, :], m.reshape(3, 4)[2], m.ravel()
    a = m.copy()
    a[0], a[1] = a[1].copy(), a[0].copy()
    return s + weighed(c) * t[2] + k[0] * f[5] + a[0, 0] * 2 + a[1, 2] ** 2


@case(X)
def slices_and_views(x):
    a, b, y = x[1:4], x[::-1][:3], x.copy()
    y[:2] = a[:2]
    y[2:4] = 1.0
    y[-1] *= 2
    z = np.zeros((2, 3, 4))
    z[1, 2, 3], z[0] = x[0], x[1]
    z[:, 1, 0] += x[2]
    return np.dot(a, b) + weighed(y) + weighed(z)


@case(X)
def array_arithmetic(x):
    y = 2 * x + x * x / 3 - PLAIN
    y += x
    y *= 2.0
    y -= 1.0
    y[1:3] += x[1:3]
    outer = x.reshape(6, 1) * PLAIN - x
    return weighed(np.sin(y) * np.exp(-y)) + weighed(np.sqrt(x)) + weighed(outer)


@case(X)
def masks_and_index_arrays(x):
    y, chosen = x.copy(), x[x > 1.0]
    y[y > 1.0] = 0.0
    y[np.array([0, 1])] = x[2:4]
    picked = x[np.array([0, 2, 2])]
    order = np.argsort(PLAIN)
    return weighed(y) + weighed(chosen) + weighed(picked) + np.where(x > 1.0, x * x, 0.0)[order[5]]


@case(X)
def tuples(x):
    t = (x[0], 2.0, x[1])
    a, b = x[2], 1.0
    a, b = b * x[3], a
    u = (0.0, 0.0)
    for i in range(3):
        u = (u[0] + x[i], u[1] + u[0])
    pair = Pair(x[0], x[1] * x[2])
    return t[0] * t[2] * t[1] + a * b + u[0] * u[1] + pair.a * pair.b


@case(X)
def lists_and_dictionaries(x):
    comprehended = [0.0 for _ in range(3)]
    comprehended[1] = x[0]
    grown, literal = [], [x[0], 1.0, x[2]]
    for v in x:
        grown.append(v * v)
    typed = List.empty_list(types.float64)
    typed.append(x[1] * x[2])
    mapped = {0: x[0], 1: x[1]}
    mapped_typed = Dict.empty(types.int64, types.float64)
    mapped_typed[3] = x[3] ** 2
    s = 0.0
    for a in literal:
        s += a * a
    array = np.array([[x[0], x[1]], [0.0, x[2]]])
    return (
        s + grown[0] * grown[-1] + typed[0] * comprehended[1] + mapped[0] * mapped_typed[3] + array[1, 1] * array[0, 0]
    )


@case(X)
def functions_in_functions(x):
    k = x[0]

    def scaled(v):
        return v * k + 1.0

    s = 0.0
    for v in x:
        s += scaled(v)
    out = np.zeros(2)
    into(0.3, x, out)
    first, second, third = several(squared(x))
    s += tripled(x[0]) + power(x[1]) + power(x[2], 3.0) + power(x[3], p=x[4]) + SCALE * PLAIN[2] * x[1]
    weights = squared(PLAIN)
    for v in squares(x):
        s += v
    return s + out[1] * out[0] + first[0] * second + third[0] + apply(power, x[0]) + (weights * x).sum()


@case(0.73)
def control_flow(s):
    if s < 0.1:
        return 0
    t = s
    for _ in range(100):
        t = t * 1.3
        if t > 5:
            break
    y = 1.0
    while abs(y * y - s) > 1e-13:
        y = 0.5 * (y + s / y)
    a, b = s if s > 0.5 else 0.0, 1.0 if s > 0.5 else s
    chained = s * (1.0 if 0.1 < s < 0.9 else 2.0)
    return t * t + y + a * b + (s if (s > 0 and not s > 10) else -s) + chained + recursive(s, 4)


@case(X)
def loops(x):
    i, s = 0, 0.0
    while i < len(x):
        i += 1
        if i == 2:
            continue
        if i == 5:
            break
        s += x[i] * x[i - 1]
    else:
        s = -1.0
    for k, v in enumerate(x):
        s += k * v * v
    for a, b in zip(x, PLAIN):
        s += a * b
    for k in range(3, 0, -1):
        s *= x[k]
    for k in prange(len(x)):
        s += x[k] ** 3
    best = None
    for v in x:
        if best is None or v > best:
            best = v
    return s + best * best


@case(X)
def sums_of_many_kinds(x):
    positive, negative, both = 0.0, 1.0, 0.0
    for v in x:
        if v > 1.0:
            positive += v * v
    for v in x:
        negative -= v * x[0] + v
        if negative < -100.0:
            break
    for v in x:
        both += v
        positive += v * both
    empty = x[0]
    for k in range(int(x[1]) - 1):
        empty += x[k]
    last = 0.0
    for v in x:
        last = v + last * 0.5
    return positive * negative + both * empty + last


@case(0.73)
def numbers(s):
    k, n = int(s * 10), math.floor(s * 4.0)
    t = s * k + s**n + s % 0.2 + 3 - s / 2 + 2**s + s**0.5 + s**-1 + np.float64(s) * 2 + float(s) // 1.0
    t += max(s, 0.2) * min(s, 5, s * s) + max(s, 1) + np.maximum(s, 0.3) + abs(-s) + np.fabs(s)
    return t + round(s) + np.sign(s) + s**0 + (-s) ** 3


@case(X, PLAIN)
def writes_into_arguments(x, buffer):
    for i in range(1, len(x)):
        x[i] += x[i - 1] ** 2
    buffer[0] = x[0] ** 2
    return x[-1] + buffer[0] * x[1]


@case(X)
def exceptions(x):
    if x[0] < -10:
        raise ValueError("negative")
    s = 0.0
    try:
        s = x[0] * 2
        if s < -5:
            raise ValueError
    except Exception:
        s = 1.0
    return s * x[1]


@case(X)
def reductions(x):
    m = x.reshape(2, 3)
    y = np.sum(m, axis=0) ** 2
    s = np.max(x) * x[np.argmax(x)] + np.min(x) + np.ptp(x) + x.var() + np.std(x) + np.median(x) + np.prod(x[:3])
    return y.sum() + s + np.linalg.norm(x) + np.mean(x) + x.min() * np.any(x > 1.0)


@case(X)
def rearrangements(x):
    ordered = np.sort(x)[::-1]
    y = np.concatenate((x, x * 2)).reshape(2, 6)
    s = ordered[0] * ordered[1] + np.cumsum(x)[3] ** 2 + np.cumprod(x)[4] + np.diff(x)[2] ** 2
    s += weighed(np.vstack((x, x))) + np.diag(x)[1, 1] ** 2 + np.trace(np.diag(x)) + np.roll(x, 2)[0] * x[1]
    s += np.stack((x, x * x))[1, 2] + np.hstack((x, x))[7] ** 2 + np.append(x, x[0] * 3)[6] + np.repeat(x, 2)[3]
    s += weighed(np.triu(y)) + np.outer(x, x)[1, 2] + np.column_stack((x, x**2))[2, 1] + np.flip(x)[0]
    z = x.copy()
    z.sort()
    z.fill(x[1])
    return s + z[0] * weighed(np.clip(x, 0.5, 1.2)) + np.interp(x[0], PLAIN, PLAIN**2) + np.cross(x[:3], x[3:])[0]


@case(M[:3, :3] + 3 * np.eye(3))
def linear_algebra(a):
    b = a @ M.T
    s = weighed(b) + np.dot(a, M[0])[1] ** 2 + (M[1] @ a)[0] + np.linalg.solve(a, M[1])[0]
    s += weighed(np.linalg.solve(a, b)) + np.linalg.inv(a)[1, 2] + np.linalg.det(a) + np.linalg.slogdet(a)[1]
    return s + weighed(np.linalg.cholesky(a @ a.T))


def differences(function, args):
    """The gradient by the first argument, by central differences extrapolated to the step 0."""
    x = np.atleast_1d(np.array(args[0], float))
    gradient = np.empty(x.size)
    for k in range(x.size):

        def slope(h, k=k):
            values = []
            for sign in (1, -1):
                moved = x.copy()
                moved.flat[k] += sign * h
                first = moved if isinstance(args[0], np.ndarray) else float(moved[0])
                values.append(function(first, *copied(args[1:])))
            return (values[0] - values[1]) / (2 * h)

        gradient[k] = (4 * slope(5e-5) - slope(1e-4)) / 3
    return gradient.reshape(np.shape(args[0]))


def copied(args):
    return [a.copy() if isinstance(a, np.ndarray) else a for a in args]


@pytest.mark.parametrize(("function", "args"), CASES)
def test_construct(function, args):
    # What is expected comes from Python itself: compiling without derivatives would take as long as with them.
    plain = function.py_func
    value, gradient = tg.func.value_and_grad(function)(*copied(args))
    expected = differences(plain, args)
    scale = max(1.0, np.abs(expected).max())
    assert value == pytest.approx(plain(*copied(args)), rel=1e-12)
    assert np.shape(gradient) == np.shape(args[0])
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-7 * scale)
    if function.__name__ in ("linear_algebra", "rearrangements"):
        return  # the loops behind them take long to compile; test_engines_arrays.py has linear algebra in forward mode
    forward = tg.func.jacfwd(function)(*copied(args))
    np.testing.assert_allclose(forward, gradient, rtol=1e-9, atol=1e-11 * scale)


PLANS = [
    ("x[i, k] - x[j, k]", "d = x[0] - x[1]; s = d * d + x[2]; return s", 1, 3),
    ("a sum is one row", "s = 0.0\n for v in x:\n  s += v * v\n return s * x[0]", 2, 6),
    ("names between", "a = x[0] * x[1]; b = a + x[2]; c = b * a; return c", 1, 3),
]


@pytest.mark.parametrize(("name", "body", "n_rows", "n_arguments"), PLANS, ids=[p[0] for p in PLANS])
def test_a_row_covers_a_whole_statement(name, body, n_rows, n_arguments):
    from tapegrad.jitted import engine
    from tapegrad.jitted import jacobian_tape as tape

    scope = {}
    exec(f"def f(x):\n {body}", scope)
    recording = engine.Recording(engine.engine_of(scope["f"]), engine.Form("record", 1, (0,)), [np.ones(3)])
    rows, arguments = recording.words[tape.ROWS], recording.words[tape.ARGUMENTS]
    assert (rows - 1 - 3, arguments) <= (n_rows, n_arguments)


def test_what_a_gradient_compiled_first_is_numba_s_own_when_it_is_called_alone():
    """Of matrices whose kind nothing else here has: what is linked into a driver has no machine code before that."""

    @njit
    def logarithm(a):
        return np.log(np.diag(np.linalg.cholesky(a))).sum()

    a = np.kron(np.array([[4.0, 1.0], [1.0, 3.0]]), np.ones((2, 2)))[::2, ::2]
    np.testing.assert_allclose(tg.func.grad(logarithm)(a), np.linalg.inv(a) / 2)
    assert logarithm(a) == pytest.approx(np.log(11.0) / 2)
    with pytest.raises(np.linalg.LinAlgError):
        logarithm(-a)
    with pytest.raises(np.linalg.LinAlgError):
        tg.func.grad(logarithm)(-a)
    compiled = njit(lambda a: logarithm(a) + np.linalg.cholesky(a)[0, 0])
    assert compiled(a) == pytest.approx(np.log(11.0) / 2 + 2.0)


def test_functions_that_nobody_holds_go():
    """With their engines, stand-ins and drivers."""

    def made():
        @njit
        def called(x):
            return x * x

        f = njit(lambda x: called(x) + x)
        assert tg.func.grad(f)(3.0) == 7.0
        assert tg.func.jvp(f, (3.0,), (1.0,)) == (12.0, 7.0)
        return weakref.ref(called), weakref.ref(f)

    gone = made()
    for _ in range(3):  # what Numba does at the end of one function lets another go
        gc.collect()
    assert [function() for function in gone] == [None, None]


def test_gradients_that_have_the_memory_of_the_sweep_are_their_own():
    """They outlive the tape, later gradients, and the thread; other arguments, and smaller ones, are copied."""

    @njit
    def f(x, s, w):
        total = 0.0
        for i in range(x.shape[0]):
            for j in range(x.shape[1]):
                total += s * x[i, j] * x[i, j] + w[j % 3]
        return total

    gradient = tg.func.grad(f, argnums=(0, 1, 2))
    x, w = np.arange(1.0, 1001.0).reshape(25, 40), np.ones(3)
    found = [gradient(k * x, 2.0, w) for k in range(1, 6)]
    thread = threading.Thread(target=lambda: found.append(gradient(6 * x, 2.0, w)))
    thread.start()
    thread.join()
    found[0][0][:] = 7.0
    found.append(gradient(np.asfortranarray(7 * x), 2.0, w))
    tg.jitted.free()
    assert (found[0][0] == 7.0).all()
    for k, (x_bar, s_bar, w_bar) in enumerate(found[1:], 2):
        np.testing.assert_array_equal(x_bar, 4.0 * k * x)
        assert s_bar == np.sum((k * x) ** 2)
        np.testing.assert_array_equal(w_bar, [25 * 14, 25 * 13, 25 * 13])


def test_gradients_inside_of_what_is_recorded_leave_its_tape_alone():
    """A plain one, whose arguments have no derivatives, between statements that are recorded."""
    inner = tg.jitted.value_and_grad(njit(lambda y: np.sum(y * y * y)))

    @njit
    def f(x):
        total = np.sum(x * x)
        _, slope = inner(np.arange(500.0))
        return total * slope[2] + np.sum(x) * slope[499]

    x = np.linspace(0.0, 1.0, 300)
    np.testing.assert_allclose(tg.func.grad(f)(x), 2.0 * x * 12.0 + 3.0 * 499.0**2, rtol=1e-15)
