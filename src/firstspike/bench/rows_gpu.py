"""Rows of the wide network 784-4096-10 on a GPU."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from firstspike.bench.network import (
    STEPS,
    WIDTH,
    batches,
    causal_loss,
    causal_stack,
    dense_loss,
    dense_network,
    training_step,
    wide,
)
from firstspike.bench.rows_linear import pixels
from firstspike.bench.rows_peers import against_peer
from firstspike.bench.setting import Measured, Setting, need_cuda
from firstspike.nn import Stack
from firstspike.spikes import Spikes

GPU_BATCH = 1024


def train_on_gpu(setting: Setting) -> Measured:
    """Training step against the dense network's."""
    need_cuda()
    model = _model(setting)
    work = setting.workload
    step = training_step(model, causal_loss(model), _on_gpu(work.spikes(), work.labels))
    dense = dense_network((784, WIDTH, 10)).cuda()
    theirs = training_step(dense, dense_loss(dense), _on_gpu(pixels(setting), work.labels))
    pairs = setting.compare(step, theirs, torch.cuda.synchronize)
    return Measured(pairs.scaled(1e3), _note())


def train_on_gpu_against_spikingjelly(setting: Setting) -> Measured:
    """Training step against SpikingJelly's fastest back end."""
    need_cuda()
    model = _model(setting)
    work = setting.workload
    spikes = work.spikes()[:GPU_BATCH].to("cuda")
    with torch.no_grad():
        expected = [layer.times.cpu() for layer in model.trace(spikes)[1:]]
    setting.peers.check("spikingjelly", "wide", expected, batch=GPU_BATCH, device="cuda")
    step = training_step(model, causal_loss(model), _on_gpu(work.spikes(), work.labels))
    pairs = against_peer(
        setting,
        step,
        torch.cuda.synchronize,
        peer="spikingjelly",
        net="wide",
        batch=GPU_BATCH,
        device="cuda",
    )
    return Measured(pairs.scaled(1e3), f"{_note()}; spike times found equal first")


def _model(setting: Setting) -> Stack:
    return causal_stack(wide(setting.workload.weights, WIDTH), STEPS).cuda()


def _on_gpu(*data: Tensor | Spikes) -> Iterator[tuple[Any, ...]]:
    return batches(*(part.to("cuda") for part in data), size=GPU_BATCH)


def _note() -> str:
    return f"784-{WIDTH}-10, batch {GPU_BATCH}, T = {STEPS}; the trained hidden neurons repeated"
