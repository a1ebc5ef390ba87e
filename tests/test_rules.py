import dataclasses
import math
from typing import Any

import pytest

from firstspike.rules import ExactRule, RunningMaxRule, StraightThroughRule, TemporalRule


@pytest.mark.parametrize(
    ("field", "choices"),
    [
        ("norm", "none, l1, l2"),
    ],
)
def test_an_unknown_choice_is_answered_with_the_valid_ones(field: str, choices: str) -> None:
    unknown: dict[str, Any] = {field: "other"}
    message = f"TemporalRule.{field} must be one of {choices}; found 'other'"
    with pytest.raises(ValueError, match=f"^{message}$"):
        TemporalRule(**unknown)
    for choice in choices.split(", "):
        assert getattr(TemporalRule(**{field: choice}), field) == choice


def test_the_straight_through_rule_names_its_choices() -> None:
    with pytest.raises(ValueError, match="must be one of closed, one_sided, smooth, open; found 'shut'"):
        StraightThroughRule(saturation="shut")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_scales_must_be_above_zero(value: float) -> None:
    with pytest.raises(ValueError, match=r"ExactRule\.min_slope must be above 0"):
        ExactRule(min_slope=value)
    with pytest.raises(ValueError, match=r"RunningMaxRule\.width must be above 0"):
        RunningMaxRule(width=value)


@pytest.mark.parametrize("levels", [(), (-1, 2), (3, 3), (5, 2), (0, 2.5)])
def test_levels_are_ascending_whole_steps(levels: Any) -> None:
    with pytest.raises(ValueError, match=r"RunningMaxRule\.levels must be ascending whole steps"):
        RunningMaxRule(levels=levels)
    assert RunningMaxRule(levels=[1, 4]).levels == (1, 4)  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", [TemporalRule(), ExactRule(), RunningMaxRule(), StraightThroughRule()])
def test_rules_are_values(rule: Any) -> None:
    assert rule == dataclasses.replace(rule)
    assert hash(rule) == hash(dataclasses.replace(rule))
    name = dataclasses.fields(rule)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(rule, name, getattr(rule, name))
