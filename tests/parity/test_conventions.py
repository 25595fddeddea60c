"""Kinks, ties and edges as in PyTorch; and the one convention that is not: what was not taken leaves no nan."""

import math

import pytest

import tapegrad

from .oracle import agree, torch

GRADIENT = "x = tg.tensor({point}, requires_grad=True)\ny = {expression}\ny.sum().backward()"
POINTS = ["[0.0, 1.0, 2.0]", "[0.0, 0.0, 0.0]", "[1.0, 1.0, -1.0]", "[2.0, -2.0, 0.0]", "[0.0]", "[-3.0, 4.0]"]
INFINITE = ["[-inf, -inf]", "[inf, inf]", "[-inf, 1.0]", "[inf, 1.0]", "[nan, 1.0]", "[]"]


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("p", ["0.5", "1", "1.5", "2", "3", "4.5", "inf", "-inf", "-1", "-2"])
def test_norms(p: str, point: str):
    agree(GRADIENT.format(point=point, expression=f"tg.linalg.vector_norm(x, {p})"), text=False)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("p", ["0.5", "1", "2", "3", "inf", "-1"])
def test_norms_along_dimensions(p: str, dtype: str):
    point = f"[[0.0, 1.0, -2.0], [0.0, 0.0, 0.0], [3.0, 3.0, -3.0]], dtype=tg.{dtype}"
    for dim in ("0", "1", "(0, 1)"):
        agree(GRADIENT.format(point=point, expression=f"tg.linalg.vector_norm(x, {p}, {dim})"), text=False)


REDUCTIONS = ["tg.logsumexp(x, 0)", "x.var()", "x.std()", "x.var(correction=0)", "x.std(correction=0)", "x.prod()"]
REDUCTIONS += ["tg.softmax(x, 0)", "tg.log_softmax(x, 0)", "x.mean()", "x.sum()"]


@pytest.mark.parametrize("point", POINTS + INFINITE)
@pytest.mark.parametrize("expression", REDUCTIONS)
def test_reductions(expression: str, point: str):
    agree(GRADIENT.format(point=point, expression=expression), text=False)


@pytest.mark.parametrize("mode", ["jacrev", "jacfwd"])
@pytest.mark.parametrize("expression", ["t.std() + t.sum()", "tg.linalg.norm(t) + t.sum()", "t.abs() + t"])
def test_both_modes_at_kinks(expression: str, mode: str):
    for point in ("tg.ones(3)", "tg.zeros(3)"):
        if mode == "jacfwd" and ("norm" in expression and "zeros" in point):
            continue  # nan in PyTorch
        agree(f"y = tg.func.{mode}(lambda t: {expression})({point})", text=False)


MASKED = {
    "tg.where(x > 0, tg.sqrt(x), 0.0)": [0.0, 0.0, 0.25],
    "tg.where(x == 0, 1.0, tg.sin(x) / x)": [math.sin(1) - math.cos(1), 0.0, math.cos(4) / 4 - math.sin(4) / 16],
    "tg.sqrt(x * 0.0)": [0.0, 0.0, 0.0],
    "tg.log(tg.clamp(x, min=0.0)) * (x > 0)": [0.0, 0.0, 0.25],
}


@pytest.mark.parametrize("expression", MASKED)
def test_where_pytorch_has_nan(expression: str):
    found = {}
    for library in (torch, tapegrad):
        x = library.tensor([-1.0, 0.0, 4.0], dtype=library.float64, requires_grad=True)
        eval(expression, {"tg": library, "x": x}).sum().backward()
        found[library] = x.grad.tolist()
    assert any(map(math.isnan, found[torch]))
    assert found[tapegrad] == pytest.approx(MASKED[expression], rel=1e-14)
