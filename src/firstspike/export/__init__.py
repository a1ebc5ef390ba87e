"""Networks and spikes for other tools: NIR."""

from firstspike.export.nir_events import nir_events as nir_events
from firstspike.export.nir_write import nir as nir
from firstspike.export.nir_write import nir_graph as nir_graph
