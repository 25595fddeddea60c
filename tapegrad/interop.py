"""To NumPy, other array libraries, Python numbers, copies and pickles."""

from __future__ import annotations

import copy
import importlib
import sys
from _thread import get_ident
from types import ModuleType
from typing import Any

import numpy as np

from tapegrad import aliasing, callers, engine, kinds, pages, writing
from tapegrad import tape as tapes
from tapegrad.conversion import WrittenToNumbersError, joiners, sharing_with, warn_of_lost_gradient
from tapegrad.debug import MEMORY
from tapegrad.devices import check_device, strided
from tapegrad.dtypes import BY_NUMPY
from tapegrad.kinds import address_of, array_at, contiguous_strides, kind_of
from tapegrad.recording import Imported, is_imported, local
from tapegrad.tensor import Tensor, describe, exchange, from_array, location, over_memory, owner_of, stored


def numpy(self: Tensor, *, force: bool = False) -> np.ndarray:
    """The elements as a NumPy array that shares the tensor's memory: a change in one is seen in the other.

    What is recorded later has the elements of then (see `from_numpy`). Of a tensor of another thread it is a copy that
    can't be written to, unless NumPy shares the memory already.

    Raises
    ------
    RuntimeError
        Where the tensor requires grad, gradients are recorded, and `force` is False.
    """
    if not isinstance(force, bool):
        raise TypeError(f"numpy(): argument 'force' must be bool, not {type(force).__name__}")
    if self.requires_grad:
        if not force and tapes.current_tape().grad_enabled:
            raise RuntimeError(
                f"Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.{pages.NUMPY}"
            )
        self = self.detach()
    return export(self)


def export(t: Tensor) -> np.ndarray:
    """An array over the tensor's memory, which NumPy owns from now on."""
    tape, slot, kind = t._tape, t._slot, t._kind
    if tape.thread == get_ident():
        if kind.exported:
            if tape.watch is not None:
                tape.watch.fail("shares memory with NumPy")
            known = tape.arrays.get(slot)
            if (
                known is not None and known.shape == kind.shape and known.strides == kind.strides
                and address_of(known) == tape.slot_words[4 * slot + 1]
            ):  # fmt: skip
                return known.view()
        elif not kind.is_large and kind.contiguous and (array := _moved(t)) is not None:
            return array
    return _handed_over(t)


def _moved(t: Tensor) -> np.ndarray | None:
    """An array to which few elements move, while rows that are there already go on to read them where they were.

    So nothing that is pending need be computed before. It is done where a tensor shares its elements with nobody, or
    was detached from one that shares them with nobody else; else the answer is None.
    """
    tape, base, views = t._tape, getattr(t, "_origin", None), t._views
    if views is not None and views.living():
        return None
    if base is None:
        top = t
    else:
        top, recipe, kind = base, t._recipe, base._kind
        is_whole = recipe.detached and recipe.window == (kind.shape, kind.strides, 0) and kind.contiguous
        if not is_whole or hasattr(top, "_origin") or len(top._views.living()) != 1 or top.__class__ is Imported:
            return None
    array = t._array().copy()
    address, kind = address_of(array), kind_of(t._kind.dtype, array.shape, array.strides, exported=True)
    made = stored(tape, kind, address, array)
    if top is t:
        exchange(t, made)
    else:
        numbers = writing.of_same_graph(top, from_array(array.copy()))
        of_top = writing.placed(top, numbers, address, kind, array)
        tape.slot_ints[8 * made._slot + 6] = of_top._slot  # its base, which has the array
        del tape.arrays[made._slot]
        writing.pass_on(top, of_top, True)
        writing.exchange_all([(top, of_top), (t, made)])
    return array.view()


def given_up(t: Tensor) -> np.ndarray:
    """An array over the memory of a tensor that nobody else knows, of which no row is recorded, and which is let go."""
    tape, slot, kind = t._tape, t._slot, t._kind
    address, flags = engine.evaluate(tape, slot), tape.slots["flags"]
    if not flags[slot] & tapes.OWNED or not kind.contiguous:
        return export(t)
    lent = engine.Lent(tape, address)
    array = array_at(address, kind, lent)
    # The memory changes hands: nothing can come between (see `tape.py`).
    flags[slot] &= ~tapes.OWNED
    lent.address = address
    if MEMORY:
        engine.hand_out(tape, address)
    return array


def _handed_over(t: Tensor) -> np.ndarray:
    """An array over the memory of the tensor, and of all that share it."""
    if (watch := tapes.current_tape().watch) is not None:
        watch.fail("shares memory with NumPy")
    if not t._kind.exported:
        t = local(t)
    elif t._tape is not tapes.current_tape():
        return over_memory(t)
    tape, top = t._tape, aliasing.top_of(t)
    engine.evaluate(tape, top._slot)
    is_copy = is_imported(t) and not t._kind.exported
    if not (top._kind.exported or is_copy):
        engine.evaluate_all(tape)  # what is pending is computed from the elements as they are now
        engine.reclaim_if_due(tape)
    owner = owner_of(top)
    if owner not in tape.arrays:
        of, address = kinds.objects[tape.slots["kind"][owner]], int(tape.slots["primal"][owner])
        lent, flags = engine.Lent(tape, address), tape.slots["flags"]
        array = array_at(address, of, lent)
        # The memory changes hands: nothing can come between (see `tape.py`).
        tape.arrays[owner] = array
        flags[owner] &= ~tapes.OWNED
        lent.address = address
        if MEMORY:
            engine.hand_out(tape, address)
    if not (top._kind.exported or is_copy):
        writing.mark_exported(top)
    engine.evaluate(tape, t._slot)
    array = over_memory(t)
    if is_copy:
        array.flags.writeable = False
    return array


_PACKAGE = __name__.partition(".")[0]
_MAKERS = f"{_PACKAGE}.array_makers"


def __array__(self: Tensor, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    caller = sys._getframe(1)
    while caller.f_globals.get("__name__") == _MAKERS and caller.f_back is not None:  # NumPy's functions may be ours
        caller = caller.f_back
    if caller.f_code.co_name == "_matmul_dispatch" and caller.f_globals.get("__name__", "").startswith("scipy.sparse"):
        # SciPy leaves its product to the other operand, which records it, where that is no array.
        left = np.empty((), object)
        left[()] = self
        return left
    if self.requires_grad:
        if (dtype is None or np.dtype(dtype).kind == "O") and has_elements(self) and _calls_by_elements(caller):
            return of_elements(self)
        asker, where = callers.asker()
        if _is_of_objects(self, dtype, caller, asker):
            return _of_objects(self)
        raise (WrittenToNumbersError if callers.does(caller).startswith("STORE") else RuntimeError)(
            "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead. "
            f"{asker} asked for an array of {describe(self)}, at {where}, which would lose its derivative: use "
            f"{_instead(asker)}NumPy's functions that record (np.stack joins tensors), tapegrad's, or make an "
            f"operation of a function with tapegrad.autograd.host_function{pages.NUMPY}"
        )
    array = numpy(self) if copy is not True else self._array().copy()
    return array if dtype is None else array.astype(dtype, copy=False)


def _instead(asker: str) -> str:
    """The function of tapegrad's that has the name of one of SciPy's, as `scipy.special.logsumexp`, if there is one."""
    library, *path = asker.split(".")
    package, name = sys.modules[_PACKAGE], path[-1] if path else ""
    if name == "__matmul__":  # of pandas' tables, which come first
        return f"{_PACKAGE}.matmul, "
    if library != "scipy":
        return ""
    for module in (getattr(package, path[0], None), package):
        if callable(getattr(module, name, None)) and name in getattr(module, "__all__", (name,)):
            return f"{getattr(module, '__name__', _PACKAGE)}.{name}, "
    return ""


_MOST_OBJECTS = 1 << 14  # elements, each a tensor of its own


def _is_of_objects(t: Tensor, dtype: Any, caller: Any, asker: str) -> bool:
    """Whether an array may have tensors for its elements: one that the user makes in a function of arrays.

    A library, to which they would be numbers, is refused them; NumPy's sums and products add and multiply them. So is
    an array that is assigned to (`array[0] = t`): it may be one of numbers.
    """
    if not tapes.current_tape().of_arrays or (dtype is not None and np.dtype(dtype).kind != "O"):
        return False
    return bool(
        t._kind.numel <= _MOST_OBJECTS and type(t) is Tensor
        and (callers.root(caller) not in callers.LIBRARIES or asker in _ADDS) and callers.calls(caller)
    )  # fmt: skip


_ADDS = {"numpy.fromnumeric.sum", "numpy.fromnumeric.prod"}


def _of_objects(t: Tensor) -> np.ndarray:
    """An array whose elements are the tensor's, each a tensor."""
    array = np.empty(t._kind.shape, object)
    for place in np.ndindex(array.shape):
        array[place] = t[place]
    return array


# --- what NumPy does element by element -------------------------------------------------------------------------------


class TensorElements(np.ndarray):
    """A tensor's elements, each a tensor, where NumPy asks for an array that it calls a function with, or joins.

    NumPy's functions are called with the tensor that they make up, so that they are recorded: what `np.r_` joins is a
    tensor. Only a function that `np.vectorize` or `np.frompyfunc` made is called with each element.
    """

    def __array_function__(self, function: Any, types: Any, args: Any, facts: Any) -> Any:
        if function is np.result_type:
            return np.dtype(object)
        if function is np.broadcast_to:  # before functions of vectors are called
            return _with_tensors(function(args[0].view(np.ndarray), *args[1:], **facts))
        return function(*map(_whole, args), **{name: _whole(value) for name, value in facts.items()})

    def __array_ufunc__(self, ufunc: np.ufunc, method: Any, *inputs: Any, **kwargs: Any) -> Any:
        if not calls_python(ufunc):
            return getattr(ufunc, method)(*map(_whole, inputs), **kwargs)
        inputs = tuple(x.view(np.ndarray) if isinstance(x, TensorElements) else x for x in inputs)
        return _with_tensors(getattr(ufunc, method)(*inputs, **kwargs))


def calls_python(function: np.ufunc) -> bool:
    """Whether a function is one of Python's, which is called with each element."""
    types = function.types  # none yet, of one of Numba's that hasn't been compiled
    return bool(types) and all({*of} <= {*"O->"} for of in types)


def has_elements(value: Any) -> bool:
    """Whether a value is a tensor with a derivative, of few elements."""
    return type(value) is Tensor and value.requires_grad and value._kind.numel <= _MOST_OBJECTS


def of_elements(t: Tensor) -> TensorElements:
    """The elements of a tensor."""
    return _of_objects(t).view(TensorElements)


def _with_tensors(result: Any) -> Any:
    if isinstance(result, tuple):
        return tuple(map(_with_tensors, result))
    is_tracked = isinstance(result, np.ndarray) and any(isinstance(x, Tensor) for x in result.flat)
    return result.view(TensorElements) if is_tracked else result


def _whole(value: Any) -> Any:
    """The tensor that elements make up, in sequences too; arrays beside them as numbers."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(_whole, value))
    if not isinstance(value, np.ndarray) or value.dtype != object:
        return value.view(np.ndarray) if isinstance(value, TensorElements) else value
    if any(isinstance(x, Tensor) for x in value.flat):
        return joiners[0]([*value.flat], value.shape)
    return np.array(value.tolist())


_BY_ELEMENTS = {
    method.__code__
    for made, names in (
        (np.vectorize, ("_get_ufunc_and_otypes", "_vectorize_call", "_vectorize_call_with_signature")),
        (type(np.r_), ("__getitem__",)),
    )
    for name in names
    if (method := getattr(made, name, None)) is not None
}


def _calls_by_elements(frame: Any) -> bool:
    """Whether a frame is that of a function of `np.vectorize`, or of `np.r_` and its kin."""
    is_inner = frame.f_code.co_name in ("<listcomp>", "<genexpr>")  # up to Python 3.11, and in any
    return (frame.f_back if is_inner else frame).f_code in _BY_ELEMENTS


# --- to other array libraries ----------------------------------------------------------------------------------------

_VERSIONS = ("2021.12", "2022.12", "2023.12", "2024.12")
_ON_CPU = (1, 0)  # DLPack's number for processors' own memory, and which of them


def __array_namespace__(self: Tensor, /, *, api_version: str | None = None) -> ModuleType:
    """The module that has the functions of the Python array API standard: `tapegrad.xp`.

    Raises
    ------
    ValueError
        Where a version of the standard is asked for that isn't there.
    """
    if api_version is not None and api_version not in _VERSIONS:
        raise ValueError(
            f"version {api_version!r} of the array API standard is not there, at {location()}: {_VERSIONS[-1]} is"
        )
    return importlib.import_module("tapegrad.xp")


def to_device(self: Tensor, device: Any, *, stream: Any = None) -> Tensor:
    """The tensor itself: it is on the CPU, and can be nowhere else."""
    check_device(device)
    if stream is not None:
        raise RuntimeError(f"to_device(): the CPU has no streams, but stream={stream!r}, at {location()}")
    return self


def __dlpack_device__(self: Tensor) -> tuple[int, int]:
    return _ON_CPU


def __dlpack__(
    self: Tensor, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: bool | None = None
) -> Any:
    """A capsule over the elements, which other libraries make an array of: see `numpy`."""
    if self._kind.requires_grad:
        raise BufferError(
            f"Can't export tensors that require gradient, use tensor.detach(): {describe(self)}, at {location()}"
        )
    if stream is not None or (dl_device is not None and tuple(dl_device) != _ON_CPU):
        raise BufferError(
            f"__dlpack__(): the elements are on the CPU, which has no streams, but stream={stream!r} and "
            f"dl_device={dl_device!r}, at {location()}"
        )
    return export(self).__dlpack__(max_version=max_version, copy=copy)


class _Exported:
    """A capsule of DLPack's, as NumPy asks for it."""

    def __init__(self, capsule: Any, device: tuple[int, int]) -> None:
        self.capsule, self.device = capsule, device

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __dlpack__(self, **facts: Any) -> Any:
        return self.capsule


def _exported(ext_tensor: Any) -> _Exported:
    if type(ext_tensor).__name__ == "PyCapsule":
        return _Exported(ext_tensor, _ON_CPU)
    if not hasattr(ext_tensor, "__dlpack__"):
        raise AttributeError(
            f"'{type(ext_tensor).__name__}' object has no attribute '__dlpack__': from_dlpack(), at {location()}"
        )
    try:
        return _Exported(ext_tensor.__dlpack__(max_version=(1, 0)), ext_tensor.__dlpack_device__())
    except TypeError:  # it knows no versions
        return _Exported(ext_tensor.__dlpack__(), ext_tensor.__dlpack_device__())


def from_dlpack(ext_tensor: Any, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """The array of another library, or a capsule of DLPack's, as a tensor that shares its memory, as by `from_numpy`.

    With `copy=True` its elements are new; with `copy=False` it is an error where they had to be.

    Raises
    ------
    AttributeError
        Where it is neither.
    BufferError
        Where the elements are not on the CPU, or must be copied and must not be.

    >>> import numpy as np
    >>> import tapegrad as tg
    >>> tg.from_dlpack(np.arange(3.0))
    tensor([0., 1., 2.])
    """
    check_device(device)
    exported = _exported(ext_tensor)
    if exported.device[0] != _ON_CPU[0]:
        raise BufferError(f"from_dlpack(): the elements are on a device {exported.device}, at {location()}: copy them")
    array = np.from_dlpack(exported)
    if not array.flags.writeable and "versioned" not in repr(exported.capsule) and array.dtype in BY_NUMPY:
        # It doesn't say whether it may be written to. PyTorch takes it that it may be.
        array = array_at(address_of(array), kind_of(BY_NUMPY[array.dtype], array.shape, array.strides), array)
    made = sharing_with(array.copy() if copy else array)
    if copy is False and not made._kind.exported:
        raise BufferError(f"from_dlpack(): {array.dtype} elements must be copied, and copy=False, at {location()}")
    return made


# --- to Python --------------------------------------------------------------------------------------------------------


def tolist(self: Tensor) -> Any:
    """The elements as nested lists of Python numbers; a number where there are no dimensions."""
    return self._array().tolist()


def _to_bool(self: Tensor) -> bool:
    if self._kind.numel != 1:
        what = "no values" if self._kind.numel == 0 else "more than one value"
        raise RuntimeError(
            f"Boolean value of Tensor with {what} is ambiguous: its shape is {list(self._kind.shape)}; use .any() or "
            f".all()"
        )
    return bool(self.item())


def _only_element(self: Tensor) -> Any:
    if self._kind.numel != 1:
        raise ValueError(
            f"only one element tensors can be converted to Python scalars: the shape of this one is "
            f"{list(self._kind.shape)}"
        )
    return self.item()


def __float__(self: Tensor) -> float:
    number = float(_only_element(self))
    warn_of_lost_gradient(self)
    return number


def __complex__(self: Tensor) -> complex:
    return complex(__float__(self))


def _to_int(self: Tensor) -> int:
    number = int(_only_element(self))
    warn_of_lost_gradient(self)
    return number


def _to_index(self: Tensor) -> int:
    if self._kind.dtype.is_floating_point or self._kind.numel != 1:
        raise TypeError(
            f"only integer tensors of a single element can be converted to an index, but got "
            f"{self.dtype}{list(self.shape)}"
        )
    return int(self.item())


def _to_format(self: Tensor, spec: str) -> str:
    if self._kind.ndim == 0:
        return format(self.item(), spec)
    return repr(self) if not spec else object.__format__(self, spec)


def __copy__(self: Tensor) -> Tensor:
    """A leaf that shares the elements."""
    copied: Tensor = self.detach()
    return copied.requires_grad_(self.requires_grad)


def __deepcopy__(self: Tensor, memo: dict[int, Any]) -> Tensor:
    if not self.is_leaf:
        raise RuntimeError(
            "Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol at the moment: "
            f"{describe(self)} was computed and requires grad, at {location()}: copy .detach() of it, or clone() it"
        )
    origin, window = shown_of(self)
    alone = window is None
    copied = from_array(self._array().copy()) if alone else aliasing.show(copy.deepcopy(origin, memo), *window)
    copied.requires_grad_(self.requires_grad)
    if note := getattr(self, "_note", None):
        copied._note = note
    memo[id(self)] = copied
    if self.grad is not None:
        copied.grad = __deepcopy__(self.grad, memo) if self.grad.is_leaf else self.grad.detach().clone()
    return copied


def __reduce_ex__(self: Tensor, protocol: int) -> tuple[Any, ...]:
    return _rebuild, (self._array().copy(), self.requires_grad, getattr(self, "_note", None))


def shown_of(t: Tensor) -> tuple[Tensor, Any]:
    """What a tensor shares its elements with, and where among those it has its own; None where it is copied alone."""
    origin, window = t, None
    while (below := getattr(origin, "_origin", None)) is not None and below.is_leaf:
        shape, strides, start = origin._recipe.window
        if window is None:
            window = shape, strides, start
        elif strides == contiguous_strides(shape, t._kind.itemsize):
            window = window[0], window[1], start + window[2]
        else:
            break
        origin = below
    return origin, window


def _rebuild(array: np.ndarray, requires_grad: bool, note: str | None = None) -> Tensor:
    t = from_array(array, requires_grad)
    if note is not None:
        t._note = note
    return t


def _numba_type_(self: Tensor) -> None:
    """What Numba asks of an argument of a jitted function: it takes no Tensors, and says so in a page of its own."""
    raise TypeError(
        f"a jitted function takes no Tensors, but was given {describe(self)}: record the function as one row with "
        "tapegrad.jitted.operation(function), or have the jitted function differentiated itself, as in "
        "tapegrad.func.grad(numba.njit(function))"
    )


Tensor._numba_type_ = property(_numba_type_)
Tensor.layout = property(lambda _: strided, doc="How elements are stored: `tapegrad.strided`.")
Tensor.is_sparse = property(lambda _: False, doc="False.")
Tensor.__pandas_priority__ = 5000  # more than that of its tables, which leave operators to what has more
for _name, _function in {
    "numpy": numpy, "tolist": tolist, "__array__": __array__, "__bool__": _to_bool, "__index__": _to_index,
    "__float__": __float__, "__complex__": __complex__, "__int__": _to_int, "to_device": to_device,
    "__array_namespace__": __array_namespace__, "__dlpack__": __dlpack__, "__dlpack_device__": __dlpack_device__,
    "__format__": _to_format, "__copy__": __copy__, "__deepcopy__": __deepcopy__, "__reduce_ex__": __reduce_ex__,
}.items():  # fmt: skip
    setattr(Tensor, _name, _function)
