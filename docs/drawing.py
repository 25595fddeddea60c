"""Draw how a function is recorded and swept, from the tape itself: writes the SVG of README and of the design page."""

import inspect
from html import escape
from pathlib import Path

import tapegrad as tg
from tapegrad.viz.drawing import Step, regions_of, steps_behind

PICTURE = Path(__file__).parent / "pages" / "images" / "how-it-works.svg"
LINE = 24
INK, PALE, FORWARD, REVERSE = "#263238", "#90a4ae", "#00796b", "#c2185b"
STORED = "Values of a region live in registers, a block at a time; what is read after it is stored, the rest is not."
FILLS = ("#e0f2f1", "#fff3e0", "#ede7f6")


def loss(w, X, y):
    """What is drawn."""
    z = tg.tanh(X @ w)
    r = (z - y) ** 2
    return r.mean()


def drawn() -> str:
    """The text of the picture."""
    tape = tg.current_tape()
    result = loss(tg.ones(50, requires_grad=True), tg.ones(1000, 50), tg.zeros(1000))
    steps = [step for step in steps_behind(tape, [result._slot]) if step.operands]
    regions = regions_of(steps)
    top, height = 78, LINE * len(steps)
    parts = [*_code(top), *_rows(steps, regions, top), *_sweeps(top, height)]
    size = f'width="960" height="{top + height + 62}" viewBox="0 0 960 {top + height + 62}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="monospace" font-size="14" fill="{INK}">'
    arrow = (
        '<defs><marker id="{0}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        'orient="auto"><path d="M0 0L8 4L0 8z" fill="{1}"/></marker></defs>'
    )
    arrows = [arrow.format(name, color) for name, color in (("p", PALE), ("f", FORWARD), ("r", REVERSE))]
    return "\n".join([head, *arrows, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>", ""])


def _text(x: int, y: float, text: str, **style: str) -> str:
    given = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in style.items())
    return f'<text x="{x}" y="{y:g}" xml:space="preserve"{given}>{escape(text)}</text>'


def _title(x: int, title: str, what: str) -> list[str]:
    return [
        _text(x, 30, title, font_family="sans-serif", font_size="17", font_weight="bold"),
        _text(x, 50, what, font_family="sans-serif", font_size="13", fill="#546e7a"),
    ]


def _code(top: int) -> list[str]:
    lines = [line for line in inspect.getsource(loss).splitlines() if '"""' not in line]
    shown = [_text(20, top + LINE * (k + 0.7), line) for k, line in enumerate(lines)]
    return [
        *_title(20, "Python records", "an operation appends a row"),
        *shown,
        _arrow(268, top + 40, 318, top + 40, "p"),
    ]


def _rows(rows: list[Step], regions: dict[int, int], top: int) -> list[str]:
    # By their order in the rows: slots themselves are used again, and depend on what was computed before.
    numbers = {slot: k for k, slot in enumerate(dict.fromkeys(s for row in rows for s in (*row.operands, row.slot)))}
    shown = _title(330, "The tape", "regions share one iteration space")
    order = list(dict.fromkeys(regions.get(row.slot, row.slot) for row in rows))
    for k, row in enumerate(rows):
        fill = FILLS[order.index(regions.get(row.slot, row.slot)) % len(FILLS)]
        operands = ", ".join(f"%{numbers[slot]}" for slot in row.operands)
        shown.append(f'<rect x="330" y="{top + LINE * k}" width="300" height="{LINE}" fill="{fill}"/>')
        shown.append(_text(342, top + LINE * (k + 0.7), f"%{numbers[row.slot]:<2} = {row.name}({operands})"))
        shown.append(_text(620, top + LINE * (k + 0.7), row.shape, text_anchor="end", fill="#546e7a", font_size="12"))
    return shown


def _sweeps(top: int, height: int) -> list[str]:
    end = top + height
    return [
        *_title(660, "Compiled code sweeps", "block by block, in cache, on all threads"),
        _arrow(680, top, 680, end, "f"),
        _text(694, top + 18, "forward: values,", fill=FORWARD),
        _text(694, top + 36, "when someone looks", fill=FORWARD),
        _arrow(920, end, 920, top, "r"),
        _text(908, end - 22, "reverse:", fill=REVERSE, text_anchor="end"),
        _text(908, end - 4, "x_bar += partial * y_bar", fill=REVERSE, text_anchor="end"),
        _text(20, end + 36, STORED, font_family="sans-serif", font_size="13", fill="#546e7a"),
    ]


def _arrow(x1: int, y1: float, x2: int, y2: float, kind: str) -> str:
    color = {"p": PALE, "f": FORWARD, "r": REVERSE}[kind]
    ends = f'x1="{x1}" y1="{y1:g}" x2="{x2}" y2="{y2:g}"'
    return f'<line {ends} stroke="{color}" stroke-width="2" marker-end="url(#{kind})"/>'


if __name__ == "__main__":
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(drawn())
    print(f"Drawn in {PICTURE}")
