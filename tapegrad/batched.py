"""Batched tensors: what the function of one sample is given under `vmap`, in the place of each sample's tensors.

    physical   [n, 3, 4], a tensor like any other, the samples in front
    batched    [3, 4], what the function sees of it: the kind of one sample's tensor

A batched tensor has no slot. Where a row would be recorded of one, a rule of the operation's family records it of the
physical tensors (`batching.py`, which fills `rules`). What asks for a slot, or for elements, all the same has no rule,
and is told so: `NeedsSamplesError`. The innermost public function that meets it is then called once a sample; where
there is none, it is the user who asked for what one sample alone has, such as a branch by its value.

Levels nest: the physical tensor of an inner `vmap` may be one of the outer's batched ones.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from tapegrad import trees
from tapegrad.kinds import Kind, kind_of
from tapegrad.tape import current_tape
from tapegrad.tensor import Tensor

_BRANCH = (
    "vmap: It looks like you're attempting to use a Tensor in some data-dependent control flow. We don't support that "
    "yet: under vmap one call stands for all samples, which may differ in what is asked. Choose between values with "
    "tapegrad.where()"
)


class Level:
    """One application of `vmap`, while it runs."""

    __slots__ = ("depth", "is_sampling", "randomness", "size")

    def __init__(self, size: int, randomness: str) -> None:
        self.size, self.randomness, self.is_sampling = size, randomness, False
        self.depth = len(levels())


class _Levels(threading.local):
    def __init__(self) -> None:
        self.running: list[Level] = []


_levels = _Levels()


def levels() -> list[Level]:
    """The applications of `vmap` that this thread is in, the innermost last."""
    return _levels.running


class NeedsSamplesError(RuntimeError):
    """What was asked for one sample alone has; or random numbers, which differ between samples."""

    def __init__(self, message: str, level: Level) -> None:
        super().__init__(message)
        self.level = level


@contextlib.contextmanager
def entered(level: Level) -> Iterator[Level]:
    """Be in a level."""
    levels().append(level)
    try:
        yield level
    finally:
        levels().pop()


class _Nowhere:
    """In the place of a batched tensor's tape: that of no thread, which no quick way takes."""

    __slots__ = ()

    thread = 0
    grad_enabled = property(lambda _: current_tape().grad_enabled)
    of_arrays = property(lambda _: current_tape().of_arrays)


class Batched(Tensor):
    """The tensors of all samples, which the function of one takes for its own."""

    __slots__ = ("level", "physical")

    level: Level
    physical: Tensor  # with the samples along its first dimension

    _tape: Any = _Nowhere()
    _kind: Any = property(lambda self: kind_of_sample(self.physical._kind))
    __del__: Any = bool  # there is no slot whose life could end; called without arguments

    @property
    def _slot(self) -> int:  # type: ignore[override]
        raise self.refusal(".item()")

    def refusal(self, what: str) -> NeedsSamplesError:
        """The error of asking for what only one sample has."""
        return NeedsSamplesError(
            f"vmap: It looks like you're calling {what} on a Tensor. We don't support vmap over calling {what} on a "
            "Tensor, please try to rewrite what you're doing with other operations: under vmap one call stands for "
            f"all {self.level.size} samples",
            self.level,
        )

    def _array(self) -> np.ndarray:
        raise self.refusal(".item()")

    def item(self) -> Any:
        """Refused."""
        raise self.refusal(".item()")

    def tolist(self) -> Any:
        """Refused."""
        raise self.refusal(".tolist()")

    def numpy(self, **_: Any) -> Any:
        """Refused."""
        raise self.refusal(".numpy()")

    def __bool__(self) -> bool:
        if self._kind.numel == 1:
            raise NeedsSamplesError(_BRANCH, self.level)
        return bool(super().__bool__())

    def _set_kind(self, **changes: bool) -> None:
        self.physical._set_kind(**changes)

    @property
    def grad(self) -> Any:
        """The gradient that samples have accumulated, or None."""
        gradient = self.physical.grad
        return None if gradient is None else wrap(gradient, self.level)

    @grad.setter
    def grad(self, value: Any) -> None:
        self.physical.grad = None if value is None else samples_of(value, self.level)

    def __repr__(self) -> str:
        text = repr(self.physical).replace("\n", "\n    ")
        return f"BatchedTensor(lvl={self.level.depth + 1}, bdim=0, value=\n    {text}\n)"


_of_sample: dict[Kind, Kind] = {}


def kind_of_sample(kind: Kind) -> Kind:
    """The kind of one sample of a batch."""
    known = _of_sample.get(kind)
    if known is None:
        known = _of_sample[kind] = kind_of(
            kind.dtype, kind.shape[1:], kind.strides[1:], kind.requires_grad, kind.is_leaf, False
        )
    return known


def wrap(physical: Tensor, level: Level) -> Tensor:
    """The batched tensor of a level that has these samples."""
    t = object.__new__(Batched)
    t.physical, t.level = physical, level
    return t


def bottom(t: Tensor) -> Tensor:
    """The tensor with the elements of all samples of all levels."""
    while t.__class__ is Batched:
        t = t.physical
    return t


def elements(t: Tensor) -> np.ndarray:
    """The elements of all samples: for checks that don't depend on the shape."""
    return bottom(t)._array()


def innermost(operands: Iterable[Any]) -> Level | None:
    """The innermost level that one of them is batched at."""
    found: Level | None = None
    for t in operands:
        if t.__class__ is Batched and (found is None or t.level.depth > found.depth):
            found = t.level
    return found


def is_at(t: Any, level: Level) -> bool:
    """Whether it has samples of its own at this level."""
    return t.__class__ is Batched and t.level is level


def samples_of(t: Any, level: Level) -> Any:
    """The samples at a level, along the first dimension; of what is the same for all, repeated without a copy."""
    if is_at(t, level):
        return t.physical
    return t.expand(level.size, *t._kind.shape)


def of_each_sample(t: Tensor, running: list[Level] | None = None) -> Tensor:
    """Batched at all levels that run, or these: what is differentiated has a derivative for each sample."""
    made: Tensor = _batched_at(t, levels() if running is None else running)
    return made


def _batched_at(t: Any, running: list[Level]) -> Any:
    if not running:
        return t
    *outer, level = running
    if is_at(t, level):
        inner = _batched_at(t.physical, outer)
        return t if inner is t.physical else wrap(inner, level)
    return wrap(_batched_at(samples_of(t, level).clone(), outer), level)


def wrap_as(model: Tensor, t: Tensor) -> Tensor:
    """The batched tensor of one with all samples, at the levels of another."""
    return wrap(wrap_as(model.physical, t), model.level) if model.__class__ is Batched else t


@contextlib.contextmanager
def again_in(t: Tensor) -> Iterator[list[Level]]:
    """Be in the levels that a tensor is batched at, and no others: they may have ended."""
    chain, before = list[Level](), _levels.running
    while t.__class__ is Batched:
        chain.insert(0, t.level)
        t = t.physical
    _levels.running = chain
    try:
        yield chain
    finally:
        _levels.running = before


def as_batched_as(model: Any, t: Tensor) -> Tensor:
    """What is made after a model: of a batched one there is one for each sample, which can be written to."""
    if model.__class__ is not Batched:
        return t
    level = model.level
    if is_at(t, level):
        return wrap(as_batched_as(model.physical, samples_of(t, level)), level)
    inner = as_batched_as(model.physical, t)
    return wrap(inner.expand(level.size, *inner._kind.shape).clone(), level)


# By the name of a way to record a row, what does it of batched operands: `batching.py` has them.
rules: dict[str, Callable[..., Any]] = {}


def batch_of(args: Any) -> Level | None:
    """The innermost level that something in a tree of arguments is batched at."""
    return innermost(trees.leaves(args)) if levels() else None


def once_a_sample(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that runs the user's code on values: under `vmap` it is called for each sample."""

    @functools.wraps(function, updated=())
    def called(*args: Any, **facts: Any) -> Any:
        level = batch_of([list(args), facts])
        if level is None:
            return function(*args, **facts)
        asked = NeedsSamplesError(f"vmap: {function.__name__} can't be called for each sample", level)
        return rules["by samples"](asked, called, args, facts)

    return called


def draw() -> None:
    """Random numbers are about to be drawn.

    Raises
    ------
    RuntimeError
        Under `vmap` that allows none; where each sample is to have its own, one that has them drawn sample by sample.
    """
    for level in reversed(levels()):
        if level.is_sampling:
            continue
        if level.randomness == "error":
            raise RuntimeError(
                "vmap: called random operation while in randomness error mode. Please either use the 'same' or "
                "'different' randomness flags on vmap or perform the randomness operation out of vmap"
            )
        if level.randomness == "different":
            raise NeedsSamplesError("vmap: random numbers of this kind can't be drawn for each sample", level)


__all__ = [
    "Batched", "Level", "NeedsSamplesError", "again_in", "as_batched_as", "batch_of", "bottom", "draw", "elements",
    "entered", "innermost", "is_at", "kind_of_sample", "levels", "of_each_sample", "once_a_sample", "rules",
    "samples_of", "wrap", "wrap_as",
]  # fmt: skip
