"""The golden run on the embedded digits, and the loop's promises one by one."""

import dataclasses
import json
import math

import pytest
import torch
from safetensors.torch import load_file

from firstspike.neurons import Causal, Window
from firstspike.reproduce.evaluation import load_classifier
from firstspike.rules import StraightThroughRule
from firstspike.training import classifier, supervised
from firstspike.training.classifier import ClassifierTask, build_classifier, encode_images
from firstspike.training.config import Augmentation, ClassifierConfig, Normal
from firstspike.training.presets import PRESETS, preset
from firstspike.training.run_folder import RunFolder
from firstspike.training.supervised import train_supervised

GOLDEN = ClassifierConfig(
    dataset="digits",
    hidden_features=100,
    num_steps=8,
    hidden_neuron=Window(low=0.0, high=2.0),
    output_neuron=Window(low=0.0, high=1.0, out_steps=32, rule=StraightThroughRule(saturation="one_sided")),
    loss="first_spike",
    label_delay=3,
    augmentation=Augmentation(rotation_deg=5),
    rate=5e-3,
    batch_size=32,
    epochs=8,
)
# A core that is shared makes two threads wait for each other.
pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = dataclasses.replace(
    GOLDEN, hidden_features=30, batch_size=25, epochs=4, ema=0.5, input_dropout=0.2, hidden_dropout=0.1
)


@pytest.fixture(scope="module")
def few(train):
    """A hundred of them, ten or so of each class."""
    return dataclasses.replace(train, images=train.images[:100], labels=train.labels[:100])


def started(path, config, seed=0):
    return RunFolder.create(path, "made", config, seed)


def files(run):
    return [load_file(run.path / name) for name in ("state/latest.safetensors", "model.safetensors")]


def same(one, two):
    return all(
        a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)
        for a, b in zip(one, two, strict=True)
    )


def test_the_golden_run(tmp_path, train, validation):
    """The same weights twice to the bit, and an accuracy that any machine reaches."""
    runs = [started(tmp_path / name, GOLDEN) for name in ("one", "two")]
    for run in runs:
        train_supervised(run, ClassifierTask(run.config), train, validation, show_progress=False)
    assert same(*map(files, runs))
    records = runs[0].load_state().records
    assert [record["epoch"] for record in records] == list(range(1, 9))
    losses = [record["loss"] for record in records]
    assert losses[-1] < 0.4 * losses[0]
    assert losses[-1] < min(losses[:4])
    assert max(record["validation_accuracy"] for record in records) >= 0.93
    for record in records:
        strict, papers = (record[f"validation_accuracy{rule}"] for rule in ("", "_papers_rule"))
        ties = record["validation_tie_rate"]
        assert strict <= papers <= strict + ties + 1e-9
        assert strict + ties + record["validation_silent_rate"] <= 1 + 1e-9
        assert 16 <= record["steps_to_decision"] <= 48
        assert 0 < record["spikes_to_decision"] <= 64 + 100 + 10


def test_the_kept_weights_are_those_of_the_best_epoch(tmp_path, few, validation, monkeypatch):
    """The later of equals; each epoch's averaged weights are watched as they are saved."""
    epochs = []
    save_state = RunFolder.save_state

    def watched(self, state):
        epochs.append({n.removeprefix("average/"): t.clone() for n, t in state.tensors.items()})
        save_state(self, state)

    monkeypatch.setattr(RunFolder, "save_state", watched)
    run = started(tmp_path / "run", dataclasses.replace(SMALL, epochs=6, rate=0.02))
    returned = train_supervised(run, ClassifierTask(run.config), few, validation, show_progress=False)
    accuracies = [record["validation_accuracy"] for record in run.load_state().records]
    best = max(epoch for epoch, accuracy in enumerate(accuracies) if accuracy == max(accuracies))
    kept = load_file(run.path / "model.safetensors")
    assert all(kept[name].equal(epochs[best][name]) for name in kept)
    assert all(kept[name].equal(weights) for name, weights in returned.state_dict().items())

    model = load_classifier(run)
    with torch.no_grad():
        times = model(encode_images(SMALL, validation.images))
    first = times.min(1, keepdim=True).values
    winner = (times == first) & (first < model.out_steps)
    decided = winner.sum(1) == 1
    right = decided & winner[torch.arange(len(times)), validation.labels]
    assert right.float().mean().item() == pytest.approx(max(accuracies), abs=1e-6)


def test_the_average_is_the_hand_formula(tmp_path, few, validation, monkeypatch):
    passed = []
    update = supervised.update_average

    def watched(average, model, decay):
        if not passed:
            passed.append({n: t.clone() for n, t in average.state_dict().items()})
        passed.append({n: t.clone() for n, t in model.state_dict().items()})
        update(average, model, decay)

    monkeypatch.setattr(supervised, "update_average", watched)
    run = started(tmp_path / "run", dataclasses.replace(SMALL, epochs=1, ema=0.6))
    train_supervised(run, ClassifierTask(run.config), few, validation, show_progress=False)
    assert len(passed) == 1 + 4
    tensors = run.load_state().tensors
    for name, average in passed[0].items():
        for weights in passed[1:]:
            average = 0.6 * average + 0.4 * weights[name]
        assert torch.allclose(tensors[f"average/{name}"], average, atol=1e-6)
        assert tensors[f"model/{name}"].equal(passed[-1][name])


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_seed_decides_every_bit(tmp_path, few, validation, optimizer):
    config = dataclasses.replace(SMALL, optimizer=optimizer, epochs=2)
    runs = {name: started(tmp_path / name, config, seed) for name, seed in (("a", 4), ("b", 4), ("c", 5))}
    for run in runs.values():
        train_supervised(run, ClassifierTask(run.config), few, validation, show_progress=False)
    assert same(files(runs["a"]), files(runs["b"]))
    one, other = files(runs["a"])[1], files(runs["c"])[1]
    assert not any(one[name].equal(other[name]) for name in one)


@pytest.mark.parametrize("stop_after", [1, 3, 4])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    tmp_path, few, validation, monkeypatch, stop_after
):
    """Stopped after the last epoch too: then only the choice of the best is left to do."""
    whole = started(tmp_path / "whole", SMALL)
    train_supervised(whole, ClassifierTask(whole.config), few, validation, show_progress=False)
    run = started(tmp_path / "stopped", SMALL)
    save_state = RunFolder.save_state

    def save_and_stop(self, state):
        save_state(self, state)
        if state.epoch == stop_after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save_state", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train_supervised(run, ClassifierTask(run.config), few, validation, show_progress=False)
    assert run.load_state().epoch == stop_after
    assert not (run.path / "model.safetensors").exists()
    train_supervised(run, ClassifierTask(run.config), few, validation, show_progress=False)
    assert same(files(whole), files(run))
    lines = [
        [json.loads(line) for line in (each.path / "metrics.jsonl").read_text().splitlines()]
        for each in (whole, run)
    ]
    for one, two in zip(*lines, strict=True):
        assert one | {"seconds": 0} == two | {"seconds": 0}


def test_the_rate_rises_linearly_and_falls_along_a_cosine(tmp_path, few, validation, monkeypatch):
    config = dataclasses.replace(SMALL, epochs=5, rate=0.01, warmup=0.25)
    rates = []
    monkeypatch.setattr(supervised, "set_rate", lambda optimizer, rate: rates.append(rate))
    train_supervised(
        started(tmp_path / "run", config), ClassifierTask(config), few, validation, show_progress=False
    )
    steps = 5 * math.ceil(100 / 25)
    expected = [
        0.01 * min(1, (step + 1) / (0.25 * steps)) * (1 + math.cos(math.pi * step / steps)) / 2
        for step in range(steps)
    ]
    assert rates == pytest.approx(expected)


def test_an_epoch_shows_every_image_once_with_its_label(tmp_path, few, validation, monkeypatch):
    """Also the images of the last, shorter batch."""
    config = dataclasses.replace(SMALL, epochs=2, batch_size=30, augmentation=Augmentation())
    shown = []
    loss = classifier._loss

    def watched(config, model, inputs, labels):
        shown.append((inputs, labels))
        return loss(config, model, inputs, labels)

    monkeypatch.setattr(classifier, "_loss", watched)
    train_supervised(
        started(tmp_path / "run", config), ClassifierTask(config), few, validation, show_progress=False
    )
    assert [len(inputs) for inputs, _ in shown] == [30, 30, 30, 10] * 2
    expected = torch.cat([encode_images(config, few.images), few.labels.unsqueeze(1)], 1).tolist()
    orders = []
    for epoch in (shown[:4], shown[4:]):
        rows = [row for part in epoch for row in torch.cat([part[0], part[1].unsqueeze(1)], 1).tolist()]
        assert sorted(rows) == sorted(expected)
        orders.append(rows)
    assert orders[0] != orders[1]


@pytest.mark.parametrize("loss", ["membrane", "first_spike", "aggressive", "relative"])
def test_every_loss_learns(tmp_path, few, loss):
    """The hundred images by heart, far above the tenth that chance gives."""
    config = dataclasses.replace(
        GOLDEN, loss=loss, epochs=15, batch_size=25, label_delay=0, augmentation=Augmentation(), rate=0.01
    )
    run = started(tmp_path / "run", config)
    train_supervised(run, ClassifierTask(run.config), few, few, show_progress=False)
    records = run.load_state().records
    assert max(record["validation_accuracy_papers_rule"] for record in records) >= 0.8
    assert records[-1]["loss"] < 0.6 * records[0]["loss"]


def test_the_penalty_saves_spikes(tmp_path, few):
    spikes = []
    for penalty in (0.0, 0.1):
        config = dataclasses.replace(SMALL, spike_penalty=penalty, rate=0.01, epochs=6)
        run = started(tmp_path / str(penalty), config)
        train_supervised(run, ClassifierTask(run.config), few, few, show_progress=False)
        spikes.append(run.load_state().records[-1]["spikes_to_decision"])
    assert spikes[1] < spikes[0] - 3


def test_the_network_has_the_configurations_shape_and_weights():
    config = ClassifierConfig(
        num_steps=16,
        hidden_neuron=Causal(threshold=10.0),
        output_neuron=Causal(threshold=20.0),
        hidden_init=Normal(mean=0.5, sd=0.1),
        output_init=Normal(mean=-2.0, sd=0.01),
        input_dropout=0.3,
    )
    torch.manual_seed(0)
    hidden, output = build_classifier(config, 784, 10)
    assert [tuple(layer.weight.shape) for layer in (hidden, output)] == [(400, 784), (10, 400)]
    assert hidden.bias is output.bias is None
    assert (hidden.neuron, output.neuron) == (config.hidden_neuron, config.output_neuron)
    assert (hidden.dropout, output.dropout) == (0.3, 0.0)
    assert hidden.weight.mean().item() == pytest.approx(0.5, abs=1e-3)
    assert hidden.weight.std().item() == pytest.approx(0.1, rel=0.01)
    assert output.weight.mean().item() == pytest.approx(-2.0, abs=1e-3)
    windows = build_classifier(GOLDEN, 64, 10)
    assert all(layer.bias is not None for layer in windows)
    assert (windows.num_steps, windows.out_steps) == (8, 32)


def test_dim_pixels_stay_silent():
    images = torch.tensor([[[0, 99, 100, 255]]], dtype=torch.uint8)
    config = dataclasses.replace(GOLDEN, min_intensity=100, num_steps=10)
    # floor((255 - 100) / 255 * 10) = 6.
    assert encode_images(config, images).tolist() == [[10.0, 10.0, 6.0, 0.0]]


@pytest.mark.parametrize("name", [n for n, p in PRESETS.items() if isinstance(p.config, ClassifierConfig)])
def test_every_preset_takes_an_epoch(tmp_path, few, name):
    run = RunFolder.create(tmp_path / "run", name, preset(name).configure(dataset="digits", epochs=1), 0)
    train_supervised(run, ClassifierTask(run.config), few, few, show_progress=False)
    (record,) = run.load_state().records
    assert math.isfinite(record["loss"])
    # Loading refuses weights that are not finite.
    assert load_classifier(run).out_steps >= 2
