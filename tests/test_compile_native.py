"""`tg.compile` in native code: it answers what is usual, and leaves to Python all else."""

import functools
import gc
import math
import sys
import threading
import warnings

import numpy as np
import pytest
from compiled_functions import agrees, bits
from hypothesis import given, settings
from hypothesis import strategies as st
from test_compile import inputs, program

import tapegrad as tg
from tapegrad.replay import entry

F = tg.func
pytestmark = pytest.mark.skipif(entry._linked() is None, reason="native code can't be had here")


def native_calls(compiled):
    """How many calls native code has answered."""
    return sum(entered.words[entry.P.replays] for entered in compiled._entered)


def is_native(compiled, *args, **kwargs):
    before = native_calls(compiled)
    compiled(*args, **kwargs)
    return native_calls(compiled) > before


def known(function, *args):
    """A compiled function that native code knows of, for arguments as these."""
    compiled = tg.compile(function)
    for _ in range(2):
        compiled(*args)
    assert is_native(compiled, *args)
    return compiled


def rosenbrock(x):
    return tg.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def of_both(x, y):
    return {"sum": (x + y).sum(), "parts": [x * 2.0, (y - x,)]}


CASES = {
    "value and gradient": (F.value_and_grad(rosenbrock), lambda r: (r.normal(size=4),)),
    "a gradient": (F.grad(rosenbrock), lambda r: (r.normal(size=3),)),
    "single precision": (F.value_and_grad(rosenbrock), lambda r: (r.normal(size=4).astype(np.float32),)),
    "a matrix": (F.grad(lambda a: (a @ a).sum()), lambda r: (r.normal(size=(3, 3)),)),
    "numbers": (F.value_and_grad(lambda a, b: a * tg.sin(b), (0, 1)), lambda r: tuple(r.normal(size=2).tolist())),
    "a number as single": (
        lambda x, t: (x * t).sum(),
        lambda r: (tg.tensor(r.normal(size=3), dtype=tg.float32), float(r.normal())),
    ),
    "tensors": (of_both, lambda r: (tg.tensor(r.normal(size=3)), tg.tensor(r.normal(size=3)))),
    "one tensor": (lambda x: x.exp(), lambda r: (tg.tensor(r.normal(size=(2, 2))),)),
    "integers": (lambda x: x * 2, lambda r: (tg.tensor(r.integers(0, 9, 4)),)),
    "truths": (lambda x: x > 0, lambda r: (tg.tensor(r.normal(size=4)),)),
    "no dimensions": (F.value_and_grad(lambda x: x * x), lambda r: (np.array(r.normal()),)),
    "empty": (F.grad(lambda x: (x * x).sum()), lambda r: (np.zeros((0, 3)),)),
    "objects": (lambda x, how, none: x * (2.0 if how == "twice" else 1.0), lambda r: (tg.ones(2), "twice", None)),
    "a branch": (
        F.value_and_grad(lambda x: (x**2).sum() if x[0] > 0 else x.exp().sum()),
        lambda r: (r.normal(size=3),),
    ),
    "a Cholesky factor": (
        F.grad(lambda a: tg.linalg.cholesky(a @ a.T + 3.0 * tg.eye(3)).sum()),
        lambda r: (r.normal(size=(3, 3)),),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_answers_are_those_of_the_function(name):
    function, make = CASES[name]
    compiled, random = tg.compile(function), np.random.default_rng(0)
    for _ in range(12):
        agrees(function, compiled, *make(random))
    assert native_calls(compiled) > 2
    stats = compiled.stats()
    assert stats["replays"] + stats["recordings"] == 12
    assert stats["plain"] == 0


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 8), st.booleans(), st.booleans())
def test_random_programs_are_the_plain_function(seed, n_steps, is_double, differentiates):
    of, random = program(seed, n_steps), np.random.default_rng(seed)
    function = F.grad(lambda x, y: of(x, y, 0.7, 1)[0], (0, 1)) if differentiates else lambda x, y: of(x, y, 0.7, 1)
    compiled, known = tg.compile(function), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for i in range(16):
            known.append([tg.tensor(x) for x in inputs(random, (3,), np.float64 if is_double else np.float32)[:2]])
            agrees(function, compiled, *known[i if i % 2 else random.integers(0, i + 1)])


@pytest.mark.filterwarnings("ignore")
def test_what_is_given_is_looked_at():
    function = F.value_and_grad(lambda x: (x * x.flip(0) * 2.5).sum())
    x = np.array([1.0, 2.0, 3.0, 4.0])
    compiled = known(function, x)
    readonly, swapped = x.copy(), x.astype(">f8")
    readonly.flags.writeable = False
    unaligned = np.zeros(33, np.uint8)[1:].view(np.float64)
    for other in (
        x[:3], x.reshape(2, 2), np.repeat(x, 2)[::2], x[::-1], x.astype(np.float32), readonly, x.astype(int), swapped,
        unaligned, x.view(np.recarray), list(x), tg.tensor(x), tg.tensor(x, requires_grad=True), np.float64(1.0), 1.0,
        np.zeros(0), None, "x", np.ma.array(x),
    ):  # fmt: skip
        for _ in range(3):
            agrees(function, compiled, other)
        agrees(function, compiled, x)
    assert is_native(compiled, x)
    assert not is_native(compiled, x=x)
    y = x.copy()
    agrees(function, compiled, y)
    y.shape = (2, 2)
    agrees(function, compiled, y)
    y.shape, y.dtype = (4,), np.int64
    agrees(function, compiled, y)


def test_errors_are_those_of_the_function():
    compiled = known(F.grad(lambda x: x * x), 2.0)
    with pytest.raises(RuntimeError, match="positional inputs"):
        compiled()
    with pytest.raises(TypeError, match="argument"):
        compiled(1.0, 2.0)
    assert compiled(3.0) == 6.0


def test_numbers_that_are_looked_at():
    def function(x, t):
        return x * math.sqrt(abs(t)), t

    compiled, x = tg.compile(lambda x, t: function(x, t)[0]), tg.ones(2)
    for t in (2.0, 2.0, 2.0, 3.0, 2.0, 0.0, 0.0, 0.0, -0.0, -0.0, -0.0, 0.0):
        agrees(lambda x, t: function(x, t)[0], compiled, x, t)
    assert native_calls(compiled)


SPECIAL = (0.0, -0.0, 1.0, -1.0, 0.5, 2.0, float("nan"), float("inf"), 1e300, 1e-310)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 10**6))
def test_what_python_computes_with_numbers(seed):
    random = np.random.default_rng(seed)
    steps = random.integers(0, 1 << 30, (random.integers(1, 8), 3)).tolist()

    def function(x, t, s):
        known = [t, s, 0.5, 2, -3]
        for one, other, kind in steps:
            p, q, kind = known[one % len(known)], known[other % len(known)], kind % 10
            if kind < 6:  # a division by zero raises, whether its result is used or not
                made = p / q if kind == 5 else (p + q, p - q, p * q, -p, abs(p))[kind]
                known.append(made)
            elif kind == 6:
                x = x * p if p < q else x - q
            elif kind == 7:
                x = x + p if p >= q else x * 0.5
            elif kind == 8:
                x = x - p if p else tg.where(x > q, x, q)
            else:
                x = x * q if p != q else x / (1.0 + abs(q))
        return (x * known[-1]).sum()

    of = F.grad(function) if seed % 2 else function
    compiled = tg.compile(of)
    for _ in range(16):
        t, s = (float(random.choice(SPECIAL) if random.integers(3) == 0 else random.normal()) for _ in range(2))
        x = random.normal(size=3).astype(np.float64 if seed % 3 else np.float32)
        agrees(of, compiled, x if seed % 2 else tg.tensor(x), t, s)


def test_numbers_and_branches_are_native():
    def function(t, x):
        return (tg.sin(2.0 * t - 1) * x if t > 0.5 else x * x / (1 + abs(t))).sum()

    compiled = known(F.value_and_grad(function, 1), 0.7, np.ones(2))
    for i in range(8):
        agrees(F.value_and_grad(function, 1), compiled, i / 8, np.ones(2) * i)
    assert compiled.stats()["recordings"] == 2
    assert is_native(compiled, 0.3, np.ones(2))
    assert is_native(compiled, 0.9, np.ones(2))


def test_tensors_that_are_the_same_or_are_not():
    compiled = known(lambda a, b: (a - b).sum(), *(one := tg.tensor([1.0, 2.0]),) * 2)
    other = tg.tensor([3.0, 5.0])
    for a, b in ((one, other), (other, one), (one, one), (other, other)) * 3:
        assert compiled(a, b).item() == (a - b).sum().item()
    assert is_native(compiled, one, other)
    pending = one * 3.0  # not computed yet
    assert compiled(pending, one).item() == 6.0


def test_what_is_read_without_being_given():
    w, held = tg.tensor([1.0, 2.0]), np.array([1.0, 2.0])

    def function(x):
        return (x * w + tg.tensor(held)).sum()

    compiled = known(function, tg.ones(2))
    for i in range(4):
        w += 1.0
        held[0] = i
        agrees(function, compiled, tg.tensor([0.5, float(i)]))
    assert is_native(compiled, tg.ones(2))
    held.dtype = np.int64
    agrees(function, compiled, tg.ones(2))


@pytest.mark.filterwarnings("ignore")
def test_modes_of_the_tape_are_looked_at():
    x = tg.tensor([1.0, 2.0, 3.0])
    compiled = known(lambda x: (x * x).sum() * 1.5, x)
    with tg.no_grad():
        assert not is_native(compiled, x)
    rows = tg.tensor(np.arange(6.0).reshape(2, 3))
    assert F.vmap(compiled)(rows).tolist() == [7.5, 75.0]
    assert F.jvp(compiled, (x,), (tg.ones(3),))[1].item() == 18.0
    assert F.grad(compiled)(x).tolist() == [3.0, 6.0, 9.0]
    with tg.autograd.detect_anomaly():
        assert not is_native(compiled, x)
    with tg.current_tape().lock:
        assert not is_native(compiled, x)
    single = known(lambda x: tg.zeros(1) + x.float(), x)
    tg.set_default_dtype(tg.float32)
    try:
        assert single(x).dtype is tg.float32
    finally:
        tg.set_default_dtype(tg.float64)
    assert single(x).dtype is tg.float64
    outer = tg.compile(lambda x: compiled(x) * 2.0)
    for _ in range(3):
        assert outer(x).item() == 42.0


def test_branches_are_found_in_native_code():
    def steps(x):
        n = 0
        while n < 5 and x.sum() > n:
            x, n = x * 0.75, n + 1
        return x * 2.0

    compiled, random = tg.compile(steps), np.random.default_rng(0)
    for _ in range(40):
        agrees(steps, compiled, tg.tensor(random.normal(size=3) * 3.0))
    before = compiled.stats()
    native = native_calls(compiled)
    for _ in range(40):
        agrees(steps, compiled, tg.tensor(random.normal(size=3) * 3.0))
    after = compiled.stats()
    assert native_calls(compiled) == native + 40
    assert after["replays"] == before["replays"] + 40
    assert after["misses"] > before["misses"]


def test_results_are_of_the_callers():
    x = np.array([1.0, 2.0])
    compiled = known(F.grad(lambda x: (x * x).sum()), x)
    first = compiled(x)
    second = compiled(x * 2.0)
    assert first.tolist() == [2.0, 4.0]
    assert second.tolist() == [4.0, 8.0]
    assert all(first.flags[name] for name in ("OWNDATA", "WRITEABLE", "C_CONTIGUOUS"))
    holders = sys.getrefcount(x), sys.getrefcount(x.dtype), sys.getrefcount(np.ndarray), sys.getrefcount(float)
    for _ in range(1000):
        compiled(x)
    gc.collect()
    found = sys.getrefcount(x), sys.getrefcount(x.dtype), sys.getrefcount(np.ndarray), sys.getrefcount(float)
    assert max(abs(a - b) for a, b in zip(holders, found, strict=True)) < 500
    made = compiled(x)
    assert sys.getrefcount(made) == 2


def test_programs_that_have_gone_are_not_run():
    compiled = tg.compile(F.value_and_grad(lambda x: (x * x).sum()), capacity=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for n in (1, 2, 3, 4, 1, 2, 3) * 4:
            for _ in range(3):
                agrees(F.value_and_grad(lambda x: (x * x).sum()), compiled, np.arange(float(n)))
    assert len(compiled._entered) <= 2
    assert compiled.stats()["programs"] <= 2


def test_threads_have_plans_of_their_own():
    function = F.value_and_grad(lambda x: (x**2).sum() if x[0] > 0 else x.exp().sum())
    compiled, failures = tg.compile(function), []

    def work(seed):
        random = np.random.default_rng(seed)
        try:
            for _ in range(50):
                agrees(function, compiled, random.normal(size=4))
        except BaseException as error:
            failures.append(error)

    for start in (0, 4):
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(start, start + 4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    work(9)
    assert not failures
    compiled(np.ones(7)), compiled(np.ones(7))  # plans of threads that have ended go with the next that is made
    assert len(compiled._entered) <= 3


def test_methods_and_partial_functions():
    class Model:
        def __init__(self, w):
            self.w = tg.tensor(w)

        @tg.compile
        def value(self, x):
            return x * self.w

    one, other = Model(2.0), Model(5.0)
    x = tg.tensor(3.0)
    for _ in range(4):
        assert one.value(x).item() == 6.0
        assert other.value(x).item() == 15.0
        assert functools.partial(Model.value, one)(x).item() == 6.0
    assert native_calls(Model.value) > 6


def test_a_call_by_the_class_and_one_that_collects_garbage():
    x = np.array([1.0, 2.0])
    function = F.value_and_grad(lambda x: (x * x).sum())
    compiled = known(function, x)
    assert bits(type(compiled).__call__(compiled, x)) == bits(function(x))
    found = []

    class Calls:
        def __init__(self):
            self.itself = self

        def __del__(self):
            found.append(compiled(x * 3.0)[0])

    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(20):
            Calls()
            agrees(function, compiled, x)
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    assert set(found) == {45.0}
