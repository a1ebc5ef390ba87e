"""What an experiment was asked to do, and the training of its runs side by side."""

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from firstspike.training.presets import preset
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


@dataclass(frozen=True)
class Job:
    """One run of an experiment: a preset on MNIST, for one digit or all, with one seed."""

    preset: str
    seed: int
    digit: int | None = None

    def folder(self, plan: Plan) -> Path:
        """Return where its run lies."""
        middle = "" if self.digit is None else f"-digit{self.digit}"
        return plan.out / "runs" / f"{self.preset}{middle}-seed{self.seed}"

    def open(self, plan: Plan) -> RunFolder:
        """Return its run."""
        return RunFolder.open(self.folder(plan))


def train_all(plan: Plan, jobs: list[Job]) -> None:
    """Train every job that is not finished, `plan.jobs` at a time, one thread each.

    One thread each keeps a run's result independent of how many are trained side by side.

    Raises:
        InputError: as `firstspike.training.run.train` does.
    """
    waiting = [job for job in jobs if not (job.folder(plan) / "model.safetensors").exists()]
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
        ProcessPoolExecutor(plan.jobs, mp_context=context) as pool,
    ):
        task = progress.add_task("training", total=len(jobs), completed=len(jobs) - len(waiting))
        futures = {pool.submit(_train_one, plan, job): job for job in waiting}
        try:
            for future in as_completed(futures):
                future.result()
                progress.advance(task)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _train_one(plan: Plan, job: Job) -> None:
    config = preset(job.preset).configure(dataset="mnist", digit=job.digit, epochs=plan.epochs)
    train(
        job.folder(plan),
        job.preset,
        config,
        job.seed,
        data_dir=plan.data_dir,
        resume=True,
        threads=1,
        show_progress=False,
    )
