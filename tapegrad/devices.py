"""Devices, of which there is one, and how elements lie there.

What programs ask of other devices is answered, and refused where it would compute there.
"""

from __future__ import annotations

import types
from typing import Any

from tapegrad import namesakes
from tapegrad.namesakes import no, nothing


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
        if isinstance(type, int):
            raise RuntimeError("Cannot access accelerator device when none is available: tapegrad computes on the CPU")
        name, colon, number = str(type).partition(":")
        if colon and (not name or not number.isdecimal() or index is not None):
            raise RuntimeError(f"Invalid device string: '{type}'")
        if name not in ("cpu", "cuda", "mps", "xpu", "meta", "hpu", "mtia"):
            raise RuntimeError(
                "Expected one of cpu, cuda, ipu, xpu, mkldnn, opengl, opencl, ideep, hip, ve, fpga, maia, xla, lazy, "
                f"vulkan, mps, meta, hpu, mtia, privateuseone device type at start of device string: {name}"
            )
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
    if given is not None and device(given).type != "cpu":
        raise RuntimeError(f"tapegrad computes on the CPU: device must be 'cpu' or None, but got {str(given)!r}")


class layout:
    """How a tensor is stored: `strided`, the only one that there is."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"tapegrad.{self.name}"

    def __reduce__(self) -> str:
        return self.name


class memory_format(layout):
    """In which order elements lie in memory: as the dimensions do, or with the channels, dimension 1, last."""

    __slots__ = ()


strided = layout("strided")
contiguous_format, preserve_format = memory_format("contiguous_format"), memory_format("preserve_format")
channels_last, channels_last_3d = memory_format("channels_last"), memory_format("channels_last_3d")
_DIMENSIONS = {channels_last: 4, channels_last_3d: 5}


def has_channels_last(format: Any, ndim: int) -> bool:
    """Whether a format puts the channels last.

    Raises
    ------
    TypeError
        Where it is no format.
    RuntimeError
        Where there are other than 4 dimensions (or 5).
    """
    if not isinstance(format, memory_format):
        raise TypeError(f"argument 'memory_format' must be tapegrad.memory_format, not {type(format).__name__}")
    wanted = _DIMENSIONS.get(format, ndim)
    if wanted != ndim:
        raise RuntimeError(
            f"required rank {wanted} tensor to use {format.name} format, but there are {ndim} dimensions"
        )
    return format in _DIMENSIONS


def check_placed(device: Any, of: Any, pin_memory: bool = False) -> None:
    """Raise where a new tensor is to be anywhere but on the CPU, strided, in memory like all other."""
    check_device(device)
    if of is not None and of is not strided:
        if isinstance(of, layout):
            raise RuntimeError(f"tensors are strided: layout must be tapegrad.strided or None, but got {of}")
        raise TypeError(f"argument 'layout' must be tapegrad.layout, not {type(of).__name__}")
    if pin_memory:
        raise RuntimeError(
            "pin_memory=True requires a CUDA or other accelerator backend: the CPU's memory is not pinned"
        )


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


def _none(*args: Any, **facts: Any) -> int:
    """0: there is no such device."""
    return 0


def _no_device(*args: Any, **facts: Any) -> Any:
    """Raise a RuntimeError: there is no such device."""
    raise RuntimeError("tapegrad computes on the CPU: there is no CUDA device")


cuda = namesakes.module(
    "tapegrad.cuda", __doc__="What programs ask of CUDA devices, of which there are none.",
    is_available=no, is_initialized=no, is_bf16_supported=no, device_count=_none, memory_allocated=_none,
    max_memory_allocated=_none, memory_reserved=_none, max_memory_reserved=_none, synchronize=nothing,
    empty_cache=nothing, manual_seed=nothing, manual_seed_all=nothing, seed=nothing, seed_all=nothing,
    reset_peak_memory_stats=nothing, current_device=_no_device, get_device_name=_no_device,
    get_device_properties=_no_device, get_device_capability=_no_device, set_device=_no_device,
)  # fmt: skip
namesakes.add_namesakes("tapegrad.cuda", "amp", "tapegrad.amp.cuda")
mps = namesakes.module(
    "tapegrad.mps", __doc__="What programs ask of Apple's devices, of which there are none.",
    is_available=no, device_count=_none, synchronize=nothing, empty_cache=nothing, manual_seed=nothing,
)  # fmt: skip
_backend = "tapegrad.backends."
backends = namesakes.module(
    "tapegrad.backends",
    __doc__="What programs ask of `cudnn`, `mps`, `cuda`, `mkl`, `openmp` and `mkldnn`, none of which is there.",
    cudnn=namesakes.module(
        _backend + "cudnn", enabled=False, benchmark=False, deterministic=False, allow_tf32=False, is_available=no,
        version=nothing,
    ),
    mps=namesakes.module(_backend + "mps", is_available=no, is_built=no),
    cuda=namesakes.module(_backend + "cuda", is_built=no, matmul=types.SimpleNamespace(allow_tf32=False)),
    mkl=namesakes.module(_backend + "mkl", is_available=no),
    openmp=namesakes.module(_backend + "openmp", is_available=no),
    mkldnn=namesakes.module(_backend + "mkldnn", is_available=no, enabled=False),
)  # fmt: skip
version = namesakes.module("tapegrad.version", cuda=None, hip=None, xpu=None, debug=False)


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Ask for results that are the same each time, as all results are.

    >>> import tapegrad as tg
    >>> tg.use_deterministic_algorithms(True)
    """


def are_deterministic_algorithms_enabled() -> bool:
    """True: there are no others."""
    return True


def set_float32_matmul_precision(precision: str) -> None:
    """Allow products of matrices of float32 less precision: all precisions are kept, so that nothing changes.

    Raises
    ------
    RuntimeError
        Where it is none of "highest", "high", "medium".
    """
    if precision not in ("highest", "high", "medium"):
        raise RuntimeError(
            f"{precision} is not one of the precisions that there are: it must be 'highest', 'high' or 'medium'"
        )


def get_float32_matmul_precision() -> str:
    """How precise products of matrices of float32 are.

    >>> import tapegrad as tg
    >>> tg.get_float32_matmul_precision()
    'highest'
    """
    return "highest"


def get_deterministic_debug_mode() -> int:
    """0: nothing is said of results that differ from time to time, since there are none."""
    return 0


def set_deterministic_debug_mode(debug_mode: int | str) -> None:
    """Ask for a warning, or an error, where results differ from time to time: none do."""
    if debug_mode not in (0, 1, 2, "default", "warn", "error"):
        raise RuntimeError(
            "invalid value of debug_mode, expected one of `default`, `warn`, or `error`, or 0, 1 or 2, but got "
            f"{debug_mode}"
        )


def set_flush_denormal(mode: bool) -> bool:
    """Have numbers below the least normal one be 0: they are kept, and the answer is False.

    >>> import tapegrad as tg
    >>> tg.set_flush_denormal(True)
    False
    """
    return mode is False


def get_num_interop_threads() -> int:
    """1: operations are not run beside one another; `get_num_threads` is what a sweep may use."""
    return 1


def set_num_interop_threads(n: int) -> None:
    """Let so many operations be run beside one another: one is.

    Raises
    ------
    RuntimeError
        Where it is not positive.
    """
    if n < 1:
        raise RuntimeError("set_num_interop_threads expects a positive integer")
