"""Loops over `prange` whose turns meet in sums alone, or not at all: in chunks, each on a tape of a thread's own.

A call is put before each such loop (`outlining.py`). It cuts the turns into chunks, whose number depends on the work
and not on threads. A chunk is recorded, swept at once for each number that it adds up, and forgotten:

      rows of the caller's tape                     rows of the chunk
      0 ........................... n_rows - 1      n_rows ....
      the same numbers, on a tape of whichever      swept, and overwritten by the next chunk
      thread takes the chunk: their adjoints are    that this thread takes
      the derivatives of the chunk's sum

What remains of the loop is one statement row for each sum, with a partial for each row that any chunk has read: that of
what the chunks give, added up in their order. So no tape is longer than a chunk, and neither values nor derivatives
depend on how many threads there are, nor on which of them was first (`chunks.py`).

Sums are `s += x`, and so are `-=`, `*=`, `/=`, `max(s, x)` and `min(s, x)`: of a name that the loop reads nowhere else.
A chunk begins with 0 (or 1, or an infinity). No turn may write to what another one sees; where that isn't certain from
the code and its types, the loop is left as it stands. Of loops that write to elements of their own, which turns these
are is found here; all else is in `parallel_writes.py`. Where there is little to do, or a turn raises, all turns are one
chunk, which is recorded on the caller's tape.
"""

from __future__ import annotations

import builtins
import ctypes
import operator
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
from numba import prange
from numba.core import errors, ir, ir_utils, types
from numba.core.compiler_machinery import register_pass
from numba.core.registry import cpu_target
from numba.core.typing import signature
from numba.extending import intrinsic
from numba.np.ufunc import parallel

from tapegrad import threads
from tapegrad.engine import compiled
from tapegrad.jitted import checking, chunks, outlining, parallel_writes, rewriting
from tapegrad.jitted import jacobian_tape as tape
from tapegrad.jitted.access import (
    add_chunks,
    add_whole,
    end_chunks,
    get_number,
    get_word,
    held,
    open_tape,
    place_of,
    put_number,
    put_word,
    reserve,
    run_chunks,
    sweep_chunk,
    value_at,
)  # fmt: skip
from tapegrad.jitted.active import Independents, Taped, holds_active
from tapegrad.jitted.allocation import vector_of
from tapegrad.jitted.block_rows import address_of
from tapegrad.jitted.drivers import protected
from tapegrad.jitted.errors import NotDifferentiableError
from tapegrad.jitted.inner import Pass, define, inside
from tapegrad.jitted.kept import as_kind
from tapegrad.jitted.lifting import make, row_of, strip
from tapegrad.jitted.nest_rows import address_of as data_of
from tapegrad.jitted.outlining import Declined, Loops, Outlined
from tapegrad.jitted.parallel_writes import Reach
from tapegrad.memory import words_of

KIND = Taped(0)

# What a chunk begins with: for floats, for int64.
_STARTS = {
    chunks.SUM: (0.0, 0), chunks.PRODUCT: (1.0, 1), chunks.LARGEST: (-np.inf, types.int64.minval),
    chunks.SMALLEST: (np.inf, types.int64.maxval),
}  # fmt: skip
_OF_OPERATORS = {
    operator.add: chunks.SUM, operator.sub: chunks.SUM, operator.mul: chunks.PRODUCT, operator.truediv: chunks.PRODUCT,
}  # fmt: skip
_OF_FUNCTIONS = {builtins.max: chunks.LARGEST, builtins.min: chunks.SMALLEST}
_EITHER_WAY = {operator.add, operator.mul}


# --- which loops: from the code ---------------------------------------------------------------------------------------


class Proof:
    """That turns of a loop meet in sums alone, as far as its code tells; raises Declined."""

    def __init__(self, loops: Loops, header: int, made: Outlined, turns: Any) -> None:
        self.loops, self.func_ir, self.body = loops, loops.func_ir, loops.body(header)
        self.inside = {name for label in self.body for name in loops.assigned[label]}
        call = None if turns is None else ir_utils.guard(ir_utils.get_definition, self.func_ir, turns)
        if call is None or loops.resolve(self.func_ir, call.func) is not prange or not made.is_counted:
            raise Declined("it is no loop over prange to its end")
        self.made = defaultdict[str, list[Any]](list)  # what a turn assigns to a name
        for statement in self._statements():
            if isinstance(statement, ir.Assign):
                self.made[statement.target.name].append(statement.value)
        self.sums = {name: self._sum(name) for name in made.state if name in made.assigned}
        self.written: dict[str, bool] = {}  # names from outside that may be written to: whether only elements of them
        for name in self._writes():
            self._trace(name)
        if not self.sums and not self.written:
            raise Declined("it adds nothing up, and writes nothing")
        self.turn = next(
            s.value for s in loops.blocks[loops.test(header)].body
            if isinstance(s, ir.Assign) and isinstance(s.value, ir.Expr) and s.value.op == "iternext"
        )  # fmt: skip
        self.integers = set[str]()  # names from outside that stand in an index before the loop's variable
        names = {*made.state, *made.others} - {*self.sums}
        self.reaches = {name: reach for name in sorted(names) if (reach := self._reach(name)) is not None}
        self.steps = made.steps
        if self.written:
            self.steps = loops.windowed(header, made, {name: reach.axis for name, reach in self.reaches.items()})

    def _statements(self) -> Iterator[Any]:
        for label in self.body:
            yield from self.loops.blocks[label].body

    def _sum(self, name: str) -> int:
        """The sum that a name is."""
        met = [s for s in self._statements() if any(v.name == name for v in s.list_vars())]
        found = {made for s in met if (made := self._step(s, name)) is not None}
        results = {s.target.name for s in met if self._step(s, name) is not None}
        for statement in met:
            if self._step(statement, name) is None and not (
                isinstance(statement, ir.Assign)
                and isinstance(statement.value, ir.Var)
                and statement.target.name == name
                and statement.value.name in results
            ):
                raise Declined(f"`{name}` goes from turn to turn")
        for result in results - {name}:
            if sum(v.name == result for s in self._statements() for v in s.list_vars()) != 2:
                raise Declined(f"`{name}` is read within the loop")
        if len(found) != 1:
            raise Declined(f"`{name}` goes from turn to turn")
        return found.pop()

    def _step(self, statement: Any, name: str) -> int | None:
        """The sum to which a statement adds: of the form `new = name + other`."""
        value = statement.value if isinstance(statement, ir.Assign) else None
        if not isinstance(value, ir.Expr):
            return None
        if value.op == "call" and not value.kws and len(value.args) == 2:
            of = self.loops.resolve(self.func_ir, value.func)
            places = [v.name for v in value.args]
            known = next((made for function, made in _OF_FUNCTIONS.items() if function is of), None)
            return known if known is not None and places[0] == name != places[1] else None
        if value.op not in ("binop", "inplace_binop"):
            return None
        function = value.immutable_fn if value.op == "inplace_binop" else value.fn
        is_step = value.lhs.name == name != value.rhs.name or (
            value.op == "binop" and function in _EITHER_WAY and value.rhs.name == name != value.lhs.name
        )
        return _OF_OPERATORS.get(function) if is_step else None

    def _writes(self) -> Iterator[str]:
        """The names of what may be written to."""
        for statement in self._statements():
            value = statement.value if isinstance(statement, ir.Assign) else None
            if isinstance(statement, (ir.SetItem, ir.StaticSetItem)):
                yield statement.target.name
            elif isinstance(value, (ir.Yield, ir.Arg)) or not isinstance(
                statement, (ir.Assign, ir.Jump, ir.Branch, ir.StaticRaise, ir.DynamicRaise, ir.Raise)
            ):
                raise Declined("there are statements in it that turns may see of each other")
            if isinstance(value, ir.Expr) and value.op == "inplace_binop" and value.lhs.name not in self.sums:
                yield value.lhs.name
            elif isinstance(value, ir.Expr) and value.op == "call":
                yield from self.loops.given_to_write(value)

    def _trace(self, name: str) -> None:
        """Note whose memory from outside a name may have."""
        waiting, seen = [name], set[str]()
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            if name not in self.inside:
                self.written[name] = False
                continue
            for value in self.func_ir._definitions.get(name, ()):
                if isinstance(value, ir.Var):
                    waiting.append(value.name)
                elif not isinstance(value, ir.Expr) or value.op in ("binop", "unary"):
                    continue
                elif value.op == "inplace_binop":
                    waiting.append(value.lhs.name)
                elif value.op == "getitem" and value.value.name not in self.inside and self._is_counted(value.index):
                    self.written.setdefault(value.value.name, True)
                else:
                    waiting += [v.name for v in value.list_vars()]

    def _is_counted(self, index: Any) -> bool:
        """Whether an index is the variable of a loop over a range."""
        found = index
        for op in ("pair_first", "iternext", "getiter"):
            made = self._definition(found)
            if not isinstance(made, ir.Expr) or made.op != op:
                return False
            found = made.value
        call = self._definition(found)
        is_call = isinstance(call, ir.Expr) and call.op == "call"
        return is_call and self.loops.resolve(self.func_ir, call.func) in (range, prange)

    def _reach(self, name: str) -> Reach | None:
        """Where turns read and write an array, by their variable; None where they may do so elsewhere."""
        found, shapes = list[tuple[int, int]](), set[str]()
        for statement in self._statements():
            value = statement.value if isinstance(statement, ir.Assign) else None
            if all(v.name != name for v in statement.list_vars()):
                continue
            if isinstance(value, ir.Expr) and value.op == "getattr" and value.attr in ("shape", "ndim"):
                shapes |= {statement.target.name} if value.attr == "shape" else set()
                continue
            array, index = outlining.indexed(statement) or (None, None)
            is_element = array == name and sum(v.name == name for v in statement.list_vars()) == 1
            place = self._place(index) if is_element else None
            if place is None:
                return None
            found.append(place)
        if len({axis for axis, _ in found}) != 1:
            return None
        axis, shifts = found[0][0], [shift for _, shift in found]
        return Reach(axis, min(shifts), max(shifts)) if self._are_of_others(shapes, axis) else None

    def _are_of_others(self, shapes: set[str], axis: int) -> bool:
        """Whether of shapes other axes' lengths alone are read."""
        for statement in self._statements():
            read = {v.name for v in statement.list_vars()} & shapes
            value = statement.value if isinstance(statement, ir.Assign) else None
            if not read or (statement.target.name in read if value is not None else False):
                continue
            index = value.index if isinstance(value, ir.Expr) and value.op == "static_getitem" else None
            if type(index) is not int or index < 0 or index == axis:
                return False
        return True

    def _place(self, index: Any) -> tuple[int, int] | None:
        """At which axis the loop's variable stands in an index, and what is added to it."""
        made = self._definition(index)
        items = made.items if isinstance(made, ir.Expr) and made.op == "build_tuple" else [index]
        for axis, item in enumerate(items):
            shift = self._shift(item)
            if shift is not None:
                return axis, shift
            if not self._is_one_axis(item):
                return None
        return None

    def _definition(self, variable: Any) -> Any:
        """What a variable is in a turn: names that go from turn to turn are sums."""
        while isinstance(variable, ir.Var) and variable.name in self.inside:
            made = self.made[variable.name]
            if len(made) != 1:
                return None
            variable = made[0]
        return (
            ir_utils.guard(ir_utils.get_definition, self.func_ir, variable)
            if isinstance(variable, ir.Var)
            else variable
        )

    def _shift(self, variable: Any) -> int | None:
        """What a number is more than the loop's variable; None where it may be any other."""
        made = self._definition(variable)
        if not isinstance(made, ir.Expr):
            return None
        if made.op == "pair_first":
            return 0 if self._definition(made.value) is self.turn else None
        if made.op != "binop" or made.fn not in (operator.add, operator.sub):
            return None
        one, other = made.lhs, made.rhs
        if made.fn is operator.add and self._shift(one) is None:
            one, other = other, one
        shift, known = self._shift(one), self._definition(other)
        number = known.value if isinstance(known, (ir.Const, ir.Global, ir.FreeVar)) else None
        if shift is None or type(number) is not int:
            return None
        return shift + number if made.fn is operator.add else shift - number

    def _is_one_axis(self, item: Any) -> bool:
        """Whether a part of an index stands for one axis of the array: a slice, or an integer."""
        made = self._definition(item)
        if isinstance(made, ir.Const):
            return type(made.value) is int
        if isinstance(made, ir.Expr) and made.op == "call":
            return self.loops.resolve(self.func_ir, made.func) is slice
        if item.name not in self.inside:
            self.integers.add(item.name)
            return True
        return self._is_counted(item)

    def check(self, names: Any, kinds: Any) -> set[str]:
        """The names of arrays that are written to. Raise Declined where types of what is given don't allow it."""
        found = set[str]()
        for name, kind in zip(names, kinds, strict=True):
            if name in self.sums:
                if kind not in (KIND, types.float64) and not _is_integer(kind):
                    raise Declined(f"`{name}` is {kind}")
            elif not _is_known(kind):
                raise Declined(f"it reads {kind}")
            if name in self.integers and not isinstance(kind, types.Integer):
                raise Declined(f"an index is {kind}")
            if name in self.written and holds_arrays(kind) and not isinstance(kind, Independents):
                is_element = isinstance(kind, types.Array) and kind.ndim == 1 and self.written[name]
                reach = self.reaches.get(name)
                if not is_element and (reach is None or reach.low != reach.high):
                    raise Declined(f"it may write to `{name}`")
                if not is_element:
                    found.add(name)
        if not found and not self.sums:
            raise Declined("it adds nothing up, and writes nothing")
        return found


def _is_integer(kind: Any) -> bool:
    return isinstance(kind, types.Integer) and kind.bitwidth == 64 and kind.signed


def _is_known(kind: Any) -> bool:
    """Whether what is read is a number, an array, a function, or a tuple of them, that no turn changes by itself."""
    if isinstance(kind, types.BaseTuple):
        return all(map(_is_known, kind))
    if isinstance(kind, types.Dispatcher):
        return outlining.is_seen(kind.dispatcher) is None and not outlining.may_write(kind.dispatcher)
    numbers = (types.Number, types.Boolean, Taped)
    if isinstance(kind, types.Array):
        return isinstance(kind.dtype, numbers)
    return isinstance(kind, (*numbers, Independents, types.NoneType, types.Literal))


def holds_arrays(kind: Any) -> bool:
    """Whether there are arrays in a value of a type."""
    if isinstance(kind, types.BaseTuple):
        return any(map(holds_arrays, kind))
    return isinstance(kind, (types.Array, Independents))


# --- when a function is compiled --------------------------------------------------------------------------------------


@register_pass(mutates_CFG=True, analysis_only=False)
class ParallelLoops(Pass):
    """Put calls before loops."""

    _name = "tapegrad_parallel_loops"

    def run_pass(self, state: Any) -> bool:
        """Find them."""
        if outlining.code_of(state.func_id.func) is not None:
            return False
        proofs = dict[Outlined, Proof]()

        def check(loops: Any, header: int, made: Outlined, turns: Any) -> None:
            proofs[made] = Proof(loops, header, made, turns)

        def run_of(made: Outlined) -> Any:
            return _runner(made, proofs[made])

        has_types = bool(state.locals)
        return outlining.insert(state.func_ir, state.flags, rewriting.resolve, run_of, _ignore, has_types, check)


def _ignore(loc: Any, why: str) -> None:
    """Such a loop is as right, and takes longer."""


rewriting.PARALLEL.append(ParallelLoops)


def _runner(loop: Outlined, proof: Proof) -> Any:
    """What is called before a loop."""

    @intrinsic
    def run(typingctx, turns, inputs):
        loop.is_taken = True
        try:
            made = inside(_shared_out(loop, proof, turns, [types.unliteral(k) for k in inputs]))
            sig = made._numba_type_.get_call_type(typingctx, (turns, inputs), {})
        except (Declined, errors.NumbaError, NotDifferentiableError):  # what is amiss is told where the loop itself is
            loop.is_taken = False
            items = "".join(f"inputs[{i}], " for i in range(len(loop.state)))
            made = inside(define(f"def run(turns, inputs):\n return False, 0, ({items})", "run", {}))
            sig = made._numba_type_.get_call_type(typingctx, (turns, inputs), {})

        def codegen(context: Any, builder: Any, call: Any, args: Any) -> Any:
            result = made.get_compile_result(sig)
            context.active_code_library.add_linking_library(result.library)
            return context.call_internal(builder, result.fndesc, sig, args)

        return signature(sig.return_type, turns, inputs), codegen

    checking.make_known(run)
    return run


def _shared_out(loop: Outlined, proof: Proof, turns: Any, kinds: list[Any]) -> Any:
    """What is run before a loop, for inputs of some types."""
    if turns != types.range_state64_type:
        raise Declined("it goes through a range of other integers than int64")
    if not any(map(holds_active, kinds)):
        raise Declined("no derivative goes through it")
    written = proof.check((*loop.state, *loop.others), kinds)
    m, sums = len(proof.sums), list(proof.sums.values())
    names, steps, given, others = (*loop.state, *loop.others), loop.steps, None, kinds[m:]
    if written:
        given = parallel_writes.Given(names[m:], kinds[m:], m, proof.reaches, written)
        steps, others = proof.steps, [*given.kinds, *[types.int64] * len(proof.reaches)]
    again = rewriting.active(steps, KIND)
    chunk = _kinds_of_chunk(again, kinds[:m], others)
    outs = [cpu_target.typing_context.unify_types(a, b) for a, b in zip(kinds, chunk, strict=False)]
    scope = {
        "again": again, "m": m,
        **{f"in{j}": as_kind(kind) for j, kind in enumerate(chunk)},
        **{f"out{j}": as_kind(kind) for j, kind in enumerate(outs)},
        **{f"start{j}": _STARTS[s][_is_integer(kind)] for j, (s, kind) in enumerate(zip(sums, chunk, strict=True))},
    }  # fmt: skip
    if given is not None:
        scope["steps"] = steps
        return parallel_writes.run_of(loop, given, sums, outs, chunk, scope)
    return _adding(loop, kinds, sums, outs, chunk, scope)


def _adding(loop: Outlined, kinds: list[Any], sums: list[int], outs: list[Any], chunk: list[Any], scope: Any) -> Any:
    """What is run before a loop that adds up, and writes nothing."""
    if not any(isinstance(kind, Taped) for kind in chunk):
        raise Declined("no derivative goes through it")
    m, given = len(sums), types.BaseTuple.from_types(kinds)
    scope = {**_SCOPE, **scope, "given": given, "as_given": as_kind(given)}
    begun = "".join(f"in{j}(start{j}), " for j in range(m))
    given_on = "".join(f"inputs[{i}], " for i in range(m, len(kinds)))
    ends = "".join(map(_end, range(m), chunk))
    scope["job"] = inside(define(_JOB.format(begun=begun + given_on, ends=ends), "job", scope))
    more = "".join(f"inputs[{i}], " for i in range(m, len(loop.state)))
    text = _RUN.format(
        begun="".join(f"out{j}(inputs[{j}]), " for j in range(m)) + given_on,
        left="".join(f"out{j}(x[{j}]), " for j in range(m)) + more,
        sums="".join(map(_sum, range(m), outs, sums)),
        outputs="".join(f"y{j}, " for j in range(m)) + more,
    )
    return define(text, "run", scope)


def _kinds_of_chunk(again: Any, sums: list[Any], others: list[Any]) -> list[Any]:
    """The types that the sums of a chunk have, begun with passive numbers."""
    context = cpu_target.typing_context
    chunk = [k if _is_integer(k) else types.float64 for k in sums]
    for _ in range(4):
        arguments = (*[types.int64] * 4, *chunk, *others)
        found = again._numba_type_.get_call_type(context, arguments, {}).return_type[2]
        wider = [context.unify_types(a, types.unliteral(b)) for a, b in zip(chunk, found, strict=False)]
        if any(kind not in (KIND, types.float64) and (kind is None or not _is_integer(kind)) for kind in wider):
            raise Declined("a sum is of other numbers than float64 and int64")
        if wider == chunk:
            return chunk
        chunk = wider
    raise Declined("a sum changes its type")


# What a thread does for a chunk; for the turn in the middle, whose cost is asked, where `k` is below 0.
_JOB = """
def job(words, k, scratch):
    header = open_tape(KIND)
    rows, arguments, n_rows = get_word(header, ROWS), get_word(header, ARGUMENTS), get_word(words, N_ROWS)
    n, n_chunks = get_word(words, N), get_word(words, N_CHUNKS)
    begin, end = k * n // n_chunks, (k + 1) * n // n_chunks
    if k < 0:
        begin, end = n // 2, n // 2 + 1
    if rows < n_rows:
        if reserve(header, n_rows - rows, 0, 1) == 0:
            return NO_MEMORY
        put_word(header, ROWS, n_rows)
    inputs = value_at(given, get_word(words, INPUTS))
    _, _, x = protected(
        again, (begin, end, get_word(words, FIRST), get_word(words, BY), {begun}), header, rows, arguments, (), ()
    )
    code = 0
    if k < 0:
        put_word(words, COST, 1 + get_word(header, ARGUMENTS) - arguments + get_word(header, ROWS) - n_rows)
    else:
{ends}
        put_word(get_word(words, DONE), k, 1 + code)
    put_word(header, ROWS, rows)
    put_word(header, ARGUMENTS, arguments)
    return 0
"""


def _end(j: int, kind: Any) -> str:
    """What a job leaves of a sum."""
    put = "put_word" if _is_integer(kind) else "put_number"
    text = f"        x{j} = in{j}(x[{j}])\n        {put}(get_word(words, VALUES), k * m + {j}, strip(x{j}))\n"
    row = f"row_of(x{j})" if isinstance(kind, Taped) else "0"
    if not _is_integer(kind):
        text += f"        code = min(code, sweep_chunk(header, words, k, {j}, {row}))\n"
    return text


_RUN = """
def run(turns, inputs):
    header = open_tape(KIND)
    memory = vector_of(N_WORDS)
    words = data_of(memory)
    put_word(words, N, len(turns))
    put_word(words, FIRST, turns.start)
    put_word(words, BY, turns.step)
    put_word(words, N_ROWS, max(get_word(header, ROWS), 1))
    put_word(words, N_SUMS, m)
    packed = as_given(inputs)
    put_word(words, INPUTS, place_of(packed))
    if run_chunks(header, words, address_of(job)) == 0:
        _, _, x = again(ZERO, len(turns), turns.start, turns.step, {begun})
        return True, 1, ({left})
{sums}
    end_chunks(header, words)
    held(memory, packed)
    return True, 1, ({outputs})
"""


def _sum(j: int, kind: Any, of: int) -> str:
    """The code of what remains of a sum, which is of a type then."""
    put, get = ("put_word", "get_word") if _is_integer(kind) else ("put_number", "get_number")
    text = f"    x{j} = out{j}(inputs[{j}])\n    {put}(words, NUMBER, strip(x{j}))\n"
    if _is_integer(kind):
        return text + f"    add_whole(words, {j}, {of})\n    y{j} = {get}(words, NUMBER)\n"
    text += f"    row = add_chunks(header, words, {j}, {of}, row_of(x{j}))\n"
    made = f"make(KIND, {get}(words, NUMBER), row, 0)" if isinstance(kind, Taped) else f"{get}(words, NUMBER)"
    return text + f"    y{j} = {made}\n"


# --- threads ----------------------------------------------------------------------------------------------------------


def be_ready() -> None:
    """Start workers that are missing; have jitted code ask Numba how many threads it may have, once that has any."""
    if threads.state[1]:
        threads.start(compiled("work"))
    if not threads.told[1] and parallel._is_initialized:
        threads.told[1] = ctypes.cast(parallel._get_num_threads, ctypes.c_void_p).value or 0


_SCOPE = {
    "KIND": KIND, "ROWS": tape.ROWS, "ARGUMENTS": tape.ARGUMENTS, "NO_MEMORY": tape.NO_MEMORY,
    "ZERO": parallel_writes.ZERO,
    **{name.upper(): at for name, at in words_of(chunks.Job).items()}, "N_WORDS": chunks.Job.nbytes // 8,
    "open_tape": open_tape, "get_word": get_word, "put_word": put_word, "get_number": get_number,
    "put_number": put_number, "reserve": reserve, "protected": protected, "strip": strip, "row_of": row_of,
    "make": make, "vector_of": vector_of, "data_of": data_of, "place_of": place_of, "value_at": value_at,
    "held": held, "address_of": address_of, "run_chunks": run_chunks, "end_chunks": end_chunks,
    "sweep_chunk": sweep_chunk, "add_whole": add_whole, "add_chunks": add_chunks,
}  # fmt: skip
