"""Hypergeometric functions, confluent and Gauss', by their argument; formulas are cited by the numbers of the DLMF.

Values are SciPy's (`foreign.py`). By the parameters no derivative is known.
"""

from tapegrad.foreign import Foreign
from tapegrad.ops.declare import FLOATING, elementwise
from tapegrad.ops.special import _unknown

_scipy_hyp0f1, _scipy_hyp1f1, _scipy_hyperu = Foreign("hyp0f1", 2), Foreign("hyp1f1", 3), Foreign("hyperu", 3)
_scipy_hyp2f1 = Foreign("hyp2f1", 4)


@elementwise(
    partials=(_unknown, lambda a, b: _hyp0f1(a + 1.0, b) / a),  # 16.3.1
    scipy="hyp0f1",
    unknown=("v",),
    result=FLOATING,
)
def _hyp0f1(a, b):
    """The confluent hypergeometric limit function 0F1(v; x), elementwise; differentiable by `x`.

    >>> import tapegrad as tg
    >>> tg.special.hyp0f1(1.5, tg.tensor([0.5, 1.0]))
    tensor([1.3683, 1.8134])
    """
    return _scipy_hyp0f1(a, b)


@elementwise(
    partials=(_unknown, _unknown, lambda a, b, c: a / b * _hyp1f1(a + 1.0, b + 1.0, c)),  # 13.3.15
    scipy="hyp1f1",
    unknown=("a", "b"),
    result=FLOATING,
)
def _hyp1f1(a, b, c):
    """Kummer's confluent hypergeometric function 1F1(a; b; x), elementwise; differentiable by `x`.

    >>> import tapegrad as tg
    >>> tg.special.hyp1f1(1.0, 2.0, tg.tensor([0.5, 1.0]))
    tensor([1.2974, 1.7183])
    """
    return _scipy_hyp1f1(a, b, c)


@elementwise(
    partials=(_unknown, _unknown, lambda a, b, c: -a * _hyperu(a + 1.0, b + 1.0, c)),  # 13.3.22
    scipy="hyperu",
    unknown=("a", "b"),
    result=FLOATING,
)
def _hyperu(a, b, c):
    """Tricomi's confluent hypergeometric function U(a, b, x), elementwise; differentiable by `x`.

    >>> import tapegrad as tg
    >>> tg.special.hyperu(1.0, 2.0, tg.tensor([0.5, 1.0]))
    tensor([2., 1.])
    """
    return _scipy_hyperu(a, b, c)


@elementwise(
    partials=(
        _unknown,
        _unknown,
        _unknown,
        lambda a, b, c, d: a * b / c * _hyp2f1(a + 1.0, b + 1.0, c + 1.0, d),
    ),  # 15.5.1
    scipy="hyp2f1",
    unknown=("a", "b", "c"),
    result=FLOATING,
)
def _hyp2f1(a, b, c, d):
    """Gauss' hypergeometric function 2F1(a, b; c; x), elementwise; differentiable by `x`."""
    return _scipy_hyp2f1(a, b, c, d)
