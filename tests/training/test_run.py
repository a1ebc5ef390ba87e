"""One run at a time in a process; precision and changes are recorded and kept."""

import dataclasses
import json
import threading

import pytest
import torch
from builders import refused
from safetensors.torch import load_file
from small_recipes import SHALLOW, WINDOW

from firstspike.data import ImageSet
from firstspike.support import InputError
from firstspike.training.loop import train_recipe
from firstspike.training.run import train as train_run
from firstspike.training.run_folder import RunFolder

# A core that is shared makes two threads wait for each other.
pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = dataclasses.replace(SHALLOW, hidden_features=20, epochs=2)


def test_a_second_thread_is_refused_and_the_first_one_is_undisturbed(tmp_path):
    alone = train_run(tmp_path / "alone", "x", SMALL, 0, threads=1, show_progress=False)
    inside, left, refused = threading.Event(), threading.Event(), []

    def second():
        inside.wait(60)
        try:
            train_run(tmp_path / "second", "x", SMALL, 0, threads=1, show_progress=False)
        except InputError as error:
            refused.append(str(error))
        finally:
            left.set()

    thread = threading.Thread(target=second)
    thread.start()
    images = [SMALL.data(split) for split in ("train", "validation")]
    run = RunFolder.create(tmp_path / "first", "x", SMALL, 0)

    def wait(epoch, model):
        inside.set()
        assert left.wait(60)

    train_recipe(run, *images, show_progress=False, watch=wait)
    thread.join()
    (message,) = refused
    assert "another thread" in message
    assert "\n" not in message
    assert not (tmp_path / "second" / "config.json").exists()
    expected, found = (load_file(path / "model.safetensors") for path in (alone.path, run.path))
    assert all(expected[name].equal(found[name]) for name in expected)
    # Afterwards the other may.
    train_run(tmp_path / "second", "x", SMALL, 0, threads=1, show_progress=False)


def test_a_network_that_cannot_be_built_leaves_no_folder(tmp_path):
    deep = dataclasses.replace(WINDOW, layout="4C3-E2-4C3-E2-4C3-E2-4C3-E2-F8")
    with refused(InputError, "x on digits: ", "map"):
        train_run(tmp_path / "run", "x", deep, 0, show_progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_auto_is_settled_when_a_run_is_made_and_kept(tmp_path, monkeypatch, train, precision):
    monkeypatch.setattr("firstspike.recipes.base.fast_precision", lambda device: precision)
    few = ImageSet("digits", "train", train.images[:32], train.labels[:32], 10)
    recipe = dataclasses.replace(WINDOW, layout="4C3-F8", epochs=1)
    run = RunFolder.create(tmp_path / "run", "x", recipe, 0)
    assert json.loads((run.path / "config.json").read_text())["precision"] == precision
    # Another machine goes on with what the run was made for.
    monkeypatch.setattr("firstspike.recipes.base.fast_precision", lambda device: "found out again")
    opened = RunFolder.create(tmp_path / "run", "x", recipe, 0, resume=True)
    assert opened.config.precision == "auto"
    assert opened.recipe.precision == precision
    seen = set()
    batch_loss = type(recipe).batch_loss

    def watched(self, model, *batch):
        loss = batch_loss(self, model, *batch)
        seen.add(model.dtype)
        return loss

    monkeypatch.setattr(type(recipe), "batch_loss", watched)
    train_recipe(opened, few, few, show_progress=False)
    assert seen == {getattr(torch, precision)}


def test_a_precision_that_is_asked_for_is_taken(tmp_path):
    for precision in ("float32", "bfloat16"):
        recipe = dataclasses.replace(WINDOW, precision=precision)
        assert RunFolder.create(tmp_path / precision, "x", recipe, 0).precision == precision
    assert RunFolder.create(tmp_path / "shallow", "x", SMALL, 0).precision == "float32"


def test_what_differs_is_named_field_by_field(tmp_path):
    RunFolder.create(tmp_path / "run", "x", SMALL, 0).save_model({})
    other = dataclasses.replace(
        SMALL, rate=1.0, hidden_neuron=dataclasses.replace(SMALL.hidden_neuron, high=3.0)
    )
    with pytest.raises(InputError) as caught:
        RunFolder.find(tmp_path / "run", "x", other, 0, resume=True)
    assert "rate 0.005 there, 1.0 asked for; " in str(caught.value)
    assert "hidden_neuron.high 2.0 there, 3.0 asked for" in str(caught.value)
    assert "epochs" not in str(caught.value)
    with pytest.raises(InputError, match="recipe ShallowRecipe there, WindowRecipe asked for"):
        RunFolder.find(tmp_path / "run", "x", WINDOW, 0, resume=True)
