"""Linear algebra, under the names of `torch.linalg`."""

from tapegrad.functions.contractions import linalg_cross as cross
from tapegrad.functions.contractions import linalg_vander as vander
from tapegrad.functions.contractions import matrix_power, multi_dot, vecdot
from tapegrad.functions.factorizations import (
    LinAlgError,
    cholesky,
    det,
    inv,
    matrix_norm,
    norm,
    slogdet,
    solve,
    solve_triangular,
    vector_norm,
)  # fmt: skip
from tapegrad.functions.products import matmul
from tapegrad.functions.shaping import functions as _views
from tapegrad.tensor import Tensor


def diagonal(A: Tensor, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """The diagonals of matrices, as a view: `tapegrad.diagonal` of the last two dimensions."""
    view: Tensor = _views["diagonal"](A, offset, dim1, dim2)
    return view


__all__ = [
    "LinAlgError", "cholesky", "cross", "det", "diagonal", "inv", "matmul", "matrix_norm", "matrix_power", "multi_dot",
    "norm", "slogdet", "solve", "solve_triangular", "vander", "vecdot", "vector_norm",
]  # fmt: skip


def __dir__() -> list[str]:
    return __all__
