"""Lowering of a user's function, by which the plan is carried out.

Numba lowers a function assignment by assignment. Here those that the plan (`plan.py`) has as steps become nodes, which
are recorded, or become part of the rows of others (`statements.py`). A sum over a loop is one row too:

      for k in range(n):        the arguments of each term are appended without a row;
          s += a[k] * b[k]      behind the loop one row is made of all of them, and of `s` before

if nothing else in the loop is recorded (`sums.py`).
"""

from __future__ import annotations

import operator
from types import SimpleNamespace
from typing import Any

import numpy as np
from numba.core import cgutils, ir, types
from numba.core.callconv import CPUCallConv
from numba.core.cpu import CPUContext
from numba.np import npyimpl

from tapegrad.jitted import choices
from tapegrad.jitted.active import PASSIVE, WORD, Active, Taped, is_active_array
from tapegrad.jitted.emission import Emitter, Single
from tapegrad.jitted.inner import Lowering
from tapegrad.jitted.lines import Line
from tapegrad.jitted.names import POWERS, RULES
from tapegrad.jitted.plan import Plan, Step, passed_on
from tapegrad.jitted.signatures import leaf, power_node
from tapegrad.jitted.statements import Leaf, Node, any_active, close, extend, mark, partials_of, record, take_back
from tapegrad.jitted.sums import find_sums


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


class StatementLower(Lowering):
    """Numba's lowering, with the plan carried out."""

    def init(self) -> None:
        """Make the plan before anything is lowered."""
        super().init()
        self.plan = Plan(self.func_ir, self.fndesc.typemap, self.fndesc.calltypes)
        self.sums = find_sums(self.plan)
        self.n_expressions = 0
        self.nodes: dict[str, Node | Leaf] = {}  # what variables are, that are assigned once
        self.loaded: dict[str, tuple[Any, Leaf]] = {}  # what was read of others, and in which block
        self.items: dict[str, list[Node | Leaf | None]] = {}
        self.terms = {name: term for found in self.sums for name, term in found.terms.items()}
        self.marks: dict[int, Any] = {}  # where a sum keeps the number of arguments at its start
        if self.sums:
            self.context.__class__, self.context.lowering = _SumContext, self  # each function is lowered by a copy

    def pre_block(self, block: Any) -> None:
        """Where a loop was left, its sum gets its row."""
        super().pre_block(block)
        for k, found in enumerate(self.sums):
            if self._label() in found.exits:
                kind = self.typeof(found.total)
                value = self.loadvar(found.total)
                emitter = Emitter(self.context, self.builder)
                since = self.builder.load(self._mark(k))
                row = close(self.context, self.builder, kind, since, emitter.row_of(kind, value))
                summed = emitter.pack(kind, emitter.unpack(kind, value), row)
                self.builder.store(summed, self.getvar(found.total))
                self.nodes.pop(found.total, None)  # what it was in the loop has another row

    def lower_inst(self, inst: Any) -> None:
        """Before a loop is entered, its sum begins."""
        if isinstance(inst, (ir.Jump, ir.Branch)):
            for k, found in enumerate(self.sums):
                if self._label() in found.entries:
                    self.builder.store(mark(self.builder, self.typeof(found.total)), self._mark(k))
        super().lower_inst(inst)

    def take_back(self) -> None:
        """Where an exception leaves a loop, the terms of its sum get no row."""
        for k, found in enumerate(self.sums):
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

    def _lower_call_normal(self, kind: Any, expression: Any, signature: Any) -> Any:
        """Numba's way, or the call of one of several functions."""
        if not isinstance(kind, choices.Choice):
            return super()._lower_call_normal(kind, expression, signature)
        values = self.fold_call_args(kind, signature, expression.args, expression.vararg, expression.kws)
        which = self.loadvar(expression.func.name)
        return choices.call(self.context, self.builder, kind, signature, which, values)

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
        before = passed_on(value)
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

    def lower_expr(self, resty: Any, expr: Any) -> Any:
        """Numba's way; an array expression is a row an element, also one that is written to an array that is there."""
        if is_active_array(resty) and isinstance(resty.dtype, Taped):
            if expr.op == "arrayexpr" and _is_of_rules(expr.expr, self.fndesc.typemap):
                return self._array_expression(resty, expr.expr)
            if expr.op == "inplace_binop" and self.typeof(expr.lhs.name) == resty:
                tree = expr.immutable_fn, (expr.lhs, expr.rhs)
                if _is_of_rules(tree, self.fndesc.typemap):
                    return self._array_expression(resty, tree, expr.lhs.name)
        return super().lower_expr(resty, expr)

    def _array_expression(self, resty: Any, tree: Any, into: str | None = None) -> Any:
        """Numba's loops over the elements, each of which is a statement; their rows may be lines (`lines.py`)."""
        context, builder, kind, where = self.context, self.builder, resty.dtype, object()
        names = sorted(_names(tree))
        is_array = {name: isinstance(self.typeof(name), types.Array) for name in names}
        self.n_expressions += 1
        label = f"{self.n_expressions}_{self.fndesc.mangled_name}"
        line = None if kind.n_tangents else Line(context, builder, kind, label)

        class Kernel(npyimpl._Kernel):  # type: ignore[misc]
            def generate(self, *values: Any) -> Any:
                leaves = {}
                for name, a, value in zip(names, self.outer_sig.args, values, strict=True):
                    read = leaf(context, builder, a.dtype if isinstance(a, types.Array) else a, value)
                    if isinstance(read.value, Single):
                        read.value.is_fixed = not is_array[name]
                    leaves[name] = read
                recorded = record(context, builder, kind, _node_of(context, builder, tree, leaves), where, line)
                return Emitter(context, builder).pack(kind, recorded.value, recorded.row)

        described = SimpleNamespace(nin=len(names), nout=1, nargs=len(names) + 1, __name__="array expression")
        given = names if into is None else [*names, into]
        sig = resty(*map(self.typeof, given))
        result = npyimpl.numpy_ufunc_kernel(context, builder, sig, [*map(self.loadvar, given)], described, Kernel)
        if line is not None:
            line.end()
        return result

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


# --- array expressions: trees of functions, variables and constants, as Numba has found them --------------------------

_PLAIN = (operator.add, operator.sub, operator.mul, operator.truediv, operator.neg, operator.pos)
_UFUNCS = {operator.truediv: np.divide}  # of arrays: a division by zero raises nothing


def _is_of_rules(tree: Any, typemap: dict[str, Any]) -> bool:
    """Whether an array expression has rules for all that is in it, and by them the values that Numba computes.

    Among integers and numbers of single precision NumPy rounds and overflows otherwise.
    """
    if isinstance(tree, ir.Const):
        return isinstance(tree.value, (int, float))
    if isinstance(tree, ir.Var):
        kind = typemap[tree.name]
        if isinstance(kind, types.Array):
            return isinstance(kind.dtype, (Active, *PASSIVE))
        return isinstance(kind, PASSIVE)  # Numba's loops take no scalars but its own
    function, operands = tree
    if not all(_is_of_rules(operand, typemap) for operand in operands):
        return False
    if not any(_is_double(operand, typemap) for operand in operands):
        return False
    if function in POWERS:
        return isinstance(operands[1], ir.Const)
    is_plain = isinstance(function, np.ufunc) or function in _PLAIN
    return is_plain and function in RULES and len(RULES[function].partials) == len(operands)


def _names(tree: Any) -> set[str]:
    """The variables in an array expression."""
    if isinstance(tree, ir.Var):
        return {tree.name}
    return set() if isinstance(tree, ir.Const) else set().union(*map(_names, tree[1]))


def _is_double(tree: Any, typemap: dict[str, Any]) -> bool:
    if isinstance(tree, ir.Const):
        return isinstance(tree.value, float)
    if isinstance(tree, ir.Var):
        kind = typemap[tree.name]
        kind = kind.dtype if isinstance(kind, types.Array) else kind
        return isinstance(kind, Active) or kind == types.float64
    return True


def _node_of(context: Any, builder: Any, tree: Any, leaves: dict[str, Leaf]) -> Node | Leaf:
    if isinstance(tree, ir.Const):
        return Leaf(Emitter(context, builder).single(float(tree.value)))
    if isinstance(tree, ir.Var):
        return leaves[tree.name]
    function, operands = tree
    if function in POWERS and isinstance(operands[1].value, int):
        return power_node(context, builder, _node_of(context, builder, operands[0], leaves), None, operands[1].value)
    return Node(RULES[_UFUNCS.get(function, function)], [_node_of(context, builder, o, leaves) for o in operands])
