"""The training loop of both kinds of GAN.

Per step: the discriminator learns on a batch of real and a batch of generated images, then the
generator learns through the discriminator's new weights on the same generated images.
"""

import copy
import time

import torch
from torch import Tensor

from firstspike.coding import encode_latency, encode_phase
from firstspike.data import ImageSet
from firstspike.losses import gan_targets, temporal_least_squares
from firstspike.models.gan import AnnDiscriminator, AnnGenerator, SpikingDiscriminator, SpikingGenerator
from firstspike.neurons import Causal, Neuron, Phased
from firstspike.nn import Linear, Stack
from firstspike.training.config import GanConfig, Uniform
from firstspike.training.optimizer import (
    expected_tensors,
    load_optimizer,
    module_tensors,
    optimizer_tensors,
    set_rate,
    tensors_under,
    update_average,
)
from firstspike.training.progress import epochs
from firstspike.training.run_folder import RunFolder, RunState
from firstspike.training.seeding import seeded

Generator = SpikingGenerator | AnnGenerator
Discriminator = SpikingDiscriminator | AnnDiscriminator


def build_gan(
    config: GanConfig, image_shape: tuple[int, int], num_classes: int
) -> tuple[Generator, Discriminator]:
    """Return freshly drawn networks; the weights come from torch's global random state."""
    classes = num_classes if config.conditional else 0
    pixels = image_shape[0] * image_shape[1]
    if config.kind == "ann":
        return (
            AnnGenerator(config.noise_size, config.hidden_features, image_shape, classes),
            AnnDiscriminator(pixels, config.hidden_features, classes),
        )
    generator = Stack(
        [
            _layer(
                config,
                config.noise_size + classes,
                config.hidden_features,
                config.hidden_neuron,
                config.hidden_init,
            ),
            _layer(config, config.hidden_features, pixels, config.pixel_neuron, config.pixel_init),
        ]
    )
    critic = config.critic_neuron or config.hidden_neuron
    discriminator = Stack(
        [
            _layer(config, pixels + classes, config.hidden_features, critic, config.hidden_init),
            _layer(config, config.hidden_features, 2, config.verdict_neuron, config.verdict_init),
        ]
    )
    return (
        SpikingGenerator(generator, config.noise_size, image_shape, classes),
        SpikingDiscriminator(discriminator, classes, config.pixel_dropout),
    )


def _layer(config: GanConfig, inputs: int, outputs: int, neuron: Neuron, init: Uniform | None) -> Linear:
    layer = Linear(inputs, outputs, config.num_steps, neuron, bias=not isinstance(neuron, Causal))
    if init is not None:
        torch.nn.init.uniform_(layer.weight, init.low, init.high)
    return layer


def encode_images(config: GanConfig, images: Tensor) -> Tensor:
    """Return images ``(batch, height, width)`` as the networks see them, ``(batch, pixels)``."""
    flat = images.flatten(1)
    if config.kind == "ann":
        return flat.to(torch.float32) / 127.5 - 1
    if isinstance(config.pixel_neuron, Phased):
        return encode_phase(flat, config.pixel_neuron.target, config.num_steps)
    return encode_latency(flat, config.num_steps)


def train_gan(run: RunFolder, data: ImageSet, *, show_progress: bool = True) -> Generator:
    """Train the run's GAN on `data` from where the run stands; return the averaged generator.

    Args:
        run: an open run of a `GanConfig`.
        data: training images; those of ``config.digit`` are used if it is set.
        show_progress: draw a bar on stderr.
    """
    config = run.config
    assert isinstance(config, GanConfig)
    images = data.images if config.digit is None else data.of_class(config.digit).images
    labels = data.labels if config.digit is None else data.of_class(config.digit).labels
    inputs = encode_images(config, images)
    shape = (images.shape[1], images.shape[2])
    with seeded(run.seed, "initial"):
        generator, discriminator = build_gan(config, shape, data.num_classes)
    average = copy.deepcopy(generator)
    optimizers = [
        _optimizer(config, generator, config.generator_rate),
        _optimizer(config, discriminator, config.discriminator_rate),
    ]
    modules = {"generator": generator, "discriminator": discriminator, "average": average}

    state = run.load_state(
        module_tensors(modules)
        | expected_tensors(optimizers[0], "generator_optimizer")
        | expected_tensors(optimizers[1], "discriminator_optimizer")
    )
    if state.epoch:
        run.write_metrics(state)
        for name, module in modules.items():
            module.load_state_dict(tensors_under(state.tensors, name))
        load_optimizer(optimizers[0], state.tensors, "generator_optimizer")
        load_optimizer(optimizers[1], state.tensors, "discriminator_optimizer")

    records = list(state.records)
    steps_per_epoch = max(len(inputs) // config.batch_size, 1)
    for epoch, move_bar in epochs(state.epoch, config.epochs, run.path.name, records, show=show_progress):
        began = time.perf_counter()
        decay = 1 - (1 - config.final_rate) * epoch / max(config.epochs - 1, 1)
        set_rate(optimizers[0], config.generator_rate * decay)
        set_rate(optimizers[1], config.discriminator_rate * decay)
        losses = torch.zeros(2)
        steps = 0
        with seeded(run.seed, "epoch", epoch):
            order = torch.randperm(len(inputs))
            for batch in order.split(config.batch_size):
                if len(batch) < config.batch_size and steps:
                    break
                condition = labels[batch] if config.conditional else None
                losses += _step(config, generator, discriminator, optimizers, inputs[batch], condition)
                update_average(average, generator, config.ema)
                steps += 1
                move_bar(steps / steps_per_epoch)
        generator_loss, discriminator_loss = (losses / steps).tolist()
        records.append(
            {
                "epoch": epoch + 1,
                "generator_loss": generator_loss,
                "discriminator_loss": discriminator_loss,
                "seconds": time.perf_counter() - began,
            }
        )
        tensors = module_tensors(modules)
        tensors |= optimizer_tensors(optimizers[0], "generator_optimizer")
        tensors |= optimizer_tensors(optimizers[1], "discriminator_optimizer")
        run.save_state(RunState(tensors, records))
    run.save_model(average.state_dict())
    return average


def _step(
    config: GanConfig,
    generator: Generator,
    discriminator: Discriminator,
    optimizers: list[torch.optim.Optimizer],
    real: Tensor,
    labels: Tensor | None,
) -> Tensor:
    """Update both networks on one batch; return generator and discriminator loss, ``(2,)``."""
    count = len(real)
    fake = generator(generator.noise(count), labels)
    both = torch.cat([real, fake.detach()])
    both_labels = None if labels is None else torch.cat([labels, labels])

    verdict = discriminator(both, both_labels)
    discriminator_loss = _loss(config, verdict[:count], 1) + _loss(config, verdict[count:], 0)
    optimizers[1].zero_grad()
    discriminator_loss.backward()
    optimizers[1].step()

    discriminator.requires_grad_(False)
    generator_loss = _loss(config, discriminator(fake, labels), 1)
    optimizers[0].zero_grad()
    generator_loss.backward()
    optimizers[0].step()
    discriminator.requires_grad_(True)
    return torch.stack([generator_loss.detach(), discriminator_loss.detach()])


def _loss(config: GanConfig, verdict: Tensor, desired: int) -> Tensor:
    """Least squares towards "real" (1) or "fake" (0), on spike times or on a probability."""
    if config.kind == "ann":
        return 0.5 * (verdict - desired).square().mean()
    neuron = config.verdict_neuron
    first = neuron.target[0] if isinstance(neuron, Phased) else 0
    targets = gan_targets(verdict.detach(), desired, config.num_steps, config.targets, first)
    return temporal_least_squares(verdict, targets, config.num_steps)


def _optimizer(config: GanConfig, module: torch.nn.Module, rate: float) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(module.parameters(), rate, weight_decay=config.weight_decay)
    return torch.optim.Adam(
        module.parameters(), rate, (0.5, 0.999), weight_decay=config.weight_decay, fused=True
    )
