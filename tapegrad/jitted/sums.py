"""Sums over innermost loops, found in a plan: one row for all of a sum's terms.

The members of a sum are the names that Numba gives to the running total in the course of a loop: each is another one,
or another one plus a term. In the loop a member carries the row that the total had at its start; each term's arguments
go onto the tape without a row. At the loop's exits a row is made of them; where an exception leaves the loop they are
taken back. This is right if nothing else in the loop
makes a row, and if one member alone is read behind it.
"""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

from numba.core import ir, types

from tapegrad.jitted.active import fields_of, holds_active, is_instance
from tapegrad.jitted.names import PIECEWISE
from tapegrad.jitted.plan import Place, Plan

# Expressions that make no row, whatever they meet.
_SILENT = {"getitem", "static_getitem", "iternext", "pair_first", "pair_second", "getiter", "cast", "getattr",
           "exhaust_iter", "build_tuple", "phi", "null", "typed_getitem"}  # fmt: skip


class Sum(NamedTuple):
    """A sum over a loop."""

    body: frozenset[int]  # blocks of the loop
    entries: frozenset[int]  # blocks that lead into it
    exits: frozenset[int]  # blocks that follow on it
    total: str  # the member that is read behind
    terms: dict[str, tuple[str, str, float]]  # a member: the one before, the term, its sign


def find_sums(plan: Plan) -> list[Sum]:
    """The sums of a function."""
    if not plan.steps:
        return []
    loops = plan.cfg.loops()
    found = []
    for header, loop in loops.items():
        is_innermost = not any(other != header and other in loop.body for other in loops)
        if is_innermost and _only_adds(plan, loop):
            made = _sum(plan, header, loop)
            if made is not None:
                found.append(made)
    return found


def _only_adds(plan: Plan, loop: Any) -> bool:
    """Whether nothing in the loop makes a row, but additions."""
    for label in loop.body:
        for statement in plan.blocks[label].body:
            value = statement.value if isinstance(statement, ir.Assign) else None
            if isinstance(value, ir.Yield) or _runs_users_code(plan, statement, value):
                return False
            if not isinstance(value, ir.Expr):
                continue
            step = plan.steps.get(statement.target.name)
            if step is not None:
                if step.is_recorded and step.function not in (operator.add, operator.sub, None):
                    return False
                continue
            function = plan.called(value)[0]
            if value.op in ("call", "binop", "inplace_binop", "unary"):
                if function not in PIECEWISE and _meets_active(plan, value, statement):
                    return False
            elif value.op not in _SILENT and _meets_active(plan, value, statement):
                return False
    return True


def _runs_users_code(plan: Plan, statement: Any, value: Any) -> bool:
    """Whether a statement that is no call may run code of the user's: a generator's, or an instance's methods."""
    if isinstance(statement, (ir.Del, ir.Branch)) or isinstance(value, ir.Var):
        return False
    kinds = [plan.typemap[v.name] for v in statement.list_vars() if v.name in plan.typemap]
    if any(map(_has_generator, kinds)):
        return True
    access = statement if isinstance(statement, ir.SetAttr) else value
    is_access = access is statement or (isinstance(value, ir.Expr) and value.op == "getattr")
    attribute = access.attr if is_access else None
    return any(is_instance(kind) and attribute not in (fields_of(kind) or ()) for kind in kinds)


def _has_generator(kind: Any) -> bool:
    """Whether a type is that of a generator, or of what goes through one."""
    sources = getattr(kind, "source_types", ()) or [getattr(kind, "source_type", None)]
    return isinstance(kind, types.Generator) or any(_has_generator(source) for source in sources if source is not None)


def _meets_active(plan: Plan, value: Any, statement: Any) -> bool:
    names = [v.name for v in value.list_vars()] + [statement.target.name]
    return any(holds_active(plan.typemap[name]) for name in names) or any(
        isinstance(plan.typemap[name], types.BoundFunction) for name in names
    )


def _sum(plan: Plan, header: int, loop: Any) -> Sum | None:
    """The one sum of a loop, if all that is recorded in it are this sum's additions."""
    recorded = {
        name
        for name, step in plan.steps.items()
        if step.is_recorded and step.function is not None and plan.definitions[name][0].block in loop.body
    }
    entries = {label for label, _ in plan.cfg.predecessors(header)} - set(loop.body)
    for name, places in plan.definitions.items():
        inside = [p for p in places if p.block in loop.body]
        if not plan.is_taped(name) or not inside or not any(p.block in entries for p in places):
            continue
        terms = _terms(plan, name, loop.body)
        if terms is None or recorded - set(terms[1]):
            continue
        members, additions = terms
        behind = [m for m in members if any(use.block not in loop.body for use in plan.uses[m])]
        exits = {label for label, _ in _leaving(plan, loop)}
        leads = {p for label in exits for p, _ in plan.cfg.predecessors(label)}
        if len(behind) == 1 and additions and leads <= set(loop.body):
            return Sum(frozenset(loop.body), frozenset(entries), frozenset(exits), behind[0], additions)
    return None


def _leaving(plan: Plan, loop: Any) -> set[tuple[int, int]]:
    return {(to, label) for label in loop.body for to, _ in plan.cfg.successors(label) if to not in loop.body}


def _terms(plan: Plan, first: str, body: Any) -> tuple[set[str], dict[str, tuple[str, str, float]]] | None:
    """The members that a running total goes by, and the additions; None where it is more than a total."""
    members, additions, waiting = set(), {}, [first]
    while waiting:
        name = waiting.pop()
        if name in members:
            continue
        members.add(name)
        for use in plan.uses[name]:
            if use.block not in body:
                continue
            target = _target(plan, name, use)
            if target is None:
                if not _reads_value(plan, use):
                    return None
            else:
                waiting.append(target)
    for name in members:
        for place in plan.definitions[name]:
            if place.block in body:
                value = place.statement.value
                if isinstance(value, ir.Var) and value.name in members:
                    continue
                addition = _addition(plan, value, members)
                if addition is None or plan.single(name) is None:
                    return None
                additions[name] = addition
            elif name != first:
                return None
    return members, additions


def _target(plan: Plan, name: str, use: Place) -> str | None:
    """What a total becomes by a statement: itself under another name, or more."""
    if not isinstance(use.statement, ir.Assign):
        return None
    value = use.statement.value
    is_same = isinstance(value, ir.Var)
    if is_same or _addition(plan, value, {name}) is not None:
        return str(use.statement.target.name)
    return None


def _addition(plan: Plan, value: Any, members: set[str]) -> tuple[str, str, float] | None:
    """(total, term, sign) of an expression that adds a term to a total, or takes it off."""
    if not isinstance(value, ir.Expr):
        return None
    function, operands = plan.called(value)
    if function is operator.add and len([o for o in operands if o in members]) == 1:
        a, b = operands
        return (a, b, 1.0) if a in members else (b, a, 1.0)
    if function is operator.sub and operands[0] in members and operands[1] not in members:
        return operands[0], operands[1], -1.0
    return None


def _reads_value(plan: Plan, use: Place) -> bool:
    value = use.statement.value if isinstance(use.statement, ir.Assign) else None
    return isinstance(value, ir.Expr) and plan.called(value)[0] in PIECEWISE
