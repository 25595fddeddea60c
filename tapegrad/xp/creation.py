"""New arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from tapegrad import creation, interop, numpy_statistics
from tapegrad.conversion import is_array, leaf_of, sharing_with
from tapegrad.devices import check_device
from tapegrad.functions import shaping
from tapegrad.recording import cast
from tapegrad.tensor import Tensor, describe, location
from tapegrad.xp.operands import array, dtype_or_none, named, promoted


def asarray(obj: Any, /, *, dtype: Any = None, device: Any = None, copy: Any = None) -> Tensor:
    """An array, a number, a buffer or nested sequences as a tensor; arrays within sequences are joined, and recorded.

    Parameters
    ----------
    obj : Tensor, numpy.ndarray, number, or nested sequences of these
        The elements.
    dtype : DType, optional
        By default that of the elements.
    device : optional
        The CPU.
    copy : bool, optional
        True: the elements are new; False: they are shared, or it is an error; None: they are shared where they can be.

    Raises
    ------
    ValueError
        Where they can't be shared, and must not be copied.

    >>> import tapegrad as tg
    >>> from tapegrad import xp
    >>> x = tg.tensor(2.0, requires_grad=True)
    >>> xp.asarray([x * x, 1.0])
    tensor([4., 1.], grad_fn=<StackBackward0>)
    """
    check_device(device)
    wanted = dtype_or_none(dtype)
    if isinstance(obj, Tensor):
        made = obj if wanted is None else cast(obj, wanted)
        if copy and made is obj:
            return made.clone()
    elif isinstance(obj, (list, tuple)) and _has_tensors(obj):
        parts = promoted(*(asarray(part, dtype=wanted) for part in obj))
        made = shaping.stack(parts)
    elif copy or isinstance(obj, (bool, int, float, np.generic, list, tuple)):
        made = leaf_of(obj, wanted)
    else:
        made = sharing_with(obj if is_array(obj) or hasattr(obj, "__dlpack__") else np.asarray(obj), wanted)
        if copy is False and not (made._kind.exported and np.shares_memory(made.numpy(), np.asarray(obj))):
            raise _must_copy("asarray", made)
        return made
    if copy is False and made is not obj:
        raise _must_copy("asarray", made)
    return made


def _has_tensors(parts: Any) -> bool:
    return any(isinstance(p, Tensor) or (isinstance(p, (list, tuple)) and _has_tensors(p)) for p in parts)


def _must_copy(name: str, made: Tensor) -> ValueError:
    return ValueError(
        f"{name}: the elements can't be shared with {describe(made)}, and copy=False forbids to copy them, "
        f"at {location()}"
    )


def from_dlpack(x: Any, /, *, device: Any = None, copy: Any = None) -> Tensor:
    """The array of another library, its memory shared where `copy` doesn't forbid it: see `tapegrad.from_dlpack`.

    >>> from tapegrad import xp
    >>> import numpy as np
    >>> xp.from_dlpack(np.array([1.0, 2.0]))
    tensor([1., 2.])
    """
    return interop.from_dlpack(x, device=device, copy=copy)


def _shape(shape: Any) -> tuple[int, ...]:
    return tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)


def _filled(name: str, value: str, shown: str, shown_like: str) -> tuple[Any, Any]:
    def make(shape: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
        return getattr(creation, name)(_shape(shape), dtype=dtype_or_none(dtype), device=device)

    def make_like(x: Any, /, *, dtype: Any = None, device: Any = None) -> Tensor:
        return getattr(creation, f"{name}_like")(array(x), dtype=dtype_or_none(dtype), device=device)

    make.__name__ = make.__qualname__ = name
    make_like.__name__ = make_like.__qualname__ = f"{name}_like"
    make.__doc__ = f"An array of a shape with {value}, of the default dtype where none is given."
    make_like.__doc__ = f"An array of the shape and dtype of another, with {value}."
    for made, example in ((make, shown), (make_like, shown_like)):
        made.__doc__ = __test__[made.__name__] = f"{made.__doc__}\n\n>>> from tapegrad import xp\n>>> xp.{example}"
    return make, make_like


__test__: dict[str, str] = {}  # what is made here has its examples checked too
zeros, zeros_like = _filled(
    "zeros", "zeros", "zeros(2)\ntensor([0., 0.])", "zeros_like(xp.asarray([1, 2]))\ntensor([0, 0])"
)
ones, ones_like = _filled("ones", "ones", "ones(2)\ntensor([1., 1.])", "ones_like(xp.asarray([1, 2]))\ntensor([1, 1])")
empty, empty_like = _filled(
    "empty", "whatever was in memory", "empty((2, 3)).shape\ntapegrad.Size([2, 3])",
    "empty_like(xp.asarray([1, 2])).dtype\ntapegrad.int64",
)  # fmt: skip


def full(shape: Any, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """An array of a shape with one number, whose type gives the dtype.

    >>> from tapegrad import xp
    >>> xp.full((2, 2), 7)
    tensor([[7, 7],
            [7, 7]])
    """
    return creation.full(_shape(shape), fill_value, dtype=dtype_or_none(dtype), device=device)


def full_like(x: Any, /, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """An array of the shape and dtype of another, with one number.

    >>> from tapegrad import xp
    >>> xp.full_like(xp.asarray([1.0, 2.0]), 7)
    tensor([7., 7.])
    """
    return creation.full_like(array(x), fill_value, dtype=dtype_or_none(dtype), device=device)


def arange(
    start: Any, /, stop: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None
) -> Tensor:  # fmt: skip
    """Numbers from `start` to before `stop`, `step` apart: none where the step leads away. From 0 where one is given.

    >>> from tapegrad import xp
    >>> xp.arange(3), xp.arange(2, 0)
    (tensor([0, 1, 2]), tensor([], dtype=tapegrad.int64))
    """
    if stop is None:
        start, stop = 0, start
    if (stop < start and step > 0) or (stop > start and step < 0):
        stop = start
    return creation.arange(start, stop, step, dtype=dtype_or_none(dtype), device=device)


def linspace(
    start: Any, stop: Any, /, num: Any, *, dtype: Any = None, device: Any = None, endpoint: Any = True
) -> Tensor:
    """`num` numbers from `start` to `stop`, evenly spaced; `stop` among them only with `endpoint`.

    >>> from tapegrad import xp
    >>> xp.linspace(0, 1, 4, endpoint=False)
    tensor([0.0000, 0.2500, 0.5000, 0.7500])
    """
    more = 0 if endpoint else 1
    made = creation.linspace(start, stop, num + more, dtype=dtype_or_none(dtype), device=device)
    return made[:num] if more else made


def eye(
    n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: Any = None, device: Any = None
) -> Tensor:  # fmt: skip
    """Ones on a diagonal, the k-th above the main one.

    >>> from tapegrad import xp
    >>> xp.eye(2, 3, k=1)
    tensor([[0., 1., 0.],
            [0., 0., 1.]])
    """
    check_device(device)
    wanted = dtype_or_none(dtype) or creation._dtype(None)
    columns = n_rows if n_cols is None else n_cols
    return leaf_of(np.eye(n_rows, columns, k, dtype=wanted.numpy))


def tril(x: Any, /, *, k: int = 0) -> Tensor:
    """The lower triangles of matrices, zeros above the k-th diagonal.

    >>> from tapegrad import xp
    >>> xp.tril(xp.ones((2, 3)), k=-1)
    tensor([[0., 0., 0.],
            [1., 0., 0.]])
    """
    return named["tril"](array(x), k)


def triu(x: Any, /, *, k: int = 0) -> Tensor:
    """The upper triangles of matrices, zeros below the k-th diagonal.

    >>> from tapegrad import xp
    >>> xp.triu(xp.ones((2, 3)), k=1)
    tensor([[0., 1., 1.],
            [0., 0., 1.]])
    """
    return named["triu"](array(x), k)


def meshgrid(*arrays: Any, indexing: str = "xy") -> list[Tensor]:
    """The coordinates of a grid, of the coordinates along its axes.

    >>> from tapegrad import xp
    >>> x, y = xp.meshgrid(xp.arange(3), xp.arange(2))
    >>> x
    tensor([[0, 1, 2],
            [0, 1, 2]])
    >>> y
    tensor([[0, 0, 0],
            [1, 1, 1]])
    """
    return list(numpy_statistics.meshgrid(*map(array, arrays), indexing=indexing))
