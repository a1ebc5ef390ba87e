"""The quality of generated images in one value, and the control that it must beat."""

from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from firstspike.data import ImageSet
from firstspike.data.own_data import fingerprint
from firstspike.metrics.features import Features, train_features
from firstspike.metrics.generation import (
    check_images,
    feature_diversity,
    frechet_distance,
    kernel_distance,
    nearest_distances,
    prdc,
)
from firstspike.support import InputError

# k of precision, recall, density and coverage: the default of Naeem et al. 2020.
NEIGHBOURS = 5

_NEAREST_COUNT = 2_000

_SEED = 1

# They are figures of the images alone, and take as long as those of a generator.
_measured: dict[tuple[str, ...], dict[str, "GenerationQuality"]] = {}


def mean_image_control(images: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return `count` images whose pixels are drawn independently with the mean of `images`.

    A pixel is 255 with probability mean / 255, else 0. Give the images of one class: such noise
    keeps the class's average shape, a classifier takes most of it for that class, and yet no
    stroke hangs together. A generator that does not clearly beat it has learned nothing.

    Args:
        images: uint8 ``(images, height, width)`` of one class, or with channels.
        count: how many to draw.
        generator: draws them; its device is where the drawing happens.

    Returns:
        uint8 ``(count, ...)`` on the device of `images`.

    Raises:
        TypeError: `images` is not a uint8 tensor.
        InputError: no image, or a count below 1.
    """
    check_images(images, "images")
    if count < 1:
        raise InputError(f"count must be at least 1, found {count}")
    probability = images.to(torch.float64).mean(0).to(generator.device) / 255
    draws = torch.rand(
        (count, *probability.shape),
        generator=generator,
        device=generator.device,
        dtype=torch.float64,
    )
    return ((draws < probability) * 255).to(torch.uint8).to(images.device)


@dataclass(frozen=True)
class GenerationQuality:
    """Every figure about one set of generated images, with what it was measured by.

    Attributes:
        frechet_distance: in the features of `feature_label`; lower is better.
        kid: kernel distance, about 0 for real images; lower is better.
        precision: fraction of generated images that look real.
        recall: fraction of real images that the generator covers.
        density: how deep among real images the generated ones lie, about 1 for real images.
        coverage: fraction of real images with a generated one near.
        right_label_rate: fraction classified as their label; None when unconditional. High for
            the mean image control too: no measure of quality alone.
        diversity: mean pairwise feature distance, generated over real.
        nearest_train_distance: mean distance of generated images to the nearest training image,
            pixels 0 ... 1; of at most 2,000 images, evenly picked.
        nearest_train_distance_of_real: the same of the reference images, the control.
        generated_count: generated images measured.
        reference_count: reference images they were measured against.
        train_count: training images searched for the nearest.
        neighbours: k of precision, recall, density and coverage.
        feature_label: what the Frechet distance is called.
        feature_accuracy: of the feature network, on its validation split.
        feature_sha256: of the feature network's weights.
        second_frechet_distance: in the features of a second network, of another architecture; None if
            nobody asked for it.
        second_feature_accuracy, second_feature_sha256: of that network.
    """

    frechet_distance: float
    kid: float
    precision: float
    recall: float
    density: float
    coverage: float
    right_label_rate: float | None
    diversity: float
    nearest_train_distance: float
    nearest_train_distance_of_real: float
    generated_count: int
    reference_count: int
    train_count: int
    neighbours: int
    feature_label: str
    feature_accuracy: float
    feature_sha256: str
    second_frechet_distance: float | None = None
    second_feature_accuracy: float | None = None
    second_feature_sha256: str | None = None

    def as_dict(self) -> dict[str, float | int | str | None]:
        """Return the figures by name, ready for JSON."""
        return asdict(self)


def quality(
    generated: Tensor,
    generated_labels: Tensor | None,
    real: ImageSet,
    train: ImageSet,
    features: Features,
    second: Features | None = None,
) -> GenerationQuality:
    """Return every quality figure of `generated` against the held-out images `real`.

    All distances depend on the sample counts: compare figures of equal `generated_count` and
    `reference_count` only, and choose as many generated images as there are real ones.

    Args:
        generated: uint8 ``(count, height, width)``, of colour ``(count, channels, height, width)``.
        generated_labels: the class each was asked for, int64 ``(count,)``; None when unconditional.
        real: the reference, images that no generator was trained on, of the classes generated.
        train: the generator's training images, for the nearest-image distances.
        features: the feature network.
        second: another one.

    Raises:
        TypeError: images that are not uint8 tensors.
        InputError: fewer than 6 generated or real images, image sizes that differ, or
            as many labels as images are not given.
    """
    check_images(generated, "generated images")
    if generated_labels is not None and generated_labels.shape != generated.shape[:1]:
        raise InputError(
            f"generated_labels must be ({len(generated)},), one label per image, "
            f"found {tuple(generated_labels.shape)}"
        )
    fake, reference = features.features(generated), features.features(real.images)
    neighbourhood = prdc(reference, fake, k=NEIGHBOURS)
    right_label_rate = None
    if generated_labels is not None:
        right = features.classify(generated) == generated_labels.cpu().numpy()
        right_label_rate = float(right.mean())
    measured = GenerationQuality(
        frechet_distance=frechet_distance(fake, reference),
        kid=kernel_distance(fake, reference),
        precision=neighbourhood.precision,
        recall=neighbourhood.recall,
        density=neighbourhood.density,
        coverage=neighbourhood.coverage,
        right_label_rate=right_label_rate,
        diversity=feature_diversity(fake, reference),
        nearest_train_distance=float(nearest_distances(_spread(generated), train.images).mean()),
        nearest_train_distance_of_real=float(nearest_distances(_spread(real.images), train.images).mean()),
        generated_count=len(generated),
        reference_count=len(real),
        train_count=len(train),
        neighbours=NEIGHBOURS,
        feature_label=features.label,
        feature_accuracy=features.accuracy,
        feature_sha256=features.sha256,
    )
    if second is None:
        return measured
    return replace(
        measured,
        second_frechet_distance=frechet_distance(second.features(generated), second.features(real.images)),
        second_feature_accuracy=second.accuracy,
        second_feature_sha256=second.sha256,
    )


def classification_accuracy_score(
    generated: Tensor, labels: Tensor, test: ImageSet, features: Features
) -> dict[str, float]:
    """Return how useful generated images are: to train a classifier on, which is tested on real ones.

    The classifier is the feature network's architecture, trained from the start as that one was.

    Args:
        generated: uint8 ``(count, height, width)``, of colour ``(count, channels, height, width)``.
        labels: the class each was asked for, int64 ``(count,)``.
        test: real images.
        features: trained on the real training images, which is the control.

    Returns:
        The shares of `test` that both classify right, under the names of their figures.

    Source: Ravuri & Vinyals 2019, "Classification accuracy score for conditional generative models".
    """
    drawn = ImageSet(test.name, "generated", generated, labels, test.num_classes)
    real = features.classify(test.images) == test.labels.numpy()
    return {
        "classification_accuracy_score": train_features(drawn, test, features.network.judge).accuracy,
        "classification_accuracy_score_of_real": float(real.mean()),
    }


def control_quality(
    test: ImageSet, train: ImageSet, features: Features, second: Features | None = None
) -> dict[str, GenerationQuality]:
    """Return the quality of the two controls: training images, and pixels of the class mean.

    "real": as many training images as there are test images. "mean image": independent pixels drawn
    from each class's mean image, which is right to every classifier and wrong to every eye. Both are
    measured once for the same images and networks.
    """
    images = fingerprint([test.images, test.labels, train.images, train.labels])
    key = (images, *(network.sha256 for network in (features, second) if network))
    if key not in _measured:
        _measured[key] = _control_quality(test, train, features, second)
    return _measured[key]


def _control_quality(
    test: ImageSet, train: ImageSet, features: Features, second: Features | None
) -> dict[str, GenerationQuality]:
    count = len(test)
    source = torch.Generator().manual_seed(_SEED)
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
        "real": quality(train.images[chosen], train.labels[chosen], test, others, features, second),
        "mean image": quality(drawn, asked, test, train, features, second),
    }


def _spread(images: Tensor) -> Tensor:
    """At most `_NEAREST_COUNT` of the images, evenly picked: each is compared with all of training."""
    return images[:: -(-len(images) // _NEAREST_COUNT)]
