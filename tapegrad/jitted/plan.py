"""Which scalars of a user's function get rows: what each assignment of its typed Numba IR is, and what to make of it.

Assignments whose right side is in the table of rules become nodes (`statements.py`). A node is recorded at once where
its value goes somewhere that needs a row: into an array, a tuple, another function, a variable that is assigned in
several places. Where all its uses are rules again, in code that runs only after it and equally often, it stays a node
and becomes part of their rows. So a row covers all of a loop's body that leads to one result, across the names that the
user gave to what is between. `lowering.py` carries it out.
"""

from __future__ import annotations

import operator
from collections import defaultdict
from typing import Any, NamedTuple

from numba.core import ir, types
from numba.core.analysis import compute_cfg_from_blocks
from numba.core.unsafe import eh

from tapegrad.jitted.active import Taped
from tapegrad.jitted.names import PIECEWISE, POWERS, RULES

MAX_RESULTS = 3  # a value that more rows than these would be computed through gets a row of its own


class Step(NamedTuple):
    """What to make of an assignment: a node of a function's rule, or another name for a variable (function None)."""

    function: Any
    operands: tuple[str, ...]
    exponent: int | None = None  # of an integer power, where it is known
    is_recorded: bool = True


class Place(NamedTuple):
    """Where a statement stands."""

    block: int
    position: int
    statement: Any


class Plan:
    """The steps of a function, found in its typed Numba IR."""

    def __init__(self, func_ir: Any, typemap: dict[str, Any], calltypes: dict[Any, Any]) -> None:
        self.blocks, self.typemap, self.calltypes = func_ir.blocks, typemap, calltypes
        self.cfg = compute_cfg_from_blocks(self.blocks)
        self.dominators = self.cfg.dominators()
        self.definitions: dict[str, list[Place]] = defaultdict(list)
        self.uses: dict[str, list[Place]] = defaultdict(list)
        for label, block in self.blocks.items():
            for position, statement in enumerate(block.body):
                place = Place(label, position, statement)
                if isinstance(statement, ir.Assign):
                    self.definitions[statement.target.name].append(place)
                if not isinstance(statement, ir.Del):
                    for variable in _read_by(statement):
                        self.uses[variable].append(place)
        self.steps: dict[str, Step] = {}
        self.tuples: set[str] = set()  # tuples that are taken apart again, and never built
        if not func_ir.generator_info and not self._catches():
            self._find_steps()
            self._decide()

    def _catches(self) -> bool:
        """Whether there is a `try`: then code may be left between any two statements."""
        return any(
            isinstance(statement, ir.PopBlock)
            or (
                isinstance(getattr(statement, "value", None), ir.Global) and statement.value.value is eh.exception_check
            )
            for block in self.blocks.values()
            for statement in block.body
        )

    def is_taped(self, name: str) -> bool:
        """Whether a variable is a taped scalar."""
        return isinstance(self.typemap[name], Taped)

    def single(self, name: str) -> Place | None:
        """Where a variable is assigned, if that is one place."""
        places = self.definitions.get(name, [])
        return places[0] if len(places) == 1 else None

    def loop_of(self, label: int) -> Any:
        """The header of the innermost loop that a block is in."""
        loops = self.cfg.in_loops(label)
        return loops[0].header if loops else None

    def is_seen_from(self, at: Place, use: Place) -> bool:
        """Whether what is computed at one place is there, and as often, at another."""
        if at.block == use.block:
            return at.position < use.position
        return (
            at.block in self.dominators[use.block]
            and at.block < use.block  # blocks are lowered in the order of their labels
            and self.loop_of(at.block) == self.loop_of(use.block)
        )

    # --- what each assignment is

    def _find_steps(self) -> None:
        self.tuples |= {name for name in self.definitions if self._is_taken_apart(name)}
        for name in list(self.definitions):
            place = self.single(name)
            if place is not None and self.is_taped(name):
                step = self._step(place.statement.value)
                if step is not None:
                    self.steps[name] = step

    def _is_taken_apart(self, name: str) -> bool:
        """Whether a variable is a tuple that is built here, and whose items are all that is read of it."""
        place = self.single(name)
        if place is None or not isinstance(self.typemap[name], types.BaseTuple):
            return False
        value = place.statement.value
        before = passed_on(value)
        if before is not None:
            same = self.typemap[before] == self.typemap[name] and self._is_taken_apart(before)
        else:
            same = isinstance(value, ir.Expr) and value.op == "build_tuple"
        return same and all(self._takes_apart(use) for use in self.uses[name])

    def _takes_apart(self, use: Place) -> bool:
        if not isinstance(use.statement, ir.Assign):
            return False
        value, target = use.statement.value, use.statement.target.name
        if isinstance(value, ir.Expr) and value.op == "static_getitem":
            return isinstance(value.index, int)
        return passed_on(value) is not None and self.single(target) is not None and all(
            self._takes_apart(further) for further in self.uses[target]
        )  # fmt: skip

    def _items(self, name: str) -> list[str]:
        """The variables that a tuple was built of."""
        value = self.definitions[name][0].statement.value
        before = passed_on(value)
        return [item.name for item in value.items] if before is None else self._items(before)

    def _step(self, value: Any) -> Step | None:
        if isinstance(value, ir.Var):
            return Step(None, (value.name,)) if self.is_taped(value.name) else None
        if not isinstance(value, ir.Expr):
            return None
        if value.op == "cast":
            return Step(None, (value.value.name,)) if self.is_taped(value.value.name) else None
        if value.op == "static_getitem" and value.value.name in self.tuples:
            item = self._items(value.value.name)[value.index]
            return Step(None, (item,)) if self.is_taped(item) and self.single(item) else None
        function, operands = self.called(value)
        if function not in RULES or len(operands) != len(RULES[function].partials):
            return None
        if not all(isinstance(self.typemap[o], (Taped, types.Float, types.Integer, types.Boolean)) for o in operands):
            return None
        exponent = None
        if function in POWERS and isinstance(self.typemap[operands[1]], (types.Integer, types.Boolean)):
            exponent = self._known_integer(operands[1])
        return Step(function, operands, exponent)

    def called(self, value: Any) -> tuple[Any, tuple[str, ...]]:
        """The function of an expression, and the variables it is called with."""
        if value.op in ("binop", "inplace_binop"):
            function = value.fn if value.op == "binop" else value.immutable_fn
            return function, (value.lhs.name, value.rhs.name)
        if value.op == "unary":
            return value.fn, (value.value.name,)
        if value.op == "call" and not value.kws and value.vararg is None:
            kind = self.typemap[value.func.name]
            if isinstance(kind, types.Function):
                return kind.typing_key, tuple(a.name for a in value.args)
        return None, ()

    def _known_integer(self, name: str) -> int | None:
        place = self.single(name)
        if place is None:
            return None
        value = place.statement.value
        if isinstance(value, (ir.Const, ir.Global, ir.FreeVar)) and isinstance(value.value, int):
            return int(value.value)
        if isinstance(value, ir.Expr) and value.op == "unary" and value.fn is operator.neg:
            known = self._known_integer(value.value.name)
            return None if known is None else -known
        return None

    # --- what is recorded

    def _decide(self) -> None:
        nodes = set(self.steps)
        changed = True
        while changed:
            changed = False
            for name in list(nodes):
                if not all(self._stays_node(name, use, nodes) for use in self.uses[name]):
                    nodes.discard(name)
                    changed = True
        results: dict[str, set[str]] = {}

        def results_of(name: str) -> set[str]:
            """The rows that a node becomes part of."""
            if name not in results:
                results[name] = set()
                for use in self.uses[name]:
                    if isinstance(use.statement, ir.Assign):
                        for target in self._names_of(use.statement.target.name):
                            results[name] |= results_of(target) if target in nodes else {target}
            return results[name]

        order = sorted(nodes, key=lambda n: (self.definitions[n][0].block, self.definitions[n][0].position))
        for name in reversed(order):
            if len(self.uses[name]) > 1 and len(results_of(name)) > MAX_RESULTS:
                nodes.discard(name)
                results[name] = {name}
        for name in nodes:
            self.steps[name] = self.steps[name]._replace(is_recorded=False)

    def _names_of(self, name: str) -> list[str]:
        """A variable, or those that a tuple which is taken apart gives its items to."""
        if name not in self.tuples:
            return [name]
        return [target for use in self.uses[name] for target in self._names_of(use.statement.target.name)]

    def _stays_node(self, name: str, use: Place, nodes: set[str]) -> bool:
        statement = use.statement
        if not isinstance(statement, ir.Assign) or not isinstance(statement.value, (ir.Expr, ir.Var)):
            return False
        target = statement.target.name
        if target in self.tuples:
            return self.is_seen_from(self.definitions[name][0], use) and all(
                self._stays_node(name, further, nodes) for further in self.uses[target]
            )
        step = self.steps.get(target)
        if step is not None:
            is_there = self.is_seen_from(self.definitions[name][0], use)
            return is_there and (step.function is not None or target in nodes)
        function = self.called(statement.value)[0] if isinstance(statement.value, ir.Expr) else None
        return function in PIECEWISE


def passed_on(value: Any) -> str | None:
    """The variable that an expression only hands on."""
    if isinstance(value, ir.Var):
        return str(value.name)
    if isinstance(value, ir.Expr) and value.op in ("exhaust_iter", "cast") and isinstance(value.value, ir.Var):
        return str(value.value.name)
    return None


def _read_by(statement: Any) -> set[str]:
    names = {variable.name for variable in statement.list_vars()}
    if isinstance(statement, ir.Assign):
        names.discard(statement.target.name)
        value = statement.value
        if isinstance(value, ir.Var):
            names.add(value.name)
        elif isinstance(value, (ir.Expr, ir.Yield)):
            names |= {variable.name for variable in value.list_vars()}
    return names
