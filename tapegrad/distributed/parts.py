"""What is done with one partition, in whichever process it lies, and how the results are summed."""

from __future__ import annotations

import functools
import os
import pickle
import uuid
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tapegrad import autograd, func, threads, trees
from tapegrad.tensor import Tensor
from tapegrad.vectors import Form

_PROCESS = uuid.uuid4().hex  # which a forked child has too, but with another number
_MOST_KEPT = 8  # sums whose loaded partitions a process keeps


class Order(NamedTuple):
    """What is asked for: value, value_and_grad, hvp, residuals or jacobian; where, and along what."""

    what: str
    parameters: Any
    tangents: Any = None


class Place(NamedTuple):
    """Which partition of which sum it is, and what workers must know of it."""

    total: str
    number: int
    home: tuple[str, int]
    threads: int | None


def home() -> tuple[str, int]:
    """The process that this is."""
    return _PROCESS, os.getpid()


def computed(function: Callable[..., Any], order: Order, partition: Any, place: Place) -> np.ndarray:
    """What is asked for, of one partition: a vector of the value and a derivative, or residuals, or their Jacobian."""
    if place.threads is not None and place.home != home():
        threads.set_num_threads(place.threads)
    try:
        data = partition if isinstance(partition, tuple) else (partition,)
        return _RULES[order.what](function, order, data)
    except Exception as error:
        error.add_note(f"in partition {place.number} of a tapegrad.distributed.PartitionedSum")
        raise


def _value(function: Callable[..., Any], order: Order, data: tuple[Any, ...]) -> np.ndarray:
    with autograd.no_grad():
        return np.array([_number(function(order.parameters, *data))])


def _value_and_grad(function: Callable[..., Any], order: Order, data: tuple[Any, ...]) -> np.ndarray:
    value, gradient = func.value_and_grad(function)(order.parameters, *data)
    return _joined(value, gradient, order)


def _hvp(function: Callable[..., Any], order: Order, data: tuple[Any, ...]) -> np.ndarray:
    value, found = func.hvp(function, (order.parameters, *data), (order.tangents, *(None for _ in data)))
    return _joined(value, found[0], order)


def _residuals(function: Callable[..., Any], order: Order, data: tuple[Any, ...]) -> np.ndarray:
    with autograd.no_grad():
        return np.ravel(_array(function(order.parameters, *data))).astype(np.float64)


def _jacobian(function: Callable[..., Any], order: Order, data: tuple[Any, ...]) -> np.ndarray:
    form = Form(order.parameters)
    found = trees.matched(form.structure, func.jacobian(function)(order.parameters, *data))
    if found is None:
        raise TypeError("a function whose Jacobian is asked for returns one array for each partition")
    columns = [_array(block).reshape(-1, leaf.numel) for block, leaf in zip(found, form.like, strict=True)]
    return np.concatenate(columns, 1).astype(np.float64, copy=False)


_RULES = {
    "value": _value, "value_and_grad": _value_and_grad, "hvp": _hvp, "residuals": _residuals, "jacobian": _jacobian
}  # fmt: skip


def _joined(value: Any, derivative: Any, order: Order) -> np.ndarray:
    form = Form(order.parameters)
    return np.concatenate([[_number(value)], form.vector(derivative, "a derivative")])


def _number(value: Any) -> float:
    if np.shape(value):
        raise ValueError(
            f"a function that is summed over partitions returns a number, not an array of shape {list(np.shape(value))}"
        )
    return float(_array(value))


def _array(value: Any) -> np.ndarray:
    return value.detach().numpy() if isinstance(value, Tensor) else np.asarray(value)


# --- the sum ----------------------------------------------------------------------------------------------------------


def paired(rows: Sequence[np.ndarray]) -> np.ndarray:
    """The sum of neighbours, of such sums, and so on.

    So is that of aligned parts of it, each of a power of two: parts may be summed apart.
    """
    rows = list(rows)
    while len(rows) > 1:
        rows = [rows[i] + rows[i + 1] if i + 1 < len(rows) else rows[i] for i in range(0, len(rows), 2)]
    return rows[0]


def aligned(start: int, stop: int, end: int) -> list[tuple[int, int]]:
    """The parts of `paired` over `end` rows, as large as can be, that those from `start` to `stop` make up.

    >>> from tapegrad.distributed.parts import aligned
    >>> aligned(0, 5, 7), aligned(5, 7, 7)
    ([(0, 4), (4, 5)], [(5, 6), (6, 7)])
    """
    found = []
    while start < stop:
        length = 1
        while start % (2 * length) == 0 and min(start + 2 * length, end) <= stop and start + length < end:
            length *= 2
        found.append((start, min(start + length, end)))
        start = found[-1][1]
    return found


def aligned_of(numbers: Sequence[int], end: int) -> list[tuple[int, int]]:
    """The parts of `paired` over `end` rows that these rows, in order, make up.

    >>> from tapegrad.distributed.parts import aligned_of
    >>> aligned_of([0, 1, 3, 4, 5], 6)
    [(0, 2), (3, 4), (4, 6)]
    """
    starts = [k for k in numbers if k - 1 not in numbers]
    stops = [k + 1 for k in numbers if k + 1 not in numbers]
    return [part for start, stop in zip(starts, stops, strict=True) for part in aligned(start, stop, end)]


def gathered(parts: dict[tuple[int, int], np.ndarray], start: int, stop: int) -> np.ndarray:
    """The sum from `start` to `stop` of what is known of its parts."""
    known = parts.get((start, stop))
    if known is not None:
        return known
    half = 1
    while 2 * half < stop - start:
        half *= 2
    return gathered(parts, start, start + half) + gathered(parts, start + half, stop)


# --- what processes are sent, and keep --------------------------------------------------------------------------------

_kept: dict[str, dict[int, Any]] = {}


def loaded(partition: Any, place: Place) -> Any:
    """A partition; one that is loaded is kept in this process."""
    if not callable(partition):
        return partition
    known = _kept.setdefault(place.total, {})
    while len(_kept) > _MOST_KEPT:
        del _kept[next(iter(_kept))]
    if place.number not in known:
        known[place.number] = partition()
    return known[place.number]


def packed(function: Callable[..., Any]) -> bytes:
    """A function as another process can read it: any where there is cloudpickle, else one of a module, by its name."""
    try:
        import cloudpickle as pickler
    except ImportError:
        pickler = pickle
    try:
        sent: bytes = pickler.dumps(function)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        advice = "" if pickler is not pickle else ": functions of a module can, and with cloudpickle installed others"
        raise TypeError(f"{function!r} can't be sent to another process ({error}){advice}") from error
    return sent


@functools.lru_cache(_MOST_KEPT)
def unpacked(function: bytes) -> Callable[..., Any]:
    """The function: the same at each call, so that what it has compiled or learnt stays."""
    made: Callable[..., Any] = pickle.loads(function)
    return made


def computed_there(function: bytes, order: Order, partition: Any, place: Place) -> np.ndarray:
    """`computed`, of what a process was sent."""
    return computed(unpacked(function), order, loaded(partition, place), place)
