"""A run's files are checked before training goes on from them; what it holds is its own."""

import importlib.metadata
import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from firstspike.recipes import preset
from firstspike.support import InputError
from firstspike.training.optimizer import expected_tensors, optimizer_tensors
from firstspike.training.run import train
from firstspike.training.run_folder import RunFolder

CONFIG = preset("ann-gan").configure(dataset="digits", digit=3, epochs=2)


@pytest.fixture
def unfinished(classifier_run, tmp_path):
    """A classifier's run that lacks its last step, in a folder of the test's own."""
    path = shutil.copytree(classifier_run, tmp_path / "run")
    (path / "model.safetensors").unlink()
    return path


def go_on(path):
    run = RunFolder.open(path)
    return train(path, run.preset, run.config, run.seed, resume=True, show_progress=False)


def rewrite(path, change):
    file = path / "state" / "latest.safetensors"
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    tensors = load_file(file)
    change(tensors, metadata)
    save_file(tensors, file, metadata)


def test_the_state_as_it_was_written_is_taken(unfinished, classifier_run):
    rewrite(unfinished, lambda tensors, metadata: None)
    go_on(unfinished)
    expected = load_file(classifier_run / "model.safetensors")
    found = load_file(unfinished / "model.safetensors")
    assert all(found[name].equal(expected[name]) for name in expected)


def without_a_moment(tensors, metadata):
    del tensors["optimizer/0/exp_avg"]


def without_any(tensors, metadata):
    for name in [name for name in tensors if name.startswith("optimizer/")]:
        del tensors[name]


def with_another_shape(tensors, metadata):
    tensors["optimizer/1/exp_avg_sq"] = torch.zeros(3)


def with_one_more(tensors, metadata):
    tensors["optimizer/99/exp_avg"] = torch.zeros(3)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (without_a_moment, r"expected \{'optimizer/0/exp_avg': \(200, 64\)\}, found \{\}"),
        (without_any, r"expected \{'optimizer/0/step': .*\}, found \{\}"),
        (with_another_shape, r"expected .*'optimizer/1/exp_avg_sq': .*, found .*\(3,\)\}"),
        (with_one_more, r"expected \{\}, found \{'optimizer/99/exp_avg': \(3,\)\}"),
    ],
)
def test_an_optimiser_that_is_not_whole_is_not_started_anew(unfinished, change, named):
    rewrite(unfinished, change)
    with pytest.raises(InputError, match=f"latest.safetensors does not fit .*{named}; train the run again"):
        go_on(unfinished)
    assert not (unfinished / "model.safetensors").exists()


@pytest.mark.parametrize("records", ["3", "{}", "[]", "[3]", '[{"epoch": 1}, null]'])
def test_records_are_a_list_of_objects(unfinished, records):
    rewrite(unfinished, lambda tensors, metadata: metadata.update(records=records))
    with pytest.raises(InputError, match=r"latest.safetensors is damaged \(its records"):
        go_on(unfinished)


@pytest.mark.parametrize(
    "make",
    [
        lambda parameters: torch.optim.Adam(parameters, 0.1, fused=True),
        lambda parameters: torch.optim.AdamW(parameters, 0.1, fused=True),
        lambda parameters: torch.optim.SGD(parameters, 0.1),
    ],
    ids=["adam", "adamw", "sgd"],
)
def test_the_expected_tensors_are_those_after_a_step_and_nothing_is_stepped(make):
    model = torch.nn.Linear(3, 2)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = make(model.parameters())
    expected = expected_tensors(optimizer, "o")
    assert optimizer_tensors(optimizer, "o") == {}
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(map(torch.equal, before, model.parameters()))
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    found = optimizer_tensors(optimizer, "o")
    assert {n: t.shape for n, t in expected.items()} == {n: t.shape for n, t in found.items()}


@pytest.mark.parametrize("threads", [0, -1, True, 1.0])
def test_threads_that_are_none_are_refused(unfinished, threads):
    file = unfinished / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"threads": threads}))
    with pytest.raises(InputError, match="does not describe a run"):
        RunFolder.open(unfinished)


def test_a_run_of_another_version_says_so(unfinished):
    file = unfinished / "config.json"
    document = json.loads(file.read_text())
    del document["config"]["ema"]
    file.write_text(json.dumps(document))
    with pytest.raises(InputError) as caught:
        RunFolder.open(unfinished)
    assert str(caught.value) == (
        f"{file}: ShallowRecipe in the configuration has missing or unknown fields: ema "
        "(made by another version of firstspike); train the run again into another out"
    )


def test_the_versions_are_those_installed(tmp_path):
    RunFolder.create(tmp_path / "run", "ann-gan", CONFIG, 0)
    versions = json.loads((tmp_path / "run" / "config.json").read_text())["versions"]
    assert versions.keys() == {"firstspike", "python", "torch", "numpy", "numba"}
    for name in ("firstspike", "numba"):
        assert versions[name] == importlib.metadata.version(name)


def test_a_lock_that_was_left_is_no_content(tmp_path):
    (tmp_path / ".lock").touch()
    assert RunFolder.find(tmp_path, "ann-gan", CONFIG, 0) is None
    RunFolder.create(tmp_path, "ann-gan", CONFIG, 0)


def test_looking_for_a_run_makes_nothing(tmp_path):
    assert RunFolder.find(tmp_path / "a" / "run", "ann-gan", CONFIG, 0) is None
    assert list(tmp_path.iterdir()) == []
