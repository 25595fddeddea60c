"""What a driver is compiled with: its text, and all that NumPy's functions, loops and so on mean to active numbers.

To import it takes long: what is on disk is called without it (`forms.py`).
"""

from __future__ import annotations

from typing import Any

from numba import njit

from tapegrad.array_makers import as_they_are
from tapegrad.jitted import (  # most of them make something known to Numba
    addresses,  # noqa: F401
    arrays,  # noqa: F401
    builtin_functions,  # noqa: F401
    decompositions,  # noqa: F401
    double_precision,  # noqa: F401
    limits,  # noqa: F401
    linalg,  # noqa: F401
    nest_calls,  # noqa: F401
    numerics,  # noqa: F401
    order_statistics,  # noqa: F401
    overloads,  # noqa: F401
    parallel_loops,  # noqa: F401
    rearrangements,  # noqa: F401
    records,  # noqa: F401
    reductions,  # noqa: F401
    stretches,  # noqa: F401
    vectorised,  # noqa: F401
)
from tapegrad.jitted.access import sweep_of
from tapegrad.jitted.bindings import SPECIAL
from tapegrad.jitted.drivers import SCOPE, source
from tapegrad.jitted.forms import Form
from tapegrad.jitted.independents import only_read, placing
from tapegrad.jitted.inner import define
from tapegrad.jitted.rewriting import active
from tapegrad.jitted.sharing import refusing


@as_they_are()  # what names mean in jitted code is looked up
def written(original: Any, form: Form) -> Any:
    """The function of a form for a user's jitted function, as Numba compiles it."""
    read = only_read(original) if form.reads_in_place else {}
    read = {i: how for i, how in read.items() if all(place < form.n_arguments for place in how.by)}
    scope = {
        **{f"place{i}": placing(how.n_indices) for i, how in read.items()},
        **SCOPE, "kind": form.kind,
        "function": active(_called(original, form.n_arguments), form.kind, form.is_marked, form.is_limited),
        "refuse_shared": refusing(original) if form.is_called else None,
        "width": 1 + form.n_tangents, "n_tangents": form.n_tangents, "swept": sweep_of(form.kind),
    }  # fmt: skip
    return define(source(form, read), "driver", scope)


def _called(function: Any, n: int) -> Any:
    """A function that calls one that has a way of its own where it is called: a rule, say."""
    if function not in SPECIAL:
        return function
    names = ", ".join(f"a{i}" for i in range(n))
    return njit(define(f"def call({names}):\n return function({names})", "call", {"function": function}))
