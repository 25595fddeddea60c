"""The tangent sweep, a recording: forward through the rows between inputs and outputs, by the rules of the reverse.

What a row does to tangents follows from its rules, one rulebook for both directions:

    elementwise   y_dot = sum of a_dot * partial           layout    y_dot = the same view of a_dot
    reduction     y_dot = sum over dimensions of x_dot * partial
    array         what is declared (`tangents`); itself, where it is `linear`; else its rule, which is linear in the
                  adjoint g, transposed: y_dot = the gradient by g of <rule(g), a_dot>, whatever g is
    function      its `jvp`, or its `backward` transposed; a host row's `jvp`, if it has one

An operand without a tangent contributes nothing, and a tangent of exactly zero exactly zero. Tangents are recorded like
all else, and so can be differentiated in their turn; and they are as lazy, so that primals and tangents are computed in
one sweep of their regions, and what nobody asks for is not.

Many tangents are pushed at once in lanes: they then have one dimension more, the first, which primals do not have.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Any

from tapegrad import creation
from tapegrad.autograd import recorded, walk
from tapegrad.autograd.host import recorded_tangent
from tapegrad.autograd.recorded import Lender, operands_of_rule, rules_of, times
from tapegrad.autograd.walk import Row, operand_slots
from tapegrad.batched import Level, NeedsSamplesError, entered, samples_of, wrap
from tapegrad.functions import shaping
from tapegrad.kinds import GRADIENTS, Kind, flowing, kind_of, numbers_at
from tapegrad.kinds import objects as kind_objects
from tapegrad.ops import layout
from tapegrad.ops.declare import ELEMENTWISE, HOST, LAYOUT, OPS, REDUCTION, Op, parameters
from tapegrad.ops.host import FUNCTION, _output
from tapegrad.recording import cast, record_array, record_layout, steady
from tapegrad.tape import IMM_A, IMM_B, PARAMS, PIECE, Tape, in_grad_mode
from tapegrad.tensor import Tensor

_tangents_of = functools.cache(lambda op: recorded.with_sources(op.tangents))
Step = list[Row]  # one row, or those that fill one slot together, oldest first
_words, _offset = struct.Struct("=ii").pack, struct.Struct("=q").unpack
_stack: Any = shaping.functions["stack"]
_expand: Any = shaping.functions["expand"]
_reshape: Any = shaping.functions["reshape"]


def with_bits(t: Tensor, bits: int) -> Tensor:
    """The same elements, recorded, with other bits of `requires_grad`."""
    t = steady(t)
    t = t if t._kind.contiguous and not t._kind.exported else t.clone()
    return record_layout(layout.view, t, kind_of(t._kind.dtype, t._kind.shape, None, bits), 0)


def steps_between(tape: Tape, outputs: Sequence[int], inputs: Iterable[int], bits: int = GRADIENTS) -> list[Step]:
    """What tangents go through from input slots to output slots, oldest first: values with these bits."""
    steps, filled = list[Step](), set[int]()
    for row in reversed(walk.rows_between(tape, outputs, {*inputs}, bits)):
        if not row[1] & PIECE:
            steps.append([row])
        elif row[2] not in filled:
            filled.add(row[2])
            steps.append(walk.rows_of(tape, row[2]))
    return steps


def push(
    tape: Tape, steps: Sequence[Step], given: Mapping[int, Tensor], wanted: Sequence[int], lanes: int | None = None,
    lent: Lender | None = None, functions: MutableMapping[Any, list[Any]] | None = None,
) -> list[Tensor | None]:  # fmt: skip
    """The tangents of wanted slots, recorded, by those of others; None where none has reached them.

    With `lanes`, so many tangents are pushed at once: those given have a first dimension of that length. What rules
    read of primals is added to `lent`; tangents of the results of functions of the user's are known, or entered, in
    `functions`.
    """
    sweep = _Sweep(
        tape, dict(given), lanes, Lender(tape) if lent is None else lent, {} if functions is None else functions
    )
    last = {slot: at for at, step in enumerate(steps) for row in step for slot in operand_slots(row)}
    kept = {*wanted}
    for at, step in enumerate(steps):
        sweep.through(step)
        for row in step:  # what is not read any more need not be kept
            for slot in operand_slots(row):
                if last[slot] == at and slot not in kept:
                    sweep.dots.pop(slot, None)
    return [sweep.dots.get(slot) for slot in wanted]


class _Sweep:
    """A sweep on its way: tangents by slots."""

    def __init__(self, tape: Tape, dots: dict[int, Tensor], lanes: int | None, lent: Lender, functions: Any) -> None:
        self.tape, self.dots, self.lent = tape, dots, lent
        self.head = () if lanes is None else (lanes,)  # the dimensions that tangents have before those of primals
        self.of_functions: MutableMapping[Any, list[Any]] = functions

    def through(self, step: Step) -> None:
        """Enter the tangent of what a step has computed."""
        row = step[0]
        op, out, kind = OPS[row[0]], row[2], kind_objects[row[6]]
        if op is FUNCTION:
            self._through_function(out)
        elif op is _output:
            found = self.of_functions.get(self.tape.nodes[row[5]])
            if found is not None and found[row[4]] is not None:
                self.dots[out] = found[row[4]]
        elif len(step) > 1 or row[1] & PIECE:
            self.dots[out] = self._joined(op, step, kind)
        elif any(slot in self.dots for slot in operand_slots(row)):
            if op.family == ELEMENTWISE:
                self._enter(out, self._elementwise(row, kind))
            elif op.family == LAYOUT:
                self.dots[out] = self._view(op, row, kind)
            elif op.family == REDUCTION:
                self.dots[out] = self._reduced(row, kind)
            else:
                self._enter(out, self._array(op, row, kind))

    def _enter(self, out: int, tangent: Tensor | None) -> None:
        if tangent is not None:
            self.dots[out] = tangent

    def _aligned(self, t: Tensor, ndim: int) -> Tensor:
        """A tangent whose primal has `ndim` dimensions after broadcasting: these come behind the lanes."""
        missing = ndim + len(self.head) - t.ndim
        if not self.head or not missing:
            return t
        made: Tensor = _reshape(t, (*self.head, *(1,) * missing, *t.shape[1:]))
        return made

    def _elementwise(self, row: Row, kind: Kind) -> Tensor | None:
        slots, total = operand_slots(row), None
        rules = rules_of(row[0], row[1] & (IMM_A | IMM_B))
        for slot, (rule, sources) in zip(slots, rules, strict=False):
            t = self.dots.get(slot)
            if t is None or rule is None:
                continue
            partial = rule(*operands_of_rule(row, sources, slots, self.lent, None))
            part = cast(times(self._aligned(t, kind.ndim), partial), kind.dtype)
            total = part if total is None else total + part
        shape = (*self.head, *kind.shape)
        return total if total is None or total._kind.shape == shape else _expand(total, shape)

    def _reduced(self, row: Row, kind: Kind) -> Tensor:
        (slot,), p = operand_slots(row), numbers_at(row[4])
        t, operand, shape = self.dots[slot], self.lent.kind(slot), (*self.head, *kind.shape)
        if not operand.numel:
            made: Tensor = creation.zeros(*shape, dtype=kind.dtype)
            return made
        ((rule, sources),) = rules_of(row[0], 0)
        kept = tuple(1 if stride == 0 else n for n, stride in zip(operand.shape, p[1:], strict=True))
        part = times(t, rule(*operands_of_rule(row, sources, [slot], self.lent, None, kept)))
        over = [len(self.head) + d for d, stride in enumerate(p[1:]) if stride == 0]
        part = part.sum(tuple(over)) if over else part
        return cast(part if part._kind.shape == shape else _reshape(part, shape), kind.dtype)

    def _view(self, op: Op, row: Row, kind: Kind) -> Tensor:
        (slot,) = operand_slots(row)
        t, base = self.dots[slot], self.lent.kind(slot)
        t = t if t._kind.contiguous else t.clone()
        if row[1] & PARAMS:  # what the view is of a contiguous base
            _, start, *strides = numbers_at(row[4])
        else:
            (start,), strides = _offset(_words(row[3], row[4])), list(kind.strides)
        if self.head:
            strides.insert(0, base.numel * base.itemsize)
        requires_grad = flowing(self.tape.grad_enabled, t._kind.requires_grad)
        return record_layout(
            op, t, kind_of(kind.dtype, (*self.head, *kind.shape), tuple(strides), requires_grad), start
        )

    def _joined(self, op: Op, step: Step, kind: Kind) -> Tensor:
        """Of what several rows fill: joined likewise, with zeros where there is no tangent."""
        pieces, windows = [], []
        for row in step:
            outer, run, pitch, offset = numbers_at(row[4])
            operand, t = self.lent.kind(row[5]), self.dots.get(row[5])
            pieces.append(creation.zeros(*self.head, *operand.shape, dtype=kind.dtype) if t is None else t)
            windows.append((run, pitch, offset))
        outer *= self.head[0] if self.head else 1
        return shaping.joined(op, pieces, (*self.head, *kind.shape), windows, outer)

    # --- array rows ---------------------------------------------------------------------------------------------------

    def _array(self, op: Op, row: Row, kind: Kind) -> Tensor | None:
        slots = operand_slots(row)
        along = {k: self.dots[s] for k, s in enumerate(slots) if s in self.dots and op.partials[k] is not None}
        if not along:
            return None
        if op.tangents:
            return self._declared(op, row, along, slots)
        way: Callable[..., Tensor] = self._transposed
        if op.family == HOST:
            way = self._host
        elif op.linear:
            way = self._linear
        if not self.head:
            return way(op, row, kind, slots, along)
        with entered(Level(self.head[0], "error")) as level:
            try:
                return samples_of(way(op, row, kind, slots, {k: wrap(t, level) for k, t in along.items()}), level)
            except NeedsSamplesError:
                pass
        lanes = [way(op, row, kind, slots, {k: t[i] for k, t in along.items()}) for i in range(self.head[0])]
        return _stack(lanes)

    def _host(self, _: Op, row: Row, __: Kind, slots: list[int], along: dict[int, Tensor]) -> Tensor:
        jvp = self.tape.hosts[row[2]][2]
        if jvp is None:
            raise RuntimeError(
                "the derivative of a host function's vjp is not known, and so there is no forward mode through it: "
                "write it with tapegrad's operations, or give host_function a jvp"
            )
        return recorded_tangent(self.lent[row[2]], [self.lent[slot] for slot in slots], along, jvp)

    def _declared(self, op: Op, row: Row, along: dict[int, Tensor], slots: list[int]) -> Tensor:
        total: Any = None
        for k, t in along.items():
            rule, sources = _tangents_of(op)[k]
            part = rule(*operands_of_rule(row, sources, slots, self.lent, t))
            total = part if total is None else total + part
        made: Tensor = total
        return made

    def _linear(self, op: Any, row: Row, kind: Kind, slots: list[int], along: dict[int, Tensor]) -> Tensor:
        """Of an operation that is linear in its differentiable operands, or in each of them while another is held."""
        p = numbers_at(row[4]) if row[1] & PARAMS else None
        total: Any = None
        for k, t in along.items():
            held = parameters(op.partials[k])
            operands = [
                t if j == k
                else self.lent[slot] if op.partials[j] is None or "abc"[j] in held
                else creation.zeros_like(self.lent[slot])
                for j, slot in enumerate(slots)
            ]  # fmt: skip
            part = record_array(op, kind.shape, kind.dtype, *operands, params=p)
            total = part if total is None else total + part
        made: Tensor = total
        return made

    def _transposed(self, _: Op, row: Row, kind: Kind, slots: list[int], along: dict[int, Tensor]) -> Tensor:
        rules = rules_of(row[0], 0)

        def contributions(gs: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
            return [
                (rules[k][0](*operands_of_rule(row, rules[k][1], slots, self.lent, gs[0])), t) for k, t in along.items()
            ]

        return self._transposing([kind], contributions)[0]

    def _transposing(
        self, kinds: Sequence[Kind], contributions: Callable[[Sequence[Tensor]], list[tuple[Tensor, Tensor]]]
    ) -> list[Tensor]:
        """Tangents of results, of kinds, by rules that are linear in their adjoints.

        `contributions` gives what operands receive for adjoints, and their tangents. Products of the two, summed, are
        linear in the adjoints: the gradients by these are the tangents. What is recorded on the way is not computed.
        """
        tape, recording = self.tape, self.tape.grad_enabled
        gs = [creation.zeros(*kind.shape, dtype=kind.dtype, requires_grad=True) for kind in kinds]
        slots = [g._slot for g in gs]
        pairs = in_grad_mode(tape, True, contributions, gs)
        seeds = [(c, cast(t, c._kind.dtype)) for c, t in pairs if c._kind.requires_grad]
        found: dict[int, Tensor] = {}
        if seeds:
            rows = walk.rows_between(tape, [c._slot for c, _ in seeds], {*slots})
            found = in_grad_mode(tape, bool(recording), recorded.adjoints, tape, seeds, rows, {*slots}, set(), True)
        for slot in slots:
            tape.leaves.pop(slot, None)
        return [
            found[slot] if slot in found else creation.zeros(*kind.shape, dtype=kind.dtype)
            for slot, kind in zip(slots, kinds, strict=True)
        ]

    # --- functions of the user's --------------------------------------------------------------------------------------

    def _through_function(self, slot: int) -> None:
        """Find the tangents of the results of a function of the user's."""
        node = self.tape.nodes[slot]
        if node in self.of_functions or not any(operand in self.dots for operand in node.operands):
            return
        if not self.head:
            self.of_functions[node] = self._pushed(node, {s: self.dots[s] for s in node.operands if s in self.dots})
            return
        lanes = [
            self._pushed(node, {s: self.dots[s][i] for s in node.operands if s in self.dots})
            for i in range(self.head[0])
        ]
        self.of_functions[node] = [
            None if all(t is None for t in of_result)
            else _stack([creation.zeros(*kind.shape, dtype=kind.dtype) if t is None else t for t in of_result])
            for kind, of_result in zip(node.results, zip(*lanes, strict=True), strict=True)
        ]  # fmt: skip

    def _pushed(self, node: Any, dots: dict[int, Tensor]) -> list[Tensor | None]:
        if node.function._has("jvp"):
            found: list[Tensor | None] = node.push([dots.get(s) for s in node.operands])
            return found
        places = [i for i, kind in enumerate(node.results) if kind is not None and kind.dtype.is_floating_point]
        gs: list[Any] = [None] * node.n_outputs

        def contributions(adjoints: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
            for i, g in zip(places, adjoints, strict=True):
                gs[i] = g
            pulled = node.pull(tuple(gs))
            return [(c, dots[s]) for s, c in zip(node.operands, pulled, strict=True) if c is not None and s in dots]

        tangents = self._transposing([node.results[i] for i in places], contributions)
        answer: list[Tensor | None] = [None] * node.n_outputs
        for i, t in zip(places, tangents, strict=True):
            answer[i] = t
        return answer
