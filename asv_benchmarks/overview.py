"""One page of what asv has measured, that opens from the disk: `make bench-html` writes it beside asv's own pages.

asv's pages load their scripts from the network and are served (`asv preview`). This one is a single file with a table:
a benchmark a row, its newest figure, what it was a commit before, and a curve of all commits. What has become over a
tenth slower stands first.
"""

import html
import itertools
import math
import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from asv.benchmarks import Benchmarks
from asv.config import Config
from asv.results import iter_results
from asv.util import human_value

HERE = Path(__file__).parent
SLOWER = 1.1  # the ratio of a figure to that of the commit before from which on it is marked
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; width: 100% } th, td { padding: .25rem .6rem; text-align: right }
th:first-child, td:first-child { text-align: left } tr { border-bottom: 1px solid #ddd }
h2 { margin-top: 2rem; font-size: 1.1rem } .slower { color: #b00020; font-weight: 600 } .faster { color: #00695c }
svg { vertical-align: middle } polyline { fill: none; stroke: #009688; stroke-width: 1.5 }
"""


class Series(NamedTuple):
    """What was measured of one benchmark with one set of parameters, on one machine, by commits' dates."""

    group: str  # the file that it is in
    name: str
    unit: str
    values: list[float]

    @property
    def ratio(self) -> float:
        """The newest figure as a multiple of that before; 1 where there is none."""
        before = self.values[-2] if len(self.values) > 1 else 0.0
        return self.values[-1] / before if before else 1.0


def measured(config: Config) -> list[Series]:
    """All there is, in the order of names."""
    known = Benchmarks.load(config)
    found = defaultdict(list)
    for result in sorted(iter_results(config.results_dir), key=lambda r: (r.date, r.commit_hash)):
        for key in result.get_all_result_keys() & known.keys():
            parameters = result.get_result_params(key)
            values = result.get_result_value(key, parameters) or []
            for given, value in zip(itertools.product(*parameters), values, strict=True):
                if value is not None and math.isfinite(value):
                    found[key, given, result.params["machine"]].append(value)
    return [
        Series(key.partition(".")[0], ", ".join([key.partition(".")[2], *given, machine]), known[key]["unit"], values)
        for (key, given, machine), values in sorted(found.items())
    ]


def curve(values: list[float]) -> str:
    """A line through the values, from left to right, zero at the bottom."""
    width, height, top = 160, 28, max(values) or 1.0
    step = width / max(len(values) - 1, 1)
    points = " ".join(f"{i * step:.1f},{height - 2 - (height - 4) * v / top:.1f}" for i, v in enumerate(values))
    return f'<svg width="{width}" height="{height}"><polyline points="{points}"/></svg>'


def row(series: Series) -> str:
    """A row of a table."""
    mark = "slower" if series.ratio >= SLOWER else "faster" if series.ratio <= 1 / SLOWER else ""
    before = f"{series.ratio:.2f}" if len(series.values) > 1 else ""
    cells = (html.escape(series.name), human_value(series.values[-1], series.unit), before, curve(series.values))
    shown = "".join(f'<td class="{mark}">{cell}</td>' if i == 2 else f"<td>{cell}</td>" for i, cell in enumerate(cells))
    return f"<tr>{shown}</tr>"


def table(title: str, rows: list[Series]) -> str:
    """A table with its title."""
    head = "<tr><th>benchmark</th><th>newest</th><th>times that before</th><th>all commits</th></tr>"
    return f"<h2>{html.escape(title)}</h2><table>{head}{''.join(map(row, rows))}</table>"


def page(found: list[Series]) -> str:
    """The page: what has become slower, the slowest first, then all by groups."""
    slower = sorted((s for s in found if s.ratio >= SLOWER), key=lambda s: -s.ratio)
    groups = itertools.groupby(found, key=lambda s: s.group)
    worse = f"{SLOWER - 1:.0%} slower than the commit before"
    tables = [table(f"Over {worse}", slower)] if slower else [f"<p>Nothing is over {worse}.</p>"]
    tables += [table(group, list(rows)) for group, rows in groups]
    head = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>tapegrad, measured</title><style>{STYLE}</style>'
    )
    return f"{head}<h1>tapegrad, measured</h1>{''.join(tables)}</html>"


def main() -> None:
    """Write the page, and say where it is."""
    config = Config.load(str(HERE / "asv.conf.json"))
    config.results_dir = str(HERE / config.results_dir)
    if not (found := measured(config)):
        sys.exit("Nothing is measured yet: `make bench` does it")
    file = HERE / config.html_dir / "overview.html"
    file.parent.mkdir(exist_ok=True)
    file.write_text(page(found), encoding="utf-8")
    print(f"{len(found)} benchmarks in {file}")


if __name__ == "__main__":
    main()
