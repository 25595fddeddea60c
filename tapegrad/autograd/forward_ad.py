"""Forward mode as PyTorch has it: dual tensors, which have a tangent beside their value, at one level at a time.

A dual tensor is recorded, and so is what is computed of it, with gradients or without. Tangents are pushed through
these rows when they are asked for: of what nobody unpacks there are none to compute.

>>> import tapegrad as tg
>>> import tapegrad.autograd.forward_ad as fwAD
>>> with fwAD.dual_level():
...     x = fwAD.make_dual(tg.tensor([1.0, 2.0]), tg.tensor([1.0, 0.0]))
...     y = (x * x).sum()
...     fwAD.unpack_dual(y)
UnpackedDualTensor(primal=tensor(5.), tangent=tensor(2.))
"""

# That tangents flow through a value is a bit of `requires_grad` in its kind: TANGENTS. `tangents.py` pushes them.

from __future__ import annotations

import functools
import operator
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple

from tapegrad import engine
from tapegrad.autograd import tangents
from tapegrad.autograd.recorded import Lender
from tapegrad.autograd.walk import operand_slots
from tapegrad.dtypes import DType
from tapegrad.kinds import FORWARD, GRADIENTS, TANGENTS
from tapegrad.recording import local
from tapegrad.tape import Tape, current_tape, in_grad_mode
from tapegrad.tensor import Tensor, describe, lend, location


class UnpackedDualTensor(NamedTuple):
    """A value, and its tangent; None for none."""

    primal: Tensor
    tangent: Tensor | None


class _Level:
    """The level that a thread is in: what has a tangent, by its slot."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        # What it is the tangent of, which is held if it is a dual tensor, and else weakly; and the tangent.
        self.known: dict[int, tuple[Callable[[], Tensor | None], Tensor]] = {}
        self.functions: Any = weakref.WeakKeyDictionary()

    def hold(self, dual: Tensor, tangent: Tensor) -> None:
        """Note the tangent of a dual tensor."""
        kept = lend(self.tape, dual._slot, dual._kind)
        self.known[dual._slot] = lambda: kept, tangent

    def note(self, t: Tensor, tangent: Tensor) -> None:
        """Note the tangent of what was computed."""
        self.known[t._slot] = weakref.ref(t), tangent

    def slots(self) -> dict[int, Tensor]:
        """What is known: tangents by slots."""
        found = {}
        for slot, (reference, tangent) in list(self.known.items()):
            t = reference()
            if t is not None and t._slot == slot:
                found[slot] = tangent
            else:
                del self.known[slot]
        return found

    def tangent_of(self, t: Tensor) -> Tensor | None:
        """The tangent of a tensor, pushed there from what is known; None for none."""
        if not t._kind.requires_grad & TANGENTS or t._tape is not self.tape:
            return None
        tape, given = self.tape, self.slots()
        if t._slot in given:
            return given[t._slot]
        steps = tangents.steps_between(tape, [t._slot], given, TANGENTS)
        read = {slot for step in steps for row in step for slot in operand_slots(row)}
        given = {slot: tangent for slot, tangent in given.items() if slot in read}
        bits = functools.reduce(operator.or_, (d._kind.requires_grad for d in (t, *given.values())))
        lent = Lender(tape, GRADIENTS)
        (found,) = in_grad_mode(
            tape, bits & GRADIENTS, tangents.push, tape, steps, given, [t._slot], None, lent, self.functions
        )
        if found is None:
            return None
        if not found._kind.requires_grad:
            with tape.lock:
                engine.run(tape, [t._slot, found._slot])
        self.note(t, found)
        made: Tensor = found
        return made


def enter_dual_level() -> int:
    """Begin a level, in which tensors may have tangents; its number.

    Raises
    ------
    RuntimeError
        Inside another: levels don't nest (`func.jvp` does).

    >>> import tapegrad as tg
    >>> from tapegrad.autograd import forward_ad
    >>> level = forward_ad.enter_dual_level()
    >>> x = forward_ad.make_dual(tg.tensor(3.0), tg.tensor(1.0))
    >>> forward_ad.unpack_dual(x * x).tangent
    tensor(6.)
    >>> forward_ad.exit_dual_level(level=level)
    """
    tape = current_tape()
    if tape.duals is not None:
        raise RuntimeError(f"Nested forward mode AD is not supported at the moment: func.jvp nests, at {location()}")
    if tape.watch is not None:
        tape.watch.fail("begins a level of forward mode")
    tape.duals = _Level(tape)
    if tape.grad_enabled is False:
        tape.grad_enabled = FORWARD
    return 0


def exit_dual_level(*, level: int | None = None) -> None:
    """End the level; what was computed has no tangents from then on.

    Parameters
    ----------
    level : int, optional
        The number that `enter_dual_level` gave.

    Raises
    ------
    RuntimeError
        Where there is none, or `level` is not its number.
    """
    tape = current_tape()
    if level is None and tape.duals is None:
        raise RuntimeError("Dual level must be a positive number: there is no level to exit")
    if tape.duals is None or level not in (None, 0):
        raise RuntimeError(
            "Trying to exit a forward AD level that was not the last one that was created. This is not supported."
        )
    tape.duals = None
    if tape.grad_enabled is FORWARD:
        tape.grad_enabled = False


class dual_level:  # noqa: N801
    """A context in which tensors may have tangents: see `make_dual`.

    >>> import tapegrad as tg
    >>> with tg.autograd.forward_ad.dual_level():
    ...     x = tg.autograd.forward_ad.make_dual(tg.tensor(2.0), tg.tensor(1.0))
    ...     tg.autograd.forward_ad.unpack_dual(x**3).tangent
    tensor(12.)
    """

    def __enter__(self) -> int:
        return enter_dual_level()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        exit_dual_level()


def _level(number: int | None, name: str) -> _Level | None:
    level: _Level | None = current_tape().duals
    if level is not None and number not in (None, 0):
        raise RuntimeError(f"Invalid level given to {name}")
    return level


def _check_floating(t: Any, which: str) -> DType:
    if not isinstance(t, Tensor):
        raise TypeError(f"make_dual(): argument '{which}' must be Tensor, not {type(t).__name__}")
    if not t.is_floating_point():
        raise ValueError(f"Expected {which} to be floating point or complex, but got: {t.dtype}")
    return t.dtype


def make_dual(tensor: Tensor, tangent: Tensor, *, level: int | None = None) -> Tensor:
    """A tensor with the elements of another, and a tangent, which flows through what is computed of it.

    Parameters
    ----------
    tensor : Tensor
        The value, a float. Gradients flow on to it; writing to what is returned does not change it.
    tangent : Tensor
        Of its shape. Gradients flow to it too.
    level : int, optional
        The level there is.

    Raises
    ------
    RuntimeError
        Outside of a level; where shapes differ, or one of the two has a tangent already.
    ValueError, TypeError
        Where one is no float, or no Tensor.

    >>> import tapegrad as tg
    >>> import tapegrad.autograd.forward_ad as fwAD
    >>> with fwAD.dual_level():
    ...     x = fwAD.make_dual(tg.tensor(2.0), tg.tensor(1.0))
    ...     fwAD.unpack_dual(x**3).tangent
    tensor(12.)
    """
    tape, here = current_tape(), _level(level, "_make_dual")
    if here is None:
        raise RuntimeError(
            "Trying to create a dual Tensor for forward AD but no level exists, make sure to enter_dual_level() first."
        )
    _check_floating(tensor, "primal")
    _check_floating(tangent, "tangent")
    tensor, tangent = local(tensor), local(tangent)
    if tensor._kind.shape != tangent._kind.shape:
        raise RuntimeError(
            "Trying to set a forward gradient that has a different size than that of the original Tensor, this is not "
            f"supported. Tensor is of size {list(tensor._kind.shape)} while the given forward gradient is of size "
            f"{list(tangent._kind.shape)}."
        )
    if tensor._kind.requires_grad & TANGENTS and unpack_dual(tensor).tangent is not None:
        raise RuntimeError(
            "Making a dual Tensor based on a Tensor that already has a forward gradient at the same level 0 is not "
            f"supported: {describe(tensor)}, at {location()}"
        )
    if tangent._kind.requires_grad & TANGENTS and unpack_dual(tangent).tangent is not None:
        raise RuntimeError(
            "Setting a forward grad that itself has a forward gradient at the same level 0 is not supported: "
            f"{describe(tangent)}, at {location()}"
        )
    bits = tensor._kind.requires_grad & GRADIENTS if tape.grad_enabled else 0
    dual = in_grad_mode(tape, True, tangents.with_bits, tensor, bits | TANGENTS)
    here.hold(dual, tangent)
    return dual


def unpack_dual(tensor: Tensor, *, level: int | None = None) -> UnpackedDualTensor:
    """The value of a tensor without its tangent, and the tangent, None where it has none.

    Raises
    ------
    TypeError
        Where it is no Tensor.

    >>> import tapegrad as tg
    >>> tg.autograd.forward_ad.unpack_dual(tg.ones(2))
    UnpackedDualTensor(primal=tensor([1., 1.]), tangent=None)
    """
    if not isinstance(tensor, Tensor):
        raise TypeError(f"_unpack_dual(): argument 'dual' (position 1) must be Tensor, not {type(tensor).__name__}")
    here = _level(level, "_unpack_dual")
    tangent = None if here is None else here.tangent_of(local(tensor))
    if tangent is None:
        return UnpackedDualTensor(tensor, None)
    tape, bits = current_tape(), tensor._kind.requires_grad & GRADIENTS
    primal = in_grad_mode(tape, True, tangents.with_bits, tensor, bits) if bits else tensor.detach()
    return UnpackedDualTensor(primal, tangent)


__all__ = ["UnpackedDualTensor", "dual_level", "enter_dual_level", "exit_dual_level", "make_dual", "unpack_dual"]
