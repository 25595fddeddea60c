"""From declarations to compiled addresses.

`require(op, code)` makes the kernels of an operation for a dtype available and enters their addresses in `table`, five
int64 for each (opcode, dtype): elementwise and array operations have [forward, reverse of a, of b, of c], reductions
[accumulate, reverse, finish, start value, rows]. Every kernel takes int64 only: counts, and addresses of elements.

    forward      (n, mode, a, b, c, y)                  see `loops.py`
    reverse      (n, mode, a, b, c, y, y_bar, k_bar)    k_bar += partial * y_bar
    accumulate   (n, m, x, state, count, step)          n elements into one of `count` states, or as STEPS below says
    finish       (m, state, n, y)                       the results of m states of n terms each; none where they are it
    rows         (m, n, x, y, begun)                    the results of m rows of n elements; added to y where begun
    array        (context)                              see the Context below

What is reduced is in a state until it is complete: a float64 for both floats (or several: see `op.reduction`), else a
number of the dtype. So sums of float32 lose nothing on the way. Of many states, the first numbers come first.

A kernel is Python source made from its declaration, compiled by Numba the first time a machine needs it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np

from tapegrad.dtypes import BOOL, DTYPES, FLOAT32, FLOAT64, INT64, DType
from tapegrad.kernels import cache, loops, native
from tapegrad.kinds import address_of
from tapegrad.memory import Record, array, inside, over, word
from tapegrad.ops.declare import OPS, PART, TILE, Array, Elementwise, Host, Layout, Op, Reduction, parameters
from tapegrad.tape import OPCODES


class Kernels(Record):
    """Those of an operation for a dtype."""

    forward = word()
    reverse = inside(np.int64, 3)  # by operand
    rows = word()
    accumulate = over("forward")
    finish = over("reverse", i=1)
    start = over("reverse", i=2)  # no kernel: a state before it begins


CELLS = Kernels.nbytes // 8
SHORT = 8  # elements of a row up to which a pass over all rows costs less than a loop a row
# STEPS: of m rows of n, each into a state of its own; each column into its own; n states into others; and of sums, n
# states into elements.
TO_ONE, TO_EACH, JOIN, SETTLE = range(4)
table = np.zeros(OPCODES * len(DTYPES) * CELLS, np.int64)
table_address = address_of(table)


class Context(Record):
    """What an array kernel is given: addresses, and how many elements may be touched there.

    Those of an operand reach from its first to its last, as its strides have them; adjoints are contiguous, and have as
    many as their values.
    """

    params = array(np.int64, "n_params")
    n_params = word()
    gemm64 = word()
    gemm32 = word()
    lapack = word()
    work = word()
    a = word()
    b = word()
    c = word()
    y = word()
    n_a = word()
    n_b = word()
    n_c = word()
    n_y = word()
    operands = over("a", n=4)  # a, b, c, y
    lengths = over("n_a", n=4)
    y_bar = word()
    k_bar = word()
    n_k_bar = word()
    lo = word()  # the units that this is to do
    hi = word()
    failed_batch = word()
    failed_index = word()
    memory = word()  # to work in
    n_memory = word()
    begun = word()  # whether the adjoint was added to
    sums = word()
    n_sums = word()
    tile = word()


_ready: set[tuple[int, int, bool]] = set()


def is_ready(op: Op, code: int, reverse: bool) -> bool:
    """Whether `require` was called for this."""
    return (op.opcode, code, reverse) in _ready


def require(op: Op, code: int, reverse: bool) -> None:
    """Make `op`'s kernels for operands of dtype `code` callable: the forward one, or those of the reverse sweep."""
    key = op.opcode, code, reverse
    if key in _ready or isinstance(op, (Layout, Host)):
        return
    cell = (op.opcode * len(DTYPES) + code) * CELLS
    make: Any = _elementwise if isinstance(op, Elementwise) else _reduction if isinstance(op, Reduction) else _array
    for offset, value in make(op, code, reverse):
        table[cell + offset] = value
    _ready.add(key)


def scalar(function: Callable[..., Any], by_address: bool = False) -> Callable[..., Any]:
    """An operation, a function or a rule for compiled code: operations that it names become functions of an element."""
    known = function.function if isinstance(function, Op) else function
    return native.inlined(known, lambda value: value.function if isinstance(value, Op) else None, by_address)


def _name(op: Op, code: int, part: str) -> str:
    family = "array" if isinstance(op, Array) else type(op).__name__.lower()  # two may have an operation of one name
    return f"{op.name}-{family}-{DTYPES[code].name}-{part}"


def _link(name: str, n_arguments: int, source: str, scope: dict[str, Any]) -> int:
    """The kernel with this source, in which these names are functions (made ready when it is compiled) and numbers."""

    def build() -> Callable[..., Any]:
        made = {n: scalar(v) if callable(v) and not isinstance(v, type) else v for n, v in scope.items()}
        return native.define(source, "kernel", made)

    return native.link(name, n_arguments, build, (source, *scope.items()))


def _function(op: Op, code: int) -> Callable[..., Any]:
    """What an operation does to elements of a dtype."""
    return op.integer if op.integer is not None and not DTYPES[code].is_floating_point else op.function


def _elementwise(op: Elementwise, code: int, reverse: bool) -> Any:
    codes = op.signature(code)
    function = _function(op, code)
    if not reverse:
        yield (
            0,
            native.link_loops(
                _name(op, code, "forward"),
                lambda: scalar(function),
                codes[:-1],
                codes[-1],
                lambda scalar, parameters: loops.forward_ir(scalar, parameters, codes),
                loops.plain_forward,
                (function,),
            ),
        )
        return
    for k, rule in enumerate(op.partials):
        if rule is not None and DTYPES[codes[-1]].is_floating_point and DTYPES[codes[k]].is_floating_point:
            yield (
                1 + k,
                _link_partial(op, code, k, rule, {**dict(zip("abc", codes[:-1], strict=False)), "y": codes[-1]}),
            )


def _in_dtype(rule: Callable[..., Any], dtype: DType) -> Callable[..., Any]:
    """The rule with its constants in the dtype of the row, as they are where it records: both round alike."""
    if dtype is FLOAT64:
        return rule
    number, code = dtype.numpy.type, rule.__code__
    constants = tuple(number(value) if isinstance(value, float) else value for value in code.co_consts)
    named = {name: rule.__globals__.get(name) for name in code.co_names}
    numbers = {name: number(value) for name, value in named.items() if isinstance(value, float)}
    names = {**rule.__globals__, **numbers}
    return FunctionType(code.replace(co_consts=constants), names, rule.__name__, rule.__defaults__, rule.__closure__)


def _link_partial(op: Op, code: int, k: int, rule: Callable[..., Any], codes: dict[str, int]) -> int:
    """The reverse kernel for operand `k`; `codes` are the dtypes of a, b, c and y."""
    read = "".join({"x": "a", "n": "b"}.get(v, v) for v in parameters(rule))
    bar, y_bar = codes["abc"[k]], codes["y"]
    return native.link_loops(
        _name(op, code, f"reverse-{'abc'[k]}"),
        lambda: scalar(_in_dtype(rule, DTYPES[y_bar])),
        tuple(codes[v] for v in read),
        bar,
        lambda scalar, parameters: loops.reverse_ir(scalar, parameters, read, codes, bar, y_bar),
        lambda function, makers: loops.plain_reverse(function, read, makers),
        (rule, read),
        extra=(y_bar,),
    )


_ACCUMULATE = """
def kernel(n, m, px, ps, count, step):
 if step == {JOIN}:
  x, s = {state}(px, {k} * n), {state}(ps, {k} * n)
  for i in range({k} * n):
   s[i] = merge(s[i], x[i])
 elif step == {SETTLE}:
  y, states = {x}(ps, n), {state}(px, n)
  for i in range(n):
   y[i] = merge(y[i], states[i])
 elif step == {TO_EACH}:
  x, s = {x}(px, m * n), {state}(ps, {k_1} * count + n)
{each}
 x, s = {x}(px, m * n), {state}(ps, {k_1} * count + m)
 for r in range(m if step == {TO_ONE} else 0):
  row = x[r * n : r * n + n]
{reduce}
  {totals}
"""

_FINISH = """
def kernel(m, ps, n, py):
 s, y = {state}(ps, {k} * m), {x}(py, m)
 for i in range(m):
  y[i] = {finish}
"""

_ROWS = """
def kernel(m, n, px, py, begun):
 x, y = {x}(px, m * n), {x}(py, m)
{short}
 for r in range(m):
  row = x[r * n : r * n + n]
{reduce}
  result = {result}
  y[r] = merge(y[r], result) if begun else result
"""

# The results of short rows, of which all first elements are merged, then all second ones.
_SHORT = """
 if 0 < n <= {SHORT} and not begun:
  for r in range(m):
   y[r] = merge(start, term(x[r * n]))
  for i in range(1, n):
   for r in range(m):
    y[r] = merge(y[r], term(x[r * n + i]))
  return
"""

# What makes a state of a row.
_REDUCE = """
  {starts}
  for i in range(n):
   {terms} = term({wide}(row[i]))
   {merges}
"""

# The same where the first number alone, of plain terms in the elements' dtype, is nearly always right: of parts that
# are short, or of the whole row.
_PLAINLY = """
  {starts}
  {parts}
  if not holds(p0, least):
   {starts}
   for i in range(n):
    {terms} = term(number(row[i]))
    {merges}
"""
_PARTS = """
  for first in range(0, n, {PART}):
   part, few = zero, row[first : first + {PART}]
   for i in range(len(few)):
    part = merge(part, plain(few[i]))
   p0 = merge(p0, number(part))
"""
_WHOLE = """
  for i in range(n):
   p0 = merge(p0, plain(row[i]))
"""

# What merges the columns of some rows into states: of a few at once, so that states are read and written less often.
_COLUMNS = """
  for first in range({first}, m{less}, {n_rows}):
   {rows}
   for i in range(n):
    s[i] = merge(s[i], {merged})
"""
_COLUMNS_PLAINLY = """
  for first in range({first}, m{less}, {n_rows}):
   {rows}
   odd = zero
   for i in range(n):
    part = {merged}
    good = holds(part, least)
    odd = merge(odd, zero if good else one)
    s[i] = merge(s[i], number(part) if good else start)
   n_odd = 0
   if odd > 0:  # or zero
    for i in range(n):
     n_odd += not (holds({merged}, least) | ({zeros}))
   for i in range(n if n_odd > 0 else 0):
    if not holds({merged}, least):
     for j in range({n_rows}):
      {terms} = term(number(x[(first + j) * n + i]))
      {adds}
"""
_FEW = 8, 4, 1


def _columns(text: dict[str, Any], several: bool, plainly: bool) -> str:
    """The loops over columns: of a few rows, then of those that are left; `several` numbers are in a state."""
    loops = ""
    for n_rows, before in zip(_FEW, (0, *_FEW), strict=False):
        first, less = f"m - m % {before}" if before else "0", f" - {n_rows - 1}"
        rows, in_parts = range(n_rows), several or (plainly and n_rows > 1)
        merged = [f"plain(r{j}[i])" if in_parts else f"term({text['wide']}(r{j}[i]))" for j in rows]
        while len(merged) > 1:
            merged = [f"merge({p}, {q})" for p, q in zip(merged[::2], merged[1::2], strict=True)]
        loops += (_COLUMNS_PLAINLY if in_parts else _COLUMNS).format(
            **text,
            n_rows=n_rows,
            first=first,
            less=less,
            rows="; ".join(f"r{j} = x[(first + {j}) * n : (first + {j + 1}) * n]" for j in rows),
            merged=merged[0],
            zeros=" & ".join(f"(r{j}[i] == 0)" for j in rows),
        )
    return loops


def _least(dtype: DType) -> Any:
    """The least number of a dtype, divided by its relative precision twice."""
    known = np.finfo(dtype.numpy)
    return known.tiny / known.eps**2


def _reduction(op: Reduction, code: int, reverse: bool) -> Any:
    if reverse:
        rule = op.partials[0]
        if rule is not None:
            yield 1, _link_partial(op, code, 0, rule, dict.fromkeys("aby", code))
        return
    dtype = DTYPES[code]
    in_state = FLOAT64 if dtype.is_floating_point else dtype
    start, zero = in_state.numpy.type(op.start), dtype.numpy.type(op.start)
    yield 3, struct.unpack("<q", start.tobytes().ljust(8, b"\0"))[0]
    plainly = op.parts > 1 or (op.plain is not None and in_state is not dtype)
    n_parts = op.parts if in_state is dtype else 1
    parts = range(n_parts)
    finish = "{}" if op.finish is None else f"finish({{}}, {'start, ' * (op.parts - n_parts)}n)"
    text = {
        "x": native.CODES[code],
        "state": native.CODES[in_state.code],
        "wide": "number" if dtype.is_floating_point else "",
        "k": n_parts,
        "terms": ", ".join(f"t{j}" for j in parts),
        "k_1": n_parts - 1,
        "adds": "; ".join(f"s[{j} * count + i] = merge(s[{j} * count + i], t{j})" for j in parts),
        "starts": "; ".join(f"p{j} = start" for j in parts),
        "merges": "; ".join(f"p{j} = merge(p{j}, t{j})" for j in parts),
        "totals": "; ".join(f"s[{j} * count + r] = merge(s[{j} * count + r], p{j})" for j in parts),
        "finish": finish.format(", ".join(f"s[{j} * m + i]" for j in parts)),
        "result": finish.format(", ".join(f"p{j}" for j in parts)),
        "parts": _WHOLE if in_state is dtype else _PARTS.format(PART=PART),
        "TO_ONE": TO_ONE,
        "TO_EACH": TO_EACH,
        "JOIN": JOIN,
        "SETTLE": SETTLE,
    }
    text["reduce"] = (_PLAINLY if plainly else _REDUCE).format(**text)
    text["short"] = _SHORT.format(SHORT=SHORT) if text["result"] == "p0" and not plainly else ""
    text["each"] = _columns(text, n_parts > 1, plainly)
    term = op.function if n_parts == op.parts else op.plain
    scope = {"merge": op.merge, "term": term, "start": start.item(), "number": in_state.numpy.type}
    if op.finish is not None:
        scope["finish"] = op.finish
    if plainly:
        scope |= {
            "plain": op.plain,
            "holds": op.holds,
            "zero": zero,
            "one": dtype.numpy.type(1),
            "least": float(_least(dtype)),
        }
    yield 0, _link(_name(op, code, "accumulate"), 6, _ACCUMULATE.format(**text), scope)
    if op.finish is not None or in_state is not dtype:
        yield 2, _link(_name(op, code, "finish"), 4, _FINISH.format(**text), scope)
    yield 4, _link(_name(op, code, "rows"), 5, _ROWS.format(**text), scope)


def _array(op: Array, code: int, reverse: bool) -> Any:
    codes = op.signature(code)
    function = _function(op, code)
    if not reverse:
        yield 0, _link_array(_name(op, code, "forward"), op, function, codes, None)
        return
    for k, vjp in enumerate(op.vjps):
        if vjp is not None:
            yield 1 + k, _link_array(_name(op, code, f"reverse-{'abc'[k]}"), op, vjp, codes, k)


def _link_array(name: str, op: Array, function: Callable[..., Any], codes: tuple[int, ...], k: int | None) -> int:
    def array(name: str, code: int, length: str) -> str:
        return f"{native.CODES[code]}(given.{name}, given.{length})"

    def summed(code: int) -> int:
        return FLOAT64.code if DTYPES[code].is_floating_point else code

    supplied = {name: f"given.{name}" for name in ("lo", "hi", "work", "lapack", "begun")}
    supplied["gemm"] = "given.gemm64" if codes[0] == FLOAT64.code else "given.gemm32"
    supplied["memory"] = array("memory", codes[0], "n_memory")
    supplied["sums"] = array("sums", FLOAT64.code, "n_sums")
    supplied["tile"] = f"array_f8(given.tile, {TILE})"
    supplied["status"] = f"array_i8(context + {Context.fields['failed_batch'][0]}, 2)"
    arguments = ["array_i8(given.params_at, given.n_params)"]
    arguments += [supplied[name] for name in parameters(function) if name in supplied]
    arguments += [array(v, c, f"n_{v}") for v, c in zip("abc"[: op.arity], codes, strict=False)]
    arguments.append(array("y", summed(codes[-1]) if k is None and op.summed & 1 else codes[-1], "n_y"))
    if k is not None:
        of_k_bar = summed(codes[k]) if op.summed & 2 << k else codes[k]
        arguments += [array("y_bar", codes[-1], "n_y"), array("k_bar", of_k_bar, "n_k_bar")]
    source = f"def kernel(context):\n given = Context(context)\n f({', '.join(arguments)})\n"
    return _link(name, 1, source, {"f": function, "Context": Context})


def warmup(progress: Callable[[Any], Any] = lambda steps: steps) -> int:
    """Compile the kernels that most programs need: every operation in float64, and the conversions.

    Returns how many operations.

    `progress` is given the list of steps and iterates over it (tqdm fits).
    """
    steps = [(op, FLOAT64.code) for op in OPS if not isinstance(op, (Layout, Host)) and "float64" not in op.refuses]
    steps += [(op, code) for op in OPS if op.name.startswith("to_") for code in (BOOL.code, INT64.code, FLOAT32.code)]
    for op, code in progress(steps):
        require(op, code, reverse=False)
        if any(rule is not None for rule in op.partials):
            require(op, code, reverse=True)
    return len(steps)


__all__ = ["CELLS", "Context", "Kernels", "cache", "native", "require", "table", "table_address", "warmup"]
