"""Compiled drivers on disk, beside the kernels and guarded like them (`kernels/cache.py`).

An entry's name is a digest of all that the code was made of: the user's function and every function it calls, in
whatever file, with the values of the globals and closures that are read; the form of the driver; the argument types.
The folder's name adds tapegrad's sources, the versions and the processor. So what is found is right, and a change in a
callee is noticed. A function that reads what can't be digested is not kept.

The entry is Numba's own serialisation, a pickle. It is opened only if the folder is the user's alone and the checksum
is right: then it can do no more than the object code in it.
"""

from __future__ import annotations

import hashlib
import pickle
import sys
import types as pytypes
from pathlib import Path
from typing import Any

import numpy as np
from numba.core import types
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.registry import CPUDispatcher
from numba.core.serialize import dumps

from tapegrad.kernels import cache, digests

_PACKAGE = Path(__file__).parent.parent


class UnknownError(Exception):
    """Something that has no digest."""


class DriverCache(NullCache):  # type: ignore[misc]
    """What a driver's dispatcher asks, when it would compile."""

    def __init__(self, function: Any, form: Any) -> None:
        self.state = digest(function)
        self.form = f"{digests.package()} {form!r}"

    def _name(self, sig: Any) -> str | None:
        args = sig if isinstance(sig, tuple) else sig.args
        if self.state is None or cache.folder() is None or not all(map(_is_plain, args)):
            return None
        text = f"{self.state} {self.form} {args}"
        return f"driver-{hashlib.sha256(text.encode()).hexdigest()[:32]}.jit"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled code of a signature; None where there is none."""
        name = self._name(sig)
        entry = None if name is None else cache.read(name)
        if entry is None:
            return None
        target_context.refresh()
        try:
            return CompileResult._rebuild(target_context, *pickle.loads(entry[1]))
        except (ImportError, AttributeError, TypeError, ValueError):  # the user's module can't be imported by its name
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep compiled code, unless it has addresses of this process in it, or classes of it."""
        name, library = self._name(sig), data.library
        if (
            name is not None
            and not library.has_dynamic_globals
            and not data.lifted
            and _is_lasting(data.signature.return_type)
        ):
            code, description, *rest = data._reduce()
            description.global_dict = None  # all the driver's globals: compiled code needs them no more
            cache.write(name, {}, dumps((code, description, *rest)))


def _is_plain(kind: Any) -> bool:
    if isinstance(kind, types.BaseTuple):
        return all(map(_is_plain, kind))
    if isinstance(kind, types.Array):
        return _is_plain(kind.dtype)
    return isinstance(kind, (types.Number, types.Boolean, types.UnicodeType, types.NoneType))


def _is_lasting(kind: Any) -> bool:
    """Whether a result is of classes that another process finds: a named tuple of a script's is made anew there."""
    if isinstance(kind, types.BaseNamedTuple):
        made = kind.instance_class
        found = getattr(sys.modules.get(made.__module__), made.__qualname__, None)
        if found is not made or made.__module__ == "__main__":
            return False
    return not isinstance(kind, types.BaseTuple) or all(map(_is_lasting, kind))


def digest(function: Any) -> str | None:
    """A digest of a jitted function and of all that it reads; None where there is none."""
    state = hashlib.sha256()
    try:
        _add(state, function, set())
    except (UnknownError, RecursionError):
        return None
    return state.hexdigest()


def _add(state: Any, value: Any, seen: set[int]) -> None:
    if isinstance(value, CPUDispatcher):
        from tapegrad.jitted import extensions, rewriting

        state.update(repr(sorted(value.targetoptions.items(), key=repr)).encode())
        state.update(getattr(rewriting.SPECIAL.get(value), "__name__", "").encode())
        for part in extensions.belongs_to(value):
            _add(state, part, seen)
        value = value.py_func
        if Path(value.__code__.co_filename).is_relative_to(_PACKAGE):  # its sources are in the entry's name
            state.update(value.__qualname__.encode())
            return
    if isinstance(value, pytypes.FunctionType):
        if id(value) in seen:
            return
        seen.add(id(value))
        _add_code(state, value.__code__)
        _add(state, value.__defaults__, seen)
        for name in sorted(_names(value.__code__)):
            if name in value.__globals__:
                state.update(name.encode())
                _add(state, value.__globals__[name], seen)
        for cell in value.__closure__ or ():
            _add(state, cell.cell_contents, seen)
    elif isinstance(value, pytypes.ModuleType):
        state.update(f"{value.__name__} {getattr(value, '__version__', '')}".encode())
        if value.__name__.partition(".")[0] not in (
            "numpy",
            "math",
            "numba",
            "tapegrad",
            "operator",
            "cmath",
            "random",
        ):
            raise UnknownError
    elif isinstance(value, np.ndarray):
        state.update(f"{value.dtype} {value.shape}".encode() + np.ascontiguousarray(value).tobytes())
    elif isinstance(value, (tuple, list)):
        state.update(f"{type(value)} {len(value)}".encode())
        for item in value:
            _add(state, item, seen)
    elif isinstance(value, (int, float, complex, str, bytes, type(None), np.generic, types.Type)):
        state.update(f"{type(value)} {value!r}".encode())
    elif isinstance(value, (type, pytypes.BuiltinFunctionType, np.ufunc)) or (callable(value) and _is_librarys(value)):
        state.update(f"{getattr(value, '__module__', '')} {getattr(value, '__qualname__', value)}".encode())
    else:
        raise UnknownError


def _is_librarys(value: Any) -> bool:
    return str(getattr(value, "__module__", "")).partition(".")[0] in ("numpy", "numba", "math", "tapegrad")


def _add_code(state: Any, code: Any) -> None:
    state.update(code.co_code + repr(code.co_names + code.co_varnames).encode())
    for constant in code.co_consts:
        if isinstance(constant, pytypes.CodeType):
            _add_code(state, constant)
        else:
            state.update(repr(constant).encode())


def _names(code: Any) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, pytypes.CodeType):
            names |= _names(constant)
    return names
