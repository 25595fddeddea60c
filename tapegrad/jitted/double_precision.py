"""NumPy's functions of single precision that have no code of their own for it.

Their derivatives are those of the same function in double precision, at the same numbers; their values are the plain
call's, computed beside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numba.core import errors, types
from numba.core.registry import cpu_target
from numba.extending import overload
from numba.typed.typedobjectutils import _nonoptional

from tapegrad.jitted import library, rewriting
from tapegrad.jitted.active import Active, Narrow, is_active_array, is_narrow_array
from tapegrad.jitted.inner import OPTIONS, define
from tapegrad.jitted.lifting import laid_out, strip, with_value
from tapegrad.jitted.linalg import revalued
from tapegrad.jitted.single_precision import narrowed, widened


def widely(
    choose: Callable[[dict[str, Any]], Any], declared: str, kinds: dict[str, Any], original: Any, plainly: Any
) -> Any:
    """The code of a function of arguments of such types; None where there is none.

    `choose` gives the code for types, and `plainly` is the function for plain arguments, as code.
    """
    given = {name: kind for name, kind in kinds.items() if isinstance(kind, types.Type)}
    if _gives_nothing(plainly, given):
        return None
    code = choose({name: _wide_type(kind) for name, kind in kinds.items()})
    if code is None:
        return None
    names = [part.partition("=")[0] for part in declared.split(", ")]
    plain, doubles = (", ".join(f"{of}({name})" for name in names) for of in ("strip", "widen"))
    scope = {"strip": strip, "widen": widen, "like": like, "code": code, "plainly": plainly}
    text = f"def wide({declared}):\n plain = plainly({plain})\n return like(code({doubles}), plain)"
    return define(text, "wide", scope)


def _gives_nothing(plainly: Any, given: dict[str, Any]) -> bool:
    """Whether a function is called for what it does to its arguments, or doesn't take them."""
    try:
        found = cpu_target.typing_context.resolve_function_type(
            plainly, (), {name: rewriting.plain(kind) for name, kind in given.items()}
        )
    except errors.NumbaError:
        return True
    return found is None or found.return_type == types.none


def _wide_type(kind: Any) -> Any:
    if isinstance(kind, Narrow):
        return kind.part
    if is_narrow_array(kind):
        return types.Array(kind.dtype.part, kind.ndim, "C")
    if isinstance(kind, types.BaseTuple):
        return types.BaseTuple.from_types([_wide_type(part) for part in kind])
    return kind


def widen(x):
    """What is of single precision with derivatives, in double precision."""
    raise NotImplementedError


@overload(widen, OPTIONS)
def _widen(x):
    if isinstance(x, Narrow):
        return lambda x: widened(x)
    if is_narrow_array(x):
        copied = rewriting.active(_copied, x.dtype.part)
        return lambda x: copied(x)
    if isinstance(x, types.BaseTuple) and any(map(is_narrow_array, x)):
        items = ", ".join(f"widen(x[{k}])" for k in range(len(x)))
        return define(f"def over(x):\n return ({items},)", "over", {"widen": widen})
    return lambda x: x


@njit
def _copied(x):
    result = np.empty(x.shape)
    for at in np.ndindex(x.shape):
        result[at] = x[at]
    return result


def like(result, plain):
    """A result in double precision with the values, and the precision, of a plain one."""
    raise NotImplementedError


@overload(like, OPTIONS)
def _like(result, plain):
    if isinstance(result, Active):
        if plain == types.float32:
            return lambda result, plain: narrowed(with_value(result, np.float64(plain)))
        return lambda result, plain: with_value(result, plain)
    if is_active_array(result):
        shaped = rewriting.active(_narrow if plain.dtype == types.float32 else _same, result.dtype)
        return lambda result, plain: laid_out(shaped(result, plain), plain)
    if isinstance(result, types.BaseTuple):
        items = ", ".join(f"like(result[{k}], plain[{k}])" for k in range(len(result)))
        return define(f"def over(result, plain):\n return ({items},)", "over", {"like": like})
    if isinstance(result, types.Optional):
        return lambda result, plain: like(_nonoptional(result), _nonoptional(plain))
    element = getattr(plain, "dtype", plain)
    return (lambda result, plain: plain) if isinstance(element, (types.Integer, types.Boolean)) else None


@njit
def _same(result, plain):
    return revalued(result, plain)


@njit
def _narrow(result, plain):
    return revalued(result, plain).astype(np.float32)


library.WIDELY.append(widely)
