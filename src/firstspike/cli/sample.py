"""``firstspike sample``: pictures from a trained generator."""

import argparse

from firstspike.cli.options import between, path, seed, whole
from firstspike.support import InputError


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "sample",
        help="generate images with a trained GAN",
        description="Generate images. A .png is one grid; a .npz holds images uint8 (N, height, width), "
        "labels (N,) (-1 where unconditional) and spikes (N,), all of the generator's (-1 for an ANN).",
    )
    parser.add_argument("folder", type=path, metavar="RUN", help="folder of a trained GAN")
    parser.add_argument(
        "--count", type=between(1, 1_000_000), required=True, metavar="N", help="number of images"
    )
    parser.add_argument("--seed", type=seed, default=0, metavar="S", help="of the noise (default: 0)")
    parser.add_argument(
        "--label", type=whole, metavar="L", help="class, for a conditional GAN (default: all in turn)"
    )
    parser.add_argument("--out", type=path, required=True, metavar="FILE", help="FILE.png or FILE.npz")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Generate and write."""
    if options.out.suffix not in (".png", ".npz"):
        raise InputError(f"--out must end in .png or .npz, found {options.out}")

    from firstspike.training.run_folder import RunFolder

    folder = RunFolder.open(options.folder)

    from firstspike.training.sampling import load_generator, sample, write_samples

    samples = sample(load_generator(folder), options.count, options.seed, options.label)
    write_samples(samples, options.out)
    print(options.out)
