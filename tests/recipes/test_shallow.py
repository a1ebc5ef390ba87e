"""The shallow classifiers: losses, networks, presets."""

import dataclasses
import math

import pytest
import torch
from builders import refused
from small_recipes import SHALLOW

from firstspike.neurons import Causal, Phased, Ramp, Window
from firstspike.recipes import PRESETS, preset
from firstspike.recipes.augmentation import Augmentation
from firstspike.recipes.shallow import (
    AggressiveTargets,
    LevelTraining,
    Normal,
    RelativeTargets,
    ShallowRecipe,
)
from firstspike.recipes.spike_losses import FirstSpikeLoss
from firstspike.support import InputError
from firstspike.training.loop import train_recipe
from firstspike.training.optimizer import set_rate
from firstspike.training.run_folder import RunFolder

# A core that is shared makes two threads wait for each other.
pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = dataclasses.replace(SHALLOW, hidden_features=30, batch_size=25, epochs=4, ema=0.5)


@pytest.fixture(scope="module")
def few(train):
    """A hundred digits, ten or so of each class."""
    return dataclasses.replace(train, images=train.images[:100], labels=train.labels[:100])


def started(path, config, seed=0):
    return RunFolder.create(path, "made", config, seed)


@pytest.mark.parametrize(
    "loss", [FirstSpikeLoss(), AggressiveTargets(), RelativeTargets()], ids=lambda loss: type(loss).__name__
)
def test_every_loss_learns(tmp_path, few, loss):
    """The hundred images by heart, far above the tenth that chance gives."""
    config = dataclasses.replace(
        SHALLOW, loss=loss, epochs=15, batch_size=25, augmentation=Augmentation(), rate=0.01
    )
    run = started(tmp_path / "run", config)
    train_recipe(run, few, few, show_progress=False)
    records = run.load_state().records
    assert max(record["validation_accuracy_papers_rule"] for record in records) >= 0.8
    assert records[-1]["loss"] < 0.6 * records[0]["loss"]


def test_the_penalty_saves_spikes(tmp_path, few):
    spikes = []
    for penalty in (0.0, 0.5):
        config = dataclasses.replace(SMALL, spike_penalty=penalty, rate=0.01, epochs=6)
        run = started(tmp_path / str(penalty), config)
        train_recipe(run, few, few, show_progress=False)
        spikes.append(run.load_state().records[-1]["spikes_to_decision"])
    assert spikes[1] < spikes[0] - 3


def test_the_network_has_the_configurations_shape_and_weights():
    config = ShallowRecipe(
        steps=16,
        hidden_neuron=Causal(threshold=10.0),
        output_neuron=Causal(threshold=20.0),
        hidden_init=Normal(mean=0.5, sd=0.1),
        output_init=Normal(mean=-2.0, sd=0.01),
    )
    torch.manual_seed(0)
    hidden, output = config.build((1, 28, 28), 10)
    assert [tuple(layer.weight.shape) for layer in (hidden, output)] == [(400, 784), (10, 400)]
    assert hidden.bias is output.bias is None
    assert (hidden.neuron, output.neuron) == (config.hidden_neuron, config.output_neuron)
    assert hidden.weight.mean().item() == pytest.approx(0.5, abs=1e-3)
    assert hidden.weight.std().item() == pytest.approx(0.1, rel=0.01)
    assert output.weight.mean().item() == pytest.approx(-2.0, abs=1e-3)
    windows = SHALLOW.build((1, 8, 8), 10)
    assert all(layer.bias is not None for layer in windows)
    assert (windows.steps, windows.out_steps) == (8, 32)


def test_dim_pixels_stay_silent():
    images = torch.tensor([[[0, 99, 100, 255]]], dtype=torch.uint8)
    config = dataclasses.replace(SHALLOW, min_intensity=100, steps=10)
    # floor((255 - 100) / 255 * 10) = 6.
    assert config.encode(images).times.tolist() == [[10.0, 10.0, 6.0, 0.0]]


@pytest.mark.parametrize("name", [n for n, p in PRESETS.items() if isinstance(p.recipe, ShallowRecipe)])
def test_every_preset_takes_an_epoch(tmp_path, few, name):
    chosen = preset(name)
    own = chosen.one_dataset
    recipe = chosen.configure(dataset=None if own else "digits", epochs=1)
    run = RunFolder.create(tmp_path / "run", name, recipe, 0)
    data = recipe.data("validation") if own else few
    train_recipe(run, data, data, show_progress=False)
    (record,) = run.load_state().records
    assert math.isfinite(record["loss"])
    # Loading refuses weights that are not finite.
    assert run.load().out_steps >= 2


def test_every_neuron_except_the_causal_one_has_a_bias():
    hidden, output = Phased(source=(0, 4), target=(4, 8)), Phased(source=(4, 8), target=(8, 12))
    for pair in ((Window(), Window()), (hidden, output), (Causal(), Causal())):
        recipe = ShallowRecipe(hidden_neuron=pair[0], output_neuron=pair[1], steps=12)
        for layer, neuron in zip(recipe.build((1, 8, 8), 10), pair, strict=True):
            assert (layer.bias is None) == isinstance(neuron, Causal)


def test_a_current_is_summed_over_the_window_and_so_is_its_rate():
    current = Normal(mean=2.0, sd=0.0), Normal(mean=4.0, sd=0.0)
    neuron = Causal(bias="current")
    recipe = ShallowRecipe(hidden_neuron=neuron, output_neuron=neuron, steps=16, current_init=current)
    model = recipe.build((1, 8, 8), 10)
    assert [layer.bias.unique().tolist() for layer in model] == [[2 / 16], [4 / 16]]
    optimizer = recipe.optimizers(model)["optimizer"]
    set_rate(optimizer, 0.8)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert [(rates[id(layer.weight)], rates[id(layer.bias)]) for layer in model] == [(0.8, 0.05)] * 2
    for other in (Causal(), Window(), Ramp()):
        with refused(InputError, "current_init", "leave it None"):
            ShallowRecipe(hidden_neuron=neuron, output_neuron=other, current_init=current)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"hidden_neuron": Window()}, "plain Causal neurons"),
        ({"hidden_neuron": Causal(delay=1)}, "without strict, delay or norm"),
        ({"output_neuron": Causal(strict=True)}, "without strict, delay or norm"),
        ({"output_neuron": Causal(norm="l2")}, "without strict, delay or norm"),
        ({"spike_penalty": 0.1}, "spike_penalty"),
        ({"loss": FirstSpikeLoss()}, "target times"),
    ],
)
def test_training_by_levels_takes_what_it_can(changes, named):
    good = {
        "steps": 256,
        "levels": LevelTraining(),
        "loss": AggressiveTargets(),
        "hidden_neuron": Causal(),
        "output_neuron": Causal(),
    }
    ShallowRecipe(**good)
    with refused(InputError, named):
        ShallowRecipe(**good | changes)
