"""Machine code of programs that are called often: values, adjoints and guards, without an interpreter.

From the bottom: `memory.py` has memory that can be executed; `x86_64.py`, `avx512.py` and `aarch64.py` write
instructions; `traced.py` reads from a declaration what a kernel computes, `stencils.py` makes instructions of that;
`lowering.py` copies the stencils of a program's steps behind one another, and fills in where their operands are:
copy-and-patch, of Xu and Kjolstad (2021). All bits are those of the interpreter, in whose place the code is called
(`core/replaying.py`). Steps in lanes become code by `../lane_code.py`.
"""

from tapegrad.replay.machine.lowering import (
    HOT,
    Form,
    Lowered,
    NotLoweredError,
    frame_of,
    isa,
    lanes_code,
    lanes_isa,
    lower,
    stencil_of,
)
from tapegrad.replay.machine.memory import Code

__all__ = [
    "HOT", "Code", "Form", "Lowered", "NotLoweredError", "frame_of", "isa", "lanes_code", "lanes_isa", "lower",
    "stencil_of",
]  # fmt: skip
