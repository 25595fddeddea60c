"""Instructions of x86-64 on whole registers of 64 bytes, with AVX-512: what differs from AVX.

    zmm0 .. zmm15  lanes      k1  the lanes that count, within a stencil

An instruction takes a single number from memory as well as lanes, and gives zero in lanes that do not count.
"""

from __future__ import annotations

import ctypes
import functools
import struct
from collections.abc import Sequence

from tapegrad.replay.machine import x86_64
from tapegrad.replay.machine.memory import Code
from tapegrad.replay.machine.x86_64 import EPILOGUE, N_REGISTERS, PROLOGUE, SUCCESS, patch

_K = 1
# What is asked: mov r8, rbx; cpuid(7, 0); ebx: bits 16 and 17; xgetbv(0): bits 1, 2, 5, 6 and 7.
_HAS_AVX512 = bytes.fromhex(
    "49 89 d8 b8 07 00 00 00 31 c9 0f a2 89 d8 4c 89 c3 25 00 00 03 00 3d 00 00 03 00 75 16"
    "31 c9 0f 01 d0 25 e6 00 00 00 31 c9 3d e6 00 00 00 0f 94 c1 eb 02 31 c9 89 c8 c3"
)


@functools.cache
def is_possible() -> bool:
    """Whether the processor, and the system, have AVX-512 (F and DQ)."""
    code = Code(_HAS_AVX512)
    return x86_64.is_possible() and bool(ctypes.CFUNCTYPE(ctypes.c_int)(code.address)())


def widths(itemsize: int) -> tuple[int, ...]:
    """How many lanes an instruction can have, most first."""
    return 64 // itemsize, *x86_64.widths(itemsize)


class Stencil(x86_64.Stencil):
    """Instructions on so many lanes of floats of so many bytes: those of a whole register are of AVX-512."""

    def __init__(self, lanes: int = 1, itemsize: int = 8) -> None:
        super().__init__(lanes, itemsize)
        self._is_whole = self.has_masks = lanes * itemsize == 64

    # --- encoding -----------------------------------------------------------------------------------------------------

    def _evex(
        self, code: int, r: int, s: int, t: int, kind: int = -1, space: int = 1, counts: int = 0, is_one: bool = False
    ) -> None:
        """A prefix and an opcode, see `_vex`; lanes that count; whether memory has one number for all."""
        kind, wide = self._packed if kind < 0 else kind, self.itemsize == 8
        self.code += bytes([
            0x62, (~r >> 3 & 1) << 7 | 0x40 | (~t >> 3 & 1) << 5 | 0x10 | space, wide << 7 | (~s & 15) << 3 | 4 | kind,
            bool(counts) << 7 | 0x48 | is_one << 4 | counts, code,
        ])  # fmt: skip

    def _whole(self, code: int, r: int, s: int, t: int, kind: int = -1, space: int = 1, counts: int = 0) -> None:
        self._evex(code, r, s, t, kind, space, counts)
        self.code.append(0xC0 | (r & 7) << 3 | t & 7)

    def _whole_of_memory(
        self, code: int, r: int, s: int, operand: int, kind: int = -1, space: int = 1, is_one: bool = False
    ) -> None:
        self._evex(code, r, s, 0, kind, space, 0, is_one)
        self._displacement(r, operand)

    # --- lanes --------------------------------------------------------------------------------------------------------

    def load(self, r: int, operand: int, is_single: bool = False) -> None:
        """See `x86_64.Stencil`."""
        if not self._is_whole:
            super().load(r, operand, is_single)
        elif is_single:
            self._whole_of_memory(0x19 if self.itemsize == 8 else 0x18, r, 0, operand, 1, 2)  # vbroadcastsd, ss
        else:
            self._whole_of_memory(0x10, r, 0, operand)

    def store(self, r: int, operand: int) -> None:
        """See `x86_64.Stencil`."""
        if self._is_whole:
            self._whole_of_memory(0x11, r, 0, operand)
        else:
            super().store(r, operand)

    def move(self, r: int, s: int) -> None:
        """See `x86_64.Stencil`."""
        if self._is_whole:
            self._whole(0x28, r, 0, s)
        else:
            super().move(r, s)

    def bits(self, r: int, bits: int) -> None:
        """See `x86_64.Stencil`."""
        if not self._is_whole or bits == 0:  # zeros to a part of a register are zeros to all of it
            super().bits(r, bits)
            return
        self.code += b"\x48\xb8" + struct.pack("<Q", bits) if self.itemsize == 8 else b"\xb8" + struct.pack("<I", bits)
        self._whole(0x7C, r, 0, 0, 1, 2)  # vpbroadcastq, d

    def binary(self, name: str, r: int, s: int, t: int) -> None:
        """See `x86_64.Stencil`."""
        if self._is_whole:
            self._whole(x86_64.CODES[name], r, s, t)
        else:
            super().binary(name, r, s, t)

    def binary_of_memory(self, name: str, r: int, s: int, operand: int, is_single: bool = False) -> None:
        """See `x86_64.Stencil`."""
        if self._is_whole:
            self._whole_of_memory(x86_64.CODES[name], r, s, operand, is_one=is_single)
        else:
            super().binary_of_memory(name, r, s, operand)

    def sqrt(self, r: int, s: int) -> None:
        """See `x86_64.Stencil`."""
        if self._is_whole:
            self._whole(0x51, r, 0, s)
        else:
            super().sqrt(r, s)

    def logic(self, name: str, r: int, s: int, t: int) -> None:
        """See `x86_64.Stencil`."""
        if self._is_whole:
            self._whole(x86_64.LOGIC[name], r, s, t)
        else:
            super().logic(name, r, s, t)

    def compare(self, name: str, r: int, s: int, t: int) -> None:
        """See `x86_64.Stencil`."""
        if self._is_whole:
            self._counting(name, s, t)
            self._whole(0x38, r, 0, _K, 2, 2)  # vpmovm2q, d
        else:
            super().compare(name, r, s, t)

    def _counting(self, name: str, s: int, t: int, counts: int = 0) -> None:
        """Have those lanes count in which s (eq, ne, lt, le) t, of these that count."""
        self._whole(0xC2, _K, s, t, counts=counts)
        self.code[-3] &= 0x7F  # others are zeros as it is
        self.code.append(x86_64.RELATIONS[name])

    def choose(self, r: int, mask: int, s: int, t: int) -> None:
        """See `x86_64.Stencil`."""
        if self._is_whole:
            self._whole(0x39, _K, 0, mask, 2, 2)  # vpmovq2m, d2m
            self._whole(0x65, r, t, s, 1, 2, _K)  # vblendmpd, ps
            self.code[-3] &= 0x7F
        else:
            super().choose(r, mask, s, t)

    def product(self, r: int, s: int, t: int, tested: Sequence[int], zero: int) -> None:
        """Let r = s t, and zero where one of those tested is."""
        for i, of in enumerate(tested):
            self._counting("ne", of, zero, _K if i else 0)
        self._whole(0x59, r, s, t, counts=_K)


__all__ = ["EPILOGUE", "N_REGISTERS", "PROLOGUE", "SUCCESS", "Stencil", "is_possible", "patch", "widths"]
