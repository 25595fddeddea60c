"""Public functions made from declarations: what is common to the families."""

from __future__ import annotations

import inspect
from collections import namedtuple
from collections.abc import Callable
from typing import Any

from tapegrad import dtypes
from tapegrad.arguments import Surface, method
from tapegrad.dtypes import BOOL, INT64
from tapegrad.kinds import flowing
from tapegrad.ops.declare import CONVERTED, REFUSED, SAME, SUMMED, TRUTH, Axes, Op
from tapegrad.recording import cast
from tapegrad.tensor import Tensor, describe, location

_ARGUMENTS = {
    "dim": "The dimension; or several, where a tuple is taken. None, where it is taken, are all.",
    "keepdim": "Whether the result has the dimension too, with length 1.",
    "dtype": "The dtype to convert to before.",
}
_OPERANDS = {
    SAME: "",
    SUMMED: " Of integers and bools it is int64.",
    CONVERTED: " Integers and bools are converted to floating point.",
    REFUSED: " Not of integers and bools.",
    TRUTH: " What is not zero is True.",
}


def make(surface: Surface, op: Op, form: Callable[..., Any], function: Any) -> None:
    """Take in an operation's function, which takes what `form` does, under all its names."""
    function.__name__ = function.__qualname__ = op.name
    function.__module__ = "tapegrad"
    function.__wrapped__ = form
    said = [f"{name}\n    {_ARGUMENTS[name]}\n" for name in _ARGUMENTS if name in form.__annotations__]
    function.__doc__ = op.docstring
    if said or _OPERANDS[op.operand]:
        first, _, rest = inspect.cleandoc(op.docstring or "").partition("\n\n")
        first += _OPERANDS[op.operand]
        parts = [first, "Parameters\n----------\n" + "".join(said) if "dim" in form.__annotations__ else "", rest]
        function.__doc__ = "\n\n".join(part.rstrip() for part in parts if part)
    taken = surface(function)
    for alias in op.aliases:
        surface[alias] = taken
        setattr(Tensor, alias, method(taken))


def return_type(name: str, *fields: str) -> Any:
    """A named tuple as PyTorch's functions return."""

    def shown(self: Any) -> str:
        parts = [f"{field}={value!r}" for field, value in zip(fields, self, strict=True)]
        return f"tapegrad.return_types.{name}(\n" + ",\n".join(parts) + ")"

    def lacks(self: Any, attribute: str) -> Any:
        raise AttributeError(
            f"'{name}' object has no attribute '{attribute}': it holds {', '.join(fields)}; np.{name}() gives the "
            f"{fields[0]} alone"
        )

    result: Any = namedtuple(name, fields)  # type: ignore[misc]
    result.__module__, result.__repr__, result.__getattr__ = "tapegrad.return_types", shown, lacks
    return result


def explained(error: Exception, *operands: Tensor) -> Exception:
    """The error, with the operands and the line where it comes from."""
    return type(error)(f"{error}: {describe(*operands)}, at {location()}")


def converted(op: Op, x: Tensor, dtype: Any = None) -> Tensor:
    """The operand in the dtype that is asked for, or in that which the operation is done in."""
    if op.operand == TRUTH:
        return cast(x, BOOL)
    if dtype is not None:
        wanted = dtypes.as_dtype(dtype)
        if (
            op.operand == SUMMED
            and not wanted.is_floating_point
            and flowing(x._tape.grad_enabled, x._kind.requires_grad)
        ):
            raise RuntimeError(
                f"Autograd not support dtype: {wanted.scalar_type}: {op.name}({describe(x)}), at {location()}: its "
                f"gradient would be lost; give it x.detach(), or convert its result with .to(tapegrad.{wanted.name})"
            )
        x = cast(x, wanted)
    if x.dtype.name in op.refuses:
        if isinstance(op, Axes):
            raise RuntimeError(f"{op.name}(): does not support {x.dtype.name} input: {describe(x)}, at {location()}")
        raise NotImplementedError(
            f"\"{op.name}\" not implemented for '{x.dtype.scalar_type}': {describe(x)}, at {location()}"
        )
    if op.operand == SAME or x.dtype.is_floating_point:
        return x
    if op.operand == SUMMED:
        return cast(x, INT64) if dtype is None else x
    if op.operand == CONVERTED:
        return cast(x, dtypes.get_default_dtype())
    if isinstance(op, Axes):
        raise NotImplementedError(
            f"\"{op.name}_lastdim_kernel_impl\" not implemented for '{x.dtype.scalar_type}': {describe(x)}, at "
            f"{location()}"
        )
    raise RuntimeError(
        f"{op.name}(): could not infer output dtype. Input dtype must be either a floating point or complex dtype. "
        f"Got: {x.dtype.scalar_type}: {op.name}({describe(x)}), at {location()}; convert it with .to(tapegrad.float64)"
    )
