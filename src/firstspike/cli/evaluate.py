"""``firstspike evaluate``: a run's figures on the test set."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from firstspike.cli.options import add_data_dir, add_threads


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "evaluate",
        help="measure a run on the test set",
        description="Measure a finished run on the test set: accuracy with its decision rule, tie and "
        "silent rates and the cost of a decision; or generation quality beside its controls.",
    )
    parser.add_argument("folder", type=Path, metavar="RUN", help="folder that firstspike train wrote")
    add_data_dir(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    add_threads(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Evaluate and print."""
    from firstspike.training.run_folder import RunFolder

    folder = RunFolder.open(options.folder)

    import torch

    from firstspike.training.evaluation import evaluate

    torch.set_num_threads(options.threads)
    figures = evaluate(folder, options.data_dir)
    if options.json:
        import json

        print(json.dumps(figures, allow_nan=False))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in _flat(figures):
        table.add_row(name, f"{value:.5g}" if isinstance(value, float) else str(value))
    Console().print(table)


def _flat(figures: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in figures.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name} / ")
        elif isinstance(value, list):
            yield f"{prefix}{name}", ", ".join("-" if item is None else f"{item:.5g}" for item in value)
        else:
            yield f"{prefix}{name}", value
