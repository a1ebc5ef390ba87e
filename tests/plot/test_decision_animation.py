import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from PIL import Image

from firstspike import Spikes
from firstspike.plot import decision_animation
from firstspike.plot._scene import verdict
from firstspike.plot._style import NIGHT, YELLOW
from firstspike.plot.decision import frame_steps

IMAGE = np.array([[255, 0], [255, 255]], np.uint8)
LAYERS = {
    "input": Spikes([0, 8, 1, 5], 8),
    "hidden": Spikes([2, 8, 3], 8),
    "output": Spikes([8, 4, 6], 8),
}


def frames(path):
    with Image.open(path) as gif:
        assert gif.format == "GIF"
        result, durations = [], []
        for index in range(gif.n_frames):
            gif.seek(index)
            result.append(gif.convert("RGB"))
            durations.append(gif.info["duration"])
    return result, durations


def pixel_color(frame, row, column):
    """The colour of a pixel of the 2 x 2 image: its panel spans 20 ... 220 and 51 ... 251 dots."""
    return frame.getpixel((20 + 50 + 100 * column, 51 + 50 + 100 * row))


def rgb(color):
    return tuple(round(255 * channel) for channel in to_rgb(color))


def test_one_frame_per_step_up_to_the_decision(tmp_path):
    path = decision_animation(IMAGE, LAYERS, tmp_path / "a.gif")
    shown, durations = frames(path)
    assert len(shown) == 5
    assert durations[-1] > 3 * durations[0]
    assert [file.name for file in tmp_path.iterdir()] == ["a.gif"]


def test_pixels_light_up_as_they_spike(tmp_path):
    shown, _ = frames(decision_animation(IMAGE, LAYERS, tmp_path / "a.gif"))
    white, night, new = (255, 255, 255), rgb(NIGHT), rgb(YELLOW)
    assert [pixel_color(frame, 0, 0) for frame in shown] == [new, white, white, white, white]
    assert [pixel_color(frame, 1, 0) for frame in shown] == [night, new, white, white, white]
    assert [pixel_color(frame, 0, 1) for frame in shown] == [night] * 5
    assert [pixel_color(frame, 1, 1) for frame in shown] == [night] * 5


def test_window_layers_follow_each_other(tmp_path):
    offsets = {"hidden": 8, "output": 16}
    path = decision_animation(IMAGE, LAYERS, tmp_path / "a.gif", offsets=offsets)
    assert len(frames(path)[0]) == 16 + 4 + 1


def test_a_silent_output_runs_to_the_end(tmp_path):
    layers = LAYERS | {"output": Spikes([8, 8, 8], 8)}
    assert len(frames(decision_animation(IMAGE, layers, tmp_path / "a.gif"))[0]) == 8


def test_membranes_and_labels_are_accepted_and_the_file_stays_small(tmp_path):
    generator = torch.Generator().manual_seed(0)
    steps = 256
    image = torch.randint(0, 256, (28, 28), generator=generator).to(torch.uint8)
    layers = {
        "input": Spikes(torch.randint(0, steps + 1, (784,), generator=generator), steps),
        "hidden": Spikes(torch.randint(0, steps + 1, (1000,), generator=generator), steps),
        "output": Spikes([steps] * 9 + [steps - 1], steps),
    }
    path = decision_animation(
        image,
        layers,
        tmp_path / "a.gif",
        membranes=torch.linspace(-1, 1, steps)[:, None].expand(steps, 10),
        labels=list("abcdefghij"),
        max_frames=24,
    )
    assert len(frames(path)[0]) == 24
    assert path.stat().st_size < 1_000_000


@given(st.integers(0, 5000), st.integers(2, 100))
def test_frame_steps_run_from_start_to_end(last, max_frames):
    steps = frame_steps(last, max_frames)
    assert steps[0] == 0
    assert steps[-1] == last
    assert steps == sorted(set(steps))
    assert len(steps) == min(last + 1, max_frames)


@pytest.mark.parametrize(
    ("clock", "expected"),
    [
        ([np.inf, 4, 6], "decision: b"),
        ([4, 4, 6], "tie: a, b"),
        ([np.inf] * 3, "no output spiked"),
    ],
)
def test_the_verdict_is_the_first_spike(clock, expected):
    assert verdict(np.array(clock), ["a", "b", "c"]) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": "a.png"}, "writes GIF"),
        ({"layers": {"input": LAYERS["input"]}}, "input and the output"),
        ({"image": np.zeros((3, 3), np.uint8)}, "one neuron per pixel, 9, found 4"),
        ({"labels": ["a"]}, "labels must hold 3 names"),
        ({"membranes": torch.zeros(3, 3)}, r"membranes must be \(8, 3\), found \(3, 3\)"),
        ({"max_frames": 1}, "max_frames"),
    ],
)
def test_refuses_what_does_not_fit(tmp_path, change, message):
    given = {"image": IMAGE, "layers": LAYERS, "path": "a.gif"} | change
    given["path"] = tmp_path / given["path"]
    with pytest.raises(ValueError, match=message):
        decision_animation(**given)
    assert not list(tmp_path.iterdir())
