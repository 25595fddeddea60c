"""Gradients that are taken inside a function that is differentiated in turn.

What `jitted.value_and_grad` gives is a driver, whose own rows can't be recorded. Where differentiated code calls one,
drivers of its own compute from plain numbers what is needed:

      value, gradient             with the tangents of the caller's numbers: forward over reverse. In forward mode that
                                  is all, to any order
      the Hessian, with tangents  where rows are recorded: the partials of the gradient's rows. It takes a run for each
                                  number, with a direction more, and each runs the function from where the first began
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import types
from numba.extending import overload

from tapegrad.jitted import checking, rewriting
from tapegrad.jitted.active import Active, Dual, Taped, holds_active, is_active_array
from tapegrad.jitted.errors import NotDifferentiableError, where_is_function
from tapegrad.jitted.extensions import joined
from tapegrad.jitted.forms import Driver, Form
from tapegrad.jitted.inner import OPTIONS, define
from tapegrad.jitted.lifting import count, make, numbers_of, strip, tangents
from tapegrad.jitted.repeats import before, kept_states, load_states, put_back


def again(original: Any, kind: Active, is_marked: bool) -> Any:
    """What stands for a driver in differentiated code."""
    names = ", ".join(f"a{i}" for i in range(original.form.n_arguments))
    scope: dict[str, Any] = {"chosen": lambda *kinds: _code(original, names, kinds)}
    stub = define(f"def stub({names}):\n raise NotImplementedError", "stub", {})
    stub.__name__ = f"value_and_grad({original.original.py_func.__name__})"
    overload(stub, OPTIONS, strict=False)(define(f"def typed({names}):\n return chosen({names})", "typed", scope))
    checking.make_known(stub)
    return stub


def _code(original: Any, names: str, kinds: tuple[Any, ...]) -> Any:
    form, function = original.form, original.original
    active = [i for i, kind in enumerate(kinds) if isinstance(kind, Active) or is_active_array(kind)]
    if not any(map(holds_active, kinds)):
        return define(f"def code({names}):\n return original({names})", "code", {"original": original})
    by = tuple(sorted({*form.argnums, *active}))
    others = [k for i, k in enumerate(kinds) if holds_active(k) and i not in active]
    if others or not all(rewriting.plain(getattr(kinds[i], "dtype", kinds[i])) == types.float64 for i in by):
        raise NotDifferentiableError(
            "a gradient inside a function that is differentiated, by other than float64", where_is_function(function),
            "let it be by floats, or arrays of them",
        )  # fmt: skip
    kind = next(kinds[i] if isinstance(kinds[i], Active) else kinds[i].dtype for i in active)

    def of(text: str, n_tangents: int, depth: int = 1) -> Any:
        made = Form(text, form.n_arguments, by, n_tangents=n_tangents, depth=depth, is_called=True)
        return Driver(function, made)

    n, depth = kind.n_tangents, kind.depth
    scope = {
        "np": np, "strip": strip, "before": before, "kept_states": kept_states, "put_back": put_back, "count": count,
        "load_states": load_states, "tangents": tangents, "numbers_of": numbers_of, "make": make, "joined": joined,
        "kind": kind, "passive": Dual(n, depth), "n_tangents": n, "first": of("tangents", n, depth),
    }  # fmt: skip
    lines = [
        f"def code({names}):",
        f" values = ({', '.join(f'strip({name})' for name in names.split(', '))},)",
        f" n = {' + '.join(f'count(a{i})' for i in by)}",
        " along = np.zeros((n, n_tangents))",
        *_filling(by),
    ]
    call = ", ".join(f"values[{i}]" for i in range(form.n_arguments))
    if isinstance(kind, Taped):
        scope["second"] = of("hessian", 4 if any(isinstance(kinds[i], types.Array) for i in by) else min(len(by), 2))
        if n:  # with a direction more than the caller's, or than each of them that isn't mixed with the others
            scope["second"] = of("tangents", *((3, 2) if depth == 1 else (2 * n + 1, depth + 1)))
        lines += [
            " kept, states = before(values, True), kept_states()",
            f" value, slopes = first({call}, along)",
            *(_hessian_with_tangents(call, depth) if n else _hessian(call)),
            *_recorded(by, kinds, n > 0),
        ]
    else:
        lines += [
            f" value, slopes = first({call}, along)",
            " total, bars = numbers_of(kind, value), np.empty(n, kind)",
            " for i in range(n):",
            "  bars[i] = numbers_of(kind, slopes[i])",
        ]
    lines.append(f" return total, {_shaped(original.form, by, kinds)}")
    return define("\n".join(lines), "code", scope)


def _filling(by: tuple[int, ...]) -> list[str]:
    """The tangents of all numbers."""
    return [" for k in range(n_tangents):", "  at = 0", *(f"  at = tangents(a{i}, along[:, k], at, k)" for i in by)]


def _hessian(call: str) -> list[str]:
    """The Hessian, whose entries have no tangents."""
    return [" put_back(values, kept)", " load_states(states)", f" _, hessian = second({call})"]


def _hessian_with_tangents(call: str, depth: int) -> list[str]:
    """The Hessian column by column, each entry with its tangents.

    Of mixed tangents, those of one direction more are the second half. Of tangents that aren't mixed, each is mixed
    with the new direction in a run of its own.
    """
    mixed = [
        "  along_both[:, :n_tangents] = along",
        "  along_both[j, n_tangents] = 1.0",
        f"  hessian[:, j] = second({call}, along_both)[1][:, n_tangents + 1 :]",
    ]
    apart = [
        "  along_both[:, 0] = along[:, k]",
        "  along_both[j, 1] = 1.0",
        f"  found = second({call}, along_both)[1]",
        "  hessian[:, j, 0] = found[:, 2]",
        "  hessian[:, j, 1 + k] = found[:, 3]",
    ]
    return [
        " hessian = np.empty((n, n, 1 + n_tangents))",
        f" for turn in range(n{' * n_tangents' if depth == 1 else ''}):",
        f"  j, k = {'turn // n_tangents, turn % n_tangents' if depth == 1 else 'turn, 0'}",
        "  put_back(values, kept)",
        "  load_states(states)",
        f"  along_both = np.zeros((n, {3 if depth == 1 else '2 * n_tangents + 1'}))",
        *(apart if depth == 1 else mixed),
    ]


def _recorded(by: tuple[int, ...], kinds: tuple[Any, ...], has_tangents: bool) -> list[str]:
    """Value and gradient, as rows of all numbers."""
    lines = [" u, at = np.empty(n, kind), 0"]
    for i in by:
        each = [f" for x{i} in a{i}.flat:", f"  u[at] = x{i}", "  at += 1"]
        lines += each if isinstance(kinds[i], types.Array) else [f" u[at] = a{i}", " at += 1"]
    slope, entry = "slopes[j, 0]", "hessian[i, j]"
    if has_tangents:
        slope, entry = "numbers_of(passive, slopes[j])", "numbers_of(passive, hessian[i, j])"
    return [
        *lines,
        " total, bars = make(kind, value[0], 0, -1), np.empty(n, kind)",
        " for j in range(n):",
        f"  total = joined(total, {slope}, u[j])",
        " for i in range(n):",
        "  bar = make(kind, slopes[i, 0], 0, -1)",
        "  for j in range(n):",
        f"   bar = joined(bar, {entry}, u[j])",
        "  bars[i] = bar",
    ]


def _shaped(form: Form, by: tuple[int, ...], kinds: tuple[Any, ...]) -> str:
    """The gradient in the form of the arguments that it is by."""
    found, at = [], "0"
    for i in by:
        if i in form.argnums:
            is_array = isinstance(kinds[i], types.Array)
            found.append(f"bars[{at} : {at} + a{i}.size].reshape(a{i}.shape)" if is_array else f"bars[{at}]")
        at += f" + count(a{i})"
    return found[0] if form.is_single else f"({', '.join(found)},)"
