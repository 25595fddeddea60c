"""What a function finds that it is not given: in closures, globals, attributes, and in what these hold.

Numbers and texts that it finds are constants of its program, and what it does to them and to containers is done when it
is recorded, and no more. Of what carries a state from call to call a program would be silently wrong: of a tensor that
was read, and another put in its place; of elements of arrays; of iterators. So these are looked at before a function is
recorded, and afterwards: where they are others, no program is faithful.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import sys
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from tapegrad.creation import Generator
from tapegrad.nn.module import Module
from tapegrad.replay.standins import Keeper, Options
from tapegrad.tensor import Tensor

_MOST_FOUND = 2000  # objects that are looked at
_MOST_BYTES = 1 << 24  # of arrays
_PLAIN = (int, float, complex, str, bytes, type(None), np.generic, Tensor, types.BuiltinFunctionType)
_CONTAINERS = (list, tuple, set, dict, deque)
_CHANGES_UNSEEN = {"logging", "threading", "warnings"}  # modules whose objects keep what no answer depends on


class Surroundings:
    """All objects that a function, and what it is given, refer to by ways that its code may go."""

    def __init__(self, function: Callable[..., Any], leaves: list[Any]) -> None:
        self.objects: list[Any] = []
        self._holders: list[tuple[Any, list[Any]]] = []  # of tensors and arrays, with what they referred to
        self._states: list[tuple[Any, Any]] = []  # of arrays and iterators
        n_bytes, seen = 0, set[int]()  # bytes of arrays
        rest = [(x, True) for x in (function, *leaves)]  # with each, whether a container is the user's
        while rest and len(seen) < _MOST_FOUND:
            x, is_own = rest.pop()
            if id(x) in seen or isinstance(x, _PLAIN):
                continue
            seen.add(id(x))
            if isinstance(x, np.ndarray):
                n_bytes += x.nbytes
                if is_own and x.flags.writeable and n_bytes <= _MOST_BYTES:
                    self._states.append((x, _state(x)))
                continue
            self.objects.append(x)
            is_own, behind = _is_users(x, is_own), _behind(x)
            if is_own and isinstance(x, Iterator):
                self._states.append((x, _state(x)))
            if is_own and any(isinstance(of, (Tensor, np.ndarray)) for of in behind):
                self._holders.append((x, behind))
            rest += [(of, is_own) for of in behind]

    def change(self, read: Iterable[Any]) -> str:
        """What has been changed since, of `read` tensors and arrays, and the rest; nothing is the empty text."""
        were_read = {id(t) for t in read}
        for x, before in self._holders:
            for t, now in itertools.zip_longest(before, _behind(x)):
                if id(t) in were_read and now is not t:
                    what = "tensor" if isinstance(t, Tensor) else "array"
                    return f"puts another {what} where it found one ({_name(x)})"
        for x, before in self._states:
            if _state(x) != before:
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
    if isinstance(x, (Keeper, Options, types.ModuleType)):
        return False
    if isinstance(x, (*_CONTAINERS, Iterator)):
        return is_container_own
    if isinstance(x, Module):
        return True
    is_definition = isinstance(x, (types.FunctionType, type))
    module = (x.__module__ if is_definition else type(x).__module__) or ""
    unchanged = sys.stdlib_module_names if is_definition else _CHANGES_UNSEEN
    return is_of_users(module) and module.partition(".")[0] not in unchanged


def _state(x: Any) -> Any:
    """What is compared of an array, or of an iterator."""
    if isinstance(x, np.ndarray):
        return x.tobytes() if x.dtype != object else [id(item) for item in x.flat]
    if isinstance(x, itertools.count):
        return repr(x)
    if isinstance(x, types.GeneratorType):
        return getattr(x.gi_frame, "f_lasti", None), [id(of) for of in _behind(x)]
    return x.__length_hint__() if hasattr(x, "__length_hint__") else None


def _name(x: Any) -> str:
    if isinstance(x, types.FunctionType):
        return f"a variable of {x.__qualname__}()"
    if isinstance(x, np.ndarray):
        return "elements of an array"
    whose = "" if isinstance(x, (*_CONTAINERS, Iterator)) else "an attribute of "
    return f"{whose}a {type(x).__name__}"


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
        return [x.keeper()]
    if isinstance(x, dict):
        return [*dict.values(x)]
    if isinstance(x, types.ModuleType):
        return []
    if isinstance(x, type):
        return [*x.__bases__, *vars(x).values()] if is_of_users(x.__module__) else []
    if isinstance(x, (classmethod, staticmethod)):
        return [x.__func__]
    if isinstance(x, types.GeneratorType):
        return [] if x.gi_frame is None else [*x.gi_frame.f_locals.values()]
    if isinstance(x, Iterator) and type(x).__module__ in {"builtins", "itertools"}:
        return gc.get_referents(x)
    if isinstance(x, Generator):
        return [x.numpy]
    if "__wrapped__" in getattr(x, "__dict__", {}):  # what is cached, or compiled
        return [x.__wrapped__]
    found = [*getattr(x, "__dict__", {}).values()]
    if is_of_users(type(x).__module__):
        found = [type(x), *found]
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
    return root not in {"tapegrad", "numpy", "scipy", "numba", "builtins"}


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)
