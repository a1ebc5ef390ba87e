"""A run's figures as TensorBoard itself reads them."""

import json
import sys
import time

import pytest
import torch
from builders import refused

import firstspike as fs
from firstspike.cli import main
from firstspike.support import InputError

pytestmark = pytest.mark.usefixtures("one_thread")


def scalars(folder):
    """Return the values of each tag by step, and when each was written."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    seen = EventAccumulator(str(folder)).Reload()
    tags = {tag: seen.Scalars(tag) for tag in seen.Tags()["scalars"]}
    return {tag: {event.step: event.value for event in events} for tag, events in tags.items()}, tags


def metrics(path, *records):
    lines = [json.dumps({"epoch": k + 1, "seconds": 2.0, **record}) for k, record in enumerate(records)]
    path.mkdir(exist_ok=True)
    (path / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def test_every_number_of_every_epoch_is_a_scalar(tmp_path):
    metrics(
        tmp_path / "run", {"loss": 0.5, "accuracy": None}, {"loss": 0.25, "accuracy": 0.75, "name": "x"}
    )
    before = time.time()
    folder = fs.tensorboard.write(tmp_path / "run")
    assert folder == tmp_path / "run" / "tensorboard"
    values, events = scalars(folder)
    assert values == {"loss": {1: 0.5, 2: 0.25}, "accuracy": {2: 0.75}, "seconds": {1: 2.0, 2: 2.0}}
    first, second = (event.wall_time for event in events["loss"])
    assert second - first == pytest.approx(2)
    assert before - 1 < second < time.time() + 1


def test_a_later_call_adds_what_is_new(tmp_path):
    run = tmp_path / "run"
    records = [{"loss": 1 / (k + 1)} for k in range(12)]
    for count in (1, 2, 9, 10, 12):
        metrics(run, *records[:count])
        for _ in range(2):
            values, _ = scalars(fs.tensorboard.write(run))
            assert values["loss"] == pytest.approx({k + 1: 1 / (k + 1) for k in range(count)})
    assert len(list((run / "tensorboard").iterdir())) == 5


def test_tensorflow_is_not_imported_even_where_it_is_installed(tmp_path, monkeypatch):
    class Refusing:
        def find_spec(self, name, *rest):
            if name.split(".")[0] == "tensorflow":
                raise AssertionError("tensorflow was imported")

    monkeypatch.setattr(sys, "meta_path", [Refusing(), *sys.meta_path])
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    metrics(tmp_path, {"loss": 1.0})
    fs.tensorboard.write(tmp_path)


def test_what_is_missing_is_said(tmp_path, monkeypatch, capsys):
    with refused(InputError, str(tmp_path), "metrics.jsonl"):
        fs.tensorboard.write(tmp_path)
    (tmp_path / "metrics.jsonl").write_text("[]\n")
    with refused(InputError, "damaged"):
        fs.tensorboard.write(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with refused(InputError, "pip install 'firstspike[tensorboard]'"):
        fs.tensorboard.write(tmp_path)
    run = tmp_path / "run"
    assert main(["train", "aggressive-ttfs-window", "--tensorboard", "--out", str(run)]) == 2
    assert "firstspike[tensorboard]" in capsys.readouterr().err
    assert not run.exists()


@pytest.mark.parametrize(
    "record",
    [
        '{"epoch": 1}', '{"epoch": "a", "seconds": 1}', '{"epoch": 1, "seconds": null}', '{"seconds": 1}',
        '{"epoch": 1.5, "seconds": 1}', '{"epoch": true, "seconds": 1}', '{"epoch": -1, "seconds": 1}',
        f'{{"epoch": 1, "seconds": 1, "loss": 1{"0" * 400}}}', "1", "",
    ],
)  # fmt: skip
def test_damaged_figures_are_refused(tmp_path, record):
    good = '{"epoch": 1, "seconds": 1.0}\n' if record else ""
    (tmp_path / "metrics.jsonl").write_text(good + record)
    with refused(InputError, "metrics.jsonl is damaged", "line 2" if record else "empty"):
        fs.tensorboard.write(tmp_path)
    assert not (tmp_path / "tensorboard").exists()


def test_a_training_writes_as_its_epochs_end(tmp_path, monkeypatch):
    run = tmp_path / "run"
    seen = []
    write = fs.tensorboard.write

    def watched(path):
        seen.append(len((path / "metrics.jsonl").read_text().splitlines()))
        return write(path)

    monkeypatch.setattr(fs.tensorboard, "write", watched)
    arguments = ["train", "aggressive-ttfs-window", "--dataset", "digits", "--epochs", "2"]
    arguments += ["--tensorboard", "--out", str(run)]
    assert main(arguments) == 0
    assert seen == [1, 2]
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    values, _ = scalars(run / "tensorboard")
    for name in ("loss", "validation_accuracy"):
        assert values[name] == pytest.approx({r["epoch"]: r[name] for r in records})
    # A run that is finished gets what it lacks.
    for file in (run / "tensorboard").iterdir():
        file.unlink()
    assert main([*arguments, "--resume"]) == 0
    assert scalars(run / "tensorboard")[0] == values


def test_a_fit_is_written_too(tmp_path):
    fit = fs.fit(
        torch.nn.Linear(2, 1), (torch.zeros(8, 2), torch.zeros(8, 1)), loss=torch.nn.functional.mse_loss,
        out=tmp_path / "run", epochs=3, show_progress=False,
    )  # fmt: skip
    values, _ = scalars(fs.tensorboard.write(fit.path))
    assert values["loss"] == pytest.approx({r["epoch"]: r["loss"] for r in fit.records})
