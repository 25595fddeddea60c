"""Derivatives where they are not asked for by `tapegrad.func`: inside jitted code, and as a row of the Tensor tape."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tapegrad import trees
from tapegrad.batched import once_a_sample
from tapegrad.conversion import sharing_with
from tapegrad.dtypes import FLOAT64
from tapegrad.functions import shaping
from tapegrad.jitted import bindings, compiling, engine, jacobian_tape, nested  # noqa: F401  jitted code calls drivers
from tapegrad.jitted.forms import Driver, Form
from tapegrad.jitted.orders import Call, arrays_of, leaves_of, recorded, requires_grad, stacked
from tapegrad.tensor import Tensor


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
    found = Driver(made, Form("value_and_grad", n, numbers, is_single=isinstance(argnums, int), is_called=True))
    bindings.SPECIAL[found] = nested.again
    jacobian_tape.connect()  # code that calls it may come from Numba's own cache, of which nobody looks what it names
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
        trees of them. It returns Tensors, which can be differentiated in either mode, to any order.

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
        call = _called(known, known.bind(args, kwargs), ())
        if not requires_grad(call.x):
            return _value(call, known.value(call.plain))
        values, call.pull = known.vjp(call.plain, call.places, False)
        return _value(call, values)

    return applied


class RowEngine:
    """What `tapegrad.func` asks for (its protocol `Engine`) of a jitted function that is given Tensors.

    The jitted engine computes, whatever is asked for. If an argument requires grad, the results are rows of the Tensor
    tape, which are differentiated in turn, in both modes and to any order (`orders.py`).
    """

    def __init__(self, known: engine.Engine) -> None:
        self.engine = known

    def check(self, argument: Any, place: int) -> None:
        """Raise where an argument can't be differentiated."""
        _check(argument, place)

    def is_differentiable(self, argument: Any) -> bool:
        """Whether an argument can be differentiated."""
        return self.engine.is_differentiable(arrays_of(argument))

    def value_and_grad(self, args: Sequence[Any], places: Sequence[int], has_aux: bool) -> tuple[Any, list[Any]]:
        """What the function returns, and a gradient for each input."""
        call = _called(self.engine, args, places, has_aux)
        values, found = self.engine.value_and_grad(call.plain, call.places, has_aux)
        value = _value(call, values)
        gradient = call.pulled(call.x, np.ones(1), [], engine.flat(found, call.inputs))
        return value, call.of_places(gradient, places)

    def vjp(
        self, args: Sequence[Any], places: Sequence[int], has_aux: bool
    ) -> tuple[Any, Callable[[Sequence[Any]], list[Any]]]:
        """What the function returns, and a function of cotangents, one for each output."""
        call = _called(self.engine, args, places, has_aux)
        values, call.pull = self.engine.vjp(call.plain, call.places, has_aux)
        value = _value(call, values)

        def pull(cotangents: Sequence[Any]) -> list[Any]:
            return call.of_places(call.pulled(call.x, call.cotangent(cotangents), []), places)

        return value, pull

    def jvp(
        self, args: Sequence[Any], places: Sequence[int], tangents: Sequence[Any], has_aux: bool
    ) -> tuple[Any, list[Any]]:
        """What the function returns, and a tangent for each output."""
        call = _called(self.engine, args, places, has_aux)
        along = call.tangent(tangents, places)
        values, found = self.engine.jvp(call.plain, call.places, engine.pieces(arrays_of(along), call.inputs), has_aux)
        value = _value(call, values)
        return value, leaves_of(call.pushed(call.x, [along], engine.flat(found, call.outputs)), call.outputs)

    def linearize(self, args: Sequence[Any], places: Sequence[int]) -> tuple[Any, Callable[[Sequence[Any]], list[Any]]]:
        """What the function returns, and a function of tangents, one for each input: it is run again for each."""
        call = _called(self.engine, args, places)
        zeros = [np.zeros(np.shape(x)) for x in call.inputs]
        value = _value(call, self.engine.jvp(call.plain, call.places, zeros, False)[0])

        def push(tangents: Sequence[Any]) -> list[Any]:
            return leaves_of(call.pushed(call.x, [call.tangent(tangents, places)]), call.outputs)

        return value, push

    def jacobian(
        self, args: Sequence[Any], places: Sequence[int], has_aux: bool, mode: str, chunk_size: int | None = None
    ) -> tuple[Any, list[list[Any] | None]]:
        """What the function returns, and for each output a Jacobian by each input.

        It is recorded row by row, or column by column, whichever are fewer.
        """
        call = _called(self.engine, args, places, has_aux)
        values, found = self.engine.jacobian(call.plain, call.places, has_aux, mode, chunk_size)
        value = _value(call, values)
        known = [_matrix(parts, y, call.inputs) for y, parts in zip(call.outputs, found, strict=True) if parts]
        n = sum(map(engine.size, call.inputs))
        matrix: Any = np.concatenate(known) if known else np.zeros((0, n))
        if requires_grad(call.x) and matrix.size:
            m = len(matrix)
            if m <= n:
                rows = zip(np.eye(m), matrix, strict=True)
                matrix = stacked([call.pulled(call.x, u, [], numbers) for u, numbers in rows])
            else:
                columns = zip(np.eye(n), matrix.T, strict=True)
                matrix = stacked([call.pushed(call.x, [v], numbers) for v, numbers in columns]).T
        blocks: list[list[Any] | None] = []
        end = 0
        for y in call.outputs:
            begin, end = end, end + engine.size(y)
            parts = call.of_places(matrix[begin:end], places) if end > begin else None
            blocks.append(parts and [shaping.reshape(part, (*np.shape(y), *part.shape[1:])) for part in parts])
        return value, blocks

    def hvp(self, args: Sequence[Any], places: Sequence[int], tangents: Sequence[Any]) -> tuple[Any, list[Any]]:
        """What the function returns, and the product of its Hessian with tangents, one for each input."""
        call = _called(self.engine, args, places)
        along = call.tangent(tangents, places)
        values, found = self.engine.hvp(call.plain, call.places, engine.pieces(arrays_of(along), call.inputs))
        value = _value(call, values)
        product = call.pulled(call.x, np.ones(1), [along], engine.flat(found, call.inputs))
        return value, call.of_places(product, places)

    def hessian(self, args: Sequence[Any], places: Sequence[int]) -> tuple[Any, list[Any]]:
        """What the function returns, and second derivatives by each pair of inputs."""
        call = _called(self.engine, args, places)
        values, (found,) = self.engine.hessian(call.plain, call.places)
        value = _value(call, values)
        matrix: Any = np.concatenate([_matrix(row, x, call.inputs) for row, x in zip(found, call.inputs, strict=True)])
        if requires_grad(call.x) and matrix.size:
            rows = zip(np.eye(len(matrix)), matrix, strict=True)
            matrix = stacked([call.pulled(call.x, np.ones(1), [v], numbers) for v, numbers in rows])
        blocks = []
        for x, begin, end in call.spans(places):
            parts = call.of_places(matrix[begin:end], places)
            blocks.append([shaping.reshape(part, (*np.shape(x), *part.shape[1:])) for part in parts])
        return value, [blocks]


def _called(known: engine.Engine, args: Sequence[Any], places: Sequence[int], has_aux: bool = False) -> Call:
    """A call, if what requires grad in it can be differentiated."""
    call = Call(known, args, places, has_aux)
    for place, is_active in enumerate(call.is_active):
        if any(is_active):
            _check(args[place], place)
    return call


def _value(call: Call, values: Any) -> Any:
    """What a function has returned, with Tensors in the place of numbers and arrays; also what is handed on."""
    output = values[0] if call.has_aux else values
    call.outputs, structure = trees.flatten(output)
    found = call.pushed(call.x, [], engine.flat([y for y in call.outputs if engine.size(y)]))
    value = trees.unflatten(structure, _beside(leaves_of(found, call.outputs), call.outputs))
    if not call.has_aux:
        return value
    leaves, structure = trees.flatten(values[1])
    numbers = engine.flat([y for y in leaves if engine.size(y)])
    found = recorded(numbers, [call.x], _refuse, _refuse)
    return value, trees.unflatten(structure, _beside(leaves_of(found, leaves), leaves))


def _beside(tensors: Sequence[Any], leaves: Sequence[Any]) -> list[Any]:
    """Tensors, with what has no derivatives in its place."""
    others = (sharing_with(y.copy()) if isinstance(y, np.ndarray) else y for y in leaves)
    return [other if tensor is None else tensor for tensor, other in zip(tensors, others, strict=True)]


def _matrix(blocks: Sequence[Any], y: Any, inputs: Sequence[Any]) -> np.ndarray:
    """The blocks of a Jacobian, or Hessian, that belong to one leaf, as rows."""
    n = engine.size(y)
    return np.concatenate([np.reshape(block, (n, engine.size(x))) for block, x in zip(blocks, inputs, strict=True)], 1)


def _refuse(*_: Any) -> Any:
    raise RuntimeError(
        "the derivative of what a jitted function hands on beside its result is not known: return it as a result"
    )


def _check(argument: Any, place: int) -> None:
    for leaf in trees.leaves(argument):
        if isinstance(leaf, Tensor) and leaf.dtype is not FLOAT64:
            raise TypeError(
                f"jitted functions are differentiated in float64, but argument {place} has a tensor of {leaf.dtype}: "
                "convert it with .to(tapegrad.float64)"
            )
    engine.Engine.check(arrays_of(argument), place)
