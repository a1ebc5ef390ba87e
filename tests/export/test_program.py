"""C programs equal the integer model, line by line, under the sanitizers; what they refuse."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import refused
from drawn_networks import Drawn, networks
from hypothesis import given, settings
from hypothesis import strategies as st

import firstspike as fs
from firstspike.export.program import expected, write_idx
from firstspike.models.conv_gan import ConvGenerator, Levels
from firstspike.models.gan import SpikingGenerator
from firstspike.nn.normed import renew_statistics
from firstspike.support import InputError

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")

SANITIZED = "-O1 -fsanitize=address,undefined -fno-sanitize-recover=all"


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, arguments)), capture_output=True, text=True, check=False)


def built(folder: Path, flags: str = SANITIZED) -> Path:
    """Compile; warnings are errors by the Makefile's own flags."""
    done = run("make", "-s", "-C", folder, "network", f"CFLAGS={flags}", f"CC={COMPILER}")
    assert done.returncode == 0, done.stderr
    return folder / "network"


@settings(deadline=None, max_examples=20)
@given(networks(), st.sampled_from([8, 4, 3]), st.sampled_from(["channel", "layer"]))
def test_drawn_networks_print_the_integer_models_lines(drawn: Drawn, bits: int, per: str) -> None:
    net, shape, images = drawn
    whole = fs.integer(net, bits=bits, in_shape=shape, per=per)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "net"
        sizes = fs.export.c(whole, folder, vectors=images)
        done = run(built(folder), folder / "vectors.idx3-ubyte")
        assert done.returncode == 0, done.stderr
        assert done.stdout == (folder / "vectors.txt").read_text()
        assert done.stdout.splitlines() == expected(whole, None, images.flatten(1).numpy())[0]
    assert f"flash {sizes.flash} bytes of tables, RAM {sizes.ram} bytes" in done.stderr
    assert f"at most {sizes.operations} operations and {sizes.steps} steps" in done.stderr
    for line in done.stdout.splitlines():
        _, step, _, operations = map(int, line.split())
        assert step <= sizes.steps
        assert operations <= sizes.operations


@pytest.mark.parametrize("sides", [(1, 256), (256, 2)])
def test_a_side_of_256_is_counted(place: Path, sides: tuple[int, int]) -> None:
    source = torch.Generator().manual_seed(0)
    net = fs.Stack(
        fs.Conv2d(2, 2, 1, fs.Causal(threshold=0.2), generator=source),
        fs.Linear(2 * sides[0] * sides[1], 3, fs.Window(low=-3.0, high=3.0, steps=64), generator=source),
        steps=8,
    )
    fs.export.c(net, place / "net", in_shape=(2, *sides))
    built(place / "net")
    assert run("make", "-s", "-C", place / "net", "check", f"CFLAGS={SANITIZED}").returncode == 0


@pytest.mark.parametrize("classes", [0, 3])
def test_a_generator_makes_the_integer_models_pictures(place: Path, classes: int) -> None:
    source = torch.Generator().manual_seed(1)
    hidden = fs.Linear(6 + classes, 40, generator=source)
    pixels = fs.Linear(40, 35, fs.Window(high=1.0, steps=32), generator=source)
    for layer in (hidden, pixels):
        layer.weight.data *= 3
    generator = SpikingGenerator(fs.Stack(hidden, pixels, steps=16), 6, (5, 7), classes)
    fs.export.c(generator, place / "net")
    # With the Makefile's own flags only.
    assert run("make", "-s", "-C", place / "net", "check").returncode == 0
    run("make", "-s", "-C", place / "net", "clean")
    program = built(place / "net")
    out = place / "out.idx3-ubyte"
    label = ["2"] if classes else []
    done = run(program, 5, 12, out, *label)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 12
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"2" if classes else "-1"}
    assert np.frombuffer(out.read_bytes(), ">u4", 4).tolist() == [0x803, 12, 5, 7]
    # Another seed, other pictures; the same seed, the same.
    again, other = place / "again", place / "other"
    run(program, 5, 12, again, *label)
    run(program, 6, 12, other, *label)
    assert again.read_bytes() == out.read_bytes() != other.read_bytes()
    for arguments in (("x", 12), (5, "1e3"), (-1, 2), (5, 4294967296)):
        wrong = run(program, *map(str, arguments), place / "none")
        assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
        assert not (place / "none").exists()
    if classes:
        wrong = run(program, 5, 12, place / "none", "3")
        assert (wrong.returncode, wrong.stderr) == (2, "network: 3: is no label of this network\n")
        assert not (place / "none").exists()


def test_a_convolutional_generator_makes_the_integer_models_pictures(place: Path) -> None:
    torch.manual_seed(0)
    trained = ConvGenerator((1, 8, 12), noise_size=5, num_classes=3, maps=4, levels=Levels())
    inputs = trained.received(trained.noise(60), torch.arange(60) % 3)
    renew_statistics(trained, [inputs])
    generator = trained.eval().spiking()
    made = fs.integer(generator, bits=8)
    fs.export.c(made, place / "net")
    assert run("make", "-s", "-C", place / "net", "check", f"CFLAGS={SANITIZED}").returncode == 0
    noise, labels = generator.noise(20), torch.arange(20) % 3
    exact, whole = (one.images(one(noise, labels)).int() for one in (generator, made))
    # Weights of 8 bits move a pixel by a level or two of 64.
    assert (exact - whole).abs().float().mean() < 4
    assert len(whole.unique()) > 8


@pytest.mark.parametrize(
    ("shape", "prior", "words"), [((3, 4, 4), False, "colour"), ((1, 4, 4), True, "prior")]
)
def test_generators_that_a_program_cannot_draw_with_are_refused(
    place: Path, shape: tuple[int, ...], prior: bool, words: str
) -> None:
    trained = ConvGenerator(shape, noise_size=2, num_classes=0, maps=2, levels=Levels()).eval()
    table = torch.full((2, 17), 1 / 17) if prior else None
    for write in (fs.export.c, fs.export.html):
        with pytest.raises(InputError, match=words):
            write(trained.spiking(table), place / "net")


def test_what_is_no_file_of_samples_is_refused_in_one_line(place: Path) -> None:
    net = fs.Stack(fs.Linear(16, 3, generator=torch.Generator().manual_seed(0)), steps=8)
    fs.export.c(net, place / "net")
    program = built(place / "net")
    cases = {
        "missing": (None, "cannot be opened"),
        "empty": (b"", "is no IDX file of bytes"),
        "short": (bytes([0, 0, 8, 3, 0, 0]), "ends in its head"),
        "floats": (bytes([0, 0, 13, 2]) + bytes(8), "is no IDX file of bytes"),
        "wider": (bytes([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 5]) + bytes(20), "of another size"),
        "huge": (
            bytes([0, 0, 8, 3, 0, 0, 0, 1, 255, 255, 255, 255, 255, 255, 255, 255]),
            "of another size",
        ),
        "cut": (bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 4]) + bytes(17), "before its last"),
    }
    for name, (content, words) in cases.items():
        if content is not None:
            (place / name).write_bytes(content)
        done = run(program, place / name)
        assert done.returncode == 2
        assert done.stderr.startswith(f"network: {place / name}: ")
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
    assert run(program).returncode == 2


def test_the_source_keeps_what_it_promises(place: Path) -> None:
    net = fs.Stack(fs.Conv2d(1, 2, 3), fs.Linear(72, 3, fs.Window.output(32)), steps=8)
    fs.export.c(net, place / "net", in_shape=(1, 8, 8))
    text = (place / "net" / "network.c").read_text()
    for word in ("float", "double ", "malloc", "/ ", "%"):
        code = [line for line in text.splitlines() if not line.lstrip().startswith(("/*", "*"))]
        assert not any(word in line for line in code if "doubled" not in line), word
    # Between a spike and its membranes nothing is multiplied.
    walk = text[text.index("static void add(") : text.index("/* How many of the next inputs")]
    assert not [line for line in walk.splitlines() if " * " in line]
    assert sorted(path.name for path in (place / "net").iterdir()) == [
        "Makefile",
        "main.c",
        "network.c",
        "network.h",
        "vectors.idx3-ubyte",
        "vectors.txt",
    ]


def test_bad_requests_leave_nothing_behind(place: Path) -> None:
    net = fs.Stack(fs.Linear(16, 3), steps=8)
    with refused(ValueError, "16 bytes a sample", "(2, 15)"):
        fs.export.c(net, place / "net", vectors=torch.zeros(2, 15, dtype=torch.uint8))
    with refused(ValueError, "at least"):
        fs.export.c(net, place / "net", vectors=torch.zeros(0, 16, dtype=torch.uint8))
    maps = fs.Stack(fs.Conv2d(1, 2, 3), steps=8)
    with refused(ValueError, "maps", "fully connected"):
        fs.export.c(maps, place / "net", in_shape=(1, 8, 8))
    (place / "full").mkdir()
    (place / "full" / "file").write_text("")
    with refused(fs.InputError, "holds something already"):
        fs.export.c(net, place / "full")
    assert os.listdir(place) == ["full"]


@pytest.mark.slow
@pytest.mark.data
def test_every_mnist_test_image_is_decided_alike(place: Path, mnist_dir: str) -> None:
    recipe = fs.preset("aggressive-ttfs-window").configure(epochs=1)
    run_folder = fs.train(place / "run", "aggressive-ttfs-window", recipe, 0, data_dir=mnist_dir)
    whole = fs.integer(recipe.exported(run_folder.load()))
    test = fs.data.load("mnist", "test", mnist_dir)
    fs.export.c(whole, place / "net")
    images = place / "images"
    write_idx(images, test.images.numpy())
    lines = run(built(place / "net", "-O2"), images).stdout.splitlines()
    assert lines == expected(whole, None, test.images.flatten(1).numpy())[0]
    right = np.array([int(line.split()[0]) for line in lines]) == test.labels.numpy()
    assert right.mean() > 0.9
