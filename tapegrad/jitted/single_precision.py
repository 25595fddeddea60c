"""Numbers of single precision with derivatives: values are the plain call's float32, derivatives are float64.

A `Narrow` is an active scalar whose value is a float32, kept in a double. What Numba computes of such numbers in single
precision is computed so, by Numba's own code, and its partials are those of the rules, at these values. Where it widens
them (float32 times float64, or int64), they become active scalars; where those are stored into arrays of single
precision, they are rounded, and keep their derivatives.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, overload

from tapegrad.jitted import rewriting
from tapegrad.jitted.active import DOUBLE, PASSIVE, Active, Narrow
from tapegrad.jitted.checking import ALLOWED
from tapegrad.jitted.emission import Emitter, Rule, Single, primal
from tapegrad.jitted.inner import OPTIONS
from tapegrad.jitted.names import PIECEWISE, POWERS, RULES, Whole, whole_power
from tapegrad.jitted.signatures import finish, leaf
from tapegrad.jitted.statements import Leaf, Node

FLOAT = ir.FloatType()
PLAIN = types.float32
_OF_MANY = max, min  # which choose one of their arguments, and round nothing


def _plain(kind: Any) -> Any:
    return PLAIN if isinstance(kind, Narrow) else types.float64 if isinstance(kind, Active) else kind


def _narrow_of(kinds: Sequence[Any]) -> Narrow | None:
    """The one such type among scalars; None where there is none, or another kind of argument."""
    found = {k for k in kinds if isinstance(k, Narrow)}
    if len(found) != 1 or not all(isinstance(k, (Narrow, Active, *PASSIVE)) for k in kinds):
        return None
    return found.pop()


def _part(context: Any, builder: Any, kind: Any, value: Any) -> Leaf:
    if isinstance(kind, Narrow):
        return leaf(context, builder, kind.part, builder.extract_value(value, 0))
    return leaf(context, builder, kind, value)


def _rounded(builder: Any, number: Any) -> Any:
    """The float32 of a number that is one."""
    return builder.fptrunc(primal(number).value, FLOAT)


def declare(function: Any) -> None:
    """A function of `RULES`, of numbers of single precision."""
    arity = len(RULES[function].partials)

    class Template(AbstractTemplate):
        key = function

        def generic(self, args: Any, kws: Any) -> Any:
            kind = _narrow_of(args) if len(args) == arity and not kws else None
            found = None if kind is None else self.context.resolve_function_type(function, [*map(_plain, args)], {})
            if found is None:
                return None
            if found.return_type != PLAIN:  # in double precision
                wide = [kind.part if isinstance(a, Narrow) else a for a in args]
                return self.context.resolve_function_type(function, wide, {})
            if function in POWERS and isinstance(args[1], types.Integer):
                return signature(kind, *args)
            if (
                function in _OF_MANY or isinstance(function, np.ufunc) or all(a == PLAIN for a in found.args)
            ):  # a ufunc converts
                return signature(kind, *(a if isinstance(a, Narrow) else PLAIN for a in args))
            return None

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = sig.return_type
        operands = [_part(context, builder, k, v) for k, v in zip(sig.args, args, strict=True)]
        if function in _OF_MANY:
            return _made(context, builder, kind, Node(RULES[function], operands))
        code, _ = _code(context, function, sig.args)

        def value(*numbers: Any) -> Single:
            result = code(builder, [_rounded(builder, x) for x in numbers])
            return Single(Emitter(context, builder), builder.fpext(result, DOUBLE))

        node = Node(Rule(value, RULES[function].partials), operands)
        return _made(context, builder, kind, node)

    def lower_power(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        base = _part(context, builder, sig.args[0], args[0])
        code, call_type = _code(context, function, sig.args)
        exponent = context.cast(builder, args[1], sig.args[1], call_type.args[1])

        def value(number: Any) -> Single:
            result = code(builder, [_rounded(builder, number), exponent])
            return Single(Emitter(context, builder), builder.fpext(result, DOUBLE))

        whole = Whole(Emitter(context, builder), context.cast(builder, args[1], sig.args[1], types.int64))
        node = Node(Rule(value, whole_power(whole).partials), [base])
        return _made(context, builder, sig.return_type, node)

    infer_global(function, types.Function(Template))
    for kinds in itertools.product((Narrow, PLAIN), repeat=arity):
        if Narrow in kinds:
            lower_builtin(function, *kinds)(lower)
    if function in POWERS:
        lower_builtin(function, Narrow, types.Integer)(lower_power)
        lower_builtin(function, Narrow, types.IntegerLiteral)(lower_power)


def _code(context: Any, function: Any, kinds: Sequence[Any]) -> tuple[Any, Any]:
    """Numba's own code of a function, and its signature."""
    found = context.typing_context.resolve_value_type(function)
    call_type = found.get_call_type(context.typing_context, [*map(_plain, kinds)], {})
    return context.get_function(found, call_type), call_type


def _made(context: Any, builder: Any, kind: Narrow, node: Node) -> Any:
    number = finish(context, builder, kind.part, node)
    return builder.insert_value(ir.Constant(context.get_value_type(kind), ir.Undefined), number, 0)


def _declare_piecewise(function: Any) -> None:
    """A function of values."""

    class Template(AbstractTemplate):
        key = function

        def generic(self, args: Any, kws: Any) -> Any:
            if kws or _narrow_of(args) is None:
                return None
            found = self.context.resolve_function_type(function, [*map(_plain, args)], {})
            return None if found is None else signature(found.return_type, *args)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        code, call_type = _code(context, function, sig.args)
        values = []
        for kind, wanted, value in zip(sig.args, call_type.args, args, strict=True):
            given = value
            if isinstance(kind, Narrow):
                given = builder.fptrunc(builder.extract_value(builder.extract_value(value, 0), 0), FLOAT)
            elif isinstance(kind, Active):
                given = builder.extract_value(value, 0)
            values.append(context.cast(builder, given, _plain(kind), wanted))
        return code(builder, values)

    infer_global(function, types.Function(Template))
    either = (Narrow, Active), (Active, Narrow)  # which would be as near to what takes any beside one of them
    for kinds in ((Narrow,), (Narrow, Narrow), *either, (Narrow, types.Any), (types.Any, Narrow)):
        lower_builtin(function, *kinds)(lower)


for _function in RULES:
    declare(_function)
for _function in PIECEWISE:
    _declare_piecewise(_function)


@intrinsic
def narrow_value(typingctx, x):
    """The value of a number of single precision with derivatives."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.fptrunc(builder.extract_value(builder.extract_value(args[0], 0), 0), FLOAT)

    return (PLAIN(x), codegen) if isinstance(x, Narrow) else None


@intrinsic
def _converted(typingctx, x):
    """A number with derivatives in the other precision."""
    made = Narrow(x) if isinstance(x, Active) else x.part
    return made(x), lambda context, builder, sig, args: context.cast(builder, args[0], sig.args[0], made)


def narrowed(x):
    """`np.float32(x)`."""
    raise NotImplementedError


@overload(narrowed, OPTIONS)
def _narrowed(x):
    if isinstance(x, Narrow):
        return lambda x: x
    return (lambda x: _converted(x)) if isinstance(x, Active) else (lambda x: np.float32(x))


def widened(x):
    """`np.float64(x)`."""
    raise NotImplementedError


@overload(widened, OPTIONS)
def _widened(x):
    if isinstance(x, Active):
        return lambda x: x
    return (lambda x: _converted(x)) if isinstance(x, Narrow) else (lambda x: np.float64(x))


rewriting.FUNCTIONS.update({np.float32: narrowed, np.single: narrowed, np.float64: widened, np.double: widened})
ALLOWED.update({narrowed, widened, narrow_value})
