"""``firstspike bench``: speed and memory compared with others, both sides measured in turn."""

import argparse
import sys
from contextlib import redirect_stdout

from firstspike.cli.options import add_data_dir, add_threads, default_dataset, path
from firstspike.cli.output import console, print_json
from firstspike.support import InputError

_TABLE_WIDTH = 112


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "bench",
        help="compare speed and memory with other libraries and a dense network",
        description="Compare speed and memory with the dense ReLU network of the same size, other "
        "libraries for spiking networks and plain algorithms: both sides in turn, with the same threads, "
        "on the same data and trained weights. A ratio below 1 means that firstspike is the quicker or "
        "smaller one.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--quick", action="store_true", help="few and short measurements, for a look")
    parser.add_argument("--rows", nargs="+", metavar="NAME", help="measure these rows only (default: all)")
    add_data_dir(parser, otherwise="the embedded digits stand in for MNIST")
    # Not "run", which is the verb's function.
    parser.add_argument(
        "--run",
        dest="trained",
        type=path,
        metavar="RUN",
        help="finished run of a causal 784-400-10 classifier whose weights to use (default: a short "
        "training, kept in the cache)",
    )
    add_threads(parser, "2")
    parser.add_argument("--out", type=path, metavar="FILE", help="also write the JSON object into FILE")
    parser.add_argument(
        "--results",
        type=path,
        metavar="DIR",
        help="also write cpu.json (cpu-narrow.json where vectors hold 8 floats) and gpu.json into DIR and "
        "renew tables and picture of DIR/../../docs/performance.md",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Measure and print."""
    from firstspike.bench.results import write_results
    from firstspike.bench.setting import Setting
    from firstspike.bench.suite import chosen, run_rows
    from firstspike.data import load
    from firstspike.support import json_text, write_text
    from firstspike.training.run_folder import RunFolder

    specs = chosen(options.rows)
    if options.out is not None and options.out.is_dir():
        raise InputError(f"--out {options.out} is a folder; name a file")

    # Before a line is printed, and before anything is measured.
    data = default_dataset(options.data_dir)
    if options.data_dir is not None:
        load(data, "validation", options.data_dir)
    if options.trained is not None:
        RunFolder.open(options.trained)

    def tell(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    with (
        redirect_stdout(sys.stderr),
        Setting(
            data,
            data_dir=options.data_dir,
            run=options.trained,
            threads=options.threads or 2,
            quick=options.quick,
        ) as setting,
    ):
        document = run_rows(specs, setting, tell)
    if options.rows and all(row["skipped"] for row in document["rows"]):
        raise InputError(
            "; ".join(f"{row['name']}: not measured, {row['skipped']}" for row in document["rows"])
        )
    if options.out is not None:
        write_text(options.out, json_text(document, indent=1) + "\n")
        tell(f"wrote {options.out}")
    if options.results is not None:
        for path in write_results(options.results, document):
            tell(f"wrote {path}")
    if options.json:
        print_json(document)
        return
    from rich.table import Table

    from firstspike.bench.results import cells, machine_line

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("row", no_wrap=True)
    for column in ("ours", "theirs", "ratio", "spread", "target", "reached"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in document["rows"]:
        table.add_row(row["name"], *cells(row))
    # A narrow terminal breaks the lines; a cell cut short would say nothing.
    console(min_width=_TABLE_WIDTH).print(table)
    out = console()
    for row in document["rows"]:
        said = f"not measured: {row['skipped']}" if row["skipped"] else row["note"]
        out.print(f"{row['name']}: {said}")
    out.print(machine_line(document["machine"]))
