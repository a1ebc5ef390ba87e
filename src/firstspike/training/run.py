"""Training a configuration into a folder, whatever its task."""

from pathlib import Path

import torch

from firstspike.data import load
from firstspike.training.classifier import train_classifier
from firstspike.training.config import Config, GanConfig
from firstspike.training.gan import train_gan
from firstspike.training.run_folder import RunFolder


def train(
    path: Path,
    preset: str,
    config: Config,
    seed: int,
    *,
    data_dir: Path | None = None,
    resume: bool = False,
    threads: int = 2,
    show_progress: bool = True,
) -> RunFolder:
    """Train `config` into `path` and return the finished run.

    With `resume` a run that is there goes on from its last finished epoch, with the threads it was
    started with, and ends at the same weights to the bit; a finished one is returned as it is.

    Raises:
        InputError: see `RunFolder.create` and `firstspike.data.load`.
    """
    images = load(config.dataset, "train", data_dir)
    validation = load(config.dataset, "validation", data_dir)
    torch.set_num_threads(threads)
    run = RunFolder.create(path, preset, config, seed, resume=resume)
    torch.set_num_threads(run.threads)
    if (run.path / "model.safetensors").exists():
        return run
    if isinstance(config, GanConfig):
        train_gan(run, images, show_progress=show_progress)
    else:
        train_classifier(run, images, validation, show_progress=show_progress)
    return run
