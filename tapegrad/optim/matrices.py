"""Methods that know a matrix from a vector: `Adafactor` keeps less of it, `Muon` makes its step orthogonal."""

from __future__ import annotations

import math
from typing import Any

from tapegrad import dtypes
from tapegrad.optim.methods import mean, number, sqrt, step_of
from tapegrad.optim.optimizer import Group, Optimizer, State
from tapegrad.optim.states import Counted
from tapegrad.tensor import Tensor


def _check(options: Group, **said: str) -> None:
    for name, text in said.items():
        if not number(options[name]) >= 0:
            raise ValueError(f"{text} should be >= 0 but is: {options[name]}")


class Adafactor(Optimizer):
    """Adafactor (Shazeer and Stern 2018): of squares it keeps means over rows and over columns, for matrices.

    Parameters
    ----------
    params : iterable
        What is optimised: see `Optimizer`.
    lr, beta2_decay : float
        At step t the rate is `min(lr, 1 / sqrt(t))` times the root of the mean square of the parameter, and means take
        `t^beta2_decay` of what is new.
    eps : (float or None, float)
        The least square that is divided by, None for that of the dtype's precision; the least root of the mean square
        of a parameter.
    d : float
        A step whose root of the mean square is above it is scaled down to it.
    weight_decay : float
        So much of `lr p` is taken away from `p`.
    maximize : bool
        Go up instead of down.

    >>> import tapegrad as tg
    >>> x = tg.ones(3, 2, requires_grad=True)
    >>> optimizer = tg.optim.Adafactor([x], lr=0.1)
    >>> (x * x).sum().backward()
    >>> optimizer.step()
    >>> optimizer.state[x]["row_var"].shape, optimizer.state[x]["col_var"].shape
    (tapegrad.Size([3, 1]), tapegrad.Size([1, 2]))
    """

    _of_states = Counted

    def __init__(
        self, params: Any, lr: Any = 1e-2, beta2_decay: float = -0.8, eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0, weight_decay: float = 0.0, *, foreach: Any = None, maximize: bool = False,
    ) -> None:  # fmt: skip
        defaults = {
            "lr": lr, "beta2_decay": beta2_decay, "eps": eps, "d": d, "weight_decay": weight_decay, "foreach": foreach,
            "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults)

    def check(self, options: Group) -> None:
        """See `Optimizer`."""
        super().check(options)
        _check(options, lr="Learning rate", weight_decay="weight_decay")
        eps1, eps2 = options["eps"]
        if not options["beta2_decay"] <= 0:
            raise ValueError(f"beta2_decay should be <= 0 but is: {options['beta2_decay']}")
        if eps1 is not None and not eps1 >= 0:
            raise ValueError(f"epsilon1 should be >= 0 but is: {eps1}")
        if not eps2 >= 0:
            raise ValueError(f"epsilon2 should be >= 0 but is: {eps2}")
        if not options["d"] >= 1:
            raise ValueError(f"Clipping threshold d should be >= 1 but is: {options['d']}")

    def update(self, group: Group, p: Tensor, g: Tensor, state: State) -> Tensor:
        """See `Optimizer`."""
        t, lr, (eps1, eps2) = step_of(state), number(group["lr"]), group["eps"]
        eps1 = dtypes.finfo(p.dtype).eps if eps1 is None else eps1
        weight, of_all = t ** group["beta2_decay"], 1 / math.sqrt(p.numel())
        rate = (p.norm() * of_all).clamp(min=eps2) * min(lr, 1 / sqrt(t))
        square = g * g
        if g.ndim > 1:
            rows = mean(state, "row_var", square.mean(-1, keepdim=True), weight)
            columns = mean(state, "col_var", square.mean(-2, keepdim=True), weight)
            v = rows * columns / rows.mean(-2, keepdim=True).clamp(min=eps1)
        else:
            v = mean(state, "variance", square, weight)
        step = g * v.clamp(min=eps1 * eps1).rsqrt()
        too_long = (step.norm() * (of_all / group["d"])).clamp(min=1.0)
        return p * (1 - lr * group["weight_decay"]) - step * (rate / too_long)


def _orthogonalized(g: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """The nearest matrix with orthonormal rows or columns, roughly, by Newton and Schulz's iteration."""
    a, b, c = coefficients
    is_tall = g.shape[0] > g.shape[1]
    x = g.T if is_tall else g
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = x * a + (gram * b + gram @ gram * c) @ x
    return x.T if is_tall else x


class Muon(Optimizer):
    """Momentum, made orthogonal (Jordan et al. 2024): for the matrices of hidden layers.

    PyTorch makes it orthogonal in bfloat16: its steps agree with these to two figures.

    Parameters
    ----------
    params : iterable
        What is optimised, matrices only: see `Optimizer`.
    lr, weight_decay : float
        `p <- (1 - lr weight_decay) p - lr' q`.
    momentum, nesterov : float, bool
        q is of the decaying mean of gradients, or, with `nesterov`, of one that looks ahead.
    ns_coefficients : (float, float, float)
        The polynomial of the iteration that makes q orthogonal.
    ns_steps : int
        How often it is applied.
    eps : float
        The least norm divided by.
    adjust_lr_fn : str, optional
        `lr'` for a parameter [a, b]: "original" is `lr sqrt(max(1, a / b))`, "match_rms_adamw" is
        `0.2 lr sqrt(max(a, b))`.

    >>> import tapegrad as tg
    >>> x = tg.eye(2).requires_grad_()
    >>> optimizer = tg.optim.Muon([x], lr=0.1, weight_decay=0.0)
    >>> (x * x).sum().backward()
    >>> optimizer.step()
    >>> bool((x.detach().diagonal() < 1).all())
    True
    """

    def __init__(
        self, params: Any, lr: Any = 1e-3, weight_decay: float = 0.1, momentum: float = 0.95, nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315), eps: float = 1e-7, ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ) -> None:  # fmt: skip
        defaults = {
            "lr": lr, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov,
            "ns_coefficients": ns_coefficients, "eps": eps, "ns_steps": ns_steps, "adjust_lr_fn": adjust_lr_fn,
        }  # fmt: skip
        super().__init__(params, defaults)

    def check(self, options: Group) -> None:
        """See `Optimizer`."""
        super().check(options)
        _check(options, lr="Learning rate", momentum="momentum", weight_decay="weight decay")
        if options["adjust_lr_fn"] not in (None, "original", "match_rms_adamw"):
            raise ValueError(f"Adjust learning rate function {options['adjust_lr_fn']} is not supported")
        if options["ns_steps"] >= 100:
            raise ValueError("Number of steps must be less than 100 for computational efficiency")
        if len(options["ns_coefficients"]) != 3:
            raise ValueError("Coefficients must be a tuple of exactly 3 values")
        for p in options.get("params", ()):
            if p.ndim != 2:
                raise ValueError(f"Muon only supports 2D parameters whereas we found a parameter with size: {p.shape}")

    def update(self, group: Group, p: Tensor, g: Tensor, state: State) -> Tensor:
        """See `Optimizer`."""
        lr, momentum, (a, b) = number(group["lr"]), group["momentum"], p.shape
        m = mean(state, "momentum_buffer", g, 1 - momentum)
        m = g + (m - g) * momentum if group["nesterov"] else m
        q = _orthogonalized(m, group["ns_coefficients"], group["ns_steps"], group["eps"])
        rate = 0.2 * math.sqrt(max(a, b)) if group["adjust_lr_fn"] == "match_rms_adamw" else math.sqrt(max(1, a / b))
        return p * (1 - lr * group["weight_decay"]) - q * (lr * rate)


__all__ = ["Adafactor", "Muon"]
