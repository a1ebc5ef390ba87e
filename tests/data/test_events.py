"""Event recordings: their formats by hand-made bytes, first events and frames against loops."""

import os

import numpy as np
import pytest
import torch
from builders import refused
from hypothesis import given, settings
from hypothesis import strategies as st

from firstspike.codes import encode_latency
from firstspike.data import load, n_mnist
from firstspike.data.dvs_gesture import load_dvs_gesture, read_dvs_gesture
from firstspike.data.events import EventSet, Recording, first_spikes, frames
from firstspike.data.n_mnist import load_n_mnist, read_n_mnist, recorded_images
from firstspike.support import InputError


def recording(events, sensor=(3, 4)):
    x, y, polarity, time_us = np.array(sorted(events, key=lambda e: e[3]), np.int64).T
    return Recording(x, y, polarity, time_us, sensor)


EVENT = st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 1), st.integers(0, 5000))


@settings(max_examples=60, deadline=None)
@given(st.lists(EVENT, min_size=1, max_size=40), st.integers(2, 1000), st.none() | st.integers(1, 6000))
def test_first_events_and_frames_against_a_loop(events, num_steps, duration_us):
    duration = max(e[3] for e in events) + 1 if duration_us is None else duration_us
    first = np.full((2, 3, 4), num_steps)
    counts = np.zeros((num_steps, 2, 3, 4))
    for x, y, polarity, time_us in events:
        step = time_us * num_steps // duration
        if step < num_steps:
            first[polarity, y, x] = min(first[polarity, y, x], step)
            counts[step, polarity, y, x] += 1
    made = recording(events)
    spikes = first_spikes([made], num_steps, duration_us)
    assert spikes.steps == num_steps
    assert np.array_equal(spikes.times[0].numpy(), first)
    assert np.array_equal(frames([made], num_steps, duration_us)[0].numpy(), counts)


def test_the_earlier_the_brighter():
    made = recording([(0, 0, 1, 0), (1, 0, 1, 500), (1, 0, 0, 999), (0, 0, 1, 700)])
    events = EventSet("n-mnist", "test", (made,), torch.tensor([3]), 10, duration_us=1000)
    images = events.first_spikes().images
    assert images[0, 1, 0, :2].tolist() == [255, 255 - 127]
    assert images[0, 0, 0, :2].tolist() == [0, 1]
    # And a latency code gives the time back.
    times = encode_latency(images, 10).times
    assert times[0, 1, 0, :3].tolist() == [0, 4, 10]
    assert times[0, 0, 0, 1] == 9


def event_bytes(x, y, polarity, time_us):
    return bytes([x, y, polarity << 7 | time_us >> 16, time_us >> 8 & 255, time_us & 255])


def test_five_bytes_of_n_mnist(tmp_path):
    path = tmp_path / "a.bin"
    # Column 33, row 2, brighter, 0x012345 us; column 0, row 33, darker, the last that 23 bits hold.
    path.write_bytes(bytes([33, 2, 0x81, 0x23, 0x45, 0, 33, 0x7F, 0xFF, 0xFF]))
    made = read_n_mnist(path)
    assert (made.x.tolist(), made.y.tolist(), made.polarity.tolist()) == ([33, 0], [2, 33], [1, 0])
    assert made.time_us.tolist() == [0x012345, 2**23 - 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected events, found none"),
        (b"1234", "truncated, 4 bytes are no whole events of 5"),
        (event_bytes(3, 4, 1, 9) + event_bytes(34, 4, 1, 9), "event 1 has column 34, expected 0 ... 33"),
        (event_bytes(3, 34, 1, 9), "event 0 has row 34, expected 0 ... 33"),
        (event_bytes(3, 4, 1, 9) + event_bytes(3, 4, 1, 8), "event 1 comes before the one before it"),
    ],
)
def test_a_damaged_n_mnist_file_is_one_clear_line(tmp_path, content, message):
    path = tmp_path / "a.bin"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_n_mnist(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_recording_holds_13_bytes_per_event(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(event_bytes(33, 33, 1, 5) * 100)
    made = read_n_mnist(path)
    held = (made.x, made.y, made.polarity, made.time_us)
    assert sum(values.nbytes for values in held) == 1300
    assert all(values.base is None for values in held)


def test_a_place_of_a_large_sensor_does_not_wrap_in_a_narrow_type():
    x, y, polarity = np.array([345], np.int16), np.array([259], np.int16), np.array([1], np.uint8)
    first = first_spikes([Recording(x, y, polarity, np.array([0]), (260, 346))], 8)
    assert (~first.silent).nonzero().tolist() == [[0, 1, 259, 345]]


EVENTS = {"x": [3, 0, 1], "y": [1, 2, 0], "polarity": [True, False, True], "time_us": [30, 10, 20]}


def test_events_of_ones_own_are_put_in_order():
    made = Recording.of(**EVENTS, sensor=(3, 4))
    assert (made.x.tolist(), made.time_us.tolist()) == ([0, 1, 3], [10, 20, 30])
    tensors = {name: torch.tensor(values) for name, values in EVENTS.items()}
    other = Recording.of(**tensors, sensor=(3, 4))
    assert first_spikes([made], 16).times.equal(first_spikes([other], 16).times)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x": [3, 0, 4]}, ("event 2 has column 4", "0 ... 3")),
        ({"y": [3, 2, 0]}, ("event 0 has row 3", "0 ... 2")),
        ({"polarity": [1, -1, 1]}, ("event 1 has polarity -1",)),
        ({"time_us": [30, -1, 20]}, ("event 1 is at -1 us",)),
        ({"time_us": [30.0, 1.0, 20.0]}, ("time_us must be integers", "float64")),
        ({"time_us": [[1, 2, 3]]}, ("time_us must be integers", "(1, 3)")),
        ({"x": [1, [2], 3]}, ("x must be integers",)),
        ({"y": [1, 2]}, ("3 x, 2 y, 3 polarity",)),
        ({name: [] for name in EVENTS}, ("found none",)),
        *[
            ({"sensor": sensor}, ("sensor must be (height, width)", str(sensor)))
            for sensor in (4, (3, 4, 2), (3, 4.5), (0, 4), (3, 40_000))
        ],
    ],
)
def test_events_that_no_camera_gives(changes, words):
    with refused(InputError, *words):
        Recording.of(**EVENTS | {"sensor": (3, 4)} | changes)


def test_windows_and_sensors_of_first_spikes_are_checked():
    made = Recording.of(**EVENTS, sensor=[3, np.int64(4)])
    assert made.sensor == (3, 4)
    times = [1_700_000_000_000_000 + time for time in (3, 1, 2)]
    since_1970 = Recording.of(**EVENTS | {"time_us": times}, sensor=(3, 4))
    with refused(ValueError, "too long", "60000 steps"):
        first_spikes([since_1970], 60_000)
    for duration in (0, 1.5, float("nan"), "x"):
        with refused(ValueError, "duration_us", "integer"):
            first_spikes([made], 8, duration_us=duration)
    for recordings in (made, [made, EVENTS], iter([made])):
        with refused(TypeError, "list of Recording"):
            first_spikes(recordings, 8)
    with refused(ValueError, "2 ... 65535", "1"):
        first_spikes([made], 1)
    with refused(ValueError, "one sensor", "(3, 4)", "(3, 5)"):
        first_spikes([made, Recording.of(**EVENTS, sensor=(3, 5))], 8)
    assert first_spikes([], 8).shape == (0, 2, 0, 0)


def test_one_recording_validates_nothing(tmp_path):
    folder = tmp_path / "Train" / "3"
    folder.mkdir(parents=True)
    (folder / "00001.bin").write_bytes(event_bytes(1, 2, 0, 9))
    # What macOS leaves beside an unpacked file.
    (folder / "._00001.bin").write_bytes(b"no events")
    assert load_n_mnist("train", tmp_path).labels.tolist() == [3]
    assert load_n_mnist("validation", tmp_path).labels.dtype == torch.int64


def test_a_clock_that_ran_over(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(event_bytes(1, 2, 1, 8000) + event_bytes(0, 240, 0, 0) + event_bytes(3, 4, 0, 5))
    made = read_n_mnist(path)
    assert (made.x.tolist(), made.y.tolist()) == ([1, 3], [2, 4])
    assert made.time_us.tolist() == [8000, 8192 + 5]


def test_n_mnist_folders(tmp_path):
    for part, count in (("Train", 4), ("Test", 1)):
        for digit in range(10):
            folder = tmp_path / "n-mnist" / part / str(digit)
            folder.mkdir(parents=True)
            for k in range(count):
                (folder / f"{k:05}.bin").write_bytes(event_bytes(digit, k, 1, 7) + event_bytes(0, 0, 0, 9))
    sets = {split: load_n_mnist(split, tmp_path) for split in ("train", "validation", "test")}
    assert {split: len(events) for split, events in sets.items()} == {
        "train": 34,
        "validation": 6,
        "test": 10,
    }
    for events in sets.values():
        assert [int(r.x[0]) for r in events.recordings] == events.labels.tolist()
    seen = [(int(r.x[0]), int(r.y[0])) for s in ("train", "validation") for r in sets[s].recordings]
    assert len(set(seen)) == 40
    with pytest.raises(InputError, match=r"n-mnist: expected Train in .* --data-dir"):
        load_n_mnist("train", tmp_path / "nowhere")


def test_dvs_gesture_folders(tmp_path):
    folder = tmp_path / "ibmGestureTest" / "user24_led"
    folder.mkdir(parents=True)
    events = np.array([[5, 127, 1, 0], [6, 0, 0, 700], [6, 0, 0, 1600]])
    for label in (0, 10):
        np.save(folder / f"{label}.npy", events)
    test = load_dvs_gesture("test", tmp_path)
    assert test.labels.tolist() == [0, 10]
    assert test.recordings[0].time_us.tolist() == [0, 700_000, 1_600_000]
    images = load("dvs-gesture", "test", tmp_path).images
    assert images.shape == (2, 2, 128, 128)
    assert (int(images[0, 1, 127, 5]), int(images[0, 0, 0, 6])) == (255, 255 - 700 * 255 // 1500)
    with pytest.raises(InputError, match=r"dvs-gesture: expected ibmGestureTrain in .* --data-dir"):
        load_dvs_gesture("train", tmp_path)
    for content, message in [
        (np.array([[1, 2, 3]]), r"expected numbers \(events, 4\), found int64 \(1, 3\)"),
        (np.array([[128, 2, 1, 0]]), "event 0 has column 128, expected 0 ... 127"),
        (np.array([["a", "b", "c", "d"]]), "expected numbers"),
    ]:
        np.save(folder / "0.npy", content)
        with pytest.raises(InputError, match=message):
            read_dvs_gesture(folder / "0.npy")
    np.save(folder / "0.npy", np.array([[1, 2, 1, 0], [1, 2, 1, -(2**63)]]))
    with pytest.raises(InputError, match=r"event 1 is \[.*\], expected integers"):
        read_dvs_gesture(folder / "0.npy")
    np.save(folder / "0.npy", np.array([[1, 2, 1, 7]], np.float16))
    assert read_dvs_gesture(folder / "0.npy").x.tolist() == [1]
    for row in ([1, 2, 1, np.nan], [1, 2, 1, np.inf], [1.5, 2, 1, 0], [-0.5, 2, 1, 0], [1, 2, 1, 2.0**62]):
        np.save(folder / "0.npy", np.array([[1, 2, 1, 0], row]))
        with pytest.raises(InputError, match=r"event 1 is \[.*\], expected integers"):
            read_dvs_gesture(folder / "0.npy")
    np.save(folder / "0.npy", np.array([{}], dtype=object))
    pickled = (folder / "0.npy").read_bytes()
    np.save(folder / "0.npy", np.zeros((50, 4)))
    whole = (folder / "0.npy").read_bytes()
    impossible = whole.replace(b"(50, 4), }            ", b"(99999999999999, 4), }")
    too_long = whole.replace(b"(50, 4), }" + b" " * 20, b"(" + b"9" * 20 + b", 4), }")
    no_number = whole.replace(b"(50, 4), }  ", b"(True, 4), }")
    nonsense = whole.replace(b"'<f8'", b"'<,8'")
    deep = b"\x93NUMPY\1\0\xf4\x01" + b"-" * 499 + b"\n"
    odd_headers = (impossible, too_long, no_number, nonsense, deep)
    for damaged in (pickled, b"", b"PK\3\4no archive", whole[:300], whole[:20], *odd_headers):
        assert damaged != whole
        (folder / "0.npy").write_bytes(damaged)
        with pytest.raises(InputError, match="damaged") as caught:
            read_dvs_gesture(folder / "0.npy")
        assert "\n" not in str(caught.value)
    (folder / "11.npy").write_bytes(b"")
    with pytest.raises(InputError, match=r"expected user.../<class 0 ... 10>.npy"):
        load_dvs_gesture("test", tmp_path)


@pytest.mark.data
def test_the_official_recordings():
    folder = os.environ.get("FIRSTSPIKE_DATA", "")
    if not os.path.isdir(os.path.join(folder, "n-mnist-subset")):
        pytest.skip("FIRSTSPIKE_DATA does not name a folder with N-MNIST")
    sets = {split: load_n_mnist(split) for split in ("train", "validation", "test")}
    assert {split: len(events) for split, events in sets.items()} == {
        "train": 850, "validation": 150, "test": 100
    }  # fmt: skip
    last = [int(r.time_us[-1]) for r in sets["test"].recordings]
    # Three saccades of 100 ms each.
    assert 250_000 < min(last) <= max(last) < 350_000
    counts = frames(sets["test"].recordings, 4)
    assert counts.sum((1, 2, 3, 4)).tolist() == [len(r.x) for r in sets["test"].recordings]
    for split, events in sets.items():
        images = recorded_images(split)
        assert torch.equal(images.labels, events.labels)
        # Bright pixels are where events are, in the middle of the sensor.
        seen = events.first_spikes().images.any(1)[:, 3:31, 3:31]
        assert (seen & (images.images > 127)).sum() > 0.9 * (images.images > 127).sum()


@pytest.mark.parametrize("name", ["00002.bin", "70000.bin", "a.bin"])
def test_a_recording_that_is_not_of_its_number_is_refused(tmp_path, monkeypatch, name):
    path = tmp_path / "n-mnist" / "Test" / "3" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(event_bytes(1, 1, 0, 1))
    official = np.zeros((2, 28, 28), np.uint8), np.array([3, 4])
    monkeypatch.setattr(n_mnist, "read_official", lambda *which: official)
    with refused(InputError, name, "the number of an image of this digit"):
        recorded_images("test", tmp_path)
    path.rename(path.with_name("00001.bin"))
    assert recorded_images("test", tmp_path).labels.tolist() == [3]
