"""``firstspike presets``: what there is."""

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from firstspike.recipes.presets import Preset

from firstspike.cli.output import console, print_json


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "presets", help="list the presets with the papers' figures and the targets, or one's fields"
    )
    parser.add_argument(
        "name", nargs="?", metavar="PRESET", help="list the fields of this one, which train --set changes"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the presets, or the fields of one."""
    from firstspike.recipes import PRESETS, preset

    chosen = PRESETS if options.name is None else {options.name: preset(options.name)}
    if options.json:
        print_json({name: _document(entry) for name, entry in chosen.items()}, indent=2)
    elif options.name is None:
        _list(chosen)
    else:
        _describe(chosen[options.name])


def _document(entry: "Preset") -> dict[str, Any]:
    from firstspike.recipes.fields import to_json

    return {
        "summary": entry.summary,
        "paper": entry.source,
        "expected": entry.expected,
        "figures": {"paper": dict(entry.paper), "target": dict(entry.target)},
        "takes_digit": entry.takes_digit,
        "one_dataset": entry.one_dataset,
        "config": to_json(entry.recipe),
        "on_digits": {name: to_json(value) for name, value in entry.on_digits.items()},
    }


def _list(presets: Mapping[str, "Preset"]) -> None:
    from rich.table import Table

    out = console()
    for source in dict.fromkeys(entry.source for entry in presets.values()):
        table = Table(title=source, title_justify="left", box=None, padding=(0, 2, 0, 0), expand=True)
        table.add_column("preset", no_wrap=True, width=max(map(len, presets)))
        table.add_column("what", ratio=1)
        table.add_column("targets and the paper's figures", ratio=1)
        for entry in (entry for entry in presets.values() if entry.source == source):
            name = f"{entry.name}\n  --digit 0..9" if entry.takes_digit else entry.name
            table.add_row(name, entry.summary, entry.expected)
        out.print(table)
        out.print()


def _describe(entry: "Preset") -> None:
    from firstspike.recipes.fields import flat

    rows = [
        ("preset", entry.name),
        ("what", entry.summary),
        ("source", entry.source),
        ("expected", entry.expected or "-"),
        ("", ""),
        *((name, str(value)) for name, value in flat(entry.recipe)),
        *((f"on digits: {name}", str(value)) for name, value in entry.on_digits.items()),
    ]
    width = max(len(name) for name, _ in rows)
    print("\n".join(f"{name:<{width}}  {text}".rstrip() for name, text in rows))
