import json
import math
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from firstspike.data import ImageSet, load
from firstspike.metrics import controls
from firstspike.metrics.controls import (
    classification_accuracy_score,
    control_quality,
    mean_image_control,
    quality,
)
from firstspike.metrics.features import Features, feature_network
from firstspike.metrics.generation import frechet_distance, nearest_distances, prdc
from firstspike.support import InputError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Features:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIRSTSPIKE_CACHE", str(tmp_path_factory.mktemp("cache")))
        return feature_network("digits")


@pytest.fixture(scope="module")
def train() -> ImageSet:
    return load("digits", "train")


@pytest.fixture(scope="module")
def held_out() -> ImageSet:
    return load("digits", "test")


# The mean-image control


def test_control_is_black_and_white_with_the_mean_of_the_images() -> None:
    images = torch.randint(0, 256, (50, 4, 5), generator=seeded(), dtype=torch.uint8)
    count = 4000
    control = mean_image_control(images, count, seeded(1))
    assert control.dtype == torch.uint8
    assert control.shape == (count, 4, 5)
    assert set(control.unique().tolist()) == {0, 255}
    probability = images.double().mean(0) / 255
    deviation = (control.double().mean(0) / 255 - probability).abs()
    assert (deviation < 5 * (probability * (1 - probability) / count).sqrt()).all()


def test_control_pixels_are_independent_where_the_images_are_one_stroke() -> None:
    images = torch.zeros(100, 2, 2, dtype=torch.uint8)
    images[:50] = 255
    control = mean_image_control(images, 4000, seeded()).flatten(1).double() / 255
    correlation = torch.corrcoef(control.T)
    assert (correlation - torch.eye(4)).abs().max() < 5 / math.sqrt(4000)


def test_control_of_pixels_that_never_vary_is_certain() -> None:
    images = torch.tensor([[[0, 255]]], dtype=torch.uint8)
    control = mean_image_control(images, 1000, seeded())
    assert torch.equal(control, images.expand(1000, 1, 2))


def test_control_follows_its_generator_alone() -> None:
    images = torch.full((1, 6, 6), 100, dtype=torch.uint8)
    state = torch.get_rng_state()
    drawn = mean_image_control(images, 9, seeded(3))
    assert torch.equal(drawn, mean_image_control(images, 9, seeded(3)))
    assert not torch.equal(drawn, mean_image_control(images, 9, seeded(4)))
    assert torch.equal(torch.get_rng_state(), state)


def test_control_refuses_what_it_cannot_draw() -> None:
    images = torch.zeros(3, 2, 2, dtype=torch.uint8)
    with pytest.raises(InputError, match="count must be at least 1, found 0"):
        mean_image_control(images, 0, seeded())
    with pytest.raises(InputError, match="at least one image"):
        mean_image_control(images[:0], 5, seeded())
    with pytest.raises(TypeError, match="uint8"):
        mean_image_control(images.float(), 5, seeded())


# Quality


def test_quality_of_real_images_is_near_perfect_and_of_the_control_poor(
    features: Features, train: ImageSet, held_out: ImageSet
) -> None:
    count = len(held_out)
    real = quality(train.images[:count], train.labels[:count], held_out, train, features)
    noise = torch.cat(
        [
            mean_image_control(train.of_class(c).images, count // 10, seeded(c))
            for c in range(train.num_classes)
        ]
    )
    labels = torch.arange(10).repeat_interleave(count // 10)
    control = quality(noise, labels, held_out, train, features)
    assert control.frechet_distance > 5 * real.frechet_distance
    assert control.kid > 5 * abs(real.kid)
    assert real.precision > 0.85
    assert real.recall > 0.85
    assert real.density > control.density
    assert real.coverage > control.coverage
    assert real.right_label_rate is not None
    assert real.right_label_rate > 0.97
    assert control.right_label_rate is not None
    assert control.right_label_rate > 0.5
    assert real.diversity == pytest.approx(1, abs=0.1)
    assert control.nearest_train_distance > control.nearest_train_distance_of_real
    assert real.nearest_train_distance_of_real == control.nearest_train_distance_of_real


def test_quality_of_copied_training_images_shows_in_the_nearest_distance(
    features: Features, train: ImageSet, held_out: ImageSet
) -> None:
    result = quality(train.images[:100], None, held_out, train, features)
    assert result.nearest_train_distance == 0
    assert result.nearest_train_distance_of_real > 0.5


def test_quality_is_made_of_the_single_figures_and_says_what_measured_them(
    features: Features, train: ImageSet, held_out: ImageSet
) -> None:
    threes, train_threes = held_out.of_class(3), train.of_class(3)
    drawn = mean_image_control(train_threes.images, 40, seeded())
    result = quality(drawn, torch.full((40,), 3), threes, train_threes, features)
    fake, real = features.features(drawn), features.features(threes.images)
    neighbourhood = prdc(real, fake, k=5)
    assert result.frechet_distance == frechet_distance(fake, real)
    assert result.precision == neighbourhood.precision
    assert result.recall == neighbourhood.recall
    assert result.density == neighbourhood.density
    assert result.coverage == neighbourhood.coverage
    assert result.right_label_rate == np.mean(features.classify(drawn) == 3)
    assert result.nearest_train_distance == (nearest_distances(drawn, train_threes.images).mean())
    assert (result.generated_count, result.reference_count, result.train_count) == (
        40,
        len(threes),
        len(train_threes),
    )
    assert result.neighbours == 5
    assert result.feature_label == "FD, digits-CNN features"
    assert result.feature_accuracy == features.accuracy
    assert result.feature_sha256 == features.sha256


def test_quality_as_a_dict_survives_json(features: Features, train: ImageSet, held_out: ImageSet) -> None:
    result = quality(train.images[:60], None, held_out, train, features)
    assert result.right_label_rate is None
    figures = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert figures == result.as_dict()
    assert list(figures) == [field.name for field in fields(result)]


def test_a_generator_of_one_image_has_no_variety(
    features: Features, train: ImageSet, held_out: ImageSet
) -> None:
    result = quality(train.images[:1].expand(50, -1, -1), None, held_out, train, features)
    assert result.diversity == 0
    assert result.recall == 0
    assert result.frechet_distance > 10


@pytest.mark.parametrize(
    ("images", "labels", "error", "message"),
    [
        (torch.zeros(5, 8, 8, dtype=torch.uint8), None, InputError, "fake must hold at least 6"),
        (
            torch.zeros(9, 28, 28, dtype=torch.uint8),
            None,
            InputError,
            r"takes images of \(8, 8\) pixels, found \(28, 28\)",
        ),
        (
            torch.zeros(9, 8, 8, dtype=torch.uint8),
            torch.zeros(8, dtype=torch.int64),
            InputError,
            r"generated_labels must be \(9,\), one label per image, found \(8,\)",
        ),
        (torch.zeros(9, 8, 8), None, TypeError, "generated images must be a uint8 tensor"),
    ],
)
def test_quality_refuses_what_it_cannot_measure(
    images: Tensor,
    labels: Tensor | None,
    error: type[Exception],
    message: str,
    features: Features,
    train: ImageSet,
    held_out: ImageSet,
) -> None:
    with pytest.raises(error, match=message):
        quality(images, labels, held_out, train, features)


def test_a_second_network_judges_beside_the_first(
    features: Features, train: ImageSet, held_out: ImageSet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FIRSTSPIKE_CACHE", str(tmp_path))
    second = feature_network("digits", judge="second")
    one = quality(train.images[:100], None, held_out, train, features)
    both = quality(train.images[:100], None, held_out, train, features, second)
    assert one.second_frechet_distance is None
    assert both.frechet_distance == one.frechet_distance
    assert both.second_frechet_distance == frechet_distance(
        second.features(train.images[:100]), second.features(held_out.images)
    )
    assert (both.second_feature_accuracy, both.second_feature_sha256) == (second.accuracy, second.sha256)


def test_a_classifier_learns_from_images_only_what_is_in_them(
    features: Features, train: ImageSet, held_out: ImageSet
) -> None:
    """Real images teach it as they taught the feature network, wrong labels nothing."""
    score = classification_accuracy_score(train.images, train.labels, held_out, features)
    assert score["classification_accuracy_score_of_real"] == np.mean(
        features.classify(held_out.images) == held_out.labels.numpy()
    )
    assert score["classification_accuracy_score"] == pytest.approx(
        score["classification_accuracy_score_of_real"], abs=0.02
    )
    wrong = classification_accuracy_score(train.images, train.labels.roll(1), held_out, features)
    assert wrong["classification_accuracy_score"] < 0.3


@pytest.mark.data
@pytest.mark.slow
def test_mnist_network_and_its_controls(
    mnist_dir: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRSTSPIKE_CACHE", str(tmp_path))
    features = feature_network("mnist", mnist_dir)
    assert features.accuracy >= 0.988
    threes = load("mnist", "train", mnist_dir).of_class(3).images
    real = features.features(threes[:4000])
    control = features.features(mean_image_control(threes, 2000, seeded()))
    assert frechet_distance(real[:2000], real[2000:]) < 5
    assert frechet_distance(control, real[:2000]) > 100


def test_controls_are_measured_once_for_the_same_images(
    features: Features, train: ImageSet, held_out: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    threes, sevens = held_out.of_class(3), held_out.of_class(7)
    first = control_quality(threes, train.of_class(3), features)
    other = control_quality(sevens, train.of_class(7), features)
    assert first["real"].frechet_distance != other["real"].frechet_distance
    monkeypatch.setattr(controls, "quality", pytest.fail)
    assert control_quality(threes, train.of_class(3), features) == first
    assert control_quality(sevens, train.of_class(7), features) == other
