"""Gradients of functions jitted by Numba: the engine behind `tapegrad.func`, and what jitted code itself can use.

A function is compiled a second time, with active scalars in the place of float64: its own code then records a scalar
Jacobian tape (`jacobian_tape.py`), a row a statement, which is swept in reverse; or it carries tangents and records
nothing.

What is differentiated: loops, `while`, early return, recursion, closures, nested functions and generators, functions
that are chosen at run time, those made by `vectorize` and `guvectorize`; tuples, lists, sets, dictionaries, Numba's
typed ones, instances of a `jitclass` or a `structref`, arrays of records, made inside or given; records; slicing,
views, masks and in-place writes; complex numbers and their arrays, with `cmath`; `math`, NumPy's creation functions,
ufuncs, reductions, rearrangements, `dot`, `@`, and `solve`, `inv`, `det`, `slogdet`, `cholesky`, `eigh`, `eigvalsh`,
`eig` and `eigvals` of real spectrum or of complex matrices, `svd`, `qr`, `pinv`, `lstsq` and `cond` of `numpy.linalg`;
what Numba has of NumPy as plain code (`overloads.py`); functions of `scipy.special` and `tapegrad.special`, which
`special.py` makes known to Numba, also those of `scipy.special.cython_special` that are called by their addresses
(`addresses.py`); `type(x)` and `x.dtype.type`. Rounding, comparisons and conversion to int have the derivative zero.

Limits, each an error when the function is compiled (`NotDifferentiableError`, which names construct and line):

- sums along axes that aren't known when compiling; of complex numbers all but arithmetic, elementary functions, sums,
  products, means, variances, `sort`, `dot`, `@` and `numpy.linalg`; these and float32 as the arguments of a rule of the
  user's;
- other functions that are called by their addresses (of declared types, chosen from a tuple at run time), stencils,
  blocks in `objmode` that are given values and give floats (write a function, with a `custom_rule`), or write to
  arrays;
- a record by itself that isn't differentiated and is given a value with derivatives (an array of records may be);
- an element of an array of ints that is given a value with derivatives;
- random numbers of a distribution whose parameters have derivatives (draw standard ones, and scale these), and a key
  with derivatives for a dictionary that was made with others;
- views of an array as another dtype, and what tells of its memory (`nbytes`, `strides`).

Values are those of the plain call, to the last bit unless `fastmath` leaves them open, and so is what it raises: a
division by zero is an error under the function's own error model, also where a `try` waits for it. Names mean what they
mean to the plain function's compiled code. A function is run once as far as anyone can see: where forward mode runs it
several times, random numbers are drawn again, and what a run writes to is put back before the next.

What is float32 in the plain function is computed in single precision; its derivatives are computed in double precision,
and given as float32 by an array that is one; by a number, `np.float32(2.0)` as well, as a float.

The gradient by a complex number is that by its real part plus i times that by its imaginary part, which is PyTorch's
convention; cotangents are taken in the same way. Jacobians and Hessians are by real numbers only.

Arguments that share memory (the same array twice, a view beside its base) are one memory, if the function writes to it:
the gradient by each is that by the elements that it has there, through whichever argument they are read. If the
function only reads them, each is an argument of its own, with its own partial derivatives.

What was not taken leaves no nan: an adjoint, or a tangent, that is exactly 0 contributes exactly 0, whatever the
partial. So `sqrt(max(x, 0))` and `where(x > 0, sqrt(x), 0)` have the derivative 0 below 0. What derivatives are at
kinks and ties is decided where they are written, in `tapegrad.ops`; of Python's `max(a, b)` too, whose equal arguments
share, and `max(a, b, c)` is `max(max(a, b), c)`. Plain products alone are IEEE's: inf times a slope of 0 is nan. A
singular matrix's determinant has its cofactors. A Cholesky factor's gradient is that by a symmetric matrix, half in
each triangle, though its lower one alone is read.

An instance that is an argument, or a list that is written to, is copied, with the arrays in it, and what was changed is
written back; what is in two arguments is refused then.

An array of which a function only reads elements and lengths is read in place by gradients and Jacobians; others are
copied, with a row of the tape for each element (`independents.py`).

A loop over `prange` whose turns meet in sums alone, or write to elements of their own, runs on several threads in
reverse mode too, and its value and gradient have the same bits on any number of them; other such loops are taken
serially. Which is which, and why, says the page on threads (`docs/pages/how-to/threads.md`).

Others: arguments that are written to are copied, and those that are differentiated keep their values; a tape has at
most 2**31 rows. What is read beyond an array's end is nonsense, as in Numba, and so is its derivative, but the tape
takes no harm from it; with `boundscheck=True` it is an IndexError. Compiled code is kept on disk if all that the
function reads has a digest (`dependencies.py`): numbers, arrays, enums, other functions.

A long loop takes the memory of few of its steps if it is written as `checkpoint_loop`, or as it is under a
`memory_limit`, by which loops over ranges and `while` are cut out of the function's code (`outlining.py`, `limits.py`);
a function that does much with few numbers, that of its derivatives if it is marked by `preaccumulate`. A sparse
Jacobian is computed along few directions (`jacobian`).

A nest of loops over ranges, of numbers, elements and slices of arrays, with branches, is one row of the tape where it
takes some turns: what it computed is computed again in a loop that goes backward, compiled from the loop itself, and
only what can't be is kept (`nests.py`). Its derivatives are added up in the order of that loop, so that they may differ
in the last bits from those of second order, of forward mode, or of fewer turns. Left to rows of single statements are
loops with `while`, `break` or calls that aren't put in their place, arrays that overlap, or that change names
otherwise than `a, b = b, a` does in every turn, slices of slices, and functions with `fastmath` or types of `locals`.

A gradient that is taken inside (`value_and_grad`) is differentiated to any order. Where that is recorded, its Hessian
is computed at once, by a run of the function for each number or few, and a row stored for each pair of numbers.

Arguments can be nested containers, Numba's typed lists and dictionaries among them, where Numba can use what is in them
(`containers.py`), and Tensors, whose tape then has a row for each call, which is differentiated
to any order (`orders.py`).

Threads have a tape each; `nbytes()` tells how much memory this thread's tapes hold, and `free()` gives it back.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tapegrad import namesakes

if TYPE_CHECKING:
    from tapegrad.jitted.checkpoints import checkpoint_loop as checkpoint_loop
    from tapegrad.jitted.compressed import jacobian as jacobian
    from tapegrad.jitted.errors import NotDifferentiableError as NotDifferentiableError
    from tapegrad.jitted.explaining import Explanation as Explanation
    from tapegrad.jitted.explaining import explain as explain
    from tapegrad.jitted.extensions import custom_rule as custom_rule
    from tapegrad.jitted.jacobian_tape import free as free
    from tapegrad.jitted.jacobian_tape import nbytes as nbytes
    from tapegrad.jitted.limits import memory_limit as memory_limit
    from tapegrad.jitted.limits import set_memory_limit as set_memory_limit
    from tapegrad.jitted.operations import operation as operation
    from tapegrad.jitted.operations import value_and_grad as value_and_grad
    from tapegrad.jitted.preaccumulation import preaccumulate as preaccumulate

__all__ = [
    "Explanation",
    "NotDifferentiableError",
    "checkpoint_loop",
    "custom_rule",
    "explain",
    "free",
    "jacobian",
    "memory_limit",
    "nbytes",
    "operation",
    "preaccumulate",
    "set_memory_limit",
    "value_and_grad",
]

_HOMES = {
    "Explanation": "explaining", "NotDifferentiableError": "errors", "checkpoint_loop": "checkpoints",
    "custom_rule": "extensions", "explain": "explaining", "free": "jacobian_tape", "jacobian": "compressed",
    "memory_limit": "limits", "set_memory_limit": "limits", "nbytes": "jacobian_tape", "operation": "operations",
    "preaccumulate": "preaccumulation",
    "value_and_grad": "operations",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Numba is imported when one of these is first used."""
    if name == "special":
        return importlib.import_module("tapegrad.jitted.special")
    if name not in _HOMES:
        raise namesakes.unknown(__name__, name)
    found = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
