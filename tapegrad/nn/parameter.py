"""Parameters: leaves that a module knows as its own."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from tapegrad import creation
from tapegrad.tensor import Tensor


class _ParameterMeta(type):
    """Parameters are Tensors like others, recorded as quickly: what they are is noted on their handles."""

    def __instancecheck__(cls, t: Any) -> bool:
        return isinstance(t, Tensor) and getattr(t, "_note", None) == cls.__name__

    def __call__(cls, *args: Any, **facts: Any) -> Any:
        return cls._made(*args, **facts)


class _Counted(metaclass=_ParameterMeta):
    """How many references there are to an argument that only the call holds."""

    @staticmethod
    def _made(data: object) -> int:
        return sys.getrefcount(data)


_ALONE: Any = _Counted(object())  # type: ignore[call-arg]


class _Parameter(metaclass=_ParameterMeta):
    """A leaf that becomes a module's parameter when it is made its attribute.

    Parameters
    ----------
    data : Tensor, optional
        What it holds: it shares these elements.
    requires_grad : bool
        Whether it has a gradient.

    >>> import tapegrad as tg
    >>> weight = tg.nn.Parameter(tg.ones(2))
    >>> weight
    Parameter containing:
    tensor([1., 1.], requires_grad=True)
    >>> isinstance(weight, tg.nn.Parameter), isinstance(weight, tg.Tensor)
    (True, True)
    """

    @staticmethod
    def _made(data: Tensor | None = None, requires_grad: bool = True) -> Tensor:
        if data is None:
            t = creation.empty(0)
        elif sys.getrefcount(data) <= _ALONE and data.is_leaf and not hasattr(data, "_origin"):
            t = data  # nobody else holds it: a second handle would only have its elements written twice
        else:
            t = data.detach()
        t.requires_grad_(requires_grad)
        t._note = "Parameter"
        return t


class _Buffer(metaclass=_ParameterMeta):
    """A Tensor that becomes a module's buffer when it is made its attribute: see `Module.register_buffer`."""

    @staticmethod
    def _made(data: Tensor | None = None, *, persistent: bool = True) -> Tensor:
        t = creation.empty(0) if data is None else data.detach()
        t._note = "Buffer" if persistent else "PassingBuffer"
        return t


if TYPE_CHECKING:  # what they are to users

    class Parameter(Tensor):  # noqa: D101
        def __init__(self, data: Tensor | None = None, requires_grad: bool = True) -> None: ...

    class Buffer(Tensor):  # noqa: D101
        def __init__(self, data: Tensor | None = None, *, persistent: bool = True) -> None: ...
else:
    Parameter, Buffer = _Parameter, _Buffer
    for _class in (Parameter, Buffer):
        _class.__name__ = _class.__qualname__ = _class.__name__[1:]


def is_buffer(t: Any) -> bool:
    """Whether it was made by `Buffer`."""
    return isinstance(t, Tensor) and getattr(t, "_note", "") in ("Buffer", "PassingBuffer")


__all__ = ["Buffer", "Parameter", "is_buffer"]
