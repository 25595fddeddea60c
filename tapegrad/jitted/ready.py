"""Gradients as they are asked for most often: by numbers and arrays, with a driver that is made already.

Drivers are made by the engine (`engine.py`). Where one is on disk, it needn't be imported.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np

from tapegrad import trees
from tapegrad.debug import MEMORY
from tapegrad.jitted import bindings
from tapegrad.jitted.active import DTYPES
from tapegrad.jitted.beside import Beside
from tapegrad.jitted.errors import NotDifferentiableError
from tapegrad.jitted.forms import Driver, Form

_FLOAT64 = np.dtype(np.float64)
_NUMBERS = frozenset({float, int, bool})
known = Beside["Ready"]("ready")  # by function; its engine, once there is one


def ready_for(function: Any) -> Ready:
    """What computes gradients of a jitted function: its engine, or, where there is none yet, what is on disk."""
    found = known.get(function)
    if found is None:
        found = known.setdefault(function, Ready(function))
    return found


def drivers_of(function: Any) -> dict[Form, Any]:
    """The drivers of a jitted function that were on disk, which the engine is to have too."""
    found = known.get(function)
    return found.drivers if found is not None and bindings.are_the_same(found.meanings) else {}


class Ready:
    """The gradients of one jitted function."""

    is_limited = False  # whether any thread has had a memory limit: `limits.py`

    def __init__(self, function: Any) -> None:
        self.signature = inspect.signature(function.py_func)
        self.function = function
        is_plain = all(p.kind is p.POSITIONAL_OR_KEYWORD for p in self.signature.parameters.values())
        self.n_by_position = len(self.signature.parameters) if is_plain else -1
        self.drivers: dict[Form, Any] = {}
        self.at_once: dict[tuple[tuple[int, ...], bool], Any] = {}  # drivers of calls that need no preparation
        self.owns: set[Form] = set()  # forms for which arrays that are written to must be copied
        self.meanings = bindings.meanings(function)
        self.is_parallel = any(f.targetoptions.get("parallel") for f in bindings.reached(function))

    def gradient_at_once(
        self, args: Sequence[Any], argnums: int | tuple[int, ...], has_aux: bool
    ) -> tuple[Any, Any] | None:
        """Value and gradient in less time; None where it isn't as most often.

        All arguments are numbers and arrays, which share no memory, and the driver has been made. The places of those
        that are differentiated have been looked at.
        """
        if len(args) != self.n_by_position or self.owns or self.is_limited:
            return None
        places: tuple[int, ...] = (argnums,) if argnums.__class__ is int else argnums  # type: ignore[assignment]
        for place in places:
            x = args[place]
            if x.__class__ is np.ndarray:
                if x.dtype is not _FLOAT64 and x.dtype not in DTYPES:
                    return None
            elif x.__class__ is not float:
                return None
        n_arrays = 0
        for a in args:
            if a.__class__ is np.ndarray:
                n_arrays += 1
                if not a.flags.forc:
                    return None
            elif a.__class__ not in _NUMBERS:
                return None
        if n_arrays > 1 and not are_apart(args):
            return None
        for get, name, value in self.meanings:
            if get(name) is not value:
                return None
        made = self.at_once.get((places, has_aux))
        if made is None:
            made = None if MEMORY else self._made(Form("value_and_grad", len(args), places, has_aux), args)
            if made is None:
                return None
            self.at_once[places, has_aux] = made
        if self.is_parallel:
            self._be_ready()
        try:
            value, found = made(*args)
        except NotDifferentiableError:  # for arguments of these types
            return None
        return value, found[0] if argnums.__class__ is int else found

    def _made(self, form: Form, args: Sequence[Any]) -> Any:
        """A driver with code for arguments, from the disk; None where there is none."""
        if self.is_parallel or self.function in bindings.SPECIAL:
            return None
        driver = Driver(self.function, form)
        if not driver.load(args):
            return None
        return self.drivers.setdefault(form, driver)

    def _be_ready(self) -> None:
        """Before a call of code that runs in parallel."""


# --- memory that arguments share --------------------------------------------------------------------------------------


def bounds(a: np.ndarray) -> tuple[int, int]:
    """Where an array's elements begin and end in memory."""
    low = high = a.__array_interface__["data"][0]
    for n, stride in zip(a.shape, a.strides, strict=True):
        low, high = low + min(stride * (n - 1), 0), high + max(stride * (n - 1), 0)
    return low, high + a.itemsize


def meets_itself(a: np.ndarray) -> bool:
    """Whether elements of an array that can be written to may share memory."""
    if a.flags.forc or not a.flags.writeable:
        return False
    low, high = bounds(a)
    return high - low < a.nbytes


def are_apart(args: Sequence[Any]) -> bool:
    """Whether it can be seen at once that no memory is shared: this is asked before every call."""
    arrays: list[np.ndarray] = []
    for a in args:
        if isinstance(a, np.ndarray):
            if meets_itself(a):
                return False
            for b in arrays:
                if np.may_share_memory(a, b):
                    return False
            arrays.append(a)
        elif trees.items_of(a) is not None:
            return False
    return True
