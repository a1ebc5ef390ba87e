"""``firstspike reproduce`` and ``firstspike demo``: what is refused before hours of training."""

import shutil

import pytest
from commands import contents

from firstspike.recipes import preset
from firstspike.training.run_folder import RunFolder

EXPERIMENTS = ["aggressive-ttfs", "spiking-gan"]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_missing_data_is_said_before_anything_is_trained(firstspike, tmp_path, experiment):
    refusal = firstspike("reproduce", experiment, "--data-dir", "nowhere").refusal
    assert "mnist" in refusal
    assert "nowhere (which does not exist)" in refusal
    assert "--data-dir" in refusal
    assert contents(tmp_path) == {}


def test_a_quick_look_is_not_taken_for_the_real_run(firstspike, tmp_path):
    """A finished run of fewer epochs in the same folder must not end up in the tables."""
    config = preset("aggressive-ttfs-window").configure(dataset="mnist", epochs=1)
    path = tmp_path / "out" / "runs" / "aggressive-ttfs-window-seed0"
    run = RunFolder.create(path, "aggressive-ttfs-window", config, 0)
    run.save_model({})
    before = contents(tmp_path)
    refusal = firstspike("reproduce", "aggressive-ttfs", "--out", tmp_path / "out").refusal
    epochs = preset("aggressive-ttfs-window").recipe.epochs
    assert refusal == (f"{path} holds another run: epochs 1 there, {epochs} asked for; give another --out")
    assert contents(tmp_path) == before


def test_a_demo_needs_a_folder(firstspike, tmp_path):
    (tmp_path / "file").write_text("precious")
    refusal = firstspike("demo", "--epochs", 1, "--out", "file").refusal
    assert refusal == "file/gan: Not a directory; name another path"
    assert contents(tmp_path) == {"file": b"precious"}


def test_a_demo_does_not_go_on_with_an_older_one_unasked(firstspike, gan_run, tmp_path):
    shutil.copytree(gan_run, tmp_path / "demo" / "gan")
    before = contents(tmp_path)
    refusal = firstspike("demo", "--epochs", 1).refusal
    assert refusal == "demo/gan holds a run already; give another --out, or --resume to go on with it"
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("line", "place", "kept"),
    [
        ("train ann-gan --digit 1", "training.run.train", "; finished epochs are kept, --resume goes on"),
        ("demo", "experiments.demo.demo", "; finished epochs are kept, --resume goes on"),
        (
            "reproduce spiking-gan",
            "experiments.run_experiment",
            "; finished epochs are kept, the same command goes on",
        ),
        ("evaluate RUN", "training.evaluation.evaluate", ""),
        ("sample RUN --count 3 --out a.png", "recipes.generation.sample", ""),
    ],
    ids=["train", "demo", "reproduce", "evaluate", "sample"],
)
def test_ctrl_c_says_what_is_kept(firstspike, monkeypatch, tmp_path, gan_run, line, place, kept):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"firstspike.{place}", interrupted)
    answer = firstspike(*(str(gan_run) if word == "RUN" else word for word in line.split()))
    assert (answer.status, answer.out) == (130, "")
    assert answer.err == f"firstspike: interrupted{kept}\n"
    assert contents(tmp_path) == {}
