"""Sums over partitions in two processes: how much of the machine's best is there, and what a round costs."""

import functools
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import tapegrad as tg
from tapegrad.distributed import PartitionedSum

from .common import QUICK

_ROOT = str(Path(__file__).resolve().parents[1])
ROWS, COLUMNS, PARTITIONS = (10_000 if QUICK else 10_000_000), 10, 8
WARM_UP, ROUNDS = (1, 1) if QUICK else (8, 10)


def partition(k):
    """A part of the rows of a logistic regression."""
    generator = np.random.default_rng(k)
    x = generator.standard_normal((ROWS // PARTITIONS, COLUMNS))
    return x, np.sign(x[:, 0] + generator.standard_normal(len(x)))


def nothing():
    """A partition that is no work."""
    return np.zeros((1, COLUMNS)), np.ones(1)


DATA = [functools.partial(partition, k) for k in range(PARTITIONS)]
NO_WORK = [nothing] * PARTITIONS


def loss(w, x, y):
    """The likelihood of the signs y."""
    return tg.sum(tg.nn.functional.softplus(-y * (x @ w)))


def executor(n):
    """So many processes, which begin anew, with a thread each."""
    if _ROOT not in sys.path:  # asv imports this package in a way of its own, which new processes don't know
        sys.path.append(_ROOT)
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # they begin with it
    return ProcessPoolExecutor(n, multiprocessing.get_context("spawn"))


def least(one_round: Callable[[Any], Any]) -> float:
    """The least seconds of some rounds: a process may be given any partition, so that after some each has them all."""
    times = []
    for k in range(WARM_UP + ROUNDS):
        start = time.perf_counter()
        one_round(np.full(COLUMNS, 0.1 + 0.01 * k))
        times.append(time.perf_counter() - start)
    return min(times[WARM_UP:])


def seconds_a_round(workers, partitions):
    """The time of a value and gradient."""
    return least(PartitionedSum(loss, partitions, workers).value_and_grad)


def in_processes(n, partitions):
    """That in so many processes of one thread each."""
    with executor(n) as workers:
        return seconds_a_round(workers, partitions)


def bare_seconds(share):
    """The time of a share of the partitions, one after another, in this process: no sum, no messages."""
    tg.set_num_threads(1)
    data, slope = [load() for load in share], tg.func.value_and_grad(loss)
    return least(lambda w: [slope(w, x, y) for x, y in data])


def machines_best(n):
    """What the rows take if each of so many processes does its share by itself, all at the same time."""
    with executor(n) as workers:
        return max(workers.map(bare_seconds, [DATA[k::n] for k in range(n)]))


class Distributed:
    """Logistic regression, 10^7 rows of 10 numbers in 8 partitions."""

    timeout = 900

    def track_part_of_the_machines_best(self):
        """Two processes that compute alone, by a sum in two: what the sum, and its messages, leave."""
        return machines_best(2) / in_processes(2, DATA)

    def track_speed_up_by_two_processes(self):
        """The time in one process, by that in two: the rows come from memory, which the processes share."""
        return in_processes(1, DATA) / in_processes(2, DATA)

    def track_overhead_of_a_round(self):
        """Seconds of a round of 8 partitions in two processes, without work."""
        return in_processes(2, NO_WORK)

    track_overhead_of_a_round.unit = "s"
