"""To and from NumPy: which arrays are taken as they are, which are converted, which are refused."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import numpy as np

from tapegrad import dtypes, engine
from tapegrad import tape as tapes
from tapegrad.arguments import checked
from tapegrad.debug import MEMORY
from tapegrad.dtypes import BOOL, DType
from tapegrad.kernels.native import functions_of_python
from tapegrad.tensor import Tensor, array_at, from_array, is_imported, local

# What the five dtypes can hold without loss.
_CONVERTED = {
    "float16": "float32", "int8": "int32", "int16": "int32", "uint8": "int32", "uint16": "int32", "uint32": "int64",
}  # fmt: skip


@checked
def tensor(data: Any, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A new leaf with a copy of `data`: a number, nested sequences of numbers, an array, or a tensor.

    Parameters
    ----------
    dtype : DType, optional
        By default that of the data; Python floats become the default dtype, ints int64.
    device : "cpu" or None
        Accepted for compatibility.
    requires_grad : bool
        Whether gradients are to accumulate in it.

    Raises
    ------
    RuntimeError
        Where gradients are asked for and the dtype is not floating point.
    TypeError, ValueError, RuntimeError
        Where the data is not numeric; where it is ragged, or an integer is too long; where it is some other object.

    >>> import tapegrad as tg
    >>> tg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    tensor([[1., 2.],
            [3., 4.]], requires_grad=True)
    """
    check_device(device)
    array = data._array() if isinstance(data, Tensor) else _as_array(data, dtype)
    _check_range(data, array, dtype)
    array = np.array(array, (dtype or dtypes.as_dtype(array.dtype)).numpy, order="C")
    check_can_require_grad(dtypes.as_dtype(array.dtype), requires_grad)
    return from_array(array, bool(requires_grad))


def is_tensor(obj: Any) -> bool:
    """Whether an object is a Tensor."""
    return isinstance(obj, Tensor)


def check_can_require_grad(dtype: DType, requires_grad: bool) -> None:
    """Only floating-point values have gradients."""
    if requires_grad and not dtype.is_floating_point:
        raise RuntimeError(
            f"Only Tensors of floating point and complex dtype can require gradients, but this one would be {dtype}: "
            "write its numbers with a decimal point, or give dtype=tapegrad.float64"
        )


def check_device(device: Any) -> None:
    if device is not None and str(device) != "cpu":
        raise RuntimeError(f"tapegrad computes on the CPU: device must be 'cpu' or None, but got {device!r}")


@checked
def as_tensor(data: Any, dtype: DType | None = None, device: Any = None) -> Tensor:
    """`data` as a tensor, its memory shared where it can be: a tensor is returned as it is, an array is borrowed.

    >>> import numpy as np
    >>> import tapegrad as tg
    >>> tg.as_tensor(np.array([1.0, 2.0]))
    tensor([1., 2.])
    """
    check_device(device)
    if isinstance(data, Tensor):
        return data if dtype is None or data.dtype is dtype else data.to(dtype)
    array = _as_array(data, dtype)
    _check_range(data, array, dtype)
    if dtype is not None and array.dtype != dtype.numpy:
        array = array.astype(dtype.numpy)
    return from_array(array, exported=array is data)


def from_numpy(ndarray: np.ndarray) -> Tensor:
    """A tensor that shares the array's memory: a change in one is seen in the other.

    Arrays that cannot be shared are converted: other byte orders, read-only ones, float16 (to float32), small and
    unsigned integers (to int32 or int64).

    Raises
    ------
    TypeError
        For anything but an array, and for arrays of objects, dates, strings, complex numbers or longdouble, and masked
        arrays.

    >>> import numpy as np
    >>> import tapegrad as tg
    >>> a = np.zeros(3)
    >>> t = tg.from_numpy(a)
    >>> a[0] = 1.0
    >>> t
    tensor([1., 0., 0.])
    """
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(ndarray).__name__})")
    return as_tensor(ndarray)


def _as_array(data: Any, wanted: DType | None) -> np.ndarray:
    """An array of one of the five dtypes, in native byte order, writable; the array itself where it is that."""
    if isinstance(data, np.ma.MaskedArray):
        raise TypeError(
            "can't convert a masked array: a tensor has no mask. Fill it (data.filled(value)) or drop what is masked "
            "(data.compressed())"
        )
    if isinstance(data, (list, tuple)):
        data = _nested(data)
        if isinstance(data, list) and not data:
            return np.empty(0, dtypes.get_default_dtype().numpy)
    try:
        array = np.asarray(data)
    except (ValueError, OverflowError):
        raise _refusal(data) from None
    if (not isinstance(data, (np.ndarray, np.generic)) and array.dtype.kind not in "biufc") or (
        array.dtype == "uint64" and _of_python(data)
    ):
        raise _refusal(data)
    if (
        not isinstance(data, np.ndarray)
        and array.dtype.kind == "f"
        and not isinstance(data, np.generic)
        and _of_python(data)
    ):
        floating = wanted if wanted is not None and wanted.is_floating_point else dtypes.get_default_dtype()
        array = array.astype(floating.numpy)
    name = array.dtype.name
    if name in _CONVERTED:
        return array.astype(_CONVERTED[name])
    if name not in {d.name for d in dtypes.DTYPES}:
        if name == "uint64" and (array.size == 0 or array.max() <= np.iinfo(np.int64).max):
            return array.astype(np.int64)
        raise TypeError(
            f"can't convert np.ndarray of type numpy.{array.dtype.type.__name__}. The supported types are: "
            "float64, float32, float16, int64, int32, int16, int8, uint8, uint16, uint32, and bool."
        )
    if not array.dtype.isnative:
        return array.astype(array.dtype.newbyteorder("="))
    aligned = array.flags.aligned and all(s % array.itemsize == 0 for s in array.strides)
    return array if array.flags.writeable and aligned else array.copy()


def _check_range(data: Any, array: np.ndarray, wanted: DType | None) -> None:
    """Python's numbers fit the integer dtype that they are to have; arrays and tensors are converted as by `to`."""
    if wanted is None or wanted.category != 1 or array.dtype == wanted.numpy or not array.size:
        return
    if not isinstance(data, (np.ndarray, Tensor)):
        for extreme in (array.min(), array.max()):  # nan where there is one
            dtypes.in_range(extreme.item(), wanted)


def _nested(data: Any) -> Any:
    """Nested sequences with the tensors in them made numbers or arrays."""
    if isinstance(data, Tensor):
        return data.item() if data.ndim == 0 else data._array()
    if isinstance(data, (list, tuple)):
        return [_nested(item) for item in data]
    return data


def _of_python(data: Any) -> bool:
    """Whether nested data is of Python's own floats, whose dtype is the default one."""
    while isinstance(data, list) and data:
        data = data[0]
    return not isinstance(data, (np.ndarray, np.generic)) or isinstance(data, float)


def _refusal(data: Any) -> Exception:
    """Why nested data of Python's own makes no tensor."""
    return _fault(data, 0) or ValueError(f"can't convert {type(data).__name__} to a tensor: its parts differ in shape")


def _fault(data: Any, depth: int) -> Exception | None:
    """What is wrong with a part of it, in PyTorch's words."""
    if isinstance(data, (str, bytes)):
        name = type(data).__name__
        return ValueError(f"too many dimensions '{name}'") if depth else TypeError(f"new(): invalid data type '{name}'")
    if isinstance(data, int) and not -(1 << 63) <= data < 1 << 63:
        return ValueError(f"Overflow when unpacking long: {data} does not fit 64 bits")
    if isinstance(data, (bool, int, float, complex, np.generic, np.ndarray)):
        return None
    if not isinstance(data, list):
        return RuntimeError(f"Could not infer dtype of {type(data).__name__}")
    lengths = [len(item) if isinstance(item, list) or np.ndim(item) else None for item in data]
    for length in lengths:
        if length != lengths[0]:
            expected, found = ("a number" if n is None else f"sequence of length {n}" for n in (lengths[0], length))
            got = found if length is None or lengths[0] is None else length
            return ValueError(f"expected {expected} at dim {depth + 1} (got {got})")
    return next((fault for item in data if (fault := _fault(item, depth + 1))), None)


# --- sharing with NumPy ----------------------------------------------------------------------------------------------


def numpy(self: Tensor, *, force: bool = False) -> np.ndarray:
    """The elements as a NumPy array that shares the tensor's memory.

    From then on operations on the tensor are computed as they are recorded, since NumPy may change the memory at any
    time. Of a tensor of another thread it is a copy that can't be written to, unless NumPy shares the memory already.

    Raises
    ------
    RuntimeError
        Where the tensor requires grad and `force` is False.
    """
    if self._kind.requires_grad:
        if not force:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
        self = self.detach()
    return export(self)


def export(t: Tensor) -> np.ndarray:
    """An array over the tensor's memory, which NumPy owns from now on."""
    if not t._kind.exported:
        t = local(t)
    elif t._tape is not tapes.current_tape():
        return _over_memory(t)
    tape, slot = t._tape, t._slot
    engine.evaluate(tape, slot)
    owner_slot = _owner_of(tape, slot)
    is_copy = is_imported(t) and not t._kind.exported
    if not (t._kind.exported or is_copy):
        engine.evaluate_all(tape)  # what is pending is computed from the elements as they are now
        engine.reclaim_if_due(tape)
    if owner_slot not in tape.arrays:
        of, address = tapes.kind_objects[tape.slots["kind"][owner_slot]], int(tape.slots["primal"][owner_slot])
        released, flags = _Released(), tape.slots["flags"]
        array = array_at(address, of, released)
        raw = ctypes.c_int64.from_address(address - 64).value  # see `storage.py`
        # The memory changes hands: nothing can come between (see `tape.py`).
        tape.arrays[owner_slot] = array
        flags[owner_slot] &= ~tapes.OWNED
        released.raw = raw
        if MEMORY:
            engine.hand_out(tape, address)
    array = _over_memory(t)
    if is_copy:
        array.flags.writeable = False
    else:
        mark_exported(t)
    return array


def _owner_of(tape: tapes.Tape, slot: int) -> int:
    """The slot whose memory holds the elements of this one."""
    base = int(tape.slots["base"][slot])
    return slot if base < 0 else base


def _over_memory(t: Tensor) -> np.ndarray:
    """An array over memory that is NumPy's."""
    tape, slot = t._tape, t._slot
    return array_at(int(tape.slots["primal"][slot]), t._kind, tape.arrays[_owner_of(tape, slot)])


class _Released:
    """Memory of the tape that now belongs to an array: let go with the last array that sees it."""

    raw = 0

    def __init__(self) -> None:
        self.release = functions_of_python()["release"]

    def __del__(self, is_finalizing: Any = sys.is_finalizing) -> None:  # by then modules may be empty
        if self.raw and not is_finalizing():
            self.release(self.raw)


def mark_exported(t: Tensor) -> None:
    """Note for the tensor, and all that share its memory, that NumPy can write to it."""
    from tapegrad.aliasing import family

    for member in family(t):
        if not member._kind.exported:
            engine.evaluate(member._tape, member._slot)
            member._set_kind(exported=True)


def __array__(self: Tensor, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    array = numpy(self) if copy is not True else self.detach()._array().copy()
    return array if dtype is None else array.astype(dtype, copy=False)


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
    return copied.requires_grad_(self._kind.requires_grad)


def __deepcopy__(self: Tensor, memo: dict[int, Any]) -> Tensor:
    copied = from_array(self._array().copy(), self._kind.requires_grad) if self.is_leaf else self.detach().clone()
    memo[id(self)] = copied
    if self.grad is not None:
        copied.grad = __deepcopy__(self.grad, memo)
    return copied


def __reduce_ex__(self: Tensor, protocol: int) -> tuple[Any, ...]:
    if not self.is_leaf:
        raise RuntimeError(
            "a tensor that was computed and requires grad can't be pickled with its graph: pickle .detach() of it"
        )
    return _rebuild, (self._array().copy(), self._kind.requires_grad)


def _rebuild(array: np.ndarray, requires_grad: bool) -> Tensor:
    return from_array(array, requires_grad)


for _name, _function in {
    "numpy": numpy, "tolist": tolist, "__array__": __array__, "__bool__": _to_bool, "__index__": _to_index,
    "__float__": lambda self: float(_only_element(self)), "__int__": lambda self: int(_only_element(self)),
    "__format__": _to_format, "__copy__": __copy__, "__deepcopy__": __deepcopy__, "__reduce_ex__": __reduce_ex__,
}.items():  # fmt: skip
    setattr(Tensor, _name, _function)

__all__ = ["BOOL", "as_tensor", "check_can_require_grad", "export", "from_numpy", "is_tensor", "numpy", "tensor"]
