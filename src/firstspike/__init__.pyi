# The public names, once: type checkers read them here, and __init__.py imports them on first use.
from firstspike.decision import FirstSpike as FirstSpike
from firstspike.decision import Membrane as Membrane
from firstspike.decision import Score as Score
from firstspike.decision import Verdict as Verdict
from firstspike.decision import Votes as Votes
from firstspike.engine import Decision as Decision
from firstspike.engine import Engine as Engine
from firstspike.losses import aggressive_targets as aggressive_targets
from firstspike.losses import first_spike_cross_entropy as first_spike_cross_entropy
from firstspike.losses import gan_targets as gan_targets
from firstspike.losses import relative_targets as relative_targets
from firstspike.losses import temporal_least_squares as temporal_least_squares
from firstspike.neurons import Causal as Causal
from firstspike.neurons import Neuron as Neuron
from firstspike.neurons import Phased as Phased
from firstspike.neurons import Ramp as Ramp
from firstspike.neurons import Window as Window
from firstspike.neurons import round_ste as round_ste
from firstspike.nn import AvgPool2d as AvgPool2d
from firstspike.nn import Connection as Connection
from firstspike.nn import Conv2d as Conv2d
from firstspike.nn import ConvTranspose2d as ConvTranspose2d
from firstspike.nn import EarliestPool2d as EarliestPool2d
from firstspike.nn import Linear as Linear
from firstspike.nn import Stack as Stack
from firstspike.online import S4NNRule as S4NNRule
from firstspike.online import redraw_dead as redraw_dead
from firstspike.online import s4nn_epoch as s4nn_epoch
from firstspike.spikes import Spikes as Spikes
from firstspike.spikes import decode_latency as decode_latency
from firstspike.spikes import encode_count as encode_count
from firstspike.spikes import encode_latency as encode_latency
from firstspike.support import InputError as InputError

__version__: str
