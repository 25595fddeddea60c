"""Gradients: `backward`, `grad`, and the modes that switch recording on and off."""

from __future__ import annotations

import importlib
import sys
import warnings
from _thread import get_ident
from collections.abc import Sequence
from typing import Any

from tapegrad import aliasing, creation, engine, locks, namesakes, pages, recorder, writing
from tapegrad.arguments import Flag, checked
from tapegrad.autograd import function, graph, hooks, modes, recorded, walk
from tapegrad.autograd.function import Function
from tapegrad.autograd.graph import AccumulateGrad, Node
from tapegrad.autograd.host import host_function
from tapegrad.autograd.modes import (
    detect_anomaly,
    enable_grad,
    inference_mode,
    is_anomaly_check_nan_enabled,
    is_anomaly_enabled,
    is_grad_enabled,
    is_inference_mode_enabled,
    is_multithreading_enabled,
    memory_limit,
    no_grad,
    set_detect_anomaly,
    set_grad_enabled,
    set_multithreading_enabled,
)  # fmt: skip
from tapegrad.batched import bottom, innermost, levels, rules
from tapegrad.functions import shaping
from tapegrad.kinds import FORWARD
from tapegrad.recording import cast, local
from tapegrad.tape import Tape, current_tape, in_grad_mode
from tapegrad.tensor import Size, Tensor, adopt, describe, location, slot_in


@checked
def backward(
    tensors: Any, grad_tensors: Any = None, retain_graph: Flag | None = None, create_graph: Flag = False,
    inputs: Any = None
) -> None:  # fmt: skip
    """Accumulate the gradients of `tensors` in the `grad` of the leaves behind them.

    Parameters
    ----------
    tensors : Tensor or sequence of Tensor
        What is differentiated.
    grad_tensors : Tensor, sequence of Tensor or None, optional
        The adjoint of each, of its shape; for tensors of one element the default is 1.
    retain_graph : bool, optional
        Keep what rules had saved, so that the graph can be swept again. By default as `create_graph`.
    create_graph : bool
        Record the gradients too, for derivatives of higher order.
    inputs : Tensor or sequence of Tensor, optional
        Accumulate only in these.

    Raises
    ------
    RuntimeError
        With PyTorch's messages: nothing requires grad, no adjoint for a tensor that is not a scalar, shapes that
        disagree, a graph that was let go. Then nothing has changed.
    TypeError
        Where something is no tensor, or no bool.

    >>> import tapegrad as tg
    >>> x = tg.tensor([1.0, 2.0], requires_grad=True)
    >>> tg.autograd.backward((x * x).sum())
    >>> x.grad
    tensor([2., 4.])
    """
    outputs = _sequence(tensors, "tensors")
    grads = _seeds(grad_tensors, "grad_tensors", len(outputs))
    chosen = None if inputs is None else _sequence(inputs, "inputs")
    if levels():
        raise RuntimeError(
            "backward() called inside a functorch transform. This is not supported, please use functorch.grad or "
            "functorch.vjp instead or call backward() outside of functorch transforms: under vmap, func.grad gives "
            f"each sample's gradient; at {location()}"
        )
    if chosen is not None and not chosen:
        raise RuntimeError("`inputs` argument to `backward()` cannot be empty.")
    for i, t in enumerate(chosen or ()):
        _check_input(i, t)
        if not t.requires_grad:
            raise RuntimeError(f"can't retain_grad on Tensor that has requires_grad=False: it is input number {i}")
    for t in chosen or ():
        retain_grad(t)
    found = _Found()
    try:
        _sweep(outputs, grads, chosen, retain_graph, create_graph, found)
        _accumulate_all(found, chosen, create_graph)
    except KeyboardInterrupt:  # what was swept can't be swept again
        _accumulate_all(found, chosen, create_graph)
        raise
    tape = current_tape()
    engine.reclaim_if_due(tape)


@checked
def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: Flag | None = None,
    create_graph: Flag = False,
    only_inputs: Flag = True,
    allow_unused: Flag | None = None,
    is_grads_batched: Flag = False,
    materialize_grads: Flag = False,
) -> tuple[Tensor, ...]:
    """The gradients of `outputs` with respect to `inputs`; nothing is accumulated in leaves.

    Tensors on the way that asked for it with `retain_grad()` get their `grad`.

    Parameters
    ----------
    outputs : Tensor or sequence of Tensor
        What is differentiated.
    inputs : Tensor or sequence of Tensor
        By what. One that is not behind the outputs is an error, without `allow_unused` and `materialize_grads`.
    grad_outputs : Tensor, sequence of Tensor or None
        The adjoint of each output, of its shape; for outputs of one element the default is 1.
    retain_graph : bool
        Keep what rules had saved, so that the graph can be swept again. By default as `create_graph`.
    create_graph : bool
        Record the gradients too, for derivatives of higher order.
    only_inputs : bool
        True, as in PyTorch.
    allow_unused : bool
        Give None for inputs that are not behind the outputs.
    is_grads_batched : bool
        Each of `grad_outputs` has one dimension more, the first, and so have the gradients: the graph is swept for
        each adjoint along it.
    materialize_grads : bool
        Give zeros for inputs that are not behind the outputs.

    Returns
    -------
    tuple of Tensor
        The gradient by each input.

    >>> import tapegrad as tg
    >>> x = tg.tensor(3.0, requires_grad=True)
    >>> (first,) = tg.autograd.grad(x**3, x, create_graph=True)
    >>> (second,) = tg.autograd.grad(first, x)
    >>> first.item(), second.item()
    (27.0, 18.0)
    """
    if not only_inputs:
        warnings.warn(
            "only_inputs argument is deprecated and is ignored now (defaults to True): to accumulate the gradients of "
            "other leaves, use autograd.backward",
            FutureWarning,
            stacklevel=3,
        )
    results, wanted = _sequence(outputs, "outputs"), _sequence(inputs, "inputs")
    grads = _seeds(grad_outputs, "grad_outputs", len(results))
    if is_grads_batched and any(g is not None for g in grads):
        return _batched(results, wanted, grads, retain_graph, create_graph, allow_unused, materialize_grads)
    if not wanted:
        raise RuntimeError("`inputs` argument to `grad()` cannot be empty.")
    if (level := innermost([*results, *wanted, *grads])) is not None:
        return rules["grad"](level, results, wanted, grads, retain_graph, create_graph, allow_unused, materialize_grads)
    for i, t in enumerate(wanted):
        _check_input(i, t)
        if not t.requires_grad:
            raise RuntimeError("One of the differentiated Tensors does not require grad")
    if materialize_grads:
        if allow_unused is False:
            raise ValueError(
                "Expected allow_unused to be True or not passed when materialize_grads=True, but got: "
                "allow_unused=False."
            )
        allow_unused = True
    found = _Found()
    found.may_push = True
    _sweep(results, grads, wanted, retain_graph, create_graph, found)
    answer: list[Any] = []
    used = set(found.retained)  # the gradients of these have another owner
    if used:
        _accumulate_all(_Found((slot, found[slot]) for slot in used if slot in found), None, create_graph)
    for i, t in enumerate(wanted):
        slot = local(t)._slot
        gradient = _gradient_of(t, found, create_graph)
        if gradient is None and not allow_unused:
            raise RuntimeError(
                f"The differentiated Tensor at index {i} appears to not have been used in the graph. "
                "Set allow_unused=True if this is the desired behavior."
            )
        if gradient is None and materialize_grads:
            gradient = creation.zeros_like(t)
        elif gradient is not None and slot in used:
            gradient = gradient.clone()
        used.add(slot)
        answer.append(gradient)
    engine.reclaim_if_due(current_tape())
    return tuple(answer)


def _batched(
    results: list[Any], wanted: list[Any], grads: list[Tensor | None], retain_graph: bool | None, create_graph: bool,
    allow_unused: bool | None, materialize_grads: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    """The gradients for each of many seeds, stacked."""
    sizes = set()
    for i, (y, g) in enumerate(zip(results, grads, strict=True)):
        if g is None or g.shape[1:] != y.shape or not g.ndim:
            raise RuntimeError(
                "If `is_grads_batched=True`, we interpret the first dimension of each grad_output as the batch "
                "dimension. The sizes of the remaining dimensions are expected to match the shape of corresponding "
                f"output, but a mismatch was detected: grad_output[{i}] has a shape of "
                f"{None if g is None else list(g.shape)} and output[{i}] has a shape of {list(y.shape)}. If you only "
                "want some tensors in `grad_output` to be considered batched, consider using func.vjp and a loop."
            )
        sizes.add(g.shape[0])
    if len(sizes) != 1:
        raise ValueError(f"all grad_outputs must have batches of one length, but got {sorted(sizes)}")
    (n,), found = sizes, list[Any]()
    for k in range(n):
        is_last = k == n - 1
        found.append(
            grad(
                results, wanted, [None if g is None else g[k] for g in grads],
                retain_graph if is_last else True, create_graph, True, allow_unused, False, materialize_grads,
            )
        )  # fmt: skip
    if not n:
        return tuple(creation.zeros(0, *t.shape, dtype=t.dtype) for t in wanted)
    stacked = shaping.functions["stack"]
    answer: Any = tuple(None if parts[0] is None else stacked(parts) for parts in zip(*found, strict=True))
    return answer


class _Found(dict[int, Tensor]):
    """Adjoints by their slots, how many of them have been accumulated, and the slots that `retain_grad` was for.

    Those that are returned may have tangents, in forward mode; those that are accumulated have none.
    """

    accumulated = 0
    may_push = False
    retained: frozenset[int] = frozenset()


def _slots_of(t: Tensor) -> list[int]:
    """The slots whose adjoints are gradients of `t`: a leaf that was written to has had others before."""
    here = local(t)
    if not t._kind.is_leaf:
        return [aliasing.graph_slot(here)]
    former = here._tape.former
    return (
        [slot_in(here._tape, here), *(slot for slot, leaf in former.items() if leaf() is t)]
        if former
        else [slot_in(here._tape, here)]
    )


def _gradient_of(t: Tensor, found: dict[int, Tensor], create_graph: bool) -> Tensor | None:
    """The sum of what was found for an input."""
    gradients = [found[slot] for slot in _slots_of(t) if slot in found]
    if len(gradients) < 2:
        return gradients[0] if gradients else None
    return in_grad_mode(current_tape(), create_graph, lambda: sum(gradients[1:], gradients[0]))


def _sequence(given: Any, name: str) -> list[Any]:
    if isinstance(given, Tensor):
        return [given]
    try:
        parts = iter([given] if isinstance(given, graph.GradientEdge) else given)
    except TypeError as error:
        raise TypeError(f"{error}: '{name}' is a Tensor, or a sequence of them") from None
    return [graph.tensor_of(part) if isinstance(part, graph.GradientEdge) else part for part in parts]


def _seeds(given: Any, name: str, n_outputs: int) -> list[Tensor | None]:
    """The adjoints of outputs, None for 1."""
    if given is None:
        return [None] * n_outputs
    grads = _sequence(given, name)
    for g in grads:
        if g is not None and not isinstance(g, Tensor):
            raise TypeError(f"gradients can be either Tensors or None, but got {type(g).__name__}")
    if len(grads) != n_outputs:
        raise RuntimeError(f"got {n_outputs} tensors and {len(grads)} gradients")
    return grads


def _check_input(i: int, t: Any) -> None:
    if not isinstance(t, Tensor):
        raise RuntimeError(
            f"all inputs have to be Tensors or GradientEdges, but got {type(t).__name__}: it is number {i}"
        )


def _sweep(
    outputs: list[Any],
    grads: list[Any],
    inputs: list[Tensor] | None,
    retain_graph: bool | None,
    create_graph: bool,
    found: _Found,
) -> None:
    """Find the adjoints of leaves, or of the inputs, by slot."""
    tape = current_tape()
    engine.reclaim_before(tape)
    seeds: list[tuple[Tensor, Tensor | None]] = []
    pairs: list[tuple[int, int]] = []
    targets: list[int] = []
    for i, t in enumerate(outputs):
        g = _seed(i, t, grads[i], tape)
        if tape.watch is not None and g is not None:
            tape.watch.meets(g)
        seeds.append((t, g))
        if g is None:
            pairs.append((t._slot, -1))
        else:
            pairs.append((t._slot, g._slot))
            targets.append(g._slot)
    retain = create_graph if retain_graph is None else retain_graph
    slots = [slot for t in inputs or () for slot in _slots_of(t)]
    retained, wanted = _retained(tape), None if inputs is None else set(slots)
    watched = hooks.watched(tape) if tape.hooks or tape.nodes else None
    rows = None
    pushes = found.may_push and tape.duals is not None  # gradients have tangents too
    through_python = create_graph or tape.checks_nan or pushes
    if through_python or watched or (retained and inputs is not None):
        seeded = [t._slot for t in outputs]
        rows = list(walk.rows_behind(tape, seeded)) if wanted is None else walk.rows_between(tape, seeded, wanted)
        passed = {row[2] for row in rows} | {*slots}
        if wanted is not None:
            retained = [slot for slot in retained if slot in passed]
        if not (through_python or (watched and not watched.isdisjoint(passed))):
            rows = None
    found.retained = frozenset(retained)
    outer = hooks.going.reached
    try:
        if rows is not None:
            hooks.going.reached = {*passed, *(slot for row in rows for slot in walk.operand_slots(row))}
            found.update(
                in_grad_mode(
                    tape,
                    create_graph or (FORWARD if pushes else False),
                    _recorded,
                    tape,
                    seeds,
                    rows,
                    wanted,
                    {*retained},
                    bool(retain or create_graph),
                )
            )
        else:
            slots += [slot for slot in retained if slot not in slots]
            with tape.lock:
                engine.run(tape, targets, pairs, slots, wanted is not None, bool(retain), lambda: adopt(tape, found))
            hooks.going.reached = {*found}
        in_grad_mode(tape, create_graph, _through_hooks, tape, found)
    except (engine.SweptTwiceError, recorded.SweptTwiceError):
        raise RuntimeError(function.FREED) from None
    finally:
        hooks.going.reached = outer


def _recorded(
    tape: Tape, seeds: list[tuple[Tensor, Tensor | None]], rows: list[walk.Row], wanted: set[int] | None,
    kept: set[int], retain: bool,
) -> dict[int, Tensor]:  # fmt: skip
    full = [(t, creation.ones_like(t) if g is None else g.clone()) for t, g in seeds]
    found = recorded.adjoints(tape, full, rows, wanted, kept, retain)
    if not retain:  # the graph is about to go
        with tape.lock:
            engine.run(tape, [gradient._slot for gradient in found.values()])
    return found


def partial_adjoints(
    tape: Tape, seeds: list[tuple[Tensor, Tensor]], wanted: list[Tensor], floor: int, create_graph: bool
) -> list[Tensor | None]:  # fmt: skip
    """The adjoints of what the rows after `floor` read, each for itself, also where one was computed from another."""
    rows = list(walk.rows_behind(tape, [t._slot for t, _ in seeds], floor))
    slots = {t._slot for t in wanted}
    outer, hooks.going.reached = hooks.going.reached, slots | {row[2] for row in rows}
    try:
        found = in_grad_mode(tape, create_graph, _recorded, tape, [*seeds], rows, slots, set(), create_graph)
    except recorded.SweptTwiceError:
        raise RuntimeError(function.FREED) from None
    finally:
        hooks.going.reached = outer
    return [found.get(t._slot) for t in wanted]


def _through_hooks(tape: Tape, found: _Found) -> None:
    """The gradients of leaves, as their hooks leave them: one for each leaf, whatever slots it has had."""
    of_leaf: dict[int, int] = {}  # the first slot of each
    for slot in list(found):
        owner = tape.leaves[slot]() if slot in tape.leaves else None
        if owner is None or not getattr(owner, "_hooks", None) or slot in hooks.going.spared:
            continue
        first = of_leaf.setdefault(id(owner), slot)
        if first != slot:
            found[first] = found[first] + found.pop(slot)
    for slot in of_leaf.values():
        leaf_hooks = tape.leaves[slot]()._hooks
        gradient = leaf_hooks.of_tensor(found[slot])
        (found[slot],) = leaf_hooks.of_results((gradient,))


def _retained(tape: Tape) -> list[int]:
    """The slots of tensors that asked for `retain_grad()`, where they still have them."""
    if not tape.retained:
        return []
    return [
        slot
        for slot, reference in tape.retained.items()
        if (t := reference()) is not None and aliasing.graph_slot(t) == slot
    ]


def _seed(i: int, t: Any, g: Tensor | None, tape: Tape) -> Tensor | None:
    """The adjoint of an output, None for 1; both are checked."""
    if not isinstance(t, Tensor):
        raise TypeError(f"element {i} of tensors must be a Tensor, not {type(t).__name__}")
    kind = t._kind
    if not t.requires_grad:
        raise RuntimeError(
            f"element {i} of tensors does not require grad and does not have a grad_fn: {describe(t)}, at "
            f"{location()}. Nothing that it was computed of requires grad (requires_grad=True), or it was computed "
            "under no_grad()"
        )
    if t._tape is not tape:
        raise RuntimeError(
            f"element {i} of tensors was recorded on another thread's tape: call backward() on the thread that "
            f"recorded it{pages.THREADS}"
        )
    if g is None:
        if kind.numel != 1:
            raise RuntimeError(
                f"grad can be implicitly created only for scalar outputs; output[{i}] has shape {list(kind.shape)}, at "
                f"{location()}: take its .sum(), or give a gradient of that shape"
            )
        return None
    if g._kind.shape != kind.shape:
        raise RuntimeError(
            f"Mismatch in shape: grad_output[{i}] has a shape of {Size(g._kind.shape)} and output[{i}] has a shape of "
            f"{Size(kind.shape)}."
        )
    return cast(local(g), kind.dtype)


_accumulating = locks.lock()  # leaves may be shared by threads


def _accumulate_all(found: _Found, chosen: list[Tensor] | None, create_graph: bool) -> None:
    """Accumulate what was found, or go on with it where Ctrl-C came."""
    if found.accumulated == len(found):
        return
    tape = current_tape()
    leaves, retained = tape.leaves, tape.retained
    receiving: list[tuple[int, Tensor, Tensor]] = []
    for done, (slot, gradient) in enumerate(found.items(), 1):
        owner = leaves[slot]() if slot in leaves else None
        if owner is None and slot in retained:
            owner = retained[slot]()
        if owner is None and chosen is not None:
            owner = next((t for t in chosen if slot in _slots_of(t)), None)
        if owner is not None and done > found.accumulated:
            receiving.append((done, owner, gradient))
            held = getattr(owner, "_grad", None)
            if held is not None and not held._kind.contiguous and not create_graph:
                writing.check_overlap(held, "accumulation of a gradient")
    for done, owner, gradient in receiving:
        _accumulate(owner, gradient, create_graph, found, done)
    for _, owner, gradient in receiving if hooks.has_leaves else ():
        if of_leaf := getattr(owner, "_hooks", None):
            for hook in list(of_leaf.accumulated.values()):
                hook(owner)
            of_leaf.of_operands((), (gradient,))


def _accumulate(t: Tensor, gradient: Tensor, create_graph: bool, found: _Found, done: int) -> None:
    """Add to the `grad` of a tensor: of a leaf in place, as holders of it expect, but where it is recorded.

    That it is done is noted in the same moment: it must not be done twice.
    """
    with _accumulating:
        if t._tape.watch is not None:
            t._tape.watch.reads_grad(t)
        held = getattr(t, "_grad", None)  # without the property: a third of the time that this takes
        tape = gradient._tape  # this thread's
        if held is not None and not create_graph and held._tape is tape and t._kind.is_leaf:
            noted = ((found, "accumulated", done),)
            in_grad_mode(tape, False, lambda: writing.assign(held, held + gradient, noted))
        else:
            if create_graph:  # one of its own: recorded gradients may share elements
                made = gradient.clone if held is None else lambda: held + gradient
                gradient = in_grad_mode(current_tape(), True, made)
            elif held is not None:
                gradient = in_grad_mode(current_tape(), False, lambda: held + gradient)
            elif not gradient._kind.contiguous:  # a rule of the user's may give elements that share memory
                gradient = in_grad_mode(current_tape(), False, gradient.contiguous)
            t._grad, found.accumulated = gradient, done
            return
    of, slot, kind = held._tape, held._slot, held._kind
    if kind.is_large and of is tape:
        engine.evaluate(tape, slot)  # two gradients are not kept where one will do


def _backward(
    self: Tensor,
    gradient: Tensor | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> None:
    """Accumulate this tensor's gradients in the leaves behind it: see `tapegrad.autograd.backward`."""
    tape, kind = self._tape, self._kind
    if (
        gradient is None and inputs is None and create_graph is False
        and (retain_graph is None or retain_graph is False) and kind.numel == 1 and kind.requires_grad is True
        and tape.thread == get_ident() and not (tape.hooks or tape.nodes or tape.retained or tape.checks_nan)
        and not levels()
    ):  # fmt: skip
        _from_one(tape, self._slot)
    else:
        backward(self, gradient, retain_graph, create_graph, inputs)


def _from_one(tape: Tape, slot: int) -> None:
    """`backward` from one element, as it is called most often: the same in half the time, where the graph is small."""
    found = _Found()

    def take() -> None:
        """Where leaves have no gradient yet, all that is left to do is done in native code."""
        is_more = found or hooks.has_leaves or tape.former or tape.watch is not None  # some were found: Ctrl-C came
        if is_more or not recorder.give[0](tape):
            adopt(tape, found)

    engine.reclaim_before(tape)
    try:
        with tape.lock:
            engine.run(tape, (), ((slot, -1),), (), False, False, take)
        if hooks.has_leaves:
            outer, hooks.going.reached = hooks.going.reached, {*found}
            try:
                in_grad_mode(tape, False, _through_hooks, tape, found)
            finally:
                hooks.going.reached = outer
        if found:
            _accumulate_all(found, None, False)
    except engine.SweptTwiceError:
        raise RuntimeError(function.FREED) from None
    except KeyboardInterrupt:  # what was swept can't be swept again
        _accumulate_all(found, None, False)
        raise
    engine.reclaim_if_due(tape)


def retain_grad(self: Tensor) -> None:
    """Let this computed tensor have a `grad` too."""
    if not self.requires_grad:
        raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
    self = bottom(self)
    if not self._kind.is_leaf:
        import weakref

        if self._tape.watch is not None:
            self._tape.watch.fail("retains the gradient of what it computes")
        with self._tape.lock:
            self._tape.retained[aliasing.graph_slot(self)] = weakref.ref(self)


def _retains_grad(self: Tensor) -> bool:
    """Whether `retain_grad` was called."""
    self = bottom(self)
    return aliasing.graph_slot(self) in self._tape.retained


def __getattr__(name: str) -> Any:
    """What seldom is needed is imported when it is first asked for."""
    where = _LATER.get(name)
    if where is None:
        raise namesakes.unknown(__name__, name)
    module = importlib.import_module(f"tapegrad.autograd.{where}")
    found = globals()[name] = module if name == where else getattr(module, name)
    return found


_LATER = {
    "GradcheckError": "checks", "custom_jvp": "custom", "custom_vjp": "custom", "functional": "functional",
    "forward_ad": "forward_ad", "profiler": "profiler", "gradcheck": "checks", "gradgradcheck": "checks",
}  # fmt: skip


Tensor.backward = _backward
Tensor.retain_grad = retain_grad
Tensor.retains_grad = property(_retains_grad, doc=_retains_grad.__doc__)


class _VariableMeta(type):
    """All tensors are of it; calling it makes one."""

    def __instancecheck__(cls, t: Any) -> bool:
        return isinstance(t, Tensor)

    def __call__(cls, data: Tensor, requires_grad: bool = False) -> Tensor:
        if not isinstance(data, Tensor):
            raise TypeError(f"Variable data has to be a tensor, but got {type(data).__name__}")
        return data.detach().requires_grad_(requires_grad)


class Variable(metaclass=_VariableMeta):
    """What a Tensor was called: calling it makes another that shares the elements, and has a graph of its own.

    >>> import tapegrad as tg
    >>> x = tg.autograd.Variable(tg.ones(2), requires_grad=True)
    >>> x, isinstance(x, tg.autograd.Variable)
    (tensor([1., 1.], requires_grad=True), True)
    """


grad_mode = anomaly_mode = modes  # as PyTorch's modules are called

__all__ = [  # noqa: PLE0604 - names, all of them
    "AccumulateGrad", "Function", "Node", "Variable", "backward", "detect_anomaly", "enable_grad", "function", "grad",
    "graph", "host_function", "inference_mode", "is_anomaly_check_nan_enabled", "is_anomaly_enabled", "is_grad_enabled",
    "is_inference_mode_enabled", "is_multithreading_enabled", "memory_limit", "no_grad", "set_detect_anomaly",
    "set_grad_enabled", "set_multithreading_enabled", *_LATER,
]  # fmt: skip

# PyTorch has a module for each; `gradcheck` is a function too, which is what the package has by this name.
namesakes.add_namesakes(__name__, "anomaly_mode grad_mode variable", __name__)
sys.modules[f"{__name__}.gradcheck"] = namesakes.Namesake(f"{__name__}.gradcheck", f"{__name__}.checks")


def __dir__() -> list[str]:
    """What is public."""
    return __all__
