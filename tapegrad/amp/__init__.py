"""What scripts that train in mixed precision name: here nothing is computed in less precision than it has.

There are float32 and float64, and no shorter ones: `autocast` and `GradScaler` warn, unless they are disabled, and
change nothing, as PyTorch's do where the device can't.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable
from types import TracebackType
from typing import Any


class autocast(contextlib.ContextDecorator):  # noqa: N801 (a context manager, as in PyTorch)
    """Compute in less precision, within a `with` statement or a decorated function: none is lost, and it warns.

    Parameters
    ----------
    device_type : str
        "cpu", "cuda" ...
    dtype : optional
        The shorter dtype, which is not there.
    enabled : bool
        With False there is nothing to warn of.
    cache_enabled : bool, optional
        Whether PyTorch keeps the weights that it has cast; changes nothing here.

    >>> import tapegrad as tg
    >>> with tg.autocast("cpu", enabled=False):
    ...     (tg.ones(1) * 2).dtype
    tapegrad.float64
    """

    def __init__(
        self, device_type: str, dtype: Any = None, enabled: bool = True, cache_enabled: bool | None = None
    ) -> None:
        if not isinstance(device_type, str):
            raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
        del dtype, cache_enabled
        self.device = device_type
        if enabled:
            warnings.warn(
                f"In {device_type.upper()} autocast, but the target dtype is not supported. Disabling autocast: there "
                "are float32 and float64 alone, and all is computed in the precision that it has",
                stacklevel=2,
            )

    def __enter__(self) -> autocast:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing was changed."""


class GradScaler:
    """Scale losses so that gradients of float16 don't vanish: there is no float16, and it scales by 1.

    Parameters
    ----------
    device : str
        "cpu", "cuda" ...
    init_scale : float
        PyTorch's scale in the first step; like the three that follow it changes nothing here.
    growth_factor : float
        By which PyTorch multiplies it after `growth_interval` steps without inf or nan.
    backoff_factor : float
        By which PyTorch multiplies it after a step with inf or nan.
    growth_interval : int
        How many steps without inf or nan that takes.
    enabled : bool
        With False there is nothing to warn of.

    >>> import tapegrad as tg
    >>> w = tg.ones(1, requires_grad=True)
    >>> scaler, optimizer = tg.amp.GradScaler("cpu", enabled=False), tg.optim.SGD([w], lr=0.5)
    >>> scaler.scale((w * w).sum()).backward()
    >>> scaler.step(optimizer)
    >>> scaler.update()
    >>> w
    tensor([0.], requires_grad=True)
    """

    def __init__(
        self, device: str = "cuda", init_scale: float = 2.0**16, growth_factor: float = 2.0,
        backoff_factor: float = 0.5, growth_interval: int = 2000, enabled: bool = True,
    ) -> None:  # fmt: skip
        del init_scale, growth_factor, backoff_factor, growth_interval
        if enabled:
            warnings.warn(
                f"GradScaler is enabled, but gradients of float16 are not available on {device}. Disabling: there are "
                "float32 and float64 alone, whose gradients need no scale",
                stacklevel=2,
            )

    def scale(self, outputs: Any) -> Any:
        """The outputs as they are."""
        return list(outputs) if isinstance(outputs, Iterable) and not hasattr(outputs, "shape") else outputs

    def unscale_(self, optimizer: Any) -> None:
        """Leave gradients as they are: they have no scale."""

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """Have the optimiser take a step."""
        return optimizer.step(*args, **kwargs)

    def update(self, new_scale: Any = None) -> None:
        """Do nothing: the scale stays 1."""

    def is_enabled(self) -> bool:
        """False: nothing is scaled."""
        return False

    def get_scale(self) -> float:
        """The scale, which is 1."""
        return 1.0

    def state_dict(self) -> dict[str, Any]:
        """An empty dictionary: there is nothing to save."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Do nothing: there is nothing to load."""


def is_autocast_available(device_type: str) -> bool:
    """False: there is no float16."""
    del device_type
    return False


def is_autocast_enabled(device_type: str | None = None) -> bool:
    """False.

    >>> import tapegrad as tg
    >>> tg.is_autocast_enabled()
    False
    """
    del device_type
    return False


def custom_fwd(fwd: Any = None, *, device_type: str, cast_inputs: Any = None) -> Any:
    """Decorate the `forward` of a `Function` that is called under `autocast`: nothing changes.

    Raises
    ------
    RuntimeError
        Where operands are to be cast.

    >>> import tapegrad as tg
    >>> class Double(tg.autograd.Function):
    ...     @staticmethod
    ...     @tg.amp.custom_fwd(device_type="cpu")
    ...     def forward(ctx, x):
    ...         return 2 * x
    ...
    ...     @staticmethod
    ...     @tg.amp.custom_bwd(device_type="cpu")
    ...     def backward(ctx, y_bar):
    ...         return 2 * y_bar
    >>> Double.apply(tg.tensor(3.0))
    tensor(6.)
    """
    del device_type
    if cast_inputs is not None:
        raise RuntimeError(f"custom_fwd: operands keep their dtypes: cast_inputs must be None, but got {cast_inputs}")
    return (lambda forward: forward) if fwd is None else fwd


def custom_bwd(bwd: Any = None, *, device_type: str) -> Any:
    """Decorate the `backward` of a `Function` that is called under `autocast`: nothing changes."""
    del device_type
    return (lambda backward: backward) if bwd is None else bwd


__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd", "is_autocast_available", "is_autocast_enabled"]
