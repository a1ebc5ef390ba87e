"""The recipe of deep window networks: what its spike penalty adds."""

from dataclasses import replace

import torch

from firstspike.recipes.spike_losses import FirstSpikeLoss
from firstspike.recipes.window import WindowRecipe

RECIPE = WindowRecipe(
    dataset="digits",
    layout="4C3-E2-6C3-F6",
    in_steps=8,
    steps=4,
    out_steps=16,
    loss=FirstSpikeLoss(sharpness=8.0, label_delay=1.0),
    precision="float32",
)


def test_the_penalty_is_the_weighted_mean_of_hidden_values_and_so_is_its_gradient():
    torch.manual_seed(0)
    network = RECIPE.build((1, 8, 8), 10).train()
    pixels = torch.randint(0, 256, (16, 8, 8), dtype=torch.uint8)
    labels = torch.arange(16) % 10
    free, penalised = (replace(RECIPE, spike_penalty=weight) for weight in (0.0, 0.25))
    plain = free.batch_loss(network, pixels, labels)
    values, _ = network.trace(pixels.unsqueeze(1))
    expected = plain + 0.25 * torch.cat([part.flatten() for part in values[1:]]).mean()
    wanted = torch.autograd.grad(expected, list(network.parameters()), allow_unused=True)
    loss = penalised.batch_loss(network, pixels, labels)
    found = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
    torch.testing.assert_close(loss, expected)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
