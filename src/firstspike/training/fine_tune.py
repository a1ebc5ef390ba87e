"""A few epochs with rounded weights, before a network leaves as whole numbers."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from firstspike.export.rounding import Granularity, rounded_weights
from firstspike.models.spiking_form import SpikingForm
from firstspike.recipes.base import Classifier, FirstSpikeLoss, maps
from firstspike.spikes import Spikes
from firstspike.training.fit import fit_in_memory
from firstspike.training.run_folder import RunFolder


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
    form: SpikingForm,
    epochs: int,
    data_dir: Path | None = None,
    *,
    bits: int,
    per: Granularity = "channel",
    rate: float = 5e-4,
) -> SpikingForm:
    """Return a network that was trained further with weights rounded as `firstspike.integer` rounds them.

    The loss is the cross-entropy of the first spike; images are changed at random as in the run's training.

    Args:
        run: whose data and augmentation it is trained on.
        form: the network, as the run's recipe exports it.
        epochs: how many, on the training split.
        data_dir: folder with the files of a data set that has a name.
        bits, per: of the weights.
        rate: of AdamW; it falls to 0 along a cosine.

    Raises:
        InputError: the data are not to be had; the network was not trained here.
        Diverged: a loss is not finite.
    """
    recipe = run.config
    train = recipe.data("train", data_dir)
    changes = {"augmentation": recipe.augmentation} if isinstance(recipe, Classifier) else {}
    rounded = replace(form, stack=rounded_weights(form.stack, bits=bits, per=per))
    fit_in_memory(
        _OnImages(rounded),
        (maps(train.images), train.labels),
        loss=FirstSpikeLoss(sharpness=16.0, label_delay=min(2.0, rounded.stack.out_steps)),
        seed=run.seed,
        epochs=epochs,
        batch_size=recipe.batch_size,
        rate=rate,
        **changes,
    )
    rounded.stack.eval()
    return rounded
