"""New tensors that fewer ask for: powers evenly apart, windows, memory of others, any strides."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from tapegrad import creation, dtypes
from tapegrad.arguments import EXACT, Number, Sizes, Surface, checked
from tapegrad.conversion import refuse_lost_gradient
from tapegrad.devices import check_device, check_placed
from tapegrad.dtypes import DType
from tapegrad.functions.joining import as_strided
from tapegrad.functions.shaping import permute
from tapegrad.recording import cast
from tapegrad.tensor import Tensor

functions = Surface()


def public(function: Any) -> Any:
    """Take in a function that is no method."""
    functions[function.__name__] = taken = checked(function, out=EXACT)
    return taken


@public
def logspace(
    start: Number | Tensor, end: Number | Tensor, steps: int, base: float = 10.0, *, dtype: DType | None = None,
    device: Any = None, layout: Any = None, pin_memory: bool = False, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """`steps` powers of `base`, their exponents from `start` to `end`, both included, evenly spaced.

    >>> import tapegrad as tg
    >>> tg.logspace(0, 2, 3)
    tensor([  1.,  10., 100.])
    """
    check_placed(device, layout, pin_memory)
    wanted = dtype or dtypes.get_default_dtype()
    start, end = creation._ends("logspace", start, end)
    exponents = creation.linspace(start, end, steps, dtype=dtypes.FLOAT64, device=device)
    made = cast(base**exponents, wanted).detach()
    return made.requires_grad_() if requires_grad else made


@public
def range(
    start: Number = 0,
    end: Number | None = None,
    step: Number = 1,
    *,
    dtype: DType | None = None,
    device: Any = None,
    layout: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """Numbers from `start` to `end`, which is included, `step` apart. Deprecated by PyTorch: use `arange`."""
    check_placed(device, layout, pin_memory)
    warnings.warn("range is deprecated, as PyTorch's is: use arange, whose `end` is not included", UserWarning, 4)
    start, end = (0, start) if end is None else (start, end)
    if step == 0:
        raise RuntimeError("step must be nonzero")
    if not (math.isfinite(start) and math.isfinite(end)):
        raise RuntimeError(f"unsupported range: {start} -> {end}")
    if (end - start) * step < 0:
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")
    n = math.floor((end - start) / step) + 1
    numbers = start + step * np.arange(n)
    return creation.tensor(numbers, dtype=dtype or dtypes.get_default_dtype(), requires_grad=requires_grad)


@public
def scalar_tensor(
    s: Number,
    *,
    dtype: DType | None = None,
    device: Any = None,
    layout: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """One number, in the default dtype where none is given.

    >>> import tapegrad as tg
    >>> tg.scalar_tensor(3)
    tensor(3.)
    """
    check_placed(device, layout, pin_memory)
    return creation.tensor(s, dtype=dtype or dtypes.get_default_dtype(), device=device, requires_grad=requires_grad)


@public
def asarray(
    obj: Any, *, dtype: DType | None = None, device: Any = None, copy: bool | None = None, requires_grad: bool = False
) -> Tensor:  # fmt: skip
    """A tensor of what is given: shared memory where that can be, of tensors and arrays, or (`copy`) a copy always.

    Raises
    ------
    ValueError
        Where `copy` is False, and it can't be without one.

    >>> import tapegrad as tg
    >>> tg.asarray([1, 2])
    tensor([1, 2])
    """
    check_device(device)
    shares = isinstance(obj, (Tensor, np.ndarray))
    own = obj.dtype if isinstance(obj, Tensor) else None
    if copy is False and not (shares and dtype in (None, own or dtypes.as_dtype(obj.dtype))):
        raise ValueError("can't alias what is given into a tensor of that dtype: copy=False, but it takes a copy")
    if isinstance(obj, Tensor):
        made = obj if dtype is None else cast(obj, dtype)
        made = made.clone() if copy and made is obj else made
        if not requires_grad:
            refuse_lost_gradient(made)
            return made.detach() if made.requires_grad else made
        return made if made.requires_grad else made.detach().requires_grad_()
    made = creation.tensor(obj, dtype=dtype) if copy or not shares else creation.as_tensor(obj, dtype)
    return made.requires_grad_() if requires_grad else made


@public
def frombuffer(
    buffer: Any, *, dtype: DType, count: int = -1, offset: int = 0, requires_grad: bool = False
) -> Tensor:  # fmt: skip
    r"""A vector over the memory of a buffer, from `offset` bytes on: of `count` elements, or all that there are.

    >>> import tapegrad as tg
    >>> tg.frombuffer(bytearray(b"\1\0\0\0\2\0\0\0"), dtype=tg.int32)
    tensor([1, 2], dtype=tapegrad.int32)
    """
    size, width = memoryview(buffer).nbytes, dtype.numpy.itemsize
    if size == 0 or count == 0:
        raise ValueError(f"both buffer length ({size}) and count ({count}) must not be 0")
    if not 0 <= offset < size:
        raise ValueError(
            f"offset ({offset} bytes) must be non-negative and no greater than buffer length ({size} bytes) minus 1"
        )
    if count < 0 and (size - offset) % width:
        raise ValueError(
            f"buffer length ({size - offset} bytes) after offset ({offset} bytes) must be a multiple of element size "
            f"({width})"
        )
    if count > 0 and offset + count * width > size:
        raise ValueError(
            f"requested buffer length ({count} * {width} bytes) after offset ({offset} bytes) must not be greater than "
            f"actual buffer length ({size} bytes)"
        )
    made = creation.from_numpy(np.frombuffer(buffer, dtype.numpy, count, offset))
    return made.requires_grad_() if requires_grad else made


@public
def empty_strided(
    size: Sizes,
    stride: Sizes,
    *,
    dtype: DType | None = None,
    device: Any = None,
    layout: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """A tensor of these strides, in elements, that holds whatever was in memory.

    >>> import tapegrad as tg
    >>> tg.empty_strided((2, 3), (1, 2)).stride()
    (1, 2)
    """
    check_placed(device, layout, pin_memory)
    if len(size) != len(stride):
        raise RuntimeError(
            f"dimensionality of sizes ({len(size)}) must match dimensionality of strides ({len(stride)})"
        )
    n = 0 if 0 in size else 1 + sum((m - 1) * s for m, s in zip(size, stride, strict=True))
    made = as_strided(creation.empty(n, dtype=dtype, device=device), size, stride)
    return made.detach().requires_grad_() if requires_grad else made


@public
def empty_permuted(
    size: Sizes,
    physical_layout: Sizes,
    *,
    dtype: DType | None = None,
    device: Any = None,
    layout: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """A tensor whose dimensions lie in memory in this order, that holds whatever was there.

    >>> import tapegrad as tg
    >>> tg.empty_permuted((2, 3), (1, 0)).stride()
    (1, 2)
    """
    check_placed(device, layout, pin_memory)
    if len(size) != len(physical_layout):
        raise RuntimeError(
            f"Number of dimensions in size ({len(size)}) does not match the length of the physical_layout "
            f"({len(physical_layout)})"
        )
    order = physical_layout
    for d in order:
        if not 0 <= d < len(size):
            raise RuntimeError(f"Dimension out of range (expected to be between 0 and {len(size) - 1}, but got {d})")
    if len({*order}) != len(order):
        raise RuntimeError("Duplicate dim not allowed")
    made = creation.empty([size[d] for d in order], dtype=dtype, device=device)
    made = permute(made, tuple(int(d) for d in np.argsort(order))) if size else made
    return made.detach().requires_grad_() if requires_grad else made


def _new_empty_strided(self: Tensor, size: Any, stride: Any, dtype: Any = None, **facts: Any) -> Tensor:
    return empty_strided(size, stride, dtype=self.dtype if dtype is None else dtype, **facts)


_new_empty_strided.__name__ = "new_empty_strided"
_new_empty_strided.__doc__ = "`empty_strided`, in the dtype of the tensor."
Tensor.new_empty_strided = _new_empty_strided


# --- windows ----------------------------------------------------------------------------------------------------------


def window(
    name: str, shape: Callable[[np.ndarray], Any], n: int, periodic: bool, dtype: DType | None, requires_grad: bool
) -> Tensor:  # fmt: skip
    """`shape` of the places from -1 to 1: of n points; or the first n of n + 1 where it is to go on."""
    if n < 0:
        raise (ValueError if name.startswith("signal") else RuntimeError)(
            f"{name} requires non-negative window_length, got window_length={n}"
        )
    wanted = dtype or dtypes.get_default_dtype()
    if not wanted.is_floating_point:
        raise (ValueError if name.startswith("signal") else RuntimeError)(
            f"{name} expects floating point dtypes, got: {wanted}"
        )
    whole = n + periodic
    places = np.linspace(-1.0, 1.0, whole) if whole > 1 else np.zeros(whole)
    values = np.ones(n) if n <= 1 else np.broadcast_to(shape(places), places.shape)[:n]
    return creation.tensor(values.astype(wanted.numpy), requires_grad=requires_grad)


def of_cosines(*weights: float) -> Callable[[np.ndarray], Any]:
    """A sum of cosines over the window, with alternating signs from its beginning."""
    return lambda t: sum(a * np.cos(k * np.pi * t) for k, a in enumerate(weights))


def of_kaiser(beta: float) -> Callable[[np.ndarray], Any]:
    """Kaiser's window."""
    return lambda t: np.i0(beta * np.sqrt(np.maximum(1.0 - t * t, 0.0))) / np.i0(beta)


@public
def hann_window(
    window_length: int,
    periodic: bool = True,
    *,
    dtype: DType | None = None,
    device: Any = None,
    layout: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """Hann's window: one period of 1 + cos, halved; `periodic` windows go on without the last point.

    >>> import tapegrad as tg
    >>> tg.hann_window(4)
    tensor([0.0000, 0.5000, 1.0000, 0.5000])
    """
    check_placed(device, layout, pin_memory)
    return window("hann_window", of_cosines(0.5, 0.5), window_length, periodic, dtype, requires_grad)


@public
def hamming_window(
    window_length: int, periodic: bool = True, alpha: float = 0.54, beta: float = 0.46, *, dtype: DType | None = None,
    device: Any = None, layout: Any = None, pin_memory: bool = False, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """Hamming's window: alpha - beta cos.

    >>> import tapegrad as tg
    >>> tg.hamming_window(4)
    tensor([0.0800, 0.5400, 1.0000, 0.5400])
    """
    check_placed(device, layout, pin_memory)
    return window("hamming_window", of_cosines(alpha, beta), window_length, periodic, dtype, requires_grad)


@public
def blackman_window(
    window_length: int,
    periodic: bool = True,
    *,
    dtype: DType | None = None,
    device: Any = None,
    layout: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """Blackman's window.

    >>> import tapegrad as tg
    >>> tg.blackman_window(4)[1:]
    tensor([0.3400, 1.0000, 0.3400])
    """
    check_placed(device, layout, pin_memory)
    return window("blackman_window", of_cosines(0.42, 0.5, 0.08), window_length, periodic, dtype, requires_grad)


@public
def bartlett_window(
    window_length: int,
    periodic: bool = True,
    *,
    dtype: DType | None = None,
    device: Any = None,
    layout: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """Bartlett's window: a triangle.

    >>> import tapegrad as tg
    >>> tg.bartlett_window(4), tg.bartlett_window(5, periodic=False)
    (tensor([0.0000, 0.5000, 1.0000, 0.5000]), tensor([0.0000, 0.5000, 1.0000, 0.5000, 0.0000]))
    """
    check_placed(device, layout, pin_memory)
    return window("bartlett_window", lambda t: 1.0 - abs(t), window_length, periodic, dtype, requires_grad)


@public
def kaiser_window(
    window_length: int,
    periodic: bool = True,
    beta: float = 12.0,
    *,
    dtype: DType | None = None,
    device: Any = None,
    layout: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """Kaiser's window, of Bessel's function I0.

    >>> import tapegrad as tg
    >>> tg.kaiser_window(4, beta=5.0)
    tensor([0.0367, 0.5529, 1.0000, 0.5529])
    """
    check_placed(device, layout, pin_memory)
    return window("kaiser_window", of_kaiser(beta), window_length, periodic, dtype, requires_grad)
