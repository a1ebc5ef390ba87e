"""Rows of whole jobs: from the start of a process to what a user wants, ours and in plain torch."""

from collections.abc import Callable

from firstspike.bench.harness import Side, Skipped, in_turn
from firstspike.bench.processes import in_new_process
from firstspike.bench.setting import Measured, Setting
from firstspike.bench.whole_job import DIGIT, GAN_EPOCHS, GOAL, JOBS
from firstspike.data import load
from firstspike.support import InputError

_NOTES = {
    "classifier": f"start, imports and training until {GOAL:.0%} of MNIST's validation images are right: "
    "aggressive-ttfs-window with its augmentation against 784-400-10 with ReLU without one",
    "epoch": "start, imports and an epoch of window-fashion-mnist, its validation and augmentation "
    "included, against an epoch of the same layers with ReLU without them, in the same precision",
    "gan": f"start, imports and {GAN_EPOCHS} epochs of spiking-gan-window on digit {DIGIT}, its validation "
    "included, against an ANN GAN of the same layers without one",
}


def whole_job(job: str) -> Callable[[Setting], Measured]:
    """Return the row of a job of `firstspike.bench.whole_job`, each measurement in a new process."""

    def row(setting: Setting) -> Measured:
        dataset = JOBS[job][0]
        try:
            load(dataset, "validation", setting.data_dir)
        except InputError as error:
            raise Skipped(f"needs {dataset}: {error}") from None
        folder = [] if setting.data_dir is None else [str(setting.data_dir)]

        def side(name: str) -> Side:
            return lambda: in_new_process(
                job,
                name,
                setting.threads,
                *folder,
                module="firstspike.bench.whole_job",
                threads=setting.threads,
            )["seconds"]

        repeats = 1 if setting.quick else 3
        return Measured(in_turn(side("ours"), side("theirs"), repeats, warmups=0), _NOTES[job])

    return row
