"""Whether derivatives are right: `gradcheck` compares them with differences, `gradgradcheck` those of gradients."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tapegrad import creation
from tapegrad.autograd import forward_ad, grad, tangents
from tapegrad.dtypes import FLOAT64
from tapegrad.kinds import GRADIENTS
from tapegrad.tape import current_tape, in_grad_mode
from tapegrad.tensor import Tensor, describe


class GradcheckError(RuntimeError):
    """Derivatives are wrong: what `gradcheck` raises."""


def _tensors(given: Any) -> tuple[Any, ...]:
    return tuple(given) if isinstance(given, (tuple, list)) else (given,)


def _outputs(func: Callable[..., Any], inputs: Sequence[Any]) -> list[Tensor]:
    found = _tensors(func(*inputs))
    return [y for y in found if isinstance(y, Tensor) and y._kind.dtype.is_floating_point]


def _numerical(
    func: Callable[..., Any], inputs: Sequence[Any], place: int, outputs: Sequence[Tensor], eps: float
) -> list[np.ndarray]:
    """For each output, its derivatives by one input, by central differences: [elements of the input, of the output].

    The input's own elements are moved, and put back: a function may read them by other ways than its arguments.
    """
    x, rows = inputs[place], [list[np.ndarray]() for _ in outputs]
    start = x.detach()._array().copy()

    def put(array: np.ndarray) -> None:
        in_grad_mode(current_tape(), False, x.copy_, _leaf(array, x))

    def at(step: float, k: int) -> list[np.ndarray]:
        moved = start.copy()
        moved.reshape(-1)[k] += step
        put(moved)
        found = _outputs(func, inputs)
        for what in ("shape", "dtype"):
            got, before = [[getattr(y, what) for y in ys] for ys in (found, outputs)]
            if got != before:
                raise AssertionError(
                    f"Expected `func` to return outputs with the same {what} when inputs are perturbed on index {k} of "
                    f"input {place}, but got: {got} and {before}"
                )
        return [y.detach()._array().copy().reshape(-1) for y in found]

    try:
        for k in range(start.size):
            above, below = at(eps, k), at(-eps, k)
            for i in range(len(outputs)):
                rows[i].append((above[i] - below[i]) / (2 * eps))
    finally:
        put(start)
    return [np.array(found) if found else np.zeros((0, 0)) for found in rows]


def _leaf(array: np.ndarray, like: Tensor) -> Tensor:
    made: Tensor = creation.tensor(array, dtype=like.dtype, requires_grad=like.requires_grad)
    return made


def _analytical(y: Tensor, inputs: Sequence[Tensor]) -> list[np.ndarray]:
    """The derivatives of one output by each input, by reverse sweeps."""
    columns: list[list[np.ndarray]] = [[] for _ in inputs]
    for k in range(y.numel()):
        seed = creation.zeros(y.numel(), dtype=y.dtype)
        seed[k] = 1.0
        found = grad(y, inputs, seed.reshape(y.shape), retain_graph=True, allow_unused=True)
        for i, g in enumerate(found):
            columns[i].append(np.zeros(inputs[i].numel()) if g is None else g.detach()._array().copy().reshape(-1))
    return [np.array(c).T if c else np.zeros((x.numel(), 0)) for c, x in zip(columns, inputs, strict=True)]


def gradcheck(
    func: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,  # noqa: ARG001 (each output's sweep leaves the others' gradients undefined)
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_batched_forward_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,  # noqa: ARG001 (all is compared)
    masked: bool | None = None,  # noqa: ARG001 (PyTorch's: of sparse tensors)
) -> bool:
    """Whether the gradients of a function are what central differences say.

    Parameters
    ----------
    func : callable
        A function of the inputs that gives a Tensor or a tuple of them. Of its outputs those that require grad are
        checked; where none does, the differences must be zero.
    inputs : Tensor or tuple
        Those Tensors that require grad are checked, and had better be float64.
    eps : float
        The step of the differences.
    atol, rtol : float
        How far apart derivatives may be: `atol + rtol * |difference|`.
    raise_exception : bool
        Whether to raise where they are, or return False.
    nondet_tol : float
        How far apart two sweeps may be.
    check_backward_ad : bool
        Whether derivatives by reverse sweeps are checked.
    check_forward_ad : bool
        Whether those of dual tensors are, which take the function's rules for forward mode.
    check_batched_grad, check_batched_forward_grad : bool
        Whether these are the same for many seeds at once.
    check_grad_dtypes : bool
        Whether gradients must have the inputs' dtypes.

    Raises
    ------
    GradcheckError
        With the first mismatch: the output, the input, and both matrices.
    ValueError
        Where no input requires grad.
    RuntimeError
        Where an input's elements share memory.
    AssertionError
        Where nothing is to be checked, or the outputs' shapes or dtypes depend on the inputs' values.

    >>> import tapegrad as tg
    >>> tg.autograd.gradcheck(lambda x: x.sin() * x, tg.tensor([0.5, 1.0], requires_grad=True), check_forward_ad=True)
    True
    """
    if not (check_forward_ad or check_backward_ad):
        raise AssertionError("Expected at least one of check_forward_ad or check_backward_ad to be True")
    if check_batched_grad and not check_backward_ad:
        raise AssertionError("Setting check_batched_grad=True requires check_backward_ad to be True")
    if check_batched_forward_grad and not check_forward_ad:
        raise AssertionError("Setting check_batched_forward_grad=True requires check_forward_ad to be True")
    given = _tensors(inputs)
    places = _checked_inputs(given)

    def checked() -> bool:
        for i in places:
            if not given[i].is_leaf:
                given[i].retain_grad()
        outputs, xs = _outputs(func, given), [given[i] for i in places]
        compared = [o for o, y in enumerate(outputs) if y.requires_grad]
        numerical = [
            [rows.reshape(given[i].numel(), y.numel()) for rows, y in zip(found, outputs, strict=True)]
            for i, found in ((i, _numerical(func, given, i, outputs, eps)) for i in places)
        ]
        outputs = _outputs(func, given)  # of the inputs as they are now: one that was computed has been written to
        if not compared:
            if any(not np.allclose(rows, 0, rtol=0, atol=1e-12) for found in numerical for rows in found):
                raise GradcheckError("Numerical gradient for function expected to be zero: no output requires grad")
            return True
        for o in compared if check_backward_ad else ():
            of_output = [found[o] for found in numerical]
            analytical = _check_backward(outputs[o], xs, of_output, o, places, atol, rtol, nondet_tol)
            if check_grad_dtypes:
                _check_dtypes(outputs[o], xs)
            if check_batched_grad:
                _check_batched(outputs[o], xs, analytical)
        if check_forward_ad:
            _check_forward(func, given, places, numerical, compared, atol, rtol, check_batched_forward_grad)
        return True

    try:
        return in_grad_mode(current_tape(), True, checked)
    except GradcheckError:
        if raise_exception:
            raise
        return False


def _checked_inputs(given: Sequence[Any]) -> list[int]:
    """Which inputs are checked, and whether they can be."""
    places = [i for i, x in enumerate(given) if isinstance(x, Tensor) and x.requires_grad]
    if not places:
        raise ValueError(
            "gradcheck expects at least one input tensor to require gradient, but none of the them have "
            "requires_grad=True."
        )
    for i in places:
        x = given[i]
        if x._kind.dtype is not FLOAT64:
            warnings.warn(
                f"Input #{i} requires gradient and is not a double precision floating point or complex. This check "
                "will likely fail if all the inputs are not of double precision floating point or complex. ",
                UserWarning, stacklevel=3,
            )  # fmt: skip
        if any(step == 0 and n > 1 for step, n in zip(x.stride(), x.shape, strict=True)):
            raise RuntimeError(
                f"The {i}th input has a dimension with stride 0. gradcheck only supports inputs that are "
                "non-overlapping to be able to compute the numerical gradients correctly. You should call "
                ".contiguous on the input before passing it to gradcheck."
            )
    return places


def _check_backward(
    y: Tensor, xs: Sequence[Tensor], numerical: Sequence[np.ndarray], o: int, places: Sequence[int], atol: float,
    rtol: float, nondet_tol: float,
) -> list[np.ndarray]:  # fmt: skip
    analytical, again = _analytical(y, xs), _analytical(y, xs)
    for i, x in enumerate(xs):
        _compare(numerical[i], analytical[i], o, places[i], describe(x), describe(y), atol, rtol, "Jacobian")
        if not np.allclose(analytical[i], again[i], rtol=0, atol=nondet_tol, equal_nan=True):
            raise GradcheckError(
                "Backward is not reentrant, i.e., running backward with same input and grad_output multiple times "
                "gives different values, although analytical gradient matches numerical gradient. The tolerance for "
                f"nondeterminism was {nondet_tol}."
            )
    return analytical


def _check_dtypes(y: Tensor, xs: Sequence[Tensor]) -> None:
    for x, g in zip(xs, grad(y.sum(), xs, retain_graph=True, allow_unused=True), strict=True):
        if g is not None and g.dtype is not x.dtype:
            raise GradcheckError(f"Gradient has dtype mismatch: {g.dtype} for an input of {x.dtype}")


def _compare(
    expected: np.ndarray, got: np.ndarray, o: int, i: int, x: str, y: str, atol: float, rtol: float, of: str
) -> None:
    if np.allclose(got, expected, rtol=rtol, atol=atol, equal_nan=True):
        return
    wrong = ~np.isclose(got, expected, rtol=rtol, atol=atol, equal_nan=True)
    a, b = (int(k) for k in np.argwhere(wrong)[0])
    raise GradcheckError(
        f"{of} mismatch for output {o} with respect to input {i},\n"
        f"numerical:{expected}\nanalytical:{got}\n"
        f"the first of {wrong.sum()} elements: d output[{b}] / d input[{a}], of {y} by {x}, is "
        f"{expected[a, b]:.6g} by differences and {got[a, b]:.6g} by the rules\n"
    )


def _check_batched(y: Tensor, xs: Sequence[Tensor], analytical: Sequence[np.ndarray]) -> None:
    seeds = creation.eye(y.numel(), dtype=y.dtype).reshape(y.numel(), *y.shape)
    found = grad(y, xs, seeds, retain_graph=True, allow_unused=True, is_grads_batched=True)
    for g, expected in zip(found, analytical, strict=True):
        if g is not None and not np.allclose(g.detach()._array().reshape(y.numel(), -1).T, expected):
            raise GradcheckError("While considering batched gradients: they differ from those taken one by one")


def _check_forward(
    func: Callable[..., Any], given: Sequence[Any], places: Sequence[int], numerical: Sequence[Sequence[np.ndarray]],
    compared: Sequence[int], atol: float, rtol: float, batched: bool,
) -> None:  # fmt: skip
    for at, place in enumerate(places):
        x = given[place]
        pushed = [_pushed(func, given, places, place, row) for row in _basis(x)]
        for o in compared:
            expected = numerical[at][o]
            got = np.array([rows[o] for rows in pushed]).reshape(expected.shape)
            of = "Jacobian computed with forward mode"
            _compare(expected, got, o, place, describe(x), "the output", atol, rtol, of)
            if batched and x.numel() and not np.allclose(_pushed_together(func, given, place, o), got):
                raise GradcheckError("While considering batched tangents: they differ from those taken one by one")


def _basis(x: Tensor) -> Tensor:
    unit: Tensor = creation.eye(x.numel(), dtype=x.dtype).reshape(x.numel(), *x.shape)
    return unit


def _pushed(
    func: Callable[..., Any], given: Sequence[Any], places: Sequence[int], place: int, tangent: Tensor
) -> list[np.ndarray]:
    """The outputs' tangents, given one of an input, by dual tensors: zeros for the other inputs'."""
    with forward_ad.dual_level():
        duals = list(given)
        for i in places:
            own = tangent if i == place else creation.zeros_like(given[i])
            duals[i] = forward_ad.make_dual(given[i].detach().requires_grad_(), own)
        found = [(y, forward_ad.unpack_dual(y).tangent) for y in _outputs(func, duals)]
        return [np.zeros(y.numel()) if t is None else t.detach()._array().copy().reshape(-1) for y, t in found]


def _pushed_together(func: Callable[..., Any], given: Sequence[Any], place: int, o: int) -> np.ndarray:
    """One output's tangents, given all of an input's at once: [elements of the input, of the output]."""
    tape, x = current_tape(), given[place].detach().requires_grad_()
    y = _outputs(func, [*given[:place], x, *given[place + 1 :]])[o]
    basis = {x._slot: _basis(x)}
    steps = tangents.steps_between(tape, [y._slot], basis, GRADIENTS)
    (found,) = in_grad_mode(tape, False, tangents.push, tape, steps, basis, [y._slot], x.numel())
    if found is None:
        return np.zeros((x.numel(), y.numel()))
    return found.detach()._array().reshape(x.numel(), -1)


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Any,
    grad_outputs: Any = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    gen_non_contig_grad_outputs: bool = False,  # noqa: ARG001 (what lies how makes no difference to rules)
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_fwd_over_rev: bool = False,
    check_rev_over_rev: bool = True,
    fast_mode: bool = False,
    masked: bool = False,
) -> bool:
    """Whether the gradients of a function's gradients are what central differences say: see `gradcheck`.

    >>> import tapegrad as tg
    >>> tg.autograd.gradgradcheck(lambda x: x.sin() * x, tg.tensor([0.5, 1.0], requires_grad=True))
    True
    """
    given = _tensors(inputs)
    outputs = _outputs(func, given)
    rng = np.random.default_rng(0)
    if grad_outputs is None:
        seeds = [_leaf(rng.uniform(-1, 1, y.shape), y.detach().requires_grad_()) for y in outputs]
    else:
        seeds = list(_tensors(grad_outputs))
    n = len(given)

    def gradients(*args: Any) -> tuple[Tensor, ...]:
        xs, gs = args[:n], args[n:]
        active = [x for x in xs if isinstance(x, Tensor) and x.requires_grad]
        found = grad(
            [y for y in _outputs(func, xs) if y.requires_grad], active,
            [g for y, g in zip(outputs, gs, strict=True) if y.requires_grad], create_graph=True, allow_unused=True,
        )  # fmt: skip
        return tuple(g for g in found if g is not None)

    return gradcheck(
        gradients, (*given, *seeds), eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception,
        nondet_tol=nondet_tol, check_undefined_grad=check_undefined_grad, check_grad_dtypes=check_grad_dtypes,
        check_batched_grad=check_batched_grad, check_forward_ad=check_fwd_over_rev,
        check_backward_ad=check_rev_over_rev, fast_mode=fast_mode, masked=masked,
    )  # fmt: skip


__all__ = ["GradcheckError", "gradcheck", "gradgradcheck"]
