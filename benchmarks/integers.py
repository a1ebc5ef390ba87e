"""Networks in integers: what rounding costs, whether C is the same network, and how fast it decides.

    python benchmarks/integers.py --data-dir D [--runs FOLDER]

Trained networks of three seeds each, in FOLDER or trained there: 784-400-10 of window and causal neurons, a
convolutional network, a converted ResNet, a conditional generator. Accuracy is the test set's, by the first
spike, ties and silence wrong; a generator's Frechet distance is what firstspike evaluate prints. At 4
bits also after three epochs with rounded weights. For the first seed the C program decides all test images,
and its lines are compared with the integer model's; the causal network's time per image is measured beside
the event engine's, on one core, in turn. What is in the file already is not measured again.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conversion import CALIBRATION, TRAINED, trained

import firstspike as fs
from firstspike.bench.machine import machine
from firstspike.export.program import expected, write_idx
from firstspike.models.gan import SpikingGenerator
from firstspike.models.spiking_form import SpikingForm
from firstspike.support import write_text
from firstspike.training.fine_tune import fine_tuned

SEEDS, TUNED_EPOCHS, PASSES = (0, 1, 2), 3, 7
_ONE_BY_ONE = 1000
# How each is trained; None: a ReLU network, converted with 16 steps.
NETWORKS: dict[str, list[str] | None] = {
    "aggressive-ttfs-window": ["aggressive-ttfs-window"],
    "aggressive-ttfs-causal": ["aggressive-ttfs-causal"],
    "conv": ["window-mnist", "--epochs", "8", "--set", "layout=16C5s2-32C3-A2-64C3-F64"],
    "converted-resnet": None,
    "spiking-gan-conditional": ["spiking-gan-conditional"],
}
# Points of accuracy that may be lost; of a Frechet distance, the share.
TARGETS = {"8": 0.1, "4, tuned": 0.5, "frechet_distance": 0.03}

TIMING = r"""
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "network.h"

int main(int count, char **arguments)
{
    const long samples = atol(arguments[2]);
    uint8_t *all = malloc((size_t)samples * NETWORK_INPUTS);
    FILE *file = fopen(arguments[1], "rb");
    uint32_t sum = 0;
    clock_t begin;
    long i;
    if (count != 3 || fseek(file, 16, SEEK_SET) || fread(all, NETWORK_INPUTS, (size_t)samples, file) == 0) {
        return 1;
    }
    begin = clock();
    for (i = 0; i < samples; i++) {
        sum += network_decide(all + i * NETWORK_INPUTS).operations;
    }
    printf("%.4f ", 1e6 * (double)(clock() - begin) / CLOCKS_PER_SEC / (double)samples);
    printf("%lu\n", (unsigned long)sum);
    return 0;
}
"""


def run_of(name: str, seed: int, runs: Path, data_dir: Path) -> fs.RunFolder:
    """Return a trained network's run, trained or converted where it is missing."""
    path, arguments = runs / f"{name}-{seed}", NETWORKS[name]
    if not (path / "model.safetensors").exists():
        if arguments is None:
            train = fs.data.load("mnist", "train", data_dir)
            images = train.images.unsqueeze(1)
            network = trained("resnet", images[:TRAINED].float() / 255, train.labels[:TRAINED], seed)
            net = fs.from_torch(network, images[TRAINED : TRAINED + CALIBRATION], steps=16)
            fs.save_network(path, net, "mnist")
        else:
            where = ["--seed", str(seed), "--out", str(path), "--data-dir", str(data_dir), "--resume"]
            subprocess.run(["firstspike", "train", *arguments, *where], check=True)
    return fs.RunFolder.open(path)


def accuracy(form: SpikingForm, net: fs.Stack, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the share of images decided rightly, in percent."""
    score = fs.Score.none(fs.FirstSpike().rule)
    with torch.no_grad():
        for part, named in zip(images.split(500), labels.split(500), strict=True):
            score += fs.FirstSpike().decide(net(form.encode(part))).score(named)
    return 100 * score.accuracy


def classifier(run: fs.RunFolder, form: SpikingForm, first: bool, data_dir: Path) -> dict[str, Any]:
    """Return the figures of a classifier."""
    test = fs.data.load("mnist", "test", data_dir)
    images = test.images.reshape(-1, *form.in_shape)

    def measured(net: fs.Stack) -> float:
        return accuracy(form, net, images, test.labels)

    whole = fs.integer(form)
    tuned = fine_tuned(run, TUNED_EPOCHS, data_dir, bits=4)
    row: dict[str, Any] = {
        "float": measured(form.stack),
        "8": measured(whole),
        "4": measured(fs.integer(form, bits=4)),
        "4, tuned": measured(fs.integer(tuned, bits=4)),
    }
    if first:
        row["c"] = c_program(whole, images.flatten(1).numpy())
        if run.preset == "aggressive-ttfs-causal":
            row["time"] = times(whole, form, images)
    return row


def built(folder: Path, flags: str) -> None:
    """Compile an exported program."""
    subprocess.run(["make", "-s", "-C", str(folder), "network", f"CFLAGS={flags}"], check=True)


def c_program(whole: fs.IntegerNetwork | SpikingGenerator, samples: np.ndarray) -> dict[str, Any]:
    """Return how many lines and pictures of the C program are the integer model's, and what it needs."""
    model = whole.stack if isinstance(whole, SpikingGenerator) else whole
    maker = whole if isinstance(whole, SpikingGenerator) else None
    assert isinstance(model, fs.IntegerNetwork)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "net"
        sizes = fs.export.c(whole, folder)
        built(folder, "-O2")
        write_idx(folder / "samples", samples[:, :, None])
        command = [folder / "network", folder / "samples", *([folder / "pictures"] if maker else [])]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        pictures = np.frombuffer((folder / "pictures").read_bytes()[16:] if maker else b"", np.uint8)
    equal = 0
    for start in range(0, len(samples), 500):
        part = slice(start, start + 500)
        wanted, pixels = expected(model, maker, samples[part])
        same = [one == other for one, other in zip(lines[part], wanted, strict=True)]
        if pixels is not None:
            drawn = pictures.reshape(-1, *pixels.shape[1:])[part]
            same = [
                one and bool(alike) for one, alike in zip(same, (drawn == pixels).all((1, 2)), strict=True)
            ]
        equal += sum(same)
    means = np.array([line.split() for line in lines], int).mean(0)
    return {
        "equal": equal,
        "of": len(samples),
        "flash": sizes.flash,
        "ram": sizes.ram,
        "most_operations": sizes.operations,
        "operations": means[3],
        "steps": means[1],
    }


def times(whole: fs.IntegerNetwork, form: SpikingForm, images: torch.Tensor) -> dict[str, Any]:
    """Return microseconds per image: C from pixels; the engine from times, from pixels, one by one."""
    spikes, engine = form.encode(images), fs.Engine(form.stack)
    # Compiles.
    engine.run_many(spikes[:10])
    found: dict[str, list[float]] = {
        "c": [],
        "engine": [],
        "engine from pixels": [],
        "engine one by one": [],
    }
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "net"
        fs.export.c(whole, folder)
        (folder / "timing.c").write_text(TIMING)
        write_idx(folder / "images", images.reshape(len(images), 28, 28).numpy())
        program = folder / "timing"
        sources = [folder / "timing.c", folder / "network.c"]
        subprocess.run(["cc", "-O3", "-std=c99", "-o", program, *sources], check=True)
        for _ in range(PASSES):
            done = subprocess.run(
                [program, folder / "images", str(len(images))], capture_output=True, text=True, check=True
            )
            found["c"].append(float(done.stdout.split()[0]))
            began = time.process_time()
            decisions = engine.run_many(spikes)
            found["engine"].append(1e6 * (time.process_time() - began) / len(images))
            began = time.process_time()
            engine.run_many(form.encode(images))
            found["engine from pixels"].append(1e6 * (time.process_time() - began) / len(images))
            began = time.process_time()
            for one in range(_ONE_BY_ONE):
                engine.run(spikes[one])
            found["engine one by one"].append(1e6 * (time.process_time() - began) / _ONE_BY_ONE)
    return {
        "microseconds": {name: statistics.median(values) for name, values in found.items()},
        "spread": {name: max(values) - min(values) for name, values in found.items()},
        "ratio": statistics.median(
            one / other for one, other in zip(found["c"], found["engine"], strict=True)
        ),
        "operations": {
            "c": int(done.stdout.split()[1]) / len(images),
            "engine": float(decisions.synaptic_operations.double().mean()),
        },
    }


def generator(run: fs.RunFolder, net: SpikingGenerator, first: bool, data_dir: Path) -> dict[str, Any]:
    """Return the figures of a generator."""
    test = run.config.data("test", data_dir)

    def distance(model: SpikingGenerator) -> float:
        return float(run.config.report(model, test, data_dir).as_dict()["frechet_distance"])

    whole = fs.integer(net)
    row: dict[str, Any] = {
        "float": distance(net),
        "8": distance(whole),
        "4": distance(fs.integer(net, bits=4)),
    }
    if first:
        row["c"] = c_program(whole, noise_of(whole, len(test.images)))
    return row


def noise_of(net: SpikingGenerator, count: int) -> np.ndarray:
    """Return levels of noise, and all labels in turn as one more input for each class."""
    drawn = np.random.default_rng(0).integers(0, 256, (count, net.noise_size), np.uint8)
    labels = 255 * np.eye(net.num_classes, dtype=np.uint8)[np.arange(count) % net.num_classes]
    return np.concatenate([drawn, labels], 1)


def table(rows: list[dict[str, Any]]) -> str:
    """Return the figures as a table in Markdown, mean and spread over seeds."""
    kinds = ("float", "8", "4", "4, tuned")
    lines = [
        "| network | seeds | float | 8 bits | 4 bits | 4 bits, fine-tuned | C equal to the integer model |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name in NETWORKS:
        chosen = [row for row in rows if row["network"] == name]
        if not chosen:
            continue
        cells = [_spread([row[kind] for row in chosen if kind in row]) for kind in kinds]
        programs = [row["c"] for row in chosen if "c" in row]
        equal = ", ".join(f"{one['equal']:,} of {one['of']:,}" for one in programs) or "-"
        lines.append(f"| {name} | {len(chosen)} | {' | '.join(cells)} | {equal} |")
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    if not values:
        return "-"
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"


def main() -> None:
    """Measure what is missing and write the file after each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with MNIST")
    parser.add_argument("--runs", type=Path, default=Path("runs/integers"), help="folder of trained runs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/integers.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = json.loads(options.out.read_text())["rows"] if options.out.exists() else []
    done = {(row["network"], row["seed"]) for row in rows}
    for seed in SEEDS:
        for name in NETWORKS:
            if (name, seed) in done:
                continue
            run = run_of(name, seed, options.runs, options.data_dir)
            form = run.config.exported(run.load())
            if isinstance(form, SpikingGenerator):
                figures = generator(run, form, seed == SEEDS[0], options.data_dir)
            else:
                figures = classifier(run, form, seed == SEEDS[0], options.data_dir)
            rows.append({"network": name, "seed": seed, **figures})
            document = {
                "command": "python benchmarks/integers.py --data-dir D",
                "machine": machine(1),
                "targets": TARGETS,
                "rule": "first spike, ties and silence wrong; MNIST's test split",
                "rows": rows,
            }
            write_text(options.out, json.dumps(document, indent=1) + "\n")
            print(rows[-1], flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
