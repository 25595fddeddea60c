"""Compiled functions that carry a state, and modules whose modes change: answers stay the plain function's."""

import collections
import functools
import io
import itertools
import warnings

import numpy as np
import pytest
from compiled_functions import bits, needs_programs

import tapegrad as tg

pytestmark = needs_programs


class Smoothed:
    def __init__(self):
        self.state = tg.zeros(2)

    def __call__(self, x):
        self.state = self.state * 0.5 + x
        return self.state


class Recurrent(tg.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("h", tg.zeros(2))

    def forward(self, x):
        self.h = self.h * 0.5 + x
        return self.h * 2.0


def of_array(_):
    array = np.zeros(2)

    def function(x):
        array[:] = array + 1.0
        return x * tg.tensor(array)

    return function


def of_dictionary(_):
    known = {"h": tg.zeros(2)}

    def function(x):
        known["h"] = known["h"] + x
        return known["h"]

    return function


def swaps(_):
    known = {"now": tg.ones(2), "next": tg.zeros(2)}

    def function(x):
        known["now"], known["next"] = known["next"], known["now"]
        return x + known["now"]

    return function


def of_arrays(_):
    known = [np.ones(2)]

    def function(x):
        made = x + tg.tensor(known[0])
        known[0] = known[0] * 2.0
        return made

    return function


def advances(iterator):
    return lambda x: x * next(iterator)


CHANGES = {
    "an array": of_array,
    "an attribute": lambda _: Smoothed(),
    "a buffer": lambda _: Recurrent(),
    "a dictionary": of_dictionary,
    "the places of two": swaps,
    "another array": of_arrays,
    "a counter": lambda _: advances(itertools.count()),
    "an iterator": lambda _: advances(iter([1.0, 2.0, 3.0, 4.0, 5.0])),
    "a generator": lambda _: advances(i * 1.5 for i in range(9)),
    "an iterator of iterators": lambda _: advances(map(float, range(9))),
    "behind a partial function": lambda _: functools.partial(lambda smoothed, x: smoothed(x), Smoothed()),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_state_that_goes_from_call_to_call_does(name):
    found = []
    for wrap in (lambda f: f, tg.compile):
        function = wrap(CHANGES[name](None))
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            found.append([bits(function(tg.ones(2) * (i + 1.0))) for i in range(4)])
    assert found[0] == found[1]
    assert "where it found one" in str(told[0].message) or "what was there before" in str(told[0].message)


def test_what_python_does_beside_is_done_when_a_function_is_recorded():
    n, log, known, numbers = 0, [], {}, collections.deque([1, 2])

    @tg.compile
    def f(x):
        nonlocal n
        n += 1
        log.append(n)
        known[n] = x.shape
        numbers.rotate(1)
        f.calls = getattr(f, "calls", 0) + 1
        return x * 2.0

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for i in range(4):
            assert f(tg.ones(2) * i).tolist() == [2.0 * i, 2.0 * i]
    assert (n, log, list(known), list(numbers), f.calls, f.stats()["recordings"]) == (1, [1], [1], [2, 1], 1, 1)


def test_what_is_made_once_is_kept():
    kept = {}

    @tg.compile
    def f(x):
        if "scale" not in kept:
            kept["scale"] = tg.tensor([2.0, 3.0])
        return x * kept["scale"]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for i in range(4):
            assert f(tg.ones(2) * i).tolist() == [2.0 * i, 3.0 * i]
    stats = f.stats()
    assert (stats["recordings"], stats["programs"], stats["plain"]) == (1, 1, 0)


def test_modes_of_modules_choose_programs():
    model = tg.nn.Sequential(tg.nn.BatchNorm1d(2), tg.nn.Linear(2, 2))
    other = tg.nn.Sequential(tg.nn.BatchNorm1d(2), tg.nn.Linear(2, 2))
    other.load_state_dict(model.state_dict())
    compiled, x = tg.compile(lambda x: model(x).detach()), tg.tensor([[1.0, 2.0], [3.0, -1.0], [0.5, 0.0]])
    for turn in range(9):
        model.train(turn // 2 % 2 == 0)
        other.train(turn // 2 % 2 == 0)
        for _ in range(3):
            assert bits(compiled(x)) == bits(other(x).detach())
    assert bits(model[0].running_mean) == bits(other[0].running_mean)
    assert compiled.stats()["recordings"] == 2


def test_modes_are_looked_at_by_native_code_and_kept_elsewhere():
    model = tg.nn.Dropout(1.0)  # nothing is left, or all
    compiled, x = tg.compile(tg.func.grad(lambda x: (x * x * (2.0 if model.training else 3.0)).sum())), np.ones(2)
    for turn in range(6):
        model.train(turn % 2 == 0)
        for _ in range(3):
            assert compiled(x).tolist() == ([4.0, 4.0] if model.training else [6.0, 6.0])
    assert compiled.stats()["recordings"] == 2
    file = io.BytesIO()
    compiled.save(file)
    loaded, jitted, out = tg.load(io.BytesIO(file.getvalue())), compiled.jitted(x), np.empty(2)
    for mode in False, True:
        model.train(mode)
        jitted(x, out)
        assert loaded(x).tolist() == out.tolist() == [6.0, 6.0]


def test_an_output_that_is_there_twice_is_one_object():
    def function(x):
        y = x * 2.0
        return {"a": y, "b": [y, x, y.sum()], "c": x}

    @tg.compile
    @tg.func.grad
    def slope(x):
        return (x * x).sum()

    @tg.compile
    def twice(x):
        g = slope(x)
        return g, 1, g

    compiled, file = tg.compile(function), io.BytesIO()
    compiled(tg.tensor([1.0, 2.0]))
    compiled.save(file)
    for of in compiled, compiled, tg.load(io.BytesIO(file.getvalue())):
        x = tg.tensor([1.0, 2.0])
        found = of(x)
        assert bits(found) == bits(function(x))
        assert found["a"] is found["b"][0]
        assert found["c"] is found["b"][1] is x
    for _ in range(3):
        g, one, same = twice(np.array([1.0, 2.0]))
        assert g is same
        assert (g.tolist(), one) == ([2.0, 4.0], 1)
    rows = np.arange(40.0).reshape(20, 2)
    g, _, same = twice.map(rows)
    assert g.tolist() == same.tolist() == slope.map(rows).tolist()
