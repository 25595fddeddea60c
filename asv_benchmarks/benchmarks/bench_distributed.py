"""Sums over partitions in two processes: how much of twice one process's speed is there, and what a round costs."""

import functools
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

import tapegrad as tg
from tapegrad.distributed import PartitionedSum

from .common import QUICK

_ROOT = str(Path(__file__).resolve().parents[1])
ROWS, COLUMNS, PARTITIONS = (10_000 if QUICK else 10_000_000), 10, 8
ROUNDS = 1 if QUICK else 10


def partition(k):
    """A part of the rows of a logistic regression."""
    generator = np.random.default_rng(k)
    x = generator.standard_normal((ROWS // PARTITIONS, COLUMNS))
    return x, np.sign(x[:, 0] + generator.standard_normal(len(x)))


def nothing():
    """A partition that is no work."""
    return np.zeros((1, COLUMNS)), np.ones(1)


def loss(w, x, y):
    """The likelihood of the signs y."""
    return tg.sum(tg.nn.functional.softplus(-y * (x @ w)))


def executor(n):
    """So many processes, which begin anew."""
    if _ROOT not in sys.path:  # asv imports this package in a way of its own, which new processes don't know
        sys.path.append(_ROOT)
    return ProcessPoolExecutor(n, multiprocessing.get_context("spawn"))


def seconds_a_round(n, partitions):
    """The least time of a value and gradient, in so many processes of one thread each."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # the processes begin with it
    with executor(n) as workers:
        total = PartitionedSum(loss, partitions, workers)
        # A process may be given any partition: after some rounds each has loaded all.
        for _ in range(1 if QUICK else 8):
            total.value_and_grad(np.zeros(COLUMNS))
        times = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            total.value_and_grad(np.full(COLUMNS, 0.1))
            times.append(time.perf_counter() - start)
    return min(times)


class Distributed:
    """Logistic regression, 10^7 rows of 10 numbers in 8 partitions."""

    timeout = 900

    def track_efficiency_of_two_processes(self):
        """The time in one process, by twice that in two: the rows come from memory, which the processes share."""
        data = [functools.partial(partition, k) for k in range(PARTITIONS)]
        return seconds_a_round(1, data) / (2.0 * seconds_a_round(2, data))

    def track_overhead_of_a_round(self):
        """Seconds of a round of 8 partitions in two processes, without work."""
        return seconds_a_round(2, [nothing] * PARTITIONS)

    track_overhead_of_a_round.unit = "s"
