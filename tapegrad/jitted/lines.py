"""Lines: the rows of an array expression, written together.

The elements of `0.5 * (a[:-2] + a[2:])` have a row each, and from element to element the rows of the arguments move by
the same: an array's elements have rows that follow each other, mostly, and a scalar has one. Once they have done so,
the rows that follow are a line of the tape (see `jacobian_tape.py`): while arguments are where they are expected, all
that an element stores are the partials that change, and its row is one more than the last. The first that is elsewhere
ends the line. Nothing is known of the arrays: it is seen at run time, in registers, and what is recorded is the same.

      next, step, off | of each operand: the row that is expected, by how much it moves, and by how much that was wrong
      misses          | how many rows were not as expected, since there was a line
      limit, n        | how many rows the line may have, and how many it has; 0 where there is none
      first, at       | the line's first row, and where the next partial is stored
      is_off          | nothing is looked at any more: there were no lines

A step is taken for another one only when it was wrong by the same twice, so that it outlives the end of a matrix's row.
Partials that don't change are constants, or made of numbers that are the same for all elements (`Single.is_fixed`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from tapegrad.jitted import jacobian_tape as tape
from tapegrad.jitted.active import DOUBLE, WORD, Taped
from tapegrad.jitted.emission import ZERO_ROW, Single
from tapegrad.jitted.statements import header, push_active

MAX_OPERANDS = 16
MAX_MISSES = 12


class Line:
    """The line of an array expression, while its loop is lowered."""

    def __init__(self, context: Any, builder: Any, kind: Taped, name: str) -> None:
        self.context, self.builder, self.kind, self.name = context, builder, kind, name
        self.limit, self.n, self.misses, self.first, self.at, self.is_off = (self._word() for _ in range(6))
        self.operands: list[tuple[Any, Any, Any]] = []  # next, step, off
        self.places: list[int] = []
        self.partials: list[Any] = []  # those that don't change: numbers, or where they are
        for word in (self.limit, self.n, self.misses, self.is_off):
            builder.store(WORD(0), word)

    def _word(self) -> Any:
        return cgutils.alloca_once(self.builder, WORD)  # which is 0 from the function's entry on

    @property
    def q(self) -> int:
        """How many partials an element stores."""
        return sum(place >= 0 for place in self.places)

    # --- an element

    def append(self, terms: Sequence[tuple[Any, Single]]) -> Any:
        """Append a row of these arguments; returns its number."""
        if len(terms) > MAX_OPERANDS:
            return push_active(self.context, self.builder, self.kind, terms)
        builder = self.builder
        stored, fixed = self._describe(terms)
        n, differs = builder.load(self.n), ZERO_ROW
        for (row, _), (expected, _, _) in zip(terms, self.operands, strict=True):
            differs = builder.or_(differs, builder.xor(row, builder.load(expected)))
        is_next = builder.icmp_signed("==", differs, ZERO_ROW)
        has_room = builder.icmp_signed("<", n, builder.load(self.limit))
        with builder.if_else(builder.and_(is_next, has_room), likely=True) as (as_expected, other):
            with as_expected:
                row_in_line = self._append_in_line(n, stored)
                in_line = builder.block
            with other:
                self.end()
                row_alone = push_active(self.context, builder, self.kind, terms)
                is_on = builder.icmp_signed("==", builder.load(self.is_off), WORD(0))
                with builder.if_then(is_on):
                    self._look(terms, row_alone, fixed)
                alone = builder.block
        row = builder.phi(WORD)
        row.add_incoming(row_in_line, in_line)
        row.add_incoming(row_alone, alone)
        return row

    def _describe(self, terms: Sequence[tuple[Any, Single]]) -> tuple[list[Any], list[tuple[Any, Any]]]:
        """The partials that each element stores; and those that are kept where a line begins, with where."""
        stored, fixed = [], []
        for _, partial in terms:
            known, place = partial.constant, -1
            if known is not None and math.isfinite(known):
                self.partials.append(DOUBLE(known))
            elif partial.is_fixed:
                at = cgutils.alloca_once(self.builder, DOUBLE)
                fixed.append((partial.value, at))
                self.partials.append(at)
            else:
                place = len(stored)
                stored.append(partial.value)
                self.partials.append(DOUBLE(0.0))
            self.places.append(place)
            self.operands.append((self._word(), self._word(), self._word()))
        return stored, fixed

    def _append_in_line(self, n: Any, stored: Sequence[Any]) -> Any:
        builder = self.builder
        if stored:
            at = builder.load(self.at)
            pointer = builder.inttoptr(at, DOUBLE.as_pointer())
            for i, partial in enumerate(stored):
                builder.store(partial, builder.gep(pointer, [WORD(i)]))
            builder.store(builder.add(at, WORD(8 * len(stored))), self.at)
        builder.store(builder.add(n, WORD(1)), self.n)
        for following, step, _ in self.operands:
            builder.store(builder.add(builder.load(following), builder.load(step)), following)
        return builder.add(builder.load(self.first), n)

    def _look(self, terms: Sequence[tuple[Any, Any]], row: Any, fixed: Sequence[tuple[Any, Any]]) -> None:
        """See whether arguments moved as before; if they did, a line begins."""
        builder = self.builder
        differs = builder.zext(builder.icmp_signed("==", row, ZERO_ROW), WORD)
        for (argument, _), (following, step, off) in zip(terms, self.operands, strict=True):
            wrong = builder.sub(argument, builder.load(following))
            is_again = builder.icmp_signed("==", wrong, builder.load(off))
            by = builder.add(builder.load(step), builder.select(is_again, wrong, WORD(0)))
            builder.store(wrong, off)
            builder.store(by, step)
            builder.store(builder.add(argument, by), following)
            differs = builder.or_(differs, wrong)
        is_miss = builder.icmp_signed("!=", differs, ZERO_ROW)
        misses = builder.add(builder.load(self.misses), builder.zext(is_miss, WORD))
        builder.store(misses, self.misses)
        is_in_vain = builder.icmp_signed(">", misses, WORD(MAX_MISSES))
        builder.store(builder.zext(is_in_vain, WORD), self.is_off)
        with cgutils.if_unlikely(builder, builder.not_(is_miss)):
            for value, at in fixed:
                builder.store(value, at)
            self._begin()

    def _begin(self) -> None:
        builder, h, k = self.builder, header(self.builder, self.kind), len(self.operands)
        memory = cgutils.alloca_once(builder, ir.ArrayType(WORD, 2 * k))
        for i, (following, step, _) in enumerate(self.operands):
            for j, word in enumerate((following, step)):
                builder.store(builder.load(word), builder.gep(memory, [WORD(0), WORD(2 * i + j)]))
        begin = _part(builder.module, "begin_line", 4)
        limit = builder.call(begin, [h, builder.ptrtoint(memory, WORD), WORD(k), WORD(self.q)])
        builder.store(limit, self.limit)
        builder.store(builder.zext(builder.icmp_signed("==", limit, WORD(0)), WORD), self.is_off)
        builder.store(WORD(0), self.misses)
        pointer = builder.inttoptr(h, WORD.as_pointer())
        words = [builder.load(builder.gep(pointer, [WORD(w)])) for w in (tape.ROWS, tape.ARGUMENTS, tape.PARTIAL)]
        builder.store(words[0], self.first)
        builder.store(builder.add(words[2], builder.mul(words[1], WORD(8))), self.at)

    # --- where it ends

    def end(self) -> None:
        """End the line here, if there is one."""
        if not self.operands:
            return
        builder = self.builder
        words = [builder.load(word) for following, step, _ in self.operands for word in (following, step)]
        partials = [p if isinstance(p, ir.Constant) else builder.load(p) for p in self.partials]
        builder.call(self._ending(), [header(builder, self.kind), builder.load(self.n), *words, *partials])
        builder.store(WORD(0), self.n)
        builder.store(WORD(0), self.limit)

    def _ending(self) -> Any:
        """The function that ends the line, if it has rows."""
        k, module, name = len(self.operands), self.builder.module, f"tapegrad_end_{self.name}"
        if name in module.globals:
            return module.globals[name]
        kind = ir.FunctionType(WORD, [WORD] * (2 + 2 * k) + [DOUBLE] * k)
        function = ir.Function(module, kind, name)
        function.linkage = "internal"
        function.attributes.add("alwaysinline")
        function.attributes.add("nounwind")
        builder = ir.IRBuilder(function.append_basic_block())
        memory = builder.alloca(ir.ArrayType(WORD, 4 * k))
        h, n, *given = function.args
        with builder.if_then(builder.icmp_signed("==", n, WORD(0)), likely=True):
            builder.ret(ZERO_ROW)
        for i in range(k):
            partial = builder.bitcast(given[2 * k + i], WORD)
            for j, word in enumerate((given[2 * i], given[2 * i + 1], WORD(self.places[i]), partial)):
                builder.store(word, builder.gep(memory, [WORD(0), WORD(4 * i + j)]))
        address = builder.ptrtoint(memory, WORD)
        builder.ret(builder.call(_part(module, "end_line", 5), [h, address, WORD(k), WORD(self.q), n]))
        return function


def _part(module: Any, name: str, n: int) -> Any:
    return cgutils.get_or_insert_function(module, ir.FunctionType(WORD, [WORD] * n), f"tapegrad_{name}")
