import pytest

from firstspike.plot import learning_curves

RECORDS = [
    {"epoch": 1, "loss": 2.0, "accuracy": None, "silent_rate": 0.5},
    {"epoch": 2, "loss": 1.0, "accuracy": 0.8, "silent_rate": 0.25},
    {"epoch": 4, "loss": 0.5, "accuracy": 0.9},
]


def test_draws_the_values_of_the_records():
    figure = learning_curves(RECORDS, {"loss": ["loss"], "rates": ["accuracy", "silent_rate"]})
    assert [axes.get_title("left") for axes in figure.axes] == ["loss", "rates"]
    (loss,) = figure.axes[0].lines
    assert list(zip(*loss.get_data(), strict=True)) == [(1, 2.0), (2, 1.0), (4, 0.5)]
    accuracy, silent = figure.axes[1].lines
    assert list(accuracy.get_xdata()) == [2, 4]
    assert list(silent.get_ydata()) == [0.5, 0.25]
    legend = figure.axes[1].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["accuracy", "silent rate"]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7])
def test_there_is_an_axes_for_each_panel_and_no_other(count):
    figure = learning_curves(RECORDS, {f"panel {index}": ["loss"] for index in range(count)})
    assert len(figure.axes) == count


def test_a_single_epoch_is_a_visible_point():
    figure = learning_curves(RECORDS[:1], {"loss": ["loss"]})
    assert figure.axes[0].lines[0].get_marker() == "o"


def test_names_the_keys_there_are():
    with pytest.raises(ValueError, match=r"no record has 'los'; they have \['accuracy', 'loss'"):
        learning_curves(RECORDS, {"loss": ["los"]})
    with pytest.raises(ValueError, match="at least one record"):
        learning_curves([], {"loss": ["loss"]})
