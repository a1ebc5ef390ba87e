"""The results in docs: their tables and pages are what this code makes of their measured figures."""

import json
import shutil
from pathlib import Path

import pytest

from firstspike.experiments import EXPERIMENTS
from firstspike.experiments.run import render_anew
from firstspike.experiments.spec import Measured
from firstspike.recipes import PRESETS
from firstspike.recipes.base import Recipe
from firstspike.recipes.fields import from_json

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "docs" / "results").glob("*.json"))
MADE_BY = {experiment.result_file: experiment for experiment in EXPERIMENTS}


def test_tables_and_pages_are_written_from_the_measured_figures(tmp_path):
    shutil.copytree(ROOT / "docs" / "results", tmp_path / "docs" / "results")
    # Linked where they are there.
    for page in (ROOT / "docs").glob("*.md"):
        (tmp_path / "docs" / page.name).touch()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (tmp_path / "README.md").write_text(readme, encoding="utf-8")
    for file in FILES:
        copy = tmp_path / "docs" / "results" / file.name
        document = json.loads(copy.read_text(encoding="utf-8"))
        for table in document["tables"]:
            table["rows"] = [["forgotten"] * len(table["columns"])]
        copy.write_text(json.dumps(document))
    render_anew(tmp_path / "docs" / "results", EXPERIMENTS)
    for path in (*FILES, ROOT / "docs" / "results.md", ROOT / "README.md"):
        copy = tmp_path / path.relative_to(ROOT)
        assert copy.read_text(encoding="utf-8") == path.read_text(encoding="utf-8"), path.name


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_table_has_rows_and_every_target_its_figure(file):
    document, experiment = json.loads(file.read_text(encoding="utf-8")), MADE_BY[file.stem]
    measured = Measured(document["runs"], document)
    assert all(table.rows for table in experiment.tables(measured))
    assert all(target.met in (True, False) for target in experiment.all_targets(measured))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_row_makes_tables_of_its_own(file):
    """As after a call that was asked for one row, before the others are there."""
    document, experiment = json.loads(file.read_text(encoding="utf-8")), MADE_BY[file.stem]
    labels = set()
    for name, runs in document["runs"].items():
        # What is measured besides, but for what comes of another row.
        others = dict(document, epochs={name: document.get("epochs", {}).get(name)})
        if not name.endswith("n-mnist"):
            others.pop("recordings", None)
        measured = Measured({name: runs}, others)
        written = experiment.render(measured)
        assert all(len(row) == 3 for row in written["headlines"])
        list(experiment.targets(measured))
        labels |= {row[0] for table in written["tables"] for row in table["rows"]}
    if file.stem != "spiking-gan":
        # Only there every table compares two rows.
        assert {f"`{n}`" if n in PRESETS else n for n in document["runs"]} - {
            "one step without carry"
        } <= labels


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_run_names_its_call_and_each_row_its_recipe(file):
    document, experiment = json.loads(file.read_text(encoding="utf-8")), MADE_BY[file.stem]
    assert document["recipes"].keys() == document["runs"].keys()
    assert document["runs"].keys() <= {run.name for run in experiment.runs}
    called = {run["call"] for runs in document["runs"].values() for run in runs}
    assert called == set(range(len(document["provenance"])))
    for recipe in document["recipes"].values():
        assert from_json(recipe, Recipe).trainable
