"""The ANNs beside window networks: trained alike, and counted in multiply-adds."""

import dataclasses
import re

import pytest
import torch
from builders import refused
from small_recipes import QUICK

from firstspike.data import ImageSet
from firstspike.metrics.cost import MULTIPLY_ADD_PJ
from firstspike.models.window import AnnNetwork, WindowNetwork
from firstspike.recipes import PRESETS, preset
from firstspike.recipes.ann import AnnRecipe
from firstspike.support import InputError
from firstspike.training.loop import train_recipe
from firstspike.training.run_folder import RunFolder

# A core that is shared makes two threads wait for each other.
pytestmark = pytest.mark.usefixtures("one_thread")

SHARED = {
    field.name: getattr(QUICK, field.name)
    for field in dataclasses.fields(AnnRecipe)
    if field.name not in ("levels", "sharpness", "label_smoothing")
}
SMALL = AnnRecipe(**SHARED)


@pytest.mark.parametrize("levels", [0, 8])
def test_it_learns_the_digits(tmp_path, levels, train, validation):
    config = dataclasses.replace(SMALL, levels=levels, epochs=3)
    run = RunFolder.create(tmp_path / "run", "x", config, 0)
    train_recipe(run, train, validation, show_progress=False)
    records = run.load_state().records
    best = max(record["validation_accuracy"] for record in records)
    assert best > 0.8
    network = run.load()
    report = run.config.report(network, validation)
    assert report.accuracy == pytest.approx(best)
    right = network(validation.images.unsqueeze(1)).argmax(1) == validation.labels
    assert report.accuracy == pytest.approx(float(right.float().mean()))
    # 2 x 2 patches give 8 maps of 7 x 7; then taps of a 3 x 3 kernel with padding: 19 and 7 along a side.
    by_hand = 8 * 4 * 49 + 8 * 16 * 19**2 + 16 * 24 * 7**2 + 24 * 10
    assert report.multiply_adds == by_hand
    assert report.energy_pj == pytest.approx(by_hand * MULTIPLY_ADD_PJ)
    assert report.steps_to_decision is None
    assert "steps_to_decision" not in report.as_dict()
    with refused(InputError, "no network of spike times"):
        run.config.exported(network)


def test_with_levels_its_layers_are_those_of_window_neurons(train):
    torch.manual_seed(0)
    window = QUICK.build((1, 8, 8), 10)
    ann = dataclasses.replace(SMALL, levels=QUICK.steps).build((1, 8, 8), 10)
    assert isinstance(window, WindowNetwork)
    assert isinstance(ann, AnnNetwork)
    ann.load_state_dict(window.state_dict())
    shown = train.images[:20].unsqueeze(1)
    pairs = zip(window.eval().membranes(shown), ann.eval().membranes(shown), strict=True)
    assert all(one.equal(two) for one, two in pairs)
    # Without, membranes pass on what is above 0, in units of the clip.
    relu = SMALL.build((1, 8, 8), 10).eval()
    first, second, *_ = relu.membranes(shown)
    torch.testing.assert_close(second, relu.layers[1](first.clamp_min(0) / SMALL.clip))


CIFAR = sorted(
    name for name in PRESETS if name.startswith(("window-cifar", "ann-cifar", "ann-quantised-cifar"))
)


def test_the_presets_of_cifar():
    assert CIFAR == [
        "ann-cifar10", "ann-quantised-cifar10", "window-cifar10", "window-cifar10-large", "window-cifar100",
        "window-cifar100-large",
    ]  # fmt: skip
    ann, window = preset("ann-cifar10").configure(), preset("window-cifar10").configure()
    with torch.device("meta"):
        made = [recipe.build(*recipe.sizes()).state_dict() for recipe in (ann, window)]
    shapes = [{name: tuple(t.shape) for name, t in state.items()} for state in made]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name", CIFAR)
def test_a_preset_of_cifar_takes_steps_and_goes_on(tmp_path, name):
    """On images made here, with narrow layers of the same kinds."""
    recipe = preset(name).configure()
    classes = recipe.sizes()[1]
    source = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (24, 3, 32, 32), generator=source).to(torch.uint8)
    data = ImageSet(str(recipe.dataset), "train", images, torch.arange(24) % classes, classes)
    narrow = re.sub(r"\d+(?=[CR]\d?)", "24", recipe.layout)
    config = dataclasses.replace(recipe, layout=narrow, batch_size=8, epochs=2)
    run = RunFolder.create(tmp_path / "run", name, config, 0)

    def stop(epoch, model):
        if epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_recipe(run, data, data, show_progress=False, watch=stop)
    train_recipe(run, data, data, show_progress=False)
    whole = RunFolder.create(tmp_path / "whole", name, config, 0)
    train_recipe(whole, data, data, show_progress=False)
    one, two = (each.load_state().tensors for each in (run, whole))
    assert all(one[name].equal(two[name]) for name in two)
    report = run.config.report(run.load(), data)
    assert report.count == 24
    assert report.energy_pj > 0
