"""Tuples that loops carry, taken apart: a variable for each item, before anything looks for loops.

      state = p[2], p[3]                        state[0] = p[2];  state[1] = p[3]
      for i in range(n):                        for i in range(n):
          angle, speed = state                      angle = state[0];  speed = state[1]
          ...                                       ...
          state = angle, speed                      state[0] = angle;  state[1] = speed
      return state                              return (state[0], state[1])

A loop that carries numbers is a nest (`nests.py`), one that carries a tuple isn't. A variable is taken apart if each of
its values is a tuple of one form (as long, and of the same class if its items have names) that is built here, given as
an argument, bound to a name outside, or that of another such variable, and it, or one that it shares a value with, has
several. Where the tuple itself is read, it is built again: tuples don't change, and have no identity.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

from numba.core import ir, ir_utils, postproc, types
from numba.core.compiler_machinery import register_pass

from tapegrad.jitted.inner import Pass
from tapegrad.jitted.plan import passed_on

MAX_ITEMS = 32
_MAX_DEPTH = 4  # of tuples in tuples
# Statements in which what is read can be exchanged.
_READING = (ir.Assign, ir.Return, ir.SetItem, ir.StaticSetItem, ir.SetAttr, ir.DelItem, ir.Print, ir.Branch,
            ir.DynamicRaise, ir.DynamicTryRaise, ir.Del)  # fmt: skip


class Form(NamedTuple):
    """How many items a tuple has, and its class."""

    n: int
    of: type = tuple


def is_named_tuple(called: Any) -> bool:
    """Whether it is the class of named tuples: Numba knows none whose items are of other types elsewhere."""
    return isinstance(called, type) and issubclass(called, tuple) and hasattr(called, "_fields")


@register_pass(mutates_CFG=False, analysis_only=False)
class TakeApart(Pass):
    """Take tuples apart; where users have declared types of variables, these stay."""

    _name = "tapegrad_take_apart"

    def run_pass(self, state: Any) -> bool:
        """Do so until none is left."""
        rounds = 0
        while not state.locals and rounds < _MAX_DEPTH and _take_apart(state.func_ir, state.args):
            rounds += 1
        if rounds:
            postproc.PostProcessor(state.func_ir).run()
        return rounds > 0


def _take_apart(func_ir: Any, arguments: Any) -> bool:
    """Take tuples apart, but not those in them; returns whether there were some."""
    known = _Known(func_ir, arguments)
    forms = known.carried()
    if not forms:
        return False
    writer = _Writer(known, forms)
    for block in func_ir.blocks.values():
        body: list[Any] = []
        for statement in block.body:
            writer.rewrite(statement, body)
        block.body = body
    func_ir._definitions = ir_utils.build_definitions(func_ir.blocks)
    return True


class _Known:
    """What is known of a function's tuples before there are types."""

    def __init__(self, func_ir: Any, arguments: Any) -> None:
        self.func_ir, self.arguments = func_ir, arguments
        self.values: dict[str, list[Any]] = defaultdict(list)  # of each variable; None for one that must stay
        for statement in (statement for block in func_ir.blocks.values() for statement in block.body):
            if isinstance(statement, ir.Assign):
                self.values[statement.target.name].append(statement.value)
            elif not isinstance(statement, _READING):
                for variable in statement.list_vars():
                    self.values[variable.name].append(None)

    def carried(self) -> dict[str, Form]:
        """The form of each variable that is taken apart."""
        found = ((name, self.form(value)) for name, values in self.values.items() for value in values)
        forms = {name: form for name, form in found if form is not None}  # of one of its values
        copies = [(name, passed_on(value)) for name, values in self.values.items() for value in values]
        while new := {name: forms[before] for name, before in copies if before in forms and name not in forms}:
            forms |= new
        while bad := [name for name in forms if not all(self.has(v, forms[name], forms) for v in self.values[name])]:
            for name in bad:
                del forms[name]
        carried = {name for name in forms if len(self.values[name]) > 1}
        pairs = [(name, before) for name, before in copies if name in forms and before in forms]
        while new := {name for pair in pairs if carried.intersection(pair) for name in pair} - carried:
            carried |= new
        return {name: forms[name] for name in carried}

    def has(self, value: Any, form: Form, forms: dict[str, Form]) -> bool:
        """Whether a value is a tuple of a form."""
        before = passed_on(value)
        if before is None:
            return self.form(value) == form
        return forms.get(before) == form and (isinstance(value, ir.Var) or value.op == "cast" or value.count == form.n)

    def form(self, value: Any) -> Form | None:
        """That of a tuple that is built here, or given, if it is short enough."""
        parts = self.parts(value)
        if parts is not None:
            form = Form(len(parts), tuple if value.op == "build_tuple" else self.called(value))
        else:
            form = _form_of(self.kind(value))
        return form if form is not None and 0 < form.n <= MAX_ITEMS else None

    def parts(self, value: Any) -> list[Any] | None:
        """What a tuple is built of here."""
        if not isinstance(value, ir.Expr):
            return None
        if value.op == "build_tuple":
            return list(value.items)
        named = self.called(value)
        if not is_named_tuple(named) or value.vararg is not None:
            return None
        rest = dict(value.kws)
        parts = list(value.args) + [rest.pop(name) for name in named._fields[len(value.args) :] if name in rest]
        return parts if not rest and len(parts) == len(named._fields) else None

    def called(self, value: Any) -> Any:
        """The object that an expression calls, where it is bound to a name."""
        return ir_utils.guard(ir_utils.find_const, self.func_ir, value.func) if value.op == "call" else None

    def kind(self, value: Any) -> Any:
        """The type, or the value, of what is given: an argument, what is bound to a name, an item of these."""
        if isinstance(value, ir.Arg):
            return self.arguments[value.index]
        if isinstance(value, (ir.Global, ir.FreeVar)):
            return value.value
        if isinstance(value, ir.Expr) and value.op == "static_getitem" and isinstance(value.index, int):
            of = self.values[value.value.name]
            whole = self.kind(of[0]) if len(of) == 1 else None
            form = _form_of(whole)
            return whole[value.index] if form is not None and -form.n <= value.index < form.n else None
        return None


def _form_of(kind: Any) -> Form | None:
    """The form of tuples of a type, or of a tuple."""
    if isinstance(kind, types.BaseNamedTuple):
        return Form(len(kind), kind.instance_class)
    if isinstance(kind, types.BaseTuple):
        return Form(len(kind))
    return Form(len(kind), type(kind)) if type(kind) is tuple or is_named_tuple(type(kind)) else None


class _Writer:
    """Writes each statement anew, where tuples are taken apart."""

    def __init__(self, known: _Known, forms: dict[str, Form]) -> None:
        self.known, self.forms = known, forms

    def rewrite(self, statement: Any, body: list[Any]) -> None:
        """Append what a statement becomes."""
        if isinstance(statement, ir.Del) and statement.value in self.forms:
            return
        if isinstance(statement, ir.Assign):
            if statement.target.name in self.forms:
                for k, item in enumerate(self.items(statement, body)):
                    body.append(ir.Assign(item, _item(statement.target, k), statement.loc))
                return
            item = self.item(statement.value)
            if item is not None:
                body.append(ir.Assign(item, statement.target, statement.loc))
                return
        self.exchange(statement, body)
        body.append(statement)

    def items(self, statement: Any, body: list[Any]) -> list[Any]:
        """The items of the tuple that is assigned."""
        value, loc = statement.value, statement.loc
        n = self.forms[statement.target.name].n
        if passed_on(value) is not None:
            source = value if isinstance(value, ir.Var) else value.value
            return [_item(source, k) for k in range(n)]
        parts = self.known.parts(value)
        if parts is None:
            whole = _new(statement.target, value, loc, body)
            return [ir.Expr.static_getitem(whole, k, None, loc) for k in range(n)]
        return [self.built(part, body, loc) if part.name in self.forms else part for part in parts]

    def item(self, value: Any) -> Any:
        """The variable for an item, where one is read."""
        if not isinstance(value, ir.Expr) or value.op not in ("static_getitem", "getattr"):
            return None
        form = self.forms.get(value.value.name)
        if form is None:
            return None
        if value.op == "getattr":
            fields = getattr(form.of, "_fields", ())
            return _item(value.value, fields.index(value.attr)) if value.attr in fields else None
        is_one = isinstance(value.index, int) and -form.n <= value.index < form.n
        return _item(value.value, value.index % form.n) if is_one else None

    def exchange(self, statement: Any, body: list[Any]) -> None:
        """Have a statement read tuples that are built again."""
        met = {variable.name: variable for variable in statement.list_vars() if variable.name in self.forms}
        if not met:
            return
        new = {name: self.built(variable, body, statement.loc) for name, variable in met.items()}
        if isinstance(statement, ir.Return):  # what is returned is of the type that all returns have
            ((name, whole),) = new.items()
            new[name] = _new(whole, ir.Expr.cast(whole, statement.loc), statement.loc, body)
        ir_utils.replace_vars_stmt(statement, new)

    def built(self, variable: Any, body: list[Any], loc: Any) -> Any:
        """The tuple again; appends what builds it."""
        form = self.forms[variable.name]
        items = [_item(variable, k) for k in range(form.n)]
        if form.of is tuple:
            return _new(variable, ir.Expr.build_tuple(items, loc), loc, body)
        maker = _new(variable, ir.Global(form.of.__name__, form.of, loc), loc, body)
        return _new(variable, ir.Expr.call(maker, items, (), loc), loc, body)


def _item(variable: Any, k: int) -> Any:
    """The variable for an item."""
    name, scope = f"{variable.name}[{k}]", variable.scope
    return scope.get_exact(name) if name in scope.localvars else scope.define(name, variable.loc)


def _new(beside: Any, value: Any, loc: Any, body: list[Any]) -> Any:
    """A variable for a value; appends what assigns it."""
    variable = beside.scope.redefine(f"$tapegrad.{beside.name}", loc, rename=True)
    body.append(ir.Assign(value, variable, loc))
    return variable
