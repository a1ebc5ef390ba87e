"""Optimisers that come back from a file go on as if nothing had happened."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save

from firstspike.neurons import Causal
from firstspike.nn import Linear, Stack
from firstspike.training.optimizer import (
    load_optimizer,
    module_tensors,
    optimizer_tensors,
    set_rate,
    tensors_under,
    update_average,
)

OPTIMIZERS = {
    "adam": lambda parameters: torch.optim.Adam(parameters, 0.01, (0.5, 0.999), fused=True),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, 0.01, weight_decay=0.1, fused=True),
    "adam, one by one": lambda parameters: torch.optim.Adam(parameters, 0.01, foreach=False),
    "sgd": lambda parameters: torch.optim.SGD(parameters, 0.01, weight_decay=0.1),
    "sgd with momentum": lambda parameters: torch.optim.SGD(parameters, 0.01, momentum=0.9),
}


def network():
    # Causal layers keep an input's weights together, as no layer of torch's own does.
    torch.manual_seed(0)
    return Stack(
        Linear(7, 5, neuron=Causal(), bias=True), Linear(5, 3, neuron=Causal(), bias=True), steps=8
    )


def step(model, optimizer, seed):
    source = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=source)
    optimizer.step()


def through_a_file(tensors):
    return load(save({name: tensor.contiguous() for name, tensor in tensors.items()}))


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("steps", [0, 1, 4])
def test_the_next_steps_are_the_same_to_the_bit(make, steps):
    model = network()
    optimizer = make(model.parameters())
    for index in range(steps):
        step(model, optimizer, index)
    tensors = through_a_file(module_tensors({"model": model}) | optimizer_tensors(optimizer, "optimizer"))

    other = network()
    torch.nn.init.zeros_(other.layers[0].weight)
    resumed = make(other.parameters())
    other.load_state_dict(tensors_under(tensors, "model"))
    load_optimizer(resumed, tensors, "optimizer")
    for index in range(steps, steps + 3):
        step(model, optimizer, index)
        step(other, resumed, index)
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert one.equal(two)
        assert one.stride() == two.stride()
    saved, again = (optimizer_tensors(o, "o") for o in (optimizer, resumed))
    assert saved.keys() == again.keys()
    assert all(saved[name].equal(again[name]) for name in saved)


def test_two_optimizers_do_not_mix():
    models = [network(), network()]
    optimizers = [OPTIMIZERS["adam"](model.parameters()) for model in models]
    for index, (model, optimizer) in enumerate(zip(models, optimizers, strict=True)):
        step(model, optimizer, index)
    tensors = optimizer_tensors(optimizers[0], "optimizer") | optimizer_tensors(optimizers[1], "optimizer2")
    for name, optimizer in zip(("optimizer", "optimizer2"), optimizers, strict=True):
        mine = {key.removeprefix("x/"): tensor for key, tensor in optimizer_tensors(optimizer, "x").items()}
        found = tensors_under(tensors, name)
        assert found.keys() == mine.keys()
        assert all(found[key].equal(mine[key]) for key in mine)


def test_tensors_carry_the_name_of_their_module():
    model = network()
    tensors = module_tensors({"a": model, "b": network()})
    assert sorted(tensors) == sorted(
        f"{module}/layers.{layer}.{name}"
        for module in "ab"
        for layer in (0, 1)
        for name in ("weight", "bias")
    )
    assert tensors_under(tensors, "a").keys() == model.state_dict().keys()
    assert tensors_under(tensors, "c") == {}


def test_the_rate_is_that_of_every_group():
    model = network()
    optimizer = torch.optim.SGD([{"params": [p]} for p in model.parameters()], 1.0)
    set_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25] * 4
    optimizer.param_groups[1]["rate_scale"] = 0.5
    set_rate(optimizer, 2.0)
    assert [group["lr"] for group in optimizer.param_groups] == [2.0, 1.0, 2.0, 2.0]


@given(
    decay=st.floats(0, 1, width=32),
    start=st.floats(-10, 10, width=32),
    values=st.lists(st.floats(-10, 10, width=32), max_size=6),
)
def test_the_moving_average_is_the_hand_formula(decay, start, values):
    model = torch.nn.Linear(2, 1)
    torch.nn.init.constant_(model.weight, start)
    average = copy.deepcopy(model)
    for value in values:
        torch.nn.init.constant_(model.weight, value)
        update_average(average, model, decay)
    # a_n = d^n a_0 + (1 - d) sum_k d^(n - k) w_k
    count = len(values)
    expected = decay**count * start + (1 - decay) * sum(
        decay ** (count - 1 - index) * value for index, value in enumerate(values)
    )
    assert torch.allclose(average.weight, torch.full((1, 2), expected), atol=1e-4)
    assert average.weight.requires_grad


def test_no_decay_keeps_the_last_weights_to_the_bit():
    model, average = network(), network()
    step(model, OPTIMIZERS["sgd"](model.parameters()), 0)
    update_average(average, model, 0.0)
    assert all(a.equal(b) for a, b in zip(average.parameters(), model.parameters(), strict=True))
