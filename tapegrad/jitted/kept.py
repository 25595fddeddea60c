"""Values kept on the tape, as arguments of a block row, and made again of them.

      number with derivatives | index: its row | partial: its value and tangents
      int, bool, plain float  | index: 0       | the number, in place of a partial
      complex number          | an entry for its real part, and one for its imaginary part
      array                   | an entry for the length of each dimension, then one for each element
      tuple                   | its items
      function, None          | nothing: the type tells which

So a block can run its operation again in the reverse sweep, with the rows that its operands have, or with others: those
that stand in the indices when it does.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.imputils import impl_ret_borrowed
from numba.extending import intrinsic

from tapegrad.jitted import jacobian_tape as tape
from tapegrad.jitted.access import INDEX, get_number, get_word, put_index, put_number, put_word
from tapegrad.jitted.active import ALIGNMENT, DOUBLE, WORD, Active, Complex, Narrow, Taped
from tapegrad.jitted.allocation import flat_view
from tapegrad.jitted.complex_numbers import imaginary_part, real_part
from tapegrad.jitted.emission import Emitter
from tapegrad.jitted.inner import define, inside
from tapegrad.jitted.single_precision import widened
from tapegrad.jitted.statements import known


class Kept(NamedTuple):
    """Functions for jitted code, for the values of one type."""

    size: Any  # (value) -> how many entries it takes
    save: Any  # (value, header, at) -> where the next entry stands
    load: Any  # (header, at, live) -> the value; passive, without rows, where `live` is 0
    kind: Any  # the type of what is loaded


class NotKeptError(Exception):
    """There is a value that can't be kept; its argument says which."""


@functools.cache
def kept(kind: Any, width: int, is_frozen: bool = False) -> Kept:
    """How values of a type are kept, on a tape of a width; `is_frozen` arrays can't be written to when loaded."""
    walk = Walk(width, is_frozen)
    loaded = walk.item(kind, "x")
    texts = {
        "size": ["def size(x):", f" return {' + '.join(walk.size) or '0'}"],
        "save": ["def save(x, header, at):", *walk.save, " return at"],
        "load": ["def load(header, at, live):", *walk.load, f" return {loaded}"],
    }
    made = {name: inside(define("\n".join(lines), name, walk.scope)) for name, lines in texts.items()}
    return Kept(**made, kind=kind)


class Walk:
    """Goes through a type, and writes the three texts."""

    def __init__(self, width: int, is_frozen: bool, get: Any = None) -> None:
        self.width, self.is_frozen, self.n = width, is_frozen, 0
        self.size: list[str] = []
        self.save: list[str] = []
        self.load: list[str] = []
        self.scope: dict[str, Any] = {
            "np": np, "get_word": get_word, "put_word": put_word, "get_number": get_number, "put_number": put_number,
            "put_index": put_index, "get_active": get or get_active, "put_active": put_active, "frozen": frozen,
            "flat_view": flat_view, "real_part": real_part, "imaginary_part": imaginary_part, "joined": joined,
            "widened": widened,
            "INDEX": tape.INDEX, "PARTIAL": tape.PARTIAL,
        }  # fmt: skip

    def item(self, kind: Any, x: str) -> str:
        """The expression of what is loaded for a value `x`."""
        if isinstance(kind, types.BaseTuple):
            items = "".join(self.item(part, f"{x}[{i}]") + ", " for i, part in enumerate(kind))
            if isinstance(kind, (types.NamedTuple, types.NamedUniTuple)):
                return f"{self.named(kind.instance_class)}({items})"
            return f"({items})"
        if isinstance(kind, types.Dispatcher):
            return self.named(kind.dispatcher)
        if isinstance(kind, types.NoneType):
            return "None"
        if isinstance(kind, types.Array):
            return self.array(kind, x)
        self.size.append(str(_entries(kind)))
        return self.number(kind, x, " ")

    def array(self, kind: Any, x: str) -> str:
        """Its shape, and its elements in order."""
        lengths = [self.variable() for _ in range(kind.ndim)]
        for axis, length in enumerate(lengths):
            self.save.append(" put_index(get_word(header, INDEX), at, 0)")
            self.save.append(f" put_word(get_word(header, PARTIAL), at * {self.width}, {x}.shape[{axis}])")
            self.save.append(" at += 1")
            self.load.append(f" {length} = get_word(get_word(header, PARTIAL), (at + {axis}) * {self.width})")
        self.load.append(f" at += {kind.ndim}")
        y, flat, i, e = (self.variable() for _ in range(4))
        self.size += [str(kind.ndim), f"{_entries(kind.dtype)} * {x}.size"]
        self.save.append(f" for {e} in {x}.flat:")
        self.load.append(f" {y} = np.empty(({''.join(n + ', ' for n in lengths)}), {self.named(kind.dtype)})")
        self.load.append(f" {flat} = flat_view({y})")
        self.load.append(f" for {i} in range({y}.size):")
        self.load.append(f"  {flat}[{i}] = {self.number(kind.dtype, e, '  ')}")
        return f"frozen({y})" if self.is_frozen or not kind.mutable else y

    def number(self, kind: Any, x: str, indent: str) -> str:
        """One entry; two of a complex number."""
        if isinstance(kind, (Complex, types.Complex)):
            return self.complex_number(kind, x, indent)
        if isinstance(kind, Narrow):
            return f"{self.named(as_kind(kind))}({self.number(kind.part, f'widened({x})', indent)})"
        place = f"get_word(header, PARTIAL), at * {self.width}"
        if isinstance(kind, Active):
            self.save.append(f"{indent}put_active({self.named(kind)}, {x}, header, at)")
            expression = f"get_active({self.named(kind)}, header, at, live)"
        elif isinstance(kind, types.Float):
            self.save.append(f"{indent}put_number({place}, {x})")
            expression = f"{self.named(kind)}(get_number({place}))"
        elif isinstance(kind, (types.Integer, types.Boolean)):
            self.save.append(f"{indent}put_word({place}, np.int64({x}))")
            expression = f"{self.named(kind)}(get_word({place}))"
        else:
            raise NotKeptError(kind)
        if not isinstance(kind, Active):
            self.save.append(f"{indent}put_index(get_word(header, INDEX), at, 0)")
        self.save.append(f"{indent}at += 1")
        y = self.variable()
        self.load += [f"{indent}{y} = {expression}", f"{indent}at += 1"]
        return y

    def complex_number(self, kind: Any, x: str, indent: str) -> str:
        """Its parts."""
        if isinstance(kind, types.Complex):
            if kind != types.complex128:
                raise NotKeptError(kind)
            parts = [self.number(types.float64, f"{x}.{part}", indent) for part in ("real", "imag")]
            return f"complex({', '.join(parts)})"
        z = self.variable()
        self.save.append(f"{indent}{z} = {self.named(as_kind(kind))}({x})")
        parts = [self.number(kind.part, f"{part}_part({z})", indent) for part in ("real", "imaginary")]
        return f"joined({', '.join(parts)})"

    def variable(self) -> str:
        """A new name."""
        self.n += 1
        return f"v{self.n}"

    def named(self, value: Any) -> str:
        """The name of a value that the text needs."""
        name = self.variable()
        self.scope[name] = value
        return name


def _entries(kind: Any) -> int:
    """How many entries a number takes."""
    return 2 if isinstance(kind, (Complex, types.Complex)) else 1


def as_kind(kind: Any) -> Any:
    """An intrinsic that converts to a type."""

    @intrinsic
    def convert(typingctx: Any, x: Any) -> Any:
        return kind(x), lambda context, builder, sig, args: _converted(context, builder, sig, args)

    return convert


def _converted(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    value = context.cast(builder, args[0], sig.args[0], sig.return_type)
    return impl_ret_borrowed(context, builder, sig.return_type, value)


@intrinsic
def joined(typingctx, real, imaginary):
    """The complex number of two active scalars."""
    made = Complex(real)

    def codegen(context, builder, sig, args):
        value = ir.Constant(context.get_value_type(made), ir.Undefined)
        for k in range(2):
            value = builder.insert_value(value, args[k], k)
        return value

    return made(real, real), codegen


def _entry(builder: Any, header: Any, word: int, element: Any, at: Any) -> Any:
    words = builder.inttoptr(header, WORD.as_pointer())
    base = builder.load(builder.gep(words, [WORD(word)]))
    return builder.gep(builder.inttoptr(base, element.as_pointer()), [at])


def _tangents(builder: Any, place: Any, value: Any) -> Any:
    """Where the tangents stand that belong to a value, as that active scalar has them."""
    return builder.bitcast(builder.gep(place, [WORD(1)]), value.type.elements[1].as_pointer())


@intrinsic
def get_active(typingctx, kind, header, at, live):
    """The active scalar of an entry; with row 0 where `live` is 0."""
    active = kind.instance_type

    def codegen(context, builder, sig, args):
        _, header, at, live = args
        value = ir.Constant(context.get_value_type(active), ir.Undefined)
        place = _entry(builder, header, tape.PARTIAL, DOUBLE, builder.mul(at, WORD(1 + active.n_tangents)))
        value = builder.insert_value(value, builder.load(place), 0)
        if active.n_tangents:
            value = builder.insert_value(value, builder.load(_tangents(builder, place, value), align=ALIGNMENT), 1)
        row = builder.sext(builder.load(_entry(builder, header, tape.INDEX, INDEX, at)), WORD)
        return builder.insert_value(value, builder.mul(row, live), 2 if active.n_tangents else 1)

    return active(kind, types.int64, types.int64, types.int64), codegen


@intrinsic
def put_active(typingctx, kind, x, header, at):
    """Keep an active scalar, or a number that becomes one."""
    active = kind.instance_type

    def codegen(context, builder, sig, args):
        _, x, header, at = args
        emitter = Emitter(context, builder)
        x = context.cast(builder, x, sig.args[1], active)
        place = _entry(builder, header, tape.PARTIAL, DOUBLE, builder.mul(at, WORD(1 + active.n_tangents)))
        builder.store(builder.extract_value(x, 0), place)
        if active.n_tangents:
            builder.store(builder.extract_value(x, 1), _tangents(builder, place, x), align=ALIGNMENT)
        row = known(builder, header, emitter.row_of(active, x))
        builder.store(builder.trunc(row, INDEX), _entry(builder, header, tape.INDEX, INDEX, at))
        return context.get_dummy_value()

    assert isinstance(active, Taped)
    return types.void(kind, x, types.int64, types.int64), codegen


@intrinsic
def frozen(typingctx, x):
    """An array as one that can't be written to: Numba refuses it when it compiles."""

    def codegen(context, builder, sig, args):
        return impl_ret_borrowed(context, builder, sig.return_type, args[0])

    return x.copy(readonly=True)(x), codegen
