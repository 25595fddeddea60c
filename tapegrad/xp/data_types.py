"""The standard's dtypes, as far as they are there, and what is known of them."""

from __future__ import annotations

from typing import Any, NamedTuple

from tapegrad import devices, dtypes
from tapegrad.devices import check_device
from tapegrad.dtypes import BOOL as bool  # noqa: N811 (the standard's names)
from tapegrad.dtypes import FLOAT32 as float32  # noqa: N811
from tapegrad.dtypes import FLOAT64 as float64  # noqa: N811
from tapegrad.dtypes import INT8 as int8  # noqa: N811
from tapegrad.dtypes import INT16 as int16  # noqa: N811
from tapegrad.dtypes import INT32 as int32  # noqa: N811
from tapegrad.dtypes import INT64 as int64  # noqa: N811
from tapegrad.dtypes import UINT8 as uint8  # noqa: N811
from tapegrad.dtypes import DTYPES, DType, as_dtype
from tapegrad.recording import cast
from tapegrad.tensor import Tensor, location
from tapegrad.xp.operands import array

_KINDS: dict[str, tuple[DType, ...]] = {
    "bool": (bool,),
    "signed integer": (int8, int16, int32, int64),
    "unsigned integer": (uint8,),
    "integral": (int8, int16, int32, int64, uint8),
    "real floating": (float32, float64),
    "complex floating": (),
    "numeric": (int8, int16, int32, int64, uint8, float32, float64),
}


def isdtype(dtype: Any, kind: Any) -> Any:
    """Whether a dtype is another, or of a kind, or of one of several.

    Parameters
    ----------
    dtype : DType
        What is asked about.
    kind : DType, str, or a tuple of these
        "bool", "signed integer", "unsigned integer", "integral", "real floating", "complex floating", "numeric".

    Raises
    ------
    ValueError
        Where the kind is unknown.

    >>> from tapegrad import xp
    >>> xp.isdtype(xp.float32, ("integral", "real floating"))
    True
    """
    if isinstance(kind, tuple):
        return any([isdtype(dtype, one) for one in kind])  # noqa: C419 (all are looked at: each must be known)
    dtype = as_dtype(dtype)
    if isinstance(kind, str) and kind not in {one.name for one in DTYPES}:
        if kind not in _KINDS:
            raise ValueError(f"isdtype: the kind {kind!r} is unknown, at {location()}: it is one of {[*_KINDS]}")
        return dtype in _KINDS[kind]
    if kind == "bool":
        return dtype is bool
    return dtype is as_dtype(kind)


def astype(x: Any, dtype: Any, /, *, copy: Any = True, device: Any = None) -> Tensor:
    """The elements in a dtype; without `copy` the array itself, where it has that.

    >>> from tapegrad import xp
    >>> xp.astype(xp.asarray([1.7, -1.7]), xp.int64)
    tensor([ 1, -1])
    """
    check_device(device)
    x, dtype = array(x), as_dtype(dtype)
    if x.dtype is dtype:
        return x.clone() if copy else x
    return cast(x, dtype)


def can_cast(from_: Any, to: DType, /) -> Any:
    """Whether what is of a dtype, or an array, can become of another by promotion: within a kind, to no smaller one.

    >>> from tapegrad import xp
    >>> xp.can_cast(xp.float32, xp.float64), xp.can_cast(xp.int64, xp.float64)
    (True, False)
    """
    given, to = _dtype_of(from_), as_dtype(to)
    return given.category == to.category and dtypes.join([given, to]) is to


def result_type(*arrays_and_dtypes: Any) -> DType:
    """The dtype to which arrays, dtypes and Python numbers are promoted.

    Raises
    ------
    ValueError
        Where nothing is given, or numbers alone.

    >>> from tapegrad import xp
    >>> xp.result_type(xp.float32, xp.ones(2, dtype=xp.int64), 3)
    tapegrad.float32
    """
    ranked = [
        (dtypes.NUMBER, dtypes.dtype_of_number(x))
        if isinstance(x, (int, float))
        else (dtypes.DIMENSIONED, _dtype_of(x))
        for x in arrays_and_dtypes
    ]
    if all(rank == dtypes.NUMBER for rank, _ in ranked):
        raise ValueError(f"result_type: at least one array or dtype is required, at {location()}")
    return dtypes.result_type(ranked)


def _dtype_of(value: Any) -> DType:
    return value.dtype if isinstance(value, Tensor) else as_dtype(value)


class FInfo(NamedTuple):
    """What a floating-point dtype can hold."""

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: DType


class IInfo(NamedTuple):
    """What an integer dtype can hold."""

    bits: int
    max: int
    min: int
    dtype: DType


def finfo(type: Any, /) -> FInfo:
    """What a floating-point dtype, or that of an array, can hold.

    >>> from tapegrad import xp
    >>> xp.finfo(xp.float32).bits
    32
    """
    dtype = _dtype_of(type)
    known = dtypes.finfo(dtype)
    return FInfo(known.bits, known.eps, known.max, known.min, known.smallest_normal, dtype)


def iinfo(type: Any, /) -> IInfo:
    """What an integer dtype, or that of an array, can hold.

    >>> from tapegrad import xp
    >>> xp.iinfo(xp.int32).max
    2147483647
    """
    dtype = _dtype_of(type)
    known = dtypes.iinfo(dtype)
    return IInfo(known.bits, known.max, known.min, dtype)


class Info:
    """What there is: dtypes, devices, and what arrays can do."""

    __module__ = "tapegrad.xp"

    def capabilities(self) -> dict[str, Any]:
        """Whether a mask may be an index, whether shapes may depend on values, and how many dimensions there are."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> Any:
        """Where new arrays are."""
        return devices.CPU

    def devices(self) -> list[Any]:
        """Where arrays can be."""
        return [devices.CPU]

    def default_dtypes(self, *, device: Any = None) -> dict[str, DType]:
        """The dtypes of new arrays, by their kinds."""
        check_device(device)
        return {"real floating": dtypes.get_default_dtype(), "integral": int64, "indexing": int64}

    def dtypes(self, *, device: Any = None, kind: Any = None) -> dict[str, DType]:
        """The dtypes that there are, by their names: all, or those of a kind."""
        check_device(device)
        return {one.name: one for one in DTYPES if kind is None or isdtype(one, kind)}


def __array_namespace_info__() -> Info:  # noqa: N807 (the standard's name)
    """What there is: dtypes, devices, capabilities.

    >>> from tapegrad import xp
    >>> [*xp.__array_namespace_info__().dtypes(kind="real floating")]
    ['float32', 'float64']
    """
    return Info()
