"""What a kernel computes, read from its declaration: the function of an operation, or a rule, over expressions.

An expression is a tuple: ("a",) and the like are what a kernel is given, ("truth", "a") where that is a bool,
("number", bits), and (name, *expressions) what is done. Only what has the same bits in machine code as in the kernel is
followed: sums, products, quotients, square roots, signs, comparisons and what is chosen by them. Of all else
`expression` is None: then the kernel is called.
"""

from __future__ import annotations

import dis
import functools
import struct
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from tapegrad import vectormath
from tapegrad.dtypes import DTYPES
from tapegrad.ops.declare import Op, parameters

Expression = tuple[Any, ...]
_MOST_CHOICES, _MOST_STEPS = 3, 24


class _NotFollowedError(Exception):
    """It is more than sums, products and so on."""


class _AskedError(Exception):
    """Code branches by a comparison."""


class _Truth:
    """A comparison: code that asks for its outcome is followed both ways."""

    def __init__(self, of: Expression, path: _Path) -> None:
        self.of, self.path = of, path

    def __bool__(self) -> bool:
        return self.path.outcome(self.of)


class _Path:
    """The outcomes on a way through the code."""

    def __init__(self, outcomes: tuple[bool, ...]) -> None:
        self.outcomes, self.n_asked = outcomes, 0

    def outcome(self, of: Expression) -> bool:
        """The next one."""
        self.n_asked += 1
        if self.n_asked > len(self.outcomes):
            raise _AskedError(of)
        return self.outcomes[self.n_asked - 1]


class _Traced:
    """An expression, to Python code."""

    def __init__(self, of: Expression, path: _Path, numbers: tuple[type, ...]) -> None:
        self.of, self.path = of, path
        self.numbers = numbers  # the types of constants that compute in the dtype of the kernel

    def _made(self, name: str, *operands: Any) -> _Traced:
        return _Traced((name, *(self._expression(x, self.numbers) for x in operands)), self.path, self.numbers)

    def _expression(self, x: Any, numbers: tuple[type, ...] = (int, float)) -> Expression:
        if type(x) is _Traced:
            return x.of
        if type(x) not in numbers:
            raise _NotFollowedError
        return number(x)

    def _compared(self, name: str, a: Any, b: Any) -> _Truth:
        return _Truth((name, self._expression(a), self._expression(b)), self.path)

    def __add__(self, other: Any) -> Any:
        return self._made("add", self, other)

    def __radd__(self, other: Any) -> Any:
        return self._made("add", other, self)

    def __sub__(self, other: Any) -> Any:
        return self._made("sub", self, other)

    def __rsub__(self, other: Any) -> Any:
        return self._made("sub", other, self)

    def __mul__(self, other: Any) -> Any:
        return self._made("mul", self, other)

    def __rmul__(self, other: Any) -> Any:
        return self._made("mul", other, self)

    def __truediv__(self, other: Any) -> Any:
        return self._made("div", self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return self._made("div", other, self)

    def __neg__(self) -> Any:
        return self._made("neg", self)

    def __abs__(self) -> Any:
        return self._made("abs", self)

    def __lt__(self, other: Any) -> Any:
        return self._compared("lt", self, other)

    def __gt__(self, other: Any) -> Any:
        return self._compared("lt", other, self)

    def __le__(self, other: Any) -> Any:
        return self._compared("le", self, other)

    def __ge__(self, other: Any) -> Any:
        return self._compared("le", other, self)

    def __eq__(self, other: object) -> Any:
        return self._compared("eq", self, other)

    def __ne__(self, other: object) -> Any:
        return self._compared("ne", self, other)

    __hash__ = None  # type: ignore[assignment]


class _Functions:
    """In the place of `vectormath`."""

    def __getattr__(self, name: str) -> Callable[[Any], Any]:
        def sqrt(x: Any) -> Any:  # the machine's own
            return x._made("sqrt", x)

        if name == "sqrt":
            return sqrt
        if name == "rsqrt":
            return lambda x: 1.0 / sqrt(x)
        raise _NotFollowedError


@functools.lru_cache(1024)
def expression(op: Op, k: int, code: int) -> Expression | None:
    """What the kernel for a dtype computes of an operation's value (k = -1), or of a partial; None if not followed.

    It is one over floats of a dtype, some of which may be truths; so may a value be.
    """
    function = op.function if k < 0 else op.partials[k]
    *codes, of_y = op.signature(code)
    itemsize = DTYPES[code].itemsize
    if function is None or not {*codes, of_y} <= {code, 0} or code not in (3, 4) or (k >= 0 and codes[k] != code):
        return None
    names = ["abc"[i] for i in range(op.arity)] if k < 0 else [{"x": "a"}.get(n, n) for n in parameters(function)]
    truths = {name for name, of in zip("abc", codes, strict=False) if of == 0}
    # Constants of a rule are in its dtype; in float32 others would make float64 of what they meet.
    numbers: tuple[type, ...] = (int, float) if itemsize == 8 else (float,) if k >= 0 else ()
    try:
        found = _followed(_rebound(function, numbers), names, truths, numbers, ())
    except Exception:  # noqa: BLE001 - code of any kind, over what it was not written for
        return None
    is_truth = found[0] in ("truth", "eq", "ne", "lt", "le")
    return found if _fits(found, itemsize) and is_truth is (k < 0 and of_y == 0) else None


def _followed(
    function: Callable[..., Any],
    names: list[str],
    truths: set[str],
    numbers: tuple[type, ...],
    outcomes: tuple[bool, ...],
) -> Expression:
    """What a function comes to after these outcomes of comparisons."""
    path = _Path(outcomes)
    try:
        given = [_Truth(("truth", name), path) if name in truths else _Traced((name,), path, numbers) for name in names]
        made = function(*given)
    except _AskedError as asked:
        if len(outcomes) == _MOST_CHOICES:
            raise _NotFollowedError from None
        ways = [_followed(function, names, truths, numbers, (*outcomes, outcome)) for outcome in (True, False)]
        return "choose", asked.args[0], *ways
    return made.of if type(made) in (_Traced, _Truth) else number(made)


def _rebound(function: Callable[..., Any], numbers: tuple[type, ...], is_within: bool = False) -> Callable[..., Any]:
    """A function that calls operations as functions of elements."""
    names = {**function.__globals__}
    for name in {i.argval for i in dis.get_instructions(function) if i.opname == "LOAD_GLOBAL"}:
        value = names.get(name)
        value = value.function if isinstance(value, Op) else value
        if isinstance(value, ModuleType) and value is vectormath:
            names[name] = _Functions()
        elif isinstance(value, FunctionType) and value.__module__.startswith("tapegrad."):
            names[name] = _rebound(value, numbers, True)
    code = FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)
    if not is_within or int in numbers:
        return code

    def called(*given: Any) -> Any:  # a rule's constants are those in its own code
        made = code(*(_Traced(x.of, x.path, ()) if type(x) is _Traced else x for x in given))
        return _Traced(made.of, made.path, numbers) if type(made) is _Traced else made

    return called


def number(x: Any) -> Expression:
    """A constant, which is known by its bits in float64: zeros have signs."""
    if type(x) not in (int, float) or not abs(x) <= 1 << 53:
        raise _NotFollowedError
    return "number", struct.unpack("=q", struct.pack("=d", x))[0]


def value_of(of: Expression) -> float:
    """The value of a constant."""
    return float(struct.unpack("=d", struct.pack("=q", of[1]))[0])


def _fits(of: Expression, itemsize: int) -> bool:
    """Whether it has few steps, and constants that are chosen are such in the dtype."""
    steps: set[Expression] = set()
    fits = True

    def look(of: Expression, is_chosen: bool) -> None:
        nonlocal fits
        if of[0] == "number":
            fits &= itemsize == 8 or not is_chosen or float(np.float32(value_of(of))) == value_of(of)
        elif len(of) > 1 and of[0] != "truth" and of not in steps:
            steps.add(of)
            for x in of[1:]:
                look(x, of[0] in ("choose", "eq", "ne", "lt", "le"))

    look(of, True)
    return fits and len(steps) <= _MOST_STEPS
