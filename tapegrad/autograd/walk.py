"""Which rows lie between outputs and what they are differentiated by: what `schedule.py` does compiled, in Python.

Rows are met newest first, by a heap of their places: what is recorded beside the graph, or before all that is wanted,
costs nothing.
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence

from tapegrad.kinds import GRADIENTS, TANGENTS
from tapegrad.kinds import objects as kind_objects
from tapegrad.ops.declare import OPS
from tapegrad.tape import FIRST, IMM_A, IMM_B, PIECE, ROW_BYTES, Tape

Row = tuple[int, int, int, int, int, int, int]  # as in ROW: opcode, flags, out, b, c, a, kind

row_at: Callable[..., Row] = struct.Struct("=hhiiiii").unpack_from
_INTS, _KIND, _ROW = 8, 0, 1  # of a slot, by `slot_ints`: how many, and where
_arities: list[int] = []  # by opcode


def operand_slots(row: Row) -> list[int]:
    """The slots that a row reads."""
    opcode, flags, _, b, c, a, _ = row
    if len(_arities) < len(OPS):
        _arities[:] = [op.arity for op in OPS]
    n = _arities[opcode]
    if n == 1 or flags & (IMM_A | IMM_B):
        return [a] if a >= 0 else []
    if n == 2:
        return [a, b] if a >= 0 and b >= 0 else [slot for slot in (a, b) if slot >= 0]
    return [slot for slot in (a, b, c) if slot >= 0]


def rows_behind(
    tape: Tape, seeds: Iterable[int], floor: int = -1, bits: int = GRADIENTS | TANGENTS
) -> Iterator[Row]:  # fmt: skip
    """The rows behind seeds that derivatives flow through, newest first: copies, since reclaiming moves rows.

    Those at `floor` and before are left out, and those that have none of the `bits` of `requires_grad`. Nothing may be
    recorded while this goes on.
    """
    tape.synced_row(0)
    ints, rows, heap, seen = tape.slot_ints, tape.rows, list[int](), set[int]()
    waiting = list(seeds)
    while True:
        for slot in waiting:
            if slot in seen:
                continue
            seen.add(slot)
            kind = kind_objects[ints[_INTS * slot + _KIND]]
            place = ints[_INTS * slot + _ROW]
            if place > floor and kind.requires_grad & bits and not kind.is_leaf:
                heapq.heappush(heap, -place)
        if not heap:
            return
        place = -heapq.heappop(heap)
        row = row_at(rows, place * ROW_BYTES)
        if row[1] & PIECE and not row[1] & FIRST:
            heapq.heappush(heap, 1 - place)
        yield row
        waiting = operand_slots(row)


def rows_between(tape: Tape, seeds: Sequence[int], wanted: set[int], bits: int = GRADIENTS | TANGENTS) -> list[Row]:
    """The rows on the way from seeds to wanted slots, newest first."""
    tape.synced_row(0)
    ints = tape.slot_ints
    floor = min(ints[_INTS * slot + _ROW] for slot in wanted) if wanted else -1
    reach, kept = set(wanted), []
    for row in reversed(list(rows_behind(tape, seeds, floor, bits))):
        if not reach.isdisjoint(operand_slots(row)):
            reach.add(row[2])
            kept.append(row)
    return kept[::-1]


def rows_of(tape: Tape, slot: int) -> list[Row]:
    """The rows that fill a slot together, oldest first."""
    place, found = tape.synced_row(slot), list[Row]()
    while place >= 0:
        row = row_at(tape.rows, place * ROW_BYTES)
        found.append(row)
        place = place - 1 if row[1] & PIECE and not row[1] & FIRST else -1
    return found[::-1]


def reaches(tape: Tape, seeds: Sequence[int], ends: set[int]) -> bool:
    """Whether a gradient of the seeds reaches one of these slots."""
    if not ends.isdisjoint(seeds):
        return True
    return any(not ends.isdisjoint(operand_slots(row)) for row in rows_behind(tape, seeds))
