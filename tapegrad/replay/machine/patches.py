"""What is left open in a stencil until it is copied into a program."""

from __future__ import annotations

from typing import NamedTuple

ADDRESS, OFFSET, NUMBER, EXIT = range(4)  # of an operand; in the text; of a guard; where a program is left
TAPE = object()  # an argument of calls: the tape


class Patch(NamedTuple):
    """A place: what form it has, where it begins, and of which operand it is."""

    form: int
    at: int
    operand: int


class Address(NamedTuple):
    """An argument of calls: the address of an operand."""

    operand: int


class Offset(NamedTuple):
    """An argument of calls: the address of an operand in the text."""

    operand: int
