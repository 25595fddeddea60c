"""Loops over `prange` whose turns meet in sums alone: in parts, each of them on a tape of a thread's own.

A call is put before each such loop (`outlining.py`). It cuts the turns into parts, whose number depends on the work and
not on threads. A part is recorded, swept at once for each number that it adds up, and forgotten:

      rows of the caller's tape                     rows of the part
      0 ........................... n_rows - 1      n_rows ....
      the same numbers, on a tape of whichever      swept, and overwritten by the next part
      thread takes the part: their adjoints are     that this thread takes
      the derivatives of the part's sum

What remains of the loop is one statement row for each sum, with a partial for each row that any part has read: that of
what the parts give, added up in their order. So no tape is longer than a part, and neither values nor derivatives
depend on how many threads there are, nor on which of them was first.

Sums are `s += x`, and so are `-=`, `*=`, `/=`, `max(s, x)` and `min(s, x)`: of a name that the loop reads nowhere else.
A part begins with 0 (or 1, or an infinity). No turn may write to what another one sees; where that isn't certain from
the code and its types, where there is little to do, or where a turn raises, the loop is left to itself.
"""

from __future__ import annotations

import builtins
import ctypes
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir as llvm
from numba import prange
from numba.core import cgutils, errors, ir, ir_utils, types
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.imputils import impl_ret_borrowed
from numba.core.registry import cpu_target
from numba.extending import intrinsic, overload
from numba.np.ufunc import parallel

from tapegrad import threads
from tapegrad.engine import compiled
from tapegrad.jitted import checking, outlining, rewriting
from tapegrad.jitted import jacobian_tape as tape
from tapegrad.jitted.access import (
    get_number,
    get_word,
    hand_out,
    open_tape,
    put_number,
    put_word,
    reserve,
    sweep,
    zero_adjoints,
)  # fmt: skip
from tapegrad.jitted.active import WORD, Independents, Taped, holds_active
from tapegrad.jitted.block_rows import address_of
from tapegrad.jitted.drivers import protected
from tapegrad.jitted.errors import NotDifferentiableError
from tapegrad.jitted.inner import OPTIONS, define, inside
from tapegrad.jitted.kept import as_kind
from tapegrad.jitted.lifting import make, row_of, strip
from tapegrad.jitted.outlining import Declined, Loops, Outlined
from tapegrad.jitted.preaccumulation import append_row

ROWS, ARGUMENTS, ADJOINT = tape.ROWS, tape.ARGUMENTS, tape.ADJOINT
KIND = Taped(0)
LEAST_TURNS = 32
LEAST_WORK = 50_000  # arguments and rows of all turns, below which threads aren't worth waking
PART = 32_768  # of a part, as far as there are no more than `MOST_PARTS`: they stay in the cache
LEAST_PARTS, MOST_PARTS = 16, 1024
N, FIRST, BY, N_PARTS, N_ROWS, INPUTS, VALUES, WHOLE, PARTIALS, DONE, COST, N_WORDS = range(12)  # of a job


@dataclass(frozen=True)
class Sum:
    """How turns meet in a name."""

    start: Any  # (type of integers, or None for floats) -> what a part begins with
    fold: Any  # (start, values of the parts, weights) -> the value; the weights are the partials, that by start first


# --- sums -------------------------------------------------------------------------------------------------------------


@inside
def _added(start, values, weights):
    weights[:] = 1.0
    for value in values:
        start += value
    return start


@inside
def _multiplied(start, values, weights):
    weights[0] = 1.0
    for k in range(values.size):
        weights[k + 1] = start
        start *= values[k]
    behind = 1.0
    for k in range(values.size - 1, -1, -1):
        weights[k + 1] *= behind
        behind *= values[k]
    weights[0] = behind
    return start


def _chosen(choose: Any) -> Any:
    """The largest or the smallest: equal ones share, one after the other, as `max(max(a, b), c)` has it."""

    @inside
    def chosen(start, values, weights):
        weights[:] = 0.0
        weights[0] = 1.0
        for k in range(values.size):
            value = choose(start, values[k])
            if value == values[k]:
                share = 0.5 if value == start else 1.0
                weights[: k + 1] *= 1.0 - share
                weights[k + 1] = share
            start = value
        return start

    return chosen


def _end(is_least: bool) -> Any:
    def start(kind: Any) -> Any:
        if kind is None:
            return -np.inf if is_least else np.inf
        return kind.minval if is_least else kind.maxval

    return start


SUM, PRODUCT = Sum(lambda kind: 0, _added), Sum(lambda kind: 1, _multiplied)
LARGEST, SMALLEST = Sum(_end(True), _chosen(max)), Sum(_end(False), _chosen(min))
_OF_OPERATORS = {operator.add: SUM, operator.sub: SUM, operator.mul: PRODUCT, operator.truediv: PRODUCT}
_OF_FUNCTIONS = {builtins.max: LARGEST, builtins.min: SMALLEST}
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
        if not made.assigned:
            raise Declined("it adds nothing up")
        self.sums = {name: self._sum(name) for name in made.state if name in made.assigned}
        self.written: dict[str, bool] = {}  # names from outside that may be written to: whether only elements of them
        for name in self._writes():
            self._trace(name)

    def _statements(self) -> Iterator[Any]:
        for label in self.body:
            yield from self.loops.blocks[label].body

    def _sum(self, name: str) -> Sum:
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

    def _step(self, statement: Any, name: str) -> Sum | None:
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
            made = ir_utils.guard(ir_utils.get_definition, self.func_ir, found)
            if not isinstance(made, ir.Expr) or made.op != op:
                return False
            found = made.value
        call = ir_utils.guard(ir_utils.get_definition, self.func_ir, found)
        is_call = isinstance(call, ir.Expr) and call.op == "call"
        return is_call and self.loops.resolve(self.func_ir, call.func) in (range, prange)

    def check(self, names: Any, kinds: Any) -> None:
        """Raise Declined where types of what the loop is given don't allow it."""
        for name, kind in zip(names, kinds, strict=True):
            if name in self.sums:
                if kind not in (KIND, types.float64) and not _is_integer(kind):
                    raise Declined(f"`{name}` is {kind}")
            elif not _is_known(kind):
                raise Declined(f"it reads {kind}")
            if name in self.written and holds_arrays(kind):
                is_element = isinstance(kind, types.Array) and kind.ndim == 1 and self.written[name]
                if not is_element:
                    raise Declined(f"it may write to `{name}`")


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
class ParallelLoops(FunctionPass):  # type: ignore[misc]
    """Put calls before loops."""

    _name = "tapegrad_parallel_loops"

    def __init__(self) -> None:
        FunctionPass.__init__(self)

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

    def run(turns, inputs):
        raise NotImplementedError

    @overload(run, OPTIONS)
    def typed(turns, inputs):
        try:
            made = inside(_shared_out(loop, proof, turns, [types.unliteral(k) for k in inputs]))
            made._numba_type_.get_call_type(cpu_target.typing_context, (turns, inputs), {})
        except (Declined, errors.NumbaError, NotDifferentiableError):  # what is amiss is told where the loop itself is
            items = "".join(f"inputs[{i}], " for i in range(len(loop.state)))
            return define(f"def run(turns, inputs):\n return False, 0, ({items})", "run", {})
        return lambda turns, inputs: made(turns, inputs)

    checking.make_known(run)
    return run


def _shared_out(loop: Outlined, proof: Proof, turns: Any, kinds: list[Any]) -> Any:
    """What is run before a loop, for inputs of some types."""
    if turns != types.range_state64_type:
        raise Declined("it goes through a range of other integers than int64")
    if not any(map(holds_active, kinds)):
        raise Declined("no derivative goes through it")
    proof.check((*loop.state, *loop.others), kinds)
    again, m = rewriting.active(loop.steps, KIND), len(proof.sums)
    sums = list(proof.sums.values())
    parts = _kinds_of_parts(again, kinds, m)
    starts = [s.start(k) if _is_integer(k) else float(s.start(None)) for s, k in zip(sums, parts, strict=True)]
    context = cpu_target.typing_context
    outs = [context.unify_types(a, b) for a, b in zip(kinds, parts, strict=False)]
    if not any(isinstance(kind, Taped) for kind in parts):
        raise Declined("no derivative goes through it")
    scope = {
        **_SCOPE, "again": again, "m": m, "given": types.BaseTuple.from_types(kinds),
        **{f"part{j}": as_kind(kind) for j, kind in enumerate(parts)},
        **{f"out{j}": as_kind(kind) for j, kind in enumerate(outs)},
        **{f"fold{j}": s.fold for j, s in enumerate(sums)},
        **{f"start{j}": start for j, start in enumerate(starts)},
    }  # fmt: skip
    begun = "".join(f"part{j}(start{j}), " for j in range(m))
    begun += "".join(f"inputs[{i}], " for i in range(m, len(kinds)))
    scope["as_given"] = as_kind(scope["given"])
    scope["job"] = inside(define(_JOB.format(begun=begun, ends="".join(map(_end_of, range(m), parts))), "job", scope))
    more = "".join(f"inputs[{i}], " for i in range(m, len(loop.state)))
    return define(
        _RUN.format(
            left="".join(f"out{j}(inputs[{j}]), " for j in range(m)) + more,
            folds="".join(map(_fold, range(m), outs)),
            outputs="".join(f"y{j}, " for j in range(m)) + more,
        ),
        "run", scope,
    )  # fmt: skip


def _kinds_of_parts(again: Any, kinds: list[Any], m: int) -> list[Any]:
    """The types that the sums of a part have, begun with passive numbers."""
    context = cpu_target.typing_context
    parts = [k if _is_integer(k) else types.float64 for k in kinds[:m]]
    for _ in range(4):
        arguments = (*[types.int64] * 4, *parts, *kinds[m:])
        found = again._numba_type_.get_call_type(context, arguments, {}).return_type[2]
        wider = [context.unify_types(a, types.unliteral(b)) for a, b in zip(parts, found, strict=False)]
        if any(kind not in (KIND, types.float64) and (kind is None or not _is_integer(kind)) for kind in wider):
            raise Declined("a sum is of other numbers than float64 and int64")
        if wider == parts:
            return parts
        parts = wider
    raise Declined("a sum changes its type")


# What a thread does for a part; for the turn in the middle, of which the work is asked, where `k` is below 0.
_JOB = """
def job(words, k, scratch):
    header = open_tape(KIND)
    rows, arguments, n_rows = get_word(header, ROWS), get_word(header, ARGUMENTS), get_word(words, N_ROWS)
    n, n_parts = get_word(words, N), get_word(words, N_PARTS)
    begin, end = (n // 2, n // 2 + 1) if k < 0 else (k * n // n_parts, (k + 1) * n // n_parts)
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
        put_word(get_word(words, DONE), k, 1 if code == 0 else 0)
    put_word(header, ROWS, rows)
    put_word(header, ARGUMENTS, arguments)
    return 0
"""


def _end_of(j: int, kind: Any) -> str:
    """What a job leaves of a sum."""
    if _is_integer(kind):
        return f"        put_word(get_word(words, WHOLE), k * m + {j}, x[{j}])\n"
    text = f"        put_number(get_word(words, VALUES), k * m + {j}, strip(part{j}(x[{j}])))\n"
    if isinstance(kind, Taped):
        place = f"get_word(words, PARTIALS) + 8 * (k * m + {j}) * n_rows"
        text += f"        code = min(code, swept_from(header, row_of(part{j}(x[{j}])), {place}, n_rows))\n"
    return text


@inside
def swept_from(header, row, place, n_rows):
    """Sweep a part from a row, and put the adjoints of the caller's rows at a place."""
    if zero_adjoints(header, 1) == 0:
        return tape.NO_MEMORY
    bars = get_word(header, ADJOINT)
    if row != 0:
        put_number(bars, row, 1.0)
        code = sweep(header, n_rows)
        if code < 0:
            return code
        bars = get_word(header, ADJOINT)
        for r in range(1, n_rows):
            put_number(place, r, get_number(bars, r))
    return 0


_RUN = """
def run(turns, inputs):
    header = open_tape(KIND)
    n, n_rows = len(turns), max(get_word(header, ROWS), 1)
    if n < LEAST_TURNS:
        return False, 0, ({left})
    words = np.zeros(N_WORDS, np.int64)
    packed = as_given(inputs)
    words[N], words[FIRST], words[BY], words[N_PARTS], words[N_ROWS] = n, turns.start, turns.step, 1, n_rows
    words[INPUTS] = place_of(packed)
    call(address_of(job), words.ctypes.data, -1)
    n_parts = parts_of(n, words[COST], n_rows * m)
    if n_parts == 0:
        return False, 0, ({left})
    values, whole = np.zeros((n_parts, m)), np.zeros((n_parts, m), np.int64)
    partials, done = np.zeros((n_parts, m, n_rows)), np.zeros(n_parts, np.int64)
    words[N_PARTS], words[VALUES], words[WHOLE] = n_parts, values.ctypes.data, whole.ctypes.data
    words[PARTIALS], words[DONE] = partials.ctypes.data, done.ctypes.data
    hand_out(address_of(job), words.ctypes.data, n_parts)
    if not np.all(done) or words[N] != n:  # a turn has raised: so does the loop, where it comes to it
        return False, 0, ({left})
    weights = np.empty(1 + n_parts)
{folds}
    return True, 1, ({outputs})
"""


def _fold(j: int, kind: Any) -> str:
    """The code of what remains of a sum, which is of a type then."""
    if _is_integer(kind):
        return f"    y{j} = out{j}(fold{j}(inputs[{j}], whole[:, {j}], weights))\n"
    text = f"    y = fold{j}(strip(out{j}(inputs[{j}])), values[:, {j}], weights)\n"
    if not isinstance(kind, Taped):
        return text + f"    y{j} = y\n"
    row = f"row_of(out{j}(inputs[{j}]))"
    return text + (
        f"    statement(header, {row}, weights, partials[:, {j}, :])\n"
        f"    y{j} = make(KIND, y, get_word(header, ROWS) - 1, 0)\n"
    )


@inside
def statement(header, row, weights, partials):
    """The row of a sum."""
    n_parts, n_rows = partials.shape
    total, outer = np.zeros(n_rows), np.arange(n_rows)
    for k in range(n_parts):
        if weights[k + 1] != 0.0:
            for r in range(1, n_rows):
                total[r] += weights[k + 1] * partials[k, r]
    total[0], outer[0] = weights[0], row
    append_row(header, outer, total, 1)


@inside
def parts_of(n, cost, n_kept):
    """Into how many parts turns are cut, of which so many numbers are kept each; 0 where it isn't worth it."""
    work = n * cost
    if cost == 0 or work < LEAST_WORK:
        return 0
    n_parts = min(n, max(LEAST_PARTS, min(work // PART, MOST_PARTS)), work // (4 * n_kept))
    return n_parts if n_parts >= LEAST_PARTS // 4 else 0


# --- threads ----------------------------------------------------------------------------------------------------------


def be_ready() -> None:
    """Start workers that are missing; have jitted code ask Numba how many threads it may have, once that has any."""
    if threads.state[1]:
        threads.start(compiled("work"))
    if not threads.told[1] and parallel._is_initialized:
        threads.told[1] = ctypes.cast(parallel._get_num_threads, ctypes.c_void_p).value or 0


# --- values and calls -------------------------------------------------------------------------------------------------


@intrinsic
def place_of(typingctx, x):
    """The address of a value, in this function's memory."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.ptrtoint(cgutils.alloca_once_value(builder, args[0]), WORD)

    return types.int64(x), codegen


@intrinsic
def value_at(typingctx, kind, address):
    """The value of a type that is at an address."""
    made = kind.instance_type

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value = builder.load(builder.inttoptr(args[1], context.get_value_type(made).as_pointer()))
        return impl_ret_borrowed(context, builder, made, value)

    return made(kind, address), codegen


@intrinsic
def call(typingctx, address, words, k):
    """Call a job."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        job = builder.inttoptr(args[0], llvm.FunctionType(WORD, [WORD] * 3).as_pointer())
        return builder.call(job, [args[1], args[2], WORD(0)])

    return types.int64(address, words, types.int64), codegen


_SCOPE = {
    "np": np, "KIND": KIND, "ROWS": ROWS, "ARGUMENTS": ARGUMENTS, "NO_MEMORY": tape.NO_MEMORY,
    "LEAST_TURNS": LEAST_TURNS, "N": N, "FIRST": FIRST, "BY": BY, "N_PARTS": N_PARTS, "N_ROWS": N_ROWS,
    "INPUTS": INPUTS, "VALUES": VALUES, "WHOLE": WHOLE, "PARTIALS": PARTIALS, "DONE": DONE, "COST": COST,
    "N_WORDS": N_WORDS, "open_tape": open_tape, "get_word": get_word, "put_word": put_word, "put_number": put_number,
    "reserve": reserve, "protected": protected, "strip": strip, "row_of": row_of, "make": make,
    "swept_from": swept_from, "statement": statement, "parts_of": parts_of, "place_of": place_of,
    "value_at": value_at, "call": call, "address_of": address_of, "hand_out": hand_out,
}  # fmt: skip
