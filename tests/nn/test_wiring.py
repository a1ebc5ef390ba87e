from typing import Any

import numpy as np
import pytest
import torch
from builders import refused, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from firstspike import AvgPool2d, Causal, Conv2d, ConvTranspose2d, Linear, Window


@settings(deadline=None, max_examples=80)
@given(data=st.data())
def test_fan_out_is_what_each_input_changes(data: st.DataObject) -> None:
    groups = data.draw(st.integers(1, 2))
    kernel = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 3)))
    stride = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 3)))
    padding = data.draw(st.tuples(st.integers(0, 2), st.integers(0, 1)))
    sizes = tuple(k + data.draw(st.integers(0, 3)) for k in kernel)
    shape = (2 * groups, *sizes)
    # One input at a time, through torch's own operation with weights 1.
    each = torch.eye(int(np.prod(shape))).view(-1, *shape)
    kind = data.draw(st.sampled_from(["forward", "transposed", "pool"]))
    layer: Any
    if kind == "pool":
        layer = AvgPool2d(kernel, stride=stride)
        maps = F.avg_pool2d(each, kernel, stride)
    else:
        make, operation = (Conv2d, F.conv2d) if kind == "forward" else (ConvTranspose2d, F.conv_transpose2d)
        if kind == "transposed":
            padding = tuple(
                min(p, ((n - 1) * s + k - 1) // 2)
                for n, k, s, p in zip(sizes, kernel, stride, padding, strict=True)
            )
        how: dict[str, Any] = {"stride": stride, "padding": padding, "groups": groups}
        layer = make(2 * groups, 3 * groups, kernel, Window(), **how)
        maps = operation(each, torch.ones_like(layer.weight), **how)
    assert layer.out_shape(shape) == tuple(maps.shape[1:])
    changed = (maps != 0).flatten(1).sum(1).view(shape).float()
    assert torch.equal(layer.fan_out(shape).expand(shape), changed)


def test_initial_weights_fill_their_bound_and_follow_the_generator() -> None:
    def make(kind: Any, *sizes: Any, **how: Any) -> Tensor:
        weight: Tensor = kind(*sizes, generator=seeded(1), **how).weight
        return weight

    for kind, sizes, how, bound, mean in (
        (Linear, (400, 60, Causal(threshold=5.0)), {}, 5 / 20, 10 / 400),
        (Linear, (400, 60, Window()), {}, 1 / 20, 0),
        (Conv2d, (4, 64, 3, Causal(threshold=5.0)), {}, 5 / 6, 10 / 36),
        (Conv2d, (4, 64, 3, Causal(threshold=5.0)), {"groups": 4}, 5 / 3, 10 / 9),
        (Conv2d, (4, 64, 3, Window()), {}, 1 / 6, 0),
        (ConvTranspose2d, (4, 64, 3, Window()), {"stride": 3}, 1 / 2, 0),
    ):
        weight = make(kind, *sizes, **how)
        around = weight.detach() - mean
        assert 0.95 * bound < around.max() <= 1.0001 * bound
        assert -1.0001 * bound <= around.min() < -0.95 * bound
        assert around.mean().abs() < 0.05 * bound
        assert torch.equal(weight, make(kind, *sizes, **how))
    torch.manual_seed(3)
    one = Linear(4, 3).weight
    torch.manual_seed(3)
    assert torch.equal(one, Linear(4, 3).weight)
    assert not torch.equal(one, Linear(4, 3).weight)


@pytest.mark.parametrize("kind", [np.int64, np.int32])
def test_sizes_are_integers_of_any_kind(kind: Any) -> None:
    assert Linear(kind(4), kind(3)).wiring == Linear(4, 3).wiring
    conv = Conv2d(kind(2), kind(4), kind(3), stride=(kind(2), kind(1)), padding=kind(1), groups=kind(2))
    assert conv.wiring == Conv2d(2, 4, 3, stride=(2, 1), padding=1, groups=2).wiring
    assert Conv2d(2, 4, [3, 2]).wiring == Conv2d(2, 4, (3, 2)).wiring  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [Conv2d, ConvTranspose2d])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"in_channels": 0}, ("in_channels", "1 or more", "0")),
        ({"out_channels": -1}, ("out_channels", "-1")),
        ({"in_channels": 2.0}, ("in_channels", "integer", "2.0")),
        ({"groups": 0}, ("groups", "0")),
        ({"groups": 4}, ("2 input and 4 output channels", "4 groups")),
        ({"kernel_size": 0}, ("kernel_size", "1 or more", "0")),
        ({"kernel_size": (3, 3, 3)}, ("kernel_size", "(3, 3, 3)")),
        ({"kernel_size": 1.5}, ("kernel_size", "1.5")),
        ({"kernel_size": "3"}, ("kernel_size", "3")),
        ({"stride": (1, 0)}, ("stride", "1 or more", "(1, 0)")),
        ({"padding": -1}, ("padding", "0 or more", "-1")),
    ],
)
def test_sizes_of_convolutions_that_are_none(
    make: Any, options: dict[str, Any], words: tuple[str, ...]
) -> None:
    with refused(ValueError, *words):
        make(**({"in_channels": 2, "out_channels": 4, "kernel_size": 3} | options))


@pytest.mark.parametrize("make", [Conv2d, ConvTranspose2d])
@pytest.mark.parametrize("size", ["in_channels", "out_channels", "groups"])
def test_a_size_is_refused_by_the_name_of_its_layer(make: Any, size: str) -> None:
    with pytest.raises(ValueError, match=rf"^{make.__name__}\.{size} must be"):
        make(**({"in_channels": 2, "out_channels": 4, "kernel_size": 3} | {size: 0}))


@pytest.mark.parametrize("sizes", [(0, 3), (3, 0), (-1, 3), (3.0, 2), (True, 2), ("3", 2)])
def test_sizes_of_dense_layers_that_are_none(sizes: tuple[Any, Any]) -> None:
    with refused(ValueError, "features", "1 or more"):
        Linear(*sizes)


def test_maps_that_leave_no_output() -> None:
    with refused(ValueError, "kernel of 5 x 5", "map 2 x 2", "padding 1 x 1"):
        Conv2d(2, 1, 5, padding=1).out_shape((2, 2, 2))
    with refused(ValueError, "padding of 2 x 2", "map 2 x 2"):
        ConvTranspose2d(2, 1, 2, padding=2).out_shape((2, 2, 2))
    for layer in (Conv2d(2, 1, 2), ConvTranspose2d(2, 1, 2)):
        for shape in ((3, 4, 4), (4, 4), (2, 1, 4, 4)):
            with refused(ValueError, "(2, y, x)", " x ".join(map(str, shape))):
                layer.out_shape(shape)
    with refused(ValueError, "takes 4 features", "2 x 3 = 6"):
        Linear(4, 3).out_shape((2, 3))
