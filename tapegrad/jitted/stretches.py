"""Stretches: straight code that makes arrays by expressions, as nests (`nests.py`) whose loop has one turn.

      before:    names, slices, numbers: what the stretch doesn't make
                 ran, made = the stretch, of what it reads
                 branch ran, taken, plainly
      plainly:   the statements, as they were; to what is behind
      taken:     names are given what was made; to what is behind

They are found when types are known, after Numba has joined functions of arrays to expressions. A stretch has as many
statements of one block as follow each other and only make arrays, truth values of their elements, sums, and numbers of
these: nothing in it writes to what there was before. Its arrays are arrays of the nest, of which those get rows
that are read behind; an expression that is read once, whole, is computed where it is read. Where all are read behind,
or functions are dear (`exp`), the statements by themselves take less memory, or less time: there is no stretch. What
the nest leaves at run time (shapes that are broadcast along an axis, few elements), and what raises, the statements do.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from numba.core import ir, ir_utils, types
from numba.core.analysis import compute_cfg_from_blocks
from numba.core.compiler_machinery import register_pass
from numba.core.registry import cpu_target

from tapegrad.jitted import rewriting
from tapegrad.jitted.active import Taped
from tapegrad.jitted.inner import Pass
from tapegrad.jitted.names import POWERS, RULES
from tapegrad.jitted.nest_calls import NUMBERS, Nest, NestType, run
from tapegrad.jitted.nest_types import Names
from tapegrad.jitted.nests import (
    COMPARISONS,
    KNOWN,
    Compute,
    Const,
    Declined,
    Load,
    Loop,
    New,
    Operands,
    Span,
    Straight,
    Total,
    known_index,
    read_by,
    target_of,
)

ACTIVE = Taped(0)
_ELEMENTS = ACTIVE, types.float64, types.int64
_PLAIN = {operator.add, operator.sub, operator.mul, operator.truediv, operator.neg, operator.pos, operator.pow}
# Functions that cost no more than arithmetic, since nests compute them again in reverse: partials of others are kept.
_CHEAP = {
    np.add, np.subtract, np.multiply, np.true_divide, np.negative, np.positive, np.square, np.absolute, np.fabs,
    np.sqrt, np.maximum, np.minimum,
}  # fmt: skip
_NEVER_RAISE = {operator.add, operator.sub, operator.mul, operator.neg, operator.pos, *COMPARISONS}
_ATTRIBUTES = {"shape", "size", "ndim", "T"}
_ARRAY, _FLAGS, _VIEW, _NAME, _NUMBER, _TOTAL = "array", "flags", "view", "name", "number", "total"
_OP = "tapegrad_stretch"
MOST = 60  # statements


@register_pass(mutates_CFG=True, analysis_only=False)
class Stretches(Pass):
    """Put stretches before what they stand for."""

    _name = "tapegrad_stretches"

    def run_pass(self, state: Any) -> bool:
        """Find them."""
        if state.flags.fastmath or state.func_ir.is_generator:
            return False
        return _Finder(state).run()


rewriting.AFTER_TYPES.append(Stretches)


class _Finder(Operands):
    """Finds the stretches of a function."""

    def __init__(self, state: Any) -> None:
        super().__init__(state.func_ir, rewriting.resolve)
        self.func_ir._definitions = ir_utils.build_definitions(self.func_ir.blocks)
        self.typemap, self.flags = state.typemap, state.flags
        self.uses = Counter(name for block in self.func_ir.blocks.values() for s in block.body for name in _read(s))

    def run(self) -> bool:
        """Find, and insert."""
        waiting = [label for label in self.func_ir.blocks if label not in self.taken()]
        found = False
        while waiting:
            label = waiting.pop()
            behind = self.within(label)
            if behind is not None:
                waiting.append(behind)
                found = True
        return found

    def taken(self) -> set[int]:
        """The blocks of loops that are nests."""
        headers = set()
        for block in self.func_ir.blocks.values():
            for statement in block.find_insts(ir.Assign):
                kind = self.typemap.get(statement.target.name)
                if isinstance(kind, NestType):
                    (use,) = [s.value for s in block.find_insts(ir.Assign) if statement.target.name in _read(s)]
                    inputs = self.typemap[use.args[1].name]
                    if kind.nest.names([types.unliteral(k) for k in inputs]) is not None:
                        headers.add(block.body[-1].falsebr)
        loops = compute_cfg_from_blocks(self.func_ir.blocks).loops() if headers else {}
        return {label for header in headers & loops.keys() for label in loops[header].body}

    def within(self, label: int) -> int | None:
        """Insert the first stretch of a block; returns the block of what is behind it, None where there is none."""
        body, k = self.func_ir.blocks[label].body, 0
        while k < len(body):
            made = self.stretch(body[k:])
            if not made:
                k += 1
                continue
            stretch = _Stretch(self, label, [s for s in body if any(s is other for other in made)])
            if stretch.found is not None:
                return stretch.insert()
            k = 1 + next(i for i, s in enumerate(body) if s is made[-1])
        return None

    def stretch(self, body: list[Any]) -> list[Any]:
        """The statements of a stretch that begins with the first; none if there is none."""
        self.kinds: dict[str, str] = {}
        made: list[Any] = []
        for statement in body:
            kind = self.kind_of(statement)
            if kind is not None:
                self.kinds[statement.target.name] = kind
                made.append(statement)
            elif not made or len(made) == MOST or not self.may_stay(statement):
                break
        return self.whole(made)

    def whole(self, made: list[Any]) -> list[Any]:
        """As many of the statements as leave nothing but arrays and numbers."""
        k = 0
        while k < len(made):
            k, n = 0, len(made)
            reads = Counter(name for s in made for name in _read(s))
            for k, statement in enumerate(made):
                name = statement.target.name
                if self.is_within(self.kinds[name]) and self.uses[name] > reads[name]:
                    made = made[:k]
                    break
            k = 0 if len(made) < n else n
        return made if any(self.kinds[s.target.name] in (_ARRAY, _TOTAL) for s in made) else []

    def is_within(self, kind: str) -> bool:
        """Whether what is of a kind must not be read behind a stretch."""
        return kind in (_FLAGS, _VIEW)

    # --- statements

    def kind_of(self, statement: Any) -> str | None:
        """What a statement makes; None if it belongs to no stretch, or not to this one."""
        if not isinstance(statement, ir.Assign) or len(self.func_ir._definitions[statement.target.name]) != 1:
            return None
        value, kind, kinds = statement.value, self.typemap[statement.target.name], self.kinds
        if isinstance(value, ir.Var):
            known = kinds.get(value.name)
            return None if known is None else _NUMBER if known == _NUMBER else _VIEW if known != _ARRAY else _NAME
        if not isinstance(value, ir.Expr):
            return None
        if value.op in ("getitem", "static_getitem"):
            is_part = kinds.get(value.value.name) in (_ARRAY, _VIEW, _NAME) and self.spans(value) is not None
            return _VIEW if is_part and isinstance(kind, types.Array) else None
        total = self.total(value)
        if total is not None:
            return self._kind_of_total(total[1], kind)
        tree = self.tree(value)
        if tree is None or not isinstance(tree, tuple):
            return None
        is_new = isinstance(kind, types.Array) and kind.ndim > 0 and kind.layout == "C"
        if is_new and self.is_known(tree, top=True):
            if kind.dtype == ACTIVE:
                return _ARRAY
            return _FLAGS if kind.dtype == types.boolean and self.is_active(tree) else None
        is_number = kind in (ACTIVE, types.boolean) and any(v.name in kinds for v in _variables(tree))
        return _NUMBER if is_number and self.is_number(tree) else None

    def _kind_of_total(self, axis: int | None, kind: Any) -> str | None:
        if axis is None:
            return _TOTAL if kind == ACTIVE else None
        return _ARRAY if isinstance(kind, types.Array) and kind.dtype == ACTIVE and kind.layout == "C" else None

    def total(self, value: Any) -> tuple[Any, int | None] | None:
        """The array that is summed up, and the axis, if it is so."""
        kind = self.typemap.get(value.func.name) if value.op == "call" else None
        stands_for = getattr(getattr(kind, "typing_key", None), "stands_for", None)
        if stands_for is not np.sum or value.vararg is not None or not value.args:
            return None
        given = {**dict(zip(("a", "axis"), value.args, strict=False)), **dict(value.kws)}
        array, axis = self.typemap[value.args[0].name], given.get("axis")
        if len(value.args) > 2 or set(given) - {"a", "axis"} or not self.is_operand(value.args[0]):
            return None
        if not isinstance(array, types.Array) or array.dtype != ACTIVE:
            return None
        at = Const(None) if axis is None or self.is_none(axis) else self.operand(axis)
        if not isinstance(at, Const) or not (at.value is None or type(at.value) is int):
            return None
        if at.value is None or array.ndim == 1:
            return (value.args[0], None) if at.value in (None, 0, -1) else None
        return (value.args[0], at.value % array.ndim) if -array.ndim <= at.value < array.ndim else None

    def tree(self, value: Any) -> Any:
        """An expression as functions of operands; None if it is none."""
        if value.op == "arrayexpr":
            return value.expr
        if value.op == "binop":
            return value.fn, [value.lhs, value.rhs]
        if value.op == "inplace_binop" and not isinstance(self.typemap[value.lhs.name], types.Array):
            return value.immutable_fn, [value.lhs, value.rhs]
        if value.op == "unary":
            return value.fn, [value.value]
        if value.op == "call" and not value.kws and value.vararg is None:
            key = getattr(self.typemap.get(value.func.name), "typing_key", None)
            return getattr(key, "stands_for", key), list(value.args)
        return None

    def is_known(self, tree: Any, top: bool = False) -> bool:
        """Whether an expression of elements is one that nests have."""
        if isinstance(tree, ir.Const):
            return type(tree.value) in (int, float)
        if isinstance(tree, ir.Var):
            return self.is_operand(tree)
        function, operands = tree
        if function is np.where:
            is_chosen = len(operands) == 3 and self.is_flag(operands[0])
            return top and is_chosen and all(map(self.is_known, operands[1:]))
        if not _is_hashable(function) or function not in KNOWN or not all(map(self.is_known, operands)):
            return False
        if function in COMPARISONS:
            return top
        if function in POWERS:
            return function is operator.pow and isinstance(self.leaf(operands[1]), Const)
        is_plain = function in _PLAIN or function in _CHEAP
        arity = 2 if function is operator.truediv else len(RULES[function].partials) if function in RULES else 0
        return is_plain and len(operands) == arity

    def is_operand(self, variable: Any) -> bool:
        """Whether a variable is a number, or an array of such, that a nest may be given, or that the stretch makes."""
        known, kind = self.kinds.get(variable.name), types.unliteral(self.typemap[variable.name])
        if known is not None:
            return known != _FLAGS and (isinstance(kind, types.Array) or kind == ACTIVE)
        if not isinstance(kind, types.Array):
            return kind in _ELEMENTS
        return kind.dtype in _ELEMENTS and kind.ndim > 0 and kind.aligned and (kind.ndim == 1 or kind.layout != "F")

    def is_flag(self, variable: Any) -> bool:
        """Whether a variable is truth values that the stretch makes of elements."""
        return isinstance(variable, ir.Var) and self.kinds.get(variable.name) == _FLAGS

    def is_active(self, tree: Any) -> bool:
        """Whether there are numbers with derivatives in an expression."""
        kinds = (self.typemap[variable.name] for variable in _variables(tree))
        return any(ACTIVE in (kind, getattr(kind, "dtype", None)) for kind in kinds)

    def is_number(self, tree: Any) -> bool:
        """Whether an expression of numbers is one that nests have."""
        function, operands = tree
        if not _is_hashable(function) or function not in KNOWN or not all(map(self.is_scalar, operands)):
            return False
        if function in POWERS and not (isinstance(self.leaf(operands[1]), Const) or function in RULES):
            return False
        return len(operands) == (len(RULES[function].partials) if function in RULES else len(operands))

    def is_scalar(self, variable: Any) -> bool:
        """Whether a variable is a number that a nest may be given."""
        return types.unliteral(self.typemap[variable.name]) in _ELEMENTS

    def leaf(self, operand: Any) -> Any:
        """What an operand of an expression is in a nest."""
        return Const(operand.value) if isinstance(operand, ir.Const) else self.operand(operand)

    def may_stay(self, statement: Any) -> bool:
        """Whether a statement may be moved before those that were made: it has to do with none, and can't raise."""
        if not isinstance(statement, ir.Assign) or any(name in self.kinds for name in _read(statement)):
            return False
        if len(self.func_ir._definitions[statement.target.name]) != 1:
            return False
        value = statement.value
        if not isinstance(value, ir.Expr):
            return isinstance(value, (ir.Const, ir.Global, ir.FreeVar, ir.Var))
        if value.op in ("build_tuple", "exhaust_iter"):
            return True
        if value.op == "getattr":
            is_array = isinstance(self.typemap[value.value.name], types.Array)
            return value.attr in _ATTRIBUTES if is_array else isinstance(self.typemap[value.value.name], types.Module)
        if value.op in ("getitem", "static_getitem"):
            owner = self.typemap[value.value.name]
            is_chosen = value.op == "static_getitem" or _is_basic(self.typemap[value.index.name])
            is_array = isinstance(owner, types.Array) and is_chosen and not self.flags.boundscheck
            return is_array or isinstance(owner, types.BaseTuple)
        if value.op in ("binop", "unary"):
            return value.fn in _NEVER_RAISE and all(map(self.is_scalar, value.list_vars()))
        return value.op == "call" and self.resolve(self.func_ir, value.func) is slice

    def spans(self, value: Any) -> tuple[Any, ...] | None:
        """The index of a part of an array, if it is made of slices."""
        try:
            found = known_index(value.index) if value.op == "static_getitem" else self.index(value.index)
        except Declined:
            return None
        return found if all(isinstance(part, Span) for part in found) else None


class _Stretch:
    """A stretch of a block: as a nest, if it is one."""

    def __init__(self, finder: _Finder, label: int, made: list[Any]) -> None:
        self.finder, self.label = finder, label
        self.found: Straight | None = None
        while made and self.found is None:
            try:
                self.found = self._read(made)
            except Declined:
                made = finder.whole(made[: len(made) // 2])

    def _read(self, made: list[Any]) -> Straight:
        finder = self.finder
        self.made, self.items, self.n = made, list[Any](), 0
        self.names = {s.target.name for s in made}
        self.loaded: set[str] = set()
        reads = Counter(name for s in made for name in _read(s))
        self.outer = [s.target.name for s in made if finder.uses[s.target.name] > reads[s.target.name]]
        self.parts = self._find_parts()
        origin: dict[str, str] = {}  # of names of arrays: the array
        for statement in made:
            self._statement(statement, origin)
        assigned = {target_of(item) for item in self.items}
        read = {name for item in self.items for name in read_by(item)}
        inputs = tuple(sorted(read - assigned))
        self.results = [origin.get(name, name) for name in self.outer]
        kinds = {name: types.unliteral(finder.typemap[name]) for name in inputs}
        is_within = {s.target.name for s in made if finder.kinds[s.target.name] in (_ARRAY, _FLAGS)} - set(self.outer)
        if not is_within and not any(isinstance(item, Compute) and item.function is np.where for item in self.items):
            raise Declined  # all that is made is read behind: statements by themselves keep less of it
        is_array = {name: isinstance(finder.typemap[name], types.Array) for name in self.outer}
        loop = Loop("$once", (Const(0), Const(1), 1), self.items)
        found = Straight(
            loop,
            inputs,
            tuple(dict.fromkeys(origin.get(name, name) for name in self.outer if not is_array[name])),
            tuple(dict.fromkeys(origin.get(name, name) for name in self.outer if is_array[name])),
        )
        self.nest = Nest(found, finder.flags, made[0].loc)
        self.typed = Names(found, kinds)
        self.kinds = kinds
        given = {name: finder.typemap[name] for name in self.outer}
        if any(NUMBERS[self.typed.of[origin.get(n, n)]] != given[n] for n in self.outer if not is_array[n]):
            raise Declined
        return found

    def _find_parts(self) -> set[str]:
        """The parts of arrays from before that are read as such: not the one slice of a vector, which is one itself."""
        finder = self.finder
        views = {}
        for name in {n for s in self.made for n in _read(s)} - self.names:
            base = self._base(name)
            if base is not None:
                views[name] = base
        counts = Counter(views.values())
        return {n for n, base in views.items() if counts[base] > 1 or finder.typemap[n].ndim > 1}

    def _base(self, name: str) -> str | None:
        """The array of which a variable is a part, by slices that are made in the same block."""
        finder = self.finder
        block = finder.func_ir.blocks[self.label].body
        here = {s.target.name: s.value for s in block if isinstance(s, ir.Assign)}
        value, definitions = here.get(name), finder.func_ir._definitions
        if not isinstance(value, ir.Expr) or value.op not in ("getitem", "static_getitem"):
            return None
        base = value.value
        if not isinstance(finder.typemap[name], types.Array) or len(definitions[base.name]) != 1:
            return None
        spans = finder.spans(value)
        if spans is None or not isinstance(finder.typemap[base.name], types.Array) or not finder.is_operand(base):
            return None
        ends = [end for span in spans for end in (span.start, span.stop) if isinstance(end, str)]
        is_here = all(n in here for n in self._slices(value, here))
        is_fixed = all(len(definitions[end]) == 1 and finder.typemap[end] in _ELEMENTS for end in ends)
        return str(base.name) if is_here and is_fixed else None

    def _slices(self, value: Any, here: dict[str, Any]) -> list[str]:
        """The variables of an index that are slices, or tuples of these."""
        if value.op == "static_getitem":
            return []
        index = value.index.name
        made = here.get(index)
        is_tuple = isinstance(made, ir.Expr) and made.op == "build_tuple"
        return [index, *(item.name for item in made.items)] if is_tuple else [index]

    def _operand(self, operand: Any) -> Any:
        """What an operand is; a part is loaded before."""
        found = self.finder.leaf(operand)
        if isinstance(found, str) and found in self.parts and found not in self.loaded:
            self.loaded.add(found)
            value = self.finder.func_ir._definitions[found][0]
            self.items.append(Load(found, str(value.value.name), self.finder.spans(value)))
        return found

    def _computed(self, tree: Any, target: str | None = None) -> Any:
        """An expression, as statements; returns its name."""
        if not isinstance(tree, tuple):
            return self._operand(tree)
        function, operands = tree
        given = tuple(map(self._computed, operands))
        if target is None:
            self.n += 1
            target = f"$made.{self.n}"
        self.items.append(Compute(target, function, given))
        return target

    def _statement(self, statement: Any, origin: dict[str, str]) -> None:
        """A statement of the stretch, as those of a nest."""
        finder, value, name = self.finder, statement.value, statement.target.name
        kind = finder.kinds[name]
        if isinstance(value, ir.Var):
            if kind == _NAME:
                origin[name] = origin.get(value.name, value.name)
            self.items.append(Compute(name, None, (str(value.name),)))
        elif kind == _VIEW:
            self.items.append(Load(name, str(value.value.name), finder.spans(value)))
        elif (total := finder.total(value)) is not None:
            self.items.append(Total(name, self._operand(total[0]), total[1]))
        elif kind != _ARRAY or self._is_read_once(statement):
            self._computed(finder.tree(value), name)
        else:
            made = self._computed(finder.tree(value))
            self.items.append(New(name, made, (), made))

    def _is_read_once(self, statement: Any) -> bool:
        """Whether an array is read whole, at one place, for each of its elements."""
        finder, name = self.finder, statement.target.name
        if name in self.outer or finder.uses[name] != 1:
            return False
        (reader,) = [s for s in self.made if name in _read(s)]
        if isinstance(reader.value, ir.Var) or finder.kinds[reader.target.name] not in (_ARRAY, _FLAGS, _TOTAL):
            return False
        if finder.total(reader.value) is not None:
            return True
        return bool(finder.typemap[reader.target.name].ndim == finder.typemap[name].ndim)

    # --- in the code

    def insert(self) -> int:
        """Put the stretch before its statements; returns the block of what is behind."""
        finder, made, func_ir = self.finder, self.made, self.finder.func_ir
        block, loc, is_made = func_ir.blocks[self.label], made[0].loc, {id(s) for s in made}
        last = max(k for k, s in enumerate(block.body) if id(s) in is_made)
        before = [s for s in block.body[:last] if id(s) not in is_made]
        plainly, taken, behind = (max(func_ir.blocks) + k for k in (1, 2, 3))
        scope = block.scope
        for label, body in ((plainly, list(made)), (taken, []), (behind, block.body[last + 1 :])):
            func_ir.blocks[label] = ir.Block(scope, loc)
            func_ir.blocks[label].body = body

        def variable(kind: Any, value: Any, body: list[Any]) -> Any:
            new = scope.redefine("$tapegrad.stretch", loc, rename=True)
            finder.typemap[new.name] = kind
            func_ir._definitions[new.name] = [value]
            body.append(ir.Assign(value, new, loc))
            return new

        outs = [*self.found.outputs, *self.found.results]
        kinds = [NUMBERS[self.typed.of[n]] for n in self.found.outputs]
        kinds += [self.typed.arrays[n] for n in self.found.results]
        inputs = tuple(scope.get_exact(name) for name in self.found.inputs)
        value = ir.Expr(_OP, loc, stretch=self, inputs=inputs)
        result = variable(types.Tuple([types.boolean, *kinds]), value, before)
        ran = variable(types.boolean, ir.Expr.static_getitem(result, 0, None, loc), before)
        block.body = [*before, ir.Branch(ran, taken, plainly, loc)]
        for name in self.outer:
            origin = self.results[self.outer.index(name)]
            item = ir.Expr.static_getitem(result, 1 + outs.index(origin), None, loc)
            func_ir.blocks[taken].append(ir.Assign(item, scope.get_exact(name), loc))
            func_ir._definitions[name].append(item)
        for label in (plainly, taken):
            func_ir.blocks[label].append(ir.Jump(behind, loc))
        return behind


def _lower(lower: Any, expression: Any) -> Any:
    """Run a stretch; returns whether it was done, and what it makes."""
    stretch, context, builder = expression.stretch, lower.context, lower.builder
    names, found = stretch.typed, stretch.found
    by_name = {}
    for name in found.inputs:
        by_name[name] = context.cast(builder, lower.loadvar(name), lower.typeof(name), stretch.kinds[name])
    kinds = [*(NUMBERS[names.of[n]] for n in found.outputs), *(names.arrays[n] for n in found.results)]
    nothing = [context.get_constant_null(kind) for kind in (types.boolean, *kinds)]
    ran = run(context, builder, stretch.nest, names, by_name, stretch.kinds, nothing)
    result = types.Tuple([types.boolean, *kinds])
    return context.make_tuple(builder, result, ran)


cpu_target.target_context.special_ops[_OP] = _lower


def _read(statement: Any) -> list[str]:
    """The names that a statement reads, each as often as it does."""
    if isinstance(statement, ir.Assign):
        value = statement.value
        if isinstance(value, ir.Var):
            return [str(value.name)]
        if not isinstance(value, (ir.Expr, ir.Yield)):
            return []
        if isinstance(value, ir.Expr) and value.op == "arrayexpr":
            return [str(variable.name) for variable in _variables(value.expr)]
        return [str(variable.name) for variable in value.list_vars()]
    return [str(variable.name) for variable in statement.list_vars()]


def _variables(tree: Any) -> Iterator[Any]:
    """The variables of an expression, each as often as it is there."""
    if isinstance(tree, ir.Var):
        yield tree
    elif isinstance(tree, tuple):
        for operand in tree[1]:
            yield from _variables(operand)


def _is_basic(kind: Any) -> bool:
    """Whether an index of a type gives an element or a view."""
    parts = kind if isinstance(kind, types.BaseTuple) else [kind]
    return all(isinstance(part, (types.Integer, types.SliceType, types.EllipsisType, types.NoneType)) for part in parts)


def _is_hashable(function: Any) -> bool:
    try:
        hash(function)
    except TypeError:
        return False
    return True
