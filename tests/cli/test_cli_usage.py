"""What every verb has in common: help, version, and one line for a command that cannot be meant."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from commands import contents, shell

import firstspike as fs

SLOW_TO_IMPORT = ("torch", "numpy", "numba", "scipy", "sklearn", "matplotlib", "pooch")


def test_version_is_the_installed_one():
    answer = shell("--version")
    assert (answer.status, answer.err) == (0, "")
    assert answer.out == importlib.metadata.version("firstspike") + "\n" == fs.__version__ + "\n"


@pytest.mark.parametrize(
    "verb",
    ["", "demo", "train", "convert", "evaluate", "sample", "reproduce", "bench", "presets"],
    ids=lambda v: v or "all",
)
def test_help_describes_every_option(verb, firstspike):
    answer = firstspike(*verb.split(), "--help")
    assert (answer.status, answer.err) == (0, "")
    assert answer.out.startswith(f"usage: firstspike {verb}".rstrip())
    assert "--help" in answer.out


def test_help_and_version_import_nothing_slow():
    script = f"""
import sys
from firstspike.cli import main
verbs = ("train", "convert", "sample", "presets")
for line in (["--help"], *([verb, "--help"] for verb in verbs), ["--version"]):
    try:
        assert main(line) == 0
    except SystemExit as end:
        assert end.code == 0
print(*({{name.split(".")[0] for name in sys.modules}} & {{*{SLOW_TO_IMPORT}}}), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == "\n"


REFUSED = [
    (
        "",
        "expected a verb: demo, train, convert, evaluate, sample, export, reproduce, bench, presets; see "
        "firstspike --help",
    ),
    ("nothing", "invalid choice: 'nothing' (choose from 'demo',"),
    ("--colour", "unrecognized arguments: --colour; see firstspike --help"),
    ("presets --colour", "unrecognized arguments: --colour; see firstspike --help"),
    ("train", "PRESET"),
    ("train nothing", "unknown preset 'nothing'; firstspike presets lists them"),
    ("train ettfs-mnst", "unknown preset 'ettfs-mnst'; did you mean ettfs-mnist"),
    ("train spiking-gan-window", "learns one class; give --digit 0 ... 9"),
    ("train spiking-gan-window --digit 10", "--digit must be 0 ... 9, found 10"),
    ("train spiking-gan-window --digit -1", "--digit must be 0 ... 9, found -1"),
    (
        "train ann-gan --digit three",
        "argument --digit: expected an integer, ",
    ),
    ("train spiking-gan-conditional --digit 3", "preset spiking-gan-conditional takes no --digit"),
    ("train window-mnist --digit three", "preset window-mnist takes no --digit"),
    ("train ann-gan --digit 3 --epochs 0", "--epochs: expected an integer, 1 or more, found '0'"),
    ("train ann-gan --digit 3 --epochs 1.5", "1 or more, found '1.5'; see firstspike train --help"),
    ("train ann-gan --digit 3 --threads 0", "--threads: expected an integer, 1 ... 1,024, found '0'"),
    ("train ann-gan --digit 3 --threads 1025", "1 ... 1,024, found '1025'"),
    ("train ann-gan --digit 3 --seed -1", "--seed: expected an integer, 0 ... 9"),
    (
        "train ann-gan --digit 3 --dataset cifar",
        "unknown data set 'cifar'; did you mean cifar-10 or cifar-100? expected one of digits, mnist, ",
    ),
    (
        "train ann-gan --digit 3 --dataset digit",
        "unknown data set 'digit'; did you mean digits? expected one of digits, mnist, fashion-mnist, "
        "cifar-10, cifar-100, tiny-imagenet, n-mnist, dvs-gesture, yin-yang; name data of your own by "
        "--data",
    ),
    (
        "train aggressive-ttfs-window --dataset ../x",
        "unknown data set '../x': expected one of digits, mnist, ",
    ),
    ("train yin-yang-window --set augmentation.flip=true", "for uint8 images, found torch.float32"),
    (
        "train aggressive-ttfs-causal --dataset digits --set steps=128",
        "--set steps=128: training by levels looks at step 190, beyond the window of 128 steps",
    ),
    (
        "train s4nn-causal --dataset digits --set loss.gamma=300",
        "--set loss.gamma=300: RelativeTargets.gamma must be at most the output's 256 steps, found 300",
    ),
    (
        "train aggressive-ttfs-window --dataset digits --set loss.label_delay=500",
        "--set loss.label_delay=500: FirstSpikeLoss.label_delay must be at most the output's "
        "32 steps, found 500",
    ),
    (
        "train spiking-gan-causal --dataset digits --digit 3 --set steps=100",
        "phases (16, 56), (48, 160) must end by the clock's 100 steps",
    ),
    (
        "train spiking-gan-causal --dataset digits --digit 3 --set hidden_neuron.target=16,60",
        "spiking-gan-causal on digits: layer 1 receives in the phase (16, 56), which is not (16, 60)",
    ),
    ("train ann-gan --digit 1 --dataset yin-yang", "draws grey images of 4 x 4 pixels or more"),
    ("train ann-gan --digit 1 --dataset cifar-10", "give another --dataset"),
    ("evaluate", "RUN"),
    ("sample run --out a.png", "--count"),
    ("sample run --count 0 --out a.png", "--count: expected an integer, 1 ... 1,000,000, found '0'"),
    (f"sample run --count {10**13} --out a.png", f"1 ... 1,000,000, found '{10**13}'"),
    ("sample run --count 3", "--out"),
    ("sample run --count 3 --out a.jpg", "--out must end in .png or .npz, found a.jpg"),
    (f"sample run --count 3 --out a.png --seed {2**63}", f"found '{2**63}'"),
    (
        "reproduce nothing",
        "unknown experiment 'nothing'; choose from aggressive-ttfs, cifar10, ettfs, generation, "
        "one-step, ramp, spiking-gan",
    ),
    ("sample mnist-generator --count 3 --out a.png --set steps", "expected FIELD=VALUE, found 'steps'"),
    (
        "sample mnist-generator --count 3 --out a.png --set steps=8",
        "mnist-generator has no window 'steps' to change; it has none",
    ),
    ("reproduce spiking-gan --digits 10", "--digits: expected an integer, 0 ... 9, found '10'"),
    ("reproduce ettfs --device cuda", "experiment ettfs takes no --device; leave it out"),
    ("demo --epochs none", "1 or more, found 'none'"),
    *(
        (f"{line} {value}", f"{line.split()[-1]}: expected an integer, ")
        for line in (
            "train ann-gan --digit",
            "train ann-gan --digit 3 --epochs",
            "train ann-gan --digit 3 --seed",
            "train ann-gan --digit 3 --threads",
            "sample run --out a.png --count",
            "sample run --out a.png --count 3 --seed",
            "reproduce spiking-gan --seeds",
            "reproduce spiking-gan --digits",
            "reproduce spiking-gan --jobs",
            "demo --epochs",
            "bench --threads",
        )
        for value in ("nan", "inf", "1_0", "\u0663", "9" * 31, "")
    ),
    *(
        (f"{line} ~nosuchuser/x", f"argument {option}: path ~nosuchuser/x: no home folder")
        for line, option in (
            ("train ann-gan --out", "--out"),
            ("train ann-gan --data-dir", "--data-dir"),
            ("evaluate", "RUN"),
            ("sample --count 3 --out", "--out"),
            ("reproduce ettfs --results", "--results"),
            ("bench --run", "--run"),
            ("demo --out", "--out"),
        )
    ),
    ("demo --out ", "argument --out: expected a path, found nothing"),
]


@pytest.mark.parametrize(("line", "message"), REFUSED, ids=[line for line, _ in REFUSED])
def test_a_command_that_cannot_be_meant_gets_one_line_and_writes_nothing(
    firstspike, line, message, tmp_path
):
    arguments = line.split(" ") if line else []
    assert message in firstspike(*arguments).refusal
    assert contents(tmp_path) == {}


def test_a_refusal_in_a_process_of_its_own_is_one_line_too(tmp_path):
    assert "unknown preset 'nothing'" in shell("train", "nothing").refusal
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(
    "line", ["train ann-gan --digit 3 --device cuda", "reproduce cifar10 --device cuda"]
)
def test_a_gpu_that_is_not_there_is_said(firstspike, monkeypatch, tmp_path, line):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refusal = firstspike(*line.split()).refusal
    assert refusal == "--device cuda: torch finds no such device here; leave --device out"
    assert contents(tmp_path) == {}


def test_an_argument_over_several_lines_still_gets_one(firstspike):
    assert "--a b" in firstspike("presets", "--a\nb").refusal


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_under_standard_output_is_said():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "firstspike", "presets", "--json"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == "firstspike: No space left on device; free some space or name another folder\n"


def test_a_reader_that_leaves_is_no_error():
    process = subprocess.Popen(
        [sys.executable, "-m", "firstspike", "presets", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 0
