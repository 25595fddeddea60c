"""Modules under PyTorch's names, whose contents are another's: it has one for each family, which here share one.

>>> from tapegrad.optim.adam import Adam
>>> Adam.__name__
'Adam'
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import Any


class Namesake(types.ModuleType):
    """A module that has the names of another, which is imported when the first is asked for."""

    def __init__(self, name: str, of: str) -> None:
        super().__init__(name, f"What `{of}` has, under this name.")
        self._of = of

    def __getattr__(self, name: str) -> Any:
        if name[:2] == "__":
            raise AttributeError(name)
        return getattr(importlib.import_module(self._of), name)


def add_namesakes(package: str, names: str, of: str) -> None:
    """Let names in a package that has none of them be modules with the contents of a module `of`."""
    parent = sys.modules[package]
    for name in names.split():
        made = sys.modules[f"{package}.{name}"] = Namesake(f"{package}.{name}", of)
        setattr(parent, name, made)


def module(name: str, **contents: Any) -> types.ModuleType:
    """A module with these contents, that can be imported by its name."""
    made = sys.modules[name] = types.ModuleType(name)
    vars(made).update(contents)
    return made


def unknown(module: str, name: str) -> AttributeError:
    """The error of a name that a module hasn't, of which Python says which it may have been."""
    return AttributeError(f"module {module!r} has no attribute {name!r}", name=name, obj=sys.modules[module])


# What programs ask of something that is not there is answered by these.


def no(*args: Any, **facts: Any) -> bool:
    """False, whatever is given."""
    del args, facts
    return False


def nothing(*args: Any, **facts: Any) -> None:
    """Do nothing: there is nothing to do."""
