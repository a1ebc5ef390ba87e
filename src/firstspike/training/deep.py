"""Training of the deep networks."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from firstspike.data import ImageSet
from firstspike.data.augment import cut_out, distort, flip_horizontally
from firstspike.decision import STRICT
from firstspike.losses import first_spike_cross_entropy
from firstspike.models.window_network import WindowNetwork
from firstspike.raster.fire import crossed, flags_to_times
from firstspike.raster.network import RasterNetwork
from firstspike.raster.readout import decide, logits
from firstspike.training.deep_config import DeepConfig, DeepWindowConfig, EttfsConfig

_JUDGED_AT_A_TIME = 250


def maps(images: Tensor) -> Tensor:
    """Return images ``(batch, height, width)`` or ``(batch, channels, height, width)`` with channels."""
    return images.unsqueeze(1) if images.dim() == 3 else images


def build_ettfs(config: EttfsConfig, in_shape: tuple[int, ...], num_classes: int) -> RasterNetwork:
    """Return a freshly drawn network; the weights come from torch's global random state."""
    return RasterNetwork(
        config.layout,
        in_shape,
        num_classes,
        config.num_steps,
        neuron=config.neuron,
        weights=config.weights,
        readout=config.readout,
        code=config.code,
    )


def build_window(config: DeepWindowConfig, in_shape: tuple[int, ...], num_classes: int) -> WindowNetwork:
    """Return a freshly drawn network; the weights come from torch's global random state."""
    return WindowNetwork(
        config.layout,
        in_shape,
        num_classes,
        in_steps=config.in_steps,
        num_steps=config.num_steps,
        out_steps=config.out_steps,
        clip=config.clip,
        dropout=config.dropout,
    )


def build_deep(
    config: EttfsConfig | DeepWindowConfig, in_shape: tuple[int, ...], num_classes: int
) -> RasterNetwork | WindowNetwork:
    """Return a freshly drawn network of either kind; the weights come from torch's global random state."""
    build = build_ettfs if isinstance(config, EttfsConfig) else build_window
    return build(config, in_shape, num_classes)  # type: ignore[arg-type]


def _augment(config: DeepConfig, images: Tensor) -> Tensor:
    how = config.augmentation
    images = distort(
        images,
        shift_px=how.shift_px,
        rotation_deg=how.rotation_deg,
        scale=how.scale,
        shear=how.shear,
        elastic_px=how.elastic_px,
    )
    if how.flip:
        images = flip_horizontally(images)
    return cut_out(images, how.cutout_px) if how.cutout_px else images


def _optimizer(config: DeepConfig, model: torch.nn.Module) -> torch.optim.Optimizer:
    # Gains, shifts and biases have one axis; pulling them to 0 would silence neurons.
    groups = [
        {
            "params": [p for p in model.parameters() if (p.dim() > 1) == decays],
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for decays in (True, False)
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], config.rate, fused=True)


def _batches(model: torch.nn.Module, data: ImageSet) -> Iterator[tuple[Tensor, Tensor]]:
    device = next(model.parameters()).device
    for images, labels in zip(
        data.images.split(_JUDGED_AT_A_TIME), data.labels.split(_JUDGED_AT_A_TIME), strict=True
    ):
        yield maps(images).to(device), labels.to(device)


@dataclass(frozen=True)
class EttfsTask:
    """An `EttfsConfig` as `firstspike.training.supervised` trains it."""

    config: EttfsConfig

    def build(self, train: ImageSet) -> RasterNetwork:
        """Return a freshly drawn network."""
        return build_ettfs(self.config, tuple(maps(train.images[:1]).shape[1:]), train.num_classes)

    def optimizer(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        """Return the optimiser of `model`."""
        return _optimizer(self.config, model)

    def augment(self, images: Tensor) -> Tensor:
        """Return training images, changed at random."""
        return _augment(self.config, images)

    def loss(self, model: torch.nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy of the decoder's logits."""
        assert isinstance(model, RasterNetwork)
        model.dtype = getattr(torch, self.config.precision)
        return F.cross_entropy(model(maps(images)), labels, label_smoothing=self.config.label_smoothing)

    @torch.no_grad()
    def judge(self, model: torch.nn.Module, validation: ImageSet) -> dict[str, Any]:
        """Return the figures of the validation split; ties and silence count as wrong.

        For the membrane decoder, which is no spike decision, "validation_accuracy" is the membrane's; the
        figure under "validation_accuracy_spikes" then is what its spikes say.
        """
        assert isinstance(model, RasterNetwork)
        config = self.config
        model.eval()
        model.dtype = torch.float32
        right = by_membrane = tied = silent = 0
        steps, fired, neurons = 0.0, 0.0, 0.0
        for images, labels in _batches(model, validation):
            traced = [membrane for membrane, _ in model.trace(images)]
            times = [flags_to_times(crossed(membrane)) for membrane in traced]
            verdict = decide(times[-1], config.num_steps, config.readout)
            right += int(((verdict.label == labels) & ~verdict.tied & ~verdict.silent).sum())
            read = logits(times[-1], traced[-1], replace(config.readout, decoder="membrane"))
            by_membrane += int((read.argmax(1) == labels).sum())
            tied += int((verdict.tied & ~verdict.silent).sum())
            silent += int(verdict.silent.sum())
            steps += float(verdict.steps.sum())
            fired += float(sum((t < config.num_steps).sum() for t in times[:-1]))
            neurons += float(sum(t.numel() for t in times[:-1]))
        count = len(validation)
        spikes, membrane = right / count, by_membrane / count
        reads_membrane = config.readout.decoder == "membrane"
        return {
            "validation_accuracy": membrane if reads_membrane else spikes,
            "validation_accuracy_spikes": spikes,
            "validation_accuracy_membrane": membrane,
            "validation_tie_rate": tied / count,
            "validation_silent_rate": silent / count,
            "steps_to_decision": steps / count,
            "spikes_per_hidden_neuron": fired / neurons,
        }


@dataclass(frozen=True)
class WindowTask:
    """A `DeepWindowConfig` as `firstspike.training.supervised` trains it."""

    config: DeepWindowConfig

    def build(self, train: ImageSet) -> WindowNetwork:
        """Return a freshly drawn network."""
        return build_window(self.config, tuple(maps(train.images[:1]).shape[1:]), train.num_classes)

    def optimizer(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        """Return the optimiser of `model`."""
        return _optimizer(self.config, model)

    def augment(self, images: Tensor) -> Tensor:
        """Return training images, changed at random."""
        return _augment(self.config, images)

    def loss(self, model: torch.nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy of the output spikes' times, and the spike penalty."""
        assert isinstance(model, WindowNetwork)
        config = self.config
        model.dtype = getattr(torch, config.precision)
        *values, membrane = model.walk(maps(images))
        times = model.fire(membrane)
        delayed = times + config.label_delay * F.one_hot(labels, times.shape[1])
        loss = first_spike_cross_entropy(
            delayed, labels, config.out_steps, config.sharpness, config.label_smoothing
        )
        if config.spike_penalty:
            hidden = values[1:]
            share = sum(v.sum(dtype=torch.float32) for v in hidden) / sum(v.numel() for v in hidden)
            loss = loss + config.spike_penalty * share
        return loss

    @torch.no_grad()
    def judge(self, model: torch.nn.Module, validation: ImageSet) -> dict[str, Any]:
        """Return the figures of the validation split; ties and silence count as wrong."""
        assert isinstance(model, WindowNetwork)
        config = self.config
        model.eval()
        model.dtype = torch.float32
        score = None
        by_membrane, fired, neurons, first = 0, 0.0, 0.0, 0.0
        for images, labels in _batches(model, validation):
            *values, membrane = model.walk(images)
            times = model.fire(membrane)
            part = STRICT.score(times.cpu(), labels.cpu(), config.out_steps)
            score = part if score is None else score + part
            by_membrane += int((membrane.argmax(1) == labels).sum())
            fired += float(sum((v > 0).sum() for v in values[1:]))
            neurons += float(sum(v.numel() for v in values[1:]))
            first += float(times.min(1).values.sum())
        assert score is not None
        return {
            "validation_accuracy": score.accuracy,
            "validation_accuracy_membrane": by_membrane / len(validation),
            "validation_tie_rate": score.tie_rate,
            "validation_silent_rate": score.silent_rate,
            "output_step": first / len(validation),
            "spikes_per_hidden_neuron": fired / neurons,
        }
