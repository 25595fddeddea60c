"""`tg.compile`: effects beside the result, chance, clocks and profilers."""

import cProfile
import os
import random as random_of_python
import tempfile
import time
import uuid
import warnings

import numpy as np
import pytest
from compiled_functions import agrees, bits, needs_programs

import tapegrad as tg
from tapegrad.kernels import cache

F = tg.func
pytestmark = needs_programs


def test_what_a_function_does_beside_is_done_once():
    calls = []

    class OwnError(Exception):
        pass

    def raises(x, t):
        calls.append(1)
        raise OwnError(x.sum())

    def needs(x, t):
        calls.append(1)
        memoryview(x)
        return tg.tensor(x) * t

    def looks(x, t):
        calls.append(1)
        return float(x[0]) * tg.tensor(t)

    x = np.array([1.0, 2.0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # What takes no stand-in is called again, once; an element that is looked at is guarded.
        for n_calls, function in (3, raises), (4, needs), (1, looks):
            compiled, calls[:] = tg.compile(function), []
            for _ in range(3):
                if function is raises:
                    with pytest.raises(OwnError, match=r"tensor\(3\.\)|3\.0"):
                        compiled(x, 2.0)
                else:
                    compiled(x, 2.0)
            assert len(calls) == n_calls


def test_lists_and_dictionaries_that_are_changed_are_the_callers():
    def function(state, history, x):
        state["n"] = state["n"] + 1.0
        history.append(x)
        state["inner"]["x"] = x * 2.0
        return tg.tensor(state["n"]), state, history

    states = [({"n": 0.0, "inner": {}}, []) for _ in range(2)]
    compiled = tg.compile(function)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for i in range(4):
            x = np.array([float(i)])
            results = [of(*state, x) for of, state in zip((function, compiled), states, strict=True)]
            assert bits(results[0]) == bits(results[1])
            assert bits(states[0]) == bits(states[1])
            assert results[1][1] is states[1][0]
            assert states[1][1][-1] is x
    assert "changes a list or a dictionary that it is given" in str(told[0].message)


held, held_of_python = np.random.default_rng(0), random_of_python.Random(0)


def makes_one(x):
    return x * np.random.default_rng().random()


def makes_one_of_python(x):
    return x * random_of_python.Random().random()


def makes_one_with_a_seed(x):
    return x * np.random.default_rng(5).random()


def draws_from_a_global(x):
    return x * held.random()


def draws_from_a_global_of_python(x):
    return x * held_of_python.gauss(0.0, 1.0)


def tells_the_time(x):
    return x * time.perf_counter()


def asks_the_system(x):
    return x * int.from_bytes(os.urandom(4), "little")


def names_itself(x):
    return x * float(uuid.uuid4().int % (1 << 40))


@pytest.mark.parametrize(
    "function",
    [
        makes_one,
        makes_one_of_python,
        draws_from_a_global,
        draws_from_a_global_of_python,
        tells_the_time,
        asks_the_system,
        names_itself,
    ],
)
def test_chance_and_time_are_not_constants(function):
    compiled = tg.compile(function)
    with pytest.warns(UserWarning, match="is called as it is"):
        found = {compiled(tg.tensor(1.0)).item() for _ in range(6)}
    assert len(found) == 6


def test_names_of_files_are_no_answers():
    """Kernels that are compiled while a function is recorded are kept in files, which are named at random at first."""

    def function(x):
        cache.write("a-kernel-of-tests", {"needs": []}, b"")
        with tempfile.TemporaryFile():
            return x.exp()

    try:
        assert tg.compile(function, fullgraph=True)(tg.tensor(0.0)).item() == 1.0
        assert (cache.folder() / "a-kernel-of-tests").exists()
    finally:
        (cache.folder() / "a-kernel-of-tests").unlink(missing_ok=True)


def test_generators_that_are_given_or_held():
    class Model:
        def __init__(self, seed):
            self.rng, self.of_tapegrad = np.random.default_rng(seed), tg.Generator().manual_seed(seed)

        def noisy(self, x):
            return x + self.rng.normal(size=3)

        def followed(self, x):
            return x + tg.randn(3, generator=self.of_tapegrad)

        def both(self, x):
            return self.followed(x) + self.of_tapegrad.numpy.normal()

    for name in "noisy", "followed", "both":
        plain, model = Model(3), Model(3)
        compiled = tg.compile(getattr(model, name))
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            for _ in range(4):
                agrees(getattr(plain, name), compiled, tg.zeros(3))
        assert bool(told) == (name != "followed")
        assert plain.rng.bit_generator.state == model.rng.bit_generator.state
        assert plain.of_tapegrad.get_state() == model.of_tapegrad.get_state()
    given = [np.random.default_rng(1) for _ in range(2)]
    compiled = tg.compile(lambda x, rng: x * rng.normal())
    with pytest.warns(UserWarning, match="draws random numbers"):
        assert compiled(tg.tensor(1.0), given[0]).item() == given[1].normal()
    for _ in range(3):
        assert compiled(tg.tensor(1.0), given[0]).item() == given[1].normal()
    compiled = tg.compile(makes_one_with_a_seed)
    for _ in range(3):
        agrees(makes_one_with_a_seed, compiled, tg.tensor(2.0))
    assert compiled.stats()["recordings"] == 1


def test_profilers_see_replays_and_go_on():
    compiled = tg.compile(F.grad(lambda x: (x * x).sum()))
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(2):
        compiled(np.ones(2))
    assert compiled.stats()["plain"] == 2
    profile.disable()
    for _ in range(2):
        compiled(np.ones(2))
    profile.enable()
    compiled(np.ones(2))
    profile.disable()
    assert compiled.stats()["replays"] == 2
    assert any("backward" in str(entry.code) or "replay" in str(entry.code) for entry in profile.getstats())


@tg.custom_vjp
def doubled(x):
    return 2.0 * x


doubled.defvjp(lambda x: (2.0 * x, None), lambda kept, g: (2.0 * g,))


def test_graphs_that_somebody_holds_are_no_hindrance():
    x = tg.ones(3, requires_grad=True)
    held = doubled(x), x * 2.0, x * 3.0
    held[1].register_hook(lambda g: 2.0 * g)
    held[2].retain_grad()
    w = tg.ones(3, requires_grad=True)

    def step(x):
        w.grad = None
        (w * tg.tensor(x)).sum().backward()
        return w.grad.clone()

    for function in F.grad(lambda x: (x * x).sum()), step:
        compiled = tg.compile(function)
        for i in range(3):
            given = np.full(3, float(i))
            assert bits(compiled(given)) == bits(function(given))
        assert (compiled.stats()["recordings"], compiled.stats()["replays"]) == (1, 2)
    sum(t.sum() for t in held).backward()
    assert x.grad.tolist() == [9.0] * 3
    assert held[2].grad.tolist() == [1.0] * 3


def test_hooks_are_called():
    w = tg.tensor([1.0, 2.0], requires_grad=True)

    def of_captured(_):
        return tg.autograd.grad((w * w).sum(), [w])[0]

    def of_given(v):
        return tg.autograd.grad((v * v).sum(), [v])[0]

    def accumulates(_):
        w.grad = None
        (w * w).sum().backward()
        return w.grad.clone()

    def adds_one(v):
        y = v * v
        y.register_hook(lambda g: 3.0 * g)
        return tg.autograd.grad(y.sum(), [v])[0]

    def applies(v):
        return tg.autograd.grad(doubled(v).sum(), [v])[0]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for function in of_captured, of_given, accumulates, adds_one, applies:
            for is_hooked in (False, True), (True, False):
                compiled = tg.compile(function)
                for adds in is_hooked:
                    handle = w.register_hook(lambda g: 5.0 * g) if adds else None
                    before = compiled.stats()["replays"]
                    for _ in range(3):
                        assert bits(compiled(w)) == bits(function(w))
                    has_replayed = compiled.stats()["replays"] > before
                    assert has_replayed is not (adds or function in (adds_one, applies))
                    if handle is not None:
                        handle.remove()


def test_within_transforms_it_is_called_as_it_is_without_a_word():
    def plain(x):
        return (x**3).sum() * 2.0

    x = tg.tensor([1.0, 2.0, 3.0])
    for through in (
        lambda f: F.value_and_grad(f)(x),
        lambda f: F.hessian(f)(x),
        lambda f: F.jvp(f, (x,), (x,)),
        lambda f: F.vmap(F.grad(f))(tg.stack([x, x])),
    ):
        compiled = tg.compile(plain)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert bits(through(compiled)) == bits(through(plain))
        assert compiled.stats()["recordings"] == 0
    inner = tg.compile(lambda y: y.exp())  # what does not depend on what is differentiated by is replayed
    y = tg.tensor([0.5])
    for _ in range(3):
        F.grad(lambda t: (t * inner(y)).sum())(x)
    assert inner.stats()["replays"] == 2
