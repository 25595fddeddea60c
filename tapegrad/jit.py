"""What scripts name of `torch.jit`: functions and modules are left as they are, and run as Python.

`tapegrad.compile` keeps what is recorded; `tapegrad.jitted` differentiates functions that Numba has compiled.

>>> import tapegrad as tg
>>> @tg.jit.script
... def double(x):
...     return 2 * x
>>> double(tg.ones(2))
tensor([2., 2.])
"""

from __future__ import annotations

import builtins
import types
from collections.abc import Callable
from typing import Any, Final, Union, get_args, get_origin

from tapegrad.nn.module import Module


class ScriptModule(Module):
    """A module: those that others derive from this are modules as all are, and `script` leaves modules as they are."""

    @property
    def original_name(self) -> str:
        """The name of the class."""
        return type(self).__name__


def script(obj: Any, optimize: Any = None, example_inputs: Any = None) -> Any:
    """A function, class or module, as it is."""
    del optimize, example_inputs
    return obj


def trace(
    func: Any, example_inputs: Any = None, optimize: Any = None, check_trace: bool = True, check_inputs: Any = None,
    check_tolerance: float = 1e-5, strict: bool = True, example_kwarg_inputs: Any = None,
) -> Any:  # fmt: skip
    """A function or module, as it is: branches are taken at each call, where PyTorch's follow the examples."""
    del example_inputs, optimize, check_trace, check_inputs, check_tolerance, strict, example_kwarg_inputs
    return func


def trace_module(mod: Any, inputs: Any, **facts: Any) -> Any:
    """A module, as it is."""
    del inputs, facts
    return mod


def export(fn: Any) -> Any:
    """A method, as it is."""
    return fn


unused = interface = script_method = script_if_tracing = export


def ignore(drop: Any = False, **facts: Any) -> Any:
    """A decorator that leaves functions as they are, with arguments or without."""
    del facts
    return drop if callable(drop) else (lambda fn: fn)


def freeze(mod: Any, preserved_attrs: Any = None, optimize_numerics: bool = True) -> Any:
    """A module in `eval` mode, as it is.

    Raises
    ------
    RuntimeError
        Where it is being trained.
    """
    del preserved_attrs, optimize_numerics
    if mod.training:
        raise RuntimeError("Freezing is currently only implemented for modules in eval mode. Please call .eval() first")
    return mod


def optimize_for_inference(mod: Any, other_methods: Any = None) -> Any:
    """A module, as it is."""
    del other_methods
    return mod


def annotate(the_type: Any, the_value: Any) -> Any:
    """A value, as it is."""
    del the_type
    return the_value


def isinstance(obj: Any, target_type: Any) -> bool:
    """Whether an object is of a type, which may say what containers hold, such as `list[Tensor]`."""
    targets = target_type if builtins.isinstance(target_type, tuple) else (target_type,)
    return any(_is_of(obj, target) for target in targets)


def _is_of(obj: Any, target: Any) -> bool:
    origin: Any = get_origin(target)
    args = get_args(target)
    if origin is None:
        return builtins.isinstance(obj, target)
    if origin is Union or origin is types.UnionType:
        return any(_is_of(obj, arg) for arg in args)
    if not issubclass(type(obj), origin):
        return False
    if origin is dict:
        return all(_is_of(k, args[0]) and _is_of(v, args[1]) for k, v in obj.items())
    if origin is tuple and args[-1:] != (...,):
        return len(obj) == len(args) and all(map(_is_of, obj, args))
    return all(_is_of(item, args[0]) for item in obj)


def is_scripting() -> bool:
    """False."""
    return False


def is_tracing() -> bool:
    """False."""
    return False


def fork(func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What a function gives: it is called at once."""
    return func(*args, **kwargs)


def wait(future: Any) -> Any:
    """What `fork` gave."""
    return future


__all__ = [
    "Final", "ScriptModule", "annotate", "export", "fork", "freeze", "ignore", "interface", "is_scripting",
    "is_tracing", "isinstance", "optimize_for_inference", "script", "script_if_tracing", "script_method", "trace",
    "trace_module", "unused", "wait",
]  # fmt: skip
