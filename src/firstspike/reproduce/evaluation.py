"""A finished run's figures on the test set. The only place besides the experiments that opens it."""

import math
from pathlib import Path
from typing import Any

import torch

from firstspike.data import ImageSet, dataset, load
from firstspike.functional import phased_parameters
from firstspike.kernels.reference import simulate_causal, simulate_phased, simulate_window
from firstspike.metrics.classification import ClassificationReport, classification_report
from firstspike.metrics.controls import GenerationQuality, mean_image_control, quality
from firstspike.metrics.cost import energy
from firstspike.metrics.deep import DeepReport, deep_report
from firstspike.metrics.features import Features, feature_network
from firstspike.metrics.one_step import OneStepReport, one_step_report
from firstspike.models.gan import SpikingGenerator
from firstspike.models.patches.network import OneStepNetwork
from firstspike.models.raster.network import RasterNetwork
from firstspike.models.spiking_form import spiking_form
from firstspike.models.window import WindowNetwork
from firstspike.neurons import Phased, Window
from firstspike.nn import Linear, Stack
from firstspike.support import InputError
from firstspike.training.classifier import build_classifier, encode_images
from firstspike.training.config import ClassifierConfig, GanConfig
from firstspike.training.deep import build_deep, maps
from firstspike.training.deep_config import DeepConfig, DeepWindowConfig, EttfsConfig, OneStepConfig
from firstspike.training.one_step import build_one_step
from firstspike.training.run_folder import RunFolder
from firstspike.training.sampling import Samples, load_generator, sample

SAMPLE_SEED = 1


def evaluate(run: RunFolder, data_dir: Path | None = None) -> dict[str, Any]:
    """Return every figure of `run` on the test set, ready for JSON.

    Raises:
        InputError: the run is not finished or damaged, or its data set is not to be had.
    """
    header = {
        "run": str(run.path),
        "preset": run.preset,
        "seed": run.seed,
        "dataset": run.config.dataset,
        "split": "test",
    }
    # A run without usable weights is refused before data is fetched or a feature network trained.
    config = run.config
    if isinstance(config, ClassifierConfig):
        load_classifier(run)
        return header | classify(run, load(config.dataset, "test", data_dir)).as_dict()
    if isinstance(config, DeepConfig):
        load_deep(run)
        return header | classify_deeply(run, load(config.dataset, "test", data_dir)).as_dict()
    if isinstance(config, OneStepConfig):
        load_one_step(run)
        return header | classify_in_one_step(run, load(config.dataset, "test", data_dir)).as_dict()
    load_generator(run)
    test, train = generation_sets(config, data_dir)
    features = feature_network(config.dataset, data_dir)
    samples, measured = generate(run, test, train, features)
    controls = {
        name: figures.as_dict()
        for name, figures in control_quality(test, train, features, config.conditional).items()
    }
    return header | measured.as_dict() | generation_cost(run, samples) | {"controls": controls}


def load_classifier(run: RunFolder) -> Stack:
    """Return the run's classifier.

    Raises:
        InputError: the run is no classifier, is not finished or is damaged.
    """
    config = run.config
    if not isinstance(config, ClassifierConfig):
        raise InputError(f"{run.path} holds a GAN ({run.preset}); give the folder of a classifier")
    data = dataset(config.dataset)
    stack = build_classifier(config, math.prod(data.shape), data.classes)
    run.load_model(stack)
    return stack.eval()


def classify(run: RunFolder, images: ImageSet) -> ClassificationReport:
    """Return the accuracy and cost of the run's classifier on `images`."""
    stack = load_classifier(run)
    assert isinstance(run.config, ClassifierConfig)
    times = encode_images(run.config, images.images)
    return classification_report(stack, times, images.labels, images.num_classes)


def load_deep(run: RunFolder) -> RasterNetwork | WindowNetwork:
    """Return the run's deep network.

    Raises:
        InputError: the run is no deep network, is not finished or is damaged.
    """
    config = run.config
    if not isinstance(config, EttfsConfig | DeepWindowConfig):
        raise InputError(f"{run.path} holds no deep network ({run.preset}); give the folder of one")
    data = dataset(config.dataset)
    network = build_deep(config, data.shape, data.classes)
    run.load_model(network)
    return network.eval()


def classify_deeply(run: RunFolder, images: ImageSet) -> DeepReport:
    """Return the accuracy and cost of the run's deep network on `images`."""
    return deep_report(spiking_form(load_deep(run)), maps(images.images), images.labels)


def load_one_step(run: RunFolder) -> OneStepNetwork:
    """Return the run's one-step network.

    Raises:
        InputError: the run is no one-step network, is not finished or is damaged.
    """
    config = run.config
    if not isinstance(config, OneStepConfig):
        raise InputError(f"{run.path} holds no one-step network ({run.preset}); give the folder of one")
    data = dataset(config.dataset)
    network = build_one_step(config, data.shape, data.classes)
    run.load_model(network)
    return network.eval()


def classify_in_one_step(run: RunFolder, images: ImageSet) -> OneStepReport:
    """Return the accuracy and cost of the run's one-step network on `images`."""
    return one_step_report(load_one_step(run), maps(images.images), images.labels)


def generation_sets(config: GanConfig, data_dir: Path | None) -> tuple[ImageSet, ImageSet]:
    """Return the test and training images of the classes that a GAN generates."""
    test, train = load(config.dataset, "test", data_dir), load(config.dataset, "train", data_dir)
    if config.digit is None:
        return test, train
    return test.of_class(config.digit), train.of_class(config.digit)


def generate(
    run: RunFolder, test: ImageSet, train: ImageSet, features: Features
) -> tuple[Samples, GenerationQuality]:
    """Return as many samples as there are test images, and their quality."""
    samples = sample(load_generator(run), len(test), SAMPLE_SEED)
    labels = samples.labels
    if isinstance(run.config, GanConfig) and run.config.digit is not None:
        labels = torch.full((len(test),), run.config.digit)
    asked = labels if int(labels.min()) >= 0 else None
    return samples, quality(samples.images, asked, test, train, features)


def control_quality(
    test: ImageSet, train: ImageSet, features: Features, conditional: bool
) -> dict[str, GenerationQuality]:
    """Return the quality of the two controls: real held-in images, and pixels of the class mean.

    "real": as many training images as there are test images. "mean image": independent pixels drawn
    from each class's mean image, which is right to every classifier and wrong to every eye.
    """
    count = len(test)
    source = torch.Generator().manual_seed(SAMPLE_SEED)
    chosen = torch.randperm(len(train), generator=source)[:count]
    classes = [int(c) for c in train.labels.unique()]
    parts = [train.of_class(c).images for c in classes]
    shares = [count // len(classes) + (i < count % len(classes)) for i in range(len(classes))]
    drawn = torch.cat(
        [mean_image_control(part, share, source) for part, share in zip(parts, shares, strict=True)]
    )
    asked = torch.cat([torch.full((share,), c) for c, share in zip(classes, shares, strict=True)])
    # Training images would find themselves as nearest neighbours; the rest of the set is searched.
    rest = torch.ones(len(train), dtype=torch.bool)
    rest[chosen] = False
    others = ImageSet(train.name, train.split, train.images[rest], train.labels[rest], train.num_classes)
    return {
        "real": quality(train.images[chosen], train.labels[chosen], test, others, features),
        "mean image": quality(drawn, asked, test, train, features),
    }


@torch.no_grad()
def generation_cost(run: RunFolder, samples: Samples) -> dict[str, Any]:
    """Return spikes, steps and energy per generated image; empty for an ordinary network."""
    generator = load_generator(run)
    if not isinstance(generator, SpikingGenerator):
        return {}
    stack = generator.stack
    spikes = samples.spikes.to(torch.float32)
    neurons = torch.tensor([float(math.prod(shape)) for shape in stack.shapes()])
    per_neuron = spikes / neurons
    cost = energy(stack, float(samples.synops.mean()))
    return {
        "spikes_per_image": float(spikes.sum(1).mean()),
        "spikes_per_image_by_layer": spikes.mean(0).tolist(),
        "active_share_max": float(per_neuron.max()),
        "stepped_agreement": stepped_agreement(generator),
        "steps_per_image": stack.last_step,
        "synops": cost.synops,
        "membrane_updates": cost.updates,
        "energy_pj": cost.spiking_pj,
        "dense_energy_pj": cost.dense_pj,
    }


def stepped_agreement(generator: SpikingGenerator, count: int = 4) -> float:
    """Return the share of spike times that a step-by-step simulation of `count` images gives too.

    The simulators of `firstspike.kernels.reference` fire a neuron once and then hold it, step by step.
    The rest, if any, are membranes within rounding of a step's boundary.
    """
    source = torch.Generator().manual_seed(SAMPLE_SEED)
    labels = torch.arange(count) % generator.num_classes if generator.num_classes else None
    traced = generator.trace(generator.noise(count, source), labels)
    equal = total = 0
    for layer, inputs, outputs in zip(generator.stack, traced, traced[1:], strict=False):
        assert isinstance(layer, Linear)
        equal += int((simulate_layer(layer, inputs) == outputs).sum())
        total += outputs.numel()
    return equal / total


def simulate_layer(layer: Linear, times: torch.Tensor) -> torch.Tensor:
    """Return the spike times of a layer by the step-by-step simulator of its neuron, in float64."""
    weight = layer.weight.detach().double()
    bias = None if layer.bias is None else layer.bias.detach().double()
    if isinstance(layer.neuron, Window):
        return simulate_window(times, weight, bias, layer.num_steps, layer.neuron)
    if isinstance(layer.neuron, Phased):
        currents, threshold = phased_parameters(weight, bias, layer.neuron)
        return simulate_phased(times, currents, threshold, layer.num_steps, layer.neuron)
    return simulate_causal(times, layer.weight.detach(), layer.num_steps, layer.neuron)
