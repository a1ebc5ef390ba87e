"""Causal networks as NIR: what a plain simulator makes of them, and back."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import conv, dense, draw_spikes, refused, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from nir_simulator import READERS, first_times, simulate
from torch import Tensor

import firstspike as fs
from firstspike import InputError
from firstspike.export import nir_files
from firstspike.nn.description import describe

nir = pytest.importorskip("nir")
h5py = pytest.importorskip("h5py")


def on_grid(*shape: int, seed: int, unit: float = 1 / 16) -> Tensor:
    """Weights of which every sum is exact, so often at the threshold itself."""
    return torch.randint(-6, 12, shape, generator=seeded(seed)) * unit


def plain(seed: int = 0, **how: Any) -> fs.Stack:
    return fs.Stack(
        dense(on_grid(12, 20, seed=seed), fs.Causal(**how)),
        dense(on_grid(5, 12, seed=seed + 1), fs.Causal(threshold=0.75, **how)),
        steps=16,
    )


def started() -> fs.Stack:
    neuron = fs.Causal(threshold=0.5, strict=True)
    return fs.Stack(
        dense(on_grid(12, 20, seed=0), neuron, on_grid(12, seed=1)),
        dense(on_grid(5, 12, seed=2), neuron, on_grid(5, seed=3)),
        steps=16,
    )


def driven() -> fs.Stack:
    neuron = fs.Causal(bias="current")
    return fs.Stack(
        dense(on_grid(12, 20, seed=0), neuron, on_grid(12, seed=1) / 8),
        dense(on_grid(5, 12, seed=2), neuron, -on_grid(5, seed=3) / 8),
        steps=16,
    )


def delayed() -> fs.Stack:
    return plain(strict=True, delay=2)


def residual() -> fs.Stack:
    further = fs.Connection.linear(20, 5, source=0)
    further.weight.data = on_grid(5, 20, seed=7)
    last = fs.Linear(12, 5, fs.Causal(), shortcuts=[further])
    last.weight.data = on_grid(5, 12, seed=2)
    return fs.Stack(dense(on_grid(12, 20, seed=0), fs.Causal()), last, steps=16)


def branched() -> fs.Stack:
    neuron = fs.Causal()
    side = dense(on_grid(12, 12, seed=3), neuron)
    side.source = 1
    further = fs.Connection.linear(12, 5, source=3)
    further.weight.data = on_grid(5, 12, seed=7)
    last = fs.Linear(12, 5, neuron, shortcuts=[further])
    last.weight.data = on_grid(5, 12, seed=2) - 0.1875
    before = [dense(on_grid(12, size, seed=size), neuron) for size in (20, 12, 12)]
    return fs.Stack(*before, side, last, steps=16)


def maps(bias: Tensor | None = None) -> fs.Stack:
    neuron = fs.Causal(threshold=2.0)
    return fs.Stack(
        conv(on_grid(4, 2, 3, 3, seed=0), neuron, bias, padding=1),
        fs.EarliestPool2d(2),
        conv(on_grid(3, 4, 2, 2, seed=1), neuron, stride=2),
        fs.AvgPool2d(2, fs.Causal(threshold=0.5, delay=1), stride=1, padding=1),
        dense(on_grid(5, 48, seed=2), neuron),
        steps=16,
    )


def by_map() -> fs.Stack:
    return maps(on_grid(4, seed=5) / 2)


NETWORKS = [plain, started, driven, delayed, residual, branched, maps, by_map]


def inputs_of(net: fs.Stack) -> tuple[fs.Spikes, tuple[int, ...] | None]:
    shape = (2, 12, 12) if net[0].takes[0] == "channels" else None
    return draw_spikes(30, *(shape or (20,)), seed=4), shape


def neurons(fired: dict[str, np.ndarray]) -> list[np.ndarray]:
    return [fired[f"neurons_{depth}"] for depth in range(len(fired))]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("make", NETWORKS)
def test_every_reader_with_connections_back_fires_once_at_our_steps(make: Any, reader: str) -> None:
    net = make()
    spikes, shape = inputs_of(net)
    graph = fs.export.nir_graph(net, in_shape=shape)
    fired = neurons(simulate(graph, spikes.raster().numpy(), reader))
    for layer, ours, theirs in zip(net, net.trace(spikes)[1:], fired, strict=True):
        events = layer.neuron.events()
        assert events is not None
        late = np.minimum(first_times(theirs) + events.delay, net.steps)
        assert np.array_equal(late, ours.detach().times.numpy())
        assert theirs.sum(0).max() == 1
    assert len(net(spikes).times.unique()) > 3


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    strict=st.booleans(),
    threshold=st.sampled_from([1 / 16, 0.25, 0.3, 1.0, 2.5]),
    steps=st.integers(2, 9),
    reader=st.sampled_from(sorted(READERS)),
)
def test_drawn_networks_fire_at_our_steps(
    seed: int, strict: bool, threshold: float, steps: int, reader: str
) -> None:
    neuron = fs.Causal(threshold=threshold, strict=strict)
    net = fs.Stack(
        dense(on_grid(7, 9, seed=seed), neuron, on_grid(7, seed=seed + 1) / 4 if seed % 2 else None),
        dense(on_grid(4, 7, seed=seed + 2), neuron),
        steps=steps,
    )
    spikes = draw_spikes(6, 9, steps=steps, seed=seed)
    fired = neurons(simulate(fs.export.nir_graph(net), spikes.raster().numpy(), reader))
    for ours, theirs in zip(net.trace(spikes)[1:], fired, strict=True):
        assert np.array_equal(first_times(theirs), ours.detach().times.numpy())
        assert theirs.sum(0).max() <= 1


def test_a_neuron_stays_silent_however_its_inputs_go_on() -> None:
    graph = fs.export.nir_graph(plain())
    everything = np.ones((16, 4, 20), bool)
    for fired in simulate(graph, everything, "above, subtracting").values():
        assert fired.sum(0).max() == 1


@pytest.mark.parametrize("make", NETWORKS)
def test_a_network_comes_back_as_it_was(make: Any, tmp_path: Path) -> None:
    net = make()
    spikes, shape = inputs_of(net)
    fs.export.nir(net, tmp_path / "net.nir", in_shape=shape)
    back = fs.from_nir(tmp_path / "net.nir")
    assert describe(back) == describe(net)
    weights = back.state_dict()
    assert list(weights) == list(net.state_dict())
    for name, tensor in net.state_dict().items():
        assert torch.equal(weights[name], tensor), name
    for ours, theirs in zip(net.trace(spikes), back.trace(spikes), strict=True):
        assert torch.equal(ours.times, theirs.times)
    # What was read is written alike.
    fs.export.nir(back, tmp_path / "again.nir", in_shape=shape)
    assert (tmp_path / "again.nir").read_bytes() == (tmp_path / "net.nir").read_bytes()


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("strict", [False, True])
def test_weights_of_any_kind_come_back_exactly(double: bool, strict: bool, tmp_path: Path) -> None:
    neuron = fs.Causal(threshold=0.7, strict=strict)
    net = fs.Stack(
        fs.Linear(20, 9, neuron, bias=True, generator=seeded(0)),
        fs.Linear(9, 4, neuron, generator=seeded(1)),
        steps=16,
    )
    net = net.double() if double else net
    fs.export.nir(net, tmp_path / "net.nir")
    back = fs.from_nir(tmp_path / "net.nir")
    assert describe(back) == describe(net)
    assert all(torch.equal(back.state_dict()[name], one) for name, one in net.state_dict().items())


def test_the_neurons_in_a_changed_file_are_those_of_its_graph(tmp_path: Path) -> None:
    graph = fs.export.nir_graph(plain())
    graph.nodes["neurons_0"].v_threshold += 1
    back = fs.from_nir(graph)
    events = back[0].neuron.events()
    assert events is not None
    assert (events.threshold, events.strict) == (2 - 1 / 32, True)


def drawn(*shape: int) -> np.ndarray:
    return on_grid(*shape, seed=3).numpy()


def population(*shape: int, threshold: float = 0.5, r: float = 1.0) -> Any:
    return nir.IF(r=np.full(shape, r), v_threshold=np.full(shape, threshold))


def listed(*nodes: Any) -> Any:
    return nir.NIRGraph.from_list(*nodes)


def test_a_plain_graph_of_others_is_read() -> None:
    graph = listed(
        nir.Input(np.array([2, 8, 8])),
        nir.Conv2d((8, 8), drawn(3, 2, 3, 3), 1, "same", 1, 1, np.zeros(3, np.float32)),
        population(3, 8, 8),
        nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        population(3, 4, 4, threshold=0.6),
        nir.Flatten({"input": np.array([3, 4, 4])}, 0, -1),
        nir.Linear(drawn(5, 48)),
        population(5, threshold=1.0),
    )
    net = fs.from_nir(graph, steps=16)
    neuron = fs.Causal(threshold=0.5, strict=True)
    expected = fs.Stack(
        conv(torch.from_numpy(drawn(3, 2, 3, 3)), neuron, padding=1),
        # More than 0.6 of 4 are 3.
        fs.AvgPool2d(2, fs.Causal(threshold=0.75)),
        dense(torch.from_numpy(drawn(5, 48)), fs.Causal(threshold=1.0, strict=True)),
        steps=16,
    )
    spikes = draw_spikes(20, 2, 8, 8)
    for found, wanted in zip(net.trace(spikes), expected.trace(spikes), strict=True):
        assert torch.equal(found.times, wanted.times)


def test_thresholds_that_differ_are_membranes_at_the_start() -> None:
    limits = np.array([0.5, -1.0, 2.0, 0.0], np.float32)
    weight = drawn(4, 9)
    net = fs.from_nir(listed(nir.Linear(weight), nir.IF(r=np.ones(4), v_threshold=limits)), steps=8)
    spikes = draw_spikes(50, 9, steps=8)
    arrived = (spikes.times.unsqueeze(0) <= torch.arange(8).reshape(8, 1, 1)).float()
    above = (arrived @ torch.from_numpy(weight).t() > torch.from_numpy(limits)).numpy()
    assert np.array_equal(net(spikes).detach().times.numpy(), first_times(above))


def test_the_time_step_must_fit() -> None:
    graph = listed(nir.Linear(drawn(4, 9)), population(4, r=1e4))
    with refused(InputError, "'if'", "r = 10000", "give dt=0.0001"):
        fs.from_nir(graph, steps=8)
    assert fs.from_nir(graph, steps=8, dt=1e-4).steps == 8


def test_an_input_may_count_one_sample() -> None:
    graph = listed(nir.Linear(drawn(4, 9)), population(4))
    graph.nodes["input"] = nir.Input(np.array([1, 9]))
    assert fs.from_nir(graph, steps=8).shapes() == [(9,), (4,)]


def test_others_files_need_steps() -> None:
    graph = listed(nir.Linear(drawn(4, 9)), population(4))
    with refused(InputError, "how many time steps", "give steps"):
        fs.from_nir(graph)
    with refused(ValueError, "2 ... 65535"):
        fs.from_nir(graph, steps=1)


def looped() -> Any:
    graph = listed(nir.Linear(drawn(4, 9)), population(4))
    graph.nodes["back"] = nir.Linear(np.full((4, 4), -1.0))
    graph.edges += [("if", "back"), ("back", "if")]
    return graph


def unconnected() -> Any:
    graph = listed(nir.Linear(drawn(4, 9)), population(4))
    graph.edges.append(("if", "nowhere"))
    return graph


def forked() -> Any:
    graph = listed(nir.Linear(drawn(4, 9)), population(4))
    graph.nodes["second"] = nir.Output(np.array([4]))
    graph.edges.append(("if", "second"))
    return graph


def damaged(**values: Any) -> Any:
    graph = listed(nir.Linear(drawn(4, 9)), population(4))
    for name, value in values.items():
        setattr(graph.nodes["linear" if name == "weight" else "if"], name, value)
    return graph


def placed(padding: int = 1, groups: int = 1, uneven: float = 0.0) -> Any:
    """A convolution before neurons whose thresholds are 0 and 1 in its two maps."""
    side = 2 + 2 * padding
    threshold = np.arange(2.0).reshape(2, 1, 1) * np.ones((2, side, side))
    threshold[0, 0, 0] += uneven
    weights = nir.Conv2d(
        (4, 4), drawn(2, 2 // groups, 3, 3), 1, padding, 1, groups, np.zeros(2, np.float32)
    )
    nodes = {
        "input": nir.Input(np.array([2, 4, 4])),
        "conv": weights,
        "if": nir.IF(np.ones_like(threshold), threshold),
        "output": nir.Output(np.array(threshold.shape)),
    }
    return nir.NIRGraph(nodes, list(pairwise(nodes)), type_check=False)


def test_thresholds_of_maps_are_membranes_at_the_start() -> None:
    graph = placed()
    spikes = draw_spikes(20, 2, 4, 4, steps=8)
    fired = simulate(graph, spikes.raster().numpy(), "above, to zero")["if"]
    assert np.array_equal(fs.from_nir(graph, steps=8)(spikes).detach().times.numpy(), first_times(fired))


REFUSED = [
    (lambda: placed(uneven=0.5), ["'if' (IF) has thresholds that differ within a map"]),
    (lambda: placed(groups=2), ["'conv' (Conv2d)", "one group"]),
    (lambda: placed(padding=2), ["'conv' (Conv2d)", "padding below half the kernel"]),
    (
        lambda: listed(nir.Linear(drawn(4, 9)), nir.LIF(*[np.ones(4)] * 4)),
        ["'lif' (LIF) is not read", "IF"],
    ),
    (looped, ["'if' (IF) lies in a loop"]),
    (unconnected, ["'nowhere'"]),
    (forked, ["1 inputs and 2 outputs"]),
    (lambda: listed(nir.Linear(drawn(4, 9))), ["must take the spikes of the last IF neurons"]),
    (
        lambda: listed(nir.Linear(drawn(4, 9)), nir.Linear(drawn(5, 4)), population(5)),
        ["put IF neurons between"],
    ),
    (lambda: listed(population(4)), ["'input' (Input) leads into IF neurons"]),
    (lambda: damaged(weight=np.full((4, 9), np.nan)), ["'linear'.weight holds NaN"]),
    (lambda: damaged(weight=np.array(["a"])), ["'linear'.weight holds", "numbers are expected"]),
    (lambda: damaged(weight=drawn(4, 8)), ["'linear' (Linear)", "8"]),
    (lambda: damaged(weight=drawn(2, 4, 9)), ["one matrix"]),
    (lambda: damaged(v_threshold=np.ones(5)), ["has the shape (5,), its inputs give (4,)"]),
    (lambda: damaged(v_threshold=np.full(4, np.inf)), ["'if'.v_threshold holds NaN or infinity"]),
    (lambda: damaged(r=np.array([1.0, 1, 1, 2])), ["'if'.r differs"]),
    (
        lambda: listed(nir.Affine(drawn(4, 9), np.ones(4)), nir.IF(np.ones(4), np.arange(4.0))),
        ["has a bias before it, and thresholds that differ"],
    ),
    (lambda: nir.Linear(drawn(4, 9)), ["holds Linear alone"]),
]


@pytest.mark.parametrize(("make", "words"), REFUSED)
def test_what_has_no_meaning_is_refused(make: Any, words: list[str]) -> None:
    with refused(InputError, *words):
        fs.from_nir(make(), steps=8)


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (fs.Stack(fs.Linear(4, 2), steps=8), ["layer 0 has Window neurons", "train Causal neurons"]),
        (fs.Stack(fs.Linear(4, 2, fs.Ramp()), steps=8), ["layer 0 has Ramp neurons"]),
        (fs.Stack(fs.Conv2d(2, 4, 3, fs.Causal(), groups=2), steps=8), ["2 groups"]),
        (fs.Stack(fs.Conv2d(2, 4, (3, 1), fs.Causal()), steps=8), ["a kernel of (3, 1)"]),
        (fs.Stack(dense([[float("nan")]], fs.Causal()), steps=8), ["layer 0 hold NaN"]),
        (torch.nn.Linear(4, 2), ["expected a firstspike.Stack"]),
    ],
)
def test_what_nir_cannot_say_is_refused(net: Any, words: list[str], tmp_path: Path) -> None:
    maps = isinstance(net, fs.Stack) and net[0].takes[0] == "channels"
    with refused(InputError, *words):
        fs.export.nir(net, tmp_path / "net.nir", in_shape=(2, 8, 8) if maps else None)
    assert not list(tmp_path.iterdir())


def test_maps_need_the_shape_of_the_input(tmp_path: Path) -> None:
    with refused(InputError, "give in_shape"):
        fs.export.nir(maps(), tmp_path / "net.nir")
    with refused(InputError, "layer 0"):
        fs.export.nir(maps(), tmp_path / "net.nir", in_shape=(3, 12, 12))


@pytest.fixture
def written(tmp_path: Path) -> Path:
    fs.export.nir(plain(), tmp_path / "net.nir")
    return tmp_path / "net.nir"


def test_damaged_files_are_refused_in_one_line(written: Path) -> None:
    content = written.read_bytes()
    for end in (0, 10, len(content) // 2, len(content) - 1):
        written.write_bytes(content[:end])
        with refused(InputError, "net.nir"):
            fs.from_nir(written)
    written.write_bytes(b"no HDF5 at all" * 100)
    with refused(InputError, "net.nir is damaged or no NIR file"):
        fs.from_nir(written)


def test_a_crash_of_the_library_is_one_line(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash = tmp_path / "crash.py"
    crash.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setattr(nir_files, "_DUMP", crash)
    with refused(InputError, "net.nir is damaged or no NIR file (HDF5 cannot read it)"):
        fs.from_nir(written)


@pytest.mark.slow
def test_a_changed_byte_gives_a_network_or_one_line(written: Path) -> None:
    content = written.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(60):
        changed = bytearray(content)
        changed[random.integers(len(content))] = random.integers(256)
        written.write_bytes(bytes(changed))
        said = ""
        try:
            fs.from_nir(written)
        except InputError as error:
            said = str(error)
        assert "\n" not in said


def test_files_with_something_else_are_refused(written: Path, tmp_path: Path) -> None:
    with refused(InputError, "nothing.nir is no file"):
        fs.from_nir(tmp_path / "nothing.nir")
    with refused(InputError, "is no file"):
        fs.from_nir(tmp_path)
    with h5py.File(written, "r+") as file:
        del file["node/nodes/neurons_1/type"]
        file["node/nodes/neurons_1/type"] = "Spiker"
    with refused(InputError, "net.nir: 'neurons_1' (Spiker) is not read"):
        fs.from_nir(written)
    nir.write(written, nir.Linear(drawn(4, 9)))
    with refused(InputError, "net.nir"):
        fs.from_nir(written, steps=8)


def test_nothing_outside_of_a_file_is_read(written: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.nir"
    other.write_bytes(written.read_bytes())
    for link in (h5py.ExternalLink(str(other), "/node/nodes/input"), h5py.SoftLink("/node/nodes/output")):
        written.write_bytes(other.read_bytes())
        with h5py.File(written, "r+") as file:
            del file["node/nodes/input"]
            file["node/nodes/input"] = link
        with refused(InputError, "net.nir has a link, 'input'"):
            fs.from_nir(written)
    written.write_bytes(other.read_bytes())
    with h5py.File(written, "r+") as file:
        weights = file["node/nodes/weights_0"]
        del weights["weight"]
        weights.create_dataset("weight", (12, 20), "f4", external=[(str(other), 0, 960)])
    with refused(InputError, "keeps 'weight' in another file"):
        fs.from_nir(written)


def test_a_small_file_cannot_ask_for_much_memory(written: Path) -> None:
    with h5py.File(written, "r+") as file:
        weights = file["node/nodes/weights_0"]
        del weights["weight"]
        weights.create_dataset("weight", (2**20, 2**20), "f4", chunks=(1024, 1024))
    with refused(InputError, "net.nir would take 4398", "2 GB"):
        fs.from_nir(written)
    with h5py.File(written, "r+") as file:
        # A group in itself.
        file["node/nodes/weights_0/again"] = file["node"]
    with refused(InputError, "net.nir nests groups"):
        fs.from_nir(written)


def test_without_the_package_it_is_said_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "nir", None)
    for use in (
        lambda: fs.export.nir(plain(), tmp_path / "net.nir"),
        lambda: fs.from_nir(tmp_path / "x.nir"),
    ):
        with refused(InputError, "pip install 'firstspike[nir]'"):
            use()
    assert not list(tmp_path.iterdir())


def test_names_are_what_readers_make_modules_of() -> None:
    graph = fs.export.nir_graph(residual())
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in graph.nodes)
