"""Products with Jacobians and Hessians, and these whole, of functions of Tensors: as in `torch.autograd.functional`.

`tapegrad.func` has the same with more forms and for arrays; these are for programs that call them so. `inputs` is a
Tensor or a tuple of them, and results have that form. With `create_graph` results can be differentiated; with `strict`
an output that does not depend on an input is an error, else its derivative is zero. `vectorize` and
`outer_jacobian_strategy` say how PyTorch goes about it, and change nothing here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tapegrad import creation
from tapegrad.autograd import grad
from tapegrad.functions.shaping import functions as shaping
from tapegrad.recording import local
from tapegrad.tape import current_tape, in_grad_mode
from tapegrad.tensor import Size, Tensor

_stack: Any = shaping["stack"]
Tensors = tuple[Tensor, ...]


def _as_tuple(given: Any, what: str, name: str) -> tuple[bool, Tensors]:
    is_tuple = isinstance(given, tuple)
    tensors = given if is_tuple else (given,)
    for i, t in enumerate(tensors):
        if not isinstance(t, Tensor):
            of = "outputs of the user-provided function" if what == "outputs" else what
            which = f"value at index {i}" if is_tuple else f"given {of}"
            raise TypeError(
                f"The {of} given to {name} must be either a Tensor or a tuple of Tensors but the {which} has type "
                f"{type(t)}."
            )
    return is_tuple, tensors


def _own(tensors: Tensors, create_graph: bool) -> Tensors:
    """The inputs as this call sees them: with a graph of their own, or views by which the caller's goes on."""
    made = []
    for t in map(local, tensors):
        if create_graph and t.requires_grad:
            made.append(t.view(t.shape) if t._kind.contiguous else t.clone())
        else:
            made.append(t.detach().requires_grad_())
    return tuple(made)


def _shown(is_tuple: bool, found: Sequence[Any], create_graph: bool) -> Any:
    shown = tuple(t if create_graph or not isinstance(t, Tensor) else t.detach() for t in found)
    return shown if is_tuple else shown[0]


def _call(func: Callable[..., Any], inputs: Any, name: str, create_graph: bool, strict: bool) -> Any:
    """(inputs are a tuple, inputs, outputs are a tuple, outputs)."""
    is_tuple, tensors = _as_tuple(inputs, "inputs", name)
    tensors = _own(tensors, create_graph)
    gives_tuple, outputs = _as_tuple(func(*tensors), "outputs", name)
    if strict:
        for i, y in enumerate(outputs):
            if not y.requires_grad:
                raise RuntimeError(
                    f"Output {i} of the user-provided function does not require gradients. The outputs must be "
                    f"computed in a differentiable manner from the input when running in strict mode."
                )
    return is_tuple, tensors, gives_tuple, outputs


def _independent(subject: str, i: int, where: str = "") -> RuntimeError:
    return RuntimeError(
        f"{subject} of the user-provided function is independent of input {i}. This is not allowed in strict mode"
        f"{where}."
    )


def _pull(
    outputs: Sequence[Tensor], inputs: Tensors, seeds: Sequence[Tensor | None], create_graph: bool, strict: bool,
    subject: str = "The output", derivative: str | None = "jacobian",
) -> list[Tensor]:  # fmt: skip
    """The adjoints of the inputs; zeros where nothing leads to them.

    Where `strict`, that is an error about the `subject`; and one about the `derivative`, if it is named, where what is
    found can't be differentiated again.
    """
    live = [(y, g) for y, g in zip(outputs, seeds, strict=True) if y.requires_grad]
    found: Sequence[Tensor | None] = [None] * len(inputs)
    if live:
        ys, gs = zip(*live, strict=True)
        found = grad(ys, inputs, gs, retain_graph=True, create_graph=create_graph, allow_unused=True)
    for i, g in enumerate(found if strict else ()):
        if g is None:
            raise _independent(subject, i)
        if create_graph and derivative is not None and not g.requires_grad:
            raise _independent(f"The {derivative}", i, " when create_graph=True")
    return [creation.zeros_like(x) if g is None else g for x, g in zip(inputs, found, strict=True)]


def _vector(v: Any, like: Tensors, what: str, is_tuple: bool, name: str) -> Tensors:
    """The vector of a product, with PyTorch's errors."""
    if v is None:
        if len(like) != 1 or like[0].numel() != 1:
            by = "user-provided function returns" if what == "outputs" else "input to the user-provided function is"
            raise RuntimeError(f"The vector v can only be None if the {by} a single Tensor with a single element.")
        return (creation.ones_like(like[0]),)
    _, vectors = _as_tuple(v, "v", name)
    if len(vectors) != len(like):
        if is_tuple:
            raise RuntimeError(f"v is a tuple of invalid length: should be {len(like)} but got {len(vectors)}.")
        raise RuntimeError("The given v should contain a single Tensor.")
    for i, (t, x) in enumerate(zip(vectors, like, strict=True)):
        if t.shape != x.shape:
            where = f"Entry {i} in " if is_tuple else ""
            raise RuntimeError(f"{where}v has invalid size: should be {Size(x.shape)} but got {Size(t.shape)}.")
    return vectors


def _recording(function: Callable[..., Any], *args: Any) -> Any:
    return in_grad_mode(current_tape(), True, function, *args)


def vjp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """(outputs, the products of `v`, of the outputs' form, with the Jacobian).

    >>> import tapegrad as tg
    >>> tg.autograd.functional.vjp(lambda x: x**2, tg.tensor([1.0, 2.0]), tg.tensor([1.0, 10.0]))
    (tensor([1., 4.]), tensor([ 2., 40.]))
    """

    def taken() -> tuple[Any, Any]:
        is_tuple, xs, gives_tuple, ys = _call(func, inputs, "vjp", create_graph, strict)
        found = _pull(ys, xs, _vector(v, ys, "outputs", gives_tuple, "vjp"), create_graph, strict)
        return _shown(gives_tuple, ys, create_graph), _shown(is_tuple, found, create_graph)

    return _recording(taken)


def _push(ys: Sequence[Tensor], xs: Tensors, vs: Tensors, create_graph: bool, strict: bool) -> list[Tensor]:
    """The product of the Jacobian with `vs`: the gradient of u |-> J^T u, which is linear."""
    zeros = [creation.zeros_like(y).requires_grad_() for y in ys]
    linear = _pull(ys, xs, zeros, True, False)
    for i, g in enumerate(linear if strict else ()):
        if not g.requires_grad:
            raise _independent("The output", i)
    live = [(g, v) for g, v in zip(linear, vs, strict=True) if g.requires_grad]
    found: Sequence[Tensor | None] = [None] * len(ys)
    if live:
        gs, along = zip(*live, strict=True)
        found = grad(gs, zeros, along, retain_graph=True, create_graph=create_graph, allow_unused=True)
    for i, t in enumerate(found if strict and create_graph else ()):
        if t is not None and not t.requires_grad:
            raise _independent("The jacobian", i, " when create_graph=True")
    return [creation.zeros_like(y) if t is None else t for y, t in zip(ys, found, strict=True)]


def jvp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """(outputs, the products of the Jacobian with `v`, of the inputs' form).

    >>> import tapegrad as tg
    >>> tg.autograd.functional.jvp(lambda x: x**2, tg.tensor([1.0, 2.0]), tg.tensor([1.0, 10.0]))
    (tensor([1., 4.]), tensor([ 2., 40.]))
    """

    def taken() -> tuple[Any, Any]:
        is_tuple, xs, gives_tuple, ys = _call(func, inputs, "jvp", create_graph, strict)
        found = _push(ys, xs, _vector(v, xs, "inputs", is_tuple, "jvp"), create_graph, strict)
        return _shown(gives_tuple, ys, create_graph), _shown(gives_tuple, found, create_graph)

    return _recording(taken)


def _rows(y: Tensor, xs: Tensors, create_graph: bool, strict: bool, subject: str = "The output") -> list[Tensor]:
    """The Jacobian of one output by each input."""
    rows = []
    for k in range(y.numel()):
        unit = creation.zeros(y.numel(), dtype=y.dtype)
        unit[k] = 1.0
        rows.append(_pull([y], xs, [unit.reshape(y.shape)], create_graph, strict, subject))
    return [
        _stack([row[i] for row in rows]).reshape(*y.shape, *x.shape) if rows
        else creation.zeros(*y.shape, *x.shape, dtype=x.dtype)
        for i, x in enumerate(xs)
    ]  # fmt: skip


def jacobian(
    func: Callable[..., Any], inputs: Any, create_graph: bool = False, strict: bool = False, vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Any:  # fmt: skip
    """The Jacobian: of each output's shape, then each input's; a tuple a tuple of outputs, of tuples a tuple of inputs.

    >>> import tapegrad as tg
    >>> tg.autograd.functional.jacobian(lambda x: x.cumsum(0), tg.tensor([1.0, 2.0]))
    tensor([[1., 0.],
            [1., 1.]])
    """
    if strategy not in ("forward-mode", "reverse-mode"):
        raise AssertionError(
            'Expected strategy to be either "forward-mode" or "reverse-mode". Hint: If your function has more outputs '
            'than inputs, "forward-mode" tends to be more performant. Otherwise, prefer to use "reverse-mode".'
        )
    if strategy == "forward-mode" and create_graph:
        raise NotImplementedError(
            'torch.autograd.functional.jacobian: `create_graph=True` and `strategy="forward-mode"` are not supported '
            'together (yet). Please either set `create_graph=False` or `strategy="reverse-mode"`.'
        )
    if vectorize and strict:
        raise RuntimeError(
            "torch.autograd.functional.jacobian: `strict=True` and `vectorized=True` are not supported together."
        )

    def taken() -> Any:
        is_tuple, xs, gives_tuple, ys = _call(func, inputs, "jacobian", create_graph, strict)
        found = [
            _shown(is_tuple, _rows(y, xs, create_graph, strict, f"Output {i}"), create_graph) for i, y in enumerate(ys)
        ]
        return tuple(found) if gives_tuple else found[0]

    return _recording(taken)


def _scalar(ys: Sequence[Tensor], gives_tuple: bool, name: str) -> Tensor:
    if gives_tuple and len(ys) != 1:
        raise RuntimeError(f"The function given to {name} should return a single Tensor")
    if ys[0].numel() != 1:
        raise RuntimeError(f"The Tensor returned by the function given to {name} should contain a single element")
    return ys[0].reshape(())


def hessian(
    func: Callable[..., Any], inputs: Any, create_graph: bool = False, strict: bool = False, vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
) -> Any:  # fmt: skip
    """The Hessian of a function of one element: for each pair of inputs, of both their shapes.

    >>> import tapegrad as tg
    >>> tg.autograd.functional.hessian(lambda x: (x**3).sum(), tg.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    if vectorize and strict:
        raise RuntimeError(
            "torch.autograd.functional.hessian: `strict=True` and `vectorized=True` are not supported together."
        )
    if outer_jacobian_strategy not in ("forward-mode", "reverse-mode"):
        raise AssertionError('Expected strategy to be either "forward-mode" or "reverse-mode".')

    def taken() -> Any:
        is_tuple, xs, gives_tuple, ys = _call(func, inputs, "hessian", create_graph, strict)
        first = _pull([_scalar(ys, gives_tuple, "hessian")], xs, [None], True, False)
        if strict:
            _check_twice_differentiable(first)
        found = [_shown(is_tuple, _rows(g, xs, create_graph, strict), create_graph) for g in first]
        return tuple(found) if is_tuple else found[0]

    return _recording(taken)


def _check_twice_differentiable(gradients: Sequence[Tensor]) -> None:
    for i, g in enumerate(gradients):
        if not g.requires_grad:
            raise RuntimeError(
                "While computing the hessian, found that the jacobian of the user-provided function with respect to "
                f"input {i} is independent of the input. This is not allowed in strict mode. You should ensure that "
                "your function is twice differentiable and that the jacobian depends on the inputs (this would be "
                "violated by a linear function for example)."
            )


def _with_hessian(
    func: Callable[..., Any], inputs: Any, v: Any, create_graph: bool, strict: bool, name: str
) -> tuple[Any, Any]:
    """(output, the product of its Hessian with `v`)."""

    def taken() -> tuple[Any, Any]:
        is_tuple, xs, gives_tuple, ys = _call(func, inputs, name, create_graph, strict)
        vs = _vector(v, xs, "inputs", is_tuple, name)
        first = _pull([_scalar(ys, gives_tuple, name)], xs, [None], True, strict, derivative=None)
        if strict:
            _check_twice_differentiable(first)
        found = _pull(first, xs, vs, create_graph, strict, "The jacobian", "hessian")
        return _shown(gives_tuple, ys, create_graph), _shown(is_tuple, found, create_graph)

    return _recording(taken)


def vhp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """(output, the products of `v`, of the inputs' form, with the Hessian of a function of one element).

    >>> import tapegrad as tg
    >>> tg.autograd.functional.vhp(lambda x: (x**3).sum(), tg.tensor([1.0, 2.0]), tg.tensor([1.0, 1.0]))
    (tensor(9.), tensor([ 6., 12.]))
    """
    return _with_hessian(func, inputs, v, create_graph, strict, "vhp")


def hvp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """(output, the products of the Hessian of a function of one element with `v`, of the inputs' form): see `vhp`.

    >>> import tapegrad as tg
    >>> tg.autograd.functional.hvp(lambda x: (x**3).sum(), tg.tensor([1.0, 2.0]), tg.tensor([1.0, 1.0]))
    (tensor(9.), tensor([ 6., 12.]))
    """
    return _with_hessian(func, inputs, v, create_graph, strict, "hvp")  # Hessians are symmetric


__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]
