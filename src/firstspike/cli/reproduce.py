"""``firstspike reproduce``: a paper's figures compared with what is measured."""

import argparse
from pathlib import Path

from firstspike.cli.options import (
    add_data_dir,
    add_device,
    between,
    check_device,
    let_waiting_threads_sleep,
    path,
    positive,
    seed,
    workers,
)
from firstspike.cli.streams import deaf_to_hangup


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "reproduce",
        help="reproduce a paper's tables and pictures",
        description="Train everything that a paper's tables and pictures need, measure it on the test set "
        "and write pictures, figures as JSON and one HTML report. Finished runs in --out are kept, so an "
        "interrupted call goes on where it was.",
    )
    parser.add_argument(
        "experiment",
        metavar="EXPERIMENT",
        help="which paper's, or which data set's; any other word lists them",
    )
    add_data_dir(parser)
    parser.add_argument(
        "--out",
        type=path,
        metavar="DIR",
        help="folder for runs, pictures and report (default: runs/reproduce-...)",
    )
    parser.add_argument(
        "--seeds", type=seed, nargs="+", default=[0, 1, 2], metavar="S", help="seeds (default: 0 1 2)"
    )
    parser.add_argument(
        "--epochs", type=positive, metavar="N", help="instead of the presets', for a quick look"
    )
    parser.add_argument(
        "--digits",
        type=between(0, 9),
        nargs="+",
        metavar="N",
        help="spiking-gan: digits of the per-digit GANs (default: all)",
    )
    parser.add_argument(
        "--rows",
        nargs="+",
        default=(),
        metavar="ROW",
        help="train and measure only these rows of the tables, and add them to the figures that the result "
        "file holds of the same recipes; any other word lists them",
    )
    parser.add_argument(
        "--jobs",
        type=workers,
        default=2,
        metavar="N",
        help="runs trained side by side, one thread each (default: %(default)s)",
    )
    add_device(parser, "cifar10, which trains its large presets there too")
    parser.add_argument(
        "--results",
        type=path,
        metavar="DIR",
        help="also write the figures as JSON into DIR and renew DIR/../results.md and the "
        "table in DIR/../../README.md",
    )
    parser.set_defaults(run=run, kept="finished epochs are kept, the same command goes on")


def run(options: argparse.Namespace) -> None:
    """Reproduce."""
    let_waiting_threads_sleep()
    from firstspike.experiments import find, run_experiment

    own = {} if options.digits is None else {"digits": options.digits}
    if options.device != "cpu":
        own["device"] = options.device
    experiment = find(options.experiment).with_options(**own)
    check_device(options.device)
    with deaf_to_hangup():
        report = run_experiment(
            experiment,
            out=options.out or Path("runs") / f"reproduce-{options.experiment}",
            data_dir=options.data_dir,
            seeds=options.seeds,
            epochs=options.epochs,
            jobs=options.jobs,
            results=options.results,
            rows=options.rows,
        )
    print(report)
