"""Parametrisations that are known by name: a weight of given norms, of spectral norm 1, orthogonal."""

from __future__ import annotations

from typing import Any

from tapegrad import creation, dtypes, linalg
from tapegrad.functions import decompositions, elementwise, shaping
from tapegrad.nn.module import Module
from tapegrad.nn.utils.norms import Spectral, norm_except_dim
from tapegrad.nn.utils.parametrize import register_parametrization
from tapegrad.tensor import Tensor

_cat: Any = shaping.functions["cat"]
_geqrf: Any = decompositions.functions["geqrf"]
_where: Any = elementwise.functions["where"]


class _WeightNorm(Module):
    def __init__(self, dim: int | None = 0) -> None:
        super().__init__()
        self.dim = -1 if dim is None else dim

    def forward(self, weight_g: Tensor, weight_v: Tensor) -> Tensor:
        return weight_v * (weight_g / norm_except_dim(weight_v, self.dim))

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return norm_except_dim(weight, self.dim), weight


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Learn the norm g of a weight, and its direction v, apart: `w = g v / |v|` (Salimans and Kingma 2016).

    Parameters
    ----------
    module : Module
        What has the weight.
    name : str
        Its name. `parametrizations.<name>.original0` is g, `original1` is v.
    dim : int or None
        Each index of this dimension has a norm of its own; None: there is one norm.

    >>> import tapegrad as tg
    >>> linear = tg.nn.utils.parametrizations.weight_norm(tg.nn.Linear(3, 2))
    >>> linear.parametrizations.weight.original0.shape
    tapegrad.Size([2, 1])
    """
    return register_parametrization(module, name, _WeightNorm(dim), unsafe=True)


class _SpectralNorm(Module):
    def __init__(self, weight: Tensor, n_power_iterations: int, dim: int, eps: float) -> None:
        super().__init__()
        if not -weight.ndim <= dim < weight.ndim:
            raise IndexError(
                f"Dimension out of range (expected to be in range of [-{weight.ndim}, {weight.ndim - 1}] but got {dim})"
            )
        self.spectral = Spectral(n_power_iterations, dim % weight.ndim, eps)
        if weight.ndim > 1:
            u, v = self.spectral.start(weight)
            self.register_buffer("_u", u)
            self.register_buffer("_v", v)

    def forward(self, weight: Tensor) -> Tensor:
        if weight.ndim == 1:
            return weight / weight.norm().clamp(min=self.spectral.eps)
        if self.training:
            self.spectral.iterate(weight, self._u, self._v)
        return weight / self.spectral.norm(weight, self._u, self._v)

    def right_inverse(self, value: Tensor) -> Tensor:
        return value


def spectral_norm(
    module: Module, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> Module:
    """Divide a weight by its largest singular value, found by power iteration (Miyato et al. 2018).

    Parameters
    ----------
    module : Module
        What has the weight.
    name : str
        Its name.
    n_power_iterations : int
        How many there are each time that the weight is asked for, while the module is being trained.
    eps : float
        Vectors are divided by their norm, or this where it is larger.
    dim : int, optional
        What the rows of the matrix are: 0, but 1 for transposed convolutions.

    >>> import tapegrad as tg
    >>> linear = tg.nn.utils.parametrizations.spectral_norm(tg.nn.Linear(3, 2), n_power_iterations=30)
    >>> round(tg.linalg.matrix_norm(linear.weight, 2).item(), 3)
    1.0
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise ValueError(f"Module '{module}' has no parameter or buffer with name '{name}'")
    if dim is None:
        dim = 1 if "ConvTranspose" in type(module).__name__ else 0
    return register_parametrization(module, name, _SpectralNorm(weight, n_power_iterations, dim, eps))


class _Orthogonal(Module):
    def __init__(self, weight: Tensor, orthogonal_map: str, use_trivialization: bool) -> None:
        super().__init__()
        self.shape, self.orthogonal_map, self.has_base = weight.shape, orthogonal_map, use_trivialization
        if use_trivialization:
            self.register_buffer("base", None)

    def forward(self, x: Tensor) -> Tensor:
        is_wide = x.shape[-2] < x.shape[-1]
        x = x.mT if is_wide else x
        n, k = x.shape[-2:]
        if self.orthogonal_map == "householder":
            a = x.tril(-1)
            q = linalg.householder_product(a, 2.0 / (1.0 + (a * a).sum(-2)))
            q = q * x.diagonal(dim1=-2, dim2=-1).detach().trunc().unsqueeze(-2)
        else:
            x = x.tril()
            if n != k:
                x = _cat([x, creation.zeros(*x.shape[:-1], n - k, dtype=x.dtype)], -1)
            a = x - x.mT  # skew-symmetric: its exponential, and its Cayley transform, are orthogonal
            if self.orthogonal_map == "matrix_exp":
                q = linalg.matrix_exp(a)
            else:
                one = creation.eye(n, dtype=a.dtype)
                q = linalg.solve(one - 0.5 * a, one + 0.5 * a)
            q = q[..., :k]
        if self.has_base:
            q = self.base @ q
        return q.mT if is_wide else q

    def right_inverse(self, value: Tensor) -> Tensor:
        if value.shape != self.shape:
            raise ValueError(
                f"Expected a matrix or batch of matrices of shape {self.shape}. Got a tensor of shape {value.shape}."
            )
        is_wide = value.shape[-2] < value.shape[-1]
        q = (value.mT if is_wide else value).detach()
        n, k = q.shape[-2:]
        if self.has_base:
            if n != k:  # with columns beside it, so that it is square
                q = _cat([q, creation.randn(*q.shape[:-1], n - k, dtype=q.dtype)], -1)
            self.base = q.clone() if _is_orthogonal(q) else _orthogonal(q)
            return -creation.eye(*value.shape[-2:], dtype=value.dtype).expand(value.shape)
        if self.orthogonal_map != "householder":
            raise NotImplementedError(
                "It is not possible to assign to the matrix exponential or the Cayley parametrizations when "
                "use_trivialization=False."
            )
        a, tau = _geqrf(q)
        signs = a.diagonal(dim1=-2, dim2=-1).sign() * _where(tau == 0.0, -1.0, 1.0)
        made = a.tril(-1) + a.triu(1) + creation.eye(n, k, dtype=a.dtype) * signs.unsqueeze(-2)
        return made.mT if is_wide else made


def _is_orthogonal(q: Tensor) -> bool:
    n = q.shape[-1]
    error = (q.mT @ q - creation.eye(n, dtype=q.dtype)).abs().amax()
    return error.item() < 10 * n * dtypes.finfo(q.dtype).eps


def _orthogonal(a: Tensor) -> Tensor:
    """The orthogonal matrix of a QR decomposition whose triangle has a positive diagonal."""
    q, r = linalg.qr(a)
    return q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)


def orthogonal(
    module: Module, name: str = "weight", orthogonal_map: str | None = None, *, use_trivialization: bool = True
) -> Module:
    """Have a matrix be orthogonal, or its columns (its rows, where it is wide) orthonormal.

    Parameters
    ----------
    module : Module
        What has the matrix, or batch of matrices.
    name : str
        Its name.
    orthogonal_map : str, optional
        "matrix_exp", "cayley" or "householder"; the first for square matrices, the last for others.
    use_trivialization : bool
        Learn a factor of what the matrix is set to, from the identity on (Lezcano Casado 2019).

    >>> import tapegrad as tg
    >>> weight = tg.nn.utils.parametrizations.orthogonal(tg.nn.Linear(3, 2)).weight
    >>> tg.allclose(weight @ weight.T, tg.eye(2), atol=1e-6)
    True
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise ValueError(f"Module '{module}' has no parameter or buffer with name '{name}'")
    if weight.ndim < 2:
        raise ValueError(f"Expected a matrix or batch of matrices. Got a tensor of {weight.ndim} dimensions.")
    if orthogonal_map is None:
        orthogonal_map = "matrix_exp" if weight.shape[-2] == weight.shape[-1] else "householder"
    if orthogonal_map not in ("matrix_exp", "cayley", "householder"):
        raise ValueError(
            f'orthogonal_map has to be one of "matrix_exp", "cayley", "householder". Got: {orthogonal_map}'
        )
    return register_parametrization(module, name, _Orthogonal(weight, orthogonal_map, use_trivialization), unsafe=True)


__all__ = ["orthogonal", "spectral_norm", "weight_norm"]
