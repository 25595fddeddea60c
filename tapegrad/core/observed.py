"""What a sweep does, told to an observer. Compiled code.

Where a header has the address of an observer, every step of a sweep that touches memory is told to it before it is
done: what it is (below), and up to ten numbers. `tapegrad/replay/` makes programs of that, which `replaying.py` runs
again. What only moves an address from one slot to another is not told: it leaves no trace in memory.
"""

from tapegrad.memory import call11

# What is told, and its numbers.
HAD = 0  # a block of memory: address, bytes, whether it was zeroed
FILLED = 1  # elements: address, n, bits, bytes of one
COPIED = 2  # target, source, bytes
ONES = 3  # added to an adjoint: address, n, dtype code
GIVEN = 4  # a value added to an adjoint: walk, source, target, n, dtype code
PUT_BACK = 5  # lanes added to a walk: walk, source, target, n, bytes of one
MERGED = 6  # lanes merged into a walk: walk, source, target, n, bytes of one, bytes of a state, states, kernel
CALLED6 = 7  # a kernel of six numbers: kernel, numbers
CALLED8 = 8
BOUND = 9  # a region, whose program is in the tables
ALONE = 10  # an array kernel, whose context is in the tables: kernel, bytes of an element
IN_PIECES = 11  # the same, shared out: kernel, units, outer, of_adjoint, apart_count, apart_code, elements
ADDED = 12  # one number to another: target, source, dtype code
SETTLED = 13  # states made results: kernel, states, source, target


def tell(tape, what, a=0, b=0, c=0, d=0, e=0, f=0, g=0, h=0, i=0):
    """Tell the observer, if there is one."""
    if tape.observer:
        call11(tape.observer, what, a, b, c, d, e, f, g, h, i, 0)
