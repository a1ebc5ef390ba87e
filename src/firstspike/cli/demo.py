"""``firstspike demo``: everything once, on the embedded digits."""

import argparse
from pathlib import Path

from firstspike.cli.options import add_threads, let_waiting_threads_sleep, path, positive, seed
from firstspike.cli.streams import deaf_to_hangup


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "demo",
        help="train a small GAN and a classifier on embedded digits, write pictures and a report",
        description="No download: trains a small single-spike GAN and a classifier on scikit-learn's "
        "8 x 8 digits and writes pictures, an animation of a decision and report.html.",
    )
    parser.add_argument(
        "--out", type=path, default=Path("demo"), metavar="DIR", help="folder (default: demo)"
    )
    parser.add_argument("--epochs", type=positive, metavar="N", help="of all trainings, for a quick look")
    parser.add_argument(
        "--seed", type=seed, default=0, metavar="S", help="of everything random (default: 0)"
    )
    parser.add_argument("--resume", action="store_true", help="go on with a demo that was interrupted")
    add_threads(parser, "one for small steps of training, else two")
    parser.set_defaults(run=run, kept="finished epochs are kept, --resume goes on")


def run(options: argparse.Namespace) -> None:
    """Run the demo."""
    let_waiting_threads_sleep()
    from firstspike.experiments.demo import demo

    with deaf_to_hangup():
        report = demo(
            options.out,
            seed=options.seed,
            epochs=options.epochs,
            threads=options.threads,
            resume=options.resume,
        )
    print(report)
