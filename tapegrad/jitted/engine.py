"""What `tapegrad.func` asks of a jitted function: its drivers, made by need, called, and their errors explained.

Structures: an argument that is differentiated is a float, a float64 array, or a tuple of such; a result is a number, an
array, or a tuple of them. Flat gradients follow the order from left to right.
"""

from __future__ import annotations

import ctypes
import inspect
import math
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import njit
from numba.core.registry import CPUDispatcher

from tapegrad.jitted import arrays, linalg, tape  # noqa: F401  arrays and linalg make NumPy's functions known
from tapegrad.jitted.drivers import Form, driver, pull
from tapegrad.jitted.errors import NotDifferentiableError

_engines: weakref.WeakKeyDictionary[Any, Engine] = weakref.WeakKeyDictionary()


def engine_of(function: Callable[..., Any]) -> Engine:
    """The engine of a jitted function, or of a plain one, which is jitted."""
    if not callable(function):
        raise TypeError(f"a function is differentiated, not {type(function).__name__}")
    known = _engines.get(function)
    if known is None:
        dispatcher = function if isinstance(function, CPUDispatcher) else njit(function)
        known = _engines[function] = Engine(dispatcher)
    return known


class Engine:
    """The derivatives of one jitted function."""

    def __init__(self, function: Any) -> None:
        self.function = function
        self.signature = inspect.signature(function.py_func)
        self.drivers: dict[Form, Any] = {}
        self.owns: set[Form] = set()  # forms for which arrays that are written to must be copied

    def bind(self, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Any]:
        """All arguments by position, defaults included."""
        bound = self.signature.bind(*args, **kwargs)
        if len(bound.args) < len(self.signature.parameters):
            bound.apply_defaults()
        return list(bound.args)

    def run(self, form: Form, *args: Any) -> Any:
        """Call a driver."""
        if form in self.owns:
            form = form._replace(owns=True)
        made = self.drivers.get(form)
        if made is None:
            made = self.drivers[form] = driver(self.function, form)
        try:
            return made(*args)
        except NotDifferentiableError as error:
            return self._again(form, args, error)

    def n_outputs(self, form: Form, args: Sequence[Any]) -> int:
        """How many numbers the function returns: it is called to see."""
        copies = [a.copy() if isinstance(a, np.ndarray) else a for a in args]
        values = self.function(*copies)
        return size(values[0] if form.has_aux else values)

    def _again(self, form: Form, args: Sequence[Any], error: NotDifferentiableError) -> Any:
        """What didn't compile may do so with copies of the arrays that aren't differentiated, if it writes to one."""
        others = [a for i, a in enumerate(args) if i not in form.argnums]
        if not form.owns and any(isinstance(a, np.ndarray) and a.dtype == np.float64 for a in others):
            owning = form._replace(owns=True)
            made = self.drivers[owning] = driver(self.function, owning)
            try:
                result = made(*args)
            except NotDifferentiableError:
                del self.drivers[owning]
            else:
                self.owns.add(form)
                return result
        raise error


class Recording:
    """A tape of its own, that outlives the call: what the function returned by `vjp` sweeps."""

    def __init__(self, engine: Engine, form: Form, args: Sequence[Any]) -> None:
        tape.connect()
        self.words = np.zeros(tape.WORDS, np.int64)
        self._lock = threading.Lock()
        header = tape.header()
        before = bytes(header)
        tape.begin(header)
        try:
            self.values, self.out, self.row, self.n = engine.run(form, *args)
            self.words[:] = header[:]
        finally:
            ctypes.memmove(header, before, len(before))
        weakref.finalize(self, tape.dispose_words, self.words)

    @property
    def nbytes(self) -> int:
        """The bytes that it holds."""
        return tape.nbytes_of(self.words)

    def pull(self, seeds: np.ndarray) -> np.ndarray:
        """The product of seeds, one for each result, with the Jacobian.

        The tape is the thread's meanwhile: blocks may record in the sweep.
        """
        header = tape.header()
        before = bytes(header)
        with self._lock:
            header[:] = self.words.tolist()
            try:
                return np.asarray(pull(ctypes.addressof(header), self.out, seeds, self.row, self.n))
            finally:
                self.words[:] = header[:]
                ctypes.memmove(header, before, len(before))


# --- structures -------------------------------------------------------------------------------------------------------


def check(argument: Any, place: int) -> None:
    """Raise TypeError where an argument can't be differentiated."""
    if isinstance(argument, tuple):
        for item in argument:
            check(item, place)
        return
    if isinstance(argument, float) or (isinstance(argument, np.ndarray) and argument.dtype == np.float64):
        return
    if isinstance(argument, np.ndarray):
        found, repair = f"an array of {argument.dtype}", "convert it with .astype(float)"
    elif isinstance(argument, (int, np.integer)):
        found, repair = f"the int {argument}", "write it as a float, or name other arguments in argnums"
    elif isinstance(argument, list):
        found, repair = "a list", "make it an array, or a tuple"
    else:
        found, repair = f"a {type(argument).__name__}", "name other arguments in argnums"
    raise TypeError(
        f"floats, float64 arrays and tuples of them are differentiated, but argument {place} is {found}: {repair}"
    )


def is_differentiable(argument: Any) -> bool:
    """Whether an argument can be differentiated."""
    try:
        check(argument, 0)
    except TypeError:
        return False
    return True


def size(structure: Any) -> int:
    """How many numbers are in a structure."""
    if isinstance(structure, (tuple, list)):
        return sum(map(size, structure))
    if isinstance(structure, np.ndarray):
        return structure.size if structure.dtype == np.float64 else 0
    return 1 if isinstance(structure, float) else 0


def flat(structure: Any) -> np.ndarray:
    """The numbers of a structure, in a vector."""
    if isinstance(structure, (tuple, list)):
        parts = [flat(item) for item in structure]
        return np.concatenate(parts) if parts else np.empty(0)
    return np.ascontiguousarray(structure, np.float64).reshape(-1)


def shaped(vector: np.ndarray, structure: Any) -> Any:
    """A vector in the form of a structure; further dimensions of `vector`, before the last, stay in front."""
    if isinstance(structure, tuple):
        items, at = [], 0
        for item in structure:
            n = size(item)
            items.append(shaped(vector[..., at : at + n], item))
            at += n
        return type(structure)(*items) if hasattr(structure, "_fields") else tuple(items)
    if isinstance(structure, np.ndarray):
        return vector.reshape(*vector.shape[:-1], *structure.shape)
    return float(vector[0]) if vector.ndim == 1 else vector[..., 0]


def blocks(matrix: np.ndarray, rows: Any, columns: Any) -> Any:
    """A Jacobian in the form of the results, and for each of them in the form of the arguments."""
    if isinstance(rows, tuple):
        items, at = [], 0
        for item in rows:
            n = size(item)
            items.append(blocks(matrix[at : at + n], item, columns))
            at += n
        return tuple(items)
    if isinstance(rows, np.ndarray):
        return _reshaped(shaped(matrix, columns), rows.shape)
    return shaped(matrix[0], columns) if len(matrix) else None


def _reshaped(structure: Any, shape: tuple[int, ...]) -> Any:
    if isinstance(structure, tuple):
        return tuple(_reshaped(item, shape) for item in structure)
    assert math.prod(shape) == structure.shape[0]
    return structure.reshape(*shape, *structure.shape[1:])
