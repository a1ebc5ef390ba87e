"""The task that a classifier's configuration stands for."""

from firstspike.training.classifier import ClassifierTask
from firstspike.training.config import ClassifierConfig
from firstspike.training.deep import EttfsTask, WindowTask
from firstspike.training.deep_config import DeepWindowConfig, EttfsConfig, OneStepConfig
from firstspike.training.one_step import OneStepTask


def task_for(
    config: ClassifierConfig | EttfsConfig | DeepWindowConfig | OneStepConfig,
) -> ClassifierTask | EttfsTask | WindowTask | OneStepTask:
    """Return what `firstspike.training.supervised` trains."""
    if isinstance(config, ClassifierConfig):
        return ClassifierTask(config)
    if isinstance(config, OneStepConfig):
        return OneStepTask(config)
    return EttfsTask(config) if isinstance(config, EttfsConfig) else WindowTask(config)
