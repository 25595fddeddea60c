"""Random numbers of distributions, drawn from a generator. The streams are NumPy's, not PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np

from tapegrad import creation, dtypes, writing
from tapegrad.arguments import EXACT, Number, Sizes, Surface, checked
from tapegrad.batched import Batched, levels
from tapegrad.devices import check_placed, preserve_format
from tapegrad.dtypes import BOOL, DType
from tapegrad.functions import elementwise
from tapegrad.functions.inplace import _check_floating, _instead
from tapegrad.recording import broadcast_shapes, cast
from tapegrad.tensor import Tensor, describe, from_array, location

functions = public = Surface(EXACT)


def _tensor(array: Any, dtype: DType) -> Tensor:
    return from_array(creation.as_array(array).astype(dtype.numpy))


def _drawn_beside(drawn: Tensor, *of: Any) -> Tensor:
    """What was drawn, with the derivative by what it was drawn of, which is zero: PyTorch's."""
    for t in of:
        if isinstance(t, Tensor) and t.requires_grad:
            drawn = elementwise.where(creation.ones(drawn.shape, dtype=BOOL), drawn, t)
    return drawn


@checked
def normal(
    mean: Number | Tensor,
    std: Number | Tensor = 1.0,
    size: Sizes | None = None,
    *,
    generator: Any = None,
    dtype: DType | None = None,
    device: Any = None,
    layout: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """Numbers of normal distributions: a tensor of means, of deviations, or both; or two numbers and a size.

    The derivatives by these are zero. For samples with derivatives, write mean + std * randn_like(mean).

    >>> import tapegrad as tg
    >>> tg.normal(tg.zeros(2), 1.0).shape
    tapegrad.Size([2])
    """
    check_placed(device, layout, pin_memory)
    given = [t for t in (mean, std) if isinstance(t, Tensor)]
    if isinstance(std, Tensor):
        if not std.dtype.is_floating_point and not isinstance(mean, Tensor):
            raise RuntimeError(f"normal expects standard deviation to be floating point: {describe(std)}")
        if (std._array() < 0).any():
            raise RuntimeError(f"normal expects all elements of std >= 0.0: {describe(std)}, at {location()}")
    elif std < 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std}")
    if given:
        if size is not None:
            raise TypeError("normal() received an invalid combination of arguments: a size beside tensors")
        shape, dtype = broadcast_shapes("normal", given), given[0].dtype
        if not dtype.is_floating_point:
            raise NotImplementedError(f"\"normal\" not implemented for '{dtype.scalar_type}': {describe(*given)}")
        drawn = creation.randn(shape, generator=generator, dtype=dtype) * _detached(std) + _detached(mean)
        drawn = cast(drawn, dtype)
        return _drawn_beside(drawn, mean, std)
    if size is None:
        raise TypeError("normal() received an invalid combination of arguments: of two numbers it takes a size")
    made = creation.randn(size, generator=generator, dtype=dtype, device=device) * std + mean
    return made.requires_grad_() if requires_grad else made


functions["normal"] = normal


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value


def _probabilities(name: str, p: Any) -> np.ndarray:
    values = np.asarray(p._array() if isinstance(p, Tensor) else p)
    if not ((values >= 0) & (values <= 1)).all():
        raise RuntimeError(f"{name} expects p to be in [0, 1], but got p={p}, at {location()}")
    return values


@public
def bernoulli(input: Tensor, p: float | None = None, *, generator: Any = None) -> Tensor:
    """1 with the probability that each element is, or with `p`, else 0. The derivative is zero.

    >>> import tapegrad as tg
    >>> tg.bernoulli(tg.tensor([0.0, 1.0]))
    tensor([0., 1.])
    """
    if p is None and not input.dtype.is_floating_point:
        raise NotImplementedError(f"\"bernoulli\" not implemented for '{input.dtype.scalar_type}': {describe(input)}")
    chances = _probabilities("bernoulli", input if p is None else p)
    drawn = _tensor(creation.random(generator).random(input._kind.shape) < chances, input.dtype)
    return _drawn_beside(drawn, input)


@public
def poisson(input: Tensor, *, generator: Any = None) -> Tensor:
    """Counts of Poisson's distributions with these means. The derivative is zero.

    >>> import tapegrad as tg
    >>> tg.poisson(tg.tensor([0.0, 0.0]))
    tensor([0., 0.])
    """
    if not input.dtype.is_floating_point:
        raise NotImplementedError(f"\"poisson\" not implemented for '{input.dtype.scalar_type}': {describe(input)}")
    means = input._array()
    if not (means >= 0).all():
        raise RuntimeError(
            f"invalid Poisson rate, expected rate to be non-negative: {describe(input)}, at {location()}"
        )
    return _drawn_beside(_tensor(creation.random(generator).poisson(means), input.dtype), input)


@public
def multinomial(input: Tensor, num_samples: int, replacement: bool = False, *, generator: Any = None) -> Tensor:
    """Indices drawn with these weights, which need not sum to 1: for each row so many, each once unless `replacement`.

    Raises
    ------
    RuntimeError
        Where weights are negative or not finite, all zero, or too few for samples without replacement.

    >>> import tapegrad as tg
    >>> tg.multinomial(tg.tensor([0.0, 3.0, 0.0]), 2, replacement=True)
    tensor([1, 1])
    """
    if not input.dtype.is_floating_point:
        raise RuntimeError(f"multinomial only supports floating-point dtypes for input, got: {input.dtype.scalar_type}")
    if input.ndim not in (1, 2):
        raise RuntimeError("prob_dist must be 1 or 2 dim")
    weights = np.atleast_2d(input._array()).astype(np.float64)
    rows, n = weights.shape
    if num_samples <= 0:
        raise RuntimeError("cannot sample n_sample <= 0 samples")
    if not replacement and num_samples > n:
        raise RuntimeError("cannot sample n_sample > prob_dist.size(-1) samples without replacement")
    if not ((weights >= 0) & np.isfinite(weights)).all():
        raise RuntimeError("probability tensor contains either `inf`, `nan` or element < 0")
    if (weights.sum(1) <= 0).any():
        raise RuntimeError("invalid multinomial distribution (sum of probabilities <= 0)")
    random = creation.random(generator)
    if not rows:
        made = np.zeros((0, num_samples))
    elif replacement:
        ends = np.cumsum(weights, 1)
        draws = random.random((rows, num_samples)) * ends[:, -1:]
        made = np.stack([np.searchsorted(end, draw, "right") for end, draw in zip(ends, draws, strict=True)])
        made = np.minimum(made, [[np.flatnonzero(w)[-1]] for w in weights])
    else:  # the first to come of exponential races (Efraimidis and Spirakis 2006)
        with np.errstate(divide="ignore"):
            times = random.standard_exponential(weights.shape) / weights
        made = np.argsort(times, 1)[:, :num_samples]
    return _tensor(made if input.ndim == 2 else made[0], dtypes.INT64)


@checked
def randint_like(
    input: Tensor, low: int = 0, high: int | None = None, *, generator: Any = None, dtype: DType | None = None,
    device: Any = None, layout: Any = None, pin_memory: bool = False, requires_grad: bool = False,
    memory_format: Any = preserve_format,
) -> Tensor:  # fmt: skip
    """`randint(low, high)` (or `randint_like(input, high)`) with the shape and dtype of `input`."""
    check_placed(device, layout, pin_memory)
    if not low and high is None:
        raise TypeError("randint_like() takes (input, high) or (input, low, high)")
    bounds = (0, low) if high is None else (low, high)
    drawn = creation.randint(*bounds, input.shape, generator=generator, dtype=dtype or input.dtype)
    return creation.ordered(drawn, memory_format, requires_grad)


functions["randint_like"] = randint_like


# --- in place ---------------------------------------------------------------------------------------------------------


def _source_for(self: Tensor, generator: Any) -> np.random.Generator:
    """The source of random numbers that take the place of a tensor's elements.

    Raises
    ------
    RuntimeError
        Under `vmap` where each sample is to have its own, and the tensor is one for all samples.
    """
    own = []
    t = self
    while isinstance(t, Batched):
        own.append(t.level)
        t = t.physical
    if any(each.randomness == "different" and not each.is_sampling and each not in own for each in levels()):
        raise RuntimeError(
            "vmap: Cannot ask for different inplace randomness on an unbatched tensor. This will appear like same "
            f"randomness: {describe(self)}, at {location()}"
        )
    return creation.random(generator)


def _drawn_anew(self: Tensor, array: Any) -> Tensor:
    return writing.assign(self, _instead(self, _tensor(array, self.dtype)))


@checked
def bernoulli_(self: Tensor, p: float | Tensor = 0.5, *, generator: Any = None) -> Tensor:
    """Make every element 1 with this probability, else 0."""
    writing.check_in_place(self, "bernoulli_")
    source = _source_for(self, generator)
    chances = _probabilities("bernoulli_", p)
    return _drawn_anew(self, source.random(self._kind.shape) < chances)


@checked
def exponential_(self: Tensor, lambd: float = 1.0, *, generator: Any = None) -> Tensor:
    """Draw every element anew, of the exponential distribution with this rate."""
    _check_floating(self, "exponential_")
    if not lambd > 0.0:
        raise RuntimeError(f"exponential_ expects lambda > 0.0, but found lambda={lambd}")
    return _drawn_anew(self, _source_for(self, generator).standard_exponential(self._kind.shape) / lambd)


@checked
def cauchy_(self: Tensor, median: float = 0.0, sigma: float = 1.0, *, generator: Any = None) -> Tensor:
    """Draw every element anew, of Cauchy's distribution."""
    _check_floating(self, "cauchy_")
    if not sigma > 0.0:
        raise RuntimeError(f"cauchy_ expects sigma > 0.0, but found sigma={sigma}")
    return _drawn_anew(self, median + sigma * _source_for(self, generator).standard_cauchy(self._kind.shape))


@checked
def geometric_(self: Tensor, p: float, *, generator: Any = None) -> Tensor:
    """Draw every element anew: how many trials until one with probability `p` succeeds."""
    writing.check_in_place(self, "geometric_")
    if not 0.0 < p < 1.0:
        raise RuntimeError(f"geometric_ expects p to be in (0, 1), but got p={p}")
    return _drawn_anew(self, _source_for(self, generator).geometric(p, self._kind.shape))


@checked
def log_normal_(self: Tensor, mean: float = 1.0, std: float = 2.0, *, generator: Any = None) -> Tensor:
    """Draw every element anew, the exponential of what is normal."""
    _check_floating(self, "log_normal_")
    if not std > 0.0:
        raise RuntimeError(f"log_normal_ expects std > 0.0, but found std={std}")
    return _drawn_anew(self, np.exp(mean + std * _source_for(self, generator).standard_normal(self._kind.shape)))


def random_(self: Tensor, *bounds: Any, generator: Any = None, **named: Any) -> Tensor:
    """Draw every element anew: integers from `from` (0) to before `to`, or all that the dtype counts exactly."""
    writing.check_in_place(self, "random_")
    given = [*bounds, *(named[k] for k in ("from", "to") if named.get(k) is not None)]
    most = {"float64": 1 << 53, "float32": 1 << 24}.get(self.dtype.name) or int(dtypes.limits(self.dtype)[1])
    if len(given) == 2 and given[1] is None:
        given[1] = most + 1
    if len(given) > 2 or not all(isinstance(v, (int, np.integer)) for v in given):
        raise TypeError(f"random_() received an invalid combination of arguments: {given}")
    low, high = (0, given[0] if given else most + 1) if len(given) < 2 else given
    if low >= high:
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")
    least = -most if self.dtype.is_floating_point else int(dtypes.limits(self.dtype)[0])
    for bound, what in ((low, "from"), (high - 1, "to - 1")):
        if not least <= bound <= most:
            raise RuntimeError(
                f"{what} is out of bounds for {self.dtype.c_type}: random_ draws from {low} to before {high}, "
                f"{describe(self)}, at {location()}"
            )
    return _drawn_anew(self, _source_for(self, generator).integers(low, high - 1, self._kind.shape, endpoint=True))


for _method in (bernoulli_, exponential_, cauchy_, geometric_, log_normal_, random_):
    setattr(Tensor, _method.__name__, _method)
