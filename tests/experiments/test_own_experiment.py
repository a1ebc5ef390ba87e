"""An experiment of one's own, from training to pages, on the embedded digits."""

import json
import shutil
from dataclasses import replace

import pytest
from builders import refused
from PIL import Image

from firstspike.experiments import Column, Experiment, Picture, Run, Table, Target, headline, run_experiment
from firstspike.experiments.jobs import Options, measure
from firstspike.plot import learning_curves
from firstspike.recipes import preset
from firstspike.support import InputError, command_line
from firstspike.training.run_folder import RunFolder

PRESET = "aggressive-ttfs-window"
SMALL = replace(preset(PRESET).configure(dataset="digits", epochs=2), hidden_features=20)


def tables(measured):
    row = measured.row("20 hidden neurons")
    rows = measured.rows() | {"difference": {"accuracy": row["accuracy"]["mean"] - 0.5}}
    columns = [Column("accuracy", "accuracy (spikes), %"), Column("steps_to_decision")]
    return [Table("Toy", rows, columns, "network", [f"{measured.others['answer']} is measured too."])]


def pictures(finished):
    if "20 hidden neurons" not in finished.runs:
        return
    records = finished.open("20 hidden neurons").load_state().records
    yield Picture("Losses", "loss.png", "The loss.", learning_curves(records, {"loss": ["loss"]}))
    yield Picture("Losses", "written.png", "Written.", lambda path: Image.new("L", (9, 9)).save(path))


TOY = Experiment(
    name="toy",
    title="A toy",
    split="digits, 300 test images",
    runs=[
        Run(PRESET, replace(SMALL, hidden_features=30), row=PRESET, variant="thirty"),
        Run("mine", SMALL, variant="20 hidden neurons", seeds=1),
    ],
    tables=tables,
    others=lambda finished: {"answer": len(finished.runs)},
    headlines=lambda measured: [
        headline("toy", measured.row("20 hidden neurons"), [Column("accuracy", "{} %")])
    ],
    targets=lambda measured: [
        Target("toy", "accuracy", measured.row("20 hidden neurons")["accuracy"], 2.0, "never")
    ],
    pictures=pictures,
    curves={"validation accuracy": ["validation_accuracy"]},
)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    assert run_experiment(TOY, out=folder, seeds=[0, 1, 0], jobs=2) == folder / "report.html"
    return folder


def test_runs_figures_and_pictures_are_there(out):
    assert {path.name for path in (out / "runs").iterdir()} == {
        "aggressive-ttfs-window-thirty-seed0",
        "aggressive-ttfs-window-thirty-seed1",
        "mine-20-hidden-neurons-seed0",
    }
    document = json.loads((out / "results" / "toy.json").read_text())
    assert {name: len(runs) for name, runs in document["runs"].items()} == {
        PRESET: 2,
        "20 hidden neurons": 1,
    }
    # Measured here once more, without an experiment.
    run = RunFolder.open(out / "runs" / "mine-20-hidden-neurons-seed0")
    figures = measure(run)
    assert run.config == SMALL
    assert {**figures, "seed": 0, "digit": None, "call": 0} == document["runs"]["20 hidden neurons"][0]
    (table,) = document["tables"]
    assert [row[0] for row in table["rows"]] == [f"`{PRESET}`", "20 hidden neurons", "difference"]
    assert table["rows"][1][1] == f"{100 * figures['accuracy']:.2f}"
    assert " ± " in table["rows"][0][1]
    assert table["rows"][2] == ["difference", f"{100 * figures['accuracy'] - 50:.2f}", "-"]
    assert document["headlines"] == [["toy", f"{100 * figures['accuracy']:.2f} %", "no published figure"]]
    assert document["answer"] == 2
    assert str(out) not in json.dumps(document)
    page = (out / "results.md").read_text(encoding="utf-8")
    assert "**Toy**" in page
    assert "2 is measured too." in page
    assert {path.name for path in (out / "pictures").iterdir()} == {
        "loss.png",
        "written.png",
        f"curves-{PRESET}.png",
    }


def test_the_report_judges_the_presets_targets_and_ones_own(out):
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count('aria-label="target missed"') >= 1
    assert "&gt;= 98.5" in page
    assert "&gt;= 200 (never)" in page
    assert page.count("<h2") == 5
    assert page.count("<img") == 3


def test_finished_runs_are_kept(out):
    weights = {path: path.stat().st_mtime_ns for path in out.rglob("model.safetensors")}
    document = json.loads((out / "results" / "toy.json").read_text())
    run_experiment(TOY, out=out, seeds=[0, 1])
    assert {path: path.stat().st_mtime_ns for path in out.rglob("model.safetensors")} == weights
    again = json.loads((out / "results" / "toy.json").read_text())
    assert again["runs"] == document["runs"]


@pytest.mark.parametrize("name", ["report.html", "results.md", "pictures"])
def test_somebody_elses_files_are_not_overwritten(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / "runs").mkdir()
    with refused(InputError, f"holds {name} but no experiment's runs"):
        run_experiment(TOY, out=tmp_path, seeds=[0])
    assert {path.name for path in tmp_path.rglob("*")} == {name, "runs"}


def added(out, *, rows, seeds, experiment=TOY):
    """The result file after a call for some rows."""
    token = command_line.set(f"firstspike reproduce toy --rows {' '.join(rows)}")
    try:
        run_experiment(experiment, out=out, seeds=seeds, rows=rows, jobs=1)
    finally:
        command_line.reset(token)
    return json.loads((out / "results" / "toy.json").read_text())


def test_rows_are_added_to_a_result_file(tmp_path, out, train_here):
    """Row by row, in other folders as on other machines, the file becomes what one call makes."""
    first = added(tmp_path / "one", rows=["20 hidden neurons"], seeds=[0])
    assert list(first["runs"]) == ["20 hidden neurons"]
    shutil.copytree(tmp_path / "one" / "results", tmp_path / "two" / "results")
    added(tmp_path / "two", rows=[PRESET], seeds=[0, 1])
    assert len(list((tmp_path / "two" / "runs").iterdir())) == 2
    # Measured once more, a run takes the place of the earlier one.
    found = added(tmp_path / "two", rows=[PRESET], seeds=[1])
    assert [origin["seeds"] for origin in found["provenance"]] == [[0], [0, 1], [1]]
    assert [(run["seed"], run["call"]) for run in found["runs"][PRESET]] == [(0, 1), (1, 2)]
    page = (tmp_path / "two" / "results.md").read_text(encoding="utf-8")
    assert page.count("Rows: ") == 3
    # A call of which nothing is left is forgotten.
    found = added(tmp_path / "two", rows=[PRESET], seeds=[0, 1])
    assert [origin["seeds"] for origin in found["provenance"]] == [[0], [0, 1]]
    assert [run["call"] for run in found["runs"][PRESET]] == [1, 1]

    def figures(document):
        return {
            name: [{k: v for k, v in run.items() if k not in ("call", "training_seconds")} for run in runs]
            for name, runs in document["runs"].items()
        }

    whole = json.loads((out / "results" / "toy.json").read_text())
    assert figures(found) == figures(whole)
    assert list(found["runs"]) == list(whole["runs"])
    assert found["tables"][0]["rows"] == whole["tables"][0]["rows"]
    assert found["recipes"] == whole["recipes"]


def test_earlier_runs_of_another_recipe_are_left_out(tmp_path, capsys, train_here):
    added(tmp_path, rows=["20 hidden neurons"], seeds=[0])
    other = replace(TOY, runs=[TOY.runs[0], replace(TOY.runs[1], config=replace(SMALL, rate=0.004))])
    with pytest.raises(KeyError, match="20 hidden neurons"):
        # The toy's own table needs the row that is gone.
        added(tmp_path, rows=[PRESET], seeds=[1], experiment=other)
    assert (
        "20 hidden neurons: earlier figures are left out, they are of another recipe"
        in capsys.readouterr().err
    )


def test_an_unknown_row_is_named(tmp_path):
    with refused(InputError, "toy has no row 'thirty'", "'20 hidden neurons'"):
        run_experiment(TOY, out=tmp_path, rows=["20 hidden neurons", "thirty"])
    assert not list(tmp_path.iterdir())


def test_runs_of_other_epochs_are_not_mixed_in(out):
    with refused(InputError, "epochs 2 there, 1 asked for", "another out"):
        run_experiment(TOY, out=out, epochs=1)


def test_a_quick_look_is_no_result(tmp_path):
    with refused(InputError, "--results", "leave out --epochs"):
        run_experiment(TOY, out=tmp_path, epochs=1, results=tmp_path)


def test_an_optional_run_is_left_out_where_its_data_are_missing(made_images, monkeypatch, tmp_path, capsys):
    from noise import made

    from firstspike.experiments import jobs

    def load(name, split, data_dir=None):
        if name == "mnist":
            raise InputError("no mnist here")
        return made(name, split)

    made_images()
    monkeypatch.setattr(jobs, "load", load)
    absent = Run(PRESET, optional=True)
    there = Run("mine", replace(SMALL, epochs=1))
    assert list(jobs.train_all([absent, there], Options(tmp_path, seeds=(0,)))) == ["mine"]
    assert f"{PRESET}: left out; no mnist here" in capsys.readouterr().err
    with refused(InputError, "no mnist here"):
        jobs.train_all([replace(absent, optional=False), there], Options(tmp_path, seeds=(0,)))
