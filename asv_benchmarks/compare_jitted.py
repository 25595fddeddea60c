"""Gradients of jitted functions beside JAX and PyTorch: check that they agree, measure, and print a table.

    python asv_benchmarks/compare_jitted.py [--rounds N] [--only WORDS] [--write README.md]

Each figure comes from a process of its own, with the library's default threads, and the libraries take turns. The
jitted functions are in `benchmarks/jitted_works.py`; what JAX and PyTorch run in their place is in `jitted_peers.py`.
"""

import argparse
import gc
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.common import in_child
from benchmarks.jitted_works import works
from compare import BATCH, duration, write
from jitted_peers import GRADIENTS, TITLES

LONG, VERY_LONG = 1.0, 20.0  # seconds: one call a round must do, one call must do
TIMEOUT = 600  # seconds after which a process counts as hung


def main() -> None:
    """Check, measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="turns that each library takes (default 3)")
    parser.add_argument("--only", default="", metavar="WORDS", help="only the works with these words in their titles")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table between the jitted marks of FILE")
    arguments = parser.parse_args()

    installed = [name for name in GRADIENTS if find_spec(name)]
    lines = header(installed, arguments.rounds)
    print("\n".join(lines), flush=True)
    for title in works():
        if arguments.only in title:
            lines.append(row(title, installed, arguments.rounds))
            print(lines[-1], flush=True)
    if arguments.write:
        write(arguments.write, "\n".join(lines), "jitted")


def header(libraries: list[str], rounds: int) -> list[str]:
    """What was compared, and the head of the table."""
    versions = ", ".join(f"{TITLES[name]} {version(name)}" for name in libraries)
    others = [TITLES[name] for name in libraries if name != "tapegrad"]
    return [
        f"Gradients of functions jitted by Numba, medians of {rounds} alternating rounds; in brackets as multiples of",
        "the function's own time, with the goal, and of tapegrad's. Float64, default threads, "
        f"{os.cpu_count()} processors ({platform.machine()}),",
        f"Python {platform.python_version()}, {versions}; PyTorch is eager, JAX compiled before.",
        "",
        "| work | the function | tapegrad | its first gradient, cold / cached |"
        + "".join(f" {name} |" for name in others),
        "|---|---:|---:|---:|" + "---:|" * len(others),
    ]


def row(title: str, libraries: list[str], rounds: int) -> str:
    """A row of the table."""
    goal = works()[title][2]
    cells, able = check(title, libraries)
    taken: dict[str, list[list[float]]] = {name: [] for name in able}
    for _ in range(rounds):
        for name, figures in taken.items():
            if not figures or figures[-1][-1] < VERY_LONG:
                figures.append(in_child("compare_jitted.seconds_here", name, title, timeout=TIMEOUT))
    primal, ours = (statistics.median(column) for column in zip(*taken["tapegrad"], strict=True))
    with tempfile.TemporaryDirectory() as folder:
        cold, cached = (in_child("compare_jitted.first_here", title, folder, timeout=TIMEOUT) for _ in range(2))
    for name in able:
        theirs = statistics.median(figures[-1] for figures in taken[name])
        once = ", run once" if theirs >= VERY_LONG else ""
        cells[name] = f"{duration(theirs)} ({theirs / ours:.2g}x{once})"
    first = f"| {title} | {duration(primal)} | {duration(ours)} ({ours / primal:.1f}x, goal {goal}x) "
    rest = "".join(f"| {cells[name]} " for name in libraries if name != "tapegrad")
    return f"{first}| {cold:.2f} s / {cached:.2f} s {rest}|"


def check(title: str, libraries: list[str]) -> tuple[dict[str, str], list[str]]:
    """Why libraries can't do the work, and those that can; ends the program unless they compute the same gradient."""
    cells: dict[str, str] = {}
    gradients: dict[str, np.ndarray] = {}
    for name in libraries:
        found = in_child("compare_jitted.gradient_here", name, title, timeout=TIMEOUT)
        if isinstance(found, str):
            cells[name] = found
        else:
            gradients[name] = np.asarray(found)
    expected = gradients["tapegrad"]
    for name, got in gradients.items():
        error = np.abs(got - expected).max() / np.abs(expected).max()
        if not error < 1e-8:
            sys.exit(f"{title}: the gradients of tapegrad and {TITLES[name]} differ by {error:.1e}")
    return cells, list(gradients)


# --- the child's side: in a process that must have no other library in it ---------------------------------------------


def computation(library: str, title: str) -> Callable[[], Any] | str:
    """What computes the gradient of a work, or why the library can't."""
    function, args, _ = works()[title]
    return GRADIENTS[library](function.__name__, args)


def gradient_here(library: str, title: str) -> Any:
    """The gradient, or why there is none."""
    compute = computation(library, title)
    return compute if isinstance(compute, str) else compute().tolist()


def seconds_here(library: str, title: str) -> list[float]:
    """The time of a gradient; of tapegrad, before it, that of the function."""
    function, args, _ = works()[title]
    found = [seconds(lambda: function(*args))] if library == "tapegrad" else []
    compute = computation(library, title)
    assert not isinstance(compute, str)
    return [*found, seconds(compute)]


def seconds(compute: Callable[[], Any]) -> float:
    """The median of some batches of calls; of a long one a call, after a first, which may compile."""
    taken = math.inf
    for _ in range(2):
        begin = time.perf_counter()
        compute()
        taken = min(taken, time.perf_counter() - begin)
        if taken >= VERY_LONG:
            return taken
    if taken >= LONG:
        return taken
    timer = timeit.Timer(compute, setup=gc.enable)  # timeit disables it; users don't
    n_calls = 1
    while (taken := timer.timeit(n_calls)) < BATCH:
        n_calls *= 2
    return statistics.median([taken, *timer.repeat(4, n_calls)]) / n_calls


def first_here(title: str, folder: str) -> float:
    """The time of tapegrad's first gradient, of a function that is compiled, in a process with a cache of its own."""
    program = (
        "import sys, time\n"
        "from compare_jitted import computation, works\n"
        "function, args, _ = works()[sys.argv[1]]\n"
        "function(*args)\n"
        "compute = computation('tapegrad', sys.argv[1])\n"
        "begin = time.perf_counter()\n"
        "compute()\n"
        "print(time.perf_counter() - begin)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, title], env={**os.environ, "TAPEGRAD_CACHE_DIR": folder},
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return float(ran.stdout)


if __name__ == "__main__":
    main()
