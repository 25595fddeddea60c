"""Subclasses of Tensor that users make: what is done with their objects, `__torch_function__` of their class is asked.

    class Mine(tg.Tensor): ...        Mine -> Asking -> Tensor

Between such a class and Tensor stands `Asking`, whose methods, operators and properties are Tensor's, but ask first. So
Tensor's own know nothing of it, and take no longer. Public functions refuse what is not quite a Tensor, and then ask
(`overrides.py`). Who does not say otherwise is answered by Tensor's function, and gets objects of the subclass:

>>> import tapegrad as tg
>>> class Mine(tg.Tensor):
...     @classmethod
...     def __torch_function__(cls, func, types, args=(), kwargs=None):
...         print(func.__name__)
...         return super().__torch_function__(func, types, args, kwargs)
>>> y = tg.exp(Mine([0.0, 0.0])) + 1.0
exp
add
>>> type(y).__name__
'Mine'
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import numpy as np

from tapegrad import aliasing, creation, overrides
from tapegrad.batched import Batched
from tapegrad.conversion import NUMBERS, is_array
from tapegrad.kinds import contiguous_strides
from tapegrad.ops import layout
from tapegrad.overrides import DisableTorchFunctionSubclass
from tapegrad.tensor import Tensor

# What PyTorch's operators are called where they ask. Others are called as the operator is.
_CALLED = {
    **{f"__{form}{name}__": name for name in ("add", "mul") for form in ("", "r")},
    **{f"__{name}__": name for name in "sub pow matmul neg abs ne lt le gt ge".split()},
    **{f"__i{name}__": f"{name}_" for name in "add sub mul".split()},
    "__truediv__": "div", "__itruediv__": "div_", "__mod__": "remainder",
}  # fmt: skip
_BINARY = "add sub mul truediv floordiv mod pow matmul and or xor lshift rshift".split()
_OPERATORS = {
    *(f"__{form}{name}__" for name in _BINARY for form in ("", "r")),
    *(f"__{name}__" for name in "eq ne lt le gt ge".split()),
}
# What is asked nobody: how objects are made and end, what NumPy asks first, what is defined below.
_OWN = set(
    """
    __init__ __new__ __del__ __class__ __dict__ __doc__ __module__ __qualname__ __slots__ __weakref__ __hash__
    __init_subclass__ __annotations__ __array_ufunc__ __array_function__ __array_priority__ __copy__ __deepcopy__
    __reduce_ex__ __iter__ __firstlineno__ __static_attributes__ as_subclass
    """.split()
)


def as_subclass(self: Tensor, cls: type[Tensor]) -> Any:
    """A view of all elements that is an object of a subclass of Tensor, with the same graph.

    >>> import tapegrad as tg
    >>> class Mine(tg.Tensor): ...
    >>> tg.ones(2).as_subclass(Mine)
    Mine([1., 1.])
    """
    given: Any = cls
    if not (isinstance(given, type) and issubclass(given, Tensor)):
        raise TypeError(f"cls must be a type (not {cls!r}) derived from Tensor")
    kind = self._kind
    order = contiguous_strides(kind.shape, kind.itemsize)
    return _moved(aliasing.view(layout.alias, self, kind.shape, kind.strides, 0, order, 0), cls)


def _make_subclass(cls: type[Tensor], data: Tensor, require_grad: bool = False) -> Any:
    """A leaf of a subclass that shares the elements of `data`."""
    made = _moved(aliasing.detached(data), cls)
    with DisableTorchFunctionSubclass():
        return made.requires_grad_(require_grad)


def _moved(view: Tensor, cls: type[Tensor]) -> Tensor:
    """The view as an object of a class, in the place of its handle, which nobody else has."""
    if view.__class__ is Batched or cls is Tensor:
        return view
    made = object.__new__(cls)
    made._tape, made._kind, made._slot = view._tape, view._kind, view._slot
    made._origin, made._recipe = view._origin, view._recipe
    del view._slot  # a slot has one handle
    made._origin._views.note(made)
    if (note := getattr(cls, "_noted", None)) is not None:
        made._note = note
    return made


Tensor.as_subclass = as_subclass  # type: ignore[method-assign, assignment]
Tensor._make_subclass = staticmethod(_make_subclass)  # type: ignore[attr-defined]


def _of_class(cls: type[Tensor], value: Any) -> Any:
    """A result, with tensors of the class in it for Tensors."""
    if isinstance(value, Tensor):
        return value if isinstance(value, cls) else as_subclass(value, cls)
    if isinstance(value, (tuple, list)):
        items = [_of_class(cls, item) for item in value]
        return value._make(items) if hasattr(value, "_make") else type(value)(items)
    return value


def _method(name: str) -> Any:
    """A method of Tensor that asks first, under the name that PyTorch calls it by."""
    called = _CALLED.get(name, name)

    @functools.wraps(getattr(Tensor, name), updated=())
    def asking(*args: Any, **facts: Any) -> Any:
        if not overrides.has_torch_function((*args, *facts.values())):
            return getattr(Tensor, name)(*args, **facts)
        return overrides.answered(getattr(Tensor, called), args, facts)

    return asking


def _operator(name: str) -> Any:
    """Likewise an operator with two operands, of which others than tensors and numbers may know the other way round."""
    called = _CALLED.get(name, name)

    @functools.wraps(getattr(Tensor, name), updated=())
    def asking(self: Tensor, other: Any) -> Any:
        if not (isinstance(other, (Tensor, *NUMBERS)) or is_array(other) or overrides.answers(other)):
            return NotImplemented
        if not overrides.has_torch_function((self, other)):
            return getattr(Tensor, name)(self, other)
        return overrides.asked(getattr(Tensor, called), (self, other))

    return asking


def _accessor(function: Any) -> Any:
    def asking(*args: Any) -> Any:
        return overrides.answered(function, args, {}) if overrides.has_torch_function(args) else function(*args)

    return asking


def _property(of: property) -> property:
    return property(
        _accessor(of.__get__),
        None if of.fset is None else _accessor(of.__set__),
        None if of.fdel is None else _accessor(of.__delete__),
        of.__doc__,
    )


class _Asking(Tensor):
    """What stands between Tensor and the classes that users make of it."""

    __slots__ = ()

    def __new__(cls, *args: Any, **facts: Any) -> Any:
        del facts  # for `__init__`
        if len(args) == 1 and isinstance(args[0], Tensor):
            return as_subclass(args[0], cls)
        return _make_subclass(cls, Tensor(*args))

    def __init__(self, *args: Any, **facts: Any) -> None:
        """Made by `__new__`, as objects of PyTorch's classes are."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the function; what it gives is of this class."""
        if not all(issubclass(cls, one) for one in types):
            return NotImplemented
        with DisableTorchFunctionSubclass():
            result = func(*args, **(kwargs or {}))
        return result if func == _GRAD.__get__ else _of_class(cls, result)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.unbind(0)) if self.dim() else Tensor.__iter__(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        with DisableTorchFunctionSubclass():
            copied = Tensor.__deepcopy__(self, memo)
            memo[id(self)] = made = _make_subclass(self.__class__, copied, self.requires_grad)
            if copied.grad is not None:
                _GRAD.__set__(made, copied.grad)
        made.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return made

    def __copy__(self) -> Any:
        with DisableTorchFunctionSubclass():
            made = _make_subclass(self.__class__, self, self.requires_grad)
        made.__dict__.update(self.__dict__)
        return made

    def __reduce_ex__(self, protocol: Any) -> Any:
        with DisableTorchFunctionSubclass():
            return _rebuilt, (self.__class__, self.detach().numpy().copy(), self.requires_grad), self.__dict__


def _rebuilt(cls: type[Tensor], array: np.ndarray, requires_grad: bool) -> Any:
    return _make_subclass(cls, creation.tensor(array), requires_grad)


_GRAD: Any = vars(Tensor)["grad"]  # which is as it was given


@functools.cache
def asking() -> type[Tensor]:
    """The class between: made when it is first asked for, when Tensor has all of its methods."""
    for name, member in [*vars(Tensor).items()]:
        if name in _OWN or (name[0] == "_" and name[:2] != "__"):
            continue
        if isinstance(member, property):
            setattr(_Asking, name, _property(member))
        elif callable(member):
            if isinstance(member, FunctionType) and not hasattr(Tensor, member.__name__):
                member.__name__ = name  # by which those know it who are asked
            setattr(_Asking, name, (_operator if name in _OPERATORS else _method)(name))
    return _Asking


def _init_subclass(cls: type[Tensor], **facts: Any) -> None:
    """Let the class between stand before Tensor."""
    super(Tensor, cls).__init_subclass__(**facts)
    if Tensor in cls.__bases__:
        cls.__bases__ = tuple(asking() if base is Tensor else base for base in cls.__bases__)


# The package's own were made before, and are Tensors to all.
Tensor.__init_subclass__ = classmethod(_init_subclass)  # type: ignore[method-assign, assignment, arg-type]
