"""Runs as folders for the Hugging Face hub, and back; the network is never used."""

import json
import shutil
import socket
import sys
from pathlib import Path

import numpy
import pytest
import torch
from builders import refused
from safetensors.torch import load_file

import firstspike as fs
from firstspike.support import InputError

huggingface_hub = pytest.importorskip("huggingface_hub")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_a_saved_run_is_the_same_network_and_tells_no_folders(classifier_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(classifier_run, run)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(
        json.dumps(config | {"command": "firstspike train --data-dir /home/me"})
    )
    folder = fs.hub.save(run, tmp_path / "new" / "hub")
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "config.json", "metrics.jsonl", "model.safetensors",
    ]  # fmt: skip
    assert [path.name for path in folder.parent.iterdir()] == ["hub"]
    assert json.loads((folder / "config.json").read_text()) == config | {"command": None}
    assert not any("/home/me" in path.read_text(errors="replace") for path in folder.iterdir())
    with refused(InputError, str(folder), "has no revision 'abc'"):
        fs.hub.load(folder, revision="abc")
    loaded = fs.hub.load(folder)
    expected = load_file(run / "model.safetensors")
    assert all(tensor.equal(expected[name]) for name, tensor in loaded.load().state_dict().items())
    assert loaded.config == fs.RunFolder.open(run).config


def test_where_your_own_data_lie_is_not_published(tmp_path, train):
    data = tmp_path / "private" / "mine.npz"
    data.parent.mkdir()
    numpy.savez(data, x_train=train.images[:200].numpy(), y_train=train.labels[:200].numpy())
    net = fs.Stack(fs.Linear(64, 10), steps=16)
    run = fs.save_network(tmp_path / "run", net, fs.data.own(data))
    folder = fs.hub.save(run, tmp_path / "hub")
    assert not any("private" in path.read_text(errors="replace") for path in folder.iterdir())
    loaded = fs.hub.load(folder)
    with refused(InputError, "does not say where its data lie", "evaluate --data PATH"):
        fs.evaluate(loaded)
    expected = fs.evaluate(run)
    assert fs.evaluate(loaded, data=data) == expected | {"run": str(folder)}


def test_the_card_has_the_figures_of_the_epoch_that_was_kept(classifier_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(classifier_run, run)
    records = [
        {"epoch": k + 1, "loss": 0.5, "validation_accuracy": accuracy, "seconds": 1.0}
        for k, accuracy in enumerate((0.25, 0.875, 0.875, 0.75))
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    card = (fs.hub.save(run, tmp_path / "hub") / "README.md").read_text()
    assert "kept, 3;" in card
    assert "validation_accuracy  0.875" in card
    assert "aggressive-ttfs-window on digits" in card
    assert "network = run.load()" in card
    read = huggingface_hub.ModelCard(card)
    assert read.data.library_name == "firstspike"
    assert read.data.tags == ["spiking-neural-network", "time-to-first-spike"]


def test_a_module_of_your_own_comes_back_into_one(tmp_path):
    torch.manual_seed(0)
    data = torch.randn(40, 2), torch.randn(40, 1)
    fit = fs.fit(
        torch.nn.Linear(2, 1), data, validation=data, loss=torch.nn.functional.mse_loss,
        out=tmp_path / "run", epochs=4, rate=0.5, warmup=0.0, show_progress=False,
    )  # fmt: skip
    folder = fs.hub.save(fs.RunFolder.open(fit.path), tmp_path / "hub")
    other = torch.nn.Linear(2, 1)
    fs.hub.load(folder).load_model(other)
    assert torch.equal(other.weight, fit.model.weight)
    best = min(reversed(fit.records), key=lambda record: record["validation_loss"])
    card = (folder / "README.md").read_text()
    assert f"kept, {best['epoch']};" in card
    assert "your own Linear" in card


def test_a_repository_is_fetched_with_only_what_is_read(classifier_run, tmp_path, monkeypatch):
    folder = fs.hub.save(classifier_run, tmp_path / "hub")
    asked = []

    def snapshot_download(repo_id, **how):
        asked.append((repo_id, how))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert fs.hub.load("someone/digits", revision="abc").path == folder
    patterns = ["config.json", "metrics.jsonl", "model.safetensors"]
    assert asked == [("someone/digits", {"revision": "abc", "allow_patterns": patterns})]


def test_what_cannot_be_fetched_is_said_in_one_line(tmp_path, monkeypatch):
    def snapshot_download(repo_id, **how):
        raise OSError("404\nnot found")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with refused(InputError, "someone/digits", "404 not found"):
        fs.hub.load("someone/digits")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with refused(InputError, "pip install 'firstspike[hub]'"):
        fs.hub.load("someone/digits")


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """What was asked of the hub, from a folder with ``runs/mine.txt``."""
    names = []

    def snapshot_download(repo_id, **how):
        names.append(repo_id)
        raise OSError("nothing there")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine.txt").write_text("no run")
    monkeypatch.chdir(tmp_path)
    return names


@pytest.mark.parametrize(
    "name",
    [
        "./mine",
        "../mine",
        "~/mine",
        "runs/min",
        "runs/a/b",
        "a/b/c",
        "/none/mine",
        "mine",
        "",
        "mine/",
        Path("a"),
    ],
)
def test_a_folder_that_is_not_there_is_not_asked_of_the_hub(asked, name):
    with refused(InputError, "does not exist" if name else "config.json", "folder"):
        fs.hub.load(name)
    assert not asked


def test_a_file_is_not_asked_of_the_hub(asked):
    with refused(InputError, "mine.txt is not a run folder"):
        fs.hub.load("runs/mine.txt")
    assert not asked


def test_a_folder_of_the_users_name_does_not_hide_a_repository_with_a_revision(asked):
    for name, how in (("runs/min", {"revision": "main"}), ("some-one/di.gits_2", {})):
        with refused(InputError, f"{name} is no folder, and could not be fetched"):
            fs.hub.load(name, **how)
    assert asked == ["runs/min", "some-one/di.gits_2"]


def test_a_run_in_the_home_folder_is_found(classifier_run, asked, tmp_path):
    shutil.copytree(classifier_run, tmp_path / "runs" / "mine")
    assert fs.hub.load("~/runs/mine").path == tmp_path / "runs" / "mine"


def test_a_push_makes_the_repository_and_uploads_the_folder(classifier_run, monkeypatch):
    calls = []

    def upload_folder(*, repo_id, folder_path, commit_message):
        names = sorted(path.name for path in folder_path.iterdir())
        calls.append((repo_id, names, commit_message))

    def create_repo(repo_id, **how):
        calls.append((repo_id, how))
        return "https://huggingface.co/someone/digits"

    monkeypatch.setattr(huggingface_hub, "create_repo", create_repo)
    monkeypatch.setattr(huggingface_hub, "upload_folder", upload_folder)
    assert fs.hub.push(classifier_run, "someone/digits", private=True).endswith("someone/digits")
    assert calls == [
        ("someone/digits", {"private": True, "exist_ok": True}),
        (
            "someone/digits",
            ["README.md", "config.json", "metrics.jsonl", "model.safetensors"],
            "Add aggressive-ttfs-window",
        ),
    ]

    def denied(repo_id, **how):
        raise RuntimeError("401 who are you?")

    monkeypatch.setattr(huggingface_hub, "create_repo", denied)
    with refused(InputError, "someone/digits", "401"):
        fs.hub.push(classifier_run, "someone/digits")


def test_a_folder_with_something_in_it_is_left_alone(classifier_run, tmp_path):
    (tmp_path / "hub").mkdir()
    fs.hub.save(classifier_run, tmp_path / "hub")
    kept = (tmp_path / "hub" / "README.md").read_text()
    (tmp_path / "file").write_text("mine")
    for taken in ("hub", "file"):
        with refused(InputError, str(tmp_path / taken), "give another folder"):
            fs.hub.save(classifier_run, tmp_path / taken)
    assert (tmp_path / "hub" / "README.md").read_text() == kept


def test_an_unfinished_or_damaged_run_leaves_nothing(classifier_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(classifier_run, run)
    for damaged in ("{", '{"epoch": 1}', '{"epoch": 1, "seconds": 1, "validation_accuracy": null}'):
        (run / "metrics.jsonl").write_text(damaged)
        with refused(InputError, "damaged"):
            fs.hub.save(run, tmp_path / "hub")
    (run / "metrics.jsonl").unlink()
    with refused(InputError, "no metrics.jsonl"):
        fs.hub.save(run, tmp_path / "hub")
    (run / "model.safetensors").unlink()
    with refused(InputError, "model.safetensors"):
        fs.hub.save(run, tmp_path / "hub")
    with refused(InputError, "model.safetensors"):
        fs.hub.load(run)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
