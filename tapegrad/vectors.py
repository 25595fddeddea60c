"""Trees of numbers as one vector, and back: what solvers of vectors are given for nested parameters.

    {"w": array of shape (2,), "b": 0.5}     form       *[2], a number
                                             vector     array of shape (3,), float64

A form knows the leaves' shapes, dtypes and kinds: a vector becomes a tree of what the first one was made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tapegrad import trees
from tapegrad.tensor import Tensor


class Form:
    """What a tree of numbers, arrays and Tensors is, but for their elements.

    >>> import numpy as np
    >>> from tapegrad.vectors import Form
    >>> form = Form({"w": np.array([1.0, 2.0]), "b": 0.5})
    >>> form.vector({"w": np.array([3.0, 4.0]), "b": 5})
    array([3., 4., 5.])
    >>> form.tree(np.zeros(3))
    {'w': array([0., 0.]), 'b': 0.0}
    """

    def __init__(self, tree: Any, name: str = "parameters") -> None:
        leaves, self.structure = trees.flatten(tree)
        self.name = name
        for leaf in leaves:
            if not _is_number(leaf):
                raise TypeError(
                    f"{name} must be numbers, arrays or Tensors of numbers, or tuples, lists and dictionaries of them, "
                    f"but a leaf is {type(leaf).__name__} {leaf!r:.80}"
                )
        self.like = [_Leaf(leaf) for leaf in leaves]
        self.stops = np.cumsum([leaf.numel for leaf in self.like], dtype=np.int64)
        self.size = int(self.stops[-1]) if leaves else 0
        if not self.size:
            raise ValueError(f"{name} have no numbers in them: {tree!r:.80}")

    def vector(self, tree: Any, name: str = "") -> np.ndarray:
        """The elements of a tree of this form, as a new array of float64."""
        leaves = trees.matched(self.structure, tree)
        if leaves is None:
            raise ValueError(
                f"{name or self.name} must be of the form {self}, but are of the form {trees.flatten(tree)[1] or '*'}"
            )
        return self.joined(leaves, name)

    def joined(self, leaves: Sequence[Any], name: str = "") -> np.ndarray:
        """The elements of leaves in their order."""
        made, start = np.empty(self.size), 0
        for leaf, like, stop in zip(leaves, self.like, self.stops.tolist(), strict=True):
            if tuple(np.shape(leaf)) != like.shape:
                raise ValueError(
                    f"{name or self.name} must have leaves of the shapes {[list(k.shape) for k in self.like]}, but one "
                    f"has {list(np.shape(leaf))} for {list(like.shape)}"
                )
            made[start:stop] = np.ravel(_array(leaf))
            start = stop
        return made

    def spread(self, tree: Any, name: str) -> np.ndarray:
        """A vector of what is given for parts of a tree: a number stands for all elements below it."""
        made, start, places = np.empty(self.size), 0, iter(range(len(self.like)))

        def enter(structure: Any, part: Any) -> None:
            nonlocal start
            if structure is not None and not _is_number(part):
                keys, items = trees.items_of(part) or ((), ())
                fits = type(part) is structure.kind and len(items) == len(structure.items)
                if not fits or set(keys) != set(structure.keys):
                    raise ValueError(
                        f"{name} must be of the form {self}, or a number for a part of it, not {part!r:.80}"
                    )
                for child, item in zip(structure.items, [part[k] for k in structure.keys] or items, strict=True):
                    enter(child, item)
                return
            for _ in range(_leaves_of(structure)):
                like = self.like[next(places)]
                try:
                    made[start : start + like.numel] = np.broadcast_to(_array(part), like.shape).ravel()
                except ValueError:
                    raise ValueError(
                        f"{name} has a leaf of shape {list(np.shape(part))}, which can't be broadcast to "
                        f"{list(like.shape)}"
                    ) from None
                start += like.numel

        enter(self.structure, tree)
        return made

    def tree(self, vector: np.ndarray) -> Any:
        """A tree of this form, with elements of its own."""
        vector = np.asarray(vector)
        if vector.shape != (self.size,):
            raise ValueError(f"{self.name} are {self.size} numbers, but the vector has shape {list(vector.shape)}")
        parts = np.split(vector, self.stops[:-1])
        return trees.unflatten(self.structure, [like.made(part) for like, part in zip(self.like, parts, strict=True)])

    def __str__(self) -> str:
        return "*" if self.structure is None else str(self.structure)


class _Leaf:
    """A leaf, but for its elements: integers count as floats."""

    def __init__(self, leaf: Any) -> None:
        array = _array(leaf)
        self.shape, self.numel = array.shape, array.size
        self.dtype = array.dtype if array.dtype.kind == "f" else np.dtype(np.float64)
        self.is_tensor, self.is_scalar = isinstance(leaf, Tensor), isinstance(leaf, np.generic)
        self.is_plain = isinstance(leaf, (int, float)) and not self.is_scalar

    def made(self, part: np.ndarray) -> Any:
        """The leaf of these elements."""
        array = np.array(part.reshape(self.shape), self.dtype)
        if self.is_tensor:
            from tapegrad.creation import from_numpy

            return from_numpy(array).clone()
        if self.is_plain:
            return float(array)
        return array[()] if self.is_scalar else array  # a table's columns too


def _leaves_of(structure: Any) -> int:
    return 1 if structure is None else sum(map(_leaves_of, structure.items))


def _array(leaf: Any) -> np.ndarray:
    return leaf._array() if isinstance(leaf, Tensor) else np.asarray(leaf)


def _is_number(leaf: Any) -> bool:
    if isinstance(leaf, Tensor):
        return leaf.dtype.category > 0
    if isinstance(leaf, (bool, np.bool_, str, bytes)) or leaf is None:
        return False
    return isinstance(leaf, (int, float)) or getattr(getattr(leaf, "dtype", None), "kind", "") in {"f", "i", "u"}
