"""The reverse sweep as a recording: adjoints are tensors, and every rule records rows.

This is `create_graph=True`, and what a sweep is where Python has a say in it: hooks, functions of the user's. It goes
through the same rows as the compiled reverse sweep, and calls the same rules, with Tensors. So derivatives of any order
need no second rule.
"""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Iterator
from typing import Any

from tapegrad.autograd.host import recorded_contribution
from tapegrad.autograd.walk import Row, operand_slots, rows_behind, rows_between
from tapegrad.kinds import Kind, kind_of, numbers_at
from tapegrad.kinds import objects as kind_objects
from tapegrad.ops import arithmetic, indexing, layout
from tapegrad.ops.declare import ARRAY, HOST, LAYOUT, OPS, REDUCTION, parameters
from tapegrad.recording import cast, need_sum, record_array, record_layout
from tapegrad.tape import CONSUMED, FIRST, IMM_A, IMM_B, PARAMS, PIECE, Tape
from tapegrad.tensor import Tensor, lend


class SweptTwiceError(RuntimeError):
    """A row on the way had let go of what its rule needs."""


def adjoints(tape: Tape, seeds: list[tuple[Tensor, Tensor]], wanted: set[int] | None) -> dict[int, Tensor]:
    """The adjoints, as recorded tensors, of the leaves behind the seeds, or of the wanted slots."""
    slots = [t._slot for t, _ in seeds]
    rows = list(rows_behind(tape, slots)) if wanted is None else rows_between(tape, slots, wanted)
    if any(row[1] & CONSUMED for row in rows):
        raise SweptTwiceError
    bars: dict[int, Tensor] = {}
    for t, seed in seeds:
        bars[t._slot] = bars[t._slot] + seed if t._slot in bars else seed
    towards = None if wanted is None else wanted | {row[2] for row in rows}
    lender = _Lender(tape)
    for row in rows:
        out = row[2]
        y_bar = bars.get(out)
        if y_bar is None:
            continue
        for slot, contribution in _contributions(tape, row, y_bar, lender, towards):
            bars[slot] = bars[slot] + contribution if slot in bars else contribution
        if (wanted is None or out not in wanted) and (not row[1] & PIECE or row[1] & FIRST):
            del bars[out]
    if wanted is not None:
        return {slot: bar for slot, bar in bars.items() if slot in wanted}
    return {slot: bar for slot, bar in bars.items() if kind_objects[tape.slots["kind"][slot]].is_leaf}


class _Lender(dict[int, Tensor]):
    """Handles for rules, by their slots."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape

    def kind(self, slot: int) -> Kind:
        return kind_objects[self.tape.slot_ints[8 * slot]]

    def __missing__(self, slot: int) -> Tensor:
        t = self[slot] = lend(self.tape, slot, self.kind(slot))
        return t


# What a rule reads, by its parameters' names; an operand is a number from 0 on.
_RESULT, _ADJOINT, _PARAMS, _SHAPES, _IMMEDIATE, _TERMS = range(-6, 0)
_SOURCES = {"y": _RESULT, "g": _ADJOINT, "p": _PARAMS, "s": _SHAPES, "n": _TERMS}


@functools.cache
def _rules(opcode: int, immediate: int) -> tuple[tuple[Any, tuple[int, ...]], ...]:
    """The rules for the slots that a row reads, each with what it reads itself."""
    op, first = OPS[opcode], 1 if immediate & IMM_A else 0

    def source(name: str) -> int:
        if name in _SOURCES:
            return _SOURCES[name]
        at = max("abc".find(name), 0)
        return _IMMEDIATE if immediate and at != first else at - first

    rules = op.partials[first : first + 1] if immediate else op.partials
    return tuple((rule, () if rule is None else tuple(map(source, parameters(rule)))) for rule in rules)


def _contributions(
    tape: Tape, row: Row, y_bar: Tensor, lent: _Lender, towards: set[int] | None
) -> Iterator[tuple[int, Tensor]]:
    """(slot, what it receives) for each operand of a row."""
    opcode, flags, out, b, c, _, _ = row
    op, slots = OPS[opcode], operand_slots(row)
    family = op.family
    rules = _rules(opcode, flags & (IMM_A | IMM_B)) if family != LAYOUT else _ONE_RULE
    for k, (slot, (rule, sources)) in enumerate(zip(slots, rules, strict=False)):
        operand = lent.kind(slot)
        if rule is None or not operand.requires_grad or (towards is not None and slot not in towards):
            continue
        if family == LAYOUT:
            yield slot, _through_layout(row, y_bar, operand)
            continue
        if family == HOST:
            yield slot, recorded_contribution(y_bar, lent[out], [lent[s] for s in slots], k, tape.hosts[out][1])
            continue
        if family == REDUCTION:
            y_bar, kept = _spread(y_bar, numbers_at(c), operand.shape)
        values: list[Any] = []
        for source in sources:
            if source >= 0:
                values.append(lent[slots[source]])
            elif source == _RESULT:
                y = lent[out]
                values.append(y.reshape(kept) if family == REDUCTION else y)
            elif source == _ADJOINT:
                values.append(y_bar)
            elif source == _IMMEDIATE:
                values.append(_as_float(_as_ints(b, c))[0])
            elif source == _PARAMS:
                values.append(numbers_at(c))
            elif source == _SHAPES:
                values.append([lent.kind(s).shape for s in slots])
            else:
                values.append(float(numbers_at(c)[0]))
        if family == ARRAY:
            yield slot, rule(*values)
        elif family == REDUCTION:
            yield slot, _times(y_bar, rule(*values)) if operand.numel else y_bar
        else:
            part = cast(_times(y_bar, rule(*values)), operand.dtype)
            yield slot, part if part._kind.shape == operand.shape else part.sum_to_size(operand.shape)


_ONE_RULE: tuple[tuple[Any, tuple[int, ...]], ...] = ((True, ()),)
_as_ints, _as_float = struct.Struct("=ii").pack, struct.Struct("=d").unpack


def _times(y_bar: Tensor, partial: Any) -> Tensor:
    if isinstance(partial, Tensor):
        return arithmetic._times(y_bar, cast(partial, y_bar._kind.dtype))
    return y_bar if partial == 1.0 else arithmetic._times(y_bar, partial)


def _spread(y_bar: Tensor, p: tuple[int, ...], shape: tuple[int, ...]) -> tuple[Tensor, tuple[int, ...]]:
    """The adjoint of what was reduced, over the elements of the operand; the result's shape with all dimensions.

    A reduction's parameters are the number of terms, and where among the results each element goes.
    """
    y_bar = y_bar if y_bar._kind.contiguous else y_bar.clone()
    kind = y_bar._kind
    kept = tuple(1 if stride == 0 else n for n, stride in zip(shape, p[1:], strict=True))
    if kind.shape == shape:
        return y_bar, kept
    strides = tuple(stride * kind.itemsize for stride in p[1:])
    if kind.requires_grad:
        need_sum(kind.dtype)
    spread = kind_of(kind.dtype, shape, strides, kind.requires_grad and y_bar._tape.grad_enabled)
    return record_layout(layout.expand, y_bar, spread, 0), kept


def _through_layout(row: Row, y_bar: Tensor, base: Kind) -> Tensor:
    """Zeros of the base's shape, with the adjoint added through the view's strides."""
    kind = kind_objects[row[6]]
    size = base.itemsize
    if row[1] & PARAMS:
        _, start, *strides = numbers_at(row[4])
    else:
        start, strides = struct.unpack("=q", struct.pack("=ii", row[3], row[4]))[0], list(kind.strides)
    if row[1] & PARAMS == 0 and kind.contiguous and kind.numel == base.numel == math.prod(kind.shape):
        return y_bar.reshape(base.shape)
    window = (start // size, kind.ndim, *kind.shape, *(s // size for s in strides))
    return record_embed(y_bar, window, base.shape)


def record_embed(g: Tensor, window: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    """Record the adjoint of a view."""
    g = g if g._kind.contiguous else g.clone()
    return record_array(indexing.embed, shape, g.dtype, g, params=window)
