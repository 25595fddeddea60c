"""Loop nests: the loops of a user's function, found in Numba's code and read as a small program.

      Loop       for variable in range(*bounds): body
      If         condition, then, other
      Compute    target = function(*operands); a copy where the function is None
      Load       target = array[index]
      Store      array[index] = value
      Extent     target = array.shape[axis], or its size
      New        target = a new array
      Total      target = the sum of an array's elements, or of those along an axis

Operands are names or `Const`s. A nest is read if it is made of these alone: of loops over ranges that are left at their
end only, of scalars, and elements of arrays. A part of an index may be a `Span`, and a name an array: what is then said
of arrays, `nest_arrays.py` says of their elements. What its names are, and so whether it is differentiated as a whole,
is known when types are: see `nest_types.py`. `nest_calls.py` puts the call of a nest before its loop, which remains
there for all that the call leaves to it.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numba.core import analysis, ir, ir_utils

from tapegrad.jitted.names import NAMES, OPERATIONS, PIECEWISE, POWERS, RULES

MAX_STATEMENTS = 400
MIN_ITERATIONS = 32  # of innermost loops: nests of fewer are left to the plain loop


class Const(NamedTuple):
    """A number that is known."""

    value: Any


Operand: TypeAlias = "str | Const"


class Span(NamedTuple):
    """A slice in an index; None is an end of the axis, and the step a number that is known."""

    start: Any
    stop: Any
    step: int = 1


class End(NamedTuple):
    """An end of a slice, which must be no less than 0; and no more than the length of an axis, and a number."""

    at: Operand
    array: str | None = None
    axis: int = 0
    plus: int = 0


@dataclass(eq=False)
class Compute:
    """A scalar; of elements of arrays where a division by zero raises nothing, and one of two operands is a float."""

    target: str
    function: Any
    operands: tuple[Operand, ...]
    in_place: bool = False
    of_elements: bool = False


@dataclass(eq=False)
class Load:
    """An element that is read."""

    target: str
    array: str
    index: tuple[Any, ...]


@dataclass(eq=False)
class Store:
    """An element that is written."""

    array: str
    index: tuple[Any, ...]
    value: Operand


@dataclass(eq=False)
class Extent:
    """A length of an array; its size where the axis is None."""

    target: str
    array: str
    axis: int | None


@dataclass(eq=False)
class New:
    """A new array, like another or of given lengths; its elements are an array's, or a number, or to be written yet."""

    target: str
    like: str | None
    lengths: tuple[Operand, ...]
    value: Operand | None


@dataclass(eq=False)
class Total:
    """The sum of all elements of an array, which is a number; or of those along an axis, which are a new array."""

    target: str
    array: str
    axis: int | None


@dataclass(eq=False)
class If:
    """A branch."""

    condition: Operand
    then: list[Any]
    other: list[Any]


@dataclass(eq=False)
class Loop:
    """A loop over a range, whose step is known; `apart` where no turn reads or writes what another one writes.

    Where one of `ends` isn't what it must be, the loop is another one.
    """

    variable: str
    bounds: tuple[Operand, Operand, int]
    body: list[Any]
    apart: bool = False
    ends: tuple[End, ...] = ()


class Declined(Exception):  # noqa: N818  it is no error
    """A loop that isn't read as a nest."""


INTEGER = {operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod, operator.neg, operator.pos,
           min, max, abs}  # fmt: skip
COMPARISONS = {operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne}
TRUTH = {bool, operator.truth, operator.not_}
OP_OF = {name: OPERATIONS[op] for op, names in NAMES.items() for name in names}
_LIKE = {np.zeros_like, np.empty_like, np.ones_like, np.copy}
_MAKING = (
    (np.zeros, Const(0.0)), (np.zeros_like, Const(0.0)), (np.ones, Const(1.0)), (np.ones_like, Const(1.0)),
    (np.empty, None), (np.empty_like, None), (np.copy, None),
)  # fmt: skip
KNOWN = INTEGER | COMPARISONS | TRUTH | {f for f in RULES if f in OP_OF} | {operator.truediv}


class Found(NamedTuple):
    """A nest in a function's code."""

    entry: int  # the block before it
    header: int
    test: int  # where it is left
    exit: int
    loop: Loop
    inputs: tuple[str, ...]  # names that it needs, or may leave as they are
    outputs: tuple[str, ...]  # names that are read behind
    around: tuple[int, ...]  # the headers of loops around it


class Straight(NamedTuple):
    """Straight code, as a nest whose loop has one turn: see `stretches.py`."""

    loop: Loop
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]  # numbers that are read behind
    results: tuple[str, ...]  # new arrays that are


def statements(body: list[Any]) -> Iterator[Any]:
    """All statements, from the first to the last; those of a loop or a branch behind it."""
    for item in body:
        yield item
        if isinstance(item, Loop):
            yield from statements(item.body)
        elif isinstance(item, If):
            yield from statements(item.then)
            yield from statements(item.other)


def read_by(item: Any) -> list[str]:
    """The names that a statement reads itself."""
    if isinstance(item, Compute):
        found: list[Any] = list(item.operands)
    elif isinstance(item, Load):
        found = [item.array, *_flat(item.index)]
    elif isinstance(item, Store):
        found = [item.array, *_flat(item.index), item.value]
    elif isinstance(item, (Extent, Total)):
        found = [item.array]
    elif isinstance(item, New):
        found = [item.like, *item.lengths, item.value]
    else:
        found = [item.condition] if isinstance(item, If) else [*item.bounds[:2], *(end.at for end in item.ends)]
    return [name for name in found if isinstance(name, str)]


def _flat(index: Iterable[Any]) -> list[Any]:
    """The operands of an index."""
    return [operand for part in index for operand in (part if isinstance(part, Span) else (part,))]


def target_of(item: Any) -> str | None:
    """The name that a statement assigns."""
    if isinstance(item, Loop):
        return item.variable
    return item.target if isinstance(item, (Compute, Load, Extent, New, Total)) else None


def find(func_ir: Any, resolve: Any) -> list[Found]:
    """The nests of a function: whole ones, and those within."""
    cfg = analysis.compute_cfg_from_blocks(func_ir.blocks)
    loops = cfg.loops()
    if not loops or any(isinstance(s, (ir.PopBlock, ir.EnterWith)) for b in func_ir.blocks.values() for s in b.body):
        return []
    reader = _Reader(func_ir, cfg, loops, resolve)
    used = analysis.compute_use_defs(func_ir.blocks)
    live = analysis.compute_live_map(cfg, func_ir.blocks, used.usemap, used.defmap)
    found = []
    for header, loop in loops.items():
        entries = [label for label, _ in cfg.predecessors(header) if label not in loop.body]
        if len(entries) != 1 or not isinstance(func_ir.blocks[entries[0]].body[-1], ir.Jump):
            continue
        try:
            nest, leads_to = reader.nest(header)
        except Declined:
            continue
        turns = _turns([nest])
        if turns is not None and turns < MIN_ITERATIONS:
            continue
        outside = live[leads_to]
        while _prune(nest.body, outside, {n for item in statements([nest]) for n in read_by(item)}):
            pass
        inner = list(statements([nest]))
        assigned = {name for name in map(target_of, inner) if name is not None}
        met = assigned.union(*map(read_by, inner))
        outputs = assigned & live[leads_to]
        inputs = met & (live[header] | set(read_by(nest)))
        if outputs <= inputs and len(inner) <= MAX_STATEMENTS:
            around = tuple(o for o, other in loops.items() if o != header and header in other.body)
            found.append(
                Found(
                    entries[0],
                    header,
                    reader.test_of(header),
                    leads_to,
                    nest,
                    tuple(sorted(inputs)),
                    tuple(sorted(outputs)),
                    around,
                )
            )
    return found


def _prune(body: list[Any], outside: set[str], met: set[str]) -> bool:
    """Take out other names for what nobody reads; returns whether there were some."""

    def is_idle(item: Any) -> bool:
        is_name = isinstance(item, Extent) or (isinstance(item, Compute) and item.function is None)
        return is_name and item.target not in met and item.target not in outside

    n = len(body)
    body[:] = [item for item in body if not is_idle(item)]
    found = len(body) < n
    for part in (part for item in body for part in _parts(item)):
        found |= _prune(part, outside, met)
    return found


def _turns(body: list[Any]) -> int | None:
    """How many turns the innermost loops of a body have, at most; None where it isn't known beforehand."""
    total = 0
    for item in body:
        inner = _sum(_turns(part) for part in _parts(item))
        if isinstance(item, Loop):
            ends = [bound.value for bound in item.bounds[:2] if isinstance(bound, Const)]
            if inner is None or len(ends) < 2 or not all(isinstance(end, int) for end in ends):
                return None
            inner = len(range(*ends, item.bounds[2])) * (inner or 1)
        is_whole = isinstance(item, (Load, Store)) and any(isinstance(part, Span) for part in item.index)
        if inner is None or is_whole or isinstance(item, New):
            return None
        total += inner
    return total


def _sum(numbers: Iterable[int | None]) -> int | None:
    found = list(numbers)
    return None if None in found else sum(n for n in found if n is not None)


def _parts(item: Any) -> list[list[Any]]:
    if isinstance(item, Loop):
        return [item.body]
    return [item.then, item.other] if isinstance(item, If) else []


class Operands:
    """Reads what statements are made of."""

    def __init__(self, func_ir: Any, resolve: Any) -> None:
        self.func_ir, self.resolve = func_ir, resolve

    def definition(self, variable: Any) -> Any:
        """What a variable is assigned; None where that isn't known."""
        return ir_utils.guard(ir_utils.get_definition, self.func_ir, variable)

    def operand(self, variable: Any) -> Operand:
        """A number that is known, or a name."""
        known = self.definition(variable)
        if isinstance(known, (ir.Const, ir.Global, ir.FreeVar)) and isinstance(known.value, (int, float)):
            return Const(known.value)
        if isinstance(known, ir.Expr) and known.op == "getattr":  # np.inf, say
            value = self.resolve(self.func_ir, variable)
            if isinstance(value, (int, float)):
                return Const(value)
        return str(variable.name)

    def index(self, variable: Any) -> tuple[Any, ...]:
        """The parts of an index."""
        known = self.definition(variable)
        if isinstance(known, ir.Expr) and known.op == "build_tuple":
            return tuple(map(self.part, known.items))
        return (self.part(variable),)

    def part(self, variable: Any) -> Any:
        """A part of an index."""
        known = self.definition(variable)
        if not isinstance(known, ir.Expr) or known.op != "call" or self.resolve(self.func_ir, known.func) is not slice:
            return self.operand(variable)
        ends = [None if self.is_none(a) else self.operand(a) for a in known.args]
        if known.kws or len(ends) not in (2, 3):
            raise Declined
        return _span(*ends)

    def is_none(self, variable: Any) -> bool:
        """Whether a variable is None."""
        known = self.definition(variable)
        return isinstance(known, ir.Const) and known.value is None


class _Reader(Operands):
    """Reads loops, block by block."""

    def __init__(self, func_ir: Any, cfg: Any, loops: Any, resolve: Any) -> None:
        super().__init__(func_ir, resolve)
        self.cfg, self.loops = cfg, loops
        self.post_dominators = cfg.post_dominators()
        self.tuples: dict[str, tuple[Any, list[Any]]] = {}  # names of tuples: their items, and the body they stand in

    def nest(self, header: int) -> tuple[Loop, int]:
        """A loop that nothing is known around."""
        blocks = [self.func_ir.blocks[label] for label in self.loops[header].body]
        self.assigned_here = {s.target.name for block in blocks for s in block.body if isinstance(s, ir.Assign)}
        return self.loop(header)

    def loop(self, header: int) -> tuple[Loop, int]:
        """A loop, and where it leads."""
        loop, test = self.loops[header], self.test_of(header)
        if any(to not in loop.body for label in loop.body - {test} for to, _ in self.cfg.successors(label)):
            raise Declined
        *body, branch = self.func_ir.blocks[test].body
        if not isinstance(branch, ir.Branch) or branch.falsebr in loop.body:
            raise Declined
        iterator, variable = None, None
        for statement in body:
            if not isinstance(statement, ir.Assign):
                raise Declined
            value, target = statement.value, statement.target.name
            if isinstance(value, ir.Expr) and value.op == "iternext":
                iterator = value.value
            elif (isinstance(value, ir.Expr) and value.op == "pair_first") or (
                isinstance(value, ir.Var) and value.name == variable
            ):
                variable = target
            elif not (isinstance(value, ir.Expr) and value.op == "pair_second"):
                raise Declined
        if iterator is None or variable is None:
            raise Declined
        bounds, inner = self.range_of(iterator), self.body(branch.truebr, header, loop.body)
        if inner and isinstance(inner[0], Compute) and inner[0].operands == (variable,) and inner[0].function is None:
            variable = inner.pop(0).target  # the user's name for it
        return Loop(variable, bounds, inner), branch.falsebr

    def test_of(self, header: int) -> int:
        """The block in which a loop is left; its header may only lead there."""
        while isinstance(self.func_ir.blocks[header].body[0], ir.Jump):
            header = self.func_ir.blocks[header].body[0].target
        return header

    def range_of(self, iterator: Any) -> tuple[Operand, Operand, int]:
        made = self.definition(iterator)
        called = self.definition(made.value) if isinstance(made, ir.Expr) and made.op == "getiter" else None
        if (
            not isinstance(called, ir.Expr)
            or called.op != "call"
            or self.resolve(self.func_ir, called.func) is not range
        ):
            raise Declined
        if called.kws or called.vararg is not None:
            raise Declined
        args = [self.operand(a) for a in called.args]
        start, stop = (Const(0), args[0]) if len(args) == 1 else args[:2]
        step = args[2].value if len(args) == 3 and isinstance(args[2], Const) else 1 if len(args) < 3 else 0
        if not isinstance(step, int) or step == 0:
            raise Declined
        return start, stop, step

    def body(self, label: int, stop: int, within: Any) -> list[Any]:
        """The statements from one block to another."""
        items: list[Any] = []
        while label != stop:
            if label not in within:
                raise Declined
            if label in self.loops:
                inner, label = self.loop(label)
                self.forget_tuples(inner.variable)
                items.append(inner)
                continue
            *body, last = self.func_ir.blocks[label].body
            for statement in body:
                self.statement(statement, items)
            if isinstance(last, ir.Jump):
                label = last.target
            elif isinstance(last, ir.Branch):
                merge = self.merge(label)
                then, other = (self.body(to, merge, within) for to in (last.truebr, last.falsebr))
                items.append(If(self.operand(last.cond), then, other))
                label = merge
            else:
                raise Declined
        return items

    def merge(self, label: int) -> int:
        """Where the two ways of a branch meet."""
        behind = self.post_dominators[label] - {label}
        if not behind:
            raise Declined
        return max(behind, key=lambda other: len(self.post_dominators[other]))

    def array(self, variable: Any) -> str:
        """The first name of what may be an array: inlined functions have others."""
        name, names = str(variable.name), self.func_ir._definitions
        while name in self.assigned_here and len(names[name]) == 1 and isinstance(names[name][0], ir.Var):
            before = str(names[name][0].name)
            if len(names.get(before, ())) != 1:
                break
            name = before
        return name

    def statement(self, statement: Any, items: list[Any]) -> None:
        if isinstance(statement, ir.SetItem):
            items.append(
                Store(self.array(statement.target), self.index(statement.index), self.operand(statement.value))
            )
        elif isinstance(statement, ir.StaticSetItem):
            items.append(
                Store(self.array(statement.target), known_index(statement.index), self.operand(statement.value))
            )
        elif isinstance(statement, ir.Assign):
            target, value = statement.target.name, statement.value
            made = self.assigned(target, self.item_of_tuple(value, items) or value)
            if made is not None:
                items.append(made)
            self.follow_tuples(target, value, items)
        elif not isinstance(statement, ir.Del):
            raise Declined

    def item_of_tuple(self, value: Any, items: list[Any]) -> Any:
        """The variable that is an item of a tuple, which was built in the same body before, and is the same still."""
        if not isinstance(value, ir.Expr) or value.op != "static_getitem" or not isinstance(value.index, int):
            return None
        parts, body = self.tuples.get(value.value.name, ((), None))
        return parts[value.index] if body is items and value.index < len(parts) else None

    def follow_tuples(self, target: str, value: Any, items: list[Any]) -> None:
        """What names tuples, once a name is assigned."""
        self.forget_tuples(target)
        if isinstance(value, ir.Expr) and value.op == "build_tuple":
            self.tuples[target] = value.items, items
        source = value.value if isinstance(value, ir.Expr) and value.op in ("exhaust_iter", "cast") else value
        if isinstance(source, ir.Var) and source.name in self.tuples:
            self.tuples[target] = self.tuples[source.name]

    def forget_tuples(self, target: str) -> None:
        """A name is assigned: what was a tuple of that name, or of its value, is none any more."""
        known = self.tuples.items()
        self.tuples = {n: t for n, t in known if n != target and all(part.name != target for part in t[0])}

    def assigned(self, target: str, value: Any) -> Any:
        """What an assignment is; None where it makes no scalar by itself."""
        if isinstance(value, ir.Var):
            known = self.definition(value)
            if isinstance(known, ir.Expr) and known.op == "getiter":
                return None
            return Compute(target, None, (self.operand(value),))
        if isinstance(value, (ir.Const, ir.Global, ir.FreeVar)):
            return Compute(target, None, (Const(value.value),)) if isinstance(value.value, (int, float)) else None
        if not isinstance(value, ir.Expr):
            raise Declined
        if value.op in ("binop", "inplace_binop"):
            function = value.fn if value.op == "binop" else value.immutable_fn
            made = self.computed(target, function, (value.lhs, value.rhs))
            made.in_place = value.op == "inplace_binop"
            return made
        if value.op == "unary":
            return self.computed(target, value.fn, (value.value,))
        if value.op == "call":
            function = self.resolve(self.func_ir, value.func)
            if value.kws or value.vararg is not None:
                raise Declined
            if function in (range, slice):
                return None
            if function is len and len(value.args) == 1:
                return Extent(target, self.array(value.args[0]), 0)
            return self.new(target, function, value) or self.computed(target, function, value.args)
        if value.op == "getitem":
            return Load(target, self.array(value.value), self.index(value.index))
        if value.op == "static_getitem":
            owner = self.definition(value.value)
            while isinstance(owner, ir.Expr) and owner.op == "exhaust_iter":
                owner = self.definition(owner.value)
            if isinstance(owner, ir.Expr) and owner.op == "getattr" and owner.attr == "shape":
                return Extent(target, self.array(owner.value), value.index)
            return Load(target, self.array(value.value), known_index(value.index))
        if value.op == "getattr" and value.attr == "size":
            return Extent(target, self.array(value.value), None)
        if value.op == "getattr":
            owner = self.resolve(self.func_ir, value.value)
            known = getattr(owner, value.attr, None) if isinstance(owner, ModuleType) else None
            return Compute(target, None, (Const(known),)) if isinstance(known, (int, float)) else None
        if value.op in ("build_tuple", "exhaust_iter", "getiter"):  # parts of what is read above, or unknown
            return None
        raise Declined

    def new(self, target: str, function: Any, call: Any) -> New | None:
        """A call that makes an array; None if it is another."""
        owner = self.definition(call.func) if function is None else None
        if isinstance(owner, ir.Expr) and owner.op == "getattr" and owner.attr == "copy" and not call.args:
            array = self.array(owner.value)
            return New(target, array, (), array)
        values = [value for name, value in _MAKING if function is name]
        if not values or len(call.args) != 1:
            return None
        given, value = self.definition(call.args[0]), values[0]
        if function in _LIKE:
            array = self.array(call.args[0])
            return New(target, array, (), array if function is np.copy else value)
        if isinstance(given, ir.Expr) and given.op == "getattr" and given.attr == "shape":
            return New(target, self.array(given.value), (), value)
        is_tuple = isinstance(given, ir.Expr) and given.op == "build_tuple"
        return New(target, None, tuple(map(self.operand, given.items if is_tuple else call.args)), value)

    def computed(self, target: str, function: Any, args: Any) -> Compute:
        operands = tuple(map(self.operand, args))
        try:
            is_known = function in KNOWN
        except TypeError:  # unhashable
            is_known = False
        if not is_known or len(operands) != (len(RULES[function].partials) if function in RULES else len(args)):
            raise Declined  # `max` of three, say
        if function in POWERS and not (isinstance(operands[1], Const) or function in RULES):
            raise Declined
        return Compute(target, function, operands)


def known_index(index: Any) -> tuple[Any, ...]:
    """An index that is known."""
    return tuple(map(_known_part, index if isinstance(index, tuple) else (index,)))


def _known_part(part: Any) -> Any:
    if isinstance(part, int):
        return Const(part)
    if not isinstance(part, slice):
        raise Declined
    return _span(*(None if end is None else Const(end) for end in (part.start, part.stop, part.step)))


def _span(start: Any, stop: Any, step: Any = None) -> Span:
    """A slice, if its step is known."""
    ends = (start, stop, Const(1) if step is None else step)
    if any(isinstance(end, Const) and type(end.value) is not int for end in ends) or ends[2] == Const(0):
        raise Declined
    if not isinstance(ends[2], Const):
        raise Declined
    return Span(start, stop, ends[2].value)


assert not KNOWN & set(PIECEWISE) - COMPARISONS - TRUTH - {operator.floordiv}
