"""In-place forms: each computes the new value and gives the handle its slot."""

from __future__ import annotations

from typing import Any

from tapegrad import aliasing, creation
from tapegrad.dtypes import DType
from tapegrad.functions import elementwise
from tapegrad.tensor import Tensor, cast, constant, describe, location


def _store(self: Tensor, result: Any, name: str) -> Tensor:
    """Give `self` a computed value, converted to its dtype where PyTorch would."""
    if result._kind.shape != self._kind.shape:
        raise RuntimeError(
            f"output with shape {list(self._kind.shape)} doesn't match the broadcast shape {list(result._kind.shape)}: {name} on {describe(self)}, at {location()}"
        )
    dtype = self._kind.dtype
    if result._kind.dtype is not dtype:
        if not _can_cast(result._kind.dtype, dtype):
            names = {"float64": "Double", "float32": "Float", "int64": "Long", "int32": "Int", "bool": "Bool"}
            raise RuntimeError(
                f"result type {names[result._kind.dtype.name]} can't be cast to the desired output type {names[dtype.name]}: {name} on {describe(self)}, at {location()}"
            )
        result = cast(result, dtype)
    return aliasing.assign(self, result)


def _can_cast(source: DType, target: DType) -> bool:
    return source.category <= target.category


def _operator(python: str) -> Any:
    plain = getattr(Tensor, f"__{python}__")

    def in_place(self: Tensor, other: Any) -> Any:
        aliasing.check_in_place(self, f"__i{python}__")
        result = plain(self, other)
        return result if result is NotImplemented else _store(self, result, f"__i{python}__")

    return in_place


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor"):
    setattr(Tensor, f"__i{_name}__", _operator(_name))


def _method(name: str, function: Any) -> Any:
    def in_place(self: Tensor, *args: Any, **facts: Any) -> Tensor:
        aliasing.check_in_place(self, f"{name}_")
        return _store(self, function(self, *args, **facts), f"{name}_")

    in_place.__name__ = f"{name}_"
    in_place.__doc__ = f"`{name}`, in place."
    return in_place


for _name in (
    "add", "sub", "mul", "div", "pow", "remainder", "floor_divide", "neg", "abs", "sign", "exp", "expm1", "log", "log1p", "log2", "log10",
    "sqrt", "rsqrt", "reciprocal", "square", "sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh", "tanh", "sigmoid",
    "relu", "floor", "ceil", "round", "trunc", "clamp",
):  # fmt: skip
    setattr(Tensor, f"{_name}_", _method(_name, elementwise.functions[_name]))
Tensor.clamp_min = lambda self, min: elementwise.clamp(self, min=min)
Tensor.clamp_max = lambda self, max: elementwise.clamp(self, max=max)


def _filled(self: Tensor, value: Any) -> Tensor:
    if isinstance(value, Tensor):
        if value.ndim:
            raise RuntimeError(f"fill_ only supports 0-dimension value tensor but got tensor with {value.ndim} dimensions.")
        return cast(value, self.dtype).expand(*self._kind.shape).clone()
    return creation.full(self._kind.shape, value, dtype=self.dtype)


def fill_(self: Tensor, value: Any) -> Tensor:
    """Make every element `value`."""
    aliasing.check_in_place(self, "fill_")
    return aliasing.assign(self, _filled(self, value))


def zero_(self: Tensor) -> Tensor:
    """Make every element zero."""
    return fill_(self, 0)


def copy_(self: Tensor, src: Any, non_blocking: bool = False) -> Tensor:
    """Take the elements of `src`, broadcast to this shape and converted to this dtype."""
    aliasing.check_in_place(self, "copy_")
    if not isinstance(src, Tensor):
        src = constant(src, self.dtype)
    return aliasing.assign(self, cast(src, self.dtype).expand(*self._kind.shape).clone())


def masked_fill(input: Tensor, mask: Tensor, value: Any) -> Any:
    """`value` where `mask` is True, else `input`."""
    return elementwise.where(mask, value if isinstance(value, Tensor) else constant(value, input.dtype), input)


Tensor.fill_, Tensor.zero_, Tensor.copy_, Tensor.masked_fill = fill_, zero_, copy_, masked_fill
Tensor.masked_fill_ = _method("masked_fill", masked_fill)
functions: dict[str, Any] = {"masked_fill": masked_fill}


def _random(name: str, draw: Any) -> None:
    def in_place(self: Tensor, *args: Any) -> Tensor:
        aliasing.check_in_place(self, name)
        return aliasing.assign(self, draw(self, *args))

    in_place.__name__ = name
    setattr(Tensor, name, in_place)


_random("uniform_", lambda self, low=0.0, high=1.0: creation.rand_like(self) * (high - low) + low)
_random("normal_", lambda self, mean=0.0, std=1.0: creation.randn_like(self) * std + mean)
