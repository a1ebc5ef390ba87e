"""The weights of plain torch networks in a stack: what fits goes in, and the rest is said."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import refused
from safetensors.torch import save_file

import firstspike as fs
from firstspike.support import InputError

# Fine levels, and what a neuron gives is its membrane.
WIDE = fs.Window(low=0.0, high=4.0, input_high=4.0, steps=16384)


def plain(*, bias=True, seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Conv2d(2, 3, (3, 2), stride=2, bias=bias),
        torch.nn.ReLU(),
        torch.nn.ConvTranspose2d(3, 4, 2, stride=2, bias=bias),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(4 * 6 * 6, 7, bias=bias),
        torch.nn.ReLU(),
        torch.nn.Linear(7, 7, bias=bias),
    )


def stack(neuron=WIDE, **how):
    return fs.Stack(
        fs.Conv2d(2, 3, (3, 2), replace(neuron, input_high=1.0), stride=2, **how),
        fs.ConvTranspose2d(3, 4, 2, neuron, stride=2, **how),
        fs.Linear(4 * 6 * 6, 7, neuron, **how),
        fs.Linear(7, 7, neuron, **how),
        steps=16384,
    )


def test_the_stack_computes_what_the_module_does(tmp_path):
    module, net = plain(), stack()
    loaded = fs.weights.load(net, module.state_dict())
    assert loaded.complete
    assert [match.source for match in loaded.matches] == list(module.state_dict())
    images = torch.rand(5, 2, 7, 7, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        spikes, membrane = net.read(net.encode(images))
        # Nothing was cut off at the high end.
        assert all(bool((s.times > 0).all()) for s in spikes[1:])
        torch.testing.assert_close(membrane, module(images), atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_any_precision_becomes_the_stacks(kind):
    module, net = plain().to(kind), stack()
    fs.weights.load(net, module.state_dict())
    assert net[0].weight.dtype == torch.float32
    assert torch.equal(net[0].weight, module[0].weight.float())


def test_numpy_arrays_and_causal_neurons_which_keep_their_weights_otherwise():
    module = torch.nn.Sequential(torch.nn.Linear(4, 5, bias=False), torch.nn.Linear(5, 5, bias=False))
    net = fs.Stack(fs.Linear(4, 5, fs.Causal()), fs.Linear(5, 5, fs.Causal()), steps=8)
    fs.weights.load(net, {name: t.numpy() for name, t in module.state_dict().items()})
    assert torch.equal(net[0].weight, module[0].weight)
    assert torch.equal(net[1].weight, module[1].weight)
    assert net[0].weight.stride() == (1, 5)


def test_shortcuts_are_filled_too():
    shortcut = fs.Connection.linear(4, 5, source=0)
    net = fs.Stack(fs.Linear(4, 3), fs.Linear(3, 5, shortcuts=[shortcut]), steps=8)
    first, second, around = torch.nn.Linear(4, 3), torch.nn.Linear(3, 5), torch.nn.Linear(4, 5, bias=False)
    module = torch.nn.ModuleDict({"a": first, "b": second, "c": around})
    assert fs.weights.load(net, module.state_dict()).complete
    assert torch.equal(shortcut.weight, around.weight)


def test_a_file_is_taken_in_the_order_of_counted_names(tmp_path):
    layers = [torch.nn.Linear(6, 6) for _ in range(12)]
    save_file(torch.nn.Sequential(*layers).state_dict(), tmp_path / "m.safetensors")
    net = fs.Stack(*(fs.Linear(6, 6) for _ in range(12)), steps=8)
    assert fs.weights.load(net, tmp_path / "m.safetensors").complete
    for ours, theirs in zip(net, layers, strict=True):
        assert torch.equal(ours.weight, theirs.weight)
    # Of a dictionary it is its own.
    turned = dict(reversed(torch.nn.Sequential(*layers).state_dict().items()))
    fs.weights.load(net, turned)
    assert torch.equal(net[0].weight, layers[11].weight)


def test_names_out_of_order_find_their_layers_by_shape(tmp_path):
    module = torch.nn.ModuleDict({"features": torch.nn.Linear(5, 4), "classifier": torch.nn.Linear(4, 3)})
    save_file(module.state_dict(), tmp_path / "m.safetensors")
    net = fs.Stack(fs.Linear(5, 4), fs.Linear(4, 3), steps=8)
    assert fs.weights.load(net, tmp_path / "m.safetensors").complete
    assert torch.equal(net[0].weight, module["features"].weight)


def unchanged(net, source, *words, **how):
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with refused(InputError, *words):
        fs.weights.load(net, source, **how)
    assert all(tensor.equal(net.state_dict()[name]) for name, tensor in before.items())


def test_what_does_not_fit_is_listed_with_the_reason():
    net = stack()
    source = plain().state_dict()
    source["5.weight"] = torch.zeros(7, 100)
    source["head.norm.weight"] = torch.ones(7)
    unchanged(
        net, source,
        "layers.2.weight (7, 144): no weights of this shape are left", "layers.2.bias (7,): nor",
        "5.weight (7, 100): left over", "5.bias (7,): left over", "head.norm.weight (7,): left over",
        "strict=False",
    )  # fmt: skip
    loaded = fs.weights.load(net, source, strict=False)
    assert not loaded.complete
    assert torch.equal(net[3].weight, source["7.weight"])
    lines = str(loaded).splitlines()
    assert lines[0].split() == ["layers.0.weight", "(3,", "2,", "3,", "2)", "0.weight"]
    assert any("layers.2.weight" in line and "no weights of this shape are left" in line for line in lines)
    assert len(lines) == len(loaded.matches) == 8 + 3


def test_a_bias_on_one_side_only_is_said_with_what_to_do():
    unchanged(
        stack(), plain(bias=False).state_dict(), "layers.0.bias (3,): the source has none", "bias=False"
    )
    unchanged(stack(bias=False), plain().state_dict(), "0.bias (3,): layers.0 has none", "bias=True")
    net = stack(bias=False)
    assert not fs.weights.load(net, plain().state_dict(), strict=False).complete
    assert torch.equal(net[3].weight, plain()[7].weight)


def test_nothing_that_fits_is_refused_even_if_not_strict():
    unchanged(stack(), torch.nn.Linear(3, 3).state_dict(), "left over", strict=False)
    unchanged(stack(), {}, "no weights of this shape", strict=False)
    unchanged(stack(), {"weight": torch.zeros(7, 7, dtype=torch.int64)}, "left over", strict=False)
    unchanged(stack(), {"0.weight": torch.zeros(())}, "left over", strict=False)


def test_a_bare_module_has_no_prefix():
    module, net = torch.nn.Linear(3, 2), fs.Stack(fs.Linear(3, 2), steps=8)
    assert fs.weights.load(net, module.state_dict()).complete
    assert torch.equal(net[0].bias, module.bias)


@pytest.mark.parametrize("strict", [True, False])
def test_batch_normalisation_is_to_be_converted(strict):
    module = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.BatchNorm1d(4))
    net = fs.Stack(fs.Linear(5, 4), steps=8)
    unchanged(net, module.state_dict(), "batch normalisation (1)", "from_torch", strict=strict)


def test_weights_that_are_not_finite_are_refused():
    source = plain().state_dict()
    source["7.bias"][3] = np.inf
    unchanged(stack(), source, "7.bias")


def test_another_file_is_refused_by_its_name(tmp_path):
    (tmp_path / "m.txt").write_text("no tensors")
    unchanged(stack(), tmp_path / "m.txt", "m.txt is damaged", "give a safetensors file")
    with pytest.raises(FileNotFoundError):
        fs.weights.load(stack(), tmp_path / "nothing")


class Trap:
    """What writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "run")


@pytest.mark.parametrize("how", [{}, {"_use_new_zipfile_serialization": False}])
def test_a_pickle_of_torch_is_named_as_one_wherever_a_file_is_expected_and_not_run(tmp_path, how):
    file, sprung = tmp_path / "m.pt", tmp_path / "sprung"
    torch.save({"weights": plain().state_dict(), "trap": Trap(sprung)}, file, **how)
    words = f"{file} is a pickled file of torch", "from_torch", "safetensors.torch.save_file"
    unchanged(stack(), file, *words)
    with refused(InputError, *words):
        fs.from_onnx(file, torch.rand(2, 2, 5, 5, generator=torch.Generator().manual_seed(0)))
    with refused(InputError, *words):
        fs.evaluate(file)
    assert not sprung.exists()


def test_torchscript_is_no_damaged_file_either(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(plain().eval(), torch.zeros(1, 2, 7, 6)).save(tmp_path / "m.pt")
    unchanged(stack(), tmp_path / "m.pt", "is a pickled file of torch")


def test_a_module_is_told_to_give_its_state():
    with refused(TypeError, "found a Sequential", "give its state_dict()"):
        fs.weights.load(stack(), plain())
    with refused(TypeError, "expected a safetensors file or a state_dict, found a list"):
        fs.weights.load(stack(), [])
