"""The switch: goes through rows of one float64 each, those of operations that are `switched`, without a call for each.

It is made from declarations, as kernels are. What is not in it is left to who calls it: it answers at which row it has
stopped. `values` and `bars` hold the value and the adjoint of each slot, `marks` what is said of it in `core/rows.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from tapegrad.kernels import native, scalar
from tapegrad.ops.declare import OPS, Elementwise, Rule, parameters
from tapegrad.tape import CONSUMED, IMM_A, IMM_B, Row

ADJOINT, BEGUN = 2, 64  # marks

# (i, rows, planned, values, n_slots) -> i: forward through `planned`, from place i down; -1 when all are done
_VALUES = """
def kernel(i, rows, planned, values_at, n):
 values = array_f8(values_at, n)
 while i >= 0:
  row = Row(rows + {row_bytes} * int(array_i4(planned, i + 1)[i]))
  opcode, flags, a = row.opcode, row.flags, values[row.a]
  b = row.immediate if flags & {imm} else values[row.b]
  if flags & {imm_a}:
   a, b = b, a
{cases}
  else:
   return i
  values[row.out] = y
  i -= 1
 return i
"""
_VALUES_CASE = "  {el}if opcode == {opcode}:\n   y = f{opcode}({operands})"

# (i, n_rows, rows, planned, values, bars, marks, n_slots, keeps) -> i: in reverse, up to n_rows
_ADJOINTS = """
def kernel(i, n_rows, rows, planned, values_at, bars_at, marks_at, n, keeps):
 values, bars, marks = array_f8(values_at, n), array_f8(bars_at, n), array_u1(marks_at, n)
 while i < n_rows:
  row = Row(rows + {row_bytes} * int(array_i4(planned, i + 1)[i]))
  out = row.out
  if marks[out] & {BEGUN} == 0:
   i += 1
   continue
  opcode, flags, p, q, g, y = row.opcode, row.flags, row.a, row.b, bars[out], values[out]
  a = values[p]
  if flags & {imm}:
   b, q = row.immediate, -1
   if flags & {imm_a}:
    a, b, p, q = b, a, -1, p
  else:
   b = values[q]
  u, v, kept = 0.0, 0.0, 0
{cases}
  else:
   return i
  saved = 0
  if p >= 0 and marks[p] & {ADJOINT}:
   bars[p] = bars[p] + u if marks[p] & {BEGUN} else u
   marks[p] |= {BEGUN}
   saved = kept & 1
  if q >= 0 and marks[q] & {ADJOINT}:
   bars[q] = bars[q] + v if marks[q] & {BEGUN} else v
   marks[q] |= {BEGUN}
   saved |= kept & 2
  if saved and keeps == 0:
   row.flags = flags | {CONSUMED}
  i += 1
 return i
"""


def _switched() -> list[Elementwise]:
    return [op for op in OPS if isinstance(op, Elementwise) and op.switched]


def _part(rule: Rule, name: str, to: str) -> str:
    """What goes to an operand, as `loops.py` has it."""
    names = ", ".join({"x": "a"}.get(v, v) for v in parameters(rule))
    if not names:
        return f"   {to} = g * {name}()"
    return f"   d = {name}({names})\n   {to} = g * d if g != 0 and d != 0 else 0.0"


def _link(name: str, n_arguments: int, text: str, cases: list[str], scope: dict[str, Any]) -> int:
    source = text.format(
        cases="\n".join(cases), row_bytes=Row.nbytes, imm=IMM_A | IMM_B, imm_a=IMM_A, CONSUMED=CONSUMED,
        ADJOINT=ADJOINT, BEGUN=BEGUN,
    )  # fmt: skip

    def build() -> Callable[..., Any]:
        return native.define(source, "kernel", {n: scalar(f) for n, f in scope.items()} | {"Row": Row})

    return native.link(name, n_arguments, build, (source, Row, *scope.items()), returns=True)


@functools.cache
def addresses() -> tuple[int, int]:
    """Of the switch forward, and of that in reverse."""
    forward, reverse, scope = [], [], {}
    for i, op in enumerate(_switched()):
        first, n = {"el": "el" if i else "", "opcode": op.opcode}, op.arity
        scope[f"f{op.opcode}"] = op.function
        forward.append(_VALUES_CASE.format(**first, operands="a, b"[: 3 * n - 2]))
        lines = ["  {el}if opcode == {opcode}:".format(**first)]
        kept = 0
        for k, rule in enumerate(op.partials):
            assert rule is not None
            scope[f"r{op.opcode}_{k}"] = rule
            lines.append(_part(rule, f"r{op.opcode}_{k}", "uv"[k]))
            kept |= (1 << k) * bool(parameters(rule))
        reverse.append("\n".join([*lines, f"   kept = {kept}"]))
    of_values = {name: f for name, f in scope.items() if name[0] == "f"}
    of_adjoints = {name: f for name, f in scope.items() if name[0] == "r"}
    return (
        _link("switch-values", 5, _VALUES, forward, of_values),
        _link("switch-adjoints", 9, _ADJOINTS, reverse, of_adjoints),
    )
