"""Which scalars of a user's function get rows, and the lowering that carries it out.

Numba lowers a function assignment by assignment. Here the assignments whose right side is in the table of rules become
nodes (`statements.py`); a node is recorded at once where its value goes somewhere that needs a row: into an array, a
tuple, another function, a variable that is assigned in several places. Where all its uses are rules again, in code
that runs only after it and equally often, it stays a node and becomes part of their rows. So a row covers all of a
loop's body that leads to one result, across the names that the user gave to what is between.

A sum over a loop is one row too:

      for k in range(n):        the arguments of each term are appended without a row;
          s += a[k] * b[k]      behind the loop one row is made of all of them, and of `s` before

if nothing else in the loop is recorded.
"""

from __future__ import annotations

import operator
from collections import defaultdict
from typing import Any, NamedTuple

from numba.core import cgutils, ir, types
from numba.core.analysis import compute_cfg_from_blocks
from numba.core.callconv import CPUCallConv
from numba.core.cpu import CPUContext
from numba.core.lowering import Lower
from numba.core.unsafe import eh

from tapegrad.jitted.emission import Emitter
from tapegrad.jitted.rules import PIECEWISE, POWERS, RULES
from tapegrad.jitted.scalars import WORD, Taped
from tapegrad.jitted.signatures import leaf, power_node
from tapegrad.jitted.statements import Leaf, Node, any_active, close, extend, mark, partials_of, record, take_back
from tapegrad.jitted.sums import Sum, find_sums

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
        self.sums: list[Sum] = []
        self.tuples: set[str] = set()  # tuples that are taken apart again, and never built
        if not func_ir.generator_info and not self._catches():
            self._find_steps()
            self._decide()
            self.sums = find_sums(self)

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
        before = _passed_on(value)
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
        return _passed_on(value) is not None and self.single(target) is not None and all(
            self._takes_apart(further) for further in self.uses[target]
        )  # fmt: skip

    def _items(self, name: str) -> list[str]:
        """The variables that a tuple was built of."""
        value = self.definitions[name][0].statement.value
        before = _passed_on(value)
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


def _passed_on(value: Any) -> str | None:
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


class _SumsTakenBack(CPUCallConv):  # type: ignore[misc]
    """Numba's way to return; before it returns from within a loop, which only exceptions do, its sum is taken back."""

    def _return_errcode_raw(self, builder: Any, code: Any) -> None:
        lowering = self.context.lowering
        if builder.function is lowering.builder.function:
            lowering.take_back()
        super()._return_errcode_raw(builder, code)


class _SumContext(CPUContext):  # type: ignore[misc]
    """The context in which a function with sums is lowered."""

    lowering: StatementLower

    @property
    def call_conv(self) -> Any:
        return _SumsTakenBack(self)


class StatementLower(Lower):
    """Numba's lowering, with the plan carried out."""

    def init(self) -> None:
        """Make the plan before anything is lowered."""
        super().init()
        self.plan = Plan(self.func_ir, self.fndesc.typemap, self.fndesc.calltypes)
        self.nodes: dict[str, Node | Leaf] = {}  # what variables are, that are assigned once
        self.loaded: dict[str, tuple[Any, Leaf]] = {}  # what was read of others, and in which block
        self.items: dict[str, list[Node | Leaf | None]] = {}
        self.terms = {name: term for found in self.plan.sums for name, term in found.terms.items()}
        self.marks: dict[int, Any] = {}  # where a sum keeps the number of arguments at its start
        if self.plan.sums:
            self.context.__class__, self.context.lowering = _SumContext, self  # each function is lowered by a copy

    def pre_block(self, block: Any) -> None:
        """Where a loop was left, its sum gets its row."""
        super().pre_block(block)
        for k, found in enumerate(self.plan.sums):
            if self._label() in found.exits:
                kind = self.typeof(found.total)
                value = self.loadvar(found.total)
                emitter = Emitter(self.context, self.builder)
                since = self.builder.load(self._mark(k))
                row = close(self.context, self.builder, kind, since, emitter.row_of(kind, value))
                summed = emitter.pack(kind, emitter.unpack(kind, value), row)
                self.builder.store(summed, self.getvar(found.total))

    def lower_inst(self, inst: Any) -> None:
        """Before a loop is entered, its sum begins."""
        if isinstance(inst, (ir.Jump, ir.Branch)):
            for k, found in enumerate(self.plan.sums):
                if self._label() in found.entries:
                    self.builder.store(mark(self.builder, self.typeof(found.total)), self._mark(k))
        super().lower_inst(inst)

    def take_back(self) -> None:
        """Where an exception leaves a loop, the terms of its sum get no row."""
        for k, found in enumerate(self.plan.sums):
            if self._label() in found.body:
                take_back(self.builder, self.typeof(found.total), self.builder.load(self._mark(k)))

    def _mark(self, k: int) -> Any:
        if k not in self.marks:
            self.marks[k] = cgutils.alloca_once(self.builder, WORD)
        return self.marks[k]

    def lower_assign(self, ty: Any, inst: Any) -> Any:
        """As a step of the plan, or Numba's way."""
        name = inst.target.name
        self.loaded.pop(name, None)
        if name in self.plan.tuples:
            self._keep_items(name, inst.value)
        step = self.plan.steps.get(name)
        if step is None:
            return super().lower_assign(ty, inst)
        emitter = Emitter(self.context, self.builder)
        node = self._add_term(ty, name) if name in self.terms else self._node(step, inst.value)
        if step.is_recorded and isinstance(node, Node):
            node = record(self.context, self.builder, ty, node, self._cur_ir_block)
        self.nodes[name] = node
        return emitter.pack(ty, node.value, node.row if isinstance(node, Leaf) else None)

    def _lower_call_RecursiveCall(self, kind: Any, expression: Any, signature: Any) -> Any:  # noqa: N802  Numba's name
        """Numba's way; where a function calls itself with arguments of other types, that version of it is there."""
        other = kind.dispatcher_type.dispatcher.overloads.get(tuple(signature.args))
        if other is None:
            return super()._lower_call_RecursiveCall(kind, expression, signature)
        self.context.active_code_library.add_linking_library(other.library)
        values = self.fold_call_args(kind, signature, expression.args, expression.vararg, expression.kws)
        return self.context.call_internal(self.builder, other.fndesc, signature, values)

    def _add_term(self, kind: Taped, name: str) -> Leaf:
        """Add a term to a total: its arguments go onto the tape, and the total keeps its row."""
        total, term, sign = self.terms[name]
        before, added = self._operand(total), self._operand(term)
        assert isinstance(before, Leaf)
        value = before.value + added.value if sign > 0 else before.value - added.value
        emitter = Emitter(self.context, self.builder)
        arguments = partials_of(emitter, added, sign, self._cur_ir_block)
        if arguments:
            with self.builder.if_then(any_active(self.builder, arguments), likely=True):
                extend(self.context, self.builder, kind, arguments)
        return Leaf(value, before.row)

    def _keep_items(self, name: str, value: Any) -> None:
        before = _passed_on(value)
        if before is None:
            self.items[name] = [self._operand(v.name) if self.plan.is_taped(v.name) else None for v in value.items]
        else:
            self.items[name] = self.items[before]

    def _node(self, step: Step, value: Any) -> Node | Leaf:
        if step.function is None:
            if isinstance(value, ir.Expr) and value.op == "static_getitem":
                item = self.items[value.value.name][value.index]
                assert item is not None
                return item
            return self._operand(step.operands[0])
        operands = [self._operand(name) for name in step.operands]
        if step.function in POWERS and not isinstance(self.typeof(step.operands[1]), (Taped, types.Float)):
            kind = self.typeof(step.operands[1])
            exponent = self.loadvar(step.operands[1]) if step.exponent is None else step.exponent
            return power_node(self.context, self.builder, operands[0], kind, exponent)
        return Node(RULES[step.function], operands)

    def _operand(self, name: str) -> Node | Leaf:
        """What a variable holds: the same object wherever it is the same value, so that rows name it once."""
        place = self.plan.single(name)
        if name in self.nodes and place is not None and place.block in self.plan.dominators[self._label()]:
            return self.nodes[name]
        if name in self.loaded:
            block, known = self.loaded[name]
            if block is self._cur_ir_block:
                return known
        read = leaf(self.context, self.builder, self.typeof(name), self.loadvar(name))
        if place is None or place.block == self._label():
            self.loaded[name] = self._cur_ir_block, read
        return read

    def _label(self) -> int:
        return next(label for label, block in self.blocks.items() if block is self._cur_ir_block)
