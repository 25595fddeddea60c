"""A driver as it is called: what it is made for, and its dispatcher, whose code is on disk or is compiled.

To call what is on disk takes nothing of what compiles, which takes long to import: a driver's text (`drivers.py`) is
written only where it must be compiled (`compiling.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from numba.core.registry import CPUDispatcher

from tapegrad import locks
from tapegrad.jitted import bindings
from tapegrad.jitted.active import Active, Dual, Taped
from tapegrad.jitted.disk import DriverCache
from tapegrad.jitted.errors import explained
from tapegrad.jitted.inner import OuterPipeline, define
from tapegrad.kernels import native


class Form(NamedTuple):
    """What a driver is made for, besides the function."""

    text: str
    n_arguments: int
    argnums: tuple[int, ...]
    has_aux: bool = False
    n_tangents: int = 0
    is_single: bool = False  # a gradient by itself, not in a tuple
    owns: bool = False  # arrays that aren't differentiated may be written to
    is_called: bool = False  # by users, as it is: nobody has looked whether arguments share memory
    is_marked: bool = False  # the function says which line it is at
    depth: int = 1  # directions at once, of which the mixed derivative is asked for
    is_limited: bool = False  # loops are checkpointed where the tape would be too long

    @property
    def reads_in_place(self) -> bool:
        """Whether what is differentiated is the same when the sweep reads it, and all that is swept are numbers."""
        return self.text in ("value_and_grad", "jacrev") and not (self.n_tangents or self.is_marked or self.is_limited)

    @property
    def kind(self) -> Active:
        """The type that stands in for float64."""
        return (Dual if self.text in ("jvp", "jacfwd", "along") else Taped)(self.n_tangents, self.depth)

    @property
    def is_along(self) -> bool:
        """Whether tangents are given."""
        return self.text in ("jvp", "hvp", "pulled", "tangents", "along")

    @property
    def names(self) -> list[str]:
        """Those of the user's arguments."""
        return [f"a{i}" for i in range(self.n_arguments)]

    @property
    def parameters(self) -> str:
        """The driver's parameters."""
        given = ["directions"] if self.text == "along" else ["along"] * self.is_along
        return ", ".join(self.names + given + ["seeds"] * (self.text == "pulled"))


class Driver(CPUDispatcher):  # type: ignore[misc]
    """The jitted function of a form for a user's jitted function, which explains what doesn't compile."""

    def __init__(self, original: Any, form: Form) -> None:
        function = define(f"def driver({form.parameters}):\n raise NotImplementedError", "driver", {})
        options = {"nopython": True, "nogil": True}
        super().__init__(function, targetoptions=options, pipeline_class=OuterPipeline)
        self.original, self.form, self._is_written = original, form, False
        if not (bindings.is_stale(original) or form.is_marked or form.is_limited):  # a digest is of what names mean now
            self._cache = DriverCache(function, original, form)

    def load(self, args: Sequence[Any]) -> bool:
        """Take the code for arguments from the disk; False where there is none."""
        kinds = tuple(map(self.typeof_pyval, args))
        with native.compiling():
            found = self._cache.load_overload(kinds, self.targetctx)
            if found is not None:
                self.targetctx.insert_user_function(found.entry_point, found.fndesc, [found.library])
                self.add_overload(found)
        return found is not None

    def _write(self) -> None:
        """Be ready to compile."""
        if not self._is_written:
            from tapegrad.jitted import compiling

            self.py_func = self._compiler.py_func = compiling.written(self.original, self.form)
            self._is_written = True

    def _compile_for_args(self, *args: Any, **kws: Any) -> Any:
        with locks.importing:  # nobody must import who holds Numba's lock
            from tapegrad.jitted import compiling  # noqa: F401
        with explained(self.original.py_func):
            self._write()
            return super()._compile_for_args(*args, **kws)

    def get_call_template(self, args: Any, kws: Any) -> Any:
        """As Numba asks for it, when jitted code calls the driver."""
        with explained(self.original.py_func):
            self._write()
            return super().get_call_template(args, kws)
