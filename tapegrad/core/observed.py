"""What a sweep does, told to an observer. Compiled code.

Where a header has the address of an observer, every step of a sweep that touches memory is told to it before it is
done: what it is (below), and up to ten numbers. `tapegrad/replay/` makes programs of that, which `replaying.py` runs
again. What only moves an address from one slot to another is not told: it leaves no trace in memory.

Of scalars there may be 10^5 steps, and to tell each would take fifty times as long as to do it. They are noted, and the
observer reads the notes before it is told anything else, when there is no room for more, and when the sweep is over. A
note is `NOTE` words: what is done, its numbers, the bits of an immediate; not all addresses are good for longer.
"""

from tapegrad.memory import call11, i8

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
FULL = 14  # there is no room for more notes
NOTE = 11  # words


def tell(tape, what, a=0, b=0, c=0, d=0, e=0, f=0, g=0, h=0, i=0):
    """Tell the observer, if there is one."""
    if tape.observer:
        call11(tape.observer, what, a, b, c, d, e, f, g, h, i, 0)


def note(tape, bits, what, a, b, c, d=0, e=0, f=0, g=0, h=0, i=0):
    """Note it for the observer, if there is one; with the bits of an immediate that is among the operands."""
    if tape.observer:
        if tape.n_notes == tape.room_for_notes:
            tell(tape, FULL)
        words = i8(tape.notes + 8 * NOTE * tape.n_notes, NOTE)
        words[0], words[1], words[2], words[3], words[4], words[5] = what, a, b, c, d, e
        words[6], words[7], words[8], words[9], words[10] = f, g, h, i, bits
        tape.n_notes += 1
