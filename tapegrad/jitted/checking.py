"""What active values may meet: the constructs that are known to be differentiated, and a check for others.

Numba's own generic code would accept an active array in places where it means something else: the bytes of an element,
a view as integers. So nothing is allowed but what is listed.
"""

from __future__ import annotations

import functools
import operator
from typing import Any

import numpy as np
from numba import literal_unroll, prange
from numba.core import ir, types
from numba.core.inline_closurecall import length_of_iterator
from numba.core.registry import cpu_target
from numba.experimental.structref import StructRefProxy
from numba.extending import intrinsic, overload
from numba.np.unsafe.ndarray import empty_inferred
from numba.stencils.stencil import StencilFunc

from tapegrad.jitted.active import (
    WITH_DERIVATIVES,
    Active,
    Complex,
    Narrow,
    NumberClass,
    holds_active,
    is_record_array,
)
from tapegrad.jitted.choices import Choice
from tapegrad.jitted.errors import NotDifferentiableError, where_is
from tapegrad.jitted.inner import OPTIONS
from tapegrad.jitted.names import PIECEWISE, RULES

# Functions that move values, or look at shapes: Numba's own code for them serves any element.
STRUCTURAL = {
    len, range, prange, enumerate, zip, map, filter, iter, next, tuple, list, set, dict, hash, isinstance, type, print,
    reversed, slice,
    operator.getitem, operator.setitem, operator.is_, operator.is_not, operator.contains, operator.add, operator.iadd,
    operator.mul, operator.imul, operator.eq, operator.ne, operator.matmul, operator.imatmul,
    np.ndindex, np.ndenumerate, np.nditer, np.shape, np.size, np.ravel, np.reshape, np.transpose, np.atleast_1d,
    np.atleast_2d, np.atleast_3d, np.expand_dims, np.broadcast_to, np.ascontiguousarray, np.asfortranarray,
    np.flip, np.flipud, np.fliplr, np.swapaxes, np.copy, np.split, np.array_split, np.rot90, np.moveaxis, np.vsplit,
    np.hsplit, np.dsplit, np.broadcast_arrays, length_of_iterator, empty_inferred, literal_unroll,
}  # fmt: skip
ALLOWED: set[Any] = STRUCTURAL | set(RULES) | set(PIECEWISE)  # `arrays.py` and those beside it add theirs
ARRAY_METHODS = {"copy", "flatten", "ravel", "reshape", "transpose", "fill"}
CONTAINER_METHODS = {
    "append", "extend", "insert", "pop", "clear", "copy", "reverse", "index", "count", "get", "items", "keys", "values",
    "setdefault", "update", "popitem", "remove", "empty_list", "empty", "add", "discard", "union", "intersection",
    "difference", "symmetric_difference", "difference_update", "intersection_update", "symmetric_difference_update",
    "isdisjoint", "issubset", "issuperset", "__setitem__",
}  # fmt: skip
ARRAY_ATTRIBUTES = {"shape", "ndim", "size", "T", "flat", "dtype"}


def check(func_ir: Any, typemap: dict[str, Any], calltypes: dict[Any, Any]) -> None:
    """Raise NotDifferentiableError at the first construct that isn't known."""
    for block in func_ir.blocks.values():
        for statement in block.body:
            value = statement.value if isinstance(statement, ir.Assign) else None
            if isinstance(value, ir.Expr) and value.op == "call":
                signature, kind = calltypes[value], typemap[value.func.name]
                met = [signature.return_type, *signature.args, getattr(kind, "this", None)]
                if isinstance(kind, types.ObjModeDispatcher):
                    met += [typemap[argument.name] for argument in value.args]
                if any(map(holds_active, met)):
                    _check_call(kind, statement.loc)
            elif isinstance(value, ir.Expr) and value.op == "getattr":
                owner = typemap[value.value.name]
                is_method = isinstance(typemap[statement.target.name], types.BoundFunction)
                is_array = isinstance(owner, types.Array) and isinstance(owner.dtype, WITH_DERIVATIVES)
                is_field = is_record_array(owner) and value.attr in owner.dtype.fields
                if is_array and value.attr not in ARRAY_ATTRIBUTES and not (is_method or is_field):
                    raise NotDifferentiableError(
                        f"the attribute `{value.attr}` of an array that carries derivatives", where_is(statement.loc),
                        "it tells of the memory of plain numbers: compute it from shape and size",
                    )  # fmt: skip


def _check_call(kind: Any, loc: Any) -> None:
    if isinstance(kind, types.ObjModeDispatcher):
        raise NotDifferentiableError(
            "an `objmode` block that is given values with derivatives", where_is(loc),
            "Python's own code records nothing: put it into a function, and give that a derivative with "
            "tapegrad.custom_rule",
        )  # fmt: skip
    if isinstance(kind, types.Dispatcher):
        if hasattr(kind.dispatcher, "original"):
            return
        name = kind.dispatcher.py_func.__name__
    elif isinstance(kind, types.TypeRef) and kind.instance_type in (types.ListType, types.DictType):
        return  # typed lists, and dictionaries, of what is put into them
    elif isinstance(kind, (types.RecursiveCall, types.NamedTupleClass, types.NumberClass, NumberClass, Choice)):
        return
    elif getattr(kind, "is_active", False):
        return  # a class whose instances hold active scalars: `classes.py`
    elif isinstance(kind, types.BoundFunction) and isinstance(kind.this, types.ClassInstanceType):
        if holds_active(kind.this):
            return
        name = str(kind.typing_key[-1])
    elif isinstance(kind, types.BoundFunction):
        key = kind.typing_key
        name = str(key[-1] if isinstance(key, tuple) else getattr(key, "__name__", key)).rpartition(".")[2]
        allowed = ARRAY_METHODS if isinstance(kind.this, types.Array) else CONTAINER_METHODS
        if name in allowed:
            return
    elif isinstance(kind, types.Function):
        key = kind.typing_key
        if key in ALLOWED or (isinstance(key, type) and issubclass(key, StructRefProxy)):
            return
        name = key.kernel_ir.func_id.func_name if isinstance(key, StencilFunc) else getattr(key, "__name__", str(key))
        if name == "resolve_hasattr":
            return  # which is known from the type
        name = name.removeprefix("resolve_")  # of Numba's, for `getattr`
    else:
        name = str(kind)
    raise NotDifferentiableError(
        f"`{name}` of a value that carries derivatives", where_is(loc),
        "compute it with functions that are differentiated, or give its derivative with tapegrad.custom_rule",
    )  # fmt: skip


def _promoted(kind: Active, x: Any, within: bool) -> Any:
    """The type of a number with derivatives for that of a float, or of a complex number; of tuples, `within` them."""
    if within and isinstance(x, types.BaseTuple) and not isinstance(x, types.BaseNamedTuple):
        return types.BaseTuple.from_types([_promoted(kind, part, within) for part in x]) if len(x) else x
    if x == types.complex128:
        return Complex(kind)
    return (Narrow(kind) if x == types.float32 else kind) if isinstance(x, types.Float) else x


@functools.cache
def promote_to(kind: Active, within: bool) -> Any:
    """A function for jitted code: a float, or a complex number, as an active one, all else as it is."""

    @intrinsic
    def convert(typingctx: Any, x: Any) -> Any:
        made = _promoted(kind, x, within)
        return made(x), lambda context, builder, sig, args: context.cast(builder, args[0], sig.args[0], made)

    def promote(x):
        raise NotImplementedError

    @overload(promote, OPTIONS)
    def _promote(x):
        return (lambda x: x) if _promoted(kind, x, within) == x else (lambda x: convert(x))

    make_known(promote)
    return promote


def make_known(stub: Any) -> None:
    """Allow a function of ours, and have Numba look for its types, even while it compiles what calls it."""
    ALLOWED.add(stub)
    refresh()


def refresh() -> None:
    """Have Numba look for what was made known to it since it last did."""
    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()
