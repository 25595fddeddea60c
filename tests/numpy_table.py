"""Every function of NumPy's that takes arrays of numbers, called once with tensors that require grad.

    python -m tests.numpy_table     writes NUMPY.md beside this file

A function *records* where its result has a derivative, and *writes* where it does so into a tensor; it is *constant*
where its result is an index, a truth, a count, or a step, and the numbers come out; else it is *refused*, with a
sentence that says so. `test_numpy_table.py` asserts what NUMPY.md says, and compares values and derivatives with
NumPy's own.
"""

from __future__ import annotations

import ast
import collections
import pathlib
import re
import warnings
from typing import Any

import numpy as np

import tapegrad as tg
from tapegrad import trees

WRITTEN = pathlib.Path(__file__).with_name("NUMPY.md")

# Operands: a vector and another, in (0.2, 0.9), no elements near each other, so that orders stay as they are; a matrix
# that is positive definite; and an array of three dimensions.
_RNG = np.random.default_rng(5)
_APART = _RNG.permutation(np.linspace(0.21, 0.89, 12))
OPERANDS = {"x": _APART[:6].copy(), "y": _APART[6:].copy(), "c": _RNG.normal(size=(2, 3, 4))}
_ROOT = _RNG.normal(size=(3, 3))
OPERANDS["m"] = _ROOT @ _ROOT.T + 3 * np.eye(3)

CALLS = """
abs(c) absolute(c) fabs(c) negative(x) positive(x) sign(c) signbit(c) reciprocal(x) conj(x) conjugate(x) real(x)
imag(x) angle(x) real_if_close(x) square(x) sqrt(x) cbrt(x) exp(x) exp2(x) expm1(x) log(x) log2(x) log10(x) log1p(x)
sin(x) cos(x) tan(x) arcsin(x) asin(x) arccos(x) acos(x) arctan(x) atan(x) sinh(x) cosh(x) tanh(x) arcsinh(x) asinh(x)
arccosh(x + 1) acosh(x + 1) arctanh(x) atanh(x) deg2rad(x) rad2deg(x) radians(x) degrees(x) sinc(x) i0(x) unwrap(x)
ceil(x) floor(x) rint(x) trunc(x) fix(x) round(x) around(x, 2) modf(x) frexp(x) spacing(x) nan_to_num(x)
isfinite(x) isinf(x) isnan(x) isneginf(x) isposinf(x) isreal(x) iscomplex(x) iscomplexobj(x) isrealobj(x)

add(x, y) subtract(x, y) multiply(x, y) divide(x, y) true_divide(x, y) floor_divide(x, y) mod(x, y) remainder(x, y)
fmod(x, y) divmod(x, y) power(x, y) pow(x, y) float_power(x, y) arctan2(x, y) atan2(x, y) hypot(x, y) copysign(x, y)
ldexp(x, 2) nextafter(x, y) logaddexp(x, y) logaddexp2(x, y) maximum(x, y) minimum(x, y) fmax(x, y) fmin(x, y)
heaviside(x, y) clip(x, 0.3, 0.7) where(x > 0.5, x, y) select([x > 0.5], [x], 0.0) choose([0, 1, 0, 1, 0, 1], [x, y])
piecewise(x, [x < 0.5, x >= 0.5], [lambda t: t * t, lambda t: t + 1])
equal(x, y) not_equal(x, y) less(x, y) less_equal(x, y) greater(x, y) greater_equal(x, y) isclose(x, y) allclose(x, y)
array_equal(x, y) array_equiv(x, y) logical_and(x, y) logical_or(x, y) logical_xor(x, y) logical_not(x)

sum(c, axis=1) prod(c, axis=2) mean(c, axis=(0, 2)) std(c, ddof=1) var(c, axis=0) max(c, axis=1) amax(c) min(c, axis=1)
amin(c) ptp(c, axis=2) all(c) any(c) argmax(c, axis=1) argmin(c) average(c, axis=2, weights=[1, 2, 3, 4]) median(c)
percentile(c, 30, axis=1) quantile(c, [0.1, 0.6]) cumsum(c, axis=1) cumprod(c) cumulative_sum(x) cumulative_prod(x)
nansum(c) nanprod(c, axis=0) nanmean(c, axis=1) nanstd(c) nanvar(c) nanmax(c, axis=1) nanmin(c) nanargmax(c)
nanargmin(c) nanmedian(c) nanpercentile(c, 30) nanquantile(c, 0.3) nancumsum(c) nancumprod(x) count_nonzero(c)
trapezoid(x) trapezoid(x, y) diff(c) ediff1d(x) gradient(x) gradient(m, 0.5, axis=1) convolve(x, y) correlate(x, y)
interp([0.3, 0.5], [0.0, 1.0, 2.0, 3.0, 4.0, 5.0], x) cov(m) corrcoef(m) histogram(x) histogram2d(x, y)
histogramdd(m) histogram_bin_edges(x) bincount([0, 1, 1, 2, 0, 3], weights=x) digitize(x, [0.3, 0.6])
searchsorted([0.3, 0.6], x) sort(x) argsort(x) lexsort((x, y)) partition(x, 2) argpartition(x, 2) unique(x)
unique_all(x) unique_counts(x) unique_inverse(x) unique_values(x) union1d(x, y) intersect1d(x, y) setdiff1d(x, y)
setxor1d(x, y) isin(x, y) nonzero(x) flatnonzero(x) argwhere(x) sort_complex(x) extract(x > 0.5, x)
compress([True, False, True], x) trim_zeros(x)

reshape(c, (4, 6)) ravel(c) transpose(c) permute_dims(c, (2, 0, 1)) matrix_transpose(c) swapaxes(c, 0, 2)
moveaxis(c, 0, 2) rollaxis(c, 2) squeeze(c[:1]) expand_dims(c, 1) atleast_1d(x) atleast_2d(x) atleast_3d(x)
broadcast_to(x, (2, 6)) broadcast_arrays(x, c[0, 0, 0]) flip(c, 1) fliplr(m) flipud(m) rot90(m) roll(c, 2, axis=1)
tile(x, 2) repeat(x, 2) take(x, [0, 2]) take_along_axis(x, array([2, 0]), 0) delete(x, 2) insert(x, 1, y[:2])
append(x, y) resize(x, (2, 4)) pad(x, 2) diag(x) diagflat(x) diagonal(m) trace(m) tril(m) triu(m) vander(x[:3])
concatenate([x, y]) concat([x, y]) stack([x, y]) unstack(m) vstack([x, y]) row_stack([x, y]) hstack([x, y])
dstack([x, y]) column_stack([x, y]) block([[x, y]]) bmat([[m, m]]) split(x, 2) array_split(x, 4) hsplit(x, 2)
vsplit(c, 2) dsplit(c, 2) meshgrid(x, y) ix_([0, 1], [2, 3]) copy(x) array(x) asarray(x) asanyarray(x)
ascontiguousarray(x) asfortranarray(x) asarray_chkfinite(x) require(x) astype(x, 'float32') full(3, x[0])
full_like(x, 2.0) ones_like(x) zeros_like(x) empty_like(x) linspace(x[0], y[0], 5) logspace(x[0], y[0], 5)
geomspace(x[0], y[0], 5) shape(c) size(c) ndim(c) isscalar(x) iterable(x) may_share_memory(x, y) shares_memory(x, y)
fill_diagonal(m + 0, 1.0) put(x + 0, [1, 2], y) place(x + 0, x > 0.5, y) putmask(x + 0, x > 0.5, y)
copyto(x + 0, y) put_along_axis(m + 0, array([[0]]), 1.0, 1) diag_indices_from(m) tril_indices_from(m)
triu_indices_from(m) apply_along_axis(lambda v: (v * v).sum(), 1, m) apply_over_axes(sum, c, [0, 2])
result_type(x, y) min_scalar_type(x) common_type(x, y) array_repr(x) array_str(x)
array2string(x)

dot(m, m) vdot(x, y) inner(x, y) outer(x, y) matmul(m, m) matvec(m, x[:3]) vecmat(x[:3], m) vecdot(x, y)
tensordot(c, c, 3) einsum('ij,jk->ik', m, m) einsum_path('ij,jk->ik', m, m) kron(m, m) cross(x[:3], y[:3])
linalg.cholesky(m) linalg.cond(m) linalg.cross(x[:3], y[:3]) linalg.det(m) linalg.diagonal(m) linalg.eig(m)
linalg.eigh(m) linalg.eigvals(m) linalg.eigvalsh(m) linalg.inv(m) linalg.lstsq(m, x[:3]) linalg.matmul(m, m)
linalg.matrix_norm(m) linalg.matrix_power(m, 3) linalg.matrix_rank(m) linalg.matrix_transpose(m)
linalg.multi_dot([m, m, m]) linalg.norm(m) linalg.outer(x, y) linalg.pinv(m) linalg.qr(m) linalg.slogdet(m)
linalg.solve(m, x[:3]) linalg.svd(m) linalg.svdvals(m) linalg.tensordot(m, m) linalg.tensorinv(m, 1)
linalg.tensorsolve(m, x[:3]) linalg.trace(m) linalg.vecdot(x, y) linalg.vector_norm(x)

poly(x) polyadd(x, y) polyder(x) polydiv(x, y) polyfit(x, y, 2) polyint(x) polymul(x, y) polysub(x, y) polyval(x, y)
roots(x) fft.fft(x) fft.rfft(x) fft.fftshift(x) fft.ifftshift(x) fft.irfft(x) fft.hfft(x)
"""


def parsed() -> dict[str, str]:
    """Calls by the name of their function: the first of each."""
    found: dict[str, str] = {}
    for call in ast.unparse(ast.parse(re.sub(r"\)\s+(?=[a-z])", ")\n", CALLS.strip()))).splitlines():
        found.setdefault(call.partition("(")[0], call)
    return found


class _Namespace(dict[str, Any]):
    def __missing__(self, name: str) -> Any:
        return getattr(np, name)


def evaluated(call: str, operands: dict[str, Any]) -> Any:
    """A call, of arrays or of tensors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return eval(call, _Namespace(operands))


def tensors() -> dict[str, tg.Tensor]:
    return {name: tg.tensor(array, requires_grad=True) for name, array in OPERANDS.items()}


def outcome(call: str) -> tuple[str, Any]:
    """What becomes of it: "records" or "constant", with the result; or "refused", with the error."""
    try:
        result = evaluated(call, tensors())
    except Exception as error:
        return "refused", error
    if result is None:
        return "writes", result
    found = [leaf for leaf in trees.leaves(_plain(result)) if isinstance(leaf, tg.Tensor)]
    return "records" if any(leaf.requires_grad for leaf in found) else "constant", result


def _plain(result: Any) -> Any:
    """Named tuples and lists as tuples."""
    return tuple(map(_plain, result)) if isinstance(result, (tuple, list)) else result


def main() -> None:
    """Write the table."""
    rows, counts = [], collections.Counter[str]()
    for name, call in sorted(parsed().items()):
        kind, result = outcome(call)
        counts[kind] += 1
        why = str(result).splitlines()[0].split(" at ")[0][:110] if kind == "refused" else ""
        rows.append(f"| `np.{name}` | `{call}` | {kind} | {why} |")
    total = sum(counts.values())
    head = [
        "# NumPy's functions on tensors",
        "",
        "`make numpy-table` writes this page: each function that takes arrays of numbers is called with tensors that",
        "require grad (`x`, `y` vectors, `m` a matrix, `c` of three dimensions). It *records*, or *writes* into a",
        "tensor, or its result is *constant* by nature, or it is *refused*.",
        "",
        f"Of {total} functions of NumPy {np.__version__}, {counts['records']} record, {counts['writes']} write, "
        f"{counts['constant']} are constant and {counts['refused']} are refused.",
        "",
        "| function | called as | outcome | what is said |",
        "|---|---|---|---|",
    ]
    WRITTEN.write_text("\n".join([*head, *rows]) + "\n")
    print(head[-4])


if __name__ == "__main__":
    main()
