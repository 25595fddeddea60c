"""Records (see `memory.py`) for Numba, which compiles a field to one load or store, and in plain Python.

A record is its address, an int64; many of them are the address of the first, and how many there are, which is looked at
where bounds are checked. Beside Numba's own records and arrays there is nothing to count references of, and integers of
all sizes are int64 once they are loaded: both are half of the time that compiling takes.
"""

from __future__ import annotations

import ctypes
import functools
import operator
from typing import Any

import numpy as np

from tapegrad.memory import Record, is_record, resolved


@functools.cache
def compiled(checked: bool) -> Any:
    """What makes Numba's type of a record."""
    import numba
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.core.imputils import lower_cast, lower_getattr_generic, lower_setattr_generic
    from numba.core.typeconv import Conversion
    from numba.core.typing.templates import AttributeTemplate, infer_getattr
    from numba.extending import lower_builtin, models, register_model, type_callable
    from numba.np.arrayobj import populate_array

    word = ir.IntType(64)

    class At(types.Type):  # type: ignore[misc]
        """A record at an address."""

        def __init__(self, record: type[Record]) -> None:
            self.record = record
            super().__init__(f"At({record.__name__})")

        def can_convert_to(self, _context: Any, other: Any) -> Any:
            return Conversion.safe if other == types.int64 else None

    class Many(types.Type):  # type: ignore[misc]
        """Records at an address, one behind the other."""

        def __init__(self, record: type[Record]) -> None:
            self.record = record
            super().__init__(f"Many({record.__name__})")

    @register_model(At)
    class _Address(models.PrimitiveModel):  # type: ignore[misc]
        def __init__(self, manager: Any, kind: Any) -> None:
            super().__init__(manager, kind, word)

    @register_model(Many)
    class _Addresses(models.StructModel):  # type: ignore[misc]
        def __init__(self, manager: Any, kind: Any) -> None:
            super().__init__(manager, kind, [("address", types.int64), ("length", types.int64)])

    at: Any = functools.cache(At)

    def type_of(record: type[Record], name: str) -> Any:
        found = record.field(name)
        if found is None:
            return None
        field, of = found[1], resolved(found[1].of)
        if field.form in ("record", "at"):
            return at(of)
        if field.form == "address":
            return types.int64
        if field.form == "number":
            return types.int64 if of.kind in "iub" else numba.from_dtype(of)
        if is_record(of):
            return Many(of)
        return types.Array(numba.from_dtype(of), 1, "C") if checked else types.CPointer(numba.from_dtype(of))

    @infer_getattr
    class _Fields(AttributeTemplate):  # type: ignore[misc]
        key = At

        def generic_resolve(self, kind: Any, name: str) -> Any:
            return type_of(kind.record, name)

    def pointer(builder: Any, address: Any, offset: int, of: Any) -> Any:
        return builder.inttoptr(builder.add(address, word(offset)), of.as_pointer())

    def in_memory(of: np.dtype) -> Any:
        return {4: ir.FloatType(), 8: ir.DoubleType()}[of.itemsize] if of.kind == "f" else ir.IntType(8 * of.itemsize)

    def load_address(builder: Any, record: type[Record], address: Any, offset: int) -> Any:
        loaded = builder.load(pointer(builder, address, offset, word))
        if (record if record.outer is None else record.outer[0]).fixed:  # so LLVM need not load it again
            loaded.set_metadata("invariant.load", builder.module.add_metadata([]))
        return loaded

    @lower_getattr_generic(At)
    def load(context: Any, builder: Any, kind: Any, address: Any, name: str) -> Any:
        (offset, field), made = kind.record.field(name), type_of(kind.record, name)
        of = resolved(field.of)
        if field.form in ("record", "address"):
            return builder.add(address, word(offset))
        if field.form == "at":
            return load_address(builder, kind.record, address, offset)
        if field.form == "number":
            value = builder.load(pointer(builder, address, offset, in_memory(of)))
            if of.kind == "f" or of.itemsize == 8:
                return value
            return (builder.sext if of.kind == "i" else builder.zext)(value, word)
        if field.form == "array":
            begin = load_address(builder, kind.record, address, offset)
        else:
            begin = builder.add(address, word(offset))
        length = word(0)
        if checked and isinstance(field.length, str):
            length = builder.load(pointer(builder, address, kind.record.length_at(field.length), word))
            length = builder.add(length, word(field.more))
        elif checked:
            length = word(field.length + field.more)
        if is_record(of):
            many = cgutils.create_struct_proxy(made)(context, builder)
            many.address, many.length = begin, length
            return many._getvalue()
        if not checked:
            return builder.inttoptr(begin, context.get_value_type(made))
        elements = context.make_array(made)(context, builder)
        size, data = word(of.itemsize), context.get_data_type(made.dtype).as_pointer()
        populate_array(elements, builder.inttoptr(begin, data), [length], [size], size, None)
        return elements._getvalue()

    @lower_setattr_generic(At)
    def store(_context: Any, builder: Any, signature: Any, args: Any, name: str) -> None:
        record, value = signature.args[0].record, args[1]
        offset, field = record.field(name)
        assert field.form == "number", name
        of = resolved(field.of)
        if of.kind != "f" and of.itemsize < 8:
            value = builder.trunc(value, in_memory(of))
        builder.store(value, pointer(builder, args[0], offset, in_memory(of)))

    @lower_cast(At, types.Integer)
    def cast(_context: Any, _builder: Any, _from: Any, _to: Any, value: Any) -> Any:
        return value

    @type_callable(operator.getitem)
    def type_of_one(_context: Any) -> Any:
        return lambda many, _index: at(many.record) if isinstance(many, Many) else None

    @lower_builtin(operator.getitem, Many, types.Integer)
    def one(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind, index = signature.args
        many = cgutils.create_struct_proxy(kind)(context, builder, args[0])
        wide = context.cast(builder, args[1], index, types.int64)
        if checked:
            with builder.if_then(builder.icmp_unsigned(">=", wide, many.length), likely=False):
                context.call_conv.return_user_exc(builder, IndexError, ("index is out of bounds",))
        return builder.add(many.address, builder.mul(wide, word(kind.record.nbytes)))

    return at


class View:
    """A record in plain Python."""

    __slots__ = ("_address", "_record")

    def __init__(self, record: type[Record], address: Any) -> None:
        object.__setattr__(self, "_record", record)
        object.__setattr__(self, "_address", int(address))

    def __index__(self) -> int:
        return self._address

    def __int__(self) -> int:
        return self._address

    def __getattr__(self, name: str) -> Any:
        offset, field = self._record.field(name)
        at, of = self._address + offset, resolved(field.of)
        if field.form == "number":
            value = elements_at(at, 1, of)[0]
            return int(value) if of.kind in "iub" else value
        if field.form == "address":
            return at
        if field.form == "record":
            return View(of, at)
        if field.form == "at":
            return View(of, elements_at(at, 1, np.dtype(np.int64))[0])
        length = field.length
        if isinstance(length, str):
            length = int(elements_at(self._address + self._record.length_at(length), 1, np.dtype(np.int64))[0])
        if field.form == "array":
            at = int(elements_at(at, 1, np.dtype(np.int64))[0])
        return Views(of, at, length + field.more) if is_record(of) else elements_at(at, length + field.more, of)

    def __setattr__(self, name: str, value: Any) -> None:
        offset, field = self._record.field(name)
        assert field.form == "number", name
        elements_at(self._address + offset, 1, resolved(field.of))[0] = value


class Views:
    """Records, one behind the other, in plain Python."""

    __slots__ = ("address", "length", "record")

    def __init__(self, record: type[Record], address: int, length: int) -> None:
        self.record, self.address, self.length = record, address, length

    def __getitem__(self, index: int) -> View:
        if not 0 <= index < self.length:
            raise IndexError("index is out of bounds")
        return View(self.record, self.address + int(index) * self.record.nbytes)


def elements_at(address: int, n: int, dtype: np.dtype) -> np.ndarray:
    """An array over memory."""
    if n == 0:
        return np.empty(0, dtype)
    memory: Any = (ctypes.c_char * (int(n) * dtype.itemsize)).from_address(int(address))
    return np.frombuffer(memory, dtype)
