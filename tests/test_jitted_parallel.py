"""Gradients of loops over prange: in parts on several threads, or serial where turns meet in more than sums."""

import threading

import numba
import numpy as np
import pytest
from numba import njit, prange

import tapegrad as tg
from tapegrad.jitted import parallel_loops

pytestmark = pytest.mark.filterwarnings("ignore::numba.core.errors.NumbaWarning")
RNG = np.random.default_rng(0)
N = 3000


@pytest.fixture
def calls(monkeypatch):
    """What was compiled to run in parts: the names of sums."""
    found = []
    shared_out = parallel_loops._shared_out

    def noted(loop, proof, *rest):
        made = shared_out(loop, proof, *rest)
        found.extend(proof.sums)
        return made

    monkeypatch.setattr(parallel_loops, "_shared_out", noted)
    monkeypatch.setattr("tapegrad.kernels.cache.folder", lambda: None)  # what comes from the disk isn't compiled
    return found


def likelihood(w, x, y):
    s = 0.25
    for i in prange(x.shape[0]):
        z = 0.0
        for j in range(x.shape[1]):
            z += x[i, j] * w[j]
        s += np.log1p(np.exp(-y[i] * z))
    return s


def test_a_sum_of_many_turns(calls, n_threads):
    """Value and gradient are those of NumPy, with the same bits on any number of threads, and little tape is taken."""
    w, x, y = RNG.normal(size=4), RNG.normal(size=(N, 4)), RNG.choice([-1.0, 1.0], N)
    f = njit(parallel=True)(likelihood)
    found = []
    for n in (1, 2, 5):
        n_threads(n)
        tg.jitted.free()
        found.append(tg.func.value_and_grad(f)(w, x, y))
        assert tg.jitted.nbytes() < 1_000_000
    assert calls == ["s"]
    z = y * (x @ w)
    np.testing.assert_allclose(found[0][0], 0.25 + np.log1p(np.exp(-z)).sum(), rtol=1e-13)
    np.testing.assert_allclose(found[0][1], -(y / (1 + np.exp(z))) @ x, rtol=1e-12)
    for value, gradient in found[1:]:
        assert value == found[0][0]
        assert gradient.tobytes() == found[0][1].tobytes()


def several(x, p, keys):
    total, product, top, low, count = x[0], x[1], 0.5, x[2], 0
    for i in prange(keys.size):
        y = p[i]
        y *= x[1 + keys[i] % 2]
        k = 0
        while k < 20:
            y = np.sin(y) + x[keys[i]]
            k += 1
        total -= y * y
        product *= 1.0 + 0.001 * y
        product = (1.0 + 0.0001 * x[0]) * product
        if keys[i] > 1:
            count += 1
        top = max(top, y)
        low = min(low, x[keys[i]] + y)
    return total + 3.0 * product + top * low + count


def test_sums_of_all_kinds(calls):
    """Sums, products, the largest and the smallest, counts, in one loop: as the serial loop has them, with slopes."""
    x, p, keys = RNG.uniform(0.2, 0.9, 5), RNG.uniform(size=N), RNG.integers(0, 5, N)
    value, gradient = tg.func.value_and_grad(njit(parallel=True)(several))(x, p, keys)
    assert sorted(calls) == ["count", "low", "product", "top", "total"]
    serial, wanted = tg.func.value_and_grad(njit(several))(x, p, keys)
    np.testing.assert_allclose(value, serial, rtol=1e-12)
    np.testing.assert_allclose(gradient, wanted, rtol=1e-10)
    np.testing.assert_allclose(value, several(x, p, keys), rtol=1e-12)


def test_a_sum_begun_with_what_carries_a_derivative_and_passive_terms():
    """The derivative by the start of a product whose terms are passive, and by the terms where others are 0."""

    @njit(parallel=True)
    def f(a, x, scale):
        s, t = a * a, a
        for i in prange(x.size):
            s *= x[i]
            t *= scale if i == 7 else 1.0 + scale * x[i]
        return s + t

    x = np.exp(RNG.normal(size=40_000) / 1000)
    value, (by_a, by_scale) = tg.func.value_and_grad(f, argnums=(0, 2))(1.5, x, 0.0)
    np.testing.assert_allclose(value, 2.25 * np.prod(x), rtol=1e-10)
    np.testing.assert_allclose(by_a, 3.0 * np.prod(x), rtol=1e-10)
    np.testing.assert_allclose(by_scale, 1.5, rtol=1e-12)


def previous(x, out):
    s = 0.0
    for i in prange(1, out.size):
        out[i] = out[i - 1] * 0.5 + x[i % 3]
        s += out[i]
    return s


def row_in_place(x, out):
    s, a = 0.0, out.copy().reshape(-1, 2) * x[0]
    for i in prange(a.shape[0]):
        row = a[i % 2]
        row += x[1]
        s += row[0]
    return s


def read_within(x, out):
    s = 0.0
    for i in prange(out.size):
        s += x[i % 3] * out[i]
        if s > 5.0:
            s += x[0]
    return s


def by_a_function(x, out):
    s, a = 0.0, out * x[0]
    for i in prange(out.size):
        s += _written(a, i) * x[1]
    return s


@njit
def _written(a, i):
    a[0] += 1.0
    return a[0]


def a_list(x, out):
    s, known = 0.0, [x[0]]
    for i in prange(out.size):
        known.append(x[i % 3])
        s += known[i] * known[0]
    return s


@pytest.mark.parametrize("function", [previous, row_in_place, read_within, by_a_function, a_list])
def test_turns_that_see_each_other_are_serial(function, calls):
    """Where a turn may see what another one writes, the loop is left as it is."""
    x, out = np.array([0.5, 0.25, 0.125]), RNG.uniform(size=4000)
    value, gradient = tg.func.value_and_grad(njit(parallel=True)(function))(x, out.copy())
    assert calls == []
    serial, wanted = tg.func.value_and_grad(njit(function))(x, out.copy())
    assert (value, gradient.tobytes()) == (serial, wanted.tobytes())


def test_a_turn_that_raises():
    """The error is the first turn's that raises, as in a serial loop; the tape is as before."""

    @njit(parallel=True)
    def f(x, n):
        s = 0.0
        for i in prange(n):
            y = x
            for _ in range(20):
                y = np.sin(y) * x
            if i in (n // 3, n // 2, n - 1):
                raise ValueError("turn", i)
            s += y
        return s

    @njit(parallel=True)
    def g(x, n):
        s = 0.0
        for i in prange(n):
            s += 1.0 / (x * (i - n // 3))
        return s

    for _ in range(2):
        with pytest.raises(ValueError, match="turn") as error:
            tg.func.grad(f)(0.5, N)
        assert error.value.args == ("turn", N // 3)
        with pytest.raises(ZeroDivisionError):
            tg.func.grad(g)(0.5, 10 * N)
    tg.jitted.free()
    assert tg.jitted.nbytes() == 0


@njit(parallel=True)
def _inner(x, n):
    s = 0.0
    for i in prange(n):
        s += np.sin(x * i)
    return s


def test_loops_within_loops_and_gradients_on_several_threads():
    """A loop that calls another, in gradients of four threads at once; Jacobians, products and forward mode."""

    @njit(parallel=True)
    def f(x, n):
        s = x[1]
        for i in prange(n):
            s += _inner(x[0] / (i + 1.0), n) * x[1]
        return s

    x, n = np.array([0.3, 0.7]), 400
    i = np.arange(n)
    by_0 = 0.7 * (np.cos(0.3 * i / (i[:, None] + 1.0)) * i / (i[:, None] + 1.0)).sum()
    by_1 = 1.0 + np.sin(0.3 * i / (i[:, None] + 1.0)).sum()
    found = [None] * 4

    def run(k):
        found[k] = tg.func.grad(f)(x, n)

    run(0)
    threads = [threading.Thread(target=run, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for gradient in found:
        np.testing.assert_allclose(gradient, [by_0, by_1], rtol=1e-11)
        assert gradient.tobytes() == found[0].tobytes()
    np.testing.assert_allclose(tg.func.jacfwd(f)(x, n), [by_0, by_1], rtol=1e-11)
    pulled = tg.func.vjp(f, x, n)[1](2.0)[0]
    np.testing.assert_allclose(pulled, [2 * by_0, 2 * by_1], rtol=1e-11)


def test_numba_and_tapegrad_say_how_many_threads(n_threads):
    """One thread by either: then no worker has a tape."""
    from tapegrad import threads

    w, x, y = RNG.normal(size=4), RNG.normal(size=(N, 4)), RNG.choice([-1.0, 1.0], N)
    f = njit(parallel=True)(likelihood)
    wanted = tg.func.grad(f)(w, x, y)
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        assert tg.func.grad(f)(w, x, y).tobytes() == wanted.tobytes()
        assert threads.told[1] != 0
    finally:
        numba.set_num_threads(before)
    n_threads(1)
    assert threads.told[0] == 0
    assert tg.func.grad(f)(w, x, y).tobytes() == wanted.tobytes()
