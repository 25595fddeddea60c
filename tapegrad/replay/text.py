"""The text of a program (see `core/replaying.py`), and what it refers to, while it is written.

A number that is an address is written as an offset, and what it is an offset from is noted beside: the arena (memory
for all values and adjoints of the program), the text itself, the tables of regions, the registers of the thread.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tapegrad.core.replaying import STEP

ARENA, TEXT, TABLES, SCRATCH = range(4)


class Address(NamedTuple):
    """An address that is known when the program is run."""

    base: int
    offset: int


class Text:
    """Steps, and the words behind them."""

    def __init__(self) -> None:
        self.steps: list[list[Any]] = []
        self.words: list[Any] = []  # behind the steps

    def step(self, what: int, *numbers: Any) -> None:
        """Append a step."""
        self.steps.append([what, *numbers, *[0] * (STEP - 1 - len(numbers))])

    def hold(self, words: list[Any]) -> Address:
        """Have words behind the steps; their address."""
        at = len(self.words)
        self.words += words
        return Address(TEXT, 8 * at)

    def written(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The text; the places of addresses in it, and what they are offsets from."""
        behind = 8 * STEP * len(self.steps)
        words: list[Any] = [word for step in self.steps for word in step] + self.words
        places, bases = [], []
        for place, word in enumerate(words):
            if word.__class__ is Address:
                places.append(place)
                bases.append(word.base)
                words[place] = word.offset + (behind if word.base == TEXT else 0)
        return np.array(words, np.int64), np.array(places, np.int64), np.array(bases, np.int64)
