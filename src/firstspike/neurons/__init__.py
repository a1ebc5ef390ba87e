"""Neuron models, one file each; a neuron of your own is a subclass of `Neuron` in any file."""

from firstspike.neurons.base import Events, Neuron, Quantiser, Synapses, round_ste
from firstspike.neurons.causal import Causal
from firstspike.neurons.phased import Phased
from firstspike.neurons.ramp import Ramp
from firstspike.neurons.window import Window

__all__ = ["Causal", "Events", "Neuron", "Phased", "Quantiser", "Ramp", "Synapses", "Window", "round_ste"]
