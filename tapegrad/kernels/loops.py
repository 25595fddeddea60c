"""Loops around scalar functions: the kernels of elementwise operations, as LLVM IR.

Numba compiles the scalar function alone; the loops around it are written here, a text each. Beside a kernel whose loops
Numba compiles too, that takes a third of the time, says `noalias` (so nothing is checked before a loop may be
vectorised), and gives a loop of its own to an operand that is one number: it stays in a register of the processor.

    forward  (n, mode, a, b, c, y)                         y[i] = f(a[i], b[i], c[i])
    reverse  (n, mode, a, b, c, y, y_bar, k_bar)           k_bar[i] = y_bar[i] f(...)      FRESH
                                                           k_bar[i] += y_bar[i] f(...)

In these products zero times anything is zero, infinities and nan too: see the conventions in `ops`.

`mode` holds a bit for each operand that is one number (A, B, C, Y: 1, 2, 4, 8) and FRESH. Which single numbers a kernel
has loops for is `single_modes`; others are spread over a register first. An output may share memory with no input.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

FRESH = 16
_BIT = {"a": 1, "b": 2, "c": 4, "y": 8}
_TYPES = ("i8", "i32", "i64", "float", "double", "i8", "i8", "i16")  # of each dtype code, in memory


def single_modes(operands: str) -> tuple[int, ...]:
    """The operands, as bits, that may be one number: either of two, and one beside the adjoint."""
    return tuple(_BIT[v] for v in operands) if len(operands) == 2 else ()


def partial_modes(read: str) -> tuple[int, ...]:
    """The operands, as bits, that may be one number where a partial reads these: a single one."""
    return (_BIT[read],) if len(read) == 1 and read != "y" else ()


def forward_ir(scalar: str, parameters: list[str], codes: tuple[int, ...]) -> str:
    """IR of `kernel`, which calls `scalar`; `parameters` are its parameters' types, `codes` those of operands and y."""
    operands = "abc"[: len(parameters)]
    values = dict(zip(operands, zip(codes, parameters, strict=False), strict=True))
    loops = [(mode, _loop(mode, values, scalar, codes[-1], None)) for mode in (0, *single_modes(operands))]
    return _kernel(scalar, parameters, ("a", "b", "c", "y"), loops)


def reverse_ir(scalar: str, parameters: list[str], read: str, codes: dict[str, int], bar: int, y_bar: int) -> str:
    """IR of a partial's kernel: `read` is what it reads, `codes` their dtypes, `bar` and `y_bar` those of adjoints."""
    values = {v: (codes[v], t) for v, t in zip(read, parameters, strict=True)}
    modes = [mode | fresh for mode in (0, *partial_modes(read)) for fresh in (0, FRESH)]
    loops = [(mode, _loop(mode, values, scalar, bar, y_bar)) for mode in modes]
    return _kernel(scalar, parameters, ("a", "b", "c", "y", "y_bar", "k_bar"), loops)


def _kernel(scalar: str, parameters: list[str], pointers: tuple[str, ...], loops: list[tuple[int, str]]) -> str:
    cases = " ".join(f"i64 {mode}, label %enter{mode}" for mode, _ in loops[1:])
    body = "\n".join(text for _, text in loops)
    return f"""
declare i32 @"{scalar}"({", ".join(["ptr", "ptr", *parameters])})
define void @kernel(i64 %n, i64 %mode, {", ".join(f"ptr noalias %{p}" for p in pointers)}) {{
entry:
  %result = alloca i64
  %some = icmp sgt i64 %n, 0
  br i1 %some, label %choose, label %exit
choose:
  switch i64 %mode, label %enter0 [ {cases} ]
{body}
exit:
  ret void
}}
"""


def _loop(mode: int, values: dict[str, tuple[int, str]], scalar: str, out: int, y_bar: int | None) -> str:
    """One loop: `values` are what the scalar function takes, by the names of their pointers, with dtypes and types."""
    before: list[str] = []
    within: list[str] = []
    for v, (code, kind) in values.items():
        where, at = (before, "0") if mode & _BIT[v] else (within, f"%i{mode}")
        where += _load(f"{v}{mode}", v, code, at)
        if kind == "i1":
            where.append(f"%v{v}{mode}.b = icmp ne i8 %v{v}{mode}, 0")
    arguments = "".join(f", {kind} %v{v}{mode}{'.b' if kind == 'i1' else ''}" for v, (_, kind) in values.items())
    kind = _TYPES[out]
    within.append(f'%status{mode} = call i32 @"{scalar}"(ptr %result, ptr null{arguments})')
    within.append(f"%value{mode} = load {kind}, ptr %result")
    result = f"%value{mode}"
    if y_bar is not None:
        within += _load(f"g{mode}", "y_bar", y_bar, f"%i{mode}")
        given = f"%vg{mode}"
        if y_bar != out:
            how = "fpext" if out > y_bar else "fptrunc"
            within.append(f"%wide{mode} = {how} {_TYPES[y_bar]} {given} to {kind}")
            given = f"%wide{mode}"
        within.append(f"%product{mode} = fmul {kind} {given}, {result}")
        within.append(f"%taken{mode} = fcmp une {kind} {result}, 0.0")
        taken = f"%taken{mode}"
        if values:  # a constant other than zero needs no more
            within.append(f"%reached{mode} = fcmp une {kind} {given}, 0.0")
            within.append(f"%counts{mode} = and i1 %taken{mode}, %reached{mode}")
            taken = f"%counts{mode}"
        within.append(f"%part{mode} = select i1 {taken}, {kind} %product{mode}, {kind} 0.0")
        result = f"%part{mode}"
        if not mode & FRESH:
            within += _load(f"k{mode}", "k_bar", out, f"%i{mode}")
            within.append(f"%sum{mode} = fadd {kind} %vk{mode}, {result}")
            result = f"%sum{mode}"
    target = "y" if y_bar is None else "k_bar"
    within.append(f"%to{mode} = getelementptr {kind}, ptr %{target}, i64 %i{mode}")
    within.append(f"store {kind} {result}, ptr %to{mode}")
    lines = [
        f"enter{mode}:", *before, f"br label %loop{mode}",
        f"loop{mode}:", f"%i{mode} = phi i64 [0, %enter{mode}], [%next{mode}, %loop{mode}]", *within,
        f"%next{mode} = add nuw nsw i64 %i{mode}, 1", f"%more{mode} = icmp slt i64 %next{mode}, %n",
        f"br i1 %more{mode}, label %loop{mode}, label %exit",
    ]  # fmt: skip
    return "\n".join(lines)


def _load(name: str, pointer: str, code: int, at: str) -> list[str]:
    kind = _TYPES[code]
    return [f"%p{name} = getelementptr {kind}, ptr %{pointer}, i64 {at}", f"%v{name} = load {kind}, ptr %p{name}"]


def plain_forward(function: Callable[..., Any], makers: list[Callable[..., Any]]) -> Callable[..., None]:
    """The forward kernel in Python; `makers` make arrays of the operands and of y."""

    def kernel(n: int, mode: int, *addresses: int) -> None:
        *arrays, y = _arrays(n, mode, addresses[: len(makers) - 1] + addresses[3:], makers)
        for i in range(n):
            y[i] = function(*(array[i] for array in arrays))

    return kernel


def plain_reverse(function: Callable[..., Any], read: str, makers: list[Callable[..., Any]]) -> Callable[..., None]:
    """The reverse kernel in Python; `makers` make arrays of what is read, of y_bar and of k_bar."""

    def kernel(n: int, mode: int, a: int, b: int, c: int, y: int, y_bar: int, k_bar: int) -> None:
        given = {"a": a, "b": b, "c": c, "y": y}
        single = sum(1 << k for k, v in enumerate(read) if mode & _BIT[v])
        *arrays, g, bar = _arrays(n, single, (*(given[v] for v in read), y_bar, k_bar), makers)
        for i in range(n):
            given, partial = bar.dtype.type(g[i]), bar.dtype.type(function(*(array[i] for array in arrays)))
            part = given * partial if given != 0 and partial != 0 else bar.dtype.type(0)
            bar[i] = part if mode & FRESH else bar[i] + part

    return kernel


def _arrays(n: int, single: int, addresses: tuple[int, ...], makers: list[Callable[..., Any]]) -> list[Any]:
    import numpy as np

    return [
        np.broadcast_to(make(address, 1), (n,)) if single >> k & 1 else make(address, n)
        for k, (make, address) in enumerate(zip(makers, addresses, strict=True))
    ]
