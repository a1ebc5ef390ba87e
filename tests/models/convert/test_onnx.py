"""ONNX files: as torch exports them, every form of every operation, and files that are refused."""

import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models.convert.networks import NETWORKS, images, mlp, vgg
from torch import Tensor, nn
from torch.nn import functional as F

import firstspike as fs
from builders import refused, seeded
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
    one = classifier(nodes, constants, ("n", 2, 6, 6), opset, relu=relu)
    # Where ONNX's reference follows an older normalisation, it takes the statistics of the batch.
    like = max(opset, 15) if "normalisation" in name else opset
    expected = reference(classifier(nodes, constants, ("n", 2, 6, 6), like, relu=relu), given)
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
