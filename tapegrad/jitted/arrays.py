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
from numba.core.imputils import lower_builtin
from numba.core.registry import cpu_target
from numba.core.typing import npydecl, signature
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import overload

from tapegrad.jitted import rewriting
from tapegrad.jitted.active import (
    PASSIVE,
    Active,
    ActiveRecord,
    Complex,
    Narrow,
    is_active_array,
    is_complex_array,
    is_narrow_array,
)
from tapegrad.jitted.allocation import flat_view, zeros_of
from tapegrad.jitted.checking import ALLOWED
from tapegrad.jitted.complex_numbers import ARRAYS_OF_COMPLEX, is_scalar
from tapegrad.jitted.inner import OPTIONS, define, inside
from tapegrad.jitted.library import active_in, loop, replaces
from tapegrad.jitted.lifting import lent, strip
from tapegrad.jitted.names import PIECEWISE, RULES, clamped
from tapegrad.jitted.records import active_record
from tapegrad.jitted.signatures import IN_PLACE
from tapegrad.jitted.single_precision import widened

# --- creation: an array of floats may be given active elements later, so it is made active at once --------------------


def _is_float(dtype: Any) -> bool:
    """Whether a dtype argument asks for float64; it does where it isn't given."""
    if dtype is None:
        return True
    if isinstance(dtype, types.Function):
        return dtype.typing_key is float
    return _named(dtype) == types.float64 or isinstance(_named(dtype), Active)


def _named(dtype: Any) -> Any:
    """The type that a dtype argument names; None where it is a function."""
    return getattr(dtype, "dtype", None) or getattr(dtype, "instance_type", None)


def _is_complex(dtype: Any) -> bool:
    """Whether a dtype argument asks for complex128."""
    is_function = isinstance(dtype, types.Function) and dtype.typing_key is complex
    return is_function or _named(dtype) == types.complex128 or isinstance(_named(dtype), Complex)


def _is_single(dtype: Any) -> bool:
    """Whether a dtype argument asks for float32."""
    return _named(dtype) == types.float32 or isinstance(_named(dtype), Narrow)


def _element(kind: Active, dtype: Any) -> Any:
    """The type of the elements of a new array that may be given derivatives; None of other arrays."""
    if _is_single(dtype):
        return Narrow(kind)
    if isinstance(_named(dtype), types.Record):
        return _of_records(kind, _named(dtype))
    return kind if _is_float(dtype) else Complex(kind) if _is_complex(dtype) else None


def _of_records(kind: Active, record: Any) -> Any:
    """The type of records that may be given derivatives; None of those without numbers."""
    made = record if isinstance(record, ActiveRecord) else active_record(record, kind)
    return made if isinstance(made, ActiveRecord) else None


@replaces(np.zeros, np.empty, needs_kind=True, is_single=True)
def zeros(kind, shape, dtype=None):
    """Zeros; for `empty` too, since what is not initialised would be taken for a row of the tape."""
    element = _element(kind, dtype)
    return None if element is None else lambda shape: zeros_of(element, shape)


@replaces(np.ones, needs_kind=True, is_single=True)
def ones(kind, shape, dtype=None):
    """Ones."""
    element = _element(kind, dtype)
    return None if element is None else lambda shape: _filled(zeros_of(element, shape), 1.0)


@inside
def _filled(array, value):
    flat = flat_view(array)
    for i in range(array.size):
        flat[i] = value
    return array


@replaces(np.full, needs_kind=True, is_single=True)
def full(kind, shape, fill_value, dtype=None):
    """An array of one value; of that value's type where no dtype is given."""
    element = _element_like(kind, fill_value, dtype)
    return None if element is None else lambda shape, fill_value: _filled(zeros_of(element, shape), fill_value)


def _element_like(kind: Active, a: Any, dtype: Any) -> Any:
    """Likewise, where no dtype is given of the type of a number, or of an array's elements."""
    if dtype is not None:
        return _element(kind, dtype)
    own = a.dtype if isinstance(a, types.Array) else a
    if isinstance(own, Complex) or own == types.complex128:
        return Complex(kind)
    if isinstance(own, Narrow) or own == types.float32:
        return Narrow(kind)
    if isinstance(own, types.Record):
        return _of_records(kind, own)
    return kind if isinstance(own, (types.Float, Active)) else None


@replaces(np.zeros_like, np.empty_like, needs_kind=True, is_single=True)
def zeros_like(kind, a, dtype=None):
    """Zeros of another array's shape."""
    element = _element_like(kind, a, dtype)
    return None if element is None else lambda a: zeros_of(element, np.shape(a))


@replaces(np.ones_like, needs_kind=True, is_single=True)
def ones_like(kind, a, dtype=None):
    """Ones of another array's shape."""
    element = _element_like(kind, a, dtype)
    return None if element is None else lambda a: _filled(zeros_of(element, np.shape(a)), 1.0)


@replaces(np.full_like, needs_kind=True, is_single=True)
def full_like(kind, a, fill_value, dtype=None):
    """One value, in another array's shape."""
    element = _element_like(kind, a, dtype)
    return None if element is None else lambda a, fill_value: _filled(zeros_of(element, np.shape(a)), fill_value)


@replaces(np.eye, needs_kind=True, is_single=True)
def eye(kind, N, M=None, k=0, dtype=None):
    """The unit matrix, or a diagonal beside it."""
    element = _element(kind, dtype)
    if element is None:
        return None
    if M is None:
        return lambda N, k: _diagonal_of_ones(zeros_of(element, (N, N)), k)
    return lambda N, M, k: _diagonal_of_ones(zeros_of(element, (N, M)), k)


@replaces(np.identity, needs_kind=True, is_single=True)
def identity(kind, n, dtype=None):
    """The unit matrix."""
    element = _element(kind, dtype)
    return None if element is None else lambda n: _diagonal_of_ones(zeros_of(element, (n, n)), 0)


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


@replaces(np.array, is_single=True)
def array(object, dtype=None):
    """An array of nested lists or tuples, or of another array."""
    if isinstance(object, types.Array):
        return (lambda object: object.copy()) if _is_alike(object, dtype) else _converted(object, dtype)
    return _made_of(object, dtype)


@replaces(np.asarray, is_single=True)
def asarray(a, dtype=None):
    """An array as it is; of a number, or of nested lists or tuples, a new one."""
    if isinstance(a, types.Array):
        return (lambda a: a) if _is_alike(a, dtype) else _converted(a, dtype)
    return _made_of(a, dtype)


def _is_alike(a: Any, dtype: Any) -> bool:
    """Whether an array with derivatives is of a dtype already."""
    if is_active_array(a):
        return _is_float(dtype)
    asked = _is_complex if is_complex_array(a) else _is_single if is_narrow_array(a) else None
    return asked is not None and (dtype is None or asked(dtype))


def _converted(a: Any, dtype: Any) -> Any:
    """The code that makes elements of another type of them; None where there is none."""
    if is_active_array(a) and _is_complex(dtype):
        return loop(each(np.positive, (a.ndim,), dtype="np.complex128"), a)
    if is_active_array(a) and _is_single(dtype):
        return loop(each(np.positive, (a.ndim,), dtype="np.float32"), a)
    return loop(each(widened, (a.ndim,)), a) if is_narrow_array(a) and dtype is not None and _is_float(dtype) else None


def _made_of(kind: Any, dtype: Any) -> Any:
    """The code that makes an array of a number, or of nested lists or tuples; None of anything else."""
    if dtype is None:
        made = dtype_of(*_numbers(kind))
    elif _is_complex(dtype) or _is_single(dtype):
        made = "np.complex128" if _is_complex(dtype) else "np.float32"
    elif _is_float(dtype):
        made = "np.float64"
    else:
        return None
    if isinstance(kind, (Active, Complex, Narrow)):
        return loop(_of_number(made), kind)
    return loop(_array_of(kind, made), kind) if isinstance(kind, (types.Sequence, types.BaseTuple)) else None


def _numbers(kind: Any) -> list[Any]:
    """The types of the numbers in nested lists or tuples."""
    if isinstance(kind, types.BaseTuple):
        return [number for item in kind for number in _numbers(item)]
    return _numbers(kind.dtype) if isinstance(kind, types.Sequence) else [kind]


@functools.cache
def _of_number(dtype: str) -> Any:
    text = f"def of_number(a):\n result = np.empty((), {dtype})\n result[()] = a\n return result"
    return njit(define(text, "of_number", {"np": np}))


@functools.cache
def _array_of(kind: Any, dtype: str) -> Any:
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
    made = f" out = np.empty(({', '.join(shape)},), {dtype})"
    return njit(define("\n".join(["def filled(x):", made, *lines, " return out"]), "filled", scope))


@replaces(None, method="astype", is_single=True)
def astype(a, dtype):
    """A copy of a dtype, or the plain integers or bools of the values."""
    if not _has_derivatives(a):
        return None
    if _is_alike(a, dtype):
        return lambda a: a.copy()
    found = _converted(a, dtype)
    if found is not None or is_complex_array(a):
        return found
    if getattr(dtype, "dtype", getattr(dtype, "instance_type", None)) in (types.int64, types.int32, types.boolean):
        return lambda a, dtype: values(a).astype(dtype)
    return None


def values(a):
    """The plain values of an array, in its order of memory, or of a number, in any jitted code."""
    raise NotImplementedError


@overload(values, OPTIONS)
def _values(a):
    is_active = isinstance(a, (Active, Complex, Narrow)) or (isinstance(a, types.Array) and _has_derivatives(a))
    return (lambda a: strip(a)) if is_active else (lambda a: a)


def contiguous_values(a):
    """The plain values of an array, as BLAS takes them."""
    raise NotImplementedError


@overload(contiguous_values, OPTIONS)
def _values_in_order(a):
    return (lambda a: np.ascontiguousarray(values(a))) if a.layout == "A" else (lambda a: values(a))


# --- elementwise ------------------------------------------------------------------------------------------------------

_BOOLEAN = {
    operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne, np.less, np.less_equal, np.greater,
    np.greater_equal, np.equal, np.not_equal, np.isnan, np.isinf, np.isfinite, np.signbit, np.logical_not,
    np.logical_and, np.logical_or,
}  # fmt: skip


@functools.cache
def each(
    function: Any,
    dims: tuple[int, ...],
    in_place: bool = False,
    into_last: bool = False,
    dtype: str = "np.float64",
    layout: str = "C",
) -> Any:
    """A loop that applies a scalar function to each element; -1 dimensions is a scalar, which is repeated.

    Results go into a new array of a dtype, in C's or Fortran's order, in place of the first operand, or into the last
    argument, which is then no operand. Elements of operands that are surely as the result are at the same place; others
    are looked for.
    """
    names = [f"x{i}" for i in range(len(dims))]
    lines = [f"def each({', '.join(names)}):"]
    of_operands = dict(zip(names, dims[:-1] if into_last else dims, strict=False))
    of_arrays = {name: ndim for name, ndim in of_operands.items() if ndim >= 0}
    if into_last or in_place:
        lines += [f" out = {names[-1] if into_last else names[0]}", " shape = out.shape"]
        n = dims[-1] if into_last else of_arrays.pop(names[0])
    elif len(of_arrays) == 1:
        (array, n), of_arrays = of_arrays.popitem(), {}
        lines.append(f" shape = {array}.shape")
    else:
        n = max(dims)
        lines += _joint_shape(of_arrays, n)
    if not (into_last or in_place):
        made = "np.empty(shape[::-1], {}).T" if layout == "F" else "np.empty(shape, {})"
        lines.append(f" out = {made.format('np.bool_' if function in _BOOLEAN else dtype)}")
    for name, ndim in of_arrays.items():
        lines += [line for k in range(ndim) for line in _along(name, k, k + n - ndim)]
    items = []
    for name, ndim in of_operands.items():
        place = _place(name, ndim, n) if name in of_arrays else "at"
        items.append(name if ndim < 0 else f"{name}[{place}]")
    lines += [" for at in np.ndindex(shape):", f"  out[at] = function({', '.join(items)})"]
    lines.append(" return out[()]" if max(dims) == 0 and not in_place and not into_last else " return out")
    scope = {"np": np, "function": function}
    return njit(define("\n".join(lines), "each", scope))


# Numba's own `broadcast_shapes` and `broadcast_to` take long to compile: most of them is the text of an error.
_MISMATCH = 'raise ValueError("operands could not be broadcast together")'


def _joint_shape(dims: dict[str, int], n: int) -> list[str]:
    """Lines that find the shape of a result of `n` dimensions."""
    lines = []
    for axis in range(n):
        lines.append(f" n{axis} = 1")
        for name, ndim in dims.items():
            if (k := axis - n + ndim) >= 0:
                lines += [f" if {name}.shape[{k}] != 1:", f"  n{axis} = {name}.shape[{k}]"]
    return [*lines, f" shape = ({''.join(f'n{axis}, ' for axis in range(n))})"]


def _along(name: str, k: int, axis: int) -> list[str]:
    """Lines that look whether an operand's axis is as long as the result's, or is one element for all."""
    if axis < 0:
        return [f" {_MISMATCH}"]
    stays = f" s_{name}_{k} = 0 if {name}.shape[{k}] == 1 else 1"
    return [stays, f" if {name}.shape[{k}] != 1 and {name}.shape[{k}] != shape[{axis}]:", f"  {_MISMATCH}"]


def _place(name: str, ndim: int, n: int) -> str:
    """Where an operand's element is, for one of a result of `n` dimensions."""
    return "".join(f"at[{k + n - ndim}] * s_{name}_{k}, " for k in range(ndim)) or "()"


def dims_of_operands(*kinds: Any) -> tuple[int, ...] | None:
    """The dimensions of operands, -1 for a scalar; None where one is neither."""
    dims = []
    for kind in kinds:
        if isinstance(kind, types.Array) and (is_scalar(kind.dtype) or isinstance(kind.dtype, Narrow)):
            dims.append(kind.ndim)
        elif is_scalar(kind) or isinstance(kind, Narrow):
            dims.append(-1)
        else:
            return None
    return tuple(dims) if max(dims) >= 0 else None


# What operators mean for arrays: a division by zero raises nothing, and a power takes no integer exponent.
_UFUNCS = {operator.truediv: np.true_divide, operator.pow: np.power, operator.mod: np.remainder,
           operator.floordiv: np.floor_divide, pow: np.power}  # fmt: skip


def _chosen(function: Any, *kinds: Any, in_place: bool = False) -> Any:
    function, dims = _UFUNCS.get(function, function), dims_of_operands(*kinds)
    if dims is None or not any(map(_has_derivatives, kinds)):
        return None
    if in_place and not (isinstance(kinds[0], types.Array) and _has_derivatives(kinds[0])):
        return None
    if any(isinstance(_of_elements(k), Narrow) for k in kinds):  # of numbers, operators don't convert as of arrays
        function = _OF_SINGLES.get(function, function)
    dtype = _result_dtype(function, kinds)
    return None if dtype is None else loop(each(function, dims, in_place, dtype=dtype, layout=layout_of(kinds)), *kinds)


_OF_SINGLES = {
    sign: getattr(np, name)
    for rules in (npydecl.NumpyRulesArrayOperator, npydecl.NumpyRulesUnaryArrayOperator)
    for sign, name in rules._op_map.items()
}


def _result_dtype(function: Any, kinds: tuple[Any, ...]) -> str | None:
    """The dtype of a function of elements; None where Numba's of arrays isn't that of numbers."""
    found = dtype_of(*kinds)
    if found == "np.complex128":
        return found if function in ARRAYS_OF_COMPLEX else "np.float64"
    if not any(isinstance(_of_elements(k), Narrow) for k in kinds):
        return "np.float64"
    of_arrays, of_numbers = (
        cpu_target.typing_context.resolve_function_type(function, tuple(map(rewriting.plain, given)), {})
        for given in (kinds, [*map(_of_elements, kinds)])
    )
    if None in (of_arrays, of_numbers) or _of_elements(of_arrays.return_type) != of_numbers.return_type:
        return None
    return "np.float32" if of_numbers.return_type == types.float32 else "np.float64"


def layout_of(kinds: Any) -> str:
    """The order in memory of the array that Numba makes of several elementwise: what sums go through it in."""
    layouts = {kind.layout for kind in kinds if isinstance(kind, types.Array)}
    return "F" if "F" in layouts and "C" not in layouts else "C"


def _of_elements(kind: Any) -> Any:
    return kind.dtype if isinstance(kind, types.Array) else kind


def _has_derivatives(kind: Any) -> bool:
    """Whether a number, or an array of them, has derivatives."""
    return isinstance(_of_elements(kind), (Active, Complex, Narrow))


def dtype_of(*kinds: Any) -> str:
    """The dtype of an array in which several arrays, or numbers, are joined."""
    elements = [*map(_of_elements, kinds)]
    if any(isinstance(k, (Complex, types.Complex)) for k in elements):
        return "np.complex128"
    return "np.float32" if all(isinstance(k, Narrow) or k == types.float32 for k in elements) else "np.float64"


def _into(function: Any, *kinds: Any) -> Any:
    """The loop that writes into the last argument."""
    into = kinds[-1]
    dims = dims_of_operands(*kinds) if isinstance(into, types.Array) and _has_derivatives(into) else None
    return None if dims is None else loop(each(function, dims, into_last=True), *kinds)


def declare(function: Any, arity: int, stands_for: Any = None, has_out: bool = False) -> None:
    """A scalar function of arrays too; `stands_for` is what one does in the place of its first operand."""
    names = ", ".join("abcd"[:arity])
    choose = functools.partial(_chosen, stands_for or function, in_place=stands_for is not None)
    if (stands_for or function) in RULES:
        _declare_late(function, arity, choose, stands_for is not None)
    _declare_code(function, names, choose)
    if has_out:
        _declare_code(function, f"{names}, out", functools.partial(_into, function))


def _declare_code(function: Any, names: str, choose: Any) -> None:
    text = f"""
def typed({names}):
 found = choose({names})
 return None if found is None else lambda {names}: found({names})
"""
    overload(function, OPTIONS)(define(text, "typed", {"choose": choose}))


def _declare_late(function: Any, arity: int, choose: Any, in_place: bool) -> None:
    """A loop over reals that is compiled where it is called: most never are, in array expressions."""

    class Late(AbstractTemplate):  # type: ignore[misc]
        key = function
        codes: dict[Any, Any] = {}  # noqa: RUF012  by types of arguments

        def generic(self, args: Any, kws: Any) -> Any:
            returns = _result_of_reals(args, in_place) if len(args) == arity and not kws else None
            if returns is None:
                return None
            kinds = tuple(args)  # some ask with a list
            if kinds not in self.codes:
                self.codes[kinds] = functools.partial(_call_late, choose)
                lower_builtin(self.codes[kinds], *kinds)(self.codes[kinds])
            return signature(returns, *kinds)

        def get_impl_key(self, sig: Any) -> Any:
            return self.codes[sig.args]

    infer_global(function, types.Function(Late))


def _result_of_reals(kinds: Any, in_place: bool) -> Any:
    """The type of an array that a loop over reals makes, or changes; None of other operands."""
    dims = dims_of_operands(*kinds)
    if dims is None or max(dims) == 0 or not all(isinstance(_of_elements(k), (Active, *PASSIVE)) for k in kinds):
        return None
    if not is_active_array(kinds[0]) and (in_place or not any(map(_has_derivatives, kinds))):
        return None
    return kinds[0] if in_place else types.Array(active_in(*kinds), max(dims), layout_of(kinds))


def _call_late(choose: Any, context: Any, builder: Any, sig: Any, args: Any) -> Any:
    called = choose(*sig.args)._numba_type_
    found = called.get_call_type(context.typing_context, sig.args, {})
    return context.get_function(called, found)(builder, args)


_ONE_OPERAND = {np.floor, np.ceil, np.trunc, np.rint, np.sign, np.isnan, np.isinf, np.isfinite, np.signbit,
                np.logical_not, operator.truth, operator.not_}  # fmt: skip


def _is_elementwise(function: Any) -> bool:
    return isinstance(function, np.ufunc) or getattr(function, "__module__", "") == "_operator" or function is abs


for _function in filter(_is_elementwise, [*RULES, *PIECEWISE]):
    _arity = len(RULES[_function].partials) if _function in RULES else 1 if _function in _ONE_OPERAND else 2
    declare(_function, _arity, has_out=isinstance(_function, np.ufunc))
for _function, _stub in IN_PLACE.items():
    declare(_stub, 2, getattr(operator, _function.__name__[1:]))


@replaces(np.where, is_single=True)
def where(condition, x=None, y=None):
    """Elements of one or the other."""
    dims = None if x is None else dims_of_operands(condition, x, y)
    return None if dims is None else loop(each(_select, dims, dtype=dtype_of(x, y)), x, y)


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


@replaces(None, method="conjugate", is_single=True)
def conjugate(a):
    """A copy, where there is nothing to conjugate."""
    if isinstance(a, Complex):
        return lambda a: np.conjugate(a)
    if isinstance(a, (Active, Narrow)):
        return lambda a: a
    return loop(each(np.conjugate, (a.ndim,), dtype=dtype_of(a)), a) if _has_derivatives(a) else None


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


ALLOWED.update({values, contiguous_values, strip, lent, _filled, active_in})
