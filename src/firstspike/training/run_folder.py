"""A run is a folder: configuration, metrics, weights, and the state to go on from.

``state/latest.safetensors`` is the one source of truth: tensors, epoch and metrics of all finished
epochs, replaced whole after each. ``metrics.jsonl`` and ``model.safetensors`` are written from it.
"""

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import zip_longest
from operator import attrgetter
from pathlib import Path
from typing import Any, get_args

import numpy
import torch
from safetensors.torch import save
from torch import Tensor

from firstspike import __version__, networks
from firstspike.data import Dataset
from firstspike.models.precision import Precision
from firstspike.neurons import Neuron
from firstspike.recipes import Fit
from firstspike.recipes.base import Recipe
from firstspike.recipes.fields import Steps, changed, field_kinds, flat, from_json, to_json
from firstspike.support import (
    InputError,
    atomic_path,
    command_line,
    json_text,
    option,
    refuse_pickled,
    write_text,
)
from firstspike.training.seeding import seeded
from firstspike.weights.files import read_tensors

FORMAT = 2
_PRECISIONS = get_args(Precision)
_STATE, _MODEL = "state/latest.safetensors", "model.safetensors"


@dataclass(frozen=True)
class RunState:
    """What a run needs to go on: tensors by name and one record of metrics per finished epoch."""

    tensors: dict[str, Tensor]
    records: list[dict[str, Any]]

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        return len(self.records)


@dataclass(frozen=True)
class RunFolder:
    """An existing run.

    Attributes:
        path: the folder.
        preset: name of the preset it was started from.
        config: the recipe as it was asked for.
        seed: of everything random.
        threads: torch threads it was started with; sums over threads depend on it.
        precision: of activations, "float32" or "bfloat16", which "auto" stood for when the run was made.
        windows: names of the fields whose windows are not those of the training, see `with_windows`.
    """

    path: Path
    preset: str
    config: Recipe
    seed: int
    threads: int
    precision: Precision
    windows: frozenset[str] = frozenset()

    @property
    def recipe(self) -> Recipe:
        """The recipe as it is trained, its precision settled."""
        return self.config.at(self.precision)

    @property
    def finished(self) -> bool:
        """Whether the weights to use are there."""
        return (self.path / _MODEL).exists()

    @staticmethod
    def find(
        path: Path, preset: str, config: Recipe, seed: int, *, resume: bool = False
    ) -> "RunFolder | None":
        """Return the run that is there if `resume` may go on with it, None where a new one may be made.

        A run without a finished epoch holds nothing to lose: a new one may take its place.

        Raises:
            InputError: the folder holds something already and `resume` is false; or it holds a run of
                another preset, configuration or seed.
            OSError: the folder cannot be read.
        """
        if (path / "config.json").exists():
            begun = _has_begun(path)
            if not resume:
                if not begun:
                    return None
                raise _not_free(path)
            found = RunFolder.open(path)
            if not found.config.trainable:
                raise InputError(
                    f"{path} holds a converted network, which is not trained; give another {option('out')}"
                )
            differ = [
                "{} {} there, {} asked for".format(name, *_first_difference(old, new))
                for name, old, new in (
                    ("preset", found.preset, preset),
                    ("seed", found.seed, seed),
                    *_fields(found.config, config),
                )
                if old != new
            ]
            if differ:
                if not begun:
                    return None
                raise InputError(
                    f"{path} holds another run: {'; '.join(differ)}; give another {option('out')}"
                )
            return replace(found, config=config)
        if path.exists() and not path.is_dir():
            raise InputError(f"{path} is a file; {option('out')} must name a folder for the run")
        if path.is_dir() and any(not entry.name.startswith(".") for entry in path.iterdir()):
            raise InputError(f"{path} is not empty and holds no run; give another {option('out')}")
        return None

    @staticmethod
    def create(
        path: Path, preset: str, config: Recipe, seed: int, *, resume: bool = False, device: str = "cpu"
    ) -> "RunFolder":
        """Return a new run, or with `resume` the one that is there.

        `device` is where a new one is to be trained, which settles its precision.

        Raises:
            InputError: as `find` does.
            OSError: the folder cannot be written.
        """
        found = RunFolder.find(path, preset, config, seed, resume=resume)
        if found is not None:
            return found
        run = RunFolder(path, preset, config, seed, torch.get_num_threads(), config.precision_on(device))
        path.mkdir(parents=True, exist_ok=True)
        document = {
            "format": FORMAT,
            "preset": preset,
            "seed": seed,
            "threads": run.threads,
            "precision": run.precision,
            "command": command_line.get(),
            "versions": {
                "firstspike": __version__,
                "python": platform.python_version(),
                "torch": torch.__version__,
                "numpy": numpy.__version__,
                "numba": version("numba"),
            },
            "config": to_json(config),
        }
        write_text(path / "config.json", json_text(document, indent=2) + "\n")
        return run

    @staticmethod
    def open(path: str | Path, dataset: Dataset | None = None) -> "RunFolder":
        """Return the run in `path`, or the built-in one of that name where there is no such folder.

        `dataset` is what it was trained on, where the run cannot find it.

        Raises:
            InputError: there is none, it is damaged, it was written by another version of the format, or it
                was trained on another data set than `dataset`.
            OSError: it cannot be read.
        """
        path = networks.find(path)
        file = path / "config.json"
        if path.is_file():
            refuse_pickled(path)
        if not file.is_file():
            raise InputError(
                f"{path} is not a run folder: no config.json there; give the folder that firstspike train "
                f"or convert wrote, or a built-in network: {', '.join(networks.NAMES)}"
            )
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
            written = document["format"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{file} is damaged ({error}); train the run again") from error
        if written != FORMAT:
            raise InputError(
                f"{file} has format {written!r}, this firstspike reads {FORMAT}; train the run again into "
                f"another {option('out')}, or go on with the firstspike that wrote it"
            )
        try:
            preset, seed, threads = (document[name] for name in ("preset", "seed", "threads"))
            precision, config = document["precision"], document["config"]
        except KeyError as error:
            raise InputError(f"{file} is damaged ({error}); train the run again") from error
        try:
            config = from_json(config, Recipe)  # type: ignore[type-abstract]
        except InputError as error:
            raise InputError(
                f"{file}: {error}; train the run again into another {option('out')}"
            ) from error
        types = [type(value) for value in (preset, seed, threads)]
        if types != [str, int, int] or threads < 1 or precision not in _PRECISIONS:
            raise InputError(f"{file} does not describe a run; train the run again")
        run = RunFolder(path, preset, config, seed, threads, precision)
        return run if dataset is None else run.on(dataset)

    def on(self, dataset: Dataset) -> "RunFolder":
        """Return the run with `dataset` for what it was trained on.

        Raises:
            InputError: it was trained on another one. A run that was not trained takes any.
        """
        there = self.config.dataset
        trained_on = there.identity if isinstance(there, Dataset) else there
        if self.config.trainable and dataset.identity != trained_on:
            raise InputError(
                f"{self.path} was trained on {trained_on}, not on {dataset.identity}; give that one"
            )
        return replace(self, config=replace(self.config, dataset=dataset))

    def load_state(self, expected: Mapping[str, Tensor] | None = None) -> RunState:
        """Return the state after the last finished epoch; an empty one before the first.

        Args:
            expected: tensors that the state must hold, in these shapes, and no others.

        Raises:
            InputError: the state file is damaged or not of this network.
            OSError: it cannot be read.
        """
        file = self.path / _STATE
        if not file.exists():
            return RunState({}, [])
        tensors, metadata = read_tensors(file, "train the run again")
        try:
            records = json.loads(metadata["records"])
        except (ValueError, KeyError) as error:
            raise InputError(f"{file} is damaged ({error!r}); train the run again") from error
        if not (isinstance(records, list) and records and all(isinstance(r, dict) for r in records)):
            raise InputError(f"{file} is damaged (its records are no list of objects); train the run again")
        if expected is not None:
            _check_fit(file, expected, tensors, self.windows)
        return RunState(tensors, records)

    def save_state(self, state: RunState) -> None:
        """Write the state, then the metrics that it holds."""
        tensors = {name: tensor.contiguous() for name, tensor in state.tensors.items()}
        content = save(tensors, {"records": json.dumps(state.records)})
        with atomic_path(self.path / _STATE) as temporary:
            temporary.write_bytes(content)
        self.write_metrics(state)

    def write_metrics(self, state: RunState) -> None:
        """Write ``metrics.jsonl`` from the state; a run killed between the two lacks its last line."""
        lines = "".join(json_text(record) + "\n" for record in state.records)
        write_text(self.path / "metrics.jsonl", lines)

    def save_model(self, tensors: dict[str, Tensor]) -> None:
        """Write the weights to use, ``model.safetensors``."""
        contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        content = save(contiguous, {"format": str(FORMAT)})
        with atomic_path(self.path / _MODEL) as temporary:
            temporary.write_bytes(content)

    def load(self) -> torch.nn.Module:
        """Return the trained network in evaluation mode.

        Raises:
            InputError: the run is not finished, or its weights are damaged, not finite, or do not fit.
            OSError: they cannot be read.
        """
        with seeded(self.seed, "initial"):
            model = self.config.kept(self.config.build(*self.config.sizes()))
        self.load_model(model)
        return model.eval()

    def with_windows(self, windows: Mapping[str, Any]) -> "RunFolder":
        """Return the run with the same weights in windows of other lengths; nothing is written.

        Args:
            windows: lengths ``T`` in steps, integers or texts, by the dotted names of the recipe's fields,
                such as "steps", "pixel_steps" and "hidden_neuron.steps".

        Raises:
            InputError: the recipe has no window of that name, or refuses the length; or the weights of its
                neurons hold in the windows of their training only, see `firstspike.Neuron.any_window`.
        """
        config = self.config
        names = _windows(config)
        for name, steps in windows.items():
            if name not in names:
                has = ", ".join(names) or "none that can change without another training"
                raise InputError(f"{self.path} has no window {name!r} to change; it has {has}")
            config = changed(config, name, str(steps))
            if attrgetter(name)(config) is None:
                raise InputError(f"{name} must be a number of steps, found {steps}")
        return replace(self, config=config, windows=self.windows | windows.keys())

    def load_model(self, module: torch.nn.Module) -> None:
        """Fill `module` with the run's weights.

        Raises:
            InputError: the run is not finished, or its weights are damaged, not finite, or do not fit.
            OSError: they cannot be read.
        """
        file = self.path / _MODEL
        if not file.exists():
            how = f"firstspike train {self.preset} --out {self.path} --resume"
            if isinstance(self.config, Fit):
                how = "firstspike.fit(..., resume=True)"
            raise InputError(
                f"{self.path} has no model yet; finish it with {how} and the options that it was started "
                "with"
            )
        tensors, _ = read_tensors(file, "train the run again")
        tensors = networks.grown(tensors)
        _check_fit(file, module.state_dict(), tensors, self.windows)
        module.load_state_dict(tensors)


def _windows(config: Any) -> list[str]:
    """The dotted names of window lengths that may change; none if a neuron's weights hold in one only."""
    names: list[str] = []
    for name, kind in field_kinds(type(config)).items():
        value = getattr(config, name)
        if isinstance(value, Neuron):
            if not value.any_window():
                return []
            names += [f"{name}.steps"] if hasattr(value, "steps") else []
        elif kind == Steps:
            names.append(name)
    return names


def _check_fit(
    file: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor], windows: frozenset[str]
) -> None:
    """Refuse tensors of other names or shapes than `expected`, and weights that are not finite."""
    shapes, there = ({name: tuple(t.shape) for name, t in ts.items()} for ts in (expected, found))
    if shapes != there and windows:
        names = ", ".join(sorted(windows))
        raise InputError(f"{file} holds weights for the trained length of {names} only; leave it as it was")
    if shapes != there:
        shapes, there = (
            {name: shape for name, shape in one.items() if other.get(name) != shape}
            for one, other in ((shapes, there), (there, shapes))
        )
        raise InputError(
            f"{file} does not fit its configuration: expected {shapes}, found {there}; train the run again"
        )
    if any(not torch.isfinite(t).all() for t in found.values() if t.is_floating_point()):
        raise InputError(f"{file} holds weights that are NaN or infinite; train the run again")


def _fields(old: Recipe, new: Recipe) -> list[tuple[str, Any, Any]]:
    one, two = ({"recipe": type(recipe).__name__, **dict(flat(recipe))} for recipe in (old, new))
    return [(name, one.get(name), two.get(name)) for name in {**one, **two}]


def _first_difference(old: Any, new: Any) -> tuple[Any, Any]:
    """Of texts of several lines the first ones that differ, else both as they are."""
    if not (isinstance(old, str) and isinstance(new, str) and "\n" in old + new):
        return old, new
    lines = zip_longest(old.split("\n"), new.split("\n"), fillvalue="nothing")
    one, two = next(pair for pair in lines if pair[0] != pair[1])
    return one.strip(), two.strip()


def _has_begun(path: Path) -> bool:
    """Whether a folder holds more than what a run writes before its first finished epoch."""
    visible = {
        entry.relative_to(path).as_posix()
        for folder in (path, path / "state")
        for entry in (folder.iterdir() if folder.is_dir() else ())
        if not entry.name.startswith(".")
    }
    # The diagnosis begins before the first epoch, and a kill may leave the state's folder empty.
    return not (visible <= {"config.json", "diagnosis.jsonl", "state"} and _opens(path))


def _opens(path: Path) -> bool:
    try:
        RunFolder.open(path)
    except InputError:
        return False
    return True


def _not_free(path: Path) -> InputError:
    if not _opens(path):
        return InputError(
            f"{path} holds a config.json that is of no run that this firstspike reads; give another "
            f"{option('out')}"
        )
    return InputError(
        f"{path} holds a run already; give another {option('out')}, or {option('resume')} to go on with it"
    )
