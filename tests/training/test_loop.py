"""The golden run on the embedded digits, and the loop's promises one by one."""

import dataclasses
import json
import math
from types import SimpleNamespace

import pytest
import torch
from builders import refused
from safetensors.torch import load_file
from small_recipes import SHALLOW

from firstspike.recipes.augmentation import Augmentation
from firstspike.recipes.shallow import ShallowRecipe
from firstspike.support import Diverged, InputError
from firstspike.training import loop
from firstspike.training.loop import train_recipe
from firstspike.training.run_folder import RunFolder
from firstspike.training.seeding import seeded

# A core that is shared makes two threads wait for each other.
pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = dataclasses.replace(SHALLOW, hidden_features=30, batch_size=25, epochs=4, ema=0.5)


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
    runs = [started(tmp_path / name, SHALLOW) for name in ("one", "two")]
    for run in runs:
        train_recipe(run, train, validation, show_progress=False)
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
    returned = train_recipe(run, few, validation, show_progress=False)
    accuracies = [record["validation_accuracy"] for record in run.load_state().records]
    best = max(epoch for epoch, accuracy in enumerate(accuracies) if accuracy == max(accuracies))
    kept = load_file(run.path / "model.safetensors")
    assert all(kept[name].equal(epochs[best][name]) for name in kept)
    assert all(kept[name].equal(weights) for name, weights in returned.state_dict().items())

    model = run.load()
    with torch.no_grad():
        out = model(model.encode(validation.images))
    first = out.times.min(1, keepdim=True).values
    winner = (out.times == first) & (first < out.steps)
    decided = winner.sum(1) == 1
    right = decided & winner[torch.arange(len(winner)), validation.labels]
    assert right.float().mean().item() == pytest.approx(max(accuracies), abs=1e-6)


@pytest.mark.parametrize(("epochs", "ema", "decay"), [(3, 0.6, 0.6), (2, 0.998, 0.5), (1, 0.998, 0.0)])
def test_the_average_is_the_hand_formula(tmp_path, few, validation, monkeypatch, epochs, ema, decay):
    """In few steps with a decay of 1 - 4 / steps."""
    passed = []
    update = loop.update_average

    def watched(average, model, decay):
        if not passed:
            passed.append({n: t.clone() for n, t in average.state_dict().items()})
        passed.append({n: t.clone() for n, t in model.state_dict().items()})
        update(average, model, decay)

    monkeypatch.setattr(loop, "update_average", watched)
    run = started(tmp_path / "run", dataclasses.replace(SMALL, epochs=epochs, ema=ema))
    train_recipe(run, few, validation, show_progress=False)
    assert len(passed) == 1 + 4 * epochs
    tensors = run.load_state().tensors
    for name, average in passed[0].items():
        for weights in passed[1:]:
            average = decay * average + (1 - decay) * weights[name]
        assert torch.allclose(tensors[f"average/{name}"], average, atol=1e-6)
        assert tensors[f"model/{name}"].equal(passed[-1][name])


def test_look_ahead_is_a_loop_by_hand(tmp_path, few, validation):
    """Slow weights move every third step and at an epoch's end, and the fast ones go back to them."""
    config = dataclasses.replace(SMALL, epochs=2, ema=0.6, look_ahead=3, batch_size=20)
    run = started(tmp_path / "run", config, seed=3)
    train_recipe(run, few, validation, show_progress=False)

    with seeded(3, "initial"):
        model = config.build((1, 8, 8), 10)
    slow = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = config.optimizers(model)["optimizer"]
    rate = optimizer.param_groups[0]["lr"]
    moves = []
    for epoch in range(2):
        with seeded(3, "epoch", epoch):
            for index, batch in enumerate(torch.randperm(100).split(20)):
                for group in optimizer.param_groups:
                    group["lr"] = rate * config.rate_factor(5 * epoch + index, 10)
                shown = config.augment(few.images[batch], batch, epoch)
                optimizer.zero_grad()
                config.batch_loss(model, shown, few.labels[batch]).backward()
                optimizer.step()
                if index in (2, 4):
                    moves.append((epoch, index))
                    for name, fast in model.named_parameters():
                        slow[name] = 0.6 * slow[name] + 0.4 * fast.detach()
                        fast.data.copy_(slow[name])
    assert len(moves) == 4
    tensors = run.load_state().tensors
    for name, weights in slow.items():
        torch.testing.assert_close(tensors[f"model/{name}"], weights, atol=1e-5, rtol=1e-4)
        assert tensors[f"average/{name}"].equal(tensors[f"model/{name}"])


def test_look_ahead_needs_an_average():
    with refused(InputError, "look_ahead", "give ema"):
        dataclasses.replace(SMALL, ema=0.0, look_ahead=3)


def test_look_ahead_ends_each_epoch_where_a_last_batch_is_left_out(tmp_path, few, validation, monkeypatch):
    """As two processes leave out one of a single sample."""
    many = SimpleNamespace(**vars(loop.processes) | {"count": lambda: 2})
    monkeypatch.setattr(loop, "processes", many)
    config = dataclasses.replace(SMALL, epochs=1, ema=0.6, look_ahead=10, batch_size=33)
    run = started(tmp_path / "run", config)
    shown = []
    batch_loss = ShallowRecipe.batch_loss

    def watched(self, model, images, labels):
        shown.append(len(images))
        return batch_loss(self, model, images, labels)

    monkeypatch.setattr(ShallowRecipe, "batch_loss", watched)
    train_recipe(run, few, validation, show_progress=False)
    assert shown == [33, 33, 33]
    tensors = run.load_state().tensors
    for name, weights in tensors.items():
        if name.startswith("model/"):
            assert weights.equal(tensors[name.replace("model/", "average/")])


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_seed_decides_every_bit(tmp_path, few, validation, optimizer):
    config = dataclasses.replace(SMALL, optimizer=optimizer, epochs=2)
    runs = {name: started(tmp_path / name, config, seed) for name, seed in (("a", 4), ("b", 4), ("c", 5))}
    for run in runs.values():
        train_recipe(run, few, validation, show_progress=False)
    assert same(files(runs["a"]), files(runs["b"]))
    one, other = files(runs["a"])[1], files(runs["c"])[1]
    assert not any(one[name].equal(other[name]) for name in one)


@pytest.mark.parametrize("stop_after", [1, 3, 4])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    tmp_path, few, validation, monkeypatch, stop_after
):
    """Stopped after the last epoch too: then only the choice of the best is left to do."""
    whole = started(tmp_path / "whole", SMALL)
    train_recipe(whole, few, validation, show_progress=False)
    run = started(tmp_path / "stopped", SMALL)
    save_state = RunFolder.save_state

    def save_and_stop(self, state):
        save_state(self, state)
        if state.epoch == stop_after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save_state", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train_recipe(run, few, validation, show_progress=False)
    assert run.load_state().epoch == stop_after
    assert not (run.path / "model.safetensors").exists()
    train_recipe(run, few, validation, show_progress=False)
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
    monkeypatch.setattr(loop, "set_rate", lambda optimizer, rate: rates.append(rate))
    train_recipe(started(tmp_path / "run", config), few, validation, show_progress=False)
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
    batch_loss = ShallowRecipe.batch_loss

    def watched(self, model, images, labels):
        shown.append((images, labels))
        return batch_loss(self, model, images, labels)

    monkeypatch.setattr(ShallowRecipe, "batch_loss", watched)
    train_recipe(started(tmp_path / "run", config), few, validation, show_progress=False)
    assert [len(inputs) for inputs, _ in shown] == [30, 30, 30, 10] * 2
    expected = torch.cat([few.images.flatten(1), few.labels.unsqueeze(1)], 1).tolist()
    orders = []
    for epoch in (shown[:4], shown[4:]):
        rows = [
            row
            for part in epoch
            for row in torch.cat([part[0].flatten(1), part[1].unsqueeze(1)], 1).tolist()
        ]
        assert sorted(rows) == sorted(expected)
        orders.append(rows)
    assert orders[0] != orders[1]


def test_a_training_that_diverges_stops_and_keeps_its_finished_epochs(
    tmp_path, few, validation, monkeypatch
):
    run = started(tmp_path / "run", SMALL)
    batch_loss = ShallowRecipe.batch_loss
    calls = []

    def diverging(self, *batch):
        calls.append(batch)
        return batch_loss(self, *batch) * (math.nan if len(calls) == 7 else 1)

    monkeypatch.setattr(ShallowRecipe, "batch_loss", diverging)
    with pytest.raises(Diverged, match=r"epoch 2.*lower rate") as caught:
        train_recipe(run, few, validation, show_progress=False)
    assert "\n" not in str(caught.value)
    assert run.load_state().epoch == 1
    assert not run.finished


def test_a_long_epoch_that_diverges_is_not_trained_to_its_end(tmp_path, train, validation, monkeypatch):
    config = dataclasses.replace(SMALL, batch_size=2)
    calls = []

    def infinite(self, model, images, labels):
        calls.append(labels)
        return sum(p.sum() for p in model.parameters()) * math.inf

    monkeypatch.setattr(ShallowRecipe, "batch_loss", infinite)
    with pytest.raises(Diverged, match="epoch 1"):
        train_recipe(started(tmp_path / "run", config), train, validation, show_progress=False)
    assert len(calls) == loop._LOOK_EVERY < len(train) // 2
