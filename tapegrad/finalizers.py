"""Finalisers that Ctrl-C can't cut short: Python prints what is raised in a `__del__`, and drops it.

A class's `__del__` becomes a C function, which calls the Python function whose place it takes. Where KeyboardInterrupt
comes out of it, the function is called again, and the signal is raised anew: whoever is next to look for signals finds
it, outside.

Invariant: such a function can be called again wherever Ctrl-C may have ended it, so what it has done it notes before
anything is called.
"""

from __future__ import annotations

import ctypes
import types
from typing import Any

from tapegrad.cpython import UnknownLayoutError, function_address, is_usual, keep, slot_wrapper
from tapegrad.kernels import native

# Words that the C functions read: functions of the C API, the exception, then what is called for each class.
_API = (
    "PyErr_Fetch", "PyErr_Restore", "PyErr_ExceptionMatches", "PyErr_Clear", "PyErr_WriteUnraisable",
    "PyErr_SetInterrupt", "PyObject_CallOneArg", "Py_DecRef",
)  # fmt: skip
_INTERRUPT = len(_API)
_FIRST = _INTERRUPT + 1
_MOST = 3  # classes


def _stubs() -> str:
    """LLVM assembly: the words' address, and for each class a C function with the number of its word."""
    n = _FIRST + _MOST
    fetch, restore, matches, clear, unraisable, signal, call, let_go = (f"%{name}" for name in _API)
    words = [
        f" %at.{name[1:]} = getelementptr i64, ptr @words, i64 {k}\n"
        f" %word.{name[1:]} = load i64, ptr %at.{name[1:]}\n"
        f" {name} = inttoptr i64 %word.{name[1:]} to ptr"
        for k, name in enumerate((fetch, restore, matches, clear, unraisable, signal, call, let_go))
    ]
    lines = [
        f"@words = internal global [{n} x i64] zeroinitializer",
        "define i64 @finalizers() { ret i64 ptrtoint (ptr @words to i64) }",
        "define internal void @finalize(i64 %self, i64 %number) {",
        " %type = alloca i64\n %value = alloca i64\n %trace = alloca i64",
        *words,
        f" %at.kind = getelementptr i64, ptr @words, i64 {_INTERRUPT}\n %kind = load i64, ptr %at.kind",
        " %at.function = getelementptr i64, ptr @words, i64 %number\n %function = load i64, ptr %at.function",
        f" call void {fetch}(ptr %type, ptr %value, ptr %trace)\n br label %again",
        "again:\n %came = phi i1 [ false, %0 ], [ true, %interrupted ]",
        f" %result = call i64 {call}(i64 %function, i64 %self)",
        " %is_done = icmp ne i64 %result, 0\n br i1 %is_done, label %done, label %raised",
        f"raised:\n %is_it = call i32 {matches}(i64 %kind)\n %is_interrupt = icmp ne i32 %is_it, 0",
        " br i1 %is_interrupt, label %interrupted, label %wrong",
        f"interrupted:\n call void {clear}()\n br label %again",
        f"wrong:\n call void {unraisable}(i64 %function)\n br label %end",
        f"done:\n call void {let_go}(i64 %result)\n br label %end",
        "end:\n br i1 %came, label %signal, label %last",
        f"signal:\n call void {signal}()\n br label %last",
        "last:\n %a = load i64, ptr %type\n %b = load i64, ptr %value\n %c = load i64, ptr %trace",
        f" call void {restore}(i64 %a, i64 %b, i64 %c)\n ret void\n}}",
    ]
    lines += [
        f"define void @finalize_{k}(i64 %self) {{\n call void @finalize(i64 %self, i64 {_FIRST + k})\n ret void }}"
        for k in range(_MOST)
    ]
    return "\n".join(lines)


def shield(*owners: type) -> None:
    """Have the `__del__` of these classes called so, whole. Once.

    Where there is no compiler, or another Python, they stay as they are.
    """
    if not native.JIT or not is_usual():
        return
    assert len(owners) <= _MOST
    of_generators: Any = vars(types.GeneratorType)
    try:
        code = native.link_assembly("finalizers", _stubs)
        made = [
            slot_wrapper(owner, of_generators["__del__"], code.get_function_address(f"finalize_{k}"))
            for k, owner in enumerate(owners)
        ]
        addresses = [*map(function_address, _API)]
    except (AttributeError, UnknownLayoutError):
        return
    address = native.callable_at(code.get_function_address("finalizers"), 0)()
    words, functions = (ctypes.c_int64 * (_FIRST + _MOST)).from_address(address), [vars(o)["__del__"] for o in owners]
    for k, word in enumerate([*addresses, id(KeyboardInterrupt), *map(id, functions)]):
        words[k] = word
    keep((code, functions))
    for owner, finalizer in zip(owners, made, strict=True):
        setattr(owner, "__del__", finalizer)  # noqa: B010
