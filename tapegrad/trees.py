"""Trees: tuples, named tuples, lists and dictionaries, nested at will; whatever else stands in them is a leaf.

Numba's typed lists and dictionaries are containers too, once jitted functions are differentiated (`declare`), and so is
a record, of an array of one.

A structure is what remains of a tree without its leaves. It is hashable, so that what is made for one is found again:

    {"w": [1.0, 2.0], "b": (3.0,)}     leaves      1.0, 2.0, 3.0
                                       structure   {"w": [*, *], "b": (*,)}

Leaves stand from left to right, those of a dictionary in the order of its keys. The order of keys is no part of what a
tree must agree with: `matched` looks them up.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

Parts = tuple[tuple[Any, ...], Sequence[Any]]  # the keys (of a dictionary) and the items of a container

# Containers of others: how each is taken apart, and made again.
_others: dict[type, tuple[Callable[[Any], Parts], Callable[[tuple[Any, ...], Sequence[Any]], Any]]] = {}


def declare(kind: type, taken: Callable[[Any], Parts], made: Callable[[tuple[Any, ...], Sequence[Any]], Any]) -> None:
    """Let a class of another library's be a container."""
    _others[kind] = taken, made


class Node(NamedTuple):
    """A container in a structure; a leaf's structure is None."""

    kind: Any  # the class
    keys: tuple[Any, ...]  # of a dictionary
    items: tuple[Node | None, ...]

    def __str__(self) -> str:
        texts = ["*" if item is None else str(item) for item in self.items]
        if issubclass(self.kind, dict):
            return "{" + ", ".join(f"{key!r}: {text}" for key, text in zip(self.keys, texts, strict=True)) + "}"
        if self.kind is list:
            return f"[{', '.join(texts)}]"
        if self.kind is tuple:
            return f"({', '.join(texts)}{',' * (len(texts) == 1)})"
        return f"{self.kind.__name__}({', '.join(texts)})"

    def made(self, items: Sequence[Any]) -> Any:
        """The container, of these items."""
        if self.kind in _others:
            return _others[self.kind][1](self.keys, items)
        if issubclass(self.kind, dict):
            return self.kind(zip(self.keys, items, strict=True))
        return self.kind(*items) if hasattr(self.kind, "_fields") else self.kind(items)


def items_of(tree: Any) -> Parts | None:
    """The keys (of a dictionary) and the items of a container; None of a leaf."""
    kind = type(tree)
    if kind is tuple or kind is list or (isinstance(tree, tuple) and hasattr(kind, "_fields")):
        return (), tree
    if kind is dict or kind is OrderedDict:
        return tuple(tree), tuple(tree.values())
    return _others[kind][0](tree) if kind in _others else None


def flatten(tree: Any) -> tuple[list[Any], Node | None]:
    """The leaves of a tree, and its structure.

    >>> from tapegrad import trees
    >>> leaves, structure = trees.flatten({"w": [1.0, 2.0], "b": (3.0,)})
    >>> leaves, str(structure)
    ([1.0, 2.0, 3.0], "{'w': [*, *], 'b': (*,)}")
    >>> trees.unflatten(structure, [4.0, 5.0, 6.0])
    {'w': [4.0, 5.0], 'b': (6.0,)}
    """
    if items_of(tree) is None:
        return [tree], None
    found: list[Any] = []
    return found, _flatten(tree, found)


def _flatten(tree: Any, found: list[Any]) -> Node | None:
    known = items_of(tree)
    if known is None:
        found.append(tree)
        return None
    keys, items = known
    return Node(type(tree), keys, tuple([_flatten(item, found) for item in items]))


def leaves(tree: Any) -> list[Any]:
    """The leaves of a tree."""
    return flatten(tree)[0]


def unflatten(structure: Node | None, leaves: Sequence[Any]) -> Any:
    """A tree of a structure, of as many leaves as it has."""
    if structure is None and len(leaves) == 1:
        return leaves[0]
    rest = iter(leaves)
    tree = _unflatten(structure, rest)
    assert next(rest, rest) is rest, "more leaves than the structure has"
    return tree


def _unflatten(structure: Node | None, rest: Any) -> Any:
    if structure is None:
        return next(rest)
    return structure.made([_unflatten(item, rest) for item in structure.items])


def filled(structure: Node | None, leaves: Sequence[Any], places: Sequence[int], values: Sequence[Any]) -> Any:
    """The tree of a structure with other values for some of its leaves.

    >>> from tapegrad import trees
    >>> leaves, structure = trees.flatten((1.0, [2.0, 3.0]))
    >>> trees.filled(structure, leaves, [0, 2], [4.0, 5.0])
    (4.0, [2.0, 5.0])
    """
    own = list(leaves)
    for place, value in zip(places, values, strict=True):
        own[place] = value
    return unflatten(structure, own)


def matched(structure: Node | None, tree: Any) -> list[Any] | None:
    """The leaves of a tree in the order of a structure; None where the tree is of another."""
    found: list[Any] = []
    return found if _matched(structure, tree, found) else None


def _matched(structure: Node | None, tree: Any, found: list[Any]) -> bool:
    known = items_of(tree)
    if structure is None or known is None:
        found.append(tree)
        return structure is None and known is None
    keys, items = known
    if type(tree) is not structure.kind or len(items) != len(structure.items) or set(keys) != set(structure.keys):
        return False
    if keys:
        items = [tree[key] for key in structure.keys]
    return all(_matched(part, item, found) for part, item in zip(structure.items, items, strict=True))
