"""Export of trained networks: integers, C, a page; NIR, also spikes, and back."""

from firstspike.export.nir_events import nir_events
from firstspike.export.nir_write import nir, nir_graph
from firstspike.export.page import html
from firstspike.export.program import c

__all__ = ["c", "html", "nir", "nir_events", "nir_graph"]
