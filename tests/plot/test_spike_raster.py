import numpy as np
import pytest
import torch

from firstspike.plot import spike_raster
from firstspike.plot._layers import place_layers


def drawn(axes):
    (marks,) = axes.collections
    return np.asarray(marks.get_offsets())


def test_each_layer_has_a_panel_on_one_clock():
    layers = {
        "input": torch.tensor([0.0, 4.0, 3.0, 1.0]),
        "hidden": torch.tensor([4, 4, 2]),
        "output": np.array([1.0, 3.0]),
    }
    figure = spike_raster(layers, 4, offsets={"hidden": 4, "output": 8}, decision_step=9)
    assert [axes.get_title("left") for axes in figure.axes] == ["input", "hidden", "output"]
    assert np.array_equal(drawn(figure.axes[0]), [[0, 0], [3, 2], [1, 3]])
    assert np.array_equal(drawn(figure.axes[1]), [[6, 2]])
    assert np.array_equal(drawn(figure.axes[2]), [[9, 0], [11, 1]])
    assert len({axes.get_xlim() for axes in figure.axes}) == 1
    assert figure.axes[0].get_xlim()[1] >= 11.5
    assert figure.axes[0].get_title("right") == "3 of 4 neurons spike"
    assert any("step 9" in text.get_text() for text in figure.axes[0].texts)


def test_what_spikes_after_the_decision_is_pale():
    figure = spike_raster({"output": torch.tensor([5, 2, 6])}, 8, decision_step=5)
    (marks,) = figure.axes[0].collections
    alphas = marks.get_facecolor()[:, 3] if len(marks.get_facecolor()) else marks.get_edgecolor()
    strength = np.asarray(alphas if np.ndim(alphas) == 1 else alphas[:, 3])
    assert strength[0] == strength[1] == 1
    assert strength[2] < 0.5


def test_an_all_silent_layer_is_an_empty_panel():
    figure = spike_raster({"output": torch.full((10,), 16)}, 16)
    assert len(drawn(figure.axes[0])) == 0
    assert figure.axes[0].get_title("right") == "0 of 10 neurons spike"


def test_layers_may_have_windows_of_their_own():
    placed = place_layers(
        {"a": torch.tensor([1, 8]), "b": torch.tensor([31, 32])}, {"a": 8, "b": 32}, {"b": 8}
    )
    assert [layer.end for layer in placed] == [8, 40]
    assert placed[0].clock().tolist() == [1, np.inf]
    assert placed[1].clock().tolist() == [39, np.inf]
    assert placed[1].fired.tolist() == [0]


@pytest.mark.parametrize(
    ("layers", "steps", "offsets", "message"),
    [
        ({}, 4, None, "at least one layer"),
        ({"a": torch.tensor([5])}, 4, None, "times of 'a' must lie in 0 ... 4"),
        ({"a": torch.tensor([0.5])}, 4, None, "whole steps"),
        ({"a": torch.zeros(2, 2)}, 4, None, r"times of 'a' must be \(neurons,\)"),
        ({"a": torch.tensor([1])}, 4, {"b": 4}, r"offsets names no layer: \['b'\]"),
        ({"a": torch.tensor([1])}, {"b": 4}, None, "num_steps names no layer"),
        ({"a": torch.tensor([1])}, {}, None, r"num_steps is missing for \['a'\]"),
        ({"a": torch.tensor([1])}, 4, {"a": -1}, "offset of 'a' must be 0 or more"),
    ],
)
def test_refuses_what_is_no_network_activity(layers, steps, offsets, message):
    with pytest.raises(ValueError, match=message):
        spike_raster(layers, steps, offsets=offsets)
