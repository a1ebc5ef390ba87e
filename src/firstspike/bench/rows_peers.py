"""Rows against the other libraries, which unroll the steps: SpikingJelly, snnTorch, Norse."""

import time
from collections.abc import Callable
from typing import Any

import torch

from firstspike.bench.harness import Pairs, Side, repeated
from firstspike.bench.network import BATCH, causal_loss, training_step
from firstspike.bench.rows_conv import conv_layer, conv_step
from firstspike.bench.rows_linear import spikes
from firstspike.bench.setting import CONV_SHAPE, Measured, Setting, convolution

# A peer's threads spin for a moment after their last task; ours should not have to share the cores.
_REST = 0.1


def linear_against(peer: str) -> Callable[[Setting], Measured]:
    """Return the row of one peer: the training step of 784-400-10."""

    def measure(setting: Setting) -> Measured:
        model = setting.workload.stack()
        with torch.no_grad():
            setting.peers.check(peer, "linear", model.trace(setting.workload.times()[:BATCH])[1:])
        step = training_step(model, causal_loss(model), spikes(setting))
        pairs = against_peer(setting, step, peer=peer, net="linear", batch=BATCH)
        return Measured(
            pairs.scaled(1e3), f"batch {BATCH}, every step on a time axis; spike times found equal first"
        )

    return measure


def conv_against_spikingjelly(setting: Setting) -> Measured:
    """Forward and backward of one convolutional layer."""
    times, _ = convolution()
    layer = conv_layer()
    with torch.no_grad():
        setting.peers.check("spikingjelly", "conv", [layer(times)])
    pairs = against_peer(setting, conv_step(), peer="spikingjelly", net="conv", batch=CONV_SHAPE[0])
    return Measured(
        pairs.scaled(1e3),
        f"batch {CONV_SHAPE[0]}, forward and backward, multi-step; spike times found equal first",
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
