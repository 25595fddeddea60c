"""Gradients of jitted functions, and the functions themselves."""

from typing import Any

from benchmarks.jitted_works import works
from tapegrad import func, jitted

WORKS = works()


class JittedGradient:
    """A gradient of each work, from Python."""

    params = tuple(WORKS)
    param_names = ("work",)

    def setup(self, work: str) -> None:
        """Compile both."""
        self.function, self.args, _ = WORKS[work]
        self.gradient: Any = func.grad(self.function)
        self.gradient(*self.args)
        self.function(*self.args)

    def time_gradient(self, _: str) -> None:
        self.gradient(*self.args)

    def time_primal(self, _: str) -> None:
        self.function(*self.args)

    def track_tape_bytes(self, _: str) -> int:
        jitted.free()
        self.gradient(*self.args)
        return jitted.nbytes()
