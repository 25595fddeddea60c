"""Stencils of kernels: a value, or a partial times an adjoint, for so many lanes; made of what `traced.py` has read.

A stencil leaves its result in register 0 as well as in memory, one of a partial the adjoint that it was given in
register 1: where the next begins with these, it does not load them. What makes a truth, and a guard, leaves both as
they are. Nothing else is kept from one to the next.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from tapegrad import kernels
from tapegrad.dtypes import DTYPES
from tapegrad.kernels.loops import FRESH
from tapegrad.ops.declare import OPS, Elementwise, parameters
from tapegrad.replay.machine.traced import Expression, expression, value_of

OPERANDS = "abcygk"  # of a row: what a kernel is given, and the adjoints of y and of an operand
A, B, C, Y, G, K = range(6)
_SIGN, _REST = {8: 1 << 63, 4: 1 << 31}, {8: (1 << 63) - 1, 4: (1 << 31) - 1}
_BINARY, _COMPARED = ("add", "sub", "mul", "div"), ("eq", "ne", "lt", "le")


class Kernel(NamedTuple):
    """What a kernel computes: an expression, the bytes of floats; of a partial, which reads nothing or something.

    What has to do with truths is for one lane.
    """

    of: Expression
    itemsize: int
    is_partial: bool
    reads_nothing: bool
    is_truth: bool = False
    truths: tuple[int, ...] = ()  # the places of bools


COPIED = Kernel(("a",), 8, False, False)  # y = a
COPIED_SINGLE = COPIED._replace(itemsize=4)
ADDED = Kernel(("number", 0x3FF0000000000000), 8, True, True)  # k += g
ADDED_SINGLE = ADDED._replace(itemsize=4)


@functools.lru_cache(4096)
def kernel_at(address: int) -> Kernel | None:
    """What the elementwise kernel at an address computes, if that is followed."""
    found = np.flatnonzero(kernels.table == address)
    if not len(found):
        return None
    cell, which = divmod(int(found[0]), kernels.CELLS)
    op, code = OPS[cell // len(DTYPES)], cell % len(DTYPES)
    itemsize, k = DTYPES[code].itemsize, which - 1
    of = expression(op, k, code) if isinstance(op, Elementwise) else None
    rule = op.partials[k] if k >= 0 else None
    reads_nothing = rule is not None and not parameters(rule)
    if of is None or (reads_nothing and of[0] != "number"):
        return None
    is_truth = k < 0 and op.signature(code)[-1] == 0
    *codes, of_y = op.signature(code)
    truths = tuple(place for place, c in enumerate((*codes, code, code)[:3]) if c == 0) + (Y,) * (of_y == 0)
    return Kernel(of, itemsize, k >= 0, reads_nothing, is_truth, truths)


def leaves(of: Expression) -> set[str]:
    """What an expression reads."""
    if len(of) == 1 or of[0] == "truth":
        return {of[-1]}
    return set() if of[0] == "number" else set().union(*(leaves(x) for x in of[1:]))


@functools.lru_cache(4096)
def reads(kernel: Kernel, mode: int) -> int:
    """The operands that a kernel reads, as bits."""
    found = leaves(kernel.of) | ({"g"} | (set() if mode & FRESH else {"k"}) if kernel.is_partial else set())
    return sum(1 << OPERANDS.index(name) for name in found)


class _Writer:
    """Registers, while a stencil is written."""

    def __init__(self, stencil: Any, n_registers: int, itemsize: int, singles: int) -> None:
        self.to, self.n_registers, self.itemsize, self.singles = stencil, n_registers, itemsize, singles
        self.known: dict[Any, int] = {}
        self.next = 2

    def new(self) -> int:
        """A register that nothing is in."""
        if self.next == self.n_registers:
            raise NotImplementedError
        self.next += 1
        return self.next - 1

    def leaf(self, name: str) -> int:
        """The register of an operand."""
        if (name,) not in self.known:
            place = OPERANDS.index(name)
            self.known[name,] = r = self.new()
            self.to.load(r, place, bool(self.singles >> place & 1))
        return self.known[name,]

    def of(self, x: Expression, into: int = -1) -> int:
        """The register of an expression."""
        if x in self.known:
            return self.known[x]
        if len(x) == 1:
            return self.leaf(x[0])
        name, *given = x
        if name == "truth":
            r = self.new()
            self.to.load_truth(r, OPERANDS.index(given[0]))
        elif name == "number":
            number = value_of(x)
            bits = np.float64(number).view(np.uint64) if self.itemsize == 8 else np.float32(number).view(np.uint32)
            r = self.bits(int(bits))
        elif name in _BINARY:
            r = self.binary(name, given[0], given[1], into)
        else:
            registers = [self.of(g) for g in given]
            r = self.new() if into < 0 else into
            if name == "sqrt":
                self.to.sqrt(r, *registers)
            elif name == "neg":
                self.to.logic("xor", r, *registers, self.bits(_SIGN[self.itemsize]))
            elif name == "abs":
                self.to.logic("and", r, *registers, self.bits(_REST[self.itemsize]))
            elif name in _COMPARED:
                self.to.compare(name, r, *registers)
            else:
                self.to.choose(r, *registers)
        self.known[x] = r
        return r

    def binary(self, name: str, s: Expression, t: Expression, into: int) -> int:
        """A sum, a difference, a product or a quotient."""
        left = self.of(s)
        is_in_memory = len(t) == 1 and t not in self.known and self.to.reads_memory
        is_single = is_in_memory and bool(self.singles >> OPERANDS.index(t[0]) & 1)
        if is_in_memory and (self.to.has_masks or not is_single):
            r = self.new() if into < 0 else into
            self.to.binary_of_memory(name, r, left, OPERANDS.index(t[0]), *[True] * is_single)
        else:
            right = self.of(t)
            r = self.new() if into < 0 else into
            self.to.binary(name, r, left, right)
        return r

    def bits(self, bits: int) -> int:
        """A register with these bits in all lanes."""
        key = "bits", bits
        if key not in self.known:
            self.known[key] = r = self.new()
            self.to.bits(r, bits)
        return self.known[key]


def write(
    isa: Any, kernel: Kernel, mode: int, lanes: int, singles: int, certain: int, stores: bool, before: int,
    has_adjoint: bool,
) -> Any:  # fmt: skip
    """The stencil of a kernel. `before` are operands that are in register 0, as bits; the adjoint may be in 1.

    Of single numbers that are `certain` it is known that they are not zero. Unless it `stores`, its result is left in
    the register alone.
    """
    itemsize = kernel.itemsize
    to = isa.Stencil(lanes, itemsize)
    writer = _Writer(to, isa.N_REGISTERS, itemsize, singles if lanes > 1 else 0)
    writer.known |= {(name,): 0 for i, name in enumerate(OPERANDS) if before >> i & 1}
    if kernel.is_truth:
        to.store_truth(writer.of(kernel.of), Y)
        return to
    if not kernel.is_partial:
        r = writer.of(kernel.of, 0)
        if r:
            to.move(0, r)
        if stores:
            to.store(0, Y)
        return to
    if ("g",) in writer.known:
        to.move(1, 0)
    elif not has_adjoint:
        to.load(1, G, bool(writer.singles >> G & 1))
    writer.known["g",] = 1
    if kernel.reads_nothing and value_of(kernel.of) == -1.0 and not mode & FRESH:
        writer.binary("sub", ("k",), ("g",), 0)
        if stores:
            to.store(0, K)
        return to
    part = _part(writer, kernel, certain)
    if not mode & FRESH:
        writer.known["part",] = part
        writer.binary("add", ("part",), ("k",), 0)
    elif part:
        to.move(0, part)
    if stores:
        to.store(0, K)
    return to


def _part(writer: _Writer, kernel: Kernel, certain: int) -> int:
    """What an adjoint is given: the product, and zero where one of its factors is. See `kernels/loops.py`."""
    to = writer.to
    if kernel.reads_nothing:
        factor = value_of(kernel.of)
        if factor == 0.0:
            return writer.bits(0)
        if factor == 1.0:
            return 1
        if factor == -1.0:
            return writer.of(("neg", ("g",)))
        return writer.of(("mul", ("g",), kernel.of))
    of, zero = writer.of(kernel.of), writer.bits(0)
    is_leaf = len(kernel.of) == 1
    tested = [1] if is_leaf and certain >> OPERANDS.index(kernel.of[0]) & 1 else [of, 1]
    # Where both are nan, the result has the sign of the first: compilers have what is in memory second.
    factors = (of, 1) if is_leaf else (1, of)
    r = writer.new()
    if to.has_masks:
        to.product(r, *factors, tested, zero)
        return r
    mask = writer.new()
    to.binary("mul", r, *factors)
    for factor in tested:
        to.compare("ne", mask, factor, zero)
        to.logic("and", r, r, mask)
    return r
