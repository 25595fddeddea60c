"""Arrays that change names from turn to turn of a nest's loop (`nests.py`), as a loop in which they don't.

      for t in range(n):              for t in range(n):
          b[1:] = a[:-1]                  if t % 2 == 0: b[1:] = a[:-1]
          a, b = b, a                     else: a[1:] = b[:-1]

After a number of turns each name has its own array again, so that a body for each turn until then is enough: a *state*
is what the names are at its beginning. The arrays stay what they were given as; what they are called behind the loop is
known from the number of turns.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from tapegrad.jitted.nests import (
    Compute,
    Const,
    Declined,
    Extent,
    If,
    Load,
    Loop,
    New,
    Span,
    Store,
    statements,
    target_of,
)

MOST_STATES = 4


class Moves:
    """A loop without moves of arrays; `states` are the arrays that a name has, one a state, of names that move."""

    def __init__(self, loop: Loop, arrays: Collection[str], kept: Collection[str]) -> None:
        self.loop, self.arrays, self.kept = loop, arrays, kept
        self.states: dict[str, list[str]] = {}
        assigned = {target_of(item) for item in statements(loop.body)}
        self.local = {name for name in assigned if name is not None and name not in kept}
        if assigned & set(arrays):
            self._write_states()

    def _write_states(self) -> None:
        before = {name: name for name in self.arrays}
        bodies, found = [], []
        while not found or before != found[0]:
            if len(found) == MOST_STATES:
                raise Declined
            found.append(before)
            body, before = self._body(before, len(found))
            if sorted(before.values()) != sorted(self.arrays):
                raise Declined  # two names of one array
            bodies.append(body)
        moving = [name for name in self.arrays if any(state[name] != name for state in found)]
        self.states = {name: [state[name] for state in found] for name in moving}
        self.loop = replace(self.loop, body=self._chosen(bodies))

    def _body(self, state: dict[str, str], number: int) -> tuple[list[Any], dict[str, str]]:
        """The body in a state, with names of its own for what it makes; and the state behind it."""
        names, body = dict(state), []

        def name_of(name: str) -> str:
            return names.get(name, f"{name}.{number}" if name in self.local else name)

        for item in self.loop.body:
            target = target_of(item)
            source = item.operands[0] if isinstance(item, Compute) and item.function is None else None
            if isinstance(source, str) and source in names:
                names[target] = names[source]
                continue
            if {target_of(inner) for inner in statements([item])} & names.keys():
                raise Declined  # another array, or one in a branch
            body.append(renamed(item, name_of))
        return body, {name: names[name] for name in self.arrays}

    def _chosen(self, bodies: list[list[Any]]) -> list[Any]:
        """A body that does what the state says."""
        (start, _, step), at = self.loop.bounds, self.loop.variable
        first: list[Any] = []

        def compute(function: Any, x: Any, by: Any) -> str:
            first.append(Compute(f"$state.{len(first)}", function, (x, by)))
            return first[-1].target

        turn = at if start == Const(0) else compute(operator.sub, at, start)
        turn = turn if step == 1 else compute(operator.floordiv, turn, Const(step))
        at = compute(operator.mod, turn, Const(len(bodies)))
        *others, chosen = bodies
        for number, body in reversed([*enumerate(others)]):
            test = Compute(f"$is_state.{number}", operator.eq, (at, Const(number)))
            chosen = [test, If(test.target, body, chosen)]
        return [*first, *chosen]


def renamed(item: Any, name_of: Callable[[str], str]) -> Any:
    """A statement with other names."""

    def of(operand: Any) -> Any:
        if isinstance(operand, Span):
            return Span(*map(of, operand))
        return name_of(operand) if isinstance(operand, str) else operand

    def each(operands: Any) -> tuple[Any, ...]:
        return tuple(map(of, operands))

    def body(items: list[Any]) -> list[Any]:
        return [renamed(inner, name_of) for inner in items]

    if isinstance(item, If):
        return If(of(item.condition), body(item.then), body(item.other))
    if isinstance(item, Loop):
        return replace(item, variable=of(item.variable), bounds=each(item.bounds), body=body(item.body))
    if isinstance(item, Store):
        return Store(of(item.array), each(item.index), of(item.value))
    if isinstance(item, New):
        return New(of(item.target), of(item.like), each(item.lengths), of(item.value))
    if isinstance(item, Load):
        return Load(of(item.target), of(item.array), each(item.index))
    if isinstance(item, Extent):
        return Extent(of(item.target), of(item.array), item.axis)
    return replace(item, target=of(item.target), operands=each(item.operands))
