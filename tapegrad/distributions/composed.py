"""Distributions made of others: independent ones as one, transformed ones, mixtures."""

from __future__ import annotations

from typing import Any

from tapegrad.distributions import constraints
from tapegrad.distributions import operations as tg
from tapegrad.distributions.constraints import dependent_property
from tapegrad.distributions.distribution import Distribution, expanded, sum_rightmost
from tapegrad.distributions.transforms import ComposeTransform, Transform
from tapegrad.tensor import Tensor


class Independent(Distribution):
    """A distribution whose last `reinterpreted_batch_ndims` batch dimensions are those of one event.

    log p(x) = sum over them of the base's log p(x_i).

    >>> import tapegrad as tg
    >>> d = tg.distributions.Independent(tg.distributions.Normal(tg.zeros(3), 1.0), 1)
    >>> d.event_shape, d.log_prob(tg.zeros(3))
    (tapegrad.Size([3]), tensor(-2.7568))
    """

    arg_constraints: Any = {}

    def __init__(
        self, base_distribution: Distribution, reinterpreted_batch_ndims: int, validate_args: bool | None = None
    ) -> None:
        n, batch = reinterpreted_batch_ndims, tuple(base_distribution.batch_shape)
        if n > len(batch):
            raise ValueError(
                f"Expected reinterpreted_batch_ndims <= len(base_distribution.batch_shape), actual {n} vs {len(batch)}"
            )
        self.base_dist, self.reinterpreted_batch_ndims = base_distribution, n
        cut = len(batch) - n
        super().__init__(batch[:cut], batch[cut:] + tuple(base_distribution.event_shape), validate_args)

    def _expanded(self, batch_shape: tuple[int, ...]) -> dict[str, Any]:
        base = self.base_dist.expand((*batch_shape, *self.event_shape[: self.reinterpreted_batch_ndims]))
        return {"base_distribution": base, "reinterpreted_batch_ndims": self.reinterpreted_batch_ndims}

    has_rsample = property(lambda self: self.base_dist.has_rsample)
    has_enumerate_support = property(
        lambda self: self.reinterpreted_batch_ndims == 0 and self.base_dist.has_enumerate_support
    )
    mean = property(lambda self: self.base_dist.mean)
    mode = property(lambda self: self.base_dist.mode)
    variance = property(lambda self: self.base_dist.variance)

    @dependent_property
    def support(self) -> Any:
        """That of the base, in all elements."""
        base = self.base_dist.support
        return constraints.independent(base, self.reinterpreted_batch_ndims) if self.reinterpreted_batch_ndims else base

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return self.base_dist.sample(sample_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.base_dist.rsample(sample_shape)

    def log_prob(self, value: Any) -> Tensor:
        return sum_rightmost(self.base_dist.log_prob(value), self.reinterpreted_batch_ndims)

    def entropy(self) -> Tensor:
        return sum_rightmost(self.base_dist.entropy(), self.reinterpreted_batch_ndims)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        if self.reinterpreted_batch_ndims:
            raise NotImplementedError("Enumeration over cartesian product is not implemented")
        return self.base_dist.enumerate_support(expand)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_dist}, {self.reinterpreted_batch_ndims})"


class TransformedDistribution(Distribution):
    """The distribution of y = f(x), where x has another: log p(y) = log p(x) - log |det df/dx|.

    Parameters
    ----------
    base_distribution : Distribution
        That of what is transformed.
    transforms : Transform or list of Transform
        f: one after the other.

    >>> import tapegrad as tg
    >>> D = tg.distributions
    >>> logistic = D.TransformedDistribution(D.Uniform(0.0, 1.0), [D.SigmoidTransform().inv])
    >>> logistic.log_prob(0.0)
    tensor(-1.3863)
    """

    arg_constraints: Any = {}

    def __init__(self, base_distribution: Distribution, transforms: Any, validate_args: bool | None = None) -> None:
        self._over(base_distribution, transforms)
        shape, event_dim = self._shapes()
        cut = len(shape) - event_dim
        super().__init__(shape[:cut], shape[cut:], validate_args)

    def _over(self, base: Distribution, transforms: Any) -> None:
        """Take the base, broadcast to what the transforms need, and them."""
        self.transforms: list[Transform] = [transforms] if isinstance(transforms, Transform) else transforms
        if not isinstance(self.transforms, list) or not all(isinstance(t, Transform) for t in self.transforms):
            raise ValueError(f"transforms must be a Transform or list, but was {transforms}")
        transform = ComposeTransform(self.transforms)
        shape = tuple(base.batch_shape) + tuple(base.event_shape)
        if len(shape) < transform.domain.event_dim:
            raise ValueError(
                f"base_distribution needs to have shape with size at least {transform.domain.event_dim}, but got "
                f"{shape}."
            )
        broadcast = tuple(transform.inverse_shape(transform.forward_shape(shape)))
        if broadcast != shape:
            base = base.expand(broadcast[: len(broadcast) - len(base.event_shape)])
        if (more := transform.domain.event_dim - len(base.event_shape)) > 0:
            base = Independent(base, more)
        self.base_dist: Any = base

    def _shapes(self) -> tuple[tuple[int, ...], int]:
        """The shape of a value with its batch, and how many of its dimensions are the event's."""
        transform = ComposeTransform(self.transforms)
        shape = tuple(transform.forward_shape((*self.base_dist.batch_shape, *self.base_dist.event_shape)))
        more = max(len(self.base_dist.event_shape) - transform.domain.event_dim, 0)
        return shape, transform.codomain.event_dim + more

    def _expanded(self, batch_shape: tuple[int, ...]) -> dict[str, Any]:
        if self._arguments:  # of a subclass, whose base follows from them
            return super()._expanded(batch_shape)
        shape = ComposeTransform(self.transforms).inverse_shape((*batch_shape, *self.event_shape))
        base = self.base_dist.expand(shape[: len(shape) - len(self.base_dist.event_shape)])
        return {"base_distribution": base, "transforms": self.transforms}

    has_rsample = property(lambda self: self.base_dist.has_rsample)

    @dependent_property(is_discrete=False)
    def support(self) -> Any:
        """The codomain of the last transform."""
        if not self.transforms:
            return self.base_dist.support
        last = self.transforms[-1].codomain
        more = len(self.event_shape) - last.event_dim
        return constraints.independent(last, more) if more else last

    def _through(self, x: Tensor) -> Tensor:
        for transform in self.transforms:
            x = transform(x)
        return x

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with tg.no_grad():
            return self._through(self.base_dist.sample(sample_shape))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self._through(self.base_dist.rsample(sample_shape))

    def _dtype(self) -> Any:
        return self.base_dist._dtype()

    def _log_prob(self, value: Tensor) -> Tensor:
        y, event_dim, total = value, len(self.event_shape), None
        for transform in reversed(self.transforms):
            x = transform.inv(y)
            event_dim += transform.domain.event_dim - transform.codomain.event_dim
            term = sum_rightmost(transform.log_abs_det_jacobian(x, y), event_dim - transform.domain.event_dim)
            total, y = term if total is None else total + term, x
        # What is outside of the base's support is outside of this one's, which is asked for already.
        base = sum_rightmost(self.base_dist.log_prob(y), event_dim - len(self.base_dist.event_shape))
        return base if total is None else base - total

    def _monotone(self, value: Tensor) -> Tensor:
        """p, or 1 - p where the transforms fall: as they do between a value and its cdf."""
        sign: Any = ComposeTransform(self.transforms).sign
        if isinstance(sign, int) and sign == 1:
            return value
        return sign * (value - 0.5) + 0.5

    def _cdf(self, value: Tensor) -> Tensor:
        for transform in reversed(self.transforms):
            value = transform.inv(value)
        return self._monotone(self.base_dist.cdf(value))

    def _icdf(self, value: Tensor) -> Tensor:
        return self._through(self.base_dist.icdf(self._monotone(value)))


class MixtureSameFamily(Distribution):
    """A mixture of distributions of one kind: log p(x) = logsumexp_k (log w_k + log p_k(x)).

    Parameters
    ----------
    mixture_distribution : Categorical
        The weights, of K components.
    component_distribution : Distribution
        The components: K along the last dimension of its batch.

    >>> import tapegrad as tg
    >>> D = tg.distributions
    >>> mixture = D.MixtureSameFamily(D.Categorical(tg.ones(2)), D.Normal(tg.tensor([-1.0, 1.0]), 1.0))
    >>> mixture.mean, mixture.variance
    (tensor(0.), tensor(2.))
    """

    arg_constraints: Any = {}

    def __init__(
        self, mixture_distribution: Any, component_distribution: Distribution, validate_args: bool | None = None
    ) -> None:
        from tapegrad.distributions.discrete import Categorical

        if not isinstance(mixture_distribution, Categorical):
            raise ValueError("The Mixture distribution needs to be an instance of tapegrad.distributions.Categorical")
        if not isinstance(component_distribution, Distribution):
            raise ValueError(
                "The Component distribution needs to be an instance of tapegrad.distributions.Distribution"
            )
        weights, batch = tuple(mixture_distribution.batch_shape), tuple(component_distribution.batch_shape)
        for i, j in zip(reversed(weights), reversed(batch[:-1]), strict=False):
            if i != 1 and j != 1 and i != j:
                raise ValueError(
                    f"`mixture_distribution.batch_shape` ({weights}) is not compatible with "
                    f"`component_distribution.batch_shape`({batch[:-1]})"
                )
        k = mixture_distribution._num_events
        if k != batch[-1]:
            raise ValueError(
                f"`mixture_distribution component` ({k}) does not equal `component_distribution.batch_shape[-1]` "
                f"({batch[-1]})"
            )
        self._mixture_distribution, self._component_distribution = mixture_distribution, component_distribution
        self._dim = -1 - len(component_distribution.event_shape)
        super().__init__(batch[:-1], component_distribution.event_shape, validate_args)

    def _expanded(self, batch_shape: tuple[int, ...]) -> dict[str, Any]:
        components = self.component_distribution.expand((*batch_shape, self.component_distribution.batch_shape[-1]))
        return {
            "mixture_distribution": self.mixture_distribution.expand(batch_shape),
            "component_distribution": components,
        }

    @property
    def mixture_distribution(self) -> Any:
        """The weights."""
        return self._mixture_distribution

    @property
    def component_distribution(self) -> Any:
        """The components."""
        return self._component_distribution

    @dependent_property
    def support(self) -> Any:
        """That of all components."""
        return constraints.MixtureSameFamilyConstraint(self.component_distribution.support)

    def _weights(self) -> Tensor:
        """The weights, with the dimensions of an event behind them."""
        p = self.mixture_distribution.probs
        return p.reshape((*p.shape, *(1,) * len(self._event_shape)))

    @property
    def mean(self) -> Tensor:
        return (self._weights() * self.component_distribution.mean).sum(self._dim)

    @property
    def variance(self) -> Tensor:
        away = self.component_distribution.mean - self.mean.unsqueeze(self._dim)
        return (self._weights() * (self.component_distribution.variance + away * away)).sum(self._dim)

    def _number(self, value: Any) -> Tensor:
        return self.component_distribution._number(value)

    def _log_prob(self, value: Tensor) -> Tensor:
        each = self.component_distribution.log_prob(value.unsqueeze(self._dim))
        return tg.logsumexp(each + self.mixture_distribution.logits, -1)

    def _cdf(self, value: Tensor) -> Tensor:
        each = self.component_distribution.cdf(value.unsqueeze(self._dim))
        return (each * self.mixture_distribution.probs).sum(-1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with tg.no_grad():
            values = self.component_distribution.sample(sample_shape)
            chosen = expanded(self.mixture_distribution.sample(sample_shape), values.shape[: values.ndim + self._dim])
            at = chosen.reshape((*chosen.shape, *(1,) * -self._dim))
            at = at.expand((*chosen.shape, 1, *self._event_shape))
            return tg.gather(values, self._dim, at).squeeze(self._dim)

    def __repr__(self) -> str:
        return f"MixtureSameFamily(\n  {self.mixture_distribution},\n  {self.component_distribution})"
