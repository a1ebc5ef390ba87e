"""The pages of the built-in networks in a browser: size, load time, and whether they decide as Python does.

    python benchmarks/page.py --data-dir D [--pictures FOLDER]

The classifier's page decides the first 1,000 test images of MNIST; label, step, spikes and operations are
compared with the integer network's. With --pictures both pages are photographed, as in docs/page.md.
"""

import argparse
import base64
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import firstspike as fs
from firstspike.bench.machine import machine
from firstspike.export.program import expected
from firstspike.support import write_text

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "export"))
from browser import Browser, browser, installed

COUNT, LOADS, SHOWN = 1000, 7, 40
TARGETS = {"load_ms": 1000, "bytes": 1_500_000, "equal": COUNT}


def opened(page: Browser, file: Path) -> dict[str, Any]:
    """Return size and load times of a page."""
    page.open(file.as_uri())
    times = []
    for _ in range(LOADS):
        page.reload()
        times.append(page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd"))
    return {
        "bytes": file.stat().st_size,
        "load_ms": statistics.median(times),
        "spread_ms": max(times) - min(times),
    }


def decided(page: Browser, whole: fs.IntegerNetwork, images: Any) -> int:
    """Return how many images the page decides as the integer network does."""
    flat = images.flatten(1).numpy()
    wanted, _ = expected(whole, None, flat)
    packed = base64.b64encode(flat.tobytes()).decode()
    found = page.evaluate(
        f"""(() => {{
          const bytes = Uint8Array.from(atob({json.dumps(packed)}), (c) => c.charCodeAt(0));
          return Array.from({{ length: {len(flat)} }}, (_, i) => {{
            const r = firstspike.decide(bytes.subarray(i * {flat.shape[1]}, (i + 1) * {flat.shape[1]}));
            return [r.label, r.step, r.spikes, r.operations].join(" ");
          }});
        }})()"""
    )
    return sum(one == other for one, other in zip(found, wanted, strict=True))


def main() -> None:
    """Measure and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with MNIST")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/page.json"))
    parser.add_argument("--pictures", type=Path, help="folder for page-classifier.png, page-generator.png")
    options = parser.parse_args()
    program = installed()
    if program is None:
        sys.exit("there is no Chromium or Chrome, in which pages could be opened")
    test = fs.data.load("mnist", "test", options.data_dir)
    whole = fs.integer(fs.load("mnist-classifier"), in_shape=(1, 28, 28))
    with tempfile.TemporaryDirectory() as made:
        files = {name: Path(made) / f"{name}.html" for name in ("classifier", "generator")}
        shown = {"images": test.images[:SHOWN], "labels": test.labels[:SHOWN]}
        fs.export.html(whole, files["classifier"], **shown, title="mnist-classifier")
        fs.export.html(fs.load("mnist-generator"), files["generator"], title="mnist-generator")
        with browser(program, Path(made) / "profile") as page:
            figures = {name: opened(page, file) for name, file in files.items()}
            page.open(files["classifier"].as_uri())
            figures["classifier"]["equal"] = decided(page, whole, test.images[:COUNT])
            for name, height, dark in (("classifier", 1080, False), ("generator", 1240, True)):
                if options.pictures:
                    page.look(1280, height, dark=dark)
                    page.open(files[name].as_uri())
                    page.screenshot(options.pictures / f"page-{name}.png")
            document = {
                "command": "python benchmarks/page.py --data-dir D",
                "machine": machine(1),
                "browser": page.send("Browser.getVersion")["product"],
                "targets": TARGETS,
                "pages": figures,
            }
    write_text(options.out, json.dumps(document, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
