"""Arguments that are read in place: arrays whose elements are independents, and of which no active array is made.

      array    the user's own
      row      of its first element; those of the others follow, as by rows

A function may be given one where it only reads elements, the shape and the size of the argument, by itself, and where
the sweep is over before the caller has the array back: as its values don't change, a nest needs no copies of them.
"""

from __future__ import annotations

import functools
import operator
from collections import defaultdict
from typing import Any, NamedTuple

from numba.core import cgutils, compiler, ir, types
from numba.core.imputils import impl_ret_borrowed, lower_builtin, lower_getattr_generic
from numba.core.registry import CPUDispatcher
from numba.core.typing import signature
from numba.core.typing.templates import AbstractTemplate, AttributeTemplate, infer_getattr, infer_global
from numba.extending import intrinsic, overload

from tapegrad.jitted.active import WORD, Independents
from tapegrad.jitted.beside import Beside
from tapegrad.jitted.checking import make_known
from tapegrad.jitted.emission import Emitter, Single
from tapegrad.jitted.inner import OPTIONS
from tapegrad.jitted.lifting import lift

_ATTRIBUTES = {"shape", "size", "ndim"}
_INTEGERS = {"binop", "inplace_binop", "unary", "pair_first", "getitem", "static_getitem"}  # or arrays of them
_FUNCTIONS = {len, int, min, max, abs}  # whose results are no slices

# --- which arguments --------------------------------------------------------------------------------------------------


class Reading(NamedTuple):
    """How an argument is read."""

    n_indices: int
    by: tuple[int, ...]  # places of arguments that are indices


_readings = Beside[dict[int, Reading]]("readings")


def only_read(function: Any) -> dict[int, Reading]:
    """The places of arguments of which a jitted function reads only elements and lengths, and how.

    It is of the function's own code: what is given to another function isn't among them.
    """
    found = _readings.get(function)
    return _readings.setdefault(function, _only_read(function)) if found is None else found


def _only_read(function: Any) -> dict[int, Reading]:
    if type(function) is not CPUDispatcher or function.locals or not function._can_compile:
        return {}
    try:
        func_ir = compiler.run_frontend(function.py_func)
    except Exception:  # noqa: BLE001 (whatever is amiss, it is told where the function is compiled)
        return {}
    uses = _Uses(func_ir)
    found = {place: uses.reading(name) for place, name in enumerate(func_ir.arg_names)}
    return {} if func_ir.is_generator else {place: how for place, how in found.items() if how is not None}


class _Uses:
    """What is done with the names in a function's code."""

    def __init__(self, func_ir: Any) -> None:
        self.values: dict[str, list[Any]] = defaultdict(list)
        self.readers: dict[str, list[Any]] = defaultdict(list)
        for block in func_ir.blocks.values():
            for statement in block.body:
                if isinstance(statement, ir.Assign):
                    self.values[statement.target.name].append(statement.value)
                    read = [statement.value] if isinstance(statement.value, ir.Var) else _read_by(statement.value)
                else:
                    read = [] if isinstance(statement, ir.Del) else statement.list_vars()
                for name in {variable.name for variable in read}:
                    self.readers[name].append(statement)

    def reading(self, name: str) -> Reading | None:
        """How an array is read; None if it isn't only read, or no element is."""
        self.by = set[int]()
        found, waiting = set[int | None](), [name]
        while waiting:
            name = waiting.pop()
            if len(self.values[name]) != 1:
                return None
            for statement in self.readers[name]:
                value = statement.value if isinstance(statement, ir.Assign) else None
                if isinstance(value, ir.Var):
                    waiting.append(statement.target.name)
                elif not isinstance(value, ir.Expr):
                    return None
                elif value.op in ("getitem", "static_getitem") and value.value.name == name:
                    found.add(self._length(value))
                elif not (value.op == "getattr" and value.attr in _ATTRIBUTES) and not self._is_of(value, {len}):
                    return None
        n_indices = found.pop() if len(found) == 1 else None
        return None if n_indices is None else Reading(n_indices, tuple(sorted(self.by)))

    def _length(self, value: Any) -> int | None:
        """How many parts an index has; None if one may be a slice."""
        if value.op == "static_getitem":
            parts = value.index if isinstance(value.index, tuple) else (value.index,)
            return len(parts) if all(type(part) is int for part in parts) else None
        made = self.values[value.index.name]
        is_tuple = len(made) == 1 and isinstance(made[0], ir.Expr) and made[0].op == "build_tuple"
        items = made[0].items if is_tuple else [value.index]
        return len(items) if all(self._is_integer(item.name, set()) for item in items) else None

    def _is_integer(self, name: str, seen: set[str]) -> bool:
        """Whether a name is an integer, as far as it can be told from code."""
        if name in seen:
            return True
        seen.add(name)
        for value in self.values[name]:
            if isinstance(value, ir.Var):
                if not self._is_integer(value.name, seen):
                    return False
            elif isinstance(value, ir.Arg):
                self.by.add(value.index)
            elif isinstance(value, ir.Expr):
                if value.op not in _INTEGERS and not self._is_of(value, _FUNCTIONS):
                    return False
            elif not isinstance(value, (ir.Const, ir.Global, ir.FreeVar)) or type(value.value) is not int:
                return False
        return bool(self.values[name])

    def _is_of(self, value: Any, functions: set[Any]) -> bool:
        """Whether an expression is a call of one of some functions."""
        if value.op != "call" or value.kws or value.vararg is not None:
            return False
        called = self.values[value.func.name]
        return len(called) == 1 and isinstance(called[0], ir.Global) and any(called[0].value is f for f in functions)


def _read_by(value: Any) -> list[Any]:
    return value.list_vars() if isinstance(value, (ir.Expr, ir.Yield)) else []


# --- how they are given -----------------------------------------------------------------------------------------------


@functools.cache
def placing(n_indices: int) -> Any:
    """A function for drivers: an argument as independents, in place if it is an array with so many indices.

    Other arguments, `by` which elements are chosen, may be slices: then it is lifted.
    """

    def place(kind, x, row, by):
        raise NotImplementedError

    @overload(place, OPTIONS)
    def _place(kind, x, row, by):
        is_array = isinstance(x, types.Array) and x.dtype == types.float64 and x.layout == "C" and x.aligned
        if is_array and x.ndim == n_indices and all(isinstance(index, (types.Integer, types.Array)) for index in by):
            return lambda kind, x, row, by: in_place(kind, x, row)
        return lambda kind, x, row, by: lift(kind, x, row, 0, None)

    make_known(place)
    return place


@intrinsic
def in_place(typingctx, kind, x, row):
    """The elements of an array as independents, whose rows begin at `row`."""
    made = Independents(kind.instance_type, x)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        result = cgutils.create_struct_proxy(made)(context, builder)
        result.array, result.row = args[1:]
        return impl_ret_borrowed(context, builder, made, result._getvalue())

    return made(kind, x, row), codegen


@intrinsic
def array_of(typingctx, x):
    """The array itself."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return impl_ret_borrowed(context, builder, x.array, builder.extract_value(args[0], 0))

    return x.array(x), codegen


@intrinsic
def first_row(typingctx, x):
    """The row of the first element."""
    return types.int64(x), lambda context, builder, sig, args: builder.extract_value(args[0], 1)


# --- what a function does with them -----------------------------------------------------------------------------------


@infer_getattr
class _Attributes(AttributeTemplate):  # type: ignore[misc]
    key = Independents

    def resolve_shape(self, x: Independents) -> Any:
        return types.UniTuple(types.intp, x.ndim)

    def resolve_size(self, x: Independents) -> Any:
        return types.intp

    resolve_ndim = resolve_size


@lower_getattr_generic(Independents)
def _attribute(context: Any, builder: Any, kind: Independents, value: Any, name: str) -> Any:
    return context.get_getattr(kind.array, name)(context, builder, kind.array, builder.extract_value(value, 0), name)


@infer_global(len)
class _Length(AbstractTemplate):  # type: ignore[misc]
    def generic(self, args: Any, kws: Any) -> Any:
        return signature(types.intp, *args) if isinstance(args[0], Independents) else None


@lower_builtin(len, Independents)
def _length(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    lengths = _attribute(context, builder, sig.args[0], args[0], "shape")
    return builder.extract_value(lengths, 0)


def _indices(x: Independents, index: Any) -> Any:
    """The types of indices that name an element; None for another kind of index."""
    kinds = list(index) if isinstance(index, types.BaseTuple) else [index]
    is_one = len(kinds) == x.ndim and all(isinstance(kind, types.Integer) for kind in kinds)
    return kinds if is_one else None


@infer_global(operator.getitem)
class _Elements(AbstractTemplate):  # type: ignore[misc]
    def generic(self, args: Any, kws: Any) -> Any:
        x, index = args
        is_element = isinstance(x, Independents) and _indices(x, index) is not None
        return signature(x.dtype, x, index) if is_element else None


@lower_builtin(operator.getitem, Independents, types.Integer)
@lower_builtin(operator.getitem, Independents, types.BaseTuple)
def _element(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    (kind, index), (value, given) = sig.args, args
    array, row = (builder.extract_value(value, k) for k in range(2))
    read = context.get_function(operator.getitem, signature(types.float64, kind.array, index))
    number = Single(Emitter(context, builder), read(builder, (array, given)))
    parts = cgutils.unpack_tuple(builder, given) if isinstance(index, types.BaseTuple) else [given]
    lengths = cgutils.unpack_tuple(builder, _attribute(context, builder, kind, value, "shape"))
    place = WORD(0)
    for part, part_kind, n in zip(parts, _indices(kind, index), lengths, strict=True):
        at = context.cast(builder, part, part_kind, types.intp)
        at = builder.select(builder.icmp_signed("<", at, WORD(0)), builder.add(at, n), at)
        place = builder.add(builder.mul(place, n), at)
    return Emitter(context, builder).pack(kind.dtype, number, builder.add(row, place))


@overload(operator.getitem, OPTIONS)
def _chosen(x, index):
    """By arrays of indices: what these choose is a copy."""
    if not isinstance(x, Independents) or _indices(x, index) is not None:
        return None
    kinds = list(index) if isinstance(index, types.BaseTuple) else [index]
    if not all(isinstance(kind, (types.Integer, types.Array)) for kind in kinds):
        return None
    kind = x.dtype
    return lambda x, index: lift(kind, array_of(x), first_row(x), 0, None)[index]
