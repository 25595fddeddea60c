"""Derivatives of every order of a jitted function that is given Tensors: rows of their tape.

Of a function f of x, the numbers of all arguments that are differentiated, tangents v of x and cotangents u of what f
returns, there are two kinds of vectors:

      pushed(v1 ... vk)      D^k f(x) [v1 ... vk]; what f returns for k = 0
      pulled(u, v1 ... vk)   the gradient by x of <u, D^k f(x) [v1 ... vk]>

Their derivatives are of the same two kinds, since D^k f(x) is linear in every tangent, whichever comes first:

      <w, pushed(v1 ... vk)>      by x: pulled(w, v1 ... vk)        by vi: pulled(w, the other v)
      <w, pulled(u, v1 ... vk)>   by x: pulled(u, v1 ... vk, w)     by vi: pulled(u, the other v, w)
                                  by u: pushed(v1 ... vk, w)

So each is a host row, and so are its derivatives where they are recorded in turn. The jitted engine computes them, with
the mixed tangents of `active.py`: it runs the function again, on arguments as they were at first.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tapegrad import trees
from tapegrad.autograd.host import EitherWay, host_function
from tapegrad.dtypes import FLOAT32
from tapegrad.functions import shaping
from tapegrad.jitted import engine, records, repeats, sharing
from tapegrad.tape import current_tape
from tapegrad.tensor import Tensor, from_array

Vector = Any  # a Tensor that requires grad, or an array


class Call:
    """A call of a jitted function with Tensors: its arguments, and the derivatives of what it returns.

    `x` is the vector of the numbers by which is differentiated: by those of the arguments at `places`, and of all that
    hold a Tensor that requires grad.
    """

    def __init__(self, known: engine.Engine, args: Sequence[Any], places: Sequence[int], has_aux: bool = False) -> None:
        self.engine, self.has_aux, self.states = known, has_aux, repeats.states()
        self.plain = arrays_of(list(args))
        self.is_active = [list(map(requires_grad, trees.leaves(a))) for a in args]
        self.places = sorted({*places, *(i for i, found in enumerate(self.is_active) if any(found))})
        self.inputs = [leaf for i in self.places for leaf in trees.leaves(self.plain[i])]
        self.x = self._vector([leaf for i in self.places for leaf in trees.leaves(args[i])])
        self.kept = sharing.apart(self.plain)
        self.mask: np.ndarray | None = None  # of x, where arguments share memory: 1 for one of those that share
        if requires_grad(self.x) and sharing.shared(known, self.plain, self.places) is not None:
            ones = [np.ones(np.shape(x)) for x in self.inputs]
            self.mask = engine.flat(sharing.given_once(ones, self.inputs), self.inputs)
        self.outputs: list[Any] = []  # the leaves of what it has returned
        self.pull: Callable[..., list[Any]] | None = None  # by a tape, where it was kept

    # --- vectors and leaves -------------------------------------------------------------------------------------------

    def _vector(self, leaves: Sequence[Any]) -> Vector:
        """The numbers of leaves like the inputs."""
        if not any(map(requires_grad, leaves)):
            return engine.flat([arrays_of(leaf) for leaf in leaves], self.inputs)
        return joined([
            shaping.ravel(leaf) if isinstance(leaf, Tensor) else engine.flat([leaf], [like])
            for leaf, like in zip(leaves, self.inputs, strict=True)
        ])  # fmt: skip

    def tangent(self, leaves: Sequence[Any], places: Sequence[int]) -> Vector:
        """A tangent of x of what is given for the leaves of the arguments at places; 0 for others."""
        rest = iter(leaves)
        return self._vector([
            next(rest) if i in places else np.zeros(np.shape(leaf))
            for i in self.places for leaf in trees.leaves(self.plain[i])
        ])  # fmt: skip

    def cotangent(self, leaves: Sequence[Any]) -> Vector:
        """A cotangent of what is given for the outputs."""
        ours = [(leaf, like) for leaf, like in zip(leaves, self.outputs, strict=True) if engine.size(like)]
        if not any(requires_grad(leaf) for leaf, _ in ours):
            return engine.flat([arrays_of(leaf) for leaf, _ in ours], [like for _, like in ours])
        return joined([
            shaping.ravel(leaf) if isinstance(leaf, Tensor) else engine.flat([leaf], [like]) for leaf, like in ours
        ])  # fmt: skip

    def spans(self, places: Sequence[int]) -> list[tuple[Any, int, int]]:
        """The leaves of the arguments at places, and where each begins and ends in x."""
        found, end = {}, 0
        for i in self.places:
            found[i] = []
            for leaf in trees.leaves(self.plain[i]):
                begin, end = end, end + engine.size(leaf)
                found[i].append((leaf, begin, end))
        return [span for i in places for span in found[i]]

    def of_places(self, vector: Vector, places: Sequence[int]) -> list[Any]:
        """The leaves of the arguments at places, of a vector like x, or of several that are rows."""
        return [leaf_of(vector[..., begin:end], leaf) for leaf, begin, end in self.spans(places)]

    # --- derivatives --------------------------------------------------------------------------------------------------

    def pushed(self, x: Vector, along: Sequence[Vector], numbers: np.ndarray | None = None) -> Vector:
        """The derivative of the outputs along tangents; `numbers` are its elements, where they are known."""
        if numbers is None:
            numbers = self._pushed([arrays_of(v) for v in along])

        def by(i: int, w: Vector, x: Vector, *along: Vector) -> Vector:
            if i == 0:
                return self._once(self.pulled(x, w, along))
            return self.pulled(x, w, without(along, i - 1))

        def varied(i: int, dot: Vector, x: Vector, *along: Vector) -> Vector:
            if i == 0:
                return self.pushed(x, [*along, self._moved(dot)])
            return self.pushed(x, [*without(along, i - 1), dot])

        return recorded(numbers, [x, *along], by, varied)

    def pulled(self, x: Vector, u: Vector, along: Sequence[Vector], numbers: np.ndarray | None = None) -> Vector:
        """The derivative along tangents of the gradient by x of the outputs' product with a cotangent."""
        if numbers is None:
            numbers = self._pulled(arrays_of(u), [arrays_of(v) for v in along])

        def by(i: int, w: Vector, x: Vector, u: Vector, *along: Vector) -> Vector:
            if i == 0:
                return self._once(self.pulled(x, u, [*along, w]))
            return self.pushed(x, [*along, w]) if i == 1 else self.pulled(x, u, [*without(along, i - 2), w])

        def varied(i: int, dot: Vector, x: Vector, u: Vector, *along: Vector) -> Vector:
            if i == 0:
                return self.pulled(x, u, [*along, self._moved(dot)])
            return self.pulled(x, dot, along) if i == 1 else self.pulled(x, u, [*without(along, i - 2), dot])

        return recorded(numbers, [x, u, *along], by, varied)

    def _once(self, vector: Vector) -> Vector:
        """What tensors share is theirs together, and is given to one."""
        return vector if self.mask is None else vector * self.mask

    def _moved(self, dot: Vector) -> Vector:
        if self.mask is not None and sum(map(sum, self.is_active)) > 1:
            raise RuntimeError(
                f"{self.engine.function.__name__} writes to tensors that share memory, through which there is no "
                "forward mode: give clones of them"
            )
        return dot

    def _pushed(self, along: Sequence[np.ndarray]) -> np.ndarray:
        args, directions = sharing.apart(self.kept), [engine.pieces(v, self.inputs) for v in along]
        with repeats.again(self.states):
            if len(along) == 1:
                found = self.engine.jvp(args, self.places, directions[0], self.has_aux)[1]
            else:
                found = self.engine.pushed(args, self.places, directions, self.has_aux)
        return engine.flat(found, self.outputs)

    def _pulled(self, u: np.ndarray, along: Sequence[np.ndarray]) -> np.ndarray:
        cotangents = engine.pieces(u, self.outputs)
        if self.pull is not None and not along:
            return engine.flat(self.pull(cotangents), self.inputs)
        args = sharing.apart(self.kept)
        with repeats.again(self.states):
            if along:
                directions = [engine.pieces(v, self.inputs) for v in along]
                found = self.engine.pulled(args, self.places, directions, u, self.has_aux)
            else:
                found = self.engine.vjp(args, self.places, self.has_aux)[1](cotangents)
        return engine.flat(found, self.inputs)


# --- rows -------------------------------------------------------------------------------------------------------------


def recorded(
    numbers: np.ndarray, operands: Sequence[Vector], by: Callable[..., Vector], varied: Callable[..., Vector]
) -> Vector:
    """A vector of these numbers, as a row of its operands that are Tensors; an array where none is.

    By operand i, `by(i, w, *operands)` is the gradient of its product with w, and `varied(i, dot, *operands)` the
    derivative along a tangent of that operand.
    """
    tensors = [i for i, operand in enumerate(operands) if requires_grad(operand)]
    if not tensors:
        return numbers
    fixed = [None if i in tensors else arrays_of(operand) for i, operand in enumerate(operands)]
    ends = np.cumsum([0, *(operands[i]._kind.numel for i in tensors)]).tolist()

    def cut(whole: Vector) -> list[Vector]:
        return [whole[begin:end] for begin, end in itertools.pairwise(ends)]

    def whole(operand: Vector) -> list[Vector]:
        found = list(fixed)
        for i, part in zip(tensors, cut(operand), strict=True):
            found[i] = part
        return found

    def vjp(bar: Vector, _: Any, operand: Vector) -> Vector:
        return joined([by(i, bar, *whole(operand)) for i in tensors])

    def jvp(dots: Sequence[Vector], _: Any, operand: Vector) -> Vector:
        parts = zip(tensors, cut(dots[0]), strict=True)
        return total([varied(i, dot, *whole(operand)) for i, dot in parts])

    row = host_function(
        lambda _: numbers.copy(), EitherWay(vjp), shape=lambda _: numbers.shape, jvp=EitherWay(jvp)
    )  # fmt: skip
    return row(joined([operands[i] for i in tensors]))


def requires_grad(x: Any) -> bool:
    """Whether it is a Tensor of which derivatives are recorded now."""
    return isinstance(x, Tensor) and x.requires_grad and current_tape().grad_enabled


def arrays_of(tree: Any) -> Any:
    """Arrays and numbers in the place of Tensors: copies, which share memory as the tensors do."""
    leaves, structure = trees.flatten(tree)
    tensors = [k for k, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    copies = sharing.copies_of([leaves[k].detach()._array() for k in tensors])
    for k, copy in zip(tensors, copies, strict=True):
        leaves[k] = copy if leaves[k].ndim else leaves[k].item()
    return trees.unflatten(structure, leaves)


def leaf_of(numbers: Vector, like: Any) -> Tensor:
    """A leaf of its numbers, or of rows of them, as a Tensor."""
    if np.iscomplexobj(like) or records.are(like):
        return from_array(np.asarray(like))  # which says that there are no such tensors
    shape = (*numbers.shape[:-1], *np.shape(like))
    is_single = np.asarray(like).dtype == np.float32
    if isinstance(numbers, Tensor):
        found = shaping.reshape(numbers, shape)
        return found.to(FLOAT32) if is_single else found
    return from_array(np.array(numbers, np.float32 if is_single else np.float64).reshape(shape))


def leaves_of(vector: Vector, like: Sequence[Any]) -> list[Any]:
    """The leaves of a vector, as Tensors; None for those without numbers."""
    ends = np.cumsum([engine.size(leaf) for leaf in like]).tolist()
    spans = zip(like, [0, *ends], ends, strict=False)
    return [leaf_of(vector[begin:end], leaf) if end > begin else None for leaf, begin, end in spans]


def without(items: Sequence[Any], k: int) -> list[Any]:
    """All but one."""
    return [*items[:k], *items[k + 1 :]]


def joined(vectors: Sequence[Vector]) -> Vector:
    """Vectors one after another."""
    if len(vectors) == 1:
        return vectors[0]
    if not any(isinstance(v, Tensor) for v in vectors):
        return np.concatenate(vectors)
    return shaping.cat([v if isinstance(v, Tensor) else from_array(v) for v in vectors])


def stacked(vectors: Sequence[Vector]) -> Vector:
    """Vectors as rows of a matrix."""
    if not any(isinstance(v, Tensor) for v in vectors):
        return np.stack(vectors)
    return shaping.stack([v if isinstance(v, Tensor) else from_array(v) for v in vectors])


def total(vectors: Sequence[Vector]) -> Vector:
    """The sum of vectors."""
    found = vectors[0]
    for v in vectors[1:]:
        found = v + found if isinstance(v, Tensor) else found + v
    return found
