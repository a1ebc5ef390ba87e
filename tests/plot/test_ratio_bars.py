import pytest

from firstspike.plot import save_figure
from firstspike.plot.benchmarks import ratio_bars


def test_bars_run_from_one_to_the_ratio_and_marks_stand_at_the_targets(tmp_path):
    figure = ratio_bars(
        {"quick": 0.01, "slow": 3.0, "free": 0.5}, {"quick": 0.02, "slow": 2.0, "absent": 1.0}
    )
    (axes,) = figure.axes
    quick, slow, free = axes.patches
    assert [bar.get_x() + bar.get_width() for bar in axes.patches] == pytest.approx([0.01, 3.0, 0.5])
    assert len({bar.get_facecolor() for bar in (quick, slow, free)}) == 3
    marks = [line.get_xdata()[0] for line in axes.lines if len(set(line.get_xdata())) == 1]
    assert marks[:2] == [0.02, 2.0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["quick", "slow", "free"]
    assert save_figure(figure, tmp_path / "a.png").stat().st_size < 200_000


@pytest.mark.parametrize("ratios", [{}, {"a": 0.0}])
def test_refuses_what_a_logarithm_cannot_show(ratios):
    with pytest.raises(ValueError, match="ratios above 0"):
        ratio_bars(ratios)
