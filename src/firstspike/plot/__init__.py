"""Pictures of single-spike networks: each function takes plain arrays and returns a figure.

No pyplot and no display is needed; `save_figure` writes a small PNG. Importing this package imports
matplotlib, so `firstspike` itself does not.
"""

from firstspike.plot import paper
from firstspike.plot.curves import learning_curves
from firstspike.plot.decision import decision_animation
from firstspike.plot.raster import spike_raster
from firstspike.plot.samples import sample_comparison, sample_grid
from firstspike.plot.save import png_bytes, save_figure

__all__ = [
    "decision_animation",
    "learning_curves",
    "paper",
    "png_bytes",
    "sample_comparison",
    "sample_grid",
    "save_figure",
    "spike_raster",
]
