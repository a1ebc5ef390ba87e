"""The papers' experiments and the demo: train, measure on the test set, picture, report."""

from collections.abc import Sequence
from pathlib import Path

from firstspike.errors import InputError


def run_experiment(
    name: str,
    *,
    out: Path,
    data_dir: Path | None,
    seeds: Sequence[int],
    digits: Sequence[int],
    epochs: int | None,
    jobs: int,
    results: Path | None,
) -> Path:
    """Run the experiment called `name` and return its report.

    Args:
        name: "aggressive-ttfs" or "spiking-gan".
        out: folder for runs, pictures and report; finished runs there are kept.
        data_dir: folder with MNIST.
        seeds: one run of everything for each.
        digits: classes of the per-digit GANs.
        epochs: instead of the presets'.
        jobs: runs trained side by side.
        results: folder that also gets the figures as JSON, with ``results.md`` renewed beside it.
    """
    if results is not None and epochs is not None:
        raise InputError("--results is for the presets' own epochs; leave out --epochs")

    from firstspike.reproduce import aggressive_ttfs, spiking_gan
    from firstspike.reproduce.plan import Plan

    plan = Plan(out, data_dir, tuple(seeds), tuple(digits), epochs, jobs, results)
    return {"aggressive-ttfs": aggressive_ttfs.reproduce, "spiking-gan": spiking_gan.reproduce}[name](plan)
