"""Decoders and early decisions by hand-worked cases and by brute force."""

import itertools

import pytest
import torch

from firstspike.models.raster.readout import by_membrane, decide, votes
from firstspike.models.raster.settings import Readout


def fired_by(times, num_steps):
    return torch.stack([(times <= step).float() for step in range(num_steps)])


def test_votes_by_hand():
    # Two classes of two neurons, T = 4: class 0 spikes at 0 and never, class 1 at 1 and 2.
    times = torch.tensor([[0.0, 4.0, 1.0, 2.0]])
    fired = fired_by(times, 4)
    exponential = Readout(gamma=2, scale=10, neurons_per_class=2)
    assert votes(fired, exponential).tolist() == [[0.5, 0.375]]
    linear = Readout(decoder="linear", gamma=2, neurons_per_class=2)
    assert votes(fired, linear).tolist() == [[1.0, (1.5 + 1.0) / 2]]
    membrane = torch.tensor([[[9.0, 9, 9, 9]], [[1.0, 2, 3, 5]]])
    by_last = Readout(decoder="membrane", neurons_per_class=2)
    assert by_membrane(membrane[-1], by_last).tolist() == [[1.5, 4.0]]


def test_equal_spikes_in_another_order_tie():
    source = torch.Generator().manual_seed(0)
    one = torch.randint(0, 9, (500, 10), generator=source).to(torch.float32)
    two = one[:, torch.randperm(10, generator=source)]
    verdict = decide(torch.cat([one, two], 1), 8, Readout())
    assert bool((verdict.tied | verdict.silent).all())
    assert bool((verdict.steps == 8).all())


def test_decisions_by_hand():
    readout = Readout(gamma=2, neurons_per_class=2)
    verdict = decide(torch.tensor([[0.0, 4, 1, 2], [4, 4, 4, 4], [0, 4, 0, 4], [0, 0, 4, 4]]), 4, readout)
    # 1 against 1/2 + 1/4; silence; one spike each; two against none.
    assert verdict.label.tolist()[0] == 0
    assert verdict.label.tolist()[3] == 0
    assert verdict.silent.tolist() == [False, True, False, False]
    assert verdict.tied.tolist() == [False, True, True, False]
    # Two spikes at step 0 lead by 2; two at step 1 could only bring 1.
    assert verdict.steps.tolist()[3] == 0
    by_first = Readout(decoder="first_spike", neurons_per_class=2)
    first = decide(torch.tensor([[3.0, 4, 1, 2], [2, 4, 2, 4]]), 4, by_first)
    assert (first.label.tolist()[0], first.steps.tolist()[0]) == (1, 1.0)
    assert first.tied.tolist() == [False, True]


@pytest.mark.parametrize("decoder", ["exponential", "linear"])
def test_a_decision_stands_from_the_first_step_that_no_future_can_change(decoder):
    """By brute force over all that the neurons silent so far may still do."""
    num_steps, readout = 3, Readout(decoder=decoder, gamma=1.5, neurons_per_class=2)
    worth = readout.votes(num_steps)
    possible = list(itertools.product(range(num_steps + 1), repeat=4))

    def winner(times):
        totals = [sum(worth[t] for t in times[:2]), sum(worth[t] for t in times[2:])]
        return None if totals[0] == totals[1] else int(totals[1] > totals[0])

    verdict = decide(torch.tensor(possible, dtype=torch.float32), num_steps, readout)
    for times, label, tied, steps in zip(
        possible, verdict.label.tolist(), verdict.tied.tolist(), verdict.steps.tolist(), strict=True
    ):
        assert tied == (winner(times) is None)
        assert tied or label == winner(times)
        settled = num_steps
        for step in reversed(range(num_steps)):
            futures = itertools.product(
                *([t] if t <= step else range(step + 1, num_steps + 1) for t in times)
            )
            if {winner(future) for future in futures} == {winner(times)} and winner(times) is not None:
                settled = step
        assert steps == settled, (times, worth)


def test_bad_settings_are_refused():
    for bad, message in [
        ({"decoder": "mean"}, "Readout.decoder"),
        ({"gamma": 1.0}, "gamma must be above 1"),
        ({"decoder": "linear", "gamma": 0.0}, "gamma and scale must be above 0"),
        ({"scale": 0.0}, "gamma and scale must be above 0"),
        ({"neurons_per_class": 0}, "neurons_per_class must be 1 or more"),
    ]:
        with pytest.raises(ValueError, match=message):
            Readout(**bad)
