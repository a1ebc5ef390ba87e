"""The networks that come with the package: small, found by name, as good as they are said to be."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import refused
from PIL import Image
from safetensors.torch import load_file, save_file

import firstspike as fs
from firstspike import networks
from firstspike.cli import main
from firstspike.nn.wiring import TransposedConvolution

FOLDER = Path(networks.__file__).parent


def test_they_take_less_than_two_megabytes_together() -> None:
    files = [path for name in networks.NAMES for path in (FOLDER / name).iterdir()]
    assert sum(path.stat().st_size for path in files) < 2_000_000
    assert {path.name for path in files} == {"config.json", "model.safetensors"}


@pytest.mark.parametrize("name", networks.NAMES)
def test_a_network_is_whole_numbers_and_says_how_it_was_made(name: str) -> None:
    command = json.loads((FOLDER / name / "config.json").read_text())["command"]
    assert command.startswith("firstspike train ")
    assert "/" not in command
    net = fs.load(name)
    stack = net if isinstance(net, fs.Stack) else net.stack
    assert isinstance(stack, fs.Stack)
    whole = fs.integer(stack, in_shape=(1, 28, 28) if net is stack else net.in_shape)
    for layer, integers in zip(stack, whole.integers, strict=True):
        if not isinstance(layer, fs.Layer):
            continue
        one = integers.connections[0]
        # One for each map that comes out, which a transposed convolution has in its second dimension.
        ones = [1] * layer.weight.dim()
        ones[1 if isinstance(layer.wiring, TransposedConvolution) else 0] = -1
        step = one.step.reshape(ones)
        assert torch.allclose(one.weight * step, layer.weight.detach().double(), atol=1e-6)
        assert one.weight.dtype == torch.int8


def test_sampled_right_after_install(tmp_path: Path) -> None:
    out = tmp_path / "digits.png"
    assert main(["sample", "mnist-generator", "--count", "64", "--out", str(out)]) == 0
    assert np.asarray(Image.open(out)).std() > 10
    arrays = tmp_path / "digits.npz"
    assert main(["sample", "mnist-generator", "--count", "20", "--label", "3", "--out", str(arrays)]) == 0
    with np.load(arrays, allow_pickle=False) as found:
        assert found["images"].shape == (20, 28, 28)
        assert set(found["labels"]) == {3}


def test_the_classifier_reads_what_the_generator_writes() -> None:
    generator, classifier = fs.load("mnist-generator"), fs.load("mnist-classifier")
    assert isinstance(classifier, fs.Stack)
    labels = torch.arange(200) % 10
    with torch.no_grad():
        noise = generator.noise(200, torch.Generator().manual_seed(0))  # type: ignore[operator]
        images = generator.images(generator(noise, labels))  # type: ignore[operator]
        out = classifier(classifier.encode(images))
    assert fs.FirstSpike().decide(out).score(labels).accuracy > 0.8


def test_a_folder_of_that_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert networks.find("mnist-classifier") == FOLDER / "mnist-classifier"
    (tmp_path / "mnist-classifier").mkdir()
    assert networks.find("mnist-classifier") == Path("mnist-classifier")
    with refused(fs.InputError, "mnist-classifier", "config.json"):
        fs.load("mnist-classifier")
    with refused(fs.InputError, "nothing-like-it", *networks.NAMES):
        fs.load("nothing-like-it")


@pytest.mark.data
def test_the_classifier_is_right_on_mnist(mnist_dir: str) -> None:
    figures = fs.evaluate("mnist-classifier", mnist_dir)
    assert figures["accuracy"] >= 0.989
    assert figures["decision_rule"].startswith("first spike; ties wrong")


def test_steps_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(FOLDER / "mnist-generator", folder)
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.endswith(".step"))
    save_file({**tensors, name: torch.ones(3)}, folder / "model.safetensors")
    with refused(fs.InputError, "steps of (3,)", "do not fit"):
        fs.load(folder)
