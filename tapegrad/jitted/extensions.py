"""Functions with a way of their own: derivatives that the user gives, and loops that are recomputed.

In plain jitted code they are what they look like; in differentiated code their calls become what is declared here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import config, njit
from numba.core import errors, types
from numba.core.imputils import impl_ret_borrowed
from numba.core.registry import CPUDispatcher
from numba.core.typing import signature
from numba.extending import intrinsic, overload

from tapegrad.jitted import bindings, checking, rewriting
from tapegrad.jitted.active import Active, Complex, Dual, Narrow, is_active_array
from tapegrad.jitted.emission import Emitter, Jet, Rule
from tapegrad.jitted.inner import OPTIONS, define
from tapegrad.jitted.lifting import by_element, make, value_of
from tapegrad.jitted.signatures import finish, leaf
from tapegrad.jitted.statements import Node


def custom_rule(function: Any) -> Callable[[Callable[..., Any]], Any]:
    """Give a jitted function your own derivative.

    Parameters
    ----------
    function : jitted function
        It takes numbers, or arrays, and returns a number. What it does inside is not differentiated any more.

    Returns
    -------
    callable
        A decorator for the rule: a function of the same arguments and the result that returns the partial derivative by
        the argument, or a tuple with one for each. The partial derivative by an array is an array of its shape.

    Notes
    -----
    For higher derivatives the rule is differentiated in turn.

    >>> import tapegrad as tg
    >>> from numba import njit
    >>> @njit
    ... def root(a):
    ...     x = 1.0
    ...     for _ in range(60):
    ...         x = 0.5 * (x + a / x)
    ...     return x
    >>> @tg.custom_rule(root)
    ... def root_rule(a, x):
    ...     return 0.5 / x
    >>> tg.func.grad(njit(lambda a: 2.0 * root(a)))(4.0)
    0.5
    """
    if config.DISABLE_JIT:
        return lambda rule: rule
    if not isinstance(function, CPUDispatcher):
        raise TypeError("custom_rule is for functions jitted by Numba; jit the function first, with numba.njit")

    def declare(rule: Callable[..., Any]) -> Any:
        jitted = rule if isinstance(rule, CPUDispatcher) else njit(rule)
        wanted = len(inspect.signature(function.py_func).parameters)
        given = len(inspect.signature(jitted.py_func).parameters)
        if given != wanted + 1:
            raise TypeError(
                f"the rule of {function.__name__} takes its {wanted} arguments and the result, but takes {given}"
            )
        bindings.RULED[function] = jitted
        bindings.SPECIAL[function] = _ruled
        rewriting.forget()
        return rule

    return declare


def _ruled(function: Any, kind: Active, is_marked: bool) -> Any:
    """What stands for a function that has a rule."""
    rule = bindings.RULED[function]
    names = list(inspect.signature(function.py_func).parameters)
    listed = ", ".join(names)
    scope: dict[str, Any] = {"chosen": lambda *kinds: _with_rule(function, rule, names, kinds)}
    stub = define(f"def stub({listed}):\n raise NotImplementedError", "stub", {})
    stub.__name__ = function.__name__
    overload(stub, OPTIONS, strict=False)(define(f"def typed({listed}):\n return chosen({listed})", "typed", scope))
    checking.make_known(stub)
    return stub


def _with_rule(function: Any, rule: Any, names: list[str], kinds: tuple[Any, ...]) -> Any:
    listed = ", ".join(names)
    active = [k if isinstance(k, Active) else k.dtype for k in kinds if isinstance(k, Active) or is_active_array(k)]
    scope: dict[str, Any] = {
        "function": function, "rule": rule, "plain": plain, "attached": attached, "tupled": tupled,
    }  # fmt: skip
    if any(isinstance(getattr(k, "dtype", k), (Complex, Narrow)) for k in kinds):
        raise errors.TypingError("complex numbers, or float32, with derivatives as arguments of a custom rule")
    if not active:
        return _code(f"def code({listed}):\n return function({listed})", scope)
    values = ", ".join(f"plain({name})" for name in names)
    lines = [f"def code({listed}):", f" y = function({values})", f" p = tupled(rule({values}, y))"]
    if active[0].n_tangents:  # the rule itself is differentiated too: each time to one order more
        scope["dual"] = dual
        scope["rule_of"] = rewriting.active(rule, Dual(active[0].n_tangents, active[0].depth))
        duals = ", ".join(f"dual({name})" for name in names)
        again = f" p = tupled(rule_of({duals}, attached(y, p, ({duals}, ))))"
        lines += [again] * (active[0].depth - isinstance(active[0], Dual))
    lines.append(f" return attached(y, p, ({listed}, ))")
    return _code("\n".join(lines), scope)


def _code(text: str, scope: dict[str, Any]) -> Any:
    return define(text, "code", scope)


def plain(x):
    """A value without its derivatives."""
    raise NotImplementedError


@overload(plain, OPTIONS)
def _plain(x):
    from tapegrad.jitted.lifting import strip

    if isinstance(x, Active):
        return lambda x: value_of(x)
    return (lambda x: strip(x)) if is_active_array(x) else (lambda x: x)


def tupled(x):
    """Partials as a tuple."""
    raise NotImplementedError


@overload(tupled, OPTIONS)
def _tupled(x):
    return (lambda x: x) if isinstance(x, types.BaseTuple) else (lambda x: (x,))


def dual(x):
    """What is taped without its rows: values and tangents. Arrays are copied, since the rule may write to them."""
    raise NotImplementedError


@overload(dual, OPTIONS)
def _dual(x):
    if not is_active_array(x):
        return lambda x: without_row(x)
    kind = Dual(x.dtype.n_tangents, x.dtype.depth)
    if x.layout == "F":
        return lambda x: dual(x.T).T
    return by_element(without_row, kind)


@intrinsic
def without_row(typingctx, x):
    """An active scalar's value and tangents; all else as it is."""
    if not isinstance(x, Active):
        return x(x), lambda context, builder, sig, args: impl_ret_borrowed(context, builder, x, args[0])
    kind = Dual(x.n_tangents, x.depth)

    def codegen(context, builder, sig, args):
        emitter = Emitter(context, builder)
        return emitter.pack(kind, emitter.unpack(sig.args[0], args[0]))

    return kind(x), codegen


def attached(y, partials, operands):
    """A result with its partials by operands, as an active scalar: a row, or tangents."""
    raise NotImplementedError


@overload(attached, OPTIONS)
def _attached(y, partials, operands):
    if not any(isinstance(k, types.Array) for k in operands):
        return lambda y, partials, operands: combine(y, partials, operands)
    lines = [f" y{i + 1} = with_partials(y{i}, partials[{i}], operands[{i}])" for i in range(len(operands))]
    text = ["def code(y, partials, operands):", " y0 = y", *lines, f" return y{len(operands)}"]
    return _code("\n".join(text), {"with_partials": with_partials})


def with_partials(y, p, x):
    """`y`, and its derivative p by one argument."""
    raise NotImplementedError


@overload(with_partials, OPTIONS)
def _with_partials(y, p, x):
    if isinstance(x, Active):
        return lambda y, p, x: joined(y, p, x)
    if not is_active_array(x):
        return lambda y, p, x: y
    if not isinstance(p, types.Array) or p.ndim != x.ndim:
        raise errors.TypingError(f"a partial derivative by an array of {x.ndim} dimensions that is {p}")
    kind = x.dtype

    def by_array(y, p, x):
        if p.shape != x.shape:
            raise ValueError("the rule of a jitted function gives a partial derivative by an array in its shape")
        total = joined(y, 0.0, make(kind, 0.0, 0, -1))
        for at in np.ndindex(x.shape):
            total = joined(total, p[at], x[at])
        return total

    return by_array


@intrinsic
def joined(typingctx, y, p, x):
    """`y` itself, and beside its own derivatives the derivative p by x."""
    if not isinstance(x, Active):
        return None

    def codegen(context, builder, sig, args):
        partial = Emitter(context, builder).unpack(sig.args[1], args[1])
        rule = Rule(lambda y, x: y, (lambda *_: 1.0, lambda *xs: _at_depth(partial, max(map(_depth, xs)))))
        operands = [leaf(context, builder, kind, args[i]) for i, kind in ((0, sig.args[0]), (2, sig.args[2]))]
        return finish(context, builder, x, Node(rule, operands))

    return signature(x, y, p, x), codegen


@intrinsic
def combine(typingctx, y, partials, operands):
    """A result with its partials, as an active scalar: a row, or tangents."""
    kind = next(k for k in operands.types if isinstance(k, Active))

    def codegen(context, builder, sig, args):
        emitter = Emitter(context, builder)
        value = emitter.unpack(types.float64, context.cast(builder, args[0], sig.args[0], types.float64))
        given = [builder.extract_value(args[1], i) for i in range(len(partials))]
        numbers = [emitter.unpack(k, v) for k, v in zip(partials.types, given, strict=True)]
        leaves = [leaf(context, builder, k, builder.extract_value(args[2], i)) for i, k in enumerate(operands.types)]

        def partial(p):
            return lambda *xs: _at_depth(p, max(map(_depth, xs)))

        rule = Rule(lambda *xs: value, tuple(partial(p) for p in numbers))
        return finish(context, builder, kind, Node(rule, leaves))

    return signature(kind, y, partials, operands), codegen


def _depth(number: Any) -> int:
    """How many values lie in each other."""
    return 1 + _depth(number.value) if isinstance(number, Jet) else 0


def _at_depth(number: Any, depth: int) -> Any:
    """A number without the tangents of outer directions."""
    return _at_depth(number.value, depth) if _depth(number) > depth else number


checking.ALLOWED.update({attached, dual, plain})
