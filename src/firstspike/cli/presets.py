"""``firstspike presets``: what there is."""

import argparse

from firstspike.cli.output import console, print_json


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    parser = verbs.add_parser("presets", help="list the presets, their paper and expected figures")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the presets."""
    from firstspike.training.presets import PRESETS

    if options.json:
        from firstspike.training.config import to_json

        document = {
            p.name: {
                "summary": p.summary,
                "paper": p.paper,
                "expected": p.expected,
                "takes_digit": p.takes_digit,
                "one_dataset": p.one_dataset,
                "config": to_json(p.config),
                "on_digits": {name: to_json(value) for name, value in p.on_digits},
            }
            for p in PRESETS.values()
        }
        print_json(document, indent=2)
        return
    from rich.table import Table

    out = console()
    for paper in dict.fromkeys(entry.paper for entry in PRESETS.values()):
        table = Table(title=paper, title_justify="left", box=None, padding=(0, 2, 0, 0), expand=True)
        table.add_column("preset", no_wrap=True, width=max(map(len, PRESETS)))
        table.add_column("what", ratio=1)
        table.add_column("expected figures", ratio=1)
        for entry in (entry for entry in PRESETS.values() if entry.paper == paper):
            name = f"{entry.name}\n  --digit 0..9" if entry.takes_digit else entry.name
            table.add_row(name, entry.summary, entry.expected)
        out.print(table)
        out.print()
