"""Time tapegrad beside PyTorch and HIPS autograd, where these are installed, and print a table.

    python asv_benchmarks/compare.py [--rounds N] [--only WORDS] [--write README.md]

Every library runs the same text (`benchmarks/works.py`) in float64 with its default threads, and must agree on the
gradients before it is timed. Each figure comes from processes of its own, since libraries with threads disturb each
other, and the libraries take turns, so that a busy moment of the machine falls on all of them.
"""

import argparse
import gc
import importlib
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import timeit
import types
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.common import in_child
from benchmarks.works import WORKS, Work, gradient

LIBRARIES = {"tapegrad": "tapegrad", "torch": "PyTorch", "autograd": "HIPS autograd"}

START = "import to first gradient (cached)"
TENSORS_START = "import {} as tg; x = tg.ones(3, requires_grad=True); (x * x).sum().backward()"
FUNCTIONS_START = "from {} import grad, numpy as np; grad(lambda x: np.sum(x * x))(np.ones(3))"


def main() -> None:
    """Check, time, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="turns that each library takes (default 3)")
    parser.add_argument("--only", default="", metavar="WORDS", help="only the works with these words in their titles")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table between the benchmark marks of FILE")
    arguments = parser.parse_args()

    libraries = [name for name in LIBRARIES if find_spec(name)]
    lines = header(libraries, arguments.rounds)
    print("\n".join(lines), flush=True)
    for title in (*WORKS, START):
        if arguments.only in title:
            lines.append(row(title, libraries, arguments.rounds))
            print(lines[-1], flush=True)
    if arguments.write:
        write(arguments.write, "\n".join(lines))


# --- the table --------------------------------------------------------------------------------------------------------


def header(libraries: list[str], rounds: int) -> list[str]:
    """What was compared, and the head of the table."""
    versions = ", ".join(f"{LIBRARIES[name]} {version(name)}" for name in libraries)
    return [
        f"A loss and its gradient, medians of {rounds} alternating rounds (in brackets: as multiples of tapegrad's);",
        f"float64, default threads, {os.cpu_count()} processors ({platform.machine()}), "
        f"Python {platform.python_version()}, {versions}.",
        "",
        "| work | " + " | ".join(LIBRARIES[name] for name in libraries) + " |",
        "|---|" + "---:|" * len(libraries),
    ]


def row(title: str, libraries: list[str], rounds: int) -> str:
    """A row of the table."""
    if title != START:
        check(title, libraries)
    taken = [[seconds(name, title) for name in libraries] for _ in range(rounds)]
    medians = [statistics.median(times) for times in zip(*taken, strict=True)]
    ours = medians[0]
    cells = [readable(ours), *(f"{readable(theirs)} ({theirs / ours:.2g}x)" for theirs in medians[1:])]
    return f"| {title} | " + " | ".join(cells) + " |"


def readable(seconds: float) -> str:
    """Three digits and a unit."""
    unit, scale = next(((u, s) for u, s in (("s", 1), ("ms", 1e-3)) if seconds >= s), ("us", 1e-6))
    return f"{float(f'{seconds / scale:.3g}'):g} {unit}"


def write(file: Path, table: str) -> None:
    """Replace what stands between the two marks."""
    begin, end = "<!-- benchmarks:begin -->", "<!-- benchmarks:end -->"
    text, found = re.subn(f"{begin}.*{end}", lambda _: f"{begin}\n{table}\n{end}", file.read_text(), flags=re.DOTALL)
    if not found:
        sys.exit(f"{file} has no lines {begin} and {end}")
    file.write_text(text)


# --- checking and timing ----------------------------------------------------------------------------------------------


def check(title: str, libraries: list[str]) -> None:
    """End the program unless all libraries compute the same gradients."""
    with tempfile.TemporaryDirectory() as folder:
        files = [f"{folder}/{name}.npz" for name in libraries]
        for name, file in zip(libraries, files, strict=True):
            in_child("compare.save_gradients", name, title, file)
        ours, *others = [list(np.load(file).values()) for file in files]
    for name, theirs in zip(libraries[1:], others, strict=True):
        for k, (got, expected) in enumerate(zip(ours, theirs, strict=True)):
            if not np.allclose(got, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max()):
                sys.exit(f"{title}: tapegrad and {LIBRARIES[name]} disagree on the gradient of parameter {k}")


def seconds(library: str, title: str) -> float:
    """The time of the work, in a process of its own."""
    if title != START:
        return in_child("compare.seconds_here", library, title)
    start = (FUNCTIONS_START if library == "autograd" else TENSORS_START).format(library)
    program = f"import time; start = time.perf_counter(); {start}; print(time.perf_counter() - start)"
    child = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    return float(child.stdout)


def seconds_here(library: str, title: str) -> float:
    """The median of five batches of at least 0.2 s, in this process, which must have no other library in it."""
    work = WORKS[title]
    timer = timeit.Timer(gradient_with(library, work), setup=gc.enable)  # timeit disables it; users don't
    n_calls, _ = timer.autorange()
    return statistics.median(timer.repeat(5, n_calls)) / n_calls / work.per


def save_gradients(library: str, title: str, file: str) -> None:
    """What is compared."""
    np.savez(file, *(np.asarray(g) for g in gradient_with(library, WORKS[title])()))


def gradient_with(library: str, work: Work) -> Callable[[], list[Any]]:
    """A function that computes the work's gradients once."""
    if library == "autograd":
        return gradient_with_functions(work)
    module = importlib.import_module(library)
    module.set_default_dtype(module.float64)
    return gradient(module, work)


def gradient_with_functions(work: Work) -> Callable[[], list[Any]]:
    """HIPS autograd differentiates a function; two that its NumPy lacks are defined here."""
    from autograd import grad, numpy
    from autograd.scipy.special import logsumexp

    module = types.SimpleNamespace(
        **vars(numpy),
        relu=lambda x: numpy.maximum(x, 0.0),
        log_softmax=lambda x, axis: x - logsumexp(x, axis=axis, keepdims=True),
    )
    parameters, constants = work.arrays()
    differentiated = grad(lambda parameters: work.loss(module, *parameters, *constants))
    return lambda: differentiated(parameters)


if __name__ == "__main__":
    main()
