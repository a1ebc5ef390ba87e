"""``firstspike convert``: an ONNX file's trained network as a run folder."""

import argparse
import math
from typing import TYPE_CHECKING

from firstspike.cli.options import between, path
from firstspike.support import MAX_NUM_STEPS, InputError, check_new_folder

if TYPE_CHECKING:
    from torch import Tensor

    from firstspike.data import Dataset

# Of calibration: more take longer and change little.
_MOST_IMAGES = 1_000
_LEAST_SHARE = 0.5


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "convert",
        help="convert a trained ReLU network (an ONNX file) into a single-spike network",
        description="Turn a trained ReLU network into a network of window neurons that spike at most once, "
        "as a run folder, which firstspike evaluate measures. Any framework's ONNX file of opset 7 or "
        "newer is read, and never run: convolutions, linear layers, normalisation, ReLU, clip, pooling, "
        "sums, concatenations.",
    )
    parser.add_argument("model", type=path, metavar="MODEL.onnx", help="the trained network, in one file")
    parser.add_argument(
        "--calibration",
        type=path,
        required=True,
        metavar="FILE.npz",
        help="images as the network was trained on, some hundreds; of more than 1,000 so many are used, "
        "evenly chosen. Array x_train, else x, else images, else the only one: uint8 or floats in 0 ... 1, "
        "(n, h, w), (n, h, w, c), (n, c, h, w) or (n, features). With y_train, these are your own data, as "
        "for train --data, and only those that train are used",
    )
    parser.add_argument(
        "--steps",
        type=_steps,
        default=16,
        metavar="T",
        help="levels of an activation, the length of a window (default: 16)",
    )
    parser.add_argument(
        "--output-steps",
        type=_steps,
        metavar="T",
        help="length of the output's window (default: 32 times --steps, 512 at least)",
    )
    parser.add_argument(
        "--mean",
        type=_numbers,
        metavar="X[,X...]",
        help="what is taken from images in 0 ... 1 before the network, one number or one a channel, if the "
        "file does not do it",
    )
    parser.add_argument(
        "--std",
        type=_numbers,
        metavar="X[,X...]",
        help="what they are divided by after that, if the file does not do it",
    )
    parser.add_argument(
        "--ranges",
        type=_ranges,
        default="error",
        metavar="error|maximum|SHARE",
        help="range of an activation: that of the least squared error, the largest value, or the share of "
        "values that lie below, such as 0.999 (default: error)",
    )
    measured = parser.add_mutually_exclusive_group()
    measured.add_argument("--dataset", metavar="NAME", help="data set that evaluate measures on")
    measured.add_argument(
        "--data",
        type=path,
        metavar="PATH",
        help="your own data that evaluate measures on, as for train (default: those of --calibration if it "
        "has y_train, else none: evaluate --data names them)",
    )
    parser.add_argument("--out", type=path, required=True, metavar="RUN", help="run folder to make")
    parser.set_defaults(run=run)


_steps = between(2, MAX_NUM_STEPS)


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"expected a number, found {text!r}")
    return value


def _numbers(text: str) -> list[float]:
    return [_number(part) for part in text.split(",")]


def _ranges(text: str) -> str | float:
    if text in ("error", "maximum"):
        return text
    try:
        share = _number(text)
    except argparse.ArgumentTypeError:
        share = math.nan
    if not _LEAST_SHARE <= share <= 1:
        raise argparse.ArgumentTypeError(
            f"expected error, maximum or a share in {_LEAST_SHARE} ... 1, found {text!r}"
        )
    return share


def run(options: argparse.Namespace) -> None:
    """Convert, write and say what was made."""
    # Before the work.
    check_new_folder(options.out)
    from firstspike.data import Dataset, dataset, own
    from firstspike.data.own_data import calibration
    from firstspike.models.convert import from_onnx
    from firstspike.models.convert.read_onnx import declared
    from firstspike.training.network import save_network

    images, labelled = calibration(options.calibration)
    data: Dataset | None = labelled
    if options.data is not None:
        data = own(options.data)
    elif options.dataset is not None:
        data = dataset(options.dataset)
    count = min(len(images), _MOST_IMAGES)
    try:
        takes, gives = declared(options.model)
        given = _as_taken(takes, images[[k * len(images) // count for k in range(count)]])
        if data is not None:
            _check_measured(data, given, gives)
        stack = from_onnx(
            options.model,
            given,
            steps=options.steps,
            output_steps=options.output_steps,
            mean=options.mean,
            std=options.std,
            ranges=options.ranges,
        )
    except InputError:
        raise
    except (ImportError, TypeError, ValueError) as error:
        raise InputError(str(error)) from error
    shapes = stack.shapes(tuple(given.shape[1:]))
    save_network(options.out, stack, data, in_shape=shapes[0])
    for name, number in (
        ("layers", len(stack)),
        ("neurons", sum(math.prod(shape) for shape in shapes[1:])),
        ("steps to the end of the output", stack.last_step),
        ("calibration images", count),
    ):
        print(f"{name:<31} {number:,}")
    print(options.out)


def _as_taken(sides: list[int | None] | None, images: "Tensor") -> "Tensor":
    """Images as the file takes them: in one row for features, grey ones with a channel for maps."""
    from firstspike.recipes.base import maps

    if sides is not None and len(sides) == 1:
        return images.flatten(1)
    return images if sides is not None and len(sides) == 2 else maps(images)


def _check_measured(data: "Dataset", images: "Tensor", gives: list[int | None] | None) -> None:
    """Refuse, before the work, data that the network does not take or that have more classes."""
    if math.prod(data.shape) != math.prod(images.shape[1:]):
        raise InputError(
            f"the network does not take the images of {data.name}: they are "
            f"{' x '.join(map(str, data.shape))}, those of the calibration "
            f"{' x '.join(map(str, images.shape[1:]))}; name other data"
        )
    outputs = math.prod(side or 0 for side in gives or [])
    if gives and 0 < outputs < data.classes:
        raise InputError(
            f"the network gives {outputs} outputs, {data.name} has {data.classes} classes; name other data"
        )
