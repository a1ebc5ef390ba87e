"""Bounds of the numbers that a command takes, and two commands that mean the same folder."""

import json
import subprocess
import sys

import pytest
from commands import contents

from firstspike.data import load
from firstspike.metrics.report import table
from firstspike.recipes import PRESETS, base
from firstspike.recipes.base import Recipe
from firstspike.recipes.fields import from_json

GAN = ("train", "ann-gan", "--digit", 3, "--dataset", "digits", "--epochs", 1, "--out", "run")


@pytest.mark.parametrize("value", ["0", "1025", "1" + "0" * 30, "1e3"])
@pytest.mark.parametrize(
    "line", ["train ann-gan --threads", "evaluate RUN --threads", "reproduce spiking-gan --jobs"]
)
def test_threads_and_jobs_have_bounds(firstspike, tmp_path, line, value):
    expected = f"{line.split()[-1]}: expected an integer, 1 ... 1,024, found '{value}'"
    assert expected in firstspike(*line.split(), value).refusal
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("value", ["0", "1000001", "9" * 25])
def test_the_number_of_samples_has_bounds(firstspike, tmp_path, value):
    refusal = firstspike("sample", "run", "--out", "a.png", "--count", value).refusal
    assert f"--count: expected an integer, 1 ... 1,000,000, found '{value}'" in refusal
    assert contents(tmp_path) == {}


def test_options_reach_the_experiment(firstspike, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "firstspike.experiments.run_experiment", lambda *given, **named: asked.append((*given, named))
    )
    line = "reproduce spiking-gan --seeds 2 0 2 --digits 7 3 7 --jobs 3 --epochs 4"
    assert firstspike(*line.split()).status == 0
    ((experiment, named),) = asked
    assert {run.digits for run in experiment.runs} == {(7, 3), (3,), None}
    assert (named["seeds"], named["jobs"], named["epochs"]) == ([2, 0, 2], 3, 4)
    assert str(named["out"]) == "runs/reproduce-spiking-gan"


HOLD = """
import time
from filelock import FileLock
lock = FileLock("run/.lock")
lock.acquire()
print("held", flush=True)
time.sleep(600)
"""


def test_two_processes_do_not_train_in_one_folder_and_a_killed_one_frees_it(firstspike, tmp_path):
    (tmp_path / "run").mkdir()
    holder = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        for resume in ([], ["--resume"]):
            assert firstspike(*GAN, *resume).refusal == (
                "another process trains in run; wait for it or give another --out"
            )
        assert contents(tmp_path / "run") == {".lock": b""}
    finally:
        holder.kill()
        holder.communicate()
    assert (tmp_path / "run" / ".lock").exists()
    assert firstspike(*GAN).status == 0
    assert not (tmp_path / "run" / ".lock").exists()


def test_the_folder_is_looked_at_before_the_data(firstspike, ann_gan_run, monkeypatch, tmp_path):
    def unwanted(*_):
        raise AssertionError("no data may be loaded for a run that is not trained")

    monkeypatch.setattr(base, "load", unwanted)
    again = [*GAN[:-3], 2, "--out", ann_gan_run]
    assert firstspike(*again).refusal.startswith(f"{ann_gan_run} holds a run already")
    assert "holds another run" in firstspike(*again, "--seed", 1, "--resume").refusal
    answer = firstspike(*again, "--resume")
    assert (answer.status, answer.out) == (0, f"{ann_gan_run}\n")
    assert contents(tmp_path) == {}


def test_only_a_classifier_reads_the_validation_split(firstspike, monkeypatch):
    splits = []

    def noted(name, split, data_dir):
        splits.append(split)
        return load(name, split, data_dir)

    monkeypatch.setattr(base, "load", noted)
    assert firstspike(*GAN).status == 0
    assert splits == ["train"]
    line = "train aggressive-ttfs-window --dataset digits --epochs 1 --out classifier"
    assert firstspike(*line.split()).status == 0
    assert splits == ["train", "train", "validation"]


def test_the_presets_say_what_differs_on_the_digits(firstspike):
    for name, entry in json.loads(firstspike("presets", "--json").out).items():
        if entry["one_dataset"]:
            assert from_json(entry["config"], Recipe) == PRESETS[name].configure()
            continue
        digit = 3 if entry["takes_digit"] else None
        changed = entry["config"] | entry["on_digits"] | {"dataset": "digits"}
        if digit is not None:
            changed["digit"] = digit
        assert from_json(changed, Recipe) == PRESETS[name].configure(dataset="digits", digit=digit)


def test_a_class_that_does_not_occur_has_a_dash_in_the_table():
    assert table({"steps_by_class": [1.5, None, 20.0]}) == "steps_by_class  1.5, -, 20"
