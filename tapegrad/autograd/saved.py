"""What rules read in reverse, as hooks of the user's keep it.

    recorded    an operand, or the result, of a row    --pack_hook-->    what it gives: `Hooks.packed` of the row's slot
    swept       what the row's rule reads instead     <--unpack_hook--

While hooks are on, the tape is in a mode of its own (PACKED): rows that gradients flow through are recorded in Python,
which packs what their rules read. A reverse sweep comes to such rows through Python, as to others with hooks
(`recorded.py`). Where no hooks are on, nobody asks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from tapegrad import trees
from tapegrad.autograd import hooks
from tapegrad.kinds import GRADIENTS, Kind
from tapegrad.ops import arithmetic
from tapegrad.ops.declare import HOST, Op
from tapegrad.ops.host import _output
from tapegrad.recording import cast, local
from tapegrad.tape import IMM_A, PACKED, PIECE, TRACED, Tape, current_tape, in_grad_mode
from tapegrad.tensor import NUMBER, Tensor, describe, lend

Pair = tuple[Callable[[Tensor], Any], Callable[[Any], Any]]

RESULT = 3  # the place of a row's result among what its rules read; those of its tensors are 0, 1, 2


class _Packing(threading.local):
    """The hooks that this thread saves tensors through, the innermost last; None saves them as they are."""

    def __init__(self) -> None:
        self.stack: list[Pair | None] = []
        self.refusals: list[str] = []  # what is said where there may be none


_packing = _Packing()


class Packed:
    """A saved tensor, as a pair of hooks keeps it.

    What the hook gives may be, or have in it, the tensor that it was given, to which others may write, and which the
    tape must not keep if it is the row's own result. So a handle of what it was stands in its place; of a result the
    slot does.
    """

    __slots__ = ("_own", "_structure", "_unpack", "_value", "_where")

    def __init__(self, pair: Pair, given: Tensor, is_result: bool = False) -> None:
        pack, self._unpack = pair
        tape, before = current_tape(), given._version
        self._where = tape, given._slot, given._kind.passive
        self._own = None if is_result else _as_it_is(given)
        value = in_grad_mode(tape, False, pack, given)
        if given._version != before:
            raise RuntimeError(
                "A saved tensor pack hook is modifying its input in place. Tensors provided as input to pack hook can "
                "not be modified by in-place operations in order to avoid unexpected side-effects: change a clone() of "
                "it"
            )
        leaves, self._structure = trees.flatten(value)
        self._value = value
        if any(leaf is given for leaf in leaves):
            self._value = _Leaves(_GIVEN if leaf is given else leaf for leaf in leaves)

    def get(self, original: Tensor, has_graph: bool) -> Tensor:
        """What the hook makes of it now, a tensor like the original; with its graph, where it has one."""
        value = self._value
        if value.__class__ is _Leaves:
            own = lend(*self._where) if self._own is None else self._own
            value = trees.unflatten(self._structure, [own if leaf is _GIVEN else leaf for leaf in value])
        value = in_grad_mode(current_tape(), False, self._unpack, value)
        if not isinstance(value, Tensor):
            raise TypeError(
                f"Output of saved tensor unpack_hook expected to be a Tensor but got result of type {type(value)}"
            )
        kind = original._kind
        if value.shape != kind.shape:
            raise RuntimeError(
                f"Output of saved tensor unpack_hook expected to be {describe(original)}, as what was packed, but got "
                f"{describe(value)}"
            )
        value = cast(local(value), kind.dtype)
        has_graph = has_graph and kind.requires_grad != 0
        return in_grad_mode(current_tape(), True, arithmetic._overwritten, original, value) if has_graph else value


class _Leaves(tuple[Any, ...]):
    """Those of what a hook gave, with _GIVEN in the place of what it was given."""

    __slots__ = ()


_GIVEN = object()


def _as_it_is(t: Tensor) -> Tensor:
    """A handle of what a tensor is now, without a graph: writing to the tensor leaves it as it is."""
    return in_grad_mode(t._tape, False, t.detach) if t._kind.exported else lend(t._tape, t._slot, t._kind.passive)


def packed(value: Tensor, is_result: bool = False) -> Packed | None:
    """A tensor that is being saved, as the innermost hooks keep it; None where there are none."""
    pair = _packing.stack[-1] if _packing.stack else None
    return None if pair is None else Packed(pair, value, is_result)


def places_read(op: Op, flags: int, kinds: Sequence[Kind]) -> list[int]:
    """What the rules of a row read, where its operands require grad: places among its tensors, and RESULT.

    In the order in which the rules, one an operand, ask for them.
    """
    first = 1 if flags & IMM_A else 0  # then the tensor is the second operand
    wanted = [saves for saves, kind in zip(op.saves[first:], kinds, strict=False) if kind.requires_grad & GRADIENTS]
    tensors = [k for saves in wanted for k in range(first, first + len(kinds)) if saves >> k & 1]
    read = [k - first for k in dict.fromkeys(tensors)]
    return [*read, RESULT] if any(saves >> RESULT & 1 for saves in wanted) else read


def _pack_row(tape: Tape, op: Op, result: Tensor, rows: Sequence[tuple[Any, Any, Any, int]]) -> None:
    """Pack what the rules of a row read that was just recorded; what is filled in pieces keeps nothing."""
    flags = rows[0][3]
    if flags & PIECE or op.family == HOST or op is _output:
        return
    tensors: list[Tensor] = [t for t in rows[0][:3] if isinstance(t, Tensor)]
    found: dict[int, Packed | None] = {}
    slot = result._slot  # a hook that shows elements to NumPy gives the handle another
    for place in places_read(op, flags, [t._kind for t in tensors]):
        t = result if place == RESULT else tensors[place]
        if getattr(t, "_note", None) != NUMBER:  # of which users know nothing
            found[place] = packed(t, t is result)
    if found:
        hooks.of_slot(tape, slot).packed = found


class saved_tensors_hooks:  # noqa: N801
    """Have what gradients need saved as `pack_hook(tensor)`, and read as `unpack_hook(packed)`.

    The hooks see the operands and results that rules of operations read, and what functions of yours
    (`autograd.Function`) save. What is packed must not be changed in place. What is unpacked is what the gradient
    uses: a tensor of the same shape. Operations are recorded in Python meanwhile, and their reverse sweeps go through
    it: both are much slower.

    Parameters
    ----------
    pack_hook : callable
        It is given a tensor when an operation that reads it is recorded; what it gives is kept.
    unpack_hook : callable
        It is given that in each reverse sweep through the operation.

    Raises
    ------
    RuntimeError
        On entry, where `disable_saved_tensors_hooks` refuses them; where the first hook changes what it is given.
    TypeError
        Where one is not callable; in the reverse sweep, where the second gives no tensor.

    >>> import tapegrad as tg
    >>> x = tg.tensor([1.0, 2.0], requires_grad=True)
    >>> with tg.autograd.graph.saved_tensors_hooks(lambda t: t.numpy().copy(), tg.from_numpy):
    ...     y = x.exp()
    >>> y.sum().backward()
    >>> x.grad
    tensor([2.7183, 7.3891])
    """

    def __init__(self, pack_hook: Any, unpack_hook: Any) -> None:
        if not callable(pack_hook) or not callable(unpack_hook):
            raise TypeError("saved_tensors_hooks takes two callables: one that packs a tensor, one that unpacks it")
        self.hooks: Pair | None = (pack_hook, unpack_hook)
        self.pack_hook, self.unpack_hook = pack_hook, unpack_hook

    def __enter__(self) -> None:
        if _packing.refusals:
            raise RuntimeError(_packing.refusals[-1])
        _packing.stack.append(self.hooks)
        _switch()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _packing.stack.pop()
        _switch()


class save_on_cpu(saved_tensors_hooks):  # noqa: N801
    """Keep what rules save in the memory of the CPU, where all is: for programs that say so.

    >>> import tapegrad as tg
    >>> with tg.autograd.graph.save_on_cpu(pin_memory=True):
    ...     pass
    """

    def __init__(self, pin_memory: bool = False, device_type: str = "cuda") -> None:
        del pin_memory, device_type
        self.hooks = None


class disable_saved_tensors_hooks:  # noqa: N801
    """Within a `with` statement, refuse `saved_tensors_hooks` by a RuntimeError with this message."""

    def __init__(self, error_message: str) -> None:
        self._message = error_message

    def __enter__(self) -> None:
        if _packing.stack:
            raise RuntimeError(self._message)
        _packing.refusals.append(self._message)

    def __exit__(self, *_: object) -> None:
        _packing.refusals.pop()


def _switch() -> None:
    """Have the tape record as the innermost hooks ask for."""
    tape, is_on = current_tape(), bool(_packing.stack) and _packing.stack[-1] is not None
    if is_on and tape.watch is not None:
        tape.watch.fail("has saved tensors hooks")
    tape.packs = _pack_row if is_on else None
    usual = True if tape.watch is None else TRACED
    before, now = (usual, PACKED) if is_on else (PACKED, usual)
    if tape.enabled is before:  # else lines are noted, in Python too
        tape.enabled = now
    if tape.grad_enabled:
        tape.grad_enabled = tape.enabled
