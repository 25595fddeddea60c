"""Integers that indices of a nest are made of, as sums: `n - 2 * i + 3`, with what is summed up (*atoms*) in one order.

Atoms are names, lengths of arrays' axes, and quotients of sums. Two sums are equal where they are of the same atoms.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple


class Axis(NamedTuple):
    """The length of an axis of an array that is given."""

    array: str
    axis: int


class Sum(NamedTuple):
    """A number, and atoms with their factors."""

    number: int
    terms: tuple[tuple[Any, int], ...] = ()

    def plus(self, other: Sum, times: int = 1) -> Sum:
        """The sum of both, the other one times a number."""
        found = dict(self.terms)
        for atom, n in other.terms:
            found[atom] = found.get(atom, 0) + times * n
        terms = sorted(((atom, n) for atom, n in found.items() if n), key=repr)
        return Sum(self.number + times * other.number, tuple(terms))

    def add(self, number: int) -> Sum:
        """The sum, and a number."""
        return Sum(self.number + number, self.terms)

    def over(self, by: int) -> Sum:
        """The quotient, rounded up."""
        return self if by == 1 else Sum(0, ((Quotient(self.add(by - 1), by), 1),))

    @property
    def atoms(self) -> Iterator[Any]:
        """Names and axes, those in quotients too."""
        for atom, _ in self.terms:
            if isinstance(atom, Quotient):
                yield from atom.of.atoms
            else:
                yield atom


class Quotient(NamedTuple):
    """A sum divided by a positive number, rounded down."""

    of: Sum
    by: int


def atom(of: Any) -> Sum:
    """The sum of one atom."""
    return Sum(0, ((of, 1),))
