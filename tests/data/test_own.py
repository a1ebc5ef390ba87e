"""Data of a user's own: what is read from each source, how it is split, and what is refused by name."""

import hashlib
import io
import pickle
import struct
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import refused
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import TensorDataset

import firstspike as fs
from firstspike.data import SPLITS, ImageSet, load, own
from firstspike.data.own_data import pair
from firstspike.support import InputError

NAMES = ("bee", "cat", "dog")


def samples(count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Images 6 x 8 that all differ, and labels of three classes, from integers alone."""
    images = (np.arange(count * 48) * 37 % 251).astype(np.uint8).reshape(count, 6, 8)
    return images, np.arange(count) * np.arange(count) % 3


LABELS = samples()[1]
IMAGES = samples()[0]
# Of 0 ... 59 squared modulo 3: twenty 0, forty 1, and the last two of each ten 2.
LABELS = np.where(np.arange(60) % 10 >= 8, 2, LABELS)


def split(source, **given) -> dict[str, ImageSet]:
    found = own(source, **given)
    return {name: load(found, name) for name in SPLITS}


def rows(images) -> Counter:
    """Each image's bytes, and how often it occurs."""
    return Counter(bytes(row) for row in np.ascontiguousarray(np.asarray(images)).reshape(len(images), -1))


def folder(root: Path, images=IMAGES, labels=LABELS, names=NAMES) -> Path:
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        file = root / names[label] / f"{number:03}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    return root


def npz(path: Path, **arrays) -> Path:
    np.savez(path, **({"x_train": IMAGES, "y_train": LABELS} | arrays))
    return path


# The split


def test_the_split_is_stratified_whole_and_fixed():
    parts = split((IMAGES, LABELS))
    counts = Counter(LABELS.tolist())
    # 15 % of each class, a half rounded up.
    held = {label: (count * 15 + 50) // 100 for label, count in counts.items()}
    for name in ("validation", "test"):
        assert Counter(parts[name].labels.tolist()) == held
    together = sum((rows(part.images) for part in parts.values()), Counter())
    assert together == rows(IMAGES)
    classes = {bytes(image): label for image, label in zip(IMAGES.reshape(60, -1), LABELS, strict=True)}
    for part in parts.values():
        found = [classes[bytes(image)] for image in part.images.reshape(len(part), -1).numpy()]
        assert found == part.labels.tolist()
    # Statistics are taken of the first training images: every stretch has the classes of the whole.
    first = parts["train"].labels[: len(parts["train"]) // 2]
    for label, count in counts.items():
        assert abs(int((first == label).sum()) - (count - 2 * held[label]) / 2) <= 1


def test_the_fingerprint_is_the_same_on_every_machine():
    found = own((IMAGES, LABELS))
    digest = hashlib.sha256()
    for name in SPLITS:
        part = load(found, name)
        digest.update(f"torch.uint8 ({len(part)}, 6, 8)\n".encode() + part.images.numpy().tobytes())
        digest.update(
            f"torch.int64 ({len(part)},)\n".encode() + part.labels.numpy().astype("<i8").tobytes()
        )
    assert found.sha256 == digest.hexdigest()
    # It holds the split too; had another machine another one, this would fail there.
    assert found.sha256 == "ec78e6e1e7d723f576399f72e54d0690c4281b7e3e292cda8a3eb3784e756805"


@given(counts=st.lists(st.integers(3, 40), min_size=2, max_size=5), seed=st.integers(0, 9))
def test_any_classes_of_three_or_more_are_split(counts, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    values = np.arange(len(labels))[:, None] / len(labels)
    parts = split((values, labels))
    for name, part in parts.items():
        for label, count in enumerate(counts):
            held = max(1, (count * 15 + 50) // 100)
            expected = count - 2 * held if name == "train" else held
            assert int((part.labels == label).sum()) == expected
    everything = torch.cat([part.images.flatten() for part in parts.values()]).sort().values
    assert everything.equal(torch.from_numpy(values).flatten().float())


def test_splits_that_are_given_are_kept():
    few, labels = IMAGES[:9], np.arange(9) % 3
    parts = split((IMAGES, LABELS), test=(few, labels))
    assert parts["test"].images.numpy().tolist() == few.tolist()
    assert len(parts["validation"]) + len(parts["train"]) == 60
    parts = split((IMAGES, LABELS), test=(few, labels), validation=(few + 1, labels))
    assert rows(parts["train"].images) == rows(IMAGES)
    assert parts["validation"].labels.tolist() == labels.tolist()


# The sources


def test_every_source_of_the_same_samples_is_the_same_data(tmp_path):
    expected = own((IMAGES, LABELS))
    path = npz(tmp_path / "Some data.npz")
    tensors = torch.from_numpy(IMAGES), torch.from_numpy(LABELS)
    for source in (
        path,
        str(path),
        tensors,
        (IMAGES, LABELS.tolist()),
        list(zip(IMAGES, LABELS, strict=True)),
        (IMAGES / 255, LABELS.astype(np.uint16)),
        (IMAGES[..., None], LABELS),
        (tensors[0][:, None], tensors[1].to(torch.int8)),
        (IMAGES.astype(">f4") / 255, LABELS.astype(">i2")),
        ImageSet.of(IMAGES, LABELS),
        TensorDataset(*tensors),
        Pictures(IMAGES, LABELS),
    ):
        assert own(source).sha256 == expected.sha256
    assert own(path).name == "Some data"
    assert (own(tensors).name, own(tensors, name="mine").name) == ("own", "mine")
    assert expected.shape == (1, 6, 8)
    assert expected.class_names == ("0", "1", "2")


class Pictures(TorchDataset):
    """A map-style data set of PIL images."""

    def __init__(self, images, labels):
        self.images, self.labels, self.read = images, labels, 0

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        self.read += 1
        return Image.fromarray(self.images[index]), int(self.labels[index])


def test_a_torch_data_set_is_read_once():
    source = Pictures(IMAGES, LABELS)
    found = own(source)
    for name in SPLITS:
        load(found, name)
    assert source.read == len(source)


def test_a_folder_of_images(tmp_path):
    root = folder(tmp_path / "animals")
    (root / ".hidden").mkdir()
    (root / "cat" / ".DS_Store").write_text("x")
    (root / "cat" / "Thumbs.db").write_text("x")
    (root / "cat" / "desktop.ini").write_text("x")
    (root / "README.txt").write_text("x")
    (root / "0.png").write_text("x")
    found = own(root)
    assert (found.name, found.class_names, found.shape) == ("animals", NAMES, (1, 6, 8))
    # In the order of classes, then of files.
    order = np.argsort(LABELS, kind="stable")
    assert found.sha256 == own((IMAGES[order], LABELS[order])).sha256


@pytest.mark.parametrize("validation", ["validation", "val"])
def test_a_folder_of_splits(tmp_path, validation):
    folder(tmp_path / "x" / "train")
    folder(tmp_path / "x" / validation, IMAGES[:8] + 1, LABELS[:8])
    folder(tmp_path / "x" / "test", IMAGES[:4] + 2, [2, 2, 1, 1])
    for stray in ("labels.csv", "train/labels.csv", ".git"):
        (tmp_path / "x" / stray).write_text("x")
    parts = split(tmp_path / "x")
    assert rows(parts["train"].images) == rows(IMAGES)
    assert rows(parts["validation"].images) == rows(IMAGES[:8] + 1)
    assert parts["test"].images.numpy().tolist() == (IMAGES[[2, 3, 0, 1]] + 2).tolist()
    assert parts["test"].labels.tolist() == [1, 1, 2, 2]


def test_a_class_may_be_called_train(tmp_path):
    root = folder(tmp_path / "x", names=("bus", "train", "tram"))
    assert own(root).class_names == ("bus", "train", "tram")


def pictures(root: Path, *made: Image.Image) -> torch.Tensor:
    """Every class of the folder holds these images; return them as read."""
    for name in NAMES:
        for split_folder in SPLITS:
            (root / split_folder / name).mkdir(parents=True)
            for number, picture in enumerate(made):
                picture.save(root / split_folder / name / f"{number}.png")
    return load(own(root), "test").images[: len(made)]


def test_grey_beside_colour_gets_three_equal_channels(tmp_path):
    grey, colour = Image.new("L", (5, 6), 70), Image.new("RGB", (5, 6), (10, 20, 30))
    read = pictures(tmp_path, grey, colour)
    assert read.shape == (2, 3, 6, 5)
    assert read[:, :, 0, 0].tolist() == [[70, 70, 70], [10, 20, 30]]


def test_palettes_are_looked_up_and_transparency_is_black(tmp_path):
    palette = Image.new("P", (5, 6), 1)
    palette.putpalette([0, 0, 0, 200, 100, 50])
    clear = palette.copy()
    clear.info["transparency"] = 1
    half = Image.new("RGBA", (5, 6), (200, 100, 50, 51))
    read = pictures(tmp_path, palette, clear, half)
    # 51 / 255 of the colour over black.
    assert read[:, :, 0, 0].tolist() == [[200, 100, 50], [0, 0, 0], [40, 20, 10]]


def test_grey_kinds_stay_grey(tmp_path):
    bits = Image.new("1", (5, 6), 1)
    half = Image.new("LA", (5, 6), (100, 51))
    read = pictures(tmp_path, bits, half)
    assert read.shape == (2, 6, 5)
    assert read[:, 0, 0].tolist() == [255, 20]


def test_colour_arrays_have_their_channels_on_either_side():
    colour = (np.arange(60 * 6 * 8 * 3) % 251).astype(np.uint8).reshape(60, 6, 8, 3)
    last, first = own((colour, LABELS)), own((colour.transpose(0, 3, 1, 2), LABELS))
    assert last.shape == first.shape == (3, 6, 8)
    assert last.sha256 == first.sha256


def test_plain_numbers_stay_as_they_are():
    numbers = np.linspace(0, 1, 120).reshape(60, 2)
    parts = split((numbers, LABELS))
    assert own((numbers, LABELS)).is_table
    assert parts["train"].images.dtype == torch.float32
    assert parts["train"].shape == (1, 1, 2)
    together = torch.cat([part.images.flatten() for part in parts.values()]).sort().values
    assert together.equal(torch.from_numpy(numbers).flatten().float())


def test_spikes_are_for_fit():
    spikes, labels = fs.Spikes([[0, 2], [3, 1]], 3), torch.arange(2)
    inputs, targets = pair(TensorDataset(spikes, labels))
    assert (inputs.steps, inputs.times.tolist(), targets.tolist()) == (3, [[0, 2], [3, 1]], [0, 1])
    for source in ((spikes, labels), TensorDataset(spikes, labels)):
        with refused(InputError, "x_train", "spikes", "firstspike.fit"):
            own(source)
    for other, words in (
        (fs.Spikes([1, 2], 4), ("one window",)),
        (torch.ones(2), ("one window",)),
        (fs.Spikes([1], 3), ("one shape", "(2,)", "(1,)")),
    ):
        with refused(InputError, *words):
            pair([(spikes[0], 0), (other, 1)])


def test_pairs_for_fit_are_left_alone():
    inputs = torch.randn(5, 3, requires_grad=True)
    assert pair((inputs, LABELS[:5]))[0] is inputs
    spikes = fs.Spikes(torch.zeros(5, 3), 8)
    assert pair((spikes, LABELS[:5]))[0] is spikes
    numbers, targets = pair((np.array([[-3.0]]), np.array([0.5], np.float32)))
    assert (numbers.dtype, targets.dtype) == (torch.float32, torch.float32)
    stacked, labels = pair(TensorDataset(torch.randn(4, 3), torch.rand(4, 2)))
    assert (stacked.shape, labels.shape) == ((4, 3), (4, 2))
    images, targets = pair([(Image.new("RGB", (5, 6)), 0.5)] * 4)
    assert (images.shape, images.dtype) == ((4, 3, 6, 5), torch.uint8)
    assert targets.tolist() == [0.5] * 4


# What is refused


BAD_ARRAYS = {
    "no pair": (lambda: own((IMAGES,)), ["pair", "1 values"]),
    "one array": (lambda: own(IMAGES), ["pair of inputs and labels", "ndarray"]),
    "items of one": (lambda: own(list(IMAGES)), ["item 0", "(input, label)", "ndarray"]),
    "items of words": (lambda: own([("a", 0)] * 9), ["input of item 0", "str"]),
    "nothing": (lambda: own(None), ["map-style", "NoneType"]),
    "an iterable": (lambda: own(iter([])), ["map-style", "iterator"]),
    "an empty data set": (lambda: own(Pictures(IMAGES, [])), ["empty"]),
    "lengths": (lambda: own((IMAGES, LABELS[:-1])), ["60 samples", "59"]),
    "one label": (lambda: own((IMAGES, LABELS * 0)), ["one class"]),
    "gap": (lambda: own((IMAGES, LABELS * 2)), ["0 ... n - 1", "1 missing", "0 ... 4"]),
    "from one": (lambda: own((IMAGES, LABELS + 1)), ["0 ... n - 1", "0 missing", "1 ... 3"]),
    "negative": (lambda: own((IMAGES, LABELS - 1)), ["0 ... n - 1", "-1 ... 1"]),
    "words": (lambda: own((IMAGES, LABELS.astype(str))), ["arrays of numbers"]),
    "fractions": (lambda: own((IMAGES, LABELS / 2)), ["y_train", "integers", "float"]),
    "columns": (lambda: own((IMAGES, LABELS[:, None])), ["integers (count,)", "(60, 1)"]),
    "NaN": (lambda: own((nan(), LABELS)), ["x_train", "NaN", "sample 7"]),
    "too large": (lambda: own((IMAGES.astype(float), LABELS)), ["0 ... 1", "250"]),
    "too small": (lambda: own((IMAGES / 255 - 0.5, LABELS)), ["0 ... 1", "-0.5"]),
    "16 bits": (lambda: own((IMAGES.astype(np.uint16), LABELS)), ["uint16", "65535"]),
    "no type": (lambda: own((IMAGES.astype(np.int64), LABELS)), ["int64", "uint8"]),
    "axes": (lambda: own((IMAGES.reshape(60, -1)[0], LABELS)), ["(count, features)", "(48,)"]),
    "channels": (lambda: own((np.zeros((60, 9, 9, 9), np.uint8), LABELS)), ["channels", "(60, 9, 9, 9)"]),
    "test of other size": (
        lambda: own((IMAGES, LABELS), test=(IMAGES[:, :5], LABELS)),
        ["x_test", "(5, 8)", "(6, 8)"],
    ),
    "test of other classes": (
        lambda: own((IMAGES, LABELS), test=(IMAGES, LABELS + 1)),
        ["y_test", "label 3", "0 ... 2"],
    ),
    "few": (lambda: own((IMAGES[:9], few())), ["class 1 has 2"]),
    "path and test": (lambda: own("x.npz", test=(IMAGES, LABELS)), ["holds all splits"]),
    "PIL of 16 bits": (
        lambda: own(Pictures(IMAGES.astype(np.uint16), LABELS)),
        ["item 0", "I;16", "8 bits"],
    ),
    "mixed items": (lambda: own(TornPictures(IMAGES, LABELS)), ["item 0 is (6, 8)", "item 5 (5, 8)"]),
}


def few() -> np.ndarray:
    return np.array([0, 0, 0, 0, 0, 0, 0, 1, 1])


def nan() -> np.ndarray:
    values = IMAGES / 255
    values[7, 0, 0] = np.nan
    return values


class TornPictures(Pictures):
    """One item has another size."""

    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return (image.crop((0, 0, 8, 5)) if index == 5 else image), label


@pytest.mark.parametrize(("call", "words"), BAD_ARRAYS.values(), ids=BAD_ARRAYS)
def test_arrays_that_cannot_be_used_are_refused(call, words):
    with refused(InputError, *words):
        call()


def truncated(path):
    npz(path)
    path.write_bytes(path.read_bytes()[:-100])


def flipped(path):
    """A wrong byte in the middle, which the archive's checksum finds."""
    npz(path)
    content = bytearray(path.read_bytes())
    content[1500] ^= 1
    path.write_bytes(content)


class Payload:
    """What a pickle would run."""

    def __reduce__(self):
        return open, ("executed", "w")


def no_array(path):
    npz(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x_test.npy", b"no array")
        archive.writestr("y_test.npy", b"no array")


def boasting(path):
    """A header that promises more than any machine holds."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (2**50, 28, 28)}
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x_train.npy", header.getvalue())


HEADERS = [
    "{'descr': (",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (2, True)}",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999999999,)}",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (-1,)}",
    "{'descr': [('a', '|u1', -3, 4, 5)], 'fortran_order': False, 'shape': (2,)}",
    "{'descr': [(1, 2)], 'fortran_order': False, 'shape': (2,)}",
    "{'descr': ('|u1', (10**9, 10**9)), 'fortran_order': False, 'shape': (2,)}",
    "{[]: 1}",
    "[" * 500,
    "\x00",
]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("header", HEADERS)
def test_a_damaged_header_of_an_array_is_named(tmp_path, header, version):
    size = len(header).to_bytes(2 * version, "little")
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("x_train.npy", b"\x93NUMPY" + bytes([version, 0]) + size + header.encode())
    with refused(InputError, "data.npz", "x_train", "cannot be read"):
        own(tmp_path / "data.npz")


BAD_NPZ = {
    "truncated": (truncated, ["truncated"]),
    "a wrong byte": (flipped, ["x_train", "cannot be read"]),
    "empty": (lambda path: path.write_bytes(b""), ["no .npz"]),
    "text": (lambda path: path.write_text("x_train"), ["no .npz"]),
    "a pickle": (lambda path: path.write_bytes(pickle.dumps(Payload())), ["no .npz"]),
    "objects": (
        lambda path: npz(path, x_train=np.array([Payload()] * 60, dtype=object)),
        ["x_train", "Object arrays cannot be loaded"],
    ),
    "objects as labels": (lambda path: npz(path, y_train=LABELS.astype(object)), ["y_train", "Object"]),
    "no array": (no_array, ["x_test", "cannot be read"]),
    "boasting": (boasting, ["x_train", "cannot be read"]),
    "no labels": (lambda path: np.savez(path, x_train=IMAGES), ["lacks y_train", "found x_train"]),
    "no keys": (lambda path: np.savez(path, IMAGES, LABELS), ["lacks x_train and y_train"]),
    "half a test": (lambda path: npz(path, x_test=IMAGES), ["lacks y_test"]),
    "a key that is not known": (lambda path: npz(path, x_val=IMAGES), ["x_val", "x_validation"]),
    "words": (lambda path: npz(path, y_train=LABELS.astype(str)), ["y_train", "arrays of numbers"]),
    "lengths": (lambda path: npz(path, y_train=LABELS[1:]), ["x_train", "60", "y_train", "59"]),
    "NaN": (lambda path: npz(path, x_train=nan()), ["x_train", "NaN"]),
    "test of another class": (
        lambda path: npz(path, x_test=IMAGES, y_test=LABELS + 3),
        ["y_test", "label 3", "y_train"],
    ),
}


@pytest.mark.parametrize(("make", "words"), BAD_NPZ.values(), ids=BAD_NPZ)
def test_an_npz_that_cannot_be_used_is_refused(tmp_path, monkeypatch, make, words):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "data.npz")
    with refused(InputError, "data.npz", *words):
        own("data.npz")
    # Nothing was unpickled.
    assert [path.name for path in tmp_path.iterdir()] == ["data.npz"]


def deep_png() -> bytes:
    """Colours of 16 bits, which Pillow reads as 8."""
    row = b"\0" + struct.pack(">24H", *range(24))

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", 8, 6, 16, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(row * 6))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def image_bytes(picture: Image.Image, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind)
    return stream.getvalue()


GOOD = image_bytes(Image.fromarray(IMAGES[0]))
BAD_FILES = {
    "empty": ("a.png", b"", ["damaged"]),
    "text": ("a.png", b"no picture", ["damaged"]),
    "truncated": ("a.png", GOOD[:60], ["damaged"]),
    "a wrong byte": ("a.png", GOOD[:45] + bytes([GOOD[45] ^ 255]) + GOOD[46:], ["damaged"]),
    "truncated JPEG": (
        "a.jpg",
        image_bytes(Image.fromarray(IMAGES[0]), "JPEG")[:-20],
        ["damaged"],
    ),
    "16 bits grey": ("a.png", image_bytes(Image.fromarray(IMAGES[0].astype(np.uint16))), ["16 bits"]),
    "16 bits colour": ("a.png", deep_png(), ["16 bits"]),
    "size": ("a.png", image_bytes(Image.new("L", (9, 6))), ["000.png is 8 x 6", "9 x 6", "one size"]),
    "another kind": ("a.bmp", b"", ["no PNG or JPEG"]),
    "another kind by name": ("a.png", image_bytes(Image.new("L", (8, 6)), "GIF"), ["no PNG or JPEG"]),
}


@pytest.mark.parametrize(("name", "content", "words"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_file_that_is_no_image_is_named(tmp_path, name, content, words):
    root = folder(tmp_path / "x")
    (root / "dog" / name).write_bytes(content)
    with refused(InputError, str(Path("dog") / name), *words):
        own(root)


def beside(name: str):
    """Return a maker of a folder of splits with another folder beside."""

    def make(root):
        folder(root / "train")
        folder(root / "val")
        folder(root / name)

    return make


def without_images(root):
    folder(root)
    (root / "elk").mkdir()


def two_deep(root):
    folder(root)
    (root / "cat" / "more").mkdir()


def strange_class(root):
    folder(root / "train")
    folder(root / "test", names=("bee", "cat", "elk"))


def empty_test(root):
    folder(root / "train")
    (root / "test").mkdir()


BAD_FOLDERS = {
    "empty": (lambda root: root.mkdir(), ["two or more classes", "found none"]),
    "hidden only": (lambda root: (root / ".git").mkdir(parents=True), ["found none"]),
    "one class": (lambda root: folder(root, labels=LABELS * 0), ["found only bee"]),
    "a class without images": (without_images, ["elk", "no PNG or JPEG"]),
    "too deep": (two_deep, ["more", "nothing else"]),
    "beside train": (beside("dev"), ["dev", "validation (or val)"]),
    "both": (beside("validation"), ["val"]),
    "a class of the test only": (strange_class, ["elk", "no class elk"]),
    "an empty test": (empty_test, ["test", "holds no folder"]),
    "few": (
        lambda root: folder(root, IMAGES[:9], few()),
        ["class cat has 2", "too few", "test and validation"],
    ),
}


@pytest.mark.parametrize(("make", "words"), BAD_FOLDERS.values(), ids=BAD_FOLDERS)
def test_a_folder_that_cannot_be_used_is_refused(tmp_path, make, words):
    make(tmp_path / "x")
    with refused(InputError, str(tmp_path / "x"), *words):
        own(tmp_path / "x")


def test_what_is_not_there_is_refused(tmp_path):
    with refused(InputError, "nowhere", "does not exist", ".npz"):
        own(tmp_path / "nowhere")
