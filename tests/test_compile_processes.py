"""`tg.compile` and other processes; and many programs of one function."""

import concurrent.futures
import copy
import gc
import multiprocessing
import pickle
import sys

import numpy as np
import pytest
from compiled_functions import bits, call, needs_programs, slope, squares

import tapegrad as tg
from tapegrad import engine

pytestmark = needs_programs


def test_a_spawned_process_records_anew():
    x = np.array([0.5, -2.0])
    given = squares, tg.compile(slope, capacity=7)
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as others:
        for compiled, answer in zip(given, others.map(call, given, [x, x]), strict=True):
            found, stats = answer
            assert bits(found) == bits([compiled(x), compiled(x)])
            assert (stats["recordings"], stats["replays"]) == (1, 1)


def test_what_is_pickled_is_a_name():
    assert pickle.loads(pickle.dumps(squares)) is squares
    assert copy.deepcopy(squares) is squares
    again = pickle.loads(pickle.dumps(tg.compile(slope, capacity=7, fullgraph=True)))
    assert again.__wrapped__ is slope
    assert (again._capacity, again._must_be_program) == (7, True)


def test_what_has_no_name_is_refused():
    local = tg.compile(lambda x: x * 2.0)
    of_transform = tg.compile(tg.func.grad(slope))
    for compiled in local, of_transform:
        with pytest.raises(pickle.PicklingError, match=r"finds a function by its name in its module, and .*save\(\)"):
            pickle.dumps(compiled)
        assert copy.deepcopy(compiled).__wrapped__ is compiled.__wrapped__


def test_memory_is_constant_over_many_programs():
    """Each is replayed, so that the next is recorded; those stay that were used last."""
    x, tape = tg.tensor(3.0), tg.current_tape()
    compiled = tg.compile(lambda x, name: x * float(name) + 1.0, capacity=8)

    def use(names):
        for name in names:
            assert compiled(x, str(name)).item() == compiled(x, str(name)).item() == 3.0 * name + 1.0
        gc.collect()  # what tests before have left, too
        engine.reclaim(tape)
        return tape.nbytes, len(gc.get_objects())

    nbytes, objects = use(range(50))
    after, more = use(range(50, 2000))
    stats = compiled.stats()
    assert (stats["recordings"], stats["programs"]) == (2000, 8)
    assert after <= nbytes
    assert more < objects + 200
    assert stats["bytes"] < 100_000


@pytest.mark.parametrize(("function", "n"), [(slope, 10**6), (lambda x: tg.tensor(x) * 2.0, 10**5)])
def test_memory_is_constant_over_many_replays(function, n):
    """A leak of an object at each call would be seen."""
    compiled, x, tape = tg.compile(function), np.array([0.5, -2.0]), tg.current_tape()

    def use(n):
        for _ in range(n):
            compiled(x)
        gc.collect()
        engine.reclaim(tape)
        return tape.nbytes, sys.getallocatedblocks()

    nbytes, blocks = use(1000)
    after, more = use(n)
    assert compiled.stats()["recordings"] == 1
    assert after <= nbytes
    assert more < blocks + 2000
