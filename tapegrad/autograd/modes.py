"""Whether operations are recorded for gradients: context managers that are decorators too.

Each thread has its own mode.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any, TypeVar

from tapegrad import tape as tapes
from tapegrad.kinds import FORWARD
from tapegrad.tape import Tape, current_tape

F = TypeVar("F", bound=Callable[..., Any])


def _enabled(tape: Tape, wanted: bool) -> Any:
    """What a tape's `grad_enabled` is: tangents flow without gradients, too."""
    return tape.enabled if wanted else tape.disabled if tape.duals is None else FORWARD


class _Mode:
    """Sets the mode on entry and restores it on exit; may be entered again, also while it is entered."""

    _wanted = True

    def __init__(self) -> None:
        self._previous: list[tuple[Tape, bool]] = []

    def __enter__(self) -> None:
        tape = current_tape()
        self._previous.append((tape, tape.grad_enabled))
        tape.grad_enabled = _enabled(tape, self._wanted)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        here, previous, at = current_tape(), self._previous, -1
        if previous[-1][0] is not here:  # other threads have entered it meanwhile
            at = next((i for i in reversed(range(len(previous))) if previous[i][0] is here), -1)
        tape, enabled = previous.pop(at)
        tape.grad_enabled = tape.enabled if enabled else enabled

    def _again(self) -> _Mode:
        return type(self)()

    def __call__(self, function: F) -> F:
        if not callable(function):
            raise TypeError(f"{type(self).__name__} decorates functions, but was given {type(function).__name__}")

        @functools.wraps(function)
        def inside(*args: Any, **facts: Any) -> Any:
            with self._again():
                return function(*args, **facts)

        @functools.wraps(function)
        def inside_generator(*args: Any, **facts: Any) -> Generator[Any, Any, Any]:
            generator = function(*args, **facts)
            resume, given = generator.send, None
            while True:
                try:
                    with self._again():  # only while the generator runs: between its items the mode is the caller's
                        item = resume(given)
                except StopIteration as stop:
                    return stop.value
                try:
                    resume, given = generator.send, (yield item)
                except BaseException as error:
                    resume, given = generator.throw, error

        return inside_generator if inspect.isgeneratorfunction(function) else inside  # type: ignore[return-value]


class no_grad(_Mode):
    """Record nothing for gradients: results do not require grad.

    >>> import tapegrad as tg
    >>> x = tg.ones(2, requires_grad=True)
    >>> with tg.no_grad():
    ...     y = x * 2
    >>> y.requires_grad
    False
    """

    _wanted = False

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        return object.__new__(cls) if function is None else cls()(function)


class inference_mode(_Mode):
    """Record nothing for gradients, as `no_grad`; `inference_mode(False)` records.

    What is made inside is a tensor like others, and may be used in graphs afterwards.

    >>> import tapegrad as tg
    >>> x = tg.ones(2, requires_grad=True)
    >>> with tg.inference_mode():
    ...     y = x * 2
    ...     print(tg.is_inference_mode_enabled())
    True
    >>> y.requires_grad
    False
    """

    def __new__(cls, mode: Any = True) -> Any:
        return cls()(mode) if callable(mode) else object.__new__(cls)

    def __init__(self, mode: bool = True) -> None:
        super().__init__()
        self.mode = mode
        self._wanted = not mode

    def __enter__(self) -> None:
        super().__enter__()
        _inference.depths.append(self.mode)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _inference.depths.pop()
        super().__exit__(kind, error, trace)

    def _again(self) -> _Mode:
        return inference_mode(self.mode)


class _Inference(threading.local):
    """The inference modes that a thread is in, the innermost last."""

    def __init__(self) -> None:
        self.depths: list[bool] = []


_inference = _Inference()


def is_inference_mode_enabled() -> bool:
    """Whether the innermost `inference_mode` is on.

    >>> import tapegrad as tg
    >>> tg.is_inference_mode_enabled()
    False
    """
    return bool(_inference.depths) and _inference.depths[-1]


class set_multithreading_enabled:
    """Whether a reverse sweep may use other threads that record; as a context manager, until the end.

    It changes nothing: a sweep runs on the thread that asks for it, and its loops on those of `set_num_threads`.
    """

    def __init__(self, mode: bool) -> None:
        self.mode = mode

    def __enter__(self) -> None:
        """Nothing."""

    def __exit__(self, *_: object) -> None:
        """Nothing."""


def is_multithreading_enabled() -> bool:
    """True: see `set_multithreading_enabled`."""
    return True


class enable_grad(_Mode):
    """Record for gradients, also inside `no_grad`.

    >>> import tapegrad as tg
    >>> x = tg.ones(2, requires_grad=True)
    >>> with tg.no_grad(), tg.enable_grad():
    ...     y = x * 2
    >>> y.requires_grad
    True
    """

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        return object.__new__(cls) if function is None else cls()(function)


class set_grad_enabled(_Mode):
    """Set the mode at once; as a context manager, restore it at the end.

    >>> import tapegrad as tg
    >>> with tg.set_grad_enabled(False):
    ...     tg.is_grad_enabled()
    False
    """

    def __init__(self, mode: bool) -> None:
        if not isinstance(mode, bool):
            raise TypeError(
                f"set_grad_enabled(): argument 'enabled' (position 1) must be bool, not {type(mode).__name__}"
            )
        super().__init__()
        self._wanted = mode
        tape = current_tape()
        self._before = tape.grad_enabled
        tape.grad_enabled = _enabled(tape, self._wanted)

    def __enter__(self) -> None:
        tape = current_tape()
        self._previous.append((tape, self._before))
        tape.grad_enabled = _enabled(tape, self._wanted)

    def __call__(self, function: F) -> F:
        current_tape().grad_enabled = self._before  # a decorator changes nothing until the function is called
        return super().__call__(function)

    def _again(self) -> _Mode:
        return set_grad_enabled(self._wanted)


class memory_limit(contextlib.ContextDecorator):
    """Have sweeps of this thread's tape keep the values they compute to so many bytes, where they can.

    What would take more is let go as soon as it was read, but for what is handed on from one part of the graph to the
    next, and computed again, once, when gradients are taken. These are the same, bit for bit. It is the limit at the
    time of the sweep that counts, of `backward()` say; `current_tape().memory_limit` sets it for good.

    It holds for values in between, not for leaves, adjoints, and what somebody holds. Functions of the host's are not
    called again, so their values stay; random numbers are drawn when they are recorded, and stay. There is no limit for
    sweeps that write to elements of tensors in place, for scalars, for gradients that are recorded (`create_graph`,
    hooks on what was computed), and in compiled functions. Where a graph can't do with so little, it has as much as it
    needs.

    Parameters
    ----------
    limit : int or None
        Bytes; None for no limit.

    Raises
    ------
    TypeError, ValueError
        Where it is no int, or not positive.

    >>> import tapegrad as tg
    >>> x = tg.ones(100, 100, requires_grad=True)
    >>> y = x
    >>> for _ in range(20):
    ...     y = (y @ x / 100).tanh()
    >>> with tg.autograd.memory_limit(500_000):  # it would be 3 MB
    ...     y.sum().backward()
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = tapes.checked_limit(limit)
        self._before: list[tuple[Tape, int | None]] = []

    def __enter__(self) -> None:
        tape = current_tape()
        self._before.append((tape, tape.memory_limit))
        tape.memory_limit = self._limit

    def __exit__(self, *_: object) -> None:
        tape, limit = self._before.pop()
        tape.memory_limit = limit


class detect_anomaly:
    """Look for nan: a gradient that has one is an error, which names the operation, and the line that recorded it.

    Operations are recorded in Python meanwhile, and reverse sweeps go through it: all is much slower.

    Parameters
    ----------
    check_nan : bool
        Whether nan is looked for; else only lines are kept.

    >>> import tapegrad as tg
    >>> x = tg.tensor(0.0, requires_grad=True)
    >>> with tg.autograd.detect_anomaly():
    ...     (x * float("nan")).backward()  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    RuntimeError: Function 'MulBackward0' returned nan values in its 0th output. ...
    """

    def __init__(self, check_nan: bool = True) -> None:
        self.check_nan = check_nan
        self._before: list[tuple[bool, bool]] = []

    def __enter__(self) -> None:
        self._before.append((is_anomaly_enabled(), current_tape().checks_nan))
        _set_anomaly(True, self.check_nan)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _set_anomaly(*self._before.pop())


class set_detect_anomaly(detect_anomaly):
    """Set at once whether nan is looked for; as a context manager, restore it at the end: see `detect_anomaly`.

    >>> import tapegrad as tg
    >>> with tg.autograd.set_detect_anomaly(True):
    ...     tg.is_anomaly_enabled()
    True
    >>> tg.is_anomaly_enabled()
    False
    """

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        super().__init__(check_nan)
        self._at_first = is_anomaly_enabled(), current_tape().checks_nan
        _set_anomaly(mode, check_nan)

    def __enter__(self) -> None:
        self._before.append(self._at_first)


def _set_anomaly(mode: bool, check_nan: bool) -> None:
    tape = current_tape()
    otherwise = True if tape.packs is None else tapes.PACKED
    tape.enabled, tape.checks_nan = tapes.TRACED if mode else otherwise, mode and check_nan
    tape.grad_enabled = _enabled(tape, bool(tape.grad_enabled))


def is_anomaly_enabled() -> bool:
    """Whether nan is looked for: see `detect_anomaly`.

    >>> import tapegrad as tg
    >>> with tg.autograd.detect_anomaly():
    ...     print(tg.is_anomaly_enabled())
    True
    """
    return current_tape().enabled is tapes.TRACED


def is_anomaly_check_nan_enabled() -> bool:
    """Whether nan is an error where it is looked for: what `detect_anomaly` was told by `check_nan`.

    >>> import tapegrad as tg
    >>> with tg.autograd.detect_anomaly(check_nan=False):
    ...     print(tg.is_anomaly_enabled(), tg.is_anomaly_check_nan_enabled())
    True False
    """
    return not is_anomaly_enabled() or bool(current_tape().checks_nan)


def is_grad_enabled() -> bool:
    """Whether operations are recorded for gradients.

    >>> import tapegrad as tg
    >>> tg.is_grad_enabled()
    True
    """
    return bool(current_tape().grad_enabled)
