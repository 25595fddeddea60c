"""The text of a program (see `core/replaying.py`), and what it refers to, while it is written.

A number that is an address is written as an offset, and what it is an offset from is noted beside: the arena (memory
for all values and adjoints of the program), the text itself, the tables of regions, the registers of the thread.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tapegrad import engine
from tapegrad.core.notes import NOWHERE, STEP, TEXT
from tapegrad.kinds import address_of


class Address(NamedTuple):
    """An address that is known when the program is run."""

    base: int
    offset: int


class Text:
    """Steps, and the words behind them: each as blocks, and as the words that are to be one."""

    def __init__(self) -> None:
        self.n_held = 0  # words behind the steps
        self._steps: list[Any] = []
        self._held: list[Any] = []
        self._blocks: list[tuple[np.ndarray, np.ndarray]] = []  # of steps: words, and what each is an offset from
        self._blocks_held: list[tuple[np.ndarray, np.ndarray]] = []

    def step(self, what: int, *numbers: Any) -> None:
        """Append a step."""
        self._steps += (what, *numbers, *[0] * (STEP - 1 - len(numbers)))

    def hold(self, words: list[Any]) -> Address:
        """Have words behind the steps; their address."""
        at, self.n_held = self.n_held, self.n_held + len(words)
        self._held += words
        return Address(TEXT, 8 * at)

    def hold_all(self, words: np.ndarray, bases: np.ndarray) -> Address:
        """Have words behind the steps of which is known what each is an offset from; their address."""
        self._close()
        self._blocks_held.append((words, bases))
        at, self.n_held = self.n_held, self.n_held + len(words)
        return Address(TEXT, 8 * at)

    def extend(self, steps: np.ndarray, bases: np.ndarray, held: np.ndarray) -> None:
        """Append steps, and numbers behind all steps."""
        self._close()
        self._blocks.append((steps.ravel(), bases.ravel()))
        self.hold_all(held, np.full(len(held), NOWHERE, np.uint8))

    def _close(self) -> None:
        """Make blocks of what was written word by word."""
        for words, blocks in (self._steps, self._blocks), (self._held, self._blocks_held):
            bases = np.full(len(words), NOWHERE, np.uint8)
            for place, word in enumerate(words):
                if word.__class__ is Address:
                    words[place], bases[place] = word.offset, word.base
            if words:
                blocks.append((np.array(words, np.int64), bases))
        self._steps, self._held = [], []

    def written(self) -> Steps:
        """All steps, with what is behind them."""
        self._close()
        n = sum(len(words) for words, _ in self._blocks) // STEP
        words, bases = (np.concatenate(parts) for parts in zip(*self._blocks, *self._blocks_held, strict=True))
        return Steps(words, bases, n)


class Steps:
    """A text: steps, and words behind them; and of each word what it is an offset from."""

    def __init__(self, words: np.ndarray, bases: np.ndarray, n: int) -> None:
        self.words, self.bases, self.n = words, bases, n

    @property
    def held(self) -> np.ndarray:
        """The words behind the steps."""
        return self.words[STEP * self.n :]

    @property
    def held_bases(self) -> np.ndarray:
        """What they are offsets from."""
        return self.bases[STEP * self.n :]

    def keep(self, n: int) -> None:
        """Have so many steps, of those that there are the first."""
        n_held = len(self.held)
        for name in "words", "bases":
            array, end = getattr(self, name), STEP * n + n_held
            array[STEP * n : end] = array[STEP * self.n :]
            setattr(self, name, array[:end])
        self.n = n

    def addresses(self) -> tuple[np.ndarray, np.ndarray]:
        """The places of addresses, and what they are offsets from; those in the text are from its beginning now."""
        places, found = np.empty((2, np.count_nonzero(self.bases != NOWHERE)), np.int64)
        given = [address_of(array) for array in (self.words, self.bases, places, found)]
        engine.call("find_addresses", *given[:2], len(self.words), 8 * STEP * self.n, *given[2:])
        return places, found
