import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from builders import refused, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from firstspike import FirstSpike, Membrane, Score, Spikes, Verdict, Votes
from firstspike.decision import Decoder, Silent, Ties

T = 8
TIES: list[Ties] = ["wrong", "label"]
SILENT: list[Silent] = ["wrong", "membrane"]
CLEAR, TIE, SILENCE, ALL_TIE = [5, 2, T, 3], [4, 2, 2, T], [T, T, T, T], [1, 1, 1, 1]
MEMBRANE = torch.tensor([[0.5, -1.0, 2.0, 3.0]])
RULES: list[Decoder] = [
    FirstSpike(),
    FirstSpike(ties="label", silent="membrane"),
    Votes(neurons_per_class=1),
    Votes(weighting="earliest", neurons_per_class=1),
    Membrane(),
]


# The first spike


@pytest.mark.parametrize(
    ("rule", "times", "decision"),
    [
        # One output is first: every rule takes it, whatever the membranes say.
        *[(FirstSpike(ties=t, silent=s), CLEAR, 1) for t, s in itertools.product(TIES, SILENT)],
        *[(FirstSpike(ties=t), times, -1) for t in TIES for times in (TIE, ALL_TIE)],
        # Silence is no tie.
        *[(FirstSpike(ties=t, silent="wrong"), SILENCE, -1) for t in TIES],
        *[(FirstSpike(ties=t, silent="membrane"), SILENCE, 3) for t in TIES],
    ],
)
def test_every_policy_on_every_case(rule: FirstSpike, times: list[int], decision: int) -> None:
    verdict = rule.decide(Spikes([times], T), MEMBRANE)
    assert verdict.label.tolist() == [decision]
    assert verdict.steps.tolist() == [min(times)]
    for label in range(4):
        score = verdict.score([label])
        among = rule.ties == "label" and min(times) < T and times[label] == min(times)
        assert score.right == (label == decision or among)
        assert (score.ties, score.silent, score.count) == (times in (TIE, ALL_TIE), times == SILENCE, 1)
        assert score.rule == rule.rule


@settings(deadline=None)
@given(
    rows=st.lists(st.lists(st.sampled_from([0, 1, 3, T]), min_size=3, max_size=3), max_size=6),
    ties=st.sampled_from(TIES),
    silent=st.sampled_from(SILENT),
    seed=st.integers(0, 1000),
)
def test_scores_are_those_of_a_naive_loop(
    rows: list[list[int]], ties: Ties, silent: Silent, seed: int
) -> None:
    labels = torch.randint(0, 3, (len(rows),), generator=seeded(seed))
    membranes = torch.randn(len(rows), 3, generator=seeded(seed))
    right = tied = quiet = 0
    for row, label, membrane in zip(rows, labels.tolist(), membranes.tolist(), strict=True):
        leading = [j for j in range(3) if row[j] == min(row) < T]
        tied += len(leading) > 1
        quiet += not leading
        if not leading:
            chosen = {max(range(3), key=lambda j: membrane[j])} if silent == "membrane" else set()
        else:
            chosen = set(leading) if len(leading) == 1 or ties == "label" else set()
        right += label in chosen
    rule = FirstSpike(ties=ties, silent=silent)
    out = Spikes(torch.tensor(rows).reshape(len(rows), 3), T)
    score = rule.decide(out, membranes).score(labels)
    assert score == Score(right, tied, quiet, len(rows), rule.rule)


def test_each_rule_has_its_own_words() -> None:
    words = {FirstSpike(ties=t, silent=s).rule for t, s in itertools.product(TIES, SILENT)}
    assert len(words) == 4
    assert FirstSpike().rule == "first spike; ties wrong; silence wrong"


# Votes and membranes


def test_votes_by_hand() -> None:
    # Two classes of two neurons, T = 4: class 0 spikes at 0 and never, class 1 at 1 and 2.
    out = Spikes([[0, 4, 1, 2]], 4)
    cumulative = out.raster().cumsum(0)
    exponential = Votes(gamma=2, scale=10, neurons_per_class=2)
    assert exponential.logits(cumulative).tolist() == [[10 * 0.5, 10 * 0.375]]
    linear = Votes(weighting="linear", gamma=2, scale=1, neurons_per_class=2)
    assert linear.logits(cumulative).tolist() == [[1.0, (1.5 + 1.0) / 2]]
    earliest = Votes(weighting="earliest", gamma=2, scale=1, neurons_per_class=2)
    assert earliest.logits(cumulative).tolist() == [[2.0, 1.5]]


def test_membranes_by_hand() -> None:
    rule = Membrane(neurons_per_class=2)
    verdict = rule.decide(Spikes([[4, 4, 4, 4]], 4), torch.tensor([[1.0, 2.0, 3.0, 5.0]]))
    assert rule.mean_membrane(torch.tensor([[1.0, 2.0, 3.0, 5.0]])).tolist() == [[1.5, 4.0]]
    assert (verdict.label.tolist(), verdict.steps.tolist(), verdict.silent.tolist()) == ([1], [4], [True])


def test_membranes_that_share_the_lead_give_no_class() -> None:
    silent, membrane = Spikes([[8, 8]], 8), torch.tensor([[1.0, 1.0]])
    for rule in (Membrane(), FirstSpike(silent="membrane")):
        verdict = rule.decide(silent, membrane)
        assert verdict.label.tolist() == [-1]
        assert verdict.score([0]).accuracy == 0
        assert rule.decide(silent, torch.tensor([[1.0, 2.0]])).label.tolist() == [1]
    assert Membrane().decide(silent, membrane).tied.tolist() == [True]


def test_equal_spikes_in_another_order_tie() -> None:
    one = torch.randint(0, 9, (500, 10), generator=seeded(0))
    two = one[:, torch.randperm(10, generator=seeded(0))]
    verdict = Votes().decide(Spikes(torch.cat([one, two], 1), 8))
    assert bool((verdict.tied | verdict.silent).all())
    assert bool((verdict.steps == 8).all())
    assert bool((verdict.label == -1).all())


@pytest.mark.parametrize(("votes", "most"), [(Votes(neurons_per_class=1), 57), (Votes(gamma=2), 35)])
def test_exponential_votes_of_many_steps_are_refused_before_a_late_spike_counts_as_silence(
    votes: Votes, most: int
) -> None:
    late = [most - 1] * votes.neurons_per_class + [most] * votes.neurons_per_class
    assert votes.decide(Spikes([late], most)).label.tolist() == [0]
    with refused(ValueError, f"gamma={votes.gamma:g}", f"{most + 1} steps", '"linear"'):
        votes.decide(Spikes([[0] * len(late)], most + 1))
    assert len(Votes(weighting="linear").worth(65_535)) == 65_536


def test_votes_of_neighbouring_steps_differ() -> None:
    assert Votes(gamma=1 + 1e-9).worth(4)[0] == 1
    with refused(ValueError, "4 steps apart"):
        Votes(gamma=1 + 1e-12).worth(4)


def test_decisions_by_hand() -> None:
    votes = Votes(gamma=2, neurons_per_class=2)
    verdict = votes.decide(Spikes([[0, 4, 1, 2], [4, 4, 4, 4], [0, 4, 0, 4], [0, 0, 4, 4]], 4))
    # 1 against 1/2 + 1/4; silence; one spike each; two against none.
    assert verdict.label.tolist() == [0, -1, -1, 0]
    assert verdict.silent.tolist() == [False, True, False, False]
    assert verdict.tied.tolist() == [False, False, True, False]
    # Two spikes at step 0 lead by 2; two at step 1 could only bring 1.
    assert verdict.steps.tolist()[3] == 0
    first = Votes(weighting="earliest", neurons_per_class=2).decide(Spikes([[3, 4, 1, 2], [2, 4, 2, 4]], 4))
    assert (first.label.tolist(), first.steps.tolist()) == ([1, -1], [1, 2])
    assert first.tied.tolist() == [False, True]


@pytest.mark.parametrize("weighting", ["exponential", "linear"])
def test_a_decision_stands_from_the_first_step_that_no_future_can_change(weighting: Any) -> None:
    """By brute force over all that the neurons silent so far may still do."""
    steps, votes = 3, Votes(weighting=weighting, gamma=1.5, neurons_per_class=2)
    worth = votes.worth(steps)
    possible = list(itertools.product(range(steps + 1), repeat=4))

    def winner(times: tuple[int, ...]) -> int | None:
        totals = [sum(worth[t] for t in times[:2]), sum(worth[t] for t in times[2:])]
        return None if totals[0] == totals[1] else int(totals[1] > totals[0])

    verdict = votes.decide(Spikes(possible, steps))
    for times, label, tied, settled in zip(
        possible, verdict.label.tolist(), verdict.tied.tolist(), verdict.steps.tolist(), strict=True
    ):
        wins = winner(times)
        assert label == (-1 if wins is None else wins)
        assert tied == (wins is None and min(times) < steps)
        expected = steps
        for step in reversed(range(steps)):
            futures = itertools.product(*([t] if t <= step else range(step + 1, steps + 1) for t in times))
            if {winner(future) for future in futures} == {wins} and wins is not None:
                expected = step
        assert settled == expected, (times, worth)


# Scores


@pytest.mark.parametrize("rule", RULES)
def test_scores_of_parts_add_to_that_of_the_whole(rule: Decoder) -> None:
    out = Spikes(torch.randint(0, T + 1, (50, 4), generator=seeded(0)), T)
    labels = torch.randint(0, 4, (50,), generator=seeded(1))
    membrane = torch.randn(50, 4, generator=seeded(2))
    parts = [rule.decide(out[s], membrane[s]).score(labels[s]) for s in (slice(0, 20), slice(20, 50))]
    total = parts[0] + parts[1]
    assert total == rule.decide(out, membrane).score(labels)
    assert total.accuracy == total.right / 50
    with refused(ValueError, "two rules", "another"):
        total + Score(1, 0, 0, 1, "another")


@pytest.mark.parametrize("rule", RULES)
def test_a_score_of_nothing_is_no_number(rule: Decoder) -> None:
    score = rule.decide(Spikes(torch.zeros(0, 3), T), torch.zeros(0, 3)).score(
        torch.zeros(0, dtype=torch.int64)
    )
    assert score.count == 0
    assert all(math.isnan(share) for share in (score.accuracy, score.tie_rate, score.silent_rate))
    assert "nan" in str(score)


# What is refused


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("labels", "error", "words"),
    [
        (torch.zeros(4, 1, dtype=torch.int64), ValueError, ("(4,)", "(4, 1)")),
        (torch.tensor(0), ValueError, ("(4,)", "()")),
        ([0], ValueError, ("(4,)", "(1,)")),
        ([0, 1, -1, 0], ValueError, ("0 ... 2", "-1")),
        ([0, 1, 3, 0], ValueError, ("0 ... 2", "3")),
        (np.array([0, 1, 255, 0], np.uint8), ValueError, ("0 ... 2", "255")),
        ([0.0, 1.0, 2.0, 0.0], TypeError, ("labels", "float")),
        ([True, False, True, False], TypeError, ("labels", "bool")),
        (["0", "1", "2", "0"], TypeError, ("labels",)),
        (None, TypeError, ("labels",)),
    ],
)
def test_labels_that_are_none_are_no_score(
    rule: Decoder, labels: Any, error: type[Exception], words: tuple[str, ...]
) -> None:
    # Ties and silence have the label -1, which no label may meet.
    verdict = rule.decide(Spikes([[1, 2, 3], [T, T, T], [1, 1, 1], [3, 2, 1]], T), torch.zeros(4, 3))
    for ask in (verdict.score, verdict.right):
        with refused(error, *words):
            ask(labels)


OUT = Spikes([[1, 2, 3]], T)


@pytest.mark.parametrize("rule", RULES)
def test_outputs_that_are_none_are_no_verdict(rule: Decoder) -> None:
    membrane = torch.zeros(1, 3)
    with refused(TypeError, "Spikes"):
        rule.decide(OUT.times, membrane)  # type: ignore[arg-type]
    with refused(ValueError, "(batch, outputs)", "(1, 1, 3)"):
        rule.decide(OUT.with_times(OUT.times.unsqueeze(1)), membrane)
    with refused(ValueError, "no output neurons"):
        rule.decide(Spikes(torch.zeros(2, 0), T), membrane)
    for place in range(3):
        broken = OUT.times.clone()
        broken[0, place] = math.nan
        with refused(ValueError, "NaN", "weights"):
            rule.decide(OUT.with_times(broken), membrane)


@pytest.mark.parametrize("rule", [FirstSpike(silent="membrane"), Membrane()])
@pytest.mark.parametrize(
    ("membrane", "words"),
    [
        (None, ("membranes (1, 3)", "None")),
        (torch.zeros(3), ("(1, 3)", "(3,)")),
        (torch.zeros(2, 3), ("(1, 3)", "(2, 3)")),
        (torch.tensor([[0.0, math.nan, 0.0]]), ("NaN", "weights")),
    ],
)
def test_membranes_that_a_rule_needs(
    rule: Decoder, membrane: Tensor | None, words: tuple[str, ...]
) -> None:
    with refused(ValueError, *words):
        rule.decide(OUT, membrane)


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        (FirstSpike, {"ties": "lowest"}, ("FirstSpike.ties", "wrong, label", "lowest")),
        (FirstSpike, {"silent": "any"}, ("FirstSpike.silent", "wrong, membrane", "any")),
        (Votes, {"weighting": "mean"}, ("Votes.weighting", "exponential, linear, earliest")),
        (Votes, {"gamma": 1.0}, ("Votes.gamma", "1")),
        (Votes, {"weighting": "linear", "gamma": 0.0}, ("Votes.gamma", "0")),
        (Votes, {"gamma": math.inf}, ("Votes.gamma", "inf")),
        (Votes, {"scale": 0.0}, ("Votes.scale", "0")),
        (Votes, {"scale": math.nan}, ("Votes.scale", "nan")),
        (Votes, {"neurons_per_class": 0}, ("Votes.neurons_per_class", "0")),
        (Votes, {"neurons_per_class": 1.5}, ("Votes.neurons_per_class", "integer", "1.5")),
        (Membrane, {"neurons_per_class": True}, ("Membrane.neurons_per_class", "integer")),
    ],
)
def test_other_options_are_refused_by_name(
    kind: Any, options: dict[str, Any], words: tuple[str, ...]
) -> None:
    with refused(ValueError, *words):
        kind(**options)


def test_classes_of_several_neurons_divide_the_outputs() -> None:
    for rule in (Votes(neurons_per_class=2), Votes(weighting="earliest", neurons_per_class=2)):
        with refused(ValueError, "3 outputs", "neurons_per_class=2"):
            rule.decide(OUT)
    with refused(ValueError, "3 outputs", "neurons_per_class=2"):
        Membrane(neurons_per_class=2).decide(OUT, torch.zeros(1, 3))


def test_a_verdict_of_a_report_is_the_decoders() -> None:
    verdict = Membrane().spikes.decide(OUT)
    assert isinstance(verdict, Verdict)
    assert verdict.label.tolist() == [0]
