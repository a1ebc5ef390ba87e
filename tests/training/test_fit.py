"""Any module on any data: the loop, the run folder, and the same bits after an interruption."""

import copy
import functools
import json
import math
import subprocess
import sys

import pytest
import torch
from builders import refused
from safetensors.torch import load_file
from torch.nn import functional as F

import firstspike
from firstspike.data import ImageSet
from firstspike.support import Diverged, InputError
from firstspike.training.fit import Fitted
from firstspike.training.fit import _named as name_of
from firstspike.training.run_folder import RunFolder

# A core that is shared makes two threads wait for each other.
pytestmark = pytest.mark.usefixtures("one_thread")


def network(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.BatchNorm1d(16), torch.nn.Linear(16, 1)
    )


def data(count=200, seed=1):
    source = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 4, generator=source)
    return inputs, inputs.square().sum(1, keepdim=True)


def fitted(path, net, **options):
    options = {"loss": F.mse_loss, "validation": data(50, 2), "epochs": 6, "batch_size": 25} | options
    return firstspike.fit(net, data(), out=path, rate=3e-2, ema=0.5, show_progress=False, **options)


def test_it_learns_and_keeps_the_epoch_of_the_lowest_validation_loss(tmp_path):
    net = network()
    fit = fitted(tmp_path / "run", net)
    assert isinstance(fit, Fitted)
    assert fit.model is net
    assert not net.training
    losses = [record["validation_loss"] for record in fit.records]
    assert losses[-1] < 0.5 * losses[0]
    inputs, targets = data(50, 2)
    with torch.no_grad():
        assert float(F.mse_loss(net(inputs), targets)) == pytest.approx(min(losses), rel=1e-4)
    kept = load_file(fit.path / "model.safetensors")
    assert all(kept[name].equal(tensor) for name, tensor in net.state_dict().items())
    lines = [json.loads(line) for line in (fit.path / "metrics.jsonl").read_text().splitlines()]
    assert lines == fit.records


def test_the_modules_weights_are_the_initial_ones(tmp_path):
    """And with the same seed and weights every bit is the same."""
    one, two, other = (
        fitted(tmp_path / name, network(seed)) for name, seed in (("a", 0), ("b", 0), ("c", 5))
    )
    assert [r | {"seconds": 0} for r in one.records] == [r | {"seconds": 0} for r in two.records]
    assert one.records[0]["loss"] != other.records[0]["loss"]


@pytest.mark.parametrize("stop_after", [1, 4, 6])
def test_an_interrupted_fit_ends_as_an_uninterrupted_one(tmp_path, monkeypatch, stop_after):
    whole = fitted(tmp_path / "whole", network())
    save_state = RunFolder.save_state

    def save_and_stop(self, state):
        save_state(self, state)
        if state.epoch == stop_after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save_state", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            fitted(tmp_path / "run", network())
    # Another start: what counts is what the folder holds.
    again = fitted(tmp_path / "run", network(9), resume=True)
    expected, found = whole.model.state_dict(), again.model.state_dict()
    assert all(expected[name].equal(found[name]) for name in expected)
    assert [r | {"seconds": 0} for r in whole.records] == [r | {"seconds": 0} for r in again.records]
    # A finished one is taken as it is.
    finished = fitted(tmp_path / "run", network(3), resume=True)
    assert finished.records == again.records
    assert all(found[name].equal(tensor) for name, tensor in finished.model.state_dict().items())


class Part(torch.nn.Module):
    """Two layers, one of which is frozen, and one that is not used."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.frozen, self.used, self.unused = (torch.nn.Linear(4, n) for n in (4, 1, 2))
        self.frozen.requires_grad_(False)

    def forward(self, inputs):
        return self.used(self.frozen(inputs).relu())


def test_a_frozen_and_an_unused_parameter_are_gone_on_with(tmp_path, monkeypatch):
    start = Part().state_dict()
    whole = fitted(tmp_path / "whole", Part())
    save_state = RunFolder.save_state

    def save_and_stop(self, state):
        save_state(self, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save_state", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            fitted(tmp_path / "run", Part())
    again = fitted(tmp_path / "run", Part(), resume=True)
    expected, found = whole.model.state_dict(), again.model.state_dict()
    assert all(expected[name].equal(found[name]) for name in expected)
    assert all(found[name].equal(start[name]) != name.startswith("used") for name in start)
    # Half of what the optimiser knows of a parameter is damage.
    run = RunFolder.open(tmp_path / "run")
    state = run.load_state()
    name = next(name for name in state.tensors if name.endswith("exp_avg"))
    del state.tensors[name]
    run.save_state(state)
    (run.path / "model.safetensors").unlink()
    with pytest.raises(InputError, match=f"{name}.*train the run again"):
        fitted(tmp_path / "run", Part(), resume=True)


def test_a_run_is_neither_overwritten_nor_gone_on_with_by_other_settings(tmp_path):
    fitted(tmp_path / "run", network(), epochs=1)
    with pytest.raises(InputError, match="holds a run already"):
        fitted(tmp_path / "run", network(), epochs=1)
    for options, named in (
        ({"epochs": 2}, "epochs 1 there, 2 asked for"),
        ({"epochs": 1, "seed": 3}, "seed 0 there, 3 asked for"),
        ({"epochs": 1, "loss": F.l1_loss}, "loss mse_loss there, l1_loss asked for"),
    ):
        with pytest.raises(InputError, match=named):
            fitted(tmp_path / "run", network(), resume=True, **options)
    with pytest.raises(InputError, match="network Sequential there, Linear asked for"):
        fitted(tmp_path / "run", torch.nn.Linear(4, 1), epochs=1, resume=True)


def spiking(high):
    torch.manual_seed(0)
    return firstspike.Stack(
        firstspike.Linear(4, 8, firstspike.Window(high=high)), firstspike.Linear(8, 1), steps=8
    )


def earliness(out, targets, *, power=2.0):
    return ((1 - out.times / out.steps) - targets).abs().pow(power).mean()


def test_settings_that_show_in_no_weight_are_compared(tmp_path):
    """Of the network's neurons, and of the loss the arguments that a partial function gives it."""
    inputs, targets = data()
    spikes = firstspike.Spikes((inputs.abs() * 4).clamp(max=8).round(), 8)

    def fit(net, loss, **options):
        options |= {"epochs": 1, "show_progress": False}
        return firstspike.fit(net, (spikes, targets), loss=loss, out=tmp_path / "run", **options)

    squared = functools.partial(earliness, power=2.0)
    first = fit(spiking(3.0), squared).model.state_dict()
    again = fit(spiking(3.0), functools.partial(earliness, power=2.0), resume=True).model.state_dict()
    assert all(first[name].equal(again[name]) for name in first)
    for net, loss, words in (
        (spiking(2.0), squared, ("printed", "high=3.0", "high=2.0")),
        (spiking(3.0), functools.partial(earliness, power=1.0), ("loss earliness(power=2.0) there", "1.0")),
        (spiking(3.0), earliness, ("loss earliness(power=2.0) there, earliness asked for",)),
        (spiking(3.0), torch.nn.MSELoss(), ("MSELoss(", "reduction='mean'", "asked for")),
    ):
        with refused(InputError, "holds another run", *words):
            fit(net, loss, resume=True)
    spikes = firstspike.Spikes(spikes.times, 16)
    with refused(InputError, "holds another run", "sha256", "steps=8", "steps=16"):
        net = firstspike.Stack(*spiking(3.0), steps=16)
        fit(net, squared, resume=True)


WEIGHT = torch.ones(2000)


class Wrapped(torch.nn.Module):
    def __init__(self, inner, power=1.0):
        super().__init__()
        self.inner, self._power = inner, power


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (torch.nn.CrossEntropyLoss(), torch.nn.CrossEntropyLoss(label_smoothing=0.5)),
        (torch.nn.CrossEntropyLoss(weight=WEIGHT), torch.nn.CrossEntropyLoss(weight=WEIGHT + 1e-5)),
        *[
            (functools.partial(F.cross_entropy, weight=WEIGHT), functools.partial(F.cross_entropy, **other))
            for other in ({"weight": WEIGHT + 1e-5}, {"weight": WEIGHT, "label_smoothing": 0.5}, {})
        ],
        (functools.partial(earliness, power=1.0), functools.partial(earliness, power=2.0)),
        *[
            (functools.partial(earliness, make(WEIGHT)), functools.partial(earliness, make(WEIGHT + 1e-5)))
            for make in (torch.Tensor.numpy, lambda weight: {"weights": [weight]})
        ],
        (
            functools.partial(earliness, firstspike.Spikes([[1, 2]], 4)),
            functools.partial(earliness, firstspike.Spikes([[1, 2]], 8)),
        ),
        (Wrapped(torch.nn.MSELoss()), Wrapped(torch.nn.L1Loss())),
        (Wrapped(torch.nn.MSELoss()), Wrapped(torch.nn.MSELoss(), power=2.0)),
    ],
)
def test_losses_of_other_arguments_have_other_names(one, two):
    assert name_of(one) == name_of(copy.deepcopy(one)) != name_of(two)


def test_the_order_of_arguments_and_places_in_memory_are_no_part_of_a_losss_name():
    def partial(**arguments):
        return functools.partial(F.cross_entropy, **arguments)

    assert name_of(partial(reduction="sum", label_smoothing=0.1)) == name_of(
        partial(label_smoothing=0.1, reduction="sum")
    )
    assert name_of(torch.nn.MSELoss().eval()) == name_of(torch.nn.MSELoss())
    assert "0x" not in name_of(functools.partial(earliness, lambda: None, object()))


@pytest.mark.parametrize(
    "make",
    [
        lambda **more: firstspike.Stack(firstspike.Linear(4, 4), firstspike.Linear(4, 4, **more), steps=8),
        lambda **more: firstspike.AvgPool2d(2, **more),
        lambda **more: firstspike.Connection.linear(4, 4, **more),
    ],
)
def test_sources_are_printed(make):
    assert "source" not in repr(make())
    assert "source=1" in repr(make(source=1))


def test_a_fit_that_fails_before_its_first_epoch_is_over_does_not_bar_the_corrected_one(tmp_path):
    def failing(out, targets):
        raise RuntimeError("a mistake")

    for resume in (False, True):
        with pytest.raises(RuntimeError, match="a mistake"):
            fitted(tmp_path / "run", network(), loss=failing, resume=resume)
    assert len(fitted(tmp_path / "run", network(), epochs=1).records) == 1
    with pytest.raises(InputError, match="holds a run already"):
        fitted(tmp_path / "run", network(), epochs=1)


def test_what_cannot_be_trained_is_refused_in_one_line(tmp_path):
    frozen = network().requires_grad_(False)
    for error, words, net, options in (
        (TypeError, ("torch.nn.Module", "function"), lambda inputs: inputs, {}),
        (ValueError, ("nothing to train",), frozen, {}),
        (TypeError, ("loss must be a function", "None"), network(), {"loss": None}),
        (TypeError, ("loss must be a tensor", "float"), network(), {"loss": lambda *_: 1.0}),
        (ValueError, ("no parameter",), network(), {"loss": lambda out, _: out.detach().sum()}),
    ):
        with refused(error, *words):
            fitted(tmp_path / "run", net, **options)
    with torch.no_grad(), refused(ValueError, "gradients are switched off"):
        fitted(tmp_path / "run", network())


def test_its_weights_go_into_a_module_of_the_callers(tmp_path):
    fit = fitted(tmp_path / "run", network(), epochs=1)
    run = RunFolder.open(fit.path)
    with pytest.raises(InputError, match="load_model"):
        run.load()
    run.load_model(other := network(7))
    assert all(t.equal(other.state_dict()[name]) for name, t in fit.model.state_dict().items())


def test_its_run_is_read_in_a_process_of_its_own(tmp_path):
    run = fitted(tmp_path / "run", network(), epochs=1).path
    read = f"import firstspike; r = firstspike.RunFolder.open({str(run)!r}); import torch\n" + (
        "net = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.BatchNorm1d(16), "
        "torch.nn.Linear(16, 1)); r.load_model(net); print(float(net[0].weight.detach().sum()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", read], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stderr == ""
    weight = load_file(run / "model.safetensors")["0.weight"]
    assert float(done.stdout) == pytest.approx(float(weight.sum()))
    line = [sys.executable, "-m", "firstspike", "evaluate", str(run)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "weights of a module Sequential" in done.stderr
    assert "load_model(module)" in done.stderr


def test_an_image_set_and_no_validation(tmp_path, train):
    few = ImageSet("digits", "train", train.images[:100], train.labels[:100], 10)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))

    def loss(out, labels):
        return F.cross_entropy(out, labels)

    fit = firstspike.fit(
        torch.nn.Sequential(Scale(), net), few, loss=loss, out=tmp_path / "run", epochs=8, batch_size=20,
        rate=1e-2, show_progress=False,
    )  # fmt: skip
    assert "validation_loss" not in fit.records[0]
    assert fit.records[-1]["loss"] < 0.7 * fit.records[0]["loss"]
    right = (fit.model(few.images).argmax(1) == few.labels).float().mean()
    assert float(right) > 0.8


class Scale(torch.nn.Module):
    """Bytes to numbers."""

    def forward(self, images):
        return images.float() / 255


def test_wrong_numbers_and_data_are_refused_before_anything_is_made(tmp_path):
    for options in ({"epochs": 0}, {"batch_size": -1}, {"warmup": math.nan}, {"weight_decay": -1}):
        with pytest.raises(ValueError, match=next(iter(options))):
            fitted(tmp_path / "run", network(), **options)
    inputs, targets = data()
    with pytest.raises(ValueError, match="200 and 199"):
        firstspike.fit(network(), (inputs, targets[:-1]), loss=F.mse_loss, out=tmp_path / "run")
    for validation, words in (
        ((inputs, targets[:-1]), "200 and 199"),
        ((inputs[:0], targets[:0]), "no samples"),
        ((inputs.tolist(), ["a"] * 200), "arrays of numbers"),
    ):
        with pytest.raises((ValueError, TypeError), match=words):
            fitted(tmp_path / "run", network(), validation=validation)
    assert list(tmp_path.iterdir()) == []


def test_arrays_are_taken_as_tensors(tmp_path):
    (inputs, targets), held_back = data(), data(50, 2)
    expected = fitted(tmp_path / "tensors", network(), epochs=1).records
    fit = firstspike.fit(
        network(), (inputs.numpy(), targets.numpy()), loss=F.mse_loss, out=tmp_path / "arrays", rate=3e-2,
        validation=(held_back[0].tolist(), held_back[1].numpy()), ema=0.5, epochs=1, batch_size=25,
        show_progress=False,
    )  # fmt: skip
    assert [r | {"seconds": 0} for r in fit.records] == [r | {"seconds": 0} for r in expected]


def test_spikes_are_taken_as_they_are(tmp_path):
    class Mean(torch.nn.Linear):
        def forward(self, spikes):
            assert spikes.steps == 8
            return super().forward(spikes.values)

    spikes = firstspike.Spikes(torch.arange(36).reshape(9, 4) % 9, 8)
    data = (spikes, spikes.values.sum(1, keepdim=True))
    fit = firstspike.fit(
        Mean(4, 1), data, validation=data, loss=F.mse_loss, out=tmp_path / "run", epochs=2,
        show_progress=False,
    )  # fmt: skip
    assert len(fit.records) == 2
    again = firstspike.fit(
        Mean(4, 1), torch.utils.data.TensorDataset(*data), loss=F.mse_loss, out=tmp_path / "again",
        epochs=1, show_progress=False,
    )  # fmt: skip
    assert len(again.records) == 1


@pytest.mark.parametrize(
    "loss", [torch.nn.CrossEntropyLoss(), lambda out, y: F.mse_loss(out, F.one_hot(y, 3).float())]
)
def test_a_loss_of_numbers_gets_a_word_on_spikes(tmp_path, loss):
    net = firstspike.Stack(firstspike.Linear(4, 3), steps=8)
    data = firstspike.Spikes(torch.randint(0, 9, (8, 4)), 8), torch.arange(8) % 3
    fit = functools.partial(firstspike.fit, net, data, epochs=1, out=tmp_path / "run", show_progress=False)
    with refused(TypeError, "first_spike_cross_entropy", "out.values"):
        fit(loss=loss)
    assert "records" not in repr(fit(loss=lambda out, labels: loss(out.values, labels)))


def test_a_validation_loss_that_is_nan_ends_the_training(tmp_path):
    inputs, targets = data(50, 2)
    with pytest.raises(Diverged, match=r"validation of epoch 1 gives NaN.*finished epochs are kept"):
        fitted(tmp_path / "run", network(), validation=(inputs, targets * math.nan))
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_a_fit_that_diverges_says_so(tmp_path):
    with pytest.raises(Diverged, match="epoch 1"):
        fitted(tmp_path / "run", network(), loss=lambda out, targets: (out / 0).sum())


def test_several_processes_are_refused(tmp_path, monkeypatch):
    for name, value in {
        "WORLD_SIZE": "2",
        "RANK": "1",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": "1",
    }.items():
        monkeypatch.setenv(name, value)
    data = torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64)
    with pytest.raises(InputError, match=r"fit trains in one process.*firstspike.train"):
        firstspike.fit(
            torch.nn.Linear(3, 2), data, loss=torch.nn.functional.cross_entropy, out=tmp_path / "run"
        )
    assert not (tmp_path / "run").exists()
