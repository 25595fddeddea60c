"""Nodes: PyTorch's view of the rows behind a tensor."""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from tapegrad.aliasing import graph_slot
from tapegrad.autograd import hooks
from tapegrad.autograd.function import FREED
from tapegrad.autograd.hooks import RemovableHandle, register_multi_grad_hook
from tapegrad.autograd.saved import (
    RESULT,
    Packed,
    disable_saved_tensors_hooks,
    places_read,
    save_on_cpu,
    saved_tensors_hooks,
)
from tapegrad.kinds import GRADIENTS, Kind, numbers_at
from tapegrad.kinds import objects as kind_objects
from tapegrad.ops.declare import ARRAY, ELEMENTWISE, OPS, REDUCTION
from tapegrad.ops.host import _output
from tapegrad.tape import CONSUMED, IMM_A, IMM_B, PIECE, Tape
from tapegrad.tensor import Tensor, lend
from tapegrad.writing import count_write, counter_of

# The names of what rules read, and where they are not "self" and "other".
_OF_PLACES = {0: "self", 1: "other", RESULT: "result"}
_NAMES = {
    ("MmBackward0", 1): "mat2", ("BmmBackward0", 1): "mat2", ("DotBackward0", 1): "tensor",
    ("MvBackward0", 1): "vec", ("PowBackward1", 1): "exponent", ("PowBackward2", 0): "exponent",
}  # fmt: skip
_OF_SUMS = {"AddBackward0", "SubBackward0", "RsubBackward1"}
_KEEPING = {ELEMENTWISE, REDUCTION, ARRAY}  # families
_WITHOUT_NUMBERS = {"RsubBackward1", "PowBackward0", "PowBackward2"}  # nodes that have no place for them


class Node:
    """The row that made a tensor: its name, and the nodes of its operands.

    Its class has the operation's name, as in PyTorch.

    >>> import tapegrad as tg
    >>> x = tg.ones(2, requires_grad=True)
    >>> node = (x * 3).exp().grad_fn
    >>> type(node).__name__
    'ExpBackward0'
    >>> node.next_functions[0][0].name()
    'MulBackward0'

    What its rule has kept, if it is one of partial derivatives, it has under PyTorch's names:

    >>> (x * 3).exp().grad_fn._saved_result
    tensor([20.0855, 20.0855], grad_fn=<ExpBackward0>)
    """

    def __init__(self, tensor: Tensor, slot: int) -> None:
        self._tensor = tensor  # keeps the rows behind it
        self._slot = slot

    def name(self) -> str:
        """PyTorch's name for the operation's node, such as "AddBackward0"."""
        return type(self).__name__

    @property
    def next_functions(self) -> tuple[tuple[Node | AccumulateGrad | None, int], ...]:
        """A (node, place among its results) for each operand, the node None where no gradient flows."""
        tape = self._tensor._tape
        if self._slot in tape.nodes:
            return tuple(_edge(self._tensor, slot) for slot in tape.nodes[self._slot].operands)
        row = _row(tape, self._slot)
        op = OPS[row["opcode"]]
        if row["flags"] & (IMM_A | IMM_B):
            behind = _edge(self._tensor, int(row["a"]))
            return (behind,) if self.name() in _WITHOUT_NUMBERS else (behind, (None, 0))
        group = [row]
        if row["flags"] & PIECE:
            with tape.lock:
                rows = tape.row_array()
                group = rows[rows["out"] == row["out"]]
        slots = [int(r[field]) for r in group for field in ("a", "b", "c")[: op.arity]]
        return tuple(_edge(self._tensor, slot) for slot in slots)

    @property
    def metadata(self) -> dict[Any, Any]:
        """A dictionary to keep things in, as long as the node is there."""
        return hooks.of_slot(self._tensor._tape, self._slot).metadata

    def register_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Have `hook(gradients of operands, gradients of results)` called once the node's rule was.

        It gives None, or the gradients of operands to go on with; both are tuples. Operands that require no grad are
        left out.
        """
        return hooks.add(hooks.of_slot(self._tensor._tape, self._slot).after, hook)

    def register_prehook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Have `hook(gradients of results)` called before the node's rule; it gives None, or others to go on with."""
        return hooks.add(hooks.of_slot(self._tensor._tape, self._slot).before, hook)

    def _places(self) -> dict[str, int]:
        """Where what its rules have kept is among the row's tensors, by PyTorch's names."""
        row = self._kept_row()
        if row is None:
            return {}
        op, flags = OPS[row["opcode"]], row["flags"]
        kinds = [kind_objects[self._tensor._tape.slots["kind"][slot]] for slot in _operands(row)]
        read = places_read(op, flags, kinds)
        if op.name == "div" and RESULT in read:
            read = [0, *read]  # as PyTorch has it, whose rule divides anew
        return {_NAMES.get((self.name(), place), _OF_PLACES[place]): place for place in read if place in _OF_PLACES}

    def _kept_row(self) -> Any:
        """Its row, where rules of partial derivatives keep something; or None."""
        tape = self._tensor._tape
        if self._slot in tape.nodes:
            return None
        row = _row(tape, self._slot)
        return None if OPS[row["opcode"]].family not in _KEEPING or row["flags"] & PIECE else row

    def _is_freed(self) -> bool:
        row = self._kept_row()
        return row is not None and bool(row["flags"] & CONSUMED)

    def _kept(self, place: int) -> Tensor:
        """The tensor at one of these places."""
        tape = self._tensor._tape
        slot = self._slot if place == RESULT else _operands(self._kept_row())[place]
        kept, found = _held(tape, slot, kind_objects[tape.slots["kind"][slot]]), tape.hooks.get(self._slot)
        return kept if found is None or place not in found.packed else found.packed[place].get(kept, True)

    def _numbers(self) -> dict[str, Any]:
        """The numbers that it has kept, by PyTorch's names."""
        row = self._kept_row()
        if row is not None and self.name() == "PowBackward0":
            exponent = np.array([row["b"], row["c"]], np.int32).view(np.float64)[0].item()
            name = OPS[row["opcode"]].name
            whole = {"square": 2, "_cube": 3}.get(name) or int(exponent // 1)
            return {"exponent": exponent if row["flags"] & IMM_B and exponent != whole else whole}
        return {"alpha": 1} if self.name() in _OF_SUMS else {}

    def __dir__(self) -> list[str]:
        places = [] if self._is_freed() else self._places()
        names = [f"{prefix}{name}" for name in places for prefix in ("_saved_", "_raw_saved_")]
        return [*super().__dir__(), *names, *[f"_saved_{name}" for name in self._numbers()]]

    def __getattr__(self, name: str) -> Any:
        """What its rule has kept; of a function of the user's, what its `forward` has left in `ctx`."""
        is_raw = name[:5] == "_raw_"
        if (whole := name[4:] if is_raw else name)[:7] == "_saved_":
            if (place := self._places().get(whole[7:])) is not None:
                if is_raw:
                    return SavedTensor(self, place)
                if self._is_freed():
                    raise RuntimeError(FREED)
                return self._kept(place)
            if not is_raw and (number := self._numbers().get(whole[7:])) is not None:
                return number
        if name[:2] != "__" and (node := self._tensor._tape.nodes.get(self._slot)) is not None:
            return getattr(node.ctx, name)
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Node) and (self._slot, self._tensor._tape) == (other._slot, other._tensor._tape)

    def __hash__(self) -> int:
        return hash(self._slot)

    def __repr__(self) -> str:
        return f"<{self.name()} object at {hex(id(self))}>"


class SavedTensor:
    """A tensor that a node has kept, as `_raw_saved_self` and its like give it: hooks can be set for it alone."""

    def __init__(self, node: Node, place: int) -> None:
        self._node, self._place = node, place

    def register_hooks(self, pack_hook: Any, unpack_hook: Any) -> None:
        """Keep it as `pack_hook(tensor)`, which is called now, and read it as `unpack_hook(packed)`.

        Raises
        ------
        TypeError
            Where one is not callable.
        RuntimeError
            Where it has hooks, or was let go.

        >>> import tapegrad as tg
        >>> x = tg.tensor([1.0, 2.0], requires_grad=True)
        >>> y = x.square()
        >>> y.grad_fn._raw_saved_self.register_hooks(lambda t: t.tolist(), lambda values: tg.tensor(values) * 10)
        >>> y.sum().backward()
        >>> x.grad
        tensor([20., 40.])
        """
        if not callable(pack_hook) or not callable(unpack_hook):
            raise TypeError("register_hooks(): incompatible function arguments. It takes two callables")
        if self._node._is_freed():
            raise RuntimeError("Calling register_hooks on a saved tensor after it has been freed. " + FREED)
        tape, slot = self._node._tensor._tape, self._node._slot
        of_node = hooks.of_slot(tape, slot)
        if self._place in of_node.packed:
            raise RuntimeError(
                "Calling register_hooks on a saved tensor whose hooks have already been set. Hint: only one pair of "
                "hooks is allowed at a time."
            )
        if tape.watch is not None:
            tape.watch.fail("adds a hook")
        saved = self._node._kept(self._place)
        of_node.packed[self._place] = Packed((pack_hook, unpack_hook), saved, self._place == RESULT)


@functools.cache
def _class_of(name: str) -> type[Node]:
    return type(name, (Node,), {"__module__": __name__})


class AccumulateGrad:
    """The end of a path: a leaf that accumulates its gradient."""

    def __init__(self, variable: Tensor | None) -> None:
        self.variable = variable
        self.next_functions: tuple[()] = ()

    def name(self) -> str:
        """PyTorch's name for it."""
        return "torch::autograd::AccumulateGrad"

    def _hooks(self) -> hooks.Hooks:
        if self.variable is None:
            raise RuntimeError("the leaf is gone, and with it what would accumulate a gradient")
        return hooks.of_leaf(self.variable)

    @property
    def metadata(self) -> dict[Any, Any]:
        """A dictionary to keep things in, as long as the leaf is there."""
        return self._hooks().metadata

    def register_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Have `hook((), (gradient,))` called once the gradient was accumulated."""
        return hooks.add(self._hooks().after, hook)

    def register_prehook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Have `hook((gradient,))` called before; it gives None, or another to go on with."""
        return hooks.add(self._hooks().before, hook)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AccumulateGrad) and self.variable is not None and self.variable is other.variable

    def __hash__(self) -> int:
        return hash(id(self.variable))

    def __repr__(self) -> str:
        return f"<AccumulateGrad object at {hex(id(self))}>"


class GradientEdge(NamedTuple):
    """Where a gradient flows: a node, and which of its results. `backward` and `grad` take it for the tensor."""

    node: Node | AccumulateGrad
    output_nr: int
    ownership_token: Any = None


def get_gradient_edge(tensor: Tensor) -> GradientEdge:
    """The edge along which the gradient of a tensor flows to its node.

    Raises
    ------
    RuntimeError
        Where the tensor does not require grad.

    >>> import tapegrad as tg
    >>> x = tg.ones(2, requires_grad=True)
    >>> tg.autograd.graph.get_gradient_edge(x * 2).node.name()
    'MulBackward0'
    """
    if not tensor.requires_grad:
        raise RuntimeError("It is not possible to get the gradient edge for a Tensor that does not require gradients")
    node, place = _edge(tensor, graph_slot(tensor))
    assert node is not None
    return GradientEdge(node, place)


def tensor_of(edge: GradientEdge) -> Tensor:
    """The tensor that an edge stands for."""
    node = edge.node
    if isinstance(node, AccumulateGrad):
        if node.variable is None:
            raise RuntimeError("the leaf that a gradient edge leads to is gone")
        return node.variable
    tape = node._tensor._tape
    slot = graph_slot(node._tensor) if node._slot in tape.nodes else node._slot
    return lend(tape, slot, kind_objects[tape.slots["kind"][slot]])


def _held(tape: Tape, slot: int, kind: Kind) -> Tensor:
    """The tensor of a slot: the leaf itself, if it was not written to, or another handle."""
    leaf = tape.leaves[slot]() if kind.is_leaf and slot in tape.leaves else None
    return leaf if leaf is not None and leaf._slot == slot else lend(tape, slot, kind)


def _operands(row: Any) -> list[int]:
    """The slots of a row's operands."""
    n = 1 if row["flags"] & (IMM_A | IMM_B) else OPS[row["opcode"]].arity
    return [int(row[field]) for field in ("a", "b", "c")[:n]]


def _row(tape: Tape, slot: int) -> Any:
    with tape.lock:
        return tape.row_array()[tape.synced_row(slot)].copy()


def _edge(tensor: Tensor, slot: int) -> tuple[Node | AccumulateGrad | None, int]:
    tape = tensor._tape
    if slot < 0:  # let go, since no gradient flows there
        return None, 0
    kind = kind_objects[tape.slots["kind"][slot]]
    if not kind.requires_grad & GRADIENTS:
        return None, 0
    if kind.is_leaf:
        handle = tape.leaves.get(slot)
        return AccumulateGrad(handle() if handle else None), 0
    row = _row(tape, slot)
    op, place = OPS[row["opcode"]], 0
    if op is _output:
        tensor, slot, place = lend(tape, slot, kind), int(row["a"]), int(row["c"])
        name = tape.nodes[slot].name
    else:
        name = next((name for flag, name in op.variants.items() if row["flags"] & flag), op.grad_name)
        if op.nodes:
            name = op.nodes[numbers_at(int(row["c"]))[-1]]
    return _node_at(name, tensor, slot), place


_nodes: Any = weakref.WeakValueDictionary()  # by tape and slot


def _node_at(name: str, tensor: Tensor, slot: int) -> Node:
    """The node of a slot: the same object as long as somebody has it, as programs that draw graphs expect."""
    key = tensor._tape.header_address, slot
    known: Node | None = _nodes.get(key)
    if known is not None:
        return known
    made = _nodes[key] = _class_of(name)(tensor, slot)
    return made


def grad_fn(self: Tensor) -> Node | AccumulateGrad | None:
    """The node of the operation that made this tensor; None for leaves."""
    kind = self._kind
    if not self.requires_grad or kind.is_leaf:
        return None
    node, _ = _edge(self, graph_slot(self))
    if (name := getattr(self, "_called", None)) is not None and not self._version and isinstance(node, Node):
        node.__class__ = _class_of(name)
    return node


def _output_nr(self: Tensor) -> int:
    """Which of its node's results this tensor is."""
    kind = self._kind
    return _edge(self, graph_slot(self))[1] if self.requires_grad and not kind.is_leaf else 0


@contextlib.contextmanager
def allow_mutation_on_saved_tensors() -> Iterator[None]:
    """Let what gradients need be written to in place: it always may be, since a written tensor is another value.

    >>> import tapegrad as tg
    >>> x = tg.ones(1, requires_grad=True)
    >>> with tg.autograd.graph.allow_mutation_on_saved_tensors():
    ...     y = x.clone()
    ...     z = y.sin()
    ...     _ = y.mul_(3)
    >>> z.backward()
    >>> x.grad
    tensor([0.5403])
    """
    yield


def increment_version(tensor: Tensor | Iterable[Tensor]) -> None:
    """Count a write to the elements of a tensor, or of several, in their `_version`.

    >>> import tapegrad as tg
    >>> x = tg.ones(2)
    >>> tg.autograd.graph.increment_version(x)
    >>> x._version
    1
    """
    for t in (tensor,) if isinstance(tensor, Tensor) else tensor:
        if not isinstance(t, Tensor):
            raise TypeError(f"increment_version expect each element of the iterable to be a tensor, not {type(t)}")
        count_write(counter_of(t))


Tensor.grad_fn = property(grad_fn, doc=grad_fn.__doc__)
Tensor.output_nr = property(_output_nr, doc=_output_nr.__doc__)
__all__ = [
    "AccumulateGrad", "GradientEdge", "Node", "allow_mutation_on_saved_tensors", "disable_saved_tensors_hooks",
    "get_gradient_edge", "increment_version", "register_multi_grad_hook", "save_on_cpu", "saved_tensors_hooks",
]  # fmt: skip
