"""What compiled code is made of, as a digest: the name under which it is kept, and found again.

A digest is the SHA-256 of an unambiguous serialisation: every item is a tag, the length of its content, and the
content, so that no two different things are written alike. A function is its bytecode, its constants, its defaults,
what its closure holds, and, by name, every global that it names; functions that it names are numbered as they are met,
and follow. So an edit of one operation changes the digests of the kernels that call it, and of no others; a comment
changes none. Users' jitted functions are written likewise: see `jitted/dependencies.py`.
"""

from __future__ import annotations

import hashlib
import itertools
import sys
import types
from collections.abc import Iterable, Iterator
from functools import cache as memoize
from opcode import EXTENDED_ARG, opmap
from pathlib import Path
from typing import Any

import numpy as np

from tapegrad import dtypes
from tapegrad.foreign import Foreign
from tapegrad.memory import is_record, parts, records_of
from tapegrad.ops.declare import Op

_PACKAGE = __name__.partition(".")[0]
_BESIDE = {"vectormath": ("lanes",)}  # modules whose functions make up another's
_LOAD_GLOBAL = opmap["LOAD_GLOBAL"]
_PLAIN = (type(None), type(Ellipsis), bool, int, float, complex, str, bytes)


class NoDigestError(TypeError):
    """There is an object of which it isn't known what compiled code takes from it."""


def tagged(tag: str, content: bytes) -> bytes:
    """An item of a serialisation."""
    return f"{tag} {len(content)}:".encode() + content


class Serialiser:
    """How what code is made of is written: pieces of bytes, and objects that are numbered and written once.

    Subclasses say what else than plain values is known, and which objects belong to libraries, whose versions tell all.
    """

    libraries: frozenset[str] = frozenset({"builtins", "math", "numpy"})

    def digest(self, *items: Any) -> str:
        """The digest of items, in 64 hexadecimal digits."""
        state, numbered, waiting = hashlib.sha256(), dict[Any, int](), list[Any]()
        pieces: Iterator[Any] = itertools.chain.from_iterable(map(self.value, items))
        while True:
            for piece in pieces:
                if isinstance(piece, bytes):
                    state.update(piece)
                    continue
                if piece not in numbered:
                    numbered[piece] = len(numbered)
                    waiting.append(piece)
                state.update(tagged("number", b"%d" % numbered[piece]))
            if not waiting:
                return state.hexdigest()
            state.update(tagged("content", b""))
            pieces = iter(self.content(waiting.pop(0)))

    def value(self, value: Any) -> Iterator[Any]:
        """The pieces of a value."""
        kind = type(value)
        if kind in _PLAIN:
            yield tagged(kind.__name__, repr(value).encode())
        elif isinstance(value, types.FunctionType):
            yield value
        elif isinstance(value, tuple):
            yield tagged("tuple", repr((kind.__name__, getattr(value, "_fields", ()), len(value))).encode())
            for item in value:
                yield from self.value(item)
        elif kind is frozenset:
            yield tagged("set", b"%d" % len(value))
            yield from sorted(b"".join(self.value(item)) for item in value)
        elif isinstance(value, np.generic) and not value.dtype.hasobject:
            yield tagged("scalar", repr(value.dtype).encode())
            yield tagged("elements", value.tobytes())
        elif isinstance(value, np.dtype) and not value.hasobject:
            yield tagged("dtype", repr(value).encode())
        elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
            layout = value.flags.c_contiguous, value.flags.f_contiguous, value.flags.aligned
            yield tagged("array", repr((kind.__name__, value.dtype, value.shape, *layout)).encode())
            yield tagged("elements", value.tobytes())
        elif isinstance(value, types.ModuleType) and value.__name__.partition(".")[0] in self.libraries:
            yield tagged("library", f"{value.__name__} {getattr(value, '__version__', '')}".encode())
        elif (name := self.library_name(value)) is not None:
            yield tagged("of a library", name.encode())
        else:
            yield from self.other(value)

    def library_name(self, value: Any) -> str | None:
        """Where an object is found in a library; None where it isn't found there."""
        module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
        if isinstance(value, np.ufunc) or (module is None and hasattr(np.random, name)):
            module, name = "numpy" if isinstance(value, np.ufunc) else "numpy.random", value.__name__
        if not isinstance(module, str) or module.partition(".")[0] not in self.libraries:
            return None
        found: Any = sys.modules.get(module)
        for part in name.split("."):
            found = getattr(found, part, None)
        return f"{module} {name}" if found is value else None

    def other(self, value: Any) -> Iterator[Any]:
        """The pieces of a value that isn't plain."""
        raise NoDigestError(f"no digest is known of {value!r}, which compiled code would take from its surroundings")

    def content(self, function: Any) -> Iterable[Any]:
        """The pieces of what is numbered."""
        yield from self.code(function.__code__, function)
        yield from self.around(function)

    def around(self, function: Any) -> Iterator[Any]:
        """The pieces of what a function holds beside its code."""
        yield from self.value(function.__defaults__)
        yield from self.value(tuple((function.__kwdefaults__ or {}).items()))
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            yield tagged("cell", name.encode())
            yield from self.named(name, cell.cell_contents, function.__code__)

    def code(self, code: types.CodeType, function: Any) -> Iterator[Any]:
        """The pieces of the code in a function, with those of the globals that it names."""
        yield tagged("code", code.co_code)
        yield tagged("exceptions", code.co_exceptiontable)
        counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags, len(code.co_consts)
        yield from self.value(
            (code.co_name, code.co_names, code.co_varnames, code.co_cellvars, code.co_freevars, counts)
        )
        for constant in code.co_consts:
            yield from self.code(constant, function) if isinstance(constant, types.CodeType) else self.value(constant)
        for name in _globals(code):
            yield tagged("global" if name in function.__globals__ else "builtin", name.encode())
            if name in function.__globals__:
                yield from self.named(name, function.__globals__[name], code)

    def named(self, name: str, value: Any, code: types.CodeType) -> Iterator[Any]:  # noqa: ARG002  others look closer
        """The pieces of what code calls by a name."""
        return self.value(value)


class _Ours(Serialiser):
    """Tapegrad's own code: what its operations and modules are."""

    def __init__(self) -> None:
        self.known: dict[types.FunctionType, tuple[Any, ...]] = {}

    def other(self, value: Any) -> Iterator[Any]:
        if isinstance(value, Op):
            yield value.function
        elif isinstance(value, Foreign):
            yield tagged("foreign", f"{value.symbol} {value.arity} {value.result}".encode())
        elif is_record(value):
            yield tagged("record", _layout(value))
        elif isinstance(value, types.ModuleType) and value.__name__.startswith(f"{_PACKAGE}."):
            yield tagged("module", _source(value.__name__.partition(".")[2]))
        elif isinstance(value, (type, dtypes.DType)):
            yield tagged("declared", repr(value).encode())
        else:
            yield from super().other(value)

    def named(self, name: str, value: Any, code: types.CodeType) -> Iterator[Any]:
        if isinstance(value, types.FunctionType) and value in parts:  # linked on its own
            return iter([tagged("part", f"{parts[value]} {value.__code__.co_argcount}".encode())])
        return super().named(name, value, code)

    def around(self, function: Any) -> Iterator[Any]:
        yield from super().around(function)
        for name, of in records_of(function).items():
            yield tagged("parameter", name.encode())
            yield from self.value(of)

    def content(self, function: Any) -> Iterable[Any]:
        pieces = self.known.get(function)
        if pieces is None:
            joined = list[Any]()
            for is_text, group in itertools.groupby(super().content(function), lambda piece: isinstance(piece, bytes)):
                joined += [b"".join(group)] if is_text else list(group)  # noqa: B031  used once
            pieces = self.known[function] = tuple(joined)
        return pieces


_ours = _Ours()


def of(*items: Any) -> str:
    """The digest of items: functions of tapegrad's, operations, numbers, texts, and tuples of these."""
    return _ours.digest(*items)[:20]


def _globals(code: types.CodeType) -> list[str]:
    """The names that code loads as globals; an attribute may have the name of a function, and `H.obtain` calls none.

    (`dis` tells them too, and takes 40 ms of each process's start.)
    """
    found, extended = dict[str, None](), 0
    for operation, argument in zip(code.co_code[::2], code.co_code[1::2], strict=True):
        argument |= extended
        extended = argument << 8 if operation == EXTENDED_ARG else 0
        if operation == _LOAD_GLOBAL:
            found[code.co_names[argument >> 1]] = None  # the lowest bit says whether it is called
    return list(found)


@memoize
def _layout(record: Any) -> bytes:
    """What a record's declaration says: asked for by each part that it is given to."""
    return "\n".join(record.layout()).encode()


@memoize
def _source(module: str) -> bytes:
    """The digest of the source of a module, or of a package's modules, and of those beside it."""
    root, state = Path(__file__).parent.parent, hashlib.sha256()
    for name in (module, *_BESIDE.get(module, ())):
        path = root / name.replace(".", "/")
        for source in sorted(path.glob("*.py")) if path.is_dir() else [path.with_suffix(".py")]:
            state.update(tagged(source.name, source.read_bytes()))
    return state.digest()


@memoize
def compilers() -> str:
    """The digest of what makes kernels of declarations."""
    modules = ("kernels.__init__", "kernels.native", "kernels.parts", "kernels.records", "kernels.loops", "memory")
    return hashlib.sha256(b"".join(map(_source, modules))).hexdigest()


@memoize
def package() -> str:
    """The digest of all sources: of what may be made from any of them."""
    root, state = Path(__file__).parent.parent, hashlib.sha256()
    for source in sorted(root.rglob("*.py")):
        state.update(tagged(str(source.relative_to(root)), source.read_bytes()))
    return state.hexdigest()
