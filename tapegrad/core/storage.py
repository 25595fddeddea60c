"""Storage: memory for values and adjoints. Compiled code.

A loop that records the same graph again and again lets go of memory and asks for as much, in every turn. Given back to
the operating system it would come back page by page, each to be cleared: several times the cost of a sweep. So a tape
keeps what is released, up to MOST_KEPT bytes, in a list for each class of sizes:

    bins[c] -> block -> block -> 0        a free block's first word is the address of the next

Classes are 64 bytes apart up to 1024, then eight to a doubling. A block begins at a multiple of 64 (a line of the
cache, a vector register) and has its class and the address that `free` wants before it:

    ... | raw address | class | ... 64 bytes in all | elements

With TAPEGRAD_DEBUG=memory a block is longer, guarded, and never used again: see `guards.py`.
"""

from tapegrad.core.guards import (
    GUARD,
    MOST_LET_GO,
    check_block,
    check_let_go,
    close_block,
    fill_pattern,
    open_block,
    unlist,
)  # fmt: skip
from tapegrad.debug import MEMORY
from tapegrad.memory import allocate, allocate_zeroed, call3, i8, release
from tapegrad.tape import BINS, H

MOST_KEPT = 1 << 27
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


def obtain(header, nbytes, zeroed):
    """A block for `nbytes`, of zeros where that is asked for; 0 where there is no memory."""
    h = i8(header, len(H))
    if nbytes > _LARGEST:
        return 0
    if MEMORY:
        return _obtain_guarded(h, nbytes, zeroed)
    c = size_class(nbytes)
    size = class_size(c)
    h[H.allocated] += size
    bins = i8(h[H.bins], BINS)
    address = bins[c]
    if address:
        bins[c] = i8(address, 1)[0]
        h[H.kept] -= size
        if zeroed:
            words = i8(address, size // 8)
            for i in range(size // 8):
                words[i] = 0
        return address
    raw = allocate_zeroed(h[H.allocate_zeroed], size + 128, 1) if zeroed else allocate(h[H.allocate], size + 128)
    if raw == 0:
        return 0
    address = (raw + 127) // 64 * 64
    i8(address - 64, 2)[0], i8(address - 64, 2)[1] = raw, c
    if size >= _HUGE and h[H.advise]:
        begin = (address + 4095) // 4096 * 4096
        call3(h[H.advise], begin, (address + size - begin) // 4096 * 4096, _ADVICE)
    return address


def give_back(header, address):
    """Release a block: kept for the next that asks, or freed."""
    h = i8(header, len(H))
    if MEMORY:
        return _give_back_guarded(h, address)
    raw, c = i8(address - 64, 2)[0], i8(address - 64, 2)[1]
    size = class_size(c)
    if h[H.kept] + size > MOST_KEPT:
        release(h[H.release], raw)
        return 0
    bins = i8(h[H.bins], BINS)
    i8(address, 1)[0] = bins[c]
    bins[c] = address
    h[H.kept] += size
    return 0


def free_kept(header):
    """Free all blocks that are kept."""
    h = i8(header, len(H))
    bins = i8(h[H.bins], BINS)
    if MEMORY:
        return _free_let_go(h, bins)
    for c in range(BINS):
        while bins[c]:
            address = bins[c]
            bins[c] = i8(address, 1)[0]
            release(h[H.release], i8(address - 64, 2)[0])
    h[H.kept] = 0
    return 0


# --- TAPEGRAD_DEBUG=memory --------------------------------------------------------------------------------------------


def _obtain_guarded(h, nbytes, zeroed):
    c = size_class(nbytes + GUARD)
    size = class_size(c)
    h[H.allocated] += size
    raw = allocate(h[H.allocate], size + 192)
    if raw == 0:
        return 0
    address = (raw + 191) // 64 * 64
    i8(address - 64, 2)[0], i8(address - 64, 2)[1] = raw, c
    open_block(h, address, nbytes, size)
    if zeroed:
        for i in range((nbytes + 7) // 8):
            i8(address, i + 1)[i] = 0
        fill_pattern(address + nbytes, -nbytes % 8)
    return address


def _give_back_guarded(h, address):
    """A block let go is the next of the list that begins in the bin of class 0, which no block has."""
    size = class_size(i8(address - 64, 2)[1])
    if close_block(h, address, size):
        bins = i8(h[H.bins], BINS)
        i8(address - 128, 1)[0] = bins[0]
        bins[0] = address
        h[H.kept] += size
        if h[H.kept] > MOST_LET_GO:
            return _free_let_go(h, bins)
    return 0


def _free_let_go(h, bins):
    check_blocks_let_go(h)
    while bins[0]:
        address = bins[0]
        bins[0] = i8(address - 128, 1)[0]
        release(h[H.release], i8(address - 64, 1)[0])
    h[H.kept] = 0
    return 0


def check_blocks_let_go(h):
    """Whether nobody has written to a block since it was let go."""
    address = i8(h[H.bins], BINS)[0]
    while address:
        check_let_go(h, address, class_size(i8(address - 64, 2)[1]))
        address = i8(address - 128, 1)[0]


def check_guards(h, row):
    """Whether what is before and behind each block is as it was; 0 where it is not."""
    address = h[H.blocks]
    while address:
        check_block(h, row, address, class_size(i8(address - 64, 2)[1]))
        address = i8(address - 128, 1)[0]
    return 1 if h[H.fault] == 0 else 0


def check_guards_of(h, row, address):
    """The same of one block, at whose beginning something was written."""
    check_block(h, row, address, class_size(i8(address - 64, 2)[1]))


def hand_out(header, address):
    """Take a block off the list: it is no longer the tape's."""
    unlist(i8(header, len(H)), address)
    return 0
