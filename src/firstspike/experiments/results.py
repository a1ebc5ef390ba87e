"""Result files, and the page of tables written from them.

A result file holds what one experiment measured, seed by seed, with the command that made it. The page
``results.md`` is made from the files alone, so no figure in it is typed by hand.
"""

import json
import os
import platform
import shlex
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from firstspike.support import InputError, command_line, json_text, write_text

_BEGIN, _END = "<!-- results -->", "<!-- end of results -->"
_HEADLINE_COLUMNS = ("test set", "measured, mean ± sd over seeds", "for comparison")
# Figures that stand elsewhere: the page beside that of all results, and what to say of it there.
_ELSEWHERE = {
    "conversion.md": "What it costs in accuracy to convert a trained ReLU network is measured in "
    "[From a trained ReLU network](conversion.md#what-it-costs-in-accuracy).\n",
    "export.md": "What integers of 8 and 4 bits cost, and whether C is the same network: "
    "[Export: integers and C](export.md#figures).\n",
    "page.md": "Pages in a browser: [A page in the browser](page.md#figures).\n",
    "nir.md": "What other simulators make of a NIR file: [NIR](nir.md#readers).\n",
}


def provenance(seeds: Sequence[int], device: str = "cpu") -> dict[str, Any]:
    """Return what a result file says of a call that made it: command, seeds, versions, kind of machine.

    `device` is where the runs were trained, as torch names it.
    """
    import numba
    import numpy
    import torch

    command = command_line.get()
    gpu = "no GPU used" if device == "cpu" else torch.cuda.get_device_name(device)
    return {
        "command": None if command is None else shlex.join(map(_without_folder, shlex.split(command))),
        "seeds": list(seeds),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": numpy.__version__,
            "numba": numba.__version__,
        },
        "machine": f"{platform.machine()} CPU ({torch.backends.cpu.get_cpu_capability()}), "
        f"{os.cpu_count()} cores; {gpu}",
    }


def _without_folder(argument: str) -> str:
    """Cut an absolute path, alone or after ``--option=``, down to its last part."""
    option, equals, value = argument.rpartition("=")
    return f"{option}{equals}{Path(value).name}" if Path(value).is_absolute() else argument


def facts(origin: Mapping[str, Any]) -> dict[str, Any]:
    """Return a provenance for a report, its versions in one line."""
    return {**origin, "versions": _versions(origin)}


def _versions(origin: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in origin["versions"].items())


Spread = Mapping[str, Any]


def spread(values: Sequence[float]) -> Spread:
    """Return "mean" and the sample standard deviation "sd"; a single value has none (None)."""
    return {
        "mean": statistics.fmean(values),
        "sd": statistics.stdev(values) if len(values) > 1 else None,
    }


def summarise(runs: Sequence[Mapping[str, Any]]) -> dict[str, Spread]:
    """Return mean and spread over seeds of every figure that is a number in all `runs`.

    Runs of one seed, one for each digit, are averaged first; a seed that lacks some digits is left out.
    """
    by_seed: dict[Any, list[Mapping[str, Any]]] = {}
    for run in runs:
        by_seed.setdefault(run["seed"], []).append(run)
    most = max(map(len, by_seed.values()), default=0)
    by_seed = {seed: same for seed, same in by_seed.items() if len(same) == most}
    names = [
        name
        for name in (runs[0] if runs else {})
        if name not in ("seed", "digit", "call") and all(_is_number(run.get(name)) for run in runs)
    ]
    return {
        name: spread([statistics.fmean(run[name] for run in same) for same in by_seed.values()])
        for name in names
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def show(figure: Spread | float, digits: int = 1, factor: float = 1.0, *, signed: bool = False) -> str:
    """Return a figure as "mean ± sd", or the mean alone where there is no spread.

    An integer that is shown in its own unit has no digits behind the point.
    """
    plus = "+" if signed else ""
    if isinstance(figure, int) and factor == 1:
        return f"{figure:{plus},}"
    mean, sd = (figure, None) if isinstance(figure, int | float) else (figure["mean"], figure["sd"])
    written = f"{mean * factor:{plus},.{digits}f}"
    return written if sd is None else f"{written} ± {sd * factor:,.{digits}f}"


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def write_results(folder: Path, name: str, document: dict[str, Any]) -> None:
    """Write ``folder/name.json`` and renew the page of all results in the folder above.

    `document` holds "title", "provenance" (of each call that measured some of it), "tables" (each with
    "caption", "columns", "rows" and optional "notes"), "headlines" (rows of three texts) and the raw
    figures under "runs", each with the number of its "call".

    Raises:
        InputError: another ``.json`` in `folder` is no result file.
    """
    documents = read_results(folder) | {name: document}
    elsewhere = [said for other, said in _ELSEWHERE.items() if (folder.parent / other).exists()]
    page = results_page(documents, folder.resolve().name, elsewhere)
    write_text(folder / f"{name}.json", json_text(document, indent=1) + "\n")
    write_text(folder.parent / "results.md", page)


def keep_results(out: Path, results: Path | None, name: str, document: dict[str, Any]) -> None:
    """Write an experiment's figures into ``results`` of its folder `out`.

    With the project's own folder `results` they go there too, and the README's rows are made anew.
    """
    if results is not None:
        write_results(results, name, document)
        renew_readme(results)
    write_results(out / "results", name, document)


def renew_readme(folder: Path) -> None:
    """Make the table of headlines in the README two folders above `folder`, if it is there, anew.

    Only for the folder of the project's own results: a quick look's figures belong in no README.
    """
    readme = folder.resolve().parent.parent / "README.md"
    if readme.exists():
        write_text(readme, with_headlines(readme.read_text(encoding="utf-8"), read_results(folder)))


def read_results(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the documents of every result file in `folder`, by name.

    Raises:
        InputError: a ``.json`` there is no result file.
    """
    documents = {}
    for file in sorted(folder.glob("*.json")):
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
            _section(document, file.name)
            markdown_table([], document["headlines"])
            documents[file.stem] = document
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{file} is no result file of firstspike ({error!r}); move it out of {folder}"
            ) from error
    return documents


def with_headlines(readme: str, documents: Mapping[str, dict[str, Any]]) -> str:
    """Return `readme` with the table between its two markers made anew from the results.

    It keeps the rows whose first text stands there, and takes all where none does. A text without the
    markers is returned as it is.
    """
    before, marker, rest = readme.partition(_BEGIN)
    old, end, after = rest.partition(_END)
    if not marker or not end:
        return readme
    rows = _headlines(documents)
    chosen = [row for row in rows if f"\n| {row[0]} |" in old]
    return f"{before}{_BEGIN}\n{markdown_table(_HEADLINE_COLUMNS, chosen or rows)}{_END}{after}"


def _headlines(documents: Mapping[str, dict[str, Any]]) -> list[list[str]]:
    """The headlines of all results."""
    return [row for name in sorted(documents) for row in documents[name]["headlines"]]


def results_page(
    documents: Mapping[str, dict[str, Any]], folder: str, elsewhere: Sequence[str] = ()
) -> str:
    """Return the Markdown page of all results; their files lie in `folder` beside it.

    `elsewhere` are paragraphs on figures that stand on other pages.
    """
    parts = [
        "# Results\n",
        f"Written by the commands below from the result files in [`{folder}/`]({folder}/); no figure is "
        "typed by hand. Mean ± sample standard deviation over the seeds. Hyper-parameters were chosen on "
        "the validation split; the test set is read by these commands only.\n",
        *elsewhere,
        "## At a glance\n",
        markdown_table(_HEADLINE_COLUMNS, _headlines(documents)),
    ]
    for name in sorted(documents):
        parts += _section(documents[name], f"{folder}/{name}.json")
    return "\n".join(parts)


def _section(document: dict[str, Any], link: str) -> list[str]:
    calls = document["provenance"]
    parts = [f"## {document['title']}\n", f"Figures: [`{Path(link).name}`]({link})\n"]
    for number, origin in enumerate(calls):
        rows = [name for name, runs in document["runs"].items() if any(r["call"] == number for r in runs)]
        parts.append(
            f"Command: `{origin['command'] or 'a call from Python'}`  \n"
            + (f"Rows: {', '.join(rows)}  \n" if len(calls) > 1 else "")
            + f"Seeds: {', '.join(map(str, origin['seeds']))}  \n"
            f"Machine: {origin['machine']}; {_versions(origin)}\n"
        )
    for table in document["tables"]:
        parts.append(f"**{table['caption']}**\n")
        parts.append(markdown_table(table["columns"], table["rows"]))
        parts.extend(f"{note}\n" for note in table.get("notes", []))
    return parts
