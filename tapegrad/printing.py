"""Printing: a tensor as text, laid out as PyTorch lays it out.

    tensor([[  1.5000,      nan,  -2.0000,  ..., 300.2500],
            ...,                                               <- every element as wide as the widest finite one
            [  0.0000,   7.0000,      inf,  ...,   1.0000]],
           dtype=tapegrad.float32, grad_fn=<MulBackward0>)     <- suffixes, on a line of their own where they don't fit

A long tensor is summarised before anything else: only the elements that are shown are read, and they alone decide on
the width and on scientific notation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tapegrad.dtypes import BOOL, INT64, get_default_dtype


@dataclass
class _Options:
    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None


_PROFILES = {
    "default": _Options(),
    "short": _Options(precision=2, edgeitems=2),
    "full": _Options(threshold=math.inf),
}
_options = _Options()


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Set how tensors are printed. What is None stays as it is, but for `sci_mode`.

    Parameters
    ----------
    precision : int
        Digits after the decimal point.
    threshold : float
        Tensors with more elements than this are summarised.
    edgeitems : int
        How many elements a summary shows at either end of a dimension.
    linewidth : int
        Characters a line.
    profile : "default", "short" or "full"
        Values for all of these at once, before the other arguments are heeded.
    sci_mode : bool
        Scientific notation always (True), never (False), or where the range of the elements asks for it (None).

    Raises
    ------
    ValueError
        Where there is no such profile.

    >>> import tapegrad as tg
    >>> tg.set_printoptions(precision=2)
    >>> tg.tensor([1.2345])
    tensor([1.23])
    >>> tg.set_printoptions(profile="default")
    >>> tg.tensor([1.2345])
    tensor([1.2345])
    """
    if profile is not None and profile not in _PROFILES:
        raise ValueError(f"profile must be one of {', '.join(map(repr, _PROFILES))}, but got {profile!r}")
    if profile is not None:
        vars(_options).update(vars(_PROFILES[profile]))
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    vars(_options).update({name: value for name, value in given.items() if value is not None}, sci_mode=sci_mode)


def format_tensor(t: Any) -> str:
    """The text of a Tensor: its elements, then what cannot be told from them."""
    array = t._array()
    is_users = hasattr(t.__class__, "__torch_function__")  # a subclass of Tensor's
    prefix = f"{t.__class__.__name__}(" if is_users else "tensor("
    text = prefix + _format_elements(array, len(prefix))
    used = len(text.rpartition("\n")[2]) + 2  # PyTorch keeps two columns free after the elements
    for suffix in _suffixes(t, array.shape):
        length = len(suffix.replace("tapegrad.", "torch."))  # so that lines break where PyTorch's do
        if used + length + 2 > _options.linewidth:
            text += ",\n" + " " * len(prefix) + suffix
            used = len(prefix) + length
        else:
            text += ", " + suffix
            used += length + 2
    return text + ")"


def _suffixes(t: Any, shape: tuple[int, ...]) -> list[str]:
    """The shape where the brackets don't show it, the dtype where the elements don't, and the part in the graph."""
    is_empty = 0 in shape
    shape_is_seen = len(shape) == 1 if is_empty else _options.edgeitems > 0
    dtypes_seen = () if is_empty else (INT64, BOOL)
    suffixes = []
    if not shape_is_seen:
        suffixes.append(f"size={shape}")
    if t.dtype not in (get_default_dtype(), *dtypes_seen):
        suffixes.append(f"dtype={t.dtype}")
    if t.requires_grad:
        suffixes.append("requires_grad=True" if t.is_leaf else f"grad_fn=<{t.grad_fn.name()}>")
    tangent = None if t._tape.duals is None else t._tape.duals.tangent_of(t)
    if tangent is not None:
        suffixes.append(f"tangent={format_tensor(tangent)}")
    return suffixes


def _format_elements(array: np.ndarray, indent: int) -> str:
    """The elements in nested brackets."""
    if array.size == 0:
        return "[]"
    edge = _options.edgeitems
    elided = [array.size > _options.threshold and length > 2 * edge for length in array.shape]
    if edge == 0 and any(elided):
        return "[...]"
    shown = array[np.ix_(*(_ends(n, edge) if cut else range(n) for n, cut in zip(array.shape, elided, strict=True)))]
    write, width = _writer(shown)
    return _brackets(shown.tolist(), elided, indent, write, width)


def _ends(length: int, edge: int) -> list[int]:
    return [*range(edge), *range(length - edge, length)]


def _brackets(items: Any, elided: list[bool], indent: int, write: Callable[[Any], str], width: int) -> str:
    """Nested lists as text; `elided` tells, for each dimension, whether its middle was left out."""
    if not elided:
        return write(items)
    is_row = len(elided) == 1
    parts = [_brackets(item, elided[1:], indent + 1, write, width) for item in items]
    if elided[0]:
        parts.insert(_options.edgeitems, " ..." if is_row else "...")
    if is_row:
        a_line = max(1, (_options.linewidth - indent) // (width + 2))
        parts = [", ".join(parts[i : i + a_line]) for i in range(0, len(parts), a_line)]
    newlines = "\n" * max(1, len(elided) - 1)  # matrices of a stack are set apart by empty lines
    return "[" + ("," + newlines + " " * (indent + 1)).join(parts) + "]"


def _writer(shown: np.ndarray) -> tuple[Callable[[Any], str], int]:
    """The function that writes one element, and the width that it fills: what the finite, nonzero elements need."""
    elements = shown.ravel().tolist()
    write: Callable[[Any], str] = str
    if shown.dtype.kind == "f":
        elements = [x for x in elements if x != 0 and math.isfinite(x)]
        write = _float_writer(elements)
    width = max([1, *(len(write(x)) for x in elements)])
    return lambda x: write(x).rjust(width), width


def _float_writer(elements: list[float]) -> Callable[[float], str]:
    """Scientific, integral (`3.`) or fixed notation, whichever suits all of the finite, nonzero elements."""
    magnitudes = [abs(x) for x in elements] or [1.0]
    low, high = min(magnitudes), max(magnitudes)
    scientific = _options.sci_mode
    if scientific is None:
        scientific = high / low > 1000.0 or high > 1e8 or low < 1e-4
    if scientific and elements:
        return f"{{:.{_options.precision}e}}".format
    if all(x.is_integer() for x in elements):
        return lambda x: f"{x:.0f}." if math.isfinite(x) else str(x)
    return f"{{:.{_options.precision}f}}".format
