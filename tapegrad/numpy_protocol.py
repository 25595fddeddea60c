"""NumPy's functions on tensors: `np.sin(t)` and `np.ones(3) * t` record.

An operation declares its counterparts in NumPy (`reference`) and `scipy.special` (`scipy`), so the tables are read off
the declarations: parameters correspond by their order, or as axes. Where NumPy's arguments mean more, a function stands
below under NumPy's names for them; one that is not among them is refused. Dtypes are promoted as those of tensors are.

Those that are compositions stand in `numpy_functions.py` and in the other files of that name. A NumPy
function that is not in the tables gets arrays, as from `t.numpy()`, and gives arrays: so it refuses tensors that
require grad.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import operator
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from tapegrad import (
    dtypes,
    interop,
    numpy_factorizations,
    numpy_functions,
    numpy_methods,
    numpy_polynomials,
    numpy_selection,
    numpy_statistics,
    pages,
    special,
    trees,
)  # fmt: skip
from tapegrad.conversion import WrittenToNumbersError, as_operand
from tapegrad.dtypes import BOOL, FLOAT64, INT64
from tapegrad.functions import arrays, elementwise, products, reductions, shaping
from tapegrad.numpy_functions import as_tensor, cast_by, floating, of_one_dtype, tensordot
from tapegrad.ops.declare import OPS, WIDE, Array, Axes, OverDimensions
from tapegrad.recording import cast, promoted
from tapegrad.tensor import Tensor, describe, location

# --- elementwise ------------------------------------------------------------------------------------------------------

_UFUNCS: dict[Any, Callable[..., Any]] = {
    op.reference: elementwise.functions[op.name] if op.arity == 1 and op.name in elementwise.functions else op.record
    # NumPy takes numbers for any of two operands, and has names that PyTorch lacks.
    for op in elementwise.OPERATIONS
    if isinstance(op.reference, np.ufunc)
} | {
    np.positive: lambda x: x.clone(),
    np.fabs: lambda x: elementwise.functions["abs"](x if promoted([x]).is_floating_point else cast(x, FLOAT64)),
    np.radians: elementwise.functions["deg2rad"],
    np.degrees: elementwise.functions["rad2deg"],
    np.float_power: elementwise.float_power,
    np.rint: elementwise.functions["round"],
    np.matmul: lambda x1, x2: products.matmul(*of_one_dtype(x1, x2)),
}
_UFUNCS |= numpy_selection.UFUNCS
OF_SCIPY = {
    op.scipy: elementwise.functions.get(op.name, elementwise.made[op]) for op in elementwise.OPERATIONS if op.scipy
}
OF_SCIPY |= {name: getattr(special, name) for name in (*(op.scipy for op in WIDE), "fresnel", "sici", "shichi")}


def _records(ufunc: Any) -> bool:
    """Whether an elementwise function of NumPy's, or of `scipy.special` if that was imported, is an operation here."""
    if ufunc not in _UFUNCS:
        name = ufunc.__name__
        if name not in OF_SCIPY or getattr(sys.modules.get("scipy.special"), name, None) is not ufunc:
            return False
        _UFUNCS[ufunc] = OF_SCIPY[name]
    return True


# What they may be told: the default, or what makes no difference to a tensor.
_UFUNC_DEFAULTS: dict[str, tuple[Any, ...]] = {
    "where": (True, np._NoValue), "casting": ("same_kind", "unsafe"), "order": ("K", "C", "A"), "dtype": (None,),
    "subok": (True, False),
    "signature": (None,), "axes": (), "axis": (), "keepdims": (False,),
}  # fmt: skip


def _call_ufunc(ufunc: Any, inputs: Any, facts: dict[str, Any]) -> Any:
    inputs = [_operand(x, inputs) for x in inputs]
    if (dtype := facts.pop("dtype", None)) is not None:
        inputs = _in_dtype(ufunc, inputs, dtypes.as_dtype(dtype))
    for name, value in facts.items():
        if not any(value is usual or (isinstance(usual, str) and value == usual) for usual in _UFUNC_DEFAULTS[name]):
            raise _not_understood(ufunc.__name__, name, value)
    if ufunc in (np.positive, np.sign) and promoted(inputs) is BOOL:
        raise TypeError(f"np.{ufunc.__name__} is not defined for bools: {describe(*inputs)}, at {location()}")
    if ufunc is np.reciprocal and not promoted(inputs).is_floating_point:
        return ufunc(*_arrays(inputs))  # NumPy's is an integer
    return _UFUNCS[ufunc](*inputs)


def _in_dtype(ufunc: Any, inputs: list[Any], dtype: Any) -> list[Any]:
    """The inputs in the dtype in which a function is to be computed."""
    letter = dtype.numpy.char
    if f"{letter * ufunc.nin}->{letter}" not in ufunc.types or promoted(inputs).category > dtype.category:
        raise _not_understood(ufunc.__name__, "dtype", dtype)
    return [cast(x, dtype) if isinstance(x, Tensor) else x for x in inputs]


# --- reductions -------------------------------------------------------------------------------------------------------


_reduce = reductions.functions


def _over(function: Callable[..., Tensor], a: Tensor, axis: Any, keepdims: Any = False, **facts: Any) -> Tensor:
    """A reduction over NumPy's axes: None are all, and () none of them, so that each element is reduced by itself."""
    if isinstance(axis, list):
        raise TypeError("'list' object cannot be interpreted as an integer: several axes are given as a tuple")
    if isinstance(axis, tuple) and not axis:
        return function(a.unsqueeze(-1), -1, **facts)
    return function(a, axis, keepdim=bool(keepdims), **facts)


def _masked(a: Tensor, where: Any, value: Any) -> Tensor:
    """`a`, with a neutral value where it does not take part."""
    if where is True:
        return a
    masked: Tensor = elementwise.where(cast(as_tensor(where), BOOL), a, value)
    if masked.shape != a.shape:
        raise ValueError(f"where={describe(where)} can't be broadcast to {describe(a)}, at {location()}")
    return masked


def _joined(total: Tensor, initial: Any, join: Callable[[Any, Any], Tensor], name: str) -> Tensor:
    """A total, joined with the value that it begins with."""
    if initial is None:
        return total
    if promoted([total, initial]) is not total.dtype:
        raise _not_understood(name, "initial", initial)
    return join(total, initial)


def _averaged(a: Tensor, axis: Any, dtype: Any) -> Tensor:
    """In the dtype asked for; integers and bools have averages in float64."""
    if axis is not None and a.ndim == 0:
        raise np.exceptions.AxisError(0, 0)
    if dtype is not None:
        return cast(a, dtypes.as_dtype(dtype))
    return floating(a)


def _sum(
    a: Tensor, axis: Any = None, dtype: Any = None, keepdims: Any = False, initial: Any = None, where: Any = True
) -> Any:
    total = _over(_reduce["sum"], _masked(a, where, 0), axis, keepdims, dtype=dtype)
    return _joined(total, initial, operator.add, "sum")


def _prod(
    a: Tensor, axis: Any = None, dtype: Any = None, keepdims: Any = False, initial: Any = None, where: Any = True
) -> Any:
    product = _masked(a, where, 1)
    if isinstance(axis, tuple) and len(axis) > 1:  # PyTorch's takes one
        axis, *others = sorted(normalize_axis_tuple(axis, a.ndim))
        for d in others[::-1]:
            product = _over(_reduce["prod"], product, d, keepdims, dtype=dtype)
    product = _over(_reduce["prod"], product, axis, keepdims, dtype=dtype)
    return _joined(product, initial, operator.mul, "prod")


def _count(a: Tensor, where: Any, axis: Any, keepdims: Any) -> Tensor:
    """How many elements take part."""
    taken: Tensor = _over(_reduce["sum"], cast(as_tensor(where), BOOL).expand(a.shape), axis, keepdims)
    return taken


def _mean(a: Tensor, axis: Any = None, dtype: Any = None, keepdims: Any = False, where: Any = True) -> Any:
    a = _averaged(a, axis, dtype)
    if where is True:
        return _over(_reduce["mean"], a, axis, keepdims)
    return _over(_reduce["sum"], _masked(a, where, 0), axis, keepdims) / _count(a, where, axis, keepdims)


def _spread(function: Callable[..., Any]) -> Callable[..., Any]:
    """NumPy's divisor is n - ddof, and ddof is 0."""

    def spread(
        a: Tensor, axis: Any = None, dtype: Any = None, ddof: Any = 0, keepdims: Any = False, where: Any = True,
        correction: Any = None,
    ) -> Any:  # fmt: skip
        less, a = numpy_statistics.corrected(ddof, correction), _averaged(a, axis, dtype)
        if where is True:
            return _over(function, a, axis, keepdims, correction=less)
        deviation = _masked(a - _mean(a, axis, None, True, where), where, 0)
        n = _count(a, where, axis, keepdims) - less
        variance = _over(_reduce["sum"], deviation * deviation, axis, keepdims) / n.clamp_min(0)
        return variance if function is _reduce["var"] else variance.sqrt()

    return spread


def _extremum(function: Callable[..., Any], choose: Callable[..., Any]) -> Callable[..., Any]:
    """With `initial` there is a value where no element takes part."""

    def extremum(a: Tensor, axis: Any = None, keepdims: Any = False, initial: Any = None, where: Any = True) -> Any:
        if initial is None:
            if where is not True:
                raise ValueError(
                    "reduction operations do not have an identity, so to use a where mask one has to specify 'initial'"
                )
            return _over(function, a, axis, keepdims)
        if 0 in a.shape or promoted([a, initial]) is not a.dtype:
            raise _not_understood("max", "initial", initial)
        bounded = choose(_masked(a, where, initial), initial)
        return _over(function, bounded, axis, keepdims)

    return extremum


def _truth(function: Callable[..., Any], neutral: bool) -> Callable[..., Any]:
    def truth(a: Tensor, axis: Any = None, keepdims: Any = False, where: Any = True) -> Any:
        return _over(function, _masked(cast(a, BOOL), where, neutral), axis, keepdims)

    return truth


def _place(function: Callable[..., Any]) -> Callable[..., Any]:
    def place(a: Tensor, axis: Any = None, keepdims: Any = False) -> Any:
        if axis is not None and not hasattr(axis, "__index__"):
            raise TypeError(f"'{type(axis).__name__}' object cannot be interpreted as an integer")
        return function(cast(a, INT64) if a.dtype is BOOL else a, axis, keepdim=bool(keepdims))

    return place


# --- all others -------------------------------------------------------------------------------------------------------


def _dot(a: Any, b: Any) -> Any:
    """Over the last dimension of `a` and the last but one of `b`."""
    a, b = of_one_dtype(a, b)
    if a.ndim == 0 or b.ndim == 0:
        return a * b
    if a.ndim <= 2 and b.ndim <= 2:
        return products.matmul(a, b)
    if b.ndim == 1:
        return products.inner(a, b)
    k = b.shape[-2]
    if a.shape[-1] != k:
        raise ValueError(
            f"shapes {tuple(a.shape)} and {tuple(b.shape)} not aligned: {a.shape[-1]} (dim {a.ndim - 1}) != {k} (dim "
            f"{b.ndim - 2}): dot, at {location()}"
        )
    return tensordot(a, b, ([-1], [-2]))


def _round(a: Tensor, decimals: Any = 0) -> Any:
    if not a.dtype.is_floating_point:
        if decimals < 0 or a.dtype is BOOL:
            raise _not_understood("round", "decimals", decimals)
        return a.clone()
    return elementwise.round(a, decimals=decimals)


def _clip(
    a: Tensor, a_min: Any = np._NoValue, a_max: Any = np._NoValue, min: Any = np._NoValue, max: Any = np._NoValue
) -> Any:
    if a_min is a_max is np._NoValue:
        low, high = (None if v is np._NoValue else v for v in (min, max))
    elif a_min is np._NoValue or a_max is np._NoValue:
        missing = "a_min" if a_min is np._NoValue else "a_max"
        raise TypeError(f"clip() missing 1 required positional argument: '{missing}'")
    elif min is not np._NoValue or max is not np._NoValue:
        raise ValueError("Passing `min` or `max` keyword argument when `a_min` and `a_max` are provided is forbidden.")
    else:
        low, high = a_min, a_max
    if low is None and high is None:
        return _call_ufunc(np.positive, (a,), {})
    if a.dtype is not BOOL:  # bounds beyond the range of integers are none
        least, most = dtypes.limits(a.dtype)
        low = least if isinstance(low, int) and low < least else low
        high = most if isinstance(high, int) and high > most else high
    return elementwise.clamp_rule(a, *(v if v is None else _operand(v, (a,)) for v in (low, high)))


def _where(condition: Any, x: Any = None, y: Any = None) -> Any:
    if x is None and y is None:
        return as_tensor(condition).nonzero(as_tuple=True)
    given = (condition, x, y)
    condition, x, y = (_operand(v, given) for v in given)
    return elementwise.where(cast(as_tensor(condition), BOOL), x, y)


def _join(function: Callable[..., Any]) -> Callable[..., Any]:
    def join(arrays: Any, axis: Any = 0, dtype: Any = None, casting: Any = "same_kind") -> Any:
        arrays = list(arrays)
        tensors = [as_tensor(_operand(a, arrays)) for a in arrays]
        if axis is None and function is shaping.cat:
            tensors, axis = [t.reshape(-1) for t in tensors], 0
        joined = function(tensors, axis)
        return joined if dtype is None else cast_by(joined, dtypes.as_dtype(dtype), casting)

    return join


def _sinc(x: Tensor) -> Any:
    return elementwise.functions["sinc"](x)


def _along(op: OverDimensions) -> Callable[..., Any]:
    function = _reduce[op.name]
    stays = isinstance(op, Axes) and op.same_shape

    def along(a: Tensor, axis: Any = None, dtype: Any = None, keepdims: Any = False) -> Any:
        facts = {} if dtype is None else {"dtype": dtype}
        if not stays:
            return _over(function, a, axis, keepdims, **facts)
        return function(a.reshape(-1), 0, **facts) if axis is None else function(a, axis, **facts)

    return along


def _in_order(ours: Callable[..., Any], theirs: Callable[..., Any]) -> Callable[..., Any]:
    names = dict(zip(_signature(theirs).parameters, _signature(ours).parameters, strict=False))

    def call(**facts: Any) -> Any:
        return ours(**{names[name]: value for name, value in facts.items()})

    call.__signature__ = inspect.Signature([inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names])
    return call


@functools.cache
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(function)


_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    op.reference: _along(op)
    for op in OPS
    if isinstance(op, OverDimensions) and op.form is not None and op.reference is not None
} | {
    op.reference: _in_order(arrays.functions[op.name], op.reference)
    for op in OPS
    if isinstance(op, Array) and op.call is not None and op.reference is not None
}
_FUNCTIONS |= {
    np.sum: _sum,
    np.prod: _prod,
    np.mean: _mean,
    np.var: _spread(_reduce["var"]),
    np.std: _spread(_reduce["std"]),
    np.max: _extremum(_reduce["amax"], _UFUNCS[np.maximum]),
    np.min: _extremum(_reduce["amin"], _UFUNCS[np.minimum]),
    np.any: _truth(_reduce["any"], False),
    np.all: _truth(_reduce["all"], True),
    np.argmax: _place(_reduce["argmax"]),
    np.argmin: _place(_reduce["argmin"]),
    np.dot: _dot,
    np.inner: lambda a, b: products.inner(*of_one_dtype(a, b)),
    np.outer: lambda a, b: products.outer(*(t.reshape(-1) for t in of_one_dtype(a, b))),
    np.round: _round,
    np.clip: _clip,
    np.sinc: _sinc,
    np.where: _where,
    np.concatenate: _join(shaping.cat),
    np.stack: _join(shaping.stack),
}
_PARTS = (numpy_functions, numpy_selection, numpy_polynomials, numpy_statistics, numpy_factorizations)
_FUNCTIONS |= {function: ours for part in _PARTS for function, ours in part.FUNCTIONS.items()}
_CALLED = {function: ours for part in _PARTS for function, ours in part.CALLED.items()}
_FUNCTIONS |= {np.amax: _FUNCTIONS[np.max], np.amin: _FUNCTIONS[np.min]}


# Arguments of NumPy's that make no difference to a tensor where they are these.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "order": ("K", "C", "A"), "subok": (True, False), "device": (None, "cpu"), "overwrite_input": (True, False)
}  # fmt: skip
_SEQUENCES = {"arrays", "tup", "condlist", "condition"}  # parameters whose parts are operands


@functools.cache
def _positional(function: Any) -> tuple[str, ...]:
    """The parameters of a NumPy function that can be given by position, in order."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(name for name, parameter in _signature(function).parameters.items() if parameter.kind in kinds)


@functools.cache
def _defaults(function: Any) -> dict[str, Any]:
    return {name: parameter.default for name, parameter in _signature(function).parameters.items()}


@functools.cache
def _operands(function: Any) -> tuple[str, ...]:
    """The parameters that are taken as tensors, or as numbers beside tensors."""
    names = [*_signature(function).parameters]
    return tuple(name for name in names if name in (names[0], "b") and name not in _SEQUENCES)


def _call_function(function: Any, args: Any, facts: dict[str, Any]) -> Any:
    """Call what stands for a function, with those of its arguments that are not at their defaults.

    NumPy has checked that they are arguments of the function's. `Signature.bind` would check again, in ten times the
    time.
    """
    ours = _FUNCTIONS[function]
    defaults, known = _defaults(function), _defaults(ours)
    given: dict[str, Any] = {}
    for name, value in (dict(zip(_positional(function), args, strict=False)) | facts).items():
        default = defaults.get(name, inspect.Parameter.empty)
        if value is default or (
            isinstance(value, (bool, int, str)) and type(value) is type(default) and value == default
        ):
            continue
        if name not in known:
            if value in _NEUTRAL.get(name, ()):
                continue
            raise _not_understood(function.__name__, name, value)
        given[name] = value
    beside = [given[name] for name in ("a", "b", "x") if name in given]
    for name in _operands(ours):
        if name in given:
            given[name] = _operand(given[name], beside)
    return ours(**given)


def _not_understood(function: str, name: str, value: Any) -> TypeError:
    return TypeError(
        f"np.{function}: the argument {name}={value!r} is not understood for tensors, at {location()}: use "
        "tapegrad's own functions, or arrays (t.detach().numpy())"
    )


# --- operands ---------------------------------------------------------------------------------------------------------


def _operand(value: Any, beside: Any) -> Any:
    """A tensor or a number; arrays and lists are taken as they are now."""
    if isinstance(value, (Tensor, bool, int, float)):
        return value
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return value.item()
    return as_operand(value, any(isinstance(t, Tensor) and t.requires_grad for t in beside))


def _arrays(values: Any) -> Any:
    """Tensors as arrays, in nested sequences too; all else as it is."""
    if isinstance(values, (list, tuple)):
        return type(values)(_arrays(v) for v in values)
    return values.numpy() if isinstance(values, Tensor) else values


def _apply(function: Any, args: Any, facts: dict[str, Any], plainly: Callable[..., Any], call: Any) -> Any:
    """Record, where the function is known (`call`); else call NumPy's with arrays."""
    out = facts.pop("out", None)
    out = out[0] if isinstance(out, tuple) and len(out) == 1 else out
    if call is None or not (out is None or isinstance(out, Tensor)):
        _check_loses_nothing(function, plainly, (args, facts), call is not None and isinstance(out, np.ndarray))
        facts = {name: _arrays(value) for name, value in facts.items()}
        if out is None:
            return plainly(*_arrays(args), **facts)
        result = plainly(*_arrays(args), **facts, out=_arrays(out))
        return out if isinstance(out, Tensor) else result
    where = facts.pop("where", True) if out is not None and isinstance(function, np.ufunc) else True
    where = True if where is np._NoValue else where
    result = call(function, args, facts)
    if out is None:
        return result
    if where is not True:  # elsewhere `out` stays as it is
        result = elementwise.where(cast(as_tensor(where), BOOL), result, out)
    if result.shape != out.shape or result.dtype.category > out.dtype.category:
        raise TypeError(
            f"np.{function.__name__}: out={describe(out)} can't hold the result {describe(result)}, at {location()}"
        )
    return out.copy_(result)


def _check_loses_nothing(function: Any, plainly: Any, operands: Any, is_written: bool = False) -> None:
    """NumPy's own function gives arrays, or writes to one: it is refused where they would have a derivative."""
    tracked = [t for t in trees.leaves(operands) if isinstance(t, Tensor) and t._kind.requires_grad]
    if not tracked:
        return
    is_method = isinstance(function, np.ufunc) and plainly.__name__ != "__call__"
    name = f"{_full_name(function)}.{plainly.__name__}" if is_method else _full_name(function)
    known = {_full_name(f): None for f in (*_UFUNCS, *_FUNCTIONS, *numpy_functions.CALLED)}
    own = function.__name__
    near = [f"tapegrad.{own}"] if callable(getattr(sys.modules["tapegrad"], own, None)) else []
    near += difflib.get_close_matches(name, known, 3, 0.7)
    hint = f" (what records: {', '.join(near)})" if near else ""
    is_made = isinstance(function, np.ufunc) or type(function).__module__.startswith("numba.")
    if is_made and not name.startswith(("np.", "scipy.")):
        hint = " (what Numba has vectorised is differentiated in functions that it has jitted)"
    if is_written:
        raise WrittenToNumbersError(
            f"np.{own} writes to an array of numbers: the derivative of {describe(tracked[0])} would be lost, at "
            f"{location()}: write to a tensor (out = tapegrad.zeros(n)), or detach() the tensor where only values are "
            f"wanted{pages.NUMPY}"
        )
    raise RuntimeError(
        f"{name} is not recorded, and would lose the derivative of {describe(tracked[0])}, at {location()}: use other "
        f"functions{hint}, or detach() the tensor where only values are wanted{pages.NUMPY}"
    )


def _full_name(function: Any) -> str:
    """By which name users call a function: np.sort, np.linalg.eig, scipy.special.expi."""
    name = function.__name__
    if isinstance(function, np.ufunc):
        if getattr(sys.modules.get("scipy.special"), name, None) is function:
            return f"scipy.special.{name}"
        return f"np.{name}" if getattr(np, name, None) is function else name
    return f"{function.__module__.replace('numpy', 'np', 1)}.{name}"


def __array_ufunc__(self: Tensor, ufunc: np.ufunc, method: str, *inputs: Any, **facts: Any) -> Any:
    """What NumPy calls for its elementwise functions, and for operators with an array on the left."""
    if method == "__call__":
        call = _call_ufunc if _records(ufunc) else None
    elif method == "outer" and _records(ufunc) and ufunc.nin == 2 and ufunc.signature is None:
        call, inputs = _call_ufunc, _outer(*inputs)
    elif (ufunc, method) in _OVER:
        facts, over = {"axis": 0} | facts, _OVER[ufunc, method]
        if over in (np.all, np.any) and np.dtype(facts.pop("dtype", None) or bool) != np.bool:
            raise TypeError(f"np.{ufunc.__name__}.reduce: the results of tensors are bools, in no other dtype")
        if over in (np.max, np.min) and (dtype := facts.pop("dtype", None)) is not None:
            inputs = (cast(as_tensor(inputs[0]), dtypes.as_dtype(dtype)), *inputs[1:])
        return __array_function__(self, over, types=(), args=inputs, facts=facts)
    elif method in numpy_methods.METHODS and _records(ufunc) and ufunc.nin == 2 and ufunc.signature is None:
        call = _call_method(method)
    else:
        call = None
    if call is None and interop.calls_python(ufunc) and any(map(interop.has_elements, inputs)):
        inputs = tuple(interop.of_elements(t) if interop.has_elements(t) else t for t in inputs)
        return getattr(ufunc, method)(*inputs, **facts)
    return _apply(ufunc, inputs, facts, getattr(ufunc, method), call)


def _call_method(method: str) -> Callable[..., Any]:
    function = numpy_methods.METHODS[method]
    known = _signature(function).parameters

    def call(ufunc: Any, inputs: Any, facts: dict[str, Any]) -> Any:
        for name, value in facts.items():
            if name not in known and not (name == "where" and value is True):
                raise _not_understood(f"{ufunc.__name__}.{method}", name, value)
        given = {name: value for name, value in facts.items() if name in known and value is not np._NoValue}
        array, *others = inputs
        return function(ufunc, lambda a, b: _call_ufunc(ufunc, (a, b), {}), as_tensor(array), *others, **given)

    return call


def _outer(a: Any, b: Any) -> tuple[Tensor, Tensor]:
    """Operands whose elements meet each with each."""
    a, b = as_tensor(a), as_tensor(b)
    return a.reshape((*a.shape, *(1,) * b.ndim)), b


# Methods of elementwise functions, along the first axis where none is given, and what they are.
_OVER: dict[Any, Any] = {
    (np.add, "reduce"): np.sum, (np.multiply, "reduce"): np.prod, (np.maximum, "reduce"): np.max,
    (np.minimum, "reduce"): np.min, (np.logical_and, "reduce"): np.all, (np.logical_or, "reduce"): np.any,
    (np.add, "accumulate"): np.cumsum, (np.multiply, "accumulate"): np.cumprod,
}  # fmt: skip


_OUT = frozenset({"out"})


@functools.cache
def _lacking(function: Any) -> frozenset[str]:
    """Which of NumPy's arguments one that is called as it is given does not take: `out`, and what may be neutral."""
    ours = _signature(_CALLED[function]).parameters
    if any(p.kind is p.VAR_KEYWORD for p in ours.values()):
        return frozenset()
    return frozenset({"out", *_NEUTRAL} & (_signature(function).parameters.keys() - ours.keys()))


def _called(function: Any, args: Any, facts: dict[str, Any]) -> Any:
    """Call what takes NumPy's arguments itself, all but some."""
    ours, lacking = _CALLED[function], _lacking(function)
    if not lacking:
        return ours(*args, **facts)
    args, facts = _by_position(function, args, facts, lacking)
    given = {name: facts.pop(name) for name in lacking & facts.keys()}
    out = given.pop("out", None)
    for name, value in given.items():
        if value not in _NEUTRAL[name]:
            raise _not_understood(function.__name__, name, value)
    return _apply(function, args, facts | {"out": out}, function, lambda _, args, facts: ours(*args, **facts))


def _by_position(
    function: Any, args: Any, facts: dict[str, Any], lacking: frozenset[str]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments with the first of those that ours lacks, and all that follow it, by their names."""
    names = _positional(function)
    n = next((k for k, name in enumerate(names[: len(args)]) if name in lacking), len(args))
    return args[:n], dict(zip(names[n:], args[n:], strict=False)) | facts


def __array_function__(self: Tensor, function: Any, types: Any, args: Any, facts: dict[str, Any]) -> Any:
    """What NumPy calls for its other functions."""
    if function in _CALLED:
        return _called(function, args, facts)
    if function not in _FUNCTIONS:
        return _apply(function, args, dict(facts), function, None)
    return _apply(function, *_by_position(function, args, facts, _OUT), function, _call_function)


Tensor.__array_ufunc__ = __array_ufunc__
Tensor.__array_function__ = __array_function__
