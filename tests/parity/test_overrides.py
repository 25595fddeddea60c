"""Classes that are no Tensors answer for functions: they are asked the same as by PyTorch."""

from collections.abc import Callable
from typing import Any

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
