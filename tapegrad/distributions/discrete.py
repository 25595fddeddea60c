"""Distributions of counts and of categories; and the continuous ones that stand for them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tapegrad import creation
from tapegrad.distributions import constraints
from tapegrad.distributions import operations as tg
from tapegrad.distributions.composed import TransformedDistribution
from tapegrad.distributions.constraints import dependent_property
from tapegrad.distributions.distribution import (
    NUMBERS,
    Distribution,
    ExponentialFamily,
    eps,
    expanded,
    exponential,
    lazy_property,
    numbers,
    operand,
    tiny,
    uniform,
)
from tapegrad.distributions.special import langevin, langevin_slope, lbeta, log_sinhc, softplus, times
from tapegrad.distributions.transforms import ExpTransform, SigmoidTransform
from tapegrad.distributions.variates import log_standard_gamma
from tapegrad.tensor import Tensor, from_array

_LIMIT = 9.0e18  # Poisson's rates beyond are refused by the generator: integers end there


def _one_of(probs: Any, logits: Any) -> None:
    if (probs is None) == (logits is None):
        raise ValueError("Either `probs` or `logits` must be specified, but not both.")


class _Odds(Distribution):
    """Of a probability p, given as `probs` or by its log-odds, `logits`."""

    arg_constraints: Any = {"probs": constraints.unit_interval, "logits": constraints.real}

    def _take_odds(self, validate_args: bool | None, probs: Any, logits: Any, **others: Any) -> None:
        _one_of(probs, logits)
        self._take(validate_args, probs=probs, logits=logits, **others)

    @lazy_property
    def logits(self) -> Tensor:
        """log(p / (1 - p))."""
        return tg.log(self.probs) - tg.log1p(-self.probs)

    @lazy_property
    def probs(self) -> Tensor:
        """P."""
        return tg.sigmoid(self.logits)

    @property
    def _param(self) -> Tensor:
        return self.__dict__["probs" if "probs" in self._unbroadcast else "logits"]

    @property
    def param_shape(self) -> Any:
        """The shape of the parameter."""
        return self._param.shape

    def _logs(self) -> tuple[Tensor, Tensor]:
        """Log p and log(1 - p), of what was given."""
        if "probs" in self._unbroadcast:
            return tg.log(self.probs), tg.log1p(-self.probs)
        return -softplus(-self.logits), -softplus(self.logits)


class Bernoulli(_Odds, ExponentialFamily):
    """1 with probability p, 0 with 1 - p.

    Parameters
    ----------
    probs : Tensor, array or number
        p: this is given, or `logits`.
    logits : Tensor, array or number
        log(p / (1 - p)).

    >>> import tapegrad as tg
    >>> tg.distributions.Bernoulli(logits=0.0).log_prob(tg.tensor([0.0, 1.0]))
    tensor([-0.6931, -0.6931])
    """

    support: Any = constraints.boolean
    has_enumerate_support = True

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        self._take_odds(validate_args, probs, logits)

    mean = property(lambda self: self.probs)

    @property
    def mode(self) -> Tensor:
        p = self.probs
        return tg.where(p == 0.5, math.nan, (p > 0.5).to(p.dtype))

    variance = property(lambda self: self.probs * (1.0 - self.probs))

    def _draw(self, shape: tuple[int, ...]) -> Any:
        return creation.random().random(shape) < numbers(self.probs, shape)

    def _log_prob(self, value: Tensor) -> Tensor:
        log_p, log_q = self._logs()
        return times(value, log_p) + times(1.0 - value, log_q)

    def entropy(self) -> Tensor:
        log_p, log_q = self._logs()
        return -times(self.probs, log_p) - times(tg.exp(log_q), log_q)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        return self._enumerated(tg.arange(2).to(self._param.dtype), expand)


class Geometric(_Odds):
    """How often one fails before the first success, of probability p: P(k) = (1 - p)^k p.

    >>> import tapegrad as tg
    >>> tg.distributions.Geometric(0.5).log_prob(1.0)
    tensor(-1.3863)
    """

    support: Any = constraints.nonnegative_integer

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        self._take_odds(validate_args, probs, logits)
        if self._validate_args and probs is not None and not bool((self.probs > 0.0).detach().all()):
            raise ValueError(
                f"Expected parameter probs (Tensor of shape {tuple(self.probs.shape)}) of distribution {self!r} to be "
                f"positive but found invalid values:\n{self.probs}"
            )

    mean = property(lambda self: tg.exp(-self.logits))
    mode = property(lambda self: tg.zeros_like(self.probs))
    variance = property(lambda self: tg.exp(-self.logits) / self.probs)

    def _draw(self, shape: tuple[int, ...]) -> Any:
        log_q = numbers(self._logs()[1], shape)
        with np.errstate(divide="ignore"):
            return np.floor(-creation.random().standard_exponential(shape) / log_q)

    def _log_prob(self, value: Tensor) -> Tensor:
        log_p, log_q = self._logs()
        return times(value, log_q) + log_p

    def entropy(self) -> Tensor:
        log_p, log_q = self._logs()
        return -log_p - times(tg.exp(log_q), log_q) / self.probs


class Binomial(_Odds):
    """How often one succeeds in n = `total_count` trials: P(k) = n! / (k! (n - k)!) p^k (1 - p)^(n - k).

    >>> import tapegrad as tg
    >>> tg.distributions.Binomial(2, probs=0.5).log_prob(1.0)
    tensor(-0.6931)
    """

    arg_constraints: Any = {"total_count": constraints.nonnegative_integer, **_Odds.arg_constraints}
    has_enumerate_support = True
    total_count: Tensor

    def __init__(
        self, total_count: Any = 1, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        self._take_odds(validate_args, probs, logits, total_count=total_count)

    @dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:
        """From 0 to n."""
        return constraints.integer_interval(0, self.total_count)

    mean = property(lambda self: self.total_count * self.probs)
    variance = property(lambda self: self.total_count * self.probs * (1.0 - self.probs))

    @property
    def mode(self) -> Tensor:
        n = self.total_count
        found = tg.floor((n + 1.0) * self.probs)
        return tg.where(found > n, n, found)

    def _draw(self, shape: tuple[int, ...]) -> Any:
        n = numbers(self.total_count, shape).astype(np.int64)
        return creation.random().binomial(n, numbers(self.probs, shape))

    def _log_prob(self, value: Tensor) -> Tensor:
        n, (log_p, log_q) = self.total_count, self._logs()
        ways = -tg.log1p(n) - lbeta(n - value + 1.0, value + 1.0)
        return ways + times(value, log_p) + times(n - value, log_q)

    def _count(self, name: str) -> int:
        n = self.total_count.detach()
        if bool((n != n.max()).any()):
            raise NotImplementedError(f"Inhomogeneous total count not supported by `{name}`.")
        return int(n.max())

    def entropy(self) -> Tensor:
        self._count("entropy")
        log = self._log_prob(self.enumerate_support(False))
        return -times(tg.exp(log), log).sum(0)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        return self._enumerated(tg.arange(1 + self._count("enumerate_support")).to(self._param.dtype), expand)


class NegativeBinomial(_Odds):
    """How often one succeeds before r = `total_count` failures: P(k) = G(r + k) / (k! G(r)) (1 - p)^r p^k.

    >>> import tapegrad as tg
    >>> tg.distributions.NegativeBinomial(1.0, probs=0.5).log_prob(1.0)
    tensor(-1.3863)
    """

    arg_constraints: Any = {
        "total_count": constraints.greater_than_eq(0),
        "probs": constraints.half_open_interval(0.0, 1.0),
        "logits": constraints.real,
    }
    support: Any = constraints.nonnegative_integer
    total_count: Tensor

    def __init__(
        self, total_count: Any, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        self._take_odds(validate_args, probs, logits, total_count=total_count)

    mean = property(lambda self: self.total_count * tg.exp(self.logits))
    mode = property(lambda self: tg.clamp(tg.floor((self.total_count - 1.0) * tg.exp(self.logits)), 0.0))
    variance = property(lambda self: self.mean / tg.exp(self._logs()[1]))

    def _draw(self, shape: tuple[int, ...]) -> Any:
        rate = creation.random().standard_gamma(numbers(self.total_count, shape))
        return creation.random().poisson(np.minimum(rate * np.exp(numbers(self.logits, shape)), _LIMIT))

    def _log_prob(self, value: Tensor) -> Tensor:
        r, (log_p, log_q) = self.total_count, self._logs()
        sure = (r == 0.0) & (value == 0.0)
        ways = -tg.log(tg.where(sure, 1.0, r + value)) - lbeta(tg.where(sure, 1.0, r), value + 1.0)
        return tg.where(sure, 0.0, ways) + times(value, log_p) + times(r, log_q)


class Poisson(ExponentialFamily):
    """Poisson's distribution: P(k) = rate^k exp(-rate) / k!.

    >>> import tapegrad as tg
    >>> tg.distributions.Poisson(2.0).log_prob(2.0)
    tensor(-1.3069)
    """

    arg_constraints: Any = {"rate": constraints.nonnegative}
    support: Any = constraints.nonnegative_integer
    rate: Tensor

    def __init__(self, rate: Any, validate_args: bool | None = None) -> None:
        self._take(validate_args, rate=rate)

    mean = property(lambda self: self.rate)
    mode = property(lambda self: tg.floor(self.rate))
    variance = property(lambda self: self.rate)

    def _draw(self, shape: tuple[int, ...]) -> Any:
        rate = numbers(self.rate, shape)
        if (rate > _LIMIT).any():
            raise ValueError(f"Poisson.sample(): rates go up to {_LIMIT:g}, but one is {rate.max():g}")
        return creation.random().poisson(rate)

    def _log_prob(self, value: Tensor) -> Tensor:
        return times(value, tg.log(self.rate)) - self.rate - tg.lgamma(value + 1.0)


# --- categories -------------------------------------------------------------------------------------------------------


class _Categories(Distribution):
    """Of probabilities of K categories, given as `probs` or by their logarithms, `logits`; normalised."""

    arg_constraints: Any = {"probs": constraints.simplex, "logits": constraints.real_vector}

    def _take_categories(self, validate_args: bool | None, probs: Any, logits: Any) -> None:
        _one_of(probs, logits)
        name, given = ("probs", probs) if logits is None else ("logits", logits)
        t = operand(given)
        if t.ndim < 1:
            raise ValueError(f"`{name}` parameter must be at least one-dimensional.")
        if not t.dtype.is_floating_point:
            t = t.to(tg.get_default_dtype())
        t = t / t.sum(-1, keepdim=True) if logits is None else tg.log_softmax(t, -1)
        self._num_events = int(t.shape[-1])
        self._take(validate_args, **{name: t})

    @lazy_property
    def logits(self) -> Tensor:
        """Their logarithms."""
        return tg.log(self.probs)

    @lazy_property
    def probs(self) -> Tensor:
        """The probabilities, of sum 1."""
        return tg.exp(self.logits)

    @property
    def _param(self) -> Tensor:
        return self.__dict__["probs" if "probs" in self._unbroadcast else "logits"]

    @property
    def param_shape(self) -> Any:
        """The shape of the parameter."""
        return self._param.shape

    def _indices(self, sample_shape: Any) -> np.ndarray:
        """Categories, each drawn as the first of K exponential variates of rates p."""
        p = self.probs._array().astype(np.float64)
        if not (np.isfinite(p) & (p >= 0)).all():
            raise RuntimeError("probability tensor contains either `inf`, `nan` or element < 0")
        shape = (*sample_shape, *self.batch_shape, self._num_events)
        with np.errstate(divide="ignore"):
            return np.argmin(creation.random().standard_exponential(shape) / p, -1)

    def entropy(self) -> Tensor:
        return -times(self.probs, self.logits).sum(-1)

    def _log_of(self, index: Tensor) -> Tensor:
        """The logarithm of the probability of categories."""
        index = index.to(tg.int64)
        shape = tg.broadcast_shapes(tuple(index.shape), tuple(self.batch_shape))
        logits = expanded(self.logits, (*shape, self._num_events))
        return tg.gather(logits, -1, expanded(index, shape).unsqueeze(-1)).squeeze(-1)


class Categorical(_Categories):
    """One of K categories, 0 to K - 1, by their probabilities.

    Parameters
    ----------
    probs : Tensor or array
        Probabilities of shape [..., K], up to a factor: they are normalised.
    logits : Tensor or array
        Their logarithms, in the place of `probs`.

    >>> import tapegrad as tg
    >>> tg.distributions.Categorical(tg.tensor([1.0, 3.0])).log_prob(tg.tensor(1))
    tensor(-0.2877)
    """

    has_enumerate_support = True
    _keeps_integers = True

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        self._take_categories(validate_args, probs, logits)

    @dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:
        """0 to K - 1."""
        return constraints.integer_interval(0, self._num_events - 1)

    mean = property(lambda self: tg.full(tuple(self.batch_shape), math.nan, dtype=self._param.dtype))
    variance = property(lambda self: self.mean)
    mode = property(lambda self: tg.argmax(self._param, -1))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return from_array(np.asarray(self._indices(tuple(sample_shape))))

    def _log_prob(self, value: Tensor) -> Tensor:
        return self._log_of(value)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        return self._enumerated(tg.arange(self._num_events), expand)


class OneHotCategorical(_Categories):
    """One of K categories, as a vector with a 1 at its place.

    >>> import tapegrad as tg
    >>> tg.distributions.OneHotCategorical(tg.tensor([1.0, 3.0])).log_prob(tg.tensor([0.0, 1.0]))
    tensor(-0.2877)
    """

    support: Any = constraints.one_hot
    has_enumerate_support = True

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        self._take_categories(validate_args, probs, logits)

    def _event_of_parameters(self) -> Any:
        return (self._num_events,)

    @property
    def _categorical(self) -> Categorical:
        return Categorical(**{name: getattr(self, name) for name in self._unbroadcast}, validate_args=False)

    mean = property(lambda self: self.probs)
    variance = property(lambda self: self.probs * (1.0 - self.probs))

    def _hot(self, index: Tensor) -> Tensor:
        return (index.unsqueeze(-1) == tg.arange(self._num_events)).to(self._param.dtype)

    mode = property(lambda self: self._hot(tg.argmax(self._param, -1)))

    def _hot_sample(self, sample_shape: Any) -> Tensor:
        return self._hot(from_array(np.asarray(self._indices(tuple(sample_shape)))))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return self._hot_sample(sample_shape)

    def _log_prob(self, value: Tensor) -> Tensor:
        return self._log_of(tg.argmax(value.detach(), -1))

    def enumerate_support(self, expand: bool = True) -> Tensor:
        n = self._num_events
        values = tg.eye(n, dtype=self._param.dtype).reshape((n, *(1,) * len(self.batch_shape), n))
        return expanded(values, (n, *self.batch_shape, n)) if expand else values


class OneHotCategoricalStraightThrough(OneHotCategorical):
    """OneHotCategorical, whose samples have the gradient of the probabilities (Bengio et al. 2013).

    >>> import tapegrad as tg
    >>> logits = tg.zeros(3, requires_grad=True)
    >>> tg.distributions.OneHotCategoricalStraightThrough(logits=logits).rsample().requires_grad
    True
    """

    has_rsample = True

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self._hot_sample(sample_shape) + (self.probs - self.probs.detach())

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return self._hot_sample(sample_shape)


class Multinomial(_Categories):
    """How often each of K categories comes in n = `total_count` trials: P(k) = n! prod_i p_i^k_i / k_i!.

    `log_prob` takes n of the counts themselves.

    >>> import tapegrad as tg
    >>> tg.distributions.Multinomial(2, tg.ones(2)).log_prob(tg.tensor([1.0, 1.0]))
    tensor(-0.6931)
    """

    def __init__(
        self, total_count: int = 1, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        if not isinstance(total_count, (int, np.integer)):
            raise NotImplementedError("inhomogeneous total_count is not supported")
        self.total_count = int(total_count)
        self._take_categories(validate_args, probs, logits)
        self._arguments = {"total_count": self.total_count, **self._arguments}

    def _event_of_parameters(self) -> Any:
        return (self._num_events,)

    @dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> Any:
        """Counts of sum n."""
        return constraints.multinomial(self.total_count)

    mean = property(lambda self: self.probs * self.total_count)
    variance = property(lambda self: self.total_count * self.probs * (1.0 - self.probs))

    def _draw(self, shape: tuple[int, ...]) -> Any:
        p = numbers(self.probs, shape)
        return creation.random().multinomial(self.total_count, p / p.sum(-1, keepdims=True))

    def _log_prob(self, value: Tensor) -> Tensor:
        ways = tg.lgamma(value.sum(-1) + 1.0) - tg.lgamma(value + 1.0).sum(-1)
        return ways + times(value, self.logits).sum(-1)

    def entropy(self) -> Tensor:
        n = self.total_count
        counts = tg.arange(1, n + 1).to(self._param.dtype).reshape((-1,) + (1,) * (len(self.batch_shape) + 1))
        marginal = Binomial(n, probs=self.probs, validate_args=False)
        each = (tg.exp(marginal._log_prob(counts)) * tg.lgamma(counts + 1.0)).sum((0, -1))
        return n * super().entropy() - math.lgamma(n + 1.0) + each


# --- relaxed ones -----------------------------------------------------------------------------------------------------


class ContinuousBernoulli(_Odds, ExponentialFamily):
    """The continuous Bernoulli distribution: p(x) proportional to p^x (1 - p)^(1 - x), of 0 <= x <= 1.

    With the logits l: p(x) = exp(l x) l / (exp(l) - 1). `lims` is accepted, and has no effect: the formulas hold near
    l = 0 too.

    >>> import tapegrad as tg
    >>> tg.distributions.ContinuousBernoulli(logits=1.0).log_prob(0.5)
    tensor(-0.0413)
    """

    support: Any = constraints.unit_interval
    has_rsample = True

    def __init__(
        self, probs: Any = None, logits: Any = None, lims: tuple[float, float] = (0.499, 0.501),
        validate_args: bool | None = None,
    ) -> None:  # fmt: skip
        self._take_odds(validate_args, probs, logits)
        if "probs" in self._unbroadcast:  # of 0 and 1 there is no density
            self.probs = tg.clamp(self.probs, eps(self.probs), 1.0 - eps(self.probs))
        self._lims = lims
        self._arguments["lims"] = lims

    def _log_normalizer(self) -> Tensor:
        """Log of the integral of exp(l x)."""
        return 0.5 * self.logits + log_sinhc(0.5 * self.logits)

    @property
    def mean(self) -> Tensor:
        return 0.5 + 0.5 * langevin(0.5 * self.logits)

    @property
    def variance(self) -> Tensor:
        return 0.25 * langevin_slope(0.5 * self.logits)

    def _log_prob(self, value: Tensor) -> Tensor:
        half = 0.5 * self.logits
        return (2.0 * value - 1.0) * half - log_sinhc(half)

    def _fraction(self, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """|l|, safely apart from 0, whether it is near 0, and x seen from the side where the density is greater."""
        size = tg.abs(self.logits)
        near = size < 1e-4
        return tg.where(near, 1.0, size), near, tg.where(self.logits < 0.0, 1.0 - value, value)

    def _cdf(self, value: Tensor) -> Tensor:
        x = tg.clamp(value, 0.0, 1.0)
        size, near, side = self._fraction(x)
        risen = tg.exp(size * (side - 1.0)) * tg.expm1(-size * side) / tg.expm1(-size)
        far = tg.where(self.logits < 0.0, 1.0 - risen, risen)
        odds, y = self.logits, x * (1.0 - x)
        series = x - 0.5 * odds * y * (1.0 + odds * (1.0 - 2.0 * x) / 6.0 - odds * odds * y / 12.0)
        return tg.where(near, series, far)

    def _icdf(self, value: Tensor) -> Tensor:
        size, near, side = self._fraction(value)
        # log(1 + u (exp(l) - 1)) / l, without its overflow
        risen = 1.0 + tg.log(side - (side - 1.0) * tg.exp(-size)) / size
        far = tg.where(self.logits < 0.0, 1.0 - risen, risen)
        odds, y = self.logits, value * (1.0 - value)
        series = value + 0.5 * odds * y * (1.0 + odds * (1.0 - 2.0 * value) / 3.0)
        return tg.where(near, series, far)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self._icdf(uniform(self._extended_shape(sample_shape), self._param))

    def entropy(self) -> Tensor:
        return self._log_normalizer() - self.mean * self.logits


def _temperature(value: Any) -> Any:
    return float(value) if isinstance(value, NUMBERS) else operand(value)


def _log(value: Any) -> Any:
    return math.log(value) if isinstance(value, float) else tg.log(value)


class LogitRelaxedBernoulli(_Odds):
    """The log-odds of `RelaxedBernoulli`: (logits + logistic noise) / temperature.

    >>> import tapegrad as tg
    >>> D = tg.distributions
    >>> D.relaxed_bernoulli.LogitRelaxedBernoulli(1.0, logits=0.0).log_prob(0.0)
    tensor(-1.3863)
    """

    support: Any = constraints.real
    has_rsample = True

    def __init__(
        self, temperature: Any, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        self.temperature = _temperature(temperature)
        self._take_odds(validate_args, probs, logits)
        self._arguments = {"temperature": self.temperature, **self._arguments}

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        u = uniform(self._extended_shape(sample_shape), self._param)
        return (tg.log(u) - tg.log1p(-u) + self.logits) / self.temperature

    def _log_prob(self, value: Tensor) -> Tensor:
        away = self.logits - value * self.temperature
        return _log(self.temperature) + away - 2.0 * softplus(away)


class RelaxedBernoulli(TransformedDistribution):
    """Bernoulli's distribution made continuous, on (0, 1): sigmoid((logits + logistic noise) / temperature).

    >>> import tapegrad as tg
    >>> tg.distributions.RelaxedBernoulli(1.0, probs=0.5).log_prob(0.5)
    tensor(0.)
    """

    arg_constraints: Any = _Odds.arg_constraints
    support: Any = constraints.unit_interval
    has_rsample = True

    def __init__(
        self, temperature: Any, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        base = LogitRelaxedBernoulli(temperature, probs, logits, validate_args)
        self._over(base, [SigmoidTransform()])
        self._arguments = base._arguments
        Distribution.__init__(self, base.batch_shape, (), validate_args=validate_args)

    temperature = property(lambda self: self.base_dist.temperature)
    logits = property(lambda self: self.base_dist.logits)
    probs = property(lambda self: self.base_dist.probs)


class ExpRelaxedCategorical(_Categories):
    """The logarithms of `RelaxedOneHotCategorical`: log_softmax((logits + Gumbel noise) / temperature).

    >>> import tapegrad as tg
    >>> d = tg.distributions.relaxed_categorical.ExpRelaxedCategorical(1.0, tg.ones(2))
    >>> d.log_prob(tg.log(tg.tensor([0.5, 0.5])))
    tensor(-1.3863)
    """

    support: Any = constraints.real_vector
    has_rsample = True

    def __init__(
        self, temperature: Any, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        self.temperature = _temperature(temperature)
        self._take_categories(validate_args, probs, logits)
        self._arguments = {"temperature": self.temperature, **self._arguments}

    def _event_of_parameters(self) -> Any:
        return (self._num_events,)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        gumbel = -tg.log(exponential(self._extended_shape(sample_shape), self._param))
        return tg.log_softmax((self.logits + gumbel) / self.temperature, -1)

    def _log_prob(self, value: Tensor) -> Tensor:
        k = self._num_events
        scores = tg.log_softmax(self.logits - value * self.temperature, -1).sum(-1)
        return scores + math.lgamma(k) + (k - 1) * _log(self.temperature)


class RelaxedOneHotCategorical(TransformedDistribution):
    """OneHotCategorical made continuous, on vectors of sum 1: softmax((logits + Gumbel noise) / temperature).

    >>> import tapegrad as tg
    >>> d = tg.distributions.RelaxedOneHotCategorical(1.0, tg.ones(2))
    >>> d.log_prob(tg.tensor([0.5, 0.5]))
    tensor(0.)
    """

    arg_constraints: Any = _Categories.arg_constraints
    support: Any = constraints.simplex
    has_rsample = True

    def __init__(
        self, temperature: Any, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        base = ExpRelaxedCategorical(temperature, probs, logits, validate_args)
        self._over(base, [ExpTransform()])
        self._arguments = base._arguments
        Distribution.__init__(self, base.batch_shape, base.event_shape, validate_args=validate_args)

    temperature = property(lambda self: self.base_dist.temperature)
    logits = property(lambda self: self.base_dist.logits)
    probs = property(lambda self: self.base_dist.probs)


class Dirichlet(ExponentialFamily):
    """Dirichlet's distribution, of K numbers of sum 1: p(x) = G(sum_i a_i) prod_i x_i^(a_i - 1) / G(a_i).

    Samples are gamma variates over their sum, whose derivatives are implicit.

    Parameters
    ----------
    concentration : Tensor or array
        a, of shape [..., K].

    >>> import tapegrad as tg
    >>> tg.distributions.Dirichlet(tg.ones(3)).log_prob(tg.full((3,), 1 / 3))
    tensor(0.6931)
    """

    arg_constraints: Any = {"concentration": constraints.independent(constraints.positive, 1)}
    support: Any = constraints.simplex
    has_rsample = True
    concentration: Tensor

    def __init__(self, concentration: Any, validate_args: bool | None = None) -> None:
        self._take(validate_args, concentration=concentration)

    def _event_of_parameters(self) -> Any:
        return self.concentration.shape[-1:]

    @property
    def mean(self) -> Tensor:
        return self.concentration / self.concentration.sum(-1, keepdim=True)

    @property
    def mode(self) -> Tensor:
        a = self.concentration
        above = tg.clamp(a - 1.0, 0.0)
        found = above / above.sum(-1, keepdim=True)
        hot = (tg.argmax(a, -1).unsqueeze(-1) == tg.arange(a.shape[-1])).to(a.dtype)
        return tg.where((a < 1.0).all(-1, keepdim=True), hot, found)

    @property
    def variance(self) -> Tensor:
        total = self.concentration.sum(-1, keepdim=True)
        return self.concentration * (total - self.concentration) / (total * total * (total + 1.0))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        x = tg.softmax(log_standard_gamma(self.concentration, self._extended_shape(sample_shape)), -1)
        return tg.clamp(x, tiny(x))

    def _log_normalizer(self) -> Tensor:
        return tg.lgamma(self.concentration).sum(-1) - tg.lgamma(self.concentration.sum(-1))

    def _log_prob(self, value: Tensor) -> Tensor:
        return times(self.concentration - 1.0, tg.log(value)).sum(-1) - self._log_normalizer()

    def entropy(self) -> Tensor:
        a, total = self.concentration, self.concentration.sum(-1)
        bent = ((a - 1.0) * tg.digamma(a)).sum(-1)
        return self._log_normalizer() - (a.shape[-1] - total) * tg.digamma(total) - bent


__all__ = [
    "Bernoulli", "Binomial", "Categorical", "ContinuousBernoulli", "Dirichlet", "ExpRelaxedCategorical", "Geometric",
    "LogitRelaxedBernoulli", "Multinomial", "NegativeBinomial", "OneHotCategorical",
    "OneHotCategoricalStraightThrough", "Poisson", "RelaxedBernoulli", "RelaxedOneHotCategorical",
]  # fmt: skip
