import dataclasses
import math
from typing import Any

import pytest

from firstspike.neurons import Causal, Window


@pytest.mark.parametrize("threshold", [0.0, -1.0, math.inf, math.nan])
def test_a_threshold_is_above_zero_and_finite(threshold: float) -> None:
    with pytest.raises(ValueError, match=r"Causal\.threshold must be above 0 and finite"):
        Causal(threshold=threshold)


def test_other_causal_fields_are_checked() -> None:
    with pytest.raises(ValueError, match=r"Causal\.synapse must be 'step' or 'ramp', found 'jump'"):
        Causal(synapse="jump")  # type: ignore[arg-type]
    for delay in (-1, 1.5):
        with pytest.raises(ValueError, match=rf"Causal\.delay must be 0 or more .*, found {delay}"):
            Causal(delay=delay)  # type: ignore[arg-type]


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (2.0, 1.0), (math.nan, 1.0), (0.0, math.nan)])
def test_window_ranges_rise(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="low < high"):
        Window(low=low, high=high)
    with pytest.raises(ValueError, match="input_low < input_high"):
        Window(input_low=low, input_high=high)


def test_window_lengths_are_checked() -> None:
    with pytest.raises(ValueError, match="num_steps must be in 2"):
        Window(out_steps=1)
    with pytest.raises(TypeError, match="num_steps must be an int"):
        Window(out_steps=8.0)  # type: ignore[arg-type]


def test_where_each_neuron_fires() -> None:
    assert Causal(delay=3).out_steps_for(16) == 16
    assert Window().out_steps_for(16) == 16
    assert Window(out_steps=32).out_steps_for(16) == 32


@pytest.mark.parametrize("neuron", [Causal(), Window()])
def test_neurons_are_values(neuron: Any) -> None:
    assert neuron == dataclasses.replace(neuron)
    assert hash(neuron) == hash(dataclasses.replace(neuron))
    name = dataclasses.fields(neuron)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(neuron, name, 2.0)
