"""Functions that are chosen at run time: `f = sine if k > 0 else cosine`.

Numba calls these by address; functions for active scalars have none (`inner.py`). So which of them it is, is a number,
and a call of it is a call of each, of which one is made.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.typeconv import Conversion
from numba.core.typing import signature
from numba.extending import lower_cast, register_model

from tapegrad.jitted.active import WORD


class Choice(types.Callable, types.Dummy):  # type: ignore[misc]
    """One of several functions; the value is which."""

    def __init__(self, functions: tuple[Any, ...]) -> None:
        self.functions = functions
        super().__init__(f"one of {', '.join(function.dispatcher.__name__ for function in functions)}")

    @property
    def key(self) -> Any:
        """The functions."""
        return self.functions

    def get_call_type(self, context: Any, args: Any, kws: Any) -> Any:
        """The signature that all of them have."""
        found = [function.get_call_type(context, args, kws) for function in self.functions]
        if None in found or len({len(sig.args) for sig in found}) > 1:
            return None
        returns = context.unify_types(*(sig.return_type for sig in found))
        given = [context.unify_types(*kinds) for kinds in zip(*(sig.args for sig in found), strict=True)]
        if returns is None or None in given:
            return None
        return signature(returns, *given).replace(pysig=found[0].pysig)

    def get_call_signatures(self) -> Any:
        """None that are known beforehand."""
        return [], True

    def get_impl_key(self, sig: Any) -> Any:
        """There is no one implementation: see `call`."""
        return self, sig

    def unify(self, typingctx: Any, other: Any) -> Any:
        """A choice of more."""
        return union(self, other)

    def can_convert_to(self, typingctx: Any, other: Any) -> Any:
        """A choice of more."""
        return Conversion.safe if isinstance(other, Choice) and set(self.functions) <= set(other.functions) else None


def union(a: Any, b: Any) -> Choice | None:
    """The choice between functions, and choices of them."""
    parts = [kind.functions if isinstance(kind, Choice) else (kind,) for kind in (a, b)]
    found = dict.fromkeys((*parts[0], *parts[1]))
    return Choice(tuple(found)) if all(isinstance(kind, types.Dispatcher) for kind in found) else None


@register_model(Choice)
class _ChoiceModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Choice) -> None:
        super().__init__(manager, kind, WORD)


@lower_cast(types.Dispatcher, Choice)
def _chosen(context: Any, builder: Any, given: Any, wanted: Choice, value: Any) -> Any:
    return WORD(wanted.functions.index(given))


@lower_cast(Choice, Choice)
def _among_more(context: Any, builder: Any, given: Choice, wanted: Choice, value: Any) -> Any:
    places = ir.Constant(ir.ArrayType(WORD, len(given.functions)), [wanted.functions.index(f) for f in given.functions])
    return builder.load(builder.gep(cgutils.alloca_once_value(builder, places), [WORD(0), value]))


def call(context: Any, builder: Any, kind: Choice, sig: Any, which: Any, args: Any) -> Any:
    """Emit the call of the function that was chosen."""
    result = cgutils.alloca_once(builder, context.get_value_type(sig.return_type))
    after = builder.append_basic_block("called")
    cases = [builder.append_basic_block(f"case{k}") for k in range(len(kind.functions))]
    switch = builder.switch(which, cases[-1])
    for k, (function, block) in enumerate(zip(kind.functions, cases, strict=True)):
        switch.add_case(WORD(k), block)
        builder.position_at_end(block)
        own = function.get_call_type(context.typing_context, sig.args, {})
        given = [context.cast(builder, v, a, b) for v, a, b in zip(args, sig.args, own.args, strict=True)]
        implementation = context.get_function(function, own)
        context.add_linking_libs(getattr(implementation, "libs", ()))
        value = implementation(builder, given)
        builder.store(context.cast(builder, value, own.return_type, sig.return_type), result)
        builder.branch(after)
    builder.position_at_end(after)
    return builder.load(result)
