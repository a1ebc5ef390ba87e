"""``firstspike export``: a trained network as C, as a page, or as a file for other simulators."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firstspike.cli.options import add_data_dir, add_windows, between, path, positive
from firstspike.support import InputError, check_new_folder

if TYPE_CHECKING:
    from firstspike.data import ImageSet
    from firstspike.models.gan import SpikingGenerator
    from firstspike.models.spiking_form import SpikingForm
    from firstspike.training.run_folder import RunFolder

# Test vectors of C, and pictures to choose from on a page.
_VECTORS, _SHOWN = 100, 40


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "export",
        help="export a trained network to C, a web page or other simulators",
        description="Write a trained network as a C program in integers, with test vectors that prove "
        "it the same network (--format c), as one page that any browser opens, with the same integers "
        "in JavaScript (html), or as a NIR file for other simulators (nir, causal networks only).",
    )
    parser.add_argument(
        "folder",
        type=path,
        metavar="RUN",
        help="folder of a run, or a built-in network: mnist-classifier, mnist-generator",
    )
    parser.add_argument("--format", choices=("c", "html", "nir"), required=True, help="what to write")
    parser.add_argument(
        "--out", type=path, required=True, metavar="PATH", help="folder to make for c, else a file"
    )
    parser.add_argument(
        "--bits", type=between(2, 8), metavar="B", help="of a weight in c and html (default: 8)"
    )
    parser.add_argument(
        "--per",
        choices=("channel", "layer"),
        help="one step of the weights for each neuron or map, or for a layer (default: channel)",
    )
    parser.add_argument(
        "--fine-tune",
        type=positive,
        metavar="EPOCHS",
        help="train so many epochs with rounded weights first; classifiers only",
    )
    add_data_dir(parser)
    add_windows(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Export and say what was made."""
    if options.format == "nir":
        for name in ("bits", "per", "fine_tune"):
            if getattr(options, name) is not None:
                raise InputError(
                    f"--{name.replace('_', '-')} is for integers, and NIR holds floating-point ones; "
                    "leave it out"
                )
    if options.format == "c":
        check_new_folder(options.out)
    elif options.out.is_dir():
        raise InputError(f"{options.out} is a folder; name a file")

    from firstspike.training.run_folder import RunFolder

    folder = RunFolder.open(options.folder).with_windows(dict(options.changes))
    if folder.path.resolve() in options.out.resolve().parents:
        raise InputError(f"{options.out} lies in the run itself; name another place")
    try:
        network = folder.config.exported(folder.load())
        for line in _written(options, folder, network):
            print(line)
    except InputError:
        raise
    except (ImportError, TypeError, ValueError) as error:
        raise InputError(str(error)) from error
    print(options.out)


def _written(
    options: argparse.Namespace, folder: "RunFolder", network: "SpikingForm | SpikingGenerator"
) -> list[str]:
    """Write what is asked for; return what there is to say about it."""
    from firstspike import export
    from firstspike.export.integers import IntegerNetwork
    from firstspike.export.whole import integer
    from firstspike.models.gan import SpikingGenerator

    if options.format == "nir":
        return _nir(network, options.out)
    grid: dict[str, Any] = {"bits": options.bits or 8, "per": options.per or "channel"}
    images: dict[str, Any] = {}
    whole: IntegerNetwork | SpikingGenerator
    if isinstance(network, SpikingGenerator):
        if options.data_dir:
            raise InputError("--data-dir is for classifiers, and the run holds a generator; leave it out")
        if options.fine_tune:
            raise InputError("--fine-tune is for classifiers, and the run holds a generator; leave it out")
        whole = integer(network, **grid)
    else:
        if options.fine_tune:
            from firstspike.training.fine_tune import fine_tuned

            network = fine_tuned(folder, options.fine_tune, options.data_dir, **grid, show_progress=True)
        whole, found = integer(network, **grid), _images(folder, options.data_dir)
        if found is not None:
            images = {"images": found.images, "labels": found.labels}
    if options.format == "html":
        export.html(
            whole,
            options.out,
            title=folder.path.name,
            **{name: array[:_SHOWN] for name, array in images.items()},
        )
        return []
    sizes = export.c(whole, options.out, vectors=images["images"][:_VECTORS] if images else None)
    return [
        f"{name:<31} {number:,}"
        for name, number in (
            ("flash, bytes of tables", sizes.flash),
            ("RAM, bytes", sizes.ram),
            ("steps at most", sizes.steps),
            ("operations at most", sizes.operations),
        )
    ]


def _nir(network: "SpikingForm | SpikingGenerator", out: Path) -> list[str]:
    """Write layers of neurons; return what of the run the file does not hold."""
    from firstspike import export
    from firstspike.models.gan import SpikingGenerator

    if isinstance(network, SpikingGenerator):
        export.nir(network.stack, out, in_shape=network.in_shape)
        return []
    if network.current_multiply_adds:
        raise InputError(
            "the run's first layer takes a current, which its encoder multiplies and NIR would not hold"
        )
    export.nir(network.stack, out, in_shape=network.in_shape)
    return [f"not in the file: the encoder, and the decision ({network.decoder.spikes.rule})"]


def _images(folder: "RunFolder", data_dir: Path | None) -> "ImageSet | None":
    """Test images as bytes, where they can be had without a download."""
    import torch

    from firstspike.data import dataset

    recipe = folder.config
    if not recipe.dataset:
        return None
    if dataset(recipe.dataset).where != "embedded" and not (data_dir or os.environ.get("FIRSTSPIKE_DATA")):
        return None
    found = recipe.data("test", data_dir)
    return found if found.images.dtype == torch.uint8 else None
