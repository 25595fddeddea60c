"""Functions that are overloads: Numba's own of NumPy's, and those of users.

Most of what Numba has of NumPy is plain code, chosen by the types of arguments: `np.cov` is sums and a product. Where
nothing of ours stands for such a function, its own code, as it is chosen for plain arguments, is differentiated like
the user's: so its values, and what it raises, are those of the plain call. What code can't be differentiated is refused
as any other. Functions made by `register_jitable` are code that stands for itself.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
import types as pytypes
from typing import Any

import numpy as np
from numba import njit
from numba.core import errors, types
from numba.core.ccallback import CFunc
from numba.core.registry import CPUDispatcher, cpu_target
from numba.extending import overload

from tapegrad.jitted import checking, library, rewriting
from tapegrad.jitted.active import Active, holds_active, holds_narrow
from tapegrad.jitted.inner import OPTIONS, define, inside

_OURS, _SPECIAL = "tapegrad.", "tapegrad.jitted.special"
_RANDOM = "numpy.random", "random"  # what a draw is, of parameters with derivatives, isn't decided here
_MOVING = "shuffle", "permutation", "choice"  # these draw places


class Jitable:
    """A function that is compiled wherever it is named."""

    def __init__(self, function: Any) -> None:
        self.jitted = function

    def of(self, kind: Active) -> Any:
        """The function for active scalars."""
        return rewriting.active(self.jitted, kind)


class _Overloaded:
    """A function that is chosen by types."""

    def __init__(self, function: Any, parameters: str) -> None:
        self.function, self.parameters = function, parameters
        self.of = functools.cache(self._of)

    def _of(self, kind: Active) -> Any:
        scope: dict[str, Any] = {"chosen": lambda given: self._chosen(kind, given)}
        stub = define(f"def stub({self.parameters}):\n raise NotImplementedError", "stub", {})
        typed = define(f"def typed({self.parameters}):\n return chosen(locals())", "typed", scope)
        stub.__name__ = self.function.__name__
        overload(stub, OPTIONS)(typed)
        checking.make_known(stub)
        return stub

    def _chosen(self, kind: Active, given: dict[str, Any]) -> Any:
        kinds = {name: k for name, k in given.items() if isinstance(k, types.Type) and not isinstance(k, types.Omitted)}
        if not any(map(holds_active, kinds.values())):
            code = self.function
        else:
            code = self._in_single_precision(kind, kinds) if any(map(holds_narrow, kinds.values())) else None
            if code is not None:
                return code
            code = own_code(self.function, kinds)
            if code is None:
                return None
            code = rewriting.active(code, kind)
        return calling(code, self.parameters, list(kinds))

    def _in_single_precision(self, kind: Active, kinds: dict[str, Any]) -> Any:
        given = list(kinds)

        def in_double(wide: dict[str, Any]) -> Any:
            code = own_code(self.function, wide)
            return None if code is None else inside(calling(rewriting.active(code, kind), self.parameters, given))

        plainly = inside(calling(self.function, self.parameters, given))
        return library.WIDELY[0](in_double, self.parameters, kinds, self.function, plainly)


def calling(code: Any, parameters: str, given: list[str]) -> Any:
    """A function of all parameters that calls code with those that were given."""
    arguments = ", ".join(given if _are_first(parameters, given) else (f"{name}={name}" for name in given))
    return define(f"def calling({parameters}):\n return code({arguments})", "calling", {"code": code})


def _are_first(parameters: str, given: list[str]) -> bool:
    names = [part.partition("=")[0] for part in parameters.split(", ")]
    return names[: len(given)] == given


def own_code(function: Any, kinds: dict[str, Any]) -> Any:
    """The jitted function that a function is, for arguments of types in which float64 stands for what is active."""
    plain = {name: rewriting.plain(kind) for name, kind in kinds.items()}
    for template in _templates(function):
        choose = template._overload_func
        try:
            found = choose(*plain.values()) if _are_first(_declared(choose), list(plain)) else choose(**plain)
        except (errors.NumbaError, TypeError, AttributeError):  # it isn't for these types
            continue
        if isinstance(found, pytypes.FunctionType):
            return _jitted(found, template)
        if isinstance(found, CPUDispatcher):
            return found
    return None


def _jitted(function: Any, template: Any) -> Any:
    options = {name: value for name, value in template._jit_options.items() if name in ("fastmath", "error_model")}
    return njit(**options)(function)


def _templates(function: Any) -> list[Any]:
    """What chooses a function's code."""
    context = cpu_target.typing_context
    try:
        kind = context.resolve_value_type(function)
    except (errors.NumbaError, TypeError, ValueError):
        return []
    templates = getattr(kind, "templates", ()) if isinstance(kind, types.Function) else ()
    return [template for template in templates if hasattr(template, "_overload_func") and not _is_ours(template)]


def _is_ours(template: Any) -> bool:
    return str(template._overload_func.__module__).startswith(_OURS)


@functools.cache
def replacement(function: Any) -> Jitable | _Overloaded | None:
    """What stands for a function that has overloads of others, or for a C callback; None for any other."""
    if isinstance(function, CFunc):
        return Jitable(njit(function._sig)(function._pyfunc))
    if not callable(function) or isinstance(function, (type, np.ufunc, CPUDispatcher)) or function in checking.ALLOWED:
        return None
    module, name = getattr(function, "__module__", None), getattr(function, "__name__", "")
    if not isinstance(module, str) or module.startswith(_OURS):
        return None
    if name not in _MOVING and (module.startswith(_RANDOM) or getattr(np.random, name, None) == function):
        return None
    templates = _templates(function)
    if not templates:
        return None
    if isinstance(function, pytypes.FunctionType) and templates[0]._overload_func.__name__ == "ov_wrap":
        return Jitable(_jitted(function, templates[0]))
    parameters = _parameters(templates[0]._overload_func)
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD, p.KEYWORD_ONLY) for p in parameters):
        return None
    if not all(p.default is p.empty or isinstance(p.default, (int, float, str, type(None))) for p in parameters):
        return None
    return _Overloaded(function, _declared(templates[0]._overload_func))


def _parameters(choose: Any) -> list[inspect.Parameter]:
    return list(inspect.signature(choose).parameters.values())


def _declared(choose: Any) -> str:
    """The parameters of what chooses code, as text."""
    return ", ".join(p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in _parameters(choose))


def fallback(function: Any, declared: str, given: dict[str, Any], kinds: dict[str, Any]) -> Any:
    """Code for a function of which a replacement has none."""
    known = {name: k for name, k in given.items() if isinstance(k, types.Type) and not isinstance(k, types.Omitted)}
    code = own_code(function, known)
    if code is None:
        return None
    return calling(rewriting.active(code, library.active_in(*kinds.values())), declared, list(known))


def _special(function: Any) -> Any:
    """What stands for a special function, if it is known as soon as `special.py` is imported."""
    module = str(getattr(function, "__module__", None))
    is_scipys = isinstance(function, np.ufunc) and getattr(np, function.__name__, None) is not function
    if _SPECIAL in sys.modules or not (is_scipys or module.startswith(("tapegrad.special", "scipy.special"))):
        return None
    importlib.import_module(_SPECIAL)
    checking.refresh()
    return rewriting.FUNCTIONS.get(function)


library.FALLBACK.append(fallback)
rewriting.REPLACED.append(_special)
rewriting.REPLACED.append(replacement)
