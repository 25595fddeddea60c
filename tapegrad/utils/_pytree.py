"""Trees under the names of PyTorch's module, which programs use though it is private: see `tapegrad.trees`.

>>> from tapegrad.utils import _pytree
>>> _pytree.tree_map(lambda x: x + 1, {"w": [1, 2], "b": (3,)})
{'w': [2, 3], 'b': (4,)}
>>> leaves, spec = _pytree.tree_flatten({"w": [1, 2], "b": (3,)})
>>> leaves, spec
([1, 2, 3], TreeSpec({'w': [*, *], 'b': (*,)}))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tapegrad import trees


class TreeSpec(NamedTuple):
    """A tree without its leaves."""

    structure: trees.Node | None

    @property
    def num_leaves(self) -> int:
        """How many leaves the tree has."""
        waiting, n = [self.structure], 0
        while waiting:
            part = waiting.pop()
            n += part is None
            waiting += () if part is None else part.items
        return n

    def __repr__(self) -> str:
        return f"TreeSpec({'*' if self.structure is None else self.structure})"


def tree_flatten(tree: Any) -> tuple[list[Any], TreeSpec]:
    """The leaves of a tree, and the tree without them."""
    leaves, structure = trees.flatten(tree)
    return leaves, TreeSpec(structure)


def tree_unflatten(leaves: Sequence[Any], treespec: TreeSpec) -> Any:
    """The tree of these leaves.

    Raises
    ------
    ValueError
        Where there are more or fewer than it has.
    """
    leaves = [*leaves]
    if len(leaves) != treespec.num_leaves:
        raise ValueError(
            f"tree_unflatten(leaves, treespec): `leaves` has length {len(leaves)} but the spec refers to a pytree that "
            f"holds {treespec.num_leaves} items ({treespec})."
        )
    return trees.unflatten(treespec.structure, leaves)


def tree_leaves(tree: Any) -> list[Any]:
    """The leaves of a tree."""
    return trees.leaves(tree)


def tree_structure(tree: Any) -> TreeSpec:
    """The tree without its leaves."""
    return tree_flatten(tree)[1]


def tree_map(func: Callable[..., Any], tree: Any, *rests: Any) -> Any:
    """The tree whose leaves are a function's values at the leaves of a tree, and of others that have its structure.

    Raises
    ------
    ValueError
        Where another has a different structure.
    """
    leaves, structure = trees.flatten(tree)
    others = [trees.matched(structure, rest) for rest in rests]
    if any(other is None for other in others):
        raise ValueError(f"tree_map: the trees have different structures: {', '.join(map(str, (tree, *rests)))}")
    return trees.unflatten(structure, [*map(func, leaves, *others)])


def tree_map_only(kind: Any, func: Callable[[Any], Any], tree: Any) -> Any:
    """The tree with a function's values in the place of those leaves that are of a class."""
    return tree_map(lambda leaf: func(leaf) if isinstance(leaf, kind) else leaf, tree)


def tree_all(pred: Callable[[Any], bool], tree: Any) -> bool:
    """Whether a predicate holds for all leaves."""
    return all(map(pred, trees.leaves(tree)))


def tree_any(pred: Callable[[Any], bool], tree: Any) -> bool:
    """Whether it holds for one."""
    return any(map(pred, trees.leaves(tree)))
