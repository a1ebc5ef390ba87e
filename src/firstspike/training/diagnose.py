"""A look into a classifier's layers: who fires, when, how membranes spread, what gradients arrive."""

import copy
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from firstspike.data import ImageSet
from firstspike.models.raster.fire import crossed, spike_times
from firstspike.models.raster.network import RasterNetwork
from firstspike.models.window import WindowNetwork
from firstspike.nn import AvgPool2d, Stack
from firstspike.support import json_text, write_text
from firstspike.training.classifier import ClassifierTask, encode_images
from firstspike.training.deep import EttfsTask, WindowTask, maps

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


def diagnose(
    task: ClassifierTask | EttfsTask | WindowTask, model: torch.nn.Module, data: ImageSet
) -> list[LayerState]:
    """Return the state of every layer on the first `IMAGES` images of `data`, without dropout."""
    images, labels = data.images[:IMAGES], data.labels[:IMAGES]
    device = next(model.parameters()).device
    images, labels = images.to(device), labels.to(device)
    # A copy, so that nothing about the model changes. Batch normalisation takes the statistics of these
    # images: before the first epoch it has no others.
    model = copy.deepcopy(model).train(not isinstance(model, Stack))
    if isinstance(model, WindowNetwork):
        model.dropout = 0.0
    task.loss(model, images, labels).backward()
    norms = [0.0 if w.grad is None else float(w.grad.norm()) for w in _weights(model)]
    with torch.no_grad():
        seen = list(_layers(task, model, images))
    states = []
    for depth, (weight, norm, (times, num_steps, membrane)) in enumerate(
        zip(_weights(model), norms, seen, strict=True), 1
    ):
        spikes = times < num_steps
        states.append(
            LayerState(
                layer=depth,
                kind=" x ".join(map(str, weight.shape)),
                fired=float(spikes.float().mean()),
                never=float((~spikes.flatten(1).any(0)).float().mean()),
                mean_step=float(times[spikes].float().mean()) if spikes.any() else None,
                membrane_mean=float(membrane.float().mean()),
                membrane_sd=float(membrane.float().std()),
                gradient_norm=norm,
            )
        )
    return states


def _weights(model: torch.nn.Module) -> list[Tensor]:
    """The weights of every layer of neurons, from the input on; not of connections past a block."""
    return [
        parameter
        for name, parameter in model.named_parameters()
        if name.endswith("weight") and parameter.dim() > 1 and ".past." not in name
    ]


def _layers(
    task: ClassifierTask | EttfsTask | WindowTask, model: torch.nn.Module, images: Tensor
) -> Iterator[tuple[Tensor, int, Tensor]]:
    """Spike times, length of the window, and membranes of the layers that `_weights` lists."""
    if isinstance(model, RasterNetwork):
        model.dtype = torch.float32
        for membrane in model.membranes(maps(images)):
            yield spike_times(crossed(membrane)), model.num_steps, membrane[-1]
    elif isinstance(model, WindowNetwork):
        yield from _window_layers(model, images)
    else:
        assert isinstance(task, ClassifierTask)
        stack = cast(Stack, model)
        traced = stack.trace(encode_images(task.config, images))
        for layer, heard, times in zip(stack, traced, traced[1:], strict=False):
            if not isinstance(layer, AvgPool2d):
                yield times, layer.out_steps, layer.membrane(heard)


def _window_layers(model: WindowNetwork, images: Tensor) -> Iterator[tuple[Tensor, int, Tensor]]:
    model.dtype = torch.float32
    _, *values, times = model.trace(maps(images))
    *membranes, output = model.membranes(maps(images))
    for value, membrane in zip(values, membranes, strict=True):
        yield torch.round((1 - value) * model.num_steps), model.num_steps, membrane
    yield times, model.output_neuron.out_steps_for(0), output


def table(states: list[LayerState]) -> str:
    """Return the states as lines of text."""
    lines = [
        f"on {IMAGES} validation images: share of neurons that fire, share that fire for no image, mean "
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
        task: what is trained.
        data: images to look at.
        say: is given each epoch's table.
    """

    def __init__(
        self,
        folder: Path,
        task: ClassifierTask | EttfsTask | WindowTask,
        data: ImageSet,
        say: Callable[[str], None],
    ) -> None:
        self._file, self._task, self._data, self._say = folder / "diagnosis.jsonl", task, data, say

    def __call__(self, epoch: int, model: torch.nn.Module) -> None:
        """Look at `model` after `epoch` epochs; 0 is the freshly drawn one."""
        states = diagnose(self._task, model, self._data)
        earlier = []
        if epoch and self._file.exists():
            with suppress(ValueError, KeyError, TypeError):
                lines = [json.loads(line) for line in self._file.read_text(encoding="utf-8").splitlines()]
                earlier = [line for line in lines if line["epoch"] < epoch]
        entry = {"epoch": epoch, "layers": [asdict(state) for state in states]}
        write_text(self._file, "".join(json_text(line) + "\n" for line in [*earlier, entry]))
        self._say(f"{'at initialisation' if epoch == 0 else f'after epoch {epoch}'}\n{table(states)}")
        for state in states:
            if state.dead:
                _log.warning(
                    "layer %d (%s) is dead: %.2f %% of its neurons fire; larger weights, ETTFS "
                    "initialisation or normalisation wake it",
                    state.layer,
                    state.kind,
                    100 * state.fired,
                )
