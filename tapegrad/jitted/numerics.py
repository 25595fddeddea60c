"""What Numba's own code of NumPy's functions stands on, and is no plain code itself, for active scalars and arrays.

Real and imaginary parts, steps, limits of dtypes, joined arrays: with them that code is differentiated as it is
(`overloads.py`).
"""

from __future__ import annotations

import cmath
import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numba.core import types
from numba.extending import overload, overload_attribute, overload_method
from numba.np import arraymath, linalg

from tapegrad.jitted import rewriting
from tapegrad.jitted.active import Active, Complex, Narrow, is_active_array, is_complex_array, is_narrow_array
from tapegrad.jitted.arrays import dims_of_operands, dtype_of, each, values
from tapegrad.jitted.checking import ALLOWED
from tapegrad.jitted.complex_numbers import imaginary_part, real_part
from tapegrad.jitted.inner import OPTIONS, define, inside
from tapegrad.jitted.library import constant, loop, replaces
from tapegrad.jitted.lifting import strip, value_of, with_value
from tapegrad.jitted.linalg import dot, norm, outer
from tapegrad.jitted.rearrangements import OTHER_SHAPE, _joined, _sort, copy_into, stacking

# --- parts of numbers -------------------------------------------------------------------------------------------------


@overload_attribute(Active, "real", jit_options=OPTIONS)
@overload_attribute(Narrow, "real", jit_options=OPTIONS)
def _real_part(x):
    return lambda x: x


@overload_attribute(Active, "imag", jit_options=OPTIONS)
@overload_attribute(Narrow, "imag", jit_options=OPTIONS)
def _imaginary_part(x):
    return _nothing_of(x)


@overload_method(Active, "conjugate", jit_options=OPTIONS)
@overload_method(Narrow, "conjugate", jit_options=OPTIONS)
def _conjugate(x):
    return lambda x: x


def _nothing_of(x: Any) -> Any:
    """The code for zeros like a number or an array, of its dtype and without derivatives."""
    zero = rewriting.plain(x.dtype if isinstance(x, types.Array) else x)
    return (lambda x: np.zeros(x.shape, zero)) if isinstance(x, types.Array) else (lambda x: zero(0.0))


def _is_active(x: Any) -> bool:
    return isinstance(x, Active) or is_active_array(x)


def _is_complex(x: Any) -> bool:
    return isinstance(x, Complex) or is_complex_array(x)


@replaces(np.real, is_single=True)
def real(val):
    """A real number, or an array, as it is; the part of a complex one."""
    return (lambda val: real_part(val)) if _is_complex(val) else (lambda val: val)


@replaces(np.imag, is_single=True)
def imag(val):
    """Zeros; the part of a complex number or array."""
    if _is_complex(val):
        return lambda val: imaginary_part(val)
    nothing = inside(_nothing_of(val))
    return lambda val: nothing(val)


class _Part:
    """The real or the imaginary part of what has an attribute of that name."""

    def __init__(self, name: str, of_array: Callable[[Any], Any], of_complex: Any) -> None:
        part = define(f"def {name}(x):\n raise NotImplementedError", name, {})
        attribute = define(f"def over(x):\n return x.{name}", "over", {})

        def code(x):
            if is_active_array(x) or is_narrow_array(x):
                return of_array(x)
            return of_complex if is_complex_array(x) else attribute

        overload(part, OPTIONS)(code)
        ALLOWED.add(part)
        self.part = part

    def of(self, kind: Active) -> Any:
        """The function for jitted code."""
        return self.part


rewriting.ATTRIBUTES["real"] = _Part("real", lambda _: lambda x: x, lambda x: real_part(x))
rewriting.ATTRIBUTES["imag"] = _Part("imag", _nothing_of, lambda x: imaginary_part(x))


def _declare_of_values(function: Any) -> None:
    """A function of numbers, and of arrays, that has no derivative but zero."""

    @replaces(function)
    def of_values(x):
        if isinstance(x, Active):
            return lambda x: function(value_of(x))
        return (lambda x: function(values(x))) if is_active_array(x) else None


for _function in (np.iscomplex, np.isreal, np.spacing, arraymath._np_round_float):
    _declare_of_values(_function)


@replaces(np.angle)
def angle(z, deg=False):
    """The angle of complex numbers; of real ones it is constant."""
    if constant(deg):
        return None
    if isinstance(z, Complex):
        return lambda z: cmath.phase(z)
    if is_complex_array(z):
        return loop(each(cmath.phase, (z.ndim,)), z)
    if isinstance(z, Active):
        return lambda z: np.angle(value_of(z))
    return (lambda z: np.angle(values(z))) if is_active_array(z) else None


@overload(np.finfo, OPTIONS)
def _limits(dtype):
    if isinstance(dtype, types.DType) and isinstance(dtype.dtype, Active):
        return lambda dtype: np.finfo(np.float64)
    return None


ALLOWED.add(np.finfo)

# --- elementwise ------------------------------------------------------------------------------------------------------


@replaces(np.ldexp, math.ldexp)
def ldexp(x1, x2):
    """`x * 2**n`."""
    dims = dims_of_operands(x1, x2)
    return loop(_ldexp if dims is None else each(_ldexp, dims), x1, x2) if _is_active(x1) else None


@njit
def _ldexp(x1, x2):
    return with_value(x1 * math.ldexp(1.0, max(min(x2, 1023), -1022)), math.ldexp(strip(x1), x2))


@replaces(np.divmod)
def quotients_and_remainders(x1, x2):
    """Both, of each pair."""
    if not _is_active(x1) and not _is_active(x2):
        return None
    return lambda x1, x2: (np.floor_divide(x1, x2), np.remainder(x1, x2))


# --- products and norms -----------------------------------------------------------------------------------------------


def _into(out, result):
    """Numbers written into an array, which is the result then."""
    raise NotImplementedError


@overload(_into, OPTIONS)
def _written(out, result):
    def write(out, result):
        out[:] = result
        return out

    return write


ALLOWED.add(_into)


def _declare_with_out(function: Any, product: Any, method: str | None = None) -> None:
    @replaces(function, method=method, is_single=True)
    def with_out(a, b, out=None):
        code = product(a, b)
        if code is None or out is None:
            return code
        scope = {"code": code, "into": loop(_copied(out.ndim), out), "product": function}
        return define("def over(a, b, out):\n return into(out, code(a, b))", "over", scope)


@functools.cache
def _copied(ndim: int) -> Any:
    text = "def copied(out, result):\n for at in np.ndindex(result.shape):\n  out[at] = result[at]\n return out"
    return njit(define(text, "copied", {"np": np}))


_declare_with_out(np.dot, dot, method="dot")
_declare_with_out(np.outer, outer)


@replaces(linalg._oneD_norm_2)
def euclidean(a):
    """The norm of a vector, by Numba's own way to ask for it."""
    return norm(a, None)


@replaces(linalg._compute_singular_values)
def singular_values(a):
    """Those of a matrix."""
    if not is_active_array(a):
        return None
    return loop(_singular_values, a)


@njit
def _singular_values(a):
    return np.linalg.svd(a, False)[1]


# --- arrays that are joined, sorted, summed ---------------------------------------------------------------------------


@replaces(np.stack, is_single=True)
def stack(arrays, axis=0):
    """Arrays beside each other along a new axis."""
    ndim = _joined(arrays)
    if ndim is None or axis is None:
        return None
    try:
        return loop(stacking(len(arrays), ndim, dtype_of(*arrays), constant(axis) % (ndim + 1)), arrays)
    except TypeError:
        return None


@replaces(np.dstack, is_single=True)
def dstack(tup):
    """Arrays beside each other along the third axis."""
    ndim = _joined(tup)
    return None if ndim not in (1, 2) else loop(_deep(len(tup), ndim, dtype_of(*tup)), tup)


@functools.cache
def _deep(n: int, ndim: int, dtype: str) -> Any:
    shape = "(1, tup[0].size, n)" if ndim == 1 else "(tup[0].shape[0], tup[0].shape[1], n)"
    lines = ["def deep(tup):"]
    for k in range(1, n):
        lines += [f" if tup[{k}].shape != tup[0].shape:", f'  raise ValueError("{OTHER_SHAPE}")']
    lines += [f" n = {n}", f" out = np.empty({shape}, {dtype})"]
    lines += [f" copy_into(out[{'0, :' if ndim == 1 else ':, :'}, {k}], tup[{k}])" for k in range(n)]
    return njit(define("\n".join([*lines, " return out"]), "deep", {"np": np, "copy_into": copy_into}))


@replaces(np.sort)
def sort(a):
    """A sorted copy, along the last axis."""
    if not is_active_array(a) and not is_complex_array(a):
        return None
    return loop(_sort if a.ndim == 1 else _sort_lines, a)


@njit
def _sort_lines(a):
    result = a.copy()
    for at in np.ndindex(a.shape[:-1]):
        result[at] = _sort(a[at])
    return result


@replaces(np.histogram)
def histogram(a, bins=10, range=None):
    """How many elements are in which interval, and where these begin and end."""
    if not is_active_array(a) or isinstance(bins, types.Array):
        return None
    if range is None:
        return loop(_histogram, a)
    return loop(_histogram_within, a)


@njit
def _histogram(a, bins):
    ends = np.array([np.inf, -np.inf])
    for x in a.flat:
        if ends[0] > x:
            ends[0] = x
        if ends[1] < x:
            ends[1] = x
    return _histogram_within(a, bins, (ends[0], ends[1]))


@njit
def _histogram_within(a, bins, range):
    low, high = range
    return np.histogram(values(a), bins, (strip(low), strip(high)))[0], np.linspace(low, high, bins + 1)


@replaces(np.cumsum, method="cumsum")
def cumsum(a, axis=None, dtype=None):
    """Running sums, of all elements in order, or along an axis."""
    return _running(a, axis, dtype, "+")


@replaces(np.cumprod, method="cumprod")
def cumprod(a, axis=None, dtype=None):
    """Running products, likewise."""
    return _running(a, axis, dtype, "*")


def _running(a: Any, axis: Any, dtype: Any, sign: str) -> Any:
    if not (is_active_array(a) or is_complex_array(a)) or dtype is not None:
        return None
    if axis is None:
        return loop(_running_line(sign), a)
    try:
        return loop(_running_along(sign, a.ndim, constant(axis) % a.ndim), a)
    except TypeError:
        return None


@functools.cache
def _running_line(sign: str) -> Any:
    lines = [
        "def running(a):", f" result, total = a.flatten(), {_STARTS[sign]}", " for i in range(result.size):",
        f"  total = total {sign} result[i]", "  result[i] = total", " return result",
    ]  # fmt: skip
    return njit(define("\n".join(lines), "running", {}))


@functools.cache
def _running_along(sign: str, ndim: int, axis: int) -> Any:
    def at(index: str) -> str:
        return f"result[{', '.join([':'] * axis + [index] + [':'] * (ndim - axis - 1))}]"

    lines = [
        "def running(a):", " result = a.copy()", f" for i in range(a.shape[{axis}]):",
        f"  if i == 0:\n   {at('i')} = {_STARTS[sign]} {sign} {at('i')}",
        f"  else:\n   {at('i')} = {at('i - 1')} {sign} {at('i')}", " return result",
    ]  # fmt: skip
    return njit(define("\n".join(lines), "running", {}))


_STARTS = {"+": 0.0, "*": 1.0}  # what Numba's running sums and products start with, in which -0 is lost

rewriting.METHODS["conj"] = rewriting.METHODS["conjugate"]
