"""What a public function takes: its annotations say so, and are checked when it is called.

`checked` makes of each argument what its annotation names (an int of NumPy's becomes an int, a 0-d tensor a number), or
raises PyTorch's TypeError. So a function's own lines see nothing but plain values.

    @checked
    def narrow(input: Tensor, dim: int, start: int, length: int) -> Tensor: ...

    narrow(x, 0, 1.5, 2)  ->  TypeError: narrow(): argument 'start' (position 3) must be int, not float
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from tapegrad import dtypes
from tapegrad.dtypes import DType
from tapegrad.tensor import Tensor

# What an annotation may name, beside Tensor, int, float, bool and DType.
Dims = int | tuple[int, ...] | list[int]
Number = int | float

_REFUSED: Any = object()
_LONG = 1 << 63


def tensor(value: Any) -> Any:
    """A Tensor."""
    return value if isinstance(value, Tensor) else _REFUSED


def integer(value: Any) -> Any:
    """An int of 64 bits; NumPy's are taken too, and 0-d tensors of integers, but no bools."""
    if value.__class__ is not int:
        if isinstance(value, Tensor):
            return value.item() if not value.ndim and value.dtype.category == 1 else _REFUSED
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            return _REFUSED
        value = int(value)
    if -_LONG <= value < _LONG:
        return value
    raise ValueError(f"Overflow when unpacking long long: {value} does not fit 64 bits")


def number(value: Any) -> Any:
    """A real number of Python's; NumPy's are taken too, and 0-d tensors."""
    if value.__class__ is not float:
        if isinstance(value, Tensor):
            return value.item() if not value.ndim else _REFUSED
        if isinstance(value, (complex, np.complexfloating)) and not isinstance(value, (int, float)):
            raise RuntimeError(f"value cannot be converted to type double without overflow: {value} is complex")
        if isinstance(value, (np.number, np.bool_)):
            return value.item()
        if isinstance(value, int) and not -_LONG <= value < 2 * _LONG:
            raise OverflowError(f"int too big to convert: {value} does not fit 64 bits")
    return value if isinstance(value, (int, float)) else _REFUSED


def real(value: Any) -> Any:
    """The same, as a float."""
    if isinstance(value, (complex, np.complexfloating)):
        return _REFUSED
    taken = float(value) if isinstance(value, int) else number(value)
    return _REFUSED if taken is _REFUSED else float(taken)


def boolean(value: Any) -> Any:
    """A bool of Python's."""
    return value if isinstance(value, bool) else _REFUSED


def dims(value: Any) -> Any:
    """A dimension, or a tuple of dimensions."""
    if value.__class__ is int:
        return integer(value)
    return _tuple_of_ints(value) if isinstance(value, (tuple, list)) else integer(value)


def dtype(value: Any) -> Any:
    """A DType, or what stands for one."""
    return dtypes.as_dtype(value)


class _ElementError(Exception):
    """Of a sequence of ints, the place of what is none."""


def _tuple_of_ints(values: Any) -> tuple[int, ...]:
    taken = tuple(integer(value) for value in values)
    if _REFUSED in taken:
        raise _ElementError(taken.index(_REFUSED))
    return taken


def sizes(name: str, given: tuple[Any, ...], argument: str = "size") -> tuple[int, ...]:
    """Ints that are given one by one, or as one sequence: the last parameter `*shape` of a function of this name."""
    values = given[0] if len(given) == 1 and isinstance(given[0], (tuple, list)) else given
    try:
        return _tuple_of_ints(values)
    except ValueError as error:
        raise TypeError(f"{name}(): argument '{argument}' failed to unpack: {error}") from None
    except _ElementError as element:
        place = element.args[0]
        found = f"but found element of type {_type(values[place])} at pos {place}"
        if len(given) == 1 and values is given:
            found = f"not {_type(given[0])}"
        raise TypeError(f"{name}(): argument '{argument}' must be tuple of ints, {found}") from None


def _type(value: Any) -> str:
    return type(value).__name__ if type(value).__module__ != "numpy" else f"numpy.{type(value).__name__}"


# An annotation: what takes such an argument, what is let pass unseen, and PyTorch's word for it.
_TAKERS: dict[str, tuple[Callable[[Any], Any], tuple[type, ...], str]] = {
    "Tensor": (tensor, (Tensor,), "Tensor"),
    "int": (integer, (), "int"),
    "float": (real, (), "float"),
    "bool": (boolean, (bool,), "bool"),
    "Number": (number, (float,), "Number"),
    "Dims": (dims, (), "tuple of ints"),
    "DType": (dtype, (DType,), "tapegrad.dtype"),
}
_OTHERS = {"None": type(None), "bool": bool, "str": str, "Tensor": Tensor}  # what may stand after a bar
_ALIASES = {"axis": "dim", "keepdims": "keepdim"}  # NumPy's names, which PyTorch takes too


def checked(function: Callable[..., Any], prefix: str = "") -> Callable[..., Any]:
    """The function, for arguments as they come; errors call it by its name after the prefix."""
    name, code = prefix + function.__name__.lstrip("_"), function.__code__
    n, annotations = code.co_argcount, function.__annotations__
    names = code.co_varnames[: n + code.co_kwonlyargcount]
    takers = {}
    for place, argument in enumerate(names):
        kind, *others = annotations.get(argument, "").split(" | ")
        if kind in _TAKERS:
            take, seen, word = _TAKERS[kind]
            takers[argument] = (place, take, (*seen, *(_OTHERS[other] for other in others)), word)
    positional = [taker for taker in takers.values() if taker[0] < n]
    aliases = {alias: argument for alias, argument in _ALIASES.items() if argument in names and alias not in names}

    def take_one(value: Any, take: Any, word: str, argument: str, place: int) -> Any:
        where = f"argument '{argument}'" + (f" (position {place + 1})" if place >= 0 else "")
        try:
            taken = take(value)
        except _ElementError as element:
            at = element.args[0]
            raise TypeError(
                f"{name}(): {where} must be {word}, but found element of type {_type(value[at])} at pos {at}"
            ) from None
        except TypeError as error:
            raise TypeError(f"{name}(): {where}: {error}") from None
        if taken is _REFUSED:
            raise TypeError(f"{name}(): {where} must be {word}, not {_type(value)}")
        return taken

    @functools.wraps(function)
    def accepting(*args: Any, **facts: Any) -> Any:
        given: Any = args
        for place, take, seen, word in positional:
            if place >= len(args):
                break
            value = args[place]
            if value.__class__ not in seen:
                taken = take_one(value, take, word, names[place], place)
                if taken is not value:
                    given = list(given) if given is args else given
                    given[place] = taken
        if facts:
            for alias, argument in aliases.items():
                if alias in facts:
                    if argument in facts:
                        raise TypeError(f"{name}() got multiple values for argument '{argument}'")
                    facts[argument] = facts.pop(alias)
            for argument, value in facts.items():
                taker = takers.get(argument)
                if taker is not None and value.__class__ not in taker[2]:
                    facts[argument] = take_one(value, taker[1], taker[3], argument, -1)
        return function(*given, **facts)

    return accepting


class Surface(dict[str, Any]):
    """A module's public functions by name. As a decorator it takes one in, checked, and makes it a Tensor's method."""

    def __call__(self, function: Any) -> Any:
        """Take a function in."""
        taken = self[function.__name__] = checked(function)
        setattr(Tensor, function.__name__, taken)
        return taken


__all__ = ["Dims", "Number", "Surface", "checked", "integer", "number", "sizes"]
