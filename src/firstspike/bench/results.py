"""Results as files: JSON, the table of the page that explains it, and the picture."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from firstspike.bench.setting import WIDE_LANES
from firstspike.support import InputError, write_text

BEGIN, END = "<!-- bench -->", "<!-- end of bench -->"


def write_results(folder: Path, document: dict[str, Any]) -> list[Path]:
    """Write the rows, the page's tables and their picture; return what was written.

    ``cpu.json`` gets the rows of a processor with vectors of 16 floats, ``cpu-narrow.json`` those of one
    with shorter ones, ``gpu.json`` those of a GPU. A file is written if `document` has a measured row for
    it, and then holds the rows of this call only. Where ``docs/performance.md`` stands two folders above,
    the tables between its markers and ``docs/images/performance.png`` are made anew from all files.

    Raises:
        InputError: a file there is no result of ``firstspike bench``.
        OSError: a file cannot be read or written.
    """
    written = []
    wide = document["machine"].get("lanes", WIDE_LANES) >= WIDE_LANES
    for name, gpu in (("cpu" if wide else "cpu-narrow", False), ("gpu", True)):
        own = [row for row in document["rows"] if row["name"].startswith("gpu-") == gpu]
        if any(row["skipped"] is None for row in own):
            content = json.dumps({"machine": document["machine"], "rows": own}, indent=1)
            write_text(folder / f"{name}.json", content + "\n")
            written.append(folder / f"{name}.json")
    docs = folder.resolve().parent.parent / "docs"
    page = docs / "performance.md"
    if not page.is_file():
        return written
    documents = read_results(folder)
    write_text(page, with_tables(page.read_text(encoding="utf-8"), documents))
    written.append(page)
    # A row's first figures stand for it: those of the widest vectors.
    rows: dict[str, dict[str, Any]] = {}
    for row in (row for found in documents for row in found["rows"] if row["ratio"] is not None):
        rows.setdefault(row["name"], row)
    if rows:
        from firstspike.plot import save_figure
        from firstspike.plot.benchmarks import ratio_bars

        figure = ratio_bars(
            {name: row["ratio"] for name, row in rows.items()},
            {name: row["target"] for name, row in rows.items() if row["target"] is not None},
        )
        written.append(save_figure(figure, docs / "images" / "performance.png"))
    return written


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Return the documents that `write_results` wrote, as far as they are there.

    Raises:
        InputError: one is no result of ``firstspike bench``.
    """
    documents = []
    for file in (folder / f"{name}.json" for name in ("cpu", "cpu-narrow", "gpu")):
        if not file.exists():
            continue
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
            markdown(document)
            documents.append(document)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{file} is no result of firstspike bench ({error!r}); move it out of {folder}"
            ) from error
    return documents


def with_tables(page: str, documents: Sequence[dict[str, Any]]) -> str:
    """Return `page` with the text between its two markers made anew; as it is without the markers."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        return page
    tables = "\n".join(markdown(document) for document in documents)
    return f"{before}{BEGIN}\n{tables}{END}{after}"


def markdown(document: dict[str, Any]) -> str:
    """Return the rows as a Markdown table below a line that says on what they were measured."""
    lines = [f"{machine_line(document['machine'])}\n"]
    lines += [
        "| row | ours | theirs | ratio | spread | target | reached |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    notes = []
    for row in document["rows"]:
        lines.append(f"| `{row['name']}` | {' | '.join(cells(row))} |")
        if row["skipped"] or row["note"]:
            notes.append(
                f"- `{row['name']}`: {'not measured: ' if row['skipped'] else ''}"
                f"{row['skipped'] or row['note']}."
            )
    return "\n".join([*lines, "", *notes]) + "\n"


def machine_line(machine: dict[str, Any]) -> str:
    """Return the machine record in one line."""
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads"
    if "lanes" in machine:
        where += f", vectors of {machine['lanes']} floats, blocks of {machine['block']}"
    if machine.get("caches"):
        where += ", caches " + ", ".join(f"{level} {size} KiB" for level, size in machine["caches"].items())
    if machine["gpu"]:
        where += f"; {machine['gpu']}"
    versions = ", ".join(f"{name} {machine[name]}" for name in ("python", "torch", "numba", "numpy"))
    if "peers" in machine:
        peers = ", ".join(f"{name} {number}" for name, number in machine["peers"].items())
        versions += f"; the peers' process: {peers}"
    data = f"; data: {machine['data']}; weights: {machine['weights']}" if "data" in machine else ""
    quick = "; quick: few and short measurements" if machine["quick"] else ""
    return f"{where}; {versions}{data}{quick}"


def cells(row: dict[str, Any]) -> list[str]:
    """Return a row's figures as text: ours, theirs, ratio, spread, target, reached; dashes if skipped."""
    unit = row["unit"]
    ours, theirs = (f"{_number(row[side])} {unit}" if row["skipped"] is None else "–" for side in _SIDES)
    target = [] if row["target"] is None else [_number(row["target"])]
    target += [] if row["limit"] is None else [f"{_number(row['limit'])} {unit}"]
    reached = {True: "yes", False: "no", None: "–"}[row["reached"]]
    return [ours, theirs, _number(row["ratio"]), _number(row["spread"]), ", ".join(target) or "–", reached]


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


_SIDES = ("ours", "theirs")
