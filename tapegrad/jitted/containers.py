"""Lists, dictionaries, Numba's typed ones, and named tuples, as arguments of jitted functions.

Numba takes no dictionary from Python, and lists only of one type; but compiled code can make them. So the user's
function is wrapped in one that is given tuples of leaves, and makes the containers:

    f({"w": w, "b": [b, c]}, 3)        def wrapped(a0, a1):
                                           return f({"w": a0[0], "b": [a0[1], a0[2]]}, a1)

What Numba then does with them are its rules: a dictionary, or list, whose items are all of one type (such as float64
arrays of one dimension) can be used as any other; where types differ, it is read by constant keys, `p["w"]` or `p[0]`,
and neither changed nor gone through. A named tuple has no such limits.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numba import njit, typeof
from numba.typed import Dict, List

from tapegrad import trees
from tapegrad.jitted.errors import NotDifferentiableError
from tapegrad.jitted.inner import define

MOST_LEAVES = 200  # of an argument: Numba takes ever longer over long tuples


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Add to an error what it may come from, and what to do."""
    try:
        yield
    except NotDifferentiableError as error:
        repair = (
            f"{error.repair}; in jitted code a list has no arithmetic and no shape (an array has), and a dictionary or "
            "list of different types is read by constant keys only, and not returned: a named tuple has no such limits"
        )
        raise NotDifferentiableError(error.construct, error.where, repair) from None


# --- Numba's own containers ------------------------------------------------------------------------------------------


def _typed_list(_: tuple[Any, ...], items: Sequence[Any]) -> Any:
    """A typed list, where items are of one type; else one of Python's."""
    return List(items) if _is_one_type(items) else list(items)


def _typed_dictionary(keys: tuple[Any, ...], items: Sequence[Any]) -> Any:
    """A typed dictionary, where items are of one type; else one of Python's."""
    if not _is_one_type(items):
        return dict(zip(keys, items, strict=True))
    made = Dict()
    for key, item in zip(keys, items, strict=True):
        made[key] = item
    return made


def _is_one_type(items: Sequence[Any]) -> bool:
    is_taken = all(isinstance(item, (float, np.ndarray)) for item in items)
    return is_taken and len({typeof(item) for item in items}) == 1


trees.declare(List, lambda tree: ((), list(tree)), _typed_list)
trees.declare(Dict, lambda tree: (tuple(tree), tuple(tree.values())), _typed_dictionary)
TYPED = (List, Dict)


def structures_of(args: Sequence[Any], argnums: Sequence[int]) -> tuple[trees.Node | None, ...] | None:
    """The structures of those arguments that Numba can't take as they are, None for others; None if there are none."""
    if all(trees.items_of(a) is None for a in args):
        return None
    found = tuple(_structure_of(a, place, place in argnums) for place, a in enumerate(args))
    return found if any(found) else None


def _structure_of(argument: Any, place: int, is_differentiated: bool) -> trees.Node | None:
    if type(argument) in (list, *TYPED) and not is_differentiated:
        return None  # Numba's own way, in which what is written can be seen outside
    leaves, structure = trees.flatten(argument)
    if structure is None or not _needs_making(structure, is_differentiated):
        return None
    if len(leaves) > MOST_LEAVES:
        raise TypeError(
            f"argument {place} is a {type(argument).__name__} of {len(leaves)} items, too many for jitted code "
            f"(at most {MOST_LEAVES}): make it an array"
        )
    return structure


def _needs_making(structure: trees.Node, is_differentiated: bool) -> bool:
    is_made = issubclass(structure.kind, dict) or (is_differentiated and structure.kind is not tuple)
    return is_made or any(item is not None and _needs_making(item, is_differentiated) for item in structure.items)


def emptied(args: Sequence[Any], structures: tuple[trees.Node | None, ...]) -> list[Any]:
    """The arguments, with tuples of leaves in the place of those that have a structure."""
    rest = args[len(structures) :]
    own = zip(args, structures, strict=False)
    return [a if structure is None else tuple(trees.leaves(a)) for a, structure in own] + list(rest)


def wrapped(function: Any, structures: tuple[trees.Node | None, ...]) -> Any:
    """The jitted function of such arguments."""
    scope = {"function": function}
    parameters = [f"a{place}" for place in range(len(structures))]
    made = []
    for name, structure in zip(parameters, structures, strict=True):
        items = (f"{name}[{i}]" for i in itertools.count())
        made.append(name if structure is None else text_of(structure, items, scope))
    return function_of(f"def wrapped({', '.join(parameters)}):\n return function({', '.join(made)})", scope)


def function_of(text: str, scope: dict[str, Any]) -> Any:
    """The jitted function `wrapped` of a text, which calls the user's `function`."""
    made, users = define(text, "wrapped", scope), scope["function"].py_func
    # It is as much the user's as what it calls: where errors are, and what a digest on disk must tell apart.
    made.__module__ = users.__module__
    made.__code__ = made.__code__.replace(
        co_filename=users.__code__.co_filename, co_firstlineno=users.__code__.co_firstlineno
    )
    return njit(made)


@functools.cache
def _maker(kind: Any, keys: tuple[type, ...], n: int) -> Any:
    """The jitted function that makes a typed list, or dictionary, of its arguments."""
    if not n:
        raise TypeError(f"a typed {kind.__name__} that is differentiated must have items")
    if not all(key in (int, str) for key in keys):
        raise TypeError("jitted code takes dictionaries whose keys are strings or ints")
    names, values = [f"k{i}" for i in range(len(keys))], [f"a{i}" for i in range(n)]
    lines = [f" made.append({a})" for a in values]
    if keys:
        lines = [f" made[{k}] = {a}" for k, a in zip(names, values, strict=True)]
    text = "\n".join([f"def made({', '.join([*names, *values])}):", " made = typed()", *lines, " return made"])
    return njit(define(text, "made", {"typed": kind}))


def text_of(structure: trees.Node | None, items: Iterator[str], scope: dict[str, Any]) -> str:
    """An expression that makes a container of items, which are expressions too."""
    if structure is None:
        return next(items)
    parts = [text_of(item, items, scope) for item in structure.items]
    if issubclass(structure.kind, dict):
        if not all(isinstance(key, (str, int)) for key in structure.keys):
            raise TypeError(f"jitted code takes dictionaries whose keys are strings or ints, not {structure}")
        return "{" + ", ".join(f"{key!r}: {part}" for key, part in zip(structure.keys, parts, strict=True)) + "}"
    if structure.kind is list:
        return f"[{', '.join(parts)}]"
    if structure.kind in TYPED:
        label = f"typed_{len(scope)}"
        scope[label] = _maker(structure.kind, tuple(map(type, structure.keys)), len(parts))
        return f"{label}({', '.join([*map(repr, structure.keys), *parts])})"
    if issubclass(structure.kind, np.void):
        return f"{parts[0]}[0]"
    if structure.kind is tuple:
        return f"({''.join(f'{part}, ' for part in parts)})"
    label = f"{structure.kind.__name__}_{len(scope)}"  # two classes may have one name
    scope[label] = structure.kind
    return f"{label}({', '.join(parts)})"
