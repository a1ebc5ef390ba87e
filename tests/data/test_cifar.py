"""CIFAR's two file formats, by files made here, and the real CIFAR-10 where it is at hand."""

import os
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from firstspike.data import load
from firstspike.data.cifar import CIFAR_10, CIFAR_100, CifarFile, load_cifar
from firstspike.support import InputError

RNG = np.random.default_rng(1)


def made(dataset):
    """The data set's description for small files, without checksums and counts."""
    return replace(
        dataset,
        train=tuple(CifarFile(file.name, None) for file in dataset.train),
        test=tuple(CifarFile(file.name, None) for file in dataset.test),
        num_train_images=None,
        num_test_images=None,
        num_validation=5,
    )


def write_python(folder, dataset, count=20):
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for file in (*dataset.train, *dataset.test):
        data = RNG.integers(0, 256, (count, 3072), np.uint8)
        labels = RNG.integers(0, dataset.num_classes, count).tolist()
        # As Python 2 wrote them: keys are byte strings.
        batch = {dataset.label_key: labels, b"data": data, b"filenames": [b"a"] * count}
        (folder / file.name).write_bytes(pickle.dumps(batch, 2))
        written[file.name] = data, labels
    return written


@pytest.mark.parametrize("dataset", [CIFAR_10, CIFAR_100], ids=lambda d: d.name)
@pytest.mark.parametrize("below", [True, False])
def test_python_batches(tmp_path, dataset, below):
    folder = tmp_path / dataset.python_folder
    written = write_python(folder, dataset)
    root = tmp_path if below else folder
    test = load_cifar(made(dataset), "test", root)
    data, labels = written[dataset.test[0].name]
    assert test.images.shape == (20, 3, 32, 32)
    # Rows of the red map first, then green, then blue.
    assert int(test.images[3, 1, 2, 7]) == data[3, 1024 + 2 * 32 + 7]
    assert test.labels.tolist() == labels
    train, validation = (load_cifar(made(dataset), split, root) for split in ("train", "validation"))
    assert len(validation) == 5
    pixels = np.concatenate([written[file.name][0] for file in dataset.train])
    labels = np.concatenate([written[file.name][1] for file in dataset.train])
    order = np.random.default_rng(0).permutation(len(pixels))
    both = torch.cat([train.images, validation.images]).flatten(1)
    assert np.array_equal(both, pixels[order])
    assert torch.cat([train.labels, validation.labels]).tolist() == labels[order].tolist()
    assert train.num_classes == dataset.num_classes


@pytest.mark.parametrize("dataset", [CIFAR_10, CIFAR_100], ids=lambda d: d.name)
def test_binary_files_say_the_same(tmp_path, dataset):
    written = write_python(tmp_path / "py" / dataset.python_folder, dataset)
    folder = tmp_path / "bin" / dataset.binary_folder
    folder.mkdir(parents=True)
    names = zip((*dataset.train, *dataset.test), (*dataset.binary_train, *dataset.binary_test), strict=True)
    for file, name in names:
        data, labels = written[file.name]
        fine = np.array(labels, np.uint8)[:, None]
        coarse = np.full_like(fine, 3)
        parts = [fine, data] if dataset is CIFAR_10 else [coarse, fine, data]
        np.concatenate(parts, 1).tofile(folder / name)
    for split in ("train", "validation", "test"):
        one = load_cifar(made(dataset), split, tmp_path / "py")
        two = load_cifar(made(dataset), split, tmp_path / "bin")
        assert torch.equal(one.images, two.images)
        assert torch.equal(one.labels, two.labels)


def test_bad_files_are_one_clear_line(tmp_path):
    with pytest.raises(InputError, match=r"cifar-10: expected data_batch_1, .* none of them; .*--data-dir"):
        load("cifar-10", "train", tmp_path)
    write_python(tmp_path / "a", CIFAR_10)
    with pytest.raises(InputError, match=r"test_batch: checksum \(MD5\) expected 40351d58"):
        load("cifar-10", "test", tmp_path / "a")
    two = np.zeros((2, 3072), np.uint8)
    for batch, message in [
        ([], "expected a dictionary with data and labels"),
        ({b"data": two}, "expected a dictionary with data and labels"),
        (
            {b"data": np.zeros((2, 9), np.uint8), b"labels": [1, 2]},
            r"expected data of uint8 \(count, 3072\)",
        ),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1, "a"]}, "to be a list of numbers"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]}, "2 images and 1 labels"),
        (
            {b"data": np.zeros((2, 3072), np.uint8), b"labels": [1, 10]},
            r"must lie in 0 ... 9, found 1 ... 10",
        ),
    ]:
        (tmp_path / "a" / "test_batch").write_bytes(pickle.dumps(batch, 2))
        with pytest.raises(InputError, match=message):
            load_cifar(made(CIFAR_10), "test", tmp_path / "a")
    (tmp_path / "test_batch.bin").write_bytes(b"\x01" * 3074)
    with pytest.raises(InputError, match="expected records of 3,073 bytes, found 3,074 bytes"):
        load_cifar(made(CIFAR_10), "test", tmp_path)
    (tmp_path / "test_batch.bin").write_bytes(b"\x01" * 3073 * 9)
    with pytest.raises(InputError, match="expected 10,000 records of 3,073 bytes, found 27,657 bytes"):
        load("cifar-10", "test", tmp_path)
    for labels, message in [(b"\x14\x01", "coarse labels .* found 20"), (b"\x13\x64", "labels .* 100")]:
        (tmp_path / "test.bin").write_bytes(labels + bytes(3072))
        with pytest.raises(InputError, match=message):
            load_cifar(made(CIFAR_100), "test", tmp_path)


def test_an_incomplete_folder_says_what_is_there(tmp_path):
    write_python(tmp_path, CIFAR_10)
    (tmp_path / "data_batch_4").unlink()
    with pytest.raises(
        InputError, match=r"expected .*data_batch_4.* found only \S+/data_batch_1, "
    ) as caught:
        load_cifar(made(CIFAR_10), "train", tmp_path)
    assert f"{tmp_path}/data_batch_4" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_a_folder_the_variable_and_then_the_cache_are_searched(tmp_path, monkeypatch, cache):
    with pytest.raises(InputError, match=f"together in {cache}/cifar-10 or in"):
        load("cifar-10", "test")
    kept = write_python(cache / "cifar-10" / "cifar-10-batches-py", CIFAR_10)
    monkeypatch.setenv("FIRSTSPIKE_DATA", str(tmp_path / "empty"))
    assert load_cifar(made(CIFAR_10), "test").labels.tolist() == kept["test_batch"][1]
    own = write_python(tmp_path / "own", CIFAR_10)
    monkeypatch.setenv("FIRSTSPIKE_DATA", str(tmp_path / "own"))
    assert load_cifar(made(CIFAR_10), "test").labels.tolist() == own["test_batch"][1]


def test_a_hostile_batch_is_refused_by_name(tmp_path):
    (tmp_path / "test_batch").write_bytes(b"cos\nsystem\n(S'exit'\ntR.")
    with pytest.raises(InputError, match=r"test_batch: refused, it asks for os\.system; "):
        load("cifar-10", "test", tmp_path)


@pytest.mark.data
def test_the_official_cifar_10():
    folder = os.environ.get("FIRSTSPIKE_DATA", "")
    if not os.path.isdir(os.path.join(folder, CIFAR_10.python_folder)):
        pytest.skip("FIRSTSPIKE_DATA does not name a folder with CIFAR-10")
    test = load("cifar-10", "test")
    assert torch.bincount(test.labels).tolist() == [1000] * 10
    # The mean intensities of the test set's channels, known from the field: about .494, .485, .450.
    means = test.images.to(torch.float32).mean((0, 2, 3)) / 255
    assert means.tolist() == pytest.approx([0.4942, 0.4851, 0.4504], abs=5e-4)
    sizes = [len(load("cifar-10", split)) for split in ("train", "validation")]
    assert sizes == [45_000, 5_000]
