"""Functions of SciPy's that compiled code calls: by the addresses that `scipy.special` publishes for Cython.

Called from Python, one is the function itself. In compiled code it is a symbol, which is known to the linker once
`address` has been asked for it: SciPy is imported then, and not before.
"""

from __future__ import annotations

import ctypes
import importlib
import re
from typing import Any

_PREFIX = "scipy_special_"
_OF_DOUBLES = re.compile(rb"double \((double, )+int \w+\)")
_OF_TWO_RESULTS = re.compile(rb"void \((double, )+double \*, double \*\)")


class Foreign:
    """A function of `scipy.special` of so many float64, with a float64 for its value.

    Of one with two results the value is that of the place `result`.
    """

    def __init__(self, name: str, arity: int = 1, result: int | None = None) -> None:
        self.name, self.arity, self.symbol, self.result = name, arity, _PREFIX + name, result

    def __call__(self, *operands: Any) -> Any:
        """Compute it in Python."""
        found = getattr(importlib.import_module("scipy.special"), self.name)(*operands)
        return found if self.result is None else found[self.result]


def is_symbol(symbol: str) -> bool:
    """Whether a symbol is that of such a function."""
    return symbol.startswith(_PREFIX)


def address(symbol: str) -> int:
    """Where its code is. After its operands it takes an int, which means nothing to it, or where its two results go."""
    name = symbol.removeprefix(_PREFIX)
    capsules = importlib.import_module("scipy.special.cython_special").__pyx_capi__
    pointer, name_of = ctypes.pythonapi.PyCapsule_GetPointer, ctypes.pythonapi.PyCapsule_GetName
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    for published, capsule in capsules.items():
        form = name_of(capsule)
        known = re.sub(r"^__pyx_fuse_\d+(_\d+)?", "", published)
        if known == name and (_OF_DOUBLES.fullmatch(form) or _OF_TWO_RESULTS.fullmatch(form)):
            return int(pointer(capsule, form))
    raise ImportError(f"this version of SciPy publishes no {name} for Cython")
