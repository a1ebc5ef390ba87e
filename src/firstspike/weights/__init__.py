"""Weights of others: the state of plain torch modules, and the files of S4NN's authors."""

from firstspike.weights.published import S4NN_DIGITS as S4NN_DIGITS
from firstspike.weights.published import s4nn as s4nn
from firstspike.weights.published import s4nn_decide as s4nn_decide
from firstspike.weights.state_dict import Loaded as Loaded
from firstspike.weights.state_dict import load as load
