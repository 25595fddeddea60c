"""How many threads sweeps use, and the workers' start. What they do is in `workers.py`."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from tapegrad import locks
from tapegrad.core import workers
from tapegrad.core.workers import C, W
from tapegrad.kernels import native
from tapegrad.kinds import address_of
from tapegrad.tape import SCRATCH_BYTES, scratch_in

_VARIABLE = "TAPEGRAD_NUM_THREADS"


def _default() -> int:
    given = os.environ.get(_VARIABLE, "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Crew:
    """The workers of this process; a forked child has none of its parent's, and starts its own."""

    def __init__(self) -> None:
        self.words = np.zeros(workers.Crew.nbytes // 8 + 8, np.int64)
        self.address = -(-address_of(self.words) // 64) * 64  # atomic words in lines of the cache of their own
        self.shared = self.words[(self.address - address_of(self.words)) // 8 :]
        self.n_started = 0
        self.kept: list[Any] = []  # the workers' scratch memory
        self.lock = threading.Lock()

    def start(self, work: Callable[..., int], n_workers: int) -> None:
        """Have `n_workers` workers."""
        with self.lock:
            if not self.kept:
                api = ctypes.pythonapi
                api.PyThread_allocate_lock.restype = ctypes.c_void_p
                for word, name in ((C.acquire, "acquire"), (C.release, "release")):
                    function = getattr(api, f"PyThread_{name}_lock")
                    self.shared[word] = ctypes.cast(function, ctypes.c_void_p).value or 0
                self.shared[C.lock] = self._new_lock()
            for i in range(self.n_started, n_workers):
                scratch = np.empty(SCRATCH_BYTES, np.uint8)
                own = C.workers + workers.Worker.nbytes // 8 * i
                self.shared[own + W.own_lock] = self._new_lock()
                self.shared[own + W.own_scratch] = scratch_in(scratch)
                self.kept.append(scratch)
                thread = threading.Thread(target=work, args=(self.address, i), name=f"tapegrad-{i}", daemon=True)
                self.n_started = (
                    i + 1
                )  # at once: Ctrl-C may come while it starts, and there must never be two of a number
                thread.start()
            self.shared[C.n_workers] = n_workers

    @staticmethod
    def _new_lock() -> int:
        """A lock of Python's that is held: who waits for it sleeps until it is released."""
        api = ctypes.pythonapi
        api.PyThread_acquire_lock.argtypes = [ctypes.c_void_p, ctypes.c_int]
        lock: int = api.PyThread_allocate_lock()
        api.PyThread_acquire_lock(lock, 1)
        return lock


_n_threads = _default()
_crew = _Crew()


def get_num_threads() -> int:
    """How many threads a sweep may use.

    By default as many as there are processors, or what the environment variable TAPEGRAD_NUM_THREADS says. Matrix
    products are shared out by BLAS, which has settings of its own. Results do not depend on the number.

    >>> import tapegrad as tg
    >>> tg.get_num_threads() >= 1
    True
    """
    return _n_threads


def set_num_threads(n: int) -> None:
    """Let sweeps use `n` threads, from the next one on.

    Raises
    ------
    RuntimeError
        If `n` is no positive int.
    ValueError
        If it doesn't fit 32 bits.

    >>> import tapegrad as tg
    >>> before = tg.get_num_threads()
    >>> tg.set_num_threads(1)
    >>> tg.get_num_threads()
    1
    >>> tg.set_num_threads(before)
    """
    global _n_threads
    if type(n) is not int:
        raise RuntimeError(f"set_num_threads expects an int, but got {type(n).__name__}")
    if n >= 1 << 31:
        raise ValueError(f"Overflow when unpacking long: there are no {n} threads")
    if n < 1:
        raise RuntimeError(f"set_num_threads expects a positive integer, but got {n}")
    _n_threads = n
    if _crew.n_started:
        _crew.shared[C.n_workers] = min(_n_workers(), _crew.n_started)
    _tell()


def start(work: Callable[..., int]) -> None:
    """Start the workers; `work` is the compiled `workers.work`."""
    _crew.start(work, _n_workers())
    _tell()


def _n_workers() -> int:
    return min(_n_threads - 1, workers.MOST_WORKERS)


def _tell() -> None:
    """Say in `state` what sweeps need to know: the crew's address (0 for one thread), whether workers are missing."""
    shares = _n_threads > 1 and native.JIT
    missing = bool(_crew.shared[C.n_workers] < _n_workers())
    state[:] = (_crew.address, missing) if shares else (0, False)
    told[0] = state[0]


def _after_fork() -> None:
    global _crew
    _of_parents.append(_crew)  # where a host function forks, a sweep goes on that knows of it
    _crew = _Crew()
    _tell()


_of_parents: list[_Crew] = []
locks.in_child.append(_after_fork)


state: list[int] = [0, False]
told = (ctypes.c_int64 * 2)()  # for jitted code: the crew's address; that of a function that says how many it may have
_tell()
