"""What compiled code is made of, as a digest: the name under which it is kept, and found again.

A digest is the SHA-256 of an unambiguous serialisation: every item is a tag, the length of its content, and the
content, so that no two different things are written alike. A function is its bytecode, its constants, its defaults,
what its closure holds, and, by name, every global that it names; functions that it names are numbered as they are met,
and follow. So an edit of one operation changes the digests of the kernels that call it, and of no others; a comment
changes none.
"""

from __future__ import annotations

import hashlib
import types
from collections.abc import Iterator
from functools import cache as memoize
from opcode import EXTENDED_ARG, opmap
from pathlib import Path
from typing import Any

import numpy as np

from tapegrad import dtypes
from tapegrad.op import Op

_PACKAGE = __name__.partition(".")[0]
_BESIDE = {"vectormath": ("lanes",)}  # modules whose functions make up another's
_LOAD_GLOBAL = opmap["LOAD_GLOBAL"]
Item = bytes | types.FunctionType


class NoDigestError(TypeError):
    """There is an object of which it isn't known what compiled code takes from it."""


def of(*items: Any) -> str:
    """The digest of items: functions of tapegrad's, operations, numbers, texts, and tuples of these."""
    state, numbered = hashlib.sha256(), dict[types.FunctionType, int]()

    def put(item: Item) -> None:
        if isinstance(item, bytes):
            state.update(item)
        else:
            state.update(b"f%d;" % numbered.setdefault(item, len(numbered)))

    for item in items:
        for piece in _serialised(item):
            put(piece)
    done = 0
    while done < len(numbered):
        for piece in _content(list(numbered)[done]):
            put(piece)
        done += 1
    return state.hexdigest()[:20]


def _tagged(tag: str, content: bytes) -> bytes:
    return f"{tag} {len(content)}:".encode() + content


def _serialised(value: Any) -> Iterator[Item]:
    """An item; functions in it are given as they are, to be numbered."""
    if isinstance(value, Op):
        value = value.function
    if isinstance(value, types.FunctionType):
        yield value
    elif isinstance(value, types.ModuleType) and value.__name__.startswith(f"{_PACKAGE}."):
        yield _tagged("module", _source(value.__name__.partition(".")[2]))
    elif isinstance(value, types.ModuleType) and value.__name__ in ("math", "numpy"):
        yield _tagged("library", f"{value.__name__} {getattr(value, '__version__', '')}".encode())
    elif isinstance(value, np.ndarray):
        yield _tagged("array", repr((value.dtype.descr, value.shape)).encode())
        yield _tagged("elements", value.tobytes())
    elif isinstance(value, tuple):
        yield _tagged("tuple", repr((type(value).__name__, getattr(value, "_fields", ()), len(value))).encode())
        for item in value:
            yield from _serialised(item)
    elif value is None or isinstance(
        value, (bool, int, float, str, bytes, np.generic, np.dtype, dtypes.DType, type, types.BuiltinFunctionType)
    ):
        yield _tagged(str(type(value)), repr(value).encode())
    else:
        raise NoDigestError(f"no digest is known of {value!r}, which compiled code would take from its surroundings")


@memoize
def _content(function: types.FunctionType) -> tuple[Item, ...]:
    pieces = [*_code(function.__code__, function.__globals__), *_serialised(function.__defaults__)]
    for cell in function.__closure__ or ():
        pieces += _serialised(cell.cell_contents)
    return tuple(pieces)


def _code(code: types.CodeType, names: dict[str, Any]) -> Iterator[Item]:
    yield _tagged("code", code.co_code)
    yield _tagged("exceptions", code.co_exceptiontable)
    yield from _serialised((code.co_name, code.co_names, code.co_varnames, code.co_cellvars, code.co_freevars))
    for constant in code.co_consts:
        yield from _code(constant, names) if isinstance(constant, types.CodeType) else _serialised(constant)
    for name in _globals(code):
        if name in names:
            yield from _serialised(names[name])


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
def _source(module: str) -> bytes:
    """The digest of a module's source, and of those of the modules beside it."""
    root, state = Path(__file__).parent.parent, hashlib.sha256()
    for name in (module, *_BESIDE.get(module, ())):
        state.update(_tagged(name, (root / (name.replace(".", "/") + ".py")).read_bytes()))
    return state.digest()


@memoize
def compilers() -> str:
    """The digest of what makes kernels of declarations."""
    modules = ("kernels.__init__", "kernels.native", "kernels.loops", "memory")
    return hashlib.sha256(b"".join(map(_source, modules))).hexdigest()


@memoize
def package() -> str:
    """The digest of all sources: of what may be made from any of them."""
    root, state = Path(__file__).parent.parent, hashlib.sha256()
    for source in sorted(root.rglob("*.py")):
        state.update(_tagged(str(source.relative_to(root)), source.read_bytes()))
    return state.hexdigest()
