"""What is known of jitted functions, kept beside each, so that it goes with it.

Engines, drivers and stand-ins refer to the function that they are of. A table that held them, by a weak key even, would
keep each function for ever; a function that holds them itself is a cycle, which is found. `functools.wraps` copies what
functions hold, so it says whose it is.
"""

from __future__ import annotations

import weakref
from types import FunctionType
from typing import Any, Generic, TypeVar

from numba.core.dispatcher import Dispatcher

T = TypeVar("T")


class Beside(Generic[T]):
    """A table by functions: of plain ones a weak table, and what is known of other objects stays."""

    def __init__(self, name: str) -> None:
        self._name = f"_tapegrad_{name}"
        self._plain: weakref.WeakKeyDictionary[FunctionType, T] = weakref.WeakKeyDictionary()
        self._others: dict[Any, T] = {}
        self._age = 0

    def get(self, function: Any) -> T | None:
        """What is known of a function, or None."""
        if not isinstance(function, Dispatcher):
            return self._table(function).get(function)
        owner, age, found = function.__dict__.get(self._name, (_nobody, 0, None))
        return found if owner() is function and age == self._age else None

    def __getitem__(self, function: Any) -> T:
        found = self.get(function)
        if found is None:
            raise KeyError(function)
        return found

    def __setitem__(self, function: Any, value: T) -> None:
        if isinstance(function, Dispatcher):
            function.__dict__[self._name] = weakref.ref(function), self._age, value
        else:
            self._table(function)[function] = value

    def setdefault(self, function: Any, value: T) -> T:
        """What is known of a function: the value, where nothing was."""
        found = self.get(function)
        if found is None:  # another thread may clear all meanwhile
            self[function] = found = value
        return found

    def clear(self) -> None:
        """Forget all that is known."""
        self._age += 1
        self._plain.clear()
        self._others.clear()

    def _table(self, function: Any) -> Any:
        return self._plain if isinstance(function, FunctionType) else self._others


def _nobody() -> None:
    pass
