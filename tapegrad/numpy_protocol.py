"""NumPy's functions on tensors: `np.sin(t)` and `np.ones(3) * t` record.

An operation declares its counterpart in NumPy (`reference`), so the table of what records is read off the declarations.
A NumPy function that is not in the table gets arrays, as from `t.numpy()`, and gives arrays: so it refuses tensors that
require grad.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tapegrad.functions import elementwise, products, reductions, shaping
from tapegrad.interop import as_tensor
from tapegrad.op import ELEMENTWISE, OPS, Op
from tapegrad.tensor import Tensor

_functions = elementwise.functions | reductions.functions | products.functions | shaping.functions


def _reduction(function: Callable[..., Any]) -> Callable[..., Any]:
    """After `axis` NumPy's arguments come in another order than PyTorch's: they must be named."""
    return lambda a, axis=None, **facts: function(a, axis, **facts)


def _spread(function: Callable[..., Any]) -> Callable[..., Any]:
    """NumPy's divisor is n - ddof, and ddof is 0."""
    return lambda a, axis=None, *, ddof=0, **facts: function(a, axis, correction=ddof, **facts)


def _norm(x: Tensor, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Tensor:
    if ord not in (None, "fro") and not isinstance(axis, int) and x.ndim != 1:
        raise TypeError(
            f"norms of matrices are not recorded, except the default: the shape is {list(x.shape)} and ord {ord!r}"
        )
    return reductions.norm(x, 2 if ord is None else ord, axis, keepdims)


def _elementwise(op: Op) -> Callable[..., Any]:
    """NumPy takes numbers for any operand."""
    return op.record if op.family == ELEMENTWISE and op.arity == 2 else _functions[op.name]


_RECORDING: dict[Any, Callable[..., Any]] = {
    op.reference: _reduction(_functions[op.name]) if op.name in reductions.functions else _elementwise(op)
    for op in OPS
    if op.reference is not None and op.name in _functions
} | {
    np.max: _reduction(reductions.amax),  # PyTorch's `max` along a dimension gives a pair
    np.min: _reduction(reductions.amin),
    np.var: _spread(reductions.var),
    np.std: _spread(reductions.std),
    np.linalg.norm: _norm,
    np.round: lambda a, decimals=0: elementwise.round(a, decimals=decimals),
    np.positive: lambda a: a,
    np.rint: _functions["round"],
    np.matmul: products.matmul,
    np.dot: products.matmul,
    np.outer: products.outer,
    np.where: elementwise.where,
    np.clip: elementwise.clamp_rule,
    np.concatenate: lambda arrays, axis=0: shaping.cat(_tensors(arrays), axis),
    np.stack: lambda arrays, axis=0: shaping.stack(_tensors(arrays), axis),
}


def _tensors(values: Any) -> Any:
    """Arrays as tensors, in nested sequences too; all else as it is."""
    if isinstance(values, (list, tuple)):
        return type(values)(_tensors(v) for v in values)
    return as_tensor(values) if isinstance(values, np.ndarray) else values


def _arrays(values: Any) -> Any:
    """Tensors as arrays, in nested sequences too; all else as it is."""
    if isinstance(values, (list, tuple)):
        return type(values)(_arrays(v) for v in values)
    return values.numpy() if isinstance(values, Tensor) else values


def _apply(function: Any, args: Any, facts: dict[str, Any], plainly: Callable[..., Any]) -> Any:
    if function in _RECORDING and "out" not in facts:
        return _RECORDING[function](*_tensors(args), **facts)
    return plainly(*_arrays(args), **{name: _arrays(value) for name, value in facts.items()})


def __array_ufunc__(self: Tensor, ufunc: np.ufunc, method: str, *inputs: Any, **facts: Any) -> Any:
    """What NumPy calls for its elementwise functions, and for operators with an array on the left."""
    return _apply(ufunc if method == "__call__" else None, inputs, facts, getattr(ufunc, method))


def __array_function__(self: Tensor, function: Any, types: Any, args: Any, facts: dict[str, Any]) -> Any:
    """What NumPy calls for its other functions."""
    return _apply(function, args, facts, function)


Tensor.__array_ufunc__ = __array_ufunc__
Tensor.__array_function__ = __array_function__
