"""The task that a classifier's configuration stands for."""

from firstspike.training.classifier import ClassifierTask
from firstspike.training.config import ClassifierConfig
from firstspike.training.deep import EttfsTask, WindowTask
from firstspike.training.deep_config import DeepWindowConfig, EttfsConfig


def task_for(
    config: ClassifierConfig | EttfsConfig | DeepWindowConfig,
) -> ClassifierTask | EttfsTask | WindowTask:
    """Return what `firstspike.training.supervised` trains."""
    if isinstance(config, ClassifierConfig):
        return ClassifierTask(config)
    return EttfsTask(config) if isinstance(config, EttfsConfig) else WindowTask(config)
