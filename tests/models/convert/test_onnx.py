"""ONNX files: as torch exports them, every form of every operation, and files that are refused."""

import sys
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import refused, seeded
from networks import NETWORKS, images, mlp, vgg
from torch import Tensor, nn
from torch.nn import functional as F

import firstspike as fs
from firstspike import InputError
from firstspike.models.convert.read_onnx import read_onnx

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnx.reference")
helper, numpy_helper = onnx.helper, onnx.numpy_helper
FLOAT = onnx.TensorProto.FLOAT
NEWEST = 23

Constants = dict[str, Any]


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return (torch.randn(shape, generator=seeded(seed)) / np.sqrt(max(np.prod(shape[1:]), 1))).numpy()


def node(kind: str, inputs: str, outputs: str = "y", **attributes: Any) -> Any:
    """A node named as its kind; `inputs` and `outputs` by blanks, ``-`` for one that is left out."""
    taken = ["" if one == "-" else one for one in inputs.split()]
    return helper.make_node(kind, taken, outputs.split(), name=f"the-{kind.lower()}", **attributes)


def model(
    nodes: Sequence[Any],
    constants: Constants | None = None,
    *,
    shape: Sequence[Any] = ("n", 2, 6, 6),
    opset: int = NEWEST,
    output: str = "y",
    kind: int = FLOAT,
) -> Any:
    held = [
        one if isinstance(one, onnx.TensorProto) else numpy_helper.from_array(np.asarray(one), name)
        for name, one in (constants or {}).items()
    ]
    graph = helper.make_graph(
        list(nodes),
        "drawn",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info(output, kind, None)],
        held,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def saved(one: Any, folder: Path) -> Path:
    path = folder / "drawn.onnx"
    path.write_bytes(one.SerializeToString())
    return path


def reference(one: Any, given: Tensor) -> Tensor:
    (found,) = onnx.reference.ReferenceEvaluator(one).run(None, {"x": given.numpy()})
    return torch.from_numpy(np.array(found))


def read(path: Path, given: Tensor) -> Tensor:
    """What the graph that was read computes, in floating point."""
    graph = read_onnx(path, tuple(given.shape[1:]))
    values = {id(graph.input): given}
    for one in graph.order():
        if one.op is not None:
            values[id(one)] = one.op(*(values[id(before)] for before in one.inputs))
    return values[id(graph.output)]


def classifier(
    nodes: Sequence[Any], constants: Constants, shape: Sequence[Any], opset: int, *, relu: bool = True
) -> Any:
    """A network that ends in a linear layer on all values of ``y``."""
    before = model(nodes, constants, shape=shape, opset=opset)
    fixed = np.zeros([2 if isinstance(side, str) else side for side in shape], np.float32)
    (found,) = onnx.reference.ReferenceEvaluator(before).run(None, {"x": fixed})
    tail = [node("Relu", "y", "active")] if relu else []
    tail += [node("Flatten", "active" if relu else "y", "flat"), node("Gemm", "flat out", "z", transB=1)]
    constants = {**constants, "out": drawn(3, int(np.prod(found.shape[1:])), seed=9)}
    return model([*nodes, *tail], constants, shape=shape, opset=opset, output="z")


def check_equal(
    one: Any, given: Tensor, folder: Path, expected: Tensor | None = None, tolerance: float = 0.01
) -> None:
    """The graph computes what the file does, and the spikes of many levels tell it too."""
    path, expected = saved(one, folder), reference(one, given) if expected is None else expected
    assert torch.allclose(read(path, given), expected.reshape(len(given), -1), atol=1e-5)
    net = fs.from_onnx(path, given, steps=512, output_steps=4096, ranges="maximum", corrected=False)
    spikes = net(net.encode(given))
    levels, wanted = spikes.steps - spikes.times.flatten().double(), expected.flatten().double()
    inside = (levels > 0) & (levels < spikes.steps)
    assert inside.float().mean() > 0.5
    # The output's window spans another range: levels are the outputs but for a gain and a shift.
    known = torch.stack([levels[inside], torch.ones(int(inside.sum()), dtype=torch.float64)], 1)
    found = known @ torch.linalg.lstsq(known, wanted[inside, None]).solution
    assert (found[:, 0] - wanted[inside]).abs().max() < tolerance * (wanted.max() - wanted.min())


def export(net: nn.Module, given: Tensor, path: Path, *, dynamo: bool, folded: bool = True) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            shapes = ({0: torch.export.Dim("n")},)
            torch.onnx.export(
                net, (given,), path, dynamo=True, dynamic_shapes=shapes, external_data=False, verbose=False
            )
        else:
            mode = torch.onnx.TrainingMode.EVAL if folded else torch.onnx.TrainingMode.PRESERVE
            axes = {"x": {0: "n"}}
            torch.onnx.export(
                net, (given,), path, dynamo=False, input_names=["x"], dynamic_axes=axes, training=mode
            )
    return path


def without_normalisation(net: nn.Module) -> nn.Module:
    """The same network with its normalisations in the weights, as exporters like to give it."""
    for name, one in list(net.named_children()):
        setattr(net, name, without_normalisation(one))
    if not isinstance(net, nn.Sequential):
        return net
    kept: list[nn.Module] = []
    for one in net:
        if isinstance(one, nn.BatchNorm2d):
            kept[-1] = torch.nn.utils.fuse_conv_bn_eval(kept[-1], one)
        elif isinstance(one, nn.BatchNorm1d):
            kept[-1] = torch.nn.utils.fuse_linear_bn_eval(kept[-1], one)
        else:
            kept.append(one)
    return nn.Sequential(*kept)


def check_same_spikes(one: fs.Stack, other: fs.Stack, given: Tensor) -> None:
    for a, b in zip(one.trace(one.encode(given)), other.trace(other.encode(given)), strict=True):
        assert a.steps == b.steps
        assert torch.equal(a.times, b.times)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_scripted_export_gives_the_spikes_of_the_module(name: str, tmp_path: Path) -> None:
    net = NETWORKS[name]()
    path = export(net, images(2), tmp_path / "net.onnx", dynamo=False, folded=False)
    check_same_spikes(fs.from_onnx(path, images()), fs.from_torch(net, images()), images(50, seed=5))


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_the_traced_export_gives_the_spikes_of_the_module(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    net = without_normalisation(NETWORKS[name]())
    path = export(net, images(2), tmp_path / "net.onnx", dynamo=True)
    check_same_spikes(fs.from_onnx(path, images()), fs.from_torch(net, images()), images(50, seed=5))


@pytest.mark.parametrize("name", NETWORKS)
def test_folded_normalisations_change_only_roundings(name: str, tmp_path: Path) -> None:
    net = NETWORKS[name]()
    path = export(net, images(2), tmp_path / "net.onnx", dynamo=False)
    with torch.no_grad():
        assert torch.allclose(read(path, images()), net(images()), atol=1e-5)


def test_the_normalisation_of_images_is_taken_in(tmp_path: Path) -> None:
    net = vgg()
    path = export(net, images(2), tmp_path / "net.onnx", dynamo=False, folded=False)
    how = {"mean": 0.4, "std": [0.3]}
    one, other = fs.from_onnx(path, images(), **how), fs.from_torch(net, images(), **how)
    check_same_spikes(one, other, images(50, seed=5))
    apart = nn.Sequential(nn.BatchNorm2d(1, eps=0.0, affine=False), net).eval()
    apart[0].running_mean.fill_(0.4)
    apart[0].running_var.fill_(0.09)
    times = [each(each.encode(images())).times.float() for each in (other, fs.from_torch(apart, images()))]
    assert (times[0] - times[1]).abs().mean() < 1
    with refused(ValueError, "mean", "one number or 1", "[0.1, 0.2]"):
        fs.from_onnx(path, images(), mean=[0.1, 0.2])
    with refused(ValueError, "std above 0"):
        fs.from_onnx(path, images(), std=0.0)


W, B = drawn(4, 2, 3, 3), drawn(4, seed=1)
EACH = np.array([0.5, -1.0], np.float32).reshape(2, 1, 1)
STATISTICS = {
    "gain": np.array([1.5, 0.5], np.float32),
    "shift": np.array([0.1, -0.2], np.float32),
    "mean": np.array([0.5, 0.4], np.float32),
    "variance": np.array([0.3, 0.2], np.float32),
}
ACTIVE = node("Relu", "x", "r")


def i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def f32(value: float) -> np.ndarray:
    return np.array(value, np.float32)


# Name: nodes from x to y, constants, opset.
FORMS: dict[str, tuple[list[Any], Constants, int]] = {
    "conv": ([node("Conv", "x w b", pads=[1, 0, 2, 1], strides=[2, 1])], {"w": W, "b": B}, NEWEST),
    "conv, opset 7": ([node("Conv", "x w", kernel_shape=[3, 3])], {"w": W}, 7),
    "conv, dilated": ([node("Conv", "x w", dilations=[2, 1], pads=[2, 1, 2, 1])], {"w": W}, 11),
    "conv, groups": ([node("Conv", "x w", group=2)], {"w": drawn(4, 1, 3, 3)}, 11),
    "conv, same upper": ([node("Conv", "x w", auto_pad="SAME_UPPER", strides=[2, 2])], {"w": W}, 11),
    "conv, same lower": ([node("Conv", "x w", auto_pad="SAME_LOWER", strides=[2, 2])], {"w": W}, 11),
    "conv, even same": ([node("Conv", "x w", auto_pad="SAME_UPPER")], {"w": drawn(3, 2, 2, 4)}, 11),
    "conv, valid": ([node("Conv", "x w", auto_pad="VALID")], {"w": W}, 11),
    "transposed": (
        [node("ConvTranspose", "x w b", strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1])],
        {"w": drawn(2, 4, 3, 3), "b": B},
        11,
    ),
    "transposed, uneven pads": (
        [node("ConvTranspose", "x w", strides=[2, 2], pads=[1, 0, 0, 2])],
        {"w": drawn(2, 3, 3, 4)},
        11,
    ),
    "transposed, to a shape": (
        [node("ConvTranspose", "x w", strides=[2, 2], output_shape=[12, 11], auto_pad="SAME_UPPER")],
        {"w": drawn(2, 3, 3, 3)},
        11,
    ),
    "transposed, same": (
        [node("ConvTranspose", "x w", strides=[2, 2], auto_pad="SAME_LOWER")],
        {"w": drawn(2, 3, 3, 3)},
        11,
    ),
    "gemm": ([node("Flatten", "x", "f"), node("Gemm", "f w b")], {"w": drawn(72, 5), "b": drawn(5)}, 13),
    "gemm, scaled": (
        [node("Flatten", "x", "f"), node("Gemm", "f w b", transB=1, alpha=0.5, beta=2.0)],
        {"w": drawn(5, 72), "b": drawn(1, 5)},
        7,
    ),
    "gemm, one bias": (
        [node("Flatten", "x", "f"), node("Gemm", "f w b")],
        {"w": drawn(72, 5), "b": f32(0.1)},
        13,
    ),
    "gemm, adds activations": (
        [node("Flatten", "x", "f"), node("Gemm", "f w", "g"), node("Gemm", "f v g", beta=0.5)],
        {"w": drawn(72, 5), "v": drawn(72, 5, seed=3)},
        13,
    ),
    "matmul": (
        [node("Flatten", "x", "f"), node("MatMul", "f w", "p"), node("Add", "b p")],
        {"w": drawn(72, 5), "b": drawn(5)},
        13,
    ),
    **{
        f"normalisation, opset {opset}": (
            [node("BatchNormalization", "x gain shift mean variance", epsilon=0.01)],
            STATISTICS,
            opset,
        )
        for opset in (7, 9, 14, 15)
    },
    "clip by attributes": ([node("Clip", "x", min=0.1, max=0.7)], {}, 6 + 1),
    "clip by inputs": ([node("Clip", "x low high")], {"low": f32(0.1), "high": f32(0.7)}, 11),
    "clip from below": ([node("Clip", "x low")], {"low": f32(0.2)}, 13),
    "clip after relu": ([ACTIVE, node("Clip", "r - high")], {"high": f32(0.5)}, 13),
    "clip without a bound": (
        [ACTIVE, node("Clip", "r low high")],
        {"low": f32(-3.4e38), "high": f32(3.4e38)},
        13,
    ),
    "max and min": (
        [node("Max", "x low", "m"), node("Min", "high m")],
        {"low": f32(0.2), "high": f32(0.8)},
        13,
    ),
    "max pool": ([node("MaxPool", "x", kernel_shape=[2, 3], strides=[2, 1])], {}, 8),
    "max pool, padded": (
        [node("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 0, 0])],
        {},
        12,
    ),
    "max pool, ceil": ([node("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)], {}, 12),
    "max pool, same": (
        [node("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")],
        {},
        12,
    ),
    "average pool": ([node("AveragePool", "x", kernel_shape=[2, 2], strides=[2, 2])], {}, 7),
    "average pool, counts": (
        [node("AveragePool", "x", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)],
        {},
        19,
    ),
    # Two patches along an axis, of which three places lie inside each.
    "average pool whose patches hold as many": (
        [node("AveragePool", "x", kernel_shape=[4, 4], strides=[4, 4], pads=[1, 1, 1, 1])],
        {},
        7,
    ),
    "global average": ([node("GlobalAveragePool", "x")], {}, 7),
    "global maximum": ([node("GlobalMaxPool", "x")], {}, 7),
    "mean by attribute": ([node("ReduceMean", "x", axes=[2, 3], keepdims=0)], {}, 13),
    "mean by input": ([node("ReduceMean", "x axes")], {"axes": i64(-1, -2)}, 18),
    "flatten from the end": ([node("Flatten", "x", axis=-3)], {}, 13),
    "reshape": ([node("Reshape", "x to")], {"to": i64(0, -1)}, 13),
    "reshape of channels": ([node("Reshape", "x to")], {"to": i64(-1, 4, 3, 6)}, 5 + 2),
    "reshape by shape": (
        [
            node("Shape", "x", "s"),
            node("Gather", "s zero", "n", axis=0),
            node("Unsqueeze", "n zeros", "m"),
            node("Concat", "m rest", "to", axis=0),
            node("Cast", "to", "as", to=onnx.TensorProto.INT64),
            node("Reshape", "x as"),
        ],
        {"zero": np.array(0, np.int64), "zeros": i64(0), "rest": i64(-1)},
        13,
    ),
    "reshape by a slice of shape": (
        [
            node("Shape", "x", "s"),
            node("Slice", "s from until", "n"),
            node("Constant", "", "rest", value_ints=[72]),
            node("ConstantOfShape", "one", "zeros", value=numpy_helper.from_array(i64(0))),
            node("Add", "rest zeros", "size"),
            node("Concat", "n size", "to", axis=0),
            node("Reshape", "x to"),
        ],
        {"from": i64(0), "until": i64(1), "one": i64(1)},
        15,
    ),
    "transpose": ([node("Transpose", "x", perm=[0, 1, 3, 2])], {}, 13),
    "squeeze by attribute": (
        [node("GlobalAveragePool", "x", "p"), node("Squeeze", "p", axes=[2, 3])],
        {},
        11,
    ),
    "squeeze by input": (
        [node("GlobalAveragePool", "x", "p"), node("Squeeze", "p axes")],
        {"axes": i64(-2, 3)},
        13,
    ),
    "unsqueeze by attribute": (
        [node("Flatten", "x", "f"), node("Unsqueeze", "f", "u", axes=[2, 3]), node("Flatten", "u")],
        {},
        11,
    ),
    "unsqueeze by input": (
        [node("Flatten", "x", "f"), node("Unsqueeze", "f axes", "u"), node("Flatten", "u")],
        {"axes": i64(-1, 2)},
        13,
    ),
    "slice by attributes": ([node("Slice", "x", starts=[1, 0], ends=[9, -1], axes=[2, 3])], {}, 9),
    "slice by inputs": (
        [node("Slice", "x from until axes steps")],
        {"from": i64(-1), "until": i64(-(2**62)), "axes": i64(3), "steps": i64(-2)},
        13,
    ),
    "split by attribute": ([node("Split", "x", "o y", axis=1, split=[1, 1])], {}, 11),
    "split by input": ([node("Split", "x sizes", "o y", axis=2)], {"sizes": i64(2, 4)}, 13),
    "split in equal parts": ([node("Split", "x", "y o", axis=3)], {}, 13),
    "split in a number": ([node("Split", "x", "o y", axis=3, num_outputs=2)], {}, 18),
    "gather": ([node("Gather", "x k", axis=1)], {"k": np.array(-1, np.int64)}, 13),
    "depth to space": (
        [node("Conv", "x w", "c"), node("DepthToSpace", "c", blocksize=2, mode="CRD")],
        {"w": drawn(8, 2, 3, 3)},
        13,
    ),
    "depth to space, depth first": (
        [node("Conv", "x w", "c"), node("DepthToSpace", "c", blocksize=2)],
        {"w": drawn(8, 2, 3, 3)},
        11,
    ),
    "concat": (
        [node("Conv", "x w", "c"), node("Conv", "x v", "d"), node("Concat", "c d", axis=-3)],
        {"w": W, "v": drawn(3, 2, 3, 3, seed=4)},
        13,
    ),
    "sum": (
        [node("Conv", "x w", "c"), node("Conv", "x v", "d"), node("Sum", "c d c")],
        {"w": W, "v": W[::-1]},
        13,
    ),
    "difference": (
        [node("Conv", "x w", "c"), node("Conv", "x v", "d"), node("Sub", "c d")],
        {"w": W, "v": W[::-1]},
        13,
    ),
    "constants": (
        [
            node("Sub", "one x", "a"),
            node("Mul", "a each", "b"),
            node("Div", "b two", "c"),
            node("Neg", "c"),
        ],
        {"one": f32(1.0), "each": EACH, "two": f32(2.0)},
        13,
    ),
    "pad by attribute": ([node("Pad", "x", pads=[0, 0, 1, 0, 0, 0, 2, 1])], {}, 9),
    "pad by input": (
        [node("Pad", "x pads zero")],
        {"pads": i64(0, 1, 1, 0, 0, 0, 2, 1), "zero": f32(0.0)},
        13,
    ),
    "pad by axes": ([node("Pad", "x pads - axes")], {"pads": i64(1, 0, 0, 2), "axes": i64(1, -1)}, 18),
    "left out": (
        [
            node("Identity", "x", "i"),
            node("Dropout", "i", "d o"),
            node("Cast", "d", to=FLOAT),
        ],
        {},
        13,
    ),
    "dropout, opset 7": ([node("Dropout", "x", ratio=0.5)], {}, 7),
    "expand of a constant": (
        [node("Expand", "b s", "e"), node("Mul", "x e")],
        {"b": f32(0.5), "s": i64(1, 2, 1, 1)},
        13,
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_an_operation(name: str, tmp_path: Path) -> None:
    nodes, constants, opset = FORMS[name]
    relu = not any(one.op_type in ("Clip", "Max") for one in nodes)
    given = images(30, (2, 6, 6))
    # Where ONNX's reference follows an older normalisation, it takes the statistics of the batch.
    like = max(opset, 15) if "normalisation" in name else opset
    one = classifier(nodes, constants, ("n", 2, 6, 6), like, relu=relu)
    expected = reference(one, given)
    one.opset_import[0].version = opset
    check_equal(one, given, tmp_path, expected)


def test_transposed_convolutions_in_groups(tmp_path: Path) -> None:
    # Which ONNX's reference computes wrongly.
    weight, given = drawn(2, 2, 3, 2), images(30, (2, 6, 6))
    how = {"strides": [2, 1], "group": 2, "dilations": [1, 2]}
    one = model([node("ConvTranspose", "x w", **how), node("Relu", "y", "z")], {"w": weight}, output="z")
    expected = torch.conv_transpose2d(
        given, torch.from_numpy(weight), stride=(2, 1), groups=2, dilation=(1, 2)
    ).relu()
    graph = read(saved(one, tmp_path), given)
    assert torch.allclose(graph, expected, atol=1e-6)


def test_a_padding_may_cut_off(tmp_path: Path) -> None:
    given = images(3, (2, 6, 6))
    one = model([node("Pad", "x pads")], {"pads": i64(0, 0, 1, 0, 0, -1, -1, 1)})
    assert torch.equal(read(saved(one, tmp_path), given), F.pad(given, (0, 1, 1, -1))[:, :1])


def channels_last(*, reshaped: bool) -> Any:
    """A network as tf2onnx writes those of Keras: images (n, 6, 6, channels)."""
    channels = 1 if reshaped else 2
    nodes = [
        node("Reshape", "x to", "t") if reshaped else node("Transpose", "x", "t", perm=[0, 3, 1, 2]),
        node("Conv", "t w b", "c", auto_pad="SAME_UPPER"),
        node("Relu", "c", "r"),
        node("MaxPool", "r", "p", kernel_shape=[2, 2], strides=[2, 2]),
        node("Transpose", "p", "q", perm=[0, 2, 3, 1]),
        node("Add", "q shift", "a"),
        node("Relu", "a", "o"),
        node("Reshape", "o flat", "f"),
        node("MatMul", "f v", "m"),
        node("Add", "m e"),
    ]
    constants = {
        "to": i64(-1, 1, 6, 6),
        "w": drawn(4, channels, 3, 3),
        "b": B,
        "shift": drawn(4, seed=5),
        "flat": i64(-1, 36),
        "v": drawn(36, 3, seed=2),
        "e": drawn(3, seed=3),
    }
    return model(nodes, constants, shape=("n", 6, 6, channels), opset=13)


@pytest.mark.parametrize("reshaped", [True, False])
def test_channels_last_as_keras_has_them(reshaped: bool, tmp_path: Path) -> None:
    one, given = channels_last(reshaped=reshaped), images(30, (1 if reshaped else 2, 6, 6))
    expected = reference(one, given.permute(0, 2, 3, 1))
    check_equal(one, given, tmp_path, expected)
    with refused(InputError, "drawn.onnx takes 6 x 6 x", "(count, channels, y, x)"):
        fs.from_onnx(saved(one, tmp_path), given.permute(0, 2, 3, 1)[:, :5])


def test_channels_last_between_convolutions(tmp_path: Path) -> None:
    nodes = [
        node("Mul", "x each", "s"),
        node("Transpose", "s", "t", perm=[0, 3, 1, 2]),
        node("Conv", "t w", "c"),
        node("Transpose", "c", "q", perm=[0, 2, 3, 1]),
        node("Add", "q b", "a"),
        node("Relu", "a", "r"),
        node("Transpose", "r", "u", perm=[0, 3, 1, 2]),
        node("Conv", "u v", "d"),
        node("Transpose", "d", "e", perm=[0, 2, 3, 1]),
        node("ReduceMean", "e", axes=[1, 2], keepdims=0),
    ]
    constants = {"each": np.array([2.0, 0.5], np.float32), "w": W, "b": B, "v": drawn(3, 4, 2, 2)}
    one, given = model(nodes, constants, shape=("n", 6, 6, 2), opset=13), images(30, (2, 6, 6))
    check_equal(one, given, tmp_path, reference(one, given.permute(0, 2, 3, 1)))


def test_images_of_another_shape_than_the_file_takes(tmp_path: Path) -> None:
    path = saved(model([node("Relu", "x")], shape=("n", 2, "y", 6)), tmp_path)
    with refused(InputError, "drawn.onnx takes 2 x ? x 6", "images of 3 x 6 x 6"):
        fs.from_onnx(path, images(4, (3, 6, 6)))


@pytest.mark.parametrize("shape", [(1, 2, 6, 6), (None, 2, None, None), ("n", "c", "y", "x"), None])
def test_sizes_may_be_fixed_or_open(shape: Any, tmp_path: Path) -> None:
    nodes = [node("Conv", "x w", "c"), node("Relu", "c", "r"), node("Reshape", "r to")]
    constants = {"w": W, "to": i64(1 if shape and shape[0] == 1 else -1, 64)}
    given = images(5, (2, 6, 6))
    one = model(nodes, constants, shape=shape)
    expected = F.conv2d(given, torch.from_numpy(W)).relu().flatten(1)
    assert torch.allclose(read(saved(one, tmp_path), given), expected, atol=1e-6)


def test_a_last_softmax_is_left_out(tmp_path: Path) -> None:
    net, given = mlp(), images(20)
    plain = fs.from_onnx(export(net, given[:2], tmp_path / "plain.onnx", dynamo=False), given)
    for last in (nn.Softmax(1), nn.LogSoftmax(1)):
        path = export(nn.Sequential(net, last).eval(), given[:2], tmp_path / "net.onnx", dynamo=False)
        check_same_spikes(fs.from_onnx(path, given), plain, given)


@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_weights_of_another_precision_are_converted(kind: Any, tmp_path: Path) -> None:
    weight = W.astype(np.float16)
    one = model(
        [node("Cast", "x", "h", to=helper.np_dtype_to_tensor_dtype(np.dtype(kind))), node("Conv", "h w")],
        {"w": weight.astype(kind)},
    )
    given = images(5, (2, 6, 6))
    expected = F.conv2d(given, torch.from_numpy(weight.astype(np.float32)))
    assert torch.allclose(read(saved(one, tmp_path), given), expected, atol=1e-6)


def subgraph() -> Any:
    return helper.make_graph(
        [node("Relu", "x", "z")], "branch", [], [helper.make_tensor_value_info("z", FLOAT, None)]
    )


FLAT = node("Flatten", "x", "f")
INTEGERS = numpy_helper.from_array(np.ones((4, 2, 3, 3), np.int8), "w")
TEXT = helper.make_tensor("t", onnx.TensorProto.STRING, [1], [b"text"])
# Name: nodes, constants, what the message says.
REFUSED: dict[str, tuple[list[Any], Constants, tuple[str, ...]]] = {
    **{
        kind: ([node(kind, "x")], {}, (f"the-{kind.lower()} ({kind}) cannot be converted; ", "ReLU"))
        for kind in ("LeakyRelu", "Elu", "Selu", "Gelu", "HardSwish", "Softplus", "Sigmoid", "Tanh")
    },
    **{
        kind: ([node(kind, "x")], {}, (f"the-{kind.lower()} ({kind})", "batch normalisation"))
        for kind in ("LRN", "InstanceNormalization", "LayerNormalization", "GroupNormalization")
    },
    **{
        kind: ([node(kind, "x")], {}, (f"the-{kind.lower()}", "recurrence"))
        for kind in ("LSTM", "GRU", "RNN")
    },
    **{
        kind: ([node(kind, "x")], {}, (f"the-{kind.lower()}", "before it was quantised"))
        for kind in ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger", "MatMulInteger")
    },
    **{
        kind: ([node(kind, "x")], {}, (f"({kind}) cannot be", "for every image"))
        for kind in ("Loop", "Scan")
    },
    "If": (
        [node("If", "c", then_branch=subgraph(), else_branch=subgraph())],
        {"c": np.array(True)},
        ("the-if (If) cannot be converted; export",),
    ),
    "ArgMax": ([node("ArgMax", "x")], {}, ("ArgMax", "first spike decides")),
    "unknown": ([node("Frobnicate", "x")], {}, ("the-frobnicate (Frobnicate) cannot",)),
    "another domain": (
        [helper.make_node("FusedConv", ["x"], ["y"], name="one", domain="com.microsoft")],
        {},
        ("one (FusedConv)", "com.microsoft"),
    ),
    "1-D convolution": ([node("Conv", "x w")], {"w": drawn(4, 2, 3)}, ("the-conv", "1-dimensional")),
    "1-D pooling": (
        [node("MaxPool", "x", kernel_shape=[2])],
        {},
        ("the-maxpool", "1-dimensional kernel_shape"),
    ),
    "dilated pooling": (
        [node("MaxPool", "x", kernel_shape=[2, 2], dilations=[2, 2])],
        {},
        ("the-maxpool", "dilated"),
    ),
    "smaller patches": (
        [node("AveragePool", "x", kernel_shape=[3, 3], pads=[1, 1, 1, 1])],
        {},
        ("the-averagepool", "hold fewer places", "count_include_pad"),
    ),
    "transposed activations": (
        [FLAT, node("Gemm", "f w", transA=1)],
        {"w": drawn(2, 3)},
        ("the-gemm", "transposed"),
    ),
    "two activations": ([FLAT, node("MatMul", "f f")], {}, ("the-matmul", "two activations")),
    "constant first": ([FLAT, node("MatMul", "w f")], {"w": drawn(2, 2)}, ("the-matmul", "constant first")),
    "gate": ([node("Mul", "x x")], {}, ("the-mul", "gates")),
    "division": ([node("Div", "one x")], {"one": f32(1.0)}, ("the-div", "division by an activation")),
    "training": (
        [node("BatchNormalization", "x gain shift mean variance", training_mode=1)],
        STATISTICS,
        ("the-batchnormalization", "for evaluation"),
    ),
    "training dropout": (
        [node("Dropout", "x - on")],
        {"on": np.array(True)},
        ("the-dropout", "for evaluation"),
    ),
    "reflection": (
        [node("Pad", "x p", mode="reflect")],
        {"p": i64(0, 0, 1, 1, 0, 0, 1, 1)},
        ("the-pad", "zeros"),
    ),
    "ones around": (
        [node("Pad", "x p one")],
        {"p": i64(0, 0, 1, 1, 0, 0, 1, 1), "one": f32(1.0)},
        ("the-pad", "zeros"),
    ),
    "endless padding": (
        [node("Pad", "x p")],
        {"p": i64(0, 0, 0, 0, 0, 0, 2**40, 0)},
        ("the-pad", "smaller"),
    ),
    "endless constant": (
        [node("ConstantOfShape", "s", "c"), node("Add", "x c")],
        {"s": i64(2**40)},
        ("the-constantofshape", "smaller"),
    ),
    "endless dilation": (
        [node("Conv", "x w", dilations=[4000, 4000], pads=[4000] * 4)],
        {"w": W},
        ("the-conv", "smaller"),
    ),
    "endless padding of a convolution": (
        [node("Conv", "x w", pads=[9000] * 4)],
        {"w": W},
        ("the-conv", "smaller"),
    ),
    "endless padding of one end": (
        [node("Conv", "x w", pads=[0, 0, 9000, 9000])],
        {"w": W},
        ("the-conv", "smaller"),
    ),
    "endless work": (
        [node("Conv", "x w", pads=[0, 0, 1400, 1400])],
        {"w": drawn(1, 2, 3, 3)},
        ("the-conv", "smaller"),
    ),
    "endless dilation, transposed": (
        [node("ConvTranspose", "x w", dilations=[4000, 4000])],
        {"w": drawn(2, 4, 3, 3)},
        ("the-convtranspose", "smaller"),
    ),
    "endless stride, transposed": (
        [node("ConvTranspose", "x w", strides=[4000, 4000])],
        {"w": drawn(2, 4, 3, 3)},
        ("the-convtranspose", "smaller"),
    ),
    "endless patches": (
        [node("AveragePool", "x", kernel_shape=[9000, 9000], pads=[4500] * 4, count_include_pad=1)],
        {},
        ("the-averagepool", "smaller"),
    ),
    "endless padding of a pool": (
        [node("MaxPool", "x", kernel_shape=[9000, 9000], pads=[4500] * 4)],
        {},
        ("the-maxpool", "smaller"),
    ),
    "endless concatenation": (
        [node("ConstantOfShape", "s", "c"), node("Concat", "c c c", axis=0)],
        {"s": i64(2**23)},
        ("the-concat", "smaller"),
    ),
    "endless concatenation of maps": (
        [node("Concat", "x " * 5000, axis=1)],
        {},
        ("the-concat", "smaller"),
    ),
    "endless gathering": (
        [node("ConstantOfShape", "s", "c", value=numpy_helper.from_array(i64(0))), node("Gather", "w c")],
        {"s": i64(2**22), "w": drawn(3, 2**6)},
        ("the-gather", "smaller"),
    ),
    "endless sum": (
        [node("ConstantOfShape", "a", "c"), node("ConstantOfShape", "b", "d"), node("Add", "c d")],
        {"a": i64(2**20, 1), "b": i64(1, 2**20)},
        ("the-add", "smaller"),
    ),
    "endless expansion": (
        [node("Expand", "w s")],
        {"w": drawn(2**20, 1), "s": i64(1, 2**20)},
        ("the-expand", "smaller"),
    ),
    "no index": ([node("Gather", "x")], {}, ("the-gather", "has no input 1")),
    "no shape": ([node("Reshape", "x")], {}, ("the-reshape", "has no input 1")),
    "no second": ([node("Add", "x")], {}, ("the-add", "has no input 1")),
    "no inputs": ([node("Relu", "")], {}, ("the-relu", "has no input 0")),
    "mean of features": ([node("ReduceMean", "x", axes=[1])], {}, ("the-reducemean", "axes [1]")),
    "places side by side": ([node("Concat", "x x", axis=2)], {}, ("the-concat", "axis 2")),
    "with a constant": (
        [node("Concat", "x w", axis=1)],
        {"w": drawn(2, 2, 6, 6)},
        ("the-concat", "constant"),
    ),
    "softmax of maps": ([node("Softmax", "x", axis=2)], {}, ("the-softmax", "over axis 2")),
    "after a softmax": (
        [FLAT, node("Softmax", "f", "s"), node("Relu", "s")],
        {},
        ("the-relu", "after a softmax"),
    ),
    "across samples": (
        [node("Transpose", "x", perm=[1, 0, 2, 3])],
        {},
        ("the-transpose", "across the batch"),
    ),
    "without a lower bound": ([node("Min", "x one")], {"one": f32(1.0)}, ("the-min", "lower bound")),
    "larger of two": ([node("Max", "x x")], {}, ("the-max", "between activations")),
    "rounding": ([node("Cast", "x", to=onnx.TensorProto.INT32)], {}, ("the-cast", "int32")),
    "integer weights": ([node("Conv", "x w")], {"w": INTEGERS}, ("the-conv", "integer weights")),
    "text": ([node("Relu", "x")], {"t": TEXT}, ("the tensor 't'", "string")),
    "weights from activations": ([node("Conv", "x x")], {}, ("the-conv", "activations")),
    "no weights": ([node("Conv", "x")], {}, ("the-conv", "no input 1")),
    "settings of a wrong type": (
        [node("Conv", "x w", strides="twice")],
        {"w": W},
        ("the-conv",),
    ),
    "a constant output": ([node("Identity", "w")], {"w": W}, ("does not depend on its input",)),
    "unsorted": (
        [node("Relu", "later"), node("Relu", "x", "later")],
        {},
        ("the-relu (Relu) takes 'later', which nothing before it gives",),
    ),
    "a cycle": ([node("Add", "x y")], {}, ("takes 'y', which nothing before it gives",)),
    "a missing input": ([node("Relu", "nowhere")], {}, ("takes 'nowhere'",)),
    "a missing output": ([node("Relu", "x", "z")], {}, ("the output takes 'y'",)),
}


@pytest.mark.parametrize("layer", [nn.SiLU, nn.GELU, nn.Mish, nn.Hardswish])
def test_an_activation_that_the_exporter_took_apart_has_the_name_that_the_user_wrote(
    layer: type[nn.Module], tmp_path: Path
) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(72, 3), layer(), nn.Linear(3, 2))
    path = export(net.eval(), images(2, (2, 6, 6)), tmp_path / "net.onnx", dynamo=False)
    named = rf"(?i)(, part of {layer.__name__},|\({layer.__name__}\)) cannot be converted; .* ReLU"
    with pytest.raises(InputError, match=named):
        read_onnx(path, (2, 6, 6))


def test_parts_of_old_files_are_named_and_another_gate_is_none(tmp_path: Path) -> None:
    gate = [node("HardSigmoid", "x", "g"), node("Mul", "g x")]
    with refused(InputError, "the-hardsigmoid (HardSigmoid), part of Hardswish, cannot be converted"):
        read_onnx(saved(model(gate, opset=11), tmp_path), (2, 6, 6))
    with refused(InputError, "the-erf (Erf), part of GELU, cannot be converted"):
        read_onnx(saved(model([node("Erf", "x")]), tmp_path), (2, 6, 6))
    other = [node("Sigmoid", "x", "g"), node("Relu", "x", "r"), node("Mul", "g r")]
    with refused(InputError, "the-sigmoid (Sigmoid) cannot be converted"):
        read_onnx(saved(model(other), tmp_path), (2, 6, 6))


def test_many_operations_that_fill_memory_are_refused(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr(sys.modules[read_onnx.__module__], "_MAX_BYTES", 2**20)
    nodes = [node("ConstantOfShape", "s", "c")]
    nodes += [node("Concat", "c c", f"d{k}", axis=0) for k in range(3)]
    path = saved(model([*nodes, node("Relu", "x")], {"s": i64(2**16)}), tmp_path)
    with refused(InputError, "the-concat", "2 GB"):
        read_onnx(path, (2, 6, 6))
    nodes = [node("Conv", "x w", f"d{k}", dilations=[100, 100], pads=[100] * 4) for k in range(3)]
    path = saved(model([*nodes, node("Relu", "x")], {"w": drawn(2, 2, 3, 3)}), tmp_path)
    with refused(InputError, "the-conv", "2 GB"):
        read_onnx(path, (2, 6, 6))


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_meaning_is_refused_by_name(name: str, tmp_path: Path) -> None:
    nodes, constants, words = REFUSED[name]
    path = saved(model(nodes, constants, opset=13), tmp_path)
    with refused(InputError, *words):
        fs.from_onnx(path, images(4, (2, 6, 6)))


def test_files_that_are_no_networks(tmp_path: Path) -> None:
    whole = saved(model([node("Conv", "x w")], {"w": W}), tmp_path).read_bytes()
    archive = tmp_path / "archive.onnx"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("net.onnx", whole)
    contents = [b"", b"text", archive.read_bytes(), onnx.ModelProto(ir_version=8).SerializeToString()]
    contents += [whole[:size] for size in range(1, len(whole) - 1, 7)]
    contents += [
        torch.randint(0, 256, (500,), generator=seeded(k)).byte().numpy().tobytes() for k in range(20)
    ]
    for content in contents:
        path = tmp_path / "other.onnx"
        path.write_bytes(content)
        with refused(InputError, "other.onnx"):
            fs.from_onnx(path, images(4, (2, 6, 6)))


def test_damaged_files_end_in_one_line(tmp_path: Path) -> None:
    whole = saved(classifier([node("Conv", "x w")], {"w": W}, ("n", 2, 6, 6), 13), tmp_path).read_bytes()
    draw, path, found = np.random.default_rng(0), tmp_path / "damaged.onnx", []
    for _ in range(300):
        damaged = bytearray(whole)
        for place in draw.integers(0, len(whole), 3):
            damaged[place] = draw.integers(0, 256)
        path.write_bytes(bytes(damaged))
        try:
            read_onnx(path, (2, 6, 6))
        except InputError as error:
            found.append(str(error))
    assert found
    assert not any("\n" in one for one in found)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    given = images(4, (2, 6, 6))
    with refused(InputError, "missing.onnx is no file"):
        fs.from_onnx(tmp_path / "missing.onnx", given)
    with refused(InputError, "is no file"):
        fs.from_onnx(tmp_path, given)
    with (tmp_path / "large.onnx").open("wb") as file:
        file.truncate(2**31)
    with refused(InputError, "large.onnx is larger than 2 GB"):
        fs.from_onnx(tmp_path / "large.onnx", given)


def test_weights_in_other_files_are_not_followed(tmp_path: Path) -> None:
    for place in ("/etc/passwd", "weights.bin"):
        outside = onnx.TensorProto(name="w", data_type=FLOAT, dims=[4, 2, 3, 3])
        outside.data_location = onnx.TensorProto.EXTERNAL
        outside.external_data.add(key="location", value=place)
        inside = node("Constant", "", "w", value=outside)
        for one in (
            model([node("Conv", "x w")], {"w": outside}),
            model([inside, node("Conv", "x w")]),
        ):
            with refused(InputError, "the tensor 'w' of drawn.onnx lies in another file"):
                fs.from_onnx(saved(one, tmp_path), images(4, (2, 6, 6)))


def test_graphs_of_another_form(tmp_path: Path) -> None:
    given = images(4, (2, 6, 6))
    for count, of in ((2, "input"), (0, "input"), (2, "output"), (0, "output")):
        one = model([node("Relu", "x")])
        while len(getattr(one.graph, of)) > count:
            getattr(one.graph, of).pop()
        while len(getattr(one.graph, of)) < count:
            getattr(one.graph, of).append(helper.make_tensor_value_info("other", FLOAT, None))
        with refused(InputError, "drawn.onnx has", f"{count} {of}s"):
            fs.from_onnx(saved(one, tmp_path), given)
    for version in (6, 0, -1):
        with refused(InputError, "drawn.onnx is of opset", "opset 7 or newer"):
            fs.from_onnx(saved(model([node("Relu", "x")], opset=version), tmp_path), given)
    with refused(InputError, "drawn.onnx takes uint8"):
        fs.from_onnx(saved(model([node("Relu", "x")], kind=onnx.TensorProto.UINT8), tmp_path), given)
    with refused(InputError, "takes 1000000 samples"):
        fs.from_onnx(saved(model([node("Relu", "x")], shape=(1000000, 2, 6, 6)), tmp_path), given)
    sparse = model([node("Relu", "x")])
    sparse.graph.sparse_initializer.add()
    with refused(InputError, "sparse weights"):
        fs.from_onnx(saved(sparse, tmp_path), given)


def test_without_the_package_the_message_says_how_to_get_it(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with refused(ImportError, 'pip install "firstspike[onnx]"'):
        fs.from_onnx(tmp_path / "net.onnx", images(4))
