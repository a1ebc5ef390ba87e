from collections.abc import Callable
from typing import Any

import pytest
import torch
from builders import draw_spikes, refused, seeded

from firstspike import Causal, Connection, Conv2d, Layer, Linear, Window


def test_weights_and_bias_start_as_those_of_the_layer_with_the_same_wiring() -> None:
    dense = Connection.linear(4, 3, bias=True, generator=seeded(0))
    layer = Linear(4, 3, generator=seeded(0))
    assert dense.wiring == layer.wiring
    assert torch.equal(dense.weight, layer.weight)
    assert dense.bias is not None
    assert torch.equal(dense.bias, layer.bias)
    assert (dense.weight.requires_grad, dense.source) == (True, None)
    how = {"stride": 2, "padding": 1, "groups": 2}
    maps = Connection.conv2d(2, 4, 3, source=2, generator=seeded(0), **how)  # type: ignore[arg-type]
    conv = Conv2d(2, 4, 3, generator=seeded(0), **how)  # type: ignore[arg-type]
    assert (maps.wiring, maps.source, maps.bias) == (conv.wiring, 2, None)
    assert torch.equal(maps.weight, conv.weight)
    assert maps.out_shape((2, 5, 5)) == (4, 3, 3)


def test_synapses_are_linear_algebra() -> None:
    layer = Linear(4, 3, Window(), generator=seeded(0))
    values = torch.rand(5, 4, generator=seeded(1))
    product = values @ layer.weight.t()
    assert layer.bias is not None
    for times in (0, 1, 3):
        torch.testing.assert_close(layer.synapses(values, bias=times), product + times * layer.bias)


def test_a_shortcut_says_whose_spikes_it_takes() -> None:
    with refused(ValueError, "shortcut", "source"):
        Linear(4, 3, shortcuts=[Connection.linear(4, 3)])


@pytest.mark.parametrize("call", [Layer.__call__, Layer.membrane, Layer.read, Layer.simulate])
def test_what_a_shortcut_takes_is_looked_at(call: Callable[..., Any]) -> None:
    layer, spikes = Linear(4, 3, shortcuts=[Connection.linear(5, 3, source=0)]), draw_spikes(2, 4)
    with refused(ValueError, "the shortcut from 0", "takes 5 features", "found 4"):
        call(layer, spikes, spikes)
    with refused(TypeError, "expected Spikes", "Tensor"):
        call(layer, spikes, torch.zeros(2, 5))
    with refused(ValueError, "one batch", "2 and 3 samples"):
        call(layer, spikes, draw_spikes(3, 5))
    with refused(ValueError, "1 shortcuts", "found 0"):
        call(layer, spikes)
    layer.shortcuts[0].to(torch.bfloat16)
    with refused(TypeError, "bfloat16"):
        call(layer, spikes, draw_spikes(2, 5))


def test_membrane_and_simulation_are_those_of_all_connections() -> None:
    for neuron in (Window(low=-1.0, high=1.0, input_low=-1.0, steps=8), Causal(threshold=0.75)):
        windows = neuron.waits(1)
        shortcut = Connection.linear(5, 3, source=0, generator=seeded(1))
        layer = Linear(4, 3, neuron, shortcuts=[shortcut], generator=seeded(0))
        with torch.no_grad():
            for parameter in layer.parameters():
                # So that no rounding decides.
                parameter.copy_((parameter * 16).round() / 16 + 1 / 8)
        near, far = draw_spikes(9, 4, seed=2), draw_spikes(9, 5, steps=32 if windows else 16, seed=3)
        out, membrane = layer.read(near, far)
        assert torch.equal(layer.membrane(near, far), membrane)
        assert torch.equal(layer.simulate(near, far).times, out.times)
        # It is not what the first connection does alone.
        assert not torch.equal(neuron.simulate(layer.synapses, near).times, out.times)


def test_a_layer_takes_as_many_inputs_as_it_has_connections() -> None:
    layer, spikes = Linear(4, 3, shortcuts=[Connection.linear(4, 3, source=0)]), draw_spikes(2, 4)
    for more in ((), (spikes, spikes)):
        with refused(ValueError, "1 shortcuts", str(len(more))):
            layer(spikes, *more)
    with refused(ValueError, "0 shortcuts", "1"):
        Linear(4, 3)(spikes, spikes)
