"""Distributions of what is made of a number that has another distribution: its exponential, magnitude, power."""

from __future__ import annotations

import math
from typing import Any

from tapegrad.distributions import constraints
from tapegrad.distributions import operations as tg
from tapegrad.distributions.composed import TransformedDistribution
from tapegrad.distributions.constraints import dependent_property
from tapegrad.distributions.continuous import (
    Cauchy,
    Exponential,
    Gamma,
    Normal,
    Uniform,
)
from tapegrad.distributions.distribution import (
    EULER,
    Distribution,
    expanded,
    exponential,
)
from tapegrad.distributions.special import lbeta, times
from tapegrad.distributions.transforms import (
    AbsTransform,
    AffineTransform,
    ExpTransform,
    PowerTransform,
    StickBreakingTransform,
)
from tapegrad.tensor import Tensor

real, positive, nonnegative = constraints.real, constraints.positive, constraints.nonnegative
_ROOT_HALF = math.sqrt(0.5)


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
        return tg.igammac(a, x)

    def _log_prob(self, value: Tensor) -> Tensor:
        a = self.concentration
        return a * tg.log(self.rate) - (a + 1.0) * tg.log(value) - self.rate / value - tg.lgamma(a)

    def entropy(self) -> Tensor:
        a = self.concentration
        return a + tg.log(self.rate) + tg.lgamma(a) - (1.0 + a) * tg.digamma(a)


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
        return self.scale * math.sqrt(2.0) * tg.erfinv(value)

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

    def _expanded(self, batch_shape: tuple[int, ...]) -> dict[str, Any]:
        shape = (*batch_shape, self.event_shape[0] - 1)
        return {"loc": expanded(self.loc, shape), "scale": expanded(self.scale, shape)}

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
        """log(1 - x^a), exact where x^a is near 1, and with its derivative where x is 0."""
        a, low = self.concentration1, value < 0.5
        near = tg.log(-tg.expm1(a * tg.log(tg.where(low, 0.5, value))))
        return tg.where(low, tg.log1p(-tg.pow(tg.where(low, value, 0.5), a)), near)

    def _log_prob(self, value: Tensor) -> Tensor:
        a, b = self.concentration1, self.concentration0
        return tg.log(a * b) + times(a - 1.0, tg.log(value)) + times(b - 1.0, self._log_left(value))

    def _cdf(self, value: Tensor) -> Tensor:
        return -tg.expm1(self.concentration0 * self._log_left(value))

    def _icdf(self, value: Tensor) -> Tensor:
        return self._at(tg.log1p(-value))

    def entropy(self) -> Tensor:
        a, b = self.concentration1, self.concentration0
        harmonic = tg.digamma(b + 1.0) + EULER
        return (1.0 - 1.0 / b) + (1.0 - 1.0 / a) * harmonic - tg.log(a) - tg.log(b)


__all__ = [
    "Gumbel",
    "HalfCauchy",
    "HalfNormal",
    "InverseGamma",
    "Kumaraswamy",
    "LogNormal",
    "LogisticNormal",
    "Pareto",
    "Weibull",
]
