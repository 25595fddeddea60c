"""Gradients of first and second order: what `autograd.grad` gives for every operation, its edges and its broadcasts."""

import re

import pytest

from .oracle import agree

# `first` records (create_graph), so its own gradient, `second`, is the rule of every rule. The squares keep that
# defined where `first` is constant.
GRADIENTS = """
leaves = [{names}]
z = {expression}
first = tg.autograd.grad((z * weights(z)).sum(), leaves, create_graph=True)
of_first = sum((g * weights(g)).sum() for g in first) + sum((leaf * leaf).sum() for leaf in leaves)
second = tg.autograd.grad(of_first, leaves)
first = [g.detach() for g in first]
del of_first
"""


def gradients_agree(expression: str, x: str, y: str = "", tolerance: float = 1e-9) -> None:
    """x and y: the source of the leaves that the expression uses."""
    sources = {name: source for name, source in (("x", x), ("y", y)) if re.search(rf"\b{name}\b", expression)}
    leaves = "\n".join(f"{name} = {source}.requires_grad_()" for name, source in sources.items())
    agree(leaves + GRADIENTS.format(names=", ".join(sources), expression=expression), text=False, tolerance=tolerance)


UNARY = {
    "reals": "neg abs sign exp expm1 square sin cos tan atan sinh cosh tanh sigmoid relu floor ceil round".split(),
    "positives": "log log1p log2 log10 sqrt rsqrt reciprocal".split(),
    "units": "asin acos".split(),
}
UNARY_CALLS = [f"{name}(x) of {domain}" for domain, names in UNARY.items() for name in names]


@pytest.mark.parametrize("shape", ["", "5", "2, 3", "0"])
@pytest.mark.parametrize("call", UNARY_CALLS)
def test_unary(call: str, shape: str):
    function, domain = call.split(" of ")
    gradients_agree(f"tg.{function}", f"tg.tensor({domain}({shape}))")


@pytest.mark.parametrize("shape", ["", "5", "2, 3", "0"])
def test_softplus(shape: str):
    gradients_agree("softplus(x)", f"tg.tensor(reals({shape}) * 30)")


BINARY = ["x + y", "x - y", "x * y", "x / y", "x ** y", "x % y"]
BINARY += ["tg.maximum(x, y)", "tg.minimum(x, y)", "tg.atan2(x, y)", "tg.where(x > y, x, y)"]
BROADCASTS = [
    ("3", "3"),
    ("2, 3", "3"),
    ("2, 1", "1, 3"),
    ("", "2, 3"),
    ("2, 3", ""),
    ("1", "2, 2"),
    ("2, 1, 3", "4, 1"),
    ("0, 3", "1, 3"),
    ("", ""),
]


@pytest.mark.parametrize(("left", "right"), BROADCASTS)
@pytest.mark.parametrize("expression", BINARY)
def test_binary(expression: str, left: str, right: str):
    gradients_agree(expression, f"tg.tensor(positives({left}))", f"tg.tensor(positives({right}) + 0.11)")


WITH_A_SCALAR = ["x + 2", "3 - x", "x * 2.5", "2 * x", "x / 4", "1 / x", "x ** 2", "x ** 3", "x ** 0.5", "x ** -1"]
WITH_A_SCALAR += ["x ** 0", "x ** 1", "2 ** x", "2.5 ** x", "x % 0.7", "x * True", "tg.where(x > 1, x, 0.0)"]
WITH_A_SCALAR += ["x ** tg.tensor(2)", "x * tg.tensor([1, 2, 3])", "x + tg.tensor([True, False, True])"]
WITH_A_SCALAR += ["tg.maximum(x, tg.tensor(1.0))", "x ** 2 + x * x + x", "-x + +x * abs(x)"]


@pytest.mark.parametrize("expression", WITH_A_SCALAR)
def test_with_a_scalar(expression: str):
    gradients_agree(expression, "tg.tensor(positives(2, 3))")


REDUCTIONS = [
    f"{name}({dims})"
    for name in "sum nansum mean var std amax amin norm logsumexp".split()
    for dims in ["", "dim=0", "dim=-1, keepdim=True", "dim=(0, 2)", "dim=(0, 2), keepdim=True"]
    if name != "logsumexp" or dims
]
REDUCTIONS += ["prod()", "prod(dim=0)", "prod(dim=-1, keepdim=True)"]
REDUCTIONS += ["softmax(0)", "softmax(-1)", "log_softmax(0)", "log_softmax(-1)"]
REDUCTIONS += ["max()", "min()", "max(dim=0).values", "max(1, keepdim=True)[0]", "min(dim=-1).values"]
REDUCTIONS += [
    "norm(1)",
    "norm(3, dim=1)",
    "norm(inf)",
    "norm(inf, dim=0)",
    "norm(0.5)",
    "var(correction=0)",
    "std(1, correction=0)",
]


@pytest.mark.parametrize("call", REDUCTIONS)
def test_reductions(call: str):
    gradients_agree(f"x.{call}", "tg.tensor(reals(2, 3, 4))")


@pytest.mark.parametrize(
    "call", ["sum()", "mean()", "prod()", "amax()", "max()", "norm()", "logsumexp(0)", "softmax(0)", "sum(0)"]
)
def test_reductions_of_a_scalar(call: str):
    gradients_agree(f"x.{call}", "tg.tensor(1.7)")


@pytest.mark.parametrize(
    "call",
    [
        "sum()",
        "sum(0)",
        "sum(1)",
        "nansum(1)",
        "prod()",
        "prod(0)",
        "norm()",
        "logsumexp(0)",
        "softmax(1)",
        "cumsum(1)",
    ],
)
def test_reductions_of_nothing(call: str):
    gradients_agree(f"x.{call}", "tg.ones(0, 3)")


PRODUCTS = [
    ("3", "3"),
    ("2, 3", "3"),
    ("2", "2, 3"),
    ("2, 3", "3, 4"),
    ("5, 2, 3", "5, 3, 4"),
    ("5, 2, 3", "3, 4"),
    ("2, 3", "5, 3, 4"),
    ("5, 1, 2, 3", "6, 3, 4"),
    ("3", "5, 3, 4"),
    ("5, 2, 3", "3"),
    ("0, 3", "3, 4"),
    ("2, 0", "0, 4"),
]


@pytest.mark.parametrize(("left", "right"), PRODUCTS)
def test_matmul(left: str, right: str):
    gradients_agree("x @ y", f"tg.tensor(reals({left}))", f"tg.tensor(units({right}))")


@pytest.mark.parametrize(
    "expression",
    [
        "x.mm(y.T)",
        "x.T @ y",
        "x.mv(y[0])",
        "x[0].dot(y[1])",
        "tg.outer(x[0], y[:, 1])",
        "x @ x.T",
        "(x @ y.T) @ x",
        "x[:, ::2] @ y[:, 1:].T",
    ],
)
def test_other_products(expression: str):
    gradients_agree(expression, "tg.tensor(reals(2, 3))", "tg.tensor(units(2, 3))")


LAYOUTS = [
    "x.reshape(4, 6)",
    "x.view(-1)",
    "x.flatten(1)",
    "x[:1].squeeze(0)",
    "x.unsqueeze(1)",
    "x.transpose(0, 2)",
    "x.permute(1, 2, 0)",
    "x[0].T",
    "x.expand(2, 2, 3, 4)",
    "x[:, :1].expand(-1, 5, -1)",
    "tg.cat([x, x * 2, x[:, :, :1].expand(2, 3, 4)], dim=1)",
    "tg.stack([x, x * x], dim=-1)",
    "x.transpose(0, 1).reshape(-1) * 2",
    "(x.T if x.ndim == 2 else x[0].T) * x[1].T",
    "x.clone()",
    "x.clone().detach() * x",
    "x + x.detach()",
]


@pytest.mark.parametrize("expression", LAYOUTS)
def test_layouts(expression: str):
    gradients_agree(expression, "tg.tensor(reals(2, 3, 4))")


INDEXINGS = [
    "x[0]",
    "x[-1, 2]",
    "x[1, 2, 3]",
    "x[:, 1:]",
    "x[..., ::2]",
    "x[None, 0]",
    "x[0:0]",
    "x[[0, 0, 1]]",
    "x[:, [2, 0, 2, 2]]",
    "x[[0, 1], [2, 2]]",
    "x[[0, 1], :, [3, 3]]",
    "x[x > 0]",
    "x[x > 9]",
    "x[tg.tensor([True, False])]",
    "x[tg.tensor([[0, 1], [1, 1]])]",
    "x[1:, tg.tensor([0, 2]), 1]",
    "x[0][1][2]",
    "x[:, 1] * x[:, 2]",
]


@pytest.mark.parametrize("expression", INDEXINGS)
def test_indexing(expression: str):
    gradients_agree(expression, "tg.tensor(reals(2, 3, 4))")


CLAMPS = ["x.clamp(-1, 1)", "x.clamp(min=0.5)", "x.clamp(max=y)", "x.clamp(y - 1, y + 1)", "tg.where(x > 0, x, y)"]
CLAMPS += ["tg.where(x > 0, x * y, 0.0)", "tg.where(x > 0, 1, x)"]


@pytest.mark.parametrize("expression", CLAMPS)
def test_clamp_and_where(expression: str):
    gradients_agree(expression, "tg.tensor(reals(3, 4))", "tg.tensor(units(3, 4))")


COMPOUND = [
    "(x * y).sum() * x",
    "tg.exp(-(x ** 2)) * tg.tanh(y * x + 1)",
    "((x - x.mean(0)) / x.std(0)).sin()",
    "tg.log(tg.exp(x - x.amax(1, keepdim=True)).sum(1)) - x.logsumexp(1)",
    "tg.sigmoid(x @ y.T) @ x",
    "x.softmax(1).log() * y",
    "(x.T @ x).norm() + y.prod()",
    "tg.cat([x, y])[1:4].cos().T",
    "sum(x[i] * y[i - 1] for i in range(3))",
    "tg.stack([row.sum() for row in x]) / (1 + y.square().sum(1))",
]


@pytest.mark.parametrize("expression", COMPOUND)
def test_compound_expressions(expression: str):
    gradients_agree(expression, "tg.tensor(reals(3, 4))", "tg.tensor(units(3, 4))")


MIXED_DTYPES = [
    ("x * y", "tg.ones(3, dtype=tg.float32)", "tg.tensor(reals(3))"),
    ("x + y.sum()", "tg.ones(3, dtype=tg.float32)", "tg.tensor(reals(3))"),
    ("x @ x * y", "tg.ones(3, dtype=tg.float32)", "tg.tensor(2.5)"),
    ("x.exp().sum() * y", "tg.ones(3, dtype=tg.float32)", "tg.tensor([1.0, 2.0])"),
    ("tg.where(x > 0, x, y)", "tg.ones(3, dtype=tg.float32)", "tg.tensor(reals(3))"),
    ("tg.cat([x, y])", "tg.ones(3, dtype=tg.float32)", "tg.tensor(reals(3))"),
    ("x ** 2 * 3 + y", "tg.ones(3, dtype=tg.float32)", "tg.tensor(2.0, dtype=tg.float32)"),
]


@pytest.mark.parametrize(("expression", "x", "y"), MIXED_DTYPES)
def test_gradients_have_the_dtype_of_their_leaf(expression: str, x: str, y: str):
    gradients_agree(expression, x, y, tolerance=1e-6)  # they pass through float32


# First order alone where the second is a matter of taste: kinks, ties, ends of domains.
EDGES = [
    ("tg.abs(x)", "[0.0, -0.0, 1.0, -1.0, inf, nan]"),
    ("tg.sign(x)", "[0.0, 2.0, -2.0]"),
    ("tg.relu(x)", "[0.0, -0.0, -1.0, 1.0, inf, nan]"),
    ("tg.sqrt(x)", "[0.0, 1.0, inf, -1.0]"),
    ("tg.rsqrt(x)", "[0.0, 1.0, inf]"),
    ("tg.log(x)", "[0.0, 1.0, inf, -1.0]"),
    ("tg.log1p(x)", "[-1.0, 0.0, inf]"),
    ("tg.reciprocal(x)", "[0.0, inf]"),
    ("tg.exp(x)", "[-inf, inf, 0.0, 710.0, nan]"),
    ("tg.tanh(x)", "[inf, -inf, 0.0, 30.0]"),
    ("tg.sigmoid(x)", "[inf, -inf, 0.0, 800.0, -800.0]"),
    ("tg.asin(x)", "[1.0, -1.0, 0.0]"),
    ("tg.acos(x)", "[1.0, -1.0, 0.0]"),
    ("tg.atan(x)", "[inf, -inf, 0.0]"),
    ("tg.sinh(x)", "[0.0, 710.0]"),
    ("tg.floor(x)", "[0.0, 1.5]"),
    ("tg.clamp(x, 0, 1)", "[-1.0, 0.0, 0.5, 1.0, 2.0, nan]"),
    ("tg.amax(x)", "[1.0, 3.0, 3.0, 2.0]"),
    ("tg.amin(x, 0)", "[[1.0, 1.0], [2.0, 1.0]]"),
    ("tg.amax(x, 1)", "[[1.0, 1.0], [2.0, 1.0]]"),
    ("tg.max(x)", "[1.0, 3.0, 3.0, 2.0]"),
    ("tg.min(x)", "[[1.0, 1.0], [2.0, 1.0]]"),
    ("tg.amax(x)", "[1.0, nan, 3.0]"),
    ("tg.prod(x)", "[0.0, 2.0, 3.0]"),
    ("tg.prod(x)", "[0.0, 2.0, 0.0]"),
    ("tg.prod(x, 1)", "[[0.0, 2.0, 3.0], [1.0, 2.0, 3.0], [0.0, 0.0, 1.0]]"),
    ("tg.prod(x)", "[inf, 2.0]"),
    ("tg.norm(x)", "[0.0, 0.0]"),
    ("tg.norm(x, 1)", "[0.0, 0.0]"),
    ("tg.norm(x, inf)", "[0.0, 0.0]"),
    ("tg.norm(x, inf)", "[3.0, -3.0, 1.0]"),
    ("tg.norm(x, dim=1)", "[[0.0, 0.0], [3.0, 4.0]]"),
    ("tg.std(x)", "[2.0, 2.0]"),
    ("tg.var(x)", "[2.0, 2.0]"),
    ("tg.logsumexp(x, 0)", "[-inf, -inf]"),
    ("tg.logsumexp(x, 0)", "[-inf, 0.0, inf]"),
    ("tg.logsumexp(x, 0)", "[1000.0, 1000.0]"),
    ("tg.softmax(x, 0)", "[-inf, 0.0, 1.0]"),
    ("tg.softmax(x, 0)", "[1000.0, 0.0, -1000.0]"),
    ("tg.log_softmax(x, 0)", "[-1000.0, 0.0, 1000.0]"),
    ("tg.pow(x, 2)", "[0.0, -2.0, 2.0]"),
    ("tg.pow(x, 0)", "[0.0, -2.0, 2.0]"),
    ("tg.pow(x, 0.5)", "[0.0, 2.0]"),
    ("tg.pow(x, -1)", "[0.0, 2.0]"),
    ("tg.pow(2.0, x)", "[0.0, -1.0]"),
    ("tg.pow(0.0, x)", "[0.0, 1.0, 2.0]"),
    ("tg.atan2(x, x.detach() * 0 - 1)", "[0.0, -1.0, 1.0, inf]"),
    ("tg.remainder(x, 2.0)", "[5.5, -5.5, 2.0]"),
    ("x * 0 + x / x", "[0.0, 1.0, inf]"),
]


@pytest.mark.parametrize(("expression", "x"), EDGES)
def test_edges(expression: str, x: str):
    agree(f"x = tg.tensor({x}, requires_grad=True)\nz = {expression}\n(z * weights(z)).sum().backward()", text=False)


TIES_OF_TWO = [
    "tg.maximum(x, y)",
    "tg.minimum(x, y)",
    "x ** y",
    "x / y",
    "x % (y + 1)",
    "tg.atan2(x, y)",
    "tg.where(x > y, x, y)",
    "x.clamp(y, y)",
    "tg.max(x, y)",
]


@pytest.mark.parametrize("expression", TIES_OF_TWO)
def test_edges_of_two(expression: str):
    agree(
        "x = tg.tensor([0.0, 1.0, 2.0, 0.0, nan], requires_grad=True)\n"
        "y = tg.tensor([0.0, 1.0, 1.0, 2.0, 1.0], requires_grad=True)\n"
        f"z = {expression}\n"
        "(z * weights(z)).sum().backward()",
        text=False,
    )


HIGHER_ORDERS = [
    "x ** 4",
    "x.sin()",
    "x.exp() * x",
    "1 / x",
    "x.tanh()",
    "x.log() * x.sum()",
    "x.sigmoid().prod()",
    "x.norm()",
    "(x @ x) ** 2 * x",
    "x.logsumexp(0)",
    "x.softmax(0)",
    "x[1:] * x[:-1] ** 2",
    "x.sqrt().sum() ** 3",
]


@pytest.mark.parametrize("expression", HIGHER_ORDERS)
def test_fourth_order(expression: str):
    agree(
        f"x = tg.tensor([0.5, 1.5, 2.0], requires_grad=True)\ny = ({expression}).sum()\norders = []\n"
        "for _order in range(4):\n"
        "    g, = tg.autograd.grad(y, x, create_graph=True)\n"
        "    orders.append(g.detach())\n"
        "    y = (g * weights(g)).sum()\n"
        "del y, g",
        text=False,
        tolerance=1e-9,
    )
