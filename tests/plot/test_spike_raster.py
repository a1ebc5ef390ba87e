import numpy as np
import pytest

from firstspike import Spikes
from firstspike.plot import spike_raster
from firstspike.plot._layers import place_layers


def drawn(axes):
    (marks,) = axes.collections
    return np.asarray(marks.get_offsets())


def test_each_layer_has_a_panel_on_one_clock():
    layers = {
        "input": Spikes([0, 4, 3, 1], 4),
        "hidden": Spikes([4, 4, 2], 4),
        "output": Spikes([1, 3], 4),
    }
    figure = spike_raster(layers, offsets={"hidden": 4, "output": 8}, decision_step=9)
    assert [axes.get_title("left") for axes in figure.axes] == ["input", "hidden", "output"]
    assert np.array_equal(drawn(figure.axes[0]), [[0, 0], [3, 2], [1, 3]])
    assert np.array_equal(drawn(figure.axes[1]), [[6, 2]])
    assert np.array_equal(drawn(figure.axes[2]), [[9, 0], [11, 1]])
    assert len({axes.get_xlim() for axes in figure.axes}) == 1
    assert figure.axes[0].get_xlim()[1] >= 11.5
    assert figure.axes[0].get_title("right") == "3 of 4 neurons spike"
    assert any("step 9" in text.get_text() for text in figure.axes[0].texts)


def test_what_spikes_after_the_decision_is_pale():
    figure = spike_raster({"output": Spikes([5, 2, 6], 8)}, decision_step=5)
    (marks,) = figure.axes[0].collections
    alphas = marks.get_facecolor()[:, 3] if len(marks.get_facecolor()) else marks.get_edgecolor()
    strength = np.asarray(alphas if np.ndim(alphas) == 1 else alphas[:, 3])
    assert strength[0] == strength[1] == 1
    assert strength[2] < 0.5


def test_an_all_silent_layer_is_an_empty_panel():
    figure = spike_raster({"output": Spikes([16] * 10, 16)})
    assert len(drawn(figure.axes[0])) == 0
    assert figure.axes[0].get_title("right") == "0 of 10 neurons spike"


def test_layers_may_have_windows_of_their_own():
    placed = place_layers({"a": Spikes([1, 8], 8), "b": Spikes([31, 32], 32)}, {"b": 8})
    assert [layer.end for layer in placed] == [8, 40]
    assert placed[0].clock().tolist() == [1, np.inf]
    assert placed[1].clock().tolist() == [39, np.inf]
    assert placed[1].fired.tolist() == [0]


@pytest.mark.parametrize(
    ("layers", "offsets", "message"),
    [
        ({}, None, "at least one layer"),
        ({"a": Spikes([[0, 1]], 4)}, None, r"spikes of 'a' must be \(neurons,\)"),
        ({"a": Spikes([1], 4)}, {"b": 4}, r"offsets names no layer: \['b'\]"),
        ({"a": Spikes([1], 4)}, {"a": -1}, "offset of 'a' must be 0 or more"),
    ],
)
def test_refuses_what_is_no_network_activity(layers, offsets, message):
    with pytest.raises(ValueError, match=message):
        spike_raster(layers, offsets=offsets)
