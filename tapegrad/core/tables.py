"""The program of a region, as records: registers, instructions, walks. `programs.py` makes it, `blocks.py` runs it.

A register is where a value, or an adjoint, is while a block is swept: at `base + step * (first row of the block)`, in
memory, where the value stays, or in scratch memory, which belongs to the thread. Its level says how many elements a
block has of it:

    WIDE     one a lane                               NARROW   one a row of the region, for all lanes of the row
    VECTOR   a row of lanes, the same for every row   SINGLE   one for the whole sweep

An instruction is

    FORWARD  y = kernel(a, b, c)                      REVERSE  k (+)= g * partial(a, b, c, y)
    GATHER   y = lanes of a walk from an address      SCATTER  merge a into a walk over states at an address
    SPREAD   y = a, over the lanes                    REDUCE   y (+)= a, reduced row by row
    ALONG    y = kernel over the rows of a            BACK     the same in reverse: k += ...
    ZERO     y = 0                                    STREAM   memory at an address = a, past the caches
    PUT      lanes of a walk from an address += a

A SCATTER merges into states (see `kernels`), `count` of them, begun with `start`. When the region is swept their
results go to `target`, by the kernel `finish` (0: they are added), of `terms` terms each. States that are as large as
results are at once where these go.
"""

import numpy as np

from tapegrad.dtypes import DTYPES
from tapegrad.kernels import Context
from tapegrad.memory import Record, inside, over, word
from tapegrad.tape import TABLES

N_CODES = len(DTYPES)
ITEMSIZE = tuple(d.itemsize for d in DTYPES)

SWEEP_VALUES, SWEEP_ADJOINTS = 1, 2  # what a sweep of a region does
NARROW, WIDE, SINGLE, VECTOR = range(4)
FORWARD, REVERSE, GATHER, SCATTER, SPREAD, REDUCE, ALONG, BACK, ZERO, STREAM, PUT = range(11)

MOST_REGISTERS, MOST_CODE, MOST_SETUP, MOST_CONSTANTS, MOST_TAILS = 6144, 6144, 2048, 2048, 1024
MOST_PLACES = 512
MANY_KNOWN = 1024
MAX_INNER = 4096  # of the elements that a row of a region swept in whole rows has
# Of the elements that all rows of such a region have together: their registers fit in scratch memory.
MAX_WIDE = 100_000
MOST_DIMENSIONS = 64
WORK_BYTES = 128  # for the arguments of BLAS and LAPACK


class Register(Record):
    """Where a value or an adjoint is."""

    base = word()
    step = word()
    scratch = word()  # 1 for scratch memory, in which `base` then is an offset
    within = word()  # 1 for memory that begins within a block
    level = word()
    widened = word()  # the register that has it spread over the lanes, if it was needed so
    size = word()  # of an element
    ndim = word()  # of the rows' space: by other dimensions the same operand is broadcast otherwise; ANY for results
    born = word()  # the instructions between which it is alive: then its place goes to the next
    dies = word()


class Instruction(Record):
    """What is done to so many elements of registers as `width`, a level, says."""

    what = word()
    kernel = word()
    mode = word()  # of its loops, see `loops.py`; or the bytes of an element
    width = word()
    a = word()
    b = word()
    c = word()
    y = word()
    g = word()  # the adjoints of the result and of an operand
    k = word()
    registers = over("a", n=6)
    walk = word()
    params = over("walk")  # where a row has its parameters in the pool of numbers
    step = over("walk")  # of a STREAM, how far it moves from row to row
    address = word()
    start = word()
    count = word()  # of states; 1 for a REDUCE that adds to what is there
    target = word()
    finish = word()
    terms = word()
    state = word()  # its bytes
    partial = word()  # where a chunk has its own states among its sums; -1 for none
    of_row = word()  # with TAPEGRAD_DEBUG=memory: the row that it is for


class Run(Record):
    """So many elements, so many bytes apart."""

    length = word()
    stride = word()


class Walk(Record):
    """How memory is met in the order of a region's lanes, see `walks.py`: as many runs as it needs, innermost first."""

    n_runs = word()
    runs = inside(Run, MOST_DIMENSIONS)


class Tail(Record):
    """An adjoint's register that is dealt with when a block ends.

    It is summed over what the operand was broadcast to; or, where it has strides, put where these say.
    """

    register = word()
    slot = word()
    space_kind = word()
    strides = word()


class Place(Record):
    """Where the adjoint of a view is in its base's, see `adjoints.py`: from `low` to `high`."""

    low = word()
    high = word()
    pitch = word()  # runs of `width` bytes, so many apart; 0 for one run, -1 for what is neither
    width = word()
    kind = word()
    strides = word()  # where they are in the pool of numbers
    strided = word()  # whether they are other than a contiguous value's
    fresh = word()  # whether nothing has been added there
    register = word()


class Known(Record):
    """What the region computes, by what it is computed from: value numbering."""

    p = word()
    q = word()
    register = word()
    stamp = word()


class Pieces(Record):
    """What the pieces of an array row's work have in common. The context lies before."""

    kernel = word()
    units = word()  # how many there are, in a piece, and how many pieces
    a_piece = word()
    n_pieces = word()
    outer = word()  # whether units are outer parts of arrays,
    unit_bytes = inside(np.int64, 4)  # with the bytes of one of each: of a, b, c, y,
    y_bar_bytes = word()
    k_bar_bytes = word()
    apart = word()  # the memory to which each piece adds apart: bytes of one, elements; whether they are k_bar's
    apart_bytes = word()
    apart_count = word()
    of_adjoint = word()
    rooms = word()  # what all pieces have to work in; bytes of each
    room_bytes = word()


class Program(Record):
    """A region, bound."""

    n_registers = word()  # how much of each table below is used
    n_code = word()
    n_setup = word()
    n_constants = word()
    n_tails = word()
    walk_words = word()
    space_kind = word()  # the region's space: its lanes are so many rows of so many
    n_rows = word()
    inner = word()
    one_row = word()  # whether a block is one row
    sweeps = word()  # what a sweep of it does
    block = word()  # rows
    chunk = word()
    n_chunks = word()
    partial_bytes = word()  # of the states that each chunk has for its own,
    shared_bytes = word()  # and that chunks share
    n_wide_places = word()  # of scratch memory
    n_narrow_places = word()
    n_ahead = word()
    n_places = word()
    bound_row = word()  # with TAPEGRAD_DEBUG=memory: the row that is being bound
    registers = inside(Register, MOST_REGISTERS)
    code = inside(Instruction, MOST_CODE)  # of a block
    setup = inside(Instruction, MOST_SETUP)  # of a chunk, before its first block
    constants = inside(np.int64, MOST_CONSTANTS)  # immediates, in the dtype of their operation
    tails = inside(Tail, MOST_TAILS)
    places = inside(Place, MOST_PLACES)  # of adjoints that are parts of others
    wide_places = inside(np.int64, MOST_REGISTERS)  # stacks of places that are free, while places are given
    narrow_places = inside(np.int64, MOST_REGISTERS)
    ahead = over("wide_places", n=MOST_REGISTERS)  # then, registers to be fetched ahead
    context = inside(Context)  # of an array row
    before_work = inside(np.int64, 8)
    work = inside(np.int64, WORK_BYTES // 8)
    behind_work = inside(np.int64, 8)
    pieces = inside(Pieces)
    known = inside(Known, MANY_KNOWN)
    walks = inside(np.int64, 1)  # the first of their words: each has as many as it needs


MOST_WALK_WORDS = TABLES - Program.nbytes // 8
# A walk for each of the operands and results of 256 rows fits in.
assert MOST_WALK_WORDS >= 1536 * (1 + 2 * MOST_DIMENSIONS)
