"""Nodes: PyTorch's view of the rows behind a tensor."""

from __future__ import annotations

from typing import Any

from tapegrad.aliasing import graph_slot
from tapegrad.kinds import numbers_at
from tapegrad.kinds import objects as kind_objects
from tapegrad.ops.declare import OPS
from tapegrad.tape import IMM_A, IMM_B, PIECE
from tapegrad.tensor import Tensor


class Node:
    """The row that made a tensor: its name, and the nodes of its operands.

    >>> import tapegrad as tg
    >>> x = tg.ones(2, requires_grad=True)
    >>> node = (x * 3).exp().grad_fn
    >>> node.name()
    'ExpBackward0'
    >>> node.next_functions[0][0].name()
    'MulBackward0'
    """

    def __init__(self, tensor: Tensor, slot: int) -> None:
        self._tensor = tensor  # keeps the rows behind it
        self._slot = slot

    def _row(self) -> Any:
        tape = self._tensor._tape
        with tape.lock:
            row = tape.synced_row(self._slot)
            return tape.row_array()[row].copy() if row >= 0 else None

    def name(self) -> str:
        """PyTorch's name for the operation's node, such as "AddBackward0"."""
        row = self._row()
        op = OPS[row["opcode"]]
        if op.nodes:
            return op.nodes[numbers_at(int(row["c"]))[-1]]
        return next((name for flag, name in op.variants.items() if row["flags"] & flag), op.grad_name)

    @property
    def next_functions(self) -> tuple[tuple[Node | AccumulateGrad | None, int], ...]:
        """A (node, 0) for each operand, the node None where no gradient flows."""
        row, tape = self._row(), self._tensor._tape
        op = OPS[row["opcode"]]
        if row["flags"] & (IMM_A | IMM_B):
            behind = _node_of(self._tensor, int(row["a"]))
            return ((None, 0), (behind, 0)) if row["flags"] & IMM_A else ((behind, 0), (None, 0))
        group = [row]
        if row["flags"] & PIECE:
            with tape.lock:
                rows = tape.row_array()
                group = rows[rows["out"] == row["out"]]
        slots = [int(r[field]) for r in group for field in ("a", "b", "c")[: op.arity]]
        return tuple((_node_of(self._tensor, slot), 0) for slot in slots)

    @property
    def metadata(self) -> dict[Any, Any]:
        """Empty: for compatibility."""
        return {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Node) and (self._slot, self._tensor._tape) == (other._slot, other._tensor._tape)

    def __hash__(self) -> int:
        return hash(self._slot)

    def __repr__(self) -> str:
        return f"<{self.name()} object at {hex(id(self))}>"


class AccumulateGrad:
    """The end of a path: a leaf that accumulates its gradient."""

    def __init__(self, variable: Tensor | None) -> None:
        self.variable = variable
        self.next_functions: tuple[()] = ()

    def name(self) -> str:
        """PyTorch's name for it."""
        return "AccumulateGrad"

    def __repr__(self) -> str:
        return f"<AccumulateGrad object at {hex(id(self))}>"


def _node_of(tensor: Tensor, slot: int) -> Node | AccumulateGrad | None:
    tape = tensor._tape
    if slot < 0:  # let go, since no gradient flows there
        return None
    kind = kind_objects[tape.slots["kind"][slot]]
    if not kind.requires_grad:
        return None
    if kind.is_leaf:
        handle = tape.leaves.get(slot)
        return AccumulateGrad(handle() if handle else None)
    return Node(tensor, slot)


def grad_fn(self: Tensor) -> Node | AccumulateGrad | None:
    """The node of the operation that made this tensor; None for leaves."""
    kind = self._kind
    return Node(self, graph_slot(self)) if kind.requires_grad and not kind.is_leaf else None


Tensor.grad_fn = property(grad_fn, doc=grad_fn.__doc__)
__all__ = ["AccumulateGrad", "Node"]
