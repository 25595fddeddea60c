"""Distributions of one real number."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tapegrad import creation, special
from tapegrad.distributions import constraints
from tapegrad.distributions import operations as tg
from tapegrad.distributions.constraints import dependent_property
from tapegrad.distributions.distribution import (
    HALF_LOG_2PI,
    Distribution,
    ExponentialFamily,
    eps,
    exponential,
    normal,
    numbers,
    tiny,
    unit,
)
from tapegrad.distributions.special import bessel_ratio, lbeta, log_i0e, log_of_one_and_square, times
from tapegrad.distributions.variates import log_standard_gamma
from tapegrad.tensor import Tensor, from_array

real, positive, nonnegative = constraints.real, constraints.positive, constraints.nonnegative
_ROOT_HALF = math.sqrt(0.5)


class _LocScale(Distribution):
    """Of x = loc + scale z, where z has a distribution of its own."""

    arg_constraints: Any = {"loc": real, "scale": positive}
    support: Any = real
    has_rsample = True
    loc: Tensor
    scale: Tensor

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        self._take(validate_args, loc=loc, scale=scale)

    mean = property(lambda self: self.loc)
    mode = property(lambda self: self.loc)

    def _z(self, value: Tensor) -> Tensor:
        return (value - self.loc) / self.scale

    def _noise(self, shape: Any) -> Tensor:
        raise NotImplementedError

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.loc + self.scale * self._noise(self._extended_shape(sample_shape))


class Normal(_LocScale, ExponentialFamily):
    """The normal distribution: p(x) = exp(-((x - loc) / scale)^2 / 2) / (scale sqrt(2 pi)).

    Parameters
    ----------
    loc : Tensor, array or number
        Its mean.
    scale : Tensor, array or number
        Its standard deviation, which is positive.
    validate_args : bool, optional
        Whether parameters and values are checked.

    >>> import tapegrad as tg
    >>> d = tg.distributions.Normal(0.0, 2.0)
    >>> d.log_prob(1.0), d.cdf(0.0), d.entropy()
    (tensor(-1.7371), tensor(0.5000), tensor(2.1121))
    """

    stddev = property(lambda self: self.scale)
    variance = property(lambda self: self.scale * self.scale)

    def _noise(self, shape: Any) -> Tensor:
        return normal(shape, self.loc)

    def _log_prob(self, value: Tensor) -> Tensor:
        z = self._z(value)
        return -0.5 * z * z - tg.log(self.scale) - HALF_LOG_2PI

    def _cdf(self, value: Tensor) -> Tensor:
        return 0.5 * tg.erfc(-_ROOT_HALF * self._z(value))

    def _icdf(self, value: Tensor) -> Tensor:
        return self.loc + self.scale * special.ndtri(value)

    def entropy(self) -> Tensor:
        return 0.5 + HALF_LOG_2PI + tg.log(self.scale)


class Cauchy(_LocScale):
    """The Cauchy distribution: p(x) = 1 / (pi scale (1 + ((x - loc) / scale)^2)).

    >>> import tapegrad as tg
    >>> tg.distributions.Cauchy(0.0, 1.0).log_prob(1.0)
    tensor(-1.8379)
    """

    mean = property(lambda self: tg.full_like(self.loc, math.nan))
    variance = property(lambda self: tg.full_like(self.loc, math.inf))

    def _noise(self, shape: Any) -> Tensor:
        drawn = creation.random().standard_cauchy(tuple(shape))
        return from_array(np.asarray(drawn, self.loc.dtype.numpy))

    def _log_prob(self, value: Tensor) -> Tensor:
        return -math.log(math.pi) - tg.log(self.scale) - log_of_one_and_square(self._z(value))

    def _cdf(self, value: Tensor) -> Tensor:
        return tg.atan2(tg.ones_like(self.loc), -self._z(value)) / math.pi

    def _icdf(self, value: Tensor) -> Tensor:
        low = value < 0.25
        near = -1.0 / tg.tan(math.pi * tg.where(low, value, 0.25))
        return self.loc + self.scale * tg.where(low, near, tg.tan(math.pi * (value - 0.5)))

    def entropy(self) -> Tensor:
        return math.log(4.0 * math.pi) + tg.log(self.scale)


class Laplace(_LocScale):
    """Laplace's distribution: p(x) = exp(-|x - loc| / scale) / (2 scale).

    >>> import tapegrad as tg
    >>> tg.distributions.Laplace(0.0, 1.0).log_prob(-1.0)
    tensor(-1.6931)
    """

    variance = property(lambda self: 2.0 * self.scale * self.scale)
    stddev = property(lambda self: math.sqrt(2.0) * self.scale)

    def _noise(self, shape: Any) -> Tensor:
        return exponential(shape, self.loc) - exponential(shape, self.loc)

    def _log_prob(self, value: Tensor) -> Tensor:
        return -tg.log(2.0 * self.scale) - tg.abs(self._z(value))

    def _cdf(self, value: Tensor) -> Tensor:
        z = self._z(value)
        tail = 0.5 * tg.exp(-tg.abs(z))
        return tg.where(z < 0.0, tail, 1.0 - tail)

    def _icdf(self, value: Tensor) -> Tensor:
        low = value < 0.5
        tail = tg.where(low, value, 1.0 - value)
        z = tg.log(2.0 * tail)
        return self.loc + self.scale * tg.where(low, z, -z)

    def entropy(self) -> Tensor:
        return 1.0 + tg.log(2.0 * self.scale)


class StudentT(Distribution):
    """Student's distribution: p(x) = (1 + z^2 / df)^(-(df + 1) / 2) / (scale sqrt(df) B(1/2, df / 2)).

    z is (x - loc) / scale.

    >>> import tapegrad as tg
    >>> tg.distributions.StudentT(3.0).log_prob(1.0)
    tensor(-1.5763)
    """

    arg_constraints: Any = {"df": positive, "loc": real, "scale": positive}
    support: Any = real
    has_rsample = True
    df: Tensor
    loc: Tensor
    scale: Tensor

    def __init__(self, df: Any, loc: Any = 0.0, scale: Any = 1.0, validate_args: bool | None = None) -> None:
        self._take(validate_args, df=df, loc=loc, scale=scale)

    @property
    def mean(self) -> Tensor:
        return tg.where(self.df <= 1.0, math.nan, self.loc)

    mode = property(lambda self: self.loc)

    @property
    def variance(self) -> Tensor:
        finite = self.scale * self.scale * self.df / (self.df - 2.0)
        return tg.where(self.df > 2.0, finite, tg.where(self.df > 1.0, math.inf, math.nan))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        half = 0.5 * self.df
        z = normal(shape, self.df) * tg.exp(0.5 * (tg.log(half) - log_standard_gamma(half, shape)))
        return self.loc + self.scale * z

    def _log_prob(self, value: Tensor) -> Tensor:
        root = tg.sqrt(self.df)
        bent = log_of_one_and_square((value - self.loc) / (self.scale * root))
        half = tg.full_like(self.df, 0.5)
        return -0.5 * (self.df + 1.0) * bent - tg.log(self.scale) - tg.log(root) - lbeta(half, 0.5 * self.df)

    def entropy(self) -> Tensor:
        half = 0.5 * self.df
        bent = (half + 0.5) * (tg.digamma(half + 0.5) - tg.digamma(half))
        return tg.log(self.scale) + bent + 0.5 * tg.log(self.df) + lbeta(tg.full_like(half, 0.5), half)


class Uniform(Distribution):
    """The uniform distribution: p(x) = 1 / (high - low) from `low` to before `high`.

    >>> import tapegrad as tg
    >>> tg.distributions.Uniform(0.0, 4.0).log_prob(1.0)
    tensor(-1.3863)
    """

    has_rsample = True
    low: Tensor
    high: Tensor

    def __init__(self, low: Any, high: Any, validate_args: bool | None = None) -> None:
        self._take(validate_args, low=low, high=high)

    def _event_dims(self) -> dict[str, int]:
        return {"low": 0, "high": 0}

    @property
    def arg_constraints(self) -> dict[str, Any]:
        """Each bounds the other."""
        return {"low": constraints.less_than(self.high), "high": constraints.greater_than(self.low)}

    @dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:
        """From `low` to `high`."""
        return constraints.interval(self.low, self.high)

    mean = property(lambda self: (self.high + self.low) / 2.0)
    mode = property(lambda self: tg.full_like(self.high, math.nan))
    stddev = property(lambda self: (self.high - self.low) / math.sqrt(12.0))
    variance = property(lambda self: (self.high - self.low) ** 2 / 12.0)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        u = unit(self._extended_shape(sample_shape), self.low)
        return self.low + u * (self.high - self.low)

    def _log_prob(self, value: Tensor) -> Tensor:
        outside = (value < self.low) | (value >= self.high)
        return tg.where(outside, -math.inf, -tg.log(self.high - self.low))

    def _cdf(self, value: Tensor) -> Tensor:
        return tg.clamp((value - self.low) / (self.high - self.low), 0.0, 1.0)

    def _icdf(self, value: Tensor) -> Tensor:
        return value * (self.high - self.low) + self.low

    def entropy(self) -> Tensor:
        return tg.log(self.high - self.low)


class Exponential(ExponentialFamily):
    """The exponential distribution: p(x) = rate exp(-rate x), of x >= 0.

    >>> import tapegrad as tg
    >>> tg.distributions.Exponential(2.0).log_prob(1.0)
    tensor(-1.3069)
    """

    arg_constraints: Any = {"rate": positive}
    support: Any = nonnegative
    has_rsample = True
    rate: Tensor

    def __init__(self, rate: Any, validate_args: bool | None = None) -> None:
        self._take(validate_args, rate=rate)

    mean = property(lambda self: 1.0 / self.rate)
    mode = property(lambda self: tg.zeros_like(self.rate))
    stddev = property(lambda self: 1.0 / self.rate)
    variance = property(lambda self: self.rate**-2)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return exponential(self._extended_shape(sample_shape), self.rate) / self.rate

    def _log_prob(self, value: Tensor) -> Tensor:
        return tg.log(self.rate) - self.rate * value

    def _cdf(self, value: Tensor) -> Tensor:
        return -tg.expm1(-self.rate * tg.clamp(value, 0.0))

    def _icdf(self, value: Tensor) -> Tensor:
        return -tg.log1p(-value) / self.rate

    def entropy(self) -> Tensor:
        return 1.0 - tg.log(self.rate)


class Gamma(ExponentialFamily):
    """The gamma distribution: p(x) = rate^a x^(a - 1) exp(-rate x) / G(a), where a is the concentration; of x >= 0.

    Samples have implicit derivatives by the concentration, of first order (`gamma.py`).

    >>> import tapegrad as tg
    >>> tg.distributions.Gamma(2.0, 1.0).log_prob(1.0)
    tensor(-1.)
    """

    arg_constraints: Any = {"concentration": positive, "rate": positive}
    support: Any = nonnegative
    has_rsample = True
    concentration: Tensor
    rate: Tensor

    def __init__(self, concentration: Any, rate: Any, validate_args: bool | None = None) -> None:
        self._take(validate_args, concentration=concentration, rate=rate)

    mean = property(lambda self: self.concentration / self.rate)
    mode = property(lambda self: tg.clamp((self.concentration - 1.0) / self.rate, 0.0))
    variance = property(lambda self: self.concentration / (self.rate * self.rate))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        log_x = log_standard_gamma(self.concentration, self._extended_shape(sample_shape))
        x = tg.exp(log_x) / self.rate
        return tg.clamp(x, tiny(x))

    def _log_prob(self, value: Tensor) -> Tensor:
        a = self.concentration
        return a * tg.log(self.rate) + times(a - 1.0, tg.log(value)) - self.rate * value - tg.lgamma(a)

    def _cdf(self, value: Tensor) -> Tensor:
        a, x = tg.broadcast_tensors(self.concentration, self.rate * tg.clamp(value, 0.0))
        return tg.igamma(a, x)

    def entropy(self) -> Tensor:
        a = self.concentration
        return a - tg.log(self.rate) + tg.lgamma(a) + (1.0 - a) * tg.digamma(a)


class Chi2(Gamma):
    """The chi-squared distribution of `df` degrees of freedom: Gamma(df / 2, 1/2).

    >>> import tapegrad as tg
    >>> tg.distributions.Chi2(2.0).log_prob(2.0)
    tensor(-1.6931)
    """

    arg_constraints: Any = {"df": positive}

    def __init__(self, df: Any, validate_args: bool | None = None) -> None:
        self._take(validate_args, df=df)
        self.concentration, self.rate = 0.5 * self.df, tg.full_like(self.df, 0.5)

    df: Tensor


class Beta(ExponentialFamily):
    """The beta distribution: p(x) = x^(a - 1) (1 - x)^(b - 1) / B(a, b), of 0 <= x <= 1.

    a is `concentration1`, b `concentration0`. Samples are ratios of gamma variates, whose derivatives are implicit.

    >>> import tapegrad as tg
    >>> tg.distributions.Beta(2.0, 2.0).log_prob(0.5)
    tensor(0.4055)
    """

    arg_constraints: Any = {"concentration1": positive, "concentration0": positive}
    support: Any = constraints.unit_interval
    has_rsample = True
    concentration1: Tensor
    concentration0: Tensor

    def __init__(self, concentration1: Any, concentration0: Any, validate_args: bool | None = None) -> None:
        self._take(validate_args, concentration1=concentration1, concentration0=concentration0)

    def _total(self) -> Tensor:
        return self.concentration1 + self.concentration0

    mean = property(lambda self: self.concentration1 / self._total())

    @property
    def mode(self) -> Tensor:
        a, b = self.concentration1, self.concentration0
        inside = (a - 1.0) / (a + b - 2.0)
        corner = tg.where(a < b, 0.0, 1.0)
        rising = tg.where((a < 1.0) | (b < 1.0), corner, inside)
        return tg.where((a == 1.0) & (b == 1.0), math.nan, rising)

    @property
    def variance(self) -> Tensor:
        total = self._total()
        return self.concentration1 * self.concentration0 / (total * total * (total + 1.0))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        x = tg.sigmoid(log_standard_gamma(self.concentration1, shape) - log_standard_gamma(self.concentration0, shape))
        return tg.clamp(x, tiny(x), 1.0 - eps(x))

    def _log_prob(self, value: Tensor) -> Tensor:
        a, b = self.concentration1, self.concentration0
        return times(a - 1.0, tg.log(value)) + times(b - 1.0, tg.log1p(-value)) - lbeta(a, b)

    def _cdf(self, value: Tensor) -> Tensor:
        return special.betainc(self.concentration1, self.concentration0, tg.clamp(value, 0.0, 1.0))

    def entropy(self) -> Tensor:
        a, b, total = self.concentration1, self.concentration0, self._total()
        psi = tg.digamma(total) * (total - 2.0) - (a - 1.0) * tg.digamma(a) - (b - 1.0) * tg.digamma(b)
        return lbeta(a, b) + psi


class FisherSnedecor(Distribution):
    """The F distribution, of the ratio of two chi-squared variates over their degrees of freedom; of x > 0.

    p(x) = r^(a) x^(a - 1) (1 + r x)^(-a - b) / B(a, b), with a = df1 / 2, b = df2 / 2, r = df1 / df2.

    >>> import tapegrad as tg
    >>> tg.distributions.FisherSnedecor(2.0, 2.0).log_prob(1.0)
    tensor(-1.3863)
    """

    arg_constraints: Any = {"df1": positive, "df2": positive}
    support: Any = positive
    has_rsample = True
    df1: Tensor
    df2: Tensor

    def __init__(self, df1: Any, df2: Any, validate_args: bool | None = None) -> None:
        self._take(validate_args, df1=df1, df2=df2)

    @property
    def mean(self) -> Tensor:
        return tg.where(self.df2 > 2.0, self.df2 / (self.df2 - 2.0), math.nan)

    @property
    def mode(self) -> Tensor:
        found = (self.df1 - 2.0) / self.df1 * self.df2 / (self.df2 + 2.0)
        return tg.where(self.df1 > 2.0, found, math.nan)

    @property
    def variance(self) -> Tensor:
        n, m = self.df1, self.df2
        found = 2.0 * (m / (m - 2.0)) ** 2 * (n + m - 2.0) / (n * (m - 4.0))
        return tg.where(m > 4.0, found, math.nan)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        a, b = 0.5 * self.df1, 0.5 * self.df2
        x = tg.exp(log_standard_gamma(a, shape) - log_standard_gamma(b, shape) + tg.log(self.df2 / self.df1))
        return tg.clamp(x, tiny(x))

    def _log_prob(self, value: Tensor) -> Tensor:
        a, b, ratio = 0.5 * self.df1, 0.5 * self.df2, self.df1 / self.df2
        return a * tg.log(ratio) + (a - 1.0) * tg.log(value) - (a + b) * tg.log1p(ratio * value) - lbeta(a, b)

    def _cdf(self, value: Tensor) -> Tensor:
        odds = self.df1 / self.df2 * tg.clamp(value, 0.0)
        return special.betainc(0.5 * self.df1, 0.5 * self.df2, odds / (1.0 + odds))


class GeneralizedPareto(Distribution):
    """The generalised Pareto distribution: p(x) = (1 + k z)^(-1 / k - 1) / scale, z = (x - loc) / scale, of z >= 0.

    k is the concentration; where it is 0 the distribution is exponential, where negative x ends at loc - scale / k.

    >>> import tapegrad as tg
    >>> tg.distributions.GeneralizedPareto(0.0, 1.0, 0.5).log_prob(2.0)
    tensor(-2.0794)
    """

    arg_constraints: Any = {"loc": real, "scale": positive, "concentration": real}
    has_rsample = True
    loc: Tensor
    scale: Tensor
    concentration: Tensor

    def __init__(self, loc: Any, scale: Any, concentration: Any, validate_args: bool | None = None) -> None:
        self._take(validate_args, loc=loc, scale=scale, concentration=concentration)

    @dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:
        """From `loc` on, to where the density ends."""
        k = self.concentration
        return constraints.interval(self.loc, tg.where(k < 0.0, self.loc - self.scale / k, math.inf))

    def _log_kept(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """log(1 + k z) and log(1 + k z) / k, whose limit at k = 0 is z; its first terms stand for it nearby."""
        z, k = (value - self.loc) / self.scale, self.concentration
        small = tg.abs(k * z) < 1e-5
        kz = tg.where(small, 0.5, k * z)
        log = tg.log1p(kz)
        series = z * (1.0 - k * z * (0.5 - k * z * (1.0 / 3.0 - k * z * 0.25)))
        log_kept = tg.where(small, k * series, log)
        return log_kept, tg.where(small, series, log / tg.where(small, 1.0, k))

    def log_survival_function(self, value: Any) -> Tensor:
        """log(1 - cdf)."""
        return -self._log_kept(self._value(value))[1]

    def log_cdf(self, value: Any) -> Tensor:
        """The logarithm of the cdf."""
        return tg.log(-tg.expm1(self.log_survival_function(value)))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self._at(exponential(self._extended_shape(sample_shape), self.loc))

    def _at(self, e: Tensor) -> Tensor:
        """Where -log(1 - cdf) is e: loc + scale (exp(k e) - 1) / k."""
        k = self.concentration
        small = tg.abs(k * e) < 1e-5
        series = e * (1.0 + k * e * (0.5 + k * e * (1.0 / 6.0 + k * e / 24.0)))
        grown = tg.expm1(tg.where(small, 0.5, k * e)) / tg.where(small, 1.0, k)
        return self.loc + self.scale * tg.where(small, series, grown)

    def _log_prob(self, value: Tensor) -> Tensor:
        log_kept, over = self._log_kept(value)
        return -tg.log(self.scale) - over - log_kept

    def _cdf(self, value: Tensor) -> Tensor:
        return -tg.expm1(-self._log_kept(value)[1])

    def _icdf(self, value: Tensor) -> Tensor:
        return self._at(-tg.log1p(-value))

    @property
    def mean(self) -> Tensor:
        k = self.concentration
        return tg.where(k < 1.0, self.loc + self.scale / (1.0 - k), math.nan)

    mode = property(lambda self: self.loc)

    @property
    def variance(self) -> Tensor:
        k = self.concentration
        return tg.where(k < 0.5, (self.scale / (1.0 - k)) ** 2 / (1.0 - 2.0 * k), math.nan)

    def entropy(self) -> Tensor:
        return tg.log(self.scale) + self.concentration + 1.0


class VonMises(Distribution):
    """The von Mises distribution, of angles: p(x) = exp(k cos(x - loc)) / (2 pi I0(k)), where k is the concentration.

    >>> import tapegrad as tg
    >>> tg.distributions.VonMises(0.0, 1.0).log_prob(0.0)
    tensor(-1.0738)
    """

    arg_constraints: Any = {"loc": real, "concentration": positive}
    support: Any = real
    loc: Tensor
    concentration: Tensor

    def __init__(self, loc: Any, concentration: Any, validate_args: bool | None = None) -> None:
        self._take(validate_args, loc=loc, concentration=concentration)

    mean = property(lambda self: self.loc)
    mode = property(lambda self: self.loc)
    variance = property(lambda self: 1.0 - bessel_ratio(self.concentration))

    def _draw(self, shape: tuple[int, ...]) -> Any:
        return creation.random().vonmises(numbers(self.loc, shape), numbers(self.concentration, shape))

    def _log_prob(self, value: Tensor) -> Tensor:
        half = tg.sin(0.5 * (value - self.loc))  # cos - 1 = -2 sin^2 of the half: nothing cancels log I0's k
        k = self.concentration
        return -2.0 * k * half * half - math.log(2.0 * math.pi) - log_i0e(k)


__all__ = [
    "Beta",
    "Cauchy",
    "Chi2",
    "Exponential",
    "FisherSnedecor",
    "Gamma",
    "GeneralizedPareto",
    "Laplace",
    "Normal",
    "StudentT",
    "Uniform",
    "VonMises",
]
