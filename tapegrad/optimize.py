"""SciPy's minimisers and solvers for functions of nested parameters, with derivatives that are exact.

Parameters are a tree: numbers, arrays and Tensors in tuples, lists and dictionaries, nested at will. SciPy sees them as
one vector of float64; gradients, Jacobians, Hessians and their products are given where the method takes them. What
comes back is SciPy's own result, with a tree of the same form for `x`.

>>> import numpy as np
>>> import tapegrad as tg
>>> t = np.linspace(0.0, 4.0, 30)
>>> y = 2.0 * np.exp(-0.7 * t) + 0.3
>>> def loss(p):
...     return tg.sum((p["scale"] * tg.exp(-p["rate"] * t) + p["shift"] - y) ** 2)
>>> found = tg.optimize.minimize(loss, {"scale": 1.0, "rate": 1.0, "shift": 0.0})
>>> {name: round(value, 3) for name, value in found.x.items()}
{'scale': 2.0, 'rate': 0.7, 'shift': 0.3}
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy import optimize as scipy_optimize

from tapegrad import autograd, func, trees
from tapegrad.functions import shaping
from tapegrad.mapped import is_jitted
from tapegrad.tensor import Tensor
from tapegrad.vectors import Form

__all__ = ["curve_fit", "least_squares", "minimize", "root"]

# Of SciPy's methods: those that take no gradient, those that take a Hessian, and those that take products with it.
_NO_GRADIENT = {"nelder-mead", "powell", "cobyla", "cobyqa"}
_HESSIAN = {"dogleg", "trust-exact"}
_PRODUCTS = {"newton-cg", "trust-ncg", "trust-krylov", "trust-constr"}
_NO_JACOBIAN = {
    "anderson", "broyden1", "broyden2", "df-sane", "diagbroyden", "excitingmixing", "krylov", "linearmixing"
}  # fmt: skip


def minimize(
    fun: Callable[..., Any],
    x0: Any,
    args: tuple[Any, ...] = (),
    method: Any = None,
    *,
    lower: Any = None,
    upper: Any = None,
    bounds: Any = None,
    constraints: Any = (),
    tol: float | None = None,
    callback: Callable[..., Any] | None = None,
    options: dict[str, Any] | None = None,
    progress: bool = False,
) -> Any:
    """Minimise a function of a tree of parameters, by `scipy.optimize.minimize`.

    Parameters
    ----------
    fun : callable
        `fun(parameters, *args)`, which returns a number, or a Tensor without dimensions. One that has methods
        `value_and_grad(parameters, *args)` and `hvp(parameters, tangents, *args)` is differentiated by these, as
        `tapegrad.distributed.PartitionedSum` is.
    x0 : tree
        Where to begin: numbers, arrays and Tensors of floating-point numbers. Integers count as floats.
    args : tuple
        What the function is given besides.
    method : str or callable, optional
        SciPy's. Newton-CG, trust-ncg, trust-krylov and trust-constr are given products with the Hessian, which is never
        formed; dogleg and trust-exact the Hessian; Nelder-Mead, Powell, COBYLA and COBYQA values only; all others the
        gradient.
    lower, upper : tree, optional
        Bounds, of the form of the parameters; a number stands for all that is below it.
    bounds : optional
        SciPy's own form, for the elements in their order, in the place of these.
    constraints : optional
        SciPy's. What their functions are given is the tree; their Jacobians are exact where none are given.
    tol, options : optional
        SciPy's.
    callback : callable, optional
        SciPy's: `callback(parameters)`, or `callback(intermediate_result)`, whose `x` is the tree.
    progress : bool
        Whether a bar of tqdm's shows the evaluations and the least value.

    Returns
    -------
    scipy.optimize.OptimizeResult
        `x` is of the form of `x0`; `jac` and `hess`, where SciPy gives them, are of the vector of all elements.

    Raises
    ------
    TypeError
        Where a leaf of `x0` is no number, array or Tensor.
    ValueError
        Where bounds are not of the form of the parameters.

    >>> import numpy as np
    >>> import tapegrad as tg
    >>> def loss(p):
    ...     return tg.sum((p["a"] - 3.0) ** 2) + (p["b"] + 1.0) ** 4
    >>> tg.optimize.minimize(loss, {"a": np.zeros(2), "b": 2.0}, method="Newton-CG", upper={"a": 2.5, "b": np.inf})
    Traceback (most recent call last):
    ValueError: method Newton-CG takes no bounds: L-BFGS-B, TNC, SLSQP, trust-constr, Nelder-Mead and Powell do
    >>> found = tg.optimize.minimize(loss, {"a": np.zeros(2), "b": 2.0}, upper={"a": 2.5, "b": np.inf})
    >>> found.x["a"], bool(abs(found.x["b"] + 1.0) < 0.05)
    (array([2.5, 2.5]), True)
    """
    form = Form(x0)
    name = method.lower() if isinstance(method, str) else ""
    if lower is not None or upper is not None:
        if bounds is not None:
            raise ValueError("bounds are given by lower and upper, or in SciPy's form, not both")
        bounds = scipy_optimize.Bounds(*_limits(form, lower, upper))
    if bounds is not None and name in {"cg", "bfgs", "newton-cg", "dogleg", "trust-ncg", "trust-exact", "trust-krylov"}:
        raise ValueError(
            f"method {method} takes no bounds: L-BFGS-B, TNC, SLSQP, trust-constr, Nelder-Mead and Powell do"
        )
    with _bar(progress) as show:
        objective = _Objective(fun, form, args, show)
        derivatives: dict[str, Any] = {}
        if name not in _NO_GRADIENT:
            derivatives["jac"] = True
        if name in _HESSIAN:
            derivatives["hess"] = objective.hessian
        elif name in _PRODUCTS:
            derivatives["hessp"] = objective.product
        found = scipy_optimize.minimize(
            objective.value_and_gradient if derivatives else objective.value, form.vector(x0), method=method,
            bounds=bounds, constraints=_constraints(constraints, form, name == "trust-constr"), tol=tol,
            callback=_told(callback, form), options=options, **derivatives,
        )  # fmt: skip
    return _with_tree(found, form)


def least_squares(
    fun: Callable[..., Any],
    x0: Any,
    args: tuple[Any, ...] = (),
    *,
    lower: Any = None,
    upper: Any = None,
    progress: bool = False,
    **options: Any,
) -> Any:
    """Fit a tree of parameters by least squares, by `scipy.optimize.least_squares`.

    Parameters
    ----------
    fun : callable
        `fun(parameters, *args)`, which returns the residuals: an array, a Tensor, or a tree of them.
    x0, args, lower, upper, progress
        As of `minimize`.
    **options
        SciPy's other arguments: `method`, `loss`, `x_scale`, `ftol` and so on.

    Returns
    -------
    scipy.optimize.OptimizeResult
        `x` is of the form of `x0`; `jac` has a row for each residual and a column for each element.

    >>> import numpy as np
    >>> import tapegrad as tg
    >>> t = np.linspace(0.0, 2.0, 20)
    >>> def residuals(p):
    ...     return p["a"] * tg.exp(p["b"][0] * t) - 1.5 * np.exp(-0.5 * t)
    >>> found = tg.optimize.least_squares(residuals, {"a": 1.0, "b": np.zeros(1)})
    >>> round(found.x["a"], 6), found.x["b"].round(6), found.jac.shape
    (1.5, array([-0.5]), (20, 2))
    """
    form = Form(x0)
    if lower is not None or upper is not None:
        if "bounds" in options:
            raise ValueError("bounds are given by lower and upper, or in SciPy's form, not both")
        options["bounds"] = _limits(form, lower, upper)
    _refuse_derivatives(options, "jac")
    with _bar(progress) as show:
        system = _System(fun, form, args, show)
        found = scipy_optimize.least_squares(system.value, form.vector(x0), jac=system.jacobian, **options)
    return _with_tree(found, form)


def root(
    fun: Callable[..., Any],
    x0: Any,
    args: tuple[Any, ...] = (),
    method: str = "hybr",
    *,
    progress: bool = False,
    **options: Any,
) -> Any:
    """Find a tree of parameters at which a function is zero, by `scipy.optimize.root`.

    Parameters
    ----------
    fun : callable
        `fun(parameters, *args)`, which returns as many numbers as the parameters have: an array, a Tensor, or a tree.
    x0, args, progress
        As of `minimize`.
    method : str
        SciPy's: hybr and lm are given the Jacobian, the others need none.
    **options
        SciPy's other arguments: `tol`, `options`, `callback`.

    Returns
    -------
    scipy.optimize.OptimizeResult
        `x` is of the form of `x0`.

    >>> import tapegrad as tg
    >>> found = tg.optimize.root(lambda p: (p["x"] + p["y"] - 3.0, p["x"] * p["y"] - 2.0), {"x": 0.5, "y": 3.0})
    >>> {name: round(value, 9) for name, value in found.x.items()}
    {'x': 1.0, 'y': 2.0}
    """
    form = Form(x0)
    _refuse_derivatives(options, "jac")
    if options.get("callback") is not None:
        options["callback"] = _told(options["callback"], form)
    if method.lower() not in _NO_JACOBIAN:
        options["jac"] = True
    with _bar(progress) as show:
        system = _System(fun, form, args, show)
        found = scipy_optimize.root(
            system.both if "jac" in options else system.value, form.vector(x0), method=method, **options
        )
    return _with_tree(found, form)


def curve_fit(
    f: Callable[..., Any],
    xdata: Any,
    ydata: Any,
    p0: Any,
    *,
    lower: Any = None,
    upper: Any = None,
    progress: bool = False,
    **options: Any,
) -> tuple[Any, ...]:
    """Fit a model with a tree of parameters to data, by `scipy.optimize.curve_fit`.

    Parameters
    ----------
    f : callable
        The model: `f(xdata, parameters)` returns an array or a Tensor of the shape of `ydata`.
    xdata, ydata
        The data, as of SciPy's.
    p0 : tree
        Where to begin.
    lower, upper, progress
        As of `minimize`.
    **options
        SciPy's other arguments: `sigma`, `absolute_sigma`, `method`, `full_output` and so on.

    Returns
    -------
    tuple
        The parameters, of the form of `p0`, and the covariance of their elements, in the order of these; more with
        `full_output`.

    >>> import numpy as np
    >>> import tapegrad as tg
    >>> x = np.linspace(0.0, 3.0, 40)
    >>> y = 2.5 * np.exp(-1.3 * x)
    >>> found, covariance = tg.optimize.curve_fit(lambda x, p: p["a"] * tg.exp(-p["b"] * x), x, y, {"a": 1.0, "b": 1.0})
    >>> {name: round(value, 6) for name, value in found.items()}, covariance.shape
    ({'a': 2.5, 'b': 1.3}, (2, 2))
    """
    form = Form(p0)
    if lower is not None or upper is not None:
        if "bounds" in options:
            raise ValueError("bounds are given by lower and upper, or in SciPy's form, not both")
        options["bounds"] = _limits(form, lower, upper)
    _refuse_derivatives(options, "jac")
    ydata = _plain(ydata)
    _check_takes_tree(f)
    with _bar(progress) as show:
        system = _System(lambda parameters, x: f(x, parameters), form, (), show)

        def jacobian(x: Any, *vector: float) -> np.ndarray:
            return system.jacobian(np.array(vector), x)

        found = scipy_optimize.curve_fit(
            lambda x, *vector: system.value(np.array(vector), x), _plain(xdata), ydata, form.vector(p0), jac=jacobian,
            **options,
        )  # fmt: skip
    return (form.tree(found[0]), *found[1:])


# --- what SciPy is given ----------------------------------------------------------------------------------------------

Show = Callable[[float], None]


class _Objective:
    """A function of a tree, and its derivatives, as functions of a vector."""

    def __init__(self, fun: Callable[..., Any], form: Form, args: tuple[Any, ...], show: Show | None) -> None:
        self.fun, self.form, self.args, self.show = fun, form, _as_args(args), show
        self.both = getattr(fun, "value_and_grad", None) or func.value_and_grad(fun)
        self.times = getattr(fun, "hvp", None)
        self.at: np.ndarray | None = None  # where the gradient was recorded for products
        self.pull: Any = None

    def value(self, vector: np.ndarray) -> float:
        with autograd.no_grad():
            value = _number(self.fun(self.form.tree(vector), *self.args))
        if self.show is not None:
            self.show(value)
        return value

    def value_and_gradient(self, vector: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = self.both(self.form.tree(vector), *self.args)
        value = _number(value)
        if self.show is not None:
            self.show(value)
        return value, self.form.vector(gradient, "a gradient")

    def product(self, vector: np.ndarray, tangent: np.ndarray) -> np.ndarray:
        """The product of the Hessian with a tangent: the gradient is recorded once at each place."""
        form = self.form
        if self.times is not None:
            return form.vector(self.times(form.tree(vector), form.tree(tangent), *self.args)[1], "a product")
        if is_jitted(self.fun):
            rest = (None,) * len(self.args)
            tangents = (form.tree(tangent), *rest)
            _, found = func.hvp(self.fun, (form.tree(vector), *self.args), tangents)
            return form.vector(found[0] if rest else found, "a product")
        if self.at is None or not np.array_equal(self.at, vector):
            gradient = func.grad(self.fun)
            _, self.pull = func.vjp(lambda parameters: gradient(parameters, *self.args), form.tree(vector))
            self.at = vector.copy()
        return form.vector(self.pull(form.tree(tangent))[0], "a product")

    def hessian(self, vector: np.ndarray) -> np.ndarray:
        form = self.form
        if self.times is not None:
            return np.stack([self.product(vector, unit) for unit in np.eye(form.size)])
        found = func.hessian(self.fun)(form.tree(vector), *self.args)
        rows = [_columns(row, form, like.numel) for row, like in zip(_below(form, found), form.like, strict=True)]
        return np.concatenate(rows)


class _System:
    """A function of a tree that returns several numbers, and its Jacobian, as functions of a vector."""

    def __init__(self, fun: Callable[..., Any], form: Form, args: tuple[Any, ...], show: Show | None) -> None:
        self.fun, self.form, self.args, self.show = fun, form, _as_args(args), show

    def value(self, vector: np.ndarray, *more: Any) -> np.ndarray:
        with autograd.no_grad():
            found = self.fun(self.form.tree(vector), *self.args, *more)
        return self._joined(found)

    def jacobian(self, vector: np.ndarray, *more: Any) -> np.ndarray:
        return self._jacobian(func.jacobian(self.fun)(self.form.tree(vector), *self.args, *more))

    def both(self, vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.value(vector), self.jacobian(vector)

    def hessian(self, vector: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The Hessian of the weighted sum of the numbers."""

        def weighted(parameters: Any) -> Any:
            leaves = [shaping.reshape(leaf, (-1,)) for leaf in trees.leaves(self.fun(parameters, *self.args))]
            parts = np.split(np.asarray(weights), np.cumsum(self.lengths)[:-1])
            return sum((part * leaf).sum() for part, leaf in zip(parts, leaves, strict=True))

        return _Objective(weighted, self.form, (), None).hessian(vector)

    def _joined(self, found: Any) -> np.ndarray:
        leaves = [np.ravel(_plain(leaf)) for leaf in trees.leaves(found)]
        made = np.concatenate(leaves).astype(np.float64, copy=False)
        self.structure = trees.flatten(found)[1]
        self.lengths = [len(leaf) for leaf in leaves]
        if self.show is not None:
            self.show(0.5 * float(made @ made))
        return made

    def _jacobian(self, found: Any) -> np.ndarray:
        blocks = [found] if self.structure is None else _split(self.structure, found)
        rows = [_columns(block, self.form, length) for block, length in zip(blocks, self.lengths, strict=True)]
        return np.concatenate(rows)


def _split(structure: Any, tree: Any) -> list[Any]:
    """The parts of a tree of trees: those that stand where a structure has its leaves."""
    if structure is None:
        return [tree]
    keys, items = trees.items_of(tree) or ((), ())
    parts = [tree[key] for key in structure.keys] if keys else items
    return [leaf for child, item in zip(structure.items, parts, strict=True) for leaf in _split(child, item)]


def _below(form: Form, tree: Any) -> list[Any]:
    return _split(form.structure, tree)


def _columns(block: Any, form: Form, n_rows: int) -> np.ndarray:
    """The derivatives of so many numbers by the elements of a form."""
    below = zip(_below(form, block), form.like, strict=True)
    parts = [np.reshape(_plain(leaf), (n_rows, like.numel)) for leaf, like in below]
    return np.concatenate(parts, 1).astype(np.float64, copy=False)


def _as_args(args: Any) -> tuple[Any, ...]:
    return args if isinstance(args, tuple) else (args,)  # as SciPy takes them


def _number(value: Any) -> float:
    if trees.items_of(value) is not None or np.ndim(value):
        raise ValueError(f"a function that is minimised returns a number, not {_said(value)}")
    return float(value.item() if isinstance(value, Tensor) else value)


def _said(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else f"{type(value).__name__} of shape {list(shape)}"


def _plain(leaf: Any) -> Any:
    return leaf.detach().numpy() if isinstance(leaf, Tensor) else leaf


def _limits(form: Form, lower: Any, upper: Any) -> tuple[np.ndarray, np.ndarray]:
    return form.spread(-np.inf if lower is None else lower, "lower"), form.spread(
        np.inf if upper is None else upper, "upper"
    )


def _refuse_derivatives(options: dict[str, Any], *names: str) -> None:
    for name in names:
        if name in options:
            raise TypeError(f"{name} is not an argument: derivatives are computed. SciPy's own functions take any")


def _check_takes_tree(f: Callable[..., Any]) -> None:
    """Refuse a model of SciPy's form, whose parameters come one by one."""
    try:
        form = inspect.signature(f)
    except (TypeError, ValueError):  # of built-in functions nothing is known
        return
    try:
        form.bind(None, None)
    except TypeError as error:
        raise TypeError(
            f"curve_fit(): the model takes {form}, and is called with two arguments, f(xdata, parameters), of which "
            "the second has the form of p0: for a model of SciPy's form give lambda x, p: f(x, *p)"
        ) from error


def _told(callback: Callable[..., Any] | None, form: Form) -> Callable[..., Any] | None:
    """A callback that is given trees, of the signature by which SciPy tells what it takes."""
    if callback is None:
        return None
    parameters: list[str] = []
    with contextlib.suppress(TypeError, ValueError):  # of built-in functions nothing is known
        parameters = list(inspect.signature(callback).parameters)
    if parameters == ["intermediate_result"]:

        def told(intermediate_result: Any) -> Any:
            return callback(intermediate_result=_with_tree(type(intermediate_result)(intermediate_result), form))

        return told

    def plainly(vector: np.ndarray, *rest: Any) -> Any:
        return callback(form.tree(vector), *rest)

    return plainly


def _with_tree(found: Any, form: Form) -> Any:
    found["x"] = form.tree(found["x"])
    return found


def _constraints(given: Any, form: Form, with_hessians: bool) -> Any:
    """Constraints as functions of the vector, with Jacobians."""
    if isinstance(given, (dict, scipy_optimize.NonlinearConstraint, scipy_optimize.LinearConstraint)):
        return _constraint(given, form, with_hessians)
    return [_constraint(one, form, with_hessians) for one in given]


def _constraint(given: Any, form: Form, with_hessians: bool) -> Any:
    if isinstance(given, dict):
        system, own = _System(given["fun"], form, tuple(given.get("args", ())), None), given.get("jac")
        return {
            "type": given["type"],
            "fun": system.value,
            "jac": _of_tree(own, form, system.args) if callable(own) else _after_value(system),
        }
    if isinstance(given, scipy_optimize.NonlinearConstraint):
        system, own = _System(given.fun, form, (), None), given.jac
        jacobian = _of_tree(own, form, ()) if callable(own) else _after_value(system)
        hessian = _of_tree(given.hess, form, ()) if callable(given.hess) else given.hess
        if with_hessians and not callable(given.hess):
            hessian = system.hessian
        return scipy_optimize.NonlinearConstraint(
            system.value, given.lb, given.ub, jac=jacobian, hess=hessian, keep_feasible=given.keep_feasible
        )
    return given


def _of_tree(function: Callable[..., Any], form: Form, args: tuple[Any, ...]) -> Callable[..., Any]:
    return lambda vector, *rest: function(form.tree(vector), *args, *rest)


def _after_value(system: _System) -> Callable[[np.ndarray], np.ndarray]:
    def jacobian(vector: np.ndarray) -> np.ndarray:
        system.value(vector)
        return system.jacobian(vector)

    return jacobian


@contextlib.contextmanager
def _bar(progress: bool) -> Iterator[Show | None]:
    """What shows a value that was computed, in a bar of tqdm's."""
    if not progress:
        yield None
        return
    try:
        from tqdm.auto import tqdm
    except ImportError:
        raise ImportError("progress=True shows a bar of tqdm's, which is not installed: pip install tqdm") from None
    least = np.inf
    with tqdm(unit="evaluation") as bar:

        def show(value: float) -> None:
            nonlocal least
            least = min(least, value)
            bar.set_postfix_str(f"least value {least:.6g}", refresh=False)
            bar.update()

        yield show
