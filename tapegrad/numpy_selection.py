"""NumPy's functions that choose, cut, put together or go through elements, and what they say of values alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from tapegrad import creation, dtypes, fft, trees
from tapegrad.conversion import as_operand
from tapegrad.functions import elementwise, products, shaping
from tapegrad.numpy_functions import as_tensor, cast_by, floating, of_one_dtype, of_values, roll, split, take
from tapegrad.recording import cast
from tapegrad.tensor import Tensor, describe, location

_where = elementwise.where


def _array(value: Any) -> Any:
    return value._array() if isinstance(value, Tensor) else np.asarray(value)


# --- choosing ---------------------------------------------------------------------------------------------------------


def choose(a: Any, choices: Any, mode: Any = "raise") -> Tensor:
    """From as many choices as there are, the elements of those whose numbers `a` holds."""
    numbers = _array(a)
    tensors = shaping.stack(_broadcast(*of_one_dtype(*choices), np.zeros(numbers.shape))[:-1])
    shape = tuple(tensors.shape[1:])
    numbers = np.broadcast_to(numbers, shape)
    if mode == "raise" and numbers.size and not (numbers.min() >= 0 and numbers.max() < len(choices)):
        raise ValueError("invalid entry in choice array")
    numbers = np.clip(numbers, 0, len(choices) - 1) if mode == "clip" else numbers % len(choices)
    size = math.prod(shape)
    return take(tensors, numbers * size + np.arange(size).reshape(shape))


def _broadcast(*args: Any) -> tuple[Tensor, ...]:
    tensors = [as_tensor(a) for a in args]
    shape = np.broadcast_shapes(*(tuple(t.shape) for t in tensors))
    return tuple(t.expand(shape) for t in tensors)


def compress(condition: Any, a: Tensor, axis: Any = None) -> Tensor:
    """What stands where the condition, a vector, is true."""
    return take(as_tensor(a), np.flatnonzero(_array(condition)), axis)


def extract(condition: Any, arr: Any) -> Tensor:
    """The elements where the condition is true, in one vector."""
    return take(as_tensor(arr), np.flatnonzero(_array(condition)))


def piecewise(x: Any, condlist: Any, funclist: Any, *args: Any, **facts: Any) -> Tensor:
    """A function of each part of the elements: the last condition that holds says of which."""
    x = as_tensor(x)
    conditions = np.asarray([_array(c) for c in condlist] if isinstance(condlist, (list, tuple)) else _array(condlist))
    if conditions.ndim == x.ndim or conditions.dtype != bool:
        conditions = conditions.astype(bool).reshape((-1, *x.shape)[: x.ndim + 1])
    conditions = conditions.reshape((-1, *x.shape))
    if len(funclist) == len(conditions) + 1:
        conditions = np.concatenate([conditions, ~conditions.any(axis=0, keepdims=True)])
    elif len(funclist) != len(conditions):
        raise ValueError(
            f"with {len(conditions)} condition(s), either {len(conditions)} or one more functions are expected"
        )
    whole, parts, places = x.reshape(-1), [], []
    owner = np.full(conditions.shape[1:], -1)
    for number, condition in enumerate(conditions):
        owner[condition] = number
    for number, function in enumerate(funclist):
        mine = np.flatnonzero(owner == number)
        if not mine.size:
            continue
        value = function(take(whole, mine), *args, **facts) if callable(function) else function
        parts.append(cast(as_tensor(value), x.dtype).expand(mine.size))
        places.append(mine)
    rest = np.flatnonzero(owner == -1)
    order = np.argsort(np.concatenate([*places, rest]))
    joined = shaping.cat([*parts, creation.zeros(rest.size, dtype=x.dtype)])
    return take(joined, order).reshape(tuple(x.shape))


def delete(arr: Tensor, obj: Any, axis: Any = None) -> Tensor:
    """Without what stands at these places."""
    arr, axis = (arr.reshape(-1), 0) if axis is None else (arr, normalize_axis_index(axis, arr.ndim))
    places = obj if isinstance(obj, slice) else _array(obj)
    if not isinstance(places, slice) and not places.size:  # an empty list is one of floats
        places = places.astype(np.int64)
    return take(arr, np.delete(np.arange(arr.shape[axis]), places), axis)


def insert(arr: Any, obj: Any, values: Any, axis: Any = None) -> Tensor:
    """With values before these places."""
    arr = as_tensor(arr)
    arr, axis = (arr.reshape(-1), 0) if axis is None else (arr, normalize_axis_index(axis, arr.ndim))
    values, n = cast(as_tensor(values), arr.dtype), arr.shape[axis]
    places = np.arange(n)[obj] if isinstance(obj, slice) else _array(obj)
    places = np.flatnonzero(places) if places.dtype == bool else places if places.size else places.astype(np.int64)
    if places.size == 1:  # before it come as many as there are values
        values = values.reshape((1,) * (arr.ndim - values.ndim) + tuple(values.shape))
        values = values if places.ndim else values.movedim(0, axis)
        count = values.shape[axis]
    else:
        count = places.size
    values = values.expand((*arr.shape[:axis], count, *arr.shape[axis + 1 :]))
    given = places if places.ndim == 0 or places.size == count else places.reshape(-1)
    order = np.insert(np.arange(n), given, np.arange(n, n + count))
    return take(shaping.cat([arr, values], axis), order, axis)


def resize(a: Any, new_shape: Any) -> Any:
    """The elements over and over, until the shape is full."""
    a = as_tensor(a)
    shape = (new_shape,) if hasattr(new_shape, "__index__") else tuple(new_shape)
    if any(length < 0 for length in shape):
        raise ValueError("all elements of `new_shape` must be non-negative")
    if not a.numel():
        return creation.zeros(shape, dtype=a.dtype)
    return take(a, np.arange(math.prod(shape)).reshape(shape) % a.numel())


def trim_zeros(filt: Any, trim: Any = "fb", axis: Any = None) -> Any:
    """Without zeros in front and behind."""
    if trim.lower() not in ("fb", "bf", "f", "b"):
        raise ValueError(f"unexpected character(s) in `trim`: {trim!r}")
    filt = as_tensor(filt)
    found = np.argwhere(_array(filt))
    for d in range(filt.ndim) if axis is None else normalize_axis_tuple(axis, filt.ndim):
        n = filt.shape[d]
        low, high = (int(found[:, d].min()), int(found[:, d].max()) + 1) if found.size else (n, 0)
        start, stop = (low if "f" in trim.lower() else 0), (high if "b" in trim.lower() else n)
        filt = filt.narrow(d, min(start, stop), max(stop - start, 0))
    return filt


def shifted(sign: int) -> Callable[..., Any]:
    """Rolled by half the lengths of axes."""

    def shift(x: Tensor, axes: Any = None) -> Tensor:
        over = range(x.ndim) if axes is None else normalize_axis_tuple(axes, x.ndim)
        return roll(x, tuple(sign * (x.shape[d] // 2) for d in over), tuple(over))

    return shift


def cut(axis: int) -> Callable[..., Any]:
    """In parts along an axis; vectors along their only one."""

    def parts(ary: Tensor, indices_or_sections: Any) -> list[Tensor]:
        if ary.ndim < max(axis, 1) + (axis != 1):
            raise ValueError(f"{'hvd'[(axis == 0) + 2 * (axis == 2)]}split only works on arrays of more dimensions")
        return split(ary, indices_or_sections, axis if ary.ndim > 1 else 0)

    return parts


def take_along_axis(arr: Any, indices: Any, axis: Any = -1) -> Tensor:
    """The elements at places along an axis, for each place of the others."""
    arr, places = as_tensor(arr), _array(indices)
    if places.dtype.kind not in "iu":
        raise IndexError("`indices` must be an integer array")
    if axis is None:
        arr, axis = arr.reshape(-1), 0
    axis = normalize_axis_index(axis, arr.ndim)
    if places.ndim != arr.ndim:
        raise ValueError("`indices` and `arr` must have the same number of dimensions")
    grid = list(np.meshgrid(*(np.arange(n) for n in arr.shape), indexing="ij", sparse=True))
    grid[axis] = places
    numbers = np.arange(arr.numel()).reshape(tuple(arr.shape))[tuple(grid)]
    return take(arr, numbers)


# --- writing ----------------------------------------------------------------------------------------------------------


def written(function: Callable[..., Any], write: Callable[..., Any]) -> Callable[..., Any]:
    """A function that writes into its first operand: a tensor; into an array, what has no derivative."""

    def call(target: Any, *args: Any, **facts: Any) -> None:
        if isinstance(target, Tensor):
            write(target, *args, **facts)
            return
        for t in trees.leaves((args, facts)):
            if isinstance(t, Tensor) and t.requires_grad:
                raise RuntimeError(
                    f"np.{function.__name__}: an array can't hold the derivative of {describe(t)}, at {location()}: "
                    f"write into a tensor, or detach() it where only values are wanted"
                )
        of_values(function)(target, *args, **facts)

    return call


def _at_numbers(a: Tensor, numbers: np.ndarray, values: Any) -> None:
    """Write values, over and over, at places in the order of the elements; the last of equal places has its value."""
    if not numbers.size:
        return
    values = cast(as_tensor(values), a.dtype).reshape(-1)
    if not values.numel():
        raise ValueError("cannot write from no values")
    last = {int(number): k for k, number in enumerate(numbers)}
    places, order = np.array(list(last)), np.array(list(last.values()))
    a[np.unravel_index(places, tuple(a.shape))] = take(values, order % values.numel())


def fill_diagonal(a: Tensor, val: Any, wrap: Any = False) -> None:
    """Write values on the main diagonal."""
    if a.ndim < 2:
        raise ValueError("array must be at least 2-d")
    if a.ndim > 2 and len(set(a.shape)) > 1:
        raise ValueError("All dimensions of input must be of equal length")
    step = a.shape[1] + 1 if a.ndim == 2 else 1 + int(np.cumprod(tuple(a.shape[:-1])).sum())
    end = a.shape[1] * a.shape[1] if a.ndim == 2 and not wrap else a.numel()
    _at_numbers(a, np.arange(0, min(end, a.numel()), step), val)


def put_along_axis(arr: Tensor, indices: Any, values: Any, axis: Any) -> None:
    """Write values at places along an axis, for each place of the others."""
    places = _array(indices)
    if places.dtype.kind not in "iu":
        raise IndexError("`indices` must be an integer array")
    shape = (arr.numel(),) if axis is None else tuple(arr.shape)
    axis = normalize_axis_index(0 if axis is None else axis, len(shape))
    if places.ndim != len(shape):
        raise ValueError("`indices` and `arr` must have the same number of dimensions")
    grid = list(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij", sparse=True))
    grid[axis] = places
    numbers = np.arange(arr.numel()).reshape(shape)[tuple(grid)]
    _at_numbers(arr, numbers.reshape(-1), as_tensor(values).expand(numbers.shape))


def put(a: Tensor, ind: Any, v: Any, mode: Any = "raise") -> None:
    """Write values at places in the order of the elements."""
    numbers, n = np.asarray(_array(ind), np.int64).reshape(-1), a.numel()
    if mode == "raise" and numbers.size and not (-n <= numbers.min() and numbers.max() < n):
        raise IndexError(f"index is out of bounds for size {n}: {numbers.min()} to {numbers.max()}")
    if np.size(v) if not isinstance(v, Tensor) else v.numel():
        _at_numbers(a, np.clip(numbers, 0, n - 1) if mode == "clip" else numbers % max(n, 1), v)


def place(arr: Tensor, mask: Any, vals: Any) -> None:
    """Write values, one after another, where the mask is true."""
    _at_numbers(arr, np.flatnonzero(_array(mask)), vals)


def putmask(a: Tensor, mask: Any, values: Any) -> None:
    """Write values where the mask is true: each from its own place, of values that are repeated to the size."""
    chosen = _array(mask)
    if chosen.size != a.numel():
        raise ValueError("putmask: mask and data must be the same size")
    numbers, values = np.flatnonzero(chosen), as_tensor(values).reshape(-1)
    if numbers.size:
        _at_numbers(a, numbers, take(values, numbers % values.numel()))


def copyto(dst: Tensor, src: Any, casting: Any = "same_kind", where: Any = True) -> None:
    """Write an array, broadcast, where the condition holds."""
    new = cast_by(as_tensor(src), dst.dtype, casting)
    dst.copy_(new if where is True else _where(cast(as_tensor(where), dtypes.BOOL), new, dst))


# --- going through slices ---------------------------------------------------------------------------------------------


def apply_along_axis(func1d: Any, axis: Any, arr: Any, *args: Any, **facts: Any) -> Any:
    """A function of each vector along an axis."""
    arr = as_tensor(arr)
    axis = normalize_axis_index(axis, arr.ndim)
    moved = arr.movedim(axis, -1)
    outer = tuple(moved.shape[:-1])
    if not math.prod(outer):
        raise ValueError("Cannot apply_along_axis when any iteration dimensions are 0")
    rows = moved.reshape(math.prod(outer), arr.shape[axis]).unbind(0)
    results = shaping.stack([as_tensor(func1d(row, *args, **facts)) for row in rows])
    made = results.reshape((*outer, *results.shape[1:]))
    inner = tuple(range(len(outer), made.ndim))
    return made.movedim(inner, tuple(axis + k for k in range(len(inner)))) if inner else made


def apply_over_axes(func: Any, a: Any, axes: Any) -> Tensor:
    """A function over one axis after another, which stay."""
    value = as_tensor(a)
    for axis in normalize_axis_tuple(axes, value.ndim) if not hasattr(axes, "__index__") else (axes,):
        result = as_tensor(func(value, axis))
        value = result if result.ndim == value.ndim else result.unsqueeze(axis)
        if value.ndim != as_tensor(a).ndim:
            raise ValueError("function is not returning an array of the correct shape")
    return value


# --- elementwise ------------------------------------------------------------------------------------------------------


def fix(x: Tensor) -> Any:
    """The nearest integer towards zero."""
    return elementwise.functions["trunc"](x)


def modf(x: Any) -> tuple[Tensor, Tensor]:
    """The fractional and the integral part."""
    x = floating(x)
    whole = elementwise.functions["trunc"](x)
    endless = elementwise.functions["abs"](x) == math.inf
    return elementwise.functions["copysign"](_where(endless, 0.0, x - whole), x), whole


def frexp(x: Any) -> tuple[Tensor, Tensor]:
    """The factor in [1/2, 1), and the exponent of 2."""
    x = floating(x)
    mantissa, exponent = np.frexp(x._array())
    scale = np.ldexp(np.ones_like(mantissa), np.clip(-exponent, -1000, 1000))
    return x * as_operand(scale, False) if np.all(x._array() * scale == mantissa) else _scaled(x, exponent), (
        as_operand(np.asarray(exponent), False)
    )


def _scaled(x: Tensor, exponent: Any) -> Tensor:
    """What is too small or too large for one factor."""
    half = -exponent // 2
    parts = (np.ldexp(np.ones(np.shape(exponent), x.dtype.numpy), p) for p in (half, -exponent - half))
    for part in parts:
        x = x * as_operand(np.asarray(part), False)
    return x


def ldexp(x1: Any, x2: Any) -> Any:
    """`x1` times 2 to the power of `x2`."""
    x1 = floating(x1)
    half = np.asarray(_array(x2)) // 2
    rest = np.asarray(_array(x2)) - half
    for power in (half, rest):
        x1 = x1 * as_operand(np.asarray(np.ldexp(np.ones(np.shape(power), x1.dtype.numpy), power)), False)
    return x1


def unwrap(p: Any, discont: Any = None, axis: Any = -1, *, period: Any = 2 * math.pi) -> Any:
    """Angles, with multiples of the period added where neighbours are more than `discont` apart."""
    if not as_tensor(p).dtype.is_floating_point and isinstance(period, int):
        return as_operand(np.unwrap(_array(p), discont, axis, period=period), False)  # NumPy's stays among integers
    p = floating(p)
    values = p._array()
    axis = normalize_axis_index(axis, p.ndim)
    jump = period / 2 if discont is None else discont
    step = np.diff(values, axis=axis)
    wrapped = np.mod(step + period / 2, period) - period / 2
    np.copyto(wrapped, period / 2, where=(wrapped == -period / 2) & (step > 0))
    added = wrapped - step
    np.copyto(added, 0, where=abs(step) < jump)
    first = np.zeros_like(np.take(values, [0], axis)) if values.shape[axis] else values[:0]
    return p + as_operand(np.concatenate([first, added.cumsum(axis)], axis), False)


def spread(space: Callable[..., Any]) -> Callable[..., Any]:
    """Numbers from one to another, ends included as NumPy has them."""

    def numbers(
        start: Any, stop: Any, num: Any = 50, endpoint: Any = True, retstep: Any = False, base: Any = 10.0,
        dtype: Any = None, axis: Any = 0,
    ) -> Any:  # fmt: skip
        start, stop = _broadcast(*of_one_dtype(floating(start), floating(stop)))
        if np.ndim(_array(base)):
            start, stop, base = _broadcast(*of_one_dtype(start, stop, floating(base)))
        divisor = (num - 1 if endpoint else num) or math.nan
        column = np.arange(num).reshape((-1,) + (1,) * start.ndim)
        made, step = space(start, stop, as_operand(column.astype(start.dtype.numpy), False), divisor, base)
        if endpoint and num > 1 and space is not _powers:
            made = shaping.cat([made[:-1], stop.unsqueeze(0)])
        if num == 1:
            made = start.unsqueeze(0) if space is not _powers else base ** start.unsqueeze(0)
        made = made.movedim(0, axis) if axis else made
        made = made if dtype is None else cast(made, dtypes.as_dtype(dtype))
        return (made, step) if retstep else made

    return numbers


def _evenly(start: Tensor, stop: Tensor, k: Tensor, divisor: float, _: Any) -> Any:
    step = (stop - start) / divisor
    return k * step + start, step


def _powers(start: Tensor, stop: Tensor, k: Tensor, divisor: float, base: Any) -> Any:
    exponents, step = _evenly(start, stop, k, divisor, base)
    return base**exponents, step


def _geometric(start: Tensor, stop: Tensor, k: Tensor, divisor: float, _: Any) -> Any:
    log10 = elementwise.functions["log10"]
    ratio = stop / start
    exponents = k * (log10(ratio) / divisor)
    made = start * 10.0**exponents
    return shaping.cat([start.unsqueeze(0), made[1:]]) if len(made) else made, ratio


# --- products by NumPy's universal functions --------------------------------------------------------------------------


def _operands(name: str, x1: Any, x2: Any, *dimensions: int) -> Any:
    """Of one dtype, with at least so many dimensions."""
    taken = of_one_dtype(x1, x2)
    for place, (x, n) in enumerate(zip(taken, dimensions, strict=True)):
        if x.ndim < n:
            raise ValueError(
                f"{name}: Input operand {place} does not have enough dimensions (has {x.ndim}, and {n} are needed): "
                f"{describe(*taken)}, at {location()}"
            )
    return taken


def vecdot(x1: Any, x2: Any, axis: Any = -1) -> Any:
    """The inner products of vectors along the last axis."""
    x1, x2 = _operands("vecdot", x1, x2, 1, 1)
    return products.matmul(x1.movedim(axis, -1).unsqueeze(-2), x2.movedim(axis, -1).unsqueeze(-1)).squeeze((-2, -1))


def matvec(x1: Any, x2: Any) -> Any:
    """Matrices times vectors."""
    x1, x2 = _operands("matvec", x1, x2, 2, 1)
    return products.matmul(x1, x2.unsqueeze(-1)).squeeze(-1)


def vecmat(x1: Any, x2: Any) -> Any:
    """Vectors times matrices."""
    x1, x2 = _operands("vecmat", x1, x2, 1, 2)
    return products.matmul(x1.unsqueeze(-2), x2).squeeze(-2)


def _summed_on(name: str) -> Callable[..., Any]:
    def summed(x: Any, *, axis: Any = None, dtype: Any = None, include_initial: Any = False) -> Any:
        x = as_tensor(x)
        if axis is None and x.ndim > 1:
            raise ValueError("For arrays which have more than one dimension ``axis`` argument is required.")
        axis = normalize_axis_index(0 if axis is None else axis, x.ndim)
        made = getattr(x, name)(axis, dtype=None if dtype is None else dtypes.as_dtype(dtype))
        if include_initial:
            shape = (*made.shape[:axis], 1, *made.shape[axis + 1 :])
            first = creation.full(shape, 0 if name == "cumsum" else 1, dtype=made.dtype)
            made = shaping.cat([first, made], axis)
        return made

    return summed


FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.around: lambda a, decimals=0: elementwise.round(a, decimals=decimals),
    np.delete: delete,
    np.hsplit: cut(1),
    np.vsplit: cut(0),
    np.dsplit: cut(2),
    np.fix: fix,
    np.real_if_close: lambda a: a.clone(),
    np.diagflat: lambda v, k=0: v.reshape(-1).diag(k),
    np.fft.fftshift: shifted(1),
    np.fft.ifftshift: shifted(-1),
    np.fft.irfft: lambda a, n=None, axis=-1, norm=None: fft.irfft(floating(a), n, -1 if axis is None else axis, norm),
    np.fft.hfft: lambda a, n=None, axis=-1, norm=None: fft.hfft(floating(a), n, -1 if axis is None else axis, norm),
}
UFUNCS: dict[Any, Callable[..., Any]] = {
    np.conjugate: lambda x: x.clone(),
    np.modf: modf,
    np.frexp: frexp,
    np.ldexp: ldexp,
    np.divmod: lambda x1, x2: (x1 // x2, x1 % x2),
    np.spacing: lambda x: as_operand(np.asarray(np.spacing(_array(x))), False),
    np.vecdot: vecdot,
    np.matvec: matvec,
    np.vecmat: vecmat,
}
# Called as NumPy's are: their operands stand anywhere among the arguments.
CALLED: dict[Any, Callable[..., Any]] = {
    np.choose: choose,
    np.compress: compress,
    np.extract: extract,
    np.piecewise: piecewise,
    np.insert: insert,
    np.resize: resize,
    np.trim_zeros: trim_zeros,
    np.apply_along_axis: apply_along_axis,
    np.apply_over_axes: apply_over_axes,
    np.broadcast_arrays: _broadcast,
    np.take_along_axis: take_along_axis,
    np.unwrap: unwrap,
    np.linspace: spread(_evenly),
    np.logspace: spread(_powers),
    np.geomspace: spread(_geometric),
    np.linalg.vecdot: vecdot,
    np.cumulative_sum: _summed_on("cumsum"),
    np.cumulative_prod: _summed_on("cumprod"),
}
CALLED |= {
    function: written(function, write)
    for function, write in (
        (np.fill_diagonal, fill_diagonal), (np.put_along_axis, put_along_axis), (np.put, put), (np.place, place),
        (np.putmask, putmask), (np.copyto, copyto),
    )
}  # fmt: skip
CALLED |= {
    function: of_values(function)
    for function in (
        np.isreal, np.iscomplex, np.argpartition, np.nanargmax, np.nanargmin, np.array_repr, np.array_str,
        np.array2string, np.common_type, np.min_scalar_type, np.diag_indices_from, np.tril_indices_from,
        np.triu_indices_from, np.einsum_path, np.isin, np.histogram_bin_edges,
    )
}  # fmt: skip
