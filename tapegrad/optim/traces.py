"""What a method does with a parameter, as operations for native code: see `native_steps.update`.

A method's formula is run once with stand-ins: for a parameter, its gradient and its state (`Expression`), and for the
numbers that change from step to step (`Value`). What it does with these becomes a list of operations, which native code
does for all parameters that are alike, in all steps in which the options are the same. So there is one formula, and no
row is recorded.

    code      for each operation its opcode, and three operands: values by number (first what is given, then what
              operations make), numbers as -2, -3 ..., -1 for none
    numbers   constants, and those of a step
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any

import numpy as np

from tapegrad import kernels
from tapegrad.dtypes import DTYPES, DType
from tapegrad.kinds import address_of
from tapegrad.native_steps import Operation
from tapegrad.ops import arithmetic, declare, exponential

_NONE = -1


class NotTracedError(Exception):
    """A formula does what expressions can't."""


class Value:
    """A number of a step, to a formula: an operand, and nothing else can be done with it."""

    __slots__ = ("at",)

    def __init__(self, at: int) -> None:
        self.at = at


_NUMBERS = frozenset([float, int, np.float64, Value])


class Trace:
    """The operations so far."""

    __slots__ = ("code", "n", "numbers")

    def __init__(self, n: int) -> None:
        self.n = n  # values
        self.code: list[int] = []
        self.numbers: list[Any] = []

    def made(self, opcode: int, *operands: Any) -> Expression:
        """What an operation makes."""
        code = self.code
        code.append(opcode)
        for x in operands:
            if x.__class__ is Expression:
                code.append(x.at)
            elif x.__class__ in _NUMBERS:
                self.numbers.append(x)
                code.append(-1 - len(self.numbers))
            else:
                raise NotTracedError
        code += (_NONE,) * (3 - len(operands))
        self.n += 1
        return Expression(self, self.n - 1)


def _method(op: Any, is_reversed: bool = False) -> Callable[..., Expression]:
    opcode = op.opcode
    if op.arity == 1:
        return lambda self: self.trace.made(opcode, self)
    if is_reversed:
        return lambda self, other: self.trace.made(opcode, other, self)
    return lambda self, other: self.trace.made(opcode, self, other)


class Expression:
    """A value, to a formula."""

    __slots__ = ("at", "trace")
    __array_ufunc__ = None  # numbers of NumPy's leave operations to it

    def __init__(self, trace: Trace, at: int) -> None:
        self.trace, self.at = trace, at

    __add__, __radd__ = _method(arithmetic.add), _method(arithmetic.add, True)
    __sub__, __rsub__ = _method(arithmetic.sub), _method(arithmetic.sub, True)
    __mul__, __rmul__ = _method(arithmetic.mul), _method(arithmetic.mul, True)
    __truediv__, __rtruediv__ = _method(arithmetic.div), _method(arithmetic.div, True)
    __neg__, abs, clone = _method(arithmetic.neg), _method(arithmetic.abs_), _method(arithmetic.clone)
    sqrt, maximum = _method(exponential.sqrt), _method(arithmetic.maximum)


class Traced:
    """A formula, for some options: the address of its `Update`."""

    __slots__ = ("address", "constants", "options", "order", "words")

    def __init__(
        self, formula: Callable[..., Any], options: dict[str, Any], tensors: list[str], dtype: DType, n_numbers: int
    ) -> None:
        """`tensors` are the names of a state's. Raises NotTracedError."""
        width = 2 + len(tensors)
        trace = Trace(width)
        p, g, *rest = (Expression(trace, i) for i in range(width))
        state = dict(zip(tensors, rest, strict=True))
        values = [Value(i) for i in range(n_numbers)]
        try:
            new = formula(options, p, -g if options.get("maximize") else g, state, *values)
        except (AttributeError, TypeError) as error:  # it does more than expressions can
            raise NotTracedError from error
        made = [new, *[state.pop(name) for name in tensors]]
        if state or any(x.__class__ is not Expression for x in made):
            raise NotTracedError
        self.options = options
        self.words = _words(trace, [x.at for x in made], dtype)
        self.address = address_of(self.words)
        self.constants = tuple([float(x) for x in trace.numbers if x.__class__ is not Value])
        places = iter(range(n_numbers, n_numbers + len(self.constants)))
        order = [x.at if x.__class__ is Value else next(places) for x in trace.numbers]
        self.order = itemgetter(*order, 0, 0)  # of more than one, so that it gives a tuple

    def numbers_of(self, values: tuple[float, ...]) -> tuple[float, ...]:
        """What native code is given, for the numbers of a step."""
        found: tuple[float, ...] = self.order(values + self.constants)
        return found


def _words(trace: Trace, results: list[int], dtype: DType) -> np.ndarray:
    """The words of an `Update`, of which so many values are the results."""
    if len({*results}) < len(results) or min(results) <= len(results):
        raise NotTracedError
    rows = np.array(trace.code, np.int64).reshape(-1, 4)
    made = np.zeros((len(rows), Operation.nbytes // 8), np.int64)
    for i, (opcode, *operands) in enumerate(rows.tolist()):
        kernels.require(declare.OPS[opcode], dtype.code, False)
        kernel = int(kernels.table[(opcode * len(DTYPES) + dtype.code) * kernels.CELLS])
        at = len(results) + 1 + i
        mode = sum(1 << k for k, x in enumerate(operands) if x < _NONE)
        made[i] = kernel, mode, *operands, results.index(at) if at in results else _NONE
    head = len(results) + 1, dtype.itemsize, len(trace.numbers), len(rows), 0
    words = np.array([*head, *made.ravel().tolist()], np.int64)
    words[4] = address_of(words) + 8 * len(head)
    return words
