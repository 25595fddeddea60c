"""Gradients that are taken inside a function that is differentiated in turn.

What `jitted.value_and_grad` gives is a driver, whose own rows can't be recorded. Where differentiated code calls one,
its value has the gradient for its derivative, and its gradient the Hessian, computed at once by drivers of theirs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numba.core import types
from numba.extending import overload

from tapegrad.jitted import checking, rewriting
from tapegrad.jitted.active import Active, Taped, holds_active, is_active_array
from tapegrad.jitted.drivers import Form, driver
from tapegrad.jitted.errors import NotDifferentiableError, where_is_function
from tapegrad.jitted.inner import OPTIONS, define
from tapegrad.jitted.lifting import strip, with_value


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
    where = where_is_function(function.py_func)
    if others or not all(rewriting.plain(getattr(kinds[i], "dtype", kinds[i])) == types.float64 for i in by):
        raise NotDifferentiableError(
            "a gradient inside a function that is differentiated, by other than float64", where,
            "let it be by floats, or arrays of them",
        )  # fmt: skip
    kind = next(kinds[i] if isinstance(kinds[i], Active) else kinds[i].dtype for i in active)
    if kind.n_tangents and (isinstance(kind, Taped) or kind.depth > 1):
        raise NotDifferentiableError(
            "a gradient inside a function of which second derivatives are asked for", where,
            "derivatives of jitted functions are known to the second order",
        )  # fmt: skip
    width = 4 if any(isinstance(kinds[i], types.Array) for i in by) else min(len(by), 2)
    scope = {
        "strip": strip,
        "first": driver(function, Form("jacrev", form.n_arguments, by, is_called=True)),
        "second": driver(function, Form("hessian", form.n_arguments, by, n_tangents=width, is_called=True)),
        "joined": rewriting.active(_joined(original, by, kinds), kind),
    }
    text = (
        f"def code({names}):\n values = ({', '.join(f'strip({name})' for name in names.split(', '))},)\n"
        " value, slopes = first(*values)\n _, hessian = second(*values)\n"
        f" return joined(value, slopes, hessian, {', '.join(f'a{i}' for i in by)})"
    )
    return define(text, "code", scope)


def _joined(original: Any, by: tuple[int, ...], kinds: tuple[Any, ...]) -> Any:
    """Value and gradient, with their derivatives, as plain code: sums over the numbers that have some."""
    lines = ["n, at = slopes.shape[1], 0", "u, bars, total = np.empty(n), np.empty(n), 0.0"]
    found = []
    for i in by:
        is_array, is_active = isinstance(kinds[i], types.Array), holds_active(kinds[i])
        if i in original.form.argnums:
            lines.append(f"at{i} = at")
            found.append(f"bars[at{i} : at{i} + a{i}.size].reshape(a{i}.shape)" if is_array else f"bars[at{i}]")
        if is_array and is_active:
            lines += [f"for x in a{i}.flat:", " u[at] = x", " at += 1"]
        else:
            lines += [f"u[at] = a{i}"] * is_active + [f"at += a{i}.size" if is_array else "at += 1"]
    lines += ["for j in range(n):", " total += slopes[0, j] * u[j]"]
    lines += ["for i in range(n):", " bar = 0.0", " for j in range(n):", "  bar += hessian[i, j] * u[j]"]
    lines += [" bars[i] = with_value(bar, slopes[0, i])"]
    gradient = found[0] if original.form.is_single else f"({', '.join(found)},)"
    lines.append(f"return with_value(total, value), {gradient}")
    declared = f"def joined(value, slopes, hessian, {', '.join(f'a{i}' for i in by)}):"
    return njit(define("\n ".join([declared, *lines]), "joined", {"np": np, "with_value": with_value}))
