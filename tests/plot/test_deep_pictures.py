"""Pictures of deep networks: what they draw, and what they refuse."""

import pytest

from firstspike.plot.deep import deadline_curves, depth_curves, latency_shares, layer_bars


def test_a_line_per_start_over_the_layers():
    figure = depth_curves({"one": [1.0, 0.9, 0.8], "two": [1.0, 0.4, 0.0]}, quantity="sd")
    (axes,) = figure.axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes.get_lines()}
    assert lines == {"one": [[1, 1.0], [2, 0.9], [3, 0.8]], "two": [[1, 1.0], [2, 0.4], [3, 0.0]]}
    assert axes.get_ylabel() == "sd"


def test_shares_add_up_step_by_step():
    figure = latency_shares({"net": [0.25, 0.5, 0.0, 0.125]}, title="when")
    (line,) = figure.axes[0].get_lines()
    assert line.get_ydata().tolist() == [0.25, 0.75, 0.75, 0.875]


def test_what_a_deadline_leaves_is_drawn_with_its_worst_class():
    figure = deadline_curves({"net": ([0.0, 0.5, 0.75], [0.0, 0.25, 0.5])}, title="until")
    mean, worst = figure.axes[0].get_lines()
    assert mean.get_ydata().tolist() == [0.0, 0.5, 0.75]
    assert worst.get_ydata().tolist() == [0.0, 0.25, 0.5]
    assert mean.get_color() == worst.get_color()
    assert mean.get_label() == "net"


def test_a_panel_per_network_and_a_bar_per_layer():
    figure = layer_bars({"a": [0.2, 0.3], "b": [0.1, 0.5, 1.0]}, quantity="spikes")
    heights = [[bar.get_height() for bar in axes.patches] for axes in figure.axes]
    assert heights == [[0.2, 0.3], [0.1, 0.5, 1.0]]


@pytest.mark.parametrize("empty", [{}, {"a": []}])
def test_nothing_to_draw_is_refused(empty):
    for draw in (lambda: depth_curves(empty, quantity="x"), lambda: latency_shares(empty)):
        with pytest.raises(ValueError, match="needs"):
            draw()
    with pytest.raises(ValueError, match="needs"):
        layer_bars(empty, quantity="x")
    with pytest.raises(ValueError, match="needs"):
        deadline_curves({name: (values, values) for name, values in empty.items()})
