"""Whether derivatives are right: `gradcheck` compares them with differences, `gradgradcheck` those of gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tapegrad import creation
from tapegrad.autograd import grad
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
    func: Callable[..., Any], inputs: Sequence[Any], place: int, n_outputs: int, eps: float
) -> list[np.ndarray]:
    """For each output, its derivatives by one input, by central differences: [elements of the input, of the output]."""
    start = inputs[place].detach()._array().copy()
    flat, rows = start.reshape(-1), [list[np.ndarray]() for _ in range(n_outputs)]

    def at(value: float, k: int) -> list[np.ndarray]:
        moved = flat.copy()
        moved[k] = value
        given = list(inputs)
        given[place] = _leaf(moved.reshape(start.shape), inputs[place])
        return [y.detach()._array().copy().reshape(-1) for y in _outputs(func, given)]

    for k in range(flat.size):
        above, below = at(flat[k] + eps, k), at(flat[k] - eps, k)
        for i in range(n_outputs):
            rows[i].append((above[i] - below[i]) / (2 * eps))
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
    check_undefined_grad: bool = True,  # noqa: ARG001 (PyTorch's: of its own undefined tensors)
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_batched_forward_grad: bool = False,  # noqa: ARG001 (forward mode is taken from reverse sweeps)
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,  # noqa: ARG001 (all is compared)
) -> bool:
    """Whether the gradients of a function are what central differences say.

    Parameters
    ----------
    func : callable
        A function of the inputs that gives a Tensor or a tuple of them.
    inputs : Tensor or tuple
        Those Tensors that require grad are checked, and had better be float64.
    eps, atol, rtol : float
        The step, and how far apart derivatives may be: `atol + rtol * |difference|`.
    raise_exception : bool
        Whether to raise where they are, or return False.
    nondet_tol : float
        How far apart two sweeps may be.
    check_forward_ad, check_backward_ad, check_batched_grad : bool
        Which of products of the Jacobian with vectors, Jacobians, and gradients of many seeds at once are checked.

    Raises
    ------
    GradcheckError
        With the first mismatch: the output, the input, and both matrices.
    ValueError
        Where no input requires grad.

    >>> import tapegrad as tg
    >>> tg.autograd.gradcheck(lambda x: x.sin() * x, tg.tensor([0.5, 1.0], requires_grad=True))
    True
    """
    given = _tensors(inputs)
    places = [i for i, x in enumerate(given) if isinstance(x, Tensor) and x.requires_grad]
    if not places:
        raise ValueError(
            "gradcheck expects at least one input tensor to require gradient, but none of the them have "
            "requires_grad=True."
        )

    def checked() -> bool:
        for i in places:
            if not given[i].is_leaf:
                given[i].retain_grad()
        outputs = _outputs(func, given)
        xs = [given[i] for i in places]
        numerical = [_numerical(func, given, i, len(outputs), eps) for i in places]
        for o, y in enumerate(outputs):
            analytical = _analytical(y, xs) if y.requires_grad else [np.zeros((x.numel(), y.numel())) for x in xs]
            again = _analytical(y, xs) if y.requires_grad else analytical
            for i, x in enumerate(xs):
                expected = numerical[i][o].reshape(x.numel(), y.numel())
                if check_backward_ad:
                    _compare(expected, analytical[i], o, places[i], x, y, atol, rtol)
                    if not np.allclose(analytical[i], again[i], rtol=0, atol=nondet_tol, equal_nan=True):
                        raise GradcheckError(
                            "Backward is not reentrant, i.e., running backward with same input and grad_output "
                            "multiple times gives different values, although analytical gradient matches numerical "
                            f"gradient. The tolerance for nondeterminism was {nondet_tol}."
                        )
                if check_grad_dtypes and y.requires_grad:
                    (g,) = grad(y.sum(), x, retain_graph=True, allow_unused=True)
                    if g is not None and g.dtype is not x.dtype:
                        raise GradcheckError(f"Gradient has dtype mismatch: {g.dtype} for an input of {x.dtype}")
            if check_batched_grad and y.requires_grad:
                _check_batched(y, xs)
        if check_forward_ad:
            _check_forward(func, given, places, numerical, atol, rtol)
        return True

    try:
        return in_grad_mode(current_tape(), True, checked)
    except GradcheckError:
        if raise_exception:
            raise
        return False


def _compare(
    expected: np.ndarray, got: np.ndarray, o: int, i: int, x: Tensor, y: Tensor, atol: float, rtol: float,
    how: str = "analytical",
) -> None:  # fmt: skip
    if np.allclose(got, expected, rtol=rtol, atol=atol, equal_nan=True):
        return
    wrong = ~np.isclose(got, expected, rtol=rtol, atol=atol, equal_nan=True)
    a, b = (int(k) for k in np.argwhere(wrong)[0])
    raise GradcheckError(
        f"Jacobian mismatch for output {o} with respect to input {i},\n"
        f"numerical:{expected}\n{how}:{got}\n"
        f"the first of {wrong.sum()} elements: d output[{b}] / d input[{a}], of {describe(y)} by {describe(x)}, is "
        f"{expected[a, b]:.6g} by differences and {got[a, b]:.6g} by the rules\n"
    )


def _check_batched(y: Tensor, xs: Sequence[Tensor]) -> None:
    seeds = creation.eye(y.numel(), dtype=y.dtype).reshape(y.numel(), *y.shape)
    found = grad(y, xs, seeds, retain_graph=True, allow_unused=True, is_grads_batched=True)
    for g, expected in zip(found, _analytical(y, xs), strict=True):
        if g is not None and not np.allclose(g.detach()._array().reshape(y.numel(), -1).T, expected):
            raise GradcheckError("While considering batched gradients: they differ from those taken one by one")


def _check_forward(
    func: Callable[..., Any], given: Sequence[Any], places: Sequence[int], numerical: Any, atol: float, rtol: float
) -> None:
    from tapegrad.autograd import functional

    def of_chosen(*chosen: Tensor) -> tuple[Tensor, ...]:
        full = list(given)
        for place, x in zip(places, chosen, strict=True):
            full[place] = x
        return tuple(_outputs(func, full))

    xs = tuple(given[i] for i in places)
    for i, x in enumerate(xs):
        for k in range(x.numel()):
            tangents = [creation.zeros_like(other) for other in xs]
            flat = creation.zeros(x.numel(), dtype=x.dtype)
            flat[k] = 1.0
            tangents[i] = flat.reshape(x.shape)
            _, pushed = functional.jvp(of_chosen, xs, tuple(tangents))
            for o, y_dot in enumerate(pushed):
                expected = numerical[i][o].reshape(x.numel(), -1)[k : k + 1]
                got = y_dot.detach()._array().reshape(1, -1)
                _compare(expected, got, o, places[i], x, y_dot, atol, rtol, "by the Jacobian's product")


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
        check_backward_ad=check_rev_over_rev, fast_mode=fast_mode,
    )  # fmt: skip


__all__ = ["GradcheckError", "gradcheck", "gradgradcheck"]
