"""Marks: where a user's function is, so that what the tape gets is counted by the line that gave it (`explaining.py`).

A function that is compiled to be explained says at its instructions which line it is at. What the tape has grown by
since the last mark belongs to the line that was marked then. Four words of the tape's header hold

      PLACE                     | the address of the counts of the line that was marked last; 0 where nobody explains
      SEEN_ROWS, SEEN_ARGUMENTS | how long the tape was when they were brought up to date
      DEPTH                     | how many functions are entered that sweep what they record, and forget it

and the counts of a line are

      rows, arguments               | what is on the tape
      inside_rows, inside_arguments | what was, inside such functions
      operations                    | how many operations on active scalars they were made of

Counts are kept for ever, since compiled code has their addresses.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
from numba.core import cgutils, ir, types

import tapegrad
from tapegrad.jitted import jacobian_tape as tape
from tapegrad.jitted.access import get_word, put_word
from tapegrad.jitted.active import WORD, Taped
from tapegrad.jitted.inner import TEXT, inside
from tapegrad.jitted.lowering import StatementLower
from tapegrad.jitted.statements import header

ROWS, ARGUMENTS, PLACE, SEEN_ROWS, SEEN_ARGUMENTS, DEPTH = (
    tape.ROWS, tape.ARGUMENTS, tape.PLACE, tape.SEEN_ROWS, tape.SEEN_ARGUMENTS, tape.DEPTH,
)  # fmt: skip
OPERATIONS, N_COUNTS = 4, 5
_KIND = Taped(0)
# The libraries' own files, and texts of ours.
_NOT_USERS = (*(str(Path(file).parent) for file in (numba.__file__, np.__file__, tapegrad.__file__)), TEXT)


class Place(NamedTuple):
    """A line of the user's. That of no file stands for the arguments."""

    file: str
    line: int


OF_ARGUMENTS = Place("", 0)
counts: dict[Place, np.ndarray] = {}


def address_of(place: Place) -> int:
    """Where a line's counts are."""
    return int(counts.setdefault(place, np.zeros(N_COUNTS, np.int64)).ctypes.data)


# --- in jitted code ---------------------------------------------------------------------------------------------------


@inside
def settle(header):
    """Count what the tape has grown by."""
    place = get_word(header, PLACE)
    at = 0 if get_word(header, DEPTH) == 0 else 2
    rows, arguments = get_word(header, ROWS), get_word(header, ARGUMENTS)
    put_word(place, at, get_word(place, at) + rows - get_word(header, SEEN_ROWS))
    put_word(place, at + 1, get_word(place, at + 1) + arguments - get_word(header, SEEN_ARGUMENTS))
    put_word(header, SEEN_ROWS, rows)
    put_word(header, SEEN_ARGUMENTS, arguments)


@inside
def move(header, place):
    """What follows belongs to another line."""
    if get_word(header, PLACE) != 0:
        settle(header)
        put_word(header, PLACE, place)


@inside
def enter(header):
    """What follows is swept and forgotten. Returns the line, for `leave`."""
    place = get_word(header, PLACE)
    if place != 0:
        settle(header)
        put_word(header, DEPTH, get_word(header, DEPTH) + 1)
    return place


@inside
def leave(header, place, n_rows, n_arguments):
    """The tape is about to be as long as it was: what follows stays, and belongs to the line again."""
    if place != 0:
        settle(header)
        put_word(header, DEPTH, get_word(header, DEPTH) - 1)
        put_word(header, PLACE, place)
        put_word(header, SEEN_ROWS, n_rows)
        put_word(header, SEEN_ARGUMENTS, n_arguments)


# --- while a function is compiled -------------------------------------------------------------------------------------


class MarkingLower(StatementLower):
    """Lowering of a function that is explained."""

    marked: Place | None = None  # in this block, unless other functions were called since

    def pre_block(self, block: Any) -> None:
        """The row of a sum belongs to the line that adds to it."""
        self.marked = None
        for found in self.sums:
            if self._label_of(block) in found.exits:
                self._go_to(self.plan.definitions[next(iter(found.terms))][0].statement.loc)
        super().pre_block(block)

    def lower_inst(self, inst: Any) -> None:
        """Mark the instruction's line."""
        if not isinstance(inst, ir.Del):
            self._go_to(inst.loc)
        super().lower_inst(inst)
        if isinstance(inst, ir.Assign) and isinstance(inst.value, ir.Expr):
            self.marked = None

    def lower_assign(self, ty: Any, inst: Any) -> Any:
        """Count an operation."""
        step = self.plan.steps.get(inst.target.name)
        if step is not None and step.function is not None:
            self._count(inst.loc, WORD(1))
        return super().lower_assign(ty, inst)

    def _array_expression(self, resty: Any, tree: Any, into: str | None = None) -> Any:
        word = self.builder.gep(self._header(), [WORD(ROWS)])
        before = self.builder.load(word)
        result = super()._array_expression(resty, tree, into)
        n_rows = self.builder.sub(self.builder.load(word), before)
        self._count(self.loc, self.builder.mul(n_rows, WORD(_n_functions(tree))))
        return result

    def _label_of(self, block: Any) -> int:
        return next(label for label, known in self.blocks.items() if known is block)

    def _header(self) -> Any:
        return self.builder.inttoptr(header(self.builder, _KIND), WORD.as_pointer())

    def _place(self, loc: Any) -> Place | None:
        return None if loc.filename.startswith(_NOT_USERS) else Place(loc.filename, loc.line)

    def _go_to(self, loc: Any) -> None:
        place = self._place(loc)
        if place is None or place == self.marked:
            return
        self._call(move, WORD(address_of(place)))
        self.marked = place

    def _call(self, function: Any, *words: Any) -> None:
        given = [header(self.builder, _KIND), *words]
        kind = types.void(*[types.int64] * len(given))
        self.context.compile_internal(self.builder, function.py_func, kind, given)

    def _count(self, loc: Any, n: Any) -> None:
        """Count operations, if someone explains."""
        place = self._place(loc)
        if place is not None:
            is_on = self.builder.load(self.builder.gep(self._header(), [WORD(PLACE)]))
            with cgutils.if_likely(self.builder, self.builder.icmp_signed("!=", is_on, WORD(0))):
                pointer = self.builder.inttoptr(WORD(address_of(place)), WORD.as_pointer())
                word = self.builder.gep(pointer, [WORD(OPERATIONS)])
                self.builder.store(self.builder.add(self.builder.load(word), n), word)


def _n_functions(tree: Any) -> int:
    """How many functions there are in an array expression."""
    return 1 + sum(map(_n_functions, tree[1])) if isinstance(tree, tuple) else 0
