"""``firstspike presets``: what there is."""

import argparse


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    parser = verbs.add_parser("presets", help="list the presets, their papers and targets")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the presets."""
    from firstspike.training.presets import PRESETS

    if options.json:
        import json

        from firstspike.training.config import to_json

        document = {
            p.name: {
                "summary": p.summary,
                "paper": p.source,
                "expected": p.expected,
                "figures": {"paper": dict(p.paper), "target": dict(p.target)},
                "takes_digit": p.takes_digit,
                "one_dataset": p.one_dataset,
                "config": to_json(p.config),
                "on_digits": {name: to_json(value) for name, value in p.on_digits},
            }
            for p in PRESETS.values()
        }
        print(json.dumps(document, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for source in dict.fromkeys(entry.source for entry in PRESETS.values()):
        table = Table(title=source, title_justify="left", box=None, padding=(0, 2, 0, 0), expand=True)
        table.add_column("preset", no_wrap=True, width=max(map(len, PRESETS)))
        table.add_column("what", ratio=1)
        table.add_column("targets and the paper's figures", ratio=1)
        for entry in (entry for entry in PRESETS.values() if entry.source == source):
            name = f"{entry.name}\n  --digit 0..9" if entry.takes_digit else entry.name
            table.add_row(name, entry.summary, entry.expected)
        console.print(table)
        console.print()
