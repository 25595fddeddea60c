"""What runs when a derivative of a jitted function is asked for: lift, call, sweep, take the gradient off.

A driver is itself a jitted function of the user's arguments, so that it can be called from Python and from jitted code
alike, without the GIL. The tape is a stack to it: it gives back what it took when it is done, and also when the user's
function raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import njit
from numba.core import cgutils, types
from numba.core.typing import signature
from numba.extending import intrinsic

from tapegrad.jitted import jacobian_tape as tape
from tapegrad.jitted.access import (
    get_number,
    get_word,
    known_row,
    open_tape,
    put_number,
    put_word,
    sweep,
    take_rows,
    zero_adjoints,
)  # fmt: skip
from tapegrad.jitted.active import WORD
from tapegrad.jitted.allocation import vector_of
from tapegrad.jitted.errors import NotDifferentiableError, where_is_function
from tapegrad.jitted.forms import Form
from tapegrad.jitted.independents import Reading
from tapegrad.jitted.inner import inside
from tapegrad.jitted.lifting import (
    count,
    give_back,
    keep,
    lift,
    own,
    row_of,
    rows,
    scalar,
    shaped,
    strip,
    taken,
    tangents,
)
from tapegrad.jitted.repeats import before, kept_states, load_states, put_back

ROWS, ARGUMENTS, ADJOINT = tape.ROWS, tape.ARGUMENTS, tape.ADJOINT
NO_MEMORY, NOT_THE_SAME = tape.NO_MEMORY, tape.NOT_THE_SAME


_NO_RESULT = "the function returned None for these arguments, which has no derivative"


@intrinsic
def protected(
    typingctx: Any, function: Any, arguments: Any, header: Any, n_rows: Any, n_arguments: Any, given: Any, lifted: Any
) -> Any:
    """Call the user's function. Where it raises, the tape is given back first, and what it wrote to what was given."""
    sig = function.get_call_type(typingctx, arguments.types, {})
    may_be_none = isinstance(sig.return_type, types.Optional)
    if isinstance(sig.return_type, types.Generator):
        raise NotDifferentiableError(
            "a generator as a result", where_is_function(function.dispatcher.py_func),
            "return numbers, arrays or tuples of them",
        )  # fmt: skip

    write_back = typingctx.resolve_value_type(give_back)
    writes = [write_back.get_call_type(typingctx, pair, {}) for pair in zip(given.types, lifted.types, strict=True)]

    def codegen(context: Any, builder: Any, call: Any, args: Any) -> Any:
        _, packed, header, n_rows, n_arguments, *pairs = args
        values = cgutils.unpack_tuple(builder, packed, len(arguments))
        kinds = list(arguments.types)
        if sig.args and isinstance(sig.args[-1], (types.StarArgTuple, types.StarArgUniTuple)):
            n = len(sig.args) - 1
            rest = types.BaseTuple.from_types(kinds[n:])
            values[n:], kinds[n:] = [context.make_tuple(builder, rest, values[n:])], [rest]
        values = [context.cast(builder, v, a, b) for v, a, b in zip(values, kinds, sig.args, strict=True)]
        result = function.dispatcher.get_compile_result(sig)
        context.active_code_library.add_linking_library(result.library)
        status, value = context.call_internal_no_propagate(builder, result.fndesc, sig, values)

        def give_tape_back() -> None:
            pointer = builder.inttoptr(header, WORD.as_pointer())
            with builder.if_then(builder.icmp_signed("!=", header, WORD(0))):
                for k, word in ((ROWS, n_rows), (ARGUMENTS, n_arguments)):
                    builder.store(word, builder.gep(pointer, [WORD(k)]))

        with cgutils.if_unlikely(builder, status.is_error):
            give_tape_back()
            pairs = zip(*(cgutils.unpack_tuple(builder, values, len(writes)) for values in pairs), strict=True)
            for write, pair in zip(writes, pairs, strict=True):
                context.get_function(write_back, write)(builder, pair)
            context.call_conv.return_status_propagate(builder, status)
        if may_be_none:
            with cgutils.if_unlikely(builder, status.is_none):
                give_tape_back()
                context.call_conv.return_user_exc(builder, RuntimeError, (_NO_RESULT,))
        return value

    returns = sig.return_type.type if may_be_none else sig.return_type
    return signature(returns, function, arguments, *[types.int64] * 3, given, lifted), codegen


@inside
def give_up(code):
    """Raise what a sweep was given up for."""
    if code == NOT_THE_SAME:
        raise RuntimeError(
            "a checkpointed loop led to another state when it was run again for its gradient: its steps must do the "
            "same again, so draw random numbers before the loop"
        )
    raise MemoryError("no memory for the tape or its adjoints")


@inside
def known_rows(header, out):
    """Let rows that there aren't be nobody's."""
    for k in range(out.size):
        out[k] = known_row(header, out[k])


# --- drivers: each the text of a function of the user's arguments a0, a1, ... -----------------------------------------

# Rows of independents have no arguments: a sweep ends before it comes to them.
_RECORD = """
    header = open_tape(kind)
    n_rows, n_arguments = get_word(header, ROWS), get_word(header, ARGUMENTS)
    row = take_rows(header, n, width)
    if row < 0:
        raise MemoryError("no memory for the tape")
    {lift}
    result = protected(function, ({lifted}), header, n_rows, n_arguments, {pairs})
    {give_back}
"""

_GIVE_TAPE_BACK = """
    put_word(header, ROWS, n_rows)
    put_word(header, ARGUMENTS, n_arguments)
"""

# What follows a sweep: the adjoints, where it could be done.
_SWEPT = """
    if code < 0:
        put_word(header, ROWS, n_rows)
        put_word(header, ARGUMENTS, n_arguments)
        give_up(code)
    bars = get_word(header, ADJOINT)
"""

_SWEEP = (
    """
    seed = known_row(header, row_of(scalar({output})))
    code = 0 if zero_adjoints(header, row) else NO_MEMORY
    if code == 0 and seed != 0:
        put_number(get_word(header, ADJOINT), seed * width, 1.0)
        code = swept(header, row + n)
"""
    + _SWEPT
)

_TAKE_GRADIENT = """
    gradient = vector_of(n)
    for i in range(n):
        gradient[i] = get_number(bars, (row + i) * width)
"""

# What a run changes is put back before the next one.
_KEEP_BEFORE = """    changed = ({changed})
    kept, states = before(changed, {n_directions} > n_tangents), kept_states()
"""
_PUT_BACK = """        if first > 0:
            put_back(changed, kept)
            load_states(states)
"""

TEXTS = {
    # (values, gradient in the form of the arguments)
    "value_and_grad": _RECORD + _SWEEP + _GIVE_TAPE_BACK + "    return strip(result), ({shaped})",
    # (values, rows of the results, first independent, number of independents); the tape keeps what was recorded
    "record": _RECORD + """
    out = np.empty(count({output}), np.int64)
    rows({output}, out, 0)
    known_rows(header, out)
    return strip(result), out, row, n
""",
    # (values, Jacobian: a sweep for each result)
    "jacrev": _RECORD + """
    out = np.empty(count({output}), np.int64)
    rows({output}, out, 0)
    known_rows(header, out)
    jacobian = np.zeros((out.size, n))
    for k in range(out.size):
        if out[k] != 0:
            code = NO_MEMORY
            if zero_adjoints(header, row):
                put_number(get_word(header, ADJOINT), out[k], 1.0)
                code = sweep(header, row + n)
            if code < 0:
                put_word(header, ROWS, n_rows)
                put_word(header, ARGUMENTS, n_arguments)
                give_up(code)
            bars = get_word(header, ADJOINT)
            for i in range(n):
                jacobian[k, i] = get_number(bars, row + i)
""" + _GIVE_TAPE_BACK + "    return strip(result), jacobian",
    # (values, their tangents, flat: mixed ones along all directions, if there are several)
    "jvp": """
    row = 0
    {lift}
    result = protected(function, ({lifted}), 0, 0, 0, {pairs})
    {give_back}
    out = np.empty(count({output}))
    tangents({output}, out, 0, n_tangents - 1)
    return strip(result), out
""",
    # (values, Jacobian: a run for every so many independents)
    "jacfwd": """
    jacobian = np.empty((0, 0))
    row = 0
{keep_before}    for first in range(0, n, n_tangents):
{put_back}        {lift}
        result = protected(function, ({lifted}), 0, 0, 0, {pairs})
        if first == 0:
            jacobian = np.empty((count({output}), n))
        for k in range(min(n_tangents, n - first)):
            tangents({output}, jacobian[:, first + k], 0, k)
    {give_back}
    return strip(result), jacobian
""",
    # derivatives of all results, a row for each direction: a run for every so many of them
    "along": """
    found = np.empty((0, 0))
    row = 0
{keep_before}    for first in range(0, directions.shape[1], n_tangents):
        along = directions[:, first : first + n_tangents]
{put_back}        {lift}
        result = protected(function, ({lifted}), 0, 0, 0, {pairs})
        if first == 0:
            found = np.empty((directions.shape[1], count({output})))
        for k in range(n_tangents):
            tangents({output}, found[first + k], 0, k)
    {give_back}
    return found
""",
    # (values, gradient, its derivative along a tangent), both flat
    "hvp": _RECORD + _SWEEP + _TAKE_GRADIENT + """
    product = vector_of(n)
    for i in range(n):
        product[i] = get_number(bars, (row + i) * width + 1)
""" + _GIVE_TAPE_BACK + "    return strip(result), gradient, product",
    # (values, the mixed derivative along all directions of what seeds pull back), flat
    "pulled": _RECORD + """
    out = np.empty(count({output}), np.int64)
    rows({output}, out, 0)
    known_rows(header, out)
    code = 0 if zero_adjoints(header, row) else NO_MEMORY
    if code == 0:
        bars = get_word(header, ADJOINT)
        for k in range(out.size):
            if out[k] != 0:
                put_number(bars, out[k] * width, get_number(bars, out[k] * width) + seeds[k])
        code = swept(header, row + n)
""" + _SWEPT + """
    product = vector_of(n)
    for i in range(n):
        product[i] = get_number(bars, (row + i) * width + n_tangents)
""" + _GIVE_TAPE_BACK + "    return strip(result), product",
    # (value, gradient): each with its tangents, of independents whose tangents are given
    "tangents": _RECORD + _SWEEP + """
    value = np.empty(width)
    value[0] = strip(scalar({output}))
    for k in range(n_tangents):
        tangents(scalar({output}), value, 1 + k, k)
    gradient = np.empty((n, width))
    for i in range(n):
        for k in range(width):
            gradient[i, k] = get_number(bars, (row + i) * width + k)
""" + _GIVE_TAPE_BACK + "    return value, gradient",
    # (values, Hessian): a run, and a sweep, for every so many independents
    "hessian": """
    hessian = np.empty((n, n))
{keep_before}    for first in range(0, n, n_tangents):
{put_back}""" + (_RECORD + _SWEEP).replace("\n    ", "\n        ") + """
        for i in range(n):
            for k in range(min(n_tangents, n - first)):
                hessian[i, first + k] = get_number(bars, (row + i) * width + 1 + k)
""" + _GIVE_TAPE_BACK.replace("\n    ", "\n        ") + """
    return strip(result), hessian
""",
}  # fmt: skip

SCOPE = {
    "np": np, "ROWS": ROWS, "ARGUMENTS": ARGUMENTS, "ADJOINT": ADJOINT, "NO_MEMORY": NO_MEMORY, "give_up": give_up,
    "known_row": known_row, "known_rows": known_rows,
    "open_tape": open_tape, "take_rows": take_rows,
    "zero_adjoints": zero_adjoints, "sweep": sweep, "get_word": get_word,
    "put_word": put_word, "get_number": get_number, "put_number": put_number, "protected": protected, "count": count,
    "lift": lift, "keep": keep, "own": own, "give_back": give_back, "row_of": row_of, "rows": rows, "scalar": scalar,
    "tangents": tangents, "shaped": shaped, "taken": taken, "strip": strip,
    "vector_of": vector_of, "before": before, "put_back": put_back, "kept_states": kept_states,
    "load_states": load_states,
}  # fmt: skip


def source(form: Form, read: Mapping[int, Reading]) -> str:
    """A driver's text; arguments that are only read may stay where they are."""
    lifts, start = [], "0" if form.is_along or "first" not in TEXTS[form.text] else "first"
    at = "0"
    for i in form.argnums:
        where = at if form.is_along else f"{start} - ({at})"
        if i in read:
            indices = "".join(f"a{place}, " for place in read[i].by)
            lifts.append(f"b{i} = place{i}(kind, a{i}, row + {at}, ({indices}))")
        else:
            lifts.append(f"b{i} = lift(kind, a{i}, row + {at}, {where}, {'along' if form.is_along else 'None'})")
        at += f" + count(a{i})"
    passive = [i for i in range(form.n_arguments) if i not in form.argnums]
    written = passive if form.owns else []
    lifts += [f"b{i} = {'own' if form.owns else 'keep'}(kind, a{i})" for i in passive]
    shapes, at = "", "0"
    for i in form.argnums:
        one = f"(a{i}, bars, row + {at}, width)" if form.n_tangents else f"(a{i}, header, bars, row + {at})"
        shapes += f"{'shaped' if form.n_tangents else 'taken'}{one}, "
        at += f" + count(a{i})"
    body = TEXTS[form.text].format(
        lift="; ".join(lifts),
        lifted="".join(f"b{i}, " for i in range(form.n_arguments)),
        give_back="; ".join(f"give_back(a{i}, b{i})" for i in written) or "pass",
        pairs=", ".join(f"({''.join(f'{x}{i}, ' for i in written)})" for x in "ab"),
        keep_before=_KEEP_BEFORE.format(
            changed="".join(f"a{i}, " for i in passive),
            n_directions="directions.shape[1]" if form.text == "along" else "n",
        ),
        put_back=_PUT_BACK,
        output="result[0]" if form.has_aux else "result",
        shaped=shapes.removesuffix(", ") if form.is_single else shapes,
    )
    looks = f"    refuse_shared(({''.join(f'{name}, ' for name in form.names)}))\n" if form.is_called else ""
    return f"def driver({form.parameters}):\n{looks}    n = {at}\n{body}"


@njit(nogil=True)
def pull(header, out, seeds, row, n):
    """The product of seeds with the Jacobian that a tape holds, which must be this thread's."""
    bars = zero_adjoints(header, row)
    if bars == 0:
        give_up(NO_MEMORY)
    for k in range(out.size):
        if out[k] != 0:
            put_number(bars, out[k], get_number(bars, out[k]) + seeds[k])
    code = sweep(header, row + n)
    if code < 0:
        give_up(code)
    bars = get_word(header, ADJOINT)
    gradient = np.empty(n)
    for i in range(n):
        gradient[i] = get_number(bars, row + i)
    return gradient
