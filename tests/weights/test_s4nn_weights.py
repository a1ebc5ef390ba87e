"""The authors' weight files: read without running anything, and deciding as their program does."""

import io
import os
import pickle
import struct
import subprocess
import sys
import tracemalloc
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from builders import refused
from neurons.published_s4nn import draw_image

import firstspike as fs
from firstspike.online import S4NNRule, s4nn_epoch
from firstspike.support import InputError
from firstspike.weights.pickled_arrays import read_arrays

T, THRESHOLD = 256, 100
DIGITS = [4, 1, 0, 7, 9, 2, 3, 5, 8, 6]


def program(image: np.ndarray, weights: list[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the firing times of each layer, and the outputs' membranes that the program reads in silence.

    S4NN's forward pass step by step: all neurons' membranes on a clock of 257 steps, of which the last is
    overwritten; a neuron fires one step after its membrane is above the threshold.
    """
    times = ((255 - image.astype(int)) * T) // 255
    layers = []
    for weight in weights:
        V, fired = np.zeros(len(weight)), np.full(len(weight), T)
        for t in range(T):
            for i in np.flatnonzero(times == t):
                V = V + weight[:, i]
            fired = np.where((V > THRESHOLD) & (fired == T), t + 1, fired)
            if t == T - 3:
                early = V
        layers.append(fired)
        times = fired
    return layers, early


class Cupy:
    """A stand-in for CuPy's array, pickled as CuPy pickles its own."""

    def __init__(self, values: np.ndarray, module: ModuleType) -> None:
        self.values, self.module = values, module

    def __reduce__(self) -> Any:
        return self.module.array, (self.values,)


@pytest.fixture(params=["cupy.core.core", "cupy._core.core"])
def cupy(request, monkeypatch):
    """A module of that name while a file is written; it is gone when the file is read."""
    module = ModuleType(request.param)

    def array(values):
        raise AssertionError("it was run")

    array.__module__, array.__qualname__ = request.param, "array"
    module.array = array
    parts = request.param.split(".")
    for length in range(1, len(parts)):
        monkeypatch.setitem(sys.modules, ".".join(parts[:length]), ModuleType(".".join(parts[:length])))
    monkeypatch.setitem(sys.modules, request.param, module)
    return module


def saved(path, items, protocol):
    """Write a list of arrays as numpy.save does, with that protocol."""
    held = np.empty(len(items), dtype=object)
    held[:] = items
    return npy(path, pickle.dumps(held, protocol=protocol))


def npy(path, content):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": (2,)})
    stream.write(b"" if content is None else content)
    path.write_bytes(stream.getvalue())
    return path


def drawn(rng, low=-30.0):
    # Multiples of 1/16, whose sums are exact in every order.
    hidden = rng.integers(-3 * 16, 5 * 16, (40, 7, 9)) / 16
    output = rng.integers(int(low * 16), 60 * 16, (10, 40, 1)) / 16
    return [hidden * 4, output]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_the_file_gives_the_arrays_of_cupy_whatever_wrote_it(tmp_path, cupy, protocol, monkeypatch):
    weights = drawn(np.random.default_rng(0))
    path = saved(tmp_path / "w.npy", [Cupy(weight, cupy) for weight in weights], protocol)
    monkeypatch.undo()
    assert "cupy" not in sys.modules
    for found, expected in zip(read_arrays(path), weights, strict=True):
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, expected)
    assert "cupy" not in sys.modules


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["<f8", ">f8", "<f4", ">f4", "<f2"])
def test_plain_arrays_of_any_layout_are_read(tmp_path, protocol, kind):
    weights = [np.asfortranarray(weight.astype(kind)) for weight in drawn(np.random.default_rng(1))]
    path = saved(tmp_path / "w.npy", weights, protocol)
    for found, expected in zip(read_arrays(path), weights, strict=True):
        np.testing.assert_array_equal(found, expected)
    net = fs.weights.s4nn(path, classes=None)
    assert {layer.weight.dtype for layer in net} == {torch.float64 if kind[1:] == "f8" else torch.float32}
    np.testing.assert_array_equal(net[0].weight.detach(), weights[0].reshape(40, 63))


def test_what_numpy_itself_writes_is_read(tmp_path):
    weights = drawn(np.random.default_rng(1))
    held = np.empty(2, dtype=object)
    held[:] = weights
    np.save(tmp_path / "w.npy", held, allow_pickle=True)
    np.testing.assert_array_equal(read_arrays(tmp_path / "w.npy")[1], weights[1])


def test_a_file_of_python_2_is_read(tmp_path):
    """Its texts and bytes were one type: SHORT_BINSTRING and BINSTRING."""
    values = np.array([[0.5, -2.0]])

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    def array(shape: bytes, code: bytes, order: bytes, data: bytes) -> bytes:
        return (
            b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + text(b"b") + b"tR"
            b"(K\x01" + shape + b"cnumpy\ndtype\n(" + text(code) + b"K\x00K\x01tR(K\x03" + text(order)
            + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89" + data + b"tb"
        )  # fmt: skip

    data = b"T" + struct.pack("<i", 16) + values.tobytes()
    inner = array(b"(K\x01K\x02t", b"f8", b"<", data)
    outer = array(b"(K\x01t", b"O8", b"|", b"]" + inner + b"a")
    (found,) = read_arrays(npy(tmp_path / "w.npy", b"\x80\x02" + outer + b"."))
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("low", [-30.0, -75.0], ids=["early", "often silent"])
def test_every_neuron_fires_when_it_does_in_the_program_and_the_class_is_its(tmp_path, low):
    rng = np.random.default_rng(3)
    weights = drawn(rng, low)
    path = saved(tmp_path / "w.npy", weights, 4)
    images = np.stack([draw_image(rng, 63).reshape(7, 9) for _ in range(40)])
    in_order = fs.weights.s4nn(path, classes=None)
    _, hidden, output = in_order.trace(in_order.encode(images))
    verdict = fs.weights.s4nn_decide(fs.weights.s4nn(path), images)
    flat = [weight.reshape(len(weight), -1) for weight in weights]
    silent = 0
    for k, image in enumerate(images):
        (t_hidden, t_output), early = program(image.ravel(), flat)
        np.testing.assert_array_equal(hidden.times[k].detach(), t_hidden)
        np.testing.assert_array_equal(output.times[k].detach(), t_output)
        silent += t_output.min() == T
        for label, digit in enumerate(DIGITS):
            # The program's own evaluation, which takes any of those that tie.
            right = early.argmax() == label if t_output.min() == T else t_output[label] == t_output.min()
            assert verdict.right(torch.full((40,), digit))[k] == right
    assert 0 < silent < 40 if low < -50 else silent == 0


def test_the_weights_go_on_learning(tmp_path):
    weights = drawn(np.random.default_rng(3))
    net = fs.weights.s4nn(saved(tmp_path / "w.npy", weights, 4))
    images = np.stack([draw_image(np.random.default_rng(k), 63) for k in range(5)])
    seen = s4nn_epoch(
        net.encode(images), [0, 1, 2, 3, 4], [layer.weight for layer in net], S4NNRule(rate=0)
    )
    assert torch.equal(seen.output_times, net(net.encode(images)).times.detach().to(torch.float32))


def test_another_shape_is_refused(tmp_path):
    hidden, output = drawn(np.random.default_rng(0))
    name = tmp_path / "w.npy"
    for items, words in (
        ([hidden], ("(40, 7, 9)", "2 layers")),
        ([output, hidden], ("as many inputs",)),
        ([hidden, output, output], ("2 layers",)),
        ([hidden, np.zeros(10)], ("(neurons, inputs)",)),
        ([hidden, np.where(output > 50, np.nan, output)], ("NaN",)),
    ):
        with refused(InputError, str(name), *words):
            fs.weights.s4nn(saved(name, items, 4))
    with refused(InputError, "10 outputs", "classes=None"):
        fs.weights.s4nn(saved(name, [hidden, output], 4), classes=range(9))
    three = S4NNRule(thresholds=(100, 100, 100))
    follow = [hidden, output.repeat(4, 0), output]
    assert len(fs.weights.s4nn(saved(name, follow, 4), rule=three)) == 3
    with pytest.raises(FileNotFoundError):
        fs.weights.s4nn(tmp_path / "nothing.npy")


class Calls:
    """Pickled as a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> Any:
        return self.reduced


reconstruct = np.zeros(1).__reduce__()[0]
NUMBER = b"cnumpy\ndtype\n(X\x02\x00\x00\x00f8\x89\x88tR"
EMPTY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"


def in_list(content: bytes) -> bytes:
    """An array of arrays with one item."""
    kind = NUMBER.replace(b"f8", b"O8")
    return b"\x80\x04" + EMPTY + b"(K\x01K\x01\x85" + kind + b"\x89](" + content + b"etb."


def of_shape(shape: bytes) -> bytes:
    """An array of 8 bytes that claims another shape."""
    return in_list(EMPTY + b"(K\x01" + shape + NUMBER + b"\x89C\x08" + bytes(8) + b"tb")


HOSTILE = {
    "os.system": (Calls(os.system, "touch canary"), "system"),
    "subprocess": (Calls(subprocess.Popen, ["touch", "canary"]), "Popen"),
    "eval": (Calls(eval, "open('canary', 'w')"), "eval"),
    "getattr": (Calls(getattr, Calls(import_module, "numpy"), "load"), "getattr"),
    "numpy.load": (Calls(np.load, "x.npy", "r", True), "numpy.load"),
    "fromfile": (Calls(np.fromfile, "w.npy"), "fromfile"),
    "another type of array": (Calls(reconstruct, list, (0,), b"b"), "list"),
    "a huge empty array": (Calls(reconstruct, np.ndarray, (10**12,), b"b"), "reconstruct"),
    "another number": (Calls(np.dtype, "V1000000000", False, True), "dtype"),
    "text to encode": (b"\x80\x04c_codecs\nencode\n\x8c\x01a\x8c\x06base64\x86R.", "encode"),
    "a huge shape": (of_shape(b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86"), "8 bytes"),
    "a shape that overflows": (of_shape(b"\x8a\x09" + bytes(8) + b"\x01K\x01\x86"), "8 bytes"),
    "a negative shape": (of_shape(b"J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86"), "shape"),
    "many axes": (of_shape(b"(" + b"K\x01" * 70 + b"t"), "70 axes"),
    "no axis of numbers": (of_shape(b"(X\x01\x00\x00\x00at"), "shape"),
    "claimed bytes": (b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x.", "expected"),
    "claimed text": (b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x.", "expected"),
    "a far place in the memo": (b"\x80\x02Nr\xff\xff\xff\x7f.", "no array of arrays"),
    "a claimed frame": (b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.", "no array of arrays"),
    "an extension": (b"\x80\x02\x82\x01.", "EXT1"),
    "a persistent id": (b"\x80\x02NQ.", "BINPERSID"),
    "a new object": (b"\x80\x02cnumpy\nndarray\n)\x81.", "NEWOBJ"),
    "an instance": (b"(ios\nsystem\n.", "INST"),
    "an object": (b"(cnumpy\nndarray\no.", "OBJ"),
    "a name made of parts": (b"\x80\x04]]\x93.", "damaged"),
    "a state for a name": (b"\x80\x04cnumpy\ndtype\n}b.", "EMPTY_DICT"),
    "a state for a function": (b"\x80\x04cnumpy\ndtype\nNb.", "sets the state"),
    "a call of no function": (b"\x80\x04K\x01)R.", "calls something"),
    "appending to an array": (EMPTY + b"K\x01a.", "no list"),
    "an array within itself": (b"\x80\x04]q\x00h\x00a.", "no array of arrays"),
    "an item within itself": (
        b"\x80\x04" + EMPTY + b"q\x00(K\x01K\x01\x85" + NUMBER.replace(b"f8", b"O8") + b"\x89]h\x00atb.",
        "an item",
    ),
    "an empty stack": (b"\x80\x04R.", "damaged"),
    "an unknown place": (b"\x80\x04h\x07.", "damaged"),
    "an end too soon": (b"\x80\x04K\x01", "pickle"),
    "an operation that is none": (b"\x80\x04\xff.", "xff"),
    "nothing": (b"", "pickle"),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_file_is_refused_and_nothing_is_run(tmp_path, monkeypatch, what):
    monkeypatch.chdir(tmp_path)
    content, word = HOSTILE[what]
    protocols = [2, 3, 4, 5] if isinstance(content, Calls) else [None]
    for protocol in protocols:
        made = content if protocol is None else pickle.dumps(content, protocol=protocol)
        modules = set(sys.modules)
        tracemalloc.start()
        try:
            with refused(InputError, "w.npy", word, "nothing of it was run"):
                fs.weights.s4nn(npy(tmp_path / "w.npy", made))
            assert tracemalloc.get_traced_memory()[1] < 2**22
        finally:
            tracemalloc.stop()
        assert not {name for name in set(sys.modules) - modules if "cupy" in name}
    assert [path.name for path in tmp_path.iterdir()] == ["w.npy"]


def test_the_same_bytes_named_many_times_take_no_memory(tmp_path):
    values = np.ones((1000, 100))
    path = saved(tmp_path / "w.npy", [values] * 5000, 4)
    tracemalloc.start()
    try:
        with refused(InputError, "2 layers"):
            fs.weights.s4nn(path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_a_bomb_of_names_is_not_written_out(tmp_path):
    """Twice as many at each of 60 levels."""
    content = b"\x80\x04N" + b"q\x00h\x00\x86" * 60 + b"."
    with refused(InputError, "no array of arrays"):
        fs.weights.s4nn(npy(tmp_path / "w.npy", content))


def test_another_file_is_named_as_such(tmp_path):
    name = tmp_path / "w.npy"
    np.save(name, np.zeros((3, 4)))
    with refused(InputError, "one array of numbers"):
        fs.weights.s4nn(name)
    for content in (b"", b"text", b"\x93NUMPY\x09\x00", b"\x93NUMPY\x01\x00\x10\x27" + b"(" * 10_000):
        name.write_bytes(content)
        with refused(InputError, str(name)):
            fs.weights.s4nn(name)
    whole = saved(name, drawn(np.random.default_rng(0)), 4).read_bytes()
    for length in range(0, len(whole), len(whole) // 50):
        name.write_bytes(whole[:length])
        with refused(InputError, str(name)):
            fs.weights.s4nn(name)


def test_whatever_is_in_the_file_it_is_read_or_refused(tmp_path):
    rng = np.random.default_rng(0)
    name = tmp_path / "w.npy"
    items = [rng.random((2, 3)), np.asfortranarray(rng.random((1, 2)))]
    refusals = 0
    for protocol in (2, 3, 4, 5):
        whole = np.frombuffer(saved(name, items, protocol).read_bytes(), np.uint8)
        for _ in range(150):
            places = rng.integers(0, len(whole), rng.integers(1, 4))
            changed = whole.copy()
            changed[places] = rng.integers(0, 256, len(places))
            start, end = sorted(rng.integers(0, len(whole), 2))
            name.write_bytes(changed.tobytes() if rng.random() < 0.5 else whole.tobytes()[start:end])
            try:
                assert all(array.size < len(whole) for array in read_arrays(name))
            except InputError:
                refusals += 1
    assert 300 < refusals < 600
