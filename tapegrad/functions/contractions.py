"""Sums of products over named indices, by matrix products in the best order.

`einsum` reads an equation into labels, one for each dimension of each operand. Operands are joined two at a time:
labels of both that nothing else needs are contracted by a matrix product, those that something needs are its batch.
Which two come first is what takes fewest multiplications over all.
"""

from __future__ import annotations

import functools
import math
import string
from collections.abc import Iterable, Sequence
from typing import Any

from tapegrad.arguments import EXACT, Surface
from tapegrad.functions.elementwise import functions as elementwise
from tapegrad.functions.products import check_dtypes, matmul
from tapegrad.functions.shaping import functions as views
from tapegrad.functions.shaping import permute
from tapegrad.tensor import Tensor, describe, location

functions = public = Surface(EXACT)

# A label is a letter; those that an ellipsis stands for are numbers, counted from the last.
Label = str | int
Labels = tuple[Label, ...]
_MOST = 8  # operands among which the best order is looked for; of more, the pair that costs least comes first


def _refused(what: str, operands: Sequence[Any]) -> RuntimeError:
    return RuntimeError(f"einsum(): {what}: einsum({describe(*operands)}), at {location()}")


def _letters(term: str, operands: Sequence[Tensor]) -> list[str]:
    """The labels of a term, with "..." among them."""
    term = term.replace(" ", "")
    head, dots, tail = term.partition("...")
    for letter in head + tail:
        if letter not in string.ascii_letters:
            what = "found '.' that is not part of any ellipsis" if letter == "." else "invalid subscript given"
            raise _refused(f"{what} in the equation: '{letter}'; subscripts must be in [a-zA-Z]", operands)
    return [*head, "...", *tail] if dots else [*head]


def _of_sublist(items: Iterable[Any], operands: Sequence[Tensor]) -> list[str]:
    """Labels that are given as ints and Ellipsis."""
    found = []
    for item in items:
        if item is Ellipsis:
            found.append("...")
            continue
        if isinstance(item, bool) or not hasattr(item, "__index__"):
            raise _refused(f"a sublist has ints and Ellipsis, but one item is {item!r}", operands)
        number = item.__index__()
        if not 0 <= number < 52:
            raise _refused(f"subscripts of sublists must be within [0, 52), but got {number}", operands)
        found.append((string.ascii_uppercase + string.ascii_lowercase)[number])
    return found


def _parsed(args: tuple[Any, ...]) -> tuple[list[list[str]], list[str] | None, list[Tensor]]:
    """The labels of each operand, those of the result where they are given, and the operands."""
    if not args:
        raise ValueError("einsum(): must specify the equation string and at least one operand, or at least one operand "
                         "and its subscripts list")  # fmt: skip
    if not isinstance(args[0], str):
        return _sublists(args)
    equation, *operands = args
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = list(operands[0])
    _check_tensors(operands)
    given, arrow, result = equation.partition("->")
    terms = [_letters(term, operands) for term in given.split(",")]
    if len(terms) != len(operands):
        less = "fewer" if len(terms) > len(operands) else "more"
        raise _refused(f"{less} operands were provided than specified in the equation '{equation}'", operands)
    return terms, _letters(result, operands) if arrow else None, operands


def _sublists(args: tuple[Any, ...]) -> tuple[list[list[str]], list[str] | None, list[Tensor]]:
    operands, result = list(args[: len(args) & ~1 : 2]), args[-1] if len(args) % 2 else None
    _check_tensors(operands)
    sublists = args[1 : len(args) & ~1 : 2]
    for sublist in (*sublists, *(() if result is None else (result,))):
        if not isinstance(sublist, (list, tuple)):
            raise TypeError(f"einsum(): a sublist must be a list of ints, not {type(sublist).__name__}")
    terms = [_of_sublist(sublist, operands) for sublist in sublists]
    return terms, None if result is None else _of_sublist(result, operands), operands


def _check_tensors(operands: Sequence[Any]) -> None:
    if not operands:
        raise RuntimeError("einsum(): must provide at least one operand")
    for place, operand in enumerate(operands):
        if not isinstance(operand, Tensor):
            raise TypeError(f"einsum(): operand {place} must be Tensor, not {type(operand).__name__}")


def _placed(term: list[str], operand: Tensor, place: int, operands: Sequence[Tensor]) -> Labels:
    """A label for each dimension of an operand."""
    named, ndim = len(term) - ("..." in term), operand.ndim
    if named > ndim or (named < ndim and "..." not in term):
        raise _refused(
            f"the number of subscripts in the equation ({named}) "
            f"{'is more than' if named > ndim else 'does not match'} the number of dimensions ({ndim}) for operand "
            f"{place}"
            f"{'' if named > ndim else ' and no ellipsis was given'}",
            operands,
        )
    if "..." not in term:
        return tuple(term)
    at = term.index("...")
    return (*term[:at], *range(ndim - named - 1, -1, -1), *term[at + 1 :])


def _result(terms: list[Labels], given: list[str] | None, operands: Sequence[Tensor]) -> Labels:
    """The labels of the result: as given, or what an ellipsis stands for and then each that is there once, in order."""
    used = [label for term in terms for label in term]
    broadcast = sorted({label for label in used if isinstance(label, int)}, reverse=True)
    if given is None:
        letters = sorted({label for label in used if isinstance(label, str) and used.count(label) == 1})
        return (*broadcast, *letters)
    for label in given:
        if given.count(label) > 1:
            raise _refused(f"output subscript {label} appears more than once in the output", operands)
        if label != "..." and label not in used:
            raise _refused(
                f"output subscript {label} does not appear in the equation for any input operand", operands
            )
    if "..." not in given:
        return tuple(given)
    at = given.index("...")
    return (*given[:at], *broadcast, *given[at + 1 :])


def _without_repeats(t: Tensor, labels: Labels, place: int, operands: Sequence[Tensor]) -> tuple[Tensor, Labels]:
    """The diagonals over dimensions of one label."""
    while len(set(labels)) < len(labels):
        label = next(x for x in labels if labels.count(x) > 1)
        p, q = [d for d, x in enumerate(labels) if x == label][:2]
        m, n = t._kind.shape[p], t._kind.shape[q]
        if m != n:
            raise _refused(
                f"subscript {label} is repeated for operand {place} but the sizes don't match, {n} != {m}", operands
            )
        t = views["diagonal"](t, 0, p, q)
        labels = (*(x for d, x in enumerate(labels) if d not in (p, q)), label)
    return t, labels


@public
def einsum(*args: Any) -> Tensor:
    """The sum of products of operands over the indices that the equation names.

    An index that is not in the result is summed over; without `->`, the result has those that are there once, in the
    order of the alphabet. An index twice in one operand is its diagonal, `...` stands for all dimensions that are not
    named, which are broadcast. Instead of an equation, each operand may be followed by a list of ints, and the last by
    that of the result.

    Products are taken two operands at a time, by BLAS, in the order that takes fewest multiplications.

    Raises
    ------
    RuntimeError
        Where the equation doesn't fit the operands, sizes of one index differ, or dtypes do.

    >>> import tapegrad as tg
    >>> a, b = tg.ones(2, 3), tg.ones(3, 4)
    >>> tg.einsum("ij,jk->ik", a, b).shape
    tapegrad.Size([2, 4])
    >>> tg.einsum("ii", tg.eye(3))
    tensor(3.)
    >>> tg.einsum(a, [0, 1], b, [1, 2], [2, 0]).shape
    tapegrad.Size([4, 2])
    """
    named, given, operands = _parsed(args)
    terms = [_placed(term, t, i, operands) for i, (term, t) in enumerate(zip(named, operands, strict=True))]
    result = _result(terms, given, operands)
    pieces = [_without_repeats(t, x, i, operands) for i, (t, x) in enumerate(zip(operands, terms, strict=True))]
    sizes: dict[Label, int] = {}
    for place, (t, labels) in enumerate(pieces):
        for label, n in zip(labels, t._kind.shape, strict=True):
            known = sizes.setdefault(label, n)
            if known == 1:
                sizes[label] = n
            elif n not in (1, known):
                raise _refused(
                    f"operands do not broadcast with remapped shapes [original->remapped]: subscript {label} has size "
                    f"{n} for operand {place}, and {known} before",
                    operands,
                )
    for other in operands[1:]:
        check_dtypes("einsum", operands[0], other)
    # What is repeated to a size is a factor of each element there: its dimension of length 1 is left out.
    trimmed = [_trimmed(t, labels) for t, labels in pieces]
    y, labels = _contracted(trimmed, frozenset(result), sizes)
    missing = [label for label in result if label not in labels]
    if missing:  # of length 1
        y = y.reshape(*y._kind.shape, *(1 for _ in missing))
        labels = (*labels, *missing)
    y = permute(y, tuple(labels.index(label) for label in result)) if labels != result else y
    return y.clone() if any(y is t for t in operands) else y


def _trimmed(t: Tensor, labels: Labels) -> tuple[Tensor, Labels]:
    """Without the dimensions of length 1."""
    left = [d for d in range(t.ndim) if t._kind.shape[d] != 1]
    if len(left) < len(labels):
        t = t.reshape(tuple(t._kind.shape[d] for d in left))
    return t, tuple(labels[d] for d in left)


def _contracted(
    pieces: list[tuple[Tensor, Labels]], kept: frozenset[Label], sizes: dict[Label, int]
) -> tuple[Tensor, Labels]:
    """The product of all, with the labels that are kept, in any order."""
    terms = tuple(frozenset(labels) for _, labels in pieces)
    tree = _best_order(terms, kept, tuple(sorted(sizes.items(), key=str)))

    def joined(node: Any) -> tuple[Tensor, Labels, frozenset[int]]:
        """What a part of the tree is, and which operands are in it."""
        if isinstance(node, int):
            own = frozenset((node,))
            t, labels = pieces[node]
            return *_summed(t, labels, needed(own)), own
        (a, of_a, left), (b, of_b, right) = map(joined, node)
        return *_pair(a, of_a, b, of_b, needed(left | right)), left | right

    def needed(inside: frozenset[int]) -> frozenset[Label]:
        return kept.union(*(terms[i] for i in range(len(terms)) if i not in inside))

    t, labels, _ = joined(tree)
    return t, labels


def _summed(t: Tensor, labels: Labels, needed: frozenset[Label]) -> tuple[Tensor, Labels]:
    """Summed over what nothing else needs."""
    gone = [d for d, label in enumerate(labels) if label not in needed]
    if not gone:
        return t, labels
    dtype = t.dtype
    return t.sum(gone).to(dtype), tuple(label for label in labels if label in needed)


def _arranged(t: Tensor, labels: Labels, *groups: Labels) -> tuple[Tensor, list[int]]:
    """With the dimensions in the order of groups, and the number of elements in each of these."""
    order = tuple(labels.index(label) for group in groups for label in group)
    shape = dict(zip(labels, t._kind.shape, strict=True))
    lengths = [math.prod(shape[label] for label in group) for group in groups]
    return permute(t, order) if order != tuple(range(len(order))) else t, lengths


def _pair(a: Tensor, of_a: Labels, b: Tensor, of_b: Labels, needed: frozenset[Label]) -> tuple[Tensor, Labels]:
    """The product of two, summed over what is in both and needed no more."""
    shared = tuple(label for label in of_a if label in of_b)
    batch = tuple(label for label in shared if label in needed)
    inner = tuple(label for label in shared if label not in needed)
    left, right = (tuple(x for x in labels if x not in shared) for labels in (of_a, of_b))
    sizes = dict(zip((*of_a, *of_b), (*a._kind.shape, *b._kind.shape), strict=True))
    labels = (*batch, *left, *right)
    shape = tuple(sizes[label] for label in labels)
    if not inner or (batch and not left and not right):  # elementwise, in a region
        a, _ = _arranged(a, of_a, batch, left, inner)
        b, _ = _arranged(b, of_b, batch, right, inner)
        a = a.reshape(*(sizes[x] for x in (*batch, *left)), *(1 for _ in right), *(sizes[x] for x in inner))
        b = b.reshape(
            *(sizes[x] for x in batch), *(1 for _ in left), *(sizes[x] for x in right), *(sizes[x] for x in inner)
        )
        dtype = a.dtype
        product = elementwise["mul"](a, b)
        return (product.sum(tuple(range(len(shape), product.ndim))).to(dtype) if inner else product), labels
    a, (n_batch, m, k) = _arranged(a, of_a, batch, left, inner)
    b, (_, _, n) = _arranged(b, of_b, batch, inner, right)
    head = (n_batch,) if batch else ()
    a = a.reshape(*head, *((m,) if left or batch else ()), k)
    b = b.reshape(*head, k, *((n,) if right or batch else ()))
    return matmul(a, b).reshape(shape), labels


@functools.lru_cache(maxsize=1024)
def _best_order(terms: tuple[frozenset[Label], ...], kept: frozenset[Label], sizes: tuple[tuple[Label, int], ...]) -> Any:
    """In which order operands are joined: a tree of pairs of their numbers.

    Of few operands, that with the fewest multiplications: for each set of them the best of all ways to part it in two.
    """
    size = dict(sizes)

    def cost(labels: frozenset[Label]) -> int:
        return math.prod(size[label] for label in labels)

    def labels_of(members: frozenset[int]) -> frozenset[Label]:
        inside = frozenset[Label]().union(*(terms[i] for i in members))
        outside = kept.union(*(terms[i] for i in range(len(terms)) if i not in members))
        return inside & outside

    if len(terms) > _MOST:
        return _greedy_order(terms, cost, labels_of)

    @functools.cache
    def best(members: frozenset[int]) -> tuple[int, Any]:
        first, *others = sorted(members)
        if not others:
            return 0, first
        found: tuple[int, Any] | None = None
        for bits in range(1 << len(others)):
            left = frozenset((first, *(x for i, x in enumerate(others) if bits >> i & 1)))
            right = members - left
            if not right:
                continue
            total = cost(labels_of(left) | labels_of(right))
            (p, tree_p), (q, tree_q) = best(left), best(right)
            if found is None or total + p + q < found[0]:
                found = total + p + q, (tree_p, tree_q)
        assert found is not None
        return found

    return best(frozenset(range(len(terms))))[1]


def _greedy_order(terms: tuple[frozenset[Label], ...], cost: Any, labels_of: Any) -> Any:
    """Always the pair next whose product costs least."""
    parts: list[tuple[frozenset[int], Any]] = [(frozenset((i,)), i) for i in range(len(terms))]
    while len(parts) > 1:
        _, i, j = min(
            (cost(labels_of(parts[i][0]) | labels_of(parts[j][0])), i, j)
            for i in range(len(parts))
            for j in range(i + 1, len(parts))
        )
        (p, tree_p), (q, tree_q) = parts[i], parts[j]
        parts = [part for k, part in enumerate(parts) if k not in (i, j)] + [(p | q, (tree_p, tree_q))]
    return parts[0][1]
