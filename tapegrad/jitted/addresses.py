"""SciPy's special functions that jitted code calls by their addresses.

That is how Numba's manual calls them: through ctypes, or through objects that tell an address and a signature. Values
are what the code at the address gives; derivatives are those of the operation of that name.
"""

from __future__ import annotations

import ctypes
import functools
import re
import sys
from typing import Any, NamedTuple

from numba import njit
from numba.core import types
from numba.extending import get_cython_function_address

from tapegrad.jitted import checking, rewriting
from tapegrad.jitted.inner import define

_MODULE = "scipy.special.cython_special"
_DECLARED = re.compile(r"double \((double, )+int __pyx_skip_dispatch\)")  # of functions of doubles, as Cython writes it


@functools.cache
def _names() -> dict[int, str]:
    """The names of SciPy's functions of doubles, by their addresses."""
    declaration = ctypes.pythonapi.PyCapsule_GetName
    declaration.restype, declaration.argtypes = ctypes.c_char_p, [ctypes.py_object]
    return {
        get_cython_function_address(_MODULE, name): re.sub(r"^__pyx_fuse_\d", "", name)
        for name, capsule in sys.modules[_MODULE].__pyx_capi__.items()
        if _DECLARED.fullmatch(declaration(capsule).decode())
    }


def _address(function: Any) -> tuple[int, int] | None:
    """Where the code of a function of doubles is that Numba calls by its address, and of how many; None of others."""
    if isinstance(function, types.WrapperAddressProtocol):
        declared = function.signature()
        kinds, address = [declared.return_type, *declared.args], function.__wrapper_address__()
        is_of_doubles = set(kinds) == {types.float64}
    elif isinstance(function, ctypes._CFuncPtr):  # type: ignore[attr-defined]
        kinds, address = [function.restype, *(function.argtypes or ())], ctypes.cast(function, ctypes.c_void_p).value
        is_of_doubles = set(kinds) == {ctypes.c_double}
    else:
        return None
    return (address, len(kinds) - 1) if is_of_doubles else None


class _Declared(NamedTuple):
    """A function that is known to Numba for all active types at once."""

    function: Any

    def of(self, kind: Any) -> Any:
        """The function for jitted code."""
        return self.function


_KNOWN: dict[int, _Declared | None] = {}  # what stands for the function at an address


def _replacement(function: Any) -> _Declared | None:
    found = _address(function) if _MODULE in sys.modules else None  # where it is not, nobody has an address in it
    if found is None:
        return None
    address, arity = found
    if address not in _KNOWN:
        _KNOWN[address] = _declared(function, _names().get(address), arity)
    return _KNOWN[address]


def _declared(function: Any, name: str | None, arity: int) -> _Declared | None:
    from tapegrad.jitted import special  # which takes a while to import

    op = special.OPERATIONS.get(name)
    if op is None or op.arity != arity:
        return None
    given = ", ".join("abcd"[:arity])
    plain = njit(define(f"def plain({given}):\n return function({given})", "plain", {"function": function}))
    stub = define(f"def {name}({given}):\n raise NotImplementedError", str(name), {})
    special.declare(op, stub, plain)
    checking.refresh()
    return _Declared(stub)


rewriting.REPLACED.append(_replacement)
rewriting.WITHOUT_HASH.append(_replacement)
