"""Kullback and Leibler's divergence, KL(p || q) = E_p[log p(x) - log q(x)], in closed forms.

Of one family they are written out. Of two families of real numbers, KL is -H(p) - E_p[log q(x)], where the second is
made of a few expectations: those that q asks for (`_CROSS`), of a p that has them (`_EXPECTED`). Where p has values
that q has not, KL is infinite.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

from tapegrad.distributions import operations as tg
from tapegrad.distributions.composed import Independent, TransformedDistribution
from tapegrad.distributions.continuous import (
    Beta,
    Cauchy,
    Exponential,
    Gamma,
    Laplace,
    Normal,
    Uniform,
)
from tapegrad.distributions.discrete import (
    Bernoulli,
    Binomial,
    Categorical,
    ContinuousBernoulli,
    Dirichlet,
    Geometric,
    OneHotCategorical,
    Poisson,
)
from tapegrad.distributions.distribution import EULER, HALF_LOG_2PI, Distribution, expanded, sum_rightmost
from tapegrad.distributions.multivariate import (
    LowRankMultivariateNormal,
    MultivariateNormal,
    Wishart,
    _half_log_det,
    _matched,
    _solved,
    _whitened,
)
from tapegrad.distributions.special import lbeta, times
from tapegrad.distributions.transformed import (
    Gumbel,
    HalfNormal,
    Pareto,
)
from tapegrad.tensor import Tensor

_registry: dict[tuple[type, type], Callable[[Any, Any], Tensor]] = {}


def register_kl(type_p: type, type_q: type) -> Callable[[Any], Any]:
    """A decorator: the function is KL(p || q) for these types of distributions, and for their subclasses.

    Raises
    ------
    TypeError
        Where they are no types of distributions.
    """
    for name, given in (("type_p", type_p), ("type_q", type_q)):
        if not issubclass(given, Distribution):
            raise TypeError(f"Expected {name} to be a Distribution subclass but got {given}")

    def register(function: Any) -> Any:
        _registry[type_p, type_q] = function
        return function

    return register


def _found(type_p: type, type_q: type) -> Callable[[Any, Any], Tensor] | None:
    """The function of the nearest types: nearest in p, then in q; a warning where the other order finds another."""
    p, q = type_p.__mro__, type_q.__mro__
    matches = [pair for pair in _registry if pair[0] in p and pair[1] in q]
    if not matches:
        return None
    left = min(matches, key=lambda pair: (p.index(pair[0]), q.index(pair[1])))
    right = min(matches, key=lambda pair: (q.index(pair[1]), p.index(pair[0])))
    if _registry[left] is not _registry[right]:
        warnings.warn(
            f"Ambiguous kl_divergence({type_p.__name__}, {type_q.__name__}). Please register_kl({left[0].__name__}, "
            f"{right[1].__name__})",
            RuntimeWarning,
            stacklevel=3,
        )
    return _registry[left]


def kl_divergence(p: Distribution, q: Distribution) -> Tensor:
    """KL(p || q), of the shape of the batch.

    Raises
    ------
    NotImplementedError
        Where no function is registered for these types.

    >>> import tapegrad as tg
    >>> D = tg.distributions
    >>> D.kl_divergence(D.Normal(0.0, 1.0), D.Normal(1.0, 1.0))
    tensor(0.5000)
    """
    function = _found(type(p), type(q))
    if function is None:
        raise NotImplementedError(
            f"No KL(p || q) is implemented for p type {type(p).__name__} and q type {type(q).__name__}"
        )
    return function(p, q)


# --- of one family ----------------------------------------------------------------------------------------------------


def _difference(log: Tensor, other: Tensor) -> Tensor:
    """Log - other of logarithms of probabilities: 0 where both are those of 0."""
    return tg.where((log == other) & tg.isinf(log), 0.0, log - other)


@register_kl(Bernoulli, Bernoulli)
def _bernoulli(p: Any, q: Any) -> Tensor:
    (p1, p0), (q1, q0) = p._logs(), q._logs()
    return times(p.probs, _difference(p1, q1)) + times(tg.exp(p0), _difference(p0, q0))


@register_kl(Binomial, Binomial)
def _binomial(p: Any, q: Any) -> Tensor:
    if bool((p.total_count < q.total_count).detach().any()):
        raise NotImplementedError("KL between Binomials where q.total_count > p.total_count is not implemented")
    return tg.where(p.total_count > q.total_count, math.inf, p.total_count * _bernoulli(p, q))


@register_kl(Geometric, Geometric)
def _geometric(p: Any, q: Any) -> Tensor:
    (p1, p0), (q1, q0) = p._logs(), q._logs()
    return _difference(p1, q1) + times(p.mean, _difference(p0, q0))


@register_kl(Categorical, Categorical)
@register_kl(OneHotCategorical, OneHotCategorical)
def _categorical(p: Any, q: Any) -> Tensor:
    return times(p.probs, _difference(p.logits, q.logits)).sum(-1)


@register_kl(Poisson, Poisson)
def _poisson(p: Any, q: Any) -> Tensor:
    return times(p.rate, tg.log(p.rate) - tg.log(q.rate)) - (p.rate - q.rate)


@register_kl(Beta, Beta)
def _beta(p: Any, q: Any) -> Tensor:
    a, b = p.concentration1, p.concentration0
    c, d = q.concentration1, q.concentration0
    both, psi = a + b, tg.digamma
    return lbeta(c, d) - lbeta(a, b) + (a - c) * psi(a) + (b - d) * psi(b) + (c + d - both) * psi(both)


@register_kl(Dirichlet, Dirichlet)
def _dirichlet(p: Any, q: Any) -> Tensor:
    a, b = p.concentration, q.concentration
    mean_log = tg.digamma(a) - tg.digamma(a.sum(-1, keepdim=True))
    return q._log_normalizer() - p._log_normalizer() + ((a - b) * mean_log).sum(-1)


@register_kl(Exponential, Exponential)
def _exponential(p: Any, q: Any) -> Tensor:
    ratio = q.rate / p.rate
    return ratio - 1.0 - tg.log(ratio)


@register_kl(Gamma, Gamma)
def _gamma(p: Any, q: Any) -> Tensor:
    a, b = p.concentration, q.concentration
    rates = b * tg.log(p.rate / q.rate) + (q.rate - p.rate) * (a / p.rate)
    return rates + tg.lgamma(b) - tg.lgamma(a) + (a - b) * tg.digamma(a)


@register_kl(Gumbel, Gumbel)
def _gumbel(p: Any, q: Any) -> Tensor:
    ratio, away = p.scale / q.scale, (p.loc - q.loc) / q.scale
    return away - tg.log(ratio) + EULER * (ratio - 1.0) + tg.exp(tg.lgamma(1.0 + ratio) - away) - 1.0


@register_kl(Normal, Normal)
def _normal(p: Any, q: Any) -> Tensor:
    ratio, away = p.scale / q.scale, (p.loc - q.loc) / q.scale
    return 0.5 * (ratio * ratio + away * away - 1.0) - tg.log(ratio)


@register_kl(HalfNormal, HalfNormal)
def _half_normal(p: Any, q: Any) -> Tensor:
    return _normal(p.base_dist, q.base_dist)


@register_kl(Laplace, Laplace)
def _laplace(p: Any, q: Any) -> Tensor:
    ratio, away = p.scale / q.scale, tg.abs(p.loc - q.loc)
    return away / q.scale - tg.log(ratio) + ratio * tg.exp(-away / p.scale) - 1.0


@register_kl(Cauchy, Cauchy)
def _cauchy(p: Any, q: Any) -> Tensor:  # Chyzak and Nielsen 2019, arXiv:1905.10965
    return tg.log(((p.scale + q.scale) ** 2 + (p.loc - q.loc) ** 2) / (4.0 * p.scale * q.scale))


@register_kl(Pareto, Pareto)
def _pareto(p: Any, q: Any) -> Tensor:
    ratio = q.alpha / p.alpha
    found = q.alpha * tg.log(p.scale / q.scale) - tg.log(ratio) + ratio - 1.0
    return tg.where(p.scale < q.scale, math.inf, found)


@register_kl(Uniform, Uniform)
def _uniform(p: Any, q: Any) -> Tensor:
    found = tg.log((q.high - q.low) / (p.high - p.low))
    return tg.where((q.low > p.low) | (q.high < p.high), math.inf, found)


@register_kl(ContinuousBernoulli, ContinuousBernoulli)
def _continuous_bernoulli(p: Any, q: Any) -> Tensor:
    return p.mean * (p.logits - q.logits) - p._log_normalizer() + q._log_normalizer()


def _same_event(p: Any, q: Any) -> None:
    if p.event_shape != q.event_shape:
        raise ValueError(
            "KL-divergence between two (Low Rank) Multivariate Normals with different event shapes cannot be computed"
        )


def _square(m: Tensor) -> Tensor:
    """The trace of M M^T."""
    return (m * m).sum((-2, -1))


def _roots(p: Any) -> list[Tensor]:
    """Matrices the sum of whose M M^T is the covariance."""
    if isinstance(p, MultivariateNormal):
        return [p._unbroadcasted_scale_tril]
    return [p._w, tg.diag_embed(tg.sqrt(p._d))]


def _log_det(p: Any) -> Tensor:
    return 2.0 * _half_log_det(p._unbroadcasted_scale_tril) if isinstance(p, MultivariateNormal) else p._log_det()


@register_kl(MultivariateNormal, MultivariateNormal)
@register_kl(LowRankMultivariateNormal, MultivariateNormal)
def _multivariate_normal(p: Any, q: Any) -> Tensor:
    _same_event(p, q)
    low = q._unbroadcasted_scale_tril
    trace = sum((_square(_solved(*_matched(low, root))) for root in _roots(p)), start=tg.zeros((), dtype=low.dtype))
    away = _whitened(low, q.loc - p.loc)
    return 0.5 * (_log_det(q) - _log_det(p) + trace + (away * away).sum(-1) - p.event_shape[0])


@register_kl(MultivariateNormal, LowRankMultivariateNormal)
@register_kl(LowRankMultivariateNormal, LowRankMultivariateNormal)
def _low_rank_multivariate_normal(p: Any, q: Any) -> Tensor:
    _same_event(p, q)
    low, scaled, root_d = q._capacitance_tril, q._scaled, tg.sqrt(q._d).unsqueeze(-1)
    trace = tg.zeros((), dtype=low.dtype)
    for root in _roots(p):
        trace = trace + _square(root / root_d) - _square(_solved(*_matched(low, scaled @ root)))
    return 0.5 * (_log_det(q) - _log_det(p) + trace + q._square(q.loc - p.loc) - p.event_shape[0])


@register_kl(Wishart, Wishart)
def _wishart(p: Any, q: Any) -> Tensor:
    if p.event_shape != q.event_shape:
        raise ValueError(
            "KL-divergence between two Wishart distributions with different event shapes cannot be computed"
        )
    away = _solved(*_matched(q._unbroadcasted_scale_tril, p._unbroadcasted_scale_tril))
    both = 0.5 * (p.df - q.df) * p._mean_log_det() + q._log_normalizer() - p._log_normalizer()
    return both + 0.5 * p.df * (_square(away) - p._size)


@register_kl(TransformedDistribution, TransformedDistribution)
def _transformed(p: Any, q: Any) -> Tensor:
    if p.transforms != q.transforms or p.event_shape != q.event_shape:
        raise NotImplementedError(
            "KL of transformed distributions is that of their bases where the transforms are equal"
        )
    return kl_divergence(p.base_dist, q.base_dist)


@register_kl(Independent, Independent)
def _independent(p: Any, q: Any) -> Tensor:
    if p.reinterpreted_batch_ndims != q.reinterpreted_batch_ndims:
        raise NotImplementedError("KL of Independent distributions needs equal reinterpreted_batch_ndims")
    return sum_rightmost(kl_divergence(p.base_dist, q.base_dist), p.reinterpreted_batch_ndims)


# --- of two families --------------------------------------------------------------------------------------------------


def _x_log_x_mean(low: Tensor, high: Tensor) -> Tensor:
    """The mean of log x from low to high."""
    return (tg.xlogy(high, high) - tg.xlogy(low, low)) / (high - low) - 1.0


def _uniform_decay(p: Any, rate: Tensor) -> Tensor:
    return (tg.exp(-rate * p.low) - tg.exp(-rate * p.high)) / (rate * (p.high - p.low))


# Of p: the bounds of its values; E[log x], E[log(1 - x)], E[exp(-rate x)] where they are known.
_EXPECTED: dict[type, dict[str, Callable[..., Any]]] = {
    Beta: {
        "bounds": lambda p: (0.0, 1.0),
        "log": lambda p: tg.digamma(p.concentration1) - tg.digamma(p._total()),
        "log_rest": lambda p: tg.digamma(p.concentration0) - tg.digamma(p._total()),
    },
    ContinuousBernoulli: {"bounds": lambda p: (0.0, 1.0)},
    Exponential: {
        "bounds": lambda p: (0.0, math.inf),
        "log": lambda p: -EULER - tg.log(p.rate),
        "decay": lambda p, rate: p.rate / (p.rate + rate),
    },
    Gamma: {
        "bounds": lambda p: (0.0, math.inf),
        "log": lambda p: tg.digamma(p.concentration) - tg.log(p.rate),
        "decay": lambda p, rate: tg.exp(-p.concentration * tg.log1p(rate / p.rate)),
    },
    Gumbel: {"bounds": lambda p: (-math.inf, math.inf)},
    Laplace: {"bounds": lambda p: (-math.inf, math.inf)},
    Normal: {
        "bounds": lambda p: (-math.inf, math.inf),
        "decay": lambda p, rate: tg.exp(0.5 * (rate * p.scale) ** 2 - rate * p.loc),
    },
    Pareto: {"bounds": lambda p: (p.scale, math.inf), "log": lambda p: tg.log(p.scale) + 1.0 / p.alpha},
    Uniform: {
        "bounds": lambda p: (p.low, p.high),
        "log": lambda p: _x_log_x_mean(p.low, p.high),
        "log_rest": lambda p: _x_log_x_mean(1.0 - p.high, 1.0 - p.low),
        "decay": _uniform_decay,
    },
}


def _gumbel_cross(p: Any, q: Any, e: Any) -> Tensor:
    decay = e["decay"](p, 1.0 / q.scale)
    return -tg.log(q.scale) - (p.mean - q.loc) / q.scale - tg.exp(q.loc / q.scale) * decay


# E_p[log q(x)]: what it takes of p, the bounds of q's values, and itself.
_CROSS: dict[type, tuple[str, Callable[[Any], Any], Callable[[Any, Any, Any], Tensor]]] = {
    Beta: (
        "log log_rest",
        lambda q: (0.0, 1.0),
        lambda p, q, e: (q.concentration1 - 1.0) * e["log"](p) + (q.concentration0 - 1.0) * e["log_rest"](p)
        - lbeta(q.concentration1, q.concentration0),
    ),
    ContinuousBernoulli: ("", lambda q: (0.0, 1.0), lambda p, q, e: q.logits * p.mean - q._log_normalizer()),
    Exponential: ("", lambda q: (0.0, math.inf), lambda p, q, e: tg.log(q.rate) - q.rate * p.mean),
    Gamma: (
        "log",
        lambda q: (0.0, math.inf),
        lambda p, q, e: q.concentration * tg.log(q.rate) - tg.lgamma(q.concentration)
        + (q.concentration - 1.0) * e["log"](p) - q.rate * p.mean,
    ),
    Gumbel: ("decay", lambda q: (-math.inf, math.inf), _gumbel_cross),
    Normal: (
        "",
        lambda q: (-math.inf, math.inf),
        lambda p, q, e: -HALF_LOG_2PI - tg.log(q.scale)
        - 0.5 * (p.variance / q.scale**2 + ((p.mean - q.loc) / q.scale) ** 2),
    ),
    Pareto: (
        "log",
        lambda q: (q.scale, math.inf),
        lambda p, q, e: tg.log(q.alpha) + q.alpha * tg.log(q.scale) - (q.alpha + 1.0) * e["log"](p),
    ),
    Uniform: ("", lambda q: (q.low, q.high), lambda p, q, e: -tg.log(q.high - q.low) + tg.zeros_like(p.mean)),
}  # fmt: skip


def _batch(p: Any, q: Any) -> tuple[int, ...]:
    return tuple(tg.broadcast_shapes(tuple(p.batch_shape), tuple(q.batch_shape)))


def _infinite(p: Any, q: Any) -> Tensor:
    return tg.full(_batch(p, q), math.inf, dtype=p._dtype())


def _crossed(type_p: type, type_q: type) -> Callable[[Any, Any], Tensor] | None:
    """KL of two families, or None where p has not what it takes."""
    expected, (needs, bounds, cross) = _EXPECTED[type_p], _CROSS[type_q]
    if not set(needs.split()) <= set(expected):
        return _infinite if _never_inside(type_p, type_q) else None

    def kl(p: Any, q: Any) -> Tensor:
        (low, high), (least, most) = expected["bounds"](p), bounds(q)
        outside = (low < least) | (high > most)
        if outside is True:
            return _infinite(p, q)
        found = -p.entropy() - cross(p, q, expected)
        return found if outside is False else tg.where(outside, math.inf, expanded(found, _batch(p, q)))

    return kl


def _never_inside(type_p: type, type_q: type) -> bool:
    """Whether q never has all of p's values, whatever the parameters."""
    if type_q in (Gamma, Pareto) and type_p in (Normal, Gumbel, Laplace):
        return True
    if type_q is Pareto:
        return type_p is ContinuousBernoulli
    return type_q is Beta and type_p is not ContinuousBernoulli


for _p in _EXPECTED:
    for _q in _CROSS:
        if _p is not _q and (_kl := _crossed(_p, _q)) is not None:
            register_kl(_p, _q)(_kl)


@register_kl(Normal, Laplace)
def _normal_laplace(p: Any, q: Any) -> Tensor:
    away = p.loc - q.loc
    z = away / p.scale
    mean = math.sqrt(2.0 / math.pi) * p.scale * tg.exp(-0.5 * z * z) + away * tg.erf(math.sqrt(0.5) * z)
    return mean / q.scale + tg.log(2.0 * q.scale) - p.entropy()


@register_kl(Bernoulli, Poisson)
def _bernoulli_poisson(p: Any, q: Any) -> Tensor:
    return -p.entropy() - (p.probs * tg.log(q.rate) - q.rate)


register_kl(Poisson, Bernoulli)(_infinite)
register_kl(Poisson, Binomial)(_infinite)

__all__ = ["kl_divergence", "register_kl"]
