"""How NumPy's functions are given a meaning for active arrays.

Such a function is written as a user would write it, a loop over elements in plain code. It is differentiated like the
user's own code; what is recorded is what the loop records, one row for a sum. A `replacement` chooses the loop by the
types of the arguments, and gives way to NumPy's own function where none of them is active.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from numba.core import types
from numba.core.errors import NumbaError
from numba.core.registry import cpu_target
from numba.extending import overload

from tapegrad.jitted import checking, rewriting
from tapegrad.jitted.active import Active, Complex, Narrow, holds_active, holds_narrow, is_instance
from tapegrad.jitted.inner import OPTIONS, define, inside
from tapegrad.jitted.lifting import in_fortrans_order

FALLBACK: list[Callable[..., Any]] = []  # what has code for functions whose replacement has none: `overloads.py`
WIDELY: list[Callable[..., Any]] = []  # what has code for single precision: `double_precision.py`
BY_NAME = {"kind"}  # Numba takes it so alone


class Replacement:
    """What stands for a function of NumPy's in differentiated code."""

    def __init__(
        self, choose: Callable[..., Any], original: Any, method: str | None, has_kind: bool = False,
        is_single: bool = False,
    ) -> None:  # fmt: skip
        self.choose, self.original, self.method, self.has_kind = choose, original, method, has_kind
        self.is_single = is_single
        self.of = functools.cache(self._of)
        self.signature = inspect.Signature([*inspect.signature(choose).parameters.values()][has_kind:])

    def takes(self, call: Any) -> bool:
        """Whether it may be what a method's call means, by its arguments: a user's class has others, perhaps."""
        try:
            self.signature.bind(None, *call.args, **dict(call.kws))
        except TypeError:
            return call.vararg is not None
        return True

    def _of(self, kind: Active) -> Any:
        """The function for jitted code; the same for all active types, unless it makes arrays of nothing."""
        return _stub(self.choose, self.original, self.method, kind if self.has_kind else None, self.is_single)


def replaces(
    *functions: Any, method: str | None = None, needs_kind: bool = False, is_single: bool = False
) -> Callable[[Any], Any]:
    """Declare what replaces functions of NumPy's, and a method of arrays.

    The decorated function is called with the types of the arguments (after the active type, if it needs it) and returns
    the code to take, or None where there is none. It is asked about arrays of single precision if it says that it
    knows these.
    """

    def declare(choose: Callable[..., Any]) -> Callable[..., Any]:
        for function in filter(None, functions):
            made = Replacement(choose, function, None, needs_kind, is_single)
            rewriting.FUNCTIONS[function] = made
        if method is not None:
            rewriting.METHODS[method] = Replacement(choose, next(iter(functions), None), method, needs_kind, is_single)
        return choose

    return declare


@functools.cache
def _stub(choose: Callable[..., Any], original: Any, method: str | None, kind: Active | None, is_single: bool) -> Any:
    parameters = list(inspect.signature(choose).parameters.values())[0 if kind is None else 1 :]
    declared = ", ".join(p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in parameters)

    def chosen(given: dict[str, Any]) -> Any:
        kinds = {p.name: _plain(given[p.name], p.default) for p in parameters}
        code = code_for(given, kinds)
        if code is None or not _is_in_fortrans_order(parameters, kinds, original, method):
            return code
        scope = {"inner": inside(code), "in_fortrans_order": in_fortrans_order}
        names = ", ".join(p.name for p in parameters)
        return define(f"def code({declared}):\n return in_fortrans_order(inner({names}))", "code", scope)

    def code_for(given: dict[str, Any], kinds: dict[str, Any]) -> Any:
        if method is not None and is_instance(kinds[parameters[0].name]):  # whose method only has NumPy's name
            return _original(parameters, declared, kinds, original, method)
        is_ours = kind is not None or any(holds_active(k) for k in kinds.values())
        is_known = is_ours and (is_single or not any(map(holds_narrow, kinds.values())))
        code = (choose(**kinds) if kind is None else choose(kind, **kinds)) if is_known else None
        if code is not None:
            return _with_parameters(code, declared)
        if not is_ours or not any(holds_active(k) for k in kinds.values()):
            return _original(parameters, declared, kinds, original, method)
        if kind is None and any(map(holds_narrow, kinds.values())):
            plainly = inside(_original(parameters, declared, kinds, original, method))
            code = WIDELY[0](in_double, declared, kinds, original, plainly)
        if code is None and original is not None:
            code = FALLBACK[0](original, declared, given, kinds)
        return code

    def in_double(kinds: dict[str, Any]) -> Any:
        code = choose(**kinds)
        if code is not None:
            return inside(_with_parameters(code, declared))
        given = {name: k for name, k in kinds.items() if isinstance(k, types.Type)}
        code = None if original is None else FALLBACK[0](original, declared, given, kinds)
        return None if code is None else inside(code)

    scope: dict[str, Any] = {"chosen": chosen}
    stub = define(f"def stub({declared}):\n raise NotImplementedError", "stub", {})
    typed = define(f"def typed({declared}):\n return chosen(locals())", "typed", scope)
    stub.__name__, stub.stands_for = str(method or original.__name__), original
    overload(stub, OPTIONS, prefer_literal=True)(typed)
    checking.make_known(stub)
    return stub


def _plain(kind: Any, default: Any) -> Any:
    """The type of an argument; its default where it isn't given, or None is."""
    if isinstance(kind, types.Omitted):
        return kind.value
    if kind is default or isinstance(kind, types.NoneType):
        return None if isinstance(kind, types.NoneType) else default
    return kind


def _original(parameters: Any, declared: str, kinds: dict[str, Any], original: Any, method: str | None) -> Any:
    """NumPy's own function, with the arguments that were given."""
    given = [p.name for p in parameters if p.default is p.empty or kinds[p.name] is not p.default]
    positional, named = [], []
    for k, p in enumerate(parameters):
        if p.name in given:
            is_next = given[: k + 1] == [q.name for q in parameters[: k + 1]]
            (positional if is_next and p.name not in BY_NAME else named).append(p.name)
    arguments = ", ".join([*positional, *(f"{name}={name}" for name in named)])
    call = f"original({arguments})"
    if method is not None:
        first, _, rest = arguments.partition(", ")
        call = f"{first}.{method}({rest})"
    scope = {"original": original}
    return define(f"def code({declared}):\n return {call}", "code", scope)


def _is_in_fortrans_order(parameters: Any, kinds: dict[str, Any], original: Any, method: str | None) -> bool:
    """Whether the plain function makes an array in Fortran's order of such: sums, say, go through it in its order."""
    if not any(part.layout == "F" for kind in kinds.values() for part in _arrays_in(kind)):
        return False
    given = [p for p in parameters if p.default is p.empty or kinds[p.name] is not p.default]
    positional = [kinds[p.name] for p, q in zip(given, parameters, strict=False) if p is q]
    named = {p.name: kinds[p.name] for p in given[len(positional) :]}
    if not all(isinstance(kind, types.Type) for kind in (*positional, *named.values())):
        return False
    of, *rest = map(rewriting.plain, positional)
    context = cpu_target.typing_context
    try:
        if method is None:
            found = context.resolve_function_type(original, (of, *rest), named)
        else:
            found = context.resolve_getattr(of, method).get_call_type(context, tuple(rest), named)
    except NumbaError:
        return False
    returns = getattr(found, "return_type", None)
    return isinstance(returns, types.Array) and returns.layout == "F"


def _arrays_in(kind: Any) -> list[Any]:
    """The types of arrays that are an argument, or its items."""
    return [part for part in (kind if isinstance(kind, types.BaseTuple) else (kind,)) if isinstance(part, types.Array)]


def _with_parameters(code: Callable[..., Any], declared: str) -> Any:
    """`code` may take fewer parameters than the function: those it needs, by name; or the first, by position."""
    wanted, names = list(inspect.signature(code).parameters), [p.split("=")[0] for p in declared.split(", ")]
    if not set(wanted) <= set(names):
        wanted = names[: len(wanted)]
    scope = {"inner": code if hasattr(code, "py_func") else inside(code)}
    return define(f"def code({declared}):\n return inner({', '.join(wanted)})", "code", scope)


def loop(kernel: Any, *kinds: Any) -> Any:
    """A loop in plain code, differentiated for the active type found in the arguments' types."""
    return rewriting.active(kernel, active_in(*kinds))


def active_in(*kinds: Any) -> Active:
    """The active type that is in there."""
    for kind in kinds:
        if isinstance(kind, Active):
            return kind
        if isinstance(kind, (Complex, Narrow)):
            return kind.part
        for name in ("dtype", "types"):
            part = getattr(kind, name, None)
            parts = part if isinstance(part, (tuple, list)) else (part,)
            inside = [p for p in parts if isinstance(p, types.Type) and holds_active(p)]
            if inside:
                return active_in(*inside)
    raise AssertionError("no active type")


def constant(kind: Any) -> Any:
    """The value of an argument that is known when compiling: an int, None; a TypeError tells that it isn't."""
    if kind is None or isinstance(kind, (int, bool)):
        return kind
    if isinstance(kind, (types.IntegerLiteral, types.BooleanLiteral)):
        return kind.literal_value
    raise TypeError("not known when compiling")
