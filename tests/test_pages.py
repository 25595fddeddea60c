"""The pages: their examples are doctests; here is what they are made from."""

import ast
import json
import re
import runpy
import threading
from pathlib import Path

import numpy as np
import pytest
from numba import njit

import tapegrad as tg
from tapegrad import pages

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
TEXTS = [
    *sorted(ROOT.glob("*.md")), *sorted(DOCS.glob("pages/**/*.md")), *sorted(ROOT.glob("tests/**/*.md")),
    *sorted(ROOT.glob("notebooks/*.ipynb")),
]  # fmt: skip


def test_the_picture_is_drawn_from_the_tape_as_it_is():
    drawing = runpy.run_path(str(DOCS / "drawing.py"))
    assert drawing["PICTURE"].read_text() == drawing["drawn"](), "run `make docs`"


@pytest.fixture(scope="module")
def definitions():
    return runpy.run_path(str(DOCS / "reference.py"))["definitions"]()


def test_the_reference_is_readable_code(definitions):
    for text in definitions.values():
        ast.parse(text)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("tapegrad", "tanh"), ("tapegrad", "Tensor"), ("tapegrad", "compile"), ("tapegrad.func", "vmap"),
        ("tapegrad.nn", "Linear"), ("tapegrad.optimize", "minimize"), ("tapegrad.jitted", "checkpoint_loop"),
    ],
)  # fmt: skip
def test_the_reference_has_docstrings(definitions, module, name):
    found = {node.name: node for node in ast.parse(definitions[module]).body if hasattr(node, "name")}
    assert ast.get_docstring(found[name])


def test_what_is_made_from_declarations_has_an_example():
    from tapegrad import xp
    from tapegrad.functions import arrays, elementwise, reductions, shaping
    from tapegrad.nn import declared, lazy

    made = {
        name: f for name, f in vars(tg.special).items() if getattr(f, "__wrapped__", None) in elementwise.made.values()
    }
    for module in (arrays, elementwise, reductions, shaping):
        made |= {name: f for name, f in module.functions.items() if f.__module__ == "tapegrad"}
    assert len(made) > 200
    made |= declared.layers | {name: getattr(tg.nn, f"Lazy{name}") for name in lazy.__test__}
    made |= {f"xp.{name}": getattr(xp, name) for name in xp.elementwise.__test__}
    assert [name for name, f in made.items() if ">>> " not in f.__doc__] == []


# --- links ------------------------------------------------------------------------------------------------------------


def text_of(path):
    """What is written in a page, or in the text of a notebook; code is left out."""
    if path.suffix == ".ipynb":
        cells = json.loads(path.read_text())["cells"]
        return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors_of(path):
    """The anchors that MkDocs and GitHub make of headings."""
    headings = re.findall(r"^#+ (.*)$", text_of(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path, definitions):
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(path)):
        if re.match(r"\w+:", target):
            assert re.fullmatch(r"https://[\w.-]+\.\w+(/[^\s<>]*)?", target), target
            continue
        file, _, anchor = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        if found.parent == DOCS / "pages" / "reference":
            assert found.stem in definitions, target
            continue
        assert found.is_relative_to(ROOT), target
        if found.is_relative_to(ROOT / "tapegrad"):  # where it is installed from, that is not there
            found = Path(tg.__file__).parent / found.relative_to(ROOT / "tapegrad")
        assert found.exists(), target
        assert not anchor or anchor in anchors_of(found), target


# --- errors that name a page ------------------------------------------------------------------------------------------


def write_in_place(x):
    x += 1.0


def sweep_twice(x):
    loss = (x * x).sum()
    loss.backward()
    loss.backward()


def make_nan(x):
    with tg.autograd.detect_anomaly():
        ((x - x) / (x - x)).sum().backward()


def take_what_has_no_derivative(x):
    tg.func.grad(njit(lambda x: np.fft.fft(np.ones(4) * x)[0].real))(2.0)


def use_anothers_graph(x):
    made = []
    thread = threading.Thread(target=lambda: made.append(tg.ones(3, requires_grad=True) * 2.0))
    thread.start()
    thread.join()
    made[0] + x


KINDS = {
    pages.IN_PLACE: write_in_place,
    pages.SWEPT_TWICE: sweep_twice,
    pages.NAN: make_nan,
    pages.JITTED: take_what_has_no_derivative,
    pages.THREADS: use_anothers_graph,
    pages.NUMPY: np.asarray,
}


@pytest.mark.parametrize("page", KINDS)
def test_errors_name_a_page_that_is_there(page):
    file, _, anchor = page.removeprefix("\n  See ").partition("#")
    assert anchor in anchors_of(ROOT / file)
    with pytest.raises((RuntimeError, TypeError)) as caught:
        KINDS[page](tg.ones(3, requires_grad=True))
    assert str(caught.value).endswith(page)


def test_each_section_of_errors_is_named_by_some():
    titled = anchors_of(ROOT / pages.ERRORS) - {"what-errors-mean"}
    assert titled == {page.partition("#")[2] for page in KINDS}


def test_the_page_of_benchmarks_names_first_what_became_slower(tmp_path):
    pytest.importorskip("asv")
    overview = runpy.run_path(str(ROOT / "asv_benchmarks" / "overview.py"))
    series = overview["Series"]
    written = overview["page"]([
        series("bench_a", "time_<x>", "seconds", [1e-3, 2e-3, 1e-3]),
        series("bench_a", "time_y", "seconds", [1e-3, 1.2e-3]),
        series("bench_b", "track_z", "bytes", [2048.0]),
    ])  # fmt: skip
    slower, a, b = written.split("<h2>")[1:]
    assert "time_y" in slower
    assert "1.20" in slower
    assert "time_&lt;x&gt;" not in slower
    assert "time_&lt;x&gt;" in a
    assert "0.50" in a
    assert "track_z" in b
    assert "2.05k" in b
    assert written.count("<polyline") == 4
    assert "http" not in written
    assert "Nothing is over 10% slower" in overview["page"]([series("bench_b", "track_z", "bytes", [2048.0, 2048.0])])
