"""Arguments that share memory: the same array twice, slices that overlap, a view beside its base.

Lifted one by one, they would be arrays of their own, and what is written through one could not be read through another.
So the memory itself becomes the argument, and the function is wrapped in one that makes the arrays again:

    f(x, x[1:3])        def wrapped(memory, order0, order1):
                            return f(view(memory, order0), view(memory, order1))

      memory     one vector for all arrays that share, from the lowest element to the highest
      order      where an array's first element stands in it, its shape, and its strides in elements

Derivatives by the memory are handed out by these orders: by each array that of its elements, whichever argument they
are read or written through. Of a function that writes to none of them (Numba compiles it with arrays that can't be
written to) arguments that share memory are arguments of their own, as mathematics has it: f(x, x) has two partial
derivatives.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numba import typeof
from numba.core import cgutils, errors, types
from numba.core.imputils import impl_ret_borrowed
from numba.core.registry import CPUDispatcher
from numba.extending import intrinsic, overload
from numba.np import arrayobj
from numba.typed import Dict, List

from tapegrad import trees
from tapegrad.jitted import checking, classes, containers, records
from tapegrad.jitted.inner import OPTIONS, define
from tapegrad.jitted.ready import are_apart, bounds, meets_itself

if TYPE_CHECKING:
    from tapegrad.jitted.engine import Engine

_MOST_WORK = 1000  # for NumPy to solve exactly whether strided arrays meet; beyond that they do
_ITEM = 8


class Order(NamedTuple):
    """How an array lies in a memory, in elements."""

    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def elements(self) -> np.ndarray:
        """The place of each element."""
        places = np.full(self.shape, self.offset)
        for axis, (n, stride) in enumerate(zip(self.shape, self.strides, strict=True)):
            places += np.arange(n).reshape(-1, *[1] * (len(self.shape) - axis - 1)) * stride
        return places


class Memory:
    """One copy of the memory that arrays share."""

    def __init__(self, arrays: Sequence[np.ndarray]) -> None:
        ends = [bounds(a) for a in arrays]
        low, high = min(b[0] for b in ends), max(b[1] for b in ends)
        self.arrays, self.copy = arrays, np.zeros((high - low) // _ITEM)
        self.orders = []
        for a, (start, _) in zip(arrays, ends, strict=True):
            first = start - sum(min(s * (n - 1), 0) for s, n in zip(a.strides, a.shape, strict=True))
            if (first - low) % _ITEM or any(s % _ITEM for s in a.strides):
                raise ValueError("arguments share memory, but not whole numbers of it: give copies of them")
            self.orders.append(Order((first - low) // _ITEM, a.shape, tuple(s // _ITEM for s in a.strides)))
            self.seen(-1)[...] = a

    def seen(self, k: int) -> np.ndarray:
        """The array `k`, in the copy."""
        order = self.orders[k]
        strides = [s * _ITEM for s in order.strides]
        return np.ndarray(order.shape, np.float64, self.copy, order.offset * _ITEM, strides)


def groups_of(arrays: Sequence[Any]) -> list[list[int]]:
    """The places of arrays that share memory, and of those whose own elements do: one list for each memory."""
    found: list[list[int]] = []
    for k, a in enumerate(arrays):
        if not isinstance(a, np.ndarray) or a.size == 0:
            continue
        met = [group for group in found if any(_meet(arrays[i], a) for i in group)]
        found = [group for group in found if group not in met] + [[*itertools.chain(*met), k]]
    return [sorted(group) for group in found if len(group) > 1 or meets_itself(arrays[group[0]])]


def _meet(a: np.ndarray, b: np.ndarray) -> bool:
    if not np.may_share_memory(a, b):
        return False
    try:
        return np.shares_memory(a, b, max_work=_MOST_WORK)
    except np.exceptions.TooHardError:
        return True


def copies_of(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Copies of arrays, which share memory as the arrays do."""
    copies = [np.asarray(a).copy(order="K") for a in arrays]
    for group in groups_of(arrays):
        memory = Memory([arrays[k] for k in group])
        for i, k in enumerate(group):
            copies[k] = memory.seen(i)
    return copies


def apart(args: Sequence[Any]) -> list[Any]:
    """Copies of arguments, which share memory as they do: for a run that nobody is to see."""
    leaves, structure = trees.flatten(list(args))
    ours = [k for k, leaf in enumerate(leaves) if isinstance(leaf, np.ndarray) and leaf.dtype == np.float64]
    copies = dict(zip(ours, copies_of([leaves[k] for k in ours]), strict=True))
    found = [copies[k] if k in copies else _apart(leaf) for k, leaf in enumerate(leaves)]
    return list(trees.unflatten(structure, found))


def _apart(leaf: Any) -> Any:
    if isinstance(leaf, classes.INSTANCES):
        return classes.copy_of(leaf)
    if isinstance(leaf, np.ndarray):
        return leaf.copy(order="K")
    return leaf.copy() if isinstance(leaf, (List, Dict)) else leaf


def given_once(parts: Sequence[Any], arrays: Sequence[Any]) -> list[Any]:
    """Derivatives by arrays; by an element that several arrays share it is left to the first of them."""
    parts = list(parts)
    for group in groups_of(arrays):
        memory = Memory([arrays[k] for k in group])
        taken = np.zeros(memory.copy.size, bool)
        for order, k in zip(memory.orders, group, strict=True):
            places = order.elements()
            parts[k] = np.where(taken[places], 0.0, parts[k])
            taken[places] = True
    return parts


# --- where jitted code asks for a gradient ---------------------------------------------------------------------------


@intrinsic
def may_meet(typingctx, a, b):
    """Whether the memory of two arrays may overlap."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bounds = []
        for kind, value in zip(sig.args, args, strict=True):
            array = arrayobj.make_array(kind)(context, builder, value)
            shape, strides = (cgutils.unpack_tuple(builder, part, kind.ndim) for part in (array.shape, array.strides))
            bounds += arrayobj.get_array_memory_extents(context, builder, kind, array, shape, strides, array.data)
        return arrayobj.extents_may_overlap(context, builder, *bounds)

    return types.boolean(a, b), codegen


def refusing(function: Any) -> Any:
    """For drivers that are called as they are: refuse arguments that share memory, if the function may write to it."""

    def refuse_shared(args):
        raise NotImplementedError

    @overload(refuse_shared, OPTIONS)
    def _refuse_shared(args):
        arrays = list(arrays_in(args, "args"))
        if len(arrays) < 2 or _compiles(function, tuple(map(frozen_kind, args))):
            return lambda args: None
        met = " or ".join(f"may_meet({a}, {b})" for a, b in itertools.combinations(arrays, 2))
        text = (
            f"arguments of {function.__name__} share memory, and it writes to some: give copies, or take "
            "tapegrad.func.value_and_grad, which knows of it"
        )
        lines = ["def code(args):", f" if {met}:", f"  raise ValueError({text!r})"]
        return define("\n".join(lines), "code", {"may_meet": may_meet})

    return refuse_shared


def arrays_in(kind: Any, path: str) -> Iterator[str]:
    """The expressions of the arrays in a tuple of this type."""
    if isinstance(kind, types.BaseTuple):
        for i, item in enumerate(kind):
            yield from arrays_in(item, f"{path}[{i}]")
    elif isinstance(kind, types.Array):
        yield path


def frozen_kind(kind: Any) -> Any:
    """The type, with arrays that can't be written to."""
    if isinstance(kind, types.BaseTuple):
        return types.BaseTuple.from_types([frozen_kind(k) for k in kind], getattr(kind, "instance_class", None))
    return kind.copy(readonly=True) if isinstance(kind, types.Array) else types.unliteral(kind)


# --- the wrapped function ---------------------------------------------------------------------------------------------


@functools.cache
def viewed(layout: str) -> Any:
    """For jitted code: the array of an order in a memory, of a layout that is known when compiling."""

    @intrinsic
    def view(typingctx: Any, memory: Any, order: Any) -> Any:
        made = types.Array(memory.dtype, len(order[1]), layout)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            whole = arrayobj.make_array(sig.args[0])(context, builder, args[0])
            offset, shape, strides = cgutils.unpack_tuple(builder, args[1], 3)
            shape, strides = (cgutils.unpack_tuple(builder, part, made.ndim) for part in (shape, strides))
            array = arrayobj.make_array(made)(context, builder)
            arrayobj.populate_array(
                array, data=builder.gep(whole.data, [offset]), shape=shape,
                strides=[builder.mul(s, whole.itemsize) for s in strides], itemsize=whole.itemsize,
                meminfo=whole.meminfo, parent=whole.parent,
            )  # fmt: skip
            return impl_ret_borrowed(context, builder, made, array._getvalue())

        return made(memory, order), codegen

    checking.make_known(view)
    return view


class Shared:
    """What `tapegrad.func` asks for (its protocol `Engine`), for one call with arguments that share memory."""

    def __init__(self, engine: Engine, args: Sequence[Any], places: Sequence[int], groups: list[list[int]]) -> None:
        trees_of = [trees.flatten(a) for a in args]
        starts = list(itertools.accumulate((len(leaves) for leaves, _ in trees_of), initial=0))
        flat = [leaf for leaves, _ in trees_of for leaf in leaves]
        self.memories = [Memory([flat[k] for k in group]) for group in groups]
        self.args: list[Any] = [memory.copy for memory in self.memories]
        in_memory = {k: (m, i) for m, group in enumerate(groups) for i, k in enumerate(group)}
        sources: dict[int, tuple[int, Order | None]] = {}  # of a leaf: the argument that it is in, and how
        parts: list[tuple[trees.Node | None, tuple[Any, ...]]] = []
        for a, (leaves, structure), start in zip(args, trees_of, starts[:-1], strict=True):
            numbers = range(start, start + len(leaves))
            if not any(k in in_memory for k in numbers):
                for k in numbers:
                    sources[k] = len(self.args), None
                parts.append((None, (None,)))
                self.args.append(a)
                continue
            for k in numbers:
                memory, i = in_memory.get(k, (None, 0))
                order = None if memory is None else self.memories[memory].orders[i]
                sources[k] = (len(self.args) if memory is None else memory), order
                self.args.append(flat[k] if order is None else tuple(order))
            made = tuple((in_memory[k][0], typeof(flat[k]).layout) if k in in_memory else None for k in numbers)
            parts.append((structure, made))
        differentiated = [k for place in places for k in range(starts[place], starts[place + 1])]
        self.places = sorted({sources[k][0] for k in differentiated})
        self.inputs = self._inputs([sources[k] for k in differentiated])
        key = len(groups), tuple(parts)
        if key not in engine.variants:
            engine.variants[key] = type(engine)(_wrapped(engine.function, *key))
        self.engine = engine.variants[key]

    def _inputs(self, sources: Sequence[tuple[int, Order | None]]) -> list[tuple[int, np.ndarray | None]]:
        """For each input: which of the wrapped function's it is in, and the places of its elements in a memory."""
        counts = [len(trees.leaves(self.args[place])) for place in self.places]
        begins = dict(zip(self.places, itertools.accumulate(counts, initial=0), strict=False))
        found, passed = [], dict.fromkeys(self.places, 0)
        for place, order in sources:
            found.append((begins[place] + passed[place], None if order is None else order.elements()))
            passed[place] += order is None
        return found

    def _of_inputs(self, parts: Sequence[Any]) -> list[Any]:
        return [parts[k] if where is None else parts[k][..., where] for k, where in self.inputs]

    def _of_memories(self, tangents: Sequence[Any]) -> list[Any]:
        """Tangents of the wrapped function's inputs: a memory's is the sum of what is given for its elements."""
        leaves = [leaf for place in self.places for leaf in trees.leaves(self.args[place])]
        along: list[Any] = [np.zeros(np.shape(leaf)) for leaf in leaves]
        for (k, where), tangent in zip(self.inputs, tangents, strict=True):
            if where is None:
                along[k] = tangent
            else:
                np.add.at(along[k], where, tangent)
        return along

    def _written(self) -> None:
        """What was written into memories that aren't differentiated is given back."""
        for k, memory in enumerate(self.memories):
            if k not in self.places:
                for i, a in enumerate(memory.arrays):
                    if a.flags.writeable:
                        a[...] = memory.seen(i)

    def value_and_grad(self, has_aux: bool) -> tuple[Any, list[Any]]:
        """What the function returns, and a gradient for each input."""
        values, found = self.engine.value_and_grad(self.args, self.places, has_aux)
        self._written()
        return values, self._of_inputs(found)

    def vjp(self, has_aux: bool) -> tuple[Any, Callable[..., list[Any]]]:
        """What the function returns, and a function of cotangents."""
        values, pull = self.engine.vjp(self.args, self.places, has_aux)
        self._written()
        return values, lambda cotangents: self._of_inputs(pull(cotangents))

    def jvp(self, tangents: Sequence[Any], has_aux: bool) -> tuple[Any, list[Any]]:
        """What the function returns, and a tangent for each output."""
        found = self.engine.jvp(self.args, self.places, self._of_memories(tangents), has_aux)
        self._written()
        return found

    def jacobian(self, has_aux: bool, mode: str, chunk_size: int | None = None) -> tuple[Any, list[list[Any] | None]]:
        """What the function returns, and for each output a Jacobian by each input."""
        values, found = self.engine.jacobian(self.args, self.places, has_aux, mode, chunk_size)
        self._written()
        return values, [None if row is None else self._of_inputs(row) for row in found]

    def hvp(self, tangents: Sequence[Any], has_aux: bool = False) -> tuple[Any, list[Any]]:
        """What the function returns, and the product of its Hessian with tangents."""
        value, product = self.engine.hvp(self.args, self.places, self._of_memories(tangents), has_aux)
        self._written()
        return value, self._of_inputs(product)

    def pushed(self, directions: Sequence[Sequence[Any]], has_aux: bool = False) -> list[Any]:
        """The derivative of each output along all directions."""
        along = [self._of_memories(tangents) for tangents in directions]
        return self.engine.pushed(self.args, self.places, along, has_aux)

    def pulled(self, directions: Sequence[Sequence[Any]], seeds: np.ndarray, has_aux: bool = False) -> list[Any]:
        """The derivative along all directions of what seeds pull back, for each input."""
        along = [self._of_memories(tangents) for tangents in directions]
        return self._of_inputs(self.engine.pulled(self.args, self.places, along, seeds, has_aux))

    def hessian(self) -> tuple[Any, list[Any]]:
        """What the function returns, and second derivatives by each pair of inputs."""
        value, (found,) = self.engine.hessian(self.args, self.places)
        self._written()
        rows = [found[k] if where is None else [block[where] for block in found[k]] for k, where in self.inputs]
        return value, [[self._of_inputs(row) for row in rows]]


def shared(engine: Engine, args: Sequence[Any], places: Sequence[int]) -> Shared | None:
    """The call, if arguments share memory that is differentiated or written to, and this can be told."""
    if are_apart(args):
        return None
    flat = trees.leaves(list(args))
    groups = groups_of(flat)
    groups = [group for group in groups if any(records.has_numbers(flat[k].dtype) for k in group)]
    if not groups:
        return None
    met = {k for group in groups for k in group}
    if not _writes(engine, args, places, met):
        return None
    if any(flat[k].dtype != np.float64 for k in met):
        raise ValueError(
            f"{engine.function.__name__} may write to arguments that share memory as {_dtypes(flat, met)}: give copies"
        )
    return Shared(engine, args, places, groups)


def _dtypes(flat: Sequence[Any], met: set[int]) -> str:
    return " and ".join(sorted({str(flat[k].dtype) for k in met}))


def _writes(engine: Engine, args: Sequence[Any], places: Sequence[int], met: set[int]) -> bool:
    """Whether the function doesn't compile if the arrays that share memory can't be written to.

    Numba lets records of an array be written to always.
    """
    if any(leaf.dtype.fields for n, leaf in enumerate(trees.leaves(list(args))) if n in met):
        return True
    numbers, frozen = itertools.count(), []
    for a in args:
        leaves, structure = trees.flatten(a)
        frozen.append(trees.unflatten(structure, [_frozen(x) if next(numbers) in met else x for x in leaves]))
    structures = containers.structures_of(frozen, places)
    if structures is not None:
        engine, frozen = engine._taking(structures), containers.emptied(frozen, structures)
    kinds = tuple(typeof(a) for a in frozen)
    if kinds not in engine.writes:
        engine.writes[kinds] = not _compiles(engine.function, kinds)
    return engine.writes[kinds]


def _compiles(function: Any, kinds: tuple[Any, ...]) -> bool:
    options = {k: v for k, v in function.targetoptions.items() if k != "parallel"}
    probe = CPUDispatcher(function.py_func, locals=function.locals, targetoptions=options)
    try:
        probe.compile(kinds)
    except (errors.NumbaError, AttributeError):  # the latter is what Numba has for `x += y` of what is read only
        return False
    return True


def _frozen(a: np.ndarray) -> np.ndarray:
    view = a.view()
    view.flags.writeable = False
    return view


def _wrapped(function: Any, n_memories: int, parts: tuple[tuple[trees.Node | None, tuple[Any, ...]], ...]) -> Any:
    """The jitted function of memories, of orders in them, and of all that shares none."""
    scope: dict[str, Any] = {"function": function, "view_C": viewed("C"), "view_F": viewed("F"), "view_A": viewed("A")}
    parameters, made = [f"m{k}" for k in range(n_memories)], []
    for structure, leaves in parts:
        items = []
        for leaf in leaves:
            name = f"a{len(parameters)}"
            parameters.append(name)
            items.append(name if leaf is None else f"view_{leaf[1]}(m{leaf[0]}, {name})")
        made.append(containers.text_of(structure, iter(items), scope))
    return containers.function_of(f"def wrapped({', '.join(parameters)}):\n return function({', '.join(made)})", scope)
