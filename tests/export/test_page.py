"""The page decides and generates like the integer network, in a browser, and can be used."""

import base64
import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import Browser, browser, installed
from torch import Tensor

import firstspike as fs
from firstspike.export.page import html
from firstspike.metrics.cost import spikes_to_decision, steps_to_decision, synaptic_operations
from firstspike.models.gan import SpikingGenerator

COUNT = 1000


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = installed()
    if program is None:
        pytest.skip("no Chromium or Chrome is installed, in which a page can be tried")
    with browser(program, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def read(page: Browser, path: Path) -> None:
    """Open a page; it must not ask for anything but itself, nor complain."""
    page.requests.clear()
    page.messages.clear()
    page.open(path.as_uri())
    assert page.requests == [path.as_uri()]
    assert page.messages == []


def pictures() -> tuple[Tensor, Tensor]:
    """1,000 pictures: MNIST's test set where it is there, else small digits."""
    folder = os.environ.get("FIRSTSPIKE_DATA")
    test = fs.data.load("mnist", "test", folder) if folder else fs.data.load("digits", "train")
    return test.images[:COUNT], test.labels[:COUNT]


def loud(stack: fs.Stack) -> fs.Stack:
    """The network with weights that let deep layers spike."""
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter *= 2.5
    return stack


@torch.no_grad()
def spread(stack: fs.Stack, images: Tensor) -> fs.Stack:
    """The network with output membranes that differ from picture to picture, around the same mean."""
    membrane = loud(stack).read(stack.encode(images))[1]
    scale, output = 0.2 / membrane.std(0), stack[len(stack) - 1]
    output.weight *= scale[:, None]
    output.bias.copy_((output.bias - membrane.mean(0)) * scale + 0.4)
    return stack


def network_of(name: str, images: Tensor) -> fs.IntegerNetwork:
    g = torch.Generator().manual_seed(0)
    side = images.shape[-1]
    half = math.ceil(side / 2)
    if name == "dense":
        dense = fs.Stack(
            fs.Linear(side * side, 60, generator=g),
            fs.Linear(60, 10, fs.Window.output(steps=32), generator=g),
            steps=16,
        )
        return fs.integer(spread(dense, images))
    if name == "conv":
        residual = fs.Connection.conv2d(1, 6, 1, stride=2, source=0, generator=g)
        conv = fs.Stack(
            fs.Conv2d(1, 6, 3, stride=2, padding=1, generator=g),
            fs.Conv2d(
                6, 6, 3, padding=1, neuron=fs.Window(input_low=-1), shortcuts=[residual], generator=g
            ),
            fs.EarliestPool2d(2),
            fs.Linear(6 * (half // 2) ** 2, 10, fs.Window.output(steps=32), generator=g),
            steps=8,
        )
        return fs.integer(spread(conv, images), in_shape=(1, side, side))
    causal = fs.Stack(
        fs.Linear(side * side, 60, fs.Causal(), generator=g),
        fs.Linear(60, 10, fs.Causal(delay=1), bias=True, generator=g),
        steps=64,
    )
    return fs.integer(loud(causal))


def bytes_of(values: Tensor) -> str:
    """An expression of these bytes in JavaScript."""
    text = base64.b64encode(values.numpy().tobytes()).decode()
    return f'Uint8Array.from(atob("{text}"), (c) => c.charCodeAt(0))'


def decide_all(page: Browser, images: Tensor) -> list[list[int]]:
    """Label, step, spikes and operations of each picture in the page."""
    size = images[0].numel()
    found: list[list[int]] = page.evaluate(
        f"((bytes) => Array.from({{ length: {len(images)} }}, (_, i) => Object.values("
        f"firstspike.decide(bytes.subarray(i * {size}, (i + 1) * {size})))))({bytes_of(images)})"
    )
    return found


@pytest.mark.parametrize("name", ["dense", "conv", "causal"])
def test_the_page_decides_as_the_integer_network(page: Browser, name: str, tmp_path: Path) -> None:
    images, labels = pictures()
    network = network_of(name, images)
    html(network, tmp_path / "page.html", images=images, labels=labels)
    assert (tmp_path / "page.html").stat().st_size < 1_500_000

    read(page, tmp_path / "page.html")
    found = torch.tensor(decide_all(page, images))

    traced = network.trace(network.encode(images))
    verdict = fs.FirstSpike().decide(traced[-1])
    wanted = torch.stack(
        [
            verdict.label,
            steps_to_decision(network, traced[-1]).long(),
            spikes_to_decision(network, traced).sum(1).long(),
            synaptic_operations(network, traced).long(),
        ],
        1,
    )
    # The network says something: several classes, and not all at one step.
    assert len(wanted[:, 0].unique()) > 3
    assert len(wanted[:, 1].unique()) > 3
    assert torch.equal(found, wanted)


def test_the_page_of_the_largest_shallow_preset_stays_small(tmp_path: Path) -> None:
    images, labels = pictures()
    size = images[0].numel()
    g = torch.Generator().manual_seed(0)
    # As large as the largest shallow preset on MNIST.
    net = fs.Stack(
        fs.Linear(size, 794_000 // (size + 10), generator=g),
        fs.Linear(794_000 // (size + 10), 10, generator=g),
        steps=16,
    )
    html(net, tmp_path / "page.html", images=images, labels=labels)
    assert (tmp_path / "page.html").stat().st_size < 1_500_000


@pytest.fixture
def classifier(page: Browser, tmp_path: Path) -> tuple[Browser, fs.IntegerNetwork, Tensor, Tensor]:
    """An open page of a dense network, the network, and what the page has to pick from."""
    images, labels = pictures()
    network = network_of("dense", images)
    html(network, tmp_path / "page.html", images=images, labels=labels, title="</script><b>7 & 8")
    page.look(1280, 900)
    read(page, tmp_path / "page.html")
    return page, network, images, labels


def shown(page: Browser) -> Tensor:
    """The picture that the page shows, ``(1, height, width)``."""
    flat = torch.tensor(page.evaluate("Array.from(firstspike.pixels())"), dtype=torch.uint8)
    side = math.isqrt(len(flat))
    return flat.reshape(1, side, side)


def says_what_it_should(page: Browser, network: fs.IntegerNetwork) -> None:
    """Compare the page with the network for the picture and step that it shows."""
    traced = network.trace(network.encode(shown(page)))
    step = int(page.text("#step"))
    decision = steps_to_decision(network, traced[-1])
    until = decision.clamp(max=step)
    assert page.text("#spikes") == f"{int(spikes_to_decision(network, traced, until).sum()):,}"
    assert page.text("#operations") == f"{int(synaptic_operations(network, traced, decision=until)):,}"
    if step < decision:
        assert page.text("#sentence") == "No output has fired yet."
        return
    verdict = fs.FirstSpike().decide(traced[-1])
    label = int(verdict.label)
    if label < 0:
        assert ("A tie" if verdict.tied else "Silence") in page.text("#sentence")
    else:
        assert page.text("#digit") == str(label)
        assert page.text("#sentence").startswith(
            f"{label} at step {int(decision)}, by the first output spike"
        )


STROKE = [(0.2, 0.2), (0.35, 0.22), (0.5, 0.2), (0.45, 0.3), (0.4, 0.45)]


@pytest.mark.parametrize("hand", ["stroke", "touch"])
def test_drawing(classifier: tuple[Browser, fs.IntegerNetwork, Tensor, Tensor], hand: str) -> None:
    page, network, images, _ = classifier
    page.click("#clear")
    assert page.text("#sentence") == "The canvas is empty. Draw on it, or pick a test image."
    assert (page.text("#spikes"), page.text("#operations"), page.text("#digit")) == ("0", "0", "")

    getattr(page, hand)([page.point("#paper", x, y) for x, y in STROKE])

    # A small seven in a corner, as large and as central as those of the data set.
    picture = shown(page)[0].float()
    side = len(picture)
    at = torch.arange(side) + 0.5
    mass = [float((picture.sum(axis) @ at) / picture.sum()) for axis in (1, 0)]
    inked = [picture.sum(axis).nonzero().flatten() for axis in (1, 0)]
    extent = max(int(each[-1] - each[0]) + 1 for each in inked)
    ink = images.float()
    wanted = [float(((ink.sum(axis) @ at) / ink.sum((1, 2))).mean()) for axis in (2, 1)]
    if side == 28:
        assert 20 <= extent <= 21
        assert mass == pytest.approx(wanted, abs=0.3)
    else:
        # The small digits fill their frame, and leave no room to move.
        assert extent == side
        assert mass == pytest.approx(wanted, abs=1)
    page.evaluate("clock.jump(clock.goal)")
    says_what_it_should(page, network)

    # It runs by itself, some time after the hand has left.
    page.evaluate("clock.jump(0)")
    page.wait("clock.timer !== null")
    page.wait("clock.timer === null")
    assert page.evaluate("clock.step === clock.goal")
    says_what_it_should(page, network)
    page.key("Delete")
    assert page.text("#sentence").startswith("The canvas is empty.")


def test_picking_and_walking(classifier: tuple[Browser, fs.IntegerNetwork, Tensor, Tensor]) -> None:
    page, network, images, labels = classifier
    assert page.evaluate("document.title") == "</script><b>7 & 8"
    assert torch.equal(shown(page), images[:1])
    says_what_it_should(page, network)

    page.click("#samples button:nth-child(5)")
    assert torch.equal(shown(page), images[4:5])
    page.key(" ", " ")
    assert page.evaluate("clock.timer === null && clock.step < clock.goal")
    page.key(" ", " ")
    page.wait("clock.step === clock.goal && clock.timer === null")
    says_what_it_should(page, network)
    right = page.text("#digit") == str(int(labels[4]))
    assert page.text("#sentence").endswith(
        ": right." if right else f": wrong, the label is {int(labels[4])}."
    ) or ("no decision" in page.text("#sentence"))

    page.key("Home")
    end = network.offsets[-1] + network.out_steps
    for step in range(end + 1):
        assert page.text("#step") == str(step)
        says_what_it_should(page, network)
        page.key("ArrowRight")
    page.key("ArrowLeft")
    assert page.text("#step") == str(end - 1)
    # The slider, dragged to its middle.
    page.stroke([page.point("#slider", 0.02, 0.5), page.point("#slider", 0.5, 0.5)])
    assert abs(int(page.text("#step")) - end / 2) <= 1
    says_what_it_should(page, network)

    page.evaluate("document.activeElement.blur()")
    page.key("3")
    assert torch.equal(shown(page), images[5:][labels[5:] == 3][:1])
    page.key("Home")
    page.key(" ", " ")
    assert page.evaluate("clock.timer !== null")
    page.key(" ", " ")
    assert page.evaluate("clock.timer === null")

    page.reload()
    assert torch.equal(shown(page), images[:1])
    says_what_it_should(page, network)
    assert page.messages == []


def test_the_reader_is_heeded(classifier: tuple[Browser, fs.IntegerNetwork, Tensor, Tensor]) -> None:
    page, *_ = classifier
    page.look(360, 780, dark=True, calm=True)
    page.reload()
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.key("3")
    assert page.evaluate("clock.timer === null && clock.step === clock.goal")

    page.look(1280, 900)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark


def test_ties_and_silence_in_words(page: Browser, tmp_path: Path) -> None:
    net = fs.Stack(fs.Linear(4, 2, fs.Causal(), bias=False), steps=8)
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[2.0, 2.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0]]))
    images = torch.tensor([[[255, 0], [0, 0]], [[0, 255], [0, 0]], [[0, 0], [255, 0]]], dtype=torch.uint8)
    html(net, tmp_path / "page.html", images=images)
    read(page, tmp_path / "page.html")

    assert decide_all(page, images) == [[0, 0, 2, 2], [-1, 0, 3, 2], [-1, 8, 1, 2]]
    said = []
    for number in (1, 2, 3):
        page.click(f"#samples button:nth-child({number})")
        page.key("End")
        said.append(page.text("#sentence"))
    assert said[0] == "0 at step 0, by the first output spike."
    assert said[1] == "A tie: outputs 0 and 1 fire together at step 0, so there is no decision."
    assert said[2] == "Silence: no output fires in 8 steps, so there is no decision."
    with pytest.raises(AssertionError, match="expected 4 intensities, found 3"):
        page.evaluate("firstspike.decide(new Uint8Array(3))")


@pytest.mark.parametrize("classes", [0, 10])
def test_generating(page: Browser, classes: int, tmp_path: Path) -> None:
    g = torch.Generator().manual_seed(0)
    stack = fs.Stack(fs.Linear(12 + classes, 20, generator=g), fs.Linear(20, 48, generator=g), steps=64)
    generator = fs.integer(SpikingGenerator(loud(stack), 12, (8, 6), classes))
    html(generator, tmp_path / "page.html")
    page.look(1280, 900)
    read(page, tmp_path / "page.html")

    def pictures_of(seed: int, labels: Tensor | None) -> tuple[Tensor, list[fs.Spikes]]:
        levels = torch.tensor(mulberry32(seed, 40 * 12), dtype=torch.uint8).reshape(40, 12)
        noise = generator.stack[0].neuron.encode(levels, generator.stack.steps)
        traced = generator.trace(noise, labels)
        return levels, traced

    seed, all_labels = 5, torch.arange(40) % 10 if classes else None
    page.evaluate(f"byId('seed').value = {seed}; byId('seed').dispatchEvent(new Event('input'))")
    levels, traced = pictures_of(seed, all_labels)
    images = generator.images(traced[-1])
    assert len(images.unique()) > 10
    network = generator.stack
    end = torch.full((40,), float(network.last_step))
    spikes = spikes_to_decision(network, traced, end).sum(1)
    operations = synaptic_operations(network, traced, decision=end)
    for number in range(40):
        label = "undefined" if all_labels is None else int(all_labels[number])
        assert page.evaluate(f"Array.from(firstspike.noise({seed}, {number}))") == levels[number].tolist()
        found = page.evaluate(
            f"(({{pixels, ...rest}}) => ({{pixels: Array.from(pixels), ...rest}}))"
            f"(firstspike.generate(firstspike.noise({seed}, {number}), {label}))"
        )
        assert found == {
            "pixels": images[number].flatten().tolist(),
            "spikes": int(spikes[number]),
            "operations": int(operations[number]),
        }

    # What is on the screen: a picture of the grid, at a step in the output's window.
    page.click("#grid button:nth-child(14)")
    step = network.offsets[-1] + 20
    page.evaluate(f"clock.jump({step})")
    arrived = traced[-1].with_times(
        torch.where(traced[-1].times <= 20, traced[-1].times, float(traced[-1].steps))
    )
    assert painted(page, "#picture") == generator.images(arrived)[13].flatten().tolist()
    assert (
        painted(page, "#grid button:nth-child(3) canvas") == generator.images(arrived)[2].flatten().tolist()
    )
    until = torch.full((40,), float(step))
    assert page.text("#spikes") == f"{int(spikes_to_decision(network, traced, until).sum(1)[13]):,}"
    assert page.text("#operations") == f"{int(synaptic_operations(network, traced, decision=until)[13]):,}"

    page.click("#another")
    assert page.evaluate("clock.timer !== null")
    page.key("End")
    _, other = pictures_of(seed + 1, all_labels)
    assert painted(page, "#picture") == generator.images(other[-1])[13].flatten().tolist()
    assert page.evaluate("byId('labels').hidden") is (classes == 0)
    if classes:
        page.evaluate("document.activeElement.blur()")
        page.key("4")
        _, fours = pictures_of(seed + 1, torch.full((40,), 4))
        assert painted(page, "#picture") == generator.images(fours[-1])[13].flatten().tolist()
        page.click("#labels label:first-of-type input")
        assert painted(page, "#picture") == generator.images(other[-1])[13].flatten().tolist()

    page.evaluate("byId('seed').value = '-3'; byId('seed').dispatchEvent(new Event('input'))")
    assert page.text("#seed-message") == "A seed is an integer from 0 to 4,294,967,295."
    page.reload()
    assert page.text("#sentence").startswith("Label 0, seed 0" if classes else "Seed 0")
    assert page.messages == []


def mulberry32(seed: int, count: int) -> list[int]:
    """The highest 8 bits of the generator's numbers, with Python's integers."""
    found, mask = [], 2**32 - 1
    for _ in range(count):
        seed = (seed + 0x6D2B79F5) & mask
        mixed = ((seed ^ (seed >> 15)) * (seed | 1)) & mask
        mixed ^= (mixed + ((mixed ^ (mixed >> 7)) * (mixed | 61) & mask)) & mask
        found.append(((mixed ^ (mixed >> 14)) & mask) >> 24)
    return found


def painted(page: Browser, selector: str) -> list[int]:
    """How much ink a canvas shows, pixel by pixel."""
    found: list[int] = page.evaluate(
        f"""((canvas) => {{
            const image = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            return Array.from(image.data).filter((_, i) => i % 4 === 3);
        }})(document.querySelector({selector!r}))"""
    )
    return found


def dense(features: int) -> fs.Stack:
    return fs.Stack(fs.Linear(features, 3, generator=torch.Generator().manual_seed(0)), steps=8)


def conv(channels: int) -> fs.Stack:
    g = torch.Generator().manual_seed(0)
    return fs.Stack(fs.Conv2d(channels, 2, 3, generator=g), fs.Linear(2 * 36, 3, generator=g), steps=8)


def test_what_a_page_needs_is_said(tmp_path: Path) -> None:
    grey = np.zeros((2, 8, 8), np.uint8)
    path = tmp_path / "page.html"
    generator = SpikingGenerator(dense(4), 4, (1, 3))
    for net, given, error, words in (
        (conv(3), {"images": grey}, fs.InputError, "3 channels"),
        (fs.Stack(conv(1)[0], steps=8), {"images": grey}, fs.InputError, "output is maps of 2 x 6 x 6"),
        (conv(1), {}, fs.InputError, r"give images \(count, height, width\)"),
        (dense(5), {}, fs.InputError, "which height and width the network's 5 inputs have"),
        (dense(5), {"images": grey}, ValueError, "takes 5 inputs, found images of 8 x 8"),
        (dense(64), {"images": grey[0, 0]}, ValueError, "images must be"),
        (dense(64), {"images": grey[:0]}, ValueError, "hold at least one"),
        (dense(64), {"images": grey, "labels": [0]}, ValueError, "labels must have the shape"),
        (dense(64), {"labels": [0]}, ValueError, "labels need the images"),
        (generator, {"images": grey}, ValueError, "a generator's page takes no images"),
        (torch.nn.Linear(4, 2), {}, TypeError, "takes a firstspike.Stack"),
    ):
        with pytest.raises(error, match=words):
            html(net, path, **given)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    html(dense(64), tmp_path / "page.html", images=np.random.default_rng(0).random((3, 8, 8)))
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    for asking in ("http:", "https:", "//cdn", "@import", "fetch(", "XMLHttpRequest", "src="):
        assert asking not in text
