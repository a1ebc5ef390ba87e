import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from firstspike.decision import PAPERS, STRICT, FirstSpike, Score, Silent, Ties

T = 8
TIES: list[Ties] = ["wrong", "label", "lowest", "membrane"]
SILENT: list[Silent] = ["wrong", "membrane"]

CLEAR, TIE, SILENCE, ALL_TIE = [5, 2, T, 3], [4, 2, 2, T], [T, T, T, T], [1, 1, 1, 1]
MEMBRANE = [0.5, -1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("rule", "times", "decision"),
    [
        # One output is first: every rule takes it, whatever the membranes say.
        *[
            (FirstSpike(ties=t, silent=s), CLEAR, 1)
            for t in ("wrong", "lowest", "membrane")
            for s in SILENT
        ],
        (FirstSpike(ties="wrong"), TIE, -1),
        (FirstSpike(ties="lowest"), TIE, 1),
        # 3 has the largest membrane, but only 1 and 2 lead.
        (FirstSpike(ties="membrane"), TIE, 2),
        (FirstSpike(ties="wrong"), ALL_TIE, -1),
        (FirstSpike(ties="lowest"), ALL_TIE, 0),
        (FirstSpike(ties="membrane"), ALL_TIE, 3),
        # Silence is no tie.
        (FirstSpike(ties="wrong", silent="wrong"), SILENCE, -1),
        (FirstSpike(ties="lowest", silent="wrong"), SILENCE, -1),
        (FirstSpike(ties="membrane", silent="wrong"), SILENCE, -1),
        (FirstSpike(ties="wrong", silent="membrane"), SILENCE, 3),
        (FirstSpike(ties="lowest", silent="membrane"), SILENCE, 3),
        (FirstSpike(ties="membrane", silent="membrane"), SILENCE, 3),
    ],
)
def test_every_policy_on_every_case(rule: FirstSpike, times: list[float], decision: int) -> None:
    found = rule.decide(torch.tensor([times], dtype=torch.float32), T, torch.tensor([MEMBRANE]))
    assert found.tolist() == [decision]
    for label in range(4):
        score = rule.score(
            torch.tensor([times], dtype=torch.float32), torch.tensor([label]), T, torch.tensor([MEMBRANE])
        )
        assert score.right == (label == decision)
        assert (score.ties, score.silent, score.count) == (times in (TIE, ALL_TIE), times == SILENCE, 1)
        assert score.rule == rule.description


def test_only_leading_membranes_are_compared_even_below_zero() -> None:
    times, membrane = torch.tensor([TIE], dtype=torch.float32), torch.tensor([[0.0, -2.0, -1.0, 3.0]])
    assert FirstSpike(ties="membrane").decide(times, T, membrane).tolist() == [2]


@pytest.mark.parametrize(
    ("times", "right"),
    [(CLEAR, {1}), (TIE, {1, 2}), (ALL_TIE, {0, 1, 2, 3}), (SILENCE, set())],
)
def test_the_papers_rule_takes_a_tie_that_holds_the_label(times: list[float], right: set[int]) -> None:
    for label in range(4):
        sample, labels = torch.tensor([times], dtype=torch.float32), torch.tensor([label])
        assert PAPERS.score(sample, labels, T).right == (label in right)
        by_membrane = FirstSpike(ties="label", silent="membrane")
        expected = {3} if times == SILENCE else right
        assert by_membrane.score(sample, labels, T, torch.tensor([MEMBRANE])).right == (label in expected)


@settings(deadline=None)
@given(
    rows=st.lists(st.lists(st.sampled_from([0, 1, 3, T]), min_size=3, max_size=3), min_size=0, max_size=6),
    ties=st.sampled_from(TIES),
    silent=st.sampled_from(SILENT),
    seed=st.integers(0, 1000),
)
def test_scores_are_those_of_a_naive_loop(
    rows: list[list[int]], ties: Ties, silent: Silent, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (len(rows),), generator=generator)
    membranes = torch.randn(len(rows), 3, generator=generator)
    right = tied = quiet = 0
    for row, label, membrane in zip(rows, labels.tolist(), membranes.tolist(), strict=True):
        leading = [j for j in range(3) if row[j] == min(row) < T]
        tied += len(leading) > 1
        quiet += not leading
        if not leading:
            chosen = {max(range(3), key=lambda j: membrane[j])} if silent == "membrane" else set()
        elif len(leading) == 1 or ties == "label":
            chosen = set(leading)
        elif ties == "lowest":
            chosen = {leading[0]}
        else:
            chosen = {max(leading, key=lambda j: membrane[j])} if ties == "membrane" else set()
        right += label in chosen
    rule = FirstSpike(ties=ties, silent=silent)
    times = torch.tensor(rows, dtype=torch.float32).reshape(len(rows), 3)
    score = rule.score(times, labels, T, membranes)
    assert score == Score(right, tied, quiet, len(rows), rule.description)


def test_the_rules_by_name() -> None:
    assert FirstSpike(ties="wrong", silent="wrong") == STRICT
    assert FirstSpike(ties="label", silent="wrong") == PAPERS
    descriptions = {FirstSpike(ties=t, silent=s).description for t, s in itertools.product(TIES, SILENT)}
    assert len(descriptions) == 8
    assert STRICT.description == "first spike; ties wrong; silence wrong"
    assert PAPERS.description == "first spike; a tie that holds the label is right; silence wrong"


def test_what_a_rule_lacks_is_named() -> None:
    times, labels = torch.zeros(1, 2), torch.tensor([0])
    with pytest.raises(ValueError, match=r"FirstSpike\(ties='membrane'\) needs the membrane"):
        FirstSpike(ties="membrane").decide(times, T)
    with pytest.raises(ValueError, match=r"FirstSpike\(silent='membrane'\) needs the membrane"):
        FirstSpike(silent="membrane").score(times, labels, T)
    with pytest.raises(ValueError, match=r"ties='label' scores a known label .* use score\(\)"):
        PAPERS.decide(times, T)


def test_an_unknown_policy_is_answered_with_the_valid_ones() -> None:
    with pytest.raises(
        ValueError, match=r"FirstSpike\.ties must be one of wrong, label, lowest, membrane; "
    ):
        FirstSpike(ties="any")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"FirstSpike\.silent must be one of wrong, membrane; found 'any'"):
        FirstSpike(silent="any")  # type: ignore[arg-type]


def test_scores_of_one_rule_add() -> None:
    total = Score(3, 1, 0, 4, "a") + Score(1, 0, 2, 6, "a")
    assert total == Score(4, 1, 2, 10, "a")
    assert (total.accuracy, total.tie_rate, total.silent_rate) == (0.4, 0.1, 0.2)
    with pytest.raises(ValueError, match="scores of two rules cannot be added: a and b"):
        Score(1, 0, 0, 1, "a") + Score(1, 0, 0, 1, "b")


@pytest.mark.parametrize("rule", [STRICT, PAPERS])
def test_adding_scores_of_parts_scores_the_whole(rule: FirstSpike) -> None:
    generator = torch.Generator().manual_seed(0)
    times = torch.randint(0, T + 1, (50, 4), generator=generator).float()
    labels = torch.randint(0, 4, (50,), generator=generator)
    parts = [rule.score(times[s], labels[s], T) for s in (slice(0, 20), slice(20, 50))]
    assert parts[0] + parts[1] == rule.score(times, labels, T)
