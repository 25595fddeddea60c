"""Large arguments, tensors and results, which a program reads and writes where they lie, and not in its arena.

The text of a thread has their addresses in the place of the arena's. That may be so of what no step writes to, and of
a result that begins anew at each call: of the walk that `validation.py` takes through a text is known what steps touch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tapegrad.core.notes import ARENA, STEP
from tapegrad.core.replaying import END
from tapegrad.kinds import address_of, numbers_at
from tapegrad.replay.validation import Checker, InvalidError, kernel_at_address
from tapegrad.replay.watch import Result, extent
from tapegrad.tape import TABLES
from tapegrad.tensor import Tensor, owning

LEAST_BYTES = 1 << 15  # from which a copy takes longer than to write other addresses
MOST_SHORT = 1 << 17  # bytes of the arena of a program that native code runs: there nothing is bound
_MOST_STEPS = 256  # of a program that is looked at


class Place:
    """Elements that are at their home in the arena, or elsewhere."""

    __slots__ = ("at", "home", "kind", "memory", "words")

    def __init__(self, memory: Any, program: Any, offset: int, kind: Any) -> None:
        self.memory, self.kind = memory, kind
        self.at: int = memory.at + offset
        self.home = self.at
        words = program.places[program.bases == ARENA]
        of = program.text[words] - offset
        self.words = words[(of >= 0) & (of < extent(kind))]  # of the text, that lead there

    def put(self, address: int) -> None:
        """Have them at an address from now on."""
        if address != self.at:
            self.memory.text[self.words] += address - self.at
            self.memory.tables[TABLES] = 0  # the image of a region that was loaded has the old ones
            self.at = address

    def go_home(self) -> int:
        """Have them in the arena; where there."""
        self.put(self.home)
        return self.at

    def gives(self, array: Any) -> bool:
        """Whether these are an array's elements, from now on."""
        is_fit = (
            array.__class__ is np.ndarray and array.dtype == self.kind.dtype.numpy and array.shape == self.kind.shape
            and array.flags.c_contiguous and array.flags.aligned
        )  # fmt: skip
        self.put(address_of(array) if is_fit else self.home)
        return is_fit


class Made:
    """A result whose elements a program writes to an array of their own."""

    __slots__ = ("array", "is_tensor", "place", "view")

    def __init__(self, place: Place, view: np.ndarray, is_tensor: bool) -> None:
        self.place, self.view, self.is_tensor = place, view, is_tensor
        self.array: Any = None

    def begin(self, binds: bool) -> None:
        """Have an array for the next run; or it is made in the arena."""
        self.array = np.empty_like(self.view) if binds else None
        self.place.put(address_of(self.array) if binds else self.place.home)

    def __call__(self) -> Any:
        """It, after the run."""
        array, self.array = self.view.copy() if self.array is None else self.array, None
        return owning(array, self.place.kind.dtype, False) if self.is_tensor else array


def bindable(program: Any) -> set[int]:
    """The offsets of what may be elsewhere: what is copied in, and results."""
    if program.size <= MOST_SHORT or int(np.argmax(program.text[::STEP] == END)) > _MOST_STEPS:
        return set()
    bases = dict(zip(program.places.tolist(), program.bases.tolist(), strict=True))
    checker = Checker(program.text.tolist(), bases, program.size, kernel_at_address, numbers_at)
    try:
        checker.check()
    except InvalidError:
        return set()
    given = [(offset, kind) for offset, kind, source in program.copied if type(source) is not np.ndarray]
    given += [(offset, kind) for offset, _, _, kind in program.captured]
    made = [(of.offset, of.kind) for of in program._made() if of.offset >= 0]
    kept = [(seen.offset, seen.nbytes) for seen in program.seen]
    kept += [(offset, len(content)) for offset, content in program.contents]
    kept += [(offset, extent(kind)) for offset, kind in (*given, *made)]
    kept += [(offset, extent(kind)) for offset, kind, source in program.copied if type(source) is np.ndarray]
    results = [(of.offset, of.kind) for of in program.results if _is_array(of)]

    def is_apart(offset: int, kind: Any, may_write: bool) -> bool:
        end = offset + extent(kind)
        touched = [of for of in checker.reaches if of[0] < end and offset < of[1]]
        return (
            extent(kind) >= LEAST_BYTES and kind.contiguous
            and sum(at < end and offset < at + n for at, n in kept) == 1
            and all(offset <= low and high <= end and (may_write or not writes) for low, high, writes in touched)
        )  # fmt: skip

    found = {offset for offset, kind in given if is_apart(offset, kind, False)}
    return found | {offset for offset, kind in results if is_apart(offset, kind, True)}


def _is_array(of: Any) -> bool:
    """Whether a result is an array, or a Tensor, of elements as they are in the arena."""
    return isinstance(of, Result) and (of.like is Tensor or of.like == of.kind.dtype.numpy)


def fitting(program: Any, memory: Any, kinds: Sequence[tuple[int, Any]]) -> list[Place | None]:
    """The places of what may be elsewhere."""
    return [Place(memory, program, at, kind) if at in program.bindable else None for at, kind in kinds]
