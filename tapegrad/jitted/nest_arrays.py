"""What a nest says of whole arrays (`nests.py`), said of their elements: `a[1:] -= 0.5 * (b[1:] - b[:-1])` as loops.

      Part       array[index], of which nothing is read before its elements are
      Formula    function(*operands) of elements, computed where it is stored

A store of either is a loop for each axis, and no turn of these meets an element that another one writes. A formula is
not computed before it is stored, so there must be no change of what it is made of in between; nor may the array that is
stored to be read elsewhere than at the same index, unless an integer in the index tells the elements apart. What isn't
so is declined. That lengths agree is looked at before the nest runs (`Elements.equal`), and that slices end within
their axes before it, or where their loop begins (`Loop.ends`): elsewhere NumPy counts from the end, or cuts them off.
"""

from __future__ import annotations

import itertools
import operator
from collections import Counter
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from tapegrad.jitted.names import POWERS
from tapegrad.jitted.nest_sums import Axis, Quotient, Sum, atom
from tapegrad.jitted.nests import (
    COMPARISONS,
    Compute,
    Const,
    Declined,
    End,
    Extent,
    If,
    Load,
    Loop,
    New,
    Operand,
    Span,
    Store,
    Total,
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


Whole: TypeAlias = "Part | Formula"
_ALL = Span(None, None)
_PLAIN = {operator.add, operator.sub, operator.mul, operator.truediv, operator.neg, operator.pos}
_MOST = 400  # statements


class Storing(NamedTuple):
    """Loops over elements: their variables and bodies by axis, and what is computed before them, or there."""

    into: Part
    variables: dict[int, str]
    firsts: dict[int, Sum]  # of axes whose variable is the index itself, where it begins; others count
    bodies: dict[int, list[Any]]
    before: list[Any]
    known: dict[Any, Any]
    ends: dict[int, list[End]]


class Elements:
    """A nest's loop with statements of elements in the place of those of arrays.

    `new` are the lengths of arrays that the nest makes: each is one array, written to again in every turn.
    """

    def __init__(self, loop: Loop, dims: dict[str, int]) -> None:
        self.dims, self.numbers = dims, itertools.count()
        self.new: dict[str, list[Sum]] = {}
        self.likes: set[str] = set()  # given arrays that they are like
        self.equal: list[Sum] = []  # what must be 0 before the nest is run
        self.inside: set[str] = set()  # indices of slices' elements, which are where the slices' ends are
        inside = list(statements([loop]))
        self.n_assigned = Counter(name for item in inside if (name := target_of(item)) is not None)
        loops = [item for item in inside if isinstance(item, Loop)]
        self.n_loops = Counter(loop.variable for loop in loops)
        self.least = {name: low for name, low in _least(loops).items() if self.n_loops[name] == self.n_assigned[name]}
        given: dict[str, Any] = {name: Part(name, (_ALL,) * n) for name, n in dims.items()}
        self.made: dict[str, Sum] = {}  # integers that are sums of others
        self.ranges: dict[str, tuple[Sum, Sum]] = {}  # the least and the largest, of variables of loops around
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
                    self.made = {name: made for name, made in self.made.items() if target not in made.atoms}
        return found

    def within(self, item: Any, known: dict[str, Any]) -> Any:
        """A loop or a branch: what it changes is not what it was in there, nor behind."""
        changed = {name for name in map(target_of, statements([item])) if name is not None}
        for name in changed:
            _forget(known, name)
        kept = {name: made for name, made in self.made.items() if not changed & {name, *made.atoms}}
        self.made = dict(kept)

        def inside(items: list[Any]) -> list[Any]:  # where a formula would be computed in every turn
            return self.body(items, {name: what for name, what in known.items() if not isinstance(what, Formula)})

        if isinstance(item, Loop):
            self.note_range(item, changed)
            made = Loop(item.variable, item.bounds, inside(item.body))
            self.ranges.pop(item.variable, None)
        else:
            made = If(item.condition, inside(item.then), inside(item.other))
        for name in {s.array for s in statements([made]) if isinstance(s, Store)}:
            _forget(known, name)
        self.made = kept  # what is computed in there may not have been
        return made

    def statement(self, item: Any, known: dict[str, Any], found: list[Any]) -> None:
        """A statement, appended as it is or as others."""
        if isinstance(item, Load):
            read = self.part(item.array, item.index, known, found)
            if read.axes:
                self.define(item.target, read, known)
            else:
                found.append(Load(item.target, read.array, read.index))
        elif isinstance(item, Store):
            into, value = self.part(item.array, item.index, known, found), self.value(item.value, known)
            if value == into:
                return  # what was changed in place
            self.store(into, value, found)
            _forget(known, into.array)
        elif isinstance(item, Extent):
            self.extent(item, known, found)
        elif isinstance(item, New):
            self.new_array(item, known, found)
        elif isinstance(item, Total):
            self.total(item, known, found)
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
        operands = item.operands
        if not all(isinstance(o, str) or type(o.value) is int for o in operands):
            return
        found, *rest = map(self.sum_of, operands)
        if item.function in (operator.add, operator.sub):
            found = found.plus(rest[0], 1 if item.function is operator.add else -1)
        elif item.function is operator.mul and not (found.terms and rest[0].terms):
            factor, found = (found.number, rest[0]) if not found.terms else (rest[0].number, found)
            found = Sum(0).plus(found, factor)
        elif item.function is operator.neg:
            found = Sum(0).plus(found, -1)
        elif item.function is not None:
            return
        self.made[item.target] = found

    def note_range(self, loop: Loop, changed: set[str]) -> None:
        """Between what the variable of a loop is in there, as long as nothing else changes it or these."""
        start, stop = (self.sum_of(bound) for bound in loop.bounds[:2])
        if self.n_assigned[loop.variable] == 1 and changed.isdisjoint((*start.atoms, *stop.atoms)):
            up = loop.bounds[2] > 0
            self.ranges[loop.variable] = (start, stop.add(-1)) if up else (stop.add(1), start)

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

    def part(self, name: str, index: tuple[Any, ...], known: dict[str, Any], found: list[Any]) -> Part:
        """A part of an array, or of a part; what its index is made of is appended."""
        of = self.value(name, known)
        if not isinstance(of, Part) or len(index) > len(of.axes):
            raise Declined
        parts = list(of.index)
        for axis, at in zip(of.axes, index, strict=False):
            if any(end in known for end in (at if isinstance(at, Span) else (at,))):
                raise Declined  # an index that is an array
            parts[axis] = self.within_span(of, axis, at, found)
        return Part(of.array, tuple(parts))

    def within_span(self, of: Part, axis: int, at: Any, found: list[Any]) -> Any:
        """A part of an index, of what a span has of an axis."""
        span = of.index[axis]
        if span == _ALL or at == _ALL:
            return at if span == _ALL else span
        if isinstance(at, Span) or not self.is_above(self.sum_of(at), Sum(-1)):
            raise Declined
        return self.computed_sum(self.first(of, axis).plus(self.sum_of(at), span.step), found)

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
            self.made[item.target] = self.length(of, axes[at])

    def new_array(self, item: New, known: dict[str, Any], found: list[Any]) -> None:
        """An array that is made: its lengths must be known before the nest is run."""
        of = None if item.like is None else self.value(item.like, known)
        if item.like is None:
            lengths = [self.sum_of(n) for n in item.lengths]
        elif isinstance(of, (Part, Formula)):
            lengths = [self.length(_widest(of), axis) for axis in _widest(of).axes]
            self.likes |= {of.array} - set(self.new) if isinstance(of, Part) else set()
        else:
            raise Declined
        if self.n_assigned[item.target] > 1 or not lengths or not all(map(self.is_fixed, lengths)):
            raise Declined
        self.new[item.target] = lengths
        known[item.target] = made = Part(item.target, (_ALL,) * len(lengths))
        value = self.value(item.value, known) if item.value is not None else None
        if value is not None:
            self.store(made, value, found)

    # --- sums

    def sum_of(self, at: Operand) -> Sum:
        """An integer as a sum."""
        if isinstance(at, Const):
            return Sum(at.value) if type(at.value) is int else _declined()
        return self.made.get(at, atom(at))

    def is_fixed(self, found: Sum) -> bool:
        """Whether a sum is known before the nest is run."""
        return all(isinstance(at, Axis) or not self.n_assigned[at] for at in found.atoms)

    def computed_sum(self, found: Sum, body: list[Any]) -> Operand:
        """A sum as an operand; statements that compute it are appended."""
        total: Operand | None = None
        for at, n in sorted(found.terms, key=lambda term: term[1] < 0):  # less is said of what is negative
            operand = self.computed_atom(at, body)
            if abs(n) != 1 or (n < 0 and total is None):
                operand, n = self.computed_by(operator.mul, operand, Const(n), body), 1
            if total is None:
                total = operand
            else:
                total = self.computed_by(operator.add if n > 0 else operator.sub, total, operand, body)
        if total is None:
            return Const(found.number)
        if not found.number:
            return total
        function = operator.add if found.number > 0 else operator.sub
        return self.computed_by(function, total, Const(abs(found.number)), body)

    def computed_atom(self, at: Any, body: list[Any]) -> Operand:
        """The same, of an atom."""
        if isinstance(at, Quotient):
            return self.computed_by(operator.floordiv, self.computed_sum(at.of, body), Const(at.by), body)
        if isinstance(at, Axis):
            body.append(Extent(self.name(), at.array, at.axis))
            return str(body[-1].target)
        return str(at)

    def computed_by(self, function: Any, a: Operand, b: Operand, body: list[Any]) -> str:
        """What a function gives; the statement is appended."""
        body.append(Compute(self.name(), function, (a, b)))
        return str(body[-1].target)

    def least_of(self, found: Sum) -> int | None:
        """A number that a sum isn't less than; None where none is known."""
        for name in reversed(self.ranges):  # the innermost loop first: its ends may be made of others' variables
            n = dict(found.terms).get(name, 0)
            found = found.plus(atom(name), -n).plus(self.ranges[name][n < 0], n)
        total = found.number
        for at, n in found.terms:
            low = 0 if isinstance(at, Axis) else self.least.get(at)
            if low is None or n < 0:
                return None
            total += n * low
        return total

    def is_above(self, a: Sum, b: Sum) -> bool:
        """Whether one is known to be larger than another one."""
        low = self.least_of(a.plus(b, -1))
        return low is not None and low > 0

    # --- spans

    def axis(self, array: str, axis: int) -> Sum:
        """The length of an axis of an array."""
        return self.new[array][axis] if array in self.new else atom(Axis(array, axis))

    def first(self, part: Part, axis: int) -> Sum:
        """The first index of a span."""
        start, _, step = part.index[axis]
        if start is None:
            return Sum(0) if step > 0 else self.axis(part.array, axis).add(-1)
        return self.from_end(part, axis, start)

    def beyond(self, part: Part, axis: int) -> Sum:
        """The index where a span ends."""
        _, stop, step = part.index[axis]
        if stop is None:
            return self.axis(part.array, axis) if step > 0 else Sum(-1)
        return self.from_end(part, axis, stop)

    def from_end(self, part: Part, axis: int, end: Operand) -> Sum:
        """An end of a span, which is counted from the axis's end if it is negative."""
        found = self.sum_of(end)
        return self.axis(part.array, axis).plus(found) if self.is_negative(end) else found

    def is_negative(self, end: Operand | None) -> bool:
        """Whether an end of a span is known to be negative."""
        return end is not None and self.is_above(Sum(0), self.sum_of(end))

    def length(self, part: Part, axis: int) -> Sum:
        """How long an axis of a part is, if it is no less than 0."""
        step = part.index[axis].step
        between = self.beyond(part, axis).plus(self.first(part, axis), -1)
        return (between if step > 0 else Sum(0).plus(between, -1)).over(abs(step))

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
        self.over(into, value, found, lambda at, stored, _: [Store(into.array, at, stored)])

    def total(self, item: Total, known: dict[str, Any], found: list[Any]) -> None:
        """A sum, in the order of memory: of all elements, or of each place along the other axes."""
        value = self.value(item.array, known)
        if not isinstance(value, (Part, Formula)):
            raise Declined
        space, name = _widest(value), item.target

        def add(at: Any, x: Any, storing: Storing) -> list[Any]:
            return [Compute(name, operator.add, (name, x))]

        if item.axis is None:
            found.append(Compute(name, None, (Const(0.0),)))
            self.over(space, value, found, add, adds_up=True)
            return
        reduced = space.axes[item.axis]
        axes = [axis for axis in space.axes if axis != reduced]
        lengths = [self.length(space, axis) for axis in axes]
        if self.n_assigned[name] > 1 or not lengths or not all(map(self.is_fixed, lengths)):
            raise Declined
        self.new[name] = lengths
        known[name] = made = Part(name, (_ALL,) * len(axes))

        def place(storing: Storing) -> tuple[Any, ...]:
            return tuple(self.place(made, k, axis, storing) for k, axis in enumerate(axes))

        def add_there(at: Any, x: Any, storing: Storing) -> list[Any]:
            index, before, after = place(storing), self.name(), self.name()
            added = Compute(after, operator.add, (before, x))
            return [Load(before, name, index), added, Store(name, index, after)]

        if reduced != space.axes[-1]:
            self.store(made, Const(0.0), found)
            self.over(space, value, found, add_there)
            return
        name = self.name()  # of the sum at one place
        body = self.over(space, value, found, add, adds_up=True)
        body.bodies[axes[-1]].insert(0, Compute(name, None, (Const(0.0),)))
        body.bodies[axes[-1]].append(Store(item.target, place(body), name))

    def over(self, space: Part, value: Any, found: list[Any], last: Any, adds_up: bool = False) -> Storing:
        """Loops over the elements of a part, appended: what is done last, for an index and an element of a value.

        Turns of the innermost are apart from each other, unless what is done there adds up.
        """
        variables = {axis: self.name() for axis in space.axes}
        bodies: dict[int, list[Any]] = {axis: [] for axis in space.axes}
        firsts = {axis: self.first(space, axis) for axis in space.axes if self.is_shifted(space, axis, value)}
        storing = Storing(space, variables, firsts, bodies, found, {}, {axis: [] for axis in space.axes})
        places = {axis: self.place(space, axis, axis, storing) for axis in space.axes}
        at = tuple(places.get(axis, i) for axis, i in enumerate(space.index))
        bodies[space.axes[-1]] += last(at, self.element(value, storing), storing)
        made: list[Any] = []
        for axis in reversed(space.axes):
            is_index = axis in firsts
            ends_at = self.beyond(space, axis) if is_index else self.length(space, axis)
            bounds = self.computed_sum(firsts.get(axis, Sum(0)), found), self.computed_sum(ends_at, found), 1
            ends = tuple(dict.fromkeys(storing.ends[axis]))
            bodies[axis] += made
            is_apart = not (adds_up and axis == space.axes[-1])
            made = [Loop(variables[axis], bounds, bodies[axis], apart=is_apart, ends=ends)]
        found += made
        return storing

    def is_shifted(self, into: Part, axis: int, value: Any) -> bool:
        """Whether the indices of an axis are all as far from each other throughout."""
        n = sum(a >= axis for a in into.axes)
        spans = [(read, read.axes[-n]) for read in _parts(value) if len(read.axes) >= n]
        first = self.first(into, axis)
        shifts = [self.first(read, other).plus(first, -1) for read, other in spans]
        steps = [into.index[axis].step, *(read.index[other].step for read, other in spans)]
        return not any(shift.terms for shift in shifts) and set(steps) == {1}

    def place(self, part: Part, axis: int, other: int, storing: Storing) -> Operand:
        """The index of the element of a part, where a loop over another axis is; what it is made of is appended."""
        first, (_, _, step) = self.first(part, axis), part.index[axis]
        storing.ends[other].extend(self.ends(part, axis, storing))
        if other in storing.firsts:
            first = first.plus(storing.firsts[other], -1)
        key = other, step, first
        if key not in storing.known:
            storing.known[key] = self.turned(storing.variables[other], step, first, storing, storing.bodies[other])
            self.inside.add(storing.known[key])
        return str(storing.known[key])

    def turned(self, variable: str, step: int, first: Sum, storing: Storing, body: list[Any]) -> str:
        """An integer, and a number of steps; statements that compute it are appended."""
        if (step, first) == (1, Sum(0)):
            return variable
        base = self.computed_sum(first, storing.before)
        at = variable if abs(step) == 1 else self.computed_by(operator.mul, variable, Const(abs(step)), body)
        if step > 0:
            return self.computed_by(operator.add, at, base, body)
        return self.computed_by(operator.sub, base, at, body)

    def ends(self, part: Part, axis: int, storing: Storing) -> list[End]:
        """What must be looked at of the ends of a slice, as long as others are."""
        (start, stop, step), found = part.index[axis], []
        if self.is_negative(start):
            found.append(End(self.computed_sum(self.first(part, axis), storing.before)))
        elif start is not None:
            found.append(End(start, part.array, axis, -1) if step < 0 else End(start))
        if stop is not None and not self.is_negative(stop):
            found.append(End(stop, part.array, axis))
        return [end for end in found if end.array is not None or isinstance(end.at, str)]

    def element(self, value: Any, storing: Storing) -> Any:
        """An element of a value, where one is stored; statements that compute it go to the loops' bodies."""
        if not isinstance(value, (Part, Formula)):
            return value
        key = value if isinstance(value, Part) else id(value)
        if key in storing.known:
            return storing.known[key]
        into = storing.into
        made, body = self.name(), storing.bodies[into.axes[-1]]
        if isinstance(value, Formula):
            operands = tuple(self.element(o, storing) for o in value.operands)
            if value.function is np.where:
                condition, *sides = operands
                body.append(If(condition, *([Compute(made, None, (side,))] for side in sides)))
            else:
                body.append(Compute(made, value.function, operands, of_elements=True))
        else:
            if len(value.axes) > len(into.axes):
                raise Declined
            index = list(value.index)
            for axis, other in zip(reversed(value.axes), reversed(into.axes), strict=False):
                self.require(self.length(value, axis), self.length(into, other))
                index[axis] = self.place(value, axis, other, storing)
            body.append(Load(made, value.array, tuple(index)))
        storing.known[key] = made
        return made

    def require(self, a: Sum, b: Sum) -> None:
        """Lengths that must be equal: else there is an error, or an element for all."""
        differs = a.plus(b, -1)
        if not self.is_fixed(differs):
            raise Declined
        if differs != Sum(0) and differs not in self.equal:
            self.equal.append(differs)

    def keep_apart(self, into: Part, value: Any) -> None:
        """Decline what reads, of the array that is stored to, other elements that a turn may have changed."""
        for read in _parts(value):
            if read.array == into.array and not self.is_same(read, into) and not self.is_elsewhere(read, into):
                raise Declined

    def is_same(self, read: Part, into: Part) -> bool:
        """Whether a turn reads the element that it writes."""
        return read.axes == into.axes and all(
            self.between(read, axis) == self.between(into, axis)
            and (not isinstance(at, Span) or at.step == into.index[axis].step)
            for axis, at in enumerate(read.index)
        )

    def is_elsewhere(self, read: Part, into: Part) -> bool:
        """Whether integers in the indices tell the elements apart."""
        for axis, (a, b) in enumerate(zip(read.index, into.index, strict=True)):
            (low, high), (other_low, other_high) = self.between(read, axis), self.between(into, axis)
            if isinstance(a, Const) and isinstance(b, Const) and a.value < 0 and b.value < 0 and a != b:
                return True
            if any(not isinstance(at, Span) and not self.is_above(self.sum_of(at), Sum(-1)) for at in (a, b)):
                continue  # it may be counted from the end
            if self.is_above(low, other_high) or self.is_above(other_low, high):
                return True
            if isinstance(a, Span) and isinstance(b, Span) and a.step == b.step > 1:
                differs = low.plus(other_low, -1)
                if not differs.terms and differs.number % a.step:
                    return True
        return False

    def between(self, part: Part, axis: int) -> tuple[Sum, Sum]:
        """The least and the largest index that a part has of an axis."""
        at = part.index[axis]
        if not isinstance(at, Span):
            return self.sum_of(at), self.sum_of(at)
        first, last = self.first(part, axis), self.beyond(part, axis).add(-1 if at.step > 0 else 1)
        return (first, last) if at.step > 0 else (last, first)


def _declined() -> Any:
    raise Declined


def _of_elements(function: Any, operands: tuple[Any, ...]) -> Any:
    """The function of elements that one of arrays is."""
    if function in POWERS:
        if function is not operator.pow or not isinstance(operands[1], Const):
            raise Declined
    elif not (function in _PLAIN | COMPARISONS | {np.where} or isinstance(function, np.ufunc)):
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


def _widest(value: Whole) -> Part:
    """The part whose shape a value has: the first of those with most axes."""
    return max(_parts(value), key=lambda part: len(part.axes))


def _numbers(value: Any) -> set[str]:
    """The names of numbers that a value is made of."""
    if isinstance(value, Formula):
        return set().union(*map(_numbers, value.operands))
    if isinstance(value, Part):
        ends = (end for at in value.index for end in (at if isinstance(at, Span) else (at,)))
        return {end for end in ends if isinstance(end, str)}
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
