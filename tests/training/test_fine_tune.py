"""Fine-tuning with rounded weights gives accuracy back, for networks trained in either form."""

import pytest
import torch
from builders import refused
from small_recipes import ONE_STEP, SHALLOW, WINDOW

import firstspike as fs
from firstspike.training.fine_tune import fine_tuned


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("recipe", [SHALLOW, WINDOW], ids=["shallow", "window"])
def test_two_bits_lose_less_after_fine_tuning(recipe, tmp_path):
    run = fs.train(tmp_path / "run", "small", recipe, 0, show_progress=False)
    test = fs.data.load("digits", "test")
    form = run.recipe.exported(run.load())

    def accuracy(net):
        whole = fs.integer(net, bits=2, per="layer")
        images = test.images.reshape(-1, *form.in_shape)
        return fs.FirstSpike().decide(whole(whole.encode(images))).score(test.labels).accuracy

    tuned = fine_tuned(run, 3, bits=2, per="layer")
    assert accuracy(tuned) > accuracy(form)
    # The run is left as it was.
    before, after = form.stack.state_dict(), run.recipe.exported(run.load()).stack.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_what_makes_no_spike_times_is_refused(tmp_path):
    run = fs.train(tmp_path / "run", "small", ONE_STEP.at("float32"), 0, show_progress=False)
    with refused(fs.InputError, "OneStepRecipe", "exported"):
        fine_tuned(run, 1, bits=4)
