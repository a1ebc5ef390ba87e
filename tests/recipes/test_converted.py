"""Runs of networks that were not trained here."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import refused, seeded

import firstspike as fs
from firstspike.data import own
from firstspike.recipes import Converted
from firstspike.training.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("one_thread")


def network(outputs: int = 10) -> fs.Stack:
    return fs.Stack(
        fs.Conv2d(1, 4, 3, padding=1, generator=seeded(0)),
        fs.EarliestPool2d(2),
        fs.Linear(64, outputs, fs.Window.output(steps=64), generator=seeded(1)),
        steps=16,
    )


def labelled(count: int = 60, *, side: int = 8, classes: int = 3) -> fs.data.OwnData:
    images = torch.randint(0, 256, (count, side, side), generator=seeded(2), dtype=torch.uint8)
    return own((images, torch.arange(count) % classes))


def test_a_saved_network_is_a_run_as_any_other(tmp_path: Path) -> None:
    net = network()
    run = fs.save_network(tmp_path / "new" / "run", net, "digits")
    assert [path.name for path in run.path.parent.iterdir()] == ["run"]
    assert sorted(path.name for path in run.path.iterdir()) == ["config.json", "model.safetensors"]
    opened = RunFolder.open(run.path)
    assert opened == run
    assert opened.finished
    test = fs.data.load("digits", "test")
    loaded = opened.load()
    assert isinstance(loaded, fs.Stack)
    assert not loaded.training
    spikes = net.encode(test.images)
    for one, two in zip(net.trace(spikes), loaded.trace(spikes), strict=True):
        assert torch.equal(one.times, two.times)
    figures = fs.evaluate(opened)
    report = fs.report(net, test.images.unsqueeze(1), test.labels)
    assert figures == figures | report.as_dict()
    assert (figures["preset"], figures["dataset"]) == ("converted", "digits")


def test_it_is_measured_on_whatever_data_are_named(tmp_path: Path) -> None:
    run = fs.save_network(tmp_path / "run", network())
    with refused(fs.InputError, "names no data set", "--data"):
        fs.evaluate(run)
    data = labelled()
    figures = fs.evaluate(run, data=data)
    assert (figures["count"], figures["dataset"]) == (data.test, "own")
    other = fs.save_network(tmp_path / "other", network(), "digits")
    assert fs.evaluate(other, data=data)["accuracy"] == figures["accuracy"]
    with refused(fs.InputError, "does not take the images of own", "takes 64 features", "4 x 5 x 5"):
        fs.evaluate(run, data=labelled(side=10))
    few = fs.save_network(tmp_path / "few", network(outputs=2))
    with refused(fs.InputError, "gives 2 outputs", "own has 3 classes"):
        fs.evaluate(few, data=data)


def test_it_is_not_trained_and_draws_nothing(tmp_path: Path) -> None:
    run = fs.save_network(tmp_path / "run", network(), "digits")
    before = {path: path.read_bytes() for path in run.path.iterdir()}
    preset = fs.preset("aggressive-ttfs-window").configure(dataset="digits")
    with refused(fs.InputError, "converted network, which is not trained", "another out"):
        fs.train(run.path, "aggressive-ttfs-window", preset, 0, resume=True)
    with refused(fs.InputError, "Converted holds a finished network, which is not trained"):
        fs.train(tmp_path / "new", "mine", run.config, 0)
    with refused(fs.InputError, "generates nothing"):
        run.config.sample(run.load(), 3)
    assert {path: path.read_bytes() for path in run.path.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("save", "words"),
    [
        (lambda path: fs.save_network(path / "full", network()), ["full holds something already"]),
        (lambda path: fs.save_network(path / "full" / "file", network()), ["file holds something already"]),
        (lambda path: fs.save_network(path / "new", network(), "digit"), ["unknown data set 'digit'"]),
        (
            lambda path: fs.save_network(path / "new", network(), "mnist"),
            ["does not take the images of mnist", "takes 64 features"],
        ),
        (
            lambda path: fs.save_network(path / "new", network(outputs=9), "digits"),
            ["9 outputs", "digits has 10 classes"],
        ),
    ],
)
def test_what_cannot_be_saved_leaves_nothing(
    tmp_path: Path, save: Callable[[Path], Any], words: list[str]
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    with refused(fs.InputError, *words):
        save(tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "file"]


def test_a_failure_while_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RunFolder, "save_model", full)
    with pytest.raises(OSError, match="No space"):
        fs.save_network(tmp_path / "run", network())
    assert list(tmp_path.iterdir()) == []


def _first(change: dict[str, Any]) -> Callable[[dict[str, Any]], Any]:
    return lambda described: described["layers"][0].update(change)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda described: described.update(steps=1), ["cannot be built", "steps"]),
        (lambda described: described.update(steps="16"), ["StackDescription.steps", "an integer"]),
        (lambda described: described.update(layers=[]), ["cannot be built", "at least one layer"]),
        (_first({"bias": [5]}), ["cannot be built", "bias of shape (5,)"]),
        (_first({"source": 3}), ["cannot be built", "from 3 into layer 0"]),
        (_first({"dtype": "int8"}), ["LayerDescription.dtype", "float32"]),
        (_first({"neuron": {"type": "Path"}}), ["unknown type 'Path'"]),
        (_first({"shortcuts": None}), ["LayerDescription.shortcuts"]),
        (
            lambda described: described["layers"][0]["wiring"].update(out_channels=10**15),
            ["cannot be built"],
        ),
        (
            lambda described: described["layers"][0]["wiring"].update(kernel_size=[5, 5], padding=[2, 2]),
            ["does not fit its configuration", "layers.0.weight"],
        ),
        (lambda described: described.update(type="Window"), ["unknown type 'Window'"]),
    ],
)
def test_a_damaged_description_is_refused_in_one_line(
    tmp_path: Path, damage: Callable[[dict[str, Any]], Any], words: list[str]
) -> None:
    run = fs.save_network(tmp_path / "run", network(), "digits")
    document = json.loads((run.path / "config.json").read_text())
    damage(document["config"]["network"])
    (run.path / "config.json").write_text(json.dumps(document))
    with pytest.raises(fs.InputError) as caught:
        RunFolder.open(run.path).load()
    for word in words:
        assert word in str(caught.value)


def test_the_hub_takes_it(tmp_path: Path) -> None:
    run = fs.save_network(tmp_path / "run", network(), "digits")
    folder = fs.hub.save(run, tmp_path / "hub")
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    card = (folder / "README.md").read_text()
    assert "without a training of its own" in card
    assert "run.load()" in card
    loaded = fs.hub.load(folder)
    assert isinstance(loaded.config, Converted)
    assert fs.evaluate(loaded)["accuracy"] == fs.evaluate(run)["accuracy"]
