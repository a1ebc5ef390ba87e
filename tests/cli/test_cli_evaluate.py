"""``firstspike evaluate``: its figures against a computation by hand, and runs that it refuses."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from commands import contents, shell
from safetensors.numpy import load_file
from safetensors.torch import save_file

from firstspike.data import load

# The names that scripts rely on.
CLASSIFIER_FIGURES = {
    "accuracy",
    "tie_rate",
    "silent_rate",
    "decision_rule",
    "steps_to_decision",
    "spikes_to_decision",
    "synops",
    "energy_pj",
}
GENERATION_FIGURES = {
    "frechet_distance",
    "kid",
    "precision",
    "recall",
    "density",
    "coverage",
    "right_label_rate",
    "nearest_train_distance",
    "feature_accuracy",
    "feature_sha256",
    "controls",
}
SPIKING_FIGURES = {
    "spikes_per_image",
    "active_share_max",
    "stepped_agreement",
    "steps_per_image",
    "synops",
    "energy_pj",
}
HEADER = {"run", "preset", "seed", "dataset", "split"}


def one_object(answer):
    """Return the only thing on standard output, a JSON object of finite numbers."""

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    assert (answer.status, answer.err) == (0, "")
    assert answer.out.count("\n") == 1
    document = json.loads(answer.out, parse_constant=refuse)
    assert isinstance(document, dict)
    return document


def window_times(times, weight, bias, neuron, steps, out_steps):
    """Return the spike times of a window layer by its definition, one neuron at a time in float64."""
    low, high = neuron["input_low"], neuron["input_high"]
    values = low + (high - low) * (1 - times / steps)
    membrane = values @ weight.astype(np.float64).T + bias
    share = np.clip((membrane - neuron["low"]) / (neuron["high"] - neuron["low"]), 0, 1)
    return out_steps - np.floor(share * out_steps + 1e-9)


@pytest.mark.parametrize("windows", [{}, {"steps": 11, "hidden_neuron.steps": 9}])
def test_a_classifiers_figures_are_those_of_its_weights(firstspike, classifier_run, windows):
    changes = [part for name, steps in windows.items() for part in ("--set", f"{name}={steps}")]
    figures = one_object(firstspike("evaluate", classifier_run, "--json", *changes))
    assert figures.get("windows", {}) == windows
    assert figures.keys() >= CLASSIFIER_FIGURES | HEADER
    assert {name: figures[name] for name in HEADER} == {
        "run": str(classifier_run),
        "preset": "aggressive-ttfs-window",
        "seed": 0,
        "dataset": "digits",
        "split": "test",
    }
    assert figures["decision_rule"] == "first spike; ties wrong; silence wrong"

    config = json.loads((classifier_run / "config.json").read_text())["config"]
    if windows:
        config["steps"], config["hidden_neuron"]["steps"] = windows.values()
    weights = load_file(classifier_run / "model.safetensors")
    test = load("digits", "test")
    steps = config["steps"]
    pixels = test.images.flatten(1).numpy().astype(np.float64)
    pixels[pixels < config["min_intensity"]] = 0
    traced, windows = [np.floor((255 - pixels) / 255 * steps + 1e-9)], [steps]
    for layer, name in enumerate(("hidden_neuron", "output_neuron")):
        out_steps = config[name]["steps"] or windows[-1]
        weight, bias = weights[f"layers.{layer}.weight"], weights[f"layers.{layer}.bias"]
        traced.append(window_times(traced[-1], weight, bias, config[name], windows[-1], out_steps))
        windows.append(out_steps)
    output = traced[-1]
    first = output.min(1)
    winners = (output == first[:, None]) & (first < windows[-1])[:, None]
    labels = test.labels.numpy()
    right = winners[np.arange(len(labels)), labels]
    # float32 against float64: a membrane within rounding of a step may fall on its other side.
    tolerance = 2 / len(labels)
    assert figures["accuracy"] == pytest.approx((right & (winners.sum(1) == 1)).mean(), abs=tolerance)
    assert figures["accuracy_papers_rule"] == pytest.approx(right.mean(), abs=tolerance)
    assert figures["tie_rate"] == pytest.approx((winners.sum(1) > 1).mean(), abs=tolerance)
    assert figures["silent_rate"] == pytest.approx((winners.sum(1) == 0).mean(), abs=tolerance)

    starts = [0, windows[0], windows[0] + windows[1]]
    decided = first + starts[2]
    assert figures["steps_to_decision"] == pytest.approx(decided.mean(), rel=1e-3)
    spikes = [
        ((times < window) & (times + start <= decided[:, None])).sum(1)
        for times, window, start in zip(traced, windows, starts, strict=True)
    ]
    assert figures["spikes_to_decision"] == pytest.approx(sum(spikes).mean(), rel=1e-3)
    sizes = [64, config["hidden_features"], 10]
    synops = spikes[0].mean() * sizes[1] + spikes[1].mean() * sizes[2]
    assert figures["synops"] == pytest.approx(synops, rel=1e-3)
    updates = sizes[1] * (windows[0] + windows[1]) + sizes[2] * (windows[1] + windows[2])
    # 0.9 pJ an addition, 4.6 pJ a multiply-add: Horowitz 2014.
    assert figures["energy_pj"] == pytest.approx((synops + updates) * 0.9, rel=1e-3)
    assert figures["dense_energy_pj"] == pytest.approx((64 * sizes[1] + sizes[1] * 10) * 4.6)


def test_a_gans_figures_stand_beside_their_controls(firstspike, gan_run):
    figures = one_object(firstspike("evaluate", gan_run, "--json"))
    assert figures.keys() >= GENERATION_FIGURES | SPIKING_FIGURES | HEADER
    assert figures["controls"].keys() == {"real", "mean image"}
    real, mean_image = figures["controls"]["real"], figures["controls"]["mean image"]
    assert real.keys() == mean_image.keys()
    assert real["frechet_distance"] < mean_image["frechet_distance"]
    assert real["frechet_distance"] < figures["frechet_distance"]
    for measured in (figures, real, mean_image):
        assert measured["generated_count"] == measured["reference_count"] == 300
        assert all(0 <= measured[name] <= 1 for name in ("precision", "recall", "coverage"))
        assert len(measured["feature_sha256"]) == 64
    assert 0 < figures["active_share_max"] <= 1
    assert figures["stepped_agreement"] > 0.99
    config = json.loads((gan_run / "config.json").read_text())["config"]
    assert figures["steps_per_image"] == 3 * config["steps"]
    neurons = config["noise_size"] + 10 + config["hidden_features"] + 64
    assert 0 < figures["spikes_per_image"] <= neurons
    assert figures["spikes_per_image"] == pytest.approx(sum(figures["spikes_per_image_by_layer"]))


def test_a_gan_of_one_digit_is_measured_on_that_digit(firstspike, digit_gan_run, ann_gan_run):
    threes = int((load("digits", "test").labels == 3).sum())
    spiking = one_object(firstspike("evaluate", digit_gan_run, "--json"))
    ordinary = one_object(firstspike("evaluate", ann_gan_run, "--json"))
    for figures in (spiking, ordinary):
        assert figures["generated_count"] == figures["reference_count"] == threes
        assert figures["right_label_rate"] is not None
    assert spiking["controls"] == ordinary["controls"]
    assert not ordinary.keys() & SPIKING_FIGURES


def test_the_same_run_gives_the_same_figures(firstspike, gan_run):
    lines = [firstspike("evaluate", gan_run, "--json").out for _ in range(2)]
    assert lines[0] == lines[1]


def test_the_table_shows_the_figures(firstspike, classifier_run):
    answer = firstspike("evaluate", classifier_run)
    assert (answer.status, answer.err) == (0, "")
    assert all(name in answer.out for name in CLASSIFIER_FIGURES)
    assert "first spike; ties wrong; silence wrong" in answer.out


def test_a_bar_on_standard_error_leaves_the_figures_alone(classifier_run):
    terminal = (
        "import sys; from firstspike.training import progress; progress._WORTH_A_BAR_SECONDS = 0.0; "
        "sys.stderr.isatty = lambda: True; import os; os.environ.update(TERM='xterm', COLUMNS='80')"
    )
    answer = shell("evaluate", classifier_run, "--json", before=terminal)
    count = json.loads(answer.out)["count"]
    assert answer.status == 0
    assert answer.out.count("\n") == 1
    assert f"{count}/{count}" in answer.err


@pytest.fixture
def run(classifier_run, tmp_path):
    """A finished classifier in a folder of the test's own."""
    return shutil.copytree(classifier_run, tmp_path / "run")


def test_a_folder_that_is_no_run_is_refused(firstspike, tmp_path):
    (tmp_path / "file").write_text("")
    before = contents(tmp_path)
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        assert firstspike("evaluate", path).refusal == (
            f"{path} is not a run folder: no config.json there; give the folder that firstspike train "
            "or convert wrote, or a built-in network: mnist-classifier, mnist-generator"
        )
    assert contents(tmp_path) == before


@pytest.mark.parametrize("kind", ["classifier_run", "gan_run"])
def test_an_unfinished_run_is_refused_before_anything_is_measured(
    firstspike, kind, request, tmp_path, monkeypatch
):
    run = shutil.copytree(request.getfixturevalue(kind), tmp_path / "run")
    (run / "model.safetensors").unlink()

    def unwanted(*_):
        raise AssertionError("nothing may be loaded or trained for a run without weights")

    monkeypatch.setattr("firstspike.recipes.base.load", unwanted)
    monkeypatch.setattr("firstspike.recipes.generation.feature_network", unwanted)
    refusal = firstspike("evaluate", run, "--json").refusal
    assert refusal.startswith(f"{run} has no model yet; finish it with firstspike train ")
    assert refusal.endswith(f" --out {run} --resume and the options that it was started with")


def spoil(value):
    def damage(file):
        from safetensors.torch import load_file as load_tensors

        tensors = load_tensors(file)
        tensors["layers.0.weight"][3, 5] = value
        save_file(tensors, file)

    return damage


def reshape(file):
    save_file({"layers.0.weight": torch.zeros(2, 2)}, file)


BAD_MODELS = {
    "cut": (lambda file: file.write_bytes(file.read_bytes()[:-100]), "is damaged"),
    "empty": (lambda file: file.write_bytes(b""), "is damaged"),
    "nan": (spoil(math.nan), "holds weights that are NaN or infinite"),
    "infinite": (spoil(math.inf), "holds weights that are NaN or infinite"),
    "another shape": (reshape, "does not fit its configuration: expected {'layers.0.weight': (200, 64)"),
}


@pytest.mark.parametrize(("damage", "message"), BAD_MODELS.values(), ids=BAD_MODELS)
def test_damaged_weights_are_refused(firstspike, run, tmp_path, damage, message):
    damage(run / "model.safetensors")
    before = contents(tmp_path)
    refusal = firstspike("evaluate", run, "--json").refusal
    assert refusal.startswith(f"{run / 'model.safetensors'} {message}")
    assert refusal.endswith("train the run again")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["model.pth", "run/model.safetensors"])
def test_a_pickle_is_called_what_it_is(firstspike, run, name):
    file = run.parent / name
    torch.save({"a": torch.zeros(2)}, file)
    refusal = firstspike("evaluate", run if run in file.parents else file).refusal
    assert refusal.startswith(f"{file} is a pickled file of torch")


def test_damaged_weights_are_refused_in_a_process_of_its_own(run):
    (run / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    assert "model.safetensors does not fit its configuration" in shell("evaluate", run, "--json").refusal


def test_weights_that_cannot_be_read_are_not_called_damaged(firstspike, run):
    (run / "model.safetensors").unlink()
    (run / "model.safetensors").mkdir()
    refusal = firstspike("evaluate", run).refusal
    assert refusal == f"{run / 'model.safetensors'}: Is a directory; name another path"


def at(*path, value):
    def change(document):
        for name in path[:-1]:
            document = document[name]
        document[path[-1]] = value

    return change


def without(name):
    return lambda document: document.pop(name)


BAD_CONFIGS = {
    "older format": (
        at("format", value=1),
        "has format 1, this firstspike reads 2; train the run",
    ),
    "newer format": (at("format", value=3), "has format 3, this firstspike reads 2"),
    "format as text": (at("format", value="2"), "has format '2', this firstspike reads 2"),
    "no format": (without("format"), "is damaged ('format')"),
    "no seed": (without("seed"), "is damaged ('seed')"),
    "seed of another type": (at("seed", value=None), "does not describe a run"),
    "no precision": (without("precision"), "is damaged ('precision')"),
    "unknown precision": (at("precision", value="float8"), "does not describe a run"),
    "no configuration": (at("config", value=None), "configuration must be a kind of Recipe; found None"),
    "part of one": (
        lambda d: d.update(config=d["config"]["hidden_neuron"]),
        "configuration of unknown type 'Window'",
    ),
    "unknown type": (at("config", "type", value=["Config"]), "configuration of unknown type ['Config']"),
    "size as text": (
        at("config", "hidden_features", value="9"),
        "hidden_features in the configuration must be",
    ),
    "no neurons": (
        at("config", "hidden_features", value=0),
        "an integer of 1 or more; found 0",
    ),
    "T below 2": (
        at("config", "steps", value=1),
        "an integer in 2 ... 65535; found 1",
    ),
    "no neuron": (at("config", "hidden_neuron", value=None), "hidden_neuron in the configuration must be"),
    "a base, no neuron": (
        at("config", "hidden_neuron", value={"type": "Neuron"}),
        "configuration of unknown type 'Neuron': expected one of ",
    ),
    "unknown loss": (
        at("config", "loss", value="hinge"),
        "must be a kind of SpikeLoss; found 'hinge'",
    ),
    "other data": (at("config", "dataset", value="cifar"), "unknown data set 'cifar'"),
}


@pytest.mark.parametrize(("change", "message"), BAD_CONFIGS.values(), ids=BAD_CONFIGS)
def test_a_configuration_that_describes_no_run_is_refused(firstspike, run, tmp_path, change, message):
    file = run / "config.json"
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))
    before = contents(tmp_path)
    assert message in firstspike("evaluate", run, "--json").refusal
    assert contents(tmp_path) == before


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"3", b"\xff\xfe"], ids=str)
def test_a_configuration_that_is_no_object_is_refused(firstspike, run, text):
    (run / "config.json").write_bytes(text)
    assert firstspike("evaluate", run).refusal.startswith(f"{run / 'config.json'} is damaged (")


def test_the_data_folder_is_asked_for_its_test_set(firstspike, run, tmp_path):
    file = run / "config.json"
    file.write_text(file.read_text().replace('"dataset": "digits"', '"dataset": "mnist"'))
    # The weights are those of 8 x 8 images, which is said first.
    assert "does not fit its configuration" in firstspike("evaluate", run, "--data-dir", tmp_path).refusal
