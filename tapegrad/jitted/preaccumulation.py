"""Functions whose Jacobian goes on the tape, in place of all that they do inside.

A call of such a function is recorded on top of the tape, from independents of its own, swept once for each number that
it returns, and forgotten; what remains is a row for each of these numbers:

      row k      | length | up to as many arguments as the function was given active scalars
      argument c | index, partial | the row of one of those scalars, and the derivative by it
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numba.core import types
from numba.core.registry import CPUDispatcher
from numba.extending import intrinsic, overload

from tapegrad.jitted import bindings, checking, rewriting
from tapegrad.jitted import jacobian_tape as tape
from tapegrad.jitted.access import (
    get_number,
    get_word,
    open_tape,
    put_byte,
    put_index,
    put_number,
    put_word,
    reserve,
    sweep_of,
    take_rows,
    zero_adjoints,
)  # fmt: skip
from tapegrad.jitted.active import Active, Complex, Taped, holds_active, is_active_array, is_complex_array
from tapegrad.jitted.allocation import array_like, flat_view
from tapegrad.jitted.complex_numbers import imaginary_part, real_part
from tapegrad.jitted.drivers import give_up, known_rows, protected
from tapegrad.jitted.emission import Emitter
from tapegrad.jitted.inner import OPTIONS, define, inside
from tapegrad.jitted.kept import frozen
from tapegrad.jitted.lifting import count, rows
from tapegrad.jitted.marking import enter, leave

ROWS, ARGUMENTS, LENGTH, INDEX, PARTIAL, ADJOINT = (
    tape.ROWS, tape.ARGUMENTS, tape.LENGTH, tape.INDEX, tape.PARTIAL, tape.ADJOINT,
)  # fmt: skip
NO_MEMORY, LONG, MAX_LENGTH = tape.NO_MEMORY, tape.LONG, tape.MAX_LENGTH


def preaccumulate(function: Callable[..., Any]) -> Any:
    """Mark a jitted function that has few numbers for arguments and results, but does much inside.

    Parameters
    ----------
    function : jitted function, or one that can be
        It takes and returns floats, float64 arrays and tuples of them, and whatever else it needs. When it is
        differentiated it can't write to arrays that it is given.

    Returns
    -------
    jitted function
        The same. Where it is called in a function that is differentiated in reverse mode, only its derivatives go on
        the tape, one row for each number that it returns; so iterations of a solver cost memory once.

    Notes
    -----
    Inside, it is swept once for each number that it returns. Derivatives are the same, also second ones; forward mode
    doesn't notice.

    >>> import tapegrad as tg
    >>> from numba import njit
    >>> @tg.jitted.preaccumulate
    ... def root(a):
    ...     x = 1.0
    ...     for _ in range(60):
    ...         x = 0.5 * (x + a / x)
    ...     return x
    >>> tg.func.value_and_grad(njit(lambda a: 3.0 * root(a)))(4.0)
    (6.0, 0.75)
    """
    jitted = function if isinstance(function, CPUDispatcher) else njit(function)
    if not isinstance(jitted, CPUDispatcher):
        return jitted  # as njit does under NUMBA_DISABLE_JIT: the plain function
    bindings.SPECIAL[jitted] = _preaccumulated
    rewriting.forget()
    return jitted


def _preaccumulated(function: Any, kind: Active, is_marked: bool) -> Any:
    """What stands for a marked function."""
    inner = rewriting.ActiveDispatcher(function, kind, is_marked=is_marked)
    if not isinstance(kind, Taped):
        return inner
    parameters = list(inspect.signature(function.py_func).parameters.values())
    defaults = {f"default_{p.name}": p.default for p in parameters if p.default is not p.empty}
    listed = ", ".join(p.name + (f"=default_{p.name}" if p.default is not p.empty else "") for p in parameters)
    names = [p.name for p in parameters]

    scope = {
        **_SCOPE, **defaults, "function": inner, "kind": kind, "width": 1 + kind.n_tangents,
        "sweep": sweep_of(kind),
    }  # fmt: skip

    def chosen(*kinds: Any) -> Any:
        return define(_text(names, listed, kinds), "code", scope)

    stub = define(f"def stub({listed}):\n raise NotImplementedError", "stub", defaults)
    stub.__name__ = function.__name__
    typed = f"def typed({listed}):\n return chosen({', '.join(names)})"
    overload(stub, OPTIONS)(define(typed, "typed", {**defaults, "chosen": chosen}))
    checking.make_known(stub)
    return stub


def _text(names: list[str], listed: str, kinds: tuple[Any, ...]) -> str:
    """The code for a call with arguments of these types."""
    # What isn't given is left to the function itself; it comes last.
    given = [(name, kind) for name, kind in zip(names, kinds, strict=True) if not isinstance(kind, types.Omitted)]
    active = [name for name, kind in given if holds_active(kind)]
    if not active:
        return f"def code({listed}):\n return function({', '.join(name for name, _ in given)})"
    lines, at = [], "0"
    for name in active:
        lines.append(f"    rows({name}, outer, {at})")
        at += f" + count({name})"
    numbered, place = [], "row"
    for name, _ in given:
        numbered.append(f"fixed(numbered({name}, {place}, step))" if name in active else f"fixed({name})")
        place += f" + step * count({name})" if name in active else ""
    return "\n".join([
        f"def code({listed}):", f"    n = {at}", "    outer = np.empty(n, np.int64)", *lines,
        _CODE.format(arguments="".join(argument + ", " for argument in numbered)),
    ])  # fmt: skip


_CODE = """
    header = open_tape(kind)
    n_rows, n_arguments = get_word(header, ROWS), get_word(header, ARGUMENTS)
    known_rows(header, outer)
    row, step, place = 0, 0, enter(header)
    if np.any(outer):
        row, step = take_rows(header, n, width), 1
        if row < 0:
            raise MemoryError("no memory for the tape")
    result = protected(function, ({arguments}), header, n_rows, n_arguments, (), ())
    m, code = step * count(result), 0
    inner, jacobian = np.empty(m, np.int64), np.empty((m, n * width))
    if m > 0:
        rows(result, inner, 0)
        known_rows(header, inner)
    for k in range(m):
        code = min(code, 0 if zero_adjoints(header, row) else NO_MEMORY)
        if code == 0 and inner[k] != 0:
            put_number(get_word(header, ADJOINT), inner[k] * width, 1.0)
            code = min(sweep(header, row), 0)
        if code == 0:
            for i in range(n * width):
                jacobian[k, i] = get_number(get_word(header, ADJOINT), row * width + i)
    leave(header, place, n_rows, n_arguments)
    put_word(header, ROWS, n_rows)
    put_word(header, ARGUMENTS, n_arguments)
    if code < 0:
        give_up(code)
    first = get_word(header, ROWS)
    for k in range(m):
        append_row(header, outer, jacobian[k], width)
    return numbered(result, first * step, step)
"""


@inside
def append_row(header, outer, partials, width):
    """A row of those of the outer rows that the result depends on."""
    if reserve(header, 1, outer.size + 1, width) == 0:
        give_up(NO_MEMORY)
    index, partial = get_word(header, INDEX), get_word(header, PARTIAL)
    at = begin = get_word(header, ARGUMENTS)
    for i in range(outer.size):
        if outer[i] != 0 and np.any(partials[i * width : (i + 1) * width]):
            put_index(index, at, outer[i])
            for d in range(width):
                put_number(partial, at * width + d, partials[i * width + d])
            at += 1
    length = at - begin
    if length > MAX_LENGTH:
        put_index(index, at, length)
        put_number(partial, at * width, 0.0)
        at, length = at + 1, LONG
    put_word(header, ARGUMENTS, at)
    row = get_word(header, ROWS)
    put_byte(get_word(header, LENGTH), row, length)
    put_word(header, ROWS, row + 1)


@intrinsic
def with_row(typingctx, x, row):
    """An active scalar with another row."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emitter = Emitter(context, builder)
        return emitter.pack(sig.args[0], emitter.unpack(sig.args[0], args[0]), args[1])

    return x(x, types.int64), codegen


def numbered(x, row, step):
    """A value whose numbers have the rows `row`, `row + step` ..., in arrays of its own."""
    raise NotImplementedError


@overload(numbered, OPTIONS)
def _numbered(x, row, step):
    if isinstance(x, types.BaseTuple):
        lines, items = ["def over(x, row, step):"], ""
        for i in range(len(x)):
            lines += [f" y{i} = numbered(x[{i}], row, step)", f" row += step * count(x[{i}])"]
            items += f"y{i}, "
        scope: dict[str, Any] = {"numbered": numbered, "count": count}
        maker = "made" if isinstance(x, (types.NamedTuple, types.NamedUniTuple)) else ""
        scope["made"] = getattr(x, "instance_class", None)
        return define("\n".join([*lines, f" return {maker}({items})"]), "over", scope)
    if is_active_array(x) or is_complex_array(x):
        active, each = x.dtype, 2 if is_complex_array(x) else 1

        def number_array(x, row, step):
            result = array_like(active, x)
            flat = flat_view(result)
            i = 0
            for element in x.flat:
                flat[i] = numbered(element, row + step * i, step)
                i += each
            return result

        return number_array
    if isinstance(x, Active):
        return lambda x, row, step: with_row(x, row)
    if isinstance(x, Complex):
        return lambda x, row, step: complex(with_row(real_part(x), row), with_row(imaginary_part(x), row + step))
    return None if holds_active(x) else lambda x, row, step: x


def fixed(x):
    """A value whose arrays can't be written to."""
    raise NotImplementedError


@overload(fixed, OPTIONS)
def _fixed(x):
    if isinstance(x, types.BaseTuple):
        items = "".join(f"fixed(x[{i}]), " for i in range(len(x)))
        maker = "made" if isinstance(x, (types.NamedTuple, types.NamedUniTuple)) else ""
        scope: dict[str, Any] = {"fixed": fixed, "made": getattr(x, "instance_class", None)}
        return define(f"def over(x):\n return {maker}({items})", "over", scope)
    return (lambda x: frozen(x)) if isinstance(x, types.Array) else (lambda x: x)


_SCOPE = {
    "np": np, "count": count, "rows": rows, "numbered": numbered, "fixed": fixed, "open_tape": open_tape,
    "get_word": get_word, "put_word": put_word, "get_number": get_number, "put_number": put_number,
    "take_rows": take_rows, "zero_adjoints": zero_adjoints, "protected": protected, "append_row": append_row,
    "give_up": give_up, "known_rows": known_rows,
    "enter": enter, "leave": leave, "ROWS": ROWS, "ARGUMENTS": ARGUMENTS, "ADJOINT": ADJOINT,
    "NO_MEMORY": NO_MEMORY,
}  # fmt: skip
