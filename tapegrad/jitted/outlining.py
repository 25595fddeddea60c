"""Loops of a user's function as functions of their own, which take some of their turns.

Numba's code is cut before its types are known. Of a loop

      entry:   ...                      header:  the test of a range, or the first block of a `while`
               to header                         ... to header again, or to one of the exits

the function that is made has the loop's blocks, and returns at each exit, and where the turns asked for are over:

      steps(begin, end, first, by, *state, *others) -> (exit, turns, state)

      state    names that the loop assigns and reads, and arrays that it writes to
      others   names that it only reads
      exit     which exit of the loop was taken, from 1 on; 0 where a `while` goes on. A range is cut, so that
               its end is exit 1 wherever it is cut
      turns    how many were begun in all, where that isn't known beforehand

and what is put before the loop, which remains there for all that is left to it:

      call:    ran, exit, outputs = run(turns, inputs)
               branch ran, taken, header
      taken:   names are given their outputs; to the exit
"""

from __future__ import annotations

import copy
import dis
import itertools
import operator
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit, prange
from numba.core import analysis, compiler, ir, ir_utils, postproc
from numba.core.compiler_machinery import register_pass
from numba.core.dispatcher import ObjModeLiftedWith
from numba.core.registry import CPUDispatcher
from numba.core.unsafe import eh
from numba.core.untyped_passes import FixupArgs

from tapegrad.jitted import bindings
from tapegrad.jitted.inner import Pass, define

_IR = "tapegrad_code"  # in the globals of a function that stands for code
_FIXED = ("begin", "end", "first", "by")
_METHODS_THAT_WRITE = {"fill", "sort", "partition", "put", "itemset", "resize"}
_FUNCTIONS_THAT_WRITE = {np.copyto, np.put, np.fill_diagonal}
_SEEN = {"print", "random", "objmode"}  # names in a callee that may tell that it is run again


class Declined(Exception):  # noqa: N818  it is no error
    """A loop that isn't cut out; the argument says why."""


@dataclass(eq=False)
class Outlined:
    """A loop that was cut out."""

    steps: Any  # the jitted function, for plain values
    state: tuple[str, ...]
    others: tuple[str, ...]
    assigned: frozenset[str]  # names of the state that are assigned: other arrays are written to in place
    written: frozenset[str]  # names of arrays that may be written to
    is_range: bool
    is_counted: bool  # whether all turns are taken once it is entered
    loc: Any
    is_taken: bool = False  # whether all turns are taken by what is called before the loop


# --- functions that stand for code ------------------------------------------------------------------------------------


@register_pass(mutates_CFG=True, analysis_only=False)
class Substitute(Pass):
    """The code that a function stands for, in place of its own."""

    _name = "tapegrad_substitute"

    def run_pass(self, state: Any) -> bool:
        """Put it there."""
        known = code_of(state.func_id.func)
        if known is None:
            return False
        blocks = _copied(known.blocks, known.blocks)
        state.func_ir = ir.FunctionIR(
            blocks, False, state.func_id, known.loc, ir_utils.build_definitions(blocks), known.arg_count,
            known.arg_names,
        )  # fmt: skip
        postproc.PostProcessor(state.func_ir).run()
        return True


def code_of(function: Any) -> Any:
    """The code that a Python function stands for; None for those that are themselves."""
    return function.__globals__.get(_IR)


class _Pipeline(compiler.CompilerBase):  # type: ignore[misc]
    """Numba's own passes, for code."""

    def define_pipelines(self) -> Any:
        passes = compiler.DefaultPassBuilder.define_nopython_pipeline(self.state)
        if self.state.func_ir is None:
            passes.add_pass_after(Substitute, FixupArgs)
        passes.finalize()
        return [passes]


_numbers = itertools.count()


def _function(blocks: dict[int, Any], names: tuple[str, ...], flags: Any, func_ir: Any, loc: Any) -> Any:
    """A jitted function of blocks."""
    name = f"steps{next(_numbers)}"  # which its code is told apart by
    parameters = [*_FIXED, *(f"x{i}" for i in range(len(names) - len(_FIXED)))]
    code = func_ir.derive(blocks=blocks, arg_names=names, arg_count=len(names), force_non_generator=True, loc=loc)
    function = define(f"def {name}({', '.join(parameters)}):\n return", name, {_IR: code})
    options = {"error_model": flags.error_model, "boundscheck": flags.boundscheck}
    if flags.fastmath:
        options["fastmath"] = set(flags.fastmath.flags)
    return njit(pipeline_class=_Pipeline, **options)(function)


def _copied(blocks: dict[int, Any], wanted: Any) -> dict[int, Any]:
    """Blocks that share no statement, and no variable, with others."""
    loc = next(iter(blocks.values())).loc
    scope, found = ir.Scope(parent=None, loc=loc), dict[int, Any]()
    for label in wanted:
        found[label] = ir.Block(scope, blocks[label].loc)
        for statement in blocks[label].body:
            memo = {}
            for variable in statement.list_vars():
                if variable.name not in scope.localvars:
                    scope.define(variable.name, variable.loc)
                memo[id(variable)] = scope.get_exact(variable.name)
            found[label].append(copy.deepcopy(statement, memo))
    return found


# --- which loops ------------------------------------------------------------------------------------------------------


class Loops:
    """A function's loops, as Numba's code has them."""

    def __init__(self, func_ir: Any, flags: Any, resolve: Any) -> None:
        self.func_ir, self.flags, self.resolve = func_ir, flags, resolve
        self.blocks = func_ir.blocks
        self.cfg = analysis.compute_cfg_from_blocks(self.blocks)
        self.loops = self.cfg.loops()
        self.used = analysis.compute_use_defs(self.blocks).usemap
        self.assigned = {  # Numba's own map leaves out what is made of itself: `top = max(top, x)`
            label: {s.target.name for s in block.body if isinstance(s, ir.Assign)}
            for label, block in self.blocks.items()
        }
        self.live = self._live()
        self.known = self._known()
        self.trying = [label for label, block in self.blocks.items() if any(map(self._tries, block.body))]

    def _tries(self, statement: Any) -> bool:
        """Whether an error may be caught here."""
        if not isinstance(statement, ir.Assign):
            return isinstance(statement, (ir.StaticTryRaise, ir.DynamicTryRaise))
        function = getattr(statement.value, "value", None) if isinstance(statement.value, ir.Global) else None
        return getattr(function, "__module__", None) == eh.__name__

    def _live(self) -> dict[int, set[str]]:
        """The names whose values may be read from the beginning of a block on."""
        live, again = {label: set(names) for label, names in self.used.items()}, True
        while again:
            again = False
            for label, names in live.items():
                behind = set().union(*(live[to] for to, _ in self.cfg.successors(label)))
                more = behind - self.assigned[label] - names
                names |= more
                again |= bool(more)
        return live

    def _known(self) -> dict[int, set[str]]:
        """The names that have values at the beginning of a block, whichever way led there."""
        every = set().union(*self.assigned.values())
        known, again = {label: set(every) for label in self.blocks}, True
        known[self.cfg.entry_point()] = set()
        while again:
            again = False
            for label, names in known.items():
                ways = [known[at] | self.assigned[at] for at, _ in self.cfg.predecessors(label)]
                if ways and not names <= (common := set.intersection(*ways)):
                    names &= common
                    again = True
        return known

    def within(self, header: int | None) -> list[int]:
        """Headers of the loops that are in one, and in no other within it; of those that are in none."""
        around = {h: {o for o, loop in self.loops.items() if o != h and h in loop.body} for h in self.loops}
        outside = set() if header is None else around[header] | {header}
        return sorted(h for h, others in around.items() if others == outside)

    def body(self, header: int) -> set[int]:
        """The blocks of a loop, and those in which it ends with an error."""
        inside = set(self.loops[header].body)
        return inside | {
            to for label in inside for to, _ in self.cfg.successors(label)
            if isinstance(self.blocks[to].body[-1], (ir.StaticRaise, ir.DynamicRaise, ir.Raise))
        }  # fmt: skip

    def cut(self, header: int) -> tuple[Outlined, Any, list[int]]:
        """A loop as a function, the variable of its range, and its exits."""
        body = self.body(header)
        self._check(body)
        iterator, turns = self._range(header, body)
        exits = sorted({to for label in body for to, _ in self.cfg.successors(label) if to not in body})
        if not exits:
            raise Declined("it ends with errors only")
        test = None if iterator is None else self.test(header)
        if test is not None:
            at_end = self.blocks[test].body[-1].falsebr
            exits = [at_end, *(to for to in exits if to != at_end)]
        met = {v.name for label in body for s in self.blocks[label].body for v in s.list_vars()} - {iterator}
        assigned = self.assigned_in(body)
        left = assigned & set().union(*(self.live[to] for to in exits))
        state = assigned & (self.live[header] | left)
        before = [self.known[at] | self.assigned[at] for at, _ in self.cfg.predecessors(header) if at not in body]
        for name in sorted(state - set.intersection(*before)):
            raise Declined(f"`{_user_name(name)}` is read behind it, and may have no value before it")
        constants = {n: d for n in met - assigned if (d := self._constants(n)) is not None}
        others = met - assigned - set(constants)
        written = self._written(body) & (state | others)
        ordered = tuple(sorted(state)), tuple(sorted(others & written))
        made = Outlined(
            None, (*ordered[0], *ordered[1]), tuple(sorted(others - written)), frozenset(state), frozenset(written),
            iterator is not None, test is not None and len(exits) == 1, self.blocks[header].loc,
        )  # fmt: skip
        made.steps = _Cut(self, header, made, iterator, constants, exits).function()
        return made, turns, exits

    def windowed(self, header: int, made: Outlined, axes: dict[str, int]) -> Any:
        """The loop as a function that has parts of some arrays, each along an axis.

        It takes more parameters, where along these axes the parts begin.
        """
        body = self.body(header)
        iterator, _ = self._range(header, body)
        met = {v.name for label in body for s in self.blocks[label].body for v in s.list_vars()}
        constants = {n: d for n in met - self.assigned_in(body) if (d := self._constants(n)) is not None}
        exits = sorted({to for label in body for to, _ in self.cfg.successors(label) if to not in body})
        cut = _Cut(self, header, made, iterator, constants, exits)
        cut.shift(axes)
        return cut.function(tuple(map(_begin_of, axes)))

    def assigned_in(self, body: Any) -> set[str]:
        """Names that some blocks assign."""
        return set().union(*(self.assigned[label] for label in body))

    def _check(self, body: Any) -> None:
        """Raise Declined where a second run might be seen, or errors are caught outside."""
        if any(label not in body for label in self.trying):
            raise Declined("there is a `try` outside of it")
        for statement in (s for label in body for s in self.blocks[label].body):
            if isinstance(statement, ir.Print):
                raise Declined("it prints, and would do so twice")
            value = getattr(statement, "value", None)
            found = self.resolve(self.func_ir, statement.target) if isinstance(statement, ir.Assign) else None
            if isinstance(value, ir.Const) and isinstance(value.value, ObjModeLiftedWith):
                raise Declined("it calls Python, which may see that it is run twice")
            reason = is_seen(found)
            if reason is not None:
                raise Declined(reason)

    def _range(self, header: int, body: Any) -> tuple[str | None, Any]:
        """The iterator of a loop over a range, and the variable that the range is in; None, None for a `while`."""
        test = self.test(header)
        for label in body:
            for statement in self.blocks[label].body:
                value = getattr(statement, "value", None)
                if not isinstance(value, ir.Expr) or value.op != "iternext":
                    continue
                made = ir_utils.guard(ir_utils.get_definition, self.func_ir, value.value)
                is_inner = isinstance(made, ir.Expr) and any(
                    isinstance(s, ir.Assign) and s.value is made for inside in body for s in self.blocks[inside].body
                )
                if is_inner:
                    continue
                called = made.value if isinstance(made, ir.Expr) and made.op == "getiter" else None
                call = None if called is None else ir_utils.guard(ir_utils.get_definition, self.func_ir, called)
                is_range = isinstance(call, ir.Expr) and call.op == "call"
                if not is_range or self.resolve(self.func_ir, call.func) not in (range, prange) or label != test:
                    raise Declined("it goes through other things than a range")
                return value.value.name, called
        return None, None

    def test(self, header: int) -> int:
        """The block in which a loop over a range is left."""
        while isinstance(self.blocks[header].body[0], ir.Jump):
            header = self.blocks[header].body[0].target
        return header

    def _constants(self, name: str) -> list[Any] | None:
        """The assignments that make a global name, or a constant; None where it is something else."""
        found = self.func_ir._definitions.get(name, ())
        if len(found) != 1:
            return None
        if isinstance(found[0], (ir.Const, ir.Global, ir.FreeVar)):
            return [(name, found[0])]
        if isinstance(found[0], ir.Expr) and found[0].op == "getattr":
            owner = self._constants(found[0].value.name)
            return None if owner is None else [*owner, (name, found[0])]
        return None

    def _written(self, body: Any) -> set[str]:
        """Names of what may be an array that is written to, through any other name or view of it."""
        waiting: list[str] = []
        for statement in (s for label in body for s in self.blocks[label].body):
            if isinstance(statement, (ir.SetItem, ir.StaticSetItem)):
                waiting.append(statement.target.name)
            value = statement.value if isinstance(statement, ir.Assign) else None
            if isinstance(value, ir.Expr) and value.op == "inplace_binop":
                waiting.append(value.lhs.name)
            elif isinstance(value, ir.Expr) and value.op == "call":
                waiting += self.given_to_write(value)
        found = set[str]()
        while waiting:
            name = waiting.pop()
            if name in found:
                continue
            found.add(name)
            for definition in self.func_ir._definitions.get(name, ()):
                if isinstance(definition, ir.Var):
                    waiting.append(definition.name)
                elif isinstance(definition, ir.Expr) and definition.op != "binop":
                    waiting += [v.name for v in definition.list_vars()]
        return found

    def given_to_write(self, call: Any) -> Iterator[str]:
        """The names that a call of a method, or of one of NumPy's functions, may write to."""
        function = self.resolve(self.func_ir, call.func)
        given = [*call.args, *(value for _, value in call.kws)]
        if function is None:
            method = ir_utils.guard(ir_utils.get_definition, self.func_ir, call.func)
            if isinstance(method, ir.Expr) and method.op == "getattr" and method.attr in _METHODS_THAT_WRITE:
                yield method.value.name
        elif isinstance(function, CPUDispatcher):
            yield from (v.name for v in given if may_write(function))
        elif isinstance(function, np.ufunc) and len(given) > function.nin:
            yield from (v.name for v in given[function.nin :])
        elif any(function is known for known in _FUNCTIONS_THAT_WRITE) or any(name == "out" for name, _ in call.kws):
            yield from (v.name for v in given)


def is_seen(function: Any) -> str | None:
    """Why it would be seen that what a loop calls is called twice; None if it wouldn't."""
    if isinstance(function, CPUDispatcher):
        names = {n for f in bindings.reached(function) for n in bindings.names_of(f.py_func.__code__)}
        met = sorted(names & _SEEN)
        return f"it calls `{function.py_func.__name__}`, in which there is `{met[0]}`" if met else None
    is_random = function is np.random or function is random
    if is_random or isinstance(getattr(function, "__self__", None), (np.random.RandomState, random.Random)):
        return "it draws random numbers"
    return None


def may_write(function: Any) -> bool:
    """Whether a jitted function, or one that it calls, may write to an array; if one does all the same, types tell."""
    for code in (f.py_func.__code__ for f in bindings.reached(function)):
        if _METHODS_THAT_WRITE & {*bindings.names_of(code)}:
            return True
        if any(i.opname.startswith("STORE_SUB") or i.argrepr.endswith("=") for i in dis.get_instructions(code)):
            return True
    return False


def indexed(statement: Any) -> tuple[str, Any] | None:
    """The array and the index of which a statement reads or writes elements."""
    if isinstance(statement, ir.SetItem):
        return statement.target.name, statement.index
    value = statement.value if isinstance(statement, ir.Assign) else None
    return (value.value.name, value.index) if isinstance(value, ir.Expr) and value.op == "getitem" else None


def _begin_of(name: str) -> str:
    """The name of where the part of an array begins."""
    return f"$tapegrad.begin.{name}"


def _user_name(name: str) -> str:
    return name.partition(".")[0]


# --- cutting ----------------------------------------------------------------------------------------------------------


class _Cut:
    """Writes the function of a loop."""

    def __init__(
        self, loops: Loops, header: int, made: Outlined, iterator: str | None, constants: Any, exits: list[int]
    ) -> None:
        self.loops, self.header, self.made = loops, header, made
        self.iterator, self.constants, self.exits = iterator, constants, exits
        self.loc = made.loc
        self.blocks = _copied(loops.blocks, loops.body(header))
        self.scope = next(iter(self.blocks.values())).scope

    def variable(self, name: str) -> Any:
        """A variable of the function."""
        if name not in self.scope.localvars:
            self.scope.define(name, self.loc)
        return self.scope.get_exact(name)

    def assign(self, body: list[Any], name: str, value: Any) -> Any:
        """Append an assignment."""
        variable = self.variable(name)
        body.append(ir.Assign(value, variable, self.loc))
        return variable

    def block(self, label: int, body: list[Any]) -> None:
        """A new block."""
        self.blocks[label] = ir.Block(self.scope, self.loc)
        self.blocks[label].body = body

    def shift(self, axes: dict[str, int]) -> None:
        """Have indices of arrays begin elsewhere along an axis of each."""
        for block in self.blocks.values():
            body: list[Any] = []
            for statement in block.body:
                found = indexed(statement)
                if found is not None and found[0] in axes:
                    index = self._shifted(body, found[1], axes[found[0]], _begin_of(found[0]))
                    holder = statement.value if isinstance(statement, ir.Assign) else statement
                    holder.index = index
                body.append(statement)
            block.body = body

    def _shifted(self, body: list[Any], index: Any, axis: int, begin: str) -> Any:
        """Append what makes an index that begins elsewhere along an axis."""
        name, definitions = f"$tapegrad.{begin}.{next(_numbers)}", self.loops.func_ir._definitions
        made = ir_utils.guard(ir_utils.get_definition, self.loops.func_ir, index)
        if not (isinstance(made, ir.Expr) and made.op == "build_tuple"):
            return self.assign(body, name, ir.Expr.binop(operator.sub, index, self.variable(begin), self.loc))
        items = [self.variable(item.name) for item in made.items]
        for k, item in enumerate(items):
            if len(definitions[item.name]) != 1:  # another value by now, maybe
                items[k] = self.assign(body, f"{name}.{k}", ir.Expr.static_getitem(index, k, None, self.loc))
        shifted = ir.Expr.binop(operator.sub, items[axis], self.variable(begin), self.loc)
        items[axis] = self.assign(body, f"{name}.at", shifted)
        return self.assign(body, name, ir.Expr.build_tuple(items, self.loc))

    def function(self, more: tuple[str, ...] = ()) -> Any:
        """The jitted function."""
        loc, made = self.loc, self.made
        inputs = (*made.state, *made.others, *more)
        names = (*(f"$tapegrad.{name}" for name in _FIXED), *inputs)
        entry, labels = min(self.blocks) - 1, itertools.count(max(self.loops.blocks) + 1)
        start = self.header
        if not made.is_counted:
            start = self._counted(labels)
        body: list[Any] = []
        for i, name in enumerate(names):
            self.assign(body, name, ir.Arg(name, i, loc))
        for name, value in dict(itertools.chain(*self.constants.values())).items():
            copied = copy.copy(value)
            if isinstance(copied, ir.Expr):
                copied = ir.Expr.getattr(self.variable(value.value.name), value.attr, loc)
            self.assign(body, name, copied)
        self._begin(body)
        body.append(ir.Jump(start, loc))
        self.block(entry, body)
        to = {exit: next(labels) for exit in self.exits}
        for label in self.loops.loops[self.header].body:
            self.blocks[label].body[-1] = _to(self.blocks[label].body[-1], to)
        for number, exit in enumerate(self.exits, 1):
            self._return(to[exit], number)
        func_ir, flags = self.loops.func_ir, self.loops.flags
        return _function(dict(sorted(self.blocks.items())), names, flags, func_ir, loc)

    def _begin(self, body: list[Any]) -> None:
        """What the turns begin with: the iterator of a part of the range; the number of turns."""
        begin, end, first, by = (self.variable(f"$tapegrad.{name}") for name in _FIXED)
        self.assign(body, "$tapegrad.turns", begin)
        if self.iterator is None:
            return
        ends = []
        for name, at in (("start", begin), ("stop", end)):
            scaled = self.assign(body, f"$tapegrad.{name}.0", ir.Expr.binop(operator.mul, at, by, self.loc))
            value = ir.Expr.binop(operator.add, first, scaled, self.loc)
            ends.append(self.assign(body, f"$tapegrad.{name}", value))
        if self.is_by_one():
            by = self.assign(body, "$tapegrad.one", ir.Const(1, self.loc))  # so that it may be read as a nest
        function = self.assign(body, "$tapegrad.range", ir.Global("range", range, self.loc))
        made = self.assign(body, "$tapegrad.part", ir.Expr.call(function, (*ends, by), (), self.loc))
        self.assign(body, self.iterator, ir.Expr.getiter(made, self.loc))

    def is_by_one(self) -> bool:
        """Whether it is a loop over prange whose step isn't given."""
        func_ir = self.loops.func_ir
        made = ir_utils.guard(ir_utils.get_definition, func_ir, self.iterator)
        call = ir_utils.guard(ir_utils.get_definition, func_ir, made.value) if isinstance(made, ir.Expr) else None
        is_call = isinstance(call, ir.Expr) and call.op == "call" and len(call.args) < 3
        return is_call and self.loops.resolve(func_ir, call.func) is prange

    def _counted(self, labels: Iterator[int]) -> int:
        """Blocks before the header that count turns, and end a `while` that was asked for so many."""
        test, go_on, over = next(labels), next(labels), next(labels)
        for label in self.loops.loops[self.header].body:
            self.blocks[label].body[-1] = _to(self.blocks[label].body[-1], {self.header: test})
        turns, body = self.variable("$tapegrad.turns"), list[Any]()
        if self.iterator is None:
            value = ir.Expr.binop(operator.lt, turns, self.variable("$tapegrad.end"), self.loc)
            more = self.assign(body, "$tapegrad.more", value)
            body.append(ir.Branch(more, go_on, over, self.loc))
            self._return(over, 0)
        else:
            body.append(ir.Jump(go_on, self.loc))
        self.block(test, body)
        body = []
        one = self.assign(body, "$tapegrad.one", ir.Const(1, self.loc))
        self.assign(body, "$tapegrad.turns", ir.Expr.binop(operator.add, turns, one, self.loc))
        body.append(ir.Jump(self.header, self.loc))
        self.block(go_on, body)
        return test

    def _return(self, label: int, number: int) -> None:
        body: list[Any] = []
        exit = self.assign(body, f"$tapegrad.exit{number}", ir.Const(number, self.loc))
        items = [self.variable(name) for name in self.made.state]
        state = self.assign(body, f"$tapegrad.state{number}", ir.Expr.build_tuple(items, self.loc))
        parts = [exit, self.variable("$tapegrad.turns"), state]
        result = self.assign(body, f"$tapegrad.result{number}", ir.Expr.build_tuple(parts, self.loc))
        returned = self.assign(body, f"$tapegrad.returned{number}", ir.Expr.cast(result, self.loc))
        body.append(ir.Return(returned, self.loc))
        self.block(label, body)


def _to(last: Any, labels: dict[int, int]) -> Any:
    """The end of a block that leads elsewhere."""
    if isinstance(last, ir.Jump):
        return ir.Jump(labels.get(last.target, last.target), last.loc)
    if isinstance(last, ir.Branch):
        ways = (labels.get(to, to) for to in (last.truebr, last.falsebr))
        return ir.Branch(last.cond, *ways, last.loc)
    return last


# --- the call ---------------------------------------------------------------------------------------------------------


def insert(
    func_ir: Any, flags: Any, resolve: Any, run_of: Any, declined: Any, has_types: bool, check: Any = None
) -> bool:
    """Put calls of `run_of(outlined)` before a function's loops; `declined(loc, why)` is told of those that aren't.

    Where there is a `check(loops, header, outlined, turns)`, it is given the outermost loops, and may decline them.
    """
    ir_utils.remove_dels(func_ir.blocks)
    loops = Loops(func_ir, flags, resolve)
    has_blocks = any(isinstance(s, (ir.PopBlock, ir.EnterWith)) for b in func_ir.blocks.values() for s in b.body)
    waiting, found = loops.within(None), list[Any]()
    if has_blocks or has_types or func_ir.is_generator:
        for header in waiting:
            declined(func_ir.blocks[header].loc, "its function has `with`, `yield`, or types of `locals`")
        waiting = []
    while waiting:
        header = waiting.pop()
        try:
            made, turns, exits = loops.cut(header)
            if check is not None:
                check(loops, header, made, turns)
            found.append((header, made, turns, exits))
        except Declined as why:
            declined(func_ir.blocks[header].loc, str(why))
            waiting += loops.within(header) if check is None else []
    func_ir.outlined = [(loops.body(header), made) for header, made, _, _ in found]
    for header, made, turns, exits in found:
        _insert(loops, header, made, turns, exits, run_of(made))
    postproc.PostProcessor(func_ir).run()
    return bool(found)


def _insert(loops: Loops, header: int, made: Outlined, turns: Any, exits: list[int], run: Any) -> None:
    blocks, func_ir, loc = loops.blocks, loops.func_ir, made.loc
    body, scope = loops.loops[header].body, blocks[header].scope
    labels = itertools.count(max(blocks) + 1)
    call, plain, taken = (next(labels) for _ in range(3))
    landings = {exit: next(labels) for exit in exits}
    for at, _ in loops.cfg.predecessors(header):
        if at not in body:
            blocks[at].body[-1] = _to(blocks[at].body[-1], {header: call})
    for label in body:
        blocks[label].body[-1] = _to(blocks[label].body[-1], landings)
    for exit, landing in landings.items():
        blocks[landing] = ir.Block(scope, loc)
        blocks[landing].append(ir.Jump(exit, loc))
    blocks[plain] = ir.Block(scope, loc)
    blocks[plain].append(ir.Jump(header, loc))

    def variable(value: Any, statements: list[Any]) -> Any:
        new = scope.redefine("$tapegrad.loop", loc, rename=True)
        statements.append(ir.Assign(value, new, loc))
        func_ir._definitions[new.name] = [value]
        return new

    known = {v.name: v for b in blocks.values() for s in b.body for v in s.list_vars()}
    statements: list[Any] = []
    function = variable(ir.Global("tapegrad.loop", run, loc), statements)
    inputs = variable(ir.Expr.build_tuple([known[n] for n in (*made.state, *made.others)], loc), statements)
    given = turns if turns is not None else variable(ir.Const(None, loc), statements)
    result = variable(ir.Expr.call(function, (given, inputs), (), loc), statements)
    ran = variable(ir.Expr.static_getitem(result, 0, None, loc), statements)
    statements.append(ir.Branch(ran, taken, plain, loc))
    blocks[call] = ir.Block(scope, loc)
    blocks[call].body = statements

    statements = []
    exit = variable(ir.Expr.static_getitem(result, 1, None, loc), statements)
    outputs = variable(ir.Expr.static_getitem(result, 2, None, loc), statements)
    for i, name in enumerate(made.state):
        if name in made.assigned:
            value = ir.Expr.static_getitem(outputs, i, None, loc)
            statements.append(ir.Assign(value, known[name], loc))
            func_ir._definitions[name].append(value)
    label = taken
    for number, to in [*enumerate(exits, 1)][:-1]:
        wanted = variable(ir.Const(number, loc), statements)
        is_it = variable(ir.Expr.binop(operator.eq, exit, wanted, loc), statements)
        otherwise = next(labels)
        statements.append(ir.Branch(is_it, landings[to], otherwise, loc))
        blocks[label] = ir.Block(scope, loc)
        blocks[label].body = statements
        label, statements = otherwise, []
    statements.append(ir.Jump(landings[exits[-1]], loc))
    blocks[label] = ir.Block(scope, loc)
    blocks[label].body = statements
