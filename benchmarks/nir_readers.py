"""What other simulators make of a causal network that was written as NIR.

    firstspike train aggressive-ttfs-causal --data-dir D --out RUN --epochs 3 --seed 0
    make nir-env
    python benchmarks/nir_readers.py RUN --data-dir D

Each reader of ``make nir-env`` gets the network's file and the first test images as event data, in a
process of its own, and its first-spike times are compared with ours. Those that fire at our steps are also
given the network with weights rounded so that every sum is exact. Writes ``benchmarks/results/nir.json``
and prints the table of ``docs/nir.md``.
"""

import argparse
import copy
import json
import math
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

import firstspike as fs
from firstspike.bench.machine import machine
from firstspike.support import write_text

READERS = {
    "spikingjelly": "reads IF and the connection back (`dt=1.0`, step by step); one threshold for a layer",
    "norse": "reads IF and the connection back; a threshold for each neuron",
    "snntorch": "makes IF a leaky neuron, of whose membrane 0.9 stays in each step; it gives spikes and "
    "membrane together, which the next layer cannot take",
    "sinabs": "runs whole sequences, so nothing comes back from step to step; does not let a membrane fall "
    "below -threshold; lets a neuron fire several times in a step",
    "spyx": "follows the first edge out of each node, here into the connection back, without an end; its "
    "neurons fire a step after their input",
}
IMAGES = 1000
# A reader that takes longer does not come back.
LIMIT_SECONDS = 90
ROOT = Path(__file__).resolve().parents[1]
PYTHON = ROOT / ".nir-env" / "bin" / "python"


def rounded(net: fs.Stack) -> fs.Stack:
    """Return the network with weights of so few digits that no sum of them is rounded in float32."""
    net = copy.deepcopy(net)
    for layer in net:
        unit = 2.0 ** (math.ceil(math.log2(float(layer.weight.abs().sum(1).max()))) - 24)
        layer.weight.data = torch.round(layer.weight.data / unit) * unit
    return net


def measured(reader: str, net: Path, spikes: Path, expected: list[np.ndarray]) -> dict[str, Any]:
    """Return what one reader fires against the spike times that are expected of each layer."""
    out = net.with_suffix(f".{reader}.npz")
    command = [
        str(PYTHON),
        str(ROOT / "benchmarks" / "nir_reader.py"),
        reader,
        *map(str, (net, spikes, out)),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return {"error": f"still running after {LIMIT_SECONDS} s"}
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1]}
    found = np.load(out)
    row = {"equal": float((found["times"] == expected[-1]).mean()), "most_spikes": int(found["most"].max())}
    for depth, times in enumerate(expected):
        if f"times_{depth}" in found:
            row[f"layer_{depth}_different"] = int((found[f"times_{depth}"] != times).sum())
            row["most_spikes"] = max(row["most_spikes"], int(found[f"most_{depth}"].max()))
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows in Markdown."""
    lines = [
        "| reader | equal first-spike times | most spikes of a neuron | what it does |",
        "|---|--:|--:|---|",
    ]
    for row in rows:
        equal = "-" if "error" in row else f"{100 * row['equal']:.2f} %"
        most = row.get("most_spikes", "-")
        lines.append(f"| {row['reader']} {row['version']} | {equal} | {most} | {READERS[row['reader']]} |")
    return "\n".join(lines)


def versions() -> dict[str, str]:
    """Return the versions in the readers' environment."""
    listed = subprocess.run(
        [str(PYTHON), "-m", "pip", "list", "--format", "json"], capture_output=True, text=True, check=True
    )
    return {one["name"].lower(): one["version"] for one in json.loads(listed.stdout)}


def main() -> None:
    """Measure all readers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path, help="finished run of a causal preset")
    parser.add_argument("--data-dir", type=Path, help="folder with MNIST")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "nir.json")
    options = parser.parse_args()
    if not PYTHON.exists():
        parser.error("the readers are not installed; run `make nir-env`")
    torch.set_grad_enabled(False)
    run, known = fs.RunFolder.open(options.run), versions()
    test = fs.data.load("mnist", "test", options.data_dir)
    trained = run.load()
    nets = {"trained": trained, "rounded": rounded(trained)}
    spikes = trained.encode(test.images[:IMAGES])
    rows: list[dict[str, Any]] = [{"reader": reader, "version": known[reader]} for reader in READERS]
    read_back = {}
    with tempfile.TemporaryDirectory() as folder:
        events = Path(folder) / "input.nir"
        fs.export.nir_events(spikes, events)
        for name, net in nets.items():
            file, expected = (
                Path(folder) / f"{name}.nir",
                [one.times.numpy() for one in net.trace(spikes)[1:]],
            )
            fs.export.nir(net, file)
            back = fs.from_nir(file)(fs.from_nir_events(events))
            read_back[name] = float((back.times.numpy() == expected[-1]).mean())
            for row in rows:
                if name == "trained":
                    row |= measured(row["reader"], file, events, expected)
                elif row.get("equal") == 1:
                    row[name] = measured(row["reader"], file, events, expected)
                print(row, flush=True)
    score = fs.FirstSpike().decide(trained(spikes)).score(test.labels[:IMAGES])
    document = {
        "command": "python benchmarks/nir_readers.py RUN --data-dir D",
        "machine": machine(1),
        "nir": known["nir"],
        "nirtorch": known["nirtorch"],
        "run": {"preset": run.preset, "seed": run.seed, "accuracy": 100 * score.accuracy},
        "images": IMAGES,
        "read_back_equal": read_back,
        "rows": rows,
    }
    write_text(options.out, json.dumps(document, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
