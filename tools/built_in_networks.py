"""Make the networks that come with the package: train them, round their weights, measure them.

    python tools/built_in_networks.py --data-dir D [--runs FOLDER]

The classifier is `window-mnist` with fewer maps and epochs, the generator `spiking-gan-conv` in half the
steps of its training, both of seed 0; what FOLDER holds already is not trained again.
"""

import argparse
import json
import shutil
import subprocess
from pathlib import Path

import firstspike as fs
from firstspike import networks
from firstspike.training.network import shrink

TRAINED = {
    "mnist-classifier": ["window-mnist", "--epochs", "8", "--set", "layout=16C5s2-32C3-A2-64C3-F64"],
    "mnist-generator": ["spiking-gan-conv"],
}
# Other windows than those of the training: docs/experiments/conv-generation.md.
WINDOWS = {"mnist-generator": {"steps": 8, "pixel_steps": 32}}


def main() -> None:
    """Make what is asked for and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with MNIST")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/built-in"), help="folder of the trained runs"
    )
    options = parser.parse_args()
    for name, arguments in TRAINED.items():
        run, out = options.runs / name, Path(networks.__file__).parent / name
        if not (run / "model.safetensors").exists():
            where = ["--seed", "0", "--out", str(run), "--data-dir", str(options.data_dir), "--resume"]
            subprocess.run(["firstspike", "train", *arguments, *where], check=True)
        shutil.rmtree(out, ignore_errors=True)
        trained = fs.RunFolder.open(run).with_windows(WINDOWS.get(name, {}))
        small = shrink(trained, out)
        (out / "config.json").write_text(_lasting(out / "config.json", arguments), encoding="utf-8")
        print(name, json.dumps(fs.evaluate(small, options.data_dir)))


def _lasting(config: Path, arguments: list[str]) -> str:
    """The configuration, with the command that trains the network again."""
    document = json.loads(config.read_text(encoding="utf-8"))
    document["command"] = " ".join(["firstspike train", *arguments, "--seed 0"])
    return json.dumps(document, indent=2) + "\n"


if __name__ == "__main__":
    main()
