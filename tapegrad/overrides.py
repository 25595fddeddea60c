"""`__torch_function__`: classes of others answer for the functions that are called with their objects.

It is asked where an argument would be refused, so that functions of Tensors know nothing of it. What subclasses of
Tensor define is not asked: they are taken as Tensors.

>>> import tapegrad as tg
>>> class Scaled:
...     def __init__(self, factor):
...         self.factor = factor
...
...     @classmethod
...     def __torch_function__(cls, func, types, args=(), kwargs=None):
...         return args[0] * args[1].factor if func is tg.matmul else NotImplemented
>>> tg.matmul(tg.ones(2), Scaled(3.0))
tensor([3., 3.])
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable
from typing import Any

from tapegrad.tensor import Tensor


class OverriddenError(TypeError):
    """An argument is no Tensor, and its class answers for functions."""


def _answers(value: Any) -> bool:
    return hasattr(type(value), "__torch_function__")


def _overriding(args: Iterable[Any]) -> list[Any]:
    """Of each class that answers the first object, in sequences too: of a subclass before those of its bases."""
    found: list[Any] = []
    for value in args:
        for one in value if isinstance(value, (list, tuple)) else (value,):
            if _answers(one) and type(one) not in map(type, found):
                bases = [place for place, other in enumerate(found) if isinstance(one, type(other))]
                found.insert(bases[0] if bases else len(found), one)
    return found


def has_torch_function(relevant_args: Iterable[Any]) -> bool:
    """Whether the class of one of the arguments, or of what is in a sequence among them, answers for functions."""
    return bool(_overriding(relevant_args))


def _asked(function: Any, relevant: Iterable[Any], args: tuple[Any, ...], facts: dict[str, Any]) -> Any:
    found = _overriding(relevant)
    types = tuple(map(type, found))
    answers = (one.__torch_function__(function, types, args, facts) for one in found)
    return next((answer for answer in answers if answer is not NotImplemented), NotImplemented)


def handle_torch_function(public_api: Any, relevant_args: Iterable[Any], *args: Any, **kwargs: Any) -> Any:
    """What the first class says that answers for a function of these arguments.

    Raises
    ------
    TypeError
        Where each answers NotImplemented.
    """
    relevant_args = tuple(relevant_args)
    answer = _asked(public_api, relevant_args, args, kwargs)
    if answer is NotImplemented:
        raise TypeError(
            f"no implementation found for '{public_api.__module__}.{public_api.__name__}': __torch_function__ of "
            f"{', '.join(type(one).__name__ for one in _overriding(relevant_args))} gave NotImplemented"
        )
    return answer


def is_tensor_like(inp: Any) -> bool:
    """Whether it is a Tensor, or its class answers for functions."""
    return isinstance(inp, Tensor) or _answers(inp)


def refused(text: str, value: Any) -> TypeError:
    """The error for an argument that is not taken."""
    return (OverriddenError if _answers(value) else TypeError)(text)


def public(name: str) -> Any:
    """The function of a name in the package, `add` or `linalg.solve`."""
    return functools.reduce(getattr, name.split("."), sys.modules[__name__.partition(".")[0]])


def operated(name: str, *operands: Any) -> Any:
    """What is said of an operator on these: NotImplemented where nothing is."""
    return _asked(public(name), operands, operands, {}) if has_torch_function(operands) else NotImplemented


def answered(function: Any, args: tuple[Any, ...], facts: dict[str, Any]) -> Any:
    """What is said of a function that refused one of these arguments."""
    return handle_torch_function(function, (*args, *facts.values()), *args, **facts)


__all__ = ["handle_torch_function", "has_torch_function", "is_tensor_like"]
