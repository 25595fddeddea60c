"""Invertible functions with the logarithm of their Jacobian's determinant, of which distributions are made.

>>> import tapegrad as tg
>>> t = tg.distributions.transforms.ExpTransform()
>>> y = t(tg.tensor([0.0, 1.0]))
>>> t.inv(y), t.log_abs_det_jacobian(t.inv(y), y)
(tensor([0., 1.]), tensor([0., 1.]))
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tapegrad.distributions import constraints
from tapegrad.distributions import operations as tg
from tapegrad.distributions.constraints import dependent_property
from tapegrad.distributions.distribution import NUMBERS, eps, operand, sum_rightmost, tensors, tiny
from tapegrad.tensor import Size, Tensor


class Transform:
    """A function y = f(x) with an inverse, from `domain` to `codomain`.

    `bijective` says that it is one to one, `sign` whether it rises or falls; `inv` is the inverse, a transform.
    With `cache_size=1` it remembers its last x and y, so that `inv(y)` is that x. A subclass has `_call`, `_inverse`
    and `log_abs_det_jacobian`.

    >>> import tapegrad as tg
    >>> class Cube(tg.distributions.Transform):
    ...     domain = codomain = tg.distributions.constraints.real
    ...     bijective = True
    ...
    ...     def _call(self, x):
    ...         return x**3
    ...
    ...     def _inverse(self, y):
    ...         return y.sign() * y.abs() ** (1 / 3)
    ...
    ...     def log_abs_det_jacobian(self, x, y):
    ...         return tg.log(3 * x**2)
    >>> cube = Cube()
    >>> cube(tg.tensor(2.0)), cube.inv(tg.tensor(8.0))
    (tensor(8.), tensor(2.))
    """

    bijective: Any = False
    domain: Any
    codomain: Any
    sign: Any

    def __init__(self, cache_size: int = 0) -> None:
        if cache_size not in (0, 1):
            raise ValueError("cache_size must be 0 or 1")
        self._cache_size = cache_size
        self._cached: tuple[Any, Any] = (None, None)
        self._inv: Any = None

    @property
    def event_dim(self) -> int:
        """How many dimensions a value has, where x and y have as many."""
        if self.domain.event_dim == self.codomain.event_dim:
            return int(self.domain.event_dim)
        raise ValueError("Please use either .domain.event_dim or .codomain.event_dim")

    @property
    def inv(self) -> Any:
        """The inverse."""
        if self._inv is None:
            self._inv = _InverseTransform(self)
        return self._inv

    def _with_cache_arguments(self) -> dict[str, Any]:
        """What else it was made with."""
        return {}

    def with_cache(self, cache_size: int = 1) -> Any:
        """The same transform, with a cache of that size."""
        if self._cache_size == cache_size:
            return self
        return type(self)(**self._with_cache_arguments(), cache_size=cache_size)

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return False
        mine, its = self._with_cache_arguments(), other._with_cache_arguments()
        return self is other or (
            type(self).__module__ == __name__ and all(_equal(value, its[name]) for name, value in mine.items())
        )

    __hash__ = object.__hash__

    def __call__(self, x: Any) -> Tensor:
        """f(x)."""
        if self._cache_size and x is self._cached[0]:
            return self._cached[1]
        y = self._call(operand(x))
        if self._cache_size:
            self._cached = x, y
        return y

    def _inv_call(self, y: Any) -> Tensor:
        if self._cache_size and y is self._cached[1]:
            return self._cached[0]
        x = self._inverse(operand(y))
        if self._cache_size:
            self._cached = x, y
        return x

    def _call(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def _inverse(self, y: Tensor) -> Tensor:
        raise NotImplementedError

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Log |det df/dx|, of x and y = f(x)."""
        raise NotImplementedError

    def forward_shape(self, shape: Any) -> Any:
        """The shape of y, by that of x."""
        return shape

    def inverse_shape(self, shape: Any) -> Any:
        """The shape of x, by that of y."""
        return shape

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return bool((a == b).all())
    return bool(a == b)


class _InverseTransform(Transform):
    """The inverse of a transform."""

    def __init__(self, transform: Transform) -> None:
        super().__init__(transform._cache_size)
        self._inv = transform

    domain = dependent_property(lambda self: self._inv.codomain, is_discrete=False)
    codomain = dependent_property(lambda self: self._inv.domain, is_discrete=False)
    bijective = property(lambda self: self._inv.bijective)
    sign = property(lambda self: self._inv.sign)

    def with_cache(self, cache_size: int = 1) -> Any:
        return self._inv.with_cache(cache_size).inv

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _InverseTransform) and self._inv == other._inv

    __hash__ = object.__hash__

    def __call__(self, x: Any) -> Tensor:
        return self._inv._inv_call(x)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return -self._inv.log_abs_det_jacobian(y, x)

    def forward_shape(self, shape: Any) -> Any:
        return self._inv.inverse_shape(shape)

    def inverse_shape(self, shape: Any) -> Any:
        return self._inv.forward_shape(shape)

    def __repr__(self) -> str:
        return f"_InverseTransform({self._inv!r})"


class ComposeTransform(Transform):
    """Transforms one after the other.

    >>> import tapegrad as tg
    >>> from tapegrad.distributions import AffineTransform, ComposeTransform, ExpTransform
    >>> f = ComposeTransform([AffineTransform(1.0, 2.0), ExpTransform()])
    >>> x = tg.tensor(0.5)
    >>> f(x), f.inv(f(x)), f.log_abs_det_jacobian(x, f(x))
    (tensor(7.3891), tensor(0.5000), tensor(2.6931))
    """

    def __init__(self, parts: Sequence[Transform], cache_size: int = 0) -> None:
        super().__init__(cache_size)
        self.parts = [part.with_cache(cache_size) for part in parts] if cache_size else list(parts)

    def _with_cache_arguments(self) -> dict[str, Any]:
        return {"parts": self.parts}

    def _constraint(self, of: Callable[[Transform], Any], to: Callable[[Transform], Any], parts: Any) -> Any:
        """The domain, or the codomain, with as many dimensions as the parts beyond need."""
        if not parts:
            return constraints.real
        dim = to(parts[-1]).event_dim
        for part in reversed(parts):
            dim = max(dim + of(part).event_dim - to(part).event_dim, of(part).event_dim)
        first = of(parts[0])
        return constraints.independent(first, dim - first.event_dim) if dim > first.event_dim else first

    @dependent_property(is_discrete=False)
    def domain(self) -> Any:
        """That of the first part."""
        return self._constraint(lambda p: p.domain, lambda p: p.codomain, self.parts)

    @dependent_property(is_discrete=False)
    def codomain(self) -> Any:
        """That of the last part."""
        return self._constraint(lambda p: p.codomain, lambda p: p.domain, self.parts[::-1])

    bijective = property(lambda self: all(part.bijective for part in self.parts))
    sign = property(lambda self: functools.reduce(operator.mul, (part.sign for part in self.parts), 1))

    @property
    def inv(self) -> Any:
        """The inverses, from the last to the first."""
        if self._inv is None:
            self._inv = ComposeTransform([part.inv for part in reversed(self.parts)])
            self._inv._inv = self
        return self._inv

    def __call__(self, x: Any) -> Tensor:
        for part in self.parts:
            x = part(x)
        return x

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        if not self.parts:
            return tg.zeros_like(x)
        xs = [x]
        for part in self.parts[:-1]:
            xs.append(part(xs[-1]))
        dim, terms = self.domain.event_dim, []
        for part, before, after in zip(self.parts, xs, [*xs[1:], y], strict=True):
            terms.append(sum_rightmost(part.log_abs_det_jacobian(before, after), dim - part.domain.event_dim))
            dim += part.codomain.event_dim - part.domain.event_dim
        return functools.reduce(operator.add, terms)

    def forward_shape(self, shape: Any) -> Any:
        return functools.reduce(lambda s, part: part.forward_shape(s), self.parts, shape)

    def inverse_shape(self, shape: Any) -> Any:
        return functools.reduce(lambda s, part: part.inverse_shape(s), self.parts[::-1], shape)

    def __repr__(self) -> str:
        return "ComposeTransform(\n    " + ",\n    ".join(map(repr, self.parts)) + "\n)"


identity_transform = ComposeTransform([])


class IndependentTransform(Transform):
    """A transform whose last dimensions are those of one value: their Jacobians are summed.

    >>> import tapegrad as tg
    >>> f = tg.distributions.IndependentTransform(tg.distributions.ExpTransform(), 1)
    >>> x = tg.tensor([1.0, 2.0])
    >>> f.log_abs_det_jacobian(x, f(x))
    tensor(3.)
    """

    def __init__(self, base_transform: Transform, reinterpreted_batch_ndims: int, cache_size: int = 0) -> None:
        super().__init__(cache_size)
        self.base_transform = base_transform.with_cache(cache_size)
        self.reinterpreted_batch_ndims = reinterpreted_batch_ndims

    def _with_cache_arguments(self) -> dict[str, Any]:
        return {
            "base_transform": self.base_transform,
            "reinterpreted_batch_ndims": self.reinterpreted_batch_ndims,
        }

    @dependent_property(is_discrete=False)
    def domain(self) -> Any:
        """That of the base, with more dimensions."""
        return constraints.independent(self.base_transform.domain, self.reinterpreted_batch_ndims)

    @dependent_property(is_discrete=False)
    def codomain(self) -> Any:
        """That of the base, with more dimensions."""
        return constraints.independent(self.base_transform.codomain, self.reinterpreted_batch_ndims)

    bijective = property(lambda self: self.base_transform.bijective)
    sign = property(lambda self: self.base_transform.sign)

    def _call(self, x: Tensor) -> Tensor:
        if x.ndim < self.domain.event_dim:
            raise ValueError("Too few dimensions on input")
        return self.base_transform(x)

    def _inverse(self, y: Tensor) -> Tensor:
        if y.ndim < self.codomain.event_dim:
            raise ValueError("Too few dimensions on input")
        return self.base_transform.inv(y)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return sum_rightmost(self.base_transform.log_abs_det_jacobian(x, y), self.reinterpreted_batch_ndims)

    def forward_shape(self, shape: Any) -> Any:
        return self.base_transform.forward_shape(shape)

    def inverse_shape(self, shape: Any) -> Any:
        return self.base_transform.inverse_shape(shape)

    def __repr__(self) -> str:
        return f"IndependentTransform({self.base_transform!r}, {self.reinterpreted_batch_ndims})"


class ReshapeTransform(Transform):
    """The last dimensions in another shape.

    >>> import tapegrad as tg
    >>> f = tg.distributions.ReshapeTransform((4,), (2, 2))
    >>> f(tg.arange(4.0))
    tensor([[0., 1.],
            [2., 3.]])
    """

    bijective = True

    def __init__(self, in_shape: Any, out_shape: Any, cache_size: int = 0) -> None:
        self.in_shape, self.out_shape = Size(in_shape), Size(out_shape)
        if math.prod(self.in_shape) != math.prod(self.out_shape):
            raise ValueError("in_shape, out_shape have different numbers of elements")
        super().__init__(cache_size)

    def _with_cache_arguments(self) -> dict[str, Any]:
        return {"in_shape": self.in_shape, "out_shape": self.out_shape}

    @dependent_property(is_discrete=False)
    def domain(self) -> Any:
        """All reals, of `in_shape`."""
        return constraints.independent(constraints.real, len(self.in_shape))

    @dependent_property(is_discrete=False)
    def codomain(self) -> Any:
        """All reals, of `out_shape`."""
        return constraints.independent(constraints.real, len(self.out_shape))

    def _call(self, x: Tensor) -> Tensor:
        return x.reshape(self.forward_shape(x.shape))

    def _inverse(self, y: Tensor) -> Tensor:
        return y.reshape(self.inverse_shape(y.shape))

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return x.new_zeros(tuple(x.shape[: x.ndim - len(self.in_shape)]))

    def forward_shape(self, shape: Any) -> Any:
        return self._exchanged(tuple(shape), self.in_shape, self.out_shape)

    def inverse_shape(self, shape: Any) -> Any:
        return self._exchanged(tuple(shape), self.out_shape, self.in_shape)

    def _exchanged(self, shape: tuple[int, ...], known: Any, other: Any) -> tuple[int, ...]:
        if len(shape) < len(known):
            raise ValueError("Too few dimensions on input")
        cut = len(shape) - len(known)
        if shape[cut:] != tuple(known):
            raise ValueError(f"Shape mismatch: expected {tuple(known)} but got {shape[cut:]}")
        return shape[:cut] + tuple(other)


class _Real(Transform):
    """A transform of numbers that rises, from all reals."""

    bijective, sign, domain = True, 1, constraints.real


class ExpTransform(_Real):
    """y = exp(x).

    >>> import tapegrad as tg
    >>> f = tg.distributions.ExpTransform()
    >>> x = tg.tensor([0.0, 1.0])
    >>> f(x), f.log_abs_det_jacobian(x, f(x))
    (tensor([1.0000, 2.7183]), tensor([0., 1.]))
    """

    codomain = constraints.positive

    def _call(self, x: Tensor) -> Tensor:
        return tg.exp(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return tg.log(y)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return x


class PowerTransform(Transform):
    """y = x^exponent.

    >>> import tapegrad as tg
    >>> f = tg.distributions.PowerTransform(tg.tensor(2.0))
    >>> f(tg.tensor([1.0, 3.0])), f.inv(tg.tensor([1.0, 3.0]))
    (tensor([1., 9.]), tensor([1.0000, 1.7321]))
    """

    bijective, domain, codomain = True, constraints.positive, constraints.positive

    def __init__(self, exponent: Any, cache_size: int = 0) -> None:
        super().__init__(cache_size)
        (self.exponent,) = tensors(exponent)

    def _with_cache_arguments(self) -> dict[str, Any]:
        return {"exponent": self.exponent}

    @property
    def sign(self) -> Any:
        """That of the exponent."""
        return tg.sign(self.exponent)

    def _call(self, x: Tensor) -> Tensor:
        return tg.pow(x, self.exponent)

    def _inverse(self, y: Tensor) -> Tensor:
        return tg.pow(y, 1.0 / self.exponent)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return tg.log(tg.abs(self.exponent * y / x))

    def forward_shape(self, shape: Any) -> Any:
        return tg.broadcast_shapes(tuple(shape), tuple(self.exponent.shape))

    inverse_shape = forward_shape


class SigmoidTransform(_Real):
    """y = 1 / (1 + exp(-x)), kept off 0 and 1.

    >>> import tapegrad as tg
    >>> f = tg.distributions.SigmoidTransform()
    >>> f(tg.tensor([-1.0, 0.0])), f.inv(tg.tensor([0.5, 0.9]))
    (tensor([0.2689, 0.5000]), tensor([0.0000, 2.1972]))
    """

    codomain = constraints.unit_interval

    def _call(self, x: Tensor) -> Tensor:
        return tg.clamp(tg.sigmoid(x), tiny(x), 1.0 - eps(x))

    def _inverse(self, y: Tensor) -> Tensor:
        y = tg.clamp(y, tiny(y), 1.0 - eps(y))
        return tg.log(y) - tg.log1p(-y)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return -softplus(-x) - softplus(x)


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)), at its full precision everywhere."""
    return tg.logaddexp(x, tg.zeros_like(x))


class SoftplusTransform(_Real):
    """y = log(1 + exp(x)).

    >>> import tapegrad as tg
    >>> f = tg.distributions.SoftplusTransform()
    >>> f(tg.tensor([0.0, 5.0])), f.inv(tg.tensor([1.0, 5.0]))
    (tensor([0.6931, 5.0067]), tensor([0.5413, 4.9932]))
    """

    codomain = constraints.positive

    def _call(self, x: Tensor) -> Tensor:
        return softplus(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return tg.log(-tg.expm1(-y)) + y

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return -softplus(-x)


class TanhTransform(_Real):
    """y = tanh(x). Where |y| may round to 1, use `cache_size=1`.

    >>> import tapegrad as tg
    >>> f = tg.distributions.TanhTransform()
    >>> f(tg.tensor([0.0, 1.0])), f.inv(tg.tensor([0.0, 0.5]))
    (tensor([0.0000, 0.7616]), tensor([0.0000, 0.5493]))
    """

    codomain = constraints.interval(-1.0, 1.0)

    def _call(self, x: Tensor) -> Tensor:
        return tg.tanh(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return tg.atanh(y)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return 2.0 * (math.log(2.0) - x - softplus(-2.0 * x))


class AbsTransform(Transform):
    """y = |x|, whose inverse is y itself.

    >>> import tapegrad as tg
    >>> f = tg.distributions.AbsTransform()
    >>> f(tg.tensor([-1.0, 2.0])), f.inv(tg.tensor([1.0, 2.0]))
    (tensor([1., 2.]), tensor([1., 2.]))
    """

    domain, codomain = constraints.real, constraints.positive

    def _call(self, x: Tensor) -> Tensor:
        return tg.abs(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return y


class AffineTransform(Transform):
    """y = loc + scale x.

    >>> import tapegrad as tg
    >>> transform = tg.distributions.AffineTransform(loc=1.0, scale=2.0)
    >>> x = tg.tensor([0.0, 3.0])
    >>> y = transform(x)
    >>> y, transform.log_abs_det_jacobian(x, y).exp()
    (tensor([1., 7.]), tensor([2., 2.]))
    """

    bijective = True

    def __init__(self, loc: Any, scale: Any, event_dim: int = 0, cache_size: int = 0) -> None:
        super().__init__(cache_size)
        self.loc, self.scale, self._event_dim = loc, scale, event_dim

    def _with_cache_arguments(self) -> dict[str, Any]:
        return {"loc": self.loc, "scale": self.scale, "event_dim": self._event_dim}

    @property
    def event_dim(self) -> int:
        """As it was given."""
        return self._event_dim

    @dependent_property(is_discrete=False)
    def domain(self) -> Any:
        """All reals."""
        return constraints.independent(constraints.real, self._event_dim) if self._event_dim else constraints.real

    codomain = domain

    @property
    def sign(self) -> Any:
        """That of the scale."""
        return int(np.sign(self.scale)) if isinstance(self.scale, NUMBERS) else tg.sign(self.scale)

    def _call(self, x: Tensor) -> Tensor:
        result: Tensor = self.loc + self.scale * x
        return result

    def _inverse(self, y: Tensor) -> Tensor:
        return (y - self.loc) / self.scale

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        result = tg.log(tg.abs(tg.zeros_like(x) + self.scale))
        return sum_rightmost(result, self._event_dim)

    def forward_shape(self, shape: Any) -> Any:
        return tg.broadcast_shapes(tuple(shape), *(tuple(operand(v).shape) for v in (self.loc, self.scale)))

    inverse_shape = forward_shape


class SoftmaxTransform(Transform):
    """y = softmax(x): many x have one y.

    >>> import tapegrad as tg
    >>> tg.distributions.SoftmaxTransform()(tg.tensor([0.0, 0.0, 1.0]))
    tensor([0.2119, 0.2119, 0.5761])
    """

    domain, codomain = constraints.real_vector, constraints.simplex

    def _call(self, x: Tensor) -> Tensor:
        return tg.softmax(x, -1)

    def _inverse(self, y: Tensor) -> Tensor:
        return tg.log(y)

    def forward_shape(self, shape: Any) -> Any:
        if len(shape) < 1:
            raise ValueError("Too few dimensions on input")
        return shape

    inverse_shape = forward_shape


class StickBreakingTransform(Transform):
    """From K - 1 reals to K numbers whose sum is 1: each takes its part, a sigmoid, of what is left of a stick.

    >>> import tapegrad as tg
    >>> f = tg.distributions.StickBreakingTransform()
    >>> y = f(tg.tensor([0.0, 0.0]))
    >>> y, f.inv(y).shape
    (tensor([0.3333, 0.3333, 0.3333]), tapegrad.Size([2]))
    """

    bijective, domain, codomain = True, constraints.real_vector, constraints.simplex

    @staticmethod
    def _offset(x: Tensor) -> Tensor:
        """Log of how many are left, so that x = 0 gives equal parts."""
        n = x.shape[-1]
        return tg.log(tg.arange(n, 0, -1).to(x.dtype))

    def _call(self, x: Tensor) -> Tensor:
        z = x - self._offset(x)
        left = -tg.cumsum(softplus(z), -1)  # log of what is left after each
        zero = tg.zeros_like(x[..., :1])
        return tg.exp(tg.cat([tg.cat([zero, left[..., :-1]], -1) - softplus(-z), left[..., -1:]], -1))

    def _inverse(self, y: Tensor) -> Tensor:
        taken = y[..., :-1]
        left = tg.clamp(tg.flip(tg.cumsum(tg.flip(y[..., 1:], [-1]), -1), [-1]), tiny(y))
        return tg.log(taken) - tg.log(left) + self._offset(taken)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        z = x - self._offset(x)
        return (tg.log(y[..., :-1]) - softplus(z)).sum(-1)

    def forward_shape(self, shape: Any) -> Any:
        if len(shape) < 1:
            raise ValueError("Too few dimensions on input")
        return (*shape[:-1], shape[-1] + 1)

    def inverse_shape(self, shape: Any) -> Any:
        if len(shape) < 1:
            raise ValueError("Too few dimensions on input")
        return (*shape[:-1], shape[-1] - 1)


def _with_diagonal(x: Tensor, diagonal: Tensor) -> Tensor:
    """The lower triangle of a matrix, with another diagonal."""
    return tg.tril(x, -1) + tg.diag_embed(diagonal)


class LowerCholeskyTransform(Transform):
    """The lower triangle of a matrix, with the exponential of its diagonal.

    >>> import tapegrad as tg
    >>> tg.distributions.LowerCholeskyTransform()(tg.tensor([[0.0, 9.0], [3.0, 1.0]]))
    tensor([[1.0000, 0.0000],
            [3.0000, 2.7183]])
    """

    domain, codomain = constraints.independent(constraints.real, 2), constraints.lower_cholesky

    def _call(self, x: Tensor) -> Tensor:
        return _with_diagonal(x, tg.exp(tg.diagonal(x, 0, -2, -1)))

    def _inverse(self, y: Tensor) -> Tensor:
        return _with_diagonal(y, tg.log(tg.diagonal(y, 0, -2, -1)))


class PositiveDefiniteTransform(Transform):
    """L L^T, with L of the lower triangle of a matrix and the exponential of its diagonal.

    >>> import tapegrad as tg
    >>> tg.distributions.PositiveDefiniteTransform()(tg.tensor([[0.0, 9.0], [3.0, 0.0]]))
    tensor([[ 1.,  3.],
            [ 3., 10.]])
    """

    domain, codomain = constraints.independent(constraints.real, 2), constraints.positive_definite

    def _call(self, x: Tensor) -> Tensor:
        low = LowerCholeskyTransform()(x)
        return low @ low.mT

    def _inverse(self, y: Tensor) -> Tensor:
        return LowerCholeskyTransform().inv(tg.linalg.cholesky(y))


class CorrCholeskyTransform(Transform):
    """From D (D - 1) / 2 reals to the Cholesky factor of a D x D correlation matrix.

    Their tanh are canonical partial correlations: each row breaks the stick of what is left of its length, 1
    (Lewandowski, Kurowicka and Joe 2009).

    >>> import tapegrad as tg
    >>> L = tg.distributions.CorrCholeskyTransform()(tg.tensor([1.0]))
    >>> L @ L.T
    tensor([[1.0000, 0.7616],
            [0.7616, 1.0000]])
    """

    bijective, domain, codomain = True, constraints.real_vector, constraints.corr_cholesky

    @staticmethod
    def _rows(n: int) -> tuple[Tensor, Tensor]:
        at = tg.tril_indices(n, n, -1)
        return at[0], at[1]

    @staticmethod
    def _size(n: int) -> int:
        size = round((1 + math.sqrt(1 + 8 * n)) / 2)
        if size * (size - 1) // 2 != n:
            raise ValueError("Input is not a flattened lower-diagonal number")
        return size

    def _matrix(self, x: Tensor) -> Tensor:
        """The numbers in the lower triangle, below the diagonal, row by row."""
        size = self._size(x.shape[-1])
        i, j = self._rows(size)
        empty = x.new_zeros((*x.shape[:-1], size * size))
        at = expanded_index(i * size + j, x)
        return tg.scatter(empty, -1, at, x).reshape((*x.shape[:-1], size, size))

    @staticmethod
    def _log_left(log_kept: Tensor) -> Tensor:
        """Log of what is left of each row before each element."""
        left = tg.cumsum(log_kept, -1)
        return tg.cat([tg.zeros_like(left[..., :1]), left[..., :-1]], -1)

    def _call(self, x: Tensor) -> Tensor:
        m = self._matrix(x)
        # log sech x = log 2 - x - softplus(-2 x): of 0, outside of the triangle, it is 0
        log_kept = math.log(2.0) - m - softplus(-2.0 * m)
        left = tg.exp(self._log_left(log_kept))
        return tg.tanh(m) * left + tg.diag_embed(tg.diagonal(left, 0, -2, -1))

    def _inverse(self, y: Tensor) -> Tensor:
        size = y.shape[-1]
        i, j = self._rows(size)
        squares = tg.tril(y * y, -1)
        left = 1.0 - (tg.cumsum(squares, -1) - squares)
        partial = tg.tril(y, -1) / tg.sqrt(left)
        return tg.atanh(partial[..., i, j])

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        m = self._matrix(x)
        log_kept = math.log(2.0) - m - softplus(-2.0 * m)
        left = tg.tril(self._log_left(log_kept), -1)
        return (left + 2.0 * log_kept).sum((-2, -1))

    def forward_shape(self, shape: Any) -> Any:
        if len(shape) < 1:
            raise ValueError("Too few dimensions on input")
        size = self._size(shape[-1])
        return (*shape[:-1], size, size)

    def inverse_shape(self, shape: Any) -> Any:
        if len(shape) < 2:
            raise ValueError("Too few dimensions on input")
        if shape[-2] != shape[-1]:
            raise ValueError("Input is not square")
        return (*shape[:-2], shape[-1] * (shape[-1] - 1) // 2)


def expanded_index(at: Tensor, like: Tensor) -> Tensor:
    """Positions along the last dimension, for all of a tensor's others."""
    return at.expand((*like.shape[:-1], at.shape[-1]))


class CumulativeDistributionTransform(Transform):
    """y = cdf(x) of a distribution.

    >>> import tapegrad as tg
    >>> f = tg.distributions.CumulativeDistributionTransform(tg.distributions.Normal(0.0, 1.0))
    >>> f(tg.tensor([-1.0, 0.0])), f.inv(tg.tensor([0.5, 0.975]))
    (tensor([0.1587, 0.5000]), tensor([0.0000, 1.9600]))
    """

    bijective, codomain, sign = True, constraints.unit_interval, 1

    def __init__(self, distribution: Any, cache_size: int = 0) -> None:
        super().__init__(cache_size)
        self.distribution = distribution

    def _with_cache_arguments(self) -> dict[str, Any]:
        return {"distribution": self.distribution}

    @property
    def domain(self) -> Any:
        """The support."""
        return self.distribution.support

    def _call(self, x: Tensor) -> Tensor:
        return self.distribution.cdf(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return self.distribution.icdf(y)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return self.distribution.log_prob(x)


class _Parts(Transform):
    """Transforms of parts of a tensor, along a dimension."""

    def __init__(self, tseq: Sequence[Transform], dim: int = 0, cache_size: int = 0) -> None:
        super().__init__(cache_size)
        self.transforms, self.dim = [t.with_cache(cache_size) for t in tseq], dim

    def _with_cache_arguments(self) -> dict[str, Any]:
        return {"tseq": self.transforms, "dim": self.dim}

    bijective = property(lambda self: all(t.bijective for t in self.transforms))

    def _split(self, x: Tensor) -> Sequence[Tensor]:
        raise NotImplementedError

    def _join(self, parts: list[Tensor]) -> Tensor:
        raise NotImplementedError

    def _call(self, x: Tensor) -> Tensor:
        return self._join([t(part) for t, part in zip(self.transforms, self._split(x), strict=True)])

    def _inverse(self, y: Tensor) -> Tensor:
        return self._join([t.inv(part) for t, part in zip(self.transforms, self._split(y), strict=True)])


class CatTransform(_Parts):
    """Transforms of parts that are joined along a dimension, `lengths` long.

    >>> import tapegrad as tg
    >>> from tapegrad.distributions import CatTransform, ExpTransform, identity_transform
    >>> CatTransform([ExpTransform(), identity_transform], lengths=[1, 2])(tg.tensor([0.0, 1.0, 2.0]))
    tensor([1., 1., 2.])
    """

    def __init__(
        self, tseq: Sequence[Transform], dim: int = 0, lengths: Sequence[int] | None = None, cache_size: int = 0
    ) -> None:
        super().__init__(tseq, dim, cache_size)
        self.lengths = [1] * len(self.transforms) if lengths is None else list(lengths)
        if len(self.lengths) != len(self.transforms):
            raise AssertionError(f"lengths ({len(self.lengths)}) must match transforms ({len(self.transforms)})")

    def _with_cache_arguments(self) -> dict[str, Any]:
        return {**super()._with_cache_arguments(), "lengths": self.lengths}

    domain = property(lambda self: constraints.cat([t.domain for t in self.transforms], self.dim, self.lengths))
    codomain = property(lambda self: constraints.cat([t.codomain for t in self.transforms], self.dim, self.lengths))

    @property
    def event_dim(self) -> int:
        """The greatest of the parts."""
        return max(t.event_dim for t in self.transforms)

    def _split(self, x: Tensor) -> Sequence[Tensor]:
        return tg.split(x, self.lengths, self.dim)

    def _join(self, parts: list[Tensor]) -> Tensor:
        return tg.cat(parts, self.dim)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        event_dim, terms = self.event_dim, []
        for t, a, b in zip(self.transforms, self._split(x), self._split(y), strict=True):
            terms.append(sum_rightmost(t.log_abs_det_jacobian(a, b), event_dim - t.domain.event_dim))
        dim = self.dim - x.ndim if self.dim >= 0 else self.dim
        dim += event_dim
        return tg.cat(terms, dim) if dim < 0 else functools.reduce(operator.add, terms)


class StackTransform(_Parts):
    """Transforms of parts that are stacked along a dimension.

    >>> import tapegrad as tg
    >>> from tapegrad.distributions import ExpTransform, StackTransform, identity_transform
    >>> StackTransform([ExpTransform(), identity_transform], dim=1)(tg.tensor([[0.0, 1.0], [2.0, 3.0]]))
    tensor([[1.0000, 1.0000],
            [7.3891, 3.0000]])
    """

    domain = property(lambda self: constraints.stack([t.domain for t in self.transforms], self.dim))
    codomain = property(lambda self: constraints.stack([t.codomain for t in self.transforms], self.dim))

    def _split(self, x: Tensor) -> Sequence[Tensor]:
        return tg.unbind(x, self.dim)

    def _join(self, parts: list[Tensor]) -> Tensor:
        return tg.stack(parts, self.dim)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        parts = zip(self.transforms, self._split(x), self._split(y), strict=True)
        return tg.stack([t.log_abs_det_jacobian(a, b) for t, a, b in parts], self.dim)


__all__ = [
    "AbsTransform", "AffineTransform", "CatTransform", "ComposeTransform", "CorrCholeskyTransform",
    "CumulativeDistributionTransform", "ExpTransform", "IndependentTransform", "LowerCholeskyTransform",
    "PositiveDefiniteTransform", "PowerTransform", "ReshapeTransform", "SigmoidTransform", "SoftmaxTransform",
    "SoftplusTransform", "StackTransform", "StickBreakingTransform", "TanhTransform", "Transform",
    "identity_transform",
]  # fmt: skip
