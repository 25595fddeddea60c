"""Normal distributions of vectors; Wishart's, of matrices, and Lewandowski, Kurowicka and Joe's of correlations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tapegrad import creation
from tapegrad.distributions import constraints
from tapegrad.distributions import operations as tg
from tapegrad.distributions.distribution import (
    HALF_LOG_2PI,
    Distribution,
    expanded,
    lazy_property,
    normal,
    numbers,
)
from tapegrad.distributions.variates import log_standard_gamma
from tapegrad.tensor import Tensor

_MATRICES = ("covariance_matrix", "precision_matrix", "scale_tril")


def _solved(low: Tensor, right: Tensor) -> Tensor:
    return tg.linalg.solve_triangular(low, right, upper=False)


def _whitened(low: Tensor, x: Tensor) -> Tensor:
    """L^-1 x, of vectors: those that share a matrix are its right sides, together."""
    n, batch = low.shape[-1], low.ndim - 2
    x = expanded(x, (*tg.broadcast_shapes(tuple(x.shape[:-1]), tuple(low.shape[:-2])), n))
    sides = x.reshape((-1, *x.shape[x.ndim - 1 - batch :])).movedim(0, -1)
    return _solved(low, sides).movedim(-1, 0).reshape(tuple(x.shape))


def _half_log_det(low: Tensor) -> Tensor:
    return tg.log(tg.diagonal(low, 0, -2, -1)).sum(-1)


def _times_vector(matrix: Tensor, x: Tensor) -> Tensor:
    return (matrix @ x.unsqueeze(-1)).squeeze(-1)


def precision_to_scale_tril(precision: Tensor) -> Tensor:
    """L with L L^T = P^-1: of P = U U^T, U upper triangular, it is U^-T."""
    reversed_low = tg.linalg.cholesky(tg.flip(precision, (-2, -1)))
    upper = tg.flip(reversed_low, (-2, -1))
    return _solved(upper.mT, tg.eye(precision.shape[-1], dtype=precision.dtype).expand(tuple(precision.shape)))


def _one_matrix(given: dict[str, Any]) -> str:
    """The name of the one matrix that is given."""
    names = [name for name, value in given.items() if value is not None]
    if len(names) != 1:
        raise ValueError("Exactly one of covariance_matrix or precision_matrix or scale_tril may be specified.")
    return names[0]


class _OfMatrix(Distribution):
    """Of a positive definite matrix, given as itself, by its inverse or by its Cholesky factor."""

    def _factor(self, name: str) -> Tensor:
        """The Cholesky factor, its batch as it was given."""
        matrix = self._unbroadcast[name]
        if name == "scale_tril":
            return matrix
        return tg.linalg.cholesky(matrix) if name == "covariance_matrix" else precision_to_scale_tril(matrix)

    _unbroadcasted_scale_tril: Tensor

    def _matrix_shape(self) -> tuple[int, ...]:
        n = self._unbroadcasted_scale_tril.shape[-1]
        return (*self._batch_shape, n, n)

    @lazy_property
    def scale_tril(self) -> Tensor:
        """The Cholesky factor L of the covariance."""
        return expanded(self._unbroadcasted_scale_tril, self._matrix_shape())

    @lazy_property
    def covariance_matrix(self) -> Tensor:
        """L L^T."""
        low = self._unbroadcasted_scale_tril
        return expanded(low @ low.mT, self._matrix_shape())

    @lazy_property
    def precision_matrix(self) -> Tensor:
        """(L L^T)^-1."""
        low = self._unbroadcasted_scale_tril
        inverse = _solved(low, tg.eye(low.shape[-1], dtype=low.dtype).expand(tuple(low.shape)))
        return expanded(inverse.mT @ inverse, self._matrix_shape())


class MultivariateNormal(_OfMatrix):
    """The normal distribution of vectors: p(x) = exp(-(x - loc)^T S^-1 (x - loc) / 2) / sqrt(det(2 pi S)).

    Parameters
    ----------
    loc : Tensor or array
        The mean, of shape [..., n].
    covariance_matrix : Tensor or array
        S, of shape [..., n, n]: this is given, or one of the next two.
    precision_matrix : Tensor or array
        The inverse of S.
    scale_tril : Tensor or array
        The lower Cholesky factor of S, which is fastest.

    >>> import tapegrad as tg
    >>> d = tg.distributions.MultivariateNormal(tg.zeros(2), tg.eye(2))
    >>> d.log_prob(tg.zeros(2)), d.entropy()
    (tensor(-1.8379), tensor(2.8379))
    """

    arg_constraints: Any = {
        "loc": constraints.real_vector,
        "covariance_matrix": constraints.positive_definite,
        "precision_matrix": constraints.positive_definite,
        "scale_tril": constraints.lower_cholesky,
    }
    support: Any = constraints.real_vector
    has_rsample = True
    loc: Tensor

    def __init__(
        self,
        loc: Any,
        covariance_matrix: Any = None,
        precision_matrix: Any = None,
        scale_tril: Any = None,
        validate_args: bool | None = None,
    ) -> None:
        if getattr(loc, "ndim", 0) < 1:
            raise ValueError("loc must be at least one-dimensional.")
        given = dict(zip(_MATRICES, (covariance_matrix, precision_matrix, scale_tril), strict=True))
        name = _one_matrix(given)
        if getattr(given[name], "ndim", 0) < 2:
            raise ValueError(f"{name} matrix must be at least two-dimensional, with optional leading batch dimensions")
        self._take(validate_args, loc=loc, **given)
        self._unbroadcasted_scale_tril = self._factor(name)

    def _event_of_parameters(self) -> Any:
        return self.loc.shape[-1:]

    mean = property(lambda self: self.loc)
    mode = property(lambda self: self.loc)

    @property
    def variance(self) -> Tensor:
        return expanded((self._unbroadcasted_scale_tril**2).sum(-1), self.loc.shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        z = normal(self._extended_shape(sample_shape), self.loc)
        return self.loc + _times_vector(self._unbroadcasted_scale_tril, z)

    def _log_prob(self, value: Tensor) -> Tensor:
        low = self._unbroadcasted_scale_tril
        z = _whitened(low, value - self.loc)
        return -0.5 * (z * z).sum(-1) - _half_log_det(low) - HALF_LOG_2PI * self._event_shape[0]

    def entropy(self) -> Tensor:
        half = _half_log_det(self._unbroadcasted_scale_tril) + self._event_shape[0] * (0.5 + HALF_LOG_2PI)
        return expanded(half, self._batch_shape)


class LowRankMultivariateNormal(Distribution):
    """MultivariateNormal with the covariance W W^T + diag(d).

    Parameters
    ----------
    loc : Tensor or array
        The mean, of shape [..., n].
    cov_factor : Tensor or array
        W, of shape [..., n, m], with m small.
    cov_diag : Tensor or array
        d, of shape [..., n].

    >>> import tapegrad as tg
    >>> d = tg.distributions.LowRankMultivariateNormal(tg.zeros(2), tg.zeros(2, 1), tg.ones(2))
    >>> d.log_prob(tg.zeros(2))
    tensor(-1.8379)
    """

    arg_constraints: Any = {
        "loc": constraints.real_vector,
        "cov_factor": constraints.independent(constraints.real, 2),
        "cov_diag": constraints.independent(constraints.positive, 1),
    }
    support: Any = constraints.real_vector
    has_rsample = True
    loc: Tensor
    cov_factor: Tensor
    cov_diag: Tensor

    def __init__(self, loc: Any, cov_factor: Any, cov_diag: Any, validate_args: bool | None = None) -> None:
        if getattr(loc, "ndim", 0) < 1:
            raise ValueError("loc must be at least one-dimensional.")
        n = loc.shape[-1]
        if getattr(cov_factor, "ndim", 0) < 2:
            raise ValueError("cov_factor must be at least two-dimensional, with optional leading batch dimensions")
        if cov_factor.shape[-2] != n:
            raise ValueError(f"cov_factor must be a batch of matrices with shape {n} x m")
        if getattr(cov_diag, "ndim", 0) < 1 or cov_diag.shape[-1] != n:
            raise ValueError(f"cov_diag must be a batch of vectors with shape {(n,)}")
        try:
            self._take(validate_args, loc=loc, cov_factor=cov_factor, cov_diag=cov_diag)
        except RuntimeError as error:
            raise ValueError(
                f"Incompatible batch shapes: loc {loc.shape}, cov_factor {cov_factor.shape}, cov_diag {cov_diag.shape}"
            ) from error
        self._w, self._d = self._unbroadcast["cov_factor"], self._unbroadcast["cov_diag"]
        scaled = self._w.mT / self._d.unsqueeze(-2)
        inner = scaled @ self._w
        self._capacitance_tril = tg.linalg.cholesky(inner + tg.eye(inner.shape[-1], dtype=inner.dtype))
        self._scaled = scaled

    def _event_of_parameters(self) -> Any:
        return self.loc.shape[-1:]

    mean = property(lambda self: self.loc)
    mode = property(lambda self: self.loc)

    @property
    def variance(self) -> Tensor:
        return expanded((self._w**2).sum(-1) + self._d, self.loc.shape)

    def _matrix_shape(self) -> tuple[int, ...]:
        return (*self._batch_shape, self._event_shape[0], self._event_shape[0])

    @lazy_property
    def covariance_matrix(self) -> Tensor:
        """W W^T + diag(d)."""
        return expanded(self._w @ self._w.mT + tg.diag_embed(self._d), self._matrix_shape())

    @lazy_property
    def precision_matrix(self) -> Tensor:
        """Its inverse, by Woodbury's identity."""
        a = _solved(*_matched(self._capacitance_tril, self._scaled))
        return expanded(tg.diag_embed(1.0 / self._d) - a.mT @ a, self._matrix_shape())

    @lazy_property
    def scale_tril(self) -> Tensor:
        """Its Cholesky factor, of a matrix whose eigenvalues are at least 1."""
        root = tg.sqrt(self._d).unsqueeze(-1)
        w = self._w / root
        inner = w @ w.mT + tg.eye(w.shape[-2], dtype=w.dtype)
        return expanded(root * tg.linalg.cholesky(inner), self._matrix_shape())

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = tuple(self._extended_shape(sample_shape))
        w = normal((*shape[:-1], self.cov_factor.shape[-1]), self.loc)
        return self.loc + _times_vector(self._w, w) + tg.sqrt(self._d) * normal(shape, self.loc)

    def _log_det(self) -> Tensor:
        return 2.0 * _half_log_det(self._capacitance_tril) + tg.log(self._d).sum(-1)

    def _square(self, x: Tensor) -> Tensor:
        """x^T S^-1 x, by Woodbury's identity."""
        away = _whitened(self._capacitance_tril, _times_vector(self._scaled, x))
        return (x * x / self._d).sum(-1) - (away * away).sum(-1)

    def _log_prob(self, value: Tensor) -> Tensor:
        n = self._event_shape[0]
        return -0.5 * (self._square(value - self.loc) + self._log_det()) - HALF_LOG_2PI * n

    def entropy(self) -> Tensor:
        return expanded(self._event_shape[0] * (0.5 + HALF_LOG_2PI) + 0.5 * self._log_det(), self._batch_shape)


def _matched(*matrices: Tensor) -> list[Tensor]:
    """Matrices with their batches broadcast."""
    batch = tuple(tg.broadcast_shapes(*(tuple(m.shape[:-2]) for m in matrices)))
    return [expanded(m, batch + tuple(m.shape[-2:])) for m in matrices]


def _multivariate_lgamma(x: Tensor, n: int) -> Tensor:
    """Log of the multivariate gamma function (DLMF 35.3.4)."""
    return tg.lgamma(x.unsqueeze(-1) - 0.5 * _count(n, x)).sum(-1) + 0.25 * n * (n - 1) * math.log(math.pi)


def _count(n: int, like: Tensor) -> Tensor:
    return tg.arange(n).to(like.dtype)


class Wishart(_OfMatrix):
    """Wishart's distribution, of positive definite matrices: that of a sum of `df` squares z z^T, z normal.

    log p(X) = (df - n - 1) / 2 log det X - tr(V^-1 X) / 2 - df / 2 log det(2 V) - log G_n(df / 2).

    Parameters
    ----------
    df : Tensor, array or number
        Degrees of freedom, greater than n - 1.
    covariance_matrix : Tensor or array
        V, of shape [..., n, n]: this is given, or one of the next two.
    precision_matrix : Tensor or array
        The inverse of V.
    scale_tril : Tensor or array
        The lower Cholesky factor of V.

    >>> import tapegrad as tg
    >>> tg.distributions.Wishart(2.0, tg.eye(2)).log_prob(tg.eye(2))
    tensor(-3.5310)
    """

    arg_constraints: Any = {
        "df": constraints.positive,
        "covariance_matrix": constraints.positive_definite,
        "precision_matrix": constraints.positive_definite,
        "scale_tril": constraints.lower_cholesky,
    }
    support: Any = constraints.positive_definite
    has_rsample = True
    df: Tensor

    def __init__(
        self,
        df: Any,
        covariance_matrix: Any = None,
        precision_matrix: Any = None,
        scale_tril: Any = None,
        validate_args: bool | None = None,
    ) -> None:
        given = dict(zip(_MATRICES, (covariance_matrix, precision_matrix, scale_tril), strict=True))
        name = _one_matrix(given)
        if getattr(given[name], "ndim", 0) < 2:
            raise ValueError("scale_tril must be at least two-dimensional, with optional leading batch dimensions")
        self._size = int(given[name].shape[-1])
        self._take(validate_args, df=df, **given)
        if bool((self.df <= self._size - 1).detach().any()):
            raise ValueError(f"Value of df={df} expected to be greater than ndim - 1 = {self._size - 1}.")
        self._unbroadcasted_scale_tril = self._factor(name)

    def _event_of_parameters(self) -> Any:
        return self._size, self._size

    def _degrees(self) -> Tensor:
        """df, with the dimensions of a matrix behind it."""
        return self.df.unsqueeze(-1).unsqueeze(-1)

    mean = property(lambda self: self._degrees() * self.covariance_matrix)

    @property
    def mode(self) -> Tensor:
        factor = self._degrees() - self._size - 1.0
        return tg.where(factor > 0.0, factor * self.covariance_matrix, math.nan)

    @property
    def variance(self) -> Tensor:
        matrix = self.covariance_matrix
        diagonal = tg.diagonal(matrix, 0, -2, -1)
        return self._degrees() * (matrix * matrix + diagonal.unsqueeze(-1) * diagonal.unsqueeze(-2))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """By Bartlett's decomposition: L A A^T L^T, A lower, normal but for its diagonal, of roots of chi-squared."""
        shape = tuple(self._extended_shape(sample_shape))
        half = 0.5 * (self.df.unsqueeze(-1) - _count(self._size, self.df))
        diagonal = tg.exp(0.5 * (math.log(2.0) + log_standard_gamma(half, shape[:-1])))
        low = self._unbroadcasted_scale_tril @ (tg.tril(normal(shape, self.df), -1) + tg.diag_embed(diagonal))
        return low @ low.mT

    def _log_normalizer(self) -> Tensor:
        n, low = self._size, self._unbroadcasted_scale_tril
        return self.df * (0.5 * n * math.log(2.0) + _half_log_det(low)) + _multivariate_lgamma(0.5 * self.df, n)

    def _mean_log_det(self) -> Tensor:
        """E[log det X]."""
        digammas = tg.digamma(0.5 * (self.df.unsqueeze(-1) - _count(self._size, self.df))).sum(-1)
        return digammas + self._size * math.log(2.0) + 2.0 * _half_log_det(self._unbroadcasted_scale_tril)

    def _log_prob(self, value: Tensor) -> Tensor:
        root = tg.linalg.cholesky(value)
        away = _solved(*_matched(self._unbroadcasted_scale_tril, root))
        half_trace = 0.5 * (away * away).sum((-2, -1))
        return (self.df - self._size - 1.0) * _half_log_det(root) - half_trace - self._log_normalizer()

    def entropy(self) -> Tensor:
        n = self._size
        return self._log_normalizer() - 0.5 * (self.df - n - 1.0) * self._mean_log_det() + 0.5 * n * self.df


class LKJCholesky(Distribution):
    """Of Cholesky factors L of n x n correlation matrices R of density proportional to det(R)^(concentration - 1).

    p(L) is proportional to prod_(i > 1) L_ii^(n - i + 2 concentration - 2) (Lewandowski, Kurowicka and Joe 2009).
    They are drawn row by row, as vectors of a random length and direction.

    Parameters
    ----------
    dim : int
        n, at least 2.
    concentration : Tensor, array or number
        1 makes all correlation matrices equally probable; a greater one, those near the unit matrix more.

    >>> import tapegrad as tg
    >>> tg.distributions.LKJCholesky(2, 1.0).log_prob(tg.eye(2))
    tensor(-0.6931)
    """

    arg_constraints: Any = {"concentration": constraints.positive}
    support: Any = constraints.corr_cholesky
    concentration: Tensor

    def __init__(self, dim: int, concentration: Any = 1.0, validate_args: bool | None = None) -> None:
        if dim < 2:
            raise ValueError(f"Expected dim to be an integer greater than or equal to 2. Found dim={dim}.")
        self.dim = dim
        self._take(validate_args, concentration=concentration)
        self._arguments = {"dim": dim, **self._arguments}

    def _event_of_parameters(self) -> Any:
        return self.dim, self.dim

    def _draw(self, shape: tuple[int, ...]) -> Any:
        n, generator = self.dim, creation.random()
        rows = np.arange(1, n)
        # squares of the lengths, of rows 1 and on: what is left of 1 is the diagonal's
        rest = numbers(self.concentration, shape[:-2])[..., None] + 0.5 * (n - 1 - rows)
        squares = generator.beta(0.5 * rows, rest)
        low = np.tril(generator.standard_normal(shape), -1)
        low[..., 1:, :] *= (np.sqrt(squares) / np.linalg.norm(low[..., 1:, :], axis=-1))[..., None]
        index = np.arange(n)
        low[..., index, index] = np.sqrt(np.maximum(1.0 - (low * low).sum(-1), np.finfo(np.float64).tiny))
        return low

    def _log_prob(self, value: Tensor) -> Tensor:
        n, eta = self.dim, self.concentration
        diagonal = tg.diagonal(value, 0, -2, -1)[..., 1:]
        order = 2.0 * (eta.unsqueeze(-1) - 1.0) + (n - 2.0 - _count(n - 1, eta))
        alpha = eta + 0.5 * (n - 1)
        log_normalizer = 0.5 * (n - 1) * math.log(math.pi) + _multivariate_lgamma(alpha - 0.5, n - 1)
        return (order * tg.log(diagonal)).sum(-1) - log_normalizer + (n - 1) * tg.lgamma(alpha)


__all__ = ["LKJCholesky", "LowRankMultivariateNormal", "MultivariateNormal", "Wishart"]
