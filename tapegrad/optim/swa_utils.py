"""Averages of a model's parameters over steps, as in `torch.optim.swa_utils`; a rate that goes to a constant."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any

from tapegrad import creation
from tapegrad.nn.layers import BatchNorm
from tapegrad.nn.module import Module
from tapegrad.optim.lr_scheduler import LRScheduler
from tapegrad.optim.optimizer import Optimizer
from tapegrad.tape import current_tape, in_grad_mode
from tapegrad.tensor import Tensor

Average = Callable[[Tensor, Tensor, Any], Tensor]
Averages = Callable[[list[Tensor], list[Tensor], Any], None]


def get_swa_avg_fn() -> Average:
    """The mean of all: `average + (value - average) / (n + 1)`.

    >>> import tapegrad as tg
    >>> from tapegrad.optim import swa_utils
    >>> average = swa_utils.get_swa_avg_fn()
    >>> average(tg.tensor(1.0), tg.tensor(4.0), 2)  # (2 * 1 + 4) / 3
    tensor(2.)
    """

    def swa_update(averaged_param: Tensor, current_param: Tensor, num_averaged: Any) -> Tensor:
        return averaged_param + (current_param - averaged_param) / (num_averaged + 1)

    return swa_update


def get_ema_avg_fn(decay: float = 0.999) -> Average:
    """A decaying mean: `decay average + (1 - decay) value`.

    Raises
    ------
    ValueError
        Where `decay` is not in [0, 1].

    >>> import tapegrad as tg
    >>> from tapegrad.optim import swa_utils
    >>> average = swa_utils.get_ema_avg_fn(decay=0.75)
    >>> average(tg.tensor(1.0), tg.tensor(5.0), 2)  # 0.75 * 1 + 0.25 * 5
    tensor(2.)
    """
    if not 0.0 <= decay <= 1.0:
        raise ValueError(f"Invalid decay value {decay} provided. Please provide a value in [0,1] range.")

    def ema_update(averaged_param: Tensor, current_param: Tensor, num_averaged: Any) -> Tensor:
        del num_averaged
        return decay * averaged_param + (1 - decay) * current_param

    return ema_update


def _of_lists(average: Average) -> Averages:
    def update(averaged_params: list[Tensor], current_params: list[Tensor], num_averaged: Any) -> None:
        for mine, theirs in zip(averaged_params, current_params, strict=True):
            mine.copy_(average(mine, theirs, num_averaged))

    return update


def get_swa_multi_avg_fn() -> Averages:
    """`get_swa_avg_fn` for lists of tensors, in place.

    >>> import tapegrad as tg
    >>> from tapegrad.optim import swa_utils
    >>> means, average = [tg.tensor(1.0)], swa_utils.get_swa_multi_avg_fn()
    >>> average(means, [tg.tensor(4.0)], 2)
    >>> means
    [tensor(2.)]
    """
    return _of_lists(get_swa_avg_fn())


def get_ema_multi_avg_fn(decay: float = 0.999) -> Averages:
    """`get_ema_avg_fn` for lists of tensors, in place.

    >>> import tapegrad as tg
    >>> from tapegrad.optim import swa_utils
    >>> means, average = [tg.tensor(1.0)], swa_utils.get_ema_multi_avg_fn(decay=0.75)
    >>> average(means, [tg.tensor(5.0)], 2)
    >>> means
    [tensor(2.)]
    """
    return _of_lists(get_ema_avg_fn(decay))


class AveragedModel(Module):
    """A copy of a model whose parameters are averages of its own (Izmailov et al. 2018; Polyak 1990).

    Parameters
    ----------
    model : Module
        What is averaged: call `update_parameters(model)` when there are new values.
    device : optional
        The CPU.
    avg_fn : callable, optional
        The new average, of the one before, a value, and how many there have been: the mean of all unless it is given.
    multi_avg_fn : callable, optional
        The same for lists of tensors, in place.
    use_buffers : bool
        Average buffers too; else they are the model's.

    >>> import tapegrad as tg
    >>> model = tg.nn.Linear(1, 1)
    >>> average = tg.optim.swa_utils.AveragedModel(model)
    >>> for value in (1.0, 3.0):
    ...     _ = tg.nn.init.constant_(model.weight, value)
    ...     average.update_parameters(model)
    >>> average.module.weight.item()
    2.0
    """

    def __init__(
        self, model: Module, device: Any = None, avg_fn: Average | None = None, multi_avg_fn: Averages | None = None,
        use_buffers: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise AssertionError("Only one of avg_fn and multi_avg_fn should be provided")
        self.module: Any = copy.deepcopy(model)
        if device is not None:
            self.module.to(device)
        self.register_buffer("n_averaged", creation.tensor(0))
        self.avg_fn, self.multi_avg_fn, self.use_buffers = avg_fn, multi_avg_fn, use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the model with averages gives."""
        return self.module(*args, **kwargs)

    def update_parameters(self, model: Module) -> None:
        """Take the values of a model into the averages."""
        in_grad_mode(current_tape(), False, self._update, model)

    def _update(self, model: Module) -> None:
        n = int(self.n_averaged.item())
        pairs = list(zip(self.module.parameters(), model.parameters(), strict=True))
        buffers = list(zip(self.module.buffers(), model.buffers(), strict=True))
        if self.use_buffers:
            pairs, buffers = pairs + buffers, []
        if n == 0:
            buffers = pairs + buffers
        else:
            update = self.multi_avg_fn or _of_lists(self.avg_fn or get_swa_avg_fn())
            update([mine.detach() for mine, _ in pairs], [theirs.detach() for _, theirs in pairs], self.n_averaged)
        for mine, theirs in buffers:
            mine.copy_(theirs.detach())
        self.n_averaged.add_(1)


def update_bn(loader: Iterable[Any], model: Module, device: Any = None) -> None:
    """Find means and variances of the batch normalisations of a model anew, in one pass over data.

    Parameters
    ----------
    loader : iterable
        Batches: tensors, or lists and tuples with one first.
    model : Module
        What has the batch normalisations.
    device : optional
        The CPU.

    >>> import tapegrad as tg
    >>> from tapegrad.optim import swa_utils
    >>> model = tg.nn.BatchNorm1d(1, momentum=None)
    >>> swa_utils.update_bn([tg.zeros(4, 1), tg.ones(4, 1)], model)
    >>> model.running_mean
    tensor([0.5000])
    """
    del device
    momenta = {module: module.momentum for module in model.modules() if isinstance(module, BatchNorm)}
    if not momenta:
        return
    was_training = model.training
    model.train()
    for module in momenta:
        module.reset_running_stats()
        module.momentum = None
    try:
        for batch in loader:
            in_grad_mode(current_tape(), False, model, batch[0] if isinstance(batch, (list, tuple)) else batch)
    finally:
        for module, momentum in momenta.items():
            module.momentum = momentum
        model.train(was_training)


class SWALR(LRScheduler):
    """Rates that go to a constant, `swa_lr`, in some epochs, and stay there.

    Parameters
    ----------
    optimizer : Optimizer
        Whose rates are set.
    swa_lr : float or list of float
        For all groups, or one for each.
    anneal_epochs : int
        In how many epochs.
    anneal_strategy : str
        Along a cosine ("cos") or a line ("linear").

    >>> import tapegrad as tg
    >>> optimizer = tg.optim.SGD([tg.ones(1, requires_grad=True)], lr=1.0)
    >>> scheduler = tg.optim.swa_utils.SWALR(optimizer, 0.5, anneal_epochs=2, anneal_strategy="linear")
    >>> for _ in range(3):
    ...     optimizer.step()
    ...     scheduler.step()
    >>> scheduler.get_last_lr()
    [0.5]
    """

    def __init__(
        self, optimizer: Optimizer, swa_lr: Any, anneal_epochs: Any = 10, anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:  # fmt: skip
        groups = optimizer.param_groups
        rates = list(swa_lr) if isinstance(swa_lr, (list, tuple)) else [swa_lr] * len(groups)
        if len(rates) != len(groups):
            raise ValueError(
                f"swa_lr must have the same length as optimizer.param_groups. swa_lr has {len(rates)} values, "
                f"param_groups has {len(groups)}."
            )
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}")
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise ValueError(f"anneal_epochs must be equal or greater than 0, got {anneal_epochs}")
        for group, rate in zip(groups, rates, strict=True):
            group["swa_lr"] = rate
        self.anneal_epochs, self._anneal_strategy = anneal_epochs, anneal_strategy
        super().__init__(optimizer, last_epoch)

    def _part(self, step: int) -> float:
        """How far the rates have gone, from 0 to 1, at a step."""
        t = max(0.0, min(1.0, step / max(1, self.anneal_epochs)))
        return t if self._anneal_strategy == "linear" else (1 - math.cos(math.pi * t)) / 2

    def get_lr(self) -> list[float]:
        """See `LRScheduler`."""
        step = self._step_count - 1 if self.anneal_epochs else max(1, self._step_count - 1)
        before, now = self._part(step - 1), self._part(step)
        rates = []
        for group in self.optimizer.param_groups:
            lr, end = group["lr"], group["swa_lr"]
            start = end if before == 1 else (lr - before * end) / (1 - before)
            rates.append(end * now + start * (1 - now))
        return rates


__all__ = [
    "SWALR", "AveragedModel", "get_ema_avg_fn", "get_ema_multi_avg_fn", "get_swa_avg_fn", "get_swa_multi_avg_fn",
    "update_bn",
]  # fmt: skip
