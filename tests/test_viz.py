"""Drawings of graphs, what notebooks show, and profiles of sweeps."""

import re
import shutil
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

import tapegrad as tg
from tapegrad.viz.drawing import regions_of, steps_behind

needs_graphviz = pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")


def of_rows(n):
    x, w = tg.rand(1000, requires_grad=True), tg.rand(1000)
    y = x
    for _ in range(n // 2):
        y = tg.sin(y) * 1.5
    return tg.sum(y * w)


def edges(drawing):
    return re.findall(r"(\w+) -> (\w+);", str(drawing))


def test_a_drawing_has_a_node_a_row_and_an_edge_an_operand():
    x, w = tg.tensor([1.0, 2.0], requires_grad=True), tg.tensor([3.0, 4.0])
    y = (tg.exp(x * w) + x.view(2) * 2.5).sum()
    drawing = tg.viz.dot(y)
    text = str(drawing)
    for name in ("exp", "mul\\n", "mul 2.5", "add", "sum", "leaf", "constant", "float64[2]", "float64[]"):
        assert name in text
    of = dict(re.findall(r"(s\d+) \[label=\"([^\"]*)\"", text))
    names = [(of[a].split("\\n")[0], of[b].split("\\n")[0]) for a, b in edges(drawing) if b in of]
    assert sorted(names) == [
        ("add", "sum"), ("constant", "mul"), ("exp", "add"), ("leaf", "mul"), ("leaf", "view"), ("mul", "exp"),
        ("mul 2.5", "add"), ("view", "mul 2.5"),
    ]  # fmt: skip
    assert 'label="region"' in text
    assert y.item() == pytest.approx(np.exp([3.0, 8.0]).sum() + 7.5)


def test_many_rows_are_drawn_by_regions():
    y = of_rows(60)
    drawing = tg.viz.dot(y)
    assert (drawing.rows, drawing.regions) == (62, 1)
    assert "62 rows over [1000]" in str(drawing)
    assert "sin x 30" in str(drawing)
    assert len(str(drawing)) < 1500
    assert len(str(tg.viz.dot(y, most_rows=100))) > 5000
    a = tg.rand(20, 20, requires_grad=True)
    z = y + (a @ a).logsumexp(1).sum()
    assert tg.viz.dot(z).regions > 3
    both = tg.viz.dot(y, a)
    assert len([b for _, b in edges(both) if b.startswith("y")]) == 2


def of_two_regions():
    x, w = tg.rand(5, 3, requires_grad=True), tg.rand(7, requires_grad=True)
    return (x * 2.0).exp().sum() + (w * 3.0).exp().sum()


def test_each_region_has_its_braces():
    text = str(tg.viz.dot(of_two_regions()))
    assert text.count("subgraph") == text.count('label="region"') == 2
    assert text.count("{") == text.count("}") == 3


def test_regions_come_after_what_they_read_as_a_whole():
    x = tg.rand(10, requires_grad=True)
    y = x * 2.0
    z = tg.exp(y) - tg.sum(y)  # the exponential with y, the difference after the sum
    steps = steps_behind(z._tape, [z._slot])
    region = regions_of(steps)
    by_name = {step.name: region[step.slot] for step in steps}
    assert by_name["mul 2"] == by_name["exp"] == by_name["sum"]
    assert by_name["sub"] > by_name["sum"]


def test_a_leaf_is_drawn_too_and_nothing_else_is():
    assert tg.viz.dot(tg.ones(2)).rows == 0
    for bad in ((), (3,), (tg.ones(2), "x")):
        with pytest.raises(TypeError, match="graph of one Tensor"):
            tg.viz.dot(*bad)


@needs_graphviz
def test_pictures(tmp_path):
    drawing = tg.viz.dot(of_rows(10))
    root = ElementTree.fromstring(drawing.svg())
    assert root.tag.endswith("svg")
    assert drawing._repr_html_() == drawing.svg()
    for y in (of_two_regions(), tg.stack([of_two_regions(), of_rows(2)]), of_rows(100)):
        assert ElementTree.fromstring(tg.viz.dot(y).svg()).tag.endswith("svg")
    drawing.save(tmp_path / "graph.svg")
    drawing.save(tmp_path / "graph.dot")
    assert (tmp_path / "graph.svg").read_text() == drawing.svg()
    assert (tmp_path / "graph.dot").read_text() == str(drawing)


def test_without_graphviz_there_is_the_text(monkeypatch):
    drawing = tg.viz.dot(of_rows(10))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RuntimeError, match="not installed"):
        drawing.svg()
    assert drawing._repr_html_().startswith("<pre>digraph")
    y = of_rows(4)
    assert "a graph of 6 rows" in y._repr_html_()


def test_notebooks_show_tensors_as_text_where_there_is_no_graph():
    assert tg.ones(2)._repr_html_() is None
    assert tg.ones(2, requires_grad=True)._repr_html_() is None
    assert "grad_fn=&lt;SumBackward0&gt;" in of_rows(4)._repr_html_()
    assert tg.current_tape()._repr_html_().startswith("<pre>tape: ")


def train(x, a):
    loss = tg.sum(tg.exp(-x * x)) + (a @ a).logsumexp(1).sum()
    loss.backward()
    return loss


def test_a_profile_tells_regions_and_rows_with_their_lines():
    x, a = tg.rand(5000, requires_grad=True), tg.rand(30, 30, requires_grad=True)
    plain = train(x, a).item()
    expected = x.grad.clone()
    x.grad = None
    tape = tg.current_tape()
    with tape.profile() as profile:
        assert train(x, a).item() == plain
    assert tape.profiler is None
    assert tape.enabled is True
    np.testing.assert_array_equal(x.grad.numpy(), expected.numpy())
    text = str(profile)
    line = train.__code__.co_firstlineno + 1
    assert f"{__file__}:{line}" in text
    for what in ("region of", "exp, float64[5000]", "mm, float64[30, 30]", "logsumexp", "reverse"):
        assert what in text
    assert f"mm, float64[30, 30], forward, once  {__file__}:{line}" in text
    assert profile.sweeps >= 1
    assert profile.seconds == pytest.approx(profile.planning + sum(e.seconds for e in profile.entries))
    for entry in profile.entries:
        assert sum(entry.shares) == pytest.approx(entry.seconds if entry.rows else 0.0)
    assert profile._repr_html_().startswith("<pre>")


def test_profiles_of_scalars_of_loops_and_of_errors():
    x = tg.tensor(0.5, requires_grad=True)
    with tg.current_tape().profile() as profile:
        for _ in range(3):
            y = x
            for _ in range(20):
                y = tg.sin(y) * 2.0
            y.backward()
        with pytest.raises(RuntimeError, match="being taken already"):
            tg.current_tape().profile().__enter__()
    assert profile.entries[0].what == "rows of one element, one by one"
    assert profile.entries[0].times >= 3
    y = tg.sin(x)
    with tg.current_tape().profile() as profile:
        y.backward()
    assert str(profile).startswith("1 sweep, ")
    with pytest.raises(tg.linalg.LinAlgError), tg.current_tape().profile():
        tg.linalg.cholesky(-tg.eye(3))
    assert tg.current_tape().profiler is None
    assert tg.sum(tg.ones(3)).item() == 3.0
