"""To and from NumPy: which arrays are taken as they are, which are converted, which are refused."""

from __future__ import annotations

import ctypes
import sys
import warnings
from typing import Any

import numpy as np

from tapegrad import aliasing, dtypes, engine, kinds
from tapegrad import tape as tapes
from tapegrad.arguments import checked
from tapegrad.debug import MEMORY
from tapegrad.dtypes import BOOL, DType
from tapegrad.kernels.native import functions_of_python
from tapegrad.tensor import Tensor, array_at, depth_of_user, from_array, is_imported, local

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
    array = data._array() if isinstance(data, Tensor) else _as_array(data, dtype)[0]
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
    """`data` as a tensor, its memory shared where it can be: a tensor is returned as it is.

    Of arrays, and of what else shows its memory to NumPy (memory maps, buffers, columns of tables), the memory is
    shared: see `from_numpy`. Numbers and lists are copied.

    >>> import numpy as np
    >>> import tapegrad as tg
    >>> tg.as_tensor(np.array([1.0, 2.0]))
    tensor([1., 2.])
    """
    check_device(device)
    if isinstance(data, Tensor):
        return data if dtype is None or data.dtype is dtype else data.to(dtype)
    array, is_shared = _as_array(data, dtype)
    _check_range(data, array, dtype)
    if dtype is not None and array.dtype != dtype.numpy:
        array, is_shared = array.astype(dtype.numpy), False
    return from_array(array, exported=is_shared)


def as_operand(data: Any, is_kept: bool) -> Tensor:
    """An array beside tensors, with the elements that it has now, whatever is written to it later.

    So it is copied where it is small, or a gradient may ask for it (`is_kept`). Else its memory is shared, and what is
    done with it is computed at once.
    """
    if isinstance(data, Tensor):
        return data
    return tensor(data) if is_kept or getattr(data, "nbytes", 0) < kinds.LARGE else as_tensor(data)


def from_numpy(ndarray: np.ndarray) -> Tensor:
    """A tensor that shares the array's memory: a change in one is seen in the other, subclasses of ndarray included.

    Arrays that cannot be shared are converted: other byte orders, read-only ones, float16 (to float32), small and
    unsigned integers (to int32 or int64). What is done to the tensor is computed at once; but gradients that depend on
    its elements read the memory when they are computed.

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


def _as_array(data: Any, wanted: DType | None) -> tuple[np.ndarray, bool]:
    """An array of one of the five dtypes, in native byte order, writable; and whether somebody else has its memory."""
    if isinstance(data, np.ma.MaskedArray):
        raise TypeError(
            "can't convert a masked array: a tensor has no mask. Fill it (data.filled(value)) or drop what is masked "
            "(data.compressed())"
        )
    is_nested, types = isinstance(data, (list, tuple)), set[Any]()
    if is_nested:
        data = _nested(data, types, _depth(data))
        if not data:
            return np.empty(0, dtypes.get_default_dtype().numpy), False
    elif not isinstance(data, np.ndarray):
        types.add(type(data))
    try:
        array = np.asarray(data)
    except (ValueError, OverflowError):
        raise _refusal(data) from None
    is_shared = not is_nested and not isinstance(data, (bool, int, float, complex, np.generic))
    if (not isinstance(data, (np.ndarray, np.generic)) and array.dtype.kind not in "biufc") or (
        array.dtype == "uint64" and int in types
    ):
        raise _refusal(data)
    if array.dtype.kind == "f" and not is_shared and (inferred := _inferred(types, wanted)) is not None:
        array = array.astype(inferred.numpy, copy=False)
    name = array.dtype.name
    if name in _CONVERTED:
        return array.astype(_CONVERTED[name]), False
    if name not in {d.name for d in dtypes.DTYPES}:
        if name == "uint64" and (array.size == 0 or array.max() <= np.iinfo(np.int64).max):
            return array.astype(np.int64), False
        raise TypeError(
            f"can't convert np.ndarray of type numpy.{array.dtype.type.__name__}. The supported types are: "
            "float64, float32, float16, int64, int32, int16, int8, uint8, uint16, uint32, and bool."
        )
    if not array.dtype.isnative:
        return array.astype(array.dtype.newbyteorder("=")), False
    aligned = array.flags.aligned and all(s % array.itemsize == 0 for s in array.strides)
    return (array, is_shared) if array.flags.writeable and aligned else (array.copy(), False)


def _check_range(data: Any, array: np.ndarray, wanted: DType | None) -> None:
    """Python's numbers fit the integer dtype that they are to have; arrays and tensors are converted as by `to`."""
    if wanted is None or wanted.category != 1 or array.dtype == wanted.numpy or not array.size:
        return
    if not isinstance(data, (np.ndarray, Tensor)):
        for extreme in (array.min(), array.max()):  # nan where there is one
            dtypes.in_range(extreme.item(), wanted)


def _depth(data: Any) -> int:
    """How deep sequences are nested, by the first part of each; in the place of the last a tensor is a number."""
    depth = 0
    while isinstance(data, (list, tuple)):
        depth += 1
        if not data:
            break
        data = data[0]
    return depth


def _nested(data: Any, types: set[Any], depth: int) -> Any:
    """Nested sequences as lists, with the tensors in them made numbers; `types` gathers types, or NumPy's dtypes."""
    if isinstance(data, (list, tuple)) or (isinstance(data, Tensor) and depth > 0 and data.ndim):
        return [_nested(item, types, depth - 1) for item in data]
    if isinstance(data, Tensor):
        data = _as_number(data)
    types.add(data.dtype if isinstance(data, (np.ndarray, np.generic)) else type(data))
    return data


def _as_number(t: Tensor) -> Any:
    """A tensor among numbers, as NumPy's scalar of its dtype."""
    if t._kind.numel != 1:
        raise ValueError(
            f"only one element tensors can be converted to Python scalars, but one has shape {list(t._kind.shape)}: "
            "tapegrad.stack() joins tensors"
        )
    _warn_of_lost_gradient(t)
    return t._array().reshape(())[()]


def _inferred(types: set[Any], wanted: DType | None) -> DType | None:
    """The dtype of floating-point data, Python's own floats having the default one; None where NumPy knows better."""
    floating = wanted if wanted is not None and wanted.is_floating_point else dtypes.get_default_dtype()
    inferred: DType | None = None
    for found in types:
        if isinstance(found, np.dtype):
            dtype = dtypes.as_dtype(found) if found.name in {"float64", "float32"} else None
            is_known = dtype is not None or found.kind != "f"
        else:
            dtype = floating if found is float else None
            is_known = found is float or issubclass(found, int)
        if not is_known:
            return None
        if dtype is not None:
            inferred = dtype if inferred is None else dtypes.promote_types(inferred, dtype)
    return inferred


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
    tape, top = t._tape, aliasing.top_of(t)
    engine.evaluate(tape, top._slot)
    is_copy = is_imported(t) and not t._kind.exported
    if not (top._kind.exported or is_copy):
        engine.evaluate_all(tape)  # what is pending is computed from the elements as they are now
        engine.reclaim_if_due(tape)
    owner = aliasing.owner_of(top)
    if owner not in tape.arrays:
        of, address = kinds.objects[tape.slots["kind"][owner]], int(tape.slots["primal"][owner])
        released, flags = _Released(), tape.slots["flags"]
        array = array_at(address, of, released)
        raw = ctypes.c_int64.from_address(address - 64).value  # see `storage.py`
        # The memory changes hands: nothing can come between (see `tape.py`).
        tape.arrays[owner] = array
        flags[owner] &= ~tapes.OWNED
        released.raw = raw
        if MEMORY:
            engine.hand_out(tape, address)
    if not (top._kind.exported or is_copy):
        aliasing.mark_exported(top)
    engine.evaluate(tape, t._slot)
    array = _over_memory(t)
    if is_copy:
        array.flags.writeable = False
    return array


def _over_memory(t: Tensor) -> np.ndarray:
    """An array over memory that is NumPy's."""
    tape, slot = t._tape, t._slot
    return array_at(int(tape.slots["primal"][slot]), t._kind, tape.arrays[aliasing.owner_of(t)])


class _Released:
    """Memory of the tape that now belongs to an array: let go with the last array that sees it."""

    raw = 0

    def __init__(self) -> None:
        self.release = functions_of_python()["release"]

    def __del__(self, is_finalizing: Any = sys.is_finalizing) -> None:  # by then modules may be empty
        if self.raw and not is_finalizing():
            self.release(self.raw)


def __array__(self: Tensor, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    array = numpy(self) if copy is not True else self.detach()._array().copy()
    return array if dtype is None else array.astype(dtype, copy=False)


def tolist(self: Tensor) -> Any:
    """The elements as nested lists of Python numbers; a number where there are no dimensions."""
    return self._array().tolist()


def _warn_of_lost_gradient(t: Tensor) -> None:
    """A number has no graph: PyTorch's warning, at the user's line."""
    if t._kind.requires_grad and t._tape.grad_enabled:
        warnings.warn(
            "Converting a tensor with requires_grad=True to a scalar may lead to unexpected behavior.\nConsider using "
            "tensor.detach() first, or tapegrad's functions in the place of those of math.",
            UserWarning,
            stacklevel=depth_of_user(),
        )


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
    _warn_of_lost_gradient(self)
    return number


def __complex__(self: Tensor) -> complex:
    return complex(__float__(self))


def _to_int(self: Tensor) -> int:
    return int(_only_element(self))


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
    "__float__": __float__, "__complex__": __complex__, "__int__": _to_int,
    "__format__": _to_format, "__copy__": __copy__, "__deepcopy__": __deepcopy__, "__reduce_ex__": __reduce_ex__,
}.items():  # fmt: skip
    setattr(Tensor, _name, _function)

__all__ = ["BOOL", "as_tensor", "check_can_require_grad", "export", "from_numpy", "is_tensor", "numpy", "tensor"]
