"""The report on every layer against figures computed here."""

import dataclasses
import json
import logging
from dataclasses import dataclass

import pytest
import torch
from small_recipes import ETTFS, WINDOW

from firstspike.data import load
from firstspike.models.spiking_form import spiking_form
from firstspike.neurons import Window
from firstspike.nn import EarliestPool2d, Linear, Stack
from firstspike.nn.normed import BatchNorm
from firstspike.recipes import preset
from firstspike.recipes.shallow import ShallowRecipe
from firstspike.support import InputError
from firstspike.training.diagnose import IMAGES, Diary, diagnose, table
from firstspike.training.run import train


@pytest.fixture(scope="module")
def data():
    return load("digits", "validation")


def built(config, data):
    torch.manual_seed(0)
    return config, config.build((1, 8, 8), data.num_classes)


def take_statistics(module, values):
    """The mean and variance of this batch as the running ones."""
    across = [0, *range(2, values[0].dim())]
    variance, mean = torch.var_mean(values[0].detach().float(), across, correction=0)
    module.running_mean.copy_(mean)
    module.running_var.copy_(variance)


def expected_gradients(recipe, model, data):
    model.zero_grad()
    recipe.batch_loss(model, data.images[:IMAGES], data.labels[:IMAGES]).backward()
    norms = [
        float(p.grad.norm())
        for name, p in model.named_parameters()
        if name.endswith("weight") and p.dim() > 1 and ".past." not in name
    ]
    model.zero_grad()
    return norms


@pytest.mark.parametrize("config", [ETTFS, WINDOW], ids=["ettfs", "window"])
def test_a_deep_network_layer_by_layer(config, data):
    recipe, model = built(config, data)
    state_before = {name: t.clone() for name, t in model.state_dict().items()}
    model.train()
    states = diagnose(recipe, model, data)
    assert model.training
    assert all(torch.equal(t, state_before[name]) for name, t in model.state_dict().items())
    # Normalised by these images, as the report is: the first pass of an average of one.
    for module in model.modules():
        if isinstance(module, BatchNorm):
            module.register_forward_pre_hook(take_statistics)
    if config is WINDOW:
        model.dropout = 0.0
        with torch.no_grad():
            model.trace(data.images[:IMAGES].unsqueeze(1))
    for module in model.modules():
        module._forward_pre_hooks.clear()
    form = spiking_form(model.eval())
    received = form.encode(data.images[:IMAGES].unsqueeze(1))
    with torch.no_grad():
        pairs = list(zip(form.stack.trace(received)[1:], form.stack, strict=True))
    traced = [spikes for spikes, layer in pairs if not isinstance(layer, EarliestPool2d)]
    if config is ETTFS:
        traced = [received, *traced]
    assert len(states) == len(traced)
    for state, out in zip(states, traced, strict=True):
        spikes = ~out.silent
        # Folding rounds the weights, and may move a spike of the window network by a step.
        near = {"abs": 1e-6 if config is ETTFS else 0.02}
        assert state.fired == pytest.approx(float(spikes.float().mean()), **near)
        assert state.never == pytest.approx(float((~spikes.flatten(1).any(0)).float().mean()), **near)
        assert state.mean_step == pytest.approx(float(out.times[spikes].mean()), rel=1e-5, **near)
    model.train()
    assert [s.gradient_norm for s in states] == pytest.approx(
        expected_gradients(recipe, model, data), rel=1e-3
    )


def test_a_small_classifier(data):
    recipe, model = built(preset("aggressive-ttfs-window").configure(dataset="digits"), data)
    states = diagnose(recipe, model, data)
    assert [s.kind for s in states] == ["200 x 64", "10 x 200"]
    assert [s.gradient_norm for s in states] == pytest.approx(
        expected_gradients(recipe, model, data), rel=1e-5
    )


def test_a_dead_layer_is_named_plainly(tmp_path, data, caplog):
    recipe, model = built(ETTFS, data)
    model.layers[1].gain.data.zero_()
    model.layers[1].shift.data.fill_(-1)
    told = []
    with caplog.at_level(logging.WARNING):
        Diary(tmp_path, recipe, data, told.append)(0, model)
    assert "layer 2 (32 x 192) is dead: 0.00 % of its neurons fire" in caplog.text
    assert "at initialisation" in told[0]
    states = diagnose(recipe, model, data)
    assert states[1].mean_step is None
    assert states[1].dead
    assert "      0.0%" in table(states, IMAGES)


def test_the_table_says_how_many_images_there_were(tmp_path, data):
    recipe, model = built(preset("aggressive-ttfs-window").configure(dataset="digits"), data)
    told = []
    few = dataclasses.replace(data, images=data.images[:7], labels=data.labels[:7])
    for images in (few, data):
        Diary(tmp_path, recipe, images, told.append)(0, model)
    assert "on 7 validation images" in told[0]
    assert f"on {IMAGES} validation images" in told[1]


def test_what_parameters_are_called_says_nothing(data):
    """A recipe of one's own, whose network has a field and names that mean something else."""

    class Named(Stack):
        dropout = "none"

    @dataclass(frozen=True, kw_only=True)
    class Own(ShallowRecipe):
        def build(self, shape, classes):
            torch.manual_seed(0)
            made = Named(Linear(64, 5), Linear(5, classes, Window.output()), steps=self.steps)
            made.register_parameter("extra_weight", torch.nn.Parameter(torch.ones(2, 2)))
            return made

    recipe = Own()
    model = recipe.build((1, 8, 8), 10)
    assert [state.kind for state in diagnose(recipe, model, data)] == ["5 x 64", "10 x 5"]
    assert model.dropout == "none"


def test_training_writes_one_line_per_epoch(tmp_path):
    told = []
    config = preset("aggressive-ttfs-window").configure(dataset="digits", epochs=2)
    run = train(
        tmp_path / "run", "aggressive-ttfs-window", config, 0, threads=1, show_progress=False,
        diagnose=told.append,
    )  # fmt: skip
    lines = [json.loads(line) for line in (run.path / "diagnosis.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1, 2]
    titles = ["at initialisation", "after epoch 1", "after epoch 2"]
    assert [text.splitlines()[0] for text in told] == titles
    assert all(len(line["layers"]) == 2 for line in lines)


def test_what_it_is_not_for(tmp_path):
    config = preset("ann-gan").configure(dataset="digits", digit=3)
    with pytest.raises(InputError, match="reads the spike times of classifiers; ann-gan has none"):
        train(tmp_path / "run", "ann-gan", config, 0, diagnose=print)
    for more in ({"device": "cuda"}, {"compiled": True}):
        with pytest.raises(InputError, match="leave --device and --compile out"):
            train(tmp_path / "run", "ann-gan", config, 0, **more)
    assert not (tmp_path / "run").exists()
