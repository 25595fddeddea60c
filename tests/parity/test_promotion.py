"""Type promotion: every pair of dtypes, as vectors, as 0-d tensors and as Python scalars."""

import itertools

import pytest

from .oracle import DTYPES, agree, agree_or_refuse_alike


def pairs(left: list[str], right: list[str]) -> list[tuple[str, str]]:
    return list(itertools.product(left, right))


SCALARS = ["True", "2", "2.5"]
# PyTorch refuses powers of bools, but not this one.
OTHERWISE = {(f"tg.tensor({value}, dtype=tg.bool)", "True") for value in ("[1, 3]", "3")}
VECTORS = [f"tg.tensor([1, 3], dtype=tg.{dtype})" for dtype in DTYPES]
POINTS = [f"tg.tensor(3, dtype=tg.{dtype})" for dtype in DTYPES]
OPERANDS = SCALARS + VECTORS + POINTS
PAIRS = [(x, y) for x, y in pairs(OPERANDS, OPERANDS) if not (x in SCALARS and y in SCALARS)]
OPERATORS = "+ - * / // % ** < <= > >= == != & | ^".split()
FUNCTIONS = "add sub mul div floor_divide remainder pow maximum minimum atan2".split()


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize(("x", "y"), PAIRS)
def test_operators(x: str, y: str, operator: str):
    if operator == "**" and (x, y) in OTHERWISE:
        return
    agree_or_refuse_alike(f"{x} {operator} {y}")


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(("x", "y"), [pair for pair in PAIRS if pair[0] not in SCALARS and pair[1] not in SCALARS])
def test_functions(x: str, y: str, name: str):
    agree_or_refuse_alike(f"tg.{name}({x}, {y})")


@pytest.mark.parametrize(("x", "y"), pairs(OPERANDS, OPERANDS))
def test_where(x: str, y: str):
    agree(f"tg.where(tg.tensor([True, False]), {x}, {y})")


@pytest.mark.parametrize("operator", ["+=", "-=", "*=", "/=", "//=", "%=", "**="])
@pytest.mark.parametrize(("x", "y"), pairs(VECTORS + POINTS, OPERANDS))
def test_in_place_operators_keep_the_dtype_or_refuse(x: str, y: str, operator: str):
    if operator == "**=" and (x, y) in OTHERWISE:
        return
    agree_or_refuse_alike(f"x = {x}; x {operator} {y}")


@pytest.mark.parametrize(("x", "y"), pairs(VECTORS, OPERANDS))
def test_assignment_keeps_the_dtype(x: str, y: str):
    agree(f"x = {x}; x[:] = {y}")
    agree(f"x = {x}; x[0] = {y if y in SCALARS else y + '.sum()'}")


@pytest.mark.parametrize("name", ["eq", "logical_and"])
@pytest.mark.parametrize(("x", "y"), pairs(VECTORS, VECTORS))
def test_comparisons_in_place_keep_the_dtype(x: str, y: str, name: str):
    agree_or_refuse_alike(f"x = {x}; x.{name}_({y}); x")


OF_ONE = [
    "tg.histogram({x}).hist", "tg.repeat_interleave({x})", "+{x}", "tg.bincount({x})", "tg.gradient({x})",
    "tg.mvlgamma({x} + 1, 1)", "tg.nn.functional.threshold({x}, 0.5, 1.0)", "tg.chain_matmul({x})",
]  # fmt: skip
OF_TWO = [
    "tg.block_diag({x}, {y}[0])", "tg.clamp_min({x}, {y})", "tg.clamp_max({x}, {y})", "tg.ldexp({x}, {y})",
    "tg.cosine_similarity({x}, {y}, dim=0).dtype", "tg.take_along_dim({x}, {y} * 0)", "tg.normal({x} * 0, {y}).dtype",
    "tg.cdist({x}.reshape(2, 1), {y}.reshape(2, 1))",
    *(f"tg.nn.functional.{name}({{x}}, {{y}})" for name in (
        "mse_loss", "smooth_l1_loss", "l1_loss", "kl_div", "multilabel_soft_margin_loss"
    )),
]  # fmt: skip
KINDS = [VECTORS[DTYPES.index(dtype)] for dtype in ("bool", "int64", "float32", "float64")]


@pytest.mark.parametrize("call", OF_ONE)
@pytest.mark.parametrize("x", VECTORS)
def test_dtypes_that_are_refused(x: str, call: str):
    agree_or_refuse_alike(call.format(x=x))


@pytest.mark.parametrize("call", OF_TWO)
@pytest.mark.parametrize(("x", "y"), pairs(KINDS, KINDS))
def test_dtypes_of_results(x: str, y: str, call: str):
    agree_or_refuse_alike(call.format(x=x, y=y))


@pytest.mark.parametrize("name", ["huber_loss", "soft_margin_loss"])
@pytest.mark.parametrize(("x", "y"), pairs(KINDS[2:], KINDS))
def test_losses_have_the_dtype_of_their_input(x: str, y: str, name: str):
    agree_or_refuse_alike(f"tg.nn.functional.{name}({x}, {y})")


@pytest.mark.parametrize(("x", "y"), pairs(VECTORS, VECTORS))
def test_cat_and_stack(x: str, y: str):
    agree(f"tg.cat([{x}, {y}])")
    agree_or_refuse_alike(f"tg.stack([{x}, {y}])")


@pytest.mark.parametrize(("x", "y"), pairs(VECTORS, VECTORS))
def test_products(x: str, y: str):
    agree_or_refuse_alike(f"{x}.dot({y})")
    agree_or_refuse_alike(f"{x}.reshape(1, 2) @ {y}")
    agree_or_refuse_alike(f"{x}.reshape(1, 2) @ {y}.reshape(2, 1)")
    agree_or_refuse_alike(f"tg.outer({x}, {y})")


@pytest.mark.parametrize(("x", "y"), pairs(VECTORS + POINTS, SCALARS))
def test_clamp(x: str, y: str):
    agree_or_refuse_alike(f"{x}.clamp(min={y})")
    agree_or_refuse_alike(f"{x}.clamp(0, {y})")


THREE_WAYS = [
    "tg.tensor([1], dtype=tg.float32) + tg.tensor(1.0) + 1",
    "tg.tensor([1], dtype=tg.int32) * tg.tensor(2.5, dtype=tg.float32) + tg.tensor([1])",
    "(tg.tensor([True]) + True) * 2.5",
    "tg.tensor(1) + tg.tensor(2.0, dtype=tg.float32) + tg.tensor([3], dtype=tg.int32)",
    "tg.tensor([1, 2], dtype=tg.int32) / 2, tg.tensor([1, 2], dtype=tg.float32) / tg.tensor(2)",
    "2 ** tg.tensor([1, 2]), 2.0 ** tg.tensor([1, 2]), tg.tensor([1, 2]) ** 2.0, tg.tensor(2.0) ** tg.tensor([1, 2])",
    "tg.ones(2, dtype=tg.float32) * np.float64(2.5), tg.ones(2, dtype=tg.float32) + np.int64(2)",
    "tg.set_default_dtype(tg.float32); x = tg.tensor([1.5]); y = tg.tensor([1, 2]) / 2; z = tg.exp(tg.tensor([1])); "
    "texts = repr(x), repr(tg.zeros(2, dtype=tg.float64)); tg.set_default_dtype(tg.float64)",
]


@pytest.mark.parametrize("program", THREE_WAYS)
def test_chains(program: str):
    agree(program)
