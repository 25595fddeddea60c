"""Python's built-in functions, and its tuples, where active scalars are in them."""

from __future__ import annotations

import operator
from typing import Any

from numba.core import cgutils, types
from numba.core.imputils import impl_ret_borrowed
from numba.core.typing.templates import AbstractTemplate, AttributeTemplate, infer, infer_getattr, signature
from numba.extending import intrinsic, lower_builtin, overload, overload_method

from tapegrad.jitted import rewriting
from tapegrad.jitted.active import Active, Complex, Narrow, NumberClass
from tapegrad.jitted.checking import ALLOWED
from tapegrad.jitted.inner import OPTIONS
from tapegrad.jitted.library import replaces
from tapegrad.jitted.lifting import strip, value_of


@overload_method(Active, "__hash__", jit_options=OPTIONS)
def _hash(x):
    """Of the value: sets and dictionaries tell values apart."""
    return lambda x: hash(value_of(x))


@overload_method(Active, "__str__", jit_options=OPTIONS)
def _str(x):
    """Of the value, as Numba has it."""
    return lambda x: str(value_of(x))


@overload_method(Active, "__repr__", jit_options=OPTIONS)
def _repr(x):
    """Likewise."""
    return lambda x: repr(value_of(x))


ALLOWED.update((str, repr))


@overload(isinstance, OPTIONS)
def _isinstance(var, typs):
    """An active number is the float, or the complex one, that it stands for."""
    if not isinstance(var, (Active, Complex)):
        return None
    asked = list(typs) if isinstance(typs, types.BaseTuple) else [typs]
    own = float if isinstance(var, Active) else complex
    is_own = any(getattr(kind, "typing_key", None) is own for kind in asked)
    return (lambda var, typs: True) if is_own else (lambda var, typs: False)


# --- sets of active scalars, from which a float is taken --------------------------------------------------------------


@intrinsic
def _as_item(typingctx, items, x):
    """A number as an item of a container."""
    return items.dtype(items, x), lambda context, builder, sig, args: context.cast(builder, args[1], x, items.dtype)


def _takes_items(kind: Any) -> bool:
    return isinstance(kind, types.Set) and isinstance(kind.dtype, Active)


@replaces(None, method="discard", is_single=True)
def discard(items, x):
    """Take an item away, if it is there."""
    if _takes_items(items):
        return lambda items, x: items.discard(_as_item(items, x))
    return lambda items, x: items.discard(x)


@replaces(None, method="remove", is_single=True)
def remove(items, x):
    """Take an item away, which must be there."""
    if _takes_items(items):
        return lambda items, x: items.remove(_as_item(items, x))
    return lambda items, x: items.remove(x)


# --- the class of a number --------------------------------------------------------------------------------------------


@lower_builtin(NumberClass, types.Any)
def _converted(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return context.cast(builder, args[0], sig.args[0], sig.return_type)


def _declare_whole(kind: Any) -> None:
    """The class of NumPy's integers of a type, or of its bools, of a number with derivatives: of its value."""

    @infer
    class _Whole(AbstractTemplate):
        key = types.NumberClass(kind)

        def generic(self, args: Any, kws: Any) -> Any:
            is_one = len(args) == 1 and not kws and isinstance(args[0], (Active, Narrow))
            return signature(kind, args[0]) if is_one else None


for _kind in (*types.integer_domain, types.boolean):
    _declare_whole(_kind)


@lower_builtin(types.NumberClass, Active)
@lower_builtin(types.NumberClass, Narrow)
def _as_whole(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    def plain(x):
        return strip(x)

    given = types.float32 if isinstance(sig.args[0], Narrow) else types.float64
    value = context.compile_internal(builder, plain, signature(given, *sig.args), args)
    return context.cast(builder, value, given, sig.return_type)


@infer_getattr
class _ActiveAttribute(AttributeTemplate):
    key = Active

    def resolve___class__(self, kind: Any) -> Any:
        return NumberClass(kind)


@infer_getattr
class _ComplexAttribute(_ActiveAttribute):
    key = Complex


@infer_getattr
class _NarrowAttribute(_ActiveAttribute):
    key = Narrow


@intrinsic
def _class_of_dtype(typingctx, dtype):
    made = NumberClass(dtype.dtype)
    return made(dtype), lambda context, builder, sig, args: context.get_dummy_value()


def of_dtype(dtype):
    """`dtype.type`."""
    raise NotImplementedError


@overload(of_dtype, OPTIONS)
def _of_dtype(dtype):
    if isinstance(dtype, types.DType) and isinstance(dtype.dtype, (Active, Complex, Narrow)):
        return lambda dtype: _class_of_dtype(dtype)
    return lambda dtype: dtype.type


ALLOWED.add(of_dtype)


class _TypeOfDType:
    """What stands for an attribute `type`."""

    @staticmethod
    def of(kind: Active) -> Any:
        """The function for jitted code."""
        return of_dtype


rewriting.ATTRIBUTES["type"] = _TypeOfDType


# --- tuples of active scalars and floats, which are of one type in the plain function ---------------------------------


def _item(kind: Any) -> Any:
    """The type of all items of a tuple of active scalars and floats, or of complex numbers; None of other tuples."""
    if not isinstance(kind, types.BaseTuple) or isinstance(kind, types.BaseNamedTuple):
        return None
    found = {k for k in kind.types if isinstance(k, (Active, Complex))}
    if len(found) != 1:
        return None
    item = found.pop()
    alike = (Active, types.Float) if isinstance(item, Active) else (Complex, types.Complex)
    return item if all(isinstance(k, alike) for k in kind.types) else None


def as_sequence(x):
    """What is gone through: a tuple of active scalars and floats as one of active scalars."""
    raise NotImplementedError


@overload(as_sequence, OPTIONS)
def _as_sequence(x):
    is_mixed = isinstance(x, types.Tuple) and _item(x) is not None
    return (lambda x: uniform(x)) if is_mixed else (lambda x: x)


ALLOWED.add(as_sequence)
rewriting.ITERATING.update(dict.fromkeys((enumerate, zip, reversed, list, map, filter), as_sequence))


@intrinsic
def uniform(typingctx, items):
    """A tuple of active scalars and floats, as active scalars."""
    kind = types.UniTuple(_item(items), len(items))

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        values = cgutils.unpack_tuple(builder, args[0], len(items))
        cast = [context.cast(builder, v, k, kind.dtype) for v, k in zip(values, sig.args[0].types, strict=True)]
        return impl_ret_borrowed(context, builder, kind, context.make_tuple(builder, kind, cast))

    return kind(items), codegen


@overload(operator.getitem, OPTIONS)
def _getitem(items, index):
    if isinstance(items, types.Tuple) and _item(items) is not None and isinstance(index, types.Integer):
        return lambda items, index: uniform(items)[index]
    return None


@infer
class _Iterated(AbstractTemplate):
    key = "getiter"

    def generic(self, args: Any, kws: Any) -> Any:
        (items,) = args
        if isinstance(items, types.Tuple) and (kind := _item(items)) is not None:
            return signature(types.UniTuple(kind, len(items)).iterator_type, items)
        return None


@lower_builtin("getiter", types.Tuple)
def _iterate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    kind = types.UniTuple(sig.return_type.container.dtype, len(sig.args[0]))
    values = cgutils.unpack_tuple(builder, args[0], len(kind))
    cast = [context.cast(builder, v, k, kind.dtype) for v, k in zip(values, sig.args[0].types, strict=True)]
    code = context.get_function("getiter", signature(sig.return_type, kind))
    return code(builder, [context.make_tuple(builder, kind, cast)])
