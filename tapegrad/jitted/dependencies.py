"""What a user's jitted function depends on, as a digest: see `kernels/digests.py` for how it is written.

That is its code and all that the code names, to the bottom: callees in whatever file with the options that they were
jitted with, globals, closures, defaults, attributes of modules, enums, named tuples, vectorised functions, and what
was registered with Numba: overloads, of functions that are named and of whatever else. What Python objects may do when
Numba compiles can't be known of all; where it isn't, there is no digest, and so nothing on disk.

Nor is there one where what was compiled isn't what is there now: Numba reads a global once, when it compiles.
"""

from __future__ import annotations

import dis
import enum
import hashlib
import os
import sys
import types as pytypes
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba.core import imputils, ir, types
from numba.core.dispatcher import Dispatcher
from numba.core.extending import _Intrinsic
from numba.core.typing.templates import builtin_registry
from numba.np.ufunc.dufunc import DUFunc
from numba.np.ufunc.gufunc import GUFunc

import tapegrad
from tapegrad.jitted import bindings
from tapegrad.jitted.beside import Beside
from tapegrad.kernels.digests import NoDigestError, Serialiser, tagged

_OURS, _NUMBAS = (str(Path(file).parent) + os.sep for file in (tapegrad.__file__, numba.__file__))
_IGNORED = ("CACHE", "EXTENDED_ARG", "NOP", "PUSH_NULL")  # between a name and its attribute


_LIBRARIES = frozenset({
    "_operator", "builtins", "cmath", "collections", "enum", "functools", "itertools", "llvmlite", "math", "numba",
    "numpy", "operator", "random", "tapegrad", "typing",
})  # fmt: skip


def digest(function: Any) -> tuple[str, list[Any]]:
    """The digest of a jitted function, and whose code it may call. NoDigestError where there is none."""
    users = _Users()
    try:
        return users.digest(function, *_registered.everywhere()), users.dispatchers
    except RecursionError:
        raise NoDigestError("what it names is nested too deeply") from None


class _Users(Serialiser):
    """Users' code: tapegrad's sources and the versions of libraries are in an entry's name anyway."""

    libraries = _LIBRARIES

    def __init__(self) -> None:
        self.dispatchers: list[Any] = []

    def value(self, value: Any) -> Iterator[Any]:
        if not isinstance(value, pytypes.FunctionType):
            yield from super().value(value)
        elif (name := self.library_name(value)) is not None:
            yield tagged("of a library", name.encode())
        elif value.__code__.co_filename.startswith(_OURS):
            yield tagged("of tapegrad", f"{value.__module__} {value.__qualname__}".encode())
            yield tagged("line", b"%d" % value.__code__.co_firstlineno)
            yield from self.around(value)
        else:
            yield value

    def other(self, value: Any) -> Iterator[Any]:
        if isinstance(value, (Dispatcher, DUFunc, GUFunc, _Intrinsic, _Overload, enum.EnumMeta)):
            yield value
        elif isinstance(value, enum.Enum):
            yield tagged("member", value.name.encode())
            yield from self.value(type(value))
        elif isinstance(value, list):
            yield tagged("list", b"%d" % len(value))
            for item in value:
                yield from self.value(item)
        elif isinstance(value, dict):
            yield tagged("dictionary", b"%d" % len(value))
            for item in value.items():
                yield from self.value(item)
        elif isinstance(value, (set, range, slice)):
            parts = frozenset(value) if isinstance(value, set) else (value.start, value.stop, value.step)
            yield tagged("of parts", type(value).__name__.encode())
            yield from self.value(parts)
        elif isinstance(value, type) and issubclass(value, tuple) and hasattr(value, "_fields"):
            yield tagged("named tuple", repr((value.__name__, value._fields)).encode())
        elif isinstance(value, type) and issubclass(value, BaseException) and is_importable(value):
            yield tagged("exception", f"{value.__module__} {value.__qualname__}".encode())
        elif isinstance(value, types.Type) and is_plain(value):
            yield tagged("type", str(value).encode())
        else:
            yield from super().other(value)

    def named(self, name: str, value: Any, code: pytypes.CodeType) -> Iterator[Any]:
        """Of a user's module, what code reads there: code must not do anything else with it."""
        if not is_users_module(value):
            yield from self.value(value)
            return
        for nested in (constant for constant in code.co_consts if isinstance(constant, pytypes.CodeType)):
            if name in nested.co_freevars:
                yield from self.named(name, value, nested)
        instructions = [i for i in dis.get_instructions(code) if i.opname not in _IGNORED]
        for at, load in enumerate(instructions):
            if load.argval == name and load.opname in ("LOAD_GLOBAL", "LOAD_DEREF", "STORE_DEREF"):
                found, rest = value, iter(instructions[at + 1 :])
                while is_users_module(found):
                    attribute = next(rest)
                    if attribute.opname not in ("LOAD_ATTR", "LOAD_METHOD") or not hasattr(found, attribute.argval):
                        raise NoDigestError(f"it isn't known what is read of the module {found.__name__}")
                    yield tagged("attribute", attribute.argval.encode())
                    found = getattr(found, attribute.argval)
                yield from self.value(found)

    def content(self, function: Any) -> Iterable[Any]:
        pieces = list(self._content(function))
        state = hashlib.sha256(b"".join(piece for piece in pieces if isinstance(piece, bytes))).digest()
        now = state, [piece for piece in pieces if not isinstance(piece, bytes)]
        if _first.setdefault(function, now) != now:
            raise NoDigestError(f"{function} may have been compiled before what it reads was changed")
        return pieces

    def _content(self, item: Any) -> Iterator[Any]:
        if isinstance(item, Dispatcher):
            yield from self._dispatcher(item)
        elif isinstance(item, DUFunc):
            dispatcher = item._dispatcher
            self._may_call(dispatcher)
            declared = tuple(map(str, dispatcher.overloads)) if item._frozen else ()
            yield tagged("vectorised", repr((item.identity, declared)).encode())
            yield from self.value(dict(dispatcher.targetoptions))
            yield from self.value(dispatcher.py_func)
        elif isinstance(item, GUFunc):
            builder = item.gufunc_builder
            self._may_call(builder.nb_func)
            declared = () if item._is_dynamic else tuple(map(str, builder._sigs))
            facts = item.signature, item._identity, builder.writable_args, declared
            yield tagged("vectorised over arrays", repr(facts).encode())
            yield from self.value(dict(builder.targetoptions))
            yield from self.value(builder.py_func)
        elif isinstance(item, _Intrinsic):
            yield tagged("intrinsic", repr((item._name, item._prefer_literal)).encode())
            yield from self.value(item._defn)
        elif isinstance(item, _Overload):
            yield from self._overload(item.template)
        elif isinstance(item, enum.EnumMeta):
            yield tagged("enum", repr((item.__name__, [base.__name__ for base in item.__mro__])).encode())
            for name, member in item.__members__.items():
                yield tagged("member", name.encode())
                yield from self.value(member.value)
        else:
            yield from super().content(item)
            yield from _registered.of(item)

    def _dispatcher(self, dispatcher: Any) -> Iterator[Any]:
        if hasattr(dispatcher, "original"):  # made here
            form = getattr(dispatcher, "kind", None) or dispatcher.form
            yield tagged("made of", f"{type(dispatcher).__name__} {form!r}".encode())
            yield from self.value(dispatcher.original)
            return
        self._may_call(dispatcher)
        declared = () if dispatcher._can_compile else tuple(map(str, dispatcher.signatures))
        special = getattr(bindings.SPECIAL.get(dispatcher), "__name__", None)
        yield tagged("jitted", repr((declared, special)).encode())
        yield from self.value(dispatcher._compiler.pipeline_class)
        yield from self.value(dict(dispatcher.targetoptions))
        yield from self.value({n: kind for n, kind in dispatcher.locals.items() if "." not in n})  # Numba adds versions
        yield from self.value((bindings.RULED[dispatcher],) if dispatcher in bindings.RULED else ())
        yield from self.value(dispatcher.py_func)

    def _may_call(self, dispatcher: Any) -> None:
        self.dispatchers.append(dispatcher)
        _before.setdefault(dispatcher, list(dispatcher.overloads.values()))

    def _overload(self, template: Any) -> Iterator[Any]:
        options = getattr(template, "_strict", None), template.prefer_literal, getattr(template, "_attr", None)
        yield tagged("overload", repr(options).encode())
        yield from self.value(template._inline.value)
        yield from self.value(dict(getattr(template, "_jit_options", {})))
        key = template.key
        yield from self.value(str(key) if isinstance(key, types.Type) else key)
        if _is_foreign(template._overload_func):  # `register_jitable` has Numba give the function itself
            yield from self.value(template._overload_func)


_first = Beside[tuple[bytes, list[Any]]]("first")  # what functions were, when they were first looked at
_before = Beside[list[Any]]("before")  # what Numba had compiled of them by then


def is_as_named(dispatcher: Any, compiled: Any) -> bool:
    """Whether code that Numba compiled of a function surely has the globals that its digest tells of.

    What is compiled after the first look has: no digest is given if they change then.
    """
    if all(known is not compiled for known in _before[dispatcher]):
        return True
    if isinstance(compiled.type_annotation, str):  # from Numba's own cache, which notices fewer changes
        return False
    function = dispatcher.py_func
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    names = {**function.__globals__, **{name: cell.cell_contents for name, cell in cells}}
    for block in compiled.type_annotation.blocks.values():
        for value in (assignment.value for assignment in block.find_insts(ir.Assign)):
            if isinstance(value, (ir.Global, ir.FreeVar)) and value.name in names:
                then, now = value.value, names[value.name]
                may_have_changed = isinstance(now, np.ndarray) or is_users_module(now)
                if may_have_changed or not (then is now or (type(then) is type(now) and repr(then) == repr(now))):
                    return False
    return True


# --- what was registered with Numba -----------------------------------------------------------------------------------


class _Overload:
    """An overload that isn't Numba's or tapegrad's."""

    def __init__(self, template: Any) -> None:
        self.template = template


class _Registered:
    """The overloads of others, found as they come."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        self._of: dict[Any, list[_Overload]] = {}  # by function
        self._everywhere: list[_Overload] = []  # of Numba's functions and types, of which it isn't known who calls them
        self._opaque: list[Any] = []

    def of(self, function: Any) -> list[_Overload]:
        """The overloads of a function."""
        return self._of.get(function, [])

    def everywhere(self) -> list[_Overload]:
        """Those that any code may call. NoDigestError where there is something else, which emits code itself."""
        for template in (*self._new(builtin_registry.functions), *self._new(builtin_registry.attributes)):
            self._add(template)
        for _, kind in self._new(builtin_registry.globals):
            for template in getattr(kind, "templates", ()):
                if not hasattr(template, "_overload_func"):
                    self._add(template)
        lowering = imputils.builtin_registry
        for known in lowering.functions, lowering.getattrs, lowering.setattrs, lowering.casts, lowering.constants:
            self._opaque += [entry[0] for entry in self._new(known) if any(map(_is_foreign, _makers(entry[0])))]
        if self._opaque:
            raise NoDigestError(f"it isn't known what {self._opaque[0]} makes Numba emit")
        return self._everywhere

    def _new(self, registered: list[Any]) -> list[Any]:
        start = self._seen.get(id(registered), 0)
        self._seen[id(registered)] = len(registered)
        return registered[start:]

    def _add(self, template: Any) -> None:
        if hasattr(template, "_definition_func"):  # an intrinsic, found where it is named
            return
        if not hasattr(template, "_overload_func"):
            if any(map(_is_foreign, _makers(template))):
                self._opaque.append(template)
        elif isinstance(template.key, pytypes.FunctionType) and _is_foreign(template.key):
            self._of.setdefault(template.key, []).append(_Overload(template))
        elif _is_foreign(template._overload_func):
            self._everywhere.append(_Overload(template))


_registered = _Registered()


def _makers(made: Any) -> Iterator[Any]:
    """The classes and functions that a template, or a lowering function, comes from."""
    if isinstance(made, type):
        yield from made.__mro__[:-1]
        made = vars(made).get("generic")
    if isinstance(made, pytypes.FunctionType):
        yield made
        for cell in made.__closure__ or ():  # of Numba's decorators
            if isinstance(cell.cell_contents, pytypes.FunctionType):
                yield cell.cell_contents


def _is_foreign(made: Any) -> bool:
    """Whether a class or a function is neither Numba's nor tapegrad's."""
    if made.__module__ is not None:
        return made.__module__.partition(".")[0] not in ("abc", "numba", "tapegrad")
    return not made.__code__.co_filename.startswith(_NUMBAS)


# --- classes, modules and types ---------------------------------------------------------------------------------------


def is_importable(made: type) -> bool:
    """Whether another process finds a class by its name: a script's is made anew there."""
    found: Any = sys.modules.get(made.__module__)
    for part in made.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is made and made.__module__ != "__main__"


def is_users_module(value: Any) -> bool:
    """Whether it is a module, and none of a library's."""
    return isinstance(value, pytypes.ModuleType) and value.__name__.partition(".")[0] not in _LIBRARIES


def is_plain(kind: Any) -> bool:
    """Whether a type's name says all of it."""
    if isinstance(kind, types.BaseTuple):
        return not isinstance(kind, types.BaseNamedTuple) and all(map(is_plain, kind.types))
    if isinstance(kind, types.DictType):
        return is_plain(kind.key_type) and is_plain(kind.value_type)
    if isinstance(kind, (types.Array, types.ListType, types.List, types.Set)):
        return is_plain(kind.dtype)
    return isinstance(kind, (types.Number, types.Boolean, types.UnicodeType, types.NoneType))
