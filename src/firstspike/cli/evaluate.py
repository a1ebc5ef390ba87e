"""``firstspike evaluate``: a run's figures on the test set."""

import argparse
import sys
from contextlib import redirect_stdout

from firstspike.cli.options import add_data_dir, add_threads, add_windows, let_waiting_threads_sleep, path
from firstspike.cli.output import print_json


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "evaluate",
        help="measure a run on the test set",
        description="Measure a finished run on the test set: accuracy with its decision rule, tie and "
        "silent rates and the cost of a decision; or generation quality with its controls.",
    )
    parser.add_argument(
        "folder",
        type=path,
        metavar="RUN",
        help="folder that firstspike train or convert wrote, or a built-in network",
    )
    add_data_dir(parser)
    parser.add_argument(
        "--data",
        type=path,
        metavar="PATH",
        help="your own data that the run was trained on, if they have moved (default: where they were); "
        "for a converted network any",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    add_threads(parser, "the run's own")
    add_windows(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Evaluate and print."""
    let_waiting_threads_sleep()
    from firstspike.training.run_folder import RunFolder

    folder = RunFolder.open(options.folder)

    import torch

    from firstspike.training.evaluation import evaluate
    from firstspike.training.threads import cores

    torch.set_num_threads(options.threads or min(folder.threads, cores()))
    with redirect_stdout(sys.stderr):
        figures = evaluate(folder, options.data_dir, data=options.data, windows=dict(options.changes))
    if options.json:
        print_json(figures)
        return
    from firstspike.metrics.report import table

    print(table(figures))
