"""Measure tapegrad beside PyTorch, JAX, HIPS autograd and CasADi, where these are installed, and print two tables.

    python asv_benchmarks/compare.py [--rounds N] [--only WORDS] [--goals] [--write README.md]

The first table is of the core: leaves are made once, and gradients left as they are. The second is of what users write:
NumPy in and out, and a new vector of parameters in each call.

Every library runs the same text (`benchmarks/works.py`, handed to each by `libraries.py`) in float64 with its default
threads, and must agree on the gradients before it is measured. Each figure comes from processes of its own, since
libraries with threads disturb each other, and the libraries take turns, so that a busy moment of the machine falls on
all of them.
"""

import argparse
import gc
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import timeit
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.common import held_bytes, in_child, peak_bytes
from benchmarks.works import PEAKS, SPARE_BYTES, WORKS, WRITTEN, Work, Written, normal
from libraries import LIBRARIES

START = "import to first gradient (cached)"
BATCH = 0.1  # seconds of calls that are timed together
TIMEOUT = 300  # seconds after which a process counts as hung


def main() -> None:
    """Check, measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="turns that each library takes (default 3)")
    parser.add_argument("--only", default="", metavar="WORDS", help="only the works with these words in their titles")
    parser.add_argument("--goals", action="store_true", help="say below each row whether its goals are met")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables between the benchmark marks of FILE")
    parser.add_argument("--table", choices=("core", "written"), help="only the first, or the second")
    arguments = parser.parse_args()

    installed = [name for name in LIBRARIES if find_spec(name)]
    for table, name, titles in (("core", "benchmarks", (*WORKS, START)), ("written", "written", (*WRITTEN,))):
        if arguments.table not in (None, table):
            continue
        able = [name for name in installed if any(has_part(name, title, table) for title in titles)]
        lines = header(able, arguments.rounds, table)
        print("\n".join(lines), flush=True)
        for title in titles:
            if arguments.only not in title:
                continue
            figures = medians(table, title, able, arguments.rounds)
            lines.append(row(table, title, able, figures))
            print(lines[-1], flush=True)
            if arguments.goals:
                print("".join(f"    {line}\n" for line in goals(table, title, figures)), end="", flush=True)
        print(flush=True)
        if arguments.write:
            write(arguments.write, "\n".join(lines), name)


# --- the table --------------------------------------------------------------------------------------------------------


FIRST_LINES = {
    "core": "A loss and its gradient, leaves made once",
    "written": "As it is written: NumPy in and out, slices of a new vector in each call",
}


def header(libraries: list[str], rounds: int, table: str) -> list[str]:
    """What was compared, and the head of the table."""
    versions = ", ".join(f"{LIBRARIES[name].title} {version(name)}" for name in libraries)
    return [
        f"{FIRST_LINES[table]}; medians of {rounds} alternating rounds (in brackets: as multiples of tapegrad's);",
        f"float64, default threads, {os.cpu_count()} processors ({platform.machine()}), "
        f"Python {platform.python_version()}, {versions}.",
        'JAX runs what `jax.jit` has compiled before, rows "compiled" and "mapped" what `tg.compile` has; all else is '
        "recorded each time.",
        "",
        "| work | " + " | ".join(LIBRARIES[name].title for name in libraries) + " |",
        "|---|" + "---:|" * len(libraries),
    ]


def row(table: str, title: str, libraries: list[str], figures: dict[str, float]) -> str:
    """A row of the table: a library without a figure has a dash."""
    readable, ours = megabytes if title in PEAKS else duration, figures.get("tapegrad")
    cells = []
    for name in libraries:
        cell = readable(figures[name]) if name in figures else "\N{EN DASH}"
        if name in figures and name != "tapegrad" and ours:
            cell += f" ({times(figures[name] / ours)})"
        if name == "tapegrad" and table == "written":
            cell += f" (goal {duration(WRITTEN[title].goal)})"
        cells.append(cell)
    if title in PEAKS:
        title += f" (arrays and gradients: {megabytes(PEAKS[title].least_bytes())})"
    return f"| {title} | " + " | ".join(cells) + " |"


def duration(seconds: float) -> str:
    """Three digits and a unit."""
    unit, scale = next(((u, s) for u, s in (("s", 1), ("ms", 1e-3)) if seconds >= s), ("us", 1e-6))
    return f"{float(f'{seconds / scale:.3g}'):g} {unit}"


def times(ratio: float) -> str:
    """Two digits, of thousands too: 0.38x, 2.2x, 120x, 260,000x."""
    return f"{float(f'{ratio:.2g}'):,.10g}x"


def megabytes(n_bytes: float) -> str:
    """Millions of bytes."""
    return f"{n_bytes / 1e6:,.0f} MB"


def goals(table: str, title: str, figures: dict[str, float]) -> Iterator[str]:
    """What the work should take, and whether it does."""
    if title == START or "tapegrad" not in figures:
        return
    ours = figures["tapegrad"]
    if table == "written":
        most = WRITTEN[title].goal
        yield f"{'met' if ours <= most else 'missed'}: {duration(ours)}, goal {duration(most)}"
        return
    if title in PEAKS:
        most = PEAKS[title].least_bytes() + SPARE_BYTES
        yield f"{'met' if ours <= most else 'missed'}: {megabytes(ours)}, goal {megabytes(most)}"
    for name, most in WORKS[title].goals.items():
        if name in figures:
            share = ours / figures[name]
            yield f"{'met' if share <= most else 'missed'}: {share:.3g} of {LIBRARIES[name].title}, goal {most:g}"


def write(file: Path, table: str, name: str = "benchmarks") -> None:
    """Replace what stands between the two marks of a name."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    text, found = re.subn(f"{begin}.*{end}", lambda _: f"{begin}\n{table}\n{end}", file.read_text(), flags=re.DOTALL)
    if not found:
        sys.exit(f"{file} has no lines {begin} and {end}")
    file.write_text(text)


# --- checking and measuring: the parent's side ------------------------------------------------------------------------


def medians(table: str, title: str, libraries: list[str], rounds: int) -> dict[str, float]:
    """Each library's figure, once they agree: seconds or bytes. Those that cannot do the work have none."""
    if title == START:
        libraries, measure = [name for name in libraries if has_part(name, title, table)], start_seconds
        for name in libraries:
            measure(name, title, table)  # fills the cache
    else:
        measure = peak if title in PEAKS else seconds
        libraries = agreeing(title, libraries, table)
        rounds = 1 if title in PEAKS else rounds  # memory is the same in a busy moment
    taken = [[measure(name, title, table) for name in libraries] for _ in range(rounds)]
    return dict(zip(libraries, map(statistics.median, zip(*taken, strict=True)), strict=True))


def agreeing(title: str, libraries: list[str], table: str) -> list[str]:
    """The libraries that can do the work; ends the program unless they compute the same gradients."""
    able: dict[str, list[np.ndarray]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in libraries:
            file = f"{folder}/{name}.npz"
            if has_part(name, title, table) and child(name, title, "save_gradients", table, file):
                able[name] = list(np.load(file).values())
    (first, ours), *others = able.items()
    for name, theirs in others:
        for k, (got, expected) in enumerate(zip(ours, theirs, strict=True)):
            if not np.allclose(got, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max()):
                sys.exit(
                    f"{title}: {LIBRARIES[first].title} and {LIBRARIES[name].title} disagree on the gradient of "
                    f"parameter {k}"
                )
    return list(able)


def seconds(library: str, title: str, table: str) -> float:
    """The time of a gradient."""
    return child(library, title, "seconds_here", table)


def peak(library: str, title: str, table: str) -> float:
    """The memory that it takes."""
    return child(library, title, "peak_here", table)


def has_part(library: str, title: str, table: str) -> bool:
    """Whether a library is beside others in a row."""
    if title == START:
        return bool(LIBRARIES[library].start)
    work = work_of(title, table)
    return library not in work.without and LIBRARIES[library].takes(work)


def work_of(title: str, table: str) -> Work | Written:
    """The work of this title in a table."""
    return WORKS[title] if table == "core" else WRITTEN[title]


def start_seconds(library: str, title: str, _table: str) -> float:
    """The time from import to first gradient, in a process that has imported nothing before."""
    program = f"import time; s = time.perf_counter(); {LIBRARIES[library].start}; print(time.perf_counter() - s)"
    with ending_with(library, title):
        ran = subprocess.run(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True, timeout=TIMEOUT
        )
    return float(ran.stdout)


def child(library: str, title: str, function: str, *arguments: Any) -> Any:
    """What a function of this module, named below, returns in a process of the library's own."""
    with ending_with(library, title):
        return in_child(f"compare.{function}", library, title, *arguments, timeout=TIMEOUT)


@contextmanager
def ending_with(library: str, title: str) -> Iterator[None]:
    """End the program when a library's process has failed; what it had to say is on the terminal already."""
    try:
        yield
    except subprocess.CalledProcessError as error:
        how = f"was ended by signal {-error.returncode}" if error.returncode < 0 else "failed, as it says above"
    except subprocess.TimeoutExpired:
        how = f"has not ended in {TIMEOUT} s"
    else:
        return
    sys.exit(f"{title}: the process of {LIBRARIES[library].title} {how}")


# --- the child's side: in a process that must have no other library in it ---------------------------------------------


def save_gradients(library: str, title: str, table: str, file: str) -> bool:
    """Write what is compared, if the library has what the work needs."""
    of, work = LIBRARIES[library], work_of(title, table)
    if not work.is_possible_with(of.module()):
        return False
    found = of.compute(work)()
    np.savez(file, *(np.asarray(g.detach() if hasattr(g, "detach") else g) for g in found))
    return True


def seconds_here(library: str, title: str, table: str) -> float:
    """The median of some batches of calls."""
    work = work_of(title, table)
    compute = LIBRARIES[library].compute(work)
    compute()  # a first call compiles
    timer = timeit.Timer(compute, setup=gc.enable)  # timeit disables it; users don't
    n_calls = 1
    while (taken := timer.timeit(n_calls)) < BATCH:
        n_calls *= 2
    n_batches = 5 if taken < 1 else 2
    return statistics.median([taken, *timer.repeat(n_batches - 1, n_calls)]) / n_calls / work.per


def peak_here(library: str, title: str, _table: str) -> int:
    """What memory grows by from before the arrays are drawn. The library is loaded by then, and has its kernels."""
    work = PEAKS[title]
    LIBRARIES[library].compute(replace(work, parameters=[normal(1000)] * len(work.parameters)))()
    before = held_bytes()
    LIBRARIES[library].compute(work)()
    return peak_bytes() - before


if __name__ == "__main__":
    main()
