"""CIFAR's two file formats, by files made here, and the real CIFAR-10 where it is at hand."""

import hashlib
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from firstspike.data import dataset, load
from firstspike.data.cifar import CIFAR_10_FILES, CIFAR_100_FILES, load_cifar
from firstspike.support import InputError

RNG = np.random.default_rng(1)
COUNT = 20
BOTH = pytest.mark.parametrize("files", [CIFAR_10_FILES, CIFAR_100_FILES], ids=lambda files: files.name)


def described(files, folder):
    """The description of the small files in `folder`."""

    def own(part):
        return tuple(
            replace(file, sha256=hashlib.sha256((folder / file.name).read_bytes()).hexdigest(), count=COUNT)
            for file in part
        )

    return replace(files, train=own(files.train), test=own(files.test), num_validation=5)


def write_python(folder, files):
    """Write small python files; return their description, and name -> pixels and labels."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for file in (*files.train, *files.test):
        data = RNG.integers(0, 256, (COUNT, 3072), np.uint8)
        labels = RNG.integers(0, files.num_classes, COUNT).tolist()
        # As Python 2 wrote them: keys are byte strings.
        batch = {files.label_key: labels, b"data": data, b"filenames": [b"a"] * COUNT}
        (folder / file.name).write_bytes(pickle.dumps(batch, 2))
        written[file.name] = data, labels
    return described(files, folder), written


@BOTH
@pytest.mark.parametrize("below", [True, False])
def test_python_files(tmp_path, files, below):
    folder = tmp_path / files.below[0]
    made, written = write_python(folder, files)
    root = tmp_path if below else folder
    test = load_cifar(made, "test", root)
    data, labels = written[files.test[0].name]
    assert test.images.shape == (COUNT, 3, 32, 32)
    # Rows of the red map first, then green, then blue.
    assert int(test.images[3, 1, 2, 7]) == data[3, 1024 + 2 * 32 + 7]
    assert test.labels.tolist() == labels
    train, validation = (load_cifar(made, split, root) for split in ("train", "validation"))
    assert len(validation) == 5
    pixels = np.concatenate([written[file.name][0] for file in files.train])
    labels = np.concatenate([written[file.name][1] for file in files.train])
    order = np.random.default_rng(0).permutation(len(pixels))
    both = torch.cat([train.images, validation.images]).flatten(1)
    assert np.array_equal(both, pixels[order])
    assert torch.cat([train.labels, validation.labels]).tolist() == labels[order].tolist()
    assert train.num_classes == files.num_classes


@BOTH
def test_binary_files_say_the_same(tmp_path, files):
    made, written = write_python(tmp_path / "py" / files.below[0], files)
    folder = tmp_path / "bin" / files.below[1]
    folder.mkdir(parents=True)
    for name, (data, labels) in written.items():
        fine = np.array(labels, np.uint8)[:, None]
        coarse = np.full_like(fine, 3)
        parts = [fine, data] if files is CIFAR_10_FILES else [coarse, fine, data]
        np.concatenate(parts, 1).tofile(folder / f"{name}.bin")
    for split in ("train", "validation", "test"):
        one = load_cifar(made, split, tmp_path / "py")
        two = load_cifar(made, split, tmp_path / "bin")
        assert torch.equal(one.images, two.images)
        assert torch.equal(one.labels, two.labels)


class Hostile:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_a_file_of_another_checksum_is_refused_before_it_is_opened(tmp_path):
    victim = tmp_path / "victim"
    content = pickle.dumps({b"data": Hostile(victim), b"labels": []}, 2)
    made, _ = write_python(tmp_path, CIFAR_10_FILES)
    for spoilt in (content, b"", (tmp_path / "test_batch").read_bytes() + b"\0"):
        (tmp_path / "test_batch").write_bytes(spoilt)
        with pytest.raises(InputError, match=r"test_batch: .*SHA-256.*fetch it again") as caught:
            load_cifar(made, "test", tmp_path)
        assert "\n" not in str(caught.value)
        assert made.test[0].sha256 in str(caught.value)
        assert hashlib.sha256(spoilt).hexdigest() in str(caught.value)
    assert not victim.exists()
    pickle.loads(content)
    assert victim.exists(), "the file is hostile indeed"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected 20 records of 3,074 bytes, found 0 bytes"),
        (bytes(20 * 3074 + 1), "found 61,481 bytes"),
        (bytes(19 * 3074), "found 58,406 bytes"),
        (b"\x14\x01" + bytes(20 * 3074 - 2), "coarse labels .* found 20"),
        (b"\x13\x64" + bytes(20 * 3074 - 2), "labels must lie in 0 ... 99, found 100"),
    ],
)
def test_a_damaged_binary_file_is_one_clear_line(tmp_path, content, message):
    made, _ = write_python(tmp_path / "py", CIFAR_100_FILES)
    (tmp_path / "test.bin").write_bytes(content)
    with pytest.raises(InputError, match=f"test.bin: .*{message}") as caught:
        load_cifar(made, "test", tmp_path)
    assert "\n" not in str(caught.value)


def test_an_incomplete_folder_says_what_is_there(tmp_path):
    made, _ = write_python(tmp_path, CIFAR_10_FILES)
    (tmp_path / "data_batch_4").unlink()
    with pytest.raises(InputError, match=r"expected .*data_batch_4.* found only ") as caught:
        load_cifar(made, "train", tmp_path)
    message = str(caught.value)
    assert str(tmp_path / "data_batch_1") in message
    assert str(tmp_path / "data_batch_4") not in message
    assert "--data-dir" in message
    assert "\n" not in message


def test_without_a_folder_the_variable_and_then_the_cache_are_searched(tmp_path, monkeypatch, cache):
    with pytest.raises(InputError, match=r"test_batch .*--data-dir") as caught:
        load("cifar-10", "test")
    assert str(cache) in str(caught.value)
    made, kept = write_python(cache / "cifar-10" / "cifar-10-batches-py", CIFAR_10_FILES)
    monkeypatch.setenv("FIRSTSPIKE_DATA", str(tmp_path / "empty"))
    assert load_cifar(made, "test").labels.tolist() == kept["test_batch"][1]
    made, own = write_python(tmp_path / "own", CIFAR_10_FILES)
    monkeypatch.setenv("FIRSTSPIKE_DATA", str(tmp_path / "own"))
    assert load_cifar(made, "test").labels.tolist() == own["test_batch"][1]


@pytest.mark.data
def test_the_official_cifar_10():
    folder = os.environ.get("FIRSTSPIKE_DATA", "")
    if not os.path.isdir(os.path.join(folder, CIFAR_10_FILES.below[0])):
        pytest.skip("FIRSTSPIKE_DATA does not name a folder with CIFAR-10")
    test = load("cifar-10", "test")
    assert torch.bincount(test.labels).tolist() == [1000] * 10
    # The mean intensities of the test set's channels, known from the field: about .494, .485, .450.
    means = test.images.to(torch.float32).mean((0, 2, 3)) / 255
    assert means.tolist() == pytest.approx([0.4942, 0.4851, 0.4504], abs=5e-4)
    sizes = [len(load("cifar-10", split)) for split in ("train", "validation")]
    assert sizes == [45_000, 5_000]
    # Its own list of names, in their order.
    listed = (Path(folder) / CIFAR_10_FILES.below[0] / "batches.meta").read_bytes()
    places = [listed.index(name.encode()) for name in dataset("cifar-10").class_names]
    assert places == sorted(places)
