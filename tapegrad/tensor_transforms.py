"""The engine behind `tapegrad.func` for plain functions: a level of its own on the tape for each application.

    the caller's x --+-- requires grad: a view of it, behind which its own graph goes on --+-- func -- outputs
                     +-- doesn't:       a leaf that nobody else knows                    --+

Arrays and numbers become such leaves too. What belongs to them comes back as arrays and numbers; outputs do where none
of what is differentiated is a Tensor. But what has a graph of the caller's stays a Tensor: nothing of it is lost.

Gradients are taken by the inputs. What they and the outputs are to the caller depends on what else is behind them: with
tensors of the caller's that require grad (arguments, tensors that the function reads, inputs of an outer level) the
gradients are recorded, and can be differentiated again; with none, they are plain values, and the compiled reverse
sweep computes them. So levels nest, and each knows its own inputs from those of others.

Inside `vmap` inputs are batched at all levels of it, whatever they were, and so have derivatives for each sample. Since
samples don't depend on each other, one sweep of the tensors behind the batched ones serves them all.

Products of the Jacobian with tangents are recorded likewise, forward through the rows between inputs and outputs
(`autograd/tangents.py`); Jacobians and Hessians push many tangents at once, in lanes.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any

import numpy as np

from tapegrad import array_makers, autograd, creation, engine, trees
from tapegrad.autograd import tangents, walk
from tapegrad.autograd.function import held
from tapegrad.autograd.hooks import going
from tapegrad.autograd.recorded import Lender
from tapegrad.batched import Batched, bottom, innermost, levels, of_each_sample, samples_of, wrap
from tapegrad.batched import Level as Batch
from tapegrad.conversion import as_operand, leaf_of
from tapegrad.dtypes import BY_NUMPY
from tapegrad.functions import shaping
from tapegrad.interop import export, given_up
from tapegrad.kinds import GRADIENTS, LARGE, TANGENTS, array_at
from tapegrad.recording import cast, local, steady
from tapegrad.tape import current_tape, in_grad_mode
from tapegrad.tensor import Tensor, adopt, depth_of_user, from_array, owning

_WORDS, _ADJOINT = 4, 2  # of a slot

_CALLS = {"vjp": "vjp(f, *primals)", "jvp": "jvp(f, primals, tangents)"}  # how errors write calls of several arguments


class Level:
    """A function applied to inputs of its own."""

    __slots__ = (
        "args", "batches", "behind", "func", "given", "gives_tensors", "inputs", "is_recording", "own", "slots", "tape",
    )  # fmt: skip

    def __init__(self, func: Callable[..., Any], args: Sequence[Any], places: Sequence[int]) -> None:
        self.tape = tape = current_tape()
        self.batches = levels()[:]  # of `vmap`, in which this level is
        # For the caller: inside it always is.
        self.is_recording = bool(tape.grad_enabled) or tape.duals is not None
        self.own: dict[int, Tensor] = {}  # leaves that nobody else knows, by their slots
        self.behind: dict[int, int] = {}  # the slots of inputs behind which the caller's graph goes on, and their bits
        self.func = func
        self.args = list(args)
        self.given: list[Any] = []  # the leaves of what is differentiated, and what takes their places
        self.inputs: list[Tensor] = []
        self.slots: list[int] = []  # of the inputs, as they are at first
        self.gives_tensors = False
        if len(places) == 1 and not self.batches and (x := args[places[0]]).__class__ is np.ndarray:  # most often
            leaf = as_floats(x, requires_grad=True)
            slot, self.args[places[0]] = leaf._slot, leaf
            self.own[slot] = leaf
            self.given, self.inputs, self.slots = [x], [leaf], [slot]
            return
        for place in places:
            leaves, structure = trees.flatten(args[place])
            inputs = [self._input(x) for x in leaves]
            self.args[place] = trees.unflatten(structure, inputs)
            self.given += leaves
            self.inputs += inputs
        self.slots += [bottom(t)._slot for t in self.inputs]

    def __enter__(self) -> Level:
        if not self.gives_tensors:
            array_makers.begin(self.tape)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.gives_tensors:
            array_makers.end(self.tape)
        for slot in self._own_slots():
            self.tape.leaves.pop(slot, None)  # no gradient is accumulated in them, also not if their graph lives on

    def _input(self, x: Any) -> Tensor:
        if not isinstance(x, Tensor):
            if self.batches:
                return self.leaf(of_each_sample(as_floats(x)))
            leaf = as_floats(x, requires_grad=True)
            self.own[leaf._slot] = leaf
            return leaf
        self.gives_tensors = True
        x = steady(local(x))
        if self.batches:
            x = of_each_sample(x)
        if self.is_recording and x._kind.requires_grad:
            seen = self._with_bits(x, x._kind.requires_grad | GRADIENTS)
            self.behind[bottom(seen)._slot] = x._kind.requires_grad
            return seen
        return self.leaf(x.detach())

    def leaf(self, x: Tensor) -> Tensor:
        """Make a tensor a leaf of this level."""
        x.requires_grad_()
        self.own[bottom(x)._slot] = x
        return x

    def _slots_of(self, t: Tensor, first: int) -> set[int]:
        """The slots of an input: at first, now, and between, since NumPy's looking at a leaf gives it another."""
        t = bottom(t)
        return {first, t._slot, *(slot for slot, leaf in self.tape.former.items() if leaf() is t)}

    def _own_slots(self) -> set[int]:
        """All slots of its leaves, as `_slots_of` has those of one: this is asked for in each call."""
        leaves = [bottom(t) for t in self.own.values()] if self.batches else self.own.values()
        slots = {*self.own}
        for t in leaves:
            slots.add(t._slot)
        if self.tape.former:
            own = {id(t) for t in leaves}
            slots.update(slot for slot, leaf in self.tape.former.items() if id(leaf()) in own)
        return slots

    def _with_bits(self, t: Tensor, bits: int) -> Tensor:
        """The same elements, recorded, with other bits of `requires_grad`."""
        return self._raised(tangents.with_bits(self._lowered(t), bits), None)

    def _called(self) -> Any:
        try:
            if self.tape.grad_enabled:
                return self.func(*self.args)
            with autograd.enable_grad():
                return self.func(*self.args)
        except (AttributeError, TypeError) as error:  # a list has no arithmetic, and no shape
            _tell_of_lists(error, self.args)
            raise

    def apply(self, has_aux: bool, name: str) -> tuple[Any, Any]:
        """The function's output, and what comes with it."""
        watch = self.tape.watch
        if watch is not None:
            watch.inside += 1
        outer, going.within = going.within, self
        try:
            result = self._called() if self.gives_tensors else array_makers.called(self.func, self._called)
        finally:
            going.within = outer
            if watch is not None:
                watch.inside -= 1
        if not has_aux:
            return result, None
        if not isinstance(result, tuple) or len(result) != 2:
            subject = _CALLS.get(name, f"{name}(f)(*args)")
            raise RuntimeError(f"{subject}: output of function f should be a tuple: (output, aux) if has_aux is True")
        return result

    # --- gradients ----------------------------------------------------------------------------------------------------

    def gradients(
        self, outputs: Sequence[Tensor], seeds: Sequence[Tensor | None], *, recorded: bool, retain: bool = True
    ) -> list[Tensor]:
        """The products of seeds, None for 1, with the Jacobian: one for each input."""
        live = [(y, seed) for y, seed in zip(outputs, seeds, strict=True) if y._kind.requires_grad]
        if not live:
            return [creation.zeros_like(x) for x in self.inputs]
        dependents, adjoints = zip(*live, strict=True)
        outer, going.sweeping = going.sweeping, self
        try:
            found = autograd.grad(
                dependents, self.inputs, adjoints, retain_graph=retain, create_graph=recorded, materialize_grads=True
            )
        finally:
            going.sweeping = outer
        return list(found)

    def swept(self, output: Tensor) -> list[Any] | None:
        """The gradients of a function of arrays, in the form of these; its value is computed in the same sweep.

        The sweep goes on to all leaves, and so tells whether there is one of somebody else's. Then it is done again,
        recorded, and the answer here is None.
        """
        tape = self.tape
        if self.gives_tensors or self.batches or not output._kind.requires_grad or output._tape is not tape:
            return None
        if tape.retained or tape.hooks or tape.nodes:
            return None
        for t in self.inputs:
            if getattr(t, "_hooks", None):
                return None
        if tape.duals is not None:
            return None
        others = self.is_recording and len(tape.leaves) > len(self.own)
        found: dict[int, Any] = {}
        x, t = self.given[0], self.inputs[0]
        is_copied = len(self.inputs) == 1 and x.__class__ is np.ndarray and x.dtype is t._kind.dtype.numpy

        def take() -> None:
            """Tensors, to which adjoints go; of one array that is small a copy: who sweeps next drops what is left."""
            slot, kind = t._slot, t._kind
            if is_copied and not kind.is_large and tape.watch is None:
                if address := tape.slot_words[_WORDS * slot + _ADJOINT]:
                    found[slot] = array_at(address, kind.gradient, None).copy()
            else:
                adopt(tape, found, ())

        engine.reclaim_before(tape)
        try:
            with tape.lock:
                engine.run(tape, (), ((output._slot, -1),), (), False, others, take)
        except engine.SweptTwiceError:
            return None
        if others and any(slot in tape.leaves for slot in {*tape.reached} - self._own_slots()):
            return None
        if is_copied and (gradient := found.get(t._slot)).__class__ is np.ndarray:  # most often: all there is
            return [gradient]
        gradients: list[Any] = []
        for x, t in zip(self.given, self.inputs, strict=True):
            gradient = found.pop(t._slot, None)
            if gradient.__class__ is not np.ndarray:
                gradient = creation.zeros_like(t) if gradient is None else gradient
                is_lent = x.__class__ is np.ndarray and gradient._kind.is_large and x.dtype.char != "e"
                gradient = given_up(gradient) if is_lent and tape.watch is None else in_form_of(x, gradient)
            gradients.append(gradient)
        return gradients

    def pull(self, outputs: Sequence[Tensor], seeds: Sequence[Tensor | None], retain: bool = True) -> list[Tensor]:
        """The gradients that the caller is given."""
        is_recorded = self._is_recorded([*outputs, *seeds])
        return [self.outward(g) for g in self.gradients(outputs, seeds, recorded=is_recorded, retain=retain)]

    def pusher(self, outputs: Sequence[Tensor], lent: Lender | None = None) -> Callable[..., list[Tensor]]:
        """A function of tangents, one for each input: the product of the Jacobian with them, one for each output.

        With `lanes`, so many at once: tangents and products have one dimension more, the first. What rules read of the
        primals is in `lent` then.
        """
        outputs = [held(self._lowered(y)) for y in outputs]
        slots = [y._slot for y in outputs]
        at = [self._slots_of(t, first) for t, first in zip(self.inputs, self.slots, strict=True)]
        steps = tangents.steps_between(self.tape, slots, set().union(*at))

        def push(along: Sequence[Tensor | None], lanes: int | None = None) -> list[Tensor]:
            batch = innermost(along)
            if batch is not None and batch.depth >= len(self.batches):
                return [wrap(t, batch) for t in pushed_together(along, batch, lanes)]
            along = [None if t is None else self._lowered(t, lanes) for t in along]
            given = {slot: t for found, t in zip(at, along, strict=True) if t is not None for slot in found}
            is_recorded = self._is_recorded([*outputs, *along])
            found = in_grad_mode(
                self.tape, is_recorded, tangents.push, self.tape, steps, given, slots, lanes, lent
            )  # fmt: skip
            head = () if lanes is None else (lanes,)
            return [
                self._raised(creation.zeros(*head, *y.shape, dtype=y.dtype) if t is None else self.outward(t), lanes)
                for y, t in zip(outputs, found, strict=True)
            ]

        def pushed_together(along: Sequence[Tensor | None], batch: Batch, lanes: int | None) -> list[Tensor]:
            """Tangents of a `vmap` in which the level is not: its samples are lanes."""
            if lanes is None:
                return push([None if t is None else samples_of(t, batch) for t in along], batch.size)
            rows = [
                push([None if t is None else samples_of(t, batch)[k] for t in along], lanes) for k in range(batch.size)
            ]
            return [shaping.stack(list(column)) for column in zip(*rows, strict=True)]

        return push

    def _lowered(self, t: Tensor, lanes: int | None = None) -> Tensor:
        """The tensor with all samples, behind one that is batched; lanes come before them."""
        if not self.batches:
            return t
        whole = bottom(of_each_sample(t, self.batches))
        return whole if lanes is None else shaping.movedim(whole, len(self.batches), 0)

    def _raised(self, t: Tensor, lanes: int | None) -> Tensor:
        """The batched tensor of one with all samples."""
        if self.batches and lanes is not None:
            t = shaping.movedim(t, 0, len(self.batches))
        for batch in self.batches:
            t = wrap(t, batch)
        return t

    def compute(self, tensors: Iterable[Any]) -> None:
        """Compute what has no graph, together."""
        whole = [bottom(t) for t in tensors if isinstance(t, Tensor) and not t._kind.requires_grad]
        slots = [t._slot for t in whole if t._tape is self.tape]
        with self.tape.lock:
            engine.run(self.tape, slots)
        engine.reclaim_if_due(self.tape)

    # --- to the caller ------------------------------------------------------------------------------------------------

    def outward(self, leaf: Any) -> Any:
        """What the caller is given: without a graph, unless something of the caller's is behind it."""
        if not isinstance(leaf, Tensor) or not leaf._kind.requires_grad:
            return leaf
        if not self.reaches_out([leaf]):
            return leaf.detach()
        if self.tape.duals is None or self.reaches_out([leaf], GRADIENTS):
            return leaf
        return in_grad_mode(self.tape, True, self._with_bits, leaf, TANGENTS)

    def outward_tree(self, tree: Any) -> Any:
        """What the caller is given, with all leaves `outward`."""
        leaves, structure = trees.flatten(tree)
        return trees.unflatten(structure, [self.outward(leaf) for leaf in leaves])

    def _is_recorded(self, tensors: Sequence[Tensor | None]) -> bool:
        return self.is_recording and (bool(self.behind) or self.reaches_out(tensors))

    def reaches_out(self, tensors: Sequence[Any], bits: int = GRADIENTS | TANGENTS) -> bool:
        """Whether the caller's graph, a leaf of somebody else's, or what has a tangent, is behind one of the tensors.

        A leaf of a level that has ended doesn't count. With `bits`, only what these derivatives flow to.
        """
        if not self.is_recording:
            return False
        ends = {slot for slot, own in self.behind.items() if own & bits}
        if bits & GRADIENTS:
            ends |= self.tape.leaves.keys() - self._own_slots()
        if bits & TANGENTS and self.tape.duals is not None:
            ends |= self.tape.duals.slots().keys()
        slots = [local(bottom(t))._slot for t in tensors if isinstance(t, Tensor) and t._kind.requires_grad]
        return bool(ends) and walk.reaches(self.tape, slots, ends)

    # --- what functions return ----------------------------------------------------------------------------------------

    def shown(self, tree: Any) -> Any:
        """What the caller is given: arrays and numbers where that is all that it gave, but what has a graph stays."""
        if self.gives_tensors:
            return tree
        leaves, structure = trees.flatten(tree)
        is_kept = [not isinstance(x, Tensor) or x._kind.requires_grad or x.__class__ is Batched for x in leaves]
        return trees.unflatten(structure, [x if kept else plain(x) for x, kept in zip(leaves, is_kept, strict=True)])

    def scalar(self, output: Any, name: str) -> Tensor:
        """The output of a function of which the gradient is asked for."""
        t = self._constant(output)
        if t is None:
            raise RuntimeError(f"{name}(f)(*args): Expected f(*args) to return a Tensor, got {type(output)}")
        if t.ndim:
            raise RuntimeError(
                f"{name}(f)(*args): Expected f(*args) to return a scalar Tensor, got tensor with {t.ndim} dims. Maybe "
                "you wanted to use the vjp or jacrev APIs instead?"
            )
        return t

    def tensors(self, output: Any, subject: str) -> tuple[list[Tensor], Any]:
        """The leaves of an output, which must be tensors, and the output with these."""
        leaves, structure = trees.flatten(output)
        if all(leaf is None for leaf in leaves):
            raise RuntimeError(
                f"{subject.partition(':')[0]}: Expected f to be a function that has non-empty output (got output = "
                f"{leaves})"
            )
        tensors = []
        for leaf in leaves:
            t = self._constant(leaf)
            if t is None:
                raise RuntimeError(f"{subject} to return only tensors, got unsupported type {type(leaf)}")
            tensors.append(t)
        return tensors, trees.unflatten(structure, tensors)

    def _constant(self, leaf: Any) -> Tensor | None:
        """A tensor that was returned; of a number or an array, which was not recorded, one whose derivatives are 0."""
        if isinstance(leaf, Tensor):
            return leaf
        if isinstance(leaf, np.ndarray) and leaf.dtype == object:
            return as_operand(leaf, True)
        if (self.gives_tensors and not self.tape.of_arrays) or not is_number(leaf):
            return None
        warnings.warn(
            f"the function returned {'a number' if np.ndim(leaf) == 0 else 'an array'} ({type(leaf).__name__}) that is "
            "not the result of recorded operations: its derivatives are zero. Where it should depend on the "
            "arguments, compute it with operators, NumPy's functions or tapegrad's, without .item() or float()",
            UserWarning,
            stacklevel=depth_of_user(),
        )
        return as_floats(leaf)


# --- arrays and numbers -----------------------------------------------------------------------------------------------


def is_number(x: Any) -> bool:
    """Whether it is a number, or an array of numbers, by which can be differentiated: integers count as floats."""
    if isinstance(x, (bool, np.bool_, str, bytes)) or x is None:
        return False
    if isinstance(x, (int, float)):
        return True
    return _dtype_kind(x) in {"f", "i", "u"}


def _of_dtype(x: Any) -> str:
    """What an array that can't be differentiated is of; how a table becomes one."""
    dtype = getattr(x, "dtype", None)
    if dtype is None:
        return " (its to_numpy() gives an array)" if hasattr(x, "to_numpy") else ""
    return f" of {dtype}"


def _dtype_kind(x: Any) -> str:
    """NumPy's letter for the kind of an array's dtype; empty for what is no array."""
    kind = getattr(getattr(x, "dtype", None), "kind", "")
    return kind if isinstance(kind, str) else ""


def as_floats(x: Any, requires_grad: bool = False) -> Tensor:
    """A tensor with the elements that a number or an array has now; integers become float64."""
    watch = current_tape().watch
    return _as_floats(x, requires_grad) if watch is None else watch.copies(_as_floats, x, requires_grad)


def _as_floats(x: Any, requires_grad: bool) -> Tensor:
    if x.__class__ is np.ndarray and (dtype := BY_NUMPY.get(x.dtype)) is not None and dtype.is_floating_point:
        return owning(engine.copied(x), dtype, requires_grad)  # most often
    return leaf_of(x if _dtype_kind(x) == "f" else np.asarray(x, np.float64), requires_grad=requires_grad)


def plain(t: Tensor, is_own: bool = False) -> Any:
    """The elements as an array, a number where there are no dimensions; its memory too where nobody else has it."""
    kind, watch = t._kind, t._tape.watch
    if watch is not None and not watch.is_showing:
        return watch.shows(t, lambda: plain(t))
    if not kind.ndim:
        return t.item()
    if kind.contiguous and not kind.is_large:
        return t._array().copy()
    if is_own and kind.is_large and kind.contiguous and watch is None and not hasattr(t, "_origin"):
        return export(t)
    return np.array(t._array(), order="C")


def in_form_of(x: Any, t: Tensor) -> Any:
    """A gradient in the form of what it belongs to: a Tensor for a Tensor, an array for an array."""
    if isinstance(x, Tensor) or t._kind.requires_grad or t.__class__ is Batched:
        return t
    watch = t._tape.watch
    if watch is not None and not watch.is_showing:
        return watch.shows(t, lambda: in_form_of(x, t))
    if x.__class__ is np.ndarray and x.dtype.char != "e":  # most often; that is float16
        return plain(t, is_own=True) if t._kind.ndim else t._array().copy()
    if isinstance(x, (int, float)) and not isinstance(x, np.generic):
        return t.item()
    made = plain(t, is_own=True) if t.ndim else t._array().copy()
    if getattr(x, "dtype", None) == np.float16:
        made = made.astype(np.float16)
    return made[()] if isinstance(x, np.generic) else made


def _tell_of_lists(error: Exception, args: Sequence[Any]) -> None:
    """Add to an error of the function's that it was given numbers in a list, which stays one."""
    for place, given in enumerate(args):
        if isinstance(given, (list, tuple)) and given and all(isinstance(x, Tensor) and not x.ndim for x in given):
            kind = type(given).__name__
            error.add_note(
                f"Argument {place} is a {kind} of numbers, and the function is given a {kind}: for arithmetic "
                "and a shape give numpy.array(...) of it"
            )


def as_seed(value: Any, like: Tensor) -> Tensor:
    """A tangent or a cotangent, as a tensor of the dtype of what it belongs to."""
    if isinstance(value, Tensor):
        return cast(local(value), like.dtype)
    return leaf_of(np.asarray(value), like.dtype)


class TensorEngine:
    """The derivatives of a function whose operations are recorded."""

    def __init__(self, func: Callable[..., Any]) -> None:
        self.func = func

    @staticmethod
    def check(argument: Any, place: int) -> None:
        """Raise where an argument can't be differentiated, with PyTorch's messages."""
        if argument.__class__ is np.ndarray and argument.dtype.kind == "f":  # most often
            return
        for leaf in trees.leaves(argument):
            if not isinstance(leaf, Tensor):
                if not is_number(leaf):
                    raise ValueError(
                        f"Thing passed to transform API must be Tensor, got {type(leaf)}{_of_dtype(leaf)} in argument "
                        f"{place}: real numbers, arrays of them and Tensors are differentiated; name other arguments "
                        "in argnums"
                    )
            elif not leaf.is_floating_point():
                raise RuntimeError(
                    f"only Tensors of floating point dtype can require gradients, but argument {place} has one of "
                    f"{leaf.dtype}"
                )

    @staticmethod
    def is_differentiable(argument: Any) -> bool:
        """Whether an argument holds floating-point numbers."""
        return any(
            x.is_floating_point() if isinstance(x, Tensor) else isinstance(x, float) or _dtype_kind(x) == "f"
            for x in trees.leaves(argument)
        )

    def value_and_grad(self, args: Sequence[Any], places: Sequence[int], has_aux: bool) -> tuple[Any, Sequence[Any]]:
        """What the function returns, and a gradient for each input."""
        with Level(self.func, args, places) as level:
            output, aux = level.apply(has_aux, "grad_and_value")
            output = level.scalar(output, "grad_and_value")
            gradients = None if has_aux else level.swept(output)
            if gradients is None:
                shown = level.outward(output), level.outward_tree(aux)  # before the sweep lets go of rows
                found = level.pull([output], [None], retain=level.reaches_out(trees.leaves(aux)))
                return level.shown(shown if has_aux else shown[0]), list(map(in_form_of, level.given, found))
        return plain(output), gradients  # here: inside, a number that is asked for is looked into

    def gradient_by_one(self, args: Sequence[Any], place: int, has_aux: bool) -> tuple[Any, Any]:
        """What the function returns, and the gradient by one argument; what was recorded is dropped if it can be."""
        tape = current_tape()
        if tape.watch is not None or args[place].nbytes < LARGE:  # what is small is left to the next reclaiming
            value, (found,) = self.value_and_grad(args, (place,), has_aux)
            return value, found
        since = engine.mark(tape)
        value, (found,) = self.value_and_grad(args, (place,), has_aux)
        engine.take_back(tape, since)
        return value, found

    def vjp(
        self, args: Sequence[Any], places: Sequence[int], has_aux: bool
    ) -> tuple[Any, Callable[[Sequence[Any]], Sequence[Any]]]:
        """What the function returns, and a function of cotangents, one for each output."""
        with Level(self.func, args, places) as level:
            output, aux = level.apply(has_aux, "vjp")
            outputs, output = level.tensors(output, "vjp(f, *primals): expected f(*primals)")
            shown = level.outward_tree(output)

            def pull(cotangents: Sequence[Any]) -> list[Any]:
                return list(map(in_form_of, level.given, level.pull(outputs, list(map(as_seed, cotangents, outputs)))))

            return level.shown((shown, level.outward_tree(aux)) if has_aux else shown), pull

    def jvp(
        self, args: Sequence[Any], places: Sequence[int], along: Sequence[Any], has_aux: bool
    ) -> tuple[Any, Sequence[Any]]:
        """What the function returns, and a tangent for each output."""
        with Level(self.func, args, places) as level:
            output, aux = level.apply(has_aux, "jvp")
            outputs, output = level.tensors(output, "jvp(f, primals, tangents): expected f(*primals)")
            found = level.pusher(outputs)(list(map(as_seed, along, level.inputs)))
            output, aux = level.outward_tree(output), level.outward_tree(aux)
            level.compute([*trees.leaves(output), *found])
            return level.shown((output, aux) if has_aux else output), level.shown(found)

    def linearize(
        self, args: Sequence[Any], places: Sequence[int]
    ) -> tuple[Any, Callable[[Sequence[Any]], Sequence[Any]]]:
        """What the function returns, and a function of tangents, one for each input."""
        with Level(self.func, args, places) as level:
            output, _ = level.apply(False, "linearize")
            outputs, output = level.tensors(output, "linearize(f, *primals): expected f(*primals)")
            lent = Lender(level.tape)
            push = level.pusher(outputs, lent)
            shown = level.outward_tree(output)
            zeros = list(map(creation.zeros_like, level.inputs))
            level.compute([*trees.leaves(shown), *push(zeros)])
            lent.compute()

            def pushed(along: Sequence[Any]) -> Sequence[Any]:
                found = push(list(map(as_seed, along, level.inputs)))
                level.compute(found)
                products: Sequence[Any] = level.shown(found)
                return products

            return level.shown(shown), pushed

    def jacobian(
        self, args: Sequence[Any], places: Sequence[int], has_aux: bool, mode: str, chunk_size: int | None = None
    ) -> tuple[Any, Sequence[Sequence[Any]]]:
        """What the function returns, and for each output a Jacobian by each input."""
        with Level(self.func, args, places) as level:
            output, aux = level.apply(has_aux, "jacobian")
            of = "jvp(f, primals, tangents)" if mode == "forward" else "vjp(f, *primals)"
            outputs, output = level.tensors(output, f"{of}: expected f(*primals)")
            n_in, n_out = (sum(t.numel() for t in tensors) for tensors in (level.inputs, outputs))
            forward = mode == "forward" or (mode == "auto" and n_in < n_out)
            found = _by_columns(level, outputs, chunk_size) if forward else _by_rows(level, outputs, level.pull)
            output = level.outward_tree(output)
            return level.shown((output, level.outward_tree(aux)) if has_aux else output), level.shown(found)

    def hvp(self, args: Sequence[Any], places: Sequence[int], tangents: Sequence[Any]) -> tuple[Any, Sequence[Any]]:
        """What the function returns, and the product of its Hessian with tangents, one for each input."""
        with Level(self.func, args, places) as level:
            output, _ = level.apply(False, "hvp")
            output = level.scalar(output, "hvp")
            gradients = level.gradients([output], [None], recorded=True)
            found = level.pull(gradients, list(map(as_seed, tangents, level.inputs)))
            return level.shown(level.outward(output)), list(map(in_form_of, level.given, found))

    def hessian(
        self, args: Sequence[Any], places: Sequence[int]
    ) -> tuple[Any, Sequence[Sequence[Sequence[Any]]]]:  # fmt: skip
        """What the function returns, and for each output second derivatives by each pair of inputs."""
        with Level(self.func, args, places) as level:
            output, _ = level.apply(False, "hessian")
            outputs, output = level.tensors(output, "hessian(f)(*args): expected f(*args)")

            def recorded(ys: Sequence[Tensor], seeds: Sequence[Tensor]) -> list[Tensor]:
                return level.gradients(ys, seeds, recorded=True)

            found = [_by_columns(level, jacobians) for jacobians in _by_rows(level, outputs, recorded)]
            return level.shown(level.outward_tree(output)), level.shown(found)


def _by_rows(level: Level, outputs: Sequence[Tensor], pull: Callable[..., list[Tensor]]) -> list[list[Tensor]]:
    """In reverse: a sweep for each number of the outputs."""
    blocks = []
    for y in outputs:
        rows = [pull([y], [seed]) for seed in _basis(y)]
        blocks.append(
            [_stacked([row[i] for row in rows], 0, (*y.shape, *x.shape), x) for i, x in enumerate(level.inputs)]
        )
    return blocks


_MOST_IN_LANES = 1 << 22  # elements of a value's tangents in all lanes together


def _by_columns(level: Level, outputs: Sequence[Tensor], chunk_size: int | None = None) -> list[list[Tensor]]:
    """Forward: a lane for each number of the inputs, so many at once as memory allows, or `chunk_size`."""
    push, blocks = level.pusher(outputs), [list[Tensor]() for _ in outputs]
    widest = max([bottom(t).numel() for t in (*level.inputs, *outputs)], default=1)
    for i, x in enumerate(level.inputs):
        n, columns = x.numel(), [list[Tensor]() for _ in outputs]
        most = chunk_size or max(1, _MOST_IN_LANES // max(widest, 1))
        for first in range(0, n, most):
            lanes = min(most, n - first)
            units = np.zeros((lanes, n), x.dtype.numpy)
            units[range(lanes), range(first, first + lanes)] = 1.0
            along: list[Tensor | None] = [None] * len(level.inputs)
            along[i] = from_array(units.reshape(lanes, *x.shape))
            found = push(along, lanes)
            if n > most:
                level.compute(found)
            for of_output, t in zip(columns, found, strict=True):
                of_output.append(t)
        for k, y in enumerate(outputs):
            blocks[k].append(_turned(columns[k], (*y.shape, *x.shape), x))
    return blocks


def _turned(columns: list[Tensor], shape: tuple[int, ...], like: Tensor) -> Any:
    """Columns in lanes, as a Jacobian of this shape."""
    if not math.prod(shape):
        return creation.zeros(*shape, dtype=like.dtype)
    lanes = columns[0] if len(columns) == 1 else shaping.cat(columns)
    return shaping.reshape(shaping.movedim(lanes, 0, -1), shape)


def _basis(t: Tensor) -> list[Tensor]:
    """Of t's shape, with 1 in one place and 0 in all others: one for each place."""
    basis = []
    for k in range(t.numel()):
        unit = np.zeros(t.shape, t.dtype.numpy)
        unit.reshape(-1)[k] = 1.0
        basis.append(from_array(unit))
    return basis


def _stacked(parts: list[Tensor], dim: int, shape: tuple[int, ...], like: Tensor) -> Tensor:
    made: Tensor
    if not math.prod(shape):
        made = creation.zeros(*shape, dtype=like.dtype)
    else:
        made = shaping.reshape(shaping.stack(parts, dim), shape)
    return made
