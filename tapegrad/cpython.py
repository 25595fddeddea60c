"""CPython's objects as native code handles them: what is known of them is measured, never assumed."""

from __future__ import annotations

import ctypes
import struct
import sys
from typing import Any

_object, _address = ctypes.py_object, ctypes.c_void_p


class UnknownLayoutError(Exception):
    """CPython's objects are not laid out as is known of them."""


def words_at(o: object) -> list[int]:
    """An object's memory."""
    return list((ctypes.c_int64 * (type(o).__basicsize__ // 8)).from_address(id(o)))


def is_usual() -> bool:
    """Whether this is CPython with its lock, on a machine whose addresses are words of eight bytes, the least first."""
    is_known = sys.implementation.name == "cpython" and struct.calcsize("P") == 8 and sys.byteorder == "little"
    return is_known and getattr(sys, "_is_gil_enabled", lambda: True)()


def function_address(name: str) -> int:
    """The address of a function of the C API."""
    return ctypes.cast(getattr(ctypes.pythonapi, name), _address).value or 0


def slot_wrapper(owner: type, of: Any, function: int) -> Any:
    """For a type and the C function at an address, what `of`, a slot wrapper of one of Python's types, is there.

    Such an attribute makes the function the type's own: no look-up of a method comes before it is called.
    """
    words = words_at(of)
    position = words.index(id(of.__objclass__))  # then come its name, its qualified name, its slot, and the function
    if len(words) != position + 5 or words[position + 1] != id(of.__name__):
        raise UnknownLayoutError
    slot = words[position + 3]
    if ctypes.string_at(ctypes.c_void_p.from_address(slot).value or 0) != of.__name__.encode():
        raise UnknownLayoutError
    make = ctypes.PYFUNCTYPE(_object, _object, _address, _address)(("PyDescr_NewWrapper", ctypes.pythonapi))
    return make(owner, slot, function)


def keep(o: object) -> None:
    """Never let go of it: handles may die after all modules have."""
    ctypes.pythonapi.Py_IncRef(_object(o))
