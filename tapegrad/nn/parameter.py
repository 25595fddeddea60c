"""Parameters: leaves that a module knows as its own."""

from __future__ import annotations

import functools
import sys
import types
from typing import TYPE_CHECKING, Any

from tapegrad import creation, dtypes
from tapegrad.overrides import _disabled_torch_function_impl
from tapegrad.tensor import Tensor


class _ParameterMeta(type):
    """Parameters are Tensors like others, recorded as quickly: what they are is noted on their handles.

    Subclasses of Parameter that users make are subclasses of Tensor, of whose objects the same is noted.
    """

    def __new__(meta, name: str, bases: tuple[type, ...], members: dict[str, Any], **facts: Any) -> Any:
        if not any(isinstance(base, _ParameterMeta) for base in bases):
            return super().__new__(meta, name, bases, members)
        bases = tuple(_of_tensors(base.__name__) if isinstance(base, _ParameterMeta) else base for base in bases)
        return types.new_class(name, bases, facts, lambda namespace: namespace.update(members))

    def __subclasscheck__(cls, other: Any) -> bool:
        return other is cls or (issubclass(other, Tensor) and getattr(other, "_noted", None) == cls.__name__)

    def __instancecheck__(cls, t: Any) -> bool:
        if isinstance(t, UninitializedBuffer):
            return isinstance(t, UninitializedParameter) and cls.__name__ == "Parameter"
        return isinstance(t, Tensor) and getattr(t, "_note", None) == cls.__name__

    def __call__(cls, *args: Any, **facts: Any) -> Any:
        return cls._made(*args, **facts)


@functools.cache
def _of_tensors(name: str) -> type[Tensor]:
    """What subclasses of Parameter, or Buffer, are made of."""

    def made(cls: type[Tensor], data: Tensor | None = None, requires_grad: bool = name == "Parameter") -> Any:
        return Tensor._make_subclass(cls, creation.empty(0) if data is None else data, requires_grad)

    members = {"__new__": made, "__torch_function__": _disabled_torch_function_impl, "_noted": name}
    return types.new_class(name, (Tensor,), {}, lambda namespace: namespace.update(members, __slots__=()))


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
    """A Tensor that becomes a module's buffer when it is made its attribute: see `Module.register_buffer`.

    >>> import tapegrad as tg
    >>> module = tg.nn.Module()
    >>> module.scale = tg.nn.Buffer(tg.ones(2))
    >>> list(module.state_dict()), list(module.parameters())
    (['scale'], [])
    """

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


def _unusable(name: str) -> ValueError:
    return ValueError(
        f"Attempted to use an uninitialized parameter in {name}. This error happens when you are using a "
        "`LazyModule`: call `forward` with a batch first, which initializes the parameters."
    )


class UninitializedBuffer:
    """What stands for a buffer whose shape isn't known: it has a dtype, and no elements.

    Parameters
    ----------
    requires_grad : bool
        Whether what is made of it does.
    device : optional
        The CPU.
    dtype : dtype, optional
        What is made of it has it.
    module : Module, optional
        What has it for a buffer or parameter, under the `name`: what is made of it takes its place there.
    """

    grad = None
    made: Tensor | None = None  # what has taken its place
    is_leaf = True
    is_buffer = True

    def __init__(
        self, requires_grad: bool = False, device: Any = None, dtype: Any = None, *, module: Any = None, name: str = ""
    ) -> None:
        del device
        self.requires_grad, self.dtype = requires_grad, dtype or dtypes.get_default_dtype()
        self._module, self._name = module, name

    def placed(self, module: Any, name: str) -> None:
        """Say where it is."""
        self._module, self._name = module, name

    def materialize(self, shape: Any, device: Any = None, dtype: Any = None) -> Tensor:
        """Put a tensor in its place, of zeros."""
        del device
        made = self._finished(creation.zeros(*shape, dtype=dtype or self.dtype))
        if self._module is not None:
            (self._module._buffers if self.is_buffer else self._module._parameters)[self._name] = made
        self.made = made
        return made

    def _finished(self, made: Tensor) -> Tensor:
        return made

    def detach(self) -> Any:
        """Itself."""
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        """Say whether what is made of it requires grad; returns itself."""
        self.requires_grad = requires_grad
        return self

    def is_floating_point(self) -> bool:
        """Whether what is made of it is."""
        return self.dtype.is_floating_point

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in ("shape", "size"):
            raise RuntimeError(
                "Can't access the shape of an uninitialized parameter or buffer. This error usually happens in "
                "`load_state_dict` when trying to load an uninitialized parameter into an initialized one. Call "
                "`forward` to initialize the parameters before accessing their attributes."
            )
        raise _unusable(name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


def _refusing(name: str) -> Any:
    def operator(*operands: Any) -> Any:
        del operands
        raise _unusable(name.strip("_"))

    return operator


for _name in "add sub mul truediv floordiv mod pow matmul".split():
    for _form in ("__{}__", "__r{}__", "__i{}__"):
        setattr(UninitializedBuffer, _form.format(_name), _refusing(_name))
for _name in "neg abs len getitem setitem lt le gt ge float int".split():
    setattr(UninitializedBuffer, f"__{_name}__", _refusing(_name))


class UninitializedParameter(UninitializedBuffer):
    """What stands for a parameter whose shape isn't known: see `UninitializedBuffer`.

    >>> import tapegrad as tg
    >>> layer = tg.nn.LazyLinear(2)
    >>> isinstance(layer.weight, tg.nn.UninitializedParameter)
    True
    >>> _ = layer(tg.ones(3))
    >>> isinstance(layer.weight, tg.nn.UninitializedParameter)
    False
    """

    is_buffer = False

    def __init__(self, requires_grad: bool = True, *args: Any, **facts: Any) -> None:
        super().__init__(requires_grad, *args, **facts)

    def _finished(self, made: Tensor) -> Tensor:
        return Parameter(made, self.requires_grad)


def is_lazy(param: Any) -> bool:
    """Whether it stands for a parameter, or buffer, that is yet to be made."""
    return isinstance(param, UninitializedBuffer)


def is_buffer(t: Any) -> bool:
    """Whether it was made by `Buffer`."""
    return isinstance(t, Tensor) and getattr(t, "_note", "") in ("Buffer", "PassingBuffer")


__all__ = ["Buffer", "Parameter", "UninitializedBuffer", "UninitializedParameter", "is_buffer", "is_lazy"]
