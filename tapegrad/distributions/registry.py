"""Transforms from all reals to where parameters may lie: `biject_to`, one to one; `transform_to`, not always."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tapegrad.distributions import constraints, transforms
from tapegrad.distributions.distribution import NUMBERS


class ConstraintRegistry:
    """Functions that make a transform of a constraint, by the constraint's type."""

    def __init__(self) -> None:
        self._registry: dict[type, Callable[[Any], Any]] = {}

    def register(self, constraint: Any, factory: Callable[[Any], Any] | None = None) -> Any:
        """Register `factory` for a constraint, or its type; without it, a decorator."""
        if factory is None:
            return lambda factory: self.register(constraint, factory)
        kind = type(constraint) if isinstance(constraint, constraints.Constraint) else constraint
        if not (isinstance(kind, type) and issubclass(kind, constraints.Constraint)):
            raise TypeError(f"Expected constraint to be either a Constraint subclass or instance, but got {constraint}")
        self._registry[kind] = factory
        return factory

    def __call__(self, constraint: Any) -> Any:
        """The transform to a constraint.

        >>> import tapegrad as tg
        >>> D = tg.distributions
        >>> D.biject_to(D.constraints.positive)(tg.tensor(0.0))
        tensor(1.)
        """
        factory = self._registry.get(type(constraint))
        if factory is None:
            raise NotImplementedError(f"Cannot transform {type(constraint).__name__} constraints")
        return factory(constraint)


biject_to, transform_to = ConstraintRegistry(), ConstraintRegistry()


def _to_interval(c: Any) -> Any:
    low, high = c.lower_bound, c.upper_bound
    if isinstance(low, NUMBERS) and isinstance(high, NUMBERS) and (low, high) == (0, 1):
        return transforms.SigmoidTransform()
    return transforms.ComposeTransform([transforms.SigmoidTransform(), transforms.AffineTransform(low, high - low)])


def _to_above(c: Any) -> Any:
    if isinstance(c.lower_bound, NUMBERS) and c.lower_bound == 0:
        return transforms.ExpTransform()
    return transforms.ComposeTransform([transforms.ExpTransform(), transforms.AffineTransform(c.lower_bound, 1)])


def _to_below(c: Any) -> Any:
    return transforms.ComposeTransform([transforms.ExpTransform(), transforms.AffineTransform(c.upper_bound, -1)])


def _fill(to: ConstraintRegistry) -> None:
    """What both have."""
    to.register(constraints.real, lambda c: transforms.identity_transform)
    to.register(
        constraints.independent,
        lambda c: transforms.IndependentTransform(to(c.base_constraint), c.reinterpreted_batch_ndims),
    )
    to.register(constraints.greater_than, _to_above)
    to.register(constraints.greater_than_eq, _to_above)
    to.register(constraints.less_than, _to_below)
    to.register(constraints.interval, _to_interval)
    to.register(constraints.half_open_interval, _to_interval)
    to.register(constraints.corr_cholesky, lambda c: transforms.CorrCholeskyTransform())
    to.register(constraints.cat, lambda c: transforms.CatTransform([to(part) for part in c.cseq], c.dim, c.lengths))
    to.register(constraints.stack, lambda c: transforms.StackTransform([to(part) for part in c.cseq], c.dim))


_fill(biject_to)
_fill(transform_to)
biject_to.register(constraints.simplex, lambda c: transforms.StickBreakingTransform())
transform_to.register(constraints.simplex, lambda c: transforms.SoftmaxTransform())
transform_to.register(constraints.lower_cholesky, lambda c: transforms.LowerCholeskyTransform())
transform_to.register(constraints.positive_definite, lambda c: transforms.PositiveDefiniteTransform())
transform_to.register(constraints.positive_semidefinite, lambda c: transforms.PositiveDefiniteTransform())

__all__ = ["biject_to", "transform_to"]
