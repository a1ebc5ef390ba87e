"""Result files, and the page of tables written from them.

A result file holds what one experiment measured, seed by seed, with the command that made it. The page
``results.md`` is made from the files alone, so no figure in it is typed by hand.
"""

import json
import os
import platform
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from firstspike.files import write_text


def provenance(seeds: Sequence[int]) -> dict[str, Any]:
    """Return what every result file says of its making: command, seeds, versions, kind of machine."""
    import numba
    import numpy
    import torch

    arguments = [a if not Path(a).is_absolute() else Path(a).name for a in sys.argv[1:]]
    return {
        "command": shlex.join(["firstspike", *arguments]),
        "seeds": list(seeds),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": numpy.__version__,
            "numba": numba.__version__,
        },
        "machine": f"{platform.machine()} CPU, {os.cpu_count()} cores, no GPU",
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return mean and sample standard deviation; the latter 0 for a single value."""
    return {
        "mean": statistics.fmean(values),
        "sd": statistics.stdev(values) if len(values) > 1 else 0.0,
    }


def summarise(runs: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return mean and spread over `runs` of the figures called `names`."""
    return {name: spread([float(run[name]) for run in runs]) for name in names}


def show(figure: Mapping[str, float], digits: int = 1, scale: float = 1.0) -> str:
    """Return a figure as "mean ± sd"."""
    return f"{figure['mean'] * scale:.{digits}f} ± {figure['sd'] * scale:.{digits}f}"


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def write_results(folder: Path, name: str, document: dict[str, Any]) -> None:
    """Write ``folder/name.json`` and renew the page of all results in the folder above.

    `document` holds "title", "provenance", "tables" (each with "caption", "columns", "rows" and
    optional "notes") and the raw figures under "runs".
    """
    write_text(folder / f"{name}.json", json.dumps(document, indent=1) + "\n")
    write_text(folder.parent / "results.md", results_page(folder))


def results_page(folder: Path) -> str:
    """Return the Markdown page made from every result file in `folder`."""
    parts = [
        "# Results\n",
        "Written by the commands below from the result files in [`results/`](results/); no figure is "
        "typed by hand. Mean ± sample standard deviation over the seeds. Hyper-parameters were chosen on "
        "the validation split; the test set was read once, by these commands.\n",
    ]
    for file in sorted(folder.glob("*.json")):
        document = json.loads(file.read_text(encoding="utf-8"))
        origin = document["provenance"]
        versions = ", ".join(f"{name} {version}" for name, version in origin["versions"].items())
        parts.append(f"## {document['title']}\n")
        parts.append(
            f"Command: `{origin['command']}`  \nSeeds: {', '.join(map(str, origin['seeds']))}  \n"
            f"Machine: {origin['machine']}; {versions}  \nFigures: [`{file.name}`](results/{file.name})\n"
        )
        for table in document["tables"]:
            parts.append(f"**{table['caption']}**\n")
            parts.append(markdown_table(table["columns"], table["rows"]))
            parts.extend(f"{note}\n" for note in table.get("notes", []))
    return "\n".join(parts)
