"""Derivatives of jitted functions beside JAX and PyTorch: check that they agree, measure, and print a table.

    python asv_benchmarks/compare_jitted.py [--rounds N] [--only WORDS] [--whole FILE] [--short README.md]

The works are in `benchmarks/jitted_works`, and what others run in their place in `jitted_peers`. All is on one thread.
Each library computes a work in a process of its own, and they take turns, so that a busy moment of the machine falls on
all of them. Before anything is timed, they must agree, and tapegrad's derivative with differences of the function.
"""

from __future__ import annotations

import argparse
import gc
import math
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
import timeit
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.jitted_works.table import CALLS, WORKS, Work
from compare import duration, megabytes, times, write

LIBRARIES = {  # and where they compute
    "tapegrad": "benchmarks.jitted_works.in_numba",
    "torch": "jitted_peers.in_torch",
    "jax": "jitted_peers.in_jax",
}
TITLES = {"tapegrad": "tapegrad", "torch": "PyTorch", "jax": "JAX"}
FIRST = {"cold": 2.5, "cached": 0.1}  # seconds that a first derivative should take at most
BATCH = 0.05  # seconds of calls that are timed together
VERY_LONG = 2.0  # seconds: one call must do
TIMEOUT = 600  # seconds after which a process counts as hung
AGREEMENT, DIFFERENCES = 1e-8, 1e-6  # what derivatives may differ by, of the largest; of that along a line
SPAWN = multiprocessing.get_context("spawn")


def main() -> None:
    """Check, measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="turns that each library takes (default 3)")
    parser.add_argument("--only", default="", metavar="WORDS", help="only the works with these words in their titles")
    parser.add_argument("--whole", type=Path, metavar="FILE", help="put the table between the jitted marks of FILE")
    parser.add_argument("--short", type=Path, metavar="FILE", help="put the most telling rows there")
    arguments = parser.parse_args()
    if arguments.only and (arguments.whole or arguments.short):
        parser.error("--only is a part of the table: it isn't written")

    on_one_thread()
    installed = [name for name in LIBRARIES if find_spec(name)]
    head = header(installed, arguments.rounds)
    print("\n".join(head), flush=True)
    found: dict[str, Figures] = {}
    cold: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for title, work in WORKS.items():
            if arguments.only not in title:
                continue
            compiled = f"{folder}/{work.name}"  # by all works of a function: each is compiled once
            if work.name not in cold:
                with Child("tapegrad", title, compiled) as child:
                    cold[work.name] = child.ask("first")
            found[title] = measured(title, installed, arguments.rounds, compiled, cold[work.name])
            print(row(title, found[title], installed), flush=True)
    print("", *summary(found), sep="\n")
    for file, titles in (
        (arguments.whole, [*found]), (arguments.short, [title for title in found if WORKS[title].is_telling])
    ):  # fmt: skip
        if file:
            rows = [row(title, found[title], installed) for title in titles]
            write(file, "\n".join([*head, *rows, "", *summary(found)]), "jitted")


def on_one_thread() -> None:
    """Put this process, and those that it starts, on one processor; libraries make as many threads."""
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


# --- the table --------------------------------------------------------------------------------------------------------


@dataclass
class Figures:
    """What was measured of a work: seconds, by library; and bytes."""

    function: float
    taken: dict[str, float]
    first: dict[str, float]
    tape: int


def header(libraries: list[str], rounds: int) -> list[str]:
    """What was compared, and the head of the table."""
    versions = ", ".join(f"{TITLES[name]} {version(name)}" for name in libraries)
    others = [TITLES[name] for name in libraries if name != "tapegrad"]
    return [
        "Derivatives of functions jitted by Numba, with the function's value: gradients, if nothing else is said. "
        f"Medians of {rounds} alternating",
        f"rounds; in brackets as multiples of the function's own time, and of tapegrad's. Float64, one thread "
        f"({platform.machine()}), Python {platform.python_version()},",
        f'{versions}; PyTorch is eager, JAX compiled before. "From jitted code" is so for tapegrad only.',
        "",
        "| work | the function | tapegrad | goals | its first, cold / cached | tape |"
        + "".join(f" {name} |" for name in others),
        "|---|---:|---:|---|---:|---:|" + "---:|" * len(others),
    ]


def row(title: str, figures: Figures, libraries: list[str]) -> str:
    """A row of the table."""
    ours = figures.taken["tapegrad"]
    goals = ", ".join(f"{goal}: {'met' if is_met else 'missed'}" for goal, is_met in verdicts(WORKS[title], figures))
    cells = [
        title, duration(figures.function), f"{duration(ours)} ({ours / figures.function:.1f}x)", goals,
        f"{figures.first['cold']:.1f} s / {figures.first['cached']:.2f} s", f"{figures.tape / 1e6:.1f} MB",
    ]  # fmt: skip
    for name in libraries:
        if name in figures.taken and name != "tapegrad":
            theirs = figures.taken[name]
            cells.append(f"{duration(theirs)} ({times(theirs / ours)}{', run once' if theirs >= VERY_LONG else ''})")
        elif name != "tapegrad":
            cells.append(WORKS[title].without[name])
    return f"| {' | '.join(cells)} |"


def verdicts(work: Work, figures: Figures) -> Iterator[tuple[str, bool]]:
    """Goals, and whether they are met."""
    ours = figures.taken["tapegrad"]
    for of, most in work.goals.items():
        if of == "function":
            yield f"{most:g}x", ours / figures.function <= most
        elif of == "seconds":
            yield duration(most), ours <= most
        elif of == "bytes":
            yield f"tape of {megabytes(most)}", figures.tape <= most
        elif of in figures.taken:
            yield f"{most:g} of {TITLES[of]}", ours / figures.taken[of] <= most


def summary(found: dict[str, Figures]) -> list[str]:
    """How many goals are met."""
    met = [is_met for title, figures in found.items() for _, is_met in verdicts(WORKS[title], figures)]
    lines = [f"{sum(met)} of {len(met)} goals are met, in all {len(found)} works."]
    for state, most in FIRST.items():
        n_met = sum(figures.first[state] <= most for figures in found.values())
        lines.append(f"First derivatives, {state}: {n_met} take {most} s at most.")
    return lines


# --- checking and measuring: the parent's side ------------------------------------------------------------------------


def measured(title: str, libraries: list[str], rounds: int, folder: str, cold: float) -> Figures:
    """The figures of a work, once the libraries agree; those that have no part in it have none.

    In `folder` is compiled code, whose first derivative took the time `cold`.
    """
    able = [name for name in libraries if name not in WORKS[title].without]
    with ExitStack() as stack:
        children = {name: stack.enter_context(Child(name, title, folder)) for name in able}
        cached = children["tapegrad"].ask("first")
        error = children["tapegrad"].ask("error_by_differences")
        if not error < DIFFERENCES:
            sys.exit(f"{title}: the derivative of tapegrad and differences of the function are {error:.1e} apart")
        check(title, {name: child.ask("found") for name, child in children.items()})
        taken: dict[str, list[float]] = {name: [] for name in able}
        functions = []
        for _ in range(rounds):
            functions.append(children["tapegrad"].ask("seconds_of_function"))
            for name, child in children.items():
                taken[name].append(child.ask("seconds"))
        return Figures(
            statistics.median(functions), {name: statistics.median(taken[name]) for name in able},
            {"cold": cold, "cached": cached}, children["tapegrad"].ask("tape"),
        )  # fmt: skip


def check(title: str, found: dict[str, list[np.ndarray]]) -> None:
    """End the program unless all libraries have the same values and derivatives."""
    for name, theirs in found.items():
        for ours, other in zip(found["tapegrad"], theirs, strict=True):
            error = np.abs(ours - other).max() / np.abs(ours).max() if ours.shape == other.shape else math.inf
            if not error < AGREEMENT:
                sys.exit(f"{title}: what tapegrad and {TITLES[name]} compute differs by {error:.1e}")


class Child:
    """A process that computes a work by one library, and answers one question after another."""

    def __init__(self, library: str, title: str, folder: str) -> None:
        self.pipe, pipe = SPAWN.Pipe()
        self.process = SPAWN.Process(target=answer, args=(pipe, library, title, folder), daemon=True)
        self.process.start()
        pipe.close()
        self.name = f"{title}: the process of {TITLES[library]}"

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.pipe.close()
        self.process.join(1)
        self.process.kill()

    def ask(self, question: str) -> Any:
        """What a method of `Subject` returns there."""
        self.pipe.send(question)
        if not self.pipe.poll(TIMEOUT):
            sys.exit(f"{self.name} has not answered in {TIMEOUT} s")
        try:
            return self.pipe.recv()
        except EOFError:
            sys.exit(f"{self.name} failed, as it says above")


# --- the child's side: in a process that must have no other library in it ---------------------------------------------


def answer(pipe: Any, library: str, title: str, folder: str) -> None:
    """Answer until nobody asks any more."""
    os.environ |= {"TAPEGRAD_CACHE_DIR": folder, "NUMBA_CACHE_DIR": folder}
    subject = Subject(library, WORKS[title])
    try:
        while True:
            pipe.send(getattr(subject, pipe.recv())())
    except EOFError:
        return


class Subject:
    """A work in the hands of a library."""

    def __init__(self, library: str, work: Work) -> None:
        self.work, self.library = work, import_module(LIBRARIES[library])
        self.calls = CALLS if work.way == "calls" and library == "tapegrad" else 1
        self.compute, self.clocks = self.library.derivative(work), {}
        self.function = self.library.primal(work) if library == "tapegrad" else None

    def first(self) -> float:
        """The time of tapegrad's first derivative, from Python, of a function that is compiled."""
        self.function()
        compute = self.library.transformed(self.work)
        begin = time.perf_counter()
        compute()
        return time.perf_counter() - begin

    def found(self) -> list[np.ndarray]:
        """The derivative, with the value where it is a gradient."""
        found = self.compute()  # which compiles it, as `first` does the function
        if self.calls > 1:
            found = self.library.transformed(self.work)()
        return [np.asarray(array) for array in _leaves(found)]

    def seconds(self) -> float:
        """The time of the derivative."""
        return self._seconds("derivative", self.compute)

    def seconds_of_function(self) -> float:
        """The time of the function, of tapegrad's."""
        return self._seconds("function", self.function)

    def tape(self) -> int:
        """The bytes of tapegrad's tape."""
        from tapegrad import jitted

        jitted.free()
        self.library.transformed(self.work)()
        return jitted.nbytes()

    def error_by_differences(self) -> float:
        """How far tapegrad's derivative and a difference of the function are apart, along a line."""
        work, function, args = self.work, self.library.function_of(self.work), list(self.work.arguments())
        rng, cotangent, slopes = np.random.default_rng(1), np.float64(1.0), _leaves(self.library.transformed(work)())
        if work.way in ("gradient", "calls"):
            _, *slopes = slopes
        else:
            cotangent = rng.normal(size=np.shape(function(*args)))
            terms = "ki,kij->kj" if work.way == "blocks" else "ki,kij->j"
            slopes = [np.einsum(terms, cotangent, *slopes)]
        line = [np.sign(slope) * rng.uniform(0.5, 1.0, slope.shape) for slope in slopes]
        points = []
        for step in (1e-6, -1e-6):
            for i, direction in zip(work.by, line, strict=True):
                args[i] = work.arguments()[i] + step * direction
            points.append(np.sum(cotangent * function(*args)))
        expected = sum(np.sum(slope * direction) for slope, direction in zip(slopes, line, strict=True))
        return float(abs((points[0] - points[1]) / 2e-6 - expected) / expected)

    def _seconds(self, what: str, compute: Callable[[], Any]) -> float:
        if what not in self.clocks:
            self.clocks[what] = Clock(compute)
        return self.clocks[what].seconds() / self.calls


class Clock:
    """Times batches of calls, of a number that is found at first; of what takes very long the first call alone."""

    def __init__(self, compute: Callable[[], Any]) -> None:
        begin = time.perf_counter()
        compute()
        self.once = time.perf_counter() - begin
        self.timer, self.n_calls = timeit.Timer(compute, setup=gc.enable), 1  # timeit disables it; users don't
        if self.once < VERY_LONG:
            while self.timer.timeit(self.n_calls) < BATCH:
                self.n_calls *= 2

    def seconds(self) -> float:
        """The time of a call."""
        return self.once if self.once >= VERY_LONG else self.timer.timeit(self.n_calls) / self.n_calls


def _leaves(found: Any) -> list[Any]:
    """What is in tuples in tuples."""
    return [leaf for item in found for leaf in _leaves(item)] if isinstance(found, tuple) else [found]


if __name__ == "__main__":
    main()
