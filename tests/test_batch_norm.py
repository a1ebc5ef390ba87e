"""Batch normalisation's statistics, renewed on plain images."""

import torch

from firstspike.batch_norm import BatchNorm, renew_statistics


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
    torch.testing.assert_close(norm.running_variance, variances)
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
    assert model[0].gain.grad is None
