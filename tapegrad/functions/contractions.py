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

import numpy as np

from tapegrad import arguments
from tapegrad.arguments import EXACT, Number, Surface, checked, method, node, taking_out
from tapegrad.creation import arange, eye
from tapegrad.dtypes import BOOL, INT64
from tapegrad.functions import shaping as views_of
from tapegrad.functions.elementwise import functions as elementwise
from tapegrad.functions.factorizations import inv
from tapegrad.functions.products import bmm, check_dtypes, dot, matmul, mm, mv, outer
from tapegrad.functions.shaping import functions as views
from tapegrad.functions.shaping import permute, reshape
from tapegrad.ops import arithmetic
from tapegrad.ops.layout import dimension
from tapegrad.recording import broadcast_shapes, cast, promoted, record_elementwise
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
            raise ValueError(
                f"einsum(): subscript in subscript list is not within the valid range [0, 52): {number}, at "
                f"{location()}"
            )
        found.append((string.ascii_uppercase + string.ascii_lowercase)[number])
    return found


def _parsed(args: tuple[Any, ...]) -> tuple[list[list[str]], list[str] | None, list[Tensor]]:
    """The labels of each operand, those of the result where they are given, and the operands."""
    if not args:
        raise ValueError("einsum(): must specify the equation string and at least one operand, or at least one operand "
                         "and its subscripts list")  # fmt: skip
    if not isinstance(args[0], str):
        return _sublists(args)
    equation, *given_operands = args
    if len(given_operands) == 1 and isinstance(given_operands[0], (list, tuple)):
        given_operands = [*given_operands[0]]
    operands = _tensors(given_operands)
    left, arrow, right = equation.partition("->")
    terms = [_letters(term, operands) for term in left.split(",")]
    if len(terms) != len(operands):
        less = "fewer" if len(terms) > len(operands) else "more"
        raise _refused(f"{less} operands were provided than specified in the equation '{equation}'", operands)
    return terms, _letters(right, operands) if arrow else None, operands


def _sublists(args: tuple[Any, ...]) -> tuple[list[list[str]], list[str] | None, list[Tensor]]:
    operands, result = _tensors(args[: len(args) & ~1 : 2]), args[-1] if len(args) % 2 else None
    sublists = args[1 : len(args) & ~1 : 2]
    for sublist in (*sublists, *(() if result is None else (result,))):
        if not isinstance(sublist, (list, tuple)):
            raise TypeError(f"einsum(): a sublist must be a list of ints, not {type(sublist).__name__}")
    terms = [_of_sublist(sublist, operands) for sublist in sublists]
    return terms, None if result is None else _of_sublist(result, operands), operands


def _tensors(operands: Sequence[Any]) -> list[Tensor]:
    if not operands:
        raise RuntimeError("einsum(): must provide at least one operand")
    return arguments.tensors("einsum", operands)


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
            raise _refused(f"output subscript {label} does not appear in the equation for any input operand", operands)
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
    return contracted(operands, terms, _result(terms, given, operands), "einsum")


def contracted(operands: Sequence[Tensor], terms: Sequence[Labels], result: Labels, name: str) -> Tensor:
    """The sum of products, by the labels of each operand and of the result."""
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
        check_dtypes(name, operands[0], other)
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
            summed, labels = _summed(t, labels, needed(own))
            return (summed if len(pieces) == 1 else cast(summed, t.dtype)), labels, own
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
    return t.sum(gone), tuple(label for label in labels if label in needed)


def _arranged(t: Tensor, labels: Labels, *groups: Labels) -> tuple[Tensor, list[int]]:
    """With the dimensions in the order of groups, and the number of elements in each of these."""
    order = tuple(labels.index(label) for group in groups for label in group)
    shape = dict(zip(labels, t._kind.shape, strict=True))
    lengths = [math.prod(shape[label] for label in group) for group in groups]
    return permute(t, order) if order != tuple(range(len(order))) else t, lengths


def _shaped(t: Tensor, shape: tuple[int, ...]) -> Tensor:
    return t if t._kind.shape == shape else reshape(t, shape)


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
        head, tail = [sizes[x] for x in batch], [sizes[x] for x in inner]
        a = _shaped(a, (*head, *(sizes[x] for x in left), *(1 for _ in right), *tail))
        b = _shaped(b, (*head, *(1 for _ in left), *(sizes[x] for x in right), *tail))
        dtype = a.dtype
        product = elementwise["mul"](a, b)
        return (product.sum(tuple(range(len(shape), product.ndim))).to(dtype) if inner else product), labels
    a, (n_batch, m, k) = _arranged(a, of_a, batch, left, inner)
    b, (_, _, n) = _arranged(b, of_b, batch, inner, right)
    batches = (n_batch,) if batch else ()
    a = _shaped(a, (*batches, *((m,) if left or batch else ()), k))
    b = _shaped(b, (*batches, k, *((n,) if right or batch else ())))
    return _shaped(matmul(a, b), shape), labels


@functools.lru_cache(maxsize=1024)
def _best_order(
    terms: tuple[frozenset[Label], ...], kept: frozenset[Label], sizes: tuple[tuple[Label, int], ...]
) -> Any:
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


# --- others -----------------------------------------------------------------------------------------------------------


def _dimensions_of(given: Any) -> list[Any]:
    """Those of one operand, in a list."""
    listed = list(given) if isinstance(given, (tuple, list)) else [given]
    if not all(isinstance(d, (int, np.integer)) for d in listed):
        raise TypeError(f"tensordot(): argument 'dims' must be ints, or two lists of ints, but has {given!r}")
    return listed


@public
def tensordot(a: Tensor, b: Tensor, dims: Any = 2) -> Tensor:
    """The sum of products over dimensions of both.

    Parameters
    ----------
    dims
        How many: the last of `a` with the first of `b`; or two lists, which of `a` and which of `b`.

    >>> import tapegrad as tg
    >>> tg.tensordot(tg.ones(2, 3, 4), tg.ones(4, 3, 5), dims=([1, 2], [1, 0])).shape
    tapegrad.Size([2, 5])
    """
    if isinstance(dims, Tensor):
        dims = dims.tolist()
    if isinstance(dims, (int, np.integer)):
        if dims < 0:
            raise RuntimeError(f"tensordot expects dims >= 0, but got dims={dims}: at {location()}")
        if dims > min(a.ndim, b.ndim):
            raise RuntimeError(
                f"tensordot expects dims < ndim_a or ndim_b, but got dims={dims}: {describe(a, b)}, at {location()}"
            )
        given: tuple[list[Any], ...] = [*range(a.ndim - dims, a.ndim)], [*range(dims)]
    else:
        given = tuple(_dimensions_of(d) for d in dims) if isinstance(dims, (tuple, list)) else ()
    if len(given) != 2 or len(given[0]) != len(given[1]):
        raise RuntimeError(
            f"both dimension lists should have same length, but got {dims}: {describe(a, b)}, at {location()}"
        )
    left, right = ([dimension(d, t.ndim) for d in ds] for ds, t in zip(given, (a, b), strict=True))
    for p, q in zip(left, right, strict=True):
        m, n = a._kind.shape[p], b._kind.shape[q]
        if m != n and 1 not in (m, n):
            raise RuntimeError(
                f"contracted dimensions need to match, but first has size {m} in dim {p} and second has size {n} in "
                f"dim {q}: {describe(a, b)}, at {location()}"
            )
    for dims_of in (left, right):
        if len(set(dims_of)) < len(dims_of):
            raise RuntimeError(f"dim {dims_of[0]} appears multiple times in the list of dims: at {location()}")
    of_a: list[Label] = [*range(a.ndim)]
    of_b: list[Label] = [a.ndim + d for d in range(b.ndim)]
    for p, q in zip(left, right, strict=True):
        of_b[q] = p
    result = tuple(d for d in (*of_a, *of_b) if not (d in of_a and d in of_b))
    return contracted((a, b), (tuple(of_a), tuple(of_b)), result, "tensordot")


@public
@node("VdotBackward0")
def vdot(input: Tensor, other: Tensor) -> Tensor:
    """The inner product of two vectors.

    >>> import tapegrad as tg
    >>> tg.vdot(tg.tensor([1.0, 2.0]), tg.tensor([3.0, 4.0]))
    tensor(11.)
    """
    return dot(input, other)


@public
def kron(input: Tensor, other: Tensor) -> Tensor:
    """Kronecker's product: every element of `input` times all of `other`.

    >>> import tapegrad as tg
    >>> tg.kron(tg.eye(2), tg.ones(1, 2))
    tensor([[1., 1., 0., 0.],
            [0., 0., 1., 1.]])
    """
    n = max(input.ndim, other.ndim)
    p, q = ((1,) * (n - t.ndim) + t._kind.shape for t in (input, other))
    apart = input.reshape([k for m in p for k in (m, 1)]) * other.reshape([k for m in q for k in (1, m)])
    return apart.reshape([m * k for m, k in zip(p, q, strict=True)])


def _crossed(name: str, a: Tensor, b: Tensor, dim: int) -> Tensor:
    shape = broadcast_shapes(name, [a, b])
    a, b = a.expand(*shape), b.expand(*shape)
    (a0, a1, a2), (b0, b1, b2) = (views_of.unbind(t, dim) for t in (a, b))
    return views_of.stack([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0], dim)


@public
@node("LinalgCrossBackward0")
def cross(input: Tensor, other: Tensor, dim: int | None = None) -> Tensor:
    """The vector products along a dimension of length 3; the first that has it, where none is given.

    >>> import tapegrad as tg
    >>> tg.cross(tg.tensor([1.0, 0.0, 0.0]), tg.tensor([0.0, 1.0, 0.0]))
    tensor([0., 0., 1.])
    """
    if dim is None:
        found = [d for d, n in enumerate(input._kind.shape) if n == 3]
        if not found:
            raise RuntimeError(f"no dimension of size 3 in input: cross({describe(input, other)}), at {location()}")
        dim = found[0]
    return linalg_cross(input, other, dim=dim)


@taking_out(EXACT)
def linalg_cross(input: Tensor, other: Tensor, *, dim: int = -1) -> Tensor:
    """The vector products along a dimension of length 3; the others are broadcast.

    >>> import tapegrad as tg
    >>> tg.linalg.cross(tg.tensor([1.0, 0.0, 0.0]), tg.tensor([0.0, 1.0, 0.0]))
    tensor([0., 0., 1.])
    """
    where = f"linalg.cross({describe(input, other)}), at {location()}"
    if input.ndim != other.ndim:
        raise RuntimeError(f"linalg.cross: inputs must have the same number of dimensions: {where}")
    at = dimension(dim, input.ndim)
    m, n = (t._kind.shape[at] if t.ndim else 0 for t in (input, other))
    if m != 3 or n != 3:
        raise RuntimeError(f"linalg.cross: inputs dimension {dim} must have length 3. Got {m} and {n}: {where}")
    return _crossed("linalg.cross", input, other, at)


@taking_out(EXACT)
def vecdot(x: Tensor, y: Tensor, *, dim: int = -1) -> Tensor:
    """The inner products along a dimension; the others are broadcast.

    >>> import tapegrad as tg
    >>> tg.linalg.vecdot(tg.ones(2, 3), tg.ones(3))
    tensor([3., 3.])
    """
    check_dtypes("vecdot", x, y)
    shape = broadcast_shapes("linalg.vecdot", [x, y])
    at = dimension(dim, len(shape))
    return (x * y).sum(at).to(x.dtype)


@public
def matrix_power(input: Tensor, n: int) -> Tensor:
    """A power of square matrices, by squaring; a negative one is that of the inverse.

    >>> import tapegrad as tg
    >>> tg.linalg.matrix_power(tg.tensor([[1.0, 1.0], [0.0, 1.0]]), 5)
    tensor([[1., 5.],
            [0., 1.]])
    """
    name = "linalg.matrix_power"
    if input.ndim < 2:
        raise RuntimeError(
            f"{name}: The input tensor A must have at least 2 dimensions: {describe(input)}, at {location()}"
        )
    if input._kind.shape[-1] != input._kind.shape[-2]:
        raise RuntimeError(
            f"{name}: A must be batches of square matrices, but they are {input._kind.shape[-2]} by "
            f"{input._kind.shape[-1]} matrices: {describe(input)}, at {location()}"
        )
    if n == 0:
        unit = eye(input._kind.shape[-1], dtype=input.dtype).expand(*input._kind.shape)
        one: Tensor = record_elementwise(arithmetic._replaced, input, unit)
        return one
    if n < 0:
        input, n = inv(input), -n
    power = input.clone()
    for bit in bin(n)[3:]:
        power = matmul(power, power)
        power = matmul(power, input) if bit == "1" else power
    return power


@taking_out(EXACT)
def multi_dot(tensors: Any) -> Tensor:
    """The product of two or more matrices in the order that takes fewest multiplications; vectors at the ends.

    >>> import tapegrad as tg
    >>> tg.linalg.multi_dot([tg.ones(2, 3), tg.ones(3, 4), tg.ones(4)])
    tensor([12., 12.])
    """
    factors = arguments.tensors("multi_dot", list(tensors))
    n = len(factors)
    if n < 2:
        raise RuntimeError(f"multi_dot(): expected at least 2 tensors but got {n}")
    for place, t in enumerate(factors):
        if t.ndim != 2 and not (t.ndim == 1 and place in (0, n - 1)):
            which = "the first and last tensors" if place in (0, n - 1) else f"tensor {place}"
            raise RuntimeError(
                f"multi_dot(): {which} must be {'1D or 2D' if place in (0, n - 1) else '2D'} but got {t.ndim}D: "
                f"{describe(*factors)}, at {location()}"
            )
        check_dtypes("multi_dot", factors[0], t)
    labels: list[Labels] = [(i, i + 1) for i in range(n)]
    if factors[0].ndim == 1:
        labels[0] = (1,)
    if factors[-1].ndim == 1:
        labels[-1] = (n - 1,)
    for i in range(n - 1):
        m, k = factors[i]._kind.shape[-1], factors[i + 1]._kind.shape[0]
        if m != k:
            raise RuntimeError(
                f"multi_dot(): tensors {i} and {i + 1} with shapes {list(factors[i]._kind.shape)} and "
                f"{list(factors[i + 1]._kind.shape)} cannot be multiplied: at {location()}"
            )
    lengths = [factors[0]._kind.shape[0] if factors[0].ndim == 2 else 1]
    lengths += [t._kind.shape[0] for t in factors[1:]]
    lengths += [factors[-1]._kind.shape[1] if factors[-1].ndim == 2 else 1]
    return _chained(factors, _best_chain(tuple(lengths)), 0, n - 1)


@functools.lru_cache(maxsize=256)
def _best_chain(lengths: tuple[int, ...]) -> dict[tuple[int, int], int]:
    """Where to part each run of factors, with `lengths` between them, for the fewest multiplications."""
    n = len(lengths) - 1
    cost = {(i, i): 0 for i in range(n)}
    parted = {}
    for run in range(1, n):
        for i in range(n - run):
            j = i + run
            cost[i, j], parted[i, j] = min(
                (cost[i, k] + cost[k + 1, j] + lengths[i] * lengths[k + 1] * lengths[j + 1], k) for k in range(i, j)
            )
    return parted


def _chained(factors: list[Tensor], parted: dict[tuple[int, int], int], i: int, j: int) -> Tensor:
    if i == j:
        return factors[i]
    k = parted[i, j]
    return matmul(_chained(factors, parted, i, k), _chained(factors, parted, k + 1, j))


@taking_out(EXACT)
def chain_matmul(*matrices: Any) -> Tensor:
    """The product of matrices in the order that takes fewest multiplications.

    >>> import tapegrad as tg
    >>> tg.chain_matmul(tg.ones(2, 3), tg.ones(3, 4), tg.ones(4, 1))
    tensor([[12.],
            [12.]])
    """
    if len(matrices) > 1:
        return multi_dot(matrices)
    if not matrices:
        raise RuntimeError(f"chain_matmul(): Expected one or more matrices, at {location()}")
    (only,) = arguments.tensors("chain_matmul", matrices)
    if only.ndim != 2:
        raise RuntimeError(
            f"Tensor dimension is {only.ndim}, expected 2 instead. chain_matmul({describe(only)}), at {location()}"
        )
    return only


functions |= {"chain_matmul": chain_matmul}


# --- products that are added ------------------------------------------------------------------------------------------


def _added(name: str, input: Tensor, product: Tensor, beta: Any, alpha: Any) -> Tensor:
    """`beta * input + alpha * product`; where beta is 0, `input` is ignored, nan and all."""
    if input.dtype is not product.dtype:
        check_dtypes(name, input, product, "self and mat2 must have the same dtype, but got {0} and {1}")
    for argument, value in (("beta", beta), ("alpha", alpha)):
        if isinstance(value, float) and not input.dtype.is_floating_point:
            raise RuntimeError(
                f"For integral input tensors, argument {argument} must not be a floating point number: {name}("
                f"{describe(input)}), {argument}={value}, at {location()}"
            )
    input = input.expand(*product._kind.shape)
    product = product if alpha == 1 else product * alpha
    if beta == 0:
        replaced: Tensor = record_elementwise(arithmetic._replaced, input, product)
        return replaced
    return product + (input if beta == 1 else input * beta)


@public
@node("AddmmBackward0")
def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: Number = 1, alpha: Number = 1) -> Tensor:
    """`beta * input + alpha * (mat1 @ mat2)`, of matrices; `input` is broadcast.

    >>> import tapegrad as tg
    >>> tg.addmm(tg.ones(2), tg.ones(2, 3), tg.ones(3, 2), alpha=0.5)
    tensor([[2.5000, 2.5000],
            [2.5000, 2.5000]])
    """
    if mat1.ndim != 2 or mat2.ndim != 2:
        raise RuntimeError(
            f"mat1 and mat2 must be a matrix, got {mat1.ndim}-D and {mat2.ndim}-D tensors: addmm("
            f"{describe(input, mat1, mat2)}), at {location()}".replace(
                "mat1 and mat2", "mat1" if mat1.ndim != 2 else "mat2"
            )
        )
    return _added("addmm", input, mm(mat1, mat2), beta, alpha)


@public
@node("AddmvBackward0")
def addmv(input: Tensor, mat: Tensor, vec: Tensor, *, beta: Number = 1, alpha: Number = 1) -> Tensor:
    """`beta * input + alpha * (mat @ vec)`; `input` is broadcast.

    >>> import tapegrad as tg
    >>> tg.addmv(tg.ones(2), tg.tensor([[1.0, 2.0], [3.0, 4.0]]), tg.ones(2))
    tensor([4., 8.])
    """
    return _added("addmv", input, mv(mat, vec), beta, alpha)


@public
@node("AddrBackward0")
def addr(input: Tensor, vec1: Tensor, vec2: Tensor, *, beta: Number = 1, alpha: Number = 1) -> Tensor:
    """`beta * input + alpha * outer(vec1, vec2)`; `input` is broadcast.

    >>> import tapegrad as tg
    >>> tg.addr(tg.zeros(2, 2), tg.tensor([1.0, 2.0]), tg.tensor([3.0, 4.0]))
    tensor([[3., 4.],
            [6., 8.]])
    """
    for name, vector in (("vec1", vec1), ("vec2", vec2)):
        if vector.ndim != 1:
            raise RuntimeError(
                f"addr: Expected 1-D argument {name}, but got {vector.ndim}-D: {describe(vec1, vec2)}, at {location()}"
            )
    dtype = promoted([input, vec1, vec2])
    return _added("addr", cast(input, dtype), cast(outer(vec1, vec2), dtype), beta, alpha)


@public
@node("BaddbmmBackward0")
def baddbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Number = 1, alpha: Number = 1) -> Tensor:
    """`beta * input + alpha * bmm(batch1, batch2)`; `input` is broadcast.

    >>> import tapegrad as tg
    >>> tg.baddbmm(tg.zeros(5, 2, 4), tg.ones(5, 2, 3), tg.ones(5, 3, 4)).shape
    tapegrad.Size([5, 2, 4])
    """
    return _added("baddbmm", input, bmm(batch1, batch2), beta, alpha)


@public
@node("AddbmmBackward0")
def addbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Number = 1, alpha: Number = 1) -> Tensor:
    """`beta * input + alpha * bmm(batch1, batch2).sum(0)`, as one product of matrices; `input` is broadcast.

    >>> import tapegrad as tg
    >>> tg.addbmm(tg.ones(2, 2), tg.ones(5, 2, 3), tg.ones(5, 3, 2), alpha=0.5)  # 1 + 0.5 * 15
    tensor([[8.5000, 8.5000],
            [8.5000, 8.5000]])
    """
    for name, batch in (("batch1", batch1), ("batch2", batch2)):
        if batch.ndim != 3:
            raise RuntimeError(f"{name} must be a 3D tensor: addbmm({describe(batch1, batch2)}), at {location()}")
    (b, m, k), (c, q, n) = batch1._kind.shape, batch2._kind.shape
    if b != c or k != q:
        which = (
            "batch1 and batch2 must have same number of batches" if b != c else ("Incompatible matrix sizes for bmm")
        )
        raise RuntimeError(f"{which}, got {b if b != c else f'{m}x{k}'} and {c if b != c else f'{q}x{n}'}: addbmm("
                           f"{describe(batch1, batch2)}), at {location()}")  # fmt: skip
    product = mm(batch1.permute(1, 0, 2).reshape(m, b * k), batch2.reshape(b * k, n))
    return _added("addbmm", input, product, beta, alpha)


@checked
def linalg_vander(x: Tensor, *, N: int | None = None) -> Tensor:
    """Vandermonde's matrices: the powers 0 to N - 1 of the elements, along a new last dimension.

    >>> import tapegrad as tg
    >>> tg.linalg.vander(tg.tensor([2.0, 3.0]), N=3)
    tensor([[1., 2., 4.],
            [1., 3., 9.]])
    """
    x = x if x.ndim else x.reshape(1)
    n = x._kind.shape[-1] if N is None else N
    if n <= 1 and N is not None:
        raise RuntimeError(f"linalg.vander: N must be greater than 1, but got {n}: at {location()}")
    if x.dtype is BOOL:
        x = cast(x, INT64)
    return x.unsqueeze(-1) ** arange(n, dtype=INT64)


@checked
def vander(x: Tensor, N: int | None = None, increasing: bool = False) -> Tensor:
    """Vandermonde's matrix of a vector: its powers as columns, falling, or rising from 0.

    >>> import tapegrad as tg
    >>> tg.vander(tg.tensor([2.0, 3.0]))
    tensor([[2., 1.],
            [3., 1.]])
    """
    if x.ndim != 1:
        raise RuntimeError(f"x must be a one-dimensional tensor: vander({describe(x)}), at {location()}")
    n = x._kind.shape[0] if N is None else N
    if n < 0:
        raise RuntimeError(f"N must be non-negative, but got {n}: vander({describe(x)}), at {location()}")
    powers = arange(n, dtype=INT64)
    x = cast(x, INT64) if x.dtype is BOOL else x
    return x.unsqueeze(-1) ** (powers if increasing else n - 1 - powers)


functions |= {"vander": vander, "ger": outer}
Tensor.ger = method(outer)
