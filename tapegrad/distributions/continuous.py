"""Distributions of one real number."""

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
    EULER,
    HALF_LOG_2PI,
    Distribution,
    ExponentialFamily,
    eps,
    expanded,
    exponential,
    normal,
    numbers,
    tiny,
    unit,
)
from tapegrad.distributions.gamma import log_standard_gamma, regularised
from tapegrad.distributions.special import bessel_ratio, erfinv, lbeta, log_i0e, log_of_one_and_square, ndtri, times
from tapegrad.distributions.transforms import (
    AbsTransform,
    AffineTransform,
    ExpTransform,
    PowerTransform,
    StickBreakingTransform,
)
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
    loc, scale : Tensor, array or number
        Its mean; its standard deviation, which is positive.
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
        return self.loc + self.scale * ndtri(value)

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
        drawn = creation._random().standard_cauchy(tuple(shape))
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


class Gumbel(TransformedDistribution):
    """Gumbel's distribution, of maxima: p(x) = exp(-z - exp(-z)) / scale with z = (x - loc) / scale.

    >>> import tapegrad as tg
    >>> tg.distributions.Gumbel(0.0, 1.0).log_prob(0.0)
    tensor(-1.)
    """

    arg_constraints: Any = {"loc": real, "scale": positive}
    support: Any = real
    loc: Tensor
    scale: Tensor

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        self._take(validate_args, loc=loc, scale=scale)
        base = Exponential(tg.ones_like(self.loc), validate_args=False)
        self._over(base, [ExpTransform().inv, AffineTransform(self.loc, -self.scale)])

    mean = property(lambda self: self.loc + EULER * self.scale)
    mode = property(lambda self: self.loc)
    stddev = property(lambda self: math.pi / math.sqrt(6.0) * self.scale)
    variance = property(lambda self: self.stddev * self.stddev)

    def _log_prob(self, value: Tensor) -> Tensor:
        z = (value - self.loc) / self.scale
        return -z - tg.exp(-z) - tg.log(self.scale)

    def _cdf(self, value: Tensor) -> Tensor:
        return tg.exp(-tg.exp((self.loc - value) / self.scale))

    def _icdf(self, value: Tensor) -> Tensor:
        return self.loc - self.scale * tg.log(-tg.log(value))

    def entropy(self) -> Tensor:
        return tg.log(self.scale) + (1.0 + EULER)


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
        return tg.xlogy(a, self.rate) + tg.xlogy(a - 1.0, value) - self.rate * value - tg.lgamma(a)

    def _cdf(self, value: Tensor) -> Tensor:
        a, x = tg.broadcast_tensors(self.concentration, self.rate * tg.clamp(value, 0.0))
        return regularised(a, x)

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


class InverseGamma(TransformedDistribution):
    """The distribution of 1 / x, where x is gamma's: p(y) = rate^a y^(-a - 1) exp(-rate / y) / G(a), of y > 0.

    >>> import tapegrad as tg
    >>> tg.distributions.InverseGamma(2.0, 1.0).log_prob(1.0)
    tensor(-1.)
    """

    arg_constraints: Any = {"concentration": positive, "rate": positive}
    support: Any = positive
    has_rsample = True
    concentration: Tensor
    rate: Tensor

    def __init__(self, concentration: Any, rate: Any, validate_args: bool | None = None) -> None:
        self._take(validate_args, concentration=concentration, rate=rate)
        self._over(Gamma(self.concentration, self.rate, validate_args=False), [PowerTransform(-1.0)])

    @property
    def mean(self) -> Tensor:
        a = self.concentration
        return tg.where(a > 1.0, self.rate / (a - 1.0), math.inf)

    mode = property(lambda self: self.rate / (self.concentration + 1.0))

    @property
    def variance(self) -> Tensor:
        a = self.concentration
        return tg.where(a > 2.0, (self.rate / (a - 1.0)) ** 2 / (a - 2.0), math.inf)

    def _cdf(self, value: Tensor) -> Tensor:
        a, x = tg.broadcast_tensors(self.concentration, self.rate / tg.clamp(value, 0.0))
        return regularised(a, x, upper=True)

    def _log_prob(self, value: Tensor) -> Tensor:
        a = self.concentration
        return a * tg.log(self.rate) - (a + 1.0) * tg.log(value) - self.rate / value - tg.lgamma(a)

    def entropy(self) -> Tensor:
        a = self.concentration
        return a + tg.log(self.rate) + tg.lgamma(a) - (1.0 + a) * tg.digamma(a)


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
        return tg.xlogy(a - 1.0, value) + times(b - 1.0, tg.log1p(-value)) - lbeta(a, b)

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


class HalfNormal(TransformedDistribution):
    """The distribution of |x|, where x is normal with mean 0: p(y) = sqrt(2 / pi) exp(-(y / scale)^2 / 2) / scale.

    >>> import tapegrad as tg
    >>> tg.distributions.HalfNormal(1.0).log_prob(0.0)
    tensor(-0.2258)
    """

    arg_constraints: Any = {"scale": positive}
    support: Any = nonnegative
    has_rsample = True
    scale: Tensor

    def __init__(self, scale: Any, validate_args: bool | None = None) -> None:
        self._take(validate_args, scale=scale)
        self._over(Normal(tg.zeros_like(self.scale), self.scale, validate_args=False), [AbsTransform()])

    mean = property(lambda self: self.scale * math.sqrt(2.0 / math.pi))
    mode = property(lambda self: tg.zeros_like(self.scale))
    variance = property(lambda self: self.scale * self.scale * (1.0 - 2.0 / math.pi))

    def _log_prob(self, value: Tensor) -> Tensor:
        return self.base_dist._log_prob(value) + math.log(2.0)

    def _cdf(self, value: Tensor) -> Tensor:
        return tg.erf(_ROOT_HALF * tg.clamp(value, 0.0) / self.scale)

    def _icdf(self, value: Tensor) -> Tensor:
        return self.scale * math.sqrt(2.0) * erfinv(value)

    def entropy(self) -> Tensor:
        return self.base_dist.entropy() - math.log(2.0)


class HalfCauchy(TransformedDistribution):
    """The distribution of |x|, where x is Cauchy's around 0: p(y) = 2 / (pi scale (1 + (y / scale)^2)), of y >= 0.

    >>> import tapegrad as tg
    >>> tg.distributions.HalfCauchy(1.0).log_prob(1.0)
    tensor(-1.1447)
    """

    arg_constraints: Any = {"scale": positive}
    support: Any = nonnegative
    has_rsample = True
    scale: Tensor

    def __init__(self, scale: Any, validate_args: bool | None = None) -> None:
        self._take(validate_args, scale=scale)
        self._over(Cauchy(tg.zeros_like(self.scale), self.scale, validate_args=False), [AbsTransform()])

    mean = property(lambda self: tg.full_like(self.scale, math.inf))
    mode = property(lambda self: tg.zeros_like(self.scale))
    variance = property(lambda self: self.base_dist.variance)

    def _log_prob(self, value: Tensor) -> Tensor:
        return self.base_dist._log_prob(value) + math.log(2.0)

    def _cdf(self, value: Tensor) -> Tensor:
        return tg.atan(tg.clamp(value, 0.0) / self.scale) * (2.0 / math.pi)

    def _icdf(self, value: Tensor) -> Tensor:
        return self.scale * tg.tan(0.5 * math.pi * value)

    def entropy(self) -> Tensor:
        return self.base_dist.entropy() - math.log(2.0)


class LogNormal(TransformedDistribution):
    """The distribution of exp(x), where x is normal: p(y) = exp(-((log y - loc) / scale)^2 / 2) / (y scale sqrt(2 pi)).

    >>> import tapegrad as tg
    >>> tg.distributions.LogNormal(0.0, 1.0).log_prob(1.0)
    tensor(-0.9189)
    """

    arg_constraints: Any = {"loc": real, "scale": positive}
    support: Any = positive
    has_rsample = True
    loc: Tensor
    scale: Tensor

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        self._take(validate_args, loc=loc, scale=scale)
        self._over(Normal(self.loc, self.scale, validate_args=False), [ExpTransform()])

    mean = property(lambda self: tg.exp(self.loc + 0.5 * self.scale * self.scale))
    mode = property(lambda self: tg.exp(self.loc - self.scale * self.scale))

    @property
    def variance(self) -> Tensor:
        square = self.scale * self.scale
        return tg.expm1(square) * tg.exp(2.0 * self.loc + square)

    def entropy(self) -> Tensor:
        return self.base_dist.entropy() + self.loc


class LogisticNormal(TransformedDistribution):
    """The distribution of vectors of sum 1 that break a stick by sigmoids of normal numbers (`StickBreakingTransform`).

    >>> import tapegrad as tg
    >>> d = tg.distributions.LogisticNormal(tg.zeros(2), tg.ones(2))
    >>> d.event_shape, d.sample((5,)).shape
    (tapegrad.Size([3]), tapegrad.Size([5, 3]))
    """

    arg_constraints: Any = {"loc": real, "scale": positive}
    support: Any = constraints.simplex
    has_rsample = True

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        base = Normal(loc, scale, validate_args=validate_args)
        self._over(base if base.batch_shape else base.expand((1,)), [StickBreakingTransform()])
        shape, event_dim = self._shapes()
        Distribution.__init__(self, shape[: len(shape) - event_dim], shape[len(shape) - event_dim :], validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        shape = (*batch_shape, self.event_shape[0] - 1)
        new = LogisticNormal(expanded(self.loc, shape), expanded(self.scale, shape), validate_args=False)
        new._validate_args = self._validate_args
        return new

    loc = property(lambda self: self.base_dist.base_dist.loc)
    scale = property(lambda self: self.base_dist.base_dist.scale)


class Weibull(TransformedDistribution):
    """Weibull's distribution: p(x) = k / scale z^(k - 1) exp(-z^k) with z = x / scale, k the concentration; of x > 0.

    >>> import tapegrad as tg
    >>> tg.distributions.Weibull(1.0, 2.0).log_prob(1.0)
    tensor(-0.3069)
    """

    arg_constraints: Any = {"scale": positive, "concentration": positive}
    support: Any = positive
    has_rsample = True
    scale: Tensor
    concentration: Tensor

    def __init__(self, scale: Any, concentration: Any, validate_args: bool | None = None) -> None:
        self._take(validate_args, scale=scale, concentration=concentration)
        base = Exponential(tg.ones_like(self.scale), validate_args=False)
        self._over(base, [PowerTransform(1.0 / self.concentration), AffineTransform(0.0, self.scale)])

    concentration_reciprocal = property(lambda self: 1.0 / self.concentration)

    def _moment(self, n: int) -> Tensor:
        """Log E[(x / scale)^n]."""
        return tg.lgamma(1.0 + n / self.concentration)

    mean = property(lambda self: self.scale * tg.exp(self._moment(1)))

    @property
    def mode(self) -> Tensor:
        k = self.concentration
        return tg.where(k > 1.0, self.scale * ((k - 1.0) / k) ** (1.0 / k), 0.0)

    @property
    def variance(self) -> Tensor:
        first, second = self._moment(1), self._moment(2)
        return self.scale**2 * tg.exp(2.0 * first) * tg.expm1(second - 2.0 * first)

    def _log_z(self, value: Tensor) -> Tensor:
        return tg.log(value / self.scale)

    def _log_prob(self, value: Tensor) -> Tensor:
        k, log_z = self.concentration, self._log_z(value)
        return tg.log(k / self.scale) + (k - 1.0) * log_z - tg.exp(k * log_z)

    def _cdf(self, value: Tensor) -> Tensor:
        return -tg.expm1(-tg.exp(self.concentration * self._log_z(tg.clamp(value, 0.0))))

    def _icdf(self, value: Tensor) -> Tensor:
        return self.scale * (-tg.log1p(-value)) ** (1.0 / self.concentration)

    def entropy(self) -> Tensor:
        inverse = 1.0 / self.concentration
        return EULER * (1.0 - inverse) + tg.log(self.scale * inverse) + 1.0


class Pareto(TransformedDistribution):
    """Pareto's distribution: p(x) = alpha scale^alpha / x^(alpha + 1), of x >= scale.

    >>> import tapegrad as tg
    >>> tg.distributions.Pareto(1.0, 1.0).log_prob(2.0)
    tensor(-1.3863)
    """

    arg_constraints: Any = {"scale": positive, "alpha": positive}
    has_rsample = True
    scale: Tensor
    alpha: Tensor

    def __init__(self, scale: Any, alpha: Any, validate_args: bool | None = None) -> None:
        self._take(validate_args, scale=scale, alpha=alpha)
        base = Exponential(self.alpha, validate_args=False)
        self._over(base, [ExpTransform(), AffineTransform(0.0, self.scale)])

    @dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:
        """From `scale` on."""
        return constraints.greater_than_eq(self.scale)

    @property
    def mean(self) -> Tensor:
        a = self.alpha
        return tg.where(a > 1.0, a * self.scale / (a - 1.0), math.inf)

    mode = property(lambda self: self.scale)

    @property
    def variance(self) -> Tensor:
        a = self.alpha
        return tg.where(a > 2.0, (self.scale / (a - 1.0)) ** 2 * a / (a - 2.0), math.inf)

    def _log_prob(self, value: Tensor) -> Tensor:
        return tg.log(self.alpha / self.scale) - (self.alpha + 1.0) * tg.log(value / self.scale)

    def _cdf(self, value: Tensor) -> Tensor:
        return -tg.expm1(-self.alpha * tg.clamp(tg.log(value / self.scale), 0.0))

    def _icdf(self, value: Tensor) -> Tensor:
        return self.scale * tg.exp(-tg.log1p(-value) / self.alpha)

    def entropy(self) -> Tensor:
        return tg.log(self.scale / self.alpha) + 1.0 + 1.0 / self.alpha


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


class Kumaraswamy(TransformedDistribution):
    """Kumaraswamy's distribution: p(x) = a b x^(a - 1) (1 - x^a)^(b - 1), of 0 <= x <= 1.

    a is `concentration1`, b `concentration0`.

    >>> import tapegrad as tg
    >>> tg.distributions.Kumaraswamy(1.0, 2.0).log_prob(0.5)
    tensor(0.)
    """

    arg_constraints: Any = {"concentration1": positive, "concentration0": positive}
    support: Any = constraints.unit_interval
    has_rsample = True
    concentration1: Tensor
    concentration0: Tensor

    def __init__(self, concentration1: Any, concentration0: Any, validate_args: bool | None = None) -> None:
        self._take(validate_args, concentration1=concentration1, concentration0=concentration0)
        base = Uniform(tg.zeros_like(self.concentration0), 1.0, validate_args=False)
        transforms = [
            PowerTransform(1.0 / self.concentration0),
            AffineTransform(1.0, -1.0),
            PowerTransform(1.0 / self.concentration1),
        ]
        self._over(base, transforms)

    def _moment(self, n: int) -> Tensor:
        a, b = self.concentration1, self.concentration0
        return b * tg.exp(lbeta(1.0 + n / a, b))

    mean = property(lambda self: self._moment(1))
    variance = property(lambda self: self._moment(2) - self._moment(1) ** 2)

    @property
    def mode(self) -> Tensor:
        a, b = self.concentration1, self.concentration0
        found = ((a - 1.0) / (a * b - 1.0)) ** (1.0 / a)
        return tg.where((a < 1.0) | (b < 1.0), math.nan, found)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        e = exponential(self._extended_shape(sample_shape), self.concentration0)
        return self._at(-e)

    def _at(self, log_kept: Tensor) -> Tensor:
        """Where log(1 - cdf) is given."""
        return tg.exp(tg.log(-tg.expm1(log_kept / self.concentration0)) / self.concentration1)

    def _log_left(self, value: Tensor) -> Tensor:
        """log(1 - x^a)."""
        return tg.log(-tg.expm1(self.concentration1 * tg.log(value)))

    def _log_prob(self, value: Tensor) -> Tensor:
        a, b = self.concentration1, self.concentration0
        return tg.log(a * b) + tg.xlogy(a - 1.0, value) + times(b - 1.0, self._log_left(value))

    def _cdf(self, value: Tensor) -> Tensor:
        return -tg.expm1(self.concentration0 * self._log_left(value))

    def _icdf(self, value: Tensor) -> Tensor:
        return self._at(tg.log1p(-value))

    def entropy(self) -> Tensor:
        a, b = self.concentration1, self.concentration0
        harmonic = tg.digamma(b + 1.0) + EULER
        return (1.0 - 1.0 / b) + (1.0 - 1.0 / a) * harmonic - tg.log(a) - tg.log(b)


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
        return creation._random().vonmises(numbers(self.loc, shape), numbers(self.concentration, shape))

    def _log_prob(self, value: Tensor) -> Tensor:
        half = tg.sin(0.5 * (value - self.loc))  # cos - 1 = -2 sin^2 of the half: nothing cancels log I0's k
        k = self.concentration
        return -2.0 * k * half * half - math.log(2.0 * math.pi) - log_i0e(k)


__all__ = [
    "Beta", "Cauchy", "Chi2", "Exponential", "FisherSnedecor", "Gamma", "GeneralizedPareto", "Gumbel", "HalfCauchy",
    "HalfNormal", "InverseGamma", "Kumaraswamy", "Laplace", "LogNormal", "LogisticNormal", "Normal", "Pareto",
    "StudentT", "Uniform", "VonMises", "Weibull",
]  # fmt: skip
