"""``firstspike train``: what it writes, what it refuses, and what an interruption leaves."""

import gzip
import json
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import command_line, contents, shell
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from firstspike.recipes import preset
from firstspike.training.run_folder import RunFolder

CLASSIFIER = ("train", "aggressive-ttfs-window", "--dataset", "digits", "--epochs", 2)
GAN = ("train", "spiking-gan-conditional", "--dataset", "digits", "--epochs", 1)


def test_a_run_folder_holds_everything_and_its_path_is_the_answer(firstspike, tmp_path):
    answer = firstspike("train", "ann-gan", "--digit", 3, "--dataset", "digits", "--epochs", 2)
    path = tmp_path / "runs" / "ann-gan-digits-3-seed0"
    assert answer.status == 0
    assert answer.out == "runs/ann-gan-digits-3-seed0\n"
    title, *lines = answer.err.splitlines()
    assert title == "ann-gan-digits-3-seed0: epochs 1 to 2"
    assert [line[:13] for line in lines] == ["epoch 1 of 2 ", "epoch 2 of 2 "]
    assert sorted(contents(path)) == [
        "config.json", "metrics.jsonl", "model.safetensors", "state", "state/latest.safetensors",
    ]  # fmt: skip
    run = RunFolder.open(path)
    assert run.config == preset("ann-gan").configure(dataset="digits", digit=3, epochs=2)
    assert (run.preset, run.seed, run.threads) == ("ann-gan", 0, 1)
    document = json.loads((path / "config.json").read_text())
    assert document["versions"].keys() >= {"python", "torch", "numpy"}
    records = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [1, 2]


def test_the_embedded_digits_are_the_default_without_a_data_folder(firstspike, monkeypatch):
    assert "runs/ann-gan-digits-3-seed0" in firstspike("train", "ann-gan", "--digit", 3, "--epochs", 1).out
    monkeypatch.setenv("FIRSTSPIKE_DATA", "nowhere")
    # MNIST, then; the folder given is the one looked into, so nothing is downloaded.
    answer = firstspike("train", "ann-gan", "--digit", 3, "--epochs", 1, "--data-dir", "elsewhere")
    assert answer.refusal.startswith("mnist: expected train-images-idx3-ubyte")
    assert "elsewhere (which does not exist)" in answer.refusal


@pytest.fixture
def run(classifier_run, tmp_path):
    """A finished classifier in a folder of the test's own."""
    return shutil.copytree(classifier_run, tmp_path / "run")


def test_an_existing_run_is_refused_without_resume(firstspike, run, tmp_path):
    before = contents(tmp_path)
    refusal = firstspike(*CLASSIFIER, "--out", run).refusal
    assert refusal == f"{run} holds a run already; give another --out, or --resume to go on with it"
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--seed", 1], "seed 0 there, 1 asked for"),
        (["--epochs", 3], "epochs 2 there, 3 asked for"),
    ],
    ids=["seed", "epochs"],
)
def test_resume_refuses_another_run(firstspike, run, tmp_path, change, message):
    before = contents(tmp_path)
    refusal = firstspike(*CLASSIFIER, *change, "--out", run, "--resume").refusal
    assert refusal == f"{run} holds another run: {message}; give another --out"
    assert contents(tmp_path) == before


def test_resume_of_a_finished_run_changes_nothing(firstspike, run, tmp_path):
    before = contents(tmp_path)
    answer = firstspike(*CLASSIFIER, "--out", run, "--resume")
    assert (answer.status, answer.out) == (0, f"{run}\n")
    assert answer.err == f"{run} is finished, nothing was left to train\n"
    assert contents(tmp_path) == before


def test_a_place_that_cannot_hold_a_run_is_refused(firstspike, tmp_path):
    (tmp_path / "file").write_text("precious")
    before = contents(tmp_path)
    assert "is a file; --out must name a folder" in firstspike(*CLASSIFIER, "--out", "file").refusal
    below = firstspike(*CLASSIFIER, "--out", "file/run").refusal
    assert below == "file/run: Not a directory; name another path"
    assert "is not empty and holds no run" in firstspike(*CLASSIFIER, "--out", ".").refusal
    assert contents(tmp_path) == before


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="this system has no /proc")
def test_a_place_where_nothing_can_be_made_is_named_with_what_to_do(firstspike):
    refusal = firstspike(*CLASSIFIER, "--out", "/proc/x").refusal
    assert refusal == "/proc/x: No such file or directory; name another path"


def test_a_missing_data_folder_is_refused():
    """In a process of its own: importing torch must not add a line either."""
    answer = shell("train", "ann-gan", "--digit", 3, "--data-dir", "nowhere")
    assert answer.refusal.startswith("mnist: expected train-images-idx3-ubyte")
    assert "nowhere (which does not exist)" in answer.refusal
    assert answer.refusal.endswith("or name their folder by --data-dir")


def idx(count, *shape):
    return struct.pack(f">BBBB{1 + len(shape)}I", 0, 0, 8, 1 + len(shape), count, *shape)


IMAGES = idx(60_000, 28, 28)
BAD_FILES = {
    "cut gzip": (gzip.compress(IMAGES + bytes(5000))[:-20], b"", "expected a whole gzip file"),
    "cut": (IMAGES + bytes(5000), b"", "truncated: expected 47040016 bytes"),
    "header cut": (IMAGES[:9], b"", "truncated: expected a header of 16 bytes, found 9"),
    "other bytes": (b"\x89PNG\r\n", b"", "found first bytes 89 50 4e 47"),
    "empty": (b"", b"", "found an empty file"),
    "labels as images": (idx(60_000) + bytes(60_000), b"", "with 3 dimension(s), found 1"),
    "other images": (idx(10, 28, 28) + bytes(7840), idx(10) + bytes(10), "checksum (MD5"),
}


@pytest.mark.parametrize(("images", "labels", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_damaged_data_files_are_named(firstspike, tmp_path, images, labels, message):
    folder = tmp_path / "data"
    folder.mkdir()
    name = "train-images-idx3-ubyte" + (".gz" if images.startswith(b"\x1f\x8b") else "")
    (folder / name).write_bytes(images)
    (folder / "train-labels-idx1-ubyte").write_bytes(labels)
    before = contents(tmp_path)
    refusal = firstspike("train", "ann-gan", "--digit", 3, "--data-dir", folder, "--out", "run").refusal
    assert refusal.startswith(f"{folder / name}: ")
    assert message in refusal
    assert contents(tmp_path) == before


def rewrite(edit):
    """Return a function that changes the tensors and metadata of a state file."""

    def change(file):
        with safe_open(file, "pt") as opened:
            metadata = opened.metadata()
        tensors = load_file(file)
        edit(tensors, metadata)
        save_file(tensors, file, metadata)

    return change


def drop_a_layer(tensors, metadata):
    del tensors["model/layers.1.weight"]


def cut_a_layer(tensors, metadata):
    tensors["average/layers.0.weight"] = tensors["average/layers.0.weight"][:, 1:].contiguous()


def spoil_a_weight(tensors, metadata):
    tensors["best/layers.0.weight"][0, 0] = float("nan")


BAD_STATES = {
    "cut": (lambda file: file.write_bytes(file.read_bytes()[:-100]), "is damaged"),
    "empty": (lambda file: file.write_bytes(b""), "is damaged"),
    "no records": (rewrite(lambda _, metadata: metadata.clear()), "is damaged (KeyError('records')"),
    "half records": (rewrite(lambda _, metadata: metadata.update(records="[{")), "is damaged"),
    "layer missing": (rewrite(drop_a_layer), "does not fit its configuration"),
    "layer of another shape": (rewrite(cut_a_layer), "does not fit its configuration"),
    "not finite": (rewrite(spoil_a_weight), "holds weights that are NaN or infinite"),
}


@pytest.mark.parametrize(("damage", "message"), BAD_STATES.values(), ids=BAD_STATES)
def test_a_damaged_state_is_not_gone_on_with(firstspike, run, tmp_path, damage, message):
    (run / "model.safetensors").unlink()
    state = run / "state" / "latest.safetensors"
    damage(state)
    before = contents(tmp_path)
    refusal = firstspike(*CLASSIFIER, "--out", run, "--resume").refusal
    assert refusal.startswith(f"{state} {message}")
    assert refusal.endswith("train the run again")
    assert contents(tmp_path) == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on file sizes")
def test_a_full_disk_leaves_no_half_file_and_the_run_can_go_on(firstspike, tmp_path):
    """A limit on file sizes below that of the state file makes its writing fail half-way."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    answer = shell(*GAN, "--out", "run", "--threads", 2, before=limit)
    assert (answer.status, answer.out) == (2, "")
    assert answer.err.splitlines() == [
        "run: epochs 1 to 1",
        "firstspike: run/state/latest.safetensors: File too large; free some space or name another folder",
    ]
    assert sorted(contents(tmp_path)) == ["run", "run/config.json", "run/state"]
    answer = firstspike(*GAN, "--out", "run", "--resume")
    assert (answer.status, answer.out) == (0, "run\n")
    assert (tmp_path / "run" / "model.safetensors").exists()


def wait_for(process, condition):
    deadline = time.monotonic() + 240
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def heeded_interrupt():
    """A shell starts its background jobs deaf to Ctrl-C, and their children inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT between processes")
def test_ctrl_c_keeps_the_finished_epochs_and_resume_goes_on(tmp_path, heeded_interrupt):
    path = tmp_path / "run"
    line = command_line(
        "train", "ann-gan", "--digit", 3, "--dataset", "digits", "--epochs", 10**6,
        "--out", "run", "--resume", "--threads", 1,
    )  # fmt: skip
    records = []
    for _ in range(2):
        already = len(records)
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

        def finished(epochs=already + 3):
            file = path / "metrics.jsonl"
            return file.exists() and file.read_bytes().count(b"\n") >= epochs

        wait_for(process, finished)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (130, "")
        title, *epochs, last = err.splitlines()
        assert title == f"run: epochs {already + 1} to 1000000"
        assert epochs[0].startswith(f"epoch {already + 1} of 1000000 ")
        assert last == "firstspike: interrupted; finished epochs are kept, --resume goes on"
        assert sorted(contents(path)) == [
            "config.json", "metrics.jsonl", "state", "state/latest.safetensors",
        ]  # fmt: skip
        now = RunFolder.open(path).load_state().records
        assert now[:already] == records
        assert [record["epoch"] for record in now] == list(range(1, len(now) + 1))
        assert len(now) >= already + 3
        records = now


SETTING = ("--set", "rate=2e-3", "--set", "hidden_neuron.high=3", "--set", "augmentation.flip=true")


def test_any_field_is_set_recorded_and_respected_by_resume(firstspike, tmp_path):
    assert firstspike(*CLASSIFIER, "--out", "run", *SETTING).status == 0
    recipe = RunFolder.open(tmp_path / "run").config
    assert (recipe.rate, recipe.hidden_neuron.high, recipe.augmentation.flip) == (2e-3, 3.0, True)
    before = contents(tmp_path)
    assert firstspike(*CLASSIFIER, "--out", "run", *SETTING, "--resume").status == 0
    refusal = firstspike(
        *CLASSIFIER, "--out", "run", *SETTING[2:], "--set", "rate=3e-3", "--resume"
    ).refusal
    assert refusal == "run holds another run: rate 0.002 there, 0.003 asked for; give another --out"
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("speed=3", ["--set speed=3", "hidden_features", "rate"]),
        ("hidden_neuron.speed=3", ["--set hidden_neuron.speed=3", "input_low"]),
        ("rate=fast", ["--set rate=fast", "number"]),
        ("ema=2", ["--set ema=2", "0 ... 1"]),
        ("rate", ["expected FIELD=VALUE"]),
        ("optimizer=lion", ["adamw, sgd"]),
        ("hidden_neuron=Neuron", ["a kind of Neuron (", "found 'Neuron'"]),
        ("loss=SpikeLoss", ["a kind of SpikeLoss (FirstSpikeLoss, ", "found 'SpikeLoss'"]),
        ("loss=TargetLoss", ["AggressiveTargets, RelativeTargets", "found 'TargetLoss'"]),
        ("hidden_neuron=Phased", ["without a default, source, target", "take a preset that has it"]),
    ],
)
def test_a_field_that_cannot_be_set_is_refused(firstspike, tmp_path, change, named):
    refusal = firstspike(*CLASSIFIER, "--set", change).refusal
    assert all(word in refusal for word in named)
    assert contents(tmp_path) == {}


def test_a_training_that_diverges_ends_with_one_line_and_status_1(firstspike, tmp_path):
    # Logits that leave the numbers.
    answer = firstspike(*CLASSIFIER, "--out", "run", "--set", "loss.sharpness=1e300")
    assert (answer.status, answer.out) == (1, "")
    line = answer.err.splitlines()[-1]
    assert line.startswith("firstspike: the training diverged in epoch ")
    assert "lower rate" in line
    assert "Traceback" not in answer.err
