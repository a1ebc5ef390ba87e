"""The papers' experiments and the demo: train, measure on the test set, picture, report."""

from collections.abc import Sequence
from pathlib import Path

from firstspike.support import InputError


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
    device: str = "cpu",
) -> Path:
    """Run the experiment called `name` and return its report.

    Args:
        name: "aggressive-ttfs", "cifar10", "ettfs", "one-step" or "spiking-gan".
        out: folder for runs, pictures and report; finished runs there are kept.
        data_dir: folder with the data sets.
        seeds: one run of everything for each; repeated ones count once.
        digits: classes of the per-digit GANs, likewise.
        epochs: instead of the presets'.
        jobs: runs trained side by side.
        results: folder that also gets the figures as JSON, with ``results.md`` renewed beside it.
        device: where "cifar10" is trained, "cpu" or "cuda".

    Raises:
        InputError: `results` with `epochs`, or "cuda" for another experiment; what the training refuses.
    """
    if device != "cpu" and name != "cifar10":
        raise InputError(f"--device is for cifar10; {name} trains on the CPU, leave --device out")
    if results is not None and epochs is not None:
        raise InputError("--results is for the presets' own epochs; leave out --epochs")

    from firstspike.reproduce import aggressive_ttfs, cifar10, ettfs, one_step, spiking_gan
    from firstspike.reproduce.plan import Plan

    # Each once: a run trained twice side by side would meet itself in its folder.
    seeds, digits = tuple(dict.fromkeys(seeds)), tuple(dict.fromkeys(digits))
    plan = Plan(out, data_dir, seeds, digits, epochs, jobs, results, device)
    experiments = {
        "aggressive-ttfs": aggressive_ttfs,
        "cifar10": cifar10,
        "ettfs": ettfs,
        "one-step": one_step,
        "spiking-gan": spiking_gan,
    }
    return experiments[name].reproduce(plan)
