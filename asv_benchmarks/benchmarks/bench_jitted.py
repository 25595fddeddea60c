"""Derivatives of jitted functions, and the functions themselves: the works of `compare_jitted.py`."""

from benchmarks.jitted_works import in_numba
from benchmarks.jitted_works.table import WORKS
from tapegrad import jitted

from .common import QUICK

QUICK_WORKS = ("logistic map", "Newton", "seidel_2d")


class JittedDerivative:
    """A derivative of each work; a thousand, where jitted code calls for them."""

    params = tuple(title for title in WORKS if not QUICK or title.startswith(QUICK_WORKS))
    param_names = ("work",)

    def setup(self, work: str) -> None:
        """Compile both."""
        self.primal, self.derivative = in_numba.primal(WORKS[work]), in_numba.derivative(WORKS[work])
        self.primal()
        self.derivative()

    def time_derivative(self, _: str) -> None:
        self.derivative()

    def time_primal(self, _: str) -> None:
        self.primal()

    def track_tape_bytes(self, _: str) -> int:
        jitted.free()
        self.derivative()
        return jitted.nbytes()
