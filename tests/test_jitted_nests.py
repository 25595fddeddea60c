"""Loops of jitted functions as rows of their own: values are the plain function's, gradients those of forward mode."""

import math
import types

import numpy as np
import pytest
from numba import njit
from thoroughness import further

from tapegrad import func, jitted
from tapegrad.jitted import disk, nest_calls, nest_lowering


@njit
def products(x, w, p):
    """Sums of products in three ways; a triangle; what is read before the innermost loop."""
    n = x.shape[0]
    c, y = np.zeros((n, n)), np.empty(n)
    for i in range(n):
        for k in range(n):
            for j in range(n):
                c[i, j] += x[i, k] * w * x[k, j]
    for i in range(n):
        s = x[i, 0]
        for j in range(i):
            s -= x[i, j] * y[j]
        y[i] = s / (x[i, i] + w)
    total = 0.0
    for i in range(n - 1, -1, -2):
        square = 0.0
        for j in range(x.shape[1]):
            d = c[i, j] - y[j]
            square += d * d / (1.0 + x[p[j], i] ** 2)
        total += math.sqrt(square)
    return total


@njit
def recurrences(x, w, p):
    """Numbers that are carried from turn to turn, integers among them; elements that are overwritten."""
    n = x.shape[0]
    y, s, t, at = x[0].copy(), 0.3, 1.0, 0
    for k in range(2 * n):
        t = math.sin(s) * w
        for i in range(1, n - 1):
            h = s * t
            y[i] = 0.5 * y[i - 1] * y[i + 1] + h
            s = math.cos(s * y[i]) + x[k % n, p[i]]
        at = (at + 3) % n
        y[at] = y[at] / (2.0 + t * y[0] ** 3)
        t *= s
        y[0] += t - 0.1 * s
    return np.sum(y * y) + s * t + at


@njit
def branches(x, w, p):
    """Branches with and without loops in them; the least and the largest."""
    n = x.shape[0]
    d, best, total = x.copy(), np.inf, 0.0
    for k in range(n):
        for i in range(n):
            for j in range(n):
                d[i, j] = min(d[i, j], d[i, k] + d[k, j] * w)
        if k % 3 == 1:
            r = total * 0.1
            for j in range(n - 1, k, -1):
                total += d[k, j] * r + w
        elif d[k, 0] > 0.9:
            total -= d[k, 0]
        for j in range(n):
            value = d[j, k]
            if value > w:
                value = math.exp(-value) * total
                d[j, k] = value
            elif j > 3:
                value *= value
            best = min(best, max(value, 0.01 * j * w))
            total += best * value
    return total + np.sum(d)


@njit
def overwritten(x, w, p):
    """An array that is read more often than it is written to, again and again; one that is written to in a branch."""
    n = x.shape[0]
    y, z = x[0].copy(), x[1].copy()
    for _ in range(3):
        for i in range(n):
            s = 0.1 * w
            for j in range(n):
                s += x[i, j] * y[j] * z[p[j]] + 0.1 * y[p[j]]
            if s > 0.5:
                z[i] = s * y[i]
            y[i] = math.tanh(s)
    return np.sum(y) + np.sum(z)


@njit
def turned(state, i):
    a, b, c = state
    if i % 3 == 1:
        a = b * c
    return b, a + 0.1 * c, math.sin(a)


@njit
def in_tuples(x, w, p):
    """Names that are tuples, and what these hold when the names in them have other values; calls that return tuples."""
    a, b, c, total, last = w, x[0, 0], x[1, 0], 0.0, (0.0, 0.0)
    for i in range(40):
        both = a, b
        a = b * c
        total += both[0] * x[p[i % 9], 1] - both[1]
        if i % 2 == 0:
            both = (c, a)
        a, b, c = turned((a, b, c), i)
        total += both[0] * 0.1
    for i in range(40):
        p0, p1 = last
        total += p0 * p1
        last = (a * i, total * 0.01)
    return total


def plain(x):
    return x


def transposed(x):
    return np.asfortranarray(x)


def apart(x):
    return np.repeat(np.repeat(x, 2, 0), 2, 1)[::2, ::-2]


@pytest.mark.parametrize("laid", [apart, *further(plain, transposed)])
@pytest.mark.parametrize("function", [products, recurrences, branches, overwritten, in_tuples])
def test_values_and_gradients(function, laid):
    rng = np.random.default_rng(3)
    p, x = rng.permutation(9), laid(rng.uniform(0.2, 1.5, (9, 9)))
    value, (by_x, by_w) = func.value_and_grad(function, argnums=(0, 1))(x, 0.7, p)
    assert value == function(x, 0.7, p)
    of_x, of_w = func.jacfwd(function, argnums=(0, 1))(x, 0.7, p)
    np.testing.assert_allclose(by_x, of_x, rtol=1e-13, atol=1e-13 * np.abs(of_x).max())
    np.testing.assert_allclose(by_w, of_w, rtol=1e-12)


@njit
def of_several_kinds(x, w, p):
    """Powers, integers beside floats, truth values that are carried, an integer that becomes a float."""
    n = x.shape[0]
    total, count, seen = n, 0, False
    for i in range(n):
        for j in range(n - 1, -1, -1):
            a = x[i, j]
            k = (i * 7 + j) // 3 % 5 - 2
            total += a**3 - a**-2 * w + (a + 1.0) ** 5 + abs(a - 0.7) + math.pow(a, 2.0) + a**1.5
            total += k * a / (i + 1) + min(k, 1) + max(a, w)
            count += p[j] % 3
            seen = seen or a > 1.2
            if seen and not k > 0:
                total -= a * float(count)
    return total + count


@njit
def of_three(x, w):
    """What isn't read as a nest."""
    total = 0.0
    for i in range(x.size):
        total += max(x[i], 0.3, w)
    return total


@njit
def of_many_functions(x, w):
    total = 0.0
    for i in range(x.size):
        a = x[i]
        total += math.sin(a) + math.cos(a) * math.exp(a) - math.log(a) + math.sqrt(a) * math.tanh(a) + np.arctan(a)
        total += np.exp2(a) * w + math.erf(a) + np.sinh(a) + math.atan2(a, w) + np.maximum(a, w) * np.cbrt(a)
    return total


def test_numbers_of_several_kinds():
    rng = np.random.default_rng(8)
    x, p = rng.uniform(0.2, 1.5, (9, 9)), rng.permutation(9)
    for function, args in (
        (of_several_kinds, (x, 0.7, p)),
        (of_three, (x[0], 0.7)),
        (of_many_functions, (x.ravel(), 0.7)),
    ):
        value, found = func.value_and_grad(function, argnums=(0, 1))(*args)
        assert value == function(*args)
        for one, by in zip(found, func.jacfwd(function, argnums=(0, 1))(*args), strict=True):
            np.testing.assert_allclose(one, by, rtol=1e-12, atol=1e-12)


@njit
def steps(x, y):
    """Writes to one array what it reads of another."""
    for i in range(1, x.size):
        y[i] = 0.3 * x[i - 1] * y[i - 1] + 0.5 * y[i]


@njit
def shared(x, how):
    """Arrays that are one, that overlap, and that don't; all but a few turns, a few, and none."""
    a, b = x.copy(), x[::-1].copy()
    if how == 0:
        steps(a, a)
    elif how == 1:
        steps(a[:-1], a[1:])
    elif how == 2:
        steps(a[1:], a[:-1])
    elif how == 3:
        steps(a, b)
    elif how == 4:
        steps(a[:5], b[:5])
    else:
        steps(a[:0], b[:0])
    return np.sum(a * a) + np.sum(b)


@pytest.mark.parametrize("how", range(6))
def test_shared_memory_and_few_turns(how):
    x = np.random.default_rng(4).uniform(0.2, 1.5, 60)
    value, gradient = func.value_and_grad(shared)(x, how)
    assert value == shared(x, how)
    z = np.tile(x.astype(complex), (60, 1)) + 1e-30j * np.eye(60)
    y = np.array([_plainly(row, how) for row in z])
    np.testing.assert_allclose(gradient, y.imag / 1e-30, rtol=1e-13)


def _plainly(x, how):
    a, b = x.copy(), x[::-1].copy()
    first, second = [(a, a), (a[:-1], a[1:]), (a[1:], a[:-1]), (a, b), (a[:5], b[:5]), (a[:0], b[:0])][how]
    steps.py_func(first, second)
    return np.sum(a * a) + np.sum(b)


@njit
def dividing(x, y):
    total = 0.0
    for i in range(x.size):
        total += y[i] / x[i]
    return total


@njit
def caught(x, y, z):
    """What was written before an error is there behind it."""
    kept = z.copy()
    try:
        filled(x, y, kept)
    except Exception:
        kept[0] += 1.0
    return np.sum(kept * x)


@njit
def filled(x, y, out):
    for i in range(x.size):
        out[i] = y[i] / x[i]


@njit(boundscheck=True)
def beyond(x, n):
    total = 0.0
    for i in range(n):
        total += x[i] * x[i]
    return total


def test_errors_are_the_plain_functions():
    x, y = np.arange(60.0), np.linspace(1.0, 2.0, 60)
    for function, args, error in ((dividing, (x, y), ZeroDivisionError), (beyond, (x, 61), IndexError)):
        with pytest.raises(error) as plain:
            function(*args)
        with pytest.raises(error) as differentiated:
            func.grad(function)(*args)
        assert str(plain.value) == str(differentiated.value)
    assert func.value_and_grad(beyond)(x, 60)[0] == beyond(x, 60)
    x = np.linspace(1.0, 2.0, 60)
    x[40] = 0.0
    value, gradient = func.value_and_grad(caught, argnums=1)(x, y, np.zeros(60))
    assert value == caught(x, y, np.zeros(60))
    np.testing.assert_allclose(gradient, np.where(np.arange(60) < 40, 1.0, 0.0), rtol=1e-15)


@njit
def infinite(x, w):
    """What isn't taken leaves no nan, nor does an adjoint that is 0."""
    total = 0.0
    for i in range(x.size):
        root = math.sqrt(x[i])
        total += min(root, w) + 0.0 * root
    return total


def test_what_is_not_taken_leaves_no_nan():
    x = np.arange(40.0)
    _, (by_x, by_w) = func.value_and_grad(infinite, argnums=(0, 1))(x, -1.0)
    np.testing.assert_array_equal(by_x, np.zeros(40))
    assert by_w == 40.0


def test_sweeps_may_be_repeated():
    rng = np.random.default_rng(5)
    x, p = rng.uniform(0.2, 1.5, (9, 9)), rng.permutation(9)
    _, pull = func.vjp(branches, x, 0.7, p)
    first, second = pull(1.0), pull(2.0)
    np.testing.assert_allclose(2.0 * first[0], second[0], rtol=1e-13)
    np.testing.assert_array_equal(pull(1.0)[0], first[0])


@njit
def in_order(x, w):
    return recurrences(x, w, np.arange(x.shape[0]))


def test_second_order():
    """Rows with tangents are of the plain loop."""
    rng = np.random.default_rng(6)
    x, v = rng.uniform(0.2, 1.5, (5, 5)), rng.normal(size=(5, 5))
    gradient, h = func.grad(in_order), 1e-7
    differences = (gradient(x + h * v, 0.7) - gradient(x - h * v, 0.7)) / (2 * h)
    _, product = func.hvp(in_order, (x, 0.7), (v, 0.0))
    np.testing.assert_allclose(product[0], differences, rtol=1e-4, atol=1e-3)


@njit
def squares(a, b):
    total = 0.0
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            c = 0.0
            for k in range(b.shape[0]):
                c += a[i, k] * b[k, j]
            total += c * c
    return total


def test_what_is_computed_again_is_not_kept():
    a, b = np.random.default_rng(7).normal(size=(2, 40, 40))
    jitted.free()
    found = func.grad(squares, argnums=(0, 1))(a, b)
    for one, by in zip(found, [2.0 * a @ b @ b.T, 2.0 * a.T @ a @ b], strict=True):
        np.testing.assert_allclose(one, by, rtol=1e-12)
    kept = jitted.nbytes()
    jitted.free()
    assert kept < 2 * 12 * 40**3 / 5  # the products' partial derivatives, one by one


@njit
def extremes(x):
    """Elements that stay, or give way to what is smaller or larger; ties; an element that is chosen from itself."""
    n = x.shape[0]
    d, e, most = x.copy(), np.zeros(n), -1.0
    for i in range(n):
        for j in range(n):
            e[j] = max(d[i, j] * x[j, i], e[j])
            most = max(most, d[i, j])
            d[j, i] = min(d[i, j], d[j, i])
            d[i, j] = min(d[i, j], d[i, 0] + d[0, j])
            if i > j:
                e[i] = min(e[i], x[i, j] + 0.5)
                e[i] = max(e[i], e[i])
    total = most
    for i in range(n):
        for j in range(n):
            total += d[i, j] * (1 + i + 2 * j)
        total += e[i] ** 2
    return total


def test_what_was_chosen_is_kept_in_a_byte():
    """Also among numbers that are often alike."""
    rng = np.random.default_rng(5)
    alike, differing = rng.integers(1, 4, (9, 9)).astype(float), rng.uniform(1, 9, (9, 9))
    for x in (alike, differing):
        value, found = func.value_and_grad(extremes)(x)
        assert value == extremes(x)
        np.testing.assert_allclose(found, func.jacfwd(extremes)(x), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("at", [1, 2])
def test_a_loop_whose_text_does_not_compile_is_left_to_rows(at, monkeypatch):
    made = []

    def failing(*given):
        made.append(given)
        function = nest_lowering.Function(*given)
        if len(made) == at:
            raise NotImplementedError("something is amiss")
        return function

    def squares(x):
        total = 0.0
        for i in range(x.shape[0]):
            for j in range(i):
                total += math.cos(x[i] * x[j])
        return total * total

    x = np.linspace(0.1, 1.0, 40)
    value, expected = func.value_and_grad(njit(squares))(x)
    monkeypatch.setattr(nest_calls, "Function", failing)
    monkeypatch.setattr(disk.DriverCache, "_name", lambda self, args: None)  # the code is not kept
    with pytest.warns(RuntimeWarning, match="row by row"):
        again, gradient = func.value_and_grad(njit(types.FunctionType(squares.__code__, dict(globals()))))(x)
    assert again == value
    np.testing.assert_allclose(gradient, expected, rtol=1e-13)


@njit
def on_a_grid(x, w, n):
    """Statements of whole arrays: slices, in place, columns, rows for all, parts of parts, arrays that are made."""
    u, rows = x.copy(), np.zeros(x.shape[1])
    v, columns = np.zeros_like(u), 0.1 * x[:, 0]
    for t in range(n):
        v[0, :] = float(t)
        v[1:, :] -= 0.5 * (u[1:, :] - u[:-1, :]) / (w + u[1:, 1:2].shape[1] * u[1:, :] ** 2)
        before, made = u.copy(), np.empty(x.shape[0])
        half = before[1:-1, 1:-1] * w
        u[1:-1, 1:-1] = half + 0.2 * np.tanh(half) * (before[2:, 1:-1] - 2.0 * before[1:-1, :-2]) * v[1:-1, 2:]
        u[:, -1] = u[:, -2] + rows[2]
        for j in range(1, x.shape[1]):
            u[1:, j] = u[1:, j - 1] * 0.3 - v[:-1, j] / (u[1:, j] + 3.0)
        made[:] = columns
        made *= u[:, 2]
        row = u[1]
        for j in range(x.shape[1]):
            rows[j] += row[j] * made[j % 3]
        u[:4] += rows * w
        v += u
    return np.sum(u * v) + np.sum(rows)


@njit
def in_the_way(x, w, n):
    """What can't be loops of elements as it stands: each is what the plain function computes."""
    a, b, total = x.copy(), x.copy(), 0.0
    for _ in range(n):
        a[1:] = a[:-1] * w  # all of it is read before
    for _ in range(n):
        doubled = 2.0 * a[1:-1]
        a[2] = w
        b[1:-1] = doubled - a[2:] * w  # of what was there before
    for k in range(n):
        j = k + 1
        part = a[j:] * w
        j += 1
        b[j - 1 :] = part
    for k in range(n):
        s = w * k
        scaled = b * s
        s = scaled[1]
        b[:] = scaled + s
    for k in range(-1, n):
        a[k] = a[k + 1] * w
        b[:1] = a[k]
    for k in range(n):
        b[:-1] += a[1:] * w
        if k % 3 == 1:
            a, b = b, a
    for _ in range(n):
        a[:-1] += b[1:] * w
        a = b
    return np.sum(a * b) + total


def test_statements_of_whole_arrays():
    rng = np.random.default_rng(9)
    x = rng.uniform(0.2, 1.5, (7, 8))
    for function, args in ((on_a_grid, (x, 0.7, 3)), (in_the_way, (x[0].copy(), 0.7, 6))):
        value, found = func.value_and_grad(function, argnums=(0, 1))(*args)
        assert value == function(*args)
        for one, by in zip(found, func.jacfwd(function, argnums=(0, 1))(*args), strict=True):
            np.testing.assert_allclose(one, by, rtol=1e-12, atol=1e-12)


@njit
def averaged(a, n):
    a = a.copy()
    b = np.zeros(a.size)
    for _ in range(n):
        b[1:-1] = (a[:-2] + a[1:-1] + a[2:]) / 3.0
        a[1:-1] = 0.5 * (b[1:-1] + b[:-2])
    return np.sum(a * a)


@njit
def differing(a, b, n):
    a = a.copy()
    for _ in range(n):
        a[1:-1] = a[1:-1] * b[1:]
    return np.sum(a)


def test_whole_arrays_keep_nothing_for_what_is_linear():
    kept = []
    for n in (100, 200):
        jitted.free()
        func.grad(averaged)(np.linspace(1.0, 2.0, 500), n)
        kept.append(jitted.nbytes())
    assert kept[1] < 1.5 * kept[0]


def test_lengths_that_differ_are_the_plain_functions_error():
    a = np.linspace(1.0, 2.0, 60)
    for b in (a[1:].copy(), a[:2].copy()):  # as long, and one element for all
        value, found = func.value_and_grad(differing)(a, b, 3)
        assert value == differing(a, b, 3)
        np.testing.assert_allclose(found, np.concatenate([[1.0], b[1:] ** 3 * np.ones(58), [1.0]]), rtol=1e-14)
    for function in (differing, func.grad(differing)):
        with pytest.raises(ValueError, match="broadcast"):
            function(a, a[:50].copy(), 3)


@njit
def taking_turns(x, n):
    """Arrays that change names: two, from turn to turn; three, in a loop that goes backward, beside a number."""
    a, b = x.copy(), 0.3 * x
    for t in range(1, n):
        b[1:-1] = 0.5 * a[1:-1] + 0.1 * (a[2:] - a[:-2])
        b[0] = 0.1 * t
        a, b = b, a
    old, now, new, s = a * b, b.copy(), a[::-1].copy(), 0.1
    for t in range(2 * n, 4, -2):
        last = now
        s = 0.1 * s + last[t % 3]
        for i in range(1, x.size - 1):
            new[i] = 0.9 * np.sin(now[i]) - 0.1 * old[i] + 0.1 * (now[i - 1] - now[i + 1]) + 0.1 * s
        now, old, new = new, last, old
    return a[0] + np.sum(a * b * b) + s + old[3] + np.sum(now * new)


def test_arrays_that_change_names():
    x, kept = np.random.default_rng(10).uniform(0.2, 1.5, 40), []
    for n in (0, 1, 4, 5, 6, 7, 100):
        jitted.free()
        value, found = func.value_and_grad(taking_turns)(x, n)
        kept.append(jitted.nbytes())
        assert value == taking_turns(x, n)
        if n < 10:
            np.testing.assert_allclose(found, _by_complex_steps(taking_turns, x, n), rtol=1e-11, atol=1e-13)
    assert kept[-1] < 12 * 100 * 40 * 3  # less than a row an element for each of the two loops


@njit
def of_parts(x, n, at):
    """Slices with steps, backward, and of ends that are computed: a triangle, elimination, lags, red and black."""
    u, y, m = x.copy().reshape(6, 8), x[:8].copy(), 4
    z = 0.0 * x[:m]
    for k in range(1, 4):
        u[k + 1 :, k] *= u[k, k] + 0.1 * u[k - 1, : 5 - k]
        u[k, :k] -= 0.1 * u[k - 1, k - 1 :: -1] * y[:k]
        for i in range(k + 1, 6):
            u[i, k:] -= u[i, k] / (4.0 + u[k, k]) * u[k, k:]
    for _ in range(n):
        y[1:-1:2] += 0.3 * (y[:-2:2] - y[2::2] ** 2)
        y[2:-1:2] += 0.3 * (y[1:-2:2] - y[3::2])
        z[:] = y[::2] + y[::-2]
        y[-m:] = z[::-1] * u[0, :m]
        z[-1:] += y[:1]
    for j in range(2):
        for k in range(1, 7):
            y[k:] = y[k:] * 0.9 + 0.1 * u[2, :-k]
            y[: 8 - k] += 0.1 * u[3 - j, k:]
            y[-k] += u[4, k]
            y[k : k + 2] += u[j, k - 1 : k + 1] * z[m - 3 : 3]
    for k in range(9):
        y[k - 2 : 7] = y[k - 2 : 7] * 0.5 + u[0, k - 2 : 7]
        y[: k + 1] += 0.1
    for j in range(12):
        for k in range(6):
            s, e = at[k], at[k + 1]
            y[s:e] = y[s:e] * 0.9 + 0.1 * u[j % 6, s:e]
    return np.sum(y * y) + np.sum(u[-1]) + np.sum(z)


def test_parts_of_arrays():
    """Where an end is negative, or too large, the loop is the plain one."""
    x, kept = np.random.default_rng(11).uniform(0.2, 1.5, 48), []
    of_rows, others = (
        np.array([0, 2, 3, 3, 6, 7, 8]),
        [np.array([0, 2, 3, 9, 6, 7, 8]), np.array([-4, 2, 3, 3, 7, -1, 1])],
    )
    for n, at in ((3, of_rows), (3, others[0]), (4, others[1]), (4000, of_rows)):
        jitted.free()
        value, found = func.value_and_grad(of_parts)(x, n, at)
        kept.append(jitted.nbytes())
        assert value == of_parts(x, n, at)
        if n < 10:
            np.testing.assert_allclose(found, _by_complex_steps(of_parts, x, n, at), rtol=1e-11, atol=1e-13)
    assert kept[-1] < 4000 * 15 * 24  # less than a row of two arguments for each element


@njit
def along_lines(x):
    """Indices that change their sign along a loop, that do not, and that are those of the turn before."""
    n, total, at, before, turns = x.size, 0.0, -7, 16, 0
    y = np.zeros_like(x)
    for k in range(6):
        for j in range(5):
            y[j] += x[at + j] * x[3 - at + j]
        for j in range(2, k + 3):
            y[k + 2 - j] += x[j] * x[n - 1 - j]
        for j in range(4):
            total += k * x[at - j + 1] * y[j]
            y[j] += x[before] * x[turns - 17]
            before = at - j
            turns += 1
        at += 3
    return total + y[0]


def test_indices_of_either_sign_along_a_loop():
    x = np.random.default_rng(11).uniform(0.5, 1.5, 17)
    value, by = func.value_and_grad(along_lines)(x)
    assert value == along_lines(x)
    np.testing.assert_allclose(by, _by_complex_steps(along_lines, x), rtol=1e-13, atol=1e-13)


@njit
def of_dear_functions(x, n):
    """Functions whose results are kept, or whose slopes, in branches too, beside remainders of integers."""
    y, total = x.copy(), 0.0
    for i in range(n):
        for j in range(x.size):
            if y[j] > 1.0:
                y[j] = np.exp(-y[j]) * np.cos(total)
            else:
                y[j] += np.tanh(x[(i * j) % x.size]) ** 0.5
            s = np.sin(y[j] * x[j])
            total += s * np.log(1.0 + np.exp(s)) * (0.3 * i) ** x[j]
    return total


def test_results_and_slopes_of_dear_functions_are_kept():
    x = np.random.default_rng(12).uniform(0.5, 1.5, 9)
    value, by = func.value_and_grad(of_dear_functions)(x, 4)
    assert value == of_dear_functions(x, 4)
    np.testing.assert_allclose(by, _by_complex_steps(of_dear_functions, x, 4), rtol=1e-13)


def _by_complex_steps(function, x, *args):
    steps = 1e-30j * np.eye(x.size)
    return [np.imag(function.py_func(x + step, *args)) / 1e-30 for step in steps]


def test_what_a_nest_keeps_has_no_adjoints():
    @njit
    def iterated(x, n):
        for _ in range(n):
            x = math.sin(x)
        return x

    jitted.free()
    slope = func.grad(iterated)(1.0, 100_000)
    assert jitted.nbytes() < 14 * 100_000  # 8 bytes a turn more, if each had one
    x, expected = 1.0, 1.0
    for _ in range(100_000):
        x, expected = math.sin(x), expected * math.cos(x)
    np.testing.assert_allclose(slope, expected, rtol=1e-9)


@njit
def made_again(x, f):
    """Arrays that a loop makes of what is only read; others, and one of which more is read; integers that move on."""
    n = x.shape[0]
    y, z, u, v = np.zeros(n), np.zeros(n), np.zeros(n + 1), np.zeros(n)
    total, down = 0.0, 2 * n * n
    for i in range(n):
        at, odd = 0, 0
        for j in range(n):
            total += v[j] * x[j, i]
        for j in range(n):
            y[j] = x[i, j] - f[j]
            u[j] = 0.5 * x[j, i]
            v[j] = x[i, j] + f[j]
        for j in range(n):
            z[j] = y[j] * x[i, j]
        for j in range(n):
            s = y[j]
            for k in range(j):
                s += y[k] * f[at + k] * z[k]
            at = j + at
            total += s * s * u[j + 1] * f[odd] * f[down % n] * z[j]
            if x[i, j] > 0.7:
                odd += 1
            down = down - 2
    return total


def test_what_is_made_again_is_not_kept():
    rng = np.random.default_rng(13)
    for n in (9, 40):
        x, f = rng.uniform(0.2, 1.2, (n, n)), rng.normal(size=n * (n + 1) // 2)
        jitted.free()
        value, (by_x, by_f) = func.value_and_grad(made_again, (0, 1))(x, f)
        kept = jitted.nbytes()
        assert value == made_again(x, f)
        if n == 9:
            np.testing.assert_allclose(by_x, func.jacfwd(made_again)(x, f), rtol=1e-11, atol=1e-12)
            np.testing.assert_allclose(by_f, func.jacfwd(made_again, argnums=1)(x, f), rtol=1e-11, atol=1e-12)
    assert kept < 12 * 7 * n * n  # not three for what is made again: these are 10 in sum


@njit
def of_neighbours(x, w):
    """Sums of several elements of an array, each of which the reverse adds to in a loop of its own."""
    y, s, r = x * x * w, 0.0, 1.0
    for i in range(x.size - 2):
        d = x[i + 1] - x[i] ** 2 * w
        s += d * d + w * x[i] * x[i + 2]
        r -= d * x[i]
    for t in range(4):
        for i in range(1, x.size):
            s -= (y[i - 1] - y[i] * w) ** 2 * x[i] * r
        y[t] *= s
    return s * r


def test_sums_of_neighbours():
    x = np.random.default_rng(14).uniform(0.5, 1.0, 37)
    value, (by_x, by_w) = func.value_and_grad(of_neighbours, (0, 1))(x, 0.4)
    assert value == of_neighbours(x, 0.4)
    np.testing.assert_allclose(by_x, _by_complex_steps(of_neighbours, x, 0.4), rtol=1e-12)
    np.testing.assert_allclose(by_w, np.imag(of_neighbours.py_func(x, 0.4 + 1e-30j)) / 1e-30, rtol=1e-12)


@njit
def of_rows(x, w):
    """Neighbours in rows, columns and both, in slices and loops; rows that are one, and a mirrored index."""
    n, m = x.shape
    y, z = x.copy(), np.zeros((n, m))
    for t in range(3):
        z[1:-1, 1:-1] = w * (y[1:-1, :-2] + y[2:, 1:-1] + y[:-2, 1:-1] + y[1:-1, 2:] * y[2:, 2:] - y[1:-1, 1:-1])
        z[2:, :] -= 0.3 * (y[2:, :] - y[:-2, :])
        for i in range(1, n - 1):
            k = t * (i % 2)
            for j in range(1, m - 1):
                y[i, j] += w * (z[i - 1, j] + z[i + 1, j] * z[i, j - 1] - z[i, j + 1] + z[k, j] + z[t, j] * x[k, j - 1])
        for i in range(n):
            for j in range(m):
                z[i, j] = y[i, m - 1 - j] * w + y[i, j] * y[i, j - 1]  # of which the last is before the first
        y, z = z, y
    return np.sum(y * y * z)


def test_neighbours_in_rows():
    """Which are of one turn; that two of them are the same, or meet another turn's, makes no difference.

    The shorter a row, the fewer of its elements have all neighbours: none, at last.
    """
    for shape in ((6, 21), (24, 5), (24, 4), (24, 3)):
        x = np.random.default_rng(15).uniform(0.5, 1.0, shape)
        value, (by_x, by_w) = func.value_and_grad(of_rows, (0, 1))(x, 0.4)
        assert value == of_rows(x, 0.4)
        np.testing.assert_allclose(by_x.ravel(), _of_elements(of_rows, x, 0.4), rtol=1e-11, atol=1e-13)
        by_steps = np.imag(_complex(of_rows)(x.astype(complex), 0.4 + 1e-30j)) / 1e-30
        np.testing.assert_allclose(by_w, by_steps, rtol=1e-11)


def _of_elements(function, x, *args):
    return [np.imag(_complex(function)(x + step.reshape(x.shape), *args)) / 1e-30 for step in 1e-30j * np.eye(x.size)]


def _complex(function):
    """A function whose new arrays are complex."""
    zeros = lambda shape: np.zeros(shape, complex)  # noqa: E731
    names = {**function.py_func.__globals__, "np": types.SimpleNamespace(zeros=zeros, sum=np.sum)}
    return types.FunctionType(function.py_func.__code__, names)


@njit
def of_two_arrays(x, y):
    """Neighbours in two arguments, which may be one."""
    z = np.empty(x.size)
    for i in range(1, x.size - 1):
        z[i] = x[i - 1] * y[i] + y[i + 1] * x[i] - y[i - 1] * 0.5
    return np.sum(z[1:-1] * z[1:-1])


def test_neighbours_in_arguments_that_share_memory():
    x = np.random.default_rng(16).uniform(0.5, 1.0, 70)
    both = njit(lambda x: of_two_arrays(x, x))
    for function in (both, njit(lambda x: of_two_arrays(x[:-1], x[1:])), njit(lambda x: of_two_arrays(x[2:], x[:-2]))):
        value, by_x = func.value_and_grad(function)(x)
        assert value == function(x)
        np.testing.assert_allclose(by_x, func.jacfwd(function)(x), rtol=1e-13, atol=1e-15)
