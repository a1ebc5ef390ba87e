"""Data of a user's own from Python: arrays, torch data sets and paths for `train`, `evaluate` and `fit`."""

import numpy as np
import pytest
import torch
from builders import refused
from safetensors.torch import load_file
from torch.nn import functional as F
from torch.utils.data import TensorDataset

import firstspike as fs
from firstspike.support import InputError
from firstspike.training.run_folder import RunFolder

# A core that is shared makes two threads wait for each other.
pytestmark = pytest.mark.usefixtures("one_thread")

NAME = "aggressive-ttfs-window"


@pytest.fixture
def digits(train):
    """The first 400 of the embedded digits."""
    return train.images[:400], train.labels[:400]


class Epochs:
    """Stops a training after this many epochs, as Ctrl-C or a kill would."""

    def __init__(self, monkeypatch, epochs):
        self.patch, self.epochs = monkeypatch, epochs

    def __enter__(self):
        save_state = RunFolder.save_state

        def save_and_stop(run, state):
            save_state(run, state)
            if state.epoch == self.epochs:
                raise KeyboardInterrupt

        self.context = self.patch.context()
        self.context.__enter__().setattr(RunFolder, "save_state", save_and_stop)

    def __exit__(self, kind, error, trace):
        self.context.__exit__(None, None, None)
        return kind is KeyboardInterrupt


def sources(digits, path):
    images, labels = digits
    np.savez(path / "digits.npz", x_train=images.numpy(), y_train=labels.numpy())
    return {
        "tensors": digits,
        "numpy": (images.numpy(), labels.numpy()),
        "floats": (images.numpy() / 255, labels.numpy()),
        "an ImageSet": fs.ImageSet.of(images, labels),
        "a torch Dataset": TensorDataset(images, labels),
        "a path": path / "digits.npz",
    }


def test_every_source_is_trained_resumed_and_measured_alike(tmp_path, digits, monkeypatch):
    given = sources(digits, tmp_path)
    recipe = fs.preset(NAME).configure(dataset=fs.data.own(digits), epochs=4)
    whole = fs.train(tmp_path / "whole", NAME, recipe, 0, show_progress=False, threads=1)
    expected, figures = load_file(whole.path / "model.safetensors"), fs.evaluate(whole)
    for path in (whole.path, str(whole.path)):
        assert fs.evaluate(path, data=digits) == figures
    assert figures["count"] == recipe.dataset.test
    for name, source in given.items():
        options = {"data": source, "show_progress": False, "threads": 1}
        with Epochs(monkeypatch, 2):
            fs.train(tmp_path / name, NAME, recipe, 0, **options)
        assert not (tmp_path / name / "model.safetensors").exists()
        run = fs.train(tmp_path / name, NAME, recipe, 0, resume=True, **options)
        found = load_file(run.path / "model.safetensors")
        assert all(found[key].equal(tensor) for key, tensor in expected.items())
        # Opened anew, by what the folder says alone, or with the data.
        opened = RunFolder.open(tmp_path / name)
        again = {"run": str(whole.path), "dataset": "own"}
        assert fs.evaluate(opened, data=source) | again == figures
        if name == "a path":
            assert fs.evaluate(opened) | again == figures
        else:
            with refused(InputError, "arrays from Python", "SHA-256", "by data"):
                fs.evaluate(opened)


def test_other_arrays_are_refused(tmp_path, digits):
    images, labels = digits
    recipe = fs.preset(NAME).configure(dataset=fs.data.own(digits), epochs=1)
    run = fs.train(tmp_path / "run", NAME, recipe, 0, show_progress=False)
    other = images, labels.roll(1)
    with refused(InputError, "holds another run", "SHA-256", "give another out"):
        fs.train(tmp_path / "run", NAME, recipe, 0, data=other, resume=True, show_progress=False)
    with refused(InputError, "was trained on own data", "SHA-256", "give that one"):
        fs.evaluate(RunFolder.open(run.path), data=other)
    with refused(InputError, "was trained on own data", "not on digits"):
        RunFolder.open(run.path, fs.data.dataset("digits"))
    # Without them the weights are there, and nothing is asked for.
    assert RunFolder.open(run.path).load()(fs.encode_latency(images.flatten(1), recipe.steps)).steps == 32


def test_a_preset_with_its_own_data_set_takes_others(digits):
    window = fs.preset("window-cifar10").configure(dataset=fs.data.own(digits))
    assert window.sizes() == ((1, 8, 8), 10)
    with refused(InputError, "made for cifar-10", "--data"):
        fs.preset("window-cifar10").configure(dataset="digits")


def test_small_images_are_trained_on_like_the_digits(digits):
    small = fs.preset(NAME).configure(dataset=fs.data.own(digits))
    large = fs.preset(NAME).configure(dataset=fs.data.own((digits[0].repeat(1, 2, 2), digits[1])))
    assert small.hidden_features == fs.preset(NAME).configure(dataset="digits").hidden_features == 200
    assert large.hidden_features == fs.preset(NAME).recipe.hidden_features == 400


# fit


class Net(torch.nn.Sequential):
    def __init__(self):
        torch.manual_seed(0)
        super().__init__(torch.nn.Flatten(), torch.nn.Linear(64, 10))

    def forward(self, images):
        return super().forward(images.float() / 255)


def fitted(out, data, **options):
    return fs.fit(Net(), data, loss=F.cross_entropy, out=out, epochs=3, show_progress=False, **options)


def test_fit_takes_every_source(tmp_path, digits, monkeypatch):
    given = sources(digits, tmp_path)
    # As it comes: nothing is rounded.
    del given["floats"]
    found = given.pop("a path")
    whole = fitted(tmp_path / "whole", digits)
    for name, source in given.items():
        with Epochs(monkeypatch, 1):
            fitted(tmp_path / name, source)
        fit = fitted(tmp_path / name, source, resume=True)
        for key, weight in whole.model.state_dict().items():
            assert weight.equal(fit.model.state_dict()[key]), name
    # A path holds all splits.
    parts = {split: fs.data.load(fs.data.own(found), split) for split in ("train", "validation")}
    fit = fitted(tmp_path / "path", found)
    assert "validation_loss" in fit.records[-1]
    same = fitted(tmp_path / "parts", parts["train"], validation=parts["validation"])
    assert [r | {"seconds": 0} for r in fit.records] == [r | {"seconds": 0} for r in same.records]
    for name, source in (("path", found), ("description", fs.data.own(found))):
        fit = fitted(tmp_path / f"validation {name}", parts["train"], validation=source)
        assert [r | {"seconds": 0} for r in fit.records] == [r | {"seconds": 0} for r in same.records]
    described = fitted(tmp_path / "described", fs.data.dataset("digits"))
    assert RunFolder.open(described.path).config.samples == 1197


def test_fit_goes_on_with_the_same_data_only(tmp_path, digits):
    images, labels = digits
    fitted(tmp_path / "run", digits, validation=digits)
    fitted(tmp_path / "run", digits, validation=digits, resume=True)
    for data, validation in (
        ((images, labels.roll(1)), digits),
        (digits, (images, labels.roll(1))),
        (digits, None),
    ):
        with refused(InputError, "holds another run", "sha256"):
            fitted(tmp_path / "run", data, validation=validation, resume=True)


def test_fit_takes_numbers_of_any_size_from_numpy(tmp_path):
    numbers = np.random.default_rng(0).normal(0, 9, (50, 4))
    fit = fs.fit(
        torch.nn.Linear(4, 1), (numbers, numbers.sum(1, keepdims=True)), loss=F.mse_loss,
        out=tmp_path / "run", epochs=2, show_progress=False,
    )  # fmt: skip
    assert len(fit.records) == 2
    with refused(InputError, "pair of inputs and labels", "ndarray"):
        fs.fit(torch.nn.Linear(4, 1), numbers, loss=F.mse_loss, out=tmp_path / "no")
    with refused(ValueError, "one target for each input", "50 and 49"):
        fs.fit(
            torch.nn.Linear(4, 1), (numbers, numbers), validation=(numbers, numbers[1:]), loss=F.mse_loss,
            out=tmp_path / "no",
        )  # fmt: skip
    assert not (tmp_path / "no").exists()
