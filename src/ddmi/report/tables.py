"""Pages of two tables: quality against function evaluations (Table 12), and the ablation (Table 8)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ddmi.base.storage import aside, read_json
from ddmi.base.terminal import table
from ddmi.evaluation import ablation, nfe
from ddmi.report.content import Block, Facts, Figure, Inline, Row, Section, Table, Text
from ddmi.report.numbers import Numbers
from ddmi.report.page import assemble
from ddmi.report.plots import chart
from ddmi.report.words import form, section, with_unit, words

DIGESTS = ("model", "data")
"""Parts of a protocol that tell tables apart, and say nothing to a reader."""


def nfe_sections(numbers: Numbers) -> list[Section]:
    """Table 12 of a run, where the numbers have it."""
    rows = numbers.get(f"{nfe.KEY}/rows")
    if not rows or not rows[0]["scores"]:
        return []
    names = list(rows[0]["scores"])
    body: list[list[Inline]] = []
    for k, row in enumerate(rows):
        at = f"{nfe.KEY}/rows/{k}"
        cells = [numbers.show(f"{at}/scores/{name}", form(row["scores"].get(name))) for name in names]
        evaluations = numbers.show(f"{at}/evaluations", ".0f" if row["evaluations"] >= 100 else ".4g")
        rate = numbers.show(f"{at}/samples_per_second", ".3g")
        body.append([f"{row['sampler']}, {nfe.way_of(row).name}", evaluations, *cells, rate])
    head = ["sampler", "evaluations", *map(words, names), "samples/s"]
    figures = [_curves(rows, name) for name in dict.fromkeys((names[0], names[-1]))]
    blocks: list[Block] = [Row(figures, len(figures), kind="charts"), Table(head, body), *_protocol(numbers, nfe.KEY)]
    return [section("nfe", numbers, blocks)]


def write_nfe(run: str | Path, metrics: str | Path) -> Path:
    """Write `nfe.html` beside the metrics file that holds the table; returns its path."""
    title = f"{Path(run).name or run} · quality against function evaluations"
    return _write(Path(metrics).with_name("nfe.html"), title, nfe_sections(Numbers(read_json(Path(metrics)))))


def ablation_numbers(folder: Path) -> Numbers:
    """The numbers of an ablation study."""
    return Numbers({ablation.KEY: read_json(folder / ablation.FILE)})


def ablation_table(numbers: Numbers) -> Table:
    """Table 8, numbers as `mean ± deviation`."""
    rows = numbers.get(f"{ablation.KEY}/rows")
    names = list(rows[0]["mean"])
    body: list[list[Inline]] = []
    for k, row in enumerate(rows):
        switches = ["yes" if row[s] else "no" for s in ("hierarchical", "coarse_to_fine")]
        same = f" (the network of {row['same_network_as']})" if "same_network_as" in row else ""
        cells = [_spread(numbers, f"{ablation.KEY}/rows/{k}", row, name) for name in names]
        body.append([row["name"] + same, *switches, *cells])
    return Table(["model", "HDBF", "CFC", *map(words, names)], body)


def text(shown: Table) -> str:
    """A table for a terminal."""
    rows = (shown.head, *shown.rows)
    return table([["".join(map(str, cell)) if isinstance(cell, tuple) else str(cell) for cell in row] for row in rows])


def write_ablation(folder: Path) -> Path:
    """Write `ablation.html` beside ablation.json; returns its path."""
    numbers = ablation_numbers(folder)
    title = f"{numbers.get(f'{ablation.KEY}/protocol/preset')} · ablation"
    blocks: list[Block] = [ablation_table(numbers), *_protocol(numbers, ablation.KEY)]
    return _write(folder / "ablation.html", title, [section("ablation", numbers, blocks)])


def _curves(rows: list[dict[str, Any]], name: str) -> Figure:
    """One number against evaluations, a line for each sampler."""
    lines = {}
    for sampler in dict.fromkeys(row["sampler"] for row in rows):
        kept = [row for row in rows if row["sampler"] == sampler and row["scores"].get(name) is not None]
        kept.sort(key=lambda row: row["evaluations"])
        lines[sampler] = [row["evaluations"] for row in kept], [row["scores"][name] for row in kept]
    return chart(lines, "function evaluations per sample", with_unit(name), log_x=True, dots=True)


def _spread(numbers: Numbers, at: str, row: dict[str, Any], name: str) -> Inline:
    mean = row["mean"].get(name)
    shown = numbers.show(f"{at}/mean/{name}", form(mean))
    if mean is None or row["deviation"].get(name) is None:
        return shown
    return (shown, " ± ", numbers.show(f"{at}/deviation/{name}", form(mean)))


def _protocol(numbers: Numbers, key: str) -> list[Block]:
    entries: list[tuple[str, Inline]] = []
    for name, value in numbers.get(f"{key}/protocol").items():
        if isinstance(value, dict):
            entries += [(f"{words(name)}, {k}", numbers.show(f"{key}/protocol/{name}/{k}")) for k in value]
        elif name not in DIGESTS:
            entries.append((words(name), numbers.show(f"{key}/protocol/{name}")))
    return [Text("How this was measured", "heading"), Facts(entries)]


def _write(target: Path, title: str, sections: list[Section]) -> Path:
    with aside(target) as scratch:
        scratch.write_text(assemble(title, [], sections), encoding="utf-8")
    return target
