"""Array operations whose functions take what their declarations do."""

from __future__ import annotations

from typing import Any

from tapegrad.arguments import EXACT, Surface
from tapegrad.dtypes import DTYPES
from tapegrad.functions.making import converted, explained, make
from tapegrad.ops.declare import OPS, Array
from tapegrad.recording import in_one_step, record_array
from tapegrad.tensor import Tensor

functions = Surface(EXACT)


def _make(op: Array, call: Any) -> None:
    names = call.__code__.co_varnames[: op.arity]

    def function(*args: Any, **facts: Any) -> Tensor:
        operands = [args[k] if k < len(args) else facts[name] for k, name in enumerate(names)]
        try:
            shape, params = call(*args, **facts)
        except (IndexError, RuntimeError) as error:
            raise explained(error, *operands) from None
        operands = [converted(op, t) for t in operands]
        result = DTYPES[op.signature(operands[op.dtype_operand].dtype.code)[-1]]
        return record_array(op, shape, result, *operands, params=params)

    is_of_one = names == ("input",) and op.failure is None
    make(functions, op, call, in_one_step(function) if is_of_one else function)


for _op in OPS:
    if isinstance(_op, Array) and _op.call is not None:
        _make(_op, _op.call)
