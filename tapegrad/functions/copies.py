"""Functions of views that give copies: `narrow_copy(...)` is `narrow(...).clone()`, and so on."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from tapegrad.arguments import EXACT, Sizes, checked, method
from tapegrad.functions import indexing, joining, shaping
from tapegrad.tensor import Tensor


def _alias(input: Tensor) -> Tensor:
    return input.view(input.shape)


def _expand(input: Tensor, size: Sizes) -> Tensor:
    return input.expand(*size)


def _slice(input: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Tensor:
    at = shaping.dimension(dim, input.ndim)
    return indexing.getitem(input, (slice(None),) * at + (slice(start, end, step),))


def _view(input: Tensor, size: Sizes) -> Tensor:
    return input.view(*size)


def _unfold(input: Tensor, dimension: int, size: int, step: int) -> Tensor:
    return input.unfold(dimension, size, step)


_views = shaping.functions | joining.functions | indexing.functions
_NAMES = (
    "as_strided", "diagonal", "narrow", "permute", "select", "split", "split_with_sizes", "squeeze", "t", "transpose",
    "unbind", "unsqueeze",
)  # fmt: skip
_made: dict[str, Callable[..., Any]] = {
    "alias": _alias, "expand": _expand, "slice": _slice, "unfold": _unfold, "view": _view,
    **{name: _views[name] for name in _NAMES},
}  # fmt: skip


def _copying(name: str, view: Callable[..., Any]) -> Any:
    @functools.wraps(getattr(view, "__wrapped__", view))
    def copied(*args: Any, **facts: Any) -> Any:
        shown = view(*args, **facts)
        return tuple(t.clone() for t in shown) if isinstance(shown, tuple) else shown.clone()

    copied.__name__ = copied.__qualname__ = f"{name}_copy"
    copied.__doc__ = f"`{name}`, of which the result is a copy, and no view."
    return checked(copied, out=EXACT)


functions: dict[str, Any] = {f"{name}_copy": _copying(name, view) for name, view in _made.items()}
Tensor.narrow_copy = method(functions["narrow_copy"])
