"""Functions that are run several times as if they were run once.

Forward mode runs a function for every few numbers that it is differentiated by. Each run draws the same random numbers
and meets its arguments as they were: what the first run changed is put back before the next. What the last one leaves
is then what one run would leave.

What is printed can't be taken back, nor what happens to an argument that nobody here can copy, a random generator say:
functions of which that may be are run once, in another mode or for all numbers together (`is_seen`).
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numba import _helperlib
from numba.core import cgutils, types
from numba.core.registry import CPUDispatcher
from numba.cpython import randomimpl
from numba.extending import intrinsic, overload
from numba.typed import Dict, List

from tapegrad import trees
from tapegrad.jitted import bindings
from tapegrad.jitted.active import WORD, is_active_array
from tapegrad.jitted.inner import OPTIONS, define

_STATE = 2520  # bytes of a generator of Numba's, of which there are two in each thread: NumPy's and Python's

# --- in compiled code -------------------------------------------------------------------------------------------------


def _copy_states(to_memory: bool) -> Any:
    @intrinsic
    def copy_states(typingctx: Any, memory: Any) -> Any:
        """Copy this thread's random states into an array of bytes, or back."""

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            array = context.make_array(sig.args[0])(context, builder, args[0])
            for k, name in enumerate(("np", "py")):
                state = builder.bitcast(randomimpl.get_state_ptr(context, builder, name), cgutils.voidptr_t)
                kept = cgutils.pointer_add(builder, array.data, WORD(k * _STATE), cgutils.voidptr_t)
                target, source = (kept, state) if to_memory else (state, kept)
                cgutils.raw_memcpy(builder, target, source, WORD(_STATE), WORD(1))
            return context.get_dummy_value()

        return types.void(memory), codegen

    return copy_states


save_states, load_states = _copy_states(True), _copy_states(False)


def kept_states():
    """The random states of this thread."""
    raise NotImplementedError


@overload(kept_states, OPTIONS)
def _kept_states():
    def keep():
        memory = np.empty(2 * _STATE, np.uint8)
        save_states(memory)
        return memory

    return keep


_CONTAINERS = (types.List, types.ListType, types.DictType)


def before(x, is_repeated):
    """A copy of what a run may change in an argument; of nothing, where there is one run only."""
    raise NotImplementedError


@overload(before, OPTIONS)
def _before(x, is_repeated):
    if isinstance(x, types.BaseTuple):
        items = "".join(f"before(x[{i}], is_repeated), " for i in range(len(x)))
        return define(f"def each(x, is_repeated):\n return ({items})", "each", {"before": before})
    if isinstance(x, types.Array) and x.mutable and not is_active_array(x):
        if x.ndim == 0:
            return lambda x, is_repeated: x.copy()
        return lambda x, is_repeated: x[: x.shape[0] if is_repeated else 0].copy()
    return (lambda x, is_repeated: x.copy()) if isinstance(x, _CONTAINERS) else (lambda x, is_repeated: None)


def put_back(x, kept):
    """Let an argument be what it was."""
    raise NotImplementedError


@overload(put_back, OPTIONS)
def _put_back(x, kept):
    if isinstance(x, types.BaseTuple):
        lines = [f" put_back(x[{i}], kept[{i}])" for i in range(len(x))]
        return define("\n".join(["def each(x, kept):", *lines, " return None"]), "each", {"put_back": put_back})
    if isinstance(kept, types.Array):

        def array_back(x, kept):
            x[...] = kept

        return array_back
    if isinstance(kept, types.DictType):

        def dictionary_back(x, kept):
            x.clear()
            x.update(kept)

        return dictionary_back
    if isinstance(kept, _CONTAINERS):

        def list_back(x, kept):
            x.clear()
            x.extend(kept)

        return list_back
    return lambda x, kept: None


# --- from Python ------------------------------------------------------------------------------------------------------


def states() -> tuple[bytes, bytes]:
    """The random states of this thread."""
    np_state, py_state = (ctypes.string_at(address, _STATE) for address in _addresses())
    return np_state, py_state


def _addresses() -> tuple[int, int]:
    return _helperlib.rnd_get_np_state_ptr(), _helperlib.rnd_get_py_state_ptr()


@contextlib.contextmanager
def again(drawn_from: tuple[bytes, bytes]) -> Iterator[None]:
    """Draw the random numbers that were drawn from states; behind it the states are what they were before it."""
    present = states()
    _set(drawn_from)
    try:
        yield
    finally:
        _set(present)


def _set(wanted: tuple[bytes, bytes]) -> None:
    for address, state in zip(_addresses(), wanted, strict=True):
        ctypes.memmove(address, state, _STATE)


def is_seen(prints: bool, args: Sequence[Any]) -> str | None:
    """What would tell that a function was run several times, which prints or not; None if nothing would."""
    if prints:
        return "prints"
    changed = next((a for a in trees.leaves(list(args)) if not _is_put_back(a)), None)
    return None if changed is None else f"takes a {type(changed).__name__}"


def _is_put_back(leaf: Any) -> bool:
    if isinstance(leaf, np.ndarray):
        return leaf.dtype.kind in "biufcV"
    if isinstance(leaf, (List, Dict)):
        held = [leaf._dtype] if isinstance(leaf, List) else list(leaf._numba_type_.keyvalue_type)
        return all(isinstance(kind, (types.Number, types.Boolean, types.UnicodeType)) for kind in held)
    return leaf is None or isinstance(leaf, (bool, int, float, complex, str, np.generic, CPUDispatcher))


def prints(function: Any) -> bool:
    """Whether a jitted function names `print`, or one that it names does."""
    return any("print" in bindings.names_of(f.py_func.__code__) for f in bindings.reached(function))
