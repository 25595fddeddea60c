"""Pruning: parameters some of whose elements a mask makes zero, as in `torch.nn.utils.prune`.

    weight          -->  weight_orig   parameter
                         weight_mask   buffer, of ones and zeros
                         weight        weight_orig * weight_mask, made again before each call of the module

>>> import tapegrad as tg
>>> from tapegrad.nn.utils import prune
>>> line = tg.nn.Linear(4, 1)
>>> with tg.no_grad():
...     _ = line.weight.copy_(tg.tensor([[1.0, -4.0, 2.0, 3.0]]))
>>> prune.l1_unstructured(line, "weight", amount=2).weight
tensor([[ 0., -4.,  0.,  3.]], grad_fn=<MulBackward0>)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tapegrad import creation
from tapegrad.functions.shaping import functions as shaping
from tapegrad.nn.module import Module
from tapegrad.tensor import Tensor

_cat: Any = shaping["cat"]


class BasePruningMethod:
    """How a mask is made; a subclass has `compute_mask(t, default_mask)`, and says in `PRUNING_TYPE` what it is of.

    "unstructured" masks are of elements, "structured" of slices along the dimension `dim`, "global" of the elements of
    several tensors at once. It is the hook that makes the pruned parameter before each call.
    """

    PRUNING_TYPE: str
    _tensor_name: str

    def __call__(self, module: Module, inputs: Any) -> None:
        """Make the pruned parameter."""
        del inputs
        setattr(module, self._tensor_name, self.apply_mask(module))

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """The mask of a tensor, on top of the one that it has."""
        raise NotImplementedError

    def apply_mask(self, module: Module) -> Tensor:
        """The parameter times its mask."""
        name = self._tensor_name
        original, mask = getattr(module, f"{name}_orig"), getattr(module, f"{name}_mask")
        made: Tensor = mask.to(dtype=original.dtype) * original
        return made

    @classmethod
    def apply(cls, module: Module, name: str, *args: Any, importance_scores: Any = None, **facts: Any) -> Any:
        """Prune a parameter of a module by this method, made of the further arguments; one pruned before, further."""
        known = {
            i: hook
            for i, hook in module._forward_pre_hooks.items()
            if isinstance(hook, BasePruningMethod) and hook._tensor_name == name
        }
        method: Any = cls(*args, **facts)
        method._tensor_name = name
        t = getattr(module, name)
        scores = t if importance_scores is None else importance_scores
        if scores.shape != t.shape:
            raise AssertionError(
                f"importance_scores should have the same shape as parameter {name} of {module}, got {scores.shape} vs "
                f"{t.shape}"
            )
        if known:
            former = [m for hook in known.values() for m in (hook if isinstance(hook, PruningContainer) else [hook])]
            method = PruningContainer(*former, method)
            mask = getattr(module, f"{name}_mask").detach().clone()
        else:
            mask = creation.ones_like(t, requires_grad=False)
        mask = method.compute_mask(scores.detach(), mask)
        for i in known:
            del module._forward_pre_hooks[i]
        if not known:
            module.register_parameter(f"{name}_orig", t)
            del module._parameters[name]
        module.register_buffer(f"{name}_mask", mask)
        setattr(module, name, method.apply_mask(module))
        module.register_forward_pre_hook(method)
        return method

    def prune(self, t: Tensor, default_mask: Any = None, importance_scores: Any = None) -> Tensor:
        """A pruned copy of a tensor, which need not be in a module."""
        scores = t if importance_scores is None else importance_scores
        if scores.shape != t.shape:
            raise AssertionError("importance_scores should have the same shape as tensor t")
        mask = creation.ones_like(t, requires_grad=False) if default_mask is None else default_mask
        made: Tensor = t * self.compute_mask(scores, mask)
        return made

    def remove(self, module: Module) -> None:
        """Leave the parameter as it is pruned, without a mask."""
        name = self._tensor_name
        if getattr(module, name, None) is None:
            raise AssertionError(
                f"Module {module} has to be pruned before pruning can be removed: it has no parameter {name}"
            )
        weight, original = self.apply_mask(module), module._parameters.pop(f"{name}_orig")
        del module._buffers[f"{name}_mask"]
        if name in vars(module):
            delattr(module, name)
        original.data = weight.detach()
        module.register_parameter(name, original)


class PruningContainer(BasePruningMethod):
    """Several methods of one parameter, one after the other."""

    PRUNING_TYPE = "container"

    def __init__(self, *args: Any) -> None:
        self._pruning_methods: tuple[Any, ...] = ()
        methods = args[0] if len(args) == 1 and not isinstance(args[0], BasePruningMethod) else args
        for i, method in enumerate(methods):
            if i == 0:
                self._tensor_name = method._tensor_name
            self.add_pruning_method(method)

    def add_pruning_method(self, method: Any) -> None:
        """Prune by a further method."""
        if method is not None and not isinstance(method, BasePruningMethod):
            raise TypeError(f"{type(method)} is not a BasePruningMethod subclass")
        if method is not None and method._tensor_name != self._tensor_name:
            raise ValueError(
                "Can only add pruning methods acting on the parameter named "
                f"'{self._tensor_name}' to PruningContainer {self}. Found '{method._tensor_name}'"
            )
        self._pruning_methods += (method,)

    def __len__(self) -> int:
        return len(self._pruning_methods)

    def __iter__(self) -> Any:
        return iter(self._pruning_methods)

    def __getitem__(self, index: Any) -> Any:
        return self._pruning_methods[index]

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """The mask with what the last method takes of what is left."""
        method, mask = self._pruning_methods[-1], default_mask.to(dtype=t.dtype)
        if method.PRUNING_TYPE == "unstructured":
            left: Any = mask == 1
        elif method.PRUNING_TYPE == "structured":
            dim = method.dim + t.ndim if method.dim < 0 else method.dim
            others = tuple(d for d in range(t.ndim) if d != dim)
            kept = mask.sum(others) != 0 if others else mask != 0
            left = (slice(None),) * dim + (kept,)
        elif method.PRUNING_TYPE == "global":
            left = tuple(slice(None) for _ in t.shape)
        else:
            raise ValueError(f"Unrecognized PRUNING_TYPE {method.PRUNING_TYPE}")
        mask = mask.clone()
        mask[left] = method.compute_mask(t[left], mask[left])
        return mask


class Identity(BasePruningMethod):
    """Nothing is pruned, but there is a mask."""

    PRUNING_TYPE = "unstructured"

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """The mask that it has."""
        del t
        return default_mask


class _ByAmount(BasePruningMethod):
    """So many elements, or such a part of them."""

    PRUNING_TYPE = "unstructured"

    def __init__(self, amount: float) -> None:
        _check_amount(amount)
        self.amount = amount

    def _without(self, mask: Tensor, chosen: Any) -> Tensor:
        made = mask.clone()
        made.view(-1)[chosen] = 0
        return made


class RandomUnstructured(_ByAmount):
    """Elements that are drawn."""

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """See `BasePruningMethod`."""
        n = _number(self.amount, t.numel())
        return self._without(default_mask, creation.rand_like(t).view(-1).topk(n).indices) if n else default_mask


class L1Unstructured(_ByAmount):
    """The smallest elements."""

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """See `BasePruningMethod`."""
        n = _number(self.amount, t.numel())
        chosen = t.detach().abs().reshape(-1).topk(n, largest=False).indices if n else None
        return default_mask if chosen is None else self._without(default_mask, chosen)


class _Structured(BasePruningMethod):
    """Slices along a dimension: those whose scores are the smallest."""

    PRUNING_TYPE = "structured"

    def __init__(self, amount: float, dim: int = -1) -> None:
        _check_amount(amount)
        self.amount, self.dim = amount, dim

    def _scores(self, t: Tensor, others: tuple[int, ...], n: int) -> Tensor:
        raise NotImplementedError

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """See `BasePruningMethod`."""
        if t.ndim <= 1:
            raise ValueError(
                "Structured pruning can only be applied to multidimensional tensors. Found tensor of shape "
                f"{tuple(t.shape)} with {t.ndim} dims"
            )
        if not -t.ndim <= self.dim < t.ndim:
            raise IndexError(f"Invalid index {self.dim} for tensor of size {t.shape}")
        dim = self.dim % t.ndim
        n = t.shape[dim]
        n_pruned = _number(self.amount, n)
        if not n_pruned:
            return default_mask
        scores = self._scores(t.detach(), tuple(d for d in range(t.ndim) if d != dim), n)
        mask = creation.zeros_like(t)
        if n > n_pruned:
            mask[(slice(None),) * dim + (scores.topk(n - n_pruned).indices,)] = 1
        return mask * default_mask.to(dtype=t.dtype)


class RandomStructured(_Structured):
    """Slices along a dimension, drawn."""

    def _scores(self, t: Tensor, others: tuple[int, ...], n: int) -> Tensor:
        del t, others
        return creation.rand(n)


class LnStructured(_Structured):
    """Slices along a dimension, those whose norm of order `n` is the smallest."""

    def __init__(self, amount: float, n: Any, dim: int = -1) -> None:
        super().__init__(amount, dim)
        self.n = n

    def _scores(self, t: Tensor, others: tuple[int, ...], n: int) -> Tensor:
        del n
        made: Tensor = t.norm(self.n, dim=others)
        return made


class CustomFromMask(BasePruningMethod):
    """By a mask that is given."""

    PRUNING_TYPE = "global"

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """See `BasePruningMethod`."""
        del t
        if default_mask.shape != self.mask.shape:
            raise AssertionError(
                f"mask of shape {tuple(self.mask.shape)} for a parameter of shape {tuple(default_mask.shape)}"
            )
        return default_mask * self.mask.to(dtype=default_mask.dtype)


def _check_amount(amount: Any) -> None:
    if isinstance(amount, bool) or not isinstance(amount, (int, float)):
        raise TypeError(f"Invalid type for amount: {amount}. Must be int or float.")
    if amount < 0 or (isinstance(amount, float) and amount > 1.0):
        raise ValueError(f"amount={amount} should either be a float in the range [0, 1] or a non-negative integer")


def _number(amount: float, n: int) -> int:
    """How many of so many."""
    if isinstance(amount, int) and amount > n:
        raise ValueError(f"amount={amount} should be smaller than the number of parameters to prune={n}")
    return amount if isinstance(amount, int) else round(amount * n)


def identity(module: Any, name: str) -> Any:
    """Give a parameter a mask of ones; returns the module."""
    Identity.apply(module, name)
    return module


def random_unstructured(module: Any, name: str, amount: float) -> Any:
    """Prune so many elements of a parameter, or such a part of them, that are drawn; returns the module."""
    RandomUnstructured.apply(module, name, amount=amount)
    return module


def l1_unstructured(module: Any, name: str, amount: float, importance_scores: Tensor | None = None) -> Any:
    """Prune the smallest elements of a parameter, or those with the smallest scores; returns the module."""
    L1Unstructured.apply(module, name, amount=amount, importance_scores=importance_scores)
    return module


def random_structured(module: Any, name: str, amount: float, dim: int) -> Any:
    """Prune slices along a dimension of a parameter, that are drawn; returns the module."""
    RandomStructured.apply(module, name, amount=amount, dim=dim)
    return module


def ln_structured(
    module: Any, name: str, amount: float, n: Any, dim: int, importance_scores: Tensor | None = None
) -> Any:
    """Prune the slices along a dimension of a parameter whose norms of order `n` are smallest; returns the module."""
    LnStructured.apply(module, name, amount=amount, n=n, dim=dim, importance_scores=importance_scores)
    return module


def custom_from_mask(module: Any, name: str, mask: Tensor) -> Any:
    """Prune a parameter by a mask; returns the module."""
    CustomFromMask.apply(module, name, mask=mask)
    return module


def global_unstructured(
    parameters: Iterable[tuple[Any, str]], pruning_method: Any, importance_scores: Any = None, **kwargs: Any
) -> None:
    """Prune the elements of several parameters, `(module, name)` each, as if they were one vector."""
    given = list(parameters)
    if importance_scores is not None and not isinstance(importance_scores, dict):
        raise TypeError("global_unstructured(): importance_scores must be of type dict")
    scores = importance_scores or {}
    vector = _cat([scores.get((m, name), getattr(m, name)).detach().reshape(-1) for m, name in given])
    masks = [getattr(m, f"{name}_mask", creation.ones_like(getattr(m, name), requires_grad=False)) for m, name in given]
    method = pruning_method(**kwargs)
    method._tensor_name = "temp"
    if method.PRUNING_TYPE != "unstructured":
        raise TypeError(
            'Only "unstructured" PRUNING_TYPE supported for the `pruning_method`. Found method '
            f"{pruning_method} of type {method.PRUNING_TYPE}"
        )
    several = PruningContainer(method)
    mask = several.compute_mask(vector, _cat([m.reshape(-1) for m in masks]))
    at = 0
    for module, name in given:
        t = getattr(module, name)
        custom_from_mask(module, name, mask[at : at + t.numel()].view(t.shape))
        at += t.numel()


def remove(module: Any, name: str) -> Any:
    """Leave a parameter as it is pruned, without a mask; returns the module."""
    for number, hook in module._forward_pre_hooks.items():
        if isinstance(hook, BasePruningMethod) and hook._tensor_name == name:
            hook.remove(module)
            del module._forward_pre_hooks[number]
            return module
    raise ValueError(f"Parameter '{name}' of module {module} has to be pruned before pruning can be removed")


def is_pruned(module: Any) -> bool:
    """Whether a parameter of a module, or of one in it, has a mask.

    Raises
    ------
    TypeError
        Where it is no module.
    """
    if not isinstance(module, Module):
        raise TypeError(f"expected a Module, but got {type(module).__name__}")
    return any(isinstance(h, BasePruningMethod) for m in module.modules() for h in m._forward_pre_hooks.values())


__all__ = [
    "BasePruningMethod", "CustomFromMask", "Identity", "L1Unstructured", "LnStructured", "PruningContainer",
    "RandomStructured", "RandomUnstructured", "custom_from_mask", "global_unstructured", "identity", "is_pruned",
    "l1_unstructured", "ln_structured", "random_structured", "random_unstructured", "remove",
]  # fmt: skip
