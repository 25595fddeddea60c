"""New tensors: of data, filled, ranges, random numbers."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tapegrad import dtypes, engine, locks, outputs
from tapegrad.arguments import EXACT, Number, checked, sizes, with_out
from tapegrad.batched import as_batched_as, draw, levels
from tapegrad.conversion import check_can_require_grad, leaf_of, sharing_with, warn_of_lost_gradient
from tapegrad.devices import check_device, check_placed, has_channels_last, preserve_format
from tapegrad.dtypes import BY_NUMPY, INT64, DType
from tapegrad.tape import current_tape
from tapegrad.tensor import Size, Tensor, from_array, owning

# --- of data ----------------------------------------------------------------------------------------------------------


def tensor(data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
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
    TypeError
        Where the data is not numeric.
    ValueError
        Where it is ragged, or an integer is too long.
    RuntimeError
        Where it is some other object.

    >>> import tapegrad as tg
    >>> tg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    tensor([[1., 2.],
            [3., 4.]], requires_grad=True)
    """
    if type(data) is np.ndarray and dtype is None and device is None:  # most often: not looked at twice
        own, is_bool = BY_NUMPY.get(data.dtype), requires_grad.__class__ is bool
        if (
            own is not None
            and is_bool
            and (own.is_floating_point or not requires_grad)
            and current_tape().watch is None
        ):
            return owning(engine.copied(data), own, requires_grad)
    return _tensor(data, dtype=dtype, device=device, requires_grad=requires_grad)


@checked
def _tensor(data: Any, *, dtype: DType | None, device: Any, requires_grad: bool) -> Tensor:
    check_device(device)
    return leaf_of(data, dtype, requires_grad)


def is_tensor(obj: Any) -> bool:
    """Whether an object is a Tensor.

    >>> import tapegrad as tg
    >>> import numpy as np
    >>> tg.is_tensor(tg.ones(2)), tg.is_tensor(np.ones(2))
    (True, False)
    """
    return isinstance(obj, Tensor)


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
    return sharing_with(data, dtype)


def from_numpy(ndarray: np.ndarray) -> Tensor:
    """A tensor that shares the array's memory: a change in one is seen in the other, subclasses of ndarray included.

    Arrays that cannot be shared are converted: other byte orders, read-only ones, float16 (to float32), wider
    unsigned integers (to int32 or int64). What is recorded has the elements of then, and so has its gradient; of 64 kB
    and more it is computed at once, and gradients read the memory when they are computed.

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
    return sharing_with(ndarray)


# --- of nothing -------------------------------------------------------------------------------------------------------

_generator: np.random.Generator | None = None


locks.others.append(lambda: [] if _generator is None else [_generator.bit_generator.lock])


def _random() -> np.random.Generator:
    """The source of random numbers, made when it is first asked for: NumPy's takes a while to import."""
    global _generator
    if _generator is None:
        default_generator._seed = int(np.random.SeedSequence().entropy)  # type: ignore[arg-type]
        _generator = np.random.default_rng(default_generator._seed)
    if (watch := current_tape().watch) is not None:
        return watch.draws_from(_random)
    return _generator


class Generator:
    """A source of random numbers of its own.

    >>> import tapegrad as tg
    >>> generator = tg.Generator().manual_seed(3)
    >>> generator.initial_seed()
    3
    """

    def __init__(self, device: Any = "cpu") -> None:
        check_device(device)
        self.device = device
        self.manual_seed(67280421310721)

    def manual_seed(self, seed: int) -> Generator:
        """Start anew, with an int of 64 bits; returns itself."""
        self._seed = _seed_of(seed)
        self.numpy = np.random.default_rng(self._seed)
        return self

    def seed(self) -> int:
        """Start anew with a seed of the system's, which is returned."""
        self.manual_seed(int(np.random.SeedSequence().entropy) & ((1 << 64) - 1))  # type: ignore[arg-type]
        return self._seed

    def initial_seed(self) -> int:
        """The seed that it was started with."""
        return self._seed

    def get_state(self) -> dict[str, Any]:
        """Where it is in its numbers: `set_state` goes on from there."""
        return dict(self.numpy.bit_generator.state)

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from what `get_state` gave."""
        self.numpy.bit_generator.state = state


def _seed_of(seed: Any) -> int:
    """A seed as the 64 bits that it is, which may have been given with a sign."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise RuntimeError(f"manual_seed expected a long, but got {type(seed).__name__}")
    if not -(1 << 63) <= seed < 1 << 64:
        raise ValueError(f"Overflow when unpacking long long: the seed {seed} does not fit 64 bits")
    return int(seed) % (1 << 64)


def random(generator: Any = None) -> np.random.Generator:
    """The source of random numbers that a function is given, or that of all."""
    if levels():
        draw()
    if generator is None:
        return _random()
    if (watch := current_tape().watch) is not None:
        return watch.draws_from(lambda: random(generator))
    if isinstance(generator, Generator):
        return generator.numpy
    if not isinstance(generator, np.random.Generator):
        raise TypeError(f"argument 'generator' must be tapegrad.Generator, or NumPy's, not {type(generator).__name__}")
    return generator


def size_of(name: str, given: tuple[Any, ...], size: Any = None) -> tuple[int, ...]:
    """A shape given as numbers, as one sequence of them, or by its name, of a tensor that can be had."""
    shape = sizes(name, given, named=size)
    if any(n < 0 for n in shape):
        if name == "zeros":
            raise RuntimeError(f"zeros: Dimension size must be non-negative: {list(shape)}")
        raise RuntimeError(f"Trying to create tensor with negative dimension {min(shape)}: {list(shape)}")
    if len(shape) > 64:
        raise RuntimeError(f"only tensors with up to 64 dims are supported, but {name} was given {len(shape)}")
    if math.prod(n or 1 for n in shape) >= 1 << 60:
        raise RuntimeError(f"Storage size calculation overflowed with sizes={list(shape)}")
    return shape


def _given(name: str, shape: tuple[Any, ...], size: Any) -> tuple[int, ...]:
    """The shape of `zeros(2, 3)`, `zeros((2, 3))` or `zeros(size=(2, 3))`: () of `zeros()`, as of `zeros(*())`."""
    if size is None:
        return size_of(name, shape)
    if shape:
        raise TypeError(f"{name}() got multiple values for argument 'size'")
    return _sequence(name, size)


def _sequence(name: str, size: Any) -> tuple[int, ...]:
    if not isinstance(size, (tuple, list)):
        raise TypeError(f"{name}(): argument 'size' (position 1) must be tuple of ints, not {type(size).__name__}")
    return size_of(name, (size,))


def _leaf(array: np.ndarray, requires_grad: bool) -> Tensor:
    dtype = dtypes.as_dtype(array.dtype)
    check_can_require_grad(dtype, requires_grad)
    if current_tape().watch is None and array.flags.c_contiguous:
        return owning(array, dtype, bool(requires_grad))
    return from_array(array, bool(requires_grad))


def _dtype(dtype: Any) -> DType:
    return dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)


def _into(function: Any) -> Any:
    """The function, which takes `out=` too: the dtype then is that of the tensor that it is to write into."""

    def made(*args: Any, out: Any = None, **facts: Any) -> Any:
        if out is None:
            return function(*args, **facts)
        if facts.get("dtype") is None and isinstance(out, Tensor):
            facts["dtype"] = out.dtype
        return outputs.write(function.__name__, out, EXACT, (), lambda: function(*args, **facts))

    into: Any = functools.wraps(function)(made)
    into.__signature__ = with_out(inspect.signature(function))
    return into


@_into
@checked
def zeros(
    *shape: Any,
    size: Sequence[int] | None = None,
    dtype: DType | None = None,
    device: Any = None,
    layout: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """Zeros of a shape, given as numbers or one sequence.

    >>> import tapegrad as tg
    >>> tg.zeros(2, 3)
    tensor([[0., 0., 0.],
            [0., 0., 0.]])
    """
    check_placed(device, layout, pin_memory)
    return _leaf(np.zeros(_given("zeros", shape, size), _dtype(dtype).numpy), requires_grad)


@_into
@checked
def ones(
    *shape: Any,
    size: Sequence[int] | None = None,
    dtype: DType | None = None,
    device: Any = None,
    layout: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """Ones of a shape, given as numbers or one sequence.

    >>> import tapegrad as tg
    >>> tg.ones(2, requires_grad=True)
    tensor([1., 1.], requires_grad=True)
    """
    check_placed(device, layout, pin_memory)
    return _leaf(np.ones(_given("ones", shape, size), _dtype(dtype).numpy), requires_grad)


@_into
@checked
def empty(
    *shape: Any,
    size: Sequence[int] | None = None,
    dtype: DType | None = None,
    device: Any = None,
    layout: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
    memory_format: Any = preserve_format,
) -> Tensor:
    """A tensor whose elements are whatever was in memory.

    >>> import tapegrad as tg
    >>> tg.empty(2, 3).shape
    tapegrad.Size([2, 3])
    """
    check_placed(device, layout, pin_memory)
    made = _leaf(np.empty(_given("empty", shape, size), _dtype(dtype).numpy), requires_grad)
    return made if memory_format is preserve_format else ordered(made, memory_format, requires_grad)


@_into
@checked
def full(
    size: Any,
    fill_value: Number,
    *,
    dtype: DType | None = None,
    device: Any = None,
    layout: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """A shape filled with one number, whose type gives the dtype.

    Raises
    ------
    RuntimeError
        Where the number is out of the dtype's range.

    >>> import tapegrad as tg
    >>> tg.full((2,), 7)
    tensor([7, 7])
    """
    check_placed(device, layout, pin_memory)
    if dtype is None:
        dtype = dtypes.dtype_of_number(fill_value)
    return _leaf(np.full(_sequence("full", size), dtypes.in_range(fill_value, dtype), dtype.numpy), requires_grad)


def ordered(t: Tensor, memory_format: Any, requires_grad: bool) -> Tensor:
    """A new tensor of nobody's, its elements in a memory format."""
    if memory_format is not preserve_format and has_channels_last(memory_format, t.ndim):
        array = np.moveaxis(np.ascontiguousarray(np.moveaxis(t._array(), 1, -1)), -1, 1)
        return _leaf(array, requires_grad)
    if requires_grad:
        check_can_require_grad(t.dtype, requires_grad)
        return t.requires_grad_()
    return t


def _like(make: Any, name: str) -> Any:
    """A function of the shape and dtype of a tensor."""

    def like(
        input: Tensor, *, dtype: DType | None = None, device: Any = None, layout: Any = None, pin_memory: bool = False,
        requires_grad: bool = False, memory_format: Any = preserve_format,
    ) -> Tensor:  # fmt: skip
        if layout is None and not pin_memory and memory_format is preserve_format:  # most often
            made = make(input.shape, dtype=dtype or input.dtype, device=device, requires_grad=requires_grad)
        else:
            check_placed(device, layout, pin_memory)
            made = ordered(make(input.shape, dtype=dtype or input.dtype), memory_format, requires_grad)
        return as_batched_as(input, made)

    like.__name__ = like.__qualname__ = name
    like.__doc__ = f"""`{make.__name__}` with the shape and dtype of `input`.

    >>> import tapegrad as tg
    >>> x = tg.{name}(tg.tensor([[1, 2], [3, 4]]))
    >>> x.shape, x.dtype
    (tapegrad.Size([2, 2]), tapegrad.int64)
    """
    return checked(like)


zeros_like = _like(zeros, "zeros_like")
ones_like = _like(ones, "ones_like")
empty_like = _like(empty, "empty_like")


@checked
def full_like(
    input: Tensor, fill_value: Number, *, dtype: DType | None = None, device: Any = None, layout: Any = None,
    pin_memory: bool = False, requires_grad: bool = False, memory_format: Any = preserve_format,
) -> Tensor:  # fmt: skip
    """`full` with the shape and dtype of `input`.

    >>> import tapegrad as tg
    >>> tg.full_like(tg.ones(2), 7.0)
    tensor([7., 7.])
    """
    check_placed(device, layout, pin_memory)
    made = ordered(full(input.shape, fill_value, dtype=dtype or input.dtype), memory_format, requires_grad)
    return as_batched_as(input, made)


_AS_N: Any = object()


@_into
@checked
def eye(
    n: int,
    m: int = _AS_N,
    *,
    dtype: DType | None = None,
    device: Any = None,
    layout: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """Ones on the diagonal of an n x m matrix.

    >>> import tapegrad as tg
    >>> tg.eye(2)
    tensor([[1., 0.],
            [0., 1.]])
    """
    check_placed(device, layout, pin_memory)
    m = n if m is _AS_N else m
    for name, length in (("n", n), ("m", m)):
        if length < 0:
            raise RuntimeError(f"{name} must be greater or equal to 0, got {length}")
    return _leaf(np.eye(n, m, dtype=_dtype(dtype).numpy), requires_grad)


@_into
def arange(
    *bounds: Number,
    start: Number | None = None,
    end: Number | None = None,
    step: Number | None = None,
    dtype: Any = None,
    device: Any = None,
    layout: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """Numbers from `start` (0) to before `end`, `step` (1) apart.

    Called as arange(end), arange(start, end) or arange(start, end, step), or by these names. Integers where all three
    are; with an integer dtype they are made integers first.

    >>> import tapegrad as tg
    >>> tg.arange(4)
    tensor([0, 1, 2, 3])
    >>> tg.arange(2, end=5)
    tensor([2, 3, 4])
    """
    check_placed(device, layout, pin_memory)
    if len(bounds) == 1 and start is None and end is None:
        bounds = (0, *bounds)
    return _arange(
        *bounds,
        **{k: v for k, v in {"start": start, "end": end, "step": step}.items() if v is not None},
        dtype=dtype,
        requires_grad=requires_grad,
    )


@checked
def _arange(
    start: Number = 0, end: Number | None = None, step: Number = 1, *, dtype: DType | None, requires_grad: bool
) -> Tensor:
    if end is None:
        raise TypeError('arange() missing 1 required positional arguments: "end"')
    given = f"arange({start}, {end}, {step})"
    if dtype is None:
        integers = all(isinstance(v, int) for v in (start, end, step))
        dtype = INT64 if integers else dtypes.get_default_dtype()
    if not (math.isfinite(start) and math.isfinite(end)):
        raise RuntimeError(f"unsupported range: {start} -> {end}")
    if dtype is dtypes.BOOL:
        raise NotImplementedError(f"\"arange\" not implemented for 'Bool': {given}")
    n = (end - start) / step if step else 0.0
    if (end < start and step > 0) or (end > start and step < 0):
        raise RuntimeError(f"upper bound and lower bound inconsistent with step sign: {given}")
    if not dtype.is_floating_point:
        start, end, step = (int(dtypes.in_range(v, INT64)) for v in (start, end, step))
        if step == 0 != n:
            raise ValueError(f"step must be nonzero: {given} in {dtype}")
    if step == 0 or step != step:
        raise RuntimeError(f"step must be nonzero: {given}")
    if dtype is INT64:
        n = -((start - end) // step)
    (length,) = size_of("arange", (math.ceil(n),))
    return _leaf((start + step * np.arange(length)).astype(dtype.numpy), requires_grad)


def _ends(name: str, start: Any, end: Any) -> tuple[Any, Any]:
    """Numbers, of which those that are tensors have no dimensions."""
    for value in (start, end):
        if isinstance(value, Tensor) and value.ndim:
            raise RuntimeError(
                f"{name} only supports 0-dimensional start and end tensors, but got one with {value.ndim} dimension(s)"
            )
        if isinstance(value, Tensor):
            warn_of_lost_gradient(value)
    return tuple(v.item() if isinstance(v, Tensor) else v for v in (start, end))


@_into
@checked
def linspace(
    start: Number | Tensor,
    end: Number | Tensor,
    steps: int,
    *,
    dtype: DType | None = None,
    device: Any = None,
    layout: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """`steps` numbers from `start` to `end`, both included, evenly spaced.

    >>> import tapegrad as tg
    >>> tg.linspace(0, 1, 3)
    tensor([0.0000, 0.5000, 1.0000])
    """
    check_placed(device, layout, pin_memory)
    start, end = _ends("linspace", start, end)
    if steps < 0:
        raise RuntimeError(f"number of steps must be non-negative, but got {steps}")
    wanted = _dtype(dtype)
    if wanted is dtypes.BOOL:
        raise NotImplementedError(f"\"linspace\" not implemented for 'Bool': linspace({start}, {end}, {steps})")
    start, end = (float(dtypes.in_range(v, wanted)) for v in (start, end))
    # Both halves are counted from their own end, so that the last number is `end` itself.
    i = np.arange(*size_of("linspace", (steps,)))
    step = (end - start) / (steps - 1) if steps > 1 else 0.0
    numbers = np.where(i < steps // 2, start + step * i, end - step * (steps - 1 - i)) if steps != 1 else start + i
    return _leaf(numbers.astype(wanted.numpy), requires_grad)


def get_rng_state() -> dict[str, Any]:
    """Where the generator of all random numbers is.

    >>> import tapegrad as tg
    >>> state = tg.get_rng_state()
    >>> x = tg.rand(3)
    >>> tg.set_rng_state(state)
    >>> tg.equal(tg.rand(3), x)
    True
    """
    return dict(_random().bit_generator.state)


def set_rng_state(new_state: dict[str, Any]) -> None:
    """Go on from there.

    >>> import tapegrad as tg
    >>> state = tg.get_rng_state()
    >>> x = tg.rand(3)
    >>> tg.set_rng_state(state)
    >>> tg.equal(tg.rand(3), x)
    True
    """
    if (watch := current_tape().watch) is not None:
        watch.fail("seeds random numbers")
    _random().bit_generator.state = new_state


class _DefaultGenerator(Generator):
    """The source of random numbers of all functions that are given no other."""

    def __init__(self) -> None:
        self.device, self._seed = "cpu", 0

    @property
    def numpy(self) -> np.random.Generator:  # type: ignore[override]
        """NumPy's generator."""
        return _random()

    def manual_seed(self, seed: int) -> Generator:
        """Start anew, with an int of 64 bits; returns itself."""
        global _generator
        if (watch := current_tape().watch) is not None:
            watch.fail("seeds random numbers")
        self._seed = _seed_of(seed)
        _generator = np.random.default_rng(self._seed)
        return self

    def initial_seed(self) -> int:
        """The seed that it was started with: the system's, where it was given none."""
        _random()
        return self._seed


default_generator: Generator = _DefaultGenerator()


def seed() -> int:
    """Start the random numbers anew with a seed of the system's, which is returned."""
    return default_generator.seed()


def initial_seed() -> int:
    """The seed that random numbers were started with.

    >>> import tapegrad as tg
    >>> _ = tg.manual_seed(3)
    >>> tg.initial_seed()
    3
    """
    return default_generator.initial_seed()


@checked
def manual_seed(seed: Any) -> Generator:
    """Start the random numbers of `rand` and `randn` anew; returns the generator.

    >>> import tapegrad as tg
    >>> _ = tg.manual_seed(0)
    >>> a = tg.rand(2)
    >>> _ = tg.manual_seed(0)
    >>> bool((tg.rand(2) == a).all())
    True
    """
    return default_generator.manual_seed(int(seed))


def _drawn(draw: Any, name: str, shape: tuple[int, ...], dtype: DType | None) -> np.ndarray:
    wanted = _dtype(dtype)
    if not wanted.is_floating_point:
        raise NotImplementedError(f'"{name}" is not implemented for {wanted}: random integers are those of randint')
    return as_array(draw(shape, dtype=wanted.numpy))


def as_array(drawn: Any) -> np.ndarray:
    """What was drawn, as an array: of no dimensions NumPy gives a number."""
    return drawn if isinstance(drawn, np.ndarray) else np.asarray(drawn)


@_into
@checked
def rand(
    *shape: Any,
    size: Sequence[int] | None = None,
    generator: Any = None,
    dtype: DType | None = None,
    device: Any = None,
    layout: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """Random numbers, uniform in [0, 1). The stream is NumPy's, not PyTorch's.

    >>> import tapegrad as tg
    >>> _ = tg.manual_seed(0)
    >>> x = tg.rand(2, 3)
    >>> x.shape, bool((x >= 0.0).all() and (x < 1.0).all())
    (tapegrad.Size([2, 3]), True)
    """
    check_placed(device, layout, pin_memory)
    return _leaf(_drawn(random(generator).random, "rand", _given("rand", shape, size), dtype), requires_grad)


@_into
@checked
def randn(
    *shape: Any,
    size: Sequence[int] | None = None,
    generator: Any = None,
    dtype: DType | None = None,
    device: Any = None,
    layout: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """Random numbers of the standard normal distribution. The stream is NumPy's, not PyTorch's.

    >>> import tapegrad as tg
    >>> _ = tg.manual_seed(0)
    >>> tg.randn(2, 3, requires_grad=True).shape
    tapegrad.Size([2, 3])
    """
    check_placed(device, layout, pin_memory)
    return _leaf(_drawn(random(generator).standard_normal, "randn", _given("randn", shape, size), dtype), requires_grad)


@_into
def randint(
    *bounds: Any,
    low: int | None = None,
    high: int | None = None,
    size: Sequence[int] | None = None,
    generator: Any = None,
    dtype: Any = INT64,
    device: Any = None,
    layout: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """`randint(low, high, size)` or `randint(high, size)`: random integers from `low` (0) to before `high`.

    >>> import tapegrad as tg
    >>> _ = tg.manual_seed(0)
    >>> tg.randint(0, 10, (4,)).dtype
    tapegrad.int64
    """
    check_placed(device, layout, pin_memory)
    given = [*bounds, *(v for v in (low, high, size) if v is not None)] if low is None or not bounds else bounds
    if len(given) not in (2, 3):
        raise TypeError("randint() takes (high, size) or (low, high, size)")
    *limits, shape = given
    return _randint(*(limits if len(limits) == 2 else (0, limits[0])), shape, dtype, requires_grad, generator)


@checked
def _randint(low: int, high: int, size: Any, dtype: DType | None, requires_grad: bool, generator: Any = None) -> Tensor:
    shape = _sequence("randint", size)
    if low >= high:
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")
    dtype = INT64 if dtype is None else dtype
    if dtype.category == 1:
        least, most = dtypes.limits(dtype)
        for name, value in (("from", low), ("to - 1", high - 1)):
            if not least <= value <= most:
                raise RuntimeError(f"{name} is out of bounds for {dtype.c_type}: randint() from {low} to {high - 1}")
    drawn = random(generator).integers(low, high, shape)
    return _leaf(drawn.astype(dtype.numpy), requires_grad)


@_into
@checked
def randperm(
    n: int,
    *,
    generator: Any = None,
    dtype: DType | None = INT64,
    device: Any = None,
    layout: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """The numbers 0 to n - 1 in random order.

    >>> import tapegrad as tg
    >>> tg.randperm(5).sort().values
    tensor([0, 1, 2, 3, 4])
    """
    check_placed(device, layout, pin_memory)
    if n < 0:
        raise RuntimeError(f"n must be non-negative, got {n}")
    return _leaf(random(generator).permutation(n).astype((dtype or INT64).numpy), requires_grad)


def _drawn_like(make: Any, name: str) -> Any:
    """As `_like`, from a generator."""

    def like(
        input: Tensor, *, generator: Any = None, dtype: DType | None = None, device: Any = None, layout: Any = None,
        pin_memory: bool = False, requires_grad: bool = False, memory_format: Any = preserve_format,
    ) -> Tensor:  # fmt: skip
        check_placed(device, layout, pin_memory)
        made = make(input.shape, generator=generator, dtype=dtype or input.dtype)
        return as_batched_as(input, ordered(made, memory_format, requires_grad))

    like.__name__ = like.__qualname__ = name
    like.__doc__ = f"""`{make.__name__}` with the shape and dtype of `input`.

    >>> import tapegrad as tg
    >>> x = tg.{name}(tg.ones(2, 2, dtype=tg.float32))
    >>> x.shape, x.dtype
    (tapegrad.Size([2, 2]), tapegrad.float32)
    """
    return checked(like)


rand_like, randn_like = _drawn_like(rand, "rand_like"), _drawn_like(randn, "randn_like")


def _cpu(self: Tensor) -> Tensor:
    """The tensor itself: it is there."""
    return self


def _cuda(self: Tensor, device: Any = None, non_blocking: bool = False) -> Tensor:
    """An error: there is no such device."""
    del non_blocking
    check_device("cuda" if device is None else device)
    return self


_TYPES = {
    "float64": "DoubleTensor",
    "float32": "FloatTensor",
    "int64": "LongTensor",
    "int32": "IntTensor",
    "int16": "ShortTensor",
    "int8": "CharTensor",
    "uint8": "ByteTensor",
    "bool": "BoolTensor",
}


def _type(self: Tensor, dtype: Any = None, non_blocking: bool = False) -> Any:
    """PyTorch's name for the dtype, or the tensor in another, given by such a name too."""
    del non_blocking
    if dtype is None:
        return f"tapegrad.{_TYPES[self.dtype.name]}"
    named = {short: name for name, short in _TYPES.items()}.get(str(dtype).rpartition(".")[2])
    return self.to(getattr(dtype, "dtype", dtype) if named is None else named)


for _name, _method in {"cpu": _cpu, "cuda": _cuda, "type": _type}.items():
    setattr(Tensor, _name, _method)
Tensor.is_cuda = property(lambda _: False, doc="False.")


class _Typed(type):
    """Tensors of one dtype, as a class."""

    dtype: DType

    def __instancecheck__(cls, t: Any) -> bool:
        return isinstance(t, Tensor) and t.dtype is cls.dtype

    def __call__(cls, *args: Any) -> Any:
        if len(args) == 1 and isinstance(args[0], (Tensor, list, tuple, np.ndarray)):
            return tensor(args[0], dtype=cls.dtype)
        return empty(size_of(cls.__name__, args or (0,)), dtype=cls.dtype)


FloatTensor, DoubleTensor, LongTensor, IntTensor, ShortTensor, CharTensor, ByteTensor, BoolTensor = (
    _Typed(_TYPES[of.name], (), {"dtype": of, "__doc__": f"Tensors of {of.name}: empty, of a shape, or of data."})
    for of in map(dtypes.as_dtype, ("float32", "float64", "int64", "int32", "int16", "int8", "uint8", "bool"))
)


def set_default_tensor_type(t: Any) -> None:
    """Set the default dtype by the class of its tensors, or that class's name.

    Raises
    ------
    TypeError
        Where it is no such class.

    >>> import tapegrad as tg
    >>> tg.set_default_tensor_type(tg.DoubleTensor)
    """
    known = {short: getattr(dtypes, name.upper()) for name, short in _TYPES.items()}
    dtype = known.get(t.rpartition(".")[2]) if isinstance(t, str) else getattr(t, "dtype", None)
    if not isinstance(dtype, DType):
        raise TypeError("invalid type object: set_default_tensor_type takes tapegrad.FloatTensor or DoubleTensor")
    dtypes.set_default_dtype(dtype)


def new(self: Tensor, *args: Any, size: Sequence[int] | None = None) -> Tensor:
    """A tensor of this dtype: empty, of a shape, or of data."""
    if size is not None:
        return empty(size_of("new", tuple(size)), dtype=self.dtype)
    if len(args) == 1 and isinstance(args[0], (Tensor, list, tuple, np.ndarray)) and not isinstance(args[0], Size):
        return tensor(args[0], dtype=self.dtype)
    return empty(size_of("new", args or (0,)), dtype=self.dtype)


def _new(name: str, make: Any) -> None:
    def like(self: Tensor, *args: Any, dtype: Any = None, **facts: Any) -> Tensor:
        return as_batched_as(self, make(*args, dtype=self.dtype if dtype is None else dtype, **facts))

    like.__name__ = like.__qualname__ = name
    like.__doc__ = f"`{make.__name__}`, in the dtype of the tensor."
    setattr(Tensor, name, like)


def initialise(self: Tensor, *args: Any) -> None:
    """`Tensor()`, `Tensor(2, 3)`, `Tensor([1.0, 2.0])`: empty, of a shape, or a copy of data; floating point."""
    data = args[0] if len(args) == 1 else None
    if isinstance(data, (Tensor, list, tuple, np.ndarray)):
        made = leaf_of(data, dtypes.get_default_dtype())
    else:
        made = empty(size_of("Tensor", args or (0,)))
    self._tape, self._slot, self._kind = made._tape, made._slot, made._kind
    del made._slot  # a slot has one handle


Tensor.new = new
_new("new_zeros", zeros)
_new("new_ones", ones)
_new("new_empty", empty)
_new("new_full", full)
_new("new_eye", eye)
_new("new_tensor", tensor)
Tensor.__init__ = initialise  # of handles of results it isn't called
