"""One tape a thread: independent graphs in parallel, shared leaves, clear errors."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import tapegrad as tg


def elsewhere(function):
    """The result of a function run on a thread of its own."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result(timeout=120)


def descend(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((20, 5)), rng.standard_normal(20)
    w = tg.zeros(5, requires_grad=True)
    for _ in range(50):
        ((tg.tensor(a) @ w - tg.tensor(b)) ** 2).mean().backward()
        with tg.no_grad():
            w -= 0.05 * w.grad
        w.grad = None
    return w.tolist()


def test_eight_threads_compute_what_one_does():
    alone = [descend(seed) for seed in range(8)]
    barrier = threading.Barrier(8)

    def together(seed):
        barrier.wait()
        return descend(seed)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(together, range(8), timeout=120)) == alone


def test_each_thread_has_its_tape():
    here = tg.current_tape()
    assert tg.current_tape() is here
    assert elsewhere(tg.current_tape) is not here


def test_gradients_reach_a_leaf_of_another_thread():
    w = tg.tensor([1.0, 2.0], requires_grad=True)

    def work(scale):
        (w * w * scale).sum().backward()

    for scale in (1.0, 10.0):
        elsewhere(lambda scale=scale: work(scale))
    assert w.grad.tolist() == [22.0, 44.0]


def test_an_evaluated_tensor_of_another_thread_is_an_operand():
    t = elsewhere(lambda: tg.tensor([1.0, 2.0]))
    assert (t * 2 + tg.ones(2)).tolist() == [3.0, 5.0]


def test_one_that_is_not_evaluated_is_refused_with_the_repair():
    def pending():
        return tg.ones(2) * 3

    with ThreadPoolExecutor(1) as pool:
        t = pool.submit(pending).result()
        with pytest.raises(RuntimeError, match="only once it is evaluated"):
            t + 1
        pool.submit(t.tolist).result()
        assert (t + 1).tolist() == [4.0, 4.0]


def test_a_graph_stays_on_the_thread_that_recorded_it():
    with ThreadPoolExecutor(1) as pool:
        loss = pool.submit(lambda: (tg.ones(2, requires_grad=True) * 2).sum()).result()
        with pytest.raises(RuntimeError, match="another thread's tape"):
            loss.backward()
        with pytest.raises(RuntimeError, match="another thread's tape"):
            loss * 2


def test_the_grad_mode_is_the_thread_s_own():
    with tg.no_grad():
        assert elsewhere(tg.is_grad_enabled)
        assert not tg.is_grad_enabled()


def test_tensors_may_die_on_another_thread():
    kept = [tg.ones(100_000) * 2 for _ in range(10)]
    for t in kept:
        t.sum().item()
    elsewhere(kept.clear)
    assert (tg.ones(3) + 1).tolist() == [2.0, 2.0, 2.0]


def test_the_first_use_from_several_threads_at_once():
    barrier = threading.Barrier(4)

    def work(k):
        barrier.wait()
        x = tg.full((3,), 1.0 + k, requires_grad=True)
        (x.rsqrt() * x.log2()).sum().backward()
        return x.grad.tolist()

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(work, range(4), timeout=120))
    for k, gradient in enumerate(results):
        p = 1.0 + k
        np.testing.assert_allclose(gradient, [(1 / np.log(2) - 0.5 * np.log2(p)) / p**1.5] * 3, rtol=1e-12, atol=1e-15)
