"""The scalar types that stand in for float64 in differentiated code, as Numba sees them.

      Taped(n)   | value f8 | tangent f8 x n | row i8 |    recorded: the row whose adjoint is its own; 0 where passive
      Dual(n)    | value f8 | tangent f8 x n |             forward mode: nothing is recorded

Arrays, tuples, lists and dictionaries of them are Numba's own, with these as their elements: so indexing, slicing and
views need nothing from us. A float, an int or a bool turns into an active scalar of itself (row 0, tangents 0), which
is how `s = 0.0` and `s += x[i]` come to have one type. There is no way back: code that would turn an active scalar
into a plain number has no type, and the user is told (`errors.py`), instead of a gradient silently wrong.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.datamodel import models
from numba.core.imputils import lower_constant
from numba.core.typeconv import Conversion
from numba.extending import lower_cast, register_model, typeof_impl

DOUBLE, WORD = ir.DoubleType(), ir.IntType(64)


class Active(types.Hashable):
    """A scalar that carries derivatives, in one way or the other.

    It is no `types.Number`: Numba would ask which NumPy dtype it has.
    """

    def __init__(self, n_tangents: int) -> None:
        self.n_tangents = n_tangents
        super().__init__(name=f"{type(self).__name__}({n_tangents})")

    def can_convert_from(self, typingctx: Any, other: Any) -> Any:
        """A plain number may become active: this is what unifies `0.0` with an active value."""
        return Conversion.safe if isinstance(other, PASSIVE) else None


class Taped(Active):
    """Recorded on the tape; with tangents, for forward over reverse."""


class Dual(Active):
    """Forward mode, in registers."""


PASSIVE = (types.Float, types.Integer, types.Boolean)


class Tangents(types.Type):
    """So many float64: an LLVM array, since a vector's alignment is not that of an array's elements."""

    def __init__(self, n: int) -> None:
        self.n = n
        super().__init__(name=f"Tangents({n})")


@register_model(Tangents)
class _TangentsModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Tangents) -> None:
        super().__init__(manager, kind, ir.ArrayType(DOUBLE, kind.n))


@register_model(Taped)
class _TapedModel(models.StructModel):
    def __init__(self, manager: Any, kind: Taped) -> None:
        members = [("value", types.float64), ("tangent", Tangents(kind.n_tangents)), ("row", types.int64)]
        super().__init__(manager, kind, [m for m in members if m[0] != "tangent" or kind.n_tangents])


@register_model(Dual)
class _DualModel(models.StructModel):
    def __init__(self, manager: Any, kind: Dual) -> None:
        super().__init__(manager, kind, [("value", types.float64), ("tangent", Tangents(kind.n_tangents))])


@typeof_impl.register(Active)
def _typeof(value: Active, context: Any) -> Any:
    return types.TypeRef(value)


def is_active_array(kind: Any) -> bool:
    """Whether a type is that of an array of active scalars."""
    return isinstance(kind, types.Array) and isinstance(kind.dtype, Active)


def is_instance(kind: Any) -> bool:
    """Whether a type is that of instances of a user's class."""
    return isinstance(kind, (types.ClassInstanceType, types.StructRef))


def holds_active(kind: Any) -> bool:
    """Whether an active scalar is in there: in an array, a container, an optional, an iterator, an instance."""
    if isinstance(kind, Active):
        return True
    if isinstance(kind, types.ClassInstanceType):
        return getattr(kind.class_type, "is_active", False)
    if isinstance(kind, types.StructRef):
        return any(map(holds_active, kind.field_dict.values()))
    for name in ("dtype", "types", "type", "item_type", "key_type", "value_type", "yield_type", "container",
                 "array_type", "iterable", "source_types", "parent"):  # fmt: skip
        part = getattr(kind, name, None)
        parts = part if isinstance(part, (tuple, list)) else (part,)
        if any(isinstance(p, types.Type) and p is not kind and holds_active(p) for p in parts):
            return True
    return False


@lower_cast(types.Float, Active)
@lower_cast(types.Integer, Active)
@lower_cast(types.Boolean, Active)
@lower_cast(types.IntegerLiteral, Active)
@lower_cast(types.BooleanLiteral, Active)
def _passive_to_active(context: Any, builder: Any, given: Any, wanted: Active, value: Any) -> Any:
    number = context.cast(builder, value, given, types.float64)
    return builder.insert_value(ir.Constant(context.get_value_type(wanted), None), number, 0)


@lower_constant(Active)
def _constant(context: Any, builder: Any, kind: Active, value: Any) -> Any:
    number = context.get_constant(types.float64, float(value))
    return builder.insert_value(ir.Constant(context.get_value_type(kind), None), number, 0)
