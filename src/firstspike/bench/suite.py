"""All rows, their units and targets, and the run through them."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from firstspike.bench.harness import Row, Skipped, summary
from firstspike.bench.machine import machine
from firstspike.bench.rows_conv import conv_forward, conv_train
from firstspike.bench.rows_deep import deep_step, norm_and_levels, one_patch, whole_report
from firstspike.bench.rows_gpu import train_on_gpu, train_on_gpu_against_spikingjelly
from firstspike.bench.rows_jobs import whole_job
from firstspike.bench.rows_linear import (
    forward,
    integer_forward,
    levels,
    many_steps,
    memory,
    train,
    window,
)
from firstspike.bench.rows_one_step import patches
from firstspike.bench.rows_peers import conv_against_spikingjelly, linear_against, memory_against
from firstspike.bench.rows_precision import precision
from firstspike.bench.rows_single import online, second_process, single_image
from firstspike.bench.setting import Setting, Spec
from firstspike.kernels.cpu.vectors import LANES
from firstspike.support import InputError

SPECS = (
    Spec("linear-forward-vs-dense", "ms", forward, target=0.6, narrow_target=1.1),
    Spec("integer-forward-vs-dense", "ms", integer_forward, target=0.5, narrow_target=0.7),
    Spec("linear-train-vs-dense", "ms", train, target=0.7, narrow_target=1.2),
    Spec("levels-train-vs-dense", "ms", levels, target=1.2, narrow_target=2.0),
    Spec("window-train-vs-dense", "ms", window, target=1.15, narrow_target=1.2),
    Spec("deep-window-train-vs-dense", "ms", deep_step("window-cifar10"), target=1.25, drawn=True),
    Spec("raster-train-vs-dense", "ms", deep_step("ettfs-cifar10"), drawn=True),
    Spec("onestep-train-vs-dense", "ms", deep_step("onestep-cifar10", one_patch), target=1.25, drawn=True),
    Spec(
        "linear-train-vs-spikingjelly",
        "ms",
        linear_against("spikingjelly"),
        target=1 / 500,
        narrow_target=1 / 250,
    ),
    Spec(
        "linear-train-vs-snntorch", "ms", linear_against("snntorch"), target=1 / 500, narrow_target=1 / 250
    ),
    Spec("linear-train-vs-norse", "ms", linear_against("norse"), target=1 / 400, narrow_target=1 / 250),
    Spec("s4nn-online-vs-plain", "s", online, target=1 / 200),
    Spec("steps-4096-vs-256", "ms", many_steps, target=1.2),
    Spec("conv-forward-vs-dense", "ms", conv_forward, target=1.5, narrow_target=2.0, drawn=True),
    Spec("conv-train-vs-dense", "ms", conv_train, target=1.7, narrow_target=2.5, drawn=True),
    Spec("conv-train-vs-spikingjelly", "ms", conv_against_spikingjelly, target=1 / 60, drawn=True),
    Spec("single-image", "us", single_image, target=1.0, limit=10.0, narrow_limit=25.0),
    Spec("memory-per-neuron", "bytes", memory, target=1.0, drawn=True),
    Spec("memory-vs-spikingjelly", "bytes", memory_against("spikingjelly")),
    Spec("memory-vs-snntorch", "bytes", memory_against("snntorch")),
    Spec("memory-vs-norse", "bytes", memory_against("norse")),
    Spec("second-process", "s", second_process, target=1.0, drawn=True),
    Spec("onestep-windows-vs-none", "ms", patches, target=3.0, drawn=True),
    Spec("norm-and-levels-vs-torch", "ms", norm_and_levels, drawn=True),
    Spec("report-resnet18", "s", whole_report, target=1.0, narrow_target=2.0, drawn=True),
    Spec("job-mnist-98", "s", whole_job("classifier")),
    Spec("job-fashion-epoch", "s", whole_job("epoch")),
    Spec("job-digit-gan", "s", whole_job("gan")),
    Spec("precision", "ms", precision, target=1 / 6, drawn=True),
    Spec("gpu-linear-train-vs-dense", "ms", train_on_gpu, target=2.0, gpu=True),
    Spec(
        "gpu-deep-window-train-vs-dense",
        "ms",
        deep_step("window-cifar10", device="cuda"),
        target=1.25,
        gpu=True,
        drawn=True,
    ),
    Spec(
        "gpu-linear-train-vs-spikingjelly", "ms", train_on_gpu_against_spikingjelly, target=1 / 50, gpu=True
    ),
)


def chosen(names: Sequence[str] | None) -> tuple[Spec, ...]:
    """Return the rows called `names`, in the suite's order; all without names.

    Raises:
        InputError: a name that no row has.
    """
    known = [spec.name for spec in SPECS]
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise InputError(f"unknown row {', '.join(unknown)}; there are: {', '.join(known)}")
    return tuple(spec for spec in SPECS if not names or spec.name in names)


def run_rows(
    specs: Sequence[Spec], setting: Setting, tell: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Return the machine and the rows, ready for JSON; torch's threads are those of `setting` after it.

    Args:
        specs: rows to measure.
        setting: what to measure with, entered already.
        tell: gets a line before each row, and one with its outcome.

    Raises:
        InputError, OSError: as for `network.workload`.
    """
    torch.set_num_threads(setting.threads)
    rows = []
    for index, spec in enumerate(specs, 1):
        tell(f"{index}/{len(specs)} {spec.name}")
        row = measure(spec, setting)
        tell(f"    skipped: {row.skipped}" if row.skipped else f"    ratio {row.ratio:.4g}")
        rows.append(row.as_dict())
    record = machine(setting.threads) | {"quick": setting.quick}
    if "workload" in setting.__dict__:
        record |= {"data": setting.workload.data, "weights": setting.workload.origin}
    if "peers" in setting.__dict__:
        record |= {"peers": setting.peers.about["versions"]}
    return {"machine": record, "rows": rows}


def measure(spec: Spec, setting: Setting) -> Row:
    """Return the row that `spec` describes, measured, or with the reason why not."""
    target, limit = spec.bounds(LANES)
    fixed: dict[str, Any] = {"target": target, "limit": limit}
    try:
        measured = spec.measure(setting)
    except Skipped as reason:
        return Row(spec.name, spec.unit, skipped=str(reason), **fixed)
    data = measured.data or ("random" if spec.drawn else setting.data)
    return Row(spec.name, spec.unit, data=data, note=measured.note, **summary(measured.pairs), **fixed)
