"""``firstspike sample``: pictures from a trained generator."""

import argparse
import errno
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

from firstspike.cli.options import add_windows, between, path, seed
from firstspike.support import InputError, atomic_path

if TYPE_CHECKING:
    from firstspike.metrics.sampling import Samples

_IN_A_GRID = 10_000


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "sample",
        help="generate images with a trained GAN or autoencoder",
        description="Generate images. A .png is one grid; a .npz holds images uint8 (N, height, width) or "
        "(N, 3, height, width), labels (N,) (-1 where unconditional) and spikes (N,), all of the "
        "generator's (-1 for an ANN). A grid holds 10,000 images at most, small ones enlarged.",
    )
    parser.add_argument(
        "folder",
        type=path,
        metavar="RUN",
        help="folder of a trained GAN or autoencoder, or mnist-generator",
    )
    parser.add_argument(
        "--count", type=between(1, 1_000_000), required=True, metavar="N", help="number of images"
    )
    parser.add_argument("--seed", type=seed, default=0, metavar="S", help="of the noise (default: 0)")
    parser.add_argument(
        "--label",
        metavar="L",
        help="class, for a conditional GAN, by its number or name (default: all in turn)",
    )
    parser.add_argument("--out", type=path, required=True, metavar="FILE", help="FILE.png or FILE.npz")
    add_windows(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Generate and write."""
    if options.out.suffix not in (".png", ".npz"):
        raise InputError(f"--out must end in .png or .npz, found {options.out}")
    if options.out.suffix == ".png" and options.count > _IN_A_GRID:
        raise InputError(f"a .png holds {_IN_A_GRID:,} images at most; lower --count or write a .npz")
    if options.out.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(options.out))

    from firstspike.data import dataset
    from firstspike.recipes.generation import GenerativeRecipe
    from firstspike.training.run_folder import RunFolder

    folder = RunFolder.open(options.folder).with_windows(dict(options.changes))
    model, label = folder.load(), options.label
    # Others refuse any label.
    if label is not None and isinstance(folder.config, GenerativeRecipe) and folder.config.conditional:
        label = dataset(folder.config.dataset).class_number(label, "label")
    samples = folder.config.sample(model, options.count, options.seed, label)
    write_samples(samples, options.out)
    print(options.out)


def write_samples(samples: "Samples", path: Path) -> None:
    """Write the samples: a grid as ``.png``, or arrays images, labels, spikes as ``.npz``."""
    import numpy as np
    import torch

    from firstspike.plot import sample_grid, save_figure

    if path.suffix == ".png":
        # About a square, in tens, so that a column holds one class of ten.
        columns = 10 * max(1, round(math.sqrt(len(samples.images)) / 10))
        save_figure(sample_grid(samples.images, columns), path)
        return
    total = samples.spikes.sum(1) if samples.spikes.shape[1] else torch.full((len(samples.images),), -1)
    with atomic_path(path) as temporary:
        np.savez_compressed(
            temporary, images=samples.images.numpy(), labels=samples.labels.numpy(), spikes=total.numpy()
        )
