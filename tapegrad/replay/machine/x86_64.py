"""Instructions of x86-64, with AVX: what a stencil is made of.

    rbx  the arena      rbp  the frame      r12  the tape      r13  the text      xmm0 .. xmm15  lanes

A stencil is bytes with places left open (`Patch`). An operand in memory is a base and 32 bits of displacement, whatever
it is: so all stencils of a form have the same length.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from tapegrad.replay.machine.memory import Code
from tapegrad.replay.machine.patches import ADDRESS, EXIT, NUMBER, OFFSET, TAPE, Address, Offset, Patch

N_REGISTERS = 16
_BASES = np.array([3, 5])  # rbx, rbp
_ARGUMENTS = (7, 6, 2, 1, 8, 9)  # rdi, rsi, rdx, rcx, r8, r9
CODES = {"add": 0x58, "mul": 0x59, "sub": 0x5C, "div": 0x5E}
RELATIONS = {"eq": 0x00, "lt": 0x11, "le": 0x12, "ne": 0x04}  # none of them true of nan, but "ne"
LOGIC = {"and": 0x54, "or": 0x56, "xor": 0x57}
# push rbx, rbp, r12, r13; sub rsp, 24; mov rbx, rdi; mov rbp, rsi; mov r12, rdx; mov r13, rcx
PROLOGUE = bytes.fromhex("53 55 41 54 41 55 48 83 ec 18 48 89 fb 48 89 f5 49 89 d4 49 89 cd")
SUCCESS = bytes.fromhex("31 c0")  # xor eax, eax
# vzeroupper; add rsp, 24; pop r13, r12, rbp, rbx; ret
EPILOGUE = bytes.fromhex("c5 f8 77 48 83 c4 18 41 5d 41 5c 5d 5b c3")
# What is asked of the processor: mov r8, rbx; cpuid(1); ecx: bits 27 and 28; xgetbv(0): bits 1 and 2.
_HAS_AVX = bytes.fromhex(
    "49 89 d8 b8 01 00 00 00 31 c9 0f a2 4c 89 c3 89 c8 25 00 00 00 18 3d 00 00 00 18 75 12"
    "31 c9 0f 01 d0 83 e0 06 31 c9 83 f8 06 0f 94 c1 eb 02 31 c9 89 c8 c3"
)


def is_possible() -> bool:
    """Whether the processor, and the system, have AVX."""
    code = Code(_HAS_AVX)
    return bool(ctypes.CFUNCTYPE(ctypes.c_int)(code.address)())


def widths(itemsize: int) -> tuple[int, ...]:
    """How many lanes an instruction can have, most first."""
    return (4, 2, 1) if itemsize == 8 else (8, 4, 1)


class Stencil:
    """Instructions on so many lanes of floats of so many bytes."""

    reads_memory = True  # instructions take one operand from memory
    has_masks = False  # and a single number too; lanes may be left out

    def __init__(self, lanes: int = 1, itemsize: int = 8) -> None:
        self.code, self.patches = bytearray(), list[Patch]()
        self.lanes, self.itemsize = lanes, itemsize
        self._long = int(lanes * itemsize == 32)
        self._packed = 1 if itemsize == 8 else 0
        self._kind = self._packed if lanes > 1 else 3 if itemsize == 8 else 2

    # --- encoding -----------------------------------------------------------------------------------------------------

    def _vex(self, kind: int, code: int, r: int, s: int, t: int, long: int, space: int = 1, wide: int = 0) -> None:
        """A prefix and an opcode: registers r (of ModRM), s (of the prefix), t (the other of ModRM)."""
        low = (~s & 15) << 3 | long << 2 | kind
        if t < 8 and space == 1 and not wide:
            self.code += bytes([0xC5, (~r >> 3 & 1) << 7 | low, code])
        else:
            self.code += bytes([0xC4, (~r >> 3 & 1) << 7 | 0x40 | (~t >> 3 & 1) << 5 | space, wide << 7 | low, code])

    def _of_registers(
        self, kind: int, code: int, r: int, s: int, t: int, long: int | None = None, space: int = 1, wide: int = 0
    ) -> None:
        self._vex(kind, code, r, s, t, self._long if long is None else long, space, wide)
        self.code.append(0xC0 | (r & 7) << 3 | t & 7)

    def _of_memory(
        self, kind: int, code: int, r: int, s: int, operand: int, long: int | None = None, space: int = 1
    ) -> None:
        self._vex(kind, code, r, s, 0, self._long if long is None else long, space)
        self._displacement(r, operand)

    def _displacement(self, r: int, operand: int) -> None:
        self.code += bytes([0x80 | (r & 7) << 3, 0, 0, 0, 0])
        self.patches.append(Patch(ADDRESS, len(self.code) - 4, operand))

    # --- lanes --------------------------------------------------------------------------------------------------------

    def load(self, r: int, operand: int, is_single: bool = False) -> None:
        """Lanes from memory; a single number to all of them."""
        if not is_single or self.lanes == 1:
            self._of_memory(self._kind, 0x10, r, 0, operand)
        elif self.itemsize == 8 and self.lanes == 2:
            self._of_memory(3, 0x12, r, 0, operand)  # vmovddup
        else:
            self._of_memory(1, 0x19 if self.itemsize == 8 else 0x18, r, 0, operand, space=2)  # vbroadcastsd, ss

    def store(self, r: int, operand: int) -> None:
        """Lanes to memory."""
        self._of_memory(self._kind, 0x11, r, 0, operand)

    def move(self, r: int, s: int) -> None:
        """Let r = s."""
        self._of_registers(self._packed, 0x28, r, 0, s)

    def bits(self, r: int, bits: int) -> None:
        """These bits in all lanes."""
        if bits == 0:
            self._of_registers(self._packed, 0x57, r, r, r)
            return
        if self.itemsize == 8:
            self.code += b"\x48\xb8" + struct.pack("<Q", bits)  # mov rax
            self._of_registers(1, 0x6E, r, 0, 0, long=0, wide=1)  # vmovq
            if self.lanes > 1:
                self._of_registers(3, 0x12, r, 0, r, long=0)  # vmovddup
        else:
            self.code += b"\xb8" + struct.pack("<I", bits)  # mov eax
            self._of_registers(1, 0x6E, r, 0, 0, long=0)  # vmovd
            if self.lanes > 1:
                self._of_registers(0, 0xC6, r, r, r, long=0)  # vshufps
                self.code.append(0)
        if self._long:
            self._of_registers(1, 0x18, r, r, r, space=3)  # vinsertf128
            self.code.append(1)

    def binary(self, name: str, r: int, s: int, t: int) -> None:
        """Let r = s (add, sub, mul, div) t."""
        self._of_registers(self._kind, CODES[name], r, s, t)

    def binary_of_memory(self, name: str, r: int, s: int, operand: int) -> None:
        """Let r = s (add, sub, mul, div) lanes from memory."""
        self._of_memory(self._kind, CODES[name], r, s, operand)

    def sqrt(self, r: int, s: int) -> None:
        """Let r = the square root of s."""
        self._of_registers(self._kind, 0x51, r, s if self.lanes == 1 else 0, s)

    def logic(self, name: str, r: int, s: int, t: int) -> None:
        """Let r = s (and, or, xor) t, by bits."""
        self._of_registers(self._packed, LOGIC[name], r, s, t)

    def compare(self, name: str, r: int, s: int, t: int) -> None:
        """Let r = all ones where s (eq, ne, lt, le) t, else zeros."""
        self._of_registers(self._kind, 0xC2, r, s, t)
        self.code.append(RELATIONS[name])

    def choose(self, r: int, mask: int, s: int, t: int) -> None:
        """Let r = s where a mask is ones, else t."""
        self._of_registers(1, 0x4B if self.itemsize == 8 else 0x4A, r, t, s, space=3)  # vblendvpd, ps
        self.code.append(mask << 4)

    def load_truth(self, r: int, operand: int) -> None:
        """All ones where a byte in memory is not 0, else zeros; of one lane."""
        self.code += b"\x0f\xb6"  # movzx eax
        self._displacement(0, operand)
        self.code += b"\xf7\xd8\x48\x19\xc0"  # neg eax; sbb rax, rax
        self._of_registers(1, 0x6E, r, 0, 0, long=0, wide=1)  # vmovq

    def store_truth(self, r: int, operand: int) -> None:
        """1 to a byte in memory where the first lane is all ones, 0 where it is zeros."""
        self._of_registers(self._packed, 0x50, 0, 0, r, long=0)  # vmovmskpd, ps eax
        self.code += b"\x83\xe0\x01"  # and eax, 1
        self.code.append(0x88)  # mov
        self._displacement(0, operand)

    # --- words --------------------------------------------------------------------------------------------------------

    def copy(self, target: int, source: int, itemsize: int) -> None:
        """Bring an element of 8, 4 or 1 bytes from memory to memory."""
        for code, operand in (0x8A, source), (0x88, target):  # mov
            self.code += b"\x48" * (itemsize == 8) + bytes([code | (itemsize > 1)])
            self._displacement(0, operand)

    def guard(self, operand: int, expected: int, itemsize: int) -> None:
        """Leave with the guard's number where 8, 4 or 1 bytes are not those expected."""
        self.code += b"\xb8\0\0\0\0"  # mov eax
        self.patches.append(Patch(NUMBER, len(self.code) - 4, 0))
        for code, of in (0x8A, operand), (0x3A, expected):  # mov, cmp
            self.code += b"\x48" * (itemsize == 8) + bytes([code | (itemsize > 1)])
            self._displacement(1, of)
        self._leave()

    def _leave(self) -> None:
        self.code += b"\x0f\x85\0\0\0\0"  # jne
        self.patches.append(Patch(EXIT, len(self.code) - 4, 0))

    def call(self, function: int, arguments: Sequence[Any], is_checked: bool) -> None:
        """Call a function; where it is checked, leave with what it returns unless that is 0."""
        for i, argument in enumerate(arguments):
            r = _ARGUMENTS[i] if i < len(_ARGUMENTS) else 0
            of_high = r >> 3
            if isinstance(argument, Address):
                self.code += bytes([0x48 | of_high << 2, 0x8D])  # lea
                self._displacement(r, argument.operand)
            elif isinstance(argument, Offset):
                self.code += bytes([0x49 | of_high << 2, 0x8D, 0x85 | (r & 7) << 3, 0, 0, 0, 0])  # lea r, [r13 + ...]
                self.patches.append(Patch(OFFSET, len(self.code) - 4, argument.operand))
            elif argument is TAPE:
                self.code += bytes([0x4C | of_high, 0x89, 0xE0 | r & 7])  # mov r, r12
            elif 0 <= argument < 1 << 31:
                self.code += b"\x41" * of_high + bytes([0xB8 | r & 7]) + struct.pack("<I", argument)  # mov
            else:
                self.code += bytes([0x48 | of_high, 0xB8 | r & 7]) + struct.pack("<q", argument)
            if i >= len(_ARGUMENTS):
                self.code += bytes([0x48, 0x89, 0x44, 0x24, 8 * (i - len(_ARGUMENTS))])  # mov [rsp + ...], rax
        self.code += b"\xc5\xf8\x77\x48\xb8" + struct.pack("<q", function) + b"\xff\xd0"  # vzeroupper; mov rax; call
        if is_checked:
            self.code += b"\x48\x85\xc0"  # test rax, rax
            self._leave()


def patch(code: np.ndarray, at: np.ndarray, form: int, values: Any) -> None:
    """Fill in a place of stencils that begin somewhere: `at` are the positions, `values` what goes there.

    Of addresses these are twice the offset and 1 if it is in the frame, of exits the position to go to.
    """
    if form == ADDRESS:
        code[at - 1] |= _BASES[values & 1].astype(np.uint8)
        values = values >> 1
    elif form == EXIT:
        values = values - at - 4
    code[at[:, None] + np.arange(4)] = values.astype("<i4")[:, None].view(np.uint8)
