"""Neural networks whose neurons spike at most once (time to first spike).

The public names are listed here and imported when they are first used, so that ``import firstspike``
and ``firstspike --help`` stay quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from firstspike.coding import (
        decode_latency,
        decode_phase,
        encode_count,
        encode_latency,
        encode_phase,
    )
    from firstspike.convolution import causal_conv2d
    from firstspike.decision import PAPERS, STRICT, FirstSpike, Score
    from firstspike.engine import Decision, Engine
    from firstspike.functional import (
        causal_levels,
        causal_linear,
        causal_membrane,
        phased_linear,
        phased_membrane,
        window_fire,
        window_membrane,
    )
    from firstspike.losses import (
        aggressive_targets,
        first_spike_cross_entropy,
        gan_targets,
        membrane_cross_entropy,
        relative_targets,
        temporal_least_squares,
    )
    from firstspike.metrics.report import Report, report
    from firstspike.models.spiking_form import SpikingForm, spiking_form
    from firstspike.models.window_network import WindowNetwork
    from firstspike.neurons import Causal, Phased, Window
    from firstspike.nn import (
        AvgPool2d,
        Conv2d,
        ConvTranspose2d,
        EarliestPool2d,
        Linear,
        Shortcut,
        Stack,
        redraw_dead,
    )
    from firstspike.onestep.network import OneStepNetwork
    from firstspike.onestep.settings import WindowCarry
    from firstspike.online import S4NN, s4nn_epoch
    from firstspike.raster.network import RasterNetwork
    from firstspike.raster.settings import RasterNeuron, RasterWeights, Readout
    from firstspike.rules import ExactRule, RunningMaxRule, StraightThroughRule, TemporalRule
    from firstspike.spikes import check_times, raster_to_times, times_to_raster
    from firstspike.support import InputError
    from firstspike.training.fit import fit
    from firstspike.window_convolution import window_conv2d_membrane, window_conv_transpose2d_membrane

_HOME = {
    "coding": ("decode_latency", "decode_phase", "encode_count", "encode_latency", "encode_phase"),
    "convolution": ("causal_conv2d",),
    "decision": ("PAPERS", "STRICT", "FirstSpike", "Score"),
    "engine": ("Decision", "Engine"),
    "support": ("InputError",),
    "functional": (
        "causal_levels",
        "causal_linear",
        "causal_membrane",
        "phased_linear",
        "phased_membrane",
        "window_fire",
        "window_membrane",
    ),
    "losses": (
        "aggressive_targets",
        "first_spike_cross_entropy",
        "gan_targets",
        "membrane_cross_entropy",
        "relative_targets",
        "temporal_least_squares",
    ),
    "metrics.report": ("Report", "report"),
    "models.spiking_form": ("SpikingForm", "spiking_form"),
    "models.window_network": ("WindowNetwork",),
    "neurons": ("Causal", "Phased", "Window"),
    "nn": (
        "AvgPool2d",
        "Conv2d",
        "ConvTranspose2d",
        "EarliestPool2d",
        "Linear",
        "Shortcut",
        "Stack",
        "redraw_dead",
    ),
    "onestep.network": ("OneStepNetwork",),
    "onestep.settings": ("WindowCarry",),
    "online": ("S4NN", "s4nn_epoch"),
    "raster.network": ("RasterNetwork",),
    "raster.settings": ("RasterNeuron", "RasterWeights", "Readout"),
    "rules": ("ExactRule", "RunningMaxRule", "StraightThroughRule", "TemporalRule"),
    "spikes": ("check_times", "raster_to_times", "times_to_raster"),
    "training.fit": ("fit",),
    "window_convolution": ("window_conv2d_membrane", "window_conv_transpose2d_membrane"),
}

__all__ = [
    "PAPERS",
    "S4NN",
    "STRICT",
    "AvgPool2d",
    "Causal",
    "Conv2d",
    "ConvTranspose2d",
    "Decision",
    "EarliestPool2d",
    "Engine",
    "ExactRule",
    "FirstSpike",
    "InputError",
    "Linear",
    "OneStepNetwork",
    "Phased",
    "RasterNetwork",
    "RasterNeuron",
    "RasterWeights",
    "Readout",
    "Report",
    "RunningMaxRule",
    "Score",
    "Shortcut",
    "SpikingForm",
    "Stack",
    "StraightThroughRule",
    "TemporalRule",
    "Window",
    "WindowCarry",
    "WindowNetwork",
    "aggressive_targets",
    "causal_conv2d",
    "causal_levels",
    "causal_linear",
    "causal_membrane",
    "check_times",
    "decode_latency",
    "decode_phase",
    "encode_count",
    "encode_latency",
    "encode_phase",
    "first_spike_cross_entropy",
    "fit",
    "gan_targets",
    "membrane_cross_entropy",
    "phased_linear",
    "phased_membrane",
    "raster_to_times",
    "redraw_dead",
    "relative_targets",
    "report",
    "s4nn_epoch",
    "spiking_form",
    "temporal_least_squares",
    "times_to_raster",
    "window_conv2d_membrane",
    "window_conv_transpose2d_membrane",
    "window_fire",
    "window_membrane",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"firstspike.{module}"), name)
    raise AttributeError(f"module 'firstspike' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
