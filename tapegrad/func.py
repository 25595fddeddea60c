"""Transforms of functions, named as in `torch.func`: gradients, Jacobians, Hessians and their products.

A plain Python function is run as it is, and its operations are recorded (see `tapegrad.tensor_transforms`). NumPy
arrays and numbers go in as Tensors, and what belongs to them comes back as arrays and numbers, so that SciPy's solvers
take a transform as it is; where Tensors go in, Tensors come back, as with `torch.func`.

>>> import numpy as np
>>> import tapegrad as tg
>>> def rosenbrock(x):
...     return (100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2).sum()
>>> from scipy.optimize import minimize
>>> found = minimize(tg.func.value_and_grad(rosenbrock), [1.3, 0.7, 0.8], jac=True)
>>> found.x.round(3)
array([1., 1., 1.])

Transforms nest, and gradients flow on through whatever requires grad outside.

>>> tg.func.grad(tg.func.grad(lambda x: x**3))(2.0)
12.0
>>> tg.func.grad(tg.func.grad(lambda x: x**3))(tg.tensor(2.0))
tensor(12.)

What is differentiated are numbers, arrays and Tensors, and tuples, named tuples, lists and dictionaries of them, nested
at will; `argnums` says which arguments. Gradients have the same form. Integers count as floats.

>>> def loss(parameters, x):
...     return ((parameters["w"] * x + parameters["b"]) ** 2).sum()
>>> tg.func.grad(loss)({"w": np.array([1.0, 2.0]), "b": 0.5}, np.ones(2))
{'w': array([3., 5.]), 'b': 8.0}
>>> tg.func.grad(loss)({"w": tg.tensor([1.0, 2.0]), "b": tg.tensor(0.5)}, tg.tensor([1.0, 1.0]))
{'w': tensor([3., 5.]), 'b': tensor(8.)}

Functions that Numba has jitted are differentiated as they are: loops, branches, in-place writes and NumPy calls, at
compiled speed (see `tapegrad.jitted`). So `grad(njit(f))` asks for that.

>>> from numba import njit
>>> @njit
... def newton(a):
...     x = 1.0
...     while abs(x * x - a) > 1e-12:
...         x = 0.5 * (x + a / x)
...     return x
>>> tg.func.grad(newton)(2.0)
0.35355339...

One that is given Tensors is differentiated as with arrays, and is one row of the tape (see
`tapegrad.jitted.operation`): whatever is computed can be differentiated again, in either mode and to any order, as in
`jacfwd(hessian(f))`. Each order beyond the second doubles the work, and compiles the function once more.

>>> @njit
... def third(x):
...     return (x**3).sum()
>>> x = tg.tensor([1.0, 2.0], requires_grad=True)
>>> tg.func.grad(third)(x).sum().backward()
>>> x.grad
tensor([ 6., 12.])

All other arguments are passed on: ints, strings, functions, arrays of ints, typed lists.

Limits of jitted functions: they return a number, an array, or a (named) tuple of such; the lists and dictionaries they
are given must be of what Numba takes (see `tapegrad.jitted.containers`); Jacobians are not by complex
numbers; a function is compiled anew for each transform and each combination of argument
types. What can't be differentiated is an error, `tapegrad.jitted.NotDifferentiableError`, when it is compiled.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import numpy as np

from tapegrad import locks, trees
from tapegrad.mapped import functional_call, is_jitted, replace_all_batch_norm_modules_, stack_module_state, vmap
from tapegrad.tensor import Size, Tensor
from tapegrad.tensor_transforms import TensorEngine

__all__ = [
    "functional_call", "functionalize", "grad", "grad_and_value", "hessian", "hvp", "jacfwd", "jacobian", "jacrev",
    "jvp", "linearize", "replace_all_batch_norm_modules_", "stack_module_state", "value_and_grad", "vjp", "vmap",
]  # fmt: skip

Argnums = int | tuple[int, ...]


class Engine(Protocol):
    """What computes derivatives, of one function.

    `args` are all arguments, `places` says which are differentiated. Inputs are the leaves of these, outputs the leaves
    of what the function returns (of its first item, with `has_aux`); what belongs to them is given and returned in
    their order.
    """

    def check(self, argument: Any, place: int) -> None:
        """Raise where an argument can't be differentiated."""

    def is_differentiable(self, argument: Any) -> bool:
        """Whether an argument of `vjp` is one to differentiate by."""

    def value_and_grad(self, args: Sequence[Any], places: Sequence[int], has_aux: bool) -> tuple[Any, Sequence[Any]]:
        """What the function returns, and a gradient for each input."""

    def vjp(
        self, args: Sequence[Any], places: Sequence[int], has_aux: bool
    ) -> tuple[Any, Callable[[Sequence[Any]], Sequence[Any]]]:
        """What the function returns, and a function of cotangents, one for each output."""

    def jvp(
        self, args: Sequence[Any], places: Sequence[int], tangents: Sequence[Any], has_aux: bool
    ) -> tuple[Any, Sequence[Any]]:
        """What the function returns, and a tangent for each output."""

    def linearize(
        self, args: Sequence[Any], places: Sequence[int]
    ) -> tuple[Any, Callable[[Sequence[Any]], Sequence[Any]]]:
        """What the function returns, and a function of tangents, one for each input."""

    def jacobian(
        self, args: Sequence[Any], places: Sequence[int], has_aux: bool, mode: str, chunk_size: int | None
    ) -> tuple[Any, Sequence[Sequence[Any] | None]]:
        """What the function returns, and for each output a Jacobian by each input."""

    def hvp(self, args: Sequence[Any], places: Sequence[int], tangents: Sequence[Any]) -> tuple[Any, Sequence[Any]]:
        """What the function returns, and the product of its Hessian with tangents, one for each input."""

    def hessian(
        self, args: Sequence[Any], places: Sequence[int]
    ) -> tuple[Any, Sequence[Sequence[Sequence[Any]]]]:  # fmt: skip
        """What the function returns, and for each output second derivatives by each pair of inputs."""


def _engine(
    func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], argnums: Argnums = 0
) -> tuple[Engine, list[Any]]:
    """What differentiates a function of these arguments; the arguments by position, as far as it takes them so."""
    if not callable(func):
        raise TypeError(f"'{type(func).__name__}' object is not callable: a function is differentiated")
    if not is_jitted(func):
        args, kwargs = _by_position(func, args, kwargs, argnums)
        return TensorEngine(functools.partial(func, **kwargs) if kwargs else func), list(args)
    found = _jitted_engine(func)
    if any(isinstance(leaf, Tensor) for leaf in trees.leaves((args, kwargs))):
        from tapegrad.jitted import operations

        return operations.RowEngine(found), found.bind(args, kwargs)
    return found, found.bind(args, kwargs)


def _jitted_engine(func: Callable[..., Any]) -> Any:
    """What differentiates a jitted function."""
    with locks.importing:
        from tapegrad.jitted import engine, operations  # noqa: F401  Numba is imported when it is needed, not before

    return engine.engine_of(func)


def _ready(func: Callable[..., Any]) -> Any:
    """What computes gradients of a jitted function by code that is on disk."""
    with locks.importing:
        from tapegrad.jitted import ready  # Numba is imported when it is needed, not before

    return ready.ready_for(func)


def _by_position(
    func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], argnums: Argnums
) -> tuple[Sequence[Any], dict[str, Any]]:
    """The arguments; by position, defaults too, where one to be differentiated was given by name, or not at all."""
    if argnums.__class__ is int and argnums < len(args):
        return args, kwargs
    places: Any = argnums if isinstance(argnums, tuple) else (argnums,)
    if not any(isinstance(place, int) and place >= len(args) for place in places):
        return args, kwargs
    try:
        bound = inspect.signature(func).bind(*args, **kwargs)
    except (TypeError, ValueError):  # the call itself says what is wrong with it
        return args, kwargs
    bound.apply_defaults()
    return bound.args, bound.kwargs


class _Call:
    """A call of a transformed function: its engine, its arguments, and which of them are differentiated."""

    def __init__(self, func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], argnums: Argnums) -> None:
        self.engine, self.args = _engine(func, args, kwargs, argnums)
        self.places = _places(argnums, len(self.args))
        for place in self.places:
            self.engine.check(self.args[place], place)
        chosen = self.args[self.places[0]] if isinstance(argnums, int) else tuple(self.args[p] for p in self.places)
        self.structure = trees.flatten(chosen)[1]

    def formed(self, leaves: Sequence[Any]) -> Any:
        """What belongs to the inputs, in the form of the arguments: of one, or a tuple as `argnums` is one."""
        return trees.unflatten(self.structure, leaves)


def _last(argnums: Any) -> int:
    """The last of the places, where they are counted from the first and each is named once; else -1."""
    places = (argnums,) if argnums.__class__ is int else argnums
    is_plain = isinstance(places, tuple) and all(place.__class__ is int for place in places)
    return (
        max(places, default=-1) if is_plain and min(places, default=-1) >= 0 and len({*places}) == len(places) else -1
    )


def _places(argnums: Argnums, n: int) -> tuple[int, ...]:
    """The places of the arguments that are differentiated, in the order in which the user named them."""
    if argnums.__class__ is int and 0 <= argnums < n:  # most often
        return (argnums,)
    numbers: Any = (argnums,) if isinstance(argnums, int) else argnums
    if not isinstance(numbers, tuple) or not all(isinstance(place, int) for place in numbers):
        raise RuntimeError(f"argnums must be int or Tuple[int, ...], got: {type(argnums)}")
    if not numbers:
        raise RuntimeError("argnums must be non-empty, got (): they name the arguments by which is differentiated")
    for place in numbers:
        if not -n <= place < n:
            raise RuntimeError(f"Got argnum={place}, but only {n} positional inputs")
    places = tuple(place % n for place in numbers)
    if len(set(places)) < len(places):
        raise RuntimeError(f"argnums elements must be unique, got {argnums}")
    return places


def _transform(func: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """For a function that stands for `func`: its name and documentation."""
    if not callable(func):
        raise TypeError(f"a function is differentiated, not {type(func).__name__}")

    def named(function: Any) -> Callable[..., Any]:
        wrap = functools.wraps(func, updated=())  # what Numba keeps on a jitted function is not the transform's
        function.is_transform = not is_jitted(func)  # of functions that are recorded: `compile` asks
        return wrap(function)

    return named


def grad(func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that computes the gradient of `func`.

    Parameters
    ----------
    func : callable
        A function that returns a number, or a Tensor without dimensions; with `has_aux`, it and something else.
    argnums : int or tuple of int
        The arguments to differentiate by.
    has_aux : bool
        Whether `func` returns a pair, of which the second is handed on.

    Returns
    -------
    callable
        It takes the arguments of `func` and returns the gradient, of the form of the argument (a tuple of them where
        `argnums` is a tuple); with `has_aux`, a pair of it and the auxiliary value.

    >>> import numpy as np
    >>> import tapegrad as tg
    >>> def energy(x, k):
    ...     return 0.5 * k * (x**2).sum()
    >>> tg.func.grad(energy)(np.array([1.0, 2.0]), 3.0)
    array([3., 6.])
    >>> tg.func.grad(energy, argnums=(0, 1))(np.array([1.0, 2.0]), 3.0)
    (array([3., 6.]), 2.5)
    >>> tg.func.grad(energy)(tg.tensor([1.0, 2.0]), 3.0)
    tensor([3., 6.])
    """
    both = value_and_grad(func, argnums, has_aux)

    @_transform(func)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, found = both(*args, **kwargs)
        return (found, value[1]) if has_aux else found

    return gradient


def value_and_grad(func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that computes the value of `func` and its gradient; for the arguments see `grad`.

    It returns `(value, gradient)`; with `has_aux`, `((value, aux), gradient)`.

    >>> import tapegrad as tg
    >>> tg.func.value_and_grad(lambda x: x**3)(2.0)
    (8.0, 12.0)
    """
    plain = None if is_jitted(func) else TensorEngine(func)
    is_int, last = argnums.__class__ is int, _last(argnums)
    jitted: Any = None  # what differentiates it, from the first call on

    @_transform(func)
    def value_and_gradient(*args: Any, **kwargs: Any) -> Any:
        nonlocal jitted
        if not kwargs and 0 <= last < len(args):  # most often it is by arrays: the same in less time
            if plain is None:
                jitted = jitted or _ready(func)
                known = jitted.gradient_at_once(args, argnums, has_aux)
                if known is not None:
                    return known
                jitted = _jitted_engine(func)
            elif is_int and args[last].__class__ is np.ndarray:
                plain.check(args[last], last)
                return plain.gradient_by_one(args, last, has_aux)
        call = _Call(func, args, kwargs, argnums)
        value, found = call.engine.value_and_grad(call.args, call.places, has_aux)
        return value, call.formed(found)

    return value_and_gradient


def grad_and_value(func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """`value_and_grad`, in PyTorch's order.

    It returns `(gradient, value)`; with `has_aux`, `(gradient, (value, aux))`.

    >>> import tapegrad as tg
    >>> tg.func.grad_and_value(lambda x: x**3)(2.0)
    (12.0, 8.0)
    """
    both = value_and_grad(func, argnums, has_aux)

    @_transform(func)
    def gradient_and_value(*args: Any, **kwargs: Any) -> Any:
        value, found = both(*args, **kwargs)
        return found, value

    return gradient_and_value


def vjp(func: Callable[..., Any], *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """The value of `func`, and a function for the products of cotangents with its Jacobian.

    All arguments that hold floating-point numbers are differentiated.

    Returns
    -------
    tuple
        `(output, vjp_fn)`, with `has_aux` `(output, vjp_fn, aux)`. `vjp_fn` takes cotangents in the form of the output,
        and returns a tuple with the product for each primal, None for those that aren't differentiated. It can be
        called any number of times; the tape lives as long as it does. A tuple of cotangents can also be given as so
        many arguments.

    >>> import numpy as np
    >>> import tapegrad as tg
    >>> output, pull = tg.func.vjp(lambda x: x[1:] * x[:-1], np.array([1.0, 2.0, 3.0]))
    >>> output
    array([2., 6.])
    >>> pull(np.array([1.0, 1.0]))
    (array([2., 4., 2.]),)
    """
    engine, args = _engine(func, primals, {})
    places = [i for i, a in enumerate(args) if engine.is_differentiable(a)]
    for place in places or range(min(len(args), 1)):
        engine.check(args[place], place)
    values, pull = engine.vjp(args, places, has_aux)
    output = values[0] if has_aux else values
    outputs, structure = trees.flatten(output)
    inputs = trees.flatten(tuple(args[i] for i in places))[1]

    def vjp_fn(*cotangents: Any) -> tuple[Any, ...]:
        given = cotangents[0] if len(cotangents) == 1 else cotangents
        leaves = trees.matched(structure, given)
        if leaves is None:
            raise RuntimeError(
                "Expected pytree structure of cotangents to be the same as pytree structure of outputs to the "
                f"function. cotangents: {_form_of(given)}, primal output: {_form_of(output)}"
            )
        for i, (seed, y) in enumerate(zip(leaves, outputs, strict=True)):
            if _shape(seed) != _shape(y):
                raise RuntimeError(
                    f"Mismatch in shape: grad_output[{i}] has a shape of {_shape(seed)} and output[{i}] has a shape of "
                    f"{_shape(y)}."
                )
        by_place = dict(zip(places, trees.unflatten(inputs, pull(leaves)), strict=True))
        return tuple(by_place.get(i) for i in range(len(primals)))

    return (output, vjp_fn, values[1]) if has_aux else (output, vjp_fn)


def _shape(leaf: Any) -> Size:
    return Size(getattr(leaf, "shape", ()))


def _form_of(tree: Any) -> str:
    structure = trees.flatten(tree)[1]
    return "*" if structure is None else str(structure)


def jvp(func: Callable[..., Any], primals: tuple[Any, ...], tangents: tuple[Any, ...], *, has_aux: bool = False) -> Any:
    """The value of `func`, and the product of its Jacobian with tangents.

    In forward mode: of jitted functions nothing is recorded; of others the tangents are, and computed in the same
    sweep as the value.

    Parameters
    ----------
    func : callable
        The function.
    primals : tuple
        The arguments.
    tangents : tuple
        A tangent for each, of the same form; None for those that aren't differentiated.
    has_aux : bool
        Whether `func` returns a pair, of which the second is handed on.

    Returns
    -------
    tuple
        `(output, tangent)`; with `has_aux`, `(output, tangent, aux)`.

    >>> import numpy as np
    >>> import tapegrad as tg
    >>> tg.func.jvp(lambda x: x * x, (np.array([1.0, 2.0]),), (np.array([1.0, 0.5]),))
    (array([1., 4.]), array([2., 2.]))
    """
    engine, args, places, along = _along("jvp", func, primals, tangents)
    values, found = engine.jvp(args, places, along, has_aux)
    output = values[0] if has_aux else values
    product = trees.unflatten(trees.flatten(output)[1], found)
    return (output, product, values[1]) if has_aux else (output, product)


def linearize(func: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """The value of `func`, and its linear part: a function for the products of its Jacobian with tangents.

    All arguments that hold floating-point numbers are differentiated.

    Returns
    -------
    tuple
        `(output, jvp_fn)`. `jvp_fn` takes a tangent for each primal, of its form, None for those without one, and gives
        the product, in the form of the output. It can be called any number of times: what it needs of the primals is
        computed once (of jitted functions at every call).

    Raises
    ------
    RuntimeError
        By `jvp_fn`, where tangents are not of the form of the primals.

    >>> import numpy as np
    >>> import tapegrad as tg
    >>> output, push = tg.func.linearize(lambda x: x[1:] * x[:-1], np.array([1.0, 2.0, 3.0]))
    >>> output
    array([2., 6.])
    >>> push(np.array([1.0, 0.0, 0.0])), push(np.array([0.0, 0.0, 1.0]))
    (array([2., 0.]), array([0., 2.]))
    """
    engine, args = _engine(func, primals, {})
    places = [i for i, a in enumerate(args) if engine.is_differentiable(a)]
    for place in places or range(min(len(args), 1)):
        engine.check(args[place], place)
    output, push = engine.linearize(args, places)
    structure = trees.flatten(output)[1]
    inputs = [trees.flatten(args[i]) for i in places]

    def jvp_fn(*tangents: Any) -> Any:
        error = RuntimeError(
            f"Expected the tangents {_form_of(tangents)} to have the same argspec as the primals {_form_of(primals)}"
        )
        if len(tangents) != len(primals):
            raise error
        along: list[Any] = []
        for place, (leaves, form) in zip(places, inputs, strict=True):
            if tangents[place] is None:
                given: Any = [np.zeros(_shape(x)) for x in leaves]
            else:
                given = trees.matched(form, tangents[place])
            if given is None:
                raise error
            for k, (x, t) in enumerate(zip(leaves, given, strict=True)):
                if _shape(x) != _shape(t):
                    raise RuntimeError(
                        f"tangent:{len(along) + k} with shape {_shape(t)} in flattened pytree doesn't match the shape "
                        f"{_shape(x)} of the corresponding primal."
                    )
            along += given
        return trees.unflatten(structure, push(along))

    return output, jvp_fn


def _along(
    name: str, func: Callable[..., Any], primals: Any, tangents: Any
) -> tuple[Engine, list[Any], list[int], list[Any]]:
    """The engine, the arguments, which of them have a tangent, and the leaves of all tangents."""
    start = f"{name}(f, primals, tangents): Expected"
    if not isinstance(primals, tuple):
        raise RuntimeError(f"{start} primals to be a tuple. E.g. it should be valid to call f(*primals).")
    if not isinstance(tangents, tuple) or len(tangents) != len(primals):
        raise RuntimeError(_unlike(start, primals, tangents))
    if not primals:
        raise RuntimeError(f"{start} primals to contain at least one Tensor.")
    engine, args = _engine(func, primals, {})
    places = [i for i, t in enumerate(tangents) if t is not None]
    if not places:
        raise RuntimeError(f"{start} tangents to contain at least one that is not None.")
    along: list[Any] = []
    for i in places:
        engine.check(args[i], i)
        leaves, structure = trees.flatten(args[i])
        given = trees.matched(structure, tangents[i])
        if given is None:
            raise RuntimeError(_unlike(start, primals, tangents))
        for x, t in zip(leaves, given, strict=True):
            if _shape(x) != _shape(t):
                raise RuntimeError(
                    "Trying to set a forward gradient that has a different size than that of the original Tensor, this "
                    f"is not supported. Tensor is of size {list(_shape(x))} while the given forward gradient is of "
                    f"size {list(_shape(t))}: {name}(), argument {i}"
                )
        along += given
    return engine, args, places, along


def _unlike(start: str, primals: Any, tangents: Any) -> str:
    return (
        f"{start} primals and tangents to have the same python structure. For example, if primals is a tuple of 3 "
        f"tensors, tangents also must be. Got primals with structure {_form_of(primals)} and tangents with structure "
        f"{_form_of(tangents)}"
    )


def jacrev(
    func: Callable[..., Any], argnums: Argnums = 0, *, has_aux: bool = False, chunk_size: int | None = None
) -> Callable[..., Any]:
    """A function that computes the Jacobian of `func` in reverse mode: one recording, a sweep for each output.

    `chunk_size` is how many rows PyTorch has at once. Here they are swept one at a time, which takes the least memory:
    it is checked, and changes nothing.

    The Jacobian of an array by an array has the shape of the first, followed by that of the second. Where there are
    trees of outputs, and of arguments, it is a tree of trees, the outputs' outside.

    >>> import numpy as np
    >>> import tapegrad as tg
    >>> tg.func.jacrev(lambda x: x[:2] * x[2])(np.array([1.0, 2.0, 3.0]))
    array([[3., 0., 1.],
           [0., 3., 2.]])
    """
    return jacobian(func, argnums, has_aux=has_aux, mode="reverse", chunk_size=chunk_size)


def jacfwd(
    func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False, *, randomness: str = "error",
    chunk_size: int | None = None,
) -> Callable[..., Any]:  # fmt: skip
    """A function that computes the Jacobian of `func` in forward mode.

    Of jitted functions by a run for every sixteen numbers differentiated by; of others all columns are pushed at once,
    `chunk_size` of them, or so many as take 32 MB a value. For the form of the result see `jacrev`.

    >>> import tapegrad as tg
    >>> tg.func.jacfwd(lambda t: (t * t, 3.0 * t))(2.0)
    (4.0, 3.0)
    """
    if randomness not in ("error", "different", "same"):
        raise RuntimeError(f"Only allowed values for randomness are 'error', 'different', or 'same'. Got {randomness}")
    return jacobian(func, argnums, has_aux=has_aux, mode="forward", chunk_size=chunk_size)


def jacobian(
    func: Callable[..., Any],
    argnums: Argnums = 0,
    *,
    has_aux: bool = False,
    mode: Literal["auto", "forward", "reverse"] = "auto",
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """A function that computes the Jacobian of `func`, in the mode that suits its shape.

    For the arguments see `grad`, for the form of the result `jacrev`. `mode` can be forced to "forward" or "reverse";
    "auto" compares how many numbers there are to differentiate by with how many there are of outputs: it takes forward
    mode of a jitted function where they are at most twice as many, of others where they are at most as many.
    `chunk_size` is how many rows or columns are computed at a time: less memory, the same numbers.

    >>> import numpy as np
    >>> import tapegrad as tg
    >>> tg.func.jacobian(lambda x: np.sum(x * x))(np.array([1.0, 2.0]))
    array([2., 4.])
    """
    if mode not in ("auto", "forward", "reverse"):
        raise ValueError(f'mode is "auto", "forward" or "reverse", not {mode!r}')
    if chunk_size is not None:
        if chunk_size.__class__ is not int:
            raise TypeError(f"jacobian: `chunk_size` is an int or None, not {type(chunk_size).__name__}")
        if chunk_size <= 0:
            raise ValueError(f"{'jacrev' if mode == 'reverse' else 'jacobian'}: `chunk_size` should be greater than 0.")

    @_transform(func)
    def jacobian_of(*args: Any, **kwargs: Any) -> Any:
        call = _Call(func, args, kwargs, argnums)
        values, blocks = call.engine.jacobian(call.args, call.places, has_aux, mode, chunk_size)
        structure = trees.flatten(values[0] if has_aux else values)[1]
        found = trees.unflatten(structure, [None if row is None else call.formed(row) for row in blocks])
        return (found, values[1]) if has_aux else found

    return jacobian_of


def hvp(func: Callable[..., Any], primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    """The value of `func`, and the product of its Hessian with tangents.

    `func` returns a number, whose gradient is recorded (of a jitted function compiled) and differentiated once more.
    `primals` and `tangents` are tuples as in `jvp`; the product is of the form of the primals (of the one primal, where
    there is one), with None for those whose tangent is None.

    >>> import numpy as np
    >>> import tapegrad as tg
    >>> tg.func.hvp(lambda x: np.sum(x**3), (np.array([1.0, 2.0]),), (np.array([1.0, 0.0]),))
    (9.0, array([6., 0.]))
    """
    engine, args, places, along = _along("hvp", func, primals, tangents)
    value, product = engine.hvp(args, places, along)
    structure = trees.flatten(tuple(args[i] for i in places))[1]
    found = dict(zip(places, trees.unflatten(structure, product), strict=True))
    return value, found[0] if len(primals) == 1 else tuple(found.get(i) for i in range(len(primals)))


def hessian(func: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """A function that computes the Hessian of `func`.

    It has the shape of the argument twice; for trees, and for a tuple of `argnums`, it is a tree of trees. It is
    computed forward over reverse, all columns in one sweep where memory allows; a jitted function must return a number.

    >>> import numpy as np
    >>> import tapegrad as tg
    >>> tg.func.hessian(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 3.0]))
    array([[6., 2.],
           [2., 0.]])
    """

    @_transform(func)
    def hessian_of(*args: Any, **kwargs: Any) -> Any:
        call = _Call(func, args, kwargs, argnums)
        value, found = call.engine.hessian(call.args, call.places)
        hessians = [call.formed([call.formed(row) for row in blocks]) for blocks in found]
        return trees.unflatten(trees.flatten(value)[1], hessians)

    return hessian_of


def functionalize(func: Callable[..., Any], *, remove: str = "mutations") -> Callable[..., Any]:
    """`func`, as it is: what is recorded writes to nothing, whatever writes in place there are in it.

    Raises
    ------
    RuntimeError
        Where `remove` is neither "mutations" nor "mutations_and_views".

    >>> import tapegrad as tg
    >>> def f(x):
    ...     y = x.clone()
    ...     y[0] = 5.0
    ...     return y.sum()
    >>> tg.func.functionalize(f)(tg.ones(3))
    tensor(7.)
    """
    if remove not in ("mutations", "mutations_and_views"):
        raise RuntimeError(
            f"functionalize(f, remove='mutations'): received invalid argument for remove={remove}. Valid options are:\n"
            "     remove='mutations': all inplace and out= operators will be removed from the program, and replaced "
            "with their out-of-place equivalents.\n"
            "     remove='mutations_and_views': In addition to the above, all aliasing operators {view} will be "
            "replaced with their non-aliasing counterparts, {view}_copy.\n"
        )

    @functools.wraps(func)
    def functional(*args: Any, **kwargs: Any) -> Any:
        return func(*args, **kwargs)

    return functional


def __dir__() -> list[str]:
    return __all__
