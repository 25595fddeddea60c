"""Devices, of which there is one: what programs ask of others is answered, and refused where it would compute there."""

from __future__ import annotations

import types
from typing import Any


class device(str):
    """Where tensors are: `device("cpu")`. Others can be named, and nothing can be put there.

    >>> import tapegrad as tg
    >>> tg.device("cuda:1" if tg.cuda.is_available() else "cpu")
    device(type='cpu')
    >>> tg.ones(2).device.type
    'cpu'
    """

    __slots__ = ("index", "type")
    type: str
    index: int | None  # type: ignore[assignment]

    def __new__(cls, type: Any = "cpu", index: int | None = None) -> device:
        """A device by its name, with its number behind a colon, or given."""
        name, _, number = str(type).partition(":")
        if name not in ("cpu", "cuda", "mps", "xpu", "meta", "hpu", "mtia"):
            raise RuntimeError(
                "Expected one of cpu, cuda, ipu, xpu, mkldnn, opengl, opencl, ideep, hip, ve, fpga, maia, xla, lazy, "
                f"vulkan, mps, meta, hpu, mtia, privateuseone device type at start of device string: {name}"
            )
        if number and (index is not None or not number.isdecimal()):
            raise RuntimeError(f"Invalid device string: '{type}'")
        place = int(number) if number else index
        made = str.__new__(cls, name if place is None else f"{name}:{place}")
        made.type, made.index = name, place
        return made

    def __repr__(self) -> str:
        return f"device(type='{self.type}'" + (")" if self.index is None else f", index={self.index})")

    def __reduce__(self) -> tuple[Any, ...]:
        return device, (self.type, self.index)


CPU = device("cpu")


def check_device(given: Any) -> None:
    """Raise RuntimeError for all but the CPU, and None."""
    if given is not None and str(given).partition(":")[0] != "cpu":
        raise RuntimeError(f"tapegrad computes on the CPU: device must be 'cpu' or None, but got {str(given)!r}")


def set_default_device(device: Any) -> None:
    """Where new tensors are: the CPU, or an error."""
    check_device(device)


def get_default_device() -> device:
    """Where new tensors are.

    >>> import tapegrad as tg
    >>> tg.get_default_device()
    device(type='cpu')
    """
    return CPU


def _nothing(*args: Any, **facts: Any) -> None:
    """What is asked of a device that is not there."""


def _no(*args: Any, **facts: Any) -> bool:
    """Whether a device is there."""
    return False


def _none(*args: Any, **facts: Any) -> int:
    """How many there are."""
    return 0


cuda = types.SimpleNamespace(
    is_available=_no, is_initialized=_no, is_bf16_supported=_no, device_count=_none, memory_allocated=_none,
    max_memory_allocated=_none, memory_reserved=_none, synchronize=_nothing, empty_cache=_nothing,
    manual_seed=_nothing, manual_seed_all=_nothing, reset_peak_memory_stats=_nothing,
)  # fmt: skip
mps = types.SimpleNamespace(
    is_available=_no, device_count=_none, synchronize=_nothing, empty_cache=_nothing, manual_seed=_nothing
)
backends = types.SimpleNamespace(
    cudnn=types.SimpleNamespace(enabled=False, benchmark=False, deterministic=True, is_available=_no, version=_nothing),
    mps=types.SimpleNamespace(is_available=_no, is_built=_no),
    cuda=types.SimpleNamespace(is_built=_no, matmul=types.SimpleNamespace(allow_tf32=False)),
)
