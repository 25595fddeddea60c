"""Where a program in lanes has its elements: words of its steps, which become offsets once all places are given."""

from __future__ import annotations

from typing import NamedTuple


class Lanes(NamedTuple):
    """Where elements are that have lanes: an offset in the arena of the program, or behind it."""

    at: int


class Uniform(NamedTuple):
    """Where elements are that are the same for all lanes: an offset in what lies behind these; the bytes of one."""

    at: int
    size: int


class Behind(NamedTuple):
    """A word: where something is, from the beginning of an arena."""

    at: int


class Times(NamedTuple):
    """A number that is to be multiplied by that of lanes."""

    n: int


Place = Lanes | Uniform | None
