"""Other dtypes, and other orders in memory, of the same elements; copies."""

from __future__ import annotations

from typing import Any

from tapegrad import dtypes
from tapegrad.arguments import CAST, Surface, checked
from tapegrad.devices import (
    channels_last,
    channels_last_3d,
    check_device,
    contiguous_format,
    has_channels_last,
    preserve_format,
)
from tapegrad.dtypes import DType
from tapegrad.functions import elementwise, shaping
from tapegrad.recording import cast
from tapegrad.tensor import Tensor, location

functions = Surface(CAST)
_plain_clone = elementwise.functions.pop("clone")


def _last(ndim: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The orders of dimensions that bring the channels to the end, and back."""
    return (0, *range(2, ndim), 1), (0, ndim - 1, *range(1, ndim - 1))


def _lies(t: Tensor, memory_format: Any) -> bool:
    """Whether the elements lie in memory as a format says."""
    if not has_channels_last(memory_format, t.ndim):
        return memory_format is preserve_format or t._kind.contiguous
    there, _ = _last(t.ndim)
    apart = 1
    for d in reversed(there):
        n = t._kind.shape[d]
        if n != 1 and t._kind.strides[d] != apart * t._kind.itemsize:
            return t._kind.numel == 0
        apart *= n
    return True


def _moved(t: Tensor, memory_format: Any) -> Tensor:
    """A copy whose elements lie as a format says."""
    if not has_channels_last(memory_format, t.ndim):
        return _plain_clone(t)
    there, back = _last(t.ndim)
    return shaping.permute(_plain_clone(shaping.permute(t, there)), back)


def clone(input: Tensor, *, memory_format: Any = preserve_format, out: Any = None) -> Tensor:
    """A copy, through which gradients flow; in order, or with the channels last (`tapegrad.channels_last`).

    >>> import tapegrad as tg
    >>> tg.clone(tg.ones(1, 2, 3, 4), memory_format=tg.channels_last).stride()
    (24, 1, 8, 2)
    """
    return _plain_clone(input, out=out) if memory_format is preserve_format else _moved(input, memory_format)


def _clone(self: Tensor, *, memory_format: Any = preserve_format) -> Tensor:
    """A copy, through which gradients flow; in order, or with the channels last (`tapegrad.channels_last`)."""
    return _plain_clone(self) if memory_format is preserve_format else _moved(self, memory_format)


def _contiguous(self: Tensor, *, memory_format: Any = contiguous_format) -> Tensor:
    """The tensor itself where its elements lie in order, or as the format says, else a copy where they do."""
    if memory_format is contiguous_format:
        return self if self._kind.contiguous else _plain_clone(self)
    return self if _lies(self, memory_format) else _moved(self, memory_format)


def _is_contiguous(self: Tensor, *, memory_format: Any = contiguous_format) -> bool:
    """Whether the elements lie in memory in order, or as the format says."""
    if memory_format is contiguous_format or memory_format is preserve_format:
        return self._kind.contiguous
    if memory_format in (channels_last, channels_last_3d) and self.ndim != (4 if memory_format is channels_last else 5):
        return False
    return _lies(self, memory_format)


_NAMES_OF_DTYPES = {
    *(dtype.name for dtype in dtypes.DTYPES),
    "float16", "bfloat16", "uint16", "uint32", "uint64", "complex64", "complex128",
}  # fmt: skip


@checked
def to(
    self: Tensor, *args: Any, dtype: DType | None = None, device: Any = None, non_blocking: bool = False,
    copy: bool = False, memory_format: Any = preserve_format,
) -> Tensor:  # fmt: skip
    """The tensor in another dtype (or that of another tensor), or memory format; itself where nothing has to change.

    Called as to(dtype), to(device, dtype) or to(other), behind which `non_blocking` and `copy` may stand.
    """
    flags = []
    for given in args:
        if isinstance(given, Tensor):
            dtype = given.dtype
        elif isinstance(given, bool):
            flags.append(given)
        elif isinstance(given, str) and given not in _NAMES_OF_DTYPES:
            check_device(given)
        elif given is not None:
            dtype = dtypes.as_dtype(given)
    check_device(device)
    copy = copy or (len(flags) > 1 and flags[1])
    made = self if dtype is None or self.dtype is dtype else cast(self, dtype)
    if memory_format is not preserve_format and not _lies(made, memory_format):
        return _moved(made, memory_format)
    return _plain_clone(self) if copy and made is self else made


@checked
def _type_as(self: Tensor, other: Tensor) -> Tensor:
    """The tensor in the dtype of another."""
    return to(self, other.dtype)


def _converter(name: str, dtype: DType) -> Any:
    @checked
    def convert(self: Tensor, *, memory_format: Any = preserve_format) -> Tensor:
        return to(self, dtype, memory_format=memory_format)

    convert.__name__ = convert.__qualname__ = name
    convert.__doc__ = f"The tensor in {dtype.name}; itself where it has that already."
    return convert


def _refused(name: str, dtype: str) -> Any:
    """A conversion to a dtype in which nothing is computed."""

    def convert(self: Tensor, *, memory_format: Any = preserve_format) -> Tensor:
        del self, memory_format
        raise TypeError(
            f"{name}(): tapegrad has no {dtype}, but {', '.join(d.name for d in dtypes.DTYPES)}: at {location()}"
        )

    convert.__name__ = convert.__qualname__ = name
    convert.__doc__ = f"An error: there is no {dtype}."
    return convert


functions["clone"] = clone
for _method in (to, _type_as, _contiguous, _is_contiguous, _clone):
    _method.__name__ = _method.__qualname__ = _method.__name__.removeprefix("_")
    setattr(Tensor, _method.__name__, _method)
for _name, _dtype in {
    "double": dtypes.FLOAT64, "float": dtypes.FLOAT32, "long": dtypes.INT64, "int": dtypes.INT32,
    "short": dtypes.INT16, "char": dtypes.INT8, "byte": dtypes.UINT8, "bool": dtypes.BOOL,
}.items():  # fmt: skip
    setattr(Tensor, _name, _converter(_name, _dtype))
for _name, _absent in {"half": "float16", "bfloat16": "bfloat16"}.items():
    setattr(Tensor, _name, _refused(_name, _absent))
