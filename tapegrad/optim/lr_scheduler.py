"""Schedules of learning rates, as in `torch.optim.lr_scheduler`: call `step()` after the optimiser's.

Most rates follow from the one before (`get_lr`), so that several schedules can be on one optimiser. Where a schedule is
put to an epoch, they follow from the first ones, if it has that form (`_get_closed_form_lr`, PyTorch's name, which
schedules of others have too). The step that a schedule takes when it is made begins from the rates of the groups.
"""

from __future__ import annotations

import bisect
import functools
import math
import types
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tapegrad.optim.optimizer import Group, Optimizer
from tapegrad.tape import current_tape
from tapegrad.tensor import depth_of_user


def _followed(step: Callable[..., None]) -> Any:
    """A schedule's step: where a compiled function takes it, Python takes it after each replay."""

    @functools.wraps(step)
    def taken(self: Any, *args: Any, **kwargs: Any) -> None:
        watch = current_tape().watch
        if watch is None or watch.is_acting:
            step(self, *args, **kwargs)
            return
        if args or kwargs or type(self).step is not taken:
            watch.fail("has a schedule take a step that is not followed")
        watch.acts(functools.partial(step, self, *args, **kwargs))

    return taken


def _told(rates: list[float]) -> list[float]:
    """What a schedule has set, which a program could not find."""
    watch = current_tape().watch
    if watch is not None and not watch.is_acting:
        watch.fail("asks a schedule for rates, which are those of its optimiser's groups")
    return rates


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=depth_of_user())


def _warn_of_order(optimizer: Optimizer) -> None:
    """Warn where an optimiser has taken no step since it was made; one with a step of its own can't be known."""
    own = vars(optimizer).get("step")
    if own is not optimizer.step_found:
        _warn(
            "Seems like `optimizer.step()` has been overridden after learning rate scheduler initialization. Please, "
            "make sure to call `optimizer.step()` before `lr_scheduler.step()`. See more details at "
            "https://pytorch.org/docs/stable/optim.html#how-to-adjust-learning-rate"
        )
    elif own is None and not optimizer.has_stepped:
        _warn(
            "Detected call of `lr_scheduler.step()` before `optimizer.step()`: the first rate of the schedule is "
            "skipped. Call `optimizer.step()` before `lr_scheduler.step()`. See more details at "
            "https://pytorch.org/docs/stable/optim.html#how-to-adjust-learning-rate"
        )


def _warn_of_epoch() -> None:
    _warn(
        "The epoch parameter in `scheduler.step()` was not necessary and is being deprecated where possible. Please "
        "use `scheduler.step()`: with an epoch the rates follow from the first ones, where a schedule has that form."
    )


class LRScheduler:
    """What schedules share; a subclass has `get_lr`, the rates of all groups at `last_epoch`.

    Parameters
    ----------
    optimizer : Optimizer
        Whose rates are set.
    last_epoch : int
        -1 to begin; else where to go on, and groups then have an "initial_lr".

    >>> import tapegrad as tg
    >>> class Halves(tg.optim.lr_scheduler.LRScheduler):
    ...     def get_lr(self):
    ...         return [rate * 0.5**self.last_epoch for rate in self.base_lrs]
    >>> optimizer = tg.optim.SGD([tg.nn.Parameter(tg.ones(1))], lr=1.0)
    >>> schedule = Halves(optimizer)
    >>> for _ in range(3):
    ...     print(schedule.get_last_lr())
    ...     optimizer.step()
    ...     schedule.step()
    [1.0]
    [0.5]
    [0.25]
    """

    _kept_apart: tuple[str, ...] = ("optimizer",)
    # What schedules of others ask of theirs, under PyTorch's names.
    _step_count = 0
    _get_lr_called_within_step = False
    _is_initial = False

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(
                    f"param 'initial_lr' is not specified in param_groups[{i}] when resuming scheduler with "
                    "last_epoch >= 0."
                )
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        optimizer.step_found = vars(optimizer).get("step")
        self._initial_step()

    def _initial_step(self) -> None:
        self._step_count, self._is_initial = 0, True
        try:
            self.step()
        finally:
            self._is_initial = False

    def get_lr(self) -> list[float]:
        """The rates of all groups at `last_epoch`."""
        raise NotImplementedError

    def get_last_lr(self) -> list[float]:
        """The rates that were set last."""
        return _told(self._last_lr)

    @_followed
    def step(self, epoch: int | None = None) -> None:
        """Go on by one, or to an epoch, and set the rates.

        Warns where the optimiser has taken no step before the first: the first rates are then never used.
        """
        if self._step_count == 1:
            _warn_of_order(self.optimizer)
        self._step_count += 1
        if epoch is not None:
            _warn_of_epoch()
        self._update_lr(epoch)

    def _update_lr(self, epoch: int | None = None) -> None:
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        find = self.get_lr if epoch is None else getattr(self, "_get_closed_form_lr", self.get_lr)
        self._get_lr_called_within_step = True
        try:
            rates = find()
        finally:
            self._get_lr_called_within_step = False
        self._set(rates)

    def _set(self, rates: Sequence[float]) -> None:
        for group, lr in zip(self._groups, rates, strict=True):
            group["lr"] = lr
        self._last_lr = [group["lr"] for group in self._groups]

    @property
    def _groups(self) -> list[Group]:
        return self.optimizer.param_groups

    @property
    def _rates(self) -> list[float]:
        return [group["lr"] for group in self._groups]

    def _times(self, factor: float) -> list[float]:
        return [lr * factor for lr in self._rates]

    def state_dict(self) -> dict[str, Any]:
        """All but the optimiser, and functions."""
        return {name: value for name, value in vars(self).items() if name not in self._kept_apart}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        vars(self).update(state_dict)


class LambdaLR(LRScheduler):
    """`initial_lr * lr_lambda(epoch)`, with a function for all groups, or one for each.

    >>> import tapegrad as tg
    >>> optimizer = tg.optim.SGD([tg.ones(1, requires_grad=True)], lr=1.0)
    >>> scheduler = tg.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 / (1 + epoch))
    >>> optimizer.step()
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [0.5]
    """

    _kept_apart = ("optimizer", "lr_lambdas")

    def __init__(self, optimizer: Optimizer, lr_lambda: Any, last_epoch: int = -1) -> None:
        n = len(optimizer.param_groups)
        self.lr_lambdas = list(lr_lambda) if isinstance(lr_lambda, (list, tuple)) else [lr_lambda] * n
        if len(self.lr_lambdas) != n:
            raise ValueError(f"Expected {n} lr_lambdas, but got {len(self.lr_lambdas)}")
        super().__init__(optimizer, last_epoch)

    def state_dict(self) -> dict[str, Any]:
        """All but the optimiser: of functions None, of other callables their attributes."""
        shown = [None if isinstance(f, types.FunctionType) else {**vars(f)} for f in self.lr_lambdas]
        return super().state_dict() | {"lr_lambdas": shown}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        super().load_state_dict({name: value for name, value in state_dict.items() if name != "lr_lambdas"})
        for f, known in zip(self.lr_lambdas, state_dict.get("lr_lambdas", ()), strict=False):
            if known is not None:
                vars(f).update(known)

    def get_lr(self) -> list[float]:
        """See `LRScheduler`."""
        return [base * f(self.last_epoch) for base, f in zip(self.base_lrs, self.lr_lambdas, strict=True)]


class MultiplicativeLR(LambdaLR):
    """`lr * lr_lambda(epoch)`, step by step.

    >>> import tapegrad as tg
    >>> optimizer = tg.optim.SGD([tg.nn.Parameter(tg.ones(1))], lr=1.0)
    >>> schedule = tg.optim.lr_scheduler.MultiplicativeLR(optimizer, lambda epoch: 0.5)
    >>> for _ in range(3):
    ...     print(schedule.get_last_lr())
    ...     optimizer.step()
    ...     schedule.step()
    [1.0]
    [0.5]
    [0.25]
    """

    def get_lr(self) -> list[float]:
        """See `LRScheduler`."""
        if self._is_initial:
            return self._rates
        return [lr * f(self.last_epoch) for lr, f in zip(self._rates, self.lr_lambdas, strict=True)]


class StepLR(LRScheduler):
    """`lr * gamma` every `step_size` epochs.

    >>> import tapegrad as tg
    >>> optimizer = tg.optim.SGD([tg.ones(1, requires_grad=True)], lr=1.0)
    >>> scheduler = tg.optim.lr_scheduler.StepLR(optimizer, step_size=2)
    >>> rates = []
    >>> for _ in range(5):
    ...     rates.append(scheduler.get_last_lr()[0])
    ...     optimizer.step()
    ...     scheduler.step()
    >>> rates
    [1.0, 1.0, 0.1, 0.1, 0.010000000000000002]
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """See `LRScheduler`."""
        changes = self.last_epoch and self.last_epoch % self.step_size == 0
        return self._times(self.gamma) if changes else self._rates

    def _get_closed_form_lr(self) -> list[float]:
        return [base * self.gamma ** (self.last_epoch // self.step_size) for base in self.base_lrs]


class MultiStepLR(LRScheduler):
    """`lr * gamma` at each milestone.

    >>> import tapegrad as tg
    >>> optimizer = tg.optim.SGD([tg.nn.Parameter(tg.ones(1))], lr=1.0)
    >>> schedule = tg.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[1, 3], gamma=0.5)
    >>> for _ in range(4):
    ...     print(schedule.get_last_lr())
    ...     optimizer.step()
    ...     schedule.step()
    [1.0]
    [0.5]
    [0.5]
    [0.25]
    """

    def __init__(
        self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.milestones, self.gamma = sorted(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """See `LRScheduler`."""
        n = self.milestones.count(self.last_epoch)
        return self._times(self.gamma**n) if n else self._rates

    def _get_closed_form_lr(self) -> list[float]:
        return [base * self.gamma ** bisect.bisect_right(self.milestones, self.last_epoch) for base in self.base_lrs]


class ConstantLR(LRScheduler):
    """`lr * factor` until `total_iters`.

    >>> import tapegrad as tg
    >>> optimizer = tg.optim.SGD([tg.nn.Parameter(tg.ones(1))], lr=1.0)
    >>> schedule = tg.optim.lr_scheduler.ConstantLR(optimizer, factor=0.5, total_iters=2)
    >>> for _ in range(3):
    ...     print(schedule.get_last_lr())
    ...     optimizer.step()
    ...     schedule.step()
    [0.5]
    [0.5]
    [1.0]
    """

    def __init__(
        self, optimizer: Optimizer, factor: float = 1.0 / 3, total_iters: int = 5, last_epoch: int = -1
    ) -> None:
        if not 0 <= factor <= 1.0:
            raise ValueError("Constant multiplicative factor expected to be between 0 and 1.")
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """See `LRScheduler`."""
        if self.last_epoch == 0:
            return self._times(self.factor)
        return self._times(1.0 / self.factor) if self.last_epoch == self.total_iters else self._rates

    def _get_closed_form_lr(self) -> list[float]:
        return [base * (1 if self.last_epoch >= self.total_iters else self.factor) for base in self.base_lrs]


class LinearLR(LRScheduler):
    """From `lr * start_factor` to `lr * end_factor` at `total_iters`, along a line.

    >>> import tapegrad as tg
    >>> optimizer = tg.optim.SGD([tg.nn.Parameter(tg.ones(1))], lr=1.0)
    >>> schedule = tg.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.5, total_iters=2)
    >>> for _ in range(4):
    ...     print(schedule.get_last_lr())
    ...     optimizer.step()
    ...     schedule.step()
    [0.5]
    [0.75]
    [1.0]
    [1.0]
    """

    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1.0 / 3, end_factor: float = 1.0, total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:  # fmt: skip
        if not 0 < start_factor <= 1.0:
            raise ValueError("Starting multiplicative factor expected to be greater than 0 and less or equal to 1.")
        if not 0 <= end_factor <= 1.0:
            raise ValueError("Ending multiplicative factor expected to be between 0 and 1.")
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """See `LRScheduler`."""
        if self.last_epoch == 0:
            return self._times(self.start_factor)
        if self._is_initial or self.last_epoch > self.total_iters:
            return self._rates
        rise = self.end_factor - self.start_factor
        return self._times(1 + rise / (self.total_iters * self.start_factor + (self.last_epoch - 1) * rise))

    def _get_closed_form_lr(self) -> list[float]:
        part = min(self.total_iters, self.last_epoch) / self.total_iters
        return [base * (self.start_factor + (self.end_factor - self.start_factor) * part) for base in self.base_lrs]


class ExponentialLR(LRScheduler):
    """`lr * gamma` every epoch.

    >>> import tapegrad as tg
    >>> optimiser = tg.optim.SGD([tg.ones(1, requires_grad=True)], lr=1.0)
    >>> schedule = tg.optim.lr_scheduler.ExponentialLR(optimiser, gamma=0.5)
    >>> for _ in range(3):
    ...     optimiser.step()
    ...     schedule.step()
    >>> schedule.get_last_lr()
    [0.125]
    """

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """See `LRScheduler`."""
        return self._rates if self._is_initial else self._times(self.gamma)

    def _get_closed_form_lr(self) -> list[float]:
        return [base * self.gamma**self.last_epoch for base in self.base_lrs]


class PolynomialLR(LRScheduler):
    """`initial_lr * (1 - epoch / total_iters) ** power`.

    >>> import tapegrad as tg
    >>> optimizer = tg.optim.SGD([tg.nn.Parameter(tg.ones(1))], lr=1.0)
    >>> schedule = tg.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=2, power=2.0)
    >>> for _ in range(4):
    ...     print(schedule.get_last_lr())
    ...     optimizer.step()
    ...     schedule.step()
    [1.0]
    [0.25]
    [0.0]
    [0.0]
    """

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1) -> None:
        self.total_iters, self.power = total_iters, power
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """See `LRScheduler`."""
        if self._is_initial or self.last_epoch > self.total_iters:
            return self._rates
        now, before = (1 - epoch / self.total_iters for epoch in (self.last_epoch, self.last_epoch - 1))
        return self._times((now / before) ** self.power)

    def _get_closed_form_lr(self) -> list[float]:
        part = min(self.total_iters, self.last_epoch) / self.total_iters
        return [base * (1 - part) ** self.power for base in self.base_lrs]


class CosineAnnealingLR(LRScheduler):
    """From `initial_lr` to `eta_min` at `T_max`, along a cosine, and back.

    >>> import tapegrad as tg
    >>> optimizer = tg.optim.SGD([tg.ones(1, requires_grad=True)], lr=1.0)
    >>> scheduler = tg.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=2)
    >>> for _ in range(2):
    ...     optimizer.step()
    ...     scheduler.step()
    ...     print(round(scheduler.get_last_lr()[0], 6))
    0.5
    0.0
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """See `LRScheduler`."""
        n, least = self.T_max, self.eta_min
        if self._is_initial:
            return self._rates
        if (self.last_epoch - 1 - n) % (2 * n) == 0:
            rise = (1 - math.cos(math.pi / n)) / 2
            return [lr + (base - least) * rise for base, lr in zip(self.base_lrs, self._rates, strict=True)]
        now, before = (1 + math.cos(math.pi * epoch / n) for epoch in (self.last_epoch, self.last_epoch - 1))
        return [now / before * (lr - least) + least for lr in self._rates]

    def _get_closed_form_lr(self) -> list[float]:
        cosine = math.cos(math.pi * self.last_epoch / self.T_max)
        return [self.eta_min + (base - self.eta_min) * (1 + cosine) / 2 for base in self.base_lrs]


class CosineAnnealingWarmRestarts(LRScheduler):
    """Along a cosine for `T_0` epochs, then anew for `T_mult` times as many, and so on (Loshchilov and Hutter 2017).

    >>> import tapegrad as tg
    >>> optimizer = tg.optim.SGD([tg.nn.Parameter(tg.ones(1))], lr=1.0)
    >>> schedule = tg.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=2)
    >>> for _ in range(4):
    ...     print([round(rate, 3) for rate in schedule.get_last_lr()])
    ...     optimizer.step()
    ...     schedule.step()
    [1.0]
    [0.5]
    [1.0]
    [0.5]
    """

    def __init__(
        self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        if T_0 <= 0 or not isinstance(T_0, int):
            raise ValueError(f"Expected positive integer T_0, but got {T_0}")
        if T_mult < 1 or not isinstance(T_mult, int):
            raise ValueError(f"Expected integer T_mult >= 1, but got {T_mult}")
        self.T_0, self.T_i, self.T_mult, self.eta_min, self.T_cur = T_0, T_0, T_mult, eta_min, last_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """See `LRScheduler`."""
        cosine = math.cos(math.pi * self.T_cur / self.T_i)
        return [self.eta_min + (base - self.eta_min) * (1 + cosine) / 2 for base in self.base_lrs]

    @_followed
    def step(self, epoch: float | None = None) -> None:
        """Go on by one, or to an epoch, which may be a fraction."""
        if epoch is None and self.last_epoch >= 0:
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur %= self.T_i
                self.T_i *= self.T_mult
            self.last_epoch += 1
        else:
            epoch = 0 if epoch is None else epoch
            if epoch < 0:
                raise ValueError(f"Expected non-negative epoch, but got {epoch}")
            n, cur, length = 0, epoch, self.T_0
            while cur >= length:
                cur, length, n = cur - length, length * self.T_mult, n + 1
            self.T_cur, self.T_i, self.last_epoch = cur, length, math.floor(epoch)
        self._set(self.get_lr())


def _for_all(value: Any, n: int, name: str) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        return [value] * n
    if len(value) != n:
        raise ValueError(f"expected {n} values for {name}, got {len(value)}")
    return list(value)


class CyclicLR(LRScheduler):
    """Between `base_lr` and `max_lr`, up and down along lines (Smith 2017).

    >>> import tapegrad as tg
    >>> optimizer = tg.optim.SGD([tg.nn.Parameter(tg.ones(1))], lr=1.0, momentum=0.9)
    >>> schedule = tg.optim.lr_scheduler.CyclicLR(optimizer, base_lr=0.0, max_lr=1.0, step_size_up=2)
    >>> for _ in range(5):
    ...     print(schedule.get_last_lr())
    ...     optimizer.step()
    ...     schedule.step()
    [0.0]
    [0.5]
    [1.0]
    [0.5]
    [0.0]
    """

    _kept_apart = ("optimizer", "scale_fn")

    def __init__(
        self, optimizer: Optimizer, base_lr: Any, max_lr: Any, step_size_up: int = 2000,
        step_size_down: int | None = None, mode: str = "triangular", gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None, scale_mode: str = "cycle", cycle_momentum: bool = True,
        base_momentum: float = 0.8, max_momentum: float = 0.9, last_epoch: int = -1,
    ) -> None:  # fmt: skip
        n = len(optimizer.param_groups)
        if mode not in ("triangular", "triangular2", "exp_range") and scale_fn is None:
            raise ValueError("mode is invalid and scale_fn is None")
        for group, lr in zip(optimizer.param_groups, _for_all(base_lr, n, "base_lr"), strict=True):
            if last_epoch == -1:
                group["lr"] = lr
        self.max_lrs = _for_all(max_lr, n, "max_lr")
        down = float(step_size_up if step_size_down is None else step_size_down)
        self.total_size = float(step_size_up) + down
        self.step_ratio = float(step_size_up) / self.total_size
        self.mode, self.gamma, self.scale_fn, self.scale_mode = mode, gamma, scale_fn, scale_mode
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            if "momentum" not in optimizer.defaults and "betas" not in optimizer.defaults:
                raise ValueError("optimizer must support momentum or beta1 with `cycle_momentum` option enabled")
            self.base_momentums = _for_all(base_momentum, n, "base_momentum")
            self.max_momentums = _for_all(max_momentum, n, "max_momentum")
            if last_epoch == -1:
                _begin_momenta(optimizer, self.base_momentums, self.max_momentums)
        super().__init__(optimizer, last_epoch)
        self.base_lrs = _for_all(base_lr, n, "base_lr")

    def _scale(self, cycle: float) -> float:
        if self.scale_fn is not None:
            return self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.mode == "triangular2":
            return 1 / (2.0 ** (cycle - 1))
        return self.gamma**self.last_epoch if self.mode == "exp_range" else 1.0

    def get_lr(self) -> list[float]:
        """See `LRScheduler`."""
        cycle = math.floor(1 + self.last_epoch / self.total_size)
        x = 1.0 + self.last_epoch / self.total_size - cycle
        height = (x / self.step_ratio if x <= self.step_ratio else (x - 1) / (self.step_ratio - 1)) * self._scale(cycle)
        if self.cycle_momentum:
            for group, low, high in zip(self._groups, self.base_momentums, self.max_momentums, strict=True):
                _set_momentum(group, high - (high - low) * height)
        return [low + (high - low) * height for low, high in zip(self.base_lrs, self.max_lrs, strict=True)]


def _begin_momenta(optimizer: Optimizer, lows: list[float], highs: list[float]) -> None:
    for group, low, high in zip(optimizer.param_groups, lows, highs, strict=True):
        _set_momentum(group, high)
        group["max_momentum"], group["base_momentum"] = high, low


def _set_momentum(group: Group, momentum: float) -> None:
    if "betas" in group:
        group["betas"] = (momentum, *group["betas"][1:])
    else:
        group["momentum"] = momentum


class OneCycleLR(LRScheduler):
    """From `max_lr / div_factor` up to `max_lr`, and down to that divided by `final_div_factor` (Smith and Topin 2019).

    Its length is `total_steps`, or `epochs * steps_per_epoch`. What it goes between stands in the groups
    ("initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum"), from which it goes on with a `last_epoch`.

    >>> import tapegrad as tg
    >>> optimiser = tg.optim.SGD([tg.ones(1, requires_grad=True)], lr=0.1, momentum=0.9)
    >>> schedule = tg.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=1.0, total_steps=10)
    >>> rates = []
    >>> for _ in range(9):
    ...     optimiser.step()
    ...     schedule.step()
    ...     rates.append(schedule.get_last_lr()[0])
    >>> round(max(rates), 6), rates[-1] < 1e-4
    (1.0, True)
    """

    def __init__(
        self, optimizer: Optimizer, max_lr: Any, total_steps: int | None = None, epochs: int | None = None,
        steps_per_epoch: int | None = None, pct_start: float = 0.3, anneal_strategy: str = "cos",
        cycle_momentum: bool = True, base_momentum: Any = 0.85, max_momentum: Any = 0.95, div_factor: float = 25.0,
        final_div_factor: float = 1e4, three_phase: bool = False, last_epoch: int = -1,
    ) -> None:  # fmt: skip
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("You must define either total_steps OR (epochs AND steps_per_epoch)")
            total_steps = epochs * steps_per_epoch
        if total_steps <= 0:
            raise ValueError(f"Expected positive integer total_steps, but got {total_steps}")
        if not 0 <= pct_start <= 1:
            raise ValueError(f"Expected float between 0 and 1 pct_start, but got {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}")
        self.total_steps, self._anneal_func_type, self.cycle_momentum = total_steps, anneal_strategy, cycle_momentum
        n, peak = len(optimizer.param_groups), float(pct_start * total_steps) - 1
        # (where a phase ends, whether it ends at the peak), and a phase begins where the one before ended
        self.phases = [(peak, True), (total_steps - 1, False)]
        if three_phase:
            self.phases.insert(1, (2 * peak, False))
        if last_epoch == -1:
            for group, high in zip(optimizer.param_groups, _for_all(max_lr, n, "max_lr"), strict=True):
                group["initial_lr"] = group["lr"] = high / div_factor
                group["max_lr"], group["min_lr"] = high, group["initial_lr"] / final_div_factor
        if cycle_momentum:
            if "momentum" not in optimizer.defaults and "betas" not in optimizer.defaults:
                raise ValueError("optimizer must support momentum or beta1 with `cycle_momentum` option enabled")
            lows, highs = _for_all(base_momentum, n, "base_momentum"), _for_all(max_momentum, n, "max_momentum")
            if last_epoch == -1:
                _begin_momenta(optimizer, lows, highs)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """See `LRScheduler`."""
        if self.last_epoch > self.total_steps:
            raise ValueError(
                f"Tried to step {self.last_epoch} times. The specified number of total steps is {self.total_steps}"
            )
        i = next((i for i, (end, _) in enumerate(self.phases[:-1]) if self.last_epoch <= end), len(self.phases) - 1)
        (start, was_peak), (end, is_peak) = self.phases[i - 1] if i else (0.0, False), self.phases[i]
        part, is_last = (self.last_epoch - start) / (end - start), i == len(self.phases) - 1
        if self.cycle_momentum:
            for group in self._groups:
                levels = group["max_momentum"], group["base_momentum"]
                _set_momentum(group, self._between(levels[was_peak], levels[is_peak], part))
        return [
            self._between(
                group["max_lr" if was_peak else "initial_lr"],
                group["max_lr" if is_peak else "min_lr" if is_last else "initial_lr"], part
            )
            for group in self._groups
        ]  # fmt: skip

    def _between(self, start: float, end: float, part: float) -> float:
        if self._anneal_func_type == "linear":
            return (end - start) * part + start
        return end + (start - end) / 2.0 * (math.cos(math.pi * part) + 1)


class ReduceLROnPlateau(LRScheduler):
    """`lr * factor` once a measure, given to `step`, has not become better for `patience` epochs.

    >>> import tapegrad as tg
    >>> optimiser = tg.optim.SGD([tg.ones(1, requires_grad=True)], lr=1.0)
    >>> schedule = tg.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.1, patience=1)
    >>> for measure in (3.0, 2.0, 2.0, 2.0):
    ...     schedule.step(measure)
    >>> schedule.get_last_lr()
    [0.1]
    """

    def __init__(
        self, optimizer: Optimizer, mode: str = "min", factor: float = 0.1, patience: int = 10,
        threshold: float = 1e-4, threshold_mode: str = "rel", cooldown: int = 0, min_lr: Any = 0, eps: float = 1e-8,
    ) -> None:  # fmt: skip
        if factor >= 1.0:
            raise ValueError("Factor should be < 1.0.")
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")
        if mode not in ("min", "max"):
            raise ValueError("mode " + mode + " is unknown!")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError("threshold mode " + threshold_mode + " is unknown!")
        self.optimizer, self.mode, self.factor, self.patience = optimizer, mode, factor, patience
        self.threshold, self.threshold_mode, self.cooldown, self.eps = threshold, threshold_mode, cooldown, eps
        self.min_lrs = _for_all(min_lr, len(optimizer.param_groups), "min_lrs")
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = self.cooldown_counter = self.last_epoch = 0
        self._last_lr = self._rates

    @_followed
    def step(self, metrics: Any, epoch: int | None = None) -> None:
        """Go on by one, with a measure."""
        now = float(metrics)
        if epoch is not None:
            _warn_of_epoch()
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self._is_better(now):
            self.best, self.num_bad_epochs = now, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            for group, least in zip(self._groups, self.min_lrs, strict=True):
                lr = max(group["lr"] * self.factor, least)
                if group["lr"] - lr > self.eps:
                    group["lr"] = lr
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._last_lr = self._rates

    def _is_better(self, now: float) -> bool:
        sign = 1 if self.mode == "min" else -1
        if self.threshold_mode == "abs":
            return sign * now < sign * self.best - self.threshold
        bound = self.best * (1 - sign * self.threshold) if math.isfinite(self.best) else self.best
        return sign * now < sign * bound


class _Several(LRScheduler):
    """Several schedules of one optimiser."""

    _kept_apart = ("optimizer", "_schedulers")

    def __init__(self, schedulers: Sequence[Any], optimizer: Optimizer | None) -> None:
        name = type(self).__name__
        if not schedulers:
            raise ValueError(f"{name} expects at least one scheduler to be chained, but got no scheduler.")
        for i, scheduler in enumerate(schedulers):
            if not hasattr(scheduler, "optimizer"):
                raise TypeError(f"{name} at index {i} should have `optimizer` as its attribute.")
            if isinstance(scheduler, ReduceLROnPlateau):
                raise ValueError(
                    f"{name} does not support `ReduceLROnPlateau` scheduler as it requires additional kwargs to be "
                    f"specified when calling `step`, but got one at index {i} in the given schedulers sequence."
                )
            optimizer = scheduler.optimizer if optimizer is None else optimizer
            if scheduler.optimizer is not optimizer:
                raise ValueError(
                    f"{name} expects all schedulers to belong to the same optimizer, but got scheduler "
                    f"{type(scheduler).__name__} at index {i}, which has another."
                )
        self._schedulers, self.optimizer = list(schedulers), schedulers[0].optimizer

    def state_dict(self) -> dict[str, Any]:
        """All but the optimiser, with those of all."""
        return super().state_dict() | {"_schedulers": [s.state_dict() for s in self._schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        super().load_state_dict({name: value for name, value in state_dict.items() if name != "_schedulers"})
        for scheduler, state in zip(self._schedulers, state_dict["_schedulers"], strict=True):
            scheduler.load_state_dict(state)


class ChainedScheduler(_Several):
    """Several schedules of one optimiser, stepped together.

    >>> import tapegrad as tg
    >>> from tapegrad.optim import lr_scheduler
    >>> optimizer = tg.optim.SGD([tg.nn.Parameter(tg.ones(1))], lr=1.0)
    >>> warm = lr_scheduler.ConstantLR(optimizer, 0.5, total_iters=1)
    >>> schedule = lr_scheduler.ChainedScheduler([warm, lr_scheduler.StepLR(optimizer, 2, gamma=0.5)])
    >>> for _ in range(4):
    ...     print(schedule.get_last_lr())
    ...     optimizer.step()
    ...     schedule.step()
    [0.5]
    [1.0]
    [0.5]
    [0.5]
    """

    def __init__(self, schedulers: Sequence[Any], optimizer: Optimizer | None = None) -> None:
        super().__init__(schedulers, optimizer)
        self._last_lr = self._rates

    @_followed
    def step(self) -> None:
        """Step all."""
        for scheduler in self._schedulers:
            scheduler.step()
        self._last_lr = self._rates


class SequentialLR(_Several):
    """Schedules one after the other, each from its milestone on.

    >>> import tapegrad as tg
    >>> from tapegrad.optim import lr_scheduler
    >>> optimizer = tg.optim.SGD([tg.nn.Parameter(tg.ones(1))], lr=1.0)
    >>> warm, decay = lr_scheduler.ConstantLR(optimizer, 0.5, 2), lr_scheduler.ExponentialLR(optimizer, 0.5)
    >>> schedule = lr_scheduler.SequentialLR(optimizer, [warm, decay], milestones=[2])
    >>> for _ in range(4):
    ...     print(schedule.get_last_lr())
    ...     optimizer.step()
    ...     schedule.step()
    [0.5]
    [0.5]
    [1.0]
    [0.5]
    """

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[Any], milestones: Sequence[int], last_epoch: int = -1
    ) -> None:
        super().__init__(schedulers, optimizer)
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(
                "Sequential Schedulers expects number of schedulers provided to be one more than the number of "
                f"milestone points, but got number of schedulers {len(schedulers)} and the number of milestones to be "
                f"equal to {len(milestones)}"
            )
        self._milestones, self.last_epoch = list(milestones), last_epoch + 1
        for group in optimizer.param_groups:  # their making has set the rates: the first alone does
            group["lr"] = group["initial_lr"]
        _undo(self._schedulers)
        first = self._schedulers[bisect.bisect_right(self._milestones, 0)]
        first._initial_step()
        self._last_lr = first.get_last_lr()

    @_followed
    def step(self) -> None:
        """Go on by one."""
        self.last_epoch += 1
        at = bisect.bisect_right(self._milestones, self.last_epoch)
        scheduler = self._schedulers[at]
        if at > 0 and self._milestones[at - 1] == self.last_epoch:
            scheduler._update_lr(0)
        else:
            scheduler.step()
        self._last_lr = scheduler.get_last_lr()


def _undo(schedulers: Sequence[Any]) -> None:
    """Take the steps back that schedules took when they were made."""
    for scheduler in schedulers:
        if isinstance(scheduler, _Several):
            _undo(scheduler._schedulers)
        else:
            scheduler.last_epoch -= 1


_LRScheduler = LRScheduler  # as it was called
__all__ = [
    "ChainedScheduler", "ConstantLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "CyclicLR", "ExponentialLR",
    "LRScheduler", "LambdaLR", "LinearLR", "MultiStepLR", "MultiplicativeLR", "OneCycleLR", "PolynomialLR",
    "ReduceLROnPlateau", "SequentialLR", "StepLR",
]  # fmt: skip
