"""Orders of arguments that PyTorch has given up, and takes with a warning: a factor stands before what it multiplies.

    x.add_(2, y)                 x.add_(y, alpha=2)
    addcmul(x, 0.5, y, z)        addcmul(x, y, z, value=0.5)
    addmm(2, x, 3, y, z)         addmm(x, y, z, beta=2, alpha=3)

Optimisers written before 2020 are full of them.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

from tapegrad.functions import contractions, elementwise
from tapegrad.tensor import Tensor, depth_of_user

# By function: the orders that are given up. Factors have the names that they have now, operands none.
_PRODUCTS = ("beta", "", "alpha", "", ""), ("beta", "", "", "")
ORDERS: dict[str, tuple[tuple[str, ...], ...]] = {
    **dict.fromkeys(("add", "sub"), (("", "alpha", ""),)),
    **dict.fromkeys(("addcdiv", "addcmul"), (("", "value", "", ""),)),
    **dict.fromkeys(("addbmm", "addmm", "addmv", "addr", "baddbmm"), _PRODUCTS),
}


def _taking(name: str, function: Callable[..., Any], is_method: bool) -> Callable[..., Any]:
    """The function, that takes them too. Of a method the tensor comes first, and so does it in its older orders."""
    forms = {len(order): _methods(order) if is_method else order for order in ORDERS[name.rstrip("_")]}
    shortest = min(forms)

    @functools.wraps(function)
    def taken(*args: Any, **facts: Any) -> Any:
        if len(args) >= shortest and len(args) in forms:
            order = forms[len(args)]
            factors = {word: value for word, value in zip(order, args, strict=True) if word}
            if not any(isinstance(value, Tensor) for value in factors.values()):
                args = tuple(value for word, value in zip(order, args, strict=True) if not word)
                warnings.warn(
                    f"This overload of {name} is deprecated: give {' and '.join(factors)} by name, after the tensors",
                    UserWarning,
                    stacklevel=depth_of_user(),
                )
                facts = factors | facts
        return function(*args, **facts)

    return taken


def _methods(order: tuple[str, ...]) -> tuple[str, ...]:
    """An order, with the first tensor in front."""
    return ("", *order[: order.index("")], *order[order.index("") + 1 :])


_now = elementwise.functions | contractions.functions
functions: dict[str, Any] = {name: _taking(name, _now[name], is_method=False) for name in ORDERS}
for _name in (*ORDERS, *(f"{_name}_" for _name in ORDERS)):
    setattr(Tensor, _name, _taking(_name, getattr(Tensor, _name), is_method=True))
for _op in elementwise.OPERATIONS:
    for _alias in _op.aliases if _op.name in functions else ():
        functions[_alias] = functions[_op.name]
        for _end in ("", "_"):
            setattr(Tensor, _alias + _end, getattr(Tensor, _op.name + _end))
