"""Long loops whose steps are not kept: a gradient in the memory of the square root of their number.

A loop of n steps is one block row of the tape (`block_rows.py`). Forward, its steps run as plain code (with tangents,
as what isn't recorded), and the state is kept at the ends of about sqrt(n) segments. In the reverse sweep one segment
at a time, from the last to the first, is run again from its state, recorded on top of the tape, swept, and forgotten.
It is a loop in a function of its own, so that it may be one row itself (`nests.py`).

      arguments | n | size | state 0 | state 1 | ... | state m | scratch | parameters |

      state k     the state at the beginning of segment k, state m the result; `size` entries each (`kept.py`). The
                  indices of state 0 are the rows of what the loop was given; those of state m the rows of the result;
                  in between they are of the segment that is run again: independents on top of the tape
      scratch     what a segment led to when it was run again: it must be the next state, or the sweep is given up
      parameters  with their own rows, so their adjoints are added to where they are, as without the loop

A step that is a checkpointed loop itself is nothing special: sweeps nest, as tapes do.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import numpy as np
from numba import njit
from numba.core import types
from numba.core.registry import cpu_target
from numba.extending import overload

from tapegrad.jitted import bindings, checking, rewriting
from tapegrad.jitted import jacobian_tape as tape
from tapegrad.jitted.access import (
    get_index,
    get_number,
    get_word,
    open_tape,
    put_index,
    put_number,
    put_word,
    sweep_of,
    take_rows,
    zero_adjoints,
)  # fmt: skip
from tapegrad.jitted.active import Active, Complex, Narrow, Taped
from tapegrad.jitted.block_rows import address_of, begin_block, end_block
from tapegrad.jitted.drivers import protected
from tapegrad.jitted.errors import NotDifferentiableError, where_is_function
from tapegrad.jitted.inner import OPTIONS, define, inside
from tapegrad.jitted.kept import NotKeptError, as_kind, kept
from tapegrad.jitted.lifting import each_item, own, strip
from tapegrad.jitted.marking import enter, leave

ROWS, ARGUMENTS, INDEX, PARTIAL, ADJOINT = tape.ROWS, tape.ARGUMENTS, tape.INDEX, tape.PARTIAL, tape.ADJOINT
NO_MEMORY, NOT_THE_SAME = tape.NO_MEMORY, tape.NOT_THE_SAME


@njit
def checkpoint_loop(step, state, n_steps, *parameters):
    """`state = step(state, i, *parameters)` for each i below `n_steps`; its gradient takes memory for few of the steps.

    Parameters
    ----------
    step : jitted function
        It takes the state, the number of the step, and the parameters, and returns the next state, which it may have
        written in place. It must do the same if it is run again: random numbers are drawn before the loop, and given
        to it.
    state : number, array or tuple
        What goes from step to step: numbers, arrays that keep their sizes, and tuples of them. It is copied first.
    n_steps : int
        How many steps.
    *parameters
        Whatever a step reads besides: numbers, arrays, tuples, jitted functions. They are differentiated by where they
        carry derivatives; a step can't write to their arrays when it is differentiated.

    Returns
    -------
    float, array or tuple
        The last state.

    Notes
    -----
    It is for jitted code, and may be called from Python. Where it isn't differentiated, and in forward mode, it is the
    plain loop. In reverse mode each step runs twice, and what is kept are about 2 sqrt(n_steps) states and the tape of
    sqrt(n_steps) steps. For less memory still, let `step` be a function that calls `checkpoint_loop` itself.

    >>> import tapegrad as tg
    >>> from numba import njit
    >>> @njit
    ... def step(x, i, rate):
    ...     return x + rate * x * (1.0 - x)
    >>> @njit
    ... def grown(x, rate):
    ...     return tg.jitted.checkpoint_loop(step, x, 10_000, rate)
    >>> tg.func.value_and_grad(grown, argnums=(0, 1))(0.1, 0.0001)
    (0.23196..., (1.97954..., 1781.45...))
    """
    state = started(None, state)
    for i in range(n_steps):
        state = step(state, i, *parameters)
    return state


_OWNED = types.float64, types.float32, types.complex128


def started(kind, state):
    """The state that a loop begins with: a copy, since steps may write to it."""
    if isinstance(state, tuple):
        return tuple(started(kind, item) for item in state)
    return state.copy() if isinstance(state, np.ndarray) else state


@overload(started, OPTIONS)
def _started(kind, state):
    if isinstance(state, types.BaseTuple):
        return each_item(state, "started(kind, {})", {"started": started}, "kind, state")
    if isinstance(state, types.Array):
        if not isinstance(kind, types.NoneType) and state.dtype in _OWNED:
            return lambda kind, state: own(kind, state)
        return lambda kind, state: state.copy()
    return lambda kind, state: state


# --- differentiated ---------------------------------------------------------------------------------------------------


@functools.cache
def _differentiated(loop: Any, kind: Active, is_marked: bool) -> Any:
    """What stands for `checkpoint_loop` where values are active."""

    def stub(step, state, n_steps, *parameters):
        raise NotImplementedError

    stub.__name__ = "checkpoint_loop"

    @overload(stub, OPTIONS)
    def typed(step, state, n_steps, *parameters):
        if not isinstance(step, types.Dispatcher) or not isinstance(n_steps, types.Integer):
            return None
        of = _checkpointed if isinstance(kind, Taped) else _plain
        return of(rewriting.active(step.dispatcher, kind, is_marked), kind, state, types.Tuple(parameters))

    checking.make_known(stub)
    return stub


def _state_kind(step: Any, state: Any, parameters: Any) -> Any:
    """The type that holds every state: that of the first, and of what steps return."""
    context, kind = cpu_target.typing_context, state
    while True:
        arguments = (kind, types.int64, *parameters)
        found = step._numba_type_.get_call_type(context, arguments, {}).return_type
        wider = context.unify_types(kind, found)
        if wider is None:
            raise NotDifferentiableError(
                f"a checkpointed loop whose state is {state} first, and {found} after a step",
                where_is_function(step.py_func), "let a step return what it is given: the same numbers and arrays",
            )  # fmt: skip
        if wider == kind:
            return kind
        kind = wider


def _active_kind(kind: Any, active: Active) -> Any:
    """The type of a state of active scalars, in arrays of its own."""
    if isinstance(kind, types.BaseTuple):
        return types.BaseTuple.from_types(
            [_active_kind(k, active) for k in kind], getattr(kind, "instance_class", None)
        )
    if isinstance(kind, types.Array):
        return types.Array(_active_kind(kind.dtype, active), kind.ndim, "C")
    of = {types.float64: active, types.float32: Narrow(active), types.complex128: Complex(active)}
    kind = types.unliteral(kind)
    return of.get(kind, kind)


def _plain(advance: Any, kind: Active, state: Any, parameters: Any) -> Any:
    """The loop in forward mode."""
    as_state = as_kind(_state_kind(advance, _active_kind(state, kind), parameters))

    def loop(step, state, n_steps, *parameters):
        x = as_state(started(kind, state))
        for i in range(n_steps):
            x = as_state(advance(x, i, *parameters))
        return x

    return loop


def _checkpointed(advance: Any, kind: Taped, state: Any, parameters: Any) -> Any:
    """The loop as a block row."""
    width = 1 + kind.n_tangents
    try:
        states = kept(_active_kind(state, kind), width)
        others = kept(types.unliteral(parameters), width, is_frozen=True)
    except NotKeptError as error:
        raise NotDifferentiableError(
            f"a checkpointed loop with a value of type {error.args[0]}", where_is_function(advance.py_func),
            "numbers, arrays, tuples of them and jitted functions are kept for its steps",
        ) from None  # fmt: skip
    state_kind = _state_kind(advance, states.kind, others.kind)
    as_state, as_given = as_kind(state_kind), itself
    size_of, save, load = states.size, states.save, states.load
    size_of_others, save_others, load_others = others.size, others.save, others.load
    steps = _steps(advance.original, states.kind, len(parameters))
    again = rewriting.active(steps, kind, advance.is_marked)
    reverse = _reverse(again, kind, as_state, states, others)
    forward, as_forward = again, as_state
    if not kind.n_tangents and not advance.is_marked:
        forward, as_forward, as_given = steps, as_kind(rewriting.plain(state_kind)), strip

    def loop(step, state, n_steps, *parameters):
        header = open_tape(kind)
        size = size_of(state)
        m = segments(n_steps)
        n_kept = 2 + (m + 2) * size + size_of_others(parameters)
        begin = begin_block(header, n_kept, size, width)
        keep_word(header, begin, n_steps, width)
        keep_word(header, begin + 1, size, width)
        at = begin + 2
        save(state, header, at)
        save_others(parameters, header, at + (m + 2) * size)
        is_active = has_rows(header, at, at + size) | has_rows(header, at + (m + 2) * size, begin + n_kept)
        n_rows = get_word(header, ROWS)
        put_word(header, ARGUMENTS, begin + n_kept + 1)
        given = as_given(load_others(header, at + (m + 2) * size, 0))
        place = enter(header)
        x = as_forward(as_given(load(header, at, 0)))
        for k in range(m):
            x = as_forward(
                protected(forward, (x, k * n_steps // m, (k + 1) * n_steps // m, *given), header, n_rows, begin, (), ())
            )
            put_word(header, ROWS, n_rows)  # an operation on passive arrays may have been recorded all the same
            put_word(header, ARGUMENTS, begin + n_kept + 1)
            if size_of(x) != size:
                put_word(header, ARGUMENTS, begin)
                raise ValueError("the state of a checkpointed loop keeps its size from step to step")
            if is_active or k == m - 1:
                save(x, header, at + (k + 1) * size)
        if m > 0:
            number(header, at + m * size, n_rows, size)
        leave(header, place, n_rows, begin + n_kept + 1)
        put_word(header, ARGUMENTS, begin)
        if is_active and m > 0:
            end_block(header, n_kept, size, address_of(reverse), width)
        return as_state(load(header, at + m * size, is_active))

    return loop


def _steps(step: Any, state: Any, n_parameters: int) -> Any:
    """A jitted function that takes some of the steps. The loop is of plain names, so that it may be read as a nest."""
    names = itertools.count()
    unpacked: list[str] = []

    def named(kind: Any, x: str) -> str:
        if isinstance(kind, types.BaseTuple) and not isinstance(kind, types.BaseNamedTuple):
            return f"({''.join(named(part, f'{x}[{i}]') + ', ' for i, part in enumerate(kind))})"
        unpacked.append(f" s{next(names)} = {x}")
        return unpacked[-1].split()[0]

    x, given = named(state, "x"), "".join(f", p{i}" for i in range(n_parameters))
    text = [f"def steps(x, begin, end{given}):", *unpacked, " for i in range(begin, end):"]
    return njit(define("\n".join([*text, f"  {x} = step({x}, i{given})", f" return {x}"]), "steps", {"step": step}))


def _reverse(steps: Any, kind: Taped, as_state: Any, states: Any, others: Any) -> Any:
    """What the sweep calls for the block."""
    width, take_back = 1 + kind.n_tangents, taking_back(kind, states)
    load, load_others = states.load, others.load

    @inside
    def reverse(header, last, trailer):
        begin = trailer - get_index(get_word(header, INDEX), trailer)
        n_steps, size = kept_word(header, begin, width), kept_word(header, begin + 1, width)
        m = segments(n_steps)
        at = begin + 2
        scratch = at + (m + 1) * size
        bars = np.empty(size * width)
        take_bars(header, last + 1 - size, bars)
        if not np.any(bars):
            return begin
        n_rows, n_arguments = get_word(header, ROWS), get_word(header, ARGUMENTS)
        given = load_others(header, at + (m + 2) * size, 1)
        for k in range(m - 1, -1, -1):
            if k > 0:
                if take_rows(header, size, width) < 0:
                    return NO_MEMORY
                number(header, at + k * size, n_rows, size)
            first, end = k * n_steps // m, (k + 1) * n_steps // m
            x = as_state(load(header, at + k * size, 1))
            x = as_state(protected(steps, (x, first, end, *given), header, n_rows, n_arguments, (), ()))
            failed = take_back(header, x, at + (k + 1) * size, scratch, bars, size, n_rows)
            put_word(header, ROWS, n_rows)
            put_word(header, ARGUMENTS, n_arguments)
            if failed:
                return failed
            if k > 0:
                take_bars(header, n_rows, bars)
        return begin

    return reverse


def taking_back(kind: Taped, states: Any) -> Any:
    """What sweeps a part that was run again, to the state `x`: it returns 0, or what failed.

    The part must have led to the state at `wanted`, whose adjoints are `bars`.
    """
    width, swept, size_of, save = 1 + kind.n_tangents, sweep_of(kind), states.size, states.save

    @inside
    def take_back(header, x, wanted, scratch, bars, size, n_rows):
        if size_of(x) != size:
            return NOT_THE_SAME
        save(x, header, scratch)
        if not is_same(header, scratch, wanted, size, width):
            return NOT_THE_SAME
        if zero_adjoints(header, n_rows) == 0:
            return NO_MEMORY
        seed(header, scratch, bars, width)
        return min(swept(header, n_rows), 0)

    return take_back


# --- parts of both ----------------------------------------------------------------------------------------------------


@inside
def itself(x):
    """A value as it is."""
    return x


@inside
def segments(n_steps):
    """Into how many parts a loop is cut."""
    return math.ceil(math.sqrt(max(n_steps, 0)))


@inside
def keep_word(header, at, word, width):
    """Keep an int."""
    put_index(get_word(header, INDEX), at, 0)
    put_word(get_word(header, PARTIAL), at * width, word)


@inside
def kept_word(header, at, width):
    """An int that was kept."""
    return get_word(get_word(header, PARTIAL), at * width)


@inside
def has_rows(header, begin, end):
    """1 where an entry carries derivatives, else 0."""
    index = get_word(header, INDEX)
    for at in range(begin, end):
        if get_index(index, at) != 0:
            return 1
    return 0


@inside
def number(header, at, row, n):
    """Give entries the rows from `row` on."""
    index = get_word(header, INDEX)
    for k in range(n):
        put_index(index, at + k, row + k)


@inside
def take_bars(header, row, bars):
    """The adjoints of rows from `row` on, with their tangents."""
    adjoint, width = get_word(header, ADJOINT), get_word(header, tape.WIDTH)
    for k in range(bars.size):
        bars[k] = get_number(adjoint, row * width + k)


@inside
def seed(header, at, bars, width):
    """Add to the adjoints of the rows that entries have."""
    index, adjoint = get_word(header, INDEX), get_word(header, ADJOINT)
    for k in range(bars.size // width):
        row = get_index(index, at + k)
        if row != 0:
            for d in range(width):
                place = row * width + d
                put_number(adjoint, place, get_number(adjoint, place) + bars[k * width + d])


@inside
def is_same(header, a, b, n, width):
    """Whether entries hold the same, up to what another order of summation may change."""
    partial = get_word(header, PARTIAL)
    for k in range(n):
        if get_word(partial, (a + k) * width) != get_word(partial, (b + k) * width):
            x, y = get_number(partial, (a + k) * width), get_number(partial, (b + k) * width)
            if not (abs(x - y) <= 1e-9 * abs(y) or (x != x and y != y)):
                return False
    return True


bindings.SPECIAL[checkpoint_loop] = _differentiated
checking.ALLOWED.add(started)
