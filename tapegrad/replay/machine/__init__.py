"""Machine code of programs that are called often: values, adjoints and guards, without an interpreter.

From the bottom: `memory.py` has memory that can be executed; `x86_64.py` and `aarch64.py` write instructions;
`traced.py` reads from a declaration what a kernel computes, `stencils.py` makes instructions of that; `lowering.py`
copies the stencils of a program's steps behind one another, and fills in where their operands are: copy-and-patch, of
Xu and Kjolstad (2021). All bits are those of the interpreter, in whose place the code is called
(`core/replaying.py`).
"""

from tapegrad.replay.machine.lowering import HOT, Lowered, NotLoweredError, frame_of, isa, lower

__all__ = ["HOT", "Lowered", "NotLoweredError", "frame_of", "isa", "lower"]
