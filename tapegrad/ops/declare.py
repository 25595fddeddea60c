"""Declarations: what an operation is, in one place.

A declaration in `ops/` names everything about an operation: its function (which gives the name, the documentation and
the forward kernel), its partial derivatives, the arguments that users give, its NumPy counterpart, what tests compare
with and where. Its family, a class below, says what the fields mean, and how kernels are made of them:

    elementwise   out[i] = f(a[i], b[i], c[i])            swept in blocks, in a region
    reduction     out = finish(merge of term(x[i]), n)    swept in blocks, at a region's end
    layout        other strides on the same memory        no kernel
    array         a kernel over whole arrays
    host          Python between two sweeps

From it follow, for all families alike, the public function and the method, NumPy's function on tensors, tests,
benchmarks and the stubs (`functions/`, `numpy_protocol.py`, `tests/test_ops.py`, `bench_ops.py`, `make stubs`).

A rule is written once and runs three ways. With scalars it is compiled into the reverse kernel; with Tensors it records
rows, which is `create_graph=True` and all higher orders; and with numbers that emit code it becomes part of a function
that Numba has jitted (`jitted/emission.py`). So a rule uses operators and other operations, and no `if`.

Names of a rule's parameters say what it needs, and so what is kept for the reverse sweep: `x` (or `a`, `b`, `c`) the
operands, `y` the result, `n` the number of elements reduced to one; `g` the adjoint of the result, `p` the row's
parameters, `s` the operands' shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

import numpy as np

from tapegrad import tape
from tapegrad.dtypes import DType
from tapegrad.memory import Record

ELEMENTWISE, REDUCTION, LAYOUT, ARRAY, HOST = range(5)

# How the dtype of a result follows from the promoted dtype of elementwise operands.
SAME, FLOATING, BOOLEAN = "same", "floating", "boolean"
# What else a public function makes of integers and bools: int64, the default dtype, an error; of all dtypes, bools.
SUMMED, CONVERTED, REFUSED, TRUTH = "summed", "converted", "refused", "truth"

# What annotations of arguments may name, beside int, bool and DType; `arguments.py` says what is taken for them.
Tensor = Any
Dims = int | tuple[int, ...] | list[int]

Rule = Callable[..., Any]
_F = TypeVar("_F", bound="Op")
_BITS = {"x": 1, "a": 1, "b": 2, "c": 4, "y": 8}
ROW_OPERANDS = 3  # for so many a row of the tape has room
# What compiled code knows of an operation. Those of an array operation that say which of its kernels they are for have
# a bit for each: 1 for the value, 2 << k for the adjoint of operand k. See `Array`.
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
        ("room", "i4"),  # the place (and 1) of the number of elements to work in, or ROOM_OF_A; 0 for none
        ("working", "i4"),  # which need these
        ("beginning", "i4"),  # bits: the operands whose adjoints it can begin
        ("adding", "i4"),  # which add to places that repeat
        ("writes", "i4"),  # whether its result is its first operand with some elements written
        ("parts", "i4"),  # of a reduction: the numbers in a state
    ]
)


class OpRecord(Record, dtype=OP):
    """What compiled code knows of an operation."""


UNITS_OF_B = ROOM_OF_A = 100
INDEX = 2  # the dtype code of int64, which places are
PART, TILE = 512, 2048

OPS: list[Op] = []
WIDE: list[Wide] = []
table = np.zeros(tape.OPCODES, OP)


class Op:
    """An operation: what those of all families have. Calling it records a row; `tapegrad.tensor` says how.

    One whose name begins with `_` is used by rules only. Others are public, under their `aliases` too.
    """

    family: ClassVar[int]

    function: Callable[..., Any]  # gives the name, the documentation, the values
    arity: int = 1
    partials: tuple[Rule | None, ...] = ()
    vjps: tuple[Rule | None, ...] = ()
    tangents: tuple[Rule, ...] = ()  # rules of forward mode, where those of reverse are not to be transposed: see Array
    linear: bool = False  # see Array
    saves: tuple[int, ...] = ()  # what the rules read, an int of _BITS for each operand: as the rules say
    signature: Any = None  # the dtype codes of operands and result, given that of its kernels; one for all
    dtype_operand: int = 0  # the operand whose dtype its kernels are for
    integer: Callable[..., Any] | None = None  # another function, for integers
    operand: str = SAME  # or SUMMED, CONVERTED, REFUSED, TRUTH: what the public function makes of its operand
    refuses: tuple[str, ...] = ()  # names of dtypes that it is not defined for
    failure: str | tuple[str, str] | None = None  # of an array operation: the error where it can't compute its value
    grad_name: str = ""  # the name of its node,
    variants: Mapping[int, str] = MappingProxyType({})  # or others, by the flag of the rows that have them
    nodes: tuple[str, ...] = ()  # or these, by the last of a row's parameters
    aliases: tuple[str, ...] = ()
    reference: Any = None  # NumPy's function, which records it
    exact: Any = None  # what tests compare with: see the families
    domain: tuple[Any, ...] | None = None  # where tests and benchmarks draw operands
    record: Callable[..., Any]

    def __init__(self, **facts: Any) -> None:
        assert facts.keys() <= {n for c in type(self).__mro__ for n in vars(c).get("__annotations__", ())}, facts.keys()
        vars(self).update(facts)
        self.name = self.function.__name__.rstrip("_")
        self.docstring = self.function.__doc__
        self.partials, self.vjps = (self.partials or (None,) * self.arity, self.vjps or (None,) * self.arity)
        self.signature = self.signature or (lambda code: (code,) * (self.arity + 1))
        self.grad_name = self.grad_name or self.name.title().replace("_", "") + "Backward0"
        self.saves = self.saves or tuple(
            0 if rule is None else sum(_BITS.get(v, 0) for v in parameters(rule)) for rule in self.partials
        )
        self._enter()

    def _enter(self) -> None:
        """Take a row of the table."""
        self.opcode = len(OPS)
        OPS.append(self)
        tape.opcode_names.append((self.name, self.arity))
        entry = table[self.opcode]
        for name, value in self._native().items():
            entry[name] = value

    def _native(self) -> dict[str, Any]:
        """What compiled code knows of it, fields of OP."""
        return {
            "family": self.family,
            "arity": self.arity,
            "saves": (*self.saves, 0, 0, 0)[:3],
            "dtype_operand": self.dtype_operand,
            "ones": sum(1 << k for k, rule in enumerate(self.partials) if _is_one(rule)),
            "parts": 1,
        }

    @property
    def is_public(self) -> bool:
        """Whether users call it."""
        return self.name[0] != "_"

    def __call__(self, *operands: Any, **facts: Any) -> Any:
        """Record a row."""
        return self.record(*operands, **facts)

    def __repr__(self) -> str:
        return f"<op {self.name}>"


class Elementwise(Op):
    """`out[i] = function(a[i], ...)`.

    `partials` is the partial derivative for each operand, None where there is none. `exact(mp, a, ...)` is the same
    function over the numbers of mpmath, which is `mp`; it need not be given where mpmath has it under the same name.
    """

    family = ELEMENTWISE

    result: str = SAME  # SAME, FLOATING (integers are converted) or BOOLEAN
    refuses_any_bool: bool = False
    divides: bool = False  # the second operand, among integers, must not be zero
    scipy: str = ""  # the function of scipy.special that records it, by its name: SciPy takes long to import
    unknown: tuple[str, ...] = ()  # its first operands, by which no derivative is known: refused if they require grad
    in_place: bool = True  # whether there is a method that writes the result into its tensor
    ulps: float = 4.0  # the greatest error of values, in units in the last place, where tests draw operands
    switched: bool = False  # so cheap that a call would cost more: rows of one element go through a switch

    def __init__(self, **facts: Any) -> None:
        if facts.get("result") == BOOLEAN:
            facts.setdefault("signature", lambda code: (*(code,) * self.arity, 0))
        super().__init__(**facts)


class Wide(Elementwise):
    """An elementwise function of more operands than a row has room for, `d` the fourth.

    It has no opcode: to jitted code it is an operation like others, and on Tensors `record` is written by hand.
    """

    def _enter(self) -> None:
        WIDE.append(self)


class OverDimensions(Op):
    """What works over dimensions of its operand: `f(input, dim, keepdim, *, dtype)`, or what of it `form` takes.

    `exact(x, axis=..., keepdims=...)` is the same function of NumPy arrays, which may be complex, where `reference`
    has other parameters or does not take complex numbers.
    """

    form: Callable[..., Any] | None = None  # None: there is no public function, or it is written by hand
    needs_elements: bool = False  # refuses to work over none


class Reduction(OverDimensions):
    """`out = finish(merge of function(x[i]), n)`.

    `merge(p, q)` joins two states, from `start`; `finish(s, n)` makes the result of n terms of it. Both work in the
    dtype of states: float64 for all floats. A state of several `parts` has a term for each, each merged by itself.

    `plain(x)` is the first term in the elements' own dtype, if PART of these may be merged so, and nothing else, where
    `holds(s, least)` of the outcome: `least` is a number far above the least that the dtype has. In float64 it always
    holds of float32, whose states need no other part.
    """

    family = REDUCTION

    merge: Callable[..., Any]
    start: int
    finish: Callable[..., Any] | None = None
    parts: int = 1
    plain: Callable[..., Any] | None = None
    holds: Callable[..., Any] | None = None

    def _native(self) -> dict[str, Any]:
        return super()._native() | {"parts": self.parts}


class Layout(Op):
    """Other strides on the same memory: there is no kernel, and the adjoint adds through the strides.

    `function(input, ...)` gives the shape, and `along(strides) -> (strides, start)`: those of the result, and where its
    first element is, by the strides of `input`, as it is or as if it were contiguous. A function without a parameter
    gives the name alone: then the public function is written by hand.

    `examples` are (arguments, NumPy's function, shape of the operand), for tests.
    """

    family = LAYOUT

    examples: tuple[Any, ...] = ()


class Array(Op):
    """A kernel over whole arrays: `function(p, a, b, ..., y)` fills `y`; `p` are the row's parameters (int64).

    `call(input, ...)` is called as the public function is, and gives the shape of the result and `p`; where it is None,
    the public function is written by hand. `exact` is the same function of NumPy arrays, which may be complex, and
    `examples` are (arguments, shapes of the operands).

    A function that takes `lo` and `hi` after `p` does a part of the work: units lo to hi, out of p[units], or out of
    the elements of b (UNITS_OF_B). It is shared out to threads. What is a sum over units (`summed`: bit 1 for y, 2 << k
    for k_bar) then has memory for each part, of float64 for both floats.

    In forward mode (`autograd/tangents.py`) an operation that is `linear` is applied to tangents: in all operands that
    have a rule together, or in each while those that its rule reads are held. Of others rules are transposed, or there
    are `tangents[k]`, rules of the tangent `t` of operand k, which may have one dimension more, the first.

    A row has room for three operands, or for two and parameters: of three, kernels know their lengths only.

    Operands are contiguous, unless the kernels read them by strides among their parameters (`strided`): these are not
    negative, and `a` then has the elements from the first to the last. Results and adjoints are contiguous always.

    `vjps[k](p, a, b, ..., y, y_bar, k_bar)` adds to `k_bar`, and `partials[k]` is the same rule over Tensors.

    Before the arrays a kernel may ask for more, in this order or less of it: `gemm`, the address of BLAS's product, or
    `lapack`, that of a table of routines, and `work`, 128 bytes for their arguments; `memory`, an array of p[room]
    elements (or as many as a has: ROOM_OF_A) to work in, which each part of shared work has for itself; `begun`, 1
    where the adjoint was added to, and 0 where its memory holds anything and is to be overwritten; `sums`, for one that
    adds to places that repeat: zeros of float64, as many as it fills elements (none where these are float64); `tile`,
    TILE float64 for one that is shared out to work in; `status`, two int64: a forward kernel that can't compute its
    value enters 1 + the number of the matrix in its batch, and where in the matrix it failed, and stops. The sweep then
    stops too, and says `failure`, a text with the places {batch} and {index}; or of two texts the second where it
    entered less than 0.

    A forward kernel that takes `begun` writes some elements of its first operand: 1 says that the result has the memory
    of that, whose value nobody reads any more, and 0 that it is to be copied. In reverse, `begun` of the first operand
    is 2 where its adjoint has the memory of the result's: what was written is to be zeroed there.
    """

    family = ARRAY

    units: int = 0  # the place of the number of units in p
    # For `vmap`: p of n times as many parts, where it treats parts alike, one after another in all operands but some.
    parts: Callable[[tuple[int, ...], int], tuple[int, ...]] | None = None
    for_all: tuple[int, ...] = ()
    positions: tuple[int, int] | None = None  # the operand of flat positions; in which operand they are, -1 the result
    summed: int = 0
    room: int | None = None
    strided: bool = False
    call: Callable[..., Any] | None = None
    examples: tuple[Any, ...] = ()

    def __init__(self, **facts: Any) -> None:
        get = facts.get
        in_parts = "lo" in parameters(facts["function"]) and get("units") != UNITS_OF_B
        if get("arity", 1) > 2 and (get("call") or get("nodes") or get("room") not in (None, ROOM_OF_A) or in_parts):
            raise TypeError(
                f"{facts['function'].__name__}: a row of three operands has no room for parameters, for which `call`, "
                "`nodes`, `room` or `units` of this declaration ask: join two of the operands"
            )
        super().__init__(**facts)

    def _native(self) -> dict[str, Any]:
        kernels = [self.function, *self.vjps]

        def that_take(name: str) -> int:
            return sum(1 << i for i, f in enumerate(kernels) if f is not None and name in parameters(f))

        return super()._native() | {
            "ones": 0,
            "units": self.units,
            "shared": that_take("lo"),
            "summed": self.summed,
            "room": 0 if self.room is None else 1 + self.room,
            "working": that_take("memory"),
            "beginning": that_take("begun") >> 1,
            "writes": that_take("begun") & 1,
            "adding": that_take("sums"),
        }


def times_first(p: tuple[int, ...], n: int) -> tuple[int, ...]:
    """The parameters of n times as many parts, whose number is the first."""
    return n * p[0], *p[1:]


class Axes(OverDimensions, Array):
    """A kernel along axes: it takes `x` as [outer, n, inner], its parameters beginning with these lengths.

    It treats each of the outer parts alike, and these are shared out to threads. With an inner length of 1 it joins a
    region, which then is swept in whole rows.
    """

    same_shape: bool = False  # whether the result has the axis too
    parts = staticmethod(times_first)

    def _native(self) -> dict[str, Any]:
        shared = sum(1 << i for i, f in enumerate([self.function, *self.vjps]) if f is not None)
        return super()._native() | {"along": True, "shared": shared}


class Host(Op):
    """Python between two sweeps."""

    family = HOST

    def _native(self) -> dict[str, Any]:
        return super()._native() | {"ones": 0}


# --- the arguments of what works over dimensions ----------------------------------------------------------------------


def over(input: Tensor, dim: Dims | None = None, keepdim: bool = False) -> Tensor:
    """All dimensions, or some."""


def over_in_dtype(
    input: Tensor, dim: Dims | None = None, keepdim: bool = False, *, dtype: DType | None = None
) -> Tensor:
    """All dimensions, or some, in another dtype."""


def over_given(input: Tensor, dim: Dims | None, keepdim: bool = False) -> Tensor:
    """The dimensions given."""


def over_one(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """All dimensions, or one."""


def over_one_in_dtype(
    input: Tensor, dim: int | None = None, keepdim: bool = False, *, dtype: DType | None = None
) -> Tensor:
    """All dimensions, or one, in another dtype."""


def along_one(input: Tensor, dim: int, *, dtype: DType | None = None) -> Tensor:
    """One dimension, which stays."""


# --- declaring --------------------------------------------------------------------------------------------------------


def parameters(rule: Rule) -> tuple[str, ...]:
    """The names of a rule's parameters: what it needs."""
    return rule.__code__.co_varnames[: rule.__code__.co_argcount]


def _is_one(rule: Rule | None) -> bool:
    """Whether a partial derivative is 1 everywhere: then an adjoint is passed on as it is."""
    return rule is not None and rule.__code__.co_argcount == 0 and rule() == 1.0


def _declaring(family: type[_F], facts: dict[str, Any]) -> Callable[[Callable[..., Any]], _F]:
    if callable(facts.get("partials")):
        facts["partials"] = (facts["partials"],)
    return lambda function: family(function=function, **facts)


def elementwise(**facts: Any) -> Callable[[Callable[..., Any]], Elementwise]:
    """Declare an elementwise operation: the function is that of the elements."""

    def declare(function: Callable[..., Any]) -> Elementwise:
        arity = function.__code__.co_argcount
        return _declaring(Elementwise if arity <= ROW_OPERANDS else Wide, facts | {"arity": arity})(function)

    return declare


def reduction(**facts: Any) -> Callable[[Callable[..., Any]], Reduction]:
    """Declare a reduction: the function is the term."""
    return _declaring(Reduction, facts)


def along_axes(**facts: Any) -> Callable[[Callable[..., Any]], Axes]:
    """Declare an array operation along axes: the function is the kernel."""
    return _declaring(Axes, facts)


def array_op(arity: int, **facts: Any) -> Callable[[Callable[..., Any]], Array]:
    """Declare an array operation: the function is the kernel."""
    return _declaring(Array, facts | {"arity": arity})


def layout(**facts: Any) -> Callable[[Callable[..., Any]], Layout]:
    """Declare a layout operation: the function gives the shape, and how to go along it."""
    return _declaring(Layout, {"saves": (0,)} | facts)
