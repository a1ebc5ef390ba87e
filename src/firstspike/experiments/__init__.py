"""The papers' experiments and the demo: train, measure on the test set, picture, report.

An experiment is a value, `Experiment`; yours runs as these do:

>>> from firstspike.experiments import EXPERIMENTS, find
>>> find("one-step").title
'The one-step network: patches instead of time'
"""

from firstspike.experiments.aggressive_ttfs import AGGRESSIVE_TTFS
from firstspike.experiments.cifar10 import CIFAR10
from firstspike.experiments.ettfs import ETTFS
from firstspike.experiments.generation import GENERATION
from firstspike.experiments.jobs import Run
from firstspike.experiments.one_step import ONE_STEP
from firstspike.experiments.ramp import RAMP
from firstspike.experiments.run import run_experiment
from firstspike.experiments.spec import (
    Column,
    Experiment,
    Finished,
    Measured,
    Picture,
    Table,
    Target,
    headline,
)
from firstspike.experiments.spiking_gan import SPIKING_GAN
from firstspike.support import InputError

EXPERIMENTS = (AGGRESSIVE_TTFS, CIFAR10, ETTFS, GENERATION, ONE_STEP, RAMP, SPIKING_GAN)


def find(name: str) -> Experiment:
    """Return the experiment called `name`.

    Raises:
        InputError: there is none.
    """
    for experiment in EXPERIMENTS:
        if experiment.name == name:
            return experiment
    known = ", ".join(experiment.name for experiment in EXPERIMENTS)
    raise InputError(f"unknown experiment {name!r}; choose from {known}")


__all__ = [
    "EXPERIMENTS",
    "Column",
    "Experiment",
    "Finished",
    "Measured",
    "Picture",
    "Run",
    "Table",
    "Target",
    "find",
    "headline",
    "run_experiment",
]
