"""The element types, and how they promote.

A dtype's `code` is what the tape stores. Between tensors of equal rank they promote as in PyTorch's lattice:

    bool < uint8, int8 < int16 < int32 < int64 < float32 < float64

where uint8 and int8 meet in int16.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np


def _element_type(dtype: np.dtype[Any]) -> Any:
    """NumPy's type of an element, which makes no number of a tensor."""
    plain: Any = dtype.type

    def new(_: Any, value: Any = 0) -> Any:
        return value if hasattr(value, "_tape") else plain(value)

    return type(plain.__name__, (plain,), {"__new__": new, "__module__": "numpy"})


class DType:
    """The type of a tensor's elements, such as `tapegrad.float64`.

    Attributes
    ----------
    name : str
    code : int
        Its number on the tape.
    itemsize : int
        Bytes an element.
    is_floating_point : bool
    numpy : numpy.dtype
        The same type in NumPy.
    is_signed : bool
        Whether it has negative numbers.
    category : int
        0 for bool, 1 for integers, 2 for floating point: what a Python number can outrank.
    order : int
        Its place in promotion, which uint8 and int8 share.
    scalar_type, c_type : str
        What PyTorch's errors call it: "Double" and "double".
    """

    __slots__ = (
        "_type", "c_type", "category", "code", "is_floating_point", "is_signed", "itemsize", "name", "numpy", "order",
        "scalar_type",
    )  # fmt: skip

    def __init__(self, code: int, name: str, order: int, scalar_type: str, c_type: str) -> None:
        self.code = code
        self.name = name
        self.order = order
        self.c_type = c_type
        self.scalar_type = scalar_type
        self.numpy = np.dtype(name)
        self.itemsize = self.numpy.itemsize
        self.is_floating_point = self.numpy.kind == "f"
        self.is_signed = self.numpy.kind in "if"
        self.category = "biuf".index(self.numpy.kind) + 1 >> 1
        self._type = _element_type(self.numpy) if self.is_floating_point else self.numpy.type

    def __repr__(self) -> str:
        return f"tapegrad.{self.name}"

    def __reduce__(self) -> tuple[Any, ...]:
        return as_dtype, (self.name,)

    def __eq__(self, other: object) -> bool:
        """Whether it is the other; of NumPy's dtypes, types and names, whether it is the same type as that.

        So code that asks for the dtype of arrays goes the same way where Tensors stand for them.
        """
        if isinstance(other, (np.dtype, type, str)):
            return bool(self.numpy == other)
        return self is other

    __hash__ = object.__hash__

    @property
    def kind(self) -> str:
        """NumPy's letter: "b", "i", "u" or "f"."""
        return self.numpy.kind

    @property
    def dtype(self) -> np.dtype[Any]:
        """The same type in NumPy, which asks for it by this name: `np.dtype(tapegrad.float64)`, `np.issubdtype`."""
        return self.numpy

    __numpy_dtype__ = dtype

    @property
    def type(self) -> Any:
        """NumPy's type of one element. Called with a tensor, as `np.mean` of an array of these does, it gives this."""
        return self._type

    @property
    def is_complex(self) -> bool:
        """Whether it has complex numbers: none has."""
        return False


# By their codes.
BOOL, INT32, INT64, FLOAT32, FLOAT64, UINT8, INT8, INT16 = DTYPES = tuple(
    DType(code, *facts)
    for code, facts in enumerate(
        (
            ("bool", 0, "Bool", "bool"),
            ("int32", 3, "Int", "int"),
            ("int64", 4, "Long", "long int"),
            ("float32", 5, "Float", "float"),
            ("float64", 6, "Double", "double"),
            ("uint8", 1, "Byte", "unsigned char"),
            ("int8", 1, "Char", "signed char"),
            ("int16", 2, "Short", "short"),
        )
    )
)
INTEGERS = tuple(dtype.name for dtype in DTYPES if dtype.category == 1)


class NamedDType(str):
    """A dtype that there are no tensors of: scripts may name it, and where it is asked for it is refused.

    >>> import tapegrad as tg
    >>> tg.bfloat16 if tg.cuda.is_available() else tg.float32
    tapegrad.float32
    >>> tg.ones(2).dtype == tg.float16
    False
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"tapegrad.{self}"


FLOAT16, BFLOAT16 = NamedDType("float16"), NamedDType("bfloat16")
UINT16, UINT32, UINT64 = NamedDType("uint16"), NamedDType("uint32"), NamedDType("uint64")
COMPLEX64, COMPLEX128 = NamedDType("complex64"), NamedDType("complex128")
BY_NUMPY = {dtype.numpy: dtype for dtype in DTYPES}  # in native byte order

_default = FLOAT64
default_code = np.array([FLOAT64.code])  # where native code looks for it


def get_default_dtype() -> DType:
    """The dtype of new floating-point tensors.

    >>> import tapegrad as tg
    >>> tg.get_default_dtype()
    tapegrad.float64
    """
    return _default


def set_default_dtype(d: Any) -> None:
    """Make `d` (float64 or float32) the dtype of new floating-point tensors.

    Raises
    ------
    TypeError
        If `d` is not a floating-point dtype.

    >>> import tapegrad as tg
    >>> tg.set_default_dtype(tg.float32)
    >>> tg.tensor(1.0).dtype
    tapegrad.float32
    >>> tg.set_default_dtype(tg.float64)
    """
    global _default
    dtype = as_dtype(d)
    if not dtype.is_floating_point:
        raise TypeError(f"only floating-point types are supported as the default type, but got {dtype}")
    _default, default_code[0] = dtype, dtype.code


def as_dtype(dtype: Any) -> DType:
    """A `DType` from a `DType`, a NumPy dtype, its name, or one of Python's `float`, `int` and `bool`."""
    if dtype.__class__ is DType:
        return dtype
    if isinstance(dtype, np.dtype) and (native := BY_NUMPY.get(dtype)) is not None:
        return native
    if dtype is float:
        return FLOAT64
    if not isinstance(dtype, (str, type, np.dtype)):
        raise TypeError(f"dtype must be one of {', '.join(map(repr, DTYPES))}, but got {dtype!r}")
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = None
    for known in DTYPES:
        if known.name == name:
            return known
    raise TypeError(f"dtype must be one of {', '.join(map(repr, DTYPES))}, but got {dtype!r}")


def limits(dtype: DType) -> tuple[Any, Any]:
    """The smallest and the largest element, as Python numbers."""
    if dtype is BOOL:
        return False, True
    if dtype.is_floating_point:
        return float("-inf"), float("inf")
    info = np.iinfo(dtype.numpy)
    return int(info.min), int(info.max)


def in_range(value: Any, dtype: DType) -> Any:
    """A Python number, where the dtype can hold it: what is beyond its range has no meaning there.

    Raises
    ------
    RuntimeError
        Where it can't: an int that is too long, nan or inf among integers, a float beyond float32.
    """
    if dtype is BOOL:
        return bool(value)
    low, high = limits(dtype)
    if dtype is UINT8:  # numbers below 0 count from its end
        low = -high
    if dtype is FLOAT32:
        high = float(np.finfo(np.float32).max)
        fits = value != value or abs(value) <= high or abs(value) == float("inf")
    else:
        fits = dtype is FLOAT64 or (value == value and low - 1 < value < high + 1)
    if not fits:
        raise RuntimeError(
            f"value cannot be converted to type {_C_NAMES[dtype.code]} without overflow: {value} does not fit {dtype}"
        )
    return value if dtype.is_floating_point else int(value) % 256 if dtype is UINT8 else int(value)


_C_NAMES = ("bool", "int", "int64_t", "float", "double", "uint8_t", "int8_t", "int16_t")


def dtype_of_number(value: Any) -> DType:
    """The dtype that a Python number gives a tensor."""
    return BOOL if isinstance(value, bool) else INT64 if isinstance(value, int) else _default


def promote_types(type1: DType, type2: DType) -> DType:
    """The smallest dtype to which both can be converted.

    >>> import tapegrad as tg
    >>> tg.promote_types(tg.int64, tg.float32), tg.promote_types(tg.uint8, tg.int8)
    (tapegrad.float32, tapegrad.int16)
    """
    return join([as_dtype(type1), as_dtype(type2)])


def join(group: Collection[DType]) -> DType:
    """The smallest dtype to which all of these can be converted."""
    highest = max(dtype.order for dtype in group)
    best = {dtype for dtype in group if dtype.order == highest}
    return best.pop() if len(best) == 1 else INT16


def can_cast(from_: DType, to: DType) -> bool:
    """Whether results of one dtype may be written into a tensor of another: not to a lesser kind.

    >>> import tapegrad as tg
    >>> tg.can_cast(tg.int64, tg.float32), tg.can_cast(tg.float64, tg.int64)
    (True, False)
    """
    return as_dtype(from_).category <= as_dtype(to).category


# An operand's rank in promotion: a tensor with dimensions outranks a 0-d tensor, which outranks a Python number.
DIMENSIONED, ZERO_DIM, NUMBER = 2, 1, 0


def result_type(operands: list[tuple[int, DType]]) -> DType:
    """PyTorch's rule: within the highest category, the operands of the highest rank that reach it decide.

    `operands` are (rank, dtype) pairs; a Python number's dtype is bool, int64 or the default floating-point dtype.
    """
    result: DType | None = None
    for rank in (DIMENSIONED, ZERO_DIM, NUMBER):
        group = [dtype for r, dtype in operands if r == rank]
        if not group:
            continue
        best = join(group)
        if result is None or best.category > result.category:
            result = best
    assert result is not None
    return result


class finfo:
    """What a floating-point dtype can hold.

    >>> import tapegrad as tg
    >>> tg.finfo(tg.float32).eps
    1.1920928955078125e-07
    """

    def __init__(self, type: Any = None) -> None:
        dtype = get_default_dtype() if type is None else as_dtype(type)
        if not dtype.is_floating_point:
            raise TypeError(
                "tapegrad.finfo() requires a floating point input type. Use tapegrad.iinfo to handle 'tapegrad.finfo'"
            )
        known = np.finfo(dtype.numpy)
        self.dtype, self.bits, self.eps = dtype.name, known.bits, float(known.eps)
        self.max, self.min, self.tiny = float(known.max), float(known.min), float(known.tiny)
        self.smallest_normal, self.resolution = float(known.smallest_normal), float(str(known.resolution))

    def __repr__(self) -> str:
        return (
            f"finfo(resolution={self.resolution:g}, min={self.min:g}, max={self.max:g}, eps={self.eps:g}, "
            f"smallest_normal={self.smallest_normal:g}, tiny={self.tiny:g}, dtype={self.dtype})"
        )


class iinfo:
    """What an integer dtype can hold.

    >>> import tapegrad as tg
    >>> tg.iinfo(tg.int32).max
    2147483647
    """

    def __init__(self, type: Any) -> None:
        dtype = as_dtype(type)
        if dtype.category != 1:
            raise TypeError(f"tapegrad.iinfo() requires an integer input type, but got {dtype}")
        known = np.iinfo(dtype.numpy)
        self.dtype, self.bits, self.max, self.min = dtype.name, known.bits, int(known.max), int(known.min)

    def __repr__(self) -> str:
        return f"iinfo(min={self.min}, max={self.max}, dtype={self.dtype})"
