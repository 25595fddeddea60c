"""What users are told about code that can't be differentiated: the construct, their line, and the likely repair."""

from __future__ import annotations

import contextlib
import linecache
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
from numba.core import config, errors, ir

from tapegrad import pages


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
        return f"can't differentiate {self.construct}\n  at {self.where}\n  {self.repair}{pages.JITTED}"

    def __str__(self) -> str:
        return self.text


def refuse_without_compiler() -> None:
    """Raise RuntimeError where Numba was told to compile nothing."""
    if config.DISABLE_JIT:
        raise RuntimeError(
            "gradients of jitted functions are compiled, and Numba compiles nothing where NUMBA_DISABLE_JIT is set: "
            "unset it, or give Tensors, with which functions are run as plain Python"
        )


class WrongResultError(Exception):
    """Raised inside, where a function that must return a number returns something else."""


def where_is(loc: Any) -> str:
    """A place in the user's source, with its text."""
    line = linecache.getline(loc.filename, loc.line).strip()
    return f"{loc.filename}:{loc.line}" + (f": {line}" if line else "")


def where_is_function(function: Any) -> str:
    """Where a function of the user's begins."""
    code = function.__code__
    line = code.co_firstlineno
    while linecache.getline(code.co_filename, line).lstrip().startswith("@"):  # decorators
        line += 1
    return where_is(ir.Loc(code.co_filename, line))


@contextlib.contextmanager
def explained(function: Any) -> Iterator[None]:
    """Turn what Numba says when it can't compile a function for active values into an error of ours."""
    try:
        yield
    except NotDifferentiableError as error:
        where = error.where
        if _is_ours(where.partition(".py:")[0] + ".py"):  # in code of Numba's, which the user's calls
            where = _where_it_was(error, function)
        raise NotDifferentiableError(error.construct, where, error.repair) from None
    except WrongResultError as error:
        raise RuntimeError(_refusal(_readable(str(error)), where_is_function(function))) from None
    except errors.NumbaError as error:
        raise _explanation(error, function) from None
    except Exception as error:  # what Numba didn't expect; or, with one of ours, what we didn't
        raise _explanation(error, function) from error


def _refusal(found: str, where: str) -> str:
    if found in ("a list", "a dictionary", "an instance of a class"):
        return (
            f"jitted functions that are differentiated return numbers, arrays, or tuples and named tuples of them, but "
            f"this one returns {found}: let it return a named tuple\n  at {where}"
        )
    return (
        f"a gradient is that of a function that returns a number, but this one returns {found}: see "
        f"tapegrad.func.jacrev and vjp\n  at {where}"
    )


def _explanation(error: Exception, function: Any) -> NotDifferentiableError:
    text = _without_colours(str(error))
    calls = [m for m in re.finditer(r">>> ((\w+)\(.*)", text) if m[2] not in _OURS]
    places = _places(text[calls[-1].end() :]) if calls else _places(text)
    where = where_is(ir.Loc(*places[0])) if places else _where_it_was(error, function)
    if calls and calls[-1][2] == "exception_match":
        repair = "Numba knows `except:` and `except Exception:` only"
        return NotDifferentiableError("an `except` of one kind of exceptions", where, repair)
    if calls:
        return NotDifferentiableError(f"`{_readable(calls[-1][1])}`", where, _repair(calls[-1][1]))
    unify = re.search(r"Cannot unify (.*) and (.*) for '(.*?)[.'\d]*'", text)
    if unify:
        return NotDifferentiableError(
            f"`{unify[3]}`, which is {_readable(unify[1])} in one place and {_readable(unify[2])} in another", where,
            "let it be the same in all: convert the plain one, e.g. with numpy.array",
        )  # fmt: skip
    declared = re.search(r"No conversion from (.*) to (.*) for '(.*?)[.'\d]*'", text)
    if declared:
        return NotDifferentiableError(
            f"`{declared[3]}`, which is {_readable(declared[1])}, but declared {declared[2]}", where,
            "declare float64, or leave its type to Numba",
        )  # fmt: skip
    cast = re.search(r"Cannot cast (.*?) to (\S+): %", text)
    if cast:
        return NotDifferentiableError(
            f"a place for {_readable(cast[2])} that is given {_readable(cast[1])}", where,
            "declared types, of the fields of a record or a jitclass say, hold plain numbers: use arrays or tuples",
        )  # fmt: skip
    given = re.search(r"mismatch of argument types: (.*) vs (.*)", text)
    if given:
        return NotDifferentiableError(
            f"a function of a declared type, of {_readable(given[2])}, which is given {_readable(given[1])}", where,
            "it is called by its address: declare no signature, or call the functions by their names",
        )  # fmt: skip
    what = _innermost(text)
    if "to a Python object" in what:
        return NotDifferentiableError(
            "a number with derivatives that becomes an object of Python's, the key of a dictionary say", where,
            "keep it as a number: in an array, a list, or a dictionary's values",
        )  # fmt: skip
    for pattern, construct in _REFUSED_BY_NUMBA:
        found = re.search(pattern, what)
        if found:
            return NotDifferentiableError(found.expand(construct), where, "Numba doesn't compile it either")
    if not isinstance(error, errors.NumbaError):
        what = f"{type(error).__name__}: {what}" if what else type(error).__name__
    return NotDifferentiableError(f"this function: {_readable(what)}", where, "does it compile without derivatives?")


# What Numba says of code that has nothing to do with derivatives, and what we call it.
_REFUSED_BY_NUMBA = (
    (r"Use of unsupported opcode \((\w+)\)", r"a statement of Python's that Numba doesn't know (bytecode \1)"),
    (r"Unknown attribute '(\w+)' of type Module\(<module '([\w.]+)'", r"`\2.\1`, which Numba doesn't know"),
    (r"unsupported NumPy function '([\w.]+)'", r"`\1`, which Numba doesn't know, or not with these arguments"),
    (r"Untyped (?:global|freevar) name '([^']+)': .*?(?:<class '(?:\w+\.)*(\w+)'>|$)",
     r"`\1`, which Numba makes nothing of (\2)"),
    (r"Type of variable '\$", "an expression whose type can't be told"),
    (r"use of yield in a closure", "a generator expression, or a generator inside of another function"),
    (r"Exception object cannot be stored into variable \((\w+)\)", r"an exception that is given a name (`as \1`)"),
    (r"Multiple argument raise", "`raise ... from ...`"),
    (r"use of a (\w+ \w+).*? type, assigned to variable '(\w+)' in globals", r"`\2`, a global that is a \1"),
    (r"The '(.*?)' construct is not supported", r"`\1`"),
    (r"^(format spec in f-strings)", r"a \1"),
)  # fmt: skip


def _where_it_was(error: Exception, function: Any) -> str:
    """The line of the user's that Numba was at when it failed: it keeps it in a variable; else the function's first."""
    found, step = None, error.__traceback__
    while step is not None:
        for name in ("loc", "inst", "constraint", "stmt"):
            known = step.tb_frame.f_locals.get(name)
            loc = getattr(known, "loc", known)
            if isinstance(loc, ir.Loc) and not _is_ours(loc.filename):
                found = loc
        step = step.tb_next
    return where_is_function(function) if found is None else where_is(found)


def _innermost(text: str) -> str:
    """What Numba says of the innermost function that it could not compile."""
    text = re.split(r"raised a specific error:\s*(?:\w+Error: )?", text)[-1]
    lines = [re.sub(r"\.* Raised from .*", "", line).strip() for line in text.splitlines()]
    return next((line for line in lines if line and "pipeline" not in line and "<intrinsic" not in line), "")


_OURS = {"protected", "lift", "keep", "own", "strip", "rows", "tangents", "shaped", "count", "scalar",
         "promote"}  # fmt: skip


def _places(text: str) -> list[tuple[str, int]]:
    """Where Numba was in the user's source, innermost first."""
    found = re.findall(r"(?: at|Location:) (\S+\.py) \((\d+)\)", text)
    found += re.findall(r'File "([^"]+)", line (\d+)', text)
    found += re.findall(r"Raised from (\S+) \((\d+)\)", text)
    return [(str(Path(name).resolve()), int(line)) for name, line in found if not _is_ours(name)]


def _is_ours(filename: str) -> bool:
    """Whether a file is Numba's or of this package, or a text of ours: then the line is none of the user's."""
    path = Path(filename).resolve()
    return path.suffix != ".py" or any(
        path.is_relative_to(folder) for folder in (Path(__file__).parent, Path(numba.__file__).parent)
    )


def _repair(call: str) -> str:
    if call.startswith("setitem(readonly array("):
        return (
            "what is global, or given to a step of a checkpointed loop or to a function marked by preaccumulate, can't "
            "be written to: copy it, or make it part of the state"
        )
    if call.startswith("setitem(array(Record("):
        return 'write to the elements of a field: a["x"][:] = ...'
    if call.startswith("setitem(array("):
        dtype = _readable(call[len("setitem(array(") :].split(",", maxsplit=1)[0])
        if dtype == "float64 with derivatives":
            return "write element by element, or slices of the same shape"
        return (
            f"an element of an array of {dtype} can't hold derivatives: create the array as float64 inside the function"
            if dtype != "float64"
            else "this array is made outside of the function, where it holds plain numbers: make it inside, or copy it"
        )
    return "compute it with functions that are differentiated, or give its derivative with tapegrad.custom_rule"


def _readable(text: str) -> str:
    text = re.sub(r"type\(\w*Dispatcher\(<function ([^ $]+)[^>]* at 0x\w+>\)\)", r"\1", text)
    text = re.sub(r"(Taped|Dual)\(\d+\)", "float64 with derivatives", text)
    text = re.sub(r"Record\(.*?;\d+;(True|False)\)", "record", text)
    text = text.replace("Complex(float64 with derivatives)", "complex128 with derivatives")
    text = text.replace("Narrow(float64 with derivatives)", "float32 with derivatives")
    return re.sub(r"Literal\[\w+\]\(([^)]*)\)", r"\1", text)


def _without_colours(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
