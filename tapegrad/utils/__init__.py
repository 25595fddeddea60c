"""What programs need beside: `checkpoint`, `data`."""

from __future__ import annotations

import importlib
from typing import Any

from tapegrad import namesakes

__all__ = ["checkpoint", "data"]

namesakes.add_namesakes(__name__, "hooks", "tapegrad.autograd.hooks")


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    if name in (*__all__, "_foreach_utils", "_pytree"):
        return importlib.import_module(f"tapegrad.utils.{name}")
    raise namesakes.unknown(__name__, name)


def __dir__() -> list[str]:
    """What is public."""
    return __all__
