"""Random programs leave behind what they leave behind in PyTorch: see `random_programs.py`, which runs thousands."""

import gc
import hashlib
import subprocess
import sys
import threading
import warnings
from typing import Any

import pytest

import tapegrad

from . import random_programs as programs


@pytest.fixture(autouse=True)
def no_warnings():
    """PyTorch tells of much that is well known."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("first", range(0, 200, 20))
def test_random_programs(first: int):
    for seed in range(first, first + 20):
        program = programs.grown(seed)
        found, _ = programs.compare(program)
        assert not found, f"seed {seed}\n{programs.least(program)}\n" + "\n".join(found)


@pytest.mark.parametrize("first", range(0, 80, 20))
def test_random_programs_of_slices(first: int):
    for seed in range(first, first + 20):
        program = programs.grown(seed, slices=True)
        found, _ = programs.compare(program)
        assert not found, f"seed {seed}\n{programs.least(program)}\n" + "\n".join(found)


def test_eight_threads_leave_the_same_bits_as_one():
    seeds = range(500, 540)
    grown = [programs.grown(seed) for seed in seeds]

    def left() -> list[Any]:
        return [programs.compare(program)[1] for program in grown]

    alone, found = left(), []
    threads = [threading.Thread(target=lambda: found.append(left())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    for theirs in found:
        for seed, program, expected, got in zip(seeds, grown, alone, theirs, strict=True):
            same = programs.digest(got) == programs.digest(expected)
            assert same, f"seed {seed}\n{program}\nalone {expected!r}\nnow {got!r}"


def test_a_program_begins_while_another_does():
    """Garbage is collected at any moment, and other threads go on then: what they begin harms nobody."""
    results, before, thread = [], gc.get_threshold(), threading.get_ident()

    def go_on(phase: str, info: dict[str, int]) -> None:
        if threading.get_ident() == thread and len(results) < 500:
            other = threading.Thread(target=lambda: results.append(programs.run(tapegrad, "x = (1, (2, 3))")))
            other.start()
            other.join()

    gc.callbacks.append(go_on)
    gc.set_threshold(1)
    try:
        results.append(programs.run(tapegrad, "y = (((1, 2), (3, 4)), ((5, 6), (7, 8)))"))
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(go_on)
    assert not [result for result in results if isinstance(result, Exception)]


def test_another_process_leaves_the_same_bits():
    arguments = [sys.executable, "-W", "ignore", "-m", "tests.parity.random_programs", "--count", "20", "--seed", "600"]
    child = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=900)
    state = hashlib.sha256()
    for seed in range(600, 620):
        state.update(programs.digest(programs.compare(programs.grown(seed))[1]).encode())
    assert child.stdout.split()[-1] == state.hexdigest()[:16]
