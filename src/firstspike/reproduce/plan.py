"""What an experiment was asked to do, and the training of its runs side by side."""

import logging
import multiprocessing
import os
import re
import signal
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from firstspike.recipes import preset
from firstspike.recipes.base import Recipe
from firstspike.training.run import train
from firstspike.training.run_folder import RunFolder


@dataclass(frozen=True)
class Plan:
    """An experiment's options; see `firstspike.reproduce.run_experiment`."""

    out: Path
    data_dir: Path | None
    seeds: tuple[int, ...]
    digits: tuple[int, ...]
    epochs: int | None
    jobs: int
    results: Path | None
    device: str = "cpu"


@dataclass(frozen=True)
class Job:
    """One run of an experiment: a preset, for one digit or all, with one seed.

    Attributes:
        preset: its name; one for several data sets is trained on MNIST.
        seed: of everything random.
        digit: class, for presets that learn one.
        variant: what differs from the preset, in words; names the folder.
        recipe: instead of the preset's configuration.
    """

    preset: str
    seed: int
    digit: int | None = None
    variant: str = ""
    recipe: Recipe | None = None

    def folder(self, plan: Plan) -> Path:
        """Return where its run lies."""
        words = re.findall(r"[a-z0-9]+", self.variant.lower())
        middle = "-".join(["", *([] if self.digit is None else [f"digit{self.digit}"]), *words])
        return plan.out / "runs" / f"{self.preset}{middle}-seed{self.seed}"

    def config(self, plan: Plan) -> Recipe:
        """Return its configuration."""
        chosen = preset(self.preset)
        if self.recipe is not None:
            return self.recipe if plan.epochs is None else replace(self.recipe, epochs=plan.epochs)
        dataset = None if chosen.one_dataset else "mnist"
        return chosen.configure(dataset=dataset, digit=self.digit, epochs=plan.epochs)

    def open(self, plan: Plan) -> RunFolder:
        """Return its run."""
        return RunFolder.open(self.folder(plan))

    def finished(self, plan: Plan) -> bool:
        """Return whether its run is there and finished.

        Raises:
            InputError: the run that is there is another one, of other epochs for instance.
        """
        folder = self.folder(plan)
        if (folder / "config.json").exists():
            RunFolder.create(folder, self.preset, self.config(plan), self.seed, resume=True)
        return (folder / "model.safetensors").exists()


def train_all(plan: Plan, jobs: list[Job]) -> None:
    """Train every job that is not finished, `plan.jobs` at a time, on the CPU one thread each.

    One thread each keeps a run's result independent of how many are trained side by side.

    Raises:
        InputError: as `firstspike.training.run.train` does, and if the test images are not to be had.
    """
    waiting = [job for job in jobs if not job.finished(plan)]
    # Before hours of training, not after.
    for recipe in {config.dataset: config for config in (job.config(plan) for job in jobs)}.values():
        for split in ("train", "test"):
            recipe.data(split, plan.data_dir)
    # What is measured afterwards must not depend on how many runs were trained side by side.
    torch.set_num_threads(1)
    console = Console(stderr=True)
    print(f"{len(jobs)} runs, {len(waiting)} to train, {plan.jobs} at a time", file=sys.stderr)
    context = multiprocessing.get_context("spawn")
    with (
        Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        ) as progress,
        ProcessPoolExecutor(plan.jobs, context, _leave_talking_to_the_parent) as pool,
    ):
        task = progress.add_task("training", total=len(jobs), completed=len(jobs) - len(waiting))
        futures = {pool.submit(_train_one, plan, job): job for job in waiting}
        try:
            for future in as_completed(futures):
                future.result()
                progress.advance(task)
                console.print(f"{futures[future].folder(plan).name}: trained", highlight=False)
        except BaseException:
            # A run may be stopped at any moment: its finished epochs are kept.
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise


def _leave_talking_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The parent has loaded the same data and warned of it.
    logging.getLogger("firstspike").setLevel(logging.ERROR)


def _train_one(plan: Plan, job: Job) -> None:
    train(
        job.folder(plan),
        job.preset,
        job.config(plan),
        job.seed,
        data_dir=plan.data_dir,
        resume=True,
        # Augmentation and validation stay on the processor, and a GPU would wait for them.
        threads=1 if plan.device == "cpu" else max(1, (os.cpu_count() or 1) // plan.jobs),
        device=plan.device,
        show_progress=False,
    )
