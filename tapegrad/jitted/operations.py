"""Derivatives where they are not asked for by `tapegrad.func`: inside jitted code, and as a row of the Tensor tape."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tapegrad import trees
from tapegrad.autograd.host import host_function
from tapegrad.batched import once_a_sample
from tapegrad.conversion import sharing_with
from tapegrad.dtypes import FLOAT64
from tapegrad.functions import shaping
from tapegrad.jitted import engine, nested, repeats, rewriting, sharing
from tapegrad.jitted.drivers import Form, driver
from tapegrad.tape import current_tape
from tapegrad.tensor import Tensor, from_array


def value_and_grad(function: Any, argnums: int | tuple[int, ...] = 0) -> Any:
    """A jitted function of the same arguments that returns the value of a jitted function, and its gradient.

    Unlike that of `tapegrad.func` it can be called from other jitted code, also from many threads, and takes all
    arguments by position. Arguments that share memory which the function writes to are a ValueError.

    >>> from numba import njit
    >>> import numpy as np
    >>> import tapegrad as tg
    >>> @njit
    ... def energy(x):
    ...     return np.sum((x - 1.0) ** 2)
    >>> energy_and_slope = tg.jitted.value_and_grad(energy)
    >>> @njit
    ... def descend(x, n):
    ...     for _ in range(n):
    ...         value, slope = energy_and_slope(x)
    ...         x = x - 0.25 * slope
    ...     return x
    >>> descend(np.zeros(2), 60).round(6)
    array([1., 1.])
    """
    made = engine.engine_of(function).function
    n = len(inspect.signature(made.py_func).parameters)
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    if any(not 0 <= place < n for place in numbers):
        raise ValueError(f"argnums are from 0 to {n - 1}, not {argnums}")
    if list(numbers) != sorted(numbers):
        raise ValueError("argnums are in the order of the arguments here")
    found = driver(made, Form("value_and_grad", n, numbers, is_single=isinstance(argnums, int), is_called=True))
    rewriting.SPECIAL[found] = nested.again
    return found


def operation(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of tensors of a jitted function: a row of the Tensor tape, with its gradient.

    Parameters
    ----------
    function : jitted function, or one that can be
        It takes what `tapegrad.func` takes, and returns numbers, arrays, or tuples of them.

    Returns
    -------
    callable
        A function of the same arguments, Tensors among them (those without dimensions in the place of numbers), and
        trees of them. It returns Tensors. They can be differentiated once, in either mode; for second derivatives
        record gradients, with `tapegrad.func.grad`.

    >>> from numba import njit
    >>> import tapegrad as tg
    >>> @njit
    ... def decay(x):
    ...     y = x.copy()
    ...     for k in range(1, y.size):
    ...         y[k] += 0.5 * y[k - 1]
    ...     return y
    >>> x = tg.ones(3, requires_grad=True)
    >>> tg.jitted.operation(decay)(x).sum().backward()
    >>> x.grad
    tensor([1.7500, 1.5000, 1.0000])
    """
    known = engine.engine_of(function)

    @once_a_sample
    @functools.wraps(function, updated=())
    def applied(*args: Any, **kwargs: Any) -> Any:
        return _Row(known, known.bind(args, kwargs)).value()

    return applied


class RowEngine:
    """What `tapegrad.func` asks for (its protocol `Engine`) of a jitted function that is given Tensors.

    The jitted engine computes, whatever is asked for. If an argument requires grad, the results are rows of the Tensor
    tape: values and gradients, with first derivatives in both modes; all others, which say so when they are
    differentiated.
    """

    def __init__(self, known: engine.Engine) -> None:
        self.engine = known

    def check(self, argument: Any, place: int) -> None:
        """Raise where an argument can't be differentiated."""
        _check(argument, place)

    def is_differentiable(self, argument: Any) -> bool:
        """Whether an argument can be differentiated."""
        return self.engine.is_differentiable(_plain(argument))

    def value_and_grad(self, args: Sequence[Any], places: Sequence[int], has_aux: bool) -> tuple[Any, list[Any]]:
        """What the function returns, and a gradient for each input."""
        row = _Row(self.engine, args)
        values, found = self.engine.value_and_grad(row.plain, places, has_aux)
        value = row.tensors([values[0] if has_aux else values], row.of_value(has_aux))[0]
        return row.beside(value, values, has_aux), row.tensors(found, row.of_gradient(places, has_aux))

    def vjp(
        self, args: Sequence[Any], places: Sequence[int], has_aux: bool
    ) -> tuple[Any, Callable[[Sequence[Any]], list[Any]]]:
        """What the function returns, and a function of cotangents, one for each output."""
        row = _Row(self.engine, args)
        values, pull = self.engine.vjp(row.plain, places, has_aux)

        def pull_tensors(cotangents: Sequence[Any]) -> list[Any]:
            beside = _Row(self.engine, [*args, *cotangents])
            return beside.tensors(pull(beside.plain[len(args) :]), _unknown("vjp"))

        output = row.tree(values[0] if has_aux else values, row.of_value(has_aux))
        return row.beside(output, values, has_aux), pull_tensors

    def jvp(
        self, args: Sequence[Any], places: Sequence[int], tangents: Sequence[Any], has_aux: bool
    ) -> tuple[Any, list[Any]]:
        """What the function returns, and a tangent for each output."""
        row, beside = _Row(self.engine, args), _Row(self.engine, [*args, *tangents])
        values, found = self.engine.jvp(row.plain, places, beside.plain[len(args) :], has_aux)
        output = row.tree(values[0] if has_aux else values, row.of_value(has_aux))
        is_number = engine.size(values[0] if has_aux else values) == 1
        ways = beside.of_slope(len(args), places, has_aux) if is_number else _unknown("jvp")
        return row.beside(output, values, has_aux), beside.tensors(found, ways)

    def linearize(self, args: Sequence[Any], places: Sequence[int]) -> tuple[Any, Callable[[Sequence[Any]], list[Any]]]:
        """What the function returns, and a function of tangents, one for each input: it is run again for each."""
        row = _Row(self.engine, args)
        zeros = [np.zeros(np.shape(x)) for i in places for x in trees.leaves(row.plain[i])]
        values, _ = self.engine.jvp(row.plain, places, zeros, False)
        return row.tree(values, _unknown("linearize")), lambda tangents: self.jvp(args, places, tangents, False)[1]

    def jacobian(
        self, args: Sequence[Any], places: Sequence[int], has_aux: bool, mode: str, chunk_size: int | None = None
    ) -> tuple[Any, list[list[Any] | None]]:
        """What the function returns, and for each output a Jacobian by each input."""
        row = _Row(self.engine, args)
        values, found = self.engine.jacobian(row.plain, places, has_aux, mode, chunk_size)
        output = row.tree(values[0] if has_aux else values, row.of_value(has_aux))
        is_number = engine.size(values[0] if has_aux else values) == 1
        ways = row.of_gradient(places, has_aux) if is_number else _unknown("jacobian")
        parts = [None if jacobians is None else row.tensors(jacobians, ways) for jacobians in found]
        return row.beside(output, values, has_aux), parts

    def hvp(self, args: Sequence[Any], places: Sequence[int], tangents: Sequence[Any]) -> tuple[Any, list[Any]]:
        """What the function returns, and the product of its Hessian with tangents, one for each input."""
        row = _Row(self.engine, [*args, *tangents])
        value, found = self.engine.hvp(row.plain[: len(args)], places, row.plain[len(args) :])
        return row.tree(value, _unknown("hvp")), row.tensors(found, _unknown("hvp"))

    def hessian(self, args: Sequence[Any], places: Sequence[int]) -> tuple[Any, list[Any]]:
        """What the function returns, and second derivatives by each pair of inputs."""
        row, unknown = _Row(self.engine, args), _unknown("hessian")
        value, (found,) = self.engine.hessian(row.plain, places)
        return row.tree(value, unknown), [[row.tensors(parts, unknown) for parts in found]]


class _Ways(NamedTuple):
    """How results are differentiated."""

    pull: Callable[[Sequence[Any]], Sequence[Any]]  # of adjoints of the results; by each input that requires grad
    push: Callable[[Sequence[Any]], Sequence[Any]]  # of tangents of these; of each result


class _Row:
    """A call of a jitted function with Tensors, and what is recorded of it.

        Tensors that require grad --> one vector --> the row --> a vector of all results --> results

    A host row takes three operands at most, and has one result; so they are joined, and taken apart again.
    """

    def __init__(self, known: engine.Engine, args: Sequence[Any]) -> None:
        self.engine = known
        self.states = repeats.states()
        self.plain = _plain(list(args))
        is_recording = current_tape().grad_enabled
        leaves = [leaf for a in args for leaf in trees.leaves(a)]
        self.active = [t for t in leaves if is_recording and isinstance(t, Tensor) and t.requires_grad]
        # Of these arguments the jitted engine takes derivatives; of their leaves, those that are active are handed on.
        ids = set(map(id, self.active))
        self.places = [i for i, a in enumerate(args) if any(id(leaf) in ids for leaf in trees.leaves(a))]
        self.is_active = [id(leaf) in ids for i in self.places for leaf in trees.leaves(args[i])]
        for place in self.places:
            _check(args[place], place)

    def value(self) -> Any:
        """What the function returns."""
        if not self.active:
            return self.tree(self.engine.value(self.plain), self.of_value())
        values, pull = self.engine.vjp(self.plain, self.places, False)
        return self.tree(values, self.of_value()._replace(pull=lambda bars: self._of_active(pull(bars))))

    def of_value(self, has_aux: bool = False) -> _Ways:
        """How the function's results are differentiated."""

        def pull(bars: Sequence[Any]) -> Sequence[Any]:
            with repeats.again(self.states):
                return self._of_active(self.engine.vjp(self.plain, self.places, has_aux)[1](bars))

        def push(dots: Sequence[Any]) -> Sequence[Any]:
            with repeats.again(self.states):
                found = self.engine.jvp(self.plain, self.places, self._of_all(dots), has_aux)[1]
            return [dot for dot in found if dot is not None]

        return _Ways(pull, push)

    def of_gradient(self, places: Sequence[int], has_aux: bool = False) -> _Ways:
        """How the gradient by `places` is: by products with the Hessian, which is symmetric."""
        towards = sorted({*places, *self.places})

        def products(given: dict[int, list[Any]], of: Sequence[int]) -> list[Any]:
            tangents = []
            for place in towards:
                tangents += given.get(place) or [np.zeros(np.shape(x)) for x in trees.leaves(self.plain[place])]
            with repeats.again(self.states):
                found = iter(self.engine.hvp(self.plain, towards, tangents, has_aux)[1])
            by_place = {place: [next(found) for _ in trees.leaves(self.plain[place])] for place in towards}
            return [part for place in of for part in by_place[place]]

        def along(parts: Sequence[Any], by: Sequence[int]) -> dict[int, list[Any]]:
            rest = iter(parts)
            return {place: [next(rest) for _ in trees.leaves(self.plain[place])] for place in by}

        return _Ways(
            lambda bars: self._of_active(products(along(bars, places), self.places)),
            lambda dots: products(along(self._of_all(dots), self.places), places),
        )

    def of_slope(self, n: int, places: Sequence[int], has_aux: bool) -> _Ways:
        """How the slope of a number is, along tangents, which are what is behind the first `n` arguments.

        The slope is the product of the gradient and the tangents: its gradient by these is the former, and by the
        arguments the product of the Hessian with the tangents.
        """
        args, tangents = self.plain[:n], self.plain[n:]

        def gradient() -> Sequence[Any]:
            if sharing.shared(self.engine, args, places) is not None:
                return _unknown("jvp").pull(())
            towards = sorted({*places, *(place for place in self.places if place < n)})
            rest = iter(tangents)
            along = {place: [next(rest) for _ in trees.leaves(args[place])] for place in places}
            given = [
                along[place][k] if place in along else np.zeros(np.shape(x))
                for place in towards for k, x in enumerate(trees.leaves(args[place]))
            ]  # fmt: skip
            with repeats.again(self.states):
                products = iter(self.engine.hvp(args, towards, given, has_aux)[1])
            with repeats.again(self.states):
                slopes = self.engine.value_and_grad(args, places, has_aux)[1]
            by_place = {place: [next(products) for _ in trees.leaves(args[place])] for place in towards}
            by_place |= {n + k: [slope] for k, slope in enumerate(slopes)}
            found = [part for place in self.places for part in by_place[place]]
            return [np.asarray(part) for part, is_active in zip(found, self.is_active, strict=True) if is_active]

        return _Ways(
            lambda bars: [bars[0] * part for part in gradient()],
            lambda dots: [sum(np.sum(part * dot) for part, dot in zip(gradient(), dots, strict=True))],
        )

    def _of_all(self, dots: Sequence[Any]) -> list[Any]:
        """Tangents of the tensors that require grad, with zeros for what is beside them."""
        rest = iter(dots)
        leaves = [leaf for i in self.places for leaf in trees.leaves(self.plain[i])]
        if len(dots) > 1 and sharing.shared(self.engine, self.plain, self.places) is not None:
            raise RuntimeError(
                f"{self.engine.function.__name__} writes to tensors that share memory, through which there is no "
                "forward mode: give clones of them"
            )
        both = zip(leaves, self.is_active, strict=True)
        return [next(rest) if is_active else np.zeros(np.shape(x)) for x, is_active in both]

    def _of_active(self, parts: Sequence[Any]) -> list[Any]:
        """The parts by tensors that require grad. What tensors share is theirs together, and is given to one."""
        found = [part for part, is_active in zip(parts, self.is_active, strict=True) if is_active]
        if len(found) < 2 or sharing.shared(self.engine, self.plain, self.places) is None:
            return found
        leaves = [leaf for i in self.places for leaf in trees.leaves(self.plain[i])]
        return sharing.given_once(found, [x for x, is_one in zip(leaves, self.is_active, strict=True) if is_one])

    def beside(self, output: Any, values: Any, has_aux: bool) -> Any:
        """The output, with what is handed on."""
        return (output, self.tree(values[1], _unknown("an auxiliary value"))) if has_aux else output

    def tree(self, values: Any, ways: _Ways) -> Any:
        """Numbers and arrays of a tree as Tensors."""
        leaves, structure = trees.flatten(values)
        return trees.unflatten(structure, self.tensors(leaves, ways))

    def tensors(self, values: Sequence[Any], ways: _Ways) -> list[Any]:
        """Numbers and arrays as Tensors, recorded with their derivatives; what is neither stays as it is."""
        is_ours = [engine.size(x) > 0 for x in values]
        ours = [np.asarray(x) for x, is_one in zip(values, is_ours, strict=True) if is_one]
        if self.active and ours:
            made = iter(self._recorded(ours, ways))
        else:
            made = iter([from_array(np.array(x)) for x in ours])
        others = (sharing_with(x.copy()) if isinstance(x, np.ndarray) else x for x in values)
        return [next(made) if is_one else other for is_one, other in zip(is_ours, others, strict=True)]

    def _recorded(self, values: Sequence[np.ndarray], ways: _Ways) -> list[Tensor]:
        whole = np.concatenate([x.reshape(-1) for x in values])
        ends = np.cumsum([x.size for x in values]).tolist()

        def vjp(bar: np.ndarray, _: np.ndarray, operand: np.ndarray) -> np.ndarray:
            parts = np.split(bar, ends[:-1])
            bars = [part.reshape(x.shape) for part, x in zip(parts, values, strict=True)]
            return engine.flat(ways.pull(bars))

        def jvp(dots: Sequence[np.ndarray], _: np.ndarray, __: np.ndarray) -> np.ndarray:
            parts = np.split(dots[0], np.cumsum([t._kind.numel for t in self.active])[:-1])
            return engine.flat(ways.push([p.reshape(t.shape) for p, t in zip(parts, self.active, strict=True)]))

        joined = [shaping.ravel(t) for t in self.active]
        operand = shaping.cat(joined) if len(joined) > 1 else joined[0]
        result = host_function(lambda _: whole.copy(), vjp, shape=lambda _: whole.shape, jvp=jvp)(operand)
        begins = [0, *ends]
        return [
            shaping.reshape(result[begin:end], x.shape) for begin, end, x in zip(begins, ends, values, strict=False)
        ]


def _check(argument: Any, place: int) -> None:
    for leaf in trees.leaves(argument):
        if isinstance(leaf, Tensor) and leaf.dtype is not FLOAT64:
            raise TypeError(
                f"jitted functions are differentiated in float64, but argument {place} has a tensor of {leaf.dtype}: "
                "convert it with .to(tapegrad.float64)"
            )
    engine.Engine.check(_plain(argument), place)


def _plain(tree: Any) -> Any:
    """Arrays and numbers in the place of Tensors: copies, which share memory as the tensors do."""
    leaves, structure = trees.flatten(tree)
    tensors = [k for k, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    copies = sharing.copies_of([leaves[k].detach()._array() for k in tensors])
    for k, copy in zip(tensors, copies, strict=True):
        leaves[k] = copy if leaves[k].ndim else leaves[k].item()
    return trees.unflatten(structure, leaves)


def _unknown(name: str) -> _Ways:
    """For results whose own derivatives are not known."""

    def refuse(_: Sequence[Any]) -> Sequence[Any]:
        raise RuntimeError(
            f"the derivative of what {name} of a jitted function computes is not known: values and gradients have one; "
            "or write the function with tapegrad's operations"
        )

    return _Ways(refuse, refuse)
