"""Tuples that loops carry, taken apart: a variable for each item, before anything looks for loops.

      state = p[2], p[3]                        state[0] = p[2];  state[1] = p[3]
      for i in range(n):                        for i in range(n):
          angle, speed = state                      angle = state[0];  speed = state[1]
          ...                                       ...
          state = angle, speed                      state[0] = angle;  state[1] = speed
      return state                              return (state[0], state[1])

A loop that carries numbers is a nest (`nests.py`), one that carries a tuple isn't. A variable is taken apart if each of
its values is a tuple of one length that is built here, or that of another such variable, and it, or one that it shares
a value with, has several. Where the tuple itself is read, it is built again: tuples don't change, and have no identity.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from numba.core import ir, ir_utils, postproc
from numba.core.compiler_machinery import FunctionPass, register_pass

MAX_ITEMS = 32
_MAX_DEPTH = 4  # of tuples in tuples
_READING = (
    ir.Assign,
    ir.Return,
    ir.SetItem,
    ir.StaticSetItem,
    ir.SetAttr,
    ir.DelItem,
    ir.Print,
    ir.Branch,
    ir.DynamicRaise,
    ir.DynamicTryRaise,
    ir.Del,
)  # fmt: skip  where what is read can be exchanged


@register_pass(mutates_CFG=False, analysis_only=False)
class TakeApart(FunctionPass):  # type: ignore[misc]
    """Take tuples apart; where users have declared types of variables, these stay."""

    _name = "tapegrad_take_apart"

    def __init__(self) -> None:
        FunctionPass.__init__(self)

    def run_pass(self, state: Any) -> bool:
        """Do so until none is left."""
        rounds = 0
        while not state.locals and rounds < _MAX_DEPTH and _take_apart(state.func_ir):
            rounds += 1
        if rounds:
            postproc.PostProcessor(state.func_ir).run()
        return rounds > 0


def _take_apart(func_ir: Any) -> bool:
    """Take tuples apart, but not those in them; returns whether there were some."""
    lengths = _lengths(func_ir)
    if not lengths:
        return False
    for block in func_ir.blocks.values():
        body: list[Any] = []
        for statement in block.body:
            _rewrite(statement, lengths, body)
        block.body = body
    func_ir._definitions = ir_utils.build_definitions(func_ir.blocks)
    return True


def _lengths(func_ir: Any) -> dict[str, int]:
    """How many items each variable has that is taken apart."""
    values: dict[str, list[Any]] = defaultdict(list)
    for statement in (statement for block in func_ir.blocks.values() for statement in block.body):
        if isinstance(statement, ir.Assign):
            values[statement.target.name].append(statement.value)
        elif not isinstance(statement, _READING):
            for variable in statement.list_vars():
                values[variable.name].append(None)
    lengths = {
        name: len(value.items) for name, found in values.items() for value in found if _is_built(value)
    }  # of one of its values
    copies = [(name, _passed_on(value)) for name, found in values.items() for value in found]
    copies = [(name, before) for name, before in copies if before is not None]
    is_done = False
    while not is_done:
        new = {name: lengths[before] for name, before in copies if before in lengths and name not in lengths}
        lengths |= new
        is_done = not new
    is_done = False
    while not is_done:
        bad = [name for name, n in lengths.items() if not all(_has(value, n, lengths) for value in values[name])]
        for name in bad:
            del lengths[name]
        is_done = not bad
    carried = {name for name in lengths if len(values[name]) > 1}
    is_done = False
    while not is_done:
        pairs = [pair for pair in copies if all(name in lengths for name in pair)]
        new = {name for pair in pairs if carried.intersection(pair) for name in pair} - carried
        carried |= new
        is_done = not new
    return {name: lengths[name] for name in carried}


def _is_built(value: Any) -> bool:
    return isinstance(value, ir.Expr) and value.op == "build_tuple" and 0 < len(value.items) <= MAX_ITEMS


def _passed_on(value: Any) -> str | None:
    """The variable whose value this is, if it is a tuple's."""
    if isinstance(value, ir.Expr) and value.op in ("exhaust_iter", "cast"):
        value = value.value
    return str(value.name) if isinstance(value, ir.Var) else None


def _has(value: Any, n: int, lengths: dict[str, int]) -> bool:
    """Whether a value is a tuple of so many items, as far as is known."""
    if _is_built(value):
        return len(value.items) == n
    is_unpacked = isinstance(value, ir.Expr) and value.op == "exhaust_iter"
    return lengths.get(_passed_on(value) or "") == n and not (is_unpacked and value.count != n)


def _rewrite(statement: Any, lengths: dict[str, int], body: list[Any]) -> None:
    """Append what a statement becomes."""
    if isinstance(statement, ir.Del) and statement.value in lengths:
        return
    if isinstance(statement, ir.Assign):
        target, value, loc = statement.target, statement.value, statement.loc
        if target.name in lengths:
            before = _passed_on(value)
            source = value.value if isinstance(value, ir.Expr) and before is not None else value
            for k in range(lengths[target.name]):
                item = value.items[k] if before is None else _item(source, k)
                if before is None and item.name in lengths:
                    item = _built(item, lengths, body, loc)
                body.append(ir.Assign(item, _item(target, k), loc))
            return
        if isinstance(value, ir.Expr) and value.op == "static_getitem" and value.value.name in lengths:
            n = lengths[value.value.name]
            if isinstance(value.index, int) and -n <= value.index < n:
                body.append(ir.Assign(_item(value.value, value.index % n), target, loc))
                return
    met = {variable.name: variable for variable in statement.list_vars() if variable.name in lengths}
    if met:
        new = {name: _built(variable, lengths, body, statement.loc) for name, variable in met.items()}
        if isinstance(statement, ir.Return):  # what is returned is of the type that all returns have
            ((name, variable),), loc = new.items(), statement.loc
            new[name] = variable.scope.redefine(variable.name, loc, rename=True)
            body.append(ir.Assign(ir.Expr.cast(variable, loc), new[name], loc))
        ir_utils.replace_vars_stmt(statement, new)
    body.append(statement)


def _item(variable: Any, k: int) -> Any:
    """The variable for an item."""
    name, scope = f"{variable.name}[{k}]", variable.scope
    return scope.get_exact(name) if name in scope.localvars else scope.define(name, variable.loc)


def _built(variable: Any, lengths: dict[str, int], body: list[Any], loc: Any) -> Any:
    """The tuple again; appends what builds it."""
    items = [_item(variable, k) for k in range(lengths[variable.name])]
    tuple_again = variable.scope.redefine(f"$tapegrad.{variable.name}", loc, rename=True)
    body.append(ir.Assign(ir.Expr.build_tuple(items, loc), tuple_again, loc))
    return tuple_again
