"""NumPy's functions for arrays of active scalars: creation, elementwise functions, reductions, rearrangements.

Each is a loop in plain code (see `library.py`), or, where elements are only moved, NumPy's own function. Its values are
those of Numba's own code to the last bit: the loops take its formulas, in its order of summation, and raise what it
raises. Linear algebra stands in `linalg.py`.
"""

from __future__ import annotations

import functools
import inspect
import operator
from typing import Any

import numpy as np
from numba import njit
from numba.core import types
from numba.extending import overload

from tapegrad.jitted.active import PASSIVE, Active, is_active_array
from tapegrad.jitted.allocation import flat_view, zeros_of
from tapegrad.jitted.checking import ALLOWED
from tapegrad.jitted.inner import OPTIONS, define, inside
from tapegrad.jitted.library import BY_NAME, active_in, constant, loop, replaces
from tapegrad.jitted.lifting import strip, with_value
from tapegrad.jitted.rules import PIECEWISE, RULES, shared
from tapegrad.jitted.signatures import IN_PLACE

# --- creation: an array of floats may be given active elements later, so it is made active at once --------------------


def _is_float(dtype: Any) -> bool:
    """Whether a dtype argument asks for float64; it does where it isn't given."""
    if dtype is None:
        return True
    if isinstance(dtype, types.Function):
        return dtype.typing_key is float
    named = getattr(dtype, "dtype", None) or getattr(dtype, "instance_type", None)
    return named == types.float64 or isinstance(named, Active)


@replaces(np.zeros, np.empty, needs_kind=True)
def zeros(kind, shape, dtype=None):
    """Zeros; for `empty` too, since what is not initialised would be taken for a row of the tape."""
    if _is_float(dtype):
        return lambda shape: zeros_of(kind, shape)
    return None


@replaces(np.ones, needs_kind=True)
def ones(kind, shape, dtype=None):
    """Ones."""
    if _is_float(dtype):
        return lambda shape: _filled(zeros_of(kind, shape), 1.0)
    return None


@inside
def _filled(array, value):
    flat = flat_view(array)
    for i in range(array.size):
        flat[i] = value
    return array


@replaces(np.full, needs_kind=True)
def full(kind, shape, fill_value, dtype=None):
    """An array of one value; of that value's type where no dtype is given."""
    if (dtype is None and isinstance(fill_value, (types.Float, Active))) or (dtype is not None and _is_float(dtype)):
        return lambda shape, fill_value: _filled(zeros_of(kind, shape), fill_value)
    return None


def _is_like_float(a: Any, dtype: Any) -> bool:
    own = a.dtype if isinstance(a, types.Array) else a
    return _is_float(dtype) and (dtype is not None or isinstance(own, (types.Float, Active)))


@replaces(np.zeros_like, np.empty_like, needs_kind=True)
def zeros_like(kind, a, dtype=None):
    """Zeros of another array's shape."""
    return (lambda a: zeros_of(kind, np.shape(a))) if _is_like_float(a, dtype) else None


@replaces(np.ones_like, needs_kind=True)
def ones_like(kind, a, dtype=None):
    """Ones of another array's shape."""
    return (lambda a: _filled(zeros_of(kind, np.shape(a)), 1.0)) if _is_like_float(a, dtype) else None


@replaces(np.full_like, needs_kind=True)
def full_like(kind, a, fill_value, dtype=None):
    """One value, in another array's shape."""
    return (
        (lambda a, fill_value: _filled(zeros_of(kind, np.shape(a)), fill_value)) if _is_like_float(a, dtype) else None
    )


@replaces(np.eye, needs_kind=True)
def eye(kind, N, M=None, k=0, dtype=None):
    """The unit matrix, or a diagonal beside it."""
    if not _is_float(dtype):
        return None
    if M is None:
        return lambda N, k: _diagonal_of_ones(zeros_of(kind, (N, N)), k)
    return lambda N, M, k: _diagonal_of_ones(zeros_of(kind, (N, M)), k)


@replaces(np.identity, needs_kind=True)
def identity(kind, n, dtype=None):
    """The unit matrix."""
    return (lambda n: _diagonal_of_ones(zeros_of(kind, (n, n)), 0)) if _is_float(dtype) else None


@inside
def _diagonal_of_ones(matrix, k):
    for i in range(max(0, -k), min(matrix.shape[0], matrix.shape[1] - k)):
        matrix[i, i + k] = 1.0
    return matrix


@replaces(np.linspace)
def linspace(start, stop, num=50):
    """Evenly spaced numbers; of plain bounds, a plain array."""
    return loop(_linspace, start, stop)


@njit
def _linspace(start, stop, num):
    result = np.empty(num)
    step = np.divide(stop - start, max(num - 1, 1))
    for i in range(num):
        result[i] = start + i * step
    if num > 1:
        result[num - 1] = stop
    return result


@replaces(np.array)
def array(object, dtype=None):
    """An array of nested lists or tuples, or of another array."""
    if not _is_float(dtype):
        return None
    if is_active_array(object):
        return lambda object: object.copy()
    return loop(_array_of(object), object)


@functools.cache
def _array_of(kind: Any) -> Any:
    """Loops over nested lists, and the items of nested tuples one by one."""
    shape, lines, depth = [], [], 0
    first, inner = "x", kind
    while isinstance(inner, (types.Sequence, types.BaseTuple)):
        shape.append(f"len({first})")
        first, inner, depth = f"{first}[0]", inner[0] if isinstance(inner, types.BaseTuple) else inner.dtype, depth + 1

    def fill(kind: Any, expression: str, index: list[str], indent: str) -> None:
        if isinstance(kind, types.BaseTuple):
            for i in range(len(kind)):
                fill(kind[i], f"{expression}[{i}]", [*index, str(i)], indent)
        elif isinstance(kind, types.Sequence):
            i = f"i{len(index)}"
            lines.append(f"{indent}for {i} in range(len({expression})):")
            fill(kind.dtype, f"{expression}[{i}]", [*index, i], indent + " ")
        else:
            lines.append(f"{indent}out[{', '.join(index)}] = {expression}")

    fill(kind, "x", [], " ")
    scope = {"np": np}
    return njit(
        define(
            "\n".join(["def filled(x):", f" out = np.empty(({', '.join(shape)},))", *lines, " return out"]),
            "filled",
            scope,
        )
    )


@replaces(None, method="astype")
def astype(a, dtype):
    """A copy as float64, or the plain integers or bools of the values."""
    if not is_active_array(a):
        return None
    if _is_float(dtype):
        return lambda a: a.copy()
    if getattr(dtype, "dtype", getattr(dtype, "instance_type", None)) in (types.int64, types.int32, types.boolean):
        return lambda a, dtype: values(a).astype(dtype)
    return None


def values(a):
    """The plain values of an array, in its order of memory, in any jitted code."""
    raise NotImplementedError


@overload(values, OPTIONS)
def _values(a):
    if not is_active_array(a):
        return lambda a: a
    return lambda a: strip(a)


# --- elementwise ------------------------------------------------------------------------------------------------------

_BOOLEAN = {
    operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne, np.less, np.less_equal, np.greater,
    np.greater_equal, np.equal, np.not_equal, np.isnan, np.isinf, np.isfinite, np.signbit, np.logical_not,
    np.logical_and, np.logical_or,
}  # fmt: skip


@functools.cache
def _each(function: Any, dims: tuple[int, ...], in_place: bool = False) -> Any:
    """A loop that applies a scalar function to each element; -1 dimensions is a scalar, which is repeated."""
    names = [f"x{i}" for i in range(len(dims))]
    arrays = [name for name, ndim in zip(names, dims, strict=True) if ndim >= 0]
    lines = [f"def each({', '.join(names)}):"]
    if in_place:
        lines.append(" shape = x0.shape")
        lines += [f" {name} = np.broadcast_to({name}, shape)" for name in arrays[1:]]
    elif len(arrays) == 1:
        lines.append(f" shape = {arrays[0]}.shape")
    else:
        lines.append(f" shape = np.broadcast_shapes({', '.join(name + '.shape' for name in arrays)})")
        lines += [f" b{name} = np.broadcast_to({name}, shape)" for name in arrays]
    dtype = ", np.bool_" if function in _BOOLEAN else ""
    lines.append(" out = x0" if in_place else f" out = np.empty(shape{dtype})")
    spread = "b" if len(arrays) > 1 and not in_place else ""
    items = ", ".join(f"{spread}{name}[at]" if name in arrays else name for name in names)
    lines += [" for at in np.ndindex(shape):", f"  out[at] = function({items})", " return out"]
    scope = {"np": np, "function": function}
    return njit(define("\n".join(lines), "each", scope))


def _dims(*kinds: Any) -> tuple[int, ...] | None:
    """The dimensions of operands, -1 for a scalar; None where one is neither."""
    dims = []
    for kind in kinds:
        if isinstance(kind, types.Array) and isinstance(kind.dtype, (Active, *PASSIVE)):
            dims.append(kind.ndim)
        elif isinstance(kind, (Active, *PASSIVE)):
            dims.append(-1)
        else:
            return None
    return tuple(dims) if max(dims) >= 0 else None


# What operators mean for arrays: a division by zero raises nothing, and a power takes no integer exponent.
_UFUNCS = {operator.truediv: np.true_divide, operator.pow: np.power, operator.mod: np.remainder,
           operator.floordiv: np.floor_divide, pow: np.power}  # fmt: skip


def _chosen(function: Any, *kinds: Any, in_place: bool = False) -> Any:
    function, dims = _UFUNCS.get(function, function), _dims(*kinds)
    if dims is None or not any(isinstance(k, Active) or is_active_array(k) for k in kinds):
        return None
    if in_place and not is_active_array(kinds[0]):
        return None
    return loop(_each(function, dims, in_place), *kinds)


def _declare_unary(function: Any) -> None:
    @overload(function, OPTIONS)
    def _unary(x):
        each = _chosen(function, x)
        return None if each is None else lambda x: each(x)


def _declare_binary(function: Any, stands_for: Any = None) -> None:
    @overload(function, OPTIONS)
    def _binary(a, b):
        each = _chosen(stands_for or function, a, b, in_place=stands_for is not None)
        return None if each is None else lambda a, b: each(a, b)


_ONE_OPERAND = {np.floor, np.ceil, np.trunc, np.rint, np.sign, np.isnan, np.isinf, np.isfinite, np.signbit,
                np.logical_not, operator.truth, operator.not_}  # fmt: skip


def _is_elementwise(function: Any) -> bool:
    return isinstance(function, np.ufunc) or getattr(function, "__module__", "") == "_operator" or function is abs


for _function in filter(_is_elementwise, [*RULES, *PIECEWISE]):
    _arity = len(RULES[_function].partials) if _function in RULES else 1 if _function in _ONE_OPERAND else 2
    (_declare_unary if _arity == 1 else _declare_binary)(_function)
for _function, _stub in IN_PLACE.items():
    _declare_binary(_stub, getattr(operator, _function.__name__[1:]))


@replaces(np.where)
def where(condition, x=None, y=None):
    """Elements of one or the other."""
    dims = None if x is None else _dims(condition, x, y)
    return None if dims is None else loop(_each(_select, dims), x, y)


@njit
def _select(condition, x, y):
    return x if condition else y


@replaces(np.clip)
def clip(a, a_min, a_max):
    """Elements within bounds."""
    if a_min is None or a_max is None:
        bound, function = (a_max, min) if a_min is None else (a_min, max)
        dims = _dims(a, bound)
        each = None if dims is None else loop(_each(function, dims), a, bound)
        return (
            None
            if each is None
            else (lambda a, a_max: each(a, a_max))
            if a_min is None
            else (lambda a, a_min: each(a, a_min))
        )
    dims = _dims(a, a_min, a_max)
    if dims is None:
        return loop(_clipped, a, a_min, a_max)
    return loop(_each(_clipped, dims), a, a_min, a_max)


@njit
def _clipped(a, a_min, a_max):
    return min(max(a, a_min), a_max)


@replaces(None, method="clip")
def clip_method(a, min=None, max=None):
    """Elements within bounds."""
    if not is_active_array(a) or min is None or max is None:
        return None
    return loop(_each(_clipped, _dims(a, min, max)), a)


@replaces(np.interp)
def interp(x, xp, fp):
    """Linear interpolation, constant outside; differentiated by all three."""
    if isinstance(x, types.Array):
        return loop(_interp_each, x, xp, fp)
    return loop(_interp, x, xp, fp)


@njit
def _interp(x, xp, fp):
    n = len(xp)
    if n == 0:
        raise ValueError("array of sample points is empty")
    if n != len(fp):
        raise ValueError("fp and xp are not of the same size.")
    if n == 1 or x <= xp[0]:
        return fp[0] + 0.0
    if x >= xp[n - 1]:
        return fp[n - 1] + 0.0
    low, high = 0, n - 1
    while high - low > 1:
        middle = (low + high) // 2
        if xp[middle] <= x:
            low = middle
        else:
            high = middle
    slope = np.divide(fp[low + 1] - fp[low], xp[low + 1] - xp[low])
    found = slope * (x - xp[low]) + fp[low]
    if np.isnan(found):  # as NumPy: from a point itself, from the other side, from points that are equal
        if x == xp[low]:
            return fp[low] + 0.0
        if not np.isnan(x):
            found = slope * (x - xp[low + 1]) + fp[low + 1]
            if np.isnan(found) and fp[low] == fp[low + 1]:
                found = fp[low] + 0.0
    return found


@njit
def _interp_each(x, xp, fp):
    result = np.empty(x.shape)
    for at in np.ndindex(x.shape):
        result[at] = _interp(x[at], xp, fp)
    return result


# --- reductions: of all elements, or along an axis --------------------------------------------------------------------


def _reduction(a: Any, axis: Any, of_all: Any) -> Any:
    """The loop over all elements; or along an axis, which is known when compiling."""
    if not is_active_array(a):
        return None
    if axis is None:
        reduce = loop(of_all, a)
        return (lambda a: reduce(a.T)) if a.layout == "F" else (lambda a: reduce(a))
    try:
        at = constant(axis) % a.ndim
    except TypeError:
        return None
    if a.ndim == 1:
        reduce = loop(of_all, a)
        return lambda a: reduce(a)
    return loop(_along(of_all, a.ndim, at), a)


@functools.cache
def _along(of_all: Any, ndim: int, axis: int) -> Any:
    """A loop that reduces each line along an axis."""
    shape = "".join(f"a.shape[{i}], " for i in range(ndim) if i != axis)
    names = [f"i{i}" for i in range(ndim)]
    outer = [name for i, name in enumerate(names) if i != axis]
    line = ", ".join(":" if i == axis else name for i, name in enumerate(names))
    lines = ["def along(a):", f" out = np.empty(({shape}))"]
    for depth, name in enumerate(outer):
        lines.append(" " * (depth + 1) + f"for {name} in range(a.shape[{name[1:]}]):")
    lines.append(" " * (len(outer) + 1) + f"out[{', '.join(outer)}] = of_all(a[{line}])")
    scope = {"np": np, "of_all": of_all}
    return njit(define("\n".join([*lines, " return out"]), "along", scope))


@njit
def _sum(a):
    total = 0.0
    for x in a.flat:
        total += x
    return total


@njit
def _mean(a):
    total = 0.0
    for x in a.flat:
        total += x
    return np.divide(total, a.size)


@njit
def _prod(a):
    product = 1.0
    for x in a.flat:
        product = product * x
    return product


@njit
def _var(a):
    mean = _mean(a)
    squares = 0.0
    for x in a.flat:
        squares += (x - mean) * (x - mean)
    return squares / a.size


@njit
def _std(a):
    variance = _var(a)
    return 0.0 if variance == 0.0 else variance**0.5  # there its derivative is infinite; 0 is between its sides'


@njit
def _max(a):
    if a.size == 0:
        raise ValueError("zero-size array to reduction operation maximum which has no identity")
    flat, ties = a.ravel(), 1
    best = flat[0]
    for i in range(1, flat.size):
        if best != best:
            break
        x = flat[i]
        if x > best or x != x:
            best, ties = x, 1
        elif x == best:
            ties += 1
            best = shared(best, x, ties)
    return best


@njit
def _min(a):
    if a.size == 0:
        raise ValueError("zero-size array to reduction operation minimum which has no identity")
    flat, ties = a.ravel(), 1
    best = flat[0]
    for i in range(1, flat.size):
        if best != best:
            break
        x = flat[i]
        if x < best or x != x:
            best, ties = x, 1
        elif x == best:
            ties += 1
            best = shared(best, x, ties)
    return best


@njit
def _ptp(a):
    if a.size == 0:
        raise ValueError("zero-size array reduction not possible")
    return _max(a) - _min(a)


@njit
def _median(a):
    if a.size == 0:
        return np.nan
    plain = np.median(values(a))
    order = np.argsort(values(a.ravel()))
    flat, n = a.ravel(), a.size
    if n % 2 == 1:
        return with_value(flat[order[n // 2]] + 0.0, plain)
    return with_value(0.5 * (flat[order[n // 2 - 1]] + flat[order[n // 2]]), plain)


def _declare_reduction(of_all: Any, *functions: Any, method: str | None) -> None:
    @replaces(*functions, method=method)
    def reduction(a, axis=None):
        return _reduction(a, axis, of_all)


_declare_reduction(_sum, np.sum, method="sum")
_declare_reduction(_mean, np.mean, method="mean")
_declare_reduction(_prod, np.prod, method="prod")
_declare_reduction(_var, np.var, method="var")
_declare_reduction(_std, np.std, method="std")
_declare_reduction(_max, np.max, np.amax, method="max")
_declare_reduction(_min, np.min, np.amin, method="min")
_declare_reduction(_ptp, np.ptp, method=None)
_declare_reduction(_median, np.median, method=None)


def _declare_of_values(function: Any, method: str | None, parameters: str) -> None:
    """A function that gives plain results, of the values."""
    names = [p.split("=")[0] for p in parameters.split(", ")]
    call = ", ".join(f"values({n})" if n in ("a", "b", "v") else f"{n}={n}" if n in BY_NAME else n for n in names)
    scope: dict[str, Any] = {"values": values, "function": function}
    choose_all = define(
        f"def choose({parameters}):\n return lambda {', '.join(names)}: function({call})", "choose", scope
    )
    short = [n for n in names if n in ("a", "b", "v")]
    plain = ", ".join(f"values({n})" for n in short)
    text = f"def choose({parameters}):\n return lambda {', '.join(short)}: function({plain})"
    choose_short = define(text, "choose", scope)

    def choose(**kinds: Any) -> Any:
        given = all(kinds[n] is not None for n in names)
        return (choose_all if given else choose_short)(**kinds)

    choose.__signature__ = inspect.signature(choose_all)
    replaces(function, method=method)(choose)


for _function, _method, _parameters in (
    (np.argmax, "argmax", "a, axis=None"), (np.argmin, "argmin", "a, axis=None"),
    (np.argsort, "argsort", "a, kind=None"),
    (np.any, "any", "a"), (np.all, "all", "a"), (np.count_nonzero, None, "a, axis=None"), (np.nonzero, "nonzero", "a"),
    (np.searchsorted, None, "a, v, side=None"), (np.allclose, None, "a, b, rtol=None, atol=None"),
    (np.isclose, None, "a, b, rtol=None, atol=None"), (np.array_equal, None, "a, b"), (np.argwhere, None, "a"),
    (np.flatnonzero, None, "a"),
):  # fmt: skip
    _declare_of_values(_function, _method, _parameters)

# --- rearrangements ---------------------------------------------------------------------------------------------------


@replaces(np.sort)
def sort(a):
    """A sorted copy of a vector."""
    return loop(_sort, a) if is_active_array(a) and a.ndim == 1 else None


@njit
def _sort(a):
    order = np.argsort(values(a))
    result = np.empty(a.size)
    for i in range(a.size):
        result[i] = a[order[i]]
    return result


@replaces(None, method="sort")
def sort_in_place(a, key=None, reverse=False):
    """Sort a vector, or a list, in place."""
    if key is None and isinstance(a, (types.List, types.ListType)):
        return loop(_sort_list, a)
    return loop(_sort_in_place, a) if is_active_array(a) and a.ndim == 1 else None


@njit
def _sort_in_place(a):
    a[:] = _sort(a)


@njit
def _sort_list(a, reverse):
    items = _sorted(a, reverse)
    for i in range(len(a)):
        a[i] = items[i]


@replaces(sorted)
def sorted_list(iterable, key=None, reverse=False):
    """A sorted list of a vector's, or a list's, items."""
    return loop(_sorted, iterable) if key is None and _is_sequence(iterable) else None


def _is_sequence(kind: Any) -> bool:
    """Whether a type is that of a sequence of numbers of one type."""
    if isinstance(kind, types.Array):
        return bool(kind.ndim == 1)
    return isinstance(kind, (types.List, types.ListType, types.UniTuple)) and isinstance(kind.dtype, Active)


@njit
def _sorted(iterable, reverse):
    items = np.empty(len(iterable))
    for i in range(items.size):
        items[i] = iterable[i]
    order, plain = _in_order(values(items), reverse)
    return [with_value(items[order[i]], plain[i]) for i in range(items.size)]


@inside
def _in_order(items, reverse):
    """The order of items, in which equal ones stay as they are, and the list in it."""
    plain = list(items)
    plain.sort(reverse=reverse)
    return (-items if reverse else items).argsort(kind="mergesort"), plain


@replaces(sum)
def sum_of_items(iterable, start=0):
    """A sum of items, from left to right."""
    if _is_sequence(iterable):
        return loop(_sum_of_items, iterable, start)
    if isinstance(iterable, types.BaseTuple) and all(isinstance(k, (Active, *PASSIVE)) for k in iterable):
        return loop(_sum_of_tuple(len(iterable)), iterable, start)
    return None


@njit
def _sum_of_items(iterable, start):
    total = start
    for item in iterable:
        total = total + item
    return total


@functools.cache
def _sum_of_tuple(n: int) -> Any:
    items = "".join(f" + iterable[{k}]" for k in range(n))
    return njit(define(f"def total(iterable, start):\n return start{items}", "total", {}))


@replaces(divmod)
def quotient_and_remainder(x, y):
    """Both of two numbers."""
    return loop(_divmod, x, y) if all(isinstance(k, (Active, *PASSIVE)) for k in (x, y)) else None


@njit
def _divmod(x, y):
    return x // y, x % y


@replaces(np.cumsum, method="cumsum")
def cumsum(a):
    """Running sums, of all elements in order."""
    return loop(_cumsum, a) if is_active_array(a) else None


@njit
def _cumsum(a):
    result, total = a.flatten(), 0.0
    for i in range(result.size):
        total = total + result[i]
        result[i] = total
    return result


@replaces(np.cumprod, method="cumprod")
def cumprod(a):
    """Running products, of all elements in order."""
    return loop(_cumprod, a) if is_active_array(a) else None


@njit
def _cumprod(a):
    result = a.flatten()
    for i in range(1, result.size):
        result[i] = result[i] * result[i - 1]
    return result


@replaces(np.diff)
def diff(a):
    """Differences of a vector's neighbours."""
    return loop(_diff, a) if is_active_array(a) and a.ndim == 1 else None


@njit
def _diff(a):
    result = np.empty(max(a.size - 1, 0))
    for i in range(result.size):
        result[i] = a[i + 1] - a[i]
    return result


def _joined(arrays: Any) -> int | None:
    """The number of dimensions of arrays in a tuple, if they are float arrays and one is active."""
    if not isinstance(arrays, types.BaseTuple) or not all(
        isinstance(a, types.Array) and isinstance(a.dtype, (Active, *PASSIVE)) for a in arrays
    ):
        return None
    dims = {a.ndim for a in arrays}
    return dims.pop() if len(dims) == 1 else None


@replaces(np.concatenate)
def concatenate(arrays, axis=0):
    """Arrays one after the other along an axis."""
    ndim = _joined(arrays)
    if ndim is None or ndim == 0:
        return None
    try:
        at = constant(axis) % ndim
    except TypeError:
        return None
    return loop(_concatenation(len(arrays), ndim, at), arrays)


@functools.cache
def _concatenation(n: int, ndim: int, axis: int) -> Any:
    lines = ["def joined(arrays):", f" n = {' + '.join(f'arrays[{k}].shape[{axis}]' for k in range(n))}"]
    shape = "".join("n, " if i == axis else f"arrays[0].shape[{i}], " for i in range(ndim))
    lines += [f" out = np.empty(({shape}))", " at = 0"]
    for k in range(n):
        window = ", ".join(f"at : at + arrays[{k}].shape[{axis}]" if i == axis else ":" for i in range(ndim))
        lines += [f" out[{window}] = arrays[{k}]", f" at += arrays[{k}].shape[{axis}]"]
    scope = {"np": np}
    return njit(define("\n".join([*lines, " return out"]), "joined", scope))


@replaces(np.stack)
def stack(arrays, axis=0):
    """Arrays beside each other along a new first axis."""
    ndim = _joined(arrays)
    if ndim is None or axis is None or constant(axis) != 0:
        return None
    return loop(_stacking(len(arrays), ndim), arrays)


@functools.cache
def _stacking(n: int, ndim: int) -> Any:
    shape = f"{n}, " + "".join(f"arrays[0].shape[{i}], " for i in range(ndim))
    lines = ["def stacked(arrays):", f" out = np.empty(({shape}))"]
    lines += [f" out[{k}] = arrays[{k}]" for k in range(n)]
    scope = {"np": np}
    return njit(define("\n".join([*lines, " return out"]), "stacked", scope))


@replaces(np.vstack)
def vstack(tup):
    """Rows on top of each other."""
    ndim = _joined(tup)
    if ndim == 1:
        return loop(_stacking(len(tup), 1), tup)
    return loop(_concatenation(len(tup), ndim, 0), tup) if ndim else None


@replaces(np.hstack)
def hstack(tup):
    """Arrays beside each other."""
    ndim = _joined(tup)
    return loop(_concatenation(len(tup), ndim, 0 if ndim == 1 else 1), tup) if ndim else None


@replaces(np.column_stack)
def column_stack(tup):
    """Vectors as columns."""
    if _joined(tup) != 1:
        return None
    rows = loop(_stacking(len(tup), 1), tup)
    return lambda tup: rows(tup).T.copy()


@replaces(np.append)
def append(arr, values):
    """Two vectors, or a vector and a number, one after the other."""
    if isinstance(values, types.Array):
        return loop(_append_array, arr, values)
    return loop(_append_scalar, arr, values)


@njit
def _append_array(arr, values):
    result = np.empty(arr.size + values.size)
    result[: arr.size] = arr.ravel()
    result[arr.size :] = values.ravel()
    return result


@njit
def _append_scalar(arr, values):
    result = np.empty(arr.size + 1)
    result[: arr.size] = arr.ravel()
    result[arr.size] = values
    return result


@replaces(np.repeat)
def repeat(a, repeats):
    """Each element so many times."""
    return loop(_repeat, a) if is_active_array(a) and isinstance(repeats, types.Integer) else None


@njit
def _repeat(a, repeats):
    result = np.empty(a.size * repeats)
    flat = a.ravel()
    for i in range(a.size):
        for k in range(repeats):
            result[i * repeats + k] = flat[i]
    return result


@replaces(np.roll)
def roll(a, shift):
    """Elements moved on, the last ones to the front."""
    return loop(_roll, a) if is_active_array(a) else None


@njit
def _roll(a, shift):
    result = np.empty(a.size)
    flat = a.ravel()
    for i in range(a.size):
        result[(i + shift) % a.size] = flat[i]
    return result.reshape(a.shape)


@replaces(np.diag)
def diag(v, k=0):
    """The diagonal of a matrix, or the matrix of a diagonal."""
    if not is_active_array(v) or v.ndim > 2:
        return None
    return loop(_diag_matrix if v.ndim == 1 else _diag_of, v)


@njit
def _diag_matrix(v, k):
    n = v.size + abs(k)
    result = np.zeros((n, n))
    for i in range(v.size):
        result[i + max(-k, 0), i + max(k, 0)] = v[i]
    return result


@njit
def _diag_of(v, k):
    row, column = max(-k, 0), max(k, 0)
    result = np.empty(max(min(v.shape[0] - row, v.shape[1] - column), 0))
    for i in range(result.size):
        result[i] = v[row + i, column + i]
    return result


@replaces(np.triu)
def triu(m, k=0):
    """The upper triangle."""
    return loop(_triu, m) if is_active_array(m) and m.ndim == 2 else None


@njit
def _triu(m, k):
    result = np.zeros(m.shape)
    for i in range(m.shape[0]):
        for j in range(max(i + k, 0), m.shape[1]):
            result[i, j] = m[i, j]
    return result


@replaces(np.tril)
def tril(m, k=0):
    """The lower triangle."""
    return loop(_tril, m) if is_active_array(m) and m.ndim == 2 else None


@njit
def _tril(m, k):
    result = np.zeros(m.shape)
    for i in range(m.shape[0]):
        for j in range(min(i + k + 1, m.shape[1])):
            result[i, j] = m[i, j]
    return result


@replaces(None, method="item")
def item(a):
    """The one element."""
    return loop(_item, a) if is_active_array(a) else None


@njit
def _item(a):
    if a.size != 1:
        raise ValueError("item(): cannot convert array to a scalar")
    return a.flat[0] + 0.0


ALLOWED.update({values, strip, _filled, active_in})
