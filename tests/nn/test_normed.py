"""Batch normalisation's statistics, renewed on plain images."""

import pytest
import torch

from firstspike.nn.normed import BatchNorm, NormedConnection, connect, renew_statistics, round_to_grid


def test_renewed_statistics_are_the_mean_of_the_batches_and_forget_what_was_before():
    torch.manual_seed(0)
    model = torch.nn.Sequential(BatchNorm(3)).eval()
    norm = model[0]
    norm.running_mean.fill_(100)
    batches = torch.randn(4, 10, 3, 2, 2) * torch.tensor([1.0, 2.0, 3.0]).reshape(3, 1, 1) + 5
    renew_statistics(model, batches)
    means = batches.mean((1, 3, 4)).mean(0)
    variances = torch.stack([batch.transpose(0, 1).flatten(1).var(1) for batch in batches]).mean(0)
    torch.testing.assert_close(norm.running_mean, means)
    torch.testing.assert_close(norm.running_var, variances)
    assert not model.training
    # Training goes on as before: a tenth of the way per batch.
    model.train()(batches[0])
    first = batches[0].transpose(0, 1).flatten(1).mean(1)
    torch.testing.assert_close(norm.running_mean, 0.9 * means + 0.1 * first)


def test_layers_behind_see_what_the_ones_before_make_of_the_batch():
    torch.manual_seed(0)
    model = torch.nn.Sequential(BatchNorm(2), torch.nn.ReLU(), BatchNorm(2))
    batch = torch.randn(500, 2) * 7 - 3
    renew_statistics(model, [batch])
    gain, shift = model[0].folded()
    inner = torch.relu(batch * gain + shift)
    torch.testing.assert_close(model[2].running_mean, inner.mean(0), rtol=1e-3, atol=1e-3)


def test_a_model_without_normalisation_is_not_run():
    seen = []

    class Watched(torch.nn.Module):
        def forward(self, batch):
            seen.append(batch)

    renew_statistics(Watched(), [torch.zeros(1)])
    assert seen == []


def test_no_gradient_is_kept():
    model = torch.nn.Sequential(BatchNorm(3))
    renew_statistics(model, [torch.randn(4, 3, requires_grad=True)])
    assert not model[0].running_mean.requires_grad
    assert model[0].weight.grad is None


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 3, 3)])
@pytest.mark.parametrize("on_grid", [True, False])
def test_a_connection_folds_its_normalisation(shape, on_grid):
    torch.manual_seed(0)
    connection = NormedConnection(shape, stride=1, on_grid=on_grid)
    torch.nn.init.uniform_(connection.norm.weight, 0.5, 2)
    torch.nn.init.uniform_(connection.norm.bias, -0.5, 0.5)
    values = torch.randn(20, 4, *([5] * (len(shape) - 2)))
    renew_statistics(connection, [values])
    trained, folded = connection.train()(values), connection.eval()(values)
    # The running variance is that of a sample, the batch's that of the batch itself.
    torch.testing.assert_close(folded, trained, rtol=0.05, atol=0.05)
    weight, bias = connection.folded()
    for part in (weight, bias):
        assert torch.equal(round_to_grid(part), part) == on_grid
    torch.testing.assert_close(connect(values, weight, bias), folded)


@pytest.mark.parametrize("counted", [True, False])
def test_weights_of_torchs_batch_norm_load_and_give_the_same(counted):
    torch.manual_seed(0)
    theirs, ours = torch.nn.BatchNorm2d(3), BatchNorm(3)
    theirs(torch.randn(8, 3, 4, 4) * 2 + 1)
    torch.nn.init.uniform_(theirs.weight)
    state = {name: value for name, value in theirs.state_dict().items() if counted or "num" not in name}
    ours.load_state_dict(state)
    torch.nn.Sequential(ours).load_state_dict({f"0.{name}": value for name, value in state.items()})
    values = torch.randn(5, 3, 4, 4)
    torch.testing.assert_close(ours.eval()(values), theirs.eval()(values))
    with pytest.raises(RuntimeError, match="other"):
        ours.load_state_dict({**state, "other": torch.zeros(1)})
