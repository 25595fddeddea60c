"""The reverse sweep as a recording: adjoints are tensors, and every rule records rows.

This is `create_graph=True`, and what a sweep is where Python has a say in it: hooks, functions of the user's. It goes
through the same rows as the compiled reverse sweep, and calls the same rules, with Tensors. So derivatives of any order
need no second rule.
"""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Iterator, Sequence, Set
from typing import Any

import numpy as np

from tapegrad import engine, pages
from tapegrad.autograd.hooks import Hooks, going
from tapegrad.autograd.host import recorded_contribution
from tapegrad.autograd.saved import RESULT
from tapegrad.autograd.walk import Row, operand_slots
from tapegrad.batched import Batched
from tapegrad.kinds import GRADIENTS, TANGENTS, Kind, flowing, kind_of, numbers_at
from tapegrad.kinds import objects as kind_objects
from tapegrad.ops import arithmetic, indexing, layout
from tapegrad.ops.declare import ARRAY, HOST, LAYOUT, OPS, REDUCTION, parameters
from tapegrad.ops.host import FUNCTION, _output
from tapegrad.recording import cast, need_sum, record_array, record_layout
from tapegrad.tape import CONSUMED, FIRST, IMM_A, IMM_B, LAST, PARAMS, PIECE, Tape
from tapegrad.tensor import Tensor, lend


class SweptTwiceError(RuntimeError):
    """A row on the way had let go of what its rule needs."""


def adjoints(
    tape: Tape, seeds: list[tuple[Tensor, Tensor]], rows: list[Row], wanted: set[int] | None, kept: set[int],
    retain: bool,
) -> dict[int, Tensor]:  # fmt: skip
    """The adjoints, as recorded tensors, of the leaves behind the seeds, or of the wanted slots; and of those kept.

    `rows` are those on the way, newest first. Where they are not to be retained, what they have saved is let go.
    """
    if any(row[1] & CONSUMED for row in rows):
        raise SweptTwiceError
    bars: dict[int, Tensor] = {}
    for t, seed in seeds:
        bars[t._slot] = bars[t._slot] + seed if t._slot in bars else seed
    sweep = _Sweep(tape, bars, kept if wanted is None else kept | wanted)
    if wanted is not None:
        passed = {row[2] for row in rows}
        # PyTorch takes an input's gradient before its hooks see it, if it goes on to others.
        sweep.towards, sweep.before_hooks = wanted | passed, wanted & passed - kept
    for row in rows:
        sweep.through(row)
    for slot in sweep.kept & bars.keys():
        sweep.complete(slot)
    if not retain:
        _consume(tape, rows, sweep)
    if wanted is None:
        sweep.found |= {slot: bar for slot, bar in bars.items() if sweep.lent.kind(slot).is_leaf}
    return sweep.found


class _Sweep:
    """A sweep on its way: adjoints by slots, and those that the caller takes."""

    towards: set[int] | None = None  # the slots that adjoints are to reach, None for all
    before_hooks: Set[int] = frozenset()  # those taken before hooks see them

    def __init__(self, tape: Tape, bars: dict[int, Tensor], kept: set[int]) -> None:
        self.tape, self.bars, self.kept = tape, bars, kept
        self.lent = Lender(tape)
        self.found: dict[int, Tensor] = {}
        self.of_functions: dict[int, dict[int, Tensor]] = {}  # adjoints of their results, by the functions' slots
        self.of_pieces: list[tuple[int, Tensor]] = []

    def complete(self, slot: int) -> Tensor:
        """The adjoint of a slot to which nothing more will be added, as hooks leave it."""
        y_bar, hooks = self.bars[slot], self.tape.hooks.get(slot)
        if hooks is not None and slot not in going.spared:
            if slot in self.before_hooks:
                self.found[slot] = y_bar
            y_bar = self.bars[slot] = hooks.of_tensor(y_bar)
        if slot in self.kept:
            self.found.setdefault(slot, y_bar)
        return y_bar

    def through(self, row: Row) -> None:
        """Add to the adjoints of a row's operands."""
        opcode, flags, out = row[:3]
        if opcode == FUNCTION.opcode:
            self._through_function(out)
            return
        if out not in self.bars:
            return
        hooks = self.tape.hooks.get(out)
        if not flags & PIECE or flags & LAST:
            y_bar = self.complete(out)
            if hooks is not None and hooks.before:
                (y_bar,) = hooks.of_results((y_bar,))
                self.bars[out] = y_bar
            self.of_pieces.clear()
        y_bar = self.bars[out]
        if opcode == _output.opcode:
            results, place = self.of_functions.setdefault(row[5], {}), row[4]
            results[place] = results[place] + y_bar if place in results else y_bar  # it may have been saved, too
            del self.bars[out]
            return
        contributions = _contributions(self.tape, row, y_bar, self.lent, self.towards)
        for place, (slot, contribution) in enumerate(contributions):
            if self.tape.checks_nan:
                _check_nan(self.tape, row, place, contribution)
            if hooks is None or not hooks.after:
                self.add(slot, contribution)
            else:
                self.of_pieces.append((slot, contribution))
        if not flags & PIECE or flags & FIRST:
            if hooks is not None and hooks.after:
                given = hooks.of_operands(tuple(part for _, part in self.of_pieces), (y_bar,))
                for (slot, _), contribution in zip(self.of_pieces, given, strict=True):
                    self.add(slot, contribution)
            del self.bars[out]

    def add(self, slot: int, contribution: Tensor) -> None:
        """Add to an adjoint."""
        bars = self.bars
        bars[slot] = bars[slot] + contribution if slot in bars else contribution

    def _through_function(self, slot: int) -> None:
        """Add to the adjoints of what a function of the user's was given."""
        given = self.of_functions.pop(slot, None)
        if given is None:
            return  # one more row of its, or no adjoint has reached it
        node, hooks = self.tape.nodes[slot], self.tape.hooks.get(slot)
        of_results = tuple(given.get(place) for place in range(node.n_outputs))
        if hooks is not None:
            of_results = hooks.of_results(of_results)
        of_operands = node.pull(of_results)
        if hooks is not None:
            of_operands = hooks.of_operands(of_operands, of_results)
        for operand, contribution in zip(node.operands, of_operands, strict=True):
            is_wanted = self.towards is None or operand in self.towards
            if contribution is not None and is_wanted and self.lent.kind(operand).requires_grad:
                self.add(operand, contribution)


def _check_nan(tape: Tape, row: Row, place: int, contribution: Tensor) -> None:
    if np.isnan(contribution.detach()._array()).any():
        op, out = OPS[row[0]], row[2]
        name = next((name for flag, name in op.variants.items() if row[1] & flag), op.grad_name)
        where = tape.places.get(out, "a line that is not known: anomaly detection was off there")
        raise RuntimeError(
            f"Function '{name}' returned nan values in its {place}th output. It was recorded at {where}, giving "
            f"{kind_objects[row[6]].dtype.name}{list(kind_objects[row[6]].shape)}{pages.NAN}"
        )


def _consume(tape: Tape, rows: list[Row], sweep: _Sweep) -> None:
    """Let go of what the rules of rows have saved; they may have moved since."""
    tape.synced_row(0)
    for row in rows:
        opcode, flags, out = row[:3]
        if opcode == FUNCTION.opcode:
            if out in tape.nodes:
                tape.nodes[out].release()
            continue
        first = 1 if flags & IMM_A else 0
        saves = any(
            OPS[opcode].saves[k]
            for k, slot in enumerate(operand_slots(row), first)
            if sweep.lent.kind(slot).requires_grad and (sweep.towards is None or slot in sweep.towards)
        )
        if saves and (hooks := tape.hooks.get(out)) is not None:
            hooks.packed.clear()
        place = tape.slot_ints[8 * out + 1]
        while saves and place >= 0:
            flags = tape.row_array()["flags"][place]
            tape.row_array()["flags"][place] = flags | CONSUMED
            place = place - 1 if flags & PIECE and not flags & FIRST else -1


class Lender(dict[int, Tensor]):
    """Handles for rules, by their slots."""

    def __init__(self, tape: Tape, bits: int = GRADIENTS | TANGENTS) -> None:
        self.tape, self.bits = tape, bits  # which derivatives flow on to what is lent

    def kind(self, slot: int) -> Kind:
        """The kind of what is in a slot."""
        return kind_objects[self.tape.slot_ints[8 * slot]]

    def __missing__(self, slot: int) -> Tensor:
        kind = self.kind(slot)
        if kind.requires_grad & ~self.bits:
            left = kind.requires_grad & self.bits
            kind = kind_of(kind.dtype, kind.shape, kind.strides, left, kind.is_leaf and bool(left), kind.exported)
        t = self[slot] = lend(self.tape, slot, kind)
        return t

    def compute(self) -> None:
        """Compute what was lent, which then stays."""
        with self.tape.lock:
            engine.run(self.tape, list(self))


# What a rule reads, by its parameters' names; an operand is a number from 0 on.
_RESULT, _ADJOINT, _PARAMS, _SHAPES, _IMMEDIATE, _TERMS = range(-6, 0)
_SOURCES = {"y": _RESULT, "g": _ADJOINT, "t": _ADJOINT, "p": _PARAMS, "s": _SHAPES, "n": _TERMS}


@functools.cache
def rules_of(opcode: int, immediate: int) -> tuple[tuple[Any, tuple[int, ...]], ...]:
    """The rules for the slots that a row reads, each with what it reads itself."""
    op, first = OPS[opcode], 1 if immediate & IMM_A else 0
    return with_sources(op.partials[first : first + 1] if immediate else op.partials, immediate, first)


def with_sources(rules: Sequence[Any], immediate: int = 0, first: int = 0) -> tuple[tuple[Any, tuple[int, ...]], ...]:
    """Rules, each with what it reads itself; the first is that of operand `first`."""

    def source(name: str) -> int:
        if name in _SOURCES:
            return _SOURCES[name]
        at = max("abc".find(name), 0)
        return _IMMEDIATE if immediate and at != first else at - first

    return tuple((rule, () if rule is None else tuple(map(source, parameters(rule)))) for rule in rules)


def _contributions(
    tape: Tape, row: Row, y_bar: Tensor, lent: Lender, towards: set[int] | None
) -> Iterator[tuple[int, Tensor]]:
    """(slot, what it receives) for each operand of a row."""
    opcode, flags, out = row[:3]
    op, slots = OPS[opcode], operand_slots(row)
    family, hooks = op.family, tape.hooks.get(out)
    if hooks is not None and hooks.packed:
        lent = _unpacked(row, slots, lent, hooks)
    rules = rules_of(opcode, flags & (IMM_A | IMM_B)) if family != LAYOUT else _ONE_RULE
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
        kept = None
        if family == REDUCTION:
            y_bar, kept = _spread(y_bar, numbers_at(row[4]), operand.shape)
        values = operands_of_rule(row, sources, slots, lent, y_bar, kept)
        if family == ARRAY:
            yield slot, rule(*values)
        elif family == REDUCTION:
            yield slot, times(y_bar, rule(*values)) if operand.numel else y_bar
        else:
            part = cast(times(y_bar, rule(*values)), operand.dtype)
            yield slot, part if part._kind.shape == operand.shape else part.sum_to_size(operand.shape)


def _unpacked(row: Row, slots: list[int], lent: Lender, hooks: Hooks) -> Lender:
    """Handles for the rules of a row that have what hooks unpack, in the places of what was packed."""
    own = Lender(lent.tape, lent.bits)
    for place, packed in hooks.packed.items():
        slot = row[2] if place == RESULT else slots[place]
        original = lent[slot]
        own[slot] = packed.get(original, bool(flowing(lent.tape.grad_enabled, original._kind.requires_grad)))
    return own


def operands_of_rule(
    row: Row, sources: tuple[int, ...], slots: list[int], lent: Lender, y_bar: Tensor | None,
    kept: tuple[int, ...] | None = None,
) -> list[Any]:  # fmt: skip
    """What a rule of a row reads; the result of a reduction in the shape `kept`, with all dimensions."""
    _, _, out, b, c, _, _ = row
    values: list[Any] = []
    for source in sources:
        if source >= 0:
            values.append(lent[slots[source]])
        elif source == _RESULT:
            values.append(lent[out] if kept is None else lent[out].reshape(kept))
        elif source == _ADJOINT:
            values.append(y_bar)
        elif source == _IMMEDIATE:
            value = _as_float(_as_ints(b, c))[0]
            values.append(value if value else _Zero(value))
        elif source == _PARAMS:
            values.append(numbers_at(c))
        elif source == _SHAPES:
            values.append([lent.kind(s).shape for s in slots])
        else:
            values.append(float(numbers_at(c)[0]))
    return values


class _Zero(float):
    """A number that rules divide by, as compiled ones do: the quotient is infinite, or nan."""

    def __rtruediv__(self, other: float) -> float:
        return math.nan if not other or other != other else math.copysign(math.inf, other) * math.copysign(1.0, self)


_ONE_RULE: tuple[tuple[Any, tuple[int, ...]], ...] = ((True, ()),)
_as_ints, _as_float = struct.Struct("=ii").pack, struct.Struct("=d").unpack


def times(y_bar: Tensor, partial: Any) -> Tensor:
    """An adjoint, or a tangent, times a partial; zero where it is zero."""
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
    if y_bar.__class__ is Batched:
        return y_bar.reshape(kept).expand(shape), kept
    strides = tuple(stride * kind.itemsize for stride in p[1:])
    if kind.requires_grad:
        need_sum(kind.dtype)
    spread = kind_of(kind.dtype, shape, strides, flowing(y_bar._tape.grad_enabled, kind.requires_grad))
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
