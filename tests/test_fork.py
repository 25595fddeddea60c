"""A forked child computes what is right, whatever other threads did at that moment; so does the parent."""

import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked where there is os.fork")

_PROGRAM = """
import os, signal, sys, threading, time, warnings
import numpy as np
import tapegrad as tg
from tapegrad import locks

warnings.simplefilter("ignore")  # newer Pythons warn of a fork beside threads


def gradient(n):
    a = np.linspace(0.1, 1.0, n)
    x = tg.tensor(a, requires_grad=True)
    (x * tg.sin(x)).sum().backward()
    return np.abs(x.grad.numpy() - (np.sin(a) + a * np.cos(a))).max() < 1e-12


def child(work):
    "The exit status of a child that does this."
    pid = os.fork()
    if pid == 0:
        signal.alarm(300)
        try:
            os._exit(0 if work() else 1)
        except BaseException as error:
            print(type(error).__name__, error, flush=True)
            os._exit(2)
    return os.waitpid(pid, 0)[1]


def beside(busy, *works):
    "The exit statuses of children, forked while another thread is busy over and over."
    done = threading.Event()

    def over_and_over():
        while not done.is_set():
            busy()

    threads = [threading.Thread(target=over_and_over) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    try:
        return [child(work) for work in works]
    finally:
        done.set()
        for thread in threads:
            thread.join()

"""


def run(program):
    """What a program prints that finds the above."""
    code = _PROGRAM + textwrap.dedent(program)
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize("busy", ["lambda: gradient(300_000)", "lambda: gradient(3)", "lambda: tg.ones(3) * 2 + 1"])
def test_beside_threads_that_record_and_sweep(busy):
    program = f"""
    def new():  # its kernel is linked for the first time
        y = tg.tensor([0.5, 1.0], dtype=tg.float32, requires_grad=True)
        tg.lgamma(y).sum().backward()
        return np.isfinite(y.grad.tolist()).all()

    gradient(300_000), gradient(3)
    print(*beside({busy}, lambda: gradient(300_000), lambda: gradient(3), new), gradient(300_000))
    """
    assert run(program) == ["0", "0", "0", "True"]


def test_beside_a_thread_that_compiles():
    program = """
    from numba import njit

    def compiles():
        scope = {}
        exec(f"def f(x): return x * {time.perf_counter()}", scope)
        tg.func.grad(njit(scope["f"]))(2.0)

    def new():
        return tg.erfc(tg.ones(2, dtype=tg.float32)).sum().item() > 0

    compiles()
    jitted = lambda: tg.func.grad(njit(lambda x: x * x * x + 1.0))(2.0) == 12.0
    print(*beside(compiles, jitted, new, lambda: gradient(3)), jitted())
    """
    assert run(program) == ["0", "0", "0", "True"]


def test_tensors_of_threads_that_the_child_does_not_have():
    program = """
    box, inside, go_on = {}, threading.Event(), threading.Event()

    def wait(x):
        inside.set()
        go_on.wait(300)
        return x

    def work():
        box["known"] = tg.ones(3) * 2
        box["known"].tolist()
        box["pending"] = box["known"] + 1
        tg.autograd.host_function(wait)(box["known"]).tolist()

    def known():
        w = tg.ones(3, requires_grad=True)
        (w * box["known"]).sum().backward()
        return w.grad.tolist() == [2.0] * 3

    def pending():
        try:
            box["pending"].tolist()
        except RuntimeError as error:
            return "before the fork" in str(error)

    def idle():
        return box["idle"].tolist() == [3.0] * 3

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait(300)

    def make():
        box["idle"] = tg.ones(3) * 3
        stay.wait(300)

    stay = threading.Event()
    other = threading.Thread(target=make)
    other.start()
    while "idle" not in box:
        time.sleep(0.01)
    print(child(known), child(pending), child(idle))
    stay.set(), go_on.set(), thread.join(), other.join()
    print(box["pending"].tolist() == [3.0] * 3)
    """
    assert run(program) == ["0", "0", "0", "True"]


def test_a_host_function_that_forks():
    program = """
    tg.set_num_threads(2)
    gradient(300_000)

    def forks(x):
        box.append(os.fork())
        return x * 2.0

    box = []
    x = tg.tensor(np.ones(300_000), requires_grad=True)
    y = tg.autograd.host_function(forks, lambda y_bar, y, x: 2.0 * y_bar)(x * x)
    (tg.sin(y) * y).sum().backward()
    right = np.allclose(x.grad.numpy(), (np.sin(2.0) + 2.0 * np.cos(2.0)) * 4.0) and gradient(300_000)
    if box[0] == 0:
        os._exit(0 if right else 1)
    print(os.waitpid(box[0], 0)[1], right)
    """
    assert run(program) == ["0", "True"]


def test_beside_a_thread_that_pulls_through_a_recording():
    program = """
    from numba import njit

    @njit
    def sums(x):
        total = 0.0
        for k in range(x.size):
            total += x[k] * x[k]
        return total

    x = np.ones(200_000)
    value, pull = tg.func.vjp(sums, x)
    right = lambda: bool((pull(1.0)[0] == 2.0).all())
    print(*beside(right, right, right), right())
    """
    assert run(program) == ["0", "0", "True"]


def test_locks_are_given_back_on_both_sides():
    program = """
    def free():
        found = []
        for lock in [*locks._locks, *locks._of_others()]:
            taken = []
            thread = threading.Thread(target=lambda: taken.append(lock.acquire(timeout=60) and lock.release() is None))
            thread.start(), thread.join()
            found += taken
        return all(found) and not locks._taken

    tg.rand(3)
    import numba
    print(child(free), free(), child(lambda: len(tg.rand(3).tolist()) == 3))
    """
    assert run(program) == ["0", "True", "0"]


def test_a_lock_that_is_not_given_back_does_not_stop_a_fork():
    program = """
    locks._PATIENCE = 0.2
    held, done = threading.Event(), threading.Event()

    def hold():
        with locks._locks[-1]:
            held.set()
            done.wait(300)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(300)
    print(child(lambda: not locks._taken and locks._locks[-1].acquire(timeout=60)))
    done.set(), thread.join()
    print(child(lambda: gradient(3)))
    """
    assert run(program) == ["0", "0"]
