"""A limit of the tape's memory: long loops of a user's own functions, checkpointed by themselves.

Under a limit, a call is put before each loop that can be run in parts (`outlining.py`). When it comes to it, it records
a few turns to see what they take. Where all of them would go beyond the limit, the loop becomes one block row
(`block_rows.py`) of

      arguments | turns | exit | size | slots | taken | cost | limit | first | by |
                | slot 0 | slot 1 | ... | last | next | scratch | others |

      slot k    a turn's number, and the state before it, `size` entries (`kept.py`); those of slot 0 have the rows of
                what the loop was given. Slots from 1 on are on top of each other, like a stack of `taken`
      last      the state that the loop leads to; its entries have the rows of the result
      next      the state behind the turns that are swept; `scratch` what they led to when they were run again: it must
                be that state, or the sweep is given up
      cost      bytes of the tape for a turn
      others    what the loop only reads

The reverse sweep looks at the turns from the last slot to where it has come. If they fit, they are run again, recorded
on top of the tape, swept and forgotten. If not, the state is advanced to a turn between, in the next slot. With `s`
slots free, `C(s + t, t)` parts can be swept with no turn run more than `t` times in advance, and which turns to keep is
chosen by that: A. Griewank, A. Walther, *Algorithm 799: revolve*, ACM TOMS 26 (2000).

Values are computed by plain code, on copies of what the loop may write to, and written there when it is done. So what
isn't as it should be (arrays of the state that share memory, a size that changes) leaves all to the loop as it stands,
which is recorded as without a limit.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import warnings
from collections.abc import Iterator
from types import CodeType
from typing import Any

import numpy as np
from numba.core import cgutils, errors, types
from numba.core.compiler_machinery import register_pass
from numba.core.registry import cpu_target
from numba.extending import intrinsic, overload
from numba.np import arrayobj

from tapegrad.jitted import bindings, checking, outlining, rewriting
from tapegrad.jitted import jacobian_tape as tape
from tapegrad.jitted.access import (
    get_index,
    get_word,
    open_tape,
    put_index,
    put_word,
    take_rows,
)
from tapegrad.jitted.active import WORD, Active, Taped, holds_active
from tapegrad.jitted.block_rows import address_of, begin_block, end_block
from tapegrad.jitted.checkpoints import has_rows, itself, keep_word, kept_word, number, take_bars, taking_back
from tapegrad.jitted.drivers import protected
from tapegrad.jitted.errors import NotDifferentiableError
from tapegrad.jitted.inner import OPTIONS, Pass, define, inside
from tapegrad.jitted.kept import NotKeptError, as_kind, kept
from tapegrad.jitted.lifting import give_back, strip
from tapegrad.jitted.outlining import Declined, Outlined
from tapegrad.jitted.ready import Ready
from tapegrad.jitted.sharing import arrays_in, frozen_kind, may_meet
from tapegrad.tape import checked_limit

ROWS, ARGUMENTS, LIMIT, LEFT_ALONE = tape.ROWS, tape.ARGUMENTS, tape.LIMIT, tape.LEFT_ALONE
NO_MEMORY, NOT_THE_SAME = tape.NO_MEMORY, tape.NOT_THE_SAME
TURNS, EXIT, SIZE, SLOTS, TAKEN, COST, OF, FIRST, BY, N_WORDS = range(10)
MOST_TRIED = 64
MOST = 2**62  # turns of a loop whose number isn't known
SHARED, RESIZED = 1, 2
_WHY = {
    SHARED: "arrays that it writes to share memory with others, or get new arrays for their names",
    RESIZED: "an array that it carries changes its size",
}


# --- for users --------------------------------------------------------------------------------------------------------

_of_thread = threading.local()


class memory_limit(contextlib.ContextDecorator):  # noqa: N801  as `tapegrad.autograd.memory_limit`
    """Have gradients of jitted functions keep this thread's tape to so many bytes, where they can.

    Loops that would go beyond it are checkpointed: of most turns nothing is kept, and they are run again, in parts,
    when the gradient is taken; once or, where there is little memory, several times. Values are the plain call's, bit
    for bit; gradients are added up in another order at most. `set_memory_limit` sets it for good.

    What can be checkpointed are loops over a range, and `while`, also with `break`, whose values from turn to turn are
    numbers, tuples, and arrays that keep their sizes, made anew, written in place or changing places. Left as they are
    are loops that print, draw random numbers, or append to lists; with a `try` around them, and in functions that are
    arguments of others. Where the tape has gone beyond the limit all the same, a warning names these loops, with their
    lines, and why; the gradient is right then too.

    It holds for `tapegrad.func`'s transforms, not for gradients that jitted code takes itself. Their code is compiled
    anew in each process. In forward mode nothing is recorded. A tape takes 90 kB at least, more with tangents. A
    function that `vjp` returns keeps to the limit there was when it was made.

    Parameters
    ----------
    limit : int or None
        Bytes; None for no limit.

    Raises
    ------
    TypeError, ValueError
        Where it is no int, or not positive.

    >>> import tapegrad as tg
    >>> from numba import njit
    >>> @njit
    ... def grown(x, rate):
    ...     for i in range(100_000):
    ...         x += rate * x * (1.0 - x)
    ...     return x
    >>> with tg.jitted.memory_limit(500_000):  # it would be 2.1 MB
    ...     tg.func.value_and_grad(grown, argnums=(0, 1))(0.1, 0.00001)
    (0.23196..., (1.97954..., 17815.8...))
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = checked_limit(limit)
        self._before: list[int | None] = []

    def __enter__(self) -> None:
        self._before.append(current())
        set_memory_limit(self._limit)

    def __exit__(self, *_: object) -> None:
        set_memory_limit(self._before.pop())


def set_memory_limit(limit: int | None) -> None:
    """Set `memory_limit` for good, in this thread; None for no limit.

    >>> import tapegrad as tg
    >>> tg.jitted.set_memory_limit(10_000_000)
    >>> tg.jitted.set_memory_limit(None)
    """
    _of_thread.limit = checked_limit(limit)
    Ready.is_limited |= limit is not None


def current() -> int | None:
    """The limit of this thread."""
    return getattr(_of_thread, "limit", None) if Ready.is_limited else None


@contextlib.contextmanager
def kept_to(limit: int, n_tangents: int, function: Any) -> Iterator[None]:
    """Run a driver whose loops are checkpointed: its tape knows of the limit meanwhile."""
    header = tape.header(tape.place_of(n_tangents))
    if tape.nbytes_of(header) > limit and header[ROWS] <= 1:
        tape.free()
    before, header[LIMIT], header[LEFT_ALONE] = header[LIMIT], limit, 0
    try:
        yield
    finally:
        header[LIMIT] = before
    if tape.nbytes_of(header) > limit:
        _warn(limit, tape.nbytes_of(header), function, header[LEFT_ALONE])


# --- loops that are left as they are ----------------------------------------------------------------------------------

_left_alone: dict[tuple[str, int], str] = {}  # file and line: why
_loops: list[Any] = []  # where the loops are that were cut out; their numbers are in compiled code
_warned: set[tuple[Any, ...]] = set()


def _note(loc: Any, why: str) -> None:
    _left_alone[loc.filename, loc.line] = why


def _warn(limit: int, taken: int, function: Any, mark: int) -> None:
    """Say once why a limit couldn't be kept to."""
    if mark:
        _note(_loops[mark >> 2], _WHY[mark & 3])
    lines = {
        f"{file}:{line}: {why}"
        for f in bindings.reached(function)
        for (file, line), why in _left_alone.items()
        if _is_in(f.py_func.__code__, file, line)
    }
    key = (function.py_func.__code__, *sorted(lines))
    if key in _warned:
        return
    _warned.add(key)
    reasons = "".join(f"\n  loop at {text}" for text in sorted(lines))
    warnings.warn(
        f"the gradient of {function.py_func.__name__} took {taken} bytes of tape, more than memory_limit({limit}): "
        + (
            f"loops were left as they are{reasons}"
            if lines
            else "its loops can't do with less, or are in functions that it is given"
        ),
        RuntimeWarning,
        stacklevel=4,
    )


def _is_in(code: CodeType, file: str, line: int) -> bool:
    lines = [at for _, _, at in code.co_lines() if at is not None]
    return code.co_filename == file and min(lines) <= line <= max(lines)


# --- when a function is compiled --------------------------------------------------------------------------------------


@functools.cache
def _limiting_pass(kind: Active) -> Any:
    @register_pass(mutates_CFG=True, analysis_only=False)
    class Limiting(Pass):
        """Put calls before loops."""

        _name = f"tapegrad_limiting_{kind}"

        def run_pass(self, state: Any) -> bool:
            """Find them."""
            if not isinstance(kind, Taped) or outlining.code_of(state.func_id.func) is not None:
                return False
            run_of = functools.partial(_runner, kind=kind)
            return outlining.insert(state.func_ir, state.flags, rewriting.resolve, run_of, _note, bool(state.locals))

    return Limiting


rewriting.LIMITED.append(_limiting_pass)


def _runner(loop: Outlined, kind: Taped) -> Any:
    """What is called before a loop."""

    def run(turns, inputs):
        raise NotImplementedError

    @overload(run, OPTIONS)
    def typed(turns, inputs):
        kinds = [types.unliteral(k) for k in inputs]
        if not any(map(holds_active, kinds)):
            return _left(loop)
        try:
            made = inside(_checkpointed(loop, kind, kinds, turns))
            made._numba_type_.get_call_type(cpu_target.typing_context, (turns, inputs), {})
        except Declined as why:
            _note(loop.loc, str(why))
            return _left(loop)
        except errors.NumbaError as error:
            _note(loop.loc, f"it can't be run in parts: {str(error).splitlines()[0]}")
            return _left(loop)
        return lambda turns, inputs: made(turns, inputs)

    checking.make_known(run)
    return run


def _left(loop: Outlined) -> Any:
    """Nothing is run: names keep their values."""
    items = "".join(f"inputs[{i}], " for i in range(len(loop.state)))
    return define(f"def run(turns, inputs):\n return False, 0, ({items})", "run", {})


def _checkpointed(loop: Outlined, kind: Taped, kinds: Any, turns: Any) -> Any:
    """What is run before a loop, for inputs of some types."""
    if loop.is_range and turns != types.range_state64_type:
        raise Declined("it goes through a range of other integers than int64")
    width = 1 + kind.n_tangents
    again = rewriting.active(loop.steps, kind)
    forms = _Forms(loop, kind, kinds, again)
    loop_number = len(_loops)
    _loops.append(loop.loc)
    size_of, save, load = forms.states.size, forms.states.save, forms.states.load
    size_of_others, save_others, load_others = forms.others.size, forms.others.save, forms.others.load
    load_result, range_of = forms.results.load, _range_of(loop.is_range)
    as_forward, as_given, forward = forms.as_state, itself, again
    if not kind.n_tangents:
        forward, as_forward, as_given = loop.steps, as_kind(rewriting.plain(forms.state_kind)), strip
    advance = _advance(forward, as_forward, loop.is_range, is_whole=not kind.n_tangents)
    try_some = _trial(again, advance, as_forward, as_given, kind, forms)
    address = _reverse(again, advance, as_forward, as_given, kind, forms)
    split, finish, are_apart, left = forms.split(), forms.finish(), forms.are_apart(), inside(_left(loop))
    written, memory = forms.written("inputs", "{}"), forms.written("x", "({},)")

    @inside
    def run_whole(header, begin, x, plan, given, inputs):
        """Fill the block that is there; returns the last state, and why it may not be taken."""
        n, size, n_slots, first, by, piece, slots, n_rows = plan
        start, taken, done, code, failed = x, 1, 0, 0, 0
        while done < n and failed == 0:
            end = n
            if taken < n_slots and n - done > piece:
                end = done + piece * first_part((n - done + piece - 1) // piece, n_slots - taken)
            code, _, x = advance(
                header, x, done, end, first, by, given, piece, n_rows, begin, written(inputs), memory(start)
            )
            done = end
            if size_of(x) != size:
                failed = RESIZED
            elif not are_apart(x, given):
                failed = SHARED
            elif done < n:
                save(x, header, slots + taken * (size + 1) + 1)
                keep_word(header, slots + taken * (size + 1), done, width)
                taken += 1
        return x, taken, code, failed

    def run(turns, inputs):
        header = open_tape(kind)
        limit = get_word(header, LIMIT)
        n, first, by = range_of(turns)
        if limit == 0 or n < 2:
            return left(turns, inputs)
        state, given = split(inputs)
        if not are_apart(state, given):
            put_word(header, LEFT_ALONE, loop_number << 2 | SHARED)
            return left(turns, inputs)
        begin, n_rows = get_word(header, ARGUMENTS), get_word(header, ROWS)
        size, size_others = size_of(state), size_of_others(given)
        begin_block(header, size + size_others, 0, width)
        save(state, header, begin)
        save_others(given, header, begin + size)
        if not has_rows(header, begin, begin + size + size_others):
            return left(turns, inputs)
        put_word(header, LIMIT, 0)
        n, cost = try_some(header, begin, size, size_others, n, first, by, limit, n_rows, written(inputs))
        put_word(header, LIMIT, limit)
        put_word(header, ARGUMENTS, begin)
        piece, n_slots = cut(limit, begin, n_rows, n, cost, size, size_others, width)
        if piece == 0:
            return left(turns, inputs)

        slots = begin + N_WORDS
        last = slots + n_slots * (size + 1)
        n_kept = N_WORDS + n_slots * (size + 1) + 3 * size + size_others
        begin_block(header, n_kept, size, width)
        save(state, header, slots + 1)
        save_others(given, header, last + 3 * size)
        keep_word(header, slots, 0, width)
        for k in range(2 * size):  # nobody's, until they are written
            keep_word(header, last + size + k, 0, width)
        put_word(header, ARGUMENTS, begin + n_kept + 1)
        put_word(header, LIMIT, 0)
        start = as_forward(as_given(load(header, slots + 1, 0)))
        plain_given = as_given(load_others(header, last + 3 * size, 0))
        plan = n, size, n_slots, first, by, piece, slots, n_rows
        x, taken, code, failed = run_whole(header, begin, start, plan, plain_given, inputs)
        put_word(header, LIMIT, limit)
        put_word(header, ARGUMENTS, begin)
        if failed == 0:
            save(x, header, last)
            number(header, last, n_rows, size)
            keep_words(header, begin, (n, code, size, n_slots, taken, cost, limit, first, by), width)
            is_done, outputs = finish(inputs, start, x, load_result(header, last, 1), plain_given)
            if is_done:
                end_block(header, n_kept, size, address_of(address), width)
                return True, code, outputs
            failed = SHARED
        put_word(header, LEFT_ALONE, loop_number << 2 | failed)
        return left(turns, inputs)

    return run


def _trial(again: Any, advance: Any, as_forward: Any, as_given: Any, kind: Taped, forms: _Forms) -> Any:
    """What records a few turns from a state that is kept, and forgets them: how many there are, and bytes for one."""
    width, is_counted = 1 + kind.n_tangents, forms.loop.is_counted
    load, load_others, as_state = forms.states.load, forms.others.load, forms.as_state
    memory = forms.written("x", "({},)")

    @inside
    def try_some(header, begin, size, size_others, n, first, by, limit, n_rows, originals):
        at = begin + size + size_others
        put_word(header, ARGUMENTS, at)
        cost, n_tried = 1, 1
        while True:
            x = as_state(load(header, begin, 1))
            live = load_others(header, begin + size, 1)
            code, n_run, _ = protected(
                again, (0, n_tried, first, by, *x, *live), header, n_rows, begin, originals, memory(x)
            )
            grown = bytes_of(get_word(header, ARGUMENTS) - at, get_word(header, ROWS) - n_rows, width)
            put_word(header, ROWS, n_rows)
            put_word(header, ARGUMENTS, at)
            cost = max(1, (grown + n_tried - 1) // n_tried)  # the last is of most turns, and maybe of a nest
            if not is_counted and (code > 1 or (code == 1 and n == MOST)):
                n = n_run
            if 2 * n_tried > min(n, MOST_TRIED) or 8 * grown > limit:
                break
            n_tried *= 2
        if not is_counted and n > n_tried:
            y = as_forward(as_given(load(header, begin, 0)))
            given = as_given(load_others(header, begin + size, 0))
            piece = max(1, (limit - bytes_of(at, n_rows, width)) // 3 // cost)
            code, n_run, _ = advance(header, y, 0, n, first, by, given, piece, n_rows, begin, originals, memory(y))
            if n == MOST or code > 1:
                n = n_run
        return n, cost

    return try_some


def _reverse(again: Any, advance: Any, as_forward: Any, as_given: Any, kind: Taped, forms: _Forms) -> Any:
    """What the sweep calls for the block."""
    width, take_back, is_range = 1 + kind.n_tangents, taking_back(kind, forms.states), forms.loop.is_range
    size_of, save, load = forms.states.size, forms.states.save, forms.states.load
    load_others, as_state, are_apart = forms.others.load, forms.as_state, forms.are_apart()

    @inside
    def reverse(header, row, trailer):
        begin = trailer - get_index(get_word(header, tape.INDEX), trailer)
        size = kept_word(header, begin + SIZE, width)
        bars = np.empty(size * width)
        take_bars(header, row + 1 - size, bars)
        if not np.any(bars):
            return begin
        end, n_slots = kept_word(header, begin + TURNS, width), kept_word(header, begin + SLOTS, width)
        taken = kept_word(header, begin + TAKEN, width)
        first, by = kept_word(header, begin + FIRST, width), kept_word(header, begin + BY, width)
        slots = begin + N_WORDS
        last = slots + n_slots * (size + 1)
        behind, scratch, at_others = last + size, last + 2 * size, last + 3 * size
        n_rows, n_arguments, limit = get_word(header, ROWS), get_word(header, ARGUMENTS), get_word(header, LIMIT)
        free = kept_word(header, begin + OF, width) - bytes_of(n_arguments, n_rows + size, width)
        piece = max(1, free // 4 * 3 // kept_word(header, begin + COST, width))
        live, plain_given = load_others(header, at_others, 1), as_given(load_others(header, at_others, 0))
        copy_entries(header, last, behind, size, width)
        put_word(header, LIMIT, 0)
        exit, failed = kept_word(header, begin + EXIT, width), 0
        while end > 0 and failed == 0:
            at = slots + (taken - 1) * (size + 1) + 1
            turn = kept_word(header, at - 1, width)
            n_pieces = (end - turn + piece - 1) // piece
            if n_pieces > 1 and taken < n_slots:
                to = turn + piece * first_part(n_pieces, n_slots - taken)
                x = as_forward(as_given(load(header, at, 0)))
                _, _, x = advance(header, x, turn, to, first, by, plain_given, piece, n_rows, n_arguments, (), ())
                if size_of(x) == size and are_apart(x, plain_given):
                    save(x, header, at + size + 1)
                    keep_word(header, at + size, to, width)
                    taken += 1
                else:
                    failed = NOT_THE_SAME
                continue
            if turn > 0:
                if take_rows(header, size, width) < 0:
                    failed = NO_MEMORY
                    break
                number(header, at, n_rows, size)
            state = as_state(load(header, at, 1))
            code, _, found = protected(
                again, (turn, end, first, by, *state, *live), header, n_rows, n_arguments, (), ()
            )
            y, failed = as_state(found), NOT_THE_SAME
            if exit == 0 or code == exit:
                failed = take_back(header, y, behind, scratch, bars, size, n_rows)
            put_word(header, ROWS, n_rows)
            put_word(header, ARGUMENTS, n_arguments)
            if turn > 0:
                take_bars(header, n_rows, bars)
                copy_entries(header, at, behind, size, width)
                taken -= 1
            end, exit = turn, 1 if is_range else 0
        keep_word(header, begin + TAKEN, 1, width)
        put_word(header, LIMIT, limit)
        return failed if failed else begin

    return reverse


def _advance(forward: Any, as_forward: Any, is_range: bool, is_whole: bool) -> Any:
    """Turns that aren't recorded; what is, where they carry tangents, is forgotten piece by piece."""
    goes_on = 1 if is_range else 0

    @inside
    def advance(header, x, begin, end, first, by, given, piece, n_rows, n_arguments, originals, memory):
        kept_arguments = get_word(header, ARGUMENTS)
        code, n_run = goes_on, begin
        while begin < end and code == goes_on:
            to = end if is_whole else min(begin + piece, end)
            code, n_run, y = protected(
                forward, (begin, to, first, by, *x, *given), header, n_rows, n_arguments, originals, memory
            )
            x = as_forward(y)
            put_word(header, ROWS, n_rows)
            put_word(header, ARGUMENTS, kept_arguments)
            begin = to
        return code, n_run, x

    return advance


# --- values that go from turn to turn ---------------------------------------------------------------------------------


class _Forms:
    """The types of a loop's values, and the code that follows from them."""

    def __init__(self, loop: Outlined, kind: Taped, kinds: Any, again: Any) -> None:
        self.loop, self.kinds, self.n = loop, kinds, len(loop.state)
        why = [outlining.is_seen(k.dispatcher) for k in kinds if isinstance(k, types.Dispatcher)]
        if any(why):
            raise Declined(next(filter(None, why)))
        width = 1 + kind.n_tangents
        state = [self._first(i, k) for i, k in enumerate(kinds[: self.n])]
        self.fixed = types.BaseTuple.from_types([frozen_kind(k) for k in kinds[self.n :]])
        try:  # first, so that what can't be kept isn't compiled
            kept(types.BaseTuple.from_types(state), width)
            self.others = kept(self.fixed, width, is_frozen=True)
            self.state_kind = _state_kind(again, state, _as_loaded(self.fixed))
            self.states = kept(self.state_kind, width)
            self.results = kept(types.BaseTuple.from_types([_mutable(k) for k in self.state_kind]), width)
        except NotKeptError as error:
            raise Declined(f"a value of type {error.args[0]} is read, or goes from turn to turn") from None
        self.as_state = as_kind(self.state_kind)
        self.arrays = [i for i, k in enumerate(self.state_kind) if isinstance(k, types.Array)]
        self.in_place = [i for i in self.arrays if self.state_kind[i].mutable]

    def _first(self, i: int, kind: Any) -> Any:
        """The type of an item of the state at first; arrays can be written to where the loop may do so."""
        if not isinstance(kind, types.Array):
            return frozen_kind(kind)
        is_written = kind.mutable and self.loop.state[i] in self.loop.written
        return types.Array(kind.dtype, kind.ndim, "C", readonly=not is_written)

    def split(self) -> Any:
        """(inputs) -> the state, with numbers of the types that they come to have, and the others."""
        scope, state = dict[str, Any](), ""
        for i, k in enumerate(self.state_kind):
            scope[f"as{i}"] = itself if i in self.arrays or list(arrays_in(k, "")) else as_kind(k)
            state += f"as{i}(inputs[{i}]), "
        others = "".join(f"inputs[{i}], " for i in range(self.n, len(self.kinds)))
        return inside(define(f"def split(inputs):\n return ({state}), ({others})", "split", scope))

    def written(self, name: str, form: str) -> Any:
        """(a tuple of the state) -> the arrays that may be written to."""
        items = "".join(f"{form}, ".format(f"{name}[{i}]") for i in self.in_place)
        return inside(define(f"def written({name}):\n return ({items})", "written", {}))

    def are_apart(self) -> Any:
        """(state, others) -> whether no array that may be written to shares memory with another."""
        paths = [*arrays_in(self.state_kind, "state"), *arrays_in(self.fixed, "others")]
        pairs = [(f"state[{i}]", p) for i in self.in_place for p in paths if p != f"state[{i}]"]
        met = " or ".join(f"may_meet({a}, {b})" for a, b in pairs)
        return inside(
            define(f"def apart(state, others):\n return not ({met or 'False'})", "apart", {"may_meet": may_meet})
        )

    def finish(self) -> Any:
        """(inputs, start, end, results, others) -> whether the results could be put in place, and the outputs.

        `start` and `end` are the states that plain code began with, and led to: which memory an array of the end is
        tells whether it is one of the inputs' arrays, or a new one. Results have the rows.
        """
        lines = ["def finish(inputs, start, end, results, others):", " is_done = True"]
        lines += [f" y{i} = results[{i}]" for i in range(self.n)]
        lines += [f" source{j} = -1" for j in self.in_place]
        known = [*arrays_in(self.state_kind, "start"), *arrays_in(self.fixed, "others")]
        for i in self.arrays:
            alike = [j for j in self.arrays if _is_alike(self.state_kind[i], self.state_kind[j])]
            ways = [(f"start[{j}]", f"inputs[{j}]", j) for j in alike] + [
                (f"end[{j}]", f"y{j}", None) for j in alike if j < i
            ]
            for n_way, (array, value, j) in enumerate(ways):
                lines.append(f" {'elif' if n_way else 'if'} is_one(end[{i}], {array}):")
                lines.append(f"  y{i} = {value}")
                lines += [f"  source{j} = {i}"] if j in self.in_place else []
            earlier = [p for p in arrays_in(self.state_kind, "end") if p != f"end[{i}]"]
            met = " or ".join(f"may_meet(end[{i}], {p})" for p in (*known, *earlier))
            lines += [f" elif {met or 'False'}:", "  is_done = False"]
        for i, k in enumerate(self.state_kind):
            for path in () if i in self.arrays else arrays_in(k, f"end[{i}]"):
                others = [p for p in arrays_in(self.state_kind, "end") if p != path]
                lines += [
                    f" if {' or '.join(f'may_meet({path}, {p})' for p in (*known, *others))}:",
                    "  is_done = False",
                ]
        for j in self.in_place:  # what isn't reached any more may have been written to, and be read by another name
            lines += [f" if source{j} < 0:", "  is_done = False"]
        lines.append(" if is_done:")
        for j in self.in_place:
            for i in self.arrays:
                if _is_alike(self.state_kind[i], self.state_kind[j]):
                    lines += [f"  if source{j} == {i}:", f"   put_into(inputs[{j}], results[{i}])"]
        lines += ["  pass", f" return is_done, ({''.join(f'y{i}, ' for i in range(self.n))})"]
        scope = {"may_meet": may_meet, "is_one": is_one, "put_into": put_into}
        return inside(define("\n".join(lines), "finish", scope))


def _as_loaded(kind: Any) -> Any:
    """The type of frozen values when they are loaded: in the order of C."""
    if isinstance(kind, types.BaseTuple):
        parts = [_as_loaded(part) for part in kind]
        return types.BaseTuple.from_types(parts, getattr(kind, "instance_class", None))
    return types.Array(kind.dtype, kind.ndim, "C", readonly=True) if isinstance(kind, types.Array) else kind


def _mutable(kind: Any) -> Any:
    """The type, with arrays that can be written to."""
    if isinstance(kind, types.BaseTuple):
        parts = [_mutable(part) for part in kind]
        return types.BaseTuple.from_types(parts, getattr(kind, "instance_class", None))
    return types.Array(kind.dtype, kind.ndim, "C") if isinstance(kind, types.Array) else kind


def _is_alike(a: Any, b: Any) -> bool:
    return (a.dtype, a.ndim) == (b.dtype, b.ndim)


def _state_kind(again: Any, state: Any, others: Any) -> Any:
    """The type that holds every state: that of the first, and of what turns lead to."""
    context = cpu_target.typing_context
    for _ in range(10):
        arguments = (*[types.int64] * 4, *state, *others)
        try:
            found = again._numba_type_.get_call_type(context, arguments, {}).return_type
        except NotDifferentiableError as error:
            raise Declined(f"it can't be run in parts: {error.construct}") from None
        except errors.NumbaError as error:
            raise Declined(f"it can't be run in parts: {str(error).splitlines()[0]}") from None
        wider = [_unified(context, a, b) for a, b in zip(state, found[2], strict=True)]
        if wider == [*state]:
            return types.BaseTuple.from_types(wider)
        state = wider
    raise Declined("its values change their types from turn to turn")


def _unified(context: Any, kind: Any, found: Any) -> Any:
    """A type for both; arrays that aren't written to are kept so that they can't be."""
    if isinstance(kind, types.Array) and isinstance(found, types.Array) and _is_alike(kind, found):
        layout = kind.layout if kind.layout == found.layout else "A"
        return types.Array(kind.dtype, kind.ndim, layout, readonly=not kind.mutable)
    wider = context.unify_types(kind, frozen_kind(found))
    if wider is None:
        raise Declined(f"a value that it carries is {kind} first, and {found} after a turn")
    return wider


# --- parts in compiled code -------------------------------------------------------------------------------------------


def _range_of(is_range: bool) -> Any:
    """What tells of a loop's turns how many there are at most, the first number, and the step."""
    if is_range:
        return inside(lambda turns: (len(turns), turns.start, turns.step))
    return inside(lambda turns: (MOST, 0, 1))


@inside
def bytes_of(arguments, rows, width):
    """The most memory that a tape takes for so many arguments and rows: it grows by half again, adjoints with it."""
    return arguments * (15 + 48 * width) // 2 + rows * (1 + 8 * width)


@inside
def cut(limit, begin, n_rows, n, cost, size, size_others, width):
    """How many turns to sweep at once, and how many slots to have for states; 0 where all turns fit.

    A third of what is left is for slots, a third for what is swept; a third remains for what comes later.
    """
    free = limit - bytes_of(begin, n_rows, width)
    if 2 * n * cost <= free:
        return 0, 0
    free = max(free - bytes_of(N_WORDS + 3 * size + size_others, size, width), 0) // 3
    piece = max(1, free // cost)
    return piece, max(2, min(free // bytes_of(size + 1, 0, width), (n + piece - 1) // piece))


@inside
def first_part(n, free):
    """How many of `n` parts to go on by, with so many slots free: as *revolve*, for the fewest turns run again."""
    before, reach, times = 1, 1, 0
    while reach < n:
        times += 1
        before, reach = reach, reach * (free + times) // times
    return min(before, n - 1)


@inside
def keep_words(header, at, words, width):
    """Keep several ints."""
    for word in words:
        keep_word(header, at, word, width)
        at += 1


@inside
def copy_entries(header, source, target, n, width):
    """Copy entries' numbers."""
    partial = get_word(header, tape.PARTIAL)
    for k in range(n * width):
        put_word(partial, target * width + k, get_word(partial, source * width + k))
    for k in range(n):
        put_index(get_word(header, tape.INDEX), target + k, 0)


@intrinsic
def is_one(typingctx, a, b):
    """Whether two arrays are the same elements in the same order."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        one, other = (arrayobj.make_array(kind)(context, builder, x) for kind, x in zip(sig.args, args, strict=True))
        pairs = [(builder.ptrtoint(one.data, WORD), builder.ptrtoint(other.data, WORD))]
        for part in ("shape", "strides"):
            lengths = (cgutils.unpack_tuple(builder, getattr(x, part), a.ndim) for x in (one, other))
            pairs += zip(*lengths, strict=True)
        result = context.get_constant(types.boolean, True)
        for x, y in pairs:
            result = builder.and_(result, builder.icmp_signed("==", x, y))
        return result

    return types.boolean(a, b), codegen


@inside
def put_into(x, result):
    """Write an array's elements, with their rows, into another."""
    for at in np.ndindex(x.shape):
        x[at] = result[at]


def _give_back_memory(x: Any, lifted: Any) -> Any:
    """What was written to a copy, which is in a tuple of its own, is written where it belongs if a loop raises."""
    if not (isinstance(x, types.Array) and isinstance(lifted, types.BaseTuple)):
        return None

    def write(x, lifted):
        memory = lifted[0]
        for at in np.ndindex(x.shape):
            x[at] = strip(memory[at])

    return write


overload(give_back, OPTIONS)(
    define("def typed(x, lifted):\n return code(x, lifted)", "typed", {"code": _give_back_memory})
)
