"""NumPy's functions for arrays of active scalars: creation, and elementwise functions.

Each is a loop in plain code (see `library.py`). Its values are those of Numba's own code to the last bit: the loops
take its formulas, and raise what it raises. Likewise `reductions.py`, `rearrangements.py` and `linalg.py`.
"""

from __future__ import annotations

import functools
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
from tapegrad.jitted.library import active_in, loop, replaces
from tapegrad.jitted.lifting import strip
from tapegrad.jitted.names import PIECEWISE, RULES, clamped
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
    if isinstance(object, Active):
        return loop(_of_number, object)
    return loop(_array_of(object), object)


@replaces(np.asarray)
def asarray(a, dtype=None):
    """An array as it is; of a number, or of nested lists or tuples, a new one."""
    if not _is_float(dtype):
        return None
    if is_active_array(a):
        return lambda a: a
    return loop(_of_number if isinstance(a, Active) else _array_of(a), a)


@njit
def _of_number(a):
    result = np.empty(())
    result[()] = a
    return result


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
def each(function: Any, dims: tuple[int, ...], in_place: bool = False, into_last: bool = False) -> Any:
    """A loop that applies a scalar function to each element; -1 dimensions is a scalar, which is repeated.

    Results go into a new array, in place of the first operand, or into the last argument, which is no operand then.
    """
    names = [f"x{i}" for i in range(len(dims))]
    arrays = [name for name, ndim in zip(names, dims, strict=True) if ndim >= 0]
    lines = [f"def each({', '.join(names)}):"]
    if into_last:
        names, arrays = names[:-1], arrays[:-1]
        lines += [f" out = x{len(names)}", " shape = out.shape"]
        lines += [f" b{name} = np.broadcast_to({name}, shape)" for name in arrays]
    elif in_place:
        lines.append(" shape = x0.shape")
        lines += [f" {name} = np.broadcast_to({name}, shape)" for name in arrays[1:]]
    elif len(arrays) == 1:
        lines.append(f" shape = {arrays[0]}.shape")
    else:
        lines.append(f" shape = np.broadcast_shapes({', '.join(name + '.shape' for name in arrays)})")
        lines += [f" b{name} = np.broadcast_to({name}, shape)" for name in arrays]
    dtype = ", np.bool_" if function in _BOOLEAN else ""
    if not into_last:
        lines.append(" out = x0" if in_place else f" out = np.empty(shape{dtype})")
    spread = "b" if into_last or (len(arrays) > 1 and not in_place) else ""
    items = ", ".join(f"{spread}{name}[at]" if name in arrays else name for name in names)
    lines += [" for at in np.ndindex(shape):", f"  out[at] = function({items})"]
    lines.append(" return out[()]" if max(dims) == 0 and not in_place and not into_last else " return out")
    scope = {"np": np, "function": function}
    return njit(define("\n".join(lines), "each", scope))


def dims_of_operands(*kinds: Any) -> tuple[int, ...] | None:
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
    function, dims = _UFUNCS.get(function, function), dims_of_operands(*kinds)
    if dims is None or not any(isinstance(k, Active) or is_active_array(k) for k in kinds):
        return None
    if in_place and not is_active_array(kinds[0]):
        return None
    return loop(each(function, dims, in_place), *kinds)


def _into(function: Any, *kinds: Any) -> Any:
    """The loop that writes into the last argument."""
    dims = dims_of_operands(*kinds) if is_active_array(kinds[-1]) else None
    return None if dims is None else loop(each(function, dims, into_last=True), *kinds)


def _declare_unary(function: Any) -> None:
    @overload(function, OPTIONS)
    def _unary(x):
        found = _chosen(function, x)
        return None if found is None else lambda x: found(x)

    if not isinstance(function, np.ufunc):
        return

    @overload(function, OPTIONS)
    def _unary_into(x, out):
        found = _into(function, x, out)
        return None if found is None else lambda x, out: found(x, out)


def _declare_binary(function: Any, stands_for: Any = None) -> None:
    @overload(function, OPTIONS)
    def _binary(a, b):
        found = _chosen(stands_for or function, a, b, in_place=stands_for is not None)
        return None if found is None else lambda a, b: found(a, b)

    if not isinstance(function, np.ufunc):
        return

    @overload(function, OPTIONS)
    def _binary_into(a, b, out):
        found = _into(function, a, b, out)
        return None if found is None else lambda a, b, out: found(a, b, out)


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
    dims = None if x is None else dims_of_operands(condition, x, y)
    return None if dims is None else loop(each(_select, dims), x, y)


@njit
def _select(condition, x, y):
    return x if condition else y


@replaces(np.clip)
def clip(a, a_min, a_max):
    """Elements within bounds."""
    if a_min is None or a_max is None:
        bound, function = (a_max, _at_most) if a_min is None else (a_min, _at_least)
        dims = dims_of_operands(a, bound)
        if dims is None:
            return None
        clipped = loop(each(function, dims), a, bound)
        return (lambda a, a_max: clipped(a, a_max)) if a_min is None else (lambda a, a_min: clipped(a, a_min))
    dims = dims_of_operands(a, a_min, a_max)
    if dims is None:
        return loop(_clipped, a, a_min, a_max)
    return loop(each(_clipped, dims), a, a_min, a_max)


@njit
def _clipped(a, a_min, a_max):
    return clamped(a, a_min, a_max)


@njit
def _at_least(a, a_min):
    return clamped(a, a_min, np.inf)


@njit
def _at_most(a, a_max):
    return clamped(a, -np.inf, a_max)


@replaces(None, method="conjugate")
def conjugate(a):
    """A copy, where there is nothing to conjugate."""
    return loop(each(np.conjugate, (a.ndim,)), a) if is_active_array(a) else None


@replaces(None, method="clip")
def clip_method(a, min=None, max=None):
    """Elements within bounds."""
    if not is_active_array(a) or min is None or max is None:
        return None
    return loop(each(_clipped, dims_of_operands(a, min, max)), a)


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


@replaces(divmod)
def quotient_and_remainder(x, y):
    """Both of two numbers."""
    return loop(_divmod, x, y) if all(isinstance(k, (Active, *PASSIVE)) for k in (x, y)) else None


@njit
def _divmod(x, y):
    return x // y, x % y


ALLOWED.update({values, strip, _filled, active_in})
