"""The states of parameters: counters, and what follows from them, are numbers to a step and tensors to others.

A step has to do with many counters, and what it does with numbers takes little time. In PyTorch they are tensors, which
scripts look at, keep and write to. So a counter becomes a tensor where someone looks at it, and is one while someone
holds it: a step then writes to it.
"""

from __future__ import annotations

import copy
import functools
import sys
from collections.abc import Callable, Iterable
from typing import Any

from tapegrad.creation import tensor
from tapegrad.dtypes import FLOAT64, get_default_dtype
from tapegrad.tape import current_tape
from tapegrad.tensor import Tensor

_COUNTERS = frozenset(["step", "mu_product", "eta", "mu"])
_ALONE = 3  # references to a tensor: that of its state, a variable, an argument


def shown(name: str, value: Any) -> Any:
    """What a state has under a name, as PyTorch has it."""
    if name not in _COUNTERS or not isinstance(value, (int, float)):
        return value
    return tensor(float(value), dtype=get_default_dtype() if name == "step" else FLOAT64)


def settled(name: str, value: Any) -> Any:
    """Likewise, as a step has it."""
    if name not in _COUNTERS or not isinstance(value, Tensor):
        return value
    return int(value.item()) if name == "step" else value.item()


def fitting(name: str, value: Any, t: Tensor) -> Any:
    """What is loaded for a state of a parameter: it has the parameter's dtype, but for counters."""
    if name in _COUNTERS and isinstance(value, Tensor):
        return value.detach().clone()
    if not isinstance(value, Tensor):
        return copy.deepcopy(value)
    return value.detach().clone().to(t.dtype) if value.is_floating_point() else value.detach().clone()


def count(state: dict[str, Any], name: str, value: Any) -> None:
    """Give a counter another value."""
    before = state.get(name)
    if before.__class__ is Tensor:
        before.fill_(value)
    else:
        state[name] = value


class Counted(dict[str, Any]):
    """A state with counters. A step asks it by `dict`'s own methods, which see them as they are."""

    __slots__ = ("is_seen",)

    def __init__(self, *items: Any) -> None:
        super().__init__(*items)
        self.is_seen = True

    def show(self, names: Iterable[str]) -> None:
        """Make tensors of counters."""
        for name in names:
            if (watch := current_tape().watch) is not None:
                watch.fail("looks at a counter of an optimiser")
            self.is_seen = True
            self[name] = shown(name, dict.__getitem__(self, name))

    def settle(self) -> None:
        """Make numbers of those counters that nobody holds."""
        self.is_seen = False
        for name in _COUNTERS & self.keys():
            value = dict.__getitem__(self, name)
            if sys.getrefcount(value) <= _ALONE:
                self[name] = settled(name, value)
            self.is_seen |= isinstance(dict.__getitem__(self, name), Tensor)

    def __reduce_ex__(self, _: Any) -> Any:
        return dict, (self.copy(),)


def _looking(of_dict: Callable[..., Any], is_at_one: bool) -> Callable[..., Any]:
    @functools.wraps(of_dict)
    def method(self: Counted, *given: Any) -> Any:
        self.show(_COUNTERS & self.keys() & {*given[:1]} if is_at_one else _COUNTERS & self.keys())
        return of_dict(self, *given)

    return method


for _name in ("__getitem__", "get", "pop", "setdefault"):
    setattr(Counted, _name, _looking(getattr(dict, _name), True))
for _name in ("items", "values", "popitem", "copy", "__repr__", "__eq__", "__or__", "__ror__"):
    setattr(Counted, _name, _looking(getattr(dict, _name), False))

__all__ = ["Counted", "count", "fitting", "settled", "shown"]
