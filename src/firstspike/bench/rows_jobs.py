"""Rows of whole jobs: from the start of a process to its end, ours and in plain torch."""

import time
from collections.abc import Callable

from firstspike.bench.harness import Side, Skipped, in_turn
from firstspike.bench.processes import in_new_process
from firstspike.bench.setting import Measured, Setting
from firstspike.bench.whole_job import DIGIT, GAN_EPOCHS, GOAL, JOBS, MISSED
from firstspike.data import load
from firstspike.models.precision import fast_precision
from firstspike.support import InputError

_NOTES = {
    "classifier": f"a process that trains until {GOAL:.0%} of MNIST's validation images are right: "
    "aggressive-ttfs-window with its augmentation against 784-400-10 with ReLU without one",
    "epoch": "a process that trains window-fashion-mnist for an epoch and validates it, against an epoch "
    "of the same layers with ReLU without augmentation and validation, in the same precision",
    "gan": f"a process that trains spiking-gan-window on digit {DIGIT} for {GAN_EPOCHS} epochs without "
    "shifts and validates it, against an ANN GAN of the same layers without validation",
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
            def measure() -> float:
                began = time.perf_counter()
                found = in_new_process(
                    job,
                    name,
                    setting.threads,
                    fast_precision("cpu"),
                    *folder,
                    module="firstspike.bench.whole_job",
                    threads=setting.threads,
                )
                if not found["reached"]:
                    raise Skipped(f"{name}: {MISSED}")
                return time.perf_counter() - began

            return measure

        repeats = 1 if setting.quick else 3
        return Measured(in_turn(side("ours"), side("theirs"), repeats, warmups=0), _NOTES[job], dataset)

    return row
