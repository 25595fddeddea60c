"""`out=`: the tensors that a public function is to write its results into.

As in PyTorch, no derivative goes through such a call: it is refused where one would be lost. A result of another shape
takes the place of what the tensor had, with a warning where that was something.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from tapegrad import aliasing, writing
from tapegrad.arguments import EXACT, writers
from tapegrad.dtypes import BOOL, UINT8, DType
from tapegrad.kinds import TANGENTS
from tapegrad.recording import cast
from tapegrad.tape import current_tape, in_grad_mode
from tapegrad.tensor import Tensor, describe, exchange, location


def write(name: str, out: Any, dtypes: str, given: Iterable[Any], compute: Callable[[], Any]) -> Any:
    """Compute results, write them into `out`, a tensor or a tuple of them, and return it.

    Raises
    ------
    TypeError
        Where `out` is not a Tensor for each result.
    RuntimeError
        Where a derivative would be lost, a result has no place in the dtype, or elements of `out` share memory.
    """
    outs = tuple(out) if isinstance(out, (tuple, list)) else (out,)
    for t in outs:
        if not isinstance(t, Tensor):
            raise TypeError(f"{name}(): argument 'out' must be Tensor, not {type(t).__name__}")
    tape = current_tape()
    if tape.grad_enabled and any(t.requires_grad for t in (*outs, *_tensors(given))):
        raise RuntimeError(
            f"{name}(): functions with out=... arguments don't support automatic differentiation, but one of the "
            f"arguments requires grad: at {location()}; call it without out=, or under tapegrad.no_grad()"
        )
    if tape.duals is not None and any(t._kind.requires_grad & TANGENTS for t in (*outs, *_tensors(given))):
        raise RuntimeError(
            f"Trying to use forward AD with {name} that does not support it because it is an out= function: at "
            f"{location()}; call it without out="
        )
    for t in outs:
        in_grad_mode(tape, False, writing.check_in_place, t, f"{name}(out=...)")
    if name in _APART:
        _check_apart(name, outs, _tensors(given))
    computed = compute()
    results = computed if isinstance(computed, tuple) else (computed,)
    if len(results) != len(outs) or isinstance(computed, tuple) is not isinstance(out, (tuple, list)):
        raise TypeError(
            f"{name}(): argument 'out' must be {f'tuple of {len(results)} Tensors' if len(results) > 1 else 'Tensor'}, "
            f"not {type(out).__name__}"
        )
    for t, result in zip(outs, results, strict=True):
        _check_dtype(name, t, result.dtype, EXACT if len(outs) > 1 or name in _EXACT else dtypes)
    for t, result in zip(outs, results, strict=True):
        in_grad_mode(tape, False, _written, name, t, result)
    return out if len(outs) == 1 else type(computed)(*outs) if hasattr(computed, "_fields") else outs


# What reads anywhere in its operands: its result is never written to their memory.
_APART = {"cat", "concat", "concatenate", "gather", "index_select", "kthvalue", "masked_select", "take"}


_EXACT = {"amax", "amin", "argmax", "argmin"}  # whose results are elements, or places of them


def _check_apart(name: str, outs: Iterable[Tensor], given: Iterable[Tensor]) -> None:
    known = [t for t in given if t._kind.contiguous and t.numel()]
    for t in outs:
        if not (t._kind.contiguous and t.numel()):
            continue
        if any(np.may_share_memory(t.detach()._array(), x.detach()._array()) for x in known):
            raise RuntimeError(
                "unsupported operation: some elements of the input tensor and the written-to tensor refer to a single "
                f"memory location. Please clone() the tensor before performing the operation. {name}(out={describe(t)}"
                f"), at {location()}"
            )


def _tensors(given: Iterable[Any]) -> Iterator[Tensor]:
    for value in given:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from (item for item in value if isinstance(item, Tensor))


def _check_dtype(name: str, t: Tensor, dtype: DType, dtypes: str) -> None:
    if name in ("all", "any") and t.dtype not in (BOOL, UINT8):
        raise RuntimeError(f"{name} only supports bool tensor for result, got: {t.dtype.scalar_type}, at {location()}")
    if dtypes == EXACT and t.dtype is not dtype:
        raise RuntimeError(
            f"Expected out tensor to have dtype {dtype.c_type}, but got {t.dtype.c_type} instead: {name}(), "
            f"at {location()}"
        )
    if dtype.category > t.dtype.category:
        raise RuntimeError(
            f"result type {dtype.scalar_type} can't be cast to the desired output type {t.dtype.scalar_type}: "
            f"{name}(out={describe(t)}), at {location()}"
        )


def _written(name: str, t: Tensor, result: Tensor) -> None:
    value = cast(result, t.dtype)
    value = value.clone()  # a handle of its own: `result` may be an operand
    if t.shape == value.shape:
        writing.assign(t, value)
        return
    if t.numel():
        warnings.warn(
            f"An output with one or more elements was resized since it had shape {list(t.shape)}, which does not match "
            f"the required output shape {list(value.shape)}: {name}(), at {location()}",
            stacklevel=4,
        )
    if getattr(t, "_recipe", None) is not None or next(itertools.islice(aliasing.family(t), 1, None), None) is not None:
        raise RuntimeError(
            f"Trying to resize storage that is not resizable: {name}(out=...) of {describe(t)}, which shares its "
            f"elements with others, at {location()}"
        )
    exchange(t, value)


writers.append(write)
