"""What a function finds that it is not given: in closures, globals, attributes, and in what these hold.

A program does nothing to it. So what is found is looked at before a function is recorded, and afterwards: where it is
another, the function has changed it, and no program is faithful. Objects are compared by what they refer to: the same
objects, in the same order, of which numbers and texts may be equal ones; arrays by their elements.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import types
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from tapegrad.creation import Generator
from tapegrad.nn.module import Module
from tapegrad.replay.standins import Keeper, Options
from tapegrad.tensor import Tensor

_MOST_FOUND = 2000  # objects that are looked at
_MOST_BYTES = 1 << 24  # of arrays
_NUMBERS = (int, float, complex, str, bytes, type(None))
_PLAIN = (*_NUMBERS, np.generic, Tensor, types.BuiltinFunctionType)
_CONTAINERS = (list, tuple, set, dict, deque)
_CHANGES_UNSEEN = {"logging", "threading", "warnings"}  # modules whose objects keep what no answer depends on


class Surroundings:
    """All objects that a function, and what it is given, refer to by ways that its code may go."""

    def __init__(self, function: Callable[..., Any], leaves: list[Any]) -> None:
        self.objects: list[Any] = []
        self._before: list[tuple[Any, list[Any]]] = []  # those that it may not change, and what they referred to
        n_bytes, seen = 0, set[int]()
        rest = [(x, True) for x in (function, *leaves)]  # with each, whether a container is the user's
        while rest and len(seen) < _MOST_FOUND:
            x, is_own = rest.pop()
            if id(x) in seen or isinstance(x, _PLAIN):
                continue
            seen.add(id(x))
            if isinstance(x, np.ndarray):
                n_bytes += x.nbytes
                if is_own and x.flags.writeable and n_bytes <= _MOST_BYTES:
                    self._before.append((x, _state(x)))
                continue
            self.objects.append(x)
            is_own = _is_users(x, is_own)
            if is_own:
                self._before.append((x, _state(x)))
            rest += [(of, is_own) for of in _behind(x)]

    def change(self) -> str:
        """What has been changed since; nothing is the empty text."""
        for x, before in self._before:
            now = _state(x)
            if len(now) != len(before) or not all(map(_are_same, before, now)):
                return f"changes what was there before ({_name(x)})"
        return ""


class Modes(NamedTuple):
    """What a program is for: modules, each of which is being trained or not."""

    modules: tuple[Module, ...]

    def __call__(self, *_: Any) -> list[bool]:
        """Whether they are now."""
        return [module.training for module in self.modules]


def _is_users(x: Any, is_container_own: bool) -> bool:
    """Whether what an object refers to is changed by the user's code alone."""
    if isinstance(x, (Keeper, Options, types.ModuleType, type)):
        return False
    if isinstance(x, (*_CONTAINERS, Iterator)):
        return is_container_own
    return isinstance(x, Module) or is_of_users(
        x.__module__ if isinstance(x, types.FunctionType) else type(x).__module__
    )


def _state(x: Any) -> list[Any]:
    """What is compared."""
    if isinstance(x, np.ndarray):
        return [x.tobytes()] if x.dtype != object else [*x.flat]
    state = _behind(x)
    if isinstance(x, dict):
        state += dict.keys(x)
    elif isinstance(x, itertools.count):
        state.append(repr(x))
    elif isinstance(x, types.GeneratorType):
        state.append(getattr(x.gi_frame, "f_lasti", None))
    elif not isinstance(x, (*_CONTAINERS, types.FunctionType, types.MethodType)):
        state += getattr(x, "__dict__", {})
        state += [value for name, value in vars(type(x)).items() if type(value) in _NUMBERS and name[:2] != "__"]
        if hasattr(type(x), "__length_hint__"):
            state.append(x.__length_hint__())
    return state


def _are_same(a: Any, b: Any) -> bool:
    return a is b or (type(a) is type(b) and type(a) in _NUMBERS and (a == b or (a != a and b != b)))


def _name(x: Any) -> str:
    if isinstance(x, types.FunctionType):
        return f"a variable of {x.__qualname__}()"
    if isinstance(x, np.ndarray):
        return "elements of an array"
    return f"a {type(x).__name__}" if isinstance(x, _CONTAINERS) else f"an attribute of a {type(x).__name__}"


def _behind(x: Any) -> list[Any]:
    """What an object refers to by which a function's code may go on."""
    if isinstance(x, types.FunctionType):
        found = [*(x.__defaults__ or ()), *(x.__kwdefaults__ or {}).values()]
        for cell in x.__closure__ or ():
            with contextlib.suppress(ValueError):  # it is empty yet
                found.append(cell.cell_contents)
        if is_of_users(x.__module__):
            names = dict.fromkeys(_names(x.__code__))
            for value in [x.__globals__[name] for name in names if name in x.__globals__]:
                is_module = isinstance(value, types.ModuleType)
                found += [vars(value)[name] for name in names if name in vars(value)] if is_module else [value]
        return [*found, *vars(x).values()]
    if isinstance(x, types.MethodType):
        return [x.__func__, x.__self__]
    if isinstance(x, functools.partial):
        return [x.func, *x.args, *x.keywords.values()]
    if isinstance(x, (list, tuple, set, deque)):
        return [*x]
    if isinstance(x, Options):
        return [x.keeper]
    if isinstance(x, dict):
        return [*dict.values(x)]
    if isinstance(x, (type, types.ModuleType)):
        return []
    if isinstance(x, types.GeneratorType):
        return [] if x.gi_frame is None else [*x.gi_frame.f_locals.values()]
    if isinstance(x, Generator):
        return [x.numpy]
    if "__wrapped__" in getattr(x, "__dict__", {}):  # what is cached, or compiled
        return [x.__wrapped__]
    found = [*getattr(x, "__dict__", {}).values()]
    if is_of_users(type(x).__module__):
        found += [value for value in vars(type(x)).values() if isinstance(value, types.FunctionType)]
        slots = [name for kind in type(x).__mro__ for name in _slots(kind)]
        found += [getattr(x, name) for name in slots if hasattr(x, name)]
    return found


def _slots(kind: type) -> tuple[str, ...]:
    """The names of a class's own slots."""
    slots = vars(kind).get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    return tuple(name for name in names if isinstance(vars(kind).get(name), types.MemberDescriptorType))


def is_of_users(module: str | None) -> bool:
    """Whether a module is neither this package's nor of those that it stands on."""
    root = (module or "").partition(".")[0]
    return root not in {"tapegrad", "numpy", "scipy", "numba", "builtins"} and root not in _CHANGES_UNSEEN


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)
