"""What users are told about code that can't be differentiated: the construct, their line, and the likely repair."""

from __future__ import annotations

import contextlib
import linecache
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numba.core import errors


class NotDifferentiableError(TypeError):
    """A jitted function does something that has no derivative here; raised when it is compiled.

    The message names the construct, the user's line, and the likely repair.
    """

    def __init__(self, construct: str, where: str, repair: str) -> None:
        self.construct, self.where, self.repair = construct, where, repair
        super().__init__(self.text)

    @property
    def text(self) -> str:
        """The whole message."""
        return f"can't differentiate {self.construct}\n  at {self.where}\n  {self.repair}"

    def __str__(self) -> str:
        return self.text


class WrongResultError(Exception):
    """Raised inside, where a function that must return a number returns something else."""


def where_is(loc: Any) -> str:
    """A place in the user's source, with its text."""
    line = linecache.getline(loc.filename, loc.line).strip()
    return f"{loc.filename}:{loc.line}" + (f": {line}" if line else "")


def where_is_function(function: Any) -> str:
    """Where a function of the user's begins."""
    code = function.__code__
    line = linecache.getline(code.co_filename, code.co_firstlineno).strip()
    return f"{code.co_filename}:{code.co_firstlineno}" + (f": {line}" if line else "")


@contextlib.contextmanager
def explained(function: Any) -> Iterator[None]:
    """Turn what Numba says when it can't compile a function for active values into an error of ours."""
    try:
        yield
    except NotDifferentiableError as error:
        raise NotDifferentiableError(error.construct, error.where, error.repair) from None
    except errors.NumbaError as error:
        raise _explanation(error, function) from None


def _explanation(error: Any, function: Any) -> NotDifferentiableError:
    text = _without_colours(str(error))
    code = function.__code__
    calls = [m for m in re.finditer(r">>> ((\w+)\(.*)", text) if m[2] not in _OURS]
    places = _places(text[calls[-1].end() :]) if calls else _places(text)
    filename, line = places[0] if places else (code.co_filename, str(code.co_firstlineno))
    source = linecache.getline(filename, int(line)).strip()
    where = f"{filename}:{line}" + (f": {source}" if source else "")
    if calls:
        return NotDifferentiableError(f"`{_readable(calls[-1][1])}`", where, _repair(calls[-1][1]))
    unify = re.search(r"Cannot unify (.*) and (.*) for '(.*?)[.'\d]*'", text)
    if unify:
        return NotDifferentiableError(
            f"`{unify[3]}`, which is {_readable(unify[1])} in one place and {_readable(unify[2])} in another", where,
            "let it be the same in all: convert the plain one, e.g. with numpy.array",
        )  # fmt: skip
    lines = [line.strip() for line in text.splitlines() if line.strip() and "pipeline" not in line]
    return NotDifferentiableError(
        _readable(lines[0]) if lines else "this function", where, "does it compile with Numba?"
    )


_OURS = {"protected", "lift", "keep", "own", "strip", "rows", "tangents", "shaped", "count", "scalar"}


def _places(text: str) -> list[tuple[str, str]]:
    """Where Numba was in the user's source, innermost first."""
    here = Path(__file__).parent
    found = re.findall(r"(?:typing of .* at|Location:) (\S+) \((\d+)\)", text)
    found += re.findall(r'File "([^"]+)", line (\d+)', text)
    return [p for p in found if Path(p[0]).suffix == ".py" and not Path(p[0]).resolve().is_relative_to(here)]


def _repair(call: str) -> str:
    if call.startswith("setitem(readonly array("):
        return (
            "what is given to a step of a checkpointed loop, or to a function marked by preaccumulate, can't be "
            "written to: copy it, or make it part of the state"
        )
    if call.startswith("setitem(array("):
        dtype = call[len("setitem(array(") :].split(",", maxsplit=1)[0]
        return (
            f"an element of a {dtype} array can't hold derivatives: create the array as float64 inside the function"
            if dtype != "float64"
            else "this array is made outside of the function, where it holds plain numbers: make it inside, or copy it"
        )
    return "compute it with functions that are differentiated, or give its derivative with tapegrad.custom_rule"


def _readable(text: str) -> str:
    text = re.sub(r"(Taped|Dual)\(\d+\)", "float64 with derivatives", text)
    return re.sub(r"Literal\[\w+\]\(([^)]*)\)", r"\1", text)


def _without_colours(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
