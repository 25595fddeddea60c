"""Sums over partitions of data, each differentiated where it lies: on Dask, MPI, joblib, or Python's own executors.

    partition 0 --worker--> value, gradient --+
    partition 1 --worker--> value, gradient --+--> + --+
    partition 2 --worker--> value, gradient -----------+--> + --> value, gradient

Parameters go out, and what comes back is as large as they are. The sum is taken in pairs of neighbours, pairs of pairs,
and so on: its order is fixed by the partitions, so that its bits depend neither on the number of workers nor on which
of them is done first. What a worker did that was lost is done again, with the same result.

>>> import numpy as np
>>> import tapegrad as tg
>>> from concurrent.futures import ThreadPoolExecutor
>>> from scipy.optimize import minimize
>>> x = np.linspace(-1.0, 1.0, 90)
>>> data = [(x[k::3], 2.0 * x[k::3] + 1.0) for k in range(3)]
>>> def loss(p, x, y):
...     return ((p[0] * x + p[1] - y) ** 2).sum()
>>> with ThreadPoolExecutor(3) as workers:
...     total = tg.distributed.PartitionedSum(loss, data, on=workers)
...     found = minimize(total.value_and_grad, np.zeros(2), jac=True)
>>> found.x.round(6)
array([2., 1.])
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tapegrad import creation, trees
from tapegrad.autograd import is_grad_enabled
from tapegrad.autograd.function import Function
from tapegrad.conversion import leaf_of
from tapegrad.distributed import fronts
from tapegrad.distributed.parts import Order
from tapegrad.tensor import Tensor
from tapegrad.vectors import Form

__all__ = ["PartitionedSum", "is_available", "is_initialized"]


def is_available() -> bool:
    """False: of PyTorch's process groups there are none, and what asks for them goes on alone.

    >>> import tapegrad as tg
    >>> tg.distributed.is_available()
    False
    """
    return False


def is_initialized() -> bool:
    """False, likewise."""
    return False


def _no_group(*args: Any, **facts: Any) -> Any:
    """Raise ValueError: what PyTorch's process groups do for each other."""
    del args, facts
    raise ValueError(
        "Default process group has not been initialized: there are none here. Sums over partitions, in processes and "
        "on many machines, are PartitionedSum's"
    )


all_gather = all_reduce = barrier = broadcast = destroy_process_group = get_rank = get_world_size = _no_group
init_process_group = reduce = _no_group


class PartitionedSum:
    """The sum of a function over partitions of data, and its derivatives by parameters.

    Parameters
    ----------
    function : callable
        `function(parameters, partition)`, which returns a number: a plain function or one that Numba has jitted. A
        partition that is a tuple is given as so many arguments: `function(parameters, x, y)`.
    partitions : iterable
        The data. A partition is any object, or a function without arguments that loads it: that is called once where
        the work is done, and what it returns stays there. With Dask also what it has in pieces: delayed objects,
        futures, a bag, an array (or a tuple of arrays, in pieces along their first dimension), a data frame. With MPI
        those of this rank; the ranks' partitions follow each other.
    on : optional
        What works: None for this thread, an executor of `concurrent.futures`, a function that makes one (it is called
        again should one break), a `joblib.Parallel`, a `dask.distributed.Client`, a communicator of `mpi4py`, with
        which all ranks make the same calls and are given the same results.
    threads : int, optional
        How many threads sweep in a worker process, None for as many as there are set there.
    progress : bool
        Whether a bar of tqdm's shows how many partitions are done.

    Raises
    ------
    TypeError
        Where it is not known how to work `on` something.
    ValueError
        Where there are no partitions.

    Notes
    -----
    An error in a partition is raised with a note that says in which. A lost process is replaced, and its partitions
    computed again, by Dask, by joblib, and where `on` makes executors; MPI ends a program that has lost a rank.

    Where the parameters are Tensors that require grad, a call is recorded, and can be differentiated twice.

    >>> import numpy as np
    >>> import tapegrad as tg
    >>> total = tg.distributed.PartitionedSum(lambda p, x: (p["a"] * x).sum() ** 2, [np.ones(2), np.ones(3)])
    >>> total.value_and_grad({"a": 2.0})
    (52.0, {'a': 52.0})
    >>> total.hvp({"a": 2.0}, {"a": 1.0})
    (52.0, {'a': 26.0})
    >>> a = tg.tensor(2.0, requires_grad=True)
    >>> (total({"a": a}) + a).backward()
    >>> a.grad
    tensor(53.)
    """

    def __init__(
        self,
        function: Callable[..., Any],
        partitions: Any,
        on: Any = None,
        *,
        threads: int | None = 1,
        progress: bool = False,
    ) -> None:
        if not callable(function):
            raise TypeError(f"a function is summed over partitions, not {type(function).__name__}")
        self.function = function
        self.front = fronts.front_of(on)(function, partitions, on, threads, progress)
        if not len(self):
            raise ValueError("there are no partitions to sum over")

    def __len__(self) -> int:
        """The number of partitions, on all ranks."""
        return self.front.count

    def __call__(self, parameters: Any) -> Any:
        """The value: a float, or a Tensor that is recorded where a Tensor of the parameters requires grad."""
        leaves, structure = trees.flatten(parameters)
        if is_grad_enabled() and any(isinstance(leaf, Tensor) and leaf.requires_grad for leaf in leaves):
            return _Value.apply(self, structure, *leaves)
        (value,) = self.front.summed(Order("value", parameters))
        return float(value)

    def value_and_grad(self, parameters: Any) -> tuple[float, Any]:
        """The value, and the gradient in the form of the parameters: numbers, arrays or Tensors, nested at will."""
        form = Form(parameters)
        found = self.front.summed(Order("value_and_grad", parameters))
        return float(found[0]), form.tree(found[1:])

    def grad(self, parameters: Any) -> Any:
        """The gradient, in the form of the parameters."""
        return self.value_and_grad(parameters)[1]

    def hvp(self, parameters: Any, tangents: Any) -> tuple[float, Any]:
        """The value, and the product of the Hessian with tangents, which are of the form of the parameters."""
        form = Form(parameters)
        tangents = form.tree(form.vector(tangents, "tangents"))
        found = self.front.summed(Order("hvp", parameters, tangents))
        return float(found[0]), form.tree(found[1:])

    def residuals(self, parameters: Any) -> np.ndarray:
        """What a function that returns arrays gives, as a vector, partition after partition: for least squares."""
        return np.concatenate(list(self.front.each(Order("residuals", parameters))))

    def jacobian(self, parameters: Any) -> np.ndarray:
        """The Jacobian of `residuals`: a row for each, a column for each element of the parameters.

        >>> import numpy as np
        >>> import tapegrad as tg
        >>> from scipy.optimize import least_squares
        >>> data = [(x, 2.0 * x + 1.0) for x in (np.arange(3.0), np.arange(3.0, 5.0))]
        >>> line = tg.distributed.PartitionedSum(lambda p, x, y: p[0] * x + p[1] - y, data)
        >>> line.jacobian(np.zeros(2)).shape
        (5, 2)
        >>> least_squares(line.residuals, np.zeros(2), jac=line.jacobian).x.round(6)
        array([2., 1.])
        """
        return np.concatenate(list(self.front.each(Order("jacobian", parameters))))


class _Value(Function):
    """A sum's value, as an operation on the leaves of its parameters."""

    @staticmethod
    def forward(ctx: Any, total: PartitionedSum, structure: Any, *leaves: Any) -> Any:
        ctx.total, ctx.structure, ctx.given = total, structure, leaves
        value, gradient = total.value_and_grad(_plain(structure, leaves))
        ctx.gradient = trees.leaves(gradient)
        ctx.save_for_backward(*_tensors(leaves))
        return leaf_of(np.asarray(value))

    @staticmethod
    def backward(ctx: Any, y_bar: Tensor) -> Any:
        if is_grad_enabled():
            gradients = _Gradient.apply(ctx.total, ctx.structure, *_with(ctx.given, ctx.saved_tensors))
        else:
            gradients = [leaf_of(np.asarray(g)) for g in ctx.gradient]
        pairs = zip(gradients, ctx.given, strict=True)
        return None, None, *(y_bar * g.to(leaf.dtype) if isinstance(leaf, Tensor) else None for g, leaf in pairs)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        gradients = _Gradient.apply(ctx.total, ctx.structure, *ctx.given)
        return sum((g.to(t.dtype) * t).sum() for g, t in zip(gradients, tangents[2:], strict=True) if t is not None)


class _Gradient(Function):
    """A sum's gradient, as an operation."""

    @staticmethod
    def forward(ctx: Any, total: PartitionedSum, structure: Any, *leaves: Any) -> Any:
        ctx.total, ctx.structure, ctx.given = total, structure, leaves
        ctx.parameters = _plain(structure, leaves)
        ctx.save_for_backward(*_tensors(leaves))
        gradient = trees.leaves(total.grad(ctx.parameters))
        return tuple(leaf_of(np.asarray(g)) for g in gradient)

    @staticmethod
    def backward(ctx: Any, *bars: Tensor) -> Any:
        leaves = _with(ctx.given, ctx.saved_tensors)
        products = _Product.apply(ctx.total, ctx.structure, ctx.parameters, *leaves, *bars)
        found = zip(products, ctx.given, strict=True)
        return None, None, *(p.to(leaf.dtype) if isinstance(leaf, Tensor) else None for p, leaf in found)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        along = (
            creation.zeros(*np.shape(leaf)) if t is None else t for leaf, t in zip(ctx.given, tangents[2:], strict=True)
        )
        return _Product.apply(ctx.total, ctx.structure, ctx.parameters, *ctx.given, *along)


class _Product(Function):
    """The product of a sum's Hessian with tangents, which is not differentiated any more."""

    @staticmethod
    def forward(ctx: Any, total: PartitionedSum, structure: Any, parameters: Any, *leaves: Any) -> Any:
        bars = leaves[len(leaves) // 2 :]
        _, product = total.hvp(parameters, trees.unflatten(structure, [bar._array().copy() for bar in bars]))
        return tuple(leaf_of(np.asarray(p)) for p in trees.leaves(product))

    @staticmethod
    def backward(ctx: Any, *bars: Tensor) -> Any:
        raise RuntimeError("a sum over partitions is differentiated twice at most: products with its Hessian are not")


def _tensors(leaves: Any) -> list[Tensor]:
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


def _with(leaves: Any, tensors: Any) -> Iterator[Any]:
    """The leaves, with these in the places of their Tensors."""
    rest = iter(tensors)
    return (next(rest) if isinstance(leaf, Tensor) else leaf for leaf in leaves)


def _plain(structure: Any, leaves: Any) -> Any:
    """A tree of arrays in the place of Tensors."""
    return trees.unflatten(structure, [leaf._array().copy() if isinstance(leaf, Tensor) else leaf for leaf in leaves])
