"""Storage: memory for values and adjoints. Compiled code.

A loop that records the same graph again and again lets go of memory and asks for as much, in every turn. Given back to
the operating system it would come back page by page, each to be cleared: several times the cost of a sweep. So a tape
keeps what is released, up to MOST_KEPT bytes, in a list for each class of sizes:

    bins[c] -> block -> block -> 0        a free block's first word is the address of the next

What was kept for TURNS reclaimings, and never asked for, goes back (`trim`): so a program holds what it works with.

Classes are 64 bytes apart up to 1024, then eight to a doubling. A block begins at a multiple of 64 (a line of the
cache, a vector register) and has its class and the address that `free` wants before it:

    ... | raw address | class | ... 64 bytes in all | elements

With TAPEGRAD_DEBUG=memory a block is longer, guarded, and never used again: see `guards.py`.
"""

from tapegrad.core.guards import (
    GUARD,
    MOST_LET_GO,
    block_of,
    check_block,
    check_let_go,
    close_block,
    fill_pattern,
    open_block,
    unlist,
)  # fmt: skip
from tapegrad.core.observed import HAD, tell
from tapegrad.debug import MEMORY
from tapegrad.memory import allocate, allocate_zeroed, call3, i8, part, release
from tapegrad.tape import BINS, Header

MOST_KEPT = 1 << 29
TURNS = 32
_LARGEST = 1 << 43  # bytes of the largest block there can be: its class is the last but a few
_HUGE = 1 << 22  # bytes from which pages of 2 MB are asked for
_ADVICE = 14  # MADV_HUGEPAGE


def size_class(nbytes):
    """The class of blocks that hold `nbytes`."""
    if nbytes <= 1024:
        return max((nbytes + 63) // 64, 1)
    power = 10
    while (1 << (power + 1)) < nbytes:
        power += 1
    eighth = 1 << (power - 3)
    return 17 + 8 * (power - 10) + (nbytes - (1 << power) + eighth - 1) // eighth - 1


def class_size(c):
    """The bytes of blocks of a class."""
    if c <= 16:
        return 64 * c
    power = 10 + (c - 17) // 8
    return (1 << power) + ((c - 17) % 8 + 1) * (1 << (power - 3))


@part
def obtain(tape: Header, nbytes, zeroed):
    """A block for `nbytes`, of zeros where that is asked for; 0 where there is no memory."""
    if nbytes > _LARGEST:
        return 0
    if MEMORY:
        return _obtain_guarded(tape, nbytes, zeroed)
    c = size_class(nbytes)
    size = class_size(c)
    tape.storage.allocated += size
    bins = tape.storage.bins
    address = bins[c]
    if address:
        tell(tape, HAD, address, nbytes, zeroed)
        bins[c] = i8(address, 1)[0]
        tape.storage.kept -= size
        tape.storage.idle = min(tape.storage.idle, tape.storage.kept)
        if zeroed:
            words = i8(address, size // 8)
            for i in range(size // 8):
                words[i] = 0
        return address
    if zeroed:
        raw = allocate_zeroed(tape.storage.allocate_zeroed, size + 128, 1)
    else:
        raw = allocate(tape.storage.allocate, size + 128)
    if raw == 0:
        return 0
    address = (raw + 127) // 64 * 64
    block = block_of(address)
    block.raw, block.size_class = raw, c
    tell(tape, HAD, address, nbytes, zeroed)
    ask_for_large_pages(tape.storage.advise, address, size)
    return address


def ask_for_large_pages(advise, address, nbytes):
    """Have the system use pages of 2 MB where much is at an address; `advise` is that of its function, or 0."""
    if nbytes >= _HUGE and advise:
        begin = (address + 4095) // 4096 * 4096
        call3(advise, begin, (address + nbytes - begin) // 4096 * 4096, _ADVICE)


@part
def give_back(tape: Header, address):
    """Release a block: kept for the next that asks, or freed."""
    if MEMORY:
        return _give_back_guarded(tape, address)
    raw, c = block_of(address).raw, block_of(address).size_class
    size = class_size(c)
    if tape.storage.kept + size > MOST_KEPT:
        release(tape.storage.release, raw)
        return 0
    bins = tape.storage.bins
    i8(address, 1)[0] = bins[c]
    bins[c] = address
    tape.storage.kept += size
    return 0


@part
def trim(tape: Header):
    """One more turn; after so many, free what was idle in all of them, the largest blocks first."""
    storage = tape.storage
    storage.turns += 1
    if storage.turns < TURNS or MEMORY:
        return 0
    for c in range(BINS - 1, 0, -1):
        size = class_size(c)
        while storage.bins[c] and size <= storage.idle:
            address = storage.bins[c]
            storage.bins[c] = i8(address, 1)[0]
            storage.idle -= size
            storage.kept -= size
            release(storage.release, block_of(address).raw)
    storage.turns, storage.idle = 0, storage.kept
    return 0


@part
def free_kept(tape: Header):
    """Free all blocks that are kept."""
    bins = tape.storage.bins
    if MEMORY:
        return _free_let_go(tape, bins)
    for c in range(BINS):
        while bins[c]:
            address = bins[c]
            bins[c] = i8(address, 1)[0]
            release(tape.storage.release, block_of(address).raw)
    tape.storage.kept = tape.storage.idle = 0
    return 0


# --- TAPEGRAD_DEBUG=memory --------------------------------------------------------------------------------------------


def _obtain_guarded(tape, nbytes, zeroed):
    c = size_class(nbytes + GUARD)
    size = class_size(c)
    tape.storage.allocated += size
    raw = allocate(tape.storage.allocate, size + 192)
    if raw == 0:
        return 0
    address = (raw + 191) // 64 * 64
    block = block_of(address)
    block.raw, block.size_class = raw, c
    open_block(tape, address, nbytes, size)
    if zeroed:
        for i in range((nbytes + 7) // 8):
            i8(address, i + 1)[i] = 0
        fill_pattern(address + nbytes, -nbytes % 8)
    return address


def _give_back_guarded(tape, address):
    """A block let go is the next of the list that begins in the bin of class 0, which no block has."""
    size = class_size(block_of(address).size_class)
    if close_block(tape, address, size):
        bins = tape.storage.bins
        block_of(address).next = bins[0]
        bins[0] = address
        tape.storage.kept += size
        if tape.storage.kept > MOST_LET_GO:
            return _free_let_go(tape, bins)
    return 0


def _free_let_go(tape, bins):
    check_blocks_let_go(tape)
    while bins[0]:
        address = bins[0]
        bins[0] = block_of(address).next
        release(tape.storage.release, block_of(address).raw)
    tape.storage.kept = 0
    return 0


def check_blocks_let_go(tape):
    """Whether nobody has written to a block since it was let go."""
    address = tape.storage.bins[0]
    while address:
        check_let_go(tape, address, class_size(block_of(address).size_class))
        address = block_of(address).next


def check_guards(tape, row):
    """Whether what is before and behind each block is as it was; 0 where it is not."""
    address = tape.guarded.blocks
    while address:
        check_block(tape, row, address, class_size(block_of(address).size_class))
        address = block_of(address).next
    return 1 if tape.guarded.fault == 0 else 0


def check_guards_of(tape, row, address):
    """Check what is before and behind one block, at whose beginning something was written."""
    check_block(tape, row, address, class_size(block_of(address).size_class))


@part
def hand_out(tape: Header, address):
    """Take a block off the list: it is no longer the tape's."""
    unlist(tape, address)
    return 0
