"""A few epochs with rounded weights, before a network leaves as integers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from firstspike.export.rounding import Granularity, rounded_weights
from firstspike.models.gan import SpikingGenerator
from firstspike.models.spiking_form import SpikingForm
from firstspike.recipes.base import Classifier, maps
from firstspike.recipes.spike_losses import FirstSpikeLoss
from firstspike.spikes import Spikes
from firstspike.support import InputError
from firstspike.training.fit import fit_in_memory, train_in_memory
from firstspike.training.run_folder import RunFolder

# Of the rate that a network was trained at; and where it was trained in another form.
_SHARE, _RATE = 0.1, 5e-4
_LOSS = FirstSpikeLoss(sharpness=16.0)


class _OnImages(torch.nn.Module):
    """A network with its encoder, so that images can be changed before they are encoded."""

    def __init__(self, form: SpikingForm) -> None:
        super().__init__()
        self.stack, self._encode = form.stack, form.encode

    def forward(self, images: Tensor) -> Spikes:
        """Return output spikes of images uint8."""
        spikes: Spikes = self.stack(self._encode(images))
        return spikes


def fine_tuned(
    run: RunFolder,
    epochs: int,
    data_dir: Path | None = None,
    *,
    bits: int,
    per: Granularity = "channel",
    show_progress: bool = False,
) -> SpikingForm:
    """Return a run's network, trained further with weights rounded as `firstspike.integer` rounds them.

    A network that was trained on spike times goes on by its own recipe, at a tenth of its rate; any other
    learns by the cross-entropy of the first spike. Images are changed at random as in the run's training.

    Args:
        run: finished, of a classifier.
        epochs: how many, on the training split; of a recipe the best on the validation split is kept.
        data_dir: folder with the files of a data set that has a name.
        bits, per: of the weights.
        show_progress: draw a bar on stderr.

    Raises:
        InputError: the data are not to be had; the run holds no classifier on spike times.
        Diverged: a loss is not finite.
    """
    recipe, model = run.config, run.load()
    form = recipe.exported(model)
    if isinstance(form, SpikingGenerator):
        raise InputError("fine-tuning is for classifiers, and the run holds a generator")
    train = recipe.data("train", data_dir)
    rounded = replace(form, stack=rounded_weights(form.stack, bits=bits, per=per))
    if isinstance(recipe, Classifier) and form.stack is model:
        shorter = replace(recipe, epochs=epochs, rate=recipe.rate * _SHARE, ema=0.0)
        train_in_memory(
            rounded.stack,
            shorter,
            train,
            recipe.data("validation", data_dir),
            seed=run.seed,
            show_progress=show_progress,
        )
    else:
        changes: dict[str, Any] = (
            {"augmentation": recipe.augmentation} if isinstance(recipe, Classifier) else {}
        )
        fit_in_memory(
            _OnImages(rounded),
            (maps(train.images), train.labels),
            loss=_LOSS,
            seed=run.seed,
            show_progress=show_progress,
            epochs=epochs,
            batch_size=recipe.batch_size,
            rate=_RATE,
            **changes,
        )
    rounded.stack.eval()
    return rounded
