"""The scalar types that stand in for float64 in differentiated code, as Numba sees them.

      Taped(n)   | value f8 | tangent f8 x n | row i8 |    recorded: the row whose adjoint is its own; 0 where passive
      Dual(n)    | value f8 | tangent f8 x n |             forward mode: nothing is recorded

For derivatives of higher orders both have a depth, of d directions at once. Tangent S - 1 is then the mixed derivative
along those directions whose bits are set in S, and n is 2**d - 1: of two directions u and v, the tangents are those
along u, along v, and along both.

Arrays, tuples, lists and dictionaries of them are Numba's own, with these as their elements: so indexing, slicing and
views need nothing from us. A float, an int or a bool turns into an active scalar of itself (row 0, tangents 0), which
is how `s = 0.0` and `s += x[i]` come to have one type. There is no way back: code that would turn an active scalar
into a plain number has no type, and the user is told (`errors.py`), instead of a gradient silently wrong.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types, typing
from numba.core.datamodel import models
from numba.core.imputils import lower_constant
from numba.core.registry import cpu_target
from numba.core.typeconv import Conversion
from numba.extending import lower_cast, register_model, typeof_impl

DOUBLE, WORD = ir.DoubleType(), ir.IntType(64)
ALIGNMENT = 8  # of float64, and so of all that is made of them
WIDTHS = 2, 4, 8, 16  # of vectors of float64: LLVM makes several of one that the processor doesn't have


DTYPES = np.dtype(np.float64), np.dtype(np.float32), np.dtype(np.complex128)  # of numbers with derivatives


class Active(types.Hashable):
    """A scalar that carries derivatives, in one way or the other.

    It is no `types.Number`: Numba would ask which NumPy dtype it has.
    """

    def __init__(self, n_tangents: int, depth: int = 1) -> None:
        self.n_tangents, self.depth = n_tangents, depth
        self.is_wide = depth == 1 and n_tangents in WIDTHS  # its tangents are one vector, in one register
        super().__init__(name=f"{type(self).__name__}({n_tangents}{f', {depth}' if depth > 1 else ''})")

    @property
    def bitwidth(self) -> int:
        """As Numba asks for it, of the elements of an array in a record."""
        return 8 * size_of(self)

    def can_convert_from(self, typingctx: Any, other: Any) -> Any:
        """A plain number may become active: this is what unifies `0.0` with an active value."""
        is_narrow = isinstance(other, Narrow) and other.part == self
        return Conversion.safe if is_narrow or isinstance(other, PASSIVE) else None


class Taped(Active):
    """Recorded on the tape; with tangents, for forward over reverse."""


class Dual(Active):
    """Forward mode, in registers."""


PASSIVE = (types.Float, types.Integer, types.Boolean)


class Complex(types.Hashable):
    """A complex number of two active scalars, its real and its imaginary part, which are neighbours in memory."""

    def __init__(self, part: Active) -> None:
        self.part = part
        super().__init__(name=f"Complex({part})")

    @property
    def bitwidth(self) -> int:
        """As Numba asks for it."""
        return 8 * size_of(self)

    def can_convert_from(self, typingctx: Any, other: Any) -> Any:
        """A plain number, or a real one, may become it."""
        is_number = other == self.part or other == types.complex128 or isinstance(other, PASSIVE)
        return Conversion.safe if is_number else None


class NumberClass(types.Callable, types.DTypeSpec, types.Opaque):  # type: ignore[misc]
    """The class of active numbers, as `type(x)` and `array.dtype.type` have it: it makes one of what it is called with.

    Numba's own of this name knows plain numbers alone.
    """

    def __init__(self, instance_type: Any) -> None:
        self.instance_type = instance_type
        super().__init__(f"class({instance_type})")

    @property
    def dtype(self) -> Any:
        """The type of the elements of arrays that are made with it."""
        return self.instance_type

    def get_call_type(self, context: Any, args: Any, kws: Any) -> Any:
        """A number of another type is converted; one that is active in double precision can't become narrow so."""
        is_number = len(args) == 1 and not kws and context.can_convert(args[0], self.instance_type) is not None
        return typing.signature(self.instance_type, *args) if is_number else None

    def get_call_signatures(self) -> tuple[tuple[()], bool]:
        """There are none that could be listed."""
        return (), True

    def get_impl_key(self, sig: Any) -> Any:
        """One for all."""
        return type(self)


register_model(NumberClass)(models.OpaqueModel)


class Independents(types.Type):
    """An array of the user's, whose elements are independents with rows that follow each other: `independents.py`."""

    def __init__(self, dtype: Active, array: types.Array) -> None:
        self.dtype, self.array, self.ndim = dtype, array, array.ndim
        super().__init__(name=f"Independents({dtype}, {array})")


class Tangents(types.Type):
    """So many float64 side by side: an LLVM vector where they go through operations together, otherwise an array."""

    def __init__(self, n: int, is_wide: bool) -> None:
        self.n, self.is_wide = n, is_wide
        super().__init__(name=f"Tangents({n}, {is_wide})")


class ActiveRecord(types.Record):  # type: ignore[misc]
    """A record whose fields are active scalars where another's are floats: `records.py`."""

    def __init__(self, original: Any, fields: Any, size: int) -> None:
        self.original = original
        super().__init__(fields, size, True)

    @property
    def dtype(self) -> Any:
        """Bytes, to NumPy."""
        return np.dtype((np.void, self.size))


class Narrow(types.Hashable):
    """A number of single precision: an active scalar whose value is a float32."""

    def __init__(self, part: Active) -> None:
        self.part = part
        super().__init__(name=f"Narrow({part})")

    @property
    def bitwidth(self) -> int:
        """As Numba asks for it."""
        return 8 * size_of(self)

    def can_convert_from(self, typingctx: Any, other: Any) -> Any:
        """Some numbers may become it as they are, others by rounding: where they are stored into arrays."""
        if other in (types.float32, types.boolean):
            return Conversion.safe
        return Conversion.unsafe if other == self.part or isinstance(other, PASSIVE) else None

    def unify(self, typingctx: Any, other: Any) -> Any:
        """With wider numbers, double precision."""
        is_wide = other == self.part or (
            isinstance(other, PASSIVE) and self.can_convert_from(None, other) != Conversion.safe
        )
        return self.part if is_wide else None


@register_model(Tangents)
class _TangentsModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Tangents) -> None:
        super().__init__(manager, kind, (ir.VectorType if kind.is_wide else ir.ArrayType)(DOUBLE, kind.n))

    def load_from_data_pointer(self, builder: Any, ptr: Any, align: int | None = None) -> Any:
        return self.from_data(builder, builder.load(ptr, align=min(align or ALIGNMENT, ALIGNMENT)))


class _ActiveModel(models.StructModel):
    """Its parts lie in memory without gaps: a struct with a vector inside would be aligned as that is."""

    def __init__(self, manager: Any, kind: Active) -> None:
        members = [("value", types.float64), ("tangent", Tangents(kind.n_tangents, kind.is_wide)), ("row", types.int64)]
        has = {"value": True, "tangent": kind.n_tangents > 0, "row": isinstance(kind, Taped)}
        super().__init__(manager, kind, [(name, part) for name, part in members if has[name]])
        parts = [part.get_value_type() for part in self._models]
        self._value_type = self._data_type = ir.LiteralStructType(parts, packed=kind.is_wide)


register_model(Taped)(_ActiveModel)
register_model(Dual)(_ActiveModel)


@register_model(Complex)
class _ComplexModel(models.StructModel):
    def __init__(self, manager: Any, kind: Complex) -> None:
        super().__init__(manager, kind, [("real", kind.part), ("imag", kind.part)])


@register_model(Independents)
class _IndependentsModel(models.StructModel):
    def __init__(self, manager: Any, kind: Independents) -> None:
        super().__init__(manager, kind, [("array", kind.array), ("row", types.int64)])


@register_model(Narrow)
class _NarrowModel(models.StructModel):
    def __init__(self, manager: Any, kind: Narrow) -> None:
        super().__init__(manager, kind, [("number", kind.part)])


register_model(ActiveRecord)(models.RecordModel)


@typeof_impl.register(Active)
@typeof_impl.register(ActiveRecord)
@typeof_impl.register(Narrow)
@typeof_impl.register(Complex)
def _typeof(value: Any, context: Any) -> Any:
    return types.TypeRef(value)


def is_active_array(kind: Any) -> bool:
    """Whether a type is that of an array of active scalars."""
    return isinstance(kind, types.Array) and isinstance(kind.dtype, Active)


def is_complex_array(kind: Any) -> bool:
    """Whether a type is that of an array of complex numbers with derivatives."""
    return isinstance(kind, types.Array) and isinstance(kind.dtype, Complex)


def is_instance(kind: Any) -> bool:
    """Whether a type is that of instances of a user's class."""
    return isinstance(kind, (types.ClassInstanceType, types.StructRef))


def fields_of(kind: Any) -> dict[str, Any] | None:
    """The fields of an instance's type; None of another."""
    if isinstance(kind, types.ClassInstanceType):
        return dict(kind.struct)
    return dict(kind.field_dict) if isinstance(kind, types.StructRef) else None


def is_narrow_array(kind: Any) -> bool:
    """Whether a type is that of an array of single precision with derivatives."""
    return isinstance(kind, types.Array) and isinstance(kind.dtype, Narrow)


def is_record_array(kind: Any) -> bool:
    """Whether a type is that of an array of records, with derivatives or without."""
    return isinstance(kind, types.Array) and isinstance(kind.dtype, types.Record)


def size_of(kind: Any) -> int:
    """The bytes of a value in an array, or in a record."""
    if isinstance(kind, types.NestedArray):
        return int(kind.nitems) * size_of(kind.dtype)
    return int(cpu_target.target_context.get_abi_sizeof(cpu_target.target_context.get_data_type(kind)))


def holds_narrow(kind: Any) -> bool:
    """Whether a number of single precision with derivatives is in there."""
    return "Narrow(" in str(kind)


def holds_active(kind: Any) -> bool:
    """Whether an active scalar is in there: in an array, a container, an optional, an iterator, an instance."""
    if isinstance(kind, WITH_DERIVATIVES):
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


WITH_DERIVATIVES = Active, Complex, Narrow, ActiveRecord


@lower_cast(types.Float, Active)
@lower_cast(types.Integer, Active)
@lower_cast(types.Boolean, Active)
@lower_cast(types.IntegerLiteral, Active)
@lower_cast(types.BooleanLiteral, Active)
def _passive_to_active(context: Any, builder: Any, given: Any, wanted: Active, value: Any) -> Any:
    number = context.cast(builder, value, given, types.float64)
    return builder.insert_value(ir.Constant(context.get_value_type(wanted), None), number, 0)


@lower_cast(Active, Complex)
@lower_cast(types.Float, Complex)
@lower_cast(types.Integer, Complex)
@lower_cast(types.Boolean, Complex)
@lower_cast(types.IntegerLiteral, Complex)
@lower_cast(types.BooleanLiteral, Complex)
def _real_to_complex(context: Any, builder: Any, given: Any, wanted: Complex, value: Any) -> Any:
    real = context.cast(builder, value, given, wanted.part)
    return builder.insert_value(ir.Constant(context.get_value_type(wanted), None), real, 0)


@lower_cast(types.Complex, Complex)
def _passive_to_complex(context: Any, builder: Any, given: Any, wanted: Complex, value: Any) -> Any:
    number = ir.Constant(context.get_value_type(wanted), None)
    for k in range(2):
        part = context.cast(builder, builder.extract_value(value, k), types.float64, wanted.part)
        number = builder.insert_value(number, part, k)
    return number


@lower_cast(Narrow, Active)
def _widened(context: Any, builder: Any, given: Narrow, wanted: Active, value: Any) -> Any:
    return builder.extract_value(value, 0)


@lower_cast(Active, Narrow)
@lower_cast(types.Float, Narrow)
@lower_cast(types.Integer, Narrow)
@lower_cast(types.Boolean, Narrow)
@lower_cast(types.IntegerLiteral, Narrow)
@lower_cast(types.BooleanLiteral, Narrow)
def _narrowed(context: Any, builder: Any, given: Any, wanted: Narrow, value: Any) -> Any:
    """Its value is rounded, once; its derivatives are what they were."""
    if isinstance(given, Active):
        number, exact = value, builder.extract_value(value, 0)
        rounded = builder.fptrunc(exact, ir.FloatType())
    else:
        rounded = context.cast(builder, value, given, types.float32)
        number = ir.Constant(context.get_value_type(wanted.part), None)
    number = builder.insert_value(number, builder.fpext(rounded, DOUBLE), 0)
    return builder.insert_value(ir.Constant(context.get_value_type(wanted), ir.Undefined), number, 0)


@lower_constant(Narrow)
def _narrow_constant(context: Any, builder: Any, kind: Narrow, value: Any) -> Any:
    return _narrowed(context, builder, types.float64, kind, context.get_constant(types.float64, float(value)))


@lower_constant(Complex)
def _complex_constant(context: Any, builder: Any, kind: Complex, value: Any) -> Any:
    number = ir.Constant(context.get_value_type(kind), None)
    for k, part in enumerate((complex(value).real, complex(value).imag)):
        number = builder.insert_value(number, _constant(context, builder, kind.part, part), k)
    return number


@lower_constant(Active)
def _constant(context: Any, builder: Any, kind: Active, value: Any) -> Any:
    number = context.get_constant(types.float64, float(value))
    return builder.insert_value(ir.Constant(context.get_value_type(kind), None), number, 0)
