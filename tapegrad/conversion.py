"""From NumPy, numbers and lists to tensors: what is taken as it is, what is converted, what is refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import numpy as np

from tapegrad import callers, dtypes, engine, kinds, pages
from tapegrad.dtypes import BY_NUMPY, DType
from tapegrad.tape import current_tape
from tapegrad.tensor import Tensor, depth_of_user, describe, from_array, location, owning

# What other dtypes can hold without loss.
_CONVERTED = {"float16": "float32", "uint16": "int32", "uint32": "int64"}


def leaf_of(data: Any, dtype: DType | None = None, requires_grad: bool = False) -> Tensor:
    """A new leaf with a copy of data: see `tapegrad.tensor`."""
    watch = current_tape().watch
    return _leaf_of(data, dtype, requires_grad) if watch is None else watch.copies(_leaf_of, data, dtype, requires_grad)


def _leaf_of(data: Any, dtype: DType | None, requires_grad: bool) -> Tensor:
    if dtype is None:  # most often it is an array, or a number or a few
        kind = data.__class__
        if kind is np.ndarray and (own := BY_NUMPY.get(data.dtype)) is not None:
            if requires_grad:
                check_can_require_grad(own, True)
            return owning(engine.copied(data), own, requires_grad)
        if kind is float or (kind is list and data and all(v.__class__ is float for v in data)):
            return from_array(np.array(data, dtypes.get_default_dtype().numpy), requires_grad)
    if isinstance(data, Tensor):
        refuse_lost_gradient(data)
        array = data._array()
    else:
        array = _as_array(data, dtype)[0]
    _check_range(data, array, dtype)
    array = np.array(array, (dtype or dtypes.as_dtype(array.dtype)).numpy, order="C")
    check_can_require_grad(dtypes.as_dtype(array.dtype), requires_grad)
    return from_array(array, requires_grad)


def check_can_require_grad(dtype: DType, requires_grad: bool) -> None:
    """Only floating-point values have gradients."""
    if requires_grad and not dtype.is_floating_point:
        raise RuntimeError(
            f"Only Tensors of floating point and complex dtype can require gradients, but this one would be {dtype}: "
            "write its numbers with a decimal point, or give dtype=tapegrad.float64"
        )


def sharing_with(data: Any, dtype: DType | None = None) -> Tensor:
    """Data as a tensor, its memory shared where it can be: see `tapegrad.as_tensor`."""
    watch = current_tape().watch
    return _sharing_with(data, dtype) if watch is None else watch.copies(_sharing_with, data, dtype)


def _sharing_with(data: Any, dtype: DType | None) -> Tensor:
    if data.__class__ is np.ndarray and dtype is None and data.dtype in BY_NUMPY:  # most often
        flags = data.flags
        if flags.writeable and flags.aligned and flags.c_contiguous:
            return from_array(data, exported=True)
    if isinstance(data, Tensor):
        return data if dtype is None or data.dtype is dtype else data.to(dtype)
    array, is_shared = _as_array(data, dtype)
    _check_range(data, array, dtype)
    if dtype is not None and array.dtype != dtype.numpy:
        array, is_shared = array.astype(dtype.numpy), False
    return from_array(array, exported=is_shared)


NUMBERS = (bool, int, float, np.bool_, np.integer, np.floating)  # what stands for a tensor without dimensions


def is_array(value: Any) -> bool:
    """Whether it is an array, or shows itself to NumPy as one, as columns of tables do."""
    return isinstance(value, np.ndarray) or (
        hasattr(type(value), "__array__") and not isinstance(value, (Tensor, np.generic))
    )


def repair(value: Any) -> str:
    """What to do with what stands for no tensor, at the end of an error's text."""
    if isinstance(value, (list, tuple)):
        return ": tapegrad.tensor() makes one of it"
    if is_sparse(value):
        return ": a sparse matrix takes part in @ only, its .toarray() in all else"
    return ""


def is_sparse(value: Any) -> bool:
    """Whether it is one of SciPy's sparse matrices or arrays."""
    return hasattr(value, "tocoo") and hasattr(value, "toarray")


# What makes a tensor of its elements and a shape: `functions/joining.py`.
joiners: list[Callable[[Sequence[Any], tuple[int, ...]], Tensor]] = []


def as_operand(data: Any, is_kept: bool) -> Tensor:
    """What stands for a tensor: an array beside tensors, with the elements that it has now; a number.

    What is written to the array later is not seen. So it is copied where it is small, or a gradient may ask for it
    (`is_kept`). Else its memory is shared, and what is done with it is computed at once.
    """
    if isinstance(data, Tensor):
        return data
    if isinstance(data, np.ndarray) and data.dtype == object and data.size:
        if any(isinstance(x, Tensor) for x in data.flat):
            return joiners[0]([*data.flat], data.shape)
        if all(isinstance(x, (int, float)) for x in data.flat):  # chosen among tensors and numbers
            data = np.array(data.tolist())
    return leaf_of(data) if is_kept or getattr(data, "nbytes", 0) < kinds.LARGE else sharing_with(data)


def _as_array(data: Any, wanted: DType | None) -> tuple[np.ndarray, bool]:
    """An array of one of the dtypes, in native byte order, writable; and whether somebody else has its memory."""
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
    # Ints that are too long for int64 are floats where these are wanted.
    is_long = int in types and types <= {int, bool, float} and wanted is not None and wanted.is_floating_point
    try:
        array = np.asarray(data, np.float64 if is_long else None)
    except (ValueError, OverflowError, TypeError):
        raise _refusal(data, wanted) from None
    is_shared = not is_nested and not isinstance(data, (bool, int, float, complex, np.generic))
    if (not isinstance(data, (np.ndarray, np.generic)) and array.dtype.kind not in "biufc") or (
        array.dtype == "uint64" and int in types
    ):
        raise _refusal(data, wanted)
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
        if depth > _DEEPEST:
            raise _too_deep(data)
        if not data:
            break
        data = data[0]
    return depth


_DEEPEST = 64  # dimensions that NumPy's arrays may have; a list that holds itself is deeper


def _too_deep(data: Any) -> ValueError:
    return ValueError(f"too many dimensions '{type(data).__name__}': sequences are nested more than {_DEEPEST} deep")


_NUMBERS = {bool, int, float}


def _nested(data: Any, types: set[Any], depth: int) -> Any:
    """Nested sequences, with the tensors in them made numbers; `types` gathers types, or NumPy's dtypes."""
    if isinstance(data, (list, tuple)) or (isinstance(data, Tensor) and depth > 0 and data.ndim):
        if depth < -_DEEPEST:
            raise _too_deep(data)
        if not isinstance(data, Tensor) and _NUMBERS.issuperset(classes := {*map(type, data)}):
            types |= classes
            return data
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
    warn_of_lost_gradient(t)
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


def _refusal(data: Any, wanted: DType | None) -> Exception:
    """Why nested data of Python's own makes no tensor: as in PyTorch, its shape comes first, then its dtype."""
    first, depth = data, 0
    while isinstance(first, list) and first:
        first, depth = first[0], depth + 1
    if isinstance(first, (str, bytes)):
        name = type(first).__name__
        return ValueError(f"too many dimensions '{name}'") if depth else TypeError(f"new(): invalid data type '{name}'")
    return (
        (_without_dtype(data) if wanted is None else None)
        or _fault(data, 0, wanted)
        or ValueError(f"can't convert {type(data).__name__} to a tensor: its parts differ in shape")
    )


def _without_dtype(data: Any) -> Exception | None:
    """The error for the first part of it that has no dtype."""
    if isinstance(data, list):
        return next((fault for item in data if (fault := _without_dtype(item))), None)
    name = type(data).__name__
    if isinstance(data, (str, bytes)):
        return TypeError(f"new(): invalid data type '{name}'")
    if isinstance(data, (bool, int, float, complex, np.generic, np.ndarray)):
        return None
    return RuntimeError(f"Could not infer dtype of {name}{repair(data)}{_of_array(data)}")


def _of_array(data: Any) -> str:
    """What to do with a table whose columns are not all numbers."""
    if not hasattr(data, "__array__") or (dtype := np.asarray(data).dtype).kind in "biuf":
        return ""
    return f": the array of it has the dtype {dtype}. Give the columns that are numbers, with .to_numpy(float)"


def _fault(data: Any, depth: int, wanted: DType | None) -> Exception | None:
    """What is wrong with a part of it that is to be an element, in PyTorch's words."""
    if isinstance(data, int) and not -(1 << 63) <= data < 1 << 63:
        return ValueError(f"Overflow when unpacking long: {data} does not fit 64 bits")
    if isinstance(data, (bool, int, float, complex, np.generic, np.ndarray)):
        return None
    if not isinstance(data, list):
        return _without_dtype(data) if is_sparse(data) else _no_number(data, wanted)
    lengths = [len(item) if isinstance(item, list) or np.ndim(item) else None for item in data]
    for item, length in zip(data, lengths, strict=True):
        if lengths[0] is None and length is not None:
            return _no_number(item, wanted)
        if length is None and lengths[0] is not None:
            return TypeError(f"not a sequence, as the first of length {lengths[0]} at dim {depth + 1} is: {item!r}")
        if length != lengths[0]:
            return ValueError(f"expected sequence of length {lengths[0]} at dim {depth + 1} (got {length})")
    return next((fault for item in data if (fault := _fault(item, depth + 1, wanted))), None)


def _no_number(data: Any, wanted: DType | None) -> Exception:
    name = type(data).__name__
    if wanted is not None and wanted.is_floating_point:
        return TypeError(f"must be real number, not {name}")
    return TypeError(f"'{name}' object cannot be interpreted as an integer")


def refuse_lost_gradient(t: Tensor) -> bool:
    """Whether what is made of a tensor, such as a number, loses its graph.

    Raises
    ------
    RuntimeError
        Where it does so in a function of arrays, unless the user's own text asks for a number, as `float(x)` does.
    """
    if not (t.requires_grad and t._tape.grad_enabled):
        return False
    frame = callers.outside() if t._tape.of_arrays else None
    if frame is not None and (callers.root(frame) in callers.LIBRARIES or not callers.wants_number(frame)):
        raise _lost(t, frame)
    return True


def warn_of_lost_gradient(t: Tensor) -> None:
    """A number has no graph: PyTorch's warning, at the user's line; or the error of `refuse_lost_gradient`."""
    if refuse_lost_gradient(t):
        warnings.warn(
            "Converting a tensor with requires_grad=True to a scalar may lead to unexpected behavior.\nConsider using "
            "tensor.detach() first, or tapegrad's functions in the place of those of math.",
            UserWarning,
            stacklevel=depth_of_user(),
        )


class WrittenToNumbersError(RuntimeError):
    """A tensor was written to an array of numbers, where its derivative would be lost."""


def _lost(t: Tensor, frame: FrameType) -> RuntimeError:
    """What is wrong where code makes a number of a tensor unasked."""
    if (library := callers.root(frame)) in callers.LIBRARIES:
        return RuntimeError(
            f"Can't call numpy() on Tensor that requires grad. {library}'s {frame.f_code.co_name} makes numbers of an "
            f"array of tensors, at {location()}, which would lose their derivatives: make a Tensor of it (np.stack "
            "joins them), which NumPy's functions that record take, or an operation of a function with "
            f"tapegrad.autograd.host_function{pages.NUMPY}"
        )
    if callers.does(frame).startswith("STORE"):
        kind: type[RuntimeError] = WrittenToNumbersError
        what = "what is written to an array is a number"
        instead = (
            "write to an array of floats that the function makes (out = np.zeros(n)), to a tensor "
            "(tapegrad.zeros(n)), or join a list by np.stack"
        )
    else:
        kind, what = RuntimeError, f"{callers.name_called(frame) or 'what is called'} makes numbers of tensors"
        instead = "NumPy's functions and tapegrad's take tensors, and np.stack joins them"
    return kind(
        f"{what}: the derivative of {describe(t)} would be lost, at {location()}. In a function that is "
        f"differentiated {instead}; where only the value is meant, give x.detach(){pages.NUMPY}"
    )
