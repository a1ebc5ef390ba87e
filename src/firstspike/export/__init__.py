"""Trained networks on their way out: whole numbers and C; NIR, also spikes, and back."""

from firstspike.export.nir_events import nir_events
from firstspike.export.nir_write import nir, nir_graph
from firstspike.export.program import c

__all__ = ["c", "nir", "nir_events", "nir_graph"]
