"""A look into a classifier's layers: who fires, when, how membranes spread, what gradients arrive."""

import copy
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from firstspike.data import ImageSet
from firstspike.recipes.base import Recipe
from firstspike.support import json_text, write_text

_log = logging.getLogger(__name__)

IMAGES = 200
DEAD_BELOW = 0.005


@dataclass(frozen=True)
class LayerState:
    """What a layer does on some images.

    Attributes:
        layer: number from the input on, 1 the first.
        kind: shape of its weights, ``out x in`` or ``out x in x y x``.
        fired: share of neurons that fire, mean over images.
        never: share of neurons that fire for none of the images.
        mean_step: mean spike time of those that fire, in steps of the layer's window; None if none does.
        membrane_mean, membrane_sd: of the membranes at the end of the inputs, over neurons and images.
        gradient_norm: L2 norm of the loss's gradient for the weights.
    """

    layer: int
    kind: str
    fired: float
    never: float
    mean_step: float | None
    membrane_mean: float
    membrane_sd: float
    gradient_norm: float

    @property
    def dead(self) -> bool:
        """Whether so few neurons fire that next to nothing passes."""
        return self.fired < DEAD_BELOW


def diagnose(recipe: Recipe, model: torch.nn.Module, data: ImageSet) -> list[LayerState]:
    """Return the state of every layer on the first `IMAGES` images of `data`, without dropout."""
    images, labels = data.images[:IMAGES], data.labels[:IMAGES]
    device = next(model.parameters()).device
    images, labels = images.to(device), labels.to(device)
    # A copy, so that nothing about the model changes. Batch normalisation takes the statistics of these
    # images: before the first epoch it has no others.
    model = copy.deepcopy(model).train()
    recipe.without_dropout(model)
    recipe.step(model, images, labels, lambda _, loss: loss.backward())
    with torch.no_grad():
        seen = list(recipe.layers(model, images))
    states = []
    for depth, layer in enumerate(seen, 1):
        fires, membrane, gradient = ~layer.spikes.silent, layer.membrane, layer.weight.grad
        states.append(
            LayerState(
                layer=depth,
                kind=" x ".join(map(str, layer.weight.shape)),
                fired=float(fires.float().mean()),
                never=float((~fires.flatten(1).any(0)).float().mean()),
                mean_step=float(layer.spikes.times[fires].float().mean()) if fires.any() else None,
                membrane_mean=float(membrane.float().mean()),
                membrane_sd=float(membrane.float().std()),
                gradient_norm=0.0 if gradient is None else float(gradient.norm()),
            )
        )
    return states


def table(states: list[LayerState], images: int) -> str:
    """Return the states on so many images as lines of text."""
    lines = [
        f"on {images} validation images: share of neurons that fire, share that fire for no image, mean "
        "step of the spikes, membranes at the end, norm of the weights' gradient",
        "layer  weights                  fired   never  mean step   membrane (sd)      gradient",
    ]
    for s in states:
        step = "-" if s.mean_step is None else f"{s.mean_step:.2f}"
        lines.append(
            f"{s.layer:>5}  {s.kind:<22}  {s.fired:6.1%}  {s.never:6.1%}  {step:>9}  "
            f"{s.membrane_mean:8.3f} ({s.membrane_sd:.3f})  {s.gradient_norm:10.3g}"
        )
    return "\n".join(lines)


class Diary:
    """Writes the layers' states to ``diagnosis.jsonl`` in a run folder, one line per epoch.

    Args:
        folder: the run folder.
        recipe: what is trained.
        data: images to look at.
        say: is given each epoch's table.
    """

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        data: ImageSet,
        say: Callable[[str], None],
    ) -> None:
        self._file, self._recipe, self._data, self._say = folder / "diagnosis.jsonl", recipe, data, say

    def __call__(self, epoch: int, model: torch.nn.Module) -> None:
        """Look at `model` after `epoch` epochs; 0 is the freshly drawn one."""
        states, count = diagnose(self._recipe, model, self._data), min(IMAGES, len(self._data))
        earlier = []
        if epoch and self._file.exists():
            with suppress(ValueError, KeyError, TypeError):
                lines = [json.loads(line) for line in self._file.read_text(encoding="utf-8").splitlines()]
                earlier = [line for line in lines if line["epoch"] < epoch]
        entry = {"epoch": epoch, "layers": [asdict(state) for state in states]}
        write_text(self._file, "".join(json_text(line) + "\n" for line in [*earlier, entry]))
        self._say(
            f"{'at initialisation' if epoch == 0 else f'after epoch {epoch}'}\n{table(states, count)}"
        )
        for state in states:
            if state.dead:
                _log.warning(
                    "layer %d (%s) is dead: %.2f %% of its neurons fire; larger weights, ETTFS "
                    "initialisation or normalisation wake it",
                    state.layer,
                    state.kind,
                    100 * state.fired,
                )
