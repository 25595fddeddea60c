"""What the work on partitions is done on: a class each, which gives the sum of what is computed, or each part of it.

`count` is the number of partitions in all.
"""

from __future__ import annotations

import concurrent.futures
import math
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import numpy as np

from tapegrad import trees
from tapegrad.distributed import parts
from tapegrad.distributed.parts import Order, Place
from tapegrad.vectors import Form

_LARGE_ORDER = 1 << 16  # bytes of parameters that each of Dask's tasks is not sent for itself
_SHARES_HOLD = 1.0  # seconds for which it is not asked again where Dask's partitions lie: that takes messages
_TRIES = 3  # for processes that end before their work


class Front(Protocol):
    """What works."""

    count: int

    def summed(self, order: Order) -> np.ndarray:
        """The sum over all partitions."""

    def each(self, order: Order) -> Iterable[np.ndarray]:
        """What each partition gives, in their order."""


def front_of(on: Any) -> Callable[..., Front]:
    """What makes a front for what work is done on."""
    if on is None:
        return Here
    if hasattr(on, "Allreduce"):
        return Ranks
    if isinstance(on, concurrent.futures.Executor):
        return Executor
    package = type(on).__module__.partition(".")[0]
    if package == "joblib":
        return Joblib
    if package == "distributed":
        return Dask
    if callable(on):
        return Executor
    raise TypeError(
        "work is done on None, an executor of concurrent.futures or a function that makes one, a joblib.Parallel, a "
        f"dask.distributed.Client or a communicator of mpi4py, not on {type(on).__name__}"
    )


class Here:
    """Partitions in this process, one after the other."""

    def __init__(
        self, function: Callable[..., Any], partitions: Any, on: Any, threads: int | None, progress: bool
    ) -> None:
        self.function, self.partitions, self.on, self.progress = function, _listed(partitions), on, progress
        total, at_home = uuid.uuid4().hex, parts.home()
        self.places = [Place(total, k, at_home, threads) for k in range(len(self.partitions))]
        self.count = len(self.places)

    def summed(self, order: Order) -> np.ndarray:
        """The sum over all partitions."""
        return parts.paired(list(self.each(order))) + 0.0  # no sum is -0.0, whoever added

    def each(self, order: Order) -> Iterable[np.ndarray]:
        """What each partition gives."""
        return _shown(self._each(order), self.count, self.progress)

    def _each(self, order: Order) -> Iterable[np.ndarray]:
        for k, place in enumerate(self.places):
            if callable(self.partitions[k]):
                self.partitions[k] = self.partitions[k]()
            yield parts.computed(self.function, order, self.partitions[k], place)


class Executor(Here):
    """An executor of `concurrent.futures`, or what makes one."""

    def __init__(self, function: Callable[..., Any], *facts: Any) -> None:
        super().__init__(function, *facts)
        self.makes: Any = None if isinstance(self.on, concurrent.futures.Executor) else self.on
        self.executor = self.on if self.makes is None else self._made()
        is_here = isinstance(self.executor, concurrent.futures.ThreadPoolExecutor)
        self.work: Any = _computed_here if is_here else parts.computed_there
        self.sent: Any = function if is_here else parts.packed(function)

    def _made(self) -> Any:
        made = self.makes()
        if not isinstance(made, concurrent.futures.Executor):
            raise TypeError(f"a function that work is done on makes an executor, not {type(made).__name__}")
        return made

    def _each(self, order: Order) -> Iterable[np.ndarray]:
        futures: list[Any] = [None] * self.count
        tries, k = _TRIES, 0
        while k < self.count:
            try:
                for i in range(k, self.count):
                    if futures[i] is None:
                        data, place = self.partitions[i], self.places[i]
                        futures[i] = self.executor.submit(self.work, self.sent, order, data, place)
                found = futures[k].result()
            except concurrent.futures.BrokenExecutor as error:
                tries -= 1
                if self.makes is None or not tries:
                    advice = "" if self.makes else ": give a function that makes executors, and another will do it"
                    raise type(error)(f"a worker ended before its work was done{advice}") from error
                self.executor = self._made()
                futures = [f if f is not None and f.done() and f.exception() is None else None for f in futures]
                continue
            yield found
            k += 1


class Joblib(Here):
    """A `joblib.Parallel`."""

    def __init__(self, function: Callable[..., Any], *facts: Any) -> None:
        super().__init__(function, *facts)
        self.sent = parts.packed(function)

    def _each(self, order: Order) -> Iterable[np.ndarray]:
        import joblib
        from joblib.externals.loky.process_executor import TerminatedWorkerError

        work = joblib.delayed(_marked)
        for _ in range(_TRIES):
            mark = uuid.uuid4().hex
            tasks = zip(self.partitions, self.places, strict=True)
            try:
                found = list(self.on(work(mark, self.sent, order, data, place) for data, place in tasks))
            except TerminatedWorkerError:
                continue
            if [(m, number) for m, number, _ in found] == [(mark, place.number) for place in self.places]:
                return [part for _, _, part in found]
        raise RuntimeError(f"processes of joblib's ended before their work was done, {_TRIES} times")


def _marked(mark: str, function: bytes, order: Order, partition: Any, place: Place) -> tuple[str, int, np.ndarray]:
    """What is computed, with what it is for: after a process was lost, joblib may give what was asked before."""
    from joblib.externals.loky import process_executor

    process_executor._MAX_MEMORY_LEAK_SIZE = (
        math.inf
    )  # else a process that keeps its partitions is taken to leak: it ends
    return mark, place.number, parts.computed_there(function, order, partition, place)


def _computed_here(function: Callable[..., Any], order: Order, partition: Any, place: Place) -> np.ndarray:
    return parts.computed(function, order, parts.loaded(partition, place), place)


# --- Dask -------------------------------------------------------------------------------------------------------------


class Held:
    """An object that Dask passes on as it is."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _hold(held: Held) -> Held:
    return held


def _load(held: Held) -> Any:
    return held.value() if callable(held.value) else held.value


def _together(*blocks: Any) -> tuple[Any, ...]:
    return blocks


def _each_by_dask(function: Held, order: Held, partitions: list[Any], places: list[Place]) -> list[np.ndarray]:
    return [
        parts.computed(function.value, order.value, data, place) for data, place in zip(partitions, places, strict=True)
    ]


def _summed_by_dask(
    function: Held, order: Held, partitions: list[Any], places: list[Place], count: int
) -> dict[tuple[int, int], np.ndarray]:
    """The sums of those that are neighbours, as far as the pairs of `parts.paired` go."""
    found = dict(zip([p.number for p in places], _each_by_dask(function, order, partitions, places), strict=True))
    return {part: parts.paired([found[k] for k in range(*part)]) for part in parts.aligned_of(sorted(found), count)}


class Dask:
    """A `dask.distributed.Client`: partitions lie on workers, or can be made there again.

    What is asked for is a task for each thread of a worker, which does the partitions that lie there: Dask needs some
    milliseconds for a task, of its own and in the way. Which task does a partition has no part in the sum, so that what
    is known of where they lie may be old.

    The tasks go out in one message. A client of Dask's sends one each 10 ms at most: those of the sum before are let
    go, which is a message too, when the next are on their way.
    """

    def __init__(
        self, function: Callable[..., Any], partitions: Any, on: Any, threads: int | None, progress: bool
    ) -> None:
        self.client, self.progress = on, progress
        self.total, at_home = uuid.uuid4().hex, parts.home()
        self.function = on.submit(_hold, Held(function), pure=False)
        self.partitions = self._futures(partitions)
        self.count = len(self.partitions)
        self.places = [Place(self.total, k, at_home, threads) for k in range(self.count)]
        self.shares: list[list[int]] = []
        self.shares_hold = -math.inf
        self.before: list[Any] = []  # the tasks of the last sum

    def _futures(self, partitions: Any) -> list[Any]:
        """Partitions as futures. The scheduler knows what they are made of, and so can have them made again."""
        import dask

        if isinstance(partitions, tuple) and all(_is_array(p) for p in partitions):
            pieces = [_blocks(p, partitions[0]) for p in partitions]
            delayed: Any = [dask.delayed(_together)(*blocks) for blocks in zip(*pieces, strict=True)]
            return list(self.client.compute(delayed))
        if _is_array(partitions):
            return list(self.client.compute(_blocks(partitions, partitions)))
        if hasattr(partitions, "to_delayed"):
            return list(self.client.compute(partitions.to_delayed()))
        listed = _listed(partitions)
        threads = [worker for worker, n in self.client.nthreads().items() for _ in range(n)]
        return [self._future(p, threads[k * len(threads) // len(listed) :][:1]) for k, p in enumerate(listed)]

    def _future(self, partition: Any, workers: list[str]) -> Any:
        """One of them: on these workers, so that neighbours lie together, or where Dask would have it."""
        import dask
        from distributed import Future

        if isinstance(partition, Future):
            return partition
        if dask.is_dask_collection(partition):
            return self.client.compute(partition)
        if isinstance(partition, tuple) and any(dask.is_dask_collection(p) or isinstance(p, Future) for p in partition):
            return self.client.submit(_together, *(self.client.compute(p) for p in partition), pure=False)
        where = {"workers": workers, "allow_other_workers": True} if workers else {}
        return self.client.submit(_load, Held(partition), pure=False, **where)

    def _parted(self) -> list[list[int]]:
        """The partitions, by who does them: each that lies nowhere yet, and for each thread some that lie together.

        Where many lie on a few workers, they are parted so that others can take some.
        """
        if time.monotonic() < self.shares_hold:
            return self.shares
        lie, threads = self.client.who_has(self.partitions), self.client.nthreads()
        on: dict[str, list[int]] = {}
        for k, future in enumerate(self.partitions):
            worker = next((w for w in lie.get(future.key, ()) if w in threads), f"nowhere: {k}")
            on.setdefault(worker, []).append(k)
        most = -(-self.count // max(1, sum(threads.values())))
        self.shares = [
            share.tolist()
            for worker, numbers in on.items()
            for share in np.array_split(
                numbers, max(min(threads.get(worker, 1), len(numbers)), -(-len(numbers) // most))
            )
        ]
        if on.keys() <= threads.keys():  # else they soon lie somewhere
            self.shares_hold = time.monotonic() + _SHARES_HOLD
        return self.shares

    def _tasks(self, work: Callable[..., Any], order: Order, *facts: Any) -> tuple[list[Any], list[list[int]]]:
        """A task for each share, and the shares."""
        shares, sent = self._parted(), Held(order)
        if sum(np.asarray(leaf).nbytes for leaf in trees.leaves((order.parameters, order.tangents))) > _LARGE_ORDER:
            sent = self.client.submit(_hold, sent, pure=False)
        tasks = self.client.map(
            work,
            [self.function] * len(shares),
            [sent] * len(shares),
            [[self.partitions[k] for k in share] for share in shares],
            [[self.places[k] for k in share] for share in shares],
            *([fact] * len(shares) for fact in facts),
            pure=False,
        )
        if self.progress:
            from distributed import as_completed

            done = (k for task in as_completed(tasks) for k in shares[tasks.index(task)])
            for _ in _shown(done, self.count, True):
                pass
        return tasks, shares

    def summed(self, order: Order) -> np.ndarray:
        """The sum over all partitions, taken on the workers as far as what lies there goes."""
        known: dict[tuple[int, int], np.ndarray] = {}
        self.before, _ = self._tasks(_summed_by_dask, order, self.count)
        for found in self.client.gather(self.before):
            known |= found
        return parts.gathered(known, 0, self.count) + 0.0

    def each(self, order: Order) -> Iterable[np.ndarray]:
        """What each partition gives."""
        tasks, shares = self._tasks(_each_by_dask, order)
        found: list[Any] = [None] * self.count
        for share, computed in zip(shares, self.client.gather(tasks), strict=True):
            for k, part in zip(share, computed, strict=True):
                found[k] = part
        return found


def _is_array(collection: Any) -> bool:
    return hasattr(collection, "to_delayed") and hasattr(collection, "chunks")


def _blocks(array: Any, like: Any) -> list[Any]:
    """The blocks of an array along its first dimension, of the lengths of another's, whole along all others."""
    if array.shape[:1] != like.shape[:1]:
        raise ValueError(
            f"arrays in pieces must have as many rows as each other, not {like.shape[0]} and {array.shape[0]}"
        )
    whole = array.rechunk({0: like.chunks[0], **dict.fromkeys(range(1, array.ndim), -1)})
    blocks: list[Any] = whole.to_delayed().ravel().tolist()
    return blocks


# --- MPI --------------------------------------------------------------------------------------------------------------


class Ranks:
    """A communicator of `mpi4py`: each rank has partitions of its own, and all are given the sum.

    A rank sums what it has as far as the pairs of `parts.paired` go, and enters these parts in rows of an array that is
    zero elsewhere. So the one sum over the ranks is exact, in whatever order it is taken, and the rest follows in the
    order of the partitions. The first column counts the ranks that failed.
    """

    def __init__(
        self, function: Callable[..., Any], partitions: Any, on: Any, threads: int | None, progress: bool
    ) -> None:
        self.communicator, self.rank = on, on.Get_rank()
        self.here = Here(function, partitions, None, threads, progress and self.rank == 0)
        counts = on.allgather(self.here.count)
        starts = np.cumsum([0, *counts]).tolist()
        self.count = starts[-1]
        self.start = starts[self.rank]
        self.here.places = [p._replace(number=self.start + p.number) for p in self.here.places]
        self.rows = [
            (rank, part)
            for rank in range(len(counts))
            for part in parts.aligned(starts[rank], starts[rank + 1], self.count)
        ]

    def summed(self, order: Order) -> np.ndarray:
        """The sum over all partitions of all ranks: one allreduce."""
        n = 1 if order.what == "value" else 1 + Form(order.parameters).size
        sent, failure = np.zeros((len(self.rows), 1 + n)), None
        try:
            found = list(self.here.each(order))
            for k, (rank, (start, stop)) in enumerate(self.rows):
                if rank == self.rank:
                    sent[k, 1:] = parts.paired(found[start - self.start : stop - self.start])
        except Exception as error:  # noqa: BLE001 - the other ranks wait for this one
            failure = error
            sent[0, 0] = 1.0
        received = np.empty_like(sent)
        self.communicator.Allreduce(sent, received)
        self._check(received[:, 0].sum(), failure)
        known = {part: received[k, 1:] for k, (_, part) in enumerate(self.rows)}
        return parts.gathered(known, 0, self.count) + 0.0

    def each(self, order: Order) -> Iterable[np.ndarray]:
        """What each partition of each rank gives."""
        found, failure = [], None
        try:
            found = list(self.here.each(order))
        except Exception as error:  # noqa: BLE001 - likewise
            failure = error
        received = self.communicator.allgather((failure is not None, found))
        self._check(sum(failed for failed, _ in received), failure)
        return [part for _, own in received for part in own]

    @staticmethod
    def _check(failed: float, failure: BaseException | None) -> None:
        if failure is not None:
            raise failure
        if failed:
            raise RuntimeError(f"{int(failed)} other rank(s) failed in a sum over partitions, and say there why")


# --- what all need ----------------------------------------------------------------------------------------------------


def _listed(partitions: Any) -> list[Any]:
    if hasattr(partitions, "to_delayed"):
        raise TypeError(f"a {type(partitions).__name__} is in pieces on Dask's workers: give its Client for `on`")
    try:
        return list(partitions)
    except TypeError:
        raise TypeError(f"partitions are an iterable of them, not {type(partitions).__name__}") from None


def _shown(results: Iterable[Any], count: int, progress: bool) -> Iterable[Any]:
    """The results, behind a bar."""
    if not progress:
        return results
    try:
        from tqdm.auto import tqdm
    except ImportError:
        raise ImportError("progress=True shows a bar of tqdm's, which is not installed: pip install tqdm") from None
    bar: Iterator[Any] = tqdm(results, total=count, unit="partition", leave=False)
    return bar
