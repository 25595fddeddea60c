"""The methods: what a parameter p becomes by its gradient g.

    m <- b1 m + (1 - b1) g        v <- b2 v + (1 - b2) g^2        decaying means of gradients and of their squares

Each is a formula over Tensors, whose sources its docstring names, and numbers that change from step to step; numbers,
options and the order of operations are PyTorch's. `foreach`,
`fused` and `capturable` say how PyTorch goes about it, and change nothing here: all parameters are swept at once.
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import Any

from tapegrad import creation
from tapegrad.functions import elementwise
from tapegrad.optim.optimizer import Group, Optimizer, State
from tapegrad.optim.states import Counted, count
from tapegrad.replay.standins import applied
from tapegrad.tensor import Tensor

_where: Any = elementwise.functions["where"]


def number(value: Any) -> float:
    """An option, which may be a Tensor of one element."""
    return value.item() if isinstance(value, Tensor) else value


def sqrt(x: float) -> float:
    """Its root; it may stand for what it is at each call of a compiled function."""
    return applied(math.sqrt, x)


def step_of(state: State) -> int:
    """Which step this is, from 1 on."""
    before: Any = state.get("step", 0)
    t: int = 1 + (before if before.__class__ is int else int(number(before)))
    count(state, "step", t)
    return t


def mean(state: State, name: str, value: Tensor, weight: float) -> Tensor:
    """A decaying mean: `(1 - weight)` of what it was, from 0 on, and `weight` of the value."""
    before = state.get(name)
    now = state[name] = value * weight if before is None else before + (value - before) * weight
    return now


def _mean_square(state: State, name: str, value: Tensor, decay: float, weight: float) -> Tensor:
    """A decaying mean of squares; the weight is what decays, in PyTorch's order of operations."""
    before, square = state.get(name), value * weight * value
    now = state[name] = square if before is None else before * decay + square
    return now


class _Method(Optimizer):
    """What the methods share: options that are checked, and formulas that are the same for all parameters."""

    checked = "lr eps weight_decay betas momentum rho alpha lr_decay"
    _of_states = Counted

    def __init_subclass__(cls, **facts: Any) -> None:
        """One with an `update` of its own has no formula that is known."""
        super().__init_subclass__(**facts)
        if "update" in vars(cls):
            cls.alike = False
        elif "formula" in vars(cls):
            cls.alike = True

    def numbers(self, group: Group, state: State) -> tuple[Any, ...]:
        """The numbers of a step, which changes counters of the state."""
        raise NotImplementedError

    def formula(self, group: Group, p: Tensor, g: Tensor, state: State, *numbers: Any) -> Tensor:
        """What a parameter becomes, as `update`. It makes no numbers of these, and none of tensors of the options."""
        raise NotImplementedError

    def update(self, group: Group, p: Tensor, g: Tensor, state: State) -> Tensor:
        """See `Optimizer`."""
        return self.formula(group, p, g, state, *self.numbers(group, state))

    def check(self, options: Group) -> None:
        """PyTorch's errors for options that are out of range."""
        super().check(options)
        for name in self.checked.split():
            if name not in options:
                continue
            if name == "betas":
                for i, beta in enumerate(options["betas"]):
                    if not 0.0 <= number(beta) < 1.0:
                        raise ValueError(f"Invalid beta parameter at index {i}: {beta}")
            elif not number(options[name]) >= 0 or (name == "rho" and options[name] > 1.0):
                said = {"lr": "learning rate", "eps": "epsilon value"}.get(name, f"{name} value")
                raise ValueError(f"Invalid {said}: {options[name]}")


class SGD(_Method):
    """Gradient descent, with momentum (Polyak 1964) or Nesterov's (Sutskever et al. 2013).

    `buf <- momentum buf + (1 - dampening) g`, `p <- p - lr buf`.

    Parameters
    ----------
    params : iterable
        What is optimised: see `Optimizer`.
    lr : float
        The learning rate.
    momentum : float
        How much of `buf` stays at each step.
    dampening : float
        How much of g is left out of `buf`.
    weight_decay : float
        So much of p is added to g.
    nesterov : bool
        Whether the momentum is Nesterov's.
    maximize : bool
        Go up instead of down.

    >>> import tapegrad as tg
    >>> x = tg.tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = tg.optim.SGD([x], lr=0.1)
    >>> (x * x).sum().backward()
    >>> optimizer.step()
    >>> x
    tensor([ 0.8000, -1.6000], requires_grad=True)
    """

    numbered = MappingProxyType({"lr": None, "momentum": None})

    def __init__(
        self, params: Any, lr: Any = 1e-3, momentum: float = 0, dampening: float = 0, weight_decay: float = 0,
        nesterov: bool = False, *, maximize: bool = False, foreach: Any = None, differentiable: bool = False,
        fused: Any = None,
    ) -> None:  # fmt: skip
        defaults = {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "nesterov": nesterov,
            "maximize": maximize, "foreach": foreach, "differentiable": differentiable, "fused": fused,
        }  # fmt: skip
        super().__init__(params, defaults)

    def check(self, options: Group) -> None:
        """See `Optimizer`."""
        super().check(options)
        if options["nesterov"] and (options["momentum"] <= 0 or options["dampening"] != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")

    def numbers(self, group: Group, state: State) -> tuple[Any, ...]:
        """See `_Method`."""
        del state
        first, momentum = (number(group["lr"]), number(group["weight_decay"])), group["momentum"]
        return (*first, momentum) if momentum else first

    def formula(self, group: Group, p: Tensor, g: Tensor, state: State, *numbers: Any) -> Tensor:
        """See `_Method`."""
        lr, decay, *momentum = numbers
        if group["weight_decay"]:
            g = g + p * decay
        if momentum:
            before = state.get("momentum_buffer")
            now = g.clone() if before is None else before * momentum[0] + g * (1 - group["dampening"])
            state["momentum_buffer"] = now
            g = g + now * momentum[0] if group["nesterov"] else now
        return p - g * lr


class Adam(_Method):
    """Adam (Kingma and Ba 2015), with AMSGrad (Reddi et al. 2018).

    `p <- p - lr / (1 - b1^t) m / (sqrt(v / (1 - b2^t)) + eps)`, of the means m of g and v of g^2.

    Parameters
    ----------
    params : iterable
        What is optimised: see `Optimizer`.
    lr : float
        The learning rate.
    betas : tuple of float
        How much of the means of g and of g^2 stays at each step: b1 and b2.
    eps : float
        Added to what is divided by.
    weight_decay : float
        So much of p is added to g.
    amsgrad : bool
        Divide by the largest v so far.
    maximize : bool
        Go up instead of down.
    decoupled_weight_decay : bool
        Take `lr weight_decay p` away from p instead of adding to g.

    >>> import tapegrad as tg
    >>> x = tg.tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = tg.optim.Adam([x], lr=0.1)
    >>> for _ in range(100):
    ...     optimizer.zero_grad()
    ...     ((x - 3) ** 2).sum().backward()
    ...     optimizer.step()
    >>> bool(((x - 3).abs() < 0.1).all())
    True
    """

    numbered = MappingProxyType({"lr": None, "betas": None})

    def __init__(
        self, params: Any, lr: Any = 1e-3, betas: tuple[Any, Any] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0, amsgrad: bool = False, *, foreach: Any = None, maximize: bool = False,
        capturable: bool = False, differentiable: bool = False, fused: Any = None, decoupled_weight_decay: bool = False,
    ) -> None:  # fmt: skip
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad,
            "maximize": maximize, "foreach": foreach, "capturable": capturable, "differentiable": differentiable,
            "fused": fused, "decoupled_weight_decay": decoupled_weight_decay,
        }  # fmt: skip
        super().__init__(params, defaults)

    def check(self, options: Group) -> None:
        """See `Optimizer`."""
        super().check(options)
        betas = options["betas"]
        if isinstance(betas[0], Tensor) != isinstance(betas[1], Tensor):
            raise ValueError("betas must be either both floats or both Tensors")
        if options["foreach"] and not options["capturable"]:  # as in PyTorch, whose programs must not differ
            for name, value in (("lr", options["lr"]), ("betas[0]", betas[0]), ("betas[1]", betas[1])):
                if isinstance(value, Tensor):
                    raise ValueError(f"{name} as a Tensor is not supported for capturable=False and foreach=True")

    def numbers(self, group: Group, state: State) -> tuple[Any, ...]:
        """See `_Method`."""
        t, lr, (b1, b2) = step_of(state), number(group["lr"]), map(number, group["betas"])
        return 1 - lr * group["weight_decay"], 1 - b1, b2, 1 - b2, sqrt(1 - b2**t), -(lr / (1 - b1**t))

    def formula(self, group: Group, p: Tensor, g: Tensor, state: State, *numbers: Any) -> Tensor:
        """See `_Method`."""
        shrinks, weight, decay, of_square, scale, rate = numbers
        if group["weight_decay"]:
            if group["decoupled_weight_decay"]:
                p = p * shrinks
            else:
                g = g + p * group["weight_decay"]
        m = mean(state, "exp_avg", g, weight)
        v = _mean_square(state, "exp_avg_sq", g, decay, of_square)
        if group["amsgrad"]:
            largest = state.get("max_exp_avg_sq")
            v = state["max_exp_avg_sq"] = v.clone() if largest is None else largest.maximum(v)
        return p + m * rate / (v.sqrt() / scale + group["eps"])


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019): see `Adam`.

    Parameters
    ----------
    params : iterable
        What is optimised: see `Optimizer`.
    lr : float
        The learning rate.
    betas : tuple of float
        How much of the means of g and of g^2 stays at each step: b1 and b2.
    eps : float
        Added to what is divided by.
    weight_decay : float
        `lr weight_decay p` is taken away from p.
    amsgrad : bool
        Divide by the largest v so far.
    maximize : bool
        Go up instead of down.

    >>> import tapegrad as tg
    >>> w = tg.ones(1, requires_grad=True)
    >>> optimiser = tg.optim.AdamW([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimiser.step()
    >>> w
    tensor([0.8990], requires_grad=True)
    """

    def __init__(
        self, params: Any, lr: Any = 1e-3, betas: tuple[Any, Any] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 1e-2, amsgrad: bool = False, *, maximize: bool = False, foreach: Any = None,
        capturable: bool = False, differentiable: bool = False, fused: Any = None,
    ) -> None:  # fmt: skip
        super().__init__(
            params, lr, betas, eps, weight_decay, amsgrad, foreach=foreach, maximize=maximize, capturable=capturable,
            differentiable=differentiable, fused=fused, decoupled_weight_decay=True,
        )  # fmt: skip


class SparseAdam(_Method):
    """Adam for sparse gradients, of which there are none here: a step refuses dense ones, as PyTorch's does."""

    def __init__(
        self, params: Any, lr: Any = 1e-3, betas: tuple[Any, Any] = (0.9, 0.999), eps: float = 1e-8,
        maximize: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "maximize": maximize})

    def check(self, options: Group) -> None:
        """See `Optimizer`."""
        super().check(options)
        for name, said in (("lr", "learning rate"), ("eps", "epsilon value")):
            if not number(options[name]) > 0:
                raise ValueError(f"Invalid {said}: {options[name]}")

    def update(self, group: Group, p: Tensor, g: Tensor, state: State) -> Tensor:
        """See `Optimizer`."""
        del group, p, g, state
        raise RuntimeError("SparseAdam does not support dense gradients, please consider Adam instead")


class Adagrad(_Method):
    """Adagrad (Duchi et al. 2011): `s <- s + g^2`, `p <- p - lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps)`.

    Parameters
    ----------
    params : iterable
        What is optimised: see `Optimizer`.
    lr : float
        The learning rate.
    lr_decay : float
        How much the rate falls from step to step.
    weight_decay : float
        So much of p is added to g.
    initial_accumulator_value : float
        What s is at first.
    eps : float
        Added to what is divided by.
    maximize : bool
        Go up instead of down.

    >>> import tapegrad as tg
    >>> x = tg.tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = tg.optim.Adagrad([x], lr=1.0)
    >>> for _ in range(100):
    ...     optimizer.zero_grad()
    ...     ((x - 3) ** 2).sum().backward()
    ...     optimizer.step()
    >>> bool(((x - 3).abs() < 0.1).all())
    True
    """

    checked = "lr lr_decay weight_decay initial_accumulator_value eps"

    def __init__(
        self, params: Any, lr: Any = 1e-2, lr_decay: float = 0, weight_decay: float = 0,
        initial_accumulator_value: float = 0, eps: float = 1e-10, foreach: Any = None, *, maximize: bool = False,
        differentiable: bool = False, fused: Any = None,
    ) -> None:  # fmt: skip
        defaults = {
            "lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value, "foreach": foreach, "maximize": maximize,
            "differentiable": differentiable, "fused": fused,
        }  # fmt: skip
        super().__init__(params, defaults)
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p].update(step=0, sum=creation.full_like(p, initial_accumulator_value))

    def numbers(self, group: Group, state: State) -> tuple[Any, ...]:
        """See `_Method`."""
        t = step_of(state)
        return (-(number(group["lr"]) / (1 + (t - 1) * group["lr_decay"])),)

    def formula(self, group: Group, p: Tensor, g: Tensor, state: State, *numbers: Any) -> Tensor:
        """See `_Method`."""
        if group["weight_decay"]:
            g = g + p * group["weight_decay"]
        before: Any = state.get("sum", group["initial_accumulator_value"])
        s = state["sum"] = g * g + before
        return p + g * numbers[0] / (s.sqrt() + group["eps"])


class RMSprop(_Method):
    """RMSprop (Hinton 2012), centred as Graves' (2013): `p <- p - lr g / (sqrt(v - mean(g)^2) + eps)`.

    Parameters
    ----------
    params : iterable
        What is optimised: see `Optimizer`.
    lr : float
        The learning rate.
    alpha : float
        How much of v, the mean of g^2, stays at each step.
    eps : float
        Added to what is divided by.
    weight_decay : float
        So much of p is added to g.
    momentum : float
        How much of the steps before is gone again.
    centered : bool
        Whether the square of the mean of g is taken from v.
    maximize : bool
        Go up instead of down.

    >>> import tapegrad as tg
    >>> w = tg.ones(1, requires_grad=True)
    >>> optimiser = tg.optim.RMSprop([w], lr=0.01)
    >>> (w * w).sum().backward()
    >>> optimiser.step()
    >>> w
    tensor([0.9000], requires_grad=True)
    """

    def __init__(
        self, params: Any, lr: Any = 1e-2, alpha: float = 0.99, eps: float = 1e-8, weight_decay: float = 0,
        momentum: float = 0, centered: bool = False, capturable: bool = False, foreach: Any = None,
        maximize: bool = False, differentiable: bool = False,
    ) -> None:  # fmt: skip
        defaults = {
            "lr": lr, "momentum": momentum, "alpha": alpha, "eps": eps, "centered": centered,
            "weight_decay": weight_decay, "capturable": capturable, "foreach": foreach, "maximize": maximize,
            "differentiable": differentiable,
        }  # fmt: skip
        super().__init__(params, defaults)

    def numbers(self, group: Group, state: State) -> tuple[Any, ...]:
        """See `_Method`."""
        step_of(state)
        lr = number(group["lr"])
        return lr, -lr

    def formula(self, group: Group, p: Tensor, g: Tensor, state: State, *numbers: Any) -> Tensor:
        """See `_Method`."""
        alpha = group["alpha"]
        if group["weight_decay"]:
            g = g + p * group["weight_decay"]
        v = _mean_square(state, "square_avg", g, alpha, 1 - alpha)
        if group["centered"]:
            m = mean(state, "grad_avg", g, 1 - alpha)
            v = v - m * m
        root, (lr, rate) = v.sqrt() + group["eps"], numbers
        if not group["momentum"]:
            return p + g * rate / root
        scaled, before = g / root, state.get("momentum_buffer")
        scaled = state["momentum_buffer"] = scaled if before is None else before * group["momentum"] + scaled
        return p - scaled * lr


class Adadelta(_Method):
    """Adadelta (Zeiler 2012): steps in the units of p, by decaying means of squares of gradients and of steps.

    Parameters
    ----------
    params : iterable
        What is optimised: see `Optimizer`.
    lr : float
        The learning rate.
    rho : float
        How much of the means of squares stays at each step.
    eps : float
        Added to what is divided by.
    weight_decay : float
        So much of p is added to g.
    maximize : bool
        Go up instead of down.

    >>> import tapegrad as tg
    >>> x = tg.tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = tg.optim.Adadelta([x], lr=100.0)
    >>> for _ in range(100):
    ...     optimizer.zero_grad()
    ...     ((x - 3) ** 2).sum().backward()
    ...     optimizer.step()
    >>> bool(((x - 3).abs() < 0.1).all())
    True
    """

    def __init__(
        self, params: Any, lr: Any = 1.0, rho: float = 0.9, eps: float = 1e-6, weight_decay: float = 0,
        foreach: Any = None, *, capturable: bool = False, maximize: bool = False, differentiable: bool = False,
    ) -> None:  # fmt: skip
        defaults = {
            "lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize,
            "capturable": capturable, "foreach": foreach, "differentiable": differentiable,
        }  # fmt: skip
        super().__init__(params, defaults)

    def numbers(self, group: Group, state: State) -> tuple[Any, ...]:
        """See `_Method`."""
        step_of(state)
        return (number(group["lr"]),)

    def formula(self, group: Group, p: Tensor, g: Tensor, state: State, *numbers: Any) -> Tensor:
        """See `_Method`."""
        rho, eps = group["rho"], group["eps"]
        if group["weight_decay"]:
            g = g + p * group["weight_decay"]
        v = _mean_square(state, "square_avg", g, rho, 1 - rho)
        before = state.get("acc_delta")
        of_steps = creation.full_like(v, eps).sqrt() if before is None else (before + eps).sqrt()
        delta = of_steps / (v + eps).sqrt() * g
        _mean_square(state, "acc_delta", delta, rho, 1 - rho)
        return p - delta * numbers[0]


class Adamax(_Method):
    """Adamax (Kingma and Ba 2015): `u <- max(b2 u, |g| + eps)`, `p <- p - lr / (1 - b1^t) m / u`.

    Parameters
    ----------
    params : iterable
        What is optimised: see `Optimizer`.
    lr : float
        The learning rate.
    betas : tuple of float
        How much of m, the mean of g, and of u stays at each step: b1 and b2.
    eps : float
        Added to what is divided by.
    weight_decay : float
        So much of p is added to g.
    maximize : bool
        Go up instead of down.

    >>> import tapegrad as tg
    >>> x = tg.tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = tg.optim.Adamax([x], lr=0.2)
    >>> for _ in range(100):
    ...     optimizer.zero_grad()
    ...     ((x - 3) ** 2).sum().backward()
    ...     optimizer.step()
    >>> bool(((x - 3).abs() < 0.1).all())
    True
    """

    def __init__(
        self, params: Any, lr: Any = 2e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0, foreach: Any = None, *, maximize: bool = False, differentiable: bool = False,
        capturable: bool = False,
    ) -> None:  # fmt: skip
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "foreach": foreach,
            "maximize": maximize, "differentiable": differentiable, "capturable": capturable,
        }  # fmt: skip
        super().__init__(params, defaults)

    def numbers(self, group: Group, state: State) -> tuple[Any, ...]:
        """See `_Method`."""
        return (-(number(group["lr"]) / (1 - group["betas"][0] ** step_of(state))),)

    def formula(self, group: Group, p: Tensor, g: Tensor, state: State, *numbers: Any) -> Tensor:
        """See `_Method`."""
        b1, b2 = group["betas"]
        if group["weight_decay"]:
            g = g + p * group["weight_decay"]
        m, size, before = mean(state, "exp_avg", g, 1 - b1), g.abs() + group["eps"], state.get("exp_inf")
        u = state["exp_inf"] = size if before is None else (before * b2).maximum(size)
        return p + m * numbers[0] / u


class NAdam(_Method):
    """Adam with Nesterov's momentum (Dozat 2016), whose momentum grows: `b1 (1 - 0.96^(t momentum_decay) / 2)`.

    Parameters
    ----------
    params : iterable
        What is optimised: see `Optimizer`.
    lr : float
        The learning rate.
    betas : tuple of float
        How much of the means of g and of g^2 stays at each step: b1 and b2.
    eps : float
        Added to what is divided by.
    weight_decay : float
        So much of p is added to g.
    momentum_decay : float
        How fast the momentum grows to b1.
    decoupled_weight_decay : bool
        Take `lr weight_decay p` away from p instead of adding to g.
    maximize : bool
        Go up instead of down.

    >>> import tapegrad as tg
    >>> x = tg.tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = tg.optim.NAdam([x], lr=0.3)
    >>> for _ in range(100):
    ...     optimizer.zero_grad()
    ...     ((x - 3) ** 2).sum().backward()
    ...     optimizer.step()
    >>> bool(((x - 3).abs() < 0.1).all())
    True
    """

    checked = "lr eps betas weight_decay momentum_decay"

    def __init__(
        self, params: Any, lr: Any = 2e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0, momentum_decay: float = 4e-3, decoupled_weight_decay: bool = False, *,
        foreach: Any = None, maximize: bool = False, capturable: bool = False, differentiable: bool = False,
    ) -> None:  # fmt: skip
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay, "maximize": maximize, "foreach": foreach,
            "capturable": capturable, "differentiable": differentiable,
        }  # fmt: skip
        super().__init__(params, defaults)

    def numbers(self, group: Group, state: State) -> tuple[Any, ...]:
        """See `_Method`."""
        t, lr, (b1, b2) = step_of(state), number(group["lr"]), group["betas"]
        now, then = (b1 * (1 - 0.5 * 0.96 ** (k * group["momentum_decay"])) for k in (t, t + 1))
        product = number(state.get("mu_product", 1.0)) * now
        count(state, "mu_product", product)
        shrinks, of_square = 1 - lr * group["weight_decay"], 1 - b2**t
        return shrinks, of_square, -(lr * (1 - now) / (1 - product)), -(lr * then / (1 - product * then))

    def formula(self, group: Group, p: Tensor, g: Tensor, state: State, *numbers: Any) -> Tensor:
        """See `_Method`."""
        (shrinks, of_square, of_gradient, of_mean), (b1, b2) = numbers, group["betas"]
        if group["weight_decay"]:
            if group["decoupled_weight_decay"]:
                p = p * shrinks
            else:
                g = g + p * group["weight_decay"]
        m, v = mean(state, "exp_avg", g, 1 - b1), _mean_square(state, "exp_avg_sq", g, b2, 1 - b2)
        scale = (v / of_square).sqrt() + group["eps"]
        return p + g * of_gradient / scale + m * of_mean / scale


class RAdam(_Method):
    """Adam whose steps are rectified while the variance of v is not known (Liu et al. 2020).

    Parameters
    ----------
    params : iterable
        What is optimised: see `Optimizer`.
    lr : float
        The learning rate.
    betas : tuple of float
        How much of the means of g and of g^2 stays at each step: b1 and b2.
    eps : float
        Added to what is divided by.
    weight_decay : float
        So much of p is added to g.
    decoupled_weight_decay : bool
        Take `lr weight_decay p` away from p instead of adding to g.
    maximize : bool
        Go up instead of down.

    >>> import tapegrad as tg
    >>> x = tg.tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = tg.optim.RAdam([x], lr=0.2)
    >>> for _ in range(100):
    ...     optimizer.zero_grad()
    ...     ((x - 3) ** 2).sum().backward()
    ...     optimizer.step()
    >>> bool(((x - 3).abs() < 0.1).all())
    True
    """

    def __init__(
        self, params: Any, lr: Any = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0, decoupled_weight_decay: bool = False, *, foreach: Any = None, maximize: bool = False,
        capturable: bool = False, differentiable: bool = False,
    ) -> None:  # fmt: skip
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize,
            "foreach": foreach, "capturable": capturable, "decoupled_weight_decay": decoupled_weight_decay,
            "differentiable": differentiable,
        }  # fmt: skip
        super().__init__(params, defaults)

    def numbers(self, group: Group, state: State) -> tuple[Any, ...]:
        """See `_Method`; the last are there where steps are rectified."""
        t, lr, (b1, b2) = step_of(state), number(group["lr"]), group["betas"]
        longest = 2 / (1 - b2) - 1  # the length of the mean's memory in the long run, and now
        length = longest - 2 * t * b2**t / (1 - b2**t)
        first = 1 - lr * group["weight_decay"], 1 - b1**t
        if length <= 5:
            return *first, lr
        r = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
        return *first, lr * sqrt(r), sqrt(1 - b2**t)

    def formula(self, group: Group, p: Tensor, g: Tensor, state: State, *numbers: Any) -> Tensor:
        """See `_Method`."""
        (shrinks, of_mean, rate, *scale), (b1, b2) = numbers, group["betas"]
        if group["weight_decay"]:
            if group["decoupled_weight_decay"]:
                p = p * shrinks
            else:
                g = g + p * group["weight_decay"]
        m, v = mean(state, "exp_avg", g, 1 - b1), _mean_square(state, "exp_avg_sq", g, b2, 1 - b2)
        m = m / of_mean
        return p - m * (scale[0] / (v.sqrt() + group["eps"])) * rate if scale else p - m * rate


class ASGD(_Method):
    """Averaged gradient descent (Polyak and Juditsky 1992): the mean of p from step t0 on is its state "ax".

    Parameters
    ----------
    params : iterable
        What is optimised: see `Optimizer`.
    lr : float
        The rate of the first step; of step t, `lr / (1 + lambd lr t)^alpha`.
    lambd : float
        How much of p, times the rate, each step takes away; how fast the rate falls.
    alpha : float
        The power by which it falls.
    t0 : float
        The step from which on the mean is taken.
    weight_decay : float
        So much of p is added to g.
    maximize : bool
        Go up instead of down.

    >>> import tapegrad as tg
    >>> x = tg.tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = tg.optim.ASGD([x], lr=0.1, t0=10)
    >>> for _ in range(100):
    ...     optimizer.zero_grad()
    ...     ((x - 3) ** 2).sum().backward()
    ...     optimizer.step()
    >>> bool(((optimizer.state[x]["ax"] - 3).abs() < 0.1).all())
    True
    """

    checked = "lr weight_decay"

    def __init__(
        self, params: Any, lr: Any = 1e-2, lambd: float = 1e-4, alpha: float = 0.75, t0: float = 1e6,
        weight_decay: float = 0, foreach: Any = None, maximize: bool = False, differentiable: bool = False,
        capturable: bool = False,
    ) -> None:  # fmt: skip
        defaults = {
            "lr": lr, "lambd": lambd, "alpha": alpha, "t0": t0, "weight_decay": weight_decay, "foreach": foreach,
            "maximize": maximize, "differentiable": differentiable, "capturable": capturable,
        }  # fmt: skip
        super().__init__(params, defaults)

    def numbers(self, group: Group, state: State) -> tuple[Any, ...]:
        """See `_Method`; the last is there where a mean is taken."""
        t, lr = step_of(state), number(group["lr"])
        eta, mu = number(state.get("eta", lr)), number(state.get("mu", 1.0))
        count(state, "eta", lr / (1 + group["lambd"] * lr * t) ** group["alpha"])
        count(state, "mu", 1 / max(1, t - group["t0"]))
        return (1 - group["lambd"] * eta, eta) if mu == 1 else (1 - group["lambd"] * eta, eta, mu)

    def formula(self, group: Group, p: Tensor, g: Tensor, state: State, *numbers: Any) -> Tensor:
        """See `_Method`."""
        shrinks, eta, *mu = numbers
        if group["weight_decay"]:
            g = g + p * group["weight_decay"]
        new = p * shrinks - g * eta
        before = state.get("ax")
        state["ax"] = before + (new - before) * mu[0] if mu and before is not None else new.clone()
        return new


class Rprop(_Method):
    """Resilient backpropagation (Riedmiller and Braun 1993): steps by signs, which grow while these stay the same.

    Parameters
    ----------
    params : iterable
        What is optimised: see `Optimizer`.
    lr : float
        The length of the first steps.
    etas : tuple of float
        The factor of a step where the sign has changed, and where it has stayed.
    step_sizes : tuple of float
        The shortest and the longest step.
    maximize : bool
        Go up instead of down.

    >>> import tapegrad as tg
    >>> x = tg.tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = tg.optim.Rprop([x], lr=0.1)
    >>> for _ in range(100):
    ...     optimizer.zero_grad()
    ...     ((x - 3) ** 2).sum().backward()
    ...     optimizer.step()
    >>> bool(((x - 3).abs() < 0.1).all())
    True
    """

    def __init__(
        self, params: Any, lr: Any = 1e-2, etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50), *, capturable: bool = False, foreach: Any = None,
        maximize: bool = False, differentiable: bool = False,
    ) -> None:  # fmt: skip
        defaults = {
            "lr": lr, "etas": etas, "step_sizes": step_sizes, "foreach": foreach, "maximize": maximize,
            "differentiable": differentiable, "capturable": capturable,
        }  # fmt: skip
        super().__init__(params, defaults)

    def check(self, options: Group) -> None:
        """See `Optimizer`."""
        super().check(options)
        shrinks, grows = options["etas"]
        if not 0.0 < shrinks < 1.0 < grows:
            raise ValueError(f"Invalid eta values: {shrinks}, {grows}")

    def update(self, group: Group, p: Tensor, g: Tensor, state: State) -> Tensor:
        """See `Optimizer`."""
        step_of(state)
        (shrinks, grows), (least, most) = group["etas"], group["step_sizes"]
        before = state.get("prev")
        if before is None:
            size = creation.full_like(g, number(group["lr"]))
        else:
            agreement = g * before
            factor = _where(agreement > 0, grows, _where(agreement < 0, shrinks, 1.0))
            size = state["step_size"] * factor
            g = _where(agreement < 0, 0.0, g)
        size = state["step_size"] = size.clamp(least, most)
        state["prev"] = g.clone()
        return p - g.sign() * size
