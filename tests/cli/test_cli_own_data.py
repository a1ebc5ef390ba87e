"""``firstspike train --data``: folders and files of a user's own, killed, resumed, measured and refused."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from commands import command_line, contents
from PIL import Image
from safetensors.torch import load_file

from firstspike.data import load
from firstspike.training.run_folder import RunFolder

NAMES = ("zero", "one", "two")
TRAIN = ("train", "aggressive-ttfs-window", "--data")


@pytest.fixture(scope="module")
def digits():
    """The embedded digits 0, 1 and 2."""
    images = load("digits", "train")
    chosen = images.labels < 3
    return images.images[chosen].numpy(), images.labels[chosen].numpy()


@pytest.fixture
def pictures(tmp_path, digits):
    """A folder of PNG images, a sub-folder for each class."""
    root = tmp_path / "pictures"
    for number, (image, label) in enumerate(zip(*digits, strict=True)):
        file = root / NAMES[label] / f"{number:03}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    return root


@pytest.fixture
def archive(tmp_path, digits):
    """The same in an ``.npz``, sorted by class names, which is the folder's order."""
    images, labels = digits
    order = [k for name in sorted(NAMES) for k in np.flatnonzero(labels == NAMES.index(name))]
    sorted_labels = [sorted(NAMES).index(NAMES[label]) for label in labels[order]]
    np.savez(tmp_path / "archive.npz", x_train=images[order], y_train=np.array(sorted_labels))
    return tmp_path / "archive.npz"


def weights(path):
    return load_file(path / "model.safetensors")


def same(one, two):
    return one.keys() == two.keys() and all(one[name].equal(two[name]) for name in one)


def test_a_folder_is_trained_recorded_and_measured(firstspike, tmp_path, pictures, digits):
    answer = firstspike(*TRAIN, "pictures", "--epochs", 12)
    assert (answer.status, answer.out) == (0, "runs/aggressive-ttfs-window-pictures-seed0\n")
    run = tmp_path / answer.out.strip()
    data = json.loads((run / "config.json").read_text())["config"]["dataset"]
    assert data["path"] == str(pictures)
    assert data["class_names"] == ["one", "two", "zero"]
    assert data["train"] + data["validation"] + data["test"] == len(digits[1])
    assert len(data["sha256"]) == 64
    figures = json.loads(firstspike("evaluate", run, "--json").out)
    assert (figures["dataset"], figures["count"]) == ("pictures", data["test"])
    assert figures["accuracy"] > 0.9
    # The folder alone suffices, and so do the same data elsewhere.
    pictures.rename(tmp_path / "moved")
    refusal = firstspike("evaluate", run).refusal
    assert refusal.startswith(f"{pictures}, where the run's data lay, does not exist any more")
    moved = json.loads(firstspike("evaluate", run, "--data", "moved", "--json").out)
    assert moved == figures | {"dataset": "moved"}
    assert firstspike(*TRAIN, "moved", "--epochs", 12, "--out", run, "--resume").status == 0


def test_an_npz_of_the_same_images_is_the_same_training(firstspike, tmp_path, pictures, archive):
    for path in (pictures, archive):
        assert firstspike(*TRAIN, path, "--epochs", 2, "--out", path.stem + "-run").status == 0
    assert same(weights(tmp_path / "pictures-run"), weights(tmp_path / "archive-run"))


def test_changed_data_are_refused(firstspike, tmp_path, archive):
    assert firstspike(*TRAIN, archive, "--epochs", 1, "--out", "run").status == 0
    with np.load(archive) as file:
        images, labels = file["x_train"], file["y_train"]
    images[0, 0, 0] += 1
    np.savez(archive, x_train=images, y_train=labels)
    before = contents(tmp_path)
    for refusal in (
        firstspike(*TRAIN, archive, "--epochs", 1, "--out", "run", "--resume").refusal,
        firstspike("evaluate", "run").refusal,
        firstspike("evaluate", "run", "--data", archive).refusal,
    ):
        assert refusal.count("SHA-256") == 2
        assert "3 classes" in refusal
    assert contents(tmp_path) == before


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_killed_and_resumed_equals_uninterrupted(firstspike, tmp_path, pictures, archive):
    """Whichever of two paths to the same data is named."""
    rest = ("--epochs", 60, "--threads", 1)
    assert firstspike(*TRAIN, pictures, *rest, "--out", "whole").status == 0
    metrics = tmp_path / "killed" / "metrics.jsonl"
    for data, epochs in ((pictures, 2), (archive, 20)):
        line = command_line(*TRAIN, data, *rest, "--out", "killed", "--resume")
        process = subprocess.Popen(line, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while not metrics.exists() or metrics.read_bytes().count(b"\n") < epochs:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "killed" / "model.safetensors").exists()
    assert firstspike(*TRAIN, archive, *rest, "--out", "killed", "--resume").status == 0
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))


@pytest.mark.parametrize("preset", ["window-mnist", "ettfs-fashion-mnist"])
def test_deep_presets_adapt(firstspike, tmp_path, archive, preset):
    layout = ("--set", "layout=4C3-A2-F8" if preset.startswith("ettfs") else "layout=4C3-E2-F8")
    assert firstspike("train", preset, "--data", archive, "--epochs", 1, *layout).status == 0
    run = tmp_path / "runs" / f"{preset}-archive-seed0"
    assert RunFolder.open(run).config.sizes() == ((1, 8, 8), 3)
    assert json.loads(firstspike("evaluate", run, "--json").out)["dataset"] == "archive"


def test_plain_numbers_and_colours(firstspike, tmp_path):
    source = np.random.default_rng(0)
    labels = np.arange(90) % 3
    np.savez("table.npz", x_train=source.random((90, 4)), y_train=labels)
    np.savez("colour.npz", x_train=source.random((90, 16, 16, 3)), y_train=labels)
    for preset, name in (
        ("yin-yang-ramp", "table"),
        ("aggressive-ttfs-window", "table"),
        ("onestep-mnist", "colour"),
    ):
        small = ("--set", "layout=4C3-8G", "--set", "head_size=2") if name == "colour" else ()
        assert firstspike("train", preset, "--data", f"{name}.npz", "--epochs", 1, *small).status == 0
    # Nothing is cut off or moved about.
    recipe = RunFolder.open(tmp_path / "runs" / "aggressive-ttfs-window-table-seed0").config
    assert recipe.min_intensity == 0
    assert not any((recipe.augmentation.shift_px, recipe.augmentation.rotation_deg))


def test_a_gan_draws_images_of_that_size(firstspike, tmp_path, archive):
    small = ("--epochs", "2", "--set", "hidden_features=20")
    assert firstspike("train", "spiking-gan-conditional", "--data", archive, *small).status == 0
    run = tmp_path / "runs" / "spiking-gan-conditional-archive-seed0"
    archive.rename(tmp_path / "elsewhere.npz")
    # It needs no data.
    assert firstspike("sample", run, "--count", 6, "--out", "made.npz").status == 0
    with np.load("made.npz") as made:
        assert made["images"].shape == (6, 8, 8)
        assert made["labels"].tolist() == [0, 1, 2, 0, 1, 2]
    figures = json.loads(firstspike("evaluate", run, "--data", "elsewhere.npz", "--json").out)
    assert figures["feature_label"] == "FD, elsewhere-CNN features"


def test_a_class_goes_by_its_name_too(firstspike, tmp_path, pictures):
    small = ("--epochs", 1, "--set", "hidden_features=20")
    trained = firstspike("train", "ann-gan", "--data", pictures, "--digit", "zero", *small)
    assert trained.out == "runs/ann-gan-pictures-zero-seed0\n"
    assert RunFolder.open(tmp_path / trained.out.strip()).config.digit == 2
    conditional = ("spiking-gan-conditional", "--data", pictures, *small, "--out", "run")
    assert firstspike("train", *conditional).status == 0
    for label in ("two", "1"):
        drawn = firstspike("sample", "run", "--count", 3, "--label", label, "--out", f"{label}.npz")
        assert drawn.status == 0
    with np.load("two.npz") as named, np.load("1.npz") as numbered:
        assert named["labels"].tolist() == [1, 1, 1]
        assert np.array_equal(named["images"], numbered["images"])
    refusal = firstspike("sample", "run", "--count", 3, "--label", "three", "--out", "a.npz").refusal
    expected = "argument --label: expected an integer, 0 ... 2, or one of one, two, zero, found 'three'"
    assert refusal == expected


def test_where_folders_are_named_by_numbers_a_number_is_a_name(firstspike, tmp_path, pictures):
    for name, number in zip(NAMES, ("2", "10", "1"), strict=True):
        (pictures / name).rename(pictures / number)
    train = ("train", "ann-gan", "--data", pictures, "--epochs", 1)
    # They stand as 1, 10, 2, so place 1 is that of folder 10.
    for number in ("0", "ten"):
        refusal = firstspike(*train, "--digit", number).refusal
        assert refusal == f"argument --digit: expected one of 1, 10, 2, found {number!r}"
    assert "learns one class; give --digit one of 1, 10, 2" in firstspike(*train).refusal
    assert not (tmp_path / "runs").exists()
    for name, place in (("1", 0), ("10", 1)):
        trained = firstspike(*train, "--digit", name).out
        assert trained == f"runs/ann-gan-pictures-{name}-seed0\n"
        assert RunFolder.open(tmp_path / trained.strip()).config.digit == place
    # Where they stand at their places, numbers are numbers.
    for name, number in zip(("1", "10", "2"), ("00", "01", "other"), strict=True):
        (pictures / name).rename(pictures / number)
    for digit in ("1", "01", "2"):
        train = ("train", "ann-gan", "--data", pictures, "--epochs", 1, "--out", f"run{digit}")
        assert firstspike(*train, "--digit", digit).status == 0
        assert RunFolder.open(tmp_path / f"run{digit}").config.digit == int(digit)


@pytest.mark.parametrize("preset", ["spiking-gan-conv", "ann-gan-conv", "spiking-vae"])
def test_convolutional_generators_draw_in_colour(firstspike, digits, preset):
    images, labels = digits
    # Red where the digit is, blue where it is not.
    colours = np.stack([images, images // 2, 255 - images], axis=-1)
    np.savez("colours.npz", x_train=colours, y_train=labels)
    trained = firstspike("train", preset, "--data", "colours.npz", "--epochs", 1, "--out", "run")
    assert trained.status == 0, trained.error
    assert firstspike("sample", "run", "--count", 3, "--out", "made.npz").status == 0
    with np.load("made.npz") as made:
        assert made["images"].shape == (3, 3, 8, 8)
        assert made["images"].dtype == np.uint8
    assert firstspike("sample", "run", "--count", 3, "--out", "made.png").status == 0
    figures = json.loads(firstspike("evaluate", "run", "--json").out)
    assert figures["controls"]["real"]["frechet_distance"] < figures["frechet_distance"]


# Each with what stands in its refusal; {archive} is grey images of 8 x 8.
REFUSED = {
    "both": ("aggressive-ttfs-window --data {archive} --dataset digits", "not allowed with argument"),
    "nothing": ("aggressive-ttfs-window --data nowhere", "nowhere does not exist"),
    "no path": ("aggressive-ttfs-window --data ", "expected one argument"),
    "one class": ("aggressive-ttfs-window --data {pictures}/one", "found none"),
    "a file": ("aggressive-ttfs-window --data broken/zero/000.png", "is no .npz file"),
    "pooling": ("window-cifar10 --data {archive}", "pooling over 2 x 2 does not fit a map of 1 x 1"),
    "head": ("onestep-mnist --data {archive}", "a head of 7 x 7 parts is larger than the last map"),
    "digit": ("ann-gan --data {archive}", "give --digit 0 ... 2"),
    "another digit": ("ann-gan --data {archive} --digit 3", "--digit must be 0 ... 2, found 3"),
    "a GAN of numbers": ("spiking-gan-conditional --data table.npz", "grey images of 4 x 4"),
    "a GAN of colours": ("spiking-gan-conditional --data colour.npz", "grey images of 4 x 4"),
    "numbers under convolutions": ("window-mnist --data table.npz", "does not fit a map of 1 x 4"),
    "whitening later": ("window-mnist --data {archive} --set layout=8C3-W2", "put it first"),
    "whitening": ("window-mnist --data {archive} --set layout=W9-8C3", "does not fit an image of 8 x 8"),
    "pooling first": (
        "ettfs-fashion-mnist --data {archive} --set pool_first=true --set weights.norm=weight",
        'norm="batch"',
    ),
    "a reflected border": (
        "window-cifar10 --data {archive} --set augmentation.rotation_deg=5",
        'border="black"',
    ),
    "no epoch": ("window-cifar10 --data {archive} --epochs 0", "--epochs"),
    "no map": ("window-mnist --data {archive} --set layout=0C3", "has a size of 0"),
    "no neuron": ("window-mnist --data {archive} --set layout=8C3-F0", "has a size of 0"),
    "no image": ("aggressive-ttfs-window --data broken", "broken/zero/000.png is damaged"),
}


@pytest.mark.parametrize(("command", "message"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_is_one_line_and_leaves_nothing(
    firstspike, tmp_path, pictures, archive, command, message
):
    labels = np.arange(90) % 3
    np.savez("table.npz", x_train=np.zeros((90, 4)), y_train=labels)
    np.savez("colour.npz", x_train=np.zeros((90, 8, 8, 3)), y_train=labels)
    shutil.copytree(pictures, "broken")
    Path("broken/zero/000.png").write_bytes(b"no picture")
    before = contents(tmp_path)
    words = command.format(archive=archive, pictures=pictures).split()
    assert message in firstspike("train", *words).refusal
    assert contents(tmp_path) == before


def test_other_data_than_a_run_s_are_refused(firstspike, classifier_run, archive):
    refusal = firstspike("evaluate", classifier_run, "--data", archive).refusal
    assert refusal.startswith(f"{classifier_run} was trained on digits, not on own data (")
