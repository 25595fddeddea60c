"""Functions made by Numba's `vectorize` and `guvectorize`, where differentiated code calls them.

Each becomes the loop that it stands for: over elements that are broadcast, or over the sub-arrays that its signature
names. As in Numba, their bodies divide as NumPy does, without raising.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from numba import njit
from numba.core import types
from numba.np.ufunc.dufunc import DUFunc
from numba.np.ufunc.gufunc import GUFunc
from numba.np.ufunc.sigparse import parse_signature

from tapegrad.jitted import rewriting
from tapegrad.jitted.active import Active, holds_active
from tapegrad.jitted.arrays import dims_of_operands, each
from tapegrad.jitted.errors import NotDifferentiableError, where_is_function
from tapegrad.jitted.inner import define
from tapegrad.jitted.library import Replacement, loop


@functools.cache
def replacement(function: Any) -> Replacement | None:
    """What stands for such a function; None for any other."""
    if isinstance(function, DUFunc):
        return Replacement(_choosing(_elementwise, function, function.nin), function, None)
    if isinstance(function, GUFunc):
        return Replacement(_choosing(_over_arrays, function, len(_core(function))), function, None)
    return None


def _choosing(choose: Callable[..., Any], function: Any, n: int) -> Callable[..., Any]:
    """A function of the types of `n` arguments by their names, that gives the code."""
    names = [f"a{k}" for k in range(n)]
    if isinstance(function, DUFunc):
        names.append("out")
    declared = ", ".join(f"{name}=None" if name == "out" else name for name in names)
    scope = {"choose": choose, "function": function}
    made: Callable[..., Any] = define(
        f"def chosen({declared}):\n return choose(function, {', '.join(names)})", "chosen", scope
    )
    return made


def _body(function: Any, options: dict[str, Any]) -> Any:
    """The function of elements, or of sub-arrays, as Numba compiles it."""
    kept = {name: options[name] for name in ("fastmath", "boundscheck") if name in options}
    return njit(error_model="numpy", **kept)(function)


def _refused(function: Any, where: Any, kinds: Any) -> NotDifferentiableError:
    return NotDifferentiableError(
        f"`{function.__name__}`, which declares no signature of {', '.join(map(str, kinds))}", where_is_function(where),
        "declare one of float64, or none",
    )  # fmt: skip


# --- elements ---------------------------------------------------------------------------------------------------------


def _elementwise(function: Any, *kinds: Any) -> Any:
    """The loop over elements of operands, and into `out`."""
    *kinds, out = kinds  # type: ignore[assignment]
    dims = dims_of_operands(*kinds) or (-1,) * len(kinds)
    declared = _declared(function, tuple(_plain_element(kind) for kind in kinds))
    scalar = _converting(function, declared)
    if out is None:
        return loop(scalar, *kinds) if max(dims) < 0 else loop(each(scalar, dims), *kinds)
    return loop(each(scalar, (*dims, out.ndim), into_last=True), *kinds, out)


def _plain_element(kind: Any) -> Any:
    return types.unliteral(rewriting.plain(kind.dtype if isinstance(kind, types.Array) else kind))


def _declared(function: Any, kinds: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """The types of the signature that is taken, where the function declares any."""
    if not function._frozen:
        return None
    found, _ = function.find_ewise_function(kinds)
    if found is None or found.return_type != types.float64:
        raise _refused(function, function._dispatcher.py_func, kinds)
    arguments: tuple[Any, ...] = found.args
    return arguments


@functools.cache
def _converting(function: Any, declared: tuple[Any, ...] | None) -> Any:
    """The function of elements, which converts plain ones to what it declares."""
    body = _body(function._dispatcher.py_func, function.targetoptions)
    if declared is None:
        return body
    names = [f"a{k}" for k in range(len(declared))]
    given = (f"float({a})" if kind == types.float64 else a for a, kind in zip(names, declared, strict=True))
    return njit(define(f"def scalar({', '.join(names)}):\n return body({', '.join(given)})", "scalar", {"body": body}))


# --- sub-arrays -------------------------------------------------------------------------------------------------------


def _core(function: Any) -> list[int]:
    """How many dimensions of each operand, and result, belong to the function."""
    inputs, outputs = parse_signature(function.signature)
    return [len(names) for names in (*inputs, *outputs)]


def _over_arrays(function: Any, *kinds: Any) -> Any:
    """The loop over sub-arrays: results are arrays that are given."""
    core = _core(function)
    if not all(isinstance(kind, types.Array) or (c == 0 and not holds_active(kind)) or isinstance(kind, Active)
               for kind, c in zip(kinds, core, strict=True)):  # fmt: skip
        return None
    n_in = len(parse_signature(function.signature)[0])
    wanted = function.gufunc_builder._sigs
    is_scalar = [c == 0 and k < n_in for k, c in enumerate(core)]
    if wanted:
        signatures = [getattr(sig, "args", sig) for sig in wanted]
        found = next((args for args in signatures if _fits(kinds, args)), None)
        if found is None:
            raise _refused(function, function.gufunc_builder.py_func, [_plain_element(kind) for kind in kinds])
        is_scalar = [not isinstance(kind, types.Array) for kind in found]
    dims = tuple(kind.ndim if isinstance(kind, types.Array) else -1 for kind in kinds)
    body = _body(function.gufunc_builder.py_func, function.gufunc_builder.targetoptions)
    return loop(_each_sub_array(body, dims, tuple(core), tuple(is_scalar), n_in), *kinds)


def _fits(kinds: Any, declared: Any) -> bool:
    """Whether a signature is for such operands: floats for those with derivatives."""
    for kind, wanted in zip(kinds, declared, strict=True):
        element = wanted.dtype if isinstance(wanted, types.Array) else wanted
        if _plain_element(kind) != element:
            return False
    return True


@functools.cache
def _each_sub_array(
    body: Any, dims: tuple[int, ...], core: tuple[int, ...], is_scalar: tuple[bool, ...], n_in: int
) -> Any:
    """A loop over the dimensions of operands that don't belong to the function."""
    names = [f"a{k}" for k in range(len(dims))]
    outer = [max(ndim, 0) - c for ndim, c in zip(dims, core, strict=True)]
    n = max(outer)
    lines = [f"def each({', '.join(names)}):"]
    for axis in range(n):
        lengths = [
            f"{a}.shape[{axis - (n - o)}]" for a, o in zip(names, outer, strict=True) if axis - (n - o) >= 0
        ]  # fmt: skip
        lines.append(f" n{axis} = {lengths[0]}")
        for length in lengths[1:]:
            lines += [f" if n{axis} == 1:", f"  n{axis} = {length}", f" if {length} != 1 and {length} != n{axis}:",
                      "  raise ValueError('unable to broadcast arguments')"]  # fmt: skip
    indent = " "
    for axis in range(n):
        lines.append(f"{indent}for i{axis} in range(n{axis}):")
        indent += " "
    given = []
    for k, (a, o, c) in enumerate(zip(names, outer, core, strict=True)):
        at = [f"i{axis} if {a}.shape[{axis - (n - o)}] != 1 else 0" for axis in range(n - o, n)]
        if dims[k] < 0:
            given.append(a)
        elif is_scalar[k] or c:
            given.append(f"{a}[{', '.join([*at, *[':'] * c])}]" if at or c == 0 else a)
        elif at:  # a number that is written to, as an array of one
            lines.append(f"{indent}j{k} = {at[-1]}")
            given.append(f"{a}[{', '.join([*at[:-1], f'j{k} : j{k} + 1'])}]")
        else:
            given.append(f"{a}.reshape(1)")
    lines.append(f"{indent}body({', '.join(given)})")
    return njit(define("\n".join(lines), "each", {"body": body}))


rewriting.REPLACED.append(replacement)
