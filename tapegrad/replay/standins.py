"""What stands for arrays and numbers among the arguments, and for random numbers, while a function is recorded.

A program must not depend on what the recorder can't see, and it can't see what NumPy or Python do with an array or a
number. So a stand-in is given, which knows how to make what it stands for of other arguments, and of other draws. What
NumPy's functions and Python's operators make of it is a stand-in again: they are called again before a program is run.
Whoever asks for the elements themselves is given them, and the watch is told.
"""

from __future__ import annotations

import functools
import math
import operator
import struct
import types
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tapegrad.tape import current_tape
from tapegrad.tensor import Tensor

_pack = struct.Struct("=d").pack
Make = Callable[[Any, Any], Any]  # what is stood for, of arguments and draws

# Methods and functions of arrays that only compute, and answer with arrays.
_METHODS = {
    "argmax", "argmin", "argsort", "astype", "clip", "copy", "cumprod", "cumsum", "diagonal", "dot", "flatten", "max",
    "mean", "min", "prod", "ravel", "repeat", "reshape", "round", "squeeze", "std", "sum", "swapaxes", "take",
    "transpose", "var",
}  # fmt: skip


class Shown:
    """What stands for what a transform has made: see `shown.py`."""

    __slots__ = ()


def is_shown(x: Any) -> bool:
    """Whether it stands for what a transform has made."""
    return issubclass(type(x), Shown)


class ForArray:
    """What stands for an array, `value`, is one to whoever asks."""

    __slots__ = ()
    value: np.ndarray

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return np.ndarray

    # What is known without looking at elements.
    shape = property(lambda self: self.value.shape)
    dtype = property(lambda self: self.value.dtype)
    ndim = property(lambda self: self.value.ndim)
    size = property(lambda self: self.value.size)
    nbytes = property(lambda self: self.value.nbytes)
    itemsize = property(lambda self: self.value.itemsize)


class StandIn(ForArray):
    """Stands for an array, `value`."""

    __slots__ = ("make", "value", "watch")

    def __init__(self, watch: Any, value: np.ndarray, make: Make) -> None:
        self.watch, self.value, self.make = watch, value, make

    @property
    def T(self) -> Any:  # noqa: N802
        """As of arrays."""
        return self._by(np.ndarray.transpose, self)

    def _by(self, function: Callable[..., Any], *given: Any, **facts: Any) -> Any:
        """What a function that only computes makes of it; of numbers, those of float64 are stood for."""
        of = _elements if function in _OPERATORS or isinstance(function, np.ufunc) else _value
        made = function(*map(of, given), **facts)
        if isinstance(made, np.ndarray):
            return StandIn(self.watch, made, Again(function, given, facts))
        if type(made) is np.float64:
            return Number(self.watch, made, Again(function, given, facts), None)
        self.asked()
        return made

    def asked(self) -> np.ndarray:
        """The array, for someone who may do with it what can't be seen."""
        self.watch.fail("does with an array what is not known to be repeatable")
        return self.value

    def __len__(self) -> int:
        return len(self.value)

    def __getitem__(self, given: Any) -> Any:
        if any(isinstance(part, Tensor) for part in (given if isinstance(given, tuple) else (given,))):
            return self.asked()[given]
        return self._by(operator.getitem, self, given)

    def __iter__(self) -> Any:
        return iter([self[i] for i in range(len(self.value))])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__array_") or not hasattr(np.ndarray, name):
            raise AttributeError(name)
        if name in _METHODS:
            return lambda *given, **facts: self._by(getattr(np.ndarray, name), self, *given, **facts)
        return getattr(self.asked(), name)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.asked(), dtype)

    def __setitem__(self, place: Any, value: Any) -> None:
        self.asked()[place] = value

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **facts: Any) -> Any:
        if any(isinstance(x, Tensor) or is_shown(x) for x in inputs):
            return NotImplemented
        if facts or method != "__call__" or ufunc.nout != 1:
            self.asked()
            return getattr(ufunc, method)(*map(_value, inputs), **facts)
        return self._by(ufunc, *inputs)


_NUMBERS: set[type] = {int, float, np.float64}


class Number:
    """Stands for a number, `value`: a Python number, or an element that NumPy gives.

    It is an argument; or it is found elsewhere, and then has no places.
    """

    __slots__ = ("make", "place", "value", "watch")

    def __init__(self, watch: Any, value: float, make: Make, places: frozenset[int] | None) -> None:
        self.watch, self.value, self.make, self.place = watch, value, make, places

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self.value)

    def asked(self) -> float:
        """The number, for someone who may do with it what can't be seen: a program then is for this number."""
        if self.place is None:
            self.told(bits_of, self)
        else:
            self.watch.numbers |= self.place
        return self.value

    def by(self, function: Callable[[Any], float]) -> Any:
        """What a function that only computes makes of it."""
        return Number(self.watch, function(self.value), Again(function, (self,), {}), self.place)

    def __getattr__(self, name: str) -> Any:
        if not hasattr(self.value, name):
            raise AttributeError(name)
        return getattr(self.asked(), name)

    def __hash__(self) -> int:
        return hash(self.asked())

    def __bool__(self) -> bool:
        return self.told(bool, self)  # type: ignore[no-any-return]

    def told(self, function: Callable[..., Any], *given: Any) -> Any:
        """What a function of it and of other numbers answers: a program is for numbers for which that is the same."""
        answer = function(*(x.value if type(x) is Number else x for x in given))
        self.watch.conditions.append((Again(function, given, {}), answer))
        return answer

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.asked(), dtype)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **facts: Any) -> Any:
        if any(isinstance(x, Tensor) or is_shown(x) for x in inputs):
            return NotImplemented
        if any(type(x) is StandIn for x in inputs):
            return NotImplemented  # it knows what to do
        if method == "__call__" and not facts and ufunc.nout == 1 and all(type(x) in _NUMBERS for x in inputs):
            made = ufunc(*map(_elements, inputs))
            if type(made) is np.float64:
                return Number(self.watch, made, Again(ufunc, inputs, {}), _places(inputs))
        return getattr(ufunc, method)(*map(_asked, inputs), **facts)


_NUMBERS.add(Number)


def bits_of(number: Any) -> Any:
    """What tells a number from others: -0.0 from 0.0, too."""
    return number if number.__class__ is int else _pack(number)


def applied(function: Callable[[Any], float], x: Any) -> Any:
    """What a function that only computes makes of a number, or of what stands for one."""
    return x.by(function) if type(x) is Number else function(x)


def _places(given: Sequence[Any]) -> frozenset[int] | None:
    """The places of all that numbers are made of."""
    places: frozenset[int] | None = frozenset()
    for x in given:
        if type(x) is Number:
            places = None if places is None or x.place is None else places | x.place
    return places


def _elements(x: Any) -> Any:
    return x.value if type(x) in (StandIn, Number) else _asked(x)


def _value(x: Any) -> Any:
    return x.value if type(x) is StandIn else _asked(x)


def _asked(x: Any) -> Any:
    return x.asked() if type(x) in (StandIn, Number) or is_shown(x) else x


class Argument:
    """Makes of arguments the one at a place."""

    __slots__ = ("place",)

    def __init__(self, place: int) -> None:
        self.place = place

    def __call__(self, leaves: Any, _: Any) -> Any:
        """The argument."""
        return leaves[self.place]


class Again:
    """How to call a function again. What is left of an earlier recording is what it is."""

    __slots__ = ("facts", "function", "given")

    def __init__(self, function: Callable[..., Any], given: tuple[Any, ...], facts: dict[str, Any]) -> None:
        self.function, self.facts = function, facts
        self.given = tuple(x.value if type(x) in (StandIn, Number) and x.watch.is_over else x for x in given)

    def __call__(self, leaves: Any, draws: Any) -> Any:
        """What it answers, of these arguments and draws."""
        given = [x.make(leaves, draws) if type(x) in (StandIn, Number) else x for x in self.given]
        return self.function(*given, **self.facts)


_MOST_SHORT = 2000  # letters of a text that is kept


def composed(makes: Sequence[Make]) -> Make:
    """What makes all of these, and what they have in common once."""
    names: dict[str, Any] = {}
    lines: list[str] = []
    known: dict[int, str] = {}

    def constant(x: Any) -> str:
        name = f"k{len(names)}"
        names[name] = x
        return name

    def needs(make: Make) -> list[Make]:
        given = make.given if type(make) is Again else ()
        return [x.make for x in given if type(x) in (StandIn, Number) and id(x.make) not in known]

    waiting = [*reversed(makes)]
    while waiting:
        make = waiting.pop()
        if id(make) in known:
            continue
        if first := needs(make):
            waiting += [make, *first]
            continue
        if type(make) is Again:
            given = [known[id(x.make)] if type(x) in (StandIn, Number) else constant(x) for x in make.given]
            facts = [f"**{constant(make.facts)}"] if make.facts else []
            text = f"{constant(make.function)}({', '.join(given + facts)})"
        else:
            text = f"{constant(make)}(leaves, draws)"
        known[id(make)] = f"v{len(known)}"
        lines.append(f"    {known[id(make)]} = {text}\n")
    made = "".join(f"{known[id(make)]}, " for make in makes)
    text = f"def make(leaves, draws):\n{''.join(lines)}    return ({made})"
    exec(_short(text) if len(text) < _MOST_SHORT else text, names)  # noqa: S102
    return names["make"]  # type: ignore[no-any-return]


@functools.lru_cache(256)
def _short(text: str) -> types.CodeType:
    """The code of a text, since many programs have the same."""
    return compile(text, "<what is made of arguments>", "exec")


def _of_array(function: Callable[..., Any]) -> Any:
    def method(self: Any, *others: Any) -> Any:
        if any(isinstance(other, Tensor) or is_shown(other) for other in others):
            return NotImplemented  # it knows what to do
        return self._by(function, self, *others)

    return method


def _of_number(function: Callable[..., Any]) -> Any:
    def method(self: Any, *others: Any) -> Any:
        if any(isinstance(other, (Tensor, np.ndarray)) or is_shown(other) for other in others):
            return NotImplemented
        given = (self, *others)
        if not all(type(x) in _NUMBERS for x in given):
            return function(*map(_asked, given))
        made = function(*(x.value if type(x) is Number else x for x in given))
        if type(made) not in _NUMBERS:
            return function(*map(_asked, given))
        places = _places(given)
        number = Number(self.watch, made, Again(function, given, {}), places)
        if places is not None:  # what raises does so whether the number is used or not
            meant, divisor = (reflected[function], given[0]) if function in reflected else (function, given[-1])
            if meant is operator.truediv and type(divisor) is Number:
                self.told(bool, divisor)
            elif meant in _MAY_RAISE:
                self.told(type, number)
        return number

    return method


def _that_compares(function: Callable[..., Any]) -> Any:
    def method(self: Any, other: Any) -> Any:
        if isinstance(other, (Tensor, np.ndarray)) or is_shown(other):
            return NotImplemented
        if type(other) not in _NUMBERS:
            return function(self.asked(), other)
        return self.told(function, self, other)

    return method


def _that_asks(function: Callable[..., Any]) -> Any:
    def method(self: Any, *others: Any) -> Any:
        if any(isinstance(other, Tensor) for other in others):
            return NotImplemented
        return function(*map(_asked, (self, *others)))

    return method


_MAY_RAISE = {operator.floordiv, operator.mod, operator.pow, operator.lshift, operator.rshift}
_OPERATORS: set[Any] = set()  # whose results have shapes that no number decides
reflected: dict[Any, Any] = {}  # operators with their operands exchanged: which they are
for _name in (
    "add",
    "sub",
    "mul",
    "truediv",
    "floordiv",
    "mod",
    "pow",
    "and",
    "or",
    "xor",
    "lshift",
    "rshift",
    "matmul",
):
    _function: Any = getattr(operator, f"__{_name}__")

    def _reflected(a: Any, b: Any, function: Any = _function) -> Any:
        return function(b, a)

    reflected[_reflected] = _function
    _OPERATORS |= {_function, _reflected}

    for _prefix, _made in ("", _function), ("r", _reflected):
        setattr(StandIn, f"__{_prefix}{_name}__", _of_array(_made))
        setattr(Number, f"__{_prefix}{_name}__", _of_number(_made))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    _function = getattr(operator, f"__{_name}__")
    setattr(StandIn, f"__{_name}__", _of_array(_function))
    setattr(Number, f"__{_name}__", _that_compares(_function))
for _name in ("neg", "pos", "abs"):
    _function = getattr(operator, f"__{_name}__")
    setattr(StandIn, f"__{_name}__", _of_array(_function))
    setattr(Number, f"__{_name}__", _of_number(_function))
setattr(StandIn, "__invert__", _of_array(operator.invert))  # noqa: B010
for _name, _function in {
    "float": float, "int": int, "complex": complex, "round": round, "trunc": math.trunc, "floor": math.floor,
    "ceil": math.ceil, "repr": repr, "str": str, "format": format, "index": operator.index,
    "divmod": divmod,
}.items():  # fmt: skip
    for _kind in (StandIn, Number):
        setattr(_kind, f"__{_name}__", _that_asks(_function))


class Keeper:
    """What keeps tensors and numbers from call to call, and changes them, as optimisers do.

    A program finds them there at each call. All else that decides what is done is a choice, and guarded.
    """

    def choices(self, with_numbers: bool) -> Any:
        """What decides what is done, to be compared: all of it, or without the numbers that a program finds."""
        raise NotImplementedError

    def rates(self) -> list[Any]:
        """Those of its numbers that schedules change."""
        raise NotImplementedError

    def found(self, watch: Any, options: Options, name: str) -> Any:
        """What a function that is recorded is given of its options."""
        raise NotImplementedError


class Options(dict[str, Any]):
    """Options of a keeper: a function that is recorded finds in them what a program can find there too."""

    __slots__ = ("keeper",)

    def __init__(self, keeper: Keeper, given: dict[str, Any]) -> None:
        super().__init__(given)
        self.keeper = weakref.ref(keeper)  # which has these: it ends when it is let go

    def plain(self) -> dict[str, Any]:
        """A copy, of which no watch is told."""
        return {**self}

    def __getitem__(self, name: str) -> Any:
        watch = current_tape().watch
        if watch is None or watch.is_acting:
            return super().__getitem__(name)
        keeper = self.keeper()
        return super().__getitem__(name) if keeper is None else keeper.found(watch, self, name)

    def __setitem__(self, name: str, value: Any) -> None:
        watch = current_tape().watch
        if watch is not None and not watch.is_acting:
            watch.fail("changes the choices of an optimiser")
        super().__setitem__(name, value.value if type(value) is Number else value)

    def get(self, name: str, default: Any = None) -> Any:
        """As of dictionaries."""
        try:
            return self[name]
        except KeyError:
            return default

    def values(self) -> Any:
        """As of dictionaries."""
        self._told()
        return super().values()

    def items(self) -> Any:
        """As of dictionaries."""
        self._told()
        return super().items()

    def _told(self) -> None:
        if (watch := current_tape().watch) is not None:
            watch.fail("looks at all options of an optimiser")

    def __reduce__(self) -> Any:
        return dict, (self.plain(),)


class Draws:
    """Stands for a generator of random numbers: what is drawn is drawn again before a program is run."""

    def __init__(self, watch: Any, generator: Any, again: Callable[[], Any]) -> None:
        self._watch, self._generator, self._again = watch, generator, again

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._generator, name)
        if name == "bit_generator":
            return method

        def draw(*given: Any, **facts: Any) -> Any:
            watch = self._watch
            drawn = method(*given, **facts)
            if not isinstance(drawn, np.ndarray) or any(type(x) is StandIn for x in (*given, *facts.values())):
                watch.fail("draws single random numbers")
                return drawn
            watch.draws.append((self._again, name, given, facts))
            return StandIn(watch, drawn, Drawn(len(watch.draws) - 1))

        return draw


class Drawn:
    """Makes of draws that with a number."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self, _: Any, draws: Any) -> Any:
        """The draw."""
        return draws[self.number]
