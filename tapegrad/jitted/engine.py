"""What `tapegrad.func` asks of a jitted function: its drivers, made by need, called, and their errors explained.

Arguments and results are trees (see `tapegrad.trees`). Inputs are the leaves of the arguments that are differentiated:
floats and arrays of them. Outputs are the leaves of the result: numbers and arrays. A flat gradient holds the numbers
of all inputs from left to right.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import inspect
import types as pytypes
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import njit
from numba.core.registry import CPUDispatcher

from tapegrad import locks, trees
from tapegrad.array_makers import as_they_are
from tapegrad.debug import MEMORY
from tapegrad.engine import DamagedMemoryError
from tapegrad.jitted import (
    bindings,
    classes,
    containers,
    limits,
    parallel_loops,
    ready,
    records,
    repeats,
    rewriting,
    sharing,
)
from tapegrad.jitted import jacobian_tape as tape
from tapegrad.jitted.active import Taped
from tapegrad.jitted.beside import Beside
from tapegrad.jitted.drivers import pull
from tapegrad.jitted.errors import NotDifferentiableError, refuse_without_compiler, where_is_function
from tapegrad.jitted.forms import Driver, Form

_MOST_TANGENTS = 16  # that are carried at once
_MOST_IN_ONE_RUN = 16  # where there must be one run only
_FREELY = contextlib.nullcontext()
_engines = Beside["Engine"]("engine")


def engine_of(function: Callable[..., Any]) -> Engine:
    """The engine of a jitted function, or of a plain one, which is jitted."""
    if not callable(function):
        raise TypeError(f"a function is differentiated, not {type(function).__name__}")
    known = _engines.get(function)
    if known is None:
        refuse_without_compiler()
        dispatcher = function if isinstance(function, CPUDispatcher) else njit(function)
        known = _engines.setdefault(function, Engine(dispatcher, is_own=dispatcher is not function))
        if dispatcher is function:
            ready.known[function] = known
    return known


def _sharing(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of arguments and places, for arguments that share memory too."""

    @functools.wraps(method)
    def asked(self: Engine, args: Sequence[Any], places: Sequence[int], *rest: Any) -> Any:
        shared = sharing.shared(self, args, places)
        if shared is None:
            return method(self, args, places, *rest)
        return getattr(shared, method.__name__)(*rest)

    return asked


class Engine(ready.Ready):
    """The derivatives of one jitted function."""

    @as_they_are()
    def __init__(self, function: Any, is_own: bool = False) -> None:
        super().__init__(function)
        self.refused = _refused(function, self.signature)
        self.is_own = is_own  # whether nobody else has the jitted function
        if self.refused is None:
            self.function = _by_position(function)
        self.drivers |= ready.drivers_of(function)
        self.variants: dict[Any, Engine] = {}  # that take tuples for other containers, or memory for what shares it
        self.writes: dict[Any, bool] = {}  # whether it writes to arrays that share memory, by the types of arguments
        self.prints = repeats.prints(function)

    def bind(self, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Any]:
        """All arguments by position, defaults included."""
        if self.refused is not None:
            raise self.refused
        if not kwargs and len(args) == self.n_by_position:
            return list(args)
        bound = self.signature.bind(*args, **kwargs)
        if len(bound.args) < len(self.signature.parameters):
            bound.apply_defaults()
        return [*bound.args, *bound.kwargs.values()]

    def run(self, form: Form, *args: Any) -> Any:
        """Call a driver."""
        if not bindings.are_the_same(self.meanings):
            self._forget()
        structures = containers.structures_of(args[: form.n_arguments], form.argnums)
        if structures is not None:
            with containers.explained():
                return self._taking(structures).run(form, *containers.emptied(args, structures))
        limit = limits.current()
        if limit is not None and isinstance(form.kind, Taped) and not form.is_marked:
            form = form._replace(is_limited=True)
        if form in self.owns:
            classes.refuse_shared(self.function, args[: form.n_arguments])
            form = form._replace(owns=True)
        made = self.drivers.get(form)
        if made is None:
            made = self.drivers[form] = Driver(self.function, form)
        if self.is_parallel:
            self._be_ready()
        keeping = limits.kept_to(limit, form.n_tangents, self.function) if form.is_limited else _FREELY
        with keeping:
            try:
                result = made(*args)
            except NotDifferentiableError as error:
                result = self._again(form, args, error)
        if MEMORY:
            self._check_memory()
        return result

    def _made(self, form: Form, args: Sequence[Any]) -> Any:
        return self.drivers.get(form)

    def _be_ready(self) -> None:
        parallel_loops.be_ready()

    def _check_memory(self) -> None:
        """Raise what guards have found."""
        for found in tape.damage():
            function = self.function.py_func
            raise DamagedMemoryError(
                f"tapegrad: {function.__name__} ({where_is_function(function)}) was being differentiated, and memory "
                f"of its tape {found}"
            )

    # --- what `tapegrad.func` asks for: see its protocol `Engine` -----------------------------------------------------

    @staticmethod
    def check(argument: Any, place: int) -> None:
        """Raise TypeError where an argument can't be differentiated."""
        for leaf in trees.leaves(argument):
            if not _is_number(leaf):
                found = " with ".join(_described(argument, leaf))
                raise TypeError(
                    "floats, arrays of float64, float32 or complex128, records that have such fields, and tuples, "
                    f"lists and dictionaries of them are differentiated, but argument {place} is {found}"
                )

    def places(self, args: Sequence[Any], argnums: int | Sequence[int]) -> tuple[int, ...]:
        """The places of the arguments that are differentiated, which can be."""
        numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
        for place in numbers:
            if not -len(args) <= place < len(args):
                raise RuntimeError(f"Got argnum={place}, but only {len(args)} positional inputs")
            self.check(args[place], place)
        return tuple(place % len(args) for place in numbers)

    @staticmethod
    def is_differentiable(argument: Any) -> bool:
        """Whether an argument can be differentiated."""
        return all(map(_is_number, trees.leaves(argument)))

    @_sharing
    def value_and_grad(self, args: Sequence[Any], places: Sequence[int], has_aux: bool) -> tuple[Any, list[Any]]:
        """What the function returns, and a gradient for each input."""
        values, found = self.run(Form("value_and_grad", len(args), tuple(places), has_aux), *args)
        return values, trees.leaves(found)

    @_sharing
    def vjp(self, args: Sequence[Any], places: Sequence[int], has_aux: bool) -> tuple[Any, Callable[..., list[Any]]]:
        """What the function returns, and a function of cotangents; the tape lives as long as it does."""
        if not places:
            raise TypeError("none of the primals is a float, a float64 array or a tuple of them")
        recording = Recording(self, Form("record", len(args), tuple(places), has_aux), args)
        inputs, values = _inputs(args, places), recording.values
        outputs = trees.leaves(values[0] if has_aux else values)

        def pull(cotangents: Sequence[Any]) -> list[Any]:
            return pieces(recording.pull(flat(cotangents, outputs)), inputs)

        return recording.values, pull

    @_sharing
    def jvp(
        self, args: Sequence[Any], places: Sequence[int], tangents: Sequence[Any], has_aux: bool
    ) -> tuple[Any, list[Any]]:
        """What the function returns, and a tangent for each output, None for those that have none."""
        along = flat(tangents, _inputs(args, places))
        values, found = self.run(Form("jvp", len(args), tuple(places), has_aux, 1), *args, along)
        return values, pieces(found, trees.leaves(values[0] if has_aux else values))

    def linearize(self, args: Sequence[Any], places: Sequence[int]) -> tuple[Any, Callable[[Sequence[Any]], list[Any]]]:
        """What the function returns, and a function of tangents, one for each input: it is run again for each."""
        kept, states = sharing.apart(args), repeats.states()

        def push(tangents: Sequence[Any]) -> list[Any]:
            with repeats.again(states):
                return self.jvp(sharing.apart(kept), places, tangents, False)[1]

        values, _ = self.jvp(args, places, [np.zeros(np.shape(x)) for x in _inputs(args, places)], False)
        return values, push

    @_sharing
    def jacobian(
        self, args: Sequence[Any], places: Sequence[int], has_aux: bool, mode: str, chunk_size: int | None = None
    ) -> tuple[Any, list[list[Any] | None]]:
        """What the function returns, and for each output a Jacobian by each input; None where it has none."""
        inputs, form = _of_reals("a Jacobian", args, places), Form("jacrev", len(args), tuple(places), has_aux)
        n = sum(map(size, inputs))
        if repeats.is_seen(self.prints, self._others(args, places)):
            forward = mode == "forward" and n <= _MOST_TANGENTS  # in one run, as in reverse mode
        else:
            forward = mode == "forward" or (mode == "auto" and n <= 2 * self.n_outputs(form, args))
        if forward and n:
            form = form._replace(text="jacfwd", n_tangents=_n_tangents(min(n, chunk_size or n)))
        values, matrix = self.run(form, *args)
        return values, blocks(matrix, trees.leaves(values[0] if has_aux else values), inputs)

    def n_inputs(self, args: Sequence[Any], places: Sequence[int]) -> int:
        """How many numbers are differentiated by."""
        return sum(map(size, _inputs(args, places)))

    def along(self, args: Sequence[Any], places: Sequence[int], directions: np.ndarray) -> np.ndarray:
        """The derivatives of all numbers that are returned along the columns of a matrix, a row for each of these."""
        _of_reals("a Jacobian", args, places)
        n = directions.shape[1]
        n_tangents = min(_n_tangents(n), 4)
        if n > n_tangents and (seen := repeats.is_seen(self.prints, self._others(args, places))):
            if n > _MOST_TANGENTS:
                raise RuntimeError(
                    f"derivatives along {n} directions take several runs of {self.function.__name__}, which {seen}, so "
                    "that it would be seen: take that out, or take tapegrad.func.jacrev"
                )
            n_tangents = _n_tangents(n)
        padded = np.zeros((len(directions), n + -n % n_tangents))
        padded[:, :n] = directions
        found = self.run(Form("along", len(args), tuple(places), False, n_tangents), *args, padded)
        return np.asarray(found)[:n]

    @_sharing
    def hvp(
        self, args: Sequence[Any], places: Sequence[int], tangents: Sequence[Any], has_aux: bool = False
    ) -> tuple[Any, list[Any]]:
        """What the function returns, and the product of its Hessian with tangents, one for each input."""
        inputs = _inputs(args, places)
        value, _, product = self.run(Form("hvp", len(args), tuple(places), has_aux, 1), *args, flat(tangents, inputs))
        return value, pieces(product, inputs)

    @_sharing
    def pushed(
        self, args: Sequence[Any], places: Sequence[int], directions: Sequence[Sequence[Any]], has_aux: bool = False
    ) -> list[Any]:
        """The derivative of each output along all directions, which are tangents for the inputs each."""
        form = Form("jvp", len(args), tuple(places), has_aux, 2 ** len(directions) - 1, depth=len(directions))
        values, found = self.run(form, *args, _along(directions, _inputs(args, places)))
        return pieces(found, trees.leaves(values[0] if has_aux else values))

    @_sharing
    def pulled(
        self, args: Sequence[Any], places: Sequence[int], directions: Sequence[Sequence[Any]],
        seeds: np.ndarray, has_aux: bool = False,
    ) -> list[Any]:  # fmt: skip
        """The derivative along all directions of what seeds, one for each number that is returned, pull back."""
        form = Form("pulled", len(args), tuple(places), has_aux, 2 ** len(directions) - 1, depth=len(directions))
        inputs = _inputs(args, places)
        return pieces(self.run(form, *args, _along(directions, inputs), seeds)[1], inputs)

    @_sharing
    def hessian(self, args: Sequence[Any], places: Sequence[int]) -> tuple[Any, list[Any]]:
        """What the function returns, and second derivatives by each pair of inputs."""
        inputs = _of_reals("a Hessian", args, places)
        n = sum(map(size, inputs))
        n_tangents = min(_n_tangents(max(n, 1)), 4)
        seen = repeats.is_seen(self.prints, self._others(args, places)) if n > n_tangents else None
        if seen:
            if n > _MOST_IN_ONE_RUN:
                raise RuntimeError(
                    f"the Hessian by {n} numbers takes several runs of {self.function.__name__}, which {seen}, so that "
                    f"it would be seen: take that out, or differentiate by at most {_MOST_IN_ONE_RUN} numbers"
                )
            n_tangents = n
        value, matrix = self.run(Form("hessian", len(args), tuple(places), False, n_tangents), *args)
        return value, [blocks(matrix, inputs, inputs)]

    # --- how it is done -----------------------------------------------------------------------------------------------

    def value(self, args: Sequence[Any], argnums: tuple[int, ...] = ()) -> Any:
        """What the function returns."""
        structures = containers.structures_of(args, argnums)
        if structures is not None:
            return self._taking(structures).value(containers.emptied(args, structures))
        return self.function(*args)

    def n_outputs(self, form: Form, args: Sequence[Any]) -> int:
        """How many numbers the function returns: it is called to see, as if it weren't."""
        with repeats.again(repeats.states()):
            values = self.value(sharing.apart(args), form.argnums)
        return sum(map(size, trees.leaves(values[0] if form.has_aux else values)))

    def _forget(self) -> None:
        """Names have other meanings by now: what was compiled may not be what the plain function calls."""
        self.drivers.clear()
        self.at_once.clear()
        self.variants.clear()
        self.owns.clear()
        if self.is_own:
            self.function = njit(self.function.py_func)
        self.meanings, self.prints = bindings.meanings(self.function), repeats.prints(self.function)
        rewriting.forget()

    @staticmethod
    def _others(args: Sequence[Any], places: Sequence[int]) -> list[Any]:
        return [a for i, a in enumerate(args) if i not in places]

    def _taking(self, structures: tuple[trees.Node | None, ...]) -> Engine:
        known = self.variants.get(structures)
        if known is None:
            known = self.variants[structures] = Engine(containers.wrapped(self.function, structures))
        return known

    def _again(self, form: Form, args: Sequence[Any], error: NotDifferentiableError) -> Any:
        """What didn't compile may do so with copies of the arrays that aren't differentiated, if it writes to one.

        Where it doesn't, what stands in the way is what is said then; what was said first is the cause that is shown.
        """
        passive = [a for i, a in enumerate(args[: form.n_arguments]) if i not in form.argnums]
        if form.owns or not any(map(_can_be_owned, passive)):
            raise error
        classes.refuse_shared(self.function, args[: form.n_arguments])
        owning = form._replace(owns=True)
        made = self.drivers[owning] = Driver(self.function, owning)
        try:
            result = made(*args)
        except NotDifferentiableError as other:
            del self.drivers[owning]
            raise other from (None if other.text == error.text else error)
        self.owns.add(form)
        return result


class Recording:
    """A tape of its own, that outlives the call: what the function returned by `vjp` sweeps."""

    def __init__(self, engine: Engine, form: Form, args: Sequence[Any]) -> None:
        tape.connect()
        self.words = np.zeros(tape.WORDS, np.int64)
        self._lock = locks.of_object()
        header = tape.header()
        before = bytes(header)
        tape.begin(header)
        try:
            self.values, self.out, self.row, self.n = engine.run(form, *args)
            self.words[:] = header[:]
        finally:
            ctypes.memmove(header, before, len(before))
        weakref.finalize(self, tape.dispose_words, self.words)

    @property
    def nbytes(self) -> int:
        """The bytes that it holds."""
        return tape.nbytes_of(self.words)

    def pull(self, seeds: np.ndarray) -> np.ndarray:
        """The product of seeds, one for each result, with the Jacobian.

        The tape is the thread's meanwhile: blocks may record in the sweep.
        """
        header = tape.header()
        before = bytes(header)
        with self._lock:
            header[:] = self.words.tolist()
            try:
                return np.asarray(pull(ctypes.addressof(header), self.out, seeds, self.row, self.n))
            finally:
                self.words[:] = header[:]
                ctypes.memmove(header, before, len(before))


# --- parameters -------------------------------------------------------------------------------------------------------


def _refused(function: Any, signature: inspect.Signature) -> NotDifferentiableError | None:
    """The error of a function whose parameters Numba can't compile."""
    of_kind = {p.kind: p for p in signature.parameters.values()}
    found = of_kind.get(inspect.Parameter.VAR_KEYWORD)
    if found is None and inspect.Parameter.VAR_POSITIONAL in of_kind:
        found = of_kind.get(inspect.Parameter.KEYWORD_ONLY)  # behind others
    if found is None:
        return None
    repair = "Numba doesn't compile it either: write its parameters out"
    return NotDifferentiableError(
        f"a function with the parameter `{found}`", where_is_function(function.py_func), repair
    )


def _by_position(function: Any) -> Any:
    """A jitted function that is given by position what another takes by keyword only: compiled code calls it so."""
    users, code = function.py_func, function.py_func.__code__
    if not code.co_kwonlyargcount:
        return function
    n = code.co_argcount + code.co_kwonlyargcount
    code = code.replace(co_argcount=n, co_posonlyargcount=0, co_kwonlyargcount=0)
    made = pytypes.FunctionType(code, users.__globals__, users.__name__, None, users.__closure__)
    made.__module__, made.__qualname__ = users.__module__, users.__qualname__
    return CPUDispatcher(made, locals=function.locals, targetoptions=function.targetoptions)


# --- leaves, and the numbers in them ----------------------------------------------------------------------------------


_REAL = np.dtype(np.float64), np.dtype(np.float32)


def _is_number(leaf: Any) -> bool:
    return isinstance(leaf, (float, np.float32, complex)) or (
        isinstance(leaf, np.ndarray) and records.has_numbers(leaf.dtype)
    )


def _is_complex(leaf: Any) -> bool:
    return isinstance(leaf, complex) or (isinstance(leaf, np.ndarray) and leaf.dtype == np.complex128)


def _can_be_owned(argument: Any) -> bool:
    """Whether a function that writes to an argument, which isn't differentiated, can be given a copy."""
    return isinstance(argument, (*classes.CONTAINERS, *classes.INSTANCES)) or (
        isinstance(argument, np.ndarray) and records.has_numbers(argument.dtype)
    )


def _described(argument: Any, leaf: Any) -> list[str]:
    """What an argument is, and what in it can't be differentiated, with the likely repair."""
    if isinstance(leaf, np.ndarray):
        text = f"an array of {leaf.dtype}: convert it with .astype(float)"
    elif isinstance(leaf, (int, np.integer)):
        text = f"the int {leaf}: write it as a float, or name other arguments in argnums"
    else:
        repair = "give its to_numpy(), or " if hasattr(leaf, "to_numpy") else ""
        text = f"a {type(leaf).__name__}: {repair}name other arguments in argnums"
    return [text] if leaf is argument else [f"a {type(argument).__name__}", text]


def _inputs(args: Sequence[Any], places: Sequence[int]) -> list[Any]:
    return [leaf for place in places for leaf in trees.leaves(args[place])]


def _along(directions: Sequence[Sequence[Any]], inputs: Sequence[Any]) -> np.ndarray:
    """Tangents of the inputs' numbers: a vector, or, of several directions, a row of mixed tangents a number."""
    columns = [flat(tangents, inputs) for tangents in directions]
    if len(columns) == 1:
        return columns[0]
    along = np.zeros((columns[0].size, 2 ** len(columns) - 1))
    for k, column in enumerate(columns):
        along[:, 2**k - 1] = column
    return along


def _of_reals(name: str, args: Sequence[Any], places: Sequence[int]) -> list[Any]:
    """The inputs of what is a matrix by real numbers only: by a complex one there are two derivatives."""
    inputs = _inputs(args, places)
    if any(map(_is_complex, inputs)):
        raise TypeError(f"{name} is by real numbers, but an argument is complex: take grad, vjp or jvp, or its parts")
    return inputs


def _n_tangents(n: int) -> int:
    """How many tangents to carry at once: few widths, since each is compiled for itself."""
    return next(width for width in (1, 2, 4, 8, _MOST_TANGENTS) if width >= min(n, _MOST_TANGENTS))


def size(leaf: Any) -> int:
    """How many numbers with derivatives a leaf has: two for each that is complex."""
    if _is_complex(leaf):
        return 2 * int(np.size(leaf))
    if isinstance(leaf, np.ndarray):
        return leaf.size * (1 if leaf.dtype in _REAL else records.width(leaf.dtype))
    return 1 if isinstance(leaf, (float, np.float32)) else 0


def flat(leaves: Sequence[Any], like: Sequence[Any] | None = None) -> np.ndarray:
    """The numbers of leaves, each as real or complex as its like, in a vector; none of one whose like has none."""
    parts = []
    for leaf, other in zip(leaves, leaves if like is None else like, strict=True):
        if like is not None and size(other) == 0:
            continue
        if np.iscomplexobj(leaf) and not _is_complex(other):
            raise TypeError("a tangent, or cotangent, of what is real is complex: give its real part")
        if records.are(leaf) or records.are(other):
            parts.append(records.flat(leaf, other))
            continue
        dtype = np.complex128 if _is_complex(other) else np.float64
        parts.append(np.ascontiguousarray(leaf, dtype).reshape(-1).view(np.float64))
    return np.concatenate(parts) if parts else np.empty(0)


def pieces(vector: np.ndarray, leaves: Sequence[Any]) -> list[Any]:
    """A vector in the form of leaves, None for those without numbers.

    Further dimensions of `vector`, before the last, stay in front.
    """
    found, at = [], 0
    for leaf in leaves:
        n = size(leaf)
        part = vector[..., at : at + n]
        at += n
        if _is_complex(leaf):
            part = np.ascontiguousarray(part).view(np.complex128)
            shaped = part.reshape(vector.shape[:-1] + np.shape(leaf))
            found.append(complex(shaped) if shaped.ndim == 0 and not isinstance(leaf, np.ndarray) else shaped)
        elif records.are(leaf):
            found.append(records.from_flat(part, leaf) if n or leaf.size == 0 else None)
        elif isinstance(leaf, np.ndarray) and leaf.dtype in _REAL:
            found.append(part.reshape(*vector.shape[:-1], *leaf.shape).astype(leaf.dtype, copy=False))
        elif n:
            found.append(float(part[0]) if vector.ndim == 1 else part[..., 0])
        else:
            found.append(None)
    return found


def blocks(matrix: np.ndarray, outputs: Sequence[Any], inputs: Sequence[Any]) -> list[list[Any] | None]:
    """A Jacobian by outputs, and of each by inputs; None for outputs without numbers."""
    found: list[list[Any] | None] = []
    at = 0
    for y in outputs:
        n = size(y)
        rows = matrix[at : at + n]
        at += n
        if not _is_number(y):
            found.append(None)
        elif records.are(y):
            raise TypeError("Jacobians and Hessians are of numbers, not of records: take the fields by themselves")
        elif _is_complex(y):
            parts = _block(y, rows[::2], inputs), _block(y, rows[1::2], inputs)
            found.append([real + 1j * imag for real, imag in zip(*parts, strict=True)])
        else:
            found.append(_block(y, rows, inputs))
    return found


def _block(y: Any, rows: np.ndarray, inputs: Sequence[Any]) -> list[Any]:
    """The rows of one output, by inputs."""
    if isinstance(y, np.ndarray):
        return [block.reshape(y.shape + block.shape[1:]) for block in pieces(rows, inputs)]
    return pieces(rows[0], inputs)
