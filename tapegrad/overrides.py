"""`__torch_function__`: classes of others answer for the functions that are called with their objects.

It is asked where an argument would be refused, so that functions of Tensors know nothing of it: they refuse objects of
other classes, and of subclasses of Tensor (`subclasses.py`), as long as these answer.

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
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

from tapegrad.absent import _C
from tapegrad.tensor import Tensor


class OverriddenError(TypeError):
    """An argument is no Tensor, and its class answers for functions."""


class _State(threading.local):
    """Whether classes are asked, in a thread."""

    asked = True


_state = _State()


class DisableTorchFunctionSubclass:
    """In a `with` block no class is asked: subclasses of Tensor are taken as Tensors.

    >>> import tapegrad as tg
    >>> class Mine(tg.Tensor): ...
    >>> with tg.overrides.DisableTorchFunctionSubclass():
    ...     type(Mine([1.0]) + 1.0)
    <class 'tapegrad.tensor.Tensor'>
    """

    def __enter__(self) -> None:
        self._before = _state.asked
        _state.asked = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _state.asked = self._before


def _disabled_torch_function_impl(
    func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
) -> Any:
    """The `__torch_function__` of classes that are not asked."""
    del types
    with DisableTorchFunctionSubclass():
        return func(*args, **(kwargs or {}))


_C.DisableTorchFunctionSubclass = _C.DisableTorchFunction = DisableTorchFunctionSubclass  # type: ignore[attr-defined]
_C._disabled_torch_function_impl = _disabled_torch_function_impl  # type: ignore[attr-defined]


def answers(value: Any) -> bool:
    """Whether its class is to be asked."""
    own = getattr(value.__class__, "__torch_function__", _disabled_torch_function_impl)
    return own is not _disabled_torch_function_impl and _state.asked


def _overriding(args: Iterable[Any]) -> list[Any]:
    """Of each class that answers the first object, in sequences too: of a subclass before those of its bases."""
    found: list[Any] = []
    for value in args:
        for one in value if isinstance(value, (list, tuple)) else (value,):
            if answers(one) and all(one.__class__ is not other.__class__ for other in found):
                bases = [place for place, other in enumerate(found) if isinstance(one, other.__class__)]
                found.insert(bases[0] if bases else len(found), one)
    return found


def has_torch_function(relevant_args: Iterable[Any]) -> bool:
    """Whether the class of one of the arguments, or of what is in a sequence among them, answers for functions."""
    return bool(_overriding(relevant_args))


def _asked(function: Any, relevant: Iterable[Any], args: tuple[Any, ...], facts: dict[str, Any]) -> Any:
    found = _overriding(relevant)
    types = tuple(one.__class__ for one in found)
    who: list[Any] = [one.__class__ if isinstance(one, Tensor) else one for one in found]
    answers = (one.__torch_function__(function, types, args, facts) for one in who)
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
        home = getattr(public_api, "__module__", "tapegrad.Tensor")
        raise TypeError(
            f"no implementation found for '{home}.{public_api.__name__}': __torch_function__ of "
            f"{', '.join(type(one).__name__ for one in _overriding(relevant_args))} gave NotImplemented"
        )
    return answer


def has_torch_function_unary(relevant_arg: Any) -> bool:
    """Whether the class of one argument answers for functions."""
    return answers(relevant_arg)


def has_torch_function_variadic(*relevant_args: Any) -> bool:
    """As `has_torch_function`, of arguments that are given one by one."""
    return has_torch_function(relevant_args)


def wrap_torch_function(dispatcher: Callable[..., Iterable[Any]]) -> Callable[[Any], Any]:
    """Let the classes be asked for a function of one's own, of those arguments that `dispatcher` says of all.

    >>> import tapegrad as tg
    >>> class Mine(tg.Tensor): ...
    >>> @tg.overrides.wrap_torch_function(lambda x: (x,))
    ... def doubled(x):
    ...     return x + x
    >>> type(doubled(Mine([1.0]))).__name__
    'Mine'
    """

    def wrap(function: Any) -> Any:
        @functools.wraps(function)
        def asking(*args: Any, **kwargs: Any) -> Any:
            relevant = dispatcher(*args, **kwargs)
            if has_torch_function(relevant):
                return handle_torch_function(asking, relevant, *args, **kwargs)
            return function(*args, **kwargs)

        return asking

    return wrap


def is_tensor_like(inp: Any) -> bool:
    """Whether it is a Tensor, or its class answers for functions."""
    return isinstance(inp, Tensor) or answers(inp)


def refused(text: str, value: Any) -> TypeError:
    """The error for an argument that is not taken."""
    return (OverriddenError if answers(value) else TypeError)(text)


def public(name: str) -> Any:
    """The function of a name in the package, `add` or `linalg.solve`."""
    return functools.reduce(getattr, name.split("."), sys.modules[__name__.partition(".")[0]])


def operated(name: str, *operands: Any) -> Any:
    """What is said of an operator on these: NotImplemented where nothing is."""
    return asked(public(name), operands) if has_torch_function(operands) else NotImplemented


def asked(function: Any, operands: tuple[Any, ...]) -> Any:
    """What is said of a function of these: NotImplemented where nothing is."""
    return _asked(function, operands, operands, {})


def answered(function: Any, args: tuple[Any, ...], facts: dict[str, Any]) -> Any:
    """What is said of a function that refused one of these arguments."""
    return handle_torch_function(function, (*args, *facts.values()), *args, **facts)


__all__ = [
    "DisableTorchFunctionSubclass", "handle_torch_function", "has_torch_function", "has_torch_function_unary",
    "has_torch_function_variadic", "is_tensor_like", "wrap_torch_function",
]  # fmt: skip
