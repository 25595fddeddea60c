"""What a nest says of whole arrays (`nests.py`), said of their elements: `a[1:] -= 0.5 * (b[1:] - b[:-1])` as loops.

      Part       array[index], of which nothing is read before its elements are
      Formula    function(*operands) of elements, computed where it is stored

A store of either is a loop for each axis, and no turn of these meets an element that another one writes. A formula is
not computed before it is stored, so there must be no change of what it is made of in between; nor may the array that is
stored to be read elsewhere than at the same index, unless an integer in the index tells the elements apart. What isn't
so is declined. That lengths agree is looked at before the nest runs (`Elements.equal`).
"""

from __future__ import annotations

import itertools
import operator
from collections import Counter
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from tapegrad.jitted.names import POWERS
from tapegrad.jitted.nests import (
    Compute,
    Const,
    Declined,
    Extent,
    If,
    Load,
    Loop,
    New,
    Operand,
    Span,
    Store,
    statements,
    target_of,
)


class Part(NamedTuple):
    """A part of an array; its index has an operand or a `Span` for each axis."""

    array: str
    index: tuple[Any, ...]

    @property
    def axes(self) -> list[int]:
        """The axes of the array that the part has."""
        return [axis for axis, at in enumerate(self.index) if isinstance(at, Span)]


class Formula(NamedTuple):
    """A function of parts, formulas and numbers, element by element."""

    function: Any
    operands: tuple[Any, ...]


class Length(NamedTuple):
    """A number, and the length of an axis of an array, or a number that is given."""

    of: str | None
    axis: int | None
    plus: int


Whole: TypeAlias = "Part | Formula"
_ALL = Span(None, None)
_PLAIN = {operator.add, operator.sub, operator.mul, operator.truediv, operator.neg, operator.pos}
_MOST = 400  # statements


class Elements:
    """A nest's loop with statements of elements in the place of those of arrays.

    `new` are the lengths of arrays that the nest makes: each is one array, written to again in every turn.
    """

    def __init__(self, loop: Loop, dims: dict[str, int]) -> None:
        self.dims, self.numbers = dims, itertools.count()
        self.new: dict[str, list[Length]] = {}
        self.likes: set[str] = set()  # given arrays that they are like
        self.equal: list[tuple[Length, Length]] = []  # what must be before the nest is run
        inside = list(statements([loop]))
        self.n_assigned = Counter(name for item in inside if (name := target_of(item)) is not None)
        loops = [item for item in inside if isinstance(item, Loop)]
        self.n_loops = Counter(loop.variable for loop in loops)
        self.least = {name: low for name, low in _least(loops).items() if self.n_loops[name] == self.n_assigned[name]}
        given: dict[str, Any] = {name: Part(name, (_ALL,) * n) for name, n in dims.items()}
        self.made: dict[str, tuple[Operand, int]] = {}  # integers that are others and a number
        self.lengths: dict[str, Length] = {}  # integers that are lengths
        (self.loop,) = self.body([loop], given)
        if sum(1 for _ in statements([self.loop])) > _MOST:
            raise Declined

    def body(self, items: list[Any], known: dict[str, Any]) -> list[Any]:
        """Statements; `known` are the arrays, and None what isn't any more what it was."""
        found: list[Any] = []
        for item in items:
            if isinstance(item, (Loop, If)):
                found.append(self.within(item, known))
            else:
                self.statement(item, known, found)
                if (target := target_of(item)) is not None and target not in known:
                    _forget(known, target)
        return found

    def within(self, item: Any, known: dict[str, Any]) -> Any:
        """A loop or a branch: what it changes is not what it was in there, nor behind."""
        changed = {name for name in map(target_of, statements([item])) if name is not None}
        for name in changed:
            _forget(known, name)
        self.made = {name: made for name, made in self.made.items() if not changed & {name, made[0]}}

        def inside(items: list[Any]) -> list[Any]:  # where a formula would be computed in every turn
            return self.body(items, {name: what for name, what in known.items() if not isinstance(what, Formula)})

        if isinstance(item, Loop):
            made = Loop(item.variable, item.bounds, inside(item.body))
        else:
            made = If(item.condition, inside(item.then), inside(item.other))
        for name in {s.array for s in statements([made]) if isinstance(s, Store)}:
            _forget(known, name)
        return made

    def statement(self, item: Any, known: dict[str, Any], found: list[Any]) -> None:
        """A statement, appended as it is or as others."""
        if isinstance(item, Load):
            read = self.part(item.array, item.index, known)
            if read.axes:
                self.define(item.target, read, known)
            else:
                found.append(Load(item.target, read.array, read.index))
        elif isinstance(item, Store):
            into, value = self.part(item.array, item.index, known), self.value(item.value, known)
            if value == into:
                return  # what was changed in place
            self.store(into, value, found)
            _forget(known, into.array)
        elif isinstance(item, Extent):
            self.extent(item, known, found)
        elif isinstance(item, New):
            self.new_array(item, known, found)
        else:
            self.computed(item, known, found)

    def computed(self, item: Compute, known: dict[str, Any], found: list[Any]) -> None:
        """A number; or a part by another name, a formula, or what changes a part in place."""
        operands = tuple(self.value(o, known) for o in item.operands)
        if not any(isinstance(o, (Part, Formula)) for o in operands):
            found.append(item)
            if self.n_assigned[item.target] == 1:
                self.note_integer(item)
        elif item.function is None:
            if known.get(item.target) != operands[0]:  # `a -= b` gives `a` itself
                self.define(item.target, operands[0], known)
        else:
            made = Formula(_of_elements(item.function, operands), operands)
            if not item.in_place:
                self.define(item.target, made, known)
            elif isinstance(operands[0], Part):
                self.store(operands[0], made, found)
                _forget(known, operands[0].array)
                self.define(item.target, operands[0], known)
            else:
                raise Declined

    def note_integer(self, item: Compute) -> None:
        """What may be said of an integer that is computed in one place."""
        first, *rest = item.operands
        if item.function is None and (length := self.known_length(first)) is not None:
            self.lengths[item.target] = length
        is_sum = item.function in (operator.add, operator.sub) and isinstance(rest[0], Const)
        is_whole = is_sum and isinstance(first, str) and type(rest[0].value) is int
        if is_whole and self.n_assigned[first] <= max(1, self.n_loops[first]):
            base, plus = self.sum_of(first)
            self.made[item.target] = base, plus + (1 if item.function is operator.add else -1) * rest[0].value

    def define(self, name: str, what: Whole, known: dict[str, Any]) -> None:
        """Let a name be a part, or a formula."""
        if self.n_assigned[name] > 1 or name in self.dims:
            raise Declined
        known[name] = what

    def value(self, operand: Operand, known: dict[str, Any]) -> Any:
        """What an operand is: a part or a formula, or itself, a number."""
        if not isinstance(operand, str) or operand not in known:
            return operand
        if known[operand] is None:
            raise Declined
        return known[operand]

    def part(self, name: str, index: tuple[Any, ...], known: dict[str, Any]) -> Part:
        """A part of an array, or of a part."""
        of = self.value(name, known)
        if not isinstance(of, Part) or len(index) > len(of.axes):
            raise Declined
        found = list(of.index)
        for axis, at in zip(of.axes, index, strict=False):
            found[axis] = self.within_span(found[axis], _plain(at) if isinstance(at, Span) else at)
            if found[axis] in known:
                raise Declined  # an index that is an array
        return Part(of.array, tuple(found))

    def within_span(self, span: Span, at: Any) -> Any:
        """A part of an index, of what a span has of an axis."""
        if span == _ALL or at == _ALL:
            return at if span == _ALL else span
        if isinstance(at, Const) and at.value >= 0:
            return Const(_first(span) + at.value)
        if isinstance(at, str) and _first(span) == 0 and self.least.get(at, -1) >= 0:
            return at
        raise Declined

    def extent(self, item: Extent, known: dict[str, Any], found: list[Any]) -> None:
        """The length of an axis that is whole, or the size of what is whole."""
        of = self.value(item.array, known)
        if not isinstance(of, Part):
            raise Declined
        axes = of.axes
        if item.axis is None and len(axes) != 1:
            if of.index != (_ALL,) * len(of.index):
                raise Declined
            found.append(Extent(item.target, of.array, None))
            return
        at = 0 if item.axis is None else item.axis
        if not -len(axes) <= at < len(axes) or of.index[axes[at]] != _ALL:
            raise Declined
        found.append(Extent(item.target, of.array, axes[at]))
        if self.n_assigned[item.target] == 1:
            self.lengths[item.target] = self.length(of, axes[at])

    def new_array(self, item: New, known: dict[str, Any], found: list[Any]) -> None:
        """An array that is made: its lengths must be known before the nest is run."""
        of = None if item.like is None else self.value(item.like, known)
        if item.like is None:
            lengths = [self.known_length(n) for n in item.lengths]
        elif isinstance(of, Part):
            lengths = [self.length(of, axis) for axis in of.axes]
            self.likes |= {of.array} - set(self.new)
        else:
            raise Declined
        if self.n_assigned[item.target] > 1 or not lengths or None in lengths:
            raise Declined
        self.new[item.target] = lengths
        known[item.target] = made = Part(item.target, (_ALL,) * len(lengths))
        value = self.value(item.value, known) if item.value is not None else None
        if value is not None:
            self.store(made, value, found)

    def known_length(self, n: Operand) -> Length | None:
        """An integer that is known before the nest is run."""
        if isinstance(n, Const):
            return Length(None, None, n.value) if type(n.value) is int else None
        return self.lengths.get(n, None if self.n_assigned[n] else Length(n, None, 0))

    # --- loops

    def name(self) -> str:
        """A new name."""
        return f"$element.{next(self.numbers)}"

    def store(self, into: Part, value: Any, found: list[Any]) -> None:
        """Store a part, a formula or a number: loops, appended."""
        if not into.axes:
            if isinstance(value, (Part, Formula)):
                raise Declined
            found.append(Store(into.array, into.index, value))
            return
        self.keep_apart(into, value)
        variables = {axis: self.name() for axis in into.axes}
        bodies: dict[int, list[Any]] = {axis: [] for axis in into.axes}
        at = tuple(variables.get(axis, i) for axis, i in enumerate(into.index))
        inner = bodies[into.axes[-1]]
        stored = self.element(value, into, variables, bodies, {})
        inner.append(Store(into.array, at, stored))
        for axis in reversed(into.axes):
            stop = self.end(into, axis, found)
            loop = Loop(variables[axis], (Const(_first(into.index[axis])), stop, 1), inner, apart=True)
            before = [a for a in into.axes if a < axis]
            inner = [*bodies[before[-1]], loop] if before else [loop]
        found += inner

    def end(self, part: Part, axis: int, found: list[Any]) -> Operand:
        """Where an axis of a part ends; statements that compute it are appended."""
        end = part.index[axis].stop
        if end is not None and end.value >= 0:
            return Const(end.value)
        length = self.name()
        found.append(Extent(length, part.array, axis))
        if end is None:
            return length
        found.append(Compute(stop := self.name(), operator.sub, (length, Const(-end.value))))
        return stop

    def element(
        self, value: Any, into: Part, variables: dict[int, str], bodies: dict[int, list[Any]], known: dict[Any, Any]
    ) -> Any:
        """An element of a value, where one of `into` is stored; statements that compute it go to the loops' bodies."""
        if not isinstance(value, (Part, Formula)):
            return value
        key = value if isinstance(value, Part) else id(value)
        if key in known:
            return known[key]
        made, body = self.name(), bodies[into.axes[-1]]
        if isinstance(value, Formula):
            operands = tuple(self.element(o, into, variables, bodies, known) for o in value.operands)
            body.append(Compute(made, value.function, operands, of_elements=True))
        else:
            if len(value.axes) > len(into.axes):
                raise Declined
            index = list(value.index)
            for axis, other in zip(reversed(value.axes), reversed(into.axes), strict=False):
                self.require(self.length(value, axis), self.length(into, other))
                shift = _first(value.index[axis]) - _first(into.index[other])
                index[axis] = variables[other]
                if shift:
                    place = variables[other], shift
                    if place not in known:
                        known[place] = self.name()
                        shifted = Compute(known[place], operator.add, (variables[other], Const(shift)))
                        bodies[other].append(shifted)
                    index[axis] = known[place]
            body.append(Load(made, value.array, tuple(index)))
        known[key] = made
        return made

    def require(self, a: Length, b: Length) -> None:
        """Lengths that must be equal: else there is an error, or an element for all."""
        if a != b and (a, b) not in self.equal:
            self.equal.append((a, b))

    def length(self, part: Part, axis: int) -> Length:
        """How long an axis of a part is, if it is no less than 0."""
        span = part.index[axis]
        if span.stop is not None and span.stop.value >= 0:
            return Length(None, None, span.stop.value - _first(span))
        of, at, plus = self.new[part.array][axis] if part.array in self.new else (part.array, axis, 0)
        return Length(of, at, plus + (0 if span.stop is None else span.stop.value) - _first(span))

    def keep_apart(self, into: Part, value: Any) -> None:
        """Decline what reads, of the array that is stored to, other elements that a turn may have changed."""
        for read in _parts(value):
            if read.array == into.array and not self.is_same(read, into) and not self.is_elsewhere(read, into):
                raise Declined

    @staticmethod
    def is_same(read: Part, into: Part) -> bool:
        """Whether a turn reads the element that it writes."""
        return read.index == into.index

    def is_elsewhere(self, read: Part, into: Part) -> bool:
        """Whether integers in the indices tell the elements apart."""
        for a, b in zip(read.index, into.index, strict=True):
            if isinstance(a, Span) or isinstance(b, Span):
                continue
            (base, plus), (other, more) = self.sum_of(a), self.sum_of(b)
            if base != other or plus == more:
                continue
            low = min(plus, more) + (0 if base is None else self.least.get(base, min(0, -plus, -more) - 1))
            if low >= 0 or (base is None and max(plus, more) < 0):
                return True
        return False

    def sum_of(self, at: Operand) -> tuple[Any, int]:
        """An integer in an index, as another and a number."""
        return (None, at.value) if isinstance(at, Const) else self.made.get(at, (at, 0))


def _of_elements(function: Any, operands: tuple[Any, ...]) -> Any:
    """The function of elements that one of arrays is."""
    if function in POWERS:
        if function is not operator.pow or not isinstance(operands[1], Const):
            raise Declined
    elif not (function in _PLAIN or isinstance(function, np.ufunc)):
        raise Declined
    return np.divide if function is operator.truediv else function


def _forget(known: dict[str, Any], name: str) -> None:
    """What is made of a name, or of an array's elements, is no longer known."""
    for other, what in known.items():
        is_read = isinstance(what, Formula) and any(part.array == name for part in _parts(what))
        if is_read or name in _numbers(what):
            known[other] = None


def _parts(value: Any) -> list[Part]:
    if isinstance(value, Formula):
        return [part for operand in value.operands for part in _parts(operand)]
    return [value] if isinstance(value, Part) else []


def _numbers(value: Any) -> set[str]:
    """The names of numbers that a value is made of."""
    if isinstance(value, Formula):
        return set().union(*map(_numbers, value.operands))
    if isinstance(value, Part):
        return {at for at in value.index if isinstance(at, str)}
    return {value} if isinstance(value, str) else set()


def _least(loops: list[Loop]) -> dict[str, int]:
    """Bounds below of the variables of loops, where they are known."""
    found: dict[str, int] = {}
    unknown = set()
    for loop in loops:
        start, stop, step = loop.bounds
        low = start if step > 0 else stop
        if isinstance(low, Const) and isinstance(low.value, int):
            least = low.value + (step < 0)
            found[loop.variable] = min(least, found.get(loop.variable, least))
        else:
            unknown.add(loop.variable)
    return {name: least for name, least in found.items() if name not in unknown}


def _plain(span: Span) -> Span:
    """A span whose ends are known, of a beginning that isn't counted from the end."""
    start, stop = span
    if not all(end is None or (isinstance(end, Const) and type(end.value) is int) for end in span):
        raise Declined
    if start is not None and start.value < 0:
        raise Declined
    return Span(None if start is None or start.value == 0 else start, stop)


def _first(span: Span) -> int:
    return 0 if span.start is None else int(span.start.value)
