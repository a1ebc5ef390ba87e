import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from builders import refused

from firstspike.data import DATASETS, SPLITS, Dataset, ImageSet, dataset, load
from firstspike.support import InputError

NAMES = [known.name for known in DATASETS]


def toy_images(split, data_dir):
    images = torch.full((6, 2, 3), SPLITS.index(split), dtype=torch.uint8)
    return ImageSet.of(images, torch.arange(6) % 2, name="toy", split=split)


TOY = Dataset("toy", shape=(1, 2, 3), classes=2, load=toy_images)


def test_the_names():
    assert NAMES == [
        "digits",
        "mnist",
        "fashion-mnist",
        "cifar-10",
        "cifar-100",
        "tiny-imagenet",
        "n-mnist",
        "dvs-gesture",
        "yin-yang",
    ]
    assert SPLITS == ("train", "validation", "test")


@pytest.mark.parametrize("known", DATASETS, ids=NAMES)
def test_every_set_is_described(known):
    assert dataset(known.name) is dataset(known) is known
    assert known.summary
    assert "\n" not in known.summary
    assert known.where in ("embedded", "download", "folder")
    # The table in the docstring has the same shape.
    (row,) = [line for line in load.__doc__.splitlines() if line.strip().startswith(f'"{known.name}"')]
    channels, height, width = known.shape
    side = f"{height} x {width}"
    shape = side if channels == 1 else f"{channels} x {side}"
    assert shape.replace(" ", "") in row.replace(" ", "")
    assert ("embedded" in row) == (known.where == "embedded")


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [
        ("digits", (1, 8, 8), 10),
        ("mnist", (1, 28, 28), 10),
        ("cifar-100", (3, 32, 32), 100),
        ("tiny-imagenet", (3, 64, 64), 200),
        ("n-mnist", (2, 34, 34), 10),
        ("dvs-gesture", (2, 128, 128), 11),
        ("yin-yang", (1, 1, 5), 3),
    ],
)
def test_shapes_are_known_before_files_are_opened(name, shape, classes):
    assert (dataset(name).shape, dataset(name).classes) == (shape, classes)


@pytest.mark.parametrize("about", [dataset, lambda name: load(name, "train")])
@pytest.mark.parametrize("name", ["cifar", "MNIST", "", None])
def test_an_unknown_name_lists_the_known_ones(name, about):
    with pytest.raises(InputError, match="unknown data set") as caught:
        about(name)
    assert all(known in str(caught.value) for known in NAMES)
    # In Python, which has no --data.
    assert str(caught.value).endswith("; give a Dataset, or own(...)")


@pytest.mark.parametrize("known", [*DATASETS, TOY], ids=[*NAMES, "toy"])
def test_an_unknown_split_lists_the_known_ones(known):
    with pytest.raises(InputError, match="'val': expected one of train, validation, test"):
        load(known, "val")


@pytest.mark.parametrize("known", [known for known in DATASETS if known.where == "embedded"])
def test_embedded_sets_need_no_folder(tmp_path, known):
    assert len(load(known.name, "test", tmp_path / "nowhere"))


@pytest.mark.parametrize("known", [known for known in DATASETS if known.where != "embedded"])
def test_a_folder_without_the_set_is_refused_by_name(tmp_path, known):
    with pytest.raises(InputError, match=f"^{known.name}: .*--data-dir") as caught:
        load(known.name, "test", data_dir=tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_data_set_of_the_users_own_is_loaded_like_any_other():
    assert dataset(TOY) is TOY
    for number, split in enumerate(SPLITS):
        images = load(TOY, split)
        assert (images.split, images.shape, images.num_classes) == (split, TOY.shape, TOY.classes)
        assert images.images.unique().tolist() == [number]


@pytest.mark.parametrize("changes", [{"shape": (1, 3, 2)}, {"shape": (3, 2, 3)}, {"classes": 3}])
def test_what_a_data_set_says_must_be_what_it_gives(changes):
    with pytest.raises(ValueError, match=r"toy says .* its train images are \(1, 2, 3\) in 2 classes"):
        load(replace(TOY, **changes), "train")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"name": ""}, "name"),
        ({"shape": (2, 3)}, "shape"),
        ({"shape": (0, 2, 3)}, "shape"),
        ({"classes": 1}, "classes"),
        ({"class_names": ("one", "two", "three")}, "class_names must be 2 different texts"),
        ({"class_names": ("one", "one")}, "class_names must be 2 different texts"),
        ({"class_names": ("one", "")}, "class_names must be 2 different texts"),
        ({"class_names": (0, 1)}, "class_names must be 2 different texts"),
        ({"class_names": "ab"}, "class_names must be a name each"),
    ],
)
def test_a_description_that_cannot_be_is_refused(changes, match):
    with pytest.raises(ValueError, match=match):
        replace(TOY, **changes)


def test_names_in_a_list_are_those_of_a_tuple():
    listed, written = (replace(TOY, class_names=names) for names in (["one", "two"], ("one", "two")))
    assert listed == written
    assert hash(listed) == hash(written)


# As the publishers' pages list them.
FASHION = "T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, Ankle boot"
CIFAR = "airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck"


@pytest.mark.parametrize(("name", "classes"), [("fashion-mnist", FASHION), ("cifar-10", CIFAR)])
def test_classes_go_by_the_publishers_names(name, classes):
    known = dataset(name)
    assert [known.class_number(text, "label") for text in classes.split(", ")] == list(range(10))
    assert [known.class_number(str(number), "label") for number in range(10)] == list(range(10))


def test_the_case_of_a_name_counts_where_two_differ_by_it():
    two = replace(TOY, class_names=("cat", "Cat"))
    assert [two.class_number(name, "label") for name in ("cat", "Cat")] == [0, 1]
    with refused(InputError, "label: expected an integer, 0 ... 1, or one of cat, Cat, found 'CAT'"):
        two.class_number("CAT", "label")


def test_a_long_list_of_names_is_cut_and_a_close_one_is_named():
    many = replace(TOY, classes=21, class_names=[f"kind {number}" for number in range(21)])
    with refused(InputError, "kind 19, ..., found 'kint 20'; did you mean kind 20"):
        many.class_number("kint 20", "label")


def test_importing_it_imports_no_slow_library():
    code = (
        "import sys, firstspike.data, firstspike.support; "
        "print({'sklearn', 'pooch', 'requests', 'filelock'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
