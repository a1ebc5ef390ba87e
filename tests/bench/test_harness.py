import itertools
import json

import numpy as np
import pytest
import torch

from firstspike import InputError
from firstspike.bench import machine as bench_machine
from firstspike.bench import rows_precision, suite
from firstspike.bench.harness import Effort, Pairs, Row, Skipped, in_turn, repeated, summary
from firstspike.bench.machine import machine
from firstspike.bench.network import WIDTH, enlarged, wide
from firstspike.bench.peers import Peers
from firstspike.bench.results import machine_line, markdown, read_results, with_tables, write_results
from firstspike.bench.setting import Measured, Setting, Spec
from firstspike.bench.suite import chosen, measure, run_rows
from firstspike.data import load


def test_the_sides_take_turns_and_warm_ups_are_thrown_away():
    order, clock = [], itertools.count(1)

    def side(name):
        return lambda: order.append(name) or float(next(clock))

    pairs = in_turn(side("ours"), side("theirs"), 3, warmups=2)
    assert order == ["ours", "theirs"] * 5
    assert pairs == Pairs((5.0, 7.0, 9.0), (6.0, 8.0, 10.0))


def test_medians_their_ratio_and_the_spread_of_the_ratios_of_pairs():
    figures = summary(Pairs((1.0, 4.0, 2.0, 9.0, 3.0), (2.0, 4.0, 8.0, 4.5, 3.0)))
    assert (figures["ours"], figures["theirs"], figures["repeats"]) == (3.0, 4.0, 5)
    assert figures["ratio"] == 0.75
    # Ratios 0.5, 1, 0.25, 2, 1: quartiles 0.5 and 1.
    assert figures["spread"] == 0.5


def test_a_repeated_side_is_the_mean_of_one_call(monkeypatch):
    now, calls, waits = [0.0], [], []
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def work():
        calls.append(now[0])
        now[0] += 0.25

    side = repeated(work, 1.0, lambda: waits.append(now[0]))
    assert side() == 0.25
    # One to warm up, one to see how long it takes, four to last a second; and then one and four.
    assert len(calls) == 6
    assert side() == 0.25
    assert len(calls) == 11
    assert len(waits) == 5


@pytest.mark.parametrize(
    ("ours", "ratio", "target", "limit", "reached"),
    [
        (3.0, 0.5, 0.5, None, True),
        (3.0, 0.51, 0.5, None, False),
        (3.0, 0.5, 1.0, 2.0, False),
        (2.0, 0.5, 1.0, 2.0, True),
        (3.0, 0.5, None, None, None),
        (None, None, 0.5, None, None),
    ],
)
def test_a_target_is_reached_at_most(ours, ratio, target, limit, reached):
    row = Row("a", "ms", ours=ours, theirs=6.0, ratio=ratio, target=target, limit=limit)
    assert row.reached is reached
    assert row.as_dict()["reached"] is reached


def _skips(setting):
    raise Skipped("nothing is here; get it")


SPECS = (
    Spec("one", "ms", lambda setting: Measured(Pairs((2.0,), (4.0,)), "half"), target=0.6),
    Spec("two", "ms", _skips, target=0.6),
    Spec("gpu-three", "ms", lambda setting: Measured(Pairs((1.0,), (1.0,))), drawn=True),
)


def _document():
    with Setting("digits") as setting:
        setting.threads = torch.get_num_threads()
        return run_rows(SPECS, setting)


def test_rows_carry_figures_or_the_reason_why_not():
    said = []
    with Setting("digits", threads=torch.get_num_threads()) as setting:
        document = run_rows(SPECS, setting, said.append)
    one, two, three = json.loads(json.dumps(document, allow_nan=False))["rows"]
    assert one == {
        "name": "one",
        "unit": "ms",
        "ours": 2.0,
        "theirs": 4.0,
        "ratio": 0.5,
        "repeats": 1,
        "spread": 0.0,
        "target": 0.6,
        "limit": None,
        "data": "digits",
        "note": "half",
        "skipped": None,
        "reached": True,
    }
    assert two["skipped"] == "nothing is here; get it"
    assert (two["ours"], two["theirs"], two["ratio"], two["spread"], two["repeats"]) == (None,) * 4 + (0,)
    assert two["reached"] is two["data"] is None
    assert three["data"] == "random"
    assert three["target"] is three["reached"] is None
    assert [line for line in said if not line.startswith(" ")] == ["1/3 one", "2/3 two", "3/3 gpu-three"]
    assert "    skipped: nothing is here; get it" in said


def test_the_machine_record_names_what_matters():
    record = machine(2)
    assert record["threads"] == 2
    assert record["cores"] >= 1
    assert record["cpu"]
    assert record["torch"] == torch.__version__.split("+")[0] or record["torch"] == torch.__version__
    assert record["numpy"] == np.__version__
    assert {"python", "numba", "firstspike", "gpu", "system"} < set(record)
    assert record["lanes"] in {8, 16}
    assert record["block"] >= 1


def test_caches_are_read_from_the_system(monkeypatch, tmp_path):
    for index, (kind, level, size) in enumerate(
        [("Data", 1, "32K"), ("Instruction", 1, "64K"), ("Unified", 2, "512K"), ("Unified", 3, "x")]
    ):
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        for name, text in (("type", kind), ("level", str(level)), ("size", size)):
            (folder / name).write_text(f"{text}\n")
    (tmp_path / "index4").mkdir()
    monkeypatch.setattr(bench_machine, "CACHES", tmp_path)
    assert bench_machine.caches() == {"L1": 32, "L2": 512}
    line = machine_line(machine(2) | {"quick": False})
    assert "caches L1 32 KiB, L2 512 KiB" in line


def test_the_names_are_those_of_the_plan_and_unknown_ones_are_refused():
    names = {spec.name for spec in suite.SPECS}
    assert {
        "linear-forward-vs-dense",
        "linear-train-vs-dense",
        "linear-train-vs-spikingjelly",
        "linear-train-vs-snntorch",
        "s4nn-online-vs-plain",
        "steps-4096-vs-256",
        "conv-forward-vs-dense",
        "conv-train-vs-dense",
        "conv-train-vs-spikingjelly",
        "single-image",
        "memory-per-neuron",
        "window-train-vs-dense",
        "levels-train-vs-dense",
        "linear-train-vs-norse",
        "memory-vs-spikingjelly",
        "onestep-windows-vs-none",
        "precision",
    } <= names
    assert all(spec.gpu == spec.name.startswith("gpu-") for spec in suite.SPECS)
    assert chosen(None) == suite.SPECS
    assert [spec.name for spec in chosen(["single-image", "linear-train-vs-dense"])] == [
        "linear-train-vs-dense",
        "single-image",
    ]
    with pytest.raises(InputError, match=r"unknown row a, b; there are: linear-forward-vs-dense, "):
        chosen(["a", "single-image", "b"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_gpu_rows_without_a_gpu_are_skipped():
    with Setting("digits") as setting:
        for spec in (spec for spec in suite.SPECS if spec.gpu):
            assert "CUDA" in measure(spec, setting).skipped


def test_the_precision_is_compared_where_bfloat16_is_not_chosen(monkeypatch):
    (spec,) = chosen(["precision"])
    monkeypatch.setattr(rows_precision, "_BATCH", 4)
    with Setting("digits") as setting:
        setting.effort = Effort(repeats=1, seconds=0.0)
        monkeypatch.setattr(rows_precision, "fast_precision", lambda device: "bfloat16")
        assert "bfloat16" in measure(spec, setting).skipped
        monkeypatch.setattr(rows_precision, "fast_precision", lambda device: "float32")
        row = measure(spec, setting)
    assert row.data == "random"
    assert f"{4e3 / row.ours:,.0f} images a second in float32" in row.note


def test_results_keep_what_was_measured_and_renew_the_page(tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    page = docs / "performance.md"
    page.write_text("before\n<!-- bench -->\nold\n<!-- end of bench -->\nafter\n", encoding="utf-8")
    folder = tmp_path / "benchmarks" / "results"
    document = _document()
    document["machine"]["lanes"] = 16
    written = write_results(folder, document)
    picture = docs / "images" / "performance.png"
    assert written == [folder / "cpu.json", folder / "gpu.json", page, picture]
    assert picture.stat().st_size < 200_000
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- bench -->\n")
    assert text.endswith("<!-- end of bench -->\nafter\n")
    assert "old" not in text
    assert "| `one` | 2 ms | 4 ms | 0.5 | 0 | 0.6 | yes |" in text
    assert "| `two` | – | – | – | – | 0.6 | – |" in text
    assert "- `two`: not measured: nothing is here; get it." in text
    cpu, gpu = read_results(folder)
    assert [row["name"] for row in cpu["rows"]] == ["one", "two"]
    assert [row["name"] for row in gpu["rows"]] == ["gpu-three"]
    assert cpu["machine"] == gpu["machine"] == document["machine"]

    narrow = _document()
    narrow["machine"]["lanes"] = 8
    narrow["rows"] = narrow["rows"][:1]
    assert folder / "cpu-narrow.json" in write_results(folder, narrow)
    assert [found["machine"]["lanes"] for found in read_results(folder)] == [16, 8, 16]
    assert page.read_text(encoding="utf-8").count("| `one` |") == 2


def test_bounds_are_those_of_the_vectors():
    spec = Spec("one", "ms", _skips, target=0.6, limit=10.0, narrow_target=1.1)
    assert spec.bounds(16) == (0.6, 10.0)
    assert spec.bounds(8) == (1.1, 10.0)


def test_a_file_without_a_measured_row_is_not_written(tmp_path):
    document = _document()
    document["machine"]["lanes"] = 16
    document["rows"] = document["rows"][:2]
    assert write_results(tmp_path / "results", document) == [tmp_path / "results" / "cpu.json"]


def test_a_foreign_file_among_the_results_is_named(tmp_path):
    (tmp_path / "cpu.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match=r"cpu\.json is no result of firstspike bench"):
        read_results(tmp_path)


def test_a_page_without_markers_stays_as_it_is():
    assert with_tables("# Page\n", [_document()]) == "# Page\n"
    assert markdown(_document()).count("\n| `") == 3


def test_digits_take_the_shape_of_mnist():
    small = load("digits", "validation")
    big = enlarged(small)
    assert big.images.shape == (300, 28, 28)
    assert torch.equal(big.images[:, 3:-2:3, 3:-2:3], small.images)
    assert not big.images[:, :2].any()


def test_the_wide_network_repeats_the_hidden_neurons():
    hidden = torch.arange(400.0).unsqueeze(1) / 1024
    output = torch.randn(10, 400)
    tall, flat = wide((hidden, output), WIDTH)
    assert (tall.shape, flat.shape) == ((WIDTH, 1), (10, WIDTH))
    assert torch.equal(tall[400:800], hidden)
    assert torch.equal(flat * 1024, torch.round(flat * 1024))


PEER = """
import json, sys
for line in sys.stdin:
    request = json.loads(line)
    if "weights" in request:
        print(json.dumps({"ready": True, "threads": request["threads"]}), flush=True)
    elif request["do"] == "train":
        print(json.dumps({"seconds": 1.5}), flush=True)
    elif request["do"] == "check":
        print(json.dumps({"times": request["file"]}), flush=True)
    elif request["do"] == "refuse":
        print(json.dumps({"error": "no such peer"}), flush=True)
    else:
        sys.exit(3)
"""


@pytest.fixture
def peers(tmp_path):
    import sys

    process = Peers([sys.executable, "-c", PEER], tmp_path / "weights.npz", 2)
    yield process
    process.close()


def test_peers_answer_line_by_line(peers):
    assert peers.about == {"ready": True, "threads": 2}
    assert peers.ask("train", peer="norse", net="linear", batch=4) == {"seconds": 1.5}
    with pytest.raises(Skipped, match="no such peer"):
        peers.ask("refuse")


def test_a_peer_that_computes_something_else_is_not_timed(peers, tmp_path):
    file = tmp_path / "times.npz"
    np.savez(file, layer0=np.array([[1, 2]]), layer1=np.array([[3]]))
    times = [torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0]])]
    peers.check("norse", "linear", times, file=str(file))
    times[1] += 1
    with pytest.raises(Skipped, match="norse gives other spike times: 1 of 1 in layer 1"):
        peers.check("norse", "linear", times, file=str(file))


def test_a_peer_that_dies_is_said(peers):
    with pytest.raises(Skipped, match=r"ended with status .*make bench-env"):
        peers.ask("die")


def test_rows_of_peers_that_are_not_installed_say_how_to_get_them(monkeypatch, tmp_path):
    (tmp_path / "benchmarks").mkdir()
    script = tmp_path / "benchmarks" / "peers.py"
    script.touch()
    monkeypatch.setattr("firstspike.bench.peers.benchmark_file", lambda name: script)
    with Setting("digits") as setting:
        for spec in chosen(["linear-train-vs-norse", "conv-train-vs-spikingjelly", "memory-vs-snntorch"]):
            assert measure(spec, setting).skipped == (
                "the peers are not installed; run `make bench-env` in a checkout of firstspike"
            )


def test_the_memory_of_a_peer_is_the_slope_between_two_batches(monkeypatch):
    """Two processes of a peer that needs a million bytes and a thousand per sample."""
    asked = []

    class Peer:
        def ask(self, do, **request):
            asked.append((do, request.get("batch")))
            return {"bytes": 1_000_000 + 1000 * asked[-2][1]} if do == "peak" else {"seconds": 1.0}

        def close(self):
            asked.append(("close", None))

    monkeypatch.setattr(Setting, "new_peers", lambda setting: Peer())
    monkeypatch.setattr("firstspike.bench.setting.peak_memory", lambda batch, steps, threads: 10 * batch)
    with Setting("digits") as setting:
        row = measure(chosen(["memory-vs-norse"])[0], setting)
    assert row.theirs == pytest.approx(1000 / 1194)
    assert row.ours == pytest.approx(10 / 1194)
    assert [do for do, _ in asked] == ["train", "train", "peak", "close"] * 2
