"""Records and their arrays (NumPy's structured dtypes), whose fields hold active scalars.

In differentiated code another record type stands for a user's: with active scalars in the place of its floats, so that
its fields lie elsewhere in memory. Numba's own code reads and writes them. An array that is an argument is copied into
one of that, record by record; its numbers stand in the order of the fields in memory, those of a field that is an array
or a record in their own order:

    [("n", i8), ("x", f8), ("w", f8, (2,))]      numbers of a record      x, w[0], w[1]

A record by itself is given as an array of one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numba.core import types
from numba.extending import overload
from numba.np.numpy_support import from_struct_dtype

from tapegrad import trees
from tapegrad.jitted import rewriting
from tapegrad.jitted.active import DTYPES, Active, ActiveRecord, Complex, Narrow, is_record_array, size_of
from tapegrad.jitted.allocation import array_like
from tapegrad.jitted.inner import OPTIONS, define
from tapegrad.jitted.lifting import count, give_back, keep, lift, moved, own, rows, shaped, strip, tangents

_FLOATS = types.float64, types.float32, types.complex128


# --- types ------------------------------------------------------------------------------------------------------------


@functools.cache
def active_record(original: types.Record, kind: Active) -> types.Record:
    """The record type that stands for another; that type itself, if it has no floats."""
    if not n_numbers(original):
        return original
    fields, offset = [], 0
    for name, field in original.members:
        made = _active_field(field, kind)
        fields.append((name, {"type": made, "offset": offset}))
        offset += -(-size_of(made) // 8) * 8  # fields begin at words, as active scalars must
    return ActiveRecord(original, fields, offset)


def _active_field(field: Any, kind: Active) -> Any:
    if isinstance(field, types.Record):
        return active_record(field, kind)
    if isinstance(field, types.NestedArray):
        return types.NestedArray(_active_field(field.dtype, kind), field.shape)
    return {types.float64: kind, types.float32: Narrow(kind), types.complex128: Complex(kind)}.get(field, field)


def n_numbers(kind: Any) -> int:
    """How many numbers with derivatives a record, or a field of one, has."""
    if isinstance(kind, ActiveRecord):
        kind = kind.original
    if isinstance(kind, types.Record):
        return sum(n_numbers(field) for _, field in kind.members)
    if isinstance(kind, types.NestedArray):
        return int(np.prod(kind.shape)) * n_numbers(kind.dtype)
    if isinstance(kind, (Complex, Narrow, Active)):
        return 2 if isinstance(kind, Complex) else 1
    return (2 if kind == types.complex128 else 1) if kind in _FLOATS else 0


def _each_field(
    parameters: str, before: str, each: Callable[[str, str, Any], str], kind: Any, result: str, scope: dict[str, Any]
) -> Callable[..., Any]:
    """A function with a line for each field of the records of `x`, and of `lifted`, which has as many."""
    lines = [f"def over({parameters}):", f" {before}", " for place in np.ndindex(x.shape):"]
    for path, field in _fields(kind):
        found = each(f"x[place]{path}", f"lifted[place]{path}", field)
        lines += [f"  {found}"] if found else []
    made: Callable[..., Any] = define("\n".join([*lines, "  pass", f" return {result}"]), "over", {"np": np, **scope})
    return made


def _fields(kind: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Where the fields of a record are, those of records in it one by one, and their types."""
    for name, field in kind.members:
        if isinstance(field, types.Record):
            yield from _fields(field, f"{path}[{name!r}]")
        else:
            yield f"{path}[{name!r}]", field


def _stored(at: str, field: Any, value: str) -> str:
    """The statement that lets a field have a value."""
    return f"{at}[...] = {value}" if isinstance(field, types.NestedArray) else f"{at} = {value}"


# --- arguments --------------------------------------------------------------------------------------------------------


@overload(count, OPTIONS)
def _count(x):
    if not is_record_array(x):
        return None
    n = n_numbers(x.dtype)
    return lambda x: n * x.size


@overload(lift, OPTIONS)
def _lift(kind, x, row, start, along):
    if not is_record_array(x):
        return None

    def each(given: str, made: str, field: Any) -> str:
        n = n_numbers(field)
        if not n:
            return _stored(made, field, given)
        value = f"lift(kind, {given}, row + i, moved(start, i, along), along)"
        return f"{_stored(made, field, value)}; i += {n}"

    element = active_record(x.dtype, kind.instance_type)
    scope = {"lift": lift, "moved": moved, "array_like": array_like, "element": element}
    before = "lifted, i = array_like(element, x), 0"
    return _each_field("kind, x, row, start, along", before, each, x.dtype, "lifted", scope)


@overload(own, OPTIONS)
def _own(kind, x):
    if not is_record_array(x):
        return None
    if not n_numbers(x.dtype):
        return lambda kind, x: x

    def each(given: str, made: str, field: Any) -> str:
        return _stored(made, field, f"own(kind, {given})" if isinstance(field, types.NestedArray) else given)

    scope = {"own": own, "array_like": array_like, "element": active_record(x.dtype, kind.instance_type)}
    return _each_field("kind, x", "lifted = array_like(element, x)", each, x.dtype, "lifted", scope)


@overload(keep, OPTIONS)
def _keep(kind, x):
    return (lambda kind, x: x) if is_record_array(x) else None


@overload(give_back, OPTIONS)
def _give_back(x, lifted):
    if not is_record_array(x):
        return None
    if x.dtype == lifted.dtype or not x.mutable:
        return lambda x, lifted: None
    return _each_field(
        "x, lifted", "pass", lambda x, y, field: _stored(x, field, f"strip({y})"), x.dtype, "None", {"strip": strip}
    )


# --- results ----------------------------------------------------------------------------------------------------------


@overload(strip, OPTIONS)
def _strip(x):
    if not is_record_array(x) or not isinstance(x.dtype, ActiveRecord):
        return None
    original = x.dtype.original
    before, scope = "lifted = np.empty(x.shape, dtype)", {"strip": strip, "dtype": original.dtype}
    return _each_field("x", before, lambda x, y, field: _stored(y, field, f"strip({x})"), original, "lifted", scope)


@overload(rows, OPTIONS)
def _rows(x, out, at):
    return _written(x, "rows", rows, "out, at")


@overload(tangents, OPTIONS)
def _tangents(x, out, at, k):
    return _written(x, "tangents", tangents, "out, at, k")


def _written(x: Any, name: str, function: Any, arguments: str) -> Any:
    if not is_record_array(x):
        return None

    def each(given: str, _: str, field: Any) -> str:
        return f"at = {name}({given}, {arguments})" if n_numbers(field) else ""

    return _each_field(f"x, {arguments}", "pass", each, x.dtype, "at", {name: function})


@overload(shaped, OPTIONS)
def _shaped(x, bars, at, width):
    if not is_record_array(x):
        return None

    def each(given: str, made: str, field: Any) -> str:
        n = n_numbers(field)
        return f"{_stored(made, field, f'shaped({given}, bars, i, width)')}; i += {n}" if n else ""

    before, scope = "lifted, i = np.zeros(x.shape, dtype), at", {"shaped": shaped, "dtype": x.dtype.dtype}
    return _each_field("x, bars, at, width", before, each, x.dtype, "lifted", scope)


# --- from Python ------------------------------------------------------------------------------------------------------


def width(dtype: np.dtype[Any]) -> int:
    """How many numbers with derivatives a record of a dtype has; 0 where it isn't one of records."""
    return sum(n for *_, n in _numbers_of(dtype))


def has_numbers(dtype: np.dtype[Any]) -> bool:
    """Whether an array of a dtype has numbers that can have derivatives."""
    return dtype in DTYPES or width(dtype) > 0


@functools.cache
def _numbers_of(dtype: np.dtype[Any], path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], np.dtype[Any], int]]:
    """The fields of floats, in the order of memory: the names that lead to each, its dtype, how many numbers."""
    found = []
    fields = dtype.fields or {}
    for name in sorted(fields, key=lambda name: fields[name][1]):
        base, shape = fields[name][0].subdtype or (fields[name][0], ())
        if base.fields:
            found += _numbers_of(base, (*path, name))
        elif base in DTYPES:
            found.append(((*path, name), base, int(np.prod(shape)) * (2 if base == np.complex128 else 1)))
    return found


def _field(array: np.ndarray, path: tuple[str, ...]) -> np.ndarray:
    return functools.reduce(lambda a, name: a[name], path, array)


def are(value: Any) -> bool:
    """Whether a value is an array of records."""
    return isinstance(value, np.ndarray) and value.dtype.fields is not None


def flat(array: Any, like: Any) -> np.ndarray:
    """The numbers of a tangent, or a cotangent, of an array of records, one after the other."""
    if not (are(array) and are(like) and array.dtype == like.dtype):
        given, wanted = (f"an array of {np.asarray(a).dtype}" for a in (array, like))
        raise TypeError(f"a tangent, or cotangent, of {wanted} is of that dtype too, not {given}")
    parts = []
    for path, dtype, n in _numbers_of(array.dtype):
        wide = np.complex128 if dtype == np.complex128 else np.float64
        parts.append(np.ascontiguousarray(_field(array, path), wide).reshape(-1).view(np.float64).reshape(-1, n))
    return np.concatenate(parts, axis=1).reshape(-1)


def from_flat(numbers: np.ndarray, like: np.ndarray) -> np.ndarray:
    """An array of records of numbers; further dimensions of these, before the last, stay in front."""
    made = np.zeros(numbers.shape[:-1] + like.shape, like.dtype)
    columns, at = numbers.reshape(*made.shape, -1), 0
    for path, dtype, n in _numbers_of(like.dtype):
        part, field = np.ascontiguousarray(columns[..., at : at + n]), _field(made, path)
        field[...] = (part.view(np.complex128) if dtype == np.complex128 else part).reshape(field.shape)
        at += n
    return made


def _as_array(record: Any) -> np.ndarray:
    array = np.empty(1, record.dtype)
    array[0] = record
    return array


for _kind in (np.void, np.record):
    trees.declare(_kind, lambda record: ((), [_as_array(record)]), lambda _, items: items[0][..., 0][()])


class _Dtype:
    """What stands for a dtype of records that a function names, to make arrays of it."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype

    def of(self, kind: Active) -> Any:
        """The type of records with derivatives."""
        return active_record(from_struct_dtype(self.dtype), kind)


def _replaced_record(known: Any) -> _Dtype | None:
    return _Dtype(known) if isinstance(known, np.dtype) and width(known) else None


rewriting.REPLACED.append(_replaced_record)
