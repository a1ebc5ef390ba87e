"""The verb, on the embedded digits. Nothing here looks at a time: only at what is said."""

import json

import pytest
import torch
from commands import contents

from firstspike.kernels.cpu.vectors import LANES

FIGURES = (
    "name",
    "ours",
    "theirs",
    "unit",
    "ratio",
    "repeats",
    "spread",
    "target",
    "data",
    "note",
    "skipped",
)


def test_json_is_one_object_on_standard_output(firstspike, tmp_path):
    answer = firstspike(
        "bench", "--quick", "--json", "--rows", "linear-train-vs-dense", "linear-forward-vs-dense"
    )
    assert answer.status == 0
    document = json.loads(answer.out)
    assert set(document) == {"machine", "rows"}
    assert document["machine"]["data"] == "digits"
    assert document["machine"]["threads"] == 2
    assert document["machine"]["quick"] is True
    assert [row["name"] for row in document["rows"]] == ["linear-forward-vs-dense", "linear-train-vs-dense"]
    for row in document["rows"]:
        assert set(FIGURES) < set(row)
        assert row["skipped"] is None
        assert row["ratio"] == pytest.approx(row["ours"] / row["theirs"])
        assert row["repeats"] == 3
        assert row["data"] == "digits"
    assert "1/2 linear-forward-vs-dense\n" in answer.err
    assert contents(tmp_path) == {}


def test_a_table_and_results_are_for_people(firstspike, tmp_path):
    answer = firstspike("bench", "--quick", "--rows", "single-image", "--results", tmp_path / "results")
    assert answer.status == 0
    assert "single-image" in answer.out
    assert "synaptic" in answer.out
    assert "…" not in answer.out
    assert list(contents(tmp_path / "results")) == ["cpu.json" if LANES == 16 else "cpu-narrow.json"]


def test_unknown_rows_are_refused_in_one_line(firstspike, tmp_path):
    refusal = firstspike("bench", "--rows", "linear").refusal
    assert refusal.startswith("unknown row linear; there are: linear-forward-vs-dense, ")
    assert "gpu-linear-train-vs-spikingjelly" in refusal
    assert contents(tmp_path) == {}


def test_a_run_of_another_network_is_refused(firstspike, classifier_run):
    answer = firstspike("bench", "--quick", "--rows", "linear-forward-vs-dense", "--run", classifier_run)
    assert answer.status == 2
    assert answer.err.splitlines()[-1].endswith(
        "is a run of aggressive-ttfs-window; expected one of a 784-400-10 classifier of causal neurons "
        "with 256 steps"
    )


def test_a_folder_that_is_no_run_is_refused(firstspike, tmp_path):
    refusal = firstspike("bench", "--rows", "linear-forward-vs-dense", "--run", tmp_path).refusal
    assert refusal.startswith(f"{tmp_path} is not a run folder")


def test_a_data_folder_that_is_not_there_is_refused_before_the_first_row(firstspike):
    refusal = firstspike("bench", "--data-dir", "nowhere").refusal
    assert refusal.startswith("mnist: expected train-images-idx3-ubyte")
    assert "nowhere (which does not exist)" in refusal


def test_the_object_is_also_written_into_a_file(firstspike, tmp_path):
    file = tmp_path / "new" / "bench.json"
    answer = firstspike("bench", "--quick", "--json", "--rows", "linear-forward-vs-dense", "--out", file)
    assert answer.status == 0
    assert json.loads(file.read_text(encoding="utf-8")) == json.loads(answer.out)


def test_a_folder_as_the_file_is_refused_before_anything_is_measured(firstspike, tmp_path):
    refusal = firstspike("bench", "--rows", "linear-forward-vs-dense", "--out", tmp_path).refusal
    assert refusal == f"--out {tmp_path} is a folder; name a file"


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here, so that its rows are measured")
def test_rows_of_which_none_can_be_measured_are_no_success(firstspike, tmp_path):
    answer = firstspike("bench", "--rows", "gpu-linear-train-vs-dense", "--out", tmp_path / "f.json")
    assert answer.status == 2
    assert "firstspike: gpu-linear-train-vs-dense: not measured, torch finds no CUDA device" in answer.err
    assert contents(tmp_path) == {}
