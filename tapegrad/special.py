"""Special functions, under the names of `torch.special`; SciPy's names are taken too where they differ.

They are elementwise, broadcast, and differentiable by every real argument but for degrees and orders of polynomials and
of `polygamma`, and where no formula is known (the order of a Bessel function, parameters of hypergeometric ones): a
tensor there is refused if it requires grad. SciPy's own functions (`scipy.special.erfcx`) record when they are given
tensors.

>>> import tapegrad as tg
>>> x = tg.tensor(0.5, requires_grad=True)
>>> tg.special.ndtri(x)
tensor(0., grad_fn=<NdtriBackward0>)
>>> tg.autograd.grad(tg.special.i0e(x), x)
(tensor(-0.4886),)
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

import numpy as np

from tapegrad.arguments import Number
from tapegrad.arguments import checked as _checked
from tapegrad.autograd.function import Function as _Function
from tapegrad.creation import as_tensor as _as_tensor
from tapegrad.creation import full as _full
from tapegrad.functions import elementwise as _elementwise
from tapegrad.functions import joining as _joining
from tapegrad.functions import reductions as _reductions
from tapegrad.ops import bessel as _bessel
from tapegrad.ops import cylinder as _cylinder
from tapegrad.ops import elliptic as _elliptic
from tapegrad.ops import exponential as _exponential
from tapegrad.ops import hypergeometric as _hypergeometric
from tapegrad.ops import incomplete as _incomplete
from tapegrad.ops import integrals as _integrals
from tapegrad.ops import polynomials as _polynomials
from tapegrad.ops import special as _special
from tapegrad.ops.arithmetic import _times
from tapegrad.ops.declare import WIDE as _WIDE
from tapegrad.recording import record_elementwise as _record
from tapegrad.recording import working_dtype as _working_dtype
from tapegrad.tensor import Tensor
from tapegrad.tensor import from_array as _from_array

_functions = _elementwise.functions
logit, multigammaln, polygamma, round = (_functions[_name] for _name in ("logit", "mvlgamma", "polygamma", "round"))
digamma = psi = _functions["digamma"]
erf, erfc, erfinv = _functions["erf"], _functions["erfc"], _functions["erfinv"]
exp2, expm1, log1p, sinc = _functions["exp2"], _functions["expm1"], _functions["log1p"], _functions["sinc"]
expit, gammaln, i0, xlogy = _functions["sigmoid"], _functions["lgamma"], _functions["i0"], _functions["xlogy"]
log_softmax, logsumexp, softmax = (_reductions.functions[_name] for _name in ("log_softmax", "logsumexp", "softmax"))


def _named(name: str, op: Any) -> Any:
    """The function of an operation, under its public name."""
    made = _elementwise.made[op]

    @functools.wraps(made)
    def function(*operands: Any, **facts: Any) -> Tensor:
        found: Tensor = made(*operands, **facts)
        return found

    function.__name__ = function.__qualname__ = name
    function.__module__ = __name__
    names = {"x": "input"} if op.arity == 1 else {"a": "input", "b": "other"} if op.arity == 2 else {}
    function.__doc__ = _elementwise.naming(op.docstring, names)
    if op.scipy and op.arity > 1:
        said = f"The operands are those of `scipy.special.{op.scipy}`, in its order."
        function.__doc__ = _elementwise.before_examples(function.__doc__, said)
    return function


airy_ai = _named("airy_ai", _bessel._airy_ai)
bessel_j0, bessel_j1 = _named("bessel_j0", _bessel._bessel_j0), _named("bessel_j1", _bessel._bessel_j1)
bessel_y0, bessel_y1 = _named("bessel_y0", _bessel._bessel_y0), _named("bessel_y1", _bessel._bessel_y1)
entr = _named("entr", _special._entr)
erfcx = _named("erfcx", _special._erfcx)
i0e, i1, i1e = _named("i0e", _bessel._i0e), _named("i1", _bessel._modified_bessel_i1), _named("i1e", _bessel._i1e)
log_ndtr, ndtr, ndtri = (
    _named("log_ndtr", _special._log_ndtr), _named("ndtr", _special._ndtr), _named("ndtri", _special._ndtri)
)  # fmt: skip
modified_bessel_i0, modified_bessel_i1 = i0, i1
modified_bessel_k0 = _named("modified_bessel_k0", _bessel._modified_bessel_k0)
modified_bessel_k1 = _named("modified_bessel_k1", _bessel._modified_bessel_k1)
scaled_modified_bessel_k0 = _named("scaled_modified_bessel_k0", _bessel._scaled_modified_bessel_k0)
scaled_modified_bessel_k1 = _named("scaled_modified_bessel_k1", _bessel._scaled_modified_bessel_k1)
spherical_bessel_j0 = _named("spherical_bessel_j0", _bessel._spherical_bessel_j0)
gammainc, gammaincc = _functions["igamma"], _functions["igammac"]
gammaincinv = _named("gammaincinv", _incomplete._gammaincinv)
gammainccinv = _named("gammainccinv", _incomplete._gammainccinv)
xlog1py = _named("xlog1py", _exponential._xlog1py)
zeta = _named("zeta", _special._zeta)
ellipk, ellipkm1 = _named("ellipk", _elliptic._ellipk), _named("ellipkm1", _elliptic._ellipkm1)
ellipe = _named("ellipe", _elliptic._ellipe)
ellipkinc, ellipeinc = _named("ellipkinc", _elliptic._ellipkinc), _named("ellipeinc", _elliptic._ellipeinc)


# SciPy's names of what PyTorch lacks.
_of_scipy = {op.scipy: op for op in _elementwise.made if op.scipy}


def _scipys(names: str) -> list[Any]:
    return [_named(name, _of_scipy[name]) for name in names.split()]


jv, yv, iv, kv, jve, yve, ive, kve = _scipys("jv yv iv kv jve yve ive kve")
jn, yn, kn, struve, modstruve = jv, *_scipys("yn kn struve modstruve")
gamma, rgamma, loggamma, beta, betaln, binom, poch = _scipys("gamma rgamma loggamma beta betaln binom poch")
betainc, betaincc, betaincinv, betainccinv = _scipys("betainc betaincc betaincinv betainccinv")
zetac, voigt_profile = _scipys("zetac voigt_profile")
log_expit, exprel, exp10, cosm1, powm1, cbrt = _scipys("log_expit exprel exp10 cosm1 powm1 cbrt")
expi, exp1, expn, spence, wrightomega, owens_t = _scipys("expi exp1 expn spence wrightomega owens_t")
erfi, dawsn, erfcinv = _scipys("erfi dawsn erfcinv")
hyp0f1, hyp1f1, hyperu = _scipys("hyp0f1 hyp1f1 hyperu")
stdtr, stdtrit, chdtr, chdtrc, chdtri = _scipys("stdtr stdtrit chdtr chdtrc chdtri")
gdtr, gdtrc, gdtrix, pdtr, pdtrc, fdtr, fdtrc, fdtri = _scipys("gdtr gdtrc gdtrix pdtr pdtrc fdtr fdtrc fdtri")
bdtr, bdtrc, nbdtr, nbdtrc = _scipys("bdtr bdtrc nbdtr nbdtrc")
kl_div, rel_entr, huber, pseudo_huber = _scipys("kl_div rel_entr huber pseudo_huber")
boxcox, boxcox1p, inv_boxcox, inv_boxcox1p = _scipys("boxcox boxcox1p inv_boxcox inv_boxcox1p")
sindg, cosdg, tandg, cotdg, radian = _scipys("sindg cosdg tandg cotdg radian")
elliprc, elliprd, elliprf, elliprg, agm = _scipys("elliprc elliprd elliprf elliprg agm")
eval_gegenbauer, eval_legendre, eval_sh_legendre = _scipys("eval_gegenbauer eval_legendre eval_sh_legendre")
eval_chebyt, eval_chebyu, eval_chebyc, eval_chebys = _scipys("eval_chebyt eval_chebyu eval_chebyc eval_chebys")
eval_sh_chebyt, eval_sh_chebyu = _scipys("eval_sh_chebyt eval_sh_chebyu")
eval_laguerre, eval_genlaguerre = _scipys("eval_laguerre eval_genlaguerre")
eval_hermite, eval_hermitenorm = _scipys("eval_hermite eval_hermitenorm")


class _WideFunction(_Function):
    """An elementwise function of four operands, differentiable by the last. Values are SciPy's."""

    @staticmethod
    def forward(ctx: Any, op: Any, *operands: Tensor) -> Tensor:
        ctx.save_for_backward(*operands)
        ctx.save_for_forward(*operands)
        ctx.slope = op.partials[3]
        first, *others = (t.detach().double().numpy() for t in operands)
        if (first == np.floor(first)).all() and (abs(first) < 2.0**31).all():
            first = first.astype(np.int64)  # SciPy has polynomials of whole degrees by recurrences
        values = getattr(importlib.import_module("scipy.special"), op.scipy)(first, *others)
        return _from_array(np.asarray(values, np.float64)).to(operands[3].dtype)

    @staticmethod
    def backward(ctx: Any, y_bar: Tensor) -> Any:
        return None, None, None, None, _times(y_bar, ctx.slope(*ctx.saved_tensors))

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return _times(tangents[4], ctx.slope(*ctx.saved_tensors))


def _record_wide(op: Any, *operands: Number | Tensor) -> Tensor:
    dtype = _working_dtype(op, list(operands))
    given = [v.to(dtype) if isinstance(v, Tensor) else _full((), v, dtype=dtype) for v in operands]
    found: Tensor = _WideFunction.apply(op, *_joining.broadcast_tensors(*given))
    return found


for _op in _WIDE:
    _op.record = _elementwise.refusing(_op, functools.partial(_record_wide, _op))


@_checked
def hyp2f1(a: Number | Tensor, b: Number | Tensor, c: Number | Tensor, x: Number | Tensor) -> Tensor:
    """Gauss' hypergeometric function 2F1(a, b; c; x), elementwise; differentiable by `x`.

    Values are SciPy's: beside parameters up to 5 their relative error is below 1e-10, beside large ones of both signs
    digits are lost.

    Raises
    ------
    NotImplementedError
        Where `a`, `b` or `c` requires grad.

    >>> import tapegrad as tg
    >>> x = tg.tensor(0.5, requires_grad=True)
    >>> y = tg.special.hyp2f1(1.0, 1.0, 2.0, x)  # -log(1 - x) / x
    >>> y, tg.autograd.grad(y, x)
    (tensor(1.3863, grad_fn=<_WideFunctionBackward>), (tensor(1.2274),))
    """
    found: Tensor = _hypergeometric._hyp2f1(a, b, c, x)
    return found


@_checked
def eval_jacobi(n: Number | Tensor, alpha: Number | Tensor, beta: Number | Tensor, x: Number | Tensor) -> Tensor:
    """Jacobi's polynomial of degree `n`, of any real degree too, at `x`; elementwise, differentiable by `x`.

    Raises
    ------
    NotImplementedError
        Where `n`, `alpha` or `beta` requires grad.

    >>> import tapegrad as tg
    >>> tg.special.eval_jacobi(2, 0.0, 0.0, tg.tensor(0.5))  # Legendre's
    tensor(-0.1250)
    """
    found: Tensor = _polynomials._eval_jacobi(n, alpha, beta, x)
    return found


@_checked
def eval_sh_jacobi(n: Number | Tensor, p: Number | Tensor, q: Number | Tensor, x: Number | Tensor) -> Tensor:
    """Jacobi's polynomial of degree `n` at 2 x - 1, with the highest coefficient 1; differentiable by `x`.

    Raises
    ------
    NotImplementedError
        Where `n`, `p` or `q` requires grad.

    >>> import tapegrad as tg
    >>> tg.special.eval_sh_jacobi(2, 1.0, 1.0, tg.tensor(0.5))  # x² - x + 1/6
    tensor(-0.0833)
    """
    found: Tensor = _polynomials._eval_sh_jacobi(n, p, q, x)
    return found


# --- pairs of results -------------------------------------------------------------------------------------------------


def _pair(name: str, text: str, first: Any, second: Any) -> Any:
    def function(x: Number | Tensor) -> tuple[Tensor, Tensor]:
        return first(x), second(x)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = text
    return _checked(function)


fresnel = _pair(
    "fresnel",
    """Fresnel's integrals of sin(pi t² / 2) and of cos(pi t² / 2) from 0 to `x`, elementwise (DLMF 7.2.8, 7.2.7).

    >>> import tapegrad as tg
    >>> tg.special.fresnel(tg.tensor(1.0))
    (tensor(0.4383), tensor(0.7799))
    """,
    _integrals._fresnel_s,
    _integrals._fresnel_c,
)
sici = _pair(
    "sici",
    """The sine and cosine integrals Si(x) and Ci(x), elementwise (DLMF 6.2.9, 6.2.11).

    >>> import tapegrad as tg
    >>> tg.special.sici(tg.tensor(1.0))
    (tensor(0.9461), tensor(0.3374))
    """,
    _integrals._sine_integral,
    _integrals._cosine_integral,
)
shichi = _pair(
    "shichi",
    """The hyperbolic sine and cosine integrals Shi(x) and Chi(x), elementwise (DLMF 6.2.15, 6.2.16).

    >>> import tapegrad as tg
    >>> tg.special.shichi(tg.tensor(1.0))
    (tensor(1.0573), tensor(0.8379))
    """,
    _integrals._hyperbolic_sine_integral,
    _integrals._hyperbolic_cosine_integral,
)


# --- spherical Bessel functions ---------------------------------------------------------------------------------------


def _spherical(name: str, kind: str, op: Any, at_one: str) -> Any:
    def function(n: int | Tensor, z: Number | Tensor, derivative: bool = False) -> Tensor:
        order = n.to(_working_dtype(op, [n, z])) if isinstance(n, Tensor) else n
        found: Tensor = op.partials[1](_as_tensor(order), _as_tensor(z)) if derivative else op(order, z)
        return found

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""The {kind}, of the order `n`, or its derivative; differentiable by `z`.

    >>> import tapegrad as tg
    >>> tg.special.{name}(1, tg.tensor(1.0)), tg.special.{name}(1, tg.tensor(1.0), derivative=True)
    ({at_one})
    """
    return _checked(function)


spherical_jn = _spherical(
    "spherical_jn",
    "spherical Bessel function of the first kind (DLMF 10.47.3)",
    _cylinder._spherical_jn,
    "tensor(0.3012), tensor(0.2391)",
)
spherical_yn = _spherical(
    "spherical_yn",
    "spherical Bessel function of the second kind (DLMF 10.47.4)",
    _cylinder._spherical_yn,
    "tensor(-1.3818), tensor(2.2232)",
)
spherical_in = _spherical(
    "spherical_in",
    "modified spherical Bessel function of the first kind (DLMF 10.47.7)",
    _cylinder._spherical_in,
    "tensor(0.3679), tensor(0.4394)",
)
spherical_kn = _spherical(
    "spherical_kn",
    "modified spherical Bessel function of the second kind (DLMF 10.47.9)",
    _cylinder._spherical_kn,
    "tensor(1.1557), tensor(-2.8893)",
)


def _operands(name: str, input: Any, n: Any) -> None:
    if not isinstance(input, Tensor) and not isinstance(n, Tensor):
        raise TypeError(
            f"special_{name}() received an invalid combination of arguments: input ({type(input).__name__}) and n "
            f"({type(n).__name__}) can't both be numbers"
        )


def _polynomial(name: str, text: str, value: Any, second: str, shown: str) -> Any:
    def polynomial(input: Number | Tensor, n: Number | Tensor) -> Tensor:
        _operands(name, input, n)
        found: Tensor = value(input, n)
        return found

    polynomial.__name__ = polynomial.__qualname__ = name
    polynomial.__doc__ = f"""{text}, of degree `n` (DLMF 18.3), which is cut to an integer; 0 where that is negative.

    Derivatives go through `input`.

    >>> import tapegrad as tg
    >>> tg.special.{name}(tg.tensor({0.25 if "2x" in text else 0.5}), 2)  # {second}
    tensor({shown})
    """
    return _checked(polynomial)


def _t(x: Any, n: Any) -> Any:
    return _record(_polynomials._chebyshev_t, x, n)


def _u(x: Any, n: Any) -> Any:
    return _record(_polynomials._gegenbauer, 1.0, n, x)


def _v(x: Any, n: Any) -> Any:
    return _u(x, n) - _u(x, n - 1)


def _w(x: Any, n: Any) -> Any:
    return _u(x, n) + _u(x, n - 1)


chebyshev_polynomial_t = _polynomial(
    "chebyshev_polynomial_t", "Chebyshev's polynomials of the first kind", _t, "2x² - 1", "-0.5000"
)
chebyshev_polynomial_u = _polynomial(
    "chebyshev_polynomial_u", "Chebyshev's polynomials of the second kind", _u, "4x² - 1", "0."
)
chebyshev_polynomial_v = _polynomial(
    "chebyshev_polynomial_v", "Chebyshev's polynomials of the third kind", _v, "4x² - 2x - 1", "-1."
)
chebyshev_polynomial_w = _polynomial(
    "chebyshev_polynomial_w", "Chebyshev's polynomials of the fourth kind", _w, "4x² + 2x - 1", "1."
)
shifted_chebyshev_polynomial_t = _polynomial(
    "shifted_chebyshev_polynomial_t",
    "Chebyshev's polynomials of the first kind in 2x - 1",
    lambda x, n: _t(2 * x - 1, n),
    "8x² - 8x + 1",
    "-0.5000",
)
shifted_chebyshev_polynomial_u = _polynomial(
    "shifted_chebyshev_polynomial_u",
    "Chebyshev's polynomials of the second kind in 2x - 1",
    lambda x, n: _u(2 * x - 1, n),
    "16x² - 16x + 3",
    "0.",
)
shifted_chebyshev_polynomial_v = _polynomial(
    "shifted_chebyshev_polynomial_v",
    "Chebyshev's polynomials of the third kind in 2x - 1",
    lambda x, n: _v(2 * x - 1, n),
    "16x² - 20x + 5",
    "1.",
)
shifted_chebyshev_polynomial_w = _polynomial(
    "shifted_chebyshev_polynomial_w",
    "Chebyshev's polynomials of the fourth kind in 2x - 1",
    lambda x, n: _w(2 * x - 1, n),
    "16x² - 12x + 1",
    "-1.",
)
hermite_polynomial_h = _polynomial(
    "hermite_polynomial_h",
    "Hermite's polynomials, the physicists'",
    lambda x, n: _record(_polynomials._hermite, 2.0, n, x),
    "4x² - 2",
    "-1.",
)
hermite_polynomial_he = _polynomial(
    "hermite_polynomial_he",
    "Hermite's polynomials, the probabilists'",
    lambda x, n: _record(_polynomials._hermite, 1.0, n, x),
    "x² - 1",
    "-0.7500",
)
laguerre_polynomial_l = _polynomial(
    "laguerre_polynomial_l",
    "Laguerre's polynomials",
    lambda x, n: _record(_polynomials._laguerre, 0.0, n, x),
    "x²/2 - 2x + 1",
    "0.1250",
)
legendre_polynomial_p = _polynomial(
    "legendre_polynomial_p",
    "Legendre's polynomials",
    lambda x, n: _record(_polynomials._gegenbauer, 0.5, n, x),
    "(3x² - 1) / 2",
    "-0.1250",
)

_IMPORTED = {"annotations", "functools", "importlib", "np", "Any", "Number", "Tensor"}
__all__ = sorted(name for name in globals() if name[0] != "_" and name not in _IMPORTED)  # noqa: PLE0605


def __dir__() -> list[str]:
    return __all__
