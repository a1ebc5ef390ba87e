"""What other simulators make of our NIR files: the figures in the tree, and the readers where installed."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import dense, draw_spikes, seeded

import firstspike as fs

pytest.importorskip("nir")

ROOT = Path(__file__).resolve().parents[2]
RESULTS: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results" / "nir.json").read_text())
EQUAL = [row["reader"] for row in RESULTS["rows"] if row.get("equal") == 1]
PYTHON = ROOT / ".nir-env" / "bin" / "python"


def test_spikingjelly_and_norse_fire_at_our_steps() -> None:
    assert EQUAL == ["spikingjelly", "norse"]
    assert RESULTS["images"] == 1000
    assert RESULTS["read_back_equal"] == {"trained": 1.0, "rounded": 1.0}


def test_readers_that_are_equal_fire_at_most_once() -> None:
    for row in RESULTS["rows"]:
        if row["reader"] in EQUAL:
            assert row["most_spikes"] == row["rounded"]["most_spikes"] == 1


def test_where_sums_are_exact_no_layer_differs() -> None:
    for row in RESULTS["rows"]:
        if row["reader"] in EQUAL:
            assert [row["rounded"][f"layer_{depth}_different"] for depth in (0, 1)] == [0, 0]


def test_the_page_shows_the_figures() -> None:
    page = (ROOT / "docs" / "nir.md").read_text(encoding="utf-8")
    for row in RESULTS["rows"]:
        equal = f"{100 * row['equal']:.2f} %" if "equal" in row else "-"
        assert f"| {row['reader']} {row['version']} | {equal} | {row.get('most_spikes', '-')} |" in page


@pytest.mark.slow
@pytest.mark.skipif(not PYTHON.exists(), reason="needs `make nir-env`")
@pytest.mark.parametrize("reader", EQUAL)
def test_the_installed_reader_fires_once_at_our_steps(reader: str, tmp_path: Path) -> None:
    weights = [torch.randint(-6, 12, shape, generator=seeded(3)) / 16 for shape in ((30, 20), (8, 30))]
    net = fs.Stack(*(dense(weight, fs.Causal()) for weight in weights), steps=16)
    spikes = draw_spikes(50, 20)
    files = [tmp_path / name for name in ("net.nir", "input.nir", "out.npz")]
    fs.export.nir(net, files[0])
    fs.export.nir_events(spikes, files[1])
    script = ROOT / "benchmarks" / "nir_reader.py"
    subprocess.run([str(PYTHON), str(script), reader, *map(str, files)], check=True, capture_output=True)
    found = np.load(files[2])
    for depth, ours in enumerate(net.trace(spikes)[1:]):
        assert np.array_equal(found[f"times_{depth}"], ours.detach().times.numpy())
        assert found[f"most_{depth}"].max() == 1
