"""What the names of a nest are (`nests.py`), from the types of those that it is given.

      "a"   an active number: it has a derivative      "f"   a float
      "i"   an integer                                 "b"   a truth value

Also which integers are pure: made of the variables of loops, of what doesn't change in the nest, and of each other, in
one place. These are computed again wherever they are needed; all else that is needed again is kept.
"""

from __future__ import annotations

import operator
from typing import Any

from numba.core import types

from tapegrad.jitted.active import Independents, Taped
from tapegrad.jitted.names import POWERS
from tapegrad.jitted.nest_arrays import Elements
from tapegrad.jitted.nest_moves import Moves
from tapegrad.jitted.nests import (
    COMPARISONS,
    INTEGER,
    TRUTH,
    Compute,
    Const,
    Declined,
    Extent,
    Found,
    If,
    Load,
    Loop,
    Operand,
    Store,
    Straight,
    read_by,
    statements,
    target_of,
)

_ORDER = "ifa"
_PURE = {
    operator.add,
    operator.sub,
    operator.mul,
    operator.floordiv,
    operator.mod,
    operator.neg,
    operator.pos,
    min,
    max,
}


class Names:
    """The names of a nest, typed."""

    def __init__(self, found: Found | Straight, kinds: dict[str, Any]) -> None:
        self.arrays: dict[str, Any] = {}
        self.in_place = {name for name, kind in kinds.items() if isinstance(kind, Independents)}
        self.of: dict[str, str] = {}
        for name, kind in kinds.items():
            if isinstance(kind, (types.Array, Independents)):
                self.arrays[name] = kind.array if name in self.in_place else kind
            else:
                self.of[name] = _of_type(kind)
        moves = Moves(found.loop, self.arrays, {*found.inputs, *found.outputs})
        self.states = {name: arrays for name, arrays in moves.states.items() if name in found.outputs}
        if any(kinds[array] != kinds[name] for name, arrays in moves.states.items() for array in arrays):
            raise Declined
        self.outputs = [name for name in found.outputs if name not in self.states]  # numbers
        elements = Elements(moves.loop, {name: kind.ndim for name, kind in self.arrays.items()})
        self.loop, self.equal, self.least = elements.loop, elements.equal, elements.least
        self.inside = elements.inside
        self.all = list(statements([self.loop]))
        if any(_of_element(self.arrays[name]) == "i" for name in elements.likes):
            raise Declined
        self.new = elements.new
        self.results = [*found.results] if isinstance(found, Straight) else []  # new arrays that are read behind
        if not set(self.results) <= set(self.new):
            raise Declined
        self.arrays |= {name: types.Array(Taped(0), len(lengths), "C") for name, lengths in self.new.items()}
        of_others = {name: _of_element(kind) for name, kind in self.arrays.items()}
        self.elements = of_others | dict.fromkeys(self.in_place, "a")
        self.given = dict(self.of)
        self.assigned = {name for name in map(target_of, self.all) if name is not None}
        if (self.assigned | set(self.outputs)) & set(self.arrays):
            raise Declined
        self._infer()
        self.written = [name for name in self.arrays if any(isinstance(s, Store) and s.array == name for s in self.all)]
        if any(self.elements[name] != "a" for name in self.written) or not set(self.new) <= set(self.written):
            raise Declined
        if not self.written and not any(self.of[name] == "a" for name in self.outputs):
            raise Declined
        self.pure = self._find_pure()
        if any(not self.is_pure(bound) for s in self.all if isinstance(s, Loop) for bound in s.bounds[:2]):
            raise Declined

    def kind(self, operand: Operand) -> str:
        """What an operand is."""
        if isinstance(operand, Const):
            return "b" if isinstance(operand.value, bool) else "i" if isinstance(operand.value, int) else "f"
        return self.of[operand]

    def is_fixed(self, name: str) -> bool:
        """Whether a name is the same throughout the nest."""
        return name not in self.assigned

    def is_pure(self, operand: Operand) -> bool:
        """Whether an operand is an integer that is made again where it is needed."""
        if isinstance(operand, Const):
            return self.kind(operand) == "i"
        return operand in self.pure or (self.is_fixed(operand) and self.of.get(operand) == "i")

    def _infer(self) -> None:
        waiting = True
        while waiting:
            waiting = False
            for item in self.all:
                target, kind = target_of(item), self._kind_of(item)
                if target is None or kind is None:
                    continue
                before = self.of.get(target)
                joined = kind if before is None else _joined(before, kind)
                if joined != before:
                    self.of[target], waiting = joined, True
        for item in self.all:
            if any(name not in self.of and name not in self.arrays for name in read_by(item)):
                raise Declined
            if isinstance(item, Store) and self.kind(item.value) == "b":
                raise Declined

    def _kind_of(self, item: Any) -> str | None:
        """What a statement gives; None where it isn't known yet."""
        if isinstance(item, (Load, Store, Extent)):
            if item.array not in self.arrays:
                raise Declined
            ndim = self.arrays[item.array].ndim
            if isinstance(item, Extent):
                if item.axis is not None and not -ndim <= item.axis < ndim:
                    raise Declined
                return "i"
            if len(item.index) != ndim or any(self.kind(i) != "i" for i in item.index if self._is_known(i)):
                raise Declined
            return self.elements[item.array] if isinstance(item, Load) else None
        if isinstance(item, Loop):
            if any(self.kind(bound) != "i" for bound in item.bounds[:2] if self._is_known(bound)):
                raise Declined
            return "i"
        if isinstance(item, If):
            return None
        if any(o in self.arrays for o in item.operands if isinstance(o, str)):
            raise Declined
        if not all(map(self._is_known, item.operands)):
            return None
        return self._result(item, [self.kind(o) for o in item.operands])

    def _is_known(self, operand: Operand) -> bool:
        return isinstance(operand, Const) or operand in self.of

    def _result(self, item: Compute, kinds: list[str]) -> str:
        function = item.function
        if function is None:
            return kinds[0]
        if item.of_elements and not {"f", "a"} & set(kinds):
            raise Declined  # NumPy rounds and overflows otherwise
        if function in COMPARISONS or function in TRUTH:
            return "b"
        if "b" in kinds:
            raise Declined
        if function in POWERS and isinstance(item.operands[1], Const) and kinds[1] == "i":
            kinds = kinds[:1]
            if kinds[0] == "i":
                raise Declined
        elif function in POWERS and kinds[1] == "i":
            raise Declined
        if set(kinds) == {"i"}:
            return "i" if function in INTEGER else "f"
        if function is operator.floordiv:
            raise Declined
        return "a" if "a" in kinds else "f"

    def _find_pure(self) -> set[str]:
        """The integers that are made in one place, out of others that are."""
        made: dict[str, int] = {}
        for item in self.all:
            if isinstance(item, (Compute, Extent, Load)):
                made[item.target] = made.get(item.target, 0) + 1
        excluded = set(self.given) | {name for name, n in made.items() if n > 1}
        while True:
            pure: set[str] = set()

            def walk(body: list[Any], bound: frozenset[str], pure: set[str], excluded: set[str]) -> None:
                for item in body:
                    if isinstance(item, Loop):
                        if item.variable in bound or item.variable in made:
                            excluded.add(item.variable)
                        if item.variable not in excluded:
                            pure.add(item.variable)
                        walk(item.body, bound | {item.variable}, pure, excluded)
                    elif isinstance(item, If) and any(isinstance(s, Loop) for s in statements([item])):
                        walk(item.then, bound, pure, excluded)
                        walk(item.other, bound, pure, excluded)
                    elif isinstance(item, (Compute, Extent, Load)) and self._is_pure_of(item, pure, excluded):
                        pure.add(item.target)

            before = len(excluded)
            walk([self.loop], frozenset(), pure, excluded)
            excluded |= {name for name in pure if self._leaves_scope(name)}
            if len(excluded) == before:
                return pure

    def _is_pure_of(self, item: Any, pure: set[str], excluded: set[str]) -> bool:
        if self.of[item.target] != "i" or item.target in excluded:
            return False
        if isinstance(item, Extent):
            return True
        if isinstance(item, Load):
            operands = item.index
        elif item.function is None or item.function in _PURE:
            operands = item.operands
            may_raise = item.function in (operator.floordiv, operator.mod)
            if may_raise and (not isinstance(operands[1], Const) or operands[1].value == 0):
                return False
        else:
            return False
        return all(isinstance(o, Const) or o in pure or (self.is_fixed(o) and self.of.get(o) == "i") for o in operands)

    def _leaves_scope(self, name: str) -> bool:
        """Whether a name is read outside the loop, or the body, that makes it."""

        def makes(body: list[Any]) -> bool:
            return any(isinstance(item, (Compute, Extent, Load)) and item.target == name for item in body)

        def is_read(body: list[Any], inside: bool) -> bool:
            inside = inside or makes(body)
            for item in body:
                if not inside and name in read_by(item):
                    return True
                if isinstance(item, Loop) and is_read(item.body, inside or item.variable == name):
                    return True
                if isinstance(item, If) and (is_read(item.then, inside) or is_read(item.other, inside)):
                    return True
            return False

        return is_read([self.loop], False)


def _joined(a: str, b: str) -> str:
    if a == b:
        return a
    if "b" in (a, b):
        raise Declined
    return max(a, b, key=_ORDER.index)


def _of_type(kind: Any) -> str:
    kind = types.unliteral(kind)
    if isinstance(kind, Taped) and not kind.n_tangents:
        return "a"
    known = {types.float64: "f", types.int64: "i", types.boolean: "b"}
    if kind not in known:
        raise Declined
    return known[kind]


def _of_element(kind: Any) -> str:
    if kind.ndim == 0 or not kind.aligned:
        raise Declined
    if isinstance(kind.dtype, Taped) and not kind.dtype.n_tangents:
        return "a"
    if kind.dtype in (types.float64, types.int64):
        return "f" if kind.dtype == types.float64 else "i"
    raise Declined
