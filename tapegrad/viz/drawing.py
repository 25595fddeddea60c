"""The graph behind a tensor, in Graphviz's language: a node a row, or a region where there are many.

Rows are shared out to regions as `core/schedule.py` does it, but that all are there: those of values in memory too.
"""

from __future__ import annotations

import html
import shutil
import struct
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tapegrad.autograd.walk import operand_slots, row_at
from tapegrad.kinds import objects as kind_objects
from tapegrad.ops.declare import ELEMENTWISE, LAYOUT, OPS, REDUCTION
from tapegrad.recording import local
from tapegrad.tape import IMM_A, IMM_B, ROW_BYTES, Tape
from tapegrad.tensor import Tensor

MOST_ROWS = 40  # that are drawn one by one
_INTS, _KIND, _ROW = 8, 0, 1  # of a slot, by `slot_ints`
_STYLES = {
    "leaf": 'shape=box, style="rounded,filled", fillcolor="#dcefe0"',
    "constant": 'shape=box, style="rounded,filled", fillcolor="#eeeeee"',
    "elementwise": 'shape=box, style=filled, fillcolor="#e3ecf8"',
    "reduction": 'shape=box, style=filled, fillcolor="#f8e8d3"',
    "view": 'shape=box, style="filled,dashed", fillcolor="#ffffff"',
    "array": 'shape=box, style=filled, fillcolor="#efe0f2"',
    "region": 'shape=box3d, style=filled, fillcolor="#e3ecf8"',
}
_FAMILIES = {ELEMENTWISE: "elementwise", REDUCTION: "reduction", LAYOUT: "view"}


class Step(NamedTuple):
    """A row, as it is drawn."""

    slot: int
    name: str
    family: str
    operands: tuple[int, ...]
    shape: str
    space: tuple[int, ...]
    where: str


def counted(n: int, what: str) -> str:
    """So many of them, in words."""
    return f"{n} {what}{'s' * (n != 1)}"


class Drawing:
    """A graph in Graphviz's language, as text; in a notebook, a picture.

    `rows` counts what is behind the tensor, `regions` what it is swept in; `svg()` is the picture, `save(path)` writes
    it, or the text where the name ends in `.dot`.

    >>> import tapegrad as tg
    >>> x = tg.ones(3, requires_grad=True)
    >>> drawing = tg.viz.dot((x * 2.0).exp().sum())
    >>> drawing.rows, drawing.regions
    (3, 1)
    """

    def __init__(self, text: str, rows: int, regions: int) -> None:
        self.text, self.rows, self.regions = text, rows, regions

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<Drawing of {counted(self.rows, 'row')} in {counted(self.regions, 'region')}>"

    def svg(self) -> str:
        """The picture, by Graphviz's `dot`.

        Raises
        ------
        RuntimeError
            Where Graphviz is not installed.
        """
        program = shutil.which("dot")
        if program is None:
            raise RuntimeError(
                "drawings are made by Graphviz's program `dot`, which is not installed: str() is the text"
            )
        made = subprocess.run([program, "-Tsvg"], input=self.text, capture_output=True, text=True, check=True).stdout
        return made[made.index("<svg") :]

    def save(self, path: str | Path) -> None:
        """Write the picture to a file, or the text where its name ends in `.dot` or `.gv`."""
        target = Path(path)
        target.write_text(self.text if target.suffix in {".dot", ".gv"} else self.svg(), encoding="utf-8")

    def _repr_html_(self) -> str:
        if shutil.which("dot") is None:
            return f"<pre>{html.escape(self.text)}</pre>"
        return self.svg()


def dot(*outputs: Tensor, most_rows: int = MOST_ROWS) -> Drawing:
    """Draw the graph behind tensors.

    Parameters
    ----------
    *outputs : Tensor
        What the graph leads to.
    most_rows : int
        A graph of more rows is drawn by regions: what is swept together, block by block, is one node.

    Returns
    -------
    Drawing
        Its text is `str(drawing)`.

    Raises
    ------
    TypeError
        Where something else than Tensors is given.

    >>> import tapegrad as tg
    >>> x = tg.ones(3, requires_grad=True)
    >>> tg.viz.dot((x * 2.0).exp().sum())
    <Drawing of 3 rows in 1 region>
    """
    if not outputs or not all(isinstance(y, Tensor) for y in outputs):
        raise TypeError("what is drawn is the graph of one Tensor, or of several")
    tensors = [local(y) for y in outputs]
    tape = tensors[0]._tape
    with tape.lock:
        steps = steps_behind(tape, [t._slot for t in tensors])
        regions = regions_of(steps)
        lines = _by_regions(tape, steps, regions) if len(steps) > most_rows else _by_rows(tape, steps, regions)
        ends = [f'  y{k} [label="{_kind_of(tape, t._slot)}", shape=plaintext];' for k, t in enumerate(tensors)]
        made = {step.slot for step in steps}
        for k, t in enumerate(tensors):
            at = f"r{regions[t._slot]}" if len(steps) > most_rows and t._slot in made else f"s{t._slot}"
            ends.append(f"  {at} -> y{k};")
            if t._slot not in made:
                lines.append(_leaf(tape, t._slot))
    head = ["digraph tape {", "  rankdir=TB; node [fontname=Helvetica, fontsize=10]; edge [color=gray40];"]
    text = "\n".join([*head, *dict.fromkeys(lines), *ends, "}"])
    return Drawing(text, len(steps), len(set(regions.values())))


def steps_behind(tape: Tape, slots: Iterable[int]) -> list[Step]:
    """The rows behind slots, oldest first."""
    tape.synced_row(0)
    ints, found, waiting = tape.slot_ints, dict[int, Any](), list(slots)
    seen = set(waiting)
    while waiting:
        slot = waiting.pop()
        place = ints[_INTS * slot + _ROW]
        if place < 0:
            continue
        rows = [row_at(tape.rows, place * ROW_BYTES)]
        while place > 0 and (earlier := row_at(tape.rows, (place - 1) * ROW_BYTES))[2] == slot:  # pieces of one slot
            place -= 1
            rows.insert(0, earlier)
        operands = [o for row in rows for o in operand_slots(row)]
        found[slot] = place, rows[-1], operands
        for o in operands:
            if o not in seen:
                seen.add(o)
                waiting.append(o)
    return [_step(tape, slot, row, operands) for slot, (_, row, operands) in sorted(found.items(), key=_place_of)]


def _place_of(item: Any) -> Any:
    return item[1][0]


def _step(tape: Tape, slot: int, row: Any, operands: Sequence[int]) -> Step:
    op, kind = OPS[row[0]], kind_objects[row[6]]
    family = _FAMILIES.get(op.family, "array")
    space = kind_objects[tape.slot_ints[_INTS * operands[0] + _KIND]].shape if family == "reduction" else kind.shape
    name = op.name.lstrip("_")
    if row[1] & (IMM_A | IMM_B) and op.arity > 1:
        name += f" {struct.unpack('d', struct.pack('ii', *row[3:5]))[0]:g}"
    return Step(slot, name, family, tuple(operands), _kind_of(tape, slot), tuple(space), tape.places.get(slot, ""))


def regions_of(steps: Sequence[Step]) -> dict[int, int]:
    """The region of each row: it joins the latest over its space, unless an operand is only complete after that."""
    region: dict[int, int] = {}
    complete: dict[int, int] = {}  # from which region on a value is there as a whole
    latest: dict[Any, int] = {}
    count = 0
    for step in steps:
        after = max((complete.get(o, -1) for o in step.operands), default=-1)
        if step.family == "view":
            at = max((region[o] for o in step.operands if o in region), default=-1)
            region[step.slot], complete[step.slot] = (at, max(after, at + 1)) if at >= 0 else (0, after)
            continue
        joined = latest.get(step.space, -1) if step.family != "array" else -1
        if joined < 0 or joined < after:
            joined, count = count, count + 1
            if step.family != "array":
                latest[step.space] = joined
        region[step.slot] = joined
        complete[step.slot] = joined if step.family == "elementwise" else joined + 1
    return region


def _kind_of(tape: Tape, slot: int) -> str:
    kind = kind_objects[tape.slot_ints[_INTS * slot + _KIND]]
    return f"{kind.dtype.name}[{', '.join(map(str, kind.shape))}]"


def _leaf(tape: Tape, slot: int) -> str:
    kind = kind_objects[tape.slot_ints[_INTS * slot + _KIND]]
    what = "leaf" if kind.requires_grad else "constant"
    return f'  s{slot} [label="{what}\\n{_kind_of(tape, slot)}", {_STYLES[what]}];'


def _by_rows(tape: Tape, steps: Sequence[Step], regions: dict[int, int]) -> list[str]:
    """The statements: an edge may be among them several times, and what is in braces is one of them."""
    lines, made, by_region = [], {step.slot for step in steps}, dict[int, list[str]]()
    for step in steps:
        where = f', tooltip="{html.escape(step.where)}"' if step.where else ""
        label = f"{step.name}\\n{step.shape}"
        by_region.setdefault(regions[step.slot], []).append(
            f'    s{step.slot} [label="{label}", {_STYLES[step.family]}{where}];'
        )
        for o in step.operands:
            if o not in made:
                lines.append(_leaf(tape, o))
            lines.append(f"  s{o} -> s{step.slot};")
    for number, nodes in by_region.items():
        if len(nodes) > 1:
            style = '    color=gray70; style=dashed; label="region"; fontsize=9;'
            lines.append("\n".join([f"  subgraph cluster_{number} {{", style, *nodes, "  }"]))
        else:
            lines += nodes
    return lines


def _by_regions(tape: Tape, steps: Sequence[Step], regions: dict[int, int]) -> list[str]:
    lines, members = list[str](), dict[int, list[Step]]()
    made = {step.slot for step in steps}
    for step in steps:
        members.setdefault(regions[step.slot], []).append(step)
        for o in step.operands:
            if o not in made:
                lines += [_leaf(tape, o), f"  s{o} -> r{regions[step.slot]};"]
            elif regions[o] != regions[step.slot]:
                lines.append(f"  r{regions[o]} -> r{regions[step.slot]};")
    for number, inside in members.items():
        names: dict[str, int] = {}
        for step in inside:
            names[step.name] = names.get(step.name, 0) + 1
        listed = [name if n == 1 else f"{name} x {n}" for name, n in sorted(names.items(), key=lambda item: -item[1])]
        if len(listed) > 6:
            listed = [*listed[:5], f"{len(listed) - 5} others"]
        space = ", ".join(map(str, inside[-1].space))
        label = "\\n".join([f"{counted(len(inside), 'row')} over [{space}]", *listed])
        style = _STYLES["region" if len(inside) > 1 else inside[0].family]
        lines.append(f'  r{number} [label="{label}", {style}];')
    return lines
