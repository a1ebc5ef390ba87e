"""Recipes check their fields, survive JSON, and are changed by name."""

import dataclasses
import json
import math
from dataclasses import dataclass

import numpy as np
import pytest
from builders import refused
from small_recipes import DEEP, ONE_STEP, SHALLOW, WINDOW

from firstspike.data import Dataset
from firstspike.decision import Membrane, Votes
from firstspike.models.patches.settings import PatchCarry
from firstspike.models.raster.settings import RasterNeuron
from firstspike.neurons import Causal, Phased, Ramp, Window
from firstspike.neurons.levels import RunningMax
from firstspike.online import S4NNRule
from firstspike.recipes import PRESETS, preset
from firstspike.recipes.augmentation import Augmentation
from firstspike.recipes.base import Recipe
from firstspike.recipes.fields import Checked, Count, changed, flat, from_json, matches, to_json
from firstspike.recipes.shallow import AggressiveTargets, RelativeTargets
from firstspike.recipes.spike_losses import FirstSpikeLoss
from firstspike.support import InputError

GAN = preset("spiking-gan-window").recipe
NUMBERS = (math.nan, math.inf, -math.inf, -1.0)
REFUSED = [
    *((SHALLOW, "loss", value) for value in ("mse", None, Augmentation())),
    *((SHALLOW, "optimizer", value) for value in ("lion", "adam", 3)),
    *((recipe, "ema", value) for recipe in (SHALLOW, WINDOW, GAN) for value in (*NUMBERS, 1.0, 2, "0.5")),
    *((recipe, "warmup", value) for recipe in (SHALLOW, WINDOW) for value in (*NUMBERS, 1.5)),
    *((recipe, "rate", value) for recipe in (SHALLOW, WINDOW, ONE_STEP) for value in (*NUMBERS, 0, 1e300)),
    *((recipe, "weight_decay", value) for recipe in (SHALLOW, GAN) for value in NUMBERS),
    *((recipe, "epochs", value) for recipe in (SHALLOW, WINDOW, GAN) for value in (0, 1.5, True, math.nan)),
    *((recipe, "batch_size", value) for recipe in (SHALLOW, WINDOW, GAN) for value in (0, -1)),
    *((SHALLOW, "steps", value) for value in (1, 70_000, 2.0, "8")),
    *((SHALLOW, "min_intensity", value) for value in (*NUMBERS, 300)),
    *((SHALLOW, "spike_penalty", value) for value in NUMBERS),
    *((recipe, "dropout", value) for recipe in (WINDOW, ONE_STEP) for value in (*NUMBERS, 1.0)),
    *((WINDOW, "precision", value) for value in ("float16", None)),
    *((WINDOW, "clip", value) for value in (*NUMBERS, 0)),
    *((ONE_STEP, "optimizer", value) for value in ("adam", None)),
    *((ONE_STEP, "mixup", value) for value in NUMBERS),
    *((ONE_STEP, "clip_norm", value) for value in NUMBERS),
    *((ONE_STEP, "label_smoothing", value) for value in (*NUMBERS, 2)),
    *((FirstSpikeLoss(), "label_smoothing", value) for value in (*NUMBERS, 2)),
    *((FirstSpikeLoss(), "sharpness", value) for value in (*NUMBERS, 0)),
    *((FirstSpikeLoss(), "label_delay", value) for value in NUMBERS),
    *((RelativeTargets(), "gamma", value) for value in (*NUMBERS, 0)),
    *((Augmentation(), "shift_px", value) for value in NUMBERS),
    *((Augmentation(), "flip", value) for value in (1, "yes")),
    *((Augmentation(), "cutout_px", value) for value in (-1, 1.5)),
    *((GAN, "targets", value) for value in ("aggressive", None)),
    *((GAN, "hidden_neuron", value) for value in ("Window", None)),
    *((GAN, "digit", value) for value in (-1, "3")),
]


@pytest.mark.parametrize(("value", "field", "wrong"), REFUSED)
def test_every_field_is_checked(value, field, wrong):
    with refused(ValueError, f"{type(value).__name__}.{field}", "must be"):
        dataclasses.replace(value, **{field: wrong})


@pytest.mark.parametrize("recipe", DEEP.values(), ids=DEEP)
def test_a_layout_is_checked(recipe):
    with refused(InputError, "layout", "'Q9'", "expected nCk"):
        dataclasses.replace(recipe, layout="8C3-Q9")


def test_bfloat16_is_for_windows_that_it_tells_apart():
    dataclasses.replace(WINDOW, precision="bfloat16", steps=128)
    with refused(InputError, "bfloat16", "take precision float32"):
        dataclasses.replace(WINDOW, precision="bfloat16", steps=129)
    assert dataclasses.replace(WINDOW, in_steps=200).precision_on("cpu") == "float32"


@pytest.mark.parametrize(("recipe", "steps"), [(SHALLOW, 32), (WINDOW, 64)], ids=["shallow", "window"])
def test_a_label_delay_lies_within_the_output_window(recipe, steps):
    assert changed(recipe, "loss.label_delay", str(steps)).loss.label_delay == steps
    with refused(InputError, f"label_delay must be at most the output's {steps} steps", "found 64.5"):
        changed(recipe, "loss.label_delay", "64.5")


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_survives_json(name):
    recipe = PRESETS[name].recipe
    assert from_json(json.loads(json.dumps(to_json(recipe))), Recipe) == recipe


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_names_its_source_and_its_figures_in_shares(name):
    entry = PRESETS[name]
    assert "arXiv" in entry.source
    for figures in (entry.paper, entry.target):
        for figure, value in figures.items():
            assert value > 0
            assert value < 1 or not figure.startswith("accuracy")


def test_unknown_type_and_fields_are_refused():
    good = to_json(preset("ann-gan").recipe)
    with refused(InputError, "'Nothing'", "import the module"):
        from_json(good | {"type": "Nothing"}, Recipe)
    with refused(InputError, "missing or unknown fields: colour"):
        from_json(good | {"colour": 3}, Recipe)
    del good["epochs"]
    with refused(InputError, "missing or unknown fields: epochs"):
        from_json(good, Recipe)
    for wrong in (3, None, [], "ann-gan"):
        with refused(InputError, "Recipe"):
            from_json(wrong, Recipe)


def test_a_class_is_taken_only_where_its_field_admits_it():
    document = to_json(GAN)
    document["hidden_neuron"] = to_json(Augmentation())
    with refused(InputError, "'Augmentation'"):
        from_json(document, Recipe)


def test_a_value_that_a_neuron_refuses_is_an_input_error():
    document = to_json(GAN)
    document["hidden_neuron"]["high"] = -1.0
    with refused(InputError, "Window", "low < high"):
        from_json(document, Recipe)
    document["hidden_neuron"]["high"] = "4"
    with refused(InputError, "Window.high", "a finite number"):
        from_json(document, Recipe)


@dataclass(frozen=True, kw_only=True)
class Mine(FirstSpikeLoss):
    """A loss of a user's own."""

    parts: tuple[Augmentation, ...] = (Augmentation(flip=True), Augmentation())
    sizes: tuple[Count, ...] = (1, 2)


def test_a_users_own_class_is_found_by_its_name():
    recipe = dataclasses.replace(SHALLOW, loss=Mine())
    found = from_json(json.loads(json.dumps(to_json(recipe))), Recipe)
    assert found == recipe
    assert type(found.loss) is Mine
    with refused(ValueError, "Mine.sizes", "1 or more"):
        Mine(sizes=(1, 0))


def test_a_name_that_is_taken_twice_is_the_one_with_these_fields():
    def define(default):
        @dataclass(frozen=True, kw_only=True)
        class Twice(Checked):
            if default:
                more: int = 1
            else:
                other: int = 2

        return Twice

    first, second = define(True), define(False)
    for cls in (first, second):
        assert type(from_json(to_json(cls()), Checked)) is cls


@pytest.mark.parametrize(
    ("recipe", "name", "text", "expected"),
    [
        (SHALLOW, "rate", "2e-3", 2e-3),
        (SHALLOW, "epochs", "3", 3),
        (SHALLOW, "optimizer", "sgd", "sgd"),
        (SHALLOW, "loss", "AggressiveTargets", AggressiveTargets()),
        (SHALLOW, "loss.label_delay", "2", 2.0),
        (SHALLOW, "hidden_neuron.high", "3", 3.0),
        (SHALLOW, "hidden_neuron.steps", "none", None),
        (SHALLOW, "hidden_neuron.steps", "16", 16),
        (SHALLOW, "output_neuron", "Causal", Causal()),
        (SHALLOW, "augmentation.flip", "true", True),
        (DEEP["ettfs"], "neuron.width", "2", 2.0),
        (DEEP["ettfs"], "decoder", "Membrane", Membrane()),
        (DEEP["ettfs"], "decoder.weighting", "linear", "linear"),
        (DEEP["ettfs"], "layout", "8C3-F4", "8C3-F4"),
        (preset("spiking-gan-causal").recipe, "hidden_neuron.target", "16, 40", (16, 40)),
        (preset("s4nn-causal").recipe, "levels", "none", None),
        (preset("s4nn-causal").recipe, "levels.output.levels", "0,3,9", (0, 3, 9)),
    ],
)
def test_any_field_is_changed_by_its_name(recipe, name, text, expected):
    found = changed(recipe, name, text)
    inner = found
    for part in name.split("."):
        inner = getattr(inner, part)
    assert inner == expected
    assert type(inner) is type(expected)
    # Nothing else is.
    others = [
        {n: v for n, v in flat(one) if not (n == name or n.startswith(f"{name}."))}
        for one in (recipe, found)
    ]
    assert others[0] == others[1]


@pytest.mark.parametrize(
    ("name", "text", "named"),
    [
        ("speed", "3", "rate"),
        ("hidden_neuron.speed", "3", "input_low"),
        ("rate.speed", "3", "no fields"),
        ("rate", "fast", "number"),
        ("rate", "nan", "number"),
        ("epochs", "2.5", "integer"),
        ("loss", "mse", "AggressiveTargets"),
        (
            "hidden_neuron",
            "Phased",
            "source, target, and cannot be chosen by its name alone",
        ),
        ("hidden_init", "Normal", "without a default, mean, sd,"),
        ("hidden_neuron", "Neuron", "a kind of Neuron ("),
        ("loss", "SpikeLoss", "found 'SpikeLoss'"),
        ("loss", "TargetLoss", "found 'TargetLoss'"),
        ("hidden_neuron.low", "7", "low < high"),
        ("augmentation.flip", "perhaps", "true or false"),
        ("levels.output.width", "2", "None and has no fields"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(name, text, named):
    with refused(InputError, named):
        changed(SHALLOW, name, text)


def test_phases_survive_json_as_tuples():
    neuron = Phased(source=(0, 4), target=(4, 8))
    assert from_json(json.loads(json.dumps(to_json(neuron))), Phased) == neuron


def test_digit_is_asked_for_exactly_where_it_belongs():
    with refused(InputError, "give digit 0 ... 9"):
        preset("spiking-gan-window").configure()
    with refused(InputError, "digit must be 0 ... 9", "found 11"):
        preset("spiking-gan-window").configure(digit=11)
    for digit in ("3", True, 3.0):
        with refused(InputError, "digit must be 0 ... 9", f"found {digit!r}"):
            preset("spiking-gan-window").configure(digit=digit)
    assert preset("spiking-gan-window").configure(digit=np.int64(3)).digit == 3
    with refused(InputError, "takes no digit"):
        preset("spiking-gan-conditional").configure(digit=3)
    assert preset("spiking-gan-window").configure(digit=7).digit == 7
    # Of a data set's own classes.
    letters = Dataset("letters", shape=(1, 8, 8), classes=26, load=lambda split, folder: None)
    assert preset("spiking-gan-window").configure(dataset=letters, digit=25).digit == 25
    with pytest.raises(InputError, match=r"0 \.\.\. 25, found 26"):
        preset("spiking-gan-window").configure(dataset=letters, digit=26)


@pytest.mark.parametrize(
    "made",
    [
        Window(high=np.float32(2)),
        Causal(threshold=np.int64(3)),
        Ramp(threshold=np.float32(3), silent_slope=np.float64(1)),
        Phased(source=(0, 4), target=(2, 8), high=np.float32(2), min_slope=np.float32(0.25)),
        RunningMax(width=np.float32(0.5)),
        Votes(gamma=np.float32(1.5), scale=np.int32(2)),
        RasterNeuron(width=np.float32(2)),
        PatchCarry(theta=np.float32(0.5), alpha=np.float32(1)),
        S4NNRule(rate=np.float32(0.25), thresholds=(np.float32(2), 3)),
    ],
    ids=lambda made: type(made).__name__,
)
def test_numbers_of_numpy_become_pythons(made):
    for field in dataclasses.fields(made):
        value = getattr(made, field.name)
        assert not isinstance(value, np.generic), field.name
        assert isinstance(value, float) == (field.type in (float, "float", float | None))
    assert json.loads(json.dumps(to_json(made)))["type"] == type(made).__name__


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("yin-yang-window", ("dataset", "digits")),
        ("aggressive-ttfs-window", ("dataset", "digits")),
        ("aggressive-ttfs-window", ("epochs", "3")),
    ],
)
def test_what_has_an_option_of_its_own_is_not_set(name, change):
    with pytest.raises(InputError, match=r"--set {0}={1}: give --{0} {1} instead".format(*change)):
        preset(name).configure(changes=dict([change]))


def test_a_digit_is_set_by_its_own_option_where_there_is_one():
    with refused(InputError, "--set digit=3: give --digit 3 instead"):
        preset("spiking-gan-window").configure(digit=4, changes={"digit": "3"})
    with refused(InputError, "preset spiking-vae takes no"):
        preset("spiking-vae").configure(changes={"digit": "3"})


def test_unknown_preset_lists_the_known_ones():
    with refused(InputError, "'nothing'", "firstspike presets lists them"):
        preset("nothing")


def test_digits_get_their_own_sizes_and_changes_come_last():
    conditional = preset("spiking-gan-conditional")
    small, large = (conditional.configure(dataset=name) for name in ("digits", "mnist"))
    assert small.noise_size < large.noise_size
    assert large == conditional.recipe
    changes = {"noise_size": "7", "hidden_neuron.high": "5"}
    other = conditional.configure(dataset="digits", changes=changes)
    assert (other.noise_size, other.hidden_neuron.high) == (7, 5.0)


@pytest.mark.parametrize("recipe", [p.recipe for p in PRESETS.values()], ids=list(PRESETS))
def test_a_recipe_matches_what_was_written_of_it(recipe):
    written = json.loads(json.dumps(to_json(recipe)))
    assert matches(written, recipe)
    assert not matches(written, dataclasses.replace(recipe, epochs=recipe.epochs + 1))
    assert not matches({**written, "type": "Other"}, recipe)
    assert not matches({**written, "unheard_of": 1}, recipe)
    assert not matches(None, recipe)


def test_a_field_that_was_not_there_counts_as_its_default():
    """A file of before a field was made stays good as long as nobody sets the field."""

    @dataclass(frozen=True, kw_only=True)
    class Inner(Checked):
        slope: float = 1.0

    @dataclass(frozen=True, kw_only=True)
    class Outer(Checked):
        epochs: Count
        inner: Inner = dataclasses.field(default_factory=Inner)
        shift_px: int = 0

    whole = {"type": "Outer", "epochs": 3, "inner": {"type": "Inner", "slope": 1.0}, "shift_px": 0}
    for known in (whole, {"type": "Outer", "epochs": 3}, {**whole, "inner": {"type": "Inner"}}):
        assert matches(known, Outer(epochs=3))
        assert matches(known, Outer(epochs=3, shift_px=1)) is False
        assert matches(known, Outer(epochs=3, inner=Inner(slope=2.0))) is False
    # What has no default must be there.
    assert not matches({"type": "Outer"}, Outer(epochs=3))
