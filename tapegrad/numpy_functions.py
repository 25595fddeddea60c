"""NumPy's functions that are compositions: of layouts, joining, products, factorisations, and what only reads values.

Each has NumPy's parameters, as far as they are understood for tensors; `numpy_protocol.py` refuses the others, and
makes tensors of arrays among operands.
"""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.exceptions import AxisError
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from tapegrad import creation, dtypes, linalg
from tapegrad.conversion import as_operand
from tapegrad.functions import (
    contractions,
    elementwise,
    indexing,
    joining,
    products,
    reductions,
    shaping,
    statistics,
)
from tapegrad.recording import cast, promoted
from tapegrad.tensor import Tensor, describe

# --- layout -----------------------------------------------------------------------------------------------------------


def _lengths(shape: Any) -> tuple[int, ...]:
    return (operator.index(shape),) if hasattr(shape, "__index__") else tuple(map(operator.index, shape))


def reshape(a: Tensor, shape: Any = None, newshape: Any = None, order: Any = "C") -> Tensor:
    """The elements, in their order, in another shape; with order "F" the first axis is the fastest, in both."""
    lengths = _lengths(newshape if shape is None else shape)
    if _is_by_columns(order, a):
        return transpose(transpose(a).reshape(lengths[::-1]))
    return a.reshape(lengths)


def ravel(a: Tensor, order: Any = "C") -> Tensor:
    """The elements in one dimension."""
    return reshape(a, -1, order=order)


def _is_by_columns(order: Any, a: Tensor) -> bool:
    """Whether an order names the first axis first: "F" does, and "A" where the memory does."""
    if order not in ("C", "F", "A", "K"):
        raise ValueError(f"order must be one of 'C', 'F', 'A', or 'K' (got {order!r})")
    return bool(
        order == "F" or (order == "A" and a.ndim > 1 and not a.is_contiguous() and transpose(a).is_contiguous())
    )


def transpose(a: Tensor, axes: Any = None) -> Tensor:
    """The axes in another order: reversed, or as given."""
    order = range(a.ndim)[::-1] if axes is None else normalize_axis_tuple(axes, a.ndim)
    if len(order) != a.ndim:
        raise ValueError(f"axes don't match array: {axes} of {a.ndim}")
    return a.permute(tuple(order)) if a.ndim else a


def matrix_transpose(x: Tensor) -> Tensor:
    """The last two axes exchanged."""
    if x.ndim < 2:
        raise ValueError(f"Input array must be at least 2-dimensional, but it is {x.ndim}")
    return x.transpose(-2, -1)


def squeeze(a: Tensor, axis: Any = None) -> Tensor:
    """Without the axes of length 1, or those given, which must have it."""
    axes = [d for d in range(a.ndim) if a.shape[d] == 1] if axis is None else normalize_axis_tuple(axis, a.ndim)
    if any(a.shape[d] != 1 for d in axes):
        raise ValueError("cannot select an axis to squeeze out which has size not equal to one")
    return a.reshape(tuple(n for d, n in enumerate(a.shape) if d not in axes))


def expand_dims(a: Tensor, axis: Any) -> Tensor:
    """With new axes of length 1 there."""
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    for d in sorted(normalize_axis_tuple(axes, a.ndim + len(axes))):
        a = a.unsqueeze(d)
    return a


def moveaxis(a: Tensor, source: Any, destination: Any) -> Tensor:
    """Some axes moved to other places."""
    given = normalize_axis_tuple(source, a.ndim, "source")
    wanted = normalize_axis_tuple(destination, a.ndim, "destination")
    if len(given) != len(wanted):
        raise ValueError("`source` and `destination` arguments must have the same number of elements")
    return shaping.movedim(a, given, wanted)


def rollaxis(a: Tensor, axis: Any, start: Any = 0) -> Tensor:
    """An axis moved back until it stands before `start`."""
    axis = normalize_axis_index(axis, a.ndim)
    n, start = a.ndim, start + a.ndim if start < 0 else start
    if not 0 <= start <= n:
        raise AxisError(f"'start' arg requires {-n} <= start < {n + 1}, but {start} was passed in")
    return moveaxis(a, axis, start - 1 if axis < start else start)


def broadcast_to(array: Tensor, shape: Any) -> Tensor:
    """Repeated, without a copy, to a shape."""
    lengths = _lengths(shape)
    if any(n < 0 for n in lengths):  # to PyTorch -1 is the length that there is
        raise ValueError("all elements of broadcast shape must be non-negative")
    return array.expand(lengths)


def atleast(n: int) -> Callable[..., Any]:
    """With at least n axes: new ones of length 1, where NumPy has them."""

    def at_least(*arys: Any) -> Any:
        made = []
        for a in map(as_tensor, arys):
            if n == 3:
                a = a.reshape((1, *a.shape, 1)) if a.ndim == 1 else a.reshape((*a.shape, 1)) if a.ndim == 2 else a
            made.append(a.reshape((1,) * (n - a.ndim) + tuple(a.shape)))
        return made[0] if len(made) == 1 else tuple(made)

    return at_least


def diagonal(a: Tensor, offset: Any = 0, axis1: Any = 0, axis2: Any = 1) -> Tensor:
    """The diagonals over two axes."""
    return a.diagonal(offset, axis1, axis2)


def trace(a: Tensor, offset: Any = 0, axis1: Any = 0, axis2: Any = 1, dtype: Any = None) -> Tensor:
    """The sum over diagonals."""
    return diagonal(a, offset, axis1, axis2).sum(-1, dtype=dtype)


def diag(v: Tensor, k: Any = 0) -> Tensor:
    """A matrix with this diagonal, or the diagonal of a matrix."""
    if v.ndim not in (1, 2):
        raise ValueError("Input must be 1- or 2-d.")
    return v.diag(k)


# --- elements in other places -----------------------------------------------------------------------------------------


def _at(a: Tensor, places: Any, axis: int) -> Tensor:
    return indexing.index_select(a, axis, as_operand(np.asarray(places, np.int64), False))


def flip(m: Tensor, axis: Any = None) -> Tensor:
    """The elements in reverse order, along all axes or those given."""
    return joining.flip(m, tuple(range(m.ndim)) if axis is None else normalize_axis_tuple(axis, m.ndim))


def roll(a: Tensor, shift: Any, axis: Any = None) -> Tensor:
    """The elements moved on, those at the end to the beginning."""
    if axis is None:
        return joining.roll(a, shift)
    shifts, axes = (v if isinstance(v, (tuple, list)) else (v,) for v in (shift, axis))
    shifts = shifts * len(axes) if len(shifts) == 1 else shifts
    axes = axes * len(shifts) if len(axes) == 1 else axes
    return joining.roll(a, tuple(shifts), normalize_axis_tuple(axes, a.ndim, allow_duplicate=True))


def take(a: Tensor, indices: Any, axis: Any = None) -> Tensor:
    """The elements at these places, of all or along an axis."""
    places = indices._array() if isinstance(indices, Tensor) else np.asarray(indices)
    if axis is None:
        a, axis = a.reshape(-1), 0
    axis, n = normalize_axis_index(axis, a.ndim), a.shape[axis]
    if places.size and not (-n <= places.min() and places.max() < n):
        raise IndexError(f"index is out of bounds for axis {axis} with size {n}: {places.min()} to {places.max()}")
    shape = (*a.shape[:axis], *places.shape, *a.shape[axis + 1 :])
    return _at(a, np.where(places < 0, places + n, places).reshape(-1), axis).reshape(shape)


def repeat(a: Tensor, repeats: Any, axis: Any = None) -> Tensor:
    """Each element so many times."""
    if axis is None:
        a, axis = a.reshape(-1), 0
    return _at(a, np.repeat(np.arange(a.shape[axis]), repeats), axis)


def tile(A: Tensor, reps: Any) -> Tensor:
    """The whole, side by side, so many times along each axis."""
    times = _lengths(reps)
    return A.repeat((1,) * (A.ndim - len(times)) + times)


def array_split(ary: Tensor, indices_or_sections: Any, axis: Any = 0) -> list[Tensor]:
    """In parts along an axis: so many, nearly alike, or cut at these places."""
    axis, indices_or_sections = normalize_axis_index(axis, ary.ndim), _values(indices_or_sections)
    parts = np.array_split(np.arange(ary.shape[axis]), indices_or_sections)
    return [ary.narrow(axis, int(part[0]) if part.size else 0, part.size) for part in parts]


def split(ary: Tensor, indices_or_sections: Any, axis: Any = 0) -> list[Tensor]:
    """In parts along an axis: so many, alike, or cut at these places."""
    indices_or_sections = _values(indices_or_sections)
    if hasattr(indices_or_sections, "__index__") and ary.shape[axis] % indices_or_sections:
        raise ValueError("array split does not result in an equal division")
    return array_split(ary, indices_or_sections, axis)


def unstack(x: Tensor, axis: Any = 0) -> tuple[Tensor, ...]:
    """The parts along an axis, without it."""
    return tuple(x.unbind(axis))


# --- joining ----------------------------------------------------------------------------------------------------------


def as_tensor(value: Any) -> Tensor:
    """A tensor; of an array or a number, one with the elements that it has now."""
    return value if isinstance(value, Tensor) else as_operand(value, True)


def _joined(tensors: Sequence[Tensor], axis: int) -> Tensor:
    dtype = promoted(list(tensors))
    return shaping.cat([cast(t, dtype) for t in tensors], axis)


def cast_by(a: Tensor, dtype: Any, casting: Any) -> Tensor:
    """In another dtype, where NumPy's rule allows that.

    Raises
    ------
    TypeError
        Where it doesn't.
    """
    if not np.can_cast(a.dtype.numpy, dtype.numpy, casting):
        raise TypeError(f"Cannot cast array data from {a.dtype} to {dtype} according to the rule {casting!r}")
    return cast(a, dtype)


def stacked(n: int, axis: int, first: int) -> Callable[..., Tensor]:
    """Joined along an axis, each with at least n axes; those with less than two along the `first`."""

    def join(tup: Any, *, dtype: Any = None, casting: Any = "same_kind") -> Tensor:
        parts = [atleast(n)(a) for a in tup]
        joined = _joined(parts, first if all(part.ndim == 1 for part in parts) else axis)
        return joined if dtype is None else cast_by(joined, dtypes.as_dtype(dtype), casting)

    return join


def column_stack(tup: Any) -> Tensor:
    """Vectors and matrices as columns of one."""
    parts = [as_tensor(a) for a in tup]
    return _joined([a.reshape(-1, 1) if a.ndim < 2 else a for a in parts], 1)


def append(arr: Tensor, values: Any, axis: Any = None) -> Tensor:
    """With values behind."""
    both = [as_tensor(arr), as_tensor(values)]
    return _joined([t.reshape(-1) for t in both], 0) if axis is None else _joined(both, axis)


# --- products and sums ------------------------------------------------------------------------------------------------


def of_one_dtype(*operands: Any) -> list[Tensor]:
    """Tensors of the dtype that operands are promoted to."""
    if all(isinstance(a, Tensor) for a in operands) and len({a.dtype for a in operands}) == 1:
        return [*operands]
    dtype = promoted([a if isinstance(a, (bool, int, float)) else as_tensor(a) for a in operands])
    return [cast(as_tensor(a), dtype) for a in operands]


def vdot(a: Any, b: Any) -> Tensor:
    """The sum of products of all elements."""
    a, b = of_one_dtype(a, b)
    return a.reshape(-1).dot(b.reshape(-1))


def kron(a: Any, b: Any) -> Tensor:
    """Kronecker's product."""
    return contractions.kron(*of_one_dtype(a, b))


def tensordot(a: Any, b: Any, axes: Any = 2) -> Tensor:
    """The product of tensors, summed over pairs of axes."""
    a, b = of_one_dtype(a, b)
    if hasattr(axes, "__index__"):
        axes = range(a.ndim - axes, a.ndim), range(axes)
    left, right = (normalize_axis_tuple(d, t.ndim) for d, t in zip(axes, (a, b), strict=True))
    if [a.shape[d] for d in left] != [b.shape[d] for d in right]:
        raise ValueError("shape-mismatch for sum")
    return contractions.tensordot(a, b, (left, right))


def cross(a: Any, b: Any, axisa: Any = -1, axisb: Any = -1, axisc: Any = -1, axis: Any = None) -> Tensor:
    """The cross product of vectors; `axis` is where they are in all of them. Of length 2, they lie in a plane."""
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = of_one_dtype(a, b)
    a, b = moveaxis(a, axisa, -1), moveaxis(b, axisb, -1)
    lengths = a.shape[-1], b.shape[-1]
    if not {*lengths} <= {2, 3}:
        raise ValueError("incompatible dimensions for cross product (dimension must be 2 or 3)")
    if 2 in lengths:
        warnings.warn(
            "Arrays of 2-dimensional vectors are deprecated. Use arrays of 3-dimensional vectors instead.",
            DeprecationWarning,
            stacklevel=4,
        )
        if lengths == (2, 2):
            return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
        a, b = (t if t.shape[-1] == 3 else shaping.cat([t, t.new_zeros((*t.shape[:-1], 1))], -1) for t in (a, b))
    made = _at(a, [1, 2, 0], a.ndim - 1) * _at(b, [2, 0, 1], b.ndim - 1)
    made = made - _at(a, [2, 0, 1], a.ndim - 1) * _at(b, [1, 2, 0], b.ndim - 1)
    return moveaxis(made, -1, axisc)


def trapezoid(y: Tensor, x: Any = None, dx: Any = 1.0, axis: Any = -1) -> Tensor:
    """The integral by the trapezoidal rule."""
    axis = normalize_axis_index(axis, y.ndim)
    n = y.shape[axis] - 1
    if x is not None:
        x = as_tensor(x)
        dx = statistics.diff(x, 1, 0 if x.ndim == 1 else axis)
        dx = dx.reshape([-1 if d == axis else 1 for d in range(y.ndim)]) if dx.ndim == 1 else dx
    return ((y.narrow(axis, 1, n) + y.narrow(axis, 0, n)) * dx).sum(axis) * 0.5


def average(a: Tensor, axis: Any = None, weights: Any = None, returned: Any = False, keepdims: Any = False) -> Any:
    """The mean, or the weighted mean; with the sum of the weights, where that is to be `returned`."""
    over = tuple(range(a.ndim)) if axis is None else axis
    if weights is None:
        mean = floating(a).mean(over, bool(keepdims))
        return (mean, creation.full_like(mean, a.numel() / max(mean.numel(), 1))) if returned else mean
    weights = as_tensor(weights)
    if weights.shape != a.shape:
        if axis is None:
            raise TypeError("Axis must be specified when shapes of a and weights differ.")
        axes = normalize_axis_tuple(axis, a.ndim)
        if tuple(weights.shape) != tuple(a.shape[d] for d in axes):
            raise ValueError("Shape of weights must be consistent with shape of a along specified axis.")
        weights = weights.permute([axes.index(d) for d in sorted(axes)])
        weights = weights.reshape([n if d in axes else 1 for d, n in enumerate(a.shape)]).expand(tuple(a.shape))
    total = weights.sum(over, bool(keepdims))
    mean = (a * weights).sum(over, bool(keepdims)) / total
    return (mean, cast(total, mean.dtype)) if returned else mean


def sliding_window_view(x: Tensor, window_shape: Any, axis: Any = None) -> Tensor:
    """A view of the windows of a shape, along all axes or those given; the windows' own axes are the last."""
    lengths = _lengths(window_shape)
    axes = range(x.ndim) if axis is None else normalize_axis_tuple(axis, x.ndim, allow_duplicate=True)
    if len(lengths) != len(axes):
        raise ValueError("Must provide matching length window_shape and axis; got")
    if any(n < 0 for n in lengths):
        raise ValueError("`window_shape` cannot contain negative values")
    for n, d in zip(lengths, axes, strict=True):
        if n > x.shape[d]:
            raise ValueError("window shape cannot be larger than input array shape")
        x = x.unfold(d, n, 1)
    return x


def _in_reals(name: str, is_inside: Callable[[Any], Any], value: Callable[..., Any]) -> Callable[..., Any]:
    """A function of `np.emath`, where its result is real."""

    def function(*operands: Any) -> Any:
        x = as_tensor(operands[-1 if name in ("logn",) else 0])
        if not is_inside(x).all().item():
            raise ValueError(f"np.emath.{name}: the result is complex, and tapegrad's numbers are real")
        return value(*operands)

    return function


def ptp(a: Tensor, axis: Any = None, keepdims: Any = False) -> Tensor:
    """From the least element to the largest."""
    largest, least = reductions.functions["amax"], reductions.functions["amin"]
    over = tuple(range(a.ndim)) if axis is None else axis
    return largest(a, over, bool(keepdims)) - least(a, over, bool(keepdims))


def polyval(p: Any, x: Any) -> Tensor:
    """A polynomial, its coefficients from the highest, by Horner's rule."""
    x = as_tensor(x) if isinstance(x, np.ndarray) else x
    y: Any = creation.zeros_like(x) if isinstance(x, Tensor) else 0.0
    for k in range(len(p)):
        y = y * x + p[k]
    return y


def angle(z: Tensor) -> Tensor:
    """Pi where negative, else 0."""
    made: Tensor = elementwise.functions["angle"](z)
    return made


def imag(val: Tensor) -> Tensor:
    """Zeros: what is recorded is real."""
    return creation.zeros_like(val)


def select(condlist: Any, choicelist: Any, default: Any = 0) -> Any:
    """From the first list of choices whose condition holds."""
    if len(condlist) != len(choicelist):
        raise ValueError("list of cases must be same length as list of conditions")
    conditions = [as_tensor(condition) for condition in condlist]
    for place, condition in enumerate(conditions):
        if condition.dtype is not dtypes.BOOL:
            raise TypeError(f"invalid entry {place} in condlist: should be boolean ndarray, not {describe(condition)}")
    chosen = default
    for condition, choice in zip(conditions[::-1], choicelist[::-1], strict=True):
        chosen = elementwise.where(condition, choice, chosen)
    return chosen


# --- linear algebra ---------------------------------------------------------------------------------------------------


def floating(a: Any) -> Tensor:
    """A tensor of floating-point numbers: others become float64."""
    a = as_tensor(a)
    return a if a.dtype.is_floating_point else cast(a, dtypes.FLOAT64)


def cholesky(a: Tensor, upper: Any = False) -> Tensor:
    """Cholesky's factor."""
    return linalg.cholesky(floating(a), upper=bool(upper))


def solve(a: Any, b: Any) -> Tensor:
    """The solutions of systems of linear equations; `b` is a vector where it has one axis."""
    a, b = of_one_dtype(floating(a), floating(b))
    # To NumPy only one axis is a vector: to PyTorch as many as `a` has but one may be vectors, too.
    return linalg.solve(a, b.unsqueeze(0) if 1 < b.ndim == a.ndim - 1 else b)


def slogdet(a: Tensor) -> Any:
    """Signs and logarithms of determinants."""
    sign, log = linalg.slogdet(floating(a))
    return _SLOGDET_RESULT(sign, log)


_SLOGDET_RESULT = type(np.linalg.slogdet(np.eye(1)))


def matrix_power(a: Any, n: Any) -> Tensor:
    """A power of square matrices, by squaring; negative ones of the inverse."""
    a = as_tensor(a)
    return contractions.matrix_power(floating(a) if n < 0 else a, operator.index(n))


def multi_dot(arrays: Any) -> Tensor:
    """The product of several matrices, in the best order."""
    return contractions.multi_dot(of_one_dtype(*arrays))


def vector_norm(x: Any, axis: Any = None, keepdims: Any = False, ord: Any = 2) -> Tensor:
    """A norm of vectors, along all axes or those given; of no elements 0, and inf where `ord` is negative."""
    x = floating(x)
    if not x.numel() and (ord == math.inf or -math.inf < ord < 0):
        zeros = linalg.vector_norm(x, 1, axis, bool(keepdims))
        return zeros if ord > 0 else zeros + math.inf
    return linalg.vector_norm(x, ord, axis, bool(keepdims))


# --- new arrays, and what is read of values ---------------------------------------------------------------------------


def like(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A new tensor of the shape and dtype of another."""

    def made(a: Tensor, dtype: Any = None, shape: Any = None) -> Tensor:
        a = a if shape is None else a.new_empty(_lengths(shape))
        return make(a, dtype=None if dtype is None else dtypes.as_dtype(dtype))

    return made


def full_like(a: Tensor, fill_value: Any, dtype: Any = None, shape: Any = None) -> Tensor:
    """A new tensor of the shape and dtype of another, with one number, or with an array, broadcast."""
    if np.ndim(fill_value) or isinstance(fill_value, Tensor):
        made = like(creation.empty_like)(a, dtype, shape)
        return cast(as_tensor(fill_value), made.dtype).expand(made.shape).clone()
    return like(lambda a, dtype: creation.full_like(a, fill_value, dtype=dtype))(a, dtype, shape)


def size(a: Tensor, axis: int | None = None) -> int:
    """The number of elements, or the length of a dimension."""
    return a.numel() if axis is None else a.shape[axis]


def _values(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(map(_values, value))
    return value._array() if isinstance(value, Tensor) else value


def _shown(value: Any) -> Any:
    """An array of the shape, without the values: they need not be computed."""
    return np.broadcast_to(False, value.shape) if isinstance(value, Tensor) else _values(value)


def of_values(function: Callable[..., Any]) -> Callable[..., Any]:
    """NumPy's own, where no derivative could be lost: it answers with bools, ints, places, or what is known of it."""
    return lambda *args, **facts: function(*_values(args), **{name: _values(v) for name, v in facts.items()})


# By parameters of NumPy's names: `numpy_protocol.py` looks at which are given.
FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.reshape: reshape,
    np.transpose: transpose,
    np.ravel: ravel,
    np.squeeze: squeeze,
    np.expand_dims: expand_dims,
    np.moveaxis: moveaxis,
    np.rollaxis: rollaxis,
    np.swapaxes: lambda a, axis1, axis2: a.transpose(axis1, axis2),
    np.broadcast_to: broadcast_to,
    np.diagonal: diagonal,
    np.trace: trace,
    np.diag: diag,
    np.flip: flip,
    np.flipud: lambda m: flip(m, 0),
    np.fliplr: lambda m: flip(m, 1),
    np.roll: roll,
    np.take: take,
    np.repeat: repeat,
    np.tile: tile,
    np.split: split,
    np.array_split: array_split,
    np.vstack: stacked(2, 0, 0),
    np.hstack: stacked(1, 1, 0),
    np.dstack: stacked(3, 2, 2),
    np.column_stack: column_stack,
    np.append: append,
    np.vdot: vdot,
    np.kron: kron,
    np.tensordot: tensordot,
    np.cross: cross,
    np.trapezoid: trapezoid,
    np.average: average,
    np.i0: lambda x: elementwise.functions["i0"](floating(as_tensor(x))),
    np.lib.stride_tricks.sliding_window_view: sliding_window_view,
    np.ptp: ptp,
    np.polyval: polyval,
    np.nan_to_num: lambda x, nan=0.0, posinf=None, neginf=None: elementwise.nan_to_num(x, nan, posinf, neginf),
    np.angle: angle,
    np.select: select,
    np.copy: lambda a: a.clone(),
    np.real: lambda val: val,
    np.imag: imag,
    np.linalg.det: lambda a: linalg.det(floating(a)),
    np.linalg.inv: lambda a: linalg.inv(floating(a)),
    np.linalg.solve: solve,
    np.linalg.cholesky: cholesky,
    np.linalg.slogdet: slogdet,
    np.linalg.matrix_power: matrix_power,
    np.linalg.multi_dot: multi_dot,
    np.linalg.matrix_transpose: matrix_transpose,
    np.linalg.diagonal: lambda x, offset=0: diagonal(x, offset, -2, -1),
    np.linalg.trace: lambda x, offset=0: trace(x, offset, -2, -1),
    np.linalg.outer: lambda x1, x2: products.outer(*of_one_dtype(x1, x2)),
    np.linalg.matmul: lambda x1, x2: products.matmul(*of_one_dtype(x1, x2)),
    np.linalg.tensordot: lambda x1, x2, axes=2: tensordot(x1, x2, axes),
    np.linalg.cross: lambda x1, x2, axis=-1: cross(x1, x2, axis=axis),
    np.linalg.vector_norm: vector_norm,
}
FUNCTIONS |= {
    getattr(np, name): FUNCTIONS[known]  # names that came with NumPy 2.1 and later
    for name, known in {"permute_dims": np.transpose, "matrix_transpose": np.linalg.matrix_transpose}.items()
    if hasattr(np, name)
}


def einsum(*operands: Any, out: Any = None, optimize: Any = False, **facts: Any) -> Tensor:
    """Sums of products over named axes, always in the best order."""
    del optimize  # how, not what
    told = {"out": out} | {k: v for k, v in facts.items() if (k, v) not in (("order", "K"), ("casting", "safe"))}
    for name, value in told.items():
        if value is not None:
            raise TypeError(f"einsum of tensors does not understand {name}={value!r}")
    if isinstance(operands[0], str):
        return contractions.einsum(operands[0], *of_one_dtype(*operands[1:]))
    tensors = of_one_dtype(*operands[: len(operands) & ~1 : 2])
    given = [x for pair in zip(tensors, operands[1::2], strict=False) for x in pair]
    return contractions.einsum(*given, *operands[len(given) :])


# Called as NumPy's are.
_EMATH: dict[str, tuple[Callable[[Any], Any], Callable[..., Any]]] = {
    "sqrt": (lambda x: x >= 0, np.sqrt), "log": (lambda x: x >= 0, np.log), "log2": (lambda x: x >= 0, np.log2),
    "log10": (lambda x: x >= 0, np.log10), "logn": (lambda x: x >= 0, lambda n, x: np.log(x) / np.log(n)),
    "power": (lambda x: x >= 0, lambda x, p: np.power(floating(as_tensor(x)), p)),
    "arccos": (lambda x: abs(x) <= 1, np.arccos), "arcsin": (lambda x: abs(x) <= 1, np.arcsin),
    "arctanh": (lambda x: abs(x) <= 1, np.arctanh),
}  # fmt: skip
CALLED: dict[Any, Callable[..., Any]] = {
    getattr(np.emath, name): _in_reals(name, *facts) for name, facts in _EMATH.items()
} | {
    np.einsum: einsum,
    np.atleast_1d: atleast(1),
    np.atleast_2d: atleast(2),
    np.atleast_3d: atleast(3),
    np.zeros_like: like(creation.zeros_like),
    np.ones_like: like(creation.ones_like),
    np.empty_like: like(creation.empty_like),
    np.full_like: full_like,
    np.ndim: lambda a: np.ndim(_shown(a)),
    np.shape: lambda a: np.shape(_shown(a)),
    np.size: lambda a, *axis, **facts: np.size(_shown(a), *axis, **facts),
} | {
    np.shape: lambda a: tuple(a.shape),
    np.ndim: lambda a: a.ndim,
    np.size: size,
} | {
    function: of_values(function)
    for function in (
        np.iscomplexobj, np.isrealobj, np.result_type, np.isclose, np.allclose,
        np.array_equal, np.array_equiv, np.count_nonzero, np.nonzero, np.flatnonzero, np.argwhere, np.argsort,
        np.searchsorted, np.digitize, np.isneginf, np.isposinf, np.lexsort, np.may_share_memory, np.shares_memory,
    )
}  # fmt: skip
if hasattr(np, "unstack"):
    CALLED[np.unstack] = unstack
if hasattr(np, "astype"):
    CALLED[np.astype] = lambda x, dtype, **_: cast(x, dtypes.as_dtype(dtype))
