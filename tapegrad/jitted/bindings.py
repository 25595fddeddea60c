"""What the names in a jitted function mean to its compiled code.

Numba looks names up when it compiles: a compiled function goes on calling the callee that it was compiled with, also
when a cell of a notebook was run again and the name means another function by now. What is differentiated is that
function: where the plain one has been compiled for the same types of arguments, names mean what they meant then; where
it hasn't, what they mean now.
"""

from __future__ import annotations

import types as pytypes
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numba.core import ir, types
from numba.core.registry import CPUDispatcher
from numba.parfors.parfor import Parfor

from tapegrad.jitted.active import Active, Independents

SPECIAL: dict[Any, Callable[[Any, Active, bool], Any]] = {}  # dispatchers with a way of their own: `extensions.py`
RULED: dict[Any, Any] = {}  # by dispatchers that a custom rule was given to: its partials

_BOUND = (CPUDispatcher, bool, int, float, complex, str, tuple, np.ndarray)  # what may be bound anew


def bound(function: Any, kinds: Sequence[Any]) -> dict[str, Any]:
    """Names of a jitted function that mean something else to its code for such arguments than they do now."""
    wanted = [_plain(kind) for kind in kinds]
    for signature, result in function.overloads.items():
        if [_plain(kind) for kind in signature] == wanted:
            return _changed(function.py_func, result)
    return {}


def is_stale(function: Any) -> bool:
    """Whether names mean something else to a function's compiled code, or to that of a function that it may call."""
    return any(_changed(f.py_func, result) for f in reached(function) for result in f.overloads.values())


def meanings(function: Any) -> list[tuple[Any, Any, Any]]:
    """What all names mean that a jitted function, and those that it calls, look up: how they do, and the value."""
    return [
        (*_look_up(f.py_func, name), value)
        for f in reached(function)
        for name, value in _names(f.py_func).items()
        if not isinstance(value, pytypes.ModuleType)
    ]


def are_the_same(known: list[tuple[Any, Any, Any]]) -> bool:
    """Whether names still mean what they did."""
    return all(get(name) is value for get, name, value in known)


def rebound(function: Any, other: dict[str, Any]) -> Any:
    """A copy of a Python function in which names have other meanings."""
    inside = function.__code__.co_freevars
    cells = zip(inside, function.__closure__ or (), strict=True)
    closure = tuple(pytypes.CellType(other[name]) if name in other else cell for name, cell in cells)
    outside = {name: value for name, value in other.items() if name not in inside}
    names = {**function.__globals__, **outside} if outside else function.__globals__
    return pytypes.FunctionType(function.__code__, names, function.__name__, function.__defaults__, closure or None)


def _plain(kind: Any) -> Any:
    """A type without what lifting changes: activity, the layout of arrays, literal values."""
    kind = types.unliteral(kind)
    kind = kind.array if isinstance(kind, Independents) else kind
    if isinstance(kind, Active):
        return types.float64
    if isinstance(kind, types.Array):
        return types.Array, _plain(kind.dtype), kind.ndim
    if isinstance(kind, types.Dispatcher):
        return getattr(kind.dispatcher, "original", kind.dispatcher)
    return (type(kind), *map(_plain, kind)) if isinstance(kind, types.BaseTuple) else kind


def _changed(function: Any, result: Any) -> dict[str, Any]:
    """Names that mean something else than they did to a compiled result, if Numba still knows that."""
    now, found, kept = _names(function), dict[str, Any](), set[str]()
    for value in _assigned(getattr(result.type_annotation, "blocks", {})):
        if isinstance(value, (ir.Global, ir.FreeVar)) and value.name in now and isinstance(value.value, _BOUND):
            if _is_same(value.value, now[value.name]):
                kept.add(value.name)  # where it means something else, that is another function's, put in its place
            else:
                found[value.name] = value.value
    return {name: value for name, value in found.items() if name not in kept}


def _assigned(blocks: dict[int, Any]) -> Iterator[Any]:
    """What is assigned anywhere in code, in loops that run in parallel too."""
    for block in blocks.values():
        for statement in block.body:
            if isinstance(statement, ir.Assign):
                yield statement.value
            elif isinstance(statement, Parfor):
                yield from _assigned({-1: statement.init_block, **statement.loop_body})


def _is_same(a: Any, b: Any) -> bool:
    return a is b or (type(a) is type(b) and isinstance(a, (bool, int, float, complex, str)) and a == b)


def _names(function: Any) -> dict[str, Any]:
    """The global names, and those of enclosing functions, that a function's code looks up, and what they mean."""
    names = dict.fromkeys((*names_of(function.__code__), *function.__code__.co_freevars))
    found = {name: _meaning(function, name) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def _meaning(function: Any, name: str) -> Any:
    get, key = _look_up(function, name)
    return get(key)


def _look_up(function: Any, name: str) -> tuple[Any, Any]:
    """A function that tells what a name means to a function's code, and its argument."""
    inside = function.__code__.co_freevars
    if name in inside:
        return _content, function.__closure__[inside.index(name)]
    return function.__globals__.get, name


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it isn't there yet
        return None


def names_of(code: Any) -> list[str]:
    """The names that code looks up, and code inside it."""
    nested = [constant for constant in code.co_consts if isinstance(constant, pytypes.CodeType)]
    return [*code.co_names, *(name for inner in nested for name in names_of(inner))]


def reached(function: Any) -> list[Any]:
    """A jitted function, and those that it names, or that they do: now, and when they were compiled."""
    found: list[Any] = []
    waiting = [function]
    while waiting:
        f = waiting.pop()
        if not isinstance(f, CPUDispatcher) or f in found:
            continue
        found.append(f)
        waiting += _names(f.py_func).values()
        for result in f.overloads.values():
            waiting += _changed(f.py_func, result).values()
    return found
