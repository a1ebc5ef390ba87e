"""The eight figures of Spiking-GAN (Kotariya & Ganguly, arXiv 2106.15420), with given data.

Figure 8, the samples, is `firstspike.plot.sample_comparison`.
"""

from firstspike.plot.paper.architecture import architecture
from firstspike.plot.paper.coding_cost import coding_cost, coding_spikes
from firstspike.plot.paper.digit_costs import digit_costs
from firstspike.plot.paper.encoder import encoder
from firstspike.plot.paper.hidden_filters import hidden_filters
from firstspike.plot.paper.output_rule import output_rule
from firstspike.plot.paper.refractory_period import refractory_period

__all__ = [
    "architecture",
    "coding_cost",
    "coding_spikes",
    "digit_costs",
    "encoder",
    "hidden_filters",
    "output_rule",
    "refractory_period",
]
