"""The small CNN whose features measure generated images.

There is no agreed feature network for 28x28 images, so figures measured with this one compare only
with each other: every result carries its accuracy and the hash of its weights. Those of MNIST and
Fashion-MNIST come with the package, made by ``tools/feature_networks.py``;
for other data one is trained once and cached.
"""

import hashlib
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from firstspike.data import Dataset, ImageSet, load
from firstspike.data.own_data import OwnData
from firstspike.metrics.generation import check_images
from firstspike.support import InputError, atomic_path, cache_dir

logger = logging.getLogger(__name__)

NUM_FEATURES = 64
# In the cache file: raise it with any change to the network, its training or the data's split.
ARCHITECTURE_VERSION = 2

Judge = Literal["first", "second"]
_SEEDS: dict[Judge, int] = {"first": 0, "second": 1}
_BATCH = 64
_MIN_EPOCHS = 4
_MIN_STEPS = 600
_LEARNING_RATE = 3e-3
_INFERENCE_BATCH = 512
# Weights of 16 bits, which are the network: a training gives others on every kind of processor.
SHIPPED = Path(__file__).parent / "networks"
_WITH_PACKAGE = ("mnist", "fashion-mnist")
_TITLES = {"digits": "digits", "mnist": "MNIST", "fashion-mnist": "Fashion-MNIST"}


def feature_label(dataset: str, judge: Judge = "first") -> str:
    """Return what a Frechet distance in these features is called: "FD, MNIST-CNN features"."""
    again = "" if judge == "first" else " of a second network"
    return f"FD, {_TITLES.get(dataset, dataset)}-CNN features{again}"


class FeatureNetwork(nn.Module):
    """Two convolutions, 64 ReLU features, one linear read-out.

    Without batch norm: with it a faint speckle, which the eye hardly sees, counts three times as
    much, and noise falls far outside anything the network knows. Images of 16x16 and more are
    halved by both convolutions, smaller ones by the first only.

    Args:
        image_shape: ``(height, width)`` or ``(channels, height, width)``, at least 4 by 4.
        num_classes: of the read-out.
        judge: "first": 3 x 3, the largest of 2 x 2 places, ReLU; "second", so that no recipe is tuned to
            one network's features: 5 x 5 in strides of 2, ELU, half as many maps again.

    Raises:
        ValueError: images smaller than 4 by 4, or fewer than 2 classes.
    """

    def __init__(self, image_shape: tuple[int, ...], num_classes: int, judge: Judge = "first") -> None:
        super().__init__()
        if min(image_shape[-2:]) < 4 or num_classes < 2:
            raise ValueError(
                f"need images of at least 4x4 and 2 classes, found {image_shape}, {num_classes}"
            )
        self.image_shape, self.num_classes, self.judge = image_shape, num_classes, judge
        self.halvings = 2 if min(image_shape[-2:]) >= 16 else 1
        channels = image_shape[0] if len(image_shape) == 3 else 1
        if judge == "first":
            self.conv1 = nn.Conv2d(channels, 16, 3, padding=1)
            self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
            height, width = (side // 2**self.halvings for side in image_shape[-2:])
        else:
            self.conv1 = nn.Conv2d(channels, 24, 5, stride=2, padding=2)
            self.conv2 = nn.Conv2d(24, 48, 5, stride=self.halvings, padding=2)
            height, width = (-(-side // 2**self.halvings) for side in image_shape[-2:])
        self.hidden = nn.Linear(self.conv2.out_channels * height * width, NUM_FEATURES)
        self.readout = nn.Linear(NUM_FEATURES, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """Return the features, float32 ``(batch, 64)``, >= 0, of uint8 ``(batch, *image_shape)``.

        Images stand for intensities 0 ... 1.
        """
        x = (images.unsqueeze(1) if images.dim() == 3 else images).to(torch.float32) / 255
        if self.judge == "second":
            x = functional.elu(self.conv2(functional.elu(self.conv1(x))))
        else:
            x = functional.relu(functional.max_pool2d(self.conv1(x), 2))
            x = self.conv2(x)
            if self.halvings == 2:
                x = functional.max_pool2d(x, 2)
            x = functional.relu(x)
        return functional.relu(self.hidden(x.flatten(1)))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits ``(batch, num_classes)`` of uint8 ``(batch, *image_shape)``."""
        return self.readout(self.features(images))


@dataclass(frozen=True)
class Features:
    """A trained feature network with what a reader needs to know of it.

    Attributes:
        network: trained, on the CPU, in evaluation mode.
        dataset: the data it was trained on.
        accuracy: fraction of the validation split it classifies right.
        sha256: of its weights.
    """

    network: FeatureNetwork
    dataset: str
    accuracy: float
    sha256: str

    @property
    def label(self) -> str:
        """What a Frechet distance in these features is called."""
        return feature_label(self.dataset, self.network.judge)

    def features(self, images: Tensor) -> NDArray[np.float32]:
        """Return the features, float32 ``(count, 64)``, of uint8 images ``(count, *image_shape)``.

        Raises:
            TypeError: not a uint8 tensor.
            InputError: no image, or not the size of the network's images.
        """
        return self._batched(self.network.features, images).numpy()

    def classify(self, images: Tensor) -> NDArray[np.int64]:
        """Return the likeliest class, int64 ``(count,)``, of uint8 ``(count, *image_shape)``.

        Raises:
            TypeError: not a uint8 tensor.
            InputError: no image, or not the size of the network's images.
        """
        return self._batched(self.network, images).argmax(1).numpy()

    def _batched(self, function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        check_images(images, "images")
        if tuple(images.shape[1:]) != self.network.image_shape:
            raise InputError(
                f"the {self.dataset} feature network takes images of {self.network.image_shape} "
                f"pixels, found {tuple(images.shape[1:])}"
            )
        with torch.no_grad(), _one_thread():
            return torch.cat([function(batch) for batch in images.cpu().split(_INFERENCE_BATCH)])


def feature_network(
    dataset: str | Dataset, data_dir: str | Path | None = None, judge: Judge = "first"
) -> Features:
    """Return the feature network of `dataset`: the package's, from the cache, or else trained now.

    Training takes under a minute on one core for 50,000 small images. It has a fixed seed of its
    own and runs on one thread, so the same machine and versions give the same weights; the global
    random state stays as it was. A cache file that cannot be used is replaced, and a cache that
    cannot be written costs the training again next time: both are logged as warnings.

    Args:
        dataset: what `firstspike.data.load` takes; for a `Dataset` that `firstspike.data.own` did not make
            nothing is cached.
        data_dir: the folder of the data, as `firstspike.data.load` takes it; looked at for a training
            only.
        judge: which of two architectures, see `FeatureNetwork`.

    Raises:
        InputError: the data cannot be had (from `firstspike.data.load`).
        OSError: the data cannot be read.
    """
    if isinstance(dataset, OwnData):
        key = f"own-{dataset.sha256[:16]}"
    elif isinstance(dataset, Dataset):
        return _trained(dataset, data_dir, judge)
    else:
        key = dataset
    if key in _WITH_PACKAGE:
        return _read(SHIPPED / _file(key, judge), key, judge)
    path = cache_dir() / "features" / _file(key, judge)
    try:
        return replace(_read(path, key, judge), dataset=str(dataset))
    except FileNotFoundError:
        pass
    except (safetensors.SafetensorError, OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        logger.warning("%s cannot be used, training it anew: %s", path, reason)
    logger.info("training the feature network of %s, once", dataset)
    features = _trained(dataset, data_dir, judge)
    try:
        _write(path, replace(features, dataset=key))
    except OSError as error:
        logger.warning("the feature network of %s could not be cached: %s", dataset, error)
    return features


def _trained(dataset: str | Dataset, data_dir: str | Path | None, judge: Judge) -> Features:
    return train_features(load(dataset, "train", data_dir), load(dataset, "validation", data_dir), judge)


def _file(dataset: str, judge: Judge) -> str:
    return f"{dataset}.safetensors" if judge == "first" else f"{dataset}-{judge}.safetensors"


def _untrained(image_shape: tuple[int, ...], num_classes: int, judge: Judge) -> FeatureNetwork:
    # The layers' own initialisation draws from the global generator, and under a caller's
    # inference_mode parameters could not be trained.
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
        return FeatureNetwork(image_shape, num_classes, judge)


def train_features(train: ImageSet, validation: ImageSet, judge: Judge = "first") -> Features:
    """Return a freshly trained feature network.

    Args:
        train: what it learns to classify.
        validation: of which its accuracy is.
        judge: see `FeatureNetwork`.
    """
    generator = torch.Generator().manual_seed(_SEEDS[judge])
    network = _untrained(tuple(train.images.shape[1:]), train.num_classes, judge)
    # A caller's no_grad or inference_mode must not reach the training.
    with _one_thread(), torch.inference_mode(False):
        for parameter in network.parameters():
            if parameter.dim() == 1:
                nn.init.zeros_(parameter)
            else:
                bound = parameter[0].numel() ** -0.5
                nn.init.uniform_(parameter, -bound, bound, generator=generator)
        steps_per_epoch = math.ceil(len(train) / _BATCH)
        epochs = max(_MIN_EPOCHS, math.ceil(_MIN_STEPS / steps_per_epoch))
        optimizer = torch.optim.Adam(network.parameters())
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, _LEARNING_RATE, total_steps=epochs * steps_per_epoch
        )
        for _ in range(epochs):
            for chosen in torch.randperm(len(train), generator=generator).split(_BATCH):
                loss = functional.cross_entropy(network(train.images[chosen]), train.labels[chosen])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return _measured(network.eval(), validation)


def _measured(network: FeatureNetwork, validation: ImageSet) -> Features:
    """The network with its accuracy on these images."""
    features = Features(network, validation.name, accuracy=0.0, sha256=_weights_sha256(network))
    right = features.classify(validation.images) == validation.labels.numpy()
    return replace(features, accuracy=float(right.mean()))


def ship(folder: Path, data_dir: Path, datasets: Sequence[str] = _WITH_PACKAGE) -> None:
    """Train the networks that come with the package, and write them rounded to 16 bits."""
    for dataset, judge in product(datasets, _SEEDS):
        train, validation = (load(dataset, split, data_dir) for split in ("train", "validation"))
        network = train_features(train, validation, judge).network
        rounded = _measured(network.half().float(), validation)
        _write(folder / _file(dataset, judge), rounded, torch.float16)


def _read(path: Path, dataset: str, judge: Judge) -> Features:
    with safetensors.safe_open(path, framework="pt") as file:
        found = file.metadata() or {}
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for name, expected in {"version": str(ARCHITECTURE_VERSION), "dataset": dataset}.items():
        if found.get(name) != expected:
            raise ValueError(f"its {name} is {found.get(name)}, expected {expected}")
    try:
        image_shape = tuple(int(side) for side in found["image_shape"].split())
        network = _untrained(image_shape, int(found["num_classes"]), judge)
        accuracy, expected = float(found["accuracy"]), found["sha256"]
    except KeyError as error:
        raise ValueError(f"it does not say its {error}") from error
    network.load_state_dict(weights)
    sha256 = _weights_sha256(network)
    if sha256 != expected:
        raise ValueError(f"its weights have the sha256 {sha256}, expected {expected}")
    return Features(network.eval(), dataset, accuracy, sha256)


def _write(path: Path, features: Features, dtype: torch.dtype = torch.float32) -> None:
    metadata = {
        "version": ARCHITECTURE_VERSION,
        "dataset": features.dataset,
        "image_shape": " ".join(map(str, features.network.image_shape)),
        "num_classes": features.network.num_classes,
        "accuracy": features.accuracy,
        "sha256": features.sha256,
    }
    content = safetensors.torch.save(
        {name: weight.to(dtype) for name, weight in features.network.state_dict().items()},
        {name: str(value) for name, value in metadata.items()},
    )
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def _weights_sha256(network: FeatureNetwork) -> str:
    digest = hashlib.sha256()
    for name, weight in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(weight.shape)}".encode())
        digest.update(weight.numpy().astype("<f4").tobytes())
    return digest.hexdigest()


@contextmanager
def _one_thread() -> Iterator[None]:
    # Sums split over threads round differently; the caller's thread count must not reach results.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
