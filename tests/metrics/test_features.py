import logging
import os
import re
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch.nn import functional

from firstspike.data import ImageSet, load
from firstspike.data.own_data import own
from firstspike.metrics import features as module
from firstspike.metrics.features import (
    NUM_FEATURES,
    FeatureNetwork,
    Features,
    Judge,
    feature_label,
    feature_network,
)
from firstspike.support import InputError


@pytest.fixture(scope="module")
def digits_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def digits(digits_cache: Path) -> Features:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIRSTSPIKE_CACHE", str(digits_cache))
        return feature_network("digits")


@pytest.fixture
def trainings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: Features
) -> list[tuple[ImageSet, ImageSet]]:
    """An empty cache, and a training that only hands out the digits' network and is counted."""
    calls = []

    def train(*splits: ImageSet) -> Features:
        calls.append(splits)
        return digits

    monkeypatch.setenv("FIRSTSPIKE_CACHE", str(tmp_path))
    monkeypatch.setattr(module, "train_features", train)
    return calls


def cache_file(folder: Path) -> Path:
    return folder / "features" / "digits.safetensors"


def test_the_network_of_the_digits_knows_them(digits: Features) -> None:
    validation = load("digits", "validation")
    assert digits.accuracy >= 0.96
    assert np.mean(digits.classify(validation.images) == validation.labels.numpy()) == (digits.accuracy)
    test = load("digits", "test")
    assert np.mean(digits.classify(test.images) == test.labels.numpy()) >= 0.94
    assert digits.dataset == "digits"
    assert not digits.network.training


def test_features_and_classes_have_their_types_and_follow_the_layers(digits: Features) -> None:
    images = load("digits", "validation").images[:7]
    features, classes = digits.features(images), digits.classify(images)
    assert features.dtype == np.float32
    assert features.shape == (7, NUM_FEATURES)
    assert features.min() == 0
    assert classes.dtype == np.int64
    assert classes.shape == (7,)
    weights = digits.network.state_dict()
    x = images.unsqueeze(1).double() / 255
    for layer in ("conv1", "conv2"):
        weight, bias = weights[f"{layer}.weight"].double(), weights[f"{layer}.bias"].double()
        x = functional.conv2d(x, weight, bias, padding=1).clamp(min=0)
        if layer == "conv1":
            x = x.reshape(*x.shape[:2], 4, 2, 4, 2).amax((3, 5))
    hidden = x.flatten(1) @ weights["hidden.weight"].double().T + weights["hidden.bias"]
    np.testing.assert_allclose(features, hidden.clamp(min=0), rtol=1e-4, atol=1e-4)
    logits = hidden.clamp(min=0) @ weights["readout.weight"].double().T + weights["readout.bias"]
    np.testing.assert_array_equal(classes, logits.argmax(1))


def test_features_do_not_depend_on_the_batch_or_the_threads(
    digits: Features, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = load("digits", "validation").images
    whole = digits.features(images)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        np.testing.assert_array_equal(digits.features(images), whole)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    monkeypatch.setattr(module, "_INFERENCE_BATCH", 37)
    np.testing.assert_allclose(digits.features(images), whole, rtol=1e-5, atol=1e-5)


def test_training_again_gives_the_same_weights_whatever_the_surroundings(
    digits: Features, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRSTSPIKE_CACHE", str(tmp_path))
    threads = torch.get_num_threads()
    torch.manual_seed(123)
    state = torch.get_rng_state()
    torch.set_num_threads(2)
    try:
        with torch.inference_mode():
            again = feature_network("digits")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert again.sha256 == digits.sha256
    assert again.accuracy == digits.accuracy
    assert torch.equal(torch.get_rng_state(), state)
    for name, weight in again.network.state_dict().items():
        assert torch.equal(weight, digits.network.state_dict()[name])


def test_the_hash_changes_with_any_weight(digits: Features) -> None:
    network = FeatureNetwork((8, 8), 10)
    network.load_state_dict(digits.network.state_dict())
    assert module._weights_sha256(network) == digits.sha256
    with torch.no_grad():
        network.readout.bias[9] += 1e-6
    assert module._weights_sha256(network) != digits.sha256


def test_the_cache_is_used_without_training_or_data(
    digits: Features, digits_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("the cache was not used")

    monkeypatch.setenv("FIRSTSPIKE_CACHE", str(digits_cache))
    monkeypatch.setattr(module, "train_features", fail)
    monkeypatch.setattr(module, "load", fail)
    state = torch.get_rng_state()
    cached = feature_network("digits")
    assert replace(cached, network=digits.network) == digits
    images = load("digits", "test").images
    np.testing.assert_array_equal(cached.features(images), digits.features(images))
    assert torch.equal(torch.get_rng_state(), state)
    assert [path.name for path in (digits_cache / "features").iterdir()] == ["digits.safetensors"]


def test_data_of_ones_own_are_learnt_once_whatever_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRSTSPIKE_CACHE", str(tmp_path))
    test = load("digits", "test")
    data = test.images, test.labels
    learnt = feature_network(own(data, name="one"))
    train_features = module.train_features
    monkeypatch.setattr(module, "train_features", lambda *_: 1 / 0)
    again = feature_network(own(data, name="other"))
    assert (learnt.dataset, again.dataset, again.sha256) == ("one", "other", learnt.sha256)

    monkeypatch.setattr(module, "train_features", train_features)
    fewer = feature_network(own((test.images[1:], test.labels[1:]), name="one"))
    assert fewer.sha256 != learnt.sha256
    assert len(list((tmp_path / "features").iterdir())) == 2


def with_metadata(content: bytes, folder: Path, **changes: str) -> bytes:
    path = folder / "changed.safetensors"
    path.write_bytes(content)
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata() | changes
    weights = safetensors.torch.load(content)
    return safetensors.torch.save(weights, {k: v for k, v in metadata.items() if v})


def with_other_weights(content: bytes, folder: Path) -> bytes:
    at = len(content) - 4
    return content[:at] + bytes(byte ^ 1 for byte in content[at:])


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda content, _: b"", "header"),
        (lambda content, _: b"\x80\x04 no safetensors at all", "header"),
        (lambda content, _: content[: len(content) // 2], "incomplete|invalid|buffer|file"),
        (with_other_weights, "its weights have the sha256"),
        (lambda c, d: with_metadata(c, d, version="0"), "its version is 0, expected"),
        (lambda c, d: with_metadata(c, d, dataset="mnist"), "its dataset is mnist, expected digits"),
        (lambda c, d: with_metadata(c, d, accuracy=""), "it does not say its 'accuracy'"),
        (lambda c, d: with_metadata(c, d, image_shape="8 many"), "invalid literal"),
        (lambda c, d: with_metadata(c, d, num_classes="11"), "loading state_dict"),
        (lambda c, d: safetensors.torch.save({"x": torch.zeros(1)}), "its version is None"),
    ],
)
def test_a_cache_file_that_cannot_be_used_is_said_and_replaced(  # type: ignore[no-untyped-def]
    spoil,
    reason: str,
    digits: Features,
    digits_cache: Path,
    tmp_path: Path,
    trainings: list[tuple[ImageSet, ImageSet]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    good = cache_file(digits_cache).read_bytes()
    path = cache_file(tmp_path)
    path.parent.mkdir()
    path.write_bytes(spoil(good, tmp_path))
    with caplog.at_level(logging.WARNING):
        assert feature_network("digits") is digits
    (message,) = caplog.messages
    assert str(path) in message
    assert "cannot be used" in message
    assert re.search(reason, message)
    assert "\n" not in message
    assert len(trainings) == 1
    assert feature_network("digits").sha256 == digits.sha256
    assert len(trainings) == 1


def test_training_takes_the_train_and_the_validation_split(
    trainings: list[tuple[ImageSet, ImageSet]],
) -> None:
    feature_network("digits")
    train, validation, *_ = trainings[0]
    assert (train.split, validation.split) == ("train", "validation")


def test_a_cache_that_cannot_be_written_is_said_and_leaves_no_half_file(
    digits: Features,
    tmp_path: Path,
    trainings: list[tuple[ImageSet, ImageSet]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with caplog.at_level(logging.WARNING):
        assert feature_network("digits") is digits
    assert caplog.messages == [
        "the feature network of digits could not be cached: [Errno 28] No space left on device: "
        f"'{tmp_path / 'features' / 'digits.safetensors'}'"
    ]
    assert list((tmp_path / "features").iterdir()) == []


def test_writers_and_readers_at_once_never_meet_half_a_file(digits: Features, tmp_path: Path) -> None:
    path = tmp_path / "features" / "digits.safetensors"
    module._write(path, digits)
    failures = []

    def work(act) -> None:  # type: ignore[no-untyped-def]
        try:
            for _ in range(20):
                act()
        except Exception as error:
            failures.append(error)

    acts = [lambda: module._write(path, digits), lambda: module._read(path, "digits", "first")] * 2
    threads = [threading.Thread(target=work, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.slow
def test_two_processes_that_train_at_once_agree(digits: Features, tmp_path: Path) -> None:
    code = (
        "from firstspike.metrics.features import feature_network; print(feature_network('digits').sha256)"
    )
    environment = os.environ | {
        "FIRSTSPIKE_CACHE": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    processes = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=120)[0].decode().strip() for process in processes]
    assert outputs == [digits.sha256] * 2
    assert list((tmp_path / "features").iterdir()) == [cache_file(tmp_path)]


@pytest.mark.parametrize("judge", ["first", "second"])
@pytest.mark.parametrize("dataset", ["mnist", "fashion-mnist"])
def test_the_packages_networks_need_neither_data_nor_cache(
    dataset: str, judge: Judge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("the package's network was not used")

    monkeypatch.setenv("FIRSTSPIKE_CACHE", str(tmp_path))
    monkeypatch.setattr(module, "train_features", fail)
    monkeypatch.setattr(module, "load", fail)
    found = feature_network(dataset, judge=judge)
    assert (found.dataset, found.network.judge, found.network.image_shape) == (dataset, judge, (28, 28))
    assert found.accuracy > (0.98 if dataset == "mnist" else 0.88)
    for weight in found.network.state_dict().values():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, weight.half().float())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.data
@pytest.mark.parametrize("judge", ["first", "second"])
def test_the_packages_networks_are_as_good_as_they_say(judge: Judge, mnist_dir: str) -> None:
    found, validation = feature_network("mnist", judge=judge), load("mnist", "validation", mnist_dir)
    right = found.classify(validation.images) == validation.labels.numpy()
    # A sum in another order may turn an image that lies on the border.
    assert right.mean() == pytest.approx(found.accuracy, abs=3 / len(right))


def test_networks_to_come_with_the_package_are_rounded(tmp_path: Path, digits: Features) -> None:
    module.ship(tmp_path, tmp_path, ["digits"])
    validation = load("digits", "validation")
    for judge, name in (("first", "digits"), ("second", "digits-second")):
        path = tmp_path / f"{name}.safetensors"
        assert {w.dtype for w in safetensors.torch.load_file(path).values()} == {torch.float16}
        found = module._read(path, "digits", judge)
        assert found.accuracy == np.mean(found.classify(validation.images) == validation.labels.numpy())
    for name, weight in (
        module._read(tmp_path / "digits.safetensors", "digits", "first").network.state_dict().items()
    ):
        assert torch.equal(weight, digits.network.state_dict()[name].half().float())


def test_an_unknown_data_set_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRSTSPIKE_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="unknown data set 'mnits'"):
        feature_network("mnits")
    assert list(tmp_path.iterdir()) == []


def test_images_of_another_kind_are_refused(digits: Features) -> None:
    with pytest.raises(InputError, match=r"takes images of \(8, 8\) pixels, found \(28, 28\)"):
        digits.features(torch.zeros(2, 28, 28, dtype=torch.uint8))
    with pytest.raises(TypeError, match=r"found torch\.float32"):
        digits.classify(torch.zeros(2, 8, 8))
    with pytest.raises(InputError, match="at least one image"):
        digits.features(torch.zeros(0, 8, 8, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("shape", "hidden_inputs"), [((28, 28), 32 * 7 * 7), ((8, 8), 32 * 4 * 4), ((9, 17), 32 * 4 * 8)]
)
def test_network_pools_by_image_size(shape: tuple[int, int], hidden_inputs: int) -> None:
    network = FeatureNetwork(shape, 7)
    assert network.hidden.in_features == hidden_inputs
    assert network(torch.zeros(3, *shape, dtype=torch.uint8)).shape == (3, 7)


@pytest.mark.parametrize(("shape", "hidden_inputs"), [((28, 28), 48 * 7 * 7), ((9, 17), 48 * 5 * 9)])
def test_the_second_network_is_another_one(shape: tuple[int, int], hidden_inputs: int) -> None:
    network = FeatureNetwork(shape, 7, "second")
    assert network.hidden.in_features == hidden_inputs
    assert network(torch.zeros(3, *shape, dtype=torch.uint8)).shape == (3, 7)


@pytest.mark.parametrize("judge", ["first", "second"])
def test_networks_take_colour(judge: Judge) -> None:
    network = FeatureNetwork((3, 32, 32), 10, judge)
    images = torch.randint(0, 256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    red = images.clone()
    red[:, 0] = 0
    features = [network.features(found.to(torch.uint8)) for found in (images, red)]
    assert features[0].shape == (2, 64)
    assert not torch.equal(*features)


def test_the_second_networks_features_differ_and_it_is_cached_apart(digits: Features) -> None:
    second = feature_network("digits", judge="second")
    assert second.label == "FD, digits-CNN features of a second network"
    assert second.accuracy > 0.9
    assert second.sha256 != digits.sha256
    images = load("digits", "test").images
    assert not np.allclose(second.features(images), digits.features(images))
    assert feature_network("digits", judge="second").sha256 == second.sha256
    assert feature_network("digits").sha256 == digits.sha256


@pytest.mark.parametrize(("shape", "num_classes"), [((3, 8), 10), ((8, 8), 1)])
def test_network_refuses_what_it_cannot_hold(shape: tuple[int, int], num_classes: int) -> None:
    with pytest.raises(ValueError, match="at least 4x4 and 2 classes"):
        FeatureNetwork(shape, num_classes)


def test_labels_name_the_data() -> None:
    assert feature_label("mnist") == "FD, MNIST-CNN features"
    assert feature_label("fashion-mnist") == "FD, Fashion-MNIST-CNN features"
    assert feature_label("digits") == "FD, digits-CNN features"
