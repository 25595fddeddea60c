"""Parts of PyTorch that are not here, and what programs ask of them in passing.

>>> import tapegrad as tg
>>> tg.compiler.is_compiling(), tg.onnx.is_in_onnx_export()
(False, False)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tapegrad import namesakes
from tapegrad.namesakes import no, nothing


def _as_it_is(fn: Any = None, *args: Any, **facts: Any) -> Any:
    """A decorator, plain or with arguments, that leaves a function as it is."""
    del args, facts
    return fn if callable(fn) else _as_it_is


def _configuration() -> str:
    """The libraries that compute: for `python -m tapegrad doctor` to say."""
    return "tapegrad: NumPy, SciPy and Numba, on the CPU\n"


def _assert(condition: Any, message: str) -> None:
    """Raise AssertionError with the message where the condition is false."""
    if not condition:
        raise AssertionError(message)


def _check(cond: bool, message: Callable[[], str] | None = None) -> None:
    """Raise RuntimeError with what the message gives where the condition is false."""
    if not cond:
        raise RuntimeError("Expected cond to be True, but got False" if message is None else str(message()))


def _assert_async(input: Any, assert_msg: str = "Expected Tensor with single nonzero value, but got zero") -> None:
    """Raise RuntimeError where a tensor of one element is zero: at once, there is no other device to wait for."""
    _check(bool(input), lambda: assert_msg)


compiler = namesakes.module(
    "tapegrad.compiler", __doc__="What programs ask of PyTorch's compiler.",
    is_compiling=no, is_dynamo_compiling=no, is_exporting=no, reset=nothing, disable=_as_it_is,
    allow_in_graph=_as_it_is, assume_constant_result=_as_it_is, cudagraph_mark_step_begin=nothing,
)  # fmt: skip
onnx = namesakes.module("tapegrad.onnx", __doc__="What programs ask of the export to ONNX.", is_in_onnx_export=no)
_C = namesakes.module(
    "tapegrad._C", __doc__="What programs ask of PyTorch's compiled part.",
    _log_api_usage_once=nothing, _get_tracing_state=nothing,
)  # fmt: skip
__config__ = namesakes.module(
    "tapegrad.__config__", __doc__="How the library was built.", show=_configuration, parallel_info=_configuration
)
namesakes.add_namesakes("tapegrad", "functional", "tapegrad")
