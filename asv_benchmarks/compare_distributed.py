"""Sums over partitions in two processes, by what works: measure, and print a table.

    python asv_benchmarks/compare_distributed.py [--rounds N] [--write docs/pages/how-to/clusters.md]

The work, and the machine's best beside which it is put, are those of `benchmarks/bench_distributed.py`.
"""

import argparse
import contextlib
import os
import platform
import statistics
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks import bench_distributed as work
from compare import duration, write

GOAL = 0.85  # of the machine's best


@contextlib.contextmanager
def joblib_workers() -> Iterator[Any]:
    """Two processes of joblib's."""
    import joblib

    with joblib.Parallel(n_jobs=2) as workers:
        yield workers


@contextlib.contextmanager
def dask_workers() -> Iterator[Any]:
    """A Dask cluster of two processes, of a thread each."""
    from dask.distributed import Client, LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster, Client(cluster) as client:
        yield client


FRONTS: dict[str, tuple[str, Callable[[], Any]]] = {
    "`concurrent.futures`": ("concurrent", lambda: work.executor(2)),
    "joblib": ("joblib", joblib_workers),
    "Dask": ("distributed", dask_workers),
}


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="turns that each takes (default 3)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table between its marks in FILE")
    arguments = parser.parse_args()

    taken: dict[str, list[float]] = {"": [], **{name: [] for name, (module, _) in FRONTS.items() if find_spec(module)}}
    for _ in range(arguments.rounds):
        for name, figures in taken.items():
            figures.append(work.machines_best(2) if not name else seconds(name, work.DATA))
    best, *others = (statistics.median(figures) for figures in taken.values())
    lines = [
        f"A round (value and gradient) of a logistic regression, {work.ROWS:,} rows of {work.COLUMNS} numbers in "
        f"{work.PARTITIONS} partitions, by two processes; medians of",
        f"{arguments.rounds} alternating turns; {os.cpu_count()} processors ({platform.machine()}), "
        f"Python {platform.python_version()}. Two processes that compute alone, with no sum and no messages, take "
        f"{duration(best)}.",
        "",
        f"| `on` | a round | of the machine's best (goal {GOAL}) | a round without work |",
        "|---|---:|---:|---:|",
    ]
    for name, figure in zip(list(taken)[1:], others, strict=True):
        lines.append(f"| {name} | {duration(figure)} | {best / figure:.2f} | {duration(seconds(name, work.NO_WORK))} |")
    print("\n".join(lines))
    if arguments.write:
        write(arguments.write, "\n".join(lines), "distributed")


def seconds(name: str, partitions: list[Any]) -> float:
    """The least time of a round."""
    with FRONTS[name][1]() as workers:
        return work.seconds_a_round(workers, partitions)


if __name__ == "__main__":
    main()
