"""What answers otherwise at each call: generators of random numbers, clocks, the system's noise.

A program can't have it, unless the watch knows how to draw it again. So while a function is recorded, calls of clocks
and of the system's noise are looked for, and afterwards the states of all generators that the function can reach.
"""

from __future__ import annotations

import datetime
import os
import random
import sys
import sysconfig
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tapegrad import callers, creation
from tapegrad.replay.standins import Keeper
from tapegrad.replay.surroundings import Surroundings

_CLOCKS = {
    *(getattr(time, name) for name in dir(time) if name.startswith(("time", "perf_c", "monotonic", "process_t"))),
    *(time.localtime, time.gmtime, time.ctime, time.strftime, os.urandom, os.times),
    *(datetime.datetime.now, datetime.datetime.utcnow, datetime.datetime.today, datetime.date.today),
} - {time.timezone}  # fmt: skip
_DRAWS = {"random", "getrandbits"}
# Libraries look at clocks for logs and the like; those of these modules are what the user's code asks for.
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})
_OF_CHANCE = {"random", "secrets", "uuid"}
_NAMES_FILES = {"llvmlite", "numba", "tapegrad", "tempfile"}  # at random, when they compile


class Sources:
    """The generators that a function can reach, and where they were."""

    def __init__(self, function: Callable[..., Any], leaves: list[Any]) -> None:
        self.surroundings = Surroundings(function, leaves)
        objects = self.surroundings.objects
        self.keepers = [x for x in objects if isinstance(x, Keeper)]
        self.generators = [*_reached(objects)]
        self.states = self._now()

    def _now(self) -> Any:
        return [
            creation.get_rng_state(), _comparable(np.random.get_state(legacy=False)), random.getstate(),  # noqa: NPY002
            *(_comparable(state(of)) for of, state, _ in self.generators),
        ]  # fmt: skip

    def go_back(self, states: Any = None) -> None:
        """Have generators as they were."""
        default, of_numpy, of_python, *others = self.states if states is None else states
        creation.set_rng_state(default)
        np.random.set_state(of_numpy)  # noqa: NPY002
        random.setstate(of_python)
        for (of, _, put), state in zip(self.generators, others, strict=True):
            put(of, state)

    def watched(self, watch: Any, function: Callable[[], Any]) -> Any:
        """Call a function, and tell the watch of what can't be done again.

        The profiler is set within `try`: Ctrl-C may come right after that.
        """

        def look(frame: types.FrameType, event: str, called: Any) -> None:
            if event == "c_call" and (
                called in _CLOCKS
                or (called.__name__ in _DRAWS and isinstance(called.__self__, random.Random))
            ) and _is_asker(frame):  # fmt: skip
                watch.fail(f"asks {called.__name__}(), whose answer is another at each call")

        try:
            sys.setprofile(look)
            made = function()
        finally:
            sys.setprofile(None)
        if watch.failure is None and (now := self._now()) != self.states:
            # What the watch knows of is drawn again: that must be all.
            watch.tape.watch = None
            try:
                self.go_back()
                for again, name, given, facts in watch.draws:
                    getattr(again(), name)(*given, **facts)
                is_all = self._now() == now
                self.go_back(now)
            finally:
                watch.tape.watch = watch
            if not is_all:
                watch.fail("draws random numbers")
        return made


def _is_asker(frame: types.FrameType | None) -> bool:
    """Whether the function's answer may depend on what a frame asks for."""
    is_of_chance = False
    while frame is not None and (name := callers.root(frame)) in _OF_CHANCE:
        is_of_chance, frame = True, frame.f_back
    if frame is None or name in _NAMES_FILES:
        return False
    return is_of_chance or not frame.f_code.co_filename.startswith(_LIBRARIES)


def _comparable(state: Any) -> Any:
    """A state whose arrays are compared as a whole."""
    if isinstance(state, dict):
        return {key: _comparable(value) for key, value in state.items()}
    return _Bits(state) if isinstance(state, np.ndarray) else state


class _Bits(np.ndarray):
    """An array that is equal as a whole, or not."""

    def __new__(cls, array: np.ndarray) -> Any:
        """The same elements."""
        return array.copy().view(cls)

    def __eq__(self, other: Any) -> Any:
        return np.array_equal(np.asarray(self), np.asarray(other))

    def __ne__(self, other: Any) -> Any:
        return not self == other

    __hash__ = None


def _state_of_numpy(of: Any) -> Any:
    return (of if isinstance(of, np.random.BitGenerator) else of.bit_generator).state


def _put_of_numpy(of: Any, state: Any) -> None:
    (of if isinstance(of, np.random.BitGenerator) else of.bit_generator).state = state


def _reached(objects: list[Any]) -> Iterator[tuple[Any, Any, Any]]:
    """Generators among objects; how to have and set their states."""
    for x in objects:
        if isinstance(x, np.random.RandomState):
            yield x, lambda of: of.get_state(legacy=False), lambda of, state: of.set_state(state)
        elif isinstance(x, (np.random.Generator, np.random.BitGenerator)):
            yield x, _state_of_numpy, _put_of_numpy
        elif isinstance(x, random.Random) and not isinstance(x, random.SystemRandom):
            yield x, lambda of: of.getstate(), lambda of, state: of.setstate(state)
