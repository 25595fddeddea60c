"""From plain values to active ones and back, in compiled code.

Arguments are lifted: each float, and each element of an array, becomes an independent, with a row of its own or with a
tangent. Independents are numbered from left to right through all arguments that are differentiated, nested tuples and
arrays included; that order is the layout of every flat gradient. Results are stripped: what remains are plain values.
Arrays in Fortran's order stay so, since sums and products go through memory in its order.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.imputils import impl_ret_borrowed
from numba.core.typing import signature
from numba.extending import intrinsic, overload
from numba.typed import Dict, List

from tapegrad.jitted import jacobian_tape as tape
from tapegrad.jitted import rewriting
from tapegrad.jitted.access import get_number, get_word, put_word
from tapegrad.jitted.active import (
    DOUBLE,
    PASSIVE,
    WORD,
    Active,
    Complex,
    Narrow,
    Taped,
    holds_active,
    is_active_array,
    is_complex_array,
    is_instance,
    is_narrow_array,
    is_record_array,
)
from tapegrad.jitted.allocation import array_like, copy_from, flat_of, flat_view, taking_over
from tapegrad.jitted.complex_numbers import complex_value, imaginary_part, real_part
from tapegrad.jitted.emission import ZERO_ROW, Emitter, Single, made_of
from tapegrad.jitted.errors import WrongResultError
from tapegrad.jitted.inner import OPTIONS, define, inside
from tapegrad.jitted.single_precision import narrow_value, narrowed, widened

LEAST_TAKEN = 128  # elements: to copy fewer takes less time than to allocate them

# --- a scalar at a time -----------------------------------------------------------------------------------------------


@intrinsic
def make(typingctx, kind, value, row, direction):
    """An active scalar of a value: its row, and 1 for the tangent in one direction (none where there is no such)."""
    active = kind.instance_type

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emitter = Emitter(context, builder)
        parts = []
        for k in range(active.n_tangents):
            hit = builder.icmp_signed("==", args[3], WORD(k))
            parts.append(Single(emitter, builder.select(hit, DOUBLE(1.0), DOUBLE(0.0))))
        row = args[2] if isinstance(active, Taped) else None
        return emitter.pack(active, made_of([Single(emitter, args[1]), *parts], active), row)

    return active(kind, types.float64, types.int64, types.int64), codegen


@intrinsic
def make_along(typingctx, kind, value, row, tangent):
    """An active scalar of a value and its one tangent, or an array of its tangents."""
    active = kind.instance_type

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emitter = Emitter(context, builder)
        given = [args[3]]
        if isinstance(tangent, types.Array):
            given = items_of(context, builder, tangent, args[3], range(active.n_tangents))
        numbers = [Single(emitter, number) for number in (args[1], *given)]
        return emitter.pack(active, made_of(numbers, active), args[2] if isinstance(active, Taped) else None)

    given = tangent if isinstance(tangent, types.Array) else types.float64
    return active(kind, types.float64, types.int64, given), codegen


def items_of(context: Any, builder: Any, kind: Any, array: Any, places: Iterable[int]) -> list[Any]:
    """Elements of a vector of float64, in registers."""
    get = context.get_function(operator.getitem, signature(types.float64, kind, types.int64))
    return [get(builder, (array, WORD(k))) for k in places]


@intrinsic
def numbers_of(typingctx, kind, numbers):
    """An active scalar of its value and its tangents, which are a vector; nobody's row."""
    active = kind.instance_type

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emitter = Emitter(context, builder)
        found = items_of(context, builder, numbers, args[1], range(1 + active.n_tangents))
        number = made_of([Single(emitter, x) for x in found], active)
        return emitter.pack(active, number, ZERO_ROW if isinstance(active, Taped) else None)

    return active(kind, numbers), codegen


@intrinsic
def value_of(typingctx, x):
    """The value of an active scalar."""
    if not isinstance(x, Active):
        return None
    return types.float64(x), lambda context, builder, sig, args: builder.extract_value(args[0], 0)


@intrinsic
def with_value(typingctx, x, value):
    """An active scalar with another value, and its own derivatives."""
    if isinstance(x, (Complex, Narrow)):
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.insert_value(args[0], args[1], 0) if isinstance(sig.args[0], Active) else args[1]

    return (x if isinstance(x, Active) else types.float64)(x, types.float64), codegen


@intrinsic
def row_of(typingctx, x):
    """The row of an active scalar; 0 for a plain number."""
    if isinstance(x, (Complex, Narrow)):
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = sig.args[0]
        return Emitter(context, builder).row_of(kind, args[0]) if isinstance(kind, Taped) else WORD(0)

    return types.int64(x), codegen


@intrinsic
def tangent_of(typingctx, x, k):
    """A tangent of an active scalar; 0 for a plain number."""
    if isinstance(x, (Complex, Narrow)):
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind, _ = sig.args
        if not isinstance(kind, Active) or not kind.n_tangents:
            return DOUBLE(0.0)
        if kind.is_wide:
            return builder.extract_element(builder.extract_value(args[0], 1), args[1])
        place = builder.alloca(ir.ArrayType(DOUBLE, kind.n_tangents))
        builder.store(builder.extract_value(args[0], 1), place)
        return builder.load(builder.gep(place, [WORD(0), args[1]]))

    return types.float64(x, types.int64), codegen


def laid_out(result, plain):
    """An array in Fortran's order where another is: sums and products go through memory in its order."""
    raise NotImplementedError


@overload(laid_out, OPTIONS)
def _laid_out(result, plain):
    if plain.layout == "F":
        return lambda result, plain: in_fortrans_order(result)
    return lambda result, plain: result


def in_fortrans_order(x):
    """An array in Fortran's order: itself, if it is."""
    raise NotImplementedError


@overload(in_fortrans_order, OPTIONS)
def _in_fortrans_order(x):
    if isinstance(x, types.Array) and x.ndim > 1 and x.layout != "F":
        return lambda x: x.T.copy().T
    return lambda x: x


# --- what is differentiated, as one flat vector -----------------------------------------------------------------------


def count(x):
    """How many numbers are in there."""
    raise NotImplementedError


@overload(count, OPTIONS)
def _count(x):
    if is_record_array(x):
        return None  # see `records.py`
    if isinstance(x, types.Array) and isinstance(x.dtype, (types.Float, Active, Narrow)):
        return lambda x: x.size
    if isinstance(x, types.Array) and _is_complex(x.dtype):
        return lambda x: 2 * x.size
    if _is_complex(x):
        return lambda x: 2
    if isinstance(x, types.BaseTuple):
        lines = ["def over(x):", " n = 0", *(f" n += count(x[{i}])" for i in range(len(x))), " return n"]
        return _made(lines, {"count": count})
    return (lambda x: 1) if isinstance(x, (types.Float, Active, Narrow)) else (lambda x: 0)


def _is_complex(kind: Any) -> bool:
    """Whether a type is that of a complex number, which is two numbers that are differentiated by."""
    return isinstance(kind, Complex) or kind == types.complex128


def _made(lines: list[str], scope: dict[str, Any]) -> Callable[..., Any]:
    """The function `over` of a text: tuples are gone through item by item, since the items' types differ."""
    made: Callable[..., Any] = define("\n".join(lines), "over", scope)
    return made


def each_item(kind: Any, each: str, scope: dict[str, Any], parameters: str) -> Callable[..., Any]:
    """A function that makes a tuple of something of each item of its last parameter."""
    x = parameters.rpartition(" ")[2]
    items = "".join(each.format(f"{x}[{i}]") + ", " for i in range(len(kind)))
    return _made([f"def over({parameters}):", f" return ({items})"], scope)


def _chained(kind: Any, each: str, scope: dict[str, Any], parameters: str) -> Callable[..., Any]:
    """A function that goes through a tuple's items, each beginning at where the one before ended."""
    lines = [f"def over(x, {parameters}):", *(f" at = {each.format(f'x[{i}]')}" for i in range(len(kind)))]
    return _made([*lines, " return at"], scope)


def lift(kind, x, row, start, along):
    """A value of independents: rows from `row` on; tangent k is 1 for number `start + k`, or taken from an array."""
    raise NotImplementedError


@overload(lift, OPTIONS)
def _lift(kind, x, row, start, along):
    if is_record_array(x):
        return None  # see `records.py`
    if isinstance(x, types.BaseTuple):
        return _lift_tuple(x)
    if isinstance(x, types.Array) and (_is_complex(x.dtype) or x.dtype == types.float32):
        element = Complex(kind.instance_type) if _is_complex(x.dtype) else Narrow(kind.instance_type)
        return _lift_each(element, x)
    if x == types.float32:
        return lambda kind, x, row, start, along: narrowed(lift(kind, np.float64(x), row, start, along))
    if _is_complex(x):
        each = "make_along(kind, {0}, row + {1}, along[start + {1}])"
        if not isinstance(along, types.Array):
            each = "make(kind, {0}, row + {1}, {1} - start)"
        made = f"complex({each.format('x.real', 0)}, {each.format('x.imag', 1)})"
        scope = {"make": make, "make_along": make_along}
        return _made(["def over(kind, x, row, start, along):", f" return {made}"], scope)
    if isinstance(x, types.Array) and x.layout == "F":
        return _lift_in_fortrans_order(along)
    if isinstance(x, types.Array):
        elements = flat_of(x)
        if isinstance(along, types.Array):

            def lift_along(kind, x, row, start, along):
                result = array_like(kind, x)
                flat, values = flat_view(result), elements(x)
                for i in range(x.size):
                    flat[i] = make_along(kind, values[i], row + i, along[start + i])
                return result

            return lift_along

        def lift_array(kind, x, row, start, along):
            result = array_like(kind, x)
            flat, values = flat_view(result), elements(x)
            for i in range(x.size):
                flat[i] = make(kind, values[i], row + i, i - start)
            return result

        return lift_array
    if isinstance(along, types.Array):
        return lambda kind, x, row, start, along: make_along(kind, float(x), row, along[start])
    return lambda kind, x, row, start, along: make(kind, float(x), row, -start)


def _lift_each(element: Complex | Narrow, x: Any) -> Callable[..., Any]:
    """Element by element: each is one number, or two."""
    made_like = like_in_fortrans_order if x.layout == "F" else array_like
    each = 2 if isinstance(element, Complex) else 1

    def lift_array(kind, x, row, start, along):
        result = made_like(element, x)
        i = 0
        for at in np.ndindex(x.shape):
            result[at] = lift(kind, x[at], row + i, moved(start, i, along), along)
            i += each
        return result

    return lift_array


@inside
def like_in_fortrans_order(kind, x):
    """An array of another type, of the shape and the order of `x`."""
    return array_like(kind, x.T).T


def _lift_in_fortrans_order(along: Any) -> Callable[..., Any]:
    """Elements are numbered as in any array, by rows."""
    if isinstance(along, types.Array):

        def lift_along(kind, x, row, start, along):
            result = array_like(kind, x.T).T
            i = 0
            for at in np.ndindex(x.shape):
                result[at] = make_along(kind, x[at], row + i, along[start + i])
                i += 1
            return result

        return lift_along

    def lift_array(kind, x, row, start, along):
        result = array_like(kind, x.T).T
        i = 0
        for at in np.ndindex(x.shape):
            result[at] = make(kind, x[at], row + i, i - start)
            i += 1
        return result

    return lift_array


def _lift_tuple(x: Any) -> Callable[..., Any]:
    """Item by item: each begins where the one before ended."""
    lines = ["def over(kind, x, row, start, along):"]
    for i in range(len(x)):
        lines += [
            f" y{i} = lift(kind, x[{i}], row, start, along)",
            f" n = count(x[{i}])",
            " row += n",
            " start = moved(start, n, along)",
        ]
    lines.append(f" return ({''.join(f'y{i}, ' for i in range(len(x)))})")
    return _made(lines, {"lift": lift, "count": count, "moved": moved})


def moved(start, n, along):
    """Where the next item's numbers begin: further on in an array of tangents, or earlier before a direction."""
    raise NotImplementedError


@overload(moved, OPTIONS)
def _moved(start, n, along):
    if isinstance(along, types.Array):
        return lambda start, n, along: start + n
    return lambda start, n, along: start - n


def keep(kind, x):
    """An argument that isn't differentiated; jitted functions among them become those for active scalars."""
    raise NotImplementedError


@overload(keep, OPTIONS)
def _keep(kind, x):
    if is_instance(x) or is_record_array(x):
        return None  # see `classes.py`, `records.py`
    if isinstance(x, types.Dispatcher):
        other = rewriting.active(x.dispatcher, kind.instance_type)
        return lambda kind, x: other
    if isinstance(x, types.BaseTuple) and any(isinstance(t, types.Dispatcher) for t in x):
        return each_item(x, "keep(kind, {})", {"keep": keep}, "kind, x")
    return lambda kind, x: x


def own(kind, x):
    """What isn't differentiated, but written to: of passive active scalars, which can receive derivatives."""
    raise NotImplementedError


@overload(own, OPTIONS)
def _own(kind, x):
    if is_instance(x) or is_record_array(x):
        return None  # see `classes.py`, `records.py`
    if isinstance(x, types.Array) and x.dtype in (types.float64, types.float32, types.complex128):
        if x.layout == "F":
            return lambda kind, x: own(kind, x.T).T
        if x.dtype != types.float64:
            of = Complex if x.dtype == types.complex128 else Narrow
            return _own_array_of(of(kind.instance_type), flat_of(x))
        elements = flat_of(x)

        def own_array(kind, x):
            result = array_like(kind, x)
            flat, values = flat_view(result), elements(x)
            for i in range(x.size):
                flat[i] = values[i]
            return result

        return own_array
    if isinstance(x, types.List) and x.dtype == types.float64:
        return lambda kind, x: [make(kind, float(item), 0, -1) for item in x]
    if isinstance(x, types.ListType) and x.dtype == types.float64:

        def own_list(kind, x):
            result = List.empty_list(kind)
            for item in x:
                result.append(make(kind, float(item), 0, -1))
            return result

        return own_list
    if isinstance(x, types.DictType) and x.value_type == types.float64:
        keys = x.key_type

        def own_dictionary(kind, x):
            result = Dict.empty(keys, kind)
            for key, item in x.items():
                result[key] = make(kind, float(item), 0, -1)
            return result

        return own_dictionary
    return lambda kind, x: keep(kind, x)


def _own_array_of(element: Complex | Narrow, elements: Any) -> Callable[..., Any]:
    def own_array(kind, x):
        result = array_like(element, x)
        flat, values = flat_view(result), elements(x)
        for i in range(x.size):
            flat[i] = values[i]
        return result

    return own_array


def give_back(x, lifted):
    """What the function wrote into such an array, or container, into the one that was given."""
    raise NotImplementedError


@overload(give_back, OPTIONS)
def _give_back(x, lifted):
    if is_instance(x) or is_record_array(x):
        return None  # see `classes.py`, `records.py`
    if isinstance(x, types.Array) and is_active_array(lifted) and x.mutable:

        def write(x, lifted):
            for at in np.ndindex(x.shape):
                x[at] = value_of(lifted[at])

        return write
    if isinstance(x, types.Array) and (is_complex_array(lifted) or is_narrow_array(lifted)) and x.mutable:

        def write_each(x, lifted):
            for at in np.ndindex(x.shape):
                x[at] = strip(lifted[at])

        return write_each
    if isinstance(x, (types.List, types.ListType)) and isinstance(lifted.dtype, Active):

        def write_list(x, lifted):
            x.clear()
            for item in lifted:
                x.append(value_of(item))

        return write_list
    if isinstance(x, types.DictType) and isinstance(lifted.value_type, Active):

        def write_dictionary(x, lifted):
            x.clear()
            for key, item in lifted.items():
                x[key] = value_of(item)

        return write_dictionary
    if isinstance(x, types.Array) and isinstance(lifted, types.BaseTuple):
        return None  # see `limits.py`
    return lambda x, lifted: None


def scalar(x):
    """A result that is to be differentiated by a gradient: it must be a number."""
    raise NotImplementedError


@overload(scalar, OPTIONS)
def _scalar(x):
    if isinstance(x, (Active, *PASSIVE)):
        return lambda x: x
    if isinstance(x, Narrow):
        return lambda x: widened(x)
    if isinstance(x, types.Array) and x.ndim == 0:
        return lambda x: scalar(x[()])
    if isinstance(x, types.BaseTuple):
        raise WrongResultError("a tuple")
    raise WrongResultError(_called(x))


def _called(x: Any) -> str:
    if _is_complex(x):
        return "a complex number"
    for family, name in _NAMES.items():
        if isinstance(x, family):
            return name
    return "an instance of a class" if is_instance(x) else str(x)


_NAMES = {
    types.Record: "a record", types.Array: "an array", types.NoneType: "None", types.UnicodeType: "a string",
    types.DictType: "a dictionary", types.List: "a list", types.ListType: "a list",
}  # fmt: skip


# --- results ----------------------------------------------------------------------------------------------------------


def by_element(function: Any, kind: Any) -> Any:
    """The code of a function of arrays: a new array like another, of elements of a type that a function gives."""

    def of_array(x):
        result = array_like(kind, x)
        flat = flat_view(result)
        i = 0
        for item in x.flat:
            flat[i] = function(item)
            i += 1
        return result

    return of_array


def strip(x):
    """The plain values of a result."""
    raise NotImplementedError


@overload(strip, OPTIONS)
def _strip(x):
    if is_record_array(x):
        return None  # see `records.py`
    if isinstance(x, Active):
        return lambda x: value_of(x)
    if isinstance(x, Complex):
        return lambda x: complex_value(x)
    if isinstance(x, Narrow):
        return lambda x: narrow_value(x)
    if isinstance(x, types.Array) and isinstance(x.dtype, (Active, Complex, Narrow)):
        if x.layout == "F":
            return lambda x: strip(x.T).T
        return by_element(strip, rewriting.plain(x.dtype))
    if isinstance(x, types.BaseNamedTuple):
        items = ", ".join(f"strip(x[{i}])" for i in range(len(x)))
        return _made(["def over(x):", f" return made({items})"], {"strip": strip, "made": x.instance_class})
    if isinstance(x, types.BaseTuple):
        return each_item(x, "strip({})", {"strip": strip}, "x")
    if isinstance(x, types.LiteralStrKeyDict) or (isinstance(x, types.DictType) and _is_active(x.value_type)):
        raise WrongResultError("a dictionary")
    if isinstance(x, (types.List, types.ListType)) and isinstance(x.dtype, Active):
        return lambda x: [value_of(element) for element in x]
    if holds_active(x):
        raise WrongResultError(_called(x))
    return lambda x: x


@intrinsic
def frozen(typingctx, array):
    """An array that can't be written to."""
    made = types.Array(array.dtype, array.ndim, array.layout, readonly=True, aligned=array.aligned)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return impl_ret_borrowed(context, builder, made, args[0])

    return made(array), codegen


def lent(x):
    """The plain values of what Python's own code reads, which can't be written to where they are copies."""
    raise NotImplementedError


@overload(lent, OPTIONS)
def _lent(x):
    if isinstance(x, types.Array) and isinstance(x.dtype, (Active, Complex, Narrow)):
        return lambda x: frozen(strip(x))
    if isinstance(x, types.BaseTuple) and not isinstance(x, types.BaseNamedTuple):
        return each_item(x, "lent({})", {"lent": lent}, "x")
    return (lambda x: strip(x)) if isinstance(x, (Active, Complex, Narrow)) else (lambda x: x)


def _is_active(kind: Any) -> bool:
    return isinstance(kind, Active) or is_active_array(kind)


def _refuse_containers(x: Any) -> None:
    """Raise where derivatives of a result would be lost."""
    if isinstance(x, types.DictType):
        raise WrongResultError("a dictionary")
    if isinstance(x, (types.List, types.ListType, types.LiteralList)):
        raise WrongResultError("a list")


def rows(x, out, at):
    """Write the rows of a result's numbers into an array, from `at` on; returns where the next would stand."""
    raise NotImplementedError


@overload(rows, OPTIONS)
def _rows(x, out, at):
    if is_record_array(x):
        return None  # see `records.py`
    _refuse_containers(x)
    if is_active_array(x) or (isinstance(x, types.Array) and isinstance(x.dtype, types.Float)):

        def of_array(x, out, at):
            for element in x.flat:
                out[at] = row_of(element)
                at += 1
            return at

        return of_array
    if isinstance(x, types.Array) and (_is_complex(x.dtype) or isinstance(x.dtype, Narrow)):

        def of_each(x, out, at):
            for element in x.flat:
                at = rows(element, out, at)
            return at

        return of_each
    if isinstance(x, Narrow):
        return lambda x, out, at: rows(widened(x), out, at)
    if isinstance(x, Complex):
        return lambda x, out, at: rows(imaginary_part(x), out, rows(real_part(x), out, at))
    if _is_complex(x):
        return lambda x, out, at: rows(x.imag, out, rows(x.real, out, at))
    if isinstance(x, types.BaseTuple):
        return _chained(x, "rows({}, out, at)", {"rows": rows}, "out, at")
    if isinstance(x, (Active, types.Float)):

        def of_scalar(x, out, at):
            out[at] = row_of(x)
            return at + 1

        return of_scalar
    return lambda x, out, at: at


def tangents(x, out, at, k):
    """Write tangent `k` of a result's numbers into an array, from `at` on; returns where the next would stand."""
    raise NotImplementedError


@overload(tangents, OPTIONS)
def _tangents(x, out, at, k):
    if is_record_array(x):
        return None  # see `records.py`
    _refuse_containers(x)
    if is_active_array(x) or (isinstance(x, types.Array) and isinstance(x.dtype, types.Float)):

        def of_array(x, out, at, k):
            for element in x.flat:
                out[at] = tangent_of(element, k)
                at += 1
            return at

        return of_array
    if isinstance(x, types.Array) and (_is_complex(x.dtype) or isinstance(x.dtype, Narrow)):

        def of_each(x, out, at, k):
            for element in x.flat:
                at = tangents(element, out, at, k)
            return at

        return of_each
    if isinstance(x, Narrow):
        return lambda x, out, at, k: tangents(widened(x), out, at, k)
    if isinstance(x, Complex):
        return lambda x, out, at, k: tangents(imaginary_part(x), out, tangents(real_part(x), out, at, k), k)
    if _is_complex(x):
        return lambda x, out, at, k: tangents(x.imag, out, tangents(x.real, out, at, k), k)
    if isinstance(x, types.BaseTuple):
        return _chained(x, "tangents({}, out, at, k)", {"tangents": tangents}, "out, at, k")
    if isinstance(x, (Active, types.Float)):

        def of_scalar(x, out, at, k):
            out[at] = tangent_of(x, k)
            return at + 1

        return of_scalar
    return lambda x, out, at, k: at


def shaped(x, bars, at, width):
    """The adjoints of rows from `at` on, in the form of an argument."""
    raise NotImplementedError


@overload(shaped, OPTIONS)
def _shaped(x, bars, at, width):
    if is_record_array(x):
        return None  # see `records.py`
    if isinstance(x, types.Array) and _is_complex(x.dtype):

        def shape_complex_array(x, bars, at, width):
            result = array_like(types.complex128, x)
            elements = flat_view(result)
            for i in range(x.size):
                elements[i] = complex(
                    get_number(bars, (at + 2 * i) * width), get_number(bars, (at + 2 * i + 1) * width)
                )
            return result

        return shape_complex_array
    if _is_complex(x):
        return lambda x, bars, at, width: complex(get_number(bars, at * width), get_number(bars, (at + 1) * width))
    if isinstance(x, types.Array):

        def shape_array(x, bars, at, width):
            result = array_like(dtype, x)
            if width == one:
                copy_from(result, bars + 8 * at)
                return result
            elements = flat_view(result)
            for i in range(x.size):
                elements[i] = get_number(bars, (at + i) * width)
            return result

        dtype, one = x.dtype, 1 if x.dtype == types.float64 else 0  # there is no width of 0
        return shape_array
    if isinstance(x, types.BaseTuple):
        lines = ["def over(x, bars, at, width):"]
        for i in range(len(x)):
            lines += [f" y{i} = shaped(x[{i}], bars, at, width)", f" at += count(x[{i}])"]
        lines.append(f" return ({''.join(f'y{i}, ' for i in range(len(x)))})")
        return _made(lines, {"shaped": shaped, "count": count})
    return lambda x, bars, at, width: get_number(bars, at * width)


def taken(x, header, bars, at):
    """The same, of rows of width 1, when a tape is done with: for what it doesn't share with others, its own memory."""
    raise NotImplementedError


@overload(taken, OPTIONS)
def _taken(x, header, bars, at):
    if not isinstance(x, types.Array) or x.dtype != types.float64:
        return lambda x, header, bars, at: shaped(x, bars, at, 1)

    def take(x, header, bars, at):
        is_there = get_word(header, tape.ADJOINT) == bars and get_word(header, tape.ROWS) <= 1
        if x.size < LEAST_TAKEN or not is_there or 2 * x.size < get_word(header, tape.ADJOINT_CAPACITY):
            return shaped(x, bars, at, 1)
        put_word(header, tape.ADJOINT, 0)
        put_word(header, tape.ADJOINT_CAPACITY, 0)
        return taking_over(x, bars, get_word(header, tape.FREE), bars + 8 * at)

    return take
