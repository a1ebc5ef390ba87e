"""One thing, one room: a neuron, a data set, a recipe and an experiment of a user's own."""

import ast
import dataclasses
import importlib
import inspect
import json
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from builders import draw_spikes, refused
from torch import Tensor

import firstspike as fs
from firstspike.data import DATASETS, SPLITS, load
from firstspike.experiments import EXPERIMENTS, Column, Experiment, Picture, Run, Table, run_experiment
from firstspike.metrics.cost import energy, synaptic_operations
from firstspike.recipes import _FAMILIES
from firstspike.recipes.augmentation import Augmentation
from firstspike.recipes.fields import Count, changed, from_json, to_json
from firstspike.training.run_folder import RunFolder

ROOT = Path(next(iter(fs.__path__)))

# Four things of a user's own, each in one room.


@dataclass(frozen=True, kw_only=True)
class Doubling(fs.Neuron):
    """An input adds a value that halves with each step; the drive divides the window."""

    threshold: float = 1.0

    def membrane(self, connection: fs.Synapses, spikes: fs.Spikes) -> Tensor:
        return connection(2.0**-spikes.times, silent=2.0**-spikes.steps)

    def fire(self, connection: fs.Synapses, spikes: fs.Spikes) -> fs.Spikes:
        drive = torch.nn.functional.softplus(self.membrane(connection, spikes)) / self.threshold
        return fs.Spikes(fs.round_ste(spikes.steps / (1 + drive)), spikes.steps)

    def additions(self, steps: int, *, biased: bool) -> int:
        return steps


def bars(split: str, data_dir: Any = None) -> fs.ImageSet:
    """Pictures of noise in which one of three bars is bright."""
    source = torch.Generator().manual_seed(SPLITS.index(split))
    labels = torch.arange(300) % 3
    images = torch.randint(0, 100, (300, 4, 6), generator=source)
    images += 150 * torch.nn.functional.one_hot(labels, 3).repeat_interleave(2, 1).unsqueeze(1)
    return fs.ImageSet.of(images.to(torch.uint8), labels, name="bars", split=split)


BARS = fs.Dataset("bars", shape=(1, 4, 6), classes=3, load=bars)


@dataclass(frozen=True, kw_only=True)
class OneLayer(fs.Classifier):
    """A neuron without a hidden layer before it."""

    dataset: str | fs.Dataset = BARS
    steps: Count = 16
    neuron: fs.Neuron = Doubling()
    rate: float = 0.1
    batch_size: Count = 25
    epochs: Count = 4

    def build(self, shape: tuple[int, ...], classes: int) -> fs.Stack:
        size = shape[0] * shape[1] * shape[2]
        return fs.Stack(fs.Linear(size, classes, self.neuron), steps=self.steps)

    def batch_loss(self, model: Any, images: Tensor, labels: Tensor) -> Tensor:
        return fs.first_spike_cross_entropy(model(model.encode(images)), labels, sharpness=12)


def toy() -> Experiment:
    """Two networks beside each other."""
    return Experiment(
        name="toy",
        title="A toy",
        split="bars, 300 test images",
        runs=[
            Run("mine", OneLayer(), variant="a neuron of one's own"),
            Run("mine", OneLayer(neuron=fs.Window.output(steps=32)), variant="window"),
        ],
        tables=lambda measured: [Table("Bars", measured.rows(), [Column("accuracy")])],
        pictures=lambda finished: [Picture("Bars", "bar.png", "One.", _draw)],
    )


def _draw(path: Path) -> None:
    from PIL import Image

    Image.new("L", (9, 9)).save(path)


# A neuron


def test_a_neuron_goes_through_layers_stack_and_cost() -> None:
    neuron = Doubling(threshold=0.4)
    net = fs.Stack(
        fs.Conv2d(1, 3, 3, neuron, padding=1),
        fs.ConvTranspose2d(3, 2, 2, neuron, stride=2),
        fs.Linear(2 * 6 * 8, 4, neuron),
        steps=8,
    )
    assert net.encode(torch.rand(5, 3, 4)).shape == (5, 1, 3, 4)
    spikes = draw_spikes(5, 1, 3, 4, steps=8)
    spikes.times.requires_grad_()
    traced, membrane = net.read(spikes)
    assert [tuple(layer.shape) for layer in traced] == [(5, 1, 3, 4), (5, 3, 3, 4), (5, 2, 6, 8), (5, 4)]
    assert membrane.shape == (5, 4)
    assert (net.offsets, net.last_step) == ([0, 0, 0, 0], 8)
    traced[-1].times.sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    assert spikes.times.grad is not None
    verdict = fs.FirstSpike(silent="membrane").decide(traced[-1], membrane)
    assert verdict.score([0, 1, 2, 3, 0]).count == 5
    assert synaptic_operations(net, traced).shape == (5,)
    # 3 x 12, 2 x 48 and 4 neurons, 8 additions each.
    assert energy(net, 0.0, (1, 3, 4)).updates == 8 * (36 + 96 + 4)
    images, labels = torch.rand(5, 1, 3, 4), torch.arange(5) % 4
    report = fs.report(net, images, labels)
    right = fs.FirstSpike().decide(net(net.encode(images))).score(labels)
    assert (report.count, report.accuracy, report.silent_rate) == (5, right.accuracy, right.silent_rate)
    assert report.membrane_updates == 8 * (36 + 96 + 4)
    assert "decision_rule" in str(report)


def test_what_a_neuron_may_leave_open_is_refused_by_name() -> None:
    net = fs.Stack(fs.Linear(3, 2, Doubling()), steps=16)
    with refused(ValueError, "engine", "layer 0", "Doubling"):
        fs.Engine(net, (3,))
    with refused(ValueError, "AvgPool2d", "Causal", "Doubling"):
        fs.AvgPool2d(2, Doubling())  # type: ignore[arg-type]
    with refused(ValueError, "Doubling", "one connection", "2"):
        shortcut = fs.Connection.linear(3, 2, source=0)
        fs.Linear(3, 2, Doubling(), shortcuts=[shortcut])(draw_spikes(1, 3), draw_spikes(1, 3))
    with refused(NotImplementedError, "Doubling", "simulation"):
        net[0].simulate(draw_spikes(1, 3))


# A data set and a recipe


def test_a_recipe_goes_through_json_with_its_neuron_and_the_name_of_its_data_set() -> None:
    recipe = OneLayer(neuron=Doubling(threshold=2.0))
    written = json.loads(json.dumps(to_json(recipe)))
    assert written["type"] == "OneLayer"
    assert written["dataset"] == "bars"
    assert written["neuron"] == {"type": "Doubling", "threshold": 2.0}
    assert from_json(written, fs.Recipe) == dataclasses.replace(recipe, dataset="bars")  # type: ignore[type-abstract]
    assert changed(recipe, "neuron.threshold", "3").neuron == Doubling(threshold=3.0)
    assert changed(recipe, "dataset", "digits").sizes() == ((1, 8, 8), 10)


def made(path: Path, recipe: fs.Recipe, **how: Any) -> RunFolder:
    return fs.train(path, "mine", recipe, 0, threads=1, show_progress=False, **how)


def test_a_recipe_trains_on_a_data_set_and_is_evaluated_from_its_folder(tmp_path: Path) -> None:
    run = made(tmp_path / "run", OneLayer())
    records = run.load_state().records
    assert max(record["validation_accuracy"] for record in records) > 0.9
    figures = fs.evaluate(run)
    assert (figures["preset"], figures["dataset"], figures["split"]) == ("mine", "bars", "test")
    assert figures["accuracy"] > 0.9
    assert figures["spikes_to_decision"] > 0
    # The folder holds the name alone.
    opened = RunFolder.open(run.path)
    assert opened.config.dataset == "bars"
    with refused(fs.InputError, "bars", "Dataset"):
        fs.evaluate(opened)
    with refused(fs.InputError, "bars", "Dataset"):
        fs.evaluate(run.path)
    assert fs.evaluate(RunFolder.open(run.path, BARS)) == figures
    with refused(fs.InputError, "bars", "other"):
        RunFolder.open(run.path, dataclasses.replace(BARS, name="other"))
    with refused(fs.InputError, "generates nothing"):
        OneLayer().sample(run.load(), 3)
    with refused(fs.InputError, "holds another run", "steps 16 there, 8 asked for"):
        made(run.path, OneLayer(steps=8), resume=True)


def test_it_is_resumed_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = (made(tmp_path / "whole", OneLayer()).path / "model.safetensors").read_bytes()
    judge = OneLayer.judge

    def stop(self: OneLayer, model: torch.nn.Module, validation: fs.ImageSet) -> dict[str, Any]:
        if (tmp_path / "part" / "metrics.jsonl").exists():
            raise KeyboardInterrupt
        return judge(self, model, validation)

    monkeypatch.setattr(OneLayer, "judge", stop)
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path / "part", OneLayer())
    monkeypatch.undo()
    with refused(fs.InputError, "holds a run already", "resume"):
        made(tmp_path / "part", OneLayer())
    run = made(tmp_path / "part", OneLayer(), resume=True)
    assert (run.path / "model.safetensors").read_bytes() == weights
    assert fs.evaluate(made(run.path, OneLayer(), resume=True))["accuracy"] > 0.9


def test_a_shipped_preset_trains_on_a_data_set_of_ones_own(tmp_path: Path) -> None:
    recipe = fs.preset("aggressive-ttfs-window").configure(dataset=BARS, epochs=3)
    small = {"hidden_features": 20, "batch_size": 10, "augmentation": Augmentation()}
    run = made(tmp_path / "run", dataclasses.replace(recipe, **small))  # type: ignore[arg-type]
    assert fs.evaluate(run)["dataset"] == "bars"
    assert fs.evaluate(run)["accuracy"] > 0.9


def test_a_run_of_a_class_that_is_not_imported_says_so(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", "mine", OneLayer(), 0)
    document = json.loads((run.path / "config.json").read_text())
    document["config"]["type"] = "Elsewhere"
    (run.path / "config.json").write_text(json.dumps(document))
    with refused(fs.InputError, "unknown type 'Elsewhere'", "import the module that defines"):
        RunFolder.open(run.path)


def test_loading_draws_no_random_numbers(tmp_path: Path) -> None:
    run = made(tmp_path / "run", OneLayer(epochs=1))
    before = torch.random.get_rng_state()
    run.load()
    assert torch.random.get_rng_state().equal(before)


# An experiment


def test_an_experiment_trains_measures_and_reports(tmp_path: Path) -> None:
    page = run_experiment(toy(), out=tmp_path, seeds=[0], jobs=1)
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {
        "mine-a-neuron-of-one-s-own-seed0",
        "mine-window-seed0",
    }
    document = json.loads((tmp_path / "results" / "toy.json").read_text())
    figures = document["runs"]["a neuron of one's own"]
    assert [(run["seed"], run["dataset"]) for run in figures] == [(0, "bars")]
    assert figures[0]["accuracy"] > 0.9
    run = RunFolder.open(tmp_path / "runs" / "mine-window-seed0", BARS)
    accuracy = fs.evaluate(run)["accuracy"]
    assert document["tables"][0]["rows"][1] == ["window", f"{100 * accuracy:.2f}"]
    text = page.read_text(encoding="utf-8")
    assert "A toy" in text
    assert text.count("<img") == 1
    # Finished runs are kept.
    assert run_experiment(toy(), out=tmp_path, seeds=[0]) == page
    assert json.loads((tmp_path / "results" / "toy.json").read_text())["runs"] == document["runs"]


# What a class of one's own may get wrong


@dataclass(frozen=True, kw_only=True)
class Wrong(Doubling):
    """A neuron whose `fire` gives something else."""

    given: Any

    def fire(self, connection: fs.Synapses, spikes: fs.Spikes) -> fs.Spikes:
        return self.given


@dataclass(frozen=True, kw_only=True)
class Half(fs.Neuron):
    """A neuron without a membrane."""

    def fire(self, connection: fs.Synapses, spikes: fs.Spikes) -> fs.Spikes:
        return spikes


class Plain(Doubling):
    """A neuron that is no dataclass of its own."""

    threshold: float = 1.0


class PlainRecipe(OneLayer):
    """A recipe that is no dataclass of its own."""

    gain: float = 1.0


@dataclass(frozen=True, kw_only=True)
class PerSample(OneLayer):
    """A recipe whose loss is no mean."""

    def batch_loss(self, model: Any, images: Tensor, labels: Tensor) -> Tensor:
        return model(model.encode(images)).times.sum(1)


def fires(neuron: fs.Neuron) -> Any:
    layer = fs.Linear(3, 2, neuron)
    with pytest.raises(Exception) as read:
        layer.read(draw_spikes(4, 3))
    out = layer(draw_spikes(4, 3))
    raise AssertionError(f"accepted {out}, although reading said {read.value}")


def gives(images: Any, **changes: Any) -> Any:
    return load(dataclasses.replace(BARS, load=lambda split, data_dir: images, **changes), "train")


GOOD = bars("train")


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: fs.Linear(3, 2, fs.Neuron()), TypeError, ["abstract class Neuron", "fire", "membrane"]),  # type: ignore[abstract]
        (lambda: fs.Linear(3, 2, Half()), TypeError, ["abstract class Half", "membrane"]),  # type: ignore[abstract]
        (lambda: fires(Wrong(given=torch.zeros(4, 2))), TypeError, ["Wrong.fire", "Spikes(", "Tensor"]),
        (lambda: fires(Wrong(given=None)), TypeError, ["Wrong.fire", "Spikes(", "NoneType"]),
        (lambda: fires(Wrong(given=draw_spikes(4, 3))), ValueError, ["Wrong.fire", "(4, 2)", "(4, 3)"]),
        (lambda: fires(Wrong(given=draw_spikes(2))), ValueError, ["Wrong.fire", "(4, 2)", "(2,)"]),
        (
            lambda: fires(Wrong(given=draw_spikes(4, 2, steps=8))),
            ValueError,
            ["Wrong.fire", "out_steps(16) = 16", "found 8"],
        ),
        (lambda: fires(Wrong(given=fs.Spikes([[-1.0]], 16))), ValueError, ["times", "0 ... 16", "-1"]),
        (lambda: fs.Linear(3, 2, Plain()), TypeError, ["Plain", "@dataclass(frozen=True, kw_only=True)"]),
        (lambda: fs.Linear(3, 2, Doubling), TypeError, ["firstspike.Neuron", "Doubling"]),  # type: ignore[arg-type]
        (lambda: fs.Linear(3, 2, 16), TypeError, ["firstspike.Neuron", "16", "steps"]),  # type: ignore[arg-type]
        (lambda: gives((GOOD.images, GOOD.labels)), TypeError, ["bars", "ImageSet.of", "tuple"]),
        (lambda: gives(GOOD, shape=(1, 6, 4)), ValueError, ["bars", "(1, 6, 4)", "(1, 4, 6)", "agree"]),
        (lambda: gives(GOOD, classes=4), ValueError, ["bars", "4 classes", "3 classes", "agree"]),
        (lambda: gives(GOOD, shape=(4, 6)), ValueError, ["bars", "(channels, height, width)", "(4, 6)"]),
        (lambda: fs.Dataset("mine", (1, 2, 3), 2, GOOD), TypeError, ["mine", "load", "function"]),  # type: ignore[arg-type]
        (lambda: load("bars", "train"), fs.InputError, ["'bars'", "digits", "Dataset"]),
        (lambda: load(BARS, "dev"), fs.InputError, ["'dev'", "validation"]),
        (lambda: PlainRecipe(), TypeError, ["PlainRecipe", "@dataclass(frozen=True, kw_only=True)"]),
        (lambda: OneLayer(neuron=16), ValueError, ["OneLayer.neuron", "Neuron", "16"]),  # type: ignore[arg-type]
        (lambda: OneLayer(dataset=GOOD), ValueError, ["OneLayer.dataset", "Dataset"]),  # type: ignore[arg-type]
        (lambda: changed(OneLayer(), "nouns", "1"), fs.InputError, ["OneLayer", "'nouns'", "neuron"]),
        (
            lambda: changed(OneLayer(), "neuron.scale", "1"),
            fs.InputError,
            ["Doubling", "'scale'", "threshold"],
        ),
        (
            lambda: changed(OneLayer(), "epochs", "0"),
            fs.InputError,
            ["OneLayer.epochs", "1 or more", "'0'"],
        ),
        (
            lambda: fs.preset("aggressive-ttfs-window").configure(changes={"nouns": "1"}),
            fs.InputError,
            ["--set nouns=1", "'nouns'", "hidden_features"],
        ),
    ],
)
def test_what_is_wrong_is_said(call: Callable[[], Any], error: type[Exception], words: list[str]) -> None:
    with refused(error, *words):
        call()


def test_a_loss_that_is_no_mean_is_refused(tmp_path: Path) -> None:
    with refused(ValueError, "loss", "scalar", "(25,)"):
        made(tmp_path / "run", PerSample())


# The structure that makes it so


def modules(package: str = "firstspike") -> Iterator[ModuleType]:
    """Every public module, kernels aside, which know arrays only."""
    for found in pkgutil.walk_packages([str(ROOT)], "firstspike."):
        parts = found.name.split(".")
        if parts[1] != "kernels" and not any(part.startswith("_") for part in parts):
            yield importlib.import_module(found.name)


def signatures() -> Iterator[tuple[str, inspect.Signature]]:
    """The functions and methods that public modules define, and the constructors of their classes."""
    for module in modules():
        for name, value in vars(module).items():
            if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
                continue
            if inspect.isfunction(value):
                yield f"{module.__name__}.{name}", inspect.signature(value)
            elif inspect.isclass(value):
                for method, function in vars(value).items():
                    function = getattr(function, "__func__", function)
                    if inspect.isfunction(function) and (method == "__init__" or method[0] != "_"):
                        yield f"{module.__name__}.{name}.{method}", inspect.signature(function)


def test_spikes_bring_their_steps_along() -> None:
    found = dict(signatures())
    assert len(found) > 500
    for name, signature in found.items():
        taken = signature.parameters
        assert "num_steps" not in taken, name
        if any("Spikes" in str(parameter.annotation) for parameter in taken.values()):
            assert not {"steps", "T"} & taken.keys(), name


def test_public_names_are_there_and_have_no_second_home() -> None:
    assert {"train", "evaluate", "fit", "report", "Dataset", "Recipe", "Neuron"} <= set(fs.__all__)
    for name in fs.__all__:
        assert getattr(fs, name) is not None
    assert dir(fs) == sorted(fs.__all__)
    with refused(AttributeError, "no attribute 'nothing'"):
        _ = fs.nothing  # type: ignore[attr-defined]


def neurons() -> list[type[fs.Neuron]]:
    import firstspike.neurons as index

    named = [getattr(index, name) for name in index.__all__]
    return [
        cls
        for cls in named
        if isinstance(cls, type) and issubclass(cls, fs.Neuron) and cls is not fs.Neuron
    ]


def test_nobody_asks_which_neuron_it_is() -> None:
    names = {cls.__name__ for cls in neurons()}
    assert names == {"Causal", "Phased", "Ramp", "Window"}
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            asked: list[ast.AST] = []
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                asked = list(node.args[1:]) if node.func.id in ("isinstance", "issubclass") else []
            elif isinstance(node, ast.MatchClass):
                asked = [node.cls]
            found = {inner.id for one in asked for inner in ast.walk(one) if isinstance(inner, ast.Name)}
            found |= {
                inner.attr for one in asked for inner in ast.walk(one) if isinstance(inner, ast.Attribute)
            }
            own = path.stem.title() if path.parent.name == "neurons" else ""
            assert not (found & names) - {own}, f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"


def test_each_thing_of_an_index_is_one_file() -> None:
    for cls in neurons():
        assert cls.__module__ == f"firstspike.neurons.{cls.__name__.lower()}"
    assert len({family.__name__ for family in _FAMILIES}) == len(_FAMILIES)
    for family in _FAMILIES:
        for preset in family.PRESETS:
            assert type(preset.recipe).__module__ == family.__name__, preset.name
    for kind, package, values in (
        (fs.Dataset, "data", DATASETS),
        (Experiment, "experiments", EXPERIMENTS),
    ):
        folder = ROOT / package
        homes = {
            path.stem: [
                value
                for value in vars(importlib.import_module(f"firstspike.{package}.{path.stem}")).values()
                if isinstance(value, kind)
            ]
            for path in folder.glob("[a-z]*.py")
        }
        for value in values:
            assert sum(value in found for found in homes.values()) == 1, value
