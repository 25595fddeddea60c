"""Instructions of aarch64: what a stencil is made of.

    x19  the arena      x20  the frame      x21  the tape      x22  the text      v0 .. v7, v16 .. v30  lanes

An operand in memory is a base and 32 bits of displacement, brought to w9 by two instructions before: so all stencils of
a form have the same length. v31, x9 to x11 and x16 are used within one instruction of a stencil.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tapegrad.replay.machine.patches import ADDRESS, EXIT, NUMBER, OFFSET, TAPE, Address, Offset, Patch

N_REGISTERS = 23
_ARENA, _FRAME, _TAPE, _TEXT = 19, 20, 21, 22
_W9, _SPARE = 9, 31
_FLOATS = {  # of one double, one single, two doubles, four singles
    "add": (0x1E602800, 0x1E202800, 0x4E60D400, 0x4E20D400), "sub": (0x1E603800, 0x1E203800, 0x4EE0D400, 0x4EA0D400),
    "mul": (0x1E600800, 0x1E200800, 0x6E60DC00, 0x6E20DC00), "div": (0x1E601800, 0x1E201800, 0x6E60FC00, 0x6E20FC00),
    "sqrt": (0x1E61C000, 0x1E21C000, 0x6EE1F800, 0x6EA1F800), "eq": (0x5E60E400, 0x5E20E400, 0x4E60E400, 0x4E20E400),
    "gt": (0x7EE0E400, 0x7EA0E400, 0x6EE0E400, 0x6EA0E400), "ge": (0x7E60E400, 0x7E20E400, 0x6E60E400, 0x6E20E400),
    "load": (0xFC60C800, 0xBC60C800, 0x3CE0C800, 0x3CE0C800), "store": (0xFC20C800, 0xBC20C800, 0x3CA0C800, 0x3CA0C800),
    "single": (0, 0, 0x4D40CC00, 0x4D40C800), "number": (0x9E670000, 0x1E270000, 0x4E080C00, 0x4E040C00),
}  # fmt: skip
_LOGIC = {"and": 0x4E201C00, "or": 0x4EA01C00, "xor": 0x6E201C00}
_NOT, _SELECT, _ZERO = 0x6E205800, 0x6E601C00, 0x6F00E400
_LOADS, _STORES = {8: 0xF860C800, 4: 0xB860C800, 1: 0x3860C800}, {8: 0xF820C800, 4: 0xB820C800, 1: 0x3820C800}
_ADD, _MOVE, _PUT, _KEEP = 0x8B20C000, 0xAA0003E0, 0xD2800000, 0xF2800000  # x; `movz`, `movk`
_PUT_W, _KEEP_W = 0x52800000, 0x72A00000  # the lower half, the upper


def _bytes(*words: int) -> bytes:
    return b"".join(word.to_bytes(4, "little") for word in words)


# stp x29, x30, [sp, -48]!; stp x19, x20, [sp, 16]; stp x21, x22, [sp, 32]; mov x19, x0 and so on
PROLOGUE = _bytes(
    0xA9BD7BFD, 0xA90153F3, 0xA9025BF5, *(_MOVE | i << 16 | base for i, base in enumerate((19, 20, 21, 22)))
)  # fmt: skip
SUCCESS = _bytes(_PUT)  # mov x0, 0
# ldp x19, x20, [sp, 16]; ldp x21, x22, [sp, 32]; ldp x29, x30, [sp], 48; ret
EPILOGUE = _bytes(0xA94153F3, 0xA9425BF5, 0xA8C37BFD, 0xD65F03C0)


def is_possible() -> bool:
    """Whether the processor has what is used: all have."""
    return True


def widths(itemsize: int) -> tuple[int, ...]:
    """How many lanes an instruction can have, most first."""
    return (2, 1) if itemsize == 8 else (4, 1)


def _v(r: int) -> int:
    """The number of a register: what calls would have to keep is left out."""
    return r if r < 8 else r + 8


class Stencil:
    """Instructions on so many lanes of floats of so many bytes."""

    reads_memory = has_masks = False  # but for loads

    def __init__(self, lanes: int = 1, itemsize: int = 8) -> None:
        self.code, self.patches = bytearray(), list[Patch]()
        self.lanes, self.itemsize = lanes, itemsize
        self._kind = 2 * (lanes > 1) + (itemsize == 4)

    # --- encoding -----------------------------------------------------------------------------------------------------

    def _emit(self, word: int, d: int = 0, n: int = 0, m: int = 0) -> None:
        """An instruction of registers d, n and m."""
        self.code += _bytes(word | m << 16 | n << 5 | d)

    def _of_memory(self, word: int, d: int, operand: int) -> None:
        """An instruction whose address is a base and w9."""
        self.patches.append(Patch(ADDRESS, len(self.code), operand))
        self._offset()
        self._emit(word, d, 0, _W9)

    def _offset(self) -> None:
        self._emit(_PUT_W, _W9)
        self._emit(_KEEP_W, _W9)

    def _number(self, d: int, number: int) -> None:
        """A word in a register of integers."""
        for i in range(4):
            self._emit((_KEEP if i else _PUT) | i << 21 | (number >> 16 * i & 0xFFFF) << 5, d)

    def _of_floats(self, name: str, r: int, s: int, t: int = 0) -> None:
        self._emit(_FLOATS[name][self._kind], _v(r), _v(s), _v(t))

    # --- lanes --------------------------------------------------------------------------------------------------------

    def load(self, r: int, operand: int, is_single: bool = False) -> None:
        """Lanes from memory; a single number to all of them."""
        if not is_single or self.lanes == 1:
            self._of_memory(_FLOATS["load"][self._kind], _v(r), operand)
        else:
            self._of_memory(_ADD, _W9, operand)
            self._emit(_FLOATS["single"][self._kind], _v(r), _W9)

    def store(self, r: int, operand: int) -> None:
        """Lanes to memory."""
        self._of_memory(_FLOATS["store"][self._kind], _v(r), operand)

    def move(self, r: int, s: int) -> None:
        """Let r = s."""
        self._emit(_LOGIC["or"], _v(r), _v(s), _v(s))

    def bits(self, r: int, bits: int) -> None:
        """These bits in all lanes."""
        if bits == 0:
            self._emit(_ZERO, _v(r))
        else:
            self._number(_W9, bits)
            self._emit(_FLOATS["number"][self._kind], _v(r), _W9)

    def binary(self, name: str, r: int, s: int, t: int) -> None:
        """Let r = s (add, sub, mul, div) t."""
        self._of_floats(name, r, s, t)

    def sqrt(self, r: int, s: int) -> None:
        """Let r = the square root of s."""
        self._of_floats("sqrt", r, s)

    def logic(self, name: str, r: int, s: int, t: int) -> None:
        """Let r = s (and, or, xor) t, by bits."""
        self._emit(_LOGIC[name], _v(r), _v(s), _v(t))

    def compare(self, name: str, r: int, s: int, t: int) -> None:
        """Let r = all ones where s (eq, ne, lt, le) t, else zeros."""
        if name in ("lt", "le"):
            self._of_floats("gt" if name == "lt" else "ge", r, t, s)
        else:
            self._of_floats("eq", r, s, t)
        if name == "ne":
            self._emit(_NOT, _v(r), _v(r))

    def choose(self, r: int, mask: int, s: int, t: int) -> None:
        """Let r = s where a mask is ones, else t."""
        self._emit(_LOGIC["or"], _SPARE, _v(mask), _v(mask))
        self._emit(_SELECT, _SPARE, _v(s), _v(t))
        self._emit(_LOGIC["or"], _v(r), _SPARE, _SPARE)

    def load_truth(self, r: int, operand: int) -> None:
        """All ones where a byte in memory is not 0, else zeros; of one lane."""
        self._of_memory(_LOADS[1], 10, operand)
        self._emit(0xF100001F, 0, 10)  # cmp x10, 0
        self._emit(0xDA9F03E0, 10)  # csetm x10, ne
        self._emit(_FLOATS["number"][0], _v(r), 10)

    def store_truth(self, r: int, operand: int) -> None:
        """1 to a byte in memory where the first lane is all ones, 0 where it is zeros."""
        self._emit(0x9E660000, 10, _v(r))  # fmov x10, d
        self._emit(0x92400000, 10, 10)  # and x10, x10, 1
        self._of_memory(_STORES[1], 10, operand)

    # --- words --------------------------------------------------------------------------------------------------------

    def copy(self, target: int, source: int, itemsize: int) -> None:
        """Bring an element of 8, 4 or 1 bytes from memory to memory."""
        self._of_memory(_LOADS[itemsize], 10, source)
        self._of_memory(_STORES[itemsize], 10, target)

    def guard(self, operand: int, expected: int, itemsize: int) -> None:
        """Leave with the guard's number where 8, 4 or 1 bytes are not those expected."""
        self.patches.append(Patch(NUMBER, len(self.code), 0))
        self._emit(_PUT_W)
        self._emit(_KEEP_W)
        self._of_memory(_LOADS[itemsize], 10, operand)
        self._of_memory(_LOADS[itemsize], 11, expected)
        self._emit(0xEB00001F, 0, 10, 11)  # cmp x10, x11
        self._emit(0x54000040)  # b.eq, over what comes next
        self._leave()

    def _leave(self) -> None:
        self.patches.append(Patch(EXIT, len(self.code), 0))
        self._emit(0x14000000)  # b

    def call(self, function: int, arguments: Sequence[Any], is_checked: bool) -> None:
        """Call a function; where it is checked, leave with what it returns unless that is 0."""
        for i, argument in enumerate(arguments):
            if isinstance(argument, Address):
                self._of_memory(_ADD, i, argument.operand)
            elif isinstance(argument, Offset):
                self.patches.append(Patch(OFFSET, len(self.code), argument.operand))
                self._offset()
                self._emit(_ADD, i, _TEXT, _W9)
            elif argument is TAPE:
                self._emit(_MOVE, i, 0, _TAPE)
            else:
                self._number(i, argument)
        self._number(16, function)
        self._emit(0xD63F0000, 0, 16)  # blr x16
        if is_checked:
            self._emit(0xB4000040)  # cbz x0, over what comes next
            self._leave()


def patch(code: np.ndarray, at: np.ndarray, form: int, values: Any) -> None:
    """Fill in a place of stencils that begin somewhere: `at` are the positions, `values` what goes there.

    Of addresses these are twice the offset and 1 if it is in the frame, of exits the position to go to.
    """
    words = code.view("<u4")
    place = at // 4
    if form == EXIT:
        words[place] |= ((values - at) // 4 & 0x3FFFFFF).astype(np.uint32)
        return
    if form == ADDRESS:
        words[place + 2] |= (np.where(values & 1, _FRAME, _ARENA) << 5).astype(np.uint32)
        values = values >> 1
    words[place] |= ((values & 0xFFFF) << 5).astype(np.uint32)
    words[place + 1] |= ((values >> 16 & 0xFFFF) << 5).astype(np.uint32)
