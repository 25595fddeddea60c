"""Declarations: what an operation is, in one place.

A declaration in `ops/` names everything about an operation: its scalar function (which gives the name, the
documentation and the forward kernel), its partial derivatives, its NumPy counterpart, its sample points. Its family,
below, says how kernels are made of that:

    elementwise   out[i] = f(a[i], b[i], c[i])            swept in blocks, in a region
    reduction     out = finish(merge of term(x[i]), n)    swept in blocks, at a region's end
    layout        other strides on the same memory        no kernel
    array         a kernel over whole arrays
    host          Python between two sweeps

A rule is written once and runs two ways. With scalars it is compiled into the reverse kernel; with Tensors it records
rows, which is `create_graph=True` and all higher orders. So a rule uses operators and other operations, and no `if`.

Names of a rule's parameters say what it needs, and so what is kept for the reverse sweep: `x` (or `a`, `b`, `c`) the
operands, `y` the result, `n` the number of elements reduced to one; `g` the adjoint of the result, `p` the row's
parameters, `s` the operands' shapes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tapegrad import tape
from tapegrad.memory import Record

ELEMENTWISE, REDUCTION, LAYOUT, ARRAY, HOST = range(5)

# How the dtype of a result follows from the promoted dtype of the operands.
NOWHERE, SECOND, ONE, EVERYWHERE = range(4)
SAME, FLOATING, BOOLEAN = "same", "floating", "boolean"

Rule = Callable[..., Any]
_BITS = {"x": 1, "a": 1, "b": 2, "c": 4, "y": 8}
# What compiled code knows of an operation. Those of an array operation that say which of its kernels they are for have
# a bit for each: 1 for the value, 2 << k for the adjoint of operand k. See `array_op`.
OP = np.dtype(
    [
        ("family", "i4"),
        ("arity", "i4"),
        ("saves", "i4", (3,)),  # what the rules of operands a, b, c read, as _BITS
        ("dtype_operand", "i4"),  # the operand whose dtype its kernels are for
        ("ones", "i4"),  # bits: the operands whose partial is 1 everywhere
        ("along", "i4"),  # whether it works along axes
        ("units", "i4"),  # the place of the number of its units among its parameters, or UNITS_OF_B
        ("shared", "i4"),  # which kernels are shared out to threads
        ("summed", "i4"),  # which fill sums over units
        ("room", "i4"),  # the place (and 1) of the number of elements to work in; 0 for none
        ("working", "i4"),  # which need these
        ("beginning", "i4"),  # bits: the operands whose adjoints it can begin
        ("adding", "i4"),  # which add to places that repeat
        ("parts", "i4"),  # of a reduction: the numbers in a state
    ]
)


class OpRecord(Record, dtype=OP):
    """What compiled code knows of an operation."""


UNITS_OF_B = 100
PART, TILE = 512, 2048

OPS: list[Op] = []
table = np.zeros(256, OP)


class Op:
    """An operation. Calling it records a row; `tapegrad.tensor` says how."""

    __slots__ = (
        "along", "arity", "divides", "docstring", "domain", "dtype_operand", "failure", "family", "finish", "function",
        "grad_name", "holds", "integer", "merge", "name", "numbers", "opcode", "partials", "parts", "plain", "record",
        "reference", "refuses", "refuses_any_bool", "result", "room", "saves", "signature", "start", "strided",
        "summed", "units", "variants",
        "vjps",
    )  # fmt: skip

    record: Callable[..., Any]

    def __init__(self, family: int, function: Callable[..., Any], arity: int, **facts: Any) -> None:
        self.family, self.function, self.arity = family, function, arity
        self.name = function.__name__.rstrip("_")
        self.docstring = function.__doc__
        self.partials: tuple[Rule | None, ...] = facts.pop("partials", ()) or (None,) * arity
        self.reference = facts.pop("reference", None)
        self.domain = facts.pop("domain", None)
        self.result = facts.pop("result", SAME)
        self.refuses = facts.pop("refuses", ())
        self.refuses_any_bool = facts.pop("refuses_any_bool", False)
        self.vjps: tuple[Rule | None, ...] = facts.pop("vjps", (None,) * arity)
        self.integer = facts.pop("integer", None)
        self.merge, self.start, self.finish = (
            facts.pop("merge", None),
            facts.pop("start", None),
            facts.pop("finish", None),
        )
        self.parts, self.plain, self.holds = facts.pop("parts", 1), facts.pop("plain", None), facts.pop("holds", None)
        self.signature: Callable[[int], tuple[int, ...]] = facts.pop("signature", None) or self._natural_signature
        self.grad_name = facts.pop("grad_name", None) or self.name.title().replace("_", "") + "Backward0"
        self.saves: tuple[int, ...] = facts.pop("saves", None) or tuple(
            0 if rule is None else sum(_BITS.get(v, 0) for v in parameters(rule)) for rule in self.partials
        )
        self.dtype_operand = facts.pop("dtype_operand", 0)
        self.variants: dict[int, str] = facts.pop("variants", {})
        self.divides = facts.pop("divides", False)
        self.numbers = facts.pop("numbers", ONE if arity == 2 else NOWHERE)
        self.along = facts.pop("along", False)
        self.units, self.summed = facts.pop("units", 0), facts.pop("summed", 0)
        self.strided = facts.pop("strided", False)
        self.room, self.failure = facts.pop("room", None), facts.pop("failure", None)
        assert not facts, facts
        self.opcode = len(OPS)
        OPS.append(self)
        tape.opcode_names.append((self.name, arity))
        table[self.opcode] = self._record()

    def _record(self) -> tuple[Any, ...]:
        """What compiled code knows of it, an OP."""
        ones = sum(1 << k for k, rule in enumerate(self.partials) if self.family != ARRAY and _is_one(rule))
        kernels = [self.function, *self.vjps] if self.family == ARRAY else []

        def that_take(name: str) -> int:
            return sum(1 << i for i, f in enumerate(kernels) if f is not None and name in parameters(f))

        shared = sum(1 << i for i, f in enumerate(kernels) if f is not None) if self.along else that_take("lo")
        room = 0 if self.room is None else 1 + self.room
        return (
            self.family, self.arity, (*self.saves, 0, 0, 0)[:3], self.dtype_operand, ones, self.along, self.units,
            shared, self.summed, room, that_take("memory"), that_take("begun") >> 1, that_take("sums"), self.parts,
        )  # fmt: skip

    def _natural_signature(self, code: int) -> tuple[int, ...]:
        """Dtype codes of operands and result, given that of operand a."""
        return (*(code,) * self.arity, 0 if self.result == BOOLEAN else code)

    def __call__(self, *operands: Any, **facts: Any) -> Any:
        """Record a row."""
        return self.record(*operands, **facts)

    def __repr__(self) -> str:
        return f"<op {self.name}>"


def parameters(rule: Rule) -> tuple[str, ...]:
    """The names of a rule's parameters: what it needs."""
    return rule.__code__.co_varnames[: rule.__code__.co_argcount]


def _is_one(rule: Rule | None) -> bool:
    """Whether a partial derivative is 1 everywhere: then an adjoint is passed on as it is."""
    return rule is not None and rule.__code__.co_argcount == 0 and rule() == 1.0


def elementwise(**facts: Any) -> Callable[[Callable[..., Any]], Op]:
    """Declare `out[i] = function(a[i], ...)`.

    `partials` is the partial derivative for each operand, None where there is none. `result` is SAME, FLOATING
    (integers are converted) or BOOLEAN. `refuses` are dtype names it is not defined for. `variants` are PyTorch's other
    names for its node, by the flag that a row with that name has. `divides` says that the second operand, among
    integers, must not be zero. `integer` is another function for integers. `numbers` says where the public
    function takes Python numbers, as PyTorch's does: nowhere, as the SECOND operand, for ONE of two, or EVERYWHERE.
    """

    def declare(function: Callable[..., Any]) -> Op:
        partials = facts.get("partials")
        if callable(partials):
            facts["partials"] = (partials,)
        return Op(ELEMENTWISE, function, function.__code__.co_argcount, **facts)

    return declare


def reduction(**facts: Any) -> Callable[[Callable[..., Any]], Op]:
    """Declare a reduction; the function is the term.

    `merge(p, q)` joins two states, from `start`; `finish(s, n)` makes the result of n terms of it. Both work in the
    dtype of states: float64 for all floats. A state of several `parts` has a term for each, each merged by itself.

    `plain(x)` is the first term in the elements' own dtype, if PART of these may be merged so, and nothing else, where
    `holds(s, least)` of the outcome: `least` is a number far above the least that the dtype has. In float64 it always
    holds of float32, whose states need no other part.
    """

    def declare(function: Callable[..., Any]) -> Op:
        facts["partials"] = (facts["partials"],) if facts.get("partials") else (None,)
        return Op(REDUCTION, function, 1, **facts)

    return declare


def layout(name: str, grad_name: str | None = None, doc: str | None = None) -> Op:
    """Declare an operation that gives other strides to the same memory.

    Its adjoint adds through those strides, whatever they are.
    """

    def function() -> None: ...

    function.__name__, function.__doc__ = name, doc
    return Op(LAYOUT, function, 1, grad_name=grad_name, saves=(0,))


def array_op(arity: int, **facts: Any) -> Callable[[Callable[..., Any]], Op]:
    """Declare a kernel over whole arrays: `function(p, a, b, ..., y)` fills `y`; `p` are the row's parameters (int64).

    One that works `along` axes takes `x` as [outer, n, inner], its parameters beginning with these lengths, and treats
    each of the outer parts alike: with an inner length of 1 it joins a region, which then is swept in whole rows.

    A function that takes `lo` and `hi` after `p` does a part of the work: units lo to hi, out of p[units], or out of
    the elements of b (UNITS_OF_B). It is shared out to threads, as the outer parts are. What is a sum over units
    (`summed`: bit 1 for y, 2 << k for k_bar) then has memory for each part, of float64 for both floats.

    Operands are contiguous, unless the kernels read them by strides among their parameters (`strided`): these are not
    negative, and `a` then has the elements from the first to the last. Results and adjoints are contiguous always.

    `vjps[k](p, a, b, ..., y, y_bar, k_bar)` adds to `k_bar`, and `partials[k]` is the same rule over Tensors. `integer`
    is another kernel for integers.

    Before the arrays a kernel may ask for more, in this order or less of it: `gemm`, the address of BLAS's product, or
    `lapack`, that of a table of routines, and `work`, 128 bytes for their arguments; `memory`, an array of p[room]
    elements to work in; `begun`, 1 where the adjoint was added to, and 0 where its memory holds anything and is to be
    overwritten; `sums`, for one that adds to places that repeat: zeros of float64, as many as it fills elements (none
    where these are float64); `tile`, TILE float64 for one that is shared out to work in; `status`, two int64: a forward
    kernel that can't compute its value enters 1 + the number of the matrix in its batch, and where in the matrix it
    failed, and stops. The sweep then stops too, and says `failure`, a text with the places {batch} and {index}.
    """

    def declare(function: Callable[..., Any]) -> Op:
        return Op(ARRAY, function, arity, **facts)

    return declare
