"""Transforms of functions, named as in `torch.func`: gradients, Jacobians, Hessians and their products.

They take functions jitted by Numba, as they are, or plain ones, which are jitted: loops, branches, in-place writes and
NumPy calls are differentiated at compiled speed (see `tapegrad.jitted`).

>>> import numpy as np
>>> import tapegrad as tg
>>> from numba import njit
>>> @njit
... def newton(a):
...     x = 1.0
...     while abs(x * x - a) > 1e-12:
...         x = 0.5 * (x + a / x)
...     return x
>>> tg.func.grad(newton)(2.0)
0.35355339...

What is differentiated are floats, float64 arrays of any dimension, and tuples of them; `argnums` says which arguments.
All others are passed on: ints, strings, jitted functions, arrays of ints, typed lists. Functions return a number, an
array, or a tuple of them.

Limits: complex numbers and float32 are not differentiated; nor are eigenvalues, singular values and Fourier transforms;
a function is compiled anew for each transform and each combination of argument types. What can't be differentiated is
an error, `tapegrad.jitted.NotDifferentiableError`, when it is compiled.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from tapegrad.jitted.engine import Engine

__all__ = ["grad", "hessian", "hvp", "jacfwd", "jacobian", "jacrev", "jvp", "value_and_grad", "vjp"]

Argnums = int | tuple[int, ...]
_MOST_TANGENTS = 8  # that are carried at once


def _engine(function: Callable[..., Any]) -> Engine:
    from tapegrad.jitted import engine  # Numba is imported when it is needed, not before

    return engine.engine_of(function)


def _form(text: str, args: list[Any], argnums: Argnums, has_aux: bool, n_tangents: int = 0) -> Any:
    """What the driver is made for; checks what is to be differentiated."""
    from tapegrad.jitted import engine
    from tapegrad.jitted.drivers import Form

    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    for place in numbers:
        if not -len(args) <= place < len(args):
            raise ValueError(f"argnums has {place}, but there are {len(args)} arguments")
    numbers = tuple(sorted({place % len(args) for place in numbers}))
    for place in numbers:
        engine.check(args[place], place)
    return Form(text, len(args), numbers, has_aux, n_tangents)


def _order(argnums: Argnums, args: list[Any]) -> list[int]:
    """The places of what is differentiated, in the order in which the user named them."""
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    return [place % len(args) for place in numbers]


def _chosen(argnums: Argnums, args: list[Any], form: Any, found: tuple[Any, ...]) -> Any:
    """The gradients by argument, as the user asked for them: one, or a tuple in the order of `argnums`."""
    if isinstance(argnums, int):
        return found[0]
    by_place = dict(zip(form.argnums, found, strict=True))
    return tuple(by_place[place] for place in _order(argnums, args))


def grad(func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that computes the gradient of `func`.

    Parameters
    ----------
    func : callable
        A jitted function, or one that can be, that returns a number; with `has_aux`, a number and something else.
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
    ...     return 0.5 * k * np.sum(x**2)
    >>> tg.func.grad(energy)(np.array([1.0, 2.0]), 3.0)
    array([3., 6.])
    >>> tg.func.grad(energy, argnums=(0, 1))(np.array([1.0, 2.0]), 3.0)
    (array([3., 6.]), 2.5)
    """
    both = value_and_grad(func, argnums, has_aux)

    @functools.wraps(func)
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
    engine = _engine(func)

    @functools.wraps(func)
    def value_and_gradient(*args: Any, **kwargs: Any) -> Any:
        given = engine.bind(args, kwargs)
        form = _form("value_and_grad", given, argnums, has_aux)
        value, found = engine.run(form, *given)
        return value, _chosen(argnums, given, form, found)

    return value_and_gradient


def vjp(func: Callable[..., Any], *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """The value of `func`, and a function for the products of cotangents with its Jacobian.

    All floats, float64 arrays and tuples of them among `primals` are differentiated.

    Returns
    -------
    tuple
        `(output, vjp_fn)`, with `has_aux` `(output, vjp_fn, aux)`. `vjp_fn` takes a cotangent for each output and
        returns a tuple with the product for each primal, None for those that aren't differentiated. It can be called
        any number of times; the tape lives as long as it does.

    >>> import numpy as np
    >>> import tapegrad as tg
    >>> output, pull = tg.func.vjp(lambda x: np.cumsum(x), np.array([1.0, 2.0, 3.0]))
    >>> output
    array([1., 3., 6.])
    >>> pull(np.array([1.0, 1.0, 1.0]))
    (array([3., 2., 1.]),)
    """
    from tapegrad.jitted import engine as engines

    engine = _engine(func)
    args = engine.bind(primals, {})
    places = tuple(i for i, a in enumerate(args) if engines.is_differentiable(a))
    if not places:
        raise TypeError("none of the primals is a float, a float64 array or a tuple of them")
    recording = engines.Recording(engine, _form("record", args, places, has_aux), args)
    output = recording.values[0] if has_aux else recording.values
    structure = tuple(args[i] for i in places)

    def vjp_fn(*cotangents: Any) -> tuple[Any, ...]:
        given = cotangents[0] if len(cotangents) == 1 and not isinstance(output, tuple) else cotangents
        if isinstance(output, tuple) and len(cotangents) == 1 and isinstance(cotangents[0], (tuple, list)):
            given = tuple(cotangents[0])
        _same_form(output, given)
        found = engines.shaped(recording.pull(engines.flat(given)), structure)
        by_place = dict(zip(places, found, strict=True))
        return tuple(by_place.get(i) for i in range(len(primals)))

    return (output, vjp_fn, recording.values[1]) if has_aux else (output, vjp_fn)


def _same_form(expected: Any, given: Any) -> None:
    """Raise where a tangent or cotangent has not the form of what it belongs to."""
    if isinstance(expected, tuple):
        if not isinstance(given, (tuple, list)) or len(given) != len(expected):
            raise ValueError(f"expected a tuple of {len(expected)}, but got {type(given).__name__}")
        for a, b in zip(expected, given, strict=True):
            _same_form(a, b)
    elif np.shape(expected) != np.shape(given):
        raise ValueError(f"expected the shape {np.shape(expected)}, but got {np.shape(given)}")


def jvp(func: Callable[..., Any], primals: tuple[Any, ...], tangents: tuple[Any, ...], *, has_aux: bool = False) -> Any:
    """The value of `func`, and the product of its Jacobian with tangents, in forward mode: nothing is recorded.

    Parameters
    ----------
    func : callable
        A jitted function, or one that can be.
    primals, tangents : tuple
        The arguments, and a tangent for each; None for those that aren't differentiated.
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
    from tapegrad.jitted import engine as engines

    engine = _engine(func)
    args, places, along = _along(engine, primals, tangents)
    values, found = engine.run(_form("jvp", args, places, has_aux, 1), *args, along)
    output = values[0] if has_aux else values
    product = engines.shaped(found, output)
    return (output, product, values[1]) if has_aux else (output, product)


def _along(engine: Any, primals: Any, tangents: Any) -> tuple[list[Any], tuple[int, ...], np.ndarray]:
    """The arguments, which of them have a tangent, and all tangents in a vector."""
    from tapegrad.jitted import engine as engines

    if not isinstance(primals, tuple) or not isinstance(tangents, tuple):
        raise TypeError("primals and tangents are tuples: a tangent for each argument")
    if len(primals) != len(tangents):
        raise ValueError(f"there are {len(primals)} primals, but {len(tangents)} tangents")
    args = engine.bind(primals, {})
    places = tuple(i for i, t in enumerate(tangents) if t is not None)
    for i in places:
        engines.check(args[i], i)
        _same_form(args[i], tangents[i])
    return args, places, engines.flat(tuple(tangents[i] for i in places))


def jacrev(func: Callable[..., Any], argnums: Argnums = 0, *, has_aux: bool = False) -> Callable[..., Any]:
    """A function that computes the Jacobian of `func` in reverse mode: one recording, a sweep for each output.

    The Jacobian of an array by an array has the shape of the first, followed by that of the second. Tuples of outputs,
    and of `argnums`, give tuples of Jacobians, those of the outputs outside.

    >>> import numpy as np
    >>> import tapegrad as tg
    >>> tg.func.jacrev(lambda x: x[:2] * x[2])(np.array([1.0, 2.0, 3.0]))
    array([[3., 0., 1.],
           [0., 3., 2.]])
    """
    return jacobian(func, argnums, has_aux=has_aux, mode="reverse")


def jacfwd(func: Callable[..., Any], argnums: Argnums = 0, *, has_aux: bool = False) -> Callable[..., Any]:
    """A function that computes the Jacobian of `func` in forward mode: a run for every eight numbers differentiated by.

    For the form of the result see `jacrev`.

    >>> import tapegrad as tg
    >>> tg.func.jacfwd(lambda t: (t * t, 3.0 * t))(2.0)
    (4.0, 3.0)
    """
    return jacobian(func, argnums, has_aux=has_aux, mode="forward")


def jacobian(
    func: Callable[..., Any],
    argnums: Argnums = 0,
    *,
    has_aux: bool = False,
    mode: Literal["auto", "forward", "reverse"] = "auto",
) -> Callable[..., Any]:
    """A function that computes the Jacobian of `func`, in the mode that suits its shape.

    For the arguments see `grad`, for the form of the result `jacrev`. `mode` can be forced to "forward" or "reverse";
    "auto" takes forward mode where there are at most twice as many numbers to differentiate by as there are outputs.

    >>> import numpy as np
    >>> import tapegrad as tg
    >>> tg.func.jacobian(lambda x: np.sum(x * x))(np.array([1.0, 2.0]))
    array([2., 4.])
    """
    if mode not in ("auto", "forward", "reverse"):
        raise ValueError(f'mode is "auto", "forward" or "reverse", not {mode!r}')
    engine = _engine(func)

    @functools.wraps(func)
    def jacobian_of(*args: Any, **kwargs: Any) -> Any:
        from tapegrad.jitted import engine as engines

        given = engine.bind(args, kwargs)
        form = _form("jacrev", given, argnums, has_aux)
        structure = tuple(given[i] for i in form.argnums)
        n = engines.size(structure)
        forward = mode == "forward" or (mode == "auto" and n <= 2 * engine.n_outputs(form, given))
        if forward and n:
            form = form._replace(text="jacfwd", n_tangents=_n_tangents(n))
        values, matrix = engine.run(form, *given)
        output = values[0] if has_aux else values
        whole = (given[form.argnums[0]],) if isinstance(argnums, int) else structure
        found = _by_argument(engines.blocks(matrix, output, whole), output, lambda t: _chosen(argnums, given, form, t))
        return (found, values[1]) if has_aux else found

    return jacobian_of


def _n_tangents(n: int) -> int:
    """How many tangents to carry at once: few widths, since each is compiled for itself."""
    return next(width for width in (1, 2, 4, _MOST_TANGENTS) if width >= min(n, _MOST_TANGENTS))


def _by_argument(found: Any, output: Any, chosen: Callable[[Any], Any]) -> Any:
    """Apply `chosen` to the Jacobian of each output."""
    if isinstance(output, tuple):
        return tuple(_by_argument(item, part, chosen) for item, part in zip(found, output, strict=True))
    return found if found is None else chosen(found)


def hvp(func: Callable[..., Any], primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    """The value of `func`, and the product of its Hessian with tangents, forward over reverse.

    `func` returns a number. `primals` and `tangents` are tuples as in `jvp`; the product is of the form of the primals
    (of the one primal, where there is one), with None for those whose tangent is None.

    >>> import numpy as np
    >>> import tapegrad as tg
    >>> tg.func.hvp(lambda x: np.sum(x**3), (np.array([1.0, 2.0]),), (np.array([1.0, 0.0]),))
    (9.0, array([6., 0.]))
    """
    from tapegrad.jitted import engine as engines

    engine = _engine(func)
    args, places, along = _along(engine, primals, tangents)
    value, _, product = engine.run(_form("hvp", args, places, False, 1), *args, along)
    found = dict(zip(places, engines.shaped(product, tuple(args[i] for i in places)), strict=True))
    return value, found[0] if len(primals) == 1 else tuple(found.get(i) for i in range(len(primals)))


def hessian(func: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """A function that computes the Hessian of `func`, which returns a number, forward over reverse.

    It has the shape of the argument twice; for a tuple of `argnums` it is a tuple of tuples.

    >>> import numpy as np
    >>> import tapegrad as tg
    >>> tg.func.hessian(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 3.0]))
    array([[6., 2.],
           [2., 0.]])
    """
    engine = _engine(func)

    @functools.wraps(func)
    def hessian_of(*args: Any, **kwargs: Any) -> Any:
        from tapegrad.jitted import engine as engines

        given = engine.bind(args, kwargs)
        form = _form("hessian", given, argnums, False)
        structure = tuple(given[i] for i in form.argnums)
        form = form._replace(n_tangents=min(_n_tangents(max(engines.size(structure), 1)), 4))
        _, matrix = engine.run(form, *given)
        found = engines.blocks(matrix, structure, structure)
        rows = _chosen(argnums, given, form, found)
        if isinstance(argnums, int):
            return rows[0]
        return tuple(_chosen(argnums, given, form, row) for row in rows)

    return hessian_of
