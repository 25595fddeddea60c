"""From declarations to compiled addresses.

`require(op, code)` makes the kernels of an operation for a dtype available and enters their addresses in `table`, four
int64 for each (opcode, dtype): elementwise and array operations have [forward, reverse of a, of b, of c], reductions
[accumulate, reverse, finish, start value]. Every kernel takes int64 only: counts, and addresses of elements.

    forward      (n, mode, a, b, c, y)                  see `loops.py`
    reverse      (n, mode, a, b, c, y, y_bar, k_bar)    k_bar += partial * y_bar
    accumulate   (n, x, sum, step)                      step: 0, all into one; 1, elementwise; 2, partial sums likewise
    finish       (m, sum, n)                            m sums of n terms each
    array        (context)                              see the CONTEXT below

A kernel is Python source made from its declaration, compiled by Numba the first time a machine needs it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from tapegrad.dtypes import BOOL, DTYPES, FLOAT32, FLOAT64, INT64
from tapegrad.kernels import cache, loops, native
from tapegrad.op import ARRAY, ELEMENTWISE, HOST, LAYOUT, OPS, REDUCTION, Op, parameters
from tapegrad.tape import address_of

CELLS = 4
table = np.zeros(256 * len(DTYPES) * CELLS, np.int64)
table_address = address_of(table)

# What an array kernel is given, int64 each: addresses, and how many elements may be touched there. Those of an operand
# reach from its first to its last, as its strides have them; adjoints are contiguous, and have as many as their values.
CONTEXT = (
    "params", "n_params", "gemm64", "gemm32", "work", "a", "b", "c", "y", "n_a", "n_b", "n_c", "n_y", "y_bar", "k_bar",
    "lo", "hi", "failed_batch", "failed_index", "lapack", "memory", "n_memory", "begun", "n_k_bar",
)  # fmt: skip
_AT = {name: i for i, name in enumerate(CONTEXT)}

_FAMILIES = {
    ELEMENTWISE: "elementwise",
    REDUCTION: "reduction",
    ARRAY: "array",
}  # two may have an operation of one name
_ready: set[tuple[int, int, bool]] = set()


def is_ready(op: Op, code: int, reverse: bool) -> bool:
    """Whether `require` was called for this."""
    return (op.opcode, code, reverse) in _ready


def require(op: Op, code: int, reverse: bool) -> None:
    """Make `op`'s kernels for operands of dtype `code` callable: the forward one, or those of the reverse sweep."""
    key = op.opcode, code, reverse
    if key in _ready or op.family in (LAYOUT, HOST):
        return
    cell = (op.opcode * len(DTYPES) + code) * CELLS
    makers = {ELEMENTWISE: _elementwise, REDUCTION: _reduction, ARRAY: _array}
    for offset, value in makers[op.family](op, code, reverse):
        table[cell + offset] = value
    _ready.add(key)


def _scalar(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function or rule for compiled code: the operations it names become their scalar functions."""
    return native.inlined(function, lambda value: value.function if isinstance(value, Op) else None)


def _name(op: Op, code: int, part: str) -> str:
    return f"{op.name}-{_FAMILIES[op.family]}-{DTYPES[code].name}-{part}"


def _link(name: str, n_arguments: int, source: str, scope: dict[str, Any]) -> int:
    """The kernel with this source, in which these names are functions (made ready when it is compiled) and numbers."""

    def build() -> Callable[..., Any]:
        return native.define(source, "kernel", {n: _scalar(v) if callable(v) else v for n, v in scope.items()})

    return native.link(name, n_arguments, build, (source, *scope.items()))


def _function(op: Op, code: int) -> Callable[..., Any]:
    """What an operation does to elements of a dtype."""
    return op.integer if op.integer is not None and not DTYPES[code].is_floating_point else op.function


def _elementwise(op: Op, code: int, reverse: bool) -> Any:
    codes = op.signature(code)
    function = _function(op, code)
    if not reverse:
        yield (
            0,
            native.link_loops(
                _name(op, code, "forward"),
                lambda: _scalar(function),
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


def _link_partial(op: Op, code: int, k: int, rule: Callable[..., Any], codes: dict[str, int]) -> int:
    """The reverse kernel for operand `k`; `codes` are the dtypes of a, b, c and y."""
    read = "".join({"x": "a", "n": "b"}.get(v, v) for v in parameters(rule))
    bar, y_bar = codes["abc"[k]], codes["y"]
    return native.link_loops(
        _name(op, code, f"reverse-{'abc'[k]}"),
        lambda: _scalar(rule),
        tuple(codes[v] for v in read),
        bar,
        lambda scalar, parameters: loops.reverse_ir(scalar, parameters, read, codes, bar, y_bar),
        lambda function, makers: loops.plain_reverse(function, read, makers),
        (rule, read),
        extra=(y_bar,),
    )


_ACCUMULATE = """
def kernel(n, px, ps, step):
 x = {x}(px, n)
 if step == 1:
  s = {s}(ps, n)
  for i in range(n):
   s[i] = merge(s[i], term(x[i]))
  return
 if step == 2:
  s = {s}(ps, n)
  for i in range(n):
   s[i] = merge(s[i], x[i])
  return
 s = {s}(ps, 1)
 part = start
 for i in range(n):
  part = merge(part, term(x[i]))
 s[0] = merge(s[0], part)
"""


def _reduction(op: Op, code: int, reverse: bool) -> Any:
    maker = native.CODES[code]
    if reverse:
        rule = op.partials[0]
        if rule is not None:
            yield 1, _link_partial(op, code, 0, rule, dict.fromkeys("aby", code))
        return
    start = DTYPES[code].numpy.type(op.start)
    yield 3, struct.unpack("<q", start.tobytes().ljust(8, b"\0"))[0]
    yield (
        0,
        _link(
            _name(op, code, "accumulate"),
            4,
            _ACCUMULATE.format(x=maker, s=maker),
            {"merge": op.merge, "term": op.function, "start": start.item()},
        ),
    )
    if op.finish is not None:
        source = f"def kernel(m, ps, n):\n s = {maker}(ps, m)\n for i in range(m):\n  s[i] = f(s[i], n)\n"
        yield 2, _link(_name(op, code, "finish"), 3, source, {"f": op.finish})


def _array(op: Op, code: int, reverse: bool) -> Any:
    codes = op.signature(code)
    function = _function(op, code)
    if not reverse:
        yield 0, _link_array(_name(op, code, "forward"), op, function, codes, None)
        return
    for k, vjp in enumerate(op.vjps):
        if vjp is not None:
            yield 1 + k, _link_array(_name(op, code, f"reverse-{'abc'[k]}"), op, vjp, codes, k)


def _link_array(name: str, op: Op, function: Callable[..., Any], codes: tuple[int, ...], k: int | None) -> int:
    def array(name: str, code: int, length: str) -> str:
        return f"{native.CODES[code]}(at[{_AT[name]}], at[{_AT[length]}])"

    supplied = {name: f"at[{_AT[name]}]" for name in ("lo", "hi", "work", "lapack", "begun")}
    supplied["gemm"] = f"at[{_AT['gemm64' if codes[0] == FLOAT64.code else 'gemm32']}]"
    supplied["memory"] = array("memory", codes[0], "n_memory")
    supplied["status"] = f"array_i8(context + {8 * _AT['failed_batch']}, 2)"
    arguments = [f"array_i8(at[{_AT['params']}], at[{_AT['n_params']}])"]
    arguments += [supplied[name] for name in parameters(function) if name in supplied]
    arguments += [array(v, c, f"n_{v}") for v, c in zip("abc"[: op.arity], codes, strict=False)]
    arguments.append(array("y", codes[-1], "n_y"))
    if k is not None:
        arguments += [array("y_bar", codes[-1], "n_y"), array("k_bar", codes[k], "n_k_bar")]
    source = f"def kernel(context):\n at = i8(context, {len(CONTEXT)})\n f({', '.join(arguments)})\n"
    return _link(name, 1, source, {"f": function})


def warmup(progress: Callable[[Any], Any] = lambda steps: steps) -> int:
    """Compile the kernels that most programs need: every operation in float64, and the conversions.

    Returns how many operations.

    `progress` is given the list of steps and iterates over it (tqdm fits).
    """
    steps = [(op, FLOAT64.code) for op in OPS if op.family not in (LAYOUT, HOST) and "float64" not in op.refuses]
    steps += [(op, code) for op in OPS if op.name.startswith("to_") for code in (BOOL.code, INT64.code, FLOAT32.code)]
    for op, code in progress(steps):
        require(op, code, reverse=False)
        if any(rule is not None for rule in op.partials):
            require(op, code, reverse=True)
    return len(steps)


__all__ = ["CELLS", "CONTEXT", "cache", "native", "require", "table", "table_address", "warmup"]
