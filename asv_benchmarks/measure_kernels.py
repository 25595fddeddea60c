"""Gradients of small jitted kernels as multiples of the kernels' own time: measure, and print a table.

    python asv_benchmarks/measure_kernels.py [--only WORDS]

The kernels are in `benchmarks/jitted_kernels.py`, with goals. Times are of the processor, on one thread, the least of
some rounds: they tell how a change of tapegrad does, on any machine. Other libraries are in `compare_jitted.py`.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

from benchmarks.jitted_kernels import kernels
from compare import duration

from tapegrad import func, jitted

ROUNDS, ROUND = 7, 0.02  # seconds: what a round takes at least


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="WORDS", help="only the kernels with these words in their titles")
    words = parser.parse_args().only
    print("| kernel | itself | its gradient | goal | tape |\n|---|---:|---:|---:|---:|")
    for title, (function, args, goal) in kernels().items():
        if words in title:
            gradient = func.grad(function)
            primal = seconds(lambda f=function, a=args: f(*a))
            jitted.free()
            ours = seconds(lambda g=gradient, a=args: g(*a))
            print(
                f"| {title} | {duration(primal)} | {duration(ours)} ({ours / primal:.1f}x) | {goal}x "
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
