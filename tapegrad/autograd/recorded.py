"""The reverse sweep as a recording: adjoints are tensors, and every rule records rows.

This is `create_graph=True`. It walks the same rows as the compiled reverse sweep, and calls the same rules, with
Tensors. So derivatives of any order need no second rule.
"""

from __future__ import annotations

import math
import struct
from typing import Any

from tapegrad.autograd.host import recorded_contribution
from tapegrad.kinds import numbers_at
from tapegrad.kinds import objects as kind_objects
from tapegrad.ops import arithmetic, indexing
from tapegrad.ops.declare import ARRAY, HOST, LAYOUT, OPS, REDUCTION, parameters
from tapegrad.recording import cast, record_array
from tapegrad.tape import CONSUMED, FIRST, IMM_A, IMM_B, PARAMS, PIECE, Tape
from tapegrad.tensor import Tensor, lend

Row = tuple[int, int, int, int, int, int, int]  # as in ROW: opcode, flags, out, b, c, a, kind


class SweptTwiceError(RuntimeError):
    """A row on the way had let go of what its rule needs."""


def adjoints(tape: Tape, seeds: list[tuple[Tensor, Tensor]], wanted: set[int] | None) -> dict[int, Tensor]:
    """The adjoints, as recorded tensors, of the leaves behind the seeds, or of the wanted slots."""
    rows = _active_rows(tape, [t._slot for t, _ in seeds])
    if wanted is not None:
        rows = _leading_to(rows, wanted, tape)
    if any(row[1] & CONSUMED for row in rows):
        raise SweptTwiceError
    bars: dict[int, Tensor] = {}
    for t, seed in seeds:
        bars[t._slot] = bars[t._slot] + seed if t._slot in bars else seed
    borrowed: dict[int, Tensor] = {}
    towards = None if wanted is None else wanted | {row[2] for row in rows}
    for row in rows:
        y_bar = bars.get(row[2])
        if y_bar is None:
            continue
        for slot, contribution in _contributions(tape, row, y_bar, borrowed, towards):
            bars[slot] = bars[slot] + contribution if slot in bars else contribution
        if row[2] not in (wanted or ()) and (not row[1] & PIECE or row[1] & FIRST):
            del bars[row[2]]
    if wanted is not None:
        return {slot: bar for slot, bar in bars.items() if slot in wanted}
    return {slot: bar for slot, bar in bars.items() if kind_objects[tape.slots["kind"][slot]].is_leaf}


def _active_rows(tape: Tape, seeds: list[int]) -> list[Row]:
    """The rows that seeds depend on through gradients, newest first; copies, since reclaiming moves rows."""
    newest = max((tape.synced_row(slot) for slot in seeds), default=-1)
    array, waiting, rows = tape.row_array(), set(seeds), []
    kinds = tape.slots["kind"]
    waiting = {slot for slot in waiting if _is_interior(int(kinds[slot]))}
    for r in range(newest, -1, -1):
        if not waiting:
            break
        row: Row = array[r].item()
        opcode, flags, out, b, c, a, kind = row
        if out not in waiting or not _is_interior(kind):
            continue
        rows.append(row)
        if not flags & PIECE or flags & FIRST:
            waiting.discard(out)
        waiting.update(slot for slot in operand_slots(row) if _is_interior(int(kinds[slot])))
    return rows


def _is_interior(kind: int) -> bool:
    known = kind_objects[kind]
    return known.requires_grad and not known.is_leaf


def operand_slots(row: Row) -> list[int]:
    """The slots that a row reads."""
    opcode, flags, _, b, c, a, _ = row
    if flags & (IMM_A | IMM_B):
        return [a] if a >= 0 else []
    return [slot for slot in (a, b, c)[: OPS[opcode].arity] if slot >= 0]


def on_the_way(tape: Tape, outputs: list[int], inputs: list[int], slots: list[int]) -> list[int]:
    """Those of the slots that gradients of the outputs pass on their way to the inputs."""
    rows = _leading_to(_active_rows(tape, outputs), set(inputs), tape)
    passed = {*inputs, *(row[2] for row in rows)}
    return [slot for slot in slots if slot in passed]


def _leading_to(rows: list[Row], wanted: set[int], tape: Tape) -> list[Row]:
    reach = set(wanted)
    kept = []
    for row in reversed(rows):
        if any(slot in reach for slot in operand_slots(row)):
            reach.add(row[2])
            kept.append(row)
    return kept[::-1]


def _contributions(tape: Tape, row: Row, y_bar: Tensor, borrowed: dict[int, Tensor], towards: set[int] | None) -> Any:
    """(slot, what it receives) for each operand of a row."""
    opcode, flags, out, b, c, a, _ = row
    op = OPS[opcode]

    def lent(slot: int) -> Tensor:
        if slot not in borrowed:
            borrowed[slot] = lend(tape, slot, kind_objects[tape.slots["kind"][slot]])
        return borrowed[slot]

    places = [1] if flags & IMM_A else [0] if flags & IMM_B else range(op.arity)
    slots = dict(zip(places, operand_slots(row), strict=False))
    for k, slot in slots.items():
        if not kind_objects[tape.slots["kind"][slot]].requires_grad or (towards is not None and slot not in towards):
            continue
        operand = kind_objects[tape.slots["kind"][slot]]
        shape = operand.shape
        if op.family == LAYOUT:
            yield slot, _through_layout(row, y_bar, lent(slot))
            continue
        if op.family == HOST:
            yield (
                slot,
                recorded_contribution(y_bar, lent(out), [lent(s) for s in operand_slots(row)], k, tape.hosts[out][1]),
            )
            continue
        rule = op.partials[k]
        if rule is None:
            continue
        values: dict[str, Any] = {}
        for name in parameters(rule):
            if name in "xabc":
                at = max("abc".find(name), 0)
                values[name] = lent(slots[at]) if at in slots else struct.unpack("=d", struct.pack("=ii", b, c))[0]
            elif name == "y":
                values[name] = lent(out)
            elif name == "p":
                values[name] = numbers_at(c)
            elif name == "g":
                values[name] = y_bar
            elif name == "s":
                values[name] = [kind_objects[tape.slots["kind"][s]].shape for s in operand_slots(row)]
        if op.family == ARRAY:
            yield slot, rule(**values)
        elif op.family == REDUCTION:
            yield slot, _through_reduction(rule, values, y_bar, numbers_at(c), shape)
        else:
            yield slot, cast(_times(y_bar, rule(**values)), operand.dtype).sum_to_size(shape)


def _times(y_bar: Tensor, partial: Any) -> Tensor:
    if isinstance(partial, Tensor):
        return arithmetic._times(y_bar, partial.to(y_bar.dtype))
    return y_bar if partial == 1.0 else arithmetic._times(y_bar, partial)


def _through_reduction(
    rule: Any, values: dict[str, Any], y_bar: Tensor, p: tuple[int, ...], shape: tuple[int, ...]
) -> Tensor:
    """The result and its adjoint are spread over the elements that were reduced."""
    kept = tuple(1 if stride == 0 else n for n, stride in zip(shape, p[1:], strict=True))
    spread = y_bar.reshape(kept).expand(shape)
    if p[0] == 0:  # no element
        return spread
    if "n" in parameters(rule):
        values["n"] = float(p[0])
    if "y" in values:
        values["y"] = values["y"].reshape(kept)
    return _times(spread, rule(**values))


def _through_layout(row: Row, y_bar: Tensor, a: Tensor) -> Tensor:
    """Zeros of the base's shape, with the adjoint added through the view's strides."""
    kind, base = kind_objects[row[6]], a._kind
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
