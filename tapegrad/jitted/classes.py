"""Instances of users' classes (`jitclass`, `structref`) whose fields hold active scalars.

A jitclass declares the types of its fields. In differentiated code another stands for it, with active scalars in the
place of float64 and with the methods compiled for them. An instance that is an argument is copied into one of that,
its arrays too, and what the function changed is written back. A structref's type is made of its fields' types anyway.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, typeof
from numba.core import cgutils, imputils, types
from numba.core.datamodel import models
from numba.core.registry import cpu_target
from numba.experimental import structref
from numba.experimental.jitclass import base, boxing
from numba.extending import intrinsic, overload, register_model
from numba.typed import Dict, List

from tapegrad import trees
from tapegrad.jitted import rewriting
from tapegrad.jitted.active import Active, fields_of, holds_active, is_instance
from tapegrad.jitted.errors import NotDifferentiableError, where_is_function
from tapegrad.jitted.inner import OPTIONS, define
from tapegrad.jitted.lifting import give_back, keep, own, strip

CONTAINERS = (list, List, Dict)  # that are copied where the function writes to them
INSTANCES = (boxing._box.Box, structref.StructRefProxy)  # of users' classes, as Python has them


class ActiveClass(types.ClassType):  # type: ignore[misc, name-defined]
    """What stands for a jitclass in differentiated code."""

    is_active = True

    def get_impl_key(self, sig: Any) -> Any:
        """Numba's own code makes instances."""
        return types.ClassType


register_model(ActiveClass)(models.OpaqueModel)


@functools.cache
def active_class(original: Any, kind: Active) -> ActiveClass:
    """The class that stands for another, given its type."""
    struct = {name: _active_field(original, field, kind) for name, field in original.struct.items()}

    def others(jitted: dict[str, Any]) -> dict[str, Any]:
        return {name: rewriting.active(function, kind) for name, function in jitted.items()}

    props = {name: others(both) for name, both in original.jit_props.items()}
    made = type(original.class_name, (), {"__doc__": original.class_doc})
    known = ActiveClass(
        made, base.ConstructorTemplate, struct, others(original.jit_methods), props, others(original.jit_static_methods)
    )
    cpu_target.typing_context.insert_global(made, known)
    known.python = made
    return known


def _active_field(original: Any, field: Any, kind: Active) -> Any:
    """The type of a field: with active scalars for float64."""
    if field == types.float64:
        return kind
    if isinstance(field, types.Array) and field.dtype == types.float64:
        return field.copy(dtype=kind)
    if isinstance(field, types.ClassInstanceType):
        return active_class(field.class_type, kind).instance_type
    if isinstance(field, types.ListType):
        return types.ListType(_active_field(original, field.item_type, kind))
    if isinstance(field, types.DictType):
        return types.DictType(field.key_type, _active_field(original, field.value_type, kind))
    if isinstance(field, types.BaseTuple) and not isinstance(field, types.BaseNamedTuple):
        return types.BaseTuple.from_types([_active_field(original, part, kind) for part in field])
    if isinstance(field, types.Optional):
        return types.Optional(_active_field(original, field.type, kind))
    if isinstance(field, types.DeferredType):
        return _deferred(original, field, kind)
    return field


class ActiveDeferred(types.DeferredType):  # type: ignore[misc, name-defined]
    """What stands for a type that was declared before it was known: of a node of a tree that has nodes, say."""

    def __init__(self, original: Any, field: Any, kind: Active) -> None:
        super().__init__()
        self.known = original, field, kind

    def get(self) -> Any:
        """The type, which is asked for when all are known."""
        original, field, kind = self.known
        return _active_field(original, field.get(), kind)


_deferred = functools.cache(ActiveDeferred)
register_model(ActiveDeferred)(models.DeferredStructModel)


class _Replacement:
    """A jitclass's, by the active type."""

    def __init__(self, original: Any) -> None:
        self.original = original

    def of(self, kind: Active) -> Any:
        """The object that means the class which stands for it."""
        return active_class(self.original.class_type, kind).python


@functools.cache
def _replacement(known: Any) -> _Replacement | None:
    return _Replacement(known) if isinstance(known, base.JitClassType) else None


rewriting.REPLACED.append(_replacement)


def refuse_shared(function: Any, args: Any) -> None:
    """Raise ValueError where what is copied, and written back, would be one memory in two of a call's arguments."""
    held = [a for a in args if isinstance(a, (*CONTAINERS, *INSTANCES))]
    if not held:
        return
    arrays = [leaf for leaf in trees.leaves(list(args)) if isinstance(leaf, np.ndarray)]
    arrays += [array for a in held if isinstance(a, INSTANCES) for array in _arrays_in(a)]
    pairs = itertools.combinations(arrays, 2)
    if len(set(map(id, held))) < len(held) or any(np.may_share_memory(a, b) for a, b in pairs):
        raise ValueError(
            f"{function.__name__} is given memory that is shared, in lists, dictionaries or instances that it may "
            "write to: give copies"
        )


def _arrays_in(instance: Any) -> list[np.ndarray]:
    kind = typeof(instance)
    return [
        found
        for name, field in (fields_of(kind) or {}).items()
        if isinstance(field, types.Array) or is_instance(field)
        for value in [_getter(name)(instance)]
        for found in ([value] if isinstance(field, types.Array) else _arrays_in(value))
    ]


@functools.cache
def _getter(name: str) -> Any:
    return njit(define(f"def get(x):\n return x.{name}", "get", {}))


def copied(x):
    """A copy of an instance, with what it holds."""
    raise NotImplementedError


@overload(copied, OPTIONS)
def _copied(x):
    if is_instance(x):
        scope = {"new": structref.new, "made": x, "maker": _maker(x), "copied": copied}
        lines = ["def over(x):", f" y = {_new(x)}", *(f" y.{name} = copied(x.{name})" for name in fields_of(x) or ())]
        return define("\n".join([*lines, " return y"]), "over", scope)
    if isinstance(x, (types.Array, types.ListType, types.DictType)):
        return lambda x: x.copy()
    return lambda x: x


@njit
def copy_of(instance):
    """For Python: a copy of an instance, with what it holds."""
    return copied(instance)


# --- arguments --------------------------------------------------------------------------------------------------------


def _active_instance(kind: Any, active: Active) -> Any:
    """The type of instances that stand for others."""
    if isinstance(kind, types.ClassInstanceType):
        for field in kind.struct.values():
            if isinstance(field, (types.Optional, types.DeferredType)):
                raise NotDifferentiableError(
                    f"an instance of the jitclass `{kind.classname}` as an argument, which has a field of type {field}",
                    where_is_function(kind.jit_methods["__init__"].py_func), "make it inside of the function",
                )  # fmt: skip
        return active_class(kind.class_type, active).instance_type
    return type(kind)([(name, _active_field(kind, field, active)) for name, field in kind._fields])


def _new(made: Any) -> str:
    """The expression of a new instance."""
    return "new(made)" if isinstance(made, types.StructRef) else "maker()"


@functools.cache
def _maker(made: Any) -> Any:
    """A function that makes an instance of a jitclass, without fields yet."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data_type = context.get_data_type(made.get_data_type())
        destructor = base.imp_dtor(context, builder.module, made)
        size = context.get_constant(types.uintp, context.get_abi_sizeof(data_type))
        meminfo = context.nrt.meminfo_alloc_dtor(builder, size, destructor)
        pointer = builder.bitcast(context.nrt.meminfo_data(builder, meminfo), data_type.as_pointer())
        builder.store(cgutils.get_null_value(data_type), pointer)
        instance = cgutils.create_struct_proxy(made)(context, builder)
        instance.meminfo, instance.data = meminfo, pointer
        return imputils.impl_ret_new_ref(context, builder, made, instance._getvalue())

    return intrinsic(define("def maker(typingctx):\n return found", "maker", {"found": (made(), codegen)}))


def _own_instance(x: Any, kind: Active) -> Callable[..., Any]:
    made = _active_instance(x, kind)
    scope = {"new": structref.new, "made": made, "maker": _maker(made), "own": own}
    lines = [
        "def over(kind, x):",
        f" y = {_new(made)}",
        *(f" y.{name} = own(kind, x.{name})" for name in fields_of(x) or ()),
    ]
    over: Callable[..., Any] = define("\n".join([*lines, " return y"]), "over", scope)
    return over


def _give_back_instance(x: Any) -> Callable[..., Any]:
    fields = fields_of(x) or {}
    lines = [f" x.{name} = returned(x.{name}, lifted.{name})" for name in fields]
    text = "\n".join(["def over(x, lifted):", *lines, " return None"])
    over: Callable[..., Any] = define(text, "over", {"returned": returned})
    return over


def returned(x, lifted):
    """A field that the function may have changed: what it is now."""
    raise NotImplementedError


@overload(returned, OPTIONS)
def _returned(x, lifted):
    if isinstance(x, types.Array) and isinstance(lifted.dtype, Active):

        def array_returned(x, lifted):
            if x.shape != lifted.shape:
                return strip(lifted)
            give_back(x, lifted)
            return x

        return array_returned
    if fields_of(x) is not None or isinstance(x, (types.ListType, types.DictType)):

        def written(x, lifted):
            give_back(x, lifted)
            return x

        return written
    return (lambda x, lifted: strip(lifted)) if holds_active(lifted) else (lambda x, lifted: lifted)


@overload(own, OPTIONS)
def _own(kind, x):
    return _own_instance(x, kind.instance_type) if is_instance(x) else None


@overload(give_back, OPTIONS)
def _give_back(x, lifted):
    if not is_instance(x):
        return None
    return _give_back_instance(x) if is_instance(lifted) and lifted != x else lambda x, lifted: None


@overload(keep, OPTIONS)
def _keep(kind, x):
    if isinstance(x, types.ClassInstanceType):  # its methods are compiled for plain numbers: a copy stands for it
        raise NotDifferentiableError(
            f"an instance of the jitclass `{x.classname}`", where_is_function(x.jit_methods["__init__"].py_func),
            "give numbers and arrays",
        )  # fmt: skip
    return (lambda kind, x: x) if is_instance(x) else None
