"""Who asks a Tensor for numbers or an array: C code doesn't say, but the frame that called it stands at the call."""

from __future__ import annotations

import dis
import functools
import math
import sys
from collections.abc import Callable
from types import CodeType, FrameType, ModuleType
from typing import Any

LIBRARIES = {"matplotlib", "numpy", "pandas", "scipy", "sklearn", "statsmodels"}  # to which tensors would be numbers
_PACKAGE = __name__.partition(".")[0]


def root(frame: FrameType) -> str:
    """The package that a frame's code is of."""
    name: str = frame.f_globals.get("__name__", "")
    return name.partition(".")[0]


def outside() -> FrameType | None:
    """The innermost frame of other code than the package's own."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and root(frame) == _PACKAGE:
        frame = frame.f_back
    return frame


def asker() -> tuple[str, str]:
    """The library's function that asks the caller's method for an array, and the line from which it was called."""
    frame: FrameType = sys._getframe(2)
    name = "NumPy"
    while frame.f_back is not None and ((owner := root(frame)) == _PACKAGE or owner in LIBRARIES):
        module = frame.f_globals["__name__"]
        if owner != _PACKAGE and "wrap" not in frame.f_code.co_name and "array_api_compat" not in module:
            name = f"{_public(module)}.{frame.f_code.co_qualname.rpartition('<locals>.')[2]}"
        frame = frame.f_back
    called: Any = _called(frame) if calls(frame) else None
    module = getattr(called, "__module__", None) or ""
    if module.partition(".")[0] in LIBRARIES and hasattr(called, "__qualname__"):  # rather than what that calls
        name = f"{_public(module)}.{called.__qualname__}"
    return name, f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _public(module: str) -> str:
    """A module's name without the parts that libraries keep to themselves."""
    return ".".join(part for part in module.split(".") if part[0] != "_")


def _at(frame: FrameType) -> int:
    """Where the instruction is at which a frame stands: it may be behind it, in its cache."""
    at, code = frame.f_lasti, frame.f_code.co_code
    while dis.opname[code[at]] == "CACHE":
        at -= 2
    return at


def does(frame: FrameType) -> str:
    """The name of the instruction at which a frame stands."""
    return dis.opname[frame.f_code.co_code[_at(frame)]]


def calls(frame: FrameType) -> bool:
    """Whether a frame stands at a call."""
    return does(frame).startswith(("CALL", "PRECALL"))


_REMAINDERS = {6, 19}  # of BINARY_OP: `%` and `%=`
# What makes numbers of which nobody takes derivatives, or all are zero.
_WANTS_NUMBERS = (
    float, int, format, math.ceil, math.floor, math.isclose, math.isfinite, math.isinf, math.isnan, math.trunc
)  # fmt: skip


def wants_number(frame: FrameType) -> bool:
    """Whether a frame's own text asks for a number, as `float(x)` and `"%.3f" % x` do.

    What C code makes of a Tensor unasked, `math.sin(x)` and `array[0] = x`, is something else. Where that can't be
    told, the answer is False.
    """
    if does(frame) == "BINARY_OP":
        return frame.f_code.co_code[_at(frame) + 1] in _REMAINDERS
    called = _called(frame) if calls(frame) else None
    return any(called is function for function in _WANTS_NUMBERS)


def name_called(frame: FrameType) -> str:
    """By what name a frame calls, as "math.sin"; nothing where that can't be told."""
    return ".".join(_names_called(frame.f_code, _at(frame))) if calls(frame) else ""


def _called(frame: FrameType) -> Any:
    """The function or class that a frame calls, where it is called by its name or as a module's attribute."""
    name, *attributes = _names_called(frame.f_code, _at(frame)) or ("",)
    found: Any = None
    for names in (frame.f_locals, frame.f_globals, frame.f_builtins):
        if name in names:
            found = names[name]
            break
    for attribute in attributes:
        found = getattr(found, attribute, None) if isinstance(found, ModuleType) else None
    return found


@functools.lru_cache(1024)
def _names_called(code: CodeType, at: int) -> tuple[str, ...]:
    """The dotted name of what an instruction calls: what was loaded last where its text begins."""
    places = [*code.co_positions()]  # lines and columns: beginnings in front of their ends
    place = places[at // 2]
    names: tuple[str, ...] = ()
    if None in place:
        return names
    for instruction in dis.get_instructions(code):
        if instruction.offset >= at:
            break
        its = places[instruction.offset // 2]
        if its == place or its[::2] != place[::2]:  # a part of the call, or of its arguments
            continue
        if instruction.opname.startswith(("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FAST", "LOAD_DEREF")):
            names = (str(instruction.argval),)
        elif instruction.opname.startswith(("LOAD_ATTR", "LOAD_METHOD")):
            names = names and (*names, instruction.argval)
        elif instruction.opname not in {"PUSH_NULL", "EXTENDED_ARG", "CACHE"}:
            names = ()
    return names


def unseen(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of the package's returns, which a profiler need not see: each call that it sees costs a call."""
    profiler = sys.getprofile()
    try:
        sys.setprofile(None)
        return function(*arguments)
    finally:
        sys.setprofile(profiler)
