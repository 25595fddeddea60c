"""`_foreach_add` and its kin: an operation for each of a list of Tensors, as optimisers of others write their steps.

Each is the method of that name; what is given beside is the same for all, or a list with one for each. The rows are
recorded one after the other, and swept in one region.

>>> import tapegrad as tg
>>> a = [tg.ones(2), tg.zeros(1)]
>>> tg._foreach_add_(a, [tg.ones(2), 2.0], alpha=3)
[tensor([4., 4.]), tensor([6.])]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tapegrad.functions.decompositions import vector_norm
from tapegrad.functions.older import ORDERS
from tapegrad.tensor import Tensor

_PREFIX = "_foreach_"
# Factors that are given by position too, after so many others: those whose older order has one.
_FACTORS = {name: ("".join(order), order.count("")) for name, (order, *more) in ORDERS.items() if not more}
_BOUNDS = {"maximum": "clamp_min", "minimum": "clamp_max"}  # by a number


def named(name: str) -> Callable[..., Any]:
    """The function of a name such as `_foreach_mul_`.

    Raises
    ------
    AttributeError
        Where Tensors have no such method.
    """
    of = name.removeprefix(_PREFIX)
    plain, in_place = of.rstrip("_"), of.endswith("_")
    if name == of or not (hasattr(Tensor, of) or hasattr(Tensor, plain)):
        raise AttributeError(f"module 'tapegrad' has no attribute {name!r}")

    def over(self: Any, *args: Any, **facts: Any) -> Any:
        factor, n_others = _FACTORS.get(plain, ("", 0))
        if factor and len(args) >= n_others:
            *args, facts[factor] = args
        if not isinstance(self, Sequence):  # a number to these powers
            return [self**t for t in args[0]]
        for given in (*args, *facts.values()):
            if isinstance(given, Sequence) and not isinstance(given, str) and len(given) != len(self):
                raise RuntimeError(
                    f"Tensor list must have same number of elements as {_word(given)} list, got {len(self)} and "
                    f"{len(given)}: {name}"
                )
        found = [
            _applied(of, t, [_at(i, a) for a in args], {k: _at(i, a) for k, a in facts.items()})
            for i, t in enumerate(self)
        ]
        return self if in_place else tuple(found)

    over.__name__ = over.__qualname__ = name
    over.__doc__ = f"`{of}` of each of a list of Tensors{', in place' if in_place else ''}."
    return over


def _word(given: Any) -> str:
    return "tensor" if len(given) and isinstance(given[0], Tensor) else "scalar"


def _at(i: int, given: Any) -> Any:
    """What the i-th is given."""
    return given[i] if isinstance(given, (list, tuple)) else given


def _applied(of: str, t: Tensor, args: list[Any], facts: dict[str, Any]) -> Any:
    plain, end = of.rstrip("_"), of[len(of.rstrip("_")) :]
    if plain in _BOUNDS and not isinstance(args[0], Tensor):
        return getattr(t, _BOUNDS[plain] + end)(*args)
    if plain == "norm":
        return vector_norm(t, *args, **facts)
    if end and not hasattr(Tensor, of):
        return t.copy_(getattr(t, plain)(*args, **facts))
    return getattr(t, of)(*args, **facts)
