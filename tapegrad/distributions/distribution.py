"""What distributions share: how parameters are taken and checked, shapes, and what is asked of values.

    sample_shape + batch_shape + event_shape      the shape of a sample
                   batch_shape + a parameter's    the shape of a parameter, whose constraint says how many dimensions
                                                  of its own it has
    value's and batch_shape                    the shape of log_prob: broadcast, without the dimensions of the event

A distribution is a few formulas: what `_take` makes of its parameters, `_log_prob`, `rsample` or `_draw`, its moments.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from tapegrad import creation, dtypes
from tapegrad.arguments import checked
from tapegrad.conversion import as_operand
from tapegrad.distributions import constraints
from tapegrad.distributions import operations as tg
from tapegrad.tensor import Size, Tensor, from_array

NUMBERS = (int, float, np.number, np.bool_)
HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
EULER = 0.57721566490153286


def lazy_property(compute: Callable[[Any], Any]) -> Any:
    """A property that is computed once, with its graph."""
    return functools.cached_property(tg.enable_grad()(compute))


def tiny(t: Tensor) -> float:
    """The least positive normal number of a dtype."""
    return float(np.finfo(t.dtype.numpy).tiny)


def eps(t: Tensor) -> float:
    """The distance from 1 to the next number of a dtype."""
    return float(np.finfo(t.dtype.numpy).eps)


def operand(value: Any) -> Tensor:
    """A parameter or a value as a tensor: numbers and arrays stand for tensors."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, (*NUMBERS, np.ndarray)):
        return as_operand(value, True)
    raise ValueError(
        f"Input arguments must all be instances of Number, Tensor or ndarray, but got {type(value).__name__}: make a "
        "tensor of it with tapegrad.tensor"
    )


def tensors(*values: Any) -> list[Tensor]:
    """Parameters as tensors of one floating dtype: that of the tensors and arrays, which numbers take."""
    given = [operand(v) for v in values]
    of_arrays = [t.dtype for t, v in zip(given, values, strict=True) if not isinstance(v, NUMBERS)]
    floats = [d for d in of_arrays if d.is_floating_point]
    dtype = functools.reduce(dtypes.promote_types, floats) if floats else dtypes.get_default_dtype()
    return [t if t.dtype is dtype else t.to(dtype) for t in given]


def expanded(t: Tensor, shape: Any) -> Tensor:
    """A tensor broadcast to a shape: itself where it has that shape."""
    shape = tuple(shape)
    return t if tuple(t.shape) == shape else t.expand(shape)


def sum_rightmost(t: Tensor, n: int) -> Tensor:
    """The sum over the last n dimensions."""
    return t.sum(tuple(range(-n, 0))) if n else t


# --- random numbers, of the generator that `manual_seed` starts -------------------------------------------------------


def _positive(drawn: Any, like: Tensor) -> Tensor:
    """Random numbers, 0 made the least number that there is: so their logarithm is finite."""
    return from_array(creation.as_array(np.maximum(drawn, tiny(like), dtype=like.dtype.numpy)))


@checked
def unit(shape: Any, like: Tensor) -> Tensor:
    """Uniform in [0, 1)."""
    return from_array(creation.as_array(creation.random().random(tuple(shape), dtype=like.dtype.numpy)))


@checked
def uniform(shape: Any, like: Tensor) -> Tensor:
    """Uniform in (0, 1)."""
    return _positive(creation.random().random(tuple(shape), dtype=like.dtype.numpy), like)


@checked
def normal(shape: Any, like: Tensor) -> Tensor:
    """Of the standard normal distribution."""
    return from_array(creation.as_array(creation.random().standard_normal(tuple(shape), dtype=like.dtype.numpy)))


@checked
def exponential(shape: Any, like: Tensor) -> Tensor:
    """Of the exponential distribution of rate 1; never 0."""
    return _positive(creation.random().standard_exponential(tuple(shape), dtype=like.dtype.numpy), like)


def numbers(t: Tensor, shape: Any) -> np.ndarray:
    """The elements of a parameter, broadcast, in float64."""
    return np.broadcast_to(t._array().astype(np.float64), tuple(shape))


# --- the base ---------------------------------------------------------------------------------------------------------


class Distribution:
    """A probability distribution, or a batch of them: the base class.

    Parameters
    ----------
    batch_shape : Size
        The shape of the batch.
    event_shape : Size
        The shape of one value.
    validate_args : bool, optional
        Whether parameters and values are checked; by default they are, unless Python runs with `-O`.

    >>> import tapegrad as tg
    >>> d = tg.distributions.Normal(tg.zeros(3), 1.0)
    >>> d.batch_shape, d.event_shape, d.sample((2,)).shape
    (tapegrad.Size([3]), tapegrad.Size([]), tapegrad.Size([2, 3]))
    """

    has_rsample: Any = False
    has_enumerate_support: Any = False
    _validate_args: bool = __debug__
    _keeps_integers = False  # whether values that are integers stay so
    _arguments: dict[str, Any] = {}  # as `_take` was given them
    _unbroadcast: dict[str, Tensor] = {}  # parameters, before their batches were broadcast

    @staticmethod
    def set_default_validate_args(value: bool) -> None:
        """Say whether distributions check parameters and values, where they are not told by `validate_args`."""
        if value not in (True, False):
            raise ValueError(f"set_default_validate_args() takes True or False, but got {value!r}")
        Distribution._validate_args = bool(value)

    def __init__(self, batch_shape: Any = (), event_shape: Any = (), validate_args: bool | None = None) -> None:
        self._batch_shape, self._event_shape = Size(batch_shape), Size(event_shape)
        if validate_args is not None:
            self._validate_args = validate_args
        if self._validate_args:
            self._check_parameters()

    def _take(self, validate_args: bool | None, **arguments: Any) -> None:
        """Take parameters: make tensors of them, of one dtype, and broadcast their batches. None is one not given."""
        dims = self._event_dims()
        given = {name: value for name, value in arguments.items() if name in dims and value is not None}
        found = dict(zip(given, tensors(*given.values()), strict=True))
        for name, t in found.items():
            if t.ndim < dims[name]:
                least = ("", "one", "two")[dims[name]]
                raise ValueError(f"`{name}` parameter must be at least {least}-dimensional, but its shape is {t.shape}")
        batch_shape = _broadcast(*(tuple(t.shape[: t.ndim - dims[name]]) for name, t in found.items()))
        self._unbroadcast = found
        for name, t in found.items():
            setattr(self, name, expanded(t, batch_shape + tuple(t.shape[t.ndim - dims[name] :])))
        self._arguments = {**arguments, **{name: getattr(self, name) for name in found}}
        Distribution.__init__(self, batch_shape, self._event_of_parameters(), validate_args)

    def _event_dims(self) -> dict[str, int]:
        """How many dimensions of its own each parameter has."""
        return {name: constraint.event_dim for name, constraint in self.arg_constraints.items()}

    def _event_of_parameters(self) -> Any:
        """The shape of an event, which parameters may tell."""
        return ()

    def _check_parameters(self) -> None:
        try:
            known = self.arg_constraints
        except NotImplementedError:
            warnings.warn(
                f"{type(self)} does not define `arg_constraints`. Please set `arg_constraints = {{}}` or initialize "
                "the distribution with `validate_args=False` to turn off validation.",
                stacklevel=3,
            )
            return
        for name, constraint in known.items():
            if constraints.is_dependent(constraint) or (name not in self.__dict__ and self._is_computed(name)):
                continue
            value = getattr(self, name)
            if not _all(constraint, value):
                raise ValueError(
                    f"Expected parameter {name} ({type(value).__name__} of shape {tuple(value.shape)}) of distribution "
                    f"{self!r} to satisfy the constraint {constraint!r}, but found invalid values:\n{value}"
                )

    def _is_computed(self, name: str) -> bool:
        return isinstance(getattr(type(self), name, None), (property, functools.cached_property))

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """The distribution with its batch broadcast to a shape; nothing is checked again."""
        ours: Any = next(cls for cls in type(self).__mro__ if cls.__module__.startswith(__package__))
        if ours is Distribution:
            raise NotImplementedError(f"Subclass {type(self).__name__} must define an .expand() method.")
        new = self._get_checked_instance(ours, _instance)
        ours.__init__(new, **self._expanded(tuple(batch_shape)), validate_args=False)
        new._validate_args = self._validate_args
        return new

    def _get_checked_instance(self, cls: type, _instance: Any = None) -> Any:
        """What `expand` makes the new one of, which a subclass that has more to set gives: for `expand` of others.

        Raises
        ------
        NotImplementedError
            Where a subclass has an `__init__` of its own, and no `expand`.
        """
        if _instance is None and type(self).__init__ != cls.__init__:  # type: ignore[misc]
            raise NotImplementedError(
                f"Subclass {type(self).__name__} of {cls.__name__} that defines a custom __init__ method must also "
                "define a custom .expand() method."
            )
        return self.__new__(type(self)) if _instance is None else _instance

    def _expanded(self, batch_shape: tuple[int, ...]) -> dict[str, Any]:
        """The arguments of one with this batch."""
        arguments = dict(self._arguments)
        for name, dim in self._event_dims().items():
            t = arguments.get(name)
            if isinstance(t, Tensor):
                arguments[name] = expanded(t, batch_shape + tuple(t.shape[t.ndim - dim :]))
        return arguments

    @property
    def batch_shape(self) -> Size:
        """The shape over which parameters are batched."""
        return self._batch_shape

    @property
    def event_shape(self) -> Size:
        """The shape of one value."""
        return self._event_shape

    @property
    def arg_constraints(self) -> dict[str, Any]:
        """What parameters must satisfy: constraints by their names."""
        raise NotImplementedError

    @property
    def support(self) -> Any:
        """The values that there are: a constraint."""
        raise NotImplementedError

    @property
    def mean(self) -> Tensor:
        """The mean."""
        raise NotImplementedError(f"{type(self)} does not implement mean")

    @property
    def mode(self) -> Tensor:
        """The most probable value."""
        raise NotImplementedError(f"{type(self)} does not implement mode")

    @property
    def variance(self) -> Tensor:
        """The variance."""
        raise NotImplementedError(f"{type(self)} does not implement variance")

    @property
    def stddev(self) -> Tensor:
        """The standard deviation."""
        return tg.sqrt(self.variance)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw values, of shape `sample_shape + batch_shape + event_shape`, which have no gradient."""
        with tg.no_grad():
            if self.has_rsample:
                return self.rsample(sample_shape).detach()
            drawn = np.asarray(self._draw(tuple(self._extended_shape(sample_shape))))
            return from_array(drawn if self._keeps_integers else drawn.astype(self._dtype().numpy))

    def _dtype(self) -> Any:
        """The dtype of the parameters, and so of values."""
        return next((t.dtype for t in self._unbroadcast.values()), dtypes.get_default_dtype())

    def _draw(self, shape: tuple[int, ...]) -> Any:
        """Values as an array, where they are no function of parameters and of noise."""
        raise NotImplementedError(f"{type(self)} does not implement sample")

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draw values that have derivatives by the parameters (reparametrised)."""
        raise NotImplementedError(
            f"{type(self).__name__} has no reparametrised samples (has_rsample is False): use sample(), and the "
            "derivative of log_prob"
        )

    def sample_n(self, n: int) -> Tensor:
        """`sample((n,))`, under its former name."""
        warnings.warn("`sample_n(n)` will be deprecated. Use `sample((n,))` instead.", FutureWarning, stacklevel=2)
        return self.sample((n,))

    def log_prob(self, value: Any) -> Tensor:
        """The logarithm of the density, or of the probability, at values.

        Raises
        ------
        ValueError
            With `validate_args`, where values are outside of the support or their shape does not broadcast. Without,
            the density of a continuous distribution is 0 outside of its support.
        """
        value = self._value(value)
        result = self._log_prob(value)
        if self._validate_args:
            return result
        support = self.support
        if support.is_discrete or support.event_dim or support is constraints.real:
            return result
        return tg.where(support.check(value.detach()) | tg.isnan(value), result, -math.inf)

    def _log_prob(self, value: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self)} does not implement log_prob")

    def cdf(self, value: Any) -> Tensor:
        """The probability of a value that is not greater."""
        return self._cdf(self._value(value))

    def _cdf(self, value: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self)} does not implement cdf")

    def icdf(self, value: Any) -> Tensor:
        """The value whose cdf is given: the quantile function."""
        return self._icdf(self._number(value))

    def _icdf(self, value: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self)} does not implement icdf")

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All values of a discrete distribution, along a first dimension; without `expand`, the batch has length 1."""
        raise NotImplementedError(f"{type(self)} does not implement enumerate_support")

    def _enumerated(self, values: Tensor, expand: bool) -> Tensor:
        values = values.reshape((-1,) + (1,) * len(self._batch_shape))
        return expanded(values, (values.shape[0], *self._batch_shape)) if expand else values

    def entropy(self) -> Tensor:
        """-E[log p(x)], of the shape of the batch."""
        raise NotImplementedError(f"{type(self)} does not implement entropy")

    def perplexity(self) -> Tensor:
        """exp(entropy)."""
        return tg.exp(self.entropy())

    def _extended_shape(self, sample_shape: Any = ()) -> Size:
        """The shape of a sample."""
        if not hasattr(sample_shape, "__iter__"):
            raise TypeError(f"sample_shape must be a sequence of ints, as sample((3,)), but got {sample_shape!r}")
        return Size((*sample_shape, *self._batch_shape, *self._event_shape))

    def _number(self, value: Any) -> Tensor:
        """A value as a tensor: integers in the dtype of the parameters, where they are not what values are."""
        if not isinstance(value, (Tensor, np.ndarray, *NUMBERS)):
            raise ValueError(f"The value argument to log_prob must be a Tensor, not {type(value).__name__}")
        t = operand(value)
        if self._keeps_integers or (t.dtype.is_floating_point and not isinstance(value, NUMBERS)):
            return t
        return t.to(self._dtype())

    def _value(self, value: Any) -> Tensor:
        """A value as a tensor, checked where values are."""
        t = self._number(value)
        if self._validate_args:
            self._validate_sample(t)
        return t

    def _validate_sample(self, value: Any) -> None:
        """Refuse values of a wrong shape, and values that are not in the support."""
        if not isinstance(value, Tensor):
            raise ValueError("The value argument to log_prob must be a Tensor")
        shape, expected = tuple(value.shape), tuple(self._batch_shape) + tuple(self._event_shape)
        if self._event_shape and shape[-len(self._event_shape) :] != tuple(self._event_shape):
            raise ValueError(
                f"The right-most size of value must match event_shape: {value.shape} vs {self._event_shape}."
            )
        for i, j in zip(reversed(shape), reversed(expected), strict=False):
            if i != 1 and j != 1 and i != j:
                raise ValueError(
                    f"Value is not broadcastable with batch_shape+event_shape: {value.shape} vs {Size(expected)}."
                )
        try:
            support = self.support
        except NotImplementedError:
            warnings.warn(
                f"{type(self)} does not define `support` to enable sample validation. Please initialize the "
                "distribution with `validate_args=False` to turn off validation.",
                stacklevel=3,
            )
            return
        if not _all(support, value):
            raise ValueError(
                f"Expected value argument ({type(value).__name__} of shape {shape}) to be within the support "
                f"({support!r}) of the distribution {self!r}, but found invalid values:\n{value}"
            )

    def __repr__(self) -> str:
        names = self._unbroadcast or [name for name in self.arg_constraints if name in self.__dict__]
        parameters = {name: getattr(self, name) for name in names}
        facts = ", ".join(f"{name}: {t if t.numel() == 1 else t.shape}" for name, t in parameters.items())
        return f"{type(self).__name__}({facts})"


def _broadcast(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a batch; a RuntimeError, as of any operation, where there is none."""
    return tuple(tg.broadcast_shapes(*shapes))


def _all(constraint: Any, value: Tensor) -> bool:
    """Whether all values satisfy a constraint."""
    with tg.no_grad():
        if constraint.takes_arrays:  # NumPy says it sooner
            return bool(np.all(constraint.check(value._array())))
        return bool(constraint.check(value.detach()).all())


class ExponentialFamily(Distribution):
    """A distribution whose density is exp(<t(x), theta> - F(theta) + k(x)), with natural parameters theta."""
