"""What works over all dimensions or some, under PyTorch's signatures.

The functions are made from the declarations; those whose arguments mean more stand below them. NumPy's names `axis` and
`keepdims` serve for `dim` and `keepdim`.
"""

from __future__ import annotations

import builtins
import math
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from tapegrad import batched, engine
from tapegrad.arguments import CAST, Dims, Number, Surface, integer
from tapegrad.batched import Batched
from tapegrad.dtypes import DTYPES, INT64, UINT8, DType
from tapegrad.functions import elementwise
from tapegrad.functions.making import converted, make, return_type
from tapegrad.functions.shaping import contiguous, distinct
from tapegrad.kinds import contiguous_strides, kind_of, numbers, seen
from tapegrad.ops import extremes, indexing, reduction
from tapegrad.ops.declare import OPS, TRUTH, Array, Axes, OverDimensions, Reduction
from tapegrad.recording import (
    appended,
    broadcast_shapes,
    cast,
    imported,
    in_one_step,
    need_sum,
    record_array,
    settled,
    steady,
)
from tapegrad.tape import PARAMS, VARIANT, current_tape
from tapegrad.tensor import Tensor, describe, location, owning

if TYPE_CHECKING:
    from tapegrad.methods import Extremum  # a stub

functions = public = Surface(CAST)
_NOT_GIVEN: Any = object()


def _dimensions(dim: Dims | None, ndim: int) -> tuple[int, ...]:
    """The reduced dimensions, in order; None and () mean all."""
    if dim is None or dim == ():
        return tuple(range(ndim))
    dims = distinct(dim, ndim)
    return tuple(sorted(dims)) if ndim else ()


def _reduced_shape(shape: tuple[int, ...], dims: tuple[int, ...], keepdim: bool) -> tuple[int, ...]:
    if keepdim:
        return tuple(1 if d in dims else n for d, n in enumerate(shape))
    return tuple(n for d, n in enumerate(shape) if d not in dims)


_recorded: dict[Any, tuple[Any, int]] = {}


def _record_reduction(op: Reduction, x: Tensor, dims: tuple[int, ...], keepdim: bool, variant: bool) -> Tensor:
    """A reduction that is swept in blocks.

    Its parameters are the number of terms, and where each element goes (strides of the result).
    """
    tape = current_tape()
    if x.__class__ is Batched:
        return batched.rules["reduction"](op, x, dims, keepdim, variant)
    if x._tape is not tape:
        x = imported(tape, x)
    if x._kind.exported:
        x = steady(x)
    key = op.opcode, x._kind, dims, keepdim
    known = _recorded.get(key)
    if known is None:
        known = _recorded[key] = _reduction_kind(op, x._kind, dims, keepdim)
    kind = seen(tape.grad_enabled, known[0])
    return settled(appended(tape, op, kind, x, -1, known[1], PARAMS | (VARIANT if variant else 0)), x)


def _reduction_kind(op: Reduction, kind: Any, dims: tuple[int, ...], keepdim: bool) -> tuple[Any, int]:
    """The kind of the result, and where its parameters are."""
    kept = tuple(1 if d in dims else n for d, n in enumerate(kind.shape))
    strides = tuple(0 if d in dims else s for d, s in enumerate(contiguous_strides(kept, 1)))
    terms = math.prod(kind.shape[d] for d in dims)
    engine.need(op, kind.dtype.code, False)
    requires_grad = kind.requires_grad if op.partials[0] is not None else 0
    if requires_grad:
        engine.need(op, kind.dtype.code, True)
        need_sum(kind.dtype)
    shape = _reduced_shape(kind.shape, dims, keepdim)
    return kind_of(kind.dtype, shape, requires_grad=requires_grad), numbers((terms, *strides))


def _along_axes(
    op: Axes,
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


def _check_not_empty(x: Tensor, dims: tuple[int, ...], name: str, dim: Any) -> None:
    if builtins.any(x._kind.shape[d] == 0 for d in dims):
        if dim is None:
            raise (IndexError if name.startswith("arg") else RuntimeError)(
                f"{name}(): Expected reduction dim to be specified for input.numel() == 0. Specify the reduction dim "
                f"with the 'dim' argument."
            )
        raise IndexError(f"{name}(): Expected reduction dim {dims[0]} to have non-zero size.")


def _make(op: OverDimensions, form: Any) -> None:
    """The public function, of a sum over blocks or of a kernel along axes."""
    has_variant = bool(op.variants)  # where `dim` is given

    def blockwise(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
        assert isinstance(op, Reduction)
        dims = _dimensions(dim, input.ndim)  # before anything is recorded
        x = converted(op, input, dtype)
        if dim == () and op.operand == TRUTH:  # to these it is no dimension; to the others it is all
            return x.clone()
        result = _record_reduction(op, x, dims, keepdim, has_variant and dim is not None)
        if op.operand == TRUTH and input.dtype is UINT8:  # as before there were bools
            return cast(result, UINT8)
        return result

    def along(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
        assert isinstance(op, Axes)
        dims = _dimensions(dim, input.ndim)
        if op.needs_elements:
            _check_not_empty(input, dims, op.name, None if dim == () else dim)
        x = converted(op, input, dtype)
        result = DTYPES[op.signature(x.dtype.code)[-1]]
        return _along_axes(op, x, dims, keepdim, result, (), has_variant and dim is not None, op.same_shape)

    function = blockwise if isinstance(op, Reduction) else along
    if (form.__defaults__ or (False,))[0] is not None:  # `dim` is to be given
        function.__defaults__ = (False,)
    function.__qualname__ = op.name  # by which Python says what is missing
    make(functions, op, form, in_one_step(function))


def _recording(op: Axes) -> Any:
    """What rules call: the operation along the axis that another one's parameters name."""
    return lambda x, p: record_array(op, x._kind.shape, x.dtype, x, params=p)


for _op in OPS:
    if isinstance(_op, Axes) and _op.same_shape:
        _op.record = _recording(_op)
    if isinstance(_op, OverDimensions) and _op.form is not None:
        _make(_op, _op.form)
sum, amax, amin = (functions[name] for name in ("sum", "amax", "amin"))


def _spread(op: Axes, x: Tensor, dim: Any, unbiased: Any, keepdim: bool, correction: Any) -> Tensor:
    """The variance, or its root."""
    if isinstance(dim, bool):  # var(False) of old: the first argument is `unbiased`
        if unbiased is not None:
            raise TypeError(f"{op.name}() received an invalid combination of arguments: `unbiased` is given twice")
        dim, unbiased = None, dim
    if unbiased is not None and correction is not None:
        raise TypeError(f"{op.name}() received an invalid combination of arguments: `unbiased` and `correction`")
    if unbiased is not None:
        correction = int(unbiased)
    correction = 1 if correction is None else correction
    if not x.dtype.is_floating_point:
        raise RuntimeError(
            f"std and var only support floating point and complex dtypes: {describe(x)}, at {location()}"
        )
    dims = _dimensions(dim, x.ndim)
    if correction == correction and abs(correction) < 1 << 53 and int(correction) == correction:
        return _along_axes(op, x, dims, keepdim, extra=(int(correction),))
    # The kernel's divisor is an integer: what it gives is scaled to that which is asked for.
    n = math.prod(x._kind.shape[d] for d in dims)
    left = builtins.max(n - correction, 0.0)
    scale = n / left if left else math.inf
    whole = _along_axes(op, x, dims, keepdim, extra=(0,))
    return whole * (scale if op is reduction.var else math.sqrt(scale))


@public
@in_one_step
def var(
    input: Tensor, dim: Dims | bool | None = None, unbiased: bool | None = None, keepdim: bool = False, *,
    correction: Number | None = None,
) -> Tensor:  # fmt: skip
    """The variance over all dimensions, or those given: squared deviations over n - correction (1).

    >>> import tapegrad as tg
    >>> tg.var(tg.tensor([1.0, 2.0, 3.0]))
    tensor(1.)
    """
    return _spread(reduction.var, input, dim, unbiased, keepdim, correction)


@public
@in_one_step
def std(
    input: Tensor, dim: Dims | bool | None = None, unbiased: bool | None = None, keepdim: bool = False, *,
    correction: Number | None = None,
) -> Tensor:  # fmt: skip
    """The standard deviation over all dimensions, or those given: the root of `var`.

    >>> import tapegrad as tg
    >>> tg.std(tg.tensor([1.0, 2.0, 4.0]))
    tensor(1.5275)
    """
    return _spread(reduction.std, input, dim, unbiased, keepdim, correction)


def _only_dim(name: str, dim: Any) -> int:
    """A dimension that is given as a tensor."""
    taken: Any = integer(dim)
    if taken.__class__ is not int:
        raise TypeError(f"{name}() received an invalid combination of arguments: keepdim with another Tensor")
    return taken


def _extremum(of_all: Axes, along: Array, index: Axes, name: str) -> Any:
    result = return_type(name, "values", "indices")

    @in_one_step
    def of_everything(input: Tensor) -> Tensor:
        _check_not_empty(input, _dimensions(None, input.ndim), name, None)
        return _along_axes(of_all, input, _dimensions(None, input.ndim), False)

    @overload
    def extremum(input: Tensor) -> Tensor: ...
    @overload
    def extremum(input: Tensor, other: Tensor) -> Tensor: ...
    @overload
    def extremum(input: Tensor, dim: int, keepdim: bool = False) -> Extremum: ...
    def extremum(  # type: ignore[misc] # `other` has the place of `dim`
        input: Tensor, dim: int | Tensor = _NOT_GIVEN, keepdim: bool = _NOT_GIVEN, other: Tensor = _NOT_GIVEN
    ) -> Any:
        is_over_all = dim is _NOT_GIVEN and other is _NOT_GIVEN
        if is_over_all:
            if keepdim is not _NOT_GIVEN:
                raise TypeError(
                    f"{name}() received an invalid combination of arguments: keepdim without dim, of "
                    f"{describe(input)}, at {location()}: name the dimension, or use a{name}(..., keepdim=True)"
                )
            return of_everything(input)
        if isinstance(dim, Tensor) and keepdim is not _NOT_GIVEN:
            dim = _only_dim(name, dim)
        if isinstance(dim, Tensor) or other is not _NOT_GIVEN:
            return elementwise.functions[f"{name}imum"](input, dim if other is _NOT_GIVEN else other)
        dims = _dimensions(dim, input.ndim)
        _check_not_empty(input, dims, name, dim)
        where = _along_axes(index, input, dims, keepdim is True, dtype=INT64)
        positions = _positions(where, input._kind.shape, dims)
        values = record_array(along, where._kind.shape, input.dtype, contiguous(input), positions)
        return result(values, where)

    extremum.__name__ = name
    which, found = {"max": ("largest", "4."), "min": ("smallest", "1.")}[name]
    extremum.__doc__ = f"""Over all dimensions the {which} element; along `dim` a pair (values, indices).

    With another tensor, `{name}imum`.

    >>> import tapegrad as tg
    >>> x = tg.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> tg.{name}(x)
    tensor({found})
    >>> values, indices = tg.{name}(x, dim=1)
    """
    return public(extremum)


def _positions(where: Tensor, shape: tuple[int, ...], dims: tuple[int, ...]) -> Tensor:
    """Flat positions in a contiguous tensor of the elements with these indices along one dimension."""
    if not dims:
        return where.reshape(-1)
    at = dims[0]
    inner, n, outer = math.prod(shape[at + 1 :]), shape[at], math.prod(shape[:at])
    where = where.reshape(outer, inner)
    if inner > 1:
        where = where * inner
    if outer > 1 or inner > 1:
        runs = np.arange(outer).reshape(outer, 1) * (n * inner) + np.arange(inner)
        where = where + owning(runs, INT64, False)
    return where.reshape(-1)


max = _extremum(extremes.max_of_all, indexing.max_along, extremes.argmax, "max")
min = _extremum(extremes.min_of_all, indexing.min_along, extremes.argmin, "min")


def norm(
    x: Tensor, p: Any, dim: Dims | None = None, keepdim: bool = False, dtype: DType | None = None
) -> Tensor:  # fmt: skip
    """The p-norm of vectors: what `tapegrad.norm` does, but for the norms of matrices."""
    if isinstance(p, str) and p != "fro":
        raise RuntimeError(f"Order {p} not supported: it is a number or 'fro'")
    if not x.dtype.is_floating_point:
        name = x.dtype.scalar_type
        raise RuntimeError(
            f"linalg.vector_norm: Expected a floating point or complex tensor as input. Got {name}: {describe(x)}, "
            f"at {location()}"
        )
    if dtype is not None and (not dtype.is_floating_point or dtype.order < x.dtype.order):
        raise RuntimeError(
            f"linalg.vector_norm: the dtype of the input ({x.dtype}) should be convertible without narrowing to "
            f"the specified dtype ({dtype}), which is of floating point"
        )
    dims = _dimensions(dim, x.ndim)
    x = x if dtype is None else cast(x, dtype)
    p = 2 if p in (None, "fro") else float(p)
    if not x.numel() and (p < 0 or p == float("inf")):
        _check_has_least(x, dim, dims, p)
    if p == 2:
        return _record_reduction(reduction.norm, x, dims, keepdim, False)
    if p == 1:
        return sum(x.abs(), dims or None, keepdim)
    if p in (float("inf"), float("-inf")):
        return (amax if p > 0 else amin)(x.abs(), dims, keepdim)
    if p == 0:  # a step everywhere: the derivative of `sign` is 0
        return sum(elementwise.where(x == 0, x.sign(), 1.0), dims or None, keepdim)
    if p != p:
        return sum(x, dims or None, keepdim) * p
    # |x|_p = m |x / m|_p for any m: with the element that counts most, no power overflows or underflows.
    size = x.abs()
    if x.numel():
        most = (amax if p > 0 else amin)(x.detach().abs(), dims, True)
        size = size / (scale := elementwise.where((most > 0) & elementwise.functions["isfinite"](most), most, 1.0))
    powers = sum(size**p, dims or None, True)
    vanishes = powers == 0  # the derivative of a root at 0 is infinite, that of a norm is 0
    limit = 0.0 if p > 0 else float("inf")  # of negative order, all elements are infinite then
    root = elementwise.where(vanishes, limit, elementwise.where(vanishes, 1.0, powers) ** (1.0 / p))
    root = root * scale if x.numel() else root
    return root if keepdim else root.reshape(_reduced_shape(x._kind.shape, dims, False))


def _check_has_least(x: Tensor, dim: Dims | None, dims: tuple[int, ...], p: float) -> None:
    """Of no elements there is no largest or smallest, and no norm of negative order."""
    empty = [d for d in dims if not x._kind.shape[d]]
    if not empty:
        return
    of_what = f"the dimension {empty[0]} because this dimension is empty and"
    if dim is None or dim == ():
        of_what = "an empty tensor because"
    raise RuntimeError(
        f"linalg.vector_norm cannot compute the {p:g} norm on {of_what} the operation does not have an identity: "
        f"{describe(x)}, at {location()}"
    )


@public
def count_nonzero(input: Tensor, dim: Dims | None = None) -> Tensor:
    """How many elements are non-zero, over all dimensions or those given.

    >>> import tapegrad as tg
    >>> tg.count_nonzero(tg.tensor([0.0, 2.0, 3.0]))
    tensor(2)
    """
    return sum(input != 0, dim)


@public
def allclose(input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether all elements agree: |input - other| <= atol + rtol |other|.

    Raises
    ------
    RuntimeError
        Where the dtypes differ, or the shapes can't be broadcast.

    >>> import tapegrad as tg
    >>> tg.allclose(tg.ones(2), tg.ones(2) + 1e-9)
    True
    """
    for name, tolerance in (("rtol", rtol), ("atol", atol)):
        if not tolerance >= 0:
            raise RuntimeError(f"{name} must be greater than or equal to zero, but got {tolerance}")
    if input.dtype is not other.dtype:
        raise RuntimeError(f"{input.dtype} did not match {other.dtype}: allclose({describe(input, other)})")
    broadcast_shapes("allclose", [input, other])
    return bool(np.allclose(input._array(), other._array(), rtol, atol, equal_nan))


@public
def equal(input: Tensor, other: Tensor) -> bool:
    """Whether shapes and all elements are the same.

    >>> import tapegrad as tg
    >>> tg.equal(tg.ones(2), tg.ones(2))
    True
    """
    return bool(np.array_equal(input._array(), other._array()))
