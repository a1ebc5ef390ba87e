"""``firstspike train``: one run into one folder."""

import argparse
import sys
from pathlib import Path

from firstspike.cli.options import (
    add_changes,
    add_data_dir,
    add_device,
    add_threads,
    check_device,
    default_dataset,
    let_waiting_threads_sleep,
    path,
    positive,
    seed,
)
from firstspike.cli.streams import deaf_to_hangup


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "train",
        help="train a preset into a run folder",
        description="Train a preset (see firstspike presets) into a run folder. Killed at any moment, the "
        "same command with --resume goes on from the last finished epoch to the same result.",
    )
    parser.add_argument("preset", metavar="PRESET", help="name of the recipe")
    parser.add_argument(
        "--digit", metavar="N", help="class to learn, for presets of one digit, by its number or name"
    )
    trained_on = parser.add_mutually_exclusive_group()
    trained_on.add_argument(
        "--dataset",
        metavar="NAME",
        help="data set of the shallow presets, such as digits or fashion-mnist (default: mnist where a "
        "data folder is named, else the embedded digits); a deep preset has its own",
    )
    trained_on.add_argument(
        "--data",
        type=path,
        metavar="PATH",
        help="your own data, for any preset: an .npz with x_train and y_train, or a folder with a "
        "sub-folder of PNG or JPEG images for each class; 15%% of each class validate and 15%% test, "
        "unless x_validation, x_test and so on, or folders train/, validation/ and test/ say which",
    )
    add_data_dir(parser)
    parser.add_argument("--out", type=path, metavar="RUN", help="run folder (default: runs/PRESET-...)")
    parser.add_argument("--epochs", type=positive, metavar="N", help="instead of the preset's")
    add_changes(
        parser,
        "FIELD=VALUE",
        "change a field of the recipe, dotted within another, as augmentation.shift_px=1; "
        "firstspike presets PRESET lists them",
    )
    parser.add_argument(
        "--seed", type=seed, default=0, metavar="S", help="of everything random (default: 0)"
    )
    add_device(parser, "the deep presets, ettfs-..., window-... and onestep-...")
    parser.add_argument(
        "--compile",
        action="store_true",
        help="give a deep network's layers to torch.compile: minutes at first, faster on a GPU after",
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out if there is one")
    parser.add_argument(
        "--tensorboard",
        action="store_true",
        help="write each epoch's figures for TensorBoard too, into RUN/tensorboard",
    )
    parser.add_argument(
        "--diagnose",
        action="store_true",
        help="report every layer before training and after each epoch: who fires, when, gradients; for "
        "classifiers of more than one time step",
    )
    add_threads(parser, "one for small steps of training, else two")
    parser.set_defaults(run=run, kept="finished epochs are kept, --resume goes on")


def run(options: argparse.Namespace) -> None:
    """Train."""
    let_waiting_threads_sleep()
    from firstspike.data import Dataset, dataset, own
    from firstspike.recipes import preset

    check_device(options.device)
    chosen = preset(options.preset)
    if options.data is not None:
        data: str | Dataset = own(options.data)
    elif options.dataset is not None:
        data = options.dataset
    else:
        data = chosen.recipe.dataset if chosen.one_dataset else default_dataset(options.data_dir)
    digit = options.digit
    if digit is not None and chosen.takes_digit:
        digit = dataset(data).class_number(digit, "digit")
    config = chosen.configure(
        dataset=data, digit=digit, epochs=options.epochs, changes=dict(options.changes)
    )
    named = [] if chosen.one_dataset and options.data is None else [str(data)]
    asked = [] if options.digit is None else [options.digit.replace("/", "-")]
    parts = [options.preset, *named, *asked]
    out = options.out or Path("runs") / f"{'-'.join(parts)}-seed{options.seed}"

    from firstspike.training.run import train

    with deaf_to_hangup():
        train(
            out,
            options.preset,
            config,
            options.seed,
            data_dir=options.data_dir,
            resume=options.resume,
            threads=options.threads,
            device=options.device,
            compiled=options.compile,
            events=options.tensorboard,
            diagnose=_to_stderr if options.diagnose else None,
        )
    print(out)


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
