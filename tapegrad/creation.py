"""Tensors from nothing: filled, ranges, random numbers."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from tapegrad import dtypes, locks
from tapegrad.dtypes import INT64, DType
from tapegrad.interop import _check_device, check_can_require_grad
from tapegrad.tensor import Tensor, from_array

_generator: np.random.Generator | None = None


locks.others.append(lambda: [] if _generator is None else [_generator.bit_generator.lock])


def _random() -> np.random.Generator:
    """The source of random numbers, made when it is first asked for: NumPy's takes a while to import."""
    return _generator if _generator is not None else manual_seed(None)


def size_of(size: tuple[Any, ...]) -> tuple[int, ...]:
    """A shape given as numbers or as one sequence of them."""
    if len(size) == 1 and isinstance(size[0], (tuple, list)):
        size = tuple(size[0])
    wrong = [n for n in size if not hasattr(n, "__index__")]
    if wrong:
        raise TypeError(f"argument 'size' must be tuple of ints, not {type(wrong[0]).__name__}")
    shape = tuple(operator.index(n) for n in size)
    if any(n < 0 for n in shape):
        raise RuntimeError(f"Trying to create tensor with negative dimension {min(shape)}: {list(shape)}")
    return shape


def _leaf(array: np.ndarray, requires_grad: bool) -> Tensor:
    check_can_require_grad(dtypes.as_dtype(array.dtype), requires_grad)
    return from_array(array, bool(requires_grad))


def _dtype(dtype: Any) -> DType:
    return dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)


def zeros(*shape: Any, size: Any = (), dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros of a shape, given as numbers or one sequence.

    >>> import tapegrad as tg
    >>> tg.zeros(2, 3)
    tensor([[0., 0., 0.],
            [0., 0., 0.]])
    """
    _check_device(device)
    return _leaf(np.zeros(size_of(shape or size), _dtype(dtype).numpy), requires_grad)


def ones(*shape: Any, size: Any = (), dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones of a shape, given as numbers or one sequence.

    >>> import tapegrad as tg
    >>> tg.ones(2, requires_grad=True)
    tensor([1., 1.], requires_grad=True)
    """
    _check_device(device)
    return _leaf(np.ones(size_of(shape or size), _dtype(dtype).numpy), requires_grad)


def empty(*shape: Any, size: Any = (), dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor whose elements are whatever was in memory.

    >>> import tapegrad as tg
    >>> tg.empty(2, 3).shape
    tapegrad.Size([2, 3])
    """
    _check_device(device)
    return _leaf(np.empty(size_of(shape or size), _dtype(dtype).numpy), requires_grad)


def full(size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A shape filled with one number, whose type gives the dtype.

    >>> import tapegrad as tg
    >>> tg.full((2,), 7)
    tensor([7, 7])
    """
    _check_device(device)
    value = fill_value.item() if isinstance(fill_value, Tensor) else fill_value
    if dtype is None:
        dtype = dtypes.BOOL if isinstance(value, bool) else INT64 if isinstance(value, int) else None
    shape = size_of((size,) if isinstance(size, (int, np.integer)) else tuple(size))
    return _leaf(np.full(shape, value, _dtype(dtype).numpy), requires_grad)


def _like(make: Any, name: str) -> Any:
    def like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
        return make(input.shape, dtype=dtype or input.dtype, device=device, requires_grad=requires_grad)

    like.__name__ = like.__qualname__ = name
    like.__doc__ = f"`{make.__name__}` with the shape and dtype of `input`."
    return like


zeros_like = _like(zeros, "zeros_like")
ones_like = _like(ones, "ones_like")
empty_like = _like(empty, "empty_like")


def full_like(
    input: Tensor, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """`full` with the shape and dtype of `input`."""
    return full(input.shape, fill_value, dtype=dtype or input.dtype, device=device, requires_grad=requires_grad)


def eye(n: int, m: int | None = None, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones on the diagonal of an n x m matrix.

    >>> import tapegrad as tg
    >>> tg.eye(2)
    tensor([[1., 0.],
            [0., 1.]])
    """
    _check_device(device)
    for name, length in (("n", n), ("m", n if m is None else m)):
        if length < 0:
            raise RuntimeError(f"{name} must be greater or equal to 0, got {length}")
    return _leaf(np.eye(n, m, dtype=_dtype(dtype).numpy), requires_grad)


def arange(
    *bounds: Any,
    start: Any = 0,
    end: Any = None,
    step: Any = 1,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Numbers from `start` (0) to before `end`, `step` (1) apart.

    >>> import tapegrad as tg
    >>> tg.arange(4)
    tensor([0, 1, 2, 3])
    """
    _check_device(device)
    if len(bounds) == 1:
        end = bounds[0]
    elif bounds:
        start, end, step = (*bounds, step)[:3]
    start, end, step = (v.item() if isinstance(v, Tensor) else v for v in (start, end, step))
    if end is None:
        raise TypeError("arange() needs an end")
    if step == 0:
        raise RuntimeError("step must be nonzero")
    if (end - start) * step < 0:
        raise RuntimeError(f"upper bound and lower bound inconsistent with step sign: arange({start}, {end}, {step})")
    if dtype is None and all(isinstance(v, (int, np.integer)) for v in (start, end, step)):
        dtype = INT64
    n = math.ceil((end - start) / step)
    numbers = start + step * np.arange(n)
    return _leaf(numbers.astype(_dtype(dtype).numpy), requires_grad)


def linspace(
    start: Any, end: Any, steps: int, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """`steps` numbers from `start` to `end`, both included, evenly spaced.

    >>> import tapegrad as tg
    >>> tg.linspace(0, 1, 3)
    tensor([0.0000, 0.5000, 1.0000])
    """
    _check_device(device)
    if steps < 0:
        raise RuntimeError(f"number of steps must be non-negative, but got {steps}")
    return _leaf(np.linspace(float(start), float(end), steps).astype(_dtype(dtype).numpy), requires_grad)


def manual_seed(seed: int | None) -> np.random.Generator:
    """Start the random numbers of `rand` and `randn` anew; returns the generator.

    >>> import tapegrad as tg
    >>> _ = tg.manual_seed(0)
    >>> a = tg.rand(2)
    >>> _ = tg.manual_seed(0)
    >>> bool((tg.rand(2) == a).all())
    True
    """
    global _generator
    _generator = np.random.default_rng(seed)
    return _generator


def rand(*shape: Any, size: Any = (), dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Random numbers, uniform in [0, 1). The stream is NumPy's, not PyTorch's."""
    _check_device(device)
    return _leaf(np.asarray(_random().random(size_of(shape or size), dtype=_dtype(dtype).numpy)), requires_grad)


def randn(*shape: Any, size: Any = (), dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Random numbers of the standard normal distribution. The stream is NumPy's, not PyTorch's."""
    _check_device(device)
    return _leaf(
        np.asarray(_random().standard_normal(size_of(shape or size), dtype=_dtype(dtype).numpy)), requires_grad
    )


def randint(*bounds: Any, dtype: Any = INT64, device: Any = None, requires_grad: bool = False) -> Tensor:
    """`randint(low, high, size)` or `randint(high, size)`: random integers from `low` (0) to before `high`."""
    _check_device(device)
    *limits, size = bounds
    low, high = limits if len(limits) == 2 else (0, limits[0])
    return _leaf(_random().integers(low, high, size_of((size,))).astype(_dtype(dtype).numpy), requires_grad)


def randperm(n: int, *, dtype: Any = INT64, device: Any = None, requires_grad: bool = False) -> Tensor:
    """The numbers 0 to n - 1 in random order."""
    _check_device(device)
    return _leaf(_random().permutation(n).astype(_dtype(dtype).numpy), requires_grad)


def rand_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """`rand` with the shape and dtype of `input`."""
    return rand(input.shape, dtype=dtype or input.dtype, device=device, requires_grad=requires_grad)


def randn_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """`randn` with the shape and dtype of `input`."""
    return randn(input.shape, dtype=dtype or input.dtype, device=device, requires_grad=requires_grad)


for _name, _make in {
    "new_zeros": zeros, "new_ones": ones, "new_empty": empty, "new_full": full, "new_eye": eye,
}.items():  # fmt: skip
    setattr(Tensor, _name, lambda self, *args, _make=_make, **facts: _make(*args, **{"dtype": self.dtype, **facts}))
Tensor.new_tensor = lambda self, data, *, dtype=None, **facts: _new_tensor(self, data, dtype, facts)


def _new_tensor(self: Tensor, data: Any, dtype: Any, facts: dict[str, Any]) -> Tensor:
    from tapegrad.interop import tensor

    return tensor(data, dtype=dtype or self.dtype, **facts)
