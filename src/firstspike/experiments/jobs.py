"""An experiment's runs: what is trained with which seed, side by side, and how a run is measured."""

import logging
import multiprocessing
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from firstspike.data import Dataset, load
from firstspike.models.precision import fast_precision
from firstspike.recipes import preset
from firstspike.recipes.base import Recipe
from firstspike.recipes.fields import changed
from firstspike.support import InputError, command_line
from firstspike.training.evaluation import evaluate
from firstspike.training.progress import bar, watched
from firstspike.training.run import train
from firstspike.training.run_folder import RunFolder


@dataclass(frozen=True)
class Options:
    """What every experiment may be asked for; see `firstspike.experiments.run_experiment`."""

    out: Path
    data_dir: Path | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    epochs: int | None = None
    jobs: int = 2
    results: Path | None = None


@dataclass(frozen=True)
class Run:
    """What an experiment trains with each seed, and measures in one row.

    Attributes:
        preset: name of the recipe, which is the row's name too unless `row` or `variant` is given.
        config: instead of the preset's configuration; then `preset` may be any name.
        variant: what differs from the preset, in words; names the folder and the row.
        row: name of the row, where `variant` is none.
        dataset: for a preset that is for several; a name, or a `Dataset` of your own.
        digits: one run for each of these classes, for presets that learn one; none for all others.
        seeds: so many of the experiment's seeds at most, None for all.
        optional: left out where its data set is not to be had.
        minutes: what one takes on one core with bfloat16 units, as measured; 0 where nobody did.
    """

    preset: str
    config: Recipe | None = None
    variant: str = ""
    row: str = ""
    dataset: str | Dataset = "mnist"
    digits: tuple[int, ...] | None = None
    seeds: int | None = None
    optional: bool = False
    minutes: float = 0.0

    @property
    def name(self) -> str:
        """Name of its row."""
        return self.row or self.variant or self.preset

    def recipe(self, options: Options) -> Recipe:
        """Return its recipe, without the digit of a single run."""
        config = self.jobs(options)[0].config(options)
        return config if self.digits is None else changed(config, "digit", "none")

    def jobs(self, options: Options) -> list["Job"]:
        """Return its single runs, digit by digit, seed by seed."""
        digits = (None,) if self.digits is None else self.digits
        return [Job(self, seed, digit) for digit in digits for seed in options.seeds[: self.seeds]]


@dataclass(frozen=True)
class Job:
    """A `Run` with one seed and, where it learns one class, one digit."""

    run: Run
    seed: int
    digit: int | None = None

    def folder(self, options: Options) -> Path:
        """Return where it lies."""
        words = re.findall(r"[a-z0-9]+", self.run.variant.lower())
        middle = "-".join(["", *([] if self.digit is None else [f"digit{self.digit}"]), *words])
        return options.out / "runs" / f"{self.run.preset}{middle}-seed{self.seed}"

    def config(self, options: Options) -> Recipe:
        """Return its configuration."""
        if self.run.config is None:
            chosen = preset(self.run.preset)
            dataset = None if chosen.one_dataset else self.run.dataset
            return chosen.configure(dataset=dataset, digit=self.digit, epochs=options.epochs)
        if options.epochs is None:
            return self.run.config
        return replace(self.run.config, epochs=options.epochs)

    def finished(self, options: Options) -> bool:
        """Return whether it is trained.

        Raises:
            InputError: its folder holds another run, of other epochs for instance.
        """
        found = RunFolder.find(
            self.folder(options), self.run.preset, self.config(options), self.seed, resume=True
        )
        return found is not None and found.finished

    def open(self, options: Options) -> RunFolder:
        """Return the trained run, whose folder holds only the name of a data set."""
        return replace(RunFolder.open(self.folder(options)), config=self.config(options))


def train_all(
    runs: Sequence[Run], options: Options, device: str = "cpu"
) -> dict[str, list[tuple[Job, RunFolder]]]:
    """Train what is not finished, `options.jobs` at a time, on the CPU one thread each.

    One thread each keeps a run's result independent of how many are trained side by side.

    Returns:
        The finished runs of each row by its name; an optional one without data has none.

    Raises:
        InputError: as `firstspike.training.run.train` does, and if data are not to be had.
    """
    jobs = {run.name: run.jobs(options) for run in runs}
    waiting = [job for some in jobs.values() for job in some if not job.finished(options)]
    # Before hours of training, not after.
    _drop_without_data(jobs, options)
    all_jobs = [job for some in jobs.values() for job in some]
    _train([job for job in all_jobs if job in waiting], len(all_jobs), options, device)
    return {name: [(job, job.open(options)) for job in some] for name, some in jobs.items()}


def _drop_without_data(jobs: dict[str, list[Job]], options: Options) -> None:
    """Drop optional jobs whose data set is not to be had, and say so; a needed one is an error."""
    datasets: dict[str | Dataset, list[str]] = {}
    for name, some in jobs.items():
        for dataset in {job.config(options).dataset for job in some}:
            datasets.setdefault(dataset, []).append(name)
    for dataset, names in sorted(datasets.items(), key=lambda item: str(item[0])):
        try:
            for split in ("train", "test"):
                load(dataset, split, options.data_dir)
        except InputError as error:
            if not all(job.run.optional for name in names for job in jobs[name]):
                raise
            print(f"{', '.join(names)}: left out; {error}", file=sys.stderr)
            for name in names:
                del jobs[name]


def _train(waiting: Sequence[Job], total: int, options: Options, device: str) -> None:
    # What is measured afterwards must not depend on how many runs were trained side by side.
    torch.set_num_threads(1)
    expected = "" if device != "cpu" else expected_time(waiting, options)
    print(f"{total} runs, {len(waiting)} to train, {options.jobs} at a time{expected}", file=sys.stderr)
    context = multiprocessing.get_context("spawn")
    with (
        bar(sys.stderr if watched(sys.stderr) else None) as progress,
        ProcessPoolExecutor(options.jobs, context, _begin_worker, (command_line.get(),)) as pool,
    ):
        done = total - len(waiting)
        task = progress.add_task("training", total=total, completed=done, figures=())
        futures = {pool.submit(_train_one, job, options, device): job for job in waiting}
        try:
            for future in as_completed(futures):
                future.result()
                progress.advance(task)
                print(f"{futures[future].folder(options).name}: trained", file=sys.stderr)
        except BaseException:
            # A run may be stopped at any moment: its finished epochs are kept.
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise


def expected_time(waiting: Sequence[Job], options: Options) -> str:
    """Return how long these runs take on a CPU, in words; "" where nobody measured, or for other epochs."""
    minutes = [job.run.minutes for job in waiting]
    if options.epochs is not None or not minutes or not all(minutes):
        return ""
    hours = f"; about {sum(minutes) / options.jobs / 60:.1f} hours on as many idle cores"
    if fast_precision("cpu") == "bfloat16":
        return hours
    # Measured: a convolutional GAN 60 minutes for 12, a deep window network 72 for 7.
    return f"{hours} with bfloat16 units, five to ten times as long without, as here"


def _begin_worker(command: str | None) -> None:
    command_line.set(command)
    # Talking is left to the parent.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The parent has loaded the same data and warned of it.
    logging.getLogger("firstspike").setLevel(logging.ERROR)


def _train_one(job: Job, options: Options, device: str) -> None:
    train(
        job.folder(options),
        job.run.preset,
        job.config(options),
        job.seed,
        data_dir=options.data_dir,
        resume=True,
        # Augmentation and validation stay on the processor, and a GPU would wait for them.
        threads=1 if device == "cpu" else max(1, (os.cpu_count() or 1) // options.jobs),
        device=device,
        show_progress=False,
    )


def measure(run: RunFolder, data_dir: Path | None = None) -> dict[str, Any]:
    """Return every figure of a finished run on the test set, and how long and how its training was.

    Raises:
        InputError: the run is damaged, or its data set is not to be had.
    """
    figures = evaluate(run, data_dir)
    # Where it lies is nobody else's business.
    del figures["run"]
    seconds = sum(record["seconds"] for record in epochs_of(run))
    return figures | {"training_seconds": seconds, "training_precision": run.precision}


def epochs_of(run: RunFolder) -> Sequence[Mapping[str, Any]]:
    """Return the records of a run's epochs.

    Raises:
        InputError: they are gone.
    """
    records = run.load_state().records
    if not records:
        raise InputError(
            f"{run.path} holds no state, which its learning curve is read from; train it again"
        )
    return records
