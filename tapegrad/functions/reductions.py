"""Reductions over all dimensions or some, under PyTorch's signatures.

NumPy's names `axis` and `keepdims` serve for `dim` and `keepdim`.
"""

from __future__ import annotations

import builtins
import math
from collections import namedtuple
from collections.abc import Callable
from typing import Any

from tapegrad import dtypes, engine
from tapegrad.dtypes import BOOL, INT64
from tapegrad.functions import elementwise
from tapegrad.functions.shaping import contiguous, dimension
from tapegrad.op import Op
from tapegrad.ops import indexing, reduction
from tapegrad.tape import PARAMS, VARIANT, contiguous_strides, current_tape, kind_of, numbers
from tapegrad.tensor import (
    Surface,
    Tensor,
    appended,
    cast,
    describe,
    local,
    location,
    need_sum,
    record_array,
    settled,
    slot_in,
)

functions = public = Surface()
_NOT_GIVEN: Any = object()


def _numpy_names(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let `axis` and `keepdims` stand for `dim` and `keepdim`."""

    def accepting(input: Any, *args: Any, **facts: Any) -> Any:
        if facts:
            if "axis" in facts:
                facts["dim"] = facts.pop("axis")
            if "keepdims" in facts:
                facts["keepdim"] = facts.pop("keepdims")
        if not isinstance(input, Tensor):
            raise TypeError(
                f"{function.__name__}(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}"
            )
        return function(input, *args, **facts)

    accepting.__name__ = accepting.__qualname__ = function.__name__
    accepting.__doc__ = function.__doc__
    return accepting


def _dimensions(dim: Any, ndim: int) -> tuple[int, ...]:
    """The reduced dimensions, in order; None and () mean all."""
    if dim is None:
        return tuple(range(ndim))
    if isinstance(dim, int):
        return (dimension(dim, ndim),) if ndim else (dimension(dim, ndim),)[:0]
    dims = tuple(dimension(d, ndim) for d in dim)
    if len(set(dims)) != len(dims):
        repeated = next(d for d in dims if dims.count(d) > 1)
        raise RuntimeError(f"dim {repeated} appears multiple times in the list of dims")
    return tuple(sorted(dims)) if dims and ndim else tuple(range(ndim))


def _reduced_shape(shape: tuple[int, ...], dims: tuple[int, ...], keepdim: bool) -> tuple[int, ...]:
    if keepdim:
        return tuple(1 if d in dims else n for d, n in enumerate(shape))
    return tuple(n for d, n in enumerate(shape) if d not in dims)


_recorded: dict[Any, tuple[Any, int]] = {}


def _record_reduction(op: Op, x: Tensor, dims: tuple[int, ...], keepdim: bool, variant: bool) -> Tensor:
    """A reduction that is swept in blocks.

    Its parameters are the number of terms, and where each element goes (strides of the result).
    """
    x = local(x)
    key = op.opcode, x._kind, dims, keepdim
    known = _recorded.get(key)
    if known is None:
        known = _recorded[key] = _reduction_kind(op, x._kind, dims, keepdim)
    tape = current_tape()
    kind = known[0] if tape.grad_enabled else known[0].passive
    return settled(appended(tape, op, kind, slot_in(tape, x), -1, known[1], PARAMS | (VARIANT if variant else 0)), x)


def _reduction_kind(op: Op, kind: Any, dims: tuple[int, ...], keepdim: bool) -> tuple[Any, int]:
    """The kind of the result, and where its parameters are."""
    kept = tuple(1 if d in dims else n for d, n in enumerate(kind.shape))
    strides = tuple(0 if d in dims else s for d, s in enumerate(contiguous_strides(kept, 1)))
    terms = math.prod(kind.shape[d] for d in dims)
    engine.need(op, kind.dtype.code, False)
    requires_grad = kind.requires_grad and op.partials[0] is not None
    if requires_grad:
        engine.need(op, kind.dtype.code, True)
        need_sum(kind.dtype)
    shape = _reduced_shape(kind.shape, dims, keepdim)
    return kind_of(kind.dtype, shape, requires_grad=requires_grad), numbers((terms, *strides))


def _along_axes(
    op: Op,
    x: Tensor,
    dims: tuple[int, ...],
    keepdim: bool,
    dtype: Any = None,
    extra: tuple[int, ...] = (),
    variant: bool = False,
    same_shape: bool = False,
) -> Tensor:
    """An array operation over [outer, n, inner], `dims` made one axis."""
    shape = x._kind.shape
    result = shape if same_shape else _reduced_shape(shape, dims, keepdim)
    if dims and dims != tuple(range(dims[0], dims[-1] + 1)):
        kept = [d for d in range(x.ndim) if d not in dims]
        x = x.permute(*kept, *dims)
        dims = tuple(range(len(kept), x.ndim))
        shape = x._kind.shape
    x = contiguous(x)
    first, last = (dims[0], dims[-1]) if dims else (0, -1)
    params = (math.prod(shape[:first]), math.prod(shape[first : last + 1]), math.prod(shape[last + 1 :]), *extra)
    return record_array(op, result, dtype or x.dtype, x, params=params, flags=VARIANT if variant else 0)


def _floating(x: Tensor, name: str) -> Tensor:
    if not x.dtype.is_floating_point:
        names = {"int64": "Long", "int32": "Int", "bool": "Bool"}
        raise RuntimeError(
            f"{name}(): could not infer output dtype. Input dtype must be either a floating point or complex dtype. "
            f"Got: {names[x.dtype.name]}: "
            f"{name}({describe(x)}), at {location()}; convert it with .to(tapegrad.float64)"
        )
    return x


@public
@_numpy_names
def sum(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The sum over all dimensions, or those given. Integers and bools are summed as int64.

    >>> import tapegrad as tg
    >>> tg.sum(tg.ones(2, 3), dim=1)
    tensor([3., 3.])
    """
    wanted = dtypes.as_dtype(dtype) if dtype is not None else input.dtype if input.dtype.is_floating_point else INT64
    dims = _dimensions(dim, input.ndim)
    return _record_reduction(reduction.sum_, cast(input, wanted), dims, keepdim, dim is not None)


@public
@_numpy_names
def mean(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The arithmetic mean over all dimensions, or those given.

    Raises
    ------
    RuntimeError
        For integers and bools, unless `dtype` is floating point.
    """
    dims = _dimensions(dim, input.ndim)
    x = _floating(input if dtype is None else cast(input, dtypes.as_dtype(dtype)), "mean")
    return _record_reduction(reduction.mean, x, dims, keepdim, dim is not None)


@public
@_numpy_names
def prod(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The product over all dimensions, or one."""
    wanted = dtypes.as_dtype(dtype) if dtype is not None else input.dtype if input.dtype.is_floating_point else INT64
    dims = _dimensions(dim, input.ndim)
    return _along_axes(reduction.prod, cast(input, wanted), dims, keepdim, variant=dim is not None)


def _correction(dim: Any, unbiased: Any, correction: Any) -> tuple[Any, int]:
    if isinstance(dim, bool):  # var(False) of old: the first argument is `unbiased`
        dim, unbiased = None, dim
    if unbiased is not None:
        correction = int(unbiased)
    return dim, 1 if correction is None else int(correction)


@public
@_numpy_names
def var(
    input: Tensor, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *, correction: Any = None
) -> Tensor:
    """The variance over all dimensions, or those given: squared deviations over n - correction (1).

    >>> import tapegrad as tg
    >>> tg.var(tg.tensor([1.0, 2.0, 3.0]))
    tensor(1.)
    """
    dim, correction = _correction(dim, unbiased, correction)
    _floating_only(input, "std and var")
    return _along_axes(reduction.var, input, _dimensions(dim, input.ndim), keepdim, extra=(correction,))


def _floating_only(x: Tensor, name: str) -> None:
    if not x.dtype.is_floating_point:
        raise RuntimeError(f"{name} only support floating point and complex dtypes: {describe(x)}, at {location()}")


@public
@_numpy_names
def std(
    input: Tensor, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *, correction: Any = None
) -> Tensor:
    """The standard deviation over all dimensions, or those given: the root of `var`."""
    dim, correction = _correction(dim, unbiased, correction)
    _floating_only(input, "std and var")
    return _along_axes(reduction.std, input, _dimensions(dim, input.ndim), keepdim, extra=(correction,))


def _check_not_empty(x: Tensor, dims: tuple[int, ...], name: str, dim: Any) -> None:
    if builtins.any(x._kind.shape[d] == 0 for d in dims):
        if dim is None:
            raise (IndexError if name.startswith("arg") else RuntimeError)(
                f"{name}(): Expected reduction dim to be specified for input.numel() == 0. Specify the reduction dim "
                f"with the 'dim' argument."
            )
        raise IndexError(f"{name}(): Expected reduction dim {dims[0]} to have non-zero size.")


def _extremum(op: Op, of_all: Op, along: Op, index: Op, name: str) -> tuple[Any, Any]:
    def over(input: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
        dims = _dimensions(dim, input.ndim)
        _check_not_empty(input, dims, f"a{name}", None if dim is None or dim == () else dim)
        return _along_axes(op, input, dims, keepdim)

    result: Any = namedtuple(name, ["values", "indices"])  # type: ignore[misc]
    result.__module__ = "tapegrad.return_types"
    result.__repr__ = _return_type_repr

    def extremum(input: Tensor, dim: Any = None, keepdim: bool = False, other: Any = None) -> Any:
        if isinstance(dim, Tensor) or other is not None:
            return elementwise.functions[f"{name}imum"](input, dim if other is None else other)
        if dim is None:
            _check_not_empty(input, _dimensions(None, input.ndim), name, None)
            return _along_axes(of_all, input, _dimensions(None, input.ndim), False)
        if not isinstance(dim, int):
            raise TypeError(
                f"{name}(): argument 'dim' must be int, not {type(dim).__name__}; use a{name} for several dimensions"
            )
        dims = _dimensions(dim, input.ndim)
        _check_not_empty(input, dims, name, dim)
        where = _along_axes(index, input, dims, keepdim, dtype=INT64)
        positions = _positions(where, input._kind.shape, dims)
        values = record_array(along, where._kind.shape, input.dtype, contiguous(input), positions)
        return result(values, where)  # type: ignore[call-arg]

    over.__name__, extremum.__name__ = f"a{name}", name
    which = {"max": "largest", "min": "smallest"}[name]
    over.__doc__ = (
        f"The {which} element over all dimensions, or those given; nan where there is one. Ties share the gradient."
    )
    extremum.__doc__ = (
        f"Over all dimensions the {which} element; along `dim` a pair (values, indices); "
        f"with another tensor, `{name}imum`."
    )
    return public(_numpy_names(over)), public(_numpy_names(extremum))


def _return_type_repr(self: Any) -> str:
    return f"tapegrad.return_types.{type(self).__name__}(\nvalues={self[0]!r},\nindices={self[1]!r})"


def _positions(where: Tensor, shape: tuple[int, ...], dims: tuple[int, ...]) -> Tensor:
    """Flat positions in a contiguous tensor of the elements with these indices along one dimension."""
    if not dims:
        return where.reshape(-1)
    from tapegrad.creation import arange

    at = dims[0]
    inner, n, outer = math.prod(shape[at + 1 :]), shape[at], math.prod(shape[:at])
    runs = arange(outer).reshape(outer, 1) * (n * inner) + arange(inner)
    return (where.reshape(outer, inner) * inner + runs).reshape(-1)


amax, max = _extremum(reduction.amax, reduction.max_of_all, indexing.max_along, reduction.argmax, "max")
amin, min = _extremum(reduction.amin, reduction.min_of_all, indexing.min_along, reduction.argmin, "min")


def _argextremum(op: Op) -> Any:
    def index(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
        dims = _dimensions(dim, input.ndim)
        _check_not_empty(input, dims, op.name, dim)
        return _along_axes(op, input, dims, keepdim, dtype=INT64)

    index.__name__ = op.name
    index.__doc__ = f"{op.docstring} Over all elements it counts them in order; or along `dim`."
    return public(_numpy_names(index))


argmax, argmin = _argextremum(reduction.argmax), _argextremum(reduction.argmin)


@public
@_numpy_names
def logsumexp(input: Tensor, dim: Any, keepdim: bool = False) -> Tensor:
    """log(sum(exp(input))) over the dimensions given, without overflow."""
    dims = _dimensions(dim, input.ndim)
    x = input if input.dtype.is_floating_point else cast(input, dtypes.get_default_dtype())
    return _along_axes(reduction.logsumexp, x, dims, keepdim)


def _normaliser(op: Op) -> Any:
    def normalise(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
        dims = _dimensions(dim, input.ndim)
        x = input if dtype is None else cast(input, dtypes.as_dtype(dtype))
        if not x.dtype.is_floating_point:
            names = {"int64": "Long", "int32": "Int", "bool": "Bool"}
            raise RuntimeError(
                f"\"{op.name}_lastdim_kernel_impl\" not implemented for '{names[x.dtype.name]}': {describe(x)}, at "
                f"{location()}"
            )
        return _along_axes(op, x, dims, False, same_shape=True)

    normalise.__name__ = normalise.__qualname__ = op.name
    normalise.__doc__ = f"{op.docstring} Along `dim`."
    return public(_numpy_names(normalise))


softmax, log_softmax = _normaliser(reduction.softmax), _normaliser(reduction.log_softmax)


@public
@_numpy_names
def norm(input: Tensor, p: Any = 2, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Tensor:
    """The p-norm over all dimensions, or those given: `p` is a number, inf, -inf, or "fro" (2).

    >>> import tapegrad as tg
    >>> tg.norm(tg.tensor([3.0, 4.0]))
    tensor(5.)
    """
    dims = _dimensions(dim, input.ndim)
    if isinstance(p, str) and p != "fro":
        raise RuntimeError(f"Order {p} not supported: it is a number or 'fro'")
    x = input if dtype is None else cast(input, dtypes.as_dtype(dtype))
    if not x.dtype.is_floating_point:
        raise RuntimeError(
            f"linalg.vector_norm: Expected a floating point or complex tensor as input. Got "
            f"{x.dtype.name.replace('int64', 'Long')}: {describe(x)}, at {location()}"
        )
    p = 2 if p in (None, "fro") else float(p)
    if p == 2:
        return _record_reduction(reduction.norm, x, dims, keepdim, False)
    if p == 1:
        return sum(x.abs(), dims or None, keepdim)
    if p in (float("inf"), float("-inf")):
        return (amax if p > 0 else amin)(x.abs(), dims, keepdim)
    if p == 0:
        return sum((x != 0).to(x.dtype), dims or None, keepdim)
    powers = sum(x.abs() ** p, dims or None, keepdim)
    # A root has no derivative at 0; that of a norm is taken to be 0.
    vanishes = powers == 0
    return elementwise.where(vanishes, 0.0, elementwise.where(vanishes, 1.0, powers) ** (1.0 / p))


@public
@_numpy_names
def any(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Whether some element is non-zero, over all dimensions or those given."""
    dims = _dimensions(dim, input.ndim)
    x = cast(input, BOOL)
    return x.clone() if dim == () else _record_reduction(reduction.any_, x, dims, keepdim, False)


@public
@_numpy_names
def all(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Whether every element is non-zero, over all dimensions or those given."""
    dims = _dimensions(dim, input.ndim)
    x = cast(input, BOOL)
    return x.clone() if dim == () else _record_reduction(reduction.all_, x, dims, keepdim, False)


@public
@_numpy_names
def count_nonzero(input: Tensor, dim: Any = None) -> Tensor:
    """How many elements are non-zero, over all dimensions or those given."""
    return sum(input != 0, dim)


def allclose(input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether all elements agree: |input - other| <= atol + rtol |other|."""
    import numpy as np

    return bool(np.allclose(input._array(), other._array(), rtol, atol, equal_nan))


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether shapes and all elements are the same."""
    import numpy as np

    return bool(np.array_equal(input._array(), other._array()))


for _function in (allclose, equal):
    public(_function)
