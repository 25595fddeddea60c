"""Gradients of loops over prange whose turns write to elements of their own: in chunks, which are run again."""

import threading

import numpy as np
import pytest
from numba import njit, prange

import tapegrad as tg
from tapegrad.jitted import parallel_writes

pytestmark = pytest.mark.filterwarnings("ignore::numba.core.errors.NumbaWarning")
RNG = np.random.default_rng(0)
N = 900


@pytest.fixture
def calls(monkeypatch):
    """What was compiled to run in chunks: the names of arrays that each loop writes to."""
    found = []
    run_of = parallel_writes.run_of

    def noted(loop, given, *rest):
        made = run_of(loop, given, *rest)
        names = (*loop.state, *loop.others)
        found.append({names[int(item.path[7:-1])] for item in given.items if item.is_written})
        return made

    monkeypatch.setattr(parallel_writes, "run_of", noted)
    monkeypatch.setattr("tapegrad.kernels.cache.folder", lambda: None)  # what comes from the disk isn't compiled
    return found


def copied(args):
    return tuple(a.copy() if isinstance(a, np.ndarray) else a for a in args)


def mixture(x, a, b, keys, counts):
    out, wide = np.zeros((a.size, 4)), np.zeros((2, a.size))
    s = x[0] * 2.0
    for i in prange(1, a.size - 1, 2):
        y = a[i] * x[1]
        k = 0
        while k < 30 + keys[i] % 3:
            y = np.sin(y) + 0.3 * a[i - 1] * a[i + 1]
            k += 1
        for j in range(out.shape[1]):
            out[i, j] = y * x[j % x.size] + j * b[j % 2, i]
        row = out[i]
        row[1:] *= 1.5
        if keys[i] > 1:
            out[i] += b[0, i]
            wide[0, i] = y * y
        wide[1, i] += x[keys[i]] * out[i, 2]
        counts[i] += keys[i]
        s += wide[1, i] * 0.01
    return (out * out).sum() + wide.sum() + s * s + counts.sum()


def test_turns_that_write_to_elements_of_their_own(calls, n_threads):
    """Elements, rows and columns, sums beside them: as the serial loop has them, on any number of threads."""
    args = (
        RNG.uniform(0.3, 0.9, 3), RNG.uniform(size=N), RNG.normal(size=(2, N)), RNG.integers(0, 3, N),
        np.zeros(N, np.int64),
    )  # fmt: skip
    given = copied(args)
    serial, wanted = tg.func.value_and_grad(njit(mixture), argnums=(0, 1, 2))(*given)
    f = njit(parallel=True)(mixture)
    found = []
    for n in (1, 2, 5):
        n_threads(n)
        tg.jitted.free()
        own = copied(args)
        found.append(tg.func.value_and_grad(f, argnums=(0, 1, 2))(*own))
        assert np.array_equal(own[4], given[4])
        assert tg.jitted.nbytes() < 1_000_000
    assert calls == [{"out", "wide", "counts"}]
    np.testing.assert_allclose(found[0][0], serial, rtol=1e-13)
    for one, other in zip(found[0][1], wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11)
    for value, gradients in found[1:]:
        assert value == found[0][0]
        assert [g.tobytes() for g in gradients] == [g.tobytes() for g in found[0][1]]


def in_place(x, a, by, stop):
    a = a * x[0]
    for i in prange(a.size - 1, 3, by):
        a[i] = a[i] * a[i] + x[2]
        for k in range(40):
            a[i] += 0.01 * np.cos(a[i] * x[k % 3])
        if i == stop:
            raise ValueError("turn", i)
    return a


def test_elements_that_are_read_before_backwards_and_a_turn_that_raises(calls, n_threads):
    """What was there before has its slopes, also where no turn comes to it; all sweeps of one recording are right."""
    x, a = RNG.uniform(0.3, 0.9, 3), RNG.uniform(size=N)
    n_threads(2)
    f = njit(parallel=True)(in_place)
    by_a, slopes = np.full(N, x[0]), np.zeros((3, N))
    slopes[0] = a
    for i in range(N - 1, 3, -3):
        z, t = a[i] * x[0], np.array([a[i], 0.0, 0.0])
        z, t, by = z * z + x[2], 2.0 * z * t + np.array([0.0, 0.0, 1.0]), 2.0 * z * x[0]
        for k in range(40):
            p = -0.01 * np.sin(z * x[k % 3])
            t, by = t * (1.0 + p * x[k % 3]) + p * z * np.eye(3)[k % 3], by * (1.0 + p * x[k % 3])
            z += 0.01 * np.cos(z * x[k % 3])
        slopes[:, i], by_a[i] = t, by
    value, pull = tg.func.vjp(f, x, a, -3, -1)
    assert value.shape == (N,)
    for _ in range(2):
        w = RNG.normal(size=N)
        by_x, by = pull(w)[:2]
        np.testing.assert_allclose(by_x, slopes @ w, rtol=1e-10)
        np.testing.assert_allclose(by, by_a * w, rtol=1e-10)
    assert calls == [{"a.1"}]
    with pytest.raises(ValueError, match="turn") as error:
        tg.func.vjp(f, x, a, -3, N - 1 - 300)
    assert error.value.args == ("turn", N - 1 - 300)


def seen_by_others(x, out, n):
    a, b, c = out * x[0], out * x[1], out * x[2]
    for i in prange(a.size - 1):  # what the next turn reads
        for _ in range(30):
            a[i + 1] = np.sin(a[i + 1] + a[i])
    for i in prange(b.size):  # where another turn may write
        t = 0.0
        for _ in range(30):
            t = np.sin(t + b[i])
        b[int(out[i] * n)] += t
    for i in prange(-1, c.size - 1):  # the last element, first
        for _ in range(30):
            c[i] = np.sin(c[i] + b[i])
    d, e = c[1:], c[:-1]
    for i in prange(d.size):  # memory of one array
        for _ in range(30):
            d[i] = np.sin(d[i] + e[i])
    return (a * b * c).sum()


def test_turns_that_see_each_other_are_serial(calls):
    """Bit for bit the serial loops' values, and their gradients."""
    x, out = np.array([0.5, 0.25, 0.125]), RNG.uniform(size=N)
    found = tg.func.value_and_grad(njit(parallel=True)(seen_by_others), argnums=(0, 1))(x, out, N)
    assert sorted(map(sorted, calls)) == [["c"], ["d"]]  # which is seen when they are come to
    value, wanted = tg.func.value_and_grad(njit(seen_by_others), argnums=(0, 1))(x, out, N)
    assert found[0] == value
    for one, other in zip(found[1], wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11)


@njit(parallel=True)
def _sines(x, n):
    y = np.empty(n)
    for i in prange(n):
        t = x[0] * i
        for _ in range(10):
            t = np.sin(t + x[1])
        y[i] = t
    return y


def test_loops_within_loops_and_gradients_on_several_threads():
    """Turns that call what has such a loop, in gradients of three threads at once; by forward mode too."""

    @njit(parallel=True)
    def f(x, n):
        y = np.empty(n)
        for i in prange(n):
            y[i] = _sines(x / (i + 1.0), n).sum()
        return (y * y).sum()

    x, n = np.array([0.3, 0.7]), 150
    wanted = tg.func.jacfwd(f)(x, n)
    found = [None] * 3

    def run(k):
        found[k] = tg.func.grad(f)(x, n)

    run(0)
    running = [threading.Thread(target=run, args=(k,)) for k in range(3)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    for gradient in found:
        np.testing.assert_allclose(gradient, wanted, rtol=1e-10)
        assert gradient.tobytes() == found[0].tobytes()
