"""Derivatives of jitted functions as multiples of the functions' own time: measure, and print a table.

    python asv_benchmarks/measure_kernels.py [--only WORDS]

The works are those of `compare_jitted.py`, in `benchmarks/jitted_works`. Times are of the processor, on one thread, the
least of some rounds, all in this process: they tell how a change of tapegrad does, on any machine.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

from benchmarks.jitted_works.in_numba import derivative, primal
from benchmarks.jitted_works.table import CALLS, WORKS
from compare import duration

from tapegrad import jitted

ROUNDS, ROUND = 7, 0.02  # seconds: what a round takes at least


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="WORDS", help="only the works with these words in their titles")
    words = parser.parse_args().only
    print("| work | itself | its derivative | goals | tape |\n|---|---:|---:|---|---:|")
    for title, work in WORKS.items():
        if words in title:
            per = CALLS if work.way == "calls" else 1
            alone = seconds(primal(work)) / per
            jitted.free()
            ours = seconds(derivative(work)) / per
            goals = ", ".join(f"{most:g} ({of})" for of, most in work.goals.items())
            print(
                f"| {title} | {duration(alone)} | {duration(ours)} ({ours / alone:.1f}x) | {goals} "
                f"| {jitted.nbytes() / 1e6:.1f} MB |",
                flush=True,
            )


def seconds(compute: Callable[[], Any]) -> float:
    """The least processor time of a call, after a first, which may compile."""
    compute()
    n_calls, taken, least = 1, 0.0, float("inf")
    for _ in range(ROUNDS):
        while True:
            begin = time.thread_time()
            for _ in range(n_calls):
                compute()
            taken = time.thread_time() - begin
            if taken >= ROUND:
                break
            n_calls *= 2
        least = min(least, taken / n_calls)
    return least


if __name__ == "__main__":
    main()
