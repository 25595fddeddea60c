"""The caller's lists and dictionaries, and those that a function is handed instead, with stand-ins in them."""

from __future__ import annotations

from typing import Any

from tapegrad import trees
from tapegrad.replay.standins import Number, StandIn, is_shown


class Handed:
    """What the function does to its own is done to the caller's afterwards."""

    def __init__(self, originals: Any, own: Any) -> None:
        self.pairs = [(a, b, _items(b)) for a, b in zip(_containers(originals), _containers(own), strict=True)]
        self.of = {id(b): a for a, b, _ in self.pairs}

    def has_changed(self) -> bool:
        """Whether the function has changed one."""
        return any(not _are_same(before, _items(own)) for _, own, before in self.pairs)

    def carry_over(self) -> None:
        """Change the caller's likewise."""
        for original, own, before in self.pairs:
            if _are_same(before, _items(own)):
                continue
            if isinstance(own, dict):
                items = [(key, self.original(value)) for key, value in own.items()]
                original.clear()
                original.update(items)
            else:
                original[:] = [self.original(value) for value in own]

    def original(self, x: Any) -> Any:
        """The caller's, of what the function has: no stand-ins, no copies of containers."""
        if type(x) in (StandIn, Number) or is_shown(x):
            return x.value
        if id(x) in self.of:
            return self.of[id(x)]
        if (known := trees.items_of(x)) is None:
            return x
        keys, items = known
        made = [self.original(item) for item in items]
        return x if _are_same(made, [*items]) else trees.Node(type(x), keys, (None,) * len(made)).made(made)


def _containers(tree: Any) -> list[Any]:
    """The lists and dictionaries in a tree."""
    known = trees.items_of(tree)
    if known is None:
        return []
    below = [found for item in known[1] for found in _containers(item)]
    return below if isinstance(tree, tuple) else [tree, *below]


def _items(container: Any) -> list[Any]:
    return [*container.keys(), *container.values()] if isinstance(container, dict) else [*container]


def _are_same(a: list[Any], b: list[Any]) -> bool:
    return len(a) == len(b) and all(x is y for x, y in zip(a, b, strict=True))
