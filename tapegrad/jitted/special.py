"""Special functions in jitted code.

Once this module is imported, functions jitted by Numba can call `tapegrad.special`'s elementwise functions, and those
of SciPy's that are operations here, by their own names (`scipy.special.gammaincc`), with numbers and with arrays, which
are broadcast. Values are the operations', or Numba's own where it has the function (`math.erf`); so are derivatives, at
every order.

>>> import tapegrad as tg
>>> import scipy.special
>>> import tapegrad.jitted.special
>>> from numba import njit
>>> @njit
... def f(x):
...     return scipy.special.i0(x) + tg.special.erfcx(x)
>>> tg.func.grad(f)(1.5)
0.8180435...

Under their names here they are jitted functions:

>>> from tapegrad.jitted import special
>>> tg.func.grad(special.ndtr)(0.0)
0.39894228...

Of those whose code is SciPy's, the addresses are known in this process only: Numba keeps nothing on disk that calls
them.
"""

from __future__ import annotations

from typing import Any

import scipy.special
from numba import njit
from numba.core import types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin, overload

from tapegrad import namesakes, special
from tapegrad.functions import elementwise
from tapegrad.jitted import arrays, checking, names, overloads, rewriting, signatures, single_precision
from tapegrad.jitted.active import PASSIVE
from tapegrad.jitted.emission import Emitter, numba_function, rule_of
from tapegrad.jitted.inner import define
from tapegrad.kernels import scalar
from tapegrad.ops.declare import WIDE, Elementwise


def _operations() -> dict[str, Elementwise]:
    """The operations, by their names in `tapegrad.special` and `scipy.special`."""
    of_function = {function: op for op, function in elementwise.made.items()}
    known = names.OPERATIONS | {op.name: op for op in WIDE}
    found = {op.scipy: op for op in known.values() if op.scipy}
    for name in special.__all__:
        function = getattr(special, name)
        op = of_function.get(getattr(function, "__wrapped__", function)) or known.get("_" + name)
        if op is not None and any(op.partials) and name != "polygamma":  # which has order 0 too
            found[name] = op
    return found


OPERATIONS = _operations()

# Functions that are made of operations, and of those that have no function of their own.
COMPOSED = {
    "polygamma(n, x)": "_polygamma(n, x) if n > 0 else digamma(x)",
    "chebyshev_polynomial_t(input, n)": "_chebyshev_t(input, n)",
    "chebyshev_polynomial_u(input, n)": "_gegenbauer(1.0, n, input)",
    "chebyshev_polynomial_v(input, n)": "_gegenbauer(1.0, n, input) - _gegenbauer(1.0, n - 1, input)",
    "chebyshev_polynomial_w(input, n)": "_gegenbauer(1.0, n, input) + _gegenbauer(1.0, n - 1, input)",
    "hermite_polynomial_h(input, n)": "_hermite(2.0, n, input)",
    "hermite_polynomial_he(input, n)": "_hermite(1.0, n, input)",
    "laguerre_polynomial_l(input, n)": "_laguerre(0.0, n, input)",
    "legendre_polynomial_p(input, n)": "_gegenbauer(0.5, n, input)",
    "fresnel(x)": "(_fresnel_s(x), _fresnel_c(x))",
    "sici(x)": "(_sine_integral(x), _cosine_integral(x))",
    "shichi(x)": "(_hyperbolic_sine_integral(x), _hyperbolic_cosine_integral(x))",
}
COMPOSED |= {
    f"shifted_{name}": code.replace("input", "2.0 * input - 1.0")
    for name, code in COMPOSED.items()
    if name.startswith("chebyshev")
}
_PARTS = (
    "_polygamma", "_chebyshev_t", "_gegenbauer", "_hermite", "_laguerre", "_fresnel_s", "_fresnel_c", "_sine_integral",
    "_cosine_integral", "_hyperbolic_sine_integral", "_hyperbolic_cosine_integral",
)  # fmt: skip


def _given(op: Elementwise) -> str:
    return ", ".join("abcd"[: op.arity])


def declare(op: Elementwise, function: Any, code: Any = None) -> None:
    """Let a function be an operation to Numba, and where it is differentiated.

    Its values are what `code`, a jitted function of numbers, gives; else they are the operation's.
    """
    if function in names.RULES:
        return
    _declare_plain(op, function, code)
    rule = names.RULES[function] = rule_of(op, numba_function(function))
    checking.ALLOWED.add(function)
    signatures.declare(function, rule)
    single_precision.declare(function)
    arrays.declare(function, op.arity)


def _declare_plain(op: Elementwise, function: Any, code: Any) -> None:
    """Likewise of plain arguments: the result is of single precision if they all are."""
    kernel = code or (names.NAMES[op.name][0] if op.name in names.NAMES else scalar(op, by_address=True))
    double = [types.float64] * op.arity

    class Template(AbstractTemplate):
        key = function

        def generic(self, args: Any, kws: Any) -> Any:
            if kws or len(args) != op.arity or not all(isinstance(kind, PASSIVE) for kind in args):
                return None
            self.context.resolve_function_type(kernel, double, {})
            is_single = all(kind == types.float32 for kind in args)
            return signature(*([types.float32] * (1 + op.arity) if is_single else [types.float64, *double]))

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        wide = [context.cast(builder, *given, types.float64) for given in zip(args, sig.args, strict=True)]
        emitter = Emitter(context, builder)
        result = emitter.call(kernel, *map(emitter.single, wide))
        return context.cast(builder, result.value, types.float64, sig.return_type)

    infer_global(function, types.Function(Template))
    lower_builtin(function, *[types.Float] * op.arity)(lower)
    text = f"def typed({_given(op)}):\n return choose(function, {_given(op)})"
    overload(function)(define(text, "typed", {"choose": _of_arrays, "function": function}))


def _of_arrays(function: Any, *kinds: Any) -> Any:
    """The code for plain arguments of which some are arrays."""
    dims = arrays.dims_of_operands(*kinds)
    elements = [kind.dtype if isinstance(kind, types.Array) else kind for kind in kinds]
    if dims is None or not all(isinstance(kind, PASSIVE) for kind in elements):
        return None
    is_single = all(kind == types.float32 for kind in elements)
    each, given = arrays.each(function, dims, dtype="np.float32" if is_single else "np.float64"), "abcd"[: len(kinds)]
    return define(f"def code({', '.join(given)}):\n return each({', '.join(given)})", "code", {"each": each})


def _users(name: str) -> list[Any]:
    """What users call so."""
    return [getattr(module, name) for module in (special, scipy.special) if hasattr(module, name)]


def _declared() -> dict[str, Any]:
    """What each name is to jitted code, after all have been made known."""
    found: dict[str, Any] = {}
    for name, op in OPERATIONS.items():
        for function in _users(name):
            declare(op, function)
            found[name] = function
    scope = dict(found)
    for name in _PARTS:
        op = names.OPERATIONS[name]
        scope[name] = define(f"def {name}({_given(op)}):\n raise NotImplementedError", name, {})
        declare(op, scope[name])
    for declared, text in COMPOSED.items():
        name, _, parameters = declared.partition("(")
        code = define(f"def {declared}:\n return {text}", name, scope)
        found[name] = njit(code)
        for function in _users(name):
            overload(function)(define(f"def typed({parameters}:\n return code", "typed", {"code": code}))
            rewriting.FUNCTIONS[function] = overloads.Jitable(found[name])
    return found


_known = _declared()
__all__ = sorted(_known)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    """A jitted function, when it is first asked for."""
    if name not in _known:
        raise namesakes.unknown(__name__, name)
    made = _known[name]
    if name in OPERATIONS:
        given = _given(OPERATIONS[name])
        made = njit(define(f"def {name}({given}):\n return function({given})", name, {"function": made}))
    globals()[name] = made
    return made


def __dir__() -> list[str]:
    return __all__
