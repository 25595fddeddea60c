"""Comparisons for tests, as in `torch.testing`: `assert_close`, and tensors to try things with (`make_tensor`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tapegrad import creation, dtypes
from tapegrad.conversion import as_operand
from tapegrad.tensor import Tensor

_TOLERANCES = {dtypes.FLOAT32: (1.3e-6, 1e-5), dtypes.FLOAT64: (1e-7, 1e-7)}


def assert_close(
    actual: Any, expected: Any, *, allow_subclasses: bool = True, rtol: float | None = None, atol: float | None = None,
    equal_nan: bool = False, check_device: bool = True, check_dtype: bool = True, check_layout: bool = True,
    check_stride: bool = False, msg: str | Callable[[str], str] | None = None,
) -> None:  # fmt: skip
    """Assert that values agree: |actual - expected| <= atol + rtol |expected|, of one shape and dtype.

    Parameters
    ----------
    actual, expected : Tensor, array, number, or sequences and mappings of them
        What is compared.
    rtol, atol : float, optional
        Both, or none: by default 1.3e-6 and 1e-5 for float32, 1e-7 for float64 and numbers, 0 for integers and bools.
    equal_nan : bool
        Whether nan agrees with nan.
    check_dtype, check_stride : bool
        Whether dtypes, and strides, must agree too.
    msg : str or callable, optional
        The message, or what makes it of the one that there would be.

    Raises
    ------
    AssertionError
        Where they disagree; it says where most.
    ValueError
        Where one tolerance is given alone.
    TypeError
        Where something can't be compared.

    >>> import tapegrad as tg
    >>> tg.testing.assert_close(tg.tensor([1.0, 2.0]), tg.tensor([1.0, 3.0]))
    Traceback (most recent call last):
    ...
    AssertionError: Tensor-likes are not close!
    <BLANKLINE>
    Mismatched elements: 1 / 2 (50.0%)
    Greatest absolute difference: 1.0 at index (1,) (up to 1e-07 allowed)
    Greatest relative difference: 0.3333333333333333 at index (1,) (up to 1e-07 allowed)
    """
    del allow_subclasses, check_device, check_layout
    if (rtol is None) != (atol is None):
        other = "atol" if atol is None else "rtol"
        raise ValueError(f"Both 'rtol' and 'atol' must be either specified or omitted, but got no {other}.")
    found = _Comparison(rtol, atol, equal_nan, check_dtype, check_stride).differs(actual, expected, ())
    if found:
        raise AssertionError(found if msg is None else msg(found) if callable(msg) else msg)


class _Comparison:
    def __init__(
        self, rtol: float | None, atol: float | None, equal_nan: bool, check_dtype: bool, check_stride: bool
    ) -> None:
        self.rtol, self.atol, self.equal_nan = rtol, atol, equal_nan
        self.check_dtype, self.check_stride = check_dtype, check_stride

    def differs(self, actual: Any, expected: Any, path: tuple[Any, ...]) -> str:
        """How they do; empty where they don't."""
        said = self._containers(actual, expected, path)
        if said is None:
            said = self._values(actual, expected)
            if said and path:
                said += f"\n\nThe failure occurred for item {''.join(f'[{key!r}]' for key in path)}"
        return said

    def _containers(self, actual: Any, expected: Any, path: tuple[Any, ...]) -> str | None:
        if all(isinstance(x, Mapping) for x in (actual, expected)):
            if actual.keys() != expected.keys():
                missing, more = sorted(expected.keys() - actual.keys()), sorted(actual.keys() - expected.keys())
                return (
                    "The keys of the mappings do not match:\n"
                    f"Missing keys in the actual mapping: {missing}\nAdditional keys in the actual mapping: {more}"
                )
            pairs = [(key, actual[key], expected[key]) for key in expected]
        elif all(isinstance(x, Sequence) and not isinstance(x, str) for x in (actual, expected)):
            if len(actual) != len(expected):
                return f"The length of the sequences mismatch: {len(actual)} != {len(expected)}"
            pairs = [(i, a, b) for i, (a, b) in enumerate(zip(actual, expected, strict=True))]
        else:
            return None
        return next((said for key, a, b in pairs if (said := self.differs(a, b, (*path, key)))), "")

    def _values(self, actual: Any, expected: Any) -> str:
        if actual is None or expected is None:
            return "" if actual is expected else f"None mismatch: {actual} is not {expected}"
        numbers = (bool, int, float, complex, np.generic)
        if all(isinstance(x, numbers) for x in (actual, expected)):
            if all(isinstance(x, (bool, np.bool_)) for x in (actual, expected)):
                return "" if actual == expected else f"Booleans mismatch: {actual} is not {expected}"
            is_exact = all(isinstance(x, (int, np.integer)) for x in (actual, expected))
            rtol, atol = (0.0, 0.0) if is_exact else (1e-7, 1e-7)
            return self._scalars(actual, expected, *self._tolerances(rtol, atol))
        if not all(isinstance(x, (Tensor, np.ndarray)) for x in (actual, expected)):
            raise TypeError(
                f"No comparison pair was able to handle inputs of type {type(actual)} and {type(expected)}."
            )
        a, b = (as_operand(x, False) if isinstance(x, np.ndarray) else x for x in (actual, expected))
        if a.shape != b.shape:
            return f"The values for attribute 'shape' do not match: {a.shape} != {b.shape}."
        if self.check_dtype and a.dtype is not b.dtype:
            return f"The values for attribute 'dtype' do not match: {a.dtype} != {b.dtype}."
        if self.check_stride and a.stride() != b.stride():
            return f"The values for attribute 'stride()' do not match: {a.stride()} != {b.stride()}."
        default = [_TOLERANCES.get(x.dtype, (0.0, 0.0)) for x in (a, b)]
        rtol, atol = self._tolerances(max(r for r, _ in default), max(t for _, t in default))
        if not a.ndim and (rtol or atol):
            return self._scalars(a.item(), b.item(), rtol, atol)
        return self._arrays(a.detach()._array(), b.detach()._array(), rtol, atol)

    def _tolerances(self, rtol: float, atol: float) -> tuple[float, float]:
        return (rtol, atol) if self.rtol is None or self.atol is None else (self.rtol, self.atol)

    def _scalars(self, actual: Any, expected: Any, rtol: float, atol: float) -> str:
        apart = abs(actual - expected)
        if actual == expected or (self.equal_nan and actual != actual and expected != expected):
            return ""
        if math.isfinite(abs(expected)) and apart <= atol + rtol * abs(expected):
            return ""
        if not (rtol or atol):
            head, bounds = "Scalars are not equal!", ("", "")
        else:
            head, bounds = "Scalars are not close!", (f" (up to {atol} allowed)", f" (up to {rtol} allowed)")
        relative = apart / abs(expected) if expected else math.inf
        return (
            f"{head}\n\nExpected {expected} but got {actual}.\nAbsolute difference: {apart}{bounds[0]}\n"
            f"Relative difference: {relative}{bounds[1]}"
        )

    def _arrays(self, actual: np.ndarray, expected: np.ndarray, rtol: float, atol: float) -> str:
        agree = np.isclose(actual, expected, rtol, atol, self.equal_nan)
        if agree.all():
            return ""
        if actual.dtype == bool:
            actual, expected = actual.astype(np.int64), expected.astype(np.int64)
        with np.errstate(all="ignore"):
            apart = np.where(agree, 0, np.abs(actual - expected))
            relative = np.where(agree, 0, np.abs(apart / np.abs(expected)))
        lines = [
            f"Tensor-likes are not {'close' if rtol or atol else 'equal'}!", "",
            f"Mismatched elements: {(~agree).sum()} / {agree.size} ({(~agree).mean():.1%})",
        ]  # fmt: skip
        for name, of, bound in (("absolute", apart, atol), ("relative", relative, rtol)):
            k = int(np.nanargmax(of)) if not np.isnan(of).all() else 0
            at = tuple(int(i) for i in np.unravel_index(k, of.shape))
            allowed = f" (up to {bound} allowed)" if rtol or atol else ""
            lines.append(f"Greatest {name} difference: {of.flat[k].item()} at index {at}{allowed}")
        return "\n".join(lines)


def make_tensor(
    *shape: Any, dtype: dtypes.DType, device: Any = None, low: float | None = None, high: float | None = None,
    requires_grad: bool = False, noncontiguous: bool = False, exclude_zero: bool = False, memory_format: Any = None,
) -> Tensor:  # fmt: skip
    """A tensor with elements that are drawn from between `low` and `high`: -9 and 9, bools from both.

    >>> import tapegrad as tg
    >>> tg.testing.make_tensor(2, 3, dtype=tg.float64).shape
    tapegrad.Size([2, 3])
    """
    del memory_format
    sizes = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
    is_gapped = noncontiguous and math.prod(sizes) > 1
    if is_gapped:  # every other element of a tensor twice as long
        sizes = (*sizes[:-1], 2 * sizes[-1])
    if dtype is dtypes.BOOL:
        made = creation.randint(0, 2, sizes, dtype=dtype, device=device)
    elif dtype.is_floating_point:
        first, last = -9.0 if low is None else low, 9.0 if high is None else high
        made = creation.rand(*sizes, dtype=dtype, device=device) * (last - first) + first
    else:
        first, last = -9 if low is None else int(low), 10 if high is None else int(high)
        made = creation.randint(first, last, sizes, dtype=dtype, device=device)
    if exclude_zero:
        made = made.masked_fill(made == 0, 1)
    if is_gapped:
        made = made[..., ::2]
    result: Tensor = made.detach().requires_grad_() if requires_grad else made
    return result


__all__ = ["assert_close", "make_tensor"]
