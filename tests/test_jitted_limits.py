"""Loops that are checkpointed by themselves under a limit: values to the bit, gradients and memory."""

import math
import threading
import warnings

import numpy as np
import pytest
from numba import njit
from thoroughness import further

import tapegrad as tg
from tapegrad.func import grad, hessian, jacfwd, value_and_grad, vjp
from tapegrad.jitted import limits, memory_limit, set_memory_limit

X = np.sin(np.arange(9.0))
LIMIT = 120_000  # a tape that is empty takes 86 kB as soon as anything is recorded
# As text: pytest puts more into a raise of a test's own than Numba compiles.
SCOPE = {"np": np, "math": math}
exec("""
def logged(x, log, n):
    for i in range(n):
        x += 0.001 * math.sin(x)
        log[i % 4] += x
        if i == n - 2:
            raise ValueError("too far", i)
    return x
""", SCOPE)  # fmt: skip
logged = njit(SCOPE["logged"])


@njit
def diffused(u, v, c, n):
    """Two arrays that are written to, and change places, in a callee that isn't put in place of its call."""
    if n > 10**9:
        raise ValueError
    for t in range(n):
        for i in range(1, u.size - 1):
            v[i] = u[i] + 0.1 * c * (u[i - 1] - 2.0 * u[i] + u[i + 1]) + 1e-5 * math.sin(u[i] * t)
        v[0], v[-1] = u[0], u[-1]
        u, v = v, u
    return u


@njit
def arrays(x, c, n):
    u, v = x.copy(), np.zeros(x.size)
    first, inner = u, v[2:4]
    u = diffused(u, v, c, n)
    for t in range(n, 0, -2):  # a new array each time
        x = x + 0.001 * c * np.cos(x) * u[t % 5]
    return (u * x).sum() + first[4] * inner[1]


@njit
def turned(pair, c):
    a, b = pair
    return a + 0.001 * b * c, b - 0.001 * math.sin(a)


@njit
def numbers(x, c, n):
    """Tuples, ints, what carries no derivative, a loop that is left in its middle, and one that ends somewhere."""
    pair, k, t, is_on = (x, c), 7, 0.0, True
    for i in range(n):
        pair = turned(pair, c)
        if not is_on:
            pair = (pair[0], pair[1] * 0.9999)
        if pair[0] > 2.0:
            k += 100
            break
        t += 0.01
        k = (k * 3 + i) % 11
        is_on = k > 4
    y = pair[0]
    while y < 50.0 + t:
        y += 0.01 * (1.0 + math.sin(y * c) ** 2)
        k += 1
    return y * pair[1] + k * pair[0]


@njit
def narrow(x, c, n):
    u, s = x.copy(), np.float32(0.0)
    for _ in range(n):
        for i in range(1, u.size):
            u[i] = u[i] + c * np.float32(0.001) * (u[i - 1] - u[i])
        s += u[3] * c
    return s + u[2]


@njit
def highest(x, c, n):
    """A name that is made of itself in one call."""
    top, s = 0.0, 0.0
    for i in range(n):
        top = max(top, x * math.sin(c * i))
        s += top
    return s + top


@njit
def turning(x, c, n):
    z, u = c, x.copy()
    for _ in range(n):
        u[1:] = u[1:] + 0.001 * c * (u[:-1] - u[1:])
        z = z + 0.0001 * z * u[2]
    return abs(u[3] * z) ** 2


CASES = {
    "arrays": (arrays, X, 0.2, 2001),
    "numbers": (numbers, 0.4, 0.7, 3000),
    "numbers to the break": (numbers, 1.1, 1.7, 3000),
    "a largest number": (highest, 0.5, 0.001, 20_000),
    "float32": (narrow, X.astype(np.float32), np.float32(0.2), 2000),
    "complex": (turning, X + 0.3j, 0.2 + 0.1j, 2000),
}


def limited(transform, *args, limit=LIMIT):
    """What a transform gives under a limit, with no warning; and the bytes that the tape took."""
    tg.jitted.free()
    with memory_limit(limit), warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        found = transform(*args)
    taken = tg.jitted.nbytes()
    tg.jitted.free()
    return found, taken


@pytest.mark.parametrize("name", [*CASES][:3] + further(*[*CASES][3:]))
def test_gradients_in_few_bytes(name):
    function, x, *rest = CASES[name]
    transform = value_and_grad(function, argnums=(0, 1))
    tg.jitted.free()
    value, gradient = transform(x, *rest)
    assert tg.jitted.nbytes() > 1.2 * LIMIT
    found, taken = limited(transform, x, *rest)
    assert taken <= LIMIT
    assert found[0] == value == function(x, *rest)
    assert type(found[0]) is type(value)
    for a, b in zip(found[1], gradient, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6 if np.float32 in (type(b), getattr(b, "dtype", 0)) else 1e-11)
    if name == "arrays":  # little to do: the loops as they are
        for n in (0, 1, 3):
            (few, slopes), _ = limited(transform, x, 0.2, n)
            assert few == function(x, 0.2, n)
            np.testing.assert_array_equal(slopes[0], transform(x, 0.2, n)[1][0])


@njit
def logistic(x, rate, n):
    for i in range(n):
        x = x + rate * x * (1.0 - x) / (1.0 + i)
    return x


def by_complex_step(x, rate, n):
    """The slopes of `logistic`."""
    found = []
    for place in range(2):
        y, r = (complex(v, 1e-200 * (k == place)) for k, v in enumerate((x, rate)))
        for i in range(n):
            y = y + r * y * (1.0 - y) / (1.0 + i)
        found.append(y.imag / 1e-200)
    return found


def test_every_transform():
    args = 0.2, 0.3, 6000
    (value, slopes), _ = limited(value_and_grad(logistic, argnums=(0, 1)), *args)
    assert value == logistic(*args)
    assert slopes == pytest.approx(by_complex_step(*args), rel=1e-12)
    second, taken = limited(hessian(logistic), *args, limit=400_000)
    assert second == pytest.approx(hessian(logistic)(*args), rel=1e-11)
    assert taken <= 400_000
    forward, taken = limited(jacfwd(logistic), *args)
    assert forward == pytest.approx(slopes[0], rel=1e-12)
    assert taken == 0  # nothing is recorded
    (_, pull), _ = limited(vjp, logistic, *args)
    for _ in range(2):  # any number of times, and when the limit is gone
        assert pull(2.0)[:2] == pytest.approx([2.0 * s for s in slopes], rel=1e-12)


def test_an_error_leaves_what_was_written():
    from tapegrad.jitted import jacobian_tape as tape

    logs = np.zeros((2, 4))
    with pytest.raises(ValueError, match="too far"):
        logged(0.3, logs[0], 4000)
    with pytest.raises(ValueError, match="too far"):
        limited(grad(logged), 0.3, logs[1], 4000)
    assert np.array_equal(logs[0], logs[1])
    assert tape.header()[tape.ARGUMENTS] == tape.header()[tape.LIMIT] == 0


@njit
def draws(x, n):
    for _ in range(n):
        x += 0.001 * np.sin(x) * np.random.normal()
    return x


@njit
def appends(x, n):
    items = [x]
    for _ in range(n):
        items.append(items[-1] + 0.001 * math.sin(items[-1]))
    return items[-1]


@njit
def tries(x, n):
    try:
        for i in range(n):
            x += 0.001 * math.sin(x) / (n - 1 - i)
    except Exception:
        x *= 2.0
    return x


@njit
def shares(x, n):
    u = np.zeros(4)
    v = u[1:]
    u[:] = x
    for _ in range(n):
        v[0] = v[0] * 0.999 + 0.001 * math.sin(u[0])
        u[2] = v[0] * 0.5
    return u.sum()


@pytest.mark.parametrize(
    ("function", "why"),
    [(draws, "draws random numbers"), (appends, "a value of type list"), (tries, "`try`"), (shares, "share memory")],
)
def test_what_is_left_alone_is_named_once(function, why):
    wanted = []
    for limit in (None, LIMIT, LIMIT):
        draws_again = njit(lambda: np.random.seed(3))
        draws_again()
        tg.jitted.free()
        with memory_limit(limit), warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", RuntimeWarning)
            wanted.append(
                (grad(function)(0.3, 9000), [str(w.message) for w in said if "memory_limit" in str(w.message)])
            )
    (slope, before), (same, said), (again, later) = wanted
    assert slope == same == again
    assert before == later == []
    assert len(said) == 1
    line = function.py_func.__code__.co_firstlineno
    assert why in said[0]
    assert any(f"{__file__}:{line + k}:" in said[0] for k in range(2, 7))


def test_schedules_run_no_turn_more_often_than_needed():
    first_part = limits.first_part.py_func

    def most(n, free):
        """How often a turn is run in advance, at most, by the schedule of the reverse sweep."""
        if n == 1:
            return 0
        k = first_part(n, free)
        assert 1 <= k < n
        return max(1 + most(k, free), most(n - k, free - 1)) if free > 1 or n - k == 1 else n

    for free in (1, 2, 3, 5):
        for n in (1, 2, 3, 7, 20, 56, 57, 90):
            t = next(t for t in range(n) if math.comb(free + t, t) >= n)
            assert most(n, free) <= t


def test_the_limit():
    assert limits.current() is None
    with memory_limit(1000), memory_limit(10):
        assert limits.current() == 10
        with memory_limit(None):
            assert limits.current() is None
    with pytest.raises(ZeroDivisionError), memory_limit(7):
        raise ZeroDivisionError
    assert limits.current() is None
    assert memory_limit(5)(limits.current)() == 5
    set_memory_limit(12)
    seen = []
    thread = threading.Thread(target=lambda: seen.append(limits.current()))
    thread.start()
    thread.join()
    assert (limits.current(), seen) == (12, [None])
    set_memory_limit(None)
    for wrong, error in ((0, ValueError), (-3, ValueError), (1.5, TypeError), (True, TypeError)):
        for take in (memory_limit, set_memory_limit):
            with pytest.raises(error, match="memory_limit is"):
                take(wrong)
