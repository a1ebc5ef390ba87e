"""Trained ReLU networks converted into single-spike networks: accuracy lost at 64, 16 and 8 steps.

    python benchmarks/conversion.py --data-dir D

Four networks on MNIST and Fashion-MNIST, three seeds each: trained for four epochs on 20,000 training
images, converted with 1,000 others, measured on the test set by the strict rule (ties and silence are
wrong), once with two more epochs through the quantisers. With --longer, networks on Fashion-MNIST also
after four epochs with all training images and their mirror images; the control, of the first seed, is the
ReLU network after as many. For the first seed and 16 steps every spike time is compared with a plain
quantised network's. What is in the file already is not measured again.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import firstspike as fs
from firstspike.bench.machine import machine
from firstspike.models.precision import fast_precision
from firstspike.nn.wiring import Convolution
from firstspike.support import write_text

TRAINED, CALIBRATION, EPOCHS = 20_000, 1_000, 4
# Epochs, rate, decay of the averaged weights.
TUNED_STEPS, TUNED, LONGER = 8, (2, 3e-3, 0.99), (4, 2e-3, 0.0)
SETS, SEEDS, STEPS = ("fashion-mnist", "mnist"), (0, 1, 2), (64, 16, 8)
# The seed and the steps that are compared with the plain quantised network.
TWIN = (0, 16)
# Losses allowed in points, by steps; and at 8 after fine-tuning.
TARGETS = {"64": 0.1, "16": 0.3, "8": 1.0, "tuned": 0.2}


def block(
    i: int, o: int, stride: int = 1, *, groups: int = 1, kernel: int = 3, act: type[nn.Module] = nn.ReLU
) -> list[nn.Module]:
    """Return a convolution with its normalisation and its activation."""
    layer = nn.Conv2d(i, o, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [layer, nn.BatchNorm2d(o), act()]


def vgg() -> nn.Module:
    """Return five convolutions with three max poolings between them."""
    return nn.Sequential(
        *block(1, 16),
        *block(16, 16),
        nn.MaxPool2d(2),
        *block(16, 32),
        *block(32, 32),
        nn.MaxPool2d(2),
        *block(32, 64),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 9, 10),
    )


class Residual(nn.Module):
    """Two convolutions and a shortcut past them, strided with a 1 x 1 convolution."""

    def __init__(self, i: int, o: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*block(i, o, stride), *block(o, o)[:2])
        self.past = nn.Sequential() if stride == 1 else nn.Sequential(*block(i, o, stride, kernel=1)[:2])

    def forward(self, x: Tensor) -> Tensor:
        """Return the activated sum."""
        return F.relu(self.body(x) + self.past(x))


def resnet() -> nn.Module:
    """Return four residual blocks, two of them strided."""
    blocks = (Residual(16, 16, 1), Residual(16, 32, 2), Residual(32, 32, 1), Residual(32, 64, 2))
    return nn.Sequential(*block(1, 16), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def mobilenet() -> nn.Module:
    """Return four pairs of depthwise and pointwise convolutions with ReLU6."""
    parts = block(1, 16, 2, act=nn.ReLU6)
    for i, o, stride in ((16, 32, 1), (32, 64, 2), (64, 64, 1), (64, 128, 2)):
        parts += block(i, i, stride, groups=i, act=nn.ReLU6) + block(i, o, kernel=1, act=nn.ReLU6)
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))


def mlp() -> nn.Module:
    """Return two hidden layers with normalisation and dropout."""
    hidden = [nn.Linear(784, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Dropout(0.2)]
    more = [nn.Linear(256, 256), nn.BatchNorm1d(256), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *hidden, *more, nn.Linear(256, 10))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "vgg": vgg,
    "resnet": resnet,
    "mobilenet": mobilenet,
    "mlp": mlp,
}


def trained(name: str, images: Tensor, labels: Tensor, seed: int) -> nn.Module:
    """Return a network trained on images ``(count, 1, 28, 28)`` in 0 ... 1."""
    torch.manual_seed(seed)
    network = NETWORKS[name]().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=0.01)
    order = torch.Generator().manual_seed(seed)
    total = len(images) // 128 * EPOCHS
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=total)
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(images), generator=order).split(128)[: total // EPOCHS]:
            batch = images[chosen].to(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=fast_precision("cpu") == "bfloat16"):
                logits = network(batch)
            loss = F.cross_entropy(logits.float(), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


@torch.no_grad()
def strict(net: fs.Stack, images: Tensor, labels: Tensor) -> dict[str, float]:
    """Return accuracy, ties, silence and mean steps in percent and steps, by the first spike."""
    rule = fs.FirstSpike()
    score, steps = fs.Score.none(rule.rule), 0.0
    for batch, targets in zip(images.split(250), labels.split(250), strict=True):
        verdict = rule.decide(net.eval()(net.encode(batch)))
        score += verdict.score(targets)
        steps += float((verdict.steps + net.offsets[-1]).sum())
    return {
        "accuracy": 100 * score.accuracy,
        "ties": 100 * score.tie_rate,
        "silent": 100 * score.silent_rate,
        "steps": steps / len(labels),
    }


@torch.no_grad()
def different(net: fs.Stack, images: Tensor) -> int:
    """Return how many spike times of all layers are not those of the plain quantised network."""
    count = 0
    for batch in images.split(250):
        spikes = net.encode(batch)
        traced = net.trace(spikes)
        levels = [(spikes.steps - spikes.times).double()]
        for layer, sources in zip(net, net.sources, strict=True):
            taken = [levels[source] for source in sources]
            if isinstance(layer, fs.EarliestPool2d):
                levels.append(F.max_pool2d(taken[0], layer.kernel_size, layer.stride, layer.padding))
                continue
            total = sum(map(_applied, (layer, *layer.shortcuts), taken))
            assert isinstance(total, Tensor)
            assert layer.bias is not None
            bias = layer.bias.double().reshape(
                *layer.bias.shape, *[1] * (total.dim() - 1 - layer.bias.dim())
            )
            levels.append(torch.floor((total + bias).clamp(0, layer.neuron.out_steps(net.steps))))
        for one, level in zip(traced, levels, strict=True):
            count += int((one.steps - one.times.double() != level).sum())
    return count


def _applied(connection: fs.Connection, levels: Tensor) -> Tensor:
    wiring, weight = connection.wiring, connection.weight.double()
    if isinstance(wiring, Convolution):
        return F.conv2d(levels, weight, None, wiring.stride, wiring.padding, 1, wiring.groups)
    return F.linear(levels.flatten(1), weight)


def measured(
    data: str, name: str, seed: int, data_dir: Path | None, known: dict[str, Any] | None, longer: bool
) -> dict[str, Any]:
    """Train, convert and measure one network; of a `known` row only what is missing."""
    train, test = (fs.data.load(data, split, data_dir) for split in ("train", "test"))
    images, labels = train.images[:TRAINED].unsqueeze(1), train.labels[:TRAINED]
    shown = test.images.unsqueeze(1)
    network = trained(name, images.float() / 255, labels, seed)
    relu = accuracy(network, shown, test.labels)
    seen = train.images[TRAINED : TRAINED + CALIBRATION].unsqueeze(1)
    row = known or {"data": data, "network": name, "seed": seed, "relu": relu, "steps": {}}
    for steps in () if known else STEPS:
        started = time.perf_counter()
        net = fs.from_torch(network, seen, steps=steps)
        seconds = time.perf_counter() - started
        result = strict(net, shown, test.labels)
        row["steps"][str(steps)] = {
            **result,
            "loss": relu - result["accuracy"],
            "seconds": seconds,
            # In double precision it takes as long as all the rest.
            "different_spike_times": different(net, shown) if (seed, steps) == TWIN else None,
            "last_step": net.last_step,
        }

    def after(images: Tensor, labels: Tensor, how: tuple[int, float, float]) -> dict[str, float]:
        net = fs.from_torch(network, seen, steps=TUNED_STEPS)
        tune(net, net.encode(images), labels, seed, how, sharp)
        result = strict(net, shown, test.labels)
        return {**result, "loss": relu - result["accuracy"]}

    if "tuned" not in row:
        row["tuned"] = after(images, labels, TUNED)
    if longer and data == "fashion-mnist" and "longer" not in row:
        everything = train.images.unsqueeze(1)
        both, named = torch.cat([everything, everything.flip(-1)]), train.labels.repeat(2)
        # Another number of threads trains another ReLU network.
        row["longer"] = {"relu": relu, **after(both, named, LONGER)}
        if seed == SEEDS[0]:
            tune(network, both.float() / 255, named, seed, LONGER, F.cross_entropy)
            row["longer"]["relu_gain"] = accuracy(network, shown, test.labels) - relu
    return row


def sharp(out: fs.Spikes, labels: Tensor) -> Tensor:
    """Return the loss of fine-tuning."""
    return fs.first_spike_cross_entropy(out, labels, sharpness=20.0)


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the share in percent of images uint8 that a plain network names."""
    found = torch.cat([network(part.float() / 255) for part in images.split(250)]).argmax(1)
    return 100 * float((found == labels).float().mean())


def tune(
    net: nn.Module,
    inputs: Any,
    labels: Tensor,
    seed: int,
    how: tuple[int, float, float],
    loss: Callable[..., Tensor],
) -> None:
    """Train a network further: `how` are epochs, rate and decay of the averaged weights."""
    epochs, rate, ema = how
    with tempfile.TemporaryDirectory() as folder:
        fs.fit(
            net,
            (inputs, labels),
            loss=loss,
            out=Path(folder) / "run",
            epochs=epochs,
            rate=rate,
            ema=ema,
            seed=seed,
            show_progress=False,
        )
    net.eval()


def table(rows: list[dict[str, Any]]) -> str:
    """Return the losses as a table in Markdown, mean and spread over seeds."""
    lines = [
        "| data | network | ReLU | 64 steps | 16 steps | 8 steps | 8, tuned | 8, longer | ReLU, longer | "
        "spike times that differ |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for data in SETS:
        for name in NETWORKS:
            chosen = [row for row in rows if (row["data"], row["network"]) == (data, name)]
            if not chosen:
                continue
            cells = [_spread([row["relu"] for row in chosen])]
            cells += [_spread([row["steps"][str(steps)]["loss"] for row in chosen]) for steps in STEPS]
            cells.append(_spread([row["tuned"]["loss"] for row in chosen]))
            more = [row["longer"] for row in chosen if "longer" in row]
            cells.append(_spread([one["loss"] for one in more]) if more else "-")
            gains = [one["relu_gain"] for one in more if "relu_gain" in one]
            cells.append(_spread([-gain for gain in gains]) if gains else "-")
            differ = sum(
                row["steps"][str(s)]["different_spike_times"] or 0 for row in chosen for s in STEPS
            )
            lines.append(f"| {data} | {name} | {' | '.join(cells)} | {differ} |")
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"


def main() -> None:
    """Measure what is missing and write the file after each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="folder with MNIST and Fashion-MNIST")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/conversion.json"))
    parser.add_argument("--longer", action="store_true", help="fine-tune longer, on Fashion-MNIST")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    listed = json.loads(options.out.read_text())["rows"] if options.out.exists() else []
    rows = {(row["data"], row["network"], row["seed"]): row for row in listed}
    for data in SETS:
        for seed in SEEDS:
            for name in NETWORKS:
                known = rows.get((data, name, seed))
                finished = not options.longer or data != "fashion-mnist" or "longer" in (known or {})
                if known and finished:
                    continue
                started = time.perf_counter()
                rows[data, name, seed] = measured(data, name, seed, options.data_dir, known, options.longer)
                document = {
                    "command": "python benchmarks/conversion.py --data-dir D",
                    "machine": machine(options.threads),
                    "targets": TARGETS,
                    "rule": "first spike, ties and silence wrong; test split",
                    "rows": list(rows.values()),
                }
                write_text(options.out, json.dumps(document, indent=1) + "\n")
                print(data, name, seed, f"{time.perf_counter() - started:.0f} s", flush=True)
    print(table(list(rows.values())))


if __name__ == "__main__":
    main()
