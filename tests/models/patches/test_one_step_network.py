"""One-step networks: layouts, the LSTM against torch's, folding, and what goes wrong."""

import pytest
import torch
from torch.nn import functional as F

from firstspike.models.layout import Conv, Recurrent
from firstspike.models.patches.blocks import Connection, Passed, PatchLSTM, gathered
from firstspike.models.patches.grid import merge_patches, patch_grid, split_patches
from firstspike.models.patches.network import OneStepNetwork
from firstspike.models.patches.settings import PatchCarry, one_step_parts
from firstspike.recipes import preset
from firstspike.support import InputError

EVERYTHING = "4C3-D-4C3-6G-6L3-3B-6C3"


def images(count=5, shape=(2, 9, 12)):
    source = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, *shape), generator=source).to(torch.uint8)


def network(layout=EVERYTHING, shape=(2, 9, 12), **neuron):
    torch.manual_seed(0)
    net = OneStepNetwork(layout, shape, 3, PatchCarry(**neuron))
    for name, parameter in net.named_parameters():
        if name.endswith("norm.weight"):
            parameter.data.uniform_(0.5, 2)
        elif name.endswith("norm.bias"):
            parameter.data.uniform_(-0.5, 0.5)
    return net


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("D-8C3", "first part must be"),
        ("8G-8C3", "first part must be"),
        ("8C3-8R", "cannot have '8R'"),
        ("8C3-F10", "cannot have 'F10'"),
        ("8C3-A2-8C3", "Ek behind nCk"),
        ("8C3s2", "stride 1"),
    ],
)
def test_a_wrong_layout_is_one_clear_line(layout, message):
    with pytest.raises(InputError, match=message) as caught:
        one_step_parts(layout)
    assert "\n" not in str(caught.value)


def test_the_papers_layouts_have_their_convolutions_and_lstms():
    for name, kind, wide in (
        ("onestep-cifar10-large", Conv, 6),
        ("onestep-lstm-cifar10-large", Recurrent, 3),
    ):
        parts = [p for p in one_step_parts(preset(name).recipe.layout) if isinstance(p, kind)]
        assert {p.kernel for p in parts} == {3}
        channels = [p.channels for p in parts]
        assert channels == [48, 48, 96, 96, *[192] * wide, 384, 384]


def test_shapes_layers_and_patches_of_a_network():
    net = network()
    seen = net.trace(images())
    assert [tuple(s.shape[1:]) for s in seen] == [
        (2, 9, 12), (4, 9, 12), (4, 9, 12), (4, 9, 12), (6, 5, 6), (6, 5, 6), (6, 5, 6), (6, 5, 6)
    ]  # fmt: skip
    for spikes in seen[1:]:
        assert set(spikes.unique().tolist()) <= {0.0, 1.0}
    assert net(images()).shape == (5, 3)
    # Plain, then dilated, then plain, and the last one plain; the others have one patch.
    layers = [layer for layer, _, _ in net.each_layer(images())]
    assert [len(layer.grid.corners) for layer in layers] == [4, 1, 4, 1, 4, 1, 1, 4]
    sides = [layer.grid.sides for layer in layers]
    assert sides[0] == (5, 6)
    assert sides[2] == (7, 9)
    assert sides[4] == sides[7] == (3, 3)


def test_membranes_reach_the_next_layer_of_the_same_shape_only():
    carries = network("4C3-4C3-5C3", projection="linear", carried="layer").eval()
    silent = network("4C3-4C3-5C3", carried="none").eval()
    silent.load_state_dict(carries.state_dict())
    one, two = carries.trace(images()), silent.trace(images())
    assert torch.equal(one[1], two[1])
    assert not torch.equal(one[2], two[2])
    # The third layer has other maps: from equal spikes it makes equal ones, whatever was left.
    third = carries.blocks[2]
    left = torch.randn_like(one[2])
    alone = third(Passed(one[2], None)).spikes
    assert torch.equal(third(Passed(one[2], left)).spikes, alone)
    assert torch.equal(one[3], alone)


@pytest.mark.parametrize(("grid", "dilated"), [(2, False), (2, True), (3, False)])
def test_lstm_is_torchs_over_the_patches_at_each_place(grid, dilated):
    torch.manual_seed(2)
    patches = patch_grid((6, 8), grid, dilated=dilated)
    ours = PatchLSTM(3, 5, patches, kernel=1)
    torchs = torch.nn.LSTM(3, 5)
    torchs.weight_ih_l0.data = ours.weight.data.flatten(1).clone()
    torchs.weight_hh_l0.data = ours.recurrent_weight.data.clone()
    torchs.bias_ih_l0.data = ours.bias.data.clone()
    torchs.bias_hh_l0.data.zero_()
    maps = torch.randn(4, 3, 6, 8)
    parts = split_patches(maps, patches)
    # One sequence over the patches for each sample and each place of a patch.
    sequences = parts.permute(0, 1, 3, 4, 2).reshape(len(parts), -1, 3)
    hidden, _ = torchs(sequences)
    hidden = hidden.reshape(len(parts), 4, *patches.sides, 5).permute(0, 1, 4, 2, 3)
    torch.testing.assert_close(ours(maps), merge_patches(hidden, patches))


def test_a_normalisation_folds_exactly():
    net = network()
    # Statistics of two batches.
    for seed in (1, 2):
        torch.manual_seed(seed)
        net(images())
    for connection in [m for m in net.modules() if type(m) is Connection]:
        maps = torch.randn(3, connection.weight.shape[1], 6, 7)
        norm = connection.norm
        plain = F.conv2d(maps, connection.weight, padding=connection.weight.shape[-1] // 2)
        expected = F.batch_norm(
            plain, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=1e-5
        )
        torch.testing.assert_close(connection.eval()(maps), expected, rtol=1e-4, atol=1e-5)


def test_places_are_merged_map_by_map_and_odd_sides_with_zeros():
    maps = torch.arange(1, 10).reshape(1, 1, 3, 3).float()
    merged = gathered(maps)
    assert merged.shape == (1, 4, 2, 2)
    assert merged[0, :, 0, 0].tolist() == [1, 2, 4, 5]
    assert merged[0, :, 1, 1].tolist() == [9, 0, 0, 0]


def test_training_moves_every_parameter():
    net = network(grid=2, projection="sine_layer", surrogate="arctan", carried="both")
    F.cross_entropy(net(images()), torch.tensor([0, 1, 2, 0, 1])).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().sum()) > 0, name


def test_wrong_sizes_and_layouts_are_one_clear_line():
    for more in ({"head_size": 0}, {"dropout": 1.0}):
        with pytest.raises(ValueError, match=next(iter(more))):
            OneStepNetwork("8C3", (2, 9, 12), 3, PatchCarry(), **more)
    with pytest.raises(InputError, match="cannot be cut into 4 x 4"):
        OneStepNetwork("8C3-8G-8G-8C3", (1, 10, 10), 3, PatchCarry(grid=4))
    with pytest.raises(InputError, match="nothing to merge"):
        OneStepNetwork("8C3-8G-8G-8G", (1, 3, 3), 3, PatchCarry(grid=1))
    with pytest.raises(InputError, match="larger than the last map"):
        OneStepNetwork("8C3", (1, 3, 3), 3, PatchCarry(grid=1), head_size=4)
