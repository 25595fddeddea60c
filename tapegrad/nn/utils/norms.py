"""Weights of given norms, and of spectral norm 1: the formulas; and the older way to have them, by a hook.

Before each pass the hook makes the weight of what is learned in its place. `parametrizations` has the newer way.
"""

from __future__ import annotations

import warnings
from typing import Any

from tapegrad import creation, linalg
from tapegrad.nn.module import Module
from tapegrad.nn.parameter import Parameter
from tapegrad.tape import current_tape, in_grad_mode
from tapegrad.tensor import Tensor


def norm_except_dim(v: Tensor, dim: int) -> Tensor:
    """The 2-norm for each index of a dimension, over all others; of all where it is -1."""
    if dim == -1:
        return v.norm()
    others = [d for d in range(v.ndim) if d != dim % v.ndim]
    return linalg.vector_norm(v, 2, others, keepdim=True) if others else v.abs()


class Spectral:
    """The largest singular value of a weight, as a matrix, by power iteration.

    Parameters
    ----------
    n_power_iterations : int
        How many at a time.
    dim : int
        Which dimension of the weight is the matrix's first; all others are its second.
    eps : float
        The least norm that a vector is divided by.
    """

    def __init__(self, n_power_iterations: int, dim: int, eps: float) -> None:
        if n_power_iterations <= 0:
            raise ValueError(
                f"Expected n_power_iterations to be positive, but got n_power_iterations={n_power_iterations}"
            )
        self.n_power_iterations, self.dim, self.eps = n_power_iterations, dim, eps

    def matrix(self, weight: Tensor) -> Tensor:
        """The weight as a matrix."""
        return weight.movedim(self.dim, 0).flatten(1)

    def start(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors u, v for `iterate`, with which it has gone some way."""
        h, w = self.matrix(weight).shape
        u, v = (self._normal(creation.randn(n, dtype=weight.dtype)) for n in (h, w))
        self.iterate(weight, u, v, 15)
        return u, v

    def _normal(self, x: Tensor) -> Tensor:
        return x / x.norm().clamp(min=self.eps)

    def iterate(self, weight: Tensor, u: Tensor, v: Tensor, n: int = 0, starts_with_v: bool = False) -> None:
        """Have u, v be nearer to the first singular vectors; they change in place, without derivatives."""
        in_grad_mode(current_tape(), False, self._iterate, weight, u, v, n or self.n_power_iterations, starts_with_v)

    def _iterate(self, weight: Tensor, u: Tensor, v: Tensor, n: int, starts_with_v: bool) -> None:
        matrix = self.matrix(weight.detach())
        for _ in range(n):
            if starts_with_v:
                v.copy_(self._normal(matrix.T @ u))
            u.copy_(self._normal(matrix @ v))
            if not starts_with_v:
                v.copy_(self._normal(matrix.T @ u))

    def norm(self, weight: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """`u^T W v`."""
        return u.clone().dot(self.matrix(weight) @ v.clone())


class _Hook:
    """Before a pass: makes a weight of other parameters, whose names have something behind the weight's."""

    what = ""
    parts: tuple[str, ...] = ()

    def __init__(self, name: str) -> None:
        self.name = name

    def weight(self, module: Any) -> Tensor:
        raise NotImplementedError

    def __call__(self, module: Any, inputs: Any) -> None:
        del inputs
        setattr(module, self.name, self.weight(module))

    def learned(self, module: Any) -> Any:
        """The parameter that the weight is, before the hook has others in its place."""
        for hook in module._forward_pre_hooks.values():
            if type(hook) is type(self) and hook.name == self.name:
                raise RuntimeError(f"Cannot register two {self.what} hooks on the same parameter {self.name}")
        if module._parameters.get(self.name) is None:
            raise ValueError(f"`{self.what}` cannot be applied: there is no parameter `{self.name}`")
        return module._parameters[self.name]

    def add(self, module: Any, parts: dict[str, Tensor]) -> Any:
        """Have a module learn the parts: parameters, or buffers."""
        del module._parameters[self.name]
        for suffix, t in parts.items():
            is_parameter = isinstance(t, Parameter)
            (module.register_parameter if is_parameter else module.register_buffer)(self.name + suffix, t)
        object.__setattr__(module, self.name, self.weight(module))
        module.register_forward_pre_hook(self)
        return module


class _WeightNorm(_Hook):
    what, parts = "weight_norm", ("_g", "_v")

    def __init__(self, name: str, dim: int) -> None:
        super().__init__(name)
        self.dim = dim

    def weight(self, module: Any) -> Tensor:
        g, v = (getattr(module, self.name + suffix) for suffix in self.parts)
        return v * (g / norm_except_dim(v, self.dim))


class _SpectralNorm(_Hook):
    what, parts = "spectral_norm", ("_orig", "_u", "_v")

    def __init__(self, name: str, spectral: Spectral) -> None:
        super().__init__(name)
        self.spectral = spectral

    def weight(self, module: Any) -> Tensor:
        weight, u, v = (getattr(module, self.name + suffix) for suffix in self.parts)
        return weight / self.spectral.norm(weight, u, v)

    def __call__(self, module: Any, inputs: Any) -> None:
        if module.training:
            weight, u, v = (getattr(module, self.name + suffix) for suffix in self.parts)
            self.spectral.iterate(weight, u, v, starts_with_v=True)
        super().__call__(module, inputs)


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Learn the norm of a weight, `<name>_g`, and its direction, `<name>_v`, apart.

    `parametrizations.weight_norm` is the newer way.

    Parameters
    ----------
    module
        What has the weight.
    name
        The name of the weight.
    dim : int or None
        Each index of this dimension has a norm of its own; None: there is one norm.

    >>> import tapegrad as tg
    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     linear = tg.nn.utils.weight_norm(tg.nn.Linear(3, 2))
    >>> list(dict(linear.named_parameters()))
    ['bias', 'weight_g', 'weight_v']
    """
    warnings.warn(
        "`nn.utils.weight_norm` is deprecated in favor of `nn.utils.parametrizations.weight_norm`.",
        FutureWarning,
        stacklevel=2,
    )
    hook = _WeightNorm(name, -1 if dim is None else dim)
    v = hook.learned(module)
    g = Parameter(norm_except_dim(v.detach(), hook.dim))
    return hook.add(module, {"_g": g, "_v": Parameter(v.detach())})


def spectral_norm(
    module: Module, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> Module:
    """Divide a weight by its largest singular value: `<name>_orig` is learned, `<name>_u` and `<name>_v` are buffers.

    `parametrizations.spectral_norm` is the newer way, and has the parameters.

    >>> import tapegrad as tg
    >>> _ = tg.manual_seed(0)
    >>> layer = tg.nn.utils.spectral_norm(tg.nn.Linear(3, 3), n_power_iterations=50)
    >>> _ = layer(tg.ones(3))
    >>> tg.linalg.matrix_norm(layer.weight.detach(), 2).round(decimals=1)
    tensor(1.)
    """
    if dim is None:
        dim = 1 if "ConvTranspose" in type(module).__name__ else 0
    hook = _SpectralNorm(name, Spectral(n_power_iterations, dim, eps))
    weight = hook.learned(module)
    u, v = hook.spectral.start(weight)
    return hook.add(module, {"_orig": weight, "_u": u, "_v": v})


def _removed(module: Any, kind: type[_Hook], name: str) -> Any:
    for key, hook in list(module._forward_pre_hooks.items()):
        if isinstance(hook, kind) and hook.name == name:
            value = in_grad_mode(current_tape(), False, hook.weight, module).detach()
            del module._forward_pre_hooks[key]
            for suffix in ("", *hook.parts):
                delattr(module, name + suffix)
            module.register_parameter(name, Parameter(value))
            return module
    raise ValueError(f"{kind.what} of '{name}' not found in {module}")


def remove_weight_norm(module: Module, name: str = "weight") -> Module:
    """Have a weight of `weight_norm` be a parameter again."""
    return _removed(module, _WeightNorm, name)


def remove_spectral_norm(module: Module, name: str = "weight") -> Module:
    """Have a weight of `spectral_norm` be a parameter again.

    >>> import tapegrad as tg
    >>> layer = tg.nn.utils.spectral_norm(tg.nn.Linear(2, 2))
    >>> [name for name, _ in tg.nn.utils.remove_spectral_norm(layer).named_parameters()]
    ['bias', 'weight']
    """
    return _removed(module, _SpectralNorm, name)


__all__ = ["Spectral", "norm_except_dim", "remove_spectral_norm", "remove_weight_norm", "spectral_norm", "weight_norm"]
