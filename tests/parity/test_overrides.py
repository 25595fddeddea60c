"""Classes that are no Tensors, and subclasses of Tensor, answer for functions: as PyTorch asks them."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tapegrad as tg

torch = pytest.importorskip("torch")


class Foreign:
    """Says what it was asked."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func, types, args, kwargs or {}


CALLS: dict[str, Callable[[Any, Any, Any], Any]] = {  # of the package, a tensor, and an object
    "add": lambda p, t, o: p.add(o, t),
    "allclose": lambda p, t, o: p.allclose(o, t),
    "broadcast_tensors": lambda p, t, o: p.broadcast_tensors(o, t),
    "cat": lambda p, t, o: p.cat([t, o], 1),
    "clone": lambda p, t, o: p.clone(o),
    "diagonal": lambda p, t, o: p.diagonal(o, 1, -2, -1),
    "div": lambda p, t, o: p.div(o, 2),
    "einsum": lambda p, t, o: p.einsum("ij,jk->ik", t, o),
    "exp": lambda p, t, o: p.exp(o),
    "linalg.cholesky": lambda p, t, o: p.linalg.cholesky(o),
    "linalg.solve": lambda p, t, o: p.linalg.solve(o, t),
    "matmul": lambda p, t, o: p.matmul(o, t),
    "maximum": lambda p, t, o: p.maximum(t, o),
    "nn.functional.linear": lambda p, t, o: p.nn.functional.linear(t, o),
    "numel": lambda p, t, o: p.numel(o),
    "permute": lambda p, t, o: p.permute(o, (1, 0)),
    "pow": lambda p, t, o: p.pow(o, 2),
    "reshape": lambda p, t, o: p.reshape(o, (2,)),
    "softmax": lambda p, t, o: p.softmax(o, 0),
    "stack": lambda p, t, o: p.stack([o, t]),
    "sub": lambda p, t, o: p.sub(t, o),
    "sum": lambda p, t, o: p.sum(o),
    "transpose": lambda p, t, o: p.transpose(o, 0, 1),
    "triu": lambda p, t, o: p.triu(o),
    "where": lambda p, t, o: p.where(t > 0, o, t),
    "zeros_like": lambda p, t, o: p.zeros_like(o),
}


def found(package: Any, name: str) -> Any:
    for part in name.split("."):
        package = getattr(package, part)
    return package


@pytest.mark.parametrize("name", CALLS)
def test_a_foreign_class_is_asked_as_pytorch_asks_it(name: str):
    o = Foreign()
    tensors = torch.ones(2, 2), tg.ones(2, 2)
    told = []
    for package, t in zip((torch, tg), tensors, strict=True):
        function, types, args, facts = CALLS[name](package, t, o)
        assert function is found(package, name) or function is getattr(found(package, name), "__wrapped__", None)
        assert Foreign in types
        told.append((repr(args), facts))
    assert told[0] == told[1]


OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda t, o: t + o,
    "div": lambda t, o: t / o,
    "eq": lambda t, o: t == o,
    "lt": lambda t, o: t < o,
    "matmul": lambda t, o: t @ o,
    "mul": lambda t, o: t * o,
    "pow": lambda t, o: t**o,
    "sub": lambda t, o: t - o,
}


@pytest.mark.parametrize("name", OPERATORS)
def test_so_do_operators_and_methods(name: str):
    o = Foreign()
    for package in torch, tg:
        t = package.ones(2, 2)
        function, types, args, facts = OPERATORS[name](t, o)
        assert name in function.__name__
        assert Foreign in types
        assert args[0] is t
        assert args[1] is o
        assert not facts
        args = getattr(t, name)(o)[2]
        assert args[0] is t
        assert args[1] is o


def test_who_answers_not_implemented_is_not_asked_again_and_reflected_operators_come_next():
    class Silent:
        asked = 0

        @classmethod
        def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            Silent.asked += 1
            return NotImplemented

        def __radd__(self, other: Any) -> str:
            return "reflected"

    for package in torch, tg:
        t = package.ones(2)
        Silent.asked = 0
        with pytest.raises(TypeError, match="NotImplemented"):
            package.exp(Silent())
        assert Silent.asked == 1
        assert t + Silent() == "reflected"
        with pytest.raises(TypeError, match="unsupported operand"):
            t @ Silent()


def test_a_subclass_is_asked_before_its_base():
    class Narrow(Foreign):
        @classmethod
        def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return "narrow", types

    for package in torch, tg:
        assert package.matmul(Foreign(), Narrow()) == ("narrow", (Narrow, Foreign))


def test_what_programs_ask_of_overrides():
    o = Foreign()
    for package in torch, tg:
        overrides = package.overrides
        t = package.ones(2)
        assert overrides.has_torch_function((t, o))
        assert not overrides.has_torch_function((t, 1.0))
        assert overrides.is_tensor_like(o)
        assert overrides.is_tensor_like(t)
        assert not overrides.is_tensor_like(1.0)
        assert overrides.handle_torch_function(len, (o,), o, key=1) == (len, (Foreign,), (o,), {"key": 1})


def logging(package: Any) -> tuple[Any, list[Any]]:
    """A subclass of Tensor that notes what it is asked, and the notes."""
    asked: list[Any] = []

    class Logging(package.Tensor):
        @classmethod
        def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            asked.append((func.__name__, len(args)))
            return super().__torch_function__(func, types, args, kwargs)

    return Logging, asked


def classes(value: Any) -> Any:
    """Of which classes results are, and their numbers."""
    if isinstance(value, (tuple, list)):
        return [classes(item) for item in value]
    if hasattr(value, "tolist"):
        return type(value).__name__, np.round(1.0 * value.numpy(), 12).tolist()
    return str(value).split(".")[-1]


ON_SUBCLASSES: dict[str, Callable[[Any, Any, Any], Any]] = {  # of the package, an object of a subclass, a tensor
    "operators": lambda p, x, t: [x + t, t + x, 1 + x, t * x, x * 2, x / t, x**2, -x, x @ t, x < t, x % 2, x - t],
    "functions": lambda p, x, t: [p.exp(x), p.add(t, x), p.where(t > 1, x, t), p.softmax(x, 0), p.maximum(t, x)],
    "methods": lambda p, x, t: [x.exp(), t.add(x), x.reshape(4), x.to(p.float32), x.clone(), x.detach(), x.T],
    "many": lambda p, x, t: [p.stack([t, x]), p.cat([x, t]), x.max(0)[0], x.unbind(), [*x], x.split(1)],
    "items": lambda p, x, t: [x[0], x[:, 1], x[t > 2]],
    "accessors": lambda p, x, t: [x.shape, x.dtype, x.ndim, x.grad, x.requires_grad, x.numel(), len(x), x.data],
    "in place": lambda p, x, t: [x.add_(1), x.__imul__(2), x.__setitem__(0, 3.0), x],
    "networks": lambda p, x, t: [p.nn.functional.relu(x), p.nn.functional.linear(x, t), p.nn.functional.linear(t, x)],
    "numbers": lambda p, x, t: [float(x.sum()), bool(x[0, 0]), x.sum().item(), x.tolist()],
}


@pytest.mark.parametrize("name", ON_SUBCLASSES)
def test_subclasses_of_tensor_are_asked_and_kept_as_by_pytorch(name: str):
    results, notes = [], []
    for _ in range(2):  # what is recorded in one step is known then
        ON_SUBCLASSES[name](tg, *(tg.tensor([[1.0, 2.0], [3.0, 4.0]]) for _ in range(2)))
    for package in torch, tg:
        Logging, asked = logging(package)
        t = package.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=package.float64)
        x = t.clone().as_subclass(Logging)
        results.append(classes(ON_SUBCLASSES[name](package, x, t)))
        notes.append([(name.replace("__eq__", "eq"), n) for name, n in asked if name != "unbind"])
    assert results[0] == results[1]
    if name not in ("many", "accessors", "networks"):
        assert [n for n in notes[0] if n[0] != "dim"] == [n for n in notes[1] if n[0] != "dim"]


def test_subclasses_see_what_is_written_and_have_gradients():
    for package in torch, tg:

        class Mine(package.Tensor):
            pass

        class Narrow(Mine):
            pass

        below = package.zeros(3, dtype=package.float64)
        x = below.as_subclass(Mine)
        below.add_(2.0)
        assert (x.__class__, x.tolist()) == (Mine, [2.0] * 3)
        x.mul_(2.0)
        assert below.tolist() == [4.0] * 3
        below.add_(1.0)
        assert type(x.detach() * x) is Mine
        assert type(x + x.as_subclass(Narrow)) is Narrow
        leaf = package.tensor([1.0, 2.0], dtype=package.float64, requires_grad=True)
        (leaf.as_subclass(Mine) ** 2).sum().backward()
        assert leaf.grad.tolist() == [2.0, 4.0]
        own = package.Tensor._make_subclass(Mine, leaf, True)
        (own**3).sum().backward()
        assert (own.is_leaf, own.grad.tolist()) == (True, [3.0, 12.0])
        with package._C.DisableTorchFunctionSubclass():
            assert type(own + 1) is package.Tensor
        assert str(own.detach()).startswith("Mine(")


def test_subclasses_of_parameter_keep_what_they_have_and_their_results_are_tensors():
    for package in torch, tg:

        class Tagged(package.nn.Parameter):
            def __new__(cls, data: Any, tag: Any = None) -> Any:
                made = super().__new__(cls, data)
                made.tag = tag
                return made

            def __init__(self, *args: Any) -> None:
                pass

        p = Tagged(package.ones(2), 3)
        module = package.nn.Module()
        module.p = p
        assert next(module.parameters()) is p
        assert isinstance(p, package.nn.Parameter)
        assert issubclass(Tagged, package.nn.Parameter)
        assert not isinstance(package.nn.Parameter(package.ones(2)), Tagged)
        assert type(p * 2) is package.Tensor
        (p * p).sum().backward()
        package.optim.SGD([p], lr=0.25).step()
        assert (type(p), p.tag, p.tolist()) == (Tagged, 3, [0.5, 0.5])


class Kept(tg.Tensor):
    """As programs' modules have them."""


def test_copies_and_pickles_of_subclasses():
    x = Kept([1.0, 2.0]).requires_grad_()
    x.note = "mine"  # type: ignore[attr-defined]
    for y in copy.copy(x), copy.deepcopy(x), pickle.loads(pickle.dumps(x)):
        assert (type(y), y.note, y.tolist(), y.is_leaf, y.requires_grad) == (Kept, "mine", [1.0, 2.0], True, True)
