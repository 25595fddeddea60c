"""What NumPy's functions that make arrays make in a function of arrays that is differentiated: tensors, where need be.

`np.array([x[0], 1.0])` doesn't ask its arguments what to make of them, as NumPy's other functions do
(`numpy_protocol.py`). An array whose elements are tensors would be made, which few functions of NumPy's and SciPy's
take. So the module `numpy` has functions of ours by these names, as long as functions of arrays go on in any thread. On
a thread where one goes on, they join the tensors that a caller other than a library gives them; all else is NumPy's.

An array of numbers can't hold a tensor: `out = np.zeros(3)`, then `out[0] = x[0]`, is an error. A function that ends in
this one is called once more, and then arrays of floats that it makes are tensors, to which writing is recorded. So they
are from the beginning in later calls.

Numba knows NumPy's functions by identity, and modules take them by name. While Numba compiles, and while a module is
imported, the names are NumPy's again.
"""

from __future__ import annotations

import functools
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from types import FrameType
from typing import Any

import numpy as np

from tapegrad import callers, pages
from tapegrad.batched import Batched, NeedsSamplesError, levels, of_each_sample
from tapegrad.conversion import WrittenToNumbersError, joiners
from tapegrad.dtypes import BY_NUMPY
from tapegrad.recording import cast
from tapegrad.tape import Tape, current_tape
from tapegrad.tensor import Tensor, from_array


class _Here(threading.local):
    """How many functions of arrays go on, on this thread, and how many of them make tensors for arrays."""

    going = 0
    filling = 0


_here = _Here()
_meant: weakref.WeakValueDictionary[int, Tensor] = weakref.WeakValueDictionary()  # by identity


def is_array_to_user(t: Tensor) -> bool:
    """Whether a tensor was made as an array, so that its methods mean what those of arrays do."""
    return _meant.get(id(t)) is t


# --- what tensors make up ---------------------------------------------------------------------------------------------


def _is_kept(value: Any) -> bool:
    """Whether a tensor's derivative, or its samples, would be lost in an array of numbers."""
    return isinstance(value, Tensor) and (value.requires_grad or isinstance(value, Batched))


def _has_tensors(given: Any) -> bool:
    """Whether there are such tensors in what an array is to be made of."""
    if given.__class__ is not list and given.__class__ is not tuple:
        return _is_kept(given)
    kinds = {*map(type, given)}
    return any(issubclass(kind, (Tensor, list, tuple)) for kind in kinds) and any(map(_has_tensors, given))


def _shape(given: Any) -> tuple[int, ...]:
    """The shape of the array that NumPy would make."""
    if not isinstance(given, (list, tuple)):
        return tuple(np.shape(given))
    shapes = {_shape(part) for part in given}
    if len(shapes) > 1:
        raise ValueError(
            "setting an array element with a sequence. The requested array has an inhomogeneous shape: parts have the "
            f"shapes {', '.join(map(str, sorted(shapes)))}"
        )
    return (len(given), *shapes.pop()) if shapes else (0,)


def _leaves(given: Any) -> Iterator[Any]:
    if isinstance(given, (list, tuple)):
        for part in given:
            yield from _leaves(part)
    else:
        yield given


def _joined(given: Any) -> Tensor:
    """The tensor that nested sequences of tensors, arrays and numbers make up."""
    return given if isinstance(given, Tensor) else joiners[0]([*_leaves(given)], _shape(given))


# --- the functions ----------------------------------------------------------------------------------------------------

_DTYPES = {*BY_NUMPY, None}
_FLOATS = {np.dtype(np.float64), np.dtype(np.float32)}
_PACKAGE = __name__.partition(".")[0]


def _dtype(given: Any) -> Any:
    """NumPy's dtype, None where none is asked for."""
    return None if given is None else np.dtype(given)


def _makes(given: Any, dtype: Any, facts: dict[str, Any]) -> bool:
    """Whether a user, and no library, makes a tensor in a function of arrays."""
    return bool(
        _here.going and _has_tensors(given) and _dtype(dtype) in _DTYPES and facts.get("like") is None
        and _is_users(sys._getframe(2))
    )  # fmt: skip


def _filled(made: Any) -> Any:
    """An array that is made, as a tensor to which tensors can be written where the function does so."""
    if _here.filling and type(made) is np.ndarray and made.dtype in _FLOATS and _is_users(sys._getframe(2)):
        t = from_array(made)
        return _made(of_each_sample(t) if levels() else t, None)
    return made


def _is_users(frame: FrameType) -> bool:
    """Whether a frame is of code that means tensors where it says arrays."""
    return (root := callers.root(frame)) not in callers.LIBRARIES and root != _PACKAGE


def _made(t: Tensor, dtype: Any, ndmin: int = 0) -> Tensor:
    """As an array that is asked for."""
    if (wanted := BY_NUMPY.get(_dtype(dtype))) is not None:
        t = cast(t, wanted)
    if ndmin > t.ndim:
        t = t.reshape((1,) * (ndmin - t.ndim) + tuple(t.shape))
    _meant[id(t)] = t
    return t


def _array(theirs: Any) -> Any:
    @functools.wraps(theirs)
    def array(object: Any, dtype: Any = None, *args: Any, **facts: Any) -> Any:
        if not _makes(object, dtype, facts):
            return _filled(theirs(object, dtype, *args, **facts))
        joined = _joined(object)
        made = _made(joined, dtype, facts.get("ndmin", 0))
        is_own = made is not joined or joined is not object or facts.get("copy", True) is not True
        return made if is_own else _made(made.clone(), None)

    return array


def _as_array(theirs: Any) -> Any:
    @functools.wraps(theirs)
    def as_array(a: Any, dtype: Any = None, *args: Any, **facts: Any) -> Any:
        if not _makes(a, dtype, facts):
            return theirs(a, dtype, *args, **facts)
        made = _made(_joined(a), dtype)
        return _made(made.clone(), None) if facts.get("copy") and made is a else made

    return as_array


def _full(theirs: Any) -> Any:
    @functools.wraps(theirs)
    def full(shape: Any, fill_value: Any, dtype: Any = None, *args: Any, **facts: Any) -> Any:
        if not _makes(fill_value, dtype, facts):
            return _filled(theirs(shape, fill_value, dtype, *args, **facts))
        sizes = shape if isinstance(shape, (list, tuple)) else (shape,)
        return _made(_joined(fill_value).expand(*sizes).clone(), dtype)

    return full


def _of_list(theirs: Any) -> Any:
    """A function that takes an array, and a list of numbers for one."""

    @functools.wraps(theirs)
    def of_list(a: Any, *args: Any, **facts: Any) -> Any:
        return theirs(_joined(a) if isinstance(a, (list, tuple)) and _makes(a, None, {}) else a, *args, **facts)

    return of_list


def _other(theirs: Any) -> Any:
    @functools.wraps(theirs)
    def other(*args: Any, **facts: Any) -> Any:
        return _filled(theirs(*args, **facts))

    return other


_OF_LISTS = ("amax", "amin", "max", "mean", "median", "min", "prod", "std", "sum", "var")
_THEIRS: dict[str, Any] = {
    name: getattr(np, name)
    for name in ("array", "asanyarray", "asarray", "ascontiguousarray", "asfortranarray", "full", *_OF_LISTS)
}
_OURS = {name: _as_array(theirs) for name, theirs in _THEIRS.items()}
_OURS |= {name: _of_list(_THEIRS[name]) for name in _OF_LISTS}
_OURS |= {"array": _array(np.array), "full": _full(np.full)}
_MAKERS = (
    "copy", "diag", "empty", "empty_like", "eye", "full_like", "identity", "linspace", "ones", "ones_like", "zeros",
    "zeros_like",
)  # fmt: skip
_FILLED = {name: _other(getattr(np, name)) for name in _MAKERS}
_PLAIN = {name: getattr(np, name) for name in _MAKERS}


# --- whose functions the module has -----------------------------------------------------------------------------------


class _Names:
    """Who has the names in the module `numpy`: we do while functions of arrays go on, and nothing holds us off."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.going = 0  # functions of arrays, on all threads
        self.filling = 0  # those whose arrays are tensors
        self.held_off = 0
        self.is_unknown = True  # to what imports modules
        self.is_listening = False  # to Numba's compiler
        self.has, self.has_makers = False, False

    def count(self, going: int = 0, filling: int = 0, held_off: int = 0) -> None:
        """Add to the counts, and give the names to whom they are due."""
        with self.lock:
            self.going += going
            self.filling += filling
            self.held_off += held_off
            self._settle()

    def _settle(self) -> None:
        if self.has is not (self.going > 0 and not self.held_off):
            self.has = not self.has
            vars(np).update(_OURS if self.has else _THEIRS)
        if self.has_makers is not (self.filling > 0 and not self.held_off):
            self.has_makers = not self.has_makers
            vars(np).update(_FILLED if self.has_makers else _PLAIN)


_names = _Names()


def begin(tape: Tape) -> None:
    """A function of arrays begins on a thread."""
    tape.of_arrays += 1
    going = _here.going = _here.going + 1
    if going == 1:
        if not _names.is_listening and (_names.is_unknown or "numba.core.event" in sys.modules):
            _listen()
        _names.count(1)


def end(tape: Tape) -> None:
    """It has ended."""
    tape.of_arrays -= 1
    going = _here.going = _here.going - 1
    if not going:
        _names.count(-1)


_fill: set[int] = set()  # the codes in which arrays are tensors, by identity, as long as they are there


def called(func: Any, call: Callable[[], Any]) -> Any:
    """What `call` returns, which calls a function of arrays: with arrays that tensors can be written to, if need be."""
    code = getattr(func, "__code__", None)
    if _here.filling:
        return _called(call)
    if code is None or id(code) not in _fill:
        try:
            return _called(call)
        except (WrittenToNumbersError, _WrittenForAllError):
            if current_tape().watch is not None:  # what is recorded for good is recorded at once
                raise
    with _filling():
        result = _called(call)
    if code is not None and id(code) not in _fill:
        _fill.add(id(code))
        weakref.finalize(code, _fill.discard, id(code))
    return result


@contextmanager
def _filling() -> Iterator[None]:
    _here.filling += 1
    _names.count(filling=1)
    try:
        yield
    finally:
        _here.filling -= 1
        _names.count(filling=-1)


class _WrittenForAllError(NeedsSamplesError):
    """What stands for all samples was written to an array of numbers."""


def _called(call: Callable[[], Any]) -> Any:
    """What it returns; of errors of NumPy's where an array is written to, what they are caused by."""
    try:
        return call()
    except ValueError as error:
        lost = error.__cause__
        if isinstance(lost, NeedsSamplesError):
            raise _WrittenForAllError(str(lost), lost.level) from lost
        if lost is not None and str(lost).endswith(pages.NUMPY):
            raise lost.with_traceback(error.__traceback__) from None
        raise


@contextmanager
def as_they_are() -> Iterator[None]:
    """NumPy's functions have their names meanwhile."""
    _names.count(held_off=1)
    try:
        yield
    finally:
        _names.count(held_off=-1)


def _listen() -> None:
    """Be told of imports, and of when Numba compiles, once it has been imported."""
    with _names.lock:
        if _imports not in sys.meta_path:
            sys.meta_path.insert(0, _imports)
        _names.is_unknown = False
        events: Any = sys.modules.get("numba.core.event")
        if hasattr(events, "register") and not _names.is_listening:
            _names.is_listening = True
            told = type("Told", (events.Listener,), {
                "on_start": lambda *_: _names.count(held_off=1), "on_end": lambda *_: _names.count(held_off=-1),
            })  # fmt: skip
            events.register("numba:compiler_lock", told())


class _Imports(MetaPathFinder):
    """Finds what the other finders do: a module that is executed in a function of arrays takes names from NumPy."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if not _here.going:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None:
                loader: Any = spec.loader
                if not isinstance(loader, type) and hasattr(loader, "exec_module"):
                    loader.exec_module = functools.partial(_executed, loader.exec_module)
                return spec
        return None


def _executed(execute: Callable[[Any], None], module: Any) -> None:
    with as_they_are():
        execute(module)
    if not _names.is_listening:
        _listen()


_imports = _Imports()
