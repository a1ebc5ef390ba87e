"""Rows against the other libraries, which unroll the steps: SpikingJelly, snnTorch, Norse."""

import time
from collections.abc import Callable
from typing import Any

import torch

from firstspike.bench.harness import Pairs, Side, repeated
from firstspike.bench.network import BATCH, SIZES, STEPS, batches, causal_loss, training_step
from firstspike.bench.rows_conv import conv_layer, conv_step
from firstspike.bench.rows_linear import bytes_per_neuron
from firstspike.bench.setting import CONV_SHAPE, Measured, Setting, convolution

# A peer's threads spin for a moment after their last task; ours should not have to share the cores.
_REST = 0.1
# Of ``--quick``, on both sides, and of the peers' memory, which grows with every step of time.
_FEW_IMAGES, _FEW_MAPS = 64, 8
_MEMORY_BATCHES = (32, 96)


def linear_against(peer: str) -> Callable[[Setting], Measured]:
    """Return the row of one peer: the training step of 784-400-10."""

    def measure(setting: Setting) -> Measured:
        batch = _FEW_IMAGES if setting.quick else BATCH
        peers, work = setting.peers, setting.workload
        model = work.stack()
        with torch.no_grad():
            ours = [layer.times for layer in model.trace(work.spikes()[:batch])[1:]]
            peers.check(peer, "linear", ours, batch=batch)
        data = batches(work.spikes(), work.labels, size=batch)
        step = training_step(model, causal_loss(model), data)
        pairs = against_peer(setting, step, peer=peer, net="linear", batch=batch)
        return Measured(
            pairs.scaled(1e3), f"batch {batch}, every step on a time axis; spike times found equal first"
        )

    return measure


def memory_against(peer: str) -> Callable[[Setting], Measured]:
    """Return the row of one peer: bytes per neuron and sample of the training step of 784-400-10."""

    def measure(setting: Setting) -> Measured:
        small, large = _MEMORY_BATCHES
        grown = _peer_peak(setting, peer, large) - _peer_peak(setting, peer, small)
        theirs = grown / (large - small) / sum(SIZES)
        return Measured(
            Pairs((bytes_per_neuron(setting, STEPS),), (theirs,)),
            f"T = {STEPS}, all {sum(SIZES)} neurons with the input's; theirs: batch {large} against "
            f"{small}, the input's raster included; peak memory of fresh processes",
        )

    return measure


def _peer_peak(setting: Setting, peer: str, batch: int) -> int:
    """Return the peak memory in bytes of a new process of the peers that takes two training steps."""
    peers = setting.new_peers()
    try:
        for _ in range(2):
            peers.ask("train", peer=peer, net="linear", batch=batch)
        return int(peers.ask("peak")["bytes"])
    finally:
        peers.close()


def conv_against_spikingjelly(setting: Setting) -> Measured:
    """Forward and backward of one convolutional layer."""
    batch = _FEW_MAPS if setting.quick else CONV_SHAPE[0]
    peers, (spikes, _) = setting.peers, convolution()
    layer = conv_layer()
    with torch.no_grad():
        peers.check("spikingjelly", "conv", [layer(spikes[:batch]).times], batch=batch)
    pairs = against_peer(setting, conv_step(batch), peer="spikingjelly", net="conv", batch=batch)
    return Measured(
        pairs.scaled(1e3),
        f"batch {batch}, forward and backward, multi-step; spike times found equal first",
    )


def against_peer(
    setting: Setting, step: Callable[[], object], finish: Callable[[], None] | None = None, **request: Any
) -> Pairs:
    """Return seconds of our step and of the peer's training step, taken in turn."""
    mine = repeated(step, setting.effort.seconds, finish)
    return setting.against(_rested(mine), lambda: float(setting.peers.ask("train", **request)["seconds"]))


def _rested(side: Side) -> Side:
    def measure() -> float:
        time.sleep(_REST)
        return side()

    return measure
