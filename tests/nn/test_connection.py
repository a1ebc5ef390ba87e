import torch
from builders import draw_spikes, refused, seeded

from firstspike import Connection, Conv2d, Linear, Window


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


def test_a_layer_takes_as_many_inputs_as_it_has_connections() -> None:
    layer, spikes = Linear(4, 3, shortcuts=[Connection.linear(4, 3, source=0)]), draw_spikes(2, 4)
    for more in ((), (spikes, spikes)):
        with refused(ValueError, "1 shortcuts", str(len(more))):
            layer(spikes, *more)
    with refused(ValueError, "0 shortcuts", "1"):
        Linear(4, 3)(spikes, spikes)
